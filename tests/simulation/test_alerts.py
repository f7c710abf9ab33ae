"""Alerts of whole workers: killed again and again between judging, storing and publishing, they give one id."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from models.settings import AlertRule, Marketing, Topics
from streams.embedded import RedisServer
from streams.testing import Driver

EPOCH = 1_800_000_000
RULE = AlertRule(name="cpa", metric="cpa", campaign="*", threshold=Decimal(60), clear=Decimal(50), window="24h")
WATCHED = Marketing(
    topics=Topics(clicks=1, touchpoints=1, purchases=1, costs=1, journey_events=2), alerts=(RULE,)
)  # fmt: skip
PLACES = ("before storing", "after storing", "after publishing")


class Watched:
    """A driver whose workers tell virtual time, and whose next worker to reach a place stops there for ever."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.place: str | None = None
        self.reached: str | None = None
        driver.on_start.append(self._clocks)

    def _clocks(self, worker: Any) -> None:
        runtime = worker.app.runtime
        runtime.owner = worker.client
        runtime.wall = lambda: EPOCH + self.driver.now
        runtime.clock = lambda: self.driver.now
        runtime.cpu = lambda: 0.0

    def arm(self, name: str, place: str) -> None:
        """The worker, once it has something to say, gets to `place` and no further."""
        self.place, self.reached = place, None
        watch = self.driver.workers[name].app.runtime.watch
        assert watch is not None
        begin, publish = watch.begin, watch._publish

        async def beginning() -> None:
            await begin()
            store = watch._store
            assert store is not None
            if not hasattr(store, "armed"):
                store.armed = True  # type: ignore[attr-defined]
                store.save = self._storing(store.save)  # type: ignore[method-assign]

        async def publishing(values: Any) -> None:
            await publish(values)
            await self._stop(name, "after publishing")

        watch.begin = beginning  # type: ignore[method-assign]
        watch._publish = publishing

    def _storing(self, save: Callable[[Any], Awaitable[None]]) -> Callable[[Any], Awaitable[None]]:
        async def storing(kept: Any) -> None:
            fires = any(state.phase == "firing" for state in kept.states)
            if fires:
                await self._stop("", "before storing")
            await save(kept)
            if fires:
                await self._stop("", "after storing")

        return storing

    async def _stop(self, name: str, place: str) -> None:
        if self.place == place:
            self.reached = place
            await asyncio.Event().wait()

    def until(self, told: Callable[[], bool], seconds: float = 60.0) -> None:
        deadline = self.driver.now + seconds
        while not told():
            assert self.driver.now < deadline, self.driver.report()
            self.driver.advance(0.25)

    def leads(self, name: str) -> bool:
        """Whether this worker has become the leader and its watch exists."""
        runtime = self.driver.workers[name].app.runtime
        return runtime.watch is not None


def click(driver: Driver, number: int, cost: str) -> bytes:
    at = datetime.fromtimestamp(EPOCH + driver.now, UTC).isoformat()
    return json.dumps({
        "event_id": f"k{number}", "occurred_at": at, "customer_id": "7", "channel": "Paid Social", "network": "facebook",
        "campaign": "spring", "cost": cost, "currency": "EUR",
    }).encode()  # fmt: skip


@pytest.mark.slow
def test_twenty_kills_give_one_id(redis: RedisServer) -> None:
    with Driver(WATCHED, redis, alert_interval=0.25) as driver:
        watched = Watched(driver)
        driver.start("w0")
        watched.until(lambda: watched.leads("w0"))
        watched.arm("w0", PLACES[0])
        driver.pipe_in("clicks", click(driver, 1, "500"))
        for kill in range(20):
            watched.until(lambda: watched.reached is not None)
            driver.kill(f"w{kill}")
            driver.start(f"w{kill + 1}")
            name = f"w{kill + 1}"
            watched.until(lambda name=name: watched.leads(name))  # type: ignore[misc]
            # Once it is stored it is not judged to fire again: the later kills come where it is sent.
            watched.arm(name, PLACES[0] if kill < 6 else PLACES[1] if kill == 6 else PLACES[2])
        watched.place = None
        driver.kill("w20")
        driver.start("last")
        driver.advance(20.0)
        said = [json.loads(record.value) for record in driver.cluster.read("alerts")]
        assert len({(one["id"], one["status"]) for one in said}) == 1
        assert len({record.value for record in driver.cluster.read("alerts")}) == 1
        assert len(said) >= 12
        # And that it is over is said once.
        for number in range(12):
            order = {
                "type": "order", "event_id": f"o{number}", "order_id": f"A{number}", "customer_id": "7", "revenue": "99.99",
                "currency": "EUR", "occurred_at": datetime.fromtimestamp(EPOCH + driver.now, UTC).isoformat(),
            }  # fmt: skip
            driver.pipe_in("purchases", json.dumps(order).encode())
        driver.advance(20.0)
        resolved = [json.loads(record.value) for record in driver.cluster.read("alerts")][len(said) :]
        assert [(one["id"], one["status"]) for one in resolved] == [(said[0]["id"], "resolved")]


def test_each_crossing_gives_one_alert_while_the_leader_moves(redis: RedisServer) -> None:
    with Driver(WATCHED, redis, alert_interval=0.25) as driver:
        watched = Watched(driver)
        driver.start("a")
        driver.start("b")
        driver.advance(8.0)
        for number in range(12):
            value = json.loads(click(driver, number, "200")) | {"campaign": f"c{number}", "customer_id": f"u{number}"}
            driver.pipe_in("clicks", json.dumps(value).encode())
            driver.advance(1.5)
            if number in (3, 7):
                name = "ab"[number // 4 % 2]
                driver.stop(name)
                driver.advance(1.0)
                driver.start(name)
        driver.advance(20.0)
        said = [json.loads(record.value) for record in driver.cluster.read("alerts")]
        assert sorted(one["campaign"] for one in said) == sorted(f"c{number}" for number in range(12))
        assert {one["status"] for one in said} == {"firing"}
        assert watched.place is None
