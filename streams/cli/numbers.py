"""Where reports get their numbers from: files that are replayed, or what a running system has in Redis."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING

from models.settings import Infrastructure, Marketing
from streams.cli.common import Failure, marketing_of, note, progress

if TYPE_CHECKING:
    from attribution.replay import Replay
    from streams.view import View


def replayed(infra: Infrastructure, source: Path) -> Replay:
    """All events of these files attributed in one pass. Raises Failure when none is accepted."""
    from attribution.replay import Replay
    from streams.files import by_time, read

    marketing, rates = marketing_of(infra.config)
    replay = Replay(marketing, rates)
    records = by_time(read(source))
    with progress("reading", len(records)) as bar:
        for done, record in enumerate(records):
            replay.take(record.topic, record.value)
            if done % 1000 == 0:
                bar(done)
    if not replay.accepted:
        raise Failure(f"{source}: none of {len(records)} events was accepted; `parcours check {source}` says why")
    with progress("attributing", replay.accepted) as bar:
        replay.finish(bar)
    if replay.refused:
        note(f"{len(replay.refused)} of {len(records)} events were refused; `parcours check {source}` says why")
    return replay


def stored(infra: Infrastructure) -> View:
    """What the running system has applied, read once. Raises Failure when there is none."""
    from streams.cli.reach import redis_reachable
    from streams.security import redis_options

    redis_reachable(infra.redis_url, **redis_options(infra))
    return asyncio.run(_read(infra))


async def _read(infra: Infrastructure) -> View:
    from attribution.nodes.base import NEVER
    from streams.cli.reach import bare
    from streams.generations import located
    from streams.reach import counted
    from streams.security import redis_options
    from streams.tables import Tables, configs, connect, journey_tag
    from streams.view import Partition, View

    redis = connect(infra.redis_url, **redis_options(infra))
    try:
        generation = (await located(redis, infra)).generation
        known = await configs(redis, generation)
        if not known:
            raise Failure(
                f"no worker has used {bare(infra.redis_url)} yet (generation {generation}): nothing to report"
            )
        marketing = Marketing.from_text(known[max(known)])
        if infra.config is not None:
            own = marketing_of(infra.config)[0]
            if own.digest() == marketing.digest():
                marketing = own  # with its alerts and goals, whose names have series first
            else:
                note(f"{infra.config} is not what the workers run with: this is under theirs, {marketing.digest()}")
        count = marketing.topics.journey_events
        view = View(marketing, [Partition(p, Tables(redis, journey_tag(generation, p))) for p in range(count)])
        read = await asyncio.gather(*(part.read() for part in view.parts))
        end = view.ends(read, int(time.time() * 1_000_000))
        if end == NEVER or not any(changes.state for changes in read):
            raise Failure("no event has been applied yet: nothing to report")
        end = view.load(read, end)
        view.reached(await counted(((part.tables, part.names) for part in view.parts), end, view.calendar))
        view.take(await asyncio.gather(*(part.read() for part in view.parts)), end)
        return view
    finally:
        await redis.aclose()
