"""prometheus/: accepted by promtool, and pointed at what the project runs."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

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
    assert JOBS["parcours"]["sample_limit"] == 45_000


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
