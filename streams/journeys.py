"""One person's journey as Redis has it, explained: for `parcours journey` and the live page."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from redis.asyncio import Redis

from attribution.nodes.state import Person
from models.settings import Marketing
from streams.blocks import partition_of
from streams.codec import Names, unpack_node
from streams.tables import Tables, journey_tag

if TYPE_CHECKING:
    from streams.cli.explain import Journey


def keys_of(person: str) -> list[str]:
    """The person keys that `person` may mean: itself, or of a bare id the customer's, then the device's."""
    return [person] if person[:2] in ("c:", "a:") else [f"c:{person}", f"a:{person}"]


async def find(redis: Redis, generation: int, marketing: Marketing, person: str) -> Journey | None:
    """The journey of the first key of `person` that is known; None when none is.

    `marketing` tells the partitions, and applies where a partition has no configuration yet.
    """
    from streams.cli.explain import explain

    for key in keys_of(person):
        tables = Tables(redis, journey_tag(generation, partition_of(key, marketing.topics.journey_events)))
        packed, text = await tables.get([f"n:{key}", "config"])
        if packed is None:
            continue
        # Names are read after the node: all that it uses are there.
        names = Names({int(number): name for number, name in (await tables.hgetall("names")).items()})
        node = unpack_node(packed, names)
        assert isinstance(node, Person)
        applies = Marketing.from_text(text.decode()) if text else marketing
        return await asyncio.to_thread(explain, key, node, applies)
    return None
