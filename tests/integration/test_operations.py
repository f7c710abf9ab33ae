"""What an operator does, and what a worker says: dead letters, gaps, resets, rebuilds, takeover, stopping."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from integration.conftest import TOML, World
from integration.stack import ROOT, Stack, Worker, replayed
from integration.test_faults import wait_for
from integration.test_pipeline import differences

from attribution.watermarks import JOURNEY
from models.settings import load_marketing
from streams.generations import current
from streams.logs import Bounds, Kafka
from streams.sources import Stand, stands
from streams.tables import Position, connect

pytestmark = pytest.mark.integration

_ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
DAYS = [f"2026-01-{day:02}T10:00:00Z" for day in range(1, 31)]
SMALL = "[topics]\nclicks = 1\ntouchpoints = 1\npurchases = 1\ncosts = 1\njourney-events = 2\n"


def click(n: int, person: str, at: str, network: str = "facebook") -> tuple[str, bytes]:
    event = {"event_id": f"k{n}", "occurred_at": at, "customer_id": person, "network": network, "campaign": "c"}
    return "clicks", json.dumps(event).encode()


def order(n: int, person: str, at: str, **fields: Any) -> tuple[str, bytes]:
    event = {
        "type": "order", "event_id": f"o{n}", "occurred_at": at, "customer_id": person, "order_id": f"O{n}",
        "revenue": 10 + n, "currency": "EUR",
    }  # fmt: skip
    return "purchases", json.dumps(event | fields).encode()


def cli(stack: Stack, *args: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    ran = subprocess.run(
        [sys.executable, "-m", "streams.cli", "--debug", *args],
        check=False, cwd=ROOT, env={**_ENVIRONMENT, **stack.env}, capture_output=True, text=True, timeout=120,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert ran.returncode == code, (args, ran.returncode, ran.stdout, ran.stderr)
    return ran


def listed(stack: Stack, code: int = 0) -> dict[str, dict[str, Any]]:
    """What `parcours sources` says."""
    out = cli(stack, "sources", "--json", code=code).stdout
    return {f"{line['topic']}/{line['partition']}": line for line in map(json.loads, out.splitlines())}


def seen(stack: Stack) -> dict[str, Stand]:
    """The same without a process of its own: for asking often."""

    async def ask() -> list[Stand]:
        client = connect(stack.redis_server.url)
        try:
            generation = await current(client) or 0
            return await stands(client, Kafka([stack.address], {}), stack.marketing, generation)
        finally:
            await client.aclose()

    return {f"{stand.topic}/{stand.partition}": stand for stand in asyncio.run(ask())}


def get(worker: Worker, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"{worker.url}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def ready(worker: Worker) -> bool:
    return get(worker, "/readyz") == (200, "ok\n")


def sample(worker: Worker, name: str) -> str | None:
    lines = get(worker, "/metrics")[1].splitlines()
    return next((line.rpartition(" ")[2] for line in lines if line.startswith(f"{name} ")), None)


def make_anew(stack: Stack, topic: str) -> None:
    """Delete a topic and create it again, empty."""

    async def go() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=stack.address)
        await admin.start()
        try:
            await admin.delete_topics([topic])
            while topic in await admin.list_topics():  # noqa: ASYNC110 (Kafka tells nobody when it is gone)
                await asyncio.sleep(0.05)
            await admin.create_topics([NewTopic(topic, stack.partitions[topic], 1)])
        finally:
            await admin.close()

    asyncio.run(go())


def shop(persons: int = 8) -> list[tuple[str, bytes]]:
    """Clicks of 30 days and two orders each: one 5 days after the first clicks, one at the end."""
    items = [
        click(d * 100 + p, f"p{p}", DAYS[d], ("facebook", "google")[(d + p) % 2])
        for d in range(0, 20, 3)
        for p in range(persons)
    ]
    items += [order(p, f"p{p}", DAYS[5]) for p in range(persons)]
    return items + [order(100 + p, f"p{p}", DAYS[28]) for p in range(persons)]


# -- dead letters


def test_letters_are_listed_and_retried_once(stack: Callable[..., Stack]) -> None:
    """What is mended goes through; what was retried is not retried again, unless asked for."""
    one = stack(SMALL)
    one.publish(
        [click(1, "p", DAYS[1]), order(1, "p", DAYS[2], currency="USD"), ("clicks", b"\xff{"), order(2, "p", DAYS[2])]
    )
    worker = one.worker()
    one.settle()
    assert worker.stop() == 0
    lines = [json.loads(line) for line in cli(one, "dlq", "list", "--json").stdout.splitlines()]
    assert {(line["topic"], line["offset"], line["code"]) for line in lines} == {
        ("purchases", 0, "missing_rate"),
        ("clicks", 1, "malformed_json"),
    }
    shown = cli(one, "dlq", "list", "--topic", "purchases").stdout
    assert "missing_rate" in shown
    assert "purchases/0/0" in shown
    assert "malformed_json" not in shown
    assert cli(one, "dlq", "list", "--code", "late").stdout == "No dead letters.\n"

    cli(one, "dlq", "retry", code=2)
    assert "1 would be published again" in cli(one, "dlq", "retry", "--code", "missing_rate", "--dry-run").stdout
    assert one.ends("purchases", 1) == {0: 2}
    one.config.write_text("revision = 2\n" + SMALL + '[[rates]]\ncurrency = "USD"\nrate = "0.5"\n')
    assert "1 published again" in cli(one, "dlq", "retry", "--code", "missing_rate").stdout
    assert "1 already published again" in cli(one, "dlq", "retry", "--code", "missing_rate").stdout
    assert one.ends("purchases", 1) == {0: 3}
    (again,) = [record for record in one.read("purchases", 1) if record.headers]
    assert dict(again.headers) == {"parcours-retry-of": b"purchases/0/0"}
    one.sent["purchases", 0] = 3
    one.worker()
    one.settle()
    assert one.attributions()["o:O1"]["revenue_net"] == "5.5"
    assert "1 published again" in cli(one, "dlq", "retry", "--code", "missing_rate", "--again").stdout
    one.sent["purchases", 0] = 4
    one.settle()
    assert len(one.attributions()) == 2


def test_a_late_letter_points_to_its_event_and_to_a_rebuild(stack: Callable[..., Stack]) -> None:
    """Stitch has no original: the retry fetches it. Late again is what it would be, so it needs to be asked for."""
    one = stack(SMALL, PARCOURS_IDLE_AFTER="0.5")
    one.publish([click(1, "p", DAYS[29]), order(1, "p", DAYS[29])])
    one.worker()
    one.settle()
    wait_for(lambda: all(seen(one)[f"journey-events/{p}"].watermark is not None for p in range(2)), 30, "watermarks")
    late = click(2, "p", DAYS[1])
    one.publish([late])
    wait_for(lambda: bool(one.dead_letters("clicks")), 30, "a dead letter")
    (line,) = [json.loads(text) for text in cli(one, "dlq", "list", "--json").stdout.splitlines()]
    assert (line["code"], line["topic"], line["offset"], line["whole"]) == ("late", "clicks", 1, False)
    ran = cli(one, "dlq", "retry", "--all")
    assert "1 late: would be late again" in ran.stdout
    assert "rebuild" in ran.stderr
    assert one.ends("clicks", 1) == {0: 2}
    assert "1 published again" in cli(one, "dlq", "retry", "--code", "late").stdout
    newest = one.read("clicks", 1)[-1]
    assert (newest.offset, newest.value, dict(newest.headers)) == (2, late[1], {"parcours-retry-of": b"clicks/0/1"})
    wait_for(lambda: len(one.dead_letters("clicks")) == 2, 30, "it is late again")
    make_anew(one, "clicks")
    ran = cli(one, "dlq", "retry", "--code", "late", "--again", code=1)
    assert "2 no longer in its topic" in ran.stdout
    assert "clicks/0/1: its topic no longer holds it" in ran.stderr


# -- gaps and resets


def test_a_topic_made_anew_is_a_loud_gap_and_a_reset_brings_it_back(stack: Callable[..., Stack]) -> None:
    """Under a new incarnation, offsets that were used before carry new events, and none is taken for a repeat."""
    one = stack(SMALL)
    before = [click(n, "p", DAYS[n]) for n in range(9)] + [order(1, "p", DAYS[9])]
    one.publish(before)
    worker = one.worker()
    one.settle()
    assert worker.stop() == 0
    make_anew(one, "clicks")
    after = [click(100 + n, "p", DAYS[10 + n], "google") for n in range(3)]
    one.sent.clear()
    one.publish(after)
    second = one.worker()
    wait_for(lambda: "gap: offset 9 is not in clicks-0" in get(second, "/readyz")[1], 60, "the gap is told")
    assert "parcours sources reset clicks 0" in get(second, "/readyz")[1]
    assert sample(second, 'parcours_gap{partition="0",topic="clicks"}') == "1.0"
    assert listed(one, code=1)["clicks/0"]["gap"] == "ends at 3"

    said = cli(one, "sources", "reset", "clicks", "0").stdout
    assert "reads on from 0, incarnation 1" in said
    one.settle()
    wait_for(lambda: ready(second), 30, "ready again, without a restart")
    assert sample(second, 'parcours_gap{partition="0",topic="clicks"}') == "0.0"
    stand = listed(one)["clicks/0"]
    assert (stand["gap"], stand["incarnation"], stand["position"], stand["lag"]) == (None, 1, 3, 0)
    last = [order(2, "p", DAYS[14])]
    one.publish(last)
    one.settle()
    want = dict(replayed(one.marketing, before + after + last))
    assert want["o:O2"]["credits"] != want["o:O1"]["credits"]
    assert differences(one.attributions(), want) == []


def test_a_source_read_again_changes_nothing(stack: Callable[..., Stack]) -> None:
    """While a worker holds it, a reset needs --yes; the worker is fenced, claims again, and repeats are known by event id."""
    one = stack(SMALL)
    items = shop()
    one.publish(items)
    worker = one.worker()
    one.settle()
    wait_for(lambda: seen(one)["purchases/0"].alive, 30, "the worker gives signs of life")
    assert "say --yes" in cli(one, "sources", "reset", "purchases", "0", code=1).stderr
    cli(one, "sources", "reset", "purchases", "0", "--to", "999", "--yes", code=1)
    cli(one, "sources", "reset", JOURNEY, "0", code=2)
    log = sum(one.ends(JOURNEY, 2).values())
    assert "reads on from 0, incarnation 1" in cli(one, "sources", "reset", "purchases", "0", "--yes").stdout
    wait_for(lambda: sum(one.ends(JOURNEY, 2).values()) > log, 60, "read again")
    one.settle()
    want = dict(replayed(one.marketing, items))
    assert differences(one.attributions(), want) == []
    one.publish([order(7000, "p1", DAYS[29])])
    one.settle()
    want = dict(replayed(one.marketing, [*items, order(7000, "p1", DAYS[29])]))
    assert differences(one.attributions(), want) == []
    assert worker.stop() == 0


# -- rebuild


def test_a_rebuild_applies_a_changed_configuration_back(stack: Callable[..., Stack]) -> None:
    one = stack(SMALL)
    items = shop()
    one.publish(items)
    worker = one.worker()
    one.settle()
    old = one.attributions()
    wait_for(lambda: seen(one)["clicks/0"].alive, 30, "the worker gives signs of life")
    assert "stop the workers first" in cli(one, "rebuild", "--yes", code=1).stderr
    assert worker.stop() == 0
    one.config.write_text('revision = 2\n[lookback]\nclick = "3d"\n' + SMALL)
    want = dict(replayed(load_marketing(one.config), items))
    assert differences(old, want), "the windows make a difference"
    assert "--yes" in cli(one, "rebuild", code=2).stderr

    assert "Generation 1 begins" in cli(one, "rebuild", "--yes").stdout
    second = one.worker()
    wait_for(lambda: caught_up(one), 60, "the new generation has read everything")
    assert differences(one.attributions(), want) == []
    versions = {json.loads(record.value)["version"][0] for record in one.read("attributions", 2)}
    assert versions == {0, 1}
    assert json.loads(get(second, "/api/status")[1])["generation"] == 1
    client = one.redis()
    assert list(client.scan_iter(match="{parcours:0:*"))
    assert "only an older one" in cli(one, "rebuild", "--drop", "1", "--yes", code=1).stderr
    assert "of generation 0 deleted" in cli(one, "rebuild", "--drop", "0", "--yes").stdout
    assert not list(client.scan_iter(match="{parcours:0*"))
    assert list(client.scan_iter(match="{parcours:1:*"))
    one.publish([order(7000, "p1", DAYS[29])])
    wait_for(lambda: caught_up(one), 60, "live in the new generation")
    want = dict(replayed(load_marketing(one.config), [*items, order(7000, "p1", DAYS[29])]))
    assert differences(one.attributions(), want) == []
    client.delete("{parcours}generation")
    client.close()
    assert second.stop() == 0
    assert "--resume" in cli(one, "rebuild", "--yes", code=1).stderr
    cli(one, "rebuild", "--resume", "1")
    one.worker()
    wait_for(lambda: all(stand.alive for stand in seen(one).values()), 60, "a worker in generation 1 again")


def test_a_rebuild_since_a_date_leaves_out_what_was_published_before(stack: Callable[..., Stack]) -> None:
    one = stack(SMALL)
    old, new = [click(1, "p", DAYS[1]), order(1, "p", DAYS[2])], [click(2, "p", DAYS[20]), order(2, "p", DAYS[21])]
    one.publish(old, lambda _: 1_767_300_000_000)
    one.publish(new, lambda _: 1_769_100_000_000)
    cli(one, "rebuild", "--since", "2026-01-15", "--yes")
    one.worker()
    wait_for(lambda: caught_up(one), 60, "the new generation has read everything")
    assert differences(one.attributions(), dict(replayed(one.marketing, new))) == []


def caught_up(stack: Stack) -> bool:
    """All of the current generation read and folded, and again a moment later: a fold may send moves."""
    first, then = seen(stack), seen(stack)
    read = all(stand.lag == 0 and stand.alive for stand in (*first.values(), *then.values()))
    return read and [stand.position for stand in first.values()] == [stand.position for stand in then.values()]


# -- starting, stopping, taking over


def test_another_worker_takes_over_from_one_that_was_killed(stack: Callable[..., Stack], small: World) -> None:
    one = stack(TOML, PARCOURS_MAX_POLL_RECORDS="200")
    half = len(small.items) // 2
    first, second = one.worker("first"), one.worker("second")
    one.publish(small.items[:half], small.timestamps())
    wait_for(lambda: len({owner for owner in one.owners().values() if owner}) == 2, 90, "both have claimed")
    first.kill()
    one.publish(small.items[half:], small.timestamps())
    one.settle(120)
    assert set(one.owners().values()) == {next(iter(set(one.owners().values())))}
    wait_for(lambda: ready(second), 30, "ready")
    assert differences(one.attributions(), small.expected) == []


def test_sigterm_drains_and_the_next_worker_goes_on(stack: Callable[..., Stack], small: World) -> None:
    """In mid-stream: exit code 0, by itself; what was under way is finished or done again."""
    one = stack(TOML, PARCOURS_MAX_POLL_RECORDS="200", PARCOURS_COMMIT_ENTRIES="100")
    one.publish(small.items, small.timestamps())
    worker = one.worker()
    wait_for(lambda: sum(one.sources().values()) > 0.2 * len(small.items), 60, "some is read")
    assert worker.stop(60) == 0
    assert sum(one.sources().values()) < len(small.items), "stopped in mid-stream"
    assert "Traceback" not in worker.tail()
    one.worker()
    one.settle()
    assert differences(one.attributions(), small.expected) == []


def test_readiness_tells_what_is_missing(stack: Callable[..., Stack]) -> None:
    one = stack(SMALL)
    one.publish([click(1, "p", DAYS[1])])
    worker = one.worker()
    wait_for(lambda: "no partition is claimed yet" in get(worker, "/readyz")[1] or ready(worker), 60, "it answers")
    wait_for(lambda: ready(worker), 60, "ready")
    one.settle()
    status = json.loads(get(worker, "/api/status")[1])
    claims = {f"{claim['topic']}/{claim['partition']}": claim for claim in status["claims"]}
    assert set(claims) == {
        "clicks/0",
        "touchpoints/0",
        "purchases/0",
        "costs/0",
        "journey-events/0",
        "journey-events/1",
    }
    assert (claims["clicks/0"]["position"], claims["clicks/0"]["incarnation"]) == (1, 0)
    assert status["configuration"]["hash"] == one.marketing.digest()
    one.redis_server.kill()
    one.publish([click(2, "p", DAYS[1])])
    wait_for(lambda: "Redis is away" in get(worker, "/readyz")[1], 60, "Redis is missed")
    assert get(worker, "/livez") == (200, "ok\n")
    one.redis_server.start()
    wait_for(lambda: ready(worker), 60, "ready again")
    one.config.write_text('revision = 2\n[lookback]\nclick = "3d"\n' + SMALL)
    one.worker()
    wait_for(lambda: "start this worker with the current configuration" in get(worker, "/readyz")[1], 60, "outdated")


def test_gap_of_a_stand() -> None:
    """At the end is no gap; beyond it, before the beginning, or without a partition is."""

    def gap(offset: int, span: Bounds | None) -> str | None:
        return Stand("clicks", 0, Position(offset), span, "", False).gap

    assert gap(10, Bounds(10, 10)) is None
    assert gap(10, Bounds(0, 9)) == "ends at 9"
    assert gap(10, Bounds(11, 20)) == "begins at 11"
    assert gap(10, None) == "no such partition"
