"""Whole fetches: what one Faust event carries, and the thread that reads it from Kafka.

A stock Faust agent pays about 100 µs for each record. Here one event carries all records that one fetch of one
partition returned (a `Batch`). Where to read from is said by a `Placement`: it lives in the consumer's thread, beside
aiokafka's own position, so that a seek and the stamping of a fetch can't interleave.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import faust
from aiokafka import AIOKafkaConsumer, ConsumerRecord
from aiokafka.errors import IllegalStateError, KafkaError
from aiokafka.structs import OffsetAndMetadata
from faust.transport.consumer import ensure_TP
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

# Faust fixes 1.5 s. aiokafka has one fetch request per broker on its way: a partition that is not in it (its last fetch
# was still being worked, or it was just rewound) waits until the request comes back.
FETCH_WAIT_MS = 100
COMMIT_SECONDS = 5.0
POLL_BYTES = 4 << 20  # of values in one poll, as far as the records before it foretell
USUAL_SIZE = 1000.0  # bytes of a value; at this size and below, only the configured number of records limits a poll


@dataclass(slots=True, eq=False)
class Batch:
    """One fetch of one partition.

    `records` is never empty. `start` is the position the fetch was made from: the `end` of the batch before, or what
    was sought. It is not `records[0].offset`: compaction and transaction markers leave holes. `highwater` is the offset
    the next produced record will have, as the last fetch response said; None before the first. `session` counts claims
    and rewinds. `size` is that of all values in bytes.
    """

    tp: TP
    records: list[ConsumerRecord]
    start: int
    session: int
    generation: int
    highwater: int | None
    applied: bool = field(default=False, repr=False)
    size: int = 0

    @property
    def end(self) -> int:
        """The position after this batch."""
        return int(self.records[-1].offset) + 1

    def __len__(self) -> int:
        return len(self.records)


class Positions(Protocol):
    """Where each partition stands: the application's store, to which Kafka's own committed offset is only a gauge."""

    async def claim(self, tp: TP, generation: int, force: bool = False) -> int | None:
        """Take the partition for this worker; the next offset to read, or None when a newer generation holds it."""
        ...

    def released(self, tp: TP) -> None:
        """The partition was revoked: whatever is cached for it is stale."""
        ...

    def gap(self, tp: TP, wanted: int, earliest: int | None) -> None:
        """The log doesn't hold offset `wanted`; the partition stands still until it is claimed again."""
        ...


class RawSchema(faust.Schema):
    """Passes a message's value (a `Batch`) through untouched."""

    def loads_key(self, app: Any, message: Any, **kwargs: Any) -> Any:
        return None

    def loads_value(self, app: Any, message: Any, **kwargs: Any) -> Any:
        return message.value


@dataclass(slots=True)
class Placement:
    """Where a claimed partition is read from. Written in the consumer's thread only.

    `mark` is (batches stamped so far, offset read up to): one assignment, so another thread never sees half of it.
    """

    position: int
    session: int
    generation: int
    mark: tuple[int, int]


class FetchThread(driver.AIOKafkaConsumerThread):
    """Faust's consumer thread, returning `{TP: Batch}` for placed partitions."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.placements: dict[TP, Placement] = {}
        self._record_size = USUAL_SIZE

    def _create_worker_consumer(self, transport: Any) -> AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS
        # A tracker may write in transactions: what it aborted did not happen. Faust asks for this only when it writes
        # in transactions itself.
        consumer._isolation_level = "read_committed"
        return consumer

    async def place(self, tp: TP, offset: int, session: int, generation: int) -> bool:
        """Seek and start reading; False when the partition is no longer ours or a later session was placed."""
        return bool(await self.call_thread(self._place, tp, offset, session, generation))

    async def _place(self, tp: TP, offset: int, session: int, generation: int) -> bool:
        held = self.placements.get(tp)
        if generation != self.app.consumer_generation_id or (held is not None and held.session > session):
            return False
        consumer, partition = self._ensure_consumer(), driver.ensure_aiokafka_TP(tp)
        try:
            consumer.seek(partition, offset)
            consumer.resume(partition)
        except IllegalStateError:
            return False
        self.placements[tp] = Placement(offset, session, generation, (0, offset))
        return True

    async def park(self, tp: TP) -> None:
        """Read no further: no fetch is sent for this partition until it is placed again."""
        await self.call_thread(self._park, tp)

    async def _park(self, tp: TP) -> None:
        self.placements.pop(tp, None)
        with contextlib.suppress(IllegalStateError):  # revoked meanwhile: nothing to pause
            self._ensure_consumer().pause(driver.ensure_aiokafka_TP(tp))

    def partition_state(self, tp: TP) -> Any:
        """aiokafka's own state of an assigned partition (position, highwater), or None."""
        subscription = self._ensure_consumer()._subscription.subscription
        assignment = subscription.assignment if subscription is not None else None
        return None if assignment is None else assignment.state_value(driver.ensure_aiokafka_TP(tp))

    async def _fetch_records(
        self,
        consumer: AIOKafkaConsumer,
        active_partitions: Iterable[TP],
        timeout: float | None = None,  # noqa: ASYNC109 (Faust's signature)
        max_records: int | None = None,
    ) -> Mapping[TP, Any]:
        if not active_partitions:
            # aiokafka takes an empty selection for "all partitions". Nothing is wanted: only tell the group that the
            # worker is alive, so that waiting for Redis doesn't run into the poll interval.
            with consumer._subscription.fetch_context():
                return {}
        # Kafka's limits count compressed bytes, a poll's limit counts records: neither bounds what a poll takes in memory.
        most = max(1, int(POLL_BYTES / self._record_size))
        max_records = most if max_records is None else min(max_records, most)
        found = await super()._fetch_records(consumer, active_partitions, timeout=timeout, max_records=max_records)
        sizes = {tp: sum(record.serialized_value_size for record in records) for tp, records in found.items()}
        if count := sum(map(len, found.values())):
            self._record_size = max(sum(sizes.values()) / count, USUAL_SIZE, self._record_size * 0.9)
        batches: dict[TP, Batch] = {}
        # No await from here on: a seek runs in this thread too and can't come between the fetch and its stamp.
        for partition, records in found.items():
            tp = ensure_TP(partition)
            placement = self.placements.get(tp)
            if placement is None:
                continue
            highwater = getattr(self.partition_state(tp), "highwater", None)
            batch = Batch(
                tp,
                records,
                placement.position,
                placement.session,
                placement.generation,
                highwater,
                size=sizes[partition],
            )
            placement.position = batch.end
            placement.mark = (placement.mark[0] + 1, batch.end)
            batches[tp] = batch
        for tp, placement in list(self.placements.items()):
            state = self.partition_state(tp)
            if state is not None and state.has_valid_position:
                # Ahead of `position` where the log ends in markers that are no records.
                placement.mark = (placement.mark[0], state.position)
        return batches

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        """Tell Kafka how far we are. Faust crashes the worker when this fails; here it is a gauge, so it may."""
        assigned = self.assignment()
        wanted = {
            driver.ensure_aiokafka_TP(tp): OffsetAndMetadata(offset, "")
            for tp, offset in offsets.items()
            if tp in assigned
        }
        try:
            await asyncio.wait_for(self._ensure_consumer().commit(wanted), COMMIT_SECONDS)
        except (KafkaError, TimeoutError) as error:
            self.log.info("Offsets not committed to Kafka (%r); the next commit will carry them", error)
            return False
        return True
