"""`parcours` itself: the commands, and what becomes of their errors.

Exit codes: 0 done, 1 failed, 2 called wrongly or configured wrongly, 130 Ctrl-C.
"""

from __future__ import annotations

import sys
import traceback
from importlib import metadata
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from models.errors import ConfigError
from streams.cli import (
    alerts,
    audit,
    check,
    config,
    demo,
    dlq,
    forget,
    journey,
    publish,
    rebuild,
    reconcile,
    replay,
    report,
    simulate,
    sources,
    topics,
    worker,
)
from streams.cli.common import FAILED, INTERRUPTED, USAGE, Failure, Usage, note
from streams.embedded import EmbeddedServerError
from streams.files import InputError


class Commands(TyperGroup):
    """Turns what a command raises into one line and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort, SystemExit):
            raise
        except KeyboardInterrupt:
            note("Stopped.")
            raise typer.Exit(INTERRUPTED) from None
        except (ConfigError, Usage, InputError) as error:
            note(f"Error: {error}")
            raise typer.Exit(USAGE) from None
        except Failure as error:
            note(f"Error: {error}")
            raise typer.Exit(FAILED) from None
        except EmbeddedServerError as error:
            # The tail of the server's log comes with it.
            for line in f"Error: {error}".splitlines():
                note(line)
            raise typer.Exit(FAILED) from None
        except BrokenPipeError:
            # Whoever read us has gone (`parcours ... | head`); nothing is wrong, and nothing more can be said.
            sys.stdout = None  # type: ignore[assignment]
            raise typer.Exit(FAILED) from None
        except Exception as error:
            if type(error).__module__.startswith(("typer.", "click.")):
                raise
            if ctx.params.get("debug"):
                traceback.print_exc()
            else:
                command = f"parcours --debug {ctx.invoked_subcommand or ''}".strip()
                note(f"Error: {type(error).__name__}: {error} (a bug? See where: {command} ...)")
            raise typer.Exit(FAILED) from None


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"parcours {metadata.version('parcours')}")
        raise typer.Exit


@app.callback()
def root(
    debug: Annotated[bool, typer.Option("--debug", help="Show where an unexpected error comes from.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Real-time marketing attribution: events from Kafka, exact credits out, ROI and CPA for Prometheus.

    \b
    Examples:
      parcours demo
      parcours check events.jsonl
      parcours COMMAND --help
    """


for module in (demo, worker, publish, replay, report, audit, simulate, check, journey, reconcile, forget, rebuild):
    app.command(module.NAME)(module.command)
app.add_typer(topics.app, name="topics")
app.add_typer(config.app, name="config")
app.add_typer(dlq.app, name="dlq")
app.add_typer(sources.app, name="sources")
app.add_typer(alerts.app, name="alerts")


def main() -> None:
    """The entry point of `parcours`."""
    app(prog_name="parcours")
