"""What is told of persons: visitors, customers, answers and paths in windows that end now, and their ratios.

Cells of the granularities `w`, `v` and `o` (see `attribution.rollups`) are added here, and nowhere else. Visitors can be read only for windows that
end now. The windows 24h and 7d start with an hour, 30d with a business day: the floor of end − length, as all windows do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import NamedTuple

from attribution import cohorts, paths
from attribution.cohorts import AGE, AGES, AMBASSADORS, CUSTOMERS, REPEAT_CUSTOMERS, YEAR, aged
from attribution.facts import CONVERSION
from attribution.families import PURCHASE, Family, Labels, Row, quotient, units
from attribution.nodes import survey
from attribution.nodes.survey import SELF_REPORTED
from attribution.rollups import OF_PERSONS, Bucket, Calendar, Cell, Rollups
from attribution.visitors import ALL, CONVERTED, VISITORS, Source, converted, visitors
from models.results import NONE, OTHER, UNATTRIBUTED
from models.settings import DAY, Marketing

WINDOWS = (("24h", "w", DAY), ("7d", "w", 7 * DAY), ("30d", "v", 30 * DAY))
"""Name, granularity of the buckets, length."""
SOURCES_MAX = 20
"""Trackers with rows of their own; the rest is `(other)`."""
PAIRS_MAX = 60
"""Channels with networks that have rows of their own here; the rest is `(other)`."""
Reach = Mapping[str, Mapping[Source, int]]
"""Distinct devices by window and source; `ALL` among them."""
_TIME = "parcours_total_time_to_convert_seconds"
_TOUCHES = "parcours_total_touches_to_convert"


_READ = {
    f"parcours_{level}_{name}": (level, name)
    for level in ("total", "channel")
    for name in ("impressions", "attributed_conversions")
}


class Kind(NamedTuple):
    """A metric of persons: the levels it is exported at, its labels beside the level's, and its help."""

    levels: tuple[str, ...]
    labels: tuple[str, ...]
    help: str
    type: str = "gauge"


_BOTH, _CHANNEL, _TOTAL, _SOURCE = ("total", "channel"), ("channel",), ("total",), ("source",)
_W, _C, _M = ("window",), ("conversion", "window"), ("currency",)
METRICS: dict[str, Kind] = {
    "visitors": Kind(_BOTH, _W, "Distinct persons who visited."),
    "converted_visitors": Kind(_BOTH, _C, "Distinct persons who visited and converted at or after that visit, by now."),
    "conversion_rate_ratio": Kind(_BOTH, _C, "Converted visitors / visitors; never above 1."),
    "visitor_share_ratio": Kind(_CHANNEL, _W, "Visitors / all visitors; one person can visit through several channels."),
    "reach": Kind(_BOTH, _W, "Distinct devices with a touch, estimated to about 1 percent."),
    "frequency": Kind(_BOTH, _W, "Impressions / reach."),
    "self_reported_answers": Kind(_BOTH, _W, "Survey answers that named a channel."),
    "self_reported_share_ratio": Kind(_CHANNEL, _W, "Answers naming the channel / answers that named one."),
    "attributed_share_ratio": Kind(
        _CHANNEL, _W, "Purchases attributed to the channel / attributed purchases, first headline model, conversion basis."
    ),
    "nps_answers": Kind(_TOTAL, _W, "Answers to how likely a recommendation is, 0 to 10."),
    "nps_promoters": Kind(_TOTAL, _W, "Of these, 9 and 10."),
    "nps_detractors": Kind(_TOTAL, _W, "Of these, up to 6."),
    "nps_points": Kind(_TOTAL, _W, "Net promoter score: (promoters - detractors) / answers x 100, from -100 to 100."),
    "csat_answers": Kind(_TOTAL, _W, "Answers to how satisfied a customer is, 1 to 5."),
    "csat_satisfied": Kind(_TOTAL, _W, "Of these, 4 and 5."),
    "csat_ratio": Kind(_TOTAL, _W, "Satisfied answers / answers."),
    "time_to_convert_seconds": Kind(
        _TOTAL, _C, "Conversions by the time since their first eligible touch; a restatement can lower it.", "histogram"
    ),
    "touches_to_convert": Kind(
        _TOTAL, _C, "Conversions by the number of their eligible touches; a restatement can lower it.", "histogram"
    ),
    "purchases": Kind(_SOURCE, _W, "Orders by the tracker that reported them."),
    "linked_purchases": Kind(_SOURCE, _W, "Of these, those whose person has any earlier touch."),
    "link_ratio": Kind(_SOURCE, _W, "Linked purchases / purchases: when it falls, a tag is broken."),
    "customers": Kind(_BOTH, (), "Customers acquired in the last twelve months, by the channel that acquired them."),
    "repeat_customers": Kind(_BOTH, (), "Of these, those with a second order."),
    "ambassadors": Kind(_BOTH, (), "Of these, those with a share, mention or referral after their first order."),
    "customer_revenue": Kind(_BOTH, _M, "The net revenue of these customers so far."),
    "customer_revenue_to_date": Kind(_BOTH, _M, "Customer revenue / customers."),
    "clv_expected": Kind(_BOTH, _M, "Expected net revenue of a customer in the first 365 days."),
    "repeat_ratio": Kind(_BOTH, (), "Repeat customers / customers."),
    "ambassador_ratio": Kind(_BOTH, (), "Ambassadors / customers."),
    "cohort_customers": Kind(_TOTAL, ("cohort",), "Customers by the month of their first order."),
    "cohort_active": Kind(_TOTAL, ("cohort", "age_months"), "Of these, those who ordered at this age, in twelfths of a year."),
    "cohort_retention_ratio": Kind(_TOTAL, ("cohort", "age_months"), "Active / customers of the cohort, once all have passed the age."),
}  # fmt: skip
LEVEL_LABELS: dict[str, tuple[str, ...]] = {"total": (), "channel": ("channel", "network"), "source": ("source",)}


PERSONS: dict[str, Family] = {
    f"parcours_{level}_{name}": Family(
        kind.type, kind.help, (*LEVEL_LABELS[level], *kind.labels), level, name, "", name.endswith("_ratio")
    )
    for name, kind in METRICS.items()
    for level in kind.levels
}
"""Every family of persons by name."""


class People:
    """The cells of persons, and the rows made of them."""

    def __init__(self, marketing: Marketing) -> None:
        self.marketing = marketing
        self.calendar = Calendar(marketing.time_zone)
        self._buckets: dict[str, dict[int, Cell]] = {"w": {}, "v": {}}
        self._cohorts: dict[int, dict[Source, Cell]] = {}

    @classmethod
    def of(cls, rollups: Rollups, marketing: Marketing) -> People:
        """The persons of a whole."""
        people = cls(marketing)
        for bucket, cells in rollups.buckets.items():
            if bucket[0] in OF_PERSONS:
                for dims, cell in cells.items():
                    people.add(bucket, dims[:2], cell)
        return people

    def add(self, bucket: Bucket, source: Source, delta: Mapping[tuple[str, str, str, str], int]) -> None:
        """Add amounts to one cell; of `w` and `v` there is one for all sources."""
        granularity, start = bucket
        if granularity == "o":
            cell = self._cohorts.setdefault(start, {}).setdefault(source, {})
        else:
            cell = self._buckets[granularity].setdefault(start, {})
        for measure, amount in delta.items():
            total = cell.get(measure, 0) + amount
            if total:
                cell[measure] = total
            else:
                cell.pop(measure, None)

    def start(self, window: str, end: int) -> int:
        """Where a window that ends at `end` starts."""
        _, granularity, length = next(known for known in WINDOWS if known[0] == window)
        return self.calendar.start("h" if granularity == "w" else "d", end - length)

    def sums(self, window: str, end: int) -> Cell:
        """What the window that ends at `end` holds."""
        granularity = next(known[1] for known in WINDOWS if known[0] == window)
        start = self.start(window, end)
        found: Cell = {}
        for at, cell in self._buckets[granularity].items():
            if start <= at <= end:
                for measure, amount in cell.items():
                    found[measure] = found.get(measure, 0) + amount
        return found

    def series(self) -> int:
        """At most how many series there are."""
        types = 1 + len(self.marketing.conversions)
        sources = {
            (m[1], m[3]) for cell in self._buckets["v"].values() for m in cell if m[0] in (VISITORS, SELF_REPORTED)
        }
        sources |= {source for by_source in self._cohorts.values() for source in by_source}
        months = len(self._cohorts)
        by_source = sum(
            len(WINDOWS if "window" in kind.labels else "1") * (types if "conversion" in kind.labels else 1)
            for kind in METRICS.values()
            if "channel" in kind.levels
        )
        buckets = len(paths.TIME_UPTO) + len(paths.TOUCHES_UPTO) + 6
        in_all = by_source + len(WINDOWS) * (types * buckets + 3 * (SOURCES_MAX + 2) + 9) + months * 2 * AGES
        return in_all + by_source * (min(len(sources), PAIRS_MAX) + 1)

    def rows(self, end: int, base: Iterable[Row] = (), reach: Reach | None = None) -> list[Row]:
        """All rows at `end`. `base` are the rows of the other families at that end: which sources have a name, impressions, credit."""
        known = _Base(base, self.marketing.headline_models[0])
        cells = {window: self.sums(window, end) for window, _, _ in WINDOWS}
        cohorts_ = _Cohorts(self._cohorts, self.calendar, end)
        name_of = self._named(known, cells, cohorts_, reach or {})
        found: list[Row] = []
        for window, cell in cells.items():
            found += self._visits(window, cell, name_of)
            found += _reached((reach or {}).get(window, {}), window, known, name_of)
            found += _answers(window, cell, known, name_of)
            found += self._paths(window, cell)
        return [*found, *_links(cells), *cohorts_.rows(name_of, ("currency", self.marketing.reporting_currency))]

    def _types(self, cell: Cell) -> list[str]:
        found = {measure[2] for measure in cell if measure[0] in (CONVERTED, paths.TOUCHES)}
        return [PURCHASE, *sorted((found | set(self.marketing.conversions)) - {PURCHASE})]

    def _named(
        self, known: _Base, cells: Mapping[str, Cell], customers: _Cohorts, reach: Reach
    ) -> Mapping[Source, Source]:
        """The name each source has rows under: those that have rows elsewhere, then the first by visitors and customers."""
        rank: dict[Source, int] = {}
        for cell in cells.values():
            for measure, amount in cell.items():
                if measure[0] in (VISITORS, SELF_REPORTED) and measure[1]:
                    source = (measure[1], measure[3])
                    rank[source] = max(rank.get(source, 0), amount)
        for source, cell in customers.sources.items():
            rank[source] = rank.get(source, 0) + cell.get(CUSTOMERS, 0)
        for by_source in reach.values():
            for source in by_source:
                rank.setdefault(source, 0)
        rank.pop(ALL, None)
        order = sorted(rank, key=lambda source: (source not in known.sources, -rank[source], source))
        return {source: source if i < PAIRS_MAX else (OTHER, OTHER) for i, source in enumerate(order)}

    def _visits(self, window: str, cell: Cell, name_of: Mapping[Source, Source]) -> Iterator[Row]:
        types = self._types(cell)
        everyone = cell.get(visitors(ALL), 0)
        yield from _visitors("total", (), window, everyone, {t: cell.get(converted(ALL, t), 0) for t in types})
        members: dict[Source, list[Source]] = {}
        for source, name in name_of.items():
            if cell.get(visitors(source), 0):
                members.setdefault(name, []).append(source)
        for name, sources in sorted(members.items()):
            labels = _of(name)
            n = sum(cell[visitors(source)] for source in sources)
            bought = {t: sum(cell.get(converted(source, t), 0) for source in sources) for t in types}
            yield from _visitors("channel", labels, window, n, bought)
            share = quotient(n, everyone)
            if share is not None and name[0] != OTHER:
                yield Row("parcours_channel_visitor_share_ratio", (*labels, ("window", window)), share)

    def _paths(self, window: str, cell: Cell) -> Iterator[Row]:
        for kind in self._types(cell):
            labels = (("conversion", kind), ("window", window))
            upto = [(Decimal(t).scaleb(-6)) for t in paths.TIME_UPTO]
            total = units(cell.get(paths.path_sum(paths.TIME_SUM, kind), 0))
            yield from _histogram(_TIME, labels, paths.TIME, kind, upto, total, cell)
            counts = [Decimal(n) for n in paths.TOUCHES_UPTO]
            total = Decimal(cell.get(paths.path_sum(paths.TOUCHES_SUM, kind), 0))
            yield from _histogram(_TOUCHES, labels, paths.TOUCHES, kind, counts, total, cell)


class _Base:
    """What the rows of other families say by source and window."""

    def __init__(self, rows: Iterable[Row], model: str) -> None:
        self.sources: set[Source] = set()
        self.impressions: dict[tuple[str, Source], Decimal] = {}
        self.credit: dict[tuple[str, Source], Decimal] = {}
        credited = {("model", model), ("basis", CONVERSION), ("conversion", PURCHASE)}
        for family, labels, value in rows:
            read = _READ.get(family)
            if read is None:
                continue
            source = (labels[0][1], labels[1][1]) if read[0] == "channel" else ALL
            if read[1] == "impressions":
                self.impressions[dict(labels)["window"], source] = Decimal(value)
                self.sources.add(source)
            elif credited <= set(labels):
                self.credit[dict(labels)["window"], source] = Decimal(value)


def _of(source: Source) -> Labels:
    return (("channel", source[0]), ("network", source[1]))


def _visitors(level: str, labels: Labels, window: str, n: int, bought: Mapping[str, int]) -> Iterator[Row]:
    at = ("window", window)
    yield Row(f"parcours_{level}_visitors", (*labels, at), n)
    for kind, m in bought.items():
        by_type = (*labels, ("conversion", kind), at)
        yield Row(f"parcours_{level}_converted_visitors", by_type, m)
        rate = quotient(m, n)
        if rate is not None and labels[:1] != (("channel", OTHER),):
            yield Row(f"parcours_{level}_conversion_rate_ratio", by_type, rate)


def _reached(
    by_source: Mapping[Source, int], window: str, known: _Base, name_of: Mapping[Source, Source]
) -> Iterator[Row]:
    sums: dict[Source, int] = {}
    for source, n in by_source.items():
        name = source if source == ALL else name_of[source]
        sums[name] = sums.get(name, 0) + n
    for name, n in sorted(sums.items()):
        level, labels = ("total", ()) if name == ALL else ("channel", _of(name))
        yield Row(f"parcours_{level}_reach", (*labels, ("window", window)), n)
        seen = known.impressions.get((window, name))
        if seen and n and name[0] != OTHER:
            yield Row(f"parcours_{level}_frequency", (*labels, ("window", window)), quotient(int(seen), n) or 0)


def _answers(window: str, cell: Cell, known: _Base, name_of: Mapping[Source, Source]) -> Iterator[Row]:
    at = (("window", window),)
    named: dict[Source, int] = {}
    for measure, n in cell.items():
        if measure[0] == SELF_REPORTED:
            name = name_of[measure[1], measure[3]]
            named[name] = named.get(name, 0) + n
    everyone = sum(named.values())
    yield Row("parcours_total_self_reported_answers", at, everyone)
    for name, n in sorted(named.items()):
        yield Row("parcours_channel_self_reported_answers", (*_of(name), *at), n)
        share = quotient(n, everyone)
        if share is not None:
            yield Row("parcours_channel_self_reported_share_ratio", (*_of(name), *at), share)
    total = known.credit.get((window, ALL))
    for name in sorted(known.sources):
        part = known.credit.get((window, name))
        # `(unattributed)` is in no total of credit.
        if part is not None and total and name[0] != UNATTRIBUTED:
            yield Row("parcours_channel_attributed_share_ratio", (*_of(name), *at), _decimal_quotient(part, total))
    for measure in survey.SCORES:
        yield Row(f"parcours_total_{measure[0]}", at, cell.get(measure, 0))
    answers = cell.get(survey.NPS_ANSWERS, 0)
    if answers:
        net = cell.get(survey.NPS_PROMOTERS, 0) - cell.get(survey.NPS_DETRACTORS, 0)
        yield Row("parcours_total_nps_points", at, quotient(100 * net, answers) or 0)
    satisfied = quotient(cell.get(survey.CSAT_SATISFIED, 0), cell.get(survey.CSAT_ANSWERS, 0))
    if satisfied is not None:
        yield Row("parcours_total_csat_ratio", at, satisfied)


def _decimal_quotient(part: Decimal, total: Decimal) -> Decimal:
    return quotient(int(part.scaleb(6)), int(total.scaleb(6))) or Decimal(0)


def _histogram(
    family: str, labels: Labels, measure: str, kind: str, upto: list[Decimal], total: Decimal, cell: Cell
) -> Iterator[Row]:
    counts = [cell.get(paths.bucket(measure, kind, place), 0) for place in range(len(upto) + 1)]
    if not any(counts):
        return
    ends = [f"{end.normalize():f}" for end in upto]
    for i, end in enumerate([*ends, "+Inf"]):
        yield Row(f"{family}_bucket", (*labels, ("le", end)), sum(counts[: i + 1]))
    yield Row(f"{family}_sum", labels, total)
    yield Row(f"{family}_count", labels, sum(counts))


def _links(cells: Mapping[str, Cell]) -> Iterator[Row]:
    longest = cells[WINDOWS[-1][0]]
    counted = {measure[3]: n for measure, n in longest.items() if measure[0] == paths.PURCHASES}
    first = set(sorted(counted, key=lambda source: (-counted[source], source))[:SOURCES_MAX])
    for window, cell in cells.items():
        sums: dict[str, tuple[int, int]] = {}
        for measure, n in cell.items():
            if measure[0] == paths.PURCHASES:
                source = measure[3]
                name = (source or NONE) if source in first else OTHER
                linked = cell.get(paths.from_source(paths.LINKED, source), 0)
                before = sums.get(name, (0, 0))
                sums[name] = (before[0] + n, before[1] + linked)
        for name, (n, linked) in sorted(sums.items()):
            labels = (("source", name), ("window", window))
            yield Row("parcours_source_purchases", labels, n)
            yield Row("parcours_source_linked_purchases", labels, linked)
            ratio = quotient(linked, n)
            if ratio is not None:
                yield Row("parcours_source_link_ratio", labels, ratio)


class _Cohorts:
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
                _add(self.sources.setdefault(source, {}), cell)
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
                    _add(old, cell)
        if not old.get(CUSTOMERS):
            return None
        return [_by_age(old, age) for age in range(1, AGES + 1)]

    def rows(self, name_of: Mapping[Source, Source], currency: tuple[str, str]) -> Iterator[Row]:
        members: dict[Source, list[Source]] = {}
        for source in self.sources:
            members.setdefault(name_of[source], []).append(source)
        if self.sources:
            yield from self._scope("total", (), list(self.sources), currency)
        for name, sources in sorted(members.items()):
            yield from self._scope("channel", _of(name), sources, currency)
        for start in self.months:
            yield from self._month(start)

    def _scope(self, level: str, labels: Labels, sources: list[Source], currency: tuple[str, str]) -> Iterator[Row]:
        of, money = f"parcours_{level}_", (*labels, currency)
        cell: Cell = {}
        for source in sources:
            _add(cell, self.sources[source])
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
            _add(cell, part)
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


def _add(cell: Cell, more: Cell) -> None:
    for measure, amount in more.items():
        cell[measure] = cell.get(measure, 0) + amount
