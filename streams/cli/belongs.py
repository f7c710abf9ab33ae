"""Whose a person's events are, in words: a device's links and what it gave away, and a customer's devices."""

from __future__ import annotations

from collections import Counter

from msgspec import Struct

from attribution.nodes.state import Person
from attribution.outcome import moment
from models.settings import Marketing


class LinkSeen(Struct, kw_only=True):
    """From this time on the device belongs to this customer."""

    customer: str
    since: str
    t: int


class Exchanged(Struct, kw_only=True):
    """How many touch events and conversions went to (of a device), or came from (of a customer), this person key."""

    person: str
    touches: int
    conversions: int


def links(person: Person) -> list[LinkSeen]:
    """A device's links: of those that follow one another to one customer the first."""
    found: list[LinkSeen] = []
    for link in person.device.links if person.device else ():
        if not found or found[-1].customer != link.customer:
            found.append(LinkSeen(customer=link.customer, since=moment(link.t), t=link.t))
    return found


def shared(person: Person, marketing: Marketing) -> bool:
    """Whether the device has too many customers to claim anything."""
    return person.device is not None and len(person.device.firsts) > marketing.device_customers


def exchanged(person: Person) -> list[Exchanged]:
    """What a device gave away, or what a customer was given, by the other side's key."""
    touches: Counter[str] = Counter()
    conversions: Counter[str] = Counter()
    if person.device is not None:
        touches.update(there.owner for there in person.device.touches)
        conversions.update(there.owner for there in person.device.conversions)
    if person.given is not None:
        touches.update(person.given.touches.values())
        conversions.update(person.given.conversions.values())
    return [
        Exchanged(person=key, touches=touches[key], conversions=conversions[key])
        for key in sorted(touches.keys() | conversions.keys())
    ]
