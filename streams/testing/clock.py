"""Virtual time: an event loop whose clock jumps to the next timer when there is nothing else to do.

All tasks of a simulation run on it in one thread, so that their order follows from the timers alone, and waiting costs no
time. Redis is real: a call to it blocks the loop (`Loop.blocking`), so that its speed has no part in that order either.
"""

from __future__ import annotations

import asyncio
import contextvars
import selectors
from asyncio import events
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar
from weakref import WeakSet

T = TypeVar("T")
OWNER: contextvars.ContextVar[str] = contextvars.ContextVar("owner", default="driver")
"""Which worker a task belongs to: whatever it starts, and whatever that starts, inherits it."""


class _Selector(selectors.DefaultSelector):  # type: ignore[misc, valid-type]
    """Never waits: where a real loop would sleep until the next timer, time is moved on to it."""

    skip: Callable[[float | None], None]

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if not ready and (timeout is None or timeout > 0):
            self.skip(timeout)
        return ready


class Loop(asyncio.SelectorEventLoop):
    """`time()` is in seconds since the loop was made."""

    def __init__(self) -> None:
        self.now = 0.0
        selector = _Selector()
        selector.skip = self._skip
        super().__init__(selector)
        self._clock_resolution = 1e-6  # sums of floats may end a hair before the timer
        self._tasks: dict[str, WeakSet[asyncio.Task[Any]]] = {}
        self._inner = asyncio.new_event_loop()
        self.set_task_factory(self._task)

    def time(self) -> float:
        return self.now

    def _skip(self, timeout: float | None) -> None:
        if timeout is None:
            raise RuntimeError("the simulation has come to a halt: no task waits for anything that can happen")
        self.now += timeout

    def _task(self, loop: asyncio.AbstractEventLoop, coro: Any, **kwargs: Any) -> asyncio.Task[Any]:
        context = kwargs.get("context")
        owner = OWNER.get() if context is None else context.get(OWNER, "driver")
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=loop, **kwargs)
        self._tasks.setdefault(owner, WeakSet()).add(task)
        return task

    def tasks_of(self, owner: str) -> list[asyncio.Task[Any]]:
        """The running tasks of a worker, by name: a weak set has no order of its own."""
        return sorted(
            (task for task in self._tasks.get(owner, ()) if not task.done()), key=lambda task: task.get_name()
        )

    def blocking(self, coro: Coroutine[Any, Any, T]) -> T:
        """Run `coro` to its end on a loop of its own, while this one and its time stand still."""
        # Two loops in one thread, one inside the other: asyncio refuses only as long as it sees the outer one.
        events._set_running_loop(None)
        try:
            return self._inner.run_until_complete(coro)
        finally:
            events._set_running_loop(self)

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        """At once and in this thread: a thread would finish at a moment of its own choice."""
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    def close(self) -> None:
        if not self.is_closed():
            self._inner.close()
        super().close()
