"""Filters: each one removes what it says, no more, stays visible and counted, and does nothing when it is off."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from attribution.facts import CLICKS, FILTERED_CLICKS
from attribution.filters import Bots
from attribution.intake import Intake
from attribution.replay import Replay
from models.errors import ConfigError
from models.settings import Marketing, load_marketing
from models.wire import Stage, Touch
from streams.cli.explain import explain

BROWSERS = Path(__file__).resolve().parents[1] / "data" / "browsers.txt"
CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/125.0.0.0 Safari/537.36"
)
GOOGLEBOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
NOW = 1_780_000_000_000_000
Body = dict[str, Any]
SOURCE = {"channel": "Paid Social", "network": "facebook", "campaign": "spring"}


def marketing(**filters: Any) -> Marketing:
    return msgspec.convert({"filters": filters}, Marketing)


def click(event_id: str, at: str, **more: Any) -> Body:
    return {"event_id": event_id, "occurred_at": f"2026-03-02T{at}Z", "customer_id": "7", **SOURCE, **more}


def visit(event_id: str, at: str, **more: Any) -> Body:
    return click(event_id, at, **more) | {"type": "visit"}


def order(at: str, order_id: str = "1") -> Body:
    return {
        "event_id": f"e{order_id}", "type": "order", "order_id": order_id, "occurred_at": f"2026-03-02T{at}Z",
        "customer_id": "7", "revenue": 100, "currency": "EUR",
    }  # fmt: skip


def replayed(settings: Marketing, *events: Body) -> Replay:
    replay = Replay(settings)
    for body in events:
        topic = "purchases" if "order_id" in body else "touchpoints" if "type" in body else "clicks"
        replay.take(topic, json.dumps(body).encode())
    replay.finish()
    return replay


def credited(replay: Replay, order_id: str = "1") -> tuple[list[str], str | None]:
    """The touches that `linear` credits for an order, and why there are none."""
    (found,) = [a for a in replay.attributions() if a.order_id == order_id]
    return [credit.touch_id for credit in found.credits.get("linear", [])], found.reason


def counted(replay: Replay) -> Counter[str]:
    """Clicks and filtered clicks, by the day's rollups."""
    found: Counter[str] = Counter()
    for (granularity, _), cells in replay.rollups.buckets.items():
        for cell in cells.values() if granularity == "d" else ():
            for measure in (CLICKS, FILTERED_CLICKS):
                found[measure[0]] += cell.get(measure, 0)
    return +found


def taken_as(replay: Replay, settings: Marketing) -> dict[str, str]:
    return {seen.event_id: seen.taken_as for seen in explain("c:7", replay.nodes["c:7"], settings).touches}  # type: ignore[arg-type]


def browsers() -> list[str]:
    lines = BROWSERS.read_text("utf-8").splitlines()
    return [line[2:] for line in lines if not line.startswith("#")]


# --- bots


def test_no_browser_of_a_person_is_taken_for_a_bot() -> None:
    bots = Bots()
    agents = browsers()
    assert len(agents) > 300
    for name in (
        "Edg/",
        "Firefox/",
        "SamsungBrowser/",
        "FBAN/",
        "FB_IAB",
        "Instagram",
        "LinkedInApp",
        "musical_ly",
        "CriOS",
    ):
        assert any(name in agent for agent in agents), name
    assert [agent for agent in agents if bots.match(agent)] == []


@pytest.mark.parametrize(
    "agent", [GOOGLEBOT, "curl/8.5.0", "WhatsApp/2.19.81 A", "python-requests/2.32", "CUBOT-Crawler"]
)
def test_a_program_is_a_bot(agent: str) -> None:
    assert Bots().match(agent)


def test_what_matched_is_remembered_within_bounds() -> None:
    bots = Bots()
    for n in range(45_000):
        assert bots.match(f"crawler/{n}")
    assert len(bots._cache) <= 20_000
    assert not bots.match(CHROME + "x" * 5_000 + "bot"), "beyond 512 characters nothing is looked at"


def test_a_bots_click_earns_nothing_is_counted_apart_and_stays_visible() -> None:
    settings = marketing()
    replay = replayed(
        settings,
        click("human", "10:00:00", user_agent=CHROME),
        click("bot", "11:00:00", user_agent=GOOGLEBOT),
        order("12:00:00"),
    )
    assert credited(replay) == (["human"], None)
    assert counted(replay) == {"clicks": 1, "filtered_clicks": 1}
    assert taken_as(replay, settings) == {"human": "touch", "bot": "filtered: bots"}


def test_with_bots_off_it_is_a_click_like_any_other() -> None:
    replay = replayed(
        marketing(bots=False),
        click("human", "10:00:00"),
        click("bot", "11:00:00", user_agent=GOOGLEBOT),
        order("12:00:00"),
    )
    assert credited(replay) == (["human", "bot"], None)
    assert counted(replay) == {"clicks": 2}


def test_further_user_agents_are_the_configurations() -> None:
    own = click("x", "10:00:00", user_agent="AcmeTester/1")
    assert credited(replayed(marketing(), own, order("12:00:00"))) == (["x"], None)
    assert credited(replayed(marketing(bot_user_agents=["^acmetester"]), own, order("12:00:00"))) == ([], "filtered")


def test_a_bots_stage_is_no_conversion() -> None:
    stage = {
        "event_id": "s",
        "type": "stage",
        "stage": "lead",
        "occurred_at": "2026-03-02T10:00:00Z",
        "customer_id": "7",
    }
    intake = Intake(msgspec.convert({"conversions": {"lead": {}}}, Marketing))
    human = intake.take("touchpoints", json.dumps(stage).encode(), NOW, 0)
    robot = intake.take("touchpoints", json.dumps(stage | {"user_agent": GOOGLEBOT}).encode(), NOW, 0)
    assert isinstance(human.entry, Stage)
    assert (list(human.filtered), robot.entry, list(robot.filtered)) == ([], None, ["bots"])


# --- internal traffic


@pytest.mark.parametrize(
    ("setting", "field"),
    [
        ({}, {"traffic_type": "Internal"}),
        ({"internal_ids": ["dev-7"]}, {"anonymous_id": " DEV-7 "}),
        ({"internal_ids": ["7"]}, {}),
        ({"internal_hosts": ["staging.shop.example"]}, {"page_url": "https://fr.staging.shop.example/x"}),
        ({"internal_user_agents": ["acmekiosk"]}, {"user_agent": CHROME + " AcmeKiosk/2"}),
    ],
)
def test_internal_traffic(setting: Body, field: Body) -> None:
    inside, outside = click("in", "10:00:00", **field), visit("out", "09:00:00", customer_id="8")
    assert credited(replayed(marketing(**setting), inside, outside, order("12:00:00"))) == ([], "filtered")
    assert credited(replayed(marketing(**setting, internal=False), inside, outside, order("12:00:00"))) == (
        ["in"],
        None,
    )


def test_a_page_elsewhere_is_not_internal() -> None:
    intake = Intake(marketing(internal_hosts=["staging.shop.example"]))
    taken = intake.take("clicks", json.dumps(click("c", "10:00:00", page_url="https://shop.example/")).encode(), NOW, 0)
    assert isinstance(taken.entry, Touch)
    assert taken.entry.flags == 0


# --- no_consent


def test_consent_can_be_left_to_others() -> None:
    events = click("k", "10:00:00", consent=False), order("12:00:00")
    assert credited(replayed(marketing(), *events)) == ([], "no_consent")
    assert credited(replayed(marketing(no_consent=False), *events)) == (["k"], None)


def test_all_filters_that_removed_an_event_are_named() -> None:
    settings = marketing()
    body = click("k", "10:00:00", consent=False, user_agent=GOOGLEBOT, traffic_type="internal")
    assert taken_as(replayed(settings, body), settings) == {"k": "filtered: no_consent, bots, internal"}


# --- privacy


@pytest.mark.parametrize("topic", ["clicks", "touchpoints"])
def test_with_drop_ids_nothing_that_identifies_is_stored_without_consent(topic: str) -> None:
    body = visit(
        "v", "10:00:00", anonymous_id="dev-7", customer_id="anna", click_id="secret", gclid="other-secret", cost="1"
    )
    for consent, setting in ((False, "drop_ids"), (False, "keep_ids"), (True, "drop_ids")):
        intake = Intake(msgspec.convert({"privacy": {"without_consent": setting}}, Marketing))
        entries = intake.take(topic, json.dumps(body | {"consent": consent}).encode(), NOW, 0).entries
        packed = msgspec.msgpack.encode(entries)
        known = [secret for secret in (b"dev-7", b"anna", b"secret") if secret in packed]
        assert (known == []) == (setting == "drop_ids" and not consent)
        assert len(entries) == (1 if known == [] else 2), "an event with both ids is a link too"


def test_with_drop_ids_what_a_click_cost_was_spent_all_the_same_and_the_order_has_no_touch() -> None:
    settings = msgspec.convert({"privacy": {"without_consent": "drop_ids"}}, Marketing)
    replay = replayed(settings, click("k", "10:00:00", consent=False, cost=2), order("12:00:00"))
    assert credited(replay) == ([], "no_touch_known")
    assert counted(replay) == {"filtered_clicks": 1}


# --- duplicate_clicks


def test_a_click_again_within_seconds_is_one_touch_whatever_the_order_of_arrival() -> None:
    settings = marketing()
    events = [
        click("k1", "10:00:00"), click("k2", "10:00:10"), click("k3", "10:00:20"), click("k4", "10:00:30.000001"),
        order("12:00:00"),
    ]  # fmt: skip
    for arrival in itertools.permutations(events):
        replay = replayed(settings, *arrival)
        # Each goes by the one before it: k2 and k3 are within ten seconds, k4 is a microsecond beyond.
        assert credited(replay) == (["k1", "k4"], None)
        assert counted(replay) == {"clicks": 2, "filtered_clicks": 2}
    assert taken_as(replay, settings)["k2"] == "filtered: duplicate_clicks"


def test_clicks_of_other_ads_persons_and_times_are_no_duplicates() -> None:
    others = (
        click("k1", "10:00:00"), click("k2", "10:00:05", campaign="summer"), click("k3", "10:00:06", customer_id="8"),
        visit("v1", "10:30:00"), click("k4", "10:30:01"),
    )  # fmt: skip
    replay = replayed(marketing(), *others, order("12:00:00"))
    assert credited(replay) == (["k1", "k2", "v1", "k4"], None)
    assert counted(replay) == {"clicks": 4}


def test_with_duplicate_clicks_off_all_earn() -> None:
    replay = replayed(
        marketing(duplicate_clicks="0s"), click("k1", "10:00:00"), click("k2", "10:00:01"), order("12:00:00")
    )
    assert credited(replay) == (["k1", "k2"], None)
    assert counted(replay) == {"clicks": 2}


def test_what_a_duplicate_cost_was_spent_all_the_same_and_its_visit_still_lands() -> None:
    settings = marketing()
    replay = replayed(
        settings,
        click("k1", "10:00:00", cost=1, click_id="a"), click("k2", "10:00:01", cost=2, click_id="b"),
        visit("v", "10:20:00", click_id="b"), order("12:00:00"),
    )  # fmt: skip
    assert credited(replay) == (["k1"], None)
    spent = [
        cell.get(("click_cost", "", "", ""), 0)
        for (granularity, _), cells in replay.rollups.buckets.items()
        for cell in cells.values()
        if granularity == "c"
    ]
    assert sum(spent) == 3_000_000
    assert taken_as(replay, settings)["v"] == "landing"


def test_a_gap_over_an_hour_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "p.toml"
    file.write_text('[filters]\nduplicate_clicks = "2h"\n')
    with pytest.raises(ConfigError, match=r"filters\.duplicate_clicks"):
        load_marketing(file)


# --- fast_conversions


def test_an_order_faster_than_a_person_credits_the_touch_before() -> None:
    events = visit("v", "09:00:00"), click("k", "11:59:58.000001"), order("12:00:00")
    assert credited(replayed(marketing(fast_conversions="2s"), *events)) == (["v"], None)
    assert credited(replayed(marketing(), *events)) == (["v", "k"], None)


def test_the_minimum_itself_is_slow_enough_and_the_next_order_may_credit_the_click() -> None:
    settings = marketing(fast_conversions="2s")
    replay = replayed(settings, click("k", "12:00:00"), order("12:00:01.999999"), order("12:00:02", "2"))
    assert credited(replay) == ([], "filtered")
    assert credited(replay, "2") == (["k"], None)
    told = explain("c:7", replay.nodes["c:7"], settings).conversions  # type: ignore[arg-type]
    assert "filtered by fast_conversions" in told[0].sentence
