"""What alert rules, goals and benchmarks may name; a wrong name is an error that says the key, and what is there instead."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from attribution.facts import TOUCH
from attribution.families import FAMILIES, LEVEL_LABELS, METRICS, OF_MODELS, PERSONS, family_name
from attribution.formulas import PURCHASE
from attribution.goals import METRIC, OF_PERSONS, SUMS, window_of
from attribution.patterns import level_of
from attribution.people import WINDOWS as PERSONS_WINDOWS
from attribution.plan import Plan
from attribution.rollups import Calendar
from attribution.windows import WINDOWS, spans
from models.errors import ConfigError
from models.settings import AlertRule, Benchmark, Goal, Marketing, micros

_PERSONS_WINDOWS = tuple(name for name, _, _ in PERSONS_WINDOWS)
STATISTICAL = ("cpa",)
"""Metrics that are judged with a confidence bound: cost per conversion."""


_SOME_DAY = 1_800_000_000_000_000
_OF_LEADS = frozenset(metric.name for metric in METRICS if metric.conversions == "lead")
LABELS = frozenset((*LEVEL_LABELS["campaign"], "model", "basis", "conversion", "window", "currency"))
"""What a rule says by its keys. A family with other labels has several rows for one scope and window."""


def family(level: str, metric: str) -> str | None:
    """The exported family of a metric, named with or without its `_ratio`; None when there is none with one row for a scope of this level."""
    names = (f"parcours_{level}_{metric}", f"parcours_{level}_{metric}_ratio")
    return next((name for name in names if name in FAMILIES and _one_row(name)), None)


def labels_of(rule: AlertRule, marketing: Marketing, name: str) -> dict[str, str]:
    """The labels beside the level's that a rule asks a family for; a cost per lead is always of the conversion that is the lead."""
    lead = rule.conversion == PURCHASE and FAMILIES[name].metric in _OF_LEADS
    return {
        "model": rule.model or marketing.headline_models[0],
        "basis": rule.basis,
        "conversion": marketing.lead_conversion if lead else rule.conversion,
        "window": rule.window,
    }


def of_persons(name: str) -> bool:
    """Whether a family is told of persons: of fewer windows, or, of customers, of none."""
    return FAMILIES[name].metric in PERSONS


def _one_row(name: str) -> bool:
    found = FAMILIES[name]
    return found.type == "gauge" and LABELS.issuperset(found.labels)


def metrics(level: str) -> list[str]:
    """The metrics of a level."""
    start = f"parcours_{level}_"
    found = [name for name in FAMILIES if name.startswith(start) and _one_row(name)]
    return sorted(name.removeprefix(start).removesuffix("_ratio") for name in found)


def check(marketing: Marketing) -> None:
    """Raises ConfigError for the first rule, goal or benchmark that can't be meant."""
    samples = _Samples(marketing)
    for i, rule in enumerate(marketing.alerts):
        _rule(marketing, samples, rule, f"alerts[{i}]")
    for i, goal in enumerate(marketing.goals):
        _goal(marketing, goal, f"goals[{i}]")
    for i, benchmark in enumerate(marketing.benchmarks):
        _benchmark(benchmark, f"benchmarks[{i}]")
    for topic in ("clicks", "touchpoints", "purchases", "costs"):
        micros(getattr(marketing.silence, topic))


class _Samples:
    """What is exported under a configuration, for rules to be held against."""

    def __init__(self, marketing: Marketing) -> None:
        self._marketing = marketing
        self._plan = Plan(marketing, [PURCHASE, *sorted(marketing.conversions)])
        self._spans = spans(_SOME_DAY, Calendar(marketing.time_zone))

    def check(self, rule: AlertRule, level: str, name: str, metric: str, at: str, key: str = "") -> None:
        """Raises ConfigError when a rule asks a family for what never has a sample. `key` is the one in `at` that names the metric, if it is not `metric`."""
        if of_persons(name):
            return
        found = {window.name: self._labels(level, window.name, name) for window in WINDOWS}
        if not any(found.values()):
            lead = self._marketing.lead_conversion
            raise ConfigError(
                f"{at}.{key or 'metric'}: {metric} is of lead_conversion, and {lead!r} is not in [conversions]"
            )
        kept = found[rule.window]
        if not kept:
            fits = ", ".join(window for window, some in found.items() if some)
            raise ConfigError(
                f"{at}.{key or 'window'}: {metric} is not exported for window {rule.window!r}; there is {fits}"
            )
        for label, wanted in labels_of(rule, self._marketing, name).items():
            known = dict.fromkeys(one[label] for one in kept if label in one)
            if known and wanted not in known:
                fits = ", ".join(known)
                raise ConfigError(
                    f"{at}.{key or label}: {metric} is not exported for {label} {wanted!r}; there is {fits}"
                )
            kept = [one for one in kept if one.get(label, wanted) == wanted]

    def _labels(self, level: str, window: str, name: str) -> list[dict[str, str]]:
        return [
            dict(sample.labels) for sample in self._plan.samples(level, self._spans[window]) if sample.family == name
        ]


def _rule(marketing: Marketing, samples: _Samples, rule: AlertRule, at: str) -> None:
    level = level_of(rule)
    name = family(level, rule.metric)
    if name is None:
        raise ConfigError(
            f"{at}.metric: {rule.metric!r} is no metric of level {level}{_near(rule.metric, metrics(level))}"
        )
    window = next((window for window in WINDOWS if window.name == rule.window), None)
    if window is None or (level == "campaign" and not window.campaigns):
        names = ", ".join(w.name for w in WINDOWS if w.campaigns or level != "campaign")
        raise ConfigError(f"{at}.window: {rule.window!r} is no window of level {level}; there are {names}")
    if of_persons(name) and rule.window not in _PERSONS_WINDOWS:
        raise ConfigError(f"{at}.window: {rule.metric} is told of persons; there are {', '.join(_PERSONS_WINDOWS)}")
    if rule.basis == TOUCH and (level == "campaign" or TOUCH not in window.bases):
        names = ", ".join(w.name for w in WINDOWS if TOUCH in w.bases)
        raise ConfigError(f"{at}.basis: the touch basis is for {names} and not for campaigns")
    _model(marketing, rule, at)
    samples.check(rule, level, name, rule.metric, at)
    for name, value in (("threshold", rule.threshold), ("clear", rule.clear), ("dispersion", rule.dispersion)):
        if value is not None and not value.is_finite():
            raise ConfigError(f"{at}.{name}: {value} is no amount")
    if (
        rule.clear is not None
        and rule.clear != rule.threshold
        and (rule.clear > rule.threshold) == (rule.direction == "above")
    ):
        side = "below" if rule.direction == "above" else "above"
        raise ConfigError(
            f"{at}.clear: {rule.clear} is not {side} the threshold {rule.threshold}; it would resolve as it fires"
        )
    for metric in rule.minimum:
        least = family(level, metric)
        if least is None:
            raise ConfigError(f"{at}.minimum.{metric}: no metric of level {level}{_near(metric, metrics(level))}")
        samples.check(rule, level, least, metric, at, f"minimum.{metric}")
    micros(rule.for_)
    if rule.metric in STATISTICAL:
        if rule.direction != "above":
            raise ConfigError(f"{at}.direction: {rule.metric} fires when it is above its threshold")
        if rule.threshold <= 0:
            raise ConfigError(f"{at}.threshold: {rule.threshold} is not above 0")
        if rule.minimum:
            raise ConfigError(f"{at}.minimum: {rule.metric} needs none; its confidence bound asks for enough by itself")
        if rule.dispersion < 1:
            raise ConfigError(f"{at}.dispersion: {rule.dispersion} is below 1")
    elif rule.dispersion != 1:
        raise ConfigError(f"{at}.dispersion: it is for {', '.join(STATISTICAL)} alone")


def _goal(marketing: Marketing, goal: Goal, at: str) -> None:
    level, metric = level_of(goal), METRIC.get(goal.metric)
    persons = OF_PERSONS.get(goal.metric)
    if metric is None and persons is None:
        known = (*METRIC, *OF_PERSONS)
        raise ConfigError(f"{at}.metric: {goal.metric!r} is no metric of goals{_near(goal.metric, known)}")
    if goal.deadline < goal.start:
        raise ConfigError(f"{at}.deadline: {goal.deadline} is before the start {goal.start}")
    for name, value in (("target", goal.target), ("baseline", goal.baseline)):
        if value is not None and not value.is_finite():
            raise ConfigError(f"{at}.{name}: {value} is no amount")
    if goal.metric in SUMS:
        if goal.target <= 0:
            raise ConfigError(f"{at}.target: {goal.target} is not above 0, where a sum starts")
        if goal.baseline is not None:
            raise ConfigError(f"{at}.baseline: {goal.metric} is a sum and starts from 0; leave it out")
    elif goal.baseline not in (None, goal.target) and (goal.target > goal.baseline) != (goal.direction == "up"):
        raise ConfigError(f"{at}.direction: from {goal.baseline} to {goal.target} is not {goal.direction}")
    name = family_name(level, metric.name if metric is not None else persons or "")
    if name not in FAMILIES:
        if metric is not None and metric.levels == "t":
            raise ConfigError(f"{at}.metric: {goal.metric} is of all orders; leave out channel, network and campaign")
        raise ConfigError(f"{at}.metric: {goal.metric} is no metric of level {level}")
    if micros(goal.window) < micros("1d"):
        raise ConfigError(f"{at}.window: {goal.window} is shorter than a day")
    if persons is not None:
        if "window" in FAMILIES[name].labels and window_of(goal) is None:
            raise ConfigError(f"{at}.window: {goal.metric} is told of persons; there are {', '.join(_PERSONS_WINDOWS)}")
        if goal.baseline is None:
            raise ConfigError(f"{at}.baseline: what was told of persons before the start is not known later; give it")
    elif metric is not None and metric.models in OF_MODELS:
        _model(marketing, goal, at)


def _model(marketing: Marketing, item: AlertRule | Goal, at: str) -> None:
    if item.model is not None and item.model not in marketing.headline_models:
        raise ConfigError(
            f"{at}.model: {item.model!r} is not among headline_models: {', '.join(marketing.headline_models)}"
        )
    kinds = (PURCHASE, *marketing.conversions)
    if item.conversion not in kinds:
        raise ConfigError(f"{at}.conversion: {item.conversion!r} is none of {', '.join(kinds)}; see [conversions]")


def _benchmark(benchmark: Benchmark, at: str) -> None:
    level = "total" if benchmark.network is None else "channel"
    if family(level, benchmark.metric) is None:
        raise ConfigError(
            f"{at}.metric: {benchmark.metric!r} is no metric of level {level}{_near(benchmark.metric, metrics(level))}"
        )
    if not benchmark.value.is_finite():
        raise ConfigError(f"{at}.value: {benchmark.value} is no amount")


def _near(name: str, known: Iterable[str]) -> str:
    found = get_close_matches(name, sorted(known), 1)
    return f"; did you mean {found[0]!r}? docs/metrics.md lists them" if found else "; docs/metrics.md lists them"
