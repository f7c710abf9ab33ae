"""The composition root: the one place that builds clients and wires parts.

`faust -A streams.app worker` takes its settings from the environment; tests and the command line call `create_app`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import faust
import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from faust.types import TP
from redis.asyncio import Redis
from redis.exceptions import RedisError

from attribution import targets
from attribution.intake import Intake
from attribution.nodes.base import NEVER
from attribution.watermarks import JOURNEY, topic_partitions
from models.errors import ConfigError
from models.events import TOPICS
from models.settings import Infrastructure, Marketing, Rate, load_marketing
from streams import memory, transport
from streams.alerts import Watch
from streams.alignment import Alignment
from streams.api import Api, Snapshot, States
from streams.exporter import Exporter
from streams.forgetting import check_forget_key
from streams.generations import beat, current, gone, located, pinned
from streams.ingest import SourcePartition
from streams.journeys import find
from streams.lanes import Lanes
from streams.marks import Marks
from streams.metrics import Metrics
from streams.outbox import Outbox
from streams.pipeline import Pipeline
from streams.positions import Claims, Health, Part
from streams.rates import load_rates
from streams.security import kafka_options, redis_options
from streams.stitch import JourneyPartition
from streams.tables import Outcome, check_server, configs, connect, register_config, retrying
from streams.topics import journey_topic, logical
from streams.transport import Batch, RawSchema
from streams.web import add_pages

log = logging.getLogger(__name__)
T = TypeVar("T")
DRAIN_SECONDS = 5.0
START_SECONDS = 60.0
VERIFY_SECONDS = 2.0


class ParcoursApp(faust.App):
    """Faust's app with Parcours' runtime started before its consumer and stopped after it."""

    runtime: Runtime
    positions: Claims

    _beginning: asyncio.Task[None] | None = None

    async def on_start(self) -> None:
        await super().on_start()
        # A task of its own, which `on_stop` can end: whoever is told to stop while Redis or Kafka is waited for stops.
        self._beginning = asyncio.create_task(self.runtime.start(), name="start")
        await asyncio.wait({self._beginning})
        if not (self._beginning.cancelled() and self.should_stop):
            self._beginning.result()

    async def on_stop(self) -> None:
        await super().on_stop()
        if self._beginning is not None and not self._beginning.done():
            self._beginning.cancel()
            await asyncio.wait({self._beginning}, timeout=DRAIN_SECONDS)
        await self.runtime.stop()


class Runtime:
    """Everything a worker consists of besides Faust."""

    def __init__(self, app: ParcoursApp, infra: Infrastructure, marketing: Marketing, rates: list[Rate]) -> None:
        self.app = app
        self.infra = self._settings = infra
        self.marketing = marketing
        self.metrics = Metrics()
        self.health = Health(self.metrics)
        self.intake = Intake(marketing, rates, forgets=infra.forget_key is not None, key=infra.hash_key)
        self.lanes = Lanes(self.work, lambda: app.consumer)
        self.claims: Claims | None = None
        self.exporter: Exporter | None = None
        self.pipeline: Pipeline | None = None
        self.watch: Watch | None = None
        self.api = Api(self._snapshot, self._states, marketing)
        self.journey = JOURNEY
        self.journey_topics = [JOURNEY]  # the topic that stitch reads; `start` puts the generation's into it
        self.redis: Redis | None = None
        self.owner = owner()
        self.wall: Callable[[], float] = time.time
        self.clock: Callable[[], float] = time.monotonic
        self.cpu: Callable[[], float] = time.thread_time
        self.connect: Callable[..., Redis] = connect
        self.new_producer: Callable[[Infrastructure], AIOKafkaProducer] = new_producer
        self._producer: AIOKafkaProducer | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Connect, register the configuration, tell every partition of it, then let Faust claim."""
        self.redis = self.connect(self.infra.redis_url, **redis_options(self.infra))
        loop = asyncio.get_running_loop()
        deadline = loop.time() + START_SECONDS
        text = self.marketing.text()
        redis = self.redis

        async def patiently(call: Callable[[], Awaitable[T]]) -> T:
            return await retrying(
                call,
                stopped=lambda: loop.time() > deadline,
                on_away=self.health.redis_away,
                on_back=self.health.redis_back,
            )

        known = await patiently(lambda: current(redis))
        self.infra = await patiently(lambda: located(redis, self._settings))
        self.journey_topics[:] = [self.journey] = [journey_topic(self.infra.generation)]
        await patiently(lambda: check_forget_key(redis, self.infra.forget_key, register=True))
        self._check_rebuild(await patiently(lambda: configs(redis, self.infra.generation)))
        number = await patiently(lambda: register_config(redis, self.infra.generation, text))
        for message in await check_server(redis):
            log.warning("Redis: %s", message)
        self.metrics.config(self.marketing.digest(), number)
        self._producer = self.new_producer(self.infra)
        await self._producer.start()
        await self._check_generation(known)
        await self._check_topics(deadline)
        outbox = Outbox(self._producer, self.marketing.topics.journey_events, self.journey)
        for partition in range(self.marketing.topics.journey_events):
            await outbox.configured(number, text, partition)
        self.claims = self.app.positions = Claims(
            redis, outbox, self.metrics, self.health, self.infra, self.marketing, self.intake, self.owner, number
        )
        self.claims.align = Alignment(self.claims.parts, self._at_end).wait
        clocks: dict[str, Any] = {"wall": self.wall, "clock": self.clock}
        app, health = self.app, self.health
        self.pipeline = Pipeline(
            redis, self.infra.generation, self.marketing, self.owner, held=self.claims.parts.keys, consumer=lambda: app.consumer,
            gaps=health.gaps.values, away=lambda: health.away is not None, **clocks,
        )  # fmt: skip
        self.watch = Watch(
            redis, self.infra, self.marketing, self.metrics, self.pipeline, token=self._token, wall=self.wall,
            publish=lambda values: outbox.values("alerts", values),
        )  # fmt: skip
        self.exporter = Exporter(
            redis,
            self.infra,
            self.marketing,
            self.metrics,
            self._leads,
            self.watch,
            behind=self.pipeline.behind,
            cpu=self.cpu,
            **clocks,
        )
        marks = Marks(
            self.claims, outbox, self._at_end,
            interval=self.infra.mark_interval, idle_after=self.infra.idle_after,
        )  # fmt: skip
        runs = (
            marks.run, self.exporter.run, self.watch.publish, self.watch.deliver, self._gauge, self._verify,
            memory.collect_cycles,
        )  # fmt: skip
        self._tasks = [asyncio.create_task(run()) for run in runs]

    async def _check_generation(self, known: int | None) -> None:
        """A Redis that has lost which generation is current must not send us back to the first one."""
        if known is not None or pinned(self._settings):
            return
        assert self._producer is not None
        later = [topic for topic in await topic_names(self._producer) if logical(topic) == JOURNEY != topic]
        if later:
            raise ConfigError(
                f"Redis does not say which generation is current, and Kafka has {', '.join(sorted(later))}: "
                "say which with parcours rebuild --resume NUMBER"
            )

    def _check_rebuild(self, known: dict[int, str]) -> None:
        """Refuse a configuration under which stored state would mean something else."""
        newest = max(known, default=0)
        if newest and (keys := self.marketing.needs_rebuild(Marketing.from_text(known[newest]))):
            raise ConfigError(
                f"{', '.join(keys)}: changed since configuration {newest}, and stored state depends on it; "
                "change it back, or run: parcours rebuild"
            )

    async def _check_topics(self, deadline: float) -> None:
        """Partition counts are part of the configuration: the set of sources decides watermarks."""
        assert self._producer is not None
        for name, wanted in topic_partitions(self.marketing).items():
            topic = self.journey if name == JOURNEY else name
            found: set[int] = set()
            while not found:
                with contextlib.suppress(KafkaError):
                    found = await self._producer.partitions_for(topic) or set()
                if not found and asyncio.get_running_loop().time() > deadline:
                    raise ConfigError(f"topic {topic} does not exist; create it with: parcours topics create")
            if len(found) != wanted:
                raise ConfigError(
                    f"topics.{topic}: configured with {wanted} partitions, but Kafka has {len(found)}; "
                    "correct the configuration, or rebuild for another count"
                )

    async def stop(self) -> None:
        """Let what is under way finish, then close."""
        await self.lanes.stop(DRAIN_SECONDS)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.claims is not None:
            for tp in list(self.claims.parts):
                self.claims.released(tp)
        if self.redis is not None and self.claims is not None:
            with contextlib.suppress(RedisError, OSError):
                await gone(self.redis, self.infra.generation, self.owner)
        if self._producer is not None:
            await self._producer.stop()
        if self.redis is not None:
            await self.redis.aclose()

    async def work(self, batch: Batch) -> None:
        """One fetch of one partition, to the end: apply, then say so, or claim again."""
        assert self.claims is not None
        part = self.claims.parts.get(batch.tp)
        if part is None:
            return
        # A batch before this one may have got lost between the fetch and here, as with an agent that fails.
        whole = batch.start == part.position.offset
        outcome = await part.work(batch) if whole else Outcome.REWIND
        if outcome is Outcome.APPLIED:
            self.app.consumer.done(batch)
            if batch.records and self.pipeline is not None:
                self.pipeline.worked(batch.tp, batch.records[-1].timestamp)
            return
        log.warning("%s-%s: commit answered %s; claiming again", batch.tp.topic, batch.tp.partition, outcome.value)
        self.metrics.rewind() if outcome is Outcome.REWIND else self.metrics.fenced()
        await self.app.consumer.reclaim(batch.tp)

    def _at_end(self, tp: TP) -> bool:
        return bool(self.app.consumer.at_end(tp))

    async def _gauge(self) -> None:
        """Lag, once a second."""
        while True:
            await asyncio.sleep(1.0)
            assert self.claims is not None
            for tp in list(self.claims.parts):
                lag = self.app.consumer.lag(tp)
                if lag is not None:
                    self.metrics.lag(logical(tp.topic), tp.partition, lag)

    async def _verify(self) -> None:
        """A commit notices when Redis went back; a partition at the end of its log has none to make, so it is asked."""
        claims: set[asyncio.Task[int | None]] = set()
        while True:
            await asyncio.sleep(VERIFY_SECONDS)
            assert self.claims is not None
            with contextlib.suppress(RedisError, OSError):
                await self._alive()
            for tp, part in list(self.claims.stopped.items()):
                with contextlib.suppress(RedisError, OSError):
                    if not await part.stands() and self.claims.stopped.get(tp) is part:
                        log.warning("%s-%s: its position was changed at a gap; claiming again", tp.topic, tp.partition)
                        await self.app.consumer.reclaim(tp)
            for tp, part in list(self.claims.parts.items()):
                try:
                    if tp in self.app.consumer.busy or await part.stands():
                        continue
                    if (
                        self.claims.parts.get(tp) is part
                        and tp not in self.app.consumer.busy
                        and not await part.stands()
                    ):
                        log.warning("%s-%s: Redis went back or was claimed; claiming again", tp.topic, tp.partition)
                        self.metrics.rewind()
                        # A refused claim is tried for as long as the partition is assigned: the others are not to wait for it.
                        claims.add(task := asyncio.create_task(self.app.consumer.reclaim(tp)))
                        task.add_done_callback(claims.discard)
                except (RedisError, OSError):
                    continue
                except Exception:
                    log.exception("%s-%s: not verified", tp.topic, tp.partition)

    async def _alive(self) -> None:
        """A sign of life, and a look whether a rebuild has begun a generation without us."""
        assert self.redis is not None
        assert self.claims is not None
        assert self.pipeline is not None
        at = {**self.pipeline.own(), "config": self.claims.number}
        await beat(self.redis, self.infra.generation, self.owner, at)
        now = await current(self.redis) or 0
        if not pinned(self._settings) and now != self.infra.generation:
            self.health.outdated = f"generation {now} has begun, this worker is of {self.infra.generation}: restart it"

    def _leads(self) -> bool:
        """The leader exports business metrics: it owns partition 0 of the log."""
        return self.claims is not None and TP(self.journey, 0) in self.claims.parts

    def _token(self) -> str | None:
        """The token of the claim of partition 0; None while this worker does not lead."""
        part = self.claims.parts.get(TP(self.journey, 0)) if self.claims is not None else None
        return part.token if isinstance(part, JourneyPartition) else None

    def exposition(self) -> bytes:
        """The body of `/metrics`."""
        return self.metrics.render() + (self.exporter.body() if self.exporter else b"")

    def problems(self) -> list[str]:
        """Why this worker is not ready; empty when it is."""
        problems = list(self.health.gaps.values())
        if self.health.away is not None:
            problems.append(f"Redis is away: {self.health.away}")
        if self.health.outdated is not None:
            problems.append(self.health.outdated)
        if self.claims is None or not self.claims.parts:
            problems.append("no partition is claimed yet")
        return problems

    def status(self) -> dict[str, Any]:
        """What the live table shows."""
        parts = self.claims.parts if self.claims else {}
        sources = [part for part in parts.values() if isinstance(part, SourcePartition)]
        return {
            "leader": self._leads(),
            "partitions": sorted(f"{tp.topic}-{tp.partition}" for tp in parts),
            "sources": len(sources),
            "claims": [self._claim_status(tp, part) for tp, part in sorted(parts.items())],
            "generation": self.infra.generation,
            "configuration": {
                "hash": self.marketing.digest(),
                "number": self.claims.number if self.claims else None,
            },
            "problems": self.problems(),
            "business": self.exporter.status() if self.exporter else {},
            "alerts": self.watch.status() if self.watch else {},
        }

    def pulse(self) -> dict[str, Any]:
        """What an open page must know at once: whether there are newer figures, and how the worker keeps up."""
        parts = self.claims.parts if self.claims else {}
        lags = [lag for tp in parts if (lag := self.app.consumer.lag(tp)) is not None]
        snapshot = self._snapshot()
        return {
            "version": snapshot.number if snapshot else None,
            "leader": self._leads(),
            "states": self._states().number,
            "lag": sum(lags) if lags else None,
            "problems": self.problems(),
        }

    def _snapshot(self) -> Snapshot | None:
        return self.exporter.snapshot() if self.exporter else None

    def _states(self) -> States:
        return States(self.watch.turns, self.watch.rows()) if self.watch else States(0, [])

    def web_token(self) -> str | None:
        """What opens a person's data on the page; None keeps it shut."""
        token = self.infra.web_token.get_secret_value() if self.infra.web_token else ""
        return token or None

    async def find_journey(self, person: str) -> bytes | None:
        """One person's journey as JSON; None when nothing of them is known."""
        if self.redis is None:
            return None
        found = await find(self.redis, self.infra.generation, self.marketing, person, self.infra.hash_key)
        return None if found is None else msgspec.json.encode(found)

    def _claim_status(self, tp: TP, part: Part) -> dict[str, Any]:
        """Where one partition stands. Times in seconds since 1970, None while unknown."""
        status: dict[str, Any] = {
            "topic": logical(tp.topic), "partition": tp.partition, "position": part.position.offset,
            "entry": part.position.entry, "lag": self.app.consumer.lag(tp),
        }  # fmt: skip
        if isinstance(part, SourcePartition):
            return status | {"incarnation": part.incarnation, "last_event": _seconds(part.max_time)}
        progress = part.progress
        return status | {"watermark": _seconds(progress.watermark), "sealed": _seconds(progress.sealed)}


def _seconds(t: int | None) -> float | None:
    return None if t is None or t == NEVER else t / 1_000_000


async def topic_names(producer: AIOKafkaProducer) -> set[str]:
    """All topics that Kafka has; of a producer without a client (the one in memory), none."""
    client = getattr(producer, "client", None)
    return set() if client is None else set((await client.fetch_all_metadata()).topics())


def bootstrap(url: str) -> list[str]:
    """`kafka://a:9092;kafka://b:9092` as a list of host:port."""
    return [re.sub(r"^\w+://", "", part.strip()).rstrip("/") for part in re.split("[;,]", url) if part.strip()]


def new_producer(infra: Infrastructure) -> AIOKafkaProducer:
    """The producer of all that a worker sends."""
    return AIOKafkaProducer(
        bootstrap_servers=bootstrap(infra.kafka_url), acks="all", max_request_size=8 << 20, linger_ms=0,
        request_timeout_ms=30_000, **kafka_options(infra),
    )  # fmt: skip


def owner() -> str:
    """A name for this worker, for people reading Redis."""
    return f"{socket.gethostname()}:{os.getpid()}"


def create_app(infra: Infrastructure | None = None, marketing: Marketing | None = None) -> ParcoursApp:
    """Build a worker. Raises ConfigError when the configuration is wrong."""
    infra = infra or Infrastructure()
    marketing = marketing if marketing is not None else load_marketing(infra.config)
    rates = load_rates(marketing, infra.config)
    targets.check(marketing)
    transport.register()
    app = ParcoursApp(**transport.app_settings(infra))
    app.runtime = Runtime(app, infra, marketing, rates)
    runtime = app.runtime

    def on_transport(what: str, tp: TP) -> None:
        if what == "watchdog":
            runtime.metrics.rewind()

    app.on_transport = on_transport
    schema = RawSchema()
    sources = app.topic(*TOPICS, schema=schema)
    journey = app.topic(JOURNEY, schema=schema)
    journey.topics = runtime.journey_topics

    @app.agent(sources, concurrency=1, name="ingest")
    async def ingest(stream: Any) -> None:
        async for batch in stream:
            await runtime.lanes.put(batch)

    @app.agent(journey, concurrency=1, name="stitch")
    async def stitch(stream: Any) -> None:
        async for batch in stream:
            await runtime.lanes.put(batch)

    add_pages(app)
    return app


def __getattr__(name: str) -> Any:
    if name == "app":
        return create_app()
    raise AttributeError(name)
