"""Facts: signed amounts that a node adds to the rollups, and the names of what they measure.

A fact is `(t, dims, measure, amount)`: at event time `t` (microseconds) under `dims` (channel, network, campaign), the
`measure` changes by the integer `amount`. A measure is `(name, model, conversion, basis)`; model-free ones leave the rest
empty. A restatement is the facts of before, negated, with the facts of after.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from attribution.rules import Dims

Measure = tuple[str, str, str, str]
Fact = tuple[int, Dims, Measure, int]

MICRO = 1_000_000
"""A conversion is 1 000 000 micro-conversions."""

TOTAL: Dims = ("", "", "")
"""Where model-free facts about orders are filed: they belong to no channel."""

CONVERSION = "conversion"
TOUCH = "touch"


def counter(name: str) -> Measure:
    """The measure of a model-free count or amount."""
    return (name, "", "", "")


CLICKS = counter("clicks")
IMPRESSIONS = counter("impressions")
VIEWS = counter("views")
EMAIL_OPENS = counter("email_opens")
FILTERED_CLICKS = counter("filtered_clicks")
"""Clicks that a filter removed: they are in no other count."""
VISITS = counter("visits")
LANDINGS = counter("landings")
"""Visits that begin with the landing of a click: interactions that are counted as clicks already."""
CLICK_COST = counter("click_cost")
ORDERS = counter("orders")
REVENUE_GROSS = counter("revenue_gross")
REVENUE_NET = counter("revenue_net")
REFUNDS = counter("refunds")

# Attributed measures carry (model, conversion, basis).
CONVERSIONS = "conversions"
ATTRIBUTED_NET = "attributed_net"
ATTRIBUTED_MARGIN = "attributed_margin"
MARGIN_CONVERSIONS = "margin_conversions"
NEW_CUSTOMERS = "new_customers"

ASSISTED = "assisted"
"""Carries a conversion type: conversions with an eligible touch of a channel and network that last touch gives nothing to."""
UNATTRIBUTED_FOR = "unattributed"
"""Carries a conversion type, and the reason in the place of the basis: conversions that no touch is credited for."""
ENGAGED = "engagements"
"""Carries an engagement's kind, and its sentiment in the place of the basis."""
REPLACEABLE = frozenset((CLICKS[0], IMPRESSIONS[0], ENGAGED))
"""What networks count as well: their reports replace it (`attribution.replaced`)."""
CREDIT_AGE = "credit_age/"
"""Followed by an age (see `attribution.maturity`): micro-conversions that came at that age, filed at their touch."""


def touch_count(cell: Mapping[Measure, int], engaged: int) -> int:
    """Touches among these sums, with `engaged` engagements: a click and its landing are one interaction."""
    interactions = (CLICKS, IMPRESSIONS, VIEWS, EMAIL_OPENS, VISITS)
    return sum(cell.get(measure, 0) for measure in interactions) + engaged - cell.get(LANDINGS, 0)


def engagement(kind: str, sentiment: str = "") -> Measure:
    """The measure of engagements of a kind, with a sentiment ("-1", "0", "1") or without."""
    return (ENGAGED, "", kind, sentiment)


def engagements(cell: Mapping[Measure, int]) -> Iterator[tuple[str, int | None, int]]:
    """(kind, sentiment, number) of the engagements among these sums."""
    for (name, _, kind, sentiment), n in cell.items():
        if name == ENGAGED:
            yield kind, int(sentiment) if sentiment else None, n


def negated(facts: list[Fact]) -> list[Fact]:
    """The facts that take these back."""
    return [(t, dims, measure, -amount) for t, dims, measure, amount in facts]
