"""Dead letters: what they say, and publishing them again.

A letter is known by its origin: topic, partition and offset of the event it stands for (and incarnation, once that topic was
reset). The same event may be written to the dead letters more than once (a crash before a commit, a rebuild): it is one letter.

What was published again is remembered in the Redis set `{parcours}retried:<topic>`, after Kafka has acknowledged it: a retry
is at-least-once, and stops being repeated once it is remembered. The event's own id makes a second one harmless.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from contextlib import suppress
from typing import Literal, NamedTuple

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from redis.asyncio import Redis

from models.events import TOPICS
from models.wire import source_id
from streams.logs import Bounds, Kafka, bounds, partitions, reader, record_at, records

RETRY_OF = "parcours-retry-of"
"""The header of an event published again: `topic/partition/offset` of the event it repeats."""

_OWN = "parcours-"
_IN_FLIGHT = 500

State = Literal["retry", "retried", "late", "forgotten", "not_retained", "not_an_event"]


class Letter(NamedTuple):
    """A dead letter. `headers` are those of the event, `pointer` says that `value` is not the event itself but what the log had of it.

    `written` is the letter's Kafka timestamp in ms; `retry_of` the origin of the event of which this one was already a retry.
    """

    code: str
    path: str
    message: str
    topic: str
    partition: int
    offset: int
    incarnation: int
    written: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    pointer: bool
    retry_of: str | None

    @property
    def origin(self) -> str:
        """`topic/partition/offset`, and the incarnation where there is one."""
        base = f"{self.topic}/{self.partition}/{self.offset}"
        return f"{base}/{self.incarnation}" if self.incarnation else base


class Step(NamedTuple):
    """What becomes of one letter."""

    letter: Letter
    state: State


def read_letter(record: ConsumerRecord) -> Letter | None:
    """The letter in a record of a dead-letter topic; None when it is none of ours."""
    # The event's own headers come first: one that looks like ours does not win.
    told = {name: (value or b"").decode("utf-8", "replace") for name, value in record.headers if name.startswith(_OWN)}
    with suppress(KeyError, ValueError):
        return Letter(
            told["parcours-code"], told["parcours-path"], told["parcours-message"], told["parcours-topic"],
            int(told["parcours-partition"]), int(told["parcours-offset"]), int(told.get("parcours-incarnation", 0)),
            record.timestamp, record.key, record.value,
            tuple((name, value) for name, value in record.headers if not name.startswith(_OWN)),
            "parcours-pointer" in told, told.get(RETRY_OF),
        )  # fmt: skip
    return None


async def letters(kafka: Kafka, topics: Iterable[str] = TOPICS, codes: Collection[str] = ()) -> AsyncIterator[Letter]:
    """All letters of these source topics, each origin once; with `codes`, only those. Raises KafkaError."""
    seen: set[str] = set()
    async for record in records(kafka, [f"dlq.{topic}" for topic in topics]):
        letter = read_letter(record)
        if letter is None or (codes and letter.code not in codes) or letter.origin in seen:
            continue
        seen.add(letter.origin)
        yield letter


class Retry:
    """Publishes letters again. `late` ones only when asked for by their code: they would be late again.

    `forgotten` tells of an event whether it is about a forgotten person: those never.
    """

    def __init__(
        self, kafka: Kafka, redis: Redis, *, late: bool = False, again: bool = False, dry_run: bool = False,
        forgotten: Callable[[bytes | None], bool] = lambda event: False,
    ):  # fmt: skip
        self._kafka = kafka
        self._redis = redis
        self._late = late
        self._again = again
        self._dry_run = dry_run
        self._forgotten = forgotten
        self._producer: AIOKafkaProducer | None = None
        self._spans: dict[TopicPartition, Bounds] = {}

    async def run(self, found: AsyncIterator[Letter]) -> AsyncIterator[Step]:
        """What becomes of each letter, told once Kafka has acknowledged it and it is remembered."""
        async with reader(self._kafka) as consumer:
            self._spans = await bounds(self._kafka, await partitions(self._kafka, TOPICS))
            self._producer = AIOKafkaProducer(
                bootstrap_servers=self._kafka.servers, acks="all", max_request_size=8 << 20, **self._kafka.options
            )
            await self._producer.start()
            try:
                waiting: list[Letter] = []
                async for letter in found:
                    waiting.append(letter)
                    if len(waiting) >= _IN_FLIGHT:
                        for step in await self._some(consumer, waiting):
                            yield step
                        waiting = []
                for step in await self._some(consumer, waiting):
                    yield step
            finally:
                await self._producer.stop()

    async def _some(self, consumer: AIOKafkaConsumer, found: Sequence[Letter]) -> list[Step]:
        done = await self._remembered(found)
        steps, sent, origins = [], [], []
        assert self._producer is not None
        for letter in found:
            state, event = await self._event(consumer, letter, letter.origin in done)
            steps.append(Step(letter, state))
            if event is None or self._dry_run:
                continue
            tp = TopicPartition(letter.topic, letter.partition)
            headers = [item for item in event.headers if item[0] != RETRY_OF]
            headers.append((RETRY_OF, f"{tp.topic}/{tp.partition}/{letter.offset}".encode()))
            # Its own partition, which its key chose: whatever partitioner the tracker uses.
            partition = tp.partition if tp in self._spans else None
            sent.append(
                await self._producer.send(tp.topic, event.value, key=event.key, partition=partition, headers=headers)
            )
            origins.append(letter)
        if sent:
            await asyncio.gather(*sent)
            await self._remember(origins)
        return steps

    async def _event(
        self, consumer: AIOKafkaConsumer, letter: Letter, done: bool
    ) -> tuple[State, Letter | ConsumerRecord | None]:
        if letter.topic not in TOPICS:
            return "not_an_event", None
        if done and not self._again:
            return "retried", None
        if letter.code == "late" and not self._late:
            return "late", None
        if not letter.pointer:
            return ("forgotten", None) if self._forgotten(letter.value) else ("retry", letter)
        tp = TopicPartition(letter.topic, letter.partition)
        span = self._spans.get(tp, Bounds(0, 0))
        record = await record_at(consumer, tp, letter.offset, span)
        if record is None:
            return "not_retained", None
        return ("forgotten", None) if self._forgotten(record.value) else ("retry", record)

    async def _remembered(self, found: Sequence[Letter]) -> set[str]:
        done = set()
        for topic in {letter.topic for letter in found}:
            origins = [letter.origin for letter in found if letter.topic == topic]
            known = await self._redis.execute_command("SMISMEMBER", _key(topic), *origins)
            done |= {origin for origin, there in zip(origins, known, strict=True) if there}
        return done

    async def _remember(self, sent: Sequence[Letter]) -> None:
        for topic in {letter.topic for letter in sent}:
            origins = [letter.origin for letter in sent if letter.topic == topic]
            await self._redis.execute_command("SADD", _key(topic), *origins)


def describe_origin(letter: Letter) -> str:
    """Where the event came from, as people read it: the source's name and the offset."""
    return f"{source_id(letter.topic, letter.partition, letter.incarnation)} @ {letter.offset}"


def _key(topic: str) -> str:
    return f"{{parcours}}retried:{topic}"
