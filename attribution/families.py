"""The business families as data: what each metric is, where it is exported, and its formula.

A ratio is Σ numerator / Σ denominator, and None where it is undefined. `METRICS` is the one list: the families, the rows, the
budget and what others read of them (alerts, recording rules, documents) are made from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Context, Decimal
from typing import NamedTuple

from attribution.costs import UNKNOWN, Spent
from attribution.facts import (
    ASSISTED,
    ATTRIBUTED_MARGIN,
    ATTRIBUTED_NET,
    CLICKS,
    CONVERSIONS,
    EMAIL_OPENS,
    IMPRESSIONS,
    MARGIN_CONVERSIONS,
    NEW_CUSTOMERS,
    ORDERS,
    REFUNDS,
    REVENUE_GROSS,
    REVENUE_NET,
    VISITS,
    Measure,
    engagements,
    touch_count,
)
from attribution.rollups import Cell

PURCHASE = "purchase"
MARGIN_KNOWN = 95, 100
"""The part of conversions whose margin must be known for a return on margin."""

Labels = tuple[tuple[str, str], ...]
_RATIO = Context(prec=12)


class Row(NamedTuple):
    """One sample."""

    family: str
    labels: Labels
    value: Decimal | int


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
    the credit of no channel, `all_visits` the visits of all channels.
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


class Which(NamedTuple):
    """What an attributed sample is of; empty where a metric has no such label."""

    model: str = ""
    conversion: str = ""
    basis: str = ""


Value = Decimal | int | None
Formula = Callable[[Scope, Which], Value]


class Metric(NamedTuple):
    """A metric, and where it is exported.

    `levels`: t(otal), c(hannel), n (campaign). `spans`: v (5m), w (1h to 30d), p(eriods), b(aselines), d(ays), m (7d and 30d of the touch
    basis). `models`: "" without a model, all, headline (in periods, baselines, days and campaigns: always the first or the headline ones), or
    first, or hidden: the first headline model, as all share the same. `conversions`: "" without the label, all, valued (see `attribution.plan`), purchase, lead. `cost`: which cost a ratio is of.
    """

    name: str
    levels: str
    spans: str
    formula: Formula
    help: str
    models: str = ""
    conversions: str = ""
    money: bool = False
    cost: str = ""
    ratio: bool = False


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


def _credit(name: str) -> Formula:
    def formula(scope: Scope, which: Which) -> Value:
        return units(scope.cell.get((name, *which), 0))

    return formula


def _count(measure: Measure) -> Formula:
    return lambda scope, which: scope.cell.get(measure, 0)


def _amount(measure: Measure) -> Formula:
    return lambda scope, which: units(scope.cell.get(measure, 0))


def _engagement(part: str) -> Formula:
    i = Engagement._fields.index(part)
    return lambda scope, which: scope.engaged[i]


def _cost(part: str) -> Formula:
    def formula(scope: Scope, which: Which) -> Value:
        amount: int | None = getattr(scope.spent, part)
        return None if amount is None else units(amount)

    return formula


def _upto(ratio: Callable[[Spent, int], Decimal | None], *measure: str) -> Formula:
    """A ratio of cost to what is filed under a measure, both up to where cost is known. One name alone is an attributed measure."""

    def formula(scope: Scope, which: Which) -> Value:
        if scope.upto is None:
            return None
        cell, spent = scope.upto
        key: Measure = (measure[0], *which) if len(measure) == 1 else measure  # type: ignore[assignment]
        return ratio(spent, cell.get(key, 0))

    return formula


def _roi(scope: Scope, which: Which) -> Value:
    if scope.upto is None:
        return None
    cell, spent = scope.upto
    known, whole = MARGIN_KNOWN
    conversions = cell.get((CONVERSIONS, *which), 0)
    if cell.get((MARGIN_CONVERSIONS, *which), 0) * whole < conversions * known:
        return None
    return roi_on_revenue(spent, cell.get((ATTRIBUTED_MARGIN, *which), 0))


def _media_per(scale: int) -> Callable[[Spent, int], Decimal | None]:
    return lambda spent, count: None if spent.media is None else quotient(spent.media * scale, count * 1_000_000)


def _of(numerator: Measure, denominator: Measure, scale: int = 1) -> Formula:
    return lambda scope, which: quotient(scope.cell.get(numerator, 0), scope.cell.get(denominator, 0) * scale)


def _traffic_share(scope: Scope, which: Which) -> Value:
    return quotient(scope.cell.get(VISITS, 0), scope.all_visits)


def _engagement_rate(scope: Scope, which: Which) -> Value:
    return quotient(scope.engaged.counted, scope.cell.get(IMPRESSIONS, 0))


def _net_sentiment(scope: Scope, which: Which) -> Value:
    found = scope.engaged
    return quotient(found.positive - found.negative, found.with_sentiment)


def _points(scope: Scope, which: Which) -> Value:
    return scope.engaged.gained - scope.engaged.lost


def _everyone(name: str) -> Formula:
    """Credit of all channels and of none: what there is, whichever model shares it."""

    def formula(scope: Scope, which: Which) -> Value:
        measure = (name, *which)
        return units(scope.cell.get(measure, 0) + scope.nobody.get(measure, 0))

    return formula


def _projected_cpa(scope: Scope, which: Which) -> Value:
    if scope.upto is None or scope.maturity is None:
        return None
    cell, spent = scope.upto
    value = cpa(spent, cell.get((CONVERSIONS, *which), 0))
    return None if value is None else _RATIO.multiply(value, scope.maturity)


METRICS: tuple[Metric, ...] = (
    # Attributed sums.
    Metric("attributed_conversions", "tcn", "wpbd", _credit(CONVERSIONS), "Conversions credited; fractions are shares.", "all", "all"),
    Metric("attributed_revenue", "tcn", "wpbd", _credit(ATTRIBUTED_NET), "Net revenue, after refunds, credited.", "all", "valued", True),
    Metric("attributed_margin", "tcn", "wp", _credit(ATTRIBUTED_MARGIN), "Net margin credited, of orders whose margin is known.", "all", PURCHASE, True),
    Metric("attributed_new_customers", "tcn", "wp", _credit(NEW_CUSTOMERS), "First orders of new customers credited.", "all", PURCHASE),
    # Ratios of cost to credit.
    Metric("cpa", "tcn", "wpbd", _upto(cpa, CONVERSIONS), "Cost per acquisition: media cost / net attributed conversions of the type.", "headline", "all", True, "media", True),
    Metric("roas_ratio", "tcn", "wpbd", _upto(roas, ATTRIBUTED_NET), "Return on ad spend: net attributed revenue / media cost.", "headline", PURCHASE, False, "media", True),
    Metric("roi_on_revenue_ratio", "tcn", "wpb", _upto(roi_on_revenue, ATTRIBUTED_NET), "(Net attributed revenue - total cost) / total cost; 0.5 is 50 percent.", "headline", PURCHASE, False, "total", True),
    Metric("roi_ratio", "tcn", "wp", _roi, "(Net attributed margin - total cost) / total cost; absent when the margin of over 5 percent of conversions is unknown.", "headline", PURCHASE, False, "total", True),
    Metric("cac", "tcn", "wp", _upto(per_total, NEW_CUSTOMERS), "Customer acquisition cost: total cost / attributed new customers.", "headline", PURCHASE, True, "total", True),
    Metric("cpl", "tcn", "w", _upto(cpa, CONVERSIONS), "Cost per lead: media cost / net attributed conversions of the type that is the lead.", "headline", "lead", True, "media", True),
    Metric("projected_cpa", "tc", "m", _projected_cpa, "CPA of the touch basis x maturity: what it will be when all credit has arrived.", "first", PURCHASE, True, "media", True),
    Metric("maturity_ratio", "tc", "m", lambda scope, which: scope.maturity, "The part of the touches' credit that has arrived by now, by their cost.", "first", PURCHASE, False, "", True),
    # Cost.
    Metric("cost", "tcn", "wpbd", _cost("total"), "All cost accrued: media, agency, tools, work.", money=True),
    Metric("media_cost", "tcn", "wpbd", _cost("media"), "The part of the cost that was paid for media.", money=True),
    Metric("cpc", "tcn", "w", _upto(_media_per(1), *CLICKS), "Cost per click: media cost / clicks.", "", "", True, "media", True),
    Metric("cpm", "tcn", "w", _upto(_media_per(1000), *IMPRESSIONS), "Cost per thousand impressions: media cost / impressions x 1000.", "", "", True, "media", True),
    # Volumes.
    Metric("touches", "tcn", "vw", lambda scope, which: touch_count(scope.cell, scope.engaged.all), "Touches: clicks, views, engagements and visits; a click and its landing are one."),
    Metric("clicks", "tcn", "vwpd", _count(CLICKS), "Clicks on ads and tracked links."),
    Metric("impressions", "tcn", "vwp", _count(IMPRESSIONS), "Impressions."),
    Metric("visits", "tcn", "vwpbd", _count(VISITS), "Visits; those less than 30 minutes apart without a new source are one."),
    Metric("engagements", "tcn", "vw", _engagement("all"), "Likes, shares, comments, mentions and the like."),
    Metric("email_opens", "tc", "vw", _count(EMAIL_OPENS), "Emails opened."),
    Metric("ctr_ratio", "tcn", "w", _of(CLICKS, IMPRESSIONS), "Click-through rate: clicks / impressions.", ratio=True),
    Metric("traffic_share_ratio", "c", "w", _traffic_share, "Visits / all visits.", ratio=True),
    Metric("assisted_conversions", "c", "w", lambda scope, which: scope.cell.get((ASSISTED, "", which.conversion, ""), 0), "Distinct conversions with an eligible touch from here, of which last touch gives nothing to here.", "", "all"),
    # Engagement.
    Metric("engagement_points", "tc", "w", _points, "Configured points of engagements: gains less losses."),
    Metric("engagement_points_gained", "tc", "w", _engagement("gained"), "Points of kinds that are worth something."),
    Metric("engagement_points_lost", "tc", "w", _engagement("lost"), "Points of kinds that cost something, as a positive number."),
    Metric("engagements_counted", "tc", "w", _engagement("counted"), "Engagements of kinds with points above 0."),
    Metric("engagement_rate_by_impressions_ratio", "tc", "w", _engagement_rate, "Engagements of kinds with points above 0 / impressions.", ratio=True),
    Metric("engagements_positive", "tc", "w", _engagement("positive"), "Engagements with sentiment 1."),
    Metric("engagements_negative", "tc", "w", _engagement("negative"), "Engagements with sentiment -1."),
    Metric("engagements_with_sentiment", "tc", "w", _engagement("with_sentiment"), "Engagements that came with a sentiment: -1, 0 or 1."),
    Metric("net_sentiment_ratio", "tc", "w", _net_sentiment, "(Positive - negative) / engagements with a sentiment; from -1 to 1.", ratio=True),
    # Blended: what there is, credited or not.
    Metric("orders", "t", "vwpbd", _count(ORDERS), "Orders that were not taken away, credited or not."),
    Metric("revenue", "t", "wpbd", _amount(REVENUE_NET), "Their net revenue: after refunds, without tax and shipping.", money=True),
    Metric("revenue_gross", "t", "w", _amount(REVENUE_GROSS), "Their revenue before refunds.", money=True),
    Metric("refunds", "t", "w", _amount(REFUNDS), "Refunds, by the date of the refund.", money=True),
    Metric("margin", "t", "wp", _everyone(ATTRIBUTED_MARGIN), "Net margin of orders whose margin is known.", "hidden", PURCHASE, True),
    Metric("margin_orders", "t", "wp", _everyone(MARGIN_CONVERSIONS), "Orders whose margin is known.", "hidden", PURCHASE),
    Metric("new_customers", "t", "wp", _everyone(NEW_CUSTOMERS), "First orders of new customers.", "hidden", PURCHASE),
    Metric("mer_ratio", "t", "wpb", _upto(roas, *REVENUE_NET), "Marketing efficiency ratio (blended ROAS): all net revenue / all media cost.", "", "", False, "media", True),
    Metric("blended_cpa", "t", "wpb", _upto(lambda spent, orders: per_total(spent, orders * 1_000_000), *ORDERS), "Total cost / all orders.", "", "", True, "total", True),
    Metric("orders_per_visit_ratio", "t", "wp", _of(ORDERS, VISITS), "Orders / visits.", ratio=True),
    Metric("aov", "t", "wp", _of(REVENUE_NET, ORDERS, 1_000_000), "Average order value: net revenue / orders.", "", "", True, "", True),
)  # fmt: skip


# Families

LEVELS = {"t": "total", "c": "channel", "n": "campaign"}
LEVEL_LABELS: dict[str, tuple[str, ...]] = {
    "total": (),
    "channel": ("channel", "network"),
    "campaign": ("channel", "network", "campaign"),
}
_LEVEL_TEXT = {"total": "in all", "channel": "by channel and network", "campaign": "by channel, network and campaign"}
_WHEN = {"": "", "baseline": "the same of an earlier time: ", "day": "of one day as known now: "}
THROUGH = "parcours_cost_through_timestamp_seconds"


class Family(NamedTuple):
    """What a family is: Prometheus type, help, label names in order, the level, its metric, and which cost a ratio is of."""

    type: str
    help: str
    labels: tuple[str, ...]
    level: str
    metric: str
    cost: str
    ratio: bool


def series(name: str, family: Family) -> tuple[str, ...]:
    """The names of a family's series: its own, or those of a histogram."""
    return tuple(f"{name}_{part}" for part in ("bucket", "sum", "count")) if family.type == "histogram" else (name,)


def own_family(help_: str) -> Family:
    """A family without labels that is of no level."""
    return Family("gauge", help_, (), "", "", "", False)


def family_name(level: str, metric: str, group: str = "") -> str:
    """The family of a metric at a level; `group` is "baseline" or "day" for those."""
    if group == "day":
        return f"parcours_day_{level}_{metric}"
    return f"parcours_{level}_{metric}" + (f"_{group}" if group else "")


def _labels(metric: Metric, level: str, group: str) -> tuple[str, ...]:
    names = list(LEVEL_LABELS[level])
    if metric.models not in ("", "hidden"):
        names += ["model", "basis"]
    if metric.conversions and metric.models != "hidden":
        names.append("conversion")
    names += {"": ["window"], "baseline": ["window", "period"], "day": ["days_ago"]}[group]
    return tuple(names + ["currency"] * metric.money)


def _families() -> dict[str, Family]:
    found: dict[str, Family] = {}
    for group, spans in (("", "vwpm"), ("baseline", "b"), ("day", "d")):
        for metric in METRICS:
            if not set(spans) & set(metric.spans):
                continue
            for letter in metric.levels if not group else metric.levels.replace("n", ""):
                level = LEVELS[letter]
                text = f"{_WHEN[group]}{metric.help}"
                where = f"{text[0].upper()}{text[1:-1]}, {_LEVEL_TEXT[level]}."
                labels = _labels(metric, level, group)
                found[family_name(level, metric.name, group)] = Family(
                    "gauge", where, labels, level, metric.name, metric.cost, metric.ratio
                )
    text = "End of the contiguous known media cost: ratios take both sides up to it."
    found[THROUGH] = Family("gauge", text, LEVEL_LABELS["campaign"], "campaign", "cost_through", "", False)
    return found


FAMILIES: dict[str, Family] = _families()
"""Every family of `rows` by name."""


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


def plain(value: Decimal | int) -> str:
    """A sample's value in plain digits: no exponent, no trailing zeros."""
    if isinstance(value, int):
        return str(value)
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
