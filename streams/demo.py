"""All of Parcours on one machine: an embedded broker and Redis, a worker, and a simulated shop that goes live.

`Demo` starts and stops the parts; `Board` is what the live table shows, read from the worker's `/metrics` like any other
reader of it would.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from aiokafka import AIOKafkaProducer
from prometheus_client.parser import text_string_to_metric_families

from models.settings import Marketing, load_marketing
from streams.app import bootstrap
from streams.embedded import _LAUNCH, HOST, Broker, EmbeddedServerError, RedisServer, free_port
from streams.simulator import PARCOURS_TOML, Record, Simulation
from streams.topics import create

START_SECONDS = 90.0
STOP_SECONDS = 10.0
LOAD_SECONDS = 300.0
"""Without any progress for so long, loading the history has failed."""
_IN_FLIGHT = 20_000
_MARKS = 20  # records of the log that are only marks, waiting to be read
_SETTLED = 3.0  # seconds: two refreshes of the exporter, and the time in which it renders
WATCHED_TOML = """
[[alerts]]
name = "cpa-brand"
metric = "cpa"
network = "google"
campaign = "brand_fr"
threshold = 60
clear = 50
window = "7d"
team = "acquisition"

[[goals]]
name = "orders"
metric = "orders"
target = {target}
start = {start}
deadline = {deadline}
"""
"""What the demo's shop wants to hear of, beside the simulated market's configuration."""

TOKEN = "demo"
"""Opens the journeys of the simulated shop's persons on the page: they are of nobody."""
FORGET_KEY = "no secret: all of a demo is gone with it"

ORDERS_A_DAY = 0.02  # of each person
_COLUMNS = {
    "touches": "touches",
    "attributed_conversions": "conversions",
    "attributed_revenue": "revenue",
    "cost": "cost",
    "cpa": "cpa",
    "roas_ratio": "roas",
    "roi_on_revenue_ratio": "roi",
}
_PIPELINE = (
    "parcours_events_total",
    "parcours_applied_total",
    "parcours_as_of",
    "parcours_lag_records",
    "parcours_latency_seconds",
    "parcours_alert_",
    "parcours_goal_",
)


@dataclass(slots=True)
class Line:
    """One row of the board. None is undefined; money in the reporting currency, ratios 0-1."""

    channel: str
    network: str
    touches: float = 0.0
    conversions: float | None = None
    revenue: float | None = None
    cost: float | None = None
    cpa: float | None = None
    roas: float | None = None
    roi: float | None = None


@dataclass(slots=True)
class Board:
    """One reading of `/metrics`: channels and networks in one window under one model, and how the worker keeps up."""

    window: str
    model: str
    lines: list[Line] = field(default_factory=list)
    events: float = 0.0
    applied: float = 0.0
    as_of: float = 0.0
    lag: float = 0.0
    latency: dict[float, float] = field(default_factory=dict)
    read_at: float = 0.0
    firing: dict[str, dict[str, float]] = field(default_factory=dict)
    """The alerts that fire: value, threshold and bound by rule and scope."""

    goals: dict[str, dict[str, float]] = field(default_factory=dict)
    """By goal: progress_ratio, expected_ratio, on_track and the others."""

    def p99(self, since: Board | None = None) -> float | None:
        """The bound, in seconds, under which 99 of 100 latencies since an earlier reading lie; None when there are none."""
        before = since.latency if since else {}
        counts = {bound: n - before.get(bound, 0.0) for bound, n in self.latency.items()}
        most = counts.get(float("inf"), 0.0)
        return next((bound for bound in sorted(counts) if counts[bound] >= 0.99 * most), None) if most else None


def read_board(text: str, window: str, model: str) -> Board:
    """The board in an exposition: purchases on the conversion basis."""
    board = Board(window, model, read_at=time.monotonic())
    lines: dict[tuple[str, str], Line] = {}
    alerts: dict[str, dict[str, float]] = {}
    wanted = f'window="{window}"'
    kept = [
        line
        for line in text.splitlines()
        if line.startswith(_PIPELINE) or (line.startswith("parcours_channel_") and wanted in line)
    ]
    for family in text_string_to_metric_families("\n".join(kept) + "\n"):
        for name, labels, value, *_ in family.samples:
            if name == "parcours_events_total":
                board.events += value
            elif name == "parcours_applied_total":
                board.applied += value
            elif name == "parcours_as_of_timestamp_seconds":
                board.as_of = value
            elif name == "parcours_lag_records":
                board.lag += value
            elif name.startswith("parcours_alert_") and "rule" in labels:
                where = " ".join(labels[part] for part in ("network", "campaign") if labels[part])
                alerts.setdefault(f"{labels['rule']} ({where})", {})[name.removeprefix("parcours_alert_")] = value
            elif name.startswith("parcours_goal_"):
                board.goals.setdefault(labels["goal"], {})[name.removeprefix("parcours_goal_")] = value
            elif name == "parcours_latency_seconds_bucket":
                board.latency[float(labels["le"])] = value
            column = _COLUMNS.get(name.removeprefix("parcours_channel_"))
            if column is None or not name.startswith("parcours_channel_"):
                continue
            if "model" in labels and (labels["model"], labels["basis"], labels["conversion"]) != (
                model, "conversion", "purchase",
            ):  # fmt: skip
                continue
            key = labels["channel"], labels["network"]
            line = lines.setdefault(key, Line(*key))
            setattr(line, column, value)
    board.firing = {name: figures for name, figures in alerts.items() if figures.get("active")}
    board.lines = sorted(
        lines.values(), key=lambda line: (-(line.revenue or 0), -(line.cost or 0), line.channel, line.network)
    )
    return board


class Demo:
    """The parts of a demo. `start`, then `load`, then `live` until cancelled; `stop` ends and removes everything."""

    def __init__(
        self, *, seed: int = 1, persons: int = 2000, days: float = 75, port: int | None = None, rate: float = 8.0
    ) -> None:
        """`port`: of the worker's pages; None takes 6066 or, when that is taken, any. `rate`: live records a second."""
        # History ends now, on a whole second, so that what is live follows it.
        start = datetime.now(UTC).replace(microsecond=0) - timedelta(days=days)
        self.simulation = Simulation(seed, start=start, days=days, persons=persons)
        self.directory = Path(tempfile.mkdtemp(prefix="parcours-demo-"))
        self.broker, self.redis = Broker(), RedisServer()
        self.port = port if port is not None else _port()
        self.marketing: Marketing = Marketing()
        self.published = 0
        self.fired: set[str] = set()
        """Alerts that have been seen firing."""
        self._rate = rate
        self._persons = persons
        self._worker: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Where the worker's pages are."""
        return f"http://{HOST}:{self.port}"

    @property
    def model(self) -> str:
        """The model of the table."""
        return self.marketing.headline_models[0]

    @property
    def pids(self) -> list[int]:
        """The processes of this demo."""
        return [self.broker.pid, self.redis.pid, *([self._worker.pid] if self._worker else [])]

    async def start(self) -> None:
        """Start the servers and the worker, and make the topics. Raises EmbeddedServerError when one of them fails."""
        config = self.directory / "parcours.toml"
        config.write_text(PARCOURS_TOML + self._watched(), "utf-8")
        self.marketing = load_marketing(config)
        # In this thread: on Linux a child is ended with the thread that started it.
        self.redis.start()
        self.broker.start()
        await create(bootstrap(self.broker.url), self.marketing)
        self._start_worker(config)

    def _watched(self) -> str:
        """The alert rule and the goal: as many orders as are likely over two months, of which one is past."""
        today = datetime.now(UTC).date()
        start, deadline = today - timedelta(30), today + timedelta(30)
        target = max(1, round(self._persons * ORDERS_A_DAY * 61))
        return WATCHED_TOML.format(target=target, start=start, deadline=deadline)

    def _start_worker(self, config: Path) -> None:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PARCOURS_")}
        settings = {
            "KAFKA_URL": self.broker.url, "REDIS_URL": self.redis.url, "CONFIG": config, "WEB_HOST": HOST,
            "WEB_PORT": self.port, "DATA_DIR": self.directory / "data", "LOG_LEVEL": "WARNING",
            # One worker joins a group of its own: nobody has to be waited for long.
            "SESSION_TIMEOUT": 6.0, "HEARTBEAT_INTERVAL": 2.0, "REBALANCE_TIMEOUT": 6.0, "REFRESH_INTERVAL": 1.0,
            "IDLE_AFTER": 10.0, "WEB_TOKEN": TOKEN, "FORGET_KEY": FORGET_KEY,
        }  # fmt: skip
        root = str(Path(__file__).parents[1])
        path = os.pathsep.join(part for part in (root, inherited.get("PYTHONPATH")) if part)
        command = [sys.executable, "-m", "streams.cli", "worker"]
        with self._log.open("wb") as log:
            self._worker = subprocess.Popen(
                [sys.executable, "-S", "-E", "-c", _LAUNCH, str(os.getpid()), *command],
                env=inherited | {f"PARCOURS_{name}": str(value) for name, value in settings.items()} | {"PYTHONPATH": path},
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the demo: it ends the worker first, then its servers
            )  # fmt: skip

    async def ready(self) -> None:
        """Wait until the worker is ready. Raises EmbeddedServerError with the log's tail."""
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            self._check()
            if await asyncio.to_thread(page, f"{self.address}/readyz") is not None:
                return
            await asyncio.sleep(0.2)
        raise self._failure(f"was not ready after {START_SECONDS:g} s")

    async def load(self, published: Callable[[int], None], applied: Callable[[int, int], None]) -> None:
        """Publish the history and wait until it is attributed. `published` is told how many; `applied` (done, of all)."""
        async with self._producer() as producer:
            waiting = []
            for record in self.simulation.records():
                waiting.append(await self._send(producer, record, record.published_at))
                if len(waiting) >= _IN_FLIGHT:
                    await asyncio.gather(*waiting)
                    waiting.clear()
                    published(self.published)
                    self._check()
            await asyncio.gather(*waiting)
        published(self.published)
        await self.ready()
        await self._settle(applied)

    async def _settle(self, applied: Callable[[int, int], None]) -> None:
        """Wait until all is read, nothing more is applied, and the business metrics hold all that was."""
        counts: tuple[float, float] = (-1.0, -1.0)
        shown: list[Line] = []
        since = time.monotonic()
        before = last = time.time()
        while True:
            now, board = time.time(), await self.board("30d")
            if board is not None:
                applied(int(min(board.events, self.published)), self.published)
                if (board.events, board.applied) != counts:
                    counts, since = (board.events, board.applied), time.monotonic()
                    # What was last applied was applied after the poll before this one.
                    before = last
                if board.lines != shown:
                    shown, since = board.lines, time.monotonic()
                quiet = time.monotonic() - since > _SETTLED
                # Marks arrive all the time, so the lag of the log is seldom 0. `as_of` is in whole seconds.
                if (
                    quiet
                    and board.events >= self.published
                    and board.lag < _MARKS
                    and shown
                    and board.as_of + 1 > before
                ):
                    return
                last = now
            if time.monotonic() - since > LOAD_SECONDS:
                raise self._failure(f"has not gone on for {LOAD_SECONDS:g} s")
            await asyncio.sleep(0.3)

    async def live(self) -> None:
        """Publish live events for ever, at their time."""
        async with self._producer() as producer:
            for record in self.simulation.live(int(time.time() * 1e6), self._rate, mistake=True):
                ahead = record.published_at / 1e6 - time.time()
                if ahead > 0:
                    await asyncio.sleep(ahead)
                await self._send(producer, record, int(time.time() * 1e6))

    async def board(self, window: str) -> Board | None:
        """What `/metrics` says now; None while the worker does not answer."""
        self._check()
        text = await asyncio.to_thread(page, f"{self.address}/metrics")
        if text is None:
            return None
        board = await asyncio.to_thread(read_board, text, window, self.model)
        self.fired |= board.firing.keys()
        return board

    def stop(self, *, keep: bool = False) -> None:
        """End all processes, and remove the files unless they are to be kept. May be called at any time, also twice."""
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.terminate()
            try:
                worker.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()
        self.broker.stop()
        self.redis.stop()
        if not keep:
            shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def _log(self) -> Path:
        return self.directory / "worker.log"

    def _producer(self) -> AIOKafkaProducer:
        return AIOKafkaProducer(bootstrap_servers=bootstrap(self.broker.url), acks="all", linger_ms=5)

    async def _send(self, producer: AIOKafkaProducer, record: Record, at: int) -> asyncio.Future[object]:
        self.published += 1
        return await producer.send(record.topic, record.value, key=record.key, timestamp_ms=at // 1000)

    def _check(self) -> None:
        if self._worker is not None and self._worker.poll() is not None:
            raise self._failure(f"ended with status {self._worker.returncode}")
        for server in (self.broker, self.redis):
            if not server.running:
                raise EmbeddedServerError(f"{server.name} ended\n{server.log_tail()}")

    def _failure(self, what: str) -> EmbeddedServerError:
        lines = self._log.read_text("utf-8", "replace").splitlines()[-20:] if self._log.exists() else []
        return EmbeddedServerError("\n".join([f"the worker {what}", "--- worker log ---", *(lines or ["(empty)"])]))


def page(address: str) -> str | None:
    """A page of a worker; None when it does not answer, or with an error."""
    try:
        with urllib.request.urlopen(address, timeout=10) as answer:
            return str(answer.read().decode())
    except OSError:
        return None


def _port() -> int:
    """6066 when it is free, else any free port."""
    import socket

    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, 6066))
        except OSError:
            return free_port()
    return 6066


def cancel_on_signals() -> None:
    """Let SIGTERM and Ctrl-C cancel the running task, so that it ends what it started."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    for which in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(which, task.cancel)


def paid(lines: Iterable[Line]) -> list[Line]:
    """The lines that cost something and brought something."""
    return [line for line in lines if line.cost and line.conversions]
