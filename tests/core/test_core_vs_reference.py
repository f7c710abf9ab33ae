"""The core against the oracle on generated histories: every attribution and every cell, to the micro."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from attribution.replay import Replay
from attribution.rollups import RETENTION
from models.settings import DAY, HOUR
from tests.core.replayed import books, cost, lines, replay, stated, touch_books
from tests.core.test_reference_literals import LEAST
from tests.histories import BEGIN, coverage, generate
from tests.reference import Result, attribute

CHUNK = 150
CHUNKS = 20
SPAN = (BEGIN - 400 * DAY, BEGIN + 400 * DAY)
# A feature in a tenth of all histories may be rarer in 150 of them: a chunk need only have two thirds of its share.
SLACK = 2 / 3
# What moves credit between persons and back is not to be rarer anywhere.
IN_FULL = ("hand_over", "refund_before_order", "two_reports_two_persons", "late_touch_changes_credit")


def chunks(count: int) -> list[range]:
    return [range(i * CHUNK, (i + 1) * CHUNK) for i in range(count)]


def name(seeds: range) -> str:
    return f"{seeds.start}-{seeds.stop - 1}"


@pytest.mark.parametrize("seeds", chunks(CHUNKS), ids=name)
def test_attributions_and_rollups_equal_the_oracle(seeds: range) -> None:
    seen: Counter[str] = Counter()
    compared: Counter[str] = Counter()
    for seed in seeds:
        history = generate(seed)
        marketing = history.marketing
        expected = attribute(history.events, marketing)
        seen.update(coverage(history, expected))
        run = replay(history.events, marketing)
        assert lines(run.attributions()) == expected.attributions, seed

        calendar = run.rollups.calendar
        spans = [("d", *SPAN)]
        # All hours that still exist. The events reach further back than hours are kept.
        oldest = run.highest - RETENTION["h"]
        spans.append(("h", oldest - oldest % HOUR + HOUR, SPAN[1]))
        days = sorted(start for granularity, start in run.rollups.buckets if granularity == "d")
        hours = sorted(start for granularity, start in run.rollups.buckets if granularity == "h")
        rng = Random(seed)
        spans += [("d", day, calendar.shift(day, 1)) for day in rng.sample(days, min(3, len(days)))]
        spans += [("h", hour, hour + HOUR) for hour in rng.sample(hours, min(3, len(hours)))]
        for granularity, start, end in spans:
            where = (seed, granularity, start)
            same_books(expected, run, granularity, start, end, where)
            compared[granularity] += 1
        start = rng.choice(hours or days or [BEGIN])
        for first, last in (SPAN, (start - start % HOUR, start - start % HOUR + rng.choice((1, 5, 100)) * HOUR)):
            assert cost(run, first, last) == expected.books(first, last).cost, (seed, first)
    shares = {what: seen[what] / len(seeds) for what in LEAST}
    assert not {what: share for what, share in shares.items() if share < least(what)}
    assert min(compared["d"], compared["h"]) > len(seeds)


def least(what: str) -> float:
    """The least share of a chunk's histories that have this feature."""
    return LEAST[what] * (1 if what in IN_FULL else SLACK)


def same_books(expected: Result, run: Replay, granularity: str, start: int, end: int, where: object) -> None:
    rollups, marketing = run.rollups, run.marketing
    there, here = expected.books(start, end), books(rollups, marketing, granularity, start, end)
    assert here.models == stated(there.models), where
    assert here.counts == there.counts, where
    assert (here.orders, here.gross, here.net, here.new) == (there.orders, there.gross, there.net, there.new), where
    assert touch_books(rollups, marketing, granularity, start, end) == stated(expected.touch_books(start, end)), where


@pytest.mark.parametrize("seeds", chunks(CHUNKS // 4), ids=name)
def test_order_and_duplicates_change_nothing(seeds: range) -> None:
    for seed in seeds:
        history = generate(seed)
        expected = attribute(history.events, history.marketing)
        first = replay(history.events, history.marketing)
        rng = Random(seed)
        events = history.events + rng.sample(history.events, rng.randint(1, len(history.events)))
        rng.shuffle(events)
        again = replay(events, history.marketing)
        assert lines(again.attributions()) == expected.attributions, seed
        assert again.rollups.buckets == first.rollups.buckets, seed
        assert cost(again, *SPAN) == cost(first, *SPAN), seed
