"""Devices in a real Redis: added once however often, counted over partitions, gone when no window can ask for them."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from attribution.reach import KEPT
from attribution.rollups import Calendar
from attribution.visitors import ALL
from models.settings import DAY, HOUR
from models.wire import CLICK, Touch
from streams.codec import Names
from streams.reach import INDEX, Sightings, counted
from streams.tables import Claimed, Outcome, Position, Tables, Writes, journey_tag
from tests.reference import moment

END = moment("2026-03-10T10:30:30Z")
UTC = Calendar("UTC")
EMAIL, SEARCH = ("Email", "(none)"), ("Paid Search", "google")


class Worker:
    """One claim of one partition, that commits what it has seen."""

    def __init__(self, redis: Redis, partition: int) -> None:
        self.tables = Tables(redis, journey_tag(0, partition))
        self.names = Names()
        self.sightings = Sightings(self.tables, self.names)
        self.token = ""
        self.at = 0

    async def commit(self, highest: int = END) -> Writes:
        if not self.token:
            claimed = await self.tables.claim("test", 1, config=1, formats={1})
            assert isinstance(claimed, Claimed)
            self.token, self.at = claimed.token, claimed.position.offset
        writes = Writes()
        await self.sightings.write(UTC, highest, writes)
        before, after = Position(self.at), Position(self.at + 1)
        committed = await self.tables.commit(self.token, before, after, b"", after.offset, 1, writes)
        assert committed.outcome is Outcome.APPLIED
        self.at += 1
        return writes

    def see(self, t: int, *devices: str, source: tuple[str, str] = EMAIL) -> None:
        for device in devices:
            self.sightings.see(Touch(device, 0, 0, "x", t, CLICK, "click", *source, "news", None, 0, None, 1))


async def test_devices_count_once_and_partitions_add_up(redis: Redis) -> None:
    one, two = Worker(redis, 0), Worker(redis, 1)
    for _ in range(3):
        one.see(END - HOUR, "a:1", "a:2")
        one.see(END - 3 * DAY, "a:1", source=SEARCH)
        two.see(END, "c:3")
        await one.commit()
        await two.commit()
    parts = [(worker.tables, worker.names) for worker in (one, two)]
    found = await counted(parts, END, UTC)
    assert found == {
        "24h": {EMAIL: 3, ALL: 3},
        "7d": {EMAIL: 3, SEARCH: 1, ALL: 3},
        "30d": {EMAIL: 3, SEARCH: 1, ALL: 3},
    }
    assert (await counted(parts, END + 2 * DAY, UTC))["24h"] == {}


async def test_an_estimate_is_within_three_percent(redis: Redis) -> None:
    worker = Worker(redis, 0)
    worker.see(END - DAY, *(f"a:{n}" for n in range(5_000)))
    worker.see(END - 2 * DAY, *(f"a:{n}" for n in range(2_500, 10_000)))
    await worker.commit()
    found = await counted([(worker.tables, worker.names)], END, UTC)
    assert found["7d"][ALL] == pytest.approx(10_000, rel=0.03)


async def test_what_no_window_can_ask_for_is_deleted_and_not_made_again(redis: Redis) -> None:
    worker = Worker(redis, 0)
    worker.see(END, "a:1")
    await worker.commit()
    assert len(await redis.keys("*u:*")) == 4, "by hour and by day, of one source and of all"
    # A new claim finds what there is.
    again = Worker(redis, 0)
    again.names = worker.names
    again.sightings = Sightings(again.tables, again.names)
    hour = END - END % HOUR
    await again.commit(hour + KEPT["h"] - 1)
    assert len(await redis.keys("*u:*")) == 4
    await again.commit(hour + KEPT["h"])
    assert {key.decode().split("u:")[1][0] for key in await redis.keys("*u:*")} == {"d"}
    again.see(END, "a:2")
    writes = await again.commit(UTC.day(END) + KEPT["d"])
    assert writes.pfadd == {}
    assert await redis.keys("*u:*") == []
    assert await again.tables.smembers(INDEX) == set()
