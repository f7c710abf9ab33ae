"""The report of a replay: against sums made from the attributions and the rows themselves."""

from __future__ import annotations

import json
from collections import defaultdict
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from attribution.families import FAMILIES, series
from attribution.replay import Replay
from attribution.report import report
from models.settings import Marketing
from tests.core.replayed import replay
from tests.histories import Body, generate
from tests.reference import attribute

Key = tuple[str, ...]


def amount(text: str | None) -> Fraction | None:
    return None if text is None else Fraction(text)


def naive(run: Replay, model: str, own: dict[Key, int]) -> dict[Key, dict[str, Fraction | None]]:
    """Purchases and costs by channel, network, campaign and all their prefixes, added up one by one."""
    found: dict[Key, dict[str, Fraction | None]] = defaultdict(
        lambda: {"conversions": Fraction(0), "revenue": Fraction(0), "cost": None, "media_cost": None}
    )

    def add(dims: Key, column: str, value: Fraction) -> None:
        for width in range(4):
            line = found[dims[:width]]
            line[column] = (line[column] or 0) + value

    for attribution in run.attributions():
        if attribution.conversion == "purchase":
            for credit in attribution.credits.get(model, []):
                dims = (credit.channel, credit.network, credit.campaign)
                add(dims, "conversions", Fraction(credit.conversions))
                add(dims, "revenue", Fraction(credit.revenue))
    for _, row in run.costs():
        add(row.dims, "cost", Fraction(row.amount, 10**6))
        if row.kind == "media":
            add(row.dims, "media_cost", Fraction(row.amount, 10**6))
    for key, micros in own.items():
        add(key, "cost", Fraction(micros, 10**6))
        add(key, "media_cost", Fraction(micros, 10**6))
    return found


def check(line: dict[str, str | None], expected: dict[str, Fraction | None]) -> None:
    for column, value in expected.items():
        assert amount(line[column]) == value, column
    conversions, revenue = expected["conversions"], expected["revenue"]
    cost, media = expected["cost"], expected["media_cost"]
    assert conversions is not None
    assert revenue is not None
    ratios = {
        "cpa": media / conversions if media is not None and conversions else None,
        "roas": revenue / media if media else None,
        "roi_on_revenue": (revenue - cost) / cost if cost else None,
    }
    for name, value in ratios.items():
        got = amount(line[name])
        assert (got is None) == (value is None), name
        if got is not None and value is not None:
            assert abs(got - value) <= abs(value) * Fraction(1, 10**11), name


def test_every_level_equals_sums_of_the_attributions_and_the_costs() -> None:
    rows = 0
    for seed in range(150):
        history = generate(seed)
        run = replay(history.events, history.marketing)
        # What clicks cost beyond the reports: the oracle's, without its rows.
        oracle = attribute(history.events, history.marketing)
        own = dict(oracle.books(0, 1 << 60).cost)
        for row in oracle.costs:
            own[row.dims] = own.get(row.dims, 0) - row.amount
        said = report(run)
        for model in history.marketing.models:
            expected = naive(run, model, {dims: n for dims, n in own.items() if n})
            part = said["models"][model]
            check(part["total"], expected[()])
            for level, names in (
                ("channels", ("channel", "network")),
                ("campaigns", ("channel", "network", "campaign")),
            ):
                lines = {tuple(line[name] for name in names): line for line in part[level]}
                lines.pop(("(unattributed)", "(none)"), None)
                assert len(lines) >= len([key for key in expected if len(key) == len(names)])
                for key, line in lines.items():
                    check(line, expected[key])
                    rows += 1
    assert rows > 1000


def order(number: int, at: str, revenue: str, **more: str) -> tuple[str, Body]:
    body = {"type": "order", "event_id": f"p{number}", "order_id": f"{number}", "revenue": revenue, "currency": "EUR"}
    return "purchases", body | {"occurred_at": at} | more


def click(at: str, person: str) -> tuple[str, Body]:
    fields = {"channel": "Paid Social", "network": "facebook", "campaign": "spring"}
    return "clicks", {"event_id": f"k{at}{person}", "occurred_at": at, "customer_id": person} | fields


EVENTS: list[tuple[str, Body]] = [
    click("2026-03-02T10:00:00Z", "anna"),
    order(1, "2026-03-02T12:00:00Z", "7500", customer_id="anna"),
    order(2, "2026-03-02T13:00:00Z", "99", customer_id="nobody"),
    (
        "costs",
        {"cost_id": "c", "start": "2026-03-02T00:00:00Z", "end": "2026-03-03T00:00:00Z", "channel": "Paid Social",
         "network": "facebook", "campaign": "spring", "amount": "5000", "currency": "EUR", "kind": "media"},
    ),
    ("clicks", {"event_id": "bad", "occurred_at": "2026-03-02T10:00:00Z"}),
    click("2026-03-02T10:00:00Z", "anna"),
]  # fmt: skip


def made(events: list[tuple[str, Body]]) -> dict[str, Any]:
    run = Replay(Marketing(clock="event"))
    for topic, body in events:
        run.take(topic, json.dumps(body).encode())
    run.finish()
    return report(run)


def test_a_report_by_hand() -> None:
    said = made(EVENTS)
    line = {
        "conversions": "1",
        "revenue": "7500",
        "cost": "5000",
        "media_cost": "5000",
        "cpa": "5000",
        "roas": "1.5",
        "roi_on_revenue": "0.5",
    }
    nobody = {"conversions": "1", "revenue": "99"} | dict.fromkeys(
        ("cost", "media_cost", "cpa", "roas", "roi_on_revenue")
    )
    where = {"channel": "Paid Social", "network": "facebook"}
    assert said["models"]["linear"] == {
        "total": line,
        "channels": [where | line, {"channel": "(unattributed)", "network": "(none)"} | nobody],
        "campaigns": [where | {"campaign": "spring"} | line],
    }
    assert said["span"] == {"start": "2026-03-02T00:00:00Z", "end": "2026-03-03T00:00:00Z"}
    assert (said["accepted"], said["refused"], said["dropped"]) == (5, {"no_person": 1}, {"duplicate": 1})
    assert said["currency"] == "EUR"
    assert json.loads(json.dumps(said)) == said


def test_windows_are_those_of_the_last_event() -> None:
    windows = made(EVENTS)["windows"]
    series_of = {one for name, family in FAMILIES.items() for one in series(name, family)}
    assert set(windows) <= series_of
    labels = {"model": "linear", "basis": "conversion", "conversion": "purchase", "window": "24h"}
    assert {**labels, "value": "1"} in windows["parcours_total_attributed_conversions"]
    # Until 13:00 of the day 5000 * 13/24 were spent.
    spent = Decimal(5_000_000_000 * 13 // 24) / 10**6
    assert {"window": "24h", "currency": "EUR", "value": f"{spent}"} in windows["parcours_total_cost"]


@pytest.mark.parametrize("events", [[], EVENTS[4:5]])
def test_nothing_accepted_is_a_report_of_nothing(events: list[tuple[str, Body]]) -> None:
    said = made(events)
    assert said["span"] is None
    assert said["windows"] == {}
    assert said["models"]["linear"]["total"]["conversions"] == "0"
    assert said["models"]["linear"]["total"]["cost"] is None


def test_what_is_older_than_days_are_kept_is_in_neither_side() -> None:
    late = [click("2027-04-10T10:00:00Z", "zoe"), order(3, "2027-04-10T12:00:00Z", "10", customer_id="zoe")]
    said = made([*EVENTS, *late])
    assert said["span"]["start"] == "2026-03-07T00:00:00Z"
    line = said["models"]["linear"]["total"]
    assert (line["conversions"], line["revenue"], line["cost"]) == ("1", "10", None)
