"""Touches wait for others of their node, and are folded together: what comes out is what comes out one by one."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
import pytest

from attribution.forgetting import Forgotten, everywhere
from attribution.reach import KEPT
from models.settings import DAY, HOUR, Lookback
from models.wire import BOT, CLICK, DIRECT, ENGAGEMENT, VIEW, VISIT, AnyEntry, Block, Link, Mark, Touch
from streams import stitch
from streams.stitch import JourneyPartition
from tests.stream.fakes import Bench
from tests.stream.test_stitch import D0, HERE, MARKETING, Result, journal, move, result, sealed_at, touch

KEY = b"a secret of tests"
FOLD_TOUCHES = stitch.fold_touches


class Whole(NamedTuple):
    """All that a run comes to."""

    result: Result
    letters: list[tuple[str, bytes | None, bytes | None]]
    counted: dict[str, float]
    reach: dict[tuple[str, Any], set[bytes]]


def burst(rng: Random, keys: list[str], t: int, number: int) -> list[AnyEntry]:
    """Touches of a few persons, one after the other and in between, with twins and some far behind; at times a login."""
    made: list[AnyEntry] = []
    for _ in range(rng.randrange(4, 30)):
        number += 1
        cls = rng.choice((CLICK, CLICK, VISIT, VISIT, DIRECT, VIEW, ENGAGEMENT))
        channel, network, campaign = ("Direct", "(none)", "(none)") if cls == DIRECT else ("Email", "(none)", "news")
        twin = rng.random() < 0.1
        at = t - rng.randrange(rng.choice((HOUR, DAY, 9 * DAY)))
        key, kind = rng.choice(keys), "share" if cls == ENGAGEMENT else "visit"
        given = str(UUID(int=number - 2 * twin)) if rng.random() < 0.9 else f"odd {number}"
        flags, cost = BOT * (rng.random() < 0.1), 5 if cls == CLICK else None
        made.append(Touch(key, number, 0, given, at, cls, kind, channel, network, campaign, None, flags, cost, number))
    if rng.random() < 0.2:
        made.insert(
            rng.randrange(len(made)), Link("a:1", number + 1, 0, f"login {number}", t, rng.choice(("c:1", "c:2")))
        )
    return [msgspec.structs.replace(entry, offset=number + i) for i, entry in enumerate(made)]


def with_bursts(seed: int, log: list[Block]) -> list[Block]:
    """A log with bursts in it, and somebody who is forgotten."""
    rng, number, t, made = Random(seed), 1 << 30, D0, list[Block]()
    keys = [*sorted({entry.key for block in log for entry in block.entries if entry.key[0] in "ac"})[:3], "a:1", "c:9"]
    for block in log:
        t = max([t, *(entry.t for entry in block.entries if isinstance(entry, Touch))])
        made.append(block)
        if rng.random() < 0.4:
            made.append(Block(1, "clicks/0/1", burst(rng, keys, t, number)))
            number += 100
        if seed % 3 == 0 and rng.random() < 0.03:
            forget = everywhere([rng.choice(keys)], 1)
            made.append(Block(1, "touchpoints/0/1", [msgspec.structs.replace(f, offset=number) for f in forget]))
    return made


async def whole(bench: Bench) -> Whole:
    """Work all of the log."""
    await bench.work()
    found, names = result(bench), bench.tables.names()
    numbers = [(entry.offset, entry.k) for block in bench.producer.blocks() for entry in block.entries]
    assert numbers == sorted(numbers), "who reads moves drops those whose numbers it is past"
    seen: dict[tuple[str, Any], set[bytes]] = {}
    for writes in bench.tables.commits:
        for suffix, devices in writes.pfadd.items():
            place, _, number = suffix.rpartition(":")
            _, granularity, start = place.split(":")
            if int(start) > found.progress.highest - KEPT[granularity]:
                seen.setdefault((place, names.value(int(number))), set()).update(devices)  # type: ignore[arg-type]
    letters = sorted((letter.topic, letter.key, letter.value) for letter in bench.producer.letters())
    counted = {
        str((sample.name, sorted(sample.labels.items()))): sample.value
        for metric in bench.metrics.registry.collect()
        for sample in metric.samples
        if sample.name.endswith(("dropped_total", "filtered_total", "applied_total", "dead_letters_total"))
    }
    return Whole(found, letters, counted, seen)


async def test_together_is_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: Counter[str] = Counter()

    def together(*arguments: Any) -> Any:
        found = FOLD_TOUCHES(*arguments)
        seen["one by one" if found is None else "together"] += 1
        return found

    for seed in range(12):
        marketing, plain = await journal(seed)
        log = with_bursts(seed, list(plain.log))
        monkeypatch.setattr(stitch, "fold_touches", lambda *_: None)
        wanted = await whole(Bench(marketing, log, commit_entries=1, forgotten=Forgotten(KEY)))
        seen["late"] += len(wanted.letters)
        seen["moves"] += len(wanted.result.moves)
        seen["attributions"] += len(wanted.result.attributions)
        monkeypatch.setattr(stitch, "fold_touches", together)
        for commit_entries, cache, facts in ((1000, 1 << 30, 1 << 30), (1000, 1 << 30, 5), (37, 2_000, 1)):
            monkeypatch.setattr(stitch, "FACTS_MAX", facts)
            monkeypatch.setattr(stitch, "WORK_MAX", facts)
            got = await whole(
                Bench(marketing, log, commit_entries=commit_entries, cache=cache, forgotten=Forgotten(KEY))
            )
            for name, value in got._asdict().items():
                assert value == getattr(wanted, name), (seed, commit_entries, facts, name)
    for feature in ("together", "one by one", "late", "moves", "attributions"):
        assert seen[feature] > 20, seen


@pytest.mark.parametrize("commit_entries", [1, 3, 1000])
async def test_what_waits_is_told_under_the_rules_it_is_folded_by(commit_entries: int) -> None:
    """Under the new ones nothing of the journey that was cut would be missing."""
    days = {"view": "1d", "engagement": "1d", "direct": "1d"}
    wide = msgspec.structs.replace(MARKETING, journey_max=2, lookback=Lookback(click="30d", **days))
    narrow = msgspec.structs.replace(wide, revision=2, lookback=Lookback(click="1d", **days))
    bench = Bench(wide, commit_entries=commit_entries)
    bench.configured(1, wide)
    bench.entries("clicks/0", *(touch("c:x", D0 + day * DAY, n) for n, day in enumerate((0, 10, 11))))
    bench.entries(HERE, move("c:x", D0 + 13 * DAY, 0, "O1"))
    bench.entries("clicks/0", touch("c:x", D0 + 12 * DAY, 3))
    bench.configured(2, narrow)
    await bench.work()
    told = bench.producer.attributions()["o:O1", "c:x"]
    assert (told.truncated, told.config) == (True, 1)


@pytest.mark.parametrize("cache", [1, 1 << 30])
async def test_a_forgotten_device_is_in_no_index_whatever_the_cache(cache: int) -> None:
    """Also when a sweep in the same commit makes room for what it looks at."""
    bench = Bench(MARKETING, cache=cache, forgotten=Forgotten(KEY))
    bench.entries("clicks/0", *(touch(f"a:o{i}", D0, i) for i in range(30)))
    await bench.work()
    bench.entries("clicks/0", touch("a:1", D0 + 60 * DAY, 100), Link("a:1", 101, 0, "l", D0 + 60 * DAY, "c:2"))
    await bench.work()
    for day in range(60, 72):
        bench.append(sealed_at(D0 + day * DAY))
        await bench.work(1)
        if day == 66:
            assert bench.tables.mentioned() == {"c:2": {"a:1"}}
            forget = [msgspec.structs.replace(f, offset=900) for f in everywhere(["a:1"], 1)]
            t = D0 + 67 * DAY
            bench.append(Block(1, "touchpoints/0/3", forget, [Mark(HERE, (1 << 40) + t // HOUR, t, False, t)]))
            await bench.work()
            assert bench.tables.mentioned() == {}


async def test_a_long_fold_gives_others_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A heartbeat that waits too long costs the partition."""
    monkeypatch.setattr(stitch, "WORK_MAX", 10)
    turns = 0
    put = JourneyPartition._put

    async def beat() -> None:
        nonlocal turns
        turns += 1

    def putting(self: Any, *arguments: Any) -> None:
        put(self, *arguments)
        tasks.append(stitch.asyncio.ensure_future(beat()))
        waited.append(len(tasks) - turns)

    tasks: list[Any] = []
    waited: list[int] = []
    monkeypatch.setattr(JourneyPartition, "_put", putting)
    bench = Bench(MARKETING)
    bench.entries("clicks/0", *(touch(f"c:{n % 50}", D0 + n * HOUR, n) for n in range(200)))
    bench.entries(HERE, *(move(f"c:{n}", D0 + 300 * HOUR, n) for n in range(30, 80)))
    await bench.work()
    assert len(waited) == 100
    assert max(waited) <= 12
