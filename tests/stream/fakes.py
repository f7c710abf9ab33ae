"""Stand-ins at the edges of stitch and ingest: tables in memory, a producer that records, faults at chosen calls.

The real `Outbox` runs on the recording producer, so what is looked at is what would be in Kafka.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from attribution.nodes.state import Node
from attribution.rollups import Bucket, Cell
from attribution.rules import Dims
from attribution.watermarks import JOURNEY, Progress
from models.results import Attribution
from models.settings import Marketing
from models.wire import AnyEntry, Block, Configured, decode_block, encode
from streams.caches import COSTS, bucket_of, mentioned
from streams.codec import Names, unpack_cell, unpack_node
from streams.erasing import FORGOTTEN_SET, PUBLISHED
from streams.metrics import Metrics
from streams.outbox import Outbox
from streams.reach import INDEX
from streams.stitch import JourneyPartition
from streams.tables import Committed, Outcome, Position, Writes

TOKEN = "token"


def _text(word: bytes | str) -> str:
    return word if isinstance(word, str) else word.decode(errors="surrogateescape")


class Broken(Exception):
    """The fault that a test asked for."""


class Faults:
    """Fails the nth call from now on; each call may fail before it has any effect, or after it had all of it.

    Calls are counted by name; `arm("commit", 0, after=True)` loses the next commit's reply. "any" counts all.
    """

    def __init__(self) -> None:
        self._armed: tuple[str, int, bool] | None = None
        self.raised: Counter[tuple[str, bool]] = Counter()

    def arm(self, name: str, skip: int = 0, *, after: bool = False) -> None:
        self._armed = (name, skip, after)

    def disarm(self) -> None:
        self._armed = None

    def reach(self, name: str, *, after: bool) -> None:
        """A call is about to begin, or has just ended."""
        if self._armed is None or self._armed[0] not in (name, "any") or self._armed[2] != after:
            return
        wanted, skip, _ = self._armed
        if skip:
            self._armed = (wanted, skip - 1, after)
            return
        self._armed = None
        self.raised[name, after] += 1
        raise Broken(name)


@dataclass
class MemoryTables:
    """What `Tables` is to one partition. A whole set is never read: there is no `smembers`."""

    faults: Faults = field(default_factory=Faults)
    strings: dict[str, bytes] = field(default_factory=dict)
    hashes: dict[str, dict[str, bytes]] = field(default_factory=dict)
    sets: dict[str, set[str]] = field(default_factory=dict)
    token: str = TOKEN
    position: Position = field(default_factory=lambda: Position(0))
    state: bytes | None = None
    seq: int = 0
    config: int = 0
    commits: list[Writes] = field(default_factory=list)
    sampled: list[int] = field(default_factory=list)
    """How many members each read of a set gave."""

    async def get(self, suffixes: Sequence[str]) -> list[bytes | None]:
        self.faults.reach("get", after=False)
        return [self.strings.get(suffix) for suffix in suffixes]

    async def hget(self, pairs: Sequence[tuple[str, bytes | str]]) -> list[bytes | None]:
        self.faults.reach("hget", after=False)
        return [self.hashes.get(suffix, {}).get(_text(name)) for suffix, name in pairs]

    async def smembers(self, suffix: str) -> set[bytes]:
        self.faults.reach("smembers", after=False)
        return {member.encode() for member in self.sets.get(suffix, ())}

    async def sample(self, suffix: str, count: int) -> list[bytes]:
        self.faults.reach("sample", after=False)
        # Redis gives any; here the last ones by name, so that a reader that relies on an order is found out.
        found = sorted(self.sets.get(suffix, ()), reverse=True)[:count]
        self.sampled.append(len(found))
        return [member.encode() for member in found]

    async def stands(self, token: str, position: Position) -> bool:
        return (token, position) == (self.token, self.position)

    async def commit(
        self, token: str, before: Position, after: Position, state: bytes, seq: int, config: int, writes: Writes
    ) -> Committed:
        self.faults.reach("commit", after=False)
        if token != self.token:
            return Committed(Outcome.FENCED, self.position)
        if before != self.position:
            if after == self.position:
                return Committed(Outcome.APPLIED, after)
            return Committed(Outcome.REWIND if self.position < before else Outcome.FENCED, self.position)
        assert seq > self.seq
        self._apply(writes)
        self.position, self.state, self.seq, self.config = after, state, seq, config
        self.commits.append(writes)
        self.faults.reach("commit", after=True)
        return Committed(Outcome.APPLIED, after)

    def _apply(self, writes: Writes) -> None:
        """In the order of the script: deletions first."""
        kinds = [*writes.sets, *writes.hashes, *writes.sadd]
        assert len(kinds) == len(set(kinds)), "a key is of one kind"
        for suffix in writes.deletes:
            for table in (self.strings, self.hashes, self.sets):
                table.pop(suffix, None)  # type: ignore[attr-defined]
        for suffix, names in writes.hdels.items():
            for name in names:
                self.hashes.get(suffix, {}).pop(_text(name), None)
        for suffix, members in writes.srem.items():
            self.sets.get(suffix, set()).difference_update(map(_text, members))
        self.strings |= writes.sets
        for suffix, fields in writes.hashes.items():
            self.hashes.setdefault(suffix, {}).update({_text(name): value for name, value in fields.items()})
        for suffix, members in writes.sadd.items():
            self.sets.setdefault(suffix, set()).update(map(_text, members))
        for suffix in [suffix for suffix, members in self.sets.items() if not members]:
            del self.sets[suffix]

    # What a test looks at, numbers of names resolved.

    def names(self) -> Names:
        return Names({int(number): packed for number, packed in self.hashes.get("names", {}).items()})

    def nodes(self) -> dict[str, Node]:
        """Every node by its key, costs included."""
        names = self.names()
        packed = {suffix[2:]: value for suffix, value in self.strings.items() if suffix.startswith("n:")}
        packed |= {f"k:{cost_id}": value for cost_id, value in self.hashes.get(COSTS, {}).items()}
        return {key: unpack_node(value, names) for key, value in packed.items()}

    def indexed(self) -> dict[str, int]:
        """Every node of the expiry index, with its day. Each must be there once."""
        found: dict[str, int] = {}
        for suffix, members in self.sets.items():
            if suffix in (INDEX, FORGOTTEN_SET) or suffix.startswith(mentioned("")):
                continue
            assert suffix.startswith("x:")
            for key in members:
                assert key not in found, f"{key} is indexed twice"
                found[key] = int(suffix[2:])
        return found

    def mentioned(self) -> dict[str, set[str]]:
        """Nodes by whom they mention, as the index says."""
        start = mentioned("")
        found = {
            suffix.removeprefix(start): members for suffix, members in self.sets.items() if suffix.startswith(start)
        }
        known = {person: {key for key in members if not key.startswith(PUBLISHED)} for person, members in found.items()}
        return {person: keys for person, keys in known.items() if keys}

    def cells(self) -> dict[tuple[Bucket, Dims], Cell]:
        """Every rollup cell that holds anything."""
        names = self.names()
        found = {}
        for suffix, fields in self.hashes.items():
            bucket = bucket_of(suffix)
            for number, packed in fields.items() if bucket is not None else ():
                cell = unpack_cell(packed, names)
                if cell:
                    assert bucket is not None
                    found[bucket, names.value(int(number))] = cell
        return found

    def buckets(self) -> list[Bucket]:
        """Every rollup bucket that is stored."""
        return [bucket for suffix in self.hashes if (bucket := bucket_of(suffix)) is not None]

    def progress(self) -> Progress:
        return msgspec.msgpack.decode(self.state, type=Progress) if self.state else Progress()


class Sent(NamedTuple):
    topic: str
    partition: int | None
    key: bytes | None
    value: bytes | None
    headers: dict[str, bytes]


class RecordingProducer:
    """What `Outbox` uses of AIOKafkaProducer. Like it, it refuses a message with neither key nor value."""

    def __init__(self, faults: Faults | None = None) -> None:
        self.sent: list[Sent] = []
        self.faults = faults or Faults()

    async def send(
        self,
        topic: str,
        value: bytes | None = None,
        key: bytes | None = None,
        partition: int | None = None,
        headers: Iterable[tuple[str, bytes]] = (),
    ) -> asyncio.Future[None]:
        assert value is not None or key is not None, "Need at least one: key or value"
        self.faults.reach("send", after=False)
        self.sent.append(Sent(topic, partition, key, value, dict(headers)))
        self.faults.reach("send", after=True)
        acknowledged: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        acknowledged.set_result(None)
        return acknowledged

    async def send_and_wait(self, topic: str, value: bytes, partition: int) -> None:
        await (await self.send(topic, value, partition=partition))

    def blocks(self) -> list[Block]:
        """All blocks sent to the log, in order."""
        return [decode_block(sent.value or b"") for sent in self.sent if sent.topic == JOURNEY]

    def moves(self) -> dict[tuple[int, int], AnyEntry]:
        """Entries sent to the log by their numbers. One that is sent again must be the same."""
        found: dict[tuple[int, int], AnyEntry] = {}
        for block in self.blocks():
            for entry in block.entries:
                assert found.setdefault((entry.offset, entry.k), entry) == entry
        return found

    def attributions(self) -> dict[tuple[str, str], Attribution]:
        """What readers hold in the end: the highest version of each; of one that is sent again, the last."""
        found: dict[tuple[str, str], Attribution] = {}
        for sent in self.sent:
            if sent.topic == "attributions":
                new = msgspec.json.decode(sent.value or b"", type=Attribution)
                assert sent.key == f"{new.conversion_id}|{new.person}".encode()
                old = found.get((new.conversion_id, new.person))
                if old is None or (old.version or ()) <= (new.version or ()):
                    found[new.conversion_id, new.person] = new
        return found

    def letters(self) -> list[Sent]:
        return [sent for sent in self.sent if sent.topic.startswith("dlq.")]


class Record(NamedTuple):
    """As much of a Kafka record as stitch and ingest read. `timestamp` in ms."""

    offset: int
    value: bytes | None
    timestamp: int = 1 << 42
    key: bytes | None = None
    headers: tuple[tuple[str, bytes], ...] = ()


class Fetch:
    """A `Batch`; `end` may lie beyond its last record, as with compaction."""

    def __init__(self, records: Sequence[Record], end: int | None = None) -> None:
        self.records = records
        self.end = records[-1].offset + 1 if end is None else end


class Bench:
    """One partition of the log on a table bench: `append` to its log, `work`, look at `tables`, `producer`, `count`."""

    def __init__(self, marketing: Marketing, log: Iterable[Block] = (), **limits: Any) -> None:
        self.faults = Faults()
        self.tables = MemoryTables(self.faults)
        self.producer = RecordingProducer(self.faults)
        self.metrics = Metrics()
        self.noted: list[tuple[int, str]] = []
        self.log = list(log)
        self._marketing = marketing
        self._limits = {"commit_entries": 1000, "cache": 1 << 30} | limits
        self.claim()

    def claim(self) -> JourneyPartition:
        """Begin anew from what is stored, as after every failure."""
        tables = self.tables
        text = tables.strings.get("config")
        marketing = Marketing.from_text(text.decode()) if text else self._marketing
        self.part = JourneyPartition(
            0, 0, tables, tables.token, tables.position, tables.seq, tables.progress(), marketing, tables.names(),  # type: ignore[arg-type]
            tables.buckets(), Outbox(self.producer, marketing.topics.journey_events), self.metrics, self._note, **self._limits,  # type: ignore[arg-type]
        )  # fmt: skip
        return self.part

    async def _note(self, number: int, text: str) -> None:
        self.noted.append((number, text))

    def append(self, *blocks: Block) -> None:
        self.log += blocks

    def entries(self, source: str, *entries: AnyEntry) -> None:
        self.append(Block(1, source, list(entries)))

    def configured(self, number: int, marketing: Marketing) -> None:
        self.append(Block(1, "configuration", [], [], Configured(number, marketing.text())))

    def fetch(self, count: int = 1 << 30) -> Any:
        """The next blocks of the log, encoded as they would be in Kafka."""
        at = self.tables.position.offset
        return Fetch([Record(at + i, encode(block)) for i, block in enumerate(self.log[at : at + count])])

    async def work(self, count: int = 1 << 30) -> None:
        """Apply all that is in the log, up to `count` blocks in one fetch."""
        while self.tables.position.offset < len(self.log):
            assert await self.part.work(self.fetch(count)) is Outcome.APPLIED

    def count(self, name: str, **labels: str) -> float:
        """A counter of the pipeline metrics."""
        return self.metrics.registry.get_sample_value(f"parcours_{name}_total", labels) or 0.0
