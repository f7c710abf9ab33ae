"""A worker as the product runs it, but for two things that only a test wants: it keeps a hash chain per node
(`streams.testing.oracle.chained`), and its connections go through proxies.

`CHAOS_REDIRECT` is `port:proxy,port:proxy`. Clients follow the addresses that Kafka advertises, so it is not enough to
give them another one to begin with: every connection is led to the proxy of the port it asks for.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

from streams.testing.oracle import chained

REDIRECT = "CHAOS_REDIRECT"


def redirect(ports: dict[int, int]) -> None:
    """Have all event loops of this process connect to `ports[port]` where `port` is asked for."""
    connect = asyncio.BaseEventLoop.create_connection

    async def create_connection(self: Any, factory: Any, host: Any = None, port: Any = None, **options: Any) -> Any:
        return await connect(self, factory, host, ports.get(port, port), **options)

    asyncio.BaseEventLoop.create_connection = create_connection  # type: ignore[assignment, method-assign]


def main() -> None:
    """`faust -A streams.app worker` under these conditions."""
    from faust.cli.faust import cli

    pairs = [pair.split(":") for pair in os.environ[REDIRECT].split(",")]
    redirect({int(port): int(proxy) for port, proxy in pairs})
    sys.argv = ["faust", "-A", "streams.app", "worker", "-l", "warn"]
    with chained():
        cli()


if __name__ == "__main__":
    main()
