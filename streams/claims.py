"""Claims: which partitions this worker reads, from where, and what of them is done.

The position of a partition is kept by the application (`app.positions`, see `streams.batch.Positions`), not by Kafka.
On assignment each partition is claimed there and read from what the claim returns. A *session* of a partition ends with
every claim and rewind: what was fetched in an older one is stale (`current`). Applied batches are told by `done`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import time
from typing import Any, cast

from faust.transport.consumer import ensure_TP
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from streams.batch import Batch, FetchThread, Positions

RevokeListener = Callable[[set[TP]], Awaitable[None]]


@dataclass(slots=True)
class Partition:
    """What the main loop knows about one partition. `session` only grows, over revocations too."""

    tp: TP
    session: int = 0
    generation: int = -1
    claimed: bool = False
    stopped: bool = False  # a gap: stands still until it is claimed again
    outstanding: deque[Batch] = field(default_factory=deque)  # delivered, not done; in order
    received: int = 0
    position: int = 0  # everything before it is done
    committable: int | None = None
    busy: int = 0
    stalled: int = 0  # watchdog rounds that saw something outstanding and nothing under way
    beyond: int = 0  # watchdog rounds that saw the position beyond the end of the log
    task: asyncio.Task[int | None] | None = None

    def end_session(self) -> int:
        self.session += 1
        self.claimed = self.stopped = False
        self.outstanding.clear()
        self.committable, self.received, self.beyond = None, 0, 0
        return self.session


class ClaimingConsumer(driver.Consumer):
    """The half of `transport.Consumer` that the application talks to, and its claims."""

    retry_seconds = 1.0  # between two attempts at a claim
    claim_wait = 0.5  # how long a rebalance waits for the claims it started
    answer_seconds = 5.0  # a log's end is believed for so long after the fetch response that told it

    _thread: FetchThread

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._parts: dict[TP, Partition] = {}
        self._listeners: list[RevokeListener] = []
        self._room = asyncio.Event()  # set when a partition may have become ready to be read
        super().__init__(*args, **kwargs)

    def _new_consumer_thread(self) -> FetchThread:
        return FetchThread(self, loop=self.loop, beacon=self.beacon)

    # -- for the application

    def current(self, batch: Batch) -> bool:
        """Whether the batch is of the running session: not rewound, claimed, assigned, and of this generation."""
        part = self._parts.get(batch.tp)
        return (
            part is not None
            and part.claimed
            and part.session == batch.session
            and part.generation == batch.generation == self.app.consumer_generation_id
        )

    def done(self, batch: Batch) -> None:
        """The batch is applied and its position stored: it may be committed to Kafka. Of a stale batch: ignored."""
        if not self.current(batch):
            return
        part = self._parts[batch.tp]
        batch.applied = True
        while part.outstanding and part.outstanding[0].applied:
            part.position = part.committable = part.outstanding.popleft().end
        part.stalled = 0
        self._room.set()

    @contextmanager
    def under_way(self, batch: Batch) -> Iterator[None]:
        """While open, the watchdog leaves the batch's partition alone."""
        part = self._part(batch.tp)
        part.busy += 1
        try:
            yield
        finally:
            part.busy -= 1
            part.stalled = 0

    @property
    def busy(self) -> set[TP]:
        """Partitions with a batch under way."""
        return {tp for tp, part in self._parts.items() if part.busy}

    @property
    def claimed(self) -> set[TP]:
        """Partitions that are being read."""
        return {tp for tp, part in self._parts.items() if part.claimed}

    async def rewind(self, tp: TP, offset: int) -> bool:
        """Drop everything undelivered and in flight of a claimed partition and read on from `offset`."""
        part = self._part(tp)
        if not part.claimed:
            return False  # whoever claims it says where to read from
        part.end_session()
        self._report("rewind", tp)
        return await self._run(part, self._place(part, offset)) is not None

    async def reclaim(self, tp: TP, *, delay: float = 0.0) -> int | None:
        """Claim again, after `delay` seconds, and read from the position returned; None when no longer assigned.

        The session ends at once. A refused claim is tried again for as long as the partition is assigned.
        """
        if tp not in self.assignment():
            return None
        return await self._run(*self._claim_again(tp, delay))

    def lag(self, tp: TP) -> int | None:
        """Records between what is done and the end of the log; None when not claimed or not yet known."""
        part, highwater, read = self._ends(tp)
        if part is None or highwater is None:
            return None
        return max(0, highwater - (part.position if read is None else read))

    def at_end(self, tp: TP) -> bool:
        """Whether all that the log holds is done, by a fetch response of the last `answer_seconds`.

        While a broker is away its last answer says nothing about what has been appended since.
        """
        part, highwater, read = self._ends(tp)
        return part is not None and highwater is not None and read is not None and read >= highwater and self._fresh(tp)

    def answered(self, tp: TP) -> bool:
        """Whether the broker has told this partition's end in the last `answer_seconds`."""
        return self._fresh(tp)

    def _fresh(self, tp: TP) -> bool:
        # aiokafka stamps each response with this process's clock, in ms; a step of that clock counts as no answer.
        answered = getattr(self._thread.partition_state(tp), "timestamp", None)
        return answered is None or abs(time() - answered / 1000) <= self.answer_seconds

    def on_revoke(self, listener: RevokeListener) -> None:
        """Have `listener(revoked)` awaited at each revocation, before `positions.released`; at most a few seconds."""
        self._listeners.append(listener)

    def _ends(self, tp: TP) -> tuple[Partition | None, int | None, int | None]:
        """(partition if claimed, high watermark, offset read up to when everything read is done)."""
        part, placement = self._parts.get(tp), self._thread.placements.get(tp)
        state = self._thread.partition_state(tp)
        if part is None or not part.claimed or placement is None or placement.session != part.session or state is None:
            return None, None, None
        highwater: int | None = state.highwater
        stamped, read = placement.mark
        return part, highwater, read if not part.outstanding and stamped == part.received else None

    # -- claims

    @property
    def _positions(self) -> Positions:
        return cast(Positions, self.app.positions)

    def _part(self, tp: TP) -> Partition:
        tp = ensure_TP(tp)
        part = self._parts.get(tp)
        if part is None:
            part = self._parts[tp] = Partition(tp)
        return part

    def _report(self, what: str, tp: TP) -> None:
        hook = getattr(self.app, "on_transport", None)
        if hook is not None:
            hook(what, tp)

    def _start(self, part: Partition, work: Coroutine[Any, Any, int | None]) -> asyncio.Task[int | None]:
        # A task of its own: when the caller is cancelled half-way, the partition must not stay behind unplaced.
        if part.task is not None:
            part.task.cancel()
        part.task = asyncio.create_task(work, name=f"place {part.tp.topic}-{part.tp.partition}")
        return part.task

    async def _run(self, part: Partition, work: Coroutine[Any, Any, int | None]) -> int | None:
        task = self._start(part, work)
        await asyncio.wait({task})
        return None if task.cancelled() else task.result()

    def _claim_again(self, tp: TP, delay: float = 0.0) -> tuple[Partition, Coroutine[Any, Any, int | None]]:
        part = self._part(tp)
        session = part.end_session()
        part.generation = self.app.consumer_generation_id
        return part, self._claim(part, session, part.generation, delay)

    def _held(self, part: Partition, session: int, generation: int) -> bool:
        return (
            not self.should_stop
            and part.session == session
            and self.app.consumer_generation_id == generation
            and part.tp in self.assignment()
        )

    async def _claim(self, part: Partition, session: int, generation: int, delay: float) -> int | None:
        tp, refused, force = part.tp, 0.0, False
        await self._thread.park(tp)
        await asyncio.sleep(delay)
        while self._held(part, session, generation):
            try:
                claim = self._positions.claim
                offset = await (claim(tp, generation, force=True) if force else claim(tp, generation))
                if not self._held(part, session, generation):
                    return None
                if offset is not None:
                    self._report("claim_forced" if force else "claim", tp)
                    # No state and a log whose head is gone. Later positions are judged by the first fetch.
                    earliest = (await self.earliest_offsets(tp))[tp] if offset == 0 else 0
                    if earliest > offset:
                        await self._stop_at_gap(part, offset, earliest)
                        return None
                    return await self._place(part, offset)
            except Exception:
                self.log.exception("Claim of %s failed; trying again", tp)
            else:
                self._report("refused", tp)
                self.log.warning("Claim of %s refused at generation %s; trying again", tp, generation)
                # Counted in waits, not by the clock: a process that was stopped for a while (and is a zombie now) must
                # not find its session timeout spent. In those waits a zombie's heartbeat would have told it.
                refused += self.retry_seconds
                force = refused >= self.app.conf.broker_session_timeout
            await asyncio.sleep(self.retry_seconds)
        return None

    async def _place(self, part: Partition, offset: int) -> int | None:
        session, generation = part.session, part.generation
        if not await self._thread.place(part.tp, offset, session, generation) or part.session != session:
            return None
        part.position, part.claimed, part.stalled = offset, True, 0
        self._committed_offset[part.tp] = None  # Kafka's offset may go back with ours
        self._room.set()
        return offset

    async def _stop_at_gap(self, part: Partition, wanted: int, earliest: int | None) -> None:
        part.end_session()
        part.stopped = True
        await self._thread.park(part.tp)
        self._report("gap", part.tp)
        self.log.error("%s stands still: offset %s is not in its log (which begins at %s)", part.tp, wanted, earliest)
        self._positions.gap(part.tp, wanted, earliest)

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Claim and seek each assigned partition. Faust calls this last after a rebalance, with the flow stopped.

        What is not claimed soon (refused, Redis away) goes on being claimed while the others are read.
        """
        assigned = self.assignment()
        tasks = [self._start(*self._claim_again(tp)) for tp in assigned]
        if tasks:
            await asyncio.wait(tasks, timeout=self.claim_wait)
        return {tp: self._parts[tp].position for tp in assigned if self._parts[tp].claimed}

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """End the sessions, let listeners drop their work, then tell `positions`."""
        revoked = {ensure_TP(tp) for tp in revoked}
        for tp in revoked:
            part = self._part(tp)
            part.end_session()
            self._thread.placements.pop(tp, None)
            if part.task is not None:
                part.task.cancel()
        for listener in self._listeners:
            try:
                await listener(revoked)
            except Exception:
                self.log.exception("A listener failed on revocation")
        for tp in revoked:
            self._positions.released(tp)
        await super().on_partitions_revoked(revoked)

    async def on_stop(self) -> None:
        for part in self._parts.values():
            if part.task is not None:
                part.task.cancel()
        await super().on_stop()
