"""The audit of costs, finding by finding."""

from __future__ import annotations

from attribution.audit import Finding, audit
from attribution.nodes.state import CostRow
from attribution.rules import Dims
from attribution.spread import UNPLACED
from models.settings import DAY, HOUR
from tests.reference import moment

D = moment("2026-03-02T00:00:00Z")
SPRING: Dims = ("Paid Social", "facebook", "Spring 2026")
WRITTEN: Dims = ("Paid Social", "facebook", "spring_2026")
BRAND: Dims = ("Paid Search", "google", "brand")
NEWS: Dims = ("Email", "(none)", "news")


def row(dims: Dims, amount: int, start: int = 0, end: int = 24, kind: str = "media") -> CostRow:
    return CostRow(D + start * HOUR, D + end * HOUR, D + 48 * HOUR, kind, dims, amount, 0)


def found(costs: dict[str, CostRow], touches: dict[Dims, int], own: dict[Dims, int] | None = None) -> list[Finding]:
    return audit(costs, own or {}, touches, D, D + DAY)


def test_what_fits_is_not_mentioned() -> None:
    upper = ("Paid Social", "Facebook", "SPRING 2026")
    assert found({"a": row(SPRING, 10)}, {upper: 3, NEWS: 5, ("Organic Search", "google", "(none)"): 2}) == []


def test_spend_without_touches_and_a_name_that_almost_matches() -> None:
    assert found({"a": row(SPRING, 10)}, {WRITTEN: 3}) == [
        Finding("spend_without_touches", SPRING, 10),
        Finding("touches_without_spend", WRITTEN, touches=3),
        Finding("almost_the_same_name", SPRING, 10, other="spring_2026"),
    ]


def test_names_of_other_networks_and_quite_other_names_are_not_alike() -> None:
    touches: dict[Dims, int] = {("Paid Social", "tiktok", "spring_2026"): 1, ("Paid Social", "facebook", "winter"): 1}
    kinds = [finding.kind for finding in found({"a": row(SPRING, 10)}, touches)]
    assert kinds == ["spend_without_touches", "touches_without_spend", "touches_without_spend"]


def test_touches_of_a_paid_channel_need_money_of_a_report_or_of_clicks() -> None:
    touches = {BRAND: 4, NEWS: 9}
    assert found({}, touches) == [Finding("touches_without_spend", BRAND, touches=4)]
    assert found({}, touches, own={BRAND: 1}) == []
    assert found({"a": row(BRAND, 1)}, touches) == []


def test_rows_that_overlap() -> None:
    costs = {
        "day": row(BRAND, 240),
        "part": row(BRAND, 60, 12, 18),
        "next": row(BRAND, 5, 24, 48),
        "agency": row(BRAND, 9, kind="agency"),
    }
    assert found(costs, {BRAND: 1}) == [Finding("overlap", BRAND, 60, cost_id="part", other="day")]


def test_costs_outside_the_span_and_of_other_kinds_need_no_touches() -> None:
    assert found({"a": row(SPRING, 10, 24, 48), "b": row(SPRING, 10, kind="agency")}, {}) == []


def test_what_names_no_channel_is_summed() -> None:
    assert found({"a": row(UNPLACED, 10, kind="tool"), "b": row(UNPLACED, 5)}, {}) == [
        Finding("unallocated", UNPLACED, 15)
    ]
