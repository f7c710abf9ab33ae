"""Builds the dashboard from data: `python grafana/build.py` writes grafana/dashboards/parcours.json.

Metrics are those of docs/metrics.md. Business metrics are read as recorded from the newest leader. Ratios and CPA are read as exported, never
averaged or summed: only the exporter knows how far cost is known.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Json = dict[str, Any]

OUTPUT = Path(__file__).parent / "dashboards" / "parcours.json"
UID = "parcours-overview"
DATASOURCE: Json = {"type": "prometheus", "uid": "${datasource}"}
UNATTRIBUTED = "(unattributed)"
ATTRIBUTED = 'model="$model",basis="conversion",conversion="$conversion",window="$window"'
WINDOW = 'window="$window"'
# Fixed decimals with thousands separators. Not one of Grafana's currencies: the label `currency` says which it is.
MONEY, RATIO, COUNT = "locale", "percentunit", "locale"


def leader(metric: str, labels: str) -> str:
    """The recorded copy of `metric` (prometheus/rules/recorded.yml): a leader's move doubles nothing and leaves no hole."""
    return f"leader:parcours_{metric}:last{{{labels}}}"


def target(ref: str, expr: str, legend: str, *, instant: bool = False, table: bool = False) -> Json:
    return {
        "refId": ref,
        "datasource": DATASOURCE,
        "expr": expr,
        "legendFormat": legend,
        "instant": instant,
        "range": not instant,
        "format": "table" if table else "time_series",
        "editorMode": "code",
    }


def panel(
    kind: str, number: int, place: tuple[int, int, int, int], title: str, text: str, unit: str, **more: Any
) -> Json:
    """One panel. `place` is x, y, width, height in units of Grafana's grid of 24 columns."""
    defaults: Json = {"unit": unit, "noValue": more.pop("no_value"), "color": {"mode": more.pop("color")}}
    defaults |= more.pop("defaults", {})
    return {
        "id": number,
        "type": kind,
        "title": title,
        "description": text,
        "datasource": DATASOURCE,
        "gridPos": dict(zip("xywh", place, strict=True)),
        "fieldConfig": {"defaults": defaults, "overrides": more.pop("overrides", [])},
        "transformations": more.pop("transformations", []),
        **more,
    }


def override(matcher: str, name: str, **properties: Any) -> Json:
    return {
        "matcher": {"id": matcher, "options": name},
        "properties": [{"id": key.replace("__", "."), "value": value} for key, value in properties.items()],
    }


def stat(graph: str) -> Json:
    return {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "colorMode": "value",
        "graphMode": graph,
        "textMode": "value_and_name",
        "orientation": "vertical",
        "justifyMode": "auto",
    }


LINES: Json = {
    "legend": {"displayMode": "table", "placement": "right", "calcs": ["lastNotNull"], "showLegend": True},
    "tooltip": {"mode": "multi", "sort": "desc"},
}
# Undefined is absent: a gap stays a gap, or a line would claim a value where there was none.
GAPS: Json = {
    "custom": {"drawStyle": "line", "lineWidth": 2, "fillOpacity": 0, "spanNulls": False, "showPoints": "auto"}
}
STACKED: Json = {"custom": {"drawStyle": "line", "fillOpacity": 40, "stacking": {"mode": "normal", "group": "A"}}}


def headline() -> Json:
    return panel(
        *("stat", 1, (0, 0, 24, 5), "Revenue, cost, ROI and CPA"),
        "Net attributed revenue and all cost of the window; ROI on revenue = (revenue − cost) / cost; CPA = media cost per "
        "net attributed conversion. ROI and CPA exist for headline models, once at least half of the window's cost is known.",
        MONEY,
        no_value="not known",
        color="thresholds",
        defaults={"decimals": 2, "thresholds": {"mode": "absolute", "steps": [{"color": "text", "value": None}]}},
        overrides=[
            override("byFrameRefID", "C", unit=RATIO, decimals=1, thresholds=signs()),
        ],
        options=stat("area"),
        targets=[
            target("A", leader("total_attributed_revenue", ATTRIBUTED), "Net attributed revenue ({{currency}})"),
            target("B", leader("total_cost", WINDOW), "Cost ({{currency}})"),
            target("C", leader("total_roi_on_revenue_ratio", ATTRIBUTED), "ROI on revenue"),
            target("D", leader("total_cpa", ATTRIBUTED), "CPA ({{currency}})"),
        ],
    )


def signs() -> Json:
    """Red below zero, green from zero on."""
    return {"mode": "absolute", "steps": [{"color": "red", "value": None}, {"color": "green", "value": 0}]}


COLUMNS = (
    ("A", "channel_attributed_conversions", ATTRIBUTED, "Conversions", COUNT),
    ("B", "channel_attributed_revenue", ATTRIBUTED, "Revenue", MONEY),
    ("C", "channel_cost", WINDOW, "Cost", MONEY),
    ("D", "channel_cpa", ATTRIBUTED, "CPA", MONEY),
    ("E", "channel_roas_ratio", ATTRIBUTED, "ROAS", COUNT),
    ("F", "channel_roi_on_revenue_ratio", ATTRIBUTED, "ROI on revenue", RATIO),
)


def channels() -> Json:
    # Each query brings labels of its own. Only the columns of the table may reach the merge, or the rows of one channel and
    # network would not be recognised as one.
    values = {f"Value #{ref}": name for ref, _, _, name, _ in COLUMNS}
    order = ("channel", "network", *values)
    return panel(
        *("table", 2, (0, 5, 24, 9), "Channels and networks"),
        "What each channel and network earned and cost in the window, in the reporting currency. (unattributed) holds conversions "
        "without an eligible touch. An empty cell is undefined or not yet known, which is not zero.",
        MONEY,
        no_value="–",
        color="thresholds",
        defaults={
            "decimals": 2,
            "custom": {"align": "auto", "filterable": True},
            "thresholds": {"mode": "absolute", "steps": [{"color": "text", "value": None}]},
        },
        overrides=[
            override("byName", name, unit=unit, **({"decimals": 1} if unit == RATIO else {}))
            for _, _, _, name, unit in COLUMNS
        ]
        + [override("byName", "ROI on revenue", thresholds=signs(), custom__cellOptions={"type": "color-text"})],
        options={"showHeader": True, "sortBy": [{"displayName": "Revenue", "desc": True}], "footer": {"show": False}},
        transformations=[
            {"id": "filterFieldsByName", "options": {"include": {"names": list(order)}}},
            {"id": "merge", "options": {}},
            {
                "id": "organize",
                "options": {
                    "indexByName": {name: index for index, name in enumerate(order)},
                    "renameByName": {"channel": "Channel", "network": "Network", **values},
                },
            },
        ],
        targets=[
            target(ref, leader(metric, labels), "", instant=True, table=True) for ref, metric, labels, _, _ in COLUMNS
        ],
    )


def roi() -> Json:
    return panel(
        *("timeseries", 3, (0, 14, 12, 9), "ROI on revenue by network"),
        "(Net attributed revenue − cost) / cost over the window ending at each moment, as known at that moment. One line per network "
        "and channel with cost; a gap means undefined.",
        RATIO,
        no_value="no cost known",
        color="palette-classic",
        defaults={**GAPS, "decimals": 1},
        options=LINES,
        targets=[target("A", leader("channel_roi_on_revenue_ratio", ATTRIBUTED), "{{network}} · {{channel}}")],
    )


def cpa() -> Json:
    return panel(
        *("timeseries", 4, (12, 14, 12, 9), "CPA by network"),
        "Media cost per net attributed conversion over the window ending at each moment, as known at that moment. One line per network "
        "and channel with both; a gap means undefined.",
        MONEY,
        no_value="no cost or no conversion",
        color="palette-classic",
        defaults={**GAPS, "decimals": 2, "min": 0},
        options=LINES,
        targets=[target("A", leader("channel_cpa", ATTRIBUTED), "{{network}} · {{channel}} ({{currency}})")],
    )


def conversions() -> Json:
    metric = "channel_attributed_conversions"
    credited = leader(metric, f'{ATTRIBUTED},channel!="{UNATTRIBUTED}"')
    rest = leader(metric, f'{ATTRIBUTED},channel="{UNATTRIBUTED}"')
    return panel(
        *("timeseries", 5, (0, 23, 12, 9), "Conversions by network"),
        "Conversions of the window credited to each network, and those without an eligible touch. Together they are all conversions.",
        COUNT,
        no_value="none yet",
        color="palette-classic",
        defaults={**STACKED, "decimals": 1, "min": 0},
        overrides=[override("byFrameRefID", "B", color={"mode": "fixed", "fixedColor": "text"})],
        options=LINES,
        targets=[
            target("A", f"sum by (network) ({credited})", "{{network}}"),
            target("B", f"sum({rest})", UNATTRIBUTED),
        ],
    )


def pipeline() -> Json:
    p99 = "histogram_quantile(0.99, sum by (le) (rate(parcours_latency_seconds_bucket[$__rate_interval])))"
    late = [{"color": "green", "value": None}, {"color": "orange", "value": 1}, {"color": "red", "value": 10}]
    some = [{"color": "green", "value": None}, {"color": "red", "value": 0.5}]
    return panel(
        *("stat", 6, (12, 23, 12, 9), "Pipeline"),
        "Events read per second, records not yet committed, the time from Kafka to commit that 99 % of events stay under, and dead letters "
        "over the visible range. Over all workers.",
        "short",
        no_value="no data",
        color="thresholds",
        defaults={"thresholds": {"mode": "absolute", "steps": [{"color": "green", "value": None}]}},
        overrides=[
            override("byFrameRefID", "A", unit="eps", decimals=1),
            override("byFrameRefID", "B", unit="locale", decimals=0),
            override("byFrameRefID", "C", unit="s", decimals=2, thresholds={"mode": "absolute", "steps": late}),
            override("byFrameRefID", "D", unit="locale", decimals=0, thresholds={"mode": "absolute", "steps": some}),
        ],
        options=stat("area"),
        targets=[
            target("A", "sum(rate(parcours_events_total[$__rate_interval]))", "Events/s"),
            target("B", "sum(max by (topic, partition) (parcours_lag_records))", "Lag (records)"),
            target("C", p99, "Latency, p99"),
            target("D", "sum(increase(parcours_dead_letters_total[$__range]))", "Dead letters"),
        ],
    )


def variable(name: str, label: str, default: str, source: str) -> Json:
    """A choice among the values of a label that are there, so that a configured model or stage shows up by itself."""
    query = f"label_values(leader:parcours_total_{source}:last, {name})"
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": DATASOURCE,
        "definition": query,
        "query": {"query": query, "refId": f"variable-{name}"},
        "current": {"text": default, "value": default},
        "refresh": 2,
        "sort": 1,
        "includeAll": False,
        "multi": False,
    }


def windows() -> Json:
    names = ("1h", "24h", "7d", "30d")
    return {
        "name": "window",
        "label": "Window",
        "type": "custom",
        "query": ",".join(names),
        "current": {"text": "24h", "value": "24h"},
        "options": [{"text": name, "value": name, "selected": name == "24h"} for name in names],
        "includeAll": False,
        "multi": False,
    }


def dashboard() -> Json:
    source = {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
        "current": {},
        "refresh": 1,
        "includeAll": False,
        "multi": False,
    }
    return {
        "uid": UID,
        "title": "Parcours",
        "description": "What marketing earned and cost, and whether the figures are current.",
        "tags": ["parcours", "attribution"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "timezone": "browser",
        "time": {"from": "now-24h", "to": "now"},
        "refresh": "30s",
        "templating": {
            "list": [
                source,
                variable("model", "Model", "last_non_direct", "attributed_conversions"),
                windows(),
                variable("conversion", "Conversion", "purchase", "attributed_conversions"),
            ]
        },
        "annotations": {"list": []},
        "links": [],
        "panels": [headline(), channels(), roi(), cpa(), conversions(), pipeline()],
    }


def rendered() -> str:
    """The file's text. Equal input gives equal text: a test compares it with what is checked in."""
    return json.dumps(dashboard(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(rendered(), "utf-8")
