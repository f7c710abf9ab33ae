"""`parcours replay`: the attribution of files of events in one batch pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import IO, Annotated, Any

import msgspec
import orjson
import typer

from attribution.replay import Replay
from models.errors import CATALOGUE
from models.results import Attribution
from streams.cli.common import ConfigFile, Failure, console, infrastructure, marketing_of, progress, row, say, table
from streams.files import InputRecord, by_time, read

NAME = "replay"
_LEFT_OUT = ("config", "version")


def command(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="A folder of <topic>.jsonl files, or one file.")],
    out: Annotated[Path, typer.Option("--out", help="The folder for the results; made when it is missing.")],
    config: ConfigFile = None,
) -> None:
    """Attribute files of events in one batch pass: no Kafka, no Redis, the same credits as the stream's.

    Writes attributions.jsonl (a line per conversion), report.json (the KPIs) and refused.jsonl (what was refused, and why).

    \b
    Examples:
      parcours replay shop --config shop/parcours.toml --out result
      parcours replay events.jsonl --out result
    """
    from attribution.report import report

    infra = infrastructure(config=config)
    marketing, rates = marketing_of(infra.config)
    replay = Replay(marketing, rates, key=infra.hash_key)
    records = by_time(read(source))
    try:
        out.mkdir(parents=True, exist_ok=True)
        with (out / "refused.jsonl").open("wb") as refused, progress("reading", len(records)) as bar:
            _take(replay, records, refused, bar)
        if not replay.accepted:
            raise Failure(f"{source}: none of {len(records)} events was accepted; {out / 'refused.jsonl'} says why")
        with progress("attributing", replay.accepted) as bar:
            replay.finish(bar)
        attributions = list(replay.attributions())
        with (out / "attributions.jsonl").open("wb") as file:
            for attribution in attributions:
                file.write(encode(attribution) + b"\n")
        summary: dict[str, Any] = report(replay)
        (out / "report.json").write_bytes(orjson.dumps(summary, option=orjson.OPT_INDENT_2) + b"\n")
    except OSError as error:
        raise Failure(f"{error.filename}: {error.strerror}") from None
    _tell(replay, summary, attributions, out)


def _take(replay: Replay, records: list[InputRecord], refused: IO[bytes], bar: Callable[[int], None]) -> None:
    for done, record in enumerate(records):
        before = len(replay.refused)
        replay.take(record.topic, record.value)
        if len(replay.refused) > before:
            reason = replay.refused[-1]
            line = {"where": record.where, "code": reason.code, "path": reason.path, "message": reason.message}
            refused.write(orjson.dumps(line) + b"\n")
        if done % 1000 == 0:
            bar(done)


def encode(attribution: Attribution) -> bytes:
    """A line of attributions.jsonl: all of an attribution but what only a stream has."""
    fields = msgspec.to_builtins(attribution)
    for name in _LEFT_OUT:
        del fields[name]
    return orjson.dumps(fields)


def _tell(replay: Replay, summary: dict[str, Any], attributions: list[Attribution], out: Path) -> None:
    model = replay.marketing.headline_models[0]
    currency = replay.marketing.reporting_currency
    names = ("channel", "network", "orders", f"revenue {currency}", f"cost {currency}", "CPA", "ROAS", "ROI")
    shown = table(*names, title=f"Credit by {model}")
    for column in shown.columns[2:]:
        column.justify = "right"
    found = summary["models"][model]
    # What neither brought nor cost anything is in report.json.
    lines = [line for line in found["channels"] if line["cost"] is not None or Decimal(line["conversions"])]
    lines.sort(key=lambda line: (-Decimal(line["revenue"]), line["channel"], line["network"]))
    for line in [*lines, {"channel": "attributed in all", "network": "", **found["total"]}]:
        numbers = [decimal(line[name]) for name in ("conversions", "revenue", "cost", "cpa", "roas")]
        roi = "-" if line["roi_on_revenue"] is None else f"{Decimal(line['roi_on_revenue']) * 100:,.1f} %"
        shown.add_row(*row(line["channel"], line["network"], *numbers, roi))
    console().print(shown)
    if replay.refused:
        refusals = table("refused", "events", "fix", right="events")
        for code, n in Counter(reason.code for reason in replay.refused).most_common():
            refusals.add_row(*row(code, n, CATALOGUE[code].fix))
        say()
        console().print(refusals)
    statuses = Counter(attribution.status for attribution in attributions)
    told = ", ".join(f"{n} {status}" for status, n in sorted(statuses.items()))
    say()
    say(
        f"{replay.accepted} events accepted, {len(replay.refused)} refused; {len(attributions)} conversions: {told or 'none'}"
    )
    say(f"Written to {out}: attributions.jsonl, report.json, refused.jsonl")


def decimal(text: str | None) -> str:
    """A decimal as people read it: two places, thousands apart; "-" when undefined."""
    return "-" if text is None else f"{Decimal(text):,.2f}"
