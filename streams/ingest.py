"""Ingest: from a fetch of a source partition to blocks in the log, then the position, then (later) marks.

A pure function from a record to entries, but for its position, the highest event time seen and the incarnation, stored
together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import msgspec

from attribution.intake import Intake
from models.errors import Rejected
from models.wire import AnyEntry, Mark, source_id
from streams.metrics import Metrics
from streams.outbox import Headers, Outbox, letter_headers
from streams.tables import Claimed, Outcome, Position, Tables, Writes
from streams.transport import Batch


class IngestState(NamedTuple):
    """What is stored beside a source's position: the highest event time (microseconds), and how often it was reset."""

    max_time: int | None = None
    incarnation: int = 0

    def pack(self) -> bytes:
        """As stored: a msgpack list."""
        return msgspec.msgpack.encode(list(self))

    @classmethod
    def unpack(cls, state: bytes | None) -> IngestState:
        """What `pack` made, or its first form without an incarnation; None gives a new source's."""
        return cls(*msgspec.msgpack.decode(state)) if state else cls()


class SourcePartition:
    """One claimed partition of a source topic."""

    def __init__(
        self, topic: str, partition: int, tables: Tables, claimed: Claimed, intake: Intake, outbox: Outbox, metrics: Metrics,
        config: int, align: Callable[[int], Awaitable[None]] | None = None,
    ) -> None:  # fmt: skip
        """`align(event_time)` is awaited before a fetch that goes up to that time (µs) is sent on."""
        self.topic = topic
        self.partition = partition
        self.position = claimed.position
        self.max_time, self.incarnation = IngestState.unpack(claimed.state)
        self.source = source_id(topic, partition, self.incarnation)
        self._tables = tables
        self._token = claimed.token
        self._seq = claimed.seq
        self._config = config
        self._intake = intake
        self._outbox = outbox
        self._metrics = metrics
        self._align = align

    def mark(self, idle: bool) -> Mark:
        """How far this source has come: all up to the position is acknowledged."""
        return Mark(self.source, self.position.offset, self.max_time, idle)

    async def stands(self) -> bool:
        """Whether Redis still has this claim and position; asked while nothing is under way."""
        return await self._tables.stands(self._token, self.position)

    async def work(self, batch: Batch) -> Outcome:
        """Send a fetch on and store the position. Anything that fails raises: the fetch is then redone."""
        entries: list[AnyEntry] = []
        letters: list[tuple[str, bytes | None, bytes | None, Headers]] = []
        senders: Counter[str] = Counter()
        refused: Counter[str] = Counter()
        filtered: Counter[str] = Counter()
        max_time = self.max_time
        published = 0
        take, topic = self._intake.take, self.topic
        for record in batch.records:
            try:
                taken = take(topic, record.value, record.timestamp * 1000, record.offset)
            except Rejected as reason:
                refused[reason.code] += 1
                letters.append((topic, record.key, record.value, self._headers(record, reason)))
                continue
            senders[taken.source] += 1
            if taken.filtered:
                filtered.update(taken.filtered)
            entries += taken.entries
            if max_time is None or taken.t > max_time:
                max_time = taken.t
        if batch.records:
            published = batch.records[0].timestamp
        if self._align is not None and max_time is not None:
            await self._align(max_time)
        await self._outbox.entries(self.source, entries, published)
        if letters:
            await self._outbox.dead_letters(letters)
        after = Position(batch.end)
        state = IngestState(max_time, self.incarnation).pack()
        committed = await self._tables.commit(
            self._token, self.position, after, state, self._seq + 1, self._config, Writes()
        )
        if committed.outcome is Outcome.APPLIED:
            self.position, self.max_time = after, max_time
            self._seq += 1
            self._metrics.accepted(topic, senders)
            for code, n in refused.items():
                self._metrics.rejected(topic, code, n)
            for name, n in filtered.items():
                self._metrics.filtered(name, n)
            if max_time is not None:
                self._metrics.event_time(topic, max_time)
        return committed.outcome

    def _headers(self, record: Any, reason: Rejected) -> Headers:
        return letter_headers(
            reason, self.topic, self.partition, record.offset, record.headers, incarnation=self.incarnation
        )
