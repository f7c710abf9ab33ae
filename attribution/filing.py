"""The facts that a conversion, or a journey's event, adds to the rollups."""

from __future__ import annotations

from functools import lru_cache

from attribution.credit import share
from attribution.facts import (
    ASSISTED,
    ATTRIBUTED_MARGIN,
    ATTRIBUTED_NET,
    CLICK_COST,
    CLICKS,
    CONVERSION,
    CONVERSIONS,
    EMAIL_OPENS,
    FILTERED_CLICKS,
    IMPRESSIONS,
    MARGIN_CONVERSIONS,
    MICRO,
    NEW_CUSTOMERS,
    TOUCH,
    UNATTRIBUTED_FOR,
    VIEWS,
    Fact,
    engagement,
)
from attribution.maturity import age_name
from attribution.nodes.state import Conversion, Filed, JourneyEvent
from attribution.paths import path_facts
from attribution.rules import Dims
from models.results import NONE, UNATTRIBUTED
from models.wire import CLICK, ENGAGEMENT, VIEW, kind_and_sentiment

NOBODY: Dims = (UNATTRIBUTED, NONE, NONE)
_VIEW_COUNTS = {"impression": IMPRESSIONS, "email_open": EMAIL_OPENS}


def event_facts(event: JourneyEvent) -> list[Fact]:
    """What an event counts by itself. Visits are counted by the merged journey, not here.

    A click that a filter removed, or without consent, is not counted; the money it cost was spent all the same.
    """
    spent: list[Fact] = [(event.t, event.dims, CLICK_COST, event.cost)] if event.cost else []
    if event.flags:
        return [(event.t, event.dims, FILTERED_CLICKS, 1), *spent] if event.cls == CLICK else spent
    if event.cls == CLICK:
        return [(event.t, event.dims, CLICKS, 1), *spent]
    if event.cls == VIEW:
        return [(event.t, event.dims, _VIEW_COUNTS.get(event.kind, VIEWS), 1)]
    if event.cls == ENGAGEMENT:
        return [(event.t, event.dims, engagement(*kind_and_sentiment(event.kind)), 1)]
    return []


@lru_cache(maxsize=4096)
def _units(weights: tuple[int, ...]) -> list[int]:
    """A whole conversion shared: most models have few different weights. Not to be changed."""
    return share(MICRO, weights)


def shares(conversion: Conversion, weights: tuple[int, ...]) -> list[tuple[str, list[int]]]:
    """One model's credits by measure, each list over the filed touches and summing exactly to its whole.

    Net amounts are shared over the gross credits, so that the order of refunds does not matter (meaning §7).
    """
    gross = share(conversion.gross, weights)
    basis = gross if conversion.gross else weights
    units = _units(weights)
    result = [
        (CONVERSIONS, units),
        (ATTRIBUTED_NET, gross if conversion.net == conversion.gross else share(conversion.net, basis)),
    ]
    if conversion.net_margin is not None:
        result.append((ATTRIBUTED_MARGIN, share(conversion.net_margin, basis)))
        result.append((MARGIN_CONVERSIONS, units))
    if conversion.new:
        result.append((NEW_CUSTOMERS, units))
    return result


def conversion_facts(conversion: Conversion) -> list[Fact]:
    """All facts of a conversion as it stands: what was added to the rollups, to the last unit."""
    filed = conversion.filed
    if conversion.gone is not None or filed is None:
        return []
    t, kind = conversion.t, conversion.type
    if not filed.touches:
        because: Fact = (t, NOBODY, (UNATTRIBUTED_FOR, "", kind, filed.reason or ""), 1)
        return [*path_facts(conversion), because] + [
            (t, NOBODY, (name, model, kind, CONVERSION), sole[0])
            for model, _ in filed.weights
            for name, sole in shares(conversion, (1,))
            if sole[0]
        ]
    credits = [
        ((name, model, kind, CONVERSION), (name, model, kind, TOUCH), amounts)
        for model, weights in filed.weights
        for name, amounts in shares(conversion, weights)
    ]
    facts = path_facts(conversion)
    # Touch by touch: facts of one time and dims are cheaper to add when they come together.
    for i, (_, at, dims) in enumerate(filed.touches):
        facts += [(t, dims, spent, amounts[i]) for spent, _, amounts in credits if amounts[i]]
        facts += [(at, dims, earned, amounts[i]) for _, earned, amounts in credits if amounts[i]]
    model, weights = filed.weights[0]
    for touch, units in zip(filed.touches, _units(weights), strict=True):
        if units:
            facts.append((touch.t, touch.dims, (age_name(t - touch.t), model, kind, TOUCH), units))
    return facts + assists(conversion, filed)


def assists(conversion: Conversion, filed: Filed) -> list[Fact]:
    """One for each channel and network with an eligible touch, but the one of the last touch."""
    last = filed.touches[-1].dims[:2]
    pairs = {touch.dims[:2] for touch in filed.touches} - {last}
    measure = (ASSISTED, "", conversion.type, "")
    return [(conversion.t, (*pair, ""), measure, 1) for pair in sorted(pairs)]
