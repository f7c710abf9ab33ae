"""Everything that may go wrong, as one may ask of a simulation: each takes the trial and comes back when it is over.

A fault that lasts (rates of lost requests, failing work) is drawn afresh by `Weather` for each request, until its time is up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any

import msgspec
from faust.types import TP

from attribution.watermarks import JOURNEY
from streams.memory_kafka import Fate, Faults

if TYPE_CHECKING:
    from streams.testing.driver import Driver
    from streams.testing.worker import Worker


class Failure(Exception):
    """What the simulation throws into work."""


class Weather(Faults):
    """The faults of the in-memory Kafka and of the work of agents; each lasts until a time of the loop."""

    def __init__(self, rng: Random, now: Callable[[], float]) -> None:
        super().__init__(rng)
        self._now = now
        self.until = dict.fromkeys(("produce", "fetch", "work", "agent"), 0.0)
        self.holes = 0.03
        self.happened = 0

    def strikes(self, kind: str, chance: float) -> bool:
        """Whether this request is hit."""
        hit = self._now() < self.until[kind] and self.rng.random() < chance
        self.happened += hit
        return hit

    def latency(self) -> float:
        return self.rng.uniform(0.002, 0.03)

    def produced(self, client: str, topic: str) -> Fate:
        if not self.strikes("produce", 0.25):
            return "appended"
        return self.rng.choice(("lost", "unacknowledged", "unacknowledged", "doubled"))

    def fetched(self, client: str) -> bool:
        return not self.strikes("fetch", 0.2)

    def gap(self, topic: str) -> int:
        return self.rng.randrange(1, 4) if self.rng.random() < self.holes else 0

    def onto(self, worker: Worker) -> None:
        """Let work and agents of this worker fail."""
        lanes = worker.app.runtime.lanes
        work, put = lanes._work, lanes.put

        async def failing(batch: Any) -> None:
            if not self.strikes("work", 0.3):
                return await work(batch)
            match self.rng.randrange(3):
                case 0:
                    raise Failure("before the work")
                case 1:
                    await work(batch)
                    raise Failure("after the work")
            task: asyncio.Task[None] = asyncio.ensure_future(work(batch))
            await asyncio.wait({task}, timeout=self.rng.uniform(0.0, 0.05))
            task.cancel()
            return await task

        async def crashing(batch: Any) -> None:
            if self.strikes("agent", 0.2):
                raise Failure("in the agent")
            await put(batch)

        lanes._work, lanes.put = failing, crashing  # type: ignore[method-assign]


Inject = Callable[["Driver", Weather, Random], None]


def _lasting(kind: str) -> Inject:
    def inject(driver: Driver, weather: Weather, rng: Random) -> None:
        weather.until[kind] = driver.now + rng.uniform(0.2, 1.5)
        driver.advance(rng.uniform(0.0, 0.5))

    return inject


def kill(driver: Driver, weather: Weather, rng: Random) -> None:
    """One worker dies and comes back."""
    name = rng.choice(sorted(driver.workers))
    driver.kill(name)
    driver.advance(rng.choice((0.0, rng.uniform(0.0, 2.5))))
    driver.start(name)


def kill_all(driver: Driver, weather: Weather, rng: Random) -> None:
    """All die at once."""
    names = sorted(driver.workers)
    for name in names:
        driver.kill(name)
    driver.advance(rng.uniform(0.0, 0.5))
    for name in names:
        driver.start(name)


def redeploy(driver: Driver, weather: Weather, rng: Random) -> None:
    """One worker stops in good order, and comes back."""
    name = rng.choice(sorted(driver.workers))
    driver.stop(name)
    driver.advance(rng.uniform(0.0, 0.5))
    driver.start(name)


def reconfigure(driver: Driver, weather: Weather, rng: Random) -> None:
    """All workers are replaced, one by one, by such with a new configuration, which means the same."""
    driver.marketing = msgspec.structs.replace(driver.marketing, revision=driver.marketing.revision + 1)
    for name in sorted(driver.workers):
        driver.stop(name)
        driver.start(name)
        driver.advance(rng.uniform(0.0, 1.0))


def rebalance(driver: Driver, weather: Weather, rng: Random) -> None:
    """The group assigns anew, more than once in a row at times."""
    for _ in range(rng.choice((1, 1, 2))):
        driver.cluster.rebalance()
        driver.advance(rng.uniform(0.05, 0.3))


def zombie(driver: Driver, weather: Weather, rng: Random) -> None:
    """A worker cut off from its group goes on working beside those that took over."""
    name = rng.choice(sorted(driver.workers))
    driver.cut(name)
    driver.advance(rng.uniform(0.05, 1.5))
    driver.heal(name)


def frozen(driver: Driver, weather: Weather, rng: Random) -> None:
    """A worker stopped in mid-work, longer than its session, goes on where it was."""
    name = rng.choice(sorted(driver.workers))
    driver.freeze(name)
    driver.advance(rng.uniform(0.05, 0.3))
    driver.cut(name)
    driver.advance(rng.uniform(0.1, 2.0))
    driver.thaw(name)
    driver.advance(rng.uniform(0.0, 0.5))
    driver.heal(name)


def redis_request(driver: Driver, weather: Weather, rng: Random) -> None:
    """Claims and commits do not arrive."""
    driver.line.lose_request = rng.randrange(1, 5)
    driver.advance(rng.uniform(0.0, 0.3))


def redis_reply(driver: Driver, weather: Weather, rng: Random) -> None:
    """Claims and commits are done, and nobody hears of it."""
    driver.line.lose_reply = rng.randrange(1, 5)
    driver.advance(rng.uniform(0.0, 0.3))


def redis_crash(driver: Driver, weather: Weather, rng: Random) -> None:
    """Redis dies, nothing lost, and is away for a moment."""
    driver.crash_redis(away=rng.choice((0.0, rng.uniform(0.0, 1.0))))


def redis_truncated(driver: Driver, weather: Weather, rng: Random) -> None:
    """Redis dies, and a random number of bytes at the end of its append-only file are lost."""
    written = driver.written()
    driver.crash_redis(lose=rng.choice((rng.randrange(1, written), rng.randrange(1, min(written, 4000)))))


def redis_paused(driver: Driver, weather: Weather, rng: Random) -> None:
    """The server's process is stopped."""
    driver.pause_redis(rng.choice((rng.uniform(0.0, 1.0), rng.uniform(4.0, 7.0))))


def redis_slow(driver: Driver, weather: Weather, rng: Random) -> None:
    """Each call takes longer."""
    driver.line.slow = rng.choice((0.001, 0.05))
    driver.advance(rng.uniform(0.2, 1.0))
    driver.line.slow = 0.0


def redis_wiped(driver: Driver, weather: Weather, rng: Random) -> None:
    """Everything is gone."""
    driver.wipe_redis()


def rolled_back(driver: Driver, weather: Weather, rng: Random) -> None:
    """One partition becomes what it was, the others stay: after some more work, that of the partition included."""
    journeys = [tp for tp in driver.positions() if tp.topic == JOURNEY]
    tp: TP = rng.choice([rng.choice(sorted(driver.positions())), rng.choice(journeys)])
    before = driver.snapshot(tp)
    driver.advance(rng.uniform(0.05, 1.0))
    driver.roll_back(tp, before)


FAULTS: dict[str, Inject] = {
    "kill": kill,
    "kill_all": kill_all,
    "redeploy": redeploy,
    "reconfigure": reconfigure,
    "rebalance": rebalance,
    "zombie": zombie,
    "frozen": frozen,
    "produce": _lasting("produce"),
    "fetch": _lasting("fetch"),
    "work": _lasting("work"),
    "agent": _lasting("agent"),
    "redis_request": redis_request,
    "redis_reply": redis_reply,
    "redis_crash": redis_crash,
    "redis_truncated": redis_truncated,
    "redis_paused": redis_paused,
    "redis_slow": redis_slow,
    "redis_wiped": redis_wiped,
    "rolled_back": rolled_back,
}
