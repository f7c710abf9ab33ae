"""What is left of nodes when persons are forgotten (meaning §14, docs/privacy.md).

What the persons brought stays in the sums, to the unit: their nodes go, and no facts are taken back. Others lose what they were given through a
forgotten device, and are attributed anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from attribution.facts import Fact
from attribution.fold import fold, told
from attribution.forgetting import STAYS, Forgotten
from attribution.newness import first_orders
from attribution.nodes.base import Context, Folded
from attribution.nodes.order import fold_forget, named
from attribution.nodes.person import refile
from attribution.nodes.state import Answer, Conversion, CostRow, Given, Node, Order, Person
from attribution.visitors import visitor_facts
from models.wire import (
    AnyEntry,
    GivenStage,
    GivenTouch,
    Link,
    Missed,
    Move,
    OrderMove,
    OrderReport,
    Stage,
    Survey,
    Withdrawal,
)

NOBODY: frozenset[str] = frozenset()
OF_CUSTOMER, OF_DEVICES = "c", "d"
"""Before an order's key, a mark on the forget list that is no node's: the order went with a forgotten customer; nobody but forgotten
devices has reported it yet, so it may turn out to be somebody else's."""


class Erased:
    """What came of it. `nodes` are those that changed, None for one that is gone; `changed` are (person, conversion) to publish.

    `left` are (person, conversion) that stay in the sums, and of which nothing may say whose they were. `devices` are found to be a forgotten
    person's and have to be forgotten too, `orders` (and marks of orders) to be put on the list.
    """

    __slots__ = ("changed", "devices", "facts", "left", "moves", "nodes", "orders")

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.facts: list[Fact] = []
        self.moves: list[Move] = []
        self.changed: list[tuple[str, Conversion]] = []
        self.left: list[tuple[str, Conversion]] = []
        self.devices: set[str] = set()
        self.orders: set[str] = set()

    def take(self, key: str, folded: Folded) -> None:
        """What one fold of a node gave."""
        self.nodes[key] = folded.node
        self.facts += folded.facts
        self.moves += folded.moves
        self.changed += [(key, conversion) for conversion in folded.changed]


def mentions(node: Node) -> frozenset[str]:
    """Whom a node names beside its own key: customers of a device, devices of a customer, who reported an order, who answered."""
    if isinstance(node, Person):
        device, given = node.device, node.given
        if device is None and given is None:
            return NOBODY
        found: set[str] = set()
        if device is not None:
            found.update(link.customer for link in (*device.links, *device.firsts))
            found.update(there.owner for there in (*device.touches, *device.conversions))
        if given is not None:
            found.update(given.touches.values(), given.conversions.values())
            found.update(s.device for s in (*given.spare_touches, *given.spare_conversions) if s.device is not None)
        return frozenset(found)
    if isinstance(node, Order):
        return frozenset(named(node))
    return frozenset((node.person,)) if isinstance(node, Answer) and node.person else NOBODY


def erase(nodes: Mapping[str, Node], forgotten: Forgotten, context: Context) -> Erased:
    """Make nodes, of persons who are forgotten or that mention them, know nothing of them any more."""
    erased = Erased()
    for key, node in nodes.items():
        if isinstance(node, Person):
            if key in forgotten:
                erased.nodes[key] = None
                erased.left += [(key, conversion) for conversion in node.conversions]
            elif node.device is not None:
                # It goes as a whole, when all partitions are told.
                if _any(mentions(node), forgotten):
                    erased.devices.add(key)
            else:
                _strip(key, node, forgotten, context, erased)
        elif isinstance(node, Order):
            _order(key, node, named(node), forgotten, erased)
        elif isinstance(node, Answer) and node.person in forgotten:
            erased.nodes[key] = None
    return erased


def screen(entry: AnyEntry, node: Node, forgotten: Forgotten) -> Erased | None:
    """What becomes of an entry that names somebody forgotten, in the place of being folded; None when it names nobody who is."""
    erased = Erased()
    # A node that exists is not forgotten; of orders that are, nothing may be known again.
    if node is None and entry.key[0] in "aco" and (entry.key in forgotten or STAYS + entry.key in forgotten):
        # Two ids on one order are a link: who reports a forgotten customer's is a device of that customer.
        device = entry.person if isinstance(entry, OrderReport) else None
        if device and device[0] == "a" and device not in forgotten and OF_CUSTOMER + entry.key in forgotten:
            erased.devices.add(device)
        return erased
    if node is None and entry.key[0] == "o" and not isinstance(entry, OrderReport):
        return erased if OF_DEVICES + entry.key in forgotten else None
    if isinstance(entry, Link):
        if entry.customer not in forgotten:
            return None
        erased.devices.add(entry.key)
        return erased
    if isinstance(entry, OrderReport):
        assert not isinstance(node, Person | CostRow | Answer)
        return _report(node, entry, forgotten) if entry.person and entry.person in forgotten else None
    if isinstance(entry, OrderMove | GivenStage | Stage):
        # It was on its way when its money stayed in the sums.
        name = f"o:{entry.order_id}" if isinstance(entry, OrderMove) else f"s:{entry.event_id}"
        if _staying(entry.key, name) in forgotten:
            return erased
    if isinstance(entry, GivenTouch | GivenStage | Withdrawal | Missed | OrderMove):
        named = entry.device
    else:
        named = entry.person if isinstance(entry, Survey) else None
    return erased if named and named in forgotten else None


def _report(node: Order | None, entry: OrderReport, forgotten: Forgotten) -> Erased:
    """A forgotten person's report of an order. It says nothing but that the order is theirs, unless a customer has it already.

    A device's says less: a customer's report that is still to come decides.
    """
    erased = Erased()
    persons = named(node) if node is not None else set()
    customers = {person for person in persons if person[0] == "c"}
    ours = entry.person is not None and entry.person[0] == "c"
    if ours:
        erased.devices |= {person for person in persons - customers if person not in forgotten}
    if not customers and (ours or not persons):
        erased.orders |= {entry.key, OF_CUSTOMER + entry.key} if ours else {OF_DEVICES + entry.key}
        if node is not None:
            erased.nodes[entry.key] = None
    return erased


def _order(key: str, node: Order, persons: set[str], forgotten: Forgotten, erased: Erased) -> None:
    gone = {person for person in persons if person in forgotten}
    if not gone:
        return
    customer = any(person[0] == "c" for person in gone)
    if customer:
        erased.devices |= {person for person in persons - gone if person[0] == "a"}
    erased.take(key, fold_forget(key, node, gone))
    if erased.nodes[key] is None:
        erased.orders |= {key, OF_CUSTOMER + key} if customer else {STAYS + key, OF_DEVICES + key}


def _strip(key: str, node: Person, forgotten: Forgotten, context: Context, erased: Erased) -> None:
    """A customer without what came through forgotten devices.

    A conversion that came through one alone stays in the sums and goes; touches are taken back, and conversions attributed without them.
    """
    gone = {device for device in mentions(node) if device in forgotten}
    given = node.given
    if not gone or given is None:
        return
    touches = tuple(spare for spare in given.spare_touches if spare.device not in gone)
    conversions = tuple(spare for spare in given.spare_conversions if spare.device not in gone)
    spared = {spare.what.id for spare in conversions if isinstance(spare.what, Conversion)}
    through = {name: device for name, device in given.conversions.items() if device in gone}
    lost = {name for name in through if name not in spared}
    kept = {name: device for name, device in given.conversions.items() if name not in lost}
    left = given._replace(conversions=kept, spare_touches=touches, spare_conversions=conversions)
    person = node._replace(
        conversions=tuple(other for other in node.conversions if other.id not in lost),
        given=None if left == Given() else left,
    )
    erased.left += [(key, other) for other in node.conversions if other.id in lost]
    erased.orders |= {_staying(key, name) for name in lost}
    folded = Folded(person)
    if lost:
        # Those after it may now be the first order, or reach further back.
        folded = refile(person, min(other.t for other in node.conversions if other.id in lost), [], context)
        first_orders(folded, context.rules, known=True)
        folded = told(key, person, folded, context)
        # Who visited through the device is counted no more: so is not who converted, or there were more of these.
        folded.facts = [*folded.facts, *visitor_facts(node, person)]
    erased.take(key, folded)
    taken = [(name, device, True) for name, device in through.items() if name in spared]
    taken += [(name, device, False) for name, device in given.touches.items() if device in gone]
    for name, device, conversion in sorted(taken):
        withdrawal = Withdrawal(key, 0, 0, device, name, conversion)
        erased.take(key, fold(erased.nodes[key], withdrawal, context))


def _staying(person: str, conversion: str) -> str:
    """On the forget list: a conversion that a person lost with a device, and that stays in the sums."""
    return f"{STAYS}{person}|{conversion}"


def _any(persons: Iterable[str], forgotten: Forgotten) -> bool:
    return any(person in forgotten for person in persons)
