"""One conversion shared among its touches: each model by hand, time decay against two oracles, and the shares."""

from __future__ import annotations

import random
from decimal import ROUND_FLOOR, Context, Decimal
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attribution.credit import share, weights
from models.settings import DAY, RULE_MODELS

WEEK = 7 * DAY
UNIT = 2**40
WHOLE = 1_000_000


def touches(*ages: int, direct: str = "") -> list[tuple[int, bool]]:
    """Touches of these ages before the last moment; `direct` has a d for each direct one, as in "-d-"."""
    flags = direct or "-" * len(ages)
    return [(1_000 * DAY - age, flag == "d") for age, flag in zip(ages, flags, strict=True)]


def decay(delta: int, half_life: int) -> int:
    return weights("time_decay", [(0, False), (delta, False)], half_life)[0]


ONE, TWO, THREE, FIVE = (tuple(range((n - 1) * WEEK, -1, -WEEK)) for n in (1, 2, 3, 5))


@pytest.mark.parametrize(
    ("model", "ages", "expected"),
    [
        ("first_touch", ONE, [1]),
        ("first_touch", TWO, [1, 0]),
        ("first_touch", THREE, [1, 0, 0]),
        ("first_touch", FIVE, [1, 0, 0, 0, 0]),
        ("last_touch", ONE, [1]),
        ("last_touch", TWO, [0, 1]),
        ("last_touch", THREE, [0, 0, 1]),
        ("last_touch", FIVE, [0, 0, 0, 0, 1]),
        ("last_non_direct", ONE, [1]),
        ("last_non_direct", TWO, [0, 1]),
        ("last_non_direct", THREE, [0, 0, 1]),
        ("last_non_direct", FIVE, [0, 0, 0, 0, 1]),
        ("first_and_last", ONE, [1]),
        ("first_and_last", TWO, [1, 1]),
        ("first_and_last", THREE, [1, 0, 1]),
        ("first_and_last", FIVE, [1, 0, 0, 0, 1]),
        ("linear", ONE, [1]),
        ("linear", TWO, [1, 1]),
        ("linear", THREE, [1, 1, 1]),
        ("linear", FIVE, [1, 1, 1, 1, 1]),
        ("time_decay", ONE, [UNIT]),
        ("time_decay", TWO, [UNIT // 2, UNIT]),
        ("time_decay", THREE, [UNIT // 4, UNIT // 2, UNIT]),
        ("time_decay", FIVE, [UNIT // 16, UNIT // 8, UNIT // 4, UNIT // 2, UNIT]),
        ("position_based", ONE, [1]),
        ("position_based", TWO, [1, 1]),
        ("position_based", THREE, [2, 1, 2]),
        ("position_based", FIVE, [6, 1, 1, 1, 6]),
        ("w_shaped", ONE, [1]),
        ("w_shaped", TWO, [9, 1]),
        ("w_shaped", THREE, [18, 1, 1]),
        ("w_shaped", FIVE, [36, 1, 1, 1, 1]),
        ("full_path", ONE, [2]),
        ("full_path", TWO, [1, 1]),
        ("full_path", THREE, [9, 2, 9]),
        ("full_path", FIVE, [27, 2, 2, 2, 27]),
    ],
)
def test_weights_by_hand(model: str, ages: tuple[int, ...], expected: list[int]) -> None:
    assert weights(model, touches(*ages), WEEK) == expected


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        # 1 000 000 micro-conversions, over touches 14, 7 and 0 days old
        ("first_touch", [1_000_000, 0, 0]),
        ("last_touch", [0, 0, 1_000_000]),
        ("last_non_direct", [0, 0, 1_000_000]),
        ("first_and_last", [500_000, 0, 500_000]),
        ("linear", [333_334, 333_333, 333_333]),
        ("time_decay", [142_857, 285_714, 571_429]),  # sevenths: the largest remainder is the last's, 3/7
        ("position_based", [400_000, 200_000, 400_000]),
    ],
)
def test_credits_of_three_touches_by_hand(model: str, expected: list[int]) -> None:
    assert share(WHOLE, weights(model, touches(*THREE), WEEK)) == expected


def test_credits_of_five_touches_by_hand() -> None:
    five = touches(*FIVE)
    assert share(WHOLE, weights("position_based", five, WEEK)) == [400_000, 66_667, 66_667, 66_666, 400_000]
    # 1, 2, 4, 8, 16 of 31: floors 32258 64516 129032 258064 516129, remainders 2 4 8 16 1 of 31; one unit is left
    assert share(WHOLE, weights("time_decay", five, WEEK)) == [32_258, 64_516, 129_032, 258_065, 516_129]


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("-", [1]),
        ("d", [1]),
        ("-d", [1, 0]),
        ("d-", [0, 1]),
        ("dd", [0, 1]),
        ("--d", [0, 1, 0]),
        ("-dd", [1, 0, 0]),
        ("ddd", [0, 0, 1]),
        ("-d-dd", [0, 0, 1, 0, 0]),
        ("ddddd", [0, 0, 0, 0, 1]),
    ],
)
def test_last_non_direct_passes_over_direct(flags: str, expected: list[int]) -> None:
    assert weights("last_non_direct", touches(*range(len(flags) - 1, -1, -1), direct=flags), WEEK) == expected


@pytest.mark.parametrize("model", [m for m in RULE_MODELS if m != "last_non_direct"])
def test_no_other_model_looks_at_direct(model: str) -> None:
    mixed = weights(model, touches(*FIVE, direct="d-dd-"), WEEK)
    assert mixed == weights(model, touches(*FIVE), WEEK) == weights(model, touches(*FIVE, direct="ddddd"), WEEK)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("first_touch", [1, 0, 0]),
        ("last_touch", [0, 0, 1]),
        ("last_non_direct", [0, 1, 0]),
        ("first_and_last", [1, 0, 1]),
        ("linear", [1, 1, 1]),
        ("time_decay", [UNIT, UNIT, UNIT]),
        ("position_based", [2, 1, 2]),
    ],
)
def test_equal_times_go_by_journey_order(model: str, expected: list[int]) -> None:
    assert weights(model, touches(0, 0, 0, direct="--d"), WEEK) == expected


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("first_touch", [1, 0, 0]),
        ("last_touch", [0, 0, 1]),
        ("last_non_direct", [0, 0, 1]),
        ("first_and_last", [1, 0, 0]),
        ("linear", [1, 0, 0]),
        ("time_decay", [0, 0, 1]),
        ("position_based", [1, 0, 0]),
    ],
)
def test_revenue_of_one_micro_goes_to_one_touch(model: str, expected: list[int]) -> None:
    assert share(1, weights(model, touches(*THREE), WEEK)) == expected


T0, T1, T2, T3, T4 = (t for t, _ in touches(*FIVE))


@pytest.mark.parametrize(
    ("model", "stages", "expected"),
    [
        # Per cent of a conversion, over five touches.
        ("w_shaped", (T1, T3), [30, 30, 5, 30, 5]),
        ("w_shaped", (T2 - 1, T3 + 1), [30, 30, 5, 30, 5]),
        ("w_shaped", (T0, T4), ["60", "10/3", "10/3", "10/3", "30"]),
        ("w_shaped", (T2, T2), ["30", "10/3", "60", "10/3", "10/3"]),
        ("w_shaped", (T2, None), ["45", "10/3", "45", "10/3", "10/3"]),
        ("w_shaped", (T0 - 1, T2), ["45", "10/3", "45", "10/3", "10/3"]),
        ("w_shaped", (T0 - 1, None), ["90", "2.5", "2.5", "2.5", "2.5"]),
        ("full_path", (T1, T3), ["22.5", "22.5", "10", "22.5", "22.5"]),
        ("full_path", (T1, None), ["30", "30", "5", "5", "30"]),
        ("full_path", (T4, T4), ["22.5", "10/3", "10/3", "10/3", "67.5"]),
        ("full_path", (None, None), ["45", "10/3", "10/3", "10/3", "45"]),
    ],
)
def test_roles_by_hand(model: str, stages: tuple[int | None, int | None], expected: list[str]) -> None:
    found = weights(model, touches(*FIVE), WEEK, stages)
    assert [Fraction(100 * weight, sum(found)) for weight in found] == [Fraction(part) for part in expected]


@pytest.mark.parametrize(
    ("model", "stages", "expected"),
    [("w_shaped", (T3, T4), [1, 1, 1]), ("full_path", (T3, T4), [1, 1, 2]), ("full_path", (T3, None), [1, 1, 1])],
)
def test_without_a_touch_without_a_role_the_roles_have_all(
    model: str, stages: tuple[int | None, int | None], expected: list[int]
) -> None:
    assert weights(model, touches(*THREE), WEEK, stages) == expected


def test_equal_times_at_a_stage_go_to_the_later_in_journey_order() -> None:
    assert weights("w_shaped", touches(5, 5, 0), WEEK, (1_000 * DAY - 5, None)) == [9, 9, 2]


@pytest.mark.parametrize("model", RULE_MODELS)
@given(ages=st.lists(st.integers(0, 400 * DAY), min_size=1, max_size=40), total=st.integers(-(10**15), 10**15))
def test_every_model_gives_weights_that_can_be_shared(model: str, ages: list[int], total: int) -> None:
    result = weights(model, touches(*sorted(ages, reverse=True)), WEEK)
    assert len(result) == len(ages)
    assert min(result) >= 0
    assert sum(share(total, result)) == total


def test_unknown_model_and_no_touches_are_refused() -> None:
    with pytest.raises(ValueError, match=r"'markov'.*first_touch.*position_based.*full_path"):
        weights("markov", touches(0), WEEK)
    for model in RULE_MODELS:
        with pytest.raises(ValueError, match="without touches"):
            weights(model, [], WEEK)


def test_time_decay_refuses_what_has_no_age() -> None:
    for half_life in (0, -1):
        with pytest.raises(ValueError, match="half_life"):
            weights("time_decay", touches(1, 0), half_life)
    with pytest.raises(ValueError, match="journey order"):
        weights("time_decay", touches(0, 1), WEEK)


# Time decay: floor(2**40 * 2**(-delta / h))


@pytest.mark.parametrize(
    ("delta", "half_life", "expected"),
    [
        (0, WEEK, 1_099_511_627_776),
        (0, 1, 1_099_511_627_776),
        (WEEK, WEEK, 549_755_813_888),
        (WEEK // 2, WEEK, 777_472_127_993),  # the square root of 2**79, checked below
        (1, WEEK, 1_099_511_627_774),  # less by 2**40 ln 2 / 604800000000 = 1.26
        (40 * WEEK, WEEK, 1),
        (40 * WEEK - 1, WEEK, 1),
        (40 * WEEK + 1, WEEK, 0),
        (41 * WEEK, WEEK, 0),
        (41 * WEEK - 1, WEEK, 0),
        (40, 1, 1),
        (41, 1, 0),
        (39, 1, 2),
        (10**30, 1, 0),
        (3, 2, 388_736_063_996),  # the square root of 2**77
    ],
)
def test_time_decay_by_hand(delta: int, half_life: int, expected: int) -> None:
    assert decay(delta, half_life) == expected


def test_square_roots_used_by_hand_are_right() -> None:
    assert 777_472_127_993**2 < 2**79 < 777_472_127_994**2
    assert 388_736_063_996**2 < 2**77 < 388_736_063_997**2


@given(st.integers(1, 60).flatmap(lambda q: st.tuples(st.integers(0, 41 * q), st.just(q))), st.integers(1, 10**12))
def test_time_decay_satisfies_its_definition_in_integers(ratio: tuple[int, int], unit: int) -> None:
    # w = floor(2**(40 - p/q)) exactly when w**q <= 2**(40q - p) < (w + 1)**q; multiplied out by 2**p.
    p, q = ratio
    w = decay(p * unit, q * unit)
    assert w**q << p <= 1 << 40 * q < (w + 1) ** q << p


def test_time_decay_agrees_with_decimals_of_80_digits() -> None:
    context = Context(prec=80)
    numbers = random.Random(20260131)

    def expected(delta: int, half_life: int) -> int:
        age = context.divide(Decimal(delta), Decimal(half_life))
        value = context.multiply(Decimal(UNIT), context.power(Decimal(2), -age))
        return int(value.to_integral_value(ROUND_FLOOR))

    for _ in range(4_000):
        half_life = int(10 ** numbers.uniform(0, 18))  # a microsecond to thirty thousand years
        delta = numbers.randint(0, 42 * half_life)
        assert decay(delta, half_life) == expected(delta, half_life), (delta, half_life)
    for _ in range(1_000):
        half_life = numbers.randint(1, 60 * DAY)
        delta = min(int(10 ** numbers.uniform(0, 14)), 42 * half_life)
        assert decay(delta, half_life) == expected(delta, half_life), (delta, half_life)


def test_time_decay_is_exact_next_to_a_boundary() -> None:
    # With so long a half-life, ages next to each other give values within 10**-48 on both sides of an integer m.
    context, half_life = Context(prec=120), 10**60
    numbers = random.Random(7)
    for m in (3, UNIT - 1, *(numbers.randrange(5, UNIT, 2) for _ in range(20))):
        age = context.subtract(Decimal(40), context.divide(context.ln(Decimal(m)), context.ln(Decimal(2))))
        delta = int(context.multiply(age, Decimal(half_life)))
        assert (decay(delta, half_life), decay(delta + 1, half_life)) == (m, m - 1)
    assert decay(1, half_life) == UNIT - 1


@given(st.lists(st.integers(0, 400 * DAY), min_size=2, max_size=20), st.integers(1, 100 * DAY), st.integers(0, 10**16))
def test_time_decay_never_falls_along_the_journey_and_knows_no_epoch(ages: list[int], h: int, later: int) -> None:
    journey = touches(*sorted(ages, reverse=True))
    result = weights("time_decay", journey, h)
    assert result == sorted(result)
    assert result[-1] == UNIT
    assert result == weights("time_decay", [(t + later, direct) for t, direct in journey], h)


# Shares

Weights = st.lists(st.integers(0, 2**45), min_size=1, max_size=30).filter(any)
Small = st.lists(st.integers(0, 6), min_size=1, max_size=12).filter(any)
Totals = st.integers(-(10**16), 10**16) | st.integers(-40, 40)


@pytest.mark.parametrize(
    ("total", "shares_of", "expected"),
    [
        (0, [1, 2, 3], [0, 0, 0]),
        (10, [1], [10]),
        (10, [0, 7, 0], [0, 10, 0]),
        (-10, [0, 0, 7], [0, 0, -10]),
        (10, [1, 1, 1], [4, 3, 3]),
        (11, [1, 1, 1], [4, 4, 3]),
        (-10, [1, 1, 1], [-4, -3, -3]),
        (1, [1, 1], [1, 0]),
        (-1, [1, 1], [-1, 0]),
        (7, [1, 2], [2, 5]),  # 2 1/3, 4 2/3
        (7, [2, 1], [5, 2]),
        (-7, [1, 2], [-2, -5]),
        (3, [3, 1, 1, 1], [2, 1, 0, 0]),  # 1 1/2 and three times 1/2: two left, to the earliest two
        (3, [1, 1, 1, 3], [1, 1, 0, 1]),
        (2, [1, 0, 1, 0, 1], [1, 0, 1, 0, 0]),
        (5, [0, 3, 3], [0, 3, 2]),
        (1_000_000, [6, 1, 1, 1, 6], [400_000, 66_667, 66_667, 66_666, 400_000]),
    ],
)
def test_share_by_hand(total: int, shares_of: list[int], expected: list[int]) -> None:
    assert share(total, shares_of) == expected


@pytest.mark.parametrize("bad", [[], [0], [0, 0, 0], [1, -1], [-1], [5, -1, 3], [0, -2], [0, 4, -1, 0]])
def test_share_refuses_negative_weights_and_none_positive(bad: list[int]) -> None:
    for total in (0, 1, -1, WHOLE):
        with pytest.raises(ValueError, match="none may be negative, one must be positive"):
            share(total, bad)


@given(Totals, Small | Weights)
def test_shares_are_those_of_the_definition(total: int, given_weights: list[int]) -> None:
    quotas = [Fraction(abs(total) * w, sum(given_weights)) for w in given_weights]
    expected = [int(quota) for quota in quotas]
    rank = sorted(range(len(quotas)), key=lambda i: (int(quotas[i]) - quotas[i], i))
    for i in rank[: abs(total) - sum(expected)]:
        expected[i] += 1
    assert share(total, given_weights) == [part if total > 0 else -part for part in expected]


@given(Totals, Small | Weights)
def test_shares_sum_to_the_total_and_a_zero_weight_gets_none(total: int, given_weights: list[int]) -> None:
    parts = share(total, given_weights)
    assert sum(parts) == total
    assert all(part == 0 for part, weight in zip(parts, given_weights, strict=True) if weight == 0)
    assert share(-total, given_weights) == [-part for part in parts]


@given(st.integers(0, 10**16) | st.integers(0, 40), Small | Weights)
def test_a_larger_weight_never_gets_less(total: int, given_weights: list[int]) -> None:
    ranked = sorted(zip(given_weights, share(total, given_weights), strict=True))
    for (light, small), (heavy, large) in pairwise(ranked):
        assert small <= large if light < heavy else abs(large - small) <= 1


@given(st.integers(0, 10**16) | st.integers(0, 40), Small, st.randoms(use_true_random=False))
def test_of_equal_weights_the_earlier_gets_the_odd_units(
    total: int, given_weights: list[int], rng: random.Random
) -> None:
    rng.shuffle(given_weights)
    parts = share(total, given_weights)
    for weight in set(given_weights):
        of_equals = [part for part, w in zip(parts, given_weights, strict=True) if w == weight]
        assert of_equals == sorted(of_equals, reverse=True)
        assert of_equals[0] - of_equals[-1] <= 1


@given(Totals, Weights.filter(lambda w: len(set(w)) == len(w)), st.randoms(use_true_random=False))
def test_without_ties_order_does_not_matter(total: int, given_weights: list[int], rng: random.Random) -> None:
    whole = sum(given_weights)
    if len({abs(total) * w % whole for w in given_weights}) < len(given_weights):
        return  # remainders tie, and ties go by order
    order = list(range(len(given_weights)))
    rng.shuffle(order)
    parts = share(total, given_weights)
    assert share(total, [given_weights[i] for i in order]) == [parts[i] for i in order]


@given(Totals, Small | Weights, st.integers(1, 2**50))
def test_only_the_ratio_of_weights_matters(total: int, given_weights: list[int], factor: int) -> None:
    assert share(total, [w * factor for w in given_weights]) == share(total, given_weights)
