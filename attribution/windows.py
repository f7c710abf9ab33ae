"""Rolling windows over rollups, as running sums: a change of a cell, or of the end, costs what it changes.

A window starts at floor(end − length) to its granule (minute for 1h, hour for 24h and 7d, business day beyond) and holds the
buckets of that granule that start in [start, end]: so never less than its length. If the end moved backwards, buckets
already dropped would be missing: build the sums anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from typing import NamedTuple

from attribution.facts import ATTRIBUTED_GROSS, ATTRIBUTED_NET, CLICK_COST, CONVERSION, CONVERSIONS, TOUCH, Measure
from attribution.rollups import Bucket, Calendar, Cell, Rollups
from attribution.rules import Dims
from models.settings import DAY, HOUR, MINUTE, Goal, Marketing, micros

Key = tuple[str, ...]
"""(channel, network) or (channel, network, campaign)."""


class Window(NamedTuple):
    """A rolling window; `bases` are those it is exported for, `campaigns` whether it is by campaign too."""

    name: str
    granularity: str
    length: int
    bases: tuple[str, ...]
    campaigns: bool

    def floor(self, t: int, calendar: Calendar) -> int:
        """Start of the granule that holds `t`."""
        if self.granularity == "d":
            return calendar.day(t)
        return t - t % (MINUTE if self.granularity == "m" else HOUR)

    def start(self, end: int, calendar: Calendar) -> int:
        """Where the window that ends at `end` starts."""
        return self.floor(end - self.length, calendar)


WINDOWS = (
    Window("1h", "m", HOUR, (CONVERSION,), False),
    Window("24h", "h", DAY, (CONVERSION,), True),
    Window("7d", "h", 7 * DAY, (CONVERSION, TOUCH), True),
    Window("30d", "d", 30 * DAY, (CONVERSION, TOUCH), True),
)
NEVER_ASKED = 1 << 62
EXPORTED = frozenset((CONVERSIONS, ATTRIBUTED_GROSS, ATTRIBUTED_NET))


class Running:
    """Cells by bucket and key, and their sums over each window."""

    def __init__(self) -> None:
        self._cells: dict[str, dict[int, dict[Key, Cell]]] = {"m": {}, "h": {}, "d": {}}
        self._ranges: dict[str, tuple[int, int]] = {}
        self.sums: dict[str, dict[Key, Cell]] = {window.name: {} for window in WINDOWS}

    def add(self, granularity: str, start: int, key: Key, delta: Iterable[tuple[Measure, int]]) -> None:
        """Add amounts to one cell, and to the windows that hold it."""
        delta = list(delta)
        if not delta:
            return
        _add(self._cells[granularity].setdefault(start, {}), key, delta, 1)
        for window in WINDOWS:
            if window.granularity == granularity:
                low, high = self._ranges.get(window.name, (0, -1))
                if low <= start <= high:
                    _add(self.sums[window.name], key, delta, 1)

    def move(self, window: Window, low: int, high: int) -> None:
        """The window now holds the buckets that start in [low, high]."""
        before, after = self._ranges.get(window.name, (0, -1)), (low, high)
        self._ranges[window.name] = after
        sums = self.sums[window.name]
        for start, cells in self._cells[window.granularity].items():
            change = (low <= start <= high) - (before[0] <= start <= before[1])
            if change:
                for key, cell in cells.items():
                    _add(sums, key, cell.items(), change)

    def drop(self, granularity: str, before: int) -> None:
        """Forget buckets that start before this time; no window may hold them."""
        cells = self._cells[granularity]
        for start in [start for start in cells if start < before]:
            del cells[start]

    def between(self, granularity: str, low: int, high: int) -> Iterator[dict[Key, Cell]]:
        """The cells of the buckets that start in [low, high), as far as they are kept."""
        for start, cells in self._cells[granularity].items():
            if low <= start < high:
                yield cells

    def tail(self, window: Window, cut: int, keys: Iterable[Key], measures: Iterable[Measure]) -> Cell:
        """Sums over the window's buckets that start at or after `cut`, over these keys, of these measures only."""
        keys, measures = list(keys), list(measures)
        found = dict.fromkeys(measures, 0)
        high = self._ranges[window.name][1]
        for start, cells in self._cells[window.granularity].items():
            if cut <= start <= high:
                for key in keys:
                    cell = cells.get(key)
                    if cell is not None:
                        for measure in measures:
                            amount = cell.get(measure)
                            if amount:
                                found[measure] += amount
        return found


def _add(cells: dict[Key, Cell], key: Key, delta: Iterable[tuple[Measure, int]], sign: int) -> None:
    cell = cells.get(key)
    if cell is None:
        cell = cells[key] = {}
    for measure, amount in delta:
        total = cell.get(measure, 0) + sign * amount
        if total:
            cell[measure] = total
        else:
            cell.pop(measure, None)
    if not cell:
        del cells[key]


def goal_days(goal: Goal, calendar: Calendar) -> tuple[int, int, int]:
    """(start of the first day of its measured baseline, start, end of its deadline's day) of a goal."""
    start = calendar.begin(goal.start)
    return calendar.day(start - micros(goal.window)), start, calendar.begin(goal.deadline + timedelta(1))


class Sums:
    """What all windows hold: by channel and network for all models, by campaign for the headline models.

    `own` are the clicks' own costs by granularity (`m`, `c`), dims and bucket; which of them count, the costs decide.
    """

    def __init__(self, marketing: Marketing, end: int) -> None:
        self.marketing = marketing
        self.calendar = Calendar(marketing.time_zone)
        self.channels = Running()
        self.campaigns = Running()
        self.own: dict[str, dict[Dims, dict[int, int]]] = {"m": {}, "c": {}}
        self.fresh: set[tuple[str, Dims]] = set()
        self.end = end
        self._oldest: dict[str, int] = {}
        self._kept: dict[Measure, tuple[bool, bool]] = {}
        self._headline = frozenset(marketing.headline_models)
        self.asked = min((goal_days(goal, self.calendar)[0] for goal in marketing.goals), default=NEVER_ASKED)
        """Start of the first day that a goal asks for: days from there on are kept beside those of the windows."""
        self.move(end)

    @classmethod
    def of(cls, rollups: Rollups, marketing: Marketing, end: int) -> Sums:
        """The windows of a whole at one end."""
        sums = cls(marketing, end)
        for bucket, cells in rollups.buckets.items():
            for dims, cell in cells.items():
                sums.add(bucket, dims, cell)
        return sums

    def starts(self) -> dict[str, int]:
        """Start of each window."""
        return {window.name: window.start(self.end, self.calendar) for window in WINDOWS}

    def move(self, end: int) -> None:
        """Let the windows end at `end`, which must not be before the last one."""
        self.end = end
        oldest: dict[str, int] = {}
        for window in WINDOWS:
            low = window.start(end, self.calendar)
            oldest[window.granularity] = min(low, oldest.get(window.granularity, low))
            self.channels.move(window, low, end)
            self.campaigns.move(window, low, end)
        oldest["d"] = min(oldest["d"], self.asked)
        oldest["c"] = min(oldest.values())
        if oldest == self._oldest:
            return
        self._oldest = oldest
        for granularity in "mhd":
            self.channels.drop(granularity, oldest[granularity])
            self.campaigns.drop(granularity, oldest[granularity])
        for granularity, owners in self.own.items():
            for dims, amounts in owners.items():
                for start in [start for start in amounts if start < oldest[granularity]]:
                    del amounts[start]
                    self.fresh.add((granularity, dims))

    def wants(self, bucket: Bucket) -> bool:
        """Whether a window holds this bucket now or will."""
        return bucket[1] >= self._oldest[bucket[0]]

    def add(self, bucket: Bucket, dims: Dims, delta: Mapping[Measure, int]) -> None:
        """Add amounts to one cell; what no window can want any more is left out."""
        granularity, start = bucket
        if start < self._oldest[granularity]:
            return
        if granularity in self.own and CLICK_COST in delta:
            amounts = self.own[granularity].setdefault(dims, {})
            amounts[start] = amounts.get(start, 0) + delta[CLICK_COST]
            if not amounts[start]:
                del amounts[start]
            self.fresh.add((granularity, dims))
        if granularity == "c":
            return
        by_channel, by_campaign = [], []
        for item in delta.items():
            kept = self._kept.get(item[0])
            if kept is None:
                kept = self._kept[item[0]] = self._keeps(item[0])
            if kept[0]:
                by_channel.append(item)
            if kept[1]:
                by_campaign.append(item)
        self.channels.add(granularity, start, dims[:2], by_channel)
        self.campaigns.add(granularity, start, dims, by_campaign)

    def _keeps(self, measure: Measure) -> tuple[bool, bool]:
        """Whether a measure is exported by channel, and by campaign."""
        name, model, _, basis = measure
        if not model:
            return measure != CLICK_COST, measure != CLICK_COST
        kept = name in EXPORTED
        return kept, kept and name != ATTRIBUTED_GROSS and basis == CONVERSION and model in self._headline
