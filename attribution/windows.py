"""Spans of time over rollups, as running sums: a change of a cell, or of the end, costs what it changes.

A rolling window starts at floor(end − length) to its granule (minute up to 1h, hour for 24h and 7d, business day beyond) and holds the
buckets of that granule that start in [start, end]: so never less than its length. Periods are whole business days up to the
end. A baseline is what its window would have been that much earlier, in whole granules: those that start in
[floor(end − shift − length), floor(end − shift)). If the end moved backwards, buckets already dropped would be missing: build the sums anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from typing import NamedTuple, cast

from attribution.facts import (
    ASSISTED,
    ATTRIBUTED_MARGIN,
    ATTRIBUTED_NET,
    CLICK_COST,
    CONVERSION,
    CONVERSIONS,
    CREDIT_AGE,
    MARGIN_CONVERSIONS,
    NEW_CUSTOMERS,
    REPLACEABLE,
    TOUCH,
    Measure,
)
from attribution.rollups import OF_PERSONS, RETENTION, Bucket, Calendar, Cell, Rollups
from attribution.rules import Dims
from attribution.running import Key, Running, Span, Window
from attribution.spread import Spread
from models.settings import DAY, HOUR, MINUTE, Goal, Marketing, micros

DAYS = 35
"""Days of which each has values of its own, today included."""


VOLUMES = Window("5m", "m", 5 * MINUTE, (), False)
WINDOWS = (
    Window("1h", "m", HOUR, (CONVERSION,), False),
    Window("24h", "h", DAY, (CONVERSION,), True),
    Window("7d", "h", 7 * DAY, (CONVERSION, TOUCH), True),
    Window("30d", "d", 30 * DAY, (CONVERSION, TOUCH), True),
)
NEVER_ASKED = 1 << 62
PERIODS = ("today", "yesterday", "month_to_date", "last_month", "365d", "campaign_to_date")
CAMPAIGN_TO_DATE = PERIODS[-1]
WEEK_EARLIER, YEAR_EARLIER = 7 * DAY, 364 * DAY
BASELINES = tuple(
    (window, period, shift)
    for window in WINDOWS[1:]
    for period, shift in (
        ("previous", window.length),
        ("week_earlier", WEEK_EARLIER),
        ("364_days_earlier", YEAR_EARLIER),
    )
    if period != "364_days_earlier" or window.length >= 7 * DAY
)
"""(window, name of the period, how much earlier)."""
EXPORTED = frozenset((CONVERSIONS, ATTRIBUTED_NET, ATTRIBUTED_MARGIN, MARGIN_CONVERSIONS, NEW_CUSTOMERS))


def spans(end: int, calendar: Calendar) -> dict[str, Span]:
    """All spans that end at, or are told from, `end`, by name; those of baselines are `<window>/<period>`, of days `day/<days ago>`."""
    found = [Span("5m", "volumes", "m", VOLUMES.start(end, calendar), end, end, True, VOLUMES)]
    found += [
        Span(window.name, "window", window.granularity, window.start(end, calendar), end, end, True, window)
        for window in WINDOWS
    ]
    today = calendar.day(end)
    month, last_month = calendar.month(end), calendar.month(calendar.month(end) - 1)
    for name, low, stop in (
        ("today", today, None),
        ("yesterday", calendar.shift(today, -1), today),
        ("month_to_date", month, None),
        ("last_month", last_month, month),
        ("365d", calendar.day(end - 365 * DAY), None),
        (CAMPAIGN_TO_DATE, calendar.shift(calendar.day(end - RETENTION["d"]), 1), None),
    ):
        high = end if stop is None else stop - 1
        found.append(Span(name, "period", "d", low, high, end if stop is None else stop, stop is None))
    for window, period, shift in BASELINES:
        # Hours are kept for 15 days only.
        granularity = "d" if shift == YEAR_EARLIER else window.granularity
        low = calendar.start(granularity, end - shift - window.length)
        stop = calendar.start(granularity, end - shift)
        found.append(Span(f"{window.name}/{period}", "baseline", granularity, low, stop - 1, stop, False, window))
    following = end
    for ago in range(DAYS):
        day = calendar.shift(today, -ago)
        found.append(Span(f"day/{ago}", "day", "d", day, day, following, ago == 0))
        following = day
    return {span.name: span for span in found}


def goal_days(goal: Goal, calendar: Calendar) -> tuple[int, int, int]:
    """(start of the first day of its measured baseline, start, end of its deadline's day) of a goal."""
    start = calendar.begin(goal.start)
    return calendar.day(start - micros(goal.window)), start, calendar.begin(goal.deadline + timedelta(1))


class _Thin(dict[Measure, bool]):
    """Which measures spans other than windows hold: counts, and credit of some models on the conversion basis."""

    def __init__(self, models: Iterable[str]) -> None:
        super().__init__()
        self._models = frozenset(models)

    def __missing__(self, measure: Measure) -> bool:
        kept = self[measure] = not measure[1] or (measure[1] in self._models and measure[3] == CONVERSION)
        return kept


class _Kept(NamedTuple):
    """What becomes of a measure: whether it is exported by channel, and by campaign, whether spans other than windows hold it, whether it is credit by
    age, and whether reports of networks can replace it."""

    channel: bool
    campaign: bool
    thin: bool
    age: bool
    replaceable: bool


class Sums:
    """What all spans hold: by channel and network for all models, by campaign for the headline models.

    `own` are the clicks' own costs by granularity (`m`, `c`), dims and bucket; which of them count, the costs decide. `fresh` and
    `fresh_days` say of which (granularity, dims), and days, they have changed (of days: or what costs are spread by). `ages` is credit by age in days of touches.
    """

    def __init__(self, marketing: Marketing, end: int) -> None:
        self.marketing = marketing
        self.calendar = Calendar(marketing.time_zone)
        self.channels = Running()
        self.campaigns = Running()
        self.own: dict[str, dict[Dims, dict[int, int]]] = {"m": {}, "c": {}}
        self.fresh: set[tuple[str, Dims]] = set()
        self.fresh_days: set[int] = set()
        self.recounted: set[tuple[str, int, Dims]] = set()
        """In which buckets (granularity, start, dims) that has changed which reports of networks can replace."""
        self.ages: dict[int, Cell] = {}
        self.ages_changed = True
        self.end = end
        self.spans: dict[str, Span] = {}
        self._oldest: dict[str, int] = {}
        self._slim: dict[str, int] = {}
        self._kept: dict[Measure, _Kept] = {}
        self._headline = frozenset(marketing.headline_models)
        self._thin = _Thin([marketing.headline_models[0], *(goal.model for goal in marketing.goals if goal.model)])
        self.asked = min((goal_days(goal, self.calendar)[0] for goal in marketing.goals), default=NEVER_ASKED)
        """Start of the first day that a goal asks for: days from there on are kept beside those of the spans."""
        self.move(end)

    @classmethod
    def of(cls, rollups: Rollups, marketing: Marketing, end: int) -> Sums:
        """The spans of a whole at one end."""
        sums = cls(marketing, end)
        for bucket, cells in rollups.buckets.items():
            if bucket[0] not in OF_PERSONS:
                for dims, cell in cells.items():
                    sums.add(bucket, dims, cell)
        return sums

    def move(self, end: int) -> None:
        """Let the spans end at `end`, which must not be before the last one."""
        self.end = end
        self.spans = spans(end, self.calendar)
        oldest: dict[str, int] = {}
        slim: dict[str, int] = {}
        for span in self.spans.values():
            oldest[span.granularity] = min(span.low, oldest.get(span.granularity, span.low))
            if span.whole:
                slim[span.granularity] = min(span.low, slim.get(span.granularity, span.low))
            self.channels.move(span, self._thin)
            self.campaigns.move(span, self._thin)
        oldest["c"] = oldest["d"] = min(oldest["d"], self.asked)
        if oldest == self._oldest and slim == self._slim:
            return
        for granularity in "mhd":
            for running in (self.channels, self.campaigns):
                running.drop(granularity, oldest[granularity])
                running.slim(granularity, self._slim.get(granularity, 0), slim[granularity], self._thin)
        self._oldest, self._slim = oldest, slim
        for day in [day for day in self.ages if day < oldest["d"]]:
            del self.ages[day]
        for granularity, owners in self.own.items():
            for dims, amounts in owners.items():
                for start in [start for start in amounts if start < oldest[granularity]]:
                    del amounts[start]
                    self.fresh.add((granularity, dims))

    @property
    def hours_from(self) -> int:
        """Where the hours begin that are held: of days before it there is the sum alone."""
        return self._oldest["h"]

    def wants(self, bucket: Bucket) -> bool:
        """Whether a span holds this bucket now or will."""
        return bucket[1] >= self._oldest[bucket[0]]

    def slim(self, bucket: Bucket) -> bool:
        """Whether all that is still wanted of this bucket is what `thin` keeps: it lies before every window."""
        return bucket[1] < self._slim.get(bucket[0], 0)

    def thin(self, measure: Measure) -> bool:
        """Whether a measure is wanted of buckets before every window."""
        return self._thin[measure] or measure[0].startswith(CREDIT_AGE)

    def add(self, bucket: Bucket, dims: Dims, delta: Mapping[Measure, int]) -> None:
        """Add amounts to one cell; what no span can want any more is left out."""
        granularity, start = bucket
        if start < self._oldest[granularity]:
            return
        if granularity in self.own and CLICK_COST in delta:
            amounts = self.own[granularity].setdefault(dims, {})
            amounts[start] = amounts.get(start, 0) + delta[CLICK_COST]
            if not amounts[start]:
                del amounts[start]
            self.fresh.add((granularity, dims))
            self.fresh_days.add(self.calendar.day(start))
        if granularity == "c":
            return
        if granularity == "d" and self.marketing.spread.by == "touches":
            self.fresh_days.add(start)
        by_channel, by_campaign, thin_channel, thin_campaign = [], [], [], []
        slim = start < self._slim[granularity]
        for item in delta.items():
            measure = item[0]
            kept = self._kept.get(measure)
            if kept is None:
                kept = self._kept[measure] = self._keeps(measure)
            if kept.age and granularity == "d":
                cell = self.ages.setdefault(start, {})
                cell[measure] = cell.get(measure, 0) + item[1]
                self.ages_changed = True
            if kept.replaceable:
                self.recounted.add((granularity, start, dims))
            if slim and not kept.thin:
                continue
            if kept.channel:
                by_channel.append(item)
                if kept.thin:
                    thin_channel.append(item)
            if kept.campaign:
                by_campaign.append(item)
                if kept.thin:
                    thin_campaign.append(item)
        self.channels.add(granularity, start, dims[:2], by_channel, thin_channel)
        self.campaigns.add(granularity, start, dims, by_campaign, thin_campaign)

    def _keeps(self, measure: Measure) -> _Kept:
        name, model, _, basis = measure
        thin, age = self._thin[measure], name.startswith(CREDIT_AGE)
        if not model:
            counted = measure != CLICK_COST
            return _Kept(counted, counted and name != ASSISTED, thin, age, name in REPLACEABLE)
        kept = name in EXPORTED
        return _Kept(kept, kept and basis == CONVERSION and model in self._headline, thin, age, False)

    def spread(self) -> Spread:
        """How costs without a place are spread, with the touches of the days that are held."""
        days = self.campaigns.cells["d"]
        return Spread(self.marketing, self.calendar, lambda day: cast("dict[Dims, Cell]", days.get(day, {})))

    def keys(self) -> Iterator[Key]:
        """Every campaign with a sum in some span, and every one whose clicks cost something; some more than once."""
        for found in self.campaigns.sums.values():
            yield from found
        yield from self.own["c"]
