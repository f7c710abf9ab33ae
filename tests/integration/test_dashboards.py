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
ZONE = ZoneInfo("Europe/Paris")
SECOND = timedelta(seconds=1)
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
# What each query of a panel does when `more` comes, in the order of the queries: + its values sum to more, - to less, ~ values
# differ, = none does, . it goes its own way, 0 it has no value in such a history, * it has its first. The text says why, where that is not plain.
EMPTY = " or (NaN * "
MOVES: dict[str, tuple[str, str]] = {
    "parcours As of": ("+", ""),
    "parcours Cost known through": ("+", ""),
    "parcours Lag": ("=", "all is applied, before and after"),
    "parcours Unattributed": ("+", ""),
    "parcours Why unattributed": ("+====", "an order without a touch is of the first reason"),
    "parcours Revenue": ("+=", "the period before is over"),
    "parcours Cost": ("+=", "the period before is over"),
    "parcours Conversions": ("+=", "the period before is over"),
    "parcours CPA": ("~=", "cost and conversions both grow; the period before is over"),
    "parcours ROAS": ("~=", "cost and revenue both grow; the period before is over"),
    "parcours ROI on revenue": ("~=", "cost and revenue both grow; the period before is over"),
    "parcours Orders": ("+=", "the period before is over"),
    "parcours MER": ("~=", "cost and revenue both grow; the period before is over"),
    "parcours Revenue and cost by day": ("++", ""),
    "parcours CPA by day": ("~", ""),
    "parcours Channels and networks": ("+++~~~", ""),
    "parcours Campaigns": ("+++~~~", ""),
    "parcours Platform claims beside ours": ("++~++~", ""),
    "parcours Audience and traffic by network": ("~~++~~=~=", ""),
    "parcours Conversions by network": ("++", ""),
    "parcours Revenue by network under each model": ("+", ""),
    "parcours CPA by network": ("~=", "a benchmark is given"),
    "parcours ROI on revenue by network": ("~", ""),
    "parcours Alerts against thresholds": ("=~~==", "thresholds are given; 1 is passed by far, before and after"),
    "parcours Rules evaluated": (".", "seconds"),
    "parcours Goals: the way made, and expected by now": ("+~", ""),
    "parcours Goals in figures": ("+=~=", "the target is given"),
    "journeys Touches before a conversion, median": ("~", ""),
    "journeys Time to convert, median": ("~", ""),
    "journeys Visitors who converted": ("~", ""),
    "journeys Reach and frequency": ("..", "devices are counted each 15 seconds, perhaps of a window before"),
    "journeys Path length": ("+", ""),
    "journeys Time to convert": ("+", ""),
    "journeys Assists, reach and conversion rate": (
        "++++~..",
        "devices are counted each 15 seconds, perhaps of a window before",
    ),
    "journeys Link rate by source": ("~", ""),
    "journeys Engagement points by network": ("+", ""),
    "journeys New and returning": ("++", ""),
    "journeys Retention by cohort": ("+00000", "no cohort of 40 days has a whole month behind it"),
    "journeys Customers by the channel that acquired them": ("+~0~~", "no cohort of 40 days is a year old"),
    "journeys Customers who came back": ("~~", ""),
    "journeys Self-reported beside attributed": ("~~+", ""),
    "journeys NPS": ("~+", ""),
    "journeys CSAT": ("*+", "the simulated shop asks no such question"),
    "pipeline Workers": ("=", "one worker"),
    "pipeline Events": (".", "a rate: up, and down again"),
    "pipeline Lag": ("=", "all is applied, before and after"),
    "pipeline Latency, p99": (".", "of what came in the last minutes"),
    "pipeline Dead letters": (".", "stretched from the first scrape on to the whole range"),
    "pipeline Gaps": ("=", "no record is missing"),
    "pipeline Configurations": ("=", "one configuration"),
    "pipeline Events by topic": (".", "a rate: up, and down again"),
    "pipeline Refused events by reason": (".", "a rate: up, and down again"),
    "pipeline Latency": ("...", "of what came in the last minutes"),
    "pipeline Entries without effect by reason": (".", "a rate: up, and down again"),
    "pipeline Lag by topic": ("=", "all is applied, before and after"),
    "pipeline How far event time is behind": ("..", "it grows with the time of day"),
    "pipeline Attributions published": ("..", "a rate: up, and down again"),
    "pipeline Commits to Redis": ("..", "of what came in the last minutes"),
    "pipeline Applied by partition": (".", "a rate: up, and down again"),
    "pipeline Recoveries": ("....", "a busy machine may make it retry"),
    "pipeline Leader": ("=", "one worker"),
    "pipeline Business series exported": ("~=", "the budget is given"),
    "pipeline Alerts undecided": (".", "a source may fall silent meanwhile"),
    "pipeline Alert notices": (".", ""),
}


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
def test_every_panel_has_a_finite_value_that_moves_as_it_should_and_one_is_computed_again(
    stack: Callable[..., Stack], small: World, tmp_path: Path
) -> None:
    one = stack('clock = "event"\n' + TOML + WATCHED, PARCOURS_IDLE_AFTER="0.5")
    worker = one.worker()
    # A scrape may take as long as the interval: a busy machine takes its time. Whatever is asked may still be missing for once.
    with Prometheus(tmp_path, [worker.url.removeprefix("http://")], "127.0.0.1:9", interval="3s") as prometheus:

        def value(board: str, title: str, ref: str = "A") -> float | None:
            found = prometheus.query(expression(board, title, ref))
            return found[0][1] if len(found) == 1 else None

        # In two parts, so that a scrape sees events flow.
        one.publish(small.items[:-300], small.timestamps())
        until("a scrape counted the events", lambda: prometheus.query("sum(parcours_events_total) > 0"), 60)
        one.publish(small.items[-300:], small.timestamps())
        one.settle()
        wanted = pytest.approx(float(revenue(small)))
        until(
            f"the revenue is {wanted}",
            lambda: value("parcours", "Revenue") == wanted,
            60,
            lambda: str(value("parcours", "Revenue")),
        )
        until(f"orders are {orders(small)}", lambda: value("journeys", "New and returning") == orders(small), 60)

        def epochs() -> tuple[list[float], list[float]]:
            stored = one.redis().get("{parcours:0}epoch") or one.redis().get("{parcours:1}epoch")
            return [epoch for _, epoch in prometheus.query("parcours_leader_epoch")], [float(stored)]

        until(
            "the leader's epoch is the one in Redis",
            lambda: len(set(map(tuple, epochs()))) == 1,
            60,
            lambda: str(epochs()),
        )
        until("there is one leader", lambda: value("pipeline", "Leader") == 1, 60)
        until("events are seen to flow", lambda: (value("pipeline", "Events") or 0) > 0, 60)
        before = rested(prometheus)
        one.publish(more(small))

        wrong: dict[str, tuple[str, str]] = {}

        def right(read: Callable[[Prometheus], Values]) -> bool:
            nonlocal wrong
            wrong = unfit(before, read(prometheus))
            return not wrong

        until("each panel has a value that moves as it should", lambda: right(asked), 60, lambda: str(wrong))
        until("each panel is where it should be when all rests", lambda: right(rested), 60, lambda: str(wrong))
        # By just what came, but for the order that no touch is credited for.
        grown = pytest.approx(float(revenue(small)) + 50 + 20 + 40)
        until(
            f"the revenue is {grown}",
            lambda: value("parcours", "Revenue") == grown,
            60,
            lambda: str(value("parcours", "Revenue")),
        )
        until(
            f"orders are {orders(small) + 4}", lambda: value("journeys", "New and returning") == orders(small) + 4, 60
        )


Values = dict[str, list[dict[str, float]]]
"""Each panel's queries: their series' values by labels."""


def asked(prometheus: Prometheus) -> Values:
    found: Values = {}
    for name, text in queries():
        values = {str(sorted(labels.items())): value for labels, value in prometheus.query(text)}
        if EMPTY in text and all(map(math.isnan, values.values())):
            values = {}  # no value, for the table's sake
        found.setdefault(name.rpartition(" ")[0], []).append(values)
    return found


def rested(prometheus: Prometheus) -> Values:
    """What stands once nothing differs any more from one evaluation of the alerts to the next, and nothing is missing: they come last.

    What a scrape timed out on is missing until the next.
    """

    def evaluated() -> float:
        """0 when that is not known at the moment."""
        return max((at for _, at in prometheus.query("parcours_alerts_evaluated_timestamp_seconds")), default=0.0)

    at, found = evaluated(), asked(prometheus)
    moving: list[str] = []

    def same() -> bool:
        nonlocal at, found, moving
        now = evaluated()
        if now in (0, at):
            return False
        before, at, found = found, now, asked(prometheus)
        moving = [
            f"{name} {seen}"
            for name, seen in differences(before, found).items()
            if any(map(moves, MOVES[name][0], seen, found[name]))
        ]
        return not moving

    until("nothing differs any more", same, 120, lambda: str(moving))
    return found


def moves(should: str, did: str, values: dict[str, float]) -> bool:
    """Whether a query is not at rest, or misses what it should have."""
    return (not values and should not in "0*") or (should != "." and did not in "=0")


def differences(before: Values, after: Values) -> dict[str, str]:
    assert list(before) == list(MOVES)
    return {name: "".join(map(sign, before[name], after[name])) for name in before}


def unfit(before: Values, after: Values) -> dict[str, tuple[str, str]]:
    """Each panel that did not do what it should: (should, did)."""
    should = {name: signs for name, (signs, _) in MOVES.items()}
    return {
        name: (should[name], did)
        for name, did in differences(before, after).items()
        if not all(fits(*pair) for pair in zip(should[name], did, strict=True))
    }


def fits(should: str, did: str) -> bool:
    return should == did or (should == "~" and did in "+-") or (should == "." and did not in "0*!")


def sign(before: dict[str, float], after: dict[str, float]) -> str:
    """What `MOVES` says; ! of values that are no numbers, or that are gone."""
    if not all(map(math.isfinite, after.values())):
        return "!"
    if not after:
        return "!" if before else "0"
    if not before:
        return "*"
    if before.keys() == after.keys() and all(math.isclose(after[key], before[key]) for key in before):
        return "="
    change = math.fsum(after.values()) - math.fsum(before.values())
    return "~" if abs(change) < 1e-9 else "+" if change > 0 else "-"


def more(world: World) -> list[tuple[str, bytes]]:
    """A minute after the end: a little of everything that a panel shows."""
    at = end(world) + timedelta(minutes=1)
    known = next(one["person"][2:] for one in purchases(world) if one["credits"] and one["person"].startswith("c:"))
    ad = {"channel": "Paid Search", "network": "google", "campaign": "brand_fr"}
    post = {"channel": "Organic Social", "network": "instagram"}
    letter = {"channel": "Email", "network": "newsletter", "campaign": "weekly_letter"}
    report = {"impressions": 900, "clicks": 30, "reach": 100_000, "video_views": 7, "followers": 12_345}
    claims = {"platform_conversions": 9, "platform_value": "500"}

    def order(person: str, revenue: str) -> dict[str, Any]:
        return {
            "type": "order",
            "order_id": f"more {person}",
            "customer_id": person,
            "revenue": revenue,
            "currency": "EUR",
            "source": "shop",
        }

    def answer(question: str, **given: Any) -> dict[str, Any]:
        return {"type": "survey_response", "customer_id": "buyer", "question": question, **given}

    bodies: list[tuple[str, dict[str, Any]]] = [
        ("clicks", {"customer_id": "buyer", **ad}),
        ("purchases", order("buyer", "50") | {"is_new_customer": True}),
        ("touchpoints", {"type": "visit", "customer_id": "reader", **letter}),
        ("purchases", order("reader", "20") | {"is_new_customer": True}),
        ("purchases", order("nobody known", "30")),
        ("purchases", order(known, "40")),
        ("touchpoints", {"type": "engagement", "kind": "share", "customer_id": known, **post}),
        ("touchpoints", answer("source", channel="Email")),
        ("touchpoints", answer("nps", score=10)),
        ("touchpoints", answer("csat", score=5)),
    ]  # fmt: skip
    found = [
        (topic, {"event_id": f"more {n}", "occurred_at": at.isoformat(), **body})
        for n, (topic, body) in enumerate(bodies)
    ]
    # Networks bill the day that has ended: ratios of cost reach as far as costs are known. One bills the first minute of the next.
    whole = [row | {"event_id": f"more {row['cost_id']}", "reported_at": at.isoformat()} for row in bills(world)]
    span = {"start": whole[0]["end"], "end": (at + SECOND).isoformat(), "reported_at": (at + SECOND).isoformat()}
    one = {"cost_id": "more", "amount": "12", "currency": "EUR", **span, **report, **claims, **ad}
    found += [("costs", row) for row in (*whole, one)]
    return [*((topic, json.dumps(body).encode()) for topic, body in found), ("clicks", b"{")]


def bills(world: World) -> list[dict[str, Any]]:
    """The latest bill of each campaign: of a day that was not over when it was sent."""
    rows = (json.loads(record.value) for record in world.records if record.good and record.topic == "costs")
    latest = {row["campaign"]: row for row in rows if row.get("campaign")}
    return list(latest.values())


def end(world: World) -> datetime:
    """The highest time of an event: where the windows end."""
    times = (re.findall(rb'"occurred_at": ?"([^"]+)"', record.value) for record in world.records if record.good)
    return max(datetime.fromisoformat(found[0].decode()) for found in times if found)


def purchases(world: World) -> list[dict[str, Any]]:
    """Those of the 30-day window: from the start of the business day that lies 30 days before its end."""
    first = (end(world) - timedelta(days=30)).astimezone(ZONE).replace(hour=0, minute=0, second=0, microsecond=0)
    found = [one for one in world.expected.values() if one["conversion"] == "purchase" and one["status"] != "withdrawn"]
    return [one for one in found if datetime.fromisoformat(one["occurred_at"]).astimezone(UTC) >= first.astimezone(UTC)]


def revenue(world: World) -> Decimal:
    credits = (credit for one in purchases(world) for credit in one["credits"].get("last_non_direct", []))
    return sum((Decimal(credit["revenue"]) for credit in credits), Decimal(0))


def orders(world: World) -> int:
    return len(purchases(world))
