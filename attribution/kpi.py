"""The rows of all business families at one end: sums of spans, and ratios as Σ numerator / Σ denominator.

Undefined is absent. A ratio of cost takes both sides up to a common cut: the start of the granule in which the earliest
`cost through` of the campaigns in its scope lies (see `attribution.costs`), or the span's end when nothing more is awaited. A span less than
half covered has no ratio. `(unattributed)` is a channel of its own and in no other sum: total attributed families hold what
is attributed to some channel.

Rows come in blocks, one per name of a level and span. When its sums and costs are the same its rows are the same list again, so
that a refresh computes, and renders, what changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from typing import NamedTuple

from attribution.blocks import Block, Found
from attribution.claims import NOTHING, Told, merged
from attribution.costs import UNKNOWN, Ledger, Spent, Through
from attribution.facts import (
    ATTRIBUTED_MARGIN,
    ATTRIBUTED_NET,
    CLICKS,
    CONVERSIONS,
    IMPRESSIONS,
    MARGIN_CONVERSIONS,
    NEW_CUSTOMERS,
    ORDERS,
    REVENUE_NET,
    TOTAL,
    TOUCH,
    VISITS,
    Measure,
)
from attribution.families import LEVEL_LABELS, THROUGH, Row
from attribution.filing import NOBODY
from attribution.formulas import PURCHASE, Engagement, Scope, engaged, plus, total, units
from attribution.listing import BUDGET, join, shown
from attribution.maturity import Arrival
from attribution.patterns import Wanted
from attribution.people import People, Reach
from attribution.plan import Plan
from attribution.replaced import RATE
from attribution.rollups import Cell, summed
from attribution.rules import Dims, Rules
from attribution.running import Key, Running, Span
from attribution.spending import Spending, Table
from attribution.visitors import ALL, Source
from attribution.windows import CAMPAIGN_TO_DATE, Sums
from models.results import OTHER
from models.settings import HOUR

_EMPTY: Cell = {}
_NOBODY: Key = NOBODY[:2]
_ORDERS: Key = TOTAL[:2]
_ALL: Key = ()
_CUT_CREDIT = (CONVERSIONS, ATTRIBUTED_NET, ATTRIBUTED_MARGIN, MARGIN_CONVERSIONS, NEW_CUSTOMERS)
_CUT_COUNTS = (CLICKS, IMPRESSIONS, ORDERS, REVENUE_NET)


class _Known(NamedTuple):
    """What a block was made from, beside the cells: when all of it is the same, so is the block."""

    members: tuple[Key, ...]
    spent: Spent
    until: int
    before: Spent | None
    all_visits: int
    maturity: Decimal | None
    told: Told
    told_upto: Told


def found(
    sums: Sums, ledger: Ledger, budget: int = BUDGET, people: People | None = None, reach: Reach | None = None
) -> Found:
    """All rows at `sums.end`: at most `budget`, by folding the least of campaigns, then channels, into `(other)`.

    Without `people` there are none of persons. Scopes share their cells with `sums`: read them before anything is added to it.
    """
    return Found.of(Board(sums, budget, people=people).blocks(ledger, reach))


def rows(
    sums: Sums, ledger: Ledger, budget: int = BUDGET, people: People | None = None, reach: Reach | None = None
) -> list[Row]:
    """The rows alone."""
    return found(sums, ledger, budget, people, reach).rows


class Board:
    """Makes the blocks at `sums.end`, again and again: of all spans, or of those named in `only`; those of `people` last.

    `folded` says how many names of a level had no place in the budget.
    """

    def __init__(
        self, sums: Sums, budget: int = BUDGET, only: Iterable[str] | None = None, people: People | None = None
    ) -> None:
        self._only = None if only is None else frozenset(only)
        self.sums = sums
        self.marketing = sums.marketing
        self.folded: dict[str, int] = {}
        self._people = people
        self._budget = budget
        self._points = {kind.casefold(): worth for kind, worth in self.marketing.engagement_points.items()}
        self._longest = Rules(self.marketing).longest
        self._wanted = Wanted(self.marketing)
        self._plan: Plan | None = None
        self._spending: Spending | None = None
        self._made: dict[tuple[str, str, Key], tuple[_Known, Block]] = {}
        self._arrival: tuple[int, Arrival] | None = None
        self._through_block = Block("", "campaign", None, [])
        self._persons_block = Block("", "", None, [])

    def blocks(self, ledger: Ledger, reach: Reach | None = None) -> list[Block]:
        """All blocks, in an order that depends on nothing but names."""
        sums = self.sums
        spending = self._costs(ledger)
        spans = [span for span in sums.spans.values() if self._only is None or span.name in self._only]
        spent = {span.name: spending.spent(span) for span in spans if span.group != "volumes"}
        if "30d" not in spent:
            spent["30d"] = spending.spent(sums.spans["30d"])
        through = ledger.through
        costs = {dims for found in spent.values() for dims in found} | set(through) | ledger.reports.dims
        names = join(costs, set(sums.keys()))
        types = self._types()
        if self._plan is None or self._plan.types != types:
            self._plan = Plan(self.marketing, types)
            self._made.clear()
        by_name: dict[Key, int] = {}
        for dims, cost in spent["30d"].items():
            by_name[names[dims]] = by_name.get(names[dims], 0) + (cost.total or 0)
        more = self._sources(reach or {})
        listed, self.folded = shown(sums, set(names.values()), by_name, self._plan, self._budget, self._wanted, more)
        made: list[Block] = []
        fresh: dict[tuple[str, str, Key], tuple[_Known, Block]] = {}
        for span in spans:
            made += _Reader(self, span, spending, spent.get(span.name, {}), through, names, listed, fresh).blocks()
        self._made = fresh
        for running in (sums.channels, sums.campaigns):
            running.changed.clear()
        made.append(self._through(through, names, listed))
        if self._people is not None:
            made.append(self._persons(self._people, made, reach, listed))
        return made

    def _sources(self, reach: Reach) -> set[Source]:
        """The channels with networks that something is told of persons of."""
        if self._people is None:
            return set()
        return self._people.sources() | {source for found in reach.values() for source in found if source != ALL}

    def _persons(self, people: People, made: list[Block], reach: Reach | None, listed: Mapping[Key, Key]) -> Block:
        def name_of(source: Source) -> Source:
            channel, network = listed.get((*source, ""), source)[:2]
            return channel, network

        base = (row for block in made for row in block.rows)
        found = people.rows(self.sums.end, base, reach, name_of)
        if found != self._persons_block.rows:
            self._persons_block = Block("", "", None, found)
        return self._persons_block

    def _costs(self, ledger: Ledger) -> Spending:
        sums = self.sums
        ledger.forget(sums.fresh)
        ledger.reports.forget(sums.recounted)
        sums.recounted.clear()
        if self._spending is None or self._spending.ledger is not ledger:
            self._spending = Spending(ledger, sums.calendar, sums.end)
        self._spending.move(sums.end, sums.fresh_days)
        sums.fresh.clear()
        sums.fresh_days.clear()
        return self._spending

    def _types(self) -> list[str]:
        channels = self.sums.channels.sums
        found = {
            measure[2]
            for span in ("30d", CAMPAIGN_TO_DATE)
            for cell in channels[span].values()
            for measure in cell
            if measure[1]
        }
        return [PURCHASE, *sorted((found | set(self.marketing.conversions)) - {PURCHASE})]

    def arrival(self) -> Arrival:
        """Which share of credit arrives by which age: of touches older than the longest window."""
        until = self.sums.calendar.day(self.sums.end - self._longest)
        if self._arrival is None or self._arrival[0] != until or self.sums.ages_changed:
            cells = [cell for day, cell in self.sums.ages.items() if day < until]
            self._arrival = (until, Arrival(cells, self.marketing.headline_models[0], PURCHASE))
            self.sums.ages_changed = False
        return self._arrival[1]

    def _through(self, through: Mapping[Dims, Through], names: Mapping[Key, Key], listed: Mapping[Key, Key]) -> Block:
        ends: dict[Key, int] = {}
        for dims, known in through.items():
            name = listed[names[dims]]
            if name[-1] != OTHER:
                ends[name] = min(known.t, ends.get(name, known.t))
        made = [
            Row(THROUGH, tuple(zip(LEVEL_LABELS["campaign"], name, strict=True)), units(t))
            for name, t in sorted(ends.items())
        ]
        if made != self._through_block.rows:
            self._through_block = Block("", "campaign", None, made)
        return self._through_block


class _Reader:
    """One span: its scopes at each level, and their blocks."""

    def __init__(
        self, board: Board, span: Span, spending: Spending, spent: Table, through: Mapping[Dims, Through],
        names: Mapping[Key, Key], listed: Mapping[Key, Key], fresh: dict[tuple[str, str, Key], tuple[_Known, Block]],
    ) -> None:  # fmt: skip
        self.board = board
        self.sums = board.sums
        self.span = span
        self.spending = spending
        self.spent = spent
        self.names = names
        self.listed = listed
        self.fresh = fresh
        self._pieces: dict[Key, list[tuple[int, int]]] | None = None
        self.told = spending.ledger.reports.told(span, board.sums)
        self.cuts = {dims: self._cut(known) for dims, known in through.items()} if span.group != "volumes" else {}
        assert board._plan is not None
        self.plan = board._plan
        self.wanted: list[Measure] = [
            *_CUT_COUNTS,
            *(
                (name, model, kind, basis)
                for name in _CUT_CREDIT
                for model in self.plan.models(span)
                for kind in self.plan.types
                for basis in self.plan.bases(span)
            ),
        ]

    def _cut(self, through: Through) -> int:
        """Up to where this campaign lets a ratio of this span go."""
        span = self.span
        if through.over or through.t >= span.stop:
            return span.stop
        return max(span.low, self.sums.calendar.start(span.granularity, through.t))

    def blocks(self) -> Iterator[Block]:
        span, sums = self.span, self.sums
        channels = sums.channels.sums[span.name]
        nobody = channels.get(_NOBODY, _EMPTY)
        sources = {pair: cell for pair, cell in channels.items() if pair != _NOBODY}
        visits = sum(cell.get(VISITS, 0) for cell in sources.values())
        if self.plan.has("total", span):
            cut = min(self.cuts.values(), default=span.stop)
            yield self._block(
                "total", _ALL, sums.channels, tuple(sources), total(self.spent.values()), cut,
                lambda: total(self.spending.spent(span, lambda dims: cut).values()), visits, nobody,
                merged(self.told.values()), lambda: merged(self._told(lambda dims: cut).values()),
            )  # fmt: skip
        sources.pop(_ORDERS, None)
        yield from self._level("channel", 2, sources, sums.channels, visits)
        if nobody:
            yield self._block(
                "nobody", _NOBODY, sums.channels, (_NOBODY,), UNKNOWN, span.stop, _unknown, 0, _EMPTY, NOTHING, _untold
            )
        found = sums.campaigns.sums[span.name]
        campaigns = {dims: cell for dims, cell in found.items() if dims not in (TOTAL, NOBODY)}
        yield from self._level("campaign", 3, campaigns, sums.campaigns, 0)

    def _level(
        self, level: str, width: int, cells: Mapping[Key, Cell], running: Running, visits: int
    ) -> Iterator[Block]:
        if not self.plan.has(level, self.span):
            return
        span, listed, names = self.span, self.listed, self.names

        def name_of(dims: Key) -> Key:
            return listed[dims[0], dims[1], dims[2] if width == 3 else ""][:width]

        members: dict[Key, list[Key]] = {}
        for key in cells:
            members.setdefault(name_of(key), []).append(key)
        spent: dict[Key, Spent] = {}
        for dims, cost in self.spent.items():
            name = name_of(names[dims])
            spent[name] = plus(spent.get(name, UNKNOWN), cost)
        cut: dict[Key, int] = {}
        for dims, at in self.cuts.items():
            name = name_of(names[dims])
            cut[name] = min(at, cut.get(name, span.stop))
        told = self._by_name(self.told, name_of)
        before: dict[Key, Spent] = {}
        told_before: dict[Key, Told] = {}
        # All cuts of a level are asked for at once: one pass over the costs.
        if any(at < span.stop for at in cut.values()):
            asked = {dims: cut.get(name_of(name), span.stop) for dims, name in names.items()}
            for dims, cost in self.spending.spent(span, lambda dims: asked.get(dims, span.stop)).items():
                name = name_of(names.get(dims, dims))
                before[name] = plus(before.get(name, UNKNOWN), cost)
            if self.told and span.whole:
                cuts = self._told(lambda dims: cut.get(name_of(names.get(dims, dims)), span.stop))
                told_before = self._by_name(cuts, name_of)
        for name in sorted(members.keys() | spent.keys() | told.keys()):
            # The sums of what is not listed have no ratio of cost: they are no campaign.
            until = span.low if name[-1] == OTHER else cut.get(name, span.stop)
            yield self._block(
                level, name, running, tuple(members.get(name, ())), spent.get(name, UNKNOWN), until,
                lambda name=name: before.get(name, UNKNOWN), visits, _EMPTY,  # type: ignore[misc]
                told.get(name, NOTHING), lambda name=name: told_before.get(name, NOTHING),  # type: ignore[misc]
            )  # fmt: skip

    def _told(self, cuts: Callable[[Dims], int]) -> Mapping[Dims, Told]:
        """Up to cuts; only windows have ratios of cost to what networks count too."""
        return self.spending.ledger.reports.told(self.span, self.sums, cuts) if self.told and self.span.whole else {}

    def _by_name(self, told: Mapping[Dims, Told], name_of: Callable[[Key], Key]) -> dict[Key, Told]:
        """What is reported by the names that a level shows."""
        parts: dict[Key, list[Told]] = {}
        for dims, one in told.items():
            parts.setdefault(name_of(self.names.get(dims, dims)), []).append(one)
        return {name: merged(found) for name, found in parts.items()}

    def _block(
        self, level: str, name: Key, running: Running, members: tuple[Key, ...], spent: Spent, until: int,
        before: Callable[[], Spent], visits: int, nobody: Cell, told: Told, told_before: Callable[[], Told],
    ) -> Block:  # fmt: skip
        """The rows of one scope, whose cost is known until then; those made before when nothing they come from has changed."""
        span = self.span
        covered = spent.total is not None and 2 * (until - span.low) >= span.stop - span.low
        side = before() if covered and until < span.stop else None
        # What is known to the end is known to whatever the end is now.
        known = _Known(
            members, spent, -1 if until == span.stop else until, side, visits, self._maturity(level, name), told,
            told if side is None else told_before(),
        )  # fmt: skip
        at = (f"{span.low}/{span.name}" if span.group == "day" else span.name, level, name)
        made = self.board._made.get(at)
        watched = members if level != "total" else (*members, _NOBODY)
        if made is not None and made[0] == known and not any((span.name, key) in running.changed for key in watched):
            block = made[1]
            if block.scope is not None and block.scope.cut != until:
                block = block._replace(scope=block.scope._replace(cut=until))
            self.fresh[at] = (known, block)
            return block
        cells = running.sums[span.name]
        counted = cells[members[0]] if len(members) == 1 else summed(cells[key] for key in members)
        cell = summed((counted, told.delta())) if told.deltas else counted
        sides: tuple[Cell, Spent] | None = None
        if side is not None:
            tail = running.tail(span, until, members, self.wanted)
            kept = {measure: counted.get(measure, 0) - tail[measure] for measure in self.wanted}
            sides = (summed((kept, known.told_upto.delta())), side)
        elif covered:
            sides = (cell, spent)
        labels = () if level == "total" else tuple(zip(LEVEL_LABELS["campaign"], name, strict=False))
        scope = Scope(
            labels, cell, spent, sides, until, engaged(cell, self.board._points), nobody, visits, known.maturity,
            told, known.told_upto, self._rated(counted, told),
        )  # fmt: skip
        made_now: list[Row] = []
        for family, formula, which, rest in self.plan.samples(level, span):
            value = formula(scope, which)
            if value is not None:
                made_now.append(Row(family, (*labels, *rest), value))
        block = Block(span.name, "channel" if level == "nobody" else level, scope, made_now)
        self.fresh[at] = (known, block)
        return block

    def _rated(self, counted: Cell, told: Told) -> Engagement | None:
        """The engagements that a rate is of, where they are others than all."""
        if RATE not in told.deltas:
            return None
        return engaged(summed((counted, told.delta(RATE))), self.board._points)

    def _maturity(self, level: str, name: Key) -> Decimal | None:
        """Of the touches of a channel or of all in a window of the touch basis."""
        span = self.span
        if level not in ("total", "channel") or not span.whole or TOUCH not in self.plan.bases(span):
            return None
        if self._pieces is None:
            self._pieces = self._by_age()
        return self.board.arrival().maturity(self._pieces.get(name, ()))

    def _by_age(self) -> dict[Key, list[tuple[int, int]]]:
        """(age, media cost) of each day of the span, by channel and network, and under () in all.

        The cost of a day counts as spent in its middle, or in the middle of what has passed of it by the hour of the end.
        """
        span, calendar = self.span, self.sums.calendar
        now = span.stop - span.stop % HOUR
        found: dict[Key, list[tuple[int, int]]] = {}
        start = span.low
        while start < span.stop:
            stop = min(calendar.shift(calendar.day(start), 1), span.stop)
            age = max(0, now - (start + min(stop, max(now, start))) // 2)
            sums: dict[Key, int] = {}
            for dims, cost in self.spending.between(start, stop).items():
                if cost.media:
                    name = self.names[dims]
                    pair = self.listed[name[0], name[1], ""][:2]
                    for key in (_ALL, pair):
                        sums[key] = sums.get(key, 0) + cost.media
            for key, amount in sums.items():
                found.setdefault(key, []).append((age, amount))
            start = stop
        return found


def _unknown() -> Spent:
    return UNKNOWN


def _untold() -> Told:
    return NOTHING
