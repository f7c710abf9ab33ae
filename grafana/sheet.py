"""A dashboard in one language, made of Grafana Foundation SDK builders: what all panels of Parcours have in common.

Panels are laid out from left to right in the order they are added; ids are their numbers. Business metrics are read as recorded from the newest leader.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
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
    """How a quantity is shown.

    `decimals` None leaves them to Grafana. `low` and `high` are the ends of what it can be, None where there is none. `flags` are the colours of
    no and yes, for what is 0 or 1.
    """

    unit: str
    decimals: int | None
    low: float | None = 0
    high: float | None = None
    flags: tuple[str, str] | None = None


# "locale" has thousands separators but drops zeros at the end; "none" has neither. Not one of Grafana's currencies: the label `currency` says which it is.
MONEY = Kind("locale", 0)
PRICE = Kind("none", 2)
COUNT = Kind("locale", 0)
CREDIT = Kind("locale", 1)
FACTOR = Kind("none", 2)
FIGURE = Kind("locale", 2)
SHARE = Kind("percentunit", 1, 0, 1)
ROI = Kind("percentunit", 1, -1)
NET = Kind("percentunit", 1, -1, 1)
POINTS = Kind("locale", 0, -100, 100)
RATE = Kind("eps", None)
SECONDS = Kind("s", 2)
AGE = Kind("s", 0)
MOMENT = Kind("dateTimeFromNow", 0)
FLAG = Kind("locale", 0, 0, 1)
BAD = Kind("locale", 0, 0, 1, ("text", "red"))
UNSURE = Kind("locale", 0, 0, 1, ("text", "orange"))
GOOD = Kind("locale", 0, 0, 1, ("red", "green"))


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
# An empty cell has the first colour.
SIGNS = colours((None, "text"), (-1e9, "red"), (0, "green"))
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
        """`graph` draws the first query over time below its value."""
        panel = stat.Panel().color_mode(forms.BigValueColorMode.VALUE).reduce_options(_last())
        panel.graph_mode(forms.BigValueGraphMode.AREA if graph else forms.BigValueGraphMode.NONE)
        many = len(queries) > 1 or "{{" in queries[0].name
        panel.text_mode(forms.BigValueTextMode.VALUE_AND_NAME if many else forms.BigValueTextMode.VALUE)
        panel.color_scheme(dashboard.FieldColor().mode(models.FieldColorModeId.THRESHOLDS))
        if len(queries) > 1:
            # Each would else be as large as its own place allows, the shorter number larger. No graph with them: it would run into the first.
            panel.text(common.VizTextDisplayOptions().title_size(14).value_size(30))
        self._put(
            panel, title, text, kind, queries, size, steps=SIGNS if kind is ROI else steps, ranged=1 if graph else 0
        )

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
            .calcs(["lastNotNull"]).sort_by("Last *").sort_desc(True).show_legend(True)
        )  # fmt: skip
        panel.tooltip(common.VizTooltipOptions().mode(forms.TooltipDisplayMode.MULTI).sort(forms.SortOrder.DESCENDING))
        for ref, query in zip(_REFS, queries, strict=False):
            if query.dashed:
                panel.override_by_query(
                    ref, [models.DynamicConfigValue("custom.lineStyle", {"fill": "dash", "dash": [8, 6]})]
                )
        self._put(panel, title, text, kind, queries, size)

    def gauges(self, title: str, text: str, kind: Kind, *queries: Query, size: tuple[int, int] = (12, 8)) -> None:
        panel = bargauge.Panel().reduce_options(_last()).orientation(forms.VizOrientation.HORIZONTAL)
        panel.display_mode(forms.BarGaugeDisplayMode.BASIC).min_viz_height(8).color_scheme(
            dashboard.FieldColor().mode(models.FieldColorModeId.FIXED).fixed_color("blue")
        )
        self._put(panel, title, text, kind, queries, size, ranged=0)

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
        panel = table.Panel().min_width(90)
        if sort:
            panel.sort_by([common.TableSortByFieldState().display_name(sort).desc(True)])
        _joined(panel, keys, queries)
        for name in keys.values():
            panel.override_by_name(name, [models.DynamicConfigValue("custom.filterable", True)])
        kinds = [query.kind or COUNT for query in queries]
        for query, kind in zip(queries, kinds, strict=True):
            properties = _shown(kind)
            if kind is ROI:
                properties.append(models.DynamicConfigValue("thresholds", SIGNS))
            if kind is ROI or kind.flags:
                properties.append(models.DynamicConfigValue("custom.cellOptions", {"type": "color-text"}))
            if kind.flags:
                said = zip(("no", "yes") if self.say("e", "f") == "e" else ("non", "oui"), kind.flags, strict=True)
                options = {str(n): {"text": text, "color": colour, "index": n} for n, (text, colour) in enumerate(said)}
                properties.append(models.DynamicConfigValue("mappings", [{"type": "value", "options": options}, _NAN]))
            panel.override_by_name(query.name, properties)
        panel.mappings([_Nan()])
        plain = [query._replace(kind=None) for query in _never_empty(keys, queries)]
        self._put(
            panel,
            title,
            text,
            kinds[0]._replace(low=None, high=None),
            plain,
            size,
            steps=PLAIN,
            ranged=0,
            table=True,
            none="–",
        )

    def matrix(
        self, title: str, text: str, kind: Kind, rows: tuple[str, str], columns: str, query: Query, *, size: tuple[int, int] = (12, 9)
    ) -> None:  # fmt: skip
        """A row for each value of the label `rows` (label, heading) of a query, a column for each of the label `columns`."""
        panel = table.Panel().min_width(90)
        for step, options in (
            ("filterFieldsByName", {"include": {"names": [rows[0], columns, "Value"]}}),
            (
                "groupingToMatrix",
                {"rowField": rows[0], "columnField": columns, "valueField": "Value", "emptyValue": "null"},
            ),
            ("organize", {"renameByName": {f"{rows[0]}\\{columns}": rows[1]}}),
        ):
            panel.with_transformation(models.DataTransformerConfig(step, options=options))
        self._put(panel, title, text, kind, (query,), size, ranged=0, table=True, none="–")

    def bars(
        self,
        title: str,
        text: str,
        kind: Kind,
        key: tuple[str, str],
        *queries: Query,
        size: tuple[int, int] = (12, 9),
        newest_last: bool = False,
        unit: str = "none",
    ) -> None:
        """A bar for each value of the label `key` (label, heading), ordered as numbers and shown in `unit`."""
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
        _joined(panel, dict([key]), queries)
        panel.mappings([_Nan()])
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
            key[1], [models.DynamicConfigValue("unit", unit), models.DynamicConfigValue("decimals", 0)]
        )
        self._put(panel, title, text, kind, _never_empty([key[0]], queries), size, ranged=0, table=True)

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
        ranged: int | None = None, table: bool = False, none: str | None = None,
    ) -> None:  # fmt: skip
        """`ranged`: so many queries are asked over the visible range, the others for its end; None: all over the range."""
        panel.title(title).description(text).unit(kind.unit).no_value(none or self._none)
        if kind.decimals is not None:
            panel.decimals(kind.decimals)
        panel.datasource(SOURCE).id(self._next()).grid_pos(self._place(*size)).thresholds(_Given(steps))
        if kind.low is not None:
            panel.min(kind.low)
        if kind.high is not None:
            panel.max(kind.high)
        for at, (ref, query) in enumerate(zip(_REFS, queries, strict=False)):
            asked = prometheus.Dataquery().ref_id(ref).expr(query.expr).legend_format(query.name).datasource(SOURCE)
            asked.range() if ranged is None or at < ranged else asked.instant()
            asked.format(PromQueryFormat.TABLE if table else PromQueryFormat.TIME_SERIES)
            panel.with_target(asked)
            if query.kind is not None:
                more = [models.DynamicConfigValue("thresholds", SIGNS)] if query.kind is ROI else []
                panel.override_by_query(ref, [*_shown(query.kind), *more])
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


_NAN = {"type": "special", "options": {"match": "nan", "result": {"text": "–"}}}


class _Nan:
    """Of the SDK's mappings, what is no number: see `_never_empty`."""

    def to_json(self) -> dict[str, Any]:
        return _NAN


def _shown(kind: Kind) -> list[models.DynamicConfigValue]:
    found = [models.DynamicConfigValue("unit", kind.unit)]
    return found if kind.decimals is None else [*found, models.DynamicConfigValue("decimals", kind.decimals)]


def _never_empty(keys: Collection[str], queries: Sequence[Query]) -> list[Query]:
    """Each query, or, when it has nothing at all, no number for each row that another has: Grafana joins no table of which one has no
    rows, hence no labels.
    """
    if len(queries) == 1:
        return list(queries)
    rows = {query: f"max by ({', '.join(keys)}) ({query.expr})" for query in queries}
    return [
        query._replace(
            expr=f"{query.expr} or (NaN * ({' or '.join(rows[one] for one in queries if one != query)}) unless on () {query.expr})"
        )
        for query in queries
    ]


def _joined(panel: Any, keys: dict[str, str], queries: Sequence[Query]) -> None:
    """Each query brings labels of its own: only the columns shown may reach the merge, or rows would not be recognised as one."""
    columns = {f"Value #{ref}": query.name for ref, query in zip(_REFS, queries, strict=False)}
    if len(queries) == 1:
        columns["Value"] = queries[0].name  # alone it has no letter
    order = [*keys, *columns]
    for step, options in (
        ("filterFieldsByName", {"include": {"names": order}}),
        ("merge", {}),
        (
            "organize",
            {"indexByName": {name: index for index, name in enumerate(order)}, "renameByName": keys | columns},
        ),
    ):
        panel.with_transformation(models.DataTransformerConfig(step, options=options))
