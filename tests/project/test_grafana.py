"""The dashboard: built from its script, complete, and every expression parsed and held against docs/metrics.md."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from attribution.families import series
from attribution.rollups import Calendar
from attribution.windows import spans
from grafana import build
from streams.exporter import BUSINESS
from streams.notices import BOARD

ROOT = Path(__file__).parents[2]
GRAFANA = ROOT / "grafana"
DASHBOARDS: dict[str, dict[str, Any]] = {
    file.name: json.loads(file.read_text("utf-8")) for file in sorted((GRAFANA / "dashboards").glob("*.json"))
}
PANELS: list[tuple[str, dict[str, Any]]] = [
    (f"{file}-{panel['id']}", panel)
    for file, board in DASHBOARDS.items()
    for panel in board["panels"]
    if panel["type"] != "row"
]
ENGLISH = [name for name in DASHBOARDS if not name.endswith("-fr.json")]
# The French expressions are the English ones: a test says so, and these need not be looked at twice.
EXPRESSIONS = [
    (f"{file}-{panel['id']}{each['refId']}", each["expr"])
    for file in ENGLISH
    for panel in DASHBOARDS[file]["panels"]
    for each in panel.get("targets", [])
] + [
    (f"{file}-{one['name']}", one["expr"])
    for file in ENGLISH
    for one in DASHBOARDS[file]["annotations"].get("list", [])
]
# What Grafana puts in before Prometheus sees the expression.
GIVEN = {
    "$__rate_interval": "1m",
    "$__range": "1d",
    "$model": "linear",
    "$window": "24h",
    "$conversion": "purchase",
    "$basis": "conversion",
}
panels = pytest.mark.parametrize("panel", [panel for _, panel in PANELS], ids=[name for name, _ in PANELS])
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
SERIES = {one for name, family in BUSINESS.items() for one in series(name, family)} | set(BOARD)


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


def test_the_files_are_what_the_script_builds() -> None:
    built = {name: build.rendered(board) for name, board in build.dashboards().items()}
    assert {file.name: file.read_text("utf-8") for file in (GRAFANA / "dashboards").glob("*.json")} == built, (
        "run: make dashboards"
    )


def test_each_dashboard_has_its_address_and_its_translation() -> None:
    assert {name: board["uid"] for name, board in DASHBOARDS.items()} == {
        "parcours.json": "parcours-overview", "parcours-fr.json": "parcours-overview-fr",
        "journeys.json": "parcours-journeys", "journeys-fr.json": "parcours-journeys-fr",
        "pipeline.json": "parcours-pipeline", "pipeline-fr.json": "parcours-pipeline-fr",
    }  # fmt: skip
    for name in ENGLISH:
        en, fr = DASHBOARDS[name], DASHBOARDS[name.replace(".json", "-fr.json")]
        assert en["title"] != fr["title"]
        assert len(en["panels"]) == len(fr["panels"])
        for one, other in zip(en["panels"], fr["panels"], strict=True):
            assert (one["id"], one["type"], one["gridPos"]) == (other["id"], other["type"], other["gridPos"])
            assert [t["expr"] for t in one.get("targets", [])] == [t["expr"] for t in other.get("targets", [])]
            if one["type"] != "row":
                assert one["description"] != other["description"], one["title"]


@pytest.mark.parametrize("board", DASHBOARDS.values(), ids=DASHBOARDS.keys())
def test_dashboards_lead_to_one_another_and_explain_themselves(board: dict[str, Any]) -> None:
    [link] = board["links"]
    assert set(link["tags"]) <= set(board["tags"])
    assert (link["type"], link["includeVars"], link["keepTime"]) == ("dashboards", True, True)
    assert board["description"].endswith(".")
    assert board["schemaVersion"] >= 39
    numbers = [panel["id"] for panel in board["panels"]]
    assert numbers == list(range(1, len(numbers) + 1))
    for one in board["annotations"]["list"]:
        assert one["datasource"]["uid"] == "${datasource}"
        assert one["titleFormat"]
        assert set(re.findall(r"{{(\w+)}}", one["textFormat"])) <= known_after(one["expr"])


@panels
def test_each_panel_explains_itself(panel: dict[str, Any]) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    for text in (panel["title"], panel["description"], defaults["unit"], defaults["noValue"]):
        assert text.strip()
    assert panel["description"].endswith(".")
    # A table's columns are of different kinds; what can be below 0 says how far.
    assert panel["type"] == "table" or "min" in defaults
    assert panel["type"] == "table" or defaults["unit"] != "percentunit" or "max" in defaults or defaults["min"] == -1
    assert panel["datasource"]["uid"] == "${datasource}"
    assert all(target["datasource"]["uid"] == "${datasource}" for target in panel["targets"])
    references = [target["refId"] for target in panel["targets"]]
    assert len(set(references)) == len(references)
    assert len({target["legendFormat"] for target in panel["targets"]}) == len(references)


@pytest.mark.parametrize("board", DASHBOARDS.values(), ids=DASHBOARDS.keys())
def test_panels_lie_inside_the_grid_and_apart(board: dict[str, Any]) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        assert 0 <= at["x"] < at["x"] + at["w"] <= 24
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells


@panels
def test_overrides_point_at_something(panel: dict[str, Any]) -> None:
    references = {target["refId"] for target in panel["targets"]}
    renamed = {
        name
        for step in panel.get("transformations", [])
        if step["id"] == "organize"
        for name in step["options"]["renameByName"].values()
    }
    for override in panel["fieldConfig"]["overrides"]:
        allowed = {"byFrameRefID": references, "byName": renamed}[override["matcher"]["id"]]
        assert override["matcher"]["options"] in allowed


@panels
def test_joined_queries_share_the_labels_they_are_joined_on(panel: dict[str, Any]) -> None:
    if panel["type"] not in {"table", "barchart"}:
        return
    for target in panel["targets"]:
        assert (target["format"], target["instant"]) == ("table", True)
    keep, second, organize, *_ = panel["transformations"]
    named = set(keep["options"]["include"]["names"])
    values = {f"Value #{target['refId']}" for target in panel["targets"]}
    # What one query alone gives has no letter: Grafana leaves it out.
    values |= {"Value"} if len(panel["targets"]) == 1 else set()
    keys = named - values
    if second["id"] == "groupingToMatrix":
        row, column = (second["options"][name] for name in ("rowField", "columnField"))
        assert keys == {row, column}
        assert second["options"]["valueField"] == "Value"
        assert organize["options"]["renameByName"].keys() == {f"{row}\\{column}"}
    else:
        assert second["id"] == "merge"
        assert organize["options"]["renameByName"].keys() == values | keys
    # Without rows of its own each has one without a number for each of any other's, or nothing would be joined.
    owns = [target["expr"].partition(EMPTY)[0] for target in panel["targets"]]
    assert all(keys <= known_after(own) for own in owns)
    by = ", ".join(sorted(keys, key=keep["options"]["include"]["names"].index))
    for own, target in zip(owns, panel["targets"], strict=True):
        rows = " or ".join(f"max by ({by}) ({other})" for other in owns if other != own)
        assert target["expr"] == (f"{own}{EMPTY}({rows}) unless on () {own})" if rows else own)
    assert (
        len(owns) == 1
        or {"type": "special", "options": {"match": "nan", "result": {"text": "–"}}}
        in panel["fieldConfig"]["defaults"]["mappings"]
    )


EMPTY = " or (NaN * "


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed: joining empty columns is UNCHECKED")
@pytest.mark.parametrize("at", [0, 4])
def test_a_table_has_the_rows_of_whichever_column_is_there(at: int, tmp_path: Path) -> None:
    panel = next(one for _, one in PANELS if one["title"] == "Audience and traffic by network")
    columns = [filled(target["expr"]) for target in panel["targets"]]
    own, _, _ = columns[at].partition(EMPTY)
    ad, post = 'channel="Paid Search",network="google"', 'channel="Organic Social",network="instagram"'
    test = {
        "tests": [
            {
                "interval": "15s",
                "input_series": [
                    {"series": own.replace("{", f'{{job="parcours",{labels},'), "values": "7x8"}
                    for labels in (ad, post)
                ],
                "promql_expr_test": [
                    {
                        "expr": f"count by (channel, network) ({column})",
                        "eval_time": "1m",
                        "exp_samples": [{"labels": f"{{{labels}}}", "value": 1} for labels in (ad, post)],
                    }
                    for column in columns
                ],
            }
        ]
    }
    file = tmp_path / "columns.yml"
    file.write_text(yaml.safe_dump(test), "utf-8")
    result = subprocess.run([str(PROMTOOL), "test", "rules", str(file)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


@panels
def test_several_values_of_a_panel_are_told_apart(panel: dict[str, Any]) -> None:
    many = len(panel["targets"]) > 1 or "{{" in panel["targets"][0]["legendFormat"]
    if panel["type"] == "stat":
        assert (panel["options"]["textMode"] == "value_and_name") == many
        # Of one size, or the shorter number would be written larger.
        sizes = {"titleSize": 14, "valueSize": 30} if len(panel["targets"]) > 1 else None
        assert panel["options"].get("text") == sizes


def test_variables_are_there_and_used() -> None:
    for name in ENGLISH:
        variables = {item["name"]: item for item in DASHBOARDS[name]["templating"]["list"]}
        business = set() if name == "pipeline.json" else {"model", "window", "basis", "conversion"}
        assert variables.keys() == {"datasource"} | business
        text = json.dumps(DASHBOARDS[name]["panels"])
        assert all(re.search(rf"\$\{{?{variable}\b", text) for variable in variables)
        if business:
            assert {key: variables[key]["current"]["value"] for key in business} == {
                "model": "last_non_direct", "window": "7d", "basis": "conversion", "conversion": "purchase",
            }  # fmt: skip
        for key in business - {"window"}:
            match = re.fullmatch(r"label_values\(leader:(\w+):last, (\w+)\)", variables[key]["query"]["query"])
            assert match
            assert match[2] == key
            assert key in KNOWN[match[1]]
        if business:
            assert [option["value"] for option in variables["window"]["options"]] == [
                name for name in spans(0, Calendar("UTC")) if name not in {"5m", "campaign_to_date"} and "/" not in name
            ]


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


def known_after(expression: str) -> set[str]:
    """The labels that are left after an expression: those it groups by, else those of its metrics."""
    grouped = re.search(r"\b(?:sum|max|min|count) by \(([^)]*)\)", expression)
    if grouped:
        return set(grouped[1].split(", "))
    return set.union(*({*KNOWN[metric], "instance"} for metric, _ in metrics(expression)))


@panels
def test_each_legend_reads_labels_that_are_there(panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        labels = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
        assert not labels or labels <= known_after(target["expr"])


FIXED = {"model", "basis", "conversion", "window"}


def loose(expression: str) -> list[str]:
    """Business families read without their labels fixed: samples of several windows, models or bases would be mixed."""
    found = []
    grouped = {label for labels in re.findall(r"\bby \(([^)]*)\)", expression) for label in labels.split(", ")}
    for metric, selector in metrics(expression):
        fixed = grouped | set(re.findall(r"(\w+)=", selector))
        there = KNOWN[metric]
        # A day has the first headline model on the conversion basis only.
        wanted = FIXED - {"model", "basis"} if "days_ago" in there else FIXED | {"period"}
        found += [f"{metric}: {label}" for label in sorted(wanted & there - fixed)]
    return found


@pytest.mark.parametrize(("name", "expression"), EXPRESSIONS)
def test_business_families_have_their_labels_fixed(name: str, expression: str) -> None:
    assert loose(expression) == [], name


@pytest.mark.parametrize(
    "expression",
    [
        "leader:parcours_channel_cost:last",
        'leader:parcours_total_cpa:last{model="x",basis="y",conversion="z"}',
        'leader:parcours_total_cost_baseline:last{window="7d"}',
    ],
)
def test_the_lint_sees_loose_labels(expression: str) -> None:
    assert loose(expression)


@pytest.mark.parametrize(("name", "expression"), EXPRESSIONS)
def test_no_gauge_is_shifted(name: str, expression: str) -> None:
    """`offset` on a gauge shows what was known then: a comparison with it is one with a baseline, or a day as known now."""
    assert not re.search(r"\boffset\b|@\s*\d", expression), name


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
    conversions = next(panel for _, panel in PANELS if panel["title"] == "Conversions by network")
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
    expected = {"A": {'{network="(none)"}': 5, '{network="x"}': 3}, "B": {'{channel="(unattributed)"}': 4}}
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
