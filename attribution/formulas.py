"""The formulas of the business metrics: from the sums of a scope to a value.

A ratio is Σ numerator / Σ denominator, and None where it is undefined.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Context, Decimal
from typing import NamedTuple

from attribution.claims import NOTHING, VALUE, Told
from attribution.costs import UNKNOWN, Spent
from attribution.facts import (
    ATTRIBUTED_MARGIN,
    CLICKS,
    CONVERSIONS,
    IMPRESSIONS,
    MARGIN_CONVERSIONS,
    VISITS,
    Measure,
    engagements,
)
from attribution.replaced import RATE
from attribution.rollups import Cell

PURCHASE = "purchase"
MARGIN_KNOWN = 95, 100
"""The part of conversions whose margin must be known for a return on margin."""

Labels = tuple[tuple[str, str], ...]
_RATIO = Context(prec=12)


class Engagement(NamedTuple):
    """Sums over engagements by kind and sentiment, under the configured points."""

    all: int
    counted: int
    """Those of kinds with points above 0."""
    gained: int
    lost: int
    """Points, as a positive number."""
    positive: int
    negative: int
    with_sentiment: int


class Scope(NamedTuple):
    """One name of a level in one span of time.

    `labels` are those of the level. `upto` has both sides of a ratio of cost up to `cut`, to where cost is known (None: no such ratio). `nobody` is
    the credit of no channel, `all_visits` the visits of all channels. `told` is what networks report of it, and `told_upto` up to the cut: the cells hold what is reported
    in the place of what was counted. `rated`: the engagements of a rate, where they are others (see `attribution.replaced.VIEWS`).
    """

    labels: Labels
    cell: Cell
    spent: Spent
    upto: tuple[Cell, Spent] | None
    cut: int
    engaged: Engagement
    nobody: Cell
    all_visits: int
    maturity: Decimal | None
    told: Told = NOTHING
    told_upto: Told = NOTHING
    rated: Engagement | None = None


class Which(NamedTuple):
    """What an attributed sample is of; empty where a metric has no such label."""

    model: str = ""
    conversion: str = ""
    basis: str = ""


Value = Decimal | int | None
Formula = Callable[[Scope, Which], Value]


def units(micros: int) -> Decimal:
    """Micros in major units, exactly."""
    return Decimal(micros).scaleb(-6)


def quotient(numerator: int, denominator: int) -> Decimal | None:
    """Twelve significant digits; None where undefined."""
    return _RATIO.divide(Decimal(numerator), Decimal(denominator)) if denominator > 0 else None


def cpa(spent: Spent, conversions: int) -> Decimal | None:
    """Media cost per conversion (both in micros); None without known cost or conversions."""
    return None if spent.media is None else quotient(spent.media, conversions)


def roas(spent: Spent, revenue: int) -> Decimal | None:
    """Revenue / media cost; None without cost."""
    return None if spent.media is None else quotient(revenue, spent.media)


def roi_on_revenue(spent: Spent, revenue: int) -> Decimal | None:
    """(Revenue − total cost) / total cost; None without cost. The same on margin is `roi`."""
    return None if spent.total is None else quotient(revenue - spent.total, spent.total)


def per_total(spent: Spent, count: int) -> Decimal | None:
    """Total cost per one of `count` (both in micros)."""
    return None if spent.total is None else quotient(spent.total, count)


def engaged(cell: Cell, points: Mapping[str, int]) -> Engagement:
    """A cell's engagements. A kind without configured points has none."""
    total = counted = gained = lost = positive = negative = told = 0
    for kind, sentiment, n in engagements(cell):
        total += n
        worth = points.get(kind.casefold(), 0)
        if worth > 0:
            counted += n
            gained += n * worth
        else:
            lost -= n * worth
        if sentiment is not None:
            told += n
            positive += n * (sentiment > 0)
            negative += n * (sentiment < 0)
    return Engagement(total, counted, gained, lost, positive, negative, told)


def credit(name: str) -> Formula:
    def formula(scope: Scope, which: Which) -> Value:
        return units(scope.cell.get((name, *which), 0))

    return formula


def count(measure: Measure) -> Formula:
    return lambda scope, which: scope.cell.get(measure, 0)


def amount(measure: Measure) -> Formula:
    return lambda scope, which: units(scope.cell.get(measure, 0))


def engagement(part: str) -> Formula:
    i = Engagement._fields.index(part)
    return lambda scope, which: scope.engaged[i]


def cost(part: str) -> Formula:
    def formula(scope: Scope, which: Which) -> Value:
        amount: int | None = getattr(scope.spent, part)
        return None if amount is None else units(amount)

    return formula


def upto(ratio: Callable[[Spent, int], Decimal | None], *measure: str) -> Formula:
    """A ratio of cost to what is filed under a measure, both up to where cost is known. One name alone is an attributed measure."""

    def formula(scope: Scope, which: Which) -> Value:
        if scope.upto is None:
            return None
        cell, spent = scope.upto
        key: Measure = (measure[0], *which) if len(measure) == 1 else measure  # type: ignore[assignment]
        return ratio(spent, cell.get(key, 0))

    return formula


def roi(scope: Scope, which: Which) -> Value:
    if scope.upto is None:
        return None
    cell, spent = scope.upto
    known, whole = MARGIN_KNOWN
    conversions = cell.get((CONVERSIONS, *which), 0)
    if cell.get((MARGIN_CONVERSIONS, *which), 0) * whole < conversions * known:
        return None
    return roi_on_revenue(spent, cell.get((ATTRIBUTED_MARGIN, *which), 0))


def media_per(scale: int) -> Callable[[Spent, int], Decimal | None]:
    return lambda spent, count: None if spent.media is None else quotient(spent.media * scale, count * 1_000_000)


def media_for(measure: Measure, view: str, scale: int) -> Formula:
    """Media cost for so many of a count, both up to where cost is known and the count of the source that the view says."""
    per = media_per(scale)

    def formula(scope: Scope, which: Which) -> Value:
        if scope.upto is None:
            return None
        cell, spent = scope.upto
        return per(spent, scope.told_upto.read(cell, measure, view))

    return formula


def of(numerator: Measure, denominator: Measure, scale: int = 1) -> Formula:
    return lambda scope, which: quotient(scope.cell.get(numerator, 0), scope.cell.get(denominator, 0) * scale)


def traffic_share(scope: Scope, which: Which) -> Value:
    return quotient(scope.cell.get(VISITS, 0), scope.all_visits)


def click_rate(scope: Scope, which: Which) -> Value:
    clicks, impressions = (scope.told.read(scope.cell, measure, "ctr") for measure in (CLICKS, IMPRESSIONS))
    return quotient(clicks, impressions)


def engagement_rate(scope: Scope, which: Which) -> Value:
    impressions = scope.told.read(scope.cell, IMPRESSIONS, RATE)
    return quotient((scope.rated or scope.engaged).counted, impressions)


def tracked(measure: Measure) -> Formula:
    """What was counted here, reported or not."""
    return lambda scope, which: scope.cell.get(measure, 0) - scope.told.delta().get(measure, 0)


def reported(name: str) -> Formula:
    """A figure of the networks' own; None where no report gives it."""
    return lambda scope, which: scope.told.figures.get(name)


def reported_value(scope: Scope, which: Which) -> Value:
    value = scope.told.figures.get(VALUE)
    return None if value is None else units(value)


def beyond(claim: Formula, name: str) -> Formula:
    """What is claimed less what is credited."""

    def formula(scope: Scope, which: Which) -> Value:
        claimed = claim(scope, which)
        return None if claimed is None else claimed - units(scope.cell.get((name, *which), 0))

    return formula


def followers(scope: Scope, which: Which) -> int | None:
    known = scope.told.followers
    return sum(latest.followers for latest in known.values()) if known else None


def follower_growth(scope: Scope, which: Which) -> Value:
    """Of the networks whose followers are known at both ends."""
    told = scope.told
    both = told.followers.keys() & told.before.keys()
    return sum(told.followers[name].followers - told.before[name].followers for name in both) if both else None


def engagements_per_follower(scope: Scope, which: Which) -> Value:
    return quotient(scope.engaged.all, followers(scope, which) or 0)


def net_sentiment(scope: Scope, which: Which) -> Value:
    found = scope.engaged
    return quotient(found.positive - found.negative, found.with_sentiment)


def points(scope: Scope, which: Which) -> Value:
    return scope.engaged.gained - scope.engaged.lost


def everyone(name: str) -> Formula:
    """Credit of all channels and of none: what there is, whichever model shares it."""

    def formula(scope: Scope, which: Which) -> Value:
        measure = (name, *which)
        return units(scope.cell.get(measure, 0) + scope.nobody.get(measure, 0))

    return formula


def projected_cpa(scope: Scope, which: Which) -> Value:
    if scope.upto is None or scope.maturity is None:
        return None
    cell, spent = scope.upto
    value = cpa(spent, cell.get((CONVERSIONS, *which), 0))
    return None if value is None else _RATIO.multiply(value, scope.maturity)


def plus(a: Spent, b: Spent) -> Spent:
    """Known with known; unknown adds nothing."""
    return Spent(
        b.media if a.media is None else a.media + (b.media or 0),
        b.total if a.total is None else a.total + (b.total or 0),
    )


def total(costs: Iterable[Spent]) -> Spent:
    """The sum of what is known."""
    found = UNKNOWN
    for cost in costs:
        found = plus(found, cost)
    return found
