"""How the identity parts of a person's node are packed: a device's links and what it gave away, a customer's sources.

The events in them are packed by whoever packs journeys; see `streams.codec`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from attribution.nodes.state import Away, Device, Given, Linked, Person, Spare

Pack = Callable[[tuple[Any, ...]], Any]
Unpack = Callable[[Any], tuple[Any, ...]]


def pack_identity(person: Person, events: Pack, conversions: Pack) -> list[Any] | None:
    """`person.device` and `person.given` as plain lists; None when there is neither."""
    device, given = person.device, person.given
    if device is None and given is None:
        return None
    return [
        None if device is None else _pack_device(device, events, conversions),
        None if given is None else _pack_given(person, given, events, conversions),
    ]


def unpack_identity(packed: list[Any] | None, person: Person, events: Unpack, conversions: Unpack) -> Person:
    """The person with what `pack_identity` packed."""
    if packed is None:
        return person
    device, given = packed
    return person._replace(
        device=None if device is None else _unpack_device(device, events, conversions),
        given=None if given is None else _unpack_given(given, person, events, conversions),
    )


def _indexed(names: Sequence[str | None]) -> tuple[list[str | None], list[int]]:
    """The different names, and for each one its number among them."""
    numbers: dict[str | None, int] = {}
    indexes = [numbers.setdefault(name, len(numbers)) for name in names]
    return list(numbers), indexes


def _pack_device(device: Device, events: Pack, conversions: Pack) -> list[Any]:
    customers, indexes = _indexed([link.customer for link in device.links])
    flat = [item for link, i in zip(device.links, indexes, strict=True) for item in (link.t, link.event_id, i)]
    # A device of one customer has one first link, which is most often still among its links.
    firsts = None if device.firsts == device.links[:1] else device.firsts
    return [
        customers, flat, firsts, _pack_parts(device.touches, events), _pack_parts(device.conversions, conversions),
        device.last,
    ]  # fmt: skip


def _unpack_device(packed: list[Any], events: Unpack, conversions: Unpack) -> Device:
    customers, flat, firsts, touches, others, last = packed
    links = tuple(
        Linked(t, event_id, customers[i]) for t, event_id, i in zip(flat[::3], flat[1::3], flat[2::3], strict=True)
    )
    return Device(
        links,
        links[:1] if firsts is None else tuple(Linked(*first) for first in firsts),
        tuple(Away(what, owner) for owner, what in _unpack_parts(touches, events)),
        tuple(Away(what, owner) for owner, what in _unpack_parts(others, conversions)),
        last,
    )


def _pack_parts(parts: Sequence[Away | Spare], pack: Pack) -> list[Any] | None:
    if not parts:
        return None
    names, indexes = _indexed([part.owner if isinstance(part, Away) else part.device for part in parts])
    return [names, indexes if len(names) > 1 else None, pack(tuple(part.what for part in parts))]


def _unpack_parts(packed: list[Any] | None, unpack: Unpack) -> list[tuple[Any, Any]]:
    if packed is None:
        return []
    names, indexes, whats = packed
    found = unpack(whats)
    return [(names[i], what) for i, what in zip(indexes or [0] * len(found), found, strict=True)]


def _pack_given(person: Person, given: Given, events: Pack, conversions: Pack) -> list[Any]:
    return [
        _indexed([given.touches.get(event.event_id) for event in person.events]),
        _indexed([given.conversions.get(conversion.id) for conversion in person.conversions]),
        _pack_parts(given.spare_touches, events),
        _pack_parts(given.spare_conversions, conversions),
        given.missed,
    ]


def _unpack_given(packed: list[Any], person: Person, events: Unpack, conversions: Unpack) -> Given:
    touches, others, spare_touches, spare_conversions, missed = packed
    return Given(
        _named(touches, [event.event_id for event in person.events]),
        _named(others, [conversion.id for conversion in person.conversions]),
        tuple(Spare(device, what) for device, what in _unpack_parts(spare_touches, events)),
        tuple(Spare(device, what) for device, what in _unpack_parts(spare_conversions, conversions)),
        missed,
    )


def _named(packed: Any, ids: list[str]) -> dict[str, str]:
    devices, indexes = packed
    return {name: devices[i] for name, i in zip(ids, indexes, strict=True) if devices[i] is not None}
