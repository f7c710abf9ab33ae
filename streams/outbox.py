"""What a worker sends to Kafka: blocks, marks, attributions, dead letters. Everything is awaited to its acknowledgement."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence

from aiokafka import AIOKafkaProducer
from aiokafka.errors import MessageSizeTooLargeError

from attribution.watermarks import JOURNEY
from models.errors import Rejected
from models.wire import FORMAT, AnyEntry, Block, Configured, Mark, encode
from streams.blocks import cut, route

Headers = Sequence[tuple[str, bytes]]
Letter = tuple[str, bytes | None, bytes | None, Headers]
DEAD_LETTER_MAX = 4 << 20
SHORT_LETTER = 64 << 10
_FRAME = 256  # of a record batch of one record, beside key, value and headers
_OWN = ("code", "path", "message", "topic", "partition", "offset", "incarnation", "pointer")


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

    async def values(self, topic: str, values: Mapping[bytes, bytes | None]) -> None:
        """Send keyed values to a topic; the key decides the partition. None takes back what was sent under the key."""
        await self._all([await self._producer.send(topic, value, key=key) for key, value in values.items()])

    async def dead_letters(self, letters: Sequence[Letter]) -> None:
        """Send (topic, key, value, headers) each to `dlq.<topic>`; moves come from orders, and theirs go to `dlq.purchases`."""
        sent = [await self._letter(letter) for letter in letters]
        for letter, answer in zip(letters, await asyncio.gather(*sent, return_exceptions=True), strict=True):
            if isinstance(answer, MessageSizeTooLargeError):
                # The topic allows less than it is made with: better a short letter than one tried for ever.
                await (await self._letter(letter, SHORT_LETTER))
            elif isinstance(answer, BaseException):
                raise answer

    async def _letter(self, letter: Letter, limit: int = DEAD_LETTER_MAX) -> asyncio.Future[object]:
        topic, key, value, headers = fitted(letter, limit - _FRAME)
        if value is None and key is None:
            value = b""  # Kafka wants one of them
        name = f"dlq.{'purchases' if topic == JOURNEY else topic}"
        sent: asyncio.Future[object] = await self._producer.send(name, value, key=key, headers=list(headers))
        return sent

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


def fitted(letter: Letter, limit: int) -> Letter:
    """A dead letter of at most `limit` bytes: what does not fit is cut from its value, and if need be key and headers.

    Headers then say so: `parcours-truncated` has the length of the original value (-1: none), and `parcours-pointer` that the
    original is where topic, partition and offset say.
    """
    topic, key, value, headers = letter
    if _size(headers) + len(key or b"") + len(value or b"") <= limit:
        return letter
    length = -1 if value is None else len(value)
    if _size(headers) > limit // 4:
        own = {name: content for name, content in headers if name in {f"parcours-{word}" for word in _OWN}}
        headers = list(own.items())
    marks = [("parcours-truncated", str(length).encode()), ("parcours-pointer", b"1")]
    headers = [*(header for header in headers if header[0] != "parcours-pointer"), *marks]
    key = key and key[: limit // 4]
    return topic, key, value and value[: limit - _size(headers) - len(key or b"")], headers


def _size(headers: Headers) -> int:
    """Bytes, with five for each of the two lengths of a header. A header of someone else's may have no value."""
    return sum(len(name.encode()) + len(content or b"") + 10 for name, content in headers)
