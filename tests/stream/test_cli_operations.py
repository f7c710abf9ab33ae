"""The operator's commands: how they are called, what they keep in Redis, what they read from Kafka."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import msgspec
import pytest
import redis as blocking_redis
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from pydantic import SecretStr
from redis.exceptions import ConnectionError as Lost
from typer.testing import CliRunner

from models.errors import Rejected
from models.settings import Infrastructure, Marketing, Privacy, load_marketing
from streams import generations
from streams.cli import rebuild, root
from streams.cli.common import Failure
from streams.deadletters import Letter, Retry, read_letter
from streams.embedded import Broker, RedisServer
from streams.forgetting import check_forget_key, has_key
from streams.ingest import IngestState
from streams.logs import Bounds, Kafka, bounds, offset_since, partitions, reader, record_at, records
from streams.outbox import letter_headers
from streams.tables import connect, ingest_tag, journey_tag, register_config
from streams.topics import journey_topic, logical, wanted

T = TypeVar("T")
COMMANDS = ("dlq list", "dlq retry", "sources", "sources list", "sources reset", "forget", "rebuild")


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "PARCOURS_KAFKA_URL",
        "PARCOURS_REDIS_URL",
        "PARCOURS_CONFIG",
        "PARCOURS_FORGET_KEY",
        "PARCOURS_GENERATION",
        "COLUMNS",
    ):
        monkeypatch.delenv(name, raising=False)


def run(*args: str) -> tuple[int, str, str]:
    ran = CliRunner().invoke(root.app, list(args), prog_name="parcours")
    return ran.exit_code, ran.stdout, ran.stderr


# -- calling


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_examples_whose_options_exist(name: str) -> None:
    code, out, _ = run(*name.split(), "--help")
    assert code == 0
    own = [line.strip() for line in out.splitlines() if line.strip().startswith(f"parcours {name}")]
    assert own, out
    options = {option for line in own for option in re.findall(r"--[a-z-]+", line)}
    assert all(f"{option} " in out.partition("Options")[2] for option in options)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["dlq", "retry"], "say which: --topic, --code, or --all"),
        (["dlq", "retry", "--topic", "clics"], "--topic: 'clics' is none of clicks, touchpoints, purchases, costs"),
        (["dlq", "list", "--code", "oops"], "--code: 'oops' is none of malformed_json"),
        (["sources", "reset", "clics", "0"], "TOPIC: 'clics' is none of"),
        (["sources", "reset", "journey-events", "0"], "parcours rebuild"),
        (["sources", "reset", "clicks", "0", "--to", "newest"], "--to: 'newest' is neither 'earliest' nor an offset"),
        (["rebuild", "--since", "2026-01-01", "--drop", "0"], "exclude one another"),
        (["forget"], "say whom: --customer-id, --anonymous-id, or both"),
        (["forget", "--customer-id", " "], "--customer-id: it is empty"),
        (["forget", "--sweep"], "--sweep: set PARCOURS_FORGET_KEY as for the workers"),
        (["rebuild", "--since", "yesterday"], "--since: 'yesterday' is not a date such as 2026-01-31"),
    ],
)
def test_a_wrong_call_is_one_line_that_says_what_is_right(args: list[str], said: str) -> None:
    code, _, err = run(*args)
    assert code == 2
    assert err.startswith("Error: ")
    assert said in err
    assert len(err.splitlines()) == 1


def test_a_rebuild_refuses_a_generation_set_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARCOURS_GENERATION", "0")
    code, _, err = run("rebuild", "--yes")
    assert (code, "PARCOURS_GENERATION" in err) == (2, True)


# -- pure


class Record(NamedTuple):
    headers: tuple[tuple[str, bytes], ...]
    key: bytes | None = b"p"
    value: bytes | None = b"{}"
    timestamp: int = 1000


def test_a_letter_is_what_its_last_headers_say() -> None:
    """A tracker's own headers come first; one that looks like ours neither wins nor is passed on."""
    reason = Rejected("missing_rate", "$.currency", "no rate")
    sent = letter_headers(
        reason,
        "purchases",
        1,
        7,
        [("trace", b"x"), ("parcours-code", b"late"), ("parcours-retry-of", b"purchases/1/3")],
    )
    letter = read_letter(Record(tuple(sent)))  # type: ignore[arg-type]
    assert letter is not None
    assert (letter.code, letter.path, letter.origin, letter.pointer) == (
        "missing_rate",
        "$.currency",
        "purchases/1/7",
        False,
    )
    assert (letter.headers, letter.retry_of) == ((("trace", b"x"),), "purchases/1/3")
    after_reset = read_letter(Record(tuple(letter_headers(reason, "purchases", 1, 7, incarnation=2))))  # type: ignore[arg-type]
    assert after_reset is not None
    assert after_reset.origin == "purchases/1/7/2"


@pytest.mark.parametrize("name", ["parcours-offset", "parcours-code"])
def test_a_record_that_is_no_letter_of_ours_is_none(name: str) -> None:
    headers = letter_headers(Rejected("late", "$", "x"), "clicks", 0, 1)
    broken = [
        (key, b"x" if key == name == "parcours-offset" else value)
        for key, value in headers
        if key != name or name == "parcours-offset"
    ]
    assert read_letter(Record(tuple(headers))) is not None  # type: ignore[arg-type]
    assert read_letter(Record(tuple(broken))) is None  # type: ignore[arg-type]


def test_the_state_of_a_source_reads_its_first_form() -> None:
    assert IngestState.unpack(None) == (None, 0)
    assert IngestState.unpack(msgspec.msgpack.encode([17])) == (17, 0)
    assert IngestState.unpack(IngestState(17, 3).pack()) == (17, 3)


def test_the_log_of_a_generation() -> None:
    assert [journey_topic(g) for g in (0, 1, 12)] == ["journey-events", "journey-events.1", "journey-events.12"]
    assert {logical(journey_topic(g)) for g in (0, 1, 12)} == {"journey-events"}
    assert logical("clicks") == "clicks"
    assert [topic.name for topic in wanted(Marketing(), generation=2) if "journey" in topic.name] == [
        "journey-events.2"
    ]


# -- Redis


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    server = RedisServer()
    server.start()
    yield server
    server.stop()


def with_redis(server: RedisServer, call: Callable[[Any], Awaitable[T]], *, flush: bool = True) -> T:
    async def go() -> T:
        client = connect(server.url)
        if flush:
            await client.flushall()
        try:
            return await call(client)
        finally:
            await client.aclose()

    return asyncio.run(go())


def test_a_generation_is_prepared_switched_and_dropped(server: RedisServer) -> None:
    async def call(client: Any) -> None:
        assert await generations.current(client) is None
        assert (await generations.located(client, Infrastructure())).generation == 0
        await register_config(client, 0, "one")
        assert await register_config(client, 0, "two") == 2
        await client.set("{parcours:0}epoch", 5)
        await generations.prepare(client, 0, 1, {("clicks", 3): 40})
        await generations.switch(client, 1)
        assert (await generations.located(client, Infrastructure())).generation == 1
        assert (await generations.located(client, Infrastructure(generation=0))).generation == 0, "set by hand"
        assert await register_config(client, 1, "three") == 3, "a number means one configuration over all generations"
        assert await client.get("{parcours:1}epoch") == b"5", "the newest leader has the highest epoch"
        meta = f"{ingest_tag(1, 'clicks', 3)}meta"
        assert await client.hget(meta, "position") == b"40:0"
        await client.hset(meta, "token", "t")
        with pytest.raises(ValueError, match="generation 1 is in use"):
            await generations.prepare(client, 0, 1, {("clicks", 3): 0})
        await client.set(f"{journey_tag(0, 0)}n:x", 1)
        await client.set(f"{journey_tag(10, 0)}n:x", 1)
        counts = [count async for count in generations.drop(client, 0)]
        assert counts[-1] == 3
        assert not [key async for key in client.scan_iter(match="{parcours:0*")]
        assert await client.get(f"{journey_tag(10, 0)}n:x") == b"1", "10 is not 1 or 0"
        assert [count async for count in generations.drop(client, 1)][-1] == 3
        assert await client.get(f"{journey_tag(10, 0)}n:x") == b"1"

    with_redis(server, call)


def test_a_worker_is_alive_for_as_long_as_it_says_so(server: RedisServer) -> None:
    async def call(client: Any) -> None:
        assert await generations.alive(client, 0) == {}
        await generations.beat(client, 0, "a:1", {"partitions": ["clicks/0"]})
        await generations.beat(client, 1, "b:1", {"partitions": []})
        seconds, _ = await client.time()
        old, forgotten = seconds - generations.ALIVE_SECONDS - 60, seconds - 100_000
        await client.hset("{parcours:0}workers", mapping={"killed:1": f"{old} {{}}", "gone:1": f"{forgotten} {{}}"})
        assert await generations.alive(client, 0) == {"a:1": {"partitions": ["clicks/0"]}}
        await generations.beat(client, 0, "a:1", {"partitions": []})
        assert set(await client.hkeys("{parcours:0}workers")) == {b"a:1", b"killed:1"}
        await generations.gone(client, 0, "a:1")
        assert await generations.alive(client, 0) == {}

    with_redis(server, call)


def test_a_rebuild_waits_for_a_worker_that_was_killed_and_refuses_one_that_runs(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebuild, "BEATEN_SECONDS", 2.0)

    async def call(client: Any) -> None:
        seconds, _ = await client.time()
        last = seconds - generations.ALIVE_SECONDS + 1  # so that the clock may pass a second before it is read
        await client.hset("{parcours:0}workers", mapping={"killed:1": f"{last} {{}}"})
        assert set(await generations.alive(client, 0)) == {"killed:1"}
        await rebuild.nobody_runs(client, 0)
        assert await generations.alive(client, 0) == {}

        async def beats() -> None:
            while True:
                await generations.beat(client, 0, "runs:1", {})
                await asyncio.sleep(0.1)

        await generations.beat(client, 0, "runs:1", {})
        running = asyncio.create_task(beats())
        with pytest.raises(Failure, match=r"^stop the workers first: runs:1$"):
            await rebuild.nobody_runs(client, 0)
        running.cancel()

    with_redis(server, call)


# -- the forget key


def journey(server: RedisServer, monkeypatch: pytest.MonkeyPatch, key: str) -> tuple[int, str]:
    monkeypatch.setenv("PARCOURS_FORGET_KEY", key)
    code, _, err = run("journey", "c:anna", "--redis-url", server.url)
    return code, err


@pytest.mark.parametrize("ids", ["as_sent", "hashed"])
def test_a_journey_makes_no_key_that_of_the_workers(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch, ids: Literal["as_sent", "hashed"]
) -> None:
    """A stray variable would else keep workers without one from starting."""
    marketing = Marketing(privacy=Privacy(ids=ids))
    with_redis(server, lambda client: register_config(client, 0, marketing.text()))
    assert journey(server, monkeypatch, "a key of nobody's") == (
        1,
        "Error: no touch and no conversion of c:anna is known\n",
    )
    assert with_redis(server, has_key, flush=False) is False


def test_a_journey_needs_the_key_of_the_workers_where_ids_are_stored_under_it_alone(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, other = "the key of the workers", "another key than theirs"

    def lay_out(ids: Literal["as_sent", "hashed"]) -> None:
        async def call(client: Any) -> None:
            await register_config(client, 0, Marketing(privacy=Privacy(ids=ids)).text())
            await check_forget_key(client, SecretStr(own), register=True)

        with_redis(server, call)

    unknown = (1, "Error: no touch and no conversion of c:anna is known\n")
    lay_out("as_sent")
    assert journey(server, monkeypatch, other) == unknown
    lay_out("hashed")
    assert journey(server, monkeypatch, own) == unknown
    code, err = journey(server, monkeypatch, other)
    assert code != 0
    assert "PARCOURS_FORGET_KEY: not the key of the workers before" in err


# -- Kafka


@pytest.fixture(scope="module")
def kafka() -> Iterator[Kafka]:
    broker = Broker()
    broker.start()
    kafka = Kafka([broker.url.removeprefix("kafka://")], {})
    asyncio.run(_fill(kafka))
    yield kafka
    broker.stop()


async def _fill(kafka: Kafka) -> None:
    """`clicks` has ten records a second apart, with keys and headers, `empty` none."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.servers)
    await admin.start()
    names = ("clicks", "empty", "touchpoints", "purchases", "costs")
    await admin.create_topics([NewTopic(name, 2 if name == "clicks" else 1, 1) for name in names])
    await admin.close()
    producer = AIOKafkaProducer(bootstrap_servers=kafka.servers)
    await producer.start()
    for n in range(10):
        await producer.send_and_wait(
            "clicks",
            b"v%d" % n,
            key=b"k%d" % n,
            partition=1,
            timestamp_ms=1_000_000 + n * 1000,
            headers=[("trace", b"%d" % n)],
        )
    await producer.stop()


def test_bounds_and_records(kafka: Kafka) -> None:
    async def go() -> None:
        tps = await partitions(kafka, ["clicks", "empty", "absent"])
        assert await bounds(kafka, tps) == {
            TopicPartition("clicks", 0): Bounds(0, 0),
            TopicPartition("clicks", 1): Bounds(0, 10),
            TopicPartition("empty", 0): Bounds(0, 0),
        }
        assert await bounds(kafka, []) == {}
        assert [record.value async for record in records(kafka, ["clicks", "empty"])] == [b"v%d" % n for n in range(10)]
        tp = TopicPartition("clicks", 1)
        async with reader(kafka) as consumer:
            for offset, value in ((0, b"v0"), (7, b"v7"), (9, b"v9")):
                record = await record_at(consumer, tp, offset, Bounds(0, 10))
                assert record is not None
                assert record.value == value
            assert await record_at(consumer, tp, 10, Bounds(0, 10)) is None
            assert await record_at(consumer, tp, 2, Bounds(3, 10)) is None

    asyncio.run(go())


@pytest.mark.parametrize(
    ("since", "offset"), [(0, 0), (1_000_000, 0), (1_000_001, 1), (1_004_000, 4), (1_009_000, 9), (1_009_001, 10)]
)
def test_the_first_offset_since_a_time_also_where_the_broker_answers_wrongly(
    kafka: Kafka, since: int, offset: int
) -> None:
    assert asyncio.run(offset_since(kafka, TopicPartition("clicks", 1), since)) == offset


def test_since_in_an_empty_log_is_its_end(kafka: Kafka) -> None:
    assert asyncio.run(offset_since(kafka, TopicPartition("empty", 0), 5)) == 0


def letter(offset: int, code: str, pointer: bool = False, topic: str = "clicks") -> Letter:
    return Letter(code, "$", "", topic, 1, offset, 0, 0, b"key", b"value", (("h", b"1"),), pointer, None)


def test_a_retry_is_at_least_once_and_remembered_once_acknowledged(server: RedisServer, kafka: Kafka) -> None:
    """Redis fails after Kafka has acknowledged: the next run publishes again, the one after that does not."""

    class Failing:
        def __init__(self, client: Any) -> None:
            self.client = client

        async def execute_command(self, *words: Any) -> Any:
            if words[0] == "SADD":
                raise Lost("gone")
            return await self.client.execute_command(*words)

    found = [letter(3, "missing_rate"), letter(5, "fold_failed", pointer=True), letter(99, "fold_failed", pointer=True),
             letter(6, "late", pointer=True), letter(0, "fold_failed", pointer=True, topic="journey-events")]  # fmt: skip

    async def stream() -> AsyncIterator[Letter]:
        for each in found:
            yield each

    async def states(retry: Retry) -> list[str]:
        return [step.state async for step in retry.run(stream())]

    async def call(client: Any) -> None:
        want = ["retry", "retry", "not_retained", "late", "not_an_event"]
        assert await states(Retry(kafka, client, dry_run=True)) == want
        with pytest.raises(Lost):
            await states(Retry(kafka, Failing(client)))  # type: ignore[arg-type]
        assert await states(Retry(kafka, client)) == want
        assert await states(Retry(kafka, client)) == ["retried", "retried", "not_retained", "late", "not_an_event"]
        assert await states(Retry(kafka, client, again=True, late=True)) == [
            "retry",
            "retry",
            "not_retained",
            "retry",
            "not_an_event",
        ]

    with_redis(server, call)
    assert asyncio.run(_after(kafka, 10)) == [
        *[(b"key", b"value", {"h": b"1", "parcours-retry-of": b"clicks/1/3"}), (b"k5", b"v5", {"trace": b"5", "parcours-retry-of": b"clicks/1/5"})] * 3,
        (b"k6", b"v6", {"trace": b"6", "parcours-retry-of": b"clicks/1/6"}),
    ]  # fmt: skip


def test_rebuilds_in_a_row_keep_the_forget_list(server: RedisServer, kafka: Kafka, tmp_path: Path) -> None:
    """No worker reads in between: what a generation was given is in its log alone. Nor is a list dropped that nothing else has."""
    text = "[topics]\nclicks = 2\ntouchpoints = 1\npurchases = 1\ncosts = 1\njourney-events = 2\n"
    config = tmp_path / "parcours.toml"
    config.write_text(text)
    at = ("--config", str(config), "--kafka-url", f"kafka://{kafka.servers[0]}", "--redis-url", server.url)

    def parcours(*args: str) -> tuple[int, str]:
        code, out, err = run("rebuild", "--yes", *args, *at)
        return code, out + err

    async def knows(client: Any) -> None:
        await register_config(client, 0, load_marketing(config).text())
        await client.sadd(f"{journey_tag(0, 1)}forgotten", b"1" * 16)

    with_redis(server, knows)
    for old in (0, 1, 2):
        code, said = parcours()
        assert (code, "The forget list (1 hashes) is carried over." in said) == (0, True), said
        if old < 2:
            assert parcours("--drop", str(old))[0] == 0
    store = blocking_redis.Redis.from_url(server.url)
    store.sadd(f"{journey_tag(2, 0)}forgotten", b"2" * 16)
    code, said = parcours("--drop", "2")
    assert (code, "generation 3 does not have 1 hashes of the forget list of generation 2" in said) == (1, True), said
    store.close()
    code, said = parcours()
    assert (code, "The forget list (2 hashes) is carried over." in said) == (0, True), said
    assert parcours("--drop", "2")[0] == 0


async def _after(kafka: Kafka, offset: int) -> list[tuple[bytes | None, bytes | None, dict[str, bytes]]]:
    return [
        (record.key, record.value, dict(record.headers))
        async for record in records(kafka, ["clicks"])
        if record.partition == 1 and record.offset >= offset
    ]
