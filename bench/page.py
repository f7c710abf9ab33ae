"""What open live pages take from the stream: the same backlog worked off with none, one and ten of them, in one run.

An open page is what its script does: it hears server-sent events and asks for the figures each time they are new. The pages are read by a process
of their own; what they cost the worker is in its CPU time, and on few cores the reader takes some of what the worker would have had.

    python -m bench.page --persons 10000 --rounds 3
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import orjson

from bench import command
from bench.throughput import ROOT, load, parcours
from bench.workload import TOML, workload

from integration.stack import Stack  # isort: skip  # bench.throughput puts tests/ on the path

PAGES = (0, 1, 10)


@contextmanager
def opened(url: str, pages: int) -> Iterator[None]:
    """So many pages, open until the end."""
    words = [sys.executable, "-m", "bench.page", "--read", url, "--pages", str(pages)]
    reader = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) if pages else None
    try:
        yield
    finally:
        if reader is not None:
            reader.terminate()
            said, _ = reader.communicate(timeout=20)
            # A page that got nothing would cost nothing.
            if not said.strip():
                raise SystemExit("no page was read")


async def read(url: str, pages: int) -> None:
    """Read pages until told to stop; prints a line for each answer."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(None)) as session:
        await asyncio.gather(*(_one(session, url) for _ in range(pages)))


async def _one(session: aiohttp.ClientSession, url: str) -> None:
    shown = None
    while True:
        try:
            async with session.get(f"{url}/api/events") as stream:
                async for line in stream.content:
                    if not line.startswith(b"data: "):
                        continue
                    version = orjson.loads(line[6:])["version"]
                    if version is not None and version != shown:
                        async with session.get(f"{url}/api/overview") as answer:
                            print(len(await answer.read()), flush=True)
                        shown = version
        except aiohttp.ClientError:
            await asyncio.sleep(1)  # as the page does


def main() -> None:
    """Run each in turn, print each and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--persons", type=int, default=10_000)
    parser.add_argument("--days", type=int, default=30, help="event time that the backlog spans")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--read", metavar="URL", help=argparse.SUPPRESS)
    parser.add_argument("--pages", type=int, default=1, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.read:
        asyncio.run(read(given.read, given.pages))
        return
    items = workload(given.persons, given.days)
    print(f"{len(items)} events; {os.cpu_count()} cores, load {os.getloadavg()[0]:.2f} at the start")
    found: dict[int, list[dict[str, float]]] = {pages: [] for pages in PAGES}
    for round_ in range(given.rounds):
        # Not always in the same order: a machine grows warm.
        for pages in PAGES if round_ % 2 == 0 else reversed(PAGES):
            with tempfile.TemporaryDirectory() as folder, Stack(Path(folder), TOML) as stack:
                asyncio.run(load(stack, items))
                result = parcours(stack, len(items), lambda url, pages=pages: opened(url, pages))  # type: ignore[misc]
                found[pages].append(result)
                print(
                    f"{pages:3} pages  {result['events_per_second']:8.0f} events/s  {result['cpu_us_per_event']:6.1f} us CPU per event",
                    flush=True,
                )
    rate, cpu = (
        {pages: _median(rows, key) for pages, rows in found.items()}
        for key in ("events_per_second", "cpu_us_per_event")
    )
    for pages in PAGES:
        print(
            f"{pages:3} pages  median {rate[pages]:8.0f} events/s ({rate[pages] / rate[0]:.2f})  {cpu[pages]:6.1f} us CPU per event ({cpu[pages] / cpu[0]:.2f})"
        )
    print(f"load {os.getloadavg()[0]:.2f} at the end")


def _median(rows: list[dict[str, float]], key: str) -> float:
    return sorted(row[key] for row in rows)[len(rows) // 2]


if __name__ == "__main__":
    command(main)
