"""Costs that name no channel, network or campaign (an agency, a tool, salaries), spread over those that something happened in.

Day by day: by that day's media spend, by its touches, or by fixed shares. What a day has nothing to be spread by stays `(unallocated)`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from attribution.facts import TOTAL, engagements, touch_count
from attribution.filing import NOBODY
from attribution.rollups import Calendar, Cell
from attribution.rules import Dims
from models.results import NONE, UNALLOCATED
from models.settings import Marketing

UNPLACED: Dims = (UNALLOCATED, NONE, NONE)
Weights = tuple[tuple[Dims, int], ...]
DayCells = Callable[[int], Mapping[Dims, Cell]]
"""The sums of the business day that starts at a time, by channel, network and campaign."""


class Spread:
    """How costs without a place are spread, under one configuration."""

    def __init__(self, marketing: Marketing, calendar: Calendar, cells: DayCells) -> None:
        self.calendar = calendar
        self.by = marketing.spread.by
        self._cells = cells
        self._shares: Weights = tuple(
            ((share.channel, share.network, share.campaign), share.share) for share in marketing.spread.shares
        )

    @property
    def settled(self) -> bool:
        """Whether a day's weights depend on costs and the configuration alone."""
        return self.by != "touches"

    def weights(self, day: int, media: Mapping[Dims, int]) -> Weights:
        """What a day is spread by, given its media spend; none of it 0, in the order of names."""
        if self.by == "shares":
            return self._shares
        if self.by == "none":
            return ()
        found = media if self.by == "spend" else self.touches(day)
        return tuple((dims, found[dims]) for dims in sorted(found) if found[dims] > 0)

    def touches(self, day: int) -> dict[Dims, int]:
        """Touches of a business day by channel, network and campaign."""
        return {
            dims: touch_count(cell, sum(n for _, _, n in engagements(cell)))
            for dims, cell in self._cells(day).items()
            if dims not in (TOTAL, NOBODY)
        }
