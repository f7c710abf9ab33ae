"""Marks and the watermarks made of them, by hand."""

from __future__ import annotations

from itertools import permutations

import msgspec
import pytest

from attribution.nodes.base import NEVER
from attribution.watermarks import (
    Progress,
    announcing_partitions,
    expected_sources,
    split_source,
    topic_partitions,
)
from models.settings import Marketing, Topics
from models.wire import Mark, source_id

SOURCES = frozenset({"clicks/0", "clicks/1", "costs/0"})
PARTITIONS = frozenset({"journey-events/0", "journey-events/1"})


def progress(*marks: Mark) -> Progress:
    made = Progress()
    for mark in marks:
        made.mark(mark, SOURCES, PARTITIONS)
    return made


def mark(source: str, t: int | None, *, to: int = 1, idle: bool = False) -> Mark:
    return Mark(source, to, t, idle)


def test_a_source_never_heard_from_holds_the_watermark() -> None:
    assert progress().watermark == NEVER
    assert progress(mark("clicks/0", 10), mark("clicks/1", 20)).watermark == NEVER
    assert progress(mark("clicks/0", 10, idle=True), mark("clicks/1", 20, idle=True)).watermark == NEVER
    assert progress(mark("clicks/0", 10), mark("clicks/1", 20), mark("costs/0", 30)).watermark == 10


def test_a_source_without_events_holds_it_until_it_is_idle() -> None:
    busy = progress(mark("clicks/0", 10), mark("clicks/1", 20), mark("costs/0", None, to=0))
    assert busy.watermark == NEVER
    busy.mark(mark("costs/0", None, to=0, idle=True), SOURCES, PARTITIONS)
    assert busy.watermark == 10


def test_it_is_the_minimum_of_what_is_not_idle() -> None:
    made = progress(mark("clicks/0", 10), mark("clicks/1", 20), mark("costs/0", 30))
    made.mark(mark("clicks/0", 10, idle=True), SOURCES, PARTITIONS)
    assert made.watermark == 20
    made.mark(mark("clicks/1", 25, to=2), SOURCES, PARTITIONS)
    assert made.watermark == 25


def test_all_idle_is_the_maximum() -> None:
    made = progress(
        *(mark(source, t, idle=True) for source, t in (("clicks/0", 10), ("clicks/1", 20), ("costs/0", 30)))
    )
    assert made.watermark == 30
    assert progress(*(mark(source, None, to=0, idle=True) for source in SOURCES)).watermark == NEVER


def test_it_never_goes_back() -> None:
    """A source that wakes up behind the others leaves the watermark where it is."""
    made = progress(mark("clicks/0", 10, idle=True), mark("clicks/1", 20), mark("costs/0", 30))
    assert made.watermark == 20
    made.mark(mark("clicks/0", 12, to=2), SOURCES, PARTITIONS)
    assert made.watermark == 20
    made.mark(mark("clicks/0", 40, to=3), SOURCES, PARTITIONS)
    assert made.watermark == 20
    made.mark(mark("clicks/1", 35, to=2), SOURCES, PARTITIONS)
    assert made.watermark == 30


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_of_one_source_the_highest_incarnation_then_offset_then_idleness_wins(order: tuple[int, ...]) -> None:
    marks = [
        mark("clicks/0", 50, to=90),
        mark("clicks/0/1", 60, to=3),
        mark("clicks/0/1", 70, to=4),
        mark("clicks/0/1", 70, to=4, idle=True),
    ]
    made = progress(*(marks[i] for i in order))
    assert made.marks == {"clicks/0": (1, 4, 70, True)}


def test_event_time_of_a_source_never_goes_back() -> None:
    """After a reset a source reads its topic from the start: an older time says nothing new."""
    made = progress(
        mark("clicks/0", 50, to=90), mark("clicks/0/1", 10, to=1), mark("clicks/1", 60), mark("costs/0", 70)
    )
    assert made.marks["clicks/0"] == (1, 1, 50, False)
    assert made.watermark == 50
    made.mark(mark("clicks/0/2", None, to=0), SOURCES, PARTITIONS)
    assert made.marks["clicks/0"] == (2, 0, 50, False)


def test_marks_of_strangers_decide_nothing() -> None:
    made = progress(mark("clicks/0", 10), mark("clicks/1", 20), mark("costs/0", 30))
    made.mark(mark("clicks/7", 99), SOURCES, PARTITIONS)
    made.mark(mark("journey-events/9", 99), SOURCES, PARTITIONS)
    assert (made.watermark, made.sealed, made.highest) == (10, NEVER, 30)


def announced(source: str, t: int | None, heard: int, *, to: int = 1) -> Mark:
    return Mark(source, to, t, False, heard)


def test_what_was_heard_waits_for_every_partition_and_is_the_least() -> None:
    made = progress(mark("journey-events/0", 100))
    assert made.heard == NEVER
    made.mark(mark("journey-events/1", NEVER), SOURCES, PARTITIONS)
    assert made.heard == NEVER
    made.mark(mark("journey-events/1", 70, to=2), SOURCES, PARTITIONS)
    assert made.heard == 70
    made.mark(mark("journey-events/1", 130, to=3), SOURCES, PARTITIONS)
    assert made.heard == 100
    made.mark(mark("journey-events/1", 80, to=2), SOURCES, PARTITIONS)
    assert made.heard == 100
    assert (made.watermark, made.sealed) == (NEVER, NEVER)


def test_sealing_waits_until_every_partition_has_heard_from_all() -> None:
    """A move takes two hops: what a partition has still to pass on, it has not heard of yet."""
    made = progress(announced("journey-events/0", 100, NEVER), announced("journey-events/1", 90, NEVER))
    assert (made.heard, made.sealed) == (90, NEVER)
    made.mark(announced("journey-events/0", 100, 80, to=2), SOURCES, PARTITIONS)
    assert made.sealed == NEVER
    made.mark(announced("journey-events/1", 90, 60, to=2), SOURCES, PARTITIONS)
    assert made.sealed == 60
    made.mark(announced("journey-events/1", 90, 90, to=3), SOURCES, PARTITIONS)
    assert made.sealed == 80
    made.mark(announced("journey-events/0", 100, 70, to=3), SOURCES, PARTITIONS)
    assert made.sealed == 80
    made.mark(announced("journey-events/9", 500, 500), SOURCES, PARTITIONS)
    assert (made.heard, made.sealed) == (90, 80)


def test_the_highest_event_time_is_of_sources_alone() -> None:
    made = progress(mark("clicks/0", 10), mark("clicks/1", 25), mark("journey-events/0", 500))
    assert made.highest == 25
    made.mark(mark("clicks/1", 20, to=2), SOURCES, PARTITIONS)
    assert made.highest == 25


def test_progress_survives_packing() -> None:
    made = progress(mark("clicks/0", 10, to=7), mark("costs/0/2", None, to=0, idle=True), mark("journey-events/1", 5))
    made.applied["clicks/0"] = (7, 3)
    packed = msgspec.msgpack.encode(made)
    again = msgspec.msgpack.decode(packed, type=Progress)
    assert again == made
    assert again.applied == {"clicks/0": (7, 3)}


def test_names_of_sources() -> None:
    assert split_source("clicks/3") == ("clicks/3", 0)
    assert split_source(source_id("clicks", 3, 12)) == ("clicks/3", 12)
    assert source_id("clicks", 3) == "clicks/3"


def test_who_must_be_heard_from_is_configured() -> None:
    marketing = Marketing(topics=Topics(clicks=2, touchpoints=1, purchases=1, costs=1, journey_events=2))
    assert expected_sources(marketing) == {"clicks/0", "clicks/1", "touchpoints/0", "purchases/0", "costs/0"}
    assert announcing_partitions(marketing) == {"journey-events/0", "journey-events/1"}
    assert topic_partitions(marketing)["journey-events"] == 2
