"""`parcours reconcile`: the shop's own list of orders beside those that are known here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from models.settings import Infrastructure
from streams.cli.common import (
    FAILED,
    Failure,
    Json,
    RedisUrl,
    Usage,
    console,
    infrastructure,
    progress,
    row,
    say,
    table,
)
from streams.cli.reach import bare, redis_reachable
from streams.reconcile import Difference, Reconciled, known_orders, read_orders, reconcile
from streams.security import redis_options

NAME = "reconcile"
SHOWN = 20


def command(
    orders: Annotated[
        Path, typer.Argument(metavar="ORDERS.CSV", help="A CSV file with a header, one line per order or order line.")
    ],
    id_column: Annotated[
        str, typer.Option("--id", help="The column with the order id.", metavar="COLUMN")
    ] = "order_id",
    amount_column: Annotated[
        str,
        typer.Option("--amount", help="The column with the revenue, in the order's own currency.", metavar="COLUMN"),
    ] = "revenue",
    net: Annotated[bool, typer.Option("--net", help="The amounts are after refunds.")] = False,
    since: Annotated[
        str | None,
        typer.Option(
            "--since", help="Look for extra orders from this date on (UTC).", metavar="DATE", show_default=False
        ),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(
            "--until", help="And before this date (UTC). Default: no end.", metavar="DATE", show_default=False
        ),
    ] = None,
    json: Json = False,
    redis_url: RedisUrl = None,
) -> None:
    """Compare a list of orders with those known here: matched, missing here, extra here, and different in amount.

    Extra orders are looked for with --since only: that looks through all orders. Exit code 1 when the two differ.

    \b
    Examples:
      parcours reconcile orders.csv
      parcours reconcile orders.csv --id Name --amount Subtotal --since 2026-03-01 --until 2026-04-01
      parcours reconcile orders.csv --net --json
    """
    span = None if since is None else (_day("--since", since), 1 << 62 if until is None else _day("--until", until))
    if until is not None and since is None:
        raise Usage("--until: give --since too")
    with progress("reading") as bar:
        theirs = read_orders(orders, id_column, amount_column, bar)
    infra = infrastructure(redis_url=redis_url)
    redis_reachable(infra.redis_url, **redis_options(infra))
    with progress("comparing") as bar:
        found = asyncio.run(_compare(infra, theirs, span, net, bar))
    if json:
        say(msgspec.json.encode(found).decode())
    else:
        _print(found, searched=span is not None)
    if not found.agrees:
        raise typer.Exit(FAILED)


def _day(option: str, text: str) -> int:
    try:
        return int(datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()) * 1_000_000
    except ValueError:
        raise Usage(f"{option}: {text!r} is not a date such as 2026-01-31") from None


async def _compare(
    infra: Infrastructure,
    theirs: dict[str, int],
    span: tuple[int, int] | None,
    net: bool,
    progressed: Callable[[int], None],
) -> Reconciled:
    from models.settings import Marketing
    from streams.generations import located
    from streams.tables import configs, connect

    redis = connect(infra.redis_url, **redis_options(infra))
    try:
        generation = (await located(redis, infra)).generation
        known = await configs(redis, generation)
        if not known:
            raise Failure(
                f"no worker has used {bare(infra.redis_url)} yet (generation {generation}): there are no orders in it"
            )
        partitions = Marketing.from_text(known[max(known)]).topics.journey_events
        ours = await known_orders(redis, generation, partitions, theirs, span, progressed)
        return reconcile(theirs, ours, net=net)
    finally:
        await redis.aclose()


def _print(found: Reconciled, *, searched: bool) -> None:
    extra = f"{len(found.extra):,} extra" if searched else "extra not looked for (--since)"
    say(
        f"{found.matched:,} matched, {len(found.missing):,} missing, {extra}, {len(found.different):,} different in amount"
    )
    for title, lines in (("missing", found.missing), ("extra", found.extra), ("different", found.different)):
        if lines:
            say()
            _table(title, lines)


def _table(title: str, lines: list[Difference]) -> None:
    shown = table("order", "time", "in the file", "here", "currency", "", right="here", title=title)
    for line in lines[:SHOWN]:
        shown.add_row(*row(
            line.order_id, line.occurred_at or "", line.theirs or "", line.ours or "", line.currency or "", line.gone or ""
        ))  # fmt: skip
    console().print(shown)
    if len(lines) > SHOWN:
        say(f"and {len(lines) - SHOWN:,} more; --json has all")
