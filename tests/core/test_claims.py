"""What networks report of themselves: by hand."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from attribution.claims import Reports, merged
from attribution.costs import Ledger
from attribution.intake import Intake
from attribution.nodes.state import CostRow
from attribution.replay import Replay
from attribution.running import Span
from attribution.windows import Sums
from models.errors import Rejected
from models.settings import DAY, HOUR, Marketing
from models.wire import COUNTERS, CostReport
from tests.reference import moment

D = moment("2026-03-02T00:00:00Z")
META = ("Paid Social", "facebook")
SETTINGS = {"rates": [{"currency": "MAD", "rate": "0.1"}]}
ROW = {
    "cost_id": "c", "start": "2026-03-02T00:00:00Z", "end": "2026-03-03T00:00:00Z", "network": "facebook", "campaign": "spring",
    "impressions": 2400, "clicks": 24, "engagements": {"like": 7, "share": 1}, "followers": 900, "reach": 1000,
    "platform_conversions": 5, "platform_value": "1000.5", "currency": "MAD",
}  # fmt: skip


def entry(**more: Any) -> CostReport:
    taken = Intake(msgspec.convert(SETTINGS, Marketing)).take("costs", json.dumps(ROW | more).encode(), D + 9 * DAY, 0)
    assert isinstance(taken.entry, CostReport)
    return taken.entry


def rows(*bodies: dict[str, Any]) -> list[CostRow]:
    replay = Replay(msgspec.convert(SETTINGS, Marketing))
    for body in bodies:
        replay.take("costs", json.dumps(ROW | body).encode())
    replay.finish()
    assert not replay.refused
    return [row for _, row in replay.costs()]


def claims(reported: list[CostRow], start: int, end: int) -> dict[str, int]:
    """What rows report of [start, end), all of it of one channel and network."""
    told = Reports(reported).told(Span("", "window", "h", start, end - 1, end, False), Sums(Marketing(), end))
    assert {dims[:2] for dims in told} <= {META}
    whole = merged(told.values())
    found = dict(whole.figures)
    if whole.followers:
        found["followers"] = whole.followers["facebook"].followers
    return found


def test_figures_travel_in_the_order_of_names_and_money_in_reporting_micros() -> None:
    assert entry().reported == (
        ("clicks", 24), ("engagements/like", 7), ("engagements/share", 1), ("followers", 900), ("impressions", 2400),
        ("platform_conversions", 5), ("platform_value", 100_050_000), ("reach", 1000),
    )  # fmt: skip


def test_counters_alone_are_no_cost_not_even_one_of_zero() -> None:
    assert (entry().kind, entry().amount) == (COUNTERS, 0)
    assert (entry(amount=0).kind, entry(amount=7, currency="EUR").amount) == ("media", 7_000_000)
    ledger = Ledger(rows({}), {"c": {}, "m": {}}, D + DAY)
    assert (ledger.spent("c", D, lambda dims: D + DAY), ledger.through) == ({}, {})


def test_kinds_of_engagement_are_bounded() -> None:
    with pytest.raises(Rejected, match="kinds"):
        entry(engagements={f"kind {n}": 1 for n in range(100)})


def test_counts_accrue_as_an_amount_does_and_parts_sum_to_the_whole() -> None:
    day = rows({})
    half = claims(day, D, D + 12 * HOUR)
    assert (half["impressions"], half["platform_conversions"], half["platform_value"]) == (1200, 2, 50_025_000)
    rest = claims(day, D + 12 * HOUR, D + DAY)
    assert half["platform_conversions"] + rest["platform_conversions"] == 5
    assert claims(day, D + DAY, D + 2 * DAY) == {}


def test_a_report_of_noon_has_accrued_by_noon_and_the_later_one_replaces_it() -> None:
    noon = {"reported_at": "2026-03-02T12:00:00Z", "impressions": 1000}
    assert claims(rows(noon), D, D + 12 * HOUR)["impressions"] == 1000
    assert claims(rows(noon, {"reported_at": "2026-03-03T01:00:00Z"}), D, D + 12 * HOUR)["impressions"] == 1200


def test_followers_are_the_latest_and_reach_the_largest_inside() -> None:
    second = {
        "cost_id": "d", "start": "2026-03-03T00:00:00Z", "end": "2026-03-04T00:00:00Z", "followers": 880, "reach": 700,
    }  # fmt: skip
    both = rows({}, second)
    for order in (both, both[::-1]):
        found = claims(order, D, D + 2 * DAY)
        assert (found["followers"], found["reach"], found["impressions"]) == (880, 1000, 4800)
    assert "reach" not in claims(both, D + HOUR, D + 36 * HOUR), (
        "a report that reaches out of the span tells nothing of it"
    )
