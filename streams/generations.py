"""Generations of stored state, and which workers are alive in one.

A generation is a log of record and the keys made from it. `parcours rebuild` starts the next one; the old stays as it is until it
is dropped.

| key | holds |
|---|---|
| `{parcours}generation` | the current generation; absent: 0 |
| `{parcours:<g>}workers` | hash: worker to `<Redis time, s> <what it is at, JSON>`; one not heard of for `ALIVE_SECONDS` is gone |
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec
from redis.asyncio import Redis

from models.settings import Infrastructure
from streams.tables import CHUNK, configs, ingest_tag, journey_tag

ALIVE_SECONDS = 10
"""How long after its last sign of life a worker counts as running."""

_KEY = "{parcours}generation"
# Redis' clock, not the workers': they may differ. Who has been silent for a day is forgotten.
_ALIVE = """
local now = tonumber(redis.call('TIME')[1])
for _, name in ipairs(redis.call('HKEYS', KEYS[1])) do
  local seen = tonumber(string.match(redis.call('HGET', KEYS[1], name), '^%d+'))
  if now - seen > 86400 then redis.call('HDEL', KEYS[1], name) end
end
redis.call('HSET', KEYS[1], ARGV[1], now .. ' ' .. ARGV[2])
return 1
"""

_ALIVE_NOW = """
local reply = redis.call('HGETALL', KEYS[1])
table.insert(reply, 1, redis.call('TIME')[1])
return reply
"""


async def current(redis: Redis) -> int | None:
    """The current generation; None when none was ever stored, which means 0 unless Redis lost it."""
    stored: bytes | None = await redis.execute_command("GET", _KEY)
    return None if stored is None else int(stored)


def pinned(infra: Infrastructure) -> bool:
    """Whether PARCOURS_GENERATION says which generation to use, in place of the current one."""
    return "generation" in infra.model_fields_set


async def located(redis: Redis, infra: Infrastructure) -> Infrastructure:
    """These settings with the generation to use: the one given, else the current one."""
    if pinned(infra):
        return infra
    return infra.model_copy(update={"generation": await current(redis) or 0})


async def prepare(redis: Redis, old: int, new: int, starts: Mapping[tuple[str, int], int]) -> None:
    """Lay out what workers of generation `new` start from: where to read each source partition, numbers that go on.

    Configuration numbers and the leader's epoch continue, so that a number means one configuration over all generations
    and the newest leader has the highest epoch. Raises ValueError when `new` has been worked on already.
    """
    for (topic, partition), offset in starts.items():
        meta = f"{ingest_tag(new, topic, partition)}meta"
        if await redis.execute_command("HEXISTS", meta, "token"):
            raise ValueError(f"generation {new} is in use: {meta} exists")
        await redis.execute_command("HSET", meta, "position", f"{offset}:0")
    for number, text in (await configs(redis, old)).items():
        await redis.execute_command("HSET", f"{{parcours:{new}}}config", number, text)
    # Alerts that fire go on firing under their ids; by the time the new generation has caught up, they are judged anew.
    alerts = await redis.execute_command("HGETALL", f"{journey_tag(old, 0)}alerts")
    for name, value in alerts.items():
        await redis.execute_command("HSET", f"{journey_tag(new, 0)}alerts", name, value)
    epoch = await redis.execute_command("GET", f"{{parcours:{old}}}epoch")
    if epoch is not None:
        await redis.execute_command("SET", f"{{parcours:{new}}}epoch", epoch)


async def switch(redis: Redis, new: int) -> None:
    """From now on workers and commands use generation `new`."""
    await redis.execute_command("SET", _KEY, new)


async def drop(redis: Redis, generation: int) -> AsyncIterator[int]:
    """Delete all keys of a generation, in chunks; yields how many are gone so far. Looks at every key of the database."""
    gone = 0
    for pattern in (f"{{parcours:{generation}:*", f"{{parcours:{generation}}}*"):
        keys: dict[bytes, list[bytes]] = {}
        async for key in redis.scan_iter(match=pattern, count=CHUNK):
            # Keys of one hash tag at a time: on a cluster only these are in one place.
            tag = key.partition(b"}")[0]
            own = keys.setdefault(tag, [])
            own.append(key)
            if len(own) >= CHUNK:
                gone += int(await redis.execute_command("UNLINK", *keys.pop(tag)))
                yield gone
        for own in keys.values():
            gone += int(await redis.execute_command("UNLINK", *own))
            yield gone


async def beat(redis: Redis, generation: int, owner: str, at: Mapping[str, Any]) -> None:
    """A sign of life of a worker, with what it is at."""
    await redis.execute_command("EVAL", _ALIVE, 1, _workers(generation), owner, msgspec.json.encode(at))


async def gone(redis: Redis, generation: int, owner: str) -> None:
    """A worker stopped in order."""
    await redis.execute_command("HDEL", _workers(generation), owner)


async def alive(redis: Redis, generation: int, within: int = ALIVE_SECONDS) -> dict[str, dict[str, Any]]:
    """The workers heard of `within` so many seconds, with what they said; a worker that was killed is among them until then."""
    seconds, *stored = await redis.execute_command("EVAL", _ALIVE_NOW, 1, _workers(generation))
    found = {}
    for owner, value in zip(stored[::2], stored[1::2], strict=True):
        seen, _, said = value.partition(b" ")
        if int(seconds) - int(seen) <= within:
            found[owner.decode()] = msgspec.json.decode(said)
    return found


def _workers(generation: int) -> str:
    return f"{{parcours:{generation}}}workers"
