"""Money: micros, rounding half to even, currencies and exchange rates by date."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attribution.money import Rates, convert, exponent, is_currency, major, scale, to_micros
from models.errors import ConfigError, Rejected
from models.settings import Marketing, Rate

MICROS = st.integers(-(10**18), 10**18)


def rates(*rows: tuple[str, str, str], file: tuple[tuple[str, str, str], ...] = (), reporting: str = "EUR") -> Rates:
    """Rates from (currency, rate, date) rows of the TOML, and of the file."""
    table = tuple(Rate(currency=c, rate=r, date=d) for c, r, d in rows)
    more = (Rate(currency=c, rate=r, date=d) for c, r, d in file)
    return Rates(Marketing(reporting_currency=reporting, rates=table), more)


@pytest.mark.parametrize(
    ("amount", "micros"),
    [
        ("0", 0),
        ("12.5", 12_500_000),
        ("-0.000001", -1),
        ("0.0000005", 0),
        ("0.0000015", 2),
        ("0.0000025", 2),
        ("-0.0000015", -2),
        ("-0.0000025", -2),
        ("0.00000050000000000000000000000000000001", 1),
        ("0.0000014999999999999999999999999999999999", 1),
        ("999999999.9999995000000000000000000000001", 1_000_000_000_000_000),
        ("1E+9", 10**15),
        ("1E-999999", 0),
        ("0E+999999", 0),
        ("1234567890123456789012345678.123456", 1234567890123456789012345678123456),
    ],
)
def test_to_micros_rounds_half_to_even_once(amount: str, micros: int) -> None:
    assert to_micros(Decimal(amount)) == micros


@pytest.mark.parametrize("amount", ["NaN", "Infinity", "-Infinity", "1E+60"])
def test_to_micros_refuses_what_it_cannot_hold(amount: str) -> None:
    with pytest.raises(ValueError, match="cannot be held in micros"):
        to_micros(Decimal(amount))


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**12), max_value=10**12))
def test_to_micros_agrees_with_exact_fractions(amount: Decimal) -> None:
    assert to_micros(amount) == round(Fraction(amount) * 1_000_000)


@pytest.mark.parametrize(
    ("amount", "num", "den", "expected"),
    [
        (0, 5, 3, 0),
        (1, 1, 2, 0),
        (3, 1, 2, 2),
        (5, 1, 2, 2),
        (7, 1, 2, 4),
        (-1, 1, 2, 0),
        (-3, 1, 2, -2),
        (-5, 1, 2, -2),
        (1, 1, 3, 0),
        (2, 1, 3, 1),
        (-1, 1, 3, 0),
        (-2, 1, 3, -1),
        (10**17 + 1, 10**17 - 1, 10**17, 10**17),
        (10**30 + 1, 1, 2, 5 * 10**29),
        (6, 0, 7, 0),
    ],
)
def test_scale_by_hand(amount: int, num: int, den: int, expected: int) -> None:
    assert scale(amount, num, den) == expected


@given(MICROS, st.integers(-(10**18), 10**18), st.integers(1, 10**18) | st.integers(1, 8))
def test_scale_agrees_with_exact_fractions_and_is_symmetric(amount: int, num: int, den: int) -> None:
    assert scale(amount, num, den) == round(Fraction(amount * num, den))  # Python rounds a Fraction half to even
    assert scale(-amount, num, den) == -scale(amount, num, den)


@pytest.mark.parametrize("den", [0, -1])
def test_scale_refuses_a_denominator_that_is_not_positive(den: int) -> None:
    with pytest.raises(ValueError, match="cannot scale"):
        scale(1, 1, den)


@pytest.mark.parametrize(
    ("own", "num", "scale_", "expected"),
    [
        (12_500_000, 1, 0, 12_500_000),
        (100_000_000, 9234, 4, 92_340_000),
        (5, 5, 1, 2),  # 2.5
        (15, 5, 1, 8),  # 7.5
        (-5, 5, 1, -2),
        (-15, 5, 1, -8),
        (1_000_000, 93, 3, 93_000),  # a dirham at 0.093
        (1, 1, 12, 0),
    ],
)
def test_convert_by_hand(own: int, num: int, scale_: int, expected: int) -> None:
    assert convert(own, num, scale_) == expected


@pytest.mark.parametrize(
    ("micros", "text"),
    [
        (12_500_000, "12.5"),
        (0, "0"),
        (-1, "-0.000001"),
        (1, "0.000001"),
        (100_000_000, "100"),
        (-3_000_000, "-3"),
        (-1_500_000, "-1.5"),
        (10_000_010, "10.00001"),
        (10**21, "1000000000000000"),
    ],
)
def test_major_is_plain(micros: int, text: str) -> None:
    assert major(micros) == text


@given(MICROS)
def test_major_and_to_micros_are_inverse(micros: int) -> None:
    text = major(micros)
    assert to_micros(Decimal(text)) == micros
    assert "E" not in text
    assert not (("." in text) and text.endswith(("0", ".")))


@pytest.mark.parametrize(("code", "digits"), [("EUR", 2), ("MAD", 2), ("JPY", 0), ("TND", 3), ("CLF", 4), ("XOF", 0)])
def test_exponents_are_those_of_iso_4217(code: str, digits: int) -> None:
    assert is_currency(code)
    assert exponent(code) == digits


@pytest.mark.parametrize("code", ["", "eur", "EURO", "ABC", "XXX", "XTS", "XAU", "BTC", "HRK"])
def test_what_is_no_currency(code: str) -> None:
    assert not is_currency(code)
    with pytest.raises(ValueError, match="ISO 4217"):
        exponent(code)


def test_a_rate_holds_from_its_date_until_the_next_of_its_currency() -> None:
    table = rates(
        ("USD", "0.95", "2026-03-01"),
        ("USD", "0.9", "2026-01-15"),  # rows come in any order
        ("GBP", "1.17", "2026-02-01"),
        ("USD", "1", "2026-04-01"),
    )
    assert table.lookup("USD", "2026-01-15") == (9, 1)
    assert table.lookup("USD", "2026-02-28") == (9, 1)
    assert table.lookup("USD", "2026-03-01") == (95, 2)
    assert table.lookup("USD", "2026-03-31") == (95, 2)
    assert table.lookup("USD", "2030-01-01") == (1, 0)
    assert table.lookup("GBP", "2026-02-01") == (117, 2)


def test_a_rate_without_a_date_holds_always() -> None:
    table = Rates(Marketing(rates=(Rate(currency="MAD", rate="0.093"),)))
    assert table.lookup("MAD", "1999-12-31") == table.lookup("MAD", "2026-01-31") == (93, 3)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1.0834", (10834, 4)), ("100", (100, 0)), ("1.50", (15, 1)), ("20.00", (20, 0)), ("0.000000000001", (1, 12))],
)
def test_rates_are_exact_and_equal_however_written(text: str, expected: tuple[int, int]) -> None:
    assert rates(("USD", text, "2026-01-01")).lookup("USD", "2026-01-01") == expected


def test_the_reporting_currency_is_always_one() -> None:
    assert rates(reporting="MAD").lookup("MAD", "1970-01-01") == (1, 0)
    assert rates(("EUR", "1.1", "1970-01-01")).lookup("EUR", "2026-01-01") == (1, 0)
    with pytest.raises(Rejected):
        rates(reporting="MAD").lookup("EUR", "2026-01-01")


@pytest.mark.parametrize(
    ("currency", "date", "code", "says"),
    [
        ("USD", "2026-01-14", "missing_rate", "2026-01-15"),
        ("GBP", "2026-01-15", "missing_rate", "GBP to EUR"),
        ("ABC", "2026-01-15", "unknown_currency", "'ABC'"),
        ("XXX", "2026-01-15", "unknown_currency", "'XXX'"),
        ("HRK", "2026-01-15", "unknown_currency", "'HRK'"),
    ],
)
def test_no_rate_is_a_reason_and_never_a_guess(currency: str, date: str, code: str, says: str) -> None:
    with pytest.raises(Rejected) as caught:
        rates(("USD", "0.9", "2026-01-15")).lookup(currency, date)
    assert (caught.value.code, caught.value.path) == (code, "$.currency")
    assert says in caught.value.message


def test_a_withdrawn_currency_is_known_by_its_rates() -> None:
    table = rates(("HRK", "0.13272", "2022-01-01"))
    assert table.lookup("HRK", "2022-12-31") == (13272, 5)
    with pytest.raises(Rejected, match="missing_rate"):
        table.lookup("HRK", "2021-12-31")


def test_rows_of_the_file_join_those_of_the_configuration_which_win() -> None:
    table = rates(
        ("USD", "0.9", "2026-01-01"),
        file=(("USD", "0.8", "2026-01-01"), ("USD", "0.95", "2026-02-01"), ("GBP", "1", "2026-01-01")),
    )
    assert table.lookup("USD", "2026-01-31") == (9, 1)
    assert table.lookup("USD", "2026-02-01") == (95, 2)
    assert table.lookup("GBP", "2026-01-01") == (1, 0)


@pytest.mark.parametrize("rate", ["0", "0.000", "-1", "1e3", "1,5", "", ".5", "1.", "NaN", "1.0000000000001", "١"])
def test_a_rate_that_is_none_is_refused(rate: str) -> None:
    with pytest.raises(ConfigError, match=r"rates: USD: rate .* is not a positive decimal"):
        rates(file=(("USD", rate, "2026-01-01"),))


@pytest.mark.parametrize("date", ["2026-02-30", "20260101", "2026-1-1", "", "2026-W01-1", "2026-01-01T00:00"])
def test_a_date_that_is_none_is_refused(date: str) -> None:
    with pytest.raises(ConfigError, match=r"rates: USD: date .* is not a date"):
        rates(("USD", "0.9", date))


def test_a_rate_quoted_the_wrong_way_round_is_named() -> None:
    table = rates(
        ("USD", "0.8", "2026-01-01"),
        ("USD", "1.2500", "2026-02-01"),
        ("MAD", "0.093", "2026-01-01"),
        ("MAD", "10.7", "2026-01-02"),
        ("MAD", "0.093", "2026-01-03"),
    )
    first, second, third = table.contradictions()
    assert all(part in first for part in ("MAD", "10.7 from 2026-01-02", "0.093 from 2026-01-01", "EUR per 1 MAD"))
    assert all(part in second for part in ("MAD", "0.093 from 2026-01-03", "10.7 from 2026-01-02"))
    assert all(part in third for part in ("USD", "1.25 from 2026-02-01", "0.8 from 2026-01-01"))


@pytest.mark.parametrize(
    ("before", "after", "contradicts"),
    [
        ("0.5", "2.1", True),  # product 1.05: 5 % of the inverse, ends included
        ("0.5", "1.9", True),
        ("0.5", "2.100001", False),
        ("0.5", "1.899999", False),
        ("0.5", "0.5", False),
        ("0.98", "1.02", False),  # near its inverse, but near itself too: it merely moved
        ("1", "1.05", False),
        ("0.96", "1.0080", False),  # exactly 5 % up
        ("0.96", "1.0081", True),
        ("10", "1000", False),
        ("2000", "0.0005", True),
    ],
)
def test_how_near_an_inverse_must_be(before: str, after: str, contradicts: bool) -> None:
    found = rates(("USD", before, "2026-01-01"), ("USD", after, "2026-01-02")).contradictions()
    assert len(found) == contradicts


def test_currencies_and_dates_that_are_not_neighbours_do_not_contradict() -> None:
    table = rates(
        ("USD", "0.5", "2026-01-01"),
        ("GBP", "2", "2026-01-02"),
        ("USD", "1", "2026-01-03"),
        ("USD", "2", "2026-01-05"),
    )
    assert table.contradictions() == []
