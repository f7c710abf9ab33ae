"""Which touches of a journey may earn credit for a conversion: window, path, exclusions, priority (meaning §5)."""

from __future__ import annotations

from collections.abc import Sequence

from attribution.credit import Stages, weights
from attribution.filters import duplicate_clicks
from attribution.nodes.state import Conversion, Filed, JourneyEvent, Person, TouchRef
from attribution.rules import Rules
from models.wire import CLICK, DIRECT, FILTERED, NO_CONSENT, STAGE, VIEW, VISIT


def file_credit(person: Person, touches: Sequence[JourneyEvent], conversion: Conversion, rules: Rules) -> Filed:
    """Share a conversion among the merged `touches` of its person, under every model of `rules`."""
    inside = _slow_enough(_inside(touches, conversion, rules), conversion, rules)
    inside = _after_previous(inside, person, conversion, rules)
    chosen = _prefer(_exclude(inside, rules), rules)
    if not chosen:
        reason = _reason(person, inside, conversion, rules)
        return Filed(rules.number, reason, (), tuple((model, ()) for model in rules.models))
    points = [(touch.t, touch.cls == DIRECT) for touch in chosen]
    stages = _stages(person, conversion, rules)
    return Filed(
        rules.number,
        None,
        tuple(TouchRef(touch.event_id, touch.t, touch.dims) for touch in chosen),
        tuple((model, tuple(weights(model, points, rules.half_life, stages))) for model in rules.models),
    )


def _stages(person: Person, conversion: Conversion, rules: Rules) -> Stages:
    """When the person first became a lead and an opportunity; what is older than the longest window has no touch before it."""
    if rules.stages is None:
        return (None, None)
    found: list[int | None] = [None, None]
    for event in person.events:
        if event.cls == STAGE and not event.flags and conversion.t - rules.longest <= event.t <= conversion.t:
            for i, stage in enumerate(rules.stages):
                if event.kind == stage and found[i] is None:
                    found[i] = event.t
    return (found[0], found[1])


def _inside(events: Sequence[JourneyEvent], conversion: Conversion, rules: Rules) -> list[JourneyEvent]:
    t, kind = conversion.t, conversion.type
    return [
        event
        for event in events
        if event.t <= t and t - event.t <= rules.window(event.cls, event.kind, event.dims, kind)
    ]


def lost(person: Person) -> int | None:
    """The time of the latest touch event that fell off the journey, or was let go by a device before it could come to it."""
    missed = None if person.given is None else person.given.missed
    if missed is None or person.trimmed is None:
        return person.trimmed if missed is None else missed
    return max(missed, person.trimmed)


def truncated(person: Person, conversion: Conversion, rules: Rules) -> bool:
    """Whether a bound of the person may keep the conversion from what it should be: touches are gone, or it is closed."""
    last = lost(person)
    if last is not None and last >= conversion.t - rules.reach:
        return True
    return person.closed is not None and conversion.t <= person.closed


def hastened(touches: Sequence[JourneyEvent], conversion: Conversion, rules: Rules) -> bool:
    """Whether the conversion followed one of these faster than a person could make it."""
    if not rules.fast_conversions:
        return False
    inside = _inside(touches, conversion, rules)
    return len(_slow_enough(inside, conversion, rules)) < len(inside)


def _slow_enough(inside: list[JourneyEvent], conversion: Conversion, rules: Rules) -> list[JourneyEvent]:
    """Without clicks that the conversion followed faster than a person could make it."""
    fast = conversion.t - rules.fast_conversions
    if fast == conversion.t:
        return inside
    return [event for event in inside if event.t <= fast or event.cls not in (CLICK, VISIT)]


def _after_previous(
    inside: list[JourneyEvent], person: Person, conversion: Conversion, rules: Rules
) -> list[JourneyEvent]:
    if not rules.since_previous:
        return inside
    # Withdrawn ones count: or a cancel would change the next conversion, even after that one is sealed.
    earlier = [other.t for other in person.conversions if other.t < conversion.t]
    if person.closed is not None and person.closed < conversion.t:
        earlier.append(person.closed)
    previous = max(earlier, default=None)
    return inside if previous is None else [touch for touch in inside if touch.t > previous]


def _exclude(touches: list[JourneyEvent], rules: Rules) -> list[JourneyEvent]:
    if rules.exclude_direct == "never":
        return touches
    others = [touch for touch in touches if touch.cls != DIRECT]
    return others if others or rules.exclude_direct == "always" else touches


def _prefer(touches: list[JourneyEvent], rules: Rules) -> list[JourneyEvent]:
    if rules.views_always or not any(touch.cls in (CLICK, VISIT) for touch in touches):
        return touches
    return [touch for touch in touches if touch.cls != VIEW]


def _reason(person: Person, inside: list[JourneyEvent], conversion: Conversion, rules: Rules) -> str:
    gone = lost(person)
    if gone is not None and gone >= conversion.t - rules.longest:
        return "touches_trimmed"
    # An older one may be forgotten by now, or not yet: that must make no difference.
    touches = [event for event in person.events if event.cls != STAGE]
    start = conversion.t - rules.known
    # One that is gone was known too, and is outside the window.
    if (gone is None or gone < start) and not any(start <= event.t <= conversion.t for event in touches):
        return "no_touch_known"
    within = _inside(touches, conversion, rules)
    flagged = [event.flags for event in within if event.flags]
    if any(flags & NO_CONSENT for flags in flagged):
        return "no_consent"
    excluded = rules.exclude_direct == "always" and any(touch.cls == DIRECT for touch in inside)
    passed = [event for event in within if not event.flags]
    fast = hastened(passed, conversion, rules)
    repeated = _inside(duplicate_clicks(person.events, rules.duplicate_clicks), conversion, rules)
    if excluded or fast or repeated or any(flags & FILTERED for flags in flagged):
        return "filtered"
    return "outside_window"
