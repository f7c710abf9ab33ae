"""From a journey's events to its touches: filter, then merge landings and visits (docs/semantics.md)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from attribution.nodes.state import JourneyEvent
from attribution.rules import LANDING_BY_ID, LANDING_BY_SOURCE, SESSION_GAP, Dims
from models.wire import CLICK, DIRECT, VISIT


class Merged(NamedTuple):
    """`touches` in journey order; `visits` as (time, dims, event_id) of each event that starts a visit."""

    touches: list[JourneyEvent]
    visits: list[tuple[int, Dims, str]]


def merge(events: Sequence[JourneyEvent]) -> Merged:
    """One interaction is one touch.

    `events` are sorted; flagged ones take no part. What an event becomes depends only on events at or before its
    time, so adding one changes nothing before it.
    """
    touches: list[JourneyEvent] = []
    visits: list[tuple[int, Dims, str]] = []
    clicks = [event for event in events if event.cls == CLICK and not event.flags]
    last: int | None = None
    source: Dims | None = None
    for event in events:
        if event.flags:
            continue
        if event.cls != VISIT and event.cls != DIRECT:
            touches.append(event)
            continue
        click = _landed_from(event, clicks) if clicks else None
        dims = click.dims if click is not None else event.dims
        sourceless = click is None and event.cls == DIRECT
        continues = last is not None and event.t - last < SESSION_GAP and (sourceless or dims == source)
        last = event.t
        if continues:
            continue
        source = dims
        visits.append((event.t, dims, event.event_id))
        if click is None:
            touches.append(event)
    return Merged(touches, visits)


def _landed_from(visit: JourneyEvent, clicks: Sequence[JourneyEvent]) -> JourneyEvent | None:
    """The latest click that this visit is the landing of. Equal times count, whatever the ids' order."""
    for click in reversed(clicks):
        gap = visit.t - click.t
        if gap < 0:
            continue
        if gap > LANDING_BY_ID:
            return None
        if visit.click_id is not None and visit.click_id == click.click_id:
            return click
        if gap <= LANDING_BY_SOURCE and visit.dims == click.dims:
            return click
    return None
