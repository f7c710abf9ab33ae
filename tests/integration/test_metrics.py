"""What the worker exports is what a replay of the same events reports."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest
from integration.conftest import TOML, World
from integration.stack import Stack, Timeout, Worker
from prometheus_client.parser import text_string_to_metric_families

from attribution.replay import Replay
from attribution.report import report
from models.settings import load_marketing
from tests import shop

pytestmark = pytest.mark.integration
BUSINESS = (
    "parcours_total_",
    "parcours_channel_",
    "parcours_campaign_",
    "parcours_day_",
    "parcours_source_",
    "parcours_cost_through_",
)


def scrape(worker: Worker) -> str:
    with urllib.request.urlopen(f"{worker.url}/metrics", timeout=10) as response:
        assert response.status == 200
        return response.read().decode()


def business(text: str) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """Families of business metrics: name to (labels to value)."""
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(text):
        if family.name.startswith(BUSINESS):
            for sample in family.samples:
                found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def reported(windows: dict[str, list[dict[str, Any]]]) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family, rows in windows.items():
        for row in rows:
            labels = tuple(sorted((name, value) for name, value in row.items() if name != "value"))
            found.setdefault(family, {})[labels] = float(row["value"])
    return found


def test_every_exported_family_equals_the_report(stack: Callable[..., Stack], small: World) -> None:
    one = stack('clock = "event"\n' + TOML, PARCOURS_IDLE_AFTER="0.5")
    one.publish(small.items, small.timestamps())
    worker = one.worker()
    one.settle()
    replay = Replay(load_marketing(one.config))
    for record in small.records:
        if record.good:
            replay.take(record.topic, record.value)
    replay.finish()
    want = reported(report(replay)["windows"])
    deadline = time.monotonic() + 60
    got: dict[str, Any] = {}
    while not agree(got, want) and time.monotonic() < deadline:
        got = business(scrape(worker))
        time.sleep(0.2)
    assert set(got) == set(want)
    for family, rows in exact(want).items():
        assert got[family] == rows, family
    estimated = want.keys() - exact(want).keys()
    assert estimated == {
        f"parcours_{level}_{name}" for level in ("total", "channel") for name in ("reach", "frequency")
    }
    for family in estimated:
        assert got[family] == pytest.approx(want[family], rel=0.05), family
    assert len(want) > 25
    assert sum(len(rows) for rows in want.values()) > 500
    for period in ("1h", "30d", "month_to_date"):
        assert told(one, period) == {
            (name, frozenset(labels)): value
            for name, rows in got.items()
            for labels, value in rows.items()
            if ("window", period) in labels or not {"window", "days_ago"} & dict(labels).keys()
        }


def exact(found: dict[str, Any]) -> dict[str, Any]:
    """Without what is estimated: devices are counted by HyperLogLog."""
    return {
        name: rows
        for name, rows in found.items()
        if not name.endswith(("_reach", "_frequency")) or name.endswith("_platform_reach")
    }


def agree(got: dict[str, Any], want: dict[str, Any]) -> bool:
    """Devices are counted some seconds after the rest."""
    if set(got) != set(want) or exact(got) != exact(want):
        return False
    return all(got[family] == pytest.approx(want[family], rel=0.05) for family in want.keys() - exact(want).keys())


def told(one: Stack, period: str) -> dict[shop.Sample, float]:
    """What `parcours report` says from the Redis of a running system."""
    command = [sys.executable, "-m", "streams.cli", "report", "--json", "--period", period]
    ran = subprocess.run(command, env=one.env, capture_output=True, text=True, check=True)
    report_ = json.loads(ran.stdout)
    assert report_["config"] == one.marketing.digest()
    return {key: float(value) for key, value in shop.samples(report_).items()}


def test_metrics_pass_promtool_and_the_budget(stack: Callable[..., Stack], small: World) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian package prometheus): the exposition was not checked with it")
    one = stack('clock = "event"\n' + TOML)
    one.publish(small.items, small.timestamps())
    worker = one.worker()
    one.settle()
    deadline = time.monotonic() + 30
    text = ""
    while "parcours_total_cpa" not in text:
        assert time.monotonic() < deadline, "no business metrics"
        text = scrape(worker)
    done = subprocess.run([promtool, "check", "metrics"], input=text, text=True, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    (series,) = [
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "parcours_series"
    ]
    assert sum(len(rows) for rows in business(text).values()) <= series <= 40_000


def test_probes_and_status(stack: Callable[..., Stack], small: World) -> None:
    one = stack(TOML)
    one.publish(small.items[:500], small.timestamps())
    worker = one.worker()
    one.settle()
    for path in ("livez", "readyz"):
        with urllib.request.urlopen(f"{worker.url}/{path}", timeout=10) as response:
            assert (response.status, response.read()) == (200, b"ok\n")
    with urllib.request.urlopen(f"{worker.url}/api/status", timeout=10) as response:
        status = json.load(response)
    assert status["leader"] is True
    assert len(status["partitions"]) == sum(
        (4, one.marketing.topics.clicks, one.marketing.topics.touchpoints, one.marketing.topics.purchases, 1)
    )
    one.redis_server.kill()
    deadline = time.monotonic() + 30
    code, said = 200, b""
    while code == 200:
        if time.monotonic() > deadline:
            raise Timeout("readiness does not tell that Redis is away")
        one.publish(small.items[500:501])
        try:
            with urllib.request.urlopen(f"{worker.url}/readyz", timeout=10) as response:
                code = response.status
        except urllib.error.HTTPError as error:
            code, said = error.code, error.read()
    assert code == 503
    assert b"Redis is away" in said
    one.redis_server.start()
    one.sent.clear()
    while code != 200:
        assert time.monotonic() < deadline + 30
        try:
            with urllib.request.urlopen(f"{worker.url}/readyz", timeout=10) as response:
                code = response.status
        except urllib.error.HTTPError as error:
            code = error.code
