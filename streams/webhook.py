"""Delivers notices of alerts to a webhook, with bounded retries."""

from __future__ import annotations

import logging
from typing import Literal
from urllib.parse import urlsplit

import aiohttp
import msgspec

from models.errors import ConfigError
from models.results import Alert

log = logging.getLogger(__name__)
TRIES = 12
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 300.0
TIMEOUT = 10.0
_TRANSIENT = frozenset((408, 425, 429))
_encode = msgspec.json.Encoder().encode

Outcome = Literal["sent", "again", "refused"]


def pause(tries: int) -> float:
    """Seconds to wait after so many tries: 1, 2, 4 … 300."""
    return min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (tries - 1))


def check_url(url: str) -> str:
    """Raises ConfigError, without the URL, which may hold a secret, when it is none."""
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError("PARCOURS_WEBHOOK_URL: it is not a URL such as https://hooks.example/alerts")
    return url


async def post(url: str, notice: Alert) -> Outcome:
    """One try: the notice as JSON. A receiver that got it before knows it by the header Idempotency-Key."""
    headers = {
        "Content-Type": "application/json", "User-Agent": "parcours", "Idempotency-Key": f"{notice.id}-{notice.status}",
    }  # fmt: skip
    timeout = aiohttp.ClientTimeout(total=TIMEOUT)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.post(url, data=_encode(notice), headers=headers, allow_redirects=False) as answer,
        ):
            status = answer.status
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        log.warning("alert %s: the webhook did not answer: %s", notice.id, type(error).__name__)
        return "again"
    if 200 <= status < 300:
        return "sent"
    log.warning("alert %s: the webhook answered %s", notice.id, status)
    return "again" if status >= 500 or status in _TRANSIENT else "refused"
