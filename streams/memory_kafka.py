"""Kafka in memory: logs, a consumer group with generations, and stand-ins for aiokafka's consumer and producer.

Only the network is replaced. A worker on this cluster runs Faust, the batch transport with its fetch thread (in the main
thread here) and the outbox as they are; `streams.testing.worker` gives its app the stand-ins. What may go wrong on the way is
asked of `Cluster.faults`.

Like Kafka: fetches are not fenced, commits are; offsets may have holes; a produce that failed may have been appended;
the high watermark is known from fetch responses only; a position outside the log is an error at the fetch.
"""

from __future__ import annotations

import asyncio
import contextvars
import hashlib
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from random import Random
from types import SimpleNamespace
from typing import Any, Literal
from zlib import crc32

from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import (
    CommitFailedError,
    IllegalStateError,
    KafkaError,
    OffsetOutOfRangeError,
    RequestTimedOutError,
)
from aiokafka.structs import RecordMetadata
from faust.types import TP
from mode.utils.futures import maybe_async

Fate = Literal["appended", "lost", "unacknowledged", "doubled"]
"""Of one produce request: as wished; not appended, error; appended, error; appended twice by a retry, acknowledged."""


@dataclass(slots=True)
class Log:
    """One partition. `end` is the next offset; it is beyond the last record where markers follow."""

    records: list[ConsumerRecord] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    start: int = 0
    end: int = 0


class Faults:
    """What the network does; here nothing unusual but some latency. Times in seconds."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng

    def latency(self) -> float:
        """One way, worker to broker."""
        return self.rng.uniform(0.0002, 0.003)

    def produced(self, client: str, topic: str) -> Fate:
        """What becomes of this request."""
        return "appended"

    def fetched(self, client: str) -> bool:
        """Whether this fetch succeeds."""
        return True

    def gap(self, topic: str) -> int:
        """How many offsets are skipped before the next record, as compaction or markers do."""
        return 0


class Cluster:
    """Topics, their logs, and one consumer group whose members are consumers that subscribed."""

    def __init__(self, rng: Random, topics: Mapping[str, int], *, epoch_ms: int = 0) -> None:
        """`epoch_ms`: the time of the loop's second 0, for timestamps of records that don't bring one."""
        self.rng = rng
        self.topics = dict(topics)
        self.logs = {TP(topic, p): Log() for topic, count in topics.items() for p in range(count)}
        self.faults = Faults(rng)
        self.members: dict[str, MemoryConsumer] = {}
        self.frozen: dict[str, asyncio.Event] = {}
        self.generation = 0
        self.committed: dict[TP, int] = {}
        self._epoch_ms = epoch_ms
        self._appended = asyncio.Event()
        self._wanted = asyncio.Event()
        self._group: asyncio.Task[None] | None = None

    # -- logs

    def add(self, topic: str, partitions: int) -> None:
        """A topic more."""
        self.topics[topic] = partitions
        self.logs |= {TP(topic, p): Log() for p in range(partitions)}

    def append(
        self, topic: str, partition: int, value: bytes | None, *, key: bytes | None = None,
        headers: Sequence[tuple[str, bytes]] = (), timestamp_ms: int | None = None,
    ) -> int:  # fmt: skip
        """Append a record; its offset."""
        tp = TP(topic, partition)
        log = self.logs[tp]
        offset = log.end + self.faults.gap(topic)
        if timestamp_ms is None:
            timestamp_ms = self._epoch_ms + int(asyncio.get_running_loop().time() * 1000)
        log.records.append(
            ConsumerRecord(topic, partition, offset, timestamp_ms, 0, key, value, None, -1, -1, tuple(headers))
        )
        log.offsets.append(offset)
        log.end = offset + 1
        self.wake()
        return offset

    def marker(self, tp: TP) -> None:
        """Take an offset for something that is no record, as the end of a transaction."""
        self.logs[tp].end += 1
        self.wake()

    def recreate(self, tp: TP) -> None:
        """Delete a partition with all its records and make it anew."""
        self.logs[tp] = Log()
        self.wake()

    def wake(self) -> None:
        """Let waiting fetches look again."""
        self._appended.set()
        self._appended = asyncio.Event()

    def read(self, topic: str) -> list[ConsumerRecord]:
        """All records of a topic, partition by partition."""
        return [record for p in range(self.topics[topic]) for record in self.logs[TP(topic, p)].records]

    def digest(self) -> str:
        """Of all that was ever appended."""
        sha = hashlib.sha1(usedforsecurity=False)
        for tp, log in self.logs.items():
            for record in log.records:
                sha.update(repr((tp, record.offset, record.timestamp, record.key, record.value)).encode())
        return sha.hexdigest()[:12]

    async def running(self, client: str) -> None:
        """Returns at once, or when a stopped process runs again: nothing of it reaches the network before."""
        while (frozen := self.frozen.get(client)) is not None:
            await frozen.wait()

    # -- the group

    def start(self) -> None:
        """Begin to coordinate the group."""
        self._group = asyncio.create_task(self._coordinate(), name="group coordinator")

    def check(self) -> None:
        """Raises what has ended the coordinator: an error of the simulation, not of a worker."""
        if self._group is not None and self._group.done() and not self._group.cancelled():
            self._group.result()

    def join(self, member: MemoryConsumer) -> None:
        self.members[member.client] = member
        self.rebalance()

    def leave(self, client: str) -> None:
        """Of its own will, or because its session timed out; then its consumer still believes in its assignment."""
        if self.members.pop(client, None) is not None:
            self.rebalance()

    def rebalance(self) -> None:
        """Assign all partitions anew, soon."""
        self._wanted.set()

    async def _coordinate(self) -> None:
        while True:
            await self._wanted.wait()
            await asyncio.sleep(0.05)  # members that join together are assigned together
            self._wanted.clear()
            await asyncio.gather(*(member.revoke() for member in list(self.members.values())))
            if self._wanted.is_set():
                continue
            self.generation += 1
            members = sorted(self.members)
            self.rng.shuffle(members)
            topics = {topic for member in self.members.values() for topic in member.topics}
            tps = sorted(tp for tp in self.logs if tp.topic in topics)
            shares = {
                client: {tp for i, tp in enumerate(tps) if i % len(members) == n} for n, client in enumerate(members)
            }
            await asyncio.gather(
                *(self.members[client].assign(share, self.generation) for client, share in shares.items())
            )


class PartitionState:
    """The part of aiokafka's state of an assigned partition that the fetch thread reads."""

    def __init__(self) -> None:
        self.position = -1
        self.highwater: int | None = None
        self.paused = False

    @property
    def has_valid_position(self) -> bool:
        return self.position >= 0


class MemoryConsumer:
    """What `FetchThread` uses of AIOKafkaConsumer."""

    def __init__(self, cluster: Cluster, client: str, max_poll_records: int) -> None:
        self.client = client
        self.topics: set[str] = set()
        self.context: contextvars.Context | None = None  # of the worker; rebalances call into it
        self._cluster = cluster
        self._listener: Any = None
        self._states: dict[TP, PartitionState] = {}
        self._max_poll_records = max_poll_records
        self._closed = False
        self._sought = asyncio.Event()
        # The names that Faust and FetchThread look behind.
        assignment = SimpleNamespace(state_value=self._states.get)
        self._subscription = SimpleNamespace(
            subscription=SimpleNamespace(assignment=assignment), fetch_context=nullcontext
        )
        self._fetcher = SimpleNamespace(
            _closed=False, _subscriptions=self._subscription, fetched_records=self._fetched_records
        )
        self._coordinator = SimpleNamespace(generation=-1, _metadata_snapshot=cluster.topics)

    async def start(self) -> None: ...

    async def stop(self) -> None:
        self._closed = self._fetcher._closed = True
        if self._cluster.members.get(self.client) is self:
            self._cluster.leave(self.client)

    def subscribe(self, topics: Iterable[str], listener: Any = None) -> None:
        self.topics, self._listener = set(topics), listener
        self._cluster.join(self)

    async def revoke(self) -> None:
        """The first half of a rebalance, in the member's own context; returns when the member is through, or gone."""
        await self._while_member(self._listener.on_partitions_revoked, self.assignment())

    async def assign(self, assigned: set[TP], generation: int) -> None:
        """The second half."""
        self._states.clear()
        self._states.update((TopicPartition(*tp), PartitionState()) for tp in sorted(assigned))
        self._coordinator.generation = generation
        await self._while_member(self._listener.on_partitions_assigned, self.assignment())

    async def _while_member(self, listen: Any, tps: set[TopicPartition]) -> None:
        async def told() -> None:
            await self._cluster.running(self.client)
            await maybe_async(listen(tps))

        task = asyncio.create_task(told(), context=self.context) if self.context else asyncio.create_task(told())
        while not task.done() and self._cluster.members.get(self.client) is self:
            await asyncio.wait({task}, timeout=0.1)

    def assignment(self) -> set[TopicPartition]:
        return set(self._states)

    def seek(self, tp: TopicPartition, offset: int) -> None:
        self._state(tp).position = offset
        self._sought.set()

    def pause(self, *tps: TopicPartition) -> None:
        for tp in tps:
            self._state(tp).paused = True

    def resume(self, *tps: TopicPartition) -> None:
        for tp in tps:
            self._state(tp).paused = False

    def highwater(self, tp: TopicPartition) -> int | None:
        return self._state(tp).highwater

    def _state(self, tp: TopicPartition) -> PartitionState:
        state = self._states.get(tp)
        if state is None:
            raise IllegalStateError(f"{tp} is not assigned")
        return state

    async def beginning_offsets(self, tps: Iterable[TP]) -> dict[TP, int]:
        await self._way()
        return {tp: self._cluster.logs[TP(*tp)].start for tp in tps}

    async def commit(self, offsets: Mapping[TP, Any]) -> None:
        await self._way()
        cluster = self._cluster
        if cluster.members.get(self.client) is not self or self._coordinator.generation != cluster.generation:
            raise CommitFailedError("the group has already rebalanced")
        cluster.committed.update((TP(*tp), offset.offset) for tp, offset in offsets.items())

    async def _way(self) -> None:
        await asyncio.sleep(self._cluster.faults.latency())
        await self._cluster.running(self.client)

    async def _fetched_records(
        self,
        partitions: Iterable[TP],
        timeout: float = 0.0,  # noqa: ASYNC109 (aiokafka's signature)
        max_records: int | None = None,
    ) -> dict[TP, list[ConsumerRecord]]:
        wanted = sorted(TopicPartition(*tp) for tp in partitions)
        deadline = asyncio.get_running_loop().time() + timeout
        while True:
            await self._way()
            if not self._cluster.faults.fetched(self.client):
                raise KafkaError("the broker's answer was damaged")
            appended, self._sought = self._cluster._appended, asyncio.Event()
            found = self._take(wanted, max_records or self._max_poll_records)
            left = deadline - asyncio.get_running_loop().time()
            if found or left <= 0:
                return found
            waits = [asyncio.create_task(event.wait()) for event in (appended, self._sought)]
            try:
                await asyncio.wait(waits, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()

    def _take(self, wanted: list[TopicPartition], most: int) -> dict[TP, list[ConsumerRecord]]:
        found: dict[TP, list[ConsumerRecord]] = {}
        self._cluster.rng.shuffle(wanted)
        for tp in wanted:
            state, log = self._states.get(tp), self._cluster.logs[TP(*tp)]
            if state is None or state.paused or not state.has_valid_position:
                continue
            if not log.start <= state.position <= log.end:
                raise OffsetOutOfRangeError({tp: state.position})
            state.highwater = log.end
            first = bisect_left(log.offsets, state.position)
            records = log.records[first : first + most]
            if records:
                found[tp] = records
                most -= len(records)
            state.position = records[-1].offset + 1 if first + len(records) < len(log.records) else log.end
            if most <= 0:
                break
        return found


class MemoryProducer:
    """What `Outbox` and the runtime use of AIOKafkaProducer: one request of a partition at a time, in order."""

    def __init__(self, cluster: Cluster, client: str) -> None:
        self._cluster = cluster
        self._client = client
        self._last: dict[TP, asyncio.Future[None]] = {}
        self._dead = False
        self.client = SimpleNamespace(fetch_all_metadata=self._metadata)

    async def _metadata(self) -> Any:
        return SimpleNamespace(topics=lambda: set(self._cluster.topics))

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def sever(self) -> None:
        """The process is dead: what is on its way may still arrive, or not."""
        self._dead = True

    async def partitions_for(self, topic: str) -> set[int]:
        return set(range(self._cluster.topics[topic]))

    async def send_and_wait(self, topic: str, value: bytes | None = None, **kwargs: Any) -> RecordMetadata:
        return await (await self.send(topic, value, **kwargs))

    async def send(
        self, topic: str, value: bytes | None = None, key: bytes | None = None, partition: int | None = None,
        timestamp_ms: int | None = None, headers: Sequence[tuple[str, bytes]] | None = None,
    ) -> asyncio.Future[RecordMetadata]:  # fmt: skip
        """A future of the acknowledgement. Cancelling whoever waits for it does not take the request back."""
        if partition is None:
            partition = crc32(key or b"") % self._cluster.topics[topic]
        tp, loop = TP(topic, partition), asyncio.get_running_loop()
        acknowledged: asyncio.Future[RecordMetadata] = loop.create_future()
        before, done = self._last.get(tp), loop.create_future()
        self._last[tp] = done

        async def deliver() -> None:
            if before is not None:
                await before
            try:
                await self._deliver(tp, value, key, timestamp_ms, headers or (), acknowledged)
            finally:
                done.set_result(None)

        # Of the network, not of the worker: it is not cancelled with it.
        self._cluster_task(deliver())
        return acknowledged

    def _cluster_task(self, coro: Any) -> None:
        task = asyncio.create_task(coro, name=f"produce {self._client}", context=contextvars.Context())
        _IN_FLIGHT.add(task)
        task.add_done_callback(_IN_FLIGHT.discard)

    async def _deliver(
        self, tp: TP, value: bytes | None, key: bytes | None, timestamp_ms: int | None,
        headers: Sequence[tuple[str, bytes]], acknowledged: asyncio.Future[RecordMetadata],
    ) -> None:  # fmt: skip
        faults = self._cluster.faults
        await self._cluster.running(self._client)
        await asyncio.sleep(faults.latency())
        if self._dead and faults.rng.random() < 0.5:
            return
        fate = faults.produced(self._client, tp.topic)
        offset = -1
        for _ in range({"lost": 0, "doubled": 2}.get(fate, 1)):
            offset = self._cluster.append(
                tp.topic, tp.partition, value, key=key, headers=headers, timestamp_ms=timestamp_ms
            )
        await asyncio.sleep(faults.latency())
        await self._cluster.running(self._client)
        if self._dead or acknowledged.done():
            return
        if fate in ("lost", "unacknowledged"):
            acknowledged.set_exception(RequestTimedOutError(f"{tp}: no acknowledgement"))
            acknowledged.exception()  # whoever sent it may be gone: not an error nobody looked at
        else:
            acknowledged.set_result(RecordMetadata(tp.topic, tp.partition, tp, offset, timestamp_ms, 0, 0))


_IN_FLIGHT: set[asyncio.Task[None]] = set()
