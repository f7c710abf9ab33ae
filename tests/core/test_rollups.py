"""Buckets: where facts are kept, how long, and where a local day begins."""

from __future__ import annotations

import pytest

from attribution.facts import CLICK_COST, CLICKS, CONVERSION, CONVERSIONS, TOUCH, Measure, negated
from attribution.rollups import RETENTION, Calendar, Rollups
from models.settings import DAY, HOUR, MINUTE
from tests.reference import moment

EARNED: Measure = (CONVERSIONS, "linear", "purchase", TOUCH)
SPENT: Measure = (CONVERSIONS, "linear", "purchase", CONVERSION)
DIMS = ("Paid Search", "google", "brand")
OTHER = ("Email", "(none)", "news")
T = moment("2026-03-10T13:47:11.123456Z")


def rollups(zone: str = "UTC") -> Rollups:
    return Rollups(Calendar(zone))


@pytest.mark.parametrize(
    ("measure", "kept"),
    [(CLICKS, "mhd"), (SPENT, "mhd"), (EARNED, "hd"), (CLICK_COST, "mc"), (("click_cost", "", "", ""), "mc")],
)
def test_where_a_measure_is_kept(measure: Measure, kept: str) -> None:
    made = rollups()
    made.add([(T, DIMS, measure, 5)], T)
    made.prune(T)
    assert made.buckets == {
        (granularity, made.calendar.start(granularity, T)): {DIMS: {measure: 5}} for granularity in kept
    }


def test_starts_of_buckets() -> None:
    made = rollups()
    assert made.calendar.start("m", T) == moment("2026-03-10T13:47:00Z")
    assert made.calendar.start("h", T) == made.calendar.start("c", T) == moment("2026-03-10T13:00:00Z")
    assert made.calendar.start("d", T) == moment("2026-03-10T00:00:00Z")
    for granularity, length in (("m", MINUTE), ("h", HOUR), ("c", HOUR), ("d", DAY)):
        start = made.calendar.start(granularity, T)
        assert made.calendar.start(granularity, start) == made.calendar.start(granularity, start + length - 1) == start
        assert made.calendar.start(granularity, start - 1) == start - length


def test_hours_are_of_utc_where_days_are_not() -> None:
    """Asia/Kolkata is 5:30 ahead: a local day begins at half past an hour of UTC."""
    made = rollups("Asia/Kolkata")
    assert made.calendar.start("d", moment("2026-03-10T18:29:59.999999Z")) == moment("2026-03-09T18:30:00Z")
    assert made.calendar.start("d", moment("2026-03-10T18:30:00Z")) == moment("2026-03-10T18:30:00Z")
    assert made.calendar.start("h", moment("2026-03-10T18:30:00Z")) == moment("2026-03-10T18:00:00Z")
    assert made.calendar.date(moment("2026-03-10T18:30:00Z")) == "2026-03-11"


# (zone, local date, its start, the start of the next). The clock changes come from the IANA time zone database.
DAYS = [
    ("Europe/Paris", "2026-03-28", "2026-03-27T23:00:00Z", "2026-03-28T23:00:00Z"),
    ("Europe/Paris", "2026-03-29", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"),
    ("Europe/Paris", "2026-03-30", "2026-03-29T22:00:00Z", "2026-03-30T22:00:00Z"),
    ("Europe/Paris", "2026-10-24", "2026-10-23T22:00:00Z", "2026-10-24T22:00:00Z"),
    ("Europe/Paris", "2026-10-25", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"),
    ("Europe/Paris", "2026-10-26", "2026-10-25T23:00:00Z", "2026-10-26T23:00:00Z"),
    ("Asia/Kolkata", "2026-03-29", "2026-03-28T18:30:00Z", "2026-03-29T18:30:00Z"),
    ("Asia/Kathmandu", "2026-03-29", "2026-03-28T18:15:00Z", "2026-03-29T18:15:00Z"),
    # Midnight does not exist on this day, and comes twice on the next two.
    ("Asia/Beirut", "2024-03-31", "2024-03-30T22:00:00Z", "2024-03-31T21:00:00Z"),
    ("America/Havana", "2024-11-03", "2024-11-03T04:00:00Z", "2024-11-04T05:00:00Z"),
    ("Australia/Lord_Howe", "2026-04-05", "2026-04-04T13:00:00Z", "2026-04-05T13:30:00Z"),
]


@pytest.mark.parametrize(("zone", "date", "start", "following"), DAYS)
def test_local_days(zone: str, date: str, start: str, following: str) -> None:
    calendar = Calendar(zone)
    begin, end = moment(start), moment(following)
    for t in [begin, begin + 1, *range(begin, end, 15 * MINUTE), end - 1]:
        assert calendar.day(t) == begin, t
        assert calendar.date(t) == date, t
    assert calendar.day(begin - 1) < begin
    assert calendar.day(end) == end
    assert calendar.shift(begin, 1) == end
    assert calendar.shift(end, -1) == begin
    assert calendar.shift(begin, 0) == begin


def test_shift_by_a_year_of_local_days() -> None:
    calendar = Calendar("Europe/Paris")
    assert calendar.shift(moment("2026-01-31T23:00:00Z"), 365) == moment("2027-01-31T23:00:00Z")
    assert calendar.shift(moment("2026-01-31T23:00:00Z"), 180) == moment("2026-07-30T22:00:00Z")


@pytest.mark.parametrize("granularity", ["m", "h", "d", "c"])
def test_a_bucket_is_gone_once_it_is_as_old_as_its_retention(granularity: str) -> None:
    measure = CLICK_COST if granularity == "c" else CLICKS
    made = rollups()
    start = made.calendar.start(granularity, T)
    edge = start + RETENTION[granularity]
    made.add([(T, DIMS, measure, 1)], edge - 1)
    assert made.buckets[granularity, start] == {DIMS: {measure: 1}}
    made.prune(edge - 1)
    assert (granularity, start) in made.buckets
    assert (granularity, start) not in made.expired(edge - 1)
    assert (granularity, start) in made.expired(edge)
    made.prune(edge)
    assert (granularity, start) not in made.buckets
    # And it does not come back, whether with the same highest time or a later one.
    for highest in (edge, edge + DAY):
        made.add([(T, DIMS, measure, 1), (start, DIMS, measure, -1)], highest)
        assert (granularity, start) not in made.buckets


def test_each_retention_is_its_own() -> None:
    made = rollups()
    made.add([(T, DIMS, CLICKS, 1), (T, DIMS, CLICK_COST, 7)], T)
    made.prune(T + 4 * HOUR)
    assert {granularity for granularity, _ in made.buckets} == {"h", "d", "c"}
    made.prune(T + 16 * DAY)
    assert {granularity for granularity, _ in made.buckets} == {"d", "c"}
    made.prune(T + 401 * DAY)
    assert made.buckets == {}


def test_a_day_of_25_hours_expires_by_its_start() -> None:
    made = rollups("Europe/Paris")
    start = moment("2026-10-24T22:00:00Z")
    made.add([(start + 24 * HOUR + 1, DIMS, CLICKS, 1)], start + RETENTION["d"] - 1)
    assert ("d", start) in made.buckets
    made.add([(start + 24 * HOUR + 1, OTHER, CLICKS, 1)], start + RETENTION["d"])
    assert made.buckets["d", start] == {DIMS: {CLICKS: 1}}


def test_what_is_taken_back_leaves_nothing_behind() -> None:
    made = rollups()
    facts = [(T, DIMS, CLICKS, 1), (T, OTHER, CLICKS, 2), (T - DAY, DIMS, SPENT, 1_000_000)]
    made.add(facts, T)
    made.add(negated(facts[1:]), T)
    made.prune(T)
    assert made.buckets == {
        (granularity, made.calendar.start(granularity, T)): {DIMS: {CLICKS: 1}} for granularity in "mhd"
    }


def test_within_is_by_start_and_leaves_out_the_end() -> None:
    made = rollups()
    hour = moment("2026-03-10T13:00:00Z")
    made.add([(t, DIMS, CLICKS, 1) for t in (hour - 1, hour, hour + HOUR - 1, hour + HOUR)], hour + HOUR)
    assert dict(made.within("h", hour, hour + HOUR)) == {hour: {DIMS: {CLICKS: 2}}}
    assert {at for at, _ in made.within("h", hour - HOUR, hour + HOUR + 1)} == {hour - HOUR, hour, hour + HOUR}
    assert dict(made.within("m", hour + 1, hour + MINUTE)) == {}
