"""Each protection taken out, one at a time: a simulation that then still passes protects nothing.

`make mutants` runs each against up to ten seeds and prints which seed noticed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import patch

from streams import app, tables
from streams.blocks import cut
from streams.embedded import RedisServer
from streams.lanes import Lanes
from streams.marks import Marks
from streams.outbox import Outbox
from streams.stitch import JourneyPartition
from streams.testing import trial
from streams.transport import Consumer

Mutant = Callable[[], AbstractContextManager[Any]]
SEEDS = range(1, 11)


@contextlib.contextmanager
def _commit_without(check: str) -> Iterator[None]:
    """The commit script without one of its conditions."""
    script = tables._COMMIT
    assert script.text.count(check) == 1
    text = script.text.replace(check, "")
    with patch.object(script, "text", text), patch.object(script, "sha", hashlib.sha1(text.encode()).hexdigest()):
        yield


def without_compare_and_set() -> AbstractContextManager[Any]:
    """A commit applies whatever position is stored."""
    return _commit_without(" or (stored[2] or '0:0') ~= ARGV[2]")


def without_token() -> AbstractContextManager[Any]:
    """A commit applies whoever has claimed since."""
    return _commit_without("stored[1] ~= ARGV[1] or ")


class _Forgetful(dict[str, tuple[int, int]]):
    def get(self, key: str, default: Any = None) -> Any:
        return default


def without_triples() -> AbstractContextManager[Any]:
    """Entries are applied as often as they come."""
    fold = JourneyPartition._fold

    def forgetting(self: Any, piece: Any, progress: Any, chunk: Any) -> int:
        progress.applied = _Forgetful(progress.applied)
        count = fold(self, piece, progress, chunk)
        progress.applied = dict(progress.applied)
        return count

    return patch.object(JourneyPartition, "_fold", forgetting)


def without_one_in_flight() -> AbstractContextManager[Any]:
    """All blocks of one source to one target are on their way at once."""

    async def at_once(self: Any, target: int, source: str, entries: list[Any], published: int) -> None:
        await self._all(
            [
                await self._producer.send(self._journey, packed, partition=target)
                for packed in cut(source, entries, published)
            ]
        )

    return patch.object(Outbox, "_in_order", at_once)


def without_watchdog() -> AbstractContextManager[Any]:
    """Nobody looks after what was delivered and not done."""

    async def blind(self: Any, part: Any) -> None: ...

    return patch.object(Consumer, "_watch", blind)


def without_hole_check() -> AbstractContextManager[Any]:
    """A fetch is worked although the one before it never was."""
    work = app.Runtime.work

    async def trusting(self: Any, batch: Any) -> None:
        part = self.claims.parts.get(batch.tp)
        if part is not None:
            batch.start = part.position.offset
        await work(self, batch)

    return patch.object(app.Runtime, "work", trusting)


def without_sessions() -> AbstractContextManager[Any]:
    """Fetches of before a rewind count as of now."""
    return patch.object(Consumer, "current", lambda self, batch: batch.tp in self._parts)


def without_ack_in_finally() -> AbstractContextManager[Any]:
    """Faust hears of a fetch only when it is applied."""

    class Event:
        def __init__(self, event: Any) -> None:
            self.value, self._event = event.value, event

        def ack(self) -> None:
            if self.value.applied:
                self._event.ack()

    put = Lanes.put

    async def wrapped(self: Any, event: Any) -> None:
        await put(self, Event(event))

    return patch.object(Lanes, "put", wrapped)


def without_marks() -> AbstractContextManager[Any]:
    """Every source counts as idle: the watermark waits for nobody."""
    return patch.object(Marks, "_idle", lambda self, tp, part: True)


def without_verification() -> AbstractContextManager[Any]:
    """A partition without work to do is not asked whether Redis went back."""
    return patch.object(app, "VERIFY_SECONDS", 1e9)


def without_sending_first() -> AbstractContextManager[Any]:
    """Moves, attributions and dead letters are sent after the commit."""
    send, chunk = JourneyPartition._send, JourneyPartition._chunk

    async def keep(self: Any, what: Any) -> None:
        self.kept = what

    async def afterwards(self: Any, *args: Any) -> Any:
        outcome = await chunk(self, *args)
        if outcome is tables.Outcome.APPLIED:
            await send(self, self.kept)
        return outcome

    return patch.multiple(JourneyPartition, _send=keep, _chunk=afterwards)


def without_blocks_first() -> AbstractContextManager[Any]:
    """Ingest commits its position first and sends blocks afterwards."""
    entries = Outbox.entries

    async def later(self: Any, source: str, found: Any, published: int = 0) -> None:
        if source.startswith("journey-events"):
            return await entries(self, source, found, published)
        task = asyncio.create_task(entries(self, source, found, published))
        task.add_done_callback(lambda done: None if done.cancelled() else done.exception())
        return None

    return patch.object(Outbox, "entries", later)


MUTANTS: dict[str, Mutant] = {
    "compare-and-set": without_compare_and_set,
    "token": without_token,
    "triples": without_triples,
    "one in flight": without_one_in_flight,
    "blocks before the position": without_blocks_first,
    "moves and results before the position": without_sending_first,
    "hole check": without_hole_check,
    "sessions": without_sessions,
    "watchdog": without_watchdog,
    "acknowledgement in finally": without_ack_in_finally,
    "marks": without_marks,
    "verification after a rollback": without_verification,
}


def killed(mutant: Mutant | None, seed: int) -> str:
    """What the trial of this seed found; empty when it noticed nothing."""
    with RedisServer() as redis, mutant() if mutant else contextlib.nullcontext():
        try:
            found = trial.run(seed, redis).wrong
        except Exception as error:
            return repr(error)
    return found[0] if found else ""


def main() -> int:
    """Prints the table; 1 when a seed fails with nothing taken out."""
    if os.environ.get("PYTHONHASHSEED") != "0":
        command = [sys.executable, "-m", "tests.simulation.mutants", *sys.argv[1:]]
        os.execve(sys.executable, command, {**os.environ, "PYTHONHASHSEED": "0"})
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=sorted(MUTANTS))
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    failed = [seed for seed in SEEDS if not options.only and killed(None, seed)]
    print("| without | noticed by seed | first finding |\n|---|---|---|")
    print(f"| (nothing taken out) | {failed or '-'} | |", flush=True)
    for name, mutant in MUTANTS.items():
        if options.only in (None, name):
            finding = next(((seed, found) for seed in SEEDS if (found := killed(mutant, seed))), None)
            seed, found = finding or ("survived", "")
            print(f"| {name} | {seed} | {found[:90].replace('|', '/')} |", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
