"""Alerts as a pure state machine: (states, readings, now) → (states, what fired or resolved).

A reading says of one rule in one scope whether its condition to fire and its condition to clear hold now. Between the two lies
the hysteresis band, in which nothing changes.

A cost per conversion is judged statistically. With `n` conversions in the window, their true expectation is below
U(n) = (n+1)(1 − 1/(9(n+1)) + 1.645/(3√(n+1)))³ with 95 % confidence (the upper Poisson bound in the approximation of Wilson and
Hilferty). So when cost / U(n) is above the threshold, the true cost per conversion is. A dispersion φ (variance / mean) widens it
to φ·U(n/φ). Decimals of 40 digits, whose square root is correctly rounded: the same decision on every machine.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Literal, NamedTuple

import msgspec
from msgspec import Struct

from models.settings import AlertRule, micros

EXACT = Context(prec=40, rounding=ROUND_HALF_EVEN)
SHOWN = Context(prec=12)
CONFIDENCE = Decimal("1.645")
"""The 95 % quantile of the standard normal distribution."""

KEPT = 24 * 3600 * 1_000_000
"""How long a resolved alert stays in the state, to be listed (µs)."""

Names = tuple[str, str, str]
"""Channel, network and campaign of a scope; empty below the rule's level."""

Phase = Literal["inactive", "pending", "firing"]
Ended = Literal["cleared", "spend_ended", "no_data", "rule_removed"]


class Reading(NamedTuple):
    """What a rule's scope shows now. `known` is False while nothing may be concluded from it; amounts in major units, times in µs."""

    known: bool
    fires: bool = False
    clears: bool = False
    ended: Ended = "cleared"
    value: Decimal | None = None
    bound: Decimal | None = None
    conversions: Decimal | None = None
    spend: Decimal | None = None
    maturity: Decimal | None = None
    cost_through: int | None = None


GONE = Reading(known=True, clears=True, ended="no_data")
UNKNOWN = Reading(known=False)


class AlertState(Struct, frozen=True, kw_only=True):
    """One rule in one scope, while it is not simply inactive. Times in µs.

    `since`: when it became pending, fired, or (inactive) resolved. `unknown_since`: since when nothing is concluded; time that passes
    meanwhile does not count for `for`.
    """

    rule: str
    names: Names
    phase: Phase
    since: int
    unknown_since: int | None = None
    id: str = ""
    fired_at: int = 0


class Change(NamedTuple):
    """An alert that fired or resolved. `rule` is None when it is no longer configured."""

    rule: AlertRule | None
    state: AlertState
    reading: Reading


Key = tuple[str, Names]


def upper(n: Decimal, dispersion: Decimal = Decimal(1)) -> Decimal:
    """U(n), the 95 % upper bound of the expectation of which `n` were seen; 2.97 for none."""
    n = max(n, Decimal(0))
    m = EXACT.add(EXACT.divide(n, dispersion), Decimal(1))
    root = EXACT.divide(CONFIDENCE, EXACT.multiply(Decimal(3), EXACT.sqrt(m)))
    base = EXACT.add(EXACT.subtract(Decimal(1), EXACT.divide(Decimal(1), EXACT.multiply(Decimal(9), m))), root)
    cube = EXACT.multiply(EXACT.multiply(base, base), base)
    return EXACT.multiply(dispersion, EXACT.multiply(m, cube))


def cost_reading(rule: AlertRule, spend: Decimal | None, conversions: Decimal) -> Reading:
    """Of a cost per conversion: `spend` (None: none known) and conversions of the window, up to the same cut."""
    if not spend or spend < 0:
        return Reading(known=True, clears=True, ended="spend_ended", conversions=conversions, spend=spend)
    bound = upper(conversions, rule.dispersion)
    return Reading(
        known=True,
        fires=spend > EXACT.multiply(rule.threshold, bound),
        clears=spend < EXACT.multiply(clear_of(rule), conversions),
        value=SHOWN.divide(spend, conversions) if conversions > 0 else None,
        bound=SHOWN.divide(spend, bound),
        conversions=conversions,
        spend=spend,
    )


def plain_reading(rule: AlertRule, value: Decimal | None, volumes: Mapping[str, Decimal]) -> Reading:
    """Of any other metric. Without enough volume it neither fires nor, unless there is none at all, clears."""
    if value is None:
        return GONE
    enough = all(volumes.get(name, Decimal(0)) >= least for name, least in rule.minimum.items())
    nothing = bool(rule.minimum) and not any(volumes.get(name) for name in rule.minimum)
    clear = clear_of(rule)
    beyond, back = (
        (value > rule.threshold, value < clear)
        if rule.direction == "above"
        else (value < rule.threshold, value > clear)
    )
    # With one line for both, to be on it is to be back.
    back = back or (clear == rule.threshold and not beyond)
    return Reading(
        known=True,
        fires=beyond and enough,
        clears=(back and enough) or nothing,
        ended="no_data" if nothing else "cleared",
        value=value,
        bound=value,
    )


def clear_of(rule: AlertRule) -> Decimal:
    """Where it resolves."""
    return rule.threshold if rule.clear is None else rule.clear


def alert_id(rule: str, names: Names, fired_at: int) -> str:
    """The id of one firing."""
    text = json.dumps([rule, *names, fired_at], ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def step(
    state: AlertState | None, rule: AlertRule, names: Names, reading: Reading, now: int
) -> tuple[AlertState | None, bool]:
    """The next state (None: inactive, nothing to keep), and whether it fired or resolved in this step."""
    if state is None:
        if not (reading.known and reading.fires):
            return None, False
        state = AlertState(rule=rule.name, names=names, phase="inactive", since=now)
    if not reading.known:
        if state.phase == "inactive" or state.unknown_since is not None:
            return state, False
        return msgspec.structs.replace(state, unknown_since=now), False
    if state.unknown_since is not None:
        paused = max(0, now - state.unknown_since) if state.phase == "pending" else 0
        state = msgspec.structs.replace(state, unknown_since=None, since=state.since + paused)
    if state.phase == "firing":
        if not reading.clears:
            return state, False
        return msgspec.structs.replace(state, phase="inactive", since=now), True
    if not reading.fires:
        # What was resolved lately stays to be listed; what was only pending leaves nothing behind.
        kept = state.phase == "inactive" and now - state.since < KEPT
        return (state if kept else None), False
    if state.phase == "inactive":
        state = msgspec.structs.replace(state, phase="pending", since=now)
    if now - state.since < micros(rule.for_):
        return state, False
    # By event time two firings can come at one moment: each still has an id of its own.
    fired_at = max(now, state.fired_at + 1)
    fired = alert_id(rule.name, names, fired_at)
    return msgspec.structs.replace(state, phase="firing", since=now, id=fired, fired_at=fired_at), True


def advance(
    rules: Iterable[AlertRule], states: Mapping[Key, AlertState], readings: Mapping[Key, Reading], now: int,
    missing: Reading = GONE,
) -> tuple[dict[Key, AlertState], list[Change]]:  # fmt: skip
    """All rules and scopes by one step. `missing` is the reading of a scope that is known and shows nothing any more."""
    by_name = {rule.name: rule for rule in rules}
    after: dict[Key, AlertState] = {}
    changes: list[Change] = []
    for key in sorted({*states, *readings}):
        state, rule = states.get(key), by_name.get(key[0])
        if rule is None:
            # Nobody asks any more, so nothing has to be known to say that it is over.
            if state is not None and state.phase == "firing":
                reading = GONE._replace(ended="rule_removed")
                changes.append(Change(None, msgspec.structs.replace(state, phase="inactive", since=now), reading))
            continue
        reading = readings.get(key, missing)
        new, changed = step(state, rule, key[1], reading, now)
        if new is not None:
            after[key] = new
            if changed:
                changes.append(Change(rule, new, reading))
    return after, changes
