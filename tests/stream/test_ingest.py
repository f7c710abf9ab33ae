"""Ingest on a table bench: what is sent before the position moves, and what is counted when it has moved."""

from __future__ import annotations

import json

import pytest

from attribution.intake import Intake
from models.settings import Marketing, Topics
from models.wire import FORMAT, Block, Mark, Touch
from streams.deadletters import read_letter
from streams.ingest import IngestState, SourcePartition
from streams.metrics import Metrics
from streams.outbox import Outbox
from streams.tables import Claimed, Outcome, Position
from tests.stream.fakes import TOKEN, Broken, Faults, Fetch, MemoryTables, Record, RecordingProducer

MARKETING = Marketing(topics=Topics(clicks=1, touchpoints=1, purchases=1, costs=1, journey_events=2))
T0 = 1_767_225_600_000_000  # 2026-01-01


class Source:
    """A partition of `clicks` on its tables."""

    def __init__(self) -> None:
        self.faults = Faults()
        self.tables = MemoryTables(self.faults)
        self.producer = RecordingProducer(self.faults)
        self.metrics = Metrics()
        self.claim()

    def claim(self) -> None:
        claimed = Claimed(TOKEN, self.tables.position, self.tables.state, 1, self.tables.seq)
        outbox = Outbox(self.producer, 2)  # type: ignore[arg-type]
        self.part = SourcePartition("clicks", 0, self.tables, claimed, Intake(MARKETING), outbox, self.metrics, 1)  # type: ignore[arg-type]

    def events(self, source: str, outcome: str) -> float:
        labels = {"topic": "clicks", "source": source, "outcome": outcome}
        return self.metrics.registry.get_sample_value("parcours_events_total", labels) or 0.0


def click(offset: int, hour: int, person: str = "p", **fields: str) -> Record:
    body = {"event_id": f"e{offset}", "occurred_at": f"2026-01-01T{hour:02}:00:00Z", "anonymous_id": person, **fields}
    return Record(offset, json.dumps(body).encode())


async def test_blocks_letters_position_then_the_mark() -> None:
    source = Source()
    records = [
        click(0, 5, source="web"),
        Record(1, b"{", key=b"k", headers=(("h", b"1"),)),
        click(3, 4, "q"),
        click(4, 3),
    ]
    assert source.part.mark(False) == Mark("clicks/0", 0, None, False)
    assert await source.part.work(Fetch(records)) is Outcome.APPLIED  # type: ignore[arg-type]
    sent = [(entry.offset, entry.key) for block in source.producer.blocks() for entry in block.entries]
    assert sorted(sent) == [(0, "a:p"), (3, "a:q"), (4, "a:p")]
    assert all(
        block.source == "clicks/0" and block.published == records[0].timestamp for block in source.producer.blocks()
    )
    (letter,) = source.producer.letters()
    assert (letter.topic, letter.key, letter.value, letter.headers["h"]) == ("dlq.clicks", b"k", b"{", b"1")
    assert letter.headers["parcours-code"] == b"malformed_json"
    assert source.tables.position == (5, 0)
    assert source.part.mark(True) == Mark("clicks/0", 5, T0 + 5 * 3_600_000_000, True)
    assert IngestState.unpack(source.tables.state) == (T0 + 5 * 3_600_000_000, 0)


@pytest.mark.parametrize(("call", "skip", "after"), [("send", 0, False), ("send", 1, True), ("send", 2, True), ("commit", 0, False)])  # fmt: skip
async def test_counted_once_however_often_a_fetch_is_redone(call: str, skip: int, after: bool) -> None:
    source = Source()
    fetch = Fetch([click(0, 5, source="web"), Record(1, b"{"), click(2, 6, "q", source="web"), Record(3, b"[]")])
    for _ in range(3):
        source.faults.arm(call, skip, after=after)
        with pytest.raises(Broken):
            await source.part.work(fetch)  # type: ignore[arg-type]
        assert source.events("web", "accepted") == source.events("(none)", "malformed_json") == 0
        assert source.tables.position == (0, 0)
        assert source.part.mark(False) == Mark("clicks/0", 0, None, False), "nothing is told of what is not committed"
        source.claim()
    assert await source.part.work(fetch) is Outcome.APPLIED  # type: ignore[arg-type]
    assert source.events("web", "accepted") == 2
    assert source.events("(none)", "malformed_json") == source.events("(none)", "invalid_field") == 1
    for name, labels in (("dropped", {}), ("dead_letters", {"topic": "clicks"})):
        value = source.metrics.registry.get_sample_value(
            f"parcours_{name}_total", labels | {"reason": "malformed_json"}
        )
        assert value == 1
    # On the wire it may come again, in order and the same: what reads it knows it by its numbers.
    numbers = [(entry.key, entry.offset) for block in source.producer.blocks() for entry in block.entries]
    assert set(numbers) == {("a:p", 0), ("a:q", 2)}


async def test_a_lost_reply_is_known_again() -> None:
    """The commit took effect; the same call once more is told so and changes nothing."""
    source = Source()
    fetch = Fetch([click(0, 5)])
    source.faults.arm("commit", after=True)
    with pytest.raises(Broken):
        await source.part.work(fetch)  # type: ignore[arg-type]
    assert await source.part.work(fetch) is Outcome.APPLIED  # type: ignore[arg-type]
    assert len(source.tables.commits) == 1
    assert source.tables.position == source.part.position == Position(1)


async def test_a_record_with_neither_key_nor_value_reaches_the_dead_letters() -> None:
    source = Source()
    assert await source.part.work(Fetch([Record(0, None), Record(1, None, key=b"k"), click(2, 1)])) is Outcome.APPLIED  # type: ignore[arg-type]
    bare, keyed = source.producer.letters()
    assert (bare.key, bare.value) == (None, b""), "Kafka's clients refuse a message of nothing"
    assert (keyed.key, keyed.value) == (b"k", None)
    assert bare.headers["parcours-code"] == keyed.headers["parcours-code"] == b"empty"
    letter = read_letter(_as_record(bare.value, bare.headers))  # type: ignore[arg-type]
    assert letter is not None
    assert (letter.topic, letter.offset) == ("clicks", 0)
    with pytest.raises(AssertionError):
        await source.producer.send("dlq.clicks")


def _as_record(value: bytes | None, headers: dict[str, bytes]) -> Record:
    return Record(0, value, headers=tuple(headers.items()))


async def test_a_reset_source_says_its_incarnation() -> None:
    source = Source()
    source.tables.state, source.tables.position = IngestState(T0, 2).pack(), Position(7)
    source.claim()
    await source.part.work(Fetch([click(7, 1), Record(8, b"")]))  # type: ignore[arg-type]
    (block,) = source.producer.blocks()
    assert block == Block(FORMAT, "clicks/0/2", block.entries, [], None, block.published)
    assert isinstance(block.entries[0], Touch)
    assert source.part.mark(False).source == "clicks/0/2"
    assert source.producer.letters()[0].headers["parcours-incarnation"] == b"2"
    assert IngestState.unpack(source.tables.state) == (T0 + 3_600_000_000, 2)


async def test_fenced_moves_nothing() -> None:
    source = Source()
    source.tables.token = "another"
    assert await source.part.work(Fetch([click(0, 5), Record(1, b"{")])) is Outcome.FENCED  # type: ignore[arg-type]
    assert source.part.mark(False) == Mark("clicks/0", 0, None, False)
    assert source.events("(none)", "accepted") == source.events("(none)", "malformed_json") == 0
    assert not await source.part.stands()
