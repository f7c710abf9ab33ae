"""What a customer's node makes of what devices give it and take back.

Of several that give one event, or one conversion, one stands: the customer's own beats a device's, then the smallest
`(time, content hash)`. The others are kept, for what stands may be taken back.
"""

from __future__ import annotations

from attribution.eligible import lost
from attribution.facts import Fact, negated
from attribution.filing import event_facts
from attribution.nodes.base import Context, Folded
from attribution.nodes.person import (
    EMPTY,
    VISIT_LIKE,
    forget,
    known_conversion,
    order_conversion,
    put_conversion,
    put_event,
    put_events,
    refile,
    refused,
    refused_stage,
    stage_conversion,
    tell_truncated,
    touch_event,
    twin,
)
from attribution.nodes.state import Conversion, Given, JourneyEvent, Person, Spare
from models.wire import GivenStage, GivenTouch, Missed, OrderMove, Stage, Touch, Withdrawal

SPARES_MAX = 500
"""Events, and conversions, that may be known from several devices at once: of more the earliest is let go, and nothing of its time changes any more."""
_NOTHING = Given()


def fold_given_touch(node: Person | None, entry: GivenTouch, context: Context) -> Folded:
    """A device gives a touch event."""
    person, given = _of(node, context)
    dims = (entry.channel, entry.network, entry.campaign)
    event = JourneyEvent(
        entry.t, entry.event_id, entry.cls, entry.kind, dims, entry.click_id, entry.flags, None, entry.digest
    )
    if person.trimmed is not None and event.t <= person.trimmed:
        return Folded(person, dropped="trimmed")
    spares = _without(given.spare_touches, entry.device, event.event_id)
    stands = twin(person.events, event.event_id)
    by = given.touches.get(event.event_id)
    if stands is not None and by != entry.device:
        if by is None or (stands.t, stands.digest, by) <= (event.t, event.digest, entry.device):
            spares = (*spares, Spare(entry.device, event))
            return Folded(_with(person, given._replace(spare_touches=spares)))
        spares = (*spares, Spare(by, stands))
    touches = given.touches | {event.event_id: entry.device}
    person = _with(person, given._replace(touches=touches, spare_touches=spares))
    return put_event(person, stands, event, [], context)


def fold_touch(node: Person, entry: Touch, context: Context) -> Folded:
    """The customer's own touch event, where devices have given some: it beats theirs."""
    person, given = _of(node, context)
    event = touch_event(entry)
    stands = twin(person.events, event.event_id)
    by = given.touches.get(event.event_id)
    reason = refused(person, event, stands if by is None else None, context)
    if reason is not None:
        return Folded(person, dropped=reason)
    facts: list[Fact] = event_facts(event)
    if stands is not None and by is None:
        facts += negated(event_facts(stands))
    elif stands is not None:
        touches = {event_id: device for event_id, device in given.touches.items() if event_id != event.event_id}
        spares = (*given.spare_touches, Spare(by, stands))
        person = _with(person, given._replace(touches=touches, spare_touches=spares))
    return put_event(person, stands, event, facts, context)


def fold_given_stage(node: Person | None, entry: GivenStage, context: Context) -> Folded:
    """A device gives a stage event."""
    person, given = _of(node, context)
    return _put(person, given, entry.device, stage_conversion(entry), context)


def fold_stage(node: Person, entry: Stage, context: Context) -> Folded:
    """The customer's own stage event, where devices have given something."""
    person, given = _of(node, context)
    conversion = stage_conversion(entry)
    own = None if conversion.id in given.conversions else known_conversion(person, conversion.id)
    reason = refused_stage(conversion, own, context)
    if reason is not None:
        return Folded(person, dropped=reason)
    return _put(person, given, None, conversion, context)


def fold_order(node: Person | None, entry: OrderMove, context: Context) -> Folded:
    """An order, from its own node or through a device, or taken back by its own node."""
    person, given = _of(node, context)
    if entry.gone == "moved":
        return _take_back(person, given, entry.device, f"o:{entry.order_id}", context)
    return _put(person, given, entry.device, order_conversion(entry), context)


def fold_withdrawal(node: Person | None, entry: Withdrawal, context: Context) -> Folded:
    """A device takes back what it gave, and only that."""
    person, given = _of(node, context)
    if entry.conversion:
        return _take_back(person, given, entry.device, entry.what, context)
    if given.touches.get(entry.what) != entry.device:
        spares = _without(given.spare_touches, entry.device, entry.what)
        return Folded(_with(person, given._replace(spare_touches=spares)))
    stood = twin(person.events, entry.what)
    touches = {event_id: device for event_id, device in given.touches.items() if event_id != entry.what}
    if stood is None:
        return Folded(_with(person, given._replace(touches=touches)))
    best = _best(given.spare_touches, entry.what)
    if best is None:
        person = _with(person, given._replace(touches=touches))
        after = tuple(other for other in person.events if other is not stood)
        return put_events(person, after, stood.t, [], context, visiting=stood.cls in VISIT_LIKE)
    assert best.device is not None
    assert isinstance(best.what, JourneyEvent)
    spares = _without(given.spare_touches, best.device, entry.what)
    person = _with(person, given._replace(touches=touches | {entry.what: best.device}, spare_touches=spares))
    return put_event(person, stood, best.what, [], context)


def fold_missed(node: Person | None, entry: Missed, context: Context) -> Folded:
    """A device had let go of events that would be the customer's: the conversions that could have had them are truncated."""
    person, given = _of(node, context)
    was = lost(person)
    if was is not None and entry.t <= was:
        return Folded(person, dropped="duplicate")
    person = person._replace(given=given._replace(missed=entry.t))
    # The reason of one without a touch is another now.
    earliest = person.conversions[0].t if person.conversions else entry.t
    folded = refile(person, earliest, [], context)
    tell_truncated(folded, was, entry.t, context)
    return folded


def _put(person: Person, given: Given, by: str | None, conversion: Conversion, context: Context) -> Folded:
    """A conversion as `by` says it is (None: its own node, or the event itself)."""
    spares = _without(given.spare_conversions, by, conversion.id)
    stands = known_conversion(person, conversion.id)
    standing = given.conversions.get(conversion.id)
    if stands is not None and standing != by:
        if _rank(Spare(standing, stands)) <= _rank(Spare(by, conversion)):
            spares = (*spares, Spare(by, conversion))
            return Folded(_with(person, given._replace(spare_conversions=spares)))
        spares = (*spares, Spare(standing, stands._replace(filed=None, restated=False, history=())))
    others = {name: device for name, device in given.conversions.items() if name != conversion.id}
    if by is not None:
        others[conversion.id] = by
    person = _with(person, given._replace(conversions=others, spare_conversions=spares))
    return put_conversion(person, stands, conversion, context)


def _take_back(person: Person, given: Given, by: str | None, conversion_id: str, context: Context) -> Folded:
    """`by` no longer says that this conversion is the customer's."""
    stands = known_conversion(person, conversion_id)
    spares = _without(given.spare_conversions, by, conversion_id)
    if stands is None or given.conversions.get(conversion_id) != by:
        return Folded(_with(person, given._replace(spare_conversions=spares)))
    others = {name: device for name, device in given.conversions.items() if name != conversion_id}
    best = _best(spares, conversion_id)
    if best is None:
        person = _with(person, given._replace(conversions=others, spare_conversions=spares))
        return put_conversion(person, stands, stands._replace(gone="moved"), context)
    assert isinstance(best.what, Conversion)
    spares = _without(spares, best.device, conversion_id)
    if best.device is not None:
        others[conversion_id] = best.device
    person = _with(person, given._replace(conversions=others, spare_conversions=spares))
    return put_conversion(person, stands, best.what, context)


def _rank(spare: Spare) -> tuple[bool, int, int, str]:
    return (spare.device is not None, spare.what.t, spare.what.digest, spare.device or "")


def _name(spare: Spare) -> str:
    return spare.what.event_id if isinstance(spare.what, JourneyEvent) else spare.what.id


def _best(spares: tuple[Spare, ...], name: str) -> Spare | None:
    return min((spare for spare in spares if _name(spare) == name), key=_rank, default=None)


def _without(spares: tuple[Spare, ...], by: str | None, name: str) -> tuple[Spare, ...]:
    if not spares:
        return spares
    return tuple(spare for spare in spares if spare.device != by or _name(spare) != name)


def _of(node: Person | None, context: Context) -> tuple[Person, Given]:
    """The person without what no conversion to come can use, and what it was given."""
    person = forget(node or EMPTY, context)
    return person, person.given or _NOTHING


def _with(person: Person, given: Given) -> Person:
    """The person with what it was given; None when nothing was."""
    if len(given.spare_touches) > SPARES_MAX:
        kept, cut = _latest(given.spare_touches)
        given, person = given._replace(spare_touches=kept), person._replace(trimmed=max(cut, person.trimmed or cut))
    if len(given.spare_conversions) > SPARES_MAX:
        kept, cut = _latest(given.spare_conversions)
        given, person = given._replace(spare_conversions=kept), person._replace(closed=max(cut, person.closed or cut))
    return person._replace(given=None if given == _NOTHING else given)


def _latest(spares: tuple[Spare, ...]) -> tuple[tuple[Spare, ...], int]:
    """As many as may be, and the time of the latest that is let go."""
    ordered = sorted(spares, key=lambda spare: (spare.what.t, _name(spare), spare.device or ""))
    return tuple(ordered[-SPARES_MAX:]), ordered[-SPARES_MAX - 1].what.t
