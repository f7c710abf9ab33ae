"""A broker, a Redis and workers as real processes, for integration tests; and what they have come to."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

import redis
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.structs import RecordMetadata
from integration.apache_kafka import make_broker

from attribution.watermarks import JOURNEY, topic_partitions
from models.events import TOPICS
from models.settings import Marketing
from streams.embedded import RedisServer, free_port
from streams.tables import ingest_tag, journey_tag
from streams.topics import create, wanted

ROOT = Path(__file__).resolve().parents[2]
Item = tuple[str, bytes]


class Timeout(AssertionError):
    """The stack did not get where it should within the time given."""


class Worker:
    """One worker process."""

    def __init__(self, stack: Stack, name: str, **env: str) -> None:
        self.port = free_port()
        self.log = stack.folder / f"{name}.log"
        self._log = self.log.open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "streams.cli", "worker"],
            cwd=ROOT,
            env={
                **os.environ,
                **stack.env,
                "PARCOURS_LOG_LEVEL": "WARNING",
                "PARCOURS_WEB_PORT": str(self.port),
                **env,
            },
            stdout=self._log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self._log.close()

    def stop(self, seconds: float = 15.0) -> int:
        """SIGTERM; the exit code. Killed when it takes too long, which is an error."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise Timeout(f"the worker did not stop within {seconds} s\n{self.tail()}") from None
        finally:
            self._log.close()

    def tail(self, size: int = 4000) -> str:
        return self.log.read_text("utf-8", "replace")[-size:]


class Stack:
    """Servers of its own, topics made, and any number of workers."""

    def __init__(self, folder: Path, toml: str, **env: str) -> None:
        from models.settings import load_marketing

        self.folder = folder
        self.config = folder / "parcours.toml"
        self.config.write_text(toml)
        self.marketing: Marketing = load_marketing(self.config)
        self.broker = make_broker()
        self.redis_server = RedisServer()
        self.workers: list[Worker] = []
        self.partitions = {topic.name: topic.partitions for topic in wanted(self.marketing)}
        self.sent: Counter[tuple[str, int]] = Counter()  # by topic and partition: the offset that ingest must reach
        self._extra = env

    def __enter__(self) -> Stack:
        self.broker.start()
        self.redis_server.start()
        asyncio.run(self._create_topics())
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers:
            if worker.process.poll() is None:
                worker.kill()
        self.redis_server.stop()
        self.broker.stop()

    @property
    def env(self) -> dict[str, str]:
        return {
            "PARCOURS_KAFKA_URL": self.broker.url,
            "PARCOURS_REDIS_URL": self.redis_server.url,
            "PARCOURS_CONFIG": str(self.config),
            "PARCOURS_DATA_DIR": str(self.folder / "data"),
            "PARCOURS_SESSION_TIMEOUT": "6",
            "PARCOURS_HEARTBEAT_INTERVAL": "1",
            "PARCOURS_REBALANCE_TIMEOUT": "6",
            "PARCOURS_MARK_INTERVAL": "0.2",
            "PARCOURS_REFRESH_INTERVAL": "0.5",
            **self._extra,
        }

    @property
    def address(self) -> str:
        return self.broker.address

    def worker(self, name: str | None = None, **env: str) -> Worker:
        worker = Worker(self, name or f"worker-{len(self.workers)}", **env)
        self.workers.append(worker)
        return worker

    async def _create_topics(self) -> None:
        found = await create([self.address], self.marketing)
        assert all(topic.state in {"created", "exists"} for topic in found), found

    def publish(
        self,
        items: Iterable[Item],
        timestamp_ms: Callable[[Item], int | None] = lambda item: None,
        key: bytes | None = None,
    ) -> None:
        """Produce (topic, value) in order; the partition follows from the person or order, as a tracker's key would."""
        asyncio.run(self._publish(list(items), timestamp_ms, key))

    async def _publish(
        self, items: list[Item], timestamp_ms: Callable[[Item], int | None], key: bytes | None = None
    ) -> None:
        producer = AIOKafkaProducer(bootstrap_servers=self.address, acks="all", linger_ms=5, max_request_size=8 << 20)
        await producer.start()
        try:
            pending = []
            for topic, value in items:
                partition = self.partition(topic, value) if key is None else None
                stamp = timestamp_ms((topic, value))
                pending.append(await producer.send(topic, value, partition=partition, key=key, timestamp_ms=stamp))
            self.expect(record for record in await asyncio.gather(*pending) if record.topic in TOPICS)
        finally:
            await producer.stop()

    def partition(self, topic: str, value: bytes) -> int:
        """Where `publish` sends a record."""
        return crc32(_key(value)) % self.partitions[topic]

    def expect(self, acknowledged: Iterable[RecordMetadata]) -> None:
        """Have `settle` wait for these records."""
        for record in acknowledged:
            key = record.topic, record.partition
            self.sent[key] = max(self.sent[key], record.offset + 1)

    def redis(self) -> redis.Redis:
        return redis.Redis.from_url(self.redis_server.url)

    def positions(self) -> dict[tuple[str, int], tuple[int, int]]:
        """Stored (offset, entry) per topic-partition."""
        client = self.redis()
        found = {}
        for topic, count in topic_partitions(self.marketing).items():
            for p in range(count):
                tag = journey_tag(0, p) if topic == JOURNEY else ingest_tag(0, topic, p)
                raw = client.hget(f"{tag}meta", "position") or b"0:0"
                offset, entry = raw.decode().split(":")
                found[topic, p] = int(offset), int(entry)
        client.close()
        return found

    def sources(self) -> dict[tuple[str, int], int]:
        """Records of source topics ingested so far."""
        return {key: offset for key, (offset, _) in self.positions().items() if key[0] != JOURNEY}

    def owners(self) -> dict[tuple[str, int], str]:
        """Which worker has claimed each topic-partition last."""
        client = self.redis()
        found = {}
        for topic, count in topic_partitions(self.marketing).items():
            for p in range(count):
                tag = journey_tag(0, p) if topic == JOURNEY else ingest_tag(0, topic, p)
                found[topic, p] = (client.hget(f"{tag}meta", "owner") or b"").decode()
        client.close()
        return found

    def ends(self, topic: str, partitions: int) -> dict[int, int]:
        """The end of each partition's log, by fetching: not every broker answers ListOffsets rightly."""
        return asyncio.run(self._ends(topic, partitions))

    async def _ends(self, topic: str, partitions: int) -> dict[int, int]:
        consumer = AIOKafkaConsumer(bootstrap_servers=self.address, auto_offset_reset="earliest")
        await consumer.start()
        try:
            tps = [TopicPartition(topic, p) for p in range(partitions)]
            consumer.assign(tps)
            await consumer.seek_to_beginning()
            ends: dict[int, int] = {}
            for _ in range(200):
                await consumer.getmany(timeout_ms=50)
                for tp in tps:
                    high = consumer.highwater(tp)
                    if high is not None:
                        ends[tp.partition] = high
                if len(ends) == partitions:
                    break
            return {p: ends.get(p, 0) for p in range(partitions)}
        finally:
            await consumer.stop()

    def settle(self, seconds: float = 60.0) -> None:
        """Wait until all that was published is ingested and the log is folded to its end, moves included."""
        deadline = time.monotonic() + seconds
        journeys = self.marketing.topics.journey_events
        still: dict[tuple[str, int], tuple[int, int]] | None = None
        while time.monotonic() < deadline:
            self._check_workers()
            now = self.positions()
            if all(now[key][0] >= count for key, count in self.sent.items()):
                ends = self.ends(JOURNEY, journeys)
                now = self.positions()
                folded = {(JOURNEY, p): now[JOURNEY, p] for p in range(journeys)}
                if all(folded[JOURNEY, p][0] >= end for p, end in ends.items()):
                    if still == folded:
                        return
                    still = folded
                    continue
            time.sleep(0.02)
        ends = {(JOURNEY, p): end for p, end in self.ends(JOURNEY, journeys).items()}
        now = self.positions()
        lagging = {key: (now[key], count) for key, count in (self.sent | ends).items() if now[key][0] < count}
        raise Timeout(f"not settled after {seconds} s: {lagging}\n{self.workers[-1].tail() if self.workers else ''}")

    def _check_workers(self) -> None:
        if self.workers and all(worker.process.poll() is not None for worker in self.workers):
            raise Timeout(f"no worker is running\n{self.workers[-1].tail()}")

    def read(self, topic: str, partitions: int) -> list[Any]:
        """All records of a topic."""
        return asyncio.run(self._read(topic, partitions))

    async def _read(self, topic: str, partitions: int) -> list[Any]:
        ends = await self._ends(topic, partitions)
        if not any(ends.values()):
            return []
        consumer = AIOKafkaConsumer(bootstrap_servers=self.address, auto_offset_reset="earliest")
        await consumer.start()
        records: list[Any] = []
        try:
            tps = [TopicPartition(topic, p) for p in range(partitions) if ends[p]]
            consumer.assign(tps)
            await consumer.seek_to_beginning()
            left = {tp: ends[tp.partition] for tp in tps}
            # By position: a log can end in markers that are no records.
            while any([await consumer.position(tp) < end for tp, end in left.items()]):
                for batch in (await consumer.getmany(timeout_ms=200)).values():
                    records += batch
        finally:
            await consumer.stop()
        return records

    def attributions(self) -> dict[str, dict[str, Any]]:
        """By conversion id, the record of the highest version; of a conversion that moved, only where it is now."""
        newest: dict[bytes, dict[str, Any]] = {}
        for record in self.read("attributions", self.partitions["attributions"]):
            value = json.loads(record.value)
            held = newest.get(record.key)
            if held is None or tuple(value["version"]) > tuple(held["version"]):
                newest[record.key] = value
        return {value["conversion_id"]: plain(value) for value in newest.values() if value["reason"] != "moved"}

    def dead_letters(self, topic: str) -> list[Any]:
        return self.read(f"dlq.{topic}", self.partitions[f"dlq.{topic}"])


def _key(value: bytes) -> bytes:
    """What a tracker would key its record by."""
    with contextlib.suppress(ValueError, AttributeError):
        event = json.loads(value)
        for name in ("order_id", "cost_id", "customer_id", "anonymous_id", "event_id"):
            if isinstance(event.get(name), str):
                return event[name].encode()
    return value[:16]


def plain(attribution: dict[str, Any]) -> dict[str, Any]:
    """What the convergence rule covers: not version, nor number, nor whether attributed reads restated."""
    kept = {name: value for name, value in attribution.items() if name not in ("version", "config")}
    if kept["status"] == "restated":
        kept["status"] = "attributed"
    return kept


def replayed(marketing: Marketing, items: Iterable[Item]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The batch pass over the same records."""
    import msgspec

    from attribution.replay import Replay

    replay = Replay(marketing)
    for topic, value in items:
        replay.take(topic, value)
    replay.finish()
    for attribution in replay.attributions():
        yield attribution.conversion_id, plain(msgspec.to_builtins(attribution))
