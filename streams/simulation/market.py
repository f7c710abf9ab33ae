"""The simulated market as data: campaigns, what their touches do to a person, and the configuration to read it with.

Weights are relative frequencies, uplifts are additive purchase probabilities in millionths, prices are micros of
the campaign's currency. They are invented, and chosen so that some networks clearly pay and others clearly do not.
"""

from __future__ import annotations

from typing import Any, NamedTuple

SITE = "https://www.atelier-lumen.example"

# What the demo needs to read this market rightly; it loads through `models.settings.load_marketing`.
PARCOURS_TOML = """\
# The marketing configuration of the simulated shop.
reporting_currency = "EUR"
time_zone = "Europe/Paris"
headline_models = ["last_non_direct", "position_based"]
own_domains = ["atelier-lumen.example"]
payment_domains = ["pay.example"]
lateness = "7d"

# Units of the reporting currency for one unit of the foreign one.
[[rates]]
currency = "USD"
rate = "0.92"

[[rates]]
currency = "GBP"
rate = "1.17"

[[rates]]
currency = "MAD"
rate = "0.092"

# Stages that count as conversions of their own, and what one is worth when the event does not say.
[conversions.lead]
value = "25"

[conversions.signup]

[lookback]
click = "30d"
view = "1d"
engagement = "7d"
direct = "30d"
"""

# The share of orders in USD, and the rate of the configuration above.
USD_SHARE = 0.08
USD_TO_EUR_MILLIONTHS = 920_000


class Campaign(NamedTuple):
    """What is bought from a network. `floor` is spent every day (micros); `own_costs` means that each click
    tells its price and that the network sends no report."""

    network: str
    channel: str
    name: str
    id: str
    currency: str = "EUR"
    floor: int = 2_000_000
    own_costs: bool = False


CAMPAIGNS = (
    Campaign("google", "Paid Search", "brand_fr", "g-1001"),
    Campaign("google", "Paid Search", "generic_fr", "g-1002"),
    Campaign("facebook", "Paid Social", "prospecting_q1", "f-2001"),
    Campaign("facebook", "Paid Social", "retargeting", "f-2002"),
    Campaign("instagram", "Paid Social", "stories_spring", "i-3001"),
    Campaign("linkedin", "Paid Social", "leaders_b2b", "l-4001", "USD"),
    Campaign("tiktok", "Paid Social", "creators", "t-5001"),
    Campaign("youtube", "Paid Video", "brand_film", "y-6001"),
    Campaign("bing", "Paid Search", "generic_bing", "b-7001", own_costs=True),
)
REPORTED = tuple(i for i, campaign in enumerate(CAMPAIGNS) if not campaign.own_costs)


class Placement(NamedTuple):
    """One way to meet the shop. `first` and `later` weigh it as the opening and as a following touch.

    `form` says which events it makes: ad (a click and its landing), impression, view, email (an opened mail
    and perhaps a visit), engagement, visit. `price` is paid per touch. `campaign` indexes CAMPAIGNS, or is -1.
    """

    form: str
    channel: str
    network: str
    campaign: int
    first: int
    later: int
    uplift: int
    price: int
    fields: dict[str, Any]
    click_id: str = ""


def _paid(index: int, form: str, first: int, later: int, uplift: int, price: int, click_id: str = "") -> Placement:
    campaign = CAMPAIGNS[index]
    medium = "paid_social" if campaign.channel == "Paid Social" else "cpc"
    fields = {
        "utm_source": campaign.network,
        "utm_medium": medium,
        "utm_campaign": campaign.name,
        "utm_id": campaign.id,
    }
    return Placement(form, campaign.channel, campaign.network, index, first, later, uplift, price, fields, click_id)


def _named(index: int, form: str, first: int, later: int, uplift: int, price: int, click_id: str = "") -> Placement:
    """A placement whose events name channel, network and campaign outright."""
    campaign = CAMPAIGNS[index]
    fields = {
        "channel": campaign.channel,
        "network": campaign.network,
        "campaign": campaign.name,
        "campaign_id": campaign.id,
    }
    return Placement(form, campaign.channel, campaign.network, index, first, later, uplift, price, fields, click_id)


def _organic(form: str, channel: str, network: str, first: int, later: int, uplift: int, /, **fields: Any) -> Placement:
    return Placement(form, channel, network, -1, first, later, uplift, 0, fields)


_INSTAGRAM = {"channel": "Organic Social", "network": "instagram"}
_TIKTOK = {"channel": "Organic Social", "network": "tiktok"}
_MAIL = {"utm_source": "newsletter", "utm_medium": "email", "utm_campaign": "weekly_letter"}

PLACEMENTS = (
    _paid(0, "ad", 30, 90, 70_000, 450_000, "gclid"),
    _paid(1, "ad", 110, 60, 45_000, 1_700_000, "gclid"),
    _paid(2, "ad", 90, 40, 25_000, 2_300_000, "fbclid"),
    _named(2, "impression", 60, 30, 4_000, 12_000),
    _named(3, "ad", 10, 80, 60_000, 900_000, "fbclid"),
    _paid(4, "ad", 90, 60, 40_000, 1_400_000, "fbclid"),
    _named(4, "impression", 40, 30, 4_000, 10_000),
    _paid(5, "ad", 70, 50, 15_000, 17_000_000, "li_fat_id"),
    _paid(6, "ad", 70, 60, 10_000, 12_500_000, "ttclid"),
    _named(6, "impression", 40, 20, 1_000, 15_000),
    _named(7, "ad", 60, 60, 15_000, 12_500_000, "gclid"),
    _named(7, "view", 50, 30, 6_000, 90_000),
    _paid(8, "ad", 50, 40, 45_000, 1_500_000, "msclkid"),
    _organic("email", "Email", "newsletter", 20, 120, 50_000, **_MAIL),
    _organic("visit", "Organic Search", "google", 80, 70, 45_000, referrer="https://www.google.com/"),
    _organic("visit", "Organic Search", "bing", 15, 10, 45_000, referrer="https://www.bing.com/"),
    _organic("visit", "Organic Social", "facebook", 25, 20, 20_000, referrer="https://l.facebook.com/"),
    _organic("visit", "Organic Social", "instagram", 30, 25, 25_000, referrer="https://l.instagram.com/"),
    _organic("visit", "Organic Social", "linkedin", 15, 10, 15_000, referrer="https://www.linkedin.com/"),
    _organic("engagement", "Organic Social", "instagram", 15, 15, 10_000, **_INSTAGRAM),
    _organic("engagement", "Organic Social", "tiktok", 10, 10, 5_000, **_TIKTOK),
    _organic("visit", "Direct", "(none)", 60, 130, 30_000),
)
CHANNELS = tuple(sorted({place.channel for place in PLACEMENTS}))
NETWORKS = tuple(sorted({place.network for place in PLACEMENTS}))

_STEPS = 2048


def _table(weights: list[int]) -> tuple[Placement, ...]:
    """The placements repeated by weight, so that one uniform draw picks one by index."""
    total = sum(weights)
    table: list[Placement] = []
    reached = 0
    for place, weight in zip(PLACEMENTS, weights, strict=True):
        reached += weight
        table += [place] * (round(_STEPS * reached / total) - len(table))
    return tuple(table)


FIRST = _table([place.first for place in PLACEMENTS])
LATER = _table([place.later for place in PLACEMENTS])

# Reactions that networks report without saying whose they were: (network, kind, sentiment).
REACTIONS = (
    ("facebook", "like", 1),
    ("facebook", "share", 1),
    ("instagram", "like", 1),
    ("instagram", "comment", 0),
    ("linkedin", "share", 1),
    ("linkedin", "follow", 1),
    ("tiktok", "favourite", 1),
    ("tiktok", "hide", -1),
    ("facebook", "unfollow", -1),
    ("instagram", "mention", 0),
)

# Share of a day's activity by hour, local winter time: quiet nights, a lunch peak, an evening peak.
_HOURS = (2, 1, 1, 1, 1, 2, 4, 7, 9, 10, 10, 11, 13, 12, 10, 9, 9, 10, 12, 14, 16, 15, 10, 5)
_WINTER_OFFSET_HOURS = 1


def _quantiles() -> tuple[int, ...]:
    """Times of the UTC day in microseconds, one per 1/1000 of the day's activity."""
    hours = _HOURS[_WINTER_OFFSET_HOURS:] + _HOURS[:_WINTER_OFFSET_HOURS]
    total = sum(hours)
    times: list[int] = []
    reached = 0.0
    for hour, weight in enumerate(hours):
        count = round((reached + weight) * 1000 / total) - len(times)
        times += [int((hour + k / count) * 3_600_000_000) for k in range(count)]
        reached += weight
    return tuple(times)


TIMES_OF_DAY = _quantiles()
# Monday to Sunday.
WEEKDAYS = (1.05, 1.0, 1.0, 1.05, 0.95, 0.85, 1.1)
