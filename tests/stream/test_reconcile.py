"""A shop's list of orders beside those that are known, with a real Redis."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from attribution.nodes.state import Order
from attribution.replay import Replay
from models.settings import Marketing
from streams.blocks import partition_of
from streams.cli import root
from streams.codec import Names, pack_node
from streams.embedded import RedisServer
from streams.reconcile import read_orders
from streams.tables import connect, journey_tag, register_config

PARTITIONS = Marketing().topics.journey_events


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PARCOURS_REDIS_URL", "PARCOURS_GENERATION", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)


def purchase(kind: str, order_id: str, day: int, n: int, **fields: Any) -> bytes:
    body = {"event_id": f"e{n}", "occurred_at": f"2026-03-{day:02}T10:00:00Z", "type": kind, "order_id": order_id}
    if kind == "order":
        body |= {"customer_id": "ana", "revenue": "100", "currency": "EUR"}
    return json.dumps(body | fields).encode()


def orders() -> dict[str, Order]:
    """A of 100; B of 100, of which 30 came back; C cancelled; D of 50 in dollars; E on the 20th; F is a refund whose order is not known."""
    replay = Replay(Marketing(rates=()))
    for n, (kind, order_id, day, fields) in enumerate(
        (
            ("order", "A", 1, {}),
            ("order", "B", 2, {}),
            ("refund", "B", 3, {"amount": "30"}),
            ("order", "C", 4, {}),
            ("cancel", "C", 5, {}),
            ("order", "D", 6, {"revenue": "60", "shipping": "10"}),
            ("order", "E", 20, {}),
            ("refund", "F", 6, {"amount": "5"}),
        )
    ):
        replay.take("purchases", purchase(kind, order_id, day, n, **fields))
    replay.finish()
    return {key: node for key, node in replay.nodes.items() if isinstance(node, Order)}


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def url(redis: RedisServer) -> str:
    async def store() -> None:
        client = connect(redis.url)
        await client.flushall()
        await register_config(client, 0, Marketing().text())
        for key, node in orders().items():
            await client.set(f"{journey_tag(0, partition_of(key, PARTITIONS))}n:{key}", pack_node(node, Names()))
        await client.aclose()

    asyncio.run(store())
    return redis.url


def run(*args: object) -> tuple[int, str, str]:
    ran = CliRunner().invoke(root.app, ["reconcile", *map(str, args)], prog_name="parcours")
    return ran.exit_code, ran.stdout, ran.stderr


def listed(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "orders.csv"
    file.write_text(text, "utf-8")
    return file


def told(*args: object) -> tuple[int, dict[str, Any]]:
    code, out, err = run(*args, "--json")
    assert not err
    return code, json.loads(out)


def test_each_order_is_matched_missing_extra_or_different(tmp_path: Path, url: str) -> None:
    file = listed(tmp_path, "order_id,revenue\nA,100.00\nB,100\nD,20\nD,30\nX,7.5\nC,100\nF,9\n")
    code, found = told(file, "--redis-url", url, "--since", "2026-03-01", "--until", "2026-04-01")
    assert code == 1
    assert found["matched"] == 3  # A, B before its refund, D of two lines
    assert [(one["order_id"], one["theirs"]) for one in found["missing"]] == [("F", "9"), ("X", "7.5")]
    assert [(one["order_id"], one["ours"]) for one in found["extra"]] == [("E", "100")]
    assert [(one["order_id"], one["theirs"], one["ours"], one["gone"]) for one in found["different"]] == [
        ("C", "100", "0", "cancelled")
    ]


def test_after_refunds_and_inside_the_dates(tmp_path: Path, url: str) -> None:
    file = listed(tmp_path, "Name,Subtotal\nA,100\nB,70\n")
    args = (file, "--id", "Name", "--amount", "Subtotal", "--net", "--redis-url", url)
    assert told(*args) == (0, {"matched": 2, "missing": [], "extra": [], "different": []})
    code, found = told(*args, "--since", "2026-03-01", "--until", "2026-03-06")
    assert (code, found["extra"]) == (0, [])
    code, found = told(*args, "--since", "2026-03-06", "--until", "2026-03-20")
    assert (code, [one["order_id"] for one in found["extra"]]) == (1, ["D"])


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_columns_may_be_separated_in_three_ways(tmp_path: Path, url: str, separator: str) -> None:
    text = "order_id,note,revenue\nA,x,100\nB,y,100\n".replace(",", separator)
    assert told(listed(tmp_path, text), "--redis-url", url)[1]["matched"] == 2


def test_a_long_file_tells_how_far_it_is(tmp_path: Path) -> None:
    file = listed(tmp_path, "order_id,revenue\n" + "".join(f"o{n},1\n" for n in range(25_000)))
    heard: list[int] = []
    assert len(read_orders(file, "order_id", "revenue", heard.append)) == 25_000
    assert heard == [0, 10_000, 20_000]


def test_the_screen_counts_and_lists(tmp_path: Path, url: str) -> None:
    code, out, _ = run(listed(tmp_path, "order_id,revenue\nA,99\nX,1\n"), "--redis-url", url)
    assert code == 1
    assert out.splitlines()[0] == "0 matched, 1 missing, extra not looked for (--since), 1 different in amount"
    assert any(line.split() == ["A", "2026-03-01T10:00:00Z", "99", "100", "EUR"] for line in out.splitlines())


@pytest.mark.parametrize(
    ("text", "args", "said"),
    [
        ("id,revenue\nA,1\n", (), "no column 'order_id'; name yours with --id (it has id, revenue)"),
        ("order_id,total\nA,1\n", (), "no column 'revenue'; name yours with --amount"),
        ("order_id,revenue\nA,1\nB,x\n", (), "orders.csv:3: revenue: 'x' is not an amount"),
        ("order_id,revenue\n,1\n", (), "orders.csv:2: order_id is empty"),
        ("", (), "orders.csv: is empty; the first line names the columns"),
        ("\n\n", (), "orders.csv: is empty"),
        ("order_id,revenue\n", (), "orders.csv: has a header and no orders"),
        ("order_id,revenue,revenue\nA,1,2\n", (), "more than one column 'revenue'"),
        ("order_id,revenue\nA,1,234\n", (), "orders.csv:2: more fields than the header has"),
        ("order_id;revenue\nA;1,50\n", (), "'1,50' is not an amount such as 99.90: digits and a point"),
        ("order_id,revenue\nA,\u20ac5\n", (), "is not an amount such as 99.90: digits and a point"),
        ("order_id,revenue\nA,1e13\n", (), "'1e13' is not an amount"),
        ("order_id,revenue\nA\n", (), "orders.csv:2: revenue: '' is not an amount"),
        ('order_id,revenue\n"A,1\n', (), "revenue: '' is not an amount"),
        ("order_id,revenue\n", ("--since", "March"), "--since: 'March' is not a date"),
        ("order_id,revenue\n", ("--until", "2026-03-01"), "--until: give --since too"),
    ],
)
def test_what_cannot_be_read_names_the_line_and_the_fix(
    tmp_path: Path, text: str, args: tuple[str, ...], said: str
) -> None:
    code, _, err = run(listed(tmp_path, text), *args)
    assert code == 2
    assert said in " ".join(err.split())
    assert "Traceback" not in err
    assert "'' is not" not in said or "digits" not in err, "nothing to correct in an amount that is not there"
