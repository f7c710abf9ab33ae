"""Cost in windows: rows accrued, clicks' own costs that no report replaces, and how far media cost is known.

**Cost through.** For each (channel, network, campaign) with a media row in the last 35 days: sorted by start, its accrued
intervals are followed from the earliest one while the next begins at or before the end so far. A gap is bridged when other
media rows of the same network cover it: networks leave out what spent nothing. For the same reason a campaign is over,
and no cost of it is awaited, when its network's contiguous cost goes on for more than a day after it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable
from itertools import accumulate
from operator import itemgetter
from typing import NamedTuple

from attribution.claims import Reports
from attribution.credit import share
from attribution.intervals import Intervals
from attribution.nodes.cost import accrual_end, accrued_within
from attribution.nodes.state import CostRow
from attribution.rules import Dims
from attribution.spread import UNPLACED, Spread, Weights
from models.settings import DAY, HOUR
from models.wire import COUNTERS

RECENT = 35 * DAY
MEDIA = "media"
Own = dict[str, dict[Dims, dict[int, int]]]
"""Clicks' own costs in micros by granularity (`m`, `c`), dims and start of the bucket."""


class Spent(NamedTuple):
    """Micros; None where no cost is known, which is not the same as a cost of 0."""

    media: int | None
    total: int | None


UNKNOWN = Spent(None, None)
_until = itemgetter(1)


class Through(NamedTuple):
    """End of a campaign's contiguous known media cost; `over`: it has ended, and nothing more is awaited."""

    t: int
    over: bool


class Ledger:
    """The costs that windows may ask about. Rows that had all accrued before `since` are left out.

    With `spread`, other costs than media that name no channel, network or campaign are shared out; without, they stay `(unallocated)`.
    """

    def __init__(
        self, rows: Iterable[CostRow], own: Own, end: int, since: int | None = None, spread: Spread | None = None
    ) -> None:
        rows = list(rows)
        self._spread = spread
        self.reports = Reports(row for row in rows if since is None or accrual_end(row) > since)
        self._loose: list[CostRow] = []
        self._weights: dict[int, Weights] = {}
        self._rows: dict[Dims, list[tuple[int, int, CostRow]]] = {}
        media: dict[tuple[str, str], list[tuple[int, int]]] = {}
        for row in rows:
            until = accrual_end(row)
            if row.kind == COUNTERS:
                continue
            if since is not None and until <= since:
                continue
            if spread is not None and row.dims == UNPLACED and row.kind != MEDIA:
                self._loose.append(row)
                continue
            self._rows.setdefault(row.dims, []).append((row.start, until, row))
            if row.kind == MEDIA:
                media.setdefault(_advertiser(row.dims), []).append((row.start, until))
        # By end, so that what had accrued before a window is passed over at once, beside the least start from each on, so that
        # what begins after it is too.
        self._least: dict[Dims, list[int]] = {}
        for dims, found in self._rows.items():
            found.sort(key=_until)
            self._least[dims] = list(accumulate((begin for begin, _, _ in reversed(found)), min))[::-1]
        self._media = {advertiser: Intervals(pairs) for advertiser, pairs in media.items()}
        self._own = own
        self._effective: dict[tuple[str, Dims], tuple[list[int], list[int]]] = {}
        self.through = self._through(end)

    def forget(self, changed: Iterable[tuple[str, Dims]]) -> None:
        """Own costs of these (granularity, dims) have changed."""
        for key in changed:
            self._effective.pop(key, None)
            self._weights.clear()

    def spent(
        self, granularity: str, start: int, until: Callable[[Dims], int], last: int | None = None
    ) -> dict[Dims, Spent]:
        """Cost per dims in [start, until(dims)); own costs are those of buckets that start there, `last` included.

        `granularity` is that of the own costs: `m`, or `c`.
        """
        found = self._placed(granularity, start, until, last)
        if self._loose:
            self._share_out(start, until, found)
        return found

    def _placed(
        self, granularity: str, start: int, until: Callable[[Dims], int], last: int | None
    ) -> dict[Dims, Spent]:
        found: dict[Dims, Spent] = {}
        for dims, rows in self._rows.items():
            end = until(dims)
            media = total = 0
            some_media = some = False
            least = self._least[dims]
            for i in range(bisect_right(rows, start, key=_until), len(rows)):
                if least[i] >= end:
                    break
                begin, accrues, row = rows[i]
                if begin < end:
                    amount = row.amount if start <= begin and accrues <= end else accrued_within(row, start, end)
                    some = True
                    total += amount
                    if row.kind == MEDIA:
                        some_media = True
                        media += amount
            if some:
                found[dims] = Spent(media if some_media else None, total)
        for dims, amounts in self._own[granularity].items():
            if amounts:
                self._add_own(granularity, dims, start, until(dims) if last is None else last + 1, found)
        return found

    def _share_out(self, start: int, until: Callable[[Dims], int], found: dict[Dims, Spent]) -> None:
        """Add what has no place, day by day: each day's part of the window by largest remainder, so that nothing is lost."""
        assert self._spread is not None
        calendar, end = self._spread.calendar, until(UNPLACED)
        day = calendar.day(max(start, min(row.start for row in self._loose)))
        end = min(end, max(row.end for row in self._loose))
        while day < end:
            following = calendar.shift(day, 1)
            low, high = max(start, day), min(following, end)
            amount = self._accrued(low, high)
            if amount:
                self._share_day(day, following, low, high, until, found)
            day = following

    def _share_day(
        self, day: int, following: int, low: int, high: int, until: Callable[[Dims], int], found: dict[Dims, Spent]
    ) -> None:
        weights = self._weights_of(day, following)
        parts: dict[int, list[int]] = {}
        for i, (dims, _) in enumerate(weights or ((UNPLACED, 1),)):
            cut = min(high, until(dims))
            if cut <= low:
                continue
            if cut not in parts:
                parts[cut] = share(self._accrued(low, cut), [weight for _, weight in weights] or [1])
            if parts[cut][i]:
                before = found.get(dims, UNKNOWN)
                found[dims] = Spent(before.media, (before.total or 0) + parts[cut][i])

    def _weights_of(self, day: int, following: int) -> Weights:
        assert self._spread is not None
        found = self._weights.get(day)
        if found is None:
            media = {
                dims: cost.media or 0 for dims, cost in self._placed("c", day, lambda dims: following, None).items()
            }
            found = self._spread.weights(day, media)
            if self._spread.settled:
                self._weights[day] = found
        return found

    def _accrued(self, start: int, end: int) -> int:
        """What the rows without a place accrue in [start, end)."""
        return sum(accrued_within(row, start, end) for row in self._loose if row.start < end and row.end > start)

    def _add_own(self, granularity: str, dims: Dims, start: int, end: int, found: dict[Dims, Spent]) -> None:
        starts, sums = self._prefix(granularity, dims)
        low, high = bisect_left(starts, start), bisect_left(starts, end)
        if low < high:
            amount = sums[high] - sums[low]
            before = found.get(dims, UNKNOWN)
            found[dims] = Spent((before.media or 0) + amount, (before.total or 0) + amount)

    def _prefix(self, granularity: str, dims: Dims) -> tuple[list[int], list[int]]:
        """Buckets of own cost in order, and the sums of what counts before each and after all."""
        cached = self._effective.get((granularity, dims))
        if cached is None:
            amounts = self._own[granularity][dims]
            starts = sorted(amounts)
            reported = self._media.get(_advertiser(dims))
            # A report replaces own costs hour by hour, so a minute goes by the start of its hour.
            counted = [
                0 if reported is not None and reported.holds(start - start % HOUR) else amounts[start]
                for start in starts
            ]
            cached = self._effective[granularity, dims] = (starts, [0, *accumulate(counted)])
        return cached

    def _through(self, end: int) -> dict[Dims, Through]:
        recent: dict[Dims, list[tuple[int, int]]] = {}
        networks: dict[str, list[tuple[int, int]]] = {}
        for dims, rows in self._rows.items():
            for begin, accrues, row in rows:
                if row.kind == MEDIA and begin <= end and accrues > end - RECENT:
                    recent.setdefault(dims, []).append((begin, accrues))
                    networks.setdefault(dims[1].casefold(), []).append((begin, accrues))
        covered = {network: Intervals(pairs) for network, pairs in networks.items()}
        return {dims: _follow(sorted(pairs), covered[dims[1].casefold()]) for dims, pairs in recent.items()}


def _follow(pairs: list[tuple[int, int]], network: Intervals) -> Through:
    at = pairs[0][1]
    for begin, accrues in pairs:
        if begin > network.reach(at):
            return Through(at, False)
        at = max(at, accrues)
    return Through(at, network.reach(at) > at + DAY)


def _advertiser(dims: Dims) -> tuple[str, str]:
    """Costs join touches by network and campaign, whatever their case."""
    return dims[1].casefold(), dims[2].casefold()
