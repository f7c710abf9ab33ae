"""The test driver's public doors; each kind of fault alone; and that a missing protection is noticed."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from faust.types import TP

from attribution.nodes.state import Order, Person
from models.settings import Marketing, Topics
from streams.codec import FORMAT
from streams.embedded import RedisServer
from streams.memory_kafka import Fate, Faults
from streams.testing import Driver, Unsettled, trial
from streams.testing.faults import FAULTS

ONE = Marketing(topics=Topics(clicks=1, touchpoints=1, purchases=1, costs=1, journey_events=2))
CLICK = {
    "event_id": "k1", "occurred_at": "2026-03-01T10:00:00Z", "customer_id": "7", "channel": "Paid Search",
    "network": "google", "campaign": "brand",
}  # fmt: skip
ORDER = {
    "type": "order", "event_id": "o1", "occurred_at": "2026-03-02T10:00:00Z", "customer_id": "7", "order_id": "A1",
    "revenue": "99.99", "currency": "EUR",
}  # fmt: skip


def packed(event: object) -> bytes:
    return json.dumps(event).encode()


def test_pipe_in_read_out_inspect(redis: RedisServer) -> None:
    with Driver(ONE, redis) as driver:
        driver.start("a")
        assert driver.pipe_in("clicks", packed(CLICK)) == (0, 0)
        driver.pipe_in("purchases", packed(ORDER))
        driver.pipe_in("purchases", b"{")
        driver.run_until_settled()
        (attribution,) = driver.attributions().values()
        assert attribution["order_id"] == "A1"
        assert attribution["credits"]["last_touch"][0]["campaign"] == "brand"
        (record,) = driver.read_out("attributions")
        assert json.loads(record.value)["conversion_id"] == attribution["conversion_id"]
        assert driver.read_out("attributions") == []
        assert driver.dead_letters() == {("purchases", 0, 1, "malformed_json")}
        assert isinstance(driver.state("c:7"), Person)
        assert isinstance(driver.state("o:A1"), Order)
        assert driver.state("c:8") is None


def test_state_of_an_earlier_version_waits_for_a_rebuild(redis: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    """A worker does not read what it would misread, says what to do, and that helps."""
    with Driver(ONE, redis) as driver:
        driver.start("a")
        driver.pipe_in("clicks", packed(CLICK))
        driver.pipe_in("purchases", packed(ORDER))
        driver.run_until_settled()
        driver.stop("a")
        tp = TP(driver.journey, 1)
        before = driver.store.hgetall(f"{driver.tag(tp)}meta")
        assert before[b"format"] == b"%d" % FORMAT
        driver.store.hset(f"{driver.tag(tp)}meta", "format", FORMAT - 1)
        driver.start("b")
        driver.advance(10.0)
        driver.stop("b")
        assert driver.store.hget(f"{driver.tag(tp)}meta", "position") == before[b"position"]
        assert (
            f"{tp.topic}-1 has format {FORMAT - 1}, of an earlier version, and this one reads {FORMAT}: parcours rebuild"
            in caplog.text
        )
        driver.rebuild()
        driver.start("c")
        driver.run_until_settled()
        assert isinstance(driver.state("c:7"), Person)


def test_time_passes_only_when_told(redis: RedisServer) -> None:
    with Driver(ONE, redis) as driver:
        driver.start("a")
        driver.pipe_in("clicks", packed(CLICK))
        before = driver.now
        assert driver.undone() == 1
        driver.advance(60.0)
        assert driver.now == pytest.approx(before + 60.0)
        assert driver.undone() == 0


def test_without_a_worker_nothing_settles(redis: RedisServer) -> None:
    with Driver(ONE, redis) as driver:
        driver.pipe_in("clicks", packed(CLICK))
        with pytest.raises(Unsettled, match="clicks-0: at \\(0, 0\\) of 1, held by nobody"):
            driver.run_until_settled(10.0)


def test_a_killed_worker_leaves_its_partitions_to_another(redis: RedisServer) -> None:
    with Driver(ONE, redis) as driver:
        driver.start("a")
        driver.start("b")
        driver.pipe_in("clicks", packed(CLICK))
        driver.run_until_settled()
        driver.kill("a")
        driver.pipe_in("purchases", packed(ORDER))
        driver.run_until_settled()
        assert sorted(driver.workers) == ["b"]
        assert len(driver.attributions()) == 1
        assert "held by nobody" not in driver.report()


@pytest.mark.parametrize("away", ["redis", "kafka"])
def test_a_worker_stops_while_it_starts(redis: RedisServer, away: str) -> None:
    """Told to stop while it waits for a server, it waits no more, and nothing of it goes on."""
    with Driver(ONE, redis) as driver:
        if away == "redis":
            driver.line.lose_request = 1 << 30
            driver.line.slow = 3.0
        else:
            driver.cluster.faults.latency = lambda: 1e6  # type: ignore[method-assign]
        worker = driver.start("a")
        driver.advance(1.0)
        assert worker.starting is not None
        assert not worker.starting.done()
        before = driver.now
        driver.stop("a")
        assert driver.now - before < 10.0
        driver.advance(1.0)
        assert worker.starting.done()
        assert worker.starting.exception() is None
        assert driver.loop.tasks_of(worker.client) == []


def test_workers_share_out_their_memory_over_what_they_hold(redis: RedisServer) -> None:
    def limits(name: str) -> list[int]:
        claims = driver.workers[name].app.runtime.claims
        assert claims is not None
        parts = [part for tp, part in claims.parts.items() if tp.topic == "journey-events"]
        return [part._cache for part in parts]  # type: ignore[union-attr]

    with Driver(ONE, redis, cache_mb=8) as driver:
        driver.start("a")
        driver.advance(5.0)
        assert limits("a") == [4 << 20, 4 << 20]
        driver.start("b")
        driver.advance(10.0)
        assert limits("a") == limits("b") == [8 << 20]
        driver.kill("b")
        driver.advance(10.0)
        assert limits("a") == [4 << 20, 4 << 20]


def test_an_order_is_restated_when_a_touch_comes_late(redis: RedisServer) -> None:
    with Driver(ONE, redis) as driver:
        driver.start("a")
        driver.pipe_in("purchases", packed(ORDER))
        driver.run_until_settled()
        (first,) = driver.attributions().values()
        driver.pipe_in("clicks", packed(CLICK))
        driver.run_until_settled()
        (second,) = driver.attributions().values()
        assert (first["status"], second["status"]) == ("unattributed", "restated")
        assert second["version"] > first["version"]


def test_a_partition_rolled_back_catches_up_alone(redis: RedisServer) -> None:
    """Its position is asked while it is idle: no new event has to come for it."""
    with Driver(ONE, redis) as driver:
        driver.start("a")
        driver.advance(2.0)
        before = {tp: driver.snapshot(tp) for tp in driver.positions() if tp.topic == "journey-events"}
        driver.pipe_in("clicks", packed(CLICK))
        driver.run_until_settled()
        node = driver.state("c:7")
        for tp, snapshot in before.items():
            driver.roll_back(tp, snapshot)
        assert driver.state("c:7") is None
        driver.run_until_settled()
        assert driver.state("c:7") == node


class LosesOne(Faults):
    """Loses one request to the log of record, once told to."""

    left = 0

    def produced(self, client: str, topic: str) -> Fate:
        if topic == "journey-events" and self.left:
            self.left -= 1
            return "lost"
        return "appended"


def test_a_block_of_several_is_lost(redis: RedisServer) -> None:
    """The others of its fetch are called off, and the partition's lane lives on."""
    with Driver(ONE, redis) as driver:
        faults = driver.cluster.faults = LosesOne(driver.rng)
        driver.start("a")
        driver.advance(3.0)
        for customer in "12345678":
            driver.pipe_in("clicks", packed(CLICK | {"event_id": f"k{customer}", "customer_id": customer}))
        faults.left = 1
        driver.run_until_settled(30.0)
        assert faults.left == 0
        assert all(driver.state(f"c:{customer}") for customer in "12345678")


def test_a_fetch_lost_in_the_agent_is_not_passed_over(redis: RedisServer) -> None:
    """The fetch behind it is refused: it does not begin where the partition stands."""
    with Driver(ONE, redis, max_poll_records=1) as driver:
        lanes = driver.start("a").app.runtime.lanes
        put = lanes.put
        failed: list[Any] = []

        async def failing(batch: Any) -> None:
            if batch.tp.topic == "clicks" and not failed:
                failed.append(batch)
                raise RuntimeError("in the agent")
            await put(batch)

        lanes.put = failing  # type: ignore[method-assign]
        for customer in "123":
            driver.pipe_in("clicks", packed(CLICK | {"event_id": f"k{customer}", "customer_id": customer}))
        driver.run_until_settled(30.0)
        assert failed
        assert all(driver.state(f"c:{customer}") for customer in "123")


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_one_kind_of_fault(redis: RedisServer, fault: str) -> None:
    one = trial.run(17, redis, [fault])
    assert one.wrong == []
    assert len(one.strikes) == 8
    assert sum(undone > 0 for _, undone in one.strikes) >= 6


def test_work_done_before_the_faults_is_a_failure(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "history", lambda seed, rng: [("clicks", packed(CLICK), 1_772_400_000_000)])
    one = trial.run(1, redis, ["rebalance"])
    assert [wrong.partition(":")[0] for wrong in one.wrong] == ["most of the work was finished before the faults"]


def test_the_configuration_is_that_of_the_driver(redis: RedisServer) -> None:
    one_hour = msgspec.structs.replace(ONE, lookback=msgspec.structs.replace(ONE.lookback, click="1h"))
    with Driver(one_hour, redis) as driver:
        driver.start("a")
        driver.pipe_in("clicks", packed(CLICK))
        driver.pipe_in("purchases", packed(ORDER))
        driver.run_until_settled()
        (attribution,) = driver.attributions().values()
        assert (attribution["status"], attribution["reason"]) == ("unattributed", "outside_window")
