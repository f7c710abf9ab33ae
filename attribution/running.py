"""Sums of cells over spans of time that move: a change of a cell, or of a span, costs what it changes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from attribution.facts import Measure
from attribution.rollups import Calendar, Cell

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
        return calendar.start(self.granularity, t)

    def start(self, end: int, calendar: Calendar) -> int:
        """Where the window that ends at `end` starts."""
        return self.floor(end - self.length, calendar)


class Span(NamedTuple):
    """Buckets of one granularity that start in [low, high]; cost accrues in [low, stop).

    `group`: "volumes", "window", "period", "baseline" or "day". All but windows hold the first headline model only, on the conversion
    basis. `current`: it ends now.
    """

    name: str
    group: str
    granularity: str
    low: int
    high: int
    stop: int
    current: bool
    window: Window | None = None

    @property
    def whole(self) -> bool:
        """Whether it holds all models and bases."""
        return self.group == "window"


class Running:
    """Cells by bucket and key, and their sums over each span. `changed` are the (span, key) whose sums are new since it was last emptied."""

    def __init__(self) -> None:
        self.cells: dict[str, dict[int, dict[Key, Cell]]] = {"m": {}, "h": {}, "d": {}}
        self.sums: dict[str, dict[Key, Cell]] = {}
        self.changed: set[tuple[str, Key]] = set()
        self._spans: dict[str, dict[str, Span]] = {"m": {}, "h": {}, "d": {}}
        # By bucket, the spans that hold it, and whether all of it, as long as no span moves.
        self._holding: dict[tuple[str, int], list[tuple[str, bool]]] = {}

    def add(
        self, granularity: str, start: int, key: Key, delta: list[tuple[Measure, int]], thin: list[tuple[Measure, int]]
    ) -> None:
        """Add amounts to one cell, and to the spans that hold it; `thin` is the part for those that don't hold all."""
        if delta:
            _add(self.cells[granularity].setdefault(start, {}), key, delta, 1)
            holding = self._holding.get((granularity, start))
            if holding is None:
                spans = self._spans[granularity].values()
                holding = [(span.name, span.whole) for span in spans if span.low <= start <= span.high]
                self._holding[granularity, start] = holding
            for name, whole in holding:
                part = delta if whole else thin
                if part:
                    _add(self.sums[name], key, part, 1)
                    self.changed.add((name, key))

    def move(self, span: Span, thin: Mapping[Measure, bool]) -> None:
        """The span is now this one."""
        known = self._spans[span.granularity]
        before = known.get(span.name)
        known[span.name] = span
        if before is not None and (before.low, before.high) == (span.low, span.high):
            return
        self._holding.clear()
        low, high = (0, -1) if before is None else (before.low, before.high)
        sums = self.sums.setdefault(span.name, {})
        for start, cells in self.cells[span.granularity].items():
            change = (span.low <= start <= span.high) - (low <= start <= high)
            if change:
                for key, cell in cells.items():
                    part = cell.items() if span.whole else [item for item in cell.items() if thin[item[0]]]
                    _add(sums, key, part, change)
                    self.changed.add((span.name, key))

    def drop(self, granularity: str, before: int) -> None:
        """Forget buckets that start before this time; no span may hold them."""
        cells = self.cells[granularity]
        for start in [start for start in cells if start < before]:
            del cells[start]

    def slim(self, granularity: str, after: int, before: int, thin: Mapping[Measure, bool]) -> None:
        """Keep only the thin part of buckets that start in [after, before)."""
        for start, cells in self.cells[granularity].items():
            if after <= start < before:
                for key, cell in cells.items():
                    cells[key] = {measure: amount for measure, amount in cell.items() if thin[measure]}

    def between(self, granularity: str, low: int, high: int) -> Iterator[dict[Key, Cell]]:
        """The cells of the buckets that start in [low, high), as far as they are kept."""
        for start, cells in self.cells[granularity].items():
            if low <= start < high:
                yield cells

    def tail(self, span: Span, cut: int, keys: Iterable[Key], measures: Iterable[Measure]) -> Cell:
        """Sums over the span's buckets that start at or after `cut`, over these keys, of these measures only."""
        keys, measures = list(keys), list(measures)
        found = dict.fromkeys(measures, 0)
        for start, cells in self.cells[span.granularity].items():
            if cut <= start <= span.high:
                for key in keys:
                    cell = cells.get(key)
                    if cell is not None:
                        for measure in measures:
                            amount = cell.get(measure)
                            if amount:
                                found[measure] += amount
        return found


def _add(cells: dict[Key, Cell], key: Key, delta: Iterable[tuple[Measure, int]], sign: int) -> None:
    """Add amounts of different measures."""
    cell = cells.get(key)
    if cell is None:
        cell = {measure: sign * amount for measure, amount in delta if amount}
        if cell:
            cells[key] = cell
        return
    for measure, amount in delta:
        total = cell.get(measure, 0) + sign * amount
        if total:
            cell[measure] = total
        else:
            cell.pop(measure, None)
    if not cell:
        del cells[key]
