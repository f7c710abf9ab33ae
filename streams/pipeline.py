"""Whether the pipeline can be believed: what keeps alerts on cost per conversion unknown.

The leader knows its own partitions at once, those of other workers by their signs of life (`streams.generations`), how far each source
has come by the marks in the log.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from faust.types import TP
from redis.asyncio import Redis

from attribution.readings import Held
from attribution.watermarks import JOURNEY, Progress, topic_partitions
from models.settings import Marketing, micros
from streams.generations import alive
from streams.topics import logical
from streams.transport import Consumer

PROBLEMS = ("source_silent", "lag", "stale_costs", "redis_away", "gap")
FEW = 20
"""Records that may be unread without being behind: marks come all the time."""

RECENT = 10.0
"""A partition with more unread is not behind while it works on records younger than this (s)."""

HEARD_SECONDS = 6
ASK_SECONDS = 1.0
"""How often workers' signs of life are read."""


class Status(NamedTuple):
    """What is wrong now, by problem; `lag`: records not yet read, as far as is known."""

    lag: int | None = None
    behind: tuple[str, ...] = ()
    gaps: tuple[str, ...] = ()
    away: bool = False


class Pipeline:
    """Knows what this worker's partitions, and those of others, are at."""

    def __init__(
        self, redis: Redis, generation: int, marketing: Marketing, owner: str, *,
        held: Callable[[], Iterable[TP]], consumer: Callable[[], Consumer],
        gaps: Callable[[], Iterable[str]], away: Callable[[], bool],
        wall: Callable[[], float] = time.time, clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        """`held`, `gaps` and `away` are of this worker."""
        self._redis = redis
        self._generation = generation
        self._owner = owner
        self._held = held
        self._consumer = consumer
        self._gaps = gaps
        self._away = away
        self._wall = wall
        self._clock = clock
        self._all = {f"{topic}/{p}" for topic, n in topic_partitions(marketing).items() for p in range(n)}
        self._worked: dict[TP, int] = {}
        self._heard: dict[str, dict[str, Any]] = {}
        self._asked: float | None = None

    def worked(self, tp: TP, timestamp_ms: int) -> None:
        """A fetch of a partition is applied; its last record has this Kafka timestamp."""
        self._worked[tp] = timestamp_ms

    def own(self) -> dict[str, Any]:
        """This worker's part: partitions, those of them that are behind, unread records."""
        partitions, behind, total = [], [], 0
        for tp in self._held():
            name, lag = f"{logical(tp.topic)}/{tp.partition}", self._consumer().lag(tp)
            partitions.append(name)
            total += lag or 0
            if self._behind(tp, lag):
                behind.append(name)
        return {"partitions": sorted(partitions), "behind": sorted(behind), "lag": total, "gaps": sorted(self._gaps())}

    def behind(self, recent: float) -> bool:
        """Whether a partition of this worker has more unread, and works on records older than so many seconds."""
        consumer = self._consumer()
        return any(self._behind(tp, consumer.lag(tp), recent) for tp in self._held())

    def _behind(self, tp: TP, lag: int | None, recent: float = RECENT) -> bool:
        if lag is None:
            return True
        if lag <= FEW:
            return not self._consumer().answered(tp)
        at = self._worked.get(tp)
        return at is None or self._wall() - at / 1000 > recent

    async def status(self) -> Status:
        """Now. Raises what Redis raises."""
        if self._asked is None or self._clock() - self._asked >= ASK_SECONDS:
            self._heard = await alive(self._redis, self._generation, HEARD_SECONDS)
            self._asked = self._clock()
        told = [self.own(), *(said for owner, said in sorted(self._heard.items()) if owner != self._owner)]
        held = {name for said in told for name in said.get("partitions", ())}
        behind = {name for said in told for name in said.get("behind", ())} | (self._all - held)
        gaps = {text for said in told for text in said.get("gaps", ())}
        return Status(
            sum(said.get("lag", 0) for said in told), tuple(sorted(behind)), tuple(sorted(gaps)), self._away()
        )


def silent(progress: Progress | None, marketing: Marketing, now: int) -> list[str]:
    """Topics of which nothing has been heard for longer than `[silence]` allows; one never heard of is not among them."""
    newest: dict[str, int] = {}
    for source, mark in (progress.marks if progress else {}).items():
        topic = source.partition("/")[0]
        if mark[2] is not None and topic != JOURNEY:
            newest[topic] = max(mark[2], newest.get(topic, mark[2]))
    allowed = {topic: micros(getattr(marketing.silence, topic)) for topic in ("clicks", "touchpoints", "purchases")}
    return sorted(topic for topic, t in newest.items() if topic in allowed and now - t > allowed[topic])


def problems(status: Status, silent_topics: Iterable[str], networks: frozenset[str]) -> dict[str, bool]:
    """Each problem, and whether it is there."""
    return {
        "source_silent": bool(list(silent_topics)), "lag": bool(status.behind), "stale_costs": bool(networks),
        "redis_away": status.away, "gap": bool(status.gaps),
    }  # fmt: skip


def held_by(found: Mapping[str, bool], networks: frozenset[str]) -> Held:
    """What may not be concluded because of them: stale costs hold their networks, anything else holds all."""
    return Held(any(there for name, there in found.items() if name != "stale_costs"), networks)
