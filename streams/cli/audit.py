"""`parcours audit`: what does not fit together between costs and touches."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from models.settings import Infrastructure, Marketing
from streams.cli.common import FAILED, ConfigFile, Json, RedisUrl, Usage, console, infrastructure, row, say, table, when
from streams.cli.numbers import replayed, stored

if TYPE_CHECKING:
    from attribution.audit import Finding
    from attribution.nodes.state import CostRow
    from attribution.windows import Sums

NAME = "audit"
_TITLES = {
    "spend_without_touches": "Money was spent, and no touch is known: a tag is missing, or the names differ",
    "almost_the_same_name": "Names that are almost the same: if they mean one campaign, say so in [campaign_aliases]",
    "touches_without_spend": "Touches of a paid channel, and no cost is known: a report is missing, or the names differ",
    "overlap": "Rows of one campaign that overlap: is something counted twice? A correction has the same cost_id",
    "unallocated": "Costs that name no channel, network or campaign, before any is spread",
}


def command(
    days: Annotated[str, typer.Option("--days", help="How many days back, the current one included.")] = "30",
    source: Annotated[
        Path | None,
        typer.Option("--input", help="Files of events to replay; without it, what a running system has in Redis."),
    ] = None,
    json: Json = False,
    config: ConfigFile = None,
    redis_url: RedisUrl = None,
) -> None:
    """Audit costs against touches: spend without touches, touches without spend, names that almost match, overlapping rows.

    Exit code 1 when something does not fit.

    \b
    Examples:
      parcours audit
      parcours audit --days 90 --json
      parcours audit --input shop --config shop/parcours.toml
    """
    if not re.fullmatch(r"[0-9]{1,3}", days) or not 1 <= int(days) <= 365:
        raise Usage(f"--days: {days!r} is not a number from 1 to 365")
    infra = infrastructure(config=config, redis_url=redis_url)
    marketing, sums, costs = _replayed(infra, source) if source is not None else _stored(infra)
    start = sums.calendar.shift(sums.calendar.day(sums.end), 1 - int(days))
    found = _audited(sums, costs, start)
    if json:
        say(orjson.dumps([_object(finding, marketing) for finding in found]).decode())
    else:
        _print(found, marketing, start, sums.end)
    if found:
        raise typer.Exit(FAILED)


def _replayed(infra: Infrastructure, source: Path) -> tuple[Marketing, Sums, dict[str, CostRow]]:
    from attribution.windows import Sums

    replay = replayed(infra, source)
    rollups, rows = replay.named()
    return replay.marketing, Sums.of(rollups, replay.marketing, replay.highest), rows


def _stored(infra: Infrastructure) -> tuple[Marketing, Sums, dict[str, CostRow]]:
    view = stored(infra)
    return view.marketing, view.books()[0], view.costs


def _audited(sums: Sums, costs: dict[str, CostRow], start: int) -> list[Finding]:
    from attribution.audit import audit

    end = sums.end + 1
    touches: dict[Any, int] = {}
    day = start
    while day < end:
        for dims, n in sums.spread().touches(day).items():
            touches[dims] = touches.get(dims, 0) + n
        day = sums.calendar.shift(day, 1)
    own = {
        dims: sum(amount for at, amount in amounts.items() if start <= at < end)
        for dims, amounts in sums.own["c"].items()
    }
    return audit(costs, own, touches, start, end)


def _object(finding: Finding, marketing: Marketing) -> dict[str, Any]:
    from attribution.money import major

    channel, network, campaign = finding.dims
    return {
        "kind": finding.kind, "channel": channel, "network": network, "campaign": campaign,
        "amount": major(finding.amount), "currency": marketing.reporting_currency, "touches": finding.touches,
        "cost_id": finding.cost_id or None, "other": finding.other or None,
    }  # fmt: skip


def _print(found: list[Finding], marketing: Marketing, start: int, end: int) -> None:
    from attribution.money import major

    say(f"Costs and touches from {when(start)} to {when(end)} UTC, in {marketing.reporting_currency}")
    if not found:
        say("All of it fits together.")
        return
    for kind, title in _TITLES.items():
        rows = [finding for finding in found if finding.kind == kind]
        if not rows:
            continue
        say()
        say(title)
        last = {"almost_the_same_name": "the touches' name", "overlap": "row, and the row before it"}.get(kind, "")
        columns = ("channel", "network", "campaign", "spent", "touches", *((last,) if last else ()))
        shown = table(*columns, right="spent touches")
        for finding in rows:
            other = f"{finding.cost_id}, {finding.other}" if finding.cost_id else finding.other
            spent = major(finding.amount) if finding.amount else ""
            shown.add_row(*row(*finding.dims, spent, finding.touches or "", *((other,) if last else ())))
        console().print(shown)
