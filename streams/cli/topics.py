"""`parcours topics create`."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from models.settings import load_marketing
from streams.cli.common import FAILED, ConfigFile, KafkaUrl, console, infrastructure, note, row, table
from streams.cli.reach import kafka_reachable
from streams.security import kafka_options

app = typer.Typer(
    no_args_is_help=True, help="The Kafka topics that Parcours reads and writes.", rich_markup_mode="rich"
)
_WORDS = {"missing": "to be created", "created": "created", "exists": "exists", "differs": "DIFFERS"}


@app.callback()
def topics() -> None:
    """The Kafka topics that Parcours reads and writes."""


@app.command("create")
def create(
    replication: Annotated[
        int, typer.Option("--replication", min=1, max=32, help="Replicas of each partition; 3 in production.")
    ] = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    config: ConfigFile = None,
    kafka_url: KafkaUrl = None,
) -> None:
    """Create the topics that are missing, with the partition counts of the configuration.

    Topics that exist are compared and never changed. Exit code 1 when a count differs: stored state depends on it.

    \b
    Examples:
      parcours topics create --dry-run
      parcours topics create --replication 3 --config parcours.toml
      parcours topics create --kafka-url kafka://broker-1:9092
    """
    from streams.topics import create as create_topics

    infra = infrastructure(kafka_url=kafka_url, config=config)
    marketing = load_marketing(infra.config)
    servers = kafka_reachable(infra.kafka_url, **kafka_options(infra))
    made = create_topics(servers, marketing, replication=replication, dry_run=dry_run, options=kafka_options(infra))
    found = asyncio.run(made)
    shown = table("topic", "partitions", "state", "settings", "note", right="partitions")
    for topic, state, count, text in found:
        settings = " ".join(f"{name}={value}" for name, value in topic.settings.items())
        # The settings of what exists are not looked at: nothing is said of them.
        settings = "" if state in ("exists", "differs") or text else settings
        shown.add_row(*row(topic.name, topic.partitions if count is None else count, _WORDS[state], settings, text))
    console().print(shown)
    wrong = [
        f"{item.topic.name} has {item.found} partitions, not {item.topic.partitions}"
        for item in found
        if item.state == "differs"
    ]
    absent = [item.topic.name for item in found if item.state == "missing" and not dry_run]
    if wrong:
        note(f"Error: {'; '.join(wrong)}. Correct [topics] in the configuration, or start with new topics.")
    if absent:
        note(f"Error: Kafka did not make {', '.join(absent)}.")
    if wrong or absent:
        raise typer.Exit(FAILED)
