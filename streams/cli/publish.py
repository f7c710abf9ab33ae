"""`parcours publish`: files of events to Kafka."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from streams.cli.common import Failure, KafkaUrl, infrastructure, progress, say
from streams.cli.reach import kafka_reachable
from streams.files import InputRecord, by_time, key_of, read
from streams.security import kafka_options

NAME = "publish"
_IN_FLIGHT = 20_000


def command(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="A folder of <topic>.jsonl files, or one file.")],
    as_is: Annotated[
        bool, typer.Option("--as-is", help="Keep the order of the files, instead of merging them by occurred_at.")
    ] = False,
    rate: Annotated[
        float | None, typer.Option("--rate", min=0.001, help="At most so many events a second.", show_default=False)
    ] = None,
    kafka_url: KafkaUrl = None,
) -> None:
    """Publish files of events to their Kafka topics, in the order in which they occurred.

    Ends when Kafka has acknowledged every event. Wrong events are for the worker: it sends them to the dead letters.

    \b
    Examples:
      parcours publish shop
      parcours publish events.jsonl --rate 200
      parcours publish shop --as-is --kafka-url kafka://broker-1:9092
    """
    infra = infrastructure(kafka_url=kafka_url)
    records = list(read(source)) if as_is else by_time(read(source))
    servers = kafka_reachable(infra.kafka_url, **kafka_options(infra))
    sent: Counter[str] = Counter()
    began = time.monotonic()
    with progress("publishing", len(records)) as bar:
        asyncio.run(send(servers, records, rate, sent, bar, kafka_options(infra)))
    seconds = time.monotonic() - began
    for topic, n in sorted(sent.items()):
        say(f"{topic}: {n}")
    say(f"{sent.total()} events published in {seconds:.1f} s ({sent.total() / max(seconds, 1e-6):,.0f} a second)")


async def send(
    servers: list[str],
    records: Iterable[InputRecord],
    rate: float | None,
    sent: Counter[str],
    progressed: Callable[[int], None],
    options: Mapping[str, Any] | None = None,
) -> None:
    """Publish in order, and wait for every acknowledgement; `sent` counts those by topic. Raises Failure at the first error."""
    from aiokafka import AIOKafkaProducer
    from aiokafka.errors import KafkaError

    # One request in flight per partition keeps the order; an event over 1 MiB is for the worker to refuse.
    producer = AIOKafkaProducer(
        bootstrap_servers=servers, acks="all", linger_ms=5, max_request_size=8 << 20, **(options or {})
    )
    await producer.start()
    waiting: list[tuple[InputRecord, asyncio.Future[object]]] = []

    async def settle() -> None:
        for record, future in waiting:
            try:
                await future
            except KafkaError as error:
                raise Failure(f"{record.where}: Kafka did not take it: {error}") from None
            sent[record.topic] += 1
        waiting.clear()
        progressed(sent.total())

    try:
        began = time.monotonic()
        for number, record in enumerate(records):
            if rate is not None:
                ahead = number / rate - (time.monotonic() - began)
                if ahead > 0:
                    await settle()
                    await asyncio.sleep(ahead)
            try:
                waiting.append((record, await producer.send(record.topic, record.value, key=key_of(record))))
            except KafkaError as error:
                raise Failure(f"{record.where}: Kafka did not take it: {error}") from None
            if len(waiting) >= _IN_FLIGHT:
                await settle()
        await settle()
    finally:
        await producer.stop()
