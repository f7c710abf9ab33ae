"""Alignment: while a backlog is worked off, orders wait for the touches of before them.

Topics are read at their own pace, and a topic of few orders is soon months ahead. Nothing is wrong then, but each touch that comes
after its order restates it. So a fetch of orders waits, for a bounded time, until the touches' sources that this worker
reads have come near its event time. It only says when: what is sent, and so the result, is the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from faust.types import TP

from models.settings import HOUR
from streams.ingest import SourcePartition

TOUCHES = ("clicks", "touchpoints")
SLACK = HOUR
PAUSE_SECONDS = 0.05
LONGEST_SECONDS = 5.0


class Alignment:
    """`parts` are the partitions this worker holds; `at_end` whether one has been read to the end of its log."""

    def __init__(self, parts: Mapping[TP, object], at_end: Callable[[TP], bool]) -> None:
        self._parts = parts
        self._at_end = at_end

    async def wait(self, until: int) -> None:
        """Return when no source of touches is far behind event time `until` (µs), or after LONGEST_SECONDS."""
        for _ in range(round(LONGEST_SECONDS / PAUSE_SECONDS)):
            if not self._behind(until):
                return
            await asyncio.sleep(PAUSE_SECONDS)

    def _behind(self, until: int) -> bool:
        return any(
            isinstance(part, SourcePartition)
            and part.topic in TOUCHES
            and (part.max_time is None or part.max_time < until - SLACK)
            and not self._at_end(tp)
            for tp, part in self._parts.items()
        )
