"""Kafka's logs from the command line: where they begin and end, one record, all records, an offset by time; and a producer.

Outside any group, so it disturbs no worker. The end of a log is taken from what a fetch says of it: not every broker
answers ListOffsets rightly.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

_SECONDS = 30.0


class Kafka(NamedTuple):
    """Where Kafka is, and how to log in (`streams.security.kafka_options`)."""

    servers: list[str]
    options: dict[str, Any]


class Bounds(NamedTuple):
    """The offsets a partition holds: from `begin`, up to and without `end`."""

    begin: int
    end: int


@asynccontextmanager
async def reader(kafka: Kafka, **settings: Any) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer without a group. Raises KafkaError."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=kafka.servers, enable_auto_commit=False, auto_offset_reset="earliest",
        client_id="parcours-cli", fetch_max_wait_ms=100, max_partition_fetch_bytes=5 << 20, **kafka.options, **settings,
    )  # fmt: skip
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


@asynccontextmanager
async def writer(kafka: Kafka) -> AsyncIterator[AIOKafkaProducer]:
    """A producer. Raises KafkaError."""
    producer = AIOKafkaProducer(bootstrap_servers=kafka.servers, acks="all", **kafka.options)
    try:
        await producer.start()
        yield producer
    finally:
        await producer.stop()


async def partitions(kafka: Kafka, topics: Iterable[str]) -> list[TopicPartition]:
    """All partitions of those of the topics that exist."""
    # A consumer that has assigned nothing knows of no partitions, unless the broker tells more than it was asked for.
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.servers, client_id="parcours-cli", **kafka.options)
    await admin.start()
    try:
        there = {
            found["topic"]: [p["partition"] for p in found["partitions"]] for found in await admin.describe_topics()
        }
    finally:
        await admin.close()
    return [TopicPartition(topic, p) for topic in topics for p in sorted(there.get(topic, ()))]


async def bounds(kafka: Kafka, tps: Iterable[TopicPartition]) -> dict[TopicPartition, Bounds]:
    """Where each of these partitions, all of which must exist, begins and ends now. Raises KafkaError, TimeoutError."""
    wanted = list(tps)
    if not wanted:
        return {}
    # A fetch is asked for its high watermark, not for its records.
    async with reader(kafka, max_poll_records=1) as consumer:
        consumer.assign(wanted)
        begins = await consumer.beginning_offsets(wanted)
        for tp in wanted:
            consumer.seek(tp, begins[tp])
        ends: dict[TopicPartition, int] = {}
        async with asyncio.timeout(_SECONDS):
            while len(ends) < len(wanted):
                missing = [tp for tp in wanted if tp not in ends]
                await consumer.getmany(*missing, timeout_ms=50)
                for tp in missing:
                    highwater = consumer.highwater(tp)
                    if highwater is not None:
                        ends[tp] = highwater
                        consumer.pause(tp)
        return {tp: Bounds(begins[tp], max(begins[tp], ends[tp])) for tp in wanted}


async def records(kafka: Kafka, topics: Iterable[str]) -> AsyncGenerator[ConsumerRecord, None]:
    """All records that the topics hold now, in order within a partition."""
    span = await bounds(kafka, await partitions(kafka, topics))
    left = {tp: at.end for tp, at in span.items() if at.end > at.begin}
    if not left:
        return
    async with reader(kafka) as consumer:
        consumer.assign(list(left))
        for tp in left:
            consumer.seek(tp, span[tp].begin)
        while left:
            for batch in (await consumer.getmany(*left, timeout_ms=200)).values():
                for record in batch:
                    if record.offset < left[TopicPartition(record.topic, record.partition)]:
                        yield record
            # The position and not the last offset: a log may end in markers that are no records.
            for tp in list(left):
                if await consumer.position(tp) >= left[tp]:
                    del left[tp]
                    consumer.pause(tp)


async def record_at(consumer: AIOKafkaConsumer, tp: TopicPartition, offset: int, span: Bounds) -> ConsumerRecord | None:
    """The record at this offset; None when the log no longer, or not yet, holds it. Assigns `consumer` anew."""
    if not span.begin <= offset < span.end:
        return None
    consumer.assign([tp])
    consumer.seek(tp, offset)
    async with asyncio.timeout(_SECONDS):
        while True:
            for batch in (await consumer.getmany(tp, timeout_ms=200, max_records=1)).values():
                return batch[0] if batch and batch[0].offset == offset else None
            if await consumer.position(tp) >= span.end:
                return None


async def offset_since(kafka: Kafka, tp: TopicPartition, since_ms: int) -> int:
    """The first offset whose record's timestamp is at or after `since_ms`; the end of the log when there is none.

    The broker is asked and its answer looked at; where it is wrong (the embedded broker's is) the log is read.
    """
    span = (await bounds(kafka, [tp]))[tp]
    if span.begin == span.end:
        return span.end
    async with reader(kafka) as consumer:
        consumer.assign([tp])
        answer = (await consumer.offsets_for_times({tp: since_ms}))[tp]
        at = span.begin if answer is None else max(span.begin, min(answer.offset, span.end))
        here = await record_at(consumer, tp, at, span)
        if answer is not None and here is not None and here.timestamp >= since_ms:
            return at
        if answer is None:
            last = await record_at(consumer, tp, span.end - 1, span)
            if last is not None and last.timestamp < since_ms:
                return span.end
        consumer.assign([tp])
        consumer.seek(tp, span.begin)
        while await consumer.position(tp) < span.end:
            for batch in (await consumer.getmany(tp, timeout_ms=200)).values():
                for record in batch:
                    if record.timestamp >= since_ms:
                        return min(record.offset, span.end)
    return span.end
