"""Adversarial histories: what a seed makes of a few persons, their orders and costs.

`generate(seed)` gives events in an order of arrival together with a configuration; the times cluster on the edges at
which rules change their mind. `coverage` names what was in play, so that a test can insist on having seen it.

Left out, because the text leaves them open: consentless conversions, clicks with a cost but without consent, duplicates of
equal time that differ in what matters, platform counters in cost rows.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from random import Random
from typing import Any

import msgspec

from models.settings import DAY, HOUR, MINUTE, RULE_MODELS, SECOND, Filters, Marketing, micros
from tests.reference import Credit, Result, canonical, forgotten, moment, person_key, reporters

Body = dict[str, Any]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
BEGIN = moment("2026-02-02T00:00:00Z")
SPAN = 60 * DAY

SOURCES: tuple[Body, ...] = (
    {"channel": "Paid Social", "network": "facebook", "campaign": "spring"},
    {"channel": "Paid Social", "network": "facebook", "campaign": "summer"},
    {"channel": "Paid Search", "network": "google", "campaign": "brand"},
    {"channel": "Email", "campaign": "news"},
    {"channel": "Organic Social", "network": "linkedin"},
    {"channel": "Referral"},
)
PAID = SOURCES[:3]
KINDS = ("like", "share", "comment", None)
WINDOWS = ("30m", "1h", "1d", "7d", "30d")
RATES = (
    {"currency": "USD", "rate": "1.083437"},
    {"currency": "JPY", "rate": "0.006137"},
    {"currency": "GBP", "rate": "0.853129"},
    {"currency": "GBP", "rate": "1.170001", "date": "2026-02-20"},
)
AMOUNTS = ("0", "0.000001", "0.000007", "1", "10", "99.99", "100", "33.333333", "1234.567891", "7500")
STEPS = (0, 0, 1, SECOND, 4 * MINUTE, 5 * MINUTE, 10 * MINUTE, 30 * MINUTE, HOUR, 6 * HOUR, DAY, 7 * DAY)


@dataclass(frozen=True)
class History:
    seed: int
    events: list[tuple[str, Body]]
    marketing: Marketing


def generate(seed: int) -> History:
    """The history of this seed; the same for ever for one version of this module."""
    rng = Random(seed)
    # Of their own luck: a seed's events stay what they were.
    luck = Random(f"filters of {seed}")
    fast = luck.choice(("0s", "0s", "0s", "0s", "0s", "0s", "2s", "5m"))
    filters = Filters(duplicate_clicks=luck.choice(("0s", "10s", "4m")), fast_conversions=fast)
    marketing = msgspec.structs.replace(settings(rng), filters=filters)
    writer = _Writer(rng, marketing)
    scenes: tuple[tuple[Callable[[], None], int], ...] = (
        (writer.touch, 6),
        (writer.landing, 3),
        (writer.session, 3),
        (writer.window_edge, 7),
        (writer.run_up, 4),
        (writer.order, 3),
        (writer.stage, 2),
        (writer.duplicate, 2),
        (writer.login, 2),
        (writer.hand_over, 3),
        (writer.echo, 3),
        (writer.cost, 2),
        (writer.crowd, 1),
    )
    writer.touch()
    writer.order()
    size = rng.choice((5, 10, 20, 40, 55))
    while len(writer.events) < size:
        rng.choices([scene for scene, _ in scenes], [weight for _, weight in scenes])[0]()
    events = writer.events
    match rng.randrange(4):
        case 0:
            events.sort(key=lambda event: event[1].get("occurred_at") or event[1]["end"])
        case 1 | 2:
            rng.shuffle(events)
    return History(seed, events, marketing)


def with_forgetting(history: History, most: int = 2) -> History:
    """The history with one or some persons forgotten in the midst of it: by customer, device or both, perhaps with events to come.

    Its order of arrival decides where `undecided` says so.
    """
    rng = Random(f"forgetting of {history.seed}")
    ids = sorted(
        {(name, body[name]) for _, body in history.events for name in ("customer_id", "anonymous_id") if body.get(name)}
    )
    events = list(history.events)
    times = [moment(body["occurred_at"]) for topic, body in events if topic != "costs"]
    for n in range(rng.randint(1, most)):
        who = dict(rng.sample(ids, min(len(ids), rng.choice((1, 1, 2)))))
        t = rng.choice((rng.choice(times), max(times) + 1, min(times) - 1)) + rng.choice((-1, 0, 1))
        instant = (EPOCH + timedelta(microseconds=t)).isoformat()
        body = {"event_id": f"forget {n}", "occurred_at": instant, "type": "forget", **who}
        if person_key(body, history.marketing):
            events.insert(rng.choice((0, rng.randint(0, len(events)), len(events))), ("touchpoints", body))
    return dataclasses.replace(history, events=events)


def undecided(history: History) -> bool:
    """Whether an order has reports of somebody forgotten and of somebody else: the order of arrival may say whose it is."""
    gone = forgotten(history.events, history.marketing)
    return any(persons & gone and persons - gone for persons in reporters(history.events, history.marketing).values())


def settings(rng: Random) -> Marketing:
    """A random, valid configuration. The lateness covers the whole span, so nothing is ever late."""
    models = rng.sample(RULE_MODELS, rng.randint(1, 9)) if rng.random() < 0.3 else list(RULE_MODELS)
    lookback: Body = {name: rng.choice(WINDOWS) for name in ("click", "view", "engagement", "direct")}
    lookback["rules"] = [_lookback_rule(rng) for _ in range(rng.choice((0, 0, 1, 2, 4)))]
    raw: Body = {
        "models": models,
        "headline_models": models[:1],
        "time_zone": rng.choice(("UTC", "UTC", "Europe/Paris", "America/New_York")),
        "lookback": lookback if rng.random() < 0.7 else {},
        "views": rng.choice(("when_no_click", "when_no_click", "always")),
        "exclude_direct": rng.choice(("never", "never", "when_others", "always", "always")),
        "path": rng.choice(("full", "full", "since_previous")),
        "half_life": rng.choice(("7d", "1d", "30m", "90s", "30d")),
        "lateness": "400d",
        "device_customers": rng.choice((1, 2, 10, 10)),
        "history_since": rng.choice((None, "2024-06-01", "2024-06-01", "2025-02-20")),
        "conversions": {"signup": {}, "lead": {"value": "12.345678"}, "demo": {"value": 80.5}},
        "rates": list(RATES),
    }
    if rng.random() < 0.5:
        raw["margin_rate"] = rng.choice(("0", "0.35", "0.333333", "1"))
    return msgspec.convert(raw, Marketing)


def _lookback_rule(rng: Random) -> Body:
    source = rng.choice(SOURCES)
    fields: Body = {
        "class": rng.choice(("click", "view", "engagement", "direct")),
        "kind": rng.choice(("visit", "click", "view", "email_open", "like", "engagement")),
        "channel": source["channel"],
        "network": source.get("network", "(none)"),
        "campaign": source.get("campaign", "(none)"),
        "conversion": rng.choice(("purchase", "signup", "lead")),
    }
    chosen = rng.sample(sorted(fields), rng.choice((1, 1, 2, 2, 3)))
    return {"window": rng.choice((*WINDOWS, "14d")), **{name: fields[name] for name in chosen}}


class _Writer:
    """Adds scenes to one history. Each scene is a small situation in which some rule must decide."""

    def __init__(self, rng: Random, marketing: Marketing) -> None:
        self.rng = rng
        self.marketing = marketing
        self.events: list[tuple[str, Body]] = []
        self.refusals = rng.choice((0.0, 0.0, 0.1, 0.5))
        self.direct = rng.choice((0.2, 0.2, 0.8))
        self.ids = [self._ids(n) for n in range(rng.choice((1, 1, 2, 3)))]
        self.anchors = [BEGIN + rng.randrange(SPAN)]
        self.conversions: list[tuple[int, Body]] = []
        self.used = 0

    def _ids(self, n: int) -> list[Body]:
        """The ids a person shows up with. Some are one person key, some two that may never be linked, some are linked."""
        device, customer = {"anonymous_id": f"d{n}"}, {"customer_id": f"u{n}"}
        junk = {"customer_id": self.rng.choice(("guest", " NULL ", "", "(not set)")), **device}
        padded, second = {"customer_id": f" u{n} "}, {"anonymous_id": f"d{n}b"}
        forms: tuple[list[Body], ...] = (
            [device],
            [device, device, {**customer, **device}],
            [device, second, {**customer, **device}, {**customer, **second}],
            [device, junk],
            [device, customer],
            [padded, customer],
        )
        return self.rng.choice(forms)

    def person(self) -> Body:
        return dict(self.rng.choice(self.rng.choice(self.ids)))

    def event_id(self) -> str:
        """Unique, and in no relation to time: equal times are ordered by it."""
        self.used += 1
        return f"{self.rng.randrange(4096):03x}{self.rng.choice('-Zé_')}{self.used}"

    def time(self) -> int:
        """Mostly near something else, on a step or one microsecond beside it."""
        if self.rng.random() < 0.15:
            t = BEGIN + self.rng.randrange(SPAN)
        else:
            step = self.rng.choice(STEPS) + self.rng.choice((0, 0, 0, -1, 1))
            t = self.rng.choice(self.anchors) + step * self.rng.choice((1, -1, -1))
        return self.keep(t)

    def keep(self, t: int) -> int:
        t = min(max(t, BEGIN - 40 * DAY), BEGIN + SPAN)
        self.anchors.append(t)
        return t

    def instant(self, t: int) -> str:
        """RFC 3339, now and then with another offset."""
        zone = timezone(timedelta(minutes=self.rng.choice((0, 0, 0, 120, -330))))
        return (EPOCH + timedelta(microseconds=t)).astimezone(zone).isoformat()

    def base(self, t: int, person: Body) -> Body:
        return {"event_id": self.event_id(), "occurred_at": self.instant(t), **person}

    def add(self, topic: str, body: Body) -> Body:
        """Publish it; sometimes twice, the second copy with nothing changed that matters."""
        self.events.append((topic, body))
        if self.rng.random() < 0.06:
            copy = dict(body)
            if topic != "costs" and self.rng.random() < 0.5:
                copy |= {"source": "retry", "unknown_field": 1}
            self.events.append((topic, copy))
        return body

    def source(self) -> Body:
        return dict(self.rng.choice(SOURCES))

    # Touches

    def interaction(self, t: int, person: Body) -> tuple[str, Body]:
        rng, body = self.rng, self.base(t, person)
        if rng.random() < self.refusals:
            body["consent"] = False
        if rng.random() < self.direct:
            return "touchpoints", {**body, "type": "visit", **rng.choice(({}, {"channel": "Direct"}))}
        body |= self.source()
        kind = rng.choice(("click", "click", "visit", "visit", "impression", "view", "email_open", "engagement"))
        if kind == "click":
            return "clicks", self.priced(body)
        body["type"] = kind
        if kind == "engagement" and (name := rng.choice(KINDS)):
            body["kind"] = name
        return "touchpoints", body

    def priced(self, body: Body) -> Body:
        if self.rng.random() < 0.4 and body.get("consent", True):
            body["cost"] = self.rng.choice(("0.35", "1", "0.000001", "2.5"))
            if self.rng.random() < 0.5:
                body["currency"] = self.rng.choice(("EUR", "USD", "GBP"))
        return body

    def touch(self) -> None:
        person = self.person()
        for _ in range(self.rng.choice((1, 1, 2, 4))):
            self.add(*self.interaction(self.time(), person))

    def landing(self) -> None:
        """One or two clicks, and visits that may be their landings: by click id or by source, on the edges."""
        rng, person, t, source = self.rng, self.person(), self.time(), self.source()
        for gap in (0, rng.choice((0, 1, MINUTE)))[: rng.choice((1, 1, 2))]:
            click = self.priced(self.base(t + gap, person) | source)
            if rng.random() < 0.6:
                click["click_id"] = rng.choice(("k1", "k1", "k2"))
            self.add("clicks", click)
        for _ in range(rng.choice((1, 2, 2))):
            v = t + rng.choice((0, SECOND, 5 * MINUTE, 5 * MINUTE + 1, 24 * HOUR, 24 * HOUR + 1, -1))
            visit = self.base(self.keep(v), person) | {"type": "visit"}
            visit |= rng.choice((source, source, {}, self.source()))
            if rng.random() < 0.6:
                visit["click_id"] = rng.choice(("k1", "k1", "k2"))
            self.add("touchpoints", visit)

    def session(self) -> None:
        """Visits about 30 minutes apart, direct or with equal or other sources."""
        rng, person, t, source = self.rng, self.person(), self.time(), self.source()
        for _ in range(rng.randint(2, 5)):
            visit = self.base(self.keep(t), person) | {"type": "visit"}
            self.add("touchpoints", visit | rng.choice((source, source, {}, {}, self.source())))
            t += rng.choice((0, MINUTE, 30 * MINUTE - 1, 30 * MINUTE - 1, 30 * MINUTE, 30 * MINUTE + 1))

    def window_edge(self) -> None:
        """A touch on the edge of a window of a known conversion, or at the conversion itself."""
        rng = self.rng
        c, person = rng.choice(self.conversions) if self.conversions else (self.time(), self.person())
        lookback = self.marketing.lookback
        windows = [lookback.click, lookback.view, lookback.engagement, lookback.direct]
        windows += [rule.window for rule in lookback.rules]
        edge = c - micros(rng.choice(windows)) if rng.random() < 0.7 else c
        self.add(*self.interaction(self.keep(edge + rng.choice((-1, -1, 0, 0, 1))), dict(person)))

    def run_up(self) -> None:
        """Several touches close before a known conversion, some at one instant."""
        rng = self.rng
        c, person = rng.choice(self.conversions) if self.conversions else (self.time(), self.person())
        t = c
        for _ in range(rng.choice((2, 3, 5))):
            t -= rng.choice((0, 0, SECOND, 29 * MINUTE, HOUR, 9 * HOUR, DAY + 1))
            self.add(*self.interaction(self.keep(t), dict(person)))

    # Identity

    def device(self) -> Body:
        """A device, mostly one that is used."""
        used = [{"anonymous_id": ids["anonymous_id"]} for forms in self.ids for ids in forms if "anonymous_id" in ids]
        return dict(self.rng.choice(used)) if used else {"anonymous_id": "d0"}

    def customer(self) -> Body:
        return {"customer_id": f"u{self.rng.randrange(3)}"}

    def login(self) -> None:
        """A customer shows up on a device, often close after something happened there."""
        rng, t = self.rng, self.time()
        body = self.base(t, self.device() | self.customer())
        if rng.random() < 0.7:
            self.add("touchpoints", body | {"type": "identify"})
        else:
            self.add("touchpoints", body | {"type": "visit"} | rng.choice(({}, self.source())))

    def hand_over(self) -> None:
        """Touches and perhaps an order on a device before, between and after the logins of two customers."""
        rng, device = self.rng, self.device()
        first, second = rng.sample([{"customer_id": f"u{n}"} for n in range(3)], 2)
        t = self.time()
        for customer in (first, second, None):
            for _ in range(rng.choice((1, 1, 2))):
                self.add(*self.interaction(self.keep(t), device))
                t += rng.choice((1, MINUTE, HOUR, DAY))
            if rng.random() < 0.3:
                self.conversions.append((t, device))
                order = self.base(self.keep(t), device) | {"type": "order", "order_id": f"H{self.used}"} | self.money()
                self.add("purchases", order)
                t += rng.choice((0, SECOND, HOUR))
            if customer:
                self.add("touchpoints", self.base(self.keep(t), device | customer) | {"type": "identify"})
                t += rng.choice((0, 1, MINUTE, HOUR, 6 * HOUR))

    def echo(self) -> None:
        """One event reported twice with different ids: of a device, and of another or of a customer."""
        rng = self.rng
        choices = [
            (topic, body)
            for topic, body in self.events
            if topic == "clicks" or body.get("type") in ("visit", "view", "email_open")
        ]
        if not choices:
            return
        topic, first = rng.choice(choices)
        t = moment(first["occurred_at"]) + rng.choice((-1, 1, SECOND, HOUR))
        if self._taken(first["event_id"], t):
            return
        body = {name: value for name, value in first.items() if name not in ("anonymous_id", "customer_id")}
        body |= {"occurred_at": self.instant(self.keep(t))} | rng.choice((self.device(), *[self.alias(first)] * 2))
        self.events.append((topic, body))

    def alias(self, first: Body) -> Body:
        """One of the ids that whoever sent this shows up with, and mostly another than it said."""
        forms = [form for ids in self.ids for form in ids if any(first.get(name) == form[name] for name in form)]
        singles = [{name: form[name]} for form in forms for name in form]
        singles = [single for single in singles if person_key(single, self.marketing)]
        others = [single for single in singles if not single.items() <= first.items()]
        return dict(self.rng.choice(others)) if others else self.customer()

    # Conversions

    def money(self) -> Body:
        rng = self.rng
        body: Body = {
            "revenue": rng.choice(AMOUNTS),
            "currency": rng.choice(("EUR", "EUR", "EUR", "USD", "GBP", "JPY")),
        }
        for name, chance in (("tax", 0.15), ("shipping", 0.15), ("cost_of_goods", 0.2)):
            if rng.random() < chance:
                body[name] = rng.choice(("0", "0.000003", "1.5", "20"))
        if rng.random() < 0.15:
            body["is_new_customer"] = rng.random() < 0.5
        if rng.random() < 0.2:
            body["margin"] = rng.choice(("-3.333333", "0", "5", "40.000001"))
        return body

    def order(self) -> None:
        """An order with all that may happen to it: several reports, restatements, refunds, a cancel."""
        rng, person, t, money = self.rng, self.person(), self.time(), self.money()
        order_id = f"A{self.used}" if rng.random() < 0.9 else f"{self.used} é"
        self.conversions.append((t, person))
        report = self.base(t, person) | {"type": "order", "order_id": order_id} | money
        self.add("purchases", report)
        if rng.random() < 0.5:
            for _ in range(rng.choice((1, 1, 2))):
                t2 = self.keep(t + rng.choice((0, 0, -SECOND, SECOND, HOUR)))
                again = self.base(t2, self.person()) | {"type": "order", "order_id": order_id}
                again |= self.money() if rng.random() < 0.5 else money
                if rng.random() < 0.5:
                    again["updated_at"] = self.instant(t + rng.choice((0, HOUR, HOUR, DAY)))
                self.add("purchases", again)
        if rng.random() < 0.35:
            for _ in range(rng.choice((1, 1, 2, 3))):
                revenue = money["revenue"]
                amount = rng.choice(("0.000001", "10", "33.33", "3.333334", revenue))
                refund = self.base(self.time(), {}) | {"type": "refund", "order_id": order_id, "amount": amount}
                if rng.random() < 0.6:
                    refund["currency"] = money["currency"] if rng.random() < 0.8 else "USD"
                self.add("purchases", refund)
        if rng.random() < 0.12:
            self.add("purchases", self.base(self.time(), {}) | {"type": "cancel", "order_id": order_id})

    def stage(self) -> None:
        rng, t, person = self.rng, self.time(), self.person()
        self.conversions.append((t, person))
        body = self.base(t, person) | {"type": "stage", "stage": rng.choice(("signup", "lead", "demo", "opportunity"))}
        if rng.random() < 0.4:
            body["value"] = rng.choice(AMOUNTS)
            if rng.random() < 0.5:
                body["currency"] = rng.choice(("EUR", "USD", "GBP"))
        self.add("touchpoints", body)

    def duplicate(self) -> None:
        """An event_id again with other content and another time; the earlier one holds."""
        rng = self.rng
        choices = [(topic, body) for topic, body in self.events if topic != "costs" and body.get("type") != "stage"]
        topic, first = rng.choice(choices)
        if first.get("consent") is False and "cost" in first:
            return
        shift = rng.choice((-DAY, -1, 1, HOUR, DAY))
        t = self.keep(moment(first["occurred_at"]) + shift)
        if t == moment(first["occurred_at"]) or self._taken(first["event_id"], t):
            return
        body: Body = {**first, "occurred_at": self.instant(t)}
        if topic == "purchases":
            if "revenue" in body:
                body["revenue"] = rng.choice(AMOUNTS)
                if rng.random() < 0.3:
                    body = {name: value for name, value in body.items() if name not in ("anonymous_id", "customer_id")}
                    body |= self.person()
            elif "amount" in body:
                body["amount"] = rng.choice(("1", "2.000001"))
        elif topic == "clicks":
            body |= self.source()
        elif body["type"] in ("impression", "view", "visit", "email_open", "engagement"):
            person: Body = {name: first[name] for name in ("anonymous_id", "customer_id") if name in first}
            while True:
                topic, body = self.interaction(t, person or self.person())
                if topic == "touchpoints":
                    break
            body["event_id"] = first["event_id"]
        self.events.append((topic, body))

    def _taken(self, event_id: str, t: int) -> bool:
        return any(
            body.get("event_id") == event_id and moment(body["occurred_at"]) == t
            for topic, body in self.events
            if topic != "costs"
        )

    # Costs and the crowd

    def cost(self) -> None:
        """A cost row around something that happened, and perhaps its restatements."""
        rng = self.rng
        self.used += 1
        if rng.random() < 0.3:
            priced = {"cost": rng.choice(("0.35", "1", "2.5"))} | rng.choice(PAID)
            self.add("clicks", self.base(self.time(), self.person()) | priced)
        clicks = [body for topic, body in self.events if topic == "clicks" and "cost" in body]
        paid, kinds = rng.choice(PAID), ("media", "agency", "tool", "other")
        start = rng.choice(self.anchors)
        # What a click says it cost gives way to a report around it: most of what follows is about such clicks.
        if (clicks := [click for click in clicks if "network" in click and "campaign" in click]) and rng.random() < 0.7:
            click, kinds = rng.choice(clicks), ("media", "media", "media", "other")
            start = moment(click["occurred_at"]) - rng.choice((0, 0, HOUR, 2 * HOUR))
            paid = {name: click[name] for name in ("channel", "network", "campaign")}
        start -= start % rng.choice((DAY, HOUR, HOUR, 1))
        end = start + rng.choice((HOUR, DAY, DAY, 30 * DAY, 1, 7 * HOUR + 1))
        kind = rng.choice(kinds)
        row: Body = {"cost_id": f"c{self.used}", "start": self.instant(start), "end": self.instant(end), "kind": kind}
        row |= paid if kind == "media" else rng.choice(SOURCES)
        if kind != "media" and rng.random() < 0.3:
            row |= {"hours": "7.5", "hourly_rate": "33.333333", "currency": "EUR"}
        else:
            row |= {"amount": rng.choice(AMOUNTS), "currency": rng.choice(("EUR", "EUR", "USD"))}
        # Distinct times of report: equal ones with different content are not decided by the text. None means `end`.
        times = sorted({start - 1, start, start + 1, (start + end) // 2, end, end + DAY})
        for reported in rng.sample(times, rng.choice((1, 1, 2, 3))):
            restated = dict(row)
            if reported != end or rng.random() < 0.5:
                restated["reported_at"] = self.instant(reported)
            if "amount" in row and rng.random() < 0.7:
                restated["amount"] = rng.choice(AMOUNTS)
            if rng.random() < 0.2:
                restated |= rng.choice(PAID)
            self.add("costs", restated)

    def crowd(self) -> None:
        """An engagement or impression of nobody: counted, and no one's."""
        body = self.base(self.time(), {}) | self.source() | {"type": self.rng.choice(("engagement", "impression"))}
        self.add("touchpoints", body)


# --- What was in play


def coverage(history: History, result: Result) -> set[str]:
    """Names of the features that this history exercises."""
    seen = {f"unattributed:{c.reason}" for c in result.conversions if c.reason}
    seen |= {"withdrawn" for c in result.conversions if c.withdrawn}
    seen |= {"stage_conversion" for c in result.conversions if c.order_id is None and not c.withdrawn}
    seen |= {"partial_refund" for c in result.conversions if 0 < c.net < c.gross}
    seen |= {"one_micro" for c in result.conversions if c.gross == 1}
    seen |= {"two_persons"} if len({c.person for c in result.conversions}) > 1 else set()
    for journey in result.journeys.values():
        seen |= {"landing"} if journey.landings else set()
        seen |= {"session"} if journey.continued else set()
        seen |= {"session_after_landing"} if set(journey.continued) & set(journey.landings) else set()
    seen |= {"crowd"} if result.crowd else set()
    seen |= _identity_features(history, result)
    return seen | _credit_features(history, result) | _order_features(history) | _repeats(history, result)


def _identity_features(history: History, result: Result) -> set[str]:
    seen: set[str] = set()
    owners: dict[str, set[str]] = defaultdict(set)
    devices: dict[str, set[str]] = defaultdict(set)
    identities = result.identities
    for event in result.counted:
        if event.person is not None and event.person.startswith("a:") and event.person in identities.links:
            owner = identities.owner(event.person, event.t)
            owners[event.person].add(owner)
            devices[owner].add(event.person)
            first = min(identities.links[event.person])
            if event.t < first[0]:
                seen.add("claimed" if owner == first[2] else "not_claimed")
    for device, found in owners.items():
        seen |= {"hand_over"} if len({owner for owner in found if owner != device}) > 1 else set()
    for device, links in identities.links.items():
        if len({customer for _, _, customer in links}) > identities.most:
            seen |= {"shared"} if device in owners.get(device, ()) else set()
    if any(owner.startswith("c:") and len(found) > 1 for owner, found in devices.items()):
        seen.add("several_devices")
    for topic, body in history.events:
        if topic == "purchases" and body["type"] == "order" and body["event_id"]:
            key = person_key(body, history.marketing)
            if key and key.startswith("a:") and identities.owner(key, moment(body["occurred_at"])) != key:
                seen.add("anonymous_order_moves")
    nodes: dict[str, set[str]] = defaultdict(set)
    for event in result.counted:
        if event.person is not None:
            nodes[event.event_id].add(event.person)
    for event_id, keys in nodes.items():
        times = {e.person: e.t for e in result.counted if e.event_id == event_id and e.person is not None}
        owned = Counter(identities.owner(key, times[key]) for key in keys)
        seen |= {"echo"} if len(keys) > 1 and max(owned.values()) > 1 else set()
    return seen


def _credit_features(history: History, result: Result) -> set[str]:
    marketing, seen = history.marketing, set()
    arrival: dict[str, int] = {}
    for position, (topic, body) in enumerate(history.events):
        if topic != "costs":
            arrival.setdefault(body["event_id"], position)
            if topic == "purchases" and body["type"] == "order":
                arrival.setdefault(f"o:{body['order_id']}", position)
            elif body.get("type") == "stage":
                arrival.setdefault(f"s:{body['event_id']}", position)
    by_conversion: dict[str, dict[str, Credit]] = defaultdict(dict)
    for credit in result.credits:
        by_conversion[credit.conversion.id][credit.touch.event_id] = credit
        if (credit.micro or credit.net) and arrival[credit.touch.event_id] > arrival[credit.conversion.id]:
            seen.add("late_touch_changes_credit")
    lengths = {
        "click": marketing.lookback.click,
        "view": marketing.lookback.view,
        "engagement": marketing.lookback.engagement,
        "direct": marketing.lookback.direct,
    }
    windows = {micros(rule.window) for rule in marketing.lookback.rules}
    for credits in by_conversion.values():
        touches = [credit.touch for credit in credits.values()]
        conversion = next(iter(credits.values())).conversion
        seen |= {f"n:{min(len(touches), 5)}"}
        seen |= {"tie"} if max(Counter(touch.t for touch in touches).values()) > 1 else set()
        seen |= {"at_conversion"} if any(touch.t == conversion.t for touch in touches) else set()
        ages = [(conversion.t - touch.t, windows | {micros(lengths[touch.cls])}) for touch in touches]
        seen |= {"edge"} if any(age in known for age, known in ages) else set()
        seen |= {"all_direct"} if all(touch.cls == "direct" for touch in touches) else set()
        seen |= {"negative_margin"} if (conversion.net_margin or 0) < 0 else set()
        journey = result.journeys[conversion.person]
        inside = [t for t in journey.touches if t.t <= conversion.t and t.event_id not in credits]
        out = [(conversion.t - t.t, windows | {micros(lengths[t.cls])}) for t in inside]
        seen |= {"edge_outside"} if any(age - 1 in known for age, known in out) else set()
        views = any(t.cls == "view" and conversion.t - t.t <= micros("30m") for t in inside)
        seen |= {"view_gives_way"} if views and marketing.views == "when_no_click" else set()
    return seen


def _order_features(history: History) -> set[str]:
    seen: set[str] = set()
    reports: dict[str, list[Body]] = defaultdict(list)
    for topic, body in history.events:
        if topic == "purchases" and body["type"] == "order":
            reports[body["order_id"]].append(body)
            if body["currency"] != history.marketing.reporting_currency:
                seen.add("foreign")
        elif topic == "purchases" and body["order_id"] not in reports:
            seen.add(f"{body['type']}_before_order")
        elif topic == "purchases":
            seen.add(f"{body['type']}_after_order")
    for bodies in reports.values():
        if len({body["event_id"] for body in bodies}) > 1:
            seen.add("two_reports")
            seen |= {"restated_order"} if any("updated_at" in body for body in bodies) else set()
            if len({person_key(body, history.marketing) for body in bodies}) > 1:
                seen.add("two_reports_two_persons")
    return seen


def _repeats(history: History, result: Result) -> set[str]:
    seen: set[str] = set()
    contents: dict[str, list[Body]] = defaultdict(list)
    rows: dict[str, set[int]] = defaultdict(set)
    for topic, body in history.events:
        if topic == "costs":
            rows[body["cost_id"]].add(moment(body.get("reported_at") or body["end"]))
        else:
            contents[body["event_id"]].append(body)
    for bodies in contents.values():
        seen |= {"duplicate"} if len(bodies) > 1 else set()
        if len({moment(body["occurred_at"]) for body in bodies}) > 1:
            seen.add("duplicate_content")
        elif len({canonical(body) for body in bodies}) > 1:
            seen.add("duplicate_same_time")
    seen |= {"cost"} if rows else set()
    seen |= {"restated_cost"} if any(len(times) > 1 for times in rows.values()) else set()
    clicks = [e for journey in result.journeys.values() for e in journey.events if e.type == "click" and e.cost]
    seen |= {"own_cost"} if clicks else set()
    for click in clicks:
        for row in result.costs:
            if row.kind == "media" and row.dims[1:] == click.dims[1:]:
                seen |= {"report_beside_clicks"}
                seen |= {"report_replaces_click"} if row.start <= click.t - click.t % HOUR < row.end else set()
    return seen
