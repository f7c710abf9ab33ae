"""`parcours journey`: one person's touches, conversions and credits, as Redis has them."""

from __future__ import annotations

import asyncio
from typing import Annotated

import msgspec
import typer

from models.settings import Infrastructure
from streams.cli.common import Failure, Json, RedisUrl, console, infrastructure, row, say, table, when
from streams.cli.explain import Journey
from streams.cli.reach import bare, redis_reachable
from streams.security import redis_options

NAME = "journey"


def command(
    person: Annotated[str, typer.Argument(metavar="PERSON", help="c:CUSTOMER_ID, a:ANONYMOUS_ID, or the id alone.")],
    json: Json = False,
    redis_url: RedisUrl = None,
) -> None:
    """Show a person's touches and conversions, who is credited for each, and why.

    Exit code 1 when the person is not known.

    \b
    Examples:
      parcours journey c:42
      parcours journey a:device-7 --json
      parcours journey 42
    """
    infra = infrastructure(redis_url=redis_url)
    redis_reachable(infra.redis_url, **redis_options(infra))
    found = asyncio.run(_find(infra, person))
    if json:
        say(msgspec.json.encode(found).decode())
    else:
        _print(found)


async def _find(infra: Infrastructure, person: str) -> Journey:
    from models.settings import Marketing
    from streams.forgetting import check_forget_key
    from streams.generations import located
    from streams.journeys import find, keys_of
    from streams.tables import configs, connect

    url = infra.redis_url
    redis = connect(url, **redis_options(infra))
    try:
        generation = (await located(redis, infra)).generation
        known = await configs(redis, generation)
        if not known:
            raise Failure(f"no worker has used {bare(url)} yet (generation {generation}): there are no journeys in it")
        marketing = Marketing.from_text(known[max(known)])
        if marketing.privacy.ids == "hashed" and infra.forget_key is not None:
            await check_forget_key(redis, infra.forget_key)
        found = await find(redis, generation, marketing, person, infra.hash_key)
    finally:
        await redis.aclose()
    if found is None and marketing.privacy.ids == "hashed" and infra.hash_key is None:
        raise Failure(
            f"nothing is known under {' or '.join(keys_of(person))}: ids are stored as hashes; set PARCOURS_FORGET_KEY as for the workers to look up an id as it was sent"
        )
    if found is None:
        raise Failure(f"no touch and no conversion of {' or '.join(keys_of(person))} is known")
    return found


def _print(found: Journey) -> None:
    say(f"{found.person}: {len(found.touches)} touch events, {len(found.conversions)} conversions")
    for link in found.links:
        say(f"belongs to {link.customer} since {when(link.t)}")
    if found.shared:
        say("shared by too many customers: what is anonymous on it now is nobody's but its own")
    for other in found.exchanged:
        way = "came from" if found.person.startswith("c:") else "went to"
        say(f"{other.touches} touch events and {other.conversions} conversions {way} {other.person}")
    if found.truncated:
        say(f"truncated: the journey grew too long, and touches up to {found.truncated} are gone")
    if found.closed:
        say(f"truncated: too many conversions; those up to {found.closed} stay as they are published")
    if found.touches:
        shown = table("time (UTC)", "class", "kind", "channel", "network", "campaign", "taken as", "event", "device")
        for touch in found.touches:
            shown.add_row(*row(
                when(touch.t), touch.touch_class, touch.kind, touch.channel, touch.network, touch.campaign,
                f"{touch.taken_as} of {touch.landing_of}" if touch.landing_of else touch.taken_as, touch.event_id, (touch.device or "").removeprefix("a:"),
            ))  # fmt: skip
        say()
        console().print(shown)
    for conversion in found.conversions:
        say()
        say(
            f"{when(conversion.t)}  {conversion.type} {conversion.name}: {conversion.net} {found.currency} net, {conversion.status}"
            + (", truncated" if conversion.truncated else "")
        )
        for once in conversion.restatements:
            by = f" (when event time was at {once.watermark})" if once.watermark else ""
            say(f"restated: {once.why}{by}")
        if conversion.touches:
            shown = table("touch", "age", "window", "")
            for one in conversion.touches:
                shown.add_row(*row(one.touch_id, one.age, one.window, one.verdict))
            console().print(shown)
        if conversion.credits:
            shown = table("model", "credit")
            for model, credits in conversion.credits.items():
                text = ", ".join(f"{credit.network} {credit.campaign} {credit.percent}" for credit in credits)
                shown.add_row(*row(model, text))
            console().print(shown)
    if found.conversions:
        say()
        for conversion in found.conversions:
            say(conversion.sentence)
