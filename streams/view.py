"""All partitions of the log merged for the exporter: their rollups and costs as windows at one end.

Works on what was read and does no I/O, so that a thread may run it. Old contributions are known by their packed bytes: only cells that
changed are unpacked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from attribution.blocks import Block, Found
from attribution.costs import Ledger
from attribution.facts import Measure
from attribution.families import Row
from attribution.kpi import Board
from attribution.naming import Campaigns
from attribution.nodes.base import NEVER
from attribution.nodes.cost import accrual_end
from attribution.nodes.state import CostRow
from attribution.people import People, Reach
from attribution.rollups import OF_PERSONS, RETENTION, Bucket, Calendar, Cell
from attribution.rules import Dims
from attribution.watermarks import Progress
from attribution.windows import Sums
from models.settings import HOUR, MINUTE, Marketing
from streams.caches import COSTS, bucket_of
from streams.codec import Names, pack_numbers, unpack_cell, unpack_node, unpack_numbers
from streams.render import clean
from streams.tables import Changes, Tables

_progress = msgspec.msgpack.Decoder(Progress).decode
_NO_FIELDS: dict[bytes, bytes] = {}


class Partition:
    """What has been read of one partition."""

    def __init__(self, number: int, tables: Tables) -> None:
        self.number = number
        self.tables = tables
        self.token: str | None = None
        self.seq = 0
        self.names = Names()
        self.cells: dict[str, dict[bytes, bytes]] = {}
        self.costs: dict[bytes, bytes] = {}
        self.slim: set[str] = set()
        """Hashes of which only what is still wanted is held: a year of days would be large otherwise."""

    async def read(self) -> Changes:
        return await self.tables.changes(self.token, self.seq)


class View:
    """The partitions merged. `blocks` hold the rows at `end` (µs); those that have not changed are the same lists as before."""

    def __init__(self, marketing: Marketing, parts: Iterable[Partition]) -> None:
        self.parts = list(parts)
        self.blocks: list[Block] = []
        self.reach: Reach | None = None
        """Distinct devices; None while they have not been counted."""
        self.end = NEVER
        self._marketing = marketing
        self._sums: Sums | None = None
        self._board: Board | None = None
        self._people = People(marketing)
        self._ledger: Ledger | None = None
        self._costs: dict[tuple[int, bytes], CostRow] = {}
        self._campaigns = Campaigns()
        self._changed = True
        self._costs_changed = True

    @property
    def marketing(self) -> Marketing:
        """The configuration that all of it is computed under."""
        return self._marketing

    @property
    def costs(self) -> dict[str, CostRow]:
        """The cost rows by their id, under the names of their campaigns."""
        named = self._campaigns.row
        return {cost_id.decode("utf-8", "replace"): named(row) for (_, cost_id), row in self._costs.items()}

    @property
    def rows(self) -> list[Row]:
        """All rows."""
        return [row for block in self.blocks for row in block.rows]

    @property
    def folded(self) -> dict[str, int]:
        """How many names of a level are in an `(other)`."""
        return self._board.folded if self._board is not None else {}

    @property
    def calendar(self) -> Calendar:
        """The business days."""
        return self._people.calendar

    def reached(self, reach: Reach) -> None:
        """Take over how many devices there are; rows have it from the next reading on."""
        if reach != self.reach:
            self.reach = reach
            self._changed = True

    def ends(self, read: list[Changes], now: int) -> int:
        """Where the windows of this reading end, by the configured clock; `now` is the wall clock's (µs)."""
        if self._marketing.clock == "wall":
            return now
        return max(_progress(changes.state).highest if changes.state else NEVER for changes in read)

    def backward(self, end: int) -> bool:
        """Whether the clock went back: buckets already dropped may be wanted again, so all must be read anew."""
        slack = MINUTE if self._marketing.clock == "wall" else 0
        return self._sums is not None and end < self._sums.end - slack

    def found(self) -> Found:
        """The rows, and the scopes they were made from, as long as nothing more is taken."""
        return Found.of(self.blocks)

    def books(self) -> tuple[Sums, Ledger]:
        """What the rows were made from, as long as nothing more is taken."""
        assert self._sums is not None
        assert self._ledger is not None
        return self._sums, self._ledger

    def load(self, read: list[Changes], end: int) -> int:
        """Apply what was read, and make no rows of it yet. The end of the windows."""
        if self._sums is None:
            self._sums = Sums(self._marketing, end)
            self._board = Board(self._sums, people=self._people)
        elif end > self._sums.end:
            self._sums.move(end)
        for part, changes in zip(self.parts, read, strict=True):
            self._merge(part, changes, self._sums)
        if self._costs_changed:
            self._rename(Campaigns(self._costs.values()), self._sums)
        return self._sums.end

    def take(self, read: list[Changes], end: int, *, anew: bool = False) -> bool:
        """Apply what was read, with windows that end at `end`. True when the rows are new, as they are when made `anew`."""
        end = self.load(read, end)
        if not anew and not self._changed and end - end % MINUTE == self.end - self.end % MINUTE:
            return False
        assert self._sums is not None
        if self._ledger is None or self._costs_changed or end // HOUR != self.end // HOUR:
            recent = [row for row in self._costs.values() if accrual_end(row) > end - RETENTION["d"]]
            kept = map(self._campaigns.row, recent)
            self._ledger = Ledger(kept, self._sums.own, end, spread=self._sums.spread())
        assert self._board is not None
        self.blocks = self._board.blocks(self._ledger, self.reach)
        self.end = end
        self._changed = self._costs_changed = False
        return True

    def _merge(self, part: Partition, changes: Changes, sums: Sums) -> None:
        if changes.full:
            for suffix, fields in part.cells.items():
                self._replace(part, sums, suffix, fields, _NO_FIELDS)
            for cost_id in part.costs:
                del self._costs[part.number, cost_id]
                self._costs_changed = self._changed = True
            part.cells, part.costs, part.names = {}, {}, Names()
            part.slim.clear()
        names = changes.hashes.get("names")
        if names:
            part.names = Names({int(number): packed for number, packed in names.items()})
        for suffix, fields in changes.hashes.items():
            if suffix == COSTS:
                self._merge_costs(part, fields)
            elif (bucket := bucket_of(suffix)) is not None:
                if _wanted(sums, bucket):
                    self._replace(part, sums, suffix, part.cells.get(suffix, _NO_FIELDS), fields)
                    part.cells[suffix] = fields
                else:
                    part.cells.pop(suffix, None)
        for suffix, fields in list(part.cells.items()):
            kept = bucket_of(suffix)
            if not fields or kept is None or not _wanted(sums, kept):
                del part.cells[suffix]
        part.slim &= part.cells.keys() - changes.hashes.keys()
        for suffix in part.cells.keys() - part.slim:
            kept = bucket_of(suffix)
            if kept is not None and sums.slim(kept):
                part.cells[suffix] = _slimmed(part, sums, part.cells[suffix])
                part.slim.add(suffix)
        part.token, part.seq = changes.token, changes.seq

    def _rename(self, campaigns: Campaigns, sums: Sums) -> None:
        """Bring what is held of campaigns that are named otherwise now under their new names."""
        before = self._campaigns
        if campaigns.names == before.names:
            return
        moved: list[tuple[Partition, str, dict[bytes, bytes]]] = []
        for part in self.parts:
            named = {}
            for suffix, fields in part.cells.items():
                for field in fields:
                    if field not in named:
                        dims = _cleaned(part.names.value(int(field)))
                        named[field] = before.of(dims) != campaigns.of(dims)
                if some := {field: packed for field, packed in fields.items() if named[field]}:
                    moved.append((part, suffix, some))
        for part, suffix, fields in moved:
            self._replace(part, sums, suffix, fields, _NO_FIELDS)
        self._campaigns = campaigns
        for part, suffix, fields in moved:
            self._replace(part, sums, suffix, _NO_FIELDS, fields)

    def _merge_costs(self, part: Partition, fields: dict[bytes, bytes]) -> None:
        for cost_id in part.costs.keys() - fields.keys():
            del self._costs[part.number, cost_id]
            self._costs_changed = self._changed = True
        for cost_id, packed in fields.items():
            if part.costs.get(cost_id) != packed:
                row = unpack_node(packed, part.names)
                assert isinstance(row, CostRow)
                self._costs[part.number, cost_id] = row._replace(
                    dims=_cleaned(row.dims), campaign_id=clean(row.campaign_id)
                )
                self._costs_changed = self._changed = True
        part.costs = fields

    def _replace(
        self, part: Partition, sums: Sums, suffix: str, old: Mapping[bytes, bytes], new: Mapping[bytes, bytes]
    ) -> None:
        bucket = bucket_of(suffix)
        assert bucket is not None
        for field in old.keys() | new.keys():
            before, after = old.get(field), new.get(field)
            if before == after:
                continue
            delta: Cell = unpack_cell(after, part.names) if after is not None else {}
            if before is not None:
                for measure, amount in unpack_cell(before, part.names).items():
                    delta[measure] = delta.get(measure, 0) - amount
            dims = self._campaigns.of(_cleaned(part.names.value(int(field))))
            if bucket[0] in OF_PERSONS:
                self._people.add(bucket, dims[:2], {_printable(measure): n for measure, n in delta.items()})
            else:
                sums.add(bucket, dims, delta)
            self._changed = True


def progress_of(changes: Changes) -> Progress | None:
    """What a partition knew of its sources when it was read."""
    return _progress(changes.state) if changes.state else None


def _wanted(sums: Sums, bucket: Bucket) -> bool:
    """Whether a window holds this bucket now or will. Those of persons are, for as long as their partition keeps them."""
    return bucket[0] in OF_PERSONS or sums.wants(bucket)


def _printable(measure: Measure) -> Measure:
    """A measure that holds names of sources or trackers."""
    name, channel, kind, network = measure
    return (name, clean(channel), kind, clean(network))


def _slimmed(part: Partition, sums: Sums, fields: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """These cells without what nothing wants of them any more."""
    names = part.names
    found = {}
    for field, packed in fields.items():
        cell = {n: amount for n, amount in unpack_numbers(packed).items() if sums.thin(names.value(n))}
        found[field] = pack_numbers(cell)
    return found


def _cleaned(dims: Dims) -> Dims:
    return clean(dims[0]), clean(dims[1]), clean(dims[2])
