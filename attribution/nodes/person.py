"""A person's node: the journey and the conversions it explains.

Every rule is a function of the sorted journey, so the order of arrival does not matter; each entry
re-attributes just the conversions it can have changed, and files the difference.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from operator import itemgetter

from attribution.eligible import file_credit
from attribution.facts import LANDINGS, VISITS, Fact, negated
from attribution.filing import conversion_facts, event_facts
from attribution.nodes.base import Context, Folded
from attribution.nodes.state import Conversion, JourneyEvent, Person
from attribution.rules import LANDING_BY_ID, SESSION_GAP
from attribution.touches import merge
from models.wire import CLICK, DIRECT, VISIT, OrderMove, Stage, Touch

_VISIT_LIKE = (CLICK, VISIT, DIRECT)
EMPTY = Person()
CONVERSIONS_MAX = 1_000
"""Conversions a person may have open: beyond it the earliest are closed, that is, change no more."""
_time, _event_id = itemgetter(0), itemgetter(1)


def fold_touch(node: Person | None, entry: Touch, context: Context) -> Folded:
    """A touch event arrives, in any order."""
    person = _forget(node or EMPTY, context)
    dims = (entry.channel, entry.network, entry.campaign)
    event = JourneyEvent(
        entry.t, entry.event_id, entry.cls, entry.kind, dims, entry.click_id, entry.flags, entry.cost, entry.digest
    )
    events = person.events
    known = _twin(events, event.event_id)
    if known is not None and (known.t, known.digest) <= (event.t, event.digest):
        return Folded(person, dropped="duplicate")
    if entry.t < context.watermark - context.rules.lateness:
        return Folded(person, dropped="late")
    if person.trimmed is not None and event.t <= person.trimmed:
        return Folded(person, dropped="trimmed")

    facts = event_facts(event)
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
        if known is not None:
            facts += negated(event_facts(known))
    # The newest click is no visit, and no visit that is known can have landed from it.
    if (event.cls in _VISIT_LIKE and not (newest and event.cls == CLICK)) or known is not None:
        facts += _visit_facts(events, after, earliest)

    trimmed = person.trimmed
    if len(after) > context.rules.journey_max:
        cut = len(after) - context.rules.journey_max
        trimmed = after[cut - 1].t
        after = after[cut:]
    first = event.t if person.first is None else min(person.first, event.t)
    person = Person(after, person.conversions, first, trimmed)
    return _refile(person, earliest, facts, context)


def fold_stage(node: Person | None, entry: Stage, context: Context) -> Folded:
    """A stage event that is configured as a conversion arrives."""
    person = _forget(node or EMPTY, context)
    if entry.stage not in context.rules.conversions:
        return Folded(person, dropped="ignored")
    conversion = Conversion(
        t=entry.t, id=f"s:{entry.event_id}", type=entry.stage, event_id=entry.event_id,
        gross=entry.value, net=entry.value, margin=None, net_margin=None, is_new=None,
        digest=entry.digest, gone=None, restated=False, filed=None,
    )  # fmt: skip
    known = _known(person, conversion.id)
    if known is not None and (known.t, known.digest) <= (conversion.t, conversion.digest):
        return Folded(person, dropped="duplicate")
    if entry.t < context.watermark - context.rules.lateness:
        return Folded(person, dropped="late")
    return _replace(person, known, conversion, context)


def fold_order(node: Person | None, entry: OrderMove, context: Context) -> Folded:
    """The order's node says how the order now stands; it replaces what it said before."""
    person = _forget(node or EMPTY, context)
    conversion = Conversion(
        t=entry.t, id=f"o:{entry.order_id}", type="purchase", event_id=entry.event_id,
        gross=entry.gross, net=entry.net, margin=entry.margin, net_margin=entry.net_margin, is_new=entry.is_new,
        digest=0, gone=entry.gone, restated=False, filed=None,
    )  # fmt: skip
    return _replace(person, _known(person, conversion.id), conversion, context)


def _twin(events: tuple[JourneyEvent, ...], event_id: str) -> JourneyEvent | None:
    if event_id not in map(_event_id, events):
        return None
    return next(other for other in events if other.event_id == event_id)


def _known(person: Person, conversion_id: str) -> Conversion | None:
    return next((other for other in person.conversions if other.id == conversion_id), None)


def _replace(person: Person, known: Conversion | None, conversion: Conversion, context: Context) -> Folded:
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
            folded = _refile(person._replace(conversions=tuple(others)), earliest, facts, context)
            if not any(other.id == conversion.id for other in folded.changed):
                folded.changed = [*folded.changed, conversion]
            return folded
        facts = negated(conversion_facts(known))
        earliest = min(earliest, known.t)
        conversion = conversion._replace(restated=True)
    if conversion.gone != "moved":
        insort(others, conversion)
    closed = person.closed
    if len(others) > CONVERSIONS_MAX:
        if others[0] is conversion and known is None:
            return Folded(person, dropped="trimmed")
        closed = others.pop(0).t
    folded = _refile(person._replace(conversions=tuple(others), closed=closed), earliest, facts, context)
    if conversion.gone is not None:
        folded.changed = [*folded.changed, conversion]
    return folded


def _refile(person: Person, earliest: int, facts: list[Fact], context: Context) -> Folded:
    """Re-attribute the conversions at or after `earliest` that are not sealed, and file the differences."""
    conversions = person.conversions
    if not conversions or conversions[-1].t < earliest:
        return Folded(person, facts)
    rules = context.rules
    horizon = context.sealed - rules.claim - rules.lateness
    touches = merge(person.events).touches
    changed: list[Conversion] = []
    result = list(conversions)
    for i in range(bisect_left(conversions, earliest, key=_time), len(conversions)):
        before = conversions[i]
        if before.gone is not None or (before.filed is not None and before.t < horizon):
            continue
        filed = file_credit(person, touches, before, rules)
        if before.filed is not None and before.filed[1:] == filed[1:]:
            continue
        after = before._replace(filed=filed, restated=before.restated or before.filed is not None)
        facts += conversion_facts(after)
        facts += negated(conversion_facts(before))
        result[i] = after
        changed.append(after)
    if changed:
        person = person._replace(conversions=tuple(result))
    return Folded(person, facts, changed=changed)


def _visit_facts(before: tuple[JourneyEvent, ...], after: tuple[JourneyEvent, ...], earliest: int) -> list[Fact]:
    """What changes in the count of visits; nothing before `earliest` can."""
    facts: list[Fact] = []
    if before and before[-1].t >= earliest:
        facts = negated(_visits(before, earliest))
    return facts + _visits(after, earliest)


def _visits(events: tuple[JourneyEvent, ...], earliest: int) -> list[Fact]:
    facts: list[Fact] = []
    for t, dims, _, landed in merge(_since(events, earliest)).visits:
        if t >= earliest:
            facts.append((t, dims, VISITS, 1))
            if landed:
                facts.append((t, dims, LANDINGS, 1))
    return facts


def _since(events: tuple[JourneyEvent, ...], earliest: int) -> tuple[JourneyEvent, ...]:
    """The end of a journey that decides its visits from `earliest` on.

    It begins a day (the longest reach of a landing) before the first visit event of the chain that may still be growing
    then: a visit event after a gap of a session's length starts anew, whatever came before it.
    """
    i = bisect_left(events, earliest, key=_time)
    start = earliest
    for event in reversed(events[:i]):
        if event.t < start - SESSION_GAP:
            break
        if event.cls in (VISIT, DIRECT):
            start = event.t
    return events[bisect_left(events, start - LANDING_BY_ID, 0, i, key=_time) :]


def _forget(person: Person, context: Context) -> Person:
    """Drop touch events that no conversion still to come can use: they are sealed on both sides."""
    horizon = context.sealed - context.rules.keep
    events = person.events
    if not events or events[0].t >= horizon:
        return person
    return person._replace(events=events[bisect_left(events, horizon, key=_time) :])
