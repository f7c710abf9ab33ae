"""What travels through `journey-events`: entries for nodes, in blocks, beside marks.

A block is one Kafka message for one partition. It carries entries of one source in order, so that the
reader can keep one high-water mark per source and drop what it has already applied. Times are integer
microseconds since 1970 UTC; money is integer micros (10^-6 of a major unit).

Field order is the wire format: append, never reorder; a new meaning needs a new tag.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

FORMAT = 1

# Touch.flags: which filters removed it. It stays visible in the journey and earns nothing.
NO_CONSENT = 1
BOT = 2
INTERNAL = 4
FILTERED = BOT | INTERNAL

# Touch.cls: the classes of meaning §3. VISIT is a click-class touch that came as a visit; STAGE is no touch: it marks the
# time of a lead or an opportunity in the journey, for the models that give these a role, and its kind is the stage.
CLICK, VISIT, DIRECT, VIEW, ENGAGEMENT, STAGE = range(6)
CLASS_NAMES = ("click", "click", "direct", "view", "engagement", "stage")


# In Touch.kind: an engagement's sentiment follows its kind, so that a touch and what is stored of it need no more.
_SENTIMENT = "\x1f"


def engagement_kind(kind: str, sentiment: int | None) -> str:
    """An engagement's kind as it travels and is stored; see `kind_and_sentiment`."""
    kind = kind.replace(_SENTIMENT, " ")
    return kind if sentiment is None else f"{kind}{_SENTIMENT}{sentiment}"


def kind_and_sentiment(kind: str) -> tuple[str, str]:
    """(kind, sentiment) of a `Touch.kind`; sentiment is "-1", "0", "1", or "" when there is none."""
    name, _, sentiment = kind.partition(_SENTIMENT)
    return name, sentiment


class Entry(Struct, array_like=True, gc=False, frozen=True):
    """One thing for one node. `(offset, k)` orders the entries of a source; see `high_water`."""

    key: str
    offset: int
    k: int


class Touch(Entry, tag=1, gc=False, frozen=True):
    """An interaction, for a person's node (`a:`, `c:`) or, without a person, for `e:<event_id>`."""

    event_id: str
    t: int
    cls: int
    kind: str
    channel: str
    network: str
    campaign: str
    click_id: str | None
    flags: int
    cost: int | None
    digest: int
    linked: bool = False
    """The event named its device too: that is whose reach it counts in."""


class Stage(Entry, tag=2, gc=False, frozen=True):
    """A configured stage event: a conversion of its own at the person's node. `value` in reporting micros."""

    event_id: str
    t: int
    stage: str
    value: int
    flags: int
    digest: int


class OrderReport(Entry, tag=3, gc=False, frozen=True):
    """One sender's report of an order, for `o:<order_id>`.

    `gross` and `margin` are micros of the order's own currency; `margin` is None when unknown.
    The rate is `rate_num / 10**rate_scale` reporting units per unit of that currency. `source` is the tracker that sent it.
    """

    event_id: str
    t: int
    updated_at: int | None
    person: str | None
    gross: int
    margin: int | None
    currency: str
    rate_num: int
    rate_scale: int
    is_new: bool | None
    flags: int
    digest: int
    source: str = ""


class RefundReport(Entry, tag=4, gc=False, frozen=True):
    """A refund, for `o:<order_id>`; `amount` in micros of the order's own currency."""

    event_id: str
    t: int
    amount: int
    currency: str | None
    digest: int


class CancelReport(Entry, tag=5, gc=False, frozen=True):
    """A cancel, for `o:<order_id>`."""

    event_id: str
    t: int
    digest: int


COUNTERS = "counters"
"""The kind of a report that gives no amount: it is no cost, not even one of 0."""


class CostReport(Entry, tag=6, gc=False, frozen=True):
    """A cost row, for `k:<cost_id>`; `amount` in reporting micros over [start, end).

    `reported` are the network's own figures by name, sorted: counts, `engagements/<kind>`, and `platform_value` in reporting micros.
    `campaign_id` is the network's id of the campaign: what is known by it alone is read under the row's name (`attribution.naming`).
    """

    start: int
    end: int
    reported_at: int
    kind: str
    channel: str
    network: str
    campaign: str
    amount: int
    digest: int
    reported: tuple[tuple[str, int], ...] = ()
    campaign_id: str = ""


class OrderMove(Entry, tag=7, gc=False, frozen=True):
    """What an order's node tells its person's node: the order as it now stands, in reporting micros.

    It replaces what the order said before. `gone` withdraws it: cancelled, fully refunded, or passed to
    another person.
    """

    order_id: str
    t: int
    event_id: str
    gross: int
    net: int
    margin: int | None
    net_margin: int | None
    is_new: bool | None
    flags: int
    gone: str | None
    device: str | None = None
    """The device (`a:…`) that passes the order on to its owner; None: the order's node itself says so."""
    source: str = ""


class Link(Entry, tag=8, gc=False, frozen=True):
    """The device `key` (`a:…`) belongs to `customer` (`c:…`) from `t` on.

    `moved`: an order's node learnt it from two reports of one order, and has judged their lateness. `channel` and `network` are those of
    the touch that the event is, if it is one: it counts in the device's reach.
    """

    event_id: str
    t: int
    customer: str
    moved: bool = False
    channel: str = ""
    network: str = ""


class GivenTouch(Entry, tag=9, gc=False, frozen=True):
    """A touch of `device` that belongs to the customer `key`. It is counted at its device, and so is its cost."""

    device: str
    event_id: str
    t: int
    cls: int
    kind: str
    channel: str
    network: str
    campaign: str
    click_id: str | None
    flags: int
    digest: int


class GivenStage(Entry, tag=10, gc=False, frozen=True):
    """A stage event of `device` that belongs to the customer `key`."""

    device: str
    event_id: str
    t: int
    stage: str
    value: int
    digest: int


class Withdrawal(Entry, tag=11, gc=False, frozen=True):
    """`device` takes back from the customer `key` what it gave: a touch by its event id, a conversion (`s:…`, `o:…`) by its own."""

    device: str
    what: str
    conversion: bool


class Missed(Entry, tag=12, gc=False, frozen=True):
    """`device` had let go of touch events of the customer `key`, the latest of them at or before `t`: they are in no journey."""

    device: str
    t: int


class Survey(Entry, tag=20, gc=False, frozen=True):
    """An answer to a survey's question, for `q:<event_id>`: the channel it names, or its `score` in millionths."""

    event_id: str
    t: int
    question: str
    channel: str
    network: str
    score: int
    digest: int
    person: str = ""
    """Who answered: forgotten together with the person."""


class Forget(Entry, tag=21, gc=False, frozen=True):
    """Persons (`c:…`, `a:…`) to forget, for every partition of the log: its key is no node's, see `attribution.forgetting.everywhere`.

    `hashes` are keyed hashes that are on the forget list already, and whose ids nobody knows any more: what a rebuild begins with.
    """

    persons: tuple[str, ...]
    hashes: tuple[bytes, ...] = ()


AnyEntry = (
    Touch
    | Stage
    | OrderReport
    | RefundReport
    | CancelReport
    | CostReport
    | OrderMove
    | Link
    | GivenTouch
    | GivenStage
    | Withdrawal
    | Missed
    | Survey
    | Forget
)
Move = OrderMove | Link | GivenTouch | GivenStage | Withdrawal | Missed | Forget
"""What a node sends to another, through the log."""


class Mark(Struct, array_like=True, gc=False, frozen=True):
    """How far a source has come: all up to `to_offset` is in the log.

    From ingest, `max_time` is the highest event time seen (None: none yet). From a partition of
    `journey-events`, it is that partition's watermark, and `heard` the least watermark it has heard of from all:
    they decide sealing.
    """

    source: str
    to_offset: int
    max_time: int | None
    idle: bool
    heard: int | None = None


class Configured(Struct, array_like=True, gc=False, frozen=True):
    """From here on this partition applies configuration `number`, whose text is `text`."""

    number: int
    text: str


class Block(Struct, array_like=True, gc=False, frozen=True):
    """One message of `journey-events`. `published` is the earliest Kafka timestamp (ms) of the records its entries came from."""

    format: int
    source: str
    entries: list[AnyEntry] = []
    marks: list[Mark] = []
    configured: Configured | None = None
    published: int = 0


encode = msgspec.msgpack.Encoder().encode
decode_block = msgspec.msgpack.Decoder(Block).decode


def source_id(topic: str, partition: int, incarnation: int = 0) -> str:
    """The name of a source in blocks and marks, e.g. `clicks/3` or, after a reset, `clicks/3/1`."""
    return f"{topic}/{partition}/{incarnation}" if incarnation else f"{topic}/{partition}"
