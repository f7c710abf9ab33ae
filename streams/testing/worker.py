"""One worker of a simulation: the app that `create_app` makes, with the in-memory Kafka and the line to Redis put in."""

from __future__ import annotations

import asyncio
import contextvars
from typing import Any

from faust.transport import base
from faust.types import TP
from mode.utils.futures import maybe_async

from models.settings import Infrastructure, Marketing
from streams import transport
from streams.app import ParcoursApp, create_app
from streams.batch import FetchThread
from streams.memory_kafka import Cluster, MemoryConsumer, MemoryProducer
from streams.testing.redis import Line, connector


class Worker:
    """One worker: an app, and the name under which its group and its tasks know it. A new start is a new worker."""

    def __init__(self, name: str, client: str, app: ParcoursApp, producer: MemoryProducer) -> None:
        self.name = name
        self.client = client
        self.app = app
        self.producer = producer
        self.starting: asyncio.Task[Any] | None = None


def new_worker(
    name: str, client: str, infra: Infrastructure, marketing: Marketing, cluster: Cluster, line: Line
) -> Worker:
    """A worker that has not been started. Its web server stays off."""
    app = create_app(infra, marketing)
    app.boot_strategy = app.BootStrategy(app, enable_web=False)
    app.conf.stream_recovery_delay = 0.0
    memory_transport(app, cluster, client)
    producer = MemoryProducer(cluster, client)
    app.runtime.connect = connector(line, client)
    app.runtime.new_producer = lambda _: producer
    return Worker(name, client, app, producer)


class _Inline(FetchThread):
    """The fetch thread without a thread: the same calls, run where they are made."""

    async def maybe_start(self) -> bool:
        if self._consumer is not None:
            return False
        await self.start()
        return True

    async def start(self) -> None:
        self._consumer = self._create_worker_consumer(self.transport)
        self._consumer.context = contextvars.copy_context()
        await self._consumer.start()

    async def stop(self) -> None:
        if self._consumer is not None:
            await self._consumer.stop()

    def _create_worker_consumer(self, transport: Any) -> Any:
        return MemoryConsumer(transport.cluster, transport.client, self.app.conf.broker_max_poll_records)

    async def call_thread(self, fun: Any, *args: Any, **kwargs: Any) -> Any:
        return await maybe_async(fun(*args, **kwargs))

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        await self.consumer.on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        await self.consumer.on_partitions_assigned(assigned, generation_id)

    def close(self) -> None: ...


class _Consumer(transport.Consumer):
    def _new_consumer_thread(self) -> FetchThread:
        return _Inline(self, loop=self.loop, thread_loop=self.loop, beacon=self.beacon)


class _NoProducer(base.Producer):
    """Faust's own producer: nothing is sent through it."""

    async def flush(self) -> None: ...

    def supports_headers(self) -> bool:
        return True


class _Transport(transport.Transport):
    Consumer = _Consumer
    Producer = _NoProducer
    cluster: Cluster
    client: str


def memory_transport(app: Any, cluster: Cluster, client: str) -> None:
    """Put `app`, not yet started, on this cluster as member `client`."""
    made = _Transport(app.conf.broker, app)
    made.cluster, made.client = cluster, client
    app.transport = app.producer_transport = made
