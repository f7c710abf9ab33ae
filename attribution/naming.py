"""Campaigns under one name: what cost rows say of one id (`utm_id`, `campaign_id`), and touches that know a campaign only by that id or by a name that it had,
are read under the name that it was given last, so that cost and credit meet in one row (meaning §9).

Names are looked up when sums are read, and never filed: they are a function of the cost rows as last reported, whatever came when, and a name that is learnt or
changed later leaves nothing behind under the id.
"""

from __future__ import annotations

from collections.abc import Iterable

from attribution.nodes.state import CostRow
from attribution.rollups import Calendar, Rollups, add
from attribution.rules import Dims
from models.results import NONE

_Key = tuple[str, str]


class Campaigns:
    """Names by network and id, and by network and former name, whatever their case. Of several rows of one id the one reported last names it.

    A name that several campaigns have had, and that are not all called the same now, stays what it is: whose it was is not known.
    """

    __slots__ = ("names",)

    def __init__(self, rows: Iterable[CostRow] = ()) -> None:
        latest: dict[_Key, tuple[int, int, str]] = {}
        called: dict[_Key, set[_Key]] = {}
        for row in rows:
            if not row.campaign_id:
                continue
            key, name = _id(row), row.dims[2]
            called.setdefault(key, set()).add(key)
            if name != NONE and name.casefold() != key[1]:
                called.setdefault((key[0], name.casefold()), set()).add(key)
                latest[key] = max(latest.get(key, (-1, -1, "")), (row.reported_at, row.start, name))
        given = {key: name for key, (_, _, name) in latest.items()}
        names = {key: _end(key, given) for key in given}
        self.names: dict[_Key, str] = dict(names)
        for said, ids in called.items():
            now = {names.get(key) for key in ids}
            last = now.pop()
            if said not in names and not now and last is not None:
                self.names[said] = last

    def of(self, dims: Dims) -> Dims:
        """The same, with the name in the place of an id that has one, or of a former name."""
        if not self.names:
            return dims
        name = self.names.get((dims[1].casefold(), dims[2].casefold()))
        return dims if name is None else (dims[0], dims[1], name)

    def row(self, row: CostRow) -> CostRow:
        """A cost row under the name of its campaign: its id says which that is, whatever it was called."""
        name = self.names.get(_id(row)) if row.campaign_id else None
        dims = self.of(row.dims) if name is None else (row.dims[0], row.dims[1], name)
        return row if dims == row.dims else row._replace(dims=dims)

    def rollups(self, rollups: Rollups, calendar: Calendar) -> Rollups:
        """All sums under names."""
        if not self.names:
            return rollups
        found = Rollups(calendar)
        for bucket, cells in rollups.buckets.items():
            named = found.buckets[bucket] = {}
            for dims, cell in cells.items():
                add(named.setdefault(self.of(dims), {}), cell)
        return found


def _id(row: CostRow) -> _Key:
    return row.dims[1].casefold(), row.campaign_id.casefold()


def _end(key: _Key, given: dict[_Key, str]) -> str:
    """The name at the end, where a name is another campaign's id; of names that lead round in a circle, the least."""
    seen: list[_Key] = []
    while key in given and key not in seen:
        seen.append(key)
        key = key[0], given[key].casefold()
    if key in seen:
        return min(given[other] for other in seen[seen.index(key) :])
    return given[seen[-1]]
