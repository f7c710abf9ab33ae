"""Which names have rows of their own within the budget of series; the rest is `(other)`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from attribution.facts import CONVERSION, CONVERSIONS, TOTAL, VISITS
from attribution.filing import NOBODY
from attribution.formulas import PURCHASE
from attribution.plan import CAMPAIGN, CHANNEL, SOURCE, Plan
from attribution.plan import NOBODY as UNCREDITED
from attribution.plan import TOTAL as IN_ALL
from attribution.rules import Dims
from attribution.running import Key
from attribution.windows import Sums
from models.results import OTHER

BUDGET = 40_000
OVERHEAD = 4
"""The exporter's own business series."""
FOLDING = CHANNEL, CAMPAIGN
"""The levels whose names may be in an `(other)`."""
CAMPAIGNS_SHARE = 1, 8
"""The part of the budget that is left to campaigns however many channels there are."""


class Listed(NamedTuple):
    """What each (channel, network, campaign) is shown as, a channel's own row having campaign ""; and how many names of a level are in an `(other)`."""

    names: dict[Key, Key]
    folded: dict[str, int]


def join(costs: Iterable[Dims], touches: Iterable[Key]) -> dict[Key, Key]:
    """Under which of the touches' names each cost is shown: the same, else the first that differs in case only."""
    known = set(touches)
    folded: dict[Key, Key] = {}
    for dims in sorted(known, reverse=True):
        folded[_folded(dims)] = dims
    return {dims: dims if dims in known else folded.get(_folded(dims), dims) for dims in costs}


def _folded(key: Key) -> Key:
    return tuple(name.casefold() for name in key)


def shown(
    sums: Sums, names: set[Key], spent: Mapping[Key, int], plan: Plan, budget: int, wanted: Callable[[Key], bool],
    more: Iterable[tuple[str, str]] = (),
) -> Listed:  # fmt: skip
    """Which names have rows of their own within the budget.

    `names` are those with costs, `spent` their micros in the longest window, `more` the channels and networks that others tell of. First
    come those that `wanted` says an alert or a goal is about, then by spend, conversions and visits. What is not listed is `(other)`: a campaign in its channel and
    network, a channel with its network. Channels come before campaigns.
    """
    model = (CONVERSIONS, sums.marketing.headline_models[0], PURCHASE, CONVERSION)
    ranks: dict[str, dict[Key, tuple[int, int, int]]] = {
        CHANNEL: {(*pair, ""): (0, 0, 0) for pair in more},
        CAMPAIGN: {},
    }
    for span in sums.spans:
        for pair, cell in sums.channels.sums[span].items():
            if pair not in (TOTAL[:2], NOBODY[:2]):
                _rank(ranks[CHANNEL], (*pair, ""), 0, cell.get(model, 0), cell.get(VISITS, 0))
        for dims, cell in sums.campaigns.sums[span].items():
            if dims not in (TOTAL, NOBODY):
                _rank(ranks[CAMPAIGN], dims, 0, cell.get(model, 0), cell.get(VISITS, 0))
    for name in {*names, *ranks[CAMPAIGN]}:
        _rank(ranks[CHANNEL], (*name[:2], ""), spent.get(name, 0))
        _rank(ranks[CAMPAIGN], name, spent.get(name, 0))
    paid = names | {(*name[:2], "") for name in names}
    each = {level: (plan.series(level, paid=False), plan.series(level)) for level in (CHANNEL, CAMPAIGN)}
    needs = {name: each[level][name in paid] for level in ranks for name in ranks[level]}
    order = {
        level: sorted(
            found, key=lambda name: (not wanted(name if name[2] else name[:2]), *(-n for n in found[name]), name)
        )
        for level, found in ranks.items()
    }
    own = _fit(plan, budget, order[CHANNEL], order[CAMPAIGN], needs)
    channels = {name: name if name in own else (OTHER, OTHER, "") for name in order[CHANNEL]}
    campaigns = {name: name if name in own else (*channels[*name[:2], ""][:2], OTHER) for name in order[CAMPAIGN]}
    folded = {
        level: sum(name != place for name, place in found.items())
        for level, found in ((CHANNEL, channels), (CAMPAIGN, campaigns))
    }
    return Listed(channels | campaigns, folded)


def fitting(plan: Plan, channels: int, campaigns: int, budget: int = BUDGET) -> tuple[int, int]:
    """How many of so many channels and campaigns, all of them with costs, have rows of their own."""
    order: dict[str, list[Key]] = {
        level: [(level, str(i), "") for i in range(n)] for level, n in zip(FOLDING, (channels, campaigns), strict=True)
    }
    needs = {name: plan.series(level) for level, names in order.items() for name in names}
    own = _fit(plan, budget, order[CHANNEL], order[CAMPAIGN], needs)
    return len(own & set(order[CHANNEL])), len(own & set(order[CAMPAIGN]))


def _fit(plan: Plan, budget: int, channels: list[Key], campaigns: list[Key], needs: Mapping[Key, int]) -> set[Key]:
    """Of names in the order of their rank, and the most series that each can have: those that have rows of their own."""
    left = budget - sum(plan.series(level) for level in (IN_ALL, UNCREDITED, SOURCE)) - OVERHEAD
    floor = min(sum(needs[name] for name in campaigns), left * CAMPAIGNS_SHARE[0] // CAMPAIGNS_SHARE[1])
    own = _first(channels, needs, left - floor, plan.series(CHANNEL))
    places = len(own) + (len(own) < len(channels))
    left -= sum(needs[name] for name in own) + plan.series(CHANNEL) * (len(own) < len(channels))
    # Each channel shown may need an `(other)` of its own.
    return own | _first(campaigns, needs, left, plan.series(CAMPAIGN) * places)


def _rank(ranks: dict[Key, tuple[int, int, int]], name: Key, spent: int, conversions: int = 0, visits: int = 0) -> None:
    before = ranks.get(name, (0, 0, 0))
    ranks[name] = (before[0] + spent, max(before[1], conversions), max(before[2], visits))


def _first(order: list[Key], needs: Mapping[Key, int], room: int, other: int) -> set[Key]:
    """The first names that fit: all of them, or as many as leave room for `other`."""
    if sum(needs[name] for name in order) <= room:
        return set(order)
    taken: set[Key] = set()
    room -= other
    for name in order:
        room -= needs[name]
        if room < 0:
            break
        taken.add(name)
    return taken
