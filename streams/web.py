"""The worker's pages: `/metrics`, `/livez`, `/readyz`, the live page at `/` and the JSON behind it at `/api/…`.

Faust's own web server shares its loop with the stream, so nothing here computes: what takes time is made in a thread (`streams.api`).
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol

import orjson
from aiohttp import web

from models.errors import ConfigError
from streams.api import Api, Wanted
from streams.page import Asset, assets

if TYPE_CHECKING:
    from streams.app import ParcoursApp

EXPOSITION = "text/plain"
NEWS_SECONDS = 0.5
"""How often an open page's stream looks for news."""

BEAT_SECONDS = 5.0
"""A stream without news says so this often: a page that hears nothing for three of these has lost its worker."""

STREAMS_MAX = 100
"""Pages that may be open at a time."""

_FRESH = {"Cache-Control": "no-store"}
_SAFE = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Worker(Protocol):
    """What the pages show of a worker."""

    api: Api

    def exposition(self) -> bytes: ...
    def problems(self) -> list[str]: ...
    def status(self) -> dict[str, Any]: ...
    def pulse(self) -> dict[str, Any]: ...
    def web_token(self) -> str | None: ...
    async def find_journey(self, person: str) -> bytes | None: ...


class Pages:
    """Handlers by path."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._streams = 0
        self.closing = asyncio.Event()

    def routes(self) -> dict[str, Handler]:
        found: dict[str, Handler] = {
            "/metrics": self.metrics, "/livez": self.livez, "/readyz": self.readyz, "/api/status": self.status,
            "/api/overview": self.overview, "/api/channel": self.channel, "/api/events": self.events,
            "/api/journey": self.journey,
        }  # fmt: skip
        for path, asset in assets().items():
            found[path] = _serving(asset)
        return found

    async def metrics(self, request: web.Request) -> web.StreamResponse:
        return web.Response(body=self._worker.exposition(), content_type=EXPOSITION, headers=_FRESH)

    async def livez(self, request: web.Request) -> web.StreamResponse:
        return web.Response(text="ok\n", headers=_FRESH)

    async def readyz(self, request: web.Request) -> web.StreamResponse:
        problems = self._worker.problems()
        text = "".join(f"{problem}\n" for problem in problems) or "ok\n"
        return web.Response(text=text, status=503 if problems else 200, headers=_FRESH)

    async def status(self, request: web.Request) -> web.StreamResponse:
        return _json(orjson.dumps(self._worker.status()))

    async def overview(self, request: web.Request) -> web.StreamResponse:
        return await self._figures(self._worker.api.overview, request)

    async def channel(self, request: web.Request) -> web.StreamResponse:
        channel, network = request.query.get("channel"), request.query.get("network")
        if channel is None or network is None:
            return _problem(400, "channel and network: name both, as in /api/channel?channel=Email&network=newsletter")
        return await self._figures(lambda wanted: self._worker.api.channel(wanted, channel, network), request)

    async def _figures(
        self, make: Callable[[Wanted], Awaitable[bytes | None]], request: web.Request
    ) -> web.StreamResponse:
        try:
            body = await make(Wanted.of(request.query))
        except ConfigError as error:
            return _problem(400, str(error))
        return _problem(503, "no figures yet") if body is None else _json(body)

    async def events(self, request: web.Request) -> web.StreamResponse:
        """Server-sent events: the worker's pulse when it changes, and every few seconds all the same."""
        if self._streams >= STREAMS_MAX:
            return _problem(503, f"{STREAMS_MAX} pages are open on this worker already")
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", **_FRESH})
        self._streams += 1
        try:
            await response.prepare(request)
            await self._tell(response)
        except ConnectionResetError:
            pass  # the page was closed
        finally:
            self._streams -= 1
        return response

    async def _tell(self, response: web.StreamResponse) -> None:
        loop = asyncio.get_running_loop()
        told, told_at = b"", 0.0
        while not self.closing.is_set():
            pulse = orjson.dumps(self._worker.pulse())
            if pulse != told or loop.time() - told_at >= BEAT_SECONDS:
                await response.write(b"data: " + pulse + b"\n\n")
                told, told_at = pulse, loop.time()
            try:
                await asyncio.wait_for(self.closing.wait(), NEWS_SECONDS)
            except TimeoutError:
                continue

    async def journey(self, request: web.Request) -> web.StreamResponse:
        """One person's journey: only with the token, and only when there is one."""
        token = self._worker.web_token()
        if token is None:
            return _problem(403, "journeys are off: start the worker with PARCOURS_WEB_TOKEN set")
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(given.encode(), token.encode()):
            return _problem(401, "the token is not the one in PARCOURS_WEB_TOKEN")
        person = request.query.get("person", "").strip()
        if not person:
            return _problem(400, "person: name one, as in /api/journey?person=c:42")
        body = await self._worker.find_journey(person)
        return _problem(404, f"no touch and no conversion of {person} is known") if body is None else _json(body)


def add_pages(app: ParcoursApp) -> None:
    """Add the pages to Faust's own web server."""
    pages = Pages(app.runtime)
    for path, handler in pages.routes().items():
        app.page(path, name=path)(_view(handler))

    async def close(_: web.Application) -> None:
        pages.closing.set()

    # Or a stop would wait for every open page.
    app.web.web_app.on_shutdown.append(close)


def _view(handler: Handler) -> Any:
    async def page(view: Any, request: web.Request) -> web.StreamResponse:
        return await handler(request)

    return page


def _serving(asset: Asset) -> Handler:
    async def serve(request: web.Request) -> web.StreamResponse:
        if request.headers.get("If-None-Match") == asset.etag:
            return web.Response(status=304, headers=_SAFE | {"ETag": asset.etag})
        return web.Response(
            body=asset.body, content_type=asset.content_type, charset="utf-8", headers=_SAFE | {"ETag": asset.etag}
        )

    return serve


def _json(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/json", charset="utf-8", headers=_FRESH)


def _problem(status: int, text: str) -> web.Response:
    return web.json_response({"error": text}, status=status, headers=_FRESH)
