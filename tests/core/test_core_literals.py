"""The core against journeys worked by hand: straight, shuffled with duplicates, and its sums."""

from __future__ import annotations

from random import Random

import pytest

from tests.core.replayed import lines, replay
from tests.literals import CASES, Case


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_worked_by_hand(case: Case) -> None:
    assert lines(replay(case.events, case.marketing).attributions()) == case.expected


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_order_of_arrival_and_repetition_change_nothing(case: Case) -> None:
    events = case.events * 2
    Random(len(events)).shuffle(events)
    assert lines(replay(events, case.marketing).attributions()) == case.expected
