"""What keys cost that grow without end: robots, a shop's counter with thousands of orders, a device that everybody uses.

Ingest and stitch run as in `bench.hotpath`. Events of one key come in thousands; for each tenth of them the CPU time per event is
told, which may grow until the key reaches its bounds (500 touches, 1 000 conversions, ...) and not beyond; at the end, what the key takes.

    python -m bench.bounds --events 1000000 [--only robot]
"""

from __future__ import annotations

import argparse
import asyncio
import random
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from itertools import islice
from typing import Any, NamedTuple

import msgspec

from attribution.intake import Intake
from attribution.watermarks import Progress
from bench import command
from bench.hotpath import Fetch, Instant, Log, Record, Stands
from bench.workload import NETWORKS, START, TOML
from models.settings import Marketing, Topics
from models.wire import Mark
from streams.codec import Names
from streams.ingest import SourcePartition
from streams.metrics import Metrics
from streams.outbox import Outbox
from streams.stitch import JourneyPartition
from streams.tables import Claimed, Committed, Outcome, Position, Writes, ingest_tag, journey_tag

STEP = 500
"""Events between two fetches of the log."""
TOPICS = ("clicks", "touchpoints", "purchases")
Body = dict[str, Any]
Event = tuple[str, Body]


def _touch(draw: random.Random, person: Body) -> Event:
    network = draw.choice(NETWORKS)
    if draw.random() < 0.5:
        return "clicks", person | {"channel": "Paid Social", "network": network, "campaign": f"c{draw.randrange(16)}"}
    kind = draw.choice(("visit", "visit", "impression"))
    source = {"network": network, "channel": "Organic Social"} if draw.random() < 0.5 or kind == "impression" else {}
    return "touchpoints", person | {"type": kind} | source


def _order(n: int, person: Body) -> Event:
    return "purchases", person | {"type": "order", "order_id": f"o{n}", "revenue": "9.90", "currency": "EUR"}


def robot(draw: random.Random, n: int) -> Event:
    """A device without an end of touches."""
    return _touch(draw, {"anonymous_id": "robot"})


def robot_logged_in(draw: random.Random, n: int) -> Event:
    """The same, of a device that has a customer: each touch is given on."""
    login = {"anonymous_id": "robot", "customer_id": "one", "type": "identify"}
    return ("touchpoints", login) if n == 0 else robot(draw, n)


def counter(draw: random.Random, n: int) -> Event:
    """A customer, such as a shop's own counter, with an order after each touch: all touches that may be are eligible for each."""
    return _order(n, {"customer_id": "counter"}) if n % 2 else _touch(draw, {"customer_id": "counter"})


def buyer(draw: random.Random, n: int) -> Event:
    """A customer with ten orders for each touch."""
    return _order(n, {"customer_id": "buyer"}) if n % 11 else _touch(draw, {"customer_id": "buyer"})


def counter_device(draw: random.Random, n: int) -> Event:
    """The same of a device that has a customer: each order is given on."""
    login = {"anonymous_id": "till", "customer_id": "counter", "type": "identify"}
    if n == 0:
        return "touchpoints", login
    return _order(n, {"anonymous_id": "till"}) if n % 2 else _touch(draw, {"anonymous_id": "till"})


def refunds(draw: random.Random, n: int) -> Event:
    """An order with a refund without end."""
    refund = {"type": "refund", "order_id": "o0", "amount": "0.01"}
    return _order(0, {"customer_id": "one"}) if n == 0 else ("purchases", refund)


def crowd(draw: random.Random, n: int) -> Event:
    """A device on which another customer logs in after each touch."""
    if n % 2:
        return "touchpoints", {"anonymous_id": "kiosk", "customer_id": f"u{n}", "type": "identify"}
    return "touchpoints", {"anonymous_id": "kiosk", "type": "visit", "network": draw.choice(NETWORKS)}


def pair(draw: random.Random, n: int) -> Event:
    """A device that two customers share, by turns, a touch each."""
    if n % 2:
        return "touchpoints", {"anonymous_id": "family", "customer_id": f"u{n // 2 % 2}", "type": "identify"}
    return "touchpoints", {"anonymous_id": "family", "type": "visit", "network": draw.choice(NETWORKS)}


class Case(NamedTuple):
    """The node that grows, what its `n`th event is, the seconds of event time between two, and how many seconds late one may be."""

    node: str
    make: Callable[[random.Random, int], Event]
    seconds: int = 1
    disorder: int = 0


CASES = {
    "robot": Case("a:robot", robot),
    "robot, disorder": Case("a:robot", robot, disorder=300),
    "robot, customer": Case("c:one", robot_logged_in),
    "buyer": Case("c:buyer", buyer, 6 * 3600),
    "counter": Case("c:counter", counter, 60),
    "counter, disorder": Case("c:counter", counter, 10, disorder=300),
    "till, customer": Case("c:counter", counter_device, 60),
    "refunds": Case("o:o0", refunds, 60),
    "everybody's": Case("a:kiosk", crowd, 60),
    "two persons": Case("a:family", pair, 600),
}


class Arrived(NamedTuple):
    """A record, and its Kafka timestamp in milliseconds."""

    topic: str
    value: bytes
    timestamp: int


def events(case: Case, count: int, seed: int = 1) -> Iterator[Arrived]:
    """The events of a case as they arrive."""
    draw = random.Random(seed)
    encode = msgspec.json.Encoder().encode
    for n in range(count):
        late = draw.randrange(case.disorder) if case.disorder and n else 0
        at = START + timedelta(seconds=n * case.seconds)
        topic, body = case.make(draw, n)
        body |= {"event_id": f"{draw.getrandbits(64):016x}", "occurred_at": (at - timedelta(seconds=late)).isoformat()}
        yield Arrived(topic, encode(body), int(at.timestamp() * 1000))


class Kept(Stands):
    """Tables that keep the nodes with some keys, and of nothing else."""

    def __init__(self, redis: Any, tag: str, keep: frozenset[str]) -> None:
        super().__init__(redis, tag)
        self.kept: dict[str, bytes] = {}
        self._keep = keep

    async def get(self, suffixes: Sequence[str]) -> list[bytes | None]:
        """Values of keys."""
        return [self.kept.get(suffix) for suffix in suffixes]

    async def commit(
        self, token: str, before: Position, after: Position, state: bytes, seq: int, config: int, writes: Writes
    ) -> Committed:
        """Always applied."""
        self.kept |= {suffix: value for suffix, value in writes.sets.items() if suffix in self._keep}
        return await super().commit(token, before, after, state, seq, config, writes)


class Short(Log):
    """A log that keeps what is not read yet."""

    def __init__(self, partitions: int) -> None:
        super().__init__(partitions)
        self.sent = [0] * partitions

    async def send_and_wait(self, topic: str, value: bytes, partition: int) -> None:
        """A block."""
        self.partitions[partition].append(Record(self.sent[partition], value))
        self.sent[partition] += 1


class Run:
    """The pipeline with one partition of everything, fed one event after the other."""

    def __init__(self, keep: frozenset[str], **changes: Any) -> None:
        """`keep`: which keys its Redis keeps. `changes` are of the marketing configuration."""
        marketing = Marketing.from_text(msgspec.json.encode(msgspec.toml.decode(TOML)).decode())
        ones = Topics(clicks=1, touchpoints=1, purchases=1, costs=1, journey_events=1)
        marketing = msgspec.structs.replace(marketing, topics=ones, **changes)
        self.log, self.metrics, redis = Short(1), Metrics(), Instant()
        self.outbox = Outbox(self.log, 1)  # type: ignore[arg-type]
        intake = Intake(marketing)
        self.sources = {
            topic: SourcePartition(
                topic, 0, Stands(redis, ingest_tag(0, topic, 0)), Claimed("t", Position(0), None, 1, 0),  # type: ignore[arg-type]
                intake, self.outbox, self.metrics, 1,
            )
            for topic in TOPICS
        }  # fmt: skip
        self.tables = Kept(redis, journey_tag(0, 0), keep)
        self.part = JourneyPartition(
            0, 0, self.tables, "t", Position(0), 0, Progress(), marketing, Names(), [], self.outbox, self.metrics, _ignore,
            commit_entries=1000, cache=25 << 20,
        )  # fmt: skip

    async def take(self, arrived: Sequence[Arrived]) -> None:
        """Ingest some events, stitch them and what they move; then all watermarks follow."""
        for topic, part in self.sources.items():
            begin = part.position.offset
            own = [one for one in arrived if one.topic == topic]
            if records := [Record(begin + i, one.value, one.timestamp) for i, one in enumerate(own)]:
                assert await part.work(Fetch(records)) is Outcome.APPLIED  # type: ignore[arg-type]
        await self._stitch()
        t = arrived[-1].timestamp * 1000
        marks = [Mark(f"{topic}/0", part.position.offset, t, False) for topic, part in self.sources.items()]
        await self.outbox.marks([*marks, Mark("costs/0", 0, None, True)])
        await self._stitch()
        await self.outbox.marks([self.part.announcement()])

    async def _stitch(self) -> None:
        while fetched := self.log.partitions[0]:
            self.log.partitions[0] = []
            assert await self.part.work(Fetch(fetched)) is Outcome.APPLIED  # type: ignore[arg-type]

    def node(self, key: str) -> bytes:
        """A kept node as stored."""
        return self.tables.kept[f"n:{key}"]


async def _ignore(number: int, text: str) -> None: ...


class Part(NamedTuple):
    """A part of a run: how many events, the CPU seconds they took, the node's bytes at its end, the process's peak in MB."""

    events: int
    seconds: float
    size: int
    peak: float


def measure(name: str, count: int, parts: int = 10) -> Iterator[Part]:
    """Take so many events of a case through the pipeline, and tell of each part of them."""
    case = CASES[name]
    arriving = events(case, count)
    with asyncio.Runner() as runner:

        async def make() -> Run:
            return Run(frozenset((f"n:{case.node}",)))

        run = runner.run(make())
        for _ in range(parts):
            left, spent = count // parts, 0.0
            while left and (arrived := list(islice(arriving, min(left, STEP)))):
                left -= len(arrived)
                begun = time.thread_time()
                runner.run(run.take(arrived))
                spent += time.thread_time() - begun
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            yield Part(count // parts, spent, len(run.node(case.node)), peak)


def main() -> None:
    """Prints a line for each case: microseconds an event in each tenth, the node's bytes, the process's peak."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=20_000, help="of each key")
    parser.add_argument("--only", choices=CASES, help="one case")
    arguments = parser.parse_args()
    print(f"us CPU per event by tenth of {arguments.events:,} events; bytes of the node; peak of the process")
    for name in [arguments.only] if arguments.only else CASES:
        print(f"{name:18}", end="", flush=True)
        for part in measure(name, arguments.events):
            print(f"{part.seconds / part.events * 1e6:7.0f}", end="", flush=True)
        print(f"{part.size:10,} B {part.peak:6.0f} MB", flush=True)


if __name__ == "__main__":
    command(main)
