"""Reach in Redis: HyperLogLogs of devices by hour and by day, for each source and for all (design: section State).

| key of a partition | holds |
|---|---|
| `u:<h or d>:<start>:<number of (channel, network, "")>` | the devices seen; under the number of ("", "", "") those of all sources |
| `us` | set: the suffixes of all of them, by which they are found and expired |

A device is added at its own node, so partitions are disjoint and their counts add up. Adding again changes nothing, so a chunk that is redone
counts once. What is estimated is off by about 1 percent (0.81 percent is the standard error of Redis' own).
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Iterable, Mapping

from attribution.facts import TOTAL
from attribution.reach import KEPT, WINDOWS, buckets, sighting
from attribution.rollups import Calendar
from attribution.visitors import ALL, Source
from models.settings import HOUR
from models.wire import AnyEntry
from streams.codec import Names
from streams.render import clean
from streams.tables import Tables, Writes

INDEX = "us"


class Sightings:
    """A claim's devices: gathered by chunk, written with its commit. It knows which keys there are, and dies with the claim."""

    def __init__(self, tables: Tables, names: Names) -> None:
        self._tables = tables
        self._names = names
        self._fresh: dict[tuple[int, Source], dict[bytes, None]] = {}
        self._known: set[str] | None = None
        self._ends: list[tuple[int, str]] = []

    def see(self, entry: AnyEntry) -> None:
        """Note an entry that had an effect."""
        found = sighting(entry)
        if found is not None:
            t, source, device = found
            hour = t - t % HOUR
            self._fresh.setdefault((hour, source), {})[device.encode()] = None

    async def write(self, calendar: Calendar, highest: int, writes: Writes) -> None:
        """Put what was noted, and what has expired, into a commit."""
        if self._known is None:
            self._known = set()
            for member in await self._tables.smembers(INDEX):
                self._remember(member.decode())
        for (granularity, start, name), devices in self._places(calendar).items():
            if start > highest - KEPT[granularity]:
                self._add(f"u:{granularity}:{start}:{name}", devices, writes)
        self._fresh = {}
        while self._ends and self._ends[0][0] <= highest:
            suffix = heapq.heappop(self._ends)[1]
            self._known.discard(suffix)
            writes.deletes.add(suffix)
            writes.srem.setdefault(INDEX, []).append(suffix)

    def _places(self, calendar: Calendar) -> dict[tuple[str, int, int], dict[bytes, None]]:
        """What was noted, by granularity, start and number of the source; each device once."""
        found: dict[tuple[str, int, int], dict[bytes, None]] = {}
        everyone = self._names.id(TOTAL)
        for (hour, source), devices in self._fresh.items():
            day, name = calendar.day(hour), self._names.id((*source, ""))
            found["h", hour, name] = devices
            for place in (("h", hour, everyone), ("d", day, name), ("d", day, everyone)):
                known = found.get(place)
                if known is None:
                    found[place] = dict(devices)
                else:
                    known.update(devices)
        return found

    def _add(self, suffix: str, devices: Iterable[bytes], writes: Writes) -> None:
        assert self._known is not None
        if suffix not in self._known:
            self._remember(suffix)
            writes.sadd.setdefault(INDEX, []).append(suffix)
        writes.pfadd.setdefault(suffix, []).extend(devices)

    def _remember(self, suffix: str) -> None:
        assert self._known is not None
        self._known.add(suffix)
        _, granularity, start, _ = suffix.split(":")
        heapq.heappush(self._ends, (int(start) + KEPT[granularity], suffix))


async def counted(parts: Iterable[tuple[Tables, Names]], end: int, calendar: Calendar) -> dict[str, dict[Source, int]]:
    """Distinct devices by window and source over all partitions; windows end at `end`."""
    wanted = {window: {f"{g}:{start}" for g, start in buckets(window, end, calendar)} for window in WINDOWS}
    found: dict[str, dict[Source, int]] = {window: {} for window in WINDOWS}
    for counts in await asyncio.gather(*(_counted(tables, names, wanted) for tables, names in parts)):
        for (window, source), n in counts.items():
            found[window][source] = found[window].get(source, 0) + n
    return found


async def _counted(tables: Tables, names: Names, wanted: Mapping[str, set[str]]) -> dict[tuple[str, Source], int]:
    groups: dict[tuple[str, int], list[str]] = {}
    for member in sorted(await tables.smembers(INDEX)):
        suffix = member.decode()
        bucket, _, number = suffix.removeprefix("u:").rpartition(":")
        for window, inside in wanted.items():
            if bucket in inside:
                groups.setdefault((window, int(number)), []).append(suffix)
    # Names that were given since they were last read are left for the next time.
    known = {key: suffixes for key, suffixes in groups.items() if key[1] < len(names)}
    counts = await tables.pfcount(list(known.values()))
    found: dict[tuple[str, Source], int] = {}
    for (window, id_), n in zip(known, counts, strict=True):
        channel, network, _ = names.value(id_)
        source = ALL if not channel else (clean(channel), clean(network))
        found[window, source] = found.get((window, source), 0) + n
    return found
