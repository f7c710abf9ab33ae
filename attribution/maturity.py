"""How much of a window's credit has arrived by now: Σ cost·F(age) / Σ cost.

F(age) is the share of credit that has arrived by that age, observed on the touches that are older than the longest lookback
window. Ages are kept by hour up to a day and by day beyond; within one, credit is taken to arrive evenly.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from decimal import Context, Decimal
from functools import lru_cache
from itertools import accumulate

from attribution.facts import CREDIT_AGE, Measure
from models.settings import DAY, HOUR

_RATIO = Context(prec=12)


def age_name(age: int) -> str:
    """The name of the measure that holds credit of this age (µs): `credit_age/h3`, `credit_age/d12`."""
    return _name("h", age // HOUR) if age < DAY else _name("d", age // DAY)


@lru_cache(maxsize=1024)
def _name(unit: str, number: int) -> str:
    return f"{CREDIT_AGE}{unit}{number}"


class Arrival:
    """F, from sums of credit by age. Without any credit it is not known."""

    def __init__(self, cells: Iterable[Mapping[Measure, int]], model: str, conversion: str) -> None:
        amounts: dict[int, int] = {}
        for cell in cells:
            for (name, of, kind, _), amount in cell.items():
                if of == model and kind == conversion and name.startswith(CREDIT_AGE):
                    unit, number = name[len(CREDIT_AGE)], int(name[len(CREDIT_AGE) + 1 :])
                    start = number * (HOUR if unit == "h" else DAY)
                    amounts[start] = amounts.get(start, 0) + amount
        self._starts = sorted(amounts)
        self._amounts = [amounts[start] for start in self._starts]
        self._before = [0, *accumulate(self._amounts)]
        self.whole = self._before[-1]

    def by(self, age: int) -> int:
        """Credit (in the sums' unit, of `whole`) that has arrived by this age in microseconds, rounded down."""
        i = bisect_right(self._starts, age) - 1
        if i < 0:
            return 0
        start, length = self._starts[i], HOUR if self._starts[i] < DAY else DAY
        return self._before[i] + self._amounts[i] * min(age - start, length) // length

    def maturity(self, spent: Iterable[tuple[int, int]]) -> Decimal | None:
        """Over (age, cost) pairs; None without cost, or when no credit of old touches is known."""
        arrived = cost = 0
        for age, amount in spent:
            arrived += self.by(age) * amount
            cost += amount
        if self.whole <= 0 or cost <= 0:
            return None
        return _RATIO.divide(Decimal(arrived), Decimal(cost * self.whole))
