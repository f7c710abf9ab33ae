"""What a partition of the log knows of its sources: what it has applied, how far they have come, what is sealed.

All of it is read from the log and stored together with the position, so a replay decides the same (design: watermarks
travel in the log).
"""

from __future__ import annotations

from msgspec import Struct, field

from attribution.nodes.base import NEVER
from models.settings import Marketing
from models.wire import Mark, source_id

JOURNEY = "journey-events"


class Progress(Struct, array_like=True):
    """The part of a partition's state that is not in nodes or rollups; packed whole with every commit.

    `applied` is the highest (offset, k) applied per source, incarnation included. `marks` and `announced` are
    (incarnation, to_offset, max_time, idle) per source without it. Times in microseconds. `admitted` counts names given to
    what events call things.

    Moves take two hops (order → device → customer), so sealing takes two rounds of announcements. `heard` is the least
    watermark that all partitions have announced: all they had to send has arrived. `sealed` is the least of what
    they had `heard` when they announced it (`heards`): what they passed on because of it has arrived too.
    """

    watermark: int = NEVER
    sealed: int = NEVER
    highest: int = NEVER
    applied: dict[str, tuple[int, int]] = field(default_factory=dict)
    marks: dict[str, tuple[int, int, int | None, bool]] = field(default_factory=dict)
    config: int = 0
    swept: int = 0
    admitted: int = 0
    heard: int = NEVER
    heards: dict[str, int] = field(default_factory=dict)

    def mark(self, mark: Mark, sources: frozenset[str], partitions: frozenset[str]) -> None:
        """Take a mark: of one source the highest incarnation, then offset, wins; idleness comes after it."""
        base, incarnation = split_source(mark.source)
        new = (incarnation, mark.to_offset, mark.max_time, mark.idle)
        old = self.marks.get(base)
        if old is not None and (old[0], old[1], old[3]) > (new[0], new[1], new[3]):
            return
        if old is not None and old[2] is not None and (new[2] is None or new[2] < old[2]):
            new = (*new[:2], old[2], new[3])
        self.marks[base] = new
        if base in partitions:
            if mark.heard is not None:
                self.heards[base] = max(self.heards.get(base, NEVER), mark.heard)
            self.heard = max(self.heard, self._heard(partitions))
            self.sealed = max(self.sealed, min(self.heards.get(partition, NEVER) for partition in partitions))
        elif base in sources:
            if new[2] is not None:
                self.highest = max(self.highest, new[2])
            self.watermark = max(self.watermark, self._watermark(sources))

    def _watermark(self, sources: frozenset[str]) -> int:
        """The minimum over sources that are not idle; one never heard from holds it; all idle: the maximum."""
        busy: list[int] = []
        idle: list[int] = []
        for source in sources:
            heard = self.marks.get(source)
            if heard is None or (heard[2] is None and not heard[3]):
                return NEVER
            if heard[2] is not None:
                (idle if heard[3] else busy).append(heard[2])
        return min(busy) if busy else max(idle, default=NEVER)

    def _heard(self, partitions: frozenset[str]) -> int:
        heard = [self.marks.get(partition) for partition in partitions]
        times = [mark[2] if mark is not None and mark[2] is not None else NEVER for mark in heard]
        return min(times)


def split_source(source: str) -> tuple[str, int]:
    """`clicks/3` and `clicks/3/1` are one source in incarnations 0 and 1."""
    topic, partition, *incarnation = source.split("/")
    return f"{topic}/{partition}", int(incarnation[0]) if incarnation else 0


def expected_sources(marketing: Marketing) -> frozenset[str]:
    """Every source partition that must be heard from."""
    counts = topic_partitions(marketing)
    return frozenset(source_id(topic, p) for topic, n in counts.items() if topic != JOURNEY for p in range(n))


def announcing_partitions(marketing: Marketing) -> frozenset[str]:
    """Every partition of the log: each announces its watermark to all."""
    return frozenset(source_id(JOURNEY, p) for p in range(marketing.topics.journey_events))


def topic_partitions(marketing: Marketing) -> dict[str, int]:
    """Partition counts of the source topics and of the log."""
    topics = marketing.topics
    return {
        "clicks": topics.clicks,
        "touchpoints": topics.touchpoints,
        "purchases": topics.purchases,
        "costs": topics.costs,
        JOURNEY: topics.journey_events,
    }
