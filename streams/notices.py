"""What alerts and goals look like outside: notices with their links, and metric families."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import NamedTuple
from urllib.parse import urlencode

import msgspec

from attribution.alerting import AlertState, Change, Key, Reading, clear_of
from attribution.families import LEVEL_LABELS, Family, Row, plain
from attribution.formulas import Labels
from attribution.goals import Standing
from attribution.outcome import moment
from models.results import Alert, Links
from models.settings import AlertRule, Marketing
from streams.pipeline import PROBLEMS

ALERT_SCOPES = 2000
"""Rules × scopes exported at most: those that fire, then those that are pending, then the rest by name."""

ALERT_LABELS = ("rule", "severity", "team", *LEVEL_LABELS["campaign"])
_FAMILIES: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("alert_active", ALERT_LABELS, "1 while the alert fires; it stays so while unknown."),
    ("alert_value", ALERT_LABELS, "The metric that the rule looks at, as it is now."),
    ("alert_threshold", ALERT_LABELS, "The rule's threshold."),
    ("alert_bound", ALERT_LABELS, "What is compared with it: of a cost per conversion, the value that the true one is above with 95 % confidence."),
    ("alert_unknown", ALERT_LABELS, "1 while the pipeline or the cost does not let anything be concluded: it neither fires nor resolves."),
    ("alerts_evaluated_timestamp_seconds", (), "When the alert rules were last evaluated."),
    ("pipeline_problem", ("problem",), "1 while this keeps alerts on cost per conversion unknown."),
    ("goal_progress_ratio", ("goal",), "The share of the way to the target that has been made; 1 is reached."),
    ("goal_expected_ratio", ("goal",), "The share that should have been made by now."),
    ("goal_value", ("goal",), "The goal's metric as it is now."),
    ("goal_target", ("goal",), "The goal's target."),
    ("goal_projected", ("goal",), "The metric at the deadline if it goes on as so far."),
    ("goal_on_track", ("goal",), "1 when the metric is where it should be by now, or better."),
    ("benchmark", ("benchmark", "metric", "network"), "A configured figure to compare with."),
)  # fmt: skip
BOARD = {f"parcours_{name}": Family("gauge", text, labels, "", "", "", False) for name, labels, text in _FAMILIES}
"""Every family of `rows`: type and help."""


RUNBOOKS = ("cpa", "roas", "roi_on_revenue", "roi", "attributed_conversions", "visits", "orders")
"""Metrics with a section of their own in the runbook of docs/alerts.md."""


class Link(NamedTuple):
    """Where dashboards and runbooks are. `model`: the default model of rules."""

    dashboard: str | None
    runbook: str
    model: str

    def to(self, metric: str, one: Mapping[str, str | None], runbook: str | None) -> Links:
        """The links of an alert; `one` has the dashboard's variables."""
        dashboard = None
        if self.dashboard:
            query = urlencode([(f"var-{name}", text) for name, text in one.items() if text is not None])
            dashboard = f"{self.dashboard}{'&' if '?' in self.dashboard else '?'}{query}"
        known = metric.removesuffix("_ratio")
        anchor = known.replace("_", "-") if known in RUNBOOKS else "other-metrics"
        return Links(dashboard=dashboard, runbook=runbook or f"{self.runbook}#{anchor}")


def notice(
    change: Change,
    before: Alert | None,
    marketing: Marketing,
    now: int,
    lag: int | None,
    link: Link,
    *,
    test: bool = False,
) -> Alert:
    """What is said of an alert that fired or resolved at `now`. `before`: what was said when it fired.

    Raises ValueError when its rule is gone and nothing was said before.
    """
    state, reading, rule = change.state, change.reading, change.rule
    firing = state.phase == "firing"
    figures = {
        "value": _text(reading.value),
        "bound": _text(reading.bound),
        "conversions": _text(reading.conversions),
        "spend": _text(reading.spend),
        "maturity": _text(reading.maturity),
        "cost_through": None if reading.cost_through is None else moment(reading.cost_through),
        "lag": lag,
    }
    if rule is None:
        if before is None:
            raise ValueError(f"nothing is known of {state.rule}")
        ended = {"status": "resolved", "reason": reading.ended, "resolved_at": moment(now)}
        return msgspec.structs.replace(before, **figures, **ended)
    names = dict(zip(LEVEL_LABELS["campaign"], (name or None for name in state.names), strict=True))
    shown = {"window": rule.window, "model": rule.model or link.model, "conversion": rule.conversion, **names}
    return Alert(
        id=state.id,
        rule=rule.name,
        status="firing" if firing else "resolved",
        reason="test" if test else "threshold" if firing else reading.ended,
        severity=rule.severity,
        team=rule.team,
        metric=rule.metric,
        basis=rule.basis,
        threshold=plain(rule.threshold),
        clear=plain(clear_of(rule)),
        currency=marketing.reporting_currency,
        fired_at=moment(state.fired_at),
        resolved_at=None if firing else moment(now),
        links=link.to(rule.metric, shown, rule.runbook),
        config=marketing.digest(),
        test=test,
        **shown,  # type: ignore[arg-type]
        **figures,  # type: ignore[arg-type]
    )


def _text(value: Decimal | None) -> str | None:
    return None if value is None else plain(value)


def rows(
    marketing: Marketing, readings: Mapping[Key, Reading], states: Mapping[Key, AlertState],
    standings: Mapping[str, Standing], problems: Mapping[str, bool], evaluated: float,
) -> list[Row]:  # fmt: skip
    """All samples of `BOARD`."""
    found = [
        row for key, rule in _shown(marketing.alerts, readings, states) for row in _alert(rule, key, readings, states)
    ]
    found.append(Row("parcours_alerts_evaluated_timestamp_seconds", (), Decimal(int(evaluated * 1000)).scaleb(-3)))
    found += [
        Row("parcours_pipeline_problem", (("problem", name),), int(problems.get(name, False))) for name in PROBLEMS
    ]
    targets = {goal.name: goal.target for goal in marketing.goals}
    for name, target in targets.items():
        found += _goal(name, target, standings.get(name))
    for one in marketing.benchmarks:
        labels = (("benchmark", one.name), ("metric", one.metric), ("network", one.network or ""))
        found.append(Row("parcours_benchmark", labels, one.value))
    return found


def _shown(
    rules: Iterable[AlertRule], readings: Mapping[Key, Reading], states: Mapping[Key, AlertState]
) -> list[tuple[Key, AlertRule]]:
    by_name = {rule.name: rule for rule in rules}
    order = {"firing": 0, "pending": 1, "inactive": 2}
    keys = [key for key in {*readings, *states} if key[0] in by_name]
    keys.sort(key=lambda key: (order[states[key].phase] if key in states else 2, key))
    return [(key, by_name[key[0]]) for key in keys[:ALERT_SCOPES]]


def _alert(
    rule: AlertRule, key: Key, readings: Mapping[Key, Reading], states: Mapping[Key, AlertState]
) -> Iterable[Row]:
    reading, state = readings.get(key), states.get(key)
    names = zip(LEVEL_LABELS["campaign"], key[1], strict=True)
    labels: Labels = (("rule", rule.name), ("severity", rule.severity), ("team", rule.team), *names)
    yield Row("parcours_alert_active", labels, int(state is not None and state.phase == "firing"))
    yield Row("parcours_alert_threshold", labels, rule.threshold)
    if reading is not None and reading.value is not None:
        yield Row("parcours_alert_value", labels, reading.value)
    if reading is not None and reading.bound is not None:
        yield Row("parcours_alert_bound", labels, reading.bound)
    unknown = (reading is not None and not reading.known) or (state is not None and state.unknown_since is not None)
    yield Row("parcours_alert_unknown", labels, int(unknown))


def _goal(name: str, target: Decimal, standing: Standing | None) -> Iterable[Row]:
    labels: Labels = (("goal", name),)
    yield Row("parcours_goal_target", labels, target)
    if standing is None:
        return
    yield Row("parcours_goal_expected_ratio", labels, standing.expected)
    for family, value in (
        ("progress_ratio", standing.progress), ("value", standing.value), ("projected", standing.projected),
    ):  # fmt: skip
        if value is not None:
            yield Row(f"parcours_goal_{family}", labels, value)
    if standing.on_track is not None:
        yield Row("parcours_goal_on_track", labels, int(standing.on_track))
