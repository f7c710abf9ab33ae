"""Rollup cells as commits leave them, against plain sums of the same facts."""

from __future__ import annotations

from random import Random

import pytest

from attribution.facts import CLICK_COST, CLICKS, CONVERSION, CONVERSIONS, ORDERS, TOTAL, TOUCH, Fact
from attribution.rollups import Calendar, Rollups
from models.settings import DAY, HOUR, MINUTE
from streams.caches import Cells
from streams.codec import Names
from streams.tables import Outcome, Position, Writes
from tests.stream.fakes import TOKEN, MemoryTables

START = 1_772_366_400_000_000
DIMS = [TOTAL, *(("Paid Search", "google", f"c{i}") for i in range(5))]
MEASURES = [
    CLICKS,
    CLICK_COST,
    ORDERS,
    (CONVERSIONS, "linear", "purchase", CONVERSION),
    (CONVERSIONS, "linear", "purchase", TOUCH),
]
AMOUNTS = [-1, 1, 2, 1_000_000, -(1 << 62), 1 << 62, 1 << 62]


def some_facts(rng: Random, highest: int) -> list[Fact]:
    """Mostly recent ones, some as old as retention; several of one time and dims together, and what cancels out."""
    facts: list[Fact] = []
    for _ in range(rng.randrange(1, 30)):
        t = highest - rng.choice((rng.randrange(MINUTE), rng.randrange(4 * HOUR), rng.randrange(17 * DAY)))
        dims = rng.choice(DIMS)
        facts += [(t, dims, rng.choice(MEASURES), rng.choice(AMOUNTS)) for _ in range(rng.randrange(1, 5))]
    return facts + [(t, dims, measure, -amount) for t, dims, measure, amount in facts if rng.random() < 0.3]


@pytest.mark.parametrize("limit", [1, 16_000, 1 << 30])
@pytest.mark.parametrize("zone", ["UTC", "Europe/Paris", "Asia/Kathmandu"])
async def test_cells_are_the_sums_of_their_facts(limit: int, zone: str) -> None:
    """However small the cache, whoever goes on from what is stored."""
    for seed in range(15):
        rng, tables, calendar = Random(seed), MemoryTables(), Calendar(zone)
        plain, highest = Rollups(Calendar(zone)), START
        names = Names()
        cells = Cells(tables, names, [], limit)  # type: ignore[arg-type]
        for step in range(25):
            earlier = highest
            highest += rng.choice((0, rng.randrange(HOUR), rng.randrange(3 * DAY)))
            facts, writes = some_facts(rng, highest), Writes()
            plain.add(facts, highest)
            # While a chunk is folded time goes on, and what was added first may be too old at its end.
            for part, then in ((facts[:2], earlier), (facts[2:], highest)):
                cells.add(part, calendar, then)
            await cells.write(highest, writes)
            writes.hashes["names"] = {str(number): packed for number, packed in names.fresh.items()}
            committed = await tables.commit(TOKEN, Position(step), Position(step + 1), b"", step + 1, 1, writes)
            assert committed.outcome is Outcome.APPLIED
            plain.prune(highest)
            assert tables.cells() == {
                (bucket, dims): cell for bucket, by_dims in plain.buckets.items() for dims, cell in by_dims.items()
            }
            if rng.random() < 0.2:  # another claim goes on
                names = tables.names()
                cells = Cells(tables, names, tables.buckets(), limit)  # type: ignore[arg-type]
