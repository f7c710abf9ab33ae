"""Exchange rates from a CSV file beside the configuration: columns currency, rate, date."""

from __future__ import annotations

import csv
from pathlib import Path

from models.errors import ConfigError
from models.settings import Marketing, Rate


def load_rates(marketing: Marketing, config: Path | None) -> list[Rate]:
    """The rows of `rates_file`, taken relative to the configuration file. Raises ConfigError naming the line."""
    if marketing.rates_file is None:
        return []
    path = (config.parent if config else Path()) / marketing.rates_file
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
