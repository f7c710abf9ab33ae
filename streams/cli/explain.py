"""A journey in words: what each touch event was taken as, and why a conversion's credit went where it did."""

from __future__ import annotations

from decimal import Decimal

from msgspec import Struct, field

from attribution.eligible import file_credit
from attribution.filters import DUPLICATE, FAST, duplicate_clicks, names
from attribution.nodes.state import Conversion, Filed, JourneyEvent, Person
from attribution.outcome import describe, moment
from attribution.rules import Rules
from attribution.touches import merge
from models.results import Attribution, Credit
from models.settings import Marketing
from models.wire import CLASS_NAMES, CLICK, DIRECT, STAGE, VIEW, VISIT, kind_and_sentiment
from streams.cli.belongs import Exchanged, LinkSeen, exchanged, links, shared
from streams.cli.common import ago

_REASONS = {
    "no_touch_known": "no touch of this person is known before it",
    "touches_trimmed": "the touches that could have earned it were cut from a journey grown too long",
    "no_consent": "the touches before it came without consent",
    "filtered": "the touches before it were filtered out or excluded",
    "outside_window": "every touch before it is older than its lookback window",
}
_WHY = {
    "first_touch": "it is the first of {n} eligible touches",
    "last_touch": "it is the last of {n} eligible touches",
    "last_non_direct": "it is the last eligible touch that is not direct",
}


class Seen(Struct, kw_only=True):
    """A touch event of a journey. `taken_as`: touch, landing, same visit, stage, or filtered, by which filter. `device`: it came through."""

    event_id: str
    occurred_at: str
    t: int
    touch_class: str = field(name="class")
    kind: str
    channel: str
    network: str
    campaign: str
    taken_as: str
    device: str | None = None


class Part(Struct, kw_only=True):
    """A touch's share of a conversion under one model."""

    touch_id: str
    channel: str
    network: str
    campaign: str
    conversions: str
    revenue: str
    percent: str


class Considered(Struct, kw_only=True):
    """A touch before a conversion: how old it was, how old it might have been, and what it was found to be."""

    touch_id: str
    age: str
    window: str
    verdict: str


class Told(Struct, kw_only=True):
    """A conversion, its credits by model, and one sentence that says why."""

    conversion_id: str
    type: str
    name: str
    occurred_at: str
    t: int
    status: str
    reason: str | None
    gross: str
    net: str
    credits: dict[str, list[Part]]
    sentence: str
    touches: list[Considered] = []


class Journey(Struct, kw_only=True):
    """One person, for the screen or `--json`."""

    person: str
    currency: str
    touches: list[Seen]
    conversions: list[Told]
    links: list[LinkSeen] = []
    shared: bool = False
    exchanged: list[Exchanged] = []
    truncated: str | None = None
    """Of a journey that grew too long: the time up to which touches are gone."""


def explain(key: str, person: Person, marketing: Marketing) -> Journey:
    """The journey of the person `key` under its partition's configuration."""
    rules = Rules(marketing)
    merged = merge(person.events, rules.duplicate_clicks)
    repeated = {event.event_id for event in duplicate_clicks(person.events, rules.duplicate_clicks)}
    touches = {touch.event_id for touch in merged.touches}
    visits = {event_id for _, _, event_id, _ in merged.visits}
    told = []
    for conversion in person.conversions:
        attribution = describe(key, conversion, marketing.reporting_currency)
        told.append(_told(person, merged.touches, conversion, attribution, rules, marketing.headline_models[0]))
    return Journey(
        person=key,
        currency=marketing.reporting_currency,
        touches=[
            _seen(event, touches, visits, repeated, person.given.touches.get(event.event_id) if person.given else None)
            for event in person.events
        ],
        conversions=told,
        links=links(person),
        shared=shared(person, marketing),
        exchanged=exchanged(person),
        truncated=None if person.trimmed is None else moment(person.trimmed),
    )


def _seen(
    event: JourneyEvent, touches: set[str], visits: set[str], repeated: set[str], device: str | None
) -> Seen:  # fmt: skip
    if event.flags:
        taken = "filtered: " + ", ".join(names(event.flags))
    elif event.event_id in repeated:
        taken = f"filtered: {DUPLICATE}"
    elif event.cls == STAGE:
        taken = "stage"
    elif event.event_id in touches:
        taken = "touch"
    else:
        # A visit that starts a chain and is no touch has a click that it is the landing of.
        taken = "landing" if event.event_id in visits else "same visit"
    channel, network, campaign = event.dims
    return Seen(
        event_id=event.event_id, occurred_at=moment(event.t), t=event.t, touch_class=CLASS_NAMES[event.cls],
        kind=kind_and_sentiment(event.kind)[0], channel=channel, network=network, campaign=campaign, taken_as=taken, device=device,
    )  # fmt: skip


def _told(
    person: Person, touches: list[JourneyEvent], conversion: Conversion, found: Attribution, rules: Rules, model: str
) -> Told:
    credits = {name: [_part(credit) for credit in shares] for name, shares in found.credits.items()}
    name = conversion.id[2:]
    told = Told(
        conversion_id=conversion.id, type=conversion.type, name=name, occurred_at=found.occurred_at, t=conversion.t,
        status=found.status, reason=found.reason, gross=found.revenue_gross, net=found.revenue_net, credits=credits,
        sentence="",
    )  # fmt: skip
    subject = f"{conversion.type} {name}"
    if conversion.gone is not None:
        told.sentence = f"{subject} counts no more ({conversion.gone}), so no touch is credited."
        return told
    # What was filed is what counts; until it is, what would be.
    filed = conversion.filed or file_credit(person, touches, conversion, rules)
    told.touches = _considered(touches, conversion, filed, rules)
    passed = _passed_over(touches, conversion, filed, rules)
    if filed.reason is not None:
        told.sentence = f"{subject} is (unattributed): {_REASONS.get(filed.reason, filed.reason)}{passed}."
        return told
    shares = credits.get(model, [])
    if len(shares) == 1:
        why = _WHY.get(model, "it is the only eligible touch").format(n=len(filed.touches))
        why = "it is the only eligible touch" if len(filed.touches) == 1 else why
        touch = next(touch for touch in filed.touches if touch.touch_id == shares[0].touch_id)
        age = ago(conversion.t - touch.t) + " before" if conversion.t > touch.t else "at the same time"
        told.sentence = f"{model} credits {_called(shares[0])} for {subject} because {why}, {age}{passed}."
    else:
        split = ", ".join(f"{_called(share)} {share.percent}" for share in shares)
        told.sentence = f"{model} shares {subject} among {len(shares)} touches ({split}){passed}."
    return told


def _part(credit: Credit) -> Part:
    percent = f"{Decimal(credit.conversions) * 100:.1f}".removesuffix(".0") + " %"
    return Part(
        touch_id=credit.touch_id, channel=credit.channel, network=credit.network, campaign=credit.campaign,
        conversions=credit.conversions, revenue=credit.revenue, percent=percent,
    )  # fmt: skip


def _called(part: Part) -> str:
    return part.channel if part.network == "(none)" else part.network


def _considered(touches: list[JourneyEvent], conversion: Conversion, filed: Filed, rules: Rules) -> list[Considered]:
    """Every touch before the conversion that is still known, and why it may earn credit or not."""
    eligible = {touch.touch_id for touch in filed.touches}
    found = []
    for touch in touches:
        if touch.t <= conversion.t:
            window = ago(rules.window(touch.cls, touch.kind, touch.dims, conversion.type))
            why = "eligible" if touch.event_id in eligible else _why_not(touch, touches, eligible, conversion, rules)[0]
            age = ago(conversion.t - touch.t) if touch.t < conversion.t else "0"
            found.append(Considered(touch_id=touch.event_id, age=age, window=window, verdict=why))
    return found


def _passed_over(touches: list[JourneyEvent], conversion: Conversion, filed: Filed, rules: Rules) -> str:
    """The latest touch before the conversion that was not eligible, and why; "" when all were."""
    eligible = {touch.touch_id for touch in filed.touches}
    for touch in reversed(touches):
        if touch.t <= conversion.t and touch.event_id not in eligible:
            return "; " + _why_not(touch, touches, eligible, conversion, rules)[1]
    return ""


def _why_not(
    touch: JourneyEvent, touches: list[JourneyEvent], eligible: set[str], conversion: Conversion, rules: Rules
) -> tuple[str, str]:
    """Why a touch is not eligible: in two words, and as part of a sentence."""
    channel, network, _ = touch.dims
    whose = f"{channel if network == '(none)' else network}'s {kind_and_sentiment(touch.kind)[0]}"
    window = rules.window(touch.cls, touch.kind, touch.dims, conversion.type)
    age = conversion.t - touch.t
    if age > window:
        return "outside its window", f"{whose} was {ago(age)} old and its window is {ago(window)}"
    if touch.cls in (CLICK, VISIT) and age < rules.fast_conversions:
        return f"filtered: {FAST}", f"{whose} is filtered by {FAST}: it was {ago(age)} old"
    if touch.cls == DIRECT and rules.exclude_direct != "never":
        return "direct is excluded", f"the direct visit {ago(age)} before is excluded"
    if touch.cls == VIEW and any(other.cls in (CLICK, VISIT) for other in touches if other.event_id in eligible):
        return "gives way to a click", f"{whose} earns nothing beside a click"
    if rules.since_previous:
        return "before the previous conversion", f"{whose} came before the previous conversion"
    return "not eligible when filed", f"{whose} was not eligible when the credit was filed"
