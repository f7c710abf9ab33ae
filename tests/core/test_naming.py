"""Campaigns that touches know by an id alone are read under the name that cost rows give the id: cost and credit in one row, whatever came first."""

from __future__ import annotations

import json
from decimal import Decimal
from itertools import permutations
from typing import Any

import msgspec
import pytest

from attribution.backtest import Backtest
from attribution.naming import Campaigns
from attribution.nodes.state import CostRow
from attribution.replay import Replay
from attribution.report import report
from models.settings import AlertRule, Marketing

Event = tuple[str, dict[str, Any]]
DAY = "2026-03-{:02d}T{:02d}:00:00Z".format
CLICK: Event = ("clicks", {"event_id": "k1", "occurred_at": DAY(1, 10), "customer_id": "ana", "network": "google", "utm_id": "1234"})  # fmt: skip
ORDER: Event = (
    "purchases",
    {
        "event_id": "p1", "occurred_at": DAY(1, 12), "customer_id": "ana", "type": "order", "order_id": "A", "revenue": "7500",
        "currency": "EUR",
    },
)  # fmt: skip


def cost(cost_id: str, amount: int, day: int = 1, **more: Any) -> Event:
    body = {"cost_id": cost_id, "start": DAY(day, 0), "end": DAY(day + 1, 0), "network": "google", "amount": amount, "currency": "EUR"}  # fmt: skip
    return "costs", body | more


NAMED = cost("c1", 5000, campaign="Spring Sale", campaign_id="1234")


def campaigns(*events: Event, marketing: Marketing | None = None) -> dict[str, tuple[str, str | None]]:
    """(revenue, cost) by campaign under the last touch."""
    run = Replay(marketing or Marketing())
    for topic, body in events:
        run.take(topic, json.dumps(body).encode())
    run.finish()
    lines = report(run)["models"]["last_touch"]["campaigns"]
    return {line["campaign"]: (line["revenue"], line["cost"]) for line in lines}


@pytest.mark.parametrize("events", list(permutations((CLICK, ORDER, NAMED))))
def test_cost_and_credit_meet_in_one_row(events: tuple[Event, ...]) -> None:
    """The seeds' 5 000 in and 7 500 back."""
    assert campaigns(*events) == {"Spring Sale": ("7500", "5000")}


def test_a_report_joins_by_the_id_too() -> None:
    """Of two rows that name the id, the one reported last names it: for the other one, and for all that know the id alone."""
    renamed = cost("c2", 100, 2, campaign="Summer Sale", campaign_id="1234", reported_at=DAY(4, 0))
    nameless = cost("c3", 10, 2, campaign_id="1234")
    found = campaigns(CLICK, ORDER, NAMED, renamed, nameless)
    assert found == {"Summer Sale": ("7500", "5110")}
    # Another network's campaign of that number is another one, and so is a name that nothing says is this id.
    elsewhere = ("costs", NAMED[1] | {"network": "facebook"})
    assert campaigns(CLICK, ORDER, elsewhere) == {"1234": ("7500", None), "Spring Sale": ("0", "5000")}


def test_a_name_that_is_restated_leaves_nothing_behind() -> None:
    later = ("costs", NAMED[1] | {"campaign": "Easter", "reported_at": DAY(5, 0)})
    assert campaigns(CLICK, ORDER, NAMED, later) == campaigns(CLICK, ORDER, later, NAMED) == {"Easter": ("7500", "5000")}  # fmt: skip
    nobody = ("costs", NAMED[1] | {"campaign": None, "reported_at": DAY(5, 0)})
    assert campaigns(CLICK, ORDER, NAMED, nobody) == {"1234": ("7500", "5000")}


def said(name: str, order: str, day: int = 1) -> tuple[Event, Event]:
    """A click that names its campaign, and the order of 100 that it brings."""
    click = CLICK[1] | {"event_id": f"k{order}", "customer_id": order, "utm_id": None, "campaign": name, "occurred_at": DAY(day, 10)}  # fmt: skip
    bought = ORDER[1] | {"event_id": f"p{order}", "customer_id": order, "order_id": order, "revenue": "100", "occurred_at": DAY(day, 12)}  # fmt: skip
    return ("clicks", click), ("purchases", bought)


def test_a_campaign_that_is_renamed_in_the_network_takes_along_what_was_said_of_it() -> None:
    """Whether touches know its id, or the name that it had when they were; in whatever order it all comes."""
    renamed = cost("c2", 3000, 2, campaign="Summer Sale", campaign_id="1234")
    events = (NAMED, renamed, CLICK, ORDER, *said("spring sale", "B"), *said("Summer Sale", "C", 2))
    assert campaigns(*events) == campaigns(*reversed(events)) == {"Summer Sale": ("7700", "8000")}
    # Another campaign that is called so keeps the name, and what says it.
    other = cost("c3", 10, 3, campaign="Spring Sale", campaign_id="77")
    expected = {"Spring Sale": ("100", "10"), "Summer Sale": ("7600", "8000")}
    spoken = (NAMED, renamed, CLICK, ORDER, *said("Spring Sale", "B"), *said("Summer Sale", "C", 2), other)
    assert campaigns(*spoken) == campaigns(*reversed(spoken)) == expected


def test_an_alias_of_the_id_comes_first() -> None:
    aliased = msgspec.convert({"campaign_aliases": {"1234": "Brand"}}, Marketing)
    assert campaigns(CLICK, ORDER, NAMED, marketing=aliased) == {"Brand": ("7500", "5000")}


def row(campaign_id: str, name: str, reported: int = 0) -> CostRow:
    return CostRow(0, 1, reported, "media", ("Paid Search", "google", name), 1, 0, (), campaign_id)


@pytest.mark.parametrize(("rows", "expected"), [
    ([("1", "A")], {"1": "A", "A": "A", "2": "2"}),
    ([("AbC", "A")], {"aBc": "A"}),
    ([("1", "2"), ("2", "B")], {"1": "B", "2": "B"}),
    ([("1", "2"), ("2", "1")], {"1": "1", "2": "1"}),
    ([("1", "2"), ("2", "3"), ("3", "2")], {"1": "2", "2": "2", "3": "2"}),
    ([("1", "(none)")], {"1": "1"}),
    ([("1", "A"), ("1", "B", 1)], {"1": "B", "a": "B", "B": "B"}),
    ([("1", "A"), ("1", "B", 1), ("1", "A", 2)], {"1": "A", "A": "A", "B": "A"}),
    ([("1", "A"), ("1", "B", 1), ("2", "A")], {"1": "B", "2": "A", "A": "A"}),
    ([("1", "A"), ("1", "B", 1), ("2", "A"), ("2", "C", 1)], {"1": "B", "2": "C", "A": "A"}),
    ([("1", "A"), ("1", "B", 1), ("2", "A"), ("2", "B", 1)], {"1": "B", "2": "B", "A": "B"}),
    ([("1", "A"), ("1", "B", 1), ("2", "B"), ("2", "C", 1)], {"1": "B", "2": "C", "A": "B", "B": "B"}),
    ([("1", "2"), ("1", "B", 1), ("2", "(none)")], {"1": "B", "2": "2"}),
    ([("1", "2"), ("1", "B", 1), ("2", "C")], {"1": "B", "2": "C"}),
])  # fmt: skip
def test_names_of_ids(rows: list[tuple[Any, ...]], expected: dict[str, str]) -> None:
    """Names that are ids of other campaigns are followed to their end, and in a circle to one of them for all; former names too, where one campaign had them."""
    for order in permutations(rows):
        found = Campaigns(row(*one) for one in order)
        assert {known: found.of(("Paid Search", "Google", known))[2] for known in expected} == expected
        # A row goes with its id, whatever name it has.
        for each in (row(*one) for one in rows if one[1] != "(none)"):
            assert found.row(each).dims == found.of((*each.dims[:2], each.campaign_id))


def test_an_alert_is_judged_by_the_name_as_soon_as_it_is_known() -> None:
    """By steps in time: no step sees the money twice, and a name that changes takes along what was before."""
    rule = AlertRule(name="dear", metric="roas", threshold=Decimal(10), direction="below", window="7d", campaign="*")
    test = Backtest(Marketing(clock="event", alerts=(rule,)))
    for day, events in ((3, (CLICK, ORDER)), (4, (NAMED,)), (5, (("costs", NAMED[1] | {"campaign": "Easter", "reported_at": DAY(5, 0)}),))):  # fmt: skip
        for topic, body in events:
            test.take(topic, json.dumps(body).encode())
        test.judge(1_772_323_200_000_000 + (day - 1) * 86_400_000_000)
    found = [(one.names[2], one.value, one.resolved_at is None) for one in test.episodes]
    assert found == [("Spring Sale", Decimal("1.5"), False), ("Easter", Decimal("1.5"), True)]
