"""The report of a replay: credits and cost over the whole input, and the exporter's rows at its last event."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

from attribution.costs import UNKNOWN, Ledger, Own, Spent
from attribution.facts import ATTRIBUTED_NET, CLICK_COST, CONVERSION, CONVERSIONS
from attribution.families import Row, plain
from attribution.filing import NOBODY
from attribution.formulas import PURCHASE, cpa, plus, roas, roi_on_revenue
from attribution.kpi import rows
from attribution.listing import join
from attribution.money import major
from attribution.nodes.base import NEVER
from attribution.nodes.cost import accrual_end
from attribution.nodes.state import CostRow
from attribution.outcome import moment
from attribution.people import People
from attribution.reach import Devices
from attribution.replay import Replay
from attribution.rollups import RETENTION, Cell, Rollups
from attribution.rules import Dims
from attribution.running import Key
from attribution.spread import Spread
from attribution.windows import Sums
from models.settings import Marketing
from models.wire import COUNTERS


class Span(NamedTuple):
    """Sums over the business days that start in [start, end], and cost in [start, end), per dims."""

    start: int
    end: int
    cells: dict[Dims, Cell]
    spent: dict[Dims, Spent]


def span(marketing: Marketing, rollups: Rollups, costs: Iterable[CostRow], start: int, end: int) -> Span:
    """Everything between two times, by day: nothing is cut to where cost is known."""
    cells: dict[Dims, Cell] = {}
    own: Own = {"c": {}}
    for (granularity, at), found in rollups.buckets.items():
        if not start <= at <= end:
            continue
        for dims, cell in found.items():
            if granularity == "d":
                total = cells.setdefault(dims, {})
                for measure, amount in cell.items():
                    total[measure] = total.get(measure, 0) + amount
            elif granularity == "c":
                own["c"].setdefault(dims, {})[at] = cell.get(CLICK_COST, 0)
    spread = Spread(marketing, rollups.calendar, lambda day: rollups.buckets.get(("d", day), {}))
    ledger = Ledger(costs, own, end, spread=spread)
    return Span(start, end, cells, ledger.spent("c", start, lambda dims: end, last=end))


def whole(marketing: Marketing, rollups: Rollups, costs: Iterable[CostRow], highest: int) -> Span | None:
    """The span of all that is kept: from the first day or cost that is kept to the last event or accrued cost. None when there is nothing."""
    reported = [row for row in costs if row.kind != COUNTERS]
    days = [at for granularity, at in rollups.buckets if granularity == "d"]
    starts = days + [row.start for row in reported]
    if not starts:
        return None
    end = max([highest, *days, *(accrual_end(row) for row in reported)])
    calendar = rollups.calendar
    # Days older than their retention are gone from the rollups: what was spent in them has nothing to stand against.
    oldest = calendar.shift(calendar.day(highest - RETENTION["d"]), 1)
    start = max(calendar.day(min(starts)), oldest)
    return span(marketing, rollups, reported, start, end)


def report(replay: Replay) -> dict[str, Any]:
    """What `report.json` holds; amounts are decimal strings in major units, null where undefined.

    `models` has, per model, conversions of type purchase on the conversion basis and their net revenue at three levels. `total` is what is
    attributed to some channel; `(unattributed)` stands beside the channels. A campaign's cost is what names it.
    """
    marketing = replay.marketing
    rollups, by_id = replay.named()
    costs = list(by_id.values())
    found = whole(marketing, rollups, costs, replay.highest)
    return {
        "currency": marketing.reporting_currency,
        "config": marketing.digest(),
        "span": None if found is None else {"start": moment(found.start), "end": moment(found.end)},
        "accepted": replay.accepted,
        "refused": dict(sorted(Counter(refusal.code for refusal in replay.refused).items())),
        "dropped": dict(sorted(replay.dropped.items())),
        "models": {model: _model(model, found) for model in marketing.models},
        "windows": windows(rollups, costs, marketing, replay.highest, replay.devices),
    }


def exported(rollups: Rollups, costs: Iterable[CostRow], marketing: Marketing, end: int, devices: Devices) -> list[Row]:
    """The exporter's rows at `end`."""
    if end == NEVER:
        return []
    sums = Sums.of(rollups, marketing, end)
    ledger = Ledger(costs, sums.own, end, spread=sums.spread())
    people, reach = People.of(rollups, marketing), devices.reach(end, rollups.calendar)
    return rows(sums, ledger, people=people, reach=reach)


def windows(
    rollups: Rollups, costs: Iterable[CostRow], marketing: Marketing, end: int, devices: Devices
) -> dict[str, list[dict[str, str]]]:
    """The same as data: per family, each sample's labels with its `value`."""
    found: dict[str, list[dict[str, str]]] = {}
    for row in exported(rollups, costs, marketing, end, devices):
        found.setdefault(row.family, []).append({**dict(row.labels), "value": plain(row.value)})
    return found


def _model(model: str, found: Span | None) -> dict[str, Any]:
    if found is None:
        return {"total": _line({}, model, UNKNOWN), "channels": [], "campaigns": []}
    names = join(found.spent, found.cells)
    campaigns: dict[Key, tuple[Cell, Spent]] = {}
    channels: dict[Key, tuple[Cell, Spent]] = {}
    total: tuple[Cell, Spent] = ({}, UNKNOWN)
    nobody = found.cells.get(NOBODY)
    parts: list[tuple[Key, Cell, Spent]] = [
        # Without a campaign there is what is counted by channel and network only.
        (dims, cell, UNKNOWN)
        for dims, cell in found.cells.items()
        if dims[2] and dims != NOBODY
    ]
    for dims, cell, spent in [*parts, *((names[dims], {}, spent) for dims, spent in found.spent.items())]:
        campaigns[dims] = _add(campaigns.get(dims), cell, spent, model)
        channels[dims[:2]] = _add(channels.get(dims[:2]), cell, spent, model)
        total = _add(total, cell, spent, model)
    lines = [
        {"channel": pair[0], "network": pair[1], **_line(cell, model, spent)}
        for pair, (cell, spent) in sorted(channels.items())
    ]
    if nobody is not None:
        lines.append({"channel": NOBODY[0], "network": NOBODY[1], **_line(nobody, model, UNKNOWN)})
    return {
        "total": _line(total[0], model, total[1]),
        "channels": lines,
        "campaigns": [
            {"channel": dims[0], "network": dims[1], "campaign": dims[2], **_line(cell, model, spent)}
            for dims, (cell, spent) in sorted(campaigns.items())
        ],
    }


def _add(sofar: tuple[Cell, Spent] | None, cell: Cell, spent: Spent, model: str) -> tuple[Cell, Spent]:
    before, cost = sofar or ({}, UNKNOWN)
    for name in (CONVERSIONS, ATTRIBUTED_NET):
        measure = (name, model, PURCHASE, CONVERSION)
        before[measure] = before.get(measure, 0) + cell.get(measure, 0)
    return before, plus(cost, spent)


def _line(cell: Cell, model: str, spent: Spent) -> dict[str, str | None]:
    conversions = cell.get((CONVERSIONS, model, PURCHASE, CONVERSION), 0)
    revenue = cell.get((ATTRIBUTED_NET, model, PURCHASE, CONVERSION), 0)
    ratios = {
        "cpa": cpa(spent, conversions),
        "roas": roas(spent, revenue),
        "roi_on_revenue": roi_on_revenue(spent, revenue),
    }
    return {
        "conversions": major(conversions),
        "revenue": major(revenue),
        "cost": None if spent.total is None else major(spent.total),
        "media_cost": None if spent.media is None else major(spent.media),
        **{name: None if value is None else plain(value) for name, value in ratios.items()},
    }
