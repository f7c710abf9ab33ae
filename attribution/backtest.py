"""What alert rules would have done over a history: its events folded in order of time, the rules judged at regular steps.

The evaluator's own reading and state machine, with the pipeline taken for well and only stale costs held. Events count from their
own time on, costs from when they were reported: what came late is known too early, so a live alert may have come later. `for` is
as exact as the step.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import NamedTuple

from attribution import targets
from attribution.alerting import AlertState, Key, Names, advance
from attribution.blocks import Found
from attribution.costs import Ledger
from attribution.kpi import Board
from attribution.naming import Campaigns
from attribution.nodes.cost import accrual_end
from attribution.nodes.state import CostRow
from attribution.people import People
from attribution.readings import Held, families, read, stale
from attribution.replay import Replay
from attribution.rollups import OF_PERSONS, RETENTION, Bucket, Cell, Rollups, add
from attribution.rules import Dims
from attribution.windows import Sums
from models.settings import HOUR, Marketing, Rate


class Episode(NamedTuple):
    """One firing of a rule in a scope. Times in µs; `resolved_at` None: it still fires at the end."""

    rule: str
    names: Names
    fired_at: int
    resolved_at: int | None
    value: Decimal | None
    bound: Decimal | None


class _Fresh(Rollups):
    """Only what has come since it was last emptied."""

    def prune(self, highest: int) -> None:
        """Nothing is kept long enough."""


class Backtest:
    """`take` the events in order of time, with `judge` in between; then read `episodes`."""

    def __init__(self, marketing: Marketing, rates: Iterable[Rate] = ()) -> None:
        self.replay = Replay(marketing, rates)
        self._fresh = self.replay.rollups = _Fresh(self.replay.rollups.calendar)
        self._marketing = marketing
        self._sums: Sums | None = None
        self._board: Board | None = None
        self._ledger: Ledger | None = None
        self._costs_changed = False
        of_persons = any(targets.of_persons(name) for rule in marketing.alerts for name in families(rule))
        self._campaigns = Campaigns()
        self._held: dict[Bucket, dict[Dims, Cell]] = {}
        self._people = People(marketing) if of_persons else None
        self._judged = 0
        self._states: dict[Key, AlertState] = {}
        self._episodes: dict[str, Episode] = {}

    @property
    def episodes(self) -> list[Episode]:
        """All firings so far, in order."""
        return sorted(self._episodes.values(), key=lambda one: (one.fired_at, one.rule, one.names))

    def take(self, topic: str, value: bytes | None) -> None:
        """One event."""
        self._costs_changed |= topic == "costs"
        self.replay.take(topic, value)

    def judge(self, now: int) -> None:
        """Judge all rules as of `now`, which only grows; all that occurred by then has been taken."""
        self._fold(now)
        assert self._sums is not None
        assert self._board is not None
        if self._ledger is None or self._costs_changed or now // HOUR != self._judged // HOUR:
            kept = [self._campaigns.row(row) for row in self._rows() if accrual_end(row) > now - RETENTION["d"]]
            self._ledger, self._costs_changed = Ledger(kept, self._sums.own, now, spread=self._sums.spread()), False
        self._judged = now
        reach = self.replay.devices.reach(now, self._sums.calendar) if self._people is not None else None
        found = Found.of(self._board.blocks(self._ledger, reach))
        held = Held(networks=stale(self._ledger, self._marketing, now))
        readings = read(self._marketing.alerts, self._marketing, found, held)
        self._states, changes = advance(self._marketing.alerts, self._states, readings, now)
        for change in changes:
            state = change.state
            if state.phase == "firing":
                figures = (change.reading.value, change.reading.bound)
                self._episodes[state.id] = Episode(state.rule, state.names, state.fired_at, None, *figures)
            else:
                self._episodes[state.id] = self._episodes[state.id]._replace(resolved_at=now)

    def _fold(self, now: int) -> None:
        self.replay.finish()
        if self._sums is None:
            self._sums = Sums(self._marketing, now)
            self._board = Board(self._sums, only={rule.window for rule in self._marketing.alerts}, people=self._people)
        self._sums.move(now)
        if self._costs_changed:
            self._rename(Campaigns(self._rows()), self._sums)
        for bucket, cells in self._fresh.buckets.items():
            for dims, cell in cells.items():
                if bucket[0] not in OF_PERSONS:
                    self._sums.add(bucket, self._campaigns.of(dims), cell)
                    add(self._held.setdefault(bucket, {}).setdefault(dims, {}), cell)
                elif self._people is not None:
                    self._people.add(bucket, dims[:2], cell)
        self._fresh.buckets.clear()
        self._held = {bucket: cells for bucket, cells in self._held.items() if self._sums.wants(bucket)}

    def _rename(self, campaigns: Campaigns, sums: Sums) -> None:
        """Bring what is held of campaigns that are named otherwise now under their new names."""
        before, self._campaigns = self._campaigns, campaigns
        if campaigns.names == before.names:
            return
        for bucket, cells in self._held.items():
            for dims, cell in cells.items():
                old, new = before.of(dims), campaigns.of(dims)
                if old != new:
                    sums.add(bucket, old, {measure: -amount for measure, amount in cell.items()})
                    sums.add(bucket, new, cell)

    def _rows(self) -> list[CostRow]:
        return [row for _, row in self.replay.costs()]
