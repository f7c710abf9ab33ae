"""The business families, their samples, and the ratios: Σ numerator / Σ denominator, None where undefined."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Context, Decimal
from typing import NamedTuple

from attribution.costs import UNKNOWN, Spent

PURCHASE = "purchase"
Labels = tuple[tuple[str, str], ...]
_RATIO = Context(prec=12)

_ATTRIBUTED = {
    "attributed_conversions": "Conversions credited in the window; fractions are shares.",
    "attributed_revenue": "Net revenue, after refunds, credited in the window.",
    "attributed_revenue_gross": "Revenue before refunds credited in the window.",
    "cpa": "Cost per acquisition: media cost / net attributed conversions of the type.",
    "roas_ratio": "Return on ad spend: net attributed revenue / media cost.",
    "roi_on_revenue_ratio": "(Net attributed revenue - total cost) / total cost; 0.5 is 50 percent.",
    "cost": "All cost accrued in the window: media, agency, tools, work.",
    "media_cost": "The part of the cost that was paid for media.",
    "touches": "Touches: clicks, views, engagements and visits; a click and its landing are one.",
    "clicks": "Clicks on ads and tracked links.",
    "impressions": "Impressions.",
    "engagements": "Likes, shares, comments, mentions and the like.",
    "email_opens": "Emails opened.",
    "visits": "Visits; those less than 30 minutes apart without a new source are one.",
}
_LEVEL_TEXT = {"total": "in all", "channel": "by channel and network", "campaign": "by channel, network and campaign"}
THROUGH = "parcours_cost_through_timestamp_seconds"
FAMILIES: dict[str, tuple[str, str]] = {
    **{
        f"parcours_{level}_{name}": ("gauge", f"{text[:-1]}, {where}.")
        for level, where in _LEVEL_TEXT.items()
        for name, text in _ATTRIBUTED.items()
        if (level, name) != ("campaign", "attributed_revenue_gross")
    },
    "parcours_total_orders": ("gauge", "Orders that were not taken away, credited or not."),
    "parcours_total_revenue": ("gauge", "Their net revenue: after refunds, without tax and shipping."),
    "parcours_total_revenue_gross": ("gauge", "Their revenue before refunds."),
    "parcours_total_refunds": ("gauge", "Refunds, by the date of the refund."),
    THROUGH: ("gauge", "End of the contiguous known media cost: ratios take both sides up to it."),
}
"""Every family of `rows`: type and help."""


class Row(NamedTuple):
    """One sample."""

    family: str
    labels: Labels
    value: Decimal | int


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
    """(Revenue − total cost) / total cost; None without cost."""
    return None if spent.total is None else quotient(revenue - spent.total, spent.total)


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
