"""Which names have rows of their own: within a budget, the first by spend, then by conversions; the rest is `(other)`."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from attribution.facts import CONVERSION, CONVERSIONS, TOTAL
from attribution.filing import NOBODY
from attribution.formulas import PURCHASE
from attribution.plan import CAMPAIGN, CHANNEL, Plan
from attribution.plan import NOBODY as UNCREDITED
from attribution.plan import TOTAL as IN_ALL
from attribution.rules import Dims
from attribution.running import Key
from attribution.windows import Sums
from models.results import OTHER

BUDGET = 30_000
OVERHEAD = 2
"""The exporter's own business series."""
CHANNELS_SHARE = 2, 3
"""The part of the budget that channels and networks may take before campaigns get the rest."""


def join(costs: Iterable[Dims], touches: Iterable[Key]) -> dict[Key, Key]:
    """Under which of the touches' names each cost is shown: the same, else the first that differs in case only."""
    known = set(touches)
    folded: dict[Key, Key] = {}
    for dims in sorted(known, reverse=True):
        folded[_folded(dims)] = dims
    return {dims: dims if dims in known else folded.get(_folded(dims), dims) for dims in costs}


def _folded(key: Key) -> Key:
    return tuple(name.casefold() for name in key)


def shown(sums: Sums, names: set[Key], spent: dict[Key, int], plan: Plan, budget: int) -> dict[Key, Key]:
    """What each (channel, network, campaign) is shown as; a channel's own row has campaign "".

    `names` are those with costs, `spent` their micros in the longest window. What is not listed is `(other)`: a campaign in its channel
    and network, a channel with its network.
    """
    per_channel, per_campaign = plan.series(CHANNEL), plan.series(CAMPAIGN)
    left = budget - plan.series(IN_ALL) - plan.series(UNCREDITED) - OVERHEAD
    model = (CONVERSIONS, sums.marketing.headline_models[0], PURCHASE, CONVERSION)
    channel_rank: dict[Key, tuple[int, int]] = {}
    campaign_rank: dict[Key, tuple[int, int]] = {}
    for span in sums.spans:
        for pair, cell in sums.channels.sums[span].items():
            if pair not in (TOTAL[:2], NOBODY[:2]):
                _rank(channel_rank, (*pair, ""), 0, cell.get(model, 0))
        for dims, cell in sums.campaigns.sums[span].items():
            if dims not in (TOTAL, NOBODY):
                _rank(campaign_rank, dims, 0, cell.get(model, 0))
    for name in {*names, *campaign_rank}:
        _rank(channel_rank, (*name[:2], ""), spent.get(name, 0), 0)
        _rank(campaign_rank, name, spent.get(name, 0), 0)
    room = max(2, left * CHANNELS_SHARE[0] // CHANNELS_SHARE[1] // per_channel)
    channels = _best(channel_rank, room, lambda dims: (OTHER, OTHER, ""))
    left -= len(set(channels.values())) * per_channel
    # Each channel shown may need an `(other)` of its own.
    room = left // per_campaign
    if len(campaign_rank) > room:
        room -= len(set(channels.values()))
    return channels | _best(campaign_rank, max(0, room), lambda dims: (*channels[*dims[:2], ""][:2], OTHER))


def _rank(ranks: dict[Key, tuple[int, int]], name: Key, spent: int, conversions: int) -> None:
    before = ranks.get(name, (0, 0))
    ranks[name] = (before[0] + spent, max(before[1], conversions))


def _best(ranks: dict[Key, tuple[int, int]], room: int, other: Callable[[Key], Key]) -> dict[Key, Key]:
    """The first `room` names as they are, by rank, then by name; each of the rest as its `other`."""
    order = sorted(ranks, key=lambda name: (-ranks[name][0], -ranks[name][1], name))
    return {name: name if i < room else other(name) for i, name in enumerate(order)}
