"""`parcours replay`: the attribution of files of events in one batch pass."""

from __future__ import annotations

from collections import Counter, defaultdict
from decimal import Decimal
from pathlib import Path
from typing import IO, Annotated, Any

import msgspec
import orjson
import typer

from attribution.money import MICRO, to_micros
from attribution.replay import Replay
from models.errors import CATALOGUE
from models.results import UNATTRIBUTED, Attribution
from streams.cli.common import ConfigFile, Failure, console, infrastructure, marketing_of, progress, row, say, table
from streams.files import by_time, read

NAME = "replay"
_LEFT_OUT = ("config", "version")


def command(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="A folder of <topic>.jsonl files, or one file.")],
    out: Annotated[Path, typer.Option("--out", help="The folder for the results; made when it is missing.")],
    config: ConfigFile = None,
) -> None:
    """Attribute files of events in one batch pass: no Kafka, no Redis, the same credits as the stream's.

    Writes attributions.jsonl (a line per conversion), report.json (the KPIs) and refused.jsonl (what was not accepted, and
    why).

    \b
    Examples:
      parcours replay shop --config shop/parcours.toml --out result
      parcours replay events.jsonl --out result
    """
    from attribution.report import report

    marketing, rates = marketing_of(infrastructure(config=config).config)
    replay = Replay(marketing, rates)
    records = by_time(read(source))
    try:
        out.mkdir(parents=True, exist_ok=True)
        with (out / "refused.jsonl").open("wb") as refused, progress("reading", len(records)) as bar:
            _take(replay, records, refused, bar)
        if not replay.accepted:
            raise Failure(f"{source}: none of {len(records)} events was accepted; {out / 'refused.jsonl'} says why")
        with progress("attributing", replay.accepted) as bar:
            replay.finish(lambda done: bar.update(0, completed=done))
        attributions = list(replay.attributions())
        with (out / "attributions.jsonl").open("wb") as file:
            for attribution in attributions:
                file.write(encode(attribution) + b"\n")
        summary: dict[str, Any] = report(replay)
        (out / "report.json").write_bytes(orjson.dumps(summary, option=orjson.OPT_INDENT_2) + b"\n")
    except OSError as error:
        raise Failure(f"{error.filename}: {error.strerror}") from None
    _tell(replay, attributions, out)


def _take(replay: Replay, records: list[Any], refused: IO[bytes], bar: Any) -> None:
    for done, record in enumerate(records):
        before = len(replay.refused)
        replay.take(record.topic, record.value)
        if len(replay.refused) > before:
            reason = replay.refused[-1]
            line = {"where": record.where, "code": reason.code, "path": reason.path, "message": reason.message}
            refused.write(orjson.dumps(line) + b"\n")
        if done % 1000 == 0:
            bar.update(0, completed=done)


def encode(attribution: Attribution) -> bytes:
    """A line of attributions.jsonl: all of an attribution but what only a stream has."""
    fields = msgspec.to_builtins(attribution)
    for name in _LEFT_OUT:
        del fields[name]
    return orjson.dumps(fields)


def _tell(replay: Replay, attributions: list[Attribution], out: Path) -> None:
    model = replay.marketing.headline_models[0]
    currency = replay.marketing.reporting_currency
    sums: defaultdict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
    statuses: Counter[str] = Counter()
    for attribution in attributions:
        statuses[attribution.status] += 1
        if attribution.conversion != "purchase" or attribution.status == "withdrawn":
            continue
        credits = attribution.credits.get(model, [])
        for credit in credits:
            cell = sums[credit.channel, credit.network]
            cell[0] += _micros(credit.conversions)
            cell[1] += _micros(credit.revenue)
        if not credits:
            cell = sums[UNATTRIBUTED, "(none)"]
            cell[0] += MICRO
            cell[1] += _micros(attribution.revenue_net)
    for _, cost in replay.costs():
        sums[cost.dims[0], cost.dims[1]][2] += cost.amount
    shown = table(
        "channel", "network", "orders", f"revenue {currency}", f"cost {currency}", "ROAS", title=f"Credit by {model}",
    )  # fmt: skip
    for column in shown.columns[2:]:
        column.justify = "right"
    for (channel, network), (orders, revenue, cost) in sorted(sums.items(), key=lambda item: -item[1][1]):
        roas = f"{revenue / cost:.2f}" if cost else "-"
        shown.add_row(*row(channel, network, f"{orders / MICRO:,.2f}", money(revenue), money(cost), roas))
    console().print(shown)
    if replay.refused:
        refusals = table("refused", "events", "fix", right="events")
        for code, n in Counter(reason.code for reason in replay.refused).most_common():
            refusals.add_row(*row(code, n, CATALOGUE[code].fix))
        say()
        console().print(refusals)
    say()
    say(f"{replay.accepted} events accepted, {len(replay.refused)} refused; {len(attributions)} conversions: "
        + ", ".join(f"{n} {status}" for status, n in sorted(statuses.items())))  # fmt: skip
    say(f"Written to {out}: attributions.jsonl, report.json, refused.jsonl")


def _micros(text: str) -> int:
    return to_micros(Decimal(text))


def money(micros: int) -> str:
    """An amount as people read it: two decimals, thousands apart."""
    return f"{Decimal(micros).scaleb(-6):,.2f}"
