"""Which entries a device is counted by, and which hours and days make up a window."""

from __future__ import annotations

import json
from typing import Any

import pytest

from attribution.reach import KEPT, WINDOWS, buckets
from attribution.replay import Replay
from attribution.rollups import Calendar
from attribution.visitors import ALL
from models.settings import DAY, HOUR, Marketing
from tests.core.test_people import instant
from tests.reference import moment

END = moment("2026-03-10T10:30:30Z")
MARKETING = Marketing(clock="event", lateness="400d")
FACEBOOK = ("Paid Social", "facebook")


def reach(*events: dict[str, Any]) -> dict[str, dict[tuple[str, str], int]]:
    run = Replay(MARKETING)
    for n, event in enumerate(events):
        body = {"event_id": f"e{n}", "type": "impression", "channel": FACEBOOK[0], "network": FACEBOOK[1], **event}
        body["occurred_at"] = instant(body.pop("t", END))
        run.take("touchpoints", json.dumps(body).encode())
    run.finish()
    assert not run.refused
    return run.devices.reach(END, Calendar("UTC"))


def test_a_device_counts_once_by_its_anonymous_id_else_by_its_customer_id() -> None:
    """A device that logs in stays one; its customer on no known device is one more."""
    found = reach(
        {"anonymous_id": "d1"},
        {"anonymous_id": "d1", "customer_id": "u1"},
        {"anonymous_id": "d1", "customer_id": "u1"},
        {"anonymous_id": "d2"},
        {"customer_id": "u1"},
    )
    assert found["24h"] == {FACEBOOK: 3, ALL: 3}


def test_each_source_has_its_own_and_all_have_one() -> None:
    found = reach(
        {"anonymous_id": "d1"},
        {"anonymous_id": "d1", "channel": "Email", "network": None},
        {"anonymous_id": "d1", "customer_id": "u1", "channel": "Referral", "network": None},
    )
    assert found["7d"] == {FACEBOOK: 1, ("Email", "(none)"): 1, ("Referral", "(none)"): 1, ALL: 1}


def test_without_a_person_or_consent_nobody_is_reached() -> None:
    assert reach({}, {"anonymous_id": "d1", "consent": False})["30d"] == {}
    both = {"anonymous_id": "d1", "customer_id": "u1", "consent": False}
    assert reach(both)["30d"] == {}


@pytest.mark.parametrize(
    ("window", "start"),
    [("24h", "2026-03-09T10:00:00Z"), ("7d", "2026-03-03T10:00:00Z"), ("30d", "2026-02-08T00:00:00Z")],
)
def test_the_edge_of_a_window(window: str, start: str) -> None:
    for t, n in ((0, 1), (1, 1), (-1, 0)):
        assert reach({"anonymous_id": "d1", "t": moment(start) + t})[window].get(ALL, 0) == n


@pytest.mark.parametrize("zone", ["UTC", "Europe/Paris", "America/New_York"])
@pytest.mark.parametrize("window", list(WINDOWS))
def test_buckets_cover_the_window_without_a_gap_and_are_still_kept(window: str, zone: str) -> None:
    calendar = Calendar(zone)
    for end in range(END, END + 40 * DAY, 7 * HOUR + 1):
        found = buckets(window, end, calendar)
        at = found[0][1]
        assert at <= end - WINDOWS[window] < at + (HOUR if window != "30d" else 25 * HOUR)
        for granularity, start in found:
            assert start == at, (window, end)
            at = start + HOUR if granularity == "h" else calendar.shift(start, 1)
            assert start > end - KEPT[granularity]
        assert end < at
        assert window != "24h" or {granularity for granularity, _ in found} == {"h"}
