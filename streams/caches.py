"""A claim's write-through caches of nodes and rollup cells. The worker is the only writer of its partition, so what is
cached is what is stored; the caches are bounded and die with the claim."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from itertools import islice

from attribution.nodes.state import Node, Person
from attribution.rollups import RETENTION, Bucket, Rollups
from attribution.rules import Dims
from streams.codec import Memo, Names, pack_node, pack_numbers, pack_person, unpack_node, unpack_numbers
from streams.tables import Tables, Writes

COSTS = "k"
"""Cost rows live in one hash, so that a reader of the rollups finds them all."""


class Nodes:
    """Nodes by key, the least recently loaded forgotten first."""

    def __init__(self, tables: Tables, names: Names, limit: int) -> None:
        self._tables = tables
        self._names = names
        self._limit = limit
        self._cached: dict[str, Node] = {}
        self._memos: dict[str, Memo] = {}

    async def gather(self, keys: set[str]) -> bool:
        """Load what is not cached, in at most two round trips, and make room first. Whether anything was read."""
        excess = len(self._cached) + len(keys) - self._limit
        if excess > 0:
            for key in [key for key in islice(self._cached, excess + len(keys)) if key not in keys][:excess]:
                del self._cached[key]
                self._memos.pop(key, None)
        missing = sorted(key for key in keys if key not in self._cached)
        plain = [key for key in missing if not key.startswith("k:")]
        costs = [key for key in missing if key.startswith("k:")]
        if plain:
            self._load(plain, await self._tables.get([f"n:{key}" for key in plain]))
        if costs:
            self._load(costs, await self._tables.hget([(COSTS, key[2:]) for key in costs]))
        return bool(missing)

    def _load(self, keys: list[str], packed: Iterable[bytes | None]) -> None:
        for key, value in zip(keys, packed, strict=True):
            self._cached[key] = None if value is None else unpack_node(value, self._names)

    def get(self, key: str) -> Node:
        """A gathered node; None when there is none yet."""
        return self._cached.get(key)

    def put(self, key: str, node: Node) -> None:
        """The node as it now is; stored by the next `write`."""
        self._cached[key] = node

    def delete(self, key: str, node: Node, writes: Writes) -> None:
        """Remove an expired node."""
        self._cached[key] = None
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
                    memo = Memo()
                    if key in self._cached:  # a sweep may have made room since
                        self._memos[key] = memo
                packed = pack_person(node, self._names, memo)
            else:
                packed = pack_node(node, self._names)
            if key.startswith("k:"):
                writes.hashes.setdefault(COSTS, {})[key[2:]] = packed
                writes.changed.append(COSTS)
            else:
                writes.sets[f"n:{key}"] = packed
        for suffix, keys in index.items():
            writes.sadd.setdefault(suffix, []).extend(keys)


class Cells:
    """Rollup cells, read before the first addition and written whole."""

    def __init__(self, tables: Tables, names: Names, known: Iterable[Bucket], limit: int) -> None:
        self._tables = tables
        self._names = names
        self._limit = limit
        # By number of measure: a cell is packed anew with each chunk, its names are not looked up again.
        self._cached: dict[tuple[Bucket, Dims], dict[int, int]] = {}
        self._known: dict[str, list[int]] = {granularity: [] for granularity in RETENTION}
        self._existing: set[Bucket] = set()
        for bucket in known:
            self._remember(bucket)

    def _remember(self, bucket: Bucket) -> None:
        if bucket not in self._existing:
            self._existing.add(bucket)
            heapq.heappush(self._known[bucket[0]], bucket[1])

    async def write(self, deltas: Rollups, highest: int, writes: Writes) -> None:
        """Add a chunk's deltas to the stored cells and put both them and the expiries into the commit."""
        names = self._names
        wanted = [
            (bucket, dims)
            for bucket, cells in deltas.buckets.items()
            if bucket[1] > highest - RETENTION[bucket[0]]
            for dims in cells
        ]
        await self._gather(wanted)
        cached, number_of = self._cached, names.id
        for bucket, dims in wanted:
            cell = cached[bucket, dims]
            for measure, amount in deltas.buckets[bucket][dims].items():
                number = number_of(measure)
                total = cell.get(number, 0) + amount
                if total:
                    cell[number] = total
                else:
                    cell.pop(number, None)
            suffix = bucket_key(bucket)
            writes.hashes.setdefault(suffix, {})[str(names.id(dims))] = pack_numbers(cell)
        for bucket in {bucket for bucket, _ in wanted}:
            self._remember(bucket)
            writes.changed.append(bucket_key(bucket))
        self._expire(highest, writes)

    async def _gather(self, wanted: list[tuple[Bucket, Dims]]) -> None:
        excess = len(self._cached) + len(wanted) - self._limit
        if excess > 0:
            keep = set(wanted)
            for key in [key for key in islice(self._cached, excess + len(keep)) if key not in keep][:excess]:
                del self._cached[key]
        missing = []
        for key in wanted:
            if key not in self._cached:
                if key[0] in self._existing:
                    missing.append(key)
                else:
                    self._cached[key] = {}
        if missing:
            fields = [(bucket_key(bucket), str(self._names.id(dims))) for bucket, dims in missing]
            for key, packed in zip(missing, await self._tables.hget(fields), strict=True):
                self._cached[key] = {} if packed is None else unpack_numbers(packed)

    def _expire(self, highest: int, writes: Writes) -> None:
        for granularity, starts in self._known.items():
            while starts and starts[0] <= highest - RETENTION[granularity]:
                bucket = (granularity, heapq.heappop(starts))
                self._existing.discard(bucket)
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
