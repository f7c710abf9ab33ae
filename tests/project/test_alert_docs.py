"""docs/alerts.md against the code: runbook anchors, the table of bounds, metrics of goals, problems, the topic's fields."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from pathlib import Path

import msgspec

from attribution.alerting import upper
from attribution.goals import METRIC, OF_PERSONS, SUMS
from models.results import Alert
from streams.notices import RUNBOOKS
from streams.pipeline import PROBLEMS

PAGE = (Path(__file__).parents[2] / "docs" / "alerts.md").read_text("utf-8")


def test_every_runbook_anchor_is_there() -> None:
    anchors = {line.removeprefix("### ") for line in PAGE.splitlines() if line.startswith("### ")}
    assert anchors == {name.replace("_", "-") for name in RUNBOOKS} | {"other-metrics"}


def test_the_table_of_bounds_is_right() -> None:
    rows = re.findall(r"^\| (\d+) \| ([\d.]+) \| ([\d .]+) \|$", PAGE, re.MULTILINE)
    assert len(rows) == 5
    for n, bound, spend in rows:
        assert round(upper(Decimal(n)), 2) == Decimal(bound)
        assert round(60 * upper(Decimal(n)), 2) == Decimal(spend.replace(" ", ""))


def test_goals_problems_and_fields_are_those_of_the_code() -> None:
    (row,) = re.findall(r"^\| metrics \| (.*) \| (.*) \|$", PAGE, re.MULTILINE)
    sums, ratios = (set(re.findall(r"`(\w+)`", cell)) for cell in row)
    assert sums
    assert sums <= SUMS
    # Examples of both kinds.
    assert ratios & METRIC.keys()
    assert ratios & OF_PERSONS.keys()
    assert ratios <= (METRIC.keys() - SUMS) | OF_PERSONS.keys()
    assert re.findall(r"^\| `(\w+)` \| .* \| .* \|$", PAGE, re.MULTILINE) == list(PROBLEMS)
    (example,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    assert set(json.loads(example)) == set(Alert.__struct_fields__)
    msgspec.convert(json.loads(example), Alert)
