"""Alertmanager itself, with the shipped file: what it holds back, and whom it tells of the rest."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pytest
from integration.monitoring import ALERTMANAGER, Alertmanager, Webhook, until

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(
        ALERTMANAGER is None,
        reason="Alertmanager is not installed (Debian package prometheus-alertmanager): inhibition was NOT RUN",
    ),
]


def labels(alert: str, **more: str) -> dict[str, str]:
    return {"alertname": alert, "job": "parcours", **more}


def business(rule: str, **more: str) -> dict[str, str]:
    return labels("ParcoursAlert", area="business", severity="critical", team="growth", rule=rule, **more)


def pipeline(alert: str, severity: str, **more: str) -> dict[str, str]:
    return labels(alert, area="pipeline", severity=severity, team="platform", **more)


STALE = pipeline("ParcoursStaleCosts", "warning", channel="Paid Social", network="facebook")
FACEBOOK = business("facebook", channel="Paid Social", network="facebook", campaign="spring")
GOOGLE = business("google", channel="Paid Search", network="google", campaign="brand")
TOTAL = business("total")
SILENT = pipeline("ParcoursSourceSilent", "critical", topic="purchases", source="shop")
DOWN = pipeline("ParcoursWorkerDown", "warning", instance="a")
NONE = pipeline("ParcoursNoWorker", "critical")
STAGING = business("google", channel="Paid Search") | {"job": "staging"}


def texts(alerts: Iterable[dict[str, str]]) -> list[str]:
    return sorted(json.dumps(each, sort_keys=True) for each in alerts)


@pytest.mark.parametrize(
    ("alerts", "suppressed"),
    [
        ([STALE, FACEBOOK, GOOGLE, TOTAL], [FACEBOOK, TOTAL]),
        ([SILENT, FACEBOOK, GOOGLE, TOTAL, STAGING], [FACEBOOK, GOOGLE, TOTAL]),
        ([DOWN, FACEBOOK, TOTAL], []),
        ([NONE, SILENT, DOWN, GOOGLE], [SILENT, DOWN, GOOGLE]),
    ],
)
def test_alertmanager_holds_back(
    tmp_path: Path, alerts: list[dict[str, str]], suppressed: list[dict[str, str]]
) -> None:
    told = [each for each in alerts if each not in suppressed]
    with Webhook() as hook, Alertmanager(tmp_path, hook.url) as manager:
        manager.post("/api/v2/alerts", [{"labels": each} for each in alerts])

        def as_wanted() -> bool:
            found = manager.get("/api/v2/alerts")
            held = texts(one["labels"] for one in found if one["status"]["state"] == "suppressed")
            return len(found) == len(alerts) and held == texts(suppressed)

        until("what is held back", as_wanted, 30, lambda: str(manager.get("/api/v2/alerts")))
        until("the rest is told", lambda: len(hook.notified()) >= len(told), 30, manager.tail)
        assert texts(one["labels"] for _, one in hook.notified()) == texts(told)
