"""A person's node: the journey and the conversions it explains.

Every rule is a function of the sorted journey, so the order of arrival does not matter; each entry
re-attributes just the conversions it can have changed, and files the difference.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from operator import itemgetter
from sys import intern

from attribution.cohorts import advocated
from attribution.eligible import file_credit, hastened, lost
from attribution.facts import LANDINGS, VISITS, Fact, negated
from attribution.filing import conversion_facts, event_facts
from attribution.filters import DUPLICATE, FAST, duplicate_facts
from attribution.nodes.base import Context, Folded
from attribution.nodes.state import Conversion, JourneyEvent, Person
from attribution.rules import dims_of
from attribution.touches import SHORT, Visit, merge, since
from models.wire import CLICK, DIRECT, VISIT, GivenStage, OrderMove, Stage, Touch

VISIT_LIKE = (CLICK, VISIT, DIRECT)
EMPTY = Person()
CONVERSIONS_MAX = 1_000
"""Conversions a person may have open: beyond it the earliest are closed, that is, change no more."""
FILED_MAX = 20_000
"""Eligible touches that a person's open conversions may have on file together: beyond it the earliest conversions are closed too."""
_time, _event_id = itemgetter(0), itemgetter(1)


def fold_touch(node: Person | None, entry: Touch, context: Context) -> Folded:
    """A touch event arrives, in any order."""
    person = forget(node or EMPTY, context)
    event = touch_event(entry)
    known = twin(person.events, event.event_id)
    reason = refused(person, event, known, context)
    if reason is not None:
        return Folded(person, dropped=reason)
    facts = event_facts(event)
    if known is not None:
        facts += negated(event_facts(known))
    return put_event(person, known, event, facts, context)


def fold_touches(
    node: Person | None, entries: Sequence[Touch], context: Context
) -> tuple[Folded | None, list[str | None], int] | None:
    """Several touch events arrive: all of it in one (None: none has an effect), why each has no effect (None: it has), and the time of the earliest
    that has one.

    None when it would not be the same one by one, or would take as long: a conversion is at or after one of them, one replaces what was
    known of it, the journey is at its bound, a filter removes something. The journey is then to be folded one by one.
    """
    person = forget(node or EMPTY, context)
    events = person.events
    if len(events) + len(entries) > context.rules.journey_max:
        return None
    known = {event[1]: event for event in events}
    added: list[JourneyEvent] = []
    reasons: list[str | None] = []
    facts: list[Fact] = []
    for entry in entries:
        event = touch_event(entry)
        twin = known.get(event.event_id)
        reason = refused(person, event, twin, context)
        reasons.append(reason)
        if reason is None:
            if twin is not None:
                return None
            known[event.event_id] = event
            added.append(event)
            facts += event_facts(event)
    if not added:
        return None, reasons, 0
    added.sort()
    earliest = added[0].t
    newest = not events or earliest > events[-1].t
    conversions = person.conversions
    if conversions and conversions[-1].t >= earliest:
        return None
    after = (*events, *added) if newest else tuple(sorted((*events, *added)))
    # Clicks that nothing follows are no visits, and no visit can have landed from them.
    classes = {event.cls for event in added}
    visiting = not classes.isdisjoint((VISIT, DIRECT)) or (CLICK in classes and not newest)
    folded = put_events(person, after, earliest, facts, context, visiting=visiting)
    return None if folded.filtered else (folded, reasons, earliest)


def touch_event(entry: Touch) -> JourneyEvent:
    """A touch as a journey has it."""
    return JourneyEvent(
        entry.t, entry.event_id, entry.cls, intern(entry.kind), dims_of(entry.channel, entry.network, entry.campaign),
        entry.click_id, entry.flags, entry.cost, entry.digest,
    )  # fmt: skip


def refused(person: Person, event: JourneyEvent, known: JourneyEvent | None, context: Context) -> str | None:
    """Why a touch event has no effect at its first node; None when it has."""
    if known is not None and (known.t, known.digest) <= (event.t, event.digest):
        return "duplicate"
    if event.t < context.watermark - context.rules.lateness:
        return "late"
    if person.trimmed is not None and event.t <= person.trimmed:
        return "trimmed"
    return None


def put_event(
    person: Person, known: JourneyEvent | None, event: JourneyEvent, facts: list[Fact], context: Context
) -> Folded:
    """Put an event into the journey, in the place of what was `known` of it; `facts` are those that are counted already."""
    events = person.events
    newest = known is None and (not events or event.t > events[-1].t)
    if newest:
        after = (*events, event)
        earliest = event.t
    else:
        if known is None:
            at = bisect_left(events, event)
            after = (*events[:at], event, *events[at:])
        else:
            changed = [other for other in events if other is not known]
            insort(changed, event)
            after = tuple(changed)
        earliest = event.t if known is None else min(event.t, known.t)
    # The newest click is no visit, and no visit that is known can have landed from it.
    visiting = (event.cls in VISIT_LIKE and not (newest and event.cls == CLICK)) or known is not None
    return put_events(person, after, earliest, facts, context, visiting=visiting)


def put_events(
    person: Person, after: tuple[JourneyEvent, ...], earliest: int, facts: list[Fact], context: Context, *, visiting: bool
) -> Folded:  # fmt: skip
    """Make `after` the journey, which differs from `earliest` on; `visiting` says whether visits can have changed."""
    visited = None
    if visiting:
        decisive = after if len(after) <= SHORT else since(after, earliest)
        visits = merge(decisive).visits
        facts += _visit_facts(person.events, visits, earliest)
        visited = decisive, visits
    repeats = duplicate_facts(person.events, after, earliest, context.rules.duplicate_clicks)
    facts += repeats
    trimmed = person.trimmed
    if len(after) > context.rules.journey_max:
        cut = len(after) - context.rules.journey_max
        trimmed = after[cut - 1].t if trimmed is None else max(trimmed, after[cut - 1].t)
        person = _dropped(person, after[:cut])
        after = after[cut:]
        person = _without_given(person, after)
    was = person.trimmed
    folded = refile(_journey(person, after, trimmed), earliest, facts, context)
    if trimmed is not None and trimmed != was:
        tell_truncated(folded, lost(person), trimmed, context)
    if repeats:
        folded.filtered = [*folded.filtered, DUPLICATE]
    folded.visits = visited
    return folded


def tell_truncated(folded: Folded, was: int | None, trimmed: int, context: Context) -> None:
    """Publish again the conversions that are truncated only now, as `attribution.eligible.truncated` says; credits stay as they are.

    `was` is what `attribution.eligible.lost` said before, `trimmed` the time of the latest touch event that is now gone.
    """
    person, rules = folded.node, context.rules
    assert isinstance(person, Person)
    if was is not None and trimmed <= was:
        return
    start = context.sealed - rules.claim - rules.lateness
    if was is not None:
        start = max(start, was + rules.reach + 1)
    conversions = person.conversions
    first = bisect_left(conversions, start, key=_time)
    if first < len(conversions) and conversions[first].t <= trimmed + rules.reach:
        told = {conversion.id for conversion in folded.changed}
        now = conversions[first : bisect_right(conversions, trimmed + rules.reach, key=_time)]
        folded.changed = [*folded.changed, *(one for one in now if one.id not in told)]


def _journey(person: Person, events: tuple[JourneyEvent, ...], trimmed: int | None) -> Person:
    """The person with another journey. Every touch comes through here, and `_replace` takes three times as long."""
    return Person._make((events, person.conversions, trimmed, *person[3:]))


def fold_stage(node: Person | None, entry: Stage, context: Context) -> Folded:
    """A stage event that is configured as a conversion arrives."""
    person = forget(node or EMPTY, context)
    conversion = stage_conversion(entry)
    known = known_conversion(person, conversion.id)
    reason = refused_stage(conversion, known, context)
    if reason is not None:
        return Folded(person, dropped=reason)
    return put_conversion(person, known, conversion, context)


def stage_conversion(entry: Stage | GivenStage) -> Conversion:
    """A stage as a conversion of its own."""
    return Conversion(
        t=entry.t, id=f"s:{entry.event_id}", type=entry.stage, event_id=entry.event_id,
        gross=entry.value, net=entry.value, margin=None, net_margin=None, is_new=None,
        digest=entry.digest, gone=None, restated=False, filed=None,
    )  # fmt: skip


def refused_stage(conversion: Conversion, known: Conversion | None, context: Context) -> str | None:
    """Why a stage has no effect at its first node; None when it has."""
    if conversion.type not in context.rules.conversions:
        return "ignored"
    if known is not None and (known.t, known.digest) <= (conversion.t, conversion.digest):
        return "duplicate"
    return "late" if conversion.t < context.watermark - context.rules.lateness else None


def fold_order(node: Person | None, entry: OrderMove, context: Context) -> Folded:
    """The order's node says how the order now stands; it replaces what it said before."""
    person = forget(node or EMPTY, context)
    conversion = order_conversion(entry)
    return put_conversion(person, known_conversion(person, conversion.id), conversion, context)


def order_conversion(entry: OrderMove) -> Conversion:
    """An order as its person has it."""
    return Conversion(
        t=entry.t, id=f"o:{entry.order_id}", type="purchase", event_id=entry.event_id,
        gross=entry.gross, net=entry.net, margin=entry.margin, net_margin=entry.net_margin, is_new=entry.is_new,
        digest=0, gone=entry.gone, restated=False, source=entry.source, filed=None,
    )  # fmt: skip


def twin(events: tuple[JourneyEvent, ...], event_id: str) -> JourneyEvent | None:
    """The event of this id."""
    if event_id not in map(_event_id, events):
        return None
    return next(other for other in events if other.event_id == event_id)


def known_conversion(person: Person, conversion_id: str) -> Conversion | None:
    """The conversion of this id."""
    return next((other for other in person.conversions if other.id == conversion_id), None)


def put_conversion(person: Person, known: Conversion | None, conversion: Conversion, context: Context) -> Folded:
    """Put a conversion in the place of what was known of it, and file what that changes."""
    if known is None and person.closed is not None and conversion.t <= person.closed:
        return Folded(person, dropped="trimmed")
    others = [other for other in person.conversions if other is not known]
    earliest = conversion.t
    facts: list[Fact] = []
    if known is not None:
        if known.t == conversion.t and conversion.gone != "moved":
            # With other amounts a conversion keeps its credit on file: touches alone can change that. A withdrawn one
            # too: a duplicate of its refund that wins can bring it back long after its touches are forgotten.
            conversion = conversion._replace(filed=known.filed, restated=True)
            facts = conversion_facts(conversion) + negated(conversion_facts(known))
            insort(others, conversion)
            folded = refile(person._replace(conversions=tuple(others)), earliest, facts, context)
            if not any(other.id == conversion.id for other in folded.changed):
                folded.changed = [*folded.changed, conversion]
            return folded
        facts = negated(conversion_facts(known))
        earliest = min(earliest, known.t)
        conversion = conversion._replace(restated=True)
    if conversion.gone != "moved":
        insort(others, conversion)
    closed: list[Conversion] = []
    if known is None and (many := _too_many(others)):
        if conversion in others[:many]:
            return Folded(person, dropped="trimmed")
        person = _without_given_conversions(person, others[:many])._replace(closed=others[many - 1].t)
        closed, others = others[:many], others[many:]
    folded = refile(person._replace(conversions=tuple(others)), earliest, facts, context)
    # From now on nothing changes these: they are published once more, as truncated.
    folded.changed = [*closed, *folded.changed]
    if conversion.gone is not None:
        folded.changed = [*folded.changed, conversion]
    return folded


def _too_many(conversions: list[Conversion]) -> int:
    """How many of these, the earliest, are to be closed; the last one stays."""
    filed, many = 0, 0
    for i in range(len(conversions) - 1, -1, -1):
        known = conversions[i].filed
        filed += 0 if known is None else len(known.touches)
        if filed > FILED_MAX or len(conversions) - i > CONVERSIONS_MAX:
            many = i + 1
            break
    return min(many, len(conversions) - 1)


def _without_given_conversions(person: Person, closed: list[Conversion]) -> Person:
    """The person without knowing who gave conversions that are closed."""
    given = person.given
    if given is None:
        return person
    ids = {conversion.id for conversion in closed}
    by = {name: device for name, device in given.conversions.items() if name not in ids}
    spares = tuple(spare for spare in given.spare_conversions if spare.what.t > closed[-1].t)
    return person._replace(given=given._replace(conversions=by, spare_conversions=spares))


def refile(person: Person, earliest: int, facts: list[Fact], context: Context) -> Folded:
    """Re-attribute the conversions at or after `earliest` that are not sealed, and file the differences."""
    conversions = person.conversions
    if not conversions or conversions[-1].t < earliest:
        return Folded(person, facts)
    rules = context.rules
    horizon = context.sealed - rules.claim - rules.lateness
    touches = merge(person.events, rules.duplicate_clicks).touches
    changed: list[Conversion] = []
    filtered: list[str] = []
    result = list(conversions)
    for i in range(bisect_left(conversions, earliest, key=_time), len(conversions)):
        before = conversions[i]
        if before.gone is not None or (before.filed is not None and before.t < horizon):
            continue
        filed = file_credit(person, touches, before, rules)
        if before.filed is None and hastened(touches, before, rules):
            filtered.append(FAST)
        if before.filed is not None and before.filed[1:] == filed[1:]:
            continue
        after = before._replace(filed=filed, restated=before.restated or before.filed is not None)
        facts += conversion_facts(after)
        facts += negated(conversion_facts(before))
        result[i] = after
        changed.append(after)
    if changed:
        person = person._replace(conversions=tuple(result))
    folded = Folded(person, facts, changed=changed)
    folded.filtered = filtered
    return folded


def _visit_facts(before: tuple[JourneyEvent, ...], after: list[Visit], earliest: int) -> list[Fact]:
    """What changes in the count of visits, which are now those of `after`; nothing before `earliest` can."""
    facts: list[Fact] = []
    if before and before[-1].t >= earliest:
        facts = negated(_counted(merge(since(before, earliest)).visits, earliest))
    return facts + _counted(after, earliest)


def _counted(visits: list[Visit], earliest: int) -> list[Fact]:
    facts: list[Fact] = []
    for t, dims, _, landed in visits:
        if t >= earliest:
            facts.append((t, dims, VISITS, 1))
            if landed:
                facts.append((t, dims, LANDINGS, 1))
    return facts


def forget(person: Person, context: Context) -> Person:
    """Drop touch events that no conversion still to come can use: they are sealed on both sides."""
    horizon = context.sealed - context.rules.keep
    events = person.events
    if not events or events[0].t >= horizon:
        return person
    cut = bisect_left(events, horizon, key=_time)
    after = events[cut:]
    return _without_given(_dropped(person, events[:cut]), after)._replace(events=after)


def _dropped(person: Person, events: tuple[JourneyEvent, ...]) -> Person:
    """The person who has lost these events, the earliest: with what must outlive them."""
    spoke = advocated(events)
    return person if spoke is None else person._replace(advocated=max(spoke, person.advocated or spoke))


def _without_given(person: Person, after: tuple[JourneyEvent, ...]) -> Person:
    """The person without knowing who gave what is no longer in the journey `after`."""
    given = person.given
    if given is None:
        return person
    held = {event.event_id for event in after}
    touches = {name: device for name, device in given.touches.items() if name in held}
    spares = tuple(spare for spare in given.spare_touches if after and spare.what.t >= after[0].t)
    return person._replace(given=given._replace(touches=touches, spare_touches=spares))
