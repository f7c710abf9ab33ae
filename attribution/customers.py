"""The rows of customers: how many were acquired through each channel, what they have brought, and how cohorts go on (meaning §11)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal

from attribution import cohorts
from attribution.cohorts import AGE, AGES, AMBASSADORS, CUSTOMERS, REPEAT_CUSTOMERS, YEAR, aged
from attribution.families import Row
from attribution.formulas import Labels, quotient, units
from attribution.rollups import Calendar, Cell, add
from attribution.visitors import Source
from models.settings import DAY


def pair(source: Source) -> Labels:
    """The labels of a channel with its network."""
    return (("channel", source[0]), ("network", source[1]))


class Customers:
    """Customers of the last twelve months by source, and what older ones tell of a year."""

    def __init__(self, found: Mapping[int, Mapping[Source, Cell]], calendar: Calendar, end: int) -> None:
        self.calendar = calendar
        self.months = {
            start: by_source
            for start, by_source in sorted(found.items())
            if start > end - cohorts.CUSTOMER_KEPT and any(by_source.values())
        }
        self.ages = {start: self._age(start, end) for start in self.months}
        """How many steps of age all customers of a month have behind them."""
        self.recent = [start for start in self.months if start > end - YEAR]
        self.sources: dict[Source, Cell] = {}
        for start in self.recent:
            for source, cell in self.months[start].items():
                add(self.sources.setdefault(source, {}), cell)
        self.curve = self._curve()

    def _age(self, start: int, end: int) -> int:
        stop = self.calendar.month(start + 45 * DAY)
        return max(0, min((end - stop) // AGE, AGES))

    def _curve(self) -> list[int] | None:
        """Revenue by the ages 1 to 12 of the customers who have all seen a whole year; None while there are none."""
        old: Cell = {}
        for start, age in self.ages.items():
            if age >= AGES:
                for cell in self.months[start].values():
                    add(old, cell)
        if not old.get(CUSTOMERS):
            return None
        return [_by_age(old, age) for age in range(1, AGES + 1)]

    def rows(self, name_of: Callable[[Source], Source], currency: tuple[str, str]) -> Iterator[Row]:
        members: dict[Source, list[Source]] = {}
        for source in self.sources:
            members.setdefault(name_of(source), []).append(source)
        if self.sources:
            yield from self._scope("total", (), list(self.sources), currency)
        for name, sources in sorted(members.items()):
            yield from self._scope("channel", pair(name), sources, currency)
        for start in self.months:
            yield from self._month(start)

    def _scope(self, level: str, labels: Labels, sources: list[Source], currency: tuple[str, str]) -> Iterator[Row]:
        of, money = f"parcours_{level}_", (*labels, currency)
        cell: Cell = {}
        for source in sources:
            add(cell, self.sources[source])
        n = cell.get(CUSTOMERS, 0)
        revenue = sum(cell.get(aged(cohorts.COHORT_REVENUE, age), 0) for age in range(AGES + 1))
        for name, measure in (
            ("customers", CUSTOMERS),
            ("repeat_customers", REPEAT_CUSTOMERS),
            ("ambassadors", AMBASSADORS),
        ):
            yield Row(of + name, labels, cell.get(measure, 0))
        yield Row(of + "customer_revenue", money, units(revenue))
        if not n:
            return
        yield Row(of + "customer_revenue_to_date", money, quotient(revenue, n * 1_000_000) or 0)
        yield Row(of + "repeat_ratio", labels, quotient(cell.get(REPEAT_CUSTOMERS, 0), n) or 0)
        yield Row(of + "ambassador_ratio", labels, quotient(cell.get(AMBASSADORS, 0), n) or 0)
        expected = self._expected(sources)
        if expected is not None:
            yield Row(of + "clv_expected", money, expected)

    def _expected(self, sources: list[Source]) -> Decimal | None:
        """Σ of cohorts' revenue by their age × R(365) / R(age), per customer; of cohorts with an age, and a curve that says something of it."""
        if self.curve is None:
            return None
        total, n = Decimal(0), 0
        for start in self.recent:
            age = self.ages[start]
            reached = self.curve[age - 1] if age else 0
            if reached <= 0:
                continue
            for source in sources:
                cell = self.months[start].get(source, {})
                n += cell.get(CUSTOMERS, 0)
                total += Decimal(_by_age(cell, age) * self.curve[-1]) / reached
        return None if not n else quotient(int(total), n * 1_000_000)

    def _month(self, start: int) -> Iterator[Row]:
        cohort = ("cohort", self.calendar.date(start)[:7])
        cell: Cell = {}
        for part in self.months[start].values():
            add(cell, part)
        n = cell.get(CUSTOMERS, 0)
        yield Row("parcours_total_cohort_customers", (cohort,), n)
        for age in range(1, self.ages[start]):
            labels = (cohort, ("age_months", str(age)))
            active = cell.get(aged(cohorts.COHORT_ACTIVE, age), 0)
            yield Row("parcours_total_cohort_active", labels, active)
            ratio = quotient(active, n)
            if ratio is not None:
                yield Row("parcours_total_cohort_retention_ratio", labels, ratio)


def _by_age(cell: Cell, age: int) -> int:
    """Revenue in the first `age` steps."""
    return sum(cell.get(aged(cohorts.COHORT_REVENUE, step), 0) for step in range(age))
