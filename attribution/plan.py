"""Which samples each name of a level has in each span: what is exported, and how many series that is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from attribution.facts import CONVERSION, TOUCH
from attribution.families import FAMILIES, LEVELS, METRICS, OF_MODELS, THROUGH, Metric, family_name
from attribution.formulas import PURCHASE, Formula, Labels, Which
from attribution.people import most_of_persons
from attribution.rollups import Calendar
from attribution.running import Span
from attribution.windows import CAMPAIGN_TO_DATE, spans
from models.results import REASONS
from models.settings import Marketing

TOTAL, CHANNEL, CAMPAIGN, SOURCE, NOBODY = "total", "channel", "campaign", "source", "nobody"
"""`nobody` is the `(unattributed)` among the channels: it has credit, and customers whom nobody acquired."""

_LETTERS = {level: letter for letter, level in LEVELS.items()} | {NOBODY: "c"}
_GROUPS = {"volumes": "v", "window": "w", "period": "p", "baseline": "b", "day": "d"}
_FAMILY_GROUPS = {"baseline": "baseline", "day": "day"}
_SOME_DAY = 1_800_000_000_000_000
"""Any time does: spans differ in where they lie, not in what they are."""


class Sample(NamedTuple):
    """One sample of each name: its family, how it is computed and of what, and its labels beside those of the level."""

    family: str
    formula: Formula
    which: Which
    labels: Labels


class Plan:
    """The samples under one configuration. `types` are the conversion types, orders first."""

    def __init__(self, marketing: Marketing, types: Iterable[str]) -> None:
        self.types = list(types)
        self._marketing = marketing
        self._samples: dict[tuple[str, str], list[Sample]] = {}
        self._per_family: dict[str, dict[str, int]] = {}

    def samples(self, level: str, span: Span) -> list[Sample]:
        """What each name of `level` has in `span`, as far as it is defined."""
        found = self._samples.get((level, span.name))
        if found is None:
            found = self._samples[level, span.name] = [
                sample for metric in METRICS for sample in self._of(metric, level, span)
            ]
        return found

    def has(self, level: str, span: Span) -> bool:
        """Whether the level is exported in this span."""
        return bool(self.samples(level, span))

    def models(self, span: Span) -> tuple[str, ...]:
        """The models whose ratios are exported."""
        return self._marketing.headline_models[: None if span.whole else 1]

    def bases(self, span: Span) -> tuple[str, ...]:
        """The bases whose credit is exported."""
        return span.window.bases if span.whole and span.window is not None else (CONVERSION,)

    def series(self, level: str, *, paid: bool = True) -> int:
        """The most series that one name of a level can have; of one without any cost when not `paid`. Of `source`, those of all."""
        return sum(n for name, n in self.per_family(level).items() if paid or not FAMILIES[name].paid)

    def per_family(self, level: str) -> dict[str, int]:
        """The same by family."""
        found = self._per_family.get(level)
        if found is None:
            found = self._per_family[level] = {THROUGH: 1} if level == CAMPAIGN else {}
            for span in spans(_SOME_DAY, Calendar(self._marketing.time_zone)).values():
                for sample in self.samples(level, span):
                    found[sample.family] = found.get(sample.family, 0) + 1
            found |= most_of_persons(level, len(self.types))
        return found

    def _of(self, metric: Metric, level: str, span: Span) -> Iterable[Sample]:
        if _LETTERS.get(level, level) not in metric.levels or not self._spans(metric, level, span):
            return
        family = family_name(CHANNEL if level == NOBODY else level, metric.name, _FAMILY_GROUPS.get(span.group, ""))
        money = (("currency", self._marketing.reporting_currency),) if metric.money else ()
        for which in self._which(metric, level, span):
            labels: Labels = ()
            if metric.models in OF_MODELS:
                labels = (("model", which.model), ("basis", which.basis))
            if metric.conversions and metric.models != "hidden":
                labels += (("conversion", which.conversion),)
            if metric.models == "reason":
                labels += (("reason", which.basis),)
            yield Sample(family, metric.formula, which, (*labels, *_when(span), *money))

    def _spans(self, metric: Metric, level: str, span: Span) -> bool:
        if level == NOBODY and metric.models != "all":
            return False
        if span.name == CAMPAIGN_TO_DATE and level != CAMPAIGN:
            return False
        if level == CAMPAIGN and (span.group in _FAMILY_GROUPS or (span.window and not span.window.campaigns)):
            return False
        if "m" in metric.spans:
            return span.whole and TOUCH in self.bases(span)
        if "l" in metric.spans and span.whole and span.granularity != "m":
            return True
        return _GROUPS[span.group] in metric.spans

    def _which(self, metric: Metric, level: str, span: Span) -> Iterable[Which]:
        marketing = self._marketing
        first = marketing.headline_models[:1]
        kinds: Iterable[str] = {
            "": ("",),
            PURCHASE: (PURCHASE,),
            "all": self.types,
            # Elsewhere stages rarely have a value, and a series each costs the budget.
            "valued": self.types if span.whole and level != CAMPAIGN else (PURCHASE,),
            "lead": [kind for kind in self.types if kind == marketing.lead_conversion],
        }[metric.conversions]
        if not metric.models:
            return [Which(conversion=kind) for kind in kinds]
        if metric.models == "reason":
            return [Which("", kind, reason) for kind in kinds for reason in REASONS]
        if metric.models == "hidden":
            return [Which(first[0], PURCHASE, CONVERSION)]
        if metric.models == "first":
            return [Which(first[0], PURCHASE, TOUCH)]
        models = first
        if span.whole:
            every = metric.models == "all" and level != CAMPAIGN
            models = marketing.models if every else marketing.headline_models
        bases = self.bases(span) if level in (TOTAL, CHANNEL) else (CONVERSION,)
        return [Which(model, kind, basis) for basis in bases for model in models for kind in kinds]


def most(marketing: Marketing, channels: int, campaigns: int) -> dict[str, int]:
    """The most series of each family with so many channels (times network) and campaigns, in the order of families."""
    plan = Plan(marketing, [PURCHASE, *sorted(marketing.conversions)])
    found = dict.fromkeys(FAMILIES, 0)
    for level, names in ((TOTAL, 1), (CHANNEL, channels), (NOBODY, 1), (CAMPAIGN, campaigns), (SOURCE, 1)):
        for family, n in plan.per_family(level).items():
            found[family] += n * names
    return {family: n for family, n in found.items() if n}


def _when(span: Span) -> Labels:
    if span.group == "day":
        return (("days_ago", span.name.partition("/")[2]),)
    if span.group == "baseline":
        window, _, period = span.name.partition("/")
        return (("window", window), ("period", period))
    return (("window", span.name),)
