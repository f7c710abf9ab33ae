"""Entries on their way into the log: which partition, and how they are cut into blocks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from zlib import crc32

from models.wire import FORMAT, AnyEntry, Block, encode

ENTRIES_MAX = 500
BYTES_MAX = 256 * 1024


def partition_of(key: str, partitions: int) -> int:
    """The log partition that holds a node. It is part of the generation: changing it needs a rebuild."""
    return crc32(key.encode()) % partitions


def route(entries: Iterable[AnyEntry], partitions: int) -> dict[int, list[AnyEntry]]:
    """Entries by target partition, in order."""
    routed: dict[int, list[AnyEntry]] = {}
    for entry in entries:
        target = crc32(entry.key.encode()) % partitions
        found = routed.get(target)
        if found is None:
            routed[target] = [entry]
        else:
            found.append(entry)
    return routed


def cut(source: str, entries: list[AnyEntry], published: int = 0) -> Iterator[bytes]:
    """Packed blocks of at most ENTRIES_MAX entries and, where one entry fits, BYTES_MAX bytes."""
    most = ENTRIES_MAX  # read once: a test may change it between two fetches, and this is drawn on over a while
    for start in range(0, len(entries), most):
        yield from _fit(source, entries[start : start + most], published)


def _fit(source: str, entries: list[AnyEntry], published: int) -> Iterator[bytes]:
    packed = encode(Block(FORMAT, source, entries, [], None, published))
    if len(packed) <= BYTES_MAX or len(entries) == 1:
        yield packed
        return
    middle = len(entries) // 2
    yield from _fit(source, entries[:middle], published)
    yield from _fit(source, entries[middle:], published)
