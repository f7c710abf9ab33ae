"""Rows of a shop as the exporter makes them, worked out from a few figures per channel: for the page and its API."""

from __future__ import annotations

import math
from datetime import date
from decimal import Decimal
from typing import Any, NamedTuple

from attribution.families import Row
from models.settings import AlertRule, Goal, Marketing

MODELS = (
    "first_touch", "last_touch", "last_non_direct", "first_and_last", "linear", "time_decay", "position_based",
)  # fmt: skip
HEADLINE = ("last_non_direct", "position_based")
WINDOWS = {"1h": ("conversion",), "24h": ("conversion",), "7d": ("conversion", "touch"), "30d": ("conversion", "touch")}
SHARE = {"1h": Decimal("0.006"), "24h": Decimal("0.14"), "7d": Decimal(1), "30d": Decimal("4.2")}
NOBODY = "(unattributed)"
REASONS = {"no_touch_known": 9, "outside_window": 3, "filtered": 1, "no_consent": 0, "touches_trimmed": 0}
DAYS = 35
END = 1_772_461_925_000_000
"""2026-03-02 14:32:05 UTC."""


class Place(NamedTuple):
    """A channel and network over 7 days under the headline model."""

    channel: str
    network: str
    conversions: str
    revenue: str
    cost: str | None
    campaigns: tuple[str, ...] = ()


PLACES = (
    Place("Paid Search", "google", "64", "6239.43", "744.28", ("brand", "generic", "competitors")),
    Place("Paid Social", "facebook", "45.5", "3797.2", "859.23", ("spring", "retargeting")),
    Place("Email", "newsletter", "29", "2562.18", None, ("weekly",)),
    Place("Paid Social", "instagram", "23", "2162.97", "397.01", ("spring", "reels")),
    Place("Paid Social", "linkedin", "24", "2152.94", "4286.35", ("b2b_webinar",)),
    Place("Paid Social", "tiktok", "20", "1820.61", "3920.62", ("challenge",)),
    Place("Organic Social", "youtube", "11", "913.3", None, ("(none)",)),
    Place("Organic Search", "google", "9", "704", None, ("(none)",)),
    Place("Direct", "(none)", "7", "388.2", None, ("(none)",)),
    Place(NOBODY, "(none)", "13", "1090.1", None),
)


def rows(places: tuple[Place, ...] = PLACES, *, scale: str = "1", types: tuple[str, ...] = ("purchase",)) -> list[Row]:
    """All rows. `scale` multiplies conversions and revenue, as time does."""
    found: list[Row] = []
    for window, bases in WINDOWS.items():
        for basis in bases:
            for m, model in enumerate(MODELS):
                for kind in types:
                    found += _window(places, window, basis, model, kind, Decimal(scale) * (1 + Decimal(m - 2) / 20))
    found += _days(places, Decimal(scale))
    for kind in types:
        for reason, n in REASONS.items():
            labels = {"conversion": kind, "reason": reason, "window": "7d"}
            found.append(row("parcours_total_unattributed_conversions", labels, n))
    for period in ("previous", "week_earlier"):
        for name, value in (
            ("attributed_revenue", 18_200),
            ("attributed_conversions", 240),
            ("cost", 9_400),
            ("cpa", Decimal("39.2")),
        ):
            labels: dict[str, str] = {
                "model": HEADLINE[0],
                "basis": "conversion",
                "conversion": "purchase",
                "window": "7d",
                "period": period,
            }
            if name == "cost":
                labels = {"window": "7d", "period": period}
            found.append(row(f"parcours_total_{name}_baseline", labels, value))
    for at, place in enumerate(places):
        for campaign in place.campaigns if place.cost else ():
            t = Decimal(END - (at % 3) * 3_600_000_000) / 1_000_000
            found.append(
                row(
                    "parcours_cost_through_timestamp_seconds",
                    {"channel": place.channel, "network": place.network, "campaign": campaign},
                    t,
                )
            )
    return found


MARKETING = Marketing(
    alerts=(
        AlertRule(name="cpa_high", metric="cpa", threshold=Decimal(60), network="*", severity="critical"),
        AlertRule(name="cpa_watch", metric="cpa", threshold=Decimal(60), network="tiktok"),
    ),
    goals=tuple(
        Goal(name=name, metric=metric, target=Decimal(target), start=date(2026, 2, 1), deadline=date(2026, 3, 31))
        for name, metric, target in (("spring_orders", "orders", 800), ("linkedin_cpa", "cpa", 60))
    ),
)


def states(firing: int = 1) -> list[Row]:
    """An alert that fires, one that does not, one undecided; goals ahead and behind."""
    found = [
        row("parcours_pipeline_problem", {"problem": "stale_costs"}, 1),
        row("parcours_pipeline_problem", {"problem": "gap"}, 0),
    ]
    for rule, network, active, unknown, value in (
        ("cpa_high", "linkedin", firing, 0, "178.6"), ("cpa_high", "google", 0, 0, "11.63"), ("cpa_watch", "tiktok", 0, 1, "196.03"),
    ):  # fmt: skip
        scope = {"channel": "Paid Search" if network == "google" else "Paid Social", "network": network, "campaign": ""}
        labels = {"rule": rule, "severity": "critical" if rule == "cpa_high" else "warning", "team": "growth", **scope}
        for name, amount in (("active", active), ("unknown", unknown), ("value", Decimal(value)), ("threshold", 60)):
            found.append(row(f"parcours_alert_{name}", labels, amount))
    for goal, progress, expected, on, value, target in (
        ("spring_orders", "0.62", "0.55", 1, "496", 800), ("linkedin_cpa", "0.21", "0.7", 0, "178.6", 60),
    ):  # fmt: skip
        for name, amount in (
            ("progress_ratio", progress),
            ("expected_ratio", expected),
            ("on_track", on),
            ("value", value),
            ("target", target),
        ):
            found.append(row(f"parcours_goal_{name}", {"goal": goal}, Decimal(amount)))
    return found


CLAIMS = {("Paid Search", "google"): ("80", "7500.5"), ("Paid Social", "facebook"): ("40", "3000")}
"""Conversions and value that networks claim over 7 days."""


def claims() -> list[Row]:
    found = []
    for place in PLACES:
        claimed = CLAIMS.get((place.channel, place.network))
        for name, claim, own in zip(
            ("conversions", "value"), claimed or (), (place.conversions, place.revenue), strict=False
        ):
            labels = {"channel": place.channel, "network": place.network, "window": "7d"} | (
                {"currency": "EUR"} if name == "value" else {}
            )
            found.append(row(f"parcours_channel_platform_{name}", labels, Decimal(claim)))
            found.append(row(f"parcours_channel_platform_{name}_difference", labels, Decimal(claim) - Decimal(own)))
    return found


def row(family: str, labels: dict[str, str], value: Any) -> Row:
    return Row(family, tuple(labels.items()), value if isinstance(value, int) else Decimal(value))


def _window(places: tuple[Place, ...], window: str, basis: str, model: str, kind: str, factor: Decimal) -> list[Row]:
    found: list[Row] = []
    share = SHARE[window]
    credit = {"model": model, "basis": basis, "conversion": kind, "window": window}
    sums = [Decimal(0), Decimal(0), Decimal(0)]
    for place in places:
        names = {"channel": place.channel, "network": place.network}
        nobody = place.channel == NOBODY
        if nobody and basis == "touch":
            continue
        conversions = (Decimal(place.conversions) * share * factor).quantize(Decimal("0.000001"))
        revenue = (Decimal(place.revenue) * share * factor).quantize(Decimal("0.01"))
        cost = None if place.cost is None else (Decimal(place.cost) * share).quantize(Decimal("0.01"))
        found += _named("channel", names, credit, conversions, revenue, cost)
        if not nobody:
            sums = [sums[0] + conversions, sums[1] + revenue, sums[2] + (cost or 0)]
        if window == "1h" or basis == "touch" or model not in HEADLINE:
            continue
        for i, campaign in enumerate(place.campaigns):
            part = Decimal(2) / ((i + 1) * (i + 2)) if i + 1 < len(place.campaigns) else Decimal(2) / (i + 1)
            part = part / 2
            found += _named(
                "campaign", names | {"campaign": campaign}, credit, (conversions * part).quantize(Decimal("0.000001")),
                (revenue * part).quantize(Decimal("0.01")), None if cost is None else (cost * part).quantize(Decimal("0.01")),
            )  # fmt: skip
    return found + _named("total", {}, credit, sums[0], sums[1], sums[2])


def _named(
    level: str,
    names: dict[str, str],
    credit: dict[str, str],
    conversions: Decimal,
    revenue: Decimal,
    cost: Decimal | None,
) -> list[Row]:
    of = f"parcours_{level}_"
    found = [
        row(of + "attributed_conversions", names | credit, conversions),
        row(of + "attributed_revenue", names | credit | {"currency": "EUR"}, revenue),
    ]
    if cost:
        # One row for all models: only the first brings it, as an exporter has it once.
        if (credit["model"], credit["basis"], credit["conversion"]) == (HEADLINE[0], "conversion", "purchase"):
            found.append(row(of + "cost", names | {"window": credit["window"], "currency": "EUR"}, cost))
        if credit["model"] in HEADLINE and conversions:
            found.append(row(of + "cpa", names | credit | {"currency": "EUR"}, round(cost / conversions, 8)))
            found.append(row(of + "roas_ratio", names | credit, round(revenue / cost, 8)))
            found.append(row(of + "roi_on_revenue_ratio", names | credit, round((revenue - cost) / cost, 8)))
    return found


def _days(places: tuple[Place, ...], scale: Decimal) -> list[Row]:
    found = []
    for ago in range(DAYS):
        total = [Decimal(0), Decimal(0), Decimal(0)]
        for at, place in enumerate(places):
            wave = Decimal(str(round(1 + 0.35 * math.sin((ago + at) / 2.3) + 0.2 * math.cos(ago * (at + 1) / 5), 4)))
            share = wave * scale / 7 * (Decimal("0.6") if ago == 0 else 1)
            day = [
                Decimal(place.conversions) * share,
                (Decimal(place.revenue) * share).quantize(Decimal("0.01")),
                (Decimal(place.cost or 0) * share / scale).quantize(Decimal("0.01")),
            ]
            names = {"channel": place.channel, "network": place.network}
            found += _day("channel", names, ago, day)
            if place.channel != NOBODY:
                total = [a + b for a, b in zip(total, day, strict=True)]
        found += _day("total", {}, ago, total)
    return found


def _day(level: str, names: dict[str, str], ago: int, day: list[Decimal]) -> list[Row]:
    credit = {"model": HEADLINE[0], "basis": "conversion", "conversion": "purchase", "days_ago": str(ago)}
    found = [
        row(f"parcours_day_{level}_attributed_conversions", names | credit, round(day[0], 6)),
        row(f"parcours_day_{level}_attributed_revenue", names | credit | {"currency": "EUR"}, day[1]),
    ]
    if day[2]:
        found.append(row(f"parcours_day_{level}_cost", names | {"days_ago": str(ago), "currency": "EUR"}, day[2]))
        found.append(row(f"parcours_day_{level}_cpa", names | credit | {"currency": "EUR"}, round(day[2] / day[0], 6)))
        found.append(row(f"parcours_day_{level}_roas_ratio", names | credit, round(day[1] / day[2], 6)))
    return found
