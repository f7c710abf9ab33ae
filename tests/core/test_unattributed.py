"""Why conversions are unattributed, counted: each reason by hand, moved by what comes late, and all of it against the oracle."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import msgspec

from attribution.costs import Ledger
from attribution.kpi import rows
from attribution.replay import Replay
from attribution.windows import Sums
from models.results import REASONS
from models.settings import DAY, Marketing
from tests.core.replayed import replay
from tests.histories import generate
from tests.reference import attribute

FAMILY = "parcours_total_unattributed_conversions"
SETTINGS = {"clock": "event", "journey_max": 2, "conversions": {"signup": {}}, "filters": {"duplicate_clicks": "0s"}}
MARKETING = msgspec.convert(SETTINGS, Marketing)
Event = tuple[str, dict[str, Any]]


def click(event_id: str, at: str, person: str, **more: Any) -> Event:
    body = {"event_id": event_id, "occurred_at": at, "customer_id": person, "network": "google", "campaign": "brand"}
    return "clicks", body | more


def order(at: str, person: str) -> Event:
    body = {"event_id": f"p-{person}", "occurred_at": at, "customer_id": person, "type": "order", "order_id": person}
    return "purchases", body | {"revenue": 10, "currency": "EUR"}


NOON = "2026-03-10T12:00:00Z"
EVENTS = [
    order(NOON, "stranger"), order(NOON, "known"), click("k0", "2026-03-10T11:00:00Z", "known"),
    click("k1", "2026-02-01T00:00:00Z", "old"), order(NOON, "old"), click("k2", "2026-02-02T00:00:00Z", "older"), order(NOON, "older"),
    click("k3", "2026-03-10T11:00:00Z", "bot", user_agent="curl/8.5.0"), order(NOON, "bot"),
    click("k4", "2026-03-10T11:00:00Z", "shy", consent=False), order(NOON, "shy"),
    # Of three touches the latest two are kept, and neither may be credited.
    click("k5", "2026-03-10T09:00:00Z", "busy"), click("k6", "2026-03-10T10:00:00Z", "busy", user_agent="curl/8.5.0"),
    click("k7", "2026-03-10T11:00:00Z", "busy", user_agent="curl/8.5.0"), order(NOON, "busy"),
    ("touchpoints", {"event_id": "s1", "occurred_at": NOON, "customer_id": "stranger", "type": "stage", "stage": "signup"}),
]  # fmt: skip


def counted(run: Replay, window: str = "24h", conversion: str = "purchase", *, at: int = 0) -> dict[str, int]:
    """The exported counts by reason."""
    end = run.highest + at
    sums = Sums.of(run.rollups, run.marketing, end)
    found = {}
    for family, labels, value in rows(sums, Ledger((), sums.own, end)):
        of = dict(labels)
        if family == FAMILY and (of["window"], of["conversion"]) == (window, conversion):
            found[of["reason"]] = int(value)
    return found


def ordered(events: Iterable[Event]) -> Replay:
    return replay(list(events), MARKETING)


def test_each_reason_in_every_window_that_holds_it() -> None:
    run = ordered(EVENTS)
    wanted = {"no_touch_known": 1, "outside_window": 2, "filtered": 1, "no_consent": 1, "touches_trimmed": 1}
    for window in ("24h", "7d", "30d", "today", "month_to_date", "365d"):
        assert counted(run, window) == wanted, window
    assert counted(run, "yesterday") == dict.fromkeys(REASONS, 0)
    assert counted(run, conversion="signup") == dict.fromkeys(REASONS, 0) | {"no_touch_known": 1}
    assert counted(run, at=2 * DAY) == dict.fromkeys(REASONS, 0)


def test_what_comes_late_moves_the_count_and_a_cancel_takes_it_away() -> None:
    def reasons(*more: Event) -> dict[str, int]:
        run = ordered([order(NOON, "old"), *more, click("end", "2026-03-10T13:00:00Z", "other")])
        return {reason: n for reason, n in counted(run).items() if n}

    old = click("k1", "2026-02-01T00:00:00Z", "old")
    bot = click("k2", "2026-03-10T11:00:00Z", "old", user_agent="curl/8.5.0")
    assert reasons() == {"no_touch_known": 1}
    assert reasons(old) == {"outside_window": 1}
    assert reasons(old, bot) == {"filtered": 1}
    assert reasons(old, bot, click("k3", "2026-03-10T10:00:00Z", "old")) == {}
    cancel = {"event_id": "x", "occurred_at": "2026-03-10T12:30:00Z", "type": "cancel", "order_id": "old"}
    assert reasons(old, ("purchases", cancel)) == {}


def test_reasons_add_up_to_what_is_credited_to_nobody_and_equal_the_oracles() -> None:
    seen: Counter[str] = Counter()
    for seed in range(120):
        history = generate(seed)
        run = replay(history.events, history.marketing)
        expected = Counter(
            (conversion.t // DAY, conversion.type, conversion.reason)
            for conversion in attribute(history.events, history.marketing).conversions
            if not conversion.withdrawn and conversion.reason
        )
        filed: Counter[tuple[int, str, str | None]] = Counter()
        nobody: Counter[tuple[str, str]] = Counter()
        for (granularity, start), cells in run.rollups.buckets.items():
            for dims, cell in cells.items() if granularity == "h" else ():
                for (name, model, kind, last), n in cell.items():
                    if name == "unattributed":
                        filed[start // DAY, kind, last] += n
                    elif name == "conversions" and dims[0] == "(unattributed)":
                        nobody[model, kind] += n
        recent = Counter({key: n for key, n in expected.items() if key[0] * DAY > run.highest - 14 * DAY})
        assert Counter({key: n for key, n in filed.items() if n and key in recent}) == recent, seed
        for (_, kind), micro in nobody.items():
            assert micro == 1_000_000 * sum(n for key, n in filed.items() if key[1] == kind), seed
        seen.update(key[2] for key in recent)
    assert set(seen) >= {"no_touch_known", "outside_window", "filtered", "no_consent"}
