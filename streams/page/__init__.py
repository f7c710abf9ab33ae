"""The live page's files: HTML, CSS and plain JavaScript modules, served as they are."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files
from typing import NamedTuple

_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


class Asset(NamedTuple):
    """One file."""

    body: bytes
    content_type: str
    etag: str


@cache
def assets() -> dict[str, Asset]:
    """The files by the path they are served under: the page itself at `/`, the rest under `/page/`."""
    found: dict[str, Asset] = {}
    for file in files(__name__).iterdir():
        kind = next((kind for end, kind in _TYPES.items() if file.name.endswith(end)), None)
        if kind is not None:
            body = file.read_bytes()
            path = "/" if file.name == "index.html" else f"/page/{file.name}"
            found[path] = Asset(body, kind, f'"{hashlib.sha256(body).hexdigest()[:16]}"')
    return dict(sorted(found.items()))
