"""Situations worked by hand: each gives its expected attributions straight, shuffled, duplicated, and stopped after every
Nth entry; and gives others with its rule switched off, so that none passes for another reason.

`parcours replay tests/scenarios/NAME/events.jsonl --config tests/scenarios/NAME/parcours.toml` runs one by hand.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

import attribution.credit
from attribution import filters, intake, newness
from attribution import fold as folds
from attribution.facts import (
    ATTRIBUTED_NET,
    CLICKS,
    CONVERSION,
    FILTERED_CLICKS,
    NEW_CUSTOMERS,
    ORDERS,
    REFUNDS,
    REVENUE_GROSS,
    REVENUE_NET,
    TOTAL,
    VISITS,
)
from attribution.money import major
from attribution.naming import Campaigns
from attribution.nodes import device, order, person
from attribution.nodes.base import Folded
from attribution.nodes.state import CostRow, Person
from attribution.paths import LINKED, PURCHASES, from_source
from attribution.report import whole
from attribution.visitors import ALL, converted, visitors
from models.settings import DAY, Lookback, Marketing, Privacy, Topics, load_marketing
from models.wire import CancelReport, RefundReport
from streams.cli.explain import explain
from tests.core.driver import Driver

HERE = Path(__file__).parent
NAMES = sorted(path.name for path in HERE.iterdir() if (path / "events.jsonl").exists())
TOPICS = Topics(clicks=1, touchpoints=1, purchases=1, costs=1, journey_events=3)
SOURCES = ("clicks/0", "touchpoints/0", "purchases/0", "costs/0")
# Bucket size, measure, and whether it counts things one by one.
TOTALS = {
    "orders": ("d", ORDERS, True),
    "clicks": ("d", CLICKS, True),
    "filtered_clicks": ("d", FILTERED_CLICKS, True),
    "visits": ("d", VISITS, True),
    "visitors": ("v", visitors(ALL), True),
    "converted": ("v", converted(ALL, "purchase"), True),
    "revenue_gross": ("d", REVENUE_GROSS, False),
    "revenue_net": ("d", REVENUE_NET, False),
    "refunds": ("d", REFUNDS, False),
    "purchases of shop": ("v", from_source(PURCHASES, "shop"), True),
    "linked purchases of shop": ("v", from_source(LINKED, "shop"), True),
    "purchases of app": ("v", from_source(PURCHASES, "app"), True),
    "linked purchases of app": ("v", from_source(LINKED, "app"), True),
    "new_customers": ("d", (NEW_CUSTOMERS, "first_touch", "purchase", CONVERSION), False),
}
Record = tuple[str, bytes]
NAMING: Callable[[list[CostRow]], Campaigns] = Campaigns


def events_of(name: str) -> list[Record]:
    lines = (HERE / name / "events.jsonl").read_text("utf-8").splitlines()
    return [(body["topic"], json.dumps(body["value"]).encode()) for body in map(json.loads, lines)]


def settings_of(name: str) -> Marketing:
    marketing = load_marketing(HERE / name / "parcours.toml")
    return msgspec.structs.replace(marketing, topics=TOPICS)


def told(driver: Driver, expected: dict[str, Any]) -> dict[str, Any]:
    """What came out, in the words of `expected.json`."""
    found = {}
    for published in driver.published.values():
        if published.reason == "moved":
            continue
        assert published.conversion_id not in found, "one conversion at two persons"
        credits = {
            model: {credit.touch_id: [credit.conversions, credit.revenue] for credit in shares}
            for model, shares in published.credits.items()
        }
        found[published.conversion_id] = {
            "person": published.person,
            "status": "attributed" if published.status == "restated" else published.status,
            "reason": published.reason,
            "revenue_net": published.revenue_net,
            "credits": credits,
        } | ({"truncated": True} if published.truncated else {})
    result: dict[str, Any] = {"attributions": found}
    if "totals" in expected:
        result["totals"] = {name: total(driver, name) for name in expected["totals"]}
    if "campaigns" in expected:
        result["campaigns"] = campaigns(driver)
    return result


def campaigns(driver: Driver) -> dict[str, dict[str, str]]:
    """Revenue by the last touch, and cost, of each network and campaign as they are read."""
    rows = [node for node in driver.nodes().values() if isinstance(node, CostRow)]
    names, filed = NAMING(rows), driver.rollups()
    found = whole(Marketing(), names.rollups(filed, filed.calendar), [names.row(row) for row in rows], rows[0].end)
    assert found is not None
    revenue = {dims: cell.get((ATTRIBUTED_NET, "last_touch", "purchase", CONVERSION), 0) for dims, cell in found.cells.items()}  # fmt: skip
    cost = {dims: spent.total or 0 for dims, spent in found.spent.items()}
    return {
        f"{dims[1]} {dims[2]}": {"revenue": major(revenue.get(dims, 0)), "cost": major(cost.get(dims, 0))}
        for dims in revenue.keys() | cost.keys()
        if dims[2]
    }


def total(driver: Driver, name: str) -> int | str:
    size, measure, plain = TOTALS[name]
    cells = [cell for (found, _), by in driver.rollups().buckets.items() if found == size for cell in by.values()]
    amount = sum(cell.get(measure, 0) for cell in cells)
    return amount if plain else major(amount)


def straight(marketing: Marketing, records: list[Record]) -> Driver:
    """One record at a time; after each, all that was sent is heard of everywhere, and event time moves on as fast as it may."""
    driver = Driver(marketing, Random(1), sweep=True)
    for topic, value in records:
        driver.publish(f"{topic}/0", value)
        driver.ingest(f"{topic}/0", 1)
        driver.mark(SOURCES, idle=True)
        for _ in range(3):
            for partition in range(driver.partitions):
                driver.stitch(partition, 1 << 30)
            driver.mark(partitions=range(driver.partitions))
    driver.drain()
    return driver


def shuffled(marketing: Marketing, records: list[Record], seed: int, step: int = 1 << 30) -> Driver:
    """In any order, some records twice, with failures; every partition stops after each `step` entries."""
    rng = Random(seed)
    driver = Driver(marketing, rng, sweep=True)
    records = records + rng.sample(records, rng.randint(0, len(records)))
    rng.shuffle(records)
    for topic, value in records:
        driver.publish(f"{topic}/0", value)
    while any(source.position < len(source.records) for source in driver.sources.values()):
        driver.ingest(rng.choice(SOURCES), rng.choice((1, 2)), fail=rng.random() < 0.2)
        driver.stitch(rng.randrange(driver.partitions), step, fail=rng.random() < 0.2)
        if rng.random() < 0.2:
            driver.redeliver()
    for partition in range(driver.partitions):
        while driver.stitch(partition, step):
            pass
    driver.drain()
    return driver


def expected_of(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((HERE / name / "expected.json").read_text("utf-8"))
    return found


@pytest.mark.parametrize("name", NAMES)
def test_straight(name: str) -> None:
    expected = expected_of(name)
    assert told(straight(settings_of(name), events_of(name)), expected) == expected


@pytest.mark.parametrize("name", NAMES)
def test_each_event_twice(name: str) -> None:
    expected = expected_of(name)
    twice = [record for record in events_of(name) for _ in range(2)]
    assert told(straight(settings_of(name), twice), expected) == expected


@pytest.mark.parametrize("name", NAMES)
def test_shuffled(name: str) -> None:
    expected = expected_of(name)
    for seed in range(20):
        assert told(shuffled(settings_of(name), events_of(name), seed), expected) == expected, seed


@pytest.mark.parametrize("name", NAMES)
def test_stopped_after_every_nth_entry(name: str) -> None:
    expected = expected_of(name)
    for step in (1, 2, 3, 5):
        assert told(shuffled(settings_of(name), events_of(name), step, step), expected) == expected, step


# Each rule, switched off


Off = Callable[[pytest.MonkeyPatch, Marketing], Marketing]


def setting(**changes: Any) -> Off:
    return lambda patch, marketing: msgspec.structs.replace(marketing, **changes)


def unfiltered(**changes: Any) -> Off:
    """A filter switched off as users do it."""
    return lambda patch, marketing: msgspec.structs.replace(
        marketing, filters=msgspec.structs.replace(marketing.filters, **changes)
    )


def patched(target: Any, name: str, value: Any) -> Off:
    def off(patch: pytest.MonkeyPatch, marketing: Marketing) -> Marketing:
        patch.setattr(target, name, value)
        return marketing

    return off


def refunds(drop: Callable[[Any, Any, Any], bool]) -> Off:
    """Refunds and cancels of which `drop(node, entry, context)` is true have no effect."""

    def ignoring(node: Any, entry: Any, context: Any) -> Folded:
        return (
            Folded(node, dropped="duplicate") if drop(node, entry, context) else order.fold_refund(node, entry, context)
        )

    def off(patch: pytest.MonkeyPatch, marketing: Marketing) -> Marketing:
        for kind in (RefundReport, CancelReport):
            patch.setitem(folds._FOLDS, kind, ignoring)
        return marketing

    return off


def owner(choose: Callable[[str, Any, int], str]) -> Off:
    return patched(device, "owner", lambda key, known, t, rules: choose(key, known, t))


def last_touch_for_all(patch: pytest.MonkeyPatch, marketing: Marketing) -> Marketing:
    patch.setitem(attribution.credit._MODELS, "last_non_direct", attribution.credit._last_touch)
    return marketing


def each_order_a_visitor(before: Any, after: Any, visited: Any) -> list[Any]:
    fresh = {conversion.id for conversion in after.conversions} - {conversion.id for conversion in before.conversions}
    return [(after.conversions[0].t, TOTAL, converted(ALL, "purchase"), len(fresh))] if fresh else []


NO_LINKS = patched(intake.Intake, "_with_link", lambda self, event, entries, t, offset: entries)
_cumulative, _conversion = order._cumulative, person.order_conversion

# The scenario of each filter, and how users switch it off.
OF_FILTERS: dict[str, tuple[str, dict[str, Any]]] = {
    filters.BOTS_NAME: ("bots_earn_nothing", {"bots": False}),
    filters.INTERNAL_NAME: ("internal_traffic", {"internal": False}),
    filters.CONSENT_NAME: ("without_consent", {"no_consent": False}),
    filters.DUPLICATE: ("double_click", {"duplicate_clicks": "0s"}),
    filters.FAST: ("too_fast_to_be_a_person", {"fast_conversions": "0s"}),
}

OFF: dict[str, Off] = {
    "first_login_claims_history": owner(
        lambda key, known, t: known.links[0].customer if t >= known.links[0].t else key
    ),
    "login_at_conversion_only": NO_LINKS,
    "claim_reaches_so_far": setting(claim_history="30d"),
    "hand_over": owner(lambda key, known, t: known.links[0].customer),
    "several_devices": NO_LINKS,
    "anonymous_purchase_moves": NO_LINKS,
    "link_rate": NO_LINKS,
    "one_order_two_reports": patched(order, "_links", lambda before, after: []),
    "junk_ids": setting(junk_ids=()),
    "shared_device": setting(device_customers=10),
    "refund_restates_the_original": refunds(lambda node, entry, context: True),
    "refund_before_its_order": refunds(lambda node, entry, context: node is None),
    "refund_above_the_order": patched(
        order,
        "_cumulative",
        lambda known, report: _cumulative(known, report._replace(gross=1 << 60)),
    ),
    "refund_after_sealing": refunds(
        lambda node, entry, context: entry.t - node.reports[0].t > 60 * DAY if node else False
    ),
    "cancel_takes_the_order_away": refunds(lambda node, entry, context: isinstance(entry, CancelReport)),
    "changed_re_send": patched(order, "_content", lambda known: known.reports[0]),
    "same_second_orders": patched(
        person, "order_conversion", lambda entry: _conversion(entry)._replace(id=f"o:{entry.t}")
    ),
    "payment_provider": setting(payment_domains=()),
    "own_domain": setting(own_domains=()),
    **{name: unfiltered(**off) for name, off in OF_FILTERS.values()},
    "direct_over_credited": last_touch_for_all,
    "late_touch_restates": setting(lateness="1d"),
    "late_login_restates": setting(lateness="1d"),
    "robot_is_bounded": setting(journey_max=500),
    "claimed_from_a_long_journey": patched(device, "_missed", lambda *known: []),
    "first_order_outlives_the_journey": patched(newness, "_MARK", Person()),
    "new_and_returning": setting(history_since="2025-12-01"),
    "more_orders_than_visits": patched(folds, "visitor_facts", each_order_a_visitor),
    "stage_with_its_own_window": setting(lookback=Lookback()),
    "forgotten_with_her_devices": patched(
        intake.Intake, "_forget", lambda self, event, t, offset: intake.Taken((), t, "")
    ),
    "ids_dropped_without_consent": setting(privacy=Privacy(without_consent="keep_ids")),
    "campaign_known_by_its_id": patched(sys.modules[__name__], "NAMING", lambda rows: Campaigns()),
    "b2b_path": setting(lead_stage="signup", opportunity_stage="demo"),
}


@contextmanager
def switched_off(name: str) -> Iterator[Marketing]:
    with pytest.MonkeyPatch.context() as patch:
        yield OFF[name](patch, settings_of(name))


@pytest.mark.parametrize("name", NAMES)
def test_fails_with_its_rule_switched_off(name: str) -> None:
    expected = expected_of(name)
    with switched_off(name) as marketing:
        assert told(straight(marketing, events_of(name)), expected) != expected


def test_every_filter_has_its_scenario() -> None:
    assert set(OF_FILTERS) == set(filters.NAMES)


@pytest.mark.parametrize("name", filters.NAMES)
def test_a_journey_names_the_filter_while_it_is_on(name: str) -> None:
    scenario, off = OF_FILTERS[name]
    for on in (True, False):
        marketing = settings_of(scenario)
        if not on:
            marketing = msgspec.structs.replace(marketing, filters=msgspec.structs.replace(marketing.filters, **off))
        journeys = [
            json.dumps(msgspec.to_builtins(explain(key, node, marketing)))
            for key, node in straight(marketing, events_of(scenario)).nodes().items()
            if isinstance(node, Person)
        ]
        assert any(f"filtered: {name}" in text or f"filtered by {name}" in text for text in journeys) is on


def test_every_scenario_is_whole() -> None:
    assert set(OFF) == set(NAMES)
    for name in NAMES:
        assert {path.name for path in (HERE / name).iterdir()} == {
            "events.jsonl", "parcours.toml", "expected.json", "README.md",
        }  # fmt: skip


def test_the_page_of_pains_shows_scenarios_that_there_are() -> None:
    text = (HERE.parents[1] / "docs" / "pains.md").read_text("utf-8")
    linked = re.findall(r"\[(\w+)\]\(\.\./tests/scenarios/(\w+)\)", text)
    assert len(linked) > 10
    assert all(shown == name and name in NAMES for shown, name in linked)
