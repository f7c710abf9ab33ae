"""A device's node by hand: bounds, what outruns what, and what a withdrawal leaves."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import msgspec

from attribution.fold import expires, fold
from attribution.nodes import device as module
from attribution.nodes.base import Context, Folded
from attribution.nodes.state import Node, Person
from attribution.rules import Rules
from models.settings import DAY, HOUR, Marketing
from models.wire import CLICK, AnyEntry, GivenTouch, Link, Missed, OrderMove, Touch, Withdrawal
from streams.codec import Names, pack_node, unpack_node

D0 = 1_767_225_600_000_000
RULES = Rules(Marketing(journey_max=5), 1)


class At:
    """One node and what it has sent."""

    def __init__(self, rules: Rules = RULES) -> None:
        self.node: Node = None
        self.rules = rules
        self.moves: list[AnyEntry] = []

    def take(self, entry: AnyEntry, watermark: int = -(1 << 62)) -> Folded:
        folded = fold(self.node, entry, Context(self.rules, watermark, watermark))
        if folded.dropped is None:
            self.node = folded.node
            self.moves += folded.moves
        return folded

    @property
    def person(self) -> Person:
        assert isinstance(self.node, Person)
        return self.node


def touch(n: int, t: int | None = None, key: str = "a:d") -> Touch:
    at = D0 + n * HOUR if t is None else t
    return Touch(key, n, 0, f"e{n}", at, CLICK, "click", "Email", "(none)", "news", None, 0, None, n)


def given(n: int, by: str, t: int, digest: int = 1) -> GivenTouch:
    return GivenTouch("c:x", n, 0, by, "e", t, CLICK, "click", "Email", "(none)", "news", None, 0, digest)


def link(n: int, customer: str, t: int | None = None) -> Link:
    return Link("a:d", n, 0, f"l{n:09}", D0 + n * HOUR if t is None else t, customer)


def order(t: int, device: str | None = None, gone: str | None = None, net: int = 10**8) -> OrderMove:
    return OrderMove("c:x", 0, 0, "O", t, "o", 10**8, net, None, None, None, 0, gone, device)


def test_a_robot_on_a_linked_device_keeps_no_more_than_a_journey() -> None:
    at = At()
    at.take(link(0, "c:x"))
    for n in range(1, 3_000):
        at.take(touch(n, D0 + n * 60_000_000))
    assert at.person.device is not None
    assert len(at.person.device.touches) == 5
    assert at.person.events == ()
    assert at.person.trimmed == D0 + 2_994 * 60_000_000
    assert at.take(touch(5_000, D0 + 2_994 * 60_000_000)).dropped == "trimmed"


def told(moves: Any) -> dict[str, int]:
    """Up to when customers are told that events are gone, in hours."""
    return {move.key: (move.t - D0) / HOUR for move in moves if isinstance(move, Missed)}


def robot(*links: tuple[float, str], rules: Rules = RULES) -> At:
    """A linked device with eight touches, an hour each, of which the first three are let go."""
    at = At(rules)
    for n, (hour, customer) in enumerate(links):
        at.take(link(n, customer, D0 + int(hour * HOUR)))
    for n in range(1, 9):
        at.take(touch(n))
    assert at.person.trimmed == D0 + 3 * HOUR
    assert not told(at.moves)
    return at


def test_a_login_is_told_what_the_device_let_go() -> None:
    at = robot()
    at.take(link(0, "c:x", D0 + 20 * HOUR))
    assert told(at.moves) == {"c:x": 3}
    # An earlier login takes the time up to the next one: what was let go there is missing at one, or is the other's for good.
    folded = at.take(link(1, "c:y", D0 + 2 * HOUR))
    assert told(folded.moves) == {"c:x": 3, "c:y": 3}
    folded = at.take(link(2, "c:z", D0 + HOUR))
    assert told(folded.moves) == {"c:y": 2 - 1 / HOUR, "c:z": 2 - 1 / HOUR}
    assert told(at.take(link(3, "c:z", D0 + 9 * HOUR)).moves) == {}, "all of that time can move"


def test_of_a_login_that_goes_what_was_let_go_stays_where_it_is() -> None:
    at = robot((0, "c:x"))
    folded = at.take(link(1, "c:y", D0 + 2 * HOUR))
    assert {move.event_id for move in folded.moves if isinstance(move, GivenTouch)} == {f"e{n}" for n in range(4, 9)}
    assert told(folded.moves) == {"c:x": 3, "c:y": 3}
    late = at.take(touch(9, D0 + HOUR))
    assert late.dropped == "trimmed"
    assert told(late.moves) == {"c:x": 1}


def test_each_customer_of_a_device_that_is_shared_now_is_told() -> None:
    rules = Rules(Marketing(journey_max=5, device_customers=3), 1)
    at = robot((0, "c:x"), (1.5, "c:y"), (2.5, "c:z"), rules=rules)
    micro = 1 / HOUR
    assert told(at.take(link(3, "c:w", D0 + 20 * HOUR)).moves) == {"c:x": 1.5 - micro, "c:y": 2.5 - micro, "c:z": 3}


def test_a_login_before_a_device_was_shared_is_told_up_to_then() -> None:
    rules = Rules(Marketing(journey_max=5, device_customers=1, claim_history="1d"), 1)
    at = robot((0, "c:x"), (25, "c:y"), rules=rules)  # from hour 1 on it is shared, and claims nothing
    # An earlier login makes it shared from a day before the second one on: what c:x had in between, and what c:z claims before.
    micro = 1 / HOUR
    assert told(at.take(link(2, "c:z", D0 - HOUR)).moves) == {"c:x": 1 - micro, "c:z": -24 - micro}


def test_a_conversion_that_was_let_go_is_given_to_nobody_else(monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "AWAY_MAX", 2)
    at = At()
    at.take(link(0, "c:x"))
    for n in range(1, 4):
        at.take(msgspec.structs.replace(order(D0 + n * HOUR), key="a:d", order_id=f"O{n}"))
    at.take(link(1, "c:y", D0 + HOUR))
    assert [move.key for move in at.moves if isinstance(move, OrderMove)] == ["c:x"] * 3 + ["c:y"] * 2
    changed = msgspec.structs.replace(order(D0 + HOUR, net=1), key="a:d", order_id="O1")
    assert at.take(changed).dropped == "trimmed"


def test_what_a_device_let_go_marks_conversions_and_outlives_all_else() -> None:
    at = At()
    at.take(order(D0 + 2 * DAY))
    at.take(msgspec.structs.replace(order(D0 + 40 * DAY), order_id="P"))
    folded = at.take(Missed("c:x", 0, 0, "a:d", D0 + 5 * DAY))
    reasons = [(one.id, one.filed and one.filed.reason) for one in folded.changed]
    assert reasons == [("o:O", "touches_trimmed"), ("o:P", "outside_window")]
    # A robot's device says so of each event that it gets too late: of those up to then the customer's node is not written again.
    for t in (D0 + DAY, D0 + 5 * DAY):
        folded = at.take(Missed("c:x", 0, 0, "a:e", t))
        assert (folded.dropped, folded.changed) == ("duplicate", ())
    assert at.person.given is not None
    assert at.person.given.missed == D0 + 5 * DAY
    alone = At()
    alone.take(Missed("c:x", 0, 0, "a:d", D0 + 5 * DAY))
    assert expires("c:x", alone.node, RULES) == D0 + 5 * DAY + RULES.keep
    names = Names({})
    assert unpack_node(pack_node(alone.node, names), names) == alone.node


def test_links_are_bounded_by_what_can_still_change(monkeypatch: Any) -> None:
    at = At(Rules(Marketing(lateness="1d", claim_history="1d")))
    for n in range(400):
        at.take(link(n, f"c:{n % 3}"), D0 + n * HOUR)
    assert at.person.device is not None
    # Two days by the hour, and the one before them.
    assert len(at.person.device.links) in (49, 50)
    monkeypatch.setattr(module, "LINKS_MAX", 10)
    many = At()
    for n in range(30):
        many.take(link(n, f"c:{n}"))
    assert many.person.device is not None
    assert len(many.person.device.links) == 10
    assert many.take(touch(19)).dropped == "trimmed"
    assert many.take(touch(20)).dropped is None


def test_of_one_hour_and_customer_the_earliest_link_is_kept_in_any_order() -> None:
    entries = [link(1, "c:x", D0 + 5), link(2, "c:x", D0 + 3), link(3, "c:y", D0 + 4), link(4, "c:x", D0 + HOUR)]
    found = set()
    for order_ in permutations(entries):
        at = At()
        for entry in order_:
            at.take(entry)
        assert at.person.device is not None
        found.add(at.person.device)
    (device,) = found
    assert [(one.t, one.customer) for one in device.links] == [(D0 + 3, "c:x"), (D0 + 4, "c:y"), (D0 + HOUR, "c:x")]


def test_the_claim_ends_to_the_microsecond() -> None:
    at = At()
    first = D0 + 100 * DAY
    at.take(touch(1, first - RULES.claim))
    at.take(touch(2, first - RULES.claim - 1))
    at.take(link(1, "c:x", first))
    assert [move.event_id for move in at.moves if isinstance(move, GivenTouch)] == ["e1"]
    assert [event.event_id for event in at.person.events] == ["e2"]


def test_a_customers_own_event_beats_those_of_devices_in_any_order() -> None:
    own = Touch("c:x", 9, 0, "e", D0 + 9, CLICK, "click", "Email", "(none)", "own", None, 0, None, 9)
    entries: list[AnyEntry] = [own, given(1, "a:1", D0 + 5), given(2, "a:2", D0 + 3)]
    found = set()
    for order_ in permutations(entries):
        at = At()
        for entry in order_:
            at.take(entry)
        assert at.person.given is not None
        found.add((at.person.events, frozenset(at.person.given.spare_touches), tuple(at.person.given.touches)))
    ((events, spares, through),) = found
    assert [(event.t, event.dims[2]) for event in events] == [(D0 + 9, "own")]
    assert {spare.device for spare in spares} == {"a:1", "a:2"}
    assert through == ()


def test_a_withdrawal_takes_only_what_that_device_gave() -> None:
    at = At()
    at.take(given(1, "a:1", D0 + 5))
    at.take(given(2, "a:2", D0 + 3))
    at.take(Withdrawal("c:x", 3, 0, "a:3", "e", False))
    assert [event.t for event in at.person.events] == [D0 + 3]
    at.take(Withdrawal("c:x", 4, 0, "a:2", "e", False))
    assert [event.t for event in at.person.events] == [D0 + 5], "the other device's stands again"
    at.take(Withdrawal("c:x", 5, 0, "a:1", "e", False))
    assert at.person == Person()


def test_an_order_that_is_given_twice_counts_once_and_outlives_the_withdrawal_of_one() -> None:
    """The order moves from one device to another, or to its customer directly: its withdrawal may come after it."""
    for last in (None, "a:2"):
        for withdrawn_first in (True, False):
            at = At()
            at.take(order(D0, "a:1"))
            rest: list[AnyEntry] = [Withdrawal("c:x", 2, 0, "a:1", "o:O", True), order(D0, last, net=7 * 10**7)]
            for entry in rest if withdrawn_first else reversed(rest):
                at.take(entry)
            assert [(one.id, one.net) for one in at.person.conversions] == [("o:O", 7 * 10**7)]
            assert at.person.given is None or not at.person.given.spare_conversions
            at.take(order(D0, last, gone="moved"))
            assert at.person.conversions == ()
