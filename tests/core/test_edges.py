"""Every family at the edges of every span: of what happens on, just inside and just outside them, each sample has its literal value."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import pytest

from attribution.costs import Ledger
from attribution.facts import (
    ASSISTED,
    ATTRIBUTED_MARGIN,
    ATTRIBUTED_NET,
    CLICKS,
    CONVERSION,
    CONVERSIONS,
    EMAIL_OPENS,
    FILTERED_CLICKS,
    IMPRESSIONS,
    MARGIN_CONVERSIONS,
    NEW_CUSTOMERS,
    ORDERS,
    REFUNDS,
    REVENUE_GROSS,
    REVENUE_NET,
    TOTAL,
    TOUCH,
    UNATTRIBUTED_FOR,
    VISITS,
    Fact,
    engagement,
)
from attribution.families import FAMILIES, METRICS, PERSONS, SERIES, Row, family_name
from attribution.filing import NOBODY
from attribution.kpi import rows
from attribution.nodes.state import CostRow
from attribution.people import WINDOWS, People
from attribution.rollups import Calendar, Rollups
from attribution.windows import Sums
from models.wire import COUNTERS
from tests.core.replayed import replay
from tests.core.test_kpi_families import BASELINES, DAY_EDGES, EDGES, END, FB, MARKETING, L, P
from tests.core.test_people import EDGES as EDGES_OF_PERSONS
from tests.core.test_people import FACEBOOK, Shop, instant
from tests.reference import moment

EURO = 1_000_000

# What happens at one time: 2 clicks that a filter removes; credit of 2 purchases (4 by the touch basis) and 5 (10) leads by each model, with revenue of its own; 40 euros of media and 20 of a tool; 3 clicks, 4 visits,
# 8 impressions, an email, a like (+1), a mention (-1), an unfollow; 3 orders, one of them of nobody.
REVENUE = {
    "first_touch": 160, "last_touch": 200, "last_non_direct": 240, "first_and_last": 280, "linear": 320, "time_decay": 360,
    "position_based": 400,
}  # fmt: skip
CREDIT = {
    CONVERSION: {"purchase": 2, "lead": 5, "margin": 90, "new": 1},
    TOUCH: {"purchase": 4, "lead": 10, "margin": 150, "new": 2},
}
MORE = {CONVERSION: 0, TOUCH: 240}
COUNTS = {CLICKS: 3, FILTERED_CLICKS: 2, VISITS: 4, IMPRESSIONS: 8, EMAIL_OPENS: 1, engagement("like", "1"): 1, engagement("mention", "-1"): 1,
          engagement("unfollow"): 1, (ASSISTED, "", "purchase", ""): 1}  # fmt: skip


def facts(t: int) -> list[Fact]:
    found: list[Fact] = [(t, FB, measure, n) for measure, n in COUNTS.items()]
    for model, revenue in REVENUE.items():
        for basis, credit in CREDIT.items():
            for name, kind, n in (
                (CONVERSIONS, "purchase", credit["purchase"]), (CONVERSIONS, "lead", credit["lead"]),
                (ATTRIBUTED_NET, "purchase", revenue + MORE[basis]), (ATTRIBUTED_MARGIN, "purchase", credit["margin"]),
                (MARGIN_CONVERSIONS, "purchase", credit["purchase"]), (NEW_CUSTOMERS, "purchase", credit["new"]),
            ):  # fmt: skip
                found.append((t, FB, (name, model, kind, basis), n * EURO))
        found += [
            (t, NOBODY, (CONVERSIONS, model, "purchase", CONVERSION), EURO),
            (t, NOBODY, (ATTRIBUTED_NET, model, "purchase", CONVERSION), 30 * EURO),
        ]
    found.append((t, NOBODY, (UNATTRIBUTED_FOR, "", "purchase", "no_touch_known"), 1))
    found += [(t, TOTAL, ORDERS, 3)]
    found += [(t, TOTAL, measure, n * EURO) for measure, n in ((REVENUE_NET, 190), (REVENUE_GROSS, 230), (REFUNDS, 40))]
    return found


def costs(t: int) -> list[CostRow]:
    """In the microsecond of `t`, and known to have been nothing from then on."""
    spent = [CostRow(t, t + 1, t + 1, kind, FB, amount * EURO, 0) for kind, amount in (("media", 40), ("tool", 20))]
    return [*spent, CostRow(t + 1, END, END, "media", FB, 0, 0)] if t + 1 < END else []


# By metric; of those with a model by (basis, conversion), and of the two headline models where they differ.
LITERAL: dict[str, str | dict[tuple[str, ...], str]] = {
    "attributed_conversions": {(CONVERSION, "purchase"): "2", (CONVERSION, "lead"): "5", (TOUCH, "purchase"): "4", (TOUCH, "lead"): "10"},
    "attributed_margin": {(CONVERSION, "purchase"): "90", (TOUCH, "purchase"): "150"},
    "attributed_new_customers": {(CONVERSION, "purchase"): "1", (TOUCH, "purchase"): "2"},
    "cpa": {(CONVERSION, "purchase"): "20", (CONVERSION, "lead"): "8", (TOUCH, "purchase"): "10", (TOUCH, "lead"): "4"},
    "cpl": {(CONVERSION, "lead"): "8", (TOUCH, "lead"): "4"},
    "roi_ratio": {(CONVERSION, "purchase"): "0.5", (TOUCH, "purchase"): "1.5"},
    "cac": {(CONVERSION, "purchase"): "60", (TOUCH, "purchase"): "30"},
    "roas_ratio": {(CONVERSION, L): "6", (CONVERSION, P): "10", (TOUCH, L): "12", (TOUCH, P): "16"},
    "roi_on_revenue_ratio": {(CONVERSION, L): "3", (CONVERSION, P): "5.66666666667", (TOUCH, L): "7", (TOUCH, P): "9.66666666667"},
    "assisted_conversions": {("", "purchase"): "1", ("", "lead"): "0"},
    "cost": "60", "media_cost": "40", "cpc": "13.3333333333", "cpm": "5000",
    "filtered_clicks": "2", "counted_clicks": "3", "counted_impressions": "8",
    "touches": "19", "clicks": "3", "impressions": "8", "visits": "4", "engagements": "3", "email_opens": "1",
    "ctr_ratio": "0.375", "traffic_share_ratio": "1",
    "engagement_points": "3", "engagement_points_gained": "6", "engagement_points_lost": "3", "engagements_counted": "2",
    "engagement_rate_by_impressions_ratio": "0.25", "engagements_positive": "1", "engagements_negative": "1",
    "engagements_with_sentiment": "2", "net_sentiment_ratio": "0",
    "orders": "3", "revenue": "190", "revenue_gross": "230", "refunds": "40", "margin": "90", "margin_orders": "2", "new_customers": "1",
    "mer_ratio": "4.75", "blended_cpa": "20", "orders_per_visit_ratio": "0.75", "aov": "63.3333333333",
}  # fmt: skip
OF_NOBODY = {"attributed_conversions": "1", "attributed_revenue": "30"}
NOT_HERE = {"maturity_ratio", "projected_cpa"}
"""They need touches of weeks before: tests/core/test_kpi_families.py has them by hand."""
REPORTED = {
    "video_views", "platform_reach", "platform_conversions", "platform_value", "platform_conversions_difference", "platform_value_difference",
    "followers", "follower_growth", "engagements_per_follower_ratio",
}  # fmt: skip
"""They are there only where a network reports them."""


def literal(metric: str, of: dict[str, str]) -> str:
    model, basis, conversion = (of.get(label, "") for label in ("model", "basis", "conversion"))
    if of.get("channel") == "(unattributed)":
        return OF_NOBODY.get(metric, "0") if conversion == "purchase" else "0"
    if metric == "attributed_revenue":
        return str(REVENUE[model] + MORE[basis]) if conversion == "purchase" else "0"
    if metric == "unattributed_conversions":
        return str(int((conversion, of["reason"]) == ("purchase", "no_touch_known")))
    wanted = LITERAL[metric]
    return wanted if isinstance(wanted, str) else wanted[basis, model if (basis, model) in wanted else conversion]


def spans() -> Iterator[tuple[dict[str, str], str, str]]:
    """Labels of each span, and the first and the last microsecond that it holds."""
    for window, ends in EDGES.items():
        yield {"window": window}, *ends
    yield {"window": "campaign_to_date"}, "2025-02-04T00:00:00", "2026-03-10T23:59:59.999999"
    for (window, period), ends in BASELINES.items():
        yield {"window": window, "period": period}, *ends
    for ago, ends in DAY_EDGES.items():
        yield {"days_ago": ago}, *ends


def exported_in(span: dict[str, str]) -> set[str]:
    """The families that have samples in a span."""
    group = "baseline" if "period" in span else "day" if "days_ago" in span else ""
    letters = {"baseline": "b", "day": "d"}.get(group) or {
        "5m": "v",
        "1h": "w",
        "24h": "wl",
        "7d": "wl",
        "30d": "wl",
    }.get(span["window"], "p")
    levels = {"campaign": "n"} if span.get("window") == "campaign_to_date" else {"total": "t", "channel": "c"}
    if not group and span["window"] not in ("5m", "1h"):
        levels["campaign"] = "n"
    return {
        family_name(level, metric.name, group)
        for metric in METRICS if set(letters) & set(metric.spans) and metric.name not in NOT_HERE | REPORTED
        for level, short in levels.items() if short in metric.levels
    }  # fmt: skip


def samples(t: int, span: dict[str, str]) -> list[Row]:
    rollups = Rollups(Calendar("UTC"))
    rollups.add(facts(t), END)
    sums = Sums.of(rollups, MARKETING, END)
    keys = {"window", "period", "days_ago"}
    return [
        row
        for row in rows(sums, Ledger(costs(t), sums.own, END))
        if {label: text for label, text in row.labels if label in keys} == span
    ]


@pytest.mark.parametrize(
    ("span", "first", "last"), list(spans()), ids=lambda part: "/".join(part.values()) if isinstance(part, dict) else ""
)
def test_every_sample_on_and_beside_the_edges(span: dict[str, str], first: str, last: str) -> None:
    low, high = moment(first + "Z"), moment(last + "Z")
    for t, inside in (
        (low - 1, False),
        (low, True),
        (low + 1, True),
        (high - 1, True),
        (high, True),
        (high + 1, False),
    ):
        found = samples(t, span)
        if inside:
            there = {family for family, labels, _ in found if ("channel", "(unattributed)") not in labels}
            # After the end there is no cost yet.
            awaited = {name for name in exported_in(span) if FAMILIES[name].paid} if t >= END else set()
            assert there == exported_in(span) - awaited, t
        for family, labels, value in found:
            wanted = literal(FAMILIES[family].metric, dict(labels)) if inside else "0"
            assert f"{Decimal(value).normalize():f}" == wanted, (family, labels, t)
            assert inside or not FAMILIES[family].ratio, (family, labels, t)


# Of persons


PEOPLE: dict[str, str] = {
    "visitors": "1", "converted_visitors": "1", "conversion_rate_ratio": "1", "visitor_share_ratio": "1", "reach": "1", "frequency": "1",
    "self_reported_answers": "1", "self_reported_share_ratio": "1", "attributed_share_ratio": "1",
    "nps_answers": "1", "nps_promoters": "1", "nps_detractors": "0", "nps_points": "100", "csat_answers": "1", "csat_satisfied": "1",
    "csat_ratio": "1", "time_to_convert_seconds": "1", "touches_to_convert": "1",
    "purchases": "1", "linked_purchases": "1", "link_ratio": "1",
}  # fmt: skip


@pytest.mark.parametrize(("window", "start"), EDGES_OF_PERSONS)
def test_every_family_of_persons_on_and_beside_the_edge(window: str, start: int) -> None:
    for t, inside in ((start - 1, False), (start, True), (start + 1, True)):
        shop = Shop().visit(t).order(t)
        for question in (
            {"question": "source", **FACEBOOK},
            {"question": "nps", "score": 9},
            {"question": "csat", "score": 5},
        ):
            shop.add("touchpoints", t, "p", type="survey_response", **question)
        shop.add("touchpoints", t, "p", type="impression", **FACEBOOK)
        end = {"event_id": "z", "occurred_at": instant(END), "type": "engagement", "kind": "like"}
        run = replay([*shop.events, ("touchpoints", end)], shop.marketing)
        assert run.highest == END
        sums = Sums.of(run.rollups, shop.marketing, END)
        people, reach = People.of(run.rollups, shop.marketing), run.devices.reach(END, sums.calendar)
        found = {}
        for family, labels, value in rows(sums, Ledger([], sums.own, END), people=people, reach=reach):
            of = dict(labels)
            asked = SERIES[family].metric in PEOPLE and of["window"] == window
            asked = (
                asked and of.get("conversion", "purchase") == "purchase" and of.get("network", "facebook") == "facebook"
            )
            # Of a histogram the last bucket.
            if asked and of.get("le", "+Inf") == "+Inf" and not family.endswith(("_sum", "_count")):
                found[SERIES[family].level, SERIES[family].metric] = f"{Decimal(value).normalize():f}"
        if inside:
            levels = {(level, name) for name in PEOPLE for level in PERSONS[name].levels}
            assert found == {key: PEOPLE[key[1]] for key in levels}, t
        else:
            assert set(found.values()) <= {"0"}, t
            assert not [key for key in found if key[1].endswith(("_ratio", "_points"))], t


TOLD = {"platform_conversions": 7, "platform_value": 70 * EURO, "video_views": 9, "reach": 5, "followers": 100}
OF_REPORTS = {
    "platform_conversions": "7", "platform_value": "70", "video_views": "9", "platform_reach": "5",
    "platform_conversions_difference": "7", "platform_value_difference": "70", "followers": "100", "follower_growth": "20",
    "engagements_per_follower_ratio": "0.01",
}  # fmt: skip


@pytest.mark.parametrize(
    ("span", "first", "last"),
    [part for part in spans() if part[0].get("window") in ("24h", "7d", "30d") and "period" not in part[0]],
    ids=lambda part: "/".join(part.values()) if isinstance(part, dict) else "",
)
def test_what_is_reported_on_and_beside_the_edges(span: dict[str, str], first: str, last: str) -> None:
    low, high = moment(first + "Z"), moment(last + "Z")
    assert low < END <= high
    before = CostRow(low - 1, low, low, COUNTERS, FB, 0, 0, (("followers", 80),))
    # What is reported of the microsecond before the end is the last that has been; of the end itself nothing can be known yet.
    for t, inside in ((low - 1, False), (low, True), (low + 1, True), (END - 2, True), (END - 1, True), (END, False)):
        row = CostRow(t, t + 1, t + 1, COUNTERS, FB, 0, 0, tuple(sorted(TOLD.items())))
        rollups = Rollups(Calendar("UTC"))
        rollups.add([(END, FB, engagement("like", "1"), 1)], END)
        sums = Sums.of(rollups, MARKETING, END)
        found = {
            (FAMILIES[family].level, FAMILIES[family].metric): f"{Decimal(value).normalize():f}"
            for family, labels, value in rows(sums, Ledger([before, row], sums.own, END))
            if FAMILIES[family].metric in OF_REPORTS
            and dict(labels)["window"] == span["window"]
            and FAMILIES[family].level in ("total", "channel")
        }
        levels = {(level, metric.name) for metric in METRICS for level, short in (("total", "t"), ("channel", "c"))
                  if metric.name in OF_REPORTS and short in metric.levels}  # fmt: skip
        assert found == ({key: OF_REPORTS[key[1]] for key in levels} if inside else {}), t


def test_every_metric_has_its_literals() -> None:
    assert {*LITERAL, "attributed_revenue", "unattributed_conversions", *NOT_HERE, *REPORTED} == {
        metric.name for metric in METRICS
    }
    assert set(OF_REPORTS) == REPORTED
    windowed = {name for name, kind in PERSONS.items() if "window" in kind.labels}
    # Customers and cohorts have no window: tests/core/test_people.py has them by hand.
    assert set(PEOPLE) == windowed
    assert {name for name, _ in EDGES_OF_PERSONS} == {name for name, _, _ in WINDOWS}
