"""A campaign gets too dear, and people hear of it once: by the worker's own webhook and by Prometheus and Alertmanager."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from integration.monitoring import ALERTMANAGER, PROMETHEUS, Alertmanager, Prometheus, Webhook, until
from integration.stack import Item, Stack, Worker

from streams.simulator import PARCOURS_TOML, Simulation

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.skipif(
        PROMETHEUS is None or ALERTMANAGER is None,
        reason="Prometheus or Alertmanager is not installed (Debian packages prometheus, prometheus-alertmanager): "
        "alerts were NOT RUN for real",
    ),
]

SCOPE = {"channel": "Paid Social", "network": "pinterest", "campaign": 'autumn "50 %"'}
RULE = {"rule": "cpa-high", "severity": "critical", "team": "growth", **SCOPE}
TOML = (
    PARCOURS_TOML
    + """
[[alerts]]
name = "cpa-high"
metric = "cpa"
network = "pinterest"
campaign = "autumn*"
threshold = 50
clear = 40
window = "24h"
severity = "critical"
team = "growth"
"""
)


class Campaign:
    """One campaign's spend and orders, over the last hours."""

    def __init__(self) -> None:
        # A full hour: a ratio takes both sides up to the hour in which cost ends.
        self.now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
        self.orders = 0

    def cost(self, amount: int) -> list[Item]:
        """What was spent in 20 hours, in place of what was said before."""
        row = {
            "cost_id": "autumn-today",
            "start": (self.now - timedelta(hours=20)).isoformat(),
            "end": self.now.isoformat(),
            "reported_at": datetime.now(UTC).isoformat(),
            "amount": str(amount),
            "currency": "EUR",
            **SCOPE,
        }
        return [("costs", json.dumps(row).encode())]

    def sold(self, count: int) -> list[Item]:
        """Orders of new persons, each three hours after a click on the campaign's ad."""
        items: list[Item] = []
        for _ in range(count):
            self.orders += 1
            n, person = self.orders, {"customer_id": f"autumn-{self.orders}"}
            clicked, ordered = self.now - timedelta(hours=8), self.now - timedelta(hours=5)
            click = {"event_id": f"autumn-k{n}", "occurred_at": clicked.isoformat(), **person, **SCOPE}
            order = {
                "type": "order", "event_id": f"autumn-p{n}", "occurred_at": ordered.isoformat(), **person,
                "order_id": f"autumn-o{n}", "revenue": "80", "currency": "EUR",
            }  # fmt: skip
            items += [("clicks", json.dumps(click).encode()), ("purchases", json.dumps(order).encode())]
        return items


def leads(worker: Worker) -> bool:
    """Whether a worker says that it leads; one that does not answer does not."""
    try:
        with urllib.request.urlopen(f"{worker.url}/api/status", timeout=5) as response:
            return bool(json.load(response)["leader"])
    except OSError:
        return False


def only(found: list[Worker]) -> Worker | None:
    return found[0] if len(found) == 1 else None


def background() -> list[Item]:
    """Two days of a shop that end now: other campaigns, which no rule looks at."""
    start = datetime.now(UTC) - timedelta(days=2)
    return [(record.topic, record.value) for record in Simulation(11, start=start, days=2, persons=150).records()]


@pytest.mark.timeout(600)
def test_a_dear_campaign_is_told_once_by_each_way_while_the_leader_moves(
    stack: Callable[..., Stack], tmp_path: Path
) -> None:
    with Webhook() as hook:
        one = stack(TOML, PARCOURS_WEBHOOK_URL=f"{hook.url}/worker")
        first, second = one.worker(), one.worker()
        targets = [worker.url.removeprefix("http://") for worker in (first, second)]
        with (
            Alertmanager(tmp_path, hook.url) as manager,
            Prometheus(tmp_path, targets, manager.url.removeprefix("http://")) as prometheus,
        ):
            watch(one, hook, prometheus)


def watch(one: Stack, hook: Webhook, prometheus: Prometheus) -> None:
    campaign = Campaign()

    def series(family: str) -> list[tuple[dict[str, str], float]]:
        selector = ",".join(f"{name}={json.dumps(value)}" for name, value in RULE.items())
        return prometheus.query(f"leader:parcours_alert_{family}:last{{{selector}}}")

    def told(status: str) -> tuple[list[Any], list[tuple[str, Any]]]:
        """What each way has told about the campaign."""
        own = [alert for alert in hook.at("/worker") if alert["status"] == status]
        relayed = [(to, alert) for to, alert in hook.notified() if alert["labels"].get("area") == "business"]
        return own, [(to, alert) for to, alert in relayed if alert["status"] == status]

    def tail() -> str:
        return "\n".join([*(worker.tail(1500) for worker in one.workers), prometheus.tail(), repr(hook.notified())])

    # 300 EUR for 10 orders: nobody is told.
    one.publish(background() + campaign.sold(10))
    one.settle()
    one.publish(campaign.cost(300))
    until("its value is recorded", lambda: [value for _, value in series("value")] == [30], 90, tail)
    [(labels, active)] = series("active")
    assert active == 0
    assert {"instance", "pod"}.isdisjoint(labels)
    assert told("firing") == ([], [])

    # 1,500 EUR for the same 10: with 95 % confidence more than 50 each.
    one.publish(campaign.cost(1500))
    until("both ways tell that it fires", lambda: all(told("firing")), 90, tail)
    [(_, dear)] = series("value")
    assert dear == 150

    # The leader is killed, and the other worker goes on.
    leader = until("one worker leads", lambda: only([each for each in one.workers if leads(each)]), 30, tail)
    [epoch] = [value for _, value in prometheus.query("max(parcours_leader_epoch)")]
    [before] = [value for _, value in prometheus.query("max(parcours_alerts_evaluated_timestamp_seconds)")]
    leader.kill()
    until("another worker leads", lambda: any(leads(worker) for worker in one.workers), 90, tail)
    until(
        "the new leader has evaluated the rules, and Prometheus has seen it",
        lambda: prometheus.query(
            f"parcours_alerts_evaluated_timestamp_seconds > {before} and on (instance) parcours_leader_epoch > {epoch}"
        ),
        90,
        tail,
    )
    moved = time.time()
    until("Prometheus evaluates after that", lambda: prometheus.query(f"timestamp(up) > {moved}"), 30, tail)
    assert [len(way) for way in told("firing")] == [1, 1]
    assert told("resolved") == ([], [])

    # 60 more orders: 1,500 EUR for 70 are 21 each.
    one.publish(campaign.sold(60))
    until("both ways tell that it is over", lambda: all(told("resolved")), 120, tail)
    assert [value for _, value in series("active")] == [0]

    # One firing and one end, by each way; what else came is of the pipeline.
    own, relayed = told("firing")
    own_end, relayed_end = told("resolved")
    assert [alert["id"] for alert in own] == [alert["id"] for alert in own_end] == [own[0]["id"]]
    assert {name: own[0][name] for name in RULE} == RULE
    assert [to for to, _ in relayed + relayed_end] == ["marketing-on-call", "marketing-on-call"]
    assert relayed[0][1]["fingerprint"] == relayed_end[0][1]["fingerprint"]
    assert relayed[0][1]["startsAt"] == relayed_end[0][1]["startsAt"]
    assert relayed[0][1]["labels"] == {"alertname": "ParcoursAlert", "area": "business", "job": "parcours", **RULE}
    annotations = relayed[0][1]["annotations"]
    assert annotations["summary"] == 'cpa-high: Paid Social / pinterest / autumn "50 %"'
    assert annotations["description"].startswith("Value 150, threshold 50, bound 88.")
