"""How nodes and rollup cells are packed for Redis.

Names (dims, measures, models, kinds) are interned per partition: stored once, referred to by small numbers. A journey is a row of 30
bytes per event when all ids are UUIDs, so that adding one event packs one row; other journeys are packed by column. A format
number leads each node.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import msgspec
from msgspec import structs

from attribution.nodes.state import (
    Answer,
    Conversion,
    CostRow,
    Filed,
    JourneyEvent,
    Node,
    Order,
    Person,
    Refunded,
    Report,
    Restated,
    TouchRef,
)
from attribution.rollups import Cell
from models.results import OTHER
from models.wire import ENGAGEMENT, OrderReport, Survey, Touch
from streams.identity_codec import pack_identity, unpack_identity

FORMAT = 6
_UUIDS = re.compile(r"(?:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})+")
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder().decode
_PERSON, _ORDER, _COST, _ANSWER = 0, 1, 2, 3
_PLAIN = Conversion._fields.index("filed")
"""Fields of a conversion that are packed as they are."""
# An event whose id is a UUID: time, digest, number of (class, kind, dims), id.
_ROW = struct.Struct("<qIH16s")
_WHAT_MAX = 0xFFFF
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}").fullmatch
_NO_EXTRA: list[Any] = [None, 0, None]
Numbers = dict[int, int]
"""A rollup cell: amount by number of measure."""


class Names:
    """A partition's interning table. `fresh` are the numbers given since it was last emptied: still to be stored."""

    def __init__(self, stored: dict[int, bytes] | None = None) -> None:
        self._ids: dict[Hashable, int] = {}
        self._values: dict[int, Any] = {}
        self.fresh: dict[int, bytes] = {}
        for number, packed in (stored or {}).items():
            value = _tuples(_unpack(packed))
            self._ids[value] = number
            self._values[number] = value

    def __len__(self) -> int:
        return len(self._values)

    def id(self, value: Hashable) -> int:
        """The number of a name, given now if it is new."""
        found = self._ids.get(value)
        if found is None:
            found = len(self._values)
            self._ids[value] = found
            self._values[found] = value
            self.fresh[found] = _pack(value)
        return found

    def admit(self, touch: Touch, admitted: int, limit: int) -> tuple[Touch, int]:
        """The touch under names it may have, and how many names of events are given by now.

        Names come from events, so they are bounded: beyond `limit` a new campaign goes under `(other)`, beyond twice that its
        channel and network too, and an engagement's kind. Given entry by entry, so that it doesn't matter how the log is cut.
        """
        known = self._ids
        dims: tuple[str, str, str] = (touch.channel, touch.network, touch.campaign)
        if dims not in known:
            if admitted >= limit:
                dims = (touch.channel, touch.network, OTHER)
                if dims not in known and admitted >= 2 * limit:
                    dims = (OTHER, OTHER, OTHER)
                touch = structs.replace(touch, channel=dims[0], network=dims[1], campaign=dims[2])
            if dims not in known:
                self.id(dims)
                admitted += 1
        if touch.cls == ENGAGEMENT and (kind := ("kind", touch.kind)) not in known:
            if admitted >= limit:
                touch = structs.replace(touch, kind=OTHER)
            else:
                self.id(kind)
                admitted += 1
        return touch, admitted

    def admit_named(self, entry: OrderReport | Survey, admitted: int, limit: int) -> tuple[OrderReport | Survey, int]:
        """The same for the tracker of an order, and for what an answer names."""
        report = isinstance(entry, OrderReport)
        name = ("source", entry.source) if report else ("answer", entry.channel, entry.network)  # type: ignore[union-attr]
        if name not in self._ids:
            if admitted >= limit:
                other = {"source": OTHER} if report else {"channel": OTHER, "network": OTHER}
                return structs.replace(entry, **other), admitted
            self.id(name)
            admitted += 1
        return entry, admitted

    def value(self, number: int) -> Any:
        """The name behind a number."""
        return self._values[number]


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def pack_ids(ids: Sequence[str]) -> bytes | list[str]:
    """Ids as one string of 16 bytes each when all are canonical UUIDs, else as they are."""
    joined = "".join(ids)
    # Each by itself: ids of other lengths might make up UUIDs when joined.
    if all(len(text) == 36 for text in ids) and _UUIDS.fullmatch(joined):
        return bytes.fromhex(joined.replace("-", ""))
    return list(ids)


def unpack_ids(packed: bytes | list[str]) -> list[str]:
    """The inverse of `pack_ids`."""
    if isinstance(packed, list):
        return packed
    digits = packed.hex()
    return [
        f"{d[:8]}-{d[8:12]}-{d[12:16]}-{d[16:20]}-{d[20:]}"
        for d in (digits[i : i + 32] for i in range(0, len(digits), 32))
    ]


def _pack_times(times: Sequence[int]) -> list[int]:
    return [t - s for s, t in zip([0, *times], times, strict=False)]


def _unpack_times(steps: Sequence[int]) -> list[int]:
    times, t = [], 0
    for step in steps:
        t += step
        times.append(t)
    return times


class Memo:
    """What packing a person again can reuse: the rows of the events it had, end to end, and its packed conversions."""

    __slots__ = ("conversions", "events", "extras", "packed", "rows")

    def __init__(self) -> None:
        self.events: tuple[JourneyEvent, ...] = ()
        self.rows = b""
        self.extras: dict[int, Sequence[Any]] = {}
        self.conversions: tuple[Conversion, ...] = ()
        self.packed: list[list[Any]] = []


def pack_node(node: Node, names: Names) -> bytes:
    """A node as bytes."""
    if isinstance(node, Person):
        return pack_person(node, names, Memo())
    if isinstance(node, Order):
        return _pack([FORMAT, _ORDER, *node])
    if isinstance(node, Answer):
        return _pack([FORMAT, _ANSWER, node])
    assert isinstance(node, CostRow)
    return _pack([FORMAT, _COST, node])


def unpack_node(packed: bytes, names: Names, memo: Memo | None = None) -> Node:
    """The inverse of `pack_node`. Raises ValueError on a format this code does not know. `memo`: for packing it again, if it is a person."""
    fields = _unpack(packed)
    if fields[0] != FORMAT:
        raise ValueError(f"stored node has format {fields[0]}; this version reads {FORMAT}")
    if fields[1] == _PERSON:
        return _unpack_person(fields, names, memo)
    if fields[1] == _ORDER:
        reports, refunds, owner, aliases = fields[2:]
        return Order(
            tuple(Report(*r) for r in reports),
            tuple(Refunded(*r) for r in refunds),
            owner,
            tuple((t, event_id, person) for t, event_id, person in aliases),
        )
    if fields[1] == _ANSWER:
        t, question, dims, score, digest, person = fields[2]
        return Answer(t, question, tuple(dims), score, digest, person)
    start, end, reported_at, kind, dims, amount, digest, reported, campaign_id = fields[2]
    figures = tuple((name, number) for name, number in reported)
    return CostRow(start, end, reported_at, kind, tuple(dims), amount, digest, figures, campaign_id)


def pack_person(person: Person, names: Names, memo: Memo) -> bytes:
    """A person as bytes. Journeys grow at their end, so all but the newest event is as it was packed before."""
    trimmed, closed = person[2:4]
    if person.conversions is not memo.conversions:
        memo.conversions = person.conversions
        memo.packed = [_pack_conversion(conversion, names) for conversion in person.conversions]
    events = [memo.rows, memo.extras] if _extend(memo, person.events, names) else _columns(person.events, names)
    packed = [FORMAT, _PERSON, events, memo.packed, trimmed, closed, person.advocated, person.bought]
    if person.device is not None or person.given is not None:
        packed.append(
            pack_identity(
                person,
                lambda events: _columns(events, names),
                lambda conversions: [_pack_conversion(conversion, names) for conversion in conversions],
            )
        )
    return _pack(packed)


def _extend(memo: Memo, events: tuple[JourneyEvent, ...], names: Names) -> bool:
    """Bring the memo's rows up to these events; False, and no rows, when one of them does not fit a row.

    What stands the same at the beginning and at the end keeps its rows: an event put in between packs one.
    """
    rows, held = memo.rows, memo.events
    had = head = len(rows) // _ROW.size
    tail = 0
    if events[:head] != held[:head] or not head:
        shorter = min(head, len(events))
        head = 0
        while head < shorter and events[head] is held[head]:
            head += 1
        while tail < shorter - head and events[-1 - tail] is held[-1 - tail]:
            tail += 1
    middle = []
    for t, event_id, cls, kind, dims, _, _, _, digest in events[head : len(events) - tail]:
        what = names.id((cls, kind, dims))
        if what > _WHAT_MAX or not _UUID(event_id):
            memo.rows, memo.extras, memo.events = b"", {}, ()
            return False
        middle.append(_ROW.pack(t, digest, what, bytes.fromhex(event_id.replace("-", ""))))
    if head == had:
        memo.rows = b"".join((rows, *middle))
    else:
        memo.rows = b"".join((rows[: head * _ROW.size], *middle, rows[len(rows) - tail * _ROW.size :]))
        memo.extras = {} if tail else {i: extra for i, extra in memo.extras.items() if i < head}
        head = 0 if tail else head
    memo.extras |= _extras(events, head)
    memo.events = events
    return True


def _extras(events: tuple[JourneyEvent, ...], start: int) -> dict[int, Sequence[Any]]:
    """Click id, flags and cost of the events, from `start` on, that have any."""
    return {
        i: (events[i][5], events[i][6], events[i][7])
        for i in range(start, len(events))
        if events[i][5] or events[i][6] or events[i][7] is not None
    }


def _columns(events: tuple[JourneyEvent, ...], names: Names) -> list[Any]:
    """Events whose ids are not all UUIDs, by column."""
    if not events:
        return []
    ts, ids, classes, kinds, dims, clicks, flags, costs, digests = zip(*events, strict=True)
    return [
        _pack_times(ts),
        pack_ids(ids),
        [names.id(what) for what in zip(classes, kinds, dims, strict=True)],
        struct.pack(f"<{len(digests)}I", *digests),
        clicks if any(clicks) else None,
        flags if any(flags) else None,
        None if costs.count(None) == len(costs) else costs,
    ]


def _from_rows(blob: bytes, extras: dict[int, list[Any]], names: Names) -> Iterator[JourneyEvent]:
    for i, (t, digest, what, raw) in enumerate(_ROW.iter_unpack(blob)):
        click_id, flags, cost = extras.get(i, _NO_EXTRA)
        d = raw.hex()
        event_id = f"{d[:8]}-{d[8:12]}-{d[12:16]}-{d[16:20]}-{d[20:]}"
        yield JourneyEvent._make((t, event_id, *names.value(what), click_id, flags, cost, digest))


def _unpack_person(fields: list[Any], names: Names, memo: Memo | None) -> Person:
    _, _, columns, conversions, trimmed, closed, advocated, bought, *identity = fields
    events, known = _unpack_events(columns, names), _unpack_conversions(conversions, names)
    person = Person(events, known, trimmed, closed, advocated=advocated, bought=bought)
    if memo is not None:
        memo.conversions, memo.packed = known, conversions
        if len(columns) == 2:
            memo.events, (memo.rows, memo.extras) = events, columns
    if not identity:
        return person
    return unpack_identity(
        identity[0],
        person,
        lambda columns: _unpack_events(columns, names),
        lambda conversions: _unpack_conversions(conversions, names),
    )


def _unpack_conversions(packed: list[Any], names: Names) -> tuple[Conversion, ...]:
    return tuple(_unpack_conversion(conversion, names) for conversion in packed)


def _unpack_events(columns: list[Any], names: Names) -> tuple[JourneyEvent, ...]:
    if len(columns) == 2:
        return tuple(_from_rows(columns[0], columns[1], names))
    if not columns:
        return ()
    steps, ids, whats, digests, clicks, flags, costs = columns
    n = len(steps)
    return tuple(
        JourneyEvent._make((t, event_id, *names.value(what), click, flag, cost, digest))
        for t, event_id, what, click, flag, cost, digest in zip(
            _unpack_times(steps),
            unpack_ids(ids),
            whats,
            clicks or [None] * n,
            flags or [0] * n,
            costs or [None] * n,
            struct.unpack(f"<{n}I", digests),
            strict=True,
        )
    )


def _pack_conversion(conversion: Conversion, names: Names) -> list[Any]:
    filed = conversion.filed
    packed: list[Any] = [*conversion[:_PLAIN], None]
    if filed is not None:
        packed[_PLAIN] = [
            filed.config,
            filed.reason,
            pack_ids([touch.touch_id for touch in filed.touches]),
            _pack_times([touch.t for touch in filed.touches]),
            [names.id(touch.dims) for touch in filed.touches],
            [[names.id(model), weights] for model, weights in filed.weights],
        ]
    if conversion.history:
        packed.append(conversion.history)
    return packed


def _unpack_conversion(packed: list[Any], names: Names) -> Conversion:
    filed = None
    plain, about, *history = packed[:_PLAIN], *packed[_PLAIN:]
    if about is not None:
        config, reason, ids, steps, dims, weights = about
        refs = zip(unpack_ids(ids), _unpack_times(steps), dims, strict=True)
        filed = Filed(
            config,
            reason,
            tuple(TouchRef(touch_id, t, names.value(number)) for touch_id, t, number in refs),
            tuple((names.value(model), tuple(values)) for model, values in weights),
        )
    told = tuple(Restated._make(once) for once in history[0]) if history else ()
    return Conversion._make((*plain, filed, told))


def pack_cell(cell: Cell, names: Names) -> bytes:
    """A rollup cell: amounts by number of measure."""
    return pack_numbers({names.id(measure): amount for measure, amount in cell.items()})


def unpack_cell(packed: bytes, names: Names) -> Cell:
    """The inverse of `pack_cell`."""
    return {names.value(number): amount for number, amount in unpack_numbers(packed).items()}


def pack_numbers(cell: Numbers) -> bytes:
    """A cell whose measures are numbers already: a map without zeros; an amount beyond 64 bits is decimal text."""
    if 0 in cell.values():
        for number in [number for number, amount in cell.items() if not amount]:
            del cell[number]
    try:
        return _pack(cell)
    except OverflowError:
        return _pack({number: n if -(1 << 63) <= n < (1 << 63) else str(n) for number, n in cell.items()})


def unpack_numbers(packed: bytes) -> Numbers:
    """The inverse of `pack_numbers`."""
    cell: dict[int, int | str] = _unpack(packed)
    return {number: int(amount) for number, amount in cell.items()}
