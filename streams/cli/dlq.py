"""`parcours dlq`: what was refused, and publishing it again."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any

import msgspec
import typer

from models.errors import CATALOGUE
from models.events import TOPICS
from models.settings import Infrastructure
from streams.cli.common import (
    FAILED,
    Failure,
    Json,
    KafkaUrl,
    RedisUrl,
    Usage,
    console,
    infrastructure,
    note,
    row,
    say,
    table,
    when,
)
from streams.cli.reach import kafka_reachable, redis_reachable
from streams.deadletters import Letter, Retry, letters
from streams.logs import Kafka
from streams.security import kafka_options, redis_options

app = typer.Typer(no_args_is_help=True, help="Dead letters: list them, publish them again.", rich_markup_mode="rich")
_FIRST_BYTES = 60
_STATES = {
    "retry": "published again",
    "retried": "already published again",
    "late": "late: would be late again",
    "forgotten": "of forgotten persons: not published",
    "not_retained": "no longer in its topic",
    "not_an_event": "a move inside the log, no event",
}

TopicOption = Annotated[
    str | None, typer.Option("--topic", help=f"Only of this source topic: {', '.join(TOPICS)}.", show_default=False)
]
CodeOption = Annotated[
    str | None, typer.Option("--code", help="Only with this code of docs/errors.md.", show_default=False)
]


@app.callback()
def dlq() -> None:
    """Dead letters: list them, publish them again."""


@app.command("list")
def list_(
    topic: TopicOption = None,
    code: CodeOption = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many to show: the newest.")] = 20,
    json: Json = False,
    kafka_url: KafkaUrl = None,
) -> None:
    """List dead letters: why each was refused, where it came from, and how it begins. Then counts by code.

    \b
    Examples:
      parcours dlq list
      parcours dlq list --topic purchases --code missing_rate
      parcours dlq list --limit 1000 --json
    """
    topics, codes = _chosen(topic, code)
    kafka = kafka_at(infrastructure(kafka_url=kafka_url))
    counts, newest = asyncio.run(_list(kafka, topics, codes, limit))
    if json:
        for letter in newest:
            say(msgspec.json.encode(as_json(letter)).decode())
        return
    if not counts:
        say("No dead letters.")
        return
    shown = table("code", "path", "message", "origin", "written (UTC)", "begins", right="")
    for letter in newest:
        shown.add_row(*row(
            letter.code, letter.path, letter.message, letter.origin, when(letter.written * 1000), _begins(letter)
        ))  # fmt: skip
    console().print(shown)
    say()
    console().print(_by_code(counts))


def _by_code(counts: Counter[str]) -> Any:
    shown = table("code", "letters", "fix", right="letters")
    for code, n in counts.most_common():
        shown.add_row(*row(code, n, CATALOGUE[code].fix if code in CATALOGUE else ""))
    return shown


@app.command("retry")
def retry(
    topic: TopicOption = None,
    code: CodeOption = None,
    every: Annotated[
        bool, typer.Option("--all", help="All of them; needed when neither --topic nor --code is given.")
    ] = False,
    again: Annotated[bool, typer.Option("--again", help="Also those that were published again before.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    kafka_url: KafkaUrl = None,
    redis_url: RedisUrl = None,
) -> None:
    """Publish the original events again, to their own topics, once what refused them is mended.

    Each is published once; --again repeats it. After a crash some may be published twice: their event ids make that harmless.
    A late event would be late again: --code late does it all the same; a rebuild with a longer `lateness` is what helps.

    \b
    Examples:
      parcours dlq retry --code missing_rate --dry-run
      parcours dlq retry --code missing_rate
      parcours dlq retry --all
    """
    if not (topic or code or every):
        raise Usage("say which: --topic, --code, or --all")
    topics, codes = _chosen(topic, code)
    infra = infrastructure(kafka_url=kafka_url, redis_url=redis_url)
    kafka = kafka_at(infra)
    redis_reachable(infra.redis_url, **redis_options(infra))
    states, lost = asyncio.run(_retry(infra, kafka, topics, codes, again=again, dry_run=dry_run))
    if not states:
        say("No dead letters.")
        return
    for state, text in _STATES.items():
        if states[state]:
            say(f"{states[state]} {'would be ' if dry_run and state == 'retry' else ''}{text}")
    if states["late"]:
        note("Late events need a rebuild under a longer `lateness`: see parcours rebuild --help.")
    for letter in lost:
        note(f"{letter.origin}: its topic no longer holds it; publish it from where it came from.")
    if lost:
        raise typer.Exit(FAILED)


async def _list(kafka: Kafka, topics: list[str], codes: list[str], limit: int) -> tuple[Counter[str], list[Letter]]:
    counts: Counter[str] = Counter()
    held: list[Letter] = []
    async for letter in letters(kafka, topics, codes):
        counts[letter.code] += 1
        held.append(letter)
        if len(held) >= 10 * limit:
            held = sorted(held, key=lambda item: item.written)[-limit:]
    return counts, sorted(held, key=lambda item: item.written)[-limit:]


async def _retry(
    infra: Infrastructure, kafka: Kafka, topics: list[str], codes: list[str], *, again: bool, dry_run: bool
) -> tuple[Counter[str], list[Letter]]:
    states: Counter[str] = Counter()
    lost = []
    async with redis_at(infra) as redis:
        refuses = await _of_forgotten(redis, infra)
        retrial = Retry(kafka, redis, late="late" in codes, again=again, dry_run=dry_run, forgotten=refuses)
        async for step in retrial.run(letters(kafka, topics, codes)):
            states[step.state] += 1
            if step.state == "not_retained":
                lost.append(step.letter)
    return states, lost


async def _of_forgotten(redis: Any, infra: Infrastructure) -> Callable[[bytes | None], bool]:
    """Whether an event is about a forgotten person. Raises Failure without the key for the forget list, when there is one."""
    from attribution.forgetting import Forgotten
    from streams.forgetting import about_forgotten, check_forget_key, listed
    from streams.generations import located

    hashes = await listed(redis, (await located(redis, infra)).generation)
    if not hashes:
        return lambda event: False
    if infra.hash_key is None:
        raise Failure(
            "PARCOURS_FORGET_KEY: set it, as for the workers: events of forgotten persons must not be published again"
        )
    await check_forget_key(redis, infra.forget_key)
    list_ = Forgotten(infra.hash_key, hashes)
    return lambda event: about_forgotten(event, list_)


def _chosen(topic: str | None, code: str | None) -> tuple[list[str], list[str]]:
    """Raises Usage for a topic or code that does not exist."""
    if topic is not None and topic not in TOPICS:
        raise Usage(f"--topic: {topic!r} is none of {', '.join(TOPICS)}")
    if code is not None and code not in CATALOGUE:
        raise Usage(f"--code: {code!r} is none of {', '.join(CATALOGUE)}")
    return [topic] if topic else list(TOPICS), [code] if code else []


def as_json(letter: Letter) -> dict[str, Any]:
    """A letter for programs; bytes that are no UTF-8 are replaced."""
    value = letter.value
    return {
        "code": letter.code, "path": letter.path, "message": letter.message, "topic": letter.topic,
        "partition": letter.partition, "offset": letter.offset, "incarnation": letter.incarnation,
        "written": when(letter.written * 1000), "retry_of": letter.retry_of, "whole": not letter.pointer,
        "key": None if letter.key is None else letter.key.decode("utf-8", "replace"),
        "value": None if value is None else value.decode("utf-8", "replace"),
    }  # fmt: skip


def _begins(letter: Letter) -> str:
    text = (letter.value or b"")[: _FIRST_BYTES * 4].decode("utf-8", "replace")
    return text if len(text) <= _FIRST_BYTES else f"{text[:_FIRST_BYTES]}…"


def kafka_at(infra: Infrastructure) -> Kafka:
    """Kafka, which answers. Raises Usage or Failure."""
    options = kafka_options(infra)
    return Kafka(kafka_reachable(infra.kafka_url, **options), options)


@asynccontextmanager
async def redis_at(infra: Infrastructure) -> AsyncIterator[Any]:
    """A client of Redis. Raises Failure when it goes away meanwhile."""
    from redis.exceptions import RedisError

    from streams.tables import connect

    redis = connect(infra.redis_url, **redis_options(infra))
    try:
        yield redis
    except RedisError as error:
        raise Failure(f"Redis failed: {error}") from None
    finally:
        await redis.aclose()
