"""Runs events through the core's batch pass and puts what comes out in the oracle's words."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import msgspec

from attribution.costs import Ledger, Own
from attribution.facts import (
    ATTRIBUTED_MARGIN,
    ATTRIBUTED_NET,
    CLICK_COST,
    CLICKS,
    CONVERSION,
    CONVERSIONS,
    EMAIL_OPENS,
    IMPRESSIONS,
    NEW_CUSTOMERS,
    ORDERS,
    REVENUE_GROSS,
    REVENUE_NET,
    TOTAL,
    TOUCH,
    VISITS,
    engagements,
    touch_count,
)
from attribution.replay import Replay
from attribution.rollups import Rollups
from models.results import Attribution
from models.settings import Marketing
from tests.reference import WHOLE, Body, Books, Dims, Row

COUNTS = (CLICKS, IMPRESSIONS, EMAIL_OPENS, VISITS)
_COLUMNS = {
    CONVERSIONS: "conversions",
    ATTRIBUTED_NET: "net",
    ATTRIBUTED_MARGIN: "net_margin",
}


def replay(events: Iterable[tuple[str, Body]], marketing: Marketing) -> Replay:
    """Everything taken and finished. All that the generator and the literals give must be acceptable."""
    run = Replay(marketing)
    for topic, body in events:
        run.take(topic, json.dumps(body).encode())
    run.finish()
    assert not run.refused
    assert set(run.dropped) <= {"duplicate", "ignored", "linked"}
    return run


def line(attribution: Attribution) -> dict[str, Any]:
    """A published line without its version and configuration; whether it restates an earlier one is left out."""
    body: dict[str, Any] = msgspec.to_builtins(attribution)
    del body["version"], body["config"]
    assert not body.pop("truncated"), "nobody here reaches a bound"
    if body["status"] == "restated":
        body["status"] = "attributed"
    return body


def lines(attributions: Iterable[Attribution]) -> dict[str, dict[str, Any]]:
    """Lines by conversion id; one conversion must not belong to two persons."""
    found: dict[str, dict[str, Any]] = {}
    for attribution in attributions:
        assert attribution.conversion_id not in found
        found[attribution.conversion_id] = line(attribution)
    return found


def books(rollups: Rollups, marketing: Marketing, granularity: str, start: int, end: int) -> Books:
    """The buckets that start in [start, end), as books at conversion basis. Cost is left to `cost`."""
    counts: dict[str, dict[Dims, int]] = {
        name: {} for name in (*(measure[0] for measure in COUNTS), "engagements", "touches")
    }
    totals = dict.fromkeys((ORDERS, REVENUE_GROSS, REVENUE_NET), 0)
    for _, cells in rollups.within(granularity, start, end):
        for dims, cell in cells.items():
            engaged = sum(n for _, _, n in engagements(cell))
            for name, n in (("engagements", engaged), ("touches", touch_count(cell, engaged))):
                if n:
                    counts[name][dims] = counts[name].get(dims, 0) + n
            for measure in COUNTS:
                if measure in cell:
                    counts[measure[0]][dims] = counts[measure[0]].get(dims, 0) + cell[measure]
            if dims == TOTAL:
                for measure in totals:
                    totals[measure] += cell.get(measure, 0)
    credit = credited(rollups, marketing, granularity, start, end, CONVERSION)
    new = (NEW_CUSTOMERS, marketing.models[0], "purchase", CONVERSION)
    micro = sum(cell.get(new, 0) for _, cells in rollups.within(granularity, start, end) for cell in cells.values())
    return Books(credit, counts, totals[ORDERS], totals[REVENUE_GROSS], totals[REVENUE_NET], {}, micro // WHOLE)


def touch_books(
    rollups: Rollups, marketing: Marketing, granularity: str, start: int, end: int
) -> dict[str, dict[Dims, Row]]:
    """The buckets that start in [start, end), at touch basis."""
    return credited(rollups, marketing, granularity, start, end, TOUCH)


def credited(
    rollups: Rollups, marketing: Marketing, granularity: str, start: int, end: int, basis: str
) -> dict[str, dict[Dims, Row]]:
    """Sums of credit by model and dims, over all conversion types."""
    models: dict[str, defaultdict[Dims, Row]] = {model: defaultdict(Row) for model in marketing.models}
    for _, cells in rollups.within(granularity, start, end):
        for dims, cell in cells.items():
            for (name, model, _, filed), amount in cell.items():
                if filed == basis and name in _COLUMNS:
                    row, column = models[model][dims], _COLUMNS[name]
                    whole = Fraction(amount, WHOLE) if name == CONVERSIONS else amount
                    setattr(row, column, getattr(row, column) + whole)
    return stated(models)


def stated(models: dict[str, Any]) -> dict[str, dict[Dims, Row]]:
    """Without gross revenue, which is not filed by channel, and rows of nothing, which may be there or not."""
    return {
        model: {dims: found for dims, row in rows.items() if (found := replace(row, gross=0)) != Row()}
        for model, rows in models.items()
    }


def cost(run: Replay, start: int, end: int) -> dict[Dims, int]:
    """Cost by dims in [start, end), whole hours: accrued rows, and clicks' own costs that no report replaces."""
    own: Own = {"m": {}, "c": defaultdict(dict)}
    for (granularity, at), cells in run.rollups.buckets.items():
        if granularity == "c":
            for dims, cell in cells.items():
                own["c"][dims][at] = cell[CLICK_COST]
    spent = Ledger((row for _, row in run.costs()), own, end).spent("c", start, lambda dims: end)
    return {dims: sums.total for dims, sums in spent.items() if sums.total}
