"""`parcours report`: the exporter's numbers of one period as a table, CSV, JSON and a page."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from attribution.replay import Replay
from attribution.report import exported
from attribution.windows import PERIODS, WINDOWS
from models.settings import Marketing, load_marketing
from streams.cli import root
from streams.cli.report import known_periods
from streams.files import by_time, read
from tests import shop as samples_of

CLICK = {
    "event_id": "k1", "occurred_at": "2026-03-02T10:00:00Z", "customer_id": "anna", "channel": "Paid Social",
    "network": "facebook", "campaign": "<b>=spring</b>",
}  # fmt: skip
ORDER = {
    "event_id": "p1", "occurred_at": "2026-03-02T12:00:00Z", "customer_id": "anna", "type": "order", "order_id": "1",
    "revenue": "7500", "currency": "EUR", "margin": "3000", "is_new_customer": True,
}  # fmt: skip
COST = {
    "cost_id": "c1", "start": "2026-03-02T00:00:00Z", "end": "2026-03-02T12:00:00Z", "channel": "Paid Social",
    "network": "facebook", "campaign": "<b>=spring</b>", "amount": "5000", "currency": "EUR",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PARCOURS_CONFIG", raising=False)
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    folder = tmp_path / "shop"
    folder.mkdir()
    for topic, event in (("clicks", CLICK), ("purchases", ORDER), ("costs", COST)):
        (folder / f"{topic}.jsonl").write_text(json.dumps(event) + "\n")
    return folder


def run(*args: object) -> Any:
    return CliRunner().invoke(root.app, ["report", *map(str, args)], prog_name="parcours")


def rows_of(folder: Path, marketing: Marketing) -> Iterator[tuple[samples_of.Sample, Decimal]]:
    """The exporter's rows at the last event."""
    replay = Replay(marketing)
    for record in by_time(read(folder)):
        replay.take(record.topic, record.value)
    replay.finish()
    costs = [row for _, row in replay.costs()]
    for family, labels, value in exported(replay.rollups, costs, marketing, replay.highest, replay.devices):
        yield (family, frozenset(labels)), Decimal(value)


@pytest.mark.parametrize("period", ["5m", "24h", "30d", "today", "yesterday", "campaign_to_date", "days"])
def test_json_and_csv_are_the_exporters_rows(shop: Path, period: str) -> None:
    def asked(labels: dict[str, str]) -> bool:
        return (
            "days_ago" in labels
            if period == "days"
            else "days_ago" not in labels and labels.get("window", period) == period
        )

    wanted = {key: value for key, value in rows_of(shop, Marketing()) if asked(dict(key[1]))}
    assert wanted
    told = json.loads(run("--input", shop, "--period", period, "--json").stdout)
    assert (told["period"], told["as_of"], told["config"]) == (period, "2026-03-02T12:00:00Z", Marketing().digest())
    assert samples_of.samples(told) == wanted

    read_back = []
    for line in csv.DictReader(io.StringIO(run("--input", shop, "--period", period, "--csv").stdout)):
        assert (line["period"], line["config"]) == (period, Marketing().digest())
        read_back.append(
            {name: text for name, text in line.items() if text and name not in ("period", "as_of", "config")}
        )
    assert read_back == told["rows"]


def test_the_table_shows_the_seed(shop: Path) -> None:
    ran = run("--input", shop, "--period", "24h")
    assert ran.exit_code == 0
    (line,) = [line for line in ran.stdout.splitlines() if line.startswith("in all")]
    # 5 000 spent, 7 500 back: 50 %; on a margin of 3 000, -40 %; one order, of one new customer.
    assert line.split() == [
        "in", "all", "0", "1.00", "7,500.00", "5,000.00", "5,000.00", "1.50", "50.0", "%", "-40.0", "%", "5,000.00",
    ]  # fmt: skip
    assert "MER 1.50" in ran.stdout
    assert f"configuration {Marketing().digest()}" in ran.stdout


def test_what_nobody_is_credited_for_is_told_by_reason(shop: Path) -> None:
    more = [ORDER | {"event_id": f"p{n}", "order_id": str(n), "customer_id": f"stranger-{n}"} for n in (2, 3)]
    bot = CLICK | {"event_id": "k2", "customer_id": "stranger-2", "user_agent": "curl/8.5.0"}
    with (shop / "purchases.jsonl").open("a") as file:
        file.writelines(json.dumps(event) + "\n" for event in more)
    assert "unattributed 2: 2 no_touch_known\n" in run("--input", shop, "--period", "24h").stdout
    with (shop / "clicks.jsonl").open("a") as file:
        file.write(json.dumps(bot) + "\n")
    ran = run("--input", shop, "--period", "24h")
    assert "unattributed 2: 1 no_touch_known, 1 filtered" in ran.stdout
    assert "Unattributed 2: 1 no_touch_known, 1 filtered." in run("--input", shop, "--period", "24h", "--html").stdout
    told = json.loads(run("--input", shop, "--period", "24h", "--json").stdout)["rows"]
    assert {row["reason"]: row["value"] for row in told if row["metric"] == "unattributed_conversions"} == {
        "no_touch_known": "1", "filtered": "1", "no_consent": "0", "outside_window": "0", "touches_trimmed": "0",
    }  # fmt: skip


class Reader(HTMLParser):
    """Text by element, the elements that are open at the end, and whatever would be fetched or run."""

    def __init__(self) -> None:
        super().__init__()
        self.text: list[str] = []
        self.needs: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.needs += [f"{tag} {name}" for name, value in attrs if name in ("src", "href") or name.startswith("on")]
        if tag in ("script", "link", "iframe"):
            self.needs.append(tag)

    def handle_data(self, data: str) -> None:
        self.text.append(data.strip())


def test_the_page_needs_nothing_else_and_shows_names_as_they_are(shop: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    ran = run("--input", shop, "--period", "24h", "--html", "--out", out)
    assert (ran.exit_code, ran.stdout) == (0, "")
    assert f"Written to {out}" in ran.stderr
    page = out.read_text("utf-8")
    reader = Reader()
    reader.feed(page)
    assert reader.needs == []
    assert "b" in reader.tags  # of a tile
    assert "<b>=spring</b>" in reader.text
    assert "@import" not in page
    assert "url(" not in page
    for text in ("50.0 %", "7,500.00", "5,000.00", Marketing().digest(), "(unattributed)"):
        assert (text in reader.text) is (text != "(unattributed)"), text
    assert "svg" in reader.tags


def test_a_configuration_file_is_used_and_named_by_its_hash(shop: Path, tmp_path: Path) -> None:
    file = tmp_path / "parcours.toml"
    file.write_text('headline_models = ["linear"]\nreporting_currency = "EUR"\n')
    told = json.loads(run("--input", shop, "--config", file, "--period", "24h", "--json").stdout)
    assert told["config"] == load_marketing(file).digest() != Marketing().digest()
    assert {row["model"] for row in told["rows"] if row["metric"] == "cpa"} == {"linear"}


def test_every_period_is_known_and_named_in_the_help(shop: Path) -> None:
    assert set(known_periods()) == {"5m", *(window.name for window in WINDOWS), *PERIODS, "days"}
    shown = run("--help").stdout
    for period in known_periods():
        assert period in shown
        assert run("--input", shop, "--period", period, "--csv").exit_code == 0


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("--period", "14d"), 2, "--period: '14d' is none of 5m, 1h, 24h"),
        (("--csv", "--json"), 2, "--csv, --json and --html: choose one"),
        (("--period", "days"), 2, "--period days: a number for each day; write it with --csv or --json"),
        (("--out", "x.html"), 2, "--out: say how to write it"),
        (("--input", "nowhere"), 2, "nowhere: no such file or folder"),
        (("--redis-url", "redis://127.0.0.1:1/0"), 1, "Redis does not answer at redis://127.0.0.1:1/0"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(shop: Path, args: tuple[str, ...], code: int, said: str) -> None:
    source = () if "--input" in args or "--redis-url" in args else ("--input", shop)
    ran = run(*source, *args)
    assert ran.exit_code == code
    assert said in ran.stderr.splitlines()[-1]
    assert "Traceback" not in ran.stderr


def test_files_of_nothing_but_refused_events_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "clicks.jsonl").write_text("{}\n")
    ran = run("--input", tmp_path)
    assert ran.exit_code == 1
    assert "none of 1 events was accepted" in ran.stderr


def test_a_name_is_no_formula_to_a_spreadsheet(shop: Path) -> None:
    click = CLICK | {"campaign": "=HYPERLINK(1)"}
    (shop / "clicks.jsonl").write_text(json.dumps(click) + "\n")
    assert ",'=HYPERLINK(1)," in run("--input", shop, "--csv").stdout


def test_what_a_network_claims_stands_beside_what_is_attributed_to_it(shop: Path) -> None:
    claimed = COST | {"platform_conversions": 3, "platform_value": "9000"}
    (shop / "costs.jsonl").write_text(json.dumps(claimed) + "\n")
    (claim,) = json.loads(run("--input", shop, "--period", "7d", "--json").stdout)["platform"]
    assert claim == {
        "channel": "Paid Social", "network": "facebook", "claimed": "3", "attributed": "1", "claimed_value": "9000",
        "attributed_value": "7500",
    }  # fmt: skip
    told = run("--input", shop, "--period", "7d").stdout
    assert "platform claims" in told
    assert re.search(r"facebook +3.00 +1.00 +2.00 +9,000.00 +7,500.00 +1,500.00", told)
    reader = Reader()
    reader.feed(run("--input", shop, "--period", "7d", "--html").stdout)
    at = reader.text.index("Platform claims")
    assert [text for text in reader.text[at:] if text][9:17] == [
        "Paid Social", "facebook", "3.00", "1.00", "2.00", "9,000.00", "7,500.00", "1,500.00",
    ]  # fmt: skip
    (shop / "costs.jsonl").write_text(json.dumps(COST) + "\n")
    assert "Platform claims" not in run("--input", shop, "--period", "7d", "--html").stdout
    assert "platform claims" not in run("--input", shop, "--period", "7d").stdout


def test_claims_in_another_case_stand_beside_the_same_channel(shop: Path) -> None:
    claimed = COST | {"channel": "paid social", "network": "Facebook", "platform_conversions": 3}
    more = COST | {"cost_id": "c2", "platform_conversions": 2}
    (shop / "costs.jsonl").write_text(json.dumps(claimed) + "\n" + json.dumps(more) + "\n")
    for period in ("7d", "today"):
        (claim,) = json.loads(run("--input", shop, "--period", period, "--json").stdout)["platform"]
        assert (claim["channel"], claim["network"]) == ("Paid Social", "facebook")
        assert (claim["claimed"], claim["attributed"]) == ("5", "1")


def test_claims_of_what_has_no_rows_of_its_own_are_those_of_the_rest(shop: Path) -> None:
    """More channels than the budget has room for: those that claim stand where the exporter shows what they are credited."""
    costs = [
        COST | {"cost_id": f"c{n}", "network": f"n{n:03}", "amount": f"{n}", "platform_conversions": 1}
        for n in range(120)
    ]
    (shop / "costs.jsonl").write_text("".join(json.dumps(cost) + "\n" for cost in costs))
    told = json.loads(run("--input", shop, "--period", "7d", "--json").stdout)
    shown = {
        (row["channel"], row["network"]): row["value"]
        for row in told["rows"]
        if row["level"] == "channel" and row["metric"] == "platform_conversions"
    }
    assert int(shown["(other)", "(other)"]) > 1
    assert {(one["channel"], one["network"]): one["claimed"] for one in told["platform"]} == shown


def test_who_is_named_by_an_answer_alone_is_no_line_of_blanks(shop: Path) -> None:
    answer = {
        "type": "survey_response", "event_id": "s1", "occurred_at": "2026-03-02T11:00:00Z", "customer_id": "anna",
        "question": "source", "channel": "Podcast",
    }  # fmt: skip
    (shop / "touchpoints.jsonl").write_text(json.dumps(answer) + "\n")
    assert "Podcast" in run("--input", shop, "--period", "7d", "--json").stdout
    for how in ((), ("--html",)):
        assert "Podcast" not in run("--input", shop, "--period", "7d", *how).stdout
