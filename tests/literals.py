"""Journeys worked by hand: events, configuration, and every line that must come out.

`CASES` is data, so that the same cases run against the oracle and against the core. The arithmetic stands beside each case.
Unless a case says otherwise: one device `d1`, reporting in EUR, default windows (click 30 d, view 1 d, engagement 7 d,
direct 30 d), half-life 7 d. Weights are written `w`, sums of micros without their decimal point.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from models.settings import DEFAULT_MODELS, Marketing

Body = dict[str, Any]
Event = tuple[str, Body]
Share = tuple[str, str, str]
"""touch id, conversions, net revenue"""

SOURCES: dict[str, Body] = {
    "fb": {"channel": "Paid Social", "network": "facebook", "campaign": "spring"},
    "go": {"channel": "Paid Search", "network": "google", "campaign": "brand"},
    "em": {"channel": "Email", "campaign": "news"},
    "li": {"channel": "Organic Social", "network": "linkedin"},
    "": {},
}
D1: Body = {"anonymous_id": "d1"}


@dataclass(frozen=True)
class Case:
    """`expected` maps each conversion id to its whole line, as in attributions.jsonl."""

    name: str
    events: list[Event]
    expected: dict[str, Body]
    settings: Body = field(default_factory=dict)

    @property
    def marketing(self) -> Marketing:
        return msgspec.convert(self.settings, Marketing)


def at(day: int, clock: str = "12:00:00") -> str:
    return f"2026-03-{day:02d}T{clock}Z"


def click(touch_id: str, when: str, source: str = "fb", **more: Any) -> Event:
    return "clicks", {"event_id": touch_id, "occurred_at": when, **D1, **SOURCES[source], **more}


def touch(type_: str, touch_id: str, when: str, source: str = "", **more: Any) -> Event:
    """A touchpoint; a visit without a source is direct."""
    return "touchpoints", {
        "type": type_,
        "event_id": touch_id,
        "occurred_at": when,
        **D1,
        **SOURCES[source],
        **more,
    }


def order(when: str, revenue: str, event_id: str = "p1", order_id: str = "A1", **more: Any) -> Event:
    body = {"type": "order", "event_id": event_id, "occurred_at": when, "order_id": order_id, "revenue": revenue}
    return "purchases", {**body, "currency": "EUR", **D1, **more}


def refund(when: str, amount: str, event_id: str = "r1", **more: Any) -> Event:
    body = {"type": "refund", "event_id": event_id, "occurred_at": when, "order_id": "A1", "amount": amount}
    return "purchases", {**body, **more}


def cancel(when: str) -> Event:
    return "purchases", {"type": "cancel", "event_id": "x1", "occurred_at": when, "order_id": "A1"}


def line(when: str, gross: str, net: str | None = None, **more: Any) -> Body:
    """A published line; an attributed order A1 of device d1 unless told otherwise."""
    return {
        "conversion_id": "o:A1",
        "order_id": "A1",
        "conversion": "purchase",
        "occurred_at": when,
        "person": "a:d1",
        "status": "attributed",
        "reason": None,
        "revenue_gross": gross,
        "revenue_net": gross if net is None else net,
        "currency": "EUR",
        "credits": {},
        **more,
    }


def case(name: str, events: list[Event], *lines: tuple[Body, dict[str, list[Share]]], **settings: Any) -> Case:
    """Fills each credit's dimensions in from the event that earned it."""
    named = {"direct": {"channel": "Direct"}}
    dims: dict[str, Body] = {}
    for topic, body in events:
        if topic in ("clicks", "touchpoints"):
            given = body if body.get("channel") else named["direct"]
            dims[body["event_id"]] = {key: given.get(key, "(none)") for key in ("channel", "network", "campaign")}
    expected = {}
    for published, credits in lines:
        rows = {
            model: [{"touch_id": t, **dims[t], "conversions": micro, "revenue": net} for t, micro, net in shares]
            for model, shares in credits.items()
        }
        expected[published["conversion_id"]] = {**published, "credits": rows}
    models = settings.get("models", DEFAULT_MODELS)
    return Case(name, events, expected, {**settings, "headline_models": models[:1]})


def unattributed(when: str, gross: str, reason: str, **more: Any) -> tuple[Body, dict[str, list[Share]]]:
    return line(when, gross, status="unattributed", reason=reason, **more), {}


def withdrawn(when: str, gross: str, reason: str, **more: Any) -> tuple[Body, dict[str, list[Share]]]:
    return line(when, gross, "0", status="withdrawn", reason=reason, **more), {}


LINEAR = {"models": ["linear"]}
K1_ALONE = {model: [("k1", "1", "100")] for model in DEFAULT_MODELS}
HALVES: list[Share] = [("k1", "0.5", "50"), ("k2", "0.5", "50")]

MODELS = [
    case("n=1: all to the one", [click("k1", at(1)), order(at(2), "100")], (line(at(2), "100"), K1_ALONE)),
    case(
        "n=2, a half-life apart",
        [click("k1", at(1)), click("k2", at(8), "go"), order(at(9), "100")],
        (
            line(at(9), "100"),
            {
                "first_touch": [("k1", "1", "100")],
                "last_touch": [("k2", "1", "100")],
                "last_non_direct": [("k2", "1", "100")],
                "first_and_last": HALVES,
                "linear": HALVES,
                # w 1:2. 333333.33 and 666666.67: the unit left over goes to the larger remainder, .67.
                "time_decay": [("k1", "0.333333", "33.333333"), ("k2", "0.666667", "66.666667")],
                "position_based": HALVES,
            },
        ),
    ),
    case(
        "n=3, the last direct, a half-life apart",
        [click("k1", at(1)), click("k2", at(8), "go"), touch("visit", "v3", at(15)), order(at(15, "13:00:00"), "10")],
        (
            line(at(15, "13:00:00"), "10"),
            {
                "first_touch": [("k1", "1", "10")],
                "last_touch": [("v3", "1", "10")],
                "last_non_direct": [("k2", "1", "10")],
                "first_and_last": [("k1", "0.5", "5"), ("v3", "0.5", "5")],
                # 333333.33 each: equal remainders, so the unit goes to the earliest.
                "linear": [
                    ("k1", "0.333334", "3.333334"),
                    ("k2", "0.333333", "3.333333"),
                    ("v3", "0.333333", "3.333333"),
                ],
                # w 1:2:4. 142857.14, 285714.29, 571428.57: one unit, to .57.
                # 1428571.43, 2857142.86, 5714285.71: two units, to .86 and .71.
                "time_decay": [
                    ("k1", "0.142857", "1.428571"),
                    ("k2", "0.285714", "2.857143"),
                    ("v3", "0.571429", "5.714286"),
                ],
                "position_based": [("k1", "0.4", "4"), ("k2", "0.2", "2"), ("v3", "0.4", "4")],
            },
        ),
    ),
    case(
        "n=5, a half-life of one day apart",
        [
            click("k1", at(1)),
            touch("engagement", "e2", at(2), "li", kind="share"),
            touch("visit", "v3", at(3), "em"),
            touch("visit", "v4", at(4)),
            click("k5", at(5), "go"),
            order(at(5, "18:00:00"), "99.99"),
        ],
        (
            line(at(5, "18:00:00"), "99.99"),
            {
                "first_touch": [("k1", "1", "99.99")],
                "last_touch": [("k5", "1", "99.99")],
                "last_non_direct": [("k5", "1", "99.99")],
                "first_and_last": [("k1", "0.5", "49.995"), ("k5", "0.5", "49.995")],
                "linear": [(t, "0.2", "19.998") for t in ("k1", "e2", "v3", "v4", "k5")],
                # w 1:2:4:8:16 of 31. Micro 32258.06, 64516.13, 129032.26, 258064.52, 516129.03: one unit, to .52.
                # Revenue 3225483.87, 6450967.74, 12901935.48, 25803870.97, 51607741.94: four units, all but .48.
                "time_decay": [
                    ("k1", "0.032258", "3.225484"),
                    ("e2", "0.064516", "6.450968"),
                    ("v3", "0.129032", "12.901935"),
                    ("v4", "0.258065", "25.803871"),
                    ("k5", "0.516129", "51.607742"),
                ],
                # w 6:1:1:1:6 of 15. 66666.67 three times: two units, to the two earlier. 6.666 is exact.
                "position_based": [
                    ("k1", "0.4", "39.996"),
                    ("e2", "0.066667", "6.666"),
                    ("v3", "0.066667", "6.666"),
                    ("v4", "0.066666", "6.666"),
                    ("k5", "0.4", "39.996"),
                ],
            },
        ),
        half_life="1d",
    ),
    case(
        "equal times go by event id, and two micros among three",
        [click("b", at(3), "go"), click("c", at(3), "em"), click("a", at(3)), order(at(3), "0.000002")],
        (
            line(at(3), "0.000002"),
            {
                "first_touch": [("a", "1", "0.000002")],
                "last_touch": [("c", "1", "0.000002")],
                "last_non_direct": [("c", "1", "0.000002")],
                "first_and_last": [("a", "0.5", "0.000001"), ("c", "0.5", "0.000001")],
                # 0.67 micros each: none whole, two units left over, to the two earlier.
                "linear": [("a", "0.333334", "0.000001"), ("b", "0.333333", "0.000001"), ("c", "0.333333", "0")],
                # Equal times decay equally.
                "time_decay": [("a", "0.333334", "0.000001"), ("b", "0.333333", "0.000001"), ("c", "0.333333", "0")],
                # 0.8, 0.4, 0.8 micros: the two units go to .8 and .8.
                "position_based": [("a", "0.4", "0.000001"), ("b", "0.2", "0"), ("c", "0.4", "0.000001")],
            },
        ),
    ),
    case(
        "all direct: last_non_direct falls back to the last",
        [touch("visit", "v1", at(1)), touch("visit", "v2", at(2)), order(at(3), "8")],
        (
            line(at(3), "8"),
            {
                "first_touch": [("v1", "1", "8")],
                "last_touch": [("v2", "1", "8")],
                "last_non_direct": [("v2", "1", "8")],
                "linear": [("v1", "0.5", "4"), ("v2", "0.5", "4")],
            },
        ),
        models=["first_touch", "last_touch", "last_non_direct", "linear"],
    ),
    case(
        "one micro of revenue goes whole to one touch",
        [click("k1", at(1)), click("k2", at(8), "go"), order(at(8), "0.000001")],
        (
            line(at(8), "0.000001"),
            {
                "first_and_last": [("k1", "0.5", "0.000001"), ("k2", "0.5", "0")],
                "linear": [("k1", "0.5", "0.000001"), ("k2", "0.5", "0")],
                # 0.33 and 0.67 micros.
                "time_decay": [("k1", "0.333333", "0"), ("k2", "0.666667", "0.000001")],
                "position_based": [("k1", "0.5", "0.000001"), ("k2", "0.5", "0")],
            },
        ),
        models=["first_and_last", "linear", "time_decay", "position_based"],
    ),
    case(
        "time decay between half-lives: √2 − 1 and 2 − √2",
        [click("k1", at(1)), click("k2", at(2), "go"), order(at(3), "100")],
        # w 1/√2 : 1. Micro 414213.56, 585786.44; revenue 41421356.24, 58578643.76: one unit each, to .56 and to .76.
        (line(at(3), "100"), {"time_decay": [("k1", "0.414214", "41.421356"), ("k2", "0.585786", "58.578644")]}),
        models=["time_decay"],
        half_life="2d",
    ),
    case(
        "a decayed weight underflows to nothing and is left out",
        # 41 half-lives of one hour: floor(2^40 / 2^41) = 0; 40 half-lives: 1 of 2^40 + 1, no micro of 1 000 000.
        [
            click("k1", at(1, "00:00:00")),
            click("k2", at(1, "01:00:00"), "go"),
            click("k3", at(2, "17:00:00"), "em"),
            order(at(3), "5"),
        ],
        (line(at(3), "5"), {"time_decay": [("k3", "1", "5")]}),
        models=["time_decay"],
        half_life="1h",
    ),
]


def thirds(*touches: str) -> dict[str, list[Share]]:
    """Three touches, 9 of revenue: 3 each, the odd micro-conversion to the first."""
    return {"linear": [(t, "0.333334" if i == 0 else "0.333333", "3") for i, t in enumerate(touches)]}


MERGING = [
    case(
        "landings within 5 minutes by source, within 24 hours by click id",
        [
            click("k1", at(1, "10:00:00"), click_id="X"),
            touch("visit", "v1", at(1, "10:05:00"), "fb"),
            # 31 minutes later: a visit of its own, still the landing of k1 by its click id, so no touch.
            touch("visit", "v2", at(1, "10:36:00"), "", click_id="X"),
            touch("visit", "v3", at(2, "10:00:00"), "go", click_id="X"),
            click("k2", at(3, "10:00:00"), "go"),
            # One microsecond over 5 minutes: a touch.
            touch("visit", "v4", at(3, "10:05:00.000001"), "go"),
            order(at(4), "9"),
        ],
        (line(at(4), "9"), thirds("k1", "k2", "v4")),
        **LINEAR,
    ),
    case(
        "a click id is a day old at most",
        [
            click("k1", at(1, "10:00:00"), click_id="X"),
            touch("visit", "v2", at(2, "10:00:00.000001"), "go", click_id="X"),
            touch("visit", "v3", at(3), "em", click_id="Y"),
            order(at(4), "9"),
        ],
        (line(at(4), "9"), thirds("k1", "v2", "v3")),
        **LINEAR,
    ),
    case(
        "a visit before the click is not its landing",
        [
            touch("visit", "v1", at(1, "09:59:59.999999"), "fb"),
            click("k2", at(1, "10:00:00"), "fb"),
            touch("visit", "v3", at(1, "10:00:00"), "fb"),
            click("k4", at(2), "go"),
            order(at(4), "9"),
        ],
        (line(at(4), "9"), thirds("v1", "k2", "k4")),
        **LINEAR,
    ),
    case(
        "visits less than 30 minutes apart without a new source are one",
        [
            touch("visit", "v1", at(1, "10:00:00"), "em"),
            touch("visit", "v2", at(1, "10:29:59.999999")),
            # Exactly 30 minutes after v2: a visit of its own, direct.
            touch("visit", "v3", at(1, "10:59:59.999999")),
            # A new source after 5 minutes: a visit of its own.
            touch("visit", "v4", at(1, "11:05:00"), "li"),
            order(at(4), "9"),
        ],
        (line(at(4), "9"), thirds("v1", "v3", "v4")),
        **LINEAR,
    ),
    case(
        "a visit keeps its source through direct events",
        [
            touch("visit", "v1", at(1, "10:00:00"), "em"),
            touch("visit", "v2", at(1, "10:20:00")),
            touch("visit", "v3", at(1, "10:40:00"), "em"),
            order(at(4), "9"),
        ],
        (line(at(4), "9"), {"linear": [("v1", "1", "9")]}),
        **LINEAR,
    ),
    case(
        "a visit after a landing continues it under the click's source",
        [
            click("k1", at(1, "10:00:00"), "fb", click_id="X"),
            touch("visit", "v1", at(1, "10:10:00"), "", click_id="X"),
            touch("visit", "v2", at(1, "10:35:00"), "fb"),
            order(at(4), "9"),
        ],
        (line(at(4), "9"), {"linear": [("k1", "1", "9")]}),
        **LINEAR,
    ),
    case(
        "what has no consent merges nothing",
        [
            click("k1", at(1, "10:00:00"), "fb", consent=False),
            touch("visit", "v1", at(1, "10:01:00"), "fb"),
            order(at(4), "9"),
        ],
        (line(at(4), "9"), {"linear": [("v1", "1", "9")]}),
        **LINEAR,
    ),
]

ELIGIBILITY = [
    case(
        "edges of the windows, ends included",
        [
            click("out", "2026-02-27T11:59:59.999999Z", "go"),
            click("k1", "2026-02-27T12:00:00Z"),
            touch("engagement", "e0", at(22, "11:59:59.999999"), "li"),
            touch("engagement", "e2", at(22), "li"),
            touch("impression", "i0", at(28, "11:59:59.999999"), "fb"),
            touch("impression", "i3", at(28), "fb"),
            click("k4", at(29), "go"),
            click("k5", at(29, "12:00:00.000001"), "go"),
            order(at(29), "9"),
        ],
        (line(at(29), "9"), {"linear": [(t, "0.25", "2.25") for t in ("k1", "e2", "i3", "k4")]}),
        views="always",
        **LINEAR,
    ),
    case(
        "a view beside a click earns nothing",
        [click("k1", at(1)), touch("impression", "i2", at(2, "11:00:00"), "go"), order(at(2), "100")],
        (line(at(2), "100"), K1_ALONE),
    ),
    case(
        "views always",
        [click("k1", at(1)), touch("view", "w2", at(2, "11:00:00"), "go"), order(at(2), "100")],
        (line(at(2), "100"), {"linear": [("k1", "0.5", "50"), ("w2", "0.5", "50")]}),
        views="always",
        **LINEAR,
    ),
    case(
        "views earn beside engagement and direct, which are no clicks",
        [
            touch("engagement", "e1", at(1), "li"),
            touch("visit", "v2", at(2)),
            touch("email_open", "m3", at(2, "12:00:01"), "em"),
            order(at(3), "9"),
        ],
        (line(at(3), "9"), thirds("e1", "v2", "m3")),
        **LINEAR,
    ),
    case(
        "exclude_direct when others: credit is redistributed",
        [click("k1", at(1)), touch("visit", "v2", at(2)), order(at(3), "100")],
        (line(at(3), "100"), K1_ALONE),
        exclude_direct="when_others",
    ),
    case(
        "exclude_direct when others: alone it stays",
        [touch("visit", "v2", at(2)), order(at(3), "9")],
        (line(at(3), "9"), {"linear": [("v2", "1", "9")]}),
        exclude_direct="when_others",
        **LINEAR,
    ),
    case(
        "exclude_direct when others: a view is another",
        [touch("impression", "i1", at(2), "go"), touch("visit", "v2", at(2)), order(at(3), "9")],
        (line(at(3), "9"), {"linear": [("i1", "1", "9")]}),
        exclude_direct="when_others",
        **LINEAR,
    ),
    case(
        "the most specific lookback rule, the later one on a tie",
        [
            # Email: the rule of one field (2 d) beats the default.
            touch("visit", "v1", at(10, "11:29:59"), "em"),
            touch("visit", "v2", at(10), "em"),
            # Facebook click: the two-field rule (5 d) beats both one-field rules.
            click("k3", at(7), "fb"),
            # Google click: two one-field rules match, the later (1 d) holds.
            click("k4", at(10, "12:00:01"), "go"),
            click("k5", at(11), "go"),
            order(at(12), "9"),
        ],
        (line(at(12), "9"), thirds("k3", "v2", "k5")),
        lookback={
            "rules": [
                {"class": "click", "network": "facebook", "window": "5d"},
                {"kind": "click", "window": "14d"},
                {"channel": "Email", "window": "2d"},
                {"network": "google", "window": "1d"},
                {"channel": "Paid Social", "window": "1h"},
                {"conversion": "signup", "class": "click", "kind": "click", "window": "90d"},
            ]
        },
        **LINEAR,
    ),
    case(
        "since_previous: touches up to the conversion before are spent",
        [
            click("k1", at(1)),
            click("k2", at(2), "go"),
            touch("stage", "s1", at(2), stage="signup", value="4"),
            click("k3", at(3), "em"),
            order(at(4), "9"),
        ],
        (
            line(at(2), "4", conversion_id="s:s1", order_id=None, conversion="signup"),
            {"linear": [("k1", "0.5", "2"), ("k2", "0.5", "2")]},
        ),
        (line(at(4), "9"), {"linear": [("k3", "1", "9")]}),
        path="since_previous",
        conversions={"signup": {}},
        **LINEAR,
    ),
    case(
        "since_previous: a withdrawn conversion has spent its touches all the same",
        [click("k1", at(1)), order(at(2), "4"), cancel(at(9)), order(at(4), "9", "p2", "A2")],
        withdrawn(at(2), "4", "cancelled"),
        unattributed(at(4), "9", "outside_window", conversion_id="o:A2", order_id="A2"),
        path="since_previous",
        **LINEAR,
    ),
]

REASONS = [
    case(
        "no_touch_known: the only touch comes after",
        [click("k1", at(2, "12:00:00.000001")), order(at(2), "9")],
        unattributed(at(2), "9", "no_touch_known"),
    ),
    case(
        "outside_window: a click is known for 60 days, the longest lookback and as much again",
        [click("k1", "2026-01-28T12:00:00Z"), order(at(29), "9")],
        unattributed(at(29), "9", "outside_window"),
    ),
    case(
        "no_touch_known: a click of 60 days and a microsecond is known no more",
        [click("k1", "2026-01-28T11:59:59.999999Z"), order(at(29), "9")],
        unattributed(at(29), "9", "no_touch_known"),
    ),
    case(
        "outside_window: a click of 30 days and a microsecond",
        [click("k1", "2026-02-27T11:59:59.999999Z"), order(at(29), "9")],
        unattributed(at(29), "9", "outside_window"),
    ),
    case(
        "no_consent comes before filtered",
        [click("k1", at(1), consent=False), touch("visit", "v2", at(2)), order(at(3), "9")],
        unattributed(at(3), "9", "no_consent"),
        exclude_direct="always",
    ),
    case(
        "no_consent only inside its window",
        [touch("impression", "i1", at(1), "fb", consent=False), order(at(3), "9")],
        unattributed(at(3), "9", "outside_window"),
    ),
    case(
        "filtered: direct is always excluded",
        [touch("visit", "v2", at(2)), order(at(3), "9")],
        unattributed(at(3), "9", "filtered"),
        exclude_direct="always",
    ),
]

MONEY = [
    case(
        "half refunded: net is shared over the gross credits",
        [
            click("k1", at(1)),
            click("k2", at(2), "go"),
            click("k3", at(3), "em"),
            order(at(4), "10"),
            refund(at(5), "5"),
        ],
        (
            line(at(4), "10", "5"),
            # Gross 3333334, 3333333, 3333333. Net 1666667.0, 1666666.5, 1666666.5: one unit, to the earlier .5.
            {
                "linear": [
                    ("k1", "0.333334", "1.666667"),
                    ("k2", "0.333333", "1.666667"),
                    ("k3", "0.333333", "1.666666"),
                ]
            },
        ),
        **LINEAR,
    ),
    case(
        "net follows the gross credits, not the weights",
        [click("k1", at(1)), click("k2", at(8), "go"), order(at(8), "0.000002"), refund(at(9), "0.000001")],
        # w 1:2. Gross 0.67, 1.33 → 1, 1. Net over 1:1 is 0.5, 0.5 → the earlier; over 1:2 it would be the later.
        (
            line(at(8), "0.000002", "0.000001"),
            {"time_decay": [("k1", "0.333333", "0.000001"), ("k2", "0.666667", "0")]},
        ),
        models=["time_decay"],
    ),
    case(
        "refunds sum once per event id, before or after, and a foreign one is ignored",
        [
            click("k1", at(1)),
            refund(at(2), "3", "r1"),
            refund(at(2), "3", "r1"),
            order(at(4), "10"),
            refund(at(5), "4", "r2", currency="EUR"),
            refund(at(5), "2", "r3", currency="USD"),
        ],
        (line(at(4), "10", "3"), {"linear": [("k1", "1", "3")]}),
        rates=[{"currency": "USD", "rate": "1"}],
        **LINEAR,
    ),
    case(
        "refunds beyond the revenue withdraw the order",
        [click("k1", at(1)), order(at(4), "10"), refund(at(5), "6", "r1"), refund(at(6), "6", "r2")],
        withdrawn(at(4), "10", "refunded"),
    ),
    case(
        "a cancel before its order withdraws it",
        [cancel(at(3)), click("k1", at(1)), order(at(4), "10")],
        withdrawn(at(4), "10", "cancelled"),
    ),
    case(
        "a cancel says more than a full refund",
        [click("k1", at(1)), order(at(4), "10"), refund(at(5), "10"), cancel(at(6))],
        withdrawn(at(4), "10", "cancelled"),
    ),
    case(
        "a refund of nothing leaves an order of nothing",
        [click("k1", at(1)), order(at(4), "0"), refund(at(5), "1")],
        (line(at(4), "0"), {"linear": [("k1", "1", "0")]}),
        **LINEAR,
    ),
    case(
        "revenue is less tax and shipping, never below nothing",
        [
            click("k1", at(1)),
            order(at(4), "120", tax="20", shipping="4.99"),
            order(at(4), "3", "p2", "A2", tax="5"),
        ],
        (line(at(4), "95.01"), {"linear": [("k1", "1", "95.01")]}),
        (line(at(4), "0", conversion_id="o:A2", order_id="A2"), {"linear": [("k1", "1", "0")]}),
        **LINEAR,
    ),
    case(
        "foreign currency, gross and net rounded each by itself",
        [
            click("k1", at(1)),
            click("k2", at(2), "go"),
            order(at(4), "10.01", currency="USD"),
            refund(at(5), "3.33", currency="USD"),
        ],
        # 10010000 x 1.083437 = 10845204.37 → 10845204; 6680000 x 1.083437 = 7237359.16 → 7237359.
        # Gross credits 5422602 each; net 3618679.5 each: the unit to the earlier.
        (line(at(4), "10.845204", "7.237359"), {"linear": [("k1", "0.5", "3.61868"), ("k2", "0.5", "3.618679")]}),
        rates=[{"currency": "USD", "rate": "1.083437"}],
        **LINEAR,
    ),
    case(
        "conversion rounds half to even",
        [
            click("k1", at(1)),
            order(at(4), "0.000003", currency="USD"),
            order(at(4), "0.000005", "p2", "A2", currency="USD"),
        ],
        # 1.5 → 2; 2.5 → 2.
        (line(at(4), "0.000002"), {"linear": [("k1", "1", "0.000002")]}),
        (line(at(4), "0.000002", conversion_id="o:A2", order_id="A2"), {"linear": [("k1", "1", "0.000002")]}),
        rates=[{"currency": "USD", "rate": "0.5"}],
        **LINEAR,
    ),
    case(
        "the rate of the business day: 23:30 UTC is tomorrow in Paris",
        [click("k1", at(1)), order(at(9, "23:30:00"), "10", currency="USD")],
        (line(at(9, "23:30:00"), "20"), {"linear": [("k1", "1", "20")]}),
        rates=[{"currency": "USD", "rate": "1"}, {"currency": "USD", "rate": "2", "date": "2026-03-10"}],
        time_zone="Europe/Paris",
        **LINEAR,
    ),
]

C1: Body = {"anonymous_id": None, "customer_id": "u1"}
ORDERS_AND_PERSONS = [
    case(
        "two reports of one order: the customer's own it and say it",
        [click("k1", at(1), **C1), order(at(4), "100"), order(at(4, "12:00:05"), "90", "p2", **C1)],
        (line(at(4, "12:00:05"), "90", person="c:u1"), {"linear": [("k1", "1", "90")]}),
        **LINEAR,
    ),
    case(
        "a later updated_at says it, whoever owns it",
        [
            click("k1", at(1), **C1),
            order(at(4), "100", updated_at=at(6)),
            order(at(4, "12:00:05"), "90", "p2", updated_at=at(5), **C1),
        ],
        (line(at(4), "100", person="c:u1"), {"linear": [("k1", "1", "100")]}),
        **LINEAR,
    ),
    case(
        "two reports without customer: the earlier owns and says it",
        [click("k1", at(1)), order(at(4, "12:00:01"), "7", "p1", anonymous_id="d2"), order(at(4), "9", "p2")],
        (line(at(4), "9"), {"linear": [("k1", "1", "9")]}),
        **LINEAR,
    ),
    case(
        "junk ids count as absent, ids are trimmed",
        [click("k1", at(1), customer_id=" Guest "), click("k2", at(2), anonymous_id=" d1"), order(at(4), "10")],
        (line(at(4), "10"), {"linear": [("k1", "0.5", "5"), ("k2", "0.5", "5")]}),
        **LINEAR,
    ),
    case(
        "one event_id is one event: the earlier holds",
        [
            click("k2", at(1), "go"),
            click("k1", at(3)),
            click("k1", at(2)),
            click("k1", at(3)),
            order(at(2), "9"),
            order(at(8), "7", "p1"),
        ],
        (
            line(at(2), "9"),
            {"first_touch": [("k2", "1", "9")], "linear": [("k2", "0.5", "4.5"), ("k1", "0.5", "4.5")]},
        ),
        models=["first_touch", "linear"],
    ),
    case(
        "stages: their own value, the configured one, or none; others are no conversions",
        [
            click("k1", at(1)),
            touch("stage", "s1", at(2), stage="lead", value="4", currency="USD"),
            touch("stage", "s2", at(3, "12:00:00.5"), stage="lead"),
            touch("stage", "s3", at(4), stage="signup"),
            touch("stage", "s4", at(5), stage="webinar"),
        ],
        (
            line(at(2), "8", conversion_id="s:s1", order_id=None, conversion="lead"),
            {"linear": [("k1", "1", "8")]},
        ),
        (
            line(at(3, "12:00:00.500000"), "12.5", conversion_id="s:s2", order_id=None, conversion="lead"),
            {"linear": [("k1", "1", "12.5")]},
        ),
        (
            line(at(4), "0", conversion_id="s:s3", order_id=None, conversion="signup"),
            {"linear": [("k1", "1", "0")]},
        ),
        conversions={"lead": {"value": "12.5"}, "signup": {}},
        rates=[{"currency": "USD", "rate": "2"}],
        **LINEAR,
    ),
]

CASES: list[Case] = [*MODELS, *MERGING, *ELIGIBILITY, *REASONS, *MONEY, *ORDERS_AND_PERSONS]
