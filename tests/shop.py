"""A small history that gives every family of `attribution.families` a sample: the day of `tests.core.test_kpi_families`, and what came before it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from attribution.families import SERIES
from models.settings import Conversion, Marketing, Topics
from tests.core.test_kpi_families import EVENTS as DAY_OF_A_SHOP
from tests.core.test_kpi_families import FB, spend, who

MARKETING = Marketing(
    clock="event", conversions={"lead": Conversion()}, engagement_points={"mention": 5, "share": 3, "like": 1, "unfollow": -3},
    topics=Topics(clicks=1, touchpoints=1, purchases=1, costs=1, journey_events=2),
)  # fmt: skip
Event = tuple[str, dict[str, Any]]


def order(person: str, order_id: str, at: str, revenue: int) -> Event:
    body = {"type": "order", "event_id": order_id, "order_id": order_id, "revenue": revenue, "currency": "EUR"}
    return "purchases", body | {"occurred_at": at, "customer_id": person, "source": "web"}


def click(person: str, at: str) -> Event:
    named = dict(zip(("channel", "network", "campaign"), FB, strict=True))
    return "clicks", {"event_id": f"k{person}{at}", "occurred_at": at, "customer_id": person} | named


def report(cost_id: str, day: str, following: str, **figures: Any) -> Event:
    named = dict(zip(("channel", "network", "campaign"), FB, strict=True))
    body = {"cost_id": cost_id, "start": f"{day}T00:00:00Z", "end": f"{following}T00:00:00Z", "currency": "EUR"}
    return "costs", body | named | figures


EVENTS: list[Event] = [
    # What a network says of itself.
    report("r1", "2026-02-01", "2026-02-02", followers=900),
    report(
        "r2", "2026-03-09", "2026-03-10", followers=950, reach=40, video_views=70, platform_conversions=5, platform_value=400
    ),
    # A customer of over a year ago, who came back and spoke of it: the curve of a year.
    click("olga", "2025-01-15T10:00:00Z"),
    order("olga", "O1", "2025-01-15T12:00:00Z", 50),
    ("touchpoints", who("olga", "o-share", "02T10:00:00", (*FB[:2], "x"), type="engagement", kind="share")),
    order("olga", "O2", "2026-03-02T12:00:00Z", 25),
    # One of three months ago: what is to be expected of it. Touches older than 30 days, by which maturity is measured.
    click("nils", "2025-12-10T10:00:00Z"),
    order("nils", "N1", "2025-12-12T12:00:00Z", 40),
    # The day before: baselines and days.
    click("gus", "2026-03-09T05:00:00Z"),
    ("touchpoints", who("gus", "g-visit", "09T04:30:00", ("Email", "letter", "news"), type="visit")),
    order("gus", "G1", "2026-03-09T06:00:00Z", 70),
    ("costs", {**spend("c0", FB, 24), "start": "2026-03-09T00:00:00Z", "end": "2026-03-10T00:00:00Z"}),
    *DAY_OF_A_SHOP,
    ("touchpoints", who("anna", "q1", "10:11:00", type="survey_response", question="source", channel="Podcast")),
    ("touchpoints", who("anna", "q2", "10:11:00", type="survey_response", question="nps", score=9)),
    ("touchpoints", who("anna", "q3", "10:11:00", type="survey_response", question="csat", score=5)),
]  # fmt: skip
EVENTS.sort(key=lambda event: event[1].get("occurred_at") or event[1]["end"])

Sample = tuple[str, frozenset[tuple[str, str]]]


def samples(report: dict[str, Any]) -> dict[Sample, Decimal]:
    """The rows of `parcours report --json` under the names of their families, as the exporter has them."""
    found: dict[Sample, Decimal] = {}
    for row in report["rows"]:
        labels = dict(row)
        level, metric, value = labels.pop("level"), labels.pop("metric"), Decimal(labels.pop("value"))
        if "days_ago" in labels:
            name = f"parcours_day_{level}_{metric}"
        elif "baseline" in labels:
            name = f"parcours_{level}_{metric}_baseline"
            labels["period"] = labels.pop("baseline")
        else:
            name = next(one for one in (f"parcours_{level}_{metric}", f"parcours_{metric}") if one in SERIES)
        if "window" in SERIES[name].labels:
            labels["window"] = report["period"]
        key = name, frozenset(labels.items())
        assert key not in found
        found[key] = value
    return found
