"""Each KPI family by hand: one small day of a shop in every window, level and model, and the edges of every span."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from attribution.blocks import Found
from attribution.costs import Ledger
from attribution.facts import (
    ATTRIBUTED_MARGIN,
    ATTRIBUTED_NET,
    CLICKS,
    CONVERSION,
    CONVERSIONS,
    MARGIN_CONVERSIONS,
    NEW_CUSTOMERS,
    ORDERS,
    REVENUE_NET,
    TOTAL,
    TOUCH,
    VISITS,
    Fact,
)
from attribution.families import FAMILIES, METRICS, PERSONS, Row
from attribution.kpi import Board, rows
from attribution.listing import BUDGET
from attribution.nodes.state import CostRow
from attribution.plan import most
from attribution.rollups import Calendar, Rollups
from attribution.rules import Dims
from attribution.windows import DAYS, Sums
from models.settings import DAY, HOUR, MINUTE, AlertRule, Conversion, Goal, Lookback, LookbackRule, Marketing, Spread
from tests.core.replayed import replay
from tests.reference import moment

L, P = "last_non_direct", "position_based"
MARKETING = Marketing(
    clock="event", conversions={"lead": Conversion()},
    engagement_points={"Mention": 5, "share": 3, "like": 1, "unfollow": -3},
)  # fmt: skip
PARIS = Marketing(clock="event", time_zone="Europe/Paris")
END = moment("2026-03-10T10:30:30Z")
EURO = 1_000_000
FB: Dims = ("Paid Social", "facebook", "spring")
GO: Dims = ("Paid Search", "google", "brand")
IG = ("Organic Social", "instagram")

Labels = tuple[str, ...]


def indexed(found: Iterable[Row]) -> dict[tuple[str, frozenset[tuple[str, str]]], Decimal]:
    """By family without its prefix and by labels; the currency is left out."""
    result = {}
    for family, labels, value in found:
        of = frozenset(label for label in labels if label[0] != "currency")
        assert (family, of) not in result
        assert tuple(name for name, _ in labels) == FAMILIES[family].labels
        result[family.removeprefix("parcours_"), of] = Decimal(value)
    return result


def exported(
    facts: Iterable[Fact], costs: Iterable[CostRow] = (), marketing: Marketing = MARKETING, end: int = END
) -> dict[tuple[str, frozenset[tuple[str, str]]], Decimal]:
    rollups = Rollups(Calendar(marketing.time_zone))
    rollups.add(facts, end)
    sums = Sums.of(rollups, marketing, end)
    return indexed(rows(sums, Ledger(costs, sums.own, end)))


# The day of a shop


def at(clock: str) -> str:
    return f"2026-03-{clock if 'T' in clock else '10T' + clock}Z"


def who(person: str, event_id: str, clock: str, dims: Dims | None = None, **more: Any) -> dict[str, Any]:
    named = dict(zip(("channel", "network", "campaign"), dims, strict=True)) if dims else {}
    return {"event_id": event_id, "occurred_at": at(clock), "customer_id": person} | named | more


def crowd(event_id: str, dims: tuple[str, str], **more: Any) -> dict[str, Any]:
    return {"event_id": event_id, "occurred_at": at("10:00:00"), "channel": dims[0], "network": dims[1]} | more


def spend(cost_id: str, dims: Dims, amount: int, kind: str = "media") -> dict[str, Any]:
    named = dict(zip(("channel", "network", "campaign"), dims, strict=True))
    interval = {"start": at("00:00:00"), "end": at("10:30:30")}
    return {"cost_id": cost_id, "amount": amount, "currency": "EUR", "kind": kind} | interval | named


EVENTS: list[tuple[str, dict[str, Any]]] = [
    ("clicks", who("anna", "k1", "08:00:00", FB)),
    ("touchpoints", who("anna", "v1", "09:00:00", GO, type="visit")),
    ("purchases", who("anna", "p1", "10:00:00", type="order", order_id="A", revenue=100, margin=40,
                      is_new_customer=True, currency="EUR")),
    ("clicks", who("bob", "k2", "09T12:00:00", FB)),
    ("purchases", who("bob", "p2", "10:10:00", type="order", order_id="B", revenue=60, margin=20,
                      is_new_customer=False, currency="EUR")),
    ("clicks", who("carl", "k3", "10:15:00", GO)),
    ("touchpoints", who("carl", "s1", "10:20:00", type="stage", stage="lead")),
    ("purchases", who("eve", "p3", "10:25:00", type="order", order_id="C", revenue=40, currency="EUR")),
    *(("touchpoints", crowd(f"i{i}", FB[:2], type="impression", campaign=FB[2])) for i in range(4)),
    *(("touchpoints", crowd(f"j{i}", IG, type="impression")) for i in range(8)),
    ("touchpoints", crowd("e1", IG, type="engagement", kind="like", sentiment=1)),
    ("touchpoints", crowd("e2", IG, type="engagement", kind="mention", sentiment=-1)),
    ("touchpoints", crowd("e3", IG, type="engagement", kind="share", sentiment=0)),
    ("touchpoints", crowd("e4", IG, type="engagement", kind="unfollow")),
    ("touchpoints", crowd("e5", IG, type="engagement", kind="wave")),
    ("touchpoints", who("fay", "m1", "10:05:00", ("Email", "letter", "news"), type="email_open")),
    ("costs", spend("c1", FB, 30)),
    ("costs", spend("c2", GO, 10)),
    ("costs", spend("c3", FB, 20, "agency")),
    ("touchpoints", who("dan", "v9", "10:30:30", type="visit")),
]  # fmt: skip

F, G = FB[:2], GO[:2]
D, I, M = ("Direct", "(none)"), IG, ("Email", "letter")  # noqa: E741
U = ("(unattributed)", "(none)")
T: Labels = ()
# Attributed sums and ratios by name: (conversions, revenue, margin, new, cpa, roas, ROI on revenue, ROI, CAC). Orders: A is anna's (touches
# facebook, google), B bob's (facebook), C eve's, of no touch and no known margin. Cost: facebook 50 (30 media), google 10, in all 60 (40).
CREDIT: dict[tuple[str, Labels], tuple[str | None, ...]] = {
    # last_non_direct: A to google, B to facebook. 30/1, 60/30, (60-50)/50, (20-50)/50.
    (L, F): ("1", "60", "20", "0", "30", "2", "0.2", "-0.6", None),
    (L, G): ("1", "100", "40", "1", "10", "10", "9", "3", "10"),
    # In all: 40/2, 160/40, (160-60)/60, (60-60)/60, 60/1.
    (L, T): ("2", "160", "60", "1", "20", "4", "1.66666666667", "0", "60"),
    # position_based: A half to each. 30/1.5, 110/30, (110-50)/50, (40-50)/50, 50/0.5.
    (P, F): ("1.5", "110", "40", "0.5", "20", "3.66666666667", "1.2", "-0.2", "100"),
    (P, G): ("0.5", "50", "20", "0.5", "20", "5", "4", "1", "20"),
    (P, T): ("2", "160", "60", "1", "20", "4", "1.66666666667", "0", "60"),
    (L, U): ("1", "40", "0", "0", None, None, None, None, None),
    (P, U): ("1", "40", "0", "0", None, None, None, None, None),
    # Models that are no headline have sums only.
    ("first_touch", F): ("2", "160", "60", "1", None, None, None, None, None),
    ("first_touch", G): ("0", "0", "0", "0", None, None, None, None, None),
    ("last_touch", G): ("1", "100", "40", "1", None, None, None, None, None),
    ("first_and_last", F): ("1.5", "110", "40", "0.5", None, None, None, None, None),
    ("linear", G): ("0.5", "50", "20", "0.5", None, None, None, None, None),
    # Touches an hour apart, half-life 7 d: w 2^(-1/168) : 1. Micro 498968.53, 501031.47: the unit to .53; revenue 49896853.3,
    # 50103146.7: to .7; margin over the credits, 19958741.2, 20041258.8: to .8.
    ("time_decay", G): ("0.501031", "50.103147", "20.041259", "0.501031", None, None, None, None, None),
}  # fmt: skip
CREDIT_NAMES = (
    "attributed_conversions", "attributed_revenue", "attributed_margin", "attributed_new_customers",
    "cpa", "roas_ratio", "roi_on_revenue_ratio", "roi_ratio", "cac",
)  # fmt: skip
# What has no model. Clicks: k1, k2 (the day before), k3. Visits: v1 and v9. Impressions: 4 and 8.
PLAIN: dict[str, dict[Labels, str]] = {
    "cost": {T: "60", F: "50", G: "10"},
    "media_cost": {T: "40", F: "30", G: "10"},
    "cpc": {T: "13.3333333333", F: "15", G: "10"},
    "cpm": {T: "3333.33333333", F: "7500"},
    # 3 clicks, 2 visits, 12 impressions, 5 engagements, an email.
    "touches": {T: "23", F: "6", G: "2", I: "13", D: "1", M: "1"},
    "clicks": {T: "3", F: "2", G: "1", I: "0", D: "0", M: "0"},
    "impressions": {T: "12", F: "4", G: "0", I: "8", D: "0", M: "0"},
    "visits": {T: "2", F: "0", G: "1", I: "0", D: "1", M: "0"},
    "engagements": {T: "5", F: "0", G: "0", I: "5", D: "0", M: "0"},
    "email_opens": {T: "1", F: "0", G: "0", I: "0", D: "0", M: "1"},
    "ctr_ratio": {T: "0.25", F: "0.5", I: "0"},
    "traffic_share_ratio": {F: "0", G: "0.5", I: "0", D: "0.5", M: "0"},
    # Like 1, mention 5, share 3: 9 gained; unfollow 3 lost; a wave is worth nothing.
    "engagement_points": {T: "6", F: "0", G: "0", I: "6", D: "0", M: "0"},
    "engagement_points_gained": {T: "9", F: "0", G: "0", I: "9", D: "0", M: "0"},
    "engagement_points_lost": {T: "3", F: "0", G: "0", I: "3", D: "0", M: "0"},
    "engagements_counted": {T: "3", F: "0", G: "0", I: "3", D: "0", M: "0"},
    "engagement_rate_by_impressions_ratio": {T: "0.25", F: "0", I: "0.375"},
    "engagements_positive": {T: "1", F: "0", G: "0", I: "1", D: "0", M: "0"},
    "engagements_negative": {T: "1", F: "0", G: "0", I: "1", D: "0", M: "0"},
    "engagements_with_sentiment": {T: "3", F: "0", G: "0", I: "3", D: "0", M: "0"},
    "net_sentiment_ratio": {T: "0", I: "0"},
    # All three orders; 200/40, 60/3, 200/3, 3/2. Margin and newness of C are not known.
    "orders": {T: "3"},
    "revenue": {T: "200"},
    "revenue_gross": {T: "200"},
    "refunds": {T: "0"},
    "margin": {T: "60"},
    "margin_orders": {T: "2"},
    "new_customers": {T: "1"},
    "mer_ratio": {T: "5"},
    "blended_cpa": {T: "20"},
    "orders_per_visit_ratio": {T: "1.5"},
    "aov": {T: "66.6666666667"},
}
ROLLING, PERIODS = ("24h", "7d", "30d"), ("month_to_date", "365d")
EMPTY_OF_METRICS = {metric.name: metric for metric in METRICS}


@pytest.fixture(scope="module")
def day() -> dict[tuple[str, frozenset[tuple[str, str]]], Decimal]:
    run = replay(EVENTS, MARKETING)
    assert run.highest == END
    sums = Sums.of(run.rollups, MARKETING, END)
    return indexed(rows(sums, Ledger((row for _, row in run.costs()), sums.own, END)))


def level_of(names: Labels) -> str:
    return ("total", "", "channel", "campaign")[len(names)]


def named(names: Labels) -> dict[str, str]:
    return dict(zip(("channel", "network", "campaign"), names, strict=False))


def value(
    found: dict[tuple[str, frozenset[tuple[str, str]]], Decimal], metric: str, names: Labels, **labels: str
) -> str | None:
    got = found.get((f"{level_of(names)}_{metric}", frozenset({**named(names), **labels}.items())))
    return None if got is None else f"{got.normalize():f}"


def places(names: Labels) -> list[Labels]:
    """A channel, and the only campaign it has here."""
    campaign = {F: FB, G: GO}.get(names)  # type: ignore[call-overload]
    return [names, campaign] if campaign else [names]


@pytest.mark.parametrize("window", [*ROLLING, *PERIODS])
@pytest.mark.parametrize(
    ("model", "names"), CREDIT, ids=lambda part: "/".join(part) if isinstance(part, tuple) else part
)
def test_credit_and_its_ratios(day: Any, window: str, model: str, names: Labels) -> None:
    expected = CREDIT[model, names]
    period = window in PERIODS
    for basis in (CONVERSION, TOUCH):
        for place in places(names):
            for metric, wanted in zip(CREDIT_NAMES, expected, strict=True):
                labels = {"model": model, "basis": basis, "conversion": "purchase", "window": window}
                there = (
                    (not period or model == L)
                    and (len(place) < 3 or model in (L, P))
                    and (basis == CONVERSION or (window in ("7d", "30d") and len(place) < 3 and place != U))
                )
                assert value(day, metric, place, **labels) == (wanted if there else None), (metric, place, basis)


def test_every_model_has_its_sums(day: Any) -> None:
    for model in MARKETING.models:
        for window in ("1h", *ROLLING):
            labels = {"model": model, "basis": CONVERSION, "conversion": "purchase", "window": window}
            sums = [value(day, name, T, **labels) for name in CREDIT_NAMES[:4]]
            assert sums == ["2", "160", "60", "1"], (model, window)


@pytest.mark.parametrize("window", [*ROLLING, *PERIODS])
@pytest.mark.parametrize("metric", PLAIN)
def test_what_has_no_model(day: Any, window: str, metric: str) -> None:
    spans = EMPTY_OF_METRICS[metric].spans
    exported_here = "w" in spans if window in ROLLING else "p" in spans
    for names in (T, F, G, D, I, M):
        if level_of(names)[0] not in EMPTY_OF_METRICS[metric].levels:
            continue
        wanted = PLAIN[metric].get(names) if exported_here else None
        assert value(day, metric, names, window=window) == wanted, names
        for campaign in places(names)[1:]:
            there = "n" in EMPTY_OF_METRICS[metric].levels
            assert value(day, metric, campaign, window=window) == (wanted if there else None), campaign


def test_the_last_five_minutes_have_volumes_only(day: Any) -> None:
    assert value(day, "visits", T, window="5m") == "1"
    assert value(day, "orders", T, window="5m") == "1"
    assert value(day, "clicks", T, window="5m") == "0"
    shown = {family for family, labels in day if ("window", "5m") in labels}
    volumes = {"touches", "clicks", "impressions", "visits", "engagements", "email_opens"}
    assert shown == {f"{level}_{name}" for level in ("total", "channel") for name in volumes} | {"total_orders"}


def test_today_begins_at_midnight_and_yesterday_ends_there(day: Any) -> None:
    assert [value(day, "clicks", F, window=window) for window in ("24h", "today", "yesterday")] == ["2", "1", "1"]
    assert [value(day, "clicks", FB, window=window) for window in ("today", "yesterday", "campaign_to_date")] == [
        "1",
        "1",
        "2",
    ]
    assert value(day, "clicks", F, window="campaign_to_date") is None
    assert value(day, "orders", T, window="yesterday") == "0"


def test_leads_are_conversions_of_the_configured_type(day: Any) -> None:
    lead = {"model": L, "basis": CONVERSION, "conversion": "lead", "window": "24h"}
    assert value(day, "attributed_conversions", G, **lead) == "1"
    assert value(day, "attributed_conversions", F, **lead) == "0"
    assert [value(day, "cpl", place, **lead) for place in (T, G, GO, F)] == ["40", "10", "10", None]
    assert value(day, "cpa", G, **lead) == "10"
    assert value(day, "cpl", G, **{**lead, "conversion": "purchase"}) is None


def test_assisted_conversions_are_those_that_last_touch_gives_elsewhere(day: Any) -> None:
    def assisted(names: Labels, conversion: str = "purchase") -> str | None:
        return value(day, "assisted_conversions", names, conversion=conversion, window="24h")

    assert [assisted(names) for names in (F, G, D)] == ["1", "0", "0"]
    assert [assisted(names, "lead") for names in (F, G)] == ["0", "0"]


def test_assists_count_each_conversion_once_per_channel() -> None:
    touches = [who("anna", f"k{i}", f"0{i}:00:00", dims) for i, dims in enumerate((FB, FB, GO, FB, (*IG, "x")))]
    events = [("clicks", touch) for touch in touches]
    events.append(("purchases", who("anna", "p", "09:00:00", type="order", order_id="A", revenue=1, currency="EUR")))
    run = replay(events, MARKETING)
    sums = Sums.of(run.rollups, MARKETING, run.highest)
    found = indexed(rows(sums, Ledger((), sums.own, run.highest)))
    labels = {"conversion": "purchase", "window": "24h"}
    assert [value(found, "assisted_conversions", names, **labels) for names in (F, G, I)] == ["1", "1", "0"]


# tests/core/test_reported.py
REPORTED = {
    "counted_clicks", "counted_impressions", "video_views", "platform_reach", "platform_conversions", "platform_value",
    "platform_conversions_difference", "platform_value_difference", "followers", "follower_growth", "engagements_per_follower_ratio",
    "filtered_clicks",
}  # fmt: skip


def test_every_metric_has_an_expectation_here() -> None:
    here = {*CREDIT_NAMES, *PLAIN, "cpl", "assisted_conversions", "projected_cpa", "maturity_ratio"}
    here.add("unattributed_conversions")  # tests/core/test_unattributed.py
    here |= REPORTED
    assert set(EMPTY_OF_METRICS) == here


@pytest.mark.parametrize("sentiment", [None, -1, 0, 1])
def test_a_kind_stays_itself_whatever_its_sentiment(sentiment: int | None) -> None:
    """The window of a rule for a kind holds for it with a sentiment too; a kind that looks like one with a sentiment is none."""
    rule = LookbackRule(window="1h", kind="mention")
    marketing = Marketing(clock="event", lookback=Lookback(rules=(rule,)), engagement_points={"mention": 5})
    body = who("anna", "e1", "08:00:00", (*IG, "x"), type="engagement", kind="mention")
    if sentiment is not None:
        body["sentiment"] = sentiment
    odd = who("bob", "e2", "08:00:00", (*IG, "x"), type="engagement", kind="mention\x1f1")
    order = who("anna", "p1", "09:30:00", type="order", order_id="A", revenue=1, currency="EUR")
    run = replay([("touchpoints", body), ("touchpoints", odd), ("purchases", order)], marketing)
    assert [one.reason for one in run.attributions()] == ["outside_window"]
    sums = Sums.of(run.rollups, marketing, run.highest)
    found = indexed(rows(sums, Ledger((), sums.own, run.highest)))
    assert value(found, "engagement_points", I, window="24h") == "5"
    assert value(found, "engagements", I, window="24h") == "2"
    assert value(found, "engagements_with_sentiment", I, window="24h") == ("0" if sentiment is None else "1")


# The edges of spans: the first and the last microsecond that they hold. tests/core/test_edges.py has every family there


EDGES = {
    "5m": ("2026-03-10T10:25:00", "2026-03-10T10:30:59.999999"),
    "1h": ("2026-03-10T09:30:00", "2026-03-10T10:30:59.999999"),
    "24h": ("2026-03-09T10:00:00", "2026-03-10T10:59:59.999999"),
    "7d": ("2026-03-03T10:00:00", "2026-03-10T10:59:59.999999"),
    "30d": ("2026-02-08T00:00:00", "2026-03-10T23:59:59.999999"),
    "today": ("2026-03-10T00:00:00", "2026-03-10T23:59:59.999999"),
    "yesterday": ("2026-03-09T00:00:00", "2026-03-09T23:59:59.999999"),
    "month_to_date": ("2026-03-01T00:00:00", "2026-03-10T23:59:59.999999"),
    "last_month": ("2026-02-01T00:00:00", "2026-02-28T23:59:59.999999"),
    "365d": ("2025-03-10T00:00:00", "2026-03-10T23:59:59.999999"),
}
IN_PARIS = {
    "30d": ("2026-02-07T23:00:00", "2026-03-10T22:59:59.999999"),
    "today": ("2026-03-09T23:00:00", "2026-03-10T22:59:59.999999"),
    "yesterday": ("2026-03-08T23:00:00", "2026-03-09T22:59:59.999999"),
    "month_to_date": ("2026-02-28T23:00:00", "2026-03-10T22:59:59.999999"),
    "last_month": ("2026-01-31T23:00:00", "2026-02-28T22:59:59.999999"),
    "365d": ("2025-03-09T23:00:00", "2026-03-10T22:59:59.999999"),
}
BASELINES = {
    ("24h", "previous"): ("2026-03-08T10:00:00", "2026-03-09T09:59:59.999999"),
    ("24h", "week_earlier"): ("2026-03-02T10:00:00", "2026-03-03T09:59:59.999999"),
    ("7d", "previous"): ("2026-02-24T10:00:00", "2026-03-03T09:59:59.999999"),
    ("7d", "week_earlier"): ("2026-02-24T10:00:00", "2026-03-03T09:59:59.999999"),
    ("7d", "364_days_earlier"): ("2025-03-04T00:00:00", "2025-03-10T23:59:59.999999"),
    ("30d", "previous"): ("2026-01-09T00:00:00", "2026-02-07T23:59:59.999999"),
    ("30d", "week_earlier"): ("2026-02-01T00:00:00", "2026-03-02T23:59:59.999999"),
    ("30d", "364_days_earlier"): ("2025-02-09T00:00:00", "2025-03-10T23:59:59.999999"),
}
DAY_EDGES = {
    "0": ("2026-03-10T00:00:00", "2026-03-10T23:59:59.999999"),
    "1": ("2026-03-09T00:00:00", "2026-03-09T23:59:59.999999"),
    "34": ("2026-02-04T00:00:00", "2026-02-04T23:59:59.999999"),
}


def seen(metric: str, t: int, marketing: Marketing = MARKETING, **labels: str) -> list[str | None]:
    """One visit at `t`, with one click and one conversion, as all levels that have the metric count it; beside others that keep each name listed."""
    facts: list[Fact] = []
    for when in (t, END):
        facts += [(when, FB, measure, 1) for measure in (VISITS, CLICKS)]
        facts += [(when, FB, (CONVERSIONS, L, "purchase", CONVERSION), EURO), (when, TOTAL, ORDERS, 1)]
    facts += [(END, FB, measure, -1) for measure in (VISITS, CLICKS)]
    facts += [(END, FB, (CONVERSIONS, L, "purchase", CONVERSION), -EURO), (END, TOTAL, ORDERS, -1)]
    found = exported(facts, marketing=marketing)
    start = "day_" if "days_ago" in labels else ""
    end = "_baseline" if "period" in labels else ""
    about = EMPTY_OF_METRICS[metric]
    if about.models:
        labels |= {"model": L, "basis": CONVERSION, "conversion": "purchase"}
    return [
        None if got is None else f"{got.normalize():f}"
        for names in (T, F, FB)
        if f"parcours_{start}{level_of(names)}_{metric}{end}" in FAMILIES
        for got in [
            found.get((f"{start}{level_of(names)}_{metric}{end}", frozenset({**named(names), **labels}.items())))
        ]
    ]


def edges(first: str, last: str) -> list[tuple[int, bool]]:
    low, high = moment(first + "Z"), moment(last + "Z")
    return [(low - 1, False), (low, True), (low + 1, True), (high, True), (high + 1, False)]


@pytest.mark.parametrize(
    ("marketing", "window", "first", "last"),
    [(MARKETING, name, *ends) for name, ends in EDGES.items()] + [(PARIS, name, *ends) for name, ends in IN_PARIS.items()],
    ids=lambda part: part if isinstance(part, str) else "",
)  # fmt: skip
def test_a_window_holds_what_lies_between_its_edges(marketing: Marketing, window: str, first: str, last: str) -> None:
    metrics = ["visits", "clicks", "orders"] + ["attributed_conversions"] * (window != "5m")
    for t, inside in edges(first, last):
        for metric in metrics:
            got = {count for count in seen(metric, t, marketing, window=window) if count is not None}
            # A name with nothing in a window is not listed in it; in all there is always a row.
            assert got == ({"1"} if inside else {"0"}), (metric, t - moment(first + "Z"))


def test_campaign_to_date_is_what_is_kept() -> None:
    # 400 days before the end is within 2025-02-03: the first day that is kept whole is the next.
    for t, inside in edges("2025-02-04T00:00:00", "2026-03-10T23:59:59.999999"):
        assert seen("clicks", t, window="campaign_to_date") == [None, None, "1" if inside else None]


def test_there_are_35_days() -> None:
    found = exported([(END - ago * DAY, FB, VISITS, 1) for ago in range(60)])
    days = {dict(labels)["days_ago"] for family, labels in found if family == "day_channel_visits"}
    assert days == {str(ago) for ago in range(35)}
    assert DAYS == 35


def test_a_day_whose_cost_is_not_known_to_its_end_has_no_ratio() -> None:
    at_11 = moment("2026-03-09T11:00:00Z")
    facts: list[Fact] = [(at_11, FB, (CONVERSIONS, L, "purchase", CONVERSION), 2 * EURO)]
    reports = [("2026-03-09T00:00:00Z", "2026-03-10T00:00:00Z"), ("2026-03-09T00:00:00Z", "2026-03-09T23:59:59Z")]
    cpas = []
    for start, end in reports:
        row = CostRow(moment(start), moment(end), moment(end), "media", FB, 40 * EURO, 0)
        found = exported(facts, [row])
        labels = {"model": L, "basis": CONVERSION, "conversion": "purchase", "days_ago": "1"}
        cpas.append(found.get(("day_total_cpa", frozenset(labels.items()))))
        assert found["day_total_cost", frozenset({("days_ago", "1")})] == 40
    assert cpas == [20, None]


@pytest.mark.parametrize("days", [0, 5, 200])
def test_a_late_touch_moves_costs_that_are_spread_by_touches(days: int) -> None:
    marketing = Marketing(clock="event", spread=Spread(by="touches"))
    midnight = END - END % DAY - days * DAY
    rows_ = [CostRow(midnight, midnight + DAY, midnight, "tool", ("(unallocated)", "(none)", "(none)"), 96 * EURO, 0)]
    sums = Sums(marketing, END)
    board, ledger = Board(sums), Ledger(rows_, sums.own, END, spread=sums.spread())

    def cost(names: Labels) -> str | None:
        return value(indexed(Found.of(board.blocks(ledger)).rows), "cost", names, window="365d")

    # Of the running day, 10 h 30 min 30 s of 24 h at 4 an hour have accrued.
    whole, half = ("96", "48") if days else ("42.033333", "21.016666")
    sums.add(("d", midnight), FB, {CLICKS: 1})
    assert cost(F) == whole
    sums.add(("d", midnight), GO, {CLICKS: 1})
    assert cost(F) in (half, "21.016667")
    assert cost(T) == whole


# Margin


@pytest.mark.parametrize(("known", "roi"), [(19_000_000, "0.5"), (18_999_999, None)])
def test_a_return_on_margin_needs_95_percent_of_margins(known: int, roi: str | None) -> None:
    t = END - HOUR
    amounts = {CONVERSIONS: 20_000_000, MARGIN_CONVERSIONS: known, ATTRIBUTED_MARGIN: 90 * EURO, NEW_CUSTOMERS: 0}
    facts: list[Fact] = [(t, FB, (name, L, "purchase", CONVERSION), amount) for name, amount in amounts.items()]
    row = CostRow(END - 2 * DAY, END, END, "media", FB, 120 * EURO, 0)
    found = exported(facts, [row._replace(start=END - 2 * HOUR, amount=60 * EURO)])
    labels = {"model": L, "basis": CONVERSION, "conversion": "purchase", "window": "24h"}
    assert value(found, "roi_ratio", T, **labels) == value(found, "roi_ratio", FB, **labels) == roi
    assert value(found, "attributed_margin", T, **labels) == "90"


# Maturity


def arrived(day: int, hours: int, amount: int = EURO) -> Fact:
    """Credit that came `hours` after a touch of `day` days before the end."""
    name = f"credit_age/h{hours}" if hours < 24 else f"credit_age/d{hours // 24}"
    return END - day * DAY, FB, (name, L, "purchase", TOUCH), amount


def test_maturity_weighs_cost_by_how_much_of_its_credit_has_come() -> None:
    # Of old touches half the credit came in the first hour, the rest on the tenth day. The 30 d of the window: 300 spent on one
    # day 20 days ago (all has come), 100 on one 5 days ago (half has).
    facts = [arrived(40, 0), arrived(60, 10 * 24), (END - 5 * DAY, FB, (CONVERSIONS, L, "purchase", TOUCH), 4 * EURO)]
    midnight = END - END % DAY
    costs = [
        CostRow(midnight - ago * DAY, midnight - ago * DAY + DAY, midnight, "media", FB, amount * EURO, 0)
        for ago, amount in ((20, 300), (5, 100))
    ]
    costs.append(CostRow(midnight, END, END, "media", FB, 0, 0))
    costs.append(CostRow(midnight - 4 * DAY, midnight, midnight, "media", FB, 0, 0))
    costs.append(CostRow(midnight - 19 * DAY, midnight - 5 * DAY, midnight, "media", FB, 0, 0))
    found = exported(facts, costs)
    labels = {"model": L, "basis": TOUCH, "conversion": "purchase"}
    for names in (T, F):
        # (300 + 100/2) / 400, and 5 days ago alone.
        assert value(found, "maturity_ratio", names, **labels, window="30d") == "0.875"
        assert value(found, "maturity_ratio", names, **labels, window="7d") == "0.5"
        # CPA 400/4 and 100/4 of the touch basis.
        assert value(found, "cpa", names, **labels, window="30d") == "100"
        assert value(found, "projected_cpa", names, **labels, window="30d") == "87.5"
        assert value(found, "projected_cpa", names, **labels, window="7d") == "12.5"


def test_only_touches_older_than_the_longest_window_say_how_credit_comes() -> None:
    midnight = END - END % DAY
    row = CostRow(midnight - 2 * DAY, midnight, midnight, "media", FB, 100 * EURO, 0)
    labels = {"model": L, "basis": TOUCH, "conversion": "purchase", "window": "7d"}
    # 30 days (the longest window) before the end is within a day: touches of that day may still earn.
    assert value(exported([arrived(30, 0)], [row]), "maturity_ratio", T, **labels) is None
    assert value(exported([arrived(31, 0)], [row]), "maturity_ratio", T, **labels) == "1"
    assert value(exported([arrived(30, 0), arrived(31, 240)], [row]), "maturity_ratio", T, **labels) == "0"
    assert value(exported([arrived(31, 0)], []), "maturity_ratio", T, **labels) is None


def test_a_day_s_cost_is_as_old_as_its_middle_is_to_the_last_full_hour() -> None:
    midnight = END - END % DAY
    row = CostRow(midnight - 2 * DAY, midnight - DAY, midnight, "media", FB, 100 * EURO, 0)
    rest = CostRow(midnight - DAY, END, END, "media", FB, 0, 0)
    labels = {"model": L, "basis": TOUCH, "conversion": "purchase", "window": "7d"}
    # Noon of the 8th is 46 hours before 10:00 of the 10th; of credit that comes evenly from 24 to 48 hours, 22/24 has come.
    assert value(exported([arrived(40, 24, 24 * EURO)], [row, rest]), "maturity_ratio", T, **labels) == "0.916666666667"


def test_the_fold_files_how_old_credit_was() -> None:
    events = [
        ("clicks", who("anna", "k1", "01T12:00:00", FB)),
        ("purchases", who("anna", "p1", "01T12:59:59", type="order", order_id="A", revenue=1, currency="EUR")),
        ("clicks", who("bob", "k2", "02T12:00:00", FB)),
        ("purchases", who("bob", "p2", "04T12:00:00", type="order", order_id="B", revenue=1, currency="EUR")),
    ]
    run = replay(events, MARKETING)
    ages = {
        (granularity, start, *measure[:3]): amount
        for (granularity, start), cells in run.rollups.buckets.items()
        for cell in cells.values()
        for measure, amount in cell.items()
        if measure[0].startswith("credit_age/")
    }
    assert ages == {
        ("d", moment(at("01T00:00:00")), "credit_age/h0", L, "purchase"): EURO,
        ("d", moment(at("02T00:00:00")), "credit_age/d2", L, "purchase"): EURO,
    }


# The budget


def test_12_channels_and_100_campaigns_fit_with_all_the_models_there_will_be() -> None:
    series = most(Marketing(conversions={"lead": Conversion()}), 12, 100)
    assert set(series) == set(FAMILIES)
    # Data-driven and stage-based models add sums by channel and in all: 4 more of them.
    more = 4 * 6 * (13 * 6 + 4)
    assert 30_000 < sum(series.values()) + more <= 37_000 < BUDGET


def test_the_count_is_what_a_full_shop_exports() -> None:
    names = [(f"channel {i % 3}", f"network {i % 3}", f"campaign {i}") for i in range(6)]
    everything = [CONVERSIONS, ATTRIBUTED_NET, ATTRIBUTED_MARGIN, MARGIN_CONVERSIONS, NEW_CUSTOMERS]
    facts: list[Fact] = []
    costs = []
    times = [
        END,
        END - 2 * MINUTE,
        *(END - ago * HOUR for ago in range(1, 360, 5)),
        *(END - ago * DAY for ago in range(400)),
    ]
    marketing = Marketing(clock="event")
    for dims in [*names, ("(unattributed)", "(none)", "(none)")]:
        for t in times:
            facts += [(t, dims, (name, model, "purchase", basis), EURO) for name in everything for model in (L, P)
                      for basis in (CONVERSION, TOUCH)]  # fmt: skip
            if dims in names:
                facts += [(t, dims, measure, 1) for measure in (CLICKS, VISITS, ("impressions", "", "", ""))]
                facts.append((t, dims, ("engagements", "", "like", "1"), 1))
    facts += [(t, TOTAL, measure, 1) for t in times for measure in (ORDERS, REVENUE_NET)]
    facts += [(END - 40 * DAY, names[0], ("credit_age/h0", L, "purchase", TOUCH), EURO)]
    told = [
        ("followers", 5),
        ("platform_conversions", 9_000),
        ("platform_value", 10**12),
        ("reach", 7),
        ("video_views", 9_000),
    ]
    costs = [CostRow(END - 399 * DAY, END, END, "media", dims, 10**9, 0) for dims in names]
    costs += [
        CostRow(END - ago * DAY, END - ago * DAY + HOUR, END, "counters", dims, 0, 0, tuple(told))
        for dims in names
        for ago in (1, 45)
    ]
    found = exported(facts, costs, marketing)
    counted: dict[str, int] = {}
    for family, _ in found:
        counted[f"parcours_{family}"] = counted.get(f"parcours_{family}", 0) + 1
    persons = {name for name, family in FAMILIES.items() if family.metric in PERSONS}
    assert counted == {name: n for name, n in most(marketing, 3, 6).items() if name not in persons}


# What is folded


def crowded(marketing: Marketing, budget: int, channels: int, campaigns: int, spend: int = 0) -> Board:
    """A board over channels of falling conversions, each with so many campaigns, and Direct, which has visits alone."""
    facts: list[Fact] = [(END, ("Direct", "(none)", "(none)"), VISITS, 1)]
    costs = []
    for i in range(channels):
        for j in range(campaigns):
            dims = (f"channel {i:02}", "x", f"campaign {j}")
            facts.append((END, dims, (CONVERSIONS, L, "purchase", CONVERSION), (100 - i) * EURO))
            if i < spend:
                costs.append(CostRow(END - DAY, END, END, "media", dims, (100 - j) * EURO, 0))
    rollups = Rollups(Calendar("UTC"))
    rollups.add(facts, END)
    sums = Sums.of(rollups, marketing, END)
    board = Board(sums, budget)
    board.found = Found.of(board.blocks(Ledger(costs, sums.own, END)))  # type: ignore[attr-defined]
    return board


def names_of(board: Board, level: str) -> set[Labels]:
    return {
        tuple(text for label, text in row.labels if label in ("channel", "network", "campaign"))
        for row in board.found.rows  # type: ignore[attr-defined]
        if row.family.startswith(f"parcours_{level}_")
    }


def test_channels_come_before_campaigns_and_one_without_cost_needs_less() -> None:
    """40 channels, half of them paid, with 400 campaigns: every channel keeps its own rows, Direct too."""
    marketing = Marketing(clock="event", conversions={"lead": Conversion()})
    board = crowded(marketing, BUDGET, 39, 10, spend=18)
    channels, campaigns = names_of(board, "channel"), names_of(board, "campaign")
    assert len(channels) == 40
    assert ("Direct", "(none)") in channels
    assert board.folded["channel"] == 0
    shown = {dims for dims in campaigns if dims[2] != "(other)"}
    # 39 times 10, and Direct's own.
    assert board.folded["campaign"] == 391 - len(shown) > 0
    assert len(board.found.rows) <= BUDGET  # type: ignore[attr-defined]


def test_what_an_alert_or_a_goal_names_comes_before_what_was_spent() -> None:
    last = {"channel": "channel 38", "campaign": "campaign 9"}
    plain = {"name": "a", "metric": "cpa", "threshold": Decimal(9)}
    watched = [
        Marketing(clock="event", alerts=(AlertRule(**plain, **last), AlertRule(**plain | {"name": "b"}, network="y*"))),  # type: ignore[arg-type]
        Marketing(clock="event", goals=(Goal(name="g", metric="clicks", target=Decimal(9), start=date(2026, 3, 1), deadline=date(2026, 4, 1), **last),)),  # type: ignore[arg-type]
    ]  # fmt: skip
    dims = ("channel 38", "x", "campaign 9")
    assert dims not in names_of(crowded(Marketing(clock="event"), BUDGET, 39, 10, spend=18), "campaign")
    for marketing in watched:
        assert dims in names_of(crowded(marketing, BUDGET, 39, 10, spend=18), "campaign")
    # Of a budget for a few channels, the one that is named has its row.
    small, pair = 12_000, ("channel 38", "x")
    assert pair not in names_of(crowded(Marketing(clock="event"), small, 39, 1), "channel")
    by_channel = Marketing(clock="event", alerts=(AlertRule(**plain, channel="Channel 38"),))  # type: ignore[arg-type]
    board = crowded(by_channel, small, 39, 1)
    assert pair in names_of(board, "channel")
    assert board.folded["channel"] > 0
    assert ("(other)", "(other)") in names_of(board, "channel")
