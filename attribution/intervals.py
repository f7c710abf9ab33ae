"""Unions of intervals of time."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable


class Intervals:
    """A union of intervals [start, end), touching ones joined."""

    def __init__(self, pairs: Iterable[tuple[int, int]]) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        for start, end in sorted(pairs):
            if self._ends and start <= self._ends[-1]:
                self._ends[-1] = max(self._ends[-1], end)
            else:
                self._starts.append(start)
                self._ends.append(end)

    def holds(self, t: int) -> bool:
        """Whether start <= t < end for one of them."""
        i = bisect_right(self._starts, t) - 1
        return i >= 0 and t < self._ends[i]

    def reach(self, t: int) -> int:
        """How far they go on from `t` without a gap; `t` itself when they don't."""
        i = bisect_right(self._starts, t) - 1
        return max(t, self._ends[i]) if i >= 0 else t

    def within(self, start: int, end: int) -> int:
        """How much of [start, end) they hold."""
        found = 0
        for i in range(bisect_right(self._ends, start), len(self._starts)):
            if self._starts[i] >= end:
                break
            found += min(end, self._ends[i]) - max(start, self._starts[i])
        return found
