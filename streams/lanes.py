"""Lanes: an agent hands its batches on, and each partition is worked in a task of its own, in order.

The whole agent, on a topic declared with `RawSchema` and with concurrency 1, is a loop over its stream that awaits
`lanes.put(batch)`. Faust acknowledges a batch when the loop goes on to the next: that is not what commits it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from faust.types import TP

from streams.batch import Batch
from streams.transport import Consumer

log = logging.getLogger(__name__)
CANCEL_SECONDS = 5.0


@dataclass(slots=True, eq=False)
class _Lane:
    tp: TP
    slots: asyncio.Semaphore
    before: asyncio.Task[None] | None  # this partition's last lane, where it was slow to end
    queue: asyncio.Queue[Batch] = field(default_factory=asyncio.Queue)
    closed: bool = False
    failures: int = 0
    task: asyncio.Task[None] | None = None

    def close(self) -> None:
        """Cancel the work under way and drop what is queued; wakes whoever waits for a slot."""
        self.closed = True
        if self.task is not None:
            self.task.cancel()
        while not self.queue.empty():
            self.queue.get_nowait()
            self.queue.task_done()
        self.slots.release()


class Lanes:
    """`work(batch)` for each batch: one at a time and in order within a partition, concurrently between partitions.

    `work` says `consumer.done(batch)` once it is applied. A failure of `work` is logged and reported to `on_error(tp, error)`; the
    partition is read again from its stored position after `backoff` (first, longest) seconds.
    """

    def __init__(
        self,
        work: Callable[[Batch], Awaitable[None]],
        consumer_getter: Callable[[], Consumer],
        depth: int = 2,
        *,
        on_error: Callable[[TP, BaseException], None] | None = None,
        backoff: tuple[float, float] = (0.2, 5.0),
    ) -> None:
        self._work = work
        self._consumer_getter = consumer_getter
        self._depth = depth
        self._on_error = on_error
        self._backoff = backoff
        self._lanes: dict[TP, _Lane] = {}
        self._ending: dict[TP, asyncio.Task[None]] = {}
        self._known: Consumer | None = None
        self._stopping = False

    async def put(self, batch: Batch) -> None:
        """Hand on one batch; waits while its partition's lane is full."""
        consumer = self._consumer()
        if self._stopping or not consumer.current(batch):
            return
        lane = self._lane(batch.tp)
        await lane.slots.acquire()
        if lane.closed:
            lane.slots.release()  # for the next who waits
            return
        lane.queue.put_nowait(batch)

    async def revoke(self, tps: set[TP]) -> None:
        """Drop the lanes of these partitions. Called by the consumer."""
        lanes = [lane for tp in tps if (lane := self._lanes.pop(tp, None)) is not None]
        for lane in lanes:
            lane.close()
        tasks = {lane.task: lane.tp for lane in lanes if lane.task is not None}
        if not tasks:
            return
        _, pending = await asyncio.wait(tasks, timeout=CANCEL_SECONDS)
        for task in pending:
            log.error("%s: the work under way doesn't end", tasks[task])
            self._ending[tasks[task]] = task

    async def stop(self, drain_seconds: float = 0.0) -> None:
        """Take nothing more; give what is queued `drain_seconds` to finish, then drop it."""
        self._stopping = True
        lanes = list(self._lanes.values())
        if lanes and drain_seconds > 0:
            drained = [asyncio.create_task(lane.queue.join()) for lane in lanes]
            _, pending = await asyncio.wait(drained, timeout=drain_seconds)
            for task in pending:
                task.cancel()
        await self.revoke(set(self._lanes))

    def _consumer(self) -> Consumer:
        consumer = self._consumer_getter()
        if consumer is not self._known:
            consumer.on_revoke(self.revoke)
            self._known = consumer
        return consumer

    def _lane(self, tp: TP) -> _Lane:
        lane = self._lanes.get(tp)
        if lane is None:
            lane = self._lanes[tp] = _Lane(tp, asyncio.Semaphore(self._depth), self._ending.pop(tp, None))
            lane.task = asyncio.create_task(self._run(lane), name=f"lane {tp.topic}-{tp.partition}")
        return lane

    async def _run(self, lane: _Lane) -> None:
        if lane.before is not None and not lane.before.done():
            await asyncio.wait({lane.before})
        lane.before = None
        while not lane.closed:
            batch = await lane.queue.get()
            try:
                await self._one(lane, batch)
            finally:
                lane.queue.task_done()
                lane.slots.release()

    async def _one(self, lane: _Lane, batch: Batch) -> None:
        consumer = self._consumer()
        if not consumer.current(batch):
            return
        try:
            with consumer.under_way(batch):
                await self._work(batch)
        except (Exception, asyncio.CancelledError) as error:
            task = asyncio.current_task()
            assert task is not None
            if lane.closed or (isinstance(error, asyncio.CancelledError) and task.cancelling()):
                raise  # the lane itself is cancelled; a cancellation from within the work is a failure like others
            while task.cancelling():
                # Before Python 3.13 a TaskGroup leaves its parent so when a child fails while it waits (gh-116720).
                task.uncancel()
            log.exception("%s: offsets %s to %s not applied", batch.tp, batch.start, batch.end)
            await self._failed(lane, batch, error)
        else:
            lane.failures = 0

    async def _failed(self, lane: _Lane, batch: Batch, error: BaseException) -> None:
        first, longest = self._backoff
        delay = min(longest, first * 2 ** min(lane.failures, 16))
        lane.failures += 1
        try:
            if self._on_error is not None:
                self._on_error(batch.tp, error)
            await self._consumer().reclaim(batch.tp, delay=delay)
        except Exception:
            log.exception("%s: not reclaimed; the watchdog will", batch.tp)
