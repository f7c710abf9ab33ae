"""Packed nodes and cells come back as they were, and small."""

from __future__ import annotations

from random import Random
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attribution.facts import CLICKS, CONVERSION
from attribution.nodes.state import (
    Away,
    Conversion,
    CostRow,
    Device,
    Filed,
    Given,
    JourneyEvent,
    Linked,
    Node,
    Order,
    Person,
    Refunded,
    Report,
    Restated,
    Spare,
    TouchRef,
)
from attribution.restated import CAUSES
from models.settings import HOUR, RULE_MODELS
from streams.codec import (
    FORMAT,
    Memo,
    Names,
    pack_cell,
    pack_ids,
    pack_node,
    pack_person,
    unpack_cell,
    unpack_ids,
    unpack_node,
)

U1, U2 = "3f2b8c1e-0d4a-4c6b-9f11-7a5e2d9c0b3d", "00000000-ffff-4aaa-8bbb-123456789abc"

TIMES = st.integers(-(1 << 61), 1 << 61)
MICROS = st.integers(-(1 << 63), (1 << 63) - 1)
IDS = st.text(min_size=1, max_size=12) | st.uuids().map(str) | st.uuids().map(lambda u: str(u).upper())
NAMES = st.sampled_from(["", "google", "(none)", "Paid Search", "été"]) | st.text(max_size=5)
DIMS = st.tuples(NAMES, NAMES, NAMES)
DIGESTS = st.integers(0, (1 << 32) - 1)


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


EVENTS = st.builds(
    JourneyEvent, TIMES, IDS, st.integers(0, 4), NAMES, DIMS, maybe(st.text(min_size=1, max_size=9)), st.integers(0, 3),
    maybe(MICROS), DIGESTS,
)  # fmt: skip
REFS = st.builds(TouchRef, IDS, TIMES, DIMS)


@st.composite
def filed(draw: st.DrawFn) -> Filed:
    touches = tuple(draw(st.lists(REFS, max_size=4)))
    models = draw(st.lists(st.sampled_from(RULE_MODELS), unique=True, max_size=3))
    weights = st.lists(st.integers(0, 1 << 40), min_size=len(touches), max_size=len(touches)).map(tuple)
    shared = tuple((model, draw(weights)) for model in models)
    return Filed(draw(st.integers(0, 99)), None if touches else "no_touch_known", touches, shared)


CONVERSIONS = st.builds(
    Conversion, TIMES, IDS, NAMES, IDS, MICROS, MICROS, maybe(MICROS), maybe(MICROS), maybe(st.booleans()), DIGESTS,
    maybe(st.sampled_from(["cancelled", "refunded"])), st.booleans(), NAMES, maybe(st.booleans()), maybe(filed()),
    st.lists(st.builds(Restated, st.sampled_from(CAUSES), IDS, maybe(TIMES), MICROS, MICROS), max_size=2).map(tuple),
)  # fmt: skip
PERSONS = st.builds(
    Person,
    st.lists(EVENTS, max_size=5).map(tuple),
    st.lists(CONVERSIONS, max_size=3).map(tuple),
    maybe(TIMES),
    maybe(TIMES),
    st.none(),
    st.none(),
    maybe(TIMES),
    st.booleans(),
)
LINKS = st.lists(st.builds(Linked, TIMES, IDS, st.sampled_from(["c:1", "c:2", "c:é"])), max_size=4).map(tuple)
# What is given away, and what is given beside what stands, carries no credit and, at its receiver, no cost.
PLAIN = CONVERSIONS.map(lambda conversion: conversion._replace(filed=None))
DEVICES = st.builds(
    Device,
    LINKS,
    LINKS,
    st.lists(st.builds(Away, EVENTS, st.sampled_from(["c:1", "c:2"])), max_size=4).map(tuple),
    st.lists(st.builds(Away, PLAIN, st.sampled_from(["c:1", "c:2"])), max_size=3).map(tuple),
    TIMES,
)
SOURCES = st.sampled_from(["a:1", "a:2", "a:é"])


@st.composite
def customers(draw: st.DrawFn) -> Person:
    person = draw(PERSONS)
    touches = {event.event_id: draw(SOURCES) for event in person.events if draw(st.booleans())}
    conversions = {conversion.id: draw(SOURCES) for conversion in person.conversions if draw(st.booleans())}
    spares = st.lists(st.builds(Spare, maybe(SOURCES), EVENTS), max_size=3).map(tuple)
    others = st.lists(st.builds(Spare, maybe(SOURCES), PLAIN), max_size=3).map(tuple)
    # One id once, as in a journey.
    events = tuple({event.event_id: event for event in person.events}.values())
    held = tuple({conversion.id: conversion for conversion in person.conversions}.values())
    return person._replace(
        events=events, conversions=held, given=Given(touches, conversions, draw(spares), draw(others))
    )


@st.composite
def devices(draw: st.DrawFn) -> Person:
    return draw(PERSONS)._replace(device=draw(DEVICES))


REPORTS = st.builds(
    Report, TIMES, IDS, maybe(TIMES), IDS, MICROS, maybe(MICROS), NAMES, st.integers(1, 10**18),
    st.integers(0, 12), maybe(st.booleans()), DIGESTS,
)  # fmt: skip
REFUNDS = st.builds(Refunded, TIMES, IDS, maybe(MICROS), maybe(NAMES), DIGESTS)
ORDERS = st.builds(
    Order, st.lists(REPORTS, max_size=3).map(tuple), st.lists(REFUNDS, max_size=3).map(tuple), maybe(IDS),
    st.lists(st.tuples(TIMES, IDS, IDS), max_size=2).map(tuple),
)  # fmt: skip
FIGURES = st.lists(st.tuples(NAMES, MICROS), max_size=3).map(tuple)
COSTS = st.builds(CostRow, TIMES, TIMES, TIMES, NAMES, DIMS, MICROS, DIGESTS, FIGURES)
NODES: st.SearchStrategy[Node] = PERSONS | devices() | customers() | ORDERS | COSTS
LIMITS = settings(max_examples=300, deadline=None)


def reread(names: Names) -> Names:
    """The names as another worker would find them stored."""
    return Names(dict(names.fresh))


@LIMITS
@given(st.lists(NODES, min_size=1, max_size=3))
def test_nodes_come_back_as_they_were(nodes: list[Node]) -> None:
    names = Names()
    packed = [pack_node(node, names) for node in nodes]
    for reader in (names, reread(names)):
        again = [unpack_node(value, reader) for value in packed]
        assert again == nodes
        assert [type(node) for node in again] == [type(node) for node in nodes]
        # Equal is not enough: what comes back is folded on, compared and sorted, so lists must not stand for tuples.
        assert [repr(node) for node in again] == [repr(node) for node in nodes]


@LIMITS
@given(st.dictionaries(st.tuples(NAMES, NAMES, NAMES, NAMES), st.integers(), max_size=8))
def test_cells_come_back_without_zeros(cell: dict[Any, int]) -> None:
    names = Names()
    packed = pack_cell(cell, names)
    expected = {measure: amount for measure, amount in cell.items() if amount}
    assert unpack_cell(packed, names) == expected
    assert unpack_cell(packed, reread(names)) == expected


@pytest.mark.parametrize(
    "amount", [1, -1, (1 << 63) - 1, -(1 << 63), 1 << 63, -(1 << 63) - 1, 1 << 64, -(10**40), 10**40]
)
def test_amounts_beyond_64_bits(amount: int) -> None:
    names = Names()
    cell = {CLICKS: amount, ("conversions", "linear", "purchase", CONVERSION): 7}
    assert unpack_cell(pack_cell(cell, names), names) == cell


@LIMITS
@given(st.lists(IDS, max_size=5))
def test_ids_come_back_as_they_were(ids: list[str]) -> None:
    assert unpack_ids(pack_ids(ids)) == ids


@pytest.mark.parametrize(
    "ids",
    [
        [U1.upper(), U2],
        [U1, "k1"],
        ["k1", "k2"],
        [U1.replace("-", "")],
        [U1 + U2],
        [f"{{{U1}}}"],
        # Together as long as two UUIDs, and each other's missing part.
        [(U1 + U2)[:35], (U1 + U2)[35:]],
        [(U1 + U2)[:1], (U1 + U2)[1:]],
        [U1 + "\n"],
        [f"{U1[:-1]}é"],
    ],
)
def test_what_is_not_all_canonical_uuids_stays_text(ids: list[str]) -> None:
    packed = pack_ids(ids)
    assert packed == ids
    assert unpack_ids(packed) == ids


def test_canonical_uuids_take_16_bytes_each() -> None:
    packed = pack_ids([U1, U2])
    assert packed == UUID(U1).bytes + UUID(U2).bytes
    assert unpack_ids(packed) == [U1, U2]
    assert unpack_ids(pack_ids([])) == []


@pytest.mark.parametrize("number", [0, FORMAT + 1, 99])
def test_a_format_that_is_not_known_is_refused(number: int) -> None:
    fields = msgspec.msgpack.decode(pack_node(Person(trimmed=5), Names()))
    assert fields[0] == FORMAT
    with pytest.raises(ValueError, match=f"format {number}"):
        unpack_node(msgspec.msgpack.encode([number, *fields[1:]]), Names())


def test_names_are_numbered_once_and_kept() -> None:
    names = Names()
    assert [names.id("a"), names.id(("a", "b")), names.id("a")] == [0, 1, 0]
    stored = dict(names.fresh)
    names.fresh.clear()
    assert names.id((1, "visit", ("x", "y", "z"))) == 2
    assert set(names.fresh) == {2}
    again = Names(stored | names.fresh)
    assert len(again) == 3
    assert [again.value(n) for n in range(3)] == ["a", ("a", "b"), (1, "visit", ("x", "y", "z"))]
    assert again.id("new") == 3
    assert again.fresh.keys() == {3}


UUID_EVENTS = EVENTS.flatmap(lambda event: st.uuids().map(lambda u: event._replace(event_id=str(u))))


@LIMITS
@given(st.data())
def test_a_memo_changes_nothing(data: st.DataObject) -> None:
    """A person packed again and again: grown at the end, changed in the middle, cut at the start, with odd ids or without."""
    names, memo, person = Names(), Memo(), Person()
    for _ in range(data.draw(st.integers(1, 6))):
        events = list(person.events)
        match data.draw(st.sampled_from(["append", "append", "insert", "replace", "cut", "odd", "convert", "equal"])):
            case "append":
                events.append(data.draw(UUID_EVENTS))
            case "insert":
                events.insert(0, data.draw(UUID_EVENTS))
            case "replace" if events:
                events[data.draw(st.integers(0, len(events) - 1))] = data.draw(UUID_EVENTS)
            case "cut":
                del events[: data.draw(st.integers(0, len(events)))]
            case "odd":
                events.append(data.draw(EVENTS))
            case "convert":
                person = person._replace(conversions=tuple(data.draw(st.lists(CONVERSIONS, max_size=2))))
            case _:
                events = [event._replace() for event in events]
        person = person._replace(events=tuple(events))
        packed = pack_person(person, names, memo)
        assert unpack_node(packed, reread(names)) == person
        assert unpack_node(pack_node(person, names), names) == person


def journey(rng: Random, size: int) -> Person:
    t = 1_772_366_400_000_000
    events = []
    for _ in range(size):
        t += rng.randint(1, 72) * HOUR + rng.randint(0, 3_600_000_000)
        dims = rng.choice(
            [("Paid Social", "facebook", "spring"), ("Email", "(none)", "news"), ("Direct", "(none)", "(none)")]
        )
        event_id = str(UUID(int=rng.getrandbits(128)))
        events.append(JourneyEvent(t, event_id, rng.randint(0, 4), "visit", dims, None, 0, None, rng.getrandbits(32)))
    return Person(tuple(events), (), events[0].t, None)


def test_a_journey_of_8_touches_is_small() -> None:
    """Under 300 bytes with UUIDs and distinct times to the microsecond; the bound for it in Redis is 400 (design §12)."""
    for seed in range(50):
        person, names = journey(Random(seed), 8), Names()
        packed = pack_node(person, names)
        assert unpack_node(packed, names) == person
        assert len(packed) < 300
