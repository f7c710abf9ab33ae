"""The batch transport and its lanes, in a real Faust app on a real broker; positions in a dict stand in for Redis."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import faust
import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.consumer.fetcher import FetchError
from aiokafka.errors import OffsetOutOfRangeError
from faust.types import TP

from models.settings import Infrastructure
from streams.embedded import Broker
from streams.lanes import Lanes
from streams.transport import Batch, RawSchema, app_settings, register

register()
PARTITIONS = 3
LIMIT = 40.0  # a guard against a hang
names = itertools.count()


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    with Broker() as server:
        yield server


@dataclass
class Store:
    """Positions as Redis would keep them: shared by all workers, claimed by the newest generation."""

    at: dict[TP, int] = field(default_factory=dict)
    refuse: set[TP] = field(default_factory=set)
    forced: set[TP] = field(default_factory=set)
    claims: list[TP] = field(default_factory=list)
    gaps: list[tuple[TP, int, int | None]] = field(default_factory=list)
    released_: set[TP] = field(default_factory=set)
    applied: dict[TP, list[int]] = field(default_factory=lambda: defaultdict(list))

    async def claim(self, tp: TP, generation: int, force: bool = False) -> int | None:
        self.claims.append(tp)
        if tp in self.refuse and not force:
            return None
        if force:
            self.forced.add(tp)
        return self.at.get(tp, 0)

    def released(self, tp: TP) -> None:
        self.released_.add(tp)

    def gap(self, tp: TP, wanted: int, earliest: int | None) -> None:
        self.gaps.append((tp, wanted, earliest))

    def apply(self, batch: Batch) -> bool:
        """Compare-and-set, as the real store does it."""
        if self.at.get(batch.tp, 0) != batch.start:
            return False
        self.applied[batch.tp] += [record.offset for record in batch.records]
        self.at[batch.tp] = batch.end
        return True


class Worker:
    """One Faust app with one agent that applies batches to the store; `before` may interfere."""

    def __init__(self, url: str, topic: str, store: Store, data: Path, **changed: Any) -> None:
        infra = Infrastructure(kafka_url=url, app_id=f"group-{topic}", data_dir=data, session_timeout=6.0)
        settings = app_settings(infra) | {"web_enabled": False, "broker_max_poll_records": 200} | changed
        self.app = app = faust.App(**settings | {"broker_heartbeat_interval": 1.0, "broker_commit_interval": 0.2})
        self.store, self.seen, self.before = store, [], None
        self.reports: list[tuple[str, TP]] = []
        self.errors: list[tuple[TP, BaseException]] = []
        app.positions = store
        app.on_transport = lambda what, tp: self.reports.append((what, tp))
        self.before: Callable[[Batch], Awaitable[Any]] | None
        self.seen: list[Batch]
        self.lanes = Lanes(
            self.work,
            lambda: app.consumer,
            on_error=lambda tp, error: self.errors.append((tp, error)),
            backoff=(0.05, 0.1),
        )

        @app.agent(app.topic(topic, schema=RawSchema()), concurrency=1)
        async def ingest(stream: Any) -> None:
            async for batch in stream:
                await self.lanes.put(batch)

    async def work(self, batch: Batch) -> None:
        self.seen.append(batch)
        if self.before is not None and await self.before(batch) is False:
            return
        if self.store.apply(batch):
            self.app.consumer.done(batch)
        else:
            await self.app.consumer.reclaim(batch.tp)


@asynccontextmanager
async def running(*workers: Worker) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(LIMIT):
            for worker in workers:
                await worker.app.start()
            yield
    finally:
        for worker in workers:
            await worker.lanes.stop()
            await worker.app.stop()


async def until(condition: Callable[[], Any]) -> None:
    """Wait for a state that must come; a test that waits in vain runs into LIMIT."""
    while not condition():  # noqa: ASYNC110 (states of several libraries, not one event)
        await asyncio.sleep(0.02)


async def make_topic(broker: Broker, counts: list[int]) -> str:
    name = f"clicks-{next(names)}"
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.address)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, len(counts), 1)])
    finally:
        await admin.close()
    await produce(broker, name, counts)
    return name


async def produce(broker: Broker, topic: str, counts: list[int]) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=broker.address)
    await producer.start()
    try:
        for partition, count in enumerate(counts):
            for i in range(count):
                await producer.send(topic, value=b'{"n":%d}' % i, key=b"k", partition=partition)
        await producer.flush()
    finally:
        await producer.stop()


def everything(topic: str, counts: list[int]) -> dict[TP, list[int]]:
    return {TP(topic, partition): list(range(count)) for partition, count in enumerate(counts) if count}


def complete(store: Store, topic: str, counts: list[int]) -> bool:
    return all(store.at.get(TP(topic, p), 0) == count for p, count in enumerate(counts))


async def test_each_record_once_in_order_then_lag_end_and_committed_offset(broker: Broker, tmp_path: Path) -> None:
    counts = [1500, 1200, 0]
    topic = await make_topic(broker, counts)
    store = Store(at={TP(topic, 1): 700})  # resumes from a position
    worker = Worker(broker.url, topic, store, tmp_path)
    async with running(worker):
        await until(lambda: complete(store, topic, counts))
        consumer = worker.app.consumer
        await until(lambda: all(consumer.at_end(TP(topic, p)) for p in range(PARTITIONS)))
        assert [consumer.lag(TP(topic, p)) for p in range(PARTITIONS)] == [0, 0, 0]
        await until(lambda: consumer._committed_offset[TP(topic, 0)] == 1500)
    assert store.applied == {TP(topic, 0): list(range(1500)), TP(topic, 1): list(range(700, 1200))}
    assert all(len(batch) <= 200 and batch.records[0].value.startswith(b'{"n":') for batch in worker.seen)
    assert all(batch.highwater is not None and batch.highwater >= batch.end for batch in worker.seen)
    assert len(worker.seen) < 100


async def test_rewind_delivers_again_and_makes_older_batches_stale(broker: Broker, tmp_path: Path) -> None:
    counts = [1000, 600, 0]
    topic = await make_topic(broker, counts)
    store = Store()
    worker = Worker(broker.url, topic, store, tmp_path)
    back, stale = TP(topic, 0), []

    async def go_back_once(batch: Batch) -> bool | None:
        if batch.tp == back and batch.start >= 400 and not stale:
            stale.append(batch)
            store.at[back], store.applied[back] = 100, store.applied[back][:100]
            assert await worker.app.consumer.rewind(back, 100)
            assert not worker.app.consumer.current(batch)
            worker.app.consumer.done(batch)  # of no effect: the batch is stale
            return False
        return None

    worker.before = go_back_once
    async with running(worker):
        await until(lambda: complete(store, topic, counts))
    assert store.applied == everything(topic, counts)
    after = worker.seen[worker.seen.index(stale[0]) + 1 :]
    assert next(batch for batch in after if batch.tp == back).start == 100
    assert all(batch.session > stale[0].session for batch in after if batch.tp == back)


async def test_failing_work_is_delivered_again_in_order(broker: Broker, tmp_path: Path) -> None:
    counts = [900, 900, 900]
    topic = await make_topic(broker, counts)
    store, failures = Store(), iter((RuntimeError("no luck"), asyncio.CancelledError(), OSError("still none")))
    worker = Worker(broker.url, topic, store, tmp_path)

    async def fail(batch: Batch) -> None:
        if batch.start >= 200 and (error := next(failures, None)) is not None:
            raise error

    worker.before = fail
    async with running(worker):
        await until(lambda: complete(store, topic, counts))
    assert store.applied == everything(topic, counts)
    assert [type(error) for _, error in worker.errors] == [RuntimeError, asyncio.CancelledError, OSError]


async def test_second_worker_takes_over_partitions_and_nothing_is_lost(broker: Broker, tmp_path: Path) -> None:
    counts = [4000, 4000, 4000]
    topic = await make_topic(broker, counts)
    store, hold = Store(), asyncio.Event()
    first, second = (Worker(broker.url, topic, store, tmp_path / name) for name in ("first", "second"))
    cancelled: list[TP] = []

    async def stay(batch: Batch) -> None:
        """Hold the work until the group has changed: the batches under way are cancelled by the revocation."""
        if batch.start >= 400:
            try:
                await hold.wait()
            except asyncio.CancelledError:
                cancelled.append(batch.tp)
                raise

    first.before = stay
    async with running(first):
        consumer = first.app.consumer
        await until(lambda: len(consumer.busy) == PARTITIONS and all(store.at[tp] >= 400 for tp in store.at))
        # Kafka is told what is done, never what is merely delivered
        await until(lambda: all(consumer._committed_offset[tp] == store.at[tp] for tp in store.at))
        async with running(second):
            await until(lambda: second.app.consumer.claimed)
            hold.set()
            await until(lambda: complete(store, topic, counts))
            split = (first.app.consumer.claimed, second.app.consumer.claimed)
    assert sorted(cancelled) == [TP(topic, p) for p in range(PARTITIONS)]
    assert split[0] | split[1] == {TP(topic, p) for p in range(PARTITIONS)}
    assert split[0]
    assert split[1]
    assert not split[0] & split[1]
    assert store.applied == everything(topic, counts)
    assert {TP(topic, p) for p in range(PARTITIONS)} <= store.released_


async def test_watchdog_fetches_again_what_was_neither_done_nor_under_way(broker: Broker, tmp_path: Path) -> None:
    counts = [700, 0, 0]
    topic = await make_topic(broker, counts)
    store, forgotten = Store(), []
    worker = Worker(broker.url, topic, store, tmp_path)

    async def forget_the_tail(batch: Batch) -> bool | None:
        if batch.end == 700 and not forgotten:
            forgotten.append(batch)
            return False
        return None

    worker.before = forget_the_tail
    async with running(worker):
        worker.app.consumer.stall_seconds = 0.3
        worker.app.consumer.watch_seconds = 0.05
        await until(lambda: complete(store, topic, counts))
    assert ("watchdog", TP(topic, 0)) in worker.reports
    assert store.applied == everything(topic, counts)


async def test_refused_claims_stand_still_until_forced_while_others_are_read(broker: Broker, tmp_path: Path) -> None:
    counts = [300, 300, 300]
    topic = await make_topic(broker, counts)
    refused, other = TP(topic, 1), [TP(topic, 0), TP(topic, 2)]
    store = Store(refuse={refused})
    worker = Worker(broker.url, topic, store, tmp_path)
    worker.app.consumer.retry_seconds = 0.5
    async with running(worker):
        await until(lambda: all(store.at.get(tp) == 300 for tp in other))
        assert refused not in store.applied
        assert worker.app.consumer.lag(refused) is None
        await until(lambda: store.at.get(refused) == 300)
    assert store.forced == {refused}
    assert store.claims.count(refused) == 13  # 12 refusals half a second apart: the session timeout of 6 s
    assert store.applied == everything(topic, counts)


def out_of_range(partition: TopicPartition, offset: int) -> FetchError:
    return FetchError(error=OffsetOutOfRangeError({partition: offset}), backoff=0)


async def test_positions_outside_the_log_stop_their_partition_only(
    broker: Broker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    counts = [200, 200, 200]
    topic = await make_topic(broker, counts)
    beyond = TP(topic, 2)
    store = Store(at={beyond: 5000})
    worker = Worker(broker.url, topic, store, tmp_path)
    with caplog.at_level(logging.ERROR):
        async with running(worker):
            await until(lambda: store.gaps and store.at.get(TP(topic, 0)) == 200 and store.at.get(TP(topic, 1)) == 200)
            assert beyond not in worker.app.consumer.claimed
            await produce(broker, topic, [50, 0, 0])  # the others go on
            await until(lambda: store.at[TP(topic, 0)] == 250)
            store.at[beyond] = 150  # repaired by hand, then claimed again
            assert await worker.app.consumer.reclaim(beyond) == 150
            await until(lambda: store.at[beyond] == 200)
            # The embedded broker answers no fetch with this error; Apache Kafka does.
            fetcher: Any = worker.app.consumer._thread._consumer._fetcher
            cut = TopicPartition(topic, 1)
            await until(lambda: fetcher._records.setdefault(cut, out_of_range(cut, 200)) and len(store.gaps) == 2)
            await produce(broker, topic, [10, 10, 10])
            await until(lambda: store.at[TP(topic, 0)] == 260 and store.at[beyond] == 210)
    assert store.gaps == [(beyond, 5000, None), (TP(topic, 1), 200, 0)]
    assert store.at[TP(topic, 1)] == 200
    assert "stands still" in caplog.text
    assert store.applied[beyond] == list(range(150, 210))


async def test_no_state_and_a_log_that_lost_its_head_is_a_gap(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = await make_topic(broker, [100, 100, 0])
    store = Store(at={TP(topic, 1): 40})
    worker = Worker(broker.url, topic, store, tmp_path)

    async def earliest(*tps: TP) -> dict[TP, int]:
        return dict.fromkeys(tps, 30)

    monkeypatch.setattr(worker.app.consumer, "earliest_offsets", earliest)
    async with running(worker):
        await until(lambda: store.at.get(TP(topic, 1)) == 100 and len(store.gaps) == 2)
    assert sorted(store.gaps) == [(TP(topic, 0), 0, 30), (TP(topic, 2), 0, 30)]
    assert TP(topic, 0) not in store.applied


# -- lanes alone


class FakeConsumer:
    def __init__(self) -> None:
        self.stale: set[int] = set()
        self.reclaimed: list[tuple[TP, float]] = []
        self.listeners: list[Any] = []

    def current(self, batch: Batch) -> bool:
        return batch.session not in self.stale

    def on_revoke(self, listener: Any) -> None:
        self.listeners.append(listener)

    def under_way(self, batch: Batch) -> Any:
        return nullcontext()

    async def reclaim(self, tp: TP, *, delay: float = 0.0) -> int | None:
        self.reclaimed.append((tp, delay))
        self.stale.add(0)
        return 0


def batch(partition: int, offset: int, session: int = 0) -> Batch:
    record: Any = SimpleNamespace(offset=offset)
    return Batch(TP("clicks", partition), [record], offset, session, 1, None)


async def test_partitions_are_worked_concurrently_and_each_in_order() -> None:
    consumer: Any = FakeConsumer()
    done: list[tuple[int, int]] = []
    gate = asyncio.Event()

    async def work(batch: Batch) -> None:
        if batch.tp.partition == 0:
            await gate.wait()
        done.append((batch.tp.partition, batch.start))

    lanes = Lanes(work, lambda: consumer)
    batches = [batch(p, offset) for offset in range(2) for p in range(2)]
    async with asyncio.timeout(LIMIT):
        for one in batches:
            await lanes.put(one)
        await until(lambda: len(done) == 2)
        assert done == [(1, 0), (1, 1)]
        full = asyncio.create_task(lanes.put(batch(0, 2)))
        await asyncio.sleep(0)
        assert not full.done()  # the lane is full: one under way, one queued
        gate.set()
        await full
        await lanes.stop(LIMIT)
    assert [offset for partition, offset in done if partition == 0] == [0, 1, 2]


async def test_after_a_failure_what_was_queued_is_skipped() -> None:
    consumer: Any = FakeConsumer()
    worked: list[int] = []

    async def work(batch: Batch) -> None:
        worked.append(batch.start)
        if batch.session == 0:
            raise ValueError("boom")

    lanes = Lanes(work, lambda: consumer, backoff=(0.25, 9.0))
    batches = [batch(0, 0), batch(0, 1), batch(0, 0, session=1)]
    async with asyncio.timeout(LIMIT):
        for one in batches:
            await lanes.put(one)
        await lanes.stop(LIMIT)
    assert worked == [0, 0]
    assert consumer.reclaimed == [(TP("clicks", 0), 0.25)]


async def test_revocation_cancels_the_work_drops_the_queue_and_frees_who_waits() -> None:
    consumer: Any = FakeConsumer()
    started, cancelled = asyncio.Event(), []

    async def work(batch: Batch) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(batch.start)
            raise

    lanes = Lanes(work, lambda: consumer)
    batches = [batch(0, offset) for offset in range(3)]
    async with asyncio.timeout(LIMIT):
        await lanes.put(batches[0])
        await lanes.put(batches[1])
        waiting = asyncio.create_task(lanes.put(batches[2]))
        await started.wait()
        (revoke,) = consumer.listeners
        await revoke({TP("clicks", 0), TP("clicks", 7)})
        await waiting
        late = batch(0, 0, session=1)
        started.clear()
        await lanes.put(late)  # assigned again: a new lane
        await started.wait()
        await lanes.stop()
        after = batch(0, 1, session=1)
        await lanes.put(after)
    assert cancelled == [0, 0]
    assert consumer.reclaimed == []
