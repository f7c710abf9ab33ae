"""A report as one page of HTML that needs nothing else: no script, no font, no network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from html import escape
from pathlib import Path
from string import Template
from typing import Any
from zoneinfo import ZoneInfo

from streams.cli.report import COLUMNS, Beside, Report, beside, board, shown, unattributed

TEMPLATE = Template((Path(__file__).parent / "page.html").read_text("utf-8"))
TILES: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("Net revenue", "revenue", {}),
    ("Cost", "cost", {}),
    ("ROI on revenue", "roi_on_revenue_ratio", {"percent": True}),
    ("MER", "mer_ratio", {}),
    ("Orders", "orders", {"digits": 0}),
    ("Average order", "aov", {}),
    ("Blended CPA", "blended_cpa", {}),
    ("CPA", "cpa", {}),
    ("CAC", "cac", {}),
    ("New customers", "new_customers", {"digits": 0}),
    ("Orders per visit", "orders_per_visit_ratio", {"percent": True}),
    ("Visits", "visits", {"digits": 0}),
)  # fmt: skip
"""Of the whole: heading, metric, and how it is shown. What is undefined is left out."""
WIDTH, HEIGHT, LEFT, BOTTOM = 1180, 190, 12, 24

Values = Mapping[str, Decimal | int]


def page(found: Report, period: str) -> str:
    """The page: what there is in all, by channel and by campaign, and each day's revenue and cost."""
    read = board(found, period)
    marketing = found.marketing
    local = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=found.end)).astimezone(
        ZoneInfo(marketing.time_zone)
    )
    before = _baseline(found, period)
    model = marketing.headline_models[0]
    return TEMPLATE.substitute(
        title=escape(f"Marketing report, {period.replace('_', ' ')}"),
        subtitle=escape(
            f"To {local:%Y-%m-%d %H:%M} {marketing.time_zone}. Amounts in {marketing.reporting_currency}. "
            f"Credit by {model}, purchases, at the date of the order."
        ),
        tiles="".join(_tile(name, metric, how, read.total, before) for name, metric, how in TILES),
        channels=_table(("channel", "network"), read.channels, read.total),
        reasons=_reasons(unattributed(found, period)),
        claims=_claims(beside(found, period)),
        campaigns=_table(("channel", "network", "campaign"), read.campaigns, None),
        days=_days(found, marketing.reporting_currency),
        footer=f"Configuration <code>{escape(marketing.digest())}</code>, revision {marketing.revision}. Ratios are sums over "
        "sums, up to where cost is known; “–” is undefined, which is not 0. Made by <code>parcours report</code>.",
    )


def _tile(name: str, metric: str, how: dict[str, Any], total: Values, before: Values) -> str:
    value = total.get(metric)
    if value is None:
        return ""
    then = before.get(metric)
    change = f"<small>before: {_number(then, how)}</small>" if then is not None else ""
    return f"<div class=tile><span>{escape(name)}</span><b>{_number(value, how)}</b>{change}</div>"


def _number(value: Decimal | int | None, how: Mapping[str, Any]) -> str:
    text = shown(value, **how)
    return "–" if text == "-" else text.replace("-", "−")


def _baseline(found: Report, period: str) -> dict[str, Decimal | int]:
    """The previous period's numbers of the whole, where there are any."""
    model = found.marketing.headline_models[0]
    values: dict[str, Decimal | int] = {}
    for family, labels, value in found.rows:
        of = dict(labels)
        if (
            family.startswith("parcours_total_") and family.endswith("_baseline")
            and (of["window"], of["period"]) == (period, "previous")
            and of.get("model", model) == model and of.get("conversion", "purchase") == "purchase"
        ):  # fmt: skip
            values[family.removeprefix("parcours_total_").removesuffix("_baseline")] = value
    return values


def _table(names: tuple[str, ...], rows: Mapping[tuple[str, ...], Values], total: Values | None) -> str:
    if not rows:
        return "<p style='padding: 12px'>None in this period.</p>"
    most = max((row.get("attributed_revenue", 0) for row in rows.values()), default=0)
    head = "".join(f"<th class=name>{escape(name)}" for name in names)
    head += "".join(f"<th>{escape(heading)}" for heading, _, _ in COLUMNS)
    body = [_row(key, values, most) for key, values in rows.items()]
    if total is not None:
        body.append(_row(("in all", *[""] * (len(names) - 1)), total, 0, "sum"))
    return f"<table><thead><tr>{head}</thead><tbody>{''.join(body)}</tbody></table>"


def _reasons(counts: Mapping[str, int]) -> str:
    """Why purchases are unattributed, the most frequent reason first."""
    if not counts:
        return ""
    told = ", ".join(f"{n} {escape(reason)}" for reason, n in counts.items())
    return f"<p>Unattributed {sum(counts.values())}: {told}.</p>"


def _claims(lines: Iterable[Beside]) -> str:
    """What networks claim beside what is attributed to them; nothing where none claims."""
    body = []
    for one in lines:
        cells = [f'<td class=name title="{escape(name)}">{escape(name)}' for name in (one.channel, one.network)]
        for claimed, ours in ((one.claimed, one.attributed), (one.claimed_value, one.attributed_value)):
            values = (claimed, ours, None if claimed is None else claimed - ours)
            cells += [f"<td>{_number(value, {})}" for value in values]
        body.append(f"<tr>{''.join(cells)}")
    if not body:
        return ""
    names = (
        "channel",
        "network",
        "conversions claimed",
        "attributed",
        "difference",
        "value claimed",
        "attributed",
        "difference",
    )
    head = "".join(f"<th{' class=name' if at < 2 else ''}>{name}" for at, name in enumerate(names))
    return f"<h2>Platform claims</h2><div class=scroll><table><thead><tr>{head}</thead><tbody>{''.join(body)}</tbody></table></div>"


def _row(key: Iterable[str], values: Values, most: Decimal | int, kind: str = "") -> str:
    cells = [f'<td class=name title="{escape(name)}">{escape(name)}' for name in key]
    for _, metric, how in COLUMNS:
        value = values.get(metric)
        text = _number(value, how)
        if metric == "attributed_revenue" and most > 0 and value is not None and value > 0:
            cells.append(f'<td class=bar style="--w: {100 * value / most:.1f}%">{text}')
        elif how.get("percent") and value:
            cells.append(f"<td class={'good' if value > 0 else 'bad'}>{text}")
        else:
            cells.append(f"<td>{text}")
    return f'<tr class="{kind}">{"".join(cells)}'


def _days(found: Report, currency: str) -> str:
    """Bars of net revenue and a line of cost, today last; today's is what has come of it."""
    revenue, cost = _by_day(found, "parcours_day_total_revenue"), _by_day(found, "parcours_day_total_cost")
    days = sorted(revenue.keys() | cost.keys(), reverse=True)
    top = max([*revenue.values(), *cost.values()], default=Decimal(0))
    if not days or top <= 0:
        return "<p>No revenue and no cost in the last 35 days.</p>"
    longest = days[0]
    step = Decimal(WIDTH - 2 * LEFT) / (longest + 1)
    room = HEIGHT - BOTTOM - 18

    def x(ago: int) -> Decimal:
        return LEFT + step * (longest - ago)

    def y(value: Decimal) -> Decimal:
        return HEIGHT - BOTTOM - room * max(value, Decimal(0)) / top

    bars = "".join(
        f'<rect x="{x(ago) + 2:.1f}" y="{y(value):.1f}" width="{step - 4:.1f}" height="{HEIGHT - BOTTOM - y(value):.1f}">'
        f"<title>{ago} days ago: revenue {shown(value)}, cost {shown(cost.get(ago))}</title></rect>"
        for ago, value in revenue.items()
    )
    points = " ".join(f"{x(ago) + step / 2:.1f},{y(cost[ago]):.1f}" for ago in days if ago in cost)
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="Net revenue and cost by day">'
        f'<g class="bars">{bars}</g><polyline class="trend" points="{points}"/>'
        f'<text x="{LEFT}" y="13">bars: net revenue, line: cost; the highest is {shown(top, digits=0)} {escape(currency)}</text>'
        f'<text x="{LEFT}" y="{HEIGHT - 7}">{longest} days ago</text>'
        f'<text x="{WIDTH - LEFT}" y="{HEIGHT - 7}" text-anchor="end">today</text></svg>'
    )


def _by_day(found: Report, family: str) -> dict[int, Decimal]:
    return {int(dict(labels)["days_ago"]): Decimal(value) for name, labels, value in found.rows if name == family}
