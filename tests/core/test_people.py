"""What is told of persons, against a plain reading of generated histories, and by hand on the edges."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from attribution.blocks import Found
from attribution.cohorts import AGE, CUSTOMER_KEPT
from attribution.costs import Ledger
from attribution.facts import TOTAL, Measure
from attribution.families import FAMILIES, Row
from attribution.kpi import Board
from attribution.nodes.survey import self_reported
from attribution.paths import TOUCHES_UPTO
from attribution.people import SOURCES_MAX, WINDOWS, People, most_of_persons
from attribution.replay import Replay
from attribution.rollups import Bucket, Calendar
from attribution.visitors import ALL, converted, visitors
from attribution.windows import Sums
from models.results import OTHER
from models.settings import DAY, HOUR, MINUTE, Marketing
from models.settings import Conversion as Stage
from tests.core.replayed import replay
from tests.histories import generate
from tests.reference import Body, Result, attribute, moment

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
END = moment("2026-03-10T10:30:30Z")
MARKETING = Marketing(clock="event", lateness="400d", conversions={"lead": Stage()})
FACEBOOK = {"channel": "Paid Social", "network": "facebook", "campaign": "spring"}
GOOGLE = {"channel": "Paid Search", "network": "google", "campaign": "brand"}
SEEDS = 240


def instant(t: int) -> str:
    return (EPOCH + timedelta(microseconds=t)).isoformat()


# Plain readings


def since(window: str, end: int, marketing: Marketing) -> int:
    """Where a window starts, read off the calendar: its hour, or its local day."""
    length = {"24h": timedelta(hours=24), "7d": timedelta(days=7), "30d": timedelta(days=30)}[window]
    start = (EPOCH + timedelta(microseconds=end) - length).astimezone(UTC)
    if window == "30d":
        local = start.astimezone(ZoneInfo(marketing.time_zone))
        start = local.replace(hour=0, minute=0, second=0, microsecond=0)
    else:
        start = start.replace(minute=0, second=0, microsecond=0)
    return (start - EPOCH) // timedelta(microseconds=1)


def plain_visitors(found: Result, start: int, end: int) -> Counter[Measure]:
    """Persons with a visit in [start, end], and those of them with a conversion at or after such a visit."""
    people: dict[Measure, set[str]] = defaultdict(set)
    for person, journey in found.journeys.items():
        for t, dims in journey.visits:
            if not start <= t <= end:
                continue
            for source in (dims[:2], ALL):
                people[visitors(source)].add(person)
                for conversion in found.conversions:
                    if conversion.person == person and not conversion.withdrawn and conversion.t >= t:
                        people[converted(source, conversion.type)].add(person)
    return Counter({measure: len(persons) for measure, persons in people.items()})


def plain_customers(found: Result, marketing: Marketing) -> dict[tuple[str, tuple[str, str]], Counter[str]]:
    """By month and source: customers, repeat customers, ambassadors, revenue and activity by age."""
    sums: dict[tuple[str, tuple[str, str]], Counter[str]] = defaultdict(Counter)
    for person in {conversion.person for conversion in found.conversions}:
        orders = [c for c in found.conversions if c.person == person and c.order_id is not None and not c.withdrawn]
        orders.sort(key=lambda c: (c.t, c.id))
        if not orders or orders[0].called_new is False:
            continue
        first = orders[0]
        touches = [credit.touch for credit in found.credits if credit.conversion is first]
        source = touches[0].dims[:2] if touches else ("(unattributed)", "(none)")
        month = (EPOCH + timedelta(microseconds=first.t)).astimezone(ZoneInfo(marketing.time_zone)).strftime("%Y-%m")
        sums[month, source]["customers"] += 1
        sums[month, source]["repeat_customers"] += len(orders) > 1
        journey = found.journeys.get(person)
        spoke = [e for e in journey.events if e.kind == "share" and e.consent and e.t > first.t] if journey else []
        sums[month, source]["ambassadors"] += bool(spoke)
        active = set()
        for order in orders:
            age = min(int(timedelta(microseconds=order.t - first.t) / (timedelta(days=365) / 12)), 12)
            sums[month, source][f"cohort_revenue {age}"] += order.net
            active.add(age)
        for age in active - {0}:
            sums[month, source][f"cohort_active {age}"] += 1
    return {key: +counter for key, counter in sums.items() if +counter}


def customers(run: Replay) -> dict[tuple[str, tuple[str, str]], Counter[str]]:
    """The same from the rollups."""
    found: dict[tuple[str, tuple[str, str]], Counter[str]] = {}
    for (granularity, start), cells in run.rollups.buckets.items():
        if granularity == "o":
            for dims, cell in cells.items():
                counter = found.setdefault((run.rollups.calendar.date(start)[:7], dims[:2]), Counter())
                for (name, _, _, age), amount in cell.items():
                    counter[f"{name} {age}".strip()] += amount
    return found


def plain_paths(found: Result, start: int, end: int) -> Counter[tuple[str, str, int]]:
    """Attributed conversions by type, number of eligible touches and time since the first."""
    paths: Counter[tuple[str, str, int]] = Counter()
    model = found.models[0]
    for conversion in found.conversions:
        touches = [c.touch for c in found.credits if c.conversion is conversion and c.model == model]
        if touches and start <= conversion.t <= end:
            paths["touches", conversion.type, len(touches)] += 1
            paths["time", conversion.type, conversion.t - touches[0].t] += 1
    return paths


@pytest.mark.parametrize("chunk", range(4))
def test_windows_of_persons_equal_a_plain_reading(chunk: int) -> None:
    seen: Counter[str] = Counter()
    for seed in range(chunk, SEEDS, 4):
        history = generate(seed)
        marketing = history.marketing
        found, run = attribute(history.events, marketing), replay(history.events, marketing)
        people = People.of(run.rollups, marketing)
        for window, _, _ in WINDOWS:
            start = since(window, run.highest, marketing)
            sums = people.sums(window, run.highest)
            mine = {m: n for m, n in sums.items() if m[0] in ("visitors", "converted_visitors") and n}
            expected = plain_visitors(found, start, run.highest)
            assert mine == expected, (seed, window)
            for (name, channel, kind, network), n in mine.items():
                if name == "converted_visitors":
                    assert 0 < n <= mine[visitors((channel, network))], (seed, window, kind)
                    seen["converted"] += 1
                    seen["not all"] += n < mine[visitors((channel, network))]
            same_paths(sums, plain_paths(found, start, run.highest), (seed, window))
            same_links(sums, found, start, run.highest, (seed, window))
        assert customers(run) == plain_customers(found, marketing), seed
        for counter in customers(run).values():
            seen.update(counter.keys())
    assert min(seen[what] for what in ("converted", "not all", "customers", "repeat_customers")) > 3, seen
    assert seen["ambassadors"], seen


def same_paths(sums: dict[Measure, int], expected: Counter[tuple[str, str, int]], where: object) -> None:
    for name, ends in (
        ("touches", (1, 2, 3, 4, 5, 7, 10, 20)),
        ("time", (HOUR, DAY, 3 * DAY, 7 * DAY, 14 * DAY, 30 * DAY, 90 * DAY)),
    ):
        for kind in {kind for which, kind, _ in expected if which == name}:
            values = [v for (which, k, v), n in expected.items() for _ in range(n) if (which, k) == (name, kind)]
            below = 0
            for place, end in enumerate(ends):
                below += sums.get((f"{name}_to_convert", "", kind, str(place)), 0)
                assert below == sum(value <= end for value in values), where
            assert sums.get((f"{name}_to_convert_sum", "", kind, ""), 0) == sum(values), where


def same_links(sums: dict[Measure, int], found: Result, start: int, end: int, where: object) -> None:
    orders = [c for c in found.conversions if c.order_id is not None and not c.withdrawn and start <= c.t <= end]
    by_source = {m[3]: n for m, n in sums.items() if m[0] == "purchases" and n}
    linked = sum(n for m, n in sums.items() if m[0] == "linked_purchases")
    assert sum(by_source.values()) == len(orders), where
    assert linked == sum(order.reason != "no_touch_known" for order in orders), where


# By hand


class Shop:
    """Events of a few persons, in any order, and the rows at END."""

    def __init__(self, marketing: Marketing = MARKETING) -> None:
        self.marketing = marketing
        self.events: list[tuple[str, Body]] = []

    def add(self, topic: str, t: int, person: str, **fields: Any) -> Shop:
        n = len(self.events)
        self.events.append((topic, {"event_id": f"e{n}", "occurred_at": instant(t), "customer_id": person, **fields}))
        return self

    def visit(self, t: int, person: str = "p", **fields: Any) -> Shop:
        return self.add("touchpoints", t, person, type="visit", **(FACEBOOK | fields))

    def order(self, t: int, person: str = "p", order_id: str = "", **fields: Any) -> Shop:
        order_id = order_id or f"O{len(self.events)}"
        body: Body = {"type": "order", "order_id": order_id, "revenue": "10", "currency": "EUR"}
        return self.add("purchases", t, person, **(body | fields))

    def refund(self, t: int, order_id: str, amount: str = "10") -> Shop:
        return self.add("purchases", t, "p", type="refund", order_id=order_id, amount=amount)

    def table(self, end: int = END, shuffled: int = 0) -> dict[str, dict[tuple[str, ...], Decimal | int]]:
        """Rows by family without prefix, and label values. The last event, a visit of another, is at `end`."""
        events = [*self.events, ("touchpoints", {"event_id": "z", "occurred_at": instant(end), "type": "engagement"})]
        if shuffled:
            Random(shuffled).shuffle(events)
        run = replay(events, self.marketing)
        return by_family(People.of(run.rollups, self.marketing).rows(run.highest))


def by_family(rows: Iterable[Row]) -> dict[str, dict[tuple[str, ...], Decimal | int]]:
    found: dict[str, dict[tuple[str, ...], Decimal | int]] = {}
    for family, labels, value in rows:
        key = tuple(text for _, text in labels)
        assert key not in found.setdefault(family.removeprefix("parcours_"), {}), (family, key)
        found[family.removeprefix("parcours_")][key] = value
    return found


EDGES = [("24h", END - DAY - 30 * MINUTE - 30_000_000), ("7d", END - 7 * DAY - 30 * MINUTE - 30_000_000)]
EDGES.append(("30d", moment("2026-02-08T00:00:00Z")))


@pytest.mark.parametrize(("window", "start"), EDGES)
def test_a_visit_on_the_edge_of_a_window_counts_and_one_before_does_not(window: str, start: int) -> None:
    for t, n in ((start, 1), (start + 1, 1), (start - 1, 0)):
        found = Shop().visit(t).table()
        assert found["total_visitors"][window,] == n
        assert found.get("channel_visitors", {}).get(("Paid Social", "facebook", window), 0) == n


def test_a_later_visit_moves_the_person_and_counts_once() -> None:
    shop = Shop().visit(END - 20 * DAY).visit(END - 3 * DAY).visit(END - HOUR).visit(END - 2 * HOUR, "q")
    for shuffled in range(5):
        found = shop.table(shuffled=shuffled)
        assert found["total_visitors"] == {("24h",): 2, ("7d",): 2, ("30d",): 2}


def test_a_conversion_counts_from_the_visit_it_follows() -> None:
    """The visit after the order did not bring it; the one at the very time of it did."""
    t = END - 3 * DAY
    for visit, n in ((t, 1), (t - 1, 1), (t + 1, 0)):
        found = Shop().visit(visit).order(t).table()
        assert found["channel_converted_visitors"]["Paid Social", "facebook", "purchase", "7d"] == n
        assert found["total_conversion_rate_ratio"]["purchase", "7d"] == n
        assert ("purchase", "24h") not in found["total_conversion_rate_ratio"]
        assert found["total_visitors"]["24h",] == 0


def test_the_window_asks_for_a_visit_in_it_that_was_followed_by_a_conversion() -> None:
    """Visits 6 and 2 days ago, an order 5 days ago: of those who visited in the last 24 hours nobody, of 7 days he."""
    found = Shop().visit(END - 6 * DAY).order(END - 5 * DAY).visit(END - HOUR).table()
    assert found["total_conversion_rate_ratio"] == {
        ("purchase", "24h"): 0, ("purchase", "7d"): 1, ("purchase", "30d"): 1,
        ("lead", "24h"): 0, ("lead", "7d"): 0, ("lead", "30d"): 0,
    }  # fmt: skip


def test_a_refunded_conversion_gives_way_to_the_one_before() -> None:
    """Both orders followed a visit of the window; with the second taken back the mark returns to the first's visit."""
    shop = Shop().visit(END - 6 * DAY).order(END - 5 * DAY).visit(END - 10 * HOUR).order(END - 9 * HOUR, order_id="B")
    assert shop.table()["total_converted_visitors"]["purchase", "24h"] == 1
    shop.refund(END - 8 * HOUR, "B")
    for shuffled in range(4):
        found = shop.table(shuffled=shuffled)
        assert found["total_converted_visitors"]["purchase", "24h"] == 0
        assert found["total_converted_visitors"]["purchase", "7d"] == 1


def test_each_channel_counts_its_own_and_the_total_each_person_once() -> None:
    shop = Shop().visit(END - 5 * HOUR).visit(END - 3 * HOUR, **GOOGLE).order(END - HOUR).visit(END - 4 * HOUR, "q")
    found = shop.table()
    assert found["channel_visitors"]["Paid Social", "facebook", "24h"] == 2
    assert found["channel_visitors"]["Paid Search", "google", "24h"] == 1
    assert found["channel_conversion_rate_ratio"]["Paid Social", "facebook", "purchase", "24h"] == Decimal("0.5")
    assert found["channel_conversion_rate_ratio"]["Paid Search", "google", "purchase", "24h"] == 1
    assert found["total_visitors"]["24h",] == 2
    assert found["channel_visitor_share_ratio"]["Paid Search", "google", "24h"] == Decimal("0.5")
    assert sum(n for key, n in found["channel_visitor_share_ratio"].items() if key[2] == "24h") == Decimal("1.5")


def test_a_landing_visits_through_its_click() -> None:
    shop = Shop().add("clicks", END - HOUR, "p", click_id="k", **FACEBOOK)
    shop.visit(END - 30 * MINUTE, click_id="k", channel="Direct", network=None, campaign=None)
    assert shop.table()["channel_visitors"] == {("Paid Social", "facebook", w): 1 for w in ("24h", "7d", "30d")}


# Customers

JANUARY_2025 = moment("2025-01-10T00:00:00Z")
MARCH_2026 = moment("2026-03-10T00:00:00Z")


def customer_shop() -> Shop:
    """Two of January 2025 (facebook), who bring 10 each at first and one of them 20 after 40 days and 5 after a year; one
    of January 2026 (google) with 30 at first, shared."""
    shop = Shop()
    for name in ("a", "b"):
        shop.visit(JANUARY_2025 - HOUR, name).order(JANUARY_2025, name)
    shop.order(JANUARY_2025 + 40 * DAY, "a", revenue="20")
    shop.order(JANUARY_2025 + 366 * DAY, "a", revenue="5")
    first = moment("2026-01-05T00:00:00Z")
    shop.visit(first - HOUR, "n", **GOOGLE).order(first, "n", revenue="30")
    return shop.add("touchpoints", first + DAY, "n", type="engagement", kind="share", **GOOGLE)


def test_what_customers_have_brought_and_are_expected_to() -> None:
    """January 2026 is over since 37 days, one step of age: revenue 30 then, and the curve of January 2025 says that by its
    first step (20 of 40 in the year) half has come: 60 expected."""
    found = customer_shop().table(MARCH_2026)
    google = ("Paid Search", "google")
    assert found["channel_customers"] == {google: 1}
    assert found["total_customers"] == {(): 1}
    assert found["channel_ambassadors"] == {google: 1}
    assert found["channel_ambassador_ratio"] == {google: 1}
    assert found["channel_repeat_customers"] == {google: 0}
    assert found["channel_customer_revenue"] == {(*google, "EUR"): 30}
    assert found["channel_customer_revenue_to_date"] == {(*google, "EUR"): 30}
    assert found["channel_clv_expected"] == {(*google, "EUR"): 60}
    assert found["total_cohort_customers"] == {("2025-01",): 2, ("2026-01",): 1}
    assert found["total_cohort_active"]["2025-01", "1"] == 1
    assert found["total_cohort_retention_ratio"]["2025-01", "1"] == Decimal("0.5")
    assert {key[1] for key in found["total_cohort_active"] if key[0] == "2025-01"} == {str(n) for n in range(1, 12)}
    assert not [key for key in found["total_cohort_active"] if key[0] == "2026-01"]


def test_nothing_is_expected_while_no_cohort_has_seen_a_year() -> None:
    """The last of January 2025 has seen 365 days on the first of February 2026."""
    seen = moment("2026-02-01T00:00:00Z")
    shop = customer_shop().visit(moment("2025-10-01T00:00:00Z"), "x").order(moment("2025-10-01T01:00:00Z"), "x")
    assert "total_clv_expected" in shop.table(seen)
    assert "total_clv_expected" not in shop.table(seen - 1)


@pytest.mark.parametrize(("gap", "age"), [(AGE - 1, "0"), (AGE, "1"), (365 * DAY - 1, "11"), (365 * DAY, "12")])
def test_ages_are_twelfths_of_365_days(gap: int, age: str) -> None:
    run = replay(Shop().order(JANUARY_2025).order(JANUARY_2025 + gap, revenue="7").events, MARKETING)
    [counter] = customers(run).values()
    assert counter[f"cohort_revenue {age}"] == (17 if age == "0" else 7) * 1_000_000
    assert counter["repeat_customers"] == 1


def test_a_returning_customer_is_in_no_cohort_and_one_who_comes_back_late_begins_anew() -> None:
    run = replay(Shop().order(JANUARY_2025, is_new_customer=False).order(JANUARY_2025 + DAY).events, MARKETING)
    assert customers(run) == {}
    for gap, n in ((CUSTOMER_KEPT, 0), (CUSTOMER_KEPT + 1, 1)):
        # What is older than cohorts are kept has no bucket any more.
        run = replay(Shop().order(JANUARY_2025).order(JANUARY_2025 + gap).events, MARKETING)
        assert sum(counter["customers"] for counter in customers(run).values()) == n


def test_a_share_before_or_at_the_first_order_makes_no_ambassador() -> None:
    for gap, n in ((0, 0), (-1, 0), (1, 1)):
        for kind in ("share", "mention", "referral", "like"):
            shop = Shop().order(END - DAY)
            shop.add("touchpoints", END - DAY + gap, "p", type="engagement", kind=kind, **FACEBOOK)
            assert shop.table()["total_ambassadors"][()] == (n if kind != "like" else 0)


def test_a_refunded_first_order_moves_the_customer() -> None:
    shop = Shop().visit(END - 41 * DAY).order(END - 40 * DAY, order_id="A")
    shop.visit(END - 2 * DAY, **GOOGLE).order(END - DAY, order_id="B").refund(END - HOUR, "A")
    for shuffled in range(4):
        found = shop.table(shuffled=shuffled)
        # The first touch that was eligible for the order that is now the first.
        assert found["channel_customers"] == {("Paid Search", "google"): 1}
        assert found["total_cohort_customers"] == {("2026-03",): 1}


# Surveys


def test_answers_that_named_a_channel_are_shared_out() -> None:
    shop = Shop()
    for n, channel in enumerate(("Podcast", "Podcast", "Referral", None)):
        fields = {"channel": channel} if channel else {}
        shop.add("touchpoints", END - HOUR, f"p{n}", type="survey_response", question="source", **fields)
    for score in (10, 9, 8, 7, 6, 0):
        shop.add("touchpoints", END - HOUR, "p", type="survey_response", question="nps", score=score)
    for score in (5, 4, 3.9, 1):
        shop.add("touchpoints", END - HOUR, "p", type="survey_response", question="csat", score=score)
    found = shop.table()
    assert found["total_self_reported_answers"]["24h",] == 3
    assert found["channel_self_reported_share_ratio"]["Podcast", "(none)", "24h"] == Decimal("0.666666666667")
    assert found["channel_self_reported_answers"]["Referral", "(none)", "24h"] == 1
    assert (found["total_nps_promoters"]["24h",], found["total_nps_detractors"]["24h",]) == (2, 2)
    assert (found["total_nps_answers"]["24h",], found["total_nps_points"]["24h",]) == (6, 0)
    assert found["total_csat_ratio"]["24h",] == Decimal("0.5")


def test_an_answer_sent_twice_counts_once_and_the_earlier_content_holds() -> None:
    answer: Body = {"event_id": "s", "customer_id": "p", "type": "survey_response", "question": "nps"}
    events = [
        ("touchpoints", answer | {"occurred_at": instant(END - n), "score": score}) for n, score in ((1, 3), (2, 10))
    ]
    for order in (events, events[::-1]):
        rows = by_family(People.of(replay(order, MARKETING).rollups, MARKETING).rows(END))
        assert (rows["total_nps_answers"]["24h",], rows["total_nps_points"]["24h",]) == (1, 100)


# Link rate, bounds


def test_the_link_rate_is_by_tracker_and_tells_a_broken_tag() -> None:
    shop = (
        Shop()
        .visit(END - 2 * HOUR, "a")
        .order(END - HOUR, "a", source="server")
        .order(END - HOUR, "b", source="server")
    )
    shop.order(END - HOUR, "c").visit(END - HOUR + 1, "c")
    found = shop.table()
    assert found["source_purchases"]["server", "24h"] == 2
    assert found["source_linked_purchases"]["server", "24h"] == 1
    assert found["source_link_ratio"]["server", "24h"] == Decimal("0.5")
    assert found["source_link_ratio"]["(none)", "24h"] == 0


def test_names_are_bounded_and_the_rest_is_other() -> None:
    people = People(MARKETING)
    bucket: Bucket = ("v", Calendar("UTC").day(END))
    cell = {self_reported((f"channel {n:03}", "x")): 1000 - n for n in range(65)}
    cell |= {("purchases", "", "purchase", f"tracker {n:03}"): 1000 - n for n in range(SOURCES_MAX + 5)}
    people.add(bucket, TOTAL[:2], cell)
    budget = 12_000
    sums = Sums(MARKETING, END)
    board = Board(sums, budget, people=people)
    rows = Found.of(board.blocks(Ledger([], sums.own, END))).rows
    found = by_family(rows)
    named = {key[:2] for key in found["channel_self_reported_answers"]}
    folded = board.folded["channel"]
    assert 0 < folded == 65 - (len(named) - 1)
    assert sum(found["channel_self_reported_answers"].values()) == sum(1000 - n for n in range(65))
    assert found["channel_self_reported_answers"][OTHER, OTHER, "30d"] == sum(1000 - n for n in range(65 - folded, 65))
    assert len({key[0] for key in found["source_purchases"]}) == SOURCES_MAX + 1
    assert sum(found["source_purchases"].values()) == sum(1000 - n for n in range(25))
    assert len(rows) <= budget


def test_of_each_channel_there_are_no_more_series_than_the_budget_reckons_with() -> None:
    shop = customer_shop().add("touchpoints", MARCH_2026 - 2, "p", type="survey_response", question="nps", score=9)
    shop.visit(MARCH_2026 - 3, "p").order(MARCH_2026 - 1, "p", source="web")
    run = replay(shop.events, MARKETING)
    most = {level: most_of_persons(level, 1 + len(MARKETING.conversions)) for level in ("total", "channel", "source")}
    counts: dict[tuple[str, tuple[str, ...]], int] = {}
    for family, labels, _ in People.of(run.rollups, MARKETING).rows(run.highest):
        name = family if family in FAMILIES else family.rpartition("_")[0]
        level = FAMILIES[name].level
        names = tuple(text for label, text in labels if label in ("channel", "network"))
        counts[name, names] = counts.get((name, names), 0) + 1
        assert counts[name, names] <= most[level][name]
    assert counts["parcours_total_visitors", ()] == most["total"]["parcours_total_visitors"] == 3
    touches = "parcours_total_touches_to_convert"
    assert counts[touches, ()] == 3 * (len(TOUCHES_UPTO) + 3)
    assert most["total"][touches] == counts[touches, ()] * (1 + len(MARKETING.conversions))


def test_rows_have_the_labels_of_their_families() -> None:
    shop = customer_shop().add("touchpoints", MARCH_2026 - 2, "p", type="survey_response", question="nps", score=9)
    shop.visit(MARCH_2026 - 3, "p").order(MARCH_2026 - 1, "p", source="web")
    run = replay(shop.events, MARKETING)
    reach = {window: {ALL: 2, ("Paid Social", "facebook"): 1} for window, _, _ in WINDOWS}
    base = [Row("parcours_total_counted_impressions", (("window", w),), 10) for w, _, _ in WINDOWS]
    rows = People.of(run.rollups, MARKETING).rows(run.highest, base, reach)
    for family, labels, _ in rows:
        name = family.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count")
        known = FAMILIES.get(family) or FAMILIES[name]
        assert [label for label, _ in labels if label != "le"] == list(known.labels), family
    assert {"parcours_total_reach", "parcours_channel_reach", "parcours_total_frequency"} <= {
        row.family for row in rows
    }
    assert by_family(rows)["total_frequency"]["24h",] == 5
    assert "channel_frequency" not in by_family(rows)
