"""French sentences of `journey`, each by its letter: what `test_cli` leaves out."""

from __future__ import annotations

import json
from typing import Any

import pytest

from attribution.nodes.state import Person
from attribution.replay import Replay
from models.settings import Filters, Marketing
from streams.cli.explain import Told, explain

NOON = "2026-03-03T12:00:00Z"
MODELS = {"headline_models": ("last_touch",)}


def click(network: str, at: str) -> tuple[str, dict[str, Any]]:
    return "clicks", {"event_id": network, "occurred_at": at, "anonymous_id": "d", "network": network}


def order(name: str, at: str = NOON, **fields: Any) -> tuple[str, dict[str, Any]]:
    body = {"event_id": f"{name} {fields}", "occurred_at": at, "anonymous_id": "d", "type": "order", "order_id": name}
    return "purchases", body | {"revenue": "10", "currency": "EUR"} | fields


def told(marketing: Marketing, *events: tuple[str, dict[str, Any]]) -> Told:
    """What is told of the latest conversion, with everything in the order of arrival."""
    replay = Replay(marketing)
    for topic, event in events:
        replay.take(topic, json.dumps(event).encode())
        replay.finish()
    person = replay.nodes["a:d"]
    assert isinstance(person, Person)
    return explain("a:d", person, marketing).conversions[-1]


DIRECT = ("touchpoints", {"event_id": "v", "occurred_at": "2026-03-03T10:00:00Z", "anonymous_id": "d", "type": "visit"})


@pytest.mark.parametrize(
    ("settings", "events", "said"),
    [
        (
            {}, [click("google", NOON)],
            "last_touch crédite google pour l’achat B : c’est le seul contact éligible, au même moment.",
        ),
        (
            {"filters": Filters(fast_conversions="3s")},
            [click("google", "2026-03-03T11:00:00Z"), click("linkedin", "2026-03-03T11:59:59Z")],
            "last_touch crédite google pour l’achat B : c’est le seul contact éligible, 1 heure avant; "
            "le clic de linkedin est filtré par fast_conversions : 1 seconde avant.",
        ),
        (
            {"exclude_direct": "always"}, [click("google", "2026-03-03T09:00:00Z"), DIRECT],
            "last_touch crédite google pour l’achat B : c’est le seul contact éligible, 3 heures avant; "
            "la visite directe 2 heures avant est exclue.",
        ),
        (
            {"path": "since_previous"},
            [click("google", "2026-03-03T09:00:00Z"), order("A", "2026-03-03T10:00:00Z"), click("linkedin", "2026-03-03T11:00:00Z")],
            "last_touch crédite linkedin pour l’achat B : c’est le seul contact éligible, 1 heure avant; "
            "le clic de google précède la conversion précédente.",
        ),
    ],
    ids=["same_time", "fast", "direct", "previous"],
)  # fmt: skip
def test_the_french_of_what_was_passed_over(
    settings: dict[str, Any], events: list[tuple[str, dict[str, Any]]], said: str
) -> None:
    assert told(Marketing(**MODELS, **settings), *events, order("B")).sentence_fr == said


def test_the_french_of_an_order_that_is_reported_again() -> None:
    again = order("B", updated_at="2026-03-04T00:00:00Z", margin="3")
    found = told(Marketing(**MODELS), click("google", "2026-03-03T09:00:00Z"), order("B"), again)
    assert [(once.cause, once.why, once.why_fr) for once in found.restatements] == [
        ("order", "the order was reported again", "la commande a été signalée de nouveau")
    ]
