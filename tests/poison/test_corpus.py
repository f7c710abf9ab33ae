"""The core under hostile input: every record is accepted or refused with a code, and what is accepted can be folded and stored."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from poison.corpus import KINDS, LARGE, event, poison

from attribution.fold import fold
from attribution.intake import Intake, Taken
from attribution.nodes.base import Context
from attribution.nodes.state import Node, Person
from attribution.outcome import describe
from attribution.rollups import Calendar, Rollups
from attribution.rules import Rules
from models.errors import CATALOGUE, Rejected
from models.events import SCHEMAS, TOPICS
from models.settings import Conversion, Marketing, Rate
from models.wire import FORMAT, AnyEntry, Block, decode_block, encode
from streams.codec import Names, pack_cell, pack_node, unpack_cell, unpack_node
from streams.outbox import DEAD_LETTER_MAX, Letter, fitted, letter_headers

NOW = 1_767_225_600_000_000
MARKETING = Marketing(
    conversions={"lead": Conversion(value="5")},
    rates=(Rate("USD", "0.9"), Rate("KWD", "9123456.789012345678"), Rate("BHD", "999999999.999999999999")),
)
INTAKE = Intake(MARKETING)


@pytest.mark.parametrize("topic", TOPICS)
@pytest.mark.parametrize("kind", [*KINDS, *LARGE])
def test_every_kind_is_refused_with_its_code(kind: str, topic: str) -> None:
    make = (KINDS | LARGE)[kind]
    for seed in range(3 if kind in LARGE else 60):
        made = make(Random(seed), topic)
        with pytest.raises(Rejected) as caught:
            INTAKE.take(topic, made.value, NOW, 0)
        assert caught.value.code == made.code, made.value and made.value[:200]
        assert caught.value.path.startswith("$")


def test_the_corpus_covers_the_catalogue_and_repeats_itself() -> None:
    """All codes but those that only stitch gives, or that depend on what was forgotten and whether there is a key for it."""
    found = list(poison(3, 4_000, large_one_in=400))
    assert {record.code for record in found} == set(CATALOGUE) - {"late", "fold_failed", "forgotten", "no_forget_key"}
    assert {record.kind for record in found} == {*KINDS, *LARGE}
    assert found == list(poison(3, 4_000, large_one_in=400))


@pytest.mark.parametrize("topic", TOPICS)
def test_the_corpus_starts_from_events_that_are_accepted(topic: str) -> None:
    assert INTAKE.take(topic, json.dumps(event(Random(1), topic)).encode(), NOW, 0)


def taken(topic: str, value: bytes | None, timestamp: int = NOW) -> Taken | None:
    """As ingest does it: any other exception would stop the partition for good."""
    try:
        return INTAKE.take(topic, value, timestamp, 7)
    except Rejected as error:
        refused = error
    assert refused.code in CATALOGUE
    assert letter_headers(refused, topic, 0, 7)
    return None


def stored(entries: list[AnyEntry], highest: int) -> None:
    """As stitch does it, moves included: everything is packed, and reads back as it was."""
    context = Context(Rules(MARKETING, 1), NOW, NOW - 1)
    nodes: dict[str, Node] = {}
    rollups, names = Rollups(Calendar("UTC")), Names()
    while entries:
        entry = decode_block(encode(Block(FORMAT, "s", [entries.pop(0)]))).entries[0]
        folded = fold(nodes.get(entry.key), entry, context)
        if folded.dropped is not None:
            continue
        nodes[entry.key] = folded.node
        rollups.add(folded.facts, highest)
        entries += folded.moves
        for conversion in folded.changed:
            assert json.loads(json.dumps(describe(entry.key, conversion, "EUR").conversion_id))
    for node in nodes.values():
        assert unpack_node(pack_node(node, names), names) == node
    for cells in rollups.buckets.values():
        for cell in cells.values():
            assert unpack_cell(pack_cell(cell, names), names) == {name: n for name, n in cell.items() if n}
    assert all(isinstance(node, Person) or key[:2] in {"o:", "k:", "e:"} for key, node in nodes.items())


@given(topic=st.sampled_from(TOPICS), value=st.none() | st.binary(max_size=400), timestamp=st.integers(-(2**63), 2**63))
def test_any_bytes(topic: str, value: bytes | None, timestamp: int) -> None:
    taken(topic, value, timestamp)


hostile_text = st.text(max_size=40) | st.sampled_from(
    ["\x00", "\u202e", "null", "(unattributed)", "(other)", "{parcours:0:0}meta", "a" * 256, "é" * 256, "http://[::1",
     "http://\u2100/", "//", "utm_source=%ff%00", "?gclid=" + "%" * 50, "-0", "1e-99999999", "🦄" * 100]
)  # fmt: skip
hostile_number = st.sampled_from(
    [0, -0.0, 1e9, 999_999_999.999999, 1e-7, 5e-7, 1_000_000_000, 2**53 + 1, 2**63, -(2**63), 10**40, 1e308]
) | st.integers() | st.floats(allow_nan=False, allow_infinity=False)  # fmt: skip
hostile_time = st.sampled_from(
    ["1970-01-01T00:00:00Z", "2199-12-31T23:59:59.999999Z", "2025-12-31T23:59:59.999999+14:00", "2026-01-01T00:05:00Z",
     "2025-12-30T00:00:00-23:59", "2016-12-31T23:59:60Z"]
)  # fmt: skip
hostile = st.recursive(
    st.none() | st.booleans() | hostile_text | hostile_number | hostile_time,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
plausible = st.sampled_from(
    [
        "visit",
        "impression",
        "engagement",
        "stage",
        "lead",
        "order",
        "refund",
        "cancel",
        "USD",
        "KWD",
        "EUR",
        "media",
        "P",
        "X",
    ]
)


def fields_of(topic: str) -> list[str]:
    schema: Any = SCHEMAS[topic]
    kinds = schema.__args__ if hasattr(schema, "__args__") else (schema,)
    return sorted({name for kind in kinds for name in kind.__struct_fields__} | {"type"})


@st.composite
def mutated(draw: st.DrawFn) -> tuple[str, bytes]:
    """A good event of few persons and orders, with some fields hostile."""
    topic = draw(st.sampled_from(TOPICS))
    content = event(Random(draw(st.integers(0, 3))), topic) | {"event_id": draw(st.sampled_from("abcdefgh"))}
    for name in draw(st.lists(st.sampled_from(fields_of(topic)), max_size=4)):
        content[name] = draw(plausible | hostile_time | hostile_number | hostile_text | hostile)
    return topic, json.dumps(content).encode()


@settings(max_examples=400, deadline=None)
@given(st.lists(mutated(), max_size=12))
@example([("purchases", json.dumps(event(Random(n), "purchases") | {"revenue": "1e9"}).encode()) for n in range(12)])
@example(
    [
        (
            "purchases",
            json.dumps(event(Random(n), "purchases") | {"revenue": "1000000.000001", "currency": "KWD"}).encode(),
        )
        for n in range(12)
    ]
)
def test_what_is_accepted_can_be_folded_and_stored(events: list[tuple[str, bytes]]) -> None:
    found = [taken(topic, value) for topic, value in events]
    entries = [each.entry for each in found if each is not None and each.entry is not None]
    stored(entries, max((each.t for each in found if each is not None), default=0))


headers = st.lists(st.tuples(st.text(max_size=20), st.none() | st.binary(max_size=300)), max_size=30)


@given(
    st.none() | st.binary(max_size=5_000), st.none() | st.binary(max_size=9_000), headers, st.integers(2_000, 6_000),
    st.booleans(),
)  # fmt: skip
def test_a_dead_letter_fits(
    key: bytes | None, value: bytes | None, original: list[tuple[str, bytes | None]], limit: int, forged: bool
) -> None:
    """What had room is untouched; what had not says so, and where the original is."""
    if forged:
        original.append(("parcours-offset", b"-1"))
    reason = Rejected("invalid_field", "$.a", "too long")
    whole: Letter = ("clicks", key, value, letter_headers(reason, "clicks", 3, 41, original))  # type: ignore[arg-type]
    letter = fitted(whole, limit)
    size = len(letter[1] or b"") + len(letter[2] or b"") + sum(len(n.encode()) + len(v or b"") for n, v in letter[3])
    assert size <= limit
    said = dict(letter[3])
    assert (said["parcours-topic"], said["parcours-partition"], said["parcours-offset"]) == (b"clicks", b"3", b"41")
    if letter != whole:
        assert said["parcours-truncated"] == (b"-1" if value is None else str(len(value)).encode())
        assert said["parcours-pointer"] == b"1"
        assert (value or b"").startswith(letter[2] or b"")
        assert (key or b"").startswith(letter[1] or b"")


def test_the_largest_that_is_no_longer_whole() -> None:
    own = letter_headers(Rejected("too_large", "$", ""), "clicks", 0, 0)
    letter = fitted(("clicks", b"k", b"x" * 10_000_000, own), DEAD_LETTER_MAX)
    assert letter[2] is not None
    assert DEAD_LETTER_MAX - 1_000 < len(letter[2]) < DEAD_LETTER_MAX
    assert dict(letter[3])["parcours-truncated"] == b"10000000"
