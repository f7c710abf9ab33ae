"""`parcours worker`."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from typing import Annotated, Any

import typer

from attribution.watermarks import topic_partitions
from models.errors import ConfigError
from models.settings import Infrastructure, Marketing, load_marketing
from streams.cli.common import INTERRUPTED, ConfigFile, Failure, KafkaUrl, RedisUrl, infrastructure
from streams.cli.reach import bare, kafka_reachable, redis_reachable
from streams.memory import tune_allocator
from streams.security import kafka_options, redis_options

NAME = "worker"
STOP_SECONDS = 9.0
log = logging.getLogger("parcours")


def command(
    kafka_url: KafkaUrl = None,
    redis_url: RedisUrl = None,
    config: ConfigFile = None,
    web_host: Annotated[
        str | None, typer.Option("--web-host", help="Where to serve /metrics. [PARCOURS_WEB_HOST]", show_default=False)
    ] = None,
    web_port: Annotated[
        int | None,
        typer.Option("--web-port", min=1, max=65_535, help="Its port. [PARCOURS_WEB_PORT]", show_default=False),
    ] = None,
) -> None:
    """Run a worker. Start more, on any machine, to share the partitions.

    SIGTERM and Ctrl-C stop it within 10 seconds; what is under way is finished, or done again by the next worker.

    \b
    Examples:
      parcours worker
      parcours worker --config parcours.toml --web-port 6067
      PARCOURS_KAFKA_URL=kafka://broker-1:9092 PARCOURS_REDIS_URL=redis://cache:6379/0 parcours worker
    """
    tune_allocator()
    infra = infrastructure(
        kafka_url=kafka_url, redis_url=redis_url, config=config, web_host=web_host, web_port=web_port
    )
    if infra.log_level.upper() not in logging.getLevelNamesMapping():
        raise ConfigError(f"PARCOURS_LOG_LEVEL: {infra.log_level!r} is none of DEBUG, INFO, WARNING, ERROR")
    marketing = load_marketing(infra.config)
    check_port(infra.web_host, infra.web_port, "--web-port")
    servers = kafka_reachable(infra.kafka_url, **kafka_options(infra))
    redis_reachable(infra.redis_url, **redis_options(infra))
    generation = asyncio.run(_generation(infra))
    _topics_there(servers, marketing, kafka_options(infra), generation)
    asyncio.run(_register(infra, generation, marketing))

    from streams.app import create_app

    app = create_app(infra, marketing)
    worker = _worker(app, infra.log_level)
    log.info("Kafka %s, Redis %s, metrics http://%s:%s/metrics",
             bare(infra.kafka_url), bare(infra.redis_url), infra.web_host, infra.web_port)  # fmt: skip
    try:
        worker.execute_from_commandline()
    except SystemExit as ended:
        if worker.interrupted:
            raise typer.Exit(INTERRUPTED) from None
        raise typer.Exit(int(ended.code or 0)) from None
    except ConfigError:
        raise
    except Exception as error:
        raise Failure(f"the worker ended: {type(error).__name__}: {error}") from error


def _worker(app: Any, level: str) -> Any:
    """Faust's worker, with an end to its stopping."""
    import faust

    class Worker(faust.Worker):
        interrupted = False

        def _schedule_shutdown(self, which: signal.Signals) -> None:
            self.interrupted = self.interrupted or which is signal.SIGINT
            # A stop that waits for a broker (one that is dead, or in the middle of a rebalance) must not last. Nothing is lost
            # by ending hard: what is not committed is done again.
            timer = threading.Timer(STOP_SECONDS, self._end)
            timer.daemon = True
            timer.start()
            super()._schedule_shutdown(which)

        def _end(self) -> None:
            log.warning("Not stopped after %.0f seconds: ending as it is", STOP_SECONDS)
            os._exit(INTERRUPTED if self.interrupted else 0)

        def _on_sigint(self) -> None:
            self._flag_as_shutdown_by_signal()
            self._schedule_shutdown(signal.SIGINT)

    worker = Worker(app, loglevel=level.upper(), redirect_stdouts=False, quiet=True)
    # It would write cursor movements into log files.
    worker.spinner = None
    return worker


def _topics_there(servers: list[str], marketing: Marketing, options: dict[str, Any], generation: int) -> None:
    """Raises Failure when topics are missing, ConfigError when one has another number of partitions."""
    from streams.topics import create, logical

    found = asyncio.run(create(servers, marketing, dry_run=True, options=options, generation=generation))
    missing = [item.topic.name for item in found if item.state == "missing" and item.topic.name != "alerts"]
    if missing:
        raise Failure(f"Kafka has no topic {', '.join(missing)}: create them with parcours topics create")
    for item in found:
        if item.state == "differs" and logical(item.topic.name) in topic_partitions(marketing):
            raise ConfigError(
                f"topics.{item.topic.name}: configured with {item.topic.partitions} partitions, but Kafka has {item.found}; "
                "correct the configuration, or rebuild for another count"
            )


async def _generation(infra: Infrastructure) -> int:
    from streams.generations import located
    from streams.tables import connect

    redis = connect(infra.redis_url, **redis_options(infra))
    try:
        return (await located(redis, infra)).generation
    finally:
        await redis.aclose()


async def _register(infra: Infrastructure, generation: int, marketing: Marketing) -> None:
    """Give the configuration its number, as the worker would: what is wrong with it is said here without a stack trace."""
    from streams.tables import connect, register_config

    redis = connect(infra.redis_url, **redis_options(infra))
    try:
        await register_config(redis, generation, marketing.text())
    finally:
        await redis.aclose()


def check_port(host: str, port: int, option: str) -> None:
    """Raises Failure when another program listens there: Faust would say so only in a stack trace."""
    import socket

    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise Failure(f"can't serve on {host}:{port} ({error.strerror}): give another {option}") from None
