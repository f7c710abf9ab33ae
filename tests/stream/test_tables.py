"""Redis-backed tables against real servers: Valkey as embedded, and Redis where it is installed."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis as redis_errors
from redis.asyncio import Redis

from models.errors import ConfigError
from streams import tables
from streams.embedded import RedisServer
from streams.tables import (
    Away,
    Changes,
    Claimed,
    Committed,
    Outcome,
    Position,
    Refused,
    Tables,
    Writes,
    check_server,
    configs,
    connect,
    ingest_tag,
    journey_tag,
    note_config,
    register_config,
    retrying,
)

START, ONE, TWO, THREE = Position(0), Position(1), Position(1, 7), Position(2)
BIG = 2**53 + 1
TAG = journey_tag(0, 3)
Make = Callable[..., RedisServer]


class InstalledRedis(RedisServer):
    """The machine's own redis-server under the same directives."""

    def _command(self, port: int, directory: Path) -> list[str]:
        binary = shutil.which("redis-server")
        assert binary
        return [binary, *super()._command(port, directory)[1:]]


@pytest.fixture(scope="module", params=["valkey", "redis"])
def make(request: pytest.FixtureRequest) -> Make:
    if request.param == "redis" and not shutil.which("redis-server"):
        pytest.skip("redis-server is not installed")
    return InstalledRedis if request.param == "redis" else RedisServer


@pytest.fixture(scope="module")
def shared(make: Make) -> Iterator[RedisServer]:
    with make() as server:
        yield server


@pytest.fixture
def mortal(make: Make) -> Iterator[RedisServer]:
    """A server of this test's own, to be killed; each write is on disk when it is answered."""
    with make(config={"appendfsync": "always"}) as server:
        yield server


@pytest.fixture
async def redis(shared: RedisServer) -> AsyncIterator[Redis]:
    async with connect(shared.url) as client:
        await client.flushall()
        yield client


@pytest.fixture
def table(redis: Redis) -> Tables:
    return Tables(redis, TAG)


async def claimed(table: Tables, owner: str = "w1", generation: int = 1, **options: Any) -> Claimed:
    claim = await table.claim(owner, generation, **{"config": 1, "formats": {1}, **options})
    assert isinstance(claim, Claimed)
    return claim


async def put(
    table: Tables, token: str, before: Position, after: Position, seq: int, writes: Writes | None = None
) -> Committed:
    return await table.commit(token, before, after, b"state %d" % seq, seq, 1, writes or Writes())


async def contents(redis: Redis) -> dict[bytes, bytes]:
    """Every key with its serialised value."""
    return {key: await redis.dump(key) for key in sorted(await redis.keys())}


def test_a_partition_has_one_hash_tag() -> None:
    assert journey_tag(2, 5) == "{parcours:2:5}"
    assert ingest_tag(2, "clicks", 5) == "{parcours:2:clicks:5}"
    assert Tables(Redis(), ingest_tag(2, "clicks", 5)).key("meta") == "{parcours:2:clicks:5}meta"


class TestClaim:
    async def test_of_nothing_starts_at_the_beginning(self, table: Tables) -> None:
        claim = await claimed(table)
        assert claim[1:] == (START, None, 0, 0)

    async def test_gives_what_was_committed_and_a_fresh_token(self, table: Tables) -> None:
        first = await claimed(table)
        await table.commit(first.token, START, TWO, b"\x00\xff", 4, 9, Writes())
        second = await claimed(table, config=9)
        assert second[1:] == (TWO, b"\x00\xff", 9, 4)
        assert second.token != first.token

    async def test_refuses_an_older_generation_unless_forced(self, table: Tables) -> None:
        newer = await claimed(table, "w2", 8)
        assert await table.claim("w1", 7, config=1, formats={1}) == Refused("generation", 8, "w2")
        assert (await put(table, newer.token, START, ONE, 1)).outcome is Outcome.APPLIED
        forced = await claimed(table, "w1", 7, force=True)
        assert (await put(table, newer.token, ONE, TWO, 2)).outcome is Outcome.FENCED
        assert (await put(table, forced.token, ONE, TWO, 2)).outcome is Outcome.APPLIED
        assert isinstance(await table.claim("w3", 7, config=1, formats={1}), Claimed)

    async def test_refuses_a_newer_configuration_even_by_force(self, table: Tables) -> None:
        first = await claimed(table, config=10)
        await table.commit(first.token, START, ONE, b"", 1, 10, Writes())
        for force in (False, True):
            refused = await table.claim("old", 99, config=9, formats={1}, force=force)
            assert refused == Refused("config", 10, "w1")
        assert isinstance(await table.claim("new", 1, config=10, formats={1}), Claimed)

    async def test_refuses_a_format_it_cannot_read_even_by_force(self, table: Tables) -> None:
        await claimed(table, formats={1, 2})
        for force in (False, True):
            assert await table.claim("old", 99, config=1, formats={1}, force=force) == Refused("format", 2, "w1")
        assert isinstance(await table.claim("new", 1, config=1, formats={3, 2}), Claimed)
        assert await table.claim("old", 1, config=1, formats={2, 1}) == Refused("format", 3, "new")

    async def test_refused_changes_nothing(self, table: Tables, redis: Redis) -> None:
        await claimed(table, generation=8)
        before = await contents(redis)
        assert isinstance(await table.claim("w1", 7, config=1, formats={1}), Refused)
        assert await contents(redis) == before


class TestCommit:
    async def test_applies_everything_at_once(self, table: Tables) -> None:
        token = (await claimed(table)).token
        writes = Writes(
            sets={"n:c:42": b"node", "n:c:é": b"\x00\r\n"},
            hashes={"r:h:1": {b"\x01": b"v1", "name": b"v2"}},
            sadd={"s": ["x", b"y"]},
            pfadd={"u:1": [b"d1", "d2"]},
        )
        assert await put(table, token, START, ONE, 1, writes) == Committed(Outcome.APPLIED, ONE)
        assert await table.get(["n:c:é", "none", "n:c:42"]) == [b"\x00\r\n", None, b"node"]
        assert await table.hget([("r:h:1", "name"), ("r:h:2", b"x"), ("r:h:1", b"\x01")]) == [b"v2", None, b"v1"]
        assert await table.hgetall("r:h:1") == {b"\x01": b"v1", b"name": b"v2"}
        assert await table.smembers("s") == {b"x", b"y"}
        more = Writes(deletes={"n:c:42"}, hdels={"r:h:1": ["name", "none"]}, srem={"s": [b"x"]}, pfadd={"u:1": [b"d1"]})
        assert await put(table, token, ONE, TWO, 2, more) == Committed(Outcome.APPLIED, TWO)
        assert await table.get(["n:c:42"]) == [None]
        assert await table.hgetall("r:h:1") == {b"\x01": b"v1"}
        assert await table.smembers("s") == {b"y"}
        assert (await claimed(table))[1:] == (TWO, b"state 2", 1, 2)

    async def test_counts_devices(self, table: Tables, redis: Redis) -> None:
        token = (await claimed(table)).token
        await put(table, token, START, ONE, 1, Writes(pfadd={"u": [b"a", b"b"]}))
        await put(table, token, ONE, TWO, 2, Writes(pfadd={"u": [b"b", b"c"]}))
        assert await redis.pfcount(table.key("u")) == 3

    async def test_a_key_deleted_and_written_starts_anew(self, table: Tables) -> None:
        token = (await claimed(table)).token
        await put(table, token, START, ONE, 1, Writes(hashes={"h": {b"old": b"1"}}, sets={"k": b"1"}))
        await put(table, token, ONE, TWO, 2, Writes(deletes={"h", "k"}, hashes={"h": {b"new": b"2"}}, sets={"k": b"2"}))
        assert await table.hgetall("h") == {b"new": b"2"}
        assert await table.get(["k"]) == [b"2"]

    async def test_lost_reply_is_success_and_does_nothing_twice(self, table: Tables, redis: Redis) -> None:
        token = (await claimed(table)).token
        writes = Writes(sets={"k": b"1"}, hashes={"h": {b"f": b"1"}}, changed=["h"])
        after_first: list[dict[bytes, bytes]] = []

        async def loses_its_first_reply() -> Committed:
            result = await put(table, token, START, ONE, 1, writes)
            if not after_first:
                after_first.append(await contents(redis))
                raise redis_errors.TimeoutError("reply lost")
            return result

        result = await retrying(loses_its_first_reply, stopped=lambda: False, sleep=no_sleep)
        assert result == Committed(Outcome.APPLIED, ONE)
        assert [await contents(redis)] == after_first

    async def test_a_late_copy_of_an_older_commit_is_fenced(self, table: Tables, redis: Redis) -> None:
        token = (await claimed(table)).token
        await put(table, token, START, ONE, 1, Writes(sets={"k": b"1"}))
        await put(table, token, ONE, TWO, 2, Writes(sets={"k": b"2"}))
        assert await put(table, token, START, ONE, 1, Writes(sets={"k": b"1"})) == Committed(Outcome.FENCED, TWO)
        assert await table.get(["k"]) == [b"2"]

    async def test_fenced_by_a_newer_claim_writes_nothing(self, table: Tables, redis: Redis) -> None:
        old = (await claimed(table, "w1", 1)).token
        await put(table, old, START, ONE, 1)
        await claimed(table, "w2", 2)
        before = await contents(redis)
        writes = Writes(sets={"k": b"zombie"}, changed=["h"], deletes={"meta2"})
        assert await put(table, old, ONE, TWO, 2, writes) == Committed(Outcome.FENCED, ONE)
        assert await put(table, old, START, ONE, 1, writes) == Committed(Outcome.FENCED, ONE)
        assert await contents(redis) == before

    @pytest.mark.parametrize("before", [START, TWO])
    async def test_wiped_redis_rewinds(self, table: Tables, redis: Redis, before: Position) -> None:
        token = (await claimed(table)).token
        if before != START:
            await put(table, token, START, before, 1)
        await redis.flushall()
        assert await put(table, token, before, THREE, 2, Writes(sets={"k": b"1"})) == Committed(Outcome.REWIND, START)
        assert await contents(redis) == {}
        again = await claimed(table)
        assert (await put(table, again.token, START, ONE, 1)).outcome is Outcome.APPLIED

    async def test_a_killed_server_that_lost_its_tail_rewinds(self, mortal: RedisServer) -> None:
        async with connect(mortal.url) as redis:
            table = Tables(redis, TAG)
            token = (await claimed(table)).token
            await put(table, token, START, ONE, 1, Writes(sets={"a": b"1", "b": b"1"}, hashes={"h": {b"f": b"1"}}))
            await put(table, token, ONE, TWO, 2, Writes(sets={"a": b"2", "b": b"2"}, hashes={"h": {b"f": b"2"}}))
            mortal.kill()
            assert mortal.truncate_aof(1) == 1
            mortal.start()

            async def third() -> Committed:
                return await put(table, token, TWO, THREE, 3, Writes(sets={"a": b"3"}))

            assert await retrying(third, stopped=lambda: False) == Committed(Outcome.REWIND, ONE)
            assert await table.get(["a", "b"]) == [b"1", b"1"]
            assert await table.hgetall("h") == {b"f": b"1"}
            again = await claimed(table)
            assert again[1:] == (ONE, b"state 1", 1, 1)
            assert (await put(table, again.token, ONE, TWO, 2)).outcome is Outcome.APPLIED

    async def test_a_server_that_lost_our_claim_fences(self, mortal: RedisServer) -> None:
        async with connect(mortal.url) as redis:
            table = Tables(redis, TAG)
            first = await claimed(table)
            await put(table, first.token, START, ONE, 1)
            size = mortal.aof_files()[-1].stat().st_size
            second = await claimed(table)
            await put(table, second.token, ONE, TWO, 2)
            mortal.kill()
            mortal.truncate_aof(mortal.aof_files()[-1].stat().st_size - size)
            mortal.start()

            async def third() -> Committed:
                return await put(table, second.token, TWO, THREE, 3)

            assert await retrying(third, stopped=lambda: False) == Committed(Outcome.FENCED, ONE)
            # Whoever held the older claim may go on from where Redis is: the state there is the state of that position.
            assert (await put(table, first.token, ONE, TWO, 2)).outcome is Outcome.APPLIED

    async def test_integers_above_2_to_the_53_survive(self, table: Tables) -> None:
        token = (await claimed(table)).token
        text = str(BIG).encode()
        at, after = Position(BIG, BIG), Position(BIG, BIG + 1)
        await put(table, token, START, at, 1, Writes(sets={"k": text}, hashes={"h": {text: text}}, sadd={"s": [text]}))
        assert await put(table, token, Position(BIG, BIG - 1), after, 2) == Committed(Outcome.FENCED, at)
        assert await put(table, token, at, after, 2) == Committed(Outcome.APPLIED, after)
        assert (await table.get(["k"]), await table.hgetall("h")) == ([text], {text: text})
        assert await table.smembers("s") == {text}
        assert (await claimed(table)).position == after

    async def test_more_than_lua_can_unpack(self, table: Tables, redis: Redis) -> None:
        token = (await claimed(table)).token
        names = [f"{i:05}" for i in range(9_001)]
        members: list[bytes | str] = [name.encode() for name in names]
        writes = _many(names, members)
        assert (await put(table, token, START, ONE, 1, writes)).outcome is Outcome.APPLIED
        assert await table.get([f"n:{name}" for name in names]) == members
        assert len(await table.hgetall("h")) == len(await table.smembers("s")) == 9_001
        assert len((await table.changes(None, 0)).hashes) == 4_500
        gone = Writes(
            deletes={f"n:{name}" for name in names} | {f"r:{name}" for name in names[:4_500]},
            hdels={"h": members[1:]},
            srem={"s": members[1:]},
            changed=[f"r:{name}" for name in names[:4_500]],
        )
        assert (await put(table, token, ONE, TWO, 2, gone)).outcome is Outcome.APPLIED
        assert set(await table.get([f"n:{name}" for name in names])) == {None}
        assert (await table.hgetall("h"), await table.smembers("s")) == ({b"00000": b"00000"}, {b"00000"})
        assert (await table.changes(None, 0)).hashes == {}


class TestNothingHalfway:
    @pytest.mark.parametrize(
        "wrong",
        [
            Writes(hashes={"string": {b"f": b"1"}}),
            Writes(hdels={"string": [b"f"]}),
            Writes(sadd={"hash": [b"m"]}),
            Writes(srem={"hash": [b"m"]}),
            Writes(pfadd={"hash": [b"m"]}),
            Writes(pfadd={"string": [b"m"]}),
        ],
        ids=["hset", "hdel", "sadd", "srem", "pfadd on a hash", "pfadd on a string"],
    )
    async def test_a_key_of_another_type(self, table: Tables, redis: Redis, wrong: Writes) -> None:
        token = (await claimed(table)).token
        await put(table, token, START, ONE, 1, Writes(sets={"string": b"s"}, hashes={"hash": {b"f": b"1"}}))
        before = await contents(redis)
        wrong.sets["good"], wrong.deletes, wrong.changed = b"1", {"hash2"}, ["good"]
        wrong.hashes["last"] = {b"f": b"1"}
        with pytest.raises(redis_errors.ResponseError, match="WRONGTYPE"):
            await put(table, token, ONE, TWO, 2, wrong)
        assert await contents(redis) == before

    async def test_a_broken_index(self, table: Tables, redis: Redis) -> None:
        token = (await claimed(table)).token
        await redis.set(table.key("ch"), b"not a sorted set")
        before = await contents(redis)
        with pytest.raises(redis_errors.ResponseError, match="WRONGTYPE"):
            await put(table, token, START, ONE, 1, Writes(hashes={"r": {b"f": b"1"}}, changed=["r"]))
        assert await contents(redis) == before

    @pytest.mark.parametrize(
        "wrong",
        [
            Writes(sets={"k": b"1"}, hashes={"k": {b"f": b"1"}}),
            Writes(sets={"k": b"1"}, pfadd={"k": [b"f"]}),
            Writes(hashes={"k": {b"f": b"1"}}, sadd={"k": [b"f"]}),
            Writes(hdels={"k": [b"f"]}, srem={"k": [b"f"]}),
            Writes(sets={"meta": b"1"}),
            Writes(deletes={"ch"}),
        ],
    )
    async def test_writes_that_contradict_themselves(self, table: Tables, redis: Redis, wrong: Writes) -> None:
        token = (await claimed(table)).token
        before = await contents(redis)
        with pytest.raises(ValueError, match="kind"):
            await put(table, token, START, ONE, 1, wrong)
        assert await contents(redis) == before

    async def test_empty_collections_are_no_commands(self, table: Tables) -> None:
        token = (await claimed(table)).token
        writes = Writes(hashes={"h": {}}, hdels={"h": []}, sadd={"s": []}, srem={"s": []}, pfadd={"u": []})
        assert (await put(table, token, START, ONE, 1, writes)).outcome is Outcome.APPLIED
        assert (await table.get([]), await table.hget([])) == ([], [])

    async def test_out_of_memory(self, make: Make) -> None:
        with make() as server:
            async with connect(server.url) as redis:
                table = Tables(redis, TAG)
                token = (await claimed(table)).token
                before = await contents(redis)
                await redis.config_set("maxmemory", 1)
                seen: list[dict[bytes, bytes]] = []

                async def memory(_: float) -> None:
                    seen.append(await contents(redis))
                    await redis.config_set("maxmemory", 0)

                async def commit() -> Committed:
                    return await put(table, token, START, ONE, 1, Writes(deletes={"x"}, sets={"k": b"1"}))

                assert (await retrying(commit, stopped=lambda: False, sleep=memory)).outcome is Outcome.APPLIED
                assert seen == [before]
                assert await table.get(["k"]) == [b"1"]


def _many(names: list[str], members: list[bytes | str]) -> Writes:
    writes = Writes(sadd={"s": members}, pfadd={"u": members}, changed=[f"r:{name}" for name in names[:4_500]])
    writes.sets = {f"n:{name}": name.encode() for name in names}
    writes.hashes = {f"r:{name}": {b"f": b"1"} for name in names[:4_500]}
    writes.hashes["h"] = {name: name.encode() for name in names}
    return writes


def rollup(seq: int, *suffixes: str, fields: int = 1) -> Writes:
    hashes: dict[str, dict[bytes | str, bytes]] = {
        suffix: {b"%d" % i: b"%d" % seq for i in range(fields)} for suffix in suffixes
    }
    return Writes(hashes=hashes, changed=list(suffixes))


class Story:
    """One owner's commits in a row, with seqs 1, 2, 3 …"""

    def __init__(self, table: Tables, token: str) -> None:
        self.table, self.token, self.seq = table, token, 0

    async def add(self, writes: Writes) -> None:
        before, self.seq = Position(self.seq), self.seq + 1
        done = await put(self.table, self.token, before, Position(self.seq), self.seq, writes)
        assert done.outcome is Outcome.APPLIED


@pytest.fixture
async def story(table: Tables) -> Story:
    return Story(table, (await claimed(table)).token)


class TestChanges:
    async def test_of_nothing(self, table: Tables) -> None:
        assert await table.changes(None, 0) == Changes(None, 0, START, None, False, {}, 1)

    async def test_everything_first_then_what_changed(self, table: Tables, story: Story) -> None:
        await story.add(rollup(1, "r:h:1", "r:h:2"))
        first = await table.changes(None, 0)
        both = {"r:h:1": {b"0": b"1"}, "r:h:2": {b"0": b"1"}}
        assert first == Changes(story.token, 1, Position(1), b"state 1", True, both, 1)
        assert await table.changes(story.token, 1) == first._replace(full=False, hashes={})
        await story.add(rollup(2, "r:h:2"))
        await story.add(Writes(sets={"n:c:1": b"no rollup"}))
        second = await table.changes(story.token, 1)
        assert second == Changes(story.token, 3, Position(3), b"state 3", False, {"r:h:2": {b"0": b"2"}}, 1)

    async def test_a_deleted_hash_is_empty_until_it_is_back(self, table: Tables, story: Story) -> None:
        await story.add(rollup(1, "r:h:1", "r:h:2"))
        await story.add(Writes(deletes={"r:h:1"}, changed=["r:h:1"]))
        assert (await table.changes(story.token, 1)).hashes == {"r:h:1": {}}
        assert (await table.changes(None, 0)).hashes == {"r:h:2": {b"0": b"1"}}
        await story.add(rollup(3, "r:h:1"))
        for seq in (1, 2):
            assert (await table.changes(story.token, seq)).hashes == {"r:h:1": {b"0": b"3"}}

    async def test_a_hash_deleted_and_refilled_at_once_is_live(self, table: Tables, story: Story) -> None:
        await story.add(rollup(1, "r", fields=2))
        await story.add(Writes(deletes={"r"}, hashes={"r": {b"new": b"2"}}, changed=["r"]))
        assert (await table.changes(story.token, 1)).hashes == {"r": {b"new": b"2"}}

    async def test_another_token_means_everything(self, table: Tables, story: Story) -> None:
        await story.add(rollup(1, "r:h:1"))
        await story.add(rollup(2, "r:h:2"))
        other = (await claimed(table)).token
        read = await table.changes(story.token, 2)
        assert (read.token, read.full, set(read.hashes)) == (other, True, {"r:h:1", "r:h:2"})

    async def test_redis_behind_the_reader_means_everything(self, table: Tables, story: Story) -> None:
        await story.add(rollup(1, "r:h:1"))
        read = await table.changes(story.token, 2)
        assert (read.seq, read.full, set(read.hashes)) == (1, True, {"r:h:1"})

    async def test_a_wiped_redis_means_nothing_is_left(self, table: Tables, story: Story, redis: Redis) -> None:
        await story.add(rollup(1, "r:h:1"))
        await redis.flushall()
        assert await table.changes(story.token, 1) == Changes(None, 0, START, None, True, {}, 1)

    async def test_deletions_are_forgotten_only_for_readers_far_behind(
        self, table: Tables, story: Story, redis: Redis
    ) -> None:
        await story.add(rollup(1, "r:1", "r:2", "r:3"))
        await story.add(Writes(deletes={"r:1"}, changed=["r:1"]))
        story.seq = 2 + tables.KEEP
        await redis.hset(table.key("meta"), "position", f"{story.seq}:0")
        await story.add(Writes(deletes={"r:2"}, changed=["r:2"]))
        assert await redis.zrange(table.key("cd"), 0, -1) == [b"r:2"]
        near = await table.changes(story.token, 3)
        assert (near.full, near.hashes) == (False, {"r:2": {}})
        far = await table.changes(story.token, 2)
        assert (far.full, far.hashes) == (True, {"r:3": {b"0": b"1"}})

    async def test_pages(self, table: Tables, story: Story) -> None:
        for seq in range(1, 6):
            await story.add(rollup(seq, f"r:{seq}", f"s:{seq}", fields=3))
        await story.add(Writes(deletes={"r:2"}, changed=["r:2"]))
        whole = await table.changes(None, 0)
        assert (whole.calls, len(whole.hashes)) == (1, 9)
        paged = await table.changes(None, 0, limit=6)
        assert paged == whole._replace(calls=4)  # of 6, 3 + 6, 6 and 6 fields
        part = await table.changes(story.token, 3, limit=1)
        assert part.hashes == {**{key: whole.hashes[key] for key in ("r:4", "s:4", "r:5", "s:5")}, "r:2": {}}
        assert part.calls == 2

    async def test_pages_of_old_changes_do_not_start_over(self, table: Tables, story: Story, redis: Redis) -> None:
        await story.add(rollup(1, "r:1"))
        await story.add(rollup(2, "r:2"))
        story.seq = 3 * tables.KEEP
        await redis.hset(table.key("meta"), "position", f"{story.seq}:0")
        await story.add(rollup(story.seq, "r:3"))
        read = await table.changes(None, 0, limit=1)
        assert (read.full, read.calls, set(read.hashes)) == (True, 3, {"r:1", "r:2", "r:3"})

    async def test_commits_between_pages(self, table: Tables, story: Story, redis: Redis) -> None:
        for seq in (1, 2, 3):
            await story.add(rollup(seq, f"r:{seq}"))

        async def between(page: int) -> None:
            if page == 1:  # r:1 is read
                await story.add(rollup(4, "r:1"))
                await story.add(Writes(deletes={"r:2"}, changed=["r:2"]))

        read = await Tables(Paged(redis, between), TAG).changes(None, 0, limit=1)  # type: ignore[arg-type]
        assert read.hashes == {"r:3": {b"0": b"3"}, "r:1": {b"0": b"4"}}
        assert (read.seq, read.hashes, read.full) == (5, (await table.changes(None, 0)).hashes, True)

    async def test_a_claim_between_pages_starts_over(self, table: Tables, story: Story, redis: Redis) -> None:
        for seq in (1, 2, 3):
            await story.add(rollup(seq, f"r:{seq}"))
        tokens: list[str] = []

        async def between(page: int) -> None:
            if page == 1:
                tokens.append((await claimed(table)).token)

        read = await Tables(Paged(redis, between), TAG).changes(story.token, 0, limit=1)  # type: ignore[arg-type]
        assert (read.full, read.calls, set(read.hashes)) == (True, 4, {"r:1", "r:2", "r:3"})
        assert [read.token] == tokens


class Paged:
    """A client that lets something happen after each call."""

    def __init__(self, redis: Redis, between: Callable[[int], Awaitable[None]]) -> None:
        self.redis, self.between, self.calls = redis, between, 0

    async def execute_command(self, *args: Any) -> Any:
        reply = await self.redis.execute_command(*args)
        self.calls += 1
        await self.between(self.calls)
        return reply


async def no_sleep(_: float) -> None:
    await asyncio.sleep(0)


class TestRetrying:
    async def test_away_when_stopped_during_an_outage(self, mortal: RedisServer) -> None:
        async with connect(mortal.url) as redis:
            table = Tables(redis, TAG)
            token = (await claimed(table)).token
            mortal.kill()
            failures: list[Exception] = []
            pauses: list[float] = []

            async def sleep(seconds: float) -> None:
                pauses.append(seconds)

            with pytest.raises(Away) as caught:
                await retrying(
                    lambda: put(table, token, START, ONE, 1),
                    stopped=lambda: len(failures) >= 8,
                    on_away=failures.append,
                    sleep=sleep,
                )
            assert len(failures) == 8
            assert caught.value.__cause__ is failures[-1]
            assert pauses == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0]

    async def test_goes_on_when_redis_is_back_without_its_scripts(self, mortal: RedisServer) -> None:
        async with connect(mortal.url) as redis:
            table = Tables(redis, TAG)
            token = (await claimed(table)).token
            await put(table, token, START, ONE, 1)
            mortal.kill()
            told: list[str] = []

            async def sleep(_: float) -> None:
                if not mortal.running:
                    mortal.start()

            done = await retrying(
                lambda: put(table, token, ONE, TWO, 2),
                stopped=lambda: False,
                on_away=lambda error: told.append("away"),
                on_back=lambda: told.append("back"),
                sleep=sleep,
            )
            assert done == Committed(Outcome.APPLIED, TWO)
            assert told[0] == "away"
            assert told.count("back") == 1
            assert told[-1] == "back"

    async def test_scripts_flushed(self, table: Tables, redis: Redis) -> None:
        token = (await claimed(table)).token
        await redis.script_flush()
        assert (await put(table, token, START, ONE, 1)).outcome is Outcome.APPLIED

    async def test_waits_for_a_replica_to_be_promoted(self, make: Make) -> None:
        with make() as server:
            async with connect(server.url) as redis:
                table = Tables(redis, TAG)
                await redis.execute_command("REPLICAOF", "127.0.0.1", "1")

                async def promote(_: float) -> None:
                    await redis.execute_command("REPLICAOF", "NO", "ONE")

                claim = await retrying(lambda: claimed(table), stopped=lambda: False, sleep=promote)
                assert claim.position == START

    async def test_other_errors_pass(self, make: Make) -> None:
        async def wrong() -> None:
            raise ValueError("a bug")

        with pytest.raises(ValueError, match="a bug"):
            await retrying(wrong, stopped=lambda: False)
        with make() as server:
            async with connect(server.url) as redis, connect(server.url) as stranger:
                await redis.config_set("requirepass", "secret")
                with pytest.raises(redis_errors.AuthenticationError):
                    await retrying(stranger.ping, stopped=lambda: False)


class TestServer:
    async def test_as_embedded_is_well(self, redis: Redis) -> None:
        assert await check_server(redis) == []

    async def test_says_what_endangers_the_state(self, make: Make) -> None:
        with make(config={"maxmemory-policy": "allkeys-lru", "appendonly": "no"}) as server:
            async with connect(server.url) as redis:
                policy, log = await check_server(redis)
                assert "allkeys-lru" in policy
                assert "noeviction" in policy
                assert "appendonly" in log
                await redis.execute_command("ACL", "SETUSER", "default", "-info")
                assert await check_server(redis) == []

    async def test_raises_when_it_cannot_be_reached(self, mortal: RedisServer) -> None:
        mortal.kill()
        async with connect(mortal.url) as redis:
            with pytest.raises(redis_errors.ConnectionError):
                await check_server(redis)


class TestConfigs:
    async def test_the_same_text_keeps_its_number(self, redis: Redis) -> None:
        assert await register_config(redis, 0, "a") == 1
        assert await register_config(redis, 0, "b") == 2
        assert await register_config(redis, 0, "b") == 2
        assert await register_config(redis, 1, "b") == 1
        assert await configs(redis, 0) == {1: "a", 2: "b"}

    async def test_going_back_needs_a_new_revision(self, redis: Redis) -> None:
        await register_config(redis, 0, "a")
        await register_config(redis, 0, "b")
        with pytest.raises(ConfigError, match=r"revision.* number 1 .* current one is 2"):
            await register_config(redis, 0, "a")
        assert await configs(redis, 0) == {1: "a", 2: "b"}

    async def test_workers_that_start_together(self, redis: Redis) -> None:
        texts = [f"text {i % 8} é" for i in range(24)]
        given = await asyncio.gather(*(register_config(redis, 0, text) for text in texts), return_exceptions=True)
        known = await configs(redis, 0)
        assert sorted(known) == list(range(1, 9))
        assert sorted(known.values()) == sorted(set(texts))
        # A slower twin of a text that is no longer the newest is told so; nobody gets a number of another text.
        for text, number in zip(texts, given, strict=True):
            assert isinstance(number, ConfigError) or known[number] == text  # type: ignore[index]

    async def test_noted_from_the_log(self, redis: Redis) -> None:
        assert await note_config(redis, 0, 4, "d") is True
        assert await note_config(redis, 0, 4, "d") is True
        assert await note_config(redis, 0, 4, "other") is False
        assert await register_config(redis, 0, "e") == 5
        assert await configs(redis, 0) == {4: "d", 5: "e"}
