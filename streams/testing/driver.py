"""The test driver: whole workers on an in-memory Kafka and a real Redis, in one process and in virtual time.

    with RedisServer() as redis, Driver(marketing, redis) as driver:
        driver.start("a")
        driver.pipe_in("clicks", b'{"event_id": ...}')
        driver.run_until_settled()
        driver.attributions(), driver.state("c:42"), driver.read_out("attributions")

In the spirit of Kafka Streams' TopologyTestDriver, with everything around the topology as well: Faust, its agents and
rebalances, claims, marks, the outbox, Lua. Nothing happens between two calls of the driver; `advance` lets time pass, in
which no one really waits. One driver at a time: `streams.marks`, which reads the monotonic clock, is given the virtual one.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any
from zlib import crc32

import redis as blocking_redis
from aiokafka import ConsumerRecord
from faust.types import TP

from attribution.nodes.state import Node
from attribution.watermarks import JOURNEY, topic_partitions
from models.settings import Infrastructure, Marketing
from streams import marks
from streams.blocks import partition_of
from streams.codec import Names, unpack_node
from streams.embedded import RedisServer
from streams.forgetting import listed_before, seeded, seeds
from streams.generations import prepare, switch
from streams.memory_kafka import Cluster
from streams.tables import connect, ingest_tag, journey_tag, register_config
from streams.testing.clock import OWNER, Loop
from streams.testing.redis import Line
from streams.testing.worker import Worker, new_worker
from streams.topics import journey_topic, logical

log = logging.getLogger(__name__)
STEP = 0.05
_IDS = ("order_id", "cost_id", "customer_id", "anonymous_id", "event_id")


class Unsettled(AssertionError):
    """Work was left undone although workers run and all faults are over."""


class Driver:
    """Servers and workers of one simulation. All randomness comes from `seed`."""

    def __init__(self, marketing: Marketing, redis: RedisServer, *, seed: int = 0, **infra: Any) -> None:
        """`redis` runs already and is emptied. `infra`: fields of `Infrastructure`, over those of `SMALL`."""
        self.marketing = marketing
        self.redis = redis
        self.rng = Random(seed)
        self.loop = Loop()
        sources = topic_partitions(marketing)
        others = {"attributions": 2, "alerts": 1, **{f"dlq.{topic}": 1 for topic in sources}}
        self.cluster = Cluster(self.rng, {**sources, **others}, epoch_ms=1_800_000_000_000)
        self.line = Line(self.rng, self.cluster)
        self.workers: dict[str, Worker] = {}
        self.on_start: list[Callable[[Worker], None]] = []
        self.crashes = 0
        self.generation = 0
        self._sources = sources
        self._infra = {**SMALL, **infra}
        self.hash_key = Infrastructure(**self._infra).hash_key
        self._starts = 0
        self._written = 0
        self._read: dict[TP, int] = {}
        self._client: blocking_redis.Redis | None = None
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Driver:
        module = vars(marks)
        self._stack.callback(module.__setitem__, "monotonic", module["monotonic"])
        module["monotonic"] = self.loop.time
        asyncio.set_event_loop(self.loop)
        self._stack.callback(asyncio.set_event_loop, None)
        self.store.flushall()
        self.store.script_flush()  # else a second trial asks Redis once less for each script
        self._written = self._aof()
        self._within(self.cluster.start)
        return self

    def __exit__(self, *_: object) -> None:
        with self._stack:
            for worker in list(self.workers.values()):
                self._end(worker)
            for task in asyncio.all_tasks(self.loop):
                task.cancel()
            self.advance(STEP)
            if self._client is not None:
                self._client.close()
            self.loop.close()
        gc.unfreeze()  # a worker freezes what it finds at its start: here that are the remains of others

    # -- in and out

    def pipe_in(
        self, topic: str, value: bytes | None, timestamp: int | None = None, *, partition: int | None = None
    ) -> tuple[int, int]:
        """Publish a record to a source; `timestamp` in ms. Its partition follows from whom it is about. (partition, offset)."""
        if partition is None:
            partition = crc32(_key(value)) % self.cluster.topics[topic]
        return partition, self._within(self.cluster.append, topic, partition, value, timestamp_ms=timestamp)

    def read_out(self, topic: str) -> list[ConsumerRecord]:
        """What has come to a topic since the last call."""
        fresh = []
        for p in range(self.cluster.topics[topic]):
            tp = TP(topic, p)
            records = self.cluster.logs[tp].records
            fresh += records[self._read.get(tp, 0) :]
            self._read[tp] = len(records)
        return fresh

    def attributions(self) -> dict[str, dict[str, Any]]:
        """By conversion id, what stands: of each key the highest version, without what has moved to another person."""
        newest: dict[bytes | None, dict[str, Any]] = {}
        for record in self.cluster.read("attributions"):
            if record.value is None:
                newest.pop(record.key, None)
                continue
            value = json.loads(record.value)
            held = newest.get(record.key)
            if held is None or value["version"] > held["version"]:
                newest[record.key] = value
        return {value["conversion_id"]: value for value in newest.values() if value["reason"] != "moved"}

    def dead_letters(self) -> set[tuple[str, int, int, str]]:
        """(topic, partition, offset, code) of each; a letter sent twice is one."""
        found = set()
        for topic in self._sources:
            for record in self.cluster.read(f"dlq.{topic}"):
                headers = {name: value.decode() for name, value in record.headers}
                place = headers["parcours-topic"], int(headers["parcours-partition"]), int(headers["parcours-offset"])
                found.add((*place, headers["parcours-code"]))
        return found

    def state(self, node: str) -> Node:
        """A node as stored: `c:<customer>`, `a:<device>`, `o:<order>`. None when there is none. Not for costs."""
        tag = self.tag(TP(self.journey, partition_of(node, self._sources[JOURNEY])))
        packed = self.store.get(f"{tag}n:{node}")
        names = {int(number): name for number, name in self.store.hgetall(f"{tag}names").items()}
        return None if packed is None else unpack_node(packed, Names(names))

    def positions(self) -> dict[TP, tuple[int, int]]:
        """Stored (offset, entry) of each source and log partition."""
        names = {topic: self.journey if topic == JOURNEY else topic for topic in self._sources}
        tps = [TP(names[topic], p) for topic, count in self._sources.items() for p in range(count)]
        pipe = self.store.pipeline(transaction=False)
        for tp in tps:
            pipe.hget(f"{self.tag(tp)}meta", "position")
        found = {}
        for tp, raw in zip(tps, pipe.execute(), strict=True):
            offset, entry = (raw or b"0:0").decode().split(":")
            found[tp] = int(offset), int(entry)
        return found

    def undone(self) -> int:
        """Offsets not yet passed, over all source and log partitions. A marker behind the last record is not work."""
        ends = {tp: self.cluster.logs[tp].offsets[-1] + 1 for tp in self.positions() if self.cluster.logs[tp].offsets}
        return sum(max(0, ends.get(tp, 0) - offset) for tp, (offset, _) in self.positions().items())

    @property
    def store(self) -> Any:
        """A client of the driver's own, for looking; it meets no faults."""
        if self._client is None:
            self._client = blocking_redis.Redis.from_url(self.redis.url)
        return self._client

    @property
    def journey(self) -> str:
        """The log of record of the current generation."""
        return journey_topic(self.generation)

    def tag(self, tp: TP) -> str:
        """What all Redis keys of a partition begin with."""
        if logical(tp.topic) == JOURNEY:
            return journey_tag(self.generation, tp.partition)
        return ingest_tag(self.generation, tp.topic, tp.partition)

    def rebuild(self) -> None:
        """Begin a new generation from the source topics, as `parcours rebuild` does: workers are stopped before and started after."""
        assert not self.workers
        old, self.generation = self.generation, self.generation + 1
        counts = {topic: count for topic, count in self._sources.items() if topic != JOURNEY}
        starts = {(topic, p): 0 for topic, count in counts.items() for p in range(count)}
        self.cluster.add(self.journey, self._sources[JOURNEY])

        async def lay_out() -> set[bytes]:
            redis = connect(self.redis.url)
            try:
                await prepare(redis, old, self.generation, starts)
                await register_config(redis, self.generation, self.marketing.text())
                await switch(redis, self.generation)
                return await listed_before(redis, self.generation)
            finally:
                await redis.aclose()

        hashes = self._within(lambda: self.loop.blocking(lay_out()))
        for record in self.cluster.logs[TP(journey_topic(old), 0)].records:
            known = seeded(record.value)
            if known is None:
                break
            hashes |= known
        for partition, packed in seeds(hashes, self._sources[JOURNEY]):
            self._within(self.cluster.append, self.journey, partition, packed)

    # -- time

    @property
    def now(self) -> float:
        return self.loop.time()

    def advance(self, seconds: float) -> None:
        """Let so much time pass."""
        self.loop.run_until_complete(asyncio.sleep(seconds))
        self.cluster.check()

    def run_until_settled(self, seconds: float = 120.0) -> None:
        """Until all that was published is ingested and the log folded to its end. Raises Unsettled after `seconds`."""
        deadline = self.now + seconds
        quiet = 0
        while quiet < 3:
            if self.now > deadline:
                raise Unsettled(f"after {seconds} s: {self.report()}")
            self.advance(STEP * 4)
            self.revive()
            quiet = 0 if self.undone() else quiet + 1

    def run_until(self, condition: Callable[[], Any], seconds: float = 30.0) -> None:
        """Until `condition()` is true. Raises Unsettled after `seconds`."""
        deadline = self.now + seconds
        while not condition():
            if self.now > deadline:
                raise Unsettled(f"not within {seconds} s: {self.report()}")
            self.advance(0.01)

    def report(self) -> str:
        """Where each partition stands and who holds it."""
        held = {tp: w.name for w in self.workers.values() if w.app.runtime.claims for tp in w.app.runtime.claims.parts}
        lines = [
            f"{tp.topic}-{tp.partition}: at {position} of {self.cluster.logs[tp].end}, held by {held.get(tp, 'nobody')}"
            for tp, position in self.positions().items()
        ]
        return "; ".join(lines)

    # -- workers

    def start(self, name: str) -> Worker:
        """Start a worker; it joins the group while time passes."""
        assert name not in self.workers
        self._starts += 1
        client = f"{name}.{self._starts}"
        infra = Infrastructure(**{**self._infra, "redis_url": self.redis.url})
        context = contextvars.copy_context()
        context.run(OWNER.set, client)

        def make() -> Worker:
            made = new_worker(name, client, infra, self.marketing, self.cluster, self.line)
            for hook in self.on_start:
                hook(made)
            return made

        worker = self._within(lambda: context.run(make))
        worker.starting = self._within(lambda: self.loop.create_task(worker.app.start(), context=context))
        self.workers[name] = worker
        return worker

    def stop(self, name: str) -> None:
        """Stop a worker in good order."""
        worker = self.workers.pop(name)
        context = contextvars.copy_context()
        context.run(OWNER.set, worker.client)
        self.loop.run_until_complete(self._within(lambda: self.loop.create_task(worker.app.stop(), context=context)))

    def kill(self, name: str) -> None:
        """As SIGKILL: nothing is flushed, requests on their way arrive or not, the group notices at the session's end."""
        worker = self.workers.pop(name)
        self._end(worker)
        wait = self.rng.uniform(0.1, self._infra["session_timeout"])
        self.loop.call_later(wait, self.cluster.leave, worker.client)

    def freeze(self, name: str) -> None:
        """As SIGSTOP: nothing of the worker goes out or comes in any more."""
        self.cluster.frozen[self.workers[name].client] = asyncio.Event()

    def thaw(self, name: str) -> None:
        """As SIGCONT: it goes on as if nothing had happened."""
        self.cluster.frozen.pop(self.workers[name].client).set()

    def cut(self, name: str) -> None:
        """The group gives the worker's partitions to others, and the worker doesn't know: a zombie."""
        self.cluster.leave(self.workers[name].client)

    def heal(self, name: str) -> None:
        """The zombie's next heartbeat tells it: it joins again."""
        worker = self.workers[name]
        consumer = worker.app.consumer._thread._consumer if worker.app._consumer is not None else None
        if consumer is not None and consumer.topics and worker.client not in self.cluster.members:
            self._within(self.cluster.join, consumer)

    def revive(self) -> None:
        """What a process manager does: start again what has crashed."""
        for name, worker in list(self.workers.items()):
            starting = worker.starting
            failed = starting.exception() if starting is not None and starting.done() else None
            if failed or worker.app.crashed:
                log.warning("%s has crashed: %r", name, failed or worker.app.crash_reason, exc_info=failed)
                self.crashes += 1
                self.kill(name)
                self.start(name)

    def _end(self, worker: Worker) -> None:
        worker.producer.sever()
        self.cluster.frozen[worker.client] = asyncio.Event()  # whatever it does in dying reaches nobody
        for _ in range(50):
            tasks = self.loop.tasks_of(worker.client)
            if not tasks:
                break
            for task in tasks:
                task.cancel()
            self.loop.run_until_complete(asyncio.sleep(0))
        self._within(self.line.hang_up, worker.client)
        if worker.starting is not None and worker.starting.done() and not worker.starting.cancelled():
            worker.starting.exception()

    def _within(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call something that expects a running loop."""

        async def inside() -> Any:
            return call(*args, **kwargs)

        return self.loop.run_until_complete(inside())

    # -- Redis

    def written(self) -> int:
        """Bytes of the append-only file that this simulation may lose: others before it may have used the server."""
        return self._aof() - self._written

    def _aof(self) -> int:
        return sum(path.stat().st_size for path in self.redis.aof_files() if ".incr." in path.name)

    def crash_redis(self, lose: int = 0, away: float = 0.0) -> None:
        """Kill it, cut up to `lose` bytes off its append-only file, start it again after `away` seconds."""
        if self._client is not None:
            self._client.close()
            self._client = None
        self.redis.kill()
        if lose:
            self.redis.truncate_aof(lose)
        if away:
            self.advance(away)
        self.redis.start()

    def pause_redis(self, seconds: float) -> None:
        """Stop the server's process for so long; what is asked meanwhile waits."""
        with self._stopped():
            self.advance(seconds)

    @contextlib.contextmanager
    def _stopped(self) -> Iterator[None]:
        import os
        import signal

        self.line.stopped = stopped = asyncio.Event()
        os.kill(self.redis.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.redis.pid, signal.SIGCONT)
            self.line.stopped = None
            self._within(stopped.set)

    def wipe_redis(self) -> None:
        """Remove everything."""
        self.store.flushall()

    def snapshot(self, tp: TP) -> dict[bytes, bytes]:
        """All keys of a partition, for `roll_back`."""
        keys = sorted(self.store.scan_iter(match=f"{self.tag(tp)}*", count=1000))
        return {key: packed for key in keys if (packed := self.store.dump(key)) is not None}

    def roll_back(self, tp: TP, snapshot: dict[bytes, bytes]) -> None:
        """Make a partition what it was, as a failover of its slot does, while the others stay."""
        pipe = self.store.pipeline(transaction=True)
        for key in sorted(self.store.scan_iter(match=f"{self.tag(tp)}*", count=1000)):
            pipe.delete(key)
        for key, packed in snapshot.items():
            pipe.restore(key, 0, packed)
        pipe.execute()


SMALL: dict[str, Any] = {
    "session_timeout": 1.5,
    "heartbeat_interval": 0.5,
    "rebalance_timeout": 3.0,
    "mark_interval": 0.25,
    "idle_after": 1e9,
    "refresh_interval": 1e9,
    "max_poll_records": 20,
    "commit_entries": 15,
    "data_dir": Path(".parcours"),
}
"""Small fetches and commits, so that there is something to interrupt; seconds are virtual."""


def _key(value: bytes | None) -> bytes:
    """What a tracker would key its record by."""
    with contextlib.suppress(ValueError, AttributeError, RecursionError):
        event = json.loads(value or b"")
        for name in _IDS:
            if isinstance(event.get(name), str):
                return str(event[name]).encode()
    return (value or b"")[:16]
