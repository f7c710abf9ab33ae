"""Claims: which partitions this worker holds, and the state each one goes on from. The position in Redis is the truth."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec
from faust.types import TP
from redis.asyncio import Redis

from attribution.forgetting import Forgotten
from attribution.intake import Intake
from attribution.watermarks import JOURNEY, Progress
from models.errors import ConfigError
from models.settings import Infrastructure, Marketing
from streams.caches import bucket_of
from streams.codec import FORMAT, Names
from streams.erasing import FORGOTTEN_SET
from streams.ingest import SourcePartition
from streams.metrics import Metrics
from streams.outbox import Outbox
from streams.stitch import JourneyPartition
from streams.tables import Claimed, Committed, Refused, Tables, ingest_tag, is_away, journey_tag, note_config, retrying
from streams.topics import logical

log = logging.getLogger(__name__)
T = TypeVar("T")
Part = SourcePartition | JourneyPartition


class PatientTables(Tables):
    """Tables that wait for Redis to come back, until `close` says that the partition is no longer ours."""

    def __init__(self, redis: Redis, tag: str, health: Health) -> None:
        super().__init__(redis, tag)
        self._health = health
        self.closed = False

    def close(self) -> None:
        """End all waiting with `Away`."""
        self.closed = True

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        return await retrying(
            call, stopped=lambda: self.closed, on_away=self._health.redis_away, on_back=self._health.redis_back
        )

    async def commit(self, *args: Any, **kwargs: Any) -> Committed:
        """As `Tables.commit`."""
        return await self._patiently(lambda: super(PatientTables, self).commit(*args, **kwargs))

    async def get(self, *args: Any, **kwargs: Any) -> list[bytes | None]:
        """As `Tables.get`."""
        return await self._patiently(lambda: super(PatientTables, self).get(*args, **kwargs))

    async def hget(self, *args: Any, **kwargs: Any) -> list[bytes | None]:
        """As `Tables.hget`."""
        return await self._patiently(lambda: super(PatientTables, self).hget(*args, **kwargs))

    async def sample(self, *args: Any, **kwargs: Any) -> list[bytes]:
        """As `Tables.sample`."""
        return await self._patiently(lambda: super(PatientTables, self).sample(*args, **kwargs))


class Health:
    """What readiness tells: whether Redis answers, and partitions that stand still at a gap."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self.away: str | None = None
        self.gaps: dict[TP, str] = {}
        self.outdated: str | None = None

    def redis_away(self, error: Exception) -> None:
        """A call failed and is tried again."""
        self._metrics.redis_away()
        self.away = str(error)

    def redis_back(self) -> None:
        """A call succeeded."""
        self.away = None


class Claims:
    """The partitions held, by topic-partition; what the transport asks where to read from."""

    def __init__(
        self, redis: Redis, outbox: Outbox, metrics: Metrics, health: Health, infra: Infrastructure, marketing: Marketing,
        intake: Intake, owner: str, number: int,
    ) -> None:  # fmt: skip
        self.parts: dict[TP, Part] = {}
        self.stopped: dict[TP, Part] = {}
        """Those that stand still at a gap, as they were when it was found."""
        self.number = number
        self.align: Callable[[int], Awaitable[None]] | None = None
        self._tables: dict[TP, PatientTables] = {}
        self._redis = redis
        self._outbox = outbox
        self._metrics = metrics
        self._health = health
        self._infra = infra
        self._marketing = marketing
        self._intake = intake
        self._owner = owner

    async def claim(self, tp: TP, generation: int, force: bool = False) -> int | None:
        """Take a partition and load what it goes on from; None when refused."""
        self.released(tp)
        journey = logical(tp.topic) == JOURNEY
        g = self._infra.generation
        tag = journey_tag(g, tp.partition) if journey else ingest_tag(g, tp.topic, tp.partition)
        tables = PatientTables(self._redis, tag, self._health)
        self._tables[tp] = tables
        try:
            claimed = await tables.claim(self._owner, generation, config=self.number, formats=(FORMAT,), force=force)
        except Exception as error:
            if is_away(error):
                self._health.redis_away(error)
            raise  # the transport tries again
        self._health.redis_back()
        if isinstance(claimed, Refused):
            self._refused(tp, claimed)
            return None
        part = await self._journey(tp, tables, claimed) if journey else self._source(tp, tables, claimed)
        if self._tables.get(tp) is not tables:
            return None
        self._metrics.gap(logical(tp.topic), tp.partition, False)
        self._metrics.claim()
        self.parts[tp] = part
        self._share_memory()
        return claimed.position.offset

    def _share_memory(self) -> None:
        """What a worker may keep in memory is for all the partitions of the log that it holds, however many."""
        held = [part for part in self.parts.values() if isinstance(part, JourneyPartition)]
        for part in held:
            part.cache((self._infra.cache_mb << 20) // len(held))

    def _refused(self, tp: TP, refused: Refused) -> None:
        if refused.reason == "generation":
            log.info("%s-%s is held by %s at a later group generation", tp.topic, tp.partition, refused.owner)
            return
        where = f"{tp.topic}-{tp.partition} has {refused.reason} {refused.stored}"
        if refused.reason == "format" and refused.stored < FORMAT:
            self._outdate(f"{where}, of an earlier version, and this one reads {FORMAT}", "parcours rebuild")
            return
        self._outdate(f"{where}, newer than this worker's")

    def _source(self, tp: TP, tables: PatientTables, claimed: Claimed) -> SourcePartition:
        return SourcePartition(
            tp.topic, tp.partition, tables, claimed, self._intake, self._outbox, self._metrics, self.number,
            self.align if tp.topic == "purchases" else None,
        )  # fmt: skip

    async def _journey(self, tp: TP, tables: PatientTables, claimed: Claimed) -> JourneyPartition:
        progress = msgspec.msgpack.decode(claimed.state, type=Progress) if claimed.state else Progress()
        names, live, (text,), hashes = await asyncio.gather(
            tables.hgetall("names"), tables.live(), tables.get(["config"]), tables.smembers(FORGOTTEN_SET)
        )
        key = self._infra.hash_key
        if key is None and hashes:
            raise ConfigError("PARCOURS_FORGET_KEY is not set for this worker, and there is a forget list")
        marketing = Marketing.from_text(text.decode()) if text else self._marketing
        buckets = [bucket for suffix in live if (bucket := bucket_of(suffix)) is not None]
        return JourneyPartition(
            tp.partition, self._infra.generation, tables, claimed.token, claimed.position, claimed.seq, progress, marketing,
            Names({int(number): packed for number, packed in names.items()}), buckets, self._outbox, self._metrics, self._configured,
            commit_entries=self._infra.commit_entries, cache=0,
            forgotten=None if key is None else Forgotten(key, hashes, hashed=marketing.privacy.ids == "hashed"),
        )  # fmt: skip

    async def _configured(self, number: int, text: str) -> None:
        """The log says which configuration applies from here on: keep it, and see whether ours is behind.

        After a loss of Redis the numbers are given anew while the log still has the old ones; the same text is the same
        configuration, whatever its number.
        """
        known = await retrying(
            lambda: note_config(self._redis, self._infra.generation, number, text),
            stopped=lambda: False, on_away=self._health.redis_away, on_back=self._health.redis_back,
        )  # fmt: skip
        if not known:
            log.error("configuration %s in the log is not the one of that number in Redis", number)
        if number > self.number:
            if text == self._marketing.text():
                self.number = number
            else:
                self._outdate(f"the log is under configuration {number}, this worker has {self.number}")

    def _outdate(self, message: str, remedy: str = "start this worker with the current configuration") -> None:
        self._health.outdated = f"{message}: {remedy}"
        log.error(self._health.outdated)

    def released(self, tp: TP) -> None:
        """The partition is no longer ours: what is cached of it is stale, what waits for Redis ends."""
        if self.parts.pop(tp, None) is not None:
            self._share_memory()
        self.stopped.pop(tp, None)
        self._health.gaps.pop(tp, None)
        tables = self._tables.pop(tp, None)
        if tables is not None:
            tables.close()
        self._metrics.released(logical(tp.topic), tp.partition)

    def gap(self, tp: TP, wanted: int, earliest: int | None) -> None:
        """The log does not hold what comes next: loud, until an operator resets the source."""
        part = self.parts.get(tp)
        self.released(tp)
        if part is not None:
            self.stopped[tp] = part
        where = "which has become shorter"
        if earliest is not None:
            where = f"which begins at {earliest}" + (" and ends before it" if wanted > earliest else "")
        fix = (
            "parcours rebuild" if logical(tp.topic) == JOURNEY else f"parcours sources reset {tp.topic} {tp.partition}"
        )
        self._health.gaps[tp] = f"gap: offset {wanted} is not in {tp.topic}-{tp.partition}, {where}; see {fix}"
        self._metrics.gap(logical(tp.topic), tp.partition, True)
