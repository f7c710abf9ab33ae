"""Costs by hand: accrual, restatement, reports beside clicks' own costs, and what names no channel; all sums exact to the micro."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from attribution.costs import Ledger, Own
from attribution.facts import CLICKS, Measure
from attribution.nodes.cost import accrued, accrued_within
from attribution.nodes.state import CostRow
from attribution.replay import Replay
from attribution.rollups import Calendar
from attribution.rules import Dims
from attribution.spread import UNPLACED, Spread
from models.errors import ConfigError
from models.settings import DAY, HOUR, MINUTE, Marketing, load_marketing
from tests.reference import moment

EURO = 1_000_000
D = moment("2026-03-02T00:00:00Z")
SPRING: Dims = ("Paid Social", "facebook", "spring")
BRAND: Dims = ("Paid Search", "google", "brand")
EMAIL: Dims = ("Email", "(none)", "news")
Body = dict[str, Any]


def cost(cost_id: str, start: str, end: str, amount: object = None, **more: Any) -> Body:
    body: Body = {"cost_id": cost_id, "start": start, "end": end, **more}
    return body if amount is None else body | {"amount": amount, "currency": "EUR"}


def facebook(cost_id: str, start: str, end: str, amount: object, **more: Any) -> Body:
    return cost(cost_id, start, end, amount, network="facebook", campaign="spring", **more)


def click(event_id: str, at: str, price: object, **more: Any) -> Body:
    return {
        "event_id": event_id, "occurred_at": at, "customer_id": event_id, "network": "facebook", "campaign": "spring",
        "cost": price, **more,
    }  # fmt: skip


def replayed(*bodies: Body, settings: Body | None = None) -> Replay:
    replay = Replay(msgspec.convert(settings or {}, Marketing))
    for body in bodies:
        replay.take("costs" if "cost_id" in body else "clicks", json.dumps(body).encode())
    replay.finish()
    assert not replay.refused
    return replay


def spent(replay: Replay, start: str, end: str) -> dict[Dims, int]:
    """Total cost in [start, end) by dims."""
    own: Own = {"c": {}, "m": {}}
    for (granularity, at), cells in replay.rollups.buckets.items():
        if granularity == "c":
            for dims, cell in cells.items():
                own["c"].setdefault(dims, {})[at] = cell[("click_cost", "", "", "")]
    days = replay.rollups.buckets
    spread = Spread(replay.marketing, replay.rollups.calendar, lambda day: days.get(("d", day), {}))
    ledger = Ledger([row for _, row in replay.costs()], own, replay.highest, spread=spread)
    until = moment(end)
    return {dims: found.total or 0 for dims, found in ledger.spent("c", moment(start), lambda dims: until).items()}


# --- Accrual and restatement


def test_a_row_over_a_day_of_23_hours_accrues_by_time_and_not_by_the_clock() -> None:
    """Paris, 29 March 2026: the clock goes from 2 to 3. 23 euros over the local day are a euro an hour."""
    row = facebook("c", "2026-03-29T00:00:00+01:00", "2026-03-30T00:00:00+02:00", 23)
    replay = replayed(row, settings={"time_zone": "Europe/Paris"})
    assert spent(replay, "2026-03-28T23:00:00Z", "2026-03-29T00:00:00Z") == {SPRING: EURO}
    assert spent(replay, "2026-03-29T01:00:00+01:00", "2026-03-29T04:00:00+02:00") == {SPRING: 2 * EURO}
    assert spent(replay, "2026-03-29T00:00:00+01:00", "2026-03-30T00:00:00+02:00") == {SPRING: 23 * EURO}


def test_an_intraday_row_restated_three_times() -> None:
    """Reported at 6, 12 and 18 o'clock, then whole: what was spent by then accrues by then, and nothing twice."""
    day = ("2026-03-02T00:00:00Z", "2026-03-03T00:00:00Z")
    reports = [
        facebook("c", *day, 6, reported_at="2026-03-02T06:00:00Z"),
        facebook("c", *day, 18, reported_at="2026-03-02T12:00:00Z"),
        facebook("c", *day, 20, reported_at="2026-03-02T18:00:00Z"),
        facebook("c", *day, 24, reported_at="2026-03-03T02:00:00Z"),
    ]
    known = [(6, 6), (18, 12), (20, 18), (24, 24)]
    for n, (amount, hours) in enumerate(known, 1):
        replay = replayed(*reports[:n])
        assert spent(replay, *day) == {SPRING: amount * EURO}
        assert spent(replay, day[0], "2026-03-02T03:00:00Z") == {SPRING: amount * EURO * 3 // hours}
        assert spent(replayed(*reversed(reports[:n])), *day) == {SPRING: amount * EURO}, "whatever the order of arrival"


def test_a_row_forty_days_late_counts_where_it_was_spent() -> None:
    late = facebook("c", "2026-01-10T00:00:00Z", "2026-01-11T00:00:00Z", 50, reported_at="2026-02-20T00:00:00Z")
    clicks = click("k", "2026-02-19T12:00:00Z", 1)
    replay = replayed(clicks, late)
    assert spent(replay, "2026-01-10T00:00:00Z", "2026-01-10T12:00:00Z") == {SPRING: 25 * EURO}
    assert spent(replay, "2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z") == {SPRING: EURO}


def test_a_row_restated_under_another_campaign_leaves_the_first() -> None:
    day = ("2026-03-02T00:00:00Z", "2026-03-03T00:00:00Z")
    wrong = facebook("c", *day, 10, reported_at="2026-03-03T01:00:00Z")
    right = cost("c", *day, 12, network="google", campaign="brand", reported_at="2026-03-03T02:00:00Z")
    for arrival in ((wrong, right), (right, wrong)):
        assert spent(replayed(*arrival), *day) == {BRAND: 12 * EURO}


def test_rows_of_other_ids_add() -> None:
    day = ("2026-03-02T00:00:00Z", "2026-03-03T00:00:00Z")
    assert spent(replayed(facebook("a", *day, 10), facebook("b", *day, 5)), *day) == {SPRING: 15 * EURO}


def test_a_report_over_part_of_a_day_replaces_the_clicks_inside_it_and_no_others() -> None:
    """8 to 12 o'clock is reported as 9 euros; of four clicks at 1, 2, 4 and 8 euros two are in its hours."""
    replay = replayed(
        click("a", "2026-03-02T07:59:59Z", 1), click("b", "2026-03-02T08:00:00Z", 2),
        click("c", "2026-03-02T11:59:59Z", 4), click("d", "2026-03-02T12:00:00Z", 8),
        facebook("r", "2026-03-02T08:00:00Z", "2026-03-02T12:00:00Z", 9),
    )  # fmt: skip
    assert spent(replay, "2026-03-02T00:00:00Z", "2026-03-03T00:00:00Z") == {SPRING: (1 + 9 + 8) * EURO}
    assert spent(replay, "2026-03-02T08:00:00Z", "2026-03-02T10:00:00Z") == {SPRING: 4_500_000}


def test_a_report_of_another_campaign_and_other_costs_replace_no_clicks() -> None:
    day = ("2026-03-02T00:00:00Z", "2026-03-03T00:00:00Z")
    other = cost("r", *day, 9, network="facebook", campaign="summer")
    agency = facebook("g", *day, 3, kind="agency", channel="Paid Social")
    replay = replayed(click("a", "2026-03-02T09:00:00Z", 2), other, agency)
    assert spent(replay, *day) == {SPRING: 5 * EURO, ("Paid Social", "facebook", "summer"): 9 * EURO}


def test_hours_times_their_rate_in_another_currency() -> None:
    """7.5 hours at 41.20 MAD are 309 MAD; at 0.0925 that is 28.5825 euros."""
    salary = cost(
        "s", "2026-03-02T00:00:00Z", "2026-03-03T00:00:00Z", kind="salary", hours="7.5", hourly_rate="41.20",
        currency="MAD", channel="Email",
    )  # fmt: skip
    replay = replayed(salary, settings={"rates": [{"currency": "MAD", "rate": "0.0925"}]})
    day = ("2026-03-02T00:00:00Z", "2026-03-03T00:00:00Z")
    assert spent(replay, *day) == {("Email", "(none)", "(none)"): 28_582_500}


def test_parts_of_a_row_sum_to_it_whatever_the_cuts() -> None:
    rng = Random(7)
    for _ in range(300):
        start = D + rng.randrange(DAY)
        row = CostRow(start, start + rng.randint(1, 40 * DAY), 0, "tool", SPRING, rng.randint(0, 10**10), 0)
        cuts = sorted(rng.randrange(row.start - HOUR, row.end + HOUR) for _ in range(5))
        edges = [row.start, *(min(max(cut, row.start), row.end) for cut in cuts), row.end]
        assert sum(accrued_within(row, *pair) for pair in pairwise(edges)) == row.amount
        assert (accrued(row, row.start), accrued(row, row.end)) == (0, row.amount)


# --- What names no channel


def row(dims: Dims, amount: int, days: tuple[int, int] = (0, 1), kind: str = "media") -> CostRow:
    start, end = (D + day * DAY for day in days)
    return CostRow(start, end, end, kind, dims, amount, amount)


def ledger(
    *rows: CostRow, own: Own | None = None, cells: Mapping[int, Mapping[Dims, dict[Measure, int]]] | None = None, **spread: Any
) -> Ledger:  # fmt: skip
    marketing = msgspec.convert({"spread": spread}, Marketing)
    days = cells or {}
    how = Spread(marketing, Calendar("UTC"), lambda day: days.get(day, {}))
    return Ledger(rows, own or {"c": {}, "m": {}}, D + DAY, spread=how)


def totals(found: Ledger, start: int = D, end: int = D + DAY) -> dict[Dims, int]:
    return {dims: cost.total or 0 for dims, cost in found.spent("c", start, lambda dims: end).items()}


def test_by_spend_each_day_by_its_own() -> None:
    """30 a day: on the first 3 to 1, on the second all to one, on the third nothing was spent."""
    rows = (
        row(UNPLACED, 90, (0, 3), "agency"),
        row(SPRING, 300), row(BRAND, 100), row(BRAND, 7, (1, 2)),
    )  # fmt: skip
    assert totals(ledger(*rows)) == {SPRING: 322, BRAND: 108}, (
        "22.5 and 7.5: equal remainders, the unit to the first by name"
    )
    assert totals(ledger(*rows), D, D + 3 * DAY) == {SPRING: 322, BRAND: 108 + 7 + 30, UNPLACED: 30}


def test_own_costs_of_clicks_are_spend() -> None:
    own: Own = {"c": {EMAIL: {D + HOUR: 50}}, "m": {}}
    assert totals(ledger(row(UNPLACED, 100, kind="tool"), row(SPRING, 50), own=own)) == {SPRING: 100, EMAIL: 100}


def test_by_touches() -> None:
    cells = {D: {SPRING: {CLICKS: 1}, EMAIL: {CLICKS: 2}, ("(unattributed)", "(none)", "(none)"): {CLICKS: 9}}}
    found = ledger(row(UNPLACED, 100, (0, 2), "tool"), row(BRAND, 50), cells=cells, by="touches")
    assert totals(found, D, D + 2 * DAY) == {BRAND: 50, SPRING: 17, EMAIL: 33, UNPLACED: 50}


def test_by_fixed_shares() -> None:
    shares = [{"channel": "Email", "share": 1}, {"channel": "Paid Social", "network": "facebook", "share": 2}]
    found = ledger(row(UNPLACED, 100, kind="salary"), row(BRAND, 50), by="shares", shares=shares)
    assert totals(found) == {BRAND: 50, ("Email", "(none)", "(none)"): 33, ("Paid Social", "facebook", "(none)"): 67}


def test_with_none_and_for_media_it_stays_unallocated() -> None:
    rows = row(UNPLACED, 100, kind="tool"), row(SPRING, 50)
    assert totals(ledger(*rows, by="none")) == {SPRING: 50, UNPLACED: 100}
    assert totals(ledger(row(UNPLACED, 100), row(SPRING, 50))) == {SPRING: 50, UNPLACED: 100}


def test_what_names_a_channel_stays_there() -> None:
    assert totals(ledger(row(EMAIL, 100, kind="tool"), row(SPRING, 50))) == {SPRING: 50, EMAIL: 100}


def test_spread_costs_are_in_the_total_and_not_in_media() -> None:
    found = ledger(row(UNPLACED, 100, kind="tool"), row(SPRING, 50)).spent("c", D, lambda dims: D + DAY)
    assert found == {SPRING: (50, 150)}


def test_up_to_where_its_cost_is_known_a_campaign_has_its_part_of_what_had_accrued() -> None:
    found = ledger(row(UNPLACED, 240, kind="tool"), row(SPRING, 100), row(BRAND, 100))
    cut = found.spent("c", D, lambda dims: D + (12 * HOUR if dims == SPRING else DAY))
    assert {dims: cost.total for dims, cost in cut.items()} == {SPRING: 50 + 60, BRAND: 100 + 120}


@pytest.mark.parametrize("by", ["spend", "touches", "none"])
def test_channels_and_unallocated_sum_to_the_rows_to_the_micro(by: str) -> None:
    rng = Random(11)
    places = [SPRING, BRAND, EMAIL, UNPLACED, UNPLACED]
    for _ in range(60):
        rows = []
        for n in range(rng.randint(1, 12)):
            start = D + rng.randrange(5 * DAY)
            kind = rng.choice(("media", "agency", "tool", "salary", "other"))
            rows.append(
                CostRow(
                    start,
                    start + rng.randint(1, 4 * DAY),
                    start + 9 * DAY,
                    kind,
                    rng.choice(places),
                    rng.randint(0, 10**9),
                    n,
                )
            )
        cells = {
            D + day * DAY: {dims: {CLICKS: rng.randint(0, 3)} for dims in (SPRING, EMAIL)}
            for day in range(9)
            if rng.random() < 0.7
        }
        found = ledger(*rows, cells=cells, by=by)
        for _ in range(4):
            low = D + rng.randrange(6 * DAY)
            high = low + rng.choice((MINUTE, HOUR, DAY, 3 * DAY, 10 * DAY))
            assert sum(totals(found, low, high).values()) == sum(accrued_within(row, low, high) for row in rows)


def test_the_choice_of_shares_without_any_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "p.toml"
    file.write_text('[spread]\nby = "shares"\n')
    with pytest.raises(ConfigError, match=r"spread: .* needs at least one \[\[spread.shares\]\]"):
        load_marketing(file)
