"""A seeded simulator of a shop's customer journeys, with known truth.

Persons meet the shop over channels, networks and campaigns, buy, come back, return goods; events arrive late, out of
order, twice or broken. The same arguments give the same bytes. Because the purchase probabilities are known, so is each
channel's true effect, which attribution only estimates: `Simulation.truth`.

    simulation = Simulation(7, start=datetime(2026, 1, 1, tzinfo=UTC), days=75)
    for record in simulation.records(): ...
    for record in simulation.live(now_us, rate=20): ...
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any

import orjson

from models.events import TOPICS
from streams.simulation.costs import Spending
from streams.simulation.delivery import DAY, MINUTE, SECOND, Delivery, Faults, Record
from streams.simulation.journeys import Journeys
from streams.simulation.market import CHANNELS, NETWORKS, PARCOURS_TOML, REPORTED, TIMES_OF_DAY, WEEKDAYS
from streams.simulation.persons import COSTS, DAYS, LIVE, Persons, seed_of
from streams.simulation.sales import Sale

__all__ = ["PARCOURS_TOML", "Record", "Simulation"]

# Mean share of persons that start a journey on a day.
_STARTS = 0.16
# Live, journeys belong to a pool this many times the persons of history, so that no one has hundreds a day.
_LIVE_POOL = 50
# Seconds after going live at which a network bills too much, and corrects it.
MISTAKE_SECONDS = (15, 45)
# A live media row per campaign is restated this often.
_LIVE_REPORT = 30 * SECOND
_RECORDS_PER_JOURNEY = 6.0


class _World:
    """The moving parts of one run: history first, then live."""

    def __init__(self, settings: Simulation) -> None:
        self.settings = settings
        self.delivery = Delivery(settings.faults)
        self.spending = Spending(
            settings.start,
            settings.persons / 2000,
            self.delivery,
            seed_of(settings.seed, COSTS),
            settings.faults.duplicate,
        )
        self.journeys = Journeys(settings.seed, self.delivery, self.spending, settings.without)
        self.persons = Persons(settings.seed)
        self.started = 0
        self.over = False

    def history(self) -> Iterator[Record]:
        settings, delivery, journeys = self.settings, self.delivery, self.journeys
        rng = Random()
        persons = [self.persons[i] for i in range(settings.persons)]
        busy = [0] * len(persons)
        for day in range(settings.start // DAY, -(-settings.end // DAY)):
            rng.seed(seed_of(settings.seed, DAYS, day))
            draw = rng.random
            # 1970-01-01 was a Thursday.
            chance = _STARTS * WEEKDAYS[(day + 3) % 7]
            lots = [draw() for _ in persons]
            for i, lot in enumerate(lots):
                person = persons[i]
                if lot >= chance * person.activity:
                    continue
                # What is left of the lot is a uniform draw again: it sets the time of day.
                part = lot / (chance * person.activity)
                t = day * DAY + TIMES_OF_DAY[int(part * 1000)] + int(part * 1_000_000 % 1000 * 0.086 * SECOND)
                if settings.start <= t < settings.end and t >= busy[i]:
                    busy[i] = journeys.run(person, i, day, t)
                    self.started += 1
            self.spending.reports(max(day * DAY, settings.start), min((day + 1) * DAY, settings.end))
            for record in delivery.day(day):
                if record.published_at >= settings.end:
                    delivery.put(record)
                    delivery.count -= 1
                else:
                    yield record
        self.over = True

    def live(self, start: int, rate: float, mistake: bool) -> Iterator[Record]:
        settings, delivery, spending = self.settings, self.delivery, self.spending
        delivery.go_live(settings.faults._replace(late_min=20 * SECOND, late_max=5 * MINUTE, duplicate_max=2 * MINUTE))
        journeys = self.journeys
        journeys.go_live()
        rng = Random(seed_of(settings.seed, LIVE))
        pool = settings.persons * _LIVE_POOL
        pause = SECOND * max(_RECORDS_PER_JOURNEY, delivery.count / max(self.started, 1)) / rate
        step = _LIVE_REPORT // len(REPORTED)
        t = due = start
        reports = number = 0
        bills = [(start + seconds * SECOND, i == 1) for i, seconds in enumerate(MISTAKE_SECONDS)] if mistake else []
        while True:
            number += 1
            t += 1 + int(rng.expovariate(1.0) * pause)
            while due < t:
                turned = spending.live_report(REPORTED[reports % len(REPORTED)], due)
                if turned or (not reports and spending.day > spending.first):
                    for campaign in REPORTED:
                        spending.report(campaign, due, final=True)
                if turned and spending.day.day == 1:
                    spending.overheads(due)
                reports += 1
                due += step
            while bills and bills[0][0] < t:
                at, corrected = bills.pop(0)
                spending.mistake(at, start, corrected=corrected)
            for record in delivery.before(t):
                # What was under way when history ended is published at once.
                yield record if record.published_at >= start else record._replace(published_at=start)
            person = self.persons[int(rng.random() * pool)]
            journeys.run(person, 1 << 40, number, t)


class Simulation:
    """The world of `seed`: `persons` over `days` days from `start` (with a zone), each share of all records.

    `without` removes the touches of one channel or network, as ("channel", "Email") or ("network", "google"), and
    leaves every other draw as it was. Advertising is paid for all the same.
    """

    def __init__(
        self,
        seed: int,
        *,
        start: datetime,
        days: float,
        persons: int = 2000,
        bad_share: float = 0.005,
        duplicate_share: float = 0.05,
        late_share: float = 0.03,
        without: tuple[str, str] | None = None,
    ) -> None:
        if start.tzinfo is None:
            raise ValueError("start needs a time zone")
        if days <= 0 or persons < 1:
            raise ValueError("days and persons must be positive")
        if without is not None and without[1] not in {"channel": CHANNELS, "network": NETWORKS}.get(without[0], ()):
            raise ValueError(f"without: {without!r} names no channel or network of the simulation")
        self.seed = seed
        self.start = int(start.timestamp()) * SECOND + start.microsecond
        self.end = self.start + int(days * DAY)
        self.persons = persons
        self.faults = Faults(bad_share, duplicate_share, late_share)
        self.without = without
        self._world: _World | None = None

    def records(self) -> Iterator[Record]:
        """The history, lazily, in order of publication, up to `end`. Each call begins anew."""
        self._world = _World(self)
        return self._world.history()

    def live(self, start_us: int, rate: float = 20.0, *, mistake: bool = False) -> Iterator[Record]:
        """What follows the history, without end: about `rate` records a second of event time from `start_us` on.

        The caller paces it by `published_at`. Journeys take a minute or two instead of days. Runs the history first
        when that was not done. Live events have no truth. With `mistake`, a campaign is billed far too much after some seconds,
        and that is corrected half a minute later: something to alert on.
        """
        if start_us < self.end or rate <= 0:
            raise ValueError("live starts at or after the end of history, with a positive rate")
        world = self._finished()
        self._world = None
        return world.live(start_us, rate, mistake)

    def truth(self) -> dict[str, Any]:
        """The true effect of each channel and network over the records of the history.

        Conversions are orders published, less those with a cancel published; revenue is net of published refunds, in
        EUR as decimal strings. Of a channel or network: with all touches, less with its touches removed.
        """
        ledger = self._finished().journeys.sales.ledger or []
        sales = [s for s in ledger if s.published < self.end and (s.withdrawn is None or s.withdrawn >= self.end)]

        def effect(names: tuple[str, ...], kind: str) -> dict[str, dict[str, Any]]:
            return {name: self._sums([s for s in sales if (kind, name) in s.without]) for name in names}

        return {
            "seed": self.seed,
            "start_us": self.start,
            "end_us": self.end,
            "persons": self.persons,
            "currency": "EUR",
            **self._sums(sales),
            "channels": effect(CHANNELS, "channel"),
            "networks": effect(NETWORKS, "network"),
        }

    def write(self, folder: str | Path) -> dict[str, Any]:
        """Write the history as <topic>.jsonl, in order of publication, and truth.json. Returns the truth."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        files = {topic: (folder / f"{topic}.jsonl").open("wb") for topic in TOPICS}
        try:
            for record in self.records():
                files[record.topic].write(record.value + b"\n")
        finally:
            for file in files.values():
                file.close()
        truth = self.truth()
        (folder / "truth.json").write_bytes(orjson.dumps(truth, option=orjson.OPT_INDENT_2) + b"\n")
        return truth

    def _finished(self) -> _World:
        world = self._world
        if world is None or not world.over:
            self._world = world = _World(self)
            for _ in world.history():
                pass
        return world

    def _sums(self, sales: list[Sale]) -> dict[str, Any]:
        micros = sum(s.gross - (s.refunded[1] if s.refunded and s.refunded[0] < self.end else 0) for s in sales)
        return {"conversions": len(sales), "net_revenue": f"{micros // 1_000_000}.{micros % 1_000_000:06}"}
