"""The faults, drawn beforehand from a seed, and what carries them out on a running stack.

A plan is a list of strikes in order of time. What a strike begins (a stopped process, a cut connection, an absent server)
is ended by an action of its own later, so strikes overlap as they fall.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from random import Random
from typing import NamedTuple

from integration.proxy import DOWN, UP, Proxy
from integration.stack import ROOT, Stack, Worker
from redis.exceptions import RedisError

from chaos.worker import REDIRECT
from streams.embedded import free_port

SESSION = 2.5
"""Seconds: the workers' session timeout."""
SETTINGS = {
    # Small fetches and commits, so that there is something to interrupt; a short session, so that a group re-forms soon.
    "PARCOURS_MAX_POLL_RECORDS": "400",
    "PARCOURS_COMMIT_ENTRIES": "120",
    "PARCOURS_SESSION_TIMEOUT": str(SESSION),
    "PARCOURS_HEARTBEAT_INTERVAL": "0.5",
    "PARCOURS_REBALANCE_TIMEOUT": "3",
    # Event time runs thousands of times as fast as the clock here: a source cut off for a minute would be taken for idle,
    # and what it still holds for months late.
    "PARCOURS_IDLE_AFTER": "86400",
}
PATIENCE = 1.5
"""Seconds to wait for work to strike amid."""
GROWN_SECONDS = 6.0
STOP_SECONDS = 45.0
"""How long a worker may take to stop on SIGTERM: a call to an absent Redis ends after 5 s, Faust waits for its parts."""
SLOTS = 3
LONG_ABSENCE = 180.0
LONG_RUN = 8.0

# Kind: how often it is drawn, and the bounds of its duration in seconds.
KINDS: dict[str, tuple[float, float, float]] = {
    "kill": (4.0, 0.1, 1.0),  # each in a burst is so long after the one before
    "sigterm": (2.0, 0.0, 0.0),
    "sigstop": (3.0, SESSION + 0.5, SESSION + 5.0),
    "join": (2.0, 8.0, 30.0),
    "redis-kill": (1.5, 0.0, 2.0),
    "redis-tail-lost": (2.0, 0.0, 1.0),
    "redis-restart": (1.0, 0.0, 0.0),
    "redis-absent": (1.0, 4.0, 15.0),
    "redis-cut": (2.0, 0.0, 3.0),
    "redis-silent": (1.5, 1.0, 8.0),
    "redis-slow": (1.0, 2.0, 8.0),
    "broker-cut": (2.0, 0.0, 6.0),
    "broker-silent": (1.5, 1.0, 8.0),
    "broker-slow": (1.0, 2.0, 8.0),
    "broker-kill": (1.0, 0.0, 3.0),
    "broker-restart": (1.0, 0.0, 0.0),
}
DURABLE = ("broker-kill", "broker-restart")
"""Those that only a broker with a disk survives."""


class Strike(NamedTuple):
    """`at` and `seconds` in seconds, from the start and from there; `slot`: whom; `amount` from 0 to 1: how much."""

    at: float
    kind: str
    slot: int
    seconds: float
    amount: float


def plan(seed: int, minutes: float, durable: bool) -> list[Strike]:
    """What strikes when. Every kind that can strike does so once before any does so twice."""
    draw = Random(f"chaos {seed}")
    kinds = {kind: row for kind, row in KINDS.items() if durable or kind not in DURABLE}
    due = list(kinds)
    draw.shuffle(due)
    strikes = []
    at, end = draw.uniform(2.0, 4.0), minutes * 60
    while at < end:
        kind = due.pop() if due else draw.choices(list(kinds), [row[0] for row in kinds.values()])[0]
        _, least, most = kinds[kind]
        strikes.append(Strike(at, kind, draw.randrange(SLOTS), draw.uniform(least, most), draw.random()))
        at += draw.uniform(0.3, 5.0)
    if minutes >= LONG_RUN:
        strikes.append(Strike(0.4 * end, "redis-absent", 0, LONG_ABSENCE, 0.0))
    return sorted(strikes)


class ChaosWorker(Worker):
    """A worker that keeps chains and whose connections go through these proxies."""

    def __init__(self, stack: Stack, name: str, redirect: str) -> None:
        self.port = free_port()
        self.log = stack.folder / f"{name}.log"
        env = {**os.environ, **stack.env, "PARCOURS_WEB_PORT": str(self.port), REDIRECT: redirect}
        env["PYTHONPATH"] = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
        with self.log.open("ab") as self._log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "chaos.worker"],
                cwd=ROOT, env=env, stdout=self._log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            )  # fmt: skip


class Link(Proxy):
    """A proxy that closes its server in its own thread: from another one, that races with connections that end."""

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._server.close)
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Slot:
    """A worker's place: its proxies stay when the worker is replaced."""

    def __init__(self, stack: Stack, number: int) -> None:
        self.number = number
        self.links = {
            "broker": Link(stack.broker.port).start(),
            "redis": Link(stack.redis_server.port).start(),
        }
        self.worker: ChaosWorker | None = None
        self.wanted = False
        self.leaving: float | None = None
        self.starts = 0
        self.begun = 0.0
        self._stack = stack

    @property
    def runs(self) -> bool:
        return self.worker is not None and self.worker.process.poll() is None

    def start(self) -> None:
        redirect = ",".join(f"{link.target}:{link.port}" for link in self.links.values())
        self.starts += 1
        self.begun = time.monotonic()
        self.worker = ChaosWorker(self._stack, f"worker-{self.number}-{self.starts}", redirect)
        self.leaving = None

    def signal(self, number: signal.Signals) -> bool:
        """False when there is nobody to send it to."""
        if not self.runs:
            return False
        assert self.worker is not None
        self.worker.process.send_signal(number)
        return True


class Chaos:
    """Carries out a plan, and looks after the workers as a supervisor would: whoever ends is started again."""

    def __init__(self, stack: Stack, undone: Callable[[], int | None]) -> None:
        """`undone()`: how many published records are not ingested yet; None while that can't be known."""
        self.stack = stack
        self.struck: Counter[str] = Counter()
        self.amid: int = 0
        self.ended: list[str] = []
        """How workers ended that nobody had ended."""
        self.problems: list[str] = []
        self.last = 0.0
        """When the last strike fell or its effect ended (monotonic)."""
        self.slots = [Slot(stack, number) for number in range(SLOTS)]
        self._undone = undone
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()

    def start(self) -> None:
        for slot in self.slots[:2]:
            slot.wanted = True
            slot.start()

    def run(self, strikes: list[Strike]) -> None:
        """All strikes at their times, and all that they began ended."""
        begun = time.monotonic()
        for strike in strikes:
            self._later(begun + strike.at, partial(self._strike, strike))
        while self._agenda:
            at, _, act = self._agenda[0]
            if at > time.monotonic():
                time.sleep(min(0.05, max(0.0, at - time.monotonic())))
                self.look_after()
                continue
            heapq.heappop(self._agenda)
            act()
            self.last = time.monotonic()

    def look_after(self) -> None:
        """Start again whoever has ended and is wanted."""
        for slot in self.slots:
            worker = slot.worker
            if worker is None:
                continue
            code = worker.process.poll()
            if code is None:
                if slot.leaving is not None and time.monotonic() - slot.leaving > STOP_SECONDS:
                    self.problems.append(f"{worker.log.name}: did not stop within {STOP_SECONDS} s of SIGTERM")
                    worker.kill()
                continue
            if slot.leaving is None and code != -signal.SIGKILL:
                self.ended.append(f"{worker.log.name}: status {code}: {worker.tail(300)!r}")
            slot.worker = None
            if slot.wanted:
                slot.start()

    def heal(self) -> None:
        """Everything works again, and two workers run."""
        if not self.stack.redis_server.running:
            self.stack.redis_server.start()
        if not self.stack.broker.running:
            self.stack.broker.start()
        for slot in self.slots:
            for link in slot.links.values():
                for kind in ("slow", "cut"):
                    self._mend(link, kind)
            slot.signal(signal.SIGCONT)
        self.look_after()

    def stop(self) -> None:
        for slot in self.slots:
            slot.wanted = False
            if slot.runs:
                assert slot.worker is not None
                slot.worker.kill()
            for link in slot.links.values():
                link.stop()

    def _later(self, at: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (at, next(self._count), act))

    def _after(self, seconds: float, act: Callable[[], None]) -> None:
        self._later(time.monotonic() + seconds, act)

    def _strike(self, strike: Strike) -> None:
        undone = self._amid_work(strike)
        name = f"_{strike.kind.split('-')[0]}"
        if getattr(self, name)(strike):
            self.struck["redis-absent-180s" if strike.seconds >= LONG_ABSENCE else strike.kind] += 1
            self.amid += undone is None or undone > 0

    def _amid_work(self, strike: Strike) -> int | None:
        """Wait for a pulse of the load to be under way, then a little more, so that the strike falls anywhere in it."""
        deadline = time.monotonic() + PATIENCE
        undone = self._waiting()
        while undone is not None and undone <= 0 and time.monotonic() < deadline:
            time.sleep(0.005)
            undone = self._waiting()
        time.sleep(0.05 * strike.amount)
        return undone

    def _waiting(self) -> int | None:
        with contextlib.suppress(RedisError, OSError):
            return self._undone()
        return None

    def _running(self, strike: Strike) -> Slot | None:
        """The slot named, or another where nobody runs there: one that has had time to start, where there is one."""
        slots = [self.slots[(strike.slot + i) % SLOTS] for i in range(SLOTS)]
        running = [slot for slot in slots if slot.runs and slot.leaving is None]
        grown = [slot for slot in running if time.monotonic() - slot.begun > GROWN_SECONDS]
        return next(iter(grown or running), None)

    # -- each returns whether it struck

    def _kill(self, strike: Strike) -> bool:
        slot = self._running(strike)
        if slot is None:
            return False
        slot.signal(signal.SIGKILL)
        burst = int(strike.amount * 5)
        if burst:  # the next of the burst: another one, or the same as soon as it has been started again
            rest = strike._replace(slot=strike.slot + 1, amount=(burst - 1) / 5 + 0.01)
            self._after(strike.seconds, partial(self._strike, rest))
        return True

    def _sigterm(self, strike: Strike) -> bool:
        slot = self._running(strike)
        if slot is None:
            return False
        slot.signal(signal.SIGCONT)
        slot.leaving = time.monotonic()
        return slot.signal(signal.SIGTERM)

    def _sigstop(self, strike: Strike) -> bool:
        slot = self._running(strike)
        if slot is None:
            return False
        slot.signal(signal.SIGSTOP)
        self._after(strike.seconds, partial(slot.signal, signal.SIGCONT))
        return True

    def _join(self, strike: Strike) -> bool:
        slot = self.slots[-1]
        if slot.wanted:
            return False
        slot.wanted = True
        if slot.worker is None:
            slot.start()

        def leave() -> None:
            slot.wanted = False
            if slot.runs:
                slot.signal(signal.SIGCONT)
                slot.signal(signal.SIGTERM)
                slot.leaving = time.monotonic()

        self._after(strike.seconds, leave)
        return True

    def _redis(self, strike: Strike) -> bool:
        server = self.stack.redis_server
        if strike.kind in {"redis-cut", "redis-silent", "redis-slow"}:
            return self._link(strike, "redis")
        if not server.running:
            if strike.seconds >= LONG_ABSENCE:
                self._after(1.0, partial(self._strike, strike))
            return False
        if strike.kind == "redis-restart":
            server.restart()
            return True
        server.kill()
        if strike.kind == "redis-tail-lost":
            increments = [file.stat().st_size for file in server.aof_files() if ".incr." in file.name]
            server.truncate_aof(1 + int(strike.amount**2 * increments[-1]) if increments else 0)
        self._after(strike.seconds, server.start)
        return True

    def _broker(self, strike: Strike) -> bool:
        broker = self.stack.broker
        if strike.kind not in DURABLE:
            return self._link(strike, "broker")
        if not broker.running:
            return False
        if strike.kind == "broker-restart":
            broker.restart()
        else:
            broker.kill()
            self._after(strike.seconds, broker.start)
        return True

    def _link(self, strike: Strike, to: str) -> bool:
        slot = self._running(strike)
        if slot is None:
            return False
        link = slot.links[to]
        kind = strike.kind.split("-")[1]
        if kind == "cut":
            link.cut()
        elif kind == "silent":
            link.silence(UP if strike.amount < 0.5 else DOWN)
        else:
            link.delay = 0.02 + 0.3 * strike.amount

        self._after(strike.seconds, partial(self._mend, link, kind))
        return True

    @staticmethod
    def _mend(link: Link, kind: str) -> None:
        if kind == "slow":
            link.delay = 0.0
            return
        link.cut()  # what was swallowed meanwhile is missing from its connection: that one can't go on
        link.mend()
