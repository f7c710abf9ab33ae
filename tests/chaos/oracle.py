"""What must have come of a run, by a plain reading of the logs, held against what the stack has stored and published.

The reading knows sets of numbers and no high-water marks; the batch pass (`attribution.replay`) knows no log at all.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
from integration.stack import Stack, plain

from attribution.fold import RETENTION
from attribution.intake import Intake
from attribution.nodes.state import Node
from attribution.replay import Replay
from attribution.rollups import Calendar, Rollups
from attribution.watermarks import JOURNEY
from models.errors import Rejected
from models.events import TOPICS
from models.wire import AnyEntry, decode_block, source_id
from streams.blocks import partition_of
from streams.caches import COSTS, bucket_of
from streams.codec import Names, unpack_cell, unpack_node
from streams.tables import journey_tag
from streams.testing.oracle import extend

CHAIN = "test:chain:"
SHOWN = 5
Published = tuple[str, bytes]
"""Topic and value."""


@dataclass
class Verdict:
    """What a run came to. `applied`: entries of the log, each counted once; `stale`: conversions whose last record is not
    their newest, which readers tell by its version."""

    records: int = 0
    applied: int = 0
    redelivered: int = 0
    chains: int = 0
    attributions: int = 0
    stale: int = 0
    wrong: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    def compare(self, what: str, got: dict[Any, Any], want: dict[Any, Any]) -> None:
        """Count keys of which the two differ, and keep a few as examples."""
        keys = [key for key in got.keys() | want.keys() if got.get(key) != want.get(key)]
        self.wrong[what] += len(keys)
        for key in sorted(keys, key=repr)[:SHOWN]:
            self.examples.append(f"{what} {key}: {_short(got.get(key))}, and not {_short(want.get(key))}")


def _short(value: Any) -> str:
    return "absent" if value is None else repr(value)[:400]


def judge(stack: Stack, bad: Counter[Published]) -> Verdict:
    """Compare everything. The stack has settled; `bad`: the values published that are no events."""
    verdict = Verdict()
    replay, rejected, entries, spoilt = _batch(stack, verdict)
    # At least as often as published: its producer may have sent one again. Other values than those published are wrong.
    once = {value: min(n, bad[value]) if value in bad else n for value, n in spoilt.items()}
    verdict.compare("bad record", once, bad)
    verdict.compare("dead letter", _letters(stack), rejected)
    _log(stack, verdict, entries)
    want = {a.conversion_id: plain(msgspec.to_builtins(a)) for a in replay.attributions()}
    verdict.attributions = len(want)
    verdict.compare("attribution", _attributions(stack, verdict), want)
    rollups, costs = _stored(stack, replay)
    verdict.compare("rollup", _flat(rollups), _flat(replay.rollups))
    # A batch pass keeps what a worker deletes once nothing can need it any more.
    kept = {
        cost_id: row
        for cost_id, row in replay.costs()
        if cost_id in costs or max(row.end, row.reported_at) + RETENTION > replay.highest
    }
    verdict.compare("cost", costs, kept)
    return verdict


Place = tuple[str, int, int]
"""Topic, partition and offset; or source, offset and k."""


def _batch(stack: Stack, verdict: Verdict) -> tuple[Replay, dict[Place, str], dict[Place, str], Counter[Published]]:
    """The batch pass; the code of each record to be refused; the node of each entry to be in the log; what was refused."""
    replay, intake = Replay(stack.marketing), Intake(stack.marketing)
    rejected: dict[Place, str] = {}
    entries: dict[Place, str] = {}
    spoilt: Counter[Published] = Counter()
    for topic in TOPICS:
        for record in stack.read(topic, stack.partitions[topic]):
            verdict.records += 1
            t = record.timestamp * 1000
            replay.take(topic, record.value, t)
            try:
                taken = intake.take(topic, record.value, t, record.offset)
            except Rejected as reason:
                rejected[topic, record.partition, record.offset] = reason.code
                spoilt[topic, record.value] += 1
                continue
            for entry in taken.entries:
                entries[source_id(topic, record.partition), record.offset, entry.k] = entry.key
    replay.finish()
    return replay, rejected, entries, spoilt


def _letters(stack: Stack) -> dict[Place, str]:
    """The code of each dead letter by where it came from: one that was sent again after a crash is the same one."""
    found = {}
    for topic in TOPICS:
        for record in stack.dead_letters(topic):
            head = {name: value.decode() for name, value in record.headers}
            place = head["parcours-topic"], int(head["parcours-partition"]), int(head["parcours-offset"])
            found[place] = head["parcours-code"]
    return found


def _log(stack: Stack, verdict: Verdict, wanted: dict[Place, str]) -> None:
    """Each entry is in the partition of its node; every accepted event is there; every node's chain is right."""
    partitions = stack.marketing.topics.journey_events
    seen: set[tuple[int, str, int, int]] = set()
    chains: dict[str, bytes] = {}
    found: dict[Place, str] = {}
    records = sorted(stack.read(JOURNEY, partitions), key=lambda record: (record.partition, record.offset))
    for record in records:
        block = decode_block(record.value)
        for entry in block.entries:
            number = record.partition, block.source, entry.offset, entry.k
            if number in seen:
                verdict.redelivered += 1
                continue
            seen.add(number)
            _check_place(verdict, entry, record.partition, partitions)
            chains[entry.key] = extend(chains.get(entry.key, b""), block.source, entry)
            if not block.source.startswith(JOURNEY):
                found[block.source, entry.offset, entry.k] = entry.key
    verdict.applied, verdict.chains = len(seen), len(chains)
    verdict.compare("entry", found, wanted)
    verdict.compare("chain", dict(_chains(stack)), chains)


def _check_place(verdict: Verdict, entry: AnyEntry, partition: int, partitions: int) -> None:
    if partition != partition_of(entry.key, partitions):
        verdict.wrong["place"] += 1
        verdict.examples.append(f"place: {entry.key} in partition {partition}")


def _chains(stack: Stack) -> Iterator[tuple[str, bytes]]:
    client = stack.redis()
    for partition in range(stack.marketing.topics.journey_events):
        prefix = f"{journey_tag(0, partition)}{CHAIN}"
        keys = list(client.scan_iter(match=f"{prefix}*", count=5000))
        for at in range(0, len(keys), 5000):
            part = keys[at : at + 5000]
            for key, chain in zip(part, client.mget(part), strict=True):
                yield key.decode().removeprefix(prefix), chain
    client.close()


def _attributions(stack: Stack, verdict: Verdict) -> dict[str, dict[str, Any]]:
    """As `Stack.attributions`, counting those whose last record is not the one of the highest version."""
    newest: dict[bytes, dict[str, Any]] = {}
    last: dict[bytes, list[int]] = {}
    records = stack.read("attributions", stack.partitions["attributions"])
    for record in sorted(records, key=lambda record: (record.partition, record.offset)):
        value = json.loads(record.value)
        last[record.key] = value["version"]
        held = newest.get(record.key)
        if held is None or value["version"] > held["version"]:
            newest[record.key] = value
    verdict.stale = sum(last[key] != value["version"] for key, value in newest.items())
    return {value["conversion_id"]: plain(value) for value in newest.values() if value["reason"] != "moved"}


def _stored(stack: Stack, replay: Replay) -> tuple[Rollups, dict[str, Node]]:
    """The sum of all partitions' rollup cells, and all cost rows."""
    client = stack.redis()
    total = Rollups(Calendar(stack.marketing.time_zone))
    costs: dict[str, Node] = {}
    for partition in range(stack.marketing.topics.journey_events):
        tag = journey_tag(0, partition)
        names = Names({int(number): name for number, name in client.hgetall(f"{tag}names").items()})
        for key, packed in client.hgetall(tag + COSTS).items():
            costs[key.decode()] = unpack_node(packed, names)
        for suffix in client.zrange(f"{tag}ch", 0, -1):
            bucket = bucket_of(suffix.decode())
            if bucket is None:
                continue
            into = total.buckets.setdefault(bucket, {})
            for number, packed in client.hgetall(tag + suffix.decode()).items():
                cell = into.setdefault(names.value(int(number)), {})
                for measure, amount in unpack_cell(packed, names).items():
                    cell[measure] = cell.get(measure, 0) + amount
    client.close()
    total.prune(replay.highest)
    return total, costs


def _flat(rollups: Rollups) -> dict[Any, int]:
    """Amounts other than 0 by bucket, dimensions and measure."""
    return {
        (bucket, dims, measure): amount
        for bucket, cells in rollups.buckets.items()
        for dims, cell in cells.items()
        for measure, amount in cell.items()
        if amount
    }
