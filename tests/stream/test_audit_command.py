"""`parcours audit` over files: what it says, for people and for programs, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from streams.cli.root import app

DAY = {"start": "2026-03-02T00:00:00Z", "end": "2026-03-03T00:00:00Z"}
CLICK = {"event_id": "k", "occurred_at": "2026-03-02T12:00:00Z", "customer_id": "7", "network": "facebook"}
COST = {"cost_id": "c", **DAY, "network": "facebook", "campaign": "Spring 2026", "amount": "12.5", "currency": "EUR"}


def shop(folder: Path, click: dict[str, Any]) -> str:
    (folder / "clicks.jsonl").write_text(json.dumps(CLICK | click) + "\n")
    (folder / "costs.jsonl").write_text(json.dumps(COST) + "\n")
    return str(folder)


def test_what_does_not_fit_is_told_and_is_exit_code_1(tmp_path: Path) -> None:
    files = shop(tmp_path, {"campaign": "spring_2026"})
    told = CliRunner().invoke(app, ["audit", "--input", files])
    assert told.exit_code == 1
    assert "Names that are almost the same" in told.stdout
    assert "spring_2026" in told.stdout
    asked = CliRunner().invoke(app, ["audit", "--input", files, "--json"])
    assert asked.exit_code == 1
    first, *others = json.loads(asked.stdout)
    assert first == {
        "kind": "spend_without_touches", "channel": "Paid Social", "network": "facebook", "campaign": "Spring 2026",
        "amount": "6.25", "currency": "EUR", "touches": 0, "cost_id": None, "other": None,
    }, "half a day has passed at the last event"  # fmt: skip
    assert [finding["kind"] for finding in others] == ["touches_without_spend", "almost_the_same_name"]


def test_what_fits_is_exit_code_0(tmp_path: Path) -> None:
    told = CliRunner().invoke(app, ["audit", "--input", shop(tmp_path, {"campaign": "spring 2026"})])
    assert (told.exit_code, "All of it fits together." in told.stdout) == (0, True)


@pytest.mark.parametrize("days", ["0", "366", "many", "-1"])
def test_days_that_are_none(tmp_path: Path, days: str) -> None:
    told = CliRunner().invoke(app, ["audit", "--input", shop(tmp_path, {}), f"--days={days}"])
    assert told.exit_code == 2
    assert "is not a number from 1 to 365" in told.stderr
