"""The pipeline without a broker, Redis or tasks: records in, attributions out, one step at a time.

In the spirit of Kafka Streams' TopologyTestDriver, but with several source and log partitions that advance unevenly, and
with all that the wire may do: entries come in blocks, blocks come again, a step may fail between sending and committing.
Between any two steps everything a partition knows is bytes: nodes, cells and names by `streams.codec`, progress by msgpack.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random

import msgspec

from attribution.eligible import truncated
from attribution.erasure import Erased, erase, screen
from attribution.fold import event_time, expires, fold
from attribution.forgetting import Forgotten, everywhere
from attribution.intake import Intake
from attribution.newness import forgotten
from attribution.nodes.base import NEVER, Context
from attribution.nodes.state import Conversion, Node, Person
from attribution.outcome import describe, nameless
from attribution.rollups import RETENTION, Bucket, Calendar, Cell, Rollups
from attribution.rules import Dims, Rules
from attribution.watermarks import JOURNEY, Progress, announcing_partitions, expected_sources
from models.results import Attribution
from models.settings import DAY, Marketing
from models.wire import FORMAT, AnyEntry, Block, Forget, Mark, decode_block, encode, source_id
from streams.blocks import route
from streams.codec import Names, pack_cell, pack_node, unpack_cell, unpack_node

NO_CLOCK = 1 << 62
_pack = msgspec.msgpack.Encoder().encode
_progress = msgspec.msgpack.Decoder(Progress).decode


@dataclass
class Source:
    """A partition of a source topic. `position` and `max_time` are what ingest stores together."""

    topic: str
    name: str
    records: list[bytes] = field(default_factory=list)
    position: int = 0
    max_time: int | None = None


@dataclass
class Stored:
    """What Redis would hold of one partition of the log; all of it changes at once, in a commit."""

    offset: int = 0
    entry: int = 0
    progress: bytes = b""
    nodes: dict[str, bytes] = field(default_factory=dict)
    cells: dict[Bucket, dict[int, bytes]] = field(default_factory=dict)
    names: dict[int, bytes] = field(default_factory=dict)
    forgotten: frozenset[bytes] = frozenset()


class Driver:
    """`publish`, then `ingest`, `mark` and `stitch` as the test likes, then `drain`, then read."""

    def __init__(self, marketing: Marketing, rng: Random, *, sweep: bool = False) -> None:
        """With `sweep`, nodes that nothing can need any more go with each commit."""
        self.sweep = sweep
        self.marketing = marketing
        self.rng = rng
        self.partitions = marketing.topics.journey_events
        self.sources = {name: Source(name.split("/")[0], name) for name in sorted(expected_sources(marketing))}
        self.left: dict[str, Attribution] = {}
        """What stays on record of forgotten persons' conversions, by name."""
        self.log: list[list[bytes]] = [[] for _ in range(self.partitions)]
        self.stored = [Stored(progress=_pack(Progress())) for _ in range(self.partitions)]
        self.published: dict[tuple[str, str], Attribution] = {}
        self.dropped: Counter[str] = Counter()
        self.late: list[AnyEntry] = []
        self.redelivered = 0
        self._intake = Intake(marketing)
        self._rules = Rules(marketing, number=1)
        self._calendar = Calendar(marketing.time_zone)
        self._expected = expected_sources(marketing)
        self._announcing = announcing_partitions(marketing)

    # Sources

    def publish(self, source: str, value: bytes) -> None:
        """Append a record to a source partition, as in `clicks/1`."""
        self.sources[source].records.append(value)

    def ingest(self, source: str, count: int, *, fail: bool = False) -> None:
        """Send the next records' entries on. When it fails, some blocks are out and the position stays."""
        origin = self.sources[source]
        entries, max_time = [], origin.max_time
        stop = min(origin.position + count, len(origin.records))
        for offset in range(origin.position, stop):
            taken = self._intake.take(origin.topic, origin.records[offset], NO_CLOCK, offset)
            entries += taken.entries
            max_time = taken.t if max_time is None else max(max_time, taken.t)
        self._send(source, entries, fail)
        if not fail:
            origin.position, origin.max_time = stop, max_time

    def mark(self, sources: Iterable[str] = (), partitions: Iterable[int] = (), *, idle: bool = False) -> None:
        """Tell every partition of the log how far these have come."""
        marks = [Mark(s.name, s.position, s.max_time, idle) for s in map(self.sources.__getitem__, sources)]
        for p in partitions:
            own = self.progress(p)
            marks.append(Mark(source_id(JOURNEY, p), self.stored[p].offset, own.watermark, False, own.heard))
        for target in range(self.partitions):
            self.log[target].append(encode(Block(FORMAT, "marks", [], marks)))

    def _send(self, source: str, entries: list[AnyEntry], fail: bool) -> None:
        for target, own in route(entries, self.partitions).items():
            start = 0
            while start < len(own) and not (fail and self.rng.random() < 0.4):
                stop = start + self.rng.choice((1, 1, 2, 5, 50))
                self.log[target].append(encode(Block(FORMAT, source, own[start:stop])))
                start = stop

    def redeliver(self) -> None:
        """A block that is in the log comes once more, however much has come since."""
        blocks = self.rng.choice(self.log)
        if blocks:
            blocks.append(self.rng.choice(blocks))

    # The log

    def progress(self, partition: int) -> Progress:
        """What a partition of the log knows of its sources, as committed."""
        return _progress(self.stored[partition].progress)

    def stitch(self, partition: int, limit: int, *, fail: bool = False) -> int:
        """Fold up to `limit` entries, send their moves and results, commit. Returns how many entries and blocks it passed.

        Starts from stored bytes alone. When it fails, moves and results are out and nothing is committed.
        """
        stored = self.stored[partition]
        work = _Work(self, partition, stored)
        offset, entry, steps = stored.offset, stored.entry, 0
        while offset < len(self.log[partition]) and limit > 0:
            block = decode_block(self.log[partition][offset])
            stop = min(len(block.entries), entry + limit)
            work.apply(block, offset, entry, stop)
            limit -= stop - entry
            steps += 1
            offset, entry = (offset + 1, 0) if stop == len(block.entries) else (offset, stop)
        self._send(source_id(JOURNEY, partition), work.moves, fail)
        for key, attribution in work.left:
            self.published.pop(key, None)
            self.left[attribution.conversion_id] = attribution
        for result in work.results:
            known = self.published.get((result.conversion_id, result.person))
            if known is None or known.version is None or result.version is None or known.version <= result.version:
                self.published[result.conversion_id, result.person] = result
        if not fail:
            self.stored[partition] = work.commit(offset, entry)
            self.dropped += work.dropped
            self.redelivered += work.redelivered
            self.late += work.late
        return steps

    def drain(self) -> None:
        """Everything to its end, all sources idle, and every watermark announced to all."""
        for name, source in self.sources.items():
            self.ingest(name, len(source.records))
        self.mark(self.sources, idle=True)
        for _ in range(4):
            while sum(self.stitch(p, 1 << 30) for p in range(self.partitions)):
                pass
            self.mark(partitions=range(self.partitions))
        for p in range(self.partitions):
            self.stitch(p, 1 << 30)

    # Reading

    def nodes(self) -> dict[str, Node]:
        """Every node, of all partitions."""
        found: dict[str, Node] = {}
        for stored in self.stored:
            names = Names(stored.names)
            found |= {key: unpack_node(packed, names) for key, packed in stored.nodes.items()}
        return found

    def rollups(self) -> Rollups:
        """The sum of all partitions' cells, pruned."""
        total = Rollups(self._calendar)
        for stored in self.stored:
            names = Names(stored.names)
            for bucket, cells in stored.cells.items():
                into = total.buckets.setdefault(bucket, {})
                for number, packed in cells.items():
                    cell = into.setdefault(names.value(number), {})
                    for measure, amount in unpack_cell(packed, names).items():
                        cell[measure] = cell.get(measure, 0) + amount
        total.prune(max(self.progress(p).highest for p in range(self.partitions)))
        return total


class _Work:
    """One step of one partition, from its stored bytes to the next ones."""

    def __init__(self, driver: Driver, partition: int, stored: Stored) -> None:
        self.moves: list[AnyEntry] = []
        self.results: list[Attribution] = []
        self.dropped: Counter[str] = Counter()
        self.late: list[AnyEntry] = []
        self.redelivered = 0
        self.left: list[tuple[tuple[str, str], Attribution]] = []
        self._driver = driver
        self._stored = stored
        self._forgotten = Forgotten(b"a secret", stored.forgotten)
        self._names = Names(stored.names)
        self._nodes: dict[str, bytes | None] = {}
        self._progress = _progress(stored.progress)
        self._deltas = Rollups(driver._calendar)

    def apply(self, block: Block, offset: int, start: int, stop: int) -> None:
        """Entries under the watermark before the block, then its marks."""
        progress, driver = self._progress, self._driver
        context = Context(driver._rules, progress.watermark, progress.sealed)
        for index in range(start, stop):
            entry = block.entries[index]
            if (entry.offset, entry.k) <= progress.applied.get(block.source, (-1, -1)):
                self.redelivered += 1
                continue
            progress.applied[block.source] = (entry.offset, entry.k)
            t = event_time(entry)
            progress.highest = max(progress.highest, NEVER if t is None else t)
            self._fold(entry, offset, index, context)
        if stop == len(block.entries):
            for mark in block.marks:
                progress.mark(mark, driver._expected, driver._announcing)

    def _fold(self, entry: AnyEntry, offset: int, index: int, context: Context) -> None:
        if isinstance(entry, Forget):
            self._forget(entry, offset, index, context)
            return
        node = self._node(entry.key)
        if self._forgotten and (erased := screen(entry, node, self._forgotten)) is not None:
            self.dropped["forgotten"] += 1
            self._take(erased, offset, index)
            return
        folded = fold(node, entry, context)
        if folded.dropped is not None:
            self.dropped[folded.dropped] += 1
            if folded.dropped == "late":
                self.late.append(entry)
            self._send(folded.moves, [], offset, index)
            return
        self._nodes[entry.key] = pack_node(folded.node, self._names)
        self._deltas.add(folded.facts, self._progress.highest)
        self._send(folded.moves, [(entry.key, conversion) for conversion in folded.changed], offset, index)

    def _node(self, key: str) -> Node:
        packed = self._nodes.get(key, self._stored.nodes.get(key))
        return unpack_node(packed, self._names) if packed is not None else None

    def _send(
        self, moves: Iterable[AnyEntry], changed: Iterable[tuple[str, Conversion]], offset: int, index: int
    ) -> None:
        for i, move in enumerate(moves):
            self.moves.append(msgspec.structs.replace(move, offset=offset, k=(index << 32) + i))
        for person, conversion in changed:
            currency = self._driver.marketing.reporting_currency
            node = self._node(person)
            cut = isinstance(node, Person) and truncated(node, conversion, self._driver._rules)
            self.results.append(describe(person, conversion, currency, (0, offset, index), truncated=cut))

    def _forget(self, entry: Forget, offset: int, index: int, context: Context) -> None:
        if self._forgotten.add(entry.persons):
            nodes = {key: self._node(key) for key in self._stored.nodes.keys() | self._nodes.keys()}
            self._take(erase(nodes, self._forgotten, context), offset, index)

    def _take(self, erased: Erased, offset: int, index: int) -> None:
        for key, node in erased.nodes.items():
            self._nodes[key] = None if node is None else pack_node(node, self._names)
        self._deltas.add(erased.facts, self._progress.highest)
        self._forgotten.add(erased.orders)
        told = everywhere(erased.devices, self._driver.partitions) if erased.devices else []
        self._send([*erased.moves, *told], erased.changed, offset, index)
        currency = self._driver.marketing.reporting_currency
        gone = {(conversion.id, person) for person, conversion in erased.left}
        self.results = [one for one in self.results if (one.conversion_id, one.person) not in gone]
        for person, conversion in erased.left:
            # Known by the place in the log: a step that is done again says the same.
            name = f"f:{offset}:{index}:{conversion.t}:{len(self.left)}"
            self.left.append(((conversion.id, person), nameless(describe(person, conversion, currency), name)))

    def commit(self, offset: int, entry: int) -> Stored:
        """The stored bytes after this step."""
        names, highest = self._names, self._progress.highest
        kept = {b: dict(cells) for b, cells in self._stored.cells.items() if b[1] > highest - RETENTION[b[0]]}
        for bucket, cells in self._deltas.buckets.items():
            if bucket[1] <= highest - RETENTION[bucket[0]]:
                continue
            fields = kept.setdefault(bucket, {})
            for dims, delta in cells.items():
                fields[names.id(dims)] = pack_cell(self._sum(fields, dims, delta), names)
        nodes = {key: packed for key, packed in (self._stored.nodes | self._nodes).items() if packed is not None}
        return Stored(
            offset,
            entry,
            _pack(self._progress),
            self._swept(nodes) if self._driver.sweep and self._progress.sealed != NEVER else nodes,
            kept,
            self._stored.names | names.fresh,
            frozenset(self._forgotten.hashes),
        )

    def _swept(self, nodes: dict[str, bytes]) -> dict[str, bytes]:
        left = {}
        for key, packed in nodes.items():
            node = unpack_node(packed, self._names)
            if expires(key, node, self._driver._rules) // DAY >= self._progress.sealed // DAY:
                left[key] = packed
            elif (mark := forgotten(key, node, self._driver._rules)) is not None:
                left[key] = pack_node(mark, self._names)
        return left

    def _sum(self, fields: dict[int, bytes], dims: Dims, delta: Cell) -> Cell:
        packed = fields.get(self._names.id(dims))
        cell = unpack_cell(packed, self._names) if packed is not None else {}
        for measure, amount in delta.items():
            cell[measure] = cell.get(measure, 0) + amount
        return cell
