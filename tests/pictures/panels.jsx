// Draws a committed dashboard with the components that Grafana publishes (@grafana/ui, @grafana/data) and data of a Prometheus.
// Not Grafana: its panels are made of these components, but titles, axes and bar charts here are put together by this file.
//
// ?board=parcours.json&prometheus=http://127.0.0.1:9090&minutes=30&height=1200; document.body.dataset.done is set when all is drawn.

import { createRoot } from "react-dom/client";
import { of, lastValueFrom } from "rxjs";
import {
  FieldColorModeId, FieldType, Registry, applyFieldOverrides, createDataFrame, createTheme, dateTime, fieldReducers, getFieldDisplayName,
  getFieldDisplayValues, standardEditorsRegistry, standardFieldConfigEditorRegistry, standardTransformers, standardTransformersRegistry, transformDataFrame,
} from "@grafana/data";
import { AxisPlacement, GraphDrawStyle, ScaleDirection, ScaleDistribution, ScaleOrientation, StackingMode, TooltipDisplayMode } from "@grafana/schema";
import { BarGauge, BigValue, GlobalStyles, PanelChrome, ThemeContext, Table, TimeSeries, UPlotChart, UPlotConfigBuilder, VizLegend, VizRepeater } from "@grafana/ui";

const CELL = 30; // Grafana's grid: rows of 30 px, 8 px apart
const GAP = 8;
const asked = new URLSearchParams(location.search);
const width = Number(asked.get("width") || 1600);
const minutes = Number(asked.get("minutes") || 30);
const theme = createTheme({ colors: { mode: asked.get("mode") || "dark" } });
const now = Math.floor(Date.now() / 1000);
const range = { from: dateTime((now - minutes * 60) * 1000), to: dateTime(now * 1000), raw: { from: `now-${minutes}m`, to: "now" } };

const plain = (id, path = id) => ({ id, path, name: id, process: (value) => value, shouldApply: () => true, editor: null, override: null, settings: {}, defaultValue: undefined });
const custom = (id) => ({ ...plain(`custom.${id}`, id), isCustom: true });
standardEditorsRegistry.setInit(() => []);
standardFieldConfigEditorRegistry.setInit(() => []);
const transformers = [...new Map(Object.values(standardTransformers).map((one) => [one.id, one])).values()];
standardTransformersRegistry.setInit(() => transformers.map((transformation) => ({ id: transformation.id, name: transformation.name, transformation, editor: null })));
const registry = new Registry(() => [
  ...["unit", "decimals", "min", "max", "noValue", "displayName", "thresholds", "color", "mappings", "links"].map((id) => plain(id)),
  ...["drawStyle", "lineWidth", "fillOpacity", "lineStyle", "spanNulls", "showPoints", "stacking", "cellOptions", "filterable", "width", "align", "axisPlacement", "gradientMode"].map(custom),
]);

// Data as Grafana's Prometheus source gives it.

async function ask(path, query) {
  const answer = await (await fetch(`${asked.get("prometheus")}/api/v1/${path}?${new URLSearchParams(query)}`)).json();
  if (answer.status !== "success") throw new Error(`${query.query}: ${answer.error}`);
  return answer.data.result;
}

const named = (format, labels) => format.replace(/\{\{\s*(\w+)\s*\}\}/g, (_, label) => labels[label] ?? "");
const number = (text) => (text === "+Inf" ? Infinity : Number(text));

async function frames(target, fill, many) {
  const query = fill(target.expr);
  const step = Math.max(15, Math.ceil((minutes * 60) / 200));
  const found = target.instant ? await ask("query", { query, time: now }) : await ask("query_range", { query, start: now - minutes * 60, end: now, step });
  if (target.format === "table") {
    const labels = [...new Set(found.flatMap((series) => Object.keys(series.metric)))].sort();
    return [createDataFrame({ refId: target.refId, fields: [
      { name: "Time", type: FieldType.time, values: found.map((series) => series.value[0] * 1000) },
      ...labels.map((name) => ({ name, type: name === "le" ? FieldType.number : FieldType.string, values: found.map(({ metric }) => (name === "le" ? number(metric[name]) : metric[name])) })),
      // One query alone has a field without its letter.
      { name: many ? `Value #${target.refId}` : "Value", type: FieldType.number, values: found.map((series) => number(series.value[1])) },
    ] })];
  }
  return found.map((series) => {
    const points = target.instant ? [series.value] : evenly(series.values, step);
    return createDataFrame({ refId: target.refId, fields: [
      { name: "Time", type: FieldType.time, config: { interval: step * 1000 }, values: points.map(([at]) => at * 1000) },
      { name: "Value", type: FieldType.number, labels: series.metric, config: { displayNameFromDS: named(target.legendFormat, series.metric) }, values: points.map(([, value]) => (value === null ? null : number(value))) },
    ] });
  });
}

/** A point for each step: where there is none, null. */
function evenly(points, step) {
  const known = new Map(points.map(([at, value]) => [at, value]));
  const found = [];
  for (let at = now - minutes * 60; at <= now; at += step) found.push([at, known.get(at) ?? null]);
  return found;
}

async function data(panel, fill) {
  restored(panel.fieldConfig);
  const many = panel.targets.length > 1;
  let found = (await Promise.all(panel.targets.map((target) => frames(target, fill, many)))).flat();
  if (panel.transformations?.length) found = await lastValueFrom(transformDataFrame(panel.transformations, found, { interpolate: fill }));
  return applyFieldOverrides({ data: found, fieldConfig: panel.fieldConfig, fieldConfigRegistry: registry, replaceVariables: fill, theme, timeZone: "browser" });
}

/** As Grafana does when it loads a dashboard: JSON has no -Infinity, and null stands for it. */
function restored(config) {
  const restore = (thresholds) => thresholds?.steps.forEach((step) => { step.value ??= -Infinity; });
  restore(config.defaults.thresholds);
  for (const { properties } of config.overrides) for (const { id, value } of properties) if (id === "thresholds") restore(value);
}

// Panels

const DRAWN = {
  stat: ({ panel, found, ...size }) => <Values panel={panel} found={found} {...size} draw={(value, at) => (
    <BigValue {...at} value={value.display} sparkline={value.sparkline} theme={theme} colorMode={panel.options.colorMode} graphMode={panel.options.graphMode} textMode={panel.options.textMode}
      justifyMode={panel.options.justifyMode || "auto"} text={panel.options.text} count={value.count} />)} />,
  bargauge: ({ panel, found, ...size }) => <Values panel={panel} found={found} {...size} spaced draw={(value, at, longest) => (
    <BarGauge {...at} value={value.display} field={value.field} display={value.view?.getFieldDisplayProcessor(value.colIndex)} theme={theme} orientation="horizontal" displayMode={panel.options.displayMode}
      alignmentFactors={longest} lcdCellWidth={12} itemSpacing={8} showUnfilled={panel.options.showUnfilled ?? true} valueDisplayMode={panel.options.valueMode} namePlacement={panel.options.namePlacement || "auto"} />)} />,
  table: ({ panel, found, width: w, height }) => <Table data={found[0] ?? createDataFrame({ fields: [] })} width={w} height={height} columnMinWidth={panel.fieldConfig.defaults.custom?.minWidth ?? 150} initialSortBy={panel.options.sortBy}
    showTypeIcons={false} cellHeight={panel.options.cellHeight} resizable enableSharedCrosshair={false} />,
  timeseries: ({ panel, found, width: w, height }) => <TimeSeries frames={found} width={w} height={height} timeRange={range} timeZone="browser" legend={panel.options.legend} options={panel.options} />,
  barchart: BarChart,
};

function Values({ panel, found, width: w, height, draw, spaced }) {
  const values = getFieldDisplayValues({ fieldConfig: panel.fieldConfig, reduceOptions: panel.options.reduceOptions, replaceVariables: (text) => text, theme, data: found, sparkline: panel.options.graphMode === "area", timeZone: "browser" });
  const longest = values.reduce((so, { display }) => ({ title: longer(so.title, display.title), text: longer(so.text, display.text), prefix: longer(so.prefix, display.prefix), suffix: longer(so.suffix, display.suffix) }), { title: "", text: "" });
  return <VizRepeater source={values} getValues={() => values} width={w} height={height} orientation={panel.options.orientation} itemSpacing={spaced ? 8 : 3} minVizHeight={panel.options.minVizHeight ?? 16} maxVizHeight={panel.options.maxVizHeight ?? 300} autoGrid
    renderCounter={0} renderValue={({ value, width: vw, height: vh, count }) => draw({ ...value, count }, { width: vw, height: vh }, longest)} />;
}

const longer = (a = "", b = "") => (b.length > a.length ? b : a);

function BarChart({ panel, found, width: w, height }) {
  const [frame] = found;
  const name = panel.options.xField;
  const x = frame?.fields.find((field) => getFieldDisplayName(field, frame, found) === name);
  const bars = frame?.fields.filter((field) => field !== x && field.type === FieldType.number) ?? [];
  if (!x || !bars.length) return <Nothing panel={panel} />;
  const inner = height - 32;
  const builder = new UPlotConfigBuilder("browser");
  builder.addScale({ scaleKey: "x", isTime: false, distribution: ScaleDistribution.Ordinal, orientation: ScaleOrientation.Horizontal, direction: ScaleDirection.Right, range: () => [-0.5, x.values.length - 0.5] });
  builder.addAxis({ scaleKey: "x", isTime: false, placement: AxisPlacement.Bottom, grid: { show: false }, ticks: { show: false }, theme, splits: () => x.values.map((_, i) => i), values: (_, splits) => splits.map((i) => formatted(x, i)) });
  builder.addScale({ scaleKey: "y", orientation: ScaleOrientation.Vertical, direction: ScaleDirection.Up, min: panel.fieldConfig.defaults.min, max: panel.fieldConfig.defaults.max });
  builder.addAxis({ scaleKey: "y", placement: AxisPlacement.Left, theme, formatValue: (value, decimals) => bars[0].display(value, decimals).text });
  bars.forEach((field, i) => {
    const colour = theme.visualization.getColorByName(theme.visualization.palette[i]);
    builder.addSeries({ scaleKey: "y", theme, drawStyle: GraphDrawStyle.Bars, lineColor: colour, fillColor: colour, fillOpacity: 80, lineWidth: 1, show: true, pxAlign: false,
      // Beside one another, as the panel groups them.
      pathBuilder: (u, s, from, to) => grouped(u, s, from, to, i, bars.length) });
  });
  const items = bars.map((field, i) => ({ label: getFieldDisplayName(field, frame, found), color: theme.visualization.getColorByName(theme.visualization.palette[i]), yAxis: 1 }));
  return <div>
    <UPlotChart config={builder} data={[x.values.map((_, i) => i), ...bars.map((field) => [...field.values])]} width={w} height={inner} />
    <VizLegend placement="bottom" items={items} displayMode="list" />
  </div>;
}

function grouped(u, s, from, to, i, n) {
  const fill = new Path2D();
  const zero = u.valToPos(0, "y", true);
  const slot = (u.valToPos(1, "x", true) - u.valToPos(0, "x", true)) * 0.8;
  for (let at = from; at <= to; at++) {
    const value = u.data[s][at];
    if (!Number.isFinite(value)) continue;
    const top = u.valToPos(value, "y", true);
    fill.rect(u.valToPos(at, "x", true) - slot / 2 + (slot / n) * i, Math.min(top, zero), slot / n, Math.abs(zero - top));
  }
  return { stroke: fill, fill, clip: null, flags: 0 };
}

function formatted(field, i) {
  const { prefix = "", text, suffix = "" } = field.display(field.values[i]);
  return prefix + text + suffix;
}

const Nothing = ({ panel }) => <div style={{ padding: 20, textAlign: "center" }}>{panel.fieldConfig.defaults.noValue || "No data"}</div>;

function Board({ panels }) {
  const unit = (width - GAP) / 24;
  return <ThemeContext.Provider value={theme}><GlobalStyles /><div style={{ position: "relative", width, height: Math.max(...panels.map(({ panel }) => panel.gridPos.y + panel.gridPos.h)) * (CELL + GAP) + GAP }}>
    {panels.map(({ panel, found }) => {
      const at = panel.gridPos;
      const place = { position: "absolute", left: GAP + at.x * unit, top: GAP + at.y * (CELL + GAP), width: at.w * unit - GAP, height: at.h * (CELL + GAP) - GAP };
      if (panel.type === "row") return <div key={panel.id} style={{ ...place, fontSize: 16, fontWeight: 500, lineHeight: "30px", color: theme.colors.text.primary }}>⌄ {panel.title}</div>;
      const Drawn = DRAWN[panel.type];
      const none = !found.some((frame) => frame.length);
      return <div key={panel.id} style={place} data-panel={panel.title}>
        <PanelChrome title={panel.title} description={panel.description} width={place.width} height={place.height}>
          {(w, height) => (none && panel.type !== "stat" ? <Nothing panel={panel} /> : <Drawn panel={panel} found={found} width={w} height={height} />)}
        </PanelChrome>
      </div>;
    })}
  </div></ThemeContext.Provider>;
}

async function main() {
  document.body.style.background = theme.colors.background.canvas;
  document.body.style.color = theme.colors.text.primary;
  const board = await (await fetch(asked.get("board"))).json();
  const chosen = Object.fromEntries(board.templating.list.map((item) => [item.name, item.current?.value]));
  const span = { __rate_interval: "1m", __range: `${minutes}m` };
  const fill = (text) => String(text).replace(/\$\{?(\w+)\}?/g, (whole, name) => asked.get(name) ?? span[name] ?? chosen[name] ?? whole);
  const panels = [];
  for (const panel of board.panels) panels.push({ panel: { ...panel, options: panel.options ?? {} }, found: panel.type === "row" ? [] : await data(panel, fill) });
  createRoot(document.getElementById("board")).render(<Board panels={panels} />);
  setTimeout(() => { document.body.dataset.done = "yes"; }, 1500);
}

main().catch((error) => { document.body.dataset.done = "failed"; document.body.append(String(error.stack)); });
