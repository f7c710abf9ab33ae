"""A dashboard in one language, made of Grafana Foundation SDK builders: what all panels of Parcours have in common.

Panels are laid out from left to right in the order they are added; ids are their numbers. Business metrics are read as recorded from the newest leader.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from grafana_foundation_sdk.builders import (
    barchart,
    bargauge,
    common,
    dashboard,
    prometheus,
    stat,
    table,
    timeseries,
)
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as forms
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

WIDTH = 24
TAG = "parcours"
SOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
ATTRIBUTED = 'model="$model",basis="$basis",conversion="$conversion",window="$window"'
WINDOW = 'window="$window"'
NOBODY = 'channel="(unattributed)"'
SOMEBODY = 'channel!="(unattributed)"'
WINDOWS = ("1h", "24h", "7d", "30d", "today", "yesterday", "month_to_date", "last_month", "365d")

Say = Callable[[str, str], str]
"""(English, French) to the dashboard's language."""


class Kind(NamedTuple):
    """How a quantity is shown. `low` and `high` are the ends of what it can be, None where there is none."""

    unit: str
    decimals: int
    low: float | None = 0
    high: float | None = None


# Fixed decimals with thousands separators. Not one of Grafana's currencies: the label `currency` says which it is.
MONEY = Kind("locale", 2)
COUNT = Kind("locale", 0)
CREDIT = Kind("locale", 1)
FACTOR = Kind("locale", 2)
SHARE = Kind("percentunit", 1, 0, 1)
ROI = Kind("percentunit", 1, -1)
NET = Kind("percentunit", 1, -1, 1)
POINTS = Kind("locale", 0, -100, 100)
RATE = Kind("eps", 1)
SECONDS = Kind("s", 2)
AGE = Kind("s", 0)
MOMENT = Kind("dateTimeFromNow", 0)
FLAG = Kind("locale", 0, 0, 1)


class Query(NamedTuple):
    """`name` is the legend; with `kind` a field of its own kind."""

    expr: str
    name: str
    kind: Kind | None = None
    dashed: bool = False


def leader(metric: str, labels: str = "") -> str:
    """The recorded copy of `metric` (prometheus/rules/recorded.yml): a leader's move doubles nothing and leaves no hole."""
    return f"leader:parcours_{metric}:last" + (f"{{{labels}}}" if labels else "")


def colours(*steps: tuple[float | None, str]) -> models.ThresholdsConfig:
    return models.ThresholdsConfig(
        mode=models.ThresholdsMode.ABSOLUTE, steps=[models.Threshold(value=value, color=name) for value, name in steps]
    )


PLAIN = colours((None, "text"))
SIGNS = colours((None, "red"), (0, "green"))
ALARM = colours((None, "green"), (1, "red"))


class _Given:
    """A built model as the builder that the SDK asks for."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def build(self) -> Any:
        return self._model


class Sheet:
    """A dashboard under construction."""

    def __init__(self, say: Say, lang: str, uid: str, title: str, text: str, *, refresh: str = "30s") -> None:
        self.say = say
        self._number = 0
        self._texts: dict[str, str] = {}
        self._x = self._y = self._line = 0
        self._none = say("not known", "non connu")
        self._board = (
            dashboard.Dashboard(title)
            .uid(uid if lang == "en" else f"{uid}-{lang}")
            .description(text)
            .tags([TAG, lang])
            .editable()
            .tooltip(models.DashboardCursorSync.CROSSHAIR)
            .timezone("browser")
            .time("now-24h", "now")
            .refresh(refresh)
            .version(1)
        )
        self._board.with_variable(
            dashboard.DatasourceVariable("datasource").label(say("Data source", "Source de données")).type("prometheus")
        )
        self._board.link(
            dashboard.DashboardLink("Parcours")
            .type(models.DashboardLinkType.DASHBOARDS)
            .tags([TAG, lang])
            .as_dropdown(True)
            .include_vars(True)
            .keep_time(True)
            .tooltip(say("The other dashboards", "Les autres tableaux de bord"))
        )

    # Variables and annotations

    def choose(self, *names: str) -> None:
        """The variables of business metrics, of: model, window, basis, conversion."""
        say = self.say
        labels = {
            "model": say("Model", "Modèle"), "window": say("Window", "Période"), "basis": "Base" if say("e", "f") == "f" else "Basis",
            "conversion": "Conversion",
        }  # fmt: skip
        first = {"model": "last_non_direct", "window": "7d", "basis": "conversion", "conversion": "purchase"}
        for name in names:
            chosen = models.VariableOption(selected=True, text=first[name], value=first[name])
            variable: Any
            if name == "window":
                variable = dashboard.CustomVariable(name).values(",".join(WINDOWS))
                variable.options([models.VariableOption(each == first[name], each, each) for each in WINDOWS])
            else:
                # A choice among the values that are there, so that a configured model or stage shows up by itself.
                query = f"label_values(leader:parcours_total_attributed_conversions:last, {name})"
                variable = dashboard.QueryVariable(name).datasource(SOURCE)
                variable.query({"query": query, "refId": f"variable-{name}"})
                variable.refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
                variable.sort(models.VariableSort.ALPHABETICAL_ASC)
            self._board.with_variable(variable.label(labels[name]).current(chosen))

    def annotate(self, name: str, text: str, expr: str, colour: str) -> None:
        """Marks where `expr` has samples; `text` may read their labels."""
        self._texts[name] = text
        self._board.annotation(
            dashboard.AnnotationQuery().name(name).datasource(SOURCE).enable(True).icon_color(colour).expr(expr)
        )

    # Panels

    def row(self, title: str) -> None:
        self._wrap()
        self._board.with_row(dashboard.Row(title).id(self._next()).grid_pos(models.GridPos(1, WIDTH, 0, self._y)))
        self._y += 1

    def stat(
        self,
        title: str,
        text: str,
        kind: Kind,
        *queries: Query,
        size: tuple[int, int] = (4, 4),
        steps: Any = PLAIN,
        graph: bool = False,
    ) -> None:
        panel = stat.Panel().color_mode(forms.BigValueColorMode.VALUE).reduce_options(_last())
        panel.graph_mode(forms.BigValueGraphMode.AREA if graph else forms.BigValueGraphMode.NONE)
        panel.text_mode(forms.BigValueTextMode.VALUE_AND_NAME if len(queries) > 1 else forms.BigValueTextMode.VALUE)
        panel.color_scheme(dashboard.FieldColor().mode(models.FieldColorModeId.THRESHOLDS))
        self._put(panel, title, text, kind, queries, size, steps=steps, instant=not graph)

    def lines(
        self, title: str, text: str, kind: Kind, *queries: Query, size: tuple[int, int] = (12, 9), stacked: bool = False
    ) -> None:
        # Undefined is absent: a gap stays a gap, or a line would claim a value where there was none.
        panel = timeseries.Panel().line_width(2).span_nulls(False).show_points(forms.VisibilityMode.AUTO)
        panel.fill_opacity(40 if stacked else 0).color_scheme(
            dashboard.FieldColor().mode(models.FieldColorModeId.PALETTE_CLASSIC)
        )
        if stacked:
            panel.stacking(common.StackingConfig().mode(forms.StackingMode.NORMAL).group("A"))
        panel.legend(
            common.VizLegendOptions().display_mode(forms.LegendDisplayMode.TABLE).placement(forms.LegendPlacement.RIGHT)
            .calcs(["lastNotNull"]).show_legend(True)
        )  # fmt: skip
        panel.tooltip(common.VizTooltipOptions().mode(forms.TooltipDisplayMode.MULTI).sort(forms.SortOrder.DESCENDING))
        for ref, query in zip(_REFS, queries, strict=False):
            if query.dashed:
                panel.override_by_query(
                    ref, [models.DynamicConfigValue("custom.lineStyle", {"fill": "dash", "dash": [8, 6]})]
                )
        self._put(panel, title, text, kind, queries, size)

    def gauges(
        self, title: str, text: str, kind: Kind, *queries: Query, size: tuple[int, int] = (12, 8), steps: Any = PLAIN
    ) -> None:
        panel = bargauge.Panel().reduce_options(_last()).orientation(forms.VizOrientation.HORIZONTAL)
        panel.display_mode(forms.BarGaugeDisplayMode.BASIC).color_scheme(
            dashboard.FieldColor().mode(models.FieldColorModeId.THRESHOLDS)
        )
        self._put(panel, title, text, kind, queries, size, steps=steps, instant=True)

    def table(
        self,
        title: str,
        text: str,
        keys: dict[str, str],
        *queries: Query,
        size: tuple[int, int] = (24, 10),
        sort: str = "",
    ) -> None:
        """Queries joined by their labels `keys` (label to heading), one column each."""
        panel = table.Panel().filterable(True)
        if sort:
            panel.sort_by([common.TableSortByFieldState().display_name(sort).desc(True)])
        columns = {f"Value #{ref}": query for ref, query in zip(_REFS, queries, strict=False)}
        _joined(panel, keys, columns)
        kinds = [query.kind or COUNT for query in queries]
        for query, kind in zip(queries, kinds, strict=True):
            properties = [
                models.DynamicConfigValue("unit", kind.unit),
                models.DynamicConfigValue("decimals", kind.decimals),
            ]
            if kind is ROI:
                properties += [
                    models.DynamicConfigValue("thresholds", SIGNS),
                    models.DynamicConfigValue("custom.cellOptions", {"type": "color-text"}),
                ]
            panel.override_by_name(query.name, properties)
        plain = [query._replace(kind=None) for query in queries]
        self._put(
            panel,
            title,
            text,
            kinds[0]._replace(low=None, high=None),
            plain,
            size,
            steps=PLAIN,
            instant=True,
            table=True,
            none="–",
        )

    def bars(
        self,
        title: str,
        text: str,
        kind: Kind,
        key: tuple[str, str],
        *queries: Query,
        size: tuple[int, int] = (12, 9),
        newest_last: bool = False,
    ) -> None:
        """A bar for each value of the label `key` (label, heading), ordered as numbers."""
        panel = (
            barchart.Panel()
            .x_field(key[1])
            .color_scheme(dashboard.FieldColor().mode(models.FieldColorModeId.PALETTE_CLASSIC))
        )
        panel.legend(
            common.VizLegendOptions()
            .display_mode(forms.LegendDisplayMode.LIST)
            .placement(forms.LegendPlacement.BOTTOM)
            .calcs([])
            .show_legend(True)
        )
        columns = {f"Value #{ref}": query for ref, query in zip(_REFS, queries, strict=False)}
        _joined(panel, dict([key]), columns)
        panel.with_transformation(
            models.DataTransformerConfig(
                "convertFieldType",
                options={"conversions": [{"targetField": key[1], "destinationType": "number"}], "fields": {}},
            )
        )
        panel.with_transformation(
            models.DataTransformerConfig(
                "sortBy", options={"fields": {}, "sort": [{"field": key[1], "desc": newest_last}]}
            )
        )
        panel.override_by_name(
            key[1], [models.DynamicConfigValue("unit", "none"), models.DynamicConfigValue("decimals", 0)]
        )
        self._put(panel, title, text, kind, queries, size, instant=True, table=True)

    def build(self) -> dict[str, Any]:
        built: dict[str, Any] = json.loads(JSONEncoder().encode(self._board.build()))
        for annotation in built["annotations"].get("list", []):
            # Of Prometheus' annotations the SDK knows the expression only.
            annotation |= {
                "titleFormat": annotation["name"],
                "textFormat": self._texts[annotation["name"]],
                "step": "60s",
            }
        return built

    def _put(
        self, panel: Any, title: str, text: str, kind: Kind, queries: Any, size: tuple[int, int], *, steps: Any = PLAIN,
        instant: bool = False, table: bool = False, none: str | None = None,
    ) -> None:  # fmt: skip
        panel.title(title).description(text).unit(kind.unit).decimals(kind.decimals).no_value(none or self._none)
        panel.datasource(SOURCE).id(self._next()).grid_pos(self._place(*size)).thresholds(_Given(steps))
        if kind.low is not None:
            panel.min(kind.low)
        if kind.high is not None:
            panel.max(kind.high)
        for ref, query in zip(_REFS, queries, strict=False):
            asked = prometheus.Dataquery().ref_id(ref).expr(query.expr).legend_format(query.name).datasource(SOURCE)
            asked.instant() if instant else asked.range()
            asked.format(PromQueryFormat.TABLE if table else PromQueryFormat.TIME_SERIES)
            panel.with_target(asked)
            if query.kind is not None:
                panel.override_by_query(ref, [
                    models.DynamicConfigValue("unit", query.kind.unit), models.DynamicConfigValue("decimals", query.kind.decimals),
                    *([models.DynamicConfigValue("thresholds", SIGNS)] if query.kind is ROI else []),
                ])  # fmt: skip
        self._board.with_panel(panel)

    def _next(self) -> int:
        self._number += 1
        return self._number

    def _place(self, width: int, height: int) -> models.GridPos:
        if self._x + width > WIDTH:
            self._wrap()
        place = models.GridPos(height, width, self._x, self._y)
        self._x, self._line = self._x + width, max(self._line, height)
        return place

    def _wrap(self) -> None:
        self._x, self._y, self._line = 0, self._y + self._line, 0


_REFS = "ABCDEFGHIJKLMNOP"


def _last() -> Any:
    return common.ReduceDataOptions().calcs(["lastNotNull"]).fields("").values(False)


def _joined(panel: Any, keys: dict[str, str], columns: dict[str, Query]) -> None:
    """Each query brings labels of its own: only the columns shown may reach the merge, or rows would not be recognised as one."""
    order = [*keys, *columns]
    for step, options in (
        ("filterFieldsByName", {"include": {"names": order}}),
        ("merge", {}),
        (
            "organize",
            {
                "indexByName": {name: index for index, name in enumerate(order)},
                "renameByName": keys | {value: query.name for value, query in columns.items()},
            },
        ),
    ):
        panel.with_transformation(models.DataTransformerConfig(step, options=options))
