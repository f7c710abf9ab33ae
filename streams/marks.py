"""Marks: once a second each worker tells every partition of the log how far its sources, and its partitions, have come."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from time import monotonic

from faust.types import TP

from models.wire import Mark
from streams.ingest import SourcePartition
from streams.outbox import Outbox
from streams.positions import Claims

log = logging.getLogger(__name__)


class Marks:
    """Sends what changed. A mark is read off a partition after its commit, so all it covers has been acknowledged."""

    def __init__(
        self, claims: Claims, outbox: Outbox, at_end: Callable[[TP], bool], *, interval: float, idle_after: float
    ) -> None:
        self._claims = claims
        self._outbox = outbox
        self._at_end = at_end
        self._interval = interval
        self._idle_after = idle_after
        self._sent: dict[TP, tuple[object, Mark]] = {}
        self._still: dict[TP, tuple[int, float]] = {}

    async def run(self) -> None:
        """Until cancelled; a failure to send is tried again with the next round."""
        while True:
            await asyncio.sleep(self._interval)
            try:
                await self.send()
            except Exception as error:
                log.warning("marks not sent: %r", error)

    async def send(self) -> None:
        """One round."""
        fresh: dict[TP, tuple[object, Mark]] = {}
        for tp, part in list(self._claims.parts.items()):
            mark = part.mark(self._idle(tp, part)) if isinstance(part, SourcePartition) else part.announcement()
            before = self._sent.get(tp)
            if before is None or before[0] is not part or _news(before[1], mark):
                fresh[tp] = (part, mark)
        if fresh:
            await self._outbox.marks([mark for _, mark in fresh.values()])
            self._sent.update(fresh)

    def _idle(self, tp: TP, part: SourcePartition) -> bool:
        """Whether this source has been at the end of its log for long enough. A verdict of ingest; it travels in the log."""
        position, since = self._still.get(tp, (-1, 0.0))
        if position != part.position.offset or not self._at_end(tp):
            self._still[tp] = (part.position.offset, monotonic())
            return False
        return monotonic() - since >= self._idle_after


def _news(before: Mark, now: Mark) -> bool:
    """Whether a mark says something new. A partition's own announcement does only when its watermarks have moved."""
    if now.source.startswith("journey-events/"):
        return (before.max_time, before.heard) != (now.max_time, now.heard)
    return before != now
