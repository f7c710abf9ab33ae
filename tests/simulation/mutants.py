"""Each protection taken out, one at a time: the test of the failure table that is about it must fail, whatever the seed.

`make mutants` runs each against its tests with ten seeds, those tests with nothing taken out first, and prints how many seeds failed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import patch

from attribution import filing, intake
from attribution.money import convert, to_micros
from attribution.nodes import person as person_node
from streams import app, tables
from streams.blocks import cut
from streams.embedded import RedisServer
from streams.marks import Marks
from streams.outbox import Outbox
from streams.positions import Claims
from streams.stitch import JourneyPartition
from streams.transport import Consumer
from tests.simulation import test_failure_table as table

Mutant = Callable[[], AbstractContextManager[Any]]
SEEDS = range(1, 11)


@contextlib.contextmanager
def _script_without(script: Any, check: str) -> Iterator[None]:
    """A script without one of its conditions."""
    assert script.text.count(check) == 1
    text = script.text.replace(check, "")
    with patch.object(script, "text", text), patch.object(script, "sha", hashlib.sha1(text.encode()).hexdigest()):
        yield


def without_compare_and_set() -> AbstractContextManager[Any]:
    """A commit applies whatever position is stored."""
    return _script_without(tables._COMMIT, " or (stored[2] or '0:0') ~= ARGV[2]")


def without_token() -> AbstractContextManager[Any]:
    """A commit applies whoever has claimed since."""
    return _script_without(tables._COMMIT, "stored[1] ~= ARGV[1] or ")


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


def without_recognition() -> AbstractContextManager[Any]:
    """A commit that is found done counts as somebody else's."""
    script = tables._COMMIT

    class Forgetting:
        text, sha = script.text, script.sha

        async def __call__(self, *args: Any) -> Any:
            reply = await script(*args)
            return reply if reply == 1 else [reply[0], b"%d:0" % (1 << 60)]

    return patch.object(tables, "_COMMIT", Forgetting())


def without_force() -> AbstractContextManager[Any]:
    """A claim at an older generation of the group is refused for ever."""
    claim = Claims.claim

    async def meek(self: Any, tp: Any, generation: int, force: bool = False) -> int | None:
        return await claim(self, tp, generation, False)

    return patch.object(Claims, "claim", meek)


def without_gap_check() -> AbstractContextManager[Any]:
    """Nobody looks whether a log without state begins at its beginning."""

    async def silent(self: Any, part: Any, wanted: int, earliest: int | None) -> None:
        await self._place(part, earliest or 0)

    return patch.object(Consumer, "_stop_at_gap", silent)


@contextlib.contextmanager
def without_configuration_at_claims() -> Iterator[None]:
    """A worker of an older configuration claims what one of a newer one has worked."""
    with _script_without(
        tables._CLAIM, "if config and tonumber(config) > tonumber(ARGV[4]) then return {'config', config, owner} end"
    ):
        yield


def without_configuration_numbers() -> AbstractContextManager[Any]:
    """Whatever configuration the log names applies from there on, whatever its number."""
    fold = JourneyPartition._fold

    def believing(self: Any, piece: Any, progress: Any, chunk: Any) -> int:
        if piece.block.configured is not None:
            progress.config = piece.block.configured.number - 1
        return fold(self, piece, progress, chunk)

    return patch.object(JourneyPartition, "_fold", believing)


def without_what_is_on_file() -> AbstractContextManager[Any]:
    """What a restated conversion had before is taken from the models there are now."""

    def as_now(filed: Any) -> Any:
        models = person_node.ONLY  # type: ignore[attr-defined]
        return filed._replace(weights=tuple(item for item in filed.weights if item[0] in models))

    facts = filing.conversion_facts
    refile = person_node.refile

    def refiling(person: Any, earliest: int, found: Any, context: Any) -> Any:
        person_node.ONLY = context.rules.models  # type: ignore[attr-defined]
        return refile(person, earliest, found, context)

    def of_now(conversion: Any) -> Any:
        filed = conversion.filed
        return facts(conversion if filed is None else conversion._replace(filed=as_now(filed)))

    return patch.multiple(person_node, refile=refiling, conversion_facts=of_now)


@contextlib.contextmanager
def without_bounds() -> Iterator[None]:
    """Amounts and times are taken as they come."""

    def timely(moment: Any, path: str) -> int:
        return intake.microseconds(moment)

    def bounded(amount: Any, path: str, least: int = 0) -> int:
        return to_micros(amount)

    def converted(own: int, rate: tuple[int, int], path: str) -> int:
        return convert(own, *rate)

    with patch.multiple(intake, timely=timely, bounded=bounded, _converted=converted):
        yield


def without_bounded_buffers() -> AbstractContextManager[Any]:
    """Whatever has come is fetched and delivered."""
    return patch.multiple(Consumer, max_outstanding=1 << 30, max_outstanding_bytes=1 << 60)


def without_kafkas_timestamp() -> AbstractContextManager[Any]:
    """What is in the future is judged by the worker's clock."""
    take = intake.Intake.take

    def by_clock(self: Any, topic: str, value: Any, timestamp: int, offset: int) -> Any:
        return take(self, topic, value, int(time.time() * 1_000_000), offset)

    return patch.object(intake.Intake, "take", by_clock)


MUTANTS: dict[str, tuple[Mutant, str]] = {
    "compare-and-set": (without_compare_and_set, "test_one_slot_rolls_back_and_another_does_not"),
    "token": (without_token, "test_zombie_at_a_source_that_was_reset"),
    "numbers of entries (triples)": (without_triples, "test_killed_before_commit"),
    "numbers of entries, of blocks sent twice": (without_triples, "test_block_sent_twice"),
    "one block in flight": (without_one_in_flight, "test_block_lost"),
    "blocks before the position": (without_blocks_first, "test_block_lost"),
    "moves and results before the position": (without_sending_first, "test_killed_after_commit"),
    "hole check": (without_hole_check, "test_agent_raises"),
    "sessions": (without_sessions, "test_fetch_of_a_source_that_was_reset"),
    "watchdog": (without_watchdog, "test_agent_loses_the_last_fetch"),
    "marks": (without_marks, "test_one_topic_months_ahead"),
    "verification after a rollback": (without_verification, "test_a_partition_at_its_end_rolls_back"),
    "recognition of the own commit": (without_recognition, "test_redis_reply_lost"),
    "claims by force": (without_force, "test_group_deleted"),
    "gap check": (without_gap_check, "test_a_missing_head_is_a_loud_gap"),
    "configuration numbers in claims": (
        without_configuration_at_claims,
        "test_an_older_configuration_does_not_take_over",
    ),
    "configuration numbers in the log": (without_configuration_numbers, "test_an_older_configuration_comes_late"),
    "credit on file": (without_what_is_on_file, "test_restated_under_another_configuration"),
    "bounds of amounts and times": (without_bounds, "test_poison"),
    "bounds of buffers": (without_bounded_buffers, "test_slow_redis_and_a_hot_key"),
    "Kafka's timestamp for the future": (without_kafkas_timestamp, "test_clock_skew"),
}
"""Each with the test of the failure table that must notice it."""


def cases(test: str) -> list[dict[str, Any]]:
    """The arguments of a test's other parameters: each must fail, or pass, by itself."""
    found: list[dict[str, Any]] = [{}]
    for mark in getattr(getattr(table, test), "pytestmark", []):
        names = [name.strip() for name in mark.args[0].split(",")] if mark.name == "parametrize" else []
        if len(names) == 1 and names != ["seed"]:
            found = [{**case, names[0]: value} for case in found for value in mark.args[1]]
    return found


def killed(mutant: Mutant | None, test: str, seed: int) -> str:
    """What the test of this seed found, in any of its cases; empty when it noticed nothing."""
    for case in cases(test):
        with RedisServer() as redis, mutant() if mutant else contextlib.nullcontext():
            try:
                getattr(table, test)(redis, seed, **case)
            except Exception as error:
                return str(error).strip() or repr(error)
    return ""


def main() -> int:
    """Prints the table; 1 when a mutant survives a seed, or a test fails with nothing taken out."""
    if os.environ.get("PYTHONHASHSEED") != "0":
        command = [sys.executable, "-m", "tests.simulation.mutants", *sys.argv[1:]]
        os.execve(sys.executable, command, {**os.environ, "PYTHONHASHSEED": "0"})
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=sorted(MUTANTS))
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    chosen = {name: found for name, found in MUTANTS.items() if options.only in (None, name)}
    good = True
    print("| without | killed by | seeds killed of 10 | passed of 10 with it | first finding |\n|---|---|---|---|---|")
    for name, (mutant, test) in chosen.items():
        passed = sum(not killed(None, test, seed) for seed in SEEDS)
        found = [finding for seed in SEEDS if (finding := killed(mutant, test, seed))]
        good &= passed == len(found) == len(SEEDS)
        first = " ".join(found[0].split())[:80].replace("|", "/") if found else "survived"
        print(f"| {name} | {test} | {len(found)} | {passed} | {first} |", flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
