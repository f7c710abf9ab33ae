"""`parcours simulate`: files of a simulated shop, with known truth."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from streams.cli.common import Usage, say

NAME = "simulate"


def command(
    out: Annotated[Path, typer.Option("--out", help="The folder to write to; made when it is missing.")],
    days: Annotated[float, typer.Option("--days", min=0.01, max=1000, help="How many days to simulate.")] = 75,
    seed: Annotated[
        int, typer.Option("--seed", help="Another seed is another world; the same one the same bytes.")
    ] = 1,
    persons: Annotated[int, typer.Option("--persons", min=1, max=1_000_000, help="How many persons.")] = 2000,
    start: Annotated[str, typer.Option("--start", help="The first day, as 2026-01-01.")] = "2026-01-01",
) -> None:
    """Write a simulated shop's clicks, touchpoints, purchases and costs, and the configuration to read them with.

    truth.json has each channel's true effect, which attribution can only estimate.

    \b
    Examples:
      parcours simulate --out shop
      parcours simulate --out shop --days 7 --persons 500 --seed 3
      parcours replay shop --config shop/parcours.toml --out result
    """
    from streams.simulator import PARCOURS_TOML, Simulation

    try:
        first = datetime.fromisoformat(start)
    except ValueError:
        raise Usage(f"--start: {start!r} is not a date such as 2026-01-01") from None
    if out.exists() and not out.is_dir():
        raise Usage(f"--out: {out} is a file; give a folder")
    simulation = Simulation(
        seed, start=first if first.tzinfo else first.replace(tzinfo=UTC), days=days, persons=persons
    )
    truth = simulation.write(out)
    (out / "parcours.toml").write_text(PARCOURS_TOML, "utf-8")
    for file in sorted(out.glob("*.jsonl")):
        with file.open("rb") as lines:
            say(f"{file}: {sum(1 for _ in lines)} events")
    say(f"{out / 'parcours.toml'}: the configuration")
    say(f"{out / 'truth.json'}: {truth['conversions']} orders, {truth['net_revenue']} {truth['currency']} net")
