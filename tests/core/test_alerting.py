"""The alert state machine: the statistical rule by hand and against the Poisson distribution, hysteresis, `for`, unknown."""

from __future__ import annotations

import math
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attribution.alerting import (
    GONE,
    UNKNOWN,
    AlertState,
    Key,
    Names,
    Reading,
    advance,
    alert_id,
    cost_reading,
    plain_reading,
    step,
    upper,
)
from models.settings import MINUTE, SECOND, AlertRule

D = Decimal
SPRING: Names = ("Paid Social", "facebook", "spring")
CPA = AlertRule(name="cpa", metric="cpa", campaign="*", threshold=D(60), clear=D(50))
PATIENT = msgspec.structs.replace(CPA, for_="10m")
ROAS = AlertRule(
    name="roas", metric="roas", threshold=D("1.5"), clear=D(2), direction="below", minimum={"attributed_conversions": D(20)}
)  # fmt: skip
HIGH, BAND, LOW = (Reading(known=True, fires=fires, clears=clears) for fires, clears in ((1, 0), (0, 0), (0, 1)))  # type: ignore[arg-type]


# The bound


@pytest.mark.parametrize(
    ("n", "expected"),
    [(0, "2.968737"), (1, "4.728392"), (3, "7.744987"), (10, "16.958814"), (100, "118.080145")],
)
def test_the_bound_by_hand(n: int, expected: str) -> None:
    """As a pocket calculator gives it; of n = 0: (1 − 1/9 + 1.645/3)³ = 1.437222³ = 2.9687; of n = 3: 4·(1 − 1/36 + 1.645/6)³."""
    assert round(upper(D(n)), 6) == D(expected)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 5, 10, 30, 100])
def test_under_the_bound_so_few_are_seen_in_five_of_a_hundred_cases(n: int) -> None:
    mean = float(upper(D(n)))
    seen = sum(math.exp(-mean + k * math.log(mean) - math.lgamma(k + 1)) for k in range(n + 1))
    assert seen == pytest.approx(0.05, abs=0.002)


def test_dispersion_widens_the_bound() -> None:
    assert round(upper(D(0), D(2)), 20) == round(2 * upper(D(0)), 20)
    assert round(upper(D(6), D(2)), 20) == round(2 * upper(D(3)), 20)
    assert upper(D(10), D("1.5")) > upper(D(10))


@given(st.decimals(0, 10_000, places=6), st.decimals(1, 20, places=2))
def test_the_bound_is_above_what_was_seen_and_grows(n: Decimal, dispersion: Decimal) -> None:
    assert upper(n, dispersion) > n
    assert upper(n + D("0.000001"), dispersion) > upper(n, dispersion)
    assert upper(n, dispersion + 1) > upper(n, dispersion)


# Readings


@pytest.mark.parametrize(
    ("spend", "n", "fires", "clears"),
    [
        ("178.12", 0, False, False),  # 60 × 2.968737 = 178.1242
        ("178.13", 0, True, False),
        ("464.69", 3, False, False),  # 60 × 7.744987 = 464.6992
        ("464.70", 3, True, False),
        ("150.00", 3, False, False),  # CPA is 50, the clear threshold itself
        ("149.99", 3, False, True),
        ("0", 3, False, True),
        ("0.01", 0, False, False),
    ],
)
def test_cost_per_conversion(spend: str, n: int, fires: bool, clears: bool) -> None:
    reading = cost_reading(CPA, D(spend), D(n))
    assert (reading.known, reading.fires, reading.clears) == (True, fires, clears)


def test_a_cost_reading_carries_its_figures() -> None:
    reading = cost_reading(CPA, D("600"), D(3))
    assert reading.value == 200
    assert reading.bound == D("77.4694642857")  # 600 / 7.744987...
    assert cost_reading(CPA, D("600"), D(0)).value is None
    assert cost_reading(CPA, None, D(2)) == Reading(True, False, True, "spend_ended", conversions=D(2))


@pytest.mark.parametrize(
    ("value", "conversions", "fires", "clears", "ended"),
    [
        ("1.49", 20, True, False, "cleared"),
        ("1.5", 20, False, False, "cleared"),
        ("2", 20, False, False, "cleared"),
        ("2.01", 20, False, True, "cleared"),
        ("1.49", 19, False, False, "cleared"),
        ("2.01", 19, False, False, "cleared"),
        ("1.49", 0, False, True, "no_data"),
    ],
)
def test_plain_threshold_with_minimum_volume(
    value: str, conversions: int, fires: bool, clears: bool, ended: str
) -> None:
    reading = plain_reading(ROAS, D(value), {"attributed_conversions": D(conversions)})
    assert (reading.fires, reading.clears, reading.ended) == (fires, clears, ended)


def test_plain_threshold_above_with_one_line_for_both() -> None:
    rule = AlertRule(name="visits", metric="visits", threshold=D(100))
    assert [(r.fires, r.clears) for r in (plain_reading(rule, D(n), {}) for n in (99, 100, 101))] == [
        (False, True), (False, True), (True, False),
    ]  # fmt: skip
    assert plain_reading(rule, None, {}) == GONE


# Steps


def run(rule: AlertRule, readings: list[tuple[int, Reading]]) -> list[tuple[str, bool]]:
    """(phase or none, whether it fired or resolved) after each (second, reading)."""
    state, seen = None, []
    for second, reading in readings:
        state, changed = step(state, rule, SPRING, reading, second * SECOND)
        seen.append(("none" if state is None else state.phase, changed))
    return seen


def test_without_for_it_fires_at_once_and_resolves_beyond_the_band() -> None:
    assert run(CPA, [(0, LOW), (1, BAND), (2, HIGH), (3, BAND), (4, HIGH), (5, BAND), (6, LOW), (7, BAND), (8, HIGH)]) == [
        ("none", False), ("none", False), ("firing", True), ("firing", False), ("firing", False), ("firing", False),
        ("inactive", True), ("inactive", False), ("firing", True),
    ]  # fmt: skip


def test_for_asks_that_it_holds_all_the_time() -> None:
    assert run(PATIENT, [(0, HIGH), (599, HIGH), (600, BAND), (601, HIGH), (1200, HIGH), (1201, HIGH)]) == [
        ("pending", False), ("pending", False), ("none", False), ("pending", False), ("pending", False), ("firing", True),
    ]  # fmt: skip


def test_unknown_neither_fires_nor_resolves() -> None:
    assert run(CPA, [(0, UNKNOWN), (1, HIGH), (2, UNKNOWN), (3, LOW)]) == [
        ("none", False), ("firing", True), ("firing", False), ("inactive", True),
    ]  # fmt: skip


def test_time_unknown_does_not_count_for_for() -> None:
    assert run(PATIENT, [(0, HIGH), (100, UNKNOWN), (500, UNKNOWN), (900, HIGH), (1399, HIGH), (1400, HIGH)]) == [
        ("pending", False), ("pending", False), ("pending", False), ("pending", False), ("pending", False), ("firing", True),
    ]  # fmt: skip


def test_a_resolved_alert_is_listed_for_a_day() -> None:
    day = 24 * 3600
    assert run(CPA, [(0, HIGH), (1, LOW), (day, LOW), (day + 1, LOW)]) == [
        ("firing", True), ("inactive", True), ("inactive", False), ("none", False),
    ]  # fmt: skip


def test_each_firing_has_an_id_of_its_own() -> None:
    """Also when event time stands still between them."""
    first, _ = step(None, CPA, SPRING, HIGH, 7)
    assert first is not None
    assert first.id == alert_id("cpa", SPRING, 7)
    resolved, _ = step(first, CPA, SPRING, LOW, 7)
    again, fired = step(resolved, CPA, SPRING, HIGH, 7)
    assert again is not None
    assert fired
    assert again.id != first.id
    assert len({alert_id("a", SPRING, 1), alert_id("b", SPRING, 1), alert_id("a", ("", "", ""), 1), first.id}) == 4


def test_a_scope_that_shows_nothing_any_more_resolves_and_a_rule_that_is_gone_too() -> None:
    key: Key = ("cpa", SPRING)
    firing, _ = step(None, CPA, SPRING, HIGH, 1)
    assert firing is not None
    states, changes = advance([CPA], {key: firing}, {}, 2)
    assert [(change.state.phase, change.reading.ended) for change in changes] == [("inactive", "no_data")]
    assert states[key].id == firing.id
    states, changes = advance([CPA], {key: firing}, {}, 2, missing=UNKNOWN)
    assert (changes, states[key].unknown_since) == ([], 2)
    states, changes = advance([], {key: firing}, {key: HIGH}, 2)
    assert states == {}
    assert [(change.rule, change.reading.ended, change.state.id) for change in changes] == [
        (None, "rule_removed", firing.id)
    ]


# Properties

READINGS = st.sampled_from([HIGH, BAND, LOW, UNKNOWN])
TIMES = st.lists(st.tuples(st.integers(0, 15), READINGS), max_size=40)


@given(TIMES, st.sampled_from([CPA, PATIENT]))
def test_a_restart_between_any_two_steps_changes_nothing(steps: list[tuple[int, Reading]], rule: AlertRule) -> None:
    key: Key = (rule.name, SPRING)
    straight: dict[Key, AlertState] = {}
    restarted: dict[Key, AlertState] = {}
    now = 0
    for minutes, reading in steps:
        now += minutes * MINUTE
        straight, changes = advance([rule], straight, {key: reading}, now)
        stored = msgspec.json.decode(msgspec.json.encode(list(restarted.values())), type=list[AlertState])
        restarted, again = advance([rule], {(s.rule, s.names): s for s in stored}, {key: reading}, now)
        assert (restarted, again) == (straight, changes)


@given(TIMES, st.lists(st.tuples(st.integers(0, 15), st.sampled_from([BAND, UNKNOWN])), max_size=20))
def test_inside_the_band_nothing_ever_changes(
    before: list[tuple[int, Reading]], inside: list[tuple[int, Reading]]
) -> None:
    state, now = None, 0
    for minutes, reading in before:
        now += minutes * MINUTE
        state, _ = step(state, CPA, SPRING, reading, now)
    was_firing = state is not None and state.phase == "firing"
    for minutes, reading in inside:
        now += minutes * MINUTE
        state, changed = step(state, CPA, SPRING, reading, now)
        assert not changed
        assert (state is not None and state.phase == "firing") == was_firing


@given(TIMES, st.sampled_from([CPA, PATIENT]))
def test_firing_and_resolving_take_turns_and_the_id_is_kept(steps: list[tuple[int, Reading]], rule: AlertRule) -> None:
    state, now, said = None, 0, []
    for minutes, reading in steps:
        now += minutes * MINUTE
        state, changed = step(state, rule, SPRING, reading, now)
        if changed:
            assert state is not None
            assert reading.fires if state.phase == "firing" else reading.clears
            said.append((state.phase, state.id))
    assert [phase for phase, _ in said] == ["firing", "inactive"] * (len(said) // 2) + ["firing"] * (len(said) % 2)
    ids = [known for _, known in said]
    assert ids[1::2] == ids[: len(ids) // 2 * 2 : 2]
    assert len(set(ids)) == (len(said) + 1) // 2
