"""What intake refuses, with which code and JSON path; and that nothing else comes out of it, whatever goes in."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attribution.intake import SIZE_MAX, Intake
from models.errors import CATALOGUE, Rejected
from models.events import AMOUNT_MAX, SCHEMAS, TOPICS, TOUCHPOINT_TYPES
from models.settings import Conversion, Marketing, Rate
from models.wire import FORMAT, Block, CostReport, OrderReport, RefundReport, Stage, Touch, decode_block, encode
from streams.blocks import partition_of

MARKETING = Marketing(
    time_zone="America/New_York",
    conversions={"lead": Conversion(value="12.5")},
    margin_rate="0.3",
    rates=(
        Rate(currency="USD", rate="2", date="2000-01-01"),
        Rate(currency="JPY", rate="0.006"),
        Rate(currency="TND", rate="999999999"),
    ),
)
INTAKE = Intake(MARKETING)
NO_CLOCK = 1 << 62
WHEN = "2026-03-01T12:00:00Z"
T = 1_772_366_400_000_000
CLICK = {"event_id": "e1", "occurred_at": WHEN, "anonymous_id": "d1"}
VISIT = {**CLICK, "type": "visit"}
STAGE = {**CLICK, "type": "stage", "stage": "lead"}
ORDER = {**CLICK, "type": "order", "order_id": "A", "revenue": "10", "currency": "EUR"}
REFUND = {"event_id": "e1", "occurred_at": WHEN, "type": "refund", "order_id": "A", "amount": "4"}
COST = {"cost_id": "c1", "start": "2026-03-01T00:00:00Z", "end": "2026-03-02T00:00:00Z", "amount": "5"}
HOURS = {name: COST[name] for name in ("cost_id", "start", "end")} | {"hours": "2", "hourly_rate": "30.5"}


def take(topic: str, body: Any, timestamp: int = NO_CLOCK) -> Any:
    value = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    return INTAKE.take(topic, value, timestamp, 7)


def without(body: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name not in names}


# (topic, record, code, path). A list that covers every code intake can give: see the test below.
REFUSED: list[tuple[str, Any, str, str]] = [
    ("clicks", None, "empty", "$"),
    ("clicks", b"", "empty", "$"),
    ("clicks", b" " * (SIZE_MAX + 1), "too_large", "$"),
    ("clicks", b"{", "malformed_json", "$"),
    ("clicks", b"nonsense", "malformed_json", "$"),
    ("clicks", json.dumps(CLICK).encode() + b"{}", "malformed_json", "$"),
    ("clicks", b"\xef\xbb\xbf{}", "malformed_json", "$"),
    ("clicks", b'{"event_id":"\xff","occurred_at":"2026-03-01T12:00:00Z"}', "malformed_json", "$"),
    ("clicks", rb'{"event_id":"\ud800","occurred_at":"2026-03-01T12:00:00Z"}', "malformed_json", "$"),
    ("clicks", b'{"x":' * 100_000, "malformed_json", "$"),
    ("purchases", b'{"x":' + b"[" * 100_000, "malformed_json", "$"),
    ("clicks", b"null", "invalid_field", "$"),
    ("clicks", b"[]", "invalid_field", "$"),
    ("costs", b'"text"', "invalid_field", "$"),
    # Fields that are absent, at the path where they should be.
    ("clicks", {}, "missing_field", "$.event_id"),
    ("clicks", without(CLICK, "occurred_at"), "missing_field", "$.occurred_at"),
    ("touchpoints", CLICK, "missing_field", "$.type"),
    ("touchpoints", without(STAGE, "stage"), "missing_field", "$.stage"),
    ("touchpoints", STAGE | {"stage": ""}, "missing_field", "$.stage"),
    ("purchases", CLICK, "missing_field", "$.type"),
    ("purchases", without(ORDER, "revenue"), "missing_field", "$.revenue"),
    ("purchases", without(ORDER, "currency"), "missing_field", "$.currency"),
    ("purchases", without(REFUND, "order_id"), "missing_field", "$.order_id"),
    ("purchases", without(REFUND, "amount"), "missing_field", "$.amount"),
    ("costs", without(COST, "amount"), "missing_field", "$.amount"),
    ("costs", without(HOURS, "hourly_rate"), "missing_field", "$.amount"),
    # Wrong types, forms and ranges.
    ("clicks", CLICK | {"event_id": 1}, "invalid_field", "$.event_id"),
    ("clicks", CLICK | {"event_id": ""}, "invalid_field", "$.event_id"),
    ("clicks", CLICK | {"event_id": "x" * 257}, "invalid_field", "$.event_id"),
    ("clicks", CLICK | {"campaign": "x" * 257}, "invalid_field", "$.campaign"),
    ("clicks", CLICK | {"consent": "yes"}, "invalid_field", "$.consent"),
    ("clicks", CLICK | {"occurred_at": "yesterday"}, "invalid_field", "$.occurred_at"),
    ("clicks", CLICK | {"occurred_at": "2026-03-01T12:00:00"}, "invalid_field", "$.occurred_at"),
    ("clicks", CLICK | {"occurred_at": 1772366400}, "invalid_field", "$.occurred_at"),
    ("clicks", CLICK | {"occurred_at": None}, "invalid_field", "$.occurred_at"),
    ("clicks", CLICK | {"cost": "NaN"}, "invalid_field", "$.cost"),
    ("clicks", CLICK | {"cost": "-0.01"}, "invalid_field", "$.cost"),
    ("clicks", CLICK | {"currency": "eur"}, "invalid_field", "$.currency"),
    ("touchpoints", VISIT | {"type": "stroll"}, "invalid_field", "$.type"),
    ("touchpoints", VISIT | {"sentiment": 2}, "invalid_field", "$.sentiment"),
    ("touchpoints", STAGE | {"value": "sNaN"}, "invalid_field", "$.value"),
    ("purchases", ORDER | {"type": "gift"}, "invalid_field", "$.type"),
    ("purchases", ORDER | {"revenue": "NaN"}, "invalid_field", "$.revenue"),
    ("purchases", ORDER | {"revenue": "-Infinity"}, "invalid_field", "$.revenue"),
    ("purchases", ORDER | {"revenue": "-0.000001"}, "invalid_field", "$.revenue"),
    ("purchases", ORDER | {"revenue": f"{AMOUNT_MAX}.000001"}, "invalid_field", "$.revenue"),
    ("purchases", ORDER | {"revenue": "1e999999999"}, "invalid_field", "$.revenue"),
    ("purchases", ORDER | {"revenue": 10**400}, "invalid_field", "$.revenue"),
    ("purchases", ORDER | {"revenue": True}, "invalid_field", "$.revenue"),
    ("purchases", ORDER | {"revenue": ""}, "invalid_field", "$.revenue"),
    ("purchases", ORDER | {"tax": "-1"}, "invalid_field", "$.tax"),
    ("purchases", ORDER | {"shipping": "NaN"}, "invalid_field", "$.shipping"),
    ("purchases", ORDER | {"margin": "-1e10"}, "invalid_field", "$.margin"),
    ("purchases", ORDER | {"cost_of_goods": "-1"}, "invalid_field", "$.cost_of_goods"),
    ("purchases", REFUND | {"amount": "-1"}, "invalid_field", "$.amount"),
    ("costs", COST | {"amount": "Infinity"}, "invalid_field", "$.amount"),
    ("costs", COST | {"kind": "bribe"}, "invalid_field", "$.kind"),
    ("costs", COST | {"clicks": -1}, "invalid_field", "$.clicks"),
    ("costs", COST | {"clicks": 10**30}, "invalid_field", "$.clicks"),
    ("costs", COST | {"engagements": {"like": 1.5}}, "invalid_field", "$.engagements[...]"),
    ("costs", HOURS | {"hours": "-2", "hourly_rate": "-3"}, "invalid_field", "$.hours"),
    ("costs", HOURS | {"hourly_rate": "sNaN"}, "invalid_field", "$.hourly_rate"),
    ("costs", HOURS | {"hours": "1e999999", "hourly_rate": "1e999999"}, "invalid_field", "$.hours"),
    ("costs", HOURS | {"hours": "1000000", "hourly_rate": "1000000"}, "invalid_field", "$.hours"),
    # Nobody.
    ("clicks", without(CLICK, "anonymous_id"), "no_person", "$.anonymous_id"),
    ("clicks", CLICK | {"anonymous_id": " Guest "}, "no_person", "$.anonymous_id"),
    ("clicks", CLICK | {"anonymous_id": "", "customer_id": "NULL"}, "no_person", "$.anonymous_id"),
    ("touchpoints", VISIT | {"anonymous_id": "0"}, "no_person", "$.anonymous_id"),
    ("touchpoints", STAGE | {"anonymous_id": None}, "no_person", "$.anonymous_id"),
    ("purchases", ORDER | {"anonymous_id": "(not set)"}, "no_person", "$.anonymous_id"),
    # Money.
    ("purchases", ORDER | {"currency": "ZZZ"}, "unknown_currency", "$.currency"),
    ("purchases", ORDER | {"currency": "XAU"}, "unknown_currency", "$.currency"),
    ("purchases", ORDER | {"currency": "CHF"}, "missing_rate", "$.currency"),
    ("clicks", CLICK | {"cost": "1", "currency": "CHF"}, "missing_rate", "$.currency"),
    ("costs", COST | {"currency": "ZZZ"}, "unknown_currency", "$.currency"),
    ("purchases", ORDER | {"currency": "USD", "occurred_at": "1999-12-31T23:59:59Z"}, "missing_rate", "$.currency"),
    ("purchases", ORDER | {"currency": "TND", "revenue": "1e9"}, "out_of_range", "$.revenue"),
    ("purchases", ORDER | {"currency": "TND", "revenue": 1, "margin": "-1e9"}, "out_of_range", "$.margin"),
    ("costs", COST | {"currency": "TND", "amount": "1e9"}, "out_of_range", "$.amount"),
    ("clicks", CLICK | {"currency": "TND", "cost": "1e9"}, "out_of_range", "$.cost"),
    # Dates that cannot be, at both ends of what a calendar holds.
    ("clicks", CLICK | {"occurred_at": "1969-12-31T23:59:59.999999Z"}, "out_of_range", "$.occurred_at"),
    ("clicks", CLICK | {"occurred_at": "2200-01-01T00:00:00Z"}, "out_of_range", "$.occurred_at"),
    (
        "clicks",
        CLICK | {"occurred_at": "0001-01-01T00:00:00+14:00", "cost": "1", "currency": "USD"},
        "out_of_range",
        "$.occurred_at",
    ),
    ("touchpoints", STAGE | {"occurred_at": "9999-12-31T23:59:59-14:00"}, "out_of_range", "$.occurred_at"),
    (
        "purchases",
        ORDER | {"occurred_at": "0001-01-01T00:00:00+14:00", "currency": "USD"},
        "out_of_range",
        "$.occurred_at",
    ),
    ("purchases", ORDER | {"updated_at": "9999-12-31T23:59:59Z"}, "out_of_range", "$.updated_at"),
    ("purchases", REFUND | {"occurred_at": "1900-01-01T00:00:00Z"}, "out_of_range", "$.occurred_at"),
    ("costs", COST | {"start": "0001-01-01T00:00:00+14:00"}, "out_of_range", "$.start"),
    ("costs", COST | {"end": "2200-01-01T00:00:00Z"}, "out_of_range", "$.end"),
    ("costs", COST | {"reported_at": "9999-12-31T00:00:00Z"}, "out_of_range", "$.reported_at"),
    ("costs", COST | {"occurred_at": "1969-12-31T00:00:00Z"}, "out_of_range", "$.occurred_at"),
    # Intervals.
    ("costs", COST | {"end": COST["start"]}, "empty_interval", "$.end"),
    ("costs", COST | {"end": "2026-02-28T00:00:00Z"}, "empty_interval", "$.end"),
    ("costs", COST | {"end": "2027-04-05T00:00:00.000001Z"}, "long_interval", "$.end"),
]


@pytest.mark.parametrize(("topic", "record", "code", "path"), REFUSED)
def test_refused(topic: str, record: Any, code: str, path: str) -> None:
    with pytest.raises(Rejected) as caught:
        take(topic, record)
    assert (caught.value.code, caught.value.path) == (code, path)
    assert caught.value.message


def test_every_code_that_intake_can_give_is_tried() -> None:
    """`future` has its own test; `late` and `fold_failed` are judged where the log is read."""
    assert {code for _, _, code, _ in REFUSED} == set(CATALOGUE) - {
        "future",
        "late",
        "fold_failed",
        "forgotten",
        "no_forget_key",
    }


@pytest.mark.parametrize(("topic", "body"), [("clicks", CLICK), ("touchpoints", STAGE), ("purchases", REFUND)])
def test_future_is_more_than_five_minutes_after_the_record(topic: str, body: dict[str, Any]) -> None:
    edge = T - 5 * 60 * 1_000_000
    assert take(topic, body, edge).t == T
    with pytest.raises(Rejected) as caught:
        take(topic, body, edge - 1)
    assert (caught.value.code, caught.value.path) == ("future", "$.occurred_at")


def test_a_cost_may_announce_what_is_still_to_be_spent() -> None:
    """Its interval may lie ahead; only a report from the future is one."""
    ahead = T - 90 * 86_400_000_000
    assert take("costs", COST, ahead).t == ahead
    assert take("costs", COST).t == T - 12 * 3_600_000_000
    assert take("costs", COST | {"reported_at": WHEN}, T).t == T
    with pytest.raises(Rejected, match="future"):
        take("costs", COST | {"reported_at": WHEN}, ahead)


def test_what_is_just_inside_the_bounds_is_taken() -> None:
    assert take("clicks", CLICK | {"event_id": "x" * 256}).entry.event_id == "x" * 256
    assert take("clicks", CLICK | {"occurred_at": "1970-01-01T00:00:00Z"}).t == 0
    assert take("clicks", CLICK | {"occurred_at": "2199-12-31T23:59:59.999999Z"}).t == 7_258_118_399_999_999
    assert take("purchases", ORDER | {"revenue": AMOUNT_MAX}).entry.gross == AMOUNT_MAX * 1_000_000
    assert (
        take("costs", COST | {"end": "2027-04-05T00:00:00Z"}).entry.end - take("costs", COST).entry.start
        == 400 * 86_400_000_000
    )
    record = json.dumps(CLICK).encode()
    assert take("clicks", record + b" " * (SIZE_MAX - len(record))).entry.event_id == "e1"
    assert take("touchpoints", VISIT | {"anonymous_id": "null", "customer_id": " u1 "}).entry.key == "c:u1"
    assert take("touchpoints", VISIT | {"customer_id": "Guest"}).entry.key == "a:d1"


def test_entries_carry_what_the_event_says() -> None:
    order = take("purchases", ORDER | {"currency": "USD", "tax": "1.5", "shipping": 2, "consent": False}).entry
    assert isinstance(order, OrderReport)
    assert (order.key, order.offset, order.k, order.t, order.person) == ("o:A", 7, 0, T, "a:d1")
    assert (order.gross, order.margin, order.rate_num, order.rate_scale) == (6_500_000, 1_950_000, 2, 0)
    assert take("purchases", ORDER | {"tax": "11"}).entry.gross == 0
    refund = take("purchases", REFUND).entry
    assert isinstance(refund, RefundReport)
    assert (refund.key, refund.amount, refund.currency) == ("o:A", 4_000_000, None)
    stage = take("touchpoints", STAGE).entry
    assert isinstance(stage, Stage)
    assert stage.value == 12_500_000
    assert take("touchpoints", STAGE | {"value": "3", "currency": "USD"}).entry.value == 6_000_000
    cost = take("costs", HOURS | {"currency": "USD", "network": "google"}).entry
    assert isinstance(cost, CostReport)
    assert (cost.key, cost.amount, cost.reported_at, cost.network) == ("k:c1", 122_000_000, cost.end, "google")
    crowd = take("touchpoints", without(VISIT, "anonymous_id") | {"type": "engagement", "kind": "like"}).entry
    assert isinstance(crowd, Touch)
    assert (crowd.key, crowd.kind) == ("e:e1", "like")
    # Counters alone are valid, and no cost; the types that touch nothing have no effect.
    counted = take("costs", without(COST, "amount") | {"clicks": 3}).entry
    assert isinstance(counted, CostReport)
    assert (counted.kind, counted.amount, counted.reported) == ("counters", 0, (("clicks", 3),))
    for kind in ("identify", "survey_response"):
        assert take("touchpoints", VISIT | {"type": kind}).entry is None


def test_an_answer_is_its_persons_unless_nothing_may_be_stored_of_them() -> None:
    answer = VISIT | {"type": "survey_response", "question": "nps", "score": 9}
    drops = Intake(msgspec.convert({"privacy": {"without_consent": "drop_ids"}}, Marketing))
    for consent, intake, person in ((True, drops, "a:d1"), (False, drops, ""), (False, INTAKE, "a:d1")):
        taken = intake.take("touchpoints", json.dumps(answer | {"consent": consent}).encode(), NO_CLOCK, 0).entry
        assert (taken.key, taken.person) == ("q:e1", person)


def test_forget_tells_every_partition_whom_it_names() -> None:
    both = VISIT | {"type": "forget", "customer_id": " u1 "}
    assert {entry.persons for entry in take("touchpoints", both).entries} == {("a:d1", "c:u1")}
    assert len(take("touchpoints", both).entries) == Marketing().topics.journey_events
    junk = take("touchpoints", VISIT | {"type": "forget", "customer_id": "guest"})
    assert {entry.persons for entry in junk.entries} == {("a:d1",)}
    with pytest.raises(Rejected, match=r"no_person at \$.anonymous_id"):
        take("touchpoints", without(VISIT, "anonymous_id") | {"type": "forget"})
    without_key = Intake(Marketing(), forgets=False)
    with pytest.raises(Rejected, match=r"no_forget_key at \$.type: PARCOURS_FORGET_KEY is not set"):
        without_key.take("touchpoints", json.dumps(both).encode(), NO_CLOCK, 7)


# --- Whatever goes in


def only_refused(topic: str, value: bytes | None, timestamp: int = NO_CLOCK) -> bool:
    """Either a refusal out of the catalogue, or an entry that the log can carry."""
    reason: Rejected | None = None
    try:
        taken = INTAKE.take(topic, value, timestamp, 0)
    except Rejected as rejected:
        reason = rejected
    if reason is not None:
        assert reason.code in CATALOGUE
        assert reason.path.startswith("$")
        assert reason.message
        return False
    if taken.entry is not None:
        assert decode_block(encode(Block(FORMAT, "x/0", [taken.entry]))).entries == [taken.entry]
        assert partition_of(taken.entry.key, 3) in range(3)
    return True


LIMITS = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from([10**400, "1e999999", "-1e-99999", "NaN", "sNaN", "Infinity", "EUR", "TND", "\u0000", "guest"])
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)
MOMENTS = st.datetimes(timezones=st.just(UTC)).map(datetime.isoformat) | st.builds(
    lambda stamp, offset: f"{stamp}{offset}",
    st.sampled_from(
        ["0001-01-01T00:00:00", "9999-12-31T23:59:59.999999", "2026-03-29T02:30:00", "2200-01-01T00:00:00"]
    ),
    st.sampled_from(["Z", "+14:00", "-14:00", "+23:59", "-23:59", "", "+00:00:01"]),
)
AMOUNTS = st.decimals().map(str) | st.integers() | st.floats() | st.decimals(0, 10, places=6).map(str)
NAMED = {
    "event_id": st.text(min_size=1, max_size=20),
    "order_id": st.text(min_size=1, max_size=20),
    "cost_id": st.text(min_size=1, max_size=20),
    "anonymous_id": st.text(max_size=20) | st.just("d1"),
    "type": st.sampled_from(["order", "refund", "cancel", *TOUCHPOINT_TYPES]),
    "stage": st.sampled_from(["lead", "", "signup"]),
    "currency": st.sampled_from(["EUR", "USD", "TND", "CHF", "ZZZ", "JPY"]),
    "kind": st.sampled_from(["media", "agency", "like"]),
    "referrer": st.text()
    | st.sampled_from(["https://[::1", "//", "http://www.google.com/?q=1", "https://\u202e.example"]),
    "page_url": st.text() | st.builds("https://shop.example/?utm_source={}&gclid={}".format, st.text(), st.text()),
    "consent": st.booleans(),
}
MOMENT_FIELDS = ("occurred_at", "start", "end", "reported_at", "updated_at")
AMOUNT_FIELDS = (
    "revenue",
    "amount",
    "tax",
    "shipping",
    "margin",
    "cost_of_goods",
    "hours",
    "hourly_rate",
    "cost",
    "value",
)


def field(name: str) -> st.SearchStrategy[Any]:
    """Mostly something of the right form for the field, so that what lies behind the decoder is reached."""
    if name in MOMENT_FIELDS:
        return st.just(WHEN) | MOMENTS
    if name in AMOUNT_FIELDS:
        return AMOUNTS
    return NAMED.get(name, st.text(max_size=20) | st.none() | VALUES)


def bodies(topic: str) -> st.SearchStrategy[dict[str, Any]]:
    base = {"clicks": CLICK, "touchpoints": STAGE, "purchases": ORDER, "costs": COST}[topic]
    schemas = SCHEMAS[topic].__args__ if topic == "purchases" else (SCHEMAS[topic],)  # type: ignore[attr-defined]
    names = sorted({name for schema in schemas for name in schema.__struct_fields__} | {"type"})
    fields = st.fixed_dictionaries({}, optional={name: field(name) for name in names})
    dropped = st.sets(st.sampled_from(sorted(base)), max_size=2)
    return st.builds(lambda changes, gone: without(base | changes, *gone), fields, dropped)


@pytest.mark.parametrize("topic", TOPICS)
@LIMITS
@given(st.data())
def test_arbitrary_bytes(topic: str, data: st.DataObject) -> None:
    only_refused(topic, data.draw(st.none() | st.binary(max_size=200)))


@pytest.mark.parametrize("topic", TOPICS)
@LIMITS
@given(st.data())
def test_arbitrary_json(topic: str, data: st.DataObject) -> None:
    only_refused(topic, json.dumps(data.draw(VALUES)).encode())


@pytest.mark.parametrize("topic", TOPICS)
@LIMITS
@given(st.data())
def test_almost_valid_events(topic: str, data: st.DataObject) -> None:
    body = data.draw(bodies(topic))
    only_refused(topic, json.dumps(body, ensure_ascii=data.draw(st.booleans())).encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize("topic", TOPICS)
@LIMITS
@given(st.data())
def test_valid_records_with_some_bytes_changed(topic: str, data: st.DataObject) -> None:
    base = {"clicks": CLICK, "touchpoints": STAGE, "purchases": ORDER, "costs": COST}[topic]
    value = bytearray(json.dumps(base).encode())
    assert only_refused(topic, bytes(value))
    for at in data.draw(st.lists(st.integers(0, len(value) - 1), min_size=1, max_size=4)):
        value[at] = data.draw(st.integers(0, 255))
    only_refused(topic, bytes(value))


@LIMITS
@given(st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)), st.sampled_from(["EUR", "USD"]))
def test_every_date_is_taken_or_out_of_range(when: datetime, currency: str) -> None:
    """With a rate to look up by local date, which needs the time zone's calendar."""
    t = (when - datetime(1970, 1, 1)) // timedelta(microseconds=1)
    inside = 0 <= t < 7_258_118_400_000_000
    # The first rate is of 1 January 2000, in New York.
    known = currency == "EUR" or when >= datetime(2000, 1, 1, 5)
    expected = "taken" if inside and known else "missing_rate" if inside else "out_of_range"
    outcome = "taken"
    try:
        assert take("purchases", ORDER | {"occurred_at": f"{when.isoformat()}Z", "currency": currency}).t == t
    except Rejected as reason:
        outcome = reason.code
    assert outcome == expected


def test_a_cost_that_names_nothing_is_unallocated() -> None:
    """It counts in the total and in no channel; one that names anything stays there."""
    row = {
        "cost_id": "c",
        "start": "2026-01-01T00:00:00Z",
        "end": "2026-02-01T00:00:00Z",
        "amount": 5,
        "kind": "agency",
    }
    named = Intake(Marketing()).take("costs", json.dumps(row | {"campaign": "spring"}).encode(), 1 << 60, 0).entry
    unnamed = Intake(Marketing()).take("costs", json.dumps(row).encode(), 1 << 60, 0).entry
    assert isinstance(named, CostReport)
    assert isinstance(unnamed, CostReport)
    assert (named.channel, named.network, named.campaign) == ("(none)", "(none)", "spring")
    assert (unnamed.channel, unnamed.network, unnamed.campaign) == ("(unallocated)", "(none)", "(none)")
