"""`parcours forget`: a person's erasure, from the event to what is left of it."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import uuid4

import msgspec
import typer

from models.settings import Infrastructure, Marketing
from streams.cli.common import Failure, KafkaUrl, RedisUrl, Usage, infrastructure, note, say
from streams.cli.dlq import kafka_at, redis_at
from streams.cli.reach import redis_reachable
from streams.logs import Kafka, writer
from streams.security import redis_options

NAME = "forget"
_PAUSE = 0.2


def command(
    customer_id: Annotated[
        str | None,
        typer.Option("--customer-id", help="The customer, and every device ever linked to it.", show_default=False),
    ] = None,
    anonymous_id: Annotated[
        str | None, typer.Option("--anonymous-id", help="The device or cookie.", show_default=False)
    ] = None,
    sweep: Annotated[
        bool,
        typer.Option(
            "--sweep",
            help="Take out of the topic attributions what still names anybody who is forgotten (needs PARCOURS_FORGET_KEY).",
        ),
    ] = False,
    wait: Annotated[
        float, typer.Option("--wait", min=0, help="Seconds to wait until all workers have done it; 0: don't wait.")
    ] = 60.0,
    kafka_url: KafkaUrl = None,
    redis_url: RedisUrl = None,
) -> None:
    """Forget a person: journey, links, orders and ids go from Redis and from the topic attributions, and do not come back.

    Publishes a forget event and waits until every partition has the person on its forget list. What the person brought stays
    in the sums. The topics of events, of dead letters and the log keep theirs as long as you tell Kafka to: see docs/privacy.md.

    \b
    Examples:
      parcours forget --customer-id 42
      parcours forget --customer-id 42 --anonymous-id d-1f0c --sweep
      parcours forget --sweep
    """
    ids = {"customer_id": customer_id, "anonymous_id": anonymous_id}
    who = {name: text.strip() for name, text in ids.items() if text is not None}
    for name, text in who.items():
        if not text:
            raise Usage(f"--{name.replace('_', '-')}: it is empty")
    if not who and not sweep:
        raise Usage("say whom: --customer-id, --anonymous-id, or both")
    infra = infrastructure(kafka_url=kafka_url, redis_url=redis_url)
    if sweep and infra.forget_key is None:
        raise Usage("--sweep: set PARCOURS_FORGET_KEY as for the workers: without it the forget list can't be read")
    kafka = kafka_at(infra)
    redis_reachable(infra.redis_url, **redis_options(infra))
    asyncio.run(_forget(infra, kafka, who, wait, sweep))


async def _forget(infra: Infrastructure, kafka: Kafka, who: dict[str, str], wait: float, sweep: bool) -> None:
    from streams.forgetting import check_forget_key, has_key
    from streams.generations import located
    from streams.tables import configs

    async with redis_at(infra) as redis:
        if not await has_key(redis):
            raise Failure(
                "no worker has had PARCOURS_FORGET_KEY: set it for all workers, then nobody who is forgotten comes back"
            )
        if infra.forget_key is not None:
            await check_forget_key(redis, infra.forget_key)
        generation = (await located(redis, infra)).generation
        known = await configs(redis, generation)
        if not known:
            raise Failure(f"no worker has run in generation {generation} yet: there is nothing to forget in it")
        marketing = Marketing.from_text(known[max(known)])
        if who:
            await _ask(infra, kafka, redis, marketing, generation, who, wait)
        if sweep:
            await _sweep(infra, kafka, redis, generation)
        if generation:
            note(f"Generations before {generation} are not touched: parcours rebuild --drop each that is still stored.")


async def _ask(
    infra: Infrastructure,
    kafka: Kafka,
    redis: Any,
    marketing: Marketing,
    generation: int,
    who: dict[str, str],
    wait: float,
) -> None:
    from streams.forgetting import everywhere_listed

    event = {
        "event_id": str(uuid4()), "occurred_at": datetime.now(UTC).isoformat(), "type": "forget",
        "source": "parcours forget", **who,
    }  # fmt: skip
    await _publish(kafka, who, msgspec.json.encode(event))
    say("The forget event is published.")
    if infra.forget_key is None or not wait:
        note("Not waited for: with PARCOURS_FORGET_KEY set as for the workers, parcours forget says when it is done.")
        return
    nodes = [f"{name[0]}:{text}" for name, text in who.items()]
    partitions = marketing.topics.journey_events
    deadline = time.monotonic() + wait
    while not await everywhere_listed(redis, generation, partitions, infra.forget_key, nodes):
        if time.monotonic() > deadline:
            raise Failure(
                f"not done within {wait:g} s: the workers do it when they come to it (see parcours sources, and parcours dlq list)"
            )
        await asyncio.sleep(_PAUSE)
    say(f"Forgotten in all {partitions} partitions.")


async def _publish(kafka: Kafka, who: dict[str, str], value: bytes) -> None:
    from aiokafka.errors import KafkaError

    key = who.get("customer_id") or who["anonymous_id"]
    try:
        async with writer(kafka) as producer:
            await producer.send_and_wait("touchpoints", value, key=key.encode())
    except KafkaError as error:
        raise Failure(f"Kafka did not take it: {error}") from None


async def _sweep(infra: Infrastructure, kafka: Kafka, redis: Any, generation: int) -> None:
    """Tombstones for what is left: of persons whose nodes had expired when they were forgotten."""
    from attribution.forgetting import Forgotten
    from streams.forgetting import leftovers, listed

    assert infra.hash_key is not None
    hashes = await listed(redis, generation)
    # Generations of both kinds may have published there: with ids as sent, and with hashes of ids.
    lists = [Forgotten(infra.hash_key, hashes, hashed=hashed) for hashed in (False, True)]
    found = [key async for key in leftovers(kafka, lists)]
    async with writer(kafka) as producer:
        for key in found:
            await producer.send_and_wait("attributions", None, key=key)
    say(
        f"{len(found)} attributions of forgotten persons are taken back; Kafka removes them when it compacts the topic."
    )
