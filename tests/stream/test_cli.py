"""The command line: what each command prints and writes, and how it fails."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, tzinfo
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from aiokafka import AIOKafkaConsumer
from typer.testing import CliRunner

from attribution.families import FAMILIES
from attribution.listing import fitting
from attribution.nodes.state import Person
from attribution.plan import Plan, most
from attribution.replay import Replay
from attribution.report import report
from attribution.restated import CAUSES
from models.errors import CATALOGUE
from models.events import TOPICS
from models.results import REASONS
from models.settings import Conversion, Marketing, load_marketing
from streams import demo as demo_module
from streams.cli import phrases, root
from streams.cli.explain import explain
from streams.embedded import Broker, RedisServer, free_port
from streams.files import InputError, InputRecord, by_time, key_of, read
from streams.simulator import PARCOURS_TOML, Simulation
from streams.topics import wanted

CLI = [sys.executable, "-m", "streams.cli"]
ROOT = Path(__file__).parents[2]
DEADLINE = 60.0
COMMANDS = (
    "demo", "worker", "publish", "replay", "report", "audit", "simulate", "check", "journey", "reconcile", "topics create", "config check",
)  # fmt: skip
CLICK = {
    "event_id": "c-1", "occurred_at": "2026-03-01T09:30:00+01:00", "anonymous_id": "device-7", "source": "ads",
    "utm_source": "instagram", "utm_medium": "paid_social", "utm_campaign": "spring", "cost": "0.42", "currency": "EUR",
}  # fmt: skip
VISIT = {
    "event_id": "v-1", "occurred_at": "2026-03-02T09:30:00+01:00", "anonymous_id": "device-7", "source": "web",
    "type": "visit",
}  # fmt: skip
ORDER = {
    "event_id": "p-1", "occurred_at": "2026-03-03T18:00:00+01:00", "anonymous_id": "device-7", "source": "shop",
    "type": "order", "order_id": "1042", "revenue": "89.90", "currency": "EUR",
}  # fmt: skip
COST = {
    "cost_id": "k-1", "start": "2026-03-01T00:00:00Z", "end": "2026-03-02T00:00:00Z", "source": "ads",
    "network": "instagram", "campaign": "spring", "amount": "12.00", "currency": "EUR",
}  # fmt: skip
SHOP = {"clicks": CLICK, "touchpoints": VISIT, "purchases": ORDER, "costs": COST}


class Ran(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("PARCOURS_") or name == "COLUMNS":
            monkeypatch.delenv(name)
    monkeypatch.setenv("PARCOURS_WEB_PORT", str(free_port()))  # 6066 may be taken


def run(*args: object, stdin: str | None = None) -> Ran:
    result = CliRunner().invoke(root.app, [str(arg) for arg in args], input=stdin, prog_name="parcours")
    return Ran(result.exit_code, result.stdout, result.stderr)


def fails(ran: Ran, code: int, *said: str) -> None:
    """The command failed with this code, and one line on stderr holds all of `said`."""
    assert ran.code == code, ran
    assert "Traceback" not in ran.err
    lines = [line for line in ran.err.splitlines() if line]
    assert len(lines) == 1, lines
    assert lines[0].startswith("Error: ")
    for text in said:
        assert text in lines[0]


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    folder = tmp_path / "shop"
    folder.mkdir()
    for topic, event in SHOP.items():
        (folder / f"{topic}.jsonl").write_text(json.dumps(event) + "\n")
    return folder


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


# -- parcours itself


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_examples_whose_options_exist(name: str) -> None:
    ran = run(*name.split(), "--help")
    assert ran.code == 0
    examples = [
        line.strip() for line in ran.out.splitlines() if line.strip().startswith(("parcours ", "PARCOURS_", "head "))
    ]
    own = [line for line in examples if f"parcours {name}" in line]
    assert own, ran.out
    options = {option for line in own for option in re.findall(r"--[a-z-]+", line)}
    assert all(f"{option} " in ran.out.partition("Options")[2] for option in options)


def test_version_is_that_of_the_package() -> None:
    assert run("--version") == Ran(0, f"parcours {_project_version()}\n", "")


def _project_version() -> str:
    found = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert found
    return found[1]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["replya"], "Did you mean 'replay'"),
        (["replay", "x", "--ot", "y"], "No such option: --ot"),
        (["simulate"], "Missing option '--out'"),
        (["publish", "x", "--rate", "fast"], "'--rate'"),
        (["topics", "drop"], "No such command 'drop'"),
        (["demo", "--days", "0"], "'--days'"),
    ],
)
def test_a_typo_is_a_usage_error_without_a_stack_trace(args: list[str], said: str) -> None:
    ran = run(*args)
    assert ran.code == 2
    assert said in " ".join(ran.err.replace("│", " ").split())
    assert "Traceback" not in ran.err


def test_a_bug_is_one_line_and_debug_shows_where(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("by nought")

    monkeypatch.setattr(Simulation, "write", broken)
    fails(run("simulate", "--out", tmp_path / "x"), 1, "ZeroDivisionError: by nought", "parcours --debug simulate")
    shown = run("--debug", "simulate", "--out", tmp_path / "x")
    assert (shown.code, "Traceback" in shown.err) == (1, True)


def test_ctrl_c_ends_a_command_with_130(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Simulation, "write", interrupted)
    assert run("simulate", "--out", tmp_path / "x") == Ran(130, "", "Stopped.\n")


def test_a_wrong_environment_variable_is_named(monkeypatch: pytest.MonkeyPatch, shop: Path) -> None:
    monkeypatch.setenv("PARCOURS_WEB_PORT", "web")
    fails(run("publish", shop), 2, "PARCOURS_WEB_PORT", "'web'")


# -- reading files


def test_a_folder_is_merged_by_time(shop: Path) -> None:
    records = by_time(read(shop))
    assert [record.topic for record in records] == ["costs", "clicks", "touchpoints", "purchases"]
    assert [key_of(record) for record in records] == [b"k-1", b"device-7", b"device-7", b"1042"]
    assert records[1] == InputRecord("clicks", json.dumps(CLICK).encode(), f"{shop / 'clicks.jsonl'}:1")


def test_an_unreadable_event_stays_behind_the_one_before_it(tmp_path: Path) -> None:
    at = [CLICK | {"event_id": name, "occurred_at": f"2026-01-0{day}T00:00:00Z"} for name, day in (("a", 3), ("b", 1))]
    text = [json.dumps(at[0]), '{"event_id": "broken', "", json.dumps(at[1])]
    (tmp_path / "clicks.jsonl").write_text("\n".join(text))
    assert [record.where.rpartition(":")[2] for record in by_time(read(tmp_path))] == ["4", "1", "2"]


def test_one_file_names_its_topics(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    file.write_text(
        json.dumps({"topic": "clicks", "value": CLICK})
        + "\n"
        + json.dumps({"topic": "costs", "value": "not json"})
        + "\n"
    )
    assert list(read(file)) == [
        InputRecord("clicks", json.dumps(CLICK).encode(), f"{file}:1"),
        InputRecord("costs", b"not json", f"{file}:2"),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"topic": "clicks", "value": {}}\n{"topic": "click', "events.jsonl:2: not a line such as"),
        ('{"topic": "click", "value": {}}', "events.jsonl:1: topic: 'click' is none of clicks, touchpoints"),
        (json.dumps(CLICK), "events.jsonl:1: not a line such as"),
    ],
)
def test_a_wrong_line_of_one_file_is_named(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "events.jsonl").write_text(text)
    with pytest.raises(InputError, match=re.escape(said)):
        list(read(tmp_path / "events.jsonl"))
    fails(run("replay", tmp_path / "events.jsonl", "--out", tmp_path / "out"), 2, said)


def test_a_folder_without_events_is_an_error(tmp_path: Path) -> None:
    for command in (["publish", tmp_path], ["replay", tmp_path, "--out", tmp_path / "out"], ["check", tmp_path]):
        fails(run(*command), 2, str(tmp_path), "clicks.jsonl")
    fails(run("publish", tmp_path / "nope"), 2, "no such file")


# -- check


def test_check_says_what_becomes_of_each_event(shop: Path) -> None:
    ran = run("check", shop)
    assert ran.code == 0
    assert [line.partition(": ")[2] for line in ran.out.splitlines()[:4]] == [
        "accepted, click, Paid Social / instagram / spring, person a:device-7",
        "accepted, direct, Direct / (none) / (none), person a:device-7",
        "accepted, person a:device-7",
        "accepted, Paid Social / instagram / spring",
    ]
    assert "4 accepted, 0 refused" in ran.out
    assert "warning" not in ran.out


@pytest.mark.parametrize(
    ("event", "code", "path"),
    [
        (CLICK | {"cost": "free"}, "invalid_field", "$.cost"),
        ({k: v for k, v in ORDER.items() if k != "revenue"}, "missing_field", "$.revenue"),
        (VISIT | {"anonymous_id": "guest"}, "no_person", "$.anonymous_id"),
        (ORDER | {"currency": "USD"}, "missing_rate", "$.currency"),
        (ORDER | {"currency": "ZZZ"}, "unknown_currency", "$.currency"),
        (COST | {"end": COST["start"]}, "empty_interval", "$.end"),
        (CLICK | {"occurred_at": "2199-01-01T00:00:00Z"}, "future", "$.occurred_at"),
    ],
)
def test_check_names_code_path_and_fix(event: dict[str, Any], code: str, path: str) -> None:
    ran = run("check", "-", "--json", stdin=json.dumps(event))
    (verdict,) = [json.loads(line) for line in ran.out.splitlines()]
    assert ran.code == 1
    assert (verdict["accepted"], verdict["code"], verdict["path"]) == (False, code, path)
    assert verdict["fix"] == CATALOGUE[code].fix
    said = run("check", "-", stdin=json.dumps(event)).out
    assert f"REFUSED {code} at {path}" in said
    assert f"fix: {CATALOGUE[code].fix}" in said


@pytest.mark.parametrize(
    ("event", "warning"),
    [
        ({k: v for k, v in CLICK.items() if k != "source"}, "no source"),
        (VISIT | {"utm_medium": "cpc"}, "utm_medium without a network"),
        (VISIT | {"utm_source": "loft", "utm_medium": "carrier pigeon"}, "Unassigned: utm_medium 'carrier pigeon'"),
        (VISIT | {"customer_id": "null"}, "customer_id: 'null' is on junk_ids"),
        (VISIT | {"utm_sorce": "x"}, "Did you mean utm_source?"),
        (VISIT | {"consent": False}, "consent is false"),
        (VISIT | {"type": "stage", "stage": "lead"}, "'lead' is not in [conversions]"),
        ({k: v for k, v in CLICK.items() if k != "currency"}, "cost without currency: taken as EUR"),
        ({k: v for k, v in COST.items() if k not in ("network", "campaign")}, "names no channel, network or campaign"),
    ],
)
def test_check_warns(event: dict[str, Any], warning: str) -> None:
    ran = run("check", "-", "--json", stdin=json.dumps(event))
    (found,) = json.loads(ran.out)["warnings"]
    assert ran.code == 0
    assert warning in found


def test_check_tells_the_topic(tmp_path: Path) -> None:
    bare = "\n".join(json.dumps(event) for event in SHOP.values())
    found = [json.loads(line)["topic"] for line in run("check", "-", "--json", stdin=bare).out.splitlines()]
    assert found == list(TOPICS)
    named = tmp_path / "purchases-2026.jsonl"
    named.write_text(json.dumps(CLICK))
    assert json.loads(run("check", named, "--json").out)["topic"] == "purchases"
    fails(run("check", "-", stdin='{"a": 1}'), 2, "-:1", "--topic")
    fails(run("check", "-", "--topic", "click", stdin="{}"), 2, "--topic", "'click'")
    fails(run("check", "-", stdin=""), 2, "no event")
    fails(run("check", tmp_path / "nope.jsonl"), 2, "nope.jsonl")
    assert "REFUSED malformed_json" in run("check", "-", stdin="{oops").out


def test_what_an_event_says_cannot_drive_the_terminal() -> None:
    hostile = CLICK | {"event_id": "\x1b[2J[red]x\u202e"}
    assert "\\x1b[2J[red]x\\u202e: accepted" in run("check", "-", stdin=json.dumps(hostile)).out


# -- replay and simulate


def test_replay_writes_attributions_report_and_refusals(shop: Path, tmp_path: Path) -> None:
    with (shop / "touchpoints.jsonl").open("a") as file:
        file.write("{broken\n")
    out = tmp_path / "a" / "out"
    ran = run("replay", shop, "--out", out)
    assert ran.code == 0
    (attribution,) = lines(out / "attributions.jsonl")
    assert list(attribution) == [
        "conversion_id", "order_id", "conversion", "occurred_at", "person", "status", "reason", "revenue_gross",
        "revenue_net", "currency", "credits", "truncated",
    ]  # fmt: skip
    assert attribution["credits"]["last_non_direct"] == [
        {
            "touch_id": "c-1",
            "channel": "Paid Social",
            "network": "instagram",
            "campaign": "spring",
            "conversions": "1",
            "revenue": "89.9",
        }
    ]
    (refused,) = lines(out / "refused.jsonl")
    assert (refused["where"], refused["code"]) == (f"{shop / 'touchpoints.jsonl'}:2", "malformed_json")
    assert "Paid Social" in ran.out
    assert "4 events accepted, 1 refused; 1 conversions: 1 attributed" in ran.out
    replay = Replay(Marketing())
    for record in by_time(read(shop)):
        replay.take(record.topic, record.value)
    replay.finish()
    assert json.loads((out / "report.json").read_text()) == json.loads(json.dumps(report(replay)))


def test_replay_that_accepts_nothing_fails(tmp_path: Path) -> None:
    (tmp_path / "clicks.jsonl").write_text("{}\n")
    fails(run("replay", tmp_path, "--out", tmp_path / "out"), 1, "none of 1 events was accepted")
    (tmp_path / "taken").write_text("")
    fails(run("replay", tmp_path, "--out", tmp_path / "taken"), 1, "taken")
    fails(run("replay", tmp_path, "--out", tmp_path / "out", "--config", tmp_path / "no.toml"), 2, "no such file")


def test_simulate_writes_what_replay_reads(tmp_path: Path) -> None:
    args = ("--days", 4, "--persons", 60, "--seed", 3)
    assert run("simulate", "--out", tmp_path / "a", *args).code == 0
    assert run("simulate", "--out", tmp_path / "b", *args).code == 0
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == sorted([*(f"{topic}.jsonl" for topic in TOPICS), "parcours.toml", "truth.json"])
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in names)
    expected = Simulation(3, start=datetime(2026, 1, 1, tzinfo=UTC), days=4, persons=60)
    count = sum(1 for _ in expected.records())
    assert sum(1 for _ in read(tmp_path / "a")) == count
    ran = run("replay", tmp_path / "a", "--out", tmp_path / "out", "--config", tmp_path / "a" / "parcours.toml")
    assert ran.code == 0
    told = json.loads((tmp_path / "out" / "report.json").read_text())
    assert told["accepted"] + sum(told["refused"].values()) == count
    fails(run("simulate", "--out", tmp_path / "out", "--start", "soon"), 2, "--start", "'soon'")
    fails(run("simulate", "--out", tmp_path / "a" / "truth.json"), 2, "is a file")


# -- config check


def test_config_check_shows_the_settings_and_the_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Noon(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Noon:
            return cls(2026, 3, 1, 12, tzinfo=tz)

    monkeypatch.setattr("streams.cli.config.datetime", Noon)  # it shows the time, and a minute may pass between the two
    file = tmp_path / "parcours.toml"
    file.write_text(PARCOURS_TOML)
    ran = run("config", "check", file)
    assert ran.code == 0
    assert "Europe/Paris (now 2026-03-01 12:00)" in ran.out
    assert "warning" not in ran.out
    assert ran.out.splitlines()[-1] == f"digest {load_marketing(file).digest()}"
    monkeypatch.setenv("PARCOURS_CONFIG", str(file))
    assert run("config", "check").out == ran.out


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ('own_domains = ["https://shop.example/"]', "own_domains: 'https://shop.example/' looks like a URL"),
        ('payment_domains = ["pay"]', "payment_domains: 'pay' has no dot"),
        ('[[rates]]\ncurrency = "EUR"\nrate = "1"', "EUR is the reporting currency"),
        ('[[rates]]\ncurrency = "ZZZ"\nrate = "1"', "ZZZ is not a currency"),
        ('clock = "event"', "clock:"),
        ('[[lookback.rules]]\nwindow = "9d"\nconversion = "led"', "lookback.rules[0].conversion: 'led'"),
        (
            '[[rates]]\ncurrency = "USD"\nrate = "0.9"\n[[rates]]\ncurrency = "USD"\nrate = "1.11"\ndate = "2026-02-01"',
            "inverse",
        ),
    ],
)
def test_config_check_warns(tmp_path: Path, text: str, warning: str) -> None:
    (tmp_path / "c.toml").write_text(text)
    ran = run("config", "check", tmp_path / "c.toml")
    assert ran.code == 0
    assert any(line.startswith("warning: ") and warning in line for line in ran.out.splitlines())


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("own_domain = []", "own_domain"),
        ('time_zone = "Paris"', "time_zone"),
        ("[topics]\nclicks = 0", "topics.clicks"),
        ('headline_models = ["linaer"]', "headline_models"),
        ('rates_file = "no.csv"', "rates_file"),
        ("revision = ", "not valid TOML"),
        ('[campaign_aliases]\na = "b"\nb = "a"', "campaign_aliases"),
    ],
)
def test_config_check_refuses_naming_the_key(tmp_path: Path, text: str, key: str) -> None:
    (tmp_path / "c.toml").write_text(text)
    fails(run("config", "check", tmp_path / "c.toml"), 2, key)


def test_config_check_counts_every_family_and_says_what_has_no_room(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('own_domains = ["shop.example"]\n[conversions.lead]\n')
    marketing = load_marketing(tmp_path / "c.toml")
    few = run("config", "check", tmp_path / "c.toml").out
    assert "warning" not in few
    counted = {line.split()[0] for line in few.splitlines() if line}
    for name, family in FAMILIES.items():
        day, baseline = name.startswith("parcours_day_"), name.endswith("_baseline")
        assert f"{'day_' * day}{family.metric}{'_baseline' * baseline}" in counted
    total = sum(most(marketing, 12, 100).values())
    assert f"{total:,} series; the budget is 40,000" in few
    many = run("config", "check", tmp_path / "c.toml", "--channels", 60, "--campaigns", 500).out
    warned = [line for line in many.splitlines() if line.startswith("warning: series: ")]
    assert [line.split(" are shown")[0] for line in warned] == [
        f"warning: series: {60 - channels} of 60 channels"
        if of
        else f"warning: series: {500 - campaigns} of 500 campaigns"
        for channels, campaigns in [fitting(Plan(marketing, ["purchase", "lead"]), 60, 500)]
        for of in (True, False)
    ]


def test_config_check_without_a_file_says_how_to_name_one() -> None:
    fails(run("config", "check"), 2, "PARCOURS_CONFIG")


# -- what a journey is told as


def told(*events: tuple[str, dict[str, Any]], marketing: Marketing | None = None) -> list[str]:
    """The sentences of person a:device-7 after these events."""
    marketing = marketing or Marketing()
    replay = Replay(marketing)
    for topic, event in events:
        replay.take(topic, json.dumps(event).encode())
    replay.finish()
    person = replay.nodes["a:device-7"]
    return [conversion.sentence for conversion in explain("a:device-7", person, marketing).conversions]  # type: ignore[arg-type]


def test_a_journey_ends_in_one_sentence_per_conversion() -> None:
    early = CLICK | {"event_id": "c-0", "utm_source": "linkedin", "occurred_at": "2026-01-31T09:30:00+01:00"}
    linear = Marketing(headline_models=("linear",))
    last = Marketing(headline_models=("last_touch",))
    assert told(("clicks", CLICK), ("clicks", early), ("purchases", ORDER), marketing=last) == [
        "last_touch credits instagram for purchase 1042 because it is the only eligible touch, 2.4 days before; "
        "linkedin's click was 31 days old and its window is 30 days."
    ]
    assert told(("clicks", CLICK), ("touchpoints", VISIT), ("purchases", ORDER)) == [
        "last_non_direct credits instagram for purchase 1042 because it is the last eligible touch that is not direct, "
        "2.4 days before."
    ]
    assert told(("clicks", CLICK), ("touchpoints", VISIT), ("purchases", ORDER), marketing=linear) == [
        "linear shares purchase 1042 among 2 touches (instagram 50 %, Direct 50 %)."
    ]
    assert told(("purchases", ORDER)) == [
        "purchase 1042 is (unattributed): no touch of this person is known before it."
    ]
    assert told(("clicks", early), ("purchases", ORDER)) == [
        "purchase 1042 is (unattributed): every touch before it is older than its lookback window; "
        "linkedin's click was 31 days old and its window is 30 days."
    ]
    cancel = {"event_id": "x", "occurred_at": "2026-03-04T00:00:00Z", "type": "cancel", "order_id": "1042"}
    assert told(("clicks", CLICK), ("purchases", ORDER), ("purchases", cancel)) == [
        "purchase 1042 counts no more (cancelled), so no touch is credited."
    ]
    email = VISIT | {
        "event_id": "e",
        "type": "email_open",
        "network": "newsletter",
        "occurred_at": "2026-03-03T10:00:00Z",
    }
    assert told(("clicks", CLICK), ("touchpoints", email), ("purchases", ORDER)) == [
        "last_non_direct credits instagram for purchase 1042 because it is the only eligible touch, 2.4 days before; "
        "newsletter's email_open earns nothing beside a click."
    ]


def test_a_journey_says_so_in_french_too() -> None:
    early = CLICK | {"event_id": "c-0", "utm_source": "linkedin", "occurred_at": "2026-01-31T09:30:00+01:00"}
    cancel = {"event_id": "x", "occurred_at": "2026-03-04T00:00:00Z", "type": "cancel", "order_id": "1042"}
    lead = VISIT | {"event_id": "s", "type": "stage", "stage": "lead", "occurred_at": "2026-02-28T09:30:00Z"}
    marketing = Marketing(conversions={"lead": Conversion()}, headline_models=("last_touch", "linear"))
    replay = Replay(marketing)
    for topic, event in (("clicks", CLICK), ("clicks", early), ("purchases", ORDER), ("touchpoints", lead)):
        replay.take(topic, json.dumps(event).encode())
    replay.finish()

    def french() -> list[str]:
        person = replay.nodes["a:device-7"]
        return [told.sentence_fr for told in explain("a:device-7", person, marketing).conversions]  # type: ignore[arg-type]

    assert french() == [
        "last_touch crédite linkedin pour « lead » s : c’est le seul contact éligible, 28 jours avant.",
        "last_touch crédite instagram pour l’achat 1042 : c’est le seul contact éligible, 2,4 jours avant; "
        "le clic de linkedin avait 31 jours et sa fenêtre est de 30 jours.",
    ]
    replay.take("purchases", json.dumps(cancel).encode())
    replay.finish()
    assert french()[1] == "l’achat 1042 ne compte plus (annulation) : aucun contact n’est crédité."


@pytest.mark.parametrize(
    ("events", "model", "said"),
    [
        ([], "linear", "l’achat 1042 est (unattributed) : aucun contact de cette personne n’est connu avant."),
        (
            [("clicks", CLICK), ("touchpoints", VISIT)], "last_non_direct",
            "last_non_direct crédite instagram pour l’achat 1042 : c’est le dernier contact éligible qui n’est pas direct, 2,4 jours avant.",
        ),
        (
            [("clicks", CLICK), ("touchpoints", VISIT)], "linear",
            "linear partage l’achat 1042 entre 2 contacts (instagram 50 %, Direct 50 %).",
        ),
    ],
)  # fmt: skip
def test_the_french_of_each_kind_of_sentence(events: list[tuple[str, dict[str, Any]]], model: str, said: str) -> None:
    marketing = Marketing(headline_models=(model,))
    replay = Replay(marketing)
    for topic, event in [*events, ("purchases", ORDER)]:
        replay.take(topic, json.dumps(event).encode())
    replay.finish()
    person = replay.nodes["a:device-7"]
    (told,) = explain("a:device-7", person, marketing).conversions  # type: ignore[arg-type]
    assert told.sentence_fr == said


def test_spans_have_their_plural() -> None:
    """In French it begins at two."""
    assert [phrases.span(language, 129_600_000_000) for language in phrases.LANGUAGES] == ["1.5 days", "1,5 jour"]
    assert [phrases.span("en", n * 1_000_000) for n in (0, 1, 2)] == ["0 seconds", "1 second", "2 seconds"]


def test_a_journey_tells_each_restatement_and_why() -> None:
    """In order of arrival: the order, a click that came late, one through a device that logs in later, a refund."""
    marketing = Marketing(lateness="400d")
    replay = Replay(marketing)
    mine = {"customer_id": "ana", "anonymous_id": None}
    late = CLICK | mine | {"event_id": "c-9", "utm_source": "linkedin", "occurred_at": "2026-03-01T12:00:00Z"}
    login = VISIT | {"type": "identify", "event_id": "i", "customer_id": "ana", "occurred_at": "2026-03-01T12:00:00Z"}
    refund = {
        "event_id": "x",
        "occurred_at": "2026-03-04T00:00:00Z",
        "type": "refund",
        "order_id": "1042",
        "amount": "1",
    }
    for topic, event in (
        ("purchases", ORDER | mine), ("clicks", late), ("clicks", CLICK), ("touchpoints", login), ("purchases", refund),
    ):  # fmt: skip
        replay.take(topic, json.dumps(event).encode())
        replay.finish()
    person = replay.nodes["c:ana"]
    (told,) = explain("c:ana", person, marketing).conversions  # type: ignore[arg-type]
    net = Decimal(told.gross) - 1
    assert [(once.cause, once.event_id, once.why, once.why_fr) for once in told.restatements] == [
        ("touch", "c-9", "linkedin's click came after the credit was filed",
         "le clic de linkedin est arrivé après l’établissement du crédit"),
        ("given", "c-1", "instagram's click came with a device that turned out to be this customer's",
         "le clic de instagram est venu avec un appareil qui s’est révélé être celui de ce client"),
        ("order", None, f"the order changed: net {told.gross} → {net}", f"la commande a changé : net {told.gross} → {net}"),
    ]  # fmt: skip


def test_every_cause_and_reason_has_its_phrase_in_both_languages() -> None:
    names = [*REASONS, *(f"restated:{cause}" for cause in CAUSES)]
    assert all(phrases.known(name) for name in names)
    for name in names:
        english, french = (phrases.text(language, name, whose="w", was="1", net="2") for language in phrases.LANGUAGES)
        assert english != french


def test_a_journey_says_of_each_touch_which_window_let_it_in_or_what_kept_it_out() -> None:
    early = CLICK | {"event_id": "c-0", "utm_source": "linkedin", "occurred_at": "2026-01-31T09:30:00+01:00"}
    email = VISIT | {"event_id": "e", "type": "email_open", "occurred_at": "2026-03-03T10:00:00Z"}
    replay = Replay(Marketing(exclude_direct="always"))
    for topic, event in (
        ("clicks", CLICK),
        ("clicks", early),
        ("touchpoints", email),
        ("touchpoints", VISIT),
        ("purchases", ORDER),
    ):
        replay.take(topic, json.dumps(event).encode())
    replay.finish()
    (told,) = explain("a:device-7", replay.nodes["a:device-7"], replay.marketing).conversions  # type: ignore[arg-type]
    assert {touch.touch_id: (touch.window, touch.verdict) for touch in told.touches} == {
        "c-0": ("30 days", "outside its window"),
        "c-1": ("30 days", "eligible"),
        "e": ("1 day", "gives way to a click"),
        VISIT["event_id"]: ("30 days", "direct is excluded"),
    }


def test_a_journey_says_what_each_event_was_taken_as() -> None:
    landing = VISIT | {"event_id": "l", "occurred_at": "2026-03-01T09:30:04+01:00", "click_id": "x"}
    again = VISIT | {"event_id": "m", "occurred_at": "2026-03-01T09:40:00+01:00"}
    refused = VISIT | {"event_id": "n", "occurred_at": "2026-03-01T09:50:00+01:00", "consent": False}
    replay = Replay(Marketing())
    replay.take("clicks", json.dumps(CLICK | {"click_id": "x"}).encode())
    for event in (landing, again, refused):
        replay.take("touchpoints", json.dumps(event).encode())
    replay.finish()
    found = explain("a:device-7", replay.nodes["a:device-7"], Marketing())  # type: ignore[arg-type]
    assert [(seen.event_id, seen.taken_as, seen.landing_of) for seen in found.touches] == [
        ("c-1", "touch", None), ("l", "landing", "c-1"), ("m", "same visit", None), ("n", "filtered: no_consent", None),
    ]  # fmt: skip


def test_a_journey_says_through_which_device_an_event_came_and_whose_a_device_is() -> None:
    marketing = Marketing(device_customers=1, journey_max=2)
    replay = Replay(marketing)
    login = VISIT | {"type": "identify", "event_id": "i", "customer_id": "ana", "occurred_at": "2026-03-01T12:00:00Z"}
    for topic, event in (("clicks", CLICK), ("touchpoints", login), ("purchases", ORDER)):
        replay.take(topic, json.dumps(event).encode())
    replay.finish()
    device, customer = replay.nodes["a:device-7"], replay.nodes["c:ana"]
    assert isinstance(device, Person)
    assert isinstance(customer, Person)
    seen = explain("a:device-7", device, marketing)
    assert [(link.customer, link.since) for link in seen.links] == [("c:ana", "2026-03-01T12:00:00Z")]
    assert [(one.person, one.touches, one.conversions) for one in seen.exchanged] == [("c:ana", 1, 1)]
    assert (seen.touches, seen.conversions, seen.shared, seen.truncated) == ([], [], False, None)
    hers = explain("c:ana", customer, marketing)
    assert [(touch.event_id, touch.device) for touch in hers.touches] == [("c-1", "a:device-7")]
    assert [(one.person, one.touches, one.conversions) for one in hers.exchanged] == [("a:device-7", 1, 1)]

    for n, customer_id in enumerate(("ben", "ana", "ana", "ana")):
        again = login | {"event_id": f"j{n}", "type": "visit", "customer_id": customer_id, "utm_source": f"s{n}"}
        replay.take("touchpoints", json.dumps(again | {"occurred_at": f"2026-03-0{5 + n}T12:00:00Z"}).encode())
    replay.finish()
    device, customer = replay.nodes["a:device-7"], replay.nodes["c:ana"]
    assert explain("a:device-7", device, marketing).shared  # type: ignore[arg-type]
    assert explain("c:ana", customer, marketing).truncated == "2026-03-06T12:00:00Z"  # type: ignore[arg-type]


# -- Kafka and Redis


@pytest.mark.parametrize("command", [["publish", "SHOP"], ["topics", "create"], ["worker"]])
def test_a_kafka_that_does_not_answer_is_named(command: list[str], shop: Path) -> None:
    nobody = f"127.0.0.1:{free_port()}"
    args = [str(shop) if word == "SHOP" else word for word in command]
    fails(run(*args, "--kafka-url", f"kafka://{nobody}"), 1, nobody, "--kafka-url")
    fails(run(*args, "--kafka-url", "nowhere"), 2, "kafka-url: 'nowhere'")


def test_a_redis_that_does_not_answer_is_named() -> None:
    nobody = f"redis://:secret@127.0.0.1:{free_port()}/0"
    ran = run("journey", "42", "--redis-url", nobody)
    fails(ran, 1, nobody.partition("@")[2], "--redis-url")
    assert "secret" not in ran.err
    fails(run("journey", "42", "--redis-url", "nowhere"), 2, "redis-url: 'nowhere'")


def test_topics_have_what_their_data_needs() -> None:
    topics = {topic.name: topic for topic in wanted(Marketing(), 3)}
    assert set(topics) == {*TOPICS, *(f"dlq.{topic}" for topic in TOPICS), "journey-events", "attributions", "alerts"}
    assert all(topic.settings["unclean.leader.election.enable"] == "false" for topic in topics.values())
    assert all(topic.settings["min.insync.replicas"] == "2" for topic in topics.values())
    assert topics["journey-events"].settings["retention.ms"] == "-1"
    assert topics["journey-events"].settings["cleanup.policy"] == "delete"
    assert topics["attributions"].settings["cleanup.policy"] == "compact"
    assert topics["dlq.purchases"].settings["max.message.bytes"] == str(4 << 20)
    assert (topics["clicks"].partitions, topics["dlq.purchases"].partitions, topics["costs"].partitions) == (4, 2, 1)


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    with Broker() as started:
        yield started


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with RedisServer() as started:
        yield started


@pytest.mark.integration
def test_topics_are_created_once_and_compared_after(broker: Broker, tmp_path: Path) -> None:
    args = ("topics", "create", "--kafka-url", broker.url)
    for expected in (["topics", "create", "--dry-run"], ["topics", "create"]):
        states = run(*args, *expected[2:])
        assert states.code == 0
    assert run(*args).out.count("  exists") == 11
    (tmp_path / "c.toml").write_text("[topics]\nclicks = 3\n")
    fails(run(*args, "--config", tmp_path / "c.toml"), 1, "clicks has 4 partitions, not 3", "dlq.clicks has 4")
    assert run(*args).out.count("  exists") == 11


async def _consumed(broker: Broker, topic: str, count: int) -> list[tuple[bytes | None, bytes | None]]:
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=broker.address, auto_offset_reset="earliest")
    await consumer.start()
    try:
        async with asyncio.timeout(DEADLINE):
            return [(record.key, record.value) for record in [await consumer.getone() for _ in range(count)]]
    finally:
        await consumer.stop()


@pytest.mark.integration
def test_publish_sends_every_event_with_its_key(shop: Path) -> None:
    with (shop / "clicks.jsonl").open("a") as file:
        file.write("{broken\n")
    with Broker() as own:
        assert run("topics", "create", "--kafka-url", own.url).code == 0
        ran = run("publish", shop, "--kafka-url", own.url)
        assert ran.code == 0
        assert "5 events published in" in ran.out
        found = {topic: asyncio.run(_consumed(own, topic, 2 if topic == "clicks" else 1)) for topic in TOPICS}
    assert sorted(found["clicks"], key=lambda pair: pair[1] or b"") == sorted(
        [(b"device-7", json.dumps(CLICK).encode()), (None, b"{broken")], key=lambda pair: pair[1]
    )
    assert found["purchases"] == [(b"1042", json.dumps(ORDER).encode())]
    assert found["costs"] == [(b"k-1", json.dumps(COST).encode())]


def _until(process: subprocess.Popen[bytes], reached: Any) -> None:
    """Wait for `reached()` while the process runs."""
    end = time.monotonic() + DEADLINE
    while not reached():
        assert process.poll() is None, "the worker ended"
        assert time.monotonic() < end, "not reached in time"
        time.sleep(0.1)


@pytest.mark.integration
@pytest.mark.slow
def test_a_worker_attributes_and_journey_tells_and_both_signals_stop_it(
    broker: Broker, redis: RedisServer, shop: Path
) -> None:
    run("topics", "create", "--kafka-url", broker.url)
    assert run("journey", "device-7", "--redis-url", redis.url).code == 1
    assert run("publish", shop, "--kafka-url", broker.url).code == 0

    def known() -> bool:
        ran = run("journey", "device-7", "--json", "--redis-url", redis.url)
        return ran.code == 0 and bool(json.loads(ran.out)["conversions"]) and len(json.loads(ran.out)["touches"]) == 2

    for which, code, reached in ((signal.SIGTERM, 0, known), (signal.SIGINT, 130, None)):
        port = free_port()
        command = [*CLI, "worker", "--kafka-url", broker.url, "--redis-url", redis.url, "--web-port", str(port)]
        process = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"PARCOURS_SESSION_TIMEOUT": "6"})
        try:
            _until(process, lambda port=port: demo_module.page(f"http://127.0.0.1:{port}/livez") is not None)
            if reached:
                _until(process, reached)
            process.send_signal(which)
            assert process.wait(DEADLINE) == code
        finally:
            process.kill()
            process.wait()
    shown = run("journey", "a:device-7", "--redis-url", redis.url)
    assert shown.code == 0
    assert shown.out.splitlines()[-1].startswith("last_non_direct credits instagram for purchase 1042 because")
    fails(run("journey", "nobody", "--redis-url", redis.url), 1, "c:nobody", "a:nobody")


@pytest.mark.integration
def test_a_taken_port_is_named(redis: RedisServer) -> None:
    fails(run("worker", "--web-port", redis.port), 1, f"127.0.0.1:{redis.port}", "--web-port")
    fails(run("demo", "--port", redis.port), 2, "--port")
    fails(run("demo", "--port", "many"), 2, "--port", "'many'")
    fails(run("demo", "--window", "2d"), 2, "--window", "1h, 24h, 7d, 30d")
