"""What only a real Apache Kafka shows: topic settings, transactions, compaction, deleted records, restarts, groups."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.protocol.admin import DeleteGroupsRequest
from aiokafka.structs import RecordMetadata
from integration.apache_kafka import ApacheKafka, chosen
from integration.conftest import TOML, World
from integration.stack import ROOT, Item, Stack, Worker, replayed
from integration.test_faults import SLOWLY, redelivered, wait_for
from integration.test_metrics import scrape
from integration.test_pipeline import differences
from prometheus_client.parser import text_string_to_metric_families

from attribution.watermarks import JOURNEY
from models.events import TOPICS
from models.settings import DAY
from streams.tables import ingest_tag

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.skipif(
        chosen() != "apache", reason="NOT RUN: the broker is the embedded one; on Apache Kafka: make test-kafka"
    ),
]
DAY_MS = DAY // 1000
NON_EMPTY_GROUP = 68  # https://kafka.apache.org/protocol#protocol_error_codes
LIMIT = 1_048_588  # Kafka's default for the largest record, with its overhead


def admin(address: str, work: Callable[[AIOKafkaAdminClient], Awaitable[Any]]) -> Any:
    """What `work` returns, given an admin client."""

    async def run() -> Any:
        client = AIOKafkaAdminClient(bootstrap_servers=address)
        await client.start()
        try:
            return await work(client)
        finally:
            await client.close()

    return asyncio.run(run())


def good(world: World) -> list[Item]:
    return [(record.topic, record.value) for record in world.records if record.good]


def altered(value: bytes, **fields: str) -> bytes:
    return json.dumps({**json.loads(value), **fields}).encode()


def ready(worker: Worker) -> tuple[int, str]:
    """Status and text of /readyz; status 0 while nothing answers."""
    try:
        with urllib.request.urlopen(f"{worker.url}/readyz", timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def gauges(worker: Worker, name: str) -> dict[tuple[str, int], float]:
    """The samples of a gauge by topic and partition."""
    return {
        (sample.labels["topic"], int(sample.labels["partition"])): sample.value
        for family in text_string_to_metric_families(scrape(worker))
        if family.name == name
        for sample in family.samples
    }


def test_the_projects_command_makes_every_topic_with_its_settings(tmp_path: Path) -> None:
    counts = {"clicks": 3, "touchpoints": 2, "purchases": 2, "costs": 1, JOURNEY: 5}
    config = tmp_path / "parcours.toml"
    config.write_text("[topics]\n" + "".join(f"{topic} = {n}\n" for topic, n in counts.items()))
    with ApacheKafka() as broker:
        command = [sys.executable, "-m", "streams.cli", "topics", "create"]
        command += ["--kafka-url", broker.url, "--config", str(config)]
        env = {**os.environ, "COLUMNS": "200"}
        said = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
        assert said.returncode == 0, said.stdout + said.stderr
        assert "refused" not in said.stdout
        described = admin(broker.address, lambda client: client.describe_topics())
        resources = [ConfigResource(ConfigResourceType.TOPIC, topic["topic"]) for topic in described]
        answers = admin(broker.address, lambda client: client.describe_configs(resources))
    assert {topic["topic"]: len(topic["partitions"]) for topic in described} == {
        **counts,
        **{f"dlq.{topic}": counts[topic] for topic in TOPICS},
        "attributions": 5,
        "alerts": 1,
    }
    settings = {
        name: {key: value for key, value, *_ in entries}
        for answer in answers
        for _code, _message, _kind, name, entries in answer.resources
    }
    assert {topic["unclean.leader.election.enable"] for topic in settings.values()} == {"false"}
    assert settings[JOURNEY]["cleanup.policy"] == "delete"
    assert (settings[JOURNEY]["retention.ms"], settings[JOURNEY]["retention.bytes"]) == ("-1", "-1")
    assert settings["attributions"]["cleanup.policy"] == "compact"
    for topic in TOPICS:
        room = int(settings[f"dlq.{topic}"]["max.message.bytes"]) - int(settings[topic]["max.message.bytes"])
        assert room > 1 << 20, topic


async def transact(one: Stack, rounds: list[tuple[list[Item], list[Item]]], chance: random.Random) -> None:
    """Per round, records in a transaction that is committed and, mixed with them, others in one that is aborted."""
    producers = [
        AIOKafkaProducer(bootstrap_servers=one.address, transactional_id=name, acks="all", linger_ms=5)
        for name in ("commits", "aborts")
    ]
    for producer in producers:
        await producer.start()
    try:
        for kept, dropped in rounds:
            for producer in producers:
                await producer.begin_transaction()
            mixed = [(0, item) for item in kept] + [(1, item) for item in dropped]
            if chance.random() < 0.5:  # else the aborted ones come last
                chance.shuffle(mixed)
            sent: list[asyncio.Future[RecordMetadata]] = []
            for index, (topic, value) in mixed:
                if index and len(sent) % 50 == 0:
                    await producers[0].flush()  # batches of both in turns
                future = await producers[index].send(topic, value, partition=one.partition(topic, value))
                if not index:
                    sent.append(future)
            await producers[1].flush()
            ends = [producers[0].commit_transaction, producers[1].abort_transaction]
            for end in ends if chance.random() < 0.5 else reversed(ends):
                await end()
            one.expect(await asyncio.gather(*sent))
    finally:
        for producer in producers:
            await producer.stop()


def test_aborted_transactions_are_not_applied(stack: Callable[..., Stack], small: World) -> None:
    """Committed records are, whatever markers and aborted records stand between them; a log that ends in them is read to its end."""
    one = stack(TOML, **SLOWLY)
    chance = random.Random(3)
    items = good(small)
    last = len(items) * 9 // 10
    ghosts = [
        (topic, altered(value, event_id=f"ghost-{n}", order_id=f"ghost-{n}"))
        for n, (topic, value) in enumerate(items[:last])
        if topic in ("clicks", "purchases") and n % 3 == 0
    ]
    size = last // 20
    rounds = [(items[i : min(i + size, last)], ghosts[i // 6 : (i + size) // 6]) for i in range(0, last, size)]
    # The log ends with records that never happened.
    rounds.append(([], ghosts[-200:]))
    first = one.worker()
    asyncio.run(transact(one, rounds[:12], chance))
    wait_for(lambda: all(one.sources()[key] >= end for key, end in one.sent.items()), 60, "the first transactions")
    first.kill()
    asyncio.run(transact(one, rounds[12:], chance))
    worker = one.worker()
    one.settle(90)
    written = sum(b"ghost-" in record.value for record in one.read("clicks", one.partitions["clicks"]))
    assert written > 100, "no aborted record is in the log"
    wait_for(lambda: set(gauges(worker, "parcours_lag_records").values()) == {0.0}, 30, "the end of every log")
    one.publish(items[last:])
    one.settle(90)
    assert differences(one.attributions(), small.expected) == []
    assert ready(worker) == (200, "ok\n")


def test_compacted_sources_have_holes(stack: Callable[..., Stack], small: World) -> None:
    """Of every click the newest value per key is applied; positions go over the holes, through a kill too."""
    one = stack(TOML, **SLOWLY)
    policy = {"cleanup.policy": "compact", "segment.ms": str(DAY_MS), "min.cleanable.dirty.ratio": "0.001"}
    admin(
        one.address, lambda client: client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, "clicks", policy)])
    )
    chance, stamp = random.Random(4), small.timestamps()
    one.publish([item for item in good(small) if item[0] != "clicks"], stamp)

    def stale(value: bytes) -> bytes:
        return altered(value, network="stale")

    async def overwrite() -> None:
        producer = AIOKafkaProducer(bootstrap_servers=one.address, acks="all", linger_ms=5)
        await producer.start()
        sent: list[asyncio.Future[RecordMetadata]] = []

        async def send(item: Item, value: bytes, at: int, key: str | None = None, partition: int | None = None) -> None:
            place = one.partition(*item) if partition is None else partition
            named = (key or json.loads(item[1])["event_id"]).encode()
            sent.append(await producer.send("clicks", value, key=named, partition=place, timestamp_ms=at))

        try:
            clicks = [item for item in good(small) if item[0] == "clicks"]
            for item in clicks[::2]:  # a hole at the head of the log
                await send(item, stale(item[1]), (stamp(item) or 0) - 100 * DAY_MS)
            for item in clicks:
                if chance.random() < 0.3:
                    await send(item, stale(item[1]), stamp(item) or 0)
                await send(item, item[1], stamp(item) or 0)
            # Compaction leaves the newest segment alone: each partition begins another, with a batch of its own.
            await producer.flush()
            for partition in range(one.partitions["clicks"]):
                at = (stamp(clicks[-1]) or 0) + 10 * DAY_MS
                await send(clicks[0], clicks[0][1], at, f"last-{partition}", partition)
            one.expect(await asyncio.gather(*sent))
        finally:
            await producer.stop()

    asyncio.run(overwrite())
    n = one.partitions["clicks"]
    wait_for(lambda: not any(b"stale" in record.value for record in one.read("clicks", n)), 90, "compaction")
    offsets = {p: [r.offset for r in one.read("clicks", n) if r.partition == p] for p in range(n)}
    for p, found in offsets.items():
        inner = sum(after - before > 1 for before, after in itertools.pairwise(found))
        assert min(found[0], inner - 10) > 0, f"no holes in clicks-{p}"
    first = one.worker()
    half = sum(one.sent.values()) / 2
    wait_for(lambda: sum(one.sources().values()) >= half, 60, "half of it ingested")
    first.kill()
    one.worker()
    one.settle(90)
    assert {key: one.sources()[key] for key in one.sent} == dict(one.sent)
    assert differences(one.attributions(), small.expected) == []


@pytest.mark.parametrize("known", [True, False], ids=["with a position", "without state"])
def test_deleted_head_stops_that_partition_only(stack: Callable[..., Stack], small: World, known: bool) -> None:
    one = stack(TOML)
    items = good(small)
    half = len(items) // 2
    if known:
        one.publish(items[:half])
        worker = one.worker()
        one.settle()
        assert worker.stop() == 0
        one.publish(items[half:])
    else:
        one.publish(items)
    missing = ("clicks", 0)
    position = one.positions()[missing][0]
    assert (position > 0) == known
    begins = position + 5
    assert begins < one.sent.pop(missing)
    gone = {TopicPartition(*missing): RecordsToDelete(begins)}
    admin(one.address, lambda client: client.delete_records(gone))
    worker = one.worker()
    wait_for(lambda: "clicks-0" in ready(worker)[1], 60, "readiness tells of the gap")
    code, text = ready(worker)
    assert code == 503
    assert f"offset {position} is not in clicks-0, which begins at {begins}" in text
    one.settle()
    assert one.positions()[missing][0] == position
    assert {key for key, value in gauges(worker, "parcours_gap").items() if value} == {missing}
    assert gauges(worker, "parcours_gap")[missing] == 1


def test_broker_killed_and_restarted_in_mid_stream(stack: Callable[..., Stack], small: World) -> None:
    one = stack(TOML, **SLOWLY)
    one.publish(small.items, small.timestamps())
    worker = one.worker()

    def ingested(share: float) -> None:
        wait_for(lambda: sum(one.sources().values()) >= share * len(small.items), 60, f"{share} ingested")

    ingested(0.25)
    one.broker.kill()
    one.broker.start()
    ingested(0.55)
    one.broker.restart()
    one.settle(120)
    assert differences(one.attributions(), small.expected) == []
    assert worker.process.poll() is None
    wait_for(lambda: ready(worker)[0] == 200, 30, "the same worker is ready")


def test_group_deleted_while_the_worker_is_down(stack: Callable[..., Stack], small: World) -> None:
    """Group generations begin again at 1, and Kafka's offsets are gone: it goes on from the position in Redis."""
    one = stack(TOML, **SLOWLY)
    half = len(small.items) // 2
    one.publish(small.items[:half], small.timestamps())
    first, second = one.worker(), one.worker()
    one.settle()
    second.kill()  # the group forms once more

    def generation() -> int:
        client = one.redis()
        found = int(client.hget(f"{ingest_tag(0, 'clicks', 0)}meta", "generation") or 0)
        client.close()
        return found

    joined = generation()
    wait_for(lambda: len(set(one.owners().values())) == 1 and generation() >= joined, 30, "the first takes over")
    before = generation()
    assert before > 1
    assert first.stop() == 0
    group = "parcours"

    async def delete(client: AIOKafkaAdminClient) -> bool:
        node = await client.find_coordinator(group)
        answer = await client._send_request(DeleteGroupsRequest([group]), node)
        ((_, code),) = answer.results
        assert code in (0, NON_EMPTY_GROUP)
        return code == 0

    wait_for(lambda: bool(admin(one.address, delete)), 30, "the group is deleted")
    sent_twice = redelivered(one)
    one.publish(small.items[half:], small.timestamps())
    one.worker()
    one.settle(90)
    assert generation() < before
    assert redelivered(one) == sent_twice
    assert differences(one.attributions(), small.expected) == []


def test_records_at_the_size_limit(stack: Callable[..., Stack]) -> None:
    """A dead letter is larger than its source, and an attribution to hundreds of touches than either: both are taken."""
    one = stack(TOML)
    wide = "春" * 240
    items = [
        ("clicks", altered(b"{}", event_id=f"e{n:03}-{wide}", occurred_at=f"2026-01-{1 + n // 20:02}T{n % 20:02}:00:00Z",
                           customer_id="p", network="facebook", campaign=f"c{n:03}-{wide}"))
        for n in range(500)
    ]  # fmt: skip
    order = {
        "type": "order", "event_id": "o1", "occurred_at": "2026-01-27T00:00:00Z", "customer_id": "p",
        "order_id": "O1", "revenue": "100.00", "currency": one.marketing.reporting_currency,
    }  # fmt: skip
    items.append(("purchases", json.dumps(order).encode()))
    broken = b"{" + b"x" * (LIMIT - 120)
    one.publish([*items, ("clicks", broken)])
    one.worker()
    one.settle()
    (letter,) = one.dead_letters("clicks")
    assert letter.value == broken
    assert len(letter.value) + sum(len(name) + len(value) for name, value in letter.headers) > LIMIT
    assert max(len(record.value) for record in one.read("attributions", one.partitions["attributions"])) > LIMIT
    assert differences(one.attributions(), dict(replayed(one.marketing, items))) == []
