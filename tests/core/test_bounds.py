"""Bounds of a person's node, and what an event is called that comes too late to matter."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import pytest

from attribution.eligible import truncated
from attribution.facts import CONVERSION, TOUCH, Fact, Measure
from attribution.filing import conversion_facts
from attribution.fold import expires, fold
from attribution.nodes import customer
from attribution.nodes import order as orders
from attribution.nodes import person as module
from attribution.nodes.base import NEVER, Context, Folded
from attribution.nodes.state import Conversion, Node, Person
from attribution.rules import Dims, Rules
from models.settings import DAY, HOUR, Marketing
from models.settings import Conversion as Configurable
from models.wire import CLICK, AnyEntry, GivenTouch, OrderMove, OrderReport, RefundReport, Stage, Touch

D0 = 1_767_225_600_000_000  # 2026-01-01
RULES = Rules(Marketing(conversions={"signup": Configurable()}, journey_max=5), 1)
OPEN = Context(RULES)
LATER = Context(RULES, D0 + 20 * DAY, NEVER)
"""Everything of the first days is late by now, and nothing is sealed."""


class At:
    """One node and the facts it has filed so far."""

    def __init__(self) -> None:
        self.node: Node = None
        self.sums: Counter[tuple[int, Dims, Measure]] = Counter()

    def take(self, entry: AnyEntry, context: Context = OPEN) -> Folded:
        folded = fold(self.node, entry, context)
        if folded.dropped is None:
            self.node = folded.node
            self.add(folded.facts)
        else:
            assert not folded.facts
            assert not folded.moves
            assert not folded.changed
        return folded

    def add(self, facts: Any) -> None:
        for t, dims, measure, amount in facts:
            self.sums[t, dims, measure] += amount

    @property
    def person(self) -> Person:
        assert isinstance(self.node, Person)
        return self.node

    def filed(self, *conversions: Conversion) -> Counter[tuple[int, Dims, Measure]]:
        """What these conversions add, to the last unit."""
        made = At()
        for conversion in conversions:
            made.add(conversion_facts(conversion))
        return made.attributed()

    def attributed(self) -> Counter[tuple[int, Dims, Measure]]:
        credited = (CONVERSION, TOUCH)
        return Counter({key: amount for key, amount in self.sums.items() if key[2][3] in credited and amount})


def touch(t: int, n: int = 0, **changes: Any) -> Touch:
    made = Touch("c:x", n, 0, f"touch {n}", t, CLICK, "click", "Email", "(none)", "news", None, 0, None, 5)
    return msgspec.structs.replace(made, **changes)


def order(n: int, t: int, net: int = 10**8, gone: str | None = None) -> OrderMove:
    return OrderMove("c:x", n, 0, f"O{n}", t, f"order {n}", 10**8, net, None, None, None, 0, gone)


def stage(n: int, t: int, name: str = "signup", digest: int = 5) -> Stage:
    return Stage("c:x", n, 0, f"stage {n}", t, name, 10**6, 0, digest)


# Conversions


@pytest.fixture
def crowded(monkeypatch: pytest.MonkeyPatch) -> At:
    """Six orders at a person who may have four open."""
    monkeypatch.setattr(module, "CONVERSIONS_MAX", 4)
    at = At()
    at.take(touch(D0))
    for n in range(6):
        at.take(order(n, D0 + n * HOUR))
    return at


def test_the_earliest_conversions_are_closed_and_keep_what_they_filed(crowded: At) -> None:
    assert [found.id for found in crowded.person.conversions] == ["o:O2", "o:O3", "o:O4", "o:O5"]
    assert crowded.person.closed == D0 + HOUR
    like = crowded.person.conversions[0]
    whole = crowded.filed(*(like._replace(t=D0 + n * HOUR) for n in range(6)))
    assert crowded.attributed() == whole


@pytest.mark.parametrize("change", [
    order(0, D0, net=10**7), order(1, D0 + HOUR, gone="cancelled"), order(1, D0 + HOUR, gone="moved"), order(9, D0 + HOUR),
    stage(9, D0 + HOUR),
])  # fmt: skip
def test_changes_of_closed_conversions_are_trimmed(crowded: At, change: AnyEntry) -> None:
    node, before = crowded.node, crowded.attributed()
    assert crowded.take(change).dropped == "trimmed"
    assert crowded.node == node
    assert crowded.attributed() == before


def test_a_closed_conversion_is_published_once_more_as_truncated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CONVERSIONS_MAX", 2)
    at = At()
    told = [[made.id for made in at.take(order(n, D0 + n * HOUR)).changed] for n in range(4)]
    assert told == [["o:O0"], ["o:O1"], ["o:O0", "o:O2"], ["o:O1", "o:O3"]]
    like = at.person.conversions[0]
    assert [truncated(at.person, like._replace(t=D0 + n * HOUR), RULES) for n in range(4)] == [True, True, False, False]


def test_a_customer_with_thousands_of_orders() -> None:
    """With the bounds as they are: each order is credited once, the first alone is a new customer's, and the node grows no more."""
    rules = Rules(Marketing(history_since="2020-01-01"), 1)
    at = At()
    for n in range(3_000):
        if n % 100 == 0:
            at.take(touch(D0 + n * HOUR, n), Context(rules))
        assert at.take(order(n, D0 + n * HOUR + 1), Context(rules)).dropped is None
    assert len(at.person.conversions) == module.CONVERSIONS_MAX
    assert at.person.conversions[-1].id == "o:O2999"

    def credited(measure: str) -> int:
        return sum(
            amount
            for (_, _, key), amount in at.sums.items()
            if key[0] == measure and key[1:] == ("last_touch", "purchase", CONVERSION)
        )

    assert credited("conversions") == 3_000 * 10**6
    assert credited("attributed_net") == 3_000 * 10**8
    assert credited("new_customers") == 10**6
    # One that comes after a year without any is no new customer's either.
    assert at.take(order(3_000, D0 + 400 * DAY), Context(rules)).dropped is None
    assert credited("new_customers") == 10**6


def test_open_conversions_change_as_ever(crowded: At) -> None:
    def closed() -> Counter[tuple[int, Dims, Measure]]:
        """What is on file and not by the open ones."""
        left = Counter(crowded.attributed())
        left.subtract(crowded.filed(*crowded.person.conversions))
        return Counter({key: amount for key, amount in left.items() if amount})

    before = closed()
    assert len({key[0] for key in before}) == 2, "two conversions, one of them at the time of the touch"
    crowded.take(order(2, D0 + 2 * HOUR, gone="cancelled"))
    crowded.take(order(3, D0 + 3 * HOUR, net=10**7))
    crowded.take(touch(D0 + HOUR // 2, 1))
    assert [made.gone for made in crowded.person.conversions] == ["cancelled", None, None, None]
    assert all(made.filed and len(made.filed.touches) == 2 for made in crowded.person.conversions[1:])
    assert closed() == before
    # One more closes the next, though it counts no more.
    crowded.take(order(6, D0 + 6 * HOUR))
    assert crowded.person.closed == D0 + 2 * HOUR
    assert closed() == before


def test_a_conversion_before_all_that_are_open_is_not_lost_unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CONVERSIONS_MAX", 4)
    at = At()
    for n in range(1, 5):
        at.take(order(n, D0 + n * HOUR))
    before = at.attributed()
    folded = at.take(order(0, D0))
    assert folded.dropped == "trimmed" or at.attributed() != before


# Touches


def test_a_long_journey_keeps_the_latest_and_says_so() -> None:
    at = At()
    for n in range(8):
        at.take(touch(D0 + n * DAY, n))
    assert [event.event_id for event in at.person.events] == [f"touch {n}" for n in range(3, 8)]
    assert at.person.trimmed == D0 + 2 * DAY
    assert at.take(touch(D0 + DAY, 20)).dropped == "trimmed"
    assert at.take(touch(D0 + 2 * DAY, 21)).dropped == "trimmed"
    assert at.take(touch(D0 + 2 * DAY + 1, 22)).dropped is None
    reason = {}
    # What was cut reaches into the longest window of 30 days, and just not.
    for n, t in ((1, D0 + 2 * DAY + HOUR), (2, D0 + 3 * DAY - 1)):
        at.take(order(n, t))
        (found,) = (made for made in at.person.conversions if made.id == f"o:O{n}")
        assert found.filed is not None
        reason[n] = found.filed.reason
    assert reason == {1: "touches_trimmed", 2: "touches_trimmed"}


def test_what_was_cut_outside_the_window_is_not_the_reason() -> None:
    at = At()
    for n in range(8):
        at.take(touch(D0 + n * HOUR, n))
    assert at.person.trimmed == D0 + 2 * HOUR
    for n, t in ((1, D0 + 2 * HOUR + 30 * DAY), (2, D0 + 7 * HOUR + 30 * DAY + 1)):
        at.take(order(n, t))
    near, far = (made.filed for made in at.person.conversions)
    assert near is not None
    assert far is not None
    assert near.reason is None
    assert far.reason == "outside_window"


@pytest.mark.parametrize("behind", [-1, 0, 1])
def test_what_is_forgotten_was_not_known_any_more(behind: int) -> None:
    """An order just in time finds its person swept, or not yet: it says the same of a touch that long ago."""
    known, late = RULES.known, RULES.lateness
    reasons = []
    for sealed in (NEVER, D0 + known + late + behind):
        at = At()
        at.take(touch(D0, 0))
        context = Context(RULES, D0 + known + late + behind, sealed)
        if sealed > expires("c:1", at.node, RULES):
            at.node = None
        at.take(order(1, D0 + known + behind), context)
        (made,) = at.person.conversions
        assert made.filed is not None
        reasons.append(made.filed.reason)
    assert reasons == ["no_touch_known" if behind > 0 else "outside_window"] * 2


def test_a_lower_bound_cuts_all_at_once() -> None:
    at = At()
    for n in range(5):
        at.take(touch(D0 + n * DAY, n))
    at.take(touch(D0 + 5 * DAY, 5), Context(Rules(Marketing(journey_max=2), 2)))
    assert [event.event_id for event in at.person.events] == ["touch 4", "touch 5"]
    assert at.person.trimmed == D0 + 3 * DAY


# Late, duplicate, ignored


def test_a_duplicate_is_one_even_when_it_is_late_by_then() -> None:
    at = At()
    assert at.take(touch(D0)).dropped is None
    assert at.take(stage(1, D0)).dropped is None
    assert at.take(touch(D0), LATER).dropped == "duplicate"
    assert at.take(touch(D0, digest=6), LATER).dropped == "duplicate"
    assert at.take(stage(1, D0), LATER).dropped == "duplicate"
    assert at.take(touch(D0, 9), LATER).dropped == "late"
    assert at.take(stage(9, D0), LATER).dropped == "late"
    # Of one event the smallest wins; when it comes too late it is late, and what was applied stands.
    assert at.take(touch(D0, digest=4), LATER).dropped == "late"
    assert at.take(stage(1, D0, digest=4), LATER).dropped == "late"


def report(event_id: str = "report", digest: int = 5, t: int = D0) -> OrderReport:
    return OrderReport("o:O1", 0, 0, event_id, t, None, "c:x", 10**8, None, "EUR", 1, 0, None, 0, digest)


def test_a_duplicate_of_an_order_is_one_even_when_it_is_late_by_then() -> None:
    at = At()
    assert at.take(report()).dropped is None
    assert at.take(report(), LATER).dropped == "duplicate"


def test_a_late_order_is_late_and_a_refund_never() -> None:
    at = At()
    assert at.take(report(), LATER).dropped == "late"
    edge = LATER.watermark - RULES.lateness
    assert at.take(report(t=edge - 1), LATER).dropped == "late"
    assert at.take(report(t=edge), LATER).dropped is None
    refund = RefundReport("o:O1", 1, 0, "refund", D0, 10**7, None, 5)
    assert at.take(refund, LATER).dropped is None
    assert at.take(refund, LATER).dropped == "duplicate"


def test_an_unconfigured_stage_is_ignored_and_not_late() -> None:
    assert At().take(stage(1, D0, "webinar")).dropped == "ignored"
    assert At().take(stage(1, D0, "webinar"), LATER).dropped == "ignored"


def test_lateness_ends_included() -> None:
    edge = LATER.watermark - RULES.lateness
    assert At().take(touch(edge), LATER).dropped is None
    assert At().take(touch(edge - 1), LATER).dropped == "late"
    facts: list[Fact] = list(At().take(touch(edge), LATER).facts)
    assert facts


# Shown


def test_many_touches_on_file_close_the_earliest_conversions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each order has all five touches of the journey on file: eleven are two orders' and one touch more."""
    monkeypatch.setattr(module, "FILED_MAX", 14)
    at = At()
    for n in range(5):
        at.take(touch(D0 + n * HOUR, n))
    for n in range(5):
        at.take(order(n, D0 + DAY + n * HOUR))
    assert [made.id for made in at.person.conversions] == ["o:O2", "o:O3", "o:O4"]
    assert at.person.closed == D0 + DAY + HOUR
    # What was closed stays on file.
    like = at.person.conversions[0]
    assert at.attributed() == at.filed(*(like._replace(t=D0 + DAY + n * HOUR) for n in range(5)))


def test_a_cut_journey_marks_what_its_windows_reach_and_tells_it_once() -> None:
    at = At()
    at.take(touch(D0, 0))
    at.take(touch(D0 + 10 * DAY, 20))
    # A day more than the longest window: what is gone may have been the click of which a touch inside it is the landing.
    for n, t in ((1, D0 + 31 * DAY), (2, D0 + 31 * DAY + 1)):
        at.take(order(n, t))
    told = []
    for n in range(1, 7):
        folded = at.take(touch(D0 + 40 * DAY + n, n))
        told.append([made.id for made in folded.changed])
    # The first touch falls off when the sixth comes; with the next, one that reaches the second order.
    assert told == [[], [], [], ["o:O1"], ["o:O2"], []]
    assert [truncated(at.person, made, RULES) for made in at.person.conversions] == [True, True]
    first, second = at.person.conversions
    assert first.filed is not None
    assert [found.touch_id for found in first.filed.touches] == ["touch 20"], "the credit it has, it keeps"
    uncut = at.person._replace(trimmed=D0)
    assert [truncated(uncut, made, RULES) for made in (first, second)] == [True, False]


def test_the_previous_conversion_is_known_when_it_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CONVERSIONS_MAX", 1)
    context = Context(Rules(Marketing(path="since_previous"), 1))
    at = At()
    at.take(touch(D0, 0), context)
    at.take(order(1, D0 + HOUR), context)
    at.take(order(2, D0 + 3 * HOUR), context)
    at.take(touch(D0 + 2 * HOUR, 1), context)
    (left,) = at.person.conversions
    assert left.filed is not None
    assert [found.touch_id for found in left.filed.touches] == ["touch 1"]


def test_one_refund_and_one_report_too_many_are_trimmed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orders, "PER_ORDER_MAX", 2)
    at = At()
    for n in range(2):
        assert at.take(report(f"report {n}")).dropped is None
        assert at.take(RefundReport("o:O1", n, 0, f"refund {n}", D0, 10**6, None, 5)).dropped is None
    assert at.take(report("report 2")).dropped == "trimmed"
    assert at.take(RefundReport("o:O1", 2, 0, "refund 2", D0, 10**6, None, 5)).dropped == "trimmed"
    assert at.take(report("report 1")).dropped == "duplicate"
    assert at.take(RefundReport("o:O1", 1, 0, "refund 1", D0, 10**6, None, 5)).dropped == "duplicate"


def given(n: int, t: int, device: str) -> GivenTouch:
    return GivenTouch("c:x", n, 0, device, f"touch {n}", t, CLICK, "click", "Email", "(none)", "news", None, 0, 5)


def test_of_too_many_echoes_the_earliest_is_let_go_and_its_time_sealed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The third echo is one too many: what was let go can't come back when its event is taken back, so nothing there changes any more."""
    monkeypatch.setattr(customer, "SPARES_MAX", 2)
    at = At()
    for n in (2, 0, 1):
        at.take(given(n, D0 + n * HOUR, "a:d1"))
        at.take(given(n, D0 + n * HOUR, "a:d2"))
    assert at.person.given is not None
    assert sorted(spare.what.event_id for spare in at.person.given.spare_touches) == ["touch 1", "touch 2"]
    assert at.person.trimmed == D0
    assert at.take(given(3, D0, "a:d1")).dropped == "trimmed"
