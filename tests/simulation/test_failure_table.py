"""The failure table, row by row: what fails, at the moment at which it matters, and that nothing is lost or doubled.

Each test is one row or a part of one; `make mutants` runs it with the protection it is about taken out, over ten seeds. Seeds vary
the shop's history, latencies and the group's assignments. What must come out is said by `streams.testing.oracle`: a hash chain per node,
the entries of the log, dead letters, attributions and rollups of one batch pass.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from random import Random
from typing import Any
from unittest.mock import patch

import msgspec
import pytest
from faust.types import TP

from attribution.watermarks import JOURNEY
from models.settings import Lookback, Marketing, Rate, Topics
from models.wire import decode_block
from streams import claims, sources
from streams.embedded import RedisServer
from streams.memory_kafka import Fate, Faults
from streams.tables import Position
from streams.testing import Driver
from streams.testing.oracle import chained, chains, differences
from streams.testing.trial import POISON, small_blocks

SEEDS = range(1, 1 + int(os.environ.get("PARCOURS_TABLE_SEEDS", "2")))
ONE = Marketing(topics=Topics(clicks=1, touchpoints=1, purchases=1, costs=1, journey_events=2))
LOG = TP(JOURNEY, 0)
CLICKS = TP("clicks", 0)
START = 1_772_366_400  # 2026-03-01 12:00 UTC
HOUR = 3600
FAR = 90 * 24 * HOUR

pytestmark = pytest.mark.parametrize("seed", SEEDS)
Record = tuple[str, bytes | None]


def packed(kind: str, number: int, at: int, **fields: Any) -> bytes:
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))
    return json.dumps({"event_id": f"{kind}{number}", "occurred_at": moment, **fields}).encode()


def who(number: int) -> str:
    """One of eight customers. None is 0: that is a junk id."""
    return str(1 + number % 8)


def click(number: int, at: int = START, customer: str = "1", **fields: Any) -> Record:
    names = {"channel": "Paid Search", "network": "google", "campaign": f"c{number % 3}"}
    return "clicks", packed("k", number, at, customer_id=customer, **names, **fields)


def visit(number: int, at: int = START, customer: str = "1") -> Record:
    return "touchpoints", packed("v", number, at, type="visit", customer_id=customer, channel="Email", network="(none)")


def order(number: int, at: int = START + HOUR, customer: str = "1", **fields: Any) -> Record:
    body = {"type": "order", "order_id": f"O{number}", "revenue": f"{10 + number}.99", "currency": "EUR"} | fields
    return "purchases", packed("o", number, at, customer_id=customer, **body)


def refund(number: int, at: int = START + 2 * HOUR) -> Record:
    return "purchases", packed("r", number, at, type="refund", order_id=f"O{number}", amount="1.50")


def history(seed: int, since: int = 0, count: int = 60) -> list[Record]:
    """A small shop: eight customers, whose clicks, visits, orders and refunds come in the order of their times."""
    rng, records, ordered = Random(f"shop {seed} {since}"), [], []
    for number in range(since, since + count):
        at, customer = START + number * 700 + rng.randrange(600), who(rng.randrange(8))
        match rng.randrange(10):
            case 0 | 1:
                records.append(order(number, at, customer))
                ordered.append(number)
            case 2 if ordered:
                records.append(refund(rng.choice(ordered), at))
            case 3 | 4:
                records.append(visit(number, at, customer))
            case _:
                records.append(click(number, at, customer))
    return records


@contextlib.contextmanager
def shop(redis: RedisServer, seed: int, *names: str, marketing: Marketing = ONE, **infra: Any) -> Iterator[Driver]:
    """Workers that hold all partitions and have nothing to do."""
    with chained(), small_blocks(), Driver(marketing, redis, seed=seed, **infra) as driver:
        for name in names or ("a",):
            driver.start(name)
        settled(driver)
        yield driver


def pipe(driver: Driver, *records: Record) -> None:
    for topic, value in records:
        driver.pipe_in(topic, value)


def held(driver: Driver, name: str) -> set[TP]:
    worker = driver.workers[name].app.runtime.claims
    return set() if worker is None else set(worker.parts)


def settled(driver: Driver, **kwargs: Any) -> None:
    """All is claimed and all is done."""
    driver.run_until(lambda: set().union(*(held(driver, name) for name in driver.workers)) == set(driver.positions()))
    driver.run_until_settled(**kwargs)


def right(driver: Driver) -> None:
    """Nothing lost, nothing doubled."""
    settled(driver)
    wrong = list(differences(driver))
    assert not wrong, "; ".join(wrong)


def counted(driver: Driver, name: str, worker: str = "a", **labels: str) -> float:
    registry = driver.workers[worker].app.runtime.metrics.registry
    return registry.get_sample_value(f"parcours_{name}_total", labels) or 0.0


# A worker is killed


@pytest.mark.parametrize(
    "where", ["commit {parcours:0:clicks:0}", "commit {parcours:0:purchases:0}", "commit {parcours:0:0}"]
)
def test_killed_before_commit(redis: RedisServer, seed: int, where: str) -> None:
    """What was sent on the way is sent again, and has its effect once."""
    with shop(redis, seed) as driver:
        at = driver.line.hold(where)
        pipe(driver, *history(seed))
        driver.run_until(lambda: at.client)
        driver.advance(0.1)  # what others do meanwhile is done
        driver.kill("a")
        driver.start("b")
        right(driver)


@pytest.mark.parametrize("where", ["commit {parcours:0:clicks:0}", "commit {parcours:0:0}", "commit {parcours:0:1}"])
def test_killed_after_commit(redis: RedisServer, seed: int, where: str) -> None:
    """What the position covers has been sent."""
    with shop(redis, seed) as driver:
        pipe(driver, *(click(n, customer=who(n)) for n in range(100, 116)))
        settled(driver)
        at = driver.line.hold(where, answer=True)
        pipe(driver, *(order(n, customer=who(n)) for n in range(100, 116)), click(200))
        driver.run_until(lambda: at.client)
        driver.kill("a")
        driver.start("b")
        right(driver)


# An agent, or the work of a fetch, fails


@pytest.mark.parametrize("how", ["raises", "drops it"])
def test_agent_raises(redis: RedisServer, seed: int, how: str) -> None:
    """Faust skips the fetch its agent failed on, or drops one; the one behind it, already delivered, is refused."""
    with shop(redis, seed, max_poll_records=1) as driver:
        lanes = driver.workers["a"].app.runtime.lanes
        put = lanes.put
        failed: set[str] = set()

        async def failing(batch: Any) -> None:
            if batch.tp.topic not in failed:
                failed.add(batch.tp.topic)
                if how == "drops it":
                    return
                raise RuntimeError("in the agent")
            await put(batch)

        lanes.put = failing  # type: ignore[method-assign]
        pipe(driver, *history(seed))
        right(driver)
        assert {"clicks", JOURNEY} <= failed


def test_agent_loses_the_last_fetch(redis: RedisServer, seed: int) -> None:
    """Nothing comes behind it that could show the hole: the watchdog looks after what was delivered."""
    with shop(redis, seed) as driver:
        lanes = driver.workers["a"].app.runtime.lanes
        put = lanes.put
        failed = []

        async def failing(batch: Any) -> None:
            if batch.tp == CLICKS and not failed:
                failed.append(batch)
                raise RuntimeError("in the agent")
            await put(batch)

        lanes.put = failing  # type: ignore[method-assign]
        pipe(driver, click(seed))
        right(driver)
        assert failed


@pytest.mark.parametrize("how", ["raises", "is cancelled"])
@pytest.mark.parametrize("where", ["commit {parcours:0:purchases:0}", "commit {parcours:0:0}"])
def test_work_stops_midway(redis: RedisServer, seed: int, where: str, how: str) -> None:
    """Sent, and not committed: the fetch is redone from the stored position."""
    with shop(redis, seed) as driver:
        lanes = driver.workers["a"].app.runtime.lanes
        work = lanes._work
        at = driver.line.hold(where)

        async def stopping(batch: Any) -> None:
            import asyncio

            task = asyncio.ensure_future(work(batch))
            while not task.done() and not (at.client and not at.released and where.endswith(ending(batch.tp))):
                await asyncio.wait({task}, timeout=0.01)
            if not task.done():
                task.cancel()
                at.release()
                if how == "raises":
                    await asyncio.wait({task})
                    raise RuntimeError("midway")
            await task

        lanes._work = stopping  # type: ignore[method-assign]
        pipe(driver, *history(seed))
        right(driver)
        assert at.released


def ending(tp: TP) -> str:
    return f":{tp.partition}}}" if tp.topic == JOURNEY else f":{tp.topic}:{tp.partition}}}"


# The group moves partitions


def test_rebalance_with_work_in_flight(redis: RedisServer, seed: int) -> None:
    """A commit is on its way when its partition goes to somebody else."""
    with shop(redis, seed, "a", "b") as driver:
        for part in range(3):
            at = driver.line.hold(("commit {parcours:0:0}", "commit {parcours:0:clicks", "commit {parcours:0:1}")[part])
            pipe(driver, *history(seed, 60 * part))
            driver.run_until(lambda at=at: at.client)  # type: ignore[misc]
            driver.cluster.rebalance()
            driver.advance(Random(seed + part).uniform(0.05, 0.5))
            at.release()
            driver.advance(0.5)
        right(driver)


def test_zombie(redis: RedisServer, seed: int) -> None:
    """A worker is stopped with commits under way, others take over and go on, and it wakes up."""
    with shop(redis, seed) as driver:
        pipe(driver, *history(seed))
        driver.run_until(lambda: sum(offset for offset, _ in driver.positions().values()) > 30)
        driver.freeze("a")
        driver.cut("a")
        driver.start("b")
        driver.run_until(lambda: held(driver, "b") == set(driver.positions()))
        pipe(driver, *history(seed, 60))
        driver.advance(0.05)
        driver.thaw("a")
        driver.advance(1.0)
        driver.heal("a")
        right(driver)


def test_zombie_at_a_source_that_was_reset(redis: RedisServer, seed: int) -> None:
    """Its position is the stored one again, as the topic was made anew: only the token tells that the claim is not."""
    with shop(redis, seed) as driver:
        count = 8 + seed % 8
        at = driver.line.hold("commit {parcours:0:clicks:0}")
        pipe(driver, *(click(n, customer="1") for n in range(count)))
        driver.run_until(lambda: at.client)
        driver.freeze("a")
        driver.cut("a")
        recreated(driver, 0)
        driver.start("b")
        driver.run_until(lambda: held(driver, "b") == set(driver.positions()))
        at.release()
        driver.thaw("a")
        driver.advance(0.3)
        pipe(driver, *(click(n, customer="1") for n in range(50, 54)))
        driver.heal("a")
        settled(driver)
        pipe(driver, *(click(n, customer="1") for n in range(54, 70)))
        settled(driver)
        assert journey(driver) == {f"k{n}" for n in (*range(count), *range(50, 70))}
        assert list(chains(driver)) == []


def test_fetch_of_a_source_that_was_reset(redis: RedisServer, seed: int) -> None:
    """It begins where the source is to be read from now, and is of the topic that was there before: its session has ended."""
    count = 4 + seed % 5
    with shop(redis, seed, max_poll_records=count) as driver:
        at = driver.line.hold("commit {parcours:0:clicks:0}")
        pipe(driver, *(click(n) for n in range(2 * count)))
        consumer = driver.workers["a"].app.consumer
        driver.run_until(lambda: at.client and len(consumer._parts[CLICKS].outstanding) == 2)
        recreated(driver, count)
        pipe(driver, *(click(100 + n) for n in range(2 * count)))
        at.release()
        settled(driver)
        assert journey(driver) == {f"k{n}" for n in (*range(count), *range(100 + count, 100 + 2 * count))}
        assert list(chains(driver)) == []


def recreated(driver: Driver, to: int) -> None:
    """The topic of clicks is made anew, and `parcours sources reset` has it read from offset `to`."""
    driver.cluster.recreate(CLICKS)
    stand = sources.Stand("clicks", 0, Position(0), None, "", False, mark=(0, 0, None, False))

    async def reset() -> None:
        from streams.tables import connect

        client = connect(driver.redis.url)
        await sources.reset(client, stand, 0, to)
        await client.aclose()

    driver._within(lambda: driver.loop.blocking(reset()))


def journey(driver: Driver, node: str = "c:1") -> set[str]:
    person = driver.state(node)
    assert person is not None
    return {event.event_id for event in person.events}  # type: ignore[union-attr]


# On the way to the log of record


class Fates(Faults):
    """Decides over requests to the log of record by hand: the first of these fates is the next one's."""

    def __init__(self, rng: Random) -> None:
        super().__init__(rng)
        self.fates: list[Fate] = []
        self.cut = False

    def produced(self, client: str, topic: str) -> Fate:
        return self.fates.pop(0) if self.fates and topic == JOURNEY else "appended"

    def fetched(self, client: str) -> bool:
        return not self.cut


def fates(driver: Driver) -> Fates:
    made = driver.cluster.faults = Fates(driver.rng)
    return made


def quiet(driver: Driver) -> None:
    """Marks are sent when something is new: after this nothing is on its way to the log."""
    settled(driver)
    driver.advance(1.0)


def test_block_lost(redis: RedisServer, seed: int) -> None:
    """Those behind it to the same partition must not be there before it."""
    one = msgspec.structs.replace(ONE, topics=msgspec.structs.replace(ONE.topics, journey_events=1))
    with shop(redis, seed, marketing=one) as driver:
        quiet(driver)
        fates(driver).fates = ["lost"]
        pipe(driver, *(click(n, customer=who(n % 4)) for n in range(8 + seed)))
        right(driver)


def test_block_sent_twice(redis: RedisServer, seed: int) -> None:
    """By a producer's retry; marks too."""
    with shop(redis, seed) as driver:
        fates(driver).fates = ["doubled"] * 1000
        pipe(driver, *history(seed))
        right(driver)


def test_block_not_acknowledged_and_cut_differently(redis: RedisServer, seed: int) -> None:
    """It is there, its sender doesn't know, and what is sent again begins and ends elsewhere."""
    with shop(redis, seed) as driver:
        quiet(driver)
        rng = Random(seed)
        network = fates(driver)
        for part in range(3):
            network.fates = ["unacknowledged", rng.choice(("appended", "unacknowledged"))]
            with small_blocks(rng.choice((1, 2, 5))):
                pipe(driver, *history(seed, 60 * part))
                driver.advance(0.02)
            right(driver)


def test_upstream_duplicates(redis: RedisServer, seed: int) -> None:
    """Whoever sends an event or an order again changes nothing."""
    records = history(seed)
    with shop(redis, seed) as driver:
        pipe(driver, *records)
        right(driver)
        want = {key: value["credits"] for key, value in driver.attributions().items()}
        nodes = {node: driver.state(node) for node in (f"c:{who(n)}" for n in range(8))}
    with shop(redis, seed) as driver:
        twice = sorted([*records, *records], key=lambda record: Random(f"{seed}{record[1]!r}").random())
        pipe(driver, *records, *twice)
        right(driver)
        assert {key: value["credits"] for key, value in driver.attributions().items()} == want
        for node, person in nodes.items():
            again = driver.state(node)
            assert (again is None) == (person is None)
            assert person is None or again.events == person.events  # type: ignore[union-attr]


# Redis


def test_redis_reply_lost(redis: RedisServer, seed: int) -> None:
    """The commit that is found done is our own: nobody claims again."""
    with shop(redis, seed) as driver:
        before = counted(driver, "claims")
        for part in range(4):
            driver.line.lose_reply = 1
            pipe(driver, *history(seed, 60 * part))
            right(driver)
            assert driver.line.lost == part + 1
        assert (counted(driver, "claims"), counted(driver, "fenced")) == (before, 0)


def test_one_slot_rolls_back_and_another_does_not(redis: RedisServer, seed: int) -> None:
    """Its next commit finds the position behind, though all it needs is cached."""
    with shop(redis, seed) as driver:
        pipe(driver, *(click(n, customer=who(n)) for n in range(24)))
        quiet(driver)
        before = driver.snapshot(LOG)
        pipe(driver, *(click(n, customer=who(n)) for n in range(24, 48)))
        settled(driver)
        verified(driver)
        driver.roll_back(LOG, before)
        pipe(driver, *(click(n, customer=who(n)) for n in range(48, 56)))
        right(driver)


def verified(driver: Driver) -> None:
    """Positions have just been asked: nobody will for a while."""
    asked = driver.workers["a"].app.runtime.claims.parts[LOG]  # type: ignore[union-attr]
    stands, calls = asked.stands, []

    async def counting() -> bool:
        calls.append(True)
        return await stands()

    asked.stands = counting  # type: ignore[method-assign]
    driver.run_until(lambda: calls)
    asked.stands = stands  # type: ignore[method-assign]
    driver.advance(0.1)


def test_a_partition_at_its_end_rolls_back(redis: RedisServer, seed: int) -> None:
    """It has no commit to make: its position is asked."""
    with shop(redis, seed) as driver:
        pipe(driver, *history(seed))
        quiet(driver)
        before = {tp: driver.snapshot(tp) for tp in (CLICKS, LOG)}
        pipe(driver, *history(seed, 60))
        settled(driver)
        quiet(driver)
        for tp, snapshot in before.items():
            driver.roll_back(tp, snapshot)
        right(driver)


def test_redis_loses_its_tail(redis: RedisServer, seed: int) -> None:
    """The server dies in mid-work with a part of its append-only file; positions and state go back together."""
    rng = Random(seed)
    with shop(redis, seed, "a", "b") as driver:
        for part in range(3):
            pipe(driver, *history(seed, 60 * part))
            driver.advance(rng.uniform(0.02, 0.2))
            driver.crash_redis(lose=rng.randrange(1, driver.written()), away=rng.uniform(0.0, 0.5))
            driver.advance(0.2)
        right(driver)


def test_redis_wiped(redis: RedisServer, seed: int) -> None:
    """All is made again from the log."""
    with shop(redis, seed, "a", "b") as driver:
        pipe(driver, *history(seed))
        driver.advance(Random(seed).uniform(0.02, 0.3))
        driver.wipe_redis()
        pipe(driver, *history(seed, 60))
        right(driver)


def test_a_missing_head_is_a_loud_gap(redis: RedisServer, seed: int) -> None:
    """No state, and a log that does not begin at its beginning: the partition stands still and says so."""
    with shop(redis, seed) as driver:
        pipe(driver, *history(seed))
        right(driver)
        log = driver.cluster.logs[LOG]
        cut = 1 + seed % 5
        log.start, log.records, log.offsets = log.offsets[cut], log.records[cut:], log.offsets[cut:]
        driver.wipe_redis()
        health = driver.workers["a"].app.runtime.health
        driver.run_until(lambda: health.gaps)
        driver.advance(10.0)
        assert [f"{tp.topic}-{tp.partition}" for tp in health.gaps] == ["journey-events-0"]
        assert "gap: offset 0 is not in journey-events-0" in health.gaps[LOG]
        assert driver.positions()[LOG] == (0, 0)


# Kafka


def test_broker_away(redis: RedisServer, seed: int) -> None:
    """Nothing arrives and nothing comes for some seconds, in mid-work."""
    with shop(redis, seed, "a", "b") as driver:
        network = fates(driver)
        pipe(driver, *history(seed))
        driver.advance(Random(seed).uniform(0.01, 0.1))
        network.fates, network.cut = ["lost"] * 100_000, True
        driver.advance(5.0)
        network.fates, network.cut = [], False
        pipe(driver, *history(seed, 60))
        right(driver)


def test_network_cut_on_one_side(redis: RedisServer, seed: int) -> None:
    """What workers send arrives, and no answer does."""
    with shop(redis, seed, "a", "b") as driver:
        network = fates(driver)
        pipe(driver, *history(seed))
        driver.advance(Random(seed).uniform(0.01, 0.1))
        network.fates, network.cut = ["unacknowledged"] * 100_000, True
        driver.advance(3.0)
        network.fates, network.cut = [], False
        pipe(driver, *history(seed, 60))
        right(driver)


def test_group_deleted(redis: RedisServer, seed: int) -> None:
    """Its generations begin again, below the stored ones: no partition stays assigned and idle."""
    with shop(redis, seed, "a", "b") as driver:
        for _ in range(3):
            driver.cluster.rebalance()
            driver.advance(1.0)
        pipe(driver, *history(seed))
        driver.cluster.generation = 0
        driver.cluster.rebalance()
        driver.advance(0.5)
        pipe(driver, *history(seed, 60))
        right(driver)


# What comes in


def test_poison(redis: RedisServer, seed: int) -> None:
    """Each bad record is one dead letter, each neighbour is applied."""
    rng = Random(seed)
    huge = [
        order(1000, revenue="9" * 30),
        order(1001, revenue="-5"),
        order(1002, START * 1000),
        click(1003, customer="x" * 10_000),
        click(1004, cost={"amount": "1e40", "currency": "EUR"}),
    ]
    bad = [(topic, value) for value in POISON for topic in ("clicks", "touchpoints", "purchases", "costs")] + huge
    good = history(seed)
    records = [*good]
    for record in bad:
        records.insert(rng.randrange(len(records) + 1), record)
    with shop(redis, seed) as driver:
        pipe(driver, *records)
        right(driver)
        assert len(driver.dead_letters()) == len(bad)
        assert len(driver.attributions()) == sum(b'"order"' in (value or b"") for _, value in good)


def test_one_topic_months_ahead(redis: RedisServer, seed: int) -> None:
    """The watermark waits for the others: nothing of them is late."""
    with shop(redis, seed) as driver:
        pipe(driver, *(visit(1000 + n, START + FAR + n * HOUR, who(n)) for n in range(20)))
        quiet(driver)
        driver.advance(5.0)
        pipe(driver, *history(seed))
        right(driver)
        assert driver.dead_letters() == set()


@pytest.mark.parametrize("skew", [-400 * 24 * HOUR, 400 * 24 * HOUR], ids=["behind", "ahead"])
def test_clock_skew(redis: RedisServer, seed: int, skew: int) -> None:
    """A worker's clock decides nothing: event time does, and for the future Kafka's timestamp."""
    clock = time.time

    def skewed() -> float:
        return clock() + skew

    with (
        patch.object(time, "time", skewed),
        patch.object(claims, "time", skewed),
        shop(redis, seed) as driver,
    ):
        for n, (topic, value) in enumerate([*history(seed), click(900, START + FAR)]):
            driver.pipe_in(topic, value, timestamp=(START + n * 700 + 600) * 1000)
        right(driver)
        assert [code for *_, code in driver.dead_letters()] == ["future"]


def test_slow_redis_and_a_hot_key(redis: RedisServer, seed: int) -> None:
    """What has been fetched and is not done stays bounded, and the lag is to be seen."""
    with shop(redis, seed) as driver:
        driver.line.slow = 0.4
        pipe(driver, *(click(n, START + n, customer="1") for n in range(400)))
        parts = driver.workers["a"].app.consumer._parts
        most, lag = 0, 0.0
        while driver.undone():
            driver.advance(0.2)
            most = max(most, *(len(part.outstanding) for part in parts.values()))
            labels = {"topic": "clicks", "partition": "0"}
            registry = driver.workers["a"].app.runtime.metrics.registry
            lag = max(lag, registry.get_sample_value("parcours_lag_records", labels) or 0.0)
        driver.line.slow = 0.0
        right(driver)
        assert most == 2
        assert lag >= 200


# Configurations


def test_an_older_configuration_does_not_take_over(redis: RedisServer, seed: int) -> None:
    """The last worker of the new configuration dies: one of the old one waits, and its partitions with it."""
    new = msgspec.structs.replace(ONE, rates=(Rate("USD", "0.9"),), revision=2)
    with shop(redis, seed) as driver:
        driver.freeze("a")
        driver.cut("a")
        driver.marketing = new
        driver.start("b")
        driver.run_until(lambda: held(driver, "b") == set(driver.positions()))
        pipe(driver, *history(seed), ("costs", b"{"))
        driver.run_until_settled()
        driver.kill("b")
        driver.thaw("a")
        driver.heal("a")
        driver.advance(3.0)
        pipe(driver, order(500, currency="USD"))
        driver.advance(5.0)
        problems = driver.workers["a"].app.runtime.problems()
        assert "start this worker with the current configuration" in str(problems)
        driver.start("c")
        driver.advance(2.0)
        driver.stop("a")
        right(driver)
        assert {code for *_, code in driver.dead_letters()} == {"malformed_json"}


def test_an_older_configuration_comes_late(redis: RedisServer, seed: int) -> None:
    """A start's announcement is in the log twice, the second time behind the next one's."""
    with shop(redis, seed) as driver:
        quiet(driver)
        driver.marketing = msgspec.structs.replace(ONE, lookback=Lookback(click="2d"), revision=2)
        driver.stop("a")
        driver.start("b")
        driver.run_until(lambda: held(driver, "b") == set(driver.positions()))
        quiet(driver)
        for p in range(2):
            first = next(
                r.value for r in driver.cluster.read(JOURNEY) if r.partition == p and decode_block(r.value).configured
            )
            driver._within(driver.cluster.append, JOURNEY, p, first)
        for customer in "12345678":
            number = int(customer) + 10 * seed
            pipe(driver, click(number, START, customer), order(number, START + 3 * 24 * HOUR, customer))
        right(driver)
        assert {value["reason"] for value in driver.attributions().values()} == {"outside_window"}


def test_restated_under_another_configuration(redis: RedisServer, seed: int) -> None:
    """What a credit was under the old number is taken back, and what it is under the new one is put."""
    rng = Random(seed)
    week = 7 * 24 * HOUR
    with shop(redis, seed) as driver:
        for customer in "12345678":
            number = 10 * int(customer)
            pipe(driver, click(number, START - rng.randrange(week), customer), order(number, START + week, customer))
        right(driver)
        driver.marketing = msgspec.structs.replace(
            ONE, lookback=Lookback(click="3d"), models=("last_touch", "linear"), headline_models=("linear",), revision=2
        )
        driver.stop("a")
        driver.start("b")
        settled(driver)
        for customer in "12345678":
            pipe(driver, visit(10 * int(customer), START + week - HOUR, customer))
        right(driver)
        found = driver.attributions().values()
        assert {(value["status"], value["config"]) for value in found} == {("restated", 2)}
        assert all([credit["channel"] for credit in value["credits"]["linear"]] == ["Email"] for value in found)
