"""Whether Kafka and Redis answer, before anything is started that would wait for them in vain."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from streams.cli.common import Failure, Usage

_SECONDS = 5.0


def servers_of(url: str) -> list[str]:
    """The addresses of a Kafka URL. Raises Usage when it is none."""
    from streams.app import bootstrap

    servers = bootstrap(url)
    for server in servers:
        host, colon, port = server.rpartition(":")
        if not (host and colon and port.isdigit() and 0 < int(port) < 65_536):
            raise Usage(f"kafka-url: {bare(url)!r} is not an address such as kafka://127.0.0.1:9092")
    if not servers:
        raise Usage("kafka-url: it is empty; give an address such as kafka://127.0.0.1:9092")
    return servers


def kafka_reachable(url: str, **options: Any) -> list[str]:
    """The addresses of a Kafka that answers. `options`: from `kafka_options`. Raises Usage or Failure."""
    servers = servers_of(url)
    try:
        asyncio.run(_ask_kafka(servers, options))
    except (OSError, TimeoutError):
        protocol = options.get("security_protocol", "PLAINTEXT")
        # aiokafka says the same of a broker that is not there and of one that refuses us.
        doubts = "" if protocol == "PLAINTEXT" else f", or does not let us in by {protocol}"
        looked = (
            ("PARCOURS_KAFKA_SASL_USERNAME, _PASSWORD and _MECHANISM" if protocol.startswith("SASL") else "")
            + (" and " if protocol == "SASL_SSL" else "")
            + ("PARCOURS_KAFKA_CA_FILE, _CERT_FILE and _KEY_FILE" if protocol.endswith("SSL") else "")
        )
        fix = f": start it, or give --kafka-url{looked and f'; else look at {looked}'}"
        raise Failure(f"Kafka does not answer at {', '.join(servers)}{doubts}{fix}") from None
    return servers


async def _ask_kafka(servers: list[str], options: dict[str, Any]) -> None:
    from aiokafka.client import AIOKafkaClient
    from aiokafka.errors import KafkaError

    # What the client would log is what the error says.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    client = AIOKafkaClient(bootstrap_servers=servers, request_timeout_ms=int(_SECONDS * 1000), **options)
    try:
        async with asyncio.timeout(2 * _SECONDS):
            await client.bootstrap()
    except KafkaError as error:
        raise OSError(str(error)) from None
    finally:
        await client.close()
        logging.getLogger("aiokafka").setLevel(logging.NOTSET)


def redis_reachable(url: str, **options: Any) -> None:
    """Raises Usage when the URL is none, Failure when nothing answers there. `options`: from `redis_options`."""
    asyncio.run(_ask_redis(url, options))


async def _ask_redis(url: str, options: dict[str, Any]) -> None:
    from redis.exceptions import RedisError

    from streams.tables import connect

    try:
        redis = connect(url, **options)
    except ValueError as error:
        raise Usage(f"redis-url: {bare(url)!r} is not an address such as redis://127.0.0.1:6379/0 ({error})") from None
    try:
        await redis.execute_command("PING")
    except (RedisError, OSError) as error:
        raise Failure(f"Redis does not answer at {bare(url)} ({error}): start it, or give --redis-url") from None
    finally:
        await redis.aclose()


def bare(url: str) -> str:
    """A URL without the password in it."""
    scheme, sep, rest = url.partition("://")
    return f"{scheme}{sep}{rest.rpartition('@')[2]}" if sep else url
