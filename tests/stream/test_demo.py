"""The demo: a whole system in real processes, from start to nothing left."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from streams.app import bootstrap
from streams.demo import Board, Demo, Line, page, paid, read_board
from streams.embedded import free_port
from streams.logs import Kafka, records

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
DEADLINE = 90.0


@pytest.fixture(autouse=True)
def _fails_by_its_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """A demo that cannot load says why, and shows its worker's log, before pytest's own limit ends the test."""
    monkeypatch.setattr("streams.demo.LOAD_SECONDS", 200.0)


TEXT = """\
# HELP parcours_channel_cpa Cost per acquisition.
# TYPE parcours_channel_cpa gauge
parcours_channel_cpa{channel="Paid Social",network="x",model="m",basis="conversion",conversion="purchase",window="7d",currency="EUR"} 12.5
parcours_channel_cpa{channel="Paid Social",network="x",model="other",basis="conversion",conversion="purchase",window="7d",currency="EUR"} 1
parcours_channel_cpa{channel="Paid Social",network="x",model="m",basis="touch",conversion="purchase",window="7d",currency="EUR"} 2
parcours_channel_cpa{channel="Paid Social",network="x",model="m",basis="conversion",conversion="lead",window="7d",currency="EUR"} 3
parcours_channel_cpa{channel="Paid Social",network="x",model="m",basis="conversion",conversion="purchase",window="30d",currency="EUR"} 4
parcours_channel_touches{channel="Paid Social",network="x",window="7d"} 40
parcours_channel_touches{channel="Direct",network="(none)",window="7d"} 9
parcours_events_total{topic="clicks",source="ads",outcome="accepted"} 70
parcours_events_total{topic="clicks",source="(none)",outcome="malformed_json"} 3
parcours_lag_records{topic="clicks",partition="0"} 5
parcours_latency_seconds_bucket{le="0.1"} 98
parcours_latency_seconds_bucket{le="0.5"} 99
parcours_latency_seconds_bucket{le="+Inf"} 100
"""


def test_the_board_reads_one_model_basis_conversion_and_window() -> None:
    board = read_board(TEXT, "7d", "m")
    assert board.lines == [
        Line("Direct", "(none)", touches=9),
        Line("Paid Social", "x", touches=40, cpa=12.5),
    ]
    assert (board.events, board.lag, board.p99()) == (73, 5, 0.5)
    assert board.p99(Board("7d", "m", latency={0.1: 0, 0.5: 0, math.inf: 0})) == 0.5
    assert board.p99(Board("7d", "m", latency={0.1: 90, 0.5: 90, math.inf: 90})) == math.inf
    assert board.p99(board) is None


ALERTS = """\
parcours_alert_active{rule="cpa",severity="warning",team="",channel="Paid Search",network="google",campaign="brand"} 1
parcours_alert_active{rule="cpa",severity="warning",team="",channel="Paid Search",network="google",campaign="generic"} 0
parcours_alert_value{rule="cpa",severity="warning",team="",channel="Paid Search",network="google",campaign="brand"} 99.5
parcours_alert_bound{rule="cpa",severity="warning",team="",channel="Paid Search",network="google",campaign="brand"} 77
parcours_alert_threshold{rule="cpa",severity="warning",team="",channel="Paid Search",network="google",campaign="brand"} 60
parcours_goal_progress_ratio{goal="orders"} 0.4
parcours_goal_on_track{goal="orders"} 0
"""


def test_the_board_reads_what_fires_and_goals() -> None:
    board = read_board(TEXT + ALERTS, "7d", "m")
    assert board.firing == {"cpa (google brand)": {"active": 1, "value": 99.5, "bound": 77, "threshold": 60}}
    assert board.goals == {"orders": {"progress_ratio": 0.4, "on_track": 0}}
    assert read_board(TEXT, "7d", "m").firing == {}


@pytest.mark.integration
async def test_an_alert_fires_and_resolves_within_the_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network bills too much and corrects it: what the shop then hears is on the topic, one id, fired and resolved."""
    monkeypatch.setattr("streams.simulator.MISTAKE_SECONDS", (1, 6))
    demo = Demo(persons=400, days=20, port=free_port(), rate=20)
    try:
        await demo.start()
        await demo.load(lambda n: None, lambda n, of: None)
        publisher = asyncio.create_task(demo.live())
        for firing in (True, False):
            board = await _until(demo, firing=firing)
        assert demo.fired == {"cpa-brand (google brand_fr)"}
        assert board.goals["orders"]["progress_ratio"] > 0
        publisher.cancel()
        await asyncio.gather(publisher, return_exceptions=True)
        kafka = Kafka(bootstrap(demo.broker.url), {})
        said = [json.loads(record.value) async for record in records(kafka, ["alerts"])]
        assert [one["status"] for one in said] == ["firing", "resolved"]
        assert len({one["id"] for one in said}) == 1
    finally:
        demo.stop()


async def _until(demo: Demo, *, firing: bool) -> Board:
    """The first board on which something fires, or nothing does."""
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        board = await demo.board("7d")
        if board is not None and bool(board.firing) == firing:
            return board
        await asyncio.sleep(0.1)
    raise AssertionError(f"firing is not {firing} after {DEADLINE} s")


def finite(lines: list[Line]) -> list[Line]:
    return [
        line
        for line in paid(lines)
        if line.cpa is not None and line.roi is not None and math.isfinite(line.cpa) and math.isfinite(line.roi)
    ]


@pytest.mark.integration
async def test_the_demo_shows_what_metrics_say_and_it_changes() -> None:
    demo = Demo(days=12, persons=400, seed=1, port=free_port())
    counted: list[int] = []
    progress: list[tuple[int, int]] = []
    try:
        await demo.start()
        pids = demo.pids
        pidfds = [os.pidfd_open(pid) for pid in pids]
        await demo.load(counted.append, lambda done, total: progress.append((done, total)))
        assert counted[-1] == demo.published == progress[-1][0] == progress[-1][1] > 1000
        publisher = asyncio.create_task(demo.live())
        async with asyncio.timeout(DEADLINE):  # what was loaded last is exported some seconds later
            while True:
                text = page(f"{demo.address}/metrics") or ""
                first = read_board(text, "7d", demo.model)
                if len(finite(first.lines)) >= 5:
                    break
                assert not publisher.done()
                await asyncio.sleep(0.2)
        _equal_to_metrics(first, text)
        async with asyncio.timeout(DEADLINE):
            # What was loaded may still be folded: figures change before further events come.
            while (later := await demo.board("7d")) is None or not (
                _changed(first, later) and later.events > first.events
            ):
                assert not publisher.done()
                await asyncio.sleep(0.2)
        publisher.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await publisher
    finally:
        demo.stop()
    assert not demo.directory.exists()
    assert page(f"{demo.address}/livez") is None
    for pidfd in pidfds:
        assert select.select([pidfd], [], [], DEADLINE)[0]
        os.close(pidfd)


def _changed(first: Board, later: Board) -> bool:
    """Whether a row's CPA or ROI is another one."""
    before = {(line.channel, line.network): (line.cpa, line.roi) for line in finite(first.lines)}
    return any(
        before.get((line.channel, line.network)) not in (None, (line.cpa, line.roi)) for line in finite(later.lines)
    )


def _equal_to_metrics(board: Board, text: str) -> None:
    """The board against the exposition, looked up sample by sample with the parser alone."""
    samples = {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    attributed = {"model": board.model, "basis": "conversion", "conversion": "purchase"}
    for line in finite(board.lines):
        own = {"channel": line.channel, "network": line.network, "window": "7d"}
        money = own | {"currency": "EUR"}
        cpa = samples["parcours_channel_cpa", frozenset((money | attributed).items())]
        roi = samples["parcours_channel_roi_on_revenue_ratio", frozenset((own | attributed).items())]
        cost = samples["parcours_channel_cost", frozenset(money.items())]
        assert (line.cpa, line.roi, line.cost) == (cpa, roi, cost)


def _command(tmp_path: Path, *args: str) -> subprocess.Popen[str]:
    """The demo in a process of its own, whose temporary files go to `tmp_path`."""
    command = [sys.executable, "-m", "streams.cli", "demo", "--days", "3", "--persons", "100", "--plain", *args]
    return subprocess.Popen(
        command, cwd=ROOT, env=os.environ | {"TMPDIR": str(tmp_path)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def _children(pid: int) -> list[int]:
    """The processes whose parent is `pid` (Linux)."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(status.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(status.parent.name))
    return found


@pytest.mark.integration
@pytest.mark.skipif(not hasattr(os, "pidfd_open") or not Path("/proc/self/stat").exists(), reason="needs Linux")
@pytest.mark.parametrize(
    ("said", "which"), [("Starting", signal.SIGINT), ("CPA", signal.SIGINT), ("CPA", signal.SIGTERM), ("CPA", None)]
)
def test_the_command_ends_cleanly_and_leaves_nothing(tmp_path: Path, said: str, which: signal.Signals | None) -> None:
    demo = _command(tmp_path, *([] if which else ["--for", "2"]))
    try:
        assert demo.stdout is not None
        seen = []
        for line in demo.stdout:
            seen.append(line)
            if said in line:
                break
        children = [os.pidfd_open(pid) for pid in _children(demo.pid)]
        if which:
            demo.send_signal(which)
        rest = demo.stdout.read()
        assert demo.wait(DEADLINE) == 0, "".join([*seen, rest])
    finally:
        demo.kill()
        demo.communicate()
    assert "Traceback" not in rest
    assert rest.endswith("Stopped; nothing is left behind.\n")
    if said == "CPA":
        assert len(children) == 3
    for child in children:
        assert select.select([child], [], [], DEADLINE)[0]
        os.close(child)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.integration
def test_kept_files_are_the_configuration_and_the_log(tmp_path: Path) -> None:
    demo = _command(tmp_path, "--for", "0", "--keep")
    out, _ = demo.communicate(timeout=DEADLINE)
    assert demo.returncode == 0, out
    (kept,) = tmp_path.iterdir()
    assert out.endswith(f"Stopped; kept {kept}\n")
    assert {"parcours.toml", "worker.log"} <= {path.name for path in kept.iterdir()}
    shutil.rmtree(kept)


def test_a_demo_never_started_leaves_nothing() -> None:
    demo = Demo(days=1, persons=1)
    demo.stop()
    demo.stop()
    assert not demo.directory.exists()
