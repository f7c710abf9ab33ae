"""The convergence rule (meaning §8): any order of arrival inside the horizon, with any duplicates, redeliveries and
restarts, gives what one batch pass over the sorted, deduplicated events gives."""

from __future__ import annotations

import dataclasses
import json
import os
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import NAMESPACE_OID, uuid5

import msgspec
import pytest

from attribution.intake import Intake
from attribution.nodes.base import NEVER
from attribution.nodes.state import Conversion, Node, Order, Person
from attribution.outcome import describe
from attribution.replay import Replay
from models.settings import DAY, HOUR, Lookback, Marketing, Topics, micros
from models.settings import Conversion as Stages
from models.wire import (
    CostReport,
    GivenStage,
    GivenTouch,
    OrderMove,
    OrderReport,
    RefundReport,
    Stage,
    Touch,
    Withdrawal,
    decode_block,
)
from streams.blocks import partition_of
from tests.core.driver import NO_CLOCK, Driver
from tests.core.replayed import lines
from tests.histories import History, generate
from tests.reference import moment

CHUNK = 100
CHUNKS = 6
TOPICS = Topics(clicks=2, touchpoints=3, purchases=2, costs=1, journey_events=3)
DUPLICATES = 0.05

# The least share of runs in which a feature must have happened in the log itself: about half of what is seen.
LEAST = {
    "late touch changes credit": 0.25,
    "refund before its order": 0.15,
    "order reaches two persons": 0.10,
    "hand-over": 0.20,
    "taken back": 0.20,
    "restated cost": 0.10,
    "redelivered": 0.50,
    "duplicate": 0.40,
}
# Where watermarks pass, journeys must have let go of events.
LEAST_WITHIN_A_WEEK = LEAST | {"forgotten": 0.05}


def configured(history: History, **changes: Any) -> Marketing:
    return msgspec.structs.replace(history.marketing, topics=TOPICS, **changes)


def brief(history: History, rng: Random) -> Marketing:
    """A lateness and windows so short, against the span of the history, that seals close and journeys forget."""
    lookback = history.marketing.lookback
    if rng.random() < 0.8:
        lookback = Lookback(
            **{c: rng.choice(("30m", "1d", "2d", "5d")) for c in ("click", "view", "engagement", "direct")}
        )
    lateness, claim = rng.choice(("7d", "1d")), rng.choice((None, "1d", "1h", "7d"))
    return configured(history, lateness=lateness, claim_history=claim, lookback=lookback)


def continued(history: History, rng: Random) -> History:
    """With visits long after everything, at which journeys forget what nobody needs any more."""
    visits = []
    for topic, body in history.events:
        person = {name: body[name] for name in ("anonymous_id", "customer_id") if name in body}
        if topic in ("clicks", "touchpoints") and person and rng.random() < 0.3:
            t = moment(body["occurred_at"]) + rng.choice((33, 70, 130)) * DAY
            for when in (t, t + 10 * DAY, t + 20 * DAY):
                visit = {"event_id": f"late {len(visits)}", "occurred_at": instant(when), "type": "visit", **person}
                visits.append(("touchpoints", visit))
    return dataclasses.replace(history, events=history.events + visits)


def renamed(body: dict[str, Any]) -> dict[str, str]:
    return {"event_id": str(uuid5(NAMESPACE_OID, body["event_id"]))} if "event_id" in body else {}


def arrival(history: History, marketing: Marketing, rng: Random, disorder: int | None) -> list[tuple[str, bytes]]:
    """(topic, record) in an order of arrival: shuffled, or each delayed by up to `disorder` microseconds of event time."""
    events = history.events
    if rng.random() < 0.5:
        # Journeys are packed in another form when all ids are UUIDs.
        events = [(topic, body | renamed(body)) for topic, body in events]
    records = [(topic, json.dumps(body).encode()) for topic, body in events]
    records += [record for record in records if rng.random() < DUPLICATES]
    if disorder is None:
        rng.shuffle(records)
        return records
    intake = Intake(marketing)
    delayed = []
    for topic, value in records:
        t = intake.take(topic, value, NO_CLOCK, 0).t
        delayed.append((t + rng.choice((0, disorder, rng.randint(0, disorder))), rng.random(), topic, value))
    return [(topic, value) for _, _, topic, value in sorted(delayed)]


def run(marketing: Marketing, records: list[tuple[str, bytes]], rng: Random, step: int | None = None) -> Driver:
    """Drive all records through, sources and partitions advancing unevenly, with failures and redeliveries.

    With `step`, every partition stops and starts again from its bytes after each `step` entries.
    """
    driver = Driver(marketing, rng)
    counts = {
        "clicks": TOPICS.clicks,
        "touchpoints": TOPICS.touchpoints,
        "purchases": TOPICS.purchases,
        "costs": TOPICS.costs,
    }
    for topic, value in records:
        driver.publish(f"{topic}/{rng.randrange(counts[topic])}", value)
    names = sorted(driver.sources)
    # Some sources are read seldom, and some partitions lag far behind: what has gone ahead must wait for them.
    eager = {name: rng.choice((1, 5)) for name in names}
    quick = [rng.choice((1, 4)) for _ in range(driver.partitions)]
    while any(source.position < len(source.records) for source in driver.sources.values()):
        (name,) = rng.choices(names, [eager[name] for name in names])
        driver.ingest(name, rng.choice((1, 2, 5, 20)), fail=rng.random() < 0.15)
        if rng.random() < 0.4:
            driver.mark(rng.sample(names, rng.randint(0, len(names))), rng.sample(range(3), rng.randint(0, 3)))
        done = [n for n in names if driver.sources[n].position == len(driver.sources[n].records)]
        if done and rng.random() < 0.2:
            driver.mark([rng.choice(done)], idle=True)
        if rng.random() < 0.3:
            driver.redeliver()
        (partition,) = rng.choices(range(driver.partitions), quick)
        if rng.random() < 0.7:
            driver.stitch(partition, step or rng.choice((1, 2, 3, 10, 1000)), fail=rng.random() < 0.2)
    if step is not None:
        for partition in range(driver.partitions):
            while driver.stitch(partition, step):
                pass
    driver.drain()
    for _ in range(5):
        driver.redeliver()
    driver.drain()
    return driver


def batch(marketing: Marketing, records: list[tuple[str, bytes]]) -> Replay:
    whole = Replay(marketing)
    for topic, value in records:
        whole.take(topic, value)
    whole.finish()
    assert not whole.refused
    return whole


def converged(driver: Driver, whole: Replay, where: object) -> None:
    """All that the rule covers is equal; and what was published last is what stands."""
    nodes = driver.nodes()
    currency = driver.marketing.reporting_currency
    standing = {
        (conversion.id, key): describe(key, conversion, currency)
        for key, node in nodes.items()
        if isinstance(node, Person)
        for conversion in node.conversions
    }
    assert lines(standing.values()) == lines(whole.attributions()), where
    published = {
        key: msgspec.structs.replace(attribution, version=None)
        for key, attribution in driver.published.items()
        if attribution.reason != "moved"
    }
    assert published == standing, where
    assert states(nodes) == states(whole.nodes), where
    assert driver.rollups().buckets == whole.rollups.buckets, where


def states(nodes: dict[str, Node]) -> dict[str, Any]:
    """Nodes without what may differ: whether something was restated, what a journey has forgotten, and nobody."""
    found: dict[str, Any] = {}
    for key, node in nodes.items():
        if isinstance(node, Person):
            if node != Person():
                found[key] = ([_state(conversion) for conversion in node.conversions], node.trimmed)
        else:
            found[key] = node
    # An order that waits for its report has no conversion anywhere yet, but its refunds are kept all the same.
    assert all(isinstance(node, Order) or key[0] in "acekq" for key, node in nodes.items())
    return {key: state for key, state in found.items() if state != ([], None)}


def _state(conversion: Conversion) -> Conversion:
    filed = conversion.filed if conversion.gone is None else None
    return conversion._replace(restated=False, filed=filed, history=())


def features(driver: Driver) -> set[str]:
    """What happened in the log, in the order in which partitions read it."""
    seen = set(driver.dropped) | ({"redelivered"} if driver.redelivered else set())
    position: dict[tuple[str, str], int] = {}
    costs: dict[str, set[int]] = defaultdict(set)
    given: dict[str, set[str]] = defaultdict(set)
    handed: set[str] = set()
    at = 0
    for blocks in driver.log:
        for packed in blocks:
            for entry in decode_block(packed).entries:
                at += 1
                match entry:
                    case Touch():
                        position.setdefault((entry.key, entry.event_id), at)
                    case Stage():
                        position.setdefault((entry.key, f"s:{entry.event_id}"), at)
                    case GivenTouch():
                        position.setdefault((entry.key, entry.event_id), at)
                        given[entry.device].add(entry.key)
                        handed.add(entry.event_id)
                    case GivenStage():
                        position.setdefault((entry.key, f"s:{entry.event_id}"), at)
                    case Withdrawal():
                        seen.add("taken back")
                    case OrderMove():
                        position.setdefault((entry.key, f"o:{entry.order_id}"), at)
                        seen |= {"order reaches two persons"} if entry.gone == "moved" else set()
                    case OrderReport():
                        position.setdefault((entry.key, "report"), at)
                    case RefundReport():
                        position.setdefault((entry.key, "refund"), at)
                    case CostReport():
                        costs[entry.key].add(entry.amount)
                    case _:
                        pass
    seen |= {"restated cost"} if any(len(amounts) > 1 for amounts in costs.values()) else set()
    seen |= {"hand-over"} if any(len(owners) > 1 for owners in given.values()) else set()
    for (key, what), at in position.items():
        if what == "refund" and position.get((key, "report"), 0) > at:
            seen.add("refund before its order")
    for key, node in driver.nodes().items():
        if isinstance(node, Person):
            journey = {event.event_id for event in node.events}
            arrived = {what for owner, what in position if owner == key and what[:2] not in ("o:", "s:")}
            seen |= {"forgotten"} if arrived - journey else set()
            for conversion in node.conversions:
                filed = conversion.filed
                if conversion.gone is None and filed is not None:
                    before = position[key, conversion.id]
                    if any(position[key, touch.touch_id] > before for touch in filed.touches):
                        seen.add("late touch changes credit")
    return seen


def chunks() -> list[range]:
    """Of 600 histories, or of those that `PARCOURS_HISTORIES=first:last` names."""
    first, last = map(int, os.environ.get("PARCOURS_HISTORIES", f"0:{CHUNK * CHUNKS}").split(":"))
    return [range(start, min(start + CHUNK, last)) for start in range(first, last, CHUNK)]


def name(seeds: range) -> str:
    return f"{seeds.start}-{seeds.stop - 1}"


def enough(seen: Counter[str], least: dict[str, float], runs: int) -> None:
    # Of other histories a hundred may by chance have less of what a tenth of all have.
    slack = 1 / 2 if "PARCOURS_HISTORIES" in os.environ else 1
    assert not {what: seen[what] / runs for what, share in least.items() if seen[what] / runs < share * slack}


@pytest.mark.parametrize("seeds", chunks(), ids=name)
def test_any_order_of_arrival(seeds: range) -> None:
    """A lateness of 400 days covers the whole span: any shuffle is inside the horizon."""
    seen: Counter[str] = Counter()
    for seed in seeds:
        history, rng = generate(seed), Random(seed)
        marketing = configured(history)
        records = arrival(history, marketing, rng, None)
        driver = run(marketing, records, rng)
        assert not driver.late
        converged(driver, batch(marketing, records), seed)
        seen.update(features(driver))
    enough(seen, LEAST, len(seeds))


@pytest.mark.parametrize("seeds", chunks(), ids=name)
def test_disorder_within_the_lateness(seeds: range) -> None:
    """Watermarks pass, conversions are sealed and touches forgotten; nothing of it may show."""
    seen: Counter[str] = Counter()
    for seed in seeds:
        history, rng = generate(seed), Random(seed)
        marketing = brief(history, rng)
        history = continued(history, rng)
        records = arrival(history, marketing, rng, micros(marketing.lateness))
        driver = run(marketing, records, rng)
        assert not driver.late, seed
        converged(driver, batch(marketing, records), seed)
        seen.update(features(driver))
    enough(seen, LEAST_WITHIN_A_WEEK, len(seeds))


@pytest.mark.parametrize("step", [1, 2, 3, 7])
def test_stop_and_resume_after_every_nth_entry(step: int) -> None:
    for seed in range(20):
        history, rng = generate(seed), Random(seed + step)
        marketing = configured(history)
        records = arrival(history, marketing, rng, None)
        converged(run(marketing, records, rng, step), batch(marketing, records), (seed, step))


ONE_EACH = Topics(clicks=1, touchpoints=1, purchases=1, costs=1, journey_events=3)
NOW = moment("2026-03-20T12:00:00Z")
ALL = ("clicks/0", "touchpoints/0", "purchases/0", "costs/0")


def instant(t: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=t)).isoformat()


def event(event_id: str, t: int, person: str | None = "d1", **fields: Any) -> bytes:
    ids = {"anonymous_id": person} if person else {}
    return json.dumps({"event_id": event_id, "occurred_at": instant(t), **ids, **fields}).encode()


def send(driver: Driver, source: str, *records: bytes) -> None:
    for record in records:
        driver.publish(source, record)
    driver.ingest(source, len(records))


def settle(driver: Driver) -> None:
    """Fold what is in the log, let all announce their watermarks to all, and fold that, until what moves has moved twice."""
    for _ in range(3):
        for partition in range(driver.partitions):
            driver.stitch(partition, 1 << 30)
        driver.mark(partitions=range(driver.partitions))


def test_beyond_the_lateness_is_dropped_as_late_and_nothing_else() -> None:
    driver = Driver(Marketing(lateness="7d", conversions={"lead": Stages()}, topics=ONE_EACH), Random(1))
    send(driver, "clicks/0", event("now", NOW))
    driver.mark(ALL[:1])
    driver.mark(ALL[1:], idle=True)
    settle(driver)
    assert {driver.progress(p).watermark for p in range(3)} == {NOW}

    edge = NOW - 7 * DAY
    order = {"type": "order", "revenue": "10", "currency": "EUR"}
    for t, when in ((edge, "edge"), (edge - 1, "late")):
        send(driver, "clicks/0", event(f"{when} click", t, network="google"))
        send(
            driver,
            "touchpoints/0",
            event(f"{when} visit", t, type="visit"),
            event(f"{when} stage", t, type="stage", stage="lead"),
            event(f"{when} crowd", t, None, type="engagement"),
        )
        send(driver, "purchases/0", event(f"{when} order", t, order_id=when, **order))
    # Refunds, cancels and costs are accepted for the whole retention.
    old = NOW - 300 * DAY
    send(
        driver,
        "purchases/0",
        event("old refund", old, None, type="refund", order_id="edge", amount="4"),
        event("old cancel", old, None, type="cancel", order_id="other"),
    )
    row = {"start": instant(old), "end": instant(old + DAY), "amount": "5", "currency": "EUR", "network": "google"}
    send(driver, "costs/0", json.dumps({"cost_id": "old", **row}).encode())
    settle(driver)

    assert sorted(entry.event_id for entry in driver.late) == [  # type: ignore[union-attr]
        "late click",
        "late crowd",
        "late order",
        "late stage",
        "late visit",
    ]
    assert driver.dropped == {"late": 5}
    nodes = driver.nodes()
    assert {key for key in nodes if key[0] != "e"} == {"a:d1", "o:edge", "o:other", "k:old"}
    person = nodes["a:d1"]
    assert isinstance(person, Person)
    assert [e.event_id for e in person.events] == ["edge click", "edge visit", "now"]
    assert [(c.id, c.net) for c in person.conversions] == [("o:edge", 6_000_000), ("s:edge stage", 0)]


def test_lateness_is_judged_against_the_slowest_source() -> None:
    """Months of clicks far ahead make nothing late while the other sources have not come as far."""
    driver = Driver(Marketing(lateness="7d", topics=ONE_EACH), Random(1))
    send(driver, "clicks/0", event("now", NOW))
    send(driver, "touchpoints/0", event("old", NOW - 90 * DAY, type="visit"))
    send(driver, "purchases/0", event("o1", NOW - 90 * DAY, type="order", order_id="A", revenue="1", currency="EUR"))
    driver.mark(ALL[:3])
    settle(driver)
    assert {driver.progress(p).watermark for p in range(3)} == {NEVER}
    driver.mark(ALL[3:], idle=True)
    settle(driver)
    assert {driver.progress(p).watermark for p in range(3)} == {NOW - 90 * DAY}
    send(driver, "touchpoints/0", event("older", NOW - 97 * DAY, type="visit"))
    settle(driver)
    assert not driver.late
    assert [c.id for c in driver.nodes()["a:d1"].conversions] == ["o:A"]  # type: ignore[union-attr]


def test_a_refund_corrected_after_the_seal_brings_the_credit_back() -> None:
    """A full refund, of which an earlier report with a smaller amount comes 90 days on, when the touch is forgotten."""
    marketing = Marketing(lateness="1d", claim_history="1d", topics=ONE_EACH)
    order = {"type": "order", "order_id": "A", "revenue": "10", "currency": "EUR"}
    refund = {"type": "refund", "order_id": "A"}
    records = [
        ("clicks/0", event("k1", NOW, network="google")),
        ("purchases/0", event("p1", NOW + HOUR, **order)),
        ("purchases/0", event("r1", NOW + 3 * HOUR, None, amount="10", **refund)),
        ("clicks/0", event("k2", NOW + 90 * DAY, network="google")),
        ("clicks/0", event("k3", NOW + 90 * DAY, network="google")),
        ("purchases/0", event("r1", NOW + 2 * HOUR, None, amount="4", **refund)),
    ]
    driver = Driver(marketing, Random(1))
    for source, value in records:
        send(driver, source, value)
        driver.mark(ALL, idle=True)
        settle(driver)
        settle(driver)
    person = driver.nodes()["a:d1"]
    assert isinstance(person, Person)
    assert [event.event_id for event in person.events] == ["k2", "k3"]
    driver.drain()
    converged(driver, batch(marketing, [(source.split("/")[0], value) for source, value in records]), "corrected")


def test_withdrawal_beside_the_seal_with_since_previous() -> None:
    """A cancel 2.5 days after the next conversion, lateness and claim one day each: the batch pass has sealed it, a stream
    whose costs lag half a day has not."""
    marketing = Marketing(lateness="1d", claim_history="1d", path="since_previous", topics=ONE_EACH)
    order = {"type": "order", "revenue": "10", "currency": "EUR"}
    records = {
        "clicks/0": [event("k1", NOW, network="google")],
        "purchases/0": [
            event("p1", NOW + HOUR, order_id="A", **order),
            event("p2", NOW + 2 * HOUR, order_id="B", **order),
            event("x1", NOW + 2 * DAY + 12 * HOUR, None, type="cancel", order_id="A"),
        ],
    }
    driver = Driver(marketing, Random(1))
    for source, values in records.items():
        send(driver, source, *values)
    driver.drain()
    converged(
        driver, batch(marketing, [(s.split("/")[0], value) for s, values in records.items() for value in values]), ""
    )


def keyed(prefix: str, partition: int) -> str:
    """An id whose node, with this prefix, lives in this partition."""
    return next(f"i{n}" for n in range(1000) if partition_of(f"{prefix}:i{n}", 3) == partition)


def test_an_order_on_its_second_hop_is_waited_for() -> None:
    """An order goes from its node to a device and on to the customer. When the device's partition has announced its watermark before
    the order reached it, the customer's touches must not be forgotten on the word of that."""
    day = "1d"
    lookback = Lookback(click=day, view=day, engagement=day, direct=day)
    marketing = Marketing(lateness=day, claim_history=day, lookback=lookback, topics=ONE_EACH)
    order_id, device, customer = keyed("o", 0), keyed("a", 1), keyed("c", 2)
    login = {"customer_id": customer, "type": "identify"}
    bought = {"type": "order", "order_id": order_id, "revenue": "10", "currency": "EUR"}
    hers, later = {"customer_id": customer, "network": "google"}, NOW + 90 * DAY
    records = [
        ("clicks/0", event("k1", NOW, None, **hers)),
        ("touchpoints/0", event("l1", NOW, device, **login)),
        ("purchases/0", event("p1", NOW + HOUR, device, **bought)),
        ("clicks/0", event("k2", later, None, **hers)),
        ("clicks/0", event("k3", later, None, **hers)),
    ]
    driver = Driver(marketing, Random(1))
    for source, value in records[:3]:
        send(driver, source, value)
    driver.stitch(1, 1 << 30)
    driver.stitch(2, 1 << 30)
    send(driver, *records[3])
    driver.mark(ALL, idle=True)
    driver.stitch(1, 1 << 30)
    driver.stitch(2, 1 << 30)
    driver.mark(partitions=(1, 2))
    driver.stitch(0, 1 << 30)  # the order, then the watermark
    driver.mark(partitions=(0,))
    driver.stitch(2, 1 << 30)
    assert driver.progress(2).heard == later
    send(driver, *records[4])
    driver.stitch(2, 1 << 30)
    driver.drain()
    converged(driver, batch(marketing, [(source.split("/")[0], value) for source, value in records]), "second hop")
    (made,) = driver.nodes()[f"c:{customer}"].conversions  # type: ignore[union-attr]
    assert made.filed is not None
    assert [touch.touch_id for touch in made.filed.touches] == ["k1"]
