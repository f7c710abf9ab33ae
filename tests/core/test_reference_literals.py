"""The oracle against journeys worked by hand, and against sums that no reading may break."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from random import Random

import pytest

from models.settings import DAY, HOUR
from tests.histories import BEGIN, coverage, generate
from tests.literals import CASES, Case, click, order, touch
from tests.reference import UNATTRIBUTED, Row, attribute, moment

SEEDS = range(300)
FACEBOOK, GOOGLE = ("Paid Social", "facebook", "spring"), ("Paid Search", "google", "brand")
EMAIL, DIRECT = ("Email", "(none)", "news"), ("Direct", "(none)", "(none)")

# The least share of histories in which a feature must be in play: about half of what the generator gives.
LEAST = {
    "refund_before_order": 0.10,
    "refund_after_order": 0.20,
    "cancel_before_order": 0.02,
    "cancel_after_order": 0.04,
    "partial_refund": 0.10,
    "withdrawn": 0.15,
    "two_reports": 0.20,
    "two_reports_two_persons": 0.10,
    "restated_order": 0.15,
    "foreign": 0.30,
    "negative_margin": 0.05,
    "one_micro": 0.05,
    "stage_conversion": 0.15,
    "landing": 0.15,
    "session": 0.30,
    "session_after_landing": 0.03,
    "view_gives_way": 0.05,
    "edge": 0.05,
    "edge_outside": 0.04,
    "at_conversion": 0.10,
    "tie": 0.09,
    "all_direct": 0.04,
    "n:1": 0.15,
    "n:2": 0.10,
    "n:3": 0.08,
    "n:4": 0.05,
    "n:5": 0.12,
    "late_touch_changes_credit": 0.25,
    "unattributed:no_touch_known": 0.10,
    "unattributed:outside_window": 0.08,
    "unattributed:no_consent": 0.04,
    "unattributed:filtered": 0.02,
    "duplicate_content": 0.20,
    "duplicate_same_time": 0.20,
    "restated_cost": 0.10,
    "report_beside_clicks": 0.04,
    "report_replaces_click": 0.01,
    "own_cost": 0.25,
    "crowd": 0.12,
    "hand_over": 0.20,
    "claimed": 0.20,
    "not_claimed": 0.09,
    "shared": 0.08,
    "several_devices": 0.05,
    "echo": 0.05,
    "anonymous_order_moves": 0.20,
    "two_persons": 0.15,
}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_worked_by_hand(case: Case) -> None:
    assert attribute(case.events, case.marketing).attributions == case.expected


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_order_of_arrival_and_repetition_change_nothing(case: Case) -> None:
    events = case.events * 2
    Random(len(events)).shuffle(events)
    assert attribute(events, case.marketing).attributions == case.expected


def test_cases_differ_by_name_and_credit_known_touches() -> None:
    assert len({case.name for case in CASES}) == len(CASES)
    for case in CASES:
        for line in case.expected.values():
            for credits in line["credits"].values():
                assert sum(Fraction(credit["conversions"]) for credit in credits) == 1
                assert sum(Fraction(credit["revenue"]) for credit in credits) == Fraction(line["revenue_net"])


def test_books_by_conversion_and_by_touch() -> None:
    """One click on 1 March, one direct visit on 2 March; an order of 10 on 3 March, one without touches on 4 March."""
    events = [
        click("k1", "2026-03-01T12:00:00Z", "fb"),
        touch("visit", "v1", "2026-03-01T12:01:00Z", "fb"),
        touch("visit", "v2", "2026-03-02T12:00:00Z"),
        touch("impression", "i1", "2026-03-02T12:00:00Z", "go", consent=False),
        touch("engagement", "e1", "2026-03-02T12:00:00Z", "go", anonymous_id=None),
        order("2026-03-03T12:00:00Z", "10"),
        order("2026-03-04T12:00:00Z", "7", "p2", "A2", anonymous_id="d2"),
    ]
    result = attribute(events, CASES[0].marketing)
    first, second, third, fourth, end = (moment(f"2026-03-0{day}T00:00:00Z") for day in (1, 2, 3, 4, 5))

    books = result.books(third, fourth)
    half = Row(Fraction(1, 2), 5_000_000, 5_000_000)
    assert books.models["linear"] == {FACEBOOK: half, DIRECT: half}
    assert (books.orders, books.gross, books.net) == (1, 10_000_000, 10_000_000)
    assert result.books(fourth, end).models["linear"] == {UNATTRIBUTED: Row(Fraction(1), 7_000_000, 7_000_000)}
    assert result.books(first, second).models["linear"] == {}

    assert result.touch_books(first, second)["linear"] == {FACEBOOK: half}
    assert result.touch_books(second, third)["last_touch"] == {DIRECT: Row(Fraction(1), 10_000_000, 10_000_000)}
    assert result.touch_books(third, end)["linear"] == {}

    # The landing counts one visit under its click's source; the impression has no consent; the engagement no person.
    assert result.books(first, second).counts == {
        "clicks": {FACEBOOK: 1},
        "impressions": {},
        "engagements": {},
        "email_opens": {},
        "visits": {FACEBOOK: 1},
        "touches": {FACEBOOK: 1},
    }
    assert result.books(second, third).counts["touches"] == {GOOGLE: 1, DIRECT: 1}
    assert result.books(second, third).counts["engagements"] == {GOOGLE: 1}
    assert result.books(second, third).counts["visits"] == {DIRECT: 1}
    assert result.books(second, third).counts["impressions"] == {}


def test_costs_accrue_restate_and_replace_clicks_own() -> None:
    """A day's media row of 10, reported at 06:00 after a first report of 4 at 03:00, beside clicks with costs of 1."""
    row = {"cost_id": "c1", "start": "2026-03-01T00:00:00Z", "end": "2026-03-02T00:00:00Z", "currency": "EUR"}
    spring = {"channel": "Paid Social", "network": "facebook", "campaign": "spring"}
    events = [
        ("costs", row | spring | {"amount": "10", "reported_at": "2026-03-01T06:00:00Z"}),
        ("costs", row | spring | {"amount": "4", "reported_at": "2026-03-01T03:00:00Z"}),
        click("k1", "2026-03-01T05:59:59Z", "fb", cost="1"),
        click("k2", "2026-03-01T06:00:00Z", "fb", cost="1"),
        click("k3", "2026-03-01T05:00:00Z", "go", cost="1"),
        ("costs", {**row, "cost_id": "c2", "channel": "Email", "campaign": "news", "kind": "tool", "amount": "1"}),
    ]
    result = attribute(events, CASES[0].marketing)
    start = moment("2026-03-01T00:00:00Z")
    # The row accrues on [00:00, 06:00) and replaces k1's cost, whose hour starts at 05:00, and not k2's. The tool's
    # 1 000 000 micros accrue over 24 hours: up to 06:00 250 000.
    assert result.books(start, start + 6 * HOUR).cost == {FACEBOOK: 10_000_000, GOOGLE: 1_000_000, EMAIL: 250_000}
    assert result.books(start + 6 * HOUR, start + DAY).cost == {FACEBOOK: 1_000_000, EMAIL: 750_000}
    # A third of the way, floor(10 000 000 / 6) per hour, so that parts sum exactly.
    hours = [result.books(start + h * HOUR, start + (h + 1) * HOUR).cost[FACEBOOK] for h in range(6)]
    assert hours == [1_666_666, 1_666_667, 1_666_667, 1_666_666, 1_666_667, 1_666_667]


def test_generated_histories_cover_the_rules_and_sum_exactly() -> None:
    seen: Counter[str] = Counter()
    for seed in SEEDS:
        history = generate(seed)
        result = attribute(history.events, history.marketing)
        seen.update(coverage(history, result))
        everything = result.books(BEGIN - 400 * DAY, BEGIN + 400 * DAY)
        live = [conversion for conversion in result.conversions if not conversion.withdrawn]
        for rows in everything.models.values():
            assert sum(row.conversions for row in rows.values()) == len(live), seed
            assert sum(row.gross for row in rows.values()) == sum(c.gross for c in live), seed
            assert sum(row.net for row in rows.values()) == sum(c.net for c in live), seed
            assert sum(row.net_margin for row in rows.values()) == sum(c.net_margin or 0 for c in live), seed
    shares = {name: seen[name] / len(SEEDS) for name in LEAST}
    assert not {name: share for name, share in shares.items() if share < LEAST[name]}


def test_generated_histories_do_not_depend_on_arrival() -> None:
    for seed in SEEDS[:60]:
        history = generate(seed)
        assert generate(seed) == history
        events = history.events + history.events[::3]
        Random(seed).shuffle(events)
        there, again = (attribute(some, history.marketing) for some in (history.events, events))
        assert again.attributions == there.attributions, seed
        span = (BEGIN - 400 * DAY, BEGIN + 400 * DAY)
        assert again.books(*span) == there.books(*span), seed
        assert again.touch_books(*span) == there.touch_books(*span), seed
