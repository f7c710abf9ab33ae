"""Marks: what a worker tells of its partitions, when, and when not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP
from pydantic import SecretStr

from attribution.nodes.base import NEVER
from models.errors import ConfigError
from models.settings import Infrastructure, Marketing, Privacy, Topics
from models.wire import Block, Mark
from streams import claims, marks
from streams.app import Runtime
from streams.claims import ClaimingConsumer, Partition
from streams.marks import Marks
from streams.outbox import Outbox
from tests.stream.fakes import Bench, Broken, Faults, RecordingProducer
from tests.stream.test_ingest import T0, Fetch, Source, click
from tests.stream.test_stitch import MARKETING as ALONE
from tests.stream.test_stitch import SOURCES

CLICKS, JOURNEY = TP("clicks", 0), TP("journey-events", 0)
HOUR = 3_600_000_000


class Worker:
    """A worker's claims, its log of marks, and a clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(marks, "monotonic", lambda: self.now)
        self.faults = Faults()
        self.producer = RecordingProducer(self.faults)
        self.at_end = False
        self.claims = SimpleNamespace(parts={})
        outbox = Outbox(self.producer, 2)  # type: ignore[arg-type]
        self.marks = Marks(self.claims, outbox, lambda tp: self.at_end, interval=1.0, idle_after=60.0)  # type: ignore[arg-type]

    async def round(self, seconds: float = 1.0) -> list[Mark]:
        """One round, so much later; the marks it sent, the same to every partition of the log."""
        self.now += seconds
        before = len(self.producer.sent)
        await self.marks.send()
        sent = self.producer.sent[before:]
        assert [to.partition for to in sent] in ([], [0, 1])
        found = self.producer.blocks()[before:]
        assert all(block.marks == found[0].marks and block.source == "marks" for block in found)
        return found[0].marks if found else []


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch, source: Source) -> Worker:
    made = Worker(monkeypatch)
    made.claims.parts[CLICKS] = source.part
    return made


async def test_told_after_the_commit_and_once(worker: Worker, source: Source) -> None:
    assert await worker.round() == [Mark("clicks/0", 0, None, False)]
    assert await worker.round() == []
    source.faults.arm("commit")
    with pytest.raises(Broken):
        await source.part.work(Fetch([click(0, 1)]))  # type: ignore[arg-type]
    assert await worker.round() == [], "sent on and not committed: it may yet be sent again, cut otherwise"
    source.faults.disarm()
    await source.part.work(Fetch([click(0, 1)]))  # type: ignore[arg-type]
    assert await worker.round() == [Mark("clicks/0", 1, T0 + HOUR, False)]
    assert await worker.round() == []


async def test_idle_after_a_minute_at_the_end_and_not_before(worker: Worker, source: Source) -> None:
    await worker.round()
    assert await worker.round(100) == [], "not at the end: busy however long it stands"
    worker.at_end = True
    assert await worker.round(59.5) == []
    assert await worker.round(0.5) == [Mark("clicks/0", 0, None, True)]
    assert await worker.round() == []
    await source.part.work(Fetch([click(0, 1)]))  # type: ignore[arg-type]
    assert await worker.round() == [Mark("clicks/0", 1, T0 + HOUR, False)], "the next record clears it"
    assert await worker.round(59) == []
    assert await worker.round(1) == [Mark("clicks/0", 1, T0 + HOUR, True)]


async def test_the_minute_begins_anew_when_the_end_was_not_reached(worker: Worker) -> None:
    worker.at_end = True
    await worker.round()
    await worker.round(50)
    worker.at_end = False
    await worker.round(5)
    worker.at_end = True
    assert await worker.round(59) == []
    assert await worker.round(1) == [Mark("clicks/0", 0, None, True)]


async def test_told_again_after_a_new_claim_and_not_after_a_release(worker: Worker, source: Source) -> None:
    await source.part.work(Fetch([click(0, 1)]))  # type: ignore[arg-type]
    told = await worker.round()
    assert await worker.round() == []
    source.claim()
    worker.claims.parts[CLICKS] = source.part
    assert await worker.round() == told
    del worker.claims.parts[CLICKS]
    assert await worker.round() == []


async def test_what_was_not_sent_is_sent_in_the_next_round(worker: Worker) -> None:
    worker.faults.arm("send", 1)
    with pytest.raises(Broken):
        await worker.marks.send()
    worker.producer.sent.clear()
    assert await worker.round() == [Mark("clicks/0", 0, None, False)]


async def test_a_partition_of_the_log_announces_when_its_watermark_has_moved(worker: Worker) -> None:
    bench = Bench(ALONE)
    worker.claims.parts = {JOURNEY: bench.part}
    (first,) = await worker.round()
    assert first == Mark("journey-events/0", 0, NEVER, False, NEVER)
    bench.append(Block(1, "marks", [], [Mark(name, 1, T0, False) for name in SOURCES[1:]]))
    await bench.work()
    assert await worker.round() == [], "its position is no news"
    bench.append(Block(1, "marks", [], [Mark(SOURCES[0], 1, T0, False)]))
    await bench.work()
    (second,) = await worker.round()
    assert second == Mark("journey-events/0", 2, T0, False, NEVER)
    bench.append(Block(1, "marks", [], [second]))
    await bench.work()
    assert await worker.round() == [Mark("journey-events/0", 3, T0, False, T0)], "what it has heard of is news"
    worker.claims.parts = {JOURNEY: bench.claim()}
    assert await worker.round() == [Mark("journey-events/0", 3, T0, False, T0)]


# The end of a log, by its last fetch response


class End:
    """A claimed partition of a consumer, read to the end of its log as the last fetch response told it."""

    def __init__(self) -> None:
        self.part = Partition(CLICKS, session=1, claimed=True, received=3)
        self.state = SimpleNamespace(highwater=10, timestamp=1_000_000)  # aiokafka's, in ms
        self.consumer = object.__new__(ClaimingConsumer)
        self.consumer._parts = {CLICKS: self.part}
        self.consumer._thread = SimpleNamespace(  # type: ignore[assignment]
            placements={CLICKS: SimpleNamespace(session=1, mark=(3, 10))}, partition_state=lambda tp: self.state
        )

    def reached(self) -> bool:
        return self.consumer.at_end(CLICKS)


@pytest.fixture
def end() -> End:
    return End()


def test_the_end_is_believed_while_the_broker_answers(end: End, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(claims, "time", lambda: now)
    assert end.reached()
    now += end.consumer.answer_seconds
    assert end.reached()
    now += 0.1
    assert not end.reached(), "for so long nobody has said that nothing was appended"
    end.state.timestamp = int(now * 1000)
    assert end.reached()
    now -= 3600
    assert not end.reached(), "the clock was set back: the answer's age is unknown"


def test_the_end_is_what_is_done_and_not_what_is_read(end: End, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "time", lambda: 1000.0)
    end.state.highwater = 11
    assert not end.reached()
    end.state.highwater = 10
    end.part.outstanding.append(object())
    assert not end.reached()
    end.part.outstanding.clear()
    end.part.received = 2
    assert not end.reached()
    end.part.received, end.part.claimed = 3, False
    assert not end.reached()


async def test_no_idleness_during_an_outage(worker: Worker, end: End, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "time", lambda: worker.now)
    worker.marks._at_end = end.consumer.at_end
    worker.claims.parts[CLICKS].position = SimpleNamespace(offset=10)

    def answered() -> None:
        end.state.timestamp = int(worker.now * 1000)

    await worker.round()
    for _ in range(50):
        answered()
        await worker.round()
    assert [await worker.round() for _ in range(600)] == [[]] * 600, "the broker is away"
    answered()
    assert await worker.round() == []
    for _ in range(58):
        answered()
        assert await worker.round() == []
    answered()
    (mark,) = await worker.round() or await worker.round()
    assert mark.idle


# Configurations that stored state depends on


@pytest.mark.parametrize(("change", "keys"), [
    ({}, []),
    ({"revision": 2, "half_life": "3d", "models": ("linear",), "headline_models": ("linear",), "lateness": "1d"}, []),
    ({"time_zone": "Europe/Paris"}, ["time_zone"]),
    ({"reporting_currency": "USD", "junk_ids": ("x",)}, ["reporting_currency", "junk_ids"]),
    ({"privacy": Privacy(without_consent="drop_ids")}, []),
    ({"privacy": Privacy(ids="hashed")}, ["privacy.ids"]),
    ({"topics": Topics(journey_events=8), "time_zone": "Asia/Tokyo"}, ["topics", "time_zone"]),
])  # fmt: skip
def test_keys_that_need_a_rebuild_are_named_and_the_start_refused(change: dict[str, Any], keys: list[str]) -> None:
    stored, now = Marketing(), Marketing(**change)
    assert now.needs_rebuild(stored) == keys
    assert stored.needs_rebuild(now) == keys
    runtime = Runtime(None, Infrastructure(forget_key=SecretStr("a key for this test")), now, [])  # type: ignore[arg-type]
    runtime._check_rebuild({})  # nothing stored: nothing to contradict
    # The newest counts, by number and not by order.
    known = {10: stored.text(), 9: Marketing(time_zone="America/New_York", reporting_currency="CHF").text()}
    if not keys:
        runtime._check_rebuild(known)
        return
    with pytest.raises(ConfigError, match=f"^{', '.join(keys)}: changed since configuration 10.*parcours rebuild"):
        runtime._check_rebuild(known)
