"""The simulator: the same bytes for the same arguments, faults that are counted exactly, and a truth that holds."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from attribution.channels import Classifier
from models.events import DECODERS, Cancel, Click, Cost, Order, Refund, Touchpoint
from models.settings import Marketing, load_marketing
from streams.simulation.market import CAMPAIGNS, CHANNELS, NETWORKS, PLACEMENTS
from streams.simulator import PARCOURS_TOML, Record, Simulation

START = datetime(2026, 3, 10, 14, 20, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HOUR, DAY = 3_600_000_000, 86_400_000_000


def small(seed: int = 3, **changes: Any) -> Simulation:
    return Simulation(seed, **{"start": START, "days": 21, "persons": 150, **changes})


def micros(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)


def problem(record: Record) -> str | None:
    """Why an intake must refuse the record; None when it must take it."""
    try:
        event = DECODERS[record.topic].decode(record.value)
    except msgspec.DecodeError as error:
        return type(error).__name__
    if isinstance(event, Cost):
        return None if event.end > event.start else "empty"
    ownerless = isinstance(event, Refund | Cancel) or getattr(event, "type", "") in ("engagement", "impression")
    if not (event.anonymous_id or event.customer_id or ownerless):
        return "no_person"
    if getattr(event, "currency", None) not in (None, "EUR", "USD"):
        return "unknown_currency"
    if micros(event.occurred_at) > record.published_at + 300_000_000:
        return "future"
    return None


def good_events(records: list[Record]) -> list[tuple[Record, Any]]:
    """Each good event once, at its first publication."""
    seen: dict[str, tuple[Record, Any]] = {}
    for record in records:
        if record.good:
            event = DECODERS[record.topic].decode(record.value)
            seen.setdefault(event.event_id, (record, event))
    return list(seen.values())


def sold(records: list[Record]) -> tuple[set[str], Decimal]:
    """Orders that stand, and their revenue net of refunds in EUR, from the published events alone."""
    orders: dict[str, tuple[Decimal, str]] = {}
    cancelled: set[str] = set()
    back: defaultdict[str, Decimal] = defaultdict(Decimal)
    for _, event in good_events(records):
        if isinstance(event, Order):
            orders[event.order_id] = (event.revenue, event.currency)
        elif isinstance(event, Cancel):
            cancelled.add(event.order_id)
        elif isinstance(event, Refund):
            back[event.order_id] += event.amount
    stand = orders.keys() - cancelled
    rate = {"EUR": Decimal(1), "USD": Decimal("0.92")}
    return set(stand), sum(((orders[o][0] - back[o]) * rate[orders[o][1]] for o in stand), Decimal())


@pytest.fixture(scope="module")
def history() -> list[Record]:
    """Thirty days at the default size, across the change to summer time."""
    return list(Simulation(11, start=START, days=30).records())


def test_the_same_arguments_give_the_same_bytes() -> None:
    once, again = small(), small()
    records = list(once.records())
    assert records == list(again.records()) == list(once.records())
    assert once.truth() == again.truth()
    assert records != list(small(seed=4).records())
    assert list(islice(once.live(once.end, 50), 3000)) == list(islice(again.live(again.end, 50), 3000))


def test_good_records_are_valid_and_bad_ones_are_not(history: list[Record]) -> None:
    reasons = defaultdict(int)
    for record in history:
        reason = problem(record)
        assert (reason is None) == record.good, (reason, record)
        reasons[reason] += 1
    assert reasons.keys() >= {None, "DecodeError", "ValidationError", "no_person", "future", "unknown_currency"}


def test_records_come_in_order_of_publication_within_the_history(history: list[Record]) -> None:
    times = [record.published_at for record in history]
    assert times == sorted(times)
    start = micros(START)
    assert start <= times[0]
    assert times[-1] < start + 30 * DAY


def test_shares_and_lateness_are_as_configured(history: list[Record]) -> None:
    size = len(history)
    assert 30_000 < size < 50_000
    assert 0.003 < sum(not r.good for r in history) / size < 0.007
    events = good_events(history)
    assert 0.035 < 1 - len(events) / sum(r.good for r in history) < 0.065
    delays = [r.published_at - micros(e.occurred_at) for r, e in events]
    assert min(delays) >= 0
    assert max(delays) < 3 * DAY + 10_000_000
    assert 0.02 < sum(delay > 60_000_000 for delay in delays) / len(delays) < 0.04
    assert max(delays) > DAY, "some come days late"


def test_without_faults_every_record_is_a_distinct_good_event() -> None:
    records = list(small(bad_share=0, duplicate_share=0, late_share=0).records())
    events = good_events(records)
    assert len(events) == len(records)
    assert all(r.published_at - micros(e.occurred_at) < 10_000_000 for r, e in events)


def test_truth_is_what_removing_each_channel_and_network_does() -> None:
    simulation = small(persons=400)
    truth = simulation.truth()
    orders, revenue = sold(list(simulation.records()))
    assert truth["conversions"] == len(orders) > 100
    assert Decimal(truth["net_revenue"]) == revenue
    for kind, names, key in (("channel", CHANNELS, "channels"), ("network", NETWORKS, "networks")):
        assert set(truth[key]) == set(names)
        for name in names:
            kept, kept_revenue = sold(list(small(persons=400, without=(kind, name)).records()))
            assert kept <= orders
            assert truth[key][name]["conversions"] == len(orders) - len(kept)
            assert Decimal(truth[key][name]["net_revenue"]) == revenue - kept_revenue
    assert all(truth["channels"][name]["conversions"] > 0 for name in ("Email", "Paid Search", "Paid Social"))


@pytest.mark.parametrize("without", [("channel", "Email"), ("network", "facebook")])
def test_removing_touches_leaves_all_others_as_they_were(without: tuple[str, str]) -> None:
    def touches(records: list[Record]) -> set[Record]:
        stages = (b'"type":"stage"', b'"type":"survey_response"')
        return {
            r for r in records if r.topic in ("clicks", "touchpoints") and not any(word in r.value for word in stages)
        }

    whole, less = touches(list(small().records())), touches(list(small(without=without).records()))
    assert less < whole
    marks = {"Email": b'"newsletter"', "facebook": b"facebook"}
    assert all(marks[without[1]] in r.value for r in whole - less if r.good)
    assert not any(marks[without[1]] in r.value for r in less if r.good)


def test_every_kind_of_event_and_every_placement_occurs(history: list[Record]) -> None:
    events = [event for _, event in good_events(history)]
    clicked = {(e.utm_source or e.network, e.utm_campaign or e.campaign) for e in events if isinstance(e, Click)}
    assert clicked == {(campaign.network, campaign.name) for campaign in CAMPAIGNS}
    assert {(e.cost is not None) for e in events if isinstance(e, Click) and e.utm_source == "bing"} == {True}
    points = [e for e in events if isinstance(e, Touchpoint)]
    types = {"impression", "view", "engagement", "visit", "email_open", "identify", "stage", "survey_response"}
    assert {e.type for e in points} == types
    assert {e.stage for e in points if e.type == "stage"} == {"signup", "lead"}
    referrers = {e.referrer for e in points if e.type == "visit"}
    assert referrers >= {place.fields["referrer"] for place in PLACEMENTS if "referrer" in place.fields}
    assert any(not e.consent for e in points)
    ownerless = {e.type for e in points if not (e.anonymous_id or e.customer_id)}
    assert ownerless == {"impression", "engagement"}
    assert {e.currency for e in events if isinstance(e, Order)} == {"EUR", "USD"}
    assert any(isinstance(e, Refund) for e in events)
    assert any(isinstance(e, Cancel) for e in events)


@pytest.fixture
def marketing(tmp_path: Path) -> Marketing:
    file = tmp_path / "parcours.toml"
    file.write_text(PARCOURS_TOML, "utf-8")
    return load_marketing(file)


def test_the_classifier_finds_each_channel_and_network_that_the_truth_names(
    history: list[Record], marketing: Marketing
) -> None:
    classifier = Classifier(marketing)
    touched = {"impression", "view", "engagement", "visit", "email_open"}
    found = set()
    for _, event in good_events(history):
        if isinstance(event, Click) or (isinstance(event, Touchpoint) and event.type in touched):
            ad = isinstance(event, Click) or event.type == "impression"
            source = classifier.classify(event, ad=ad)
            found.add((source.channel, source.network))
        elif isinstance(event, Cost) and event.kind == "media":
            name = classifier.for_cost(event.channel, event.network, event.campaign, event.campaign_id, event.kind)
            assert name in {(c.channel, c.network, c.name) for c in CAMPAIGNS}
    expected = {(place.channel, place.network) for place in PLACEMENTS}
    assert found >= expected
    # Reactions without a person come from a few networks more.
    assert found - expected <= {("Organic Social", "facebook"), ("Organic Social", "linkedin")}


def test_a_landing_follows_its_click_within_seconds() -> None:
    events = [event for _, event in good_events(list(small().records()))]
    visits = {e.event_id: e for e in events if isinstance(e, Touchpoint) and e.type == "visit"}
    pairs = [(e, visits[f"{e.event_id}v"]) for e in events if isinstance(e, Click) and f"{e.event_id}v" in visits]
    assert len(pairs) > 200
    for click, visit in pairs:
        assert timedelta(seconds=1) <= visit.occurred_at - click.occurred_at <= timedelta(seconds=6)
        fields = [f for f in ("gclid", "fbclid", "li_fat_id", "ttclid", "msclkid") if getattr(click, f)]
        assert len(fields) == 1
        assert getattr(click, fields[0]) == getattr(visit, fields[0])
        assert click.page_url == visit.page_url


def test_costs_are_restated_and_never_leave_the_last_day_half_unknown(history: list[Record]) -> None:
    rows = [(r.published_at, e) for r, e in good_events(history) if isinstance(e, Cost)]
    assert {e.kind for _, e in rows} == {"media", "agency", "tool"}
    reports: defaultdict[tuple[str | None, str | None], list[tuple[int, Cost]]] = defaultdict(list)
    for published, row in rows:
        if row.kind == "media":
            reports[row.network, row.campaign].append((published, row))
    assert set(reports) == {(c.network, c.name) for c in CAMPAIGNS if not c.own_costs}
    start = micros(START)
    for of_campaign in reports.values():
        amounts: defaultdict[str, list[Decimal]] = defaultdict(list)
        for _, row in sorted(of_campaign, key=lambda pair: pair[0]):
            amounts[row.cost_id].append(row.amount)
        assert all(known == sorted(known) for known in amounts.values())
        assert sum(len(known) == 3 for known in amounts.values()) >= 28
        published = [at for at, _ in of_campaign]
        for now in range(start + DAY, start + 30 * DAY, HOUR // 2):
            known = of_campaign[: bisect_right(published, now)]
            through = max(min(micros(row.end), micros(row.reported_at)) for _, row in known)
            assert now - through <= 12 * HOUR


def _results(history: list[Record], window: int) -> dict[tuple[str, str], tuple[int, Decimal, Decimal]]:
    """Conversions, revenue and spend (EUR, accrued evenly) per paid channel and network, by last click or visit."""
    end = history[-1].published_at
    marks: defaultdict[str, list[tuple[int, tuple[str, str]]]] = defaultdict(list)
    channel_of = {(c.network, c.name): c.channel for c in CAMPAIGNS}
    rate = {"EUR": Decimal(1), "USD": Decimal("0.92")}
    found: defaultdict[tuple[str, str], list[Any]] = defaultdict(lambda: [0, Decimal(), Decimal()])
    orders, costs = {}, {}
    for _, e in good_events(history):
        if isinstance(e, Click) or (isinstance(e, Touchpoint) and e.type == "visit" and (e.utm_source or e.referrer)):
            network, campaign = e.utm_source or e.network or "", e.utm_campaign or e.campaign or ""
            person = (e.customer_id or e.anonymous_id or "").strip("abdu")
            marks[person].append((micros(e.occurred_at), (channel_of.get((network, campaign), "other"), network)))
        elif isinstance(e, Order) and e.customer_id:
            orders[e.order_id] = e
        elif isinstance(e, Cost) and e.kind == "media":
            costs[e.cost_id] = max(costs.get(e.cost_id, e), e, key=lambda row: row.reported_at)
    for order in orders.values():
        before = [m for m in marks[order.customer_id[1:]] if m[0] <= micros(order.occurred_at)]
        if before and micros(order.occurred_at) > end - window:
            row = found[max(before)[1]]
            row[0] += 1
            row[1] += order.revenue * rate[order.currency]
    for cost in costs.values():
        covered = min(micros(cost.end), micros(cost.reported_at)) - micros(cost.start)
        inside = min(covered, max(0, micros(cost.start) + covered - end + window))
        found[cost.channel, cost.network][2] += cost.amount * rate[cost.currency] * inside / covered
    return {key: tuple(row) for key, row in found.items() if row[2]}  # type: ignore[misc]


@pytest.mark.parametrize("window", [DAY, 7 * DAY])
def test_cpa_is_finite_for_at_least_five_paid_rows(history: list[Record], window: int) -> None:
    finite = [key for key, (orders, _, spend) in _results(history, window).items() if orders and spend > 0]
    assert len(finite) >= 5


def test_some_networks_clearly_pay_and_others_do_not(history: list[Record]) -> None:
    results = _results(history, 30 * DAY)
    roi = {network: (revenue - spend) / spend for (_, network), (_, revenue, spend) in results.items()}
    assert all(roi[network] > Decimal("0.5") for network in ("google", "facebook", "instagram")), roi
    assert all(roi[network] < Decimal("-0.2") for network in ("linkedin", "tiktok", "youtube")), roi


def test_live_goes_on_where_history_ends_in_real_time() -> None:
    simulation = small()
    last = list(simulation.records())[-1]
    begin = simulation.end + 90_000_000
    records = list(islice(simulation.live(begin, 40), 20_000))
    times = [record.published_at for record in records]
    assert times == sorted(times)
    assert times[0] >= begin > last.published_at
    rate = len(records) / ((times[-1] - times[0]) / 1e6)
    assert 28 < rate < 56
    assert all((problem(record) is None) == record.good for record in records)
    live = [(r, e) for r, e in good_events(records) if e.event_id.startswith("10000000000.")]
    fresh = [r.published_at - micros(e.occurred_at) for r, e in live]
    assert len(fresh) > 10_000
    assert sorted(fresh)[int(len(fresh) * 0.9)] < 10_000_000
    assert max(fresh) < 310_000_000
    orders = [e for _, e in good_events(records) if isinstance(e, Order)]
    assert len(orders) > 200


def test_live_costs_grow_and_the_day_before_is_settled_at_midnight() -> None:
    simulation = small()
    begin = simulation.end
    midnight = micros(datetime(2026, 3, 31, 22, tzinfo=UTC))
    assert begin < midnight < begin + DAY
    near = midnight - 20 * 60_000_000
    records = []
    for record in simulation.live(near, 5):
        if record.published_at > midnight + 5 * 60_000_000:
            break
        records.append(record)
    rows = [(r.published_at, e) for r, e in good_events(records) if isinstance(e, Cost)]
    brand = [(at, e) for at, e in rows if e.campaign == "brand_fr"]
    today = [e.amount for at, e in brand if at < midnight and e.cost_id == "g-1001-2026-03-31"]
    assert today == sorted(today)
    assert len(set(today)) > 5
    gaps = [b[0] - a[0] for a, b in pairwise(brand)]
    assert max(gaps) <= 35_000_000
    days = {e.cost_id for _, e in brand}
    assert days >= {"g-1001-2026-03-31", "g-1001-2026-04-01"}
    final = [e for _, e in brand if e.cost_id == "g-1001-2026-03-31"][-1]
    assert final.reported_at >= final.end
    assert "agency-2026-04" in {e.cost_id for _, e in rows}


def test_write_puts_the_events_beside_the_truth(tmp_path: Path) -> None:
    simulation = small()
    truth = simulation.write(tmp_path / "world")
    assert json.loads((tmp_path / "world" / "truth.json").read_bytes()) == truth == simulation.truth()
    records = list(simulation.records())
    for topic in DECODERS:
        lines = (tmp_path / "world" / f"{topic}.jsonl").read_bytes().splitlines()
        assert lines == [record.value for record in records if record.topic == topic]


def test_the_demo_configuration_loads(marketing: Marketing) -> None:
    assert marketing.reporting_currency == "EUR"
    assert marketing.time_zone == "Europe/Paris"
    assert {rate.currency for rate in marketing.rates} == {"USD", "GBP", "MAD"}
    assert set(marketing.conversions) == {"lead", "signup"}


@pytest.mark.parametrize(
    "wrong",
    [{"start": datetime(2026, 1, 1)}, {"days": 0}, {"persons": 0}, {"without": ("channel", "Telegraph")}],
)
def test_impossible_arguments_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        small(**wrong)


def test_a_mistake_in_billing_is_made_and_corrected() -> None:
    simulation = small()
    begin = simulation.end
    records = list(islice(simulation.live(begin, 20, mistake=True), 2000))
    plain = list(islice(simulation.live(begin, 20), 2000))
    rows = [(r, e) for r, e in good_events(records) if isinstance(e, Cost) and e.cost_id == "g-1001-billed-twice"]
    assert [(r.published_at - begin) // 1_000_000 for r, _ in rows] == [15, 45]
    assert [e.amount > 1000 if i == 0 else e.amount == 0 for i, (_, e) in enumerate(rows)] == [True, True]
    assert rows[0][1].start == rows[1][1].start
    made = {r for r, _ in rows}
    # Nothing else is another.
    kept = [record for record in records if record not in made]
    assert kept == plain[: len(kept)]


def test_live_refuses_to_start_inside_history() -> None:
    with pytest.raises(ValueError):
        small().live(micros(START), 20)
