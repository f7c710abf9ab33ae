"""What advertising costs: spend follows the touches bought, and networks report it with a delay."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from heapq import heappop, heappush
from random import Random
from zoneinfo import ZoneInfo

import orjson

from streams.simulation.delivery import DAY, EPOCH, HOUR, MINUTE, SECOND, Delivery, Record
from streams.simulation.market import CAMPAIGNS, REPORTED

ZONE = ZoneInfo("Europe/Paris")
# Hours of the local day at which networks report: yesterday for good, then what was spent so far today. The
# gaps are such that the last 24 hours are never less than half covered.
FINAL_HOUR = 6.5
INTRADAY_HOURS = (10.0, 20.0)
# What is billed by mistake when the shop goes live, of which campaign (EUR; for 2000 persons).
MISTAKE, MISTAKEN = 12_000, 0


def instant(day: date, hour: float = 0.0) -> int:
    """Microseconds since 1970 UTC of a local day's hour."""
    return int(datetime(day.year, day.month, day.day, tzinfo=ZONE).timestamp()) * SECOND + int(hour * HOUR)


def local_day(t: int) -> date:
    return (EPOCH + timedelta(microseconds=t)).astimezone(ZONE).date()


class Spending:
    """Money spent per campaign on the current and the previous local day, and the rows that report it.

    `add` may look ahead; reports are asked for in order of time, and hold what was spent before them.
    """

    def __init__(self, start: int, scale: float, delivery: Delivery, seed: int, duplicates: float) -> None:
        self.start = start
        self._scale = scale
        self._delivery = delivery
        self._ahead: list[tuple[int, int, int]] = []
        self._duplicates = duplicates
        self._random = Random(seed)
        self.first = self.day = local_day(start)
        self._midnight = instant(self.day + timedelta(1))
        self._today = [[0, 0] for _ in CAMPAIGNS]
        self._before = [[0, 0] for _ in CAMPAIGNS]

    def add(self, t: int, campaign: int, price: int) -> None:
        """`price` micros for a touch of CAMPAIGNS[campaign] at `t`."""
        heappush(self._ahead, (t, campaign, price))

    def reports(self, lo: int, hi: int) -> None:
        """Send the reports of history that networks make in [lo, hi)."""
        for t, what in sorted(self._schedule(lo, hi)):
            self._advance(t)
            if what == "month":
                self.overheads(t)
            else:
                for campaign in REPORTED:
                    self.report(campaign, t, final=what == "final")

    def _schedule(self, lo: int, hi: int) -> Iterator[tuple[int, str]]:
        day = local_day(lo)
        while instant(day) < hi:
            times = [(instant(day, hour), "intraday") for hour in INTRADAY_HOURS]
            if day > self.first:
                times.append((instant(day, FINAL_HOUR), "final"))
            if day == self.first:
                times.append((self.start, "month"))
            elif day.day == 1:
                times.append((instant(day, 0.1), "month"))
            yield from (entry for entry in times if lo <= entry[0] < hi)
            day += timedelta(1)

    def live_report(self, campaign: int, t: int) -> bool:
        """Send what a running campaign has spent today, as of `t`. True on the first call of a new day."""
        turned = t >= self._midnight
        self._advance(t)
        self.report(campaign, t, final=False)
        return turned

    def report(self, campaign: int, t: int, *, final: bool) -> None:
        """One media row for the current day or, when final, the day before it."""
        day = self.day - timedelta(1) if final else self.day
        start, end = instant(day), instant(day + timedelta(1))
        bought = CAMPAIGNS[campaign]
        spent, touches = (self._before if final else self._today)[campaign]
        spent += int(bought.floor * self._scale * min(1.0, (t - start) / (end - start)))
        row = {
            "cost_id": f"{bought.id}-{day}",
            "event_id": f"{bought.id}-{day}@{t}",
            "occurred_at": EPOCH + timedelta(microseconds=t),
            "source": f"{bought.network}-report",
            "start": EPOCH + timedelta(microseconds=start),
            "end": EPOCH + timedelta(microseconds=end),
            "channel": bought.channel,
            "network": bought.network,
            "campaign": bought.name,
            "campaign_id": bought.id,
            "amount": spent // 10_000 / 100,
            "currency": bought.currency,
            "kind": "media",
            "reported_at": EPOCH + timedelta(microseconds=t),
            "clicks": touches,
            "impressions": touches * 60,
            "reach": touches * 25,
            "video_views": touches * 12,
            "followers": 4_000 + 900 * campaign + 3 * (day - self.first).days,
            # Networks claim whoever they saw: more than they are credited for.
            "platform_conversions": touches // 8,
            "platform_value": touches // 8 * 75,
        }
        self._send(row, t + SECOND + campaign)

    def mistake(self, t: int, began: int, *, corrected: bool) -> None:
        """A network bills, for the hours before `began`, what was never bought; corrected, the same row says 0."""
        bought = CAMPAIGNS[MISTAKEN]
        end = began - began % HOUR
        row = {
            "cost_id": f"{bought.id}-billed-twice",
            "event_id": f"{bought.id}-billed-twice@{t}",
            "occurred_at": EPOCH + timedelta(microseconds=t),
            "source": f"{bought.network}-report",
            "start": EPOCH + timedelta(microseconds=end - 3 * HOUR),
            "end": EPOCH + timedelta(microseconds=end),
            "channel": bought.channel,
            "network": bought.network,
            "campaign": bought.name,
            "campaign_id": bought.id,
            "amount": 0 if corrected else round(MISTAKE * max(self._scale, 0.1)),
            "currency": bought.currency,
            "kind": "media",
            "reported_at": EPOCH + timedelta(microseconds=t),
        }
        self._delivery.put(Record(t, "costs", str(row["cost_id"]).encode(), orjson.dumps(row)))

    def overheads(self, t: int) -> None:
        """The agency's and the tool's row for the month of the current day."""
        first = self.day.replace(day=1)
        after = (first + timedelta(32)).replace(day=1)
        for name, kind, amount in (("agency", "agency", 1800.0), ("analytics-suite", "tool", 290.0)):
            row = {
                "cost_id": f"{name}-{first:%Y-%m}",
                "event_id": f"{name}-{first:%Y-%m}@{t}",
                "occurred_at": EPOCH + timedelta(microseconds=t),
                "source": "accounting",
                "start": EPOCH + timedelta(microseconds=instant(first)),
                "end": EPOCH + timedelta(microseconds=instant(after)),
                "amount": round(amount * self._scale, 2),
                "currency": "EUR",
                "kind": kind,
                "reported_at": EPOCH + timedelta(microseconds=t),
            }
            self._send(row, t + SECOND)

    def _send(self, row: dict[str, object], published: int) -> None:
        record = Record(published, "costs", str(row["cost_id"]).encode(), orjson.dumps(row))
        self._delivery.put(record)
        if self._random.random() < self._duplicates:
            self._delivery.put(record._replace(published_at=published + int(self._random.random() * 5 * MINUTE)))

    def _advance(self, t: int) -> None:
        ahead = self._ahead
        while self._midnight <= t:
            self._take(ahead, self._midnight)
            self.day = local_day(self._midnight + DAY // 2)
            self._midnight = instant(self.day + timedelta(1))
            self._before, self._today = self._today, [[0, 0] for _ in CAMPAIGNS]
        self._take(ahead, t)

    def _take(self, ahead: list[tuple[int, int, int]], t: int) -> None:
        while ahead and ahead[0][0] < t:
            _, campaign, price = heappop(ahead)
            total = self._today[campaign]
            total[0] += price
            total[1] += 1
