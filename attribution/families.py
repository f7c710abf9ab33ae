"""The business families as data: what each metric is, where it is exported, and its formula.

`METRICS` and `PERSONS` are the one list: the families, the rows, the budget and what others read of them (reports, alerts, goals,
recording rules, documents) are made from it.
"""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

from attribution import formulas as f
from attribution.claims import CONVERSIONS as PLATFORM_CONVERSIONS
from attribution.claims import REACH, VIDEO_VIEWS
from attribution.facts import (
    ASSISTED,
    ATTRIBUTED_MARGIN,
    ATTRIBUTED_NET,
    CLICKS,
    CONVERSIONS,
    EMAIL_OPENS,
    FILTERED_CLICKS,
    IMPRESSIONS,
    MARGIN_CONVERSIONS,
    NEW_CUSTOMERS,
    ORDERS,
    REFUNDS,
    REVENUE_GROSS,
    REVENUE_NET,
    UNATTRIBUTED_FOR,
    VISITS,
    touch_count,
)
from attribution.formulas import PURCHASE, Formula, Labels

OF_MODELS = ("all", "headline", "first")
"""Values of `Metric.models` that give a row per model and basis."""


class Row(NamedTuple):
    """One sample."""

    family: str
    labels: Labels
    value: Decimal | int


class Metric(NamedTuple):
    """A metric, and where it is exported.

    `levels`: t(otal), c(hannel), n (campaign). `spans`: v (5m), w (1h to 30d), l (24h to 30d), p(eriods), b(aselines), d(ays), m (7d and 30d of the touch
    basis). `models`: "" without a model, all, headline (in periods, baselines, days and campaigns: always the first or the headline ones), or
    first, or hidden: the first headline model, as all share the same; reason: without a model, by why nothing is credited. `conversions`: "" without the label, all, valued (see `attribution.plan`), purchase, lead. `cost`: which cost a ratio is of.
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


METRICS: tuple[Metric, ...] = (
    # Attributed sums.
    Metric("attributed_conversions", "tcn", "wpbd", f.credit(CONVERSIONS), "Conversions credited; fractions are shares.", "all", "all"),
    Metric("attributed_revenue", "tcn", "wpbd", f.credit(ATTRIBUTED_NET), "Net revenue, after refunds, credited.", "all", "valued", True),
    Metric("attributed_margin", "tcn", "wp", f.credit(ATTRIBUTED_MARGIN), "Net margin credited, of orders whose margin is known.", "all", PURCHASE, True),
    Metric("unattributed_conversions", "t", "wp", lambda scope, which: scope.nobody.get((UNATTRIBUTED_FOR, *which), 0), "Conversions that no touch is credited for, by the first reason that holds.", "reason", "all"),
    Metric("attributed_new_customers", "tcn", "wp", f.credit(NEW_CUSTOMERS), "First orders of new customers credited.", "all", PURCHASE),
    # Ratios of cost to credit.
    Metric("cpa", "tcn", "wpbd", f.upto(f.cpa, CONVERSIONS), "Cost per acquisition: media cost / net attributed conversions of the type.", "headline", "all", True, "media", True),
    Metric("roas_ratio", "tcn", "wpbd", f.upto(f.roas, ATTRIBUTED_NET), "Return on ad spend: net attributed revenue / media cost.", "headline", PURCHASE, False, "media", True),
    Metric("roi_on_revenue_ratio", "tcn", "wpb", f.upto(f.roi_on_revenue, ATTRIBUTED_NET), "(Net attributed revenue - total cost) / total cost; 0.5 is 50 percent.", "headline", PURCHASE, False, "total", True),
    Metric("roi_ratio", "tcn", "wp", f.roi, "(Net attributed margin - total cost) / total cost; absent when the margin of over 5 percent of conversions is unknown.", "headline", PURCHASE, False, "total", True),
    Metric("cac", "tcn", "wp", f.upto(f.per_total, NEW_CUSTOMERS), "Customer acquisition cost: total cost / attributed new customers.", "headline", PURCHASE, True, "total", True),
    Metric("cpl", "tcn", "w", f.upto(f.cpa, CONVERSIONS), "Cost per lead: media cost / net attributed conversions of the type that is the lead.", "headline", "lead", True, "media", True),
    Metric("projected_cpa", "tc", "m", f.projected_cpa, "CPA of the touch basis x maturity: what it will be when all credit has arrived.", "first", PURCHASE, True, "media", True),
    Metric("maturity_ratio", "tc", "m", lambda scope, which: scope.maturity, "The part of the touches' credit that has arrived by now, by their cost.", "first", PURCHASE, False, "", True),
    # Cost.
    Metric("cost", "tcn", "wpbd", f.cost("total"), "All cost accrued: media, agency, tools, work.", money=True),
    Metric("media_cost", "tcn", "wpbd", f.cost("media"), "The part of the cost that was paid for media.", money=True),
    Metric("cpc", "tcn", "w", f.media_for(CLICKS, "cpc", 1), "Cost per click: media cost / clicks.", "", "", True, "media", True),
    Metric("cpm", "tcn", "w", f.media_for(IMPRESSIONS, "cpm", 1000), "Cost per thousand impressions: media cost / impressions x 1000.", "", "", True, "media", True),
    # Volumes.
    Metric("touches", "tcn", "vw", lambda scope, which: touch_count(scope.cell, scope.engaged.all), "Touches: clicks, views, engagements and visits; a click and its landing are one."),
    Metric("clicks", "tcn", "vwpd", f.count(CLICKS), "Clicks on ads and tracked links."),
    Metric("impressions", "tcn", "vwp", f.count(IMPRESSIONS), "Impressions."),
    Metric("visits", "tcn", "vwpbd", f.count(VISITS), "Visits; those less than 30 minutes apart without a new source are one."),
    Metric("engagements", "tcn", "vw", f.engagement("all"), "Likes, shares, comments, mentions and the like."),
    Metric("email_opens", "tc", "vw", f.count(EMAIL_OPENS), "Emails opened."),
    Metric("ctr_ratio", "tcn", "w", f.click_rate, "Click-through rate: clicks / impressions.", ratio=True),
    Metric("traffic_share_ratio", "c", "w", f.traffic_share, "Visits / all visits.", ratio=True),
    Metric("assisted_conversions", "c", "w", lambda scope, which: scope.cell.get((ASSISTED, "", which.conversion, ""), 0), "Distinct conversions with an eligible touch from here, of which last touch gives nothing to here.", "", "all"),
    Metric("filtered_clicks", "tc", "l", f.count(FILTERED_CLICKS), "Clicks that a filter removed; they are in no other count."),
    # What networks report of themselves.
    Metric("counted_clicks", "tc", "l", f.tracked(CLICKS), "Clicks counted here, also where a report replaces them."),
    Metric("counted_impressions", "tc", "l", f.tracked(IMPRESSIONS), "Impressions counted here, also where a report replaces them."),
    Metric("video_views", "tc", "l", f.reported(VIDEO_VIEWS), "Video views, as networks report them."),
    Metric("platform_reach", "c", "l", f.reported(REACH), "Reach as a network reports it: the largest report inside the window, never a sum."),
    Metric("platform_conversions", "tc", "l", f.reported(PLATFORM_CONVERSIONS), "Conversions that networks claim."),
    Metric("platform_value", "tc", "l", f.reported_value, "The value of the conversions that networks claim.", money=True),
    Metric("platform_conversions_difference", "c", "l", f.beyond(f.reported(PLATFORM_CONVERSIONS), CONVERSIONS), "Conversions claimed less purchases credited by the first headline model on the conversion basis.", "hidden", PURCHASE),
    Metric("platform_value_difference", "c", "l", f.beyond(f.reported_value, ATTRIBUTED_NET), "The value claimed less the net revenue credited by the first headline model on the conversion basis.", "hidden", PURCHASE, True),
    Metric("followers", "tc", "l", f.followers, "Followers, by the latest report of each network that ends in the window."),
    Metric("follower_growth", "tc", "l", f.follower_growth, "Followers less those of the latest report before the window."),
    Metric("engagements_per_follower_ratio", "tc", "l", f.engagements_per_follower, "Engagements / followers.", ratio=True),
    # Engagement.
    Metric("engagement_points", "tc", "w", f.points, "Configured points of engagements: gains less losses."),
    Metric("engagement_points_gained", "tc", "w", f.engagement("gained"), "Points of kinds that are worth something."),
    Metric("engagement_points_lost", "tc", "w", f.engagement("lost"), "Points of kinds that cost something, as a positive number."),
    Metric("engagements_counted", "tc", "w", f.engagement("counted"), "Engagements of kinds with points above 0."),
    Metric("engagement_rate_by_impressions_ratio", "tc", "w", f.engagement_rate, "Engagements of kinds with points above 0 / impressions.", ratio=True),
    Metric("engagements_positive", "tc", "w", f.engagement("positive"), "Engagements with sentiment 1."),
    Metric("engagements_negative", "tc", "w", f.engagement("negative"), "Engagements with sentiment -1."),
    Metric("engagements_with_sentiment", "tc", "w", f.engagement("with_sentiment"), "Engagements that came with a sentiment: -1, 0 or 1."),
    Metric("net_sentiment_ratio", "tc", "w", f.net_sentiment, "(Positive - negative) / engagements with a sentiment; from -1 to 1.", ratio=True),
    # Blended: what there is, credited or not.
    Metric("orders", "t", "vwpbd", f.count(ORDERS), "Orders that were not taken away, credited or not."),
    Metric("revenue", "t", "wpbd", f.amount(REVENUE_NET), "Their net revenue: after refunds, without tax and shipping.", money=True),
    Metric("revenue_gross", "t", "w", f.amount(REVENUE_GROSS), "Their revenue before refunds.", money=True),
    Metric("refunds", "t", "w", f.amount(REFUNDS), "Refunds, by the date of the refund.", money=True),
    Metric("margin", "t", "wp", f.everyone(ATTRIBUTED_MARGIN), "Net margin of orders whose margin is known.", "hidden", PURCHASE, True),
    Metric("margin_orders", "t", "wp", f.everyone(MARGIN_CONVERSIONS), "Orders whose margin is known.", "hidden", PURCHASE),
    Metric("new_customers", "t", "wp", f.everyone(NEW_CUSTOMERS), "First orders of new customers.", "hidden", PURCHASE),
    Metric("mer_ratio", "t", "wpb", f.upto(f.roas, *REVENUE_NET), "Marketing efficiency ratio (blended ROAS): all net revenue / all media cost.", "", "", False, "media", True),
    Metric("blended_cpa", "t", "wpb", f.upto(lambda spent, orders: f.per_total(spent, orders * 1_000_000), *ORDERS), "Total cost / all orders.", "", "", True, "total", True),
    Metric("orders_per_visit_ratio", "t", "wp", f.of(ORDERS, VISITS), "Orders / visits.", ratio=True),
    Metric("aov", "t", "wp", f.of(REVENUE_NET, ORDERS, 1_000_000), "Average order value: net revenue / orders.", "", "", True, "", True),
)  # fmt: skip


# Of persons


class Kind(NamedTuple):
    """A metric of persons: the levels it is exported at, its labels beside the level's, and its help."""

    levels: tuple[str, ...]
    labels: tuple[str, ...]
    help: str
    type: str = "gauge"


_BOTH, _CHANNEL, _TOTAL, _SOURCE = ("total", "channel"), ("channel",), ("total",), ("source",)
_W, _C, _M = ("window",), ("conversion", "window"), ("currency",)
PERSONS: dict[str, Kind] = {
    "visitors": Kind(_BOTH, _W, "Distinct persons who visited."),
    "converted_visitors": Kind(_BOTH, _C, "Distinct persons who visited and converted at or after that visit, by now."),
    "conversion_rate_ratio": Kind(_BOTH, _C, "Converted visitors / visitors; never above 1."),
    "visitor_share_ratio": Kind(_CHANNEL, _W, "Visitors / all visitors; one person can visit through several channels."),
    "reach": Kind(_BOTH, _W, "Distinct devices with a touch, estimated to about 1 percent."),
    "frequency": Kind(_BOTH, _W, "Impressions counted here / reach."),
    "self_reported_answers": Kind(_BOTH, _W, "Survey answers that named a channel."),
    "self_reported_share_ratio": Kind(_CHANNEL, _W, "Answers naming the channel / answers that named one."),
    "attributed_share_ratio": Kind(
        _CHANNEL, _W, "Purchases attributed to the channel / attributed purchases, first headline model, conversion basis."
    ),
    "nps_answers": Kind(_TOTAL, _W, "Answers to how likely a recommendation is, 0 to 10."),
    "nps_promoters": Kind(_TOTAL, _W, "Of these, 9 and 10."),
    "nps_detractors": Kind(_TOTAL, _W, "Of these, up to 6."),
    "nps_points": Kind(_TOTAL, _W, "Net promoter score: (promoters - detractors) / answers x 100, from -100 to 100."),
    "csat_answers": Kind(_TOTAL, _W, "Answers to how satisfied a customer is, 1 to 5."),
    "csat_satisfied": Kind(_TOTAL, _W, "Of these, 4 and 5."),
    "csat_ratio": Kind(_TOTAL, _W, "Satisfied answers / answers."),
    "time_to_convert_seconds": Kind(
        _TOTAL, _C, "Conversions by the time since their first eligible touch; a restatement can lower it.", "histogram"
    ),
    "touches_to_convert": Kind(
        _TOTAL, _C, "Conversions by the number of their eligible touches; a restatement can lower it.", "histogram"
    ),
    "purchases": Kind(_SOURCE, _W, "Orders by the tracker that reported them."),
    "linked_purchases": Kind(_SOURCE, _W, "Of these, those whose person has any earlier touch."),
    "link_ratio": Kind(_SOURCE, _W, "Linked purchases / purchases: when it falls, a tag is broken."),
    "customers": Kind(_BOTH, (), "Customers acquired in the last twelve months, by the channel that acquired them."),
    "repeat_customers": Kind(_BOTH, (), "Of these, those with a second order."),
    "ambassadors": Kind(_BOTH, (), "Of these, those with a share, mention or referral after their first order."),
    "customer_revenue": Kind(_BOTH, _M, "The net revenue of these customers so far."),
    "customer_revenue_to_date": Kind(_BOTH, _M, "Customer revenue / customers."),
    "clv_expected": Kind(_BOTH, _M, "Expected net revenue of a customer in the first 365 days."),
    "repeat_ratio": Kind(_BOTH, (), "Repeat customers / customers."),
    "ambassador_ratio": Kind(_BOTH, (), "Ambassadors / customers."),
    "cohort_customers": Kind(_TOTAL, ("cohort",), "Customers by the month of their first order."),
    "cohort_active": Kind(_TOTAL, ("cohort", "age_months"), "Of these, those who ordered at this age, in twelfths of a year."),
    "cohort_retention_ratio": Kind(_TOTAL, ("cohort", "age_months"), "Active / customers of the cohort, once all have passed the age."),
}  # fmt: skip
"""Metrics of persons by name: `attribution.people` makes their rows."""


# Families

LEVELS = {"t": "total", "c": "channel", "n": "campaign"}
"""The levels of `METRICS` by letter."""
LEVEL_LABELS: dict[str, tuple[str, ...]] = {
    "total": (),
    "channel": ("channel", "network"),
    "campaign": ("channel", "network", "campaign"),
    "source": ("source",),
}
"""The labels of each level; `source` is the tracker that sent an event."""
_LEVEL_TEXT = {"total": "in all", "channel": "by channel and network", "campaign": "by channel, network and campaign"}
_WHEN = {"": "", "baseline": "the same of an earlier time: ", "day": "of one day as known now: "}
_OF_COST = ("cost", "media_cost", "maturity_ratio")
THROUGH = "parcours_cost_through_timestamp_seconds"


class Family(NamedTuple):
    """What a family is: Prometheus type, help, label names in order, the level, its metric, and which cost a ratio is of.

    `paid`: it has no sample where no cost is known.
    """

    type: str
    help: str
    labels: tuple[str, ...]
    level: str
    metric: str
    cost: str
    ratio: bool
    paid: bool = False


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
    if metric.models in OF_MODELS:
        names += ["model", "basis"]
    if metric.conversions and metric.models != "hidden":
        names.append("conversion")
    if metric.models == "reason":
        names.append("reason")
    names += {"": ["window"], "baseline": ["window", "period"], "day": ["days_ago"]}[group]
    return tuple(names + ["currency"] * metric.money)


def _families() -> dict[str, Family]:
    found: dict[str, Family] = {}
    for group, spans in (("", "vwlpm"), ("baseline", "b"), ("day", "d")):
        for metric in METRICS:
            if not set(spans) & set(metric.spans):
                continue
            for letter in metric.levels if not group else metric.levels.replace("n", ""):
                level = LEVELS[letter]
                text = f"{_WHEN[group]}{metric.help}"
                where = f"{text[0].upper()}{text[1:-1]}, {_LEVEL_TEXT[level]}."
                labels = _labels(metric, level, group)
                found[family_name(level, metric.name, group)] = Family(
                    "gauge", where, labels, level, metric.name, metric.cost, metric.ratio,
                    bool(metric.cost) or metric.name in _OF_COST,
                )  # fmt: skip
    text = "End of the contiguous known media cost: ratios take both sides up to it."
    found[THROUGH] = Family("gauge", text, LEVEL_LABELS["campaign"], "campaign", "cost_through", "", False, True)
    for name, kind in PERSONS.items():
        for level in kind.levels:
            labels = (*LEVEL_LABELS[level], *kind.labels)
            found[family_name(level, name)] = Family(
                kind.type, kind.help, labels, level, name, "", name.endswith("_ratio")
            )
    return found


FAMILIES: dict[str, Family] = _families()
"""Every family by name, those of persons last."""
SERIES: dict[str, Family] = {one: family for name, family in FAMILIES.items() for one in series(name, family)}
"""The family of each series: those of a histogram have names of their own."""


def plain(value: Decimal | int) -> str:
    """A sample's value in plain digits: no exponent, no trailing zeros."""
    if isinstance(value, int):
        return str(value)
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
