"""The fold: which node folds which entry, and what lives how long."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from attribution.cohorts import CUSTOMER_KEPT, customer_facts
from attribution.newness import first_orders
from attribution.nodes import customer, device, person
from attribution.nodes.base import Context, Folded
from attribution.nodes.cost import fold_cost
from attribution.nodes.order import fold_refund, fold_report
from attribution.nodes.state import Answer, CostRow, Node, Order, Person
from attribution.nodes.survey import fold_survey
from attribution.restated import remember, unsay
from attribution.rules import Rules
from attribution.visitors import arrived_facts, visitor_facts
from models.settings import DAY
from models.wire import (
    AnyEntry,
    CancelReport,
    CostReport,
    GivenStage,
    GivenTouch,
    Link,
    Missed,
    OrderMove,
    OrderReport,
    RefundReport,
    Stage,
    Survey,
    Touch,
    Withdrawal,
)

RETENTION = 400 * DAY
"""How long after its last event an order, a cost, an answer or a linked device is kept: costs and refunds are accepted that long."""


def _touch(node: Person | None, entry: Touch, context: Context) -> Folded:
    if node is not None and node.given is not None:
        return customer.fold_touch(node, entry, context)
    if node is not None and node.device is not None:
        return device.fold_touch(node, entry, context)
    return person.fold_touch(node, entry, context)


def _stage(node: Person | None, entry: Stage, context: Context) -> Folded:
    if node is not None and node.given is not None:
        return customer.fold_stage(node, entry, context)
    if node is not None and node.device is not None:
        return device.fold_stage(node, entry, context)
    return person.fold_stage(node, entry, context)


def _order(node: Person | None, entry: OrderMove, context: Context) -> Folded:
    if entry.device is not None or (node is not None and node.given is not None):
        return customer.fold_order(node, entry, context)
    if node is not None and node.device is not None:
        return device.fold_order(node, entry, context)
    return person.fold_order(node, entry, context)


_FOLDS: dict[type, Callable[[Any, Any, Context], Folded]] = {
    Touch: _touch,
    Stage: _stage,
    OrderMove: _order,
    Link: device.fold_link,
    GivenTouch: customer.fold_given_touch,
    GivenStage: customer.fold_given_stage,
    Withdrawal: customer.fold_withdrawal,
    Missed: customer.fold_missed,
    OrderReport: fold_report,
    RefundReport: fold_refund,
    CancelReport: fold_refund,
    CostReport: fold_cost,
    Survey: fold_survey,
}


_NOBODY = Person()
_TIMED = frozenset((Touch, Stage, OrderReport, RefundReport, CancelReport, Link, Survey))


def fold(node: Node, entry: AnyEntry, context: Context) -> Folded:
    """Apply one entry to its node. Pure: the node is a value, and so is what comes back."""
    folded = told(entry.key, node, _FOLDS[type(entry)](node, entry, context), context)
    if folded.changed:
        remember(node, folded, entry, context)
    if type(entry) is Withdrawal:
        unsay(folded, entry.what.removeprefix("s:") if entry.conversion else entry.what)
    return folded


def fold_touches(
    node: Node, entries: Sequence[Touch], context: Context
) -> tuple[Folded | None, list[str | None]] | None:
    """Apply several touches to one node, which on a backlog is most of the work.

    What `fold` would come to one by one, in one (None: none has an effect), and why each has no effect (None: it has). None when it
    has to be done one by one.
    """
    if node is not None and (not isinstance(node, Person) or node.given is not None or node.device is not None):
        return None
    found = person.fold_touches(node, entries, context)
    if found is None:
        return None
    folded, reasons, earliest = found
    if folded is not None:
        before, after = node or _NOBODY, folded.node
        assert isinstance(after, Person)
        visited = folded.visits
        if visited is not None:
            visits = visited[1] if visited[0] is after.events else None
            folded.facts = [*folded.facts, *arrived_facts(before, after, earliest, visits)]
        if before.conversions:
            folded.facts = [*folded.facts, *customer_facts(before, after)]
    return folded, reasons


def told(key: str, node: Node, folded: Folded, context: Context) -> Folded:
    """The outcome with what is told of persons in sums: new customers, visitors, customers. `node` is the one before."""
    after = folded.node
    if isinstance(after, Person) and folded.dropped is None:
        before = node if isinstance(node, Person) else _NOBODY
        if before.conversions is not after.conversions:
            first_orders(folded, context.rules, known=key.startswith("c:"))
            after = folded.node
            assert isinstance(after, Person)
        visited = folded.visits
        found = visitor_facts(before, after, visited[1] if visited is not None and visited[0] is after.events else None)
        if before.conversions or after.conversions:
            found += customer_facts(before, after)
        if found:
            folded.facts = [*folded.facts, *found]
    return folded


def event_time(entry: AnyEntry) -> int | None:
    """The event time an entry brings to its partition; a cost or a move brings none."""
    return entry.t if type(entry) in _TIMED else None  # type: ignore[union-attr]


def expires(key: str, node: Node, rules: Rules) -> int:
    """Event time after which nothing can need this node: what the sealing watermark must have passed."""
    if isinstance(node, Person):
        # An event without a person is kept only to know it again.
        keep = rules.lateness + DAY if key.startswith("e:") else rules.keep
        last = max((event.t for event in node.events[-1:]), default=0) + keep
        if node.given is not None and node.given.missed is not None:
            last = max(last, node.given.missed + rules.keep)
        if node.conversions:
            last = max(last, node.conversions[-1].t + CUSTOMER_KEPT)
        if node.device is not None:
            last = max(last, node.device.last + RETENTION)
        return last
    if isinstance(node, Order):
        times = [report.t for report in node.reports] + [refund.t for refund in node.refunds]
        return max(times, default=0) + RETENTION
    if isinstance(node, CostRow):
        return max(node.end, node.reported_at) + RETENTION
    if isinstance(node, Answer):
        return node.t + RETENTION
    return 0
