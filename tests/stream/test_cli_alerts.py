"""`parcours alerts`: listing from Redis, a test notice by each way, and a backtest by hand."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis
from stream.test_alerts import alert
from typer.testing import CliRunner

from attribution.alerting import AlertState
from models.results import Alert
from models.settings import load_marketing
from streams.alert_state import Kept, Store
from streams.cli import root
from streams.embedded import Broker, RedisServer
from streams.logs import Kafka, records
from streams.tables import Claimed, Tables, connect, journey_tag
from streams.topics import create

COMMANDS = ("alerts list", "alerts test", "alerts backtest")
TOML = """
[[alerts]]
name = "cpa-high"
metric = "cpa"
campaign = "*"
threshold = 60
window = "24h"
team = "growth"

[[alerts]]
name = "no-clicks"
metric = "clicks"
direction = "below"
threshold = 1
"""


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KAFKA_URL", "REDIS_URL", "CONFIG", "GENERATION", "WEBHOOK_URL"):
        monkeypatch.delenv(f"PARCOURS_{name}", raising=False)
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "parcours.toml"
    file.write_text(TOML)
    return file


def run(*args: object) -> tuple[int, str, str]:
    ran = CliRunner().invoke(root.app, [str(arg) for arg in args], prog_name="parcours")
    return ran.exit_code, ran.stdout, ran.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_examples_whose_options_exist(name: str) -> None:
    code, out, _ = run(*name.split(), "--help")
    assert code == 0
    own = [line.strip() for line in out.splitlines() if f"parcours {name}" in line and "Usage" not in line]
    assert own, out
    options = {option for line in own for option in re.findall(r"--[a-z-]+", line)}
    assert all(f"{option} " in out.partition("Options")[2] for option in options)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["test", "cpa-hgh"], "RULE: 'cpa-hgh' is none of cpa-high, no-clicks"),
        (["backtest", ".", "--every", "1x"], "--every: '1x' is not a duration"),
        (["backtest", ".", "--every", "5s"], "--every: 5s is shorter than a minute"),
    ],
)
def test_a_wrong_call_is_one_line(args: list[str], said: str, config: Path) -> None:
    code, _, err = run("alerts", *args, "--config", config)
    assert code == 2
    assert said in err
    assert len(err.splitlines()) == 1


def test_a_rule_that_cannot_be_meant_is_named_by_config_check(tmp_path: Path) -> None:
    file = tmp_path / "parcours.toml"
    file.write_text(TOML.replace('"clicks"', '"cliks"'))
    code, _, err = run("config", "check", file)
    assert code == 2
    assert "alerts[1].metric: 'cliks' is no metric of level total; did you mean 'clicks'" in err


# backtest


def write(folder: Path, **topics: list[dict[str, Any]]) -> None:
    for topic, events in topics.items():
        (folder / f"{topic}.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))


def click(number: int, at: str) -> dict[str, Any]:
    return {
        "event_id": f"k{number}",
        "occurred_at": at,
        "anonymous_id": "a",
        "network": "google",
        "utm_campaign": "brand",
    }


COST = {
    "cost_id": "c", "start": "2026-03-01T00:00:00Z", "end": "2026-03-02T00:00:00Z", "reported_at": "2026-03-02T00:00:00Z",
    "channel": "Paid Social", "network": "facebook", "campaign": "spring", "amount": "400", "currency": "EUR",
}  # fmt: skip


def test_a_backtest_by_hand(tmp_path: Path, config: Path) -> None:
    """400 euros of 1 March without a conversion are above 60 × 2.97; no hour of them is in the 24 hours before 3 March."""
    shop = tmp_path / "shop"
    shop.mkdir()
    write(shop, costs=[COST], clicks=[click(1, "2026-02-27T12:00:00Z"), click(2, "2026-03-05T00:00:00Z")])
    code, out, _ = run("alerts", "backtest", shop, "--config", config, "--days", "3", "--json")
    assert code == 0
    found = [json.loads(line) for line in out.splitlines()]
    assert [(one["rule"], one["scope"], one["fired_at"], one["resolved_at"], one["value"]) for one in found] == [
        ("cpa-high", "Paid Social/facebook/spring", 1772409600, 1772496000, None)
    ]
    assert found[0]["bound"] == pytest.approx(400 / 2.968737, rel=1e-6)
    code, out, _ = run("alerts", "backtest", shop, "--config", config, "--days", "3")
    assert "2026-03-02 00:00:00 to 2026-03-05 00:00:00 UTC, judged every 1h" in out
    assert re.search(r"cpa-high +1 +1 +24 hours +24 hours +-", out) or re.search(
        r"cpa-high +1 +1 +1 day +1 day +-", out
    )
    assert re.search(r"no-clicks +0 +0 +- +- +-", out)


def test_a_conversion_in_time_keeps_it_silent_and_for_is_counted(tmp_path: Path, config: Path) -> None:
    shop = tmp_path / "shop"
    shop.mkdir()
    social = {"channel": "Paid Social", "network": "facebook", "campaign": "spring", "customer_id": "c"}
    touch = {"event_id": "k0", "occurred_at": "2026-03-01T20:00:00Z", **social}
    orders = [
        {"type": "order", "event_id": f"o{i}", "occurred_at": "2026-03-01T21:00:00Z", "customer_id": "c", "order_id": f"{i}",
         "revenue": "90", "currency": "EUR"} for i in range(5)
    ]  # fmt: skip
    write(shop, costs=[COST], clicks=[touch, click(2, "2026-03-05T00:00:00Z")], purchases=orders)
    # 400 / U(5) = 400 / 10.4 is below 60, once both sides of the window have the orders.
    code, out, _ = run("alerts", "backtest", shop, "--config", config, "--days", "3", "--json")
    assert (code, out) == (0, "")
    config.write_text(TOML.replace('window = "24h"', 'window = "24h"\nfor = "5h"'))
    write(shop, purchases=[])
    code, out, _ = run("alerts", "backtest", shop, "--config", config, "--days", "3", "--json")
    assert [json.loads(line)["fired_at"] for line in out.splitlines()] == [1772409600 + 5 * 3600]


def test_a_backtest_without_rules_or_events_says_so(tmp_path: Path, config: Path) -> None:
    write(tmp_path, clicks=[{"event_id": 3}])
    code, _, err = run("alerts", "backtest", tmp_path)
    assert code == 2
    assert "no alert rules" in err
    code, _, err = run("alerts", "backtest", tmp_path, "--config", config)
    assert code == 1
    assert "none of 1 events was accepted" in err


# list, test


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


def test_list_shows_what_fires_and_what_does_not(redis: RedisServer, config: Path) -> None:
    now = 1_772_409_600_000_000
    firing = AlertState(rule="cpa-high", names=("P", "f", "s"), phase="firing", since=now, id="1", fired_at=now)
    one = msgspec.structs.replace(alert(), rule="cpa-high", value="99.5", bound="77")

    async def prepare() -> None:
        client: Redis
        async with connect(redis.url) as client:
            claimed = await Tables(client, journey_tag(0, 0)).claim("test", 1, config=1, formats={1})
            assert isinstance(claimed, Claimed)
            store = Store(client, 0, claimed.token)
            await store.load()
            gone = msgspec.structs.replace(firing, rule="old", phase="inactive", id="2", unknown_since=None)
            await store.save(Kept(states=(firing, gone), notices={"1": one}, outbox=(one,)))

    asyncio.run(prepare())
    code, out, _ = run("alerts", "list", "--config", config, "--redis-url", redis.url)
    assert code == 0
    assert re.search(r"cpa-high +firing +P/f/s +2026-03-02 00:00:00 +99.5 +60 +77 +warning +1", out)
    assert re.search(r"no-clicks +inactive", out)
    assert re.search(r"old +resolved", out)
    assert "Waiting: 1 for Kafka, 0 for the webhook." in out
    code, out, _ = run("alerts", "list", "--config", config, "--redis-url", redis.url, "--json")
    assert [json.loads(line)["state"] for line in out.splitlines()] == ["firing", "inactive", "resolved"]


class Hook(HTTPServer):
    """A webhook that keeps what it is sent."""

    def __init__(self, status: int) -> None:
        self.got: list[Any] = []
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                hook.got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(status)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None: ...

        super().__init__(("127.0.0.1", 0), Handler)
        Thread(target=self.serve_forever, daemon=True).start()


@pytest.mark.slow
def test_a_test_alert_goes_every_way(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Broker() as broker, Hook(200) as taken, Hook(404) as refusing:
        address = broker.url.removeprefix("kafka://")
        asyncio.run(create([address], load_marketing(config)))
        monkeypatch.setenv("PARCOURS_WEBHOOK_URL", f"http://127.0.0.1:{taken.server_port}/x")
        code, out, _ = run("alerts", "test", "cpa-high", "--config", config, "--kafka-url", broker.url)
        assert code == 0
        assert len(re.findall(r"^(kafka|webhook) ", out, re.MULTILINE)) == 4
        monkeypatch.setenv("PARCOURS_WEBHOOK_URL", f"http://127.0.0.1:{refusing.server_port}/x")
        assert run("alerts", "test", "cpa-high", "--config", config, "--kafka-url", broker.url)[0] == 1
        sent = asyncio.run(_read(address))
        assert [(one["status"], one["test"], one["reason"]) for one in taken.got] == [
            ("firing", True, "test"), ("resolved", True, "test"),
        ]  # fmt: skip
        assert taken.got == [msgspec.to_builtins(one) for one in sent[:2]]
        assert sent[0].team == "growth"
        for server in (taken, refusing):
            server.shutdown()


async def _read(address: str) -> list[Alert]:
    found = [record async for record in records(Kafka([address], {}), ["alerts"])]
    assert all(record.key == msgspec.json.decode(record.value, type=Alert).id.encode() for record in found)
    return [msgspec.json.decode(record.value, type=Alert) for record in found]
