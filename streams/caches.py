"""A claim's write-through caches of nodes and rollup cells. The worker is the only writer of its partition, so what is
cached is what is stored; the caches are bounded by what they weigh and die with the claim."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Container, Iterable, Mapping

from attribution.erasure import NOBODY, mentions
from attribution.facts import Fact, Measure
from attribution.nodes.state import Node, Person
from attribution.rollups import QUARTER, RETENTION, Bucket, Calendar, granularities
from attribution.rules import Dims
from models.settings import MINUTE
from streams.codec import Memo, Names, Numbers, pack_node, pack_numbers, pack_person, unpack_node, unpack_numbers
from streams.tables import Tables, Writes

COSTS = "k"
"""Cost rows live in one hash, so that a reader of the rollups finds them all."""


_ABSENT, _NODE, _NODE_BYTE = 300, 650, 11
_CELL, _CELL_BYTE = 300, 13
"""About how many bytes an entry takes in memory, as measured: one that says there is no such node; a node (with what packing it again reuses) or a cell, and
so many more for each byte of it packed."""


class Weights:
    """About how many bytes each cached node takes, in the order of their loading. `limit` is for all together."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.total = 0
        self._each: dict[str, int] = {}

    def put(self, key: str, packed: int) -> None:
        """An entry whose packed form has so many bytes; 0: there is no such node."""
        weight = _NODE + _NODE_BYTE * packed if packed else _ABSENT
        self.total += weight - self._each.get(key, 0)
        self._each[key] = weight

    def excess(self, keep: Container[str], more: int = 0) -> list[str]:
        """The entries to let go so that `more` fit in, as heavy as those here: those loaded first and none of `keep`; they count no more."""
        found: list[str] = []
        over = self.total - self.limit
        if more and self._each:
            over += more * self.total // len(self._each)
        if over > 0:
            for key, weight in self._each.items():
                if key not in keep:
                    found.append(key)
                    over -= weight
                    if over <= 0:
                        break
            for key in found:
                self.total -= self._each.pop(key)
        return found


class Nodes:
    """Nodes by key, the least recently loaded forgotten first."""

    def __init__(self, tables: Tables, names: Names, limit: int) -> None:
        self._tables = tables
        self._names = names
        self.weights = Weights(limit)
        self._cached: dict[str, Node] = {}
        self._memos: dict[str, Memo] = {}
        self._mentions: dict[str, frozenset[str]] = {}

    async def gather(self, keys: set[str], keep: Collection[str] = ()) -> bool:
        """Load what is not cached, in at most two round trips, and make room first, but not of `keep`. Whether anything was read."""
        missing = sorted(key for key in keys if key not in self._cached)
        for key in self.weights.excess(keys.union(keep), len(missing)):
            del self._cached[key]
            self._memos.pop(key, None)
            self._mentions.pop(key, None)
        plain = [key for key in missing if not key.startswith("k:")]
        costs = [key for key in missing if key.startswith("k:")]
        if plain:
            self._load(plain, await self._tables.get([f"n:{key}" for key in plain]))
        if costs:
            self._load(costs, await self._tables.hget([(COSTS, key[2:]) for key in costs]))
        return bool(missing)

    def _load(self, keys: list[str], packed: Iterable[bytes | None]) -> None:
        for key, value in zip(keys, packed, strict=True):
            if value is None:
                self._cached[key] = None
                self.weights.put(key, 0)
                continue
            memo = Memo()
            node = self._cached[key] = unpack_node(value, self._names, memo)
            if isinstance(node, Person):
                self._memos[key] = memo
            self.weights.put(key, len(value))
            if named := mentions(node):
                self._mentions[key] = named

    def get(self, key: str) -> Node:
        """A gathered node; None when there is none yet."""
        return self._cached.get(key)

    def put(self, key: str, node: Node) -> None:
        """The node as it now is; stored by the next `write`."""
        self._cached[key] = node

    def delete(self, key: str, writes: Writes) -> None:
        """Remove a node that has expired or is forgotten."""
        self._index(key, NOBODY, writes)
        self._cached[key] = None
        self.weights.put(key, 0)
        self._memos.pop(key, None)
        if key.startswith("k:"):
            writes.hdels.setdefault(COSTS, []).append(key[2:])
            writes.changed.append(COSTS)
        else:
            writes.deletes.add(f"n:{key}")

    def write(self, touched: Mapping[str, Node], writes: Writes, index: Mapping[str, list[str]]) -> None:
        """Add all touched nodes, and the expiry index of new ones, to a commit."""
        for key, node in touched.items():
            if isinstance(node, Person):
                memo = self._memos.get(key)
                if memo is None:
                    memo = self._memos[key] = Memo()
                packed = pack_person(node, self._names, memo)
            else:
                packed = pack_node(node, self._names)
            self.weights.put(key, len(packed))
            self._index(key, mentions(node), writes)
            if key.startswith("k:"):
                writes.hashes.setdefault(COSTS, {})[key[2:]] = packed
                writes.changed.append(COSTS)
            else:
                writes.sets[f"n:{key}"] = packed
        for suffix, keys in index.items():
            writes.sadd.setdefault(suffix, []).extend(keys)

    def _index(self, key: str, named: frozenset[str], writes: Writes) -> None:
        """By whom a node mentions, the node is found when they are to be forgotten."""
        before = self._mentions.get(key, NOBODY)
        if named != before:
            for person in sorted(named - before):
                writes.sadd.setdefault(mentioned(person), []).append(key)
            for person in sorted(before - named):
                writes.srem.setdefault(mentioned(person), []).append(key)
            if named:
                self._mentions[key] = named
            else:
                del self._mentions[key]


def mentioned(person: str) -> str:
    """The suffix of the set of nodes of a partition that mention this person; and of what was published and has moved on since."""
    return f"l:{person}"


class _Bucket:
    """A bucket's cells as far as they are cached, by their field; `stored` when Redis may have others, `dirty` are those of this commit.

    `weights` are about how many bytes each cell takes, `weight` all of them.
    """

    __slots__ = ("cells", "dirty", "stored", "suffix", "weight", "weights")

    def __init__(self, suffix: str, stored: bool) -> None:
        self.suffix = suffix
        self.stored = stored
        self.cells: dict[bytes, Numbers] = {}
        self.dirty: dict[bytes, Numbers] = {}
        self.weights: dict[bytes, int] = {}
        self.weight = 0

    def pack(self) -> dict[bytes | str, bytes]:
        """The cells of this commit as they are stored; they are weighed by the way, and dirty no more."""
        packed: dict[bytes | str, bytes] = {field: pack_numbers(cell) for field, cell in self.dirty.items()}
        weights = self.weights
        for field, value in zip(self.dirty, packed.values(), strict=True):
            weight = _CELL + _CELL_BYTE * len(value)
            self.weight += weight - weights.get(field, 0)
            weights[field] = weight
        self.dirty = {}
        return packed


class Cells:
    """Rollup cells: facts are added to what is cached, and a commit writes whole cells.

    By number of measure: a cell is packed anew with each commit, its names are not looked up again.
    """

    def __init__(self, tables: Tables, names: Names, known: Iterable[Bucket], limit: int) -> None:
        self._tables = tables
        self._names = names
        self.limit = limit
        self.weight = 0
        self._cached: dict[Bucket, _Bucket] = {}
        self._numbers: dict[Measure, tuple[int, str]] = {}
        self._fields: dict[Dims, bytes] = {}
        self._known: dict[str, list[int]] = {granularity: [] for granularity in RETENTION}
        self._existing: set[Bucket] = set()
        # Of this commit: the buckets that facts were added to, and the cells that Redis may have.
        self._used: dict[Bucket, _Bucket] = {}
        self._missing: list[tuple[_Bucket, bytes]] = []
        for bucket in known:
            self._remember(bucket)

    def _remember(self, bucket: Bucket) -> None:
        if bucket not in self._existing:
            self._existing.add(bucket)
            heapq.heappush(self._known[bucket[0]], bucket[1])

    def add(self, facts: Iterable[Fact], calendar: Calendar, highest: int) -> None:
        """Add facts to the cells of the next `write`.

        Facts of one time and dims mostly come together: their cells are looked up once.
        """
        at: int | None = None
        who: Dims | None = None
        field = b""
        places: dict[str, dict[int, _Bucket | None]] = {granularity: {} for granularity in RETENTION}
        targets: dict[str, list[Numbers]] = {}
        numbers = self._numbers
        for t, dims, measure, amount in facts:
            if dims is not who or t != at:
                at, who, targets, field = t, dims, {}, b""
            known = numbers.get(measure)
            if known is None:
                known = numbers[measure] = (self._names.id(measure), granularities(measure))
            number, filed = known
            cells = targets.get(filed)
            if cells is None:
                cells = targets[filed] = []
                field = field or self._field(dims)
                for granularity in filed:
                    place = t // (MINUTE if granularity == "m" else QUARTER)
                    known_places = places[granularity]
                    if place in known_places:
                        bucket = known_places[place]
                    else:
                        start = calendar.start(granularity, t)
                        bucket = known_places[place] = self._bucket((granularity, start), highest)
                    if bucket is not None:
                        cell = bucket.dirty.get(field)
                        cells.append(self._dirty(bucket, field) if cell is None else cell)
            for cell in cells:
                cell[number] = cell.get(number, 0) + amount

    async def write(self, highest: int, writes: Writes) -> None:
        """Put all cells that facts were added to, and the expiries, into the commit. What is stored is added to what is new: sums don't mind the order."""
        if self._missing:
            fields: list[tuple[str, bytes | str]] = [(bucket.suffix, field) for bucket, field in self._missing]
            for (bucket, field), packed in zip(self._missing, await self._tables.hget(fields), strict=True):
                if packed is not None:
                    cell = bucket.cells[field]
                    for number, amount in unpack_numbers(packed).items():
                        cell[number] = cell.get(number, 0) + amount
            self._missing = []
        for key, bucket in self._used.items():
            self.weight -= bucket.weight
            writes.hashes[bucket.suffix] = bucket.pack()
            self.weight += bucket.weight
            writes.changed.append(bucket.suffix)
            self._remember(key)
        self._expire(highest, writes)
        self._make_room()
        self._used = {}

    def _bucket(self, key: Bucket, highest: int) -> _Bucket | None:
        """A bucket, from now on the last to be forgotten; None when it has expired."""
        if key[1] <= highest - RETENTION[key[0]]:
            return None
        bucket = self._used.get(key)
        if bucket is None:
            bucket = self._cached.pop(key, None) or _Bucket(bucket_key(key), key in self._existing)
            self._used[key] = self._cached[key] = bucket
        return bucket

    def _dirty(self, bucket: _Bucket, field: bytes) -> Numbers:
        """A cell that this commit has not touched yet."""
        cell = bucket.cells.get(field)
        if cell is None:
            cell = bucket.cells[field] = {}
            if bucket.stored:
                self._missing.append((bucket, field))
        bucket.dirty[field] = cell
        return cell

    def _field(self, dims: Dims) -> bytes:
        field = self._fields.get(dims)
        if field is None:
            field = self._fields[dims] = b"%d" % self._names.id(dims)
        return field

    def _make_room(self) -> None:
        """Forget the buckets that were used longest ago, but none of those just used."""
        for key in list(self._cached):
            if self.weight <= self.limit or key in self._used:
                return
            self._forget(key)

    def _forget(self, key: Bucket) -> None:
        bucket = self._cached.pop(key, None)
        if bucket is not None:
            self.weight -= bucket.weight

    def _expire(self, highest: int, writes: Writes) -> None:
        for granularity, starts in self._known.items():
            while starts and starts[0] <= highest - RETENTION[granularity]:
                bucket = (granularity, heapq.heappop(starts))
                self._existing.discard(bucket)
                self._forget(bucket)
                suffix = bucket_key(bucket)
                writes.hashes.pop(suffix, None)
                writes.deletes.add(suffix)
                writes.changed.append(suffix)


def bucket_key(bucket: Bucket) -> str:
    """The suffix of a bucket's hash: `r:h:1767225600000000`."""
    return f"r:{bucket[0]}:{bucket[1]}"


def bucket_of(suffix: str) -> Bucket | None:
    """The inverse of `bucket_key`; None for any other hash."""
    parts = suffix.split(":")
    return (parts[1], int(parts[2])) if len(parts) == 3 and parts[0] == "r" else None
