"""The business families: windows by their edges, costs and their cut by hand, and all of it against the oracle."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from decimal import Decimal
from random import Random

import pytest

from attribution.blocks import Found
from attribution.costs import Ledger, Through
from attribution.facts import (
    ASSISTED,
    ATTRIBUTED_NET,
    CLICK_COST,
    CLICKS,
    CONVERSION,
    CONVERSIONS,
    CREDIT_AGE,
    ORDERS,
    REVENUE_NET,
    TOTAL,
    TOUCH,
    VISITS,
    Fact,
    engagement,
)
from attribution.families import FAMILIES, Row
from attribution.filing import NOBODY
from attribution.kpi import Board, rows
from attribution.nodes.state import CostRow
from attribution.rollups import Calendar, Rollups
from attribution.rules import Dims
from attribution.windows import WINDOWS, Sums
from models.settings import DAY, HOUR, MINUTE, SECOND, Marketing
from tests.core.replayed import replay
from tests.histories import generate
from tests.reference import Books, Credit, Result, attribute, moment

MODEL = "last_non_direct"
MARKETING = Marketing(clock="event")
PARIS = Marketing(clock="event", time_zone="Europe/Paris")
END = moment("2026-03-10T10:30:30Z")
SPRING: Dims = ("Paid Social", "facebook", "spring")
BRAND: Dims = ("Paid Search", "google", "brand")
EURO = 1_000_000
AGE = ("credit_age/h0", MODEL, "purchase", TOUCH)

Table = dict[str, dict[tuple[str, ...], Decimal | int]]


def table(found: Iterable[Row]) -> Table:
    """Rows by family (without prefix) and label values; no sample twice, no family unknown."""
    result: Table = {}
    for family, labels, value in found:
        assert family in FAMILIES
        by_label = result.setdefault(family.removeprefix("parcours_"), {})
        key = tuple(text for _, text in labels)
        assert key not in by_label, (family, labels)
        by_label[key] = value
    return result


def kpis(
    facts: Iterable[Fact] = (), costs: Iterable[CostRow] = (), end: int = END, marketing: Marketing = MARKETING,
    budget: int = 30_000,
) -> Table:  # fmt: skip
    rollups = Rollups(Calendar(marketing.time_zone))
    rollups.add(facts, end)
    sums = Sums.of(rollups, marketing, end)
    return table(rows(sums, Ledger(costs, sums.own, end), budget))


ROLLING = {window.name for window in WINDOWS}


def rolling(by_label: dict[tuple[str, ...], Decimal | int]) -> dict[tuple[str, ...], Decimal | int]:
    """The samples of rolling windows alone."""
    return {key: value for key, value in by_label.items() if ROLLING & set(key)}


def credit(t: int, conversions: int, net: int, dims: Dims = SPRING, basis: str = CONVERSION) -> list[Fact]:
    """Whole conversions and euros under the first headline model."""
    return [
        (t, dims, (CONVERSIONS, MODEL, "purchase", basis), conversions * EURO),
        (t, dims, (ATTRIBUTED_NET, MODEL, "purchase", basis), net * EURO),
    ]


def cost(
    start: str, end: str, euros: int, dims: Dims = SPRING, kind: str = "media", reported: str | None = None
) -> CostRow:
    begin, until = moment(start + "Z"), moment(end + "Z")
    return CostRow(begin, until, moment(reported + "Z") if reported else until, kind, dims, euros * EURO, 0)


def total(found: Table, family: str, window: str, basis: str = CONVERSION) -> Decimal | int | None:
    """A total family under the first headline model; None when absent."""
    currency = ("EUR",) if family in {"cpa", "attributed_revenue"} else ()
    return found.get(f"total_{family}", {}).get((MODEL, basis, "purchase", window, *currency))


# Windows


@pytest.mark.parametrize(
    ("window", "marketing", "first"),
    [
        ("1h", MARKETING, "2026-03-10T09:30:00Z"),
        ("24h", MARKETING, "2026-03-09T10:00:00Z"),
        ("7d", MARKETING, "2026-03-03T10:00:00Z"),
        ("30d", MARKETING, "2026-02-08T00:00:00Z"),
        ("30d", PARIS, "2026-02-07T23:00:00Z"),
    ],
)
def test_a_window_starts_at_the_floor_of_its_granule(window: str, marketing: Marketing, first: str) -> None:
    def clicks(t: int) -> Decimal | int:
        return kpis([(t, SPRING, CLICKS, 1)], marketing=marketing)["total_clicks"][window,]

    assert clicks(moment(first)) == 1
    assert clicks(moment(first) + 1) == 1
    assert clicks(moment(first) - 1) == 0


@pytest.mark.parametrize(("window", "granule"), [("1h", MINUTE), ("24h", HOUR), ("7d", HOUR), ("30d", DAY)])
def test_a_window_ends_with_the_granule_that_holds_its_end(window: str, granule: int) -> None:
    def clicks(t: int) -> Decimal | int:
        return kpis([(t, SPRING, CLICKS, 1)])["total_clicks"][window,]

    following = END - END % granule + granule
    assert clicks(END) == 1
    assert clicks(following - 1) == 1
    assert clicks(following) == 0


def test_a_day_of_25_hours_is_one_business_day() -> None:
    end = moment("2026-10-26T12:00:00Z")
    found = kpis([(moment("2026-10-24T22:00:00Z"), SPRING, CLICKS, 1)], end=end, marketing=PARIS)
    assert Calendar("Europe/Paris").shift(moment("2026-10-24T22:00:00Z"), 1) == moment("2026-10-25T23:00:00Z")
    assert rolling(found["total_clicks"]) == {("1h",): 0, ("24h",): 0, ("7d",): 1, ("30d",): 1}


def test_touch_basis_has_the_long_windows_only() -> None:
    found = kpis([*credit(END, 1, 10), *credit(END - DAY, 1, 10, basis=TOUCH)])
    assert total(found, "attributed_conversions", "24h") == 1
    assert total(found, "attributed_conversions", "24h", TOUCH) is None
    assert total(found, "attributed_conversions", "7d", TOUCH) == 1
    assert {key[5] for key in found["channel_attributed_revenue"] if key[3] == TOUCH} == {"7d", "30d"}
    assert {key[4] for key in found["campaign_attributed_revenue"]} == {CONVERSION}
    assert {key[6] for key in found["campaign_attributed_revenue"]} >= {"24h", "7d", "30d"}
    assert {key[6] for key in found["campaign_attributed_revenue"]}.isdisjoint({"5m", "1h"})


def test_moving_and_adding_step_by_step_equals_starting_anew() -> None:
    rng = Random(7)
    names = [SPRING, BRAND, ("Email", "(none)", "news"), NOBODY, TOTAL]
    credited = [fact[2] for fact in credit(0, 1, 1) + credit(0, 1, 1, basis=TOUCH)]
    measures = {NOBODY: credited, TOTAL: [ORDERS, REVENUE_NET]}
    costs = [cost("2026-03-08T00:00:00", "2026-03-09T00:00:00", 50)]
    end, rollups = END, Rollups(Calendar("Europe/Paris"))
    running = Sums(PARIS, end)
    ledger = Ledger(costs, running.own, end)
    board, kept = Board(running), 0
    before: list[list[Row]] = []
    for _ in range(150):
        end += rng.choice((0, SECOND, MINUTE, HOUR, 30 * HOUR))
        running.move(end)
        batch = Rollups(rollups.calendar)
        for _ in range(rng.randrange(5)):
            ago = rng.choice((0, 5 * MINUTE, 61 * MINUTE, HOUR, DAY, 7 * DAY, 20 * DAY, 31 * DAY, 200 * DAY, 371 * DAY))
            dims = rng.choice(names)
            others = [CLICKS, VISITS, CLICK_COST, engagement("like"), AGE, *credited]
            measure = rng.choice(measures.get(dims, others))
            fact = (end - ago - rng.randrange(HOUR), dims, measure, rng.choice((-3, -1, 1, 2)) * EURO)
            batch.add([fact], end)
            rollups.add([fact], end)
        for bucket, cells in batch.buckets.items():
            for dims, cell in cells.items():
                running.add(bucket, dims, cell)
        fresh = Sums.of(rollups, PARIS, end)
        ledger.through = Ledger(costs, fresh.own, end).through
        blocks = board.blocks(ledger)
        assert table(Found.of(blocks).rows) == table(rows(fresh, Ledger(costs, fresh.own, end)))
        made = [block.rows for block in blocks]
        kept += sum(any(rows_ is other for other in before) for rows_ in made)
        before = made
    assert kept > 5_000  # most of what has not changed is not made again


# Sums and ratios


def test_what_the_seed_says_5000_in_7500_back_is_a_half() -> None:
    found = kpis(credit(END - HOUR, 50, 7500), [cost("2026-03-10T00:00:00", "2026-03-10T10:00:00", 5000, BRAND),
                                                cost("2026-03-10T10:00:00", "2026-03-11T00:00:00", 0, BRAND)])  # fmt: skip
    assert total(found, "roi_on_revenue_ratio", "24h") == Decimal("0.5")
    assert total(found, "roas_ratio", "24h") == Decimal("1.5")
    assert total(found, "cpa", "24h") == 100


def test_ratios_have_twelve_digits_and_stay_absent_where_undefined() -> None:
    media = [cost("2026-03-10T00:00:00", "2026-03-11T00:00:00", 1000, reported="2026-03-10T10:30:29")]
    found = kpis(credit(END, 3, 700), media)
    assert total(found, "cpa", "7d") is None  # the granule of the end is not complete; nothing before it converted
    until = [
        cost("2026-03-10T00:00:00", "2026-03-10T10:30:30", 1000),
        cost("2026-03-10T10:30:30", "2026-03-11T00:00:00", 0),
    ]
    found = kpis(credit(END, 3, 700), until)
    assert total(found, "cpa", "7d") == Decimal("333.333333333")
    assert total(found, "roas_ratio", "7d") == Decimal("0.7")
    assert total(found, "attributed_conversions", "7d") == 3
    assert found["channel_cpa"][*SPRING[:2], MODEL, CONVERSION, "purchase", "7d", "EUR"] == Decimal("333.333333333")
    assert found["campaign_cpa"][*SPRING, MODEL, CONVERSION, "purchase", "7d", "EUR"] == Decimal("333.333333333")


def test_no_cost_known_is_not_a_cost_of_zero() -> None:
    unknown = kpis(credit(END, 1, 10))
    assert "total_cost" not in unknown
    assert "total_cpa" not in unknown
    zero = kpis(
        credit(END, 1, 10), [cost("2026-03-10T00:00:00", "2026-03-11T00:00:00", 0, reported="2026-03-09T00:00:00")]
    )
    assert rolling(zero["total_media_cost"]) == {(window.name, "EUR"): 0 for window in WINDOWS}
    assert total(zero, "cpa", "24h") == 0
    assert total(zero, "roas_ratio", "24h") is None


def test_spend_without_conversions_has_its_sums_and_no_cost_per_acquisition() -> None:
    found = kpis([], [cost("2026-03-10T00:00:00", "2026-03-11T00:00:00", 240, reported="2026-03-09T00:00:00")])
    assert total(found, "attributed_conversions", "24h") == 0
    assert total(found, "cpa", "24h") is None
    assert total(found, "roas_ratio", "24h") == 0
    assert total(found, "roi_on_revenue_ratio", "24h") == -1
    # 240 EUR a day is 10 an hour: 09:30:00 to 10:30:30.
    assert found["total_cost"]["1h", "EUR"] == Decimal("10.083333")


def test_the_unattributed_is_a_channel_and_in_no_total_of_credit() -> None:
    facts = [
        *credit(END, 2, 50),
        *credit(END, 1, 30, NOBODY),
        (END, TOTAL, ORDERS, 3),
        (END, TOTAL, REVENUE_NET, 80 * EURO),
    ]
    found = kpis(facts)
    assert total(found, "attributed_conversions", "24h") == 2
    key = ("(unattributed)", "(none)", MODEL, CONVERSION, "purchase", "24h")
    assert found["channel_attributed_conversions"][key] == 1
    assert found["channel_attributed_revenue"][*key, "EUR"] == 30
    assert found["total_orders"]["24h",] == 3
    assert found["total_revenue"]["24h", "EUR"] == 80
    assert not [key for key in found["campaign_attributed_conversions"] if key[0].startswith("(")]
    assert not [key for key in found["channel_clicks"] if not key[0] or key[0].startswith("(")]


# Costs


def test_a_click_s_own_cost_counts_until_a_report_covers_its_hour() -> None:
    at = moment("2026-03-10T10:10:00Z")
    facts: list[Fact] = [(at, SPRING, CLICK_COST, 3 * EURO), (at - HOUR, SPRING, CLICK_COST, 5 * EURO)]
    assert rolling(kpis(facts)["total_media_cost"]) == {
        ("1h", "EUR"): 3,
        ("24h", "EUR"): 8,
        ("7d", "EUR"): 8,
        ("30d", "EUR"): 8,
    }
    spelled = (SPRING[0], "Facebook", "SPRING")
    report = cost("2026-03-10T09:00:00", "2026-03-10T11:00:00", 100, spelled, reported="2026-03-10T10:00:00")
    found = kpis(facts, [report])
    # The report accrued on [9:00, 10:00): it replaces the 5, and the minute of 10:10 stays, as its hour starts at 10:00.
    assert found["total_media_cost"]["24h", "EUR"] == 103
    assert found["total_media_cost"]["1h", "EUR"] == 53
    assert rolling(found["campaign_media_cost"]) == {(*SPRING, window, "EUR"): 103 for window in ("24h", "7d", "30d")}


def test_costs_of_channels_add_up_to_the_total_to_the_micro() -> None:
    names = [SPRING, BRAND, ("(unallocated)", "(none)", "(none)")]
    costs = [
        CostRow(END - 40 * DAY + i * 7 * HOUR, END - 39 * DAY + i * 9 * HOUR, END, kind, dims, 10**7 + 7 * i, 0)
        for i, (dims, kind) in enumerate(
            (dims, kind) for dims in names for kind in ("media", "tool", "agency", "media")
        )
    ]
    found = kpis([(END - HOUR, SPRING, CLICK_COST, 1)], costs)
    assert found["total_cost"]["30d", "EUR"] > 0
    for window in WINDOWS:
        for name in ("cost", "media_cost"):
            parts = [value for key, value in found[f"channel_{name}"].items() if key[-2] == window.name]
            assert sum(parts) == found[f"total_{name}"].get((window.name, "EUR"), 0), (window.name, name)


DAYS = [(f"2026-03-{day:02}T00:00:00", f"2026-03-{day + 1:02}T00:00:00") for day in range(1, 11)]


@pytest.mark.parametrize(
    ("spring", "other", "expected"),
    [
        ([0, 1, 2], [], Through(moment("2026-03-04T00:00:00Z"), False)),
        ([2, 0, 1], [], Through(moment("2026-03-04T00:00:00Z"), False)),
        # A gap that nothing explains ends what is known; one that the network reported through does not.
        ([0, 1, 3, 4], [], Through(moment("2026-03-03T00:00:00Z"), False)),
        ([0, 1, 3, 4], [0, 1, 2, 3, 4], Through(moment("2026-03-06T00:00:00Z"), False)),
        # The network goes on without it: up to a day is a delay, more is an end.
        ([0, 1], [0, 1, 2], Through(moment("2026-03-03T00:00:00Z"), False)),
        ([0, 1], [0, 1, 2, 3], Through(moment("2026-03-03T00:00:00Z"), True)),
    ],
)
def test_cost_is_known_through_its_contiguous_rows(spring: list[int], other: list[int], expected: Through) -> None:
    summer = (*SPRING[:2], "summer")
    costs = [cost(*DAYS[i], 10) for i in spring] + [cost(*DAYS[i], 10, summer) for i in other]
    assert Ledger(costs, {}, END).through[SPRING] == expected


def test_only_recent_media_rows_say_how_far_cost_is_known() -> None:
    old = cost("2026-01-10T00:00:00", "2026-02-03T10:30:30", 10)
    assert old.end == END - 35 * DAY
    tool = cost("2026-03-09T00:00:00", "2026-03-10T00:00:00", 10, BRAND, "tool")
    assert Ledger([old, tool], {}, END).through == {}
    later = old._replace(end=old.end + 1, reported_at=old.end + 1)
    assert Ledger([later], {}, END).through == {SPRING: Through(old.end + 1, False)}


def test_a_report_of_a_running_day_cuts_both_sides_at_its_granule() -> None:
    rows_ = [
        cost("2026-03-09T00:00:00", "2026-03-10T00:00:00", 2400),
        cost("2026-03-10T00:00:00", "2026-03-11T00:00:00", 1003, reported="2026-03-10T10:03:00"),
    ]
    facts = credit(moment("2026-03-10T09:59:59Z"), 4, 1000) + credit(moment("2026-03-10T10:01:00Z"), 100, 9999)
    found = kpis(facts, rows_)
    through = found["cost_through_timestamp_seconds"]
    assert through == {SPRING: Decimal(moment("2026-03-10T10:03:00Z")) / 1_000_000}
    # 24h: 14 h of yesterday at 100 an hour, and today up to 10:00 at 1003 in 603 minutes.
    spent = 1_400 * EURO + 1_003 * EURO * 600 // 603
    assert total(found, "cpa", "24h") == pytest.approx(Decimal(spent) / EURO / 4, abs=Decimal("1e-6"))
    assert total(found, "attributed_conversions", "24h") == 104
    assert found["total_cost"]["24h", "EUR"] == 2403
    # 30d goes by days, so up to midnight, when nothing had converted.
    assert total(found, "cpa", "30d") is None
    assert total(found, "roas_ratio", "30d") == 0


@pytest.mark.parametrize(
    ("reported", "covered"),
    [("2026-03-09T22:59:59", False), ("2026-03-09T23:00:00", True), ("2026-03-09T23:59:59", True)],
)
def test_a_window_less_than_half_covered_has_no_ratio(reported: str, covered: bool) -> None:
    end = moment("2026-03-10T11:00:00Z")
    report = cost("2026-03-09T00:00:00", "2026-03-10T00:00:00", 100, reported=reported)
    facts = credit(moment("2026-03-09T12:00:00Z"), 1, 10)
    found = kpis(facts, [report], end=end)
    assert (total(found, "cpa", "24h") is not None) is covered
    assert found["total_media_cost"]["24h", "EUR"] > 0


def test_each_scope_is_cut_by_its_own_campaigns() -> None:
    costs = [
        cost("2026-03-08T00:00:00", "2026-03-11T00:00:00", 300, reported="2026-03-08T00:00:00"),
        cost("2026-03-08T00:00:00", "2026-03-09T00:00:00", 100, BRAND),
    ]
    found = kpis([*credit(END, 1, 10), *credit(END, 1, 10, BRAND)], costs)
    day = (MODEL, CONVERSION, "purchase", "24h", "EUR")
    assert (*SPRING, *day) in found["campaign_cpa"]
    assert (*SPRING[:2], *day) in found["channel_cpa"]
    assert (*BRAND, *day) not in found["campaign_cpa"]
    assert total(found, "cpa", "24h") is None
    assert total(found, "roas_ratio", "7d") is not None


# The budget


def test_a_full_budget_folds_the_least_into_other_and_keeps_the_sums() -> None:
    names = [("Paid Search", "google", f"c{i:03}") for i in range(200)] + [(f"ch{i}", f"n{i}", "x") for i in range(60)]
    facts: list[Fact] = []
    costs = []
    for i, dims in enumerate(names):
        facts += [(END, dims, CLICKS, i + 1), *credit(END, 1, i, dims)]
        costs.append(CostRow(END - DAY, END + DAY, END - DAY, "media", dims, (i + 1) * EURO, 0))
    whole, folded = kpis(facts, costs, budget=200_000), kpis(facts, costs, budget=6_500)
    assert sum(map(len, whole.values())) > 12_000
    assert 2_000 < sum(map(len, folded.values())) <= 6_500
    for family in ("total_clicks", "total_cost", "total_cpa", "total_attributed_revenue"):
        assert folded[family] == whole[family]
    for family in ("channel_clicks", "channel_cost", "campaign_clicks", "campaign_cost", "campaign_attributed_revenue"):
        assert sums(folded[family]) == sums(whole[family])
    listed = {key[:3] for key in folded["campaign_clicks"]}
    assert names[-1] in listed
    assert names[0] not in listed
    assert ("Paid Search", "google", "(other)") in listed or ("(other)", "(other)", "(other)") in listed
    assert not [key for family in ("channel_cpa", "campaign_cpa") for key in folded[family] if "(other)" in key]


def sums(by_label: dict[tuple[str, ...], Decimal | int]) -> dict[tuple[str, ...], Decimal | int]:
    """Sums over channel, network and campaign."""
    found: dict[tuple[str, ...], Decimal | int] = {}
    for key, value in by_label.items():
        rest = tuple(text for text in key if text in {"24h", "7d", "30d", "1h", "EUR", *MARKETING.models})
        found[rest] = found.get(rest, 0) + value
    return found


# Against the oracle


def test_sums_equal_the_oracle_on_generated_histories() -> None:
    compared = 0
    for seed in range(120):
        history = generate(seed)
        run = replay(history.events, history.marketing)
        expected = attribute(history.events, history.marketing)
        own = Sums.of(run.rollups, history.marketing, run.highest)
        found = table(rows(own, Ledger((row for _, row in run.costs()), own.own, run.highest)))
        calendar = Calendar(history.marketing.time_zone)
        for window in WINDOWS:
            start = run.highest - window.length
            start = (
                calendar.day(start)
                if window.granularity == "d"
                else start - start % (HOUR if window.granularity == "h" else MINUTE)
            )
            compared += same(found, expected, window.name, start, run.highest, history.marketing)
    assert compared > 1000


def test_assists_and_ages_of_credit_equal_the_oracle_s() -> None:
    seen = 0
    for seed in range(60):
        history = generate(seed)
        marketing = history.marketing
        if "linear" not in marketing.models:
            continue
        run = replay(history.events, marketing)
        assisted: Counter[tuple[Dims, str]] = Counter()
        ages: Counter[tuple[Dims, str, str]] = Counter()
        touches: dict[str, list[Credit]] = {}
        for credit_ in attribute(history.events, marketing).credits:
            if credit_.model == "linear":  # each eligible touch has some
                touches.setdefault(credit_.conversion.id, []).append(credit_)
            if credit_.model == marketing.headline_models[0]:
                hours = (credit_.conversion.t - credit_.touch.t) // HOUR
                age = f"credit_age/h{hours}" if hours < 24 else f"credit_age/d{hours // 24}"
                ages[credit_.touch.dims, credit_.conversion.type, age] += credit_.micro
        for eligible in touches.values():
            last = max(eligible, key=lambda one: (one.touch.t, one.touch.event_id)).touch.dims[:2]
            for pair in {one.touch.dims[:2] for one in eligible} - {last}:
                assisted[(*pair, ""), eligible[0].conversion.type] += 1
        filed_assists: Counter[tuple[Dims, str]] = Counter()
        filed_ages: Counter[tuple[Dims, str, str]] = Counter()
        for _, cells in run.rollups.within("d", 0, 1 << 60):
            for dims, cell in cells.items():
                for (name, _, kind, _), n in cell.items():
                    if name == ASSISTED:
                        filed_assists[dims, kind] += n
                    elif name.startswith(CREDIT_AGE):
                        filed_ages[dims, kind, name] += n
        assert +filed_assists == +assisted, seed
        assert +filed_ages == +ages, seed
        seen += sum(assisted.values()) + len(ages)
    assert seen > 150


def same(found: Table, expected: Result, window: str, start: int, end: int, marketing: Marketing) -> int:
    """Every sum of one window at all levels; how many there were that are not zero."""
    books = expected.books(start, end + 1, "purchase")
    seen = 0
    for family, counts in (("clicks", books.counts["clicks"]), ("visits", books.counts["visits"])):
        assert found[f"total_{family}"][window,] == sum(counts.values())
        for pair, n in by_channel(counts).items():
            assert found[f"channel_{family}"][*pair, window] == n
            seen += 1
    assert found["total_orders"][window,] == books.orders
    assert found["total_revenue"][window, "EUR"] == Decimal(books.net) / EURO
    for model, credited in books.models.items():
        labels = (model, CONVERSION, "purchase", window)
        real = {dims: row for dims, row in credited.items() if dims[0] != NOBODY[0]}
        assert found["total_attributed_conversions"][labels] == sum(row.conversions for row in real.values())
        assert (
            found["total_attributed_revenue"][*labels, "EUR"] == Decimal(sum(row.net for row in real.values())) / EURO
        )
        margin = Decimal(sum(row.net_margin for row in real.values())) / EURO
        assert found["total_attributed_margin"][*labels, "EUR"] == margin
        for pair, net in by_channel({dims: row.net for dims, row in credited.items()}).items():
            assert found["channel_attributed_revenue"][*pair, *labels, "EUR"] == Decimal(net) / EURO
            seen += 1
        if model in marketing.headline_models and window != "1h":
            for dims, row in real.items():
                if row.conversions or row.net:
                    assert found["campaign_attributed_conversions"][*dims, *labels] == row.conversions
                    seen += 1
    spent = costs_of(expected, books, start, end)
    shown = {key[:2]: value for key, value in found.get("channel_cost", {}).items() if key[2] == window}
    assert {pair: value for pair, value in shown.items() if value} == {
        pair: Decimal(amount) / EURO for pair, amount in by_channel(spent).items() if amount
    }
    return seen + len(shown)


def costs_of(expected: Result, books: Books, start: int, end: int) -> dict[Dims, int]:
    """The oracle's cost: rows accrue up to `end`, where the books, which include it, go a microsecond further."""
    spent = dict(books.cost)
    for row in expected.costs:
        spent[row.dims] = spent.get(row.dims, 0) - row.up_to(end + 1) + row.up_to(end)
    return spent


def by_channel(amounts: dict[Dims, int]) -> dict[tuple[str, str], int]:
    found: dict[tuple[str, str], int] = {}
    for dims, amount in amounts.items():
        found[dims[:2]] = found.get(dims[:2], 0) + amount
    return found
