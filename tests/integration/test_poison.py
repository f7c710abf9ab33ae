"""Poison through a real worker: exact dead letters, neighbours applied, bounded memory."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from integration.conftest import World
from integration.proxy import UP, Proxy
from integration.stack import ROOT, Stack, Worker
from integration.test_metrics import scrape
from integration.test_pipeline import differences
from poison import corpus, run
from poison.broken_fold import ERRORS, MARK

from models.events import TOPICS
from streams.embedded import free_port
from streams.outbox import DEAD_LETTER_MAX

pytestmark = pytest.mark.integration
POISON = 20_000
MEGABYTES = 300
LETTERS = re.compile(r'^parcours_dead_letters_total\{reason="(\w+)",topic="(\w+)"\} (\S+)$', re.MULTILINE)


def letters_counted(worker: Worker) -> dict[tuple[str, str], int]:
    """What the worker's own metric says, by topic and code."""
    return {(topic, code): int(float(n)) for code, topic, n in LETTERS.findall(scrape(worker)) if float(n)}


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.0, 0.001], ids=["", "redis-1ms-slower"])
def test_poison_among_good_events(stack: Callable[..., Stack], small: World, delay: float) -> None:
    """One dead letter for each record of poison, byte for byte; the neighbours' credits are those of a batch pass."""
    one = stack()
    neighbours = [record for record in small.records if record.good]
    large_one_in = 500
    with Proxy(one.redis_server.port, delay=delay) as proxy:
        poison = corpus.poison(11, POISON, large_one_in=large_one_in)
        account = run.publish(one, poison, neighbours, POISON // len(neighbours))
        assert (account.published.total(), account.good) == (POISON, len(neighbours))
        worker = one.worker(PARCOURS_REDIS_URL=f"redis://{proxy.address}/0")
        one.settle(120)
        assert proxy.chunks[UP] > 100
        counted = letters_counted(worker)
    run.collect(one, account)
    assert account.wrong == []
    assert account.owed == {}
    assert account.found == account.published == counted
    assert {topic for topic, _ in account.found} == set(TOPICS)
    assert differences(one.attributions(), small.expected) == []
    assert len(small.expected) > 200
    if sys.platform == "linux":
        assert run.peak_megabytes(worker) < MEGABYTES


@pytest.mark.skipif(os.environ.get("PARCOURS_TEST_BROKER", "embedded") != "embedded", reason="its topics hold 1 MiB")
def test_what_no_dead_letter_can_hold_is_cut_with_a_pointer(stack: Callable[..., Stack]) -> None:
    """A source topic may allow more than its dead letters do; and the record after such a one is applied."""
    one = stack()
    huge = b'{"note": "' + b"x" * (DEAD_LETTER_MAX + 1_000_000) + b'"}'
    order = {
        "type": "order", "event_id": "e1", "occurred_at": "2026-01-05T10:00:00Z", "customer_id": "p", "order_id": "O1",
        "revenue": 10, "currency": "EUR",
    }  # fmt: skip
    one.publish([("purchases", huge), ("purchases", json.dumps(order).encode())])
    worker = one.worker()
    one.settle()
    (letter,) = one.dead_letters("purchases")
    said = dict(letter.headers)
    assert (said["parcours-code"], said["parcours-pointer"]) == (b"too_large", b"1")
    assert said["parcours-truncated"] == str(len(huge)).encode()
    assert (said["parcours-topic"], said["parcours-offset"]) == (b"purchases", b"0")
    assert huge.startswith(letter.value)
    assert DEAD_LETTER_MAX - 2_000 < len(letter.value) < DEAD_LETTER_MAX
    assert list(one.attributions()) == ["o:O1"]
    assert worker.stop() == 0


UNFOLDED = ("identify", "survey_response", "forget")


class BrokenWorker(Worker):
    """A worker whose fold breaks on marked events."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self.port = free_port()
        self.log = folder / "broken.log"
        self._log = self.log.open("ab")
        path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
        self.process = subprocess.Popen(
            [sys.executable, "-m", "faust", "-A", "poison.broken_fold", "worker", "-l", "warn"],
            cwd=ROOT,
            env={**os.environ, **stack.env, "PARCOURS_WEB_PORT": str(self.port), "PYTHONPATH": path},
            stdout=self._log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )


def test_poison_that_breaks_the_fold(stack: Callable[..., Stack], small: World, tmp_path: Path) -> None:
    """It passes every check and then raises: that entry is a dead letter, its node is as it was, and all others are applied.

    Every broken event is about a person, an order or a cost that good events are about too.
    """
    one = stack()
    good = [(record.topic, record.value) for record in small.records if record.good]
    items, broken = [], Counter[str]()
    for number, (topic, value) in enumerate(good):
        items.append((topic, value))
        event = json.loads(value)
        if number % 40 == 0 and event.get("type") not in UNFOLDED:
            event["event_id"] = f"{MARK}{number // 40}"
            if topic == "costs":
                event["cost_id"] = f"{MARK}{number // 40}"
            broken[topic] += 1
            items.append((topic, json.dumps(event).encode()))
    assert all(broken[topic] for topic in TOPICS), broken
    assert broken.total() > 10 * len(ERRORS)
    one.publish(items)
    worker = BrokenWorker(one, tmp_path)
    one.workers.append(worker)
    one.settle(120)
    for topic in TOPICS:
        letters = [dict(letter.headers) | {"value": letter.value} for letter in one.dead_letters(topic)]
        assert {said["parcours-code"] for said in letters} == {b"fold_failed"}
        assert len(letters) == broken[topic]
        assert len({(said["parcours-partition"], said["parcours-offset"]) for said in letters}) == broken[topic]
        assert all(MARK.encode() in said["value"] and said["parcours-pointer"] == b"1" for said in letters)
    assert letters_counted(worker) == {(topic, "fold_failed"): n for topic, n in broken.items()}
    assert differences(one.attributions(), small.expected) == []
    assert worker.process.poll() is None


def test_redis_is_cut_off_and_comes_back(stack: Callable[..., Stack], small: World) -> None:
    """On the network alone: Redis lives on, and so does what a lost reply had already done."""
    one = stack()
    one.publish(small.items, small.timestamps())
    with Proxy(one.redis_server.port, delay=0.002) as proxy:
        worker = one.worker(
            PARCOURS_REDIS_URL=f"redis://{proxy.address}/0", PARCOURS_MAX_POLL_RECORDS="300",
            PARCOURS_COMMIT_ENTRIES="100",
        )  # fmt: skip
        for share in (0.2, 0.5, 0.8):
            deadline = time.monotonic() + 60
            while sum(one.sources().values()) < share * len(small.items):
                assert time.monotonic() < deadline, worker.tail()
                time.sleep(0.01)
            proxy.cut()
            proxy.mend()
        one.settle(120)
        assert "parcours_redis_retries_total 0.0" not in scrape(worker)
    assert differences(one.attributions(), small.expected) == []
