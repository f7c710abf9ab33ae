"""Channel, network and campaign: each source of knowledge, their order, and what hostile names cannot do."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attribution.channels import Classifier, Source, clean, ga4_channel, host_of
from attribution.data import CLICK_IDS, RULES, SOURCES, find
from models.errors import ConfigError
from models.events import Click, Touchpoint
from models.settings import Marketing

WHEN = datetime(2026, 3, 1, tzinfo=UTC)
NONE = "(none)"
DIRECT = ("Direct", NONE, NONE)
MARKETING = Marketing(
    own_domains=("shop.ma", "https://www.boutique.example/", "*.café.example"),
    payment_domains=("paypal.com",),
    campaign_aliases={
        "Summer 26": "Summer 2026",
        "120210": "Summer 2026",
        "SUMMER 2026": "Summer 2026",
        "old": "summer 26",
    },
)


def click(**fields: Any) -> Click:
    return Click(event_id="e", occurred_at=WHEN, **fields)


def visit(**fields: Any) -> Touchpoint:
    return Touchpoint(event_id="e", occurred_at=WHEN, type=fields.pop("type", "visit"), **fields)


def names(event: Click | Touchpoint, *, ad: bool | None = None, marketing: Marketing = MARKETING) -> tuple[str, ...]:
    source = Classifier(marketing).classify(event, ad=isinstance(event, Click) if ad is None else ad)
    return tuple(source[:3])


# ── where knowledge comes from ───────────────────────────────────────────────


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, ("Direct", NONE, NONE)),
        ({"channel": "Podcast", "network": "Spotify", "campaign": "Épisode 3"}, ("Podcast", "spotify", "Épisode 3")),
        ({"utm_source": "google", "utm_medium": "cpc"}, ("Paid Search", "google", NONE)),
        ({"utm_source": "Facebook", "utm_medium": "CPC", "utm_campaign": "Été"}, ("Paid Social", "facebook", "Été")),
        ({"utm_source": "google / cpc"}, ("Paid Search", "google", NONE)),
        ({"utm_source": "(direct) / (none)"}, ("Direct", NONE, NONE)),
        ({"utm_source": "newsletter-mai", "utm_medium": "email"}, ("Email", "newsletter-mai", NONE)),
        ({"utm_source": "Newsletter Mai"}, ("Unassigned", "newsletter mai", NONE)),
        ({"utm_medium": "email"}, ("Email", NONE, NONE)),
        ({"utm_campaign": "spring"}, ("Unassigned", NONE, "spring")),
        ({"campaign_id": "77"}, ("Unassigned", NONE, "77")),
        ({"network": "linkedin"}, ("Organic Social", "linkedin", NONE)),
        ({"network": "YouTube"}, ("Organic Video", "youtube", NONE)),
        ({"gclid": "G1"}, ("Paid Search", "google", NONE)),
        ({"gclid": "G1", "utm_campaign": "cross-network"}, ("Cross-network", "google", "cross-network")),
        ({"dclid": "D1"}, ("Display", "google", NONE)),
        ({"fbclid": "F1"}, ("Organic Social", "facebook", NONE)),
        ({"igshid": "I1"}, ("Organic Social", "instagram", NONE)),
        ({"msclkid": "M1"}, ("Paid Search", "bing", NONE)),
        ({"twclid": "T1"}, ("Paid Social", "x", NONE)),
        ({"gclid": " "}, ("Direct", NONE, NONE)),
        ({"click_id": "C1"}, ("Direct", NONE, NONE)),
        ({"referrer": "https://l.facebook.com/l.php?u=x"}, ("Organic Social", "facebook", NONE)),
        ({"referrer": "https://t.co/abc"}, ("Organic Social", "x", NONE)),
        ({"referrer": "https://www.google.co.ma/"}, ("Organic Search", "google", NONE)),
        ({"referrer": "https://accounts.google.com/"}, ("Referral", "accounts.google.com", NONE)),
        ({"referrer": "https://fr.search.yahoo.com/"}, ("Organic Search", "yahoo", NONE)),
        ({"referrer": "https://store.shopping.yahoo.co.jp/"}, ("Organic Shopping", "yahoo", NONE)),
        ({"referrer": "android-app://com.linkedin.android/"}, ("Organic Social", "linkedin", NONE)),
        ({"referrer": "https://www.Blog.example:8080/p?q"}, ("Referral", "blog.example", NONE)),
        ({"referrer": "about:blank"}, ("Direct", NONE, NONE)),
        ({"page_url": "https://shop.ma/?utm_source=ig&utm_medium=paid_social&utm_campaign=A%20b"},
         ("Paid Social", "instagram", "A b")),
        ({"page_url": "https://shop.ma/p?a=1&GCLID=x1&gad_campaignid=99#f"}, ("Paid Search", "google", "99")),
        ({"page_url": "https://shop.ma/p#?utm_source=google"}, ("Direct", NONE, NONE)),
    ],
)  # fmt: skip
def test_a_visit(fields: dict[str, str], expected: tuple[str, ...]) -> None:
    assert names(visit(**fields)) == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, ("Unassigned", NONE, NONE)),
        ({"click_id": "C1"}, ("Unassigned", NONE, NONE)),
        ({"campaign": "spring"}, ("Unassigned", NONE, "spring")),
        ({"network": "facebook"}, ("Paid Social", "facebook", NONE)),
        ({"network": "facebook_ads"}, ("Paid Social", "facebook", NONE)),
        ({"network": "Google Ads"}, ("Paid Search", "google", NONE)),
        ({"network": "youtube"}, ("Paid Video", "youtube", NONE)),
        ({"network": "amazon"}, ("Paid Shopping", "amazon", NONE)),
        ({"network": "taboola"}, ("Paid Other", "taboola", NONE)),
        ({"utm_source": "facebook", "utm_medium": "social"}, ("Organic Social", "facebook", NONE)),
        ({"utm_source": "email"}, ("Email", "email", NONE)),
        ({"fbclid": "F1"}, ("Paid Social", "facebook", NONE)),
        ({"referrer": "https://www.bing.com/"}, ("Paid Search", "bing", NONE)),
        ({"referrer": "https://blog.example/"}, ("Paid Other", "blog.example", NONE)),
        ({"referrer": "https://pay.paypal.com/"}, ("Unassigned", NONE, NONE)),
    ],
)
def test_a_click_is_paid_unless_it_says_otherwise_and_never_direct(
    fields: dict[str, str], expected: tuple[str, ...]
) -> None:
    assert names(click(**fields)) == expected


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("impression", ("Unassigned", NONE, NONE)),
        ("view", ("Unassigned", NONE, NONE)),
        ("engagement", ("Unassigned", NONE, NONE)),
        ("email_open", ("Email", NONE, NONE)),
        ("visit", ("Direct", NONE, NONE)),
    ],
)
def test_only_a_visit_can_be_direct(kind: str, expected: tuple[str, ...]) -> None:
    assert names(visit(type=kind)) == expected


EVERYTHING = {
    "channel": "Podcast",
    "network": "spotify",
    "campaign": "first",
    "utm_source": "tiktok",
    "utm_medium": "cpc",
    "utm_campaign": "second",
    "gclid": "G",
    "page_url": "https://shop.ma/?utm_source=linkedin&utm_medium=social&utm_campaign=third",
    "referrer": "https://www.reddit.com/",
}


@pytest.mark.parametrize(
    ("without", "expected"),
    [
        ((), ("Podcast", "spotify", "first")),
        (("channel",), ("Paid Other", "spotify", "first")),
        (("channel", "network", "campaign"), ("Paid Social", "tiktok", "second")),
        (("channel", "network", "campaign", "utm_source"), ("Paid Search", "google", "second")),
        (("channel", "network", "campaign", "utm_source", "utm_medium", "utm_campaign", "gclid"),
         ("Organic Social", "linkedin", "third")),
        (("channel", "network", "campaign", "utm_source", "utm_medium", "utm_campaign", "gclid", "page_url"),
         ("Organic Social", "reddit", NONE)),
    ],
)  # fmt: skip
def test_the_order_of_what_is_believed(without: tuple[str, ...], expected: tuple[str, ...]) -> None:
    fields = {name: value for name, value in EVERYTHING.items() if name not in without}
    assert names(visit(**fields)) == expected


@pytest.mark.parametrize(
    "referrer",
    [
        "https://shop.ma/cart",
        "https://www.shop.ma",
        "http://fr.shop.ma:8443/x",
        "shop.ma/cart",
        "https://boutique.example/a",
        "https://caisse.paypal.com/done",
        "https://xn--caf-dma.example/",
        "https://www.café.example/",
        "https://user:pw@SHOP.MA./",
    ],
)
def test_own_and_payment_domains_are_no_source(referrer: str) -> None:
    assert names(visit(referrer=referrer)) == DIRECT
    assert names(visit(referrer=referrer), marketing=Marketing()) != DIRECT


@pytest.mark.parametrize(
    "referrer", ["https://notshop.ma/", "https://shop.ma.evil.example/", "https://evil.example/shop.ma"]
)
def test_lookalikes_of_own_domains_are_sources(referrer: str) -> None:
    assert names(visit(referrer=referrer))[0] == "Referral"


def test_walking_within_the_pages_own_site_is_no_source() -> None:
    page = "https://www.unlisted.example/b"
    assert names(visit(referrer="https://unlisted.example/a", page_url=page)) == DIRECT
    assert names(visit(referrer="https://other.example/a", page_url=page)) == ("Referral", "other.example", NONE)


# ── click ids, campaigns, names ──────────────────────────────────────────────


@pytest.mark.parametrize("name", sorted(CLICK_IDS))
def test_each_click_id_names_its_network_as_a_field_and_in_the_page(name: str) -> None:
    classifier = Classifier(Marketing())
    as_field = classifier.classify(visit(**{name: " id-1 "}), ad=False)
    in_page = classifier.classify(visit(page_url=f"https://a.example/?x=1&{name}=id-1"), ad=False)
    assert as_field == in_page
    assert as_field.network == CLICK_IDS[name].network
    assert as_field.click_id == "id-1"
    assert as_field.channel.startswith("Organic") == (name in {"fbclid", "igshid", "epik"})


def test_the_click_id_is_the_events_own_and_not_the_one_of_an_equal_source_before() -> None:
    classifier = Classifier(Marketing())
    seen = [classifier.classify(click(network="x", twclid=f"t{i}"), ad=True).click_id for i in range(3)]
    assert seen == ["t0", "t1", "t2"]
    assert classifier.classify(click(network="x"), ad=True).click_id is None
    assert classifier.classify(click(click_id="own", gclid="g"), ad=True) == Source(
        "Paid Search", "google", NONE, "own"
    )


@pytest.mark.parametrize(
    ("fields", "campaign"),
    [
        ({"campaign": "  Summer   26 "}, "Summer 2026"),
        ({"campaign": "sUMMER 26"}, "Summer 2026"),
        ({"utm_id": "120210"}, "Summer 2026"),
        ({"campaign": "Sommer", "campaign_id": "120210"}, "Summer 2026"),
        ({"utm_campaign": "OLD"}, "Summer 2026"),
        ({"campaign": "summer 2026"}, "Summer 2026"),
        ({"campaign": "Autumn", "campaign_id": "5"}, "Autumn"),
        ({"campaign": "(not set)", "utm_campaign": "Winter"}, "Winter"),
        ({"campaign_id": "5", "utm_id": "6"}, "5"),
    ],
)
def test_campaigns_and_their_aliases(fields: dict[str, str], campaign: str) -> None:
    assert names(click(**fields))[2] == campaign
    cost = Classifier(MARKETING).for_cost(
        None, None, fields.get("campaign") or fields.get("utm_campaign"), fields.get("campaign_id") or fields.get("utm_id"),
        "media",
    )  # fmt: skip
    if fields.get("campaign") != "(not set)":
        assert cost == (NONE, NONE, campaign)


def test_aliases_that_lead_in_a_circle_are_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="campaign_aliases"):
        Classifier(Marketing(campaign_aliases={"a": "b", "b": "c", "c": "a"}))


@pytest.mark.parametrize(
    ("given_name", "kept"),
    [
        ("(none)", NONE),
        ("(not set)", NONE),
        ("(other)", "other"),
        (" (Other) ", "other"),
        ("(unattributed)", "unattributed"),
        ("(un\x00allocated)", "unallocated"),
        ("((other))", "((other))"),
    ],
)
def test_reserved_values_cannot_be_given_as_names(given_name: str, kept: str) -> None:
    source = names(click(channel=given_name, network=given_name, campaign=given_name))
    assert source == ("Unassigned" if kept == NONE else kept, kept, kept)


def test_names_are_one_line_of_at_most_100_characters() -> None:
    text = "\u202e a\n b\x00\x1b[31m\u2028" + "é" * 200
    channel, network, campaign = names(click(channel=text, network=text, campaign=text))
    assert channel == network == campaign == "a b[31m " + "é" * 92


# ── costs ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ((None, "Facebook", "Spring", None, "media"), ("Paid Social", "facebook", "Spring")),
        ((None, "google ads", None, "9", "media"), ("Paid Search", "google", "9")),
        ((None, "taboola", None, None, "media"), ("Paid Other", "taboola", NONE)),
        ((None, "facebook", None, None, "salary"), ("Organic Social", "facebook", NONE)),
        (("Email", None, None, None, "tool"), ("Email", NONE, NONE)),
        (("Paid Social", "fb", "Spring", "120210", "media"), ("Paid Social", "facebook", "Summer 2026")),
        ((None, None, "Spring", None, "media"), (NONE, NONE, "Spring")),
        ((None, None, None, None, "agency"), (NONE, NONE, NONE)),
        (("(none)", "(not set)", "", "", "other"), (NONE, NONE, NONE)),
    ],
)
def test_a_cost_row(row: tuple[str | None, str | None, str | None, str | None, str], expected: tuple[str, ...]) -> None:
    assert Classifier(MARKETING).for_cost(*row) == expected


@pytest.mark.parametrize("campaign", ["brand", "Shop the look", "cross-network", None])
@pytest.mark.parametrize("network", ["google", "facebook", "youtube", "amazon", "taboola"])
def test_a_media_row_meets_the_clicks_that_it_paid_for(network: str, campaign: str | None) -> None:
    paid = Classifier(Marketing()).for_cost(None, network, campaign, None, "media")
    assert paid == names(click(network=network, campaign=campaign))
    assert paid == names(click(utm_source=network, utm_medium="cpc", utm_campaign=campaign))


# ── tables ───────────────────────────────────────────────────────────────────


def test_every_network_is_understood_when_its_own_name_comes_back() -> None:
    for table in (SOURCES.exact, SOURCES.under, SOURCES.anywhere, SOURCES.anywhere_under):
        for source, known in table.items():
            again = find(known.network)
            assert again is not None, source
            assert again.network == known.network, source
            assert known.network == known.network.lower().strip()


def test_every_rule_can_win() -> None:
    sources = {"search": "bing", "social": "reddit", "video": "vimeo", "shopping": "etsy", "": "some"}
    media = ("", "cpc", "cpm", "social", "video", "organic", "referral", "email", "affiliate", "audio", "sms", "x-push")
    won = {
        ga4_channel(source, medium, campaign)
        for source in (*sources.values(), "(direct)", "firebase")
        for medium in media
        for campaign in ("", "a-shop", "cross-network")
    }
    assert won == {rule.channel for rule in RULES} | {"Unassigned"}


@pytest.mark.parametrize(
    ("campaign", "channel"),
    [("shop now", "Paid Shopping"), ("my-shop", "Paid Shopping"), ("eshop", "Paid Shopping"), ("xshopping", "Paid Shopping"),
     ("workshop", "Paid Social"), ("bishop", "Paid Social")],
)  # fmt: skip
def test_the_campaign_names_that_mean_shopping(campaign: str, channel: str) -> None:
    assert ga4_channel("facebook", "cpc", campaign) == channel


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://www.Example.com./a?b#c", "example.com"),
        ("//cdn.example.com/x", "cdn.example.com"),
        ("http://u:p@example.com:80", "example.com"),
        ("http://[::1]:6066/x", "[::1]"),
        ("http://localhost:3000", "localhost"),
        ("example.com/a", "example.com"),
        ("example.com:443", "example.com"),
        ("intranet", ""),
        ("about:blank", ""),
        ("http://", ""),
        ("http://[", ""),
        ("", ""),
        (None, ""),
    ],
)
def test_host_of(url: str | None, host: str) -> None:
    assert host_of(url) == host


# ── properties ───────────────────────────────────────────────────────────────

TRICKY = st.sampled_from(
    ["(none)", "(other)", "(unallocated)", "(Unattributed)", "(not set)", "(direct)", "facebook", "Google Ads", "www.www.t.co",
     "a / b / c", " www. x / y", "İ" * 100, "ΑΣ", "\ud800", "\u202e(other)", "www.(other)", "old", "120210", "https://", "?",
     "m.facebook.com", "direct", "\x00", "&utm_source=%28other%29", "//t.co", "email", "ads", " ads"]
)  # fmt: skip
WORDS = st.none() | TRICKY | st.text(max_size=130) | st.builds("".join, st.lists(TRICKY, max_size=3))
FIELDS = ("channel", "network", "campaign", "campaign_id", "utm_source", "utm_medium", "utm_campaign", "utm_id", "click_id",
          "gclid", "fbclid", "dclid", "referrer", "page_url")  # fmt: skip
EVENTS = st.dictionaries(st.sampled_from(FIELDS), WORDS, max_size=6)
KINDS = st.sampled_from(["click", "visit", "impression", "engagement", "email_open"])
UNPRINTED = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\ud800-\udfff]")
SHARED = Classifier(MARKETING)
# How long an example takes says nothing about names.
untimed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=300)


def sound(name: str) -> None:
    assert 0 < len(name) <= 100
    assert not UNPRINTED.search(name)
    assert name == " ".join(name.split())
    assert name.casefold() not in {"(other)", "(unallocated)", "(unattributed)", "(not set)"}
    name.encode()


@untimed
@given(EVENTS, KINDS, st.booleans())
def test_any_text_gives_sound_names_that_classify_as_themselves(fields: dict[str, Any], kind: str, ad: bool) -> None:
    def event(**said: Any) -> Click | Touchpoint:
        return click(**said) if kind == "click" else visit(type=kind, **said)

    source = SHARED.classify(event(**fields), ad=ad)
    assert source == Classifier(MARKETING).classify(event(**fields), ad=ad)
    for name in source[:3]:
        sound(name)
    assert source.channel != NONE
    assert source.network == source.network.lower()
    if source.click_id is not None:
        assert source.click_id == clean(source.click_id, 256) != ""
    if kind == "click" and ad and not fields.get("channel"):
        assert source.channel != "Direct"
    again = event(channel=source.channel, network=source.network, campaign=source.campaign)
    assert SHARED.classify(again, ad=ad)[:3] == source[:3]


@untimed
@given(WORDS, WORDS, WORDS, WORDS, st.sampled_from(["media", "agency", "other"]))
def test_any_cost_row_gives_sound_names_that_classify_as_themselves(
    channel: str | None, network: str | None, campaign: str | None, campaign_id: str | None, kind: str
) -> None:
    row = SHARED.for_cost(channel, network, campaign, campaign_id, kind)
    for name in row:
        sound(name)
    assert SHARED.for_cost(*row, None, kind) == row


@untimed
@given(st.text(), st.text(), st.text())
def test_ga4_channel_knows_an_answer_for_any_text(source: str, medium: str, campaign: str) -> None:
    assert ga4_channel(source, medium, campaign) in {rule.channel for rule in RULES} | {"Unassigned"}


def test_hostile_unique_sources_change_no_answer_and_are_not_kept() -> None:
    classifier = Classifier(Marketing())
    first = classifier.classify(click(utm_source="facebook"), ad=True)
    for i in range(45_000):
        classifier.classify(click(utm_source=f"hostile {i}"), ad=True)
    assert len(classifier._cache) <= 20_000
    before = len(classifier._cache)
    for i in range(100):
        classifier.classify(click(utm_campaign=f"{i}" + "x" * 250, utm_source="y" * 200), ad=True)
        classifier.classify(visit(page_url=f"https://shop.ma/{i}?utm_source=z", referrer=f"https://t.co/{i}"), ad=False)
    assert len(classifier._cache) <= before + 1
    assert classifier.classify(click(utm_source="facebook"), ad=True) == first
