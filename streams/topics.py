"""The Kafka topics: which there are, with how many partitions and which settings; creating and checking them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import InvalidConfigurationError, TopicAlreadyExistsError, for_code

from attribution.watermarks import JOURNEY, topic_partitions
from models.events import TOPICS
from models.settings import Marketing
from streams.outbox import DEAD_LETTER_MAX

State = Literal["missing", "created", "exists", "differs"]
# A topic just created is not at once known to every broker.
_VISIBLE_SECONDS = 10.0


class Topic(NamedTuple):
    """A topic as it should be."""

    name: str
    partitions: int
    settings: dict[str, str]


class Found(NamedTuple):
    """What became of a topic. `found` is its number of partitions, None when it is not there."""

    topic: Topic
    state: State
    found: int | None
    note: str = ""


def journey_topic(generation: int) -> str:
    """The log of record of a generation. In marks and metrics its name is `journey-events`, whichever generation it is."""
    return f"{JOURNEY}.{generation}" if generation else JOURNEY


def logical(topic: str) -> str:
    """A topic's name without the generation."""
    return JOURNEY if topic.startswith(f"{JOURNEY}.") else topic


def wanted(marketing: Marketing, replication: int = 1, generation: int = 0) -> list[Topic]:
    """All topics of a configuration.

    Acknowledged data must not be lost: no unclean leader, and two replicas in sync where there are three or more. The log of
    record is kept without end, `attributions` by its newest value per key; dead letters are larger than what
    they hold. A producer whose clock is an hour ahead is refused by the broker (Kafka 3.6 and later): an event is judged to
    be in the future by its record's timestamp, so that one has to be sound.
    """
    safe = {"unclean.leader.election.enable": "false"}
    if replication >= 3:
        safe["min.insync.replicas"] = "2"
    counts = topic_partitions(marketing)
    log = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}
    return [
        *(Topic(topic, counts[topic], safe | {"message.timestamp.after.max.ms": "3600000"}) for topic in TOPICS),
        Topic(journey_topic(generation), counts[JOURNEY], safe | log),
        Topic(
            "attributions",
            counts[JOURNEY],
            safe | {"cleanup.policy": "compact", "max.message.bytes": str(DEAD_LETTER_MAX)},
        ),
        Topic("alerts", 1, dict(safe)),
        *(Topic(f"dlq.{topic}", counts[topic], safe | {"max.message.bytes": str(DEAD_LETTER_MAX)}) for topic in TOPICS),
    ]


async def create(
    servers: list[str], marketing: Marketing, *, replication: int = 1, dry_run: bool = False, generation: int = 0,
    options: Mapping[str, Any] | None = None,
) -> list[Found]:  # fmt: skip
    """Create what is missing and say how everything stands; what exists is never changed. Raises KafkaError.

    `options`: from `streams.security.kafka_options`.
    """
    topics = wanted(marketing, replication, generation)
    admin = AIOKafkaAdminClient(bootstrap_servers=servers, client_id="parcours-topics", **(options or {}))
    await admin.start()
    try:
        counts = await _counts(admin)
        missing = [topic for topic in topics if topic.name not in counts]
        notes = {} if dry_run else {topic.name: await _create(admin, topic, replication) for topic in missing}
        if notes:
            counts = await _visible(admin, {topic.name for topic in topics})
        return [_found(topic, counts.get(topic.name), notes) for topic in topics]
    finally:
        await admin.close()


def _found(topic: Topic, count: int | None, notes: dict[str, str]) -> Found:
    if count is None:
        return Found(topic, "missing", None, notes.get(topic.name, ""))
    if count != topic.partitions:
        return Found(topic, "differs", count, f"configured with {topic.partitions}")
    return Found(topic, "created" if topic.name in notes else "exists", count, notes.get(topic.name, ""))


async def _counts(admin: AIOKafkaAdminClient) -> dict[str, int]:
    # Partitions in trouble are listed too: they count.
    return {topic["topic"]: len(topic["partitions"]) for topic in await admin.describe_topics() if topic["partitions"]}


async def _visible(admin: AIOKafkaAdminClient, names: set[str]) -> dict[str, int]:
    """The counts once all `names` are known, or what is known of them after a while."""
    deadline = asyncio.get_running_loop().time() + _VISIBLE_SECONDS
    while True:
        counts = await _counts(admin)
        if names <= counts.keys() or asyncio.get_running_loop().time() > deadline:
            return counts
        await asyncio.sleep(0.1)


async def _create(admin: AIOKafkaAdminClient, topic: Topic, replication: int) -> str:
    """Create one topic; the note says when its settings had to be left out."""
    try:
        await _send(admin, topic, replication, topic.settings)
    except InvalidConfigurationError:
        await _send(admin, topic, replication, {})
        return "the broker refused the settings: created without them"
    return ""


async def _send(admin: AIOKafkaAdminClient, topic: Topic, replication: int, settings: dict[str, str]) -> None:
    answer = await admin.create_topics([NewTopic(topic.name, topic.partitions, replication, topic_configs=settings)])
    for name, code, *message in answer.topic_errors:
        error = for_code(code)
        # Another `topics create` at the same moment: as good as ours.
        if code and error is not TopicAlreadyExistsError:
            raise error(f"{name}: {message[0] if message and message[0] else error.description}")
