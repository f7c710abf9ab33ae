"""What must have come out, read plainly from the logs; and a chain per node of what was applied to it.

While `chained()` is on, every entry applied to a node extends the node's chain, SHA-1(chain before, entry), which is stored by
the same commit as the node and so goes back with it. The chain is right when each entry of the log was applied
once and in the order of the log. The reading here knows sets of numbers, no high-water marks: a block that overtakes
another is an error to it.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from attribution.intake import Intake
from attribution.replay import Replay
from attribution.rollups import Calendar, Rollups
from attribution.watermarks import JOURNEY
from models.errors import Rejected
from models.events import TOPICS
from models.wire import decode_block, source_id
from streams.blocks import partition_of
from streams.caches import bucket_of
from streams.codec import Names, unpack_cell
from streams.stitch import JourneyPartition
from streams.tables import journey_tag
from streams.testing.driver import Driver

_CHAIN = "test:chain:"
_pack = msgspec.msgpack.encode


def extend(chain: bytes, source: str, entry: Any) -> bytes:
    """The chain after one more entry."""
    return hashlib.sha1(chain + source.encode() + _pack(entry), usedforsecurity=False).hexdigest().encode()


@contextlib.contextmanager
def chained() -> Iterator[None]:
    """Have stitch keep the chains."""
    apply, sweep = JourneyPartition._apply, JourneyPartition._sweep

    def recording(
        self: Any, entry: Any, offset: int, index: int, source: str, context: Any, progress: Any, chunk: Any
    ) -> None:
        vars(chunk).setdefault("applied", []).append((entry.key, source, entry))
        apply(self, entry, offset, index, source, context, progress, chunk)

    async def storing(self: Any, progress: Any, writes: Any, chunk: Any) -> None:
        await sweep(self, progress, writes, chunk)
        applied = vars(chunk).get("applied", ())
        keys = sorted({key for key, _, _ in applied})
        chains = dict(zip(keys, await self._tables.get([_CHAIN + key for key in keys]), strict=True))
        for key, source, entry in applied:
            chains[key] = extend(chains[key] or b"", source, entry)
        writes.sets.update({_CHAIN + key: chain for key, chain in chains.items() if chain})

    JourneyPartition._apply, JourneyPartition._sweep = recording, storing  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        JourneyPartition._apply, JourneyPartition._sweep = apply, sweep  # type: ignore[method-assign]


def differences(driver: Driver) -> Iterator[str]:
    """One line for each thing that is not as it must be, once all is settled."""
    replay, rejected, wanted = _read(driver)
    yield from _log(driver, wanted)
    yield from chains(driver)
    yield from _compare("dead letter", dict.fromkeys(driver.dead_letters()), dict.fromkeys(rejected))
    want = {a.conversion_id: plain(msgspec.to_builtins(a)) for a in replay.attributions()}
    yield from _compare("attribution", {key: plain(value) for key, value in driver.attributions().items()}, want)
    yield from _compare("rollup", _flat(_rollups(driver, replay)), _flat(replay.rollups))


def plain(attribution: dict[str, Any]) -> dict[str, Any]:
    """What the convergence rule covers: not version, nor number, nor whether attributed reads restated."""
    kept = {name: value for name, value in attribution.items() if name not in ("version", "config")}
    if kept["status"] == "restated":
        kept["status"] = "attributed"
    return kept


def _read(driver: Driver) -> tuple[Replay, set[tuple[str, int, int, str]], dict[tuple[str, int, int], str]]:
    """The batch pass over all that was published; what had to be refused; and the number and node of each entry."""
    replay, intake = Replay(driver.marketing, key=driver.hash_key), Intake(driver.marketing, key=driver.hash_key)
    rejected: set[tuple[str, int, int, str]] = set()
    wanted: dict[tuple[str, int, int], str] = {}
    for topic in TOPICS:
        for record in driver.cluster.read(topic):
            replay.take(topic, record.value, record.timestamp * 1000)
            try:
                taken = intake.take(topic, record.value, record.timestamp * 1000, record.offset)
            except Rejected as reason:
                rejected.add((topic, record.partition, record.offset, reason.code))
                continue
            for entry in taken.entries:
                wanted[source_id(topic, record.partition), record.offset, entry.k] = entry.key
    replay.finish()
    return replay, rejected, wanted


def _log(driver: Driver, wanted: dict[tuple[str, int, int], str]) -> Iterator[str]:
    """Each accepted event has an entry in the partition of its node, and nothing else has."""
    found = {}
    for partition, source, entry in _entries(driver):
        if partition != partition_of(entry.key, driver.cluster.topics[JOURNEY]):
            yield f"{source} {entry.offset}: {entry.key} in partition {partition}"
        if not source.startswith(JOURNEY):
            found[source, entry.offset, entry.k] = entry.key
    yield from _compare("entry", found, wanted)


def _entries(driver: Driver) -> Iterator[tuple[int, str, Any]]:
    for record in driver.cluster.read(JOURNEY):
        block = decode_block(record.value)
        for entry in block.entries:
            yield record.partition, block.source, entry


def chains(driver: Driver) -> Iterator[str]:
    """One line for each node to which not each of its entries was applied once, in the order of the log."""
    want: dict[str, bytes] = {}
    seen: set[tuple[int, str, int, int]] = set()
    for partition, source, entry in _entries(driver):
        number = partition, source, entry.offset, entry.k
        if number not in seen:
            seen.add(number)
            want[entry.key] = extend(want.get(entry.key, b""), source, entry)
    got = {}
    for partition in range(driver.cluster.topics[JOURNEY]):
        prefix = f"{journey_tag(0, partition)}{_CHAIN}"
        for key in driver.store.scan_iter(match=f"{prefix}*", count=1000):
            got[key.decode().removeprefix(prefix)] = driver.store.get(key)
    yield from _compare("chain", got, want)


def _rollups(driver: Driver, replay: Replay) -> Rollups:
    """The sum of all partitions' stored cells."""
    total = Rollups(Calendar(driver.marketing.time_zone))
    for partition in range(driver.cluster.topics[JOURNEY]):
        tag = journey_tag(0, partition)
        names = Names({int(number): name for number, name in driver.store.hgetall(f"{tag}names").items()})
        for suffix in driver.store.zrange(f"{tag}ch", 0, -1):
            bucket = bucket_of(suffix.decode())
            if bucket is None:
                continue
            into = total.buckets.setdefault(bucket, {})
            for number, packed in driver.store.hgetall(tag + suffix.decode()).items():
                cell = into.setdefault(names.value(int(number)), {})
                for measure, amount in unpack_cell(packed, names).items():
                    cell[measure] = cell.get(measure, 0) + amount
    total.prune(replay.highest)
    return total


def _flat(rollups: Rollups) -> dict[Any, int]:
    """Amounts other than 0 by bucket, dimensions and measure."""
    return {
        (bucket, dims, measure): amount
        for bucket, cells in rollups.buckets.items()
        for dims, cell in cells.items()
        for measure, amount in cell.items()
        if amount
    }


def _compare(what: str, got: dict[Any, Any], want: dict[Any, Any]) -> Iterable[str]:
    keys = sorted((key for key in got.keys() | want.keys() if got.get(key, "") != want.get(key, "")), key=repr)
    for key in keys[:3]:
        yield f"{what} {key}: {got.get(key, 'absent')}, and not {want.get(key, 'absent')}"
    if len(keys) > 3:
        yield f"{what}: and {len(keys) - 3} more"
