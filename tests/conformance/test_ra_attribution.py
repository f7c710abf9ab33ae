"""Real-shaped input: ra_attribution's order lines, events and daily rates, through `examples/ra_attribution`.

The files are in `../shared/data` beside the project; without them the tests that read them are skipped and say so. All numbers
below are worked out by hand from the CSV files:

    order  day (UTC)   lines                          GBP    user     touches of the user before it
    1      2021-01-01  1.57 8.32                      9.89   1329726  none, ever
    2      2021-02-01  12.90 7.01 0.00               19.91   1329704  none, ever
    5      2021-04-01  0.00 10.84                    10.84   1329714  none, ever
    6      2021-05-01  24.86 10.81                   35.67   1329682  2020-12-15 16:42, over 136 days before
    7      2021-05-15  9.45 32.06 12.90              54.41   1329726  none, ever
    9      2021-06-01  4.90 7.62 2.55                15.07   1329704  none, ever
    3      2021-09-05  10.29                         10.29   1329682  2021-09-03 16:39 and 17:25, over 1 day before
    4      2021-09-10  10.81 10.81 14.20             35.82   1329682  the same, over 6 days before
    8      2021-09-22  10.81 10.29 24.86 13.06       59.02   1329682  the same, over 18 days before
                                                    250.92

Orders 3, 4 and 8 have a touch within 30 days: 3 of 9, 10.29 + 35.82 + 59.02 = 105.13 GBP. Both touches came from snapchat.com and
46 minutes lie between them, so they are two visits and two touches. The rates begin on 2021-09-02: in USD the other six have none.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from attribution.facts import VISITS
from attribution.fold import fold
from attribution.intake import Intake
from attribution.money import Rates
from attribution.nodes.base import Context
from attribution.replay import Replay
from attribution.rules import Rules
from examples.ra_attribution import convert
from models.results import Attribution
from models.settings import Marketing, Rate, load_marketing
from models.wire import AnyEntry
from streams.rates import load_rates

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data" / "ra_attribution"
EXAMPLE = ROOT / "examples" / "ra_attribution"
needs_data = pytest.mark.skipif(
    not DATA.is_dir(), reason=f"RA_ATTRIBUTION NOT CHECKED: {DATA} is absent; put the conformance data there"
)

Records = list[tuple[str, bytes]]
NOT_KNOWN = {"o:1", "o:2", "o:5", "o:6", "o:7", "o:9"}
GBP_OF_ORDER = {
    "1": "9.89", "2": "19.91", "3": "10.29", "4": "35.82", "5": "10.84", "6": "35.67", "7": "54.41", "8": "59.02", "9": "15.07",
}  # fmt: skip
# The rate of the file turned round is 1 / 0.78 = 1.282051282051 USD to the pound (12 decimals): 10.29 * 1.282051282051 =
# 13.19230769..., 35.82 * ... = 45.92307692..., 59.02 * ... = 75.66666666..., each to the nearest micro. Their sum is 134.782052.
USD_OF_ATTRIBUTED = {"o:3": "13.192308", "o:4": "45.923077", "o:8": "75.666667"}
# The rate added for the retry is 1.3: 9.89 * 1.3 = 12.857 and so on. 134.782052 + 189.527 = 324.309052.
EARLIER = "GBP,1.3,2020-09-01\n"
USD_OF_RETRIED = {"o:1": "12.857", "o:2": "25.883", "o:5": "14.092", "o:6": "46.371", "o:7": "70.733", "o:9": "19.591"}


class Setup(NamedTuple):
    """The example's folder as its README leaves it, in a place of the test's own."""

    folder: Path

    def config(self, currency: str) -> tuple[Marketing, list[Rate]]:
        path = self.folder / f"parcours.{currency}.toml"
        marketing = load_marketing(path)
        return marketing, load_rates(marketing, path)

    def records(self, *topics: str) -> Records:
        return [
            (topic, line)
            for topic in topics or ("touchpoints", "purchases")
            for line in (self.folder / "data" / f"{topic}.jsonl").read_bytes().splitlines()
        ]

    def add_earlier_rate(self) -> None:
        with (self.folder / "data" / "rates.usd.csv").open("a", encoding="utf-8") as file:
            file.write(EARLIER)


@pytest.fixture
def example(tmp_path: Path) -> Setup:
    for name in ("parcours.gbp.toml", "parcours.usd.toml"):
        shutil.copy(EXAMPLE / name, tmp_path / name)
    assert convert.main([str(DATA), str(tmp_path / "data")]) == 0
    return Setup(tmp_path)


def replayed(config: tuple[Marketing, list[Rate]], records: Iterable[tuple[str, bytes]]) -> Replay:
    replay = Replay(*config)
    for topic, value in records:
        replay.take(topic, value)
    replay.finish()
    return replay


def by_id(replay: Replay) -> dict[str, Attribution]:
    return {attribution.conversion_id: attribution for attribution in replay.attributions()}


def attributed(replay: Replay) -> dict[str, str]:
    return {key: found.revenue_net for key, found in by_id(replay).items() if found.status == "attributed"}


def total(found: Iterable[Attribution]) -> Decimal:
    return sum((Decimal(attribution.revenue_net) for attribution in found), Decimal(0))


@needs_data
def test_lines_become_nine_orders_of_250_92_pounds(example: Setup) -> None:
    orders = [json.loads(value) for _, value in example.records("purchases")]
    assert {order["order_id"]: order["revenue"] for order in orders} == GBP_OF_ORDER
    assert sum(Decimal(order["revenue"]) for order in orders) == Decimal("250.92")
    assert {order["currency"] for order in orders} == {"GBP"}


@needs_data
def test_page_pings_become_visits_and_other_events_only_when_asked_for(example: Setup) -> None:
    # 25 events: 14 pp, 5 se, 6 ue.
    assert len(example.records("touchpoints")) == 14
    assert convert.main([str(DATA), str(example.folder / "data"), "--events", "pv,pp,se,ue"]) == 0
    assert len(example.records("touchpoints")) == 25
    # All eleven others are of 1259696, who ordered nothing.
    assert attributed(replayed(example.config("gbp"), example.records())).keys() == {"o:3", "o:4", "o:8"}


@needs_data
def test_in_pounds_three_of_nine_orders_are_attributed_in_a_30_day_window(example: Setup) -> None:
    replay = replayed(example.config("gbp"), example.records())
    assert (replay.accepted, replay.refused, replay.dropped) == (23, [], Counter())
    found = by_id(replay)
    assert len(found) == 9
    assert total(found.values()) == Decimal("250.92")
    assert attributed(replay) == {"o:3": "10.29", "o:4": "35.82", "o:8": "59.02"}
    assert {key for key, one in found.items() if one.reason == "no_touch_known"} == NOT_KNOWN
    # Its only touches are older than the lookback and the history that a login claims together: as good as none (docs/semantics.md).


@needs_data
def test_every_model_credits_snapchat_with_all_105_13_pounds(example: Setup) -> None:
    marketing, rates = example.config("gbp")
    conversions: Counter[tuple[str, str, str]] = Counter()
    revenue: dict[tuple[str, str, str], Decimal] = {}
    for attribution in replayed((marketing, rates), example.records()).attributions():
        for model, credits in attribution.credits.items():
            for credit in credits:
                key = model, credit.channel, credit.network
                conversions[key] += int(Decimal(credit.conversions) * 1_000_000)
                revenue[key] = revenue.get(key, Decimal(0)) + Decimal(credit.revenue)
    expected = {(model, "Organic Social", "snapchat") for model in marketing.models}
    assert conversions == dict.fromkeys(expected, 3_000_000)
    assert revenue == dict.fromkeys(expected, Decimal("105.13"))


@needs_data
def test_models_differ_in_which_of_the_two_visits_they_credit(example: Setup) -> None:
    found = by_id(replayed(example.config("gbp"), example.records()))
    first, last = "780ba062-38ec-42f3-b37d-fcec09b36c71", "b5d68f09-2a7f-4189-bf87-d663487ea5a3"
    for order, half in (("o:3", "5.145"), ("o:4", "17.91"), ("o:8", "29.51")):
        credits = found[order].credits
        assert [credit.touch_id for credit in credits["first_touch"]] == [first]
        assert [credit.touch_id for credit in credits["last_non_direct"]] == [last]
        assert [(credit.touch_id, credit.revenue) for credit in credits["linear"]] == [(first, half), (last, half)]


@needs_data
@pytest.mark.parametrize(
    ("window", "expected"),
    [
        # From 17:25:34 on 09-03 to 05:13:54 on 09-05 is 1 day 11:48, to 09-10 6 days 11:48, to 09-22 18 days 11:48;
        # from 16:42:13 on 2020-12-15 to 05:13:54 on 2021-05-01 is 136 days 12:31.
        ("1d", set()),
        ("7d", {"o:3", "o:4"}),
        ("30d", {"o:3", "o:4", "o:8"}),
        ("136d", {"o:3", "o:4", "o:8"}),
        ("137d", {"o:3", "o:4", "o:6", "o:8"}),
    ],
)
def test_the_window_decides_how_many(example: Setup, window: str, expected: set[str]) -> None:
    marketing, rates = example.config("gbp")
    lookback = msgspec.structs.replace(marketing.lookback, click=window)
    config = msgspec.structs.replace(marketing, lookback=lookback), rates
    assert attributed(replayed(config, example.records())).keys() == expected


def visits_of(replay: Replay) -> dict[tuple[str, str], int]:
    found: Counter[tuple[str, str]] = Counter()
    for _, cells in replay.rollups.within("d", 0, replay.highest):
        for (channel, network, _), cell in cells.items():
            if cell.get(VISITS):
                found[channel, network] += cell[VISITS]
    return dict(found)


@needs_data
def test_the_shops_own_pages_bring_nobody(example: Setup) -> None:
    # 1259696 came from facebook at 16:33:36 and from google at 16:37:40; the other nine pings, eight from retailer.com and
    # one from google among them, follow within 3 minutes of each other.
    marketing, rates = example.config("gbp")
    own = {("Organic Social", "snapchat"): 3, ("Organic Social", "facebook"): 1, ("Organic Search", "google"): 1}
    assert visits_of(replayed((marketing, rates), example.records())) == own
    # Without own_domains each change between retailer.com and another referrer is a new visit: facebook, retailer,
    # google, retailer, google, retailer.
    stranger = msgspec.structs.replace(marketing, own_domains=())
    assert visits_of(replayed((stranger, rates), example.records())) == {
        ("Organic Social", "snapchat"): 3,
        ("Organic Social", "facebook"): 1,
        ("Referral", "retailer.com"): 3,
        ("Organic Search", "google"): 2,
    }


@needs_data
def test_in_dollars_orders_from_before_the_rates_are_refused_and_the_rest_attributed(example: Setup) -> None:
    records = example.records()
    replay = replayed(example.config("usd"), records)
    refused = {json.loads(records[refusal.index][1])["order_id"]: refusal.code for refusal in replay.refused}
    assert refused == dict.fromkeys(("1", "2", "5", "6", "7", "9"), "missing_rate")
    assert all("the first rate from GBP to USD is of 2021-09-02" in refusal.message for refusal in replay.refused)
    assert attributed(replay) == USD_OF_ATTRIBUTED
    assert total(by_id(replay).values()) == Decimal("134.782052")


@needs_data
def test_with_an_earlier_rate_all_nine_orders_are_taken_and_the_same_three_attributed(example: Setup) -> None:
    example.add_earlier_rate()
    replay = replayed(example.config("usd"), example.records())
    assert replay.refused == []
    assert {key: found.revenue_net for key, found in by_id(replay).items()} == USD_OF_ATTRIBUTED | USD_OF_RETRIED
    assert attributed(replay) == USD_OF_ATTRIBUTED
    assert total(by_id(replay).values()) == Decimal("324.309052")


def published_again(
    before: Replay, config: tuple[Marketing, list[Rate]], records: Sequence[tuple[str, bytes]]
) -> Replay:
    """`before` goes on under another configuration: its nodes stay, and its watermark is as far as it has come."""
    marketing, rates = config
    after = Replay(marketing, rates)
    after.nodes, after.rollups, after.highest = before.nodes, before.rollups, before.highest
    intake, context = Intake(marketing, rates), Context(Rules(marketing, number=2), before.highest, before.highest)
    taken = (intake.take(topic, value, 1 << 62, 1000 + i) for i, (topic, value) in enumerate(records))
    pending: deque[AnyEntry] = deque(entry for one in taken for entry in one.entries)
    while pending:
        entry = pending.popleft()
        folded = fold(after.nodes.get(entry.key), entry, context)
        if folded.dropped is not None:
            after.dropped[folded.dropped] += 1
            continue
        after.nodes[entry.key] = folded.node
        after.rollups.add(folded.facts, after.highest)
        pending.extendleft(reversed(folded.moves))
    after.rollups.prune(after.highest)
    return after


@needs_data
@pytest.mark.parametrize(
    ("what", "dropped"), [("only the refused", {}), ("all purchases", {"duplicate": 3}), ("all", {"duplicate": 17})]
)
def test_publishing_again_after_rates_are_added_equals_having_had_them(
    example: Setup, what: str, dropped: dict[str, int]
) -> None:
    records = example.records()
    first = replayed(example.config("usd"), records)
    assert len(first.refused) == 6
    refused = [records[refusal.index] for refusal in first.refused]
    example.add_earlier_rate()
    config = example.config("usd")
    again = {"only the refused": refused, "all purchases": example.records("purchases"), "all": records}[what]
    after = published_again(first, config, again)
    # What was applied before is recognised: twice published is once counted.
    assert after.dropped == dropped
    whole = replayed(config, records)
    # The number of the configuration is the run's own.
    assert {key: msgspec.structs.replace(one, config=0) for key, one in by_id(after).items()} == {
        key: msgspec.structs.replace(one, config=0) for key, one in by_id(whole).items()
    }
    assert after.rollups.buckets == whole.rollups.buckets


@needs_data
def test_with_the_default_lateness_a_retry_of_old_orders_comes_too_late(example: Setup) -> None:
    records = example.records()
    first = replayed(example.config("usd"), records)
    refused = [records[refusal.index] for refusal in first.refused]
    example.add_earlier_rate()
    marketing, rates = example.config("usd")
    impatient = msgspec.structs.replace(marketing, lateness=Marketing().lateness)
    # From 2021-06-01, the latest of the six, to the watermark of 2021-09-22 is far more than 7 days.
    assert published_again(first, (impatient, rates), refused).dropped == {"late": 6}


@needs_data
def test_taking_the_columns_at_their_word_gives_other_dollars(example: Setup) -> None:
    # As labelled a pound is 0.78 dollars: 10.29 * 0.78 = 8.0262, 35.82 * 0.78 = 27.9396, 59.02 * 0.78 = 46.0356.
    assert convert.main([str(DATA), str(example.folder / "data"), "--rates", "quote-per-base"]) == 0
    marketing, rates = example.config("usd")
    assert attributed(replayed((marketing, rates), example.records())) == {
        "o:3": "8.0262", "o:4": "27.9396", "o:8": "46.0356",
    }  # fmt: skip
    # One column turned the wrong way throughout contradicts nothing; beside a row the right way round it does.
    assert Rates(marketing, rates).contradictions() == []
    mixed = [Rate(currency="GBP", rate="1.3", date="2020-09-01"), *rates]
    (message,) = Rates(marketing, mixed).contradictions()
    assert "0.78 from 2021-09-02 is about the inverse of 1.3 from 2020-09-01" in message


@needs_data
def test_the_rates_are_the_files_turned_round_for_dollars(example: Setup) -> None:
    for currency, foreign, rate in (("gbp", "USD", "0.78"), ("usd", "GBP", "1.282051282051")):
        marketing, rates = example.config(currency)
        assert len(rates) == 1217
        assert {(row.currency, row.rate) for row in rates} == {(foreign, rate)}
        assert (rates[0].date, rates[-1].date) == ("2021-09-02", "2024-12-31")
        assert Rates(marketing, rates).contradictions() == []


# What the script makes of files that are wrong needs no data of others.

EVENT = dict.fromkeys(convert.EVENT_COLUMNS, "") | {
    "EVENT_ID": "e-1", "USER_ID": "u-1", "EVENT": "pv", "EVENT_TIME": "2021-09-03 16:39:08.745",
}  # fmt: skip
LINE = {
    "ORDER_LINE_ID": "1", "ORDER_ID": "1", "USER_ID": "u-1", "ORDER_DATE": "2021-09-05 05:13:54.727 +0000",
    "LOCAL_CURRENCY": "GBP", "REVENUE_LOCAL_CURRENCY": "0.10",
}  # fmt: skip
RATE = {
    "CURRENCY_RATE_DATE": "2021-09-02", "BASE_CURRENCY_CODE": "GBP", "QUOTE_CURRENCY_CODE": "USD", "CURRENCY_RATE": "0.8",
}  # fmt: skip


def write(folder: Path, **rows: list[dict[str, str]]) -> tuple[str, str]:
    given = {"events": [EVENT], "orders": [LINE], "currency_rates": [RATE]} | rows
    (folder / "in").mkdir()
    for name, lines in given.items():
        with (folder / "in" / f"{name}.csv").open("w", encoding="utf-8-sig", newline="") as file:
            writer = csv.DictWriter(file, list(lines[0]))
            writer.writeheader()
            writer.writerows(lines)
    return str(folder / "in"), str(folder / "out")


def test_lines_are_summed_exactly_and_fields_of_marketing_are_kept(tmp_path: Path) -> None:
    lines = [LINE | {"ORDER_LINE_ID": str(i)} for i in range(3)]
    event = EVENT | {"MARKETING_SOURCE": "newsletter", "MARKETING_MEDIUM": "email", "PAGE_URL_QUERY": "gclid=g-1"}
    assert convert.main([*write(tmp_path, orders=lines, events=[event])]) == 0
    (order,) = (tmp_path / "out" / "purchases.jsonl").read_text("utf-8").splitlines()
    # Three times 0.1 as floats is 0.30000000000000004.
    assert json.loads(order)["revenue"] == "0.30"
    (visit,) = (tmp_path / "out" / "touchpoints.jsonl").read_text("utf-8").splitlines()
    assert json.loads(visit) == {
        "event_id": "e-1", "occurred_at": "2021-09-03T16:39:08.745000Z", "customer_id": "u-1", "type": "visit",
        "source": "web", "utm_source": "newsletter", "utm_medium": "email", "page_url": "?gclid=g-1",
    }  # fmt: skip
    assert (tmp_path / "out" / "rates.gbp.csv").read_bytes() == b"currency,rate,date\nUSD,0.8,2021-09-02\n"
    assert (tmp_path / "out" / "rates.usd.csv").read_bytes() == b"currency,rate,date\nGBP,1.25,2021-09-02\n"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"orders": [LINE, LINE]}, "orders.csv:3: line 1 of order 1 is on line 2 already"),
        (
            {"orders": [LINE, LINE | {"ORDER_LINE_ID": "2", "LOCAL_CURRENCY": "USD"}]},
            "orders.csv:3: order 1 has another currency than on its first line",
        ),
        ({"orders": [LINE | {"REVENUE_LOCAL_CURRENCY": "1,20"}]}, "orders.csv:2: REVENUE_LOCAL_CURRENCY '1,20' is not"),
        ({"orders": [LINE | {"ORDER_DATE": "yesterday"}]}, "orders.csv:2: ORDER_DATE 'yesterday' is not a time"),
        ({"orders": [{"ORDER_ID": "1"}]}, "orders.csv: no column ORDER_LINE_ID, USER_ID, ORDER_DATE"),
        ({"events": [EVENT | {"USER_ID": " "}]}, "events.csv:2: USER_ID is empty"),
        ({"currency_rates": [RATE | {"CURRENCY_RATE": "0"}]}, "currency_rates.csv:2: CURRENCY_RATE 0 is not above 0"),
        ({"currency_rates": [RATE | {"CURRENCY_RATE": "NaN"}]}, "currency_rates.csv:2: CURRENCY_RATE 'NaN' is not"),
        ({"currency_rates": [RATE | {"CURRENCY_RATE_DATE": "2/9/21"}]}, "CURRENCY_RATE_DATE '2/9/21' is not a date"),
    ],
)
def test_what_is_wrong_is_named_by_file_and_line_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: dict[str, list[dict[str, str]]], message: str
) -> None:
    assert convert.main([*write(tmp_path, **rows)]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert convert.main([str(tmp_path / "nowhere"), str(tmp_path / "out")]) == 1
    assert f"{tmp_path / 'nowhere' / 'events.csv'}: No such file or directory" in capsys.readouterr().err
