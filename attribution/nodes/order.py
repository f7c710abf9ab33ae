"""An order's node: one order from many reports, its refunds and cancels, passed on to its person (meaning §7)."""

from __future__ import annotations

from collections.abc import Container
from itertools import pairwise
from typing import NamedTuple, TypeVar

from msgspec import structs

from attribution.facts import ORDERS, REFUNDS, REVENUE_GROSS, REVENUE_NET, TOTAL, Fact, negated
from attribution.money import convert, scale
from attribution.nodes.base import Context, Folded
from attribution.nodes.state import Order, Refunded, Report
from models.wire import CancelReport, Link, Move, OrderMove, OrderReport, RefundReport

T = TypeVar("T", Report, Refunded)
EMPTY = Order()
PER_ORDER_MAX = 1_000
"""Reports, and refunds, one order may have: a bound against an id that is not one (meaning §2 of junk ids)."""


def fold_report(node: Order | None, entry: OrderReport, context: Context) -> Folded:
    """A sender reports the order."""
    order = node or EMPTY
    if entry.person is None:
        return Folded(order, dropped="no_person")
    report = Report(
        entry.t, entry.event_id, entry.updated_at, entry.person, entry.gross, entry.margin, entry.currency,
        entry.rate_num, entry.rate_scale, entry.is_new, entry.digest, entry.source,
    )  # fmt: skip
    if _crowded(order.reports, report):
        return Folded(order, dropped="trimmed")
    kept = _with(order.reports, report)
    late = entry.t < context.watermark - context.rules.lateness
    if kept is None:
        alias = (entry.t, entry.event_id, entry.person)
        if late or alias in _said(order):
            return Folded(order, dropped="duplicate")
        if len(order.aliases) >= PER_ORDER_MAX:
            return Folded(order, dropped="trimmed")
        after = order._replace(aliases=tuple(sorted((*order.aliases, alias))))
        return Folded(after, moves=_links(order, after))
    if late:
        return Folded(order, dropped="late")
    after = order._replace(reports=kept)
    if len(kept) == len(order.reports):
        standing = {(other.t, other.event_id, other.person) for other in kept}
        after = after._replace(aliases=tuple(sorted(_said(order) - standing)))
    folded = _restate(order, after, entry.key)
    folded.moves = [*folded.moves, *_links(order, after)]
    return folded


def fold_refund(node: Order | None, entry: RefundReport | CancelReport, context: Context) -> Folded:
    """A refund, or a cancel, perhaps before its order: it waits here."""
    order = node or EMPTY
    amount, currency = (entry.amount, entry.currency) if isinstance(entry, RefundReport) else (None, None)
    refund = Refunded(entry.t, entry.event_id, amount, currency, entry.digest)
    if _crowded(order.refunds, refund):
        return Folded(order, dropped="trimmed")
    kept = _with(order.refunds, refund)
    return (
        Folded(order, dropped="duplicate") if kept is None else _restate(order, order._replace(refunds=kept), entry.key)
    )


def named(order: Order) -> set[str]:
    """Everybody whom a report of the order names, also one that did not win."""
    return {person for _, _, person in _said(order)}


def fold_forget(key: str, order: Order, gone: Container[str]) -> Folded:
    """The order without the reports of persons that are forgotten; no node when it belongs to one of them.

    Its sums stay then; else it says what its other reports say.
    """
    if _owner(order) in gone or not order.reports:
        return Folded(None)
    reports = tuple(report for report in order.reports if report.person not in gone)
    aliases = tuple(alias for alias in order.aliases if alias[2] not in gone)
    return _restate(order, order._replace(reports=reports, aliases=aliases), key)


def _crowded(known: tuple[T, ...], new: T) -> bool:
    """Whether there are as many as may be, and the new one is none of them."""
    return len(known) >= PER_ORDER_MAX and all(other.event_id != new.event_id for other in known)


def _with(known: tuple[T, ...], new: T) -> tuple[T, ...] | None:
    """`known` and the new one, sorted; None when it is a duplicate that does not win."""
    twin = next((other for other in known if other.event_id == new.event_id), None)
    if twin is not None and (twin.t, twin.digest) <= (new.t, new.digest):
        return None
    others: list[T] = [other for other in known if other is not twin]
    others.append(new)
    return tuple(sorted(others, key=lambda other: (other.t, other.event_id)))


def _restate(before: Order, after: Order, key: str) -> Folded:
    """Tell the person what has changed: the whole order as it stands, and its withdrawal where it has moved."""
    owner = _owner(after)
    moves: list[Move] = []
    was, now = _snapshot(before, key), _snapshot(after, key)
    if now is not None:
        if before.owner is not None and before.owner != owner:
            moves.append(structs.replace(was or now, key=before.owner, gone="moved"))
        if was != now or before.owner != owner:
            moves.append(now)
    facts = negated(_facts(before)) + _facts(after)
    return Folded(after._replace(owner=owner), facts, moves)


def _said(order: Order) -> set[tuple[int, str, str]]:
    """(time, event id, person) of every report, those that did not win included."""
    return {(report.t, report.event_id, report.person) for report in order.reports} | set(order.aliases)


def _links(before: Order, after: Order) -> list[Link]:
    """Two different ids on one order are a link, from the later of the two reports on; those that are new."""
    if len({person for _, _, person in _said(after)}) < 2:
        return []
    return [
        Link(device, 0, 0, event_id, t, customer, True)
        for device, t, event_id, customer in sorted(_pairs(after) - _pairs(before))
    ]


def _pairs(order: Order) -> set[tuple[str, int, str, str]]:
    said = _said(order)
    customers = [one for one in said if one[2].startswith("c:")]
    devices = [one for one in said if one[2].startswith("a:")]
    return {(device[2], *max(device, customer)[:2], customer[2]) for device in devices for customer in customers}


def _by_identity(report: Report) -> tuple[bool, int, str]:
    return (not report.person.startswith("c:"), report.t, report.event_id)


def _owner(order: Order) -> str | None:
    return min(order.reports, key=_by_identity).person if order.reports else None


def _content(order: Order) -> Report:
    """The report that says what the order is: the latest `updated_at`, then the one that says whose it is."""
    latest = max(-1 if report.updated_at is None else report.updated_at for report in order.reports)
    equal = [report for report in order.reports if (-1 if report.updated_at is None else report.updated_at) == latest]
    return min(equal, key=_by_identity)


def _cumulative(order: Order, report: Report) -> list[tuple[int, int]]:
    """(time, refunded so far) for each refund in order, in the order's own micros, capped at its revenue."""
    total = 0
    steps = []
    for refund in order.refunds:
        if refund.amount is not None and refund.currency in (None, report.currency):
            total += refund.amount
            steps.append((refund.t, min(total, report.gross)))
    return steps


def _gone(order: Order, report: Report, refunded: int) -> str | None:
    if any(refund.amount is None for refund in order.refunds):
        return "cancelled"
    return "refunded" if report.gross > 0 and refunded >= report.gross else None


def _snapshot(order: Order, key: str) -> OrderMove | None:
    owner = _owner(order)
    if owner is None:
        return None
    report = _content(order)
    steps = _cumulative(order, report)
    refunded = steps[-1][1] if steps else 0
    gone = _gone(order, report, refunded)
    net = 0 if gone else report.gross - refunded
    rate = (report.rate_num, report.rate_scale)
    margin = net_margin = None
    if report.margin is not None:
        margin = convert(report.margin, *rate)
        net_margin = scale(margin, net, report.gross) if report.gross else margin
    return OrderMove(
        key=owner, offset=0, k=0, order_id=key[2:], t=report.t, event_id=report.event_id,
        gross=convert(report.gross, *rate), net=convert(net, *rate), margin=margin, net_margin=net_margin,
        is_new=report.is_new, flags=0, gone=gone, source=report.source,
    )  # fmt: skip


class Standing(NamedTuple):
    """An order as it stands, in its own micros. `gone` says why it no longer counts; `t` is its time."""

    t: int
    currency: str
    gross: int
    net: int
    gone: str | None


def standing(order: Order) -> Standing | None:
    """The order as all its reports, refunds and cancels say; None while no report of it is known."""
    if not order.reports:
        return None
    report = _content(order)
    steps = _cumulative(order, report)
    refunded = steps[-1][1] if steps else 0
    gone = _gone(order, report, refunded)
    return Standing(report.t, report.currency, report.gross, 0 if gone else report.gross - refunded, gone)


def _facts(order: Order) -> list[Fact]:
    """What the order counts whoever it belongs to; a refund also counts under its own date."""
    if not order.reports:
        return []
    report = _content(order)
    rate = (report.rate_num, report.rate_scale)
    steps = _cumulative(order, report)
    refunded = steps[-1][1] if steps else 0
    facts: list[Fact] = []
    if _gone(order, report, refunded) is None:
        facts = [
            (report.t, TOTAL, ORDERS, 1),
            (report.t, TOTAL, REVENUE_GROSS, convert(report.gross, *rate)),
            (report.t, TOTAL, REVENUE_NET, convert(report.gross - refunded, *rate)),
        ]
    for (_, earlier), (t, later) in pairwise([(0, 0), *steps]):
        facts.append((t, TOTAL, REFUNDS, convert(later, *rate) - convert(earlier, *rate)))
    return facts
