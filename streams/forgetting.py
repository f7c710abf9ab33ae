"""The forget list outside the fold: the key that it is kept under, who is on it, carrying it over to another generation, and what is
left of the forgotten in `attributions`.

| key | holds |
|---|---|
| `{parcours}forget_key` | a keyed hash of a constant: by it a worker sees that it has the same key as those before |
| `{parcours:<g>:<p>}forgotten` | the forget list of a partition: persons are on that of each, an order on that of its own |
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import aclosing

import msgspec
from pydantic import SecretStr
from redis.asyncio import Redis

from attribution.forgetting import STAYS, Forgotten, everywhere, lasting
from attribution.pseudonyms import keyed_hash
from models.errors import ConfigError
from models.settings import Marketing
from models.wire import FORMAT, Block, Forget, decode_block, encode
from streams.blocks import partition_of
from streams.erasing import FORGOTTEN_SET
from streams.logs import Kafka, records
from streams.tables import Tables, configs, journey_tag
from streams.topics import journey_topic

_KEY = "{parcours}forget_key"
_CONSTANT = "the key of the forget list, 2"
_FORMER = "the key of the forget list"
"""Under it lists were made of ids as they were sent, and not of their pseudonyms: nobody is found on such a one now."""
_SEED = "forgotten/0"
_HASHES = 5_000
_decode = msgspec.json.Decoder().decode


async def check_forget_key(redis: Redis, key: SecretStr | None, *, register: bool = False) -> None:
    """Raises ConfigError for another key than the one under which persons were forgotten, or none: the list can't be read with it.

    `register` makes the key that of all workers, where none had one before: for a worker alone, a command only looks.
    """
    stored: bytes | None = await redis.execute_command("GET", _KEY)
    if key is None:
        if stored is not None:
            raise ConfigError("PARCOURS_FORGET_KEY: not set, and workers before had one: set the same")
        return
    secret = key.get_secret_value().encode()
    own = keyed_hash(secret, _CONSTANT).hex().encode()
    if stored is None and register:
        await redis.execute_command("SETNX", _KEY, own)
        stored = await redis.execute_command("GET", _KEY)
    if stored == keyed_hash(secret, _FORMER).hex().encode():
        raise ConfigError(
            f"the forget list is of an earlier version, and can't be read: delete the key {_KEY} in Redis, parcours rebuild, and forget everybody again whose forget event is not in touchpoints any more"
        )
    if stored not in (None, own):
        raise ConfigError(
            "PARCOURS_FORGET_KEY: not the key of the workers before; with another one the forget list can't be read: set the same"
        )


async def has_key(redis: Redis) -> bool:
    """Whether any worker has had a key: without one, nobody can be forgotten."""
    return await redis.execute_command("GET", _KEY) is not None


async def listed(redis: Redis, generation: int) -> set[bytes]:
    """The forget list of a generation: all partitions together."""
    known = await configs(redis, generation)
    if not known:
        return set()
    count = Marketing.from_text(known[max(known)]).topics.journey_events
    found: set[bytes] = set()
    for partition in range(count):
        found |= await Tables(redis, journey_tag(generation, partition)).smembers(FORGOTTEN_SET)
    return found


def seeds(hashes: Iterable[bytes], partitions: int) -> Iterator[tuple[int, bytes]]:
    """(partition, block) of what a new log begins with: the forget list of the generation before."""
    every = lasting(hashes)
    for i in range(0, len(every), _HASHES):
        for entry in everywhere((), partitions, i, every[i : i + _HASHES]):
            yield partition_of(entry.key, partitions), encode(Block(FORMAT, _SEED, [entry]))


def seeded(value: bytes | None) -> set[bytes] | None:
    """The hashes in a block of `seeds`; None for any other: before these a log has nothing else."""
    try:
        block = decode_block(value or b"")
    except msgspec.DecodeError:
        return None
    if block.source != _SEED:
        return None
    return {known for entry in block.entries if isinstance(entry, Forget) for known in entry.hashes}


async def begun_with(kafka: Kafka, generation: int) -> set[bytes]:
    """The forget list that the log of a generation begins with, whether a worker has read it yet or not."""
    found: set[bytes] = set()
    async with aclosing(records(kafka, [journey_topic(generation)])) as log:
        async for record in log:
            if record.partition == 0:  # each partition begins with the same
                hashes = seeded(record.value)
                if hashes is None:
                    break
                found |= hashes
    return found


async def listed_before(redis: Redis, before: int) -> set[bytes]:
    """The forget lists of all generations before this one that Redis has, together."""
    found: set[bytes] = set()
    for generation in range(before):
        found |= await listed(redis, generation)
    return found


def about_forgotten(value: bytes | None, forgotten: Forgotten) -> bool:
    """Whether an event, as its JSON says, names a person, device or order that is forgotten. What is no JSON object names nobody.

    Ids are as they were sent, so `forgotten` is a list of such, however the workers store them.
    """
    try:
        event = _decode(value or b"")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    if not isinstance(event, dict):
        return False
    fields = (("customer_id", "c:"), ("anonymous_id", "a:"), ("order_id", "o:"), ("order_id", f"{STAYS}o:"))
    named = [prefix + text.strip() for field, prefix in fields if isinstance(text := event.get(field), str)]
    return any(name in forgotten for name in named)


async def leftovers(kafka: Kafka, lists: Sequence[Forgotten]) -> AsyncIterator[bytes]:
    """Keys of `attributions` that still name a forgotten person or order and have a value: published before, of nodes that had
    expired when their person was forgotten."""
    standing: dict[bytes, bool] = {}
    async for record in records(kafka, ["attributions"]):
        if record.key is not None:
            standing[record.key] = record.value is not None
    for key, stands in standing.items():
        if stands and any(_names(key.decode("utf-8", "replace"), forgotten) for forgotten in lists):
            yield key


def _names(key: str, forgotten: Forgotten) -> bool:
    """Whether `<conversion>|<person>` names somebody forgotten, or their order. An id may have a `|` too: where it is divided is not known."""
    bars = [i for i, letter in enumerate(key) if letter == "|"]
    return any(name in forgotten for i in bars for name in (key[:i], STAYS + key[:i], key[i + 1 :]))


async def everywhere_listed(
    redis: Redis, generation: int, partitions: int, key: SecretStr, nodes: Iterable[str]
) -> bool:
    """Whether all of these persons, by their ids as they were sent, are on the forget list of every partition."""
    forgotten = Forgotten(key.get_secret_value().encode())
    hashes = [forgotten.hash(node) for node in nodes]
    for partition in range(partitions):
        table = Tables(redis, journey_tag(generation, partition))
        if not all(await redis.execute_command("SMISMEMBER", table.key(FORGOTTEN_SET), *hashes)):
            return False
    return True
