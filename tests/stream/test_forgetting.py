"""Forgetting on a table bench: what is published of it stands on what was read, and one that breaks stops nobody."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from attribution.forgetting import STAYS, Forgotten
from models.wire import Forget
from streams import forgetting, stitch
from streams.tables import Outcome, Position
from tests.stream.fakes import Bench, Record
from tests.stream.test_stitch import D0, HERE, MARKETING, move, touch


def started() -> Bench:
    return Bench(MARKETING, forgotten=Forgotten(b"a secret"))


async def test_whom_it_concerns_is_not_read_of_a_redis_that_went_back() -> None:
    """All nodes are known here: only the index is read, and it is not that of our position."""
    bench = started()
    bench.entries(HERE, move("c:x", D0, 0))
    bench.entries("touchpoints/0", Forget("f:0", 0, 0, ("c:z",)))
    await bench.work()
    bench.entries("touchpoints/0", Forget("f:0", 1, 0, ("c:x",)))
    sent = len(bench.producer.sent)
    ahead = bench.fetch()
    bench.tables.position = Position(0)
    assert await bench.part.work(ahead) is Outcome.REWIND
    assert len(bench.producer.sent) == sent


async def test_one_that_breaks_is_lettered_and_can_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = started()
    bench.entries(HERE, move("c:x", D0, 0))
    bench.entries("touchpoints/0", Forget("f:0", 0, 0, ("c:x",)))
    bench.entries("clicks/0", touch("c:y", D0, 0))

    def broken(*_: Any) -> None:
        raise ValueError("a defect")

    with monkeypatch.context() as patched:
        patched.setattr(stitch, "erase", broken)
        await bench.work()
    (letter,) = bench.producer.letters()
    assert (letter.topic, letter.headers["parcours-code"]) == ("dlq.touchpoints", b"fold_failed")
    assert bench.tables.nodes().keys() == {"c:x", "c:y"}
    bench.entries("touchpoints/0", Forget("f:0", 1, 0, ("c:x",)))
    await bench.work()
    assert bench.tables.nodes().keys() == {"c:y"}
    assert len(bench.producer.letters()) == 1


@pytest.mark.parametrize("key", ["o:1|c:a|b", "o:1|2|c:a|b", "s:e|c:a|b", "o:3|4|c:z", "o:3|4|c:y|z", "o:7|c:y"])
async def test_a_sweep_finds_ids_with_bars(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    async def log(*_: Any) -> AsyncIterator[Record]:
        for n, name in enumerate((key, "o:5|c:b", "o:6|a:a|b")):
            yield Record(n, b"{}", key=name.encode())

    monkeypatch.setattr(forgetting, "records", log)
    known = Forgotten(b"a secret")
    known.add(["c:a|b", "o:3|4", f"{STAYS}o:7"])
    assert [found async for found in forgetting.leftovers(None, [known])] == [key.encode()]  # type: ignore[arg-type]


@pytest.mark.parametrize("listed", ["o:1", f"{STAYS}o:1", "c:x"])
def test_a_retry_of_what_the_worker_would_drop_is_refused(listed: str) -> None:
    known = Forgotten(b"a secret")
    known.add([listed])
    assert forgetting.about_forgotten(b'{"order_id": " 1", "customer_id": "x"}', known)
    assert not forgetting.about_forgotten(b'{"order_id": "2", "customer_id": "y"}', known)
