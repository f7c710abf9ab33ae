"""prometheus/: accepted by promtool, and pointed at what the project runs."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from attribution.families import series
from models.settings import Infrastructure
from streams.exporter import BUSINESS
from streams.metrics import Metrics
from streams.notices import BOARD

ROOT = Path(__file__).parents[2]
FILE = ROOT / "prometheus" / "prometheus.yml"
CONFIG: dict[str, Any] = yaml.safe_load(FILE.read_text("utf-8"))
JOBS: dict[str, dict[str, Any]] = {job["job_name"]: job for job in CONFIG["scrape_configs"]}
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["services"]

PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(
    PROMTOOL is None, reason="promtool is not installed: Prometheus files are UNCHECKED"
)


def promtool(*words: str) -> subprocess.CompletedProcess[str]:
    assert PROMTOOL
    return subprocess.run([PROMTOOL, *words], capture_output=True, text=True, check=False)


@needs_promtool
def test_promtool_accepts_the_configuration() -> None:
    result = promtool("check", "config", str(FILE))
    assert result.returncode == 0, result.stdout + result.stderr


@needs_promtool
def test_promtool_refuses_a_wrong_key(tmp_path: Path) -> None:
    broken = tmp_path / "prometheus.yml"
    broken.write_text(FILE.read_text("utf-8").replace("sample_limit", "samples_limit"), "utf-8")
    result = promtool("check", "config", str(broken))
    assert result.returncode != 0
    assert "samples_limit" in result.stderr


def test_each_worker_is_scraped_where_it_listens() -> None:
    job = JOBS["parcours"]
    [discovery] = job["dns_sd_configs"]
    assert job["metrics_path"] == "/metrics"
    assert (discovery["names"], discovery["type"]) == (["worker"], "A")
    assert "worker" in SERVICES
    assert discovery["port"] == SERVICES["worker"]["environment"]["PARCOURS_WEB_PORT"]


def test_a_scrape_is_bounded_above_the_exporters_budget() -> None:
    assert JOBS["parcours"]["sample_limit"] == 60_000


def seconds(duration: str) -> int:
    match = re.fullmatch(r"(\d+)s", duration)
    assert match, duration
    return int(match[1])


def test_scrapes_are_frequent_enough_and_end_before_the_next() -> None:
    interval = seconds(CONFIG["global"]["scrape_interval"])
    assert 5 <= interval <= 15
    assert seconds(CONFIG["global"]["scrape_timeout"]) < interval
    assert not {"scrape_interval", "scrape_timeout"} & JOBS["parcours"].keys()


def test_grafana_knows_the_scrape_interval() -> None:
    file = ROOT / "grafana" / "provisioning" / "datasources" / "prometheus.yml"
    [source] = yaml.safe_load(file.read_text("utf-8"))["datasources"]
    assert source["jsonData"]["timeInterval"] == CONFIG["global"]["scrape_interval"]
    assert source["url"] == "http://prometheus:9090"
    assert any(port.endswith(":9090") for port in SERVICES["prometheus"]["ports"])


def test_the_rule_files_are_looked_for_in_the_mounted_folder() -> None:
    mounted = dict(volume.split(":")[:2] for volume in SERVICES["prometheus"]["volumes"])
    assert mounted["./prometheus"] == "/etc/prometheus"
    assert "--config.file=/etc/prometheus/prometheus.yml" in SERVICES["prometheus"]["command"]
    assert CONFIG["rule_files"] == ["rules/*.yml"]


# Rules

RULES = ROOT / "prometheus" / "rules"
TESTS = sorted((ROOT / "prometheus" / "tests").glob("*.yml"))
ALERTS: dict[str, dict[str, Any]] = {
    rule["alert"]: rule
    for file in sorted(RULES.glob("*.yml"))
    for group in yaml.safe_load(file.read_text("utf-8"))["groups"]
    for rule in group["rules"]
    if "alert" in rule
}
_RECORDING = yaml.safe_load((RULES / "recorded.yml").read_text("utf-8"))["groups"]
GROUPS: list[list[str]] = [[rule["record"] for rule in group["rules"]] for group in _RECORDING]
RECORDED: dict[str, str] = {rule["record"]: rule["expr"] for group in _RECORDING for rule in group["rules"]}


def builder() -> ModuleType:
    spec = importlib.util.spec_from_file_location("prometheus_build", ROOT / "prometheus" / "build.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_recording_rules_are_what_the_script_writes() -> None:
    assert (RULES / "recorded.yml").read_text("utf-8") == builder().rendered(), "run `make rules`"


def test_each_business_family_has_one_copy() -> None:
    assert len(BUSINESS) > 40
    assert {f"leader:{family}:last" for family in {*SERIES, *BOARD}} == RECORDED.keys()


def test_an_alert_s_figures_are_recorded_before_it_is_active() -> None:
    """In one group, which is evaluated in order: a notice never shows the figures of the round before."""
    [group] = [names for names in GROUPS if "leader:parcours_alert_active:last" in names]
    assert group[-1] == "leader:parcours_alert_active:last"
    assert {f"leader:parcours_alert_{name}:last" for name in ("value", "threshold", "bound")} <= set(group)


@needs_promtool
@pytest.mark.parametrize("file", sorted(RULES.glob("*.yml")), ids=lambda file: file.stem)
def test_promtool_accepts_the_rules(file: Path) -> None:
    result = promtool("check", "rules", "--lint=all", "--lint-fatal", str(file))
    assert result.returncode == 0, result.stdout + result.stderr


@needs_promtool
@pytest.mark.parametrize("file", TESTS, ids=lambda file: file.stem)
def test_the_rules_do_what_their_tests_say(file: Path) -> None:
    result = promtool("test", "rules", str(file))
    assert result.returncode == 0, result.stdout + result.stderr


@needs_promtool
def test_a_wrong_expectation_fails(tmp_path: Path) -> None:
    text = (ROOT / "prometheus" / "tests" / "business.yml").read_text("utf-8")
    assert "threshold 50," in text
    file = tmp_path / "wrong.yml"
    file.write_text(text.replace("threshold 50,", "threshold 51,").replace("../rules", str(RULES)), "utf-8")
    result = promtool("test", "rules", str(file))
    assert result.returncode == 1, result.stdout + result.stderr


def cases(name: str) -> list[dict[str, Any]]:
    """What the promtool tests expect of an alert."""
    tests = [test for file in TESTS for test in yaml.safe_load(file.read_text("utf-8"))["tests"]]
    return [case for test in tests for case in test.get("alert_rule_test", ()) if case["alertname"] == name]


@pytest.mark.parametrize("name", ALERTS)
def test_each_alert_is_seen_firing_with_its_text_and_silent(name: str) -> None:
    expected = [case["exp_alerts"] for case in cases(name)]
    assert [] in expected
    fired = [alert for alerts in expected for alert in alerts]
    assert fired
    for alert in fired:
        assert alert["exp_annotations"].keys() == ALERTS[name]["annotations"].keys()


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", ALERTS)
def test_each_alert_says_who_and_has_a_runbook(name: str) -> None:
    rule = ALERTS[name]
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    assert anchor in anchors(ROOT / page)
    if rule["labels"]["area"] == "business":
        # Severity and team are those of the rule in parcours.toml.
        assert rule["labels"].keys() == {"area"}
    else:
        assert rule["labels"] == {
            "area": "pipeline",
            "severity": rule["labels"]["severity"],
            "team": "platform",
        }
        assert rule["labels"]["severity"] in {"critical", "warning"}


def test_the_runbook_lists_each_alert_on_the_pipeline() -> None:
    page = (ROOT / "docs" / "operations.md").read_text("utf-8")
    rows = re.findall(r"^\| `(Parcours\w+)` \| (\w+) \| \[[^]]+\]\(#([\w-]+)\) \|", page, re.MULTILINE)
    assert {(name, severity, f"docs/operations.md#{anchor}") for name, severity, anchor in rows} == {
        (name, rule["labels"]["severity"], rule["annotations"]["runbook_url"])
        for name, rule in ALERTS.items()
        if rule["labels"]["area"] == "pipeline"
    }
    assert len(rows) == len({name for name, _, _ in rows})


SERIES = [one for name, family in BUSINESS.items() for one in series(name, family)]
EXPRESSIONS = {name: rule["expr"] for name, rule in ALERTS.items()} | RECORDED


def test_rules_read_what_is_exported_or_recorded() -> None:
    exported = {*SERIES, *BOARD}
    for family in Metrics().registry.collect():
        exported |= {family.name} | {f"{family.name}{part}" for part in ("_total", "_bucket", "_count", "_sum")}
    for name, expression in EXPRESSIONS.items():
        used = set(re.findall(r"\b(?:leader:)?parcours_\w+(?::\w+)?", expression))
        assert used or name == "ParcoursWorkerDown", name
        assert {metric for metric in used if not metric.startswith("leader:")} <= exported, name
        assert {metric for metric in used if metric.startswith("leader:")} <= RECORDED.keys(), name
    used = set(re.findall(r"leader:[\w]+:last", ALERTS["ParcoursAlert"]["annotations"]["description"]))
    assert len(used) == 3
    assert used <= RECORDED.keys()


@pytest.mark.parametrize("name", ALERTS)
def test_alerts_read_business_metrics_from_the_newest_leader(name: str) -> None:
    used = set(re.findall(r"(?<![:\w])parcours_\w+", ALERTS[name]["expr"]))
    # When anyone evaluated last is asked of all workers, so that it is known without the copies too.
    assert used & {*SERIES, *BOARD} <= {"parcours_alerts_evaluated_timestamp_seconds"}


def test_nothing_fires_for_a_campaign_that_is_absent() -> None:
    for name, expression in EXPRESSIONS.items():
        for inside in re.findall(r"absent(?:_over_time)?\(([^)]*)\)", expression):
            assert inside in {
                'parcours_up{job="parcours"}',
                'parcours_alerts_evaluated_timestamp_seconds{job="parcours"}',
            }, name
    assert set(re.findall(r'job="(\w+)"', " ".join(EXPRESSIONS.values()))) == {"parcours"} <= JOBS.keys()


def test_a_copy_outlives_missed_scrapes_and_a_new_leader() -> None:
    assert seconds(builder().RECENT) >= 4 * seconds(CONFIG["global"]["scrape_interval"])
    assert seconds(builder().RECENT) > Infrastructure().session_timeout + Infrastructure().rebalance_timeout
