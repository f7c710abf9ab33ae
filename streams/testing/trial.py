"""One seeded trial: a history is piped in portion by portion, a fault strikes in the middle of each, and all must come right."""

from __future__ import annotations

import contextlib
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random

import msgspec

from models.settings import Marketing, Topics
from streams import blocks
from streams.embedded import RedisServer
from streams.simulator import PARCOURS_TOML, Simulation
from streams.testing.driver import Driver, Unsettled
from streams.testing.faults import FAULTS, Weather
from streams.testing.oracle import chained, differences

POISON: tuple[bytes | None, ...] = (
    None,
    b"",
    b"{",
    b"[]",
    b"null",
    b"\xff\xfe{}",
    b'{"event_id": 7}',
    b"[" * 100_000,
    b'{"event_id": "x", "occurred_at": "yesterday"}',
    b'{"event_id": "big", "note": "' + b"x" * (1 << 20) + b'"}',
)
Published = tuple[str, bytes | None, int]
"""Topic, value, timestamp in milliseconds."""
SOURCES = ("clicks", "touchpoints", "purchases", "costs")


@dataclass
class Trial:
    """What a seed came to.

    `strikes`: each fault with how many offsets were not yet worked when it struck. `wrong`: what is not as it must be, in
    words. `digest`: of all logs; equal when the same happened.
    """

    seed: int
    strikes: list[tuple[str, int]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    records: int = 0
    seconds: float = 0.0
    digest: str = ""


def marketing() -> Marketing:
    """The simulated shop's configuration with partition counts that differ."""
    return msgspec.structs.replace(
        msgspec.convert(tomllib.loads(PARCOURS_TOML), Marketing),
        topics=Topics(clicks=2, touchpoints=2, purchases=1, costs=1, journey_events=3),
    )


def history(seed: int, rng: Random) -> list[Published]:
    """Some hundred records of a simulated shop, with duplicates and poison among them."""
    simulation = Simulation(
        seed,
        start=datetime(2026, 1, 1, tzinfo=UTC),
        days=16,
        persons=20,
        bad_share=0.02,
        duplicate_share=0.08,
        late_share=0.06,
    )
    # Cost reports outnumber all else in so small a shop.
    records: list[Published] = [
        (record.topic, record.value, record.published_at // 1000)
        for record in simulation.records()
        if record.topic != "costs" or rng.random() < 0.3
    ]
    if rng.random() < 0.4:
        # One topic is far ahead of the others: the watermark has to wait for them.
        ahead = rng.choice(SOURCES[:2])
        records.sort(key=lambda record: record[0] != ahead)
    for value in rng.sample(POISON, 4):
        at = rng.randrange(len(records))
        records.insert(at, (rng.choice(SOURCES), value, records[at][2]))
    return records


def run(seed: int, redis: RedisServer, faults: Sequence[str] = tuple(FAULTS), strikes: int = 8) -> Trial:
    """Run one trial on a Redis that runs and is of no use to anyone else."""
    trial = Trial(seed)
    rng = Random(f"trial {seed}")
    records = history(seed, rng)
    trial.records = len(records)
    plan = rng.sample(list(faults), strikes) if strikes <= len(faults) else rng.choices(list(faults), k=strikes)
    with chained(), small_blocks(), Driver(marketing(), redis, seed=seed) as driver:
        weather = driver.cluster.faults = Weather(driver.rng, lambda: driver.now)
        driver.on_start.append(weather.onto)
        for name in "abc"[: rng.choice((2, 3))]:
            driver.start(name)
        driver.advance(rng.uniform(0.0, 1.0))
        try:
            for name, portion in zip(plan, _portions(records, len(plan)), strict=True):
                _strike(driver, weather, rng, name, portion, trial)
            driver.run_until_settled()
        except Unsettled as error:
            trial.wrong.append(str(error))
        else:
            trial.wrong += differences(driver)
        if 2 * sum(undone > 0 for _, undone in trial.strikes) < len(plan):
            trial.wrong.append(f"most of the work was finished before the faults: {trial.strikes}")
        trial.seconds = driver.now
        trial.digest = driver.cluster.digest()
    return trial


@contextlib.contextmanager
def small_blocks(most: int = 3) -> Iterator[None]:
    """So that a fetch makes several blocks for one target."""
    before, blocks.ENTRIES_MAX = blocks.ENTRIES_MAX, most
    try:
        yield
    finally:
        blocks.ENTRIES_MAX = before


def _portions(items: list[Published], count: int) -> Iterator[list[Published]]:
    for i in range(count):
        yield items[i * len(items) // count : (i + 1) * len(items) // count]


def _strike(
    driver: Driver, weather: Weather, rng: Random, name: str, portion: Sequence[Published], trial: Trial
) -> None:
    """Pipe a portion in, wait until some of it is done, and let the fault strike while some is not."""
    for topic, value, timestamp in portion:
        driver.pipe_in(topic, value, timestamp)
        if rng.random() < 0.02:
            driver.cluster.marker(rng.choice([tp for tp in driver.cluster.logs if tp.topic == topic]))
    begun = driver.undone()
    enough = begun * rng.uniform(0.2, 0.95)
    deadline = driver.now + 60
    while (left := driver.undone()) > enough:
        if driver.now > deadline:
            raise Unsettled(f"no progress in 60 s before {name}: {driver.report()}")
        driver.advance(0.01)
        driver.revive()
    trial.strikes.append((name, left))
    FAULTS[name](driver, weather, rng)
