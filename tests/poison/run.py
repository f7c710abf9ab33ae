"""Poison through a real worker: publish it among good events, and account for every record of it in the dead letters."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from integration.stack import Stack, Worker
from poison.corpus import Poison

from models.events import TOPICS
from streams.outbox import Headers
from streams.simulator import Record

IN_FLIGHT = 5_000
Place = tuple[str, int, int]


@dataclass
class Account:
    """What was published (`owed`: by topic, partition and offset, code and digest), and what came of it."""

    owed: dict[Place, tuple[str, bytes]] = field(default_factory=dict)
    published: Counter[tuple[str, str]] = field(default_factory=Counter)
    found: Counter[tuple[str, str]] = field(default_factory=Counter)
    wrong: list[tuple[Place, str]] = field(default_factory=list)
    good: int = 0

    @property
    def exact(self) -> bool:
        """One dead letter for each record of poison, none for another, all as published."""
        return not self.owed and not self.wrong and self.found == self.published


def digest(key: bytes | None, value: bytes | None, headers: Headers) -> bytes:
    """Of all that a dead letter must repeat."""
    return blake2b(repr((key, value, [tuple(header) for header in headers])).encode(), digest_size=12).digest()


def publish(stack: Stack, poison: Iterable[Poison], neighbours: Sequence[Record], per_neighbour: int) -> Account:
    """Publish poison, with a neighbour after every `per_neighbour` of it and the rest of the neighbours at the end."""
    return asyncio.run(_publish(stack, poison, neighbours, per_neighbour))


async def _publish(stack: Stack, poison: Iterable[Poison], neighbours: Sequence[Record], per_neighbour: int) -> Account:
    account = Account()
    # Compressed, as a broker measures what arrives: a megabyte of poison would else not get past its own limit.
    producer = AIOKafkaProducer(
        bootstrap_servers=stack.address, acks="all", linger_ms=20, max_batch_size=1 << 18, max_request_size=16 << 20,
        compression_type="gzip",
    )  # fmt: skip
    await producer.start()
    waiting: list[tuple[asyncio.Future[Any], Poison | None]] = []

    async def settle() -> None:
        for future, record in waiting:
            placed = await future
            stack.expect([placed])
            if record is not None:
                place = placed.topic, placed.partition, placed.offset
                account.owed[place] = record.code, digest(record.key, record.value, record.headers)
                account.published[record.topic, record.code] += 1
        waiting.clear()

    async def send_good(record: Record) -> None:
        partition, stamp = stack.partition(record.topic, record.value), record.published_at // 1000
        waiting.append((await producer.send(record.topic, record.value, partition=partition, timestamp_ms=stamp), None))
        account.good += 1

    try:
        left = iter(neighbours)
        for number, record in enumerate(poison):
            partition = number % stack.partitions[record.topic]
            sent = await producer.send(
                record.topic, record.value, key=record.key, partition=partition, headers=record.headers,
                timestamp_ms=record.timestamp,
            )  # fmt: skip
            waiting.append((sent, record))
            if number % per_neighbour == 0 and (good := next(left, None)) is not None:
                await send_good(good)
            if len(waiting) >= IN_FLIGHT:
                await settle()
        for good in left:
            await send_good(good)
        await settle()
    finally:
        await producer.stop()
    return account


def collect(stack: Stack, account: Account) -> None:
    """Read all dead letters, and cross each off; nothing is held in memory."""
    for topic in TOPICS:
        asyncio.run(_collect(stack, topic, account))


async def _collect(stack: Stack, topic: str, account: Account) -> None:
    name = f"dlq.{topic}"
    ends = await stack._ends(name, stack.partitions[name])
    left = {TopicPartition(name, p): end for p, end in ends.items() if end}
    consumer = AIOKafkaConsumer(
        bootstrap_servers=stack.address, auto_offset_reset="earliest", max_partition_fetch_bytes=8 << 20
    )
    await consumer.start()
    try:
        consumer.assign(list(left))
        await consumer.seek_to_beginning()
        while left:
            for tp, batch in (await consumer.getmany(*left, timeout_ms=200)).items():
                for letter in batch:
                    _cross_off(topic, letter, account)
                if batch[-1].offset + 1 >= left[tp]:
                    del left[tp]
    finally:
        await consumer.stop()


def _cross_off(topic: str, letter: Any, account: Account) -> None:
    said = dict(letter.headers)
    place = said["parcours-topic"].decode(), int(said["parcours-partition"]), int(said["parcours-offset"])
    code = said["parcours-code"].decode()
    account.found[topic, code] += 1
    owed = account.owed.pop(place, None)
    added = 6  # code, path, message, topic, partition, offset
    original = digest(letter.key, letter.value, letter.headers[:-added])
    if owed is None:
        account.wrong.append((place, "no poison, or a second letter"))
    elif owed != (code, original):
        account.wrong.append((place, f"{code} for {owed[0]}{'' if owed[1] == original else ', not as published'}"))


def peak_megabytes(worker: Worker) -> float:
    """The most memory that the worker's process has had resident (Linux)."""
    status = Path(f"/proc/{worker.process.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found
    return int(found[1]) / 1024
