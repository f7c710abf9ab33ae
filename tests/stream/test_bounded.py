"""Keys that grow without end: their nodes stay bounded, and what an event costs does not grow with what came before.

The cost is counted in lines of Python, not in time: the same on every machine. `python -m bench.bounds --events 1000000` measures
the same cases at full length and with the real bounds.
"""

from __future__ import annotations

import asyncio
import sys
from itertools import islice
from types import FrameType
from typing import Any

import pytest

from attribution.nodes import customer, device, order, person
from bench.bounds import CASES, Part, Run, events

BOUND = 20
STEP = 20


class Lines:
    """Counts the lines that run meanwhile, each turn of a loop anew."""

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> Lines:
        sys.settrace(self._trace)
        return self

    def __exit__(self, *error: object) -> None:
        sys.settrace(None)

    def _trace(self, frame: FrameType, event: str, arg: Any) -> Any:
        self.count += event == "line"
        return self._trace


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(person, "CONVERSIONS_MAX", BOUND)
    monkeypatch.setattr(person, "FILED_MAX", 10 * BOUND)
    monkeypatch.setattr(customer, "SPARES_MAX", BOUND)
    monkeypatch.setattr(device, "LINKS_MAX", BOUND)
    monkeypatch.setattr(device, "AWAY_MAX", BOUND)
    monkeypatch.setattr(order, "PER_ORDER_MAX", BOUND)


def costs(name: str, parts: int, each: int, journey_max: int = BOUND) -> list[Part]:
    """Lines (as `seconds`) and size after each of so many parts of a case."""
    case = CASES[name]
    arriving = events(case, parts * each)
    found = []
    with asyncio.Runner() as runner:

        async def make() -> Run:
            return Run(frozenset((f"n:{case.node}",)), journey_max=journey_max)

        run = runner.run(make())
        for _ in range(parts):
            with Lines() as lines:
                for _ in range(each // STEP):
                    runner.run(run.take(list(islice(arriving, STEP))))
            found.append(Part(each, lines.count, len(run.node(case.node)), 0))
    return found


@pytest.mark.parametrize("name", CASES)
@pytest.mark.usefixtures("small")
def test_beyond_its_bounds_a_key_costs_and_takes_no_more(name: str) -> None:
    parts = costs(name, 8, 100)
    assert parts[7].seconds < 1.25 * parts[3].seconds
    assert parts[7].size < 1.25 * parts[3].size


@pytest.mark.usefixtures("small")
def test_a_journey_twice_as_long_costs_about_twice_as_much() -> None:
    """And not four times, as it would if each visit looked through all clicks."""
    (*_, short), (*_, long) = (costs("robot", 3, 160, journey_max) for journey_max in (60, 120))
    assert long.seconds < 2.4 * short.seconds
