"""What reports of networks replace: the events counted of their network and campaign, hour by hour (meaning §2).

Clicks, impressions and engagements of a kind are replaced where a report gives that counter: those of hours that start inside the interval accrued, as the own costs of
clicks are. A report without a campaign replaces those of its channel alone. Hours are kept for two weeks: of an older day that reports cover in part, the rest
counts by its share of the time.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping
from itertools import accumulate

from attribution.facts import CLICKS, ENGAGED, IMPRESSIONS, Measure, engagements
from attribution.intervals import Intervals
from attribution.rollups import Cell
from attribution.rules import Dims
from attribution.windows import Sums
from models.results import NONE
from models.settings import DAY, HOUR

AMOUNT, _CLICKS, _IMPRESSIONS, _ENGAGEMENTS = 1, 2, 4, 8
KINDS = {CLICKS[0]: _CLICKS, IMPRESSIONS[0]: _IMPRESSIONS, ENGAGED: _ENGAGEMENTS}
"""The kinds of counters by the name of their measures."""
RATE = "engagement_rate"
VIEWS = {
    "": (0, _CLICKS | _IMPRESSIONS | _ENGAGEMENTS),
    "ctr": (_CLICKS | _IMPRESSIONS, _CLICKS | _IMPRESSIONS),
    RATE: (_IMPRESSIONS | _ENGAGEMENTS, _IMPRESSIONS | _ENGAGEMENTS),
    "cpc": (AMOUNT | _CLICKS, _CLICKS),
    "cpm": (AMOUNT | _IMPRESSIONS, _IMPRESSIONS),
}
"""Views by name: which kinds a report must give to count, and which it replaces then. A ratio takes both sides from one source: in its view a report that
gives one side alone replaces nothing."""

_Advertiser = tuple[str, str, str]
_Line = tuple[Measure, Intervals]


class Covered:
    """Where reports cover what, by view and measure; and the sums of what was counted there, kept by names and granularity."""

    def __init__(self, rows: Iterable[tuple[Dims, int, int, int, Iterable[Measure]]]) -> None:
        """`rows`: names, the kinds of counters given, the accrued interval, and the measures reported."""
        pairs: dict[_Advertiser, dict[tuple[str, Measure], list[tuple[int, int]]]] = {}
        for dims, gives, start, until, measures in rows:
            by = pairs.setdefault(_advertiser(dims), {})
            for view, (needs, replaces) in VIEWS.items():
                if gives & needs == needs:
                    for measure in measures:
                        if KINDS[measure[0]] & replaces:
                            by.setdefault((view, measure), []).append((start, until))
        shared: dict[tuple[tuple[int, int], ...], Intervals] = {}
        self._lines: dict[_Advertiser, dict[str, list[_Line]]] = {}
        for advertiser, by in pairs.items():
            for (view, measure), found in by.items():
                key = tuple(sorted(found))
                covers = shared.setdefault(key, Intervals(key))
                self._lines.setdefault(advertiser, {}).setdefault(view, []).append((measure, covers))
        self._known: dict[Dims, dict[str, list[_Line]]] = {}
        self._prefix: dict[tuple[str, Dims], dict[tuple[Measure, int], tuple[list[int], list[int]]]] = {}
        self._hours_from = 0

    def differs(self, view: str) -> bool:
        """Whether something counts in the view that would not in another of the same counters: else all reports are alike to it."""
        replaces = VIEWS[view][1]
        for views in self._lines.values():
            plain = {line for line in views.get("", []) if KINDS[line[0][0]] & replaces}
            if plain != set(views.get(view, [])):
                return True
        return False

    def forget(self, changed: Iterable[tuple[str, int, Dims]]) -> bool:
        """Drop what was known of these buckets; True when something covered was among them."""
        some = False
        if self._lines:
            for granularity, start, dims in changed:
                lines = self._of(dims).get("", ())
                # A business day is shorter than two; what is covered of it counts, whatever else has changed.
                if any(
                    covers.within(start, start + 2 * DAY) if granularity == "d" else covers.holds(start - start % HOUR)
                    for _, covers in lines
                ):
                    some = True
                    self._prefix.pop((granularity, dims), None)
                    self._prefix.pop(("d", dims), None)
        return some

    def covers(self, dims: Dims) -> bool:
        """Whether reports replace anything that is counted under these names."""
        return bool(self._of(dims))

    def replaced(
        self, dims: Dims, views: Collection[str], granularity: str, low: int, bound: int, sums: Sums
    ) -> dict[str, Cell]:
        """By view, what takes back the counted events of buckets that start in [low, bound) where reports cover them."""
        lines = self._of(dims)
        found: dict[str, Cell] = {}
        for view in views:
            for measure, covers in lines.get(view, ()):
                starts, prefix = self._sums(granularity, dims, measure, covers, sums)
                n = prefix[bisect_left(starts, bound)] - prefix[bisect_left(starts, low)] if bound > low else 0
                if n:
                    found.setdefault(view, {})[measure] = -n
        return {view: found.get(view, {}) for view in views} if found else found

    def _of(self, dims: Dims) -> Mapping[str, list[_Line]]:
        lines = self._known.get(dims)
        if lines is None:
            if len(self._known) > 100_000:
                self._known.clear()
            lines = self._known[dims] = self._lines.get(_advertiser(dims), {})
        return lines

    def _sums(
        self, granularity: str, dims: Dims, measure: Measure, covers: Intervals, sums: Sums
    ) -> tuple[list[int], list[int]]:
        """Buckets in order, and the sums of what is covered of each before it."""
        if granularity == "d" and sums.hours_from != self._hours_from:
            # A day has just lost its hours.
            self._hours_from = sums.hours_from
            self._prefix = {key: known for key, known in self._prefix.items() if key[0] != "d"}
        known = self._prefix.setdefault((granularity, dims), {})
        made = known.get((measure, id(covers)))
        if made is None:
            cells = sums.campaigns.cells[granularity]
            amounts: dict[int, int] = {}
            for start, by_name in cells.items():
                n = _amount(by_name.get(dims), measure)
                if n and granularity == "d":
                    n = self._of_day(start, n, dims, measure, covers, sums)
                elif n and not covers.holds(start - start % HOUR):
                    n = 0
                if n:
                    amounts[start] = n
            starts = sorted(amounts)
            made = known[measure, id(covers)] = (starts, [0, *accumulate(amounts[start] for start in starts)])
        return made

    def _of_day(self, day: int, n: int, dims: Dims, measure: Measure, covers: Intervals, sums: Sums) -> int:
        """How many of the `n` of a business day are covered."""
        following = sums.calendar.shift(day, 1)
        inside = covers.within(day, following)
        if not inside or inside == following - day:
            return n if inside else 0
        if day < sums.hours_from:
            return n * inside // (following - day)
        hours = sums.campaigns.cells["h"]
        # Where days begin within an hour, that hour holds some of another day as well.
        return sum(
            _amount(hours.get(start, {}).get(dims), measure)
            for start in range(day + -day % HOUR, following - HOUR + 1, HOUR)
            if covers.holds(start)
        )


def _amount(cell: Cell | None, measure: Measure) -> int:
    if not cell:
        return 0
    if measure[0] != ENGAGED:
        return cell.get(measure, 0)
    return sum(n for kind, _, n in engagements(cell) if kind.casefold() == measure[2])


def _advertiser(dims: Dims) -> _Advertiser:
    """Reports join what is counted by network and campaign, whatever their case."""
    channel, network, campaign = dims
    return network.casefold(), campaign.casefold(), channel.casefold() if campaign == NONE else ""
