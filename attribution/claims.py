"""What networks say of themselves: the counters on their cost rows, and what they claim beside what is attributed to them.

A counter accrues over its row's interval as an amount does, so parts sum exactly. Followers are no sum: the latest report counts. Reach is none either:
the largest report inside the span.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from attribution.nodes.cost import accrual_end, accrued_within
from attribution.nodes.state import CostRow

CONVERSIONS, VALUE, FOLLOWERS, REACH = "platform_conversions", "platform_value", "followers", "reach"
Source = tuple[str, str]


class Claim(NamedTuple):
    """A channel and network's reported figures in a span by name: counts, and `platform_value` in reporting micros.

    Engagements are `engagements/<kind>`. What no report gives is absent, which is not 0.
    """

    source: Source
    figures: dict[str, int]


def claims(rows: Iterable[CostRow], start: int, end: int) -> list[Claim]:
    """What rows report of [start, end), by channel and network in the order of names."""
    found: dict[Source, dict[str, int]] = {}
    latest: dict[Source, tuple[int, int, int]] = {}
    for row in rows:
        until = accrual_end(row)
        for name, number in row.reported:
            figures = found.setdefault(row.dims[:2], {}) if row.start < end and until > start else {}
            if name == FOLLOWERS:
                known = (until, row.reported_at, number)
                if start < until <= end and known >= latest.get(row.dims[:2], known):
                    latest[row.dims[:2]] = known
                    figures[name] = number
            elif name == REACH:
                if start <= row.start and until <= end:
                    figures[name] = max(number, figures.get(name, 0))
            elif row.start < end and until > start:
                figures[name] = figures.get(name, 0) + accrued_within(row._replace(amount=number), start, end)
    return [Claim(source, found[source]) for source in sorted(found) if found[source]]
