"""What networks say of themselves: the counters on their cost rows, and how they stand in the place of what was counted here.

A counter accrues over its row's interval as an amount does, so parts sum exactly. Followers are no sum: the latest report counts. Reach is none
either: the largest report inside the span. What a report replaces, `attribution.replaced` says.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate
from operator import itemgetter
from typing import NamedTuple

from attribution.facts import CLICKS, IMPRESSIONS, Measure, engagement
from attribution.nodes.cost import accrual_end, accrued
from attribution.nodes.state import CostRow
from attribution.replaced import AMOUNT, KINDS, VIEWS, Covered
from attribution.rollups import Cell, add
from attribution.rules import Dims
from attribution.running import Span
from attribution.spread import UNPLACED
from attribution.windows import CAMPAIGN_TO_DATE, Sums
from models.wire import COUNTERS

CONVERSIONS, VALUE, VIDEO_VIEWS = "platform_conversions", "platform_value", "video_views"
FOLLOWERS, REACH = "followers", "reach"
_KEPT = 500
_until = itemgetter(1)
_NONE: Cell = {}


class Latest(NamedTuple):
    """A report of followers, the later the greater."""

    until: int
    reported_at: int
    followers: int


class Told(NamedTuple):
    """What is reported of a campaign, or of several, in a span.

    `figures`: counts, and `platform_value` in reporting micros, as far as a report gives them: absent is not 0. `followers` and `before` are the latest
    report of each network (case-folded) that ends in the span, and before it. `deltas`: what to add to the counted sums, by view (see `VIEWS`), so that what is
    reported stands in the place of what was counted.
    """

    figures: Mapping[str, int] = {}
    followers: Mapping[str, Latest] = {}
    before: Mapping[str, Latest] = {}
    deltas: Mapping[str, Cell] = {}

    def delta(self, view: str = "") -> Cell:
        """What to add under a view; the plain one where all reports are alike to it."""
        found = self.deltas.get(view)
        return self.deltas.get("", _NONE) if found is None else found

    def read(self, cell: Cell, measure: Measure, view: str) -> int:
        """A measure of `cell`, which holds what is added under the plain view, under another one."""
        return cell.get(measure, 0) - self.delta().get(measure, 0) + self.delta(view).get(measure, 0)


NOTHING = Told()


def merged(parts: Iterable[Told]) -> Told:
    """Of all together: counts are summed; of reach the largest stays, of a network's followers the latest."""
    parts = list(parts)
    if len(parts) < 2:
        return parts[0] if parts else NOTHING
    figures: dict[str, int] = {}
    followers: dict[str, Latest] = {}
    before: dict[str, Latest] = {}
    deltas: dict[str, Cell] = {}
    for part in parts:
        for name, n in part.figures.items():
            figures[name] = max(n, figures.get(name, 0)) if name == REACH else figures.get(name, 0) + n
        for known, more in ((followers, part.followers), (before, part.before)):
            for network, latest in more.items():
                known[network] = max(latest, known.get(network, latest))
        for view, cell in part.deltas.items():
            add(deltas.setdefault(view, {}), cell)
    return Told(figures, followers, before, deltas)


class _Group:
    """Rows of one (channel, network, campaign) that give the same kinds of counters, as running sums by time."""

    def __init__(self, gives: int, rows: list[tuple[int, int, CostRow]]) -> None:
        rows.sort(key=_until)
        self.gives = gives
        self.names = sorted({name for _, _, row in rows for name, _ in row.reported} - {FOLLOWERS, REACH})
        self._measures: list[Measure | None] = [_measure(name) for name in self.names]
        places = {name: i for i, name in enumerate(self.names)}
        self._rows = [
            [(places[name], row._replace(amount=n)) for name, n in row.reported if name in places] for _, _, row in rows
        ]
        # By name, when the rows that report it start and end, each in order.
        self._spans: list[tuple[list[int], list[int]]] = [([], []) for _ in self.names]
        for (start, until, _), parts in zip(rows, self._rows, strict=True):
            for place, _ in parts:
                self._spans[place][0].append(start)
                self._spans[place][1].append(until)
        for starts, _ in self._spans:
            starts.sort()
        self._starts = [start for start, _, _ in rows]
        self._ends = [until for _, until, _ in rows]
        # The least start from each on: what begins after a time is passed over at once.
        self._least = list(accumulate(reversed(self._starts), min))[::-1]
        self._done = [[0] * len(self.names)]
        for parts in self._rows:
            sums = list(self._done[-1])
            for place, row in parts:
                sums[place] += row.amount
            self._done.append(sums)

    def between(self, start: int, end: int) -> dict[str, int]:
        """What accrues in [start, end) of each name that a row there reports."""
        first = bisect_right(self._ends, start)
        if first >= len(self._ends) or self._least[first] >= end:
            return {}
        low, high = self._upto(start), self._upto(end)
        return {
            name: high[i] - low[i]
            for i, (name, (starts, ends)) in enumerate(zip(self.names, self._spans, strict=True))
            if bisect_left(starts, end) > bisect_right(ends, start)
        }

    def _upto(self, t: int) -> list[int]:
        first = bisect_right(self._ends, t)
        sums = list(self._done[first])
        for i in range(first, len(self._rows)):
            if self._least[i] >= t:
                break
            if self._starts[i] < t:
                for place, row in self._rows[i]:
                    sums[place] += accrued(row, t)
        return sums

    def cell(self, figures: Mapping[str, int], kinds: int) -> Cell:
        """The counts of these kinds as measures."""
        found: Cell = {}
        for name, measure in zip(self.names, self._measures, strict=True):
            if name in figures and measure is not None and KINDS[measure[0]] & kinds:
                found[measure] = found.get(measure, 0) + figures[name]
        return found


def _measure(name: str) -> Measure | None:
    """The measure that a reported counter is of; None when nothing like it is counted."""
    head, _, kind = name.partition("/")
    if head == "engagements":
        return engagement(kind.casefold())
    return {"clicks": CLICKS, "impressions": IMPRESSIONS}.get(name)


def _measures(row: CostRow) -> set[Measure]:
    """What a row reports of that is counted here as well."""
    return {measure for name, _ in row.reported if (measure := _measure(name)) is not None}


def _gives(row: CostRow) -> int:
    """Which kinds of counters a row gives."""
    found = 0 if row.kind == COUNTERS else AMOUNT
    for measure in _measures(row):
        found |= KINDS[measure[0]]
    return found


class Reports:
    """The reported figures of cost rows. What has been worked out of spans that lie in the past is kept until something of it changes."""

    def __init__(self, rows: Iterable[CostRow]) -> None:
        groups: dict[tuple[Dims, int], list[tuple[int, int, CostRow]]] = {}
        self._followers: dict[Dims, list[Latest]] = {}
        self._reach: dict[Dims, list[tuple[int, int, int]]] = {}
        for row in rows:
            if not row.reported or row.dims == UNPLACED:
                continue
            until = accrual_end(row)
            groups.setdefault((row.dims, _gives(row)), []).append((row.start, until, row))
            for name, n in row.reported:
                if name == FOLLOWERS:
                    self._followers.setdefault(row.dims, []).append(Latest(until, row.reported_at, n))
                elif name == REACH:
                    self._reach.setdefault(row.dims, []).append((until, row.start, n))
        for known in (*self._followers.values(), *self._reach.values()):
            known.sort()  # type: ignore[attr-defined]
        self._groups = [(dims, _Group(gives, found)) for (dims, gives), found in groups.items()]
        self.dims = {dims for dims, _ in groups}
        self._covered = Covered(
            (dims, gives, start, until, _measures(row))
            for (dims, gives), found in groups.items()
            for start, until, row in found
        )
        self._views = {view: needs for view, needs in VIEWS.items() if not view or self._covered.differs(view)}
        self._known: dict[tuple[str, int, int, int], dict[Dims, Told]] = {}

    def forget(self, changed: Iterable[tuple[str, int, Dims]]) -> None:
        """What was counted in these (granularity, start of the bucket, names) has changed."""
        if self._covered.forget(changed):
            self._known.clear()

    def figures(self, low: int, stop: int) -> Iterator[tuple[tuple[str, str], Told]]:
        """The sums that are reported of [low, stop) with their channel and network; one for each campaign, or more."""
        for dims, group in self._groups:
            yield dims[:2], Told(group.between(low, stop))

    def told(self, span: Span, sums: Sums, cuts: Callable[[Dims], int] | None = None) -> dict[Dims, Told]:
        """What is reported of the span by (channel, network, campaign), as rows and as touches name it, or of it up to a cut each."""
        if not self.dims:
            return {}
        at = (span.granularity, span.low, span.high, span.stop)
        if cuts is None and not span.current and at in self._known:
            return self._known[at]
        if cuts is None:
            # A span that ends now holds its last bucket whole.
            found = self._told(span, sums, lambda dims: span.stop, lambda dims: span.high + 1)
        else:
            found = self._told(span, sums, cuts, cuts)
        if cuts is None and not span.current:
            if len(self._known) >= _KEPT:
                self._known.clear()
            self._known[at] = found
        return found

    def _told(
        self, span: Span, sums: Sums, stop: Callable[[Dims], int], bound: Callable[[Dims], int]
    ) -> dict[Dims, Told]:
        parts: dict[Dims, tuple[dict[str, int], dict[str, Cell]]] = {}
        for dims, group in self._groups:
            figures = group.between(span.low, stop(dims))
            if figures:
                known, deltas = parts.setdefault(dims, ({}, {}))
                for name, n in figures.items():
                    known[name] = known.get(name, 0) + n
                for view, (needs, replaces) in self._views.items():
                    cell = deltas.setdefault(view, {})
                    if group.gives & needs == needs:
                        add(cell, group.cell(figures, replaces))
        for key in sums.campaigns.sums.get(span.name, sums.campaigns.sums[CAMPAIGN_TO_DATE]):
            names: Dims = (key[0], key[1], key[2])
            if not self._covered.covers(names):
                continue
            taken = self._covered.replaced(names, self._views, span.granularity, span.low, bound(names), sums)
            if taken:
                deltas = parts.setdefault(names, ({}, {}))[1]
                for view, cell in taken.items():
                    add(deltas.setdefault(view, {}), cell)
        found = {dims: Told(figures, deltas=deltas) for dims, (figures, deltas) in parts.items()}
        # Up to a cut only ratios are asked for.
        if span.whole and stop is not bound:
            for dims, told in self._standing(span, stop):
                found[dims] = merged((found[dims], told)) if dims in found else told
        return found

    def _standing(self, span: Span, stop: Callable[[Dims], int]) -> Iterable[tuple[Dims, Told]]:
        """What is no sum: followers, and reach."""
        for dims, known in self._followers.items():
            network = dims[1].casefold()
            i = bisect_right(known, (stop(dims) + 1,)) - 1
            before = bisect_right(known, (span.low + 1,)) - 1
            followers = {network: known[i]} if i >= 0 and known[i].until > span.low else {}
            yield dims, Told(followers=followers, before={network: known[before]} if before >= 0 else {})
        for dims, found in self._reach.items():
            inside = [
                n
                for until, start, n in found[bisect_right(found, (span.low + 1,)) :]
                if start >= span.low and until <= stop(dims)
            ]
            if inside:
                yield dims, Told({REACH: max(inside)})
