"""Generated pages are what the code says now, and the published schemas tell valid events from wrong ones."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer
from jsonschema import Draft202012Validator

from attribution.formulas import PURCHASE
from attribution.listing import BUDGET, CAMPAIGN, CHANNEL, _fit
from attribution.plan import Plan, most
from docs import generate
from models.errors import CATALOGUE
from models.events import DECODERS, TOPICS
from models.settings import Marketing
from streams.cli import root

ROOT = Path(generate.DOCS).parent
PAGES = generate.pages()

WHO = {"event_id": "e-1", "occurred_at": "2026-03-01T09:30:00+01:00", "anonymous_id": "device-1"}
HOURS = {"start": "2026-03-01T00:00:00Z", "end": "2026-03-02T00:00:00Z"}
GOOD: dict[str, list[dict[str, Any]]] = {
    "clicks": [
        {**WHO, "network": "google", "utm_campaign": "spring", "gclid": "g-1", "cost": "0.42", "currency": "EUR"},
        {**WHO, "cost": 0.42, "currency": "EUR", "a_field_of_the_future": [1, 2]},
    ],
    "touchpoints": [
        {**WHO, "type": "visit", "referrer": "https://www.example.org/", "consent": False},
        {**WHO, "type": "engagement", "network": "instagram", "kind": "like", "sentiment": 1},
        {**WHO, "type": "stage", "stage": "lead", "value": 40, "currency": "EUR"},
    ],
    "purchases": [
        {**WHO, "type": "order", "order_id": "o-1", "revenue": "7500.00", "currency": "MAD", "margin": "-12.50"},
        {"event_id": "e-2", "occurred_at": WHO["occurred_at"], "type": "refund", "order_id": "o-1", "amount": 10},
        {"event_id": "e-3", "occurred_at": WHO["occurred_at"], "type": "cancel", "order_id": "o-1"},
    ],
    "costs": [
        {"cost_id": "c-1", **HOURS, "network": "facebook", "amount": "5000", "currency": "MAD", "clicks": 120},
        {"cost_id": "c-2", **HOURS, "kind": "salary", "hours": "7.5", "hourly_rate": 40, "engagements": {"like": 3}},
    ],
}
# A good event, by its number, with this field set so is wrong.
WRONG: dict[str, list[tuple[int, str, object]]] = {
    "clicks": [(0, "event_id", ""), (0, "cost", True), (0, "currency", "euro"), (0, "utm_id", "x" * 257)],
    "touchpoints": [(0, "type", "teleport"), (1, "sentiment", 2), (2, "stage", 7)],
    "purchases": [(0, "revenue", "a lot"), (0, "type", "gift"), (1, "amount", None), (0, "is_new_customer", "yes")],
    "costs": [(0, "clicks", -1), (0, "kind", "bribe"), (1, "hours", "many"), (1, "engagements", {"like": "three"})],
}
REQUIRED = [
    (topic, number, field)
    for topic, number, fields in (
        ("clicks", 0, ("event_id", "occurred_at")),
        ("touchpoints", 0, ("event_id", "occurred_at", "type")),
        ("purchases", 0, ("event_id", "occurred_at", "type", "order_id", "revenue", "currency")),
        ("purchases", 1, ("order_id", "amount")),
        ("costs", 0, ("cost_id", "start", "end")),
    )
    for field in fields
]


def validator(topic: str) -> Draft202012Validator:
    schema = json.loads((ROOT / "docs" / "schemas" / f"{topic}.json").read_text("utf-8"))
    return Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)


def decodes(topic: str, event: object) -> bool:
    try:
        DECODERS[topic].decode(json.dumps(event))
    except msgspec.ValidationError:
        return False
    return True


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_page_is_current(path: Path) -> None:
    assert path.exists(), "run `make docs`"
    assert path.read_text("utf-8") == PAGES[path], "run `make docs`"


def test_there_is_one_schema_per_topic() -> None:
    assert {path.stem for path in (ROOT / "docs" / "schemas").glob("*.json")} == {*TOPICS, "alerts", "attributions"}


@pytest.mark.parametrize("topic", TOPICS)
def test_schema_is_a_schema_whole_in_itself(topic: str) -> None:
    schema = validator(topic).schema
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert {"title", "description"} <= schema.keys()
    assert "$id" not in schema
    Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize(("topic", "event"), [(topic, event) for topic in GOOD for event in GOOD[topic]])
def test_a_good_event_is_valid_to_the_schema_and_to_the_decoder(topic: str, event: dict[str, Any]) -> None:
    assert [error.message for error in validator(topic).iter_errors(event)] == []
    assert decodes(topic, event)


@pytest.mark.parametrize(
    ("topic", "number", "field", "value"), [(topic, *wrong) for topic in WRONG for wrong in WRONG[topic]]
)
def test_a_wrong_value_is_refused_by_both(topic: str, number: int, field: str, value: object) -> None:
    event = {**GOOD[topic][number], field: value}
    assert not validator(topic).is_valid(event)
    assert not decodes(topic, event)


@pytest.mark.parametrize(("topic", "number", "field"), REQUIRED)
def test_a_missing_field_is_refused_by_both(topic: str, number: int, field: str) -> None:
    event = {key: value for key, value in GOOD[topic][number].items() if key != field}
    assert not validator(topic).is_valid(event)
    assert not decodes(topic, event)


def test_every_error_code_has_one_row() -> None:
    page = (ROOT / "docs" / "errors.md").read_text("utf-8")
    rows = [line.split("|")[1].strip() for line in page.splitlines() if line.startswith("| `")]
    assert rows == [f"`{code}`" for code in CATALOGUE]


def test_every_command_is_in_the_table_and_has_a_section() -> None:
    names = [str(command.name) for command in root.app.registered_commands]
    names += [str(group.name) for group in root.app.registered_groups]
    readme, page = ((ROOT / name).read_text("utf-8") for name in ("README.md", "docs/cli.md"))
    table = [line for line in readme.splitlines() if line.startswith("| `parcours ")]
    assert len(names) > 15
    assert [name for name in names if not any(re.match(rf"\| `parcours {name}\b", line) for line in table)] == []
    assert [name for name in names if not re.search(rf"^## {name}\b", page, re.M)] == []


def test_the_sections_are_of_commands_and_subcommands_that_there_are() -> None:
    """Each subcommand is named in the heading of its section, and no heading names one that is gone."""
    page = (ROOT / "docs/cli.md").read_text("utf-8")
    headings = [name for line in re.findall(r"^## (?!Files)(.+)$", page, re.M) for name in line.split(", ")]
    found = []
    for name, command in typer.main.get_command(root.app).commands.items():  # type: ignore[attr-defined]
        found += [f"{name} {sub}" for sub in getattr(command, "commands", {})] or [name]
    assert sorted(headings) == sorted(found)


def fits(conversions: tuple[str, ...], channels: int, half: bool, campaigns: int = 100) -> tuple[int, int]:
    """How many of so many channels, all or half of them with costs, and campaigns have series of their own."""
    plan = Plan(
        msgspec.convert({"conversions": {name: {} for name in conversions}}, Marketing), [PURCHASE, *conversions]
    )
    order = {
        level: [(level, str(i), "") for i in range(n)] for level, n in ((CHANNEL, channels), (CAMPAIGN, campaigns))
    }
    needs = {name: plan.series(CHANNEL, paid=not half or i % 2 == 0) for i, name in enumerate(order[CHANNEL])}
    needs |= dict.fromkeys(order[CAMPAIGN], plan.series(CAMPAIGN))
    own = _fit(plan, BUDGET, order[CHANNEL], order[CAMPAIGN], needs)
    return len(own & set(order[CHANNEL])), len(own & set(order[CAMPAIGN]))


def test_the_figures_of_the_budget_are_computed() -> None:
    page = " ".join((ROOT / "docs" / "metrics.md").read_text("utf-8").split())
    plan = Plan(Marketing(), [PURCHASE])
    channel, free, campaign, idle = (
        plan.series(level, paid=paid) for level in (CHANNEL, CAMPAIGN) for paid in (True, False)
    )
    assert (
        f"models {channel} for a channel with costs, {free} for one without, {campaign} and {idle} for a campaign"
        in page
    )
    total = sum(most(Marketing(), 12, 100).values())
    assert f"12 channels and 100 campaigns take {total // 1000} {total % 1000:03}" in page
    most_of = [
        max(n for n in range(10, 50) if fits(conversions, n, half) == (n, 100))
        for conversions in ((), ("lead",))
        for half in (False, True)
    ]
    assert (
        "{} channels fit, or {} of which half have costs; with one more conversion type {}, or {}.".format(*most_of)
        in page
    )
    wide = max(n for n in range(10, 50) if fits(("lead",), n, True)[0] == n)
    assert fits(("lead",), wide, True) == (wide, 0)
    assert f"{wide} of which half have costs still have rows of their own then, and all campaigns" in page
