"""How long after an event an alert is out: from the Kafka timestamp of a click that crosses a threshold to that of the alert.

Each crossing is a campaign of its own: one click that costs 200 EUR, where 178 EUR without a conversion fire a rule with a threshold
of 60 EUR per order and `for = 0`. Beside them, other clicks at a steady rate. Embedded broker and Redis, one worker.

    python -m bench.alert_latency --crossings 100 --rate 50
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from bench import command

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from integration.stack import Stack, Timeout  # noqa: E402

TOML = """
reporting_currency = "EUR"
[[alerts]]
name = "cpa"
metric = "cpa"
campaign = "crossing-*"
threshold = 60
window = "24h"
"""


def click(number: str, campaign: str, cost: str) -> bytes:
    """A click that happens now."""
    return json.dumps({
        "event_id": number, "occurred_at": datetime.now(UTC).isoformat(), "anonymous_id": f"device-{number}",
        "channel": "Paid Social", "network": "facebook", "campaign": campaign, "cost": cost, "currency": "EUR",
    }).encode()  # fmt: skip


async def measure(
    stack: Stack, crossings: int, rate: float, pause: float, seconds: float = 60.0
) -> dict[str, list[int]]:
    """By campaign, the milliseconds from its click to each alert about it; one that never came is absent."""
    sent: dict[str, int] = {}
    alerts: list[tuple[str, int]] = []
    producer = AIOKafkaProducer(bootstrap_servers=stack.address, acks="all")
    consumer = AIOKafkaConsumer(bootstrap_servers=stack.address, auto_offset_reset="earliest", fetch_max_wait_ms=100)
    await producer.start()
    await consumer.start()
    consumer.assign([TopicPartition("alerts", 0)])
    await consumer.seek_to_beginning()
    draw, everyone = random.Random(1), asyncio.Event()

    async def listen() -> None:
        async for record in consumer:
            name = json.loads(record.value)["campaign"]
            alerts.append((name, record.timestamp))
            if {known for known, _ in alerts} >= {f"crossing-{i}" for i in range(crossings)}:
                everyone.set()

    async def others() -> None:
        number = 0
        while rate > 0:
            await producer.send("clicks", click(f"o{number}", f"other-{number % 40}", "0.4"), partition=number % 4)
            number += 1
            await asyncio.sleep(1 / rate)

    tasks = [asyncio.create_task(listen()), asyncio.create_task(others())]
    try:
        for i in range(crossings):
            await asyncio.sleep(pause * draw.uniform(0.5, 1.5))
            name = f"crossing-{i}"
            # Stamped by this clock, as the alert is by the worker's, on the same machine.
            at = int(time.time() * 1000)
            await producer.send_and_wait("clicks", click(f"x{i}", name, "200"), partition=i % 4, timestamp_ms=at)
            sent[name] = at
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(everyone.wait(), seconds)
        await asyncio.sleep(1.0)  # for what should not come
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await producer.stop()
        await consumer.stop()
    found: dict[str, list[int]] = {}
    for name, at in alerts:
        found.setdefault(name, []).append(at - sent[name])
    return found


def ready(stack: Stack, seconds: float = 60.0) -> None:
    """Start a worker and wait until it evaluates with nothing wrong."""
    import urllib.request

    worker = stack.worker("bench", PARCOURS_REFRESH_INTERVAL="2", PARCOURS_MARK_INTERVAL="1")
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{worker.url}/metrics", timeout=5) as answer:
                text = answer.read().decode()
        except OSError:
            text = ""
        problems = [line for line in text.splitlines() if line.startswith("parcours_pipeline_problem{")]
        if problems and all(line.endswith(" 0") for line in problems):
            return
        time.sleep(0.2)
    raise Timeout(f"the worker does not evaluate\n{worker.tail()}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--crossings", type=int, default=100)
    parser.add_argument("--rate", type=float, default=50, help="other clicks a second")
    parser.add_argument("--pause", type=float, default=0.5, help="seconds between crossings, on average")
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.2f} at the start")
    with tempfile.TemporaryDirectory() as folder, Stack(Path(folder), TOML) as stack:
        ready(stack)
        found = asyncio.run(measure(stack, arguments.crossings, arguments.rate, arguments.pause))
    times = sorted(one for each in found.values() for one in each)
    counts = Counter(len(each) for each in found.values())
    counts[0] = arguments.crossings - len(found)
    print(
        f"{arguments.crossings} crossings: {', '.join(f'{n} with {k} alerts' for k, n in sorted(counts.items()) if n)}"
    )
    if times:
        at = [times[min(len(times) - 1, int(len(times) * part))] for part in (0.5, 0.9, 0.99)]
        print(f"event to alert, ms: median {at[0]}, p90 {at[1]}, p99 {at[2]}, longest {times[-1]}")
    print(f"load {os.getloadavg()[0]:.2f} at the end")


if __name__ == "__main__":
    command(main)
