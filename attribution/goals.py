"""Goals: how far a metric has come between a start and a deadline, where it should be by now, and where it is heading.

A *sum* (orders, revenue, clicks, cost …) counts from 0 at the start: expected now is the elapsed share of the target, and the
projection goes on at the average rate so far. A *ratio* (cpa, roas …) is that of the goal's `window` up to now, and is expected
to move in a straight line from its baseline to its target. After the deadline both are those of the deadline, as known now.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Context, Decimal
from functools import partial
from typing import Literal, NamedTuple

from attribution.costs import Ledger
from attribution.facts import (
    ATTRIBUTED_NET,
    CLICKS,
    CONVERSION,
    CONVERSIONS,
    EMAIL_OPENS,
    IMPRESSIONS,
    ORDERS,
    REFUNDS,
    REVENUE_GROSS,
    REVENUE_NET,
    TOTAL,
    VISITS,
    Measure,
    engagements,
    touch_count,
)
from attribution.filing import NOBODY
from attribution.formulas import units
from attribution.patterns import matches
from attribution.rollups import Calendar, Cell
from attribution.windows import Sums, goal_days
from models.settings import Goal, micros

RATIO = Context(prec=12)
COSTS = ("cost", "media_cost")
COUNTS: dict[str, Measure] = {
    "clicks": CLICKS, "impressions": IMPRESSIONS, "email_opens": EMAIL_OPENS, "visits": VISITS,
}  # fmt: skip
OF_ORDERS: dict[str, Measure] = {
    "orders": ORDERS, "revenue": REVENUE_NET, "revenue_gross": REVENUE_GROSS, "refunds": REFUNDS,
}  # fmt: skip
ATTRIBUTED = {
    "attributed_conversions": CONVERSIONS, "attributed_revenue": ATTRIBUTED_NET,
}  # fmt: skip
IN_MICROS = frozenset((*COSTS, *ATTRIBUTED, "revenue", "revenue_gross", "refunds"))
RATIOS: dict[str, tuple[tuple[tuple[int, str], ...], str]] = {
    "cpa": (((1, "media_cost"),), "attributed_conversions"),
    "roas": (((1, "attributed_revenue"),), "media_cost"),
    "roi_on_revenue": (((1, "attributed_revenue"), (-1, "cost")), "cost"),
    "cpc": (((1, "media_cost"),), "clicks"),
    "ctr": (((1, "clicks"),), "impressions"),
    "aov": (((1, "revenue"),), "orders"),
    "orders_per_visit": (((1, "orders"),), "visits"),
}
"""A ratio's numerator, as signed sums, and its denominator."""
SUMS = frozenset((*COSTS, *COUNTS, *OF_ORDERS, *ATTRIBUTED, "engagements", "touches"))

Phase = Literal["before", "running", "over"]


class Standing(NamedTuple):
    """Where a goal stands. Ratios are shares of the way (1 is reached); amounts in the metric's unit; None is undefined."""

    phase: Phase
    value: Decimal | None
    baseline: Decimal | None
    expected: Decimal
    progress: Decimal | None
    projected: Decimal | None
    on_track: bool | None


def standing(goal: Goal, value: Decimal | None, baseline: Decimal | None, elapsed: Decimal) -> Standing:
    """`value` is known of [start, now) or, of a ratio, now; `elapsed` the share of the time that has passed, below 0 before it."""
    if elapsed < 0:
        return Standing("before", None, baseline, Decimal(0), None, None, None)
    elapsed = min(elapsed, Decimal(1))
    phase: Phase = "over" if elapsed == 1 else "running"
    first = Decimal(0) if goal.metric in SUMS else baseline
    if value is None or first is None:
        return Standing(phase, value, baseline, elapsed, None, None, None)
    way = RATIO.subtract(goal.target, first)
    come = RATIO.subtract(value, first)
    progress = RATIO.divide(come, way) if way else None
    projected = RATIO.add(first, RATIO.divide(come, elapsed)) if elapsed else None
    due = first + way * elapsed
    on_track = value >= due if goal.direction == "up" else value <= due
    return Standing(phase, value, baseline, elapsed, progress, projected, on_track)


def elapsed(goal: Goal, calendar: Calendar, now: int) -> Decimal:
    """Share of the time from start to deadline that has passed by `now`; below 0 before, above 1 after it."""
    _, start, end = goal_days(goal, calendar)
    return RATIO.divide(Decimal(now - start), Decimal(end - start))


def measured(goal: Goal, sums: Sums, ledger: Ledger, now: int) -> Decimal | None:
    """The goal's metric now: a sum since its start, a ratio over its window; at its deadline once that is over."""
    _, start, end = goal_days(goal, sums.calendar)
    if goal.metric in SUMS:
        return measure(goal, sums, ledger, start, min(now + 1, end))
    return measure(goal, sums, ledger, *_window(goal, sums.calendar, min(now + 1, end)))


def measured_baseline(goal: Goal, sums: Sums, ledger: Ledger) -> Decimal | None:
    """The ratio over the window before the start, by whole days."""
    return measure(goal, sums, ledger, *goal_days(goal, sums.calendar)[:2])


def _window(goal: Goal, calendar: Calendar, end: int) -> tuple[int, int]:
    return calendar.day(end - 1 - micros(goal.window)), end


def measure(goal: Goal, sums: Sums, ledger: Ledger, start: int, end: int) -> Decimal | None:
    """A metric over the business days that start in [start, end), cost in [start, end); None where undefined.

    As of a window, a ratio of cost takes both sides up to the day of the earliest cost-through in its scope, and has no value when
    less than half is covered.
    """
    if goal.metric in SUMS:
        return _unit(goal.metric, _sum(goal.metric, goal, sums, ledger, start, end))
    parts, below = RATIOS[goal.metric]
    if {below, *(name for _, name in parts)} & set(COSTS):
        cut = min([end, *_cuts(goal, sums, ledger, start, end)])
        if 2 * (cut - start) < end - start:
            return None
        end = cut
    add = partial(_sum, goal=goal, sums=sums, ledger=ledger, start=start, end=end)
    denominator = add(below)
    numerators = [(sign, name, add(name)) for sign, name in parts]
    if not denominator or denominator < 0 or any(amount is None for _, _, amount in numerators):
        return None
    over = sum((sign * (_unit(name, amount) or 0) for sign, name, amount in numerators), Decimal(0))
    return RATIO.divide(over, _unit(below, denominator) or Decimal(1))


def _cuts(goal: Goal, sums: Sums, ledger: Ledger, start: int, end: int) -> Iterable[int]:
    for dims, through in ledger.through.items():
        if matches(goal, dims) and not through.over and through.t < end:
            yield max(start, sums.calendar.day(through.t))


def _sum(metric: str, goal: Goal, sums: Sums, ledger: Ledger, start: int, end: int) -> int | None:
    """Micros or counts; None when no cost is known."""
    if metric in COSTS:
        spent = [
            cost.media if metric == "media_cost" else cost.total
            for dims, cost in ledger.spent("c", start, lambda dims: end).items()
            if matches(goal, dims)
        ]
        known = [amount for amount in spent if amount is not None]
        return sum(known) if known else None
    cell = _cell(goal, sums, metric in OF_ORDERS, start, end)
    engaged = sum(n for _, _, n in engagements(cell))
    if metric in ("engagements", "touches"):
        return engaged if metric == "engagements" else touch_count(cell, engaged)
    found = COUNTS.get(metric) or OF_ORDERS.get(metric)
    if found is None:
        found = (ATTRIBUTED[metric], goal.model or sums.marketing.headline_models[0], goal.conversion, CONVERSION)
    return cell.get(found, 0)


def _cell(goal: Goal, sums: Sums, of_orders: bool, start: int, end: int) -> Cell:
    """What the matching names hold together over these days."""
    width = 2 if goal.campaign is None else 3
    running = sums.channels if width == 2 else sums.campaigns
    found: Cell = {}
    for cells in running.between("d", start, end):
        for key, cell in cells.items():
            own = key == TOTAL[:width]
            if own if of_orders else not own and key != NOBODY[:width] and matches(goal, key):
                for measure_, amount in cell.items():
                    found[measure_] = found.get(measure_, 0) + amount
    return found


def _unit(metric: str, amount: int | None) -> Decimal | None:
    if amount is None:
        return None
    return units(amount) if metric in IN_MICROS else Decimal(amount)


def frozen_key(goal: Goal) -> str:
    """What a measured baseline is kept under: another start, window or scope is another baseline."""
    scope = "/".join(part or "*" for part in (goal.channel, goal.network, goal.campaign))
    return f"{goal.name}:{goal.metric}:{scope}:{goal.model or ''}:{goal.conversion}:{goal.window}:{goal.start}"


def baselines(
    goals: Iterable[Goal], frozen: Mapping[str, Decimal | None], sums: Sums, ledger: Ledger, now: int
) -> dict[str, Decimal | None]:
    """The measured baselines by `frozen_key`: those kept, and those of goals that have started since. Undefined ones are tried again."""
    found: dict[str, Decimal | None] = {}
    for goal in goals:
        if goal.metric in SUMS or goal.baseline is not None:
            continue
        key = frozen_key(goal)
        kept = frozen.get(key)
        if kept is not None:
            found[key] = kept
        elif now >= goal_days(goal, sums.calendar)[1]:
            value = measured_baseline(goal, sums, ledger)
            if value is not None:
                found[key] = value
    return found


def stand(goal: Goal, frozen: Mapping[str, Decimal | None], sums: Sums, ledger: Ledger, now: int) -> Standing:
    """Where a goal stands at `now`."""
    baseline = goal.baseline if goal.baseline is not None else frozen.get(frozen_key(goal))
    share = elapsed(goal, sums.calendar, now)
    value = None if share < 0 else measured(goal, sums, ledger, now)
    return standing(goal, value, baseline, share)
