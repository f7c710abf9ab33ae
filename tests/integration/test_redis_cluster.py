"""State on a Redis Cluster: three primaries, one of which is killed and comes back."""

from __future__ import annotations

import shutil
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from integration.conftest import TOML, World
from integration.redis_cluster import ClusterStack, RedisCluster
from integration.test_metrics import agree, business, exact, reported, scrape
from integration.test_pipeline import differences
from redis import exceptions
from redis.asyncio import Redis

from attribution.replay import Replay
from attribution.report import report
from models.settings import Marketing
from streams.embedded import RedisServer
from streams.redis_client import Cluster
from streams.tables import (
    CHUNK,
    Claimed,
    Outcome,
    Position,
    Tables,
    Writes,
    check_server,
    configs,
    connect,
    ingest_tag,
    is_away,
    journey_tag,
    note_config,
    register_config,
)

pytestmark = pytest.mark.integration
EVENT_CLOCK = 'clock = "event"\n'
TAGS = [*(journey_tag(0, p) for p in range(4)), *(ingest_tag(0, "clicks", p) for p in range(4))]


@pytest.fixture(scope="module", params=["valkey", "redis"])
def program(request: pytest.FixtureRequest) -> str:
    if request.param == "redis" and not shutil.which("redis-server"):
        pytest.skip("redis-server is not installed")
    return str(request.param)


@pytest.fixture(scope="module")
def shared(program: str) -> Iterator[RedisCluster]:
    with RedisCluster(program) as cluster:
        yield cluster


@pytest.fixture
async def client(shared: RedisCluster) -> AsyncIterator[Redis]:
    async with connect(shared.url) as client:
        await client.flushall()
        yield client


async def test_partitions_are_on_every_node(client: Redis, shared: RedisCluster) -> None:
    assert isinstance(client, Cluster)
    assert len({client.get_node_from_key(tag).port for tag in TAGS}) == len(shared.nodes)


@pytest.mark.parametrize("tag", TAGS)
async def test_every_call_of_the_tables(client: Redis, tag: str) -> None:
    """More keys and hashes than one command takes, so that pipelines are long too."""
    tables = Tables(client, tag)
    claim = await tables.claim("w", 1, config=1, formats=(1,))
    assert isinstance(claim, Claimed)
    assert claim.position == (0, 0)
    sets = {f"n:{i}": b"%d" % i for i in range(CHUNK + 7)}
    hashes: dict[str, dict[bytes | str, bytes]] = {f"r:h:{i}": {b"1": b"one", b"2": b"two"} for i in range(50)}
    writes = Writes(sets=dict(sets), hashes=hashes, sadd={"x:1": [b"a", b"b"]}, changed=list(hashes))
    done = await tables.commit(claim.token, claim.position, Position(5), b"state", 1, 1, writes)
    assert done == (Outcome.APPLIED, Position(5))
    assert await tables.get([*sets, "absent"]) == [*sets.values(), None]
    assert await tables.hget([(name, b"2") for name in hashes] + [("r:h:0", b"3")]) == [b"two"] * 50 + [None]
    assert await tables.hgetall("r:h:7") == {b"1": b"one", b"2": b"two"}
    assert await tables.smembers("x:1") == {b"a", b"b"}
    assert await tables.stands(claim.token, Position(5))
    assert sorted(await tables.live()) == sorted(hashes)
    more: dict[str, dict[bytes | str, bytes]] = {f"r:d:{i}": {b"1": b"one"} for i in range(50)}
    writes = Writes(hashes=more, changed=list(more))
    assert (
        await tables.commit(claim.token, done.position, Position(6), b"then", 2, 1, writes)
    ).outcome is Outcome.APPLIED
    changes = await tables.changes(None, 0, limit=30)
    assert (changes.seq, changes.state, set(changes.hashes)) == (2, b"then", set(hashes | more))
    assert changes.calls == 2
    second = await tables.claim("v", 1, config=1, formats=(1,))
    assert isinstance(second, Claimed)
    late = await tables.commit(claim.token, Position(6), Position(7), b"", 3, 1, Writes())
    assert late.outcome is Outcome.FENCED


async def test_configurations_and_the_servers_settings(client: Redis) -> None:
    one, two = (Marketing(revision=revision).text() for revision in (1, 2))
    assert await register_config(client, 0, one) == 1
    assert await register_config(client, 0, two) == 2
    assert await configs(client, 0) == {1: one, 2: two}
    assert await note_config(client, 0, 2, two)
    assert not await note_config(client, 0, 2, "three")
    assert await client.execute_command("INCR", "{parcours:0}epoch") == 1
    assert await check_server(client) == []


async def test_a_dangerous_setting_of_any_node_is_seen(client: Redis, shared: RedisCluster) -> None:
    async with connect(f"redis://{shared.nodes[2].address}") as node:
        await node.config_set("maxmemory-policy", "allkeys-lru")
        try:
            (message,) = await check_server(client)
        finally:
            await node.config_set("maxmemory-policy", "noeviction")
    assert "noeviction" in message


async def test_a_plain_url_with_the_setting(shared: RedisCluster) -> None:
    async with connect(f"redis://{shared.nodes[0].address}/0", cluster=True) as client:
        assert await client.execute_command("HGETALL", journey_tag(0, 1) + "meta") == {}


async def test_no_node_answers() -> None:
    """Away, so that a worker waits, whether or not it has ever been connected."""
    server = RedisServer().start()
    client = connect(f"redis+cluster://{server.address}")
    server.stop()
    with pytest.raises(exceptions.ConnectionError) as caught:
        await client.execute_command("GET", "a")
    assert is_away(caught.value)


async def test_a_single_server_is_no_cluster(tmp_path: Path) -> None:
    """Waiting would not help, so it is not waited for."""
    with RedisServer() as server:
        client = connect(f"redis+cluster://{server.address}")
        with pytest.raises(exceptions.ResponseError, match="Cluster mode is not enabled") as caught:
            await client.execute_command("GET", "a")
        assert not is_away(caught.value)


@pytest.fixture
def stack(program: str, tmp_path: Path) -> Iterator[ClusterStack]:
    with ClusterStack(tmp_path, EVENT_CLOCK + TOML, program, PARCOURS_IDLE_AFTER="0.5") as made:
        yield made


def test_stream_equals_replay(stack: ClusterStack, small: World) -> None:
    """All of it through a cluster, business metrics read from it included."""
    stack.publish(small.items, small.timestamps())
    worker = stack.worker()
    stack.settle(90)
    assert differences(stack.attributions(), small.expected) == []
    assert len(small.expected) > 200
    replay = Replay(stack.marketing)
    for record in small.records:
        if record.good:
            replay.take(record.topic, record.value)
    replay.finish()
    want = reported(report(replay)["windows"])
    deadline = time.monotonic() + 60
    while not agree(business(scrape(worker)), want) and time.monotonic() < deadline:
        time.sleep(0.1)
    got = business(scrape(worker))
    assert agree(got, want)
    assert exact(got) == exact(want)
    assert sum(len(rows) for rows in want.values()) > 500
    assert worker.stop() == 0


def test_a_node_is_killed_and_comes_back(stack: ClusterStack, small: World) -> None:
    """Its partitions wait, and with them, as there is no replica, all; then the worker catches up by itself."""
    half = len(small.items) // 2
    stack.publish(small.items[:half], small.timestamps())
    worker = stack.worker(PARCOURS_MAX_POLL_RECORDS="400", PARCOURS_COMMIT_ENTRIES="120")
    deadline = time.monotonic() + 60
    while sum(stack.sources().values()) < half // 4:
        assert time.monotonic() < deadline, worker.tail()
        time.sleep(0.02)
    stack.cluster.nodes[1].kill()
    stack.publish(small.items[half:], small.timestamps())
    deadline = time.monotonic() + 60
    while "parcours_redis_retries_total 0.0" in scrape(worker):
        assert time.monotonic() < deadline, worker.tail()
        time.sleep(0.05)
    stack.cluster.nodes[1].start()
    stack.cluster.wait()
    stack.settle(120)
    assert differences(stack.attributions(), small.expected) == []
    assert worker.process.poll() is None
