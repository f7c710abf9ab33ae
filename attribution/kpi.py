"""The rows of all business families at one end: sums of windows, and ratios as Σ numerator / Σ denominator.

Undefined is absent. A ratio of cost takes both sides up to a common cut: the start of the granule in which the earliest
`cost through` of the campaigns in its scope lies (see `attribution.costs`), or the window's end when nothing more is awaited. A window less than
half covered has no ratio. `(unattributed)` is a channel of its own and in no other sum: total attributed families hold what
is attributed to some channel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import NamedTuple

from attribution.costs import UNKNOWN, Ledger, Spent, Through
from attribution.facts import (
    ATTRIBUTED_GROSS,
    ATTRIBUTED_NET,
    CLICKS,
    CONVERSION,
    CONVERSIONS,
    EMAIL_OPENS,
    ENGAGEMENTS,
    IMPRESSIONS,
    ORDERS,
    REFUNDS,
    REVENUE_GROSS,
    REVENUE_NET,
    TOTAL,
    VISITS,
    Measure,
    touch_count,
)
from attribution.families import (
    PURCHASE,
    THROUGH,
    Labels,
    Row,
    cpa,
    plus,
    roas,
    roi_on_revenue,
    total,
    units,
)
from attribution.filing import NOBODY
from attribution.listing import BUDGET, join, shown
from attribution.rollups import Cell
from attribution.rules import Dims
from attribution.windows import WINDOWS, Key, Running, Sums, Window
from models.results import OTHER
from models.settings import Marketing

_EMPTY: Cell = {}
_NOBODY: Key = NOBODY[:2]
_ORDERS: Key = TOTAL[:2]
_COUNTS: tuple[tuple[str, Measure], ...] = (
    ("clicks", CLICKS),
    ("impressions", IMPRESSIONS),
    ("engagements", ENGAGEMENTS),
    ("email_opens", EMAIL_OPENS),
    ("visits", VISITS),
)


class Scope(NamedTuple):
    """One row of a level in one window: what is added up, and both sides of its ratios up to the cut (None: no ratio)."""

    labels: Labels
    cell: Cell
    spent: Spent
    upto: tuple[Cell, Spent] | None
    cut: int


class Found(NamedTuple):
    """All rows, and by window the scopes they were made from as (level, scope): both sides of a ratio also where it is undefined."""

    rows: list[Row]
    scopes: dict[str, list[tuple[str, Scope]]]


def found(sums: Sums, ledger: Ledger, budget: int = BUDGET) -> Found:
    """All rows at `sums.end`: at most `budget`, by folding the least of campaigns, then channels, into `(other)`.

    Scopes share their cells with `sums`: read them before anything is added to it.
    """
    board = _Board(sums, ledger, budget)
    return Found(list(board.rows()), board.scopes)


def rows(sums: Sums, ledger: Ledger, budget: int = BUDGET) -> list[Row]:
    """The rows alone."""
    return found(sums, ledger, budget).rows


class _Board:
    def __init__(self, sums: Sums, ledger: Ledger, budget: int) -> None:
        self.sums = sums
        self.ledger = ledger
        self.marketing: Marketing = sums.marketing
        ledger.forget(sums.fresh)
        sums.fresh.clear()
        self.starts = sums.starts()
        self.headline = self.marketing.headline_models
        self.types = self._types()
        self.currency = ("currency", self.marketing.reporting_currency)
        self.costs = {window.name: self._spent(window, lambda dims: sums.end) for window in WINDOWS}
        touched = sums.campaigns.sums[WINDOWS[-1].name].keys() | sums.own["c"].keys()
        names = {dims for costs in self.costs.values() for dims in costs} | set(ledger.through)
        self.names = join(names, touched)
        spent: dict[Key, int] = {}
        for dims, cost in self.costs[WINDOWS[-1].name].items():
            name = self.names[dims]
            spent[name] = spent.get(name, 0) + (cost.total or 0)
        self.shown = shown(sums, set(self.names.values()), spent, self.types, budget)
        self.scopes: dict[str, list[tuple[str, Scope]]] = {}

    def _types(self) -> list[str]:
        found = {measure[2] for cell in self.sums.channels.sums[WINDOWS[-1].name].values() for measure in cell}
        return [PURCHASE, *sorted((found | set(self.marketing.conversions)) - {"", PURCHASE})]

    def _spent(self, window: Window, until: Callable[[Dims], int], last: bool = True) -> dict[Dims, Spent]:
        own = "m" if window.granularity == "m" else "c"
        return self.ledger.spent(own, self.starts[window.name], until, self.sums.end if last else None)

    # Scopes: cells and costs of one level in one window.

    def rows(self) -> Iterator[Row]:
        for window in WINDOWS:
            scopes = self.scopes[window.name] = list(self._scopes(window))
            for level, scope in scopes:
                nobody = scope.labels[:1] == (("channel", NOBODY[0]),)
                yield from self._attributed(window, level, scope, nobody)
                if not nobody:
                    yield from self._plain(window, level, scope)
            yield from self._orders(window)
        yield from self._through()

    def _scopes(self, window: Window) -> Iterator[tuple[str, Scope]]:
        end = self.sums.end
        costs = self.costs[window.name]
        cuts = {dims: self._cut(window, through) for dims, through in self.ledger.through.items()}
        channels = self.sums.channels.sums[window.name]
        sources = {pair: cell for pair, cell in channels.items() if pair not in (_ORDERS, _NOBODY)}

        # Total: everything in one.
        cut = min(cuts.values(), default=end)
        spent = total(costs.values())
        cell = _merged(sources.values())
        upto = self._upto(
            window, cell, spent, cut, self.sums.channels, sources,
            lambda: total(self._spent(window, lambda dims: cut, last=False).values()),
        )  # fmt: skip
        yield "total", Scope((), cell, spent, upto, cut)

        # Channels. All cuts of a level are asked for at once: one pass over the costs.
        yield from self._level(window, "channel", 2, sources, self.sums.channels, costs, cuts)
        if _NOBODY in channels:
            labels = (("channel", NOBODY[0]), ("network", NOBODY[1]))
            yield "channel", Scope(labels, channels[_NOBODY], UNKNOWN, None, end)
        if window.campaigns:
            found = self.sums.campaigns.sums[window.name]
            campaigns = {dims: cell for dims, cell in found.items() if dims not in (TOTAL, NOBODY)}
            yield from self._level(window, "campaign", 3, campaigns, self.sums.campaigns, costs, cuts)

    def _level(
        self, window: Window, level: str, width: int, cells: Mapping[Key, Cell], running: Running,
        costs: dict[Dims, Spent], cuts: dict[Dims, int],
    ) -> Iterator[tuple[str, Scope]]:  # fmt: skip
        start, end = self.starts[window.name], self.sums.end

        def name_of(dims: Key) -> Key:
            return self.shown[dims[0], dims[1], dims[2] if width == 3 else ""][:width]

        members: dict[Key, list[Key]] = {}
        for key in cells:
            members.setdefault(name_of(key), []).append(key)
        spent: dict[Key, Spent] = {}
        for dims, cost in costs.items():
            name = name_of(self.names[dims])
            spent[name] = plus(spent.get(name, UNKNOWN), cost)
        cut: dict[Key, int] = {}
        for dims, at in cuts.items():
            name = name_of(self.names[dims])
            cut[name] = min(at, cut.get(name, end))
        before: dict[Key, Spent] = {}
        if any(at < end for at in cut.values()):
            asked = {dims: cut.get(name_of(self.names[dims]), end) for dims in self.names}
            for dims, cost in self._spent(window, lambda dims: asked.get(dims, end), last=False).items():
                name = name_of(self.names.get(dims, dims))
                before[name] = plus(before.get(name, UNKNOWN), cost)
        for name in sorted(members.keys() | spent.keys()):
            labels = tuple(zip(("channel", "network", "campaign"), name, strict=False))
            keys = members.get(name, [])
            cell = cells[keys[0]] if len(keys) == 1 else _merged(cells[key] for key in keys)
            # The sums of what is not listed have no ratio: they are no campaign.
            known = spent.get(name, UNKNOWN)
            at = start if name[-1] == OTHER else cut.get(name, end)
            upto = self._upto(window, cell, known, at, running, keys, partial(_known, before, name))
            yield level, Scope(labels, cell, known, upto, at)

    def _upto(
        self, window: Window, cell: Cell, spent: Spent, cut: int, running: Running, keys: Iterable[Key],
        before: Callable[[], Spent],
    ) -> tuple[Cell, Spent] | None:  # fmt: skip
        """Both sides of a scope's ratios up to `cut`; `before` is its cost by then. None when there are no ratios."""
        end, start = self.sums.end, self.starts[window.name]
        if spent.total is None or 2 * (cut - start) < end - start:
            return None
        if cut >= end:
            return cell, spent
        wanted = [
            (name, model, kind, basis)
            for name in (CONVERSIONS, ATTRIBUTED_NET)
            for model in self.headline
            for kind in self.types
            for basis in window.bases
        ]
        tail = running.tail(window, cut, keys, wanted)
        return {measure: cell.get(measure, 0) - tail[measure] for measure in wanted}, before()

    def _cut(self, window: Window, through: Through) -> int:
        """Up to where this campaign lets a ratio of this window go."""
        end, start = self.sums.end, self.starts[window.name]
        if through.over or through.t >= end:
            return end
        return max(start, window.floor(through.t, self.sums.calendar))

    # Rows.

    def _attributed(self, window: Window, level: str, scope: Scope, nobody: bool) -> Iterator[Row]:
        models = self.headline if level == "campaign" else self.marketing.models
        of = f"parcours_{level}_"
        for basis in window.bases:
            if (level == "campaign" or nobody) and basis != CONVERSION:
                continue
            for model in models:
                for kind in self.types:
                    labels = (
                        *scope.labels, ("model", model), ("basis", basis), ("conversion", kind), ("window", window.name),
                    )  # fmt: skip
                    money = (*labels, self.currency)
                    cell = scope.cell
                    yield Row(
                        of + "attributed_conversions", labels, units(cell.get((CONVERSIONS, model, kind, basis), 0))
                    )
                    yield Row(
                        of + "attributed_revenue", money, units(cell.get((ATTRIBUTED_NET, model, kind, basis), 0))
                    )
                    if level != "campaign":
                        gross = cell.get((ATTRIBUTED_GROSS, model, kind, basis), 0)
                        yield Row(of + "attributed_revenue_gross", money, units(gross))
                    if scope.upto is not None and model in self.headline:
                        cell, spent = scope.upto
                        value = cpa(spent, cell.get((CONVERSIONS, model, kind, basis), 0))
                        if value is not None:
                            yield Row(of + "cpa", money, value)
                        if kind == PURCHASE:
                            revenue = cell.get((ATTRIBUTED_NET, model, kind, basis), 0)
                            for name, ratio in (("roas", roas), ("roi_on_revenue", roi_on_revenue)):
                                value = ratio(spent, revenue)
                                if value is not None:
                                    yield Row(f"{of}{name}_ratio", labels, value)

    def _plain(self, window: Window, level: str, scope: Scope) -> Iterator[Row]:
        of = f"parcours_{level}_"
        labels = (*scope.labels, ("window", window.name))
        for name, amount in (("cost", scope.spent.total), ("media_cost", scope.spent.media)):
            if amount is not None:
                yield Row(of + name, (*labels, self.currency), units(amount))
        yield Row(of + "touches", labels, touch_count(scope.cell))
        for name, measure in _COUNTS:
            yield Row(of + name, labels, scope.cell.get(measure, 0))

    def _orders(self, window: Window) -> Iterator[Row]:
        cell = self.sums.channels.sums[window.name].get(_ORDERS, _EMPTY)
        labels = (("window", window.name),)
        yield Row("parcours_total_orders", labels, cell.get(ORDERS, 0))
        for name, measure in (("revenue", REVENUE_NET), ("revenue_gross", REVENUE_GROSS), ("refunds", REFUNDS)):
            yield Row(f"parcours_total_{name}", (*labels, self.currency), units(cell.get(measure, 0)))

    def _through(self) -> Iterator[Row]:
        ends: dict[Key, int] = {}
        for dims, through in self.ledger.through.items():
            name = self.shown[self.names[dims]]
            if name[-1] != OTHER:
                ends[name] = min(through.t, ends.get(name, through.t))
        for name, t in sorted(ends.items()):
            yield Row(THROUGH, (("channel", name[0]), ("network", name[1]), ("campaign", name[2])), units(t))


def _merged(cells: Iterable[Cell]) -> Cell:
    merged: Cell = {}
    for cell in cells:
        for measure, amount in cell.items():
            merged[measure] = merged.get(measure, 0) + amount
    return merged


def _known(costs: Mapping[Key, Spent], name: Key) -> Spent:
    return costs.get(name, UNKNOWN)
