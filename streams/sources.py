"""Where every partition stands, from Redis and Kafka; and giving a source a new incarnation.

A source is read by position. When its topic was made anew, or lost what comes next, the position is worth nothing, and the
numbers that the log knows its records by would make new ones look like repeats. A reset gives it a new name, an incarnation
(`clicks/3/1`), and a new position.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
from aiokafka import TopicPartition
from redis.asyncio import Redis

from attribution.nodes.base import NEVER
from attribution.watermarks import JOURNEY, Progress, topic_partitions
from models.settings import Marketing
from models.wire import source_id
from streams.codec import FORMAT
from streams.generations import alive
from streams.ingest import IngestState
from streams.logs import Bounds, Kafka, bounds, partitions
from streams.tables import Claimed, Outcome, Position, Tables, Writes, ingest_tag, journey_tag
from streams.topics import journey_topic


class Stand(NamedTuple):
    """One partition. `bounds` is None when Kafka has no such partition; times in microseconds, None while unknown.

    Of a source, `last_event` is the highest event time read, `mark` what the log was last told of it: (incarnation, offset,
    highest event time, idle). Of a partition of the log, `last_event` is its highest event time.
    """

    topic: str
    partition: int
    position: Position
    bounds: Bounds | None
    owner: str
    alive: bool
    incarnation: int = 0
    last_event: int | None = None
    mark: tuple[int, int, int | None, bool] | None = None
    watermark: int | None = None
    sealed: int | None = None

    @property
    def lag(self) -> int | None:
        """Records still to be read; None when that can't be said."""
        return None if self.bounds is None or self.gap else self.bounds.end - self.position.offset

    @property
    def gap(self) -> str | None:
        """Why this partition can't be read on; None when it can."""
        at, span = self.position.offset, self.bounds
        if span is None:
            return "no such partition"
        if at < span.begin:
            return f"begins at {span.begin}"
        return f"ends at {span.end}" if at > span.end else None


async def stands(redis: Redis, kafka: Kafka, marketing: Marketing, generation: int) -> list[Stand]:
    """All partitions of the sources, then of the log."""
    counts = topic_partitions(marketing)
    names = {topic: journey_topic(generation) if topic == JOURNEY else topic for topic in counts}
    span = await bounds(kafka, await partitions(kafka, names.values()))
    living = await alive(redis, generation)
    progress = {p: await _progress(redis, generation, p) for p in range(counts[JOURNEY])}
    heard = progress[0].marks if progress else {}
    found = []
    for topic, count in counts.items():
        for p in range(count):
            tag = journey_tag(generation, p) if topic == JOURNEY else ingest_tag(generation, topic, p)
            owner, position, state = await redis.execute_command("HMGET", f"{tag}meta", "owner", "position", "state")
            name = (owner or b"").decode()
            held = f"{topic}/{p}" in living.get(name, {}).get("partitions", ())
            offset, _, entry = (position or b"0:0").partition(b":")
            stand = Stand(
                topic, p, Position(int(offset), int(entry)), span.get(TopicPartition(names[topic], p)), name, held
            )
            if topic == JOURNEY:
                own = progress[p]
                stand = stand._replace(
                    last_event=_time(own.highest), watermark=_time(own.watermark), sealed=_time(own.sealed)
                )
            else:
                kept = IngestState.unpack(state)
                stand = stand._replace(
                    incarnation=kept.incarnation, last_event=kept.max_time, mark=heard.get(source_id(topic, p))
                )
            found.append(stand)
    return found


async def reset(redis: Redis, stand: Stand, generation: int, to: int) -> int:
    """Raise a source's incarnation and have it read from offset `to` on; the new incarnation.

    It takes the claim, so whoever holds the partition is fenced with its next commit, and claims again. The incarnation is
    above the one the log has heard of, which Redis may have lost. Raises RuntimeError when somebody claims meanwhile.
    """
    tables = Tables(redis, ingest_tag(generation, stand.topic, stand.partition))
    config = await redis.execute_command("HGET", tables.key("meta"), "config")
    # Generation 0 of the group: any worker may claim it from us.
    claimed = await tables.claim("parcours sources reset", 0, config=int(config or 0), formats=(FORMAT,), force=True)
    if not isinstance(claimed, Claimed):
        raise RuntimeError(f"its state has {claimed.reason} {claimed.stored}, which this version can't read")
    kept = IngestState.unpack(claimed.state)
    heard = stand.mark[0] if stand.mark is not None else 0
    state = IngestState(kept.max_time, max(kept.incarnation, heard) + 1)
    committed = await tables.commit(
        claimed.token, claimed.position, Position(to), state.pack(), claimed.seq + 1, int(config or 0), Writes()
    )
    if committed.outcome is not Outcome.APPLIED:
        raise RuntimeError("a worker claimed it at the same moment; try again")
    return state.incarnation


async def _progress(redis: Redis, generation: int, partition: int) -> Progress:
    state = await redis.execute_command("HGET", f"{journey_tag(generation, partition)}meta", "state")
    return msgspec.msgpack.decode(state, type=Progress) if state else Progress()


def _time(t: int) -> int | None:
    return None if t == NEVER else t


def as_json(stand: Stand) -> dict[str, Any]:
    """For programs; times in seconds since 1970."""

    def seconds(t: int | None) -> float | None:
        return None if t is None else t / 1_000_000

    line: dict[str, Any] = {
        "topic": stand.topic, "partition": stand.partition, "position": stand.position.offset,
        "begin": stand.bounds.begin if stand.bounds else None, "end": stand.bounds.end if stand.bounds else None,
        "lag": stand.lag, "gap": stand.gap, "owner": stand.owner or None, "alive": stand.alive,
        "last_event": seconds(stand.last_event),
    }  # fmt: skip
    if stand.topic == JOURNEY:
        return line | {"watermark": seconds(stand.watermark), "sealed": seconds(stand.sealed)}
    return line | {"incarnation": stand.incarnation, "idle": bool(stand.mark and stand.mark[3])}
