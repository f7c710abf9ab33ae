"""The oracle: attribution read slowly and plainly from docs/semantics.md.

It shares no code with `attribution`, works in one pass over everything there is, in `Fraction`s and
`Decimal`s, and is written to be checked against the text by eye. The core must agree with it on every
generated history, to the micro.

Assumed of its input: sources are given explicitly (`channel`, `network`, `campaign`), nothing is late, and no journey
is long enough to be cut. Times are integer microseconds, money is integer micros of the reporting currency.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal, localcontext
from fractions import Fraction
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from models.settings import DAY, HOUR, MINUTE, SECOND, Marketing, micros

Dims = tuple[str, str, str]
Body = Mapping[str, Any]
NONE, DIRECT = "(none)", "Direct"
UNATTRIBUTED: Dims = ("(unattributed)", NONE, NONE)
WHOLE = 1_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TOUCH_TYPES = ("click", "visit", "impression", "view", "email_open", "engagement")


@dataclass(frozen=True)
class Event:
    """One touch event of one person (or of nobody: person None)."""

    t: int
    event_id: str
    person: str | None
    type: str
    kind: str
    dims: Dims
    click_id: str | None
    consent: bool
    cost: int

    @property
    def cls(self) -> str:
        if self.type == "click":
            return "click"
        if self.type == "visit":
            return "direct" if self.dims[0] == DIRECT else "click"
        return "engagement" if self.type == "engagement" else "view"


@dataclass
class Journey:
    """One person's touch events and what merging makes of them."""

    events: list[Event] = field(default_factory=list)
    touches: list[Event] = field(default_factory=list)
    visits: list[tuple[int, Dims]] = field(default_factory=list)
    stages: list[tuple[str, int]] = field(default_factory=list)
    """Name and time of each stage event with consent."""
    landings: dict[str, str] = field(default_factory=dict)
    continued: list[str] = field(default_factory=list)
    repeated: list[Event] = field(default_factory=list)


@dataclass(frozen=True)
class Mark:
    """A stage event, whether or not it is a conversion."""

    person: str
    t: int
    event_id: str
    body: Body


@dataclass
class Conversion:
    """An order or a configured stage, in reporting micros."""

    id: str
    order_id: str | None
    type: str
    t: int
    person: str
    gross: int
    net: int
    net_margin: int | None = None
    gone: str | None = None
    """Why it was withdrawn: cancelled or refunded; None while it counts."""
    reason: str | None = None
    """Why it is unattributed."""
    called_new: bool | None = None
    """What the order's sender says of the customer."""
    new: bool = False
    """Whether it is counted as a new customer's."""

    @property
    def withdrawn(self) -> bool:
        return self.gone is not None


@dataclass(frozen=True)
class Credit:
    """What one touch earns of one conversion under one model."""

    conversion: Conversion
    model: str
    touch: Event
    micro: int
    gross: int
    net: int
    net_margin: int


@dataclass
class Row:
    """Sums of credit. `net_margin` is over conversions of known margin."""

    conversions: Fraction = Fraction(0)
    gross: int = 0
    net: int = 0
    net_margin: int = 0

    def add(self, micro: int, gross: int, net: int, net_margin: int) -> None:
        self.conversions += Fraction(micro, WHOLE)
        self.gross += gross
        self.net += net
        self.net_margin += net_margin


@dataclass
class Books:
    """What falls into [start, end). Money in micros; a key that would hold zero may be absent."""

    models: dict[str, dict[Dims, Row]]
    counts: dict[str, dict[Dims, int]]
    """clicks, impressions, engagements, email_opens, visits"""
    orders: int
    gross: int
    net: int
    cost: dict[Dims, int]
    new: int
    """Orders of new customers."""


@dataclass(frozen=True)
class CostRow:
    start: int
    end: int
    """End of accrual."""
    kind: str
    dims: Dims
    amount: int

    def up_to(self, t: int) -> int:
        inside = min(max(t, self.start), self.end) - self.start
        return self.amount * inside // (self.end - self.start)


@dataclass
class Result:
    attributions: dict[str, dict[str, Any]]
    conversions: list[Conversion]
    journeys: dict[str, Journey]
    credits: list[Credit]
    counted: list[Event]
    """Every touch event as its own device, customer or nobody has it: what counts whoever it belongs to."""
    identities: Identities
    costs: list[CostRow]
    models: tuple[str, ...]

    @property
    def crowd(self) -> list[Event]:
        """Engagements and impressions of nobody."""
        return [event for event in self.counted if event.person is None]

    def books(self, start: int, end: int, conversion: str | None = None) -> Books:
        """Conversion basis; `conversion` restricts the credit to one conversion type."""
        models = self._credit_rows(lambda credit: credit.conversion.t, start, end, conversion)
        live = [c for c in self.conversions if not c.withdrawn and start <= c.t < end]
        for found in live:
            if found.reason and conversion in (None, found.type):
                for rows in models.values():
                    rows[UNATTRIBUTED].add(WHOLE, found.gross, found.net, found.net_margin or 0)
        orders = [c for c in live if c.order_id is not None]
        return Books(
            models={model: dict(rows) for model, rows in models.items()},
            counts=self._counts(start, end),
            orders=len(orders),
            gross=sum(c.gross for c in orders),
            net=sum(c.net for c in orders),
            cost=self._cost(start, end),
            new=sum(c.new for c in orders),
        )

    def touch_books(self, start: int, end: int, conversion: str | None = None) -> dict[str, dict[Dims, Row]]:
        """Touch basis: credit filed at the touch's time. The unattributed has no touch and is not in it."""
        models = self._credit_rows(lambda credit: credit.touch.t, start, end, conversion)
        return {model: dict(rows) for model, rows in models.items()}

    def _credit_rows(self, when: Any, start: int, end: int, only: str | None) -> dict[str, defaultdict[Dims, Row]]:
        models: dict[str, defaultdict[Dims, Row]] = {model: defaultdict(Row) for model in self.models}
        for credit in self.credits:
            if start <= when(credit) < end and only in (None, credit.conversion.type):
                row = models[credit.model][credit.touch.dims]
                row.add(credit.micro, credit.gross, credit.net, credit.net_margin)
        return models

    def _counts(self, start: int, end: int) -> dict[str, dict[Dims, int]]:
        names = {
            "click": "clicks",
            "impression": "impressions",
            "engagement": "engagements",
            "email_open": "email_opens",
        }
        counts: dict[str, Counter[Dims]] = {name: Counter() for name in (*names.values(), "visits")}
        repeated = [event for journey in self.journeys.values() for event in journey.repeated]
        for event in self.counted:
            if event.type in names and event.consent and start <= event.t < end:
                counts[names[event.type]][event.dims] += 1
        counts["clicks"].subtract(event.dims for event in repeated if start <= event.t < end)
        counts["touches"] = Counter(
            event.dims for event in self.counted if event.type != "visit" and event.consent and start <= event.t < end
        )
        counts["touches"].subtract(event.dims for event in repeated if start <= event.t < end)
        for journey in self.journeys.values():
            visits = [touch for touch in journey.touches if touch.type == "visit" and start <= touch.t < end]
            counts["touches"].update(visit.dims for visit in visits)
            counts["visits"].update(dims for t, dims in journey.visits if start <= t < end)
        return {name: {dims: n for dims, n in counter.items() if n} for name, counter in counts.items()}

    def _cost(self, start: int, end: int) -> dict[Dims, int]:
        sums: Counter[Dims] = Counter()
        for row in self.costs:
            sums[row.dims] += row.up_to(end) - row.up_to(start)
        for event in self.counted:
            if event.type == "click" and start <= event.t < end and not self._reported(event):
                sums[event.dims] += event.cost
        return {dims: amount for dims, amount in sums.items() if amount}

    def _reported(self, click: Event) -> bool:
        hour = click.t - click.t % HOUR
        return any(
            row.kind == "media" and row.dims[1:] == click.dims[1:] and row.start <= hour < row.end for row in self.costs
        )


def attribute(events: Iterable[tuple[str, Body]], marketing: Marketing) -> Result:
    """Everything the events say, as (topic, JSON object), in any order and with any duplicates."""
    touches: dict[tuple[str, str], list[tuple[Any, Event]]] = defaultdict(list)
    stages: dict[tuple[str, str], list[tuple[Any, Conversion]]] = defaultdict(list)
    purchases: dict[tuple[str, str], list[tuple[Any, Body]]] = defaultdict(list)
    marks: dict[tuple[str, str], list[tuple[Any, Mark]]] = defaultdict(list)
    costs: dict[str, list[tuple[Any, Body]]] = defaultdict(list)
    events = remaining(list(events), marketing)
    identities = Identities(events, marketing)
    for topic, body in events:
        if topic == "costs":
            rank = (-moment(body.get("reported_at") or body["end"]), canonical(body))
            costs[body["cost_id"]].append((rank, body))
            continue
        rank = (moment(body["occurred_at"]), canonical(body))
        person = person_key(body, marketing)
        kind = "click" if topic == "clicks" else body["type"]
        if topic == "purchases":
            if kind != "order" or person:
                purchases[body["order_id"], body["event_id"]].append((rank, body))
        elif kind in TOUCH_TYPES and (person or kind in ("engagement", "impression")):
            node = person or f"e:{body['event_id']}"
            touches[node, body["event_id"]].append((rank, touch_event(kind, body, person, marketing)))
        elif kind == "stage" and person:
            marks[person, body["event_id"]].append((rank, Mark(person, rank[0], body["event_id"], body)))
            if body.get("stage") in marketing.conversions:
                stages[person, body["event_id"]].append((rank, stage(body, person, marketing)))

    counted = winners(touches)
    journeys: dict[str, Journey] = defaultdict(Journey)
    for event in identities.owned([event for event in counted if event.person], lambda event: event.event_id):
        journeys[event.person].events.append(event)
    for mark in identities.owned(winners(marks), lambda mark: mark.event_id):
        if mark.body.get("consent", True):
            journeys[mark.person].stages.append((mark.body["stage"], mark.t))
    for journey in journeys.values():
        merge(journey, micros(marketing.filters.duplicate_clicks))
    conversions = identities.owned(
        [*winners(stages), *orders(winners(purchases), marketing)], lambda conversion: conversion.id
    )
    mark_new(conversions, marketing)
    credits, attributions = [], {}
    for conversion in sorted(conversions, key=lambda c: (c.t, c.id)):
        journey = journeys.get(conversion.person, Journey())
        mine = [other for other in conversions if other.person == conversion.person]
        earned = [] if conversion.withdrawn else credit(conversion, journey, mine, marketing)
        credits += earned
        attributions[conversion.id] = line(conversion, earned, marketing)
    rows = [row for body in winners(costs) if (row := cost_row(body, marketing))]
    return Result(attributions, conversions, dict(journeys), credits, counted, identities, rows, marketing.models)


# --- Forgetting


def forgotten(events: list[tuple[str, Body]], marketing: Marketing) -> set[str]:
    """Persons, devices and orders that nobody may know: those named by a forget event, the devices ever linked to a customer
    among them, and the orders that belong to any of these."""
    asked = [body for topic, body in events if topic == "touchpoints" and body["type"] == "forget"]
    gone = {
        key
        for body in asked
        for key in (usable(body, "customer_id", "c", marketing), usable(body, "anonymous_id", "a", marketing))
        if key
    }
    gone |= {
        device
        for device, links in Identities(events, marketing).links.items()
        if any(link[2] in gone for link in links)
    }
    for order_id, persons in reporters(events, marketing).items():
        customers = {person for person in persons if person.startswith("c:")}
        if (customers or persons) <= gone:
            gone.add(f"o:{order_id}")
    return gone


def reporters(events: list[tuple[str, Body]], marketing: Marketing) -> dict[str, set[str]]:
    """Whom the reports of each order name."""
    found: dict[str, set[str]] = defaultdict(set)
    for topic, body in events:
        if topic == "purchases" and body["type"] == "order" and (person := person_key(body, marketing)):
            found[body["order_id"]].add(person)
    return found


def remaining(events: list[tuple[str, Body]], marketing: Marketing) -> list[tuple[str, Body]]:
    """The events without those of the forgotten, and without the forgotten devices of others."""
    gone = forgotten(events, marketing)
    kept = []
    for topic, body in events:
        if topic == "costs":
            kept.append((topic, body))
            continue
        person, device = person_key(body, marketing), usable(body, "anonymous_id", "a", marketing)
        if f"o:{body.get('order_id')}" in gone or (topic != "purchases" and body.get("type") == "forget"):
            continue
        if person in gone and (topic != "purchases" or body["type"] == "order"):
            continue
        if device in gone or usable(body, "customer_id", "c", marketing) in gone:
            # A refund of somebody else's order stays; whoever sent it is named no more.
            names = ("anonymous_id",) if person not in gone else ("anonymous_id", "customer_id")
            kept.append((topic, {name: value for name, value in body.items() if name not in names}))
        else:
            kept.append((topic, body))
    return kept


def winners(found: Mapping[Any, list[tuple[Any, Any]]]) -> list[Any]:
    """Of duplicates the one of smallest rank. Equal times with contents that matter are not decided here."""
    return [min(candidates, key=lambda pair: pair[0])[1] for candidates in found.values()]


# --- Identity


class Identities:
    """Whose an anonymous event is, by the links there are."""

    def __init__(self, events: list[tuple[str, Body]], marketing: Marketing) -> None:
        self.links: dict[str, set[tuple[int, str, str]]] = defaultdict(set)
        self.most = marketing.device_customers
        self.claim = claimed(marketing)
        reports: dict[str, list[tuple[int, str, str]]] = defaultdict(list)
        for topic, body in events:
            if topic == "costs":
                continue
            customer, device = usable(body, "customer_id", "c", marketing), usable(body, "anonymous_id", "a", marketing)
            when = (moment(body["occurred_at"]), body["event_id"])
            if customer and device:
                self.links[device].add((*when, customer))
            if topic == "purchases" and body["type"] == "order" and (customer or device):
                reports[body["order_id"]].append((*when, customer or device or ""))
        for said in reports.values():
            for one in said:
                for other in said:
                    if one[2].startswith("a:") and other[2].startswith("c:"):
                        self.links[one[2]].add((*max(one[:2], other[:2]), other[2]))

    def owner(self, node: str, t: int) -> str:
        """The person of what happened at this node at `t`."""
        found = self.links.get(node)
        if not found:
            return node
        firsts = sorted(min(link for link in found if link[2] == customer) for customer in {link[2] for link in found})
        if len(firsts) > self.most and t >= firsts[self.most][0] - self.claim:
            return node
        hourly: dict[tuple[int, str], tuple[int, str, str]] = {}
        for link in sorted(found, reverse=True):
            hourly[link[0] // HOUR, link[2]] = link
        links = sorted(hourly.values())
        before = [link for link in links if link[0] <= t]
        if before:
            return before[-1][2]
        return links[0][2] if links[0][0] - t <= self.claim else node

    def owned(self, found: list[Any], name: Any) -> list[Any]:
        """Everything at its owner; of several with one name there the owner's own, else the earliest."""
        best: dict[tuple[str, str], tuple[bool, int, Any]] = {}
        for one in found:
            person = self.owner(one.person, one.t)
            key, rank = (person, name(one)), (one.person != person, one.t)
            if key not in best or rank < best[key][:2]:
                best[key] = (*rank, replace(one, person=person))
        return [one for _, _, one in best.values()]


# --- Reading values


def moment(text: str) -> int:
    """RFC 3339 to microseconds since 1970 UTC."""
    return (datetime.fromisoformat(text) - EPOCH) // timedelta(microseconds=1)


def canonical(body: Body) -> str:
    return json.dumps(body, sort_keys=True)


def person_key(body: Body, marketing: Marketing) -> str | None:
    return usable(body, "customer_id", "c", marketing) or usable(body, "anonymous_id", "a", marketing)


def usable(body: Body, name: str, letter: str, marketing: Marketing) -> str | None:
    junk = {junk.casefold() for junk in marketing.junk_ids} | {""}
    value = (body.get(name) or "").strip()
    return None if value.casefold() in junk else f"{letter}:{value}"


def own_micros(amount: Any) -> int:
    return round(Fraction(str(amount)) * 1_000_000)


def rate(currency: str | None, t: int, marketing: Marketing) -> Fraction:
    """Reporting units per unit of `currency` on the business day of `t`: the latest rate not after that day."""
    if currency in (None, marketing.reporting_currency):
        return Fraction(1)
    day = (EPOCH + timedelta(microseconds=t)).astimezone(ZoneInfo(marketing.time_zone)).date().isoformat()
    known = [r for r in marketing.rates if r.currency == currency and r.date <= day]
    return Fraction(max(known, key=lambda r: r.date).rate)


def touch_event(kind: str, body: Body, person: str | None, marketing: Marketing) -> Event:
    t = moment(body["occurred_at"])
    dims: Dims = (body.get("channel") or NONE, body.get("network") or NONE, body.get("campaign") or NONE)
    if kind == "visit" and not body.get("channel"):
        dims = (DIRECT, NONE, NONE)
    cost = round(own_micros(body.get("cost") or 0) * rate(body.get("currency"), t, marketing))
    name = (body.get("kind") or "engagement") if kind == "engagement" else kind
    consent = body.get("consent", True)
    return Event(t, body["event_id"], person, kind, name, dims, body.get("click_id"), consent, cost)


def stage(body: Body, person: str, marketing: Marketing) -> Conversion:
    t = moment(body["occurred_at"])
    if body.get("value") is not None:
        value = round(own_micros(body["value"]) * rate(body.get("currency"), t, marketing))
    else:
        value = own_micros(marketing.conversions[body["stage"]].value or 0)
    return Conversion(f"s:{body['event_id']}", None, body["stage"], t, person, value, value)


def cost_row(body: Body, marketing: Marketing) -> CostRow | None:
    start, end, kind = moment(body["start"]), moment(body["end"]), body.get("kind", "media")
    if not start < end <= start + 400 * DAY:
        return None
    own = own_micros(body["amount"]) if body.get("amount") is not None else 0
    if body.get("hours") is not None and body.get("hourly_rate") is not None:
        own = own_micros(Fraction(str(body["hours"])) * Fraction(str(body["hourly_rate"])))
    reported = moment(body.get("reported_at") or body["end"])
    until = min(end, reported) if kind == "media" and reported > start else end
    dims: Dims = (body.get("channel") or NONE, body.get("network") or NONE, body.get("campaign") or NONE)
    return CostRow(start, until, kind, dims, round(own * rate(body.get("currency"), start, marketing)))


# --- Orders


def orders(bodies: list[Body], marketing: Marketing) -> list[Conversion]:
    """Each order_id with at least one report of the order is a conversion, withdrawn or not."""
    by_order: dict[str, list[Body]] = defaultdict(list)
    for body in bodies:
        by_order[body["order_id"]].append(body)
    found = []
    for order_id, about in by_order.items():
        if reports := [body for body in about if body["type"] == "order"]:
            refunds = [body for body in about if body["type"] == "refund"]
            cancelled = any(body["type"] == "cancel" for body in about)
            found.append(order(order_id, reports, refunds, cancelled, marketing))
    return found


def order(order_id: str, reports: list[Body], refunds: list[Body], cancelled: bool, marketing: Marketing) -> Conversion:
    def preference(body: Body) -> tuple[bool, int, str]:
        person = person_key(body, marketing) or ""
        return (not person.startswith("c:"), moment(body["occurred_at"]), body["event_id"])

    def freshness(body: Body) -> tuple[float, tuple[bool, int, str]]:
        updated = body.get("updated_at")
        return (-moment(updated) if updated else float("inf"), preference(body))

    owner, says = min(reports, key=preference), min(reports, key=freshness)
    t, currency = moment(says["occurred_at"]), says["currency"]
    gross = max(
        0, own_micros(says["revenue"]) - own_micros(says.get("tax") or 0) - own_micros(says.get("shipping") or 0)
    )
    back = sum(own_micros(r["amount"]) for r in refunds if r.get("currency") in (None, currency))
    net = gross - min(back, gross)
    factor = rate(currency, t, marketing)

    margin: int | None = None
    if says.get("margin") is not None:
        margin = own_micros(says["margin"])
    elif says.get("cost_of_goods") is not None:
        margin = gross - own_micros(says["cost_of_goods"])
    elif marketing.margin_rate is not None:
        margin = round(gross * Fraction(marketing.margin_rate))
    net_margin = None
    if margin is not None:
        converted = round(margin * factor)
        net_margin = round(Fraction(converted * net, gross)) if gross else converted

    gone = "cancelled" if cancelled else "refunded" if gross > 0 and net == 0 else None
    person = person_key(owner, marketing)
    assert person is not None
    return Conversion(
        id=f"o:{order_id}",
        order_id=order_id,
        type="purchase",
        t=t,
        person=person,
        gross=round(gross * factor),
        net=0 if gone else round(net * factor),
        net_margin=net_margin,
        gone=gone,
        called_new=says.get("is_new_customer"),
    )


def mark_new(conversions: list[Conversion], marketing: Marketing) -> None:
    """The first order of a customer that stands is new, from a year after history begins; the sender's word goes before."""
    seen: set[str] = set()
    for found in sorted(conversions, key=lambda c: (c.t, c.id)):
        if found.order_id is None or found.withdrawn:
            continue
        if found.called_new is not None:
            found.new = found.called_new
        elif marketing.history_since is not None and found.person.startswith("c:"):
            zone = ZoneInfo(marketing.time_zone)
            known = datetime.fromisoformat(marketing.history_since).replace(tzinfo=zone)
            year = (known - EPOCH) // timedelta(microseconds=1) + 365 * DAY
            found.new = found.t >= year and found.person not in seen
        seen.add(found.person)


# --- Touches


def merge(journey: Journey, gap: int) -> None:
    """Filter, then landings, then visits less than 30 minutes apart."""
    journey.events.sort(key=lambda event: (event.t, event.event_id))
    allowed = [event for event in journey.events if event.consent]
    clicks = [event for event in allowed if event.type == "click"]
    last_visit_event: int | None = None
    source_of_visit: Dims | None = None
    for event in allowed:
        if event.type == "click":
            earlier = clicks[: clicks.index(event)]
            if gap and any(other.dims == event.dims and event.t - other.t <= gap for other in earlier):
                journey.repeated.append(event)
                continue
        if event.type != "visit":
            journey.touches.append(event)
            continue
        click = landing_of(event, clicks)
        source = click.dims if click else event.dims
        no_new_source = source[0] == DIRECT or source == source_of_visit
        if click:
            journey.landings[event.event_id] = click.event_id
        if last_visit_event is not None and event.t - last_visit_event < 30 * MINUTE and no_new_source:
            journey.continued.append(event.event_id)
        else:
            source_of_visit = source
            journey.visits.append((event.t, source))
            if not click:
                journey.touches.append(event)
        last_visit_event = event.t


def landing_of(visit: Event, clicks: list[Event]) -> Event | None:
    """The latest click that this visit is the landing of."""
    for click in reversed(clicks):
        gap = visit.t - click.t
        same_id = visit.click_id is not None and visit.click_id == click.click_id
        if gap >= 0 and ((same_id and gap <= 24 * HOUR) or (visit.dims == click.dims and gap <= 5 * MINUTE)):
            return click
    return None


# --- Credit


def window(event: Event, conversion: str, marketing: Marketing) -> int:
    """The lookback window of this touch for this conversion type: most fields given wins, then the later rule."""
    facts = {
        "touch_class": event.cls,
        "kind": event.kind,
        "channel": event.dims[0],
        "network": event.dims[1],
        "campaign": event.dims[2],
        "conversion": conversion,
    }
    best, chosen = 0, getattr(marketing.lookback, event.cls)
    for rule in marketing.lookback.rules:
        given = {name: getattr(rule, name) for name in facts if getattr(rule, name) is not None}
        if len(given) >= best and all(facts[name] == value for name, value in given.items()):
            best, chosen = len(given), rule.window
    return micros(chosen)


def longest(marketing: Marketing) -> int:
    """The longest lookback window."""
    lookback = marketing.lookback
    windows = [lookback.click, lookback.view, lookback.engagement, lookback.direct]
    return max(micros(window) for window in [*windows, *(rule.window for rule in lookback.rules)])


def claimed(marketing: Marketing) -> int:
    """How long before a first login the device's history is the customer's."""
    return max(micros(marketing.claim_history) if marketing.claim_history else longest(marketing), DAY)


def known(marketing: Marketing) -> int:
    """How long before a conversion a touch is still known: the longest lookback, and as long again as a first login claims."""
    return longest(marketing) + claimed(marketing)


def credit(conversion: Conversion, journey: Journey, mine: list[Conversion], marketing: Marketing) -> list[Credit]:
    """The credits of a conversion; none when it is unattributed, and then its `reason` is set."""
    assert len(journey.events) <= marketing.journey_max

    def inside(event: Event) -> bool:
        return conversion.t - window(event, conversion.type, marketing) <= event.t <= conversion.t

    def fast(event: Event) -> bool:
        return event.cls == "click" and conversion.t - event.t < micros(marketing.filters.fast_conversions)

    touches = [touch for touch in journey.touches if inside(touch) and not fast(touch)]
    if marketing.path == "since_previous":
        before = [other.t for other in mine if other.t < conversion.t]
        touches = [touch for touch in touches if not before or touch.t > max(before)]
    others = [touch for touch in touches if touch.cls != "direct"]
    exclude = marketing.exclude_direct == "always" or (marketing.exclude_direct == "when_others" and bool(others))
    excluded = len(touches) - len(others) if exclude else 0
    touches = others if exclude else touches
    if marketing.views == "when_no_click" and any(touch.cls == "click" for touch in touches):
        touches = [touch for touch in touches if touch.cls != "view"]

    if not touches:
        if not any(conversion.t - known(marketing) <= event.t <= conversion.t for event in journey.events):
            conversion.reason = "no_touch_known"
        elif any(inside(event) for event in journey.events if not event.consent):
            conversion.reason = "no_consent"
        else:
            seen = [event for event in journey.events if event.consent and inside(event)]
            removed = any(fast(event) or event in journey.repeated for event in seen)
            conversion.reason = "filtered" if excluded or removed else "outside_window"
        return []
    roles = [
        touch
        for stage in (marketing.lead_stage, marketing.opportunity_stage)
        if (touch := role(stage, conversion, journey, touches, marketing)) is not None
    ]
    half_life = micros(marketing.half_life)
    return [one for model in marketing.models for one in share(conversion, model, touches, half_life, roles)]


def role(
    stage: str, conversion: Conversion, journey: Journey, touches: list[Event], marketing: Marketing
) -> int | None:
    """The place of the touch that led to this stage: the latest at or before the first such stage of the longest lookback."""
    oldest = conversion.t - longest(marketing)
    reached = [t for name, t in journey.stages if name == stage and oldest <= t <= conversion.t]
    before = [i for i, touch in enumerate(touches) if reached and touch.t <= min(reached)]
    return before[-1] if before else None


def share(conversion: Conversion, model: str, touches: list[Event], half_life: int, roles: list[int]) -> list[Credit]:
    weights = weigh(model, touches, half_life, roles)
    micro = largest_remainder(WHOLE, weights)
    gross = largest_remainder(conversion.gross, weights)
    by_gross = gross if conversion.gross else weights
    net = largest_remainder(conversion.net, by_gross)
    margin = conversion.net_margin or 0
    sign = -1 if margin < 0 else 1
    margins = [sign * part for part in largest_remainder(abs(margin), by_gross)]
    return [Credit(conversion, model, *parts) for parts in zip(touches, micro, gross, net, margins, strict=True)]


def by_role(n: int, roles: list[int], parts: Fraction) -> list[Fraction]:
    """`parts` per cent for each role, the rest evenly for touches without one, and what is left over in proportion."""
    percent = [parts * roles.count(i) for i in range(n)]
    roleless = [i for i in range(n) if i not in roles]
    given, rest = sum(percent), Fraction(10) if roleless else Fraction(0)
    percent = [held * (100 - rest) / given for held in percent]
    for i in roleless:
        percent[i] = rest / len(roleless)
    return percent


def weigh(model: str, touches: list[Event], half_life: int, roles: list[int]) -> list[Any]:
    n = len(touches)
    if model == "w_shaped":
        return by_role(n, [0, *roles], Fraction(30))
    if model == "full_path":
        return by_role(n, [0, *roles, n - 1], Fraction(45, 2))
    if model == "linear":
        return [1] * n
    if model == "time_decay":
        return [decay(touches[-1].t - touch.t, half_life) for touch in touches]
    if model == "first_touch":
        favoured = {0: 1}
    elif model == "last_touch":
        favoured = {n - 1: 1}
    elif model == "last_non_direct":
        sourced = [i for i, touch in enumerate(touches) if touch.cls != "direct"]
        favoured = {(sourced or [n - 1])[-1]: 1}
    elif model == "first_and_last":
        favoured = {0: 1, n - 1: 1}
    elif model == "position_based":
        if n <= 2:
            return [1] * n
        return [2 * (n - 2), *[1] * (n - 2), 2 * (n - 2)]
    else:
        raise AssertionError(model)
    return [favoured.get(i, 0) for i in range(n)]


@lru_cache(maxsize=100_000)
def decay(age: int, half_life: int) -> int:
    """floor(2^40 · 2^(−age/half_life)). A power that is no integer is irrational, so 100 digits decide its floor."""
    halvings, rest = divmod(age, half_life)
    if halvings > 40:
        return 0
    if rest == 0:
        return 1 << 40 >> halvings
    with localcontext() as context:
        context.prec = 100
        power: Decimal = Decimal(2) ** (40 - Decimal(age) / Decimal(half_life))
        return int(power)


def largest_remainder(total: int, weights: list[Any]) -> list[int]:
    exact = [Fraction(total * weight) / Fraction(sum(weights)) for weight in weights]
    parts = [int(value) for value in exact]
    remainders = [value - part for value, part in zip(exact, parts, strict=True)]
    earliest_largest = sorted(range(len(weights)), key=lambda i: (-remainders[i], i))
    for i in earliest_largest[: total - sum(parts)]:
        parts[i] += 1
    return parts


# --- The line that is published


def line(conversion: Conversion, earned: list[Credit], marketing: Marketing) -> dict[str, Any]:
    status = "withdrawn" if conversion.withdrawn else "unattributed" if conversion.reason else "attributed"
    return {
        "conversion_id": conversion.id,
        "order_id": conversion.order_id,
        "conversion": conversion.type,
        "occurred_at": instant(conversion.t),
        "person": conversion.person,
        "status": status,
        "reason": conversion.gone or conversion.reason,
        "revenue_gross": plain(conversion.gross),
        "revenue_net": plain(conversion.net),
        "currency": marketing.reporting_currency,
        "credits": {
            model: [
                {
                    "touch_id": one.touch.event_id,
                    "channel": one.touch.dims[0],
                    "network": one.touch.dims[1],
                    "campaign": one.touch.dims[2],
                    "conversions": plain(one.micro),
                    "revenue": plain(one.net),
                }
                for one in earned
                if one.model == model and (one.micro or one.net)
            ]
            for model in marketing.models
            if earned
        },
    }


def instant(t: int) -> str:
    """RFC 3339 in UTC; microseconds only when there are some."""
    whole, part = divmod(t, SECOND)
    text = (EPOCH + timedelta(seconds=whole)).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{part:06d}Z" if part else f"{text}Z"


def plain(amount: int) -> str:
    """Micros as a decimal string without exponent or trailing zeros."""
    whole, part = divmod(abs(amount), 1_000_000)
    text = f"{whole}.{part:06d}".rstrip("0").rstrip(".")
    return f"-{text}" if amount < 0 else text
