"""One person's journey as Redis has it, explained: for `parcours journey` and the live page."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from redis.asyncio import Redis

from attribution.nodes.state import Person
from attribution.pseudonyms import Pseudonyms
from models.settings import Marketing
from streams.blocks import partition_of
from streams.codec import Names, unpack_node
from streams.tables import Tables, journey_tag

if TYPE_CHECKING:
    from streams.cli.explain import Journey


def keys_of(person: str) -> list[str]:
    """The person keys that `person` may mean: itself, or of a bare id the customer's, then the device's."""
    return [person] if person[:2] in ("c:", "a:") else [f"c:{person}", f"a:{person}"]


def stored_keys(person: str, marketing: Marketing, key: bytes | None) -> list[str]:
    """Under which keys a person may be stored: where ids are hashed, by the hash of the id, or by the hash itself as it is published."""
    keys = keys_of(person)
    if marketing.privacy.ids != "hashed":
        return keys
    return [*(map(Pseudonyms(key).person, keys) if key is not None else ()), *keys]


async def find(
    redis: Redis, generation: int, marketing: Marketing, person: str, key: bytes | None = None
) -> Journey | None:
    """The journey of the first key of `person` that is known; None when none is. `key`: of the hashes of ids, where these are stored as such.

    `marketing` tells the partitions, and applies where a partition has no configuration yet.
    """
    from streams.cli.explain import explain

    for node_key in stored_keys(person, marketing, key):
        tables = Tables(redis, journey_tag(generation, partition_of(node_key, marketing.topics.journey_events)))
        packed, text = await tables.get([f"n:{node_key}", "config"])
        if packed is None:
            continue
        # Names are read after the node: all that it uses are there.
        names = Names({int(number): name for number, name in (await tables.hgetall("names")).items()})
        node = unpack_node(packed, names)
        assert isinstance(node, Person)
        applies = Marketing.from_text(text.decode()) if text else marketing
        return await asyncio.to_thread(explain, node_key, node, applies)
    return None
