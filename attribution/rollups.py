"""Rollups: sums of facts per time bucket, from which windows are read.

Granularities: `m` minutes, `h` hours, `d` business days of the configured time zone, `c`, hours again but kept as long as days and only
for clicks' own cost, which a platform's report replaces hour by hour; `w` and `v`, hours and days of
what is told of persons, kept no longer than windows read them; and `o`, business months in which customers were acquired. A bucket is named by its start in microseconds. It exists only while it is younger than its
retention before the highest event time seen; older increments are skipped, never re-created.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from datetime import date as Date
from zoneinfo import ZoneInfo

from attribution.cohorts import CUSTOMER_KEPT
from attribution.facts import CLICK_COST, CREDIT_AGE, TOUCH, Fact, Measure
from attribution.routes import ROUTES
from attribution.rules import VISITORS_KEPT, Dims
from models.settings import DAY, HOUR, MINUTE

Cell = dict[Measure, int]
Bucket = tuple[str, int]

RETENTION = {"m": 3 * HOUR, "h": 15 * DAY, "d": 400 * DAY, "c": 400 * DAY}
RETENTION |= {"w": 8 * DAY, "v": VISITORS_KEPT, "o": CUSTOMER_KEPT}
OF_PERSONS = "wvo"
"""The granularities that `attribution.people` reads."""
QUARTER = 15 * MINUTE
"""What every bucket but a minute's is made of: hours and, under any offset of a time zone, days."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CACHE_LIMIT = 100_000


def add(cell: Cell, more: Cell) -> None:
    """Add what one cell holds to another."""
    for measure, amount in more.items():
        cell[measure] = cell.get(measure, 0) + amount


def summed(cells: Iterable[Cell]) -> Cell:
    """All of them together, as a cell of its own."""
    found: Cell = {}
    for cell in cells:
        add(found, cell)
    return found


class Calendar:
    """Business days: starts of local days in microseconds. Cached by the day in UTC, in which few of them start."""

    def __init__(self, time_zone: str) -> None:
        self.zone = ZoneInfo(time_zone)
        self._days: dict[int, list[int]] = {}

    def day(self, t: int) -> int:
        """Start of the local day that holds `t`."""
        starts = self._days.get(t // DAY)
        if starts is None:
            if len(self._days) >= _CACHE_LIMIT:
                self._days.clear()
            starts = self._days[t // DAY] = self._within(t - t % DAY)
        found = starts[0]
        for start in starts[1:]:
            if start <= t:
                found = start
        return found

    def _within(self, day: int) -> list[int]:
        """Starts of the local days of which a part lies in this day of UTC."""
        local = (_EPOCH + timedelta(microseconds=day)).astimezone(self.zone).date()
        starts = [self._start(local.year, local.month, local.day)]
        while starts[-1] < day + DAY:
            local += timedelta(days=1)
            starts.append(self._start(local.year, local.month, local.day))
        return starts[:-1]

    def start(self, granularity: str, t: int) -> int:
        """Start of the bucket that holds `t`."""
        if granularity == "m":
            return t - t % MINUTE
        if granularity in "dv":
            return self.day(t)
        if granularity == "o":
            return self.month(t)
        return t - t % HOUR

    def month(self, t: int) -> int:
        """Start of the local month that holds `t`."""
        local = (_EPOCH + timedelta(microseconds=t)).astimezone(self.zone)
        return self._start(local.year, local.month, 1)

    def date(self, t: int) -> str:
        """The local ISO date of `t`, by which exchange rates are looked up."""
        return (_EPOCH + timedelta(microseconds=t)).astimezone(self.zone).date().isoformat()

    def shift(self, day: int, days: int) -> int:
        """The local day that lies `days` calendar days from the one starting at `day`."""
        local = (_EPOCH + timedelta(microseconds=day)).astimezone(self.zone).date() + timedelta(days=days)
        return self._start(local.year, local.month, local.day)

    def begin(self, local: Date) -> int:
        """Start of a local day."""
        return self._start(local.year, local.month, local.day)

    def _start(self, year: int, month: int, day: int) -> int:
        return (datetime(year, month, day, tzinfo=self.zone) - _EPOCH) // timedelta(microseconds=1)


def granularities(measure: Measure) -> str:
    """The granularities under which a measure is filed, a letter each."""
    routed = ROUTES.get(measure[0])
    if routed is not None:
        return routed
    if measure[3] == TOUCH:
        return "d" if measure[0].startswith(CREDIT_AGE) else "hd"
    return "mc" if measure == CLICK_COST else "mhd"


class Rollups:
    """Cells by bucket and dims. Used for a batch's deltas, for a replay's whole, and by whoever reads windows."""

    def __init__(self, calendar: Calendar) -> None:
        self.calendar = calendar
        self.buckets: dict[Bucket, dict[Dims, Cell]] = {}

    def add(self, facts: Iterable[Fact], highest: int) -> None:
        """Add facts; `highest` is the highest event time seen, which bounds what is kept."""
        for t, dims, measure, amount in facts:
            for granularity in granularities(measure):
                start = self.calendar.start(granularity, t)
                if start > highest - RETENTION[granularity]:
                    cell = self.buckets.setdefault((granularity, start), {}).setdefault(dims, {})
                    cell[measure] = cell.get(measure, 0) + amount

    def expired(self, highest: int) -> list[Bucket]:
        """Buckets that no longer exist at this highest event time."""
        return [bucket for bucket in self.buckets if bucket[1] <= highest - RETENTION[bucket[0]]]

    def prune(self, highest: int) -> None:
        """Drop expired buckets, zero measures, and what is empty then."""
        for bucket in self.expired(highest):
            del self.buckets[bucket]
        for bucket, cells in list(self.buckets.items()):
            for dims, cell in list(cells.items()):
                for measure in [measure for measure, amount in cell.items() if not amount]:
                    del cell[measure]
                if not cell:
                    del cells[dims]
            if not cells:
                del self.buckets[bucket]

    def within(self, granularity: str, start: int, end: int) -> Iterator[tuple[int, dict[Dims, Cell]]]:
        """The buckets of a granularity that start in [start, end), in no order."""
        for (name, at), cells in self.buckets.items():
            if name == granularity and start <= at < end:
                yield at, cells
