"""What the live page asks for, as JSON, from the rows that `/metrics` exports.

`Figures` are one snapshot of the exporter's rows, put in order once and only when someone asks; every answer is made from them. Values are decimal
strings, exactly those of `/metrics`; what is undefined is absent.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from functools import cache
from typing import Any, NamedTuple

import orjson

from attribution.families import THROUGH, Row, plain
from attribution.filing import NOBODY
from attribution.formulas import PURCHASE
from attribution.windows import WINDOWS
from models.errors import ConfigError
from models.settings import Marketing

LEVELS = {"total": (), "channel": ("channel", "network"), "campaign": ("channel", "network", "campaign")}
BEHIND_MAX = 20
"""Campaigns named whose cost is known least far."""

_PERIODS = ("today", "yesterday", "month_to_date", "last_month", "365d")
_ORDER = {name: i for i, name in enumerate((*(window.name for window in WINDOWS), *_PERIODS))}
_DEFAULT_WINDOW = "7d"
_FAMILY = re.compile(r"^parcours_(day_)?(total|channel|campaign)_(\w+?)(_baseline)?$")
_STATES = re.compile(r"^parcours_(alert|goal)_(\w+)$")
_PROBLEM = "parcours_pipeline_problem"
_CREDIT = "attributed_conversions"

Json = dict[str, Any]
Names = tuple[str, ...]


class Snapshot(NamedTuple):
    """The exporter's rows at `end` (µs), in blocks that do not change: one that comes again is the same list. A higher `number` is newer."""

    number: int
    end: int
    blocks: list[list[Row]]


class States(NamedTuple):
    """The rows of alerts and goals. `number` tells when one has turned."""

    number: int
    rows: list[Row]


class Sample(NamedTuple):
    """One row of a level: of `kind` window, baseline or day."""

    level: str
    kind: str
    metric: str
    labels: dict[str, str]
    value: str


class Selection(NamedTuple):
    """What is looked at."""

    window: str
    basis: str
    model: str
    conversion: str


class Wanted(NamedTuple):
    """What a reader asks for; None is the default."""

    window: str | None = None
    basis: str | None = None
    model: str | None = None
    conversion: str | None = None

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Wanted:
        return cls(*(query.get(name) or None for name in cls._fields))


class Figures:
    """One snapshot in order: samples by level, kind and window. Built in a thread; `before` spares what has not changed."""

    def __init__(self, snapshot: Snapshot, marketing: Marketing, before: Figures | None = None) -> None:
        self.snapshot = snapshot
        self._marketing = marketing
        self._samples: dict[tuple[str, str, str], list[Sample]] = {}
        self._through: list[tuple[float, Names]] = []
        self.combinations: dict[tuple[str, str, str], set[str]] = {}
        """(window, basis, model) to the conversion types of the totals: all that can be looked at."""
        known = before._read if before is not None else {}
        # The block is kept beside what was read of it, so that no other can have its identity.
        self._read: dict[int, tuple[list[Row], list[Sample]]] = {}
        for block in snapshot.blocks:
            found = known.get(id(block)) or (block, _samples(block))
            self._read[id(block)] = found
            for sample in found[1]:
                self._add(sample)

    def _add(self, sample: Sample) -> None:
        is_ = sample.labels
        if sample.kind == "through":
            self._through.append((float(sample.value), tuple(is_[name] for name in LEVELS["campaign"])))
            return
        self._samples.setdefault((sample.level, sample.kind, is_.get("window", "")), []).append(sample)
        if sample.level == "total" and sample.kind == "window" and sample.metric == _CREDIT:
            self.combinations.setdefault((is_["window"], is_["basis"], is_["model"]), set()).add(is_["conversion"])

    def select(self, wanted: Wanted) -> Selection:
        """The nearest to what is asked for that is exported. Raises ConfigError for a value that is never any."""
        marketing = self._marketing
        windows = self.windows()
        known: dict[str, list[str]] = {
            "window": windows or list(_ORDER),
            "basis": ["conversion", "touch"],
            "model": list(marketing.models),
            "conversion": self.conversions(),
        }
        for name, value in wanted._asdict().items():
            if value is not None and value not in known[name]:
                raise ConfigError(f"{name}: {value!r} is none of {', '.join(known[name])}")
        window = wanted.window or (_DEFAULT_WINDOW if _DEFAULT_WINDOW in known["window"] else known["window"][0])
        basis = _nearest(wanted.basis, self.bases(window), "conversion")
        model = _nearest(wanted.model, self.models(window, basis), marketing.headline_models[0])
        return Selection(window, basis, model, wanted.conversion or PURCHASE)

    def windows(self) -> list[str]:
        """Those that have credit, in order of length."""
        found = {window for window, _, _ in self.combinations}
        return sorted(found, key=lambda name: (_ORDER.get(name, len(_ORDER)), name))

    def bases(self, window: str) -> list[str]:
        return sorted({basis for of, basis, _ in self.combinations if of == window})

    def models(self, window: str, basis: str) -> list[str]:
        """Those exported there, in the configured order."""
        return [name for name in self._marketing.models if (window, basis, name) in self.combinations]

    def conversions(self) -> list[str]:
        """Conversion types, orders first."""
        found = set().union(*self.combinations.values()) | set(self._marketing.conversions)
        return [PURCHASE, *sorted(found - {PURCHASE})]

    def overview(self, wanted: Wanted, states: States) -> Json:
        """The page but for its drill-down: totals, channels, days, goals, alerts, and how current all of it is."""
        marketing, chosen = self._marketing, self.select(wanted)
        channels = self.level("channel", chosen)
        total = self.level("total", chosen).get((), {})
        days: dict[Names, dict[str, list[str | None]]] = self._days("channel", chosen)
        return {
            "version": self.snapshot.number,
            "as_of": self.snapshot.end / 1e6,
            "currency": marketing.reporting_currency,
            "time_zone": marketing.time_zone,
            "selection": chosen._asdict(),
            "choices": {
                "window": self.windows(),
                "basis": self.bases(chosen.window),
                "model": self.models(chosen.window, chosen.basis),
                "conversion": self.conversions(),
                "headline": list(marketing.headline_models),
            },
            "total": total,
            "baseline": self._baselines(chosen),
            "unattributed": self._unattributed(chosen),
            "days": self._days("total", chosen).get((), {}),
            "channels": [
                _named("channel", names) | {"values": values, "days": days.get(names, {})}
                for names, values in sorted(channels.items())
            ],
            "claims": [
                _named("channel", names) | found
                for names, values in sorted(channels.items())
                if (found := _claims(values))
            ],
            "cost_through": self._cost_through(),
            **_standing(states, marketing),
        }

    def channel(self, wanted: Wanted, channel: str, network: str) -> Json:
        """One row drilled down: its campaigns, and the credit it has under each model."""
        chosen, names = self.select(wanted), (channel, network)
        campaigns = self.level("campaign", chosen, only=names)
        shared = ("window", "basis", "conversion")
        models: dict[str, dict[str, str]] = {}
        for _, _, metric, is_, value in self._samples.get(("channel", "window", chosen.window), ()):
            if (is_["channel"], is_["network"]) == names and "model" in is_ and _agrees(is_, chosen, shared):
                models.setdefault(is_["model"], {})[metric] = value
        return {
            "version": self.snapshot.number,
            "selection": chosen._asdict(),
            **_named("channel", names),
            "models": {model: models[model] for model in self._marketing.models if model in models},
            "campaigns": [
                {"campaign": found[2], "values": values} for found, values in sorted(campaigns.items())
            ],
            # Of campaigns less is exported: say whether there is any, so that none is not taken for nothing.
            "campaigns_exported": ("campaign", "window", chosen.window) in self._samples and chosen.basis == "conversion",
        }  # fmt: skip

    def level(self, level: str, chosen: Selection, only: Names = ()) -> dict[Names, dict[str, str]]:
        """Each name of a level to its metrics as selected; `only` those that begin with these names."""
        found: dict[Names, dict[str, str]] = {}
        for _, _, metric, is_, value in self._samples.get((level, "window", chosen.window), ()):
            names = tuple(is_[name] for name in LEVELS[level])
            if names[: len(only)] == only and "reason" not in is_ and _agrees(is_, chosen, Selection._fields):
                found.setdefault(names, {})[metric] = value
        return found

    def _unattributed(self, chosen: Selection) -> dict[str, str]:
        """Conversions that no touch is credited for, by reason; without those of which there are none."""
        return {
            is_["reason"]: value
            for _, _, _, is_, value in self._samples.get(("total", "window", chosen.window), ())
            if "reason" in is_ and value != "0" and _agrees(is_, chosen, Selection._fields)
        }

    def _baselines(self, chosen: Selection) -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = {}
        for _, _, metric, is_, value in self._samples.get(("total", "baseline", chosen.window), ()):
            if _agrees(is_, chosen, Selection._fields):
                found.setdefault(is_["period"], {})[metric] = value
        return found

    def _days(self, level: str, chosen: Selection) -> dict[Names, dict[str, list[str | None]]]:
        """Each name's metrics by day, the oldest first and today last, as known now (under the first headline model)."""
        found: dict[Names, dict[str, dict[int, str]]] = {}
        longest = 0
        for _, _, metric, is_, value in self._samples.get((level, "day", ""), ()):
            if _agrees(is_, chosen, ("conversion",)):
                ago = int(is_["days_ago"])
                longest = max(longest, ago)
                names = tuple(is_[name] for name in LEVELS[level])
                found.setdefault(names, {}).setdefault(metric, {})[ago] = value
        order = range(longest, -1, -1)
        return {
            names: {metric: [by_day.get(ago) for ago in order] for metric, by_day in metrics.items()}
            for names, metrics in found.items()
        }

    def _cost_through(self) -> Json:
        ends = sorted(self._through)
        behind = [_named("campaign", names) | {"t": t} for t, names in ends[:BEHIND_MAX]]
        return {"earliest": ends[0][0], "latest": ends[-1][0], "behind": behind} if ends else {}


class Api:
    """The answers of the live page, made in a thread: the loop that works the stream only hands them out.

    `snapshot` gives the exporter's latest rows, None while there are none. Its figures are made once, by the first who asks for them.
    """

    def __init__(
        self, snapshot: Callable[[], Snapshot | None], states: Callable[[], States], marketing: Marketing
    ) -> None:
        self._snapshot = snapshot
        self._states = states
        self._marketing = marketing
        self._figures: Figures | None = None
        self._building = asyncio.Lock()

    async def overview(self, wanted: Wanted) -> bytes | None:
        """See `Figures.overview`; None while there are none. Raises ConfigError for what cannot be asked."""
        states = self._states()
        return await self._answer(lambda figures: figures.overview(wanted, states))

    async def channel(self, wanted: Wanted, channel: str, network: str) -> bytes | None:
        """See `Figures.channel`."""
        return await self._answer(lambda figures: figures.channel(wanted, channel, network))

    async def _answer(self, make: Callable[[Figures], Json]) -> bytes | None:
        figures = await self._current()
        return None if figures is None else await asyncio.to_thread(lambda: orjson.dumps(make(figures)))

    async def _current(self) -> Figures | None:
        async with self._building:
            snapshot = self._snapshot()
            if snapshot is None:
                self._figures = None
            elif self._figures is None or self._figures.snapshot is not snapshot:
                self._figures = await asyncio.to_thread(Figures, snapshot, self._marketing, self._figures)
            return self._figures


def _samples(block: list[Row]) -> list[Sample]:
    found = []
    for family, labels, value in block:
        if family == THROUGH:
            found.append(Sample("campaign", "through", "", dict(labels), plain(value)))
        elif (parsed := _parsed(family)) is not None:
            found.append(Sample(*parsed, dict(labels), plain(value)))
    return found


def _standing(states: States, marketing: Marketing) -> Json:
    """Alerts and goals, each with its values and the metric it is of, and what keeps alerts from being judged."""
    found: dict[str, dict[tuple[str, ...], Json]] = {"alert": {}, "goal": {}}
    undecided = []
    metrics = {("alert", rule.name): rule.metric for rule in marketing.alerts}
    metrics |= {("goal", goal.name): goal.metric for goal in marketing.goals}
    for family, labels, value in states.rows:
        is_ = dict(labels)
        if family == _PROBLEM and value:
            undecided.append(is_["problem"])
        elif (match := _STATES.match(family)) and (name := is_.get("rule") or is_.get("goal")):
            one = found[match[1]].setdefault(
                tuple(is_.values()), {"labels": is_, "metric": metrics.get((match[1], name), "")}
            )
            one[match[2]] = plain(value)
    ordered = {kind: [one for _, one in sorted(by_key.items())] for kind, by_key in found.items()}
    return {"alerts": ordered["alert"], "goals": ordered["goal"], "undecided": undecided}


@cache
def _parsed(family: str) -> tuple[str, str, str] | None:
    """Level, kind and metric of a family of a level; None of any other."""
    match = _FAMILY.match(family)
    if match is None:
        return None
    return match[2], "day" if match[1] else "baseline" if match[4] else "window", match[3]


def _agrees(labels: Mapping[str, str], chosen: Selection, names: Iterable[str]) -> bool:
    """Whether a sample is of what is selected, as far as it has these labels."""
    return all(name not in labels or labels[name] == getattr(chosen, name) for name in names)


def _nearest(wanted: str | None, there: list[str], default: str) -> str:
    if wanted in there and wanted is not None:
        return wanted
    return default if default in there or not there else there[0]


def _claims(values: Mapping[str, str]) -> Json:
    """What a network claims of purchases, what the first headline model credits it with on the conversion basis, and the difference."""
    found = {}
    for what in ("conversions", "value"):
        claimed, more = values.get(f"platform_{what}"), values.get(f"platform_{what}_difference")
        if claimed is not None and more is not None:
            credited = plain(Decimal(claimed) - Decimal(more))
            found[what] = {"claimed": claimed, "credited": credited, "difference": more}
    return found


def _named(level: str, names: Names) -> Json:
    return dict(zip(LEVELS[level], names, strict=True)) | ({"unattributed": True} if names[:1] == NOBODY[:1] else {})
