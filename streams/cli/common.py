"""What the commands share: consoles, settings, errors and their exit codes."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from models.settings import Infrastructure, Marketing, Rate, load_marketing

FAILED, USAGE, INTERRUPTED = 1, 2, 130
PLAIN_WIDTH = 140
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff\ud800-\udfff]")


class Failure(Exception):
    """The command can't do its work: one line on stderr, exit code 1."""


class Usage(Exception):
    """The command was called wrongly, or its configuration is wrong: one line on stderr, exit code 2."""


KafkaUrl = Annotated[
    str | None,
    typer.Option(
        "--kafka-url", help="Kafka, as kafka://host:9092. [PARCOURS_KAFKA_URL]", show_default=False, metavar="URL"
    ),
]
RedisUrl = Annotated[
    str | None,
    typer.Option(
        "--redis-url", help="Redis, as redis://host:6379/0. [PARCOURS_REDIS_URL]", show_default=False, metavar="URL"
    ),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", help="The marketing configuration, a TOML file. [PARCOURS_CONFIG]", show_default=False),
]
Json = Annotated[bool, typer.Option("--json", help="Write JSON for programs.")]


def console(*, error: bool = False) -> Console:
    """A console on stdout or stderr. Where there is no terminal, lines may be wide: nothing wraps them."""
    plain = Console(stderr=error, highlight=False, soft_wrap=False, emoji=False)
    if not plain.is_terminal and not os.environ.get("COLUMNS"):
        return Console(stderr=error, highlight=False, width=PLAIN_WIDTH, emoji=False)
    return plain


def safe(text: object) -> str:
    """Text from outside as one printable line: what could move a cursor or turn a line round is written as an escape."""
    return _UNPRINTABLE.sub(lambda match: ascii(match[0])[1:-1], str(text))


def say(text: object = "") -> None:
    """A line on stdout, as it is."""
    console().print(Text(safe(text)), soft_wrap=True)


def note(text: object) -> None:
    """A line on stderr, as it is."""
    console(error=True).print(Text(safe(text)), soft_wrap=True)


def table(*columns: str, right: str = "", title: str | None = None) -> Table:
    """A table with these columns; those named in `right` (separated by blanks) are aligned to the right."""
    made = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    aligned = right.split()
    for column in columns:
        made.add_column(column, justify="right" if column in aligned else "left", overflow="fold")
    return made


def row(*cells: object) -> list[Text]:
    """Cells of a table, none of which is read as markup."""
    return [cell if isinstance(cell, Text) else Text(safe(cell)) for cell in cells]


@contextmanager
def progress(what: str, total: float | None = None) -> Iterator[Callable[[int], None]]:
    """A progress bar on stderr, to be told how many are done; nothing where there is no terminal."""
    screen = console(error=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=screen, disable=not screen.is_terminal, transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=done)


def infrastructure(**given: Any) -> Infrastructure:
    """Settings from the environment, those given as options first. Raises Usage naming the variable."""
    try:
        return Infrastructure(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else "?"
        got = "" if "password" in name or name.endswith(("_url", "_key", "_token")) else f"; got {first.get('input')!r}"
        raise Usage(f"PARCOURS_{name.upper()}: {first['msg']}{got}") from None


def marketing_of(path: Path | None) -> tuple[Marketing, list[Rate]]:
    """The configuration and the rows of its rates file. Raises ConfigError."""
    from streams.rates import load_rates

    marketing = load_marketing(path)
    return marketing, load_rates(marketing, path)


def when(t: int) -> str:
    """Microseconds as a UTC time that people read."""
    return datetime.fromtimestamp(t / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%S")
