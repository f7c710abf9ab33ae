"""The audit of costs: what does not fit together between what was spent and what was seen, in one span.

Cost joins touches by network and campaign, whatever their case. Money without touches is a broken tag or a name that differs; touches of a
paid channel without money are a report that is missing; rows that overlap may be counted twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import SequenceMatcher
from itertools import pairwise
from typing import Literal, NamedTuple

from attribution.costs import MEDIA
from attribution.data import PAID
from attribution.nodes.cost import accrual_end, accrued_within
from attribution.nodes.state import CostRow
from attribution.rules import Dims
from attribution.spread import UNPLACED
from models.results import NONE
from models.wire import COUNTERS

Kind = Literal["spend_without_touches", "touches_without_spend", "almost_the_same_name", "overlap", "unallocated"]
PAID_CHANNELS = frozenset(PAID.values()) | {"Display", "Cross-network"}
ALIKE = 0.8
"""From which ratio of matching characters two names are called almost the same."""
_Advertiser = tuple[str, str]


class Finding(NamedTuple):
    """One thing that does not fit. `amount` in micros, `touches` counted in the span; what a kind does not have is 0.

    `other` is the touches' name that a cost's campaign may mean, or the cost id that overlaps `cost_id`.
    """

    kind: Kind
    dims: Dims
    amount: int = 0
    touches: int = 0
    cost_id: str = ""
    other: str = ""


def audit(
    costs: Mapping[str, CostRow], own: Mapping[Dims, int], touches: Mapping[Dims, int], start: int, end: int
) -> list[Finding]:
    """What does not fit in [start, end): `own` are clicks' own costs and `touches` counts, per dims, in the same span."""
    spent: dict[Dims, int] = {}
    for row in costs.values():
        amount = accrued_within(row, start, end)
        if amount and row.kind != COUNTERS and (row.kind == MEDIA or row.dims == UNPLACED):
            spent[row.dims] = spent.get(row.dims, 0) + amount
    unallocated = spent.pop(UNPLACED, 0)
    seen = _by_advertiser(touches)
    priced = _by_advertiser(spent) | _by_advertiser(own)
    missing = [Finding("spend_without_touches", dims, spent[dims]) for dims in sorted(spent) if _key(dims) not in seen]
    free = [
        Finding("touches_without_spend", dims, touches=touches[dims])
        for dims in sorted(touches)
        if dims[0] in PAID_CHANNELS and touches[dims] > 0 and _key(dims) not in priced
    ]
    unmatched = sorted(dims for dims in touches if _key(dims) not in priced)
    found = [*missing, *free, *_names(missing, unmatched), *_overlaps(costs, start, end)]
    return [*found, Finding("unallocated", UNPLACED, unallocated)] if unallocated else found


def _key(dims: Dims) -> _Advertiser:
    return dims[1].casefold(), dims[2].casefold()


def _by_advertiser(amounts: Mapping[Dims, int]) -> dict[_Advertiser, int]:
    found: dict[_Advertiser, int] = {}
    for dims, amount in amounts.items():
        if amount > 0:
            found[_key(dims)] = found.get(_key(dims), 0) + amount
    return found


def _names(missing: Iterable[Finding], touched: Iterable[Dims]) -> Iterable[Finding]:
    """For money without touches, the campaign of the same network that is written almost like it."""
    for finding in missing:
        best, nearest = ALIKE, ""
        for dims in touched:
            if dims[1].casefold() == finding.dims[1].casefold() and NONE not in (dims[2], finding.dims[2]):
                alike = _alike(finding.dims[2], dims[2])
                if alike > best or (alike == best and not nearest):
                    best, nearest = alike, dims[2]
        if nearest:
            yield Finding("almost_the_same_name", finding.dims, finding.amount, other=nearest)


def _alike(one: str, other: str) -> float:
    # In one order, for the ratio depends on it a little.
    first, second = sorted("".join(letter for letter in name.casefold() if letter.isalnum()) for name in (one, other))
    return 1.0 if first == second else SequenceMatcher(None, first, second, autojunk=False).ratio()


def _overlaps(costs: Mapping[str, CostRow], start: int, end: int) -> Iterable[Finding]:
    """Media rows of one channel, network and campaign whose accrual overlaps: each with the one before it by start."""
    groups: dict[Dims, list[tuple[int, int, str]]] = {}
    for cost_id, row in costs.items():
        if row.kind == MEDIA and row.start < end and accrual_end(row) > start:
            groups.setdefault(row.dims, []).append((row.start, accrual_end(row), cost_id))
    for dims in sorted(groups):
        for (_, until, earlier), (begin, _, later) in pairwise(sorted(groups[dims])):
            if begin < until:
                amount = accrued_within(costs[later], begin, min(until, accrual_end(costs[later])))
                yield Finding("overlap", dims, amount, cost_id=later, other=earlier)
