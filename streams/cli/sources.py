"""`parcours sources`: where every partition stands, and giving one a new start."""

from __future__ import annotations

import asyncio
from typing import Annotated

import msgspec
import typer

from attribution.watermarks import JOURNEY
from models.events import TOPICS
from models.settings import Infrastructure, Marketing, load_marketing
from streams.cli.common import (
    FAILED,
    ConfigFile,
    Failure,
    Json,
    KafkaUrl,
    RedisUrl,
    Usage,
    console,
    infrastructure,
    row,
    say,
    table,
    when,
)  # fmt: skip
from streams.cli.dlq import kafka_at, redis_at
from streams.cli.reach import redis_reachable
from streams.generations import located
from streams.logs import Kafka
from streams.security import redis_options
from streams.sources import Stand, as_json, stands
from streams.sources import reset as reset_source

app = typer.Typer(rich_markup_mode="rich")


@app.callback(invoke_without_command=True)
def sources(
    context: typer.Context,
    json: Json = False,
    config: ConfigFile = None,
    kafka_url: KafkaUrl = None,
    redis_url: RedisUrl = None,
) -> None:
    """Show where each partition stands: its position and lag, who has it, how far its events have come, and gaps.

    Exit code 1 when a partition can't be read on. *Owner* is in brackets when that worker is not running.

    \b
    Examples:
      parcours sources
      parcours sources --json
      parcours sources reset clicks 3
    """
    if context.invoked_subcommand is not None:
        return
    _show(config, kafka_url, redis_url, json)


@app.command("list")
def list_(
    json: Json = False, config: ConfigFile = None, kafka_url: KafkaUrl = None, redis_url: RedisUrl = None
) -> None:
    """The same as `parcours sources`.

    \b
    Examples:
      parcours sources list --json
    """
    _show(config, kafka_url, redis_url, json)


def _show(config: object, kafka_url: str | None, redis_url: str | None, json: bool) -> None:
    infra = infrastructure(kafka_url=kafka_url, redis_url=redis_url, config=config)
    found = asyncio.run(_stands(infra, load_marketing(infra.config), _reached(infra)))
    if json:
        for stand in found:
            say(msgspec.json.encode(as_json(stand)).decode())
    else:
        _print(found)
    if any(stand.gap for stand in found):
        raise typer.Exit(FAILED)


def _print(found: list[Stand]) -> None:
    shown = table(
        "source", "incarnation", "position", "end", "lag", "last event (UTC)", "idle", "owner", "gap",
        right="incarnation position end lag",
    )  # fmt: skip
    for stand in found:
        if stand.topic != JOURNEY:
            idle = "" if stand.mark is None else ("idle" if stand.mark[3] else "no")
            shown.add_row(*row(
                f"{stand.topic}/{stand.partition}", stand.incarnation, *_numbers(stand), _when(stand.last_event), idle,
                _owner(stand), stand.gap or "",
            ))  # fmt: skip
    console().print(shown)
    shown = table(
        "log", "position", "end", "lag", "watermark (UTC)", "sealed up to (UTC)", "owner", "gap",
        right="position end lag",
    )  # fmt: skip
    for stand in found:
        if stand.topic == JOURNEY:
            shown.add_row(*row(
                f"{stand.topic}/{stand.partition}", *_numbers(stand), _when(stand.watermark), _when(stand.sealed),
                _owner(stand), stand.gap or "",
            ))  # fmt: skip
    say()
    console().print(shown)


@app.command("reset")
def reset(
    topic: Annotated[str, typer.Argument(metavar="TOPIC", help=f"One of {', '.join(TOPICS)}.")],
    partition: Annotated[int, typer.Argument(metavar="PARTITION", min=0)],
    to: Annotated[str, typer.Option("--to", help="From where to read on: earliest, or an offset.")] = "earliest",
    yes: Annotated[
        bool, typer.Option("--yes", help="Also while a worker holds it: that worker claims it again.")
    ] = False,
    config: ConfigFile = None,
    kafka_url: KafkaUrl = None,
    redis_url: RedisUrl = None,
) -> None:
    """Read a source partition anew, under a new incarnation: after a gap, or when its topic was deleted and made again.

    Events read a second time are known by their event ids and change nothing; those older than the lateness go to the
    dead letters as late, though they were applied before.

    \b
    Examples:
      parcours sources reset clicks 3
      parcours sources reset clicks 3 --to 120000 --yes
    """
    if topic == JOURNEY:
        raise Usage(
            "journey-events is the log of record and can't be reset; what it has lost, parcours rebuild makes anew"
        )
    if topic not in TOPICS:
        raise Usage(f"TOPIC: {topic!r} is none of {', '.join(TOPICS)}")
    if to != "earliest" and not (to.isascii() and to.isdigit()):
        raise Usage(f"--to: {to!r} is neither 'earliest' nor an offset")
    infra = infrastructure(kafka_url=kafka_url, redis_url=redis_url, config=config)
    marketing = load_marketing(infra.config)
    stand, incarnation, offset = asyncio.run(_reset(infra, marketing, _reached(infra), topic, partition, to, yes))
    say(f"{topic}/{partition}: was at {stand.position.offset}, incarnation {stand.incarnation}")
    say(f"{topic}/{partition}: reads on from {offset}, incarnation {incarnation}")


async def _reset(
    infra: Infrastructure, marketing: Marketing, kafka: Kafka, topic: str, partition: int, to: str, yes: bool
) -> tuple[Stand, int, int]:
    found = {(stand.topic, stand.partition): stand for stand in await _stands(infra, marketing, kafka)}
    stand = found.get((topic, partition))
    if stand is None or stand.bounds is None:
        raise Failure(f"there is no partition {partition} of {topic}")
    if stand.alive and not yes:
        raise Failure(f"{stand.owner} holds {topic}/{partition} and reads it: stop it, or say --yes")
    begin, end = stand.bounds
    offset = begin if to == "earliest" else int(to)
    if not begin <= offset <= end:
        raise Failure(f"--to: {topic}/{partition} holds offsets from {begin} up to {end}")
    async with redis_at(infra) as redis:
        infra = await located(redis, infra)
        try:
            incarnation = await reset_source(redis, stand, infra.generation, offset)
        except RuntimeError as error:
            raise Failure(f"{topic}/{partition}: {error}") from None
    return stand, incarnation, offset


async def _stands(infra: Infrastructure, marketing: Marketing, kafka: Kafka) -> list[Stand]:
    async with redis_at(infra) as redis:
        infra = await located(redis, infra)
        return await stands(redis, kafka, marketing, infra.generation)


def _reached(infra: Infrastructure) -> Kafka:
    kafka = kafka_at(infra)
    redis_reachable(infra.redis_url, **redis_options(infra))
    return kafka


def _numbers(stand: Stand) -> tuple[object, object, object]:
    return (
        stand.position.offset,
        "-" if stand.bounds is None else stand.bounds.end,
        "-" if stand.lag is None else stand.lag,
    )


def _when(t: int | None) -> str:
    return "-" if t is None else when(t)


def _owner(stand: Stand) -> str:
    return stand.owner if stand.alive or not stand.owner else f"({stand.owner})"
