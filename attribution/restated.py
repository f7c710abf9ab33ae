"""Why a conversion's credit is not what it was at first: its latest restatements, kept with it for who asks.

The order of arrival decides what is a restatement, so this is no part of what the convergence rule covers.
"""

from __future__ import annotations

from attribution.nodes.base import NEVER, Context, Folded
from attribution.nodes.state import Conversion, Node, Person, Restated
from models.wire import AnyEntry, GivenStage, GivenTouch, Link, OrderMove, Stage, Touch, Withdrawal

HISTORY_MAX = 8
"""Restatements kept with a conversion: of more the first are let go."""
TOUCH, GIVEN, TAKEN_BACK, ORDER, STAGE, LINK, OTHER = "touch", "given", "taken_back", "order", "stage", "link", "other"
CAUSES = (TOUCH, GIVEN, TAKEN_BACK, ORDER, STAGE, LINK, OTHER)
"""A touch event came late; a device gave one, or took one back; the order itself changed; a stage came; a device's links changed."""
_CAUSES: dict[type, str] = {
    Touch: TOUCH, GivenTouch: GIVEN, Withdrawal: TAKEN_BACK, OrderMove: ORDER, Stage: STAGE, GivenStage: STAGE, Link: LINK,
}  # fmt: skip


def remember(before: Node, folded: Folded, entry: AnyEntry, context: Context) -> None:
    """Note the entry with each conversion that it restated."""
    person = folded.node
    if not isinstance(before, Person) or not isinstance(person, Person) or not before.conversions:
        return
    ids = {conversion.id for conversion in folded.changed}
    was = {conversion.id: conversion for conversion in before.conversions if conversion.id in ids}
    now: dict[str, Conversion] = {}
    for conversion in folded.changed:
        known = was.get(conversion.id)
        # One that is published again as it was is truncated now, and not restated.
        if known is not None and known is not conversion:
            told = _restated(known, conversion, entry, context)
            now[conversion.id] = conversion._replace(history=(*known.history, told)[-HISTORY_MAX:])
    if now:
        standing = tuple(now.get(conversion.id, conversion) for conversion in person.conversions)
        folded.node = person._replace(conversions=standing)
        folded.changed = [now.get(conversion.id, conversion) for conversion in folded.changed]


def unsay(folded: Folded, what: str) -> None:
    """An event was taken back: it is another person's, so no conversion says any more that it was restated by it."""
    person = folded.node
    if not isinstance(person, Person):
        return
    now = {
        conversion.id: conversion._replace(
            history=tuple(one._replace(what="") if one.what == what else one for one in conversion.history)
        )
        for conversion in person.conversions
        if any(one.what == what for one in conversion.history)
    }
    if now:
        folded.node = person._replace(conversions=tuple(now.get(one.id, one) for one in person.conversions))


def _restated(known: Conversion, conversion: Conversion, entry: AnyEntry, context: Context) -> Restated:
    cause = _CAUSES.get(type(entry), OTHER)
    # Of what was taken back nothing is kept: it is another person's.
    what = entry.event_id if isinstance(entry, Touch | GivenTouch | Stage | GivenStage) else ""
    at = None if context.watermark == NEVER else context.watermark
    return Restated(cause, what, at, known.net, conversion.net)
