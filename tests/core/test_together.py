"""Touches folded together come to what they come to one by one."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import NamedTuple

from attribution.facts import Fact, Measure
from attribution.fold import fold, fold_touches
from attribution.nodes.base import NEVER, Context
from attribution.nodes.state import Node
from attribution.rules import VISITORS_KEPT, Dims, Rules
from models.settings import DAY, HOUR, MINUTE, Filters, Marketing
from models.settings import Conversion as Configurable
from models.wire import BOT, CLICK, DIRECT, ENGAGEMENT, VIEW, VISIT, AnyEntry, Link, OrderMove, Stage, Touch

D0 = 1_767_225_600_000_000  # 2026-01-01
KINDS = {CLICK: "click", VISIT: "visit", DIRECT: "visit", VIEW: "impression", ENGAGEMENT: "share"}
SOURCES: tuple[Dims, ...] = (
    ("Paid Social", "facebook", "a"),
    ("Paid Social", "facebook", "b"),
    ("Direct", "(none)", "(none)"),
)
Sums = Counter[tuple[int, Dims, Measure]]


class Told(NamedTuple):
    """What a run came to: the node, what became of each touch, the facts in sum and the filters."""

    node: Node
    reasons: list[str | None]
    sums: Sums
    filtered: Counter[str]


def summed(facts: list[Fact], since: int) -> Sums:
    """Facts that rollups take; those of buckets that have expired they don't."""
    sums: Sums = Counter()
    for t, dims, measure, amount in facts:
        if t >= since:
            sums[t, dims, measure] += amount
    return Counter({key: amount for key, amount in sums.items() if amount})


def one_by_one(node: Node, touches: list[Touch], context: Context, since: int) -> Told:
    reasons: list[str | None] = []
    facts: list[Fact] = []
    filtered: Counter[str] = Counter()
    for touch in touches:
        folded = fold(node, touch, context)
        reasons.append(folded.dropped)
        if folded.dropped is None:
            node = folded.node
            facts += folded.facts
            filtered.update(folded.filtered)
    return Told(node, reasons, summed(facts, since), filtered)


def some_touch(rng: Random, t: int, earlier: list[Touch]) -> Touch:
    if earlier and rng.random() < 0.15:
        twin = rng.choice(earlier)  # once more, or another event under the same id
        return twin if rng.random() < 0.7 else Touch(*[getattr(twin, n) for n in twin.__struct_fields__[:-2]], 7)
    cls = rng.choice((CLICK, CLICK, VISIT, VISIT, DIRECT, VIEW, ENGAGEMENT))
    dims = SOURCES[2] if cls == DIRECT else rng.choice(SOURCES[:2])
    click_id = rng.choice((None, "x", "y")) if cls in (CLICK, VISIT) else None
    flags, cost = BOT * (rng.random() < 0.1), rng.choice((None, 5)) if cls == CLICK else None
    number = len(earlier)
    return Touch("c:1", number, 0, f"e{rng.random()}", t, cls, KINDS[cls], *dims, click_id, flags, cost, number)


def other(rng: Random, t: int, number: int) -> AnyEntry:
    if rng.random() < 0.5:
        return Stage("c:1", number, 0, f"s{number}", t, "signup", 0, 0, number)
    return order(t, number)


def order(t: int, number: int) -> OrderMove:
    return OrderMove("c:1", number, 0, f"o{number}", t, f"p{number}", 10, 10, None, None, None, 0, None)


def test_together_is_one_by_one() -> None:
    together, reasons, conversions = 0, Counter[str | None](), 0
    for seed in range(1500):
        rng = Random(seed)
        filters = Filters(duplicate_clicks=rng.choice(("0s", "10m")))
        rules = Rules(
            Marketing(conversions={"signup": Configurable()}, journey_max=rng.choice((12, 500)), filters=filters), 1
        )
        node: Node = None
        now, seen = D0, list[Touch]()
        for step in range(8):
            now += rng.choice((MINUTE, HOUR, 3 * DAY, 30 * DAY))
            watermark = now - 5 * MINUTE
            context = Context(rules, watermark, rng.choice((NEVER, watermark - 2 * DAY)))
            since = now - VISITORS_KEPT
            spread = rng.choice((10 * MINUTE, DAY, 9 * DAY))
            touches: list[Touch] = []
            for _ in range(rng.randrange(1, 6)):
                touches.append(some_touch(rng, now - rng.randrange(spread), [*seen, *touches]))
            seen += touches
            want = one_by_one(node, touches, context, since)
            found = fold_touches(node, touches, context)
            if found is not None:
                folded, why = found
                assert (node if folded is None else folded.node, why) == want[:2], (seed, step)
                assert summed(list(folded.facts) if folded else [], since) == want.sums, (seed, step)
                assert not want.filtered, (seed, step)
                assert not folded or not [*folded.moves, *folded.changed, *folded.filtered], (seed, step)
                together += 1
                reasons.update(why)
                conversions += bool(getattr(want.node, "conversions", ()))
            node = want.node
            if rng.random() < 0.15:
                node = fold(node, other(rng, now - rng.randrange(DAY), step), context).node
            if seed % 10 == 0 and step == 4:
                device = fold(node, Link("c:1", 0, 0, "l", now, "c:2"), context).node
                assert fold_touches(device, touches, context) is None
    assert together > 4000
    assert conversions > 300
    assert reasons.keys() == {None, "duplicate", "late"}
    assert min(reasons.values()) > 10, reasons


def test_what_a_conversion_follows_is_folded_one_by_one() -> None:
    """Its credit is filed anew with each touch, and each time it is said why."""
    rules = Rules(Marketing(), 1)
    context = Context(rules)
    touches = [some_touch(Random(n), D0 + n, []) for n in (1, 2)]
    ordered = fold(None, order(D0 + 5, 0), context).node
    assert fold_touches(None, touches, context) is not None
    assert fold_touches(ordered, touches, context) is None
