"""From a journey's events to its touches: filter, then merge landings and visits (docs/semantics.md)."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from operator import itemgetter
from typing import NamedTuple

from attribution.filters import duplicate_clicks
from attribution.nodes.state import JourneyEvent
from attribution.rules import LANDING_BY_ID, LANDING_BY_SOURCE, SESSION_GAP, Dims
from models.wire import CLICK, DIRECT, STAGE, VISIT

_VISITS = (VISIT, DIRECT)
_time = itemgetter(0)


SHORT = 64
"""Events of a journey that is merged whole: looking for where to begin takes as long."""
Visit = tuple[int, Dims, str, bool]
"""Time, dims and id of the event that starts a visit, and whether it is a landing."""


class Merged(NamedTuple):
    """`touches` and visits in journey order."""

    touches: list[JourneyEvent]
    visits: list[Visit]


def merge(events: Sequence[JourneyEvent], gap: int = 0) -> Merged:
    """One interaction is one touch.

    `events` are sorted; flagged ones take no part. Clicks within `gap` after one of the same source are no touches either, but
    a visit may be the landing of one. What an event becomes depends only on events at or before its
    time, so adding one changes nothing before it.
    """
    touches: list[JourneyEvent] = []
    visits: list[Visit] = []
    clicks = [event for event in events if event[2] == CLICK and not event[6]]
    repeated = {event[1] for event in duplicate_clicks(clicks, gap)} if gap and len(clicks) > 1 else ()
    # The latest click so far by its id, and by its source: their places among `clicks`.
    by_id: dict[str, int] = {}
    by_source: dict[Dims, int] = {}
    seen = 0
    last: int | None = None
    source: Dims | None = None
    for event in events:
        t, event_id, cls, _, dims, _, flags, _, _ = event
        if flags:
            continue
        if cls not in _VISITS:
            if cls != STAGE and event_id not in repeated:
                touches.append(event)
            continue
        # Equal times count, whatever the ids' order.
        while seen < len(clicks) and clicks[seen][0] <= t:
            newest = clicks[seen]
            by_source[newest[4]] = seen
            if newest[5] is not None:
                by_id[newest[5]] = seen
            seen += 1
        click = _landed_from(event, clicks, by_id, by_source) if seen else None
        if click is not None:
            dims = click.dims
        sourceless = click is None and cls == DIRECT
        continues = last is not None and t - last < SESSION_GAP and (sourceless or dims == source)
        last = t
        if continues:
            continue
        source = dims
        visits.append((t, dims, event_id, click is not None))
        if click is None:
            touches.append(event)
    return Merged(touches, visits)


def since(events: tuple[JourneyEvent, ...], earliest: int) -> tuple[JourneyEvent, ...]:
    """The end of a journey that decides its visits from `earliest` on.

    It begins a day (the longest reach of a landing) before the first visit event of the chain that may still be growing
    then: a visit event after a gap of a session's length starts anew, whatever came before it.
    """
    i = bisect_left(events, earliest, key=_time)
    start = earliest
    for event in reversed(events[:i]):
        if event.t < start - SESSION_GAP:
            break
        if event.cls in _VISITS:
            start = event.t
    return events[bisect_left(events, start - LANDING_BY_ID, 0, i, key=_time) :]


def _landed_from(
    visit: JourneyEvent, clicks: Sequence[JourneyEvent], by_id: dict[str, int], by_source: dict[Dims, int]
) -> JourneyEvent | None:
    """The latest click that this visit is the landing of."""
    t, click_id = visit[0], visit[5]
    at = -1
    if click_id is not None:
        at = by_id.get(click_id, -1)
        if at >= 0 and t - clicks[at][0] > LANDING_BY_ID:
            at = -1
    same = by_source.get(visit[4], -1)
    if same > at and t - clicks[same][0] <= LANDING_BY_SOURCE:
        at = same
    return None if at < 0 else clicks[at]


def landings(events: Sequence[JourneyEvent]) -> dict[str, str]:
    """Of each visit event that is a landing, by its id: the click it landed from. For who asks about one journey; `merge` needs no list."""
    clicks = [event for event in events if event.cls == CLICK and not event.flags]
    found: dict[str, str] = {}
    for event in events:
        if event.cls in _VISITS and not event.flags:
            before = [i for i, click in enumerate(clicks) if click.t <= event.t]
            by_id = {click_id: i for i in before if (click_id := clicks[i].click_id) is not None}
            click = _landed_from(event, clicks, by_id, {clicks[i].dims: i for i in before})
            if click is not None:
                found[event.event_id] = click.event_id
    return found
