"""From events to records: latency, lateness, duplicates and bad messages, and the order of publication."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from heapq import heapify, heappop, heappush
from typing import Any, NamedTuple

import orjson

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Draw = Callable[[], float]
Event = dict[str, Any]


class Record(NamedTuple):
    """One Kafka message. `published_at` is its timestamp in microseconds since 1970 UTC.

    `good` is False for a message that has to end in the dead letters; it is not part of the message.
    """

    published_at: int
    topic: str
    key: bytes
    value: bytes
    good: bool = True


def new_event(event_id: str, t: int, device: str, source: str) -> Event:
    return {"event_id": event_id, "occurred_at": EPOCH + timedelta(0, 0, t), "anonymous_id": device, "source": source}


class Faults(NamedTuple):
    """Shares of all records, and the bounds of lateness in microseconds."""

    bad: float
    duplicate: float
    late: float
    late_min: int = 2 * MINUTE
    late_max: int = 3 * DAY
    duplicate_max: int = 6 * HOUR


class Delivery:
    """Takes events as they are made and gives records in order of publication.

    History is kept by UTC day of publication, since a day's list can be sorted in one go; `go_live` changes to a heap.
    """

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self.count = 0
        self._days: defaultdict[int, list[Record]] = defaultdict(list)
        self._heap: list[Record] | None = None
        self._odd = faults.bad + faults.duplicate + faults.late

    def send(self, draw: Draw, topic: str, key: str, event: Event, t: int, drop: bool = False) -> int:
        """Publish `event`, which occurred at `t`; returns when. A dropped event takes the same draws from `draw`."""
        published = t + 150_000 + int(draw() * 4_000_000)
        u = draw()
        if u < self._odd:
            published = self._send_oddly(draw, u, topic, key, event, published, drop)
        if not drop:
            self.put(Record(published, topic, key.encode(), orjson.dumps(event)))
        return published

    def put(self, record: Record) -> None:
        self.count += 1
        if self._heap is None:
            self._days[record.published_at // DAY].append(record)
        else:
            heappush(self._heap, record)

    def day(self, day: int) -> list[Record]:
        """Take the records published on a UTC day (days since 1970), in order."""
        return sorted(self._days.pop(day, ()))

    def go_live(self, faults: Faults) -> None:
        """From here on, give records by `before` and be late within the bounds of `faults`."""
        self.faults = faults
        heap = [record for day in self._days.values() for record in day]
        heapify(heap)
        self._days.clear()
        self._heap = heap

    def before(self, t: int) -> Iterator[Record]:
        """Take the records published before `t`, in order; live only."""
        heap = self._heap
        assert heap is not None
        while heap and heap[0].published_at < t:
            yield heappop(heap)

    def _send_oddly(self, draw: Draw, u: float, topic: str, key: str, event: Event, published: int, drop: bool) -> int:
        faults, v = self.faults, draw()
        if u < faults.late:
            return published + int(faults.late_min * math.exp(v * math.log(faults.late_max / faults.late_min)))
        if u < faults.late + faults.duplicate:
            again = published + 1 + int(v**6 * faults.duplicate_max)
            if not drop:
                self.put(Record(again, topic, key.encode(), orjson.dumps(event)))
        else:
            value = spoil(topic, event, published, int(v * 6))
            if not drop:
                self.put(Record(published, topic, key.encode(), value, False))
        return published


def spoil(topic: str, event: Event, published: int, way: int) -> bytes:
    """A bad message like `event`, with ids of its own, refused for a reason that `way` (0 to 5) selects."""
    bad = {**event, "event_id": f"{event['event_id']}-bad"}
    if "order_id" in bad:
        bad["order_id"] += "-bad"
    kind = bad.get("type", "click")
    if way == 0:
        whole = orjson.dumps(bad)
        return whole[: len(whole) // 2]
    if way == 1:
        del bad["occurred_at"]
    elif way == 3 and kind not in ("impression", "engagement", "refund", "cancel"):
        bad.pop("anonymous_id", None)
        bad.pop("customer_id", None)
    elif way == 4 and kind in ("click", "order"):
        bad["currency"] = "ZZZ"  # three capitals, but no ISO 4217 code
        bad.setdefault("cost" if kind == "click" else "revenue", 1.25)
    elif way == 5:
        bad["occurred_at"] = EPOCH + timedelta(microseconds=published + 2 * HOUR)
    else:
        bad["occurred_at"] = "the day before yesterday"
    return orjson.dumps(bad)
