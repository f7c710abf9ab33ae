"""Cost by business day: what periods, baselines, days and the longest windows ask of the ledger again and again."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from attribution.costs import Ledger, Spent
from attribution.formulas import plus
from attribution.rollups import Calendar
from attribution.rules import Dims
from attribution.running import Span

Table = dict[Dims, Spent]


class Spending:
    """Costs per dims in any span, from one ledger; past days and their sums are kept until something of them changes."""

    def __init__(self, ledger: Ledger, calendar: Calendar, end: int) -> None:
        self.ledger = ledger
        self.end = end
        self._calendar = calendar
        self._days: dict[int, Table] = {}
        self._sums: dict[tuple[int, int], Table] = {}
        self._today: Table | None = None

    def move(self, end: int, changed: Iterable[int]) -> None:
        """Windows now end here; clicks' own costs of these days (their starts) have changed."""
        for day in changed:
            if self._days.pop(day, None) is not None:
                self._sums.clear()
        if end != self.end:
            if self._calendar.day(end) != self._calendar.day(self.end):
                # The day that was running was asked for up to then only.
                self._sums.clear()
            self.end = end
        self._today = None

    def spent(self, span: Span, cuts: Callable[[Dims], int] | None = None) -> Table:
        """Cost in the span, or of it up to a cut per dims: the start of one of its granules, or its end.

        Own costs of clicks are those of the buckets that start there; a span that ends now holds its last bucket whole.
        """
        if span.granularity == "d":
            if cuts is None:
                return self._by_day(span.low, span.stop)
            tables: dict[int, Table] = {}
            found: Table = {}
            for dims in self._by_day(span.low, span.stop):
                cut = cuts(dims)
                if cut not in tables:
                    tables[cut] = self._by_day(span.low, cut)
                if dims in tables[cut]:
                    found[dims] = tables[cut][dims]
            return found
        own = "m" if span.granularity == "m" else "c"
        if cuts is None:
            return self.ledger.spent(own, span.low, lambda dims: span.stop, self.end if span.current else None)
        return self.ledger.spent(own, span.low, cuts, None)

    def between(self, start: int, stop: int) -> Table:
        """Cost of a day, or of a part of one that reaches to its end or to now."""
        if start == self._calendar.day(start):
            return self._by_day(start, stop)
        return self.ledger.spent("c", start, lambda dims: stop, self.end if stop == self.end else None)

    def _by_day(self, low: int, stop: int) -> Table:
        today = self._calendar.day(self.end)
        past = self._past(low, min(stop, today))
        if stop <= today:
            return past
        if self._today is None:
            self._today = self.ledger.spent("c", today, lambda dims: self.end, self.end)
        if low >= today:
            return self._today
        found = dict(past)
        for dims, cost in self._today.items():
            found[dims] = plus(found[dims], cost) if dims in found else cost
        return found

    def _past(self, low: int, stop: int) -> Table:
        """Whole days from `low` to `stop`."""
        found = self._sums.get((low, stop))
        if found is None:
            found = {}
            day = low
            while day < stop:
                for dims, cost in self._day(day).items():
                    found[dims] = plus(found[dims], cost) if dims in found else cost
                day = self._calendar.shift(day, 1)
            self._sums[low, stop] = found
        return found

    def _day(self, day: int) -> Table:
        found = self._days.get(day)
        if found is None:
            stop = self._calendar.shift(day, 1)
            found = self._days[day] = self.ledger.spent("c", day, lambda dims: stop, None)
        return found
