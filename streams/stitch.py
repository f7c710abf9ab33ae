"""Stitch: folds a partition of the log into nodes, rollups, moves and attributions.

A pure function of its log: whatever it decides on was read from the log or stored together with the position. Each
chunk is: gather nodes → fold → send moves and results → commit by compare-and-set.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from operator import attrgetter

import msgspec

from attribution.cohorts import CUSTOMER_KEPT
from attribution.eligible import truncated
from attribution.erasure import Erased, erase, screen
from attribution.fold import event_time, expires, fold, fold_touches
from attribution.forgetting import Forgotten, everywhere
from attribution.newness import forgotten, is_mark
from attribution.nodes.base import NEVER, Context, Folded
from attribution.nodes.state import Conversion, Node, Person
from attribution.outcome import describe
from attribution.reach import SEEN
from attribution.rollups import Bucket, Calendar
from attribution.rules import Rules
from attribution.watermarks import Progress, announcing_partitions, expected_sources, split_source
from models.errors import Rejected
from models.results import Attribution
from models.settings import DAY, Marketing
from models.wire import AnyEntry, Forget, Mark, OrderReport, Survey, Touch, decode_block, source_id
from streams.caches import Cells, Nodes
from streams.chunk import Chunk, Piece, Result, Waiting
from streams.codec import Names
from streams.erasing import Erasing, expiring, let_go
from streams.metrics import Metrics
from streams.outbox import Outbox, letter_headers
from streams.reach import Sightings
from streams.tables import Outcome, Position, Tables, Writes
from streams.transport import Batch

log = logging.getLogger(__name__)
CELLS_SHARE = 4
"""Cells take one part in so many of what is cached, nodes the rest: most facts are of the latest hours, but persons come back after days."""
SWEEP_MAX = 500
"""Nodes looked at in a small commit; in a large one as many as half its entries."""
WORK_MAX = 5_000
"""Entries and facts folded at a stretch, some 10 ms: then whatever else the worker does has its turn. A touch of a person with many orders may
restate thousands of credits."""
FACTS_MAX = 20_000
"""Facts of a chunk that are held at once: a conversion with hundreds of touches has some ten thousand."""
ATTRIBUTION_MAX = 4_000_000
NAMES_MAX = 10_000
"""Names a partition interns before touches of further campaigns go under `(other)`: names come from events."""
_encode = msgspec.json.Encoder().encode
_pack = msgspec.msgpack.Encoder().encode
_number = attrgetter("offset", "k")


class JourneyPartition:
    """One claimed partition of `journey-events`. Everything here is forgotten when the claim is lost.

    `cache`: about how many bytes its nodes and rollup cells may take in memory.
    """

    def __init__(
        self, partition: int, generation: int, tables: Tables, token: str, position: Position, seq: int, progress: Progress,
        marketing: Marketing, names: Names, known: Iterable[Bucket], outbox: Outbox, metrics: Metrics,
        on_config: Callable[[int, str], Awaitable[None]], *,
        commit_entries: int, cache: int, forgotten: Forgotten | None = None,
    ) -> None:  # fmt: skip
        """`forgotten`: the forget list; None without a key for it, and then nobody can be forgotten."""
        self.partition = partition
        self.source = source_id("journey-events", partition)
        self.position = position
        self.progress = progress
        self.seq = seq
        self._on_config = on_config
        self._generation = generation
        self._tables = tables
        self._token = token
        self._outbox = outbox
        self._metrics = metrics
        self._commit_entries = commit_entries
        self._names = names
        self._cache = cache
        self._nodes = Nodes(tables, names, cache)
        self._cells = Cells(tables, names, known, cache // CELLS_SHARE)
        self._sightings = Sightings(tables, names)
        self._forgotten = forgotten
        self._configure(marketing, progress.config)

    def _configure(self, marketing: Marketing, number: int) -> None:
        self.marketing = marketing
        self._rules = Rules(marketing, number)
        self._calendar = Calendar(marketing.time_zone)
        self._sources = expected_sources(marketing)
        self._partitions = announcing_partitions(marketing)

    def cache(self, size: int) -> None:
        """Have the caches take about so many bytes, from the next chunk on."""
        self._cache = size
        self._cells.limit = size // CELLS_SHARE

    @property
    def token(self) -> str:
        """Of the claim."""
        return self._token

    def announcement(self) -> Mark:
        """This partition's watermark, for every partition's sealing."""
        return Mark(self.source, self.position.offset, self.progress.watermark, False, self.progress.heard)

    async def stands(self) -> bool:
        """Whether Redis still has this claim and position; asked while nothing is under way."""
        return await self._tables.stands(self._token, self.position)

    async def work(self, batch: Batch) -> Outcome:
        """Fold and commit a fetch, in chunks. Anything that fails raises: the fetch is then redone."""
        pieces: list[Piece] = []
        size = 0
        for record in batch.records:
            if record.offset < self.position.offset:
                continue
            block = decode_block(record.value)
            start = self.position.entry if record.offset == self.position.offset else 0
            forgets = Forget in map(type, block.entries)
            while True:
                stop = min(len(block.entries), start + self._commit_entries - size)
                # One that forgets has a chunk of its own: what it concerns is looked up, as it was committed before.
                alone = None
                if forgets:
                    alone = next((i for i in range(start, stop) if type(block.entries[i]) is Forget), None)
                if alone is not None:
                    stop = alone if size or alone > start else alone + 1
                pieces.append(Piece(record.offset, block, start, stop))
                size += stop - start
                start = stop
                if size < self._commit_entries and alone is None:
                    break
                outcome = await self._chunk(pieces)
                if outcome is not Outcome.APPLIED:
                    return outcome
                pieces, size = [], 0
                if start >= len(block.entries):
                    break
        if pieces or self.position.offset < batch.end:
            return await self._chunk(pieces, batch.end)
        return Outcome.APPLIED

    async def _chunk(self, pieces: list[Piece], end: int | None = None) -> Outcome:
        keys = {entry.key for piece in pieces for entry in piece.block.entries[piece.start : piece.stop]}
        progress = msgspec.structs.replace(
            self.progress,
            applied=dict(self.progress.applied),
            marks=dict(self.progress.marks),
            heards=dict(self.progress.heards),
        )
        chunk = Chunk(progress)
        for piece in pieces:
            if piece.stop - piece.start == 1 and isinstance(entry := piece.block.entries[piece.start], Forget):
                await chunk.erasing.look_up(entry, self._tables, self._forgotten)
        keys |= chunk.erasing.nodes
        # Nodes that were read after Redis went back, or after another worker claimed, are not those of our position: moves
        # and results made of them would be in Kafka before the commit could refuse them.
        self._nodes.weights.limit = self._cache - min(self._cells.weight, self._cache // CELLS_SHARE)
        # So with the index of whom to forget.
        read = await self._nodes.gather(keys) or bool(chunk.erasing.persons)
        if read and not await self.stands():
            return await self._refusal()
        for piece in pieces:
            await self._fold(piece, chunk)
        await self._settle(chunk)
        # What waited was folded later than what came after it; who reads moves wants them in the order of their numbers.
        chunk.moves.sort(key=_number)
        await self._send(chunk)
        writes = Writes()
        await self._sweep(progress, writes, chunk)
        self._nodes.write(chunk.touched, writes, self._index(chunk, progress))
        chunk.erasing.write(self._nodes, progress, self._rules, writes)
        self._file(chunk)
        await self._cells.write(progress.highest, writes)
        await self._sightings.write(self._calendar, progress.highest, writes)
        for number, packed in self._names.fresh.items():
            writes.hashes.setdefault("names", {})[str(number)] = packed
        if self._names.fresh:
            writes.changed.append("names")
        if chunk.config is not None:
            writes.sets["config"] = chunk.config.encode()
            await self._on_config(progress.config, chunk.config)
        after = Position(end) if end is not None else self._after(pieces[-1])
        started = time.perf_counter()
        committed = await self._tables.commit(
            self._token, self.position, after, _pack(progress), self.seq + 1, progress.config, writes
        )
        self._metrics.committed(time.perf_counter() - started)
        if committed.outcome is Outcome.APPLIED:
            self.position, self.progress = after, progress
            self.seq += 1
            self._names.fresh.clear()
            self._count(chunk)
            self._metrics.applied(self.partition, chunk.count, progress, [piece.block.published for piece in pieces])
        return committed.outcome

    async def _refusal(self) -> Outcome:
        """Why we no longer stand: what a commit that changes nothing is answered."""
        state = _pack(self.progress)
        committed = await self._tables.commit(
            self._token, self.position, self.position, state, self.seq + 1, self.progress.config, Writes()
        )
        return Outcome.FENCED if committed.outcome is Outcome.FENCED else Outcome.REWIND

    def _count(self, chunk: Chunk) -> None:
        for reason, n in chunk.dropped.items():
            self._metrics.dropped(reason, n)
        for (topic, code), n in chunk.lettered.items():
            self._metrics.dead_letter(topic, code, n)
        for status, n in chunk.published.items():
            self._metrics.published(status, n)
        for name, n in chunk.filtered.items():
            self._metrics.filtered(name, n)

    def _after(self, last: Piece) -> Position:
        done = last.stop >= len(last.block.entries)
        return Position(last.offset + 1) if done else Position(last.offset, last.stop)

    async def _fold(self, piece: Piece, chunk: Chunk) -> None:
        """Apply a piece of a block: its entries under the watermark before it, then its marks."""
        block, progress = piece.block, chunk.progress
        source = block.source
        applied = progress.applied.get(source, (-1, -1))
        context = Context(self._rules, progress.watermark, progress.sealed)
        if context != chunk.context:
            await self._settle(chunk)
            chunk.context = context
        for index in range(piece.start, piece.stop):
            entry = block.entries[index]
            if (entry.offset, entry.k) <= applied:
                chunk.dropped["redelivered"] += 1
                continue
            applied = (entry.offset, entry.k)
            chunk.count += 1
            t = event_time(entry)
            if t is not None and t > progress.highest:
                progress.highest = t
            self._apply(entry, piece.offset, index, source, context, progress, chunk)
            if chunk.work > WORK_MAX:
                await _breathe(chunk)
        if block.entries:
            progress.applied[source] = applied
        if piece.stop >= len(block.entries):
            for mark in block.marks:
                progress.mark(mark, self._sources, self._partitions)
            if block.configured is not None and block.configured.number > progress.config:
                # What waits, and what it publishes, is under the rules of before.
                await self._settle(chunk)
                progress.config = block.configured.number
                chunk.config = block.configured.text
                self._configure(Marketing.from_text(block.configured.text), progress.config)

    def _apply(
        self, entry: AnyEntry, offset: int, index: int, source: str, context: Context, progress: Progress, chunk: Chunk
    ) -> None:
        if isinstance(entry, Touch):
            entry, progress.admitted = self._names.admit(entry, progress.admitted, NAMES_MAX)
            waiting = chunk.waiting.get(entry.key)
            if waiting is None:
                chunk.waiting[entry.key] = [Waiting(entry, offset, index, source)]
            else:
                waiting.append(Waiting(entry, offset, index, source))
            return
        if entry.key in chunk.waiting:
            self._touches(entry.key, chunk.waiting.pop(entry.key), context, chunk)
        if isinstance(entry, OrderReport | Survey):
            entry, progress.admitted = self._names.admit_named(entry, progress.admitted, NAMES_MAX)
        elif isinstance(entry, Forget):
            self._forget(entry, offset, index, source, context, chunk)
            return
        self._one(entry, offset, index, source, context, chunk)

    async def _settle(self, chunk: Chunk) -> None:
        """Fold the touches that wait."""
        if chunk.context is not None:
            for key, waiting in chunk.waiting.items():
                self._touches(key, waiting, chunk.context, chunk)
                if chunk.work > WORK_MAX:
                    await _breathe(chunk)
        chunk.waiting = {}

    def _touches(self, key: str, waiting: list[Waiting], context: Context, chunk: Chunk) -> None:
        """Fold touches of one node: together if that is possible, else one by one."""
        node = self._nodes.get(key)
        together = None
        # Where there is no node it may be somebody's who is forgotten.
        known = node is not None or not self._forgotten or screen(waiting[0].entry, node, self._forgotten) is None
        if len(waiting) > 1 and known:
            try:
                together = fold_touches(node, [one.entry for one in waiting], context)
            except Exception:
                # One of them breaks the fold: which, is found one by one.
                log.debug("Touches not folded together", exc_info=True)
        if together is None:
            for one in waiting:
                self._one(*one, context, chunk)
            return
        folded, reasons = together
        chunk.work += len(waiting)
        for (entry, _, _, source), reason in zip(waiting, reasons, strict=True):
            if reason in SEEN:
                self._sightings.see(entry)
            if reason is not None:
                self._drop(entry, source, reason, context, chunk)
        if folded is not None:
            self._put(key, node, folded, chunk)

    def _one(self, entry: AnyEntry, offset: int, index: int, source: str, context: Context, chunk: Chunk) -> None:
        node = self._nodes.get(entry.key)
        chunk.work += 1
        try:
            if self._forgotten and (erased := screen(entry, node, self._forgotten)) is not None:
                chunk.dropped["forgotten"] += 1
                self._take(erased, offset, index, chunk)
                return
            folded = fold(node, entry, context)
        except Exception as error:
            self._letter(entry, source, Rejected("fold_failed", "$", repr(error)), chunk)
            return
        if folded.dropped in SEEN:
            self._sightings.see(entry)
        self._tell(folded.moves, offset, index, chunk)
        if folded.dropped is not None:
            self._drop(entry, source, folded.dropped, context, chunk)
            return
        if folded.filtered:
            chunk.filtered.update(folded.filtered)
        self._put(entry.key, node, folded, chunk)
        for conversion in folded.changed:
            self._publish(entry.key, conversion, folded.node, offset, index, chunk)

    def _drop(self, entry: AnyEntry, source: str, reason: str, context: Context, chunk: Chunk) -> None:
        """An entry has no effect."""
        chunk.dropped[reason] += 1
        # One letter for an event: its further entries, a link or the mark of a stage, come with the first.
        if reason == "late" and entry.k == 0:
            behind = (context.watermark - (event_time(entry) or 0)) // 1_000_000
            self._letter(entry, source, Rejected("late", "$.occurred_at", f"{behind} s behind the watermark"), chunk)

    def _put(self, key: str, before: Node, folded: Folded, chunk: Chunk) -> None:
        """A node as it now is."""
        if before is None or is_mark(before):
            chunk.created.add(key)
        chunk.touched[key] = folded.node
        self._nodes.put(key, folded.node)
        chunk.facts += folded.facts
        chunk.work += len(folded.facts)
        if len(chunk.facts) > FACTS_MAX:
            self._file(chunk)

    def _file(self, chunk: Chunk) -> None:
        """Add the facts so far to their cells."""
        self._cells.add(chunk.facts, self._calendar, chunk.progress.highest)
        chunk.facts = []

    def _publish(
        self, person: str, conversion: Conversion, node: Node, offset: int, index: int, chunk: Chunk
    ) -> None:  # fmt: skip
        cut = isinstance(node, Person) and truncated(node, conversion, self._rules)
        chunk.results[conversion.id, person] = Result(conversion, (self._generation, offset, index), cut)
        if conversion.gone == "moved":
            chunk.erasing.moved.append((conversion.id, person, conversion.t))

    def _tell(self, moves: Iterable[AnyEntry], offset: int, index: int, chunk: Chunk) -> None:
        for i, move in enumerate(moves):
            chunk.moves.append(msgspec.structs.replace(move, offset=offset, k=(index << 32) + i))

    def _forget(
        self, entry: Forget, offset: int, index: int, source: str, context: Context, chunk: Chunk
    ) -> None:  # fmt: skip
        """Persons are forgotten: their nodes here, and what other nodes know of them."""
        assert self._forgotten is not None
        fresh = self._forgotten.add(entry.persons, entry.hashes)
        if not fresh:
            return
        nodes = {key: self._nodes.get(key) for key in sorted(chunk.erasing.nodes)}
        try:
            erased = erase(nodes, self._forgotten, context)
        except Exception as error:
            # As if it had never come: on the list it could not be done again.
            self._forgotten.remove(fresh)
            chunk.erasing = Erasing()
            self._letter(entry, source, Rejected("fold_failed", "$", repr(error)), chunk)
            return
        chunk.erasing.hashes += fresh
        self._take(erased, offset, index, chunk)

    def _take(self, erased: Erased, offset: int, index: int, chunk: Chunk) -> None:
        """What forgetting did to nodes: into the chunk, and to the other partitions."""
        assert self._forgotten is not None
        version = (self._generation, offset, index)
        for key, node in erased.nodes.items():
            self._nodes.put(key, node)
            if node is None:
                chunk.touched.pop(key, None)
                chunk.erasing.gone.add(key)
            else:
                chunk.touched[key] = node
        chunk.facts += erased.facts
        chunk.erasing.hashes += self._forgotten.add(erased.orders)
        told = everywhere(erased.devices, len(self._partitions)) if erased.devices else []
        self._tell([*erased.moves, *told], offset, index, chunk)
        for person, conversion in erased.changed:
            self._publish(person, conversion, self._nodes.get(person), offset, index, chunk)
        for person, conversion in erased.left:
            chunk.results.pop((conversion.id, person), None)
            chunk.erasing.left[conversion.id, person] = (conversion if conversion.gone is None else None, version)

    def _letter(self, entry: AnyEntry, source: str, reason: Rejected, chunk: Chunk) -> None:
        """A dead letter for an entry: the original stays in its topic, so this carries what the log has of it."""
        base, incarnation = split_source(source)
        topic, partition = base.split("/")
        chunk.lettered[topic, reason.code] += 1
        value = _encode({"key": entry.key, **{name: getattr(entry, name) for name in entry.__struct_fields__[3:]}})
        headers = letter_headers(reason, topic, int(partition), entry.offset, incarnation=incarnation)
        headers.append(("parcours-pointer", b"1"))
        chunk.letters.append((topic, entry.key.encode(), value, headers))

    async def _send(self, chunk: Chunk) -> None:
        """Moves and results go out before the position moves on: once more after a crash, and known by their numbers."""
        if chunk.moves:
            await self._outbox.entries(self.source, chunk.moves)
        if chunk.results:
            currency = self.marketing.reporting_currency
            values = {}
            for (conversion_id, person), (conversion, version, cut) in chunk.results.items():
                attribution = describe(person, conversion, currency, version, truncated=cut)
                chunk.published[attribution.status] += 1
                values[f"{conversion_id}|{person}".encode()] = self._fitting(attribution)
            await self._outbox.values("attributions", values)
        if chunk.erasing.left and self._forgotten is not None:
            currency = self.marketing.reporting_currency
            await self._outbox.values("attributions", chunk.erasing.values(self._forgotten, currency, self._fitting))
        if chunk.letters:
            await self._outbox.dead_letters(chunk.letters)

    def _fitting(self, attribution: Attribution) -> bytes:
        """An attribution as JSON; without the credits of all but the first headline model when it would not fit its topic."""
        packed = _encode(attribution)
        if len(packed) > ATTRIBUTION_MAX:
            first = self.marketing.headline_models[0]
            kept = {first: attribution.credits.get(first, [])}
            packed = _encode(msgspec.structs.replace(attribution, credits=kept))
        return packed

    def _index(self, chunk: Chunk, progress: Progress) -> dict[str, list[str]]:
        """New nodes, and what was published and has moved on, by the day on which to look whether they have expired."""
        days: dict[str, list[str]] = {}
        for conversion_id, person, t in chunk.erasing.moved:
            day = _day(t + CUSTOMER_KEPT, progress)
            days.setdefault(f"x:{day}", []).append(expiring(conversion_id, person))
        for key in chunk.created & chunk.touched.keys():
            node = chunk.touched[key]
            if node == Person():
                # An order that came and went: as good as no node, and without a time to look at it again.
                del chunk.touched[key]
                self._nodes.put(key, None)
                continue
            day = _day(expires(key, node, self._rules), progress)
            days.setdefault(f"x:{day}", []).append(key)
        return days

    async def _sweep(self, progress: Progress, writes: Writes, chunk: Chunk) -> None:
        """Delete nodes that nothing can need any more, some with each commit, found by their day."""
        if progress.sealed == NEVER:
            return
        today = progress.sealed // DAY
        if progress.swept == 0 or progress.swept > today:
            # Nothing is indexed up to today: the first node may come after the first announcement, or be kept for long.
            progress.swept = today
        if progress.swept >= today:
            return
        suffix = f"x:{progress.swept}"
        # No fewer than can have come to be: on a backlog commits are few and large.
        most = max(SWEEP_MAX, chunk.count // 2)
        members = sorted(member.decode() for member in await self._tables.sample(suffix, most))
        keys = [member for member in members if not let_go(member, writes)]
        await self._nodes.gather(set(keys), chunk.touched.keys() | chunk.erasing.nodes)
        for key in keys:
            node = chunk.touched.get(key, self._nodes.get(key))
            due = expires(key, node, self._rules) // DAY + 1 if node is not None else 0
            if due > today:
                writes.sadd.setdefault(f"x:{due}", []).append(key)
            elif node is not None:
                mark = forgotten(key, node, self._rules)
                if mark is not None:
                    chunk.touched[key] = mark
                    self._nodes.put(key, mark)
                    continue
                self._nodes.delete(key, writes)
                chunk.touched.pop(key, None)
        if len(members) < most:
            writes.deletes.add(suffix)
            progress.swept += 1
        else:
            writes.srem.setdefault(suffix, []).extend(members)


async def _breathe(chunk: Chunk) -> None:
    """Let others run: heartbeats, scrapes, other partitions."""
    chunk.work = 0
    await asyncio.sleep(0)


def _day(expiry: int, progress: Progress) -> int:
    """The day on which to look whether something has expired: never one that has been swept."""
    day = expiry // DAY + 1
    if progress.sealed == NEVER:
        progress.swept = min(progress.swept or day, day)
        return day
    return max(day, progress.swept + 1)
