"""The histories that integration tests publish, and the batch pass they are held against."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from integration.apache_kafka import chosen, version
from integration.stack import Item, Stack, replayed

from models.settings import load_marketing
from streams.simulator import PARCOURS_TOML, Record, Simulation

TOML = PARCOURS_TOML.replace('clock = "wall"', "") + "\n"


class World(NamedTuple):
    """A simulated history and what a batch pass says of it."""

    records: list[Record]
    expected: dict[str, dict[str, Any]]

    @property
    def items(self) -> list[Item]:
        return [(record.topic, record.value) for record in self.records]

    def timestamps(self) -> Callable[[Item], int | None]:
        published = {(record.topic, record.value): record.published_at // 1000 for record in self.records}
        return lambda item: published[item]

    def shuffled(self, seed: int, horizon_us: int, duplicates: float) -> list[Item]:
        """The good records out of order by up to the horizon, some of them twice."""
        draw = random.Random(seed)
        stock = [record for record in self.records if record.good]
        stock += [record for record in stock if draw.random() < duplicates]
        stock.sort(key=lambda record: record.published_at + draw.randrange(horizon_us))
        return [(record.topic, record.value) for record in stock]


def world(days: float, persons: int, seed: int, folder: Path) -> World:
    config = folder / "parcours.toml"
    config.write_text(TOML)
    simulation = Simulation(seed, start=datetime(2026, 1, 1, tzinfo=UTC), days=days, persons=persons)
    records = list(simulation.records())
    good = [(record.topic, record.value) for record in records if record.good]
    return World(records, dict(replayed(load_marketing(config), good)))


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> World:
    """About 8 000 records over 40 days."""
    return world(40, 300, 5, tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="session")
def large(tmp_path_factory: pytest.TempPathFactory) -> World:
    """About 100 000 records over 75 days."""
    return world(75, 2000, 7, tmp_path_factory.mktemp("large"))


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Callable[..., Stack]]:
    """Makes a stack with these environment settings; it is gone after the test."""
    made: list[Stack] = []

    def make(toml: str = TOML, **env: str) -> Stack:
        made.append(Stack(tmp_path, toml, **env).__enter__())
        return made[-1]

    yield make
    for each in made:
        each.__exit__()


def pytest_report_header() -> str:
    """Which broker these tests run on."""
    return f"integration broker: {'Apache Kafka ' + str(version()) if chosen() == 'apache' else 'embedded'}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say last what was run on what."""
    if chosen() == "apache":
        terminalreporter.write_line(f"The integration tests ran on Apache Kafka {version()}.")
    else:
        terminalreporter.write_line(
            "NOT RUN on Apache Kafka: the integration tests ran on the embedded broker (make test-kafka).", yellow=True
        )
