"""Every panel of every dashboard, asked of a real Prometheus that scrapes a real worker."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from integration.conftest import TOML, World
from integration.monitoring import PROMETHEUS, Prometheus, until
from integration.stack import ROOT, Stack

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.skipif(
        PROMETHEUS is None,
        reason="Prometheus is not installed (Debian package prometheus): THE DASHBOARDS WERE NOT ASKED",
    ),
]
BOARDS: dict[str, dict[str, Any]] = {
    name: json.loads((ROOT / "grafana" / "dashboards" / f"{name}.json").read_text("utf-8"))
    for name in ("parcours", "journeys", "pipeline")
}
GIVEN = {
    "$__rate_interval": "10m",
    "$__range": "10m",
    "$model": "last_non_direct",
    "$window": "30d",
    "$conversion": "purchase",
    "$basis": "conversion",
}
WATCHED = """
[[goals]]
name = "orders"
metric = "orders"
target = "100"
start = 2026-01-05
deadline = 2026-03-31

[[benchmarks]]
name = "industry"
metric = "cpa"
value = "40"

[[alerts]]
name = "cpa"
metric = "cpa"
threshold = "1"
window = "30d"
network = "*"
"""
EMPTY = {
    "journeys Customers by the channel that acquired them C": "no cohort of 40 days is a year old",
    "journeys CSAT A": "the simulated shop asks no such question",
    "journeys Retention by cohort": "no cohort of 40 days has a whole month behind it",
}
"""Panels, and queries of panels, without a value in such a history, and why."""


def filled(expression: str) -> str:
    for name, value in GIVEN.items():
        expression = expression.replace(name, value)
    return expression


def queries() -> list[tuple[str, str]]:
    return [
        (f"{name} {panel['title']} {target['refId']}", filled(target["expr"]))
        for name, board in BOARDS.items()
        for panel in board["panels"]
        for target in panel.get("targets", [])
    ]


def expression(board: str, title: str, ref: str = "A") -> str:
    [panel] = [panel for panel in BOARDS[board]["panels"] if panel["title"] == title]
    return filled(next(target["expr"] for target in panel["targets"] if target["refId"] == ref))


@pytest.mark.timeout(600)
def test_every_panel_has_a_finite_value_and_one_is_computed_again(
    stack: Callable[..., Stack], small: World, tmp_path: Path
) -> None:
    one = stack('clock = "event"\n' + TOML + WATCHED, PARCOURS_IDLE_AFTER="0.5")
    worker = one.worker()
    with Prometheus(tmp_path, [worker.url.removeprefix("http://")], "127.0.0.1:9") as prometheus:

        def value(board: str, title: str, ref: str = "A") -> float | None:
            found = prometheus.query(expression(board, title, ref))
            return found[0][1] if len(found) == 1 else None

        one.publish(small.items, small.timestamps())
        one.settle()
        wanted = pytest.approx(float(revenue(small)))
        until(
            f"the revenue is {wanted}",
            lambda: value("parcours", "Revenue") == wanted,
            60,
            lambda: str(value("parcours", "Revenue")),
        )
        until(f"orders are {orders(small)}", lambda: value("journeys", "New and returning") == orders(small), 60)
        epoch = int(one.redis().get("{parcours:0}epoch") or one.redis().get("{parcours:1}epoch"))
        assert prometheus.query("parcours_leader_epoch")[0][1] == epoch
        assert value("pipeline", "Leader") == 1
        # One click and one order more, at the end: what is credited and counted moves by just that.
        at = end(small).isoformat()
        who = {"customer_id": "somebody new", "occurred_at": at}
        bought = {"type": "order", "event_id": "more", "order_id": "more", "revenue": "50", "currency": "EUR"}
        touched = {"event_id": "more-click", "channel": "Email", "network": "newsletter", "campaign": "more"}
        one.publish([("clicks", json.dumps(touched | who).encode()), ("purchases", json.dumps(bought | who).encode())])
        more = pytest.approx(float(revenue(small)) + 50)
        until("the revenue has moved", lambda: value("parcours", "Revenue") == more, 60)
        until("orders have moved", lambda: value("journeys", "New and returning") == orders(small) + 1, 60)
        # The last events once more, as trackers do: nothing changes but what counts traffic.
        until("a scrape counted the events", lambda: prometheus.query("sum(parcours_events_total) > 0"), 60)
        one.publish(small.items[-300:], small.timestamps())
        until("events are seen to flow", lambda: (value("pipeline", "Events") or 0) > 0, 60)

        def missing() -> dict[str, Any]:
            found = {}
            for name, text in queries():
                values = [value for _, value in prometheus.query(text)]
                if not values or not all(map(math.isfinite, values)):
                    found[name] = values
            return found

        def unexplained() -> dict[str, Any]:
            return {
                name: values for name, values in missing().items() if not any(name.startswith(known) for known in EMPTY)
            }

        until("every panel has a finite value", lambda: not unexplained(), 60, lambda: str(unexplained()))
        # An explanation for what is there would hide that it goes.
        absent = missing()
        assert [known for known in EMPTY if not any(name.startswith(known) for name in absent)] == []


def end(world: World) -> datetime:
    """The highest time of an event: where the windows end."""
    times = (re.findall(rb'"occurred_at": ?"([^"]+)"', record.value) for record in world.records if record.good)
    return max(datetime.fromisoformat(found[0].decode()) for found in times if found)


def purchases(world: World) -> list[dict[str, Any]]:
    """Those of the 30-day window: from the start of the business day that lies 30 days before its end."""
    zone = ZoneInfo("Europe/Paris")
    first = (end(world) - timedelta(days=30)).astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0)
    found = [one for one in world.expected.values() if one["conversion"] == "purchase" and one["status"] != "withdrawn"]
    return [one for one in found if datetime.fromisoformat(one["occurred_at"]).astimezone(UTC) >= first.astimezone(UTC)]


def revenue(world: World) -> Decimal:
    credits = (credit for one in purchases(world) for credit in one["credits"].get("last_non_direct", []))
    return sum((Decimal(credit["revenue"]) for credit in credits), Decimal(0))


def orders(world: World) -> int:
    return len(purchases(world))
