"""A run: a paced stream of events goes on for as long as faults strike; then all is healed, settled and judged."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from aiokafka import AIOKafkaProducer
from integration.apache_kafka import chosen
from integration.stack import Stack, Timeout

from chaos.faults import SETTINGS, Chaos, plan
from chaos.oracle import Published, Verdict, judge
from streams.simulator import PARCOURS_TOML, Record, Simulation

TOML = PARCOURS_TOML.replace('clock = "wall"', "") + "\n"
RATE = 300.0
"""Events a second, on average; they come in pulses, so that there is something to interrupt."""
PULSE = 1.0
SETTLE_SECONDS = 300.0
READY_SECONDS = 90.0


class Load(threading.Thread):
    """Publishes the records of a simulated shop at `rate`, from its start until `finish`."""

    def __init__(self, stack: Stack, records: Iterator[Record], rate: float) -> None:
        super().__init__(name="load", daemon=True)
        self.acknowledged = 0
        self.last = 0.0
        """When the last record was acknowledged (monotonic)."""
        self.bad: Counter[Published] = Counter()
        self.error: BaseException | None = None
        self._stack = stack
        self._records = records
        self._rate = rate
        self._over = threading.Event()

    def finish(self) -> None:
        """Send no more; wait until all that was sent is acknowledged. Raises what broke the load."""
        self._over.set()
        self.join()
        if self.error is not None:
            raise self.error

    def run(self) -> None:
        try:
            asyncio.run(self._publish())
        except BaseException as error:
            self.error = error

    async def _publish(self) -> None:
        producer = AIOKafkaProducer(
            bootstrap_servers=self._stack.address, acks="all", linger_ms=5, max_request_size=8 << 20,
            request_timeout_ms=300_000,  # the broker comes back; a record given up would be published late, out of its order
        )  # fmt: skip
        await producer.start()
        pending: set[asyncio.Future[object]] = set()
        begun, sent = time.monotonic(), 0
        try:
            while not self._over.is_set():
                due = int((time.monotonic() - begun) / PULSE) * PULSE * self._rate
                while sent < due and not self._over.is_set():
                    pending.add(await self._send(producer, next(self._records)))
                    sent += 1
                pending = self._done(pending)
                await asyncio.sleep(0.02)
            await asyncio.gather(*pending)
            self._done(pending)
        finally:
            await producer.stop()

    async def _send(self, producer: AIOKafkaProducer, record: Record) -> asyncio.Future[object]:
        if not record.good:
            self.bad[record.topic, record.value] += 1
        partition = self._stack.partition(record.topic, record.value)
        stamp = record.published_at // 1000
        future: asyncio.Future[object] = await producer.send(
            record.topic, record.value, partition=partition, timestamp_ms=stamp
        )
        return future

    def _done(self, pending: set[asyncio.Future[object]]) -> set[asyncio.Future[object]]:
        done = {future for future in pending if future.done()}
        if done:
            self._stack.expect(future.result() for future in done)  # type: ignore[misc]
            self.acknowledged += len(done)
            self.last = time.monotonic()
        return pending - done


@dataclass
class Result:
    """One run, and its last line."""

    seed: int
    minutes: float
    broker: str
    produced: int
    struck: Counter[str]
    amid: int
    verdict: Verdict
    problems: list[str]
    ended: list[str]
    settled: float

    @property
    def good(self) -> bool:
        return not self.problems and not any(self.verdict.wrong.values())

    def line(self) -> str:
        """Produced, applied, wrong chains, everything else that is wrong, faults by kind."""
        verdict = self.verdict
        wrong = ", ".join(f"{n} wrong {what}s" for what, n in sorted(verdict.wrong.items()) if n and what != "chain")
        faults = ", ".join(f"{kind} {n}" for kind, n in sorted(self.struck.items()))
        total = sum(self.struck.values())
        broker = "" if self.broker == "apache" else " (memory only: cut and silenced, never restarted)"
        return (
            f"{'OK' if self.good else 'FAILED'}: seed {self.seed}, {self.minutes:g} min, {self.broker} broker{broker}: "
            f"produced {self.produced}, applied {verdict.applied}, wrong chains {verdict.wrong['chain']} of {verdict.chains}, "
            f"{wrong or 'nothing else wrong'} ({verdict.attributions} conversions, {verdict.redelivered} entries sent again, "
            f"{verdict.stale} stale last words), settled in {self.settled:.0f} s; {total} faults, {self.amid} with work undone, "
            f"{len(self.ended)} exits of their own, {len(self.problems)} problems: {faults}; load {os.getloadavg()[0]:.1f}"
        )


def run(seed: int, minutes: float, folder: Path, *, rate: float = RATE, say: Callable[[str], None] = print) -> Result:
    """One seeded run in an empty folder, on the broker that PARCOURS_TEST_BROKER chooses."""
    broker = chosen()
    simulation = Simulation(
        seed, start=datetime(2025, 1, 1, tzinfo=UTC), days=3650, persons=2000, bad_share=0.01, duplicate_share=0.05
    )
    problems: list[str] = []
    with Stack(folder, TOML, **SETTINGS) as stack:
        load = Load(stack, simulation.records(), rate)
        chaos = Chaos(stack, lambda: load.acknowledged - sum(stack.sources().values()))
        try:
            chaos.start()
            load.start()
            _wait(lambda: sum(stack.sources().values()) > 0, chaos, "the first records ingested")
            chaos.run(plan(seed, minutes, durable=broker == "apache"))
            faults_ended = chaos.last
            chaos.heal()
            _wait(
                lambda: load.last > faults_ended or not load.is_alive(),
                chaos,
                "a record acknowledged after the last fault",
            )
            load.finish()
            begun = time.monotonic()
            unsettled = _settle(stack, chaos)
            settled = time.monotonic() - begun
            if unsettled:
                # What still moves can't be compared: that it does not come to rest is the verdict.
                problems += unsettled
                verdict = Verdict(records=load.acknowledged)
            else:
                say(f"settled in {settled:.0f} s; reading")
                verdict = judge(stack, load.bad)
        finally:
            load._over.set()
            chaos.stop()
    problems += chaos.problems
    # More is a record that its producer sent again when the broker came back: an upstream duplicate, as trackers make them.
    if verdict.records < load.acknowledged:
        problems.append(f"{load.acknowledged} records acknowledged, {verdict.records} in the topics")
    if load.last <= faults_ended:
        problems.append("the load ended before the faults did")
    for text in [*verdict.examples, *problems, *chaos.ended]:
        say(text)
    return Result(
        seed, minutes, broker, load.acknowledged, chaos.struck, chaos.amid, verdict, problems, chaos.ended, settled
    )


def _wait(condition: Callable[[], bool], chaos: Chaos, what: str) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise Timeout(f"not within {READY_SECONDS} s: {what}")
        chaos.look_after()
        time.sleep(0.05)


def _settle(stack: Stack, chaos: Chaos) -> list[str]:
    """Wait until nothing is left to do. What is wrong when it takes too long."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        chaos.look_after()
        try:
            stack.settle(20)
        except Timeout as error:
            if time.monotonic() > deadline:
                return [f"not settled after {SETTLE_SECONDS} s: {error}", *_standing(stack)]
        else:
            return []


def _standing(stack: Stack) -> Iterator[str]:
    owners = stack.owners()
    for key, position in stack.positions().items():
        yield f"{key[0]}-{key[1]} at {position}, wanted {stack.sent.get(key, 'its end')}, held by {owners[key]}"


def in_folder(seed: int, minutes: float, *, rate: float, keep: bool) -> Result:
    """A run in a temporary folder, which stays when it failed."""
    folder = Path(tempfile.mkdtemp(prefix=f"parcours-chaos-{seed}-"))
    result = run(seed, minutes, folder, rate=rate, say=lambda text: print(text, file=sys.stderr, flush=True))
    if result.good and not keep:
        import shutil

        shutil.rmtree(folder, ignore_errors=True)
    else:
        print(f"logs of the workers: {folder}", file=sys.stderr)
    return result
