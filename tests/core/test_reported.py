"""Reports of networks in the place of what was counted: by hand, and against a slow reading of the rule over generated shops."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from decimal import Decimal
from random import Random
from typing import Any

import msgspec
import pytest

from attribution.costs import Ledger
from attribution.facts import CLICKS, FILTERED_CLICKS, IMPRESSIONS, ORDERS, TOTAL, Fact, Measure, engagement
from attribution.filing import NOBODY
from attribution.goals import measure
from attribution.kpi import Board, rows
from attribution.nodes.cost import accrual_end
from attribution.nodes.state import CostRow
from attribution.replay import Replay
from attribution.rollups import Calendar, Rollups
from attribution.rules import Dims
from attribution.windows import Sums
from models.settings import DAY, HOUR, MINUTE, Goal, Marketing
from models.wire import COUNTERS
from tests.reference import moment

MARKETING = Marketing(clock="event")
END = moment("2026-03-10T10:30:30Z")
META: Dims = ("Paid Social", "facebook", "spring")
ORGANIC: Dims = ("Organic Social", "facebook", "(none)")
F = ("Paid Social", "facebook")
LIKE, SHARE = engagement("like"), engagement("share")
Found = dict[tuple[str, ...], Decimal]


def report(
    start: int, end: int, dims: Dims = META, amount: int | None = None, at: int | None = None, **figures: int
) -> CostRow:
    named = {name.replace("__", "/"): n for name, n in figures.items()}
    kind = COUNTERS if amount is None else "media"
    return CostRow(start, end, at or end, kind, dims, amount or 0, len(named), tuple(sorted(named.items())))


def sums_of(facts: Iterable[Fact], end: int = END, marketing: Marketing = MARKETING) -> Sums:
    rollups = Rollups(Calendar(marketing.time_zone))
    rollups.add(facts, end)
    return Sums.of(rollups, marketing, end)


def exported(
    facts: Iterable[Fact], costs: Iterable[CostRow], end: int = END, marketing: Marketing = MARKETING
) -> Found:
    """Values by (family, labels' values but the currency)."""
    sums = sums_of(facts, end, marketing)
    return table(rows(sums, Ledger(costs, sums.own, end, spread=sums.spread())))


def table(found: Iterable[Any]) -> Found:
    return {
        (family.removeprefix("parcours_"), *(text for name, text in labels if name != "currency")): Decimal(value)
        for family, labels, value in found
    }


def hours(dims: Dims, measure_: Measure, start: int, n: int, each: int = 1) -> list[Fact]:
    """`each` events in the middle of each of `n` hours."""
    return [(start + i * HOUR + HOUR // 2, dims, measure_, each) for i in range(n)]


# --- By hand


def test_a_report_stands_in_the_place_of_what_was_counted_in_its_hours_and_no_others() -> None:
    """6 to 10 o'clock is reported as 100 clicks and 900 impressions; of 3 clicks an hour from 4 to 10:30, 2 hours and the running one stay."""
    begin = moment("2026-03-10T04:00:00Z")
    facts = [*hours(META, CLICKS, begin, 6, 3), (END - MINUTE, META, CLICKS, 3), (END - MINUTE, META, IMPRESSIONS, 7)]
    found = exported(facts, [report(begin + 2 * HOUR, begin + 6 * HOUR, clicks=100, impressions=900)])
    for window in ("24h", "7d", "30d", "today", "month_to_date"):
        assert found["total_clicks", window] == 2 * 3 + 100 + 3, window
        assert found["channel_clicks", *F, window] == 109
        assert found["campaign_clicks", *META, window] == 109
        assert found["channel_impressions", *F, window] == 907
    assert found["total_counted_clicks", "24h"] == 21
    assert found["channel_counted_impressions", *F, "24h"] == 7
    assert found["day_channel_clicks", *F, "0"] == 109
    # 9:30 to 10:30, by minutes: the reported half hour is 1/8 of the report.
    assert found["channel_clicks", *F, "1h"] == Decimal(100 - 100 * 7 // 8) + 3
    assert found["channel_clicks", *F, "5m"] == 3


def test_reports_of_another_campaign_network_or_counter_replace_nothing() -> None:
    begin = moment("2026-03-10T04:00:00Z")
    facts = hours(META, CLICKS, begin, 4, 5)
    others = [
        report(begin, END, ("Paid Social", "facebook", "summer"), clicks=10),
        report(begin, END, ("Paid Social", "instagram", "spring"), clicks=20),
        report(begin, END, impressions=50),
    ]
    found = exported(facts, others)
    assert found["campaign_clicks", *META, "24h"] == 20
    assert found["total_clicks", "24h"] == 50


def test_case_and_channel_make_no_other_campaign_but_a_report_without_one_is_of_its_channel() -> None:
    begin = moment("2026-03-10T04:00:00Z")
    facts = hours(META, CLICKS, begin, 4, 5) + hours(ORGANIC, LIKE, begin, 4, 2)
    found = exported(facts, [report(begin, END, ("Social Ads", "Facebook", "SPRING"), clicks=7)])
    assert found["total_clicks", "24h"] == 7
    paid = report(begin, END, ("Paid Social", "facebook", "(none)"), engagements__like=9)
    assert exported(facts, [paid])["channel_engagements", *ORGANIC[:2], "24h"] == 8, (
        "likes of pages are not those of ads"
    )
    found = exported(facts, [report(begin, END, ORGANIC, engagements__Like=9)])
    assert found["channel_engagements", *ORGANIC[:2], "24h"] == 9


def test_engagements_are_replaced_kind_by_kind_and_keep_their_sentiment() -> None:
    begin = moment("2026-03-10T04:00:00Z")
    facts = [
        *hours(META, engagement("like", "1"), begin, 4), *hours(META, LIKE, begin, 4), *hours(META, SHARE, begin, 2),
        *hours(META, IMPRESSIONS, begin, 4, 10),
    ]  # fmt: skip
    found = exported(facts, [report(begin, END, engagements__like=100)])
    assert found["channel_engagements", *F, "24h"] == 102
    # A like is worth 1, a share 3. The sentiments are those counted, on both sides.
    assert found["channel_engagement_points", *F, "24h"] == 106
    assert found["channel_engagements_positive", *F, "24h"] == 4
    assert found["channel_net_sentiment_ratio", *F, "24h"] == 1
    # No report gives impressions: the rate is of what was counted, 10 of 40.
    assert found["channel_engagement_rate_by_impressions_ratio", *F, "24h"] == Decimal("0.25")
    both = exported(facts, [report(begin, END, engagements__like=100, impressions=1000)])
    # Reported likes and counted shares, over reported impressions.
    assert both["channel_engagement_rate_by_impressions_ratio", *F, "24h"] == Decimal("0.102")


def test_a_ratio_takes_both_sides_from_one_source() -> None:
    begin = moment("2026-03-10T04:00:00Z")
    facts = hours(META, CLICKS, begin, 4, 5) + hours(META, IMPRESSIONS, begin, 4, 50)
    alone = exported(facts, [report(begin, END, clicks=100)])
    assert (alone["channel_clicks", *F, "24h"], alone["channel_ctr_ratio", *F, "24h"]) == (100, Decimal("0.1"))
    both = exported(facts, [report(begin, END, clicks=100, impressions=500)])
    assert both["channel_ctr_ratio", *F, "24h"] == Decimal("0.2")
    # Money that is reported without clicks is over the clicks counted; with them, over those. All is known to the end.
    euros = 10_000_000
    assert exported(facts, [report(END - DAY, END, amount=euros)])["channel_cpc", *F, "24h"] == Decimal("0.5")
    whole = report(begin, END, amount=euros, clicks=100, impressions=500)
    rest = report(END - 3 * DAY, begin, amount=0)
    found = exported(facts, [whole, rest])
    assert found["channel_cpc", *F, "24h"] == Decimal("0.1")
    assert found["channel_cpm", *F, "24h"] == 20
    # Counters that come apart from the money say nothing of what a click cost.
    apart = [report(begin, END, clicks=100, impressions=500), report(END - 3 * DAY, END, amount=euros * 3)]
    found = exported(facts, apart)
    assert found["channel_clicks", *F, "24h"] == 100
    assert abs(found["channel_cpc", *F, "24h"] - found["channel_media_cost", *F, "24h"] / 20) < Decimal("1e-9")


def test_a_report_of_noon_cuts_both_sides_of_a_cost_per_click_where_it_ends() -> None:
    """Reported up to 8 o'clock: 8 euros for 40 clicks. What was clicked since stands in clicks and not in CPC."""
    day = moment("2026-03-10T00:00:00Z")
    facts = hours(META, CLICKS, day, 10, 1)
    # Orders of all and what nobody is credited for are no names of a level, and have no cut.
    facts += [
        (END - HOUR, TOTAL, ORDERS, 1),
        (END - HOUR, NOBODY, ("conversions", "last_non_direct", "purchase", "conversion"), 1),
    ]
    costs = [
        report(day - 3 * DAY, day, amount=0, clicks=0),
        report(day, day + DAY, at=day + 8 * HOUR, amount=8_000_000, clicks=40),
    ]
    found = exported(facts, costs)
    assert found["channel_clicks", *F, "24h"] == 42
    assert found["channel_cpc", *F, "24h"] == Decimal("0.2")


@pytest.mark.parametrize(("ago", "exact"), [(5, True), (40, False)])
def test_a_day_in_part_goes_by_hours_while_these_are_kept_and_then_by_its_share(ago: int, exact: bool) -> None:
    """All 12 clicks are before noon, and the report is of 6 to 12: a quarter of the day, and half of the clicks."""
    day = moment("2026-03-10T00:00:00Z") - ago * DAY
    facts = hours(META, CLICKS, day, 12)
    found = exported(facts, [report(day + 6 * HOUR, day + 12 * HOUR, clicks=100)])
    assert found["campaign_clicks", *META, "campaign_to_date"] == 100 + (6 if exact else 9)


def test_days_that_begin_within_an_hour_take_back_no_hour_of_the_next_one() -> None:
    """Ten clicks of 18:40 UTC are of the next day in India: a report of the day before, which counts none, takes nothing back."""
    marketing = Marketing(clock="event", time_zone="Asia/Kolkata")
    midnight = moment("2026-03-08T18:30:00Z")
    facts: list[Fact] = [(midnight - 2 * HOUR, META, CLICKS, 3), (midnight + 10 * MINUTE, META, CLICKS, 10)]
    found = exported(facts, [report(midnight - 6 * HOUR, midnight, clicks=0)], marketing=marketing)
    assert found["day_channel_clicks", *F, "2"] == 0
    assert found["day_channel_clicks", *F, "1"] == 10


def test_what_no_report_of_a_span_tells_is_absent_in_it() -> None:
    """The same campaign once told of conversions, and of video views alone since."""
    day = moment("2026-03-09T00:00:00Z")
    costs = [
        report(day - 20 * DAY, day - 19 * DAY, platform_conversions=5, platform_value=400),
        report(day, day + DAY, video_views=0),
    ]
    found = exported([], costs)
    assert found["channel_platform_conversions", *F, "30d"] == 5
    assert found["channel_video_views", *F, "7d"] == 0
    assert ("channel_platform_conversions", *F, "7d") not in found
    assert ("channel_platform_value", *F, "7d") not in found
    assert ("channel_platform_conversions_difference", *F, "7d") not in found


def test_claims_beside_what_is_credited() -> None:
    euro = 1_000_000
    credit = ("conversions", "last_non_direct", "purchase", "conversion")
    revenue = ("attributed_net", "last_non_direct", "purchase", "conversion")
    facts: list[Fact] = [(END - HOUR, META, credit, 2 * euro), (END - HOUR, META, revenue, 150 * euro)]
    day = moment("2026-03-09T00:00:00Z")
    claims = report(day, day + DAY, platform_conversions=5, platform_value=400 * euro, video_views=70)
    other = report(day, day + DAY, ("Paid Video", "youtube", "clip"), platform_conversions=1)
    found = exported(facts, [claims, other])
    assert found["channel_platform_conversions", *F, "7d"] == 5
    assert found["channel_platform_value", *F, "7d"] == 400
    assert found["channel_platform_conversions_difference", *F, "7d"] == 3
    assert found["channel_platform_value_difference", *F, "7d"] == 250
    assert found["channel_video_views", *F, "7d"] == 70
    assert found["total_platform_conversions", "7d"] == 6
    assert found["channel_platform_conversions_difference", "Paid Video", "youtube", "7d"] == 1
    assert ("channel_platform_value", "Paid Video", "youtube", "7d") not in found, "not told is not 0"
    # By 10:30 the last 24 hours, which begin at 10, hold 14/24 of the day: 5 - floor(5 * 10 / 24).
    assert found["channel_platform_conversions", *F, "24h"] == 3


@pytest.mark.parametrize(
    ("start", "end", "inside"),
    [
        (0, 2 * HOUR, True),  # ends included: what lies in the window to the microsecond
        (-1, 2 * HOUR, False),
        (-HOUR, HOUR, False),
        (2 * HOUR, DAY + END % HOUR, True),
        (2 * HOUR, DAY + END % HOUR + 1, False),
    ],
)
def test_reported_reach_counts_where_its_interval_lies_inside_the_window(start: int, end: int, *, inside: bool) -> None:
    """The last 24 hours begin at the full hour; a report that crosses an edge says nothing of them, nor takes it from one that lies inside."""
    begins = END - END % HOUR - DAY
    crossing = report(begins + start, begins + end, reach=900)
    found = exported([], [crossing, report(begins + HOUR, begins + 2 * HOUR, reach=7)])
    assert found["channel_platform_reach", *F, "24h"] == (900 if inside else 7)
    alone = exported([], [crossing])
    assert alone.get(("channel_platform_reach", *F, "24h")) == (900 if inside else None)


def test_followers_and_reach_are_never_sums() -> None:
    day = moment("2026-03-08T00:00:00Z")
    costs = [
        # The same page under another campaign, read a little later: one page has its followers once, and its reach.
        report(day + DAY, day + 2 * DAY, (*F, "summer"), at=day + 3 * DAY, followers=890, reach=350),
        report(day, day + DAY, followers=900, reach=400),
        report(day + DAY, day + 2 * DAY, followers=880, reach=300),
        report(day - 20 * DAY, day - 19 * DAY, followers=800, reach=5000),
        report(day - 6 * DAY, day - 4 * DAY, reach=9000),
        report(day, day + DAY, ("Organic Social", "x", "(none)"), followers=10),
    ]
    found = exported([*hours(META, LIKE, day, 20)], costs)
    assert found["channel_followers", *F, "7d"] == 890
    assert found["channel_follower_growth", *F, "7d"] == 90
    assert found["total_followers", "7d"] == 900
    assert found["total_follower_growth", "7d"] == 90, "of the networks whose followers of before are known"
    assert ("channel_follower_growth", "Organic Social", "x", "7d") not in found
    assert found["channel_platform_reach", *F, "7d"] == 400
    assert found["channel_platform_reach", *F, "30d"] == 9000, "in the week it lies in part"
    assert ("total_platform_reach", "7d") not in found
    assert found["channel_engagements_per_follower_ratio", *F, "7d"] == Decimal("0.0224719101124")


def test_engagements_without_a_person_count_by_network_and_are_replaced_like_others() -> None:
    def events(*costs: dict[str, Any]) -> Found:
        replay = Replay(MARKETING)
        like = {"type": "engagement", "kind": "like", "network": "instagram", "occurred_at": "2026-03-10T08:30:00Z"}
        for n in range(3):
            replay.take("touchpoints", json.dumps(like | {"event_id": f"e{n}"}).encode())
        order = {"event_id": "p", "occurred_at": "2026-03-10T10:00:00Z", "customer_id": "c", "type": "order"}
        replay.take("purchases", json.dumps(order | {"order_id": "1", "revenue": 9, "currency": "EUR"}).encode())
        for body in costs:
            replay.take("costs", json.dumps(body).encode())
        replay.finish()
        assert not replay.refused
        assert [found.reason for found in replay.attributions()] == ["no_touch_known"]
        assert replay.devices.reach(replay.highest, replay.rollups.calendar)["24h"] == {}
        sums = Sums.of(replay.rollups, MARKETING, replay.highest)
        return table(rows(sums, Ledger((row for _, row in replay.costs()), sums.own, replay.highest)))

    page = ("Organic Social", "instagram")
    assert events()["channel_engagements", *page, "24h"] == 3
    told = {
        "cost_id": "r", "start": "2026-03-10T08:00:00Z", "end": "2026-03-10T09:00:00Z", "channel": page[0], "network": page[1],
        "engagements": {"like": 50}, "followers": 1000,
    }  # fmt: skip
    found = events(told)
    assert found["channel_engagements", *page, "24h"] == 50
    assert found["channel_followers", *page, "24h"] == 1000
    assert ("channel_cost", *page, "24h") not in found


def test_clicks_that_a_filter_removed_are_counted_apart() -> None:
    found = exported([*hours(META, CLICKS, END - 5 * HOUR, 3), *hours(META, FILTERED_CLICKS, END - 5 * HOUR, 2)], [])
    assert found["channel_filtered_clicks", *F, "24h"] == found["total_filtered_clicks", "7d"] == 2
    assert found["channel_clicks", *F, "24h"] == 3


def test_goals_count_what_is_reported() -> None:
    day = moment("2026-03-10T00:00:00Z")
    sums = sums_of([*hours(META, CLICKS, day, 10, 2), *hours(META, IMPRESSIONS, day, 10, 10)])
    ledger = Ledger([report(day, day + 5 * HOUR, clicks=100)], sums.own, END)

    def now(metric: str, **scope: str) -> Decimal | None:
        body = {"name": "g", "metric": metric, "target": 1, "start": "2026-03-10", "deadline": "2026-03-20", **scope}
        return measure(msgspec.convert(body, Goal), sums, ledger, day, END + 1)

    assert now("clicks") == now("clicks", network="face*") == now("clicks", campaign="spring") == 110
    assert now("clicks", network="google") == 0
    assert now("ctr") == Decimal("0.2"), "both sides from one source"


# --- Over generated shops

PLACES: tuple[Dims, ...] = (META, ("Paid Social", "facebook", "summer"), ("Paid Search", "google", "brand"), ORGANIC)
COUNTED = {"clicks": CLICKS, "impressions": IMPRESSIONS, "engagements/like": LIKE, "engagements/share": SHARE}


def shop(rng: Random) -> tuple[list[Fact], list[CostRow]]:
    facts: list[Fact] = []
    for _ in range(rng.randint(20, 200)):
        t = END - rng.choice((rng.randrange(2 * HOUR), rng.randrange(3 * DAY), rng.randrange(13 * DAY)))
        facts.append((t, rng.choice(PLACES), rng.choice(list(COUNTED.values())), rng.randint(1, 9)))
    costs = []
    for _ in range(rng.randint(0, 12)):
        start = END - rng.randrange(14 * DAY)
        if rng.random() < 0.7:
            start -= start % HOUR
        length = rng.choice((HOUR, DAY, DAY, 3 * DAY, rng.randrange(1, 2 * DAY)))
        names = rng.sample(list(COUNTED), rng.randint(1, 4))
        at = start + rng.randrange(2 * length)
        row = report(start, start + length, rng.choice(PLACES), rng.choice((None, 10**6)), at)
        costs.append(row._replace(reported=tuple(sorted((name, rng.randint(0, 5000)) for name in names))))
    return facts, costs


def slowly(facts: list[Fact], costs: list[CostRow], name: str, low: int, end: int, granule: int) -> Counter[Dims]:
    """Event by event: what no report of that counter covers, and what has accrued of reports in [low, end)."""
    found: Counter[Dims] = Counter()
    rows_ = [(row, dict(row.reported)[name]) for row in costs if name in dict(row.reported)]
    for t, dims, measure_, n in facts:
        hour = t - t % HOUR
        covered = any(
            row.dims[1:] == dims[1:] and (row.dims[2] != "(none)" or row.dims[0] == dims[0])
            and row.start <= hour < accrual_end(row)
            for row, _ in rows_
        )  # fmt: skip
        if measure_ == COUNTED[name] and t - t % granule >= low and not covered:
            found[dims] += n
    for row, n in rows_:
        until = accrual_end(row)

        def by(t: int, row: CostRow = row, n: int = n, until: int = until) -> int:
            return n * min(max(t - row.start, 0), until - row.start) // (until - row.start)

        found[row.dims] += by(end) - by(low)
    return found


SHOWN = {
    "clicks": ("clicks",),
    "impressions": ("impressions",),
    "engagements": ("engagements/like", "engagements/share"),
}
SPANS = (("1h", MINUTE, HOUR), ("24h", HOUR, DAY), ("7d", HOUR, 7 * DAY), ("30d", DAY, 30 * DAY))


def test_sums_equal_a_slow_reading_of_the_rule() -> None:
    compared = 0
    for seed in range(80):
        facts, costs = shop(Random(seed))
        found = exported(facts, costs)
        for window, granule, length in SPANS:
            low = END - length - (END - length) % granule
            for family, names in SHOWN.items():
                expected: Counter[Dims] = Counter()
                for name in names:
                    expected.update(slowly(facts, costs, name, low, END, granule))
                wanted = {("total_" + family, window): expected.total()}
                for dims, n in expected.items():
                    pair = ("channel_" + family, *dims[:2], window)
                    wanted[pair] = wanted.get(pair, 0) + n
                    if window != "1h":
                        wanted["campaign_" + family, *dims, window] = n
                got = {
                    key: n
                    for key, n in found.items()
                    if key[0].partition("_")[::2] in {(level, family) for level in ("total", "channel", "campaign")}
                    and key[-1] == window
                    and n
                }
                assert got == {key: n for key, n in wanted.items() if n}, (seed, window, family)
                compared += len(got)
    assert compared > 2_000


def test_step_by_step_equals_starting_anew() -> None:
    """Events come, the end moves, and one set of reports stays: what is kept between two readings must not show."""
    for seed in range(12):
        rng = Random(seed)
        facts, costs = shop(rng)
        facts.sort(key=lambda fact: fact[0])
        end = END - 3 * HOUR
        ledger: Ledger | None = None
        calendar = Calendar("UTC")
        running = Sums(MARKETING, end)
        board = Board(running)
        seen: list[Fact] = []
        while facts:
            n = rng.randint(1, 40)
            step, facts = facts[:n], facts[n:]
            rng.shuffle(step)
            seen += step
            rollups = Rollups(calendar)
            rollups.add(step, end)
            for bucket, cells in rollups.buckets.items():
                for dims, cell in cells.items():
                    running.add(bucket, dims, cell)
            if rng.random() < 0.6:
                end += rng.choice((MINUTE, HOUR))
                running.move(end)
            if ledger is None or rng.random() < 0.2:
                ledger = Ledger(costs, running.own, end)
            ledger.through = Ledger(costs, running.own, end).through
            now = table(row for block in board.blocks(ledger) for row in block.rows)
            assert now == exported(seen, costs, end), seed
