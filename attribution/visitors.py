"""Distinct persons by channel, exactly, from sums of buckets.

How many persons visited in a window that ends now can be read from sums when each person counts once, in the bucket of the *latest*
visit: a new visit moves the mark. Persons who converted at or after a visit in the window are marked likewise, at the
latest visit that is at or before the latest standing conversion of the type; so they are never more than the visitors.
Both marks are functions of the sorted journey, each for a channel with its network and for all in one (meaning §11).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from functools import lru_cache
from operator import itemgetter

from attribution.facts import TOTAL, Fact, Measure
from attribution.nodes.state import Conversion, JourneyEvent, Person
from attribution.rules import LANDING_BY_ID, LANDING_BY_SOURCE, VISITORS_KEPT
from attribution.touches import SHORT, Visit, merge, since
from models.wire import CLICK, DIRECT, VISIT

VISITORS = "visitors"
"""Persons, at their latest visit."""
CONVERTED = "converted_visitors"
"""Of these, at the latest visit that a conversion of the type followed."""
_VISITS = (VISIT, DIRECT)
_time = itemgetter(0)
Marks = dict[Measure, int]
Source = tuple[str, str]
"""Channel and network; `("", "")` is all of them in one."""
ALL: Source = ("", "")


@lru_cache(maxsize=4096)
def visitors(source: Source) -> Measure:
    """The measure of a source's visitors: all sources are in one cell, so that a person who comes again changes few."""
    return (VISITORS, source[0], "", source[1])


@lru_cache(maxsize=4096)
def converted(source: Source, kind: str) -> Measure:
    """The measure of a source's visitors who converted, by conversion type."""
    return (CONVERTED, source[0], kind, source[1])


def marks(person: Person) -> Marks:
    """Where the person is counted: the time under which each measure has a 1."""
    latest: dict[str, int] = {}
    for conversion in person.conversions:
        if conversion.gone is None:
            latest[conversion.type] = conversion.t
    found: Marks = {}
    for t, dims, _, _ in merge(person.events).visits:
        for source in (dims[:2], ALL):
            found[visitors(source)] = t
            for kind, until in latest.items():
                if t <= until:
                    found[converted(source, kind)] = t
    return found


def visitor_facts(before: Person, after: Person, visits: Sequence[Visit] | None = None) -> list[Fact]:
    """The moves of a person's marks from one state to the next; `visits` are those of `after`, where they are known."""
    events, conversions = after.events, after.conversions
    if before.events is events:
        if before.conversions is conversions or not events or _standing(before.conversions) == _standing(conversions):
            return []
    elif before.conversions is conversions:
        if _appended(before.events, events):
            return []
        # Of a journey at its bound, one falls off for one that comes.
        cut = len(before.events) + 1 - len(events)
        if cut == 0 or (cut == 1 and before.events and not _decides(before.events, 0)):
            known = before.events[cut:]
            added = _added(known, events)
            if added is not None:
                if not _decides(events, added):
                    return []
                if not conversions or conversions[-1].t < events[added].t:
                    return _inserted(known, events, events[added].t, visits)
    return _moves(marks(before), marks(after))


def arrived_facts(before: Person, after: Person, earliest: int, visits: Sequence[Visit] | None) -> list[Fact]:
    """The same when only events have come, none of them before `earliest`, and all conversions are before it; `visits` as in `visitor_facts`."""
    return _inserted(before.events, after.events, earliest, visits)


def _moves(was: Marks, now: Marks) -> list[Fact]:
    facts: list[Fact] = [(t, TOTAL, measure, -1) for measure, t in was.items() if now.get(measure) != t]
    return facts + [(t, TOTAL, measure, 1) for measure, t in now.items() if was.get(measure) != t]


def _standing(conversions: Sequence[Conversion]) -> list[tuple[int, str]]:
    """What of conversions decides marks: amounts and credit do not."""
    return [(conversion.t, conversion.type) for conversion in conversions if conversion.gone is None]


def _appended(before: Sequence[JourneyEvent], after: Sequence[JourneyEvent]) -> bool:
    """Whether all that is new is a later event that is no visit: the common case, and nothing moves."""
    n = len(before)
    if len(after) != n + 1 or after[n].cls in _VISITS:
        return False
    return not n or (before[-1] is after[n - 1] and before[-1].t < after[n].t)


def _added(before: Sequence[JourneyEvent], after: Sequence[JourneyEvent]) -> int | None:
    """Where in `after` the one event is that `before` lacks; None when that is not all that differs."""
    n = len(before)
    if len(after) != n + 1:
        return None
    low = n
    if n and before[-1] is not after[-2]:
        while low and before[low - 1] is not after[low - 1]:
            low -= 1
    return low if before[low:] == after[low + 1 :] and before[:low] == after[:low] else None


def _decides(events: Sequence[JourneyEvent], added: int) -> bool:
    """Whether this event can have changed the visits: as a visit, or as a click with a visit that may be its landing."""
    event = events[added]
    if event.flags:
        return False
    if event.cls != CLICK:
        return event.cls in _VISITS
    # A landing at the click's very time may come before it in the journey.
    for i in range(bisect_left(events, event.t, 0, added + 1, key=_time), len(events)):
        other = events[i]
        if other.t > event.t + (LANDING_BY_SOURCE if event.click_id is None else LANDING_BY_ID):
            return False
        if other.cls in _VISITS and (
            other.dims == event.dims or (event.click_id is not None and other.click_id == event.click_id)
        ):
            return True
    return False


def _inserted(
    before: tuple[JourneyEvent, ...], after: tuple[JourneyEvent, ...], t: int, known: Sequence[Visit] | None
) -> list[Fact]:
    """The moves when events came in at `t` or later and no conversion is at or after it: only visits count, and none before `t` changes."""
    if known is None:
        # Marks before that have expired with their buckets.
        known = _visits(after, t - VISITORS_KEPT)
    split = len(known)
    while split and known[split - 1][0] >= t:
        split -= 1
    earlier, now = known[:split], known[split:]
    was = [visit for visit in _visits(before, t) if visit[0] >= t] if before and before[-1].t >= t else []
    if was == now:
        return []
    facts: list[Fact] = []
    for source in dict.fromkeys([ALL, *[dims[:2] for _, dims, _, _ in (*was, *now)]]):
        old, new = _last(was, source), _last(now, source)
        if old is None or new is None:
            past = _last(earlier, source)
            old, new = past if old is None else old, past if new is None else new
        if old != new:
            if new is not None:
                facts.append((new, TOTAL, visitors(source), 1))
            if old is not None:
                facts.append((old, TOTAL, visitors(source), -1))
    return facts


def _visits(events: tuple[JourneyEvent, ...], start: int) -> list[Visit]:
    """The visits of a journey; those before `start` may be wrong or missing."""
    return merge(events if len(events) <= SHORT else since(events, start)).visits


def _last(visits: Sequence[Visit], source: Source) -> int | None:
    for t, dims, _, _ in reversed(visits):
        if source is ALL or dims[:2] == source:
            return t
    return None
