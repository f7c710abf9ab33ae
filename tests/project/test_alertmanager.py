"""prometheus/alertmanager.yml: accepted by amtool, reached by Prometheus, and who is told what."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FILE = ROOT / "prometheus" / "alertmanager.yml"
CONFIG: dict[str, Any] = yaml.safe_load(FILE.read_text("utf-8"))
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["services"]
PIPELINE = [
    rule
    for file in sorted((ROOT / "prometheus" / "rules").glob("*.yml"))
    for group in yaml.safe_load(file.read_text("utf-8"))["groups"]
    for rule in group["rules"]
    if rule.get("labels", {}).get("area") == "pipeline"
]
ALERTS = {rule["alert"] for rule in PIPELINE}

AMTOOL = shutil.which("amtool")
needs_amtool = pytest.mark.skipif(AMTOOL is None, reason="amtool is not installed: Alertmanager's file is UNCHECKED")


def amtool(*words: str) -> subprocess.CompletedProcess[str]:
    assert AMTOOL
    return subprocess.run([AMTOOL, *words], capture_output=True, text=True, check=False)


def receivers(file: Path, labels: dict[str, str]) -> list[str]:
    """Who is told of an alert with these labels."""
    words = [f"{name}={value}" for name, value in labels.items()]
    result = amtool("config", "routes", "test", f"--config.file={file}", *words)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip().split(",")


@needs_amtool
def test_amtool_accepts_the_file() -> None:
    result = amtool("check-config", str(FILE))
    assert result.returncode == 0, result.stdout + result.stderr


@needs_amtool
def test_amtool_refuses_a_receiver_that_is_not_there(tmp_path: Path) -> None:
    broken = tmp_path / "alertmanager.yml"
    broken.write_text(FILE.read_text("utf-8").replace("- name: platform\n", "- name: platfrom\n"), "utf-8")
    result = amtool("check-config", str(broken))
    assert result.returncode == 1
    assert "platform" in result.stderr + result.stdout


CPA = {"alertname": "ParcoursAlert", "area": "business", "job": "parcours", "rule": "cpa", "team": "growth"}


@needs_amtool
@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        (CPA | {"severity": "critical", "network": "facebook"}, "marketing-on-call"),
        (CPA | {"severity": "warning", "network": "facebook"}, "marketing"),
        (CPA | {"severity": "warning", "team": ""}, "marketing"),
        ({"severity": "critical"}, "marketing-on-call"),
        ({}, "marketing"),
    ],
)
def test_business_alerts_go_to_marketing(labels: dict[str, str], receiver: str) -> None:
    assert receivers(FILE, labels) == [receiver]


@needs_amtool
@pytest.mark.parametrize("rule", PIPELINE, ids=lambda rule: rule["alert"])
def test_pipeline_alerts_go_to_the_platform_s_people(rule: dict[str, Any]) -> None:
    labels = {"alertname": rule["alert"], "job": "parcours", **rule["labels"]}
    [receiver] = receivers(FILE, labels)
    assert receiver == {"critical": "platform-on-call", "warning": "platform"}[rule["labels"]["severity"]]


@needs_amtool
def test_a_team_s_own_route_is_where_the_comment_puts_it(tmp_path: Path) -> None:
    text = re.sub(
        r"^( +)#(- matchers: .*growth.*|  receiver: growth)$", r"\1\2", FILE.read_text("utf-8"), flags=re.MULTILINE
    )
    file = tmp_path / "alertmanager.yml"
    file.write_text(text + "  - name: growth\n", "utf-8")
    assert receivers(file, CPA | {"severity": "critical"}) == ["growth"]
    assert receivers(file, CPA | {"severity": "critical", "team": "brand"}) == ["marketing-on-call"]
    assert receivers(file, {"area": "pipeline", "severity": "warning", "team": "growth"}) == ["platform"]


def test_each_receiver_has_an_address_and_is_used() -> None:
    text = FILE.read_text("utf-8")
    for receiver in CONFIG["receivers"]:
        [hook] = receiver["webhook_configs"]
        assert hook["url"].endswith(f"/{receiver['name']}")
        # Resolutions are sent unless said otherwise.
        assert hook.get("send_resolved", True)
        assert re.search(rf"^ +receiver: {receiver['name']}$", text, re.MULTILINE)


# Who holds back whom: the matchers read as Alertmanager reads them.


def matches(matchers: list[str], labels: dict[str, str]) -> bool:
    for matcher in matchers:
        found = re.fullmatch(r'(\w+)(=~|!~|!=|=)"(.*)"', matcher)
        assert found, matcher
        name, how, wanted = found.groups()
        value = labels.get(name, "")
        same = bool(re.fullmatch(wanted, value)) if "~" in how else value == wanted
        if same == how.startswith("!"):
            return False
    return True


def held_back(source: dict[str, str], target: dict[str, str]) -> bool:
    return any(
        matches(rule["source_matchers"], source)
        and matches(rule["target_matchers"], target)
        and all(source.get(name, "") == target.get(name, "") for name in rule["equal"])
        for rule in CONFIG["inhibit_rules"]
    )


def pipeline(alert: str, **labels: str) -> dict[str, str]:
    [rule] = [rule for rule in PIPELINE if rule["alert"] == alert]
    return {"alertname": alert, "job": "parcours", **rule["labels"], **labels}


@pytest.mark.parametrize(
    "alert", sorted(ALERTS - {"ParcoursWorkerDown", "ParcoursNoticesGivenUp", "ParcoursStaleCosts"})
)
def test_an_unsound_pipeline_holds_business_alerts_back(alert: str) -> None:
    assert held_back(pipeline(alert), CPA | {"network": "facebook"})
    assert held_back(pipeline(alert), CPA)
    assert not held_back(pipeline(alert), CPA | {"job": "staging"})
    assert not held_back(CPA, pipeline(alert))


def test_one_worker_of_several_and_undelivered_notices_hold_nothing_back() -> None:
    assert not held_back(pipeline("ParcoursWorkerDown", instance="a"), CPA)
    assert not held_back(pipeline("ParcoursNoticesGivenUp", way="webhook"), CPA)


def test_stale_costs_hold_back_their_network_and_the_total() -> None:
    stale = pipeline("ParcoursStaleCosts", channel="Paid Social", network="facebook")
    assert held_back(stale, CPA | {"channel": "Paid Social", "network": "facebook", "campaign": "spring"})
    assert held_back(stale, CPA)
    assert not held_back(stale, CPA | {"channel": "Paid Search", "network": "google"})


def test_the_cause_is_told_and_not_what_follows() -> None:
    none = pipeline("ParcoursNoWorker")
    assert all(held_back(none, pipeline(alert)) for alert in ALERTS - {"ParcoursNoWorker"})
    assert not any(held_back(pipeline(alert), none) for alert in ALERTS)
    away = pipeline("ParcoursRedisAway")
    assert {alert for alert in ALERTS if held_back(away, pipeline(alert))} == {
        "ParcoursAlertsNotEvaluated",
        "ParcoursLag",
        "ParcoursLatency",
        "ParcoursRewinds",
    }


def test_inhibition_names_alerts_that_are_there() -> None:
    text = "\n".join(
        matcher for rule in CONFIG["inhibit_rules"] for matcher in (*rule["source_matchers"], *rule["target_matchers"])
    )
    assert set(re.findall(r"Parcours\w+", text)) <= ALERTS


def test_one_rule_s_campaigns_are_one_message_and_so_is_the_pipeline() -> None:
    route = CONFIG["route"]
    assert "rule" in route["group_by"]
    assert not {"campaign", "channel", "network"} & set(route["group_by"])
    [area] = [each for each in route["routes"] if each["matchers"] == ['area="pipeline"']]
    assert area["group_by"] == ["job", "area"]


def test_prometheus_sends_alerts_where_alertmanager_listens() -> None:
    prometheus = yaml.safe_load((ROOT / "prometheus" / "prometheus.yml").read_text("utf-8"))
    [manager] = prometheus["alerting"]["alertmanagers"]
    assert manager["static_configs"] == [{"targets": ["alertmanager:9093"]}]
    service = SERVICES["alertmanager"]
    assert [port.split(":")[2] for port in service["ports"]] == ["9093"]
    mounted = dict(reversed(volume.split(":")[:2]) for volume in service["volumes"])
    [path] = [word.split("=")[1] for word in service["command"] if word.startswith("--config.file=")]
    assert mounted[path] == "./prometheus/alertmanager.yml"
