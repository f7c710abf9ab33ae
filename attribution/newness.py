"""New and returning customers: which order is a customer's first (meaning §7)."""

from __future__ import annotations

from attribution.facts import Fact, negated
from attribution.filing import conversion_facts
from attribution.nodes.base import Folded
from attribution.nodes.state import Conversion, Node, Person
from attribution.rules import Rules


def first_orders(folded: Folded, rules: Rules, *, known: bool) -> None:
    """Bring the marks of a person's orders up to date, and file what that changes. `known`: the person has a customer id.

    What the order's sender says holds. Else the first order that was not taken away is new and the others are not; of an order
    before `rules.new_from`, or without a customer id, nobody knows.
    """
    person = folded.node
    assert isinstance(person, Person)
    earlier = person.bought or person.closed is not None
    result: list[Conversion] = []
    facts: list[Fact] = []
    for conversion in person.conversions:
        new: bool | None = None
        if conversion.type == "purchase" and conversion.gone is None:
            new = conversion.is_new
            if new is None and known and rules.new_from is not None and conversion.t >= rules.new_from:
                new = not earlier
            earlier = True
        after = conversion if new is conversion.new else conversion._replace(new=new)
        if after is not conversion and (after.new or conversion.new):
            facts += conversion_facts(after) + negated(conversion_facts(conversion))
        result.append(after)
    conversions = tuple(result)
    if conversions != person.conversions:
        folded.node = person._replace(conversions=conversions)
        folded.facts = [*folded.facts, *facts]
        standing = {conversion.id: conversion for conversion in conversions}
        folded.changed = [standing.get(one.id, one) if one.gone is None else one for one in folded.changed]


_MARK = Person(bought=True)


def forgotten(key: str, node: Node, rules: Rules) -> Person | None:
    """What outlives a customer's journey and orders: the mark that there were some. None where it says nothing."""
    if not isinstance(node, Person) or not key.startswith("c:") or rules.new_from is None:
        return None
    ordered = any(conversion.type == "purchase" and conversion.gone is None for conversion in node.conversions)
    return _MARK if node.bought or ordered else None


def is_mark(node: Node) -> bool:
    """Whether this is all that is left of a customer."""
    return isinstance(node, Person) and node.bought and node == _MARK
