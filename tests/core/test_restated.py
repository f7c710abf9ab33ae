"""What a conversion remembers of its restatements."""

from __future__ import annotations

from attribution.fold import fold
from attribution.nodes.base import Context
from attribution.nodes.state import Person, Restated
from attribution.restated import remember
from attribution.rules import Rules
from models.settings import DAY, HOUR, MINUTE, Marketing
from models.wire import Withdrawal
from tests.core.test_bounds import D0, At, given, order, stage, touch

NOW = Context(Rules(Marketing(models=("linear",), headline_models=("linear",))), D0 + DAY)


def history(at: At) -> list[tuple[Restated, ...]]:
    return [conversion.history for conversion in at.person.conversions]


def test_each_restatement_names_what_caused_it() -> None:
    at = At()
    at.take(touch(D0, 0), NOW)
    at.take(order(1, D0 + HOUR), NOW)
    assert history(at) == [()], "the first filing is none"
    at.take(touch(D0 + MINUTE, 2), NOW)
    at.take(given(3, D0 + 2 * MINUTE, "a:d1"), NOW)
    at.take(Withdrawal("c:x", 4, 0, "a:d1", "touch 3", False), NOW)
    at.take(order(1, D0 + HOUR, net=4 * 10**7), NOW)
    at.take(order(1, D0 + HOUR, net=0, gone="cancelled"), Context(NOW.rules))
    t, full = NOW.watermark, 10**8
    assert history(at) == [
        (
            Restated("touch", "touch 2", t, full, full),
            Restated("given", "", t, full, full),  # it was taken back: it is another person's
            Restated("taken_back", "", t, full, full),
            Restated("order", "", t, full, 4 * 10**7),
            Restated("order", "", None, 4 * 10**7, 0),
        )
    ]


def test_what_changes_nothing_is_no_restatement() -> None:
    at = At()
    at.take(touch(D0, 0), NOW)
    at.take(order(1, D0 + HOUR), NOW)
    at.take(order(2, D0 + 3 * HOUR), NOW)
    at.take(touch(D0 + 2 * HOUR, 1), NOW)
    at.take(touch(D0 - 200 * DAY, 2), NOW._replace(watermark=D0 - 200 * DAY))
    at.take(stage(3, D0 + 4 * HOUR, "unknown"), NOW)
    assert [len(told) for told in history(at)] == [0, 1], "a touch before the second order only"


def test_to_be_published_again_as_truncated_is_no_restatement() -> None:
    context = NOW._replace(rules=Rules(Marketing(journey_max=2, models=("linear",), headline_models=("linear",))))
    at = At()
    at.take(touch(D0, 0), context)
    at.take(order(1, D0 + HOUR), context)
    at.take(touch(D0 + MINUTE, 1), context)
    folded = at.take(touch(D0 + DAY, 2), context)
    assert [conversion.id for conversion in folded.changed] == ["o:O1"]
    assert [[one.what for one in told] for told in history(at)] == [["touch 1"]]


def test_the_latest_are_kept() -> None:
    at = At()
    at.take(order(1, D0 + DAY), NOW)
    for n in range(11):
        at.take(touch(D0 + n * MINUTE, n), NOW)
    (told,) = history(at)
    assert [once.what for once in told] == [f"touch {n}" for n in range(3, 11)]


def test_what_is_published_is_what_stands() -> None:
    at = At()
    at.take(touch(D0, 0), NOW)
    at.take(order(1, D0 + HOUR), NOW)
    folded = fold(at.node, touch(D0 + MINUTE, 2), NOW)
    assert isinstance(folded.node, Person)
    assert list(folded.changed) == list(folded.node.conversions)
    assert folded.changed[0].history
    before = folded.node
    remember(at.node, folded, touch(D0 + MINUTE, 2), NOW)
    assert folded.node == before, "told again, it is the same"
