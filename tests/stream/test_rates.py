"""The European Central Bank's rates: crossed by way of the euro, for a week at most, and beside the table."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from attribution.money import Rates
from models.errors import ConfigError, Rejected
from models.settings import Marketing
from streams import rates as module
from streams.rates import ecb_rates, load_rates


def marketing(**more: Any) -> Marketing:
    return msgspec.convert({"ecb_rates_since": "2024-01-01", **more}, Marketing)


def rate(found: Rates, currency: str, date: str) -> Decimal:
    num, scale = found.lookup(currency, date)
    return Decimal(num).scaleb(-scale)


def test_euro_rates_are_the_inverse_of_what_the_bank_quotes() -> None:
    """2 January 2024: 1 EUR = 1.0956 USD = 155.68 JPY."""
    found = Rates(marketing(), load_rates(marketing(), None))
    assert rate(found, "USD", "2024-01-02") == Decimal("0.912741876597")
    assert rate(found, "JPY", "2024-01-02") == (1 / Decimal("155.68")).quantize(Decimal("1e-12"))
    assert rate(found, "USD", "2024-01-07") == rate(found, "USD", "2024-01-05"), "a Sunday has Friday's"


def test_other_reporting_currencies_go_by_way_of_the_euro() -> None:
    ours = marketing(reporting_currency="USD")
    found = Rates(ours, load_rates(ours, None))
    assert rate(found, "EUR", "2024-01-02") == Decimal("1.0956")
    assert rate(found, "JPY", "2024-01-02") == (Decimal("1.0956") / Decimal("155.68")).quantize(Decimal("1e-12"))


def test_a_rate_holds_for_a_week_and_no_guess_is_made_beyond_the_history() -> None:
    rows = load_rates(marketing(), None)
    found = Rates(marketing(), rows)
    last = max(row.date for row in rows if row.currency == "USD")
    assert found.lookup("USD", last)
    for currency, date in (("USD", "2199-01-01"), ("USD", "2023-12-31"), ("RUB", "2024-01-02")):
        with pytest.raises(Rejected) as refused:
            found.lookup(currency, date)
        assert refused.value.code == "missing_rate"


def test_what_the_bank_lacks_and_what_contradicts_it_comes_from_the_table(tmp_path: Path) -> None:
    (tmp_path / "rates.csv").write_text("currency,rate,date\nMAD,0.0912,2024-01-01\nUSD,0.5,2024-01-02\n")
    ours = marketing(rates_file="rates.csv", rates=[{"currency": "JPY", "rate": "0.25", "date": "2024-01-02"}])
    found = Rates(ours, load_rates(ours, tmp_path / "parcours.toml"))
    assert [rate(found, *asked) for asked in (("MAD", "2026-05-05"), ("USD", "2024-01-02"), ("JPY", "2024-01-02"))] == [
        Decimal("0.0912"), Decimal("0.5"), Decimal("0.25"),
    ]  # fmt: skip


def test_a_reporting_currency_without_rates_and_a_package_that_is_missing_are_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(ConfigError, match="quotes no MAD"):
        ecb_rates("MAD", "2024-01-01")

    def missing(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(module, "files", missing)
    with pytest.raises(ConfigError, match=r"parcours\[ecb\]"):
        ecb_rates("EUR", "2024-01-01")


def test_without_the_setting_nothing_is_read() -> None:
    assert load_rates(Marketing(), None) == []
