"""A TCP proxy on loopback that slows, cuts and encrypts what goes through it; for tests of slow and broken networks.

with Proxy(server.port) as proxy:
    proxy.delay = 0.001          # each chunk the client sends waits so long before it goes on
    proxy.cut()                  # every connection ends, and no new one is let in ...
    proxy.mend()                 # ... until now
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Coroutine
from typing import Any, Self

from streams.embedded import HOST, free_port

CHUNK = 1 << 16
# To the server, from the client; and back.
UP, DOWN = "up", "down"


class Proxy:
    """Runs in a thread of its own, so that it also serves tests without an event loop."""

    def __init__(
        self, target: int, *, port: int | None = None, delay: float = 0.0, context: ssl.SSLContext | None = None
    ) -> None:
        """`target`: a port on loopback. `delay`: seconds. `context`: what clients connect by TLS with; the target is plain."""
        self.target = target
        self.port = port or free_port()
        self.delay = delay
        self.chunks = {UP: 0, DOWN: 0}
        self._context = context
        self._open = True
        self._mute: str | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    def start(self) -> Self:
        self._thread.start()
        self._server = self._run(asyncio.start_server(self._serve, HOST, self.port, ssl=self._context))
        return self

    def stop(self) -> None:
        self._server.close()
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def cut(self) -> None:
        """End all connections; new ones end at once."""
        self._run(self._cut())

    def silence(self, direction: str) -> None:
        """Swallow what goes UP or DOWN, on one side only, while connections seem to stand."""
        self._mute = direction

    def mend(self) -> None:
        """Let everything through again."""
        self._open, self._mute = True, None

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _cut(self) -> None:
        self._open = False
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, client_in: asyncio.StreamReader, client_out: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        outs = [client_out]
        try:
            if self._open:
                server_in, server_out = await asyncio.open_connection(HOST, self.target)
                outs.append(server_out)
                async with asyncio.TaskGroup() as both:
                    both.create_task(self._pump(client_in, server_out, UP))
                    both.create_task(self._pump(server_in, client_out, DOWN))
        except* (OSError, EOFError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            for out in outs:
                out.transport.abort()

    async def _pump(self, source: asyncio.StreamReader, into: asyncio.StreamWriter, direction: str) -> None:
        while data := await source.read(CHUNK):
            self.chunks[direction] += 1
            if self.delay and direction == UP:
                await asyncio.sleep(self.delay)
            if self._mute == direction:
                continue
            into.write(data)
            await into.drain()
        # One side has ended: end the other too.
        raise EOFError

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(RuntimeError):
            self.stop()
