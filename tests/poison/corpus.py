"""Poison: records that no worker may accept, choke on, or take its neighbours down with; by kind, from a seed.

Every kind says under which code it must end in the dead letters, so that counts can be exact.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from random import Random
from typing import Any, NamedTuple

from models.events import TOPICS

MEGABYTE = 1 << 20
START = 1_767_225_600_000  # 2026-01-01 in milliseconds: the records' own timestamps begin here
# One in so many is of a kind that is large: a million records are otherwise a terabyte.
LARGE_ONE_IN = 2_000

Event = dict[str, Any]
Headers = list[tuple[str, bytes | None]]


class Poison(NamedTuple):
    """One record, and the code of its dead letter."""

    kind: str
    code: str
    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp: int


class Made(NamedTuple):
    """What a kind makes: a value, and the code it is refused with."""

    value: bytes | None
    code: str


Kind = Callable[[Random, str], Made]
KINDS: dict[str, Kind] = {}
LARGE: dict[str, Kind] = {}


def kind(make: Kind) -> Kind:
    """Register a kind under its function's name."""
    KINDS[make.__name__] = make
    return make


def large(make: Kind) -> Kind:
    """Register a kind whose values are of about a megabyte."""
    LARGE[make.__name__] = make
    return make


def event(draw: Random, topic: str) -> Event:
    """An event that would be accepted."""
    number = draw.getrandbits(60)
    base: Event = {"event_id": f"poison-{number}", "occurred_at": "2025-12-31T12:00:00Z", "customer_id": f"p{number}"}
    if topic == "touchpoints":
        return base | {"type": "visit"}
    if topic == "purchases":
        return base | {"type": "order", "order_id": f"P{number}", "revenue": 10, "currency": "EUR"}
    if topic == "costs":
        return {"cost_id": f"k{number}", "start": "2025-12-01T00:00:00Z", "end": "2025-12-02T00:00:00Z", "amount": 1}
    return base


def text(content: Event) -> bytes:
    return json.dumps(content).encode()


def moment_of(topic: str) -> str:
    """A field of the topic that is a time."""
    return "start" if topic == "costs" else "occurred_at"


def id_of(topic: str) -> str:
    """A field of the topic that is a required id."""
    return {"costs": "cost_id", "purchases": "order_id"}.get(topic, "event_id")


def amount_of(topic: str) -> str:
    """A field of the topic that is an amount, checked whatever the type of event."""
    return {"costs": "amount", "purchases": "revenue"}.get(topic, "cost")


def raw(draw: Random, topic: str, field: str, literal: str) -> bytes:
    """An event with a field written as `literal`."""
    content = event(draw, topic)
    content[field] = "\x01"
    return text(content).replace(b'"\\u0001"', literal.encode(), 1)


# -- what is no JSON


@kind
def nothing(draw: Random, topic: str) -> Made:
    return Made(draw.choice((None, b"")), "empty")


@kind
def truncated(draw: Random, topic: str) -> Made:
    whole = text(event(draw, topic))
    return Made(whole[: draw.randrange(1, len(whole))], "malformed_json")


@kind
def noise(draw: Random, topic: str) -> Made:
    return Made(b"\x00" + draw.randbytes(draw.randrange(1, 200)), "malformed_json")


@kind
def other_encodings(draw: Random, topic: str) -> Made:
    content = event(draw, topic) | {"network": "réseau"}
    encoding = draw.choice(("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig", "cp037"))
    return Made(json.dumps(content, ensure_ascii=False).encode(encoding), "malformed_json")


@kind
def packed(draw: Random, topic: str) -> Made:
    """Gzip, and Avro with a schema's number in front of it."""
    whole = text(event(draw, topic))
    return Made(draw.choice((gzip.compress(whole, 1, mtime=0), b"\x00\x00\x00\x00\x07" + whole)), "malformed_json")


@kind
def invalid_utf8(draw: Random, topic: str) -> Made:
    """Latin-1, a lone continuation byte, an overlong form, a surrogate, a code point beyond the last, in a string that is read."""
    bad = draw.choice((b"\xe9t\xe9", b"\x80", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xff\xfe"))
    content = event(draw, topic) | {id_of(topic): "MARK"}
    return Made(text(content).replace(b"MARK", bad), "malformed_json")


@kind
def lone_surrogate(draw: Random, topic: str) -> Made:
    bad = draw.choice((r'"\ud800"', r'"\udc00\ud800"', r'"a\udfff"'))
    return Made(raw(draw, topic, id_of(topic), bad), "malformed_json")


@kind
def not_a_number(draw: Random, topic: str) -> Made:
    literal = draw.choice(("NaN", "Infinity", "-Infinity", "nan", "0x10", "01", "1.", "+1", ".5"))
    return Made(raw(draw, topic, amount_of(topic), literal), "malformed_json")


@kind
def deep_nesting(draw: Random, topic: str) -> Made:
    depth = draw.choice((5_000, 20_000))
    opened, closed = draw.choice(((b"[", b"]"), (b'{"x":', b"}")))
    body = text(event(draw, topic))[:-1] + b', "deep": ' + opened * depth
    return Made(body + b"0" + closed * depth + b"}" if draw.random() < 0.5 else body, "malformed_json")


# -- what is JSON and no event


@kind
def no_object(draw: Random, topic: str) -> Made:
    whole = draw.choice((b"null", b"true", b"17", b'"click"', b"[]", b"[{}]", b"-0.0", b"[" * 500 + b"]" * 500))
    return Made(whole, "invalid_field")


@kind
def several_objects(draw: Random, topic: str) -> Made:
    whole = text(event(draw, topic))
    return Made(whole + draw.choice((b"\n", b" ", b",")) + whole, "malformed_json")


@kind
def missing(draw: Random, topic: str) -> Made:
    content = event(draw, topic)
    del content[draw.choice((id_of(topic), moment_of(topic)))]
    return Made(text(content), "missing_field")


@kind
def nulls(draw: Random, topic: str) -> Made:
    content = event(draw, topic)
    content[draw.choice((id_of(topic), moment_of(topic)))] = None
    return Made(text(content), "invalid_field")


@kind
def wrong_types(draw: Random, topic: str) -> Made:
    content = event(draw, topic)
    field = draw.choice((id_of(topic), moment_of(topic), "source"))
    content[field] = draw.choice((17, 1.5, True, [], {}, ["a"], {"id": "a"}))
    return Made(text(content), "invalid_field")


@kind
def long_ids(draw: Random, topic: str) -> Made:
    content = event(draw, topic) | {id_of(topic): draw.choice("xé\u0000🦄") * draw.choice((257, 10_000))}
    return Made(text(content), "invalid_field")


@kind
def huge_numbers(draw: Random, topic: str) -> Made:
    literal = draw.choice(("1e400", "1E+999999999", "9" * 5_000, "-1", "-1e-3", "1000000001", '"Infinity"', '"NaN"'))
    field = amount_of(topic)
    if topic == "touchpoints":
        # The amount of a stage; a visit's is not looked at.
        whole = raw(draw, topic, "value", literal).replace(b'"visit"', b'"stage", "stage": "lead"')
    else:
        whole = raw(draw, topic, field, literal)
    return Made(whole, "invalid_field")


@kind
def bad_amounts(draw: Random, topic: str) -> Made:
    field = "value" if topic == "touchpoints" else amount_of(topic)
    literal = draw.choice(('"ten"', '"1,50"', "true", "[1]", '""', '"0x1F"', '"1 000"', '"€5"'))
    return Made(raw(draw, topic, field, literal), "invalid_field")


# -- times


@kind
def dates_out_of_range(draw: Random, topic: str) -> Made:
    when = draw.choice(
        (
            "0001-01-01T00:00:00+23:59",
            "1969-12-31T23:59:59.999999Z",
            "2200-01-01T00:00:00Z",
            "9999-12-31T23:59:59-23:59",
        )
    )
    return Made(text(event(draw, topic) | {moment_of(topic): when}), "out_of_range")


@kind
def no_dates(draw: Random, topic: str) -> Made:
    when = draw.choice(
        ("2026-01-01T00:00:00", "2026-02-30T00:00:00Z", "2026-01-01T24:00:00Z", "10000-01-01T00:00:00Z", "yesterday", "",
         "2026-W01-1", "-2026-01-01T00:00:00Z", "2026-01-01", "01/02/2026")
    )  # fmt: skip
    return Made(text(event(draw, topic) | {moment_of(topic): when}), "invalid_field")


@kind
def future(draw: Random, topic: str) -> Made:
    field = "reported_at" if topic == "costs" else "occurred_at"
    return Made(text(event(draw, topic) | {field: f"{draw.randrange(2027, 2199)}-06-01T00:00:00Z"}), "future")


# -- what only the meaning forbids


@kind
def by_meaning(draw: Random, topic: str) -> Made:
    content = event(draw, topic)
    if topic == "costs":
        return draw.choice((
            Made(text(content | {"end": content["start"]}), "empty_interval"),
            Made(text(content | {"start": "2020-01-01T00:00:00Z"}), "long_interval"),
            Made(text({name: content[name] for name in ("cost_id", "start", "end")}), "missing_field"),
            Made(text(content | {"currency": "ISK"}), "missing_rate"),
            Made(text(content | {"currency": "ZZZ"}), "unknown_currency"),
            Made(text(content | {"impressions": -1}), "invalid_field"),
        ))  # fmt: skip
    if topic == "purchases":
        return draw.choice((
            Made(text(content | {"currency": "ISK"}), "missing_rate"),
            Made(text(content | {"currency": "ZZZ"}), "unknown_currency"),
            Made(text(content | {"currency": "eur"}), "invalid_field"),
            Made(text(content | {"type": "gift"}), "invalid_field"),
            Made(text(content | {"customer_id": draw.choice(("", "null", "0", " Guest "))}), "no_person"),
        ))  # fmt: skip
    return draw.choice((
        Made(text(content | {"customer_id": draw.choice(("", "null", "0", " Guest "))}), "no_person"),
        Made(text(content | {"utm_source": "x" * 257}), "invalid_field"),
        Made(text(content | {"referrer": "http://" + "x" * 4_097}), "invalid_field"),
    ))  # fmt: skip


# -- what is large


@large
def beyond_a_megabyte(draw: Random, topic: str) -> Made:
    content = event(draw, topic) | {"note": "x" * (MEGABYTE + draw.randrange(1_000))}
    return Made(text(content), "too_large")


@large
def long_string(draw: Random, topic: str) -> Made:
    """Just below the limit, in a field that is read."""
    return Made(text(event(draw, topic) | {"source": "x" * (MEGABYTE - 1_000)}), "invalid_field")


@large
def many_fields(draw: Random, topic: str) -> Made:
    """A hundred thousand unknown fields, and then the end is missing."""
    fields = ",".join(f'"{i:x}":0' for i in range(100_000))
    return Made(b"{" + fields.encode(), "malformed_json")


@large
def a_megabyte_deep(draw: Random, topic: str) -> Made:
    return Made(b'{"x":' + b"[" * (MEGABYTE - 100), "malformed_json")


def poison(seed: int, count: int, *, large_one_in: int = LARGE_ONE_IN, timestamp: int = START) -> Iterator[Poison]:
    """`count` records over all topics and kinds; keys, headers and timestamps are hostile too. The same for the same seed."""
    draw = Random(seed)
    for number in range(count):
        kinds = LARGE if number % large_one_in == large_one_in - 1 else KINDS
        name = draw.choice(list(kinds))
        topic = draw.choice(TOPICS)
        made = kinds[name](draw, topic)
        key = _key(draw)
        if key is None and made.value is None:
            key = b"tombstone"  # the clients refuse to publish neither
        yield Poison(name, made.code, topic, key, made.value, _headers(draw), timestamp + number % 1_000)


def _key(draw: Random) -> bytes | None:
    chance = draw.random()
    if chance < 0.02:
        return draw.randbytes(10_000)
    if chance < 0.3:
        return draw.choice((b"", b"\x00", b"\xff\xfe", draw.randbytes(16)))
    return None


def _headers(draw: Random) -> Headers:
    if draw.random() < 0.9:
        return []
    return draw.choice((
        [("", b"")],
        [("trace", None)],
        [("parcours-code", b"forged"), ("parcours-offset", b"-1")],
        [("n\u0000ul", b"\xff\x00"), ("n\u0000ul", b"again")],
        [(f"h{i}", b"x") for i in range(100)],
        [("long", b"x" * 20_000)],
    ))  # fmt: skip
