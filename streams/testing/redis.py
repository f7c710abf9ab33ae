"""A worker's way to the real Redis, on which requests and replies get lost, are slow, or wait for a stopped server.

A request takes virtual time there and back; in between the real server answers while time stands still. So the order in
which the workers' calls reach it follows from the seed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any, TypeVar

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import ConnectionError as Gone
from redis.exceptions import TimeoutError as TimedOut

from streams import tables
from streams.memory_kafka import Cluster
from streams.tables import connect
from streams.testing.clock import Loop

T = TypeVar("T")
ANSWER_SECONDS = 5.0  # as `streams.tables.connect` has it


class Held:
    """A claim or commit stopped on its way to Redis, or its answer on its way back, until `release`."""

    def __init__(self, what: str, answer: bool) -> None:
        self.what = what
        self.answer = answer
        self.client: str | None = None
        """Whose it is, once there is one."""
        self._released = asyncio.Event()

    @property
    def released(self) -> bool:
        """Whether it may go on."""
        return self._released.is_set()

    def release(self) -> None:
        """Let it go on."""
        self._released.set()

    async def meet(self, client: str, what: str, answer: bool) -> None:
        """Stay here when this is the first one wanted."""
        if self.client is None and answer == self.answer and what.startswith(self.what):
            self.client = client
            await self._released.wait()


class Line:
    """The network between all workers and Redis. Latencies and delays in seconds."""

    def __init__(self, rng: Random, cluster: Cluster, latency: tuple[float, float] = (0.0005, 0.004)) -> None:
        """`cluster` knows which processes are stopped or dead."""
        self.rng = rng
        self.latency = latency
        self.slow = 0.0
        self.lose_request = 0
        self.lose_reply = 0
        self.lost = 0
        self.stopped: asyncio.Event | None = None
        self._held: list[Held] = []
        self._cluster = cluster
        self._clients: dict[str, Redis] = {}
        self._kept: set[asyncio.Task[None]] = set()

    def hold(self, what: str, *, answer: bool = False) -> Held:
        """Stop the next one that begins so: `claim {parcours:0:clicks:0}`, `commit {parcours:0:1}`, `commit`; or its answer."""
        self._held.append(held := Held(what, answer))
        return held

    async def call(self, client: str, write: bool, send: Callable[[], Awaitable[T]], what: str = "") -> T:
        """`send` the request of a worker; `write`: one whose loss matters."""
        loop = asyncio.get_running_loop()
        assert isinstance(loop, Loop)
        await self._cluster.running(client)
        for held in self._held:
            await held.meet(client, what, False)
        try:
            await asyncio.sleep(self.rng.uniform(*self.latency) + self.slow)
        except asyncio.CancelledError:
            # A request on its way can't be taken back: it arrives, or it does not.
            if write and self.stopped is None and self.rng.random() < 0.5:
                self._send(loop, send)
            raise
        if write and self.lose_request:
            self.lose_request -= 1
            self.lost += 1
            raise Gone("the request was lost")
        if self.stopped is not None:
            await self._wait(loop, self.stopped, send)
        result = loop.blocking(self._own(send))
        await asyncio.sleep(self.rng.uniform(*self.latency))
        for held in self._held:
            await held.meet(client, what, True)
        await self._cluster.running(client)
        if write and self.lose_reply:
            self.lose_reply -= 1
            self.lost += 1
            raise Gone("the reply was lost")
        return result

    def opened(self, client: str, redis: Redis) -> None:
        """This worker's client."""
        self._clients[client] = redis

    def hang_up(self, client: str) -> None:
        """Close the connections of a process that is gone."""
        redis = self._clients.pop(client, None)
        if redis is not None:
            loop = asyncio.get_running_loop()
            assert isinstance(loop, Loop)
            loop.blocking(redis.connection_pool.disconnect())

    async def _wait(self, loop: Loop, stopped: asyncio.Event, send: Callable[[], Awaitable[Any]]) -> None:
        """In the socket of a server that does not run: worked when it runs again, also when nobody waits any more."""
        try:
            await asyncio.wait_for(stopped.wait(), ANSWER_SECONDS)
        except (TimeoutError, asyncio.CancelledError) as error:
            self._later(loop, stopped, send)
            if isinstance(error, TimeoutError):
                raise TimedOut("no reply") from None
            raise

    def _later(self, loop: Loop, stopped: asyncio.Event, send: Callable[[], Awaitable[Any]]) -> None:
        async def work() -> None:
            await stopped.wait()
            self._send(loop, send)

        task = asyncio.create_task(work())
        self._kept.add(task)
        task.add_done_callback(self._kept.discard)

    def _send(self, loop: Loop, send: Callable[[], Awaitable[Any]]) -> None:
        try:
            loop.blocking(self._own(send))
        except Exception:
            return  # nobody hears of it

    @staticmethod
    async def _own(send: Callable[[], Awaitable[T]]) -> T:
        return await send()


class _Pipeline(Pipeline):
    line: Line
    worker: str

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        stack = list(self.command_stack)

        async def send() -> list[Any]:
            self.command_stack = stack
            return await super(_Pipeline, self).execute(raise_on_error)

        return await self.line.call(self.worker, False, send)


class WorkerRedis(Redis):
    """A client as `streams.tables.connect` makes it, whose calls go over the line."""

    line: Line
    worker: str

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        write = args[0] == "EVALSHA"  # a claim, a commit
        return await self.line.call(
            self.worker, write, lambda: super(WorkerRedis, self).execute_command(*args, **options), _named(args)
        )

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        made = _Pipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)
        made.line, made.worker = self.line, self.worker
        return made

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        self.line.hang_up(self.worker)


def _named(args: tuple[Any, ...]) -> str:
    """`commit {parcours:0:1}meta` for that; nothing for what is neither claim nor commit."""
    for name, script in (("claim", tables._CLAIM), ("commit", tables._COMMIT)):
        if args[0] in ("EVALSHA", "EVAL") and args[1] in (script.sha, script.text):
            return f"{name} {args[3]}"
    return ""


def connector(line: Line, client: str) -> Callable[..., Redis]:
    """What a worker's runtime takes in place of `streams.tables.connect`."""

    def make(url: str, **options: Any) -> Redis:
        made = WorkerRedis(connection_pool=connect(url, **options).connection_pool)
        made.line, made.worker = line, client
        line.opened(client, made)
        return made

    return make
