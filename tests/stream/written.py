"""Partitions of the log written as stitch writes them, and `/metrics` read as Prometheus reads it."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from prometheus_client.parser import text_string_to_metric_families
from redis.asyncio import Redis

from attribution.facts import Fact
from attribution.nodes.state import CostRow
from attribution.rollups import Bucket, Calendar, Cell, Rollups
from attribution.rules import Dims
from attribution.watermarks import Progress
from models.settings import Infrastructure
from models.wire import CLICK, Touch
from streams.caches import Nodes, bucket_key
from streams.codec import Names, pack_cell
from streams.reach import Sightings
from streams.tables import Claimed, Position, Tables, Writes, journey_tag
from tests.reference import moment

INFRA = Infrastructure(refresh_interval=2.0, generation=3)
END = moment("2026-03-10T10:30:30Z")
SPRING: Dims = ("Paid Social", "facebook", "spring")

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


class Writer:
    """One partition of the log, committed as stitch commits it."""

    def __init__(self, redis: Redis, partition: int) -> None:
        self.tables = Tables(redis, journey_tag(INFRA.generation, partition))
        self.names = Names()
        self.offset = 0
        self.seq = 0
        self.token = ""
        self.total = Rollups(Calendar("UTC"))

    async def claim(self) -> None:
        claimed = await self.tables.claim("test", 1, config=1, formats={1})
        assert isinstance(claimed, Claimed)
        self.token, self.offset, self.seq = claimed.token, claimed.position.offset, claimed.seq

    async def commit(
        self, highest: int, cells: dict[Bucket, dict[Dims, Cell]] | None = None, costs: dict[str, CostRow] | None = None,
        clicked: Iterable[str] = (),
    ) -> None:  # fmt: skip
        """Add to cells, set cost rows, note devices that clicked at `highest`, and move on."""
        if not self.token:
            await self.claim()
        writes = Writes()
        if costs:
            Nodes(self.tables, self.names, 100).write({f"k:{key}": row for key, row in costs.items()}, writes, {})
        for bucket, by_dims in (cells or {}).items():
            for dims, delta in by_dims.items():
                cell = self.total.buckets.setdefault(bucket, {}).setdefault(dims, {})
                for measure, amount in delta.items():
                    cell[measure] = cell.get(measure, 0) + amount
                field = str(self.names.id(dims))
                writes.hashes.setdefault(bucket_key(bucket), {})[field] = pack_cell(cell, self.names)
        for bucket in self.total.expired(highest):
            del self.total.buckets[bucket]
            writes.hashes.pop(bucket_key(bucket), None)
            writes.deletes.add(bucket_key(bucket))
        writes.changed += [*writes.hashes, *writes.deletes]
        sightings = Sightings(self.tables, self.names)
        for device in clicked:
            sightings.see(Touch(device, 0, 0, "x", highest, CLICK, "click", *SPRING, None, 0, None, 1))
        if clicked:
            await sightings.write(Calendar("UTC"), highest, writes)
        if self.names.fresh:
            writes.hashes["names"] = {str(number): packed for number, packed in self.names.fresh.items()}
            writes.changed.append("names")
            self.names.fresh.clear()
        before, after = Position(self.offset), Position(self.offset + 1)
        state = msgspec.msgpack.encode(Progress(highest=highest))
        await self.tables.commit(self.token, before, after, state, self.seq + 1, 1, writes)
        self.offset, self.seq = self.offset + 1, self.seq + 1


def cells(facts: list[Fact]) -> dict[Bucket, dict[Dims, Cell]]:
    rollups = Rollups(Calendar("UTC"))
    rollups.add(facts, END)
    return rollups.buckets


def parsed(body: bytes) -> Samples:
    found: Samples = {}
    for family in text_string_to_metric_families(body.decode()):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found, key
            found[key] = sample.value
    return found


def value(samples: Samples, family: str, **labels: str) -> float | None:
    return samples.get((f"parcours_{family}", frozenset(labels.items())))
