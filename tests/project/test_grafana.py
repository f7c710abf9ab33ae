"""The dashboard: built from its script, complete, and every expression parsed and held against docs/metrics.md."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from attribution.families import series
from streams.exporter import BUSINESS

ROOT = Path(__file__).parents[2]
GRAFANA = ROOT / "grafana"
DASHBOARD: dict[str, Any] = json.loads((GRAFANA / "dashboards" / "parcours.json").read_text("utf-8"))
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
VARIABLES: dict[str, dict[str, Any]] = {item["name"]: item for item in DASHBOARD["templating"]["list"]}
EXPRESSIONS = [(f"{panel['id']}{each['refId']}", each["expr"]) for panel in PANELS for each in panel["targets"]]
# What Grafana puts in before Prometheus sees the expression.
GIVEN = {
    "$__rate_interval": "1m",
    "$__range": "1d",
    "$model": "linear",
    "$window": "24h",
    "$conversion": "purchase",
}
LEVELS = {"total": set(), "channel": {"channel", "network"}, "campaign": {"channel", "network", "campaign"}}
PARTS = {"histogram": {"_bucket": {"le"}, "_sum": set(), "_count": set()}}
PROMTOOL = shutil.which("promtool")


def documented() -> dict[str, set[str]]:
    """Series name to labels, from the tables of docs/metrics.md."""
    known: dict[str, set[str]] = {}
    for line in (ROOT / "docs" / "metrics.md").read_text("utf-8").splitlines():
        if not line.startswith("| `parcours_"):
            continue
        family, kind, labels, meaning = (cell.strip() for cell in line.strip("|").split("|"))
        assert kind in {"gauge", "counter", "histogram"}, line
        assert meaning.endswith("."), line
        name = family.strip("`")
        own = set(re.findall(r"`(\w+)`", labels))
        for level, more in LEVELS.items() if "<level>" in name else [("", set())]:
            for part, extra in PARTS.get(kind, {"": set()}).items():
                series = name.replace("<level>", level) + part
                assert series not in known, f"{series} is documented twice"
                known[series] = own | more | extra
    return known


KNOWN = documented()
SERIES = {one for name, family in BUSINESS.items() for one in series(name, family)}


def build() -> ModuleType:
    spec = importlib.util.spec_from_file_location("grafana_build", GRAFANA / "build.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def filled(expression: str) -> str:
    for name, value in GIVEN.items():
        expression = expression.replace(name, value)
    assert "$" not in expression, expression
    return expression


def arguments(expression: str, function: str) -> Iterator[str]:
    """What is inside the brackets of each call of `function`, with `by` or `without` before or after it."""
    for call in re.finditer(rf"\b{function}\s*(?:(?:by|without)\s*\([^)]*\)\s*)?\(", expression):
        depth, start = 1, call.end()
        for end in range(start, len(expression)):
            depth += {"(": 1, ")": -1}.get(expression[end], 0)
            if depth == 0:
                yield expression[start:end]
                break


def averaged(expression: str) -> list[str]:
    """Ratios and costs per something that are averaged or summed: over series, or over time."""
    functions = ("sum", "avg", "sum_over_time", "avg_over_time", "quantile", "stddev")
    inside = [text for name in functions for text in arguments(expression, name)]
    return [name for text in inside for name in re.findall(r"parcours_\w*(?:_ratio|_cpa)\b", text)]


def metrics(expression: str) -> list[tuple[str, str]]:
    """(family, selector) of each metric that is read; of a recorded copy, its family."""
    return re.findall(r"(?:\bleader:)?\b(parcours_\w+)(?::last\b)?(?:\{([^}]*)\})?", expression)


def test_the_file_is_what_the_script_builds() -> None:
    assert (GRAFANA / "dashboards" / "parcours.json").read_text("utf-8") == build().rendered()


def test_the_dashboard_has_its_address_and_six_panels() -> None:
    assert DASHBOARD["uid"] == "parcours-overview"
    assert [panel["type"] for panel in PANELS] == ["stat", "table", "timeseries", "timeseries", "timeseries", "stat"]
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_each_panel_explains_itself(panel: dict[str, Any]) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    for text in (panel["title"], panel["description"], defaults["unit"], defaults["noValue"]):
        assert text.strip()
    assert panel["description"].endswith(".")
    assert panel["datasource"]["uid"] == "${datasource}"
    assert all(target["datasource"]["uid"] == "${datasource}" for target in panel["targets"])
    references = [target["refId"] for target in panel["targets"]]
    assert len(set(references)) == len(references)


def test_panels_lie_inside_the_grid_and_apart() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in PANELS:
        at = panel["gridPos"]
        assert 0 <= at["x"] < at["x"] + at["w"] <= 24
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_overrides_point_at_something(panel: dict[str, Any]) -> None:
    references = {target["refId"] for target in panel["targets"]}
    renamed = {
        name
        for step in panel["transformations"]
        if step["id"] == "organize"
        for name in step["options"]["renameByName"].values()
    }
    for override in panel["fieldConfig"]["overrides"]:
        allowed = {"byFrameRefID": references, "byName": renamed}[override["matcher"]["id"]]
        assert override["matcher"]["options"] in allowed


def test_the_table_joins_every_query_on_channel_and_network() -> None:
    [table] = [panel for panel in PANELS if panel["type"] == "table"]
    keep, merge, organize = table["transformations"]
    values = {f"Value #{target['refId']}" for target in table["targets"]}
    assert set(keep["options"]["include"]["names"]) == values | {"channel", "network"}
    assert merge["id"] == "merge"
    assert organize["options"]["renameByName"].keys() == values | {"channel", "network"}
    assert all(target["format"] == "table" and target["instant"] for target in table["targets"])


def test_variables_are_there_and_used() -> None:
    assert VARIABLES.keys() == {"datasource", "model", "window", "conversion"}
    text = json.dumps(PANELS)
    assert all(re.search(rf"\$\{{?{name}\b", text) for name in VARIABLES)
    assert {name: VARIABLES[name]["current"]["value"] for name in ("model", "window", "conversion")} == {
        "model": "last_non_direct",
        "window": "24h",
        "conversion": "purchase",
    }
    assert [option["value"] for option in VARIABLES["window"]["options"]] == ["1h", "24h", "7d", "30d"]


@pytest.mark.parametrize("name", ["model", "conversion"])
def test_a_variable_reads_a_label_that_is_documented(name: str) -> None:
    match = re.fullmatch(r"label_values\(leader:(\w+):last, (\w+)\)", VARIABLES[name]["query"]["query"])
    assert match
    assert match[2] in KNOWN[match[1]]


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed: PromQL of the dashboard is UNCHECKED")
@pytest.mark.parametrize("expression", [*EXPRESSIONS, ("broken", "sum(parcours_up")], ids=lambda item: item[0])
def test_each_expression_parses(expression: tuple[str, str], tmp_path: Path) -> None:
    name, text = expression
    # promtool has no command for a bare expression in every version; a rule's is parsed in all.
    rules = {"groups": [{"name": "panels", "rules": [{"record": "panel", "expr": filled(text)}]}]}
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump(rules), "utf-8")
    result = subprocess.run([str(PROMTOOL), "check", "rules", str(file)], capture_output=True, text=True, check=False)
    assert (result.returncode == 0) == (name != "broken"), result.stdout + result.stderr


@pytest.mark.parametrize(("name", "expression"), EXPRESSIONS)
def test_each_metric_and_label_is_documented(name: str, expression: str) -> None:
    used = metrics(expression)
    assert used, name
    for metric, selector in used:
        assert set(re.findall(r"(\w+)\s*[=!]", selector)) <= KNOWN[metric], metric


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_each_legend_reads_labels_that_are_there(panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        labels = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
        kept = re.match(r"sum by \(([^)]*)\)", target["expr"])
        metric = re.search(r"parcours_\w+", target["expr"])
        assert metric
        there = set(kept[1].split(", ")) if kept else KNOWN[metric[0]]
        assert labels <= there


@pytest.mark.parametrize(("name", "expression"), EXPRESSIONS)
def test_no_ratio_is_averaged(name: str, expression: str) -> None:
    assert averaged(expression) == [], name


@pytest.mark.parametrize(("name", "expression"), EXPRESSIONS)
def test_business_metrics_are_read_as_recorded(name: str, expression: str) -> None:
    for copy, family in re.findall(r"(leader:)?\b(parcours_\w+)", expression):
        assert bool(copy) == (family in SERIES), name
        assert not copy or f"leader:{family}:last" in expression


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed: reading the newest leader is UNCHECKED")
def test_a_frozen_old_leader_changes_nothing(tmp_path: Path) -> None:
    conversions = next(panel for panel in PANELS if panel["title"] == "Conversions by network")
    labels = 'model="linear",basis="conversion",conversion="purchase",window="24h"'
    family = "parcours_channel_attributed_conversions"
    # The old leader (a) still shows more than the new one (b): an order was refunded since.
    series = {
        'parcours_leader_epoch{instance="a"}': 3,
        'parcours_leader_epoch{instance="b"}': 4,
        f'{family}{{instance="a",channel="Email",network="(none)",{labels}}}': 9,
        f'{family}{{instance="b",channel="Email",network="(none)",{labels}}}': 5,
        f'{family}{{instance="b",channel="Paid Social",network="x",{labels}}}': 1,
        f'{family}{{instance="b",channel="Paid Video",network="x",{labels}}}': 2,
        f'{family}{{instance="b",channel="Paid Video",network="x",{labels.replace("linear", "last_touch")}}}': 7,
        f'{family}{{instance="a",channel="(unattributed)",network="(none)",{labels}}}': 6,
        f'{family}{{instance="b",channel="(unattributed)",network="(none)",{labels}}}': 4,
    }
    expected = {"A": {'{network="(none)"}': 5, '{network="x"}': 3}, "B": {"{}": 4}}
    test = {
        "rule_files": [str(ROOT / "prometheus" / "rules" / "recorded.yml")],
        "evaluation_interval": "15s",
        "tests": [
            {
                "interval": "15s",
                "input_series": [
                    {"series": name.replace("{", '{job="parcours",'), "values": f"{value}x8"}
                    for name, value in series.items()
                ],
                "promql_expr_test": [
                    {
                        "expr": filled(target["expr"]),
                        "eval_time": "1m",
                        "exp_samples": [
                            {"labels": name, "value": value} for name, value in expected[target["refId"]].items()
                        ],
                    }
                    for target in conversions["targets"]
                ],
            }
        ],
    }
    file = tmp_path / "leaders.yml"
    file.write_text(yaml.safe_dump(test), "utf-8")
    result = subprocess.run([str(PROMTOOL), "test", "rules", str(file)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    "expression",
    [
        "avg(parcours_channel_cpa)",
        "sum by (network) (parcours_channel_roas_ratio{window='24h'})",
        "avg(max without (instance) (parcours_channel_cpa)) by (network)",
        "avg_over_time(parcours_total_roi_on_revenue_ratio[1h])",
        "1 + sum without (channel) ((parcours_channel_cpa))",
    ],
)
def test_the_lint_sees_averaged_ratios(expression: str) -> None:
    assert averaged(expression)


@pytest.mark.parametrize(
    "expression",
    [
        "max without (instance) (parcours_channel_cpa)",
        "sum(parcours_channel_cost) / sum(parcours_channel_clicks)",
        "sum(parcours_channel_cost) + max(parcours_total_cpa)",
    ],
)
def test_the_lint_leaves_sums_alone(expression: str) -> None:
    assert averaged(expression) == []


def test_the_provisioned_source_and_folder_are_the_ones_mounted() -> None:
    [provider] = yaml.safe_load((GRAFANA / "provisioning/dashboards/parcours.yml").read_text("utf-8"))["providers"]
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["services"]["grafana"]
    mounted = dict(volume.split(":")[:2] for volume in compose["volumes"])
    assert provider["options"]["path"] == mounted["./grafana/dashboards"]
    assert mounted["./grafana/provisioning"] == "/etc/grafana/provisioning"
    home = compose["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{provider['options']['path']}/parcours.json"


def test_documented_names_follow_the_conventions() -> None:
    lines = (ROOT / "docs" / "metrics.md").read_text("utf-8").splitlines()
    rows = [re.match(r"\| `(parcours_\S+)` \| (\w+) \|", line) for line in lines]
    kinds = {row[1]: row[2] for row in rows if row}
    assert len(kinds) > 25
    for name, kind in kinds.items():
        assert (kind == "counter") == name.endswith("_total"), name
