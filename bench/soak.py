"""A worker at a steady rate for an hour: resident memory, lag and rewinds each 5 s, as CSV and as a plot.

The stream is that of the chaos run (`tests/chaos`), without its faults; with `--kill-every` the worker is killed now and then and
started again. At the end what was published is held against the batch pass.

    make soak MINUTES=60      or:  PYTHONPATH=tests python -m bench.soak --minutes 60 --rate 200 --kill-every 300
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import statistics
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from chaos.oracle import judge
from chaos.run import TOML, Load
from integration.apache_kafka import chosen
from integration.stack import Stack, Worker
from prometheus_client.parser import text_string_to_metric_families

from bench import command
from bench.plot import Panel, plot
from bench.throughput import resident_mb
from streams.simulator import Simulation

EVERY = 5.0
SETTINGS = {"PARCOURS_IDLE_AFTER": "86400"}


class Sample(NamedTuple):
    """`seconds` since the start; None where the worker did not answer. `rewinds`: so far, over all its starts."""

    seconds: float
    resident_mb: float | None
    redis_mb: float
    lag: float | None
    rewinds: float
    published: int


class Soak:
    """One worker under load, sampled."""

    def __init__(self, stack: Stack, load: Load, kill_every: float) -> None:
        self.stack = stack
        self.load = load
        self.starts = 1
        self.worker = stack.worker("soak-1")
        self._kill_every = kill_every
        self._before = 0.0  # rewinds counted by workers that are gone
        self._rewinds = 0.0

    def samples(self, seconds: float) -> Iterator[Sample]:
        """One each 5 s."""
        begun = time.monotonic()
        killed = begun
        number = 0
        while (passed := time.monotonic() - begun) < seconds:
            if self._kill_every and time.monotonic() - killed >= self._kill_every:
                killed = time.monotonic()
                self._replace()
            yield self._sample(passed)
            number += 1
            time.sleep(max(0.0, begun + number * EVERY - time.monotonic()))

    def _replace(self) -> None:
        self.worker.kill()
        self._before += self._rewinds
        self._rewinds = 0.0
        self.starts += 1
        self.worker = self.stack.worker(f"soak-{self.starts}")

    def _sample(self, passed: float) -> Sample:
        found = scrape(self.worker)
        self._rewinds = found.get("parcours_rewinds_total", self._rewinds)
        redis = self.stack.redis()
        used: int = redis.info("memory")["used_memory"]  # type: ignore[index, assignment]
        redis.close()
        return Sample(
            passed,
            resident_mb(self.worker.process.pid) if found else None,
            used / 1e6,
            found.get("parcours_lag_records"),
            self._before + self._rewinds,
            self.load.acknowledged,
        )


def scrape(worker: Worker) -> dict[str, float]:
    """Lag and rewinds, summed over partitions; empty while the worker does not answer."""
    try:
        with urllib.request.urlopen(f"{worker.url}/metrics", timeout=4) as response:
            text = response.read().decode()
    except OSError:
        return {}
    sums: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name in {"parcours_lag_records", "parcours_rewinds_total"}:
                sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
    return sums


def write(folder: Path, samples: list[Sample], title: str) -> None:
    """`soak.csv` and `soak.svg`."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "soak.csv").open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(Sample._fields)
        table.writerows([["" if v is None else round(v, 1) for v in sample] for sample in samples])
    minutes = [sample.seconds / 60 for sample in samples]
    panels = [
        Panel("resident memory of the worker, MB", [sample.resident_mb for sample in samples]),
        Panel("lag, records", [sample.lag for sample in samples]),
        Panel("rewinds so far", [sample.rewinds for sample in samples]),
    ]
    (folder / "soak.svg").write_text(plot(title, "minutes", minutes, panels), "utf-8")


def main() -> int:
    """0 when what came out is right."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=200.0, help="events a second")
    parser.add_argument(
        "--kill-every", type=float, default=0.0, help="seconds between two kills of the worker; 0: none"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path(".parcours/soak"), help="folder for soak.csv and soak.svg")
    options = parser.parse_args()
    simulation = Simulation(options.seed, start=datetime(2025, 1, 1, tzinfo=UTC), days=3650, persons=2000)
    # Event time runs ahead of the clock on the wall here: with windows that end there, the exporter would have nothing to do.
    toml = 'clock = "event"\n' + TOML
    with tempfile.TemporaryDirectory() as folder, Stack(Path(folder), toml, **SETTINGS) as stack:
        load = Load(stack, simulation.records(), options.rate)
        soak = Soak(stack, load, options.kill_every)
        load.start()
        samples = []
        try:
            for sample in soak.samples(options.minutes * 60):
                samples.append(sample)  # noqa: PERF402 (kept when the next one fails)
        finally:
            title = (
                f"{options.minutes:g} minutes at {options.rate:g} events/s, {chosen()} broker, {soak.starts - 1} kills"
            )
            write(options.out, samples, title)
        load.finish()
        stack.settle(900)
        verdict = judge(stack, load.bad)
    # This worker keeps no chains: without faults there is nothing that they could show.
    print(*(text for text in verdict.examples if not text.startswith("chain ")), sep="\n", file=sys.stderr)
    wrong = {what: n for what, n in verdict.wrong.items() if n and what != "chain"}
    resident = [sample.resident_mb for sample in samples if sample.resident_mb is not None]
    tenth = max(1, len(resident) // 10)
    lag = [sample.lag for sample in samples if sample.lag is not None]
    print(
        f"{'FAILED' if wrong else 'OK'}: {title}: {load.acknowledged} published, resident MB "
        f"{statistics.median(resident[tenth : 2 * tenth] or resident):.0f} in the second tenth, "
        f"{statistics.median(resident[-tenth:]):.0f} in the last, {max(resident):.0f} at most; "
        f"Redis {samples[-1].redis_mb:.0f} MB; lag median {statistics.median(lag):.0f}, at most {max(lag):.0f}; "
        f"{samples[-1].rewinds:.0f} rewinds; wrong: {wrong or 'nothing'}; {os.cpu_count()} cores, "
        f"load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    command(main)
