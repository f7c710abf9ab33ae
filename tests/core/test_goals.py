"""Goals by hand: a sum, a ratio, a lower-is-better one; before the start, after the deadline, without data; frozen baselines."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from decimal import Decimal

import msgspec
import pytest

from attribution.costs import Ledger
from attribution.facts import ATTRIBUTED_NET, CLICKS, CONVERSION, CONVERSIONS, ORDERS, REVENUE_NET, TOTAL, Fact
from attribution.families import FAMILIES, Row, family_name
from attribution.goals import METRIC, Standing, baselines, measured, stand, standing
from attribution.kpi import rows
from attribution.nodes.state import CostRow
from attribution.patterns import level_of
from attribution.rollups import Calendar, Rollups
from attribution.rules import Dims
from attribution.windows import Sums
from models.settings import DAY, Goal, Marketing
from tests import shop
from tests.core.replayed import replay
from tests.reference import moment

D = Decimal
FACEBOOK: Dims = ("Paid Social", "facebook", "spring")
GOOGLE: Dims = ("Paid Search", "google", "brand")
ORDERS_Q1 = Goal(name="orders", metric="orders", target=D(1000), start=date(2026, 1, 1), deadline=date(2026, 4, 10))
"""100 days."""
ROAS = Goal(
    name="roas", metric="roas", target=D(4), baseline=D(2), start=date(2026, 1, 1), deadline=date(2026, 4, 10)
)  # fmt: skip
CPA = msgspec.structs.replace(ROAS, metric="cpa", baseline=D(40), target=D(30), direction="down")


# Standing: arithmetic alone


@pytest.mark.parametrize(
    ("value", "elapsed", "progress", "projected", "on_track"),
    [
        ("200", "0.2", "0.2", "1000", True),  # 20 of 100 days, 200 of 1000
        ("199", "0.2", "0.199", "995", False),
        ("0", "0.2", "0", "0", False),
        ("1200", "0.5", "1.2", "2400", True),
        ("1000", "1.3", "1", "1000", True),
        ("999", "1.3", "0.999", "999", False),
    ],
)
def test_a_sum(value: str, elapsed: str, progress: str, projected: str, on_track: bool) -> None:
    found = standing(ORDERS_Q1, D(value), None, D(elapsed))
    phase = "over" if D(elapsed) >= 1 else "running"
    share = min(D(elapsed), D(1))
    assert found == Standing(phase, D(value), None, share, D(progress), D(projected), on_track)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "elapsed", "progress", "projected", "on_track"),
    [
        ("2.5", "0.25", "0.25", "4", True),  # from 2 to 4: 2.5 is due after a quarter
        ("2.4", "0.25", "0.2", "3.6", False),
        ("1.5", "0.25", "-0.25", "0", False),
        ("4.2", "1", "1.1", "4.2", True),
    ],
)
def test_a_ratio(value: str, elapsed: str, progress: str, projected: str, on_track: bool) -> None:
    found = standing(ROAS, D(value), D(2), D(elapsed))
    assert (found.progress, found.expected, found.projected, found.on_track) == (
        D(progress), D(elapsed), D(projected), on_track,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("value", "elapsed", "progress", "projected", "on_track"),
    [
        ("35", "0.5", "0.5", "30", True),  # from 40 down to 30: 35 is due at half time
        ("36", "0.5", "0.4", "32", False),
        ("44", "0.5", "-0.4", "48", False),
        ("29", "1", "1.1", "29", True),
    ],
)
def test_lower_is_better(value: str, elapsed: str, progress: str, projected: str, on_track: bool) -> None:
    found = standing(CPA, D(value), D(40), D(elapsed))
    assert (found.progress, found.projected, found.on_track) == (D(progress), D(projected), on_track)


def test_a_sum_that_is_to_stay_below() -> None:
    budget = msgspec.structs.replace(ORDERS_Q1, metric="cost", target=D(10_000), direction="down")
    assert standing(budget, D(2000), None, D("0.2")).on_track is True
    assert standing(budget, D(2001), None, D("0.2")).on_track is False


def test_before_the_start() -> None:
    assert standing(ORDERS_Q1, None, None, D("-0.01")) == Standing("before", None, None, D(0), None, None, None)


def test_without_data() -> None:
    assert standing(ROAS, None, D(2), D("0.5")) == Standing("running", None, D(2), D("0.5"), None, None, None)
    assert standing(ROAS, D(3), None, D("0.5")) == Standing("running", D(3), None, D("0.5"), None, None, None)
    assert standing(ROAS, D(3), D(2), D(0)).projected is None


def test_a_baseline_that_is_the_target_already() -> None:
    kept = msgspec.structs.replace(ROAS, target=D(2))
    assert [standing(kept, D(v), D(2), D("0.5")).on_track for v in ("1.9", "2")] == [False, True]
    assert standing(kept, D(2), D(2), D("0.5")).progress is None


# Measured


def books(goals: Iterable[Goal], facts: Iterable[Fact], costs: Iterable[CostRow], now: int) -> tuple[Sums, Ledger]:
    marketing = Marketing(clock="event", goals=tuple(goals))
    rollups = Rollups(Calendar("UTC"))
    rollups.add(facts, now)
    sums = Sums.of(rollups, marketing, now)
    return sums, Ledger(costs, sums.own, now)


def at(day: str) -> int:
    return moment(f"2026-{day}T12:00:00Z")


def order(day: str, euros: int) -> list[Fact]:
    return [(at(day), TOTAL, ORDERS, 1), (at(day), TOTAL, REVENUE_NET, euros * 1_000_000)]


def sale(day: str, euros: int, dims: Dims = FACEBOOK) -> list[Fact]:
    model = "last_non_direct"
    return [
        (at(day), dims, (CONVERSIONS, model, "purchase", CONVERSION), 1_000_000),
        (at(day), dims, (ATTRIBUTED_NET, model, "purchase", CONVERSION), euros * 1_000_000),
    ]


def daily(first: str, days: int, euros: int, dims: Dims = FACEBOOK) -> list[CostRow]:
    begin = moment(f"2026-{first}T00:00:00Z")
    return [
        CostRow(begin + i * DAY, begin + (i + 1) * DAY, begin + (i + 1) * DAY, "media", dims, euros * 1_000_000, 0)
        for i in range(days)
    ]


def test_a_sum_counts_from_its_start_to_its_deadline() -> None:
    """Both days included, also long after: 20 of March lies beyond every window of 30 days."""
    goal = msgspec.structs.replace(ORDERS_Q1, start=date(2026, 1, 10), deadline=date(2026, 1, 20))
    facts = [*order("01-09", 1), *order("01-10", 2), *order("01-20", 4), *order("01-21", 8)]
    for now, expected in (("01-10", 1), ("01-20", 2), ("01-21", 2), ("03-20", 2)):
        sums, ledger = books([goal], facts, [], at(now))
        assert measured(goal, sums, ledger, at(now)) == expected
    revenue = msgspec.structs.replace(goal, metric="revenue")
    sums, ledger = books([revenue], facts, [], at("03-20"))
    assert measured(revenue, sums, ledger, at("03-20")) == 6
    assert stand(revenue, {}, sums, ledger, at("03-20")).phase == "over"
    assert stand(revenue, {}, sums, ledger, at("01-09")).phase == "before"


def test_scope_by_names_and_patterns_whatever_their_case() -> None:
    facts: list[Fact] = [(at("01-05"), FACEBOOK, CLICKS, 3), (at("01-06"), GOOGLE, CLICKS, 4)]
    for scope, expected in (({}, 7), ({"network": "Face*"}, 3), ({"channel": "paid *"}, 7), ({"campaign": "brand"}, 4)):
        goal = msgspec.structs.replace(ORDERS_Q1, metric="clicks", **scope)
        sums, ledger = books([goal], facts, [], at("01-10"))
        assert measured(goal, sums, ledger, at("01-10")) == expected, scope


def test_a_ratio_is_that_of_its_window_and_its_baseline_that_before_the_start() -> None:
    """Window of 10 days from 1 March: CPA was 100/5 = 20 in the ten days before; 40/4 = 10 in the ten days to 15 March."""
    goal = Goal(
        name="cpa", metric="cpa", network="facebook", target=D(12), direction="down", window="10d",
        start=date(2026, 3, 1), deadline=date(2026, 3, 30),
    )  # fmt: skip
    facts = [fact for day in ("02-18", "02-19", "02-20", "02-24", "02-28", "02-28") for fact in sale(day, 50)]
    facts += [fact for day in ("03-06", "03-10", "03-11", "03-12") for fact in sale(day, 50)]
    costs = daily("02-19", 10, 10) + daily("03-01", 15, 4)
    now = moment("2026-03-16T00:00:00Z")
    sums, ledger = books([goal], facts, costs, now - 1)
    frozen = baselines([goal], {}, sums, ledger, now - 1)
    assert list(frozen.values()) == [20]
    found = stand(goal, frozen, sums, ledger, now - 1)
    # The window starts at the day of 5 March, 23:59:59: 11 days, as a window of the exporter.
    assert found.value == D(44) / 4
    assert found.on_track is True


def test_a_measured_baseline_is_frozen_once_the_goal_has_started() -> None:
    goal = msgspec.structs.replace(ROAS, baseline=None, window="10d", start=date(2026, 3, 1))
    costs = daily("02-19", 10, 10)
    before, ledger = books([goal], sale("02-20", 200), costs, at("02-28"))
    assert baselines([goal], {}, before, ledger, at("02-28")) == {}
    sums, ledger = books([goal], sale("02-20", 200), costs, at("03-01"))
    frozen = baselines([goal], {}, sums, ledger, at("03-01"))
    assert list(frozen.values()) == [2]
    later, ledger = books([goal], [*sale("02-20", 200), *sale("02-21", 200)], costs, at("03-02"))
    assert baselines([goal], frozen, later, ledger, at("03-02")) == frozen
    assert stand(goal, frozen, later, ledger, at("03-02")).baseline == 2
    # Another start is another baseline.
    moved = msgspec.structs.replace(goal, start=date(2026, 3, 2))
    later, ledger = books([moved], [*sale("02-20", 200), *sale("02-21", 200)], costs, at("03-03"))
    assert baselines([moved], frozen, later, ledger, at("03-03")) != frozen


def test_without_data_there_is_no_value_and_no_baseline() -> None:
    goal = msgspec.structs.replace(ROAS, baseline=None)
    sums, ledger = books([goal], [], [], at("02-01"))
    assert baselines([goal], {}, sums, ledger, at("02-01")) == {}
    found = stand(goal, {}, sums, ledger, at("02-01"))
    assert (found.value, found.baseline, found.progress, found.on_track) == (None, None, None, None)
    assert stand(ORDERS_Q1, {}, sums, ledger, at("02-01")).value == 0


def test_a_ratio_of_cost_takes_both_sides_up_to_where_cost_is_known() -> None:
    """Cost is known to 12 March: the sale of the 14th has no cost beside it yet."""
    goal = msgspec.structs.replace(ROAS, window="10d", start=date(2026, 3, 1))
    costs = daily("03-04", 9, 10)
    sums, ledger = books([goal], [*sale("03-05", 180), *sale("03-14", 500)], costs, at("03-14"))
    assert measured(goal, sums, ledger, at("03-14")) == 2
    sums, ledger = books([goal], sale("03-05", 180), daily("03-04", 3, 10), at("03-14"))
    assert measured(goal, sums, ledger, at("03-14")) is None


# Every metric


@pytest.mark.parametrize(
    "scope", [{}, {"channel": "Paid Social", "network": "facebook"}, {"campaign": "spring"}], ids=str
)
def test_a_goal_reads_what_the_exporter_has(scope: dict[str, str]) -> None:
    """Every metric over the days of the window of 30 days, by which a goal's window and the exporter's are the same."""
    run = replay(shop.EVENTS, shop.MARKETING)
    goals = [
        Goal(name=name, metric=name, target=D(1), start=date(2026, 2, 8), deadline=date(2026, 4, 1), **scope)
        for name in METRIC
    ]
    level = level_of(goals[0])
    goals = [goal for goal in goals if family_name(level, METRIC[goal.metric].name) in FAMILIES]
    marketing = msgspec.structs.replace(shop.MARKETING, goals=tuple(goals))
    sums = Sums.of(run.rollups, marketing, run.highest)
    ledger = Ledger([row for _, row in run.costs()], sums.own, run.highest, spread=sums.spread())
    exported = {}
    wanted = {"window": "30d", "model": "last_non_direct", "basis": "conversion", **scope}
    for family, labels, value in rows(sums, ledger):
        of = dict(labels)
        conversion = "lead" if family.endswith("_cpl") else "purchase"
        if of.get("conversion", conversion) == conversion and all(
            of.get(label, text) == text for label, text in wanted.items()
        ):
            exported[family] = D(value)
    compared = 0
    for goal in goals:
        value = measured(goal, sums, ledger, run.highest)
        assert value == exported.get(family_name(level, METRIC[goal.metric].name)), goal.metric
        compared += value is not None
    assert compared >= len(goals) - 4


RATE = Goal(
    name="rate", metric="conversion_rate", target=D("0.4"), baseline=D("0.2"), start=date(2026, 3, 1), deadline=date(2026, 3, 10),
    window="24h", channel="Paid *",
)  # fmt: skip


def test_a_goal_on_persons_reads_the_exporters_row_and_keeps_that_of_its_deadline() -> None:
    def row(value: str, channel: str = "Paid Social", window: str = "24h", conversion: str = "purchase") -> Row:
        labels = (("channel", channel), ("network", "x"), ("conversion", conversion), ("window", window))
        return Row("parcours_channel_conversion_rate_ratio", labels, D(value))

    sums, ledger = books([RATE], [], [], at("03-05"))
    now = [row("0.3"), row("0.9", window="7d"), row("0.8", "Email"), row("0.7", conversion="lead")]
    found = stand(RATE, {}, sums, ledger, at("03-06"), now)
    assert (found.value, found.progress, found.phase) == (D("0.3"), D("0.5"), "running")
    # Two that match are no one value.
    assert stand(RATE, {}, sums, ledger, at("03-06"), [*now, row("0.1", "Paid Search")]).value is None
    assert baselines([RATE], {}, sums, ledger, at("03-10"), now) == {}
    kept = baselines([RATE], {}, sums, ledger, at("03-11"), now)
    assert list(kept.values()) == [D("0.3")]
    later = [row("0.5")]
    assert baselines([RATE], kept, sums, ledger, at("03-12"), later) == kept
    over = stand(RATE, kept, sums, ledger, at("03-12"), later)
    assert (over.value, over.phase, over.on_track) == (D("0.3"), "over", False)
