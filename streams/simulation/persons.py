"""Who the persons are, how fast things happen to them, and where their random draws come from."""

from __future__ import annotations

from random import Random
from typing import NamedTuple

from streams.simulation.delivery import DAY, HOUR, MINUTE, SECOND

PERSON, TOUCHES, AFTER, DAYS, LIVE, COSTS = range(6)


def seed_of(seed: int, purpose: int, a: int = 0, b: int = 0) -> int:
    """A distinct integer for each (seed, purpose, a, b), to seed a generator with."""
    return (((seed & 0xFFFFFFFFFFFFFFFF) << 8 | purpose) << 64 | a) << 64 | b


class Pace(NamedTuple):
    """How fast journeys go, as (least, width) of uniform delays in microseconds; `gap` None means days and nights."""

    gap: tuple[int, int] | None
    order: tuple[int, int]
    slow_order: tuple[int, int]
    refund: tuple[int, int]
    stage: tuple[int, int]


HISTORY = Pace(None, (90 * SECOND, 25 * MINUTE), (HOUR, 20 * HOUR), (DAY, 9 * DAY), (30 * SECOND, 5 * MINUTE))
LIVE_PACE = Pace(
    (3 * SECOND, 20 * SECOND),
    (61 * SECOND, 30 * SECOND),
    (90 * SECOND, 2 * MINUTE),
    (2 * MINUTE, 10 * MINUTE),
    (8 * SECOND, 20 * SECOND),
)


class Person(NamedTuple):
    """`propensity` is the chance to buy at the end of a journey without any touch, in millionths."""

    customer: str
    devices: tuple[str, ...]
    propensity: int
    activity: float
    consent: bool
    existing: bool


class Persons:
    """Makes the person of an index, the same each time, without remembering any."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._random = Random()

    def __getitem__(self, i: int) -> Person:
        rng = self._random
        rng.seed(seed_of(self._seed, PERSON, i))
        draw = rng.random
        # One person in fifty also uses the device of a neighbour: it changes hands at each login.
        second = f"d{i - 1}a" if i and draw() < 0.02 else f"d{i}b"
        devices = (f"d{i}a", f"d{i}a", second) if draw() < 0.4 else (f"d{i}a",)
        return Person(
            f"u{i}",
            devices,
            int(rng.betavariate(1.4, 11) * 1_000_000),
            0.4 + 1.2 * draw(),
            draw() >= 0.04,
            draw() < 0.3,
        )
