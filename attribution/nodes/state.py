"""The nodes' state: plain immutable values, from which everything a node says can be computed again."""

from __future__ import annotations

from typing import NamedTuple

from attribution.rules import Dims


class JourneyEvent(NamedTuple):
    """One touch event of a journey. Sorts by `(t, event_id)`, which is unique within a journey."""

    t: int
    event_id: str
    cls: int
    kind: str
    dims: Dims
    click_id: str | None
    flags: int
    cost: int | None
    digest: int


class TouchRef(NamedTuple):
    """An eligible touch as a conversion has it on file."""

    touch_id: str
    t: int
    dims: Dims


class Filed(NamedTuple):
    """How a conversion's credit stands: the touches, and each model's weights over them.

    Kept with the conversion, so that what was filed can be taken back exactly, whatever configuration, code or
    expired touches there are by then. `config` is the configuration's number; an unattributed
    conversion has a `reason` and no touches.
    """

    config: int
    reason: str | None
    touches: tuple[TouchRef, ...]
    weights: tuple[tuple[str, tuple[int, ...]], ...]


class Restated(NamedTuple):
    """Once that a conversion's credit changed: `cause` as in `attribution.restated`, the event that caused it ("" where it is somebody else's), the
    watermark by then (None: none yet), and the net amount before and after in reporting micros."""

    cause: str
    what: str
    at: int | None
    was: int
    net: int


class Conversion(NamedTuple):
    """An order or a stage at its person. Amounts in reporting micros; `gone` says why it no longer counts, `source` which tracker reported the order.

    `is_new` is what the order's sender says of the customer, `new` what holds: whether this is the customer's first order; None is unknown.
    `history` are its latest restatements.
    """

    t: int
    id: str
    type: str
    event_id: str
    gross: int
    net: int
    margin: int | None
    net_margin: int | None
    is_new: bool | None
    digest: int
    gone: str | None
    restated: bool
    source: str = ""
    new: bool | None = None
    filed: Filed | None = None
    history: tuple[Restated, ...] = ()


class Linked(NamedTuple):
    """A device's link: from `t` on it belongs to `customer`. Sorts by `(t, event_id)`."""

    t: int
    event_id: str
    customer: str


class Away(NamedTuple):
    """Something anonymous that a device has given to a customer, and may have to take back."""

    what: JourneyEvent | Conversion
    owner: str


class Device(NamedTuple):
    """What a linked device knows beside the journey that is its own.

    `firsts` are the earliest links of its first customers, one each: more of them than the bound make it shared. `last` is the time
    of the latest event or link.
    """

    links: tuple[Linked, ...] = ()
    firsts: tuple[Linked, ...] = ()
    touches: tuple[Away, ...] = ()
    conversions: tuple[Away, ...] = ()
    last: int = 0


class Spare(NamedTuple):
    """What a customer was given beside what stands: another one gave the same event or conversion (None: nobody, it came directly)."""

    device: str | None
    what: JourneyEvent | Conversion


class Given(NamedTuple):
    """Which of a customer's touch events and conversions came through which device, by event id or conversion id.

    `missed` is the time of the latest touch event that would be the customer's, had not its device let it go.
    """

    touches: dict[str, str] = {}
    conversions: dict[str, str] = {}
    spare_touches: tuple[Spare, ...] = ()
    spare_conversions: tuple[Spare, ...] = ()
    missed: int | None = None


class Person(NamedTuple):
    """A journey: a customer's, or a device's as far as it belongs to no customer.

    `trimmed` is the time of the latest touch event that fell off its end, `closed` of the latest conversion that fell off: those
    at or before it stay as they are filed. `advocated` is the time of the latest share, mention or referral among the touch events that
    fell off or are forgotten. `bought` marks a customer whose orders are forgotten: none to come is the first.
    """

    events: tuple[JourneyEvent, ...] = ()
    conversions: tuple[Conversion, ...] = ()
    trimmed: int | None = None
    closed: int | None = None
    device: Device | None = None
    given: Given | None = None
    advocated: int | None = None
    bought: bool = False


class Report(NamedTuple):
    """One sender's report of an order; `gross` and `margin` in the order's own micros."""

    t: int
    event_id: str
    updated_at: int | None
    person: str
    gross: int
    margin: int | None
    currency: str
    rate_num: int
    rate_scale: int
    is_new: bool | None
    digest: int
    source: str = ""


class Refunded(NamedTuple):
    """One refund, in the order's own micros; a cancel is one without an amount."""

    t: int
    event_id: str
    amount: int | None
    currency: str | None
    digest: int


class Order(NamedTuple):
    """All reports of one order, its refunds and cancels, and whom it has last been given to.

    `aliases` are (time, event id, person) of duplicates that did not win: their ids link all the same.
    """

    reports: tuple[Report, ...] = ()
    refunds: tuple[Refunded, ...] = ()
    owner: str | None = None
    aliases: tuple[tuple[int, str, str], ...] = ()


class CostRow(NamedTuple):
    """A cost as last reported; `amount` in reporting micros over [start, end); `reported` and `campaign_id` as in `models.wire.CostReport`."""

    start: int
    end: int
    reported_at: int
    kind: str
    dims: Dims
    amount: int
    digest: int
    reported: tuple[tuple[str, int], ...] = ()
    campaign_id: str = ""


class Answer(NamedTuple):
    """An answer to a survey's question; `dims` is the channel and network it names, `score` in millionths, `person` who gave it."""

    t: int
    question: str
    dims: Dims
    score: int
    digest: int
    person: str = ""


Node = Person | Order | CostRow | Answer | None
