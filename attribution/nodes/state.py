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


class Conversion(NamedTuple):
    """An order or a stage at its person. Amounts in reporting micros; `gone` says why it no longer counts."""

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
    filed: Filed | None


class Person(NamedTuple):
    """A journey. `first` is the time of the earliest touch event ever seen, `trimmed` of the latest that fell off its end.

    `closed` is the time of the latest conversion that fell off: those at or before it stay as they are filed.
    """

    events: tuple[JourneyEvent, ...] = ()
    conversions: tuple[Conversion, ...] = ()
    first: int | None = None
    trimmed: int | None = None
    closed: int | None = None


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


class Refunded(NamedTuple):
    """One refund, in the order's own micros; a cancel is one without an amount."""

    t: int
    event_id: str
    amount: int | None
    currency: str | None
    digest: int


class Order(NamedTuple):
    """All reports of one order, its refunds and cancels, and whom it has last been given to."""

    reports: tuple[Report, ...] = ()
    refunds: tuple[Refunded, ...] = ()
    owner: str | None = None


class CostRow(NamedTuple):
    """A cost as last reported; `amount` in reporting micros over [start, end)."""

    start: int
    end: int
    reported_at: int
    kind: str
    dims: Dims
    amount: int
    digest: int


Node = Person | Order | CostRow | None
