"""Forgetting in the core: against the oracle, in any order of arrival, and what stays in the sums."""

from __future__ import annotations

import json
import re
from collections import Counter
from random import Random
from typing import Any

import pytest

from attribution.facts import ATTRIBUTED_MARGIN, ATTRIBUTED_NET, CONVERSIONS, ORDERS, REVENUE_GROSS, REVENUE_NET
from attribution.forgetting import Forgotten, everywhere, lasting
from attribution.nodes.state import Person
from attribution.pseudonyms import Pseudonyms
from attribution.replay import Replay
from attribution.rollups import Rollups
from attribution.visitors import ALL, converted, visitors
from models.results import FORGOTTEN
from models.settings import Marketing
from models.wire import FORMAT, Block, encode
from streams.blocks import partition_of
from tests.core.driver import Driver
from tests.core.replayed import line, lines
from tests.core.test_convergence import batch, configured, run, states
from tests.histories import History, generate, undecided, with_forgetting
from tests.reference import attribute, forgotten

CHUNK = 100
CHUNKS = 2
MONEY = (CONVERSIONS, ATTRIBUTED_NET, ATTRIBUTED_MARGIN, ORDERS[0], REVENUE_GROSS[0], REVENUE_NET[0])


def chunks() -> list[range]:
    return [range(i * CHUNK, (i + 1) * CHUNK) for i in range(CHUNKS)]


def name(seeds: range) -> str:
    return f"{seeds.start}-{seeds.stop - 1}"


def decided(seeds: range) -> list[History]:
    found = [with_forgetting(generate(seed)) for seed in seeds]
    return [history for history in found if not undecided(history)]


def known(whole: Replay) -> list[Any]:
    return [one for one in whole.attributions() if one.person != FORGOTTEN]


@pytest.mark.parametrize("seeds", chunks(), ids=name)
def test_what_is_known_of_others_equals_the_oracle(seeds: range) -> None:
    seen: Counter[str] = Counter()
    for history in decided(seeds):
        whole = Replay(history.marketing)
        for topic, body in history.events:
            whole.take(topic, json.dumps(body).encode())
        whole.finish()
        gone = forgotten(history.events, history.marketing)
        expected = attribute(history.events, history.marketing).attributions
        assert lines(known(whole)) == expected, history.seed
        assert not gone & whole.nodes.keys(), history.seed
        seen.update(
            {"left": bool(whole.left), "refused": bool(whole.dropped["forgotten"]), "others": bool(expected),
             "customer": any(key[0] == "c" for key in gone), "order": any(key[0] == "o" for key in gone)}
        )  # fmt: skip
        seen["histories"] += 1
        seen["linked"] += len([key for key in gone if key[0] == "a"]) > 1
    assert seen["histories"] > len(seeds) / 2
    assert min(seen[what] for what in ("left", "refused", "others", "customer", "order", "linked")) > len(seeds) / 10, (
        seen
    )


def standing(driver: Driver) -> dict[str, Any]:
    return {
        attribution.conversion_id: line(attribution)
        for attribution in driver.published.values()
        if attribution.reason != "moved"
    }


@pytest.mark.parametrize("seeds", chunks(), ids=name)
def test_any_order_of_arrival(seeds: range) -> None:
    """The forget event before, between and after the events and moves of its person, with blocks and steps that are done again."""
    dropped: Counter[str] = Counter()
    for history in decided(seeds):
        rng = Random(history.seed)
        marketing = configured(history)
        records = [(topic, json.dumps(body).encode()) for topic, body in history.events]
        records += [record for record in records if rng.random() < 0.05]
        rng.shuffle(records)
        driver = run(marketing, records, rng)
        whole = batch(marketing, records)
        assert standing(driver) == lines(known(whole)), history.seed
        assert states(driver.nodes()) == states(whole.nodes), history.seed
        gone = forgotten(history.events, marketing)
        # Stored nodes are bytes: nobody may be named by them, not even inside another's. `d0` is not `d0b`.
        named = re.compile(b"|".join(re.escape(key.encode()) + rb"(?![\w\x80-\xff])" for key in sorted(gone)) or b"$^")
        for stored in driver.stored:
            assert not [key for key, packed in stored.nodes.items() if key in gone or named.search(packed)], (
                history.seed
            )
            assert set(map(Forgotten(b"a secret").hash, (key for key in gone if key[0] in "ac"))) <= stored.forgotten
        dropped += driver.dropped
    assert dropped["forgotten"] > len(seeds), dropped


def money(rollups: Rollups) -> dict[Any, int]:
    """Sums of money and conversions by bucket, measure, model and type, over all channels and `(unattributed)`; at conversion basis."""
    found: Counter[Any] = Counter()
    for bucket, cells in rollups.buckets.items():
        for cell in cells.values():
            for measure, amount in cell.items():
                if measure[0] in MONEY and measure[3] != "touch":
                    found[bucket, measure] += amount
    return {key: amount for key, amount in found.items() if amount}


@pytest.mark.parametrize("seeds", chunks(), ids=name)
def test_the_money_of_forgotten_persons_stays_in_the_sums(seeds: range) -> None:
    """To the micro: in all, by model and conversion type, in each bucket. Where no device is shared, each channel's too."""
    seen: Counter[str] = Counter()
    for seed in seeds:
        history = generate(seed)
        asked = with_forgetting(history, most=1)
        if undecided(asked):
            continue
        marketing = configured(history)
        forgets = [event for event in asked.events if event[1].get("type") == "forget"]
        rng = Random(seed)
        driver = run(marketing, [(topic, json.dumps(body).encode()) for topic, body in history.events], rng)
        before, nodes, published = driver.rollups(), driver.nodes(), len(driver.published)
        for topic, body in forgets:
            driver.publish(f"{topic}/0", json.dumps(body).encode())
        driver.drain()
        after = driver.rollups()
        assert money(after) == money(before), seed
        if all(nodes[key] == node for key, node in driver.nodes().items()):
            assert after.buckets == before.buckets, seed
            seen["alone"] += 1
        seen["left"] += bool(driver.left)
        seen["changed"] += after.buckets != before.buckets
        assert {one.person for one in driver.left.values()} <= {FORGOTTEN}
        assert all(
            credit.touch_id == "" for one in driver.left.values() for found in one.credits.values() for credit in found
        )
        assert published >= len(driver.published), seed
    assert seen["left"] > len(seeds) / 5, seen
    assert min(seen["alone"], seen["changed"]) > len(seeds) / 20, seen


@pytest.mark.parametrize("partitions", [1, 2, 3, 7, 64, 512])
def test_every_partition_of_the_log_is_told(partitions: int) -> None:
    entries = everywhere(("c:1", "a:2"), partitions, offset=7)
    assert [partition_of(entry.key, partitions) for entry in entries] == list(range(partitions))
    assert [(entry.offset, entry.k) for entry in entries] == [(7, k) for k in range(partitions)]
    assert {entry.persons for entry in entries} == {("a:2", "c:1")}


def test_the_list_is_of_keyed_hashes() -> None:
    one, other = Forgotten(b"k" * 100), Forgotten(b"k" * 99)
    assert one.add(["c:1"]) == [one.hash("c:1")]
    assert one.hash("c:1") != other.hash("c:1")
    assert ("c:1" in one, "c:2" in one, "c:1" in other) == (True, False, False)
    again = Forgotten(b"k" * 100, one.hashes)
    assert ("c:1" in again, again.add(["c:1"])) == (True, [])
    # The same list, where ids are stored as hashes: and what it holds is no hash that is stored.
    stored = Pseudonyms(b"k" * 100).person("c:1")
    assert stored in Forgotten(b"k" * 100, one.hashes, hashed=True)
    assert bytes.fromhex(stored[2:]) not in one.hashes
    assert (bool(one), bool(other)) == (True, False)


def test_what_restated_an_order_is_not_told_once_it_is_taken_back() -> None:
    """An event on a shared device that was another customer's for a while: its id does not stay with that customer."""
    at = "2026-03-{:02d}T10:00:00Z".format
    tablet, ana, ben = {"anonymous_id": "tablet"}, {"customer_id": "ana"}, {"customer_id": "ben"}
    order = {"type": "order", "order_id": "B", "revenue": "1", "currency": "EUR"}
    events: list[tuple[str, dict[str, Any]]] = [
        ("purchases", {"event_id": "p1", "occurred_at": at(9), **ben, **order}),
        ("touchpoints", {"event_id": "l1", "occurred_at": at(2), **tablet, **ben, "type": "identify"}),
        ("clicks", {"event_id": "click-of-ana", "occurred_at": at(5), **tablet, "network": "google"}),
        ("touchpoints", {"event_id": "l2", "occurred_at": at(4), **tablet, **ana, "type": "identify"}),
    ]
    driver = Driver(Marketing(), Random(1))
    told = []
    for topic, body in events:
        driver.publish(f"{topic}/0", json.dumps(body).encode())
        driver.drain()
        ben_now = driver.nodes().get("c:ben")
        assert isinstance(ben_now, Person)
        told.append([one.what for conversion in ben_now.conversions for one in conversion.history])
    assert told == [[], [], ["click-of-ana"], ["", ""]]


DAY_OF = "2026-03-{:02d}T10:00:00Z".format
FORGET_PIXEL = ("touchpoints", {"event_id": "f", "occurred_at": DAY_OF(1), "type": "forget", "anonymous_id": "pixel"})


def report(event_id: str, **who: str) -> tuple[str, dict[str, Any]]:
    order = {"type": "order", "order_id": "1", "revenue": "1", "currency": "EUR"}
    return "purchases", {"event_id": event_id, "occurred_at": DAY_OF(2), **order, **who}


def one_by_one(driver: Driver, *events: tuple[str, dict[str, Any]]) -> Driver:
    for topic, body in events:
        driver.publish(f"{topic}/0", json.dumps(body).encode())
        driver.drain()
    return driver


def on_every_list(driver: Driver, key: str) -> bool:
    listed = Forgotten(b"a secret").hash(key)
    return all(listed in stored.forgotten for stored in driver.stored)


@pytest.mark.parametrize("pixel_first", [True, False])
def test_a_forgotten_device_takes_no_customers_order_along(pixel_first: bool) -> None:
    """Its report may come before the customer's own; and again, when the list of before is what a new log begins with."""
    reports = [report("p", anonymous_id="pixel"), report("s", customer_id="ben", source="shop")]
    events = [FORGET_PIXEL, *(reports if pixel_first else reversed(reports))]
    driver = one_by_one(Driver(Marketing(), Random(1)), *events)
    again = Driver(Marketing(), Random(1))
    for stored in again.stored:
        stored.forgotten = frozenset().union(*(other.forgotten for other in driver.stored))
    for one in (driver, one_by_one(again, *events)):
        assert [(conversion, of.person) for (conversion, _), of in one.published.items()] == [("o:1", "c:ben")]
        assert "a:pixel" not in repr(one.nodes())


def test_of_an_order_that_only_a_forgotten_device_reported_nothing_is_known() -> None:
    refund = {"event_id": "r", "occurred_at": DAY_OF(3), "type": "refund", "order_id": "1", "amount": "1"}
    events = [("purchases", refund), FORGET_PIXEL, report("p", anonymous_id="pixel"), ("purchases", refund)]
    driver = one_by_one(Driver(Marketing(), Random(1)), *events)
    assert driver.nodes() == {}
    assert driver.dropped["forgotten"] == 2


@pytest.mark.parametrize("who", ["customer_id", "anonymous_id"])
def test_only_a_forgotten_customers_order_says_whose_a_device_is(who: str) -> None:
    """A device that reports an order of a forgotten device is not that device's."""
    forget = {"event_id": "f", "occurred_at": DAY_OF(3), "type": "forget", who: "x"}
    events = [report("p", **{who: "x"}), ("touchpoints", forget), report("q", anonymous_id="other")]
    driver = one_by_one(Driver(Marketing(), Random(1)), *events)
    assert driver.nodes() == {}
    assert on_every_list(driver, "a:other") is (who == "customer_id")


def test_so_many_persons_are_forgotten_that_one_record_can_not_hold_them() -> None:
    persons = [f"a:{n:0>200}" for n in range(2_500)]
    entries = everywhere(persons, 3, offset=7, hashes=[b"h"])
    assert [entry.k for entry in entries] == list(range(9))
    assert max(len(encode(Block(FORMAT, "touchpoints/0", [entry]))) for entry in entries) < 500_000
    for partition in range(3):
        own = [entry for entry in entries if partition_of(entry.key, 3) == partition]
        assert [person for entry in own for person in entry.persons] == persons
        assert [name for entry in own for name in entry.hashes] == [b"h"]


def test_who_converted_through_a_forgotten_device_is_no_more_than_who_visited() -> None:
    """The one visit and the one order of a customer came through it: both marks of the person go, the order stays in the sums."""
    device = {"anonymous_id": "pixel"}
    events: list[tuple[str, dict[str, Any]]] = [
        (
            "touchpoints",
            {"event_id": "l", "occurred_at": DAY_OF(1), "type": "identify", "customer_id": "ben", **device},
        ),
        ("touchpoints", {"event_id": "v", "occurred_at": DAY_OF(1), "type": "visit", "channel": "Email", **device}),
        report("p", **device),
    ]
    driver = one_by_one(Driver(Marketing(), Random(1)), *events)

    def counted() -> list[int]:
        total: Counter[Any] = Counter()
        for (granularity, _), cells in driver.rollups().buckets.items():
            for cell in cells.values() if granularity in "dv" else ():
                total.update(cell)
        channel = ("Email", "(none)")
        each = (visitors(ALL), converted(ALL, "purchase"), visitors(channel), converted(channel, "purchase"))
        return [*(total[measure] for measure in each), total[ORDERS]]

    assert counted() == [1, 1, 1, 1, 1]
    one_by_one(driver, FORGET_PIXEL)
    assert counted() == [0, 0, 0, 0, 1]


def test_an_order_that_the_forget_event_overtakes_is_not_counted_twice() -> None:
    """The customer's own report of it is on its way to the customer, who has lost what the device gave: that stays in the sums."""
    device = {"anonymous_id": "pixel"}
    link = {"event_id": "l", "occurred_at": DAY_OF(1), "type": "identify", "customer_id": "ben", **device}
    marketing = Marketing()
    driver = one_by_one(Driver(marketing, Random(1)), ("touchpoints", link), report("p", **device))
    before = money(driver.rollups())
    theirs, orders = (partition_of(key, driver.partitions) for key in ("c:ben", "o:1"))
    assert theirs != orders
    for topic, body in (report("s", customer_id="ben", source="shop"), FORGET_PIXEL):
        driver.publish(f"{topic}/0", json.dumps(body).encode())
        driver.ingest(f"{topic}/0", 1)
    driver.stitch(theirs, 1 << 30)
    driver.drain()
    assert money(driver.rollups()) == before != {}
    # That it stays is true of these sums: a new log begins without it, and in the new sums the order is the customer's.
    again = Driver(marketing, Random(1))
    for stored in again.stored:
        stored.forgotten = frozenset(lasting(frozenset().union(*(other.forgotten for other in driver.stored))))
    one_by_one(again, FORGET_PIXEL, ("touchpoints", link), report("p", **device), report("s", customer_id="ben"))
    assert [of.person for of in again.published.values()] == ["c:ben"]


def dated(day: int, customer: str, event_id: str) -> tuple[str, dict[str, Any]]:
    """A customer's report of the order. Of two customers the one who reported it with the earlier time has it."""
    topic, body = report(event_id, customer_id=customer)
    return topic, body | {"occurred_at": DAY_OF(day)}


def of_the_order(kind: str, **amount: str) -> tuple[str, dict[str, Any]]:
    return "purchases", {"type": kind, "event_id": "r", "occurred_at": DAY_OF(9), "order_id": "1", **amount}


PART_OF_IT = of_the_order("refund", amount="0.4", currency="EUR")


@pytest.mark.parametrize(("known", "moving", "revenue", "credited"), [
    (dated(5, "ben", "p"), dated(2, "ana", "s"), 1_000_000, 2_000_000),
    (dated(5, "ana", "p"), dated(2, "ben", "s"), 1_000_000, 0),
    (dated(5, "ben", "p"), PART_OF_IT, 600_000, 1_000_000),
    (dated(5, "ben", "p"), of_the_order("cancel"), 0, 1_000_000),
], ids=["from", "to", "refund", "cancel"])  # fmt: skip
def test_what_a_forget_event_in_mid_move_leaves(known: Any, moving: Any, revenue: int, credited: int) -> None:
    """What docs/privacy.md says: the order's own node is right, what is credited may not be; without the forget event it is."""

    def sums(forget: bool) -> tuple[int, int]:
        driver = one_by_one(Driver(Marketing(), Random(1)), known)
        of_ben = {"event_id": "f", "occurred_at": DAY_OF(1), "type": "forget", "customer_id": "ben"}
        for topic, body in (moving, ("touchpoints", of_ben))[: 1 + forget]:
            driver.publish(f"{topic}/0", json.dumps(body).encode())
            driver.ingest(f"{topic}/0", 1)
        # His own partition hears of it first, of what moves later.
        driver.stitch(partition_of("c:ben", driver.partitions), 1 << 30)
        driver.drain()
        total: Counter[Any] = Counter()
        for (granularity, _), cells in driver.rollups().buckets.items():
            for cell in cells.values() if granularity == "d" else ():
                total.update(cell)
        return total[REVENUE_NET], total[ATTRIBUTED_NET, "last_touch", "purchase", "conversion"]

    assert sums(forget=False) == (revenue, revenue)
    assert sums(forget=True) == (revenue, credited)


def test_an_order_counted_with_a_forgotten_device_is_the_customers_after_a_rebuild() -> None:
    """It stays in the sums it is in, and there the customer's report would count it twice; in new sums nothing else counts it."""
    first, second = report("p", anonymous_id="pixel"), report("s", customer_id="ben", source="shop")
    driver = one_by_one(Driver(Marketing(), Random(1)), first)
    before = money(driver.rollups())
    one_by_one(driver, FORGET_PIXEL, second)
    assert money(driver.rollups()) == before != {}
    assert driver.nodes() == {}
    again = Driver(Marketing(), Random(1))
    for stored in again.stored:
        stored.forgotten = frozenset(lasting(frozenset().union(*(other.forgotten for other in driver.stored))))
    one_by_one(again, first, FORGET_PIXEL, second)
    assert [of.person for of in again.published.values()] == ["c:ben"]
    assert money(again.rollups()) == before
