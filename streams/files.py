"""Events in files: a folder with one file per topic, or one file whose lines name their topic."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from models.events import TOPICS, TOUCHPOINT_TYPES

FIRST = datetime.min.replace(tzinfo=UTC)
_PURCHASE_TYPES = ("order", "refund", "cancel")


class InputError(Exception):
    """An input can't be read; the message names the file and, where there is one, the line."""


class InputRecord(NamedTuple):
    """One event as it would be published. `where` is `file:line`."""

    topic: str
    value: bytes
    where: str


class _Line(Struct):
    topic: str | UnsetType = UNSET
    value: Raw | UnsetType = UNSET


class _Keys(Struct):
    """What a message is keyed and sorted by. Whatever has another type than expected counts as absent."""

    customer_id: Any = None
    anonymous_id: Any = None
    order_id: Any = None
    cost_id: Any = None
    occurred_at: Any = None
    reported_at: Any = None
    start: Any = None
    type: Any = None


_line = msgspec.json.Decoder(_Line).decode
_keys = msgspec.json.Decoder(_Keys).decode


def read(path: str | Path) -> Iterator[InputRecord]:
    """The records of a folder or file, file after file, in the order of their lines.

    In a folder, and in a file named after a topic, every line is an event as it is, be it broken: that is for the dead letters. In any
    other file a line is {"topic": ..., "value": ...}, with the event as an object or as a string. Raises
    InputError when there is nothing to read, or such a line is wrong.
    """
    path = Path(path)
    if path.is_dir():
        files = [(path / f"{topic}.jsonl", topic) for topic in TOPICS]
        found = [(file, topic) for file, topic in files if file.is_file()]
        if not found:
            names = ", ".join(file.name for file, _ in files)
            raise InputError(f"{path}: none of {names} is there")
        return (record for file, topic in found for record in _bare(file, topic))
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    topic = topic_of_name(path)
    return _bare(path, topic) if topic else _enveloped(path)


def topic_of_name(path: Path) -> str | None:
    """The topic a file is named after: `clicks.jsonl`, also `clicks-2026-01.jsonl`."""
    first = re.split(r"[^a-z]", path.name, maxsplit=1)[0]
    return first if first in TOPICS else None


def lines_of(path: Path) -> Iterator[tuple[str, bytes]]:
    """(`file:line`, line) of each line that is not blank. Raises InputError."""
    try:
        with path.open("rb") as file:
            yield from numbered(file, str(path))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None


def numbered(lines: Iterable[bytes], name: str) -> Iterator[tuple[str, bytes]]:
    """As `lines_of`, of an open file."""
    for number, line in enumerate(lines, 1):
        text = line.removeprefix(b"\xef\xbb\xbf").strip() if number == 1 else line.strip()
        if text:
            yield f"{name}:{number}", text


def enveloped(line: bytes) -> tuple[str, bytes] | None:
    """(topic, value) of a line {"topic": ..., "value": ...}; None for any other. Raises InputError on a topic that is none."""
    try:
        found = _line(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if found.topic is UNSET or found.value is UNSET:
        return None
    if found.topic not in TOPICS:
        raise InputError(f"topic: {found.topic!r} is none of {', '.join(TOPICS)}")
    value = bytes(found.value)
    if value.startswith(b'"'):
        value = msgspec.json.decode(value, type=str).encode()
    return found.topic, b"" if value == b"null" else value


def topic_of_fields(line: bytes) -> str | None:
    """The only topic a bare event can be of, by the fields that others don't have; None when that is not clear."""
    try:
        found = _keys(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if found.cost_id is not None or (found.start is not None and found.occurred_at is None):
        return "costs"
    if found.order_id is not None or found.type in _PURCHASE_TYPES:
        return "purchases"
    if found.type in TOUCHPOINT_TYPES:
        return "touchpoints"
    return "clicks" if found.type is None and found.occurred_at is not None else None


def by_time(records: Iterable[InputRecord]) -> list[InputRecord]:
    """The records by `occurred_at` (costs: else `reported_at`, else `start`), equal times in input order.

    One without a readable time stays behind the one before it in its file. Reads everything into memory.
    """
    last: dict[str, datetime] = {}
    timed = []
    for record in records:
        last[record.topic] = when = occurred(record.value) or last.get(record.topic, FIRST)
        timed.append((when, record))
    timed.sort(key=lambda pair: pair[0])
    return [record for _, record in timed]


def occurred(value: bytes) -> datetime | None:
    """When an event occurred, as far as it can be read."""
    try:
        found = _keys(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    for text in (found.occurred_at, found.reported_at, found.start):
        if isinstance(text, str):
            try:
                moment = msgspec.convert(text, datetime)
            except msgspec.ValidationError:
                continue
            return moment if moment.tzinfo else None
    return None


def key_of(record: InputRecord) -> bytes | None:
    """The Kafka key: what belongs together goes to one partition. None when there is nothing to go by."""
    try:
        found = _keys(record.value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    person = found.customer_id or found.anonymous_id
    key = {"purchases": found.order_id or person, "costs": found.cost_id}.get(record.topic, person)
    return key.encode("utf-8", "surrogatepass") if isinstance(key, str) and key else None


def _bare(path: Path, topic: str) -> Iterator[InputRecord]:
    for where, line in lines_of(path):
        yield InputRecord(topic, line, where)


def _enveloped(path: Path) -> Iterator[InputRecord]:
    for where, line in lines_of(path):
        try:
            found = enveloped(line)
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
        if found is None:
            raise InputError(f'{where}: not a line such as {{"topic": "clicks", "value": {{...}}}}')
        yield InputRecord(*found, where)
