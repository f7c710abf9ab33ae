"""Stitch on a table bench: one log, however it is cut, cached, broken off and begun again, gives one result."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
import pytest

from attribution.cohorts import CUSTOMER_KEPT
from attribution.erasure import mentions
from attribution.facts import ATTRIBUTED_NET, CLICKS, CONVERSION, CONVERSIONS, IMPRESSIONS, MICRO, VIEWS
from attribution.fold import RETENTION, expires
from attribution.intake import Intake
from attribution.nodes.state import CostRow, Filed, Node, Order, Person
from attribution.rollups import Bucket, Cell
from attribution.rules import Dims, Rules
from attribution.watermarks import Progress
from models.results import OTHER, Attribution
from models.settings import DAY, HOUR, Filters, Lookback, Marketing, Topics
from models.settings import Conversion as Configurable
from models.wire import CLICK, ENGAGEMENT, VIEW, AnyEntry, Block, CostReport, Mark, OrderMove, OrderReport, Stage, Touch
from streams import stitch
from streams.tables import Outcome
from tests.core.driver import NO_CLOCK
from tests.histories import generate
from tests.stream.fakes import Bench, Broken, Fetch

TOPICS = Topics(clicks=1, touchpoints=1, purchases=1, costs=1, journey_events=1)
SOURCES = ("clicks/0", "touchpoints/0", "purchases/0", "costs/0")
HERE = "journey-events/0"
# Microseconds apart, their clicks would be duplicates of one another.
MARKETING = Marketing(topics=TOPICS, filters=Filters(duplicate_clicks="0s"))
D0 = 1_767_225_600_000_000  # 2026-01-01, the start of a day


def sealed_at(t: int, offset: int = 1 << 40) -> Block:
    """Every partition has announced this watermark, and that it has heard of it from all."""
    return Block(1, "marks", [], [Mark(HERE, offset + t // HOUR, t, False, t)])


def heard(t: int | None, offset: int = 1 << 40) -> Block:
    """Every source has come to this event time."""
    return Block(1, "marks", [], [Mark(source, offset + (t or 0) // HOUR, t, t is None) for source in SOURCES])


def touch(key: str, t: int, n: int, event_id: str | None = None, **changes: Any) -> Touch:
    made = Touch(
        key, n, 0, event_id or str(UUID(int=n)), t, CLICK, "click", "Email", "(none)", "news", None, 0, None, 1
    )
    return msgspec.structs.replace(made, **changes)


def move(key: str, t: int, n: int, order: str | None = None, net: int = 10**8, gone: str | None = None) -> OrderMove:
    return OrderMove(key, n, 0, order or f"O{n}", t, f"order {n}", 10**8, net, None, None, None, 0, gone)


def ordered(key: str, person: str, t: int, n: int) -> OrderReport:
    return OrderReport(key, n, 0, f"report {n}", t, None, person, 10**8, None, "EUR", 1, 0, None, 0, 1)


def person(bench: Bench, key: str) -> Person:
    node = bench.tables.nodes()[key]
    assert isinstance(node, Person)
    return node


def total(bench: Bench, measure: Any, granularity: str = "d") -> int:
    return sum(cell.get(measure, 0) for (bucket, _), cell in bench.tables.cells().items() if bucket[0] == granularity)


# The same log, worked in every way


class Result(NamedTuple):
    """What must not depend on how the log was worked."""

    nodes: dict[str, Node]
    cells: dict[tuple[Bucket, Dims], Cell]
    progress: Progress
    moves: dict[tuple[int, int], AnyEntry]
    attributions: dict[tuple[str, str], Attribution]


def result(bench: Bench) -> Result:
    """Without nodes that are due: how soon these are deleted may depend on the cuts, as a commit sweeps one day."""
    tables, producer = bench.tables, bench.producer
    nodes, progress, rules = tables.nodes(), tables.progress(), Rules(bench.part.marketing)
    assert set(nodes) <= set(tables.indexed()), "a node that is not in the index is kept for ever"
    named: dict[str, set[str]] = {}
    for key, node in nodes.items():
        for person in mentions(node):
            named.setdefault(person, set()).add(key)
    assert tables.mentioned() == named, "a node that is not found by whom it mentions can't be made to forget them"
    kept = {key: node for key, node in nodes.items() if expires(key, node, rules) >= progress.sealed}
    progress.swept = 0
    return Result(kept, tables.cells(), progress, producer.moves(), producer.attributions())


async def settle(bench: Bench, commits: int = 60) -> None:
    """Commits without entries, as marks bring them: time to sweep as many days."""
    bench.append(*[Block(1, "marks")] * commits)
    await bench.work(1)


def records(seed: int, rng: Random, marketing: Marketing) -> list[tuple[str, AnyEntry]]:
    """(source, entry) of a generated history, each up to five days late, some sent twice by the tracker."""
    intake = Intake(marketing)
    found = [(topic, json.dumps(body).encode()) for topic, body in generate(seed).events]
    found += [record for record in found if rng.random() < 0.1]
    timed = [
        (intake.take(topic, value, NO_CLOCK, 0).t + rng.choice((0, 0, rng.randrange(5 * DAY))), i, topic, value)
        for i, (topic, value) in enumerate(found)
    ]
    offsets: Counter[str] = Counter()
    made = []
    for _, _, topic, value in sorted(timed):
        made += [(f"{topic}/0", entry) for entry in intake.take(topic, value, NO_CLOCK, offsets[topic]).entries]
        offsets[topic] += 1
    return made


async def journal(seed: int) -> tuple[Marketing, Bench]:
    """A log with everything in it (moves, marks, announcements, redelivered blocks, configurations), and its plain reading.

    The plain reading takes one block per fetch and whole into a commit; moves and announcements are what it sends.
    """
    rng = Random(seed)
    lookback = Lookback(click="3d", view="1d", engagement="2d", direct="3d")
    marketing = msgspec.structs.replace(
        generate(seed).marketing, topics=TOPICS, lateness="3d", claim_history="1d", lookback=lookback,
        journey_max=rng.choice((500, 4)),
    )  # fmt: skip
    bench = Bench(marketing, commit_entries=1 << 30)
    pending = records(seed, rng, marketing)
    times: dict[str, int] = {}
    revision = sent = 0

    async def step(block: Block) -> None:
        nonlocal sent
        bench.append(block)
        await bench.work(1)
        blocks = bench.producer.blocks()
        moves, sent = blocks[sent:], len(blocks)
        for own in moves:
            await step(own)

    past: list[Block] = []
    while pending:
        source = pending[0][0]
        own = [item for item in pending if item[0] == source][: rng.randint(1, 9)]
        pending = [item for item in pending if item not in own]
        entries = [entry for _, entry in own]
        for entry in entries:
            times[source] = max(times.get(source, 0), getattr(entry, "t", 0) or getattr(entry, "reported_at", 0))
        past.append(Block(1, source, entries))
        await step(past[-1])
        if rng.random() < 0.3:
            again = rng.choice(past)
            await step(Block(1, again.source, again.entries[rng.randrange(len(again.entries)) :]))
        if rng.random() < 0.5:
            await step(Block(1, "marks", [], [
                Mark(s, len(bench.log), times.get(s), s not in times or rng.random() < 0.2) for s in SOURCES
            ]))  # fmt: skip
        if rng.random() < 0.4:
            await step(Block(1, "marks", [], [bench.part.announcement()]))
        if rng.random() < 0.05:
            revision += 1
            marketing_now = msgspec.structs.replace(marketing, revision=1 + revision, half_life=f"{revision}d")
            bench.configured(revision, marketing_now)
            await bench.work(1)
    await step(heard(None))
    return marketing, bench


async def rework(bench: Bench, rng: Random, fetches: Callable[[], int], faults: bool, seen: Counter[str]) -> None:
    while bench.tables.position.offset < len(bench.log):
        if faults and rng.random() < 0.6:
            bench.faults.arm(
                *rng.choice((("any", rng.randrange(12)), ("commit", rng.randrange(3)))), after=rng.random() < 0.5
            )
        try:
            assert await bench.part.work(bench.fetch(fetches())) is Outcome.APPLIED
        except Broken:
            bench.claim()
            seen["in a block"] += bench.tables.position.entry > 0
        bench.faults.disarm()


async def test_one_log_one_result() -> None:
    seen: Counter[str] = Counter()
    for seed in range(30):
        marketing, plain = await journal(seed)
        log = list(plain.log)
        # So far beyond the end that about half of the nodes have nothing to wait for.
        jump = sealed_at(plain.tables.progress().highest + 10 * DAY)
        plain.append(jump)
        await plain.work(1)
        before = len(plain.tables.nodes())
        await settle(plain)
        wanted = result(plain)
        seen["swept"] += before - len(wanted.nodes)
        seen["kept"] += len(wanted.nodes)
        for name in ("late", "duplicate", "redelivered", "trimmed"):
            seen[name] += int(plain.count("dropped", reason=name))
        seen["moves"] += len(wanted.moves)
        seen["restated"] += sum(found.status == "restated" for found in wanted.attributions.values())
        seen["configured"] += wanted.progress.config
        for commit_entries, cache, faults, most in (
            (1000, 1 << 30, False, 1 << 30),
            (3, 1 << 30, False, 5),
            (5, 1, True, 9),
            (7, 5_000, True, 1),
            (1000, 20_000, True, 7),
        ):
            rng = Random(seed)
            bench = Bench(marketing, log, commit_entries=commit_entries, cache=cache)
            await rework(bench, rng, lambda rng=rng, most=most: rng.randint(1, most), faults, seen)  # type: ignore[misc]
            bench.append(jump)
            await bench.work(1)
            await settle(bench)
            got, where = result(bench), (seed, commit_entries)
            assert got.nodes == wanted.nodes, where
            assert got.cells == wanted.cells, where
            assert got.progress == wanted.progress, where
            assert got.moves == wanted.moves, where
            assert got.attributions == wanted.attributions, where
            for (call, after), n in bench.faults.raised.items():
                seen[f"{'after' if after else 'before'} {call}"] += n
            if not bench.faults.raised["commit", True]:
                for name in ("late", "duplicate", "redelivered", "trimmed"):
                    assert bench.count("dropped", reason=name) == plain.count("dropped", reason=name), where
                assert bench.count("applied", partition="0") == plain.count("applied", partition="0"), where
    for feature in (
        "late", "duplicate", "redelivered", "trimmed", "moves", "restated", "configured", "swept", "kept", "in a block",
        "before commit", "after commit", "before send", "after send", "before get",
    ):  # fmt: skip
        assert seen[feature] >= 3, (feature, seen)


# Counters


async def test_counters_count_once_whatever_is_redone() -> None:
    bench = Bench(MARKETING)
    bench.append(heard(D0 + 20 * DAY))
    bench.entries(
        "clicks/0",
        touch("c:x", D0 + 15 * DAY, 0),
        touch("c:x", D0, 1),
        touch("c:x", D0 + 15 * DAY, 2, str(UUID(int=0))),
    )
    bench.entries(HERE, move("c:x", D0 + 16 * DAY, 0))
    for call, skip, after in (("send", 0, False), ("send", 1, True), ("commit", 0, False)):
        bench.faults.arm(call, skip, after=after)
        with pytest.raises(Broken):
            await bench.part.work(bench.fetch())
        assert bench.count("dropped", reason="late") == 0
        bench.claim()
    await bench.work()
    assert bench.count("applied", partition="0") == 4
    assert bench.count("dropped", reason="late") == 1
    assert bench.count("dropped", reason="duplicate") == 1
    assert bench.count("dead_letters", topic="clicks", reason="late") == 1
    assert bench.count("attributions", status="attributed") == 1
    assert len(bench.producer.letters()) > 1, "each try sent its own"


# Sweeping


async def days(bench: Bench, first: int, last: int) -> None:
    """The watermark that every partition has announced comes to D0 + each of these days, a commit for each."""
    for day in range(first, last + 1):
        bench.append(sealed_at(D0 + day * DAY))
        await bench.work(1)


async def test_a_node_lives_as_long_as_something_can_need_it() -> None:
    bench = Bench(MARKETING)
    cost = CostReport("k:row", 0, 0, D0, D0 + DAY, D0 + DAY, "media", "Paid Social", "x", "c", 10**6, 1)
    bench.entries("clicks/0", touch("a:once", D0, 0), touch("a:again", D0, 1))
    bench.entries("touchpoints/0", touch("e:like", D0, 0, cls=ENGAGEMENT, kind="like"))
    bench.entries("purchases/0", ordered("o:O1", "c:buyer", D0, 0))
    bench.entries("costs/0", cost)
    await bench.work()
    await moved(bench)
    assert set(bench.tables.nodes()) == {"a:once", "a:again", "e:like", "o:O1", "c:buyer", "k:row"}
    # Lateness and a day for what only has to be known again.
    await days(bench, 0, 9)
    assert "e:like" in bench.tables.nodes()
    await days(bench, 10, 10)
    assert "e:like" not in bench.tables.nodes()
    bench.entries("clicks/0", touch("a:again", D0 + 20 * DAY, 2))
    # The longest lookback, once more for a claim, and the lateness.
    await days(bench, 11, 68)
    assert {"a:once", "a:again"} <= set(bench.tables.nodes())
    await days(bench, 69, 69)
    assert "a:once" not in bench.tables.nodes()
    await days(bench, 70, 88)
    assert "a:again" in bench.tables.nodes(), "its newer event counts"
    await days(bench, 89, 89)
    assert set(bench.tables.nodes()) == {"o:O1", "c:buyer", "k:row"}
    await days(bench, 90, RETENTION // DAY + 1)
    assert set(bench.tables.nodes()) == {"o:O1", "c:buyer", "k:row"}
    await days(bench, RETENTION // DAY + 2, RETENTION // DAY + 2)
    assert set(bench.tables.nodes()) == {"c:buyer", "k:row"}
    assert "k" not in bench.tables.commits[-1].changed
    await days(bench, RETENTION // DAY + 3, RETENTION // DAY + 3)
    assert set(bench.tables.nodes()) == {"c:buyer"}
    assert bench.tables.hashes["k"] == {}
    assert "k" in bench.tables.commits[-1].changed, "a reader of the ledger must learn of it"
    await days(bench, RETENTION // DAY + 4, CUSTOMER_KEPT // DAY + 1)
    assert set(bench.tables.nodes()) == {"c:buyer"}, "whoever orders again was a customer before"
    await days(bench, CUSTOMER_KEPT // DAY + 2, CUSTOMER_KEPT // DAY + 2)
    assert bench.tables.nodes() == {}
    assert bench.tables.indexed() == {}


async def moved(bench: Bench) -> None:
    """Put what has been sent to the log into the log."""
    bench.append(*bench.producer.blocks())
    await bench.work()


@pytest.mark.parametrize("commit_entries", [7, 1000])
async def test_a_backlog_leaves_nothing_behind(commit_entries: int) -> None:
    """Months are loaded before any watermark is announced."""
    bench = Bench(MARKETING, commit_entries=commit_entries)
    for day in range(150):
        bench.entries("clicks/0", *(touch(f"a:{day}-{i}", D0 + day * DAY, 10 * day + i) for i in range(5)))
        await bench.work(1)
    assert len(bench.tables.nodes()) == 750
    await days(bench, 150, 151)
    await settle(bench, 100)
    assert set(bench.tables.nodes()) == {f"a:{day}-{i}" for day in range(83, 150) for i in range(5)}
    await days(bench, 152, 220)
    assert bench.tables.nodes() == {}
    assert bench.tables.indexed() == {}


@pytest.mark.parametrize("announced", [
    "before", "with", "after",
])  # fmt: skip
async def test_the_first_node_of_a_partition_is_swept_too(announced: str) -> None:
    bench = Bench(MARKETING)
    blocks = [Block(1, "clicks/0", [touch("a:x", D0, 0)]), sealed_at(D0 + HOUR)]
    if announced == "before":
        blocks.reverse()
    bench.append(*blocks)
    await bench.work(2 if announced == "with" else 1)
    await days(bench, 1, 70)
    assert bench.tables.nodes() == {}
    assert bench.tables.indexed() == {}


async def test_long_lived_nodes_at_first_do_not_keep_short_lived_ones() -> None:
    """A partition whose first nodes are orders: the day from which to sweep lies a year ahead."""
    bench = Bench(MARKETING)
    bench.entries("purchases/0", ordered("o:O1", "c:elsewhere", D0, 0))
    await bench.work()
    await days(bench, 0, 1)
    bench.entries("clicks/0", touch("a:x", D0 + 2 * DAY, 0))
    await days(bench, 2, 75)
    assert set(bench.tables.nodes()) == {"o:O1"}


async def test_an_order_that_came_and_went_does_not_send_sweeping_back_to_1970() -> None:
    bench = Bench(MARKETING)
    bench.entries(HERE, move("a:x", D0, 0, "O1"), move("a:x", D0, 1, "O1", gone="moved"))
    bench.entries("clicks/0", touch("a:y", D0, 0))
    await bench.work()
    await days(bench, 0, 70)
    assert bench.tables.nodes() == {}


async def test_a_crowded_day_takes_several_commits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stitch, "SWEEP_MAX", 10)
    bench = Bench(MARKETING, cache=14_000)
    bench.entries("clicks/0", *(touch(f"a:{i}", D0, i) for i in range(35)))
    await bench.work()
    bench.entries("clicks/0", *(touch(f"a:{i}", D0 + 5 * DAY, 100 + i) for i in range(0, 35, 5)))
    await bench.work()
    await days(bench, 67, 67)
    assert bench.tables.sampled == []
    bench.tables.commits.clear()
    bench.append(sealed_at(D0 + 69 * DAY))
    await bench.work()
    left = [len(bench.tables.nodes())]
    for _ in range(6):
        await settle(bench, 1)
        left.append(len(bench.tables.nodes()))
    assert [n for n in bench.tables.sampled if n] == [10, 10, 10, 5]
    assert left[-1] == 7
    assert len(set(left)) >= 4, "some with each commit"
    assert all(len(writes.deletes) <= 10 + 1 for writes in bench.tables.commits)
    assert set(bench.tables.indexed()) == set(bench.tables.nodes())
    await days(bench, 70, 80)
    assert bench.tables.nodes() == {}


# Bounds


@pytest.mark.parametrize("commit_entries", [1, 7, 1000])
async def test_names_beyond_the_bound_go_under_other(monkeypatch: pytest.MonkeyPatch, commit_entries: int) -> None:
    """Which names are known depends on the log alone, not on how it is cut."""
    monkeypatch.setattr(stitch, "NAMES_MAX", 50)
    bench = Bench(MARKETING, commit_entries=commit_entries)
    n = 200
    bench.entries("clicks/0", *(touch(f"c:{i % 4}", D0 + i, i, campaign=f"campaign {i}") for i in range(n)))
    bench.entries(HERE, *(move(f"c:{i}", D0 + HOUR, i) for i in range(4)))
    await bench.work()
    before = len(bench.tables.names())
    bench.entries("clicks/0", *(touch(f"c:{i % 4}", D0 + i, i, campaign=f"further {i}") for i in range(n, 2 * n)))
    await bench.work()
    clicks: Counter[str] = Counter()
    for (bucket, dims), cell in bench.tables.cells().items():
        if bucket[0] == "d":
            clicks[dims[2]] += cell.get(CLICKS, 0)
    assert clicks == {**{f"campaign {i}": 1 for i in range(50)}, OTHER: 2 * n - 50}
    for model in MARKETING.models:
        assert total(bench, (CONVERSIONS, model, "purchase", CONVERSION)) == 4 * MICRO
        assert total(bench, (ATTRIBUTED_NET, model, "purchase", CONVERSION)) == 4 * 10**8
    assert len(bench.tables.names()) == before, "names do not grow any more"


async def test_a_touch_under_other_counts_as_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stitch, "NAMES_MAX", 0)
    bench = Bench(MARKETING)
    bench.entries("touchpoints/0", touch("c:x", D0, 0, cls=VIEW, kind="impression"))
    await bench.work()
    assert (total(bench, IMPRESSIONS), total(bench, VIEWS)) == (1, 0)


async def test_an_attribution_too_large_keeps_the_first_headline_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stitch, "ATTRIBUTION_MAX", 4_000)
    marketing = msgspec.structs.replace(MARKETING, headline_models=("linear", "first_touch"))
    bench = Bench(marketing)
    bench.entries("clicks/0", *(touch("c:big", D0 + i, i) for i in range(40)), touch("c:small", D0, 50))
    bench.entries(HERE, move("c:big", D0 + HOUR, 0, "O1"), move("c:small", D0 + HOUR, 1, "O2"))
    await bench.work()
    found = bench.producer.attributions()
    assert list(found["o:O1", "c:big"].credits) == ["linear"]
    assert len(found["o:O1", "c:big"].credits["linear"]) == 40
    assert set(found["o:O2", "c:small"].credits) == set(marketing.models)


# Configurations


@pytest.mark.parametrize("commit_entries", [1, 2, 3, 1000])
async def test_a_configuration_applies_from_where_it_stands(commit_entries: int) -> None:
    """Whatever the cuts: before it under the old number, after it under the new one."""
    narrow = msgspec.structs.replace(MARKETING, revision=2, lookback=Lookback(click="1d"), models=("linear",), headline_models=("linear",))  # fmt: skip
    bench = Bench(MARKETING, commit_entries=commit_entries)
    bench.configured(1, MARKETING)
    bench.entries("clicks/0", touch("c:x", D0, 0), touch("c:x", D0 + 47 * HOUR, 1), touch("c:y", D0, 2))
    bench.entries(HERE, move("c:x", D0 + 2 * DAY, 0, "O1"), move("c:y", D0 + 2 * DAY, 1, "O2"))
    bench.configured(2, narrow)
    bench.entries(HERE, move("c:x", D0 + 2 * DAY + 1, 2, "O3"), move("c:y", D0 + 2 * DAY + 1, 3, "O4"))
    bench.configured(1, MARKETING)  # a straggler: numbers only grow
    bench.entries(HERE, move("c:x", D0 + 2 * DAY + 2, 4, "O5"), move("c:x", D0 + 2 * DAY, 5, "O1", net=10**7))
    await bench.work()

    def filed(key: str, order: str) -> tuple[int, int, list[str]]:
        found = next(made for made in person(bench, key).conversions if made.id == f"o:{order}").filed
        assert isinstance(found, Filed)
        return found.config, len(found.touches), [model for model, _ in found.weights]

    assert filed("c:x", "O1") == (2, 1, ["linear"]), "restated after the change: under the new one"
    assert filed("c:y", "O2") == (1, 1, list(Rules(MARKETING).models))
    assert filed("c:x", "O3") == (2, 1, ["linear"])
    assert filed("c:y", "O4") == (2, 0, ["linear"])
    assert filed("c:x", "O5") == (2, 1, ["linear"])
    assert {order: made.config for (order, _), made in bench.producer.attributions().items()} == {
        "o:O1": 2, "o:O2": 1, "o:O3": 2, "o:O4": 2, "o:O5": 2,
    }  # fmt: skip
    # What was filed under the old number is taken back exactly: of models that are no more, the untouched order is left.
    sums = {model: total(bench, (CONVERSIONS, model, "purchase", CONVERSION)) for model in MARKETING.models}
    assert sums == dict.fromkeys(MARKETING.models, MICRO) | {"linear": 5 * MICRO}
    assert bench.tables.config == bench.tables.progress().config == 2
    assert Marketing.from_text(bench.tables.strings["config"].decode()) == narrow
    assert bench.noted[-1] == (2, narrow.text())


async def test_a_commit_that_is_fenced_counts_nothing() -> None:
    bench = Bench(MARKETING)
    bench.entries(HERE, move("c:x", D0, 0))
    bench.tables.token = "somebody else's"
    assert await bench.part.work(bench.fetch()) is Outcome.FENCED
    assert not await bench.part.stands()
    assert bench.count("applied", partition="0") == bench.count("attributions", status="unattributed") == 0
    assert bench.tables.commits == []


async def test_a_hole_at_the_end_of_a_fetch_is_passed() -> None:
    bench = Bench(MARKETING, commit_entries=1)
    bench.entries("clicks/0", touch("c:x", D0, 0))
    fetch = bench.fetch()
    assert await bench.part.work(Fetch(fetch.records, end=5)) is Outcome.APPLIED
    assert bench.tables.position == (5, 0)


async def test_stages_that_are_no_conversions_are_ignored_and_broken_entries_lettered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    marketing = msgspec.structs.replace(MARKETING, conversions={"signup": Configurable()})
    bench = Bench(marketing)
    bench.append(heard(D0 + 30 * DAY))
    stages = [Stage("c:x", i, 0, f"s{i}", D0 + 30 * DAY * (i > 1), name, 0, 0, 1) for i, name in enumerate(("other", "signup", "signup"))]  # fmt: skip
    bench.entries("touchpoints/0", *stages)
    # An entry that does not belong to its node: the fold fails, its neighbours are applied.
    bench.entries(
        "purchases/0",
        ordered("o:O1", "c:x", D0 + 30 * DAY, 0),
        ordered("c:x", "c:x", D0 + 30 * DAY, 1),
        ordered("o:O2", "c:x", D0 + 30 * DAY, 2),
    )
    await bench.work()
    assert {reason: bench.count("dropped", reason=reason) for reason in ("ignored", "late")} == {
        "ignored": 1,
        "late": 1,
    }
    late, failed = bench.producer.letters()
    assert (late.topic, late.headers["parcours-code"], late.headers["parcours-offset"]) == (
        "dlq.touchpoints",
        b"late",
        b"1",
    )
    assert (failed.topic, failed.headers["parcours-code"]) == ("dlq.purchases", b"fold_failed")
    assert isinstance(bench.tables.nodes()["o:O2"], Order)
    assert len(person(bench, "c:x").conversions) == 1
    assert bench.count("dead_letters", topic="purchases", reason="fold_failed") == 1
    assert not isinstance(bench.tables.nodes()["c:x"], CostRow)


@pytest.mark.parametrize("commit_entries", [1, 1000])
async def test_a_block_is_judged_by_the_watermark_before_it(commit_entries: int) -> None:
    bench = Bench(MARKETING, commit_entries=commit_entries)
    marks = heard(D0 + 30 * DAY).marks
    bench.append(Block(1, "clicks/0", [touch("c:x", D0 + i, i) for i in range(3)], marks))
    bench.entries("clicks/0", touch("c:x", D0 + 3, 3))
    await bench.work()
    assert len(person(bench, "c:x").events) == 3
    assert bench.count("dropped", reason="late") == 1


async def test_a_swept_node_that_comes_back_begins_anew() -> None:
    bench = Bench(MARKETING)
    bench.entries("clicks/0", touch("a:x", D0, 0), touch("a:y", D0 + 70 * DAY, 1))
    await bench.work()
    await days(bench, 0, 70)
    assert set(bench.tables.nodes()) == {"a:y"}
    bench.entries("clicks/0", touch("a:x", D0 + 70 * DAY, 2))
    await bench.work()
    assert [event.t for event in person(bench, "a:x").events] == [D0 + 70 * DAY]
    await days(bench, 71, 140)
    assert bench.tables.nodes() == {}


async def test_that_a_customer_has_bought_outlives_all_else() -> None:
    """Two customers and a device order once. After 460 days the customers are one mark each, and a later order is no first one."""
    marketing = msgspec.structs.replace(MARKETING, history_since="2020-01-01")
    bench = Bench(marketing)
    bench.entries(HERE, move("c:x", D0, 0), move("c:gone", D0, 1, gone="cancelled"), move("a:y", D0, 2))
    await bench.work()
    assert [conversion.new for conversion in person(bench, "c:x").conversions] == [True]
    await days(bench, 455, 465)
    assert bench.tables.nodes() == {"c:x": Person(bought=True)}
    bench.entries(
        HERE, move("c:x", D0 + 465 * DAY, 3), move("c:gone", D0 + 465 * DAY, 4), move("a:y", D0 + 465 * DAY, 5)
    )
    await bench.work()
    told = {
        key: [c.new for c in node.conversions] for key, node in bench.tables.nodes().items() if isinstance(node, Person)
    }
    assert told == {"c:x": [False], "c:gone": [True], "a:y": [None]}
    await days(bench, 466, 930)
    assert bench.tables.nodes() == {"c:x": Person(bought=True), "c:gone": Person(bought=True)}


async def test_a_name_is_stored_once() -> None:
    bench = Bench(MARKETING)
    for i in range(2):
        bench.entries("clicks/0", touch("c:x", D0 + i, i))
        await bench.work()
    first, second = bench.tables.commits
    assert first.hashes["names"]
    assert "names" in first.changed
    assert "names" not in second.hashes
    assert "names" not in second.changed
