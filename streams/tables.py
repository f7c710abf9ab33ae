"""Redis-backed state of one partition: its position, state blob, nodes and rollups, moved together or not at all.

All keys of a partition share the hash tag in front of them (`journey_tag`, `ingest_tag`), so one script call is atomic on
Redis Cluster too. Core commands only: Redis 7.0 and later, Valkey.

| key | holds |
|---|---|
| `<tag>meta` | hash: token, owner, generation, format, config, position (`offset:entry`), seq, state |
| `<tag>ch` | sorted set: suffix of each live rollup hash by the seq of the commit that last changed it |
| `<tag>cd` | sorted set: suffix of each deleted one by the seq of the commit that deleted it, for `KEEP` commits |
| `<tag><suffix>` | what `Writes` says |
| `{parcours:<g>}config` | hash: configuration number to its text, for all partitions of a generation |

Redis Cluster: a commit reaches keys that its call does not declare. They are in the slot of the declared one, which is enough, save
while that slot is being moved key by key to another server: stop the workers for that.
"""

from __future__ import annotations

import asyncio
import enum
import hashlib
import secrets
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import resources
from itertools import chain
from typing import Any, Literal, NamedTuple, TypeVar

import msgspec
from redis import exceptions
from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster

from models.errors import ConfigError
from streams.redis_client import connect as connect  # noqa: PLC0414 (for callers of this module)

CHUNK = 1000  # keys, or key and value pairs, per command: Lua's unpack() fails near 8,000 values
KEEP = 10_000  # commits for which a deletion is remembered; a reader further behind reads everything
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0  # seconds between tries while Redis is away
_RESERVED = frozenset(("meta", "ch", "cd"))
_pack = msgspec.msgpack.Encoder().encode
T = TypeVar("T")


class Position(NamedTuple):
    """The next thing to apply: Kafka offset, and entry within that record. `(0, 0)` when nothing is stored."""

    offset: int
    entry: int = 0


class Claimed(NamedTuple):
    """A partition taken. `config` is the number last committed (0: none), `seq` that of the last commit (0: none)."""

    token: str
    position: Position
    state: bytes | None
    config: int
    seq: int


class Refused(NamedTuple):
    """A claim refused: `stored` is the generation, configuration number or format found; force helps for `generation` only."""

    reason: Literal["generation", "config", "format"]
    stored: int
    owner: str


class Outcome(enum.Enum):
    """What became of a commit; see `Tables.commit`."""

    APPLIED = "applied"
    REWIND = "rewind"
    FENCED = "fenced"


class Committed(NamedTuple):
    """`position` is the one now stored."""

    outcome: Outcome
    position: Position


class Changes(NamedTuple):
    """What a reader must take over. `full`: forget everything held before. An empty hash is deleted. `calls`: round trips."""

    token: str | None
    seq: int
    position: Position
    state: bytes | None
    full: bool
    hashes: dict[str, dict[bytes, bytes]]
    calls: int


class Away(Exception):
    """Redis did not answer before the work was stopped. Whether the last call took effect is unknown."""


@dataclass(slots=True)
class Writes:
    """What one commit sets, by key suffix. Deletions come first, so a key in `deletes` and elsewhere starts anew.

    A key is of one kind only. `changed` names the rollup hashes this commit touches, those in `deletes` included: readers
    learn of nothing else. Delete a rollup hash with `deletes`; one emptied by `hdels` leaves its entry behind.
    """

    sets: dict[str, bytes] = field(default_factory=dict)
    deletes: set[str] = field(default_factory=set)
    hashes: dict[str, dict[bytes | str, bytes]] = field(default_factory=dict)
    hdels: dict[str, list[bytes | str]] = field(default_factory=dict)
    sadd: dict[str, list[bytes | str]] = field(default_factory=dict)
    srem: dict[str, list[bytes | str]] = field(default_factory=dict)
    pfadd: dict[str, list[bytes | str]] = field(default_factory=dict)
    changed: list[str] = field(default_factory=list)


class Script:
    """A script of `streams/lua`, called by its hash; its first key decides where it runs."""

    def __init__(self, name: str) -> None:
        self.text = (resources.files("streams") / "lua" / name).read_text("utf-8")
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    async def __call__(self, redis: Redis, keys: Sequence[str], *args: bytes | str | int) -> Any:
        try:
            return await redis.execute_command("EVALSHA", self.sha, len(keys), *keys, *args)
        except exceptions.NoScriptError:  # Redis restarted: EVAL brings it back
            return await redis.execute_command("EVAL", self.text, len(keys), *keys, *args)


_CLAIM, _COMMIT, _CHANGES = Script("claim.lua"), Script("commit.lua"), Script("changes.lua")


def journey_tag(generation: int, partition: int) -> str:
    """The hash tag of a partition of `journey-events`."""
    return f"{{parcours:{generation}:{partition}}}"


def ingest_tag(generation: int, topic: str, partition: int) -> str:
    """The hash tag of a partition of a source topic."""
    return f"{{parcours:{generation}:{topic}:{partition}}}"


class Tables:
    """The tables of one partition. Without a state of its own: any number may look at the same partition."""

    def __init__(self, redis: Redis, tag: str) -> None:
        """`tag`: from `journey_tag` or `ingest_tag`."""
        self._redis = redis
        self._tag = tag
        self._prefix = tag.encode()
        self._meta = self.key("meta")

    def key(self, suffix: str) -> str:
        """The whole key."""
        return self._tag + suffix

    async def claim(
        self, owner: str, generation: int, *, config: int, formats: Iterable[int], force: bool = False
    ) -> Claimed | Refused:
        """Take the partition under a fresh random token, from which on every earlier token is fenced.

        Refused for a stored format not among `formats`, a stored configuration above `config`, and, unless `force`, a stored
        Kafka generation above `generation`. The highest of `formats` is stored: from now on values may have it.
        When the reply is lost, claim again: only the last token counts.
        """
        readable = sorted(formats, reverse=True)
        token = secrets.token_hex(16)
        reply = await _CLAIM(self._redis, [self._meta], token, owner, generation, config, int(force), *readable)
        if reply[0] != b"ok":
            return Refused(reply[0].decode(), int(reply[1]), (reply[2] or b"").decode())
        _, position, state, stored, seq = reply
        return Claimed(token, _position(position), state, int(stored or 0), int(seq or 0))

    async def commit(
        self, token: str, before: Position, after: Position, state: bytes, seq: int, config: int, writes: Writes
    ) -> Committed:
        """Compare and set: `writes`, `state`, `seq` (above the last one) and `config`, if all is as the caller believes.

        | stored token | stored position | outcome | why |
        |---|---|---|---|
        | ours | = before | APPLIED | written now |
        | ours | = after | APPLIED | written before: the reply was lost |
        | ours | behind before | REWIND | Redis lost the tail of its log, but not our claim |
        | ours | elsewhere | FENCED | not from this sequence of commits: claim again to learn the truth |
        | none | any | REWIND | Redis was emptied, our claim with it; nobody has claimed since |
        | another | any | FENCED | somebody claimed after us, or Redis lost our claim and an older one is back (note) |

        Note: that older claim may be our own, and the position behind `before`; still nothing tells it from somebody else's
        newer one after Redis went back, so it is no position to seek to before a claim of ours says so.
        Nothing is written unless APPLIED. After REWIND and FENCED alike: forget all caches and, if the partition is still assigned,
        claim, which gives the position to seek to, the state to go on from, and the new token by which readers see that
        Redis went back. Raises ValueError for `writes` that contradict themselves, redis ResponseError (WRONGTYPE) when
        a key exists with another type; both leave everything as it was.
        """
        # Measured for 500 sets of 250 bytes and 300 hash fields of 20 on two cores, client CPU + server's script + whole
        # round trip in microseconds: keys and values as arguments 1250 + 780 + 2400 (redis-py's asyncio client packs
        # in Python), packed by hiredis 480 + 740 + 1660, as here 350 + 1000 + 1550
        # (480 with every check and the index of changes). cmsgpack can't read msgpack's binary type: so
        # lengths, and one body.
        commands = list(self._commands(writes, seq))
        lengths = _pack([list(map(len, words)) for words in commands])
        body = b"".join(chain.from_iterable(commands))
        was, then = _text(before), _text(after)
        reply = await _COMMIT(self._redis, [self._meta], token, was, then, state, seq, config, lengths, body)
        if reply == 1:
            return Committed(Outcome.APPLIED, after)
        holder, stored = reply[0], _position(reply[1])
        if holder is None:
            return Committed(Outcome.REWIND, stored)
        if holder != token.encode():
            return Committed(Outcome.FENCED, stored)
        if stored == after:
            return Committed(Outcome.APPLIED, stored)
        return Committed(Outcome.REWIND if stored < before else Outcome.FENCED, stored)

    async def get(self, suffixes: Sequence[str]) -> list[bytes | None]:
        """Values of string keys, in order; None where absent. One round trip."""
        keys = [self._tag + suffix for suffix in suffixes]
        if len(keys) <= CHUNK:
            return await self._redis.execute_command("MGET", *keys) if keys else []
        async with self._redis.pipeline(transaction=False) as pipe:
            for at in range(0, len(keys), CHUNK):
                pipe.execute_command("MGET", *keys[at : at + CHUNK])  # `mget` of a cluster's pipeline is another thing
            return list(chain.from_iterable(await pipe.execute()))

    async def hget(self, pairs: Sequence[tuple[str, bytes | str]]) -> list[bytes | None]:
        """Values of (hash suffix, field), in order; None where absent. One round trip."""
        places: dict[str, list[int]] = {}
        for i, (suffix, _) in enumerate(pairs):
            places.setdefault(suffix, []).append(i)
        found: list[bytes | None] = [None] * len(pairs)
        if not pairs:
            return found
        async with self._redis.pipeline(transaction=False) as pipe:
            for suffix, at in places.items():
                pipe.execute_command("HMGET", self.key(suffix), *[pairs[i][1] for i in at])
            for at, values in zip(places.values(), await pipe.execute(), strict=True):
                for i, value in zip(at, values, strict=True):
                    found[i] = value
        return found

    async def hgetall(self, suffix: str) -> dict[bytes, bytes]:
        """A whole hash; empty when absent."""
        found: dict[bytes, bytes] = await self._redis.execute_command("HGETALL", self.key(suffix))
        return found

    async def smembers(self, suffix: str) -> set[bytes]:
        """A whole set; empty when absent."""
        return set(await self._redis.execute_command("SMEMBERS", self.key(suffix)))

    async def pfcount(self, groups: Sequence[Sequence[str]]) -> list[int]:
        """How many different members the HyperLogLogs of each group have together. One round trip."""
        if not groups:
            return []
        async with self._redis.pipeline(transaction=False) as pipe:
            for suffixes in groups:
                pipe.execute_command("PFCOUNT", *[self.key(suffix) for suffix in suffixes])
            return [int(count) for count in await pipe.execute()]

    async def stands(self, token: str, position: Position) -> bool:
        """Whether the partition is still ours and where we left it. False when Redis went back, or somebody claimed."""
        held, stored = await self._redis.execute_command("HMGET", self._meta, "token", "position")
        return bool(held == token.encode() and _position(stored) == position)

    async def sample(self, suffix: str, count: int) -> list[bytes]:
        """Up to `count` different members of a set; all of them when it has fewer."""
        found: list[bytes] = await self._redis.execute_command("SRANDMEMBER", self.key(suffix), count)
        return found

    async def live(self) -> list[str]:
        """Suffixes of all rollup hashes that exist, in no particular order."""
        found: list[bytes] = await self._redis.execute_command("ZRANGE", self.key("ch"), 0, -1)
        return [suffix.decode() for suffix in found]

    async def changes(self, token: str | None, seq: int, *, limit: int = 5000) -> Changes:
        """What changed since this reader last saw (`token`, `seq`); `(None, 0)` at first. The result is as of one instant.

        `full` when the token is another one, when Redis went back behind `seq`, or when `seq` is more than `KEEP` commits old. One
        call to Redis when at most about `limit` fields changed, else several: commits in between only add to what is
        still to come, so the result is the state at the last call.
        """
        keys = [self._meta, self.key("ch"), self.key("cd")]
        hashes: dict[str, dict[bytes, bytes]] = {}
        held, since, calls, full, more = token or "", b"%d" % seq, 0, False, 0
        while True:
            reply = await _CHANGES(self._redis, keys, self._tag, held, since, limit, KEEP, int(more))
            stored, at, position, state, restart, more, last = reply[:7]
            if restart:
                full = True
                hashes.clear()
            for suffix, fields in zip(reply[7::2], reply[8::2], strict=True):
                hashes[suffix.decode()] = dict(zip(fields[::2], fields[1::2], strict=True))
            held, since, calls = (stored or b"").decode(), last, calls + 1
            if not more:
                break
        if full:
            hashes = {suffix: fields for suffix, fields in hashes.items() if fields}
        return Changes(held or None, int(at or 0), _position(position), state, full, hashes, calls)

    def _commands(self, writes: Writes, seq: int) -> Iterator[list[bytes]]:
        """The commands of a commit, each of at most 2 * CHUNK + 2 words."""
        _check(writes)
        prefix = self._prefix

        def many(name: bytes, words: Sequence[bytes], size: int = CHUNK) -> Iterator[list[bytes]]:
            for at in range(0, len(words), size):
                yield [name, *words[at : at + size]]

        def keyed(name: bytes, table: dict[str, list[bytes | str]]) -> Iterator[list[bytes]]:
            for suffix, members in table.items():
                for at in range(0, len(members), CHUNK):
                    yield [name, prefix + suffix.encode(), *_bytes(members[at : at + CHUNK])]

        yield from many(b"DEL", [prefix + suffix.encode() for suffix in sorted(writes.deletes)])
        yield from keyed(b"HDEL", writes.hdels)
        yield from keyed(b"SREM", writes.srem)
        pairs: list[bytes] = []
        for suffix, value in writes.sets.items():
            pairs += (prefix + suffix.encode(), value)
        yield from many(b"MSET", pairs, 2 * CHUNK)
        for suffix, fields in writes.hashes.items():
            words = _bytes(chain.from_iterable(fields.items()))
            for at in range(0, len(words), 2 * CHUNK):
                yield [b"HSET", prefix + suffix.encode(), *words[at : at + 2 * CHUNK]]
        yield from keyed(b"SADD", writes.sadd)
        yield from keyed(b"PFADD", writes.pfadd)
        if writes.changed:
            yield from self._changed(writes, b"%d" % seq)

    def _changed(self, writes: Writes, seq: bytes) -> Iterator[list[bytes]]:
        live, dead = self._prefix + b"ch", self._prefix + b"cd"
        gone = {suffix for suffix in writes.changed if suffix in writes.deletes and suffix not in writes.hashes}
        kept = set(writes.changed) - gone
        for suffixes, into, out in ((kept, live, dead), (gone, dead, live)):
            names = [suffix.encode() for suffix in sorted(suffixes)]
            for at in range(0, len(names), CHUNK):
                part = names[at : at + CHUNK]
                yield [b"ZREM", out, *part]
                yield [b"ZADD", into, *chain.from_iterable((seq, name) for name in part)]
        if gone:
            yield [b"ZREMRANGEBYSCORE", dead, b"-inf", b"(%d" % (int(seq) - KEEP)]


def _check(writes: Writes) -> None:
    """Raises ValueError for what would fail halfway through a commit, or overwrite a table's own keys."""
    strings, hashes = writes.sets.keys(), writes.hashes.keys() | writes.hdels.keys()
    sets, logs = writes.sadd.keys() | writes.srem.keys(), writes.pfadd.keys()
    clash = (strings & hashes) | (strings & sets) | (strings & logs) | (hashes & sets) | (hashes & logs) | (sets & logs)
    clash |= {name for kind in (strings, hashes, sets, logs, writes.deletes) for name in _RESERVED if name in kind}
    if clash:
        raise ValueError(f"keys of more than one kind in a commit, or reserved ones: {', '.join(sorted(clash))}")


def _bytes(words: Iterable[bytes | str]) -> list[bytes]:
    return [word if type(word) is bytes else word.encode() for word in words]  # type: ignore[union-attr]


def _text(position: Position) -> str:
    return f"{position.offset}:{position.entry}"


def _position(text: bytes | None) -> Position:
    offset, _, entry = (text or b"0:0").partition(b":")
    return Position(int(offset), int(entry))


# While one of these lasts, Redis is away: it may come back, and the call is then made again.
_AWAY = (
    exceptions.ConnectionError,
    exceptions.TimeoutError,
    exceptions.ReadOnlyError,  # a replica not yet promoted, or a primary already demoted
    exceptions.OutOfMemoryError,  # noeviction: until the operator gives it memory
    exceptions.ClusterDownError,
    exceptions.TryAgainError,
    OSError,
)
_AWAY_CODES = ("MISCONF", "NOREPLICAS", "BUSY", "LOADING", "MASTERDOWN")


def is_away(error: BaseException) -> bool:
    """Whether waiting can help: a wrong password, a wrong type or a bug can't."""
    if isinstance(error, exceptions.AuthenticationError | exceptions.AuthorizationError):
        return False
    return isinstance(error, _AWAY) or (
        isinstance(error, exceptions.ResponseError) and str(error).startswith(_AWAY_CODES)
    )


async def retrying(
    call: Callable[[], Awaitable[T]],
    *,
    stopped: Callable[[], bool],
    on_away: Callable[[Exception], None] | None = None,
    on_back: Callable[[], None] | None = None,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> T:
    """`call()`, again and again while Redis is away, with pauses of 0.05 s doubling to 1 s; its other errors pass.

    `on_away(error)` after each failure, `on_back()` when a call succeeds after one. Raises Away, from the last error, once
    `stopped()` is true after a failure; the first try is always made. `call` must stand repetition: all of `Tables` does.
    """
    pause, failed = FIRST_PAUSE, False
    while True:
        try:
            result = await call()
        except Exception as error:
            if not is_away(error):
                raise
            failed = True
            if on_away:
                on_away(error)
            if not stopped():
                await sleep(pause)
            if stopped():
                raise Away(f"Redis is away: {error}") from error
            pause = min(LONGEST_PAUSE, 2 * pause)
        else:
            if failed and on_back:
                on_back()
            return result


async def check_server(redis: Redis | RedisCluster) -> list[str]:
    """What about this server endangers the state, one sentence each; empty when all is well or nothing can be learnt.

    From INFO, which hosted servers allow where they forbid CONFIG. Of a cluster, each primary is asked.
    """
    try:
        if isinstance(redis, RedisCluster):
            await redis.initialize()
            infos = [await redis.execute_command("INFO", target_nodes=node) for node in redis.get_primaries()]
        else:
            infos = [await redis.execute_command("INFO")]
    except exceptions.ResponseError as error:
        if is_away(error):
            raise
        return []
    return list(dict.fromkeys(message for info in infos for message in _dangers(info)))


def _dangers(info: dict[str, Any]) -> list[str]:
    messages = []
    version = str(info.get("redis_version", "7.0"))
    if int(version.split(".", 1)[0]) < 7:
        messages.append(f"Redis {version} is too old: 7.0 or later, or Valkey, is needed.")
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        messages.append(f"maxmemory-policy is {policy}: Redis may drop state unseen. Set it to noeviction.")
    if not info.get("aof_enabled", 1):
        messages.append("The append-only file is off: a restart of Redis loses state. Set appendonly to yes.")
    return messages


# Numbers are never removed, so the count says whether anything was added since it was read.
_ADD_CONFIG = """
if redis.call('HLEN', KEYS[1]) ~= tonumber(ARGV[1]) then return 0 end
return redis.call('HSETNX', KEYS[1], ARGV[2], ARGV[3])
"""


def _registry(generation: int) -> str:
    return f"{{parcours:{generation}}}config"


async def configs(redis: Redis, generation: int) -> dict[int, str]:
    """All configurations known to a generation, by number."""
    stored: dict[bytes, bytes] = await redis.execute_command("HGETALL", _registry(generation))
    return {int(number): text.decode() for number, text in stored.items()}


async def register_config(redis: Redis, generation: int, text: str) -> int:
    """The number of this configuration: the current one's when the text is the same, else a new one, from 1.

    Raises ConfigError when the text is that of an older number: numbers only grow, so a return needs a new `revision`.
    """
    while True:
        known = await configs(redis, generation)
        current = max(known, default=0)
        if known.get(current) == text:
            return current
        for number in sorted(known, reverse=True):
            if known[number] == text:
                raise ConfigError(
                    f"revision: this configuration was number {number} and the current one is {current}; "
                    "to go back to it, raise `revision` above every value used so far"
                )
        if await redis.execute_command("EVAL", _ADD_CONFIG, 1, _registry(generation), len(known), current + 1, text):
            return current + 1


async def note_config(redis: Redis, generation: int, number: int, text: str) -> bool:
    """Keep a number and text read from the log. False when the number is known with another text, which stays."""
    key = _registry(generation)
    if await redis.execute_command("HSETNX", key, number, text):
        return True
    stored: bytes = await redis.execute_command("HGET", key, number)
    return stored.decode() == text
