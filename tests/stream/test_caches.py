"""What a worker keeps in memory is bounded by its weight, whatever the number of persons and of partitions."""

from __future__ import annotations

import pytest
from stream.fakes import Bench
from stream.test_stitch import D0, MARKETING, touch

from models.settings import DAY
from streams.caches import Weights


def test_those_loaded_first_are_let_go_and_none_that_is_needed() -> None:
    weights = Weights(14_000)
    for key in "abcd":
        weights.put(key, 300)
    assert weights.total == 4 * 3_950
    assert weights.excess({"a"}) == ["b"]
    assert weights.total == 3 * 3_950
    assert weights.excess(set()) == []
    assert weights.excess({"a"}, 1) == ["c"]  # for one as heavy as these
    assert weights.excess(set()) == []
    weights.put("a", 1_000)
    assert weights.excess(set()) == ["a"]


def test_nothing_to_let_go_is_no_endless_search() -> None:
    weights = Weights(1)
    weights.put("a", 300)
    assert weights.excess({"a"}) == []
    assert weights.excess(set()) == ["a"]
    assert weights.total == 0


@pytest.mark.parametrize("size", [100_000, 1_000_000])
async def test_caches_stay_within_their_size(size: int) -> None:
    """Many persons, some with long journeys, over many days: what is cached never weighs much more than a chunk above it."""
    bench = Bench(MARKETING, commit_entries=50, cache=size)
    number = 0
    for day in range(20):
        touches = []
        for person in range(40):
            for _ in range(1 + 9 * (person < 3)):
                touches.append(touch(f"c:{person + day % 5 * 40}", D0 + day * DAY + person, number))
                number += 1
        bench.entries("clicks/0", *touches)
    weighed = []
    while bench.tables.position.offset < len(bench.log):
        await bench.part.work(bench.fetch(1))
        nodes, cells = bench.part._nodes, bench.part._cells
        assert nodes._cached.keys() == nodes.weights._each.keys() >= nodes._memos.keys()
        assert cells.weight == sum(bucket.weight for bucket in cells._cached.values())
        assert all(bucket.cells.keys() == bucket.weights.keys() for bucket in cells._cached.values())
        weighed.append(nodes.weights.total + cells.weight)
    assert len(bench.tables.nodes()) == 200
    assert max(weighed) < size + 250_000
    if size == 100_000:
        assert max(weighed) > size / 2, "the bound was never reached: nothing was tried"
