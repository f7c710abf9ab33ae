"""Ids stored as keyed hashes: everything comes out as with ids as sent, but for the ids."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import msgspec
import pytest

from attribution.intake import Intake
from attribution.pseudonyms import Pseudonyms
from attribution.replay import Replay
from attribution.report import report
from models.errors import ConfigError
from models.settings import Marketing, Privacy
from models.wire import FORMAT, INTERNAL, Block, Forget, Touch, encode
from tests.core.replayed import lines
from tests.histories import generate, undecided, with_forgetting

KEY = b"a key for this test"
NAMES = Pseudonyms(KEY)
AT = {"occurred_at": "2026-03-01T10:00:00Z"}


def hashed(marketing: Marketing) -> Marketing:
    return msgspec.structs.replace(marketing, privacy=Privacy(ids="hashed"))


def whole(events: list[tuple[str, dict[str, Any]]], marketing: Marketing) -> Replay:
    run = Replay(marketing, key=KEY)
    for topic, body in events:
        run.take(topic, json.dumps(body).encode())
    run.finish()
    return run


def under_hashes(found: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Lines as they are, with the hash of each person's id in its place."""
    for one in found.values():
        if one["person"][:2] in ("c:", "a:"):
            one["person"] = NAMES.person(one["person"])
    return found


@pytest.mark.parametrize("first", range(0, 40, 20))
def test_results_are_those_of_ids_as_sent(first: int) -> None:
    """Credits, amounts, persons, nodes and the report; some histories with somebody who is forgotten."""
    seen: Counter[str] = Counter()
    for seed in range(first, first + 20):
        history = generate(seed)
        asked = with_forgetting(history)
        for events, marketing in ((history.events, history.marketing), (asked.events, asked.marketing)):
            if events is asked.events and undecided(asked):
                continue
            plain, other = whole(events, marketing), whole(events, hashed(marketing))
            expected = under_hashes(lines(plain.attributions()))
            assert lines(other.attributions()) == expected, seed
            assert other.dropped["forgotten"] == plain.dropped["forgotten"], seed
            assert _told(report(other)) == _told(report(plain)), seed
            assert {_stored(key) for key in plain.nodes} == set(other.nodes), seed
            seen["conversions"] += len(expected)
            seen["forgotten"] += plain.dropped["forgotten"]
            seen["devices"] += any(key[:2] == "a:" for key in plain.nodes)
    assert min(seen.values()) > 20, seen


def _stored(key: str) -> str:
    return NAMES.person(key) if key[:2] in ("c:", "a:") else key


def _told(found: dict[str, Any]) -> dict[str, Any]:
    """A report but for the configuration's hash, and for how often an event's content was told anew: that depends on which came first."""
    return {name: value for name, value in found.items() if name not in ("config", "dropped")}


def take(topic: str, **body: Any) -> tuple[Any, ...]:
    marketing = msgspec.convert({"privacy": {"ids": "hashed"}, "filters": {"internal_ids": ["staff-1"]}}, Marketing)
    value = json.dumps({"event_id": "e1", **AT, **body}).encode()
    return Intake(marketing, key=KEY).take(topic, value, 1 << 62, 0).entries


def test_nothing_behind_the_intake_knows_an_id() -> None:
    both = {"customer_id": " anna ", "anonymous_id": "laptop"}
    order = {"type": "order", "order_id": "A1", "revenue": 1, "currency": "EUR"}
    of_all = [
        take("clicks", **both, network="google", gclid="click-of-anna"),
        take("touchpoints", **both, type="visit", page_url="https://shop.example/?gclid=click-of-anna"),
        take("touchpoints", **both, type="forget"),
        take("touchpoints", **both, type="survey_response", question="nps", score=9),
        take("purchases", **both, **order),
    ]
    for entries in of_all:
        packed = encode(Block(FORMAT, "x/0", list(entries)))
        assert NAMES.person("c:anna").encode() in packed
        assert not [name for name in (b"anna", b"laptop") if name in packed], entries
    click, visit = of_all[0][0], of_all[1][0]
    assert click.click_id == visit.click_id == NAMES.of("click-of-anna"), "a landing is still known by its click"
    forget = of_all[2][0]
    assert isinstance(forget, Forget)
    assert set(forget.persons) == {NAMES.person("c:anna"), NAMES.person("a:laptop")}
    assert NAMES.person("c:1")[2:] != NAMES.person("a:1")[2:]


def test_ids_are_judged_as_they_were_sent() -> None:
    """Junk is no person, and one of ours is one of ours."""
    (junk,) = take("clicks", customer_id="Guest", anonymous_id="laptop", network="google")
    assert junk.key == NAMES.person("a:laptop")
    ours = take("touchpoints", customer_id="staff-1", type="visit")[0]
    assert isinstance(ours, Touch)
    assert ours.flags == INTERNAL


def test_what_is_stored_depends_on_the_key_alone() -> None:
    assert NAMES.person("c:anna") == "c:" + Pseudonyms(KEY).of("c:anna")
    assert NAMES.person("c:anna") != Pseudonyms(b"another key than this").person("c:anna")
    # By a plain checksum of the whole event an id of few digits could be found out.
    assert NAMES.digest(b"{}") != Pseudonyms(b"another key than this").digest(b"{}")


def test_without_a_key_the_setting_is_refused() -> None:
    with pytest.raises(ConfigError, match=r'^privacy.ids: "hashed" needs .*: set PARCOURS_FORGET_KEY'):
        Intake(hashed(Marketing()))
