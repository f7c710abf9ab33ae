"""The exporter against a real Valkey: partitions written as stitch writes them, `/metrics` read as Prometheus reads it."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
from collections import Counter
from decimal import Decimal
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from attribution.costs import Ledger
from attribution.facts import CLICKS, ORDERS, TOTAL, VISITS, Fact
from attribution.families import FAMILIES, THROUGH
from attribution.kpi import rows
from attribution.listing import BUDGET
from attribution.nodes.state import CostRow
from attribution.report import report
from attribution.rollups import Bucket, Cell
from attribution.rules import Dims
from attribution.watermarks import Progress
from attribution.windows import Sums
from models.settings import DAY, HOUR, Marketing, Topics
from streams import render as rendering
from streams.codec import Names
from streams.exporter import BUSINESS, Exporter
from streams.metrics import SOURCES_MAX, Metrics
from streams.notices import BOARD
from streams.tables import Position, Writes, journey_tag
from tests.core.replayed import replay
from tests.histories import History, generate
from tests.stream.written import END, INFRA, SPRING, Samples, Writer, cells, parsed, value

MARKETING = Marketing(clock="event", topics=Topics(journey_events=2))
PROMTOOL = shutil.which("promtool")


class Bench:
    """An exporter with clocks in hand."""

    def __init__(self, redis: Redis, marketing: Marketing = MARKETING) -> None:
        self.leads = True
        self.behind = False
        self.wall = END / 1e6
        self.now = 0.0
        self.metrics = Metrics()
        self.exporter = Exporter(
            redis, INFRA, marketing, self.metrics, lambda: self.leads,
            behind=lambda _: self.behind, wall=lambda: self.wall, clock=lambda: self.now,
        )  # fmt: skip

    async def scrape(self) -> Samples:
        await self.exporter.refresh()
        return parsed(self.exporter.body())


@pytest.fixture
def writers(redis: Redis) -> list[Writer]:
    return [Writer(redis, partition) for partition in range(2)]


@pytest.fixture
def bench(redis: Redis) -> Bench:
    return Bench(redis)


@pytest.mark.parametrize("seed", range(12))
async def test_metrics_are_the_report_s_whatever_the_commits(redis: Redis, seed: int) -> None:
    """Cells of a history are dealt to two partitions in parts, with restatements in between; scrapes come at any time. In every other history
    some campaigns are ids of others, and rows say of which only when they are restated."""
    history = generate(seed)
    marketing = msgspec.structs.replace(history.marketing, clock="event", topics=Topics(journey_events=2))
    run = replay(history.events, marketing)
    run.marketing = marketing
    rng, bench = Random(seed), Bench(redis, marketing)
    ids = ("spring", "summer", "brand", "news", "") if seed % 2 else ("",)
    for key, node in run.nodes.items():
        if isinstance(node, CostRow):
            run.nodes[key] = node._replace(campaign_id=rng.choice(ids))
    writers = [Writer(redis, partition) for partition in range(2)]
    parts: list[tuple[int, dict[Bucket, dict[Dims, Cell]]]] = []
    for bucket, by_dims in run.rollups.buckets.items():
        for dims, cell in by_dims.items():
            for measure, amount in cell.items():
                wrong = rng.randrange(5)
                parts += [
                    (rng.randrange(2), {bucket: {dims: {measure: part}}}) for part in (amount - 3, 3 + wrong, -wrong)
                ]
    rng.shuffle(parts)
    early = run.highest - rng.choice((0, HOUR, DAY, 40 * DAY))
    for i, (partition, part) in enumerate(parts):
        await writers[partition].commit(early, part)
        if rng.random() < 30 / len(parts):
            await bench.exporter.refresh()
            if i % 2:
                await writers[partition].claim()
    for cost_id, row in run.costs():
        before = row._replace(amount=row.amount + 1, campaign_id=rng.choice(ids))
        await writers[rng.randrange(2)].commit(early, costs={cost_id: before})
    await bench.exporter.refresh()
    owner = {cost_id: writer for writer in writers for cost_id in await stored_costs(writer)}
    for cost_id, row in run.costs():
        await owner[cost_id].commit(early, costs={cost_id: row})
    await writers[0].commit(run.highest)
    await writers[1].commit(early)

    samples = await bench.scrape()
    expected = {
        (family, frozenset((name, text) for name, text in row.items() if name != "value")): float(row["value"])
        for family, rows in report(run)["windows"].items()
        # Devices are not in the rollups.
        if not family.endswith(("_reach", "_frequency"))
        for row in rows
    }
    assert value(samples, "series") == len(samples) == len(expected) + 4
    assert value(samples, "as_of_timestamp_seconds") == run.highest // 1_000_000
    for key, wanted in expected.items():
        assert samples[key] == wanted, key


async def test_what_was_read_is_exported_though_devices_could_not_be_counted(
    redis: Redis, bench: Bench, writers: list[Writer], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> Any:
        raise RedisError("away")

    await writers[0].commit(END, cells([(END, SPRING, CLICKS, 1)]))
    await writers[1].commit(END)
    for clicks in (1, 2):
        await writers[0].commit(END, cells([(END, SPRING, CLICKS, 1)] * (clicks - 1)))
        bench.now += 60.0
        with monkeypatch.context() as patch:
            patch.setattr("streams.exporter.counted", away)
            with pytest.raises(RedisError):
                await bench.exporter.refresh()
        assert value(await bench.scrape(), "total_clicks", window="24h") == clicks


async def stored_costs(writer: Writer) -> list[str]:
    return [field.decode() for field in await writer.tables.hgetall("k")]


async def test_only_what_changed_is_unpacked(
    bench: Bench, writers: list[Writer], monkeypatch: pytest.MonkeyPatch
) -> None:
    unpacked = Counter[bytes]()
    from streams import view

    real = view.unpack_cell

    def counting(packed: bytes, names: Names) -> Cell:
        unpacked[packed] += 1
        return real(packed, names)

    monkeypatch.setattr(view, "unpack_cell", counting)
    await writers[0].commit(END, cells([(END, (*SPRING[:2], f"c{i}"), CLICKS, i + 1) for i in range(50)]))
    assert value(await bench.scrape(), "total_clicks", window="24h") == 50 * 51 / 2
    rendered = list[str]()
    written = rendering._lines
    monkeypatch.setattr(rendering, "_lines", lambda block: rendered.append(str(block)) or written(block))
    unpacked.clear()
    await writers[0].commit(END, cells([(END, (*SPRING[:2], "c7"), CLICKS, 100)]))
    assert value(await bench.scrape(), "total_clicks", window="24h") == 50 * 51 / 2 + 100
    assert unpacked.total() == 2 * 3  # before and after, in minutes, hours and days
    assert any("'c7'" in block for block in rendered)
    assert not any("'c8'" in block for block in rendered)
    body = bench.exporter.body()
    unpacked.clear()
    await bench.scrape()
    assert bench.exporter.body() is body
    assert not unpacked


async def test_only_the_leader_exports(bench: Bench, writers: list[Writer]) -> None:
    await writers[0].commit(END, cells([(END, SPRING, CLICKS, 1)]))
    bench.leads = False
    assert await bench.scrape() == {}
    assert value(parsed(bench.metrics.render()), "leader_epoch") == 0
    bench.leads = True
    assert value(await bench.scrape(), "total_clicks", window="1h") == 1
    assert value(parsed(bench.metrics.render()), "leader_epoch") == bench.wall // 1
    bench.leads = False
    assert bench.exporter.body() == b""
    assert bench.exporter.status() == {}
    await bench.scrape()
    bench.leads = True
    await bench.scrape()
    assert value(parsed(bench.metrics.render()), "leader_epoch") == bench.wall // 1 + 1


async def test_a_read_older_than_three_refreshes_is_served_no_more(bench: Bench, writers: list[Writer]) -> None:
    await writers[0].commit(END, cells([(END, SPRING, CLICKS, 1)]))
    await bench.scrape()
    bench.now = 6.0
    assert bench.exporter.body()
    bench.now = 6.001
    assert bench.exporter.body() == b""
    assert bench.exporter.status() == {}
    assert await bench.scrape()


async def test_what_cannot_be_read_is_not_taken_for_fresh(redis: Redis, bench: Bench, writers: list[Writer]) -> None:
    await writers[0].commit(END, cells([(END, SPRING, CLICKS, 1)]))
    await bench.scrape()
    await writers[0].commit(END, cells([(END, SPRING, CLICKS, 1)]))
    bench.now = 6.001
    await redis.hset(writers[0].tables.key(f"r:d:{END - END % DAY}"), "0", b"\xc1")
    with pytest.raises(msgspec.DecodeError):
        await bench.exporter.refresh()
    assert bench.exporter.body() == b""


async def test_a_state_that_went_back_is_read_anew(redis: Redis, bench: Bench, writers: list[Writer]) -> None:
    await writers[0].commit(END - DAY, cells([(END - DAY, SPRING, CLICKS, 1)]))
    await writers[1].commit(END - DAY)
    before = {key: await redis.dump(key) for key in await redis.keys()}
    await writers[0].commit(END, cells([(END, SPRING, CLICKS, 5)]))
    assert value(await bench.scrape(), "total_clicks", window="24h") == 6
    await redis.flushall()
    for key, packed in before.items():
        await redis.restore(key, 0, packed)
    samples = await bench.scrape()
    assert value(samples, "total_clicks", window="24h") == 1
    assert value(samples, "as_of_timestamp_seconds") == (END - DAY) // 1_000_000
    await redis.flushall()
    assert await bench.scrape() == {}


async def test_a_deleted_bucket_leaves_the_windows(bench: Bench, writers: list[Writer]) -> None:
    await writers[0].commit(END, cells([(END, SPRING, CLICKS, 1)]))
    await writers[1].commit(END, cells([(END, SPRING, CLICKS, 10)]))
    await bench.scrape()
    day = END - END % DAY
    writes = Writes(deletes={f"r:d:{day}"}, changed=[f"r:d:{day}"])
    writer = writers[0]
    state = msgspec.msgpack.encode(Progress(highest=END))
    await writer.tables.commit(writer.token, Position(writer.offset), Position(9), state, writer.seq + 1, 1, writes)
    samples = await bench.scrape()
    assert value(samples, "total_clicks", window="30d") == 10
    assert value(samples, "total_clicks", window="7d") == 11


async def test_a_day_of_long_ago_is_restated(bench: Bench, writers: list[Writer]) -> None:
    """Of days before every window less is held: what is taken back is what was given."""
    long_ago, recent = END - 200 * DAY, END - 2 * DAY
    day = recent - recent % DAY
    cost = CostRow(day, day + DAY, END, "media", SPRING, 100_000_000, 0)
    rest = CostRow(day + DAY, END, END, "media", SPRING, 0, 0)

    def facts(sign: int, clicks: int, age: str) -> list[Fact]:
        model = MARKETING.headline_models[0]
        return [
            (long_ago, SPRING, CLICKS, sign * clicks),
            *((long_ago, SPRING, ("conversions", name, "purchase", basis), sign * clicks * 1_000_000)
              for name in MARKETING.models for basis in ("conversion", "touch")),
            (long_ago, SPRING, (f"credit_age/{age}", model, "purchase", "touch"), sign * 1_000_000),
        ]  # fmt: skip

    async def shown() -> list[float | None]:
        samples = await bench.scrape()
        credit = {"model": MARKETING.headline_models[0], "conversion": "purchase"}
        return [
            value(samples, "total_clicks", window="365d"),
            value(samples, "total_attributed_conversions", **credit, basis="conversion", window="365d"),
            value(samples, "total_maturity_ratio", **credit, basis="touch", window="7d"),
        ]

    await writers[0].commit(END, cells(facts(1, 5, "h0")), {"c": cost, "r": rest})
    await writers[1].commit(END, cells(facts(1, 2, "h0")))
    assert await shown() == [7, 7, 1]
    assert await shown() == [7, 7, 1]
    # All credit of the one partition now comes on the tenth day, and half of the whole.
    await writers[0].commit(END, cells(facts(-1, 5, "h0") + facts(1, 3, "d10")))
    assert await shown() == [5, 5, 0.5]
    await writers[0].claim()  # read anew
    await writers[0].commit(END, cells(facts(1, 1, "d10")))
    samples = await shown()
    assert samples[:2] == [6, 6]
    assert samples[2] == pytest.approx(1 / 3)


async def test_the_wall_clock_moves_windows_and_cost_without_events(redis: Redis, writers: list[Writer]) -> None:
    bench = Bench(redis, msgspec.structs.replace(MARKETING, clock="wall"))
    row = CostRow(END - 10 * HOUR, END + 14 * HOUR, END - 10 * HOUR, "media", SPRING, 24_000_000, 0)
    await writers[0].commit(END, cells([(END, SPRING, CLICKS, 1)]), {"c": row})
    samples = await bench.scrape()
    assert value(samples, "total_clicks", window="1h") == 1
    assert value(samples, "total_cost", window="24h", currency="EUR") == 10
    bench.wall += 3700
    samples = await bench.scrape()
    assert value(samples, "total_clicks", window="1h") == 0
    assert value(samples, "total_clicks", window="24h") == 1
    assert value(samples, "total_cost", window="24h", currency="EUR") == float(
        Decimal(24_000_000 * 39700 // 86400) / 10**6
    )
    bench.wall -= 3700
    assert value(await bench.scrape(), "total_clicks", window="1h") == 1


async def test_a_leader_is_told_once_its_metrics_are_there(redis: Redis, writers: list[Writer]) -> None:
    """Rules read the highest epoch: one without metrics would leave a hole where the old leader still had them."""
    await writers[0].commit(END, cells([(END, TOTAL, ORDERS, 1)]))
    bench = Bench(redis)
    key = f"{journey_tag(INFRA.generation, 1)}meta"
    await redis.set(key, "no hash: cannot be read")
    with pytest.raises(RedisError):
        await bench.scrape()
    assert (bench.exporter.body(), value(parsed(bench.metrics.render()), "leader_epoch")) == (b"", 0)
    await redis.delete(key)
    assert await bench.scrape()
    assert value(parsed(bench.metrics.render()), "leader_epoch") == bench.wall // 1


async def test_the_first_look_waits_for_a_worker_that_is_behind(redis: Redis, writers: list[Writer]) -> None:
    """Fifteen seconds at most, and only the first: a leader that comes into a backlog leaves the CPU to it."""
    bench = Bench(redis)
    await writers[0].commit(END, cells([(END - HOUR, SPRING, CLICKS, 3)]))
    bench.behind = True
    assert await bench.scrape() == {}
    assert value(parsed(bench.metrics.render()), "leader_epoch") == 0
    bench.now = 14.0
    assert await bench.scrape() == {}
    bench.now = 15.0
    assert value(await bench.scrape(), "total_clicks", window="24h") == 3
    await writers[0].commit(END, cells([(END - HOUR, SPRING, CLICKS, 1)]))
    assert value(await bench.scrape(), "total_clicks", window="24h") == 4
    # Who leads anew comes into a backlog anew.
    bench.leads = False
    assert await bench.scrape() == {}
    bench.leads = True
    assert await bench.scrape() == {}
    bench.behind = False
    assert value(await bench.scrape(), "total_clicks", window="24h") == 4


async def test_an_epoch_is_above_those_of_before_although_redis_was_wiped(redis: Redis) -> None:
    async def led(bench: Bench) -> float:
        bench.leads = False
        await bench.scrape()
        bench.leads = True
        await Writer(redis, 0).commit(END, cells([(END, TOTAL, ORDERS, 1)]))
        await bench.scrape()
        found = value(parsed(bench.metrics.render()), "leader_epoch")
        assert found is not None
        return found

    bench = Bench(redis)
    first = await led(bench)
    # Twice in one second, and by a clock that is behind.
    bench.wall -= 100
    second = await led(bench)
    await redis.flushall()
    bench.wall += 102
    third = await led(bench)
    assert (second, third) == (first + 1, first + 2)


HOSTILE: list[Dims] = [
    ('quo"te', "back\\slash", "new\nline"),
    ("x" * 500, "é" * 200, "\u202egnp.exe\x00\x1b[31m"),
    ('{a="b"} 1', "# HELP x", "parcours_up 0\n"),
    ("a\nb", "(none)", "same"),
    ("a b", "(none)", "same"),
]


async def test_hostile_names_stay_inside_their_label(bench: Bench, writers: list[Writer]) -> None:
    facts: list[Fact] = [(END, dims, CLICKS, 1) for dims in HOSTILE]
    await writers[0].commit(END, cells([*facts, (END, TOTAL, ORDERS, 1)]))
    samples = await bench.scrape()
    assert {name for name, _ in samples} <= set(BUSINESS)
    texts = {text for name, labels in samples if name == "parcours_campaign_clicks" for _, text in labels}
    assert {'quo"te', "back\\slash", "new line", "# HELP x"} <= texts
    assert all(text.isprintable() and len(text) <= 100 for text in texts)
    # Two names that differ in what can't be shown are one.
    labels = {"channel": "a b", "network": "(none)", "campaign": "same", "window": "24h"}
    assert value(samples, "campaign_clicks", **labels) == 2


@cache
def telling() -> History:
    """The first history whose rows have ratios of cost at each level, and cost that is known up to a time."""
    wanted = {"parcours_total_cpa", "parcours_channel_roas_ratio", "parcours_campaign_roi_on_revenue_ratio", THROUGH}
    for seed in range(1_000):
        history = generate(seed)
        run = replay(history.events, history.marketing)
        sums = Sums.of(run.rollups, history.marketing, run.highest)
        ledger = Ledger([row for _, row in run.costs()], sums.own, run.highest)
        families = Counter(row.family for row in rows(sums, ledger))
        if families["parcours_channel_touches"] >= 16 and wanted <= families.keys():
            return history
    raise AssertionError("no history has them all")


async def test_the_live_table_says_what_metrics_say(redis: Redis, bench: Bench, writers: list[Writer]) -> None:
    history = telling()
    marketing = msgspec.structs.replace(history.marketing, clock="event", topics=Topics(journey_events=2))
    run = replay(history.events, marketing)
    bench = Bench(redis, marketing)
    await writers[0].commit(run.highest, run.rollups.buckets, dict(run.costs()))
    samples = await bench.scrape()
    status = bench.exporter.status()
    assert status["rows"] is status["windows"]["30d"]["rows"]
    compared = 0
    for window, said in status["windows"].items():
        for row in [said["total"], *said["rows"]]:
            level = "channel" if row["channel"] else "total"
            where = {name: row[name] for name in ("channel", "network") if row["channel"]} | {"window": window}
            model = {"model": status["model"], "basis": "conversion", "conversion": "purchase"}
            money = {"currency": "EUR"}
            for column, family, labels in (
                ("conversions", "attributed_conversions", where | model),
                ("revenue", "attributed_revenue", where | model | money),
                ("cost", "cost", where | money),
                ("cpa", "cpa", where | model | money),
                ("roas", "roas_ratio", where | model),
                ("roi", "roi_on_revenue_ratio", where | model),
            ):
                wanted = value(samples, f"{level}_{family}", **labels)
                assert (None if row[column] is None else float(row[column])) == wanted
                compared += wanted is not None
            # What is credited to no one has no touch to count.
            assert row["touches"] == (value(samples, f"{level}_touches", **where) or 0)
    assert compared > 40


def used(metrics: Metrics) -> Metrics:
    metrics.rejected("clicks", "late")
    metrics.accepted("clicks", Counter({f"tracker {i}\n": 1 for i in range(SOURCES_MAX + 5)} | {"": 2}))
    metrics.event_time("clicks", END)
    metrics.event_time("clicks", END - 1)
    metrics.committed(0.01)
    metrics.applied(0, 5, Progress(), [0])
    metrics.applied(1, 5, Progress(watermark=END), [int(END // 1000), 0])
    metrics.dropped("duplicate", 3)
    metrics.dead_letter("clicks", "late")
    metrics.filtered("bots")
    metrics.published("restated")
    for count in (metrics.rewind, metrics.fenced, metrics.claim, metrics.redis_away):
        count()
    metrics.lag("clicks", 1, 4)
    metrics.gap("clicks", 1)
    metrics.config("abc", 1)
    metrics.config("abd", 2)
    metrics.leader(3)
    metrics.alert("kafka", "sent")
    return metrics


def test_pipeline_metrics() -> None:
    metrics = used(Metrics())
    samples = parsed(metrics.render())
    accepted = {dict(labels)["source"]: n for (name, labels), n in samples.items()
                if name == "parcours_events_total" and ("outcome", "accepted") in labels}  # fmt: skip
    assert len(accepted) == SOURCES_MAX + 1
    assert accepted["(other)"] == 7
    assert accepted["tracker 0 "] == 1
    assert value(samples, "events_total", topic="clicks", source="(none)", outcome="late") == 1
    assert value(samples, "dead_letters_total", topic="clicks", reason="late") == 2
    assert value(samples, "watermark_timestamp_seconds", partition="1") == END / 1e6
    assert value(samples, "watermark_timestamp_seconds", partition="0") is None
    assert value(samples, "last_event_timestamp_seconds", topic="clicks") == END / 1e6
    assert value(samples, "latency_seconds_count") == 1
    assert value(samples, "restatements_total") == 1
    assert value(samples, "config_info", hash="abd", number="2") == 1
    assert value(samples, "config_info", hash="abc", number="1") is None
    metrics.released("clicks", 1)
    metrics.released("clicks", 2)
    after = parsed(metrics.render())
    assert value(samples, "gap", topic="clicks", partition="1") == 1
    assert value(after, "gap", topic="clicks", partition="1") is None
    assert value(after, "lag_records", topic="clicks", partition="1") is None


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed")
async def test_promtool_finds_nothing_to_say(redis: Redis, writers: list[Writer]) -> None:
    history = generate(1)
    marketing = msgspec.structs.replace(history.marketing, clock="event", topics=Topics(journey_events=2))
    run = replay(history.events, marketing)
    await writers[0].commit(run.highest, run.rollups.buckets, dict(run.costs()))
    await writers[0].commit(run.highest, cells([(END, dims, CLICKS, 1) for dims in HOSTILE]))
    bench = Bench(redis, marketing)
    used(bench.metrics)
    business = await bench.scrape()
    assert {name for name, _ in business} >= {f"parcours_{level}_cpa" for level in ("total", "channel", "campaign")}
    text = bench.metrics.render() + bench.exporter.body()
    assert PROMTOOL is not None
    command = [PROMTOOL, "check", "metrics"]
    checked = await asyncio.to_thread(subprocess.run, command, input=text, capture_output=True, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")
    assert set(FAMILIES) <= set(BUSINESS)


def test_every_family_is_documented_with_its_labels() -> None:
    documented: dict[str, tuple[str, set[str]]] = {}
    levels: dict[str, set[str]] = {
        "total": set(),
        "channel": {"channel", "network"},
        "campaign": {"channel", "network", "campaign"},
    }
    for line in (Path(__file__).parents[2] / "docs" / "metrics.md").read_text("utf-8").splitlines():
        if line.startswith("| `parcours_"):
            name, kind, labels = (cell.strip().strip("`") for cell in line.strip("|").split("|")[:3])
            own = set(re.findall(r"\w+", labels)) - {"level"}
            for level, more in levels.items() if "<level>" in name else [("", set[str]())]:
                documented[name.replace("<level>", level)] = (kind, own | more)
    pipeline = {
        family.name + ("_total" if family.type == "counter" else ""): (
            family.type,
            set().union(*(sample.labels for sample in family.samples)) - {"le"},
        )
        for family in used(Metrics()).registry.collect()
    }
    business = BUSINESS | BOARD
    assert {name: found for name, found in documented.items() if name not in business} == pipeline
    assert {name: found for name, found in documented.items() if name in business} == {
        name: (family.type, set(family.labels)) for name, family in business.items()
    }


async def test_business_rows_have_the_documented_labels(redis: Redis, writers: list[Writer]) -> None:
    history = telling()
    marketing = msgspec.structs.replace(history.marketing, clock="event", topics=Topics(journey_events=2))
    run = replay(history.events, marketing)
    await writers[0].commit(run.highest, run.rollups.buckets, dict(run.costs()))
    labels = {name: {label for label, _ in found} for name, found in await Bench(redis, marketing).scrape()}
    attributed = {"model", "basis", "conversion", "window"}
    assert labels["parcours_total_cpa"] == attributed | {"currency"}
    assert labels["parcours_channel_roas_ratio"] == attributed | {"channel", "network"}
    assert labels["parcours_campaign_roi_on_revenue_ratio"] == attributed | {"channel", "network", "campaign"}
    assert labels["parcours_channel_cost"] == {"channel", "network", "window", "currency"}
    assert labels["parcours_cost_through_timestamp_seconds"] == {"channel", "network", "campaign"}
    assert labels["parcours_total_orders"] == {"window"}


async def test_that_names_have_no_series_of_their_own_is_counted_and_said_once(
    redis: Redis, bench: Bench, writers: list[Writer], caplog: pytest.LogCaptureFixture
) -> None:
    await writers[1].commit(END)
    await writers[0].commit(END, cells([(END, (f"channel {i}", "x", "(none)"), VISITS, 1) for i in range(3)]))
    samples = await bench.scrape()
    assert (value(samples, "folded_channels"), value(samples, "folded_campaigns")) == (0, 0)
    for more in (100, 101):
        await writers[0].commit(END, cells([(END, (f"channel {i}", "x", "(none)"), VISITS, 1) for i in range(more)]))
        samples = await bench.scrape()
    channels = {dict(labels)["channel"] for name, labels in samples if name == "parcours_channel_visits"}
    own = len(channels - {"(other)"})
    assert value(samples, "folded_channels") == 101 - own > 0
    assert value(samples, "series") == len(samples) <= BUDGET
    said = [record.getMessage() for record in caplog.records if "budget" in record.getMessage()]
    assert len(said) == 1
    assert f"{100 - own} channels and " in said[0]
