"""What rules and goals may name, the errors that say which key is wrong, and readings from the exporter's rows."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from attribution import targets
from attribution.backtest import Backtest
from attribution.costs import Ledger
from attribution.facts import ATTRIBUTED_NET, CLICKS, CONVERSION, CONVERSIONS, Fact
from attribution.families import FAMILIES, LEVEL_LABELS
from attribution.kpi import found
from attribution.nodes.state import CostRow
from attribution.people import People
from attribution.readings import Held, read
from attribution.rollups import Calendar, Rollups
from attribution.rules import Dims
from attribution.windows import Sums
from models.errors import ConfigError
from models.settings import DAY, HOUR, Marketing, load_marketing
from tests.core.replayed import replay
from tests.core.test_kpi_families import at, who
from tests.reference import moment

D = Decimal
RULE: dict[str, Any] = {"name": "cpa", "metric": "cpa", "threshold": 60}
GOAL: dict[str, Any] = {
    "name": "roas", "metric": "roas", "target": 4, "start": "2026-01-01", "deadline": "2026-04-01",
}  # fmt: skip
END = moment("2026-03-10T10:30:30Z")
FREE = Held()
SPRING: Dims = ("Paid Social", "facebook", "spring")
BRAND: Dims = ("Paid Search", "google", "brand")


def marketing(**given: Any) -> Marketing:
    return msgspec.convert({"conversions": {"lead": {}}, **given}, Marketing)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"metric": "cpaa"}, r"alerts\[0\].metric: 'cpaa' is no metric of level total; did you mean 'cpa'"),
        ({"campaign": "*", "metric": "orders"}, r"alerts\[0\].metric: 'orders' is no metric of level campaign"),
        ({"campaign": "*", "window": "1h"}, r"alerts\[0\].window: '1h' is no window of level campaign; there are 24h, 7d, 30d"),
        ({"basis": "touch", "window": "24h"}, r"alerts\[0\].basis"),
        ({"model": "linear"}, r"alerts\[0\].model: 'linear' is not among headline_models: last_non_direct"),
        ({"conversion": "signup"}, r"alerts\[0\].conversion: 'signup' is none of purchase, lead"),
        ({"clear": 61}, r"alerts\[0\].clear: 61 is not below the threshold 60"),
        ({"metric": "roas", "direction": "below", "clear": 50}, r"alerts\[0\].clear: 50 is not above the threshold 60"),
        ({"metric": "roas", "conversion": "lead"}, r"alerts\[0\].conversion: roas is not exported for conversion 'lead'; there is purchase"),
        ({"metric": "maturity", "window": "7d"}, r"alerts\[0\].basis: maturity is not exported for basis 'conversion'; there is touch"),
        ({"metric": "projected_cpa", "window": "7d"}, r"alerts\[0\].basis: projected_cpa .* there is touch"),
        ({"metric": "followers", "window": "1h"}, r"alerts\[0\].window: followers .* '1h'; there is 24h, 7d, 30d"),
        ({"metric": "filtered_clicks", "window": "1h"}, r"alerts\[0\].window: filtered_clicks .* there is 24h, 7d, 30d"),
        ({"metric": "platform_value", "window": "1h"}, r"alerts\[0\].window: platform_value"),
        ({"metric": "clicks", "window": "1h", "minimum": {"followers": 1}}, r"alerts\[0\].minimum.followers: .* there is 24h, 7d, 30d"),
        ({"metric": "attributed_conversions", "conversion": "lead", "minimum": {"attributed_new_customers": 1}},
         r"alerts\[0\].minimum.attributed_new_customers: .* 'lead'; there is purchase"),
        ({"threshold": 0}, r"alerts\[0\].threshold: 0 is not above 0"),
        ({"direction": "below"}, r"alerts\[0\].direction"),
        ({"dispersion": "0.5"}, r"alerts\[0\].dispersion: 0.5 is below 1"),
        ({"metric": "roas", "dispersion": 2}, r"alerts\[0\].dispersion"),
        ({"minimum": {"clicks": 3}}, r"alerts\[0\].minimum: cpa needs none"),
        ({"metric": "roas", "minimum": {"cliks": 3}}, r"alerts\[0\].minimum.cliks: no metric of level total; did you mean 'clicks'"),
        ({"metric": "conversion_rate", "window": "1h"}, r"alerts\[0\].window: conversion_rate is told of persons; there are 24h, 7d, 30d"),
        ({"metric": "touches_to_convert"}, r"alerts\[0\].metric: 'touches_to_convert' is no metric of level total"),
        ({"threshold": "nan"}, r"alerts\[0\].threshold: NaN is no amount"),
    ],
)  # fmt: skip
def test_a_wrong_rule_is_refused_by_its_key(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        targets.check(marketing(alerts=[{**RULE, **change}]))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"metric": "roass"}, r"goals\[0\].metric: 'roass' is no metric of goals; did you mean 'roas'"),
        ({"deadline": "2025-12-31"}, r"goals\[0\].deadline: 2025-12-31 is before the start 2026-01-01"),
        ({"metric": "orders", "target": 0}, r"goals\[0\].target"),
        ({"metric": "orders", "baseline": 3}, r"goals\[0\].baseline: orders is a sum"),
        ({"baseline": 5}, r"goals\[0\].direction: from 5 to 4 is not up"),
        ({"metric": "aov", "network": "google"}, r"goals\[0\].metric: aov is of all orders"),
        ({"window": "12h"}, r"goals\[0\].window: 12h is shorter than a day"),
        ({"model": "linear"}, r"goals\[0\].model"),
        ({"metric": "traffic_share"}, r"goals\[0\].metric: traffic_share is no metric of level total"),
        (
            {"metric": "reach"},
            r"goals\[0\].baseline: what was told of persons before the start is not known later; give it",
        ),
        ({"metric": "reach", "window": "14d"}, r"goals\[0\].window: reach is told of persons; there are 24h, 7d, 30d"),
        ({"metric": "touches_to_convert"}, r"goals\[0\].metric: 'touches_to_convert' is no metric of goals"),
        ({"metric": "maturity"}, r"goals\[0\].metric: 'maturity' is no metric of goals"),
    ],
)
def test_a_wrong_goal_is_refused_by_its_key(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        targets.check(marketing(goals=[{**GOAL, **change}]))


def test_what_is_right_is_accepted() -> None:
    targets.check(
        marketing(
            alerts=[RULE, {**RULE, "name": "b", "metric": "roas_ratio", "clear": 60, "minimum": {"clicks": 1}}],
            goals=[GOAL, {**GOAL, "name": "b", "metric": "cpa", "direction": "down", "baseline": 9}],
            benchmarks=[{"name": "x", "metric": "cpa", "value": 3, "network": "google"}],
        )
    )
    with pytest.raises(ConfigError, match=r"benchmarks\[0\].metric: 'cpx'"):
        targets.check(marketing(benchmarks=[{"name": "x", "metric": "cpx", "value": 3}]))


@pytest.mark.parametrize("level", LEVEL_LABELS)
def test_a_rule_names_what_has_one_row_for_a_scope_and_window(level: str) -> None:
    more = {name for name, family in FAMILIES.items() if family.level == level and set(family.labels) - targets.LABELS}
    assert more or level == "campaign", "families by day or period, at least"
    for metric in targets.metrics(level):
        found = targets.family(level, metric)
        assert found is not None
        assert found not in more
        assert "window" in FAMILIES[found].labels or targets.of_persons(found)
    with pytest.raises(ConfigError, match="is no metric of level total"):
        targets.check(marketing(alerts=[{**RULE, "metric": "cpa_baseline"}]))


def test_names_are_given_once(tmp_path: Path) -> None:
    file = tmp_path / "p.toml"
    file.write_text('[[alerts]]\nname = "a"\nmetric = "cpa"\nthreshold = 1\n' * 2)
    with pytest.raises(ConfigError, match=r"alerts\[1\].name: 'a' is taken by alerts\[0\]"):
        load_marketing(file)


def test_a_changed_alert_is_no_new_configuration_of_the_fold() -> None:
    """The fold does not depend on what is only looked at; workers of before still read the text."""
    plain = Marketing()
    watched = marketing(
        alerts=[RULE], goals=[GOAL], benchmarks=[{"name": "x", "metric": "cpa", "value": 3}], silence={"clicks": "2h"}
    )
    watched = msgspec.structs.replace(watched, conversions={})
    assert (watched.text(), watched.digest()) == (plain.text(), plain.digest())
    assert not {"alerts", "goals", "benchmarks", "silence"} & json.loads(watched.text()).keys()
    assert Marketing.from_text(watched.text()) == plain
    assert msgspec.structs.replace(watched, views="always").digest() != plain.digest()


# Readings


def readings(
    rules: list[dict[str, Any]], facts: list[Fact], costs: list[CostRow], held: Held = FREE, **given: Any
) -> dict[tuple[str, ...], tuple[bool, Decimal | None, Decimal | None, Decimal | None]]:
    """By names: known, value, spend, conversions."""
    config = marketing(clock="event", alerts=rules, **given)
    targets.check(config)
    rollups = Rollups(Calendar("UTC"))
    rollups.add(facts, END)
    sums = Sums.of(rollups, config, END)
    seen = read(config.alerts, config, found(sums, Ledger(costs, sums.own, END)), held)
    return {names: (r.known, r.value, r.spend, r.conversions) for (_, names), r in seen.items()}


def sale(t: int, dims: Dims, model: str = "last_non_direct", kind: str = "purchase") -> list[Fact]:
    return [
        (t, dims, (CONVERSIONS, model, kind, CONVERSION), 1_000_000),
        (t, dims, (ATTRIBUTED_NET, model, kind, CONVERSION), 90_000_000),
    ]


def paid(start: int, end: int, euros: int, dims: Dims = SPRING) -> CostRow:
    return CostRow(start, end, end, "media", dims, euros * 1_000_000, 0)


def test_patterns_choose_the_scopes_and_the_last_one_the_level() -> None:
    facts: list[Fact] = [(END, dims, CLICKS, 1) for dims in (SPRING, BRAND, ("Paid Social", "tiktok", "(none)"))]
    rule = {**RULE, "metric": "clicks", "threshold": 5}
    assert set(readings([rule], facts, [])) == {("", "", "")}
    assert set(readings([{**rule, "channel": "paid s*"}], facts, [])) == {
        ("Paid Social", "facebook", ""), ("Paid Social", "tiktok", ""), ("Paid Search", "google", ""),
    }  # fmt: skip
    assert set(readings([{**rule, "network": "facebook", "campaign": "*"}], facts, [])) == {SPRING}
    assert set(readings([{**rule, "campaign": "*"}], facts, [])) == {SPRING, BRAND, ("Paid Social", "tiktok", "(none)")}


def test_reserved_names_only_when_they_are_named() -> None:
    facts: list[Fact] = sale(END, ("(unattributed)", "(none)", "(none)"))
    rule = {**RULE, "metric": "attributed_conversions", "threshold": 5}
    assert readings([{**rule, "channel": "*"}], facts, []) == {}
    assert readings([{**rule, "channel": "(unattributed)"}], facts, []) == {
        ("(unattributed)", "(none)", ""): (True, 1, None, None)
    }


def test_a_cost_per_conversion_takes_both_sides_up_to_where_cost_is_known() -> None:
    """Cost is known to 06:00 of the last hours: the conversion after it does not count, the euros before it do."""
    cut = moment("2026-03-10T06:00:00Z")
    facts = [*sale(cut - HOUR, SPRING), *sale(cut + HOUR, SPRING), *sale(END - 8 * DAY, SPRING)]
    rule = {**RULE, "network": "facebook", "campaign": "*"}
    assert readings([rule], facts, [paid(END - 6 * DAY, cut, 500)]) == {SPRING: (True, 500, 500, 1)}
    stale = [paid(END - 6 * DAY, END - 5 * DAY, 500)]
    assert readings([rule], facts, stale) == {SPRING: (False, None, None, None)}
    assert readings([rule], sale(END, SPRING), [])[SPRING] == (True, None, None, 0)


def test_model_and_conversion_of_the_rule() -> None:
    facts = [*sale(END, SPRING), *sale(END, SPRING, "position_based"), *sale(END, SPRING, "position_based")]
    facts += sale(END, SPRING, "last_non_direct", "lead") * 4
    costs = [paid(END - DAY, END, 80)]
    got = [
        readings([{**RULE, **change}], facts, costs)["", "", ""][1:]
        for change in ({}, {"model": "position_based"}, {"conversion": "lead"})
    ]
    assert got == [(80, 80, 1), (40, 80, 2), (20, 80, 4)]


def test_other_metrics_are_looked_up_among_the_rows() -> None:
    costs = [paid(END - DAY, END, 60)]
    rule = {**RULE, "metric": "roas", "threshold": 2, "direction": "below", "network": "*", "window": "24h"}
    assert readings([rule], sale(END, SPRING), costs) == {("Paid Social", "facebook", ""): (True, D("1.5"), None, None)}
    # Less than half of the window's cost is known: the ratio is awaited, not gone.
    late = [paid(END - DAY, END - 20 * HOUR, 60)]
    assert readings([rule], sale(END, SPRING), late) == {("Paid Social", "facebook", ""): (False, None, None, None)}


def test_while_held_nothing_is_known_of_cost_per_conversion() -> None:
    costs = [paid(END - DAY, END, 60), paid(END - DAY, END, 60, BRAND)]
    by_network = {**RULE, "network": "*"}
    held = Held(networks=frozenset(["facebook"]))
    known = {names[1]: known for names, (known, *_) in readings([by_network], [], costs, held).items()}
    assert known == {"facebook": False, "google": True}
    assert readings([RULE], [], costs, held)["", "", ""][0] is False
    assert not any(known for known, *_ in readings([by_network], [], costs, Held(everywhere=True)).values())
    clicks = {**RULE, "metric": "clicks"}
    assert readings([clicks], [(END, SPRING, CLICKS, 1)], costs, Held(everywhere=True))["", "", ""][0] is True


PERSONS = [
    *(("touchpoints", who(person, f"v{person}", "09:00:00", SPRING, type="visit")) for person in ("anna", "bob", "carl", "dora")),
    ("touchpoints", who("eve", "ve", "09:00:00", BRAND, type="visit")),
    ("purchases", who("anna", "p", "10:00:00", type="order", order_id="A", revenue=10, currency="EUR")),
]  # fmt: skip


def of_persons(*rules: dict[str, Any]) -> dict[tuple[str, ...], Decimal | None]:
    """Values by rule and names, as the exporter's rows have them."""
    config = marketing(clock="event", alerts=[{**RULE, **rule} for rule in rules])
    targets.check(config)
    run = replay(PERSONS, config)
    sums = Sums.of(run.rollups, config, END)
    people, reach = People.of(run.rollups, config), run.devices.reach(END, sums.calendar)
    seen = read(config.alerts, config, found(sums, Ledger([], sums.own, END), people=people, reach=reach), FREE)
    assert all(reading.known for reading in seen.values())
    return {(rule, *(name for name in names if name)): reading.value for (rule, names), reading in seen.items()}


def test_a_rule_may_be_about_persons() -> None:
    rate = {"name": "rate", "metric": "conversion_rate", "direction": "below", "threshold": "0.5", "window": "24h"}
    assert of_persons(rate, {**rate, "name": "social", "channel": "Paid S*"}, {**rate, "name": "lead", "conversion": "lead"}) == {
        ("rate",): D("0.2"), ("social", "Paid Social", "facebook"): D("0.25"), ("social", "Paid Search", "google"): D(0), ("lead",): D(0),
    }  # fmt: skip
    # Without answers there is no score, and an alert on it is there all the same; customers have no window.
    more = [
        {"name": metric, "metric": metric, "threshold": 1}
        for metric in ("nps_points", "reach", "customers", "repeat_ratio")
    ]
    assert of_persons(*more) == {("nps_points",): None, ("reach",): 5, ("customers",): 1, ("repeat_ratio",): 0}
    # A minimum of visitors keeps a rule silent; of_persons shows the value, the state machine what comes of it.
    config = marketing(clock="event", alerts=[{**RULE, **rate, "minimum": {"visitors": 6}}])
    run = replay(PERSONS, config)
    sums = Sums.of(run.rollups, config, END)
    rows = found(sums, Ledger([], sums.own, END), people=People.of(run.rollups, config))
    reading = read(config.alerts, config, rows, FREE)["rate", ("", "", "")]
    assert (reading.value, reading.fires) == (D("0.2"), False)


def test_a_backtest_judges_what_is_told_of_persons() -> None:
    rule = {
        **RULE,
        "metric": "conversion_rate",
        "direction": "below",
        "threshold": "0.1",
        "window": "24h",
        "channel": "*",
    }
    config = marketing(clock="event", alerts=[rule])
    test = Backtest(config)
    for topic, body in sorted(PERSONS, key=lambda event: event[1]["occurred_at"]):
        test.take(topic, json.dumps(body).encode())
        test.judge(moment(body["occurred_at"]))
    # From nine to ten nobody had bought; at ten one of facebook's visitors had.
    nine, ten = moment(at("09:00:00")), moment(at("10:00:00"))
    assert {one.names[1]: (one.fired_at, one.resolved_at) for one in test.episodes} == {
        "facebook": (nine, ten), "google": (nine, None),
    }  # fmt: skip


def test_a_cost_per_lead_is_of_the_conversion_that_is_the_lead() -> None:
    rule = {**RULE, "name": "cpl", "metric": "cpl", "campaign": "*"}
    facts = [*sale(END, SPRING), *sale(END, SPRING, kind="demo"), *sale(END, SPRING, kind="demo")]
    config: dict[str, Any] = {"conversions": {"lead": {}, "demo": {}}, "lead_conversion": "demo"}
    seen = readings([rule], facts, [paid(END - DAY, END, 100)], **config)
    assert seen == {SPRING: (True, 50, None, None)}
    with pytest.raises(
        ConfigError, match=r"alerts\[0\].metric: cpl is of lead_conversion, and 'lead' is not in \[conversions\]"
    ):
        targets.check(marketing(conversions={"demo": {}}, alerts=[rule]))
    with pytest.raises(ConfigError, match=r"alerts\[0\].conversion: cpl .* 'lead'; there is demo"):
        targets.check(marketing(**config, alerts=[{**rule, "conversion": "lead"}]))
