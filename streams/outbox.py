"""What a worker sends to Kafka: blocks, marks, attributions, dead letters. Everything is awaited to its acknowledgement."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence

from aiokafka import AIOKafkaProducer

from attribution.watermarks import JOURNEY
from models.errors import Rejected
from models.wire import FORMAT, AnyEntry, Block, Configured, Mark, encode
from streams.blocks import cut, route

Headers = Sequence[tuple[str, bytes]]
DEAD_LETTER_MAX = 4 << 20


class Outbox:
    """Wraps one producer with `acks=all`. After a failure the caller redoes its fetch: nothing is sent on."""

    def __init__(self, producer: AIOKafkaProducer, partitions: int, journey_topic: str = JOURNEY) -> None:
        self._producer = producer
        self._partitions = partitions
        self._journey = journey_topic

    async def entries(self, source: str, entries: Iterable[AnyEntry], published: int = 0) -> None:
        """Send entries of one source to their partitions: per target one block in flight, in order."""
        routed = route(entries, self._partitions)
        if len(routed) == 1:
            ((target, own),) = routed.items()
            await self._in_order(target, source, own, published)
        elif routed:
            async with asyncio.TaskGroup() as group:
                for target, own in routed.items():
                    group.create_task(self._in_order(target, source, own, published))

    async def _in_order(self, target: int, source: str, entries: list[AnyEntry], published: int) -> None:
        for packed in cut(source, entries, published):
            await self._producer.send_and_wait(self._journey, packed, partition=target)

    async def marks(self, marks: list[Mark]) -> None:
        """Tell every partition of the log how far sources have come."""
        await self._everywhere(Block(FORMAT, "marks", [], marks))

    async def configured(self, number: int, text: str, partition: int) -> None:
        """Tell one partition that a new configuration applies from here on."""
        block = Block(FORMAT, "configuration", [], [], Configured(number, text))
        await self._producer.send_and_wait(self._journey, encode(block), partition=partition)

    async def _everywhere(self, block: Block) -> None:
        packed = encode(block)
        sent = [
            await self._producer.send(self._journey, packed, partition=target) for target in range(self._partitions)
        ]
        await self._all(sent)

    async def values(self, topic: str, values: Mapping[bytes, bytes]) -> None:
        """Send keyed values to a topic; the key decides the partition."""
        await self._all([await self._producer.send(topic, value, key=key) for key, value in values.items()])

    async def dead_letters(self, letters: Sequence[tuple[str, bytes | None, bytes | None, Headers]]) -> None:
        """Send (topic, key, value, headers) each to `dlq.<topic>`; moves come from orders, and theirs go to `dlq.purchases`."""
        # Kafka wants a key or a value: what had neither gets an empty value.
        sent = [
            await self._producer.send(
                f"dlq.{'purchases' if topic == JOURNEY else topic}", b"" if value is None and key is None else value, key=key, headers=list(headers)
            )
            for topic, key, value, headers in letters
        ]
        await self._all(sent)

    async def _all(self, sent: list[asyncio.Future[object]]) -> None:
        if sent:
            await asyncio.gather(*sent)


def letter_headers(
    reason: Rejected, topic: str, partition: int, offset: int, original: Headers = (), incarnation: int = 0
) -> list[tuple[str, bytes]]:
    """A dead letter's headers: the original ones, then where it came from and why it is here."""
    headers = [
        *original,
        ("parcours-code", reason.code.encode()),
        ("parcours-path", reason.path.encode()),
        ("parcours-message", reason.message.encode("utf-8", "replace")[:1024]),
        ("parcours-topic", topic.encode()),
        ("parcours-partition", str(partition).encode()),
        ("parcours-offset", str(offset).encode()),
    ]
    return [*headers, ("parcours-incarnation", str(incarnation).encode())] if incarnation else headers
