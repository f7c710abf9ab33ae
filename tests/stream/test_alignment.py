"""Orders wait for the touches of before them, for a bounded time."""

from __future__ import annotations

import asyncio

import pytest
from faust.types import TP

from models.settings import HOUR
from streams import alignment
from streams.alignment import Alignment
from streams.ingest import SourcePartition

NOW = 1_000 * HOUR


def source(topic: str, max_time: int | None) -> SourcePartition:
    part = SourcePartition.__new__(SourcePartition)
    part.topic, part.max_time = topic, max_time
    return part


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses asked for, none of them taken."""
    taken: list[float] = []

    async def sleep(seconds: float) -> None:
        taken.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    return taken


@pytest.mark.parametrize(
    ("topic", "max_time", "ended", "waits"),
    [
        ("clicks", NOW - HOUR - 1, False, True),
        ("touchpoints", None, False, True),
        ("clicks", NOW - HOUR, False, False),
        ("clicks", NOW - 900 * HOUR, True, False),
        ("costs", None, False, False),
        ("purchases", NOW - 900 * HOUR, False, False),
    ],
)
async def test_who_is_waited_for(
    pauses: list[float], topic: str, max_time: int | None, ended: bool, waits: bool
) -> None:
    await Alignment({TP(topic, 0): source(topic, max_time)}, lambda tp: ended).wait(NOW)
    assert bool(pauses) is waits


async def test_the_wait_is_bounded(pauses: list[float]) -> None:
    await Alignment({TP("clicks", 0): source("clicks", None)}, lambda tp: False).wait(NOW)
    assert sum(pauses) == pytest.approx(alignment.LONGEST_SECONDS)


async def test_it_ends_as_soon_as_they_have_come(monkeypatch: pytest.MonkeyPatch) -> None:
    part = source("clicks", None)
    slept = 0

    async def sleep(seconds: float) -> None:
        nonlocal slept
        slept += 1
        if slept == 3:
            part.max_time = NOW

    monkeypatch.setattr(asyncio, "sleep", sleep)
    await Alignment({TP("clicks", 0): part}, lambda tp: False).wait(NOW)
    assert slept == 3
