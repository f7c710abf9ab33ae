"""What the evaluator of alerts keeps in Redis: states, notices still to be sent, frozen baselines of goals.

Written under the token of the claim of partition 0, so only the leader writes, and by compare-and-set, so a state that Redis lost is
noticed. A notice is stored together with the state that it tells of, and sent only then: whatever crashes in between, the next
leader sends that notice, with that id.

| key | holds |
|---|---|
| `{parcours:<g>:0}alerts` | hash: `version`, a counter; `state`, JSON of `Kept` |
"""

from __future__ import annotations

from decimal import Decimal

import msgspec
from msgspec import Struct
from redis.asyncio import Redis

from attribution.alerting import AlertState, Key
from models.results import Alert
from streams.tables import Script, journey_tag

KEY = "alerts"
_WRITE = Script("alerts.lua")
_encode = msgspec.json.Encoder().encode


class Delivery(Struct, frozen=True):
    """A notice for the webhook: how often it was tried, and when it is due again (s since 1970)."""

    notice: Alert
    tries: int = 0
    due: float = 0.0


class Kept(Struct, frozen=True, kw_only=True):
    """All that is stored. `notices` has the last notice of each alert in `states`, by id. `outbox`: to be published, in order."""

    states: tuple[AlertState, ...] = ()
    notices: dict[str, Alert] = {}
    outbox: tuple[Alert, ...] = ()
    webhook: tuple[Delivery, ...] = ()
    baselines: dict[str, Decimal | None] = {}

    def by_key(self) -> dict[Key, AlertState]:
        """The states by rule and names."""
        return {(state.rule, state.names): state for state in self.states}


_decode = msgspec.json.Decoder(Kept).decode


class Lost(Exception):
    """What was believed to be stored is not: another worker leads, or Redis went back. Load again."""


class Store:
    """The stored state under one claim of partition 0."""

    def __init__(self, redis: Redis, generation: int, token: str) -> None:
        self.token = token
        self.kept = Kept()
        self._redis = redis
        tag = journey_tag(generation, 0)
        self._keys = [f"{tag}meta", f"{tag}{KEY}"]
        self._version = 0

    async def load(self) -> None:
        """Read what is stored. Raises what Redis raises."""
        self._version, self.kept = await read(self._redis, self._keys[1])

    async def save(self, kept: Kept) -> None:
        """Make `kept` what is stored. Raises Lost, having written nothing; after an error of Redis it may be written or not."""
        if kept == self.kept:
            return
        reply = await _WRITE(self._redis, self._keys, self.token, self._version, self._version + 1, _encode(kept))
        if reply != b"ok":
            raise Lost(reply.decode())
        self._version, self.kept = self._version + 1, kept


async def read(redis: Redis, key: str) -> tuple[int, Kept]:
    """(version, what is stored); version 0 when nothing is."""
    version, state = await redis.execute_command("HMGET", key, "version", "state")
    return int(version or 0), _decode(state) if state else Kept()


async def stored(redis: Redis, generation: int) -> Kept:
    """What the alerts of a generation are, for looking."""
    return (await read(redis, f"{journey_tag(generation, 0)}{KEY}"))[1]
