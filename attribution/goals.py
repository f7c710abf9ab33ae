"""Goals: how far a metric has come between a start and a deadline, where it should be by now, and where it is heading.

The metrics are those of `attribution.families`, by the same formulas. A *sum* (orders, revenue, clicks, cost …) counts from 0 at the start: expected now is
the elapsed share of the target, and the projection goes on at the average rate so far. A *ratio* (cpa, roas …) is that of the goal's `window` up to now, and is expected
to move in a straight line from its baseline to its target; so is what is told of persons (conversion_rate, reach …), which is known of windows that end now alone. After the deadline
all are those of the deadline, as known now.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Context, Decimal
from typing import Literal, NamedTuple

from attribution.claims import Told, merged
from attribution.costs import UNKNOWN, Ledger, Spent
from attribution.facts import CONVERSION, TOTAL, VISITS
from attribution.families import METRICS, PERSONS, Metric, Row, family_name
from attribution.filing import NOBODY
from attribution.formulas import PURCHASE, Scope, Which, engaged, total
from attribution.patterns import level_of, matches
from attribution.people import WINDOWS
from attribution.replaced import RATE
from attribution.rollups import Calendar, Cell, add, summed
from attribution.running import Span
from attribution.windows import Sums, goal_days
from models.settings import Goal, Marketing, micros

RATIO = Context(prec=12)
_STANDING = ("followers", "follower_growth", "engagements_per_follower_ratio", "platform_reach")
"""Reported of a moment or of the largest interval: neither sums nor ratios over days."""
METRIC: dict[str, Metric] = {
    metric.name.removesuffix("_ratio"): metric
    for metric in METRICS
    if metric.spans != "m" and metric.models != "reason" and metric.name not in _STANDING
}
"""What a goal may be about, but for persons."""
SUMS = frozenset(name for name, metric in METRIC.items() if not metric.ratio)
OF_PERSONS = {
    name.removesuffix("_ratio"): name
    for name, kind in PERSONS.items()
    if kind.type == "gauge"
    and {"window", "conversion", "currency"}.issuperset(kind.labels)
    and "source" not in kind.levels
}
"""The same of persons, with the names of their metrics."""

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
    metric = METRIC[goal.metric]
    cut = min([end, *_cuts(goal, sums, ledger, start, end)]) if metric.cost else end
    if 2 * (cut - start) < end - start:
        return None
    cell, nobody, visits = _cells(goal, sums, start, cut)
    spent = _spent(goal, ledger, start, cut)
    points = {kind.casefold(): worth for kind, worth in sums.marketing.engagement_points.items()}
    told = _told(goal, sums, ledger, start, cut)
    rated = engaged(summed((cell, told.delta(RATE))), points)
    cell = summed((cell, told.delta()))
    scope = Scope(
        (), cell, spent, (cell, spent), cut, engaged(cell, points), nobody, visits, None, told, told, rated
    )  # fmt: skip
    value = metric.formula(scope, _which(goal, metric, sums.marketing))
    return None if value is None else Decimal(value)


def _told(goal: Goal, sums: Sums, ledger: Ledger, start: int, end: int) -> Told:
    """What networks report of these days, in the place of what was counted."""
    days = Span("", "period", "d", start, end - 1, end, True)
    return merged(told for dims, told in ledger.reports.told(days, sums).items() if matches(goal, dims))


def _which(goal: Goal, metric: Metric, marketing: Marketing) -> Which:
    first = marketing.headline_models[0]
    if metric.models == "hidden":
        return Which(first, PURCHASE, CONVERSION)
    if not metric.models:
        return Which(conversion=goal.conversion if metric.conversions else "")
    kind = marketing.lead_conversion if metric.conversions == "lead" else goal.conversion
    return Which(goal.model or first, kind, CONVERSION)


def _cuts(goal: Goal, sums: Sums, ledger: Ledger, start: int, end: int) -> Iterable[int]:
    for dims, through in ledger.through.items():
        # The end may be the microsecond after now, to hold what is filed at now.
        if matches(goal, dims) and not through.over and through.t + 1 < end:
            yield max(start, sums.calendar.day(through.t))


def _spent(goal: Goal, ledger: Ledger, start: int, end: int) -> Spent:
    if end <= start:
        return UNKNOWN
    return total(cost for dims, cost in ledger.spent("c", start, lambda dims: end).items() if matches(goal, dims))


def _cells(goal: Goal, sums: Sums, start: int, end: int) -> tuple[Cell, Cell, int]:
    """What the matching names hold together over these days, what is credited to nobody, and all visits."""
    width = 2 if goal.campaign is None else 3
    whole = level_of(goal) == "total"
    found: Cell = {}
    nobody: Cell = {}
    visits = 0
    for cells in (sums.channels if width == 2 else sums.campaigns).between("d", start, end):
        for key, cell in cells.items():
            visits += cell.get(VISITS, 0)
            if key == NOBODY[:width]:
                into = nobody
            elif whole or (key != TOTAL[:width] and matches(goal, key)):
                into = found
            else:
                continue
            add(into, cell)
    return found, nobody, visits


def window_of(goal: Goal) -> str | None:
    """The window of persons that is as long as the goal's."""
    return next((name for name, _, length in WINDOWS if length == micros(goal.window)), None)


def told(goal: Goal, rows: Iterable[Row]) -> Decimal | None:
    """A metric of persons among the exporter's rows; None unless exactly one name matches."""
    wanted = family_name(level_of(goal), OF_PERSONS[goal.metric])
    window = window_of(goal)
    found = []
    for family, labels, value in rows:
        if family == wanted:
            of = dict(labels)
            names = tuple(of[name] for name in ("channel", "network") if name in of)
            if matches(goal, names) and (of.get("window", window), of.get("conversion", goal.conversion)) == (
                window,
                goal.conversion,
            ):
                found.append(Decimal(value))
    return found[0] if len(found) == 1 else None


def frozen_key(goal: Goal) -> str:
    """What a measured baseline is kept under: another start, window or scope is another baseline."""
    scope = "/".join(part or "*" for part in (goal.channel, goal.network, goal.campaign))
    return f"{goal.name}:{goal.metric}:{scope}:{goal.model or ''}:{goal.conversion}:{goal.window}:{goal.start}"


def at_end(goal: Goal) -> str:
    """What the last value of a goal on persons is kept under."""
    return f"{frozen_key(goal)}:{goal.deadline}"


def baselines(
    goals: Iterable[Goal],
    frozen: Mapping[str, Decimal | None],
    sums: Sums,
    ledger: Ledger,
    now: int,
    rows: Iterable[Row] = (),
) -> dict[str, Decimal | None]:
    """What is kept of goals: measured baselines by `frozen_key`, and by `at_end` what was told of persons at the deadline, as of the first time that
    it is asked for. Undefined ones are tried again."""
    found: dict[str, Decimal | None] = {}
    for goal in goals:
        persons = goal.metric in OF_PERSONS
        if not persons and (goal.metric in SUMS or goal.baseline is not None):
            continue
        _, start, end = goal_days(goal, sums.calendar)
        key = at_end(goal) if persons else frozen_key(goal)
        value = frozen.get(key)
        if value is None and now >= (end if persons else start):
            value = told(goal, rows) if persons else measured_baseline(goal, sums, ledger)
        if value is not None:
            found[key] = value
    return found


def stand(
    goal: Goal, frozen: Mapping[str, Decimal | None], sums: Sums, ledger: Ledger, now: int, rows: Iterable[Row] = ()
) -> Standing:
    """Where a goal stands at `now`."""
    baseline = goal.baseline if goal.baseline is not None else frozen.get(frozen_key(goal))
    share = elapsed(goal, sums.calendar, now)
    if share < 0:
        value = None
    elif goal.metric in OF_PERSONS:
        value = frozen.get(at_end(goal)) if share >= 1 else told(goal, rows)
    else:
        value = measured(goal, sums, ledger, now)
    return standing(goal, value, baseline, share)
