"""Events go in at Kafka, attributions come out, and they are those of the batch pass."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable

import pytest
from integration.conftest import World
from integration.stack import Stack, replayed

from models.settings import DAY

pytestmark = pytest.mark.integration


def differences(got: dict[str, object], want: dict[str, object]) -> list[tuple[str, object, object]]:
    """(conversion id, got, wanted) where the two differ."""
    return [(key, got.get(key), want.get(key)) for key in sorted(set(got) | set(want)) if got.get(key) != want.get(key)]


def test_stream_equals_replay_and_dead_letters_are_exact(stack: Callable[..., Stack], small: World) -> None:
    one = stack()
    one.publish(small.items, small.timestamps())
    worker = one.worker()
    one.settle()
    assert differences(one.attributions(), small.expected) == []
    assert len(small.expected) > 200
    bad = Counter(record.topic for record in small.records if not record.good)
    for topic in ("clicks", "touchpoints", "purchases", "costs"):
        letters = one.dead_letters(topic)
        assert len(letters) == bad[topic]
        for letter in letters:
            headers = dict(letter.headers)
            assert headers["parcours-code"]
            assert headers["parcours-topic"] == topic.encode()
    assert sum(bad.values()) > 10
    assert worker.stop() == 0


def test_shuffled_within_the_horizon_with_duplicates(stack: Callable[..., Stack], small: World) -> None:
    one = stack()
    one.publish(small.shuffled(3, 3 * DAY, 0.05))
    one.worker()
    one.settle()
    assert differences(one.attributions(), small.expected) == []
    assert sum(len(one.dead_letters(topic)) for topic in ("clicks", "touchpoints", "purchases", "costs")) == 0


def test_ninety_days_of_clicks_before_the_first_purchase(stack: Callable[..., Stack]) -> None:
    """Watermarks wait for the topic that is behind: nothing is late."""
    one = stack()
    clicks, purchases = [], []
    for day in range(90):
        stamp = f"2026-{1 + day // 30:02}-{1 + day % 28:02}T{day % 24:02}:15:00Z"
        for person in range(12):
            event = {
                "event_id": f"k{day:03}-{person}", "occurred_at": stamp, "customer_id": f"p{person}",
                "network": ("facebook", "google", "linkedin")[(day + person) % 3], "campaign": f"c{day % 5}",
            }  # fmt: skip
            clicks.append(("clicks", json.dumps(event).encode()))
            if (day + person) % 10 == 0:
                order = {
                    "type": "order", "event_id": f"o{day:03}-{person}", "occurred_at": stamp.replace(":15:", ":45:"),
                    "customer_id": f"p{person}", "order_id": f"O{day:03}-{person}", "revenue": 40 + day, "currency": "EUR",
                }  # fmt: skip
                purchases.append(("purchases", json.dumps(order).encode()))
    items = clicks + purchases
    one.publish(items)
    one.worker()
    one.settle()
    want = dict(replayed(one.marketing, items))
    assert len(want) == len(purchases) == 108
    assert all(attribution["status"] == "attributed" for attribution in want.values())
    assert differences(one.attributions(), want) == []
    assert sum(len(one.dead_letters(topic)) for topic in ("clicks", "purchases")) == 0


def test_an_order_without_a_rate_succeeds_when_published_again(stack: Callable[..., Stack]) -> None:
    """A missing rate is a dead letter with its original key and value; with the rate added it goes through."""
    base = 'reporting_currency = "EUR"\nrevision = {}\n[topics]\nclicks = 1\ntouchpoints = 1\npurchases = 1\n'
    one = stack(base.format(1))
    order = {
        "type": "order", "event_id": "e1", "occurred_at": "2026-01-05T10:00:00Z", "customer_id": "p",
        "order_id": "O1", "revenue": "100.00", "currency": "USD",
    }  # fmt: skip
    one.publish([("purchases", json.dumps(order).encode())])
    worker = one.worker()
    one.settle()
    (letter,) = one.dead_letters("purchases")
    assert json.loads(letter.value) == order
    assert dict(letter.headers)["parcours-code"] == b"missing_rate"
    assert dict(letter.headers)["parcours-path"] == b"$.currency"
    assert one.attributions() == {}
    assert worker.stop() == 0
    one.config.write_text(base.format(2) + '[[rates]]\ncurrency = "USD"\nrate = "0.9"\n')
    one.publish([("purchases", letter.value)])
    one.worker()
    one.settle()
    (attribution,) = one.attributions().values()
    assert attribution["revenue_net"] == "90"
    assert len(one.dead_letters("purchases")) == 1
