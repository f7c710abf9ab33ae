"""Crashes, lost state, several workers: the result is still that of the batch pass."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable

import pytest
from integration.conftest import TOML, World
from integration.stack import Stack, Timeout
from integration.test_pipeline import differences

from attribution.watermarks import JOURNEY
from models.wire import decode_block
from streams.tables import journey_tag

pytestmark = [pytest.mark.integration, pytest.mark.slow]
KILLS = 20
# Small fetches and commits, so that there is something to interrupt; a short session, so that a group re-forms soon.
SLOWLY = {
    "PARCOURS_MAX_POLL_RECORDS": "400",
    "PARCOURS_COMMIT_ENTRIES": "120",
    "PARCOURS_SESSION_TIMEOUT": "2.5",
    "PARCOURS_HEARTBEAT_INTERVAL": "0.5",
    "PARCOURS_REBALANCE_TIMEOUT": "3",
}


def done(stack: Stack) -> int:
    """Source records ingested and log records folded: grows with all work, never on its own."""
    return sum(offset for offset, _ in stack.positions().values())


def wait_for(condition: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise Timeout(f"not within {seconds} s: {what}")
        time.sleep(0.02)


def redelivered(stack: Stack) -> int:
    """Entries that stand in the log more than once: sent, and sent again because a worker died before its commit."""
    seen: Counter[tuple[str, int, int]] = Counter()
    for record in stack.read(JOURNEY, stack.marketing.topics.journey_events):
        block = decode_block(record.value)
        seen.update((block.source, entry.offset, entry.k) for entry in block.entries)
    return sum(count - 1 for count in seen.values())


@pytest.mark.timeout(600)
def test_kill_9_in_mid_stream(stack: Callable[..., Stack], large: World) -> None:
    """Kills spread over the work by how much of it is done, each at a random moment after that."""
    draw = random.Random(11)
    one = stack(TOML, **SLOWLY)
    one.publish(large.items, large.timestamps())
    total = len(large.items)
    undone: list[float] = []
    for kill in range(KILLS):
        worker = one.worker(f"killed-{kill}")
        target = (0.06 + 0.85 * kill / KILLS) * total
        wait_for(lambda target=target: sum(one.sources().values()) >= target, 60, f"{target:.0f} records ingested")
        time.sleep(draw.random() * 0.15)  # not a synchronisation: the moment of the fault is what is random
        worker.kill()
        undone.append(1 - sum(one.sources().values()) / total)
    one.worker("last")
    one.settle(240)
    assert differences(one.attributions(), large.expected) == []
    in_time = [share for share in undone if 0.05 < share < 0.95]
    assert len(in_time) >= KILLS - 1, undone
    assert redelivered(one) > 0, "no kill fell between an acknowledgement and its commit"


@pytest.mark.parametrize("seed", [1, 2])
def test_redis_loses_the_tail_of_its_log(stack: Callable[..., Stack], small: World, seed: int) -> None:
    """Position and state go back together, and the log brings them forward again."""
    draw = random.Random(seed)
    one = stack(TOML, **SLOWLY)
    one.publish(small.items, small.timestamps())
    one.worker()
    for share in (0.3, 0.6, 0.9):
        wait_for(lambda share=share: sum(one.sources().values()) >= share * len(small.items), 60, f"{share} ingested")
        before = done(one)
        one.redis_server.kill()
        size = max(path.stat().st_size for path in one.redis_server.aof_files())
        one.redis_server.truncate_aof(draw.randrange(1, size))
        one.redis_server.start()
        assert before > 0
    one.settle(90)
    assert differences(one.attributions(), small.expected) == []


def test_redis_is_wiped(stack: Callable[..., Stack], small: World) -> None:
    """An empty Redis is filled again from the log."""
    one = stack()
    one.publish(small.items, small.timestamps())
    worker = one.worker()
    one.settle()
    client = one.redis()
    tag = journey_tag(0, 0)
    client.flushall()
    assert client.hget(f"{tag}meta", "position") is None
    client.close()
    worker.kill()
    one.worker()
    one.settle(90)
    assert differences(one.attributions(), small.expected) == []


def test_two_workers_share_unequal_partition_counts(stack: Callable[..., Stack], small: World) -> None:
    """Both get work, a third joining and one leaving lose nothing, and no partition stays assigned and idle."""
    toml = TOML.replace("[topics]", "[ignored]") if "[topics]" in TOML else TOML
    toml += "\n[topics]\nclicks = 3\ntouchpoints = 2\npurchases = 1\ncosts = 1\njourney-events = 5\n"
    one = stack(toml, **SLOWLY)
    half = len(small.items) // 2
    first, second = one.worker("first"), one.worker("second")
    one.publish(small.items[:half], small.timestamps())
    one.settle(90)
    owners = one.owners()
    assert len(set(owners.values())) == 2, owners
    one.worker("third")
    one.publish(small.items[half:], small.timestamps())
    wait_for(lambda: sum(one.sources().values()) > 0.6 * len(small.items), 60, "progress after a third joined")
    second.kill()
    one.settle(90)
    assert first.stop() == 0
    assert differences(one.attributions(), small.expected) == []
