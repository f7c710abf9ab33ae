"""`parcours rebuild`: a new generation of all that is stored."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from attribution.forgetting import lasting
from attribution.watermarks import JOURNEY, topic_partitions
from models.errors import ConfigError
from models.settings import Infrastructure, Marketing, load_marketing
from streams.cli.common import ConfigFile, Failure, KafkaUrl, RedisUrl, Usage, infrastructure, note, progress, say
from streams.cli.dlq import kafka_at, redis_at
from streams.cli.reach import redis_reachable
from streams.forgetting import begun_with, listed, listed_before, seeds
from streams.generations import ALIVE_SECONDS, alive, current, drop, pinned, prepare, switch
from streams.logs import Kafka, bounds, offset_since, partitions, writer
from streams.security import redis_options
from streams.sources import stands
from streams.tables import register_config
from streams.topics import create, journey_topic, logical

NAME = "rebuild"
BEATEN_SECONDS = 4.0
"""Workers tell every two seconds that they are alive: one that has told it lately after so long a wait still runs."""
WAIT_SECONDS = 0.5


def command(
    since: Annotated[
        str | None,
        typer.Option(
            "--since", help="Read records from this date on, as 2026-01-31 (UTC); else all.", show_default=False
        ),
    ] = None,
    dropped: Annotated[
        int | None,
        typer.Option("--drop", min=0, help="Instead: delete what an old generation stored.", show_default=False),
    ] = None,
    resume: Annotated[
        int | None,
        typer.Option(
            "--resume",
            min=0,
            help="Instead: say which generation is current, when Redis has lost it.",
            show_default=False,
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    config: ConfigFile = None,
    kafka_url: KafkaUrl = None,
    redis_url: RedisUrl = None,
) -> None:
    """Compute everything again from the source topics, under the configuration as it now is.

    It begins a new generation: a new log (journey-events.1, .2, ...) and new keys in Redis. Stop the workers before, start
    them after; they read the source topics from their beginning. The old generation stays until --drop deletes it.

    \b
    Examples:
      parcours rebuild --config parcours.toml
      parcours rebuild --since 2026-01-01 --yes
      parcours rebuild --drop 0
    """
    if sum(value is not None for value in (since, dropped, resume)) > 1:
        raise Usage("--since, --drop and --resume exclude one another")
    infra = infrastructure(kafka_url=kafka_url, redis_url=redis_url, config=config)
    if pinned(infra):
        raise Usage("PARCOURS_GENERATION is set: with it, workers would not follow. Unset it")
    from_ms = _since(since)
    marketing = load_marketing(infra.config)
    kafka = kafka_at(infra)
    redis_reachable(infra.redis_url, **redis_options(infra))
    if resume is not None:
        asyncio.run(_resume(infra, kafka, resume))
    elif dropped is not None:
        asyncio.run(_drop(infra, marketing, kafka, dropped, yes))
    else:
        asyncio.run(_rebuild(infra, marketing, kafka, from_ms, yes))


async def _rebuild(infra: Infrastructure, marketing: Marketing, kafka: Kafka, since_ms: int | None, yes: bool) -> None:
    async with redis_at(infra) as redis:
        old = await _current(redis, kafka)
        await nobody_runs(redis, old)
        new = old + 1
        await _counts(kafka, marketing, new)
        starts = await _starts(kafka, marketing, since_ms)
        total = sum(end - start for start, end in starts.values())
        say(
            f"Generation {new}: {total:,} records of the source topics are read again, under configuration {marketing.digest()}."
        )
        if since_ms is None:
            for (topic, partition), (start, _) in starts.items():
                if start:
                    note(
                        f"{topic}/{partition} begins at offset {start}: what came before it is not in the new generation."
                    )
        _confirm("Begin it?", yes)
        copies = await _copies(kafka, journey_topic(old))
        made = await create(kafka.servers, marketing, replication=copies, generation=new, options=kafka.options)
        missing = [item.topic.name for item in made if item.state == "missing"]
        if missing:
            raise Failure(f"Kafka did not make {', '.join(missing)}")
        try:
            await prepare(redis, old, new, {source: start for source, (start, _) in starts.items()})
        except ValueError as error:
            raise Failure(str(error)) from None
        # Here and not in the worker: a revision that has to be raised is said before anything is switched.
        await register_config(redis, new, marketing.text())
        # Of more than the last generation: no worker may have read yet what that one was given.
        hashes = await listed_before(redis, new) | await begun_with(kafka, old)
        await _carry_over(kafka, hashes, new, marketing.topics.journey_events)
        await switch(redis, new)
    say(f"Generation {new} begins: start the workers.")
    say(f"When parcours sources shows no lag, delete the old one: parcours rebuild --drop {old}")


async def _carry_over(kafka: Kafka, hashes: set[bytes], new: int, count: int) -> None:
    """The forget list comes first in the new log: whoever was forgotten is not known again from the source topics."""
    carried = lasting(hashes)
    if not carried:
        return
    async with writer(kafka) as producer:
        for partition, packed in seeds(carried, count):
            await producer.send_and_wait(journey_topic(new), packed, partition=partition)
    say(f"The forget list ({len(carried):,} hashes) is carried over.")


async def _drop(infra: Infrastructure, marketing: Marketing, kafka: Kafka, old: int, yes: bool) -> None:
    async with redis_at(infra) as redis:
        now = await _current(redis, kafka)
        if old >= now:
            raise Failure(f"the current generation is {now}; only an older one can be dropped")
        await nobody_runs(redis, old)
        kept = await listed(redis, now) | await begun_with(kafka, now)
        if lost := set(lasting(await listed(redis, old))) - kept:
            raise Failure(
                f"generation {now} does not have {len(lost):,} hashes of the forget list of generation {old}: parcours rebuild carries them over"
            )
        behind = [
            f"{stand.topic}/{stand.partition}" for stand in await stands(redis, kafka, marketing, now)
            if stand.lag is None or stand.lag > 0
        ]  # fmt: skip
        if behind:
            note(f"Generation {now} has not caught up yet: {', '.join(behind)}")
        _confirm(f"Delete all that generation {old} stored?", yes)
        count = 0
        with progress("keys deleted") as tell:
            async for count in drop(redis, old):
                tell(count)
    say(f"{count:,} keys of generation {old} deleted.")
    say(f"Nothing reads the topic {journey_topic(old)} any more: delete it with Kafka's own tools.")


async def _resume(infra: Infrastructure, kafka: Kafka, generation: int) -> None:
    async with redis_at(infra) as redis:
        known = await current(redis)
        if known is not None:
            raise Failure(f"Redis says that generation {known} is current; nothing is lost")
        if not await partitions(kafka, [journey_topic(generation)]):
            raise Failure(f"Kafka has no topic {journey_topic(generation)}")
        await switch(redis, generation)
    say(f"Generation {generation} is current: start the workers.")


async def _current(redis: Any, kafka: Kafka) -> int:
    """The current generation. Raises Failure when Redis may have lost it."""
    known = await current(redis)
    if known is None:
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka.servers, **kafka.options)
        await admin.start()
        try:
            later = sorted(name for name in await admin.list_topics() if logical(name) == JOURNEY != name)
        finally:
            await admin.close()
        if later:
            raise Failure(
                f"Redis does not say which generation is current, Kafka has {', '.join(later)}: say --resume NUMBER"
            )
    return known or 0


async def nobody_runs(redis: Any, generation: int) -> None:
    """Raises Failure while workers run: in one group some would read the old log and some the new.

    One that was killed, or did not stop in time, has left its last sign of life: it is waited for until that is too old.
    """
    waited = 0.0
    while living := await alive(redis, generation):
        beating = waited >= BEATEN_SECONDS and await alive(redis, generation, int(BEATEN_SECONDS) - 1)
        if beating or waited > ALIVE_SECONDS + 1:
            raise Failure(f"stop the workers first: {', '.join(sorted(beating or living))}")
        if waited == 0:
            note(f"Waiting whether {', '.join(sorted(living))} still runs.")
        await asyncio.sleep(WAIT_SECONDS)
        waited += WAIT_SECONDS


async def _counts(kafka: Kafka, marketing: Marketing, generation: int) -> None:
    """Raises ConfigError when a topic has another number of partitions, Failure when the new log has been written to."""
    found = await create(kafka.servers, marketing, dry_run=True, generation=generation, options=kafka.options)
    for item in found:
        if item.state == "differs" and item.topic.name in topic_partitions(marketing):
            raise ConfigError(
                f"topics.{item.topic.name}: configured with {item.topic.partitions} partitions, but Kafka has {item.found}"
            )
    log = journey_topic(generation)
    if any(span.end > 0 for span in (await bounds(kafka, await partitions(kafka, [log]))).values()):
        raise Failure(f"the topic {log} holds records of something else: delete it with Kafka's own tools")
    if any(item.topic.name == log and item.state == "differs" for item in found):
        raise Failure(f"the topic {log} has another number of partitions: delete it with Kafka's own tools")


async def _starts(kafka: Kafka, marketing: Marketing, since_ms: int | None) -> dict[tuple[str, int], tuple[int, int]]:
    """(first offset to read, end) per source partition."""
    wanted = [topic for topic in topic_partitions(marketing) if topic != JOURNEY]
    span = await bounds(kafka, await partitions(kafka, wanted))
    starts = {}
    for tp, (begin, end) in span.items():
        start = begin if since_ms is None else await offset_since(kafka, TopicPartition(*tp), since_ms)
        starts[tp.topic, tp.partition] = start, end
    return starts


async def _copies(kafka: Kafka, topic: str) -> int:
    """How many replicas a topic has; 1 when it is not there."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.servers, **kafka.options)
    await admin.start()
    try:
        for described in await admin.describe_topics([topic]):
            if described["partitions"]:
                return max(1, len(described["partitions"][0]["replicas"]))
        return 1
    finally:
        await admin.close()


def _confirm(question: str, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise Usage("nobody is there to ask: say --yes")
    if not typer.confirm(question):
        raise Failure("nothing was done")


def _since(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise Usage(f"--since: {text!r} is not a date such as 2026-01-31") from None
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)
