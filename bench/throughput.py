"""How fast one worker works off a backlog, with stock Faust doing a stated part of the same job in the same run.

Parcours: everything (decode, validate, classify, key, log, journeys, all models, both bases, all rollups, Redis with its append-only
file on, a scrape each 15 s). Stock Faust: decode into `faust.Record` and count per campaign in memory; no log, no state, no
attribution.

    make bench            or:  python -m bench.throughput --persons 10000 --rounds 3
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from zlib import crc32

from aiokafka import AIOKafkaProducer

from attribution.watermarks import JOURNEY, topic_partitions
from bench import command
from bench.workload import TOML, Item, workload
from models.wire import decode_block
from streams.tables import ingest_tag, journey_tag

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from integration.stack import Stack  # noqa: E402


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, all threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mb(pid: int) -> float:
    """Resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


async def load(stack: Stack, items: list[Item]) -> None:
    """Publish the backlog."""
    counts = topic_partitions(stack.marketing)
    producer = AIOKafkaProducer(bootstrap_servers=stack.address, acks="all", linger_ms=20, max_batch_size=1 << 19)
    await producer.start()
    pending = []
    for topic, key, value in items:
        partition = crc32(key.encode()) % counts[topic]
        stack.sent[topic, partition] += 1
        pending.append(await producer.send(topic, value, partition=partition))
    await asyncio.gather(*pending)
    await producer.stop()


def parcours(
    stack: Stack, items: int, beside: Callable[[str], AbstractContextManager[None]] = lambda _: nullcontext()
) -> dict[str, float]:
    """Start a worker on the backlog and wait until the log is folded to its end; `beside` is what goes on at its address meanwhile."""
    worker = stack.worker("bench", PARCOURS_MARK_INTERVAL="1", PARCOURS_REFRESH_INTERVAL="2")
    stop = threading.Event()
    threading.Thread(target=_scrape, args=(worker.url, stop), daemon=True).start()
    while sum(stack.sources().values()) == 0:
        time.sleep(0.005)
    begun, cpu = time.perf_counter(), cpu_seconds(worker.process.pid)
    with beside(worker.url):
        samples = list(_samples(stack, worker.process.pid))
    ended, spent = _end(stack, samples)
    stop.set()
    result = {
        "events": items,
        "seconds": ended - begun,
        "events_per_second": items / (ended - begun),
        "cpu_us_per_event": (spent - cpu) / items * 1e6,
        "resident_mb": resident_mb(worker.process.pid),
        "redis_mb": stack.redis().info("memory")["used_memory"] / 1e6,
    }
    worker.stop()
    return result


Sample = tuple[float, float, dict[tuple[str, int], tuple[int, int]]]


def _samples(stack: Stack, pid: int) -> Iterator[Sample]:
    """(time, CPU seconds, positions) every 50 ms, until all is ingested and nothing has moved for three seconds.

    One round trip each: what watches must not take the cores from what is watched.
    """
    client = stack.redis()
    keys = [(topic, p) for topic, count in topic_partitions(stack.marketing).items() for p in range(count)]
    tags = [journey_tag(0, p) if topic == JOURNEY else ingest_tag(0, topic, p) for topic, p in keys]
    moved, before = time.perf_counter(), None
    while time.perf_counter() - moved < 3:
        pipe = client.pipeline(transaction=False)
        for tag in tags:
            pipe.hget(f"{tag}meta", "position")
        found = [(raw or b"0:0").decode().split(":") for raw in pipe.execute()]
        now = {key: (int(offset), int(entry)) for key, (offset, entry) in zip(keys, found, strict=True)}
        yield time.perf_counter(), cpu_seconds(pid), now
        ingested = all(now[key][0] >= count for key, count in stack.sent.items())
        if now != before or not ingested:
            moved, before = time.perf_counter(), now
        time.sleep(0.05)
    client.close()


def _end(stack: Stack, samples: list[Sample]) -> tuple[float, float]:
    """When the last block with entries was folded: marks go on for a while after it, and are no part of the backlog."""
    last: dict[int, int] = {}
    for record in stack.read(JOURNEY, stack.marketing.topics.journey_events):
        if decode_block(record.value).entries:
            last[record.partition] = max(last.get(record.partition, -1), record.offset)
    return next((at, cpu) for at, cpu, now in samples if all(now[JOURNEY, p][0] > offset for p, offset in last.items()))


def _scrape(url: str, stop: threading.Event) -> None:
    while not stop.wait(15):
        with urllib.request.urlopen(f"{url}/metrics") as response:
            response.read()


def stock(stack: Stack, items: int) -> dict[str, float]:
    """Stock Faust over the same topics; it ends by itself."""
    env = {**os.environ, "BENCH_BROKER": stack.broker.url, "BENCH_EVENTS": str(items)}
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench" / "stock_faust.py")], env=env, cwd=stack.folder, capture_output=True, text=True,
        timeout=600, check=False,
    )  # fmt: skip
    for line in done.stdout.splitlines():
        if line.startswith("RESULT "):
            _, seconds, cpu = line.split()
            return {
                "events": items,
                "seconds": float(seconds),
                "events_per_second": items / float(seconds),
                "cpu_us_per_event": float(cpu) / items * 1e6,
            }
    raise SystemExit(f"stock Faust gave no result:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")


def main() -> None:
    """Run both, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--persons", type=int, default=10_000)
    parser.add_argument("--days", type=int, default=30, help="event time that the backlog spans")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-stock", action="store_true", help="leave stock Faust out")
    arguments = parser.parse_args()
    items = workload(arguments.persons, arguments.days)
    print(
        f"{len(items)} events of {arguments.persons} persons over {arguments.days} days; {platform.python_implementation()} {platform.python_version()}; "
    )
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.2f} at the start")
    rows = []
    for round_ in range(arguments.rounds):
        with tempfile.TemporaryDirectory() as folder, Stack(Path(folder), TOML) as stack:
            asyncio.run(load(stack, items))
            if not arguments.no_stock:
                rows.append(("stock Faust, part of the job", round_, stock(stack, len(items))))
            rows.append(("Parcours, all of it", round_, parcours(stack, len(items))))
            print(*rows[-2:], sep="\n", flush=True)
    for name in dict.fromkeys(row[0] for row in rows):
        own = sorted(row[2]["events_per_second"] for row in rows if row[0] == name)
        cpu = sorted(row[2]["cpu_us_per_event"] for row in rows if row[0] == name)
        print(f"{name:30} median {own[len(own) // 2]:10.0f} events/s  {cpu[len(cpu) // 2]:8.1f} us CPU per event")
    print(f"load {os.getloadavg()[0]:.2f} at the end; log partitions: {topic_partitions(stack.marketing)[JOURNEY]}")


if __name__ == "__main__":
    command(main)
