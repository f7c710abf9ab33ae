"""`parcours report`: the KPIs of one period, as the exporter has them, for people and for programs."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import orjson
import typer

from models.settings import Infrastructure, Marketing
from streams.cli.common import (
    ConfigFile,
    Failure,
    RedisUrl,
    Usage,
    console,
    infrastructure,
    note,
    row,
    say,
    table,
    when,
)
from streams.cli.numbers import replayed, stored

if TYPE_CHECKING:
    from attribution.nodes.state import CostRow

NAME = "report"
DAYS = "days"
"""The period that is each of the last 35 business days, as known now."""
LABELS = (
    "channel", "network", "campaign", "source", "model", "basis", "conversion", "reason", "cohort", "age_months", "le", "days_ago",
    "baseline", "currency",
)  # fmt: skip
"""The labels of a line of CSV, in order; what a metric does not have is empty."""


class Report(NamedTuple):
    """All rows at one end (µs): (family, labels, value)."""

    marketing: Marketing
    end: int
    rows: list[Any]
    costs: list[CostRow]


class Line(NamedTuple):
    """One number. `windowed`: it is of the period; else it is of whenever its labels say, or of now."""

    level: str
    metric: str
    labels: dict[str, str]
    value: Decimal | int
    windowed: bool


def command(
    period: Annotated[
        str, typer.Option("--period", help="A window or period: 24h, 7d, 30d, today, month_to_date ... (see below).")
    ] = "30d",
    source: Annotated[
        Path | None,
        typer.Option("--input", help="Files of events to replay; without it, what a running system has in Redis."),
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Write CSV: one number a line.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON for programs.")] = False,
    as_html: Annotated[bool, typer.Option("--html", help="Write a page that needs nothing else.")] = False,
    out: Annotated[Path | None, typer.Option("--out", help="The file to write; without it, standard output.")] = None,
    config: ConfigFile = None,
    redis_url: RedisUrl = None,
) -> None:
    """Report the KPIs of one period, with the hash of the configuration they were computed under.

    The numbers are those that the exporter has at the same moment. With --input they are of the last event in the files.

    Periods: 5m, 1h, 24h, 7d, 30d (rolling), today, yesterday, month_to_date, last_month, 365d, campaign_to_date for
    campaigns, and days: each of the last 35 days as known now. Numbers of persons are of 24h, 7d and 30d; customers and
    cohorts are of now, and beside every period.

    \b
    Examples:
      parcours report
      parcours report --period last_month --html --out report.html
      parcours report --period 7d --csv | head
      parcours report --period days --csv > days.csv
      parcours report --input shop --config shop/parcours.toml --period 30d --json
    """
    periods = known_periods()
    if period not in periods:
        raise Usage(f"--period: {period!r} is none of {', '.join(periods)}")
    if as_csv + as_json + as_html > 1:
        raise Usage("--csv, --json and --html: choose one")
    if period == DAYS and not as_csv and not as_json:
        raise Usage("--period days: a number for each day; write it with --csv or --json")
    infra = infrastructure(config=config, redis_url=redis_url)
    found = _replayed(infra, source) if source is not None else _stored(infra)
    if as_html:
        from streams.cli.page import page

        text = page(found, period)
    elif as_csv:
        text = as_table(found, period)
    elif as_json:
        text = orjson.dumps(as_object(found, period), option=orjson.OPT_INDENT_2).decode() + "\n"
    elif out is not None:
        raise Usage("--out: say how to write it: --csv, --json or --html")
    else:
        _show(found, period)
        return
    _write(text, out)


def known_periods() -> tuple[str, ...]:
    """What `--period` may be."""
    from attribution.windows import PERIODS, VOLUMES, WINDOWS

    return (VOLUMES.name, *(window.name for window in WINDOWS), *PERIODS, DAYS)


def _write(text: str, out: Path | None) -> None:
    if out is None:
        sys.stdout.write(text)
        return
    try:
        out.write_text(text, "utf-8")
    except OSError as error:
        raise Failure(f"{out}: {error.strerror}") from None
    note(f"Written to {out}")


# Where the numbers come from.


def _replayed(infra: Infrastructure, source: Path) -> Report:
    from attribution.report import exported

    replay = replayed(infra, source)
    rollups, by_id = replay.named()
    costs = list(by_id.values())
    rows = exported(rollups, costs, replay.marketing, replay.highest, replay.devices)
    return Report(replay.marketing, replay.highest, rows, costs)


def _stored(infra: Infrastructure) -> Report:
    view = stored(infra)
    return Report(view.marketing, view.end, view.rows, list(view.costs.values()))


# What is written.


def lines(found: Report, period: str) -> Iterator[Line]:
    """The numbers of the period, those it is compared with, and those that are of no period; or of each day."""
    from attribution.families import SERIES

    for name, labels, value in found.rows:
        of = dict(labels)
        windowed = "window" in of
        if "days_ago" in of if period == DAYS else "days_ago" not in of and of.pop("window", period) == period:
            family = SERIES[name]
            metric = name.removeprefix("parcours_").removeprefix("day_").removeprefix(f"{family.level}_")
            if "period" in of:
                metric = metric.removesuffix("_baseline")
                of["baseline"] = of.pop("period")
            yield Line(family.level, metric, of, value, windowed)


def as_table(found: Report, period: str) -> str:
    """CSV: period, end and configuration beside each number, so that lines of several reports can be put together."""
    from attribution.families import plain
    from attribution.outcome import moment

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("period", "as_of", "config", "level", *LABELS, "metric", "value"))
    common = (period, moment(found.end), found.marketing.digest())
    for line in lines(found, period):
        # All but the ends of buckets, "+Inf" among them, may come from events.
        names = (line.labels.get(name, "") if name == "le" else _cell(line.labels.get(name, "")) for name in LABELS)
        writer.writerow((*common, line.level, *names, line.metric, plain(line.value)))
    return text.getvalue()


def _cell(text: str) -> str:
    """A name that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t")) else text


def as_object(found: Report, period: str) -> dict[str, Any]:
    """What `--json` writes; values are decimal strings, as in report.json."""
    from attribution.families import plain
    from attribution.outcome import moment

    return {
        "period": period,
        "as_of": moment(found.end),
        "config": found.marketing.digest(),
        "currency": found.marketing.reporting_currency,
        "rows": [
            {"level": line.level, "metric": line.metric, **line.labels, "value": plain(line.value)}
            for line in lines(found, period)
        ],
        "platform": [
            {
                name: value if isinstance(value, str) or value is None else plain(value)
                for name, value in one._asdict().items()
            }
            for one in beside(found, period)
        ],
    }


_ONE_ROW = frozenset(("channel", "network", "campaign", "model", "basis", "conversion", "currency"))
"""With other labels a metric has several rows for one name."""


class Board(NamedTuple):
    """The period under the first headline model: by metric, in all, by (channel, network), and by campaign."""

    total: dict[str, Decimal | int]
    channels: dict[tuple[str, ...], dict[str, Decimal | int]]
    campaigns: dict[tuple[str, ...], dict[str, Decimal | int]]


def board(found: Report, period: str) -> Board:
    """Purchases on the conversion basis, and what has no model; in all also what is of now."""
    model = found.marketing.headline_models[0]
    levels: dict[str, dict[tuple[str, ...], dict[str, Decimal | int]]] = {"total": {}, "channel": {}, "campaign": {}}
    for line in lines(found, period):
        of = line.labels
        if (of.get("model", model), of.get("basis", "conversion")) != (model, "conversion"):
            continue
        if of.get("conversion", "purchase") != "purchase" or not _ONE_ROW.issuperset(of):
            continue
        if line.level not in levels or not (line.windowed or line.level == "total"):
            continue
        names = tuple(of[name] for name in ("channel", "network", "campaign") if name in of)
        levels[line.level].setdefault(names, {})[line.metric] = line.value
    # A name that is told of persons alone, by an answer in a survey say, would be a line of blanks.
    columns = {metric for _, metric, _ in COLUMNS}
    for level in ("channel", "campaign"):
        levels[level] = {names: values for names, values in levels[level].items() if columns & values.keys()}
    return Board(levels["total"].get((), {}), by_spend(levels["channel"]), by_spend(levels["campaign"]))


def by_spend(
    found: dict[tuple[str, ...], dict[str, Decimal | int]],
) -> dict[tuple[str, ...], dict[str, Decimal | int]]:
    """The largest revenue first, then the largest cost; reserved names last."""

    def rank(item: tuple[tuple[str, ...], dict[str, Decimal | int]]) -> tuple[Any, ...]:
        names, values = item
        reserved = names[0].startswith("(") or names[-1] == "(other)"
        return reserved, -values.get("attributed_revenue", 0), -values.get("cost", 0), names

    return dict(sorted(found.items(), key=rank))


def shown(value: Decimal | int | None, *, percent: bool = False, digits: int = 2) -> str:
    """A number as people read it; "-" when undefined."""
    if value is None:
        return "-"
    return f"{value * 100:,.1f} %" if percent else f"{value:,.{digits}f}"


COLUMNS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("visits", "visits", {"digits": 0}),
    ("conversions", "attributed_conversions", {}),
    ("revenue", "attributed_revenue", {}),
    ("cost", "cost", {}),
    ("CPA", "cpa", {}),
    ("ROAS", "roas_ratio", {}),
    ("ROI on revenue", "roi_on_revenue_ratio", {"percent": True}),
    ("ROI", "roi_ratio", {"percent": True}),
    ("CAC", "cac", {}),
)
"""Of a line of people's tables: heading, metric, and how it is shown."""


def _show(found: Report, period: str) -> None:
    read = board(found, period)
    currency, model = found.marketing.reporting_currency, found.marketing.headline_models[0]
    headings = [heading for heading, _, _ in COLUMNS]
    title = f"{period} to {when(found.end)} UTC, {model}, purchases, {currency}"
    made = table("channel", "network", *headings, title=title)
    for column in made.columns[2:]:
        column.justify = "right"
    for names, values in [*read.channels.items(), (("in all", ""), read.total)]:
        cells = [shown(values.get(metric), **how) for _, metric, how in COLUMNS]
        made.add_row(*row(*names, *cells))
    console().print(made)
    say()
    say(_told(_blended(), read.total) or "no number of all orders in this period")
    if read.total.get("customers"):
        say(_told(_customers(), read.total))
    nobodys = unattributed(found, period)
    if nobodys:
        say(f"unattributed {sum(nobodys.values())}: " + ", ".join(f"{n} {reason}" for reason, n in nobodys.items()))
    _show_claims(found, period)
    say(f"configuration {found.marketing.digest()}")


def _told(what: Iterable[tuple[str, str, dict[str, Any]]], total: dict[str, Decimal | int]) -> str:
    return ", ".join(f"{name} {shown(total[metric], **how)}" for name, metric, how in what if metric in total)


def unattributed(found: Report, period: str) -> dict[str, int]:
    """Purchases that no touch is credited for, by reason, the most frequent first; reasons without any are left out."""
    counts = {
        line.labels["reason"]: int(line.value)
        for line in lines(found, period)
        if "reason" in line.labels and line.labels["conversion"] == "purchase" and line.value
    }
    return dict(sorted(counts.items(), key=lambda item: -item[1]))


class Beside(NamedTuple):
    """What a network claims of purchases and their revenue in a period, and what the first headline model attributes to it."""

    channel: str
    network: str
    claimed: Decimal | None
    attributed: Decimal | int
    claimed_value: Decimal | None
    attributed_value: Decimal | int


def beside(found: Report, period: str) -> list[Beside]:
    """Platform claims beside ours, of every channel and network that reports any."""
    from attribution.claims import CONVERSIONS, VALUE, Reports, Told, merged
    from attribution.formulas import units
    from attribution.rollups import Calendar
    from attribution.windows import spans

    span = spans(found.end, Calendar(found.marketing.time_zone)).get(period)
    if span is None:
        return []
    ours = board(found, period).channels
    parts: dict[tuple[str, str], list[Told]] = {}
    place = _places(found)
    for source, part in Reports(found.costs).figures(span.low, span.stop):
        parts.setdefault(place(source), []).append(part)
    lines_ = []
    for (channel, network), told in sorted(parts.items()):
        figures = merged(told).figures
        if CONVERSIONS in figures or VALUE in figures:
            said = ours.get((channel, network), {})
            value = units(figures[VALUE]) if VALUE in figures else None
            count = Decimal(figures[CONVERSIONS]) if CONVERSIONS in figures else None
            attributed = said.get("attributed_conversions", 0), said.get("attributed_revenue", 0)
            lines_.append(Beside(channel, network, count, attributed[0], value, attributed[1]))
    return lines_


def _places(found: Report) -> Callable[[tuple[str, str]], tuple[str, str]]:
    """Where the rows show a channel with its network: by its name, in whatever case, or in the sum of those without rows of their own."""
    from models.results import OTHER

    names = {(of["channel"], of["network"]) for _, labels, _ in found.rows if "channel" in (of := dict(labels))}
    folded = {(channel.casefold(), network.casefold()): (channel, network) for channel, network in sorted(names)[::-1]}
    rest = (OTHER, OTHER)

    def place(source: tuple[str, str]) -> tuple[str, str]:
        if source in names:
            return source
        channel, network = source
        return folded.get((channel.casefold(), network.casefold()), rest if rest in names else source)

    return place


def _show_claims(found: Report, period: str) -> None:
    lines_ = beside(found, period)
    if not lines_:
        return
    headings = ("conversions claimed", "attributed", "difference", "value claimed", "attributed", "difference")
    made = table("channel", "network", *headings, title="platform claims")
    for column in made.columns[2:]:
        column.justify = "right"
    for one in lines_:
        cells = []
        for claimed, ours in ((one.claimed, one.attributed), (one.claimed_value, one.attributed_value)):
            cells += [shown(claimed), shown(ours), shown(None if claimed is None else claimed - ours)]
        made.add_row(*row(one.channel, one.network, *cells))
    console().print(made)
    say()


def _blended() -> Iterable[tuple[str, str, dict[str, Any]]]:
    return (
        ("orders", "orders", {"digits": 0}),
        ("revenue", "revenue", {}),
        ("MER", "mer_ratio", {}),
        ("blended CPA", "blended_cpa", {}),
        ("AOV", "aov", {}),
        ("orders per visit", "orders_per_visit_ratio", {"percent": True}),
        ("new customers", "new_customers", {"digits": 0}),
        ("visitors", "visitors", {"digits": 0}),
        ("conversion rate", "conversion_rate_ratio", {"percent": True}),
        ("reach", "reach", {"digits": 0}),
        ("NPS", "nps_points", {"digits": 0}),
    )


def _customers() -> Iterable[tuple[str, str, dict[str, Any]]]:
    return (
        ("customers of twelve months", "customers", {"digits": 0}),
        ("revenue to date of each", "customer_revenue_to_date", {}),
        ("expected in a year", "clv_expected", {}),
        ("with a second order", "repeat_ratio", {"percent": True}),
    )
