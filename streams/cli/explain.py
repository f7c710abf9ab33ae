"""A journey in words: what each touch event was taken as, and why a conversion's credit went where it did."""

from __future__ import annotations

from decimal import Decimal

from msgspec import Struct, field

from attribution.eligible import file_credit, lost, truncated
from attribution.filters import DUPLICATE, FAST, duplicate_clicks, names
from attribution.money import major
from attribution.nodes.state import Conversion, Filed, JourneyEvent, Person, Restated
from attribution.outcome import describe, moment
from attribution.restated import ORDER
from attribution.rules import Rules
from attribution.touches import landings, merge
from models.results import Attribution, Credit
from models.settings import Marketing
from models.wire import CLASS_NAMES, CLICK, DIRECT, STAGE, VIEW, VISIT, kind_and_sentiment
from streams.cli import phrases
from streams.cli.belongs import Exchanged, LinkSeen, exchanged, links, shared
from streams.cli.phrases import LANGUAGES, span, text, whose


class Seen(Struct, kw_only=True):
    """A touch event of a journey. `taken_as`: touch, landing, same visit, stage, or filtered, by which filter. `landing_of`: the click that
    a landing is merged into. `device`: it came through.
    """

    event_id: str
    occurred_at: str
    t: int
    touch_class: str = field(name="class")
    kind: str
    channel: str
    network: str
    campaign: str
    taken_as: str
    landing_of: str | None = None
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


class Restatement(Struct, kw_only=True):
    """Once that the credit changed: by what (`attribution.restated.CAUSES`, and the event's id), in a sentence, how far event time had come by
    then, and the net amount before and after.
    """

    cause: str
    event_id: str | None
    watermark: str | None
    net_before: str
    net: str
    why: str
    why_fr: str


class Told(Struct, kw_only=True):
    """A conversion, its credits by model, its latest restatements, and one sentence that says why, in English and in French."""

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
    sentence_fr: str
    truncated: bool
    restatements: list[Restatement] = []
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
    closed: str | None = None
    """Of a person with too many conversions: the time up to which they are closed, that is, stay as they are published."""


def explain(key: str, person: Person, marketing: Marketing) -> Journey:
    """The journey of the person `key` under its partition's configuration."""
    rules = Rules(marketing)
    merged = merge(person.events, rules.duplicate_clicks)
    repeated = {event.event_id for event in duplicate_clicks(person.events, rules.duplicate_clicks)}
    touches = {touch.event_id for touch in merged.touches}
    visits = {event_id for _, _, event_id, _ in merged.visits}
    landed = landings(person.events)
    told = []
    for conversion in person.conversions:
        attribution = describe(key, conversion, marketing.reporting_currency)
        told.append(_told(person, merged.touches, conversion, attribution, rules, marketing.headline_models[0]))
    gone = lost(person)
    return Journey(
        person=key,
        currency=marketing.reporting_currency,
        touches=[
            _seen(event, touches, visits, repeated, landed, person.given.touches if person.given else {})
            for event in person.events
        ],
        conversions=told,
        links=links(person),
        shared=shared(person, marketing),
        exchanged=exchanged(person),
        truncated=None if gone is None else moment(gone),
        closed=None if person.closed is None else moment(person.closed),
    )


def _seen(
    event: JourneyEvent, touches: set[str], visits: set[str], repeated: set[str], landed: dict[str, str],
    devices: dict[str, str],
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
        kind=kind_and_sentiment(event.kind)[0], channel=channel, network=network, campaign=campaign, taken_as=taken,
        landing_of=landed.get(event.event_id) if taken in ("landing", "same visit") else None,
        device=devices.get(event.event_id),
    )  # fmt: skip


def _told(
    person: Person, touches: list[JourneyEvent], conversion: Conversion, found: Attribution, rules: Rules, model: str
) -> Told:
    credits = {name: [_part(credit) for credit in shares] for name, shares in found.credits.items()}
    # What was filed is what counts; until it is, what would be.
    filed = None if conversion.gone else conversion.filed or file_credit(person, touches, conversion, rules)
    en, fr = (_sentence(language, touches, conversion, filed, credits, rules, model) for language in LANGUAGES)
    return Told(
        conversion_id=conversion.id, type=conversion.type, name=conversion.id[2:], occurred_at=found.occurred_at,
        t=conversion.t, status=found.status, reason=found.reason, gross=found.revenue_gross, net=found.revenue_net,
        credits=credits, sentence=en, sentence_fr=fr, truncated=truncated(person, conversion, rules),
        restatements=[_restatement(person, once) for once in conversion.history],
        touches=[] if filed is None else _considered(touches, conversion, filed, rules),
    )  # fmt: skip


def _sentence(
    language: str, touches: list[JourneyEvent], conversion: Conversion, filed: Filed | None, credits: dict[str, list[Part]],
    rules: Rules, model: str,
) -> str:  # fmt: skip
    subject = phrases.subject(language, conversion.type, conversion.id[2:])
    if filed is None:
        gone = conversion.gone or ""
        return text(language, "gone", subject=subject, gone=text(language, gone) if phrases.known(gone) else gone)
    passed = _passed_over(language, touches, conversion, filed, rules)
    if filed.reason is not None:
        reason = text(language, filed.reason) if phrases.known(filed.reason) else filed.reason
        return text(language, "unattributed", subject=subject, reason=reason, passed=passed)
    shares = credits.get(model, [])
    if len(shares) != 1:
        split = ", ".join(f"{_called(share)} {share.percent}" for share in shares)
        return text(language, "shares", model=model, subject=subject, n=len(shares), split=split, passed=passed)
    why = model if len(filed.touches) > 1 and phrases.known(model) else "only"
    touch = next(touch for touch in filed.touches if touch.touch_id == shares[0].touch_id)
    age = text(language, "same_time")
    if conversion.t > touch.t:
        age = text(language, "before", age=span(language, conversion.t - touch.t))
    return text(
        language, "credits", model=model, name=_called(shares[0]), subject=subject,
        why=text(language, why, n=len(filed.touches)), age=age, passed=passed,
    )  # fmt: skip


def _restatement(person: Person, once: Restated) -> Restatement:
    touch = next((event for event in person.events if event.event_id == once.what), None)
    was, net = major(once.was), major(once.net)
    name = f"restated:{'again' if once.cause == ORDER and was == net else once.cause}"
    en, fr = (
        text(language, name, was=was, net=net, whose=whose(language, touch) if touch else text(language, "gone_touch"))
        for language in LANGUAGES
    )
    return Restatement(
        cause=once.cause, event_id=once.what or None, watermark=None if once.at is None else moment(once.at),
        net_before=was, net=net, why=en, why_fr=fr,
    )  # fmt: skip


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
            window = span("en", rules.window(touch.cls, touch.kind, touch.dims, conversion.type))
            why = "eligible"
            if touch.event_id not in eligible:
                why = _VERDICTS[_why_not(touch, touches, eligible, conversion, rules)]
            age = span("en", conversion.t - touch.t) if touch.t < conversion.t else "0"
            found.append(Considered(touch_id=touch.event_id, age=age, window=window, verdict=why))
    return found


def _passed_over(
    language: str, touches: list[JourneyEvent], conversion: Conversion, filed: Filed, rules: Rules
) -> str:  # fmt: skip
    """The latest touch before the conversion that was not eligible, and why; "" when all were."""
    eligible = {touch.touch_id for touch in filed.touches}
    for touch in reversed(touches):
        if touch.t <= conversion.t and touch.event_id not in eligible:
            window = rules.window(touch.cls, touch.kind, touch.dims, conversion.type)
            return "; " + text(
                language, _why_not(touch, touches, eligible, conversion, rules), whose=whose(language, touch), name=FAST,
                age=span(language, conversion.t - touch.t), window=span(language, window),
            )  # fmt: skip
    return ""


_VERDICTS = {
    "older": "outside its window", "fast": f"filtered: {FAST}", "direct": "direct is excluded", "view": "gives way to a click",
    "previous": "before the previous conversion", "not_then": "not eligible when filed",
}  # fmt: skip


def _why_not(
    touch: JourneyEvent, touches: list[JourneyEvent], eligible: set[str], conversion: Conversion, rules: Rules
) -> str:
    """Why a touch is not eligible: the name of a phrase."""
    age = conversion.t - touch.t
    if age > rules.window(touch.cls, touch.kind, touch.dims, conversion.type):
        return "older"
    if touch.cls in (CLICK, VISIT) and age < rules.fast_conversions:
        return "fast"
    if touch.cls == DIRECT and rules.exclude_direct != "never":
        return "direct"
    if touch.cls == VIEW and any(other.cls in (CLICK, VISIT) for other in touches if other.event_id in eligible):
        return "view"
    return "previous" if rules.since_previous else "not_then"
