"""`parcours demo`: all of it on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Annotated

import typer
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from streams.cli.common import Failure, Usage, console, row, say, table

if TYPE_CHECKING:
    from streams.demo import Board, Demo

NAME = "demo"
WINDOWS = ("1h", "24h", "7d", "30d")
_PLAIN_SECONDS = 5.0


def command(
    for_: Annotated[
        float | None,
        typer.Option("--for", min=0, metavar="SECONDS", help="End so long after going live.", show_default=False),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Another seed is another shop.")] = 1,
    persons: Annotated[int, typer.Option("--persons", min=1, max=100_000, help="How many persons it has.")] = 2000,
    days: Annotated[float, typer.Option("--days", min=1, max=400, help="Days of history, which end now.")] = 75,
    rate: Annotated[float, typer.Option("--rate", min=0.1, max=1000, help="Live events a second.")] = 8,
    window: Annotated[str, typer.Option("--window", help=f"The table's window: {', '.join(WINDOWS)}.")] = "7d",
    port: Annotated[
        str, typer.Option("--port", help="Port of the worker's pages; auto is 6066, or a free one when that is taken.")
    ] = "auto",
    keep: Annotated[bool, typer.Option("--keep", help="Keep the configuration and the worker's log.")] = False,
    plain: Annotated[bool, typer.Option("--plain", help="Print the table every few seconds, as text.")] = False,
) -> None:
    """Run all of Parcours here: a broker, Redis, a worker, and a simulated shop, with nothing to install or clean up.

    It publishes 75 days of history, goes live, and shows touches, conversions, revenue, cost, CPA, ROAS and ROI as they change, until Ctrl-C.

    \b
    Examples:
      parcours demo
      parcours demo --for 60 --plain
      parcours demo --days 30 --persons 500 --seed 3 --window 24h
    """
    if window not in WINDOWS:
        raise Usage(f"--window: {window!r} is none of {', '.join(WINDOWS)}")
    from streams.demo import Demo
    from streams.embedded import free_port

    demo = Demo(seed=seed, persons=persons, days=days, rate=rate, port=_port_of(port, free_port))
    try:
        asyncio.run(_run(demo, for_, window, plain or not console().is_terminal))
    except asyncio.CancelledError:
        pass
    finally:
        say("Stopping...")
        demo.stop(keep=keep)
        say(f"Stopped; kept {demo.directory}" if keep else "Stopped; nothing is left behind.")


def _port_of(text: str, any_port: object) -> int | None:
    """The port asked for; None for auto."""
    from streams.cli.worker import check_port

    if text == "auto":
        return None
    if not text.isdigit() or int(text) > 65_535:
        raise Usage(f"--port: {text!r} is not a port; give a number up to 65535, or auto")
    if int(text) == 0:
        assert callable(any_port)
        return int(any_port())
    try:
        check_port("127.0.0.1", int(text), "--port")
    except Failure as error:
        raise Usage(str(error)) from None
    return int(text)


async def _run(demo: Demo, seconds: float | None, window: str, plain: bool) -> None:
    from streams.demo import TOKEN, cancel_on_signals

    cancel_on_signals()
    say("Starting a broker, Redis and a worker...")
    await demo.start()
    await _load(demo, plain)
    say()
    say(f"page     {demo.address}/ (token of its journeys: {TOKEN})")
    say(f"metrics  {demo.address}/metrics")
    say(f"ready    {demo.address}/readyz")
    say(f"status   {demo.address}/api/status")
    say(f"journey  parcours journey u42 --redis-url {demo.redis.url}")
    say(f"publish  parcours publish INPUT --kafka-url {demo.broker.url}")
    say("Ctrl-C ends it." if seconds is None else f"It ends after {seconds:g} seconds.")
    say()
    publisher = asyncio.create_task(demo.live())
    try:
        async with contextlib.aclosing(
            _boards(demo, seconds, window, publisher, _PLAIN_SECONDS if plain else 1.0)
        ) as boards:
            await _show(boards, plain, demo)
    finally:
        publisher.cancel()
        await asyncio.gather(publisher, return_exceptions=True)


async def _load(demo: Demo, plain: bool) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    began = time.monotonic()
    with Progress(*columns, console=console(), disable=plain, transient=True) as bar:
        publishing = bar.add_task("publishing the history", total=None)
        applying = bar.add_task("attributing it", total=None)
        spoken, said = began, ""

        def applied(n: int, of: int) -> None:
            nonlocal spoken, said
            bar.update(applying, completed=n, total=of)
            if plain and time.monotonic() - spoken > _PLAIN_SECONDS:
                spoken = time.monotonic()
                text = f"{n:,} of {of:,} events read" if n < of else "all events read; attributing the last of them"
                if text != said:
                    say(said := text)

        await demo.load(lambda n: bar.update(publishing, completed=n), applied)
    say(f"{demo.published:,} events of history attributed in {time.monotonic() - began:.1f} s")


async def _boards(
    demo: Demo, seconds: float | None, window: str, publisher: asyncio.Task[None], pause: float
) -> AsyncGenerator[tuple[Board, Board, Board], None]:
    """(now, before, at first) until the time is up; the last one as late as can be."""
    end = None if seconds is None else time.monotonic() + seconds
    first = before = None
    while True:
        board = await demo.board(window)
        if board is not None:
            first = first or board
            yield board, before or first, first
            before = board
        if publisher.done():
            publisher.result()
            raise Failure("the simulated shop fell silent")
        left = pause if end is None else min(pause, end - time.monotonic())
        if left <= 0:
            return
        await asyncio.sleep(left)


async def _show(boards: AsyncGenerator[tuple[Board, Board, Board], None], plain: bool, demo: Demo) -> None:
    if plain:
        async for board, before, first in boards:
            console().print(_table(board, before, first, demo))
            say()
        return
    with Live(console=console(), auto_refresh=False) as live:
        async for board, before, first in boards:
            live.update(_table(board, before, first, demo), refresh=True)


def _table(board: Board, before: Board, first: Board, demo: Demo) -> Table:
    shown = table("channel", "network", "touches", "conversions", "revenue", "cost", "CPA", "ROAS", "ROI")
    shown.title = f"{board.window}, {board.model}, purchases, {demo.marketing.reporting_currency}"
    for column in shown.columns[2:]:
        column.justify = "right"
    for line in board.lines:
        roi = "-" if line.roi is None else f"{line.roi * 100:,.1f} %"
        numbers = [_number(value) for value in (line.conversions, line.revenue, line.cost, line.cpa, line.roas)]
        shown.add_row(*row(line.channel, line.network, f"{line.touches:,.0f}", *numbers, roi))
    span = board.read_at - before.read_at
    rate = f"{(board.events - before.events) / span:.1f} events/s" if span > 0 else "going live"
    p99 = board.p99(first)
    latency = "" if p99 is None else " · latency p99 over an hour" if p99 == math.inf else f" · latency p99 ≤ {p99:g} s"
    shown.caption = f"{rate} · lag {board.lag:,.0f} records{latency}\n{_watched(board, demo.fired)}"
    shown.caption_justify = "left"
    return shown


def _watched(board: Board, fired: set[str]) -> str:
    """A line on alerts, and one on each goal."""
    lines = []
    for name, figures in board.firing.items():
        value = f"CPA {figures['value']:,.2f}" if "value" in figures else "no order"
        lines.append(
            f"ALERT {name}: {value}, surely above {figures['bound']:,.2f}, threshold {figures['threshold']:,.2f}"
        )
    resolved = sorted(fired - board.firing.keys())
    if resolved or not lines:
        lines.append(f"no alert now; resolved: {', '.join(resolved)}" if resolved else "no alert")
    for name, figures in board.goals.items():
        if "progress_ratio" in figures:
            done, due = figures["progress_ratio"], figures["expected_ratio"]
            track = "on track" if figures.get("on_track") else "behind"
            lines.append(f"goal {name}: {done:.0%} of {figures['target']:,.0f}, {due:.0%} due by now, {track}")
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.2f}"
