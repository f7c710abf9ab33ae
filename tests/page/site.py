"""The worker's pages over rows that a test makes: the real handlers and files on a real HTTP server, without Kafka and Redis."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any

from aiohttp import web

from attribution.families import Row, plain
from models.settings import Marketing
from streams.api import Api, Snapshot, States
from streams.render import label_text
from streams.web import Pages

HOST = "127.0.0.1"
TOKEN = "open sesame"


class Site:
    """Serves until `close`. `show` gives it other rows; `stop` and `start` lose and find the connection again on the same port."""

    def __init__(self, marketing: Marketing, rows: list[Row] | None = None, end: int = 0) -> None:
        self.marketing = marketing
        self.api = Api(lambda: self._snapshot, lambda: self._states, marketing)
        self.lag = 0
        self.leads = True
        self.says: list[str] = []
        self.token: str | None = TOKEN
        self.journeys: dict[str, bytes] = {}
        self.port = 0
        self._snapshot: Snapshot | None = None
        self._states = States(0, [])
        self._shown = 0
        self._runner: web.AppRunner | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        if rows is not None:
            self.show(rows, end)
        self.start()

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def show(self, rows: list[Row], end: int) -> int:
        """Other rows; returns their number, by which the page knows them."""
        self._shown += 1
        self._snapshot = Snapshot(self._shown, end, [rows])
        return self._shown

    def watch(self, rows: list[Row]) -> None:
        """Other states of alerts and goals."""
        self._states = States(self._states.number + 1, rows)

    def start(self) -> None:
        self._run(self._start())

    def stop(self) -> None:
        self._run(self._stop())

    def close(self) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _start(self) -> None:
        pages = Pages(self)
        app = web.Application()
        for path, handler in pages.routes().items():
            app.router.add_get(path, handler)

        async def close(_: web.Application) -> None:
            pages.closing.set()

        app.on_shutdown.append(close)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, HOST, self.port, reuse_address=True)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]

    async def _stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    # What the pages show of a worker.

    def exposition(self) -> bytes:
        rows = [row for block in self._snapshot.blocks for row in block] if self._snapshot else []
        return "".join(f"{name}{label_text(labels)} {plain(value)}\n" for name, labels, value in rows).encode()

    def problems(self) -> list[str]:
        return self.says

    def status(self) -> dict[str, Any]:
        return {}

    def pulse(self) -> dict[str, Any]:
        number = self._snapshot.number if self._snapshot else None
        return {
            "version": number,
            "states": self._states.number,
            "leader": self.leads,
            "lag": self.lag,
            "problems": self.says,
        }

    def web_token(self) -> str | None:
        return self.token

    async def find_journey(self, person: str) -> bytes | None:
        return self.journeys.get(person)
