"""What a conversion's path says whoever gets the credit: how long it was, and whether it was known at all (meaning §11).

All of it is a function of the conversion as filed, so it is restated together with the credit.
"""

from __future__ import annotations

from bisect import bisect_left

from attribution.facts import TOTAL, Fact, Measure
from attribution.nodes.state import Conversion
from models.settings import DAY, HOUR

TIME = "time_to_convert"
TOUCHES = "touches_to_convert"
TIME_SUM = "time_to_convert_sum"
TOUCHES_SUM = "touches_to_convert_sum"
TIME_UPTO = (HOUR, DAY, 3 * DAY, 7 * DAY, 14 * DAY, 30 * DAY, 90 * DAY)
"""Upper ends, included, of the buckets of time between the first eligible touch and the conversion; beyond the last is one more."""
TOUCHES_UPTO = (1, 2, 3, 4, 5, 7, 10, 20)
"""The same for the number of eligible touches."""
PURCHASES = "purchases"
LINKED = "linked_purchases"


def bucket(name: str, kind: str, place: int) -> Measure:
    """The measure of conversions of a type in the bucket at this place."""
    return (name, "", kind, str(place))


def path_sum(name: str, kind: str) -> Measure:
    """The measure of a sum over conversions of a type."""
    return (name, "", kind, "")


def from_source(name: str, source: str) -> Measure:
    """The measure of purchases that a tracker reported."""
    return (name, "", "purchase", source)


def path_facts(conversion: Conversion) -> list[Fact]:
    """What a standing, filed conversion adds: its place in both distributions, and whether any touch came before it."""
    filed, t, kind = conversion.filed, conversion.t, conversion.type
    if conversion.gone is not None or filed is None:
        return []
    facts: list[Fact] = []
    if filed.touches:
        n, elapsed = len(filed.touches), t - filed.touches[0].t
        facts += [
            (t, TOTAL, bucket(TOUCHES, kind, bisect_left(TOUCHES_UPTO, n)), 1),
            (t, TOTAL, path_sum(TOUCHES_SUM, kind), n),
            (t, TOTAL, bucket(TIME, kind, bisect_left(TIME_UPTO, elapsed)), 1),
        ]
        if elapsed:
            facts.append((t, TOTAL, path_sum(TIME_SUM, kind), elapsed))
    if kind == "purchase":
        facts.append((t, TOTAL, from_source(PURCHASES, conversion.source), 1))
        if filed.reason != "no_touch_known":
            facts.append((t, TOTAL, from_source(LINKED, conversion.source), 1))
    return facts
