"""What is told of persons: visitors, customers, answers and paths in windows that end now, and their ratios.

Cells of the granularities `w`, `v` and `o` (see `attribution.rollups`) are added here, and nowhere else. Visitors can be read only for windows that
end now. The windows 24h and 7d start with an hour, 30d with a business day: the floor of end − length, as all windows do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal

from attribution import paths
from attribution.cohorts import AGES
from attribution.customers import Customers, pair
from attribution.facts import CONVERSION
from attribution.families import PERSONS, Row, family_name
from attribution.formulas import PURCHASE, Labels, quotient, units
from attribution.nodes import survey
from attribution.nodes.survey import SELF_REPORTED
from attribution.rollups import OF_PERSONS, Bucket, Calendar, Cell, Rollups, summed
from attribution.visitors import ALL, CONVERTED, VISITORS, Source, converted, visitors
from models.results import NONE, OTHER, UNATTRIBUTED
from models.settings import DAY, Marketing

WINDOWS = (("24h", "w", DAY), ("7d", "w", 7 * DAY), ("30d", "v", 30 * DAY))
"""Name, granularity of the buckets, length."""
SOURCES_MAX = 20
"""Trackers with rows of their own; the rest is `(other)`."""
Reach = Mapping[str, Mapping[Source, int]]
"""Distinct devices by window and source; `ALL` among them."""
NOBODY: Source = (UNATTRIBUTED, NONE)
MONTHS = 17
"""Cohorts at most: the months that begin within `CUSTOMER_KEPT`."""
CHANNEL = "channel"
_TIME = "parcours_total_time_to_convert_seconds"
_TOUCHES = "parcours_total_touches_to_convert"


_READ = {
    f"parcours_{level}_{name}": (level, name)
    for level in ("total", "channel")
    for name in ("counted_impressions", "attributed_conversions")
}


def _same(source: Source) -> Source:
    return source


def most_of_persons(level: str, types: int) -> dict[str, int]:
    """The most series of each family of persons: of one name, of `source` those of all; with so many conversion types."""
    found: dict[str, int] = {}
    for name, kind in PERSONS.items():
        # Customers whom nobody acquired, but no visitors: those have a channel.
        if (CHANNEL if level == "nobody" else level) not in kind.levels or (
            level == "nobody" and "window" in kind.labels
        ):
            continue
        n = len(WINDOWS) if "window" in kind.labels else 1
        n *= types if "conversion" in kind.labels else 1
        n *= MONTHS if "cohort" in kind.labels else 1
        n *= AGES - 1 if "age_months" in kind.labels else 1
        if kind.type == "histogram":
            n *= len(paths.TIME_UPTO if name.startswith(paths.TIME) else paths.TOUCHES_UPTO) + 3
        found[family_name(CHANNEL if level == "nobody" else level, name)] = n * (
            SOURCES_MAX + 1 if level == "source" else 1
        )
    return found


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
        return summed(cell for at, cell in self._buckets[granularity].items() if start <= at <= end)

    def sources(self) -> set[Source]:
        """The channels with networks that anything is told of."""
        found = {source for by_source in self._cohorts.values() for source in by_source}
        for cells in self._buckets.values():
            for cell in cells.values():
                found |= {(m[1], m[3]) for m in cell if m[0] in (VISITORS, SELF_REPORTED) and m[1]}
        return found - {NOBODY}

    def rows(
        self,
        end: int,
        base: Iterable[Row] = (),
        reach: Reach | None = None,
        name_of: Callable[[Source], Source] = _same,
    ) -> list[Row]:
        """All rows at `end`, which does not go back. `base` are the rows of the other families at that end, which know impressions and credit; `name_of` says
        what a source is shown as."""
        self._forget(end)
        known = _Base(base, self.marketing.headline_models[0])
        cells = {window: self.sums(window, end) for window, _, _ in WINDOWS}
        customers = Customers(self._cohorts, self.calendar, end)
        found: list[Row] = []
        for window, cell in cells.items():
            found += self._visits(window, cell, name_of)
            found += _reached((reach or {}).get(window, {}), window, known, name_of)
            found += _answers(window, cell, known, name_of)
            found += self._paths(window, cell)
        return [*found, *_links(cells), *customers.rows(name_of, ("currency", self.marketing.reporting_currency))]

    def _forget(self, end: int) -> None:
        """Drop what no window holds any more."""
        for window, granularity, _ in WINDOWS[1:]:
            cells, oldest = self._buckets[granularity], self.start(window, end)
            for start in [start for start in cells if start < oldest]:
                del cells[start]

    def _types(self, cell: Cell) -> list[str]:
        found = {measure[2] for measure in cell if measure[0] in (CONVERTED, paths.TOUCHES)}
        return [PURCHASE, *sorted((found | set(self.marketing.conversions)) - {PURCHASE})]

    def _visits(self, window: str, cell: Cell, name_of: Callable[[Source], Source]) -> Iterator[Row]:
        types = self._types(cell)
        everyone = cell.get(visitors(ALL), 0)
        yield from _visitors("total", (), window, everyone, {t: cell.get(converted(ALL, t), 0) for t in types})
        members: dict[Source, list[Source]] = {}
        for measure in cell:
            source = (measure[1], measure[3])
            if measure[0] == VISITORS and source != ALL:
                members.setdefault(name_of(source), []).append(source)
        for name, sources in sorted(members.items()):
            labels = pair(name)
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
            if read[1] == "counted_impressions":
                self.impressions[dict(labels)["window"], source] = Decimal(value)
                if source != ALL:
                    self.sources.add(source)
            elif credited <= set(labels):
                self.credit[dict(labels)["window"], source] = Decimal(value)


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
    by_source: Mapping[Source, int], window: str, known: _Base, name_of: Callable[[Source], Source]
) -> Iterator[Row]:
    sums: dict[Source, int] = {}
    for source, n in by_source.items():
        name = source if source == ALL else name_of(source)
        sums[name] = sums.get(name, 0) + n
    for name, n in sorted(sums.items()):
        level, labels = ("total", ()) if name == ALL else ("channel", pair(name))
        yield Row(f"parcours_{level}_reach", (*labels, ("window", window)), n)
        seen = known.impressions.get((window, name))
        if seen and n and name[0] != OTHER:
            yield Row(f"parcours_{level}_frequency", (*labels, ("window", window)), quotient(int(seen), n) or 0)


def _answers(window: str, cell: Cell, known: _Base, name_of: Callable[[Source], Source]) -> Iterator[Row]:
    at = (("window", window),)
    named: dict[Source, int] = {}
    for measure, n in cell.items():
        if measure[0] == SELF_REPORTED:
            name = name_of((measure[1], measure[3]))
            named[name] = named.get(name, 0) + n
    everyone = sum(named.values())
    yield Row("parcours_total_self_reported_answers", at, everyone)
    for name, n in sorted(named.items()):
        yield Row("parcours_channel_self_reported_answers", (*pair(name), *at), n)
        share = quotient(n, everyone)
        if share is not None:
            yield Row("parcours_channel_self_reported_share_ratio", (*pair(name), *at), share)
    total = known.credit.get((window, ALL))
    for name in sorted(known.sources):
        part = known.credit.get((window, name))
        # `(unattributed)` is in no total of credit.
        if part is not None and total and name[0] != UNATTRIBUTED:
            yield Row("parcours_channel_attributed_share_ratio", (*pair(name), *at), _decimal_quotient(part, total))
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
