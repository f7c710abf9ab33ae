"""Turn the CSV files of rittmananalytics/ra_attribution into files that `parcours replay` and `publish` read.

Standard library only, so that it can be copied and changed for a shop's own exports. Reads from a folder:

    events.csv           one row per web event (Snowplow), times in UTC without an offset
    orders.csv           one row per order line
    currency_rates.csv   one row per day and pair of currencies

and writes to another folder:

    touchpoints.jsonl    a `visit` per page event
    purchases.jsonl      an `order` per ORDER_ID, its lines summed in Decimal
    rates.gbp.csv        currency,rate,date: units of GBP per unit of the foreign currency
    rates.usd.csv        the same for reporting in USD

The same input gives the same bytes: event ids come from the rows, so publishing a file twice changes nothing.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from pathlib import Path

Row = dict[str, str]
Numbered = tuple[int, Row]

# Snowplow's codes: pv page view, pp page ping (a heartbeat while a page is open), se structured event, ue self-describing event.
PAGE_EVENTS = ("pv", "pp")
DIRECTIONS = ("base-per-quote", "quote-per-base")
REPORTING = ("GBP", "USD")
# As many decimals as a rate of Parcours may have.
RATE_STEP = Decimal("0.000000000001")

ACQUISITION = {
    "MARKETING_SOURCE": "utm_source",
    "MARKETING_MEDIUM": "utm_medium",
    "MARKETING_CAMPAIGN": "utm_campaign",
    "MARKETING_CONTENT": "utm_content",
    "MARKETING_TERM": "utm_term",
    "MARKETING_CLICK_ID": "click_id",
    "REFERER_URL_HOST": "referrer",
    "USERAGENT": "user_agent",
}
EVENT_COLUMNS = ("EVENT_ID", "USER_ID", "EVENT", "EVENT_TIME", "PAGE_URL", "PAGE_URL_QUERY", *ACQUISITION)
ORDER_COLUMNS = ("ORDER_LINE_ID", "ORDER_ID", "USER_ID", "ORDER_DATE", "LOCAL_CURRENCY", "REVENUE_LOCAL_CURRENCY")
RATE_COLUMNS = ("CURRENCY_RATE_DATE", "BASE_CURRENCY_CODE", "QUOTE_CURRENCY_CODE", "CURRENCY_RATE")


class InputError(Exception):
    """A file can't be read as it should; the message names the file, the line and what was expected."""


def read(path: Path, columns: Iterable[str]) -> Iterator[Numbered]:
    """(line, row) of a CSV file, cells trimmed. `utf-8-sig`: exports of spreadsheets start with a byte order mark."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            missing = [name for name in columns if name not in (reader.fieldnames or ())]
            if missing:
                raise InputError(f"{path}: no column {', '.join(missing)}; it has {', '.join(reader.fieldnames or ())}")
            for row in reader:
                if None in row or None in row.values():
                    raise InputError(f"{path}:{reader.line_num}: not as many cells as the {len(row)} columns of line 1")
                yield reader.line_num, {name: value.strip() for name, value in row.items()}
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not CSV in UTF-8: {error}") from None


def required(row: Row, name: str, where: str) -> str:
    if not row[name]:
        raise InputError(f"{where}: {name} is empty")
    return row[name]


def decimal(text: str, name: str, where: str) -> Decimal:
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite():
        raise InputError(f"{where}: {name} {text!r} is not a number such as 12.90")
    return value


def moment(text: str, name: str, where: str) -> str:
    """RFC 3339 of `2021-09-03 17:25:34.913`, with an offset after it or in UTC."""
    for form in ("%Y-%m-%d %H:%M:%S.%f %z", "%Y-%m-%d %H:%M:%S.%f"):
        try:
            found = datetime.strptime(text, form)
        except ValueError:
            continue
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC).isoformat().replace("+00:00", "Z")
    raise InputError(f"{where}: {name} {text!r} is not a time such as 2021-09-03 17:25:34.913")


def visits(path: Path, kinds: Iterable[str]) -> tuple[list[dict[str, str]], Counter[str]]:
    """The events of these kinds as visits in order of time, and how many of each other kind were left out.

    The person is USER_ID alone. DOMAIN_SESSION_ID is no device: in this export two users share one, and as an
    anonymous_id it would give the touches of the one to the other.
    """
    wanted, made = frozenset(kinds), []
    left_out: Counter[str] = Counter()
    for line, row in read(path, EVENT_COLUMNS):
        where = f"{path}:{line}"
        kind = required(row, "EVENT", where)
        if kind not in wanted:
            left_out[kind] += 1
            continue
        visit = {
            "event_id": required(row, "EVENT_ID", where),
            "occurred_at": moment(row["EVENT_TIME"], "EVENT_TIME", where),
            "customer_id": required(row, "USER_ID", where),
            "type": "visit",
            "source": "web",
        }
        visit |= {ours: row[theirs] for theirs, ours in ACQUISITION.items() if row[theirs]}
        url, query = row["PAGE_URL"], row["PAGE_URL_QUERY"]
        if query and "?" not in url:
            url = f"{url}?{query}"
        if url:
            visit["page_url"] = url
        made.append(visit)
    return sorted(made, key=_in_time), left_out


def orders(path: Path) -> tuple[list[dict[str, str]], int]:
    """One order per ORDER_ID in order of time, and the number of lines they were summed from.

    Lines of one order must agree on everything but their amount; the same line twice is an error, as it would be paid twice.
    """
    made: dict[str, dict[str, str]] = {}
    sums: dict[str, Decimal] = {}
    seen: dict[tuple[str, str], int] = {}
    for line, row in read(path, ORDER_COLUMNS):
        where = f"{path}:{line}"
        order_id, line_id = required(row, "ORDER_ID", where), required(row, "ORDER_LINE_ID", where)
        if (order_id, line_id) in seen:
            raise InputError(
                f"{where}: line {line_id} of order {order_id} is on line {seen[order_id, line_id]} already"
            )
        seen[order_id, line_id] = line
        order = {
            "event_id": f"order-{order_id}",
            "occurred_at": moment(row["ORDER_DATE"], "ORDER_DATE", where),
            "customer_id": required(row, "USER_ID", where),
            "type": "order",
            "source": "shop",
            "order_id": order_id,
            "currency": required(row, "LOCAL_CURRENCY", where),
        }
        first = made.setdefault(order_id, order)
        if first != order:
            differing = ", ".join(name for name in order if order[name] != first[name])
            raise InputError(f"{where}: order {order_id} has another {differing} than on its first line")
        amount = decimal(row["REVENUE_LOCAL_CURRENCY"], "REVENUE_LOCAL_CURRENCY", where)
        sums[order_id] = sums.get(order_id, Decimal(0)) + amount
    for order_id, order in made.items():
        order["revenue"] = f"{sums[order_id]:f}"
    return sorted(made.values(), key=_in_time), len(seen)


def rates(path: Path, direction: str) -> dict[str, list[tuple[str, str, str]]]:
    """Per reporting currency the rows (currency, rate, date), in reporting units per foreign unit.

    `base-per-quote`: CURRENCY_RATE is how much of BASE one unit of QUOTE costs; `quote-per-base` is the other way round.
    """
    made: dict[str, list[tuple[str, str, str]]] = {reporting: [] for reporting in REPORTING}
    for line, row in read(path, RATE_COLUMNS):
        where = f"{path}:{line}"
        rate = decimal(row["CURRENCY_RATE"], "CURRENCY_RATE", where)
        if rate <= 0:
            raise InputError(f"{where}: CURRENCY_RATE {rate} is not above 0")
        try:
            day = date.fromisoformat(row["CURRENCY_RATE_DATE"]).isoformat()
        except ValueError:
            raise InputError(f"{where}: CURRENCY_RATE_DATE {row['CURRENCY_RATE_DATE']!r} is not a date") from None
        base, quote = (required(row, name, where) for name in ("BASE_CURRENCY_CODE", "QUOTE_CURRENCY_CODE"))
        inverse = 1 / rate
        in_base, in_quote = (rate, inverse) if direction == "base-per-quote" else (inverse, rate)
        for reporting, foreign, price in ((base, quote, in_base), (quote, base, in_quote)):
            if reporting in made:
                rounded = price.quantize(RATE_STEP, ROUND_HALF_EVEN).normalize()
                made[reporting].append((foreign, f"{rounded:f}", day))
    return {reporting: sorted(rows, key=lambda row: (row[0], row[2])) for reporting, rows in made.items()}


def convert(source: Path, target: Path, kinds: Iterable[str], direction: str) -> list[str]:
    """Read `source`, write `target`; a line about each file written. Nothing is written when anything can't be read."""
    touchpoints, left_out = visits(source / "events.csv", kinds)
    purchases, lines = orders(source / "orders.csv")
    tables = rates(source / "currency_rates.csv", direction)
    totals: dict[str, Decimal] = {}
    for order in purchases:
        totals[order["currency"]] = totals.get(order["currency"], Decimal(0)) + Decimal(order["revenue"])
    said = ", ".join(f"{count} {kind}" for kind, count in sorted(left_out.items())) or "none"
    money = ", ".join(f"{total} {currency}" for currency, total in sorted(totals.items()))
    try:
        target.mkdir(parents=True, exist_ok=True)
        report = [
            f"{_jsonl(target / 'touchpoints.jsonl', touchpoints)}: {len(touchpoints)} visits (left out: {said})",
            f"{_jsonl(target / 'purchases.jsonl', purchases)}: {len(purchases)} orders of {lines} lines, {money}",
        ]
        for reporting, table in tables.items():
            file = target / f"rates.{reporting.lower()}.csv"
            with file.open("w", encoding="utf-8", newline="") as out:
                writer = csv.writer(out, lineterminator="\n")
                writer.writerows([("currency", "rate", "date"), *table])
            span = f" from {min(row[2] for row in table)}" if table else ""
            sample = f", as 1 {table[0][0]} = {table[0][1]} {reporting}" if table else ""
            report.append(f"{file}: {len(table)} rates{span}{sample}")
    except OSError as error:
        raise InputError(f"{error.filename}: {error.strerror}") from None
    return report


def _in_time(event: dict[str, str]) -> tuple[datetime, str]:
    # Times as text do not sort: a time without a fraction has another length.
    return datetime.fromisoformat(event["occurred_at"]), event["event_id"]


def _jsonl(file: Path, events: Iterable[dict[str, str]]) -> Path:
    file.write_text("".join(json.dumps(event, ensure_ascii=False) + "\n" for event in events), "utf-8")
    return file


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0 when all is written, 1 when a file is wrong, 2 when the command is."""
    parser = argparse.ArgumentParser(
        prog="convert.py",
        description="Turn ra_attribution's CSV files into touchpoints, purchases and rates for Parcours.",
        epilog="Example: python examples/ra_attribution/convert.py ../shared/data/ra_attribution examples/ra_attribution/data",
    )
    parser.add_argument("source", type=Path, help="the folder of events.csv, orders.csv and currency_rates.csv")
    parser.add_argument("target", type=Path, help="the folder to write to; made when it is missing")
    parser.add_argument(
        "--events",
        default=",".join(PAGE_EVENTS),
        metavar="KINDS",
        help="which kinds of event are visits, separated by commas (default: %(default)s; all: pv,pp,se,ue)",
    )
    parser.add_argument(
        "--rates",
        default=DIRECTIONS[0],
        choices=DIRECTIONS,
        help="what CURRENCY_RATE says: BASE per 1 QUOTE, or QUOTE per 1 BASE as its columns suggest (default: %(default)s)",
    )
    given = parser.parse_args(arguments)
    kinds = [kind.strip() for kind in given.events.split(",") if kind.strip()]
    if not kinds:
        parser.error("--events: name at least one kind, such as pp")
    try:
        report = convert(given.source, given.target, kinds, given.rates)
    except InputError as error:
        print(f"convert.py: error: {error}", file=sys.stderr)
        return 1
    print("\n".join(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
