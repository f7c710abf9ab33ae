"""The evaluator on a real Valkey: partitions written as stitch writes them, faults between judging, storing and publishing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from faust.types import TP
from jsonschema import Draft202012Validator
from pydantic import SecretStr
from redis.asyncio import Redis
from redis.exceptions import RedisError

from attribution.facts import CLICKS, CONVERSION, CONVERSIONS, ORDERS, TOTAL, Fact
from attribution.nodes.state import CostRow
from attribution.rules import Dims
from attribution.watermarks import Progress
from models.errors import ConfigError
from models.results import Alert
from models.settings import DAY, HOUR, AlertRule, Benchmark, Goal, Marketing, Silence, Topics
from streams import webhook
from streams.alert_state import Lost, stored
from streams.alerts import Watch
from streams.exporter import Exporter
from streams.generations import beat, prepare
from streams.metrics import Metrics
from streams.notices import BOARD
from streams.pipeline import Pipeline, Status, silent
from streams.webhook import Outcome
from tests.stream.written import END, INFRA, SPRING, Samples, Writer, cells, parsed, value

CPA = AlertRule(name="cpa", metric="cpa", campaign="*", threshold=Decimal(60), clear=Decimal(50), team="growth")
GOAL = Goal(name="orders", metric="orders", target=Decimal(100), start=date(2026, 3, 1), deadline=date(2026, 3, 20))
MARKETING = Marketing(topics=Topics(journey_events=2), alerts=(CPA,), goals=(GOAL,))
HOOK = SecretStr("http://hooks.example/x")
NAMES = {"channel": SPRING[0], "network": SPRING[1], "campaign": SPRING[2]}
LABELS = {"rule": "cpa", "severity": "warning", "team": "growth", **NAMES}
SALE: list[Fact] = [(END, SPRING, (CONVERSIONS, "last_non_direct", "purchase", CONVERSION), 1_000_000)]


class Fine(Pipeline):
    """A pipeline that is as the test says."""

    def __init__(self) -> None:
        self.now = Status(lag=3)

    async def status(self) -> Status:
        return self.now


class Crash(Exception):
    """The worker is killed here."""


class Bench:
    """An exporter with a watch, its clocks in hand; a new one is a new worker."""

    def __init__(self, redis: Redis, writer: Writer, marketing: Marketing = MARKETING, log: list[Alert] | None = None, **infra: Any) -> None:  # fmt: skip
        self.leads = True
        self.wall = END / 1e6
        self.now = 0.0
        self.pipeline = Fine()
        self.published: list[Alert] = [] if log is None else log
        self.posted: list[tuple[str, str]] = []
        self.answers: list[Outcome] = []
        self.crash: str | None = None
        self.metrics = Metrics()
        settings = INFRA.model_copy(update=infra)
        self.watch = Watch(
            redis, settings, marketing, self.metrics, self.pipeline, wall=lambda: self.wall, post=self._post,
            token=lambda: writer.token or None if self.leads else None, publish=self._publish,
        )  # fmt: skip
        self.exporter = Exporter(
            redis, settings, marketing, self.metrics, lambda: self.leads, self.watch,
            wall=lambda: self.wall, clock=lambda: self.now,
        )  # fmt: skip

    async def _publish(self, values: Mapping[bytes, bytes]) -> None:
        self._reach("before publishing")
        for key, packed in values.items():
            one = msgspec.json.decode(packed, type=Alert)
            assert key == one.id.encode()
            self.published.append(one)
        self._reach("after publishing")

    async def _post(self, url: str, one: Alert) -> Outcome:
        self.posted.append((one.id, one.status))
        return self.answers.pop(0) if self.answers else "sent"

    def _reach(self, where: str) -> None:
        if self.crash == where:
            raise Crash(where)

    async def tick(self, seconds: float = 6.0) -> Samples:
        """Time passes, and the leader looks."""
        self.wall += seconds
        self.now += seconds
        await self.exporter.refresh()
        self._reach("before publishing")
        await self.watch.publish_stored()
        return parsed(self.exporter.body())

    def said(self) -> list[tuple[str, str]]:
        return [(one.id, one.status) for one in self.published]


def spend(euros: int, dims: Dims = SPRING, end: int = END + HOUR) -> dict[str, CostRow]:
    return {f"{dims[2]}": CostRow(end - 2 * DAY, end, end, "media", dims, euros * 1_000_000, 0)}


@pytest.fixture
async def writer(redis: Redis) -> Writer:
    made = Writer(redis, 0)
    await made.claim()
    await Writer(redis, 1).claim()
    return made


async def test_an_alert_fires_and_resolves(redis: Redis, writer: Writer) -> None:
    bench = Bench(redis, writer)
    await writer.commit(END, cells(SALE), spend(40))
    samples = await bench.tick()
    assert value(samples, "alert_active", **LABELS) == 0
    assert bench.published == []
    await writer.commit(END, costs=spend(800))
    samples = await bench.tick()
    spent = Decimal(800_000_000 * (2 * DAY - HOUR + 12_000_000) // (2 * DAY)) / 10**6
    assert value(samples, "alert_active", **LABELS) == 1
    assert value(samples, "alert_threshold", **LABELS) == 60
    assert value(samples, "alert_value", **LABELS) == float(spent)
    assert value(samples, "alert_bound", **LABELS) == pytest.approx(float(spent) / 4.728392, rel=1e-6)
    assert value(samples, "alert_unknown", **LABELS) == 0
    (fired,) = bench.published
    assert (fired.status, fired.reason, fired.value, fired.spend) == ("firing", "threshold", str(spent).rstrip("0"), str(spent).rstrip("0"))  # fmt: skip
    assert (fired.conversions, fired.threshold, fired.clear, fired.lag) == ("1", "60", "50", 3)
    assert (fired.channel, fired.network, fired.campaign, fired.model) == (*SPRING, "last_non_direct")
    assert fired.links.runbook == "docs/alerts.md#cpa"
    await writer.commit(END, costs=spend(40))
    samples = await bench.tick()
    assert value(samples, "alert_active", **LABELS) == 0
    assert bench.said() == [(fired.id, "firing"), (fired.id, "resolved")]
    assert bench.published[1].reason == "cleared"
    assert bench.published[1].fired_at == fired.fired_at


async def test_what_is_published_is_what_its_schema_says(redis: Redis, writer: Writer) -> None:
    schema = json.loads((Path(__file__).parents[2] / "docs" / "schemas" / "alerts.json").read_text("utf-8"))
    validator = Draft202012Validator(schema)
    bench = Bench(redis, writer)
    await writer.commit(END, cells(SALE), spend(800))
    await bench.tick()
    await writer.commit(END, costs=spend(0))
    await bench.tick()
    assert [one.reason for one in bench.published] == ["threshold", "spend_ended"]
    for one in bench.published:
        packed = msgspec.to_builtins(one)
        assert [error.message for error in validator.iter_errors(packed)] == []
        assert not validator.is_valid(packed | {"status": "pending"})
    assert validator.schema["required"] == [name for name in Alert.__struct_fields__ if name != "test"]


async def test_links_have_the_dashboards_variables_set(redis: Redis, writer: Writer) -> None:
    rule = msgspec.structs.replace(CPA, runbook="https://wiki.example/cpa")
    marketing = msgspec.structs.replace(MARKETING, alerts=(rule,))
    bench = Bench(redis, writer, marketing, dashboard_url="https://grafana.example/d/parcours-overview")
    await writer.commit(END, cells(SALE), spend(800))
    await bench.tick()
    assert bench.published[0].links.dashboard == (
        "https://grafana.example/d/parcours-overview?var-window=7d&var-model=last_non_direct&var-conversion=purchase"
        "&var-channel=Paid+Social&var-network=facebook&var-campaign=spring"
    )
    assert bench.published[0].links.runbook == "https://wiki.example/cpa"


async def test_a_rule_that_crosses_by_time_alone(redis: Redis, writer: Writer) -> None:
    """Cost accrues while nothing is committed: it is judged again every five seconds, not only each minute."""
    bench = Bench(redis, writer)
    end = END + 100 * 1_000_000
    row = CostRow(END, end, END - HOUR, "media", SPRING, 1_000_000_000, 0)
    # 10 euros a second, from now on; two conversions allow 60 × U(1) = 283.70.
    await writer.commit(END, cells(SALE), {"now": row})
    for _ in range(4):
        await bench.tick(6.0)
        assert bench.published == []
    assert value(await bench.tick(4.9), "alert_active", **LABELS) == 0
    await bench.tick(0.2)
    assert [one.status for one in bench.published] == ["firing"]


async def test_while_a_partition_is_behind_it_neither_fires_nor_resolves(redis: Redis, writer: Writer) -> None:
    bench = Bench(redis, writer)
    await writer.commit(END, cells(SALE), spend(800))
    bench.pipeline.now = Status(lag=9000, behind=("purchases/0",))
    samples = await bench.tick()
    assert bench.published == []
    assert value(samples, "alert_unknown", **LABELS) == 1
    assert value(samples, "pipeline_problem", problem="lag") == 1
    bench.pipeline.now = Status()
    samples = await bench.tick()
    assert [one.status for one in bench.published] == ["firing"]
    assert value(samples, "pipeline_problem", problem="lag") == 0
    bench.pipeline.now = Status(gaps=("gap",))
    await writer.commit(END, costs=spend(10))
    samples = await bench.tick()
    assert [one.status for one in bench.published] == ["firing"]
    assert value(samples, "alert_active", **LABELS) == value(samples, "alert_unknown", **LABELS) == 1
    bench.pipeline.now = Status()
    await bench.tick()
    assert [one.status for one in bench.published] == ["firing", "resolved"]


async def test_a_scope_that_shows_nothing_any_more_is_not_over_while_a_partition_is_behind(
    redis: Redis, writer: Writer
) -> None:
    bench = Bench(redis, writer)
    await writer.commit(END, cells(SALE), spend(800))
    await bench.tick()
    bench.pipeline.now = Status(lag=9000, behind=("costs/0",))
    await bench.tick(40 * 86_400)
    assert [one.status for one in bench.published] == ["firing"]
    bench.pipeline.now = Status()
    await bench.tick()
    assert [(one.status, one.reason) for one in bench.published[1:]] == [("resolved", "no_data")]


async def test_redis_away_leaves_what_was_shown_and_says_unknown(redis: Redis, writer: Writer) -> None:
    bench = Bench(redis, writer)
    await writer.commit(END, cells(SALE), spend(800))
    await bench.tick()
    at = value(parsed(bench.watch.body()), "alerts_evaluated_timestamp_seconds")
    bench.wall += 60
    bench.watch.away()
    samples = parsed(bench.watch.body())
    assert value(samples, "alert_active", **LABELS) == value(samples, "alert_unknown", **LABELS) == 1
    assert value(samples, "pipeline_problem", problem="redis_away") == 1
    assert value(samples, "alerts_evaluated_timestamp_seconds") == at
    samples = await bench.tick()
    assert value(samples, "alert_unknown", **LABELS) == value(samples, "pipeline_problem", problem="redis_away") == 0
    assert len(bench.published) == 1


async def test_stale_costs_hold_their_network_alone(redis: Redis, writer: Writer) -> None:
    other: Dims = ("Paid Search", "google", "brand")
    bench = Bench(redis, writer)
    await writer.commit(END, cells(SALE), {**spend(800, end=END - 3 * DAY), **spend(800, other)})
    samples = await bench.tick()
    assert [one.campaign for one in bench.published] == ["brand"]
    assert value(samples, "alert_unknown", **LABELS) == 1
    assert value(samples, "pipeline_problem", problem="stale_costs") == 1


async def test_only_the_leader_evaluates_and_exports(redis: Redis, writer: Writer) -> None:
    bench = Bench(redis, writer)
    await writer.commit(END, cells(SALE), spend(800))
    bench.leads = False
    assert await bench.tick() == {}
    assert bench.published == []
    bench.leads = True
    await bench.tick()
    assert len(bench.published) == 1
    bench.leads = False
    assert bench.watch.body() == b""
    assert bench.watch.status() == {}


async def test_a_new_leader_goes_on_with_the_same_alert(redis: Redis, writer: Writer) -> None:
    old = Bench(redis, writer)
    await writer.commit(END, cells(SALE), spend(800))
    await old.tick()
    token = writer.token
    await writer.claim()
    new = Bench(redis, writer, log=old.published)
    new.wall = old.wall + 60
    samples = await new.tick()
    assert value(samples, "alert_active", **LABELS) == 1
    assert len(new.published) == 1
    # The old one has not noticed yet: it is fenced, and says nothing.
    renewed, writer.token = writer.token, token
    await old.watch.begin()
    writer.token = renewed
    await writer.commit(END, costs=spend(10))
    view, read, end = await old.exporter._read()
    view.take(read, end, anew=True)
    seen = old.watch.look(view, None)
    with pytest.raises(Lost, match="fenced"):
        await old.watch.observe(seen)
    assert len(new.published) == 1
    await new.tick()
    assert [one.status for one in new.published] == ["firing", "resolved"]
    assert len({one.id for one in new.published}) == 1


async def test_an_alert_on_reach_is_not_over_because_a_worker_has_not_counted_yet(redis: Redis, writer: Writer) -> None:
    rule = AlertRule(name="reach", metric="reach", threshold=Decimal(1))
    marketing = msgspec.structs.replace(MARKETING, alerts=(rule,), goals=())
    await writer.commit(END, clicked=["a:1", "a:2"])
    log: list[Alert] = []
    for _ in range(3):
        bench = Bench(redis, writer, marketing, log)
        for _ in range(3):
            await bench.tick()
        # The clock goes back an hour, and all is read anew.
        await bench.tick(-3600.0)
        await bench.tick(3600.0)
        bench.leads = False
        await bench.tick()
        bench.leads = True
        await bench.tick()
    assert [one.status for one in log] == ["firing"]


@pytest.mark.parametrize("where", ["before storing", "after storing", "before publishing", "after publishing"])
async def test_twenty_kills_give_one_id(
    redis: Redis, writer: Writer, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each worker is killed at the same point, until the last one is let through. Repeats are byte for byte the same."""
    log: list[Alert] = []
    await writer.commit(END, cells(SALE), spend(800))
    for kill in range(21):
        await writer.claim()
        bench = Bench(redis, writer, log=log)
        bench.wall += 7 * kill
        if kill < 20:
            bench.crash = where
            if "storing" in where:
                await bench.watch.begin()
                store = bench.watch._store
                assert store is not None
                monkeypatch.setattr(store, "save", _dying(store.save, where))
        try:
            await bench.tick()
        except Crash:
            continue
        assert kill == 20
    assert len({one.id for one in log}) == 1
    assert len({msgspec.json.encode(one) for one in log}) == 1
    assert len(log) == {"before storing": 1, "after storing": 1, "before publishing": 1, "after publishing": 21}[where]
    kept = await stored(redis, INFRA.generation)
    assert kept.outbox == ()
    assert [state.id for state in kept.states] == [log[0].id]


def _dying(save: Any, where: str) -> Any:
    async def dying(kept: Any) -> None:
        if where == "after storing":
            await save(kept)
        raise Crash(where)

    return dying


async def test_redis_that_went_back_is_noticed(redis: Redis, writer: Writer) -> None:
    bench = Bench(redis, writer)
    await writer.commit(END, cells(SALE), spend(10))
    await bench.tick()
    await writer.commit(END, costs=spend(800))
    await bench.tick()
    await redis.delete(writer.tables.key("alerts"))
    await writer.commit(END, costs=spend(10))
    await bench.tick()
    await bench.tick()
    # What was lost is judged anew: nothing fires any more, so there is nothing to say, and nothing fails.
    assert [one.status for one in bench.published] == ["firing"]
    await writer.commit(END, costs=spend(900))
    await bench.tick()
    assert [one.status for one in bench.published] == ["firing", "firing"]
    assert len({one.id for one in bench.published}) == 2


async def test_a_rule_taken_out_resolves_what_it_fired(redis: Redis, writer: Writer) -> None:
    bench = Bench(redis, writer)
    await writer.commit(END, cells(SALE), spend(800))
    await bench.tick()
    without = Bench(redis, writer, msgspec.structs.replace(MARKETING, alerts=()), log=bench.published)
    await without.tick()
    assert [(one.status, one.reason) for one in bench.published] == [
        ("firing", "threshold"),
        ("resolved", "rule_removed"),
    ]


async def test_a_failure_to_publish_is_made_good(redis: Redis, writer: Writer) -> None:
    bench = Bench(redis, writer)
    await writer.commit(END, cells(SALE), spend(800))
    bench.crash = "before publishing"
    with pytest.raises(Crash):
        await bench.tick()
    await writer.commit(END, costs=spend(10))
    with pytest.raises(Crash):
        await bench.tick()
    assert bench.published == []
    bench.crash = None
    await bench.tick()
    assert [one.status for one in bench.published] == ["firing", "resolved"]


async def test_goals_and_benchmarks(redis: Redis, writer: Writer) -> None:
    toml = {"name": "industry", "metric": "cpa", "value": 38, "network": "facebook"}
    marketing = msgspec.convert(
        {"topics": {"journey-events": 2}, "benchmarks": [toml],
         "goals": [{"name": "orders", "metric": "orders", "target": 100, "start": "2026-03-01", "deadline": "2026-03-20"},
                   {"name": "later", "metric": "clicks", "target": 5, "start": "2026-04-01", "deadline": "2026-04-20"}]},
        Marketing,
    )  # fmt: skip
    bench = Bench(redis, writer, marketing)
    orders: list[Fact] = [
        (END - 8 * DAY, TOTAL, ORDERS, 40),
        (END, TOTAL, ORDERS, 10),
        (END - 20 * DAY, TOTAL, ORDERS, 99),
    ]
    await writer.commit(END, cells(orders))
    samples = await bench.tick()
    assert value(samples, "goal_value", goal="orders") == 50
    assert value(samples, "goal_target", goal="orders") == 100
    assert value(samples, "goal_progress_ratio", goal="orders") == 0.5
    assert value(samples, "goal_expected_ratio", goal="orders") == pytest.approx(9.4379 / 20, abs=1e-4)
    assert value(samples, "goal_on_track", goal="orders") == 1
    assert value(samples, "goal_projected", goal="orders") == pytest.approx(50 / (9.4379 / 20), rel=1e-3)
    assert value(samples, "goal_expected_ratio", goal="later") == 0
    assert value(samples, "goal_value", goal="later") is None
    assert value(samples, "benchmark", benchmark="industry", metric="cpa", network="facebook") == 38


async def test_a_measured_baseline_survives_a_new_leader(redis: Redis, writer: Writer) -> None:
    goal = Goal(
        name="roas", metric="roas", target=Decimal(4), window="5d", start=date(2026, 3, 8), deadline=date(2026, 3, 20)
    )  # fmt: skip
    marketing = msgspec.structs.replace(MARKETING, goals=(goal,))
    before = END - 4 * DAY
    revenue = ("attributed_net", "last_non_direct", "purchase", CONVERSION)
    facts: list[Fact] = [(before, SPRING, revenue, 90_000_000)]
    row = CostRow(before, before + HOUR, before + HOUR, "media", SPRING, 45_000_000, 0)
    on = CostRow(END - DAY, END + DAY, END + DAY, "media", SPRING, 1_000_000, 0)
    await writer.commit(END, cells(facts), {"a": row, "b": on._replace(start=before + HOUR)})
    await Bench(redis, writer, marketing).tick()
    (kept,) = (await stored(redis, INFRA.generation)).baselines.values()
    await writer.commit(END, cells(facts))
    await writer.claim()
    bench = Bench(redis, writer, marketing)
    await bench.tick()
    assert list((await stored(redis, INFRA.generation)).baselines.values()) == [kept]
    assert kept is not None
    assert kept < 2


async def test_the_webhook_is_tried_again_until_it_is_taken(redis: Redis, writer: Writer) -> None:
    bench = Bench(redis, writer, webhook_url=HOOK)
    await writer.commit(END, cells(SALE), spend(800))
    bench.answers = ["again", "again", "sent", "refused"]
    await bench.tick()
    one = bench.published[0].id
    await bench.watch.deliver_due()
    await bench.watch.deliver_due()
    assert bench.posted == [(one, "firing")]  # not before its pause of a second is over
    # Another worker goes on with it.
    await writer.claim()
    other = Bench(redis, writer, log=bench.published, webhook_url=HOOK)
    other.answers, other.posted = bench.answers, bench.posted
    other.wall = bench.wall
    for _ in range(3):
        await other.tick()
        await other.watch.deliver_due()
    assert bench.posted == [(one, "firing")] * 3
    await writer.commit(END, costs=spend(10))
    await other.tick()
    await other.watch.deliver_due()
    await other.watch.deliver_due()
    assert bench.posted[3:] == [(one, "resolved")]
    samples = parsed(other.metrics.render())
    assert value(samples, "alert_notices_total", way="webhook", outcome="sent") == 1
    assert value(samples, "alert_notices_total", way="webhook", outcome="failed") == 1


async def test_what_resolved_is_not_told_before_what_fired(redis: Redis, writer: Writer) -> None:
    bench = Bench(redis, writer, webhook_url=HOOK)
    await writer.commit(END, cells(SALE), spend(800))
    bench.answers = ["again"] * 5
    await bench.tick()
    for _ in range(5):
        bench.wall += 40
        await bench.watch.deliver_due()
    await writer.commit(END, costs=spend(10))
    await bench.tick()
    await bench.watch.deliver_due()  # the first one waits for its pause to be over, and the second for the first
    bench.wall += 40
    await bench.watch.deliver_due()
    await bench.watch.deliver_due()
    assert [status for _, status in bench.posted] == ["firing"] * 6 + ["resolved"]


async def test_retries_of_the_webhook_are_bounded(redis: Redis, writer: Writer) -> None:
    bench = Bench(redis, writer, webhook_url=HOOK)
    await writer.commit(END, cells(SALE), spend(800))
    bench.answers = ["again"] * 100
    await bench.tick()
    for _ in range(30):
        bench.wall += 400
        await bench.watch.deliver_due()
    assert len(bench.posted) == webhook.TRIES
    assert (await stored(redis, INFRA.generation)).webhook == ()


async def test_what_the_webhook_is_sent_and_how_answers_are_taken() -> None:
    got: list[tuple[str, Any]] = []
    answers = [200, 204, 500, 503, 429, 302, 400, 404]
    statuses = iter(answers)

    async def handle(request: web.Request) -> web.Response:
        got.append((request.headers["Idempotency-Key"], json.loads(await request.text())))
        return web.Response(status=next(statuses))

    app = web.Application()
    app.router.add_post("/hook", handle)
    async with TestServer(app) as server:
        url, one = str(server.make_url("/hook")), alert()
        outcomes = [await webhook.post(url, one) for _ in answers]
    assert outcomes == ["sent", "sent", "again", "again", "again", "refused", "refused", "refused"]
    assert got == [(f"{one.id}-firing", msgspec.to_builtins(one))] * len(answers)
    assert await webhook.post(url, one) == "again"


@pytest.mark.parametrize("url", ["hooks.example/x", "ftp://hooks.example", "https://", "http://[::1"])
def test_a_webhook_url_that_is_none(url: str) -> None:
    with pytest.raises(ConfigError, match="PARCOURS_WEBHOOK_URL") as caught:
        webhook.check_url(url)
    assert url not in str(caught.value).replace("https://hooks.example/alerts", "")


def alert() -> Alert:
    links = {"dashboard": None, "runbook": "x"}
    texts = dict.fromkeys(("severity", "team", "window", "model", "conversion", "basis", "threshold", "clear"), "x")
    given = {"id": "1", "rule": "cpa", "status": "firing", "reason": "threshold", "metric": "cpa", "currency": "EUR"}
    none = dict.fromkeys(
        ("channel", "network", "campaign", "value", "bound", "conversions", "spend", "maturity", "cost_through", "resolved_at", "lag")
    )  # fmt: skip
    return msgspec.convert({**texts, **given, **none, "links": links, "fired_at": "t", "config": "c"}, Alert)


# The pipeline


async def test_who_is_behind(redis: Redis) -> None:
    marketing = Marketing(topics=Topics(clicks=1, touchpoints=1, purchases=1, costs=1, journey_events=1))
    mine = {TP("clicks", 0): 0, TP("journey-events.3", 0): 5}
    consumer, now = SimpleNamespace(lag=lambda tp: mine[tp], answered=lambda tp: True), [100.0]
    pipeline = Pipeline(
        redis, 3, marketing, "me", held=mine.keys, consumer=lambda: consumer, gaps=list,  # type: ignore[arg-type,return-value]
        away=lambda: False, wall=lambda: now[0], clock=lambda: now[0],
    )  # fmt: skip
    others = {"partitions": ["touchpoints/0", "purchases/0"], "behind": ["purchases/0"], "lag": 7, "gaps": ["hole"]}
    await beat(redis, 3, "other", others)
    found = await pipeline.status()
    # Nobody has costs/0.
    assert found == Status(12, ("costs/0", "purchases/0"), ("hole",), False)
    await beat(
        redis,
        3,
        "other",
        others | {"partitions": ["touchpoints/0", "purchases/0", "costs/0"], "behind": [], "gaps": []},
    )
    assert (await pipeline.status()).behind == ("costs/0", "purchases/0")  # not asked again within a second
    now[0] += 2
    assert (await pipeline.status()).behind == ()
    mine[TP("clicks", 0)] = 5000
    assert (await pipeline.status()).behind == ("clicks/0",)
    pipeline.worked(TP("clicks", 0), int((now[0] - 9) * 1000))
    assert (await pipeline.status()).behind == ()
    assert not pipeline.behind(10)
    assert pipeline.behind(5)
    now[0] += 2
    assert (await pipeline.status()).behind == ("clicks/0",)
    mine[TP("clicks", 0)] = 3
    assert not pipeline.behind(5)
    consumer.answered = lambda tp: False
    assert (await pipeline.status()).behind == ("clicks/0", "journey-events/0")


def test_silent_sources() -> None:
    marketing = Marketing(silence=Silence(purchases="2h"))
    progress = Progress(
        marks={"purchases/0": (0, 1, END - 2 * HOUR, True), "purchases/1": (0, 1, END - 9 * HOUR, True),
               "clicks/0": (0, 1, END - DAY - 1, False), "touchpoints/0": (0, 0, None, True),
               "journey-events/0": (0, 1, END - 9 * DAY, False)}
    )  # fmt: skip
    assert silent(progress, marketing, END) == ["clicks"]
    assert silent(progress, marketing, END + 1) == ["clicks", "purchases"]
    assert silent(None, marketing, END) == []


async def test_a_rebuild_keeps_what_fires(redis: Redis, writer: Writer) -> None:
    bench = Bench(redis, writer)
    await writer.commit(END, cells(SALE), spend(800))
    await bench.tick()
    await prepare(redis, INFRA.generation, INFRA.generation + 1, {})
    assert await stored(redis, INFRA.generation + 1) == await stored(redis, INFRA.generation)


async def test_an_error_of_redis_is_passed_on_and_nothing_is_said(redis: Redis, writer: Writer) -> None:
    bench = Bench(redis, writer)
    await writer.commit(END, cells(SALE), spend(800))
    await redis.set(writer.tables.key("alerts"), "no hash")
    with pytest.raises(RedisError):
        await bench.tick()
    assert bench.published == []


async def test_every_family_is_there(redis: Redis, writer: Writer) -> None:
    compared = Benchmark(name="x", metric="cpa", value=Decimal(3))
    bench = Bench(redis, writer, msgspec.structs.replace(MARKETING, benchmarks=(compared,)))
    await writer.commit(END, cells([*SALE, (END, SPRING, CLICKS, 1)]), spend(800))
    assert {name for name, _ in await bench.tick()} >= set(BOARD)


def test_notices_are_counted_from_zero_so_that_the_first_is_an_increase() -> None:
    text = Metrics().render().decode()
    for way in ("kafka", "webhook"):
        for outcome in ("sent", "again", "failed"):
            assert f'parcours_alert_notices_total{{outcome="{outcome}",way="{way}"}} 0.0' in text
