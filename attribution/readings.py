"""Readings of alert rules from the exporter's rows and scopes: the metric of each scope that a rule's patterns match."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import NamedTuple

from attribution.alerting import UNKNOWN, Key, Names, Reading, cost_reading, plain_reading
from attribution.blocks import Found
from attribution.costs import Ledger
from attribution.facts import CONVERSIONS
from attribution.families import FAMILIES, LEVEL_LABELS, Row
from attribution.formulas import Scope, units
from attribution.patterns import level_of, matches
from attribution.targets import STATISTICAL, family, labels_of, of_persons
from models.results import NONE
from models.settings import AlertRule, Marketing, micros

_LEVEL_LABELS = ("channel", "network", "campaign")


class Held(NamedTuple):
    """Why nothing is concluded on cost per conversion: at all, or for networks whose costs are stale (case-folded)."""

    everywhere: bool = False
    networks: frozenset[str] = frozenset()

    def holds(self, names: Names) -> bool:
        """Whether a scope is held."""
        return self.everywhere or (names[1].casefold() in self.networks if names[1] else bool(self.networks))


class Rows:
    """The rows of some families, by the values of their labels other than `currency`."""

    def __init__(self, rows: Iterable[Row], families: Iterable[str]) -> None:
        self._names: dict[str, tuple[str, ...]] = dict.fromkeys(families, ())
        self._values: dict[tuple[str, tuple[str, ...]], Decimal | int] = {}
        self._scopes: dict[str, set[tuple[str, ...]]] = {name: set() for name in self._names}
        for name, labels, value in rows:
            if name in self._names:
                kept = [label for label in labels if label[0] != "currency"]
                self._names[name] = tuple(label for label, _ in kept)
                self._values[name, tuple(text for _, text in kept)] = value
                self._scopes[name].add(tuple(text for _, text in labels[: len(LEVEL_LABELS[FAMILIES[name].level])]))

    def scopes(self, name: str) -> list[tuple[str, ...]]:
        """The names that a family has rows of; the whole is always one."""
        return sorted(self._scopes[name]) or [()] * (FAMILIES[name].level == "total")

    def get(self, name: str, labels: dict[str, str]) -> Decimal | None:
        """The sample with these labels, as far as the family has them; None when there is none."""
        found = self._values.get((name, tuple([labels.get(label, "") for label in self._names.get(name, ())])))
        return None if found is None else Decimal(found)


def read(rules: Iterable[AlertRule], marketing: Marketing, found: Found, held: Held) -> dict[Key, Reading]:
    """The reading of every rule in every scope that it matches and that shows anything.

    Reserved names such as `(other)` are sums of several: only a rule that names one sees it.
    """
    rules = list(rules)
    wanted = {name for rule in rules for name in families(rule)}
    index = Rows(found.rows, wanted)
    readings: dict[Key, Reading] = {}
    for rule in rules:
        level = level_of(rule)
        name = family(level, rule.metric)
        if name is not None and of_persons(name):
            for values in index.scopes(name):
                if matches(rule, values) and not _reserved(rule, values):
                    readings[rule.name, _names(values)] = _of_persons(rule, level, marketing, values, index)
            continue
        for at, scope in found.scopes.get(rule.window, ()):
            values = tuple(text for _, text in scope.labels)
            if at != level or not matches(rule, values) or _reserved(rule, values):
                continue
            names = _names(values)
            readings[rule.name, names] = _reading(rule, level, marketing, scope, names, index, held)
    return readings


def _names(values: tuple[str, ...]) -> Names:
    return (*values, "", "", "")[:3]  # type: ignore[return-value]


def families(rule: AlertRule) -> set[str]:
    """The families that an alert rule reads."""
    level = level_of(rule)
    return {name for metric in (rule.metric, "maturity", *rule.minimum) if (name := family(level, metric)) is not None}


def _reserved(rule: AlertRule, values: tuple[str, ...]) -> bool:
    wanted = (rule.channel, rule.network, rule.campaign)
    return any(
        text.startswith("(") and text.endswith(")") and text not in (NONE, pattern)
        for pattern, text in zip(wanted, values, strict=False)
    )


def _reading(
    rule: AlertRule, level: str, marketing: Marketing, scope: Scope, names: Names, index: Rows, held: Held
) -> Reading:
    if rule.metric in STATISTICAL:
        reading = UNKNOWN if held.holds(names) else _cost(rule, rule.model or marketing.headline_models[0], scope)
    else:
        value, volumes = _looked_up(rule, level, marketing, scope.labels, index)
        # A ratio of cost is absent too while less than half of its cost is known: that is not the end of it.
        awaited = value is None and scope.upto is None and scope.spent.total is not None
        reading = UNKNOWN if awaited else plain_reading(rule, value, volumes)
    maturity = family(level, "maturity")
    known = None if maturity is None else _value(rule, marketing, scope.labels, index, maturity)
    return reading._replace(maturity=known, cost_through=scope.cut)


def _of_persons(rule: AlertRule, level: str, marketing: Marketing, values: tuple[str, ...], index: Rows) -> Reading:
    names = zip(_LEVEL_LABELS, values, strict=False)
    return plain_reading(rule, *_looked_up(rule, level, marketing, names, index))


def _value(
    rule: AlertRule, marketing: Marketing, names: Iterable[tuple[str, str]], index: Rows, name: str
) -> Decimal | None:
    return index.get(name, dict(names) | labels_of(rule, marketing, name))


def _looked_up(
    rule: AlertRule, level: str, marketing: Marketing, names: Iterable[tuple[str, str]], index: Rows
) -> tuple[Decimal | None, dict[str, Decimal]]:
    """The rule's metric, and those that ask for a minimum, as far as there are any."""
    names = tuple(names)
    wanted = {metric: family(level, metric) for metric in (rule.metric, *rule.minimum)}
    found = {metric: _value(rule, marketing, names, index, name) for metric, name in wanted.items() if name is not None}
    return found.get(rule.metric), {metric: n for metric in rule.minimum if (n := found.get(metric)) is not None}


def _cost(rule: AlertRule, model: str, scope: Scope) -> Reading:
    if scope.spent.media is None:
        return cost_reading(rule, None, Decimal(0))
    if scope.upto is None:
        return UNKNOWN
    cell, spent = scope.upto
    conversions = cell.get((CONVERSIONS, model, rule.conversion, rule.basis), 0)
    return cost_reading(rule, units(spent.media or 0), units(conversions))


def stale(ledger: Ledger, marketing: Marketing, now: int) -> frozenset[str]:
    """Networks (case-folded) whose costs are awaited for longer than `[silence]` allows."""
    limit = now - micros(marketing.silence.costs)
    return frozenset(
        dims[1].casefold() for dims, through in ledger.through.items() if not through.over and through.t < limit
    )
