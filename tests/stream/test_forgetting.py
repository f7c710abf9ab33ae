"""Forgetting on a table bench: what is published of it stands on what was read, and one that breaks stops nobody."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from attribution.forgetting import STAYS, Forgotten
from models.settings import DAY
from models.wire import Forget, decode_block
from streams import forgetting, stitch
from streams.cli import rebuild
from streams.tables import Outcome, Position
from tests.stream.fakes import Bench, Record
from tests.stream.test_stitch import D0, HERE, MARKETING, days, move, touch


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


MOVED_ON = {"c:x": {"@o:O|:1"}}
"""`c:x` had the order `O|:1`, which somebody else has now: what is published of it can be found."""


def published_of(bench: Bench) -> dict[str, set[str]]:
    """All that the index says of persons, what has moved on included."""
    return {suffix[2:]: members for suffix, members in bench.tables.sets.items() if suffix.startswith("l:")}


async def moved_on(bench: Bench) -> None:
    bench.entries(HERE, move("c:x", D0, 0, "O|:1"))
    await bench.work()
    bench.entries(HERE, move("c:x", D0, 1, "O|:1", gone="moved"))
    await bench.work()


async def test_what_has_moved_on_is_known_as_long_as_conversions_are() -> None:
    bench = started()
    await moved_on(bench)
    await days(bench, 0, 460)
    assert published_of(bench) == MOVED_ON
    await days(bench, 461, 463)
    assert published_of(bench) == {}
    assert bench.tables.indexed() == {}


async def test_what_moves_on_after_its_day_was_swept_waits_for_the_next() -> None:
    bench = started()
    bench.entries("clicks/0", touch("a:y", D0, 0))
    await bench.work()
    await days(bench, 0, 500)
    await moved_on(bench)
    assert published_of(bench) == MOVED_ON
    await days(bench, 501, 510)
    assert published_of(bench) == {}


async def test_nothing_of_the_forgotten_waits_for_its_expiry() -> None:
    bench = started()
    bench.entries("clicks/0", touch("a:y", D0 + DAY, 0))
    await moved_on(bench)
    assert bench.tables.indexed().keys() == {"c:x", "a:y", "@6:o:O|:1c:x"}
    bench.entries("touchpoints/0", Forget("f:0", 0, 0, ("c:x",)))
    await bench.work()
    assert published_of(bench) == {}
    assert bench.tables.indexed().keys() == {"a:y"}


async def test_a_crowded_day_lets_go_of_all_that_has_moved_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stitch, "SWEEP_MAX", 10)
    bench = started()
    bench.entries(HERE, *(move("c:x", D0, n, f"O{n}") for n in range(35)))
    await bench.work()
    bench.entries(HERE, *(move("c:x", D0, 35 + n, f"O{n}", gone="moved") for n in range(35)))
    await bench.work()
    assert len(published_of(bench)["c:x"]) == 35
    await days(bench, 0, 470)
    assert published_of(bench) == {}


@pytest.mark.parametrize(("names", "carried"), [(["c:x", "o:1", f"{STAYS}c:y|o:2"], 2), ([f"{STAYS}c:y|o:2"], 0)])
async def test_a_rebuild_says_how_many_hashes_it_carries_over(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], names: list[str], carried: int
) -> None:
    """What stays in the sums of one generation is no part of the next one's list, nor of what is said of it."""
    sent: list[bytes] = []

    class Producer:
        async def send_and_wait(self, topic: str, value: bytes, partition: int) -> None:
            sent.append(value)

    @asynccontextmanager
    async def writer(_: Any) -> AsyncIterator[Producer]:
        yield Producer()

    monkeypatch.setattr(rebuild, "writer", writer)
    known = Forgotten(b"a secret")
    known.add(names)
    await rebuild._carry_over(None, known.hashes, 1, 2)  # type: ignore[arg-type]
    assert capsys.readouterr().out == (f"The forget list ({carried} hashes) is carried over.\n" if carried else "")
    assert [len(entry.hashes) for value in sent for entry in decode_block(value).entries] == [carried] * len(sent)
    assert len(sent) == (2 if carried else 0)
