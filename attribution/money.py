"""Money: integer micros inside, `Decimal` at the edges, exchange rates by date.

Micros are 10**-6 of a major unit. A rate is units of the reporting currency per unit of the foreign one, held exactly
as (num, scale) for num / 10**scale. All rounding is half to even, once.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable
from datetime import date as calendar_date
from datetime import timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation
from fractions import Fraction

from iso4217 import Currency

from models.errors import ConfigError, Rejected
from models.settings import Marketing, Rate

MICRO = 1_000_000
_MICRO = Decimal("0.000001")
# The default context would round to 28 digits before the micro is reached.
_CONTEXT = Context(prec=64, rounding=ROUND_HALF_EVEN)
_RATE = re.compile(r"[0-9]{1,9}(\.[0-9]{1,12})?")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
# Two rates this near to each other, as a part of the earlier one, are taken to be the same quotation.
_NEAR = Fraction(1, 20)

# ISO 4217 gives no minor unit to what nobody pays with: metals (XAU), units of account (XDR), tests (XTS), none (XXX).
_EXPONENTS: dict[str, int] = {c.code: c.exponent for c in Currency if c.exponent is not None}


def to_micros(amount: Decimal) -> int:
    """Micros of an amount in major units, half to even. ValueError unless it is finite and under 10**58."""
    try:
        return int(amount.quantize(_MICRO, context=_CONTEXT).scaleb(6, _CONTEXT))
    except (InvalidOperation, ValueError):
        raise ValueError(f"{amount} cannot be held in micros") from None


def scale(amount: int, num: int, den: int) -> int:
    """amount * num / den, half to even; `den` must be positive, else ValueError."""
    if den <= 0:
        raise ValueError(f"cannot scale by {num}/{den}")
    quotient, remainder = divmod(amount * num, den)
    twice = 2 * remainder
    return quotient + 1 if twice > den or (twice == den and quotient & 1) else quotient


def convert(own_micros: int, rate_num: int, rate_scale: int) -> int:
    """Reporting micros of `own_micros` at the rate rate_num / 10**rate_scale, half to even."""
    return scale(own_micros, rate_num, 10**rate_scale)


def major(micros: int) -> str:
    """Major units as a plain decimal: no exponent, no trailing zeros, no point when whole ("12.5", "0", "-3")."""
    whole, fraction = divmod(abs(micros), MICRO)
    sign = "-" if micros < 0 else ""
    return f"{sign}{whole}.{fraction:06d}".rstrip("0") if fraction else f"{sign}{whole}"


def is_currency(code: str) -> bool:
    """Whether `code` is in ISO 4217's current list and has minor units, that is, whether one can pay with it."""
    return code in _EXPONENTS


def exponent(code: str) -> int:
    """Decimals of the minor unit by ISO 4217: EUR 2, JPY 0, TND 3. ValueError when `is_currency` says no."""
    try:
        return _EXPONENTS[code]
    except KeyError:
        raise ValueError(f"{code!r} is not an ISO 4217 currency with minor units") from None


class Rates:
    """Exchange rates to the reporting currency. A row holds from its date until the next row of its currency.

    `rows` are read from the rates file; of two rows of one currency and date, `marketing.rates` wins over the file
    and a later row over an earlier one. Raises ConfigError on a rate or date that is none.
    """

    def __init__(self, marketing: Marketing, rows: Iterable[Rate] = ()) -> None:
        self._reporting = marketing.reporting_currency
        table: dict[str, dict[str, tuple[int, int]]] = {}
        # The last dates of rows that hold for so many days only, by (currency, date).
        self._last: dict[tuple[str, str], str] = {}
        for row in (*rows, *marketing.rates):
            date = _checked_date(row)
            table.setdefault(row.currency, {})[date] = _parsed(row)
            self._last.pop((row.currency, date), None)
            if row.days is not None:
                last = calendar_date.fromisoformat(date) + timedelta(row.days - 1)
                self._last[row.currency, date] = last.isoformat()
        self._rates = {
            currency: (sorted(by_date), [by_date[date] for date in sorted(by_date)])
            for currency, by_date in table.items()
        }

    def lookup(self, currency: str, date: str) -> tuple[int, int]:
        """(num, scale) of the latest rate of `currency` at or before the ISO date; (1, 0) for the reporting currency.

        Raises Rejected: missing_rate when the table has none that early, unknown_currency when it has none at all and
        the code is not ISO 4217. So a withdrawn code (HRK, BGN), absent from ISO's current list, works by its rates.
        """
        if currency == self._reporting:
            return 1, 0
        known = self._rates.get(currency)
        if known is None:
            if not is_currency(currency):
                raise Rejected("unknown_currency", "$.currency", f"{currency!r} is not an ISO 4217 currency")
            raise Rejected("missing_rate", "$.currency", f"there is no rate from {currency} to {self._reporting}")
        dates, rates = known
        i = bisect_right(dates, date)
        if not i:
            message = f"the first rate from {currency} to {self._reporting} is of {dates[0]}, after {date}"
            raise Rejected("missing_rate", "$.currency", message)
        last = self._last.get((currency, dates[i - 1]))
        if last is not None and date > last:
            message = (
                f"the rate from {currency} to {self._reporting} of {dates[i - 1]} holds until {last}, not on {date}"
            )
            raise Rejected("missing_rate", "$.currency", message)
        return rates[i - 1]

    def contradictions(self) -> list[str]:
        """A message for each two consecutive rows of a currency of which one looks quoted the wrong way round.

        That is, the later is within 5 % of the inverse of the earlier, and not within 5 % of the earlier itself.
        """
        found = []
        for currency, (dates, rates) in sorted(self._rates.items()):
            for i in range(1, len(rates)):
                before, after = (Fraction(num, 10**scale) for num, scale in rates[i - 1 : i + 1])
                if abs(before * after - 1) <= _NEAR < abs(after / before - 1):
                    found.append(
                        f"rates: {currency}: {_plain(rates[i])} from {dates[i]} is about the inverse of "
                        f"{_plain(rates[i - 1])} from {dates[i - 1]}; one of them is the wrong way round: "
                        f"write {self._reporting} per 1 {currency}"
                    )
        return found


def _parsed(row: Rate) -> tuple[int, int]:
    if not _RATE.fullmatch(row.rate) or not row.rate.strip("0."):
        raise ConfigError(f"rates: {row.currency}: rate {row.rate!r} is not a positive decimal such as '1.0834'")
    # Without the zeros at the end, equal rates are equal however they are written.
    whole, _, decimals = row.rate.partition(".")
    decimals = decimals.rstrip("0")
    return int(whole + decimals), len(decimals)


def _checked_date(row: Rate) -> str:
    try:
        if not _DATE.fullmatch(row.date):
            raise ValueError
        calendar_date.fromisoformat(row.date)
    except ValueError:
        raise ConfigError(f"rates: {row.currency}: date {row.date!r} is not a date such as '2026-01-31'") from None
    return row.date


def _plain(rate: tuple[int, int]) -> str:
    num, scale = rate
    return f"{Decimal(num).scaleb(-scale):f}"
