"""A device's node once it is linked: whose its anonymous events are, and what it gives to whom (docs/semantics.md, "Identity").

Ownership is a function of the set of links and of an event's time. When a link changes it, the node takes back what it gave
and gives it anew; what belongs to nobody stays in a journey of its own, like that of a device without links.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import TypeVar

from attribution.facts import Fact, negated
from attribution.filing import conversion_facts, event_facts
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
    refused,
    refused_stage,
    stage_conversion,
    tell_truncated,
    touch_event,
    twin,
)
from attribution.nodes.state import Away, Conversion, Device, JourneyEvent, Linked, Person
from attribution.rules import Rules
from models.settings import HOUR
from models.wire import GivenStage, GivenTouch, Link, Missed, Move, OrderMove, Stage, Touch, Withdrawal

LINKS_MAX = 5_000
"""Links a device may have at once; of more the earliest is let go, and the device no longer takes events of before it."""
AWAY_MAX = 1_000
"""Conversions a device may have given away at once; of more the earliest stays where it is."""
T = TypeVar("T", JourneyEvent, Conversion)
_time = attrgetter("t")
_away_time = attrgetter("what.t")


def owner(key: str, device: Device, t: int, rules: Rules) -> str:
    """Whose an anonymous event at `t` is: a customer's, or the device's own."""
    shared = _shared_from(device, rules)
    if shared is not None and t >= shared:
        return key
    i = bisect_right(device.links, t, key=_time)
    if i:
        return device.links[i - 1].customer
    first = device.links[0]
    return first.customer if first.t - t <= rules.claim else key


def _shared_from(device: Device, rules: Rules) -> int | None:
    """From when on the device claims nothing, for it has too many customers; None when it has not."""
    if len(device.firsts) <= rules.device_customers:
        return None
    return device.firsts[rules.device_customers].t - rules.claim


def fold_link(node: Person | None, entry: Link, context: Context) -> Folded:
    """An event said whose this device is: what that changes moves."""
    person = _let_go(forget(node or EMPTY, context), context)
    rules = context.rules
    if not entry.moved and entry.t < context.watermark - rules.lateness:
        return Folded(person, dropped="late")
    device = before = person.device or Device()
    link = Linked(entry.t, entry.event_id, entry.customer)
    links = _reduced(device.links, link)
    firsts = _firsts(device.firsts, link, rules.device_customers)
    if links is None and firsts is None:
        return Folded(person, dropped="linked")
    links = links or device.links
    if len(links) > LINKS_MAX:
        person = person._replace(trimmed=max(person.trimmed or 0, links[0].t))
        links = links[1:]
    device = device._replace(links=links, firsts=firsts or device.firsts, last=max(device.last, entry.t))
    folded = _told(_settle(entry.key, person._replace(device=device), context), node, context)
    if person.trimmed is not None:
        folded.moves = [*folded.moves, *_missed(entry.key, before, device, link, person.trimmed, context)]
    return folded


def _told(folded: Folded, before: Person | None, context: Context) -> Folded:
    """The outcome, with its own conversions published again that are truncated since the device let go of what it gave away."""
    after = folded.node
    assert isinstance(after, Person)
    if after.trimmed is not None and (before is None or after.trimmed != before.trimmed):
        tell_truncated(folded, None if before is None else before.trimmed, after.trimmed, context)
    return folded


def _missed(key: str, before: Device, after: Device, new: Linked, trimmed: int, context: Context) -> list[Missed]:
    """Who is to be told that events are gone: customers to whom a link gives or takes time up to `trimmed`, when the device let go of events.

    Who is given it does not get them, and whose they were keeps what has been given. Told is the latest such time of each.
    """
    horizon, rules = _horizon(context), context.rules
    if trimmed < horizon:
        return []
    hour = new.t - new.t % HOUR
    points = {new.t, *(known.t for known in before.links[:1])}
    points.update(known.t for known in _between(before.links, hour, hour + HOUR) if known.customer == new.customer)
    starts = [start for start in (_shared_from(before, rules), _shared_from(after, rules)) if start is not None]
    if len(starts) == 1 or (starts and starts[0] != starts[1]):
        points.update(known.t for known in after.links if known.t > min(starts))
        points.update(starts)
    # Between two changes of ownership it is one customer's: the last moment of each such time stands for it.
    ends = {trimmed, *(start - 1 for start in starts)}
    for point in points:
        ends.add(point - 1)
        for links in (before.links, after.links):
            later = bisect_right(links, point, key=_time)
            ends.update(known.t - 1 for known in links[later : later + 1])
    latest: dict[str, int] = {}
    for end in sorted(end for end in ends if horizon <= end <= trimmed):
        was = owner(key, before, end, rules) if before.links else key
        now = owner(key, after, end, rules)
        if was != now:
            latest |= {was: end, now: end}
    return [Missed(whose, 0, 0, key, t) for whose, t in sorted(latest.items()) if whose != key]


def _between(links: tuple[Linked, ...], start: int, end: int) -> tuple[Linked, ...]:
    """The links in [start, end)."""
    return links[bisect_left(links, start, key=_time) : bisect_left(links, end, key=_time)]


def _reduced(links: tuple[Linked, ...], new: Linked) -> tuple[Linked, ...] | None:
    """The links with a new one; of one customer only the earliest in an hour is kept. None when that is another."""
    start = new.t - new.t % HOUR
    for known in _between(links, start, start + HOUR):
        if known.customer == new.customer:
            if known <= new:
                return None
            links = tuple(other for other in links if other is not known)
            break
    result = list(links)
    insort(result, new)
    return tuple(result)


def _firsts(firsts: tuple[Linked, ...], new: Linked, most: int) -> tuple[Linked, ...] | None:
    """The earliest link of each customer, of one more customers than may be; None when the new one is not among them."""
    known = next((other for other in firsts if other.customer == new.customer), None)
    if known is not None and known <= new:
        return None
    result = sorted([*(other for other in firsts if other is not known), new])[: most + 1]
    return tuple(result) if new in result else None


def fold_touch(node: Person, entry: Touch, context: Context) -> Folded:
    """An anonymous touch event at a linked device."""
    person = _let_go(forget(node, context), context)
    device = _linked(person)
    event = touch_event(entry)
    own = twin(person.events, event.event_id)
    away = next((other for other in device.touches if other.what.event_id == event.event_id), None)
    known = away.what if away is not None else own
    assert known is None or isinstance(known, JourneyEvent)
    reason = refused(person, event, known, context)
    whose = owner(entry.key, device, event.t, context.rules)
    if reason is not None:
        missed = reason == "trimmed" and whose != entry.key
        return Folded(person, moves=[Missed(whose, 0, 0, entry.key, event.t)] if missed else (), dropped=reason)
    facts = event_facts(event)
    if known is not None:
        facts += negated(event_facts(known))
    moves: list[Move] = []
    touches = [other for other in device.touches if other is not away]
    if away is not None and away.owner != whose:
        moves.append(_withdrawn(away, entry.key))
    if whose != entry.key:
        given = Away(event, whose)
        insort(touches, given, key=_order)
        moves.append(_given(given, entry.key))
    person = _kept(person, touches, device.conversions, event.t, context.rules)
    if whose == entry.key:
        folded = put_event(person, own, event, facts, context)
    elif own is not None:
        after = tuple(other for other in person.events if other is not own)
        folded = put_events(person, after, own.t, facts, context, visiting=own.cls in VISIT_LIKE)
    else:
        folded = Folded(person, facts)
    folded.moves = moves
    return _told(folded, node, context)


def fold_stage(node: Person, entry: Stage, context: Context) -> Folded:
    """An anonymous stage event at a linked device."""
    person = _let_go(forget(node, context), context)
    conversion = stage_conversion(entry)
    away = _away(person, conversion.id)
    known = away.what if away is not None else known_conversion(person, conversion.id)
    assert known is None or isinstance(known, Conversion)
    reason = refused_stage(conversion, known, context)
    if reason is not None:
        return Folded(person, dropped=reason)
    return _put(entry.key, person, conversion, context)


def fold_order(node: Person, entry: OrderMove, context: Context) -> Folded:
    """The order's node gives an order to a linked device, which passes it on to its owner."""
    return _put(entry.key, _let_go(forget(node, context), context), order_conversion(entry), context)


def _put(key: str, person: Person, conversion: Conversion, context: Context) -> Folded:
    """A conversion as it now stands: to its owner. One that is sealed stays where it is."""
    own, away = known_conversion(person, conversion.id), _away(person, conversion.id)
    known = away.what if away is not None else own
    if known is None and person.closed is not None and conversion.t <= person.closed:
        # It may be one that was let go, and that its owner still has.
        return Folded(person, dropped="trimmed")
    if known is not None and known.t == conversion.t < _horizon(context):
        whose = away.owner if away is not None else key
    else:
        whose = owner(key, _linked(person), conversion.t, context.rules)
    leaving = conversion.gone == "moved"
    conversions = [other for other in _linked(person).conversions if other is not away]
    moves: list[Move] = []
    if away is not None and (leaving or away.owner != whose):
        moves.append(_withdrawn(away, key))
    if whose != key and not leaving:
        insort(conversions, Away(conversion, whose), key=_order)
        moves.append(_given(Away(conversion, whose), key))
    person = _kept(person, _linked(person).touches, conversions, conversion.t, context.rules)
    if whose == key and not leaving:
        folded = put_conversion(person, own, conversion, context)
    elif own is not None:
        folded = put_conversion(person, own, own._replace(gone="moved"), context)
    else:
        folded = Folded(person)
    folded.moves = moves
    return folded


def _kept(person: Person, touches: Sequence[Away], conversions: Sequence[Away], t: int, rules: Rules) -> Person:
    """The person with what it has given away, as far as the bounds allow; `t` is the time of what has just come."""
    trimmed, closed = person.trimmed, person.closed
    if len(touches) > rules.journey_max:
        cut = len(touches) - rules.journey_max
        trimmed = max(trimmed or 0, touches[cut - 1].what.t)
        touches = touches[cut:]
    if len(conversions) > AWAY_MAX:
        cut = len(conversions) - AWAY_MAX
        closed = max(closed or 0, conversions[cut - 1].what.t)
        conversions = conversions[cut:]
    device = _linked(person)
    device = device._replace(touches=tuple(touches), conversions=tuple(conversions), last=max(device.last, t))
    return person._replace(device=device, trimmed=trimmed, closed=closed)


def _settle(key: str, person: Person, context: Context) -> Folded:
    """Bring everything that is not sealed to its owner under the links as they now are."""
    device, horizon = _linked(person), _horizon(context)
    events, touches, moves, changed_at = _resettle(key, device, person.events, device.touches, horizon, context.rules)
    conversions, others, more, moved_at = _resettle(
        key, device, person.conversions, device.conversions, horizon, context.rules
    )
    moves += more
    facts: list[Fact] = []
    changed: list[Conversion] = []
    if moved_at is not None:
        staying = {conversion.id for conversion in conversions}
        for conversion in person.conversions:
            if conversion.id not in staying:
                facts += negated(conversion_facts(conversion))
                changed.append(conversion._replace(gone="moved", restated=True))
    before = {conversion.id for conversion in person.conversions}
    changed += [conversion for conversion in conversions if conversion.id not in before and conversion.gone is not None]
    person = _kept(person._replace(conversions=tuple(conversions)), touches, others, 0, context.rules)
    times = [t for t in (changed_at, moved_at) if t is not None]
    if times:
        folded = put_events(person, tuple(events), min(times), facts, context, visiting=changed_at is not None)
        folded.changed = [*folded.changed, *changed]
    else:
        folded = Folded(person)
    folded.moves = moves
    return folded


def _resettle(
    key: str, device: Device, own: Iterable[T], away: Iterable[Away], horizon: int, rules: Rules
) -> tuple[list[T], list[Away], list[Move], int | None]:
    """What is the device's own, what is given away, the moves that makes, and the earliest time at which the own changes."""
    staying: list[T] = []
    given: list[Away] = []
    moves: list[Move] = []
    earliest: int | None = None
    for what in own:
        whose = owner(key, device, what.t, rules) if what.t >= horizon else key
        if whose == key:
            staying.append(what)
            continue
        bare = what._replace(filed=None, restated=False, history=()) if isinstance(what, Conversion) else what
        there = Away(bare, whose)
        given.append(there)
        moves.append(_given(there, key))
        earliest = what.t if earliest is None else min(earliest, what.t)
    for there in away:
        whose = owner(key, device, there.what.t, rules) if there.what.t >= horizon else there.owner
        if whose == there.owner:
            given.append(there)
            continue
        moves.append(_withdrawn(there, key))
        if whose == key:
            staying.append(there.what)  # type: ignore[arg-type]
            earliest = there.what.t if earliest is None else min(earliest, there.what.t)
        else:
            given.append(there._replace(owner=whose))
            moves.append(_given(given[-1], key))
    staying.sort()
    given.sort(key=_order)
    return staying, given, moves, earliest


def _given(there: Away, key: str) -> Move:
    what = there.what
    if isinstance(what, JourneyEvent):
        return GivenTouch(
            there.owner, 0, 0, key, what.event_id, what.t, what.cls, what.kind, *what.dims, what.click_id, what.flags,
            what.digest,
        )  # fmt: skip
    if what.type != "purchase":
        return GivenStage(there.owner, 0, 0, key, what.event_id, what.t, what.type, what.gross, what.digest)
    return OrderMove(
        there.owner, 0, 0, what.id[2:], what.t, what.event_id, what.gross, what.net, what.margin, what.net_margin,
        what.is_new, 0, what.gone, key, what.source,
    )  # fmt: skip


def _withdrawn(there: Away, key: str) -> Move:
    what = there.what
    if isinstance(what, JourneyEvent):
        return Withdrawal(there.owner, 0, 0, key, what.event_id, False)
    return Withdrawal(there.owner, 0, 0, key, what.id, True)


def _linked(person: Person) -> Device:
    assert person.device is not None
    return person.device


def _away(person: Person, conversion_id: str) -> Away | None:
    for there in _linked(person).conversions:
        if isinstance(there.what, Conversion) and there.what.id == conversion_id:
            return there
    return None


def _order(there: Away) -> tuple[int, str]:
    return (there.what.t, there.what.event_id)


def _horizon(context: Context) -> int:
    """What is earlier can change its owner no more: links that reach it would be late everywhere."""
    return context.sealed - context.rules.claim - context.rules.lateness


def _let_go(person: Person, context: Context) -> Person:
    """Without the touches that can be taken back no more, and the links that decide nothing any more."""
    device = person.device
    if device is None:
        return person
    horizon = _horizon(context)
    links, touches = device.links, device.touches
    # By whole hours: a link may still be reduced by an earlier one of its hour.
    hour = horizon - horizon % HOUR
    if len(links) > 1 and links[1].t <= hour:
        links = links[bisect_right(links, hour, key=_time) - 1 :]
    if touches and touches[0].what.t < horizon:
        touches = touches[bisect_left(touches, horizon, key=_away_time) :]
    if links is device.links and touches is device.touches:
        return person
    return person._replace(device=device._replace(links=links, touches=touches))
