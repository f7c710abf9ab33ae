"""The worker's pages: `/metrics`, `/livez`, `/readyz`, `/api/status`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streams.app import ParcoursApp

EXPOSITION = "text/plain"
_HEADERS = {"Cache-Control": "no-store"}


def add_pages(app: ParcoursApp) -> None:
    """Add the pages to Faust's own web server."""

    @app.page("/metrics")
    async def metrics(view: Any, request: Any) -> Any:
        return view.bytes(app.runtime.exposition(), content_type=EXPOSITION, headers=_HEADERS)

    @app.page("/livez")
    async def livez(view: Any, request: Any) -> Any:
        return view.text("ok\n", headers=_HEADERS)

    @app.page("/readyz")
    async def readyz(view: Any, request: Any) -> Any:
        problems = app.runtime.problems()
        text = "".join(f"{problem}\n" for problem in problems) or "ok\n"
        return view.text(text, status=503 if problems else 200, headers=_HEADERS)

    @app.page("/api/status")
    async def status(view: Any, request: Any) -> Any:
        return view.json(app.runtime.status(), headers=_HEADERS)
