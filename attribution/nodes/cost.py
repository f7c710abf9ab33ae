"""A cost's node: the latest report of a row, and how much of it has accrued by when."""

from __future__ import annotations

from attribution.nodes.base import Context, Folded
from attribution.nodes.state import CostRow
from models.wire import COUNTERS, CostReport


def fold_cost(node: CostRow | None, entry: CostReport, context: Context) -> Folded:
    """The report with the latest `reported_at` is the row; of equal ones, the smallest content hash."""
    row = CostRow(
        entry.start, entry.end, entry.reported_at, entry.kind,
        (entry.channel, entry.network, entry.campaign), entry.amount, entry.digest, entry.reported, entry.campaign_id,
    )  # fmt: skip
    if node is not None and (node.reported_at, -node.digest) >= (row.reported_at, -row.digest):
        return Folded(node, dropped="duplicate")
    return Folded(row)


def accrual_end(row: CostRow) -> int:
    """A media row's amount is what was spent when it was reported, so it has accrued by then."""
    if row.kind in ("media", COUNTERS) and row.start < row.reported_at < row.end:
        return row.reported_at
    return row.end


def accrued(row: CostRow, t: int) -> int:
    """Micros accrued up to `t`: floor(amount * elapsed / length), so that parts of a row sum exactly to it."""
    end = accrual_end(row)
    if t >= end:
        return row.amount
    if t <= row.start:
        return 0
    return row.amount * (t - row.start) // (end - row.start)


def accrued_within(row: CostRow, start: int, end: int) -> int:
    """Micros accrued in [start, end)."""
    return accrued(row, end) - accrued(row, start)
