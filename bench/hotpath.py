"""What an event costs in the worker's own code, hop by hop: no broker, no Redis, no other process.

Ingest and stitch run as in a worker, on a producer that acknowledges at once and a Redis that answers at once, so what is left is
decoding, folding, packing and the building of blocks and commits. CPU time of this thread, so that a busy machine disturbs little.

    python -m bench.hotpath --persons 10000 --rounds 3 [--profile]
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import gc
import pstats
import time
from collections.abc import Iterable
from typing import Any, NamedTuple
from zlib import crc32

import msgspec

from attribution.intake import Intake
from attribution.watermarks import JOURNEY, Progress, topic_partitions
from bench import command
from bench.workload import TOML, Item, workload
from models.settings import Marketing
from streams.codec import Names
from streams.ingest import SourcePartition
from streams.metrics import Metrics
from streams.outbox import Outbox
from streams.stitch import JourneyPartition
from streams.tables import Claimed, Outcome, Position, Tables, ingest_tag, journey_tag

FETCH = 1_000
"""Records of one fetch of a source partition."""


class Record(NamedTuple):
    """As much of a Kafka record as ingest and stitch read."""

    offset: int
    value: bytes
    timestamp: int = 1 << 42
    key: bytes | None = None
    headers: tuple[tuple[str, bytes], ...] = ()


class Fetch(NamedTuple):
    """As much of a `Batch` as ingest and stitch read."""

    records: list[Record]

    @property
    def end(self) -> int:
        """The position after it."""
        return self.records[-1].offset + 1


class Log:
    """A producer: keeps the log, acknowledges at once."""

    def __init__(self, partitions: int) -> None:
        self.partitions: list[list[Record]] = [[] for _ in range(partitions)]
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._done.set_result(None)

    async def send(self, topic: str, value: bytes, key: bytes | None = None, **_: Any) -> asyncio.Future[None]:
        """Anything that is not the log is acknowledged and forgotten."""
        return self._done

    async def send_and_wait(self, topic: str, value: bytes, partition: int) -> None:
        """A block."""
        log = self.partitions[partition]
        log.append(Record(len(log), value))


class Instant:
    """A Redis that has nothing and takes everything."""

    async def execute_command(self, name: str, *args: Any) -> Any:
        """A commit is applied; every read finds nothing."""
        return 1 if name == "EVALSHA" else [] if name == "SMEMBERS" else [None] * len(args)

    def pipeline(self, transaction: bool = False) -> Pipe:
        """Reads of rollup cells."""
        return Pipe()


class Pipe:
    """As `Instant`, for several commands."""

    def __init__(self) -> None:
        self._counts: list[int] = []

    async def __aenter__(self) -> Pipe:
        return self

    async def __aexit__(self, *error: object) -> None: ...

    def execute_command(self, name: str, key: str, *fields: Any) -> None:
        """Remember how much is asked for."""
        self._counts.append(len(fields))

    async def execute(self) -> list[list[None]]:
        """Nothing of it is there."""
        return [[None] * count for count in self._counts]


class Stands(Tables):
    """Tables whose claim is never disputed."""

    async def stands(self, token: str, position: Position) -> bool:
        """Always."""
        return True


class Timed(NamedTuple):
    """CPU seconds by hop."""

    ingest: float
    stitch: float


async def run(
    marketing: Marketing, items: list[Item], profiles: tuple[cProfile.Profile, cProfile.Profile] | None
) -> Timed:
    """Take all items through ingest, a fetch of each partition in turn, then through stitch, as much of each log in turn."""
    counts = topic_partitions(marketing)
    log = Log(counts[JOURNEY])
    outbox, metrics, redis = Outbox(log, counts[JOURNEY]), Metrics(), Instant()  # type: ignore[arg-type]
    intake = Intake(marketing)
    backlog: dict[tuple[str, int], list[Record]] = {
        (t, p): [] for t, n in counts.items() if t != JOURNEY for p in range(n)
    }
    for topic, key, value in items:
        records = backlog[topic, crc32(key.encode()) % counts[topic]]
        records.append(Record(len(records), value))
    sources = {
        (topic, p): SourcePartition(
            topic, p, Stands(redis, ingest_tag(0, topic, p)), Claimed("t", Position(0), None, 1, 0),  # type: ignore[arg-type]
            intake, outbox, metrics, 1,
        )
        for topic, p in backlog
    }  # fmt: skip
    parts = [
        JourneyPartition(
            p, 0, Stands(redis, journey_tag(0, p)), "t", Position(0), 0, Progress(), marketing, Names(), [], outbox,  # type: ignore[arg-type]
            metrics, _ignore, commit_entries=4000, cache=25 << 20,
        )
        for p in range(counts[JOURNEY])
    ]  # fmt: skip
    spent = [0.0, 0.0]
    # In step of event time, as the worker's alignment makes them: each fetch is as long as its share of all.
    longest = max(map(len, backlog.values()))
    steps = -(-longest // FETCH)
    for step in range(steps + 1):
        begun = _begin(profiles, 0)
        for name, records in backlog.items():
            part = sources[name]
            stop = len(records) * (step + 1) // steps
            if fetched := records[part.position.offset : stop]:
                assert await part.work(Fetch(fetched)) is Outcome.APPLIED  # type: ignore[arg-type]
        spent[0] += _end(profiles, 0, begun)
        begun = _begin(profiles, 1)
        for part, records in zip(parts, log.partitions, strict=True):
            if fetched := records[part.position.offset :]:
                assert await part.work(Fetch(fetched)) is Outcome.APPLIED  # type: ignore[arg-type]
        spent[1] += _end(profiles, 1, begun)
    return Timed(*spent)


async def _ignore(number: int, text: str) -> None: ...


def _begin(profiles: tuple[cProfile.Profile, cProfile.Profile] | None, hop: int) -> float:
    if profiles:
        profiles[hop].enable()
    return time.thread_time()


def _end(profiles: tuple[cProfile.Profile, cProfile.Profile] | None, hop: int, begun: float) -> float:
    spent = time.thread_time() - begun
    if profiles:
        profiles[hop].disable()
    return spent


def show(profiles: Iterable[cProfile.Profile]) -> None:
    """The most expensive functions of each hop."""
    for profile in profiles:
        pstats.Stats(profile).sort_stats("tottime").print_stats(28)


def main() -> None:
    """Prints microseconds an event."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--persons", type=int, default=10_000)
    parser.add_argument("--days", type=int, default=30, help="event time that the backlog spans")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--profile", action="store_true", help="show where the time goes (slows it down)")
    arguments = parser.parse_args()
    marketing = Marketing.from_text(msgspec.json.encode(msgspec.toml.decode(TOML)).decode())
    items = workload(arguments.persons, arguments.days)
    gc.disable()
    for _ in range(arguments.rounds):
        profiles = (cProfile.Profile(), cProfile.Profile()) if arguments.profile else None
        timed = asyncio.run(run(marketing, items, profiles))
        ingest, stitch = (seconds / len(items) * 1e6 for seconds in timed)
        print(
            f"{len(items)} events: ingest {ingest:5.1f} + stitch {stitch:5.1f} = {ingest + stitch:5.1f} us CPU per event",
            flush=True,
        )
        show(profiles or ())
        gc.collect()


if __name__ == "__main__":
    command(main)
