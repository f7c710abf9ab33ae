"""Orders of a file beside those that are known: matched, missing, extra, different in amount."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable
from decimal import Decimal, InvalidOperation
from pathlib import Path

from msgspec import Struct
from redis.asyncio import Redis

from attribution.money import major, to_micros
from attribution.nodes.order import Standing, standing
from attribution.nodes.state import Order
from attribution.outcome import moment
from streams.blocks import partition_of
from streams.codec import Names, unpack_node
from streams.files import InputError
from streams.tables import Tables, journey_tag

_AT_ONCE = 500


class Difference(Struct, kw_only=True):
    """An order on which the two disagree. An amount that one of them lacks is None; `gone` says why ours no longer counts."""

    order_id: str
    occurred_at: str | None = None
    theirs: str | None = None
    ours: str | None = None
    currency: str | None = None
    gone: str | None = None


class Reconciled(Struct, kw_only=True):
    """How many orders agree, and those that do not."""

    matched: int
    missing: list[Difference]
    extra: list[Difference]
    different: list[Difference]

    @property
    def agrees(self) -> bool:
        """Whether nothing is missing, extra or different."""
        return not (self.missing or self.extra or self.different)


def read_orders(
    path: Path, id_column: str, amount_column: str, progressed: Callable[[int], None] = lambda done: None
) -> dict[str, int]:
    """Own micros by order id; lines of one order are summed. Raises InputError naming the line, the column and the fix.

    Columns are separated by commas, semicolons or tabs, whichever the header has most of. `progressed` is told how many lines are read.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = file.readline()
            if not header.strip():
                raise InputError(f"{path}: is empty; the first line names the columns, such as order_id,revenue")
            file.seek(0)
            lines = csv.DictReader(file, delimiter=max(",;\t", key=header.count))
            names = lines.fieldnames or ()
            for column, option in ((id_column, "--id"), (amount_column, "--amount")):
                if names.count(column) != 1:
                    count = "no column" if column not in names else "more than one column"
                    raise InputError(
                        f"{path}: {count} {column!r}; name yours with {option} (it has {', '.join(names)})"
                    )
            found: dict[str, int] = {}
            for n, line in enumerate(lines):
                order_id, text = (line[id_column] or "").strip(), (line[amount_column] or "").strip()
                where = f"{path}:{lines.line_num}"
                if None in line:
                    raise InputError(
                        f"{where}: more fields than the header has; put a field that has a comma in quotes"
                    )
                if not order_id:
                    raise InputError(f"{where}: {id_column} is empty")
                found[order_id] = found.get(order_id, 0) + _micros(text, f"{where}: {amount_column}")
                if n % 10_000 == 0:
                    progressed(n)
            if not found:
                raise InputError(f"{path}: has a header and no orders")
            return found
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not a CSV file in UTF-8: {error}") from None


def _micros(text: str, where: str) -> int:
    try:
        amount = Decimal(text)
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or abs(amount) > 10**12:
        fix = ": digits and a point, no currency, no other separators"
        raise InputError(f"{where}: {text!r} is not an amount such as 99.90{fix if text else ''}")
    return to_micros(amount)


def reconcile(theirs: dict[str, int], ours: dict[str, Standing], *, net: bool) -> Reconciled:
    """Compare by order id, in the orders' own currencies: revenue before refunds, or after them with `net`.

    A cancelled order is 0 here. One that is not in the file and counts for nothing here is not extra.
    """
    found = Reconciled(matched=0, missing=[], extra=[], different=[])
    for order_id in sorted(theirs.keys() | ours.keys()):
        wanted, known = theirs.get(order_id), ours.get(order_id)
        if known is None:
            found.missing.append(Difference(order_id=order_id, theirs=None if wanted is None else major(wanted)))
            continue
        amount = known.net if net else 0 if known.gone == "cancelled" else known.gross
        line = Difference(
            order_id=order_id, occurred_at=moment(known.t), ours=major(amount), currency=known.currency, gone=known.gone
        )
        if wanted is None:
            if known.gone is None:
                found.extra.append(line)
        elif wanted == amount:
            found.matched += 1
        else:
            line.theirs = major(wanted)
            found.different.append(line)
    return found


async def known_orders(
    redis: Redis,
    generation: int,
    partitions: int,
    wanted: Iterable[str],
    span: tuple[int, int] | None,
    progressed: Callable[[int], None] = lambda done: None,
) -> dict[str, Standing]:
    """The orders wanted, and with a `span` of event time [start, end) all others in it: for those, all orders are looked through.

    `progressed` is told how many are looked at.
    """
    looked = 0
    found: dict[str, Standing] = {}
    keys: dict[int, list[str]] = {partition: [] for partition in range(partitions)}
    for order_id in wanted:
        keys[partition_of(f"o:{order_id}", partitions)].append(f"n:o:{order_id}")
    for partition, own in keys.items():
        tag = journey_tag(generation, partition)
        tables = Tables(redis, tag)
        asked = set(own)
        if span is not None:
            pattern = tag.replace("[", "\\[") + "n:o:*"
            async for key in redis.scan_iter(match=pattern, count=1000):
                own.append(key.decode().removeprefix(tag))
        names = Names()
        unique = list(dict.fromkeys(own))
        for start in range(0, len(unique), _AT_ONCE):
            part = unique[start : start + _AT_ONCE]
            for key, packed in zip(part, await tables.get(part), strict=True):
                node = unpack_node(packed, names) if packed is not None else None
                stands = standing(node) if isinstance(node, Order) else None
                if stands is not None and (key in asked or (span is not None and span[0] <= stands.t < span[1])):
                    found[key.removeprefix("n:o:")] = stands
            looked += len(part)
            progressed(looked)
    return found
