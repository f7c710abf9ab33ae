"""Redis goes back, or another worker claims, between two chunks: nothing made of nodes of another position is sent."""

from __future__ import annotations

import copy

import pytest

from models.settings import DAY, Marketing, Topics
from models.wire import OrderMove, OrderReport, RefundReport, Touch
from streams.tables import Outcome
from tests.stream.fakes import Bench, MemoryTables

MARKETING = Marketing(topics=Topics(clicks=1, touchpoints=1, purchases=1, costs=1, journey_events=1))
T = 1_767_225_600_000_000


def order(n: int) -> OrderReport:
    return OrderReport("o:1", n, 0, "order", T, None, "c:x", 100_000_000, None, "EUR", 1, 0, None, 0, 1)


def refund(n: int, amount: int) -> RefundReport:
    return RefundReport("o:1", n, 0, f"refund {n}", T + DAY, amount, "EUR", 1)


def other(n: int) -> Touch:
    """Something for another node, which takes the order's place in a cache of one."""
    return Touch(f"c:{n}", n, 0, f"touch {n}", T, 0, "click", "Email", "(none)", "news", None, 0, None, 1)


def made() -> Bench:
    bench = Bench(MARKETING, cache=1)
    for entry in (order(0), other(1), refund(2, 30_000_000), other(3), refund(4, 20_000_000)):
        bench.entries("purchases/0", entry)
    return bench


async def apply(bench: Bench, count: int) -> None:
    """So many blocks, each in a commit of its own."""
    for _ in range(count):
        assert await bench.part.work(bench.fetch(1)) is Outcome.APPLIED


def put_back(tables: MemoryTables, old: MemoryTables) -> None:
    for name in ("strings", "hashes", "sets", "position", "state", "seq"):
        setattr(tables, name, copy.deepcopy(getattr(old, name)))


@pytest.mark.parametrize(("lost", "refused"), [("tail", Outcome.REWIND), ("claim", Outcome.FENCED)])
async def test_nothing_is_sent_of_nodes_of_another_position(lost: str, refused: Outcome) -> None:
    """The first refund is in the order's node no more; a second one, folded on that, would send a wrong order on."""
    bench = made()
    await apply(bench, 2)
    old = copy.deepcopy(bench.tables)
    await apply(bench, 2)
    last = bench.fetch(1)
    if lost == "tail":
        put_back(bench.tables, old)
    else:
        bench.tables.token = "another's"
    before = len(bench.producer.sent)
    assert await bench.part.work(last) is refused
    assert bench.producer.sent[before:] == []
    bench.claim()
    await bench.work()
    moves = list(bench.producer.moves().values())  # none was sent with two contents
    assert [move.net for move in moves if isinstance(move, OrderMove)] == [100_000_000, 70_000_000, 50_000_000]
