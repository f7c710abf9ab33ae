"""The workload every timing uses: persons with 8 touches each on average, 3 % purchases, 5 % duplicates."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from uuid import UUID

import orjson

NETWORKS = ("facebook", "instagram", "linkedin", "google", "youtube", "tiktok")
START = datetime(2026, 1, 1, tzinfo=UTC)
DAYS = 30
TOML = """
reporting_currency = "EUR"
time_zone = "Europe/Paris"
clock = "event"
[topics]
clicks = 4
touchpoints = 4
purchases = 2
costs = 1
journey-events = 4
"""

Item = tuple[str, str, bytes]


def workload(persons: int, days: int = DAYS, seed: int = 1) -> list[Item]:
    """(topic, key, value) in order of event time; duplicates follow some seconds after their originals."""
    draw = random.Random(seed)
    drawn: list[tuple[float, str, str, dict[str, object]]] = []
    for _ in range(persons):
        key = str(UUID(int=draw.getrandbits(128), version=4))
        begin = draw.random() * days * 86_400
        t = begin
        for _ in range(1 + min(int(draw.expovariate(1 / 7)), 60)):
            drawn.append((t % (days * 86_400), *_touch(draw, key)))
            t += draw.expovariate(1 / (3_000 * days))
        if draw.random() < 0.03 * 8:
            drawn.append((t % (days * 86_400), *_order(draw, key)))
    drawn += [(t + draw.random() * 60, *rest) for t, *rest in drawn if draw.random() < 0.05]
    drawn.sort(key=lambda item: item[0])
    items = []
    for t, topic, key, event in drawn:
        event.setdefault("occurred_at", (START + timedelta(seconds=t)).isoformat())
        items.append((topic, key, orjson.dumps(event)))
    return items


def _touch(draw: random.Random, key: str) -> tuple[str, str, dict[str, object]]:
    network = draw.choice(NETWORKS)
    event: dict[str, object] = {
        "event_id": str(UUID(int=draw.getrandbits(128), version=4)),
        "customer_id": key,
        "source": "web",
        "user_agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Safari/537.36",
    }
    kind = draw.random()
    if kind < 0.5:
        campaign = f"{network}-{draw.randrange(16)}"
        event |= {
            "utm_source": network,
            "utm_medium": "cpc",
            "utm_campaign": campaign,
            "ad_id": f"ad-{draw.randrange(500)}",
        }
        return "clicks", key, event
    if kind < 0.75:
        event |= {"type": "visit", "referrer": f"https://www.{network}.com/"} if kind < 0.6 else {"type": "visit"}
    elif kind < 0.95:
        event |= {"type": "impression", "network": network, "campaign": f"{network}-{draw.randrange(16)}"}
    else:
        event |= {"type": "engagement", "kind": "like", "network": network}
    return "touchpoints", key, event


def _order(draw: random.Random, key: str) -> tuple[str, str, dict[str, object]]:
    order = str(UUID(int=draw.getrandbits(128), version=4))
    return "purchases", order, {
        "type": "order", "event_id": f"e-{order}", "order_id": order, "customer_id": key,
        "revenue": round(draw.lognormvariate(4, 0.6), 2), "currency": "EUR",
    }  # fmt: skip
