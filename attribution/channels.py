"""Channel, network and campaign of an interaction (how, where, which).

Each comes from explicit fields first, else UTM parameters, click ids, the same two inside `page_url`, and last
the referrer's host, by the ordered tables in `attribution.data`. The channels are GA4's default channel groups
(Google Analytics Help, "Default channel group").

A click id says which network sent the visitor. Only some say that it was paid for: Google issues a gclid for ad
clicks alone, so gclid implies paid; Facebook appends fbclid to organic links as well, so fbclid does not, and a
visit with nothing but an fbclid is Organic Social. A bare `click_id` names no network: it is kept for matching
a landing with its click, and is no source.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from operator import attrgetter
from typing import NamedTuple
from urllib.parse import unquote_plus

from attribution.data import CLICK_IDS, PAID, RULES, Known, find
from models.errors import ConfigError
from models.events import Acquisition
from models.results import NONE, OTHER, UNALLOCATED, UNATTRIBUTED
from models.settings import Marketing

DIRECT = "Direct"
UNASSIGNED = "Unassigned"
MAX_NAME = 100
_MAX_CLICK_ID = 256
# Hostile events make every value unique: the cache is emptied when it is full, and long keys never enter it.
_CACHE_ENTRIES = 20_000
_CACHE_KEY_CHARS = 400

# Neither is printed, and each could forge or break a line: controls, bidirectional overrides, lone surrogates.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff\ud800-\udfff]")
# What exports of GA write where they know nothing.
_ABSENT = frozenset({"", NONE, "(not set)", "(direct)", "(organic)", "(referral)", "(not provided)"})
_RESERVED = {name: name.strip("()") for name in (OTHER, UNALLOCATED, UNATTRIBUTED)}
_HOST = re.compile(
    r"\s*(?:(?:[a-z][a-z0-9+.-]*:)?(//))?(?:[^/?#@\\]*@)?(\[[^\]/?#\\]*\]|[^/?#:\\\s\[\]]+)", re.IGNORECASE
)
_ADS = re.compile(r"[ _-]?ads?$")
# Touchpoints that show or tell something: without a source they are nobody's direct visit.
_SHOWN = frozenset({"impression", "view", "engagement", "email_open"})

_FIELDS = attrgetter(
    "channel", "network", "campaign", "campaign_id", "utm_source", "utm_medium", "utm_campaign", "utm_id"
)
_ID_NAMES = tuple(CLICK_IDS)
_IDS: Callable[[Acquisition], tuple[str | None, ...]] = attrgetter(*_ID_NAMES)
_NO_IDS = (None,) * len(_ID_NAMES)
_PARAMETERS = {name: name for name in ("utm_source", "utm_medium", "utm_campaign", "utm_id", *_ID_NAMES)} | {
    "gad_campaignid": "utm_id"
}

_Text = str | None
_Key = tuple[_Text, _Text, _Text, _Text, _Text, _Text, _Text, _Text, _Text, _Text, bool, _Text]


class Source(NamedTuple):
    """Where an interaction came from; each name is `(none)` when unknown. At most 100 characters each."""

    channel: str
    network: str
    campaign: str
    click_id: str | None


def clean(text: str | None, limit: int = MAX_NAME) -> str:
    """`text` as one line of at most `limit` characters: no controls, whitespace collapsed, "" for None."""
    if not text:
        return ""
    if text.isascii() and text.isprintable() and " " not in text:
        return text[:limit]
    return " ".join(_CONTROL.sub("", " ".join(text.split())).split())[:limit].strip()


def _lower(text: str | None) -> str:
    # Lower first: a few capitals become two characters, and the limit holds for the result.
    return clean(text.lower()) if text else ""


def host_of(url: str | None) -> str:
    """The lower-cased host of a URL or bare host, without port, `www.` and final dot; "" when there is none."""
    match = _HOST.match(url) if url else None
    if match is None or not (match[1] or "." in match[2]):
        return ""
    return _bare(match[2].lower().strip("."))


def ga4_channel(source: str, medium: str, campaign: str) -> str:
    """GA4's default channel group of a source, medium and campaign as its reports name them; case is ignored."""
    return _group(_bare(_lower(source)), _lower(medium), _lower(campaign))


def _group(source: str, medium: str, campaign: str) -> str:
    known = _find(source)
    category = known.category if known else ""
    for rule in RULES:
        if (
            (not rule.category or rule.category == category)
            and (rule.source is None or rule.source.fullmatch(source))
            and (rule.medium is None or rule.medium.fullmatch(medium))
            and (rule.campaign is None or rule.campaign.fullmatch(campaign))
        ):
            return rule.channel
    return UNASSIGNED


def _find(source: str) -> Known | None:
    """`facebook_ads` and `facebook ads` are facebook where that is known."""
    return find(source) or (find(_ADS.sub("", source)) if _ADS.search(source) else None)


def _bare(source: str) -> str:
    """A source or host without `www.`, as often as it is there; "" when that says nothing."""
    while source.startswith("www."):
        source = source[4:].strip()
    return "" if source in _ABSENT else source


def _source(raw: str | None) -> tuple[str, str]:
    """(source, medium) of a source as given; `google / cpc`, as GA exports write it, holds both."""
    source, _, medium = _lower(raw).partition(" / ")
    return _bare(source.strip()), _medium(medium)


def _medium(raw: str | None) -> str:
    medium = _lower(raw)
    return "" if medium in _ABSENT else medium


def _network(source: str) -> str:
    known = _find(source)
    return _name(known.network if known else source) or NONE


def _name(text: str) -> str:
    """A cleaned name that is no reserved value; "" for what means absent."""
    folded = text.casefold()
    return "" if folded in _ABSENT else _RESERVED.get(folded, text)


def _says(text: str | None) -> bool:
    return text is not None and text.strip().lower() not in _ABSENT


def _parameters(url: str) -> dict[str, str]:
    """UTM parameters and click ids of a URL's query; the first of a name that is not empty counts."""
    found: dict[str, str] = {}
    for pair in url.partition("#")[0].partition("?")[2].split("&"):
        raw, _, value = pair.partition("=")
        name = _PARAMETERS.get(raw.lower())
        if name and value:
            found.setdefault(name, unquote_plus(value))
    return found


class Classifier:
    """Classifies events and cost rows under one configuration; answers depend on the arguments alone.

    Raises ConfigError when `campaign_aliases` lead in a circle.
    """

    def __init__(self, marketing: Marketing) -> None:
        self._aliases = _resolved(marketing.campaign_aliases)
        self._no_source = hosts((*marketing.own_domains, *marketing.payment_domains))
        self._cache: dict[_Key, Source] = {}

    def classify(self, event: Acquisition, *, ad: bool) -> Source:
        """The source of an event.

        `ad` says that the interaction is an ad's (an event of `clicks`, an ad impression): where no medium is
        known it counts as paid, and without any source its channel is `Unassigned`, never `Direct`.
        """
        channel, network, campaign, campaign_id, utm_source, utm_medium, utm_campaign, utm_id = _FIELDS(event)
        click_id, id_name, host = event.click_id, None, None
        ids = _IDS(event)
        if ids != _NO_IDS:
            for name, value in zip(_ID_NAMES, ids, strict=True):
                if value is not None and value.strip():
                    id_name, click_id = name, click_id or value
                    break
        if id_name is None and not (_says(network) or _says(utm_source)):
            page = event.page_url
            if page and "?" in page and not (_says(channel) or _says(utm_medium)):
                found = _parameters(page)
                utm_source, utm_medium = found.get("utm_source"), found.get("utm_medium")
                utm_campaign, utm_id = utm_campaign or found.get("utm_campaign"), utm_id or found.get("utm_id")
                for name in _ID_NAMES:
                    if name in found:
                        id_name, click_id = name, click_id or found[name]
                        break
            if event.referrer and id_name is None and not _says(utm_source):
                host = self._referring(event.referrer, page)
        key = (channel, network, campaign, campaign_id, utm_source, utm_medium, utm_campaign, utm_id, id_name, host,
               ad, getattr(event, "type", None))  # fmt: skip
        answer = self._cache.get(key) or self._remember(key)
        if click_id is not None and (click_id := clean(click_id, _MAX_CLICK_ID)):
            return Source(answer.channel, answer.network, answer.campaign, click_id)
        return answer

    def for_cost(
        self, channel: str | None, network: str | None, campaign: str | None, campaign_id: str | None, kind: str
    ) -> tuple[str, str, str]:
        """(channel, network, campaign) of a cost row. A channel not given is that of a click of the row's network,
        paid in a row of kind media; without a network too it is `(none)`, so that the row can be spread."""
        given, (source, _) = _name(clean(channel)), _source(network)
        if not given and not source:
            return NONE, NONE, self._campaign(campaign, None, campaign_id, None)
        key = (channel, network, campaign, campaign_id, None, None, None, None, None, None, kind == "media", None)
        return (self._cache.get(key) or self._remember(key))[:3]

    @staticmethod
    def identity(campaign_id: str | None) -> str:
        """A campaign's id as a touch that says nothing else of its campaign has it for a name; "" for none."""
        return _name(clean(campaign_id))

    def _referring(self, referrer: str, page: str | None) -> str | None:
        """The referrer's host, its last 100 characters, or None when it is no source."""
        host = host_of(referrer)
        if not host:
            return None
        # Walking within the page's own site brings nobody, whether or not own_domains lists it.
        if page and host_of(page) == host:
            return None
        if self._no_source and hosts_under(host, self._no_source):
            return None
        return host[-MAX_NAME:]

    def _remember(self, key: _Key) -> Source:
        answer = self._resolve(*key)
        if sum(len(text) for text in key if isinstance(text, str)) <= _CACHE_KEY_CHARS:
            if len(self._cache) >= _CACHE_ENTRIES:
                self._cache.clear()
            self._cache[key] = answer
        return answer

    def _resolve(
        self,
        channel: _Text,
        network: _Text,
        campaign: _Text,
        campaign_id: _Text,
        utm_source: _Text,
        utm_medium: _Text,
        utm_campaign: _Text,
        utm_id: _Text,
        id_name: _Text,
        host: _Text,
        ad: bool,
        kind: _Text,
    ) -> Source:
        name = self._campaign(campaign, utm_campaign, campaign_id, utm_id)
        given = _name(clean(channel))
        source, medium = _source(network)
        if not source:
            source, medium = _source(utm_source)
        medium = _medium(utm_medium) or medium
        if id_name is not None:
            source = source or CLICK_IDS[id_name].network
            medium = medium or CLICK_IDS[id_name].medium
        referred = not source and host is not None and given != DIRECT
        if referred:
            source, _ = _source(host)
        if not medium and kind == "email_open":
            medium = "email"
        where = _network(source) if source else NONE
        if not given:
            given = _channel(source, medium, "" if name == NONE else name.lower(), referred and bool(source), ad)
            if given == DIRECT and (ad or kind in _SHOWN):
                given = UNASSIGNED
        return Source(given, where, name, None)

    def _campaign(self, campaign: _Text, utm_campaign: _Text, campaign_id: _Text, utm_id: _Text) -> str:
        """An alias of the id, else of the name, else the name itself, else the id itself."""
        name = _name(clean(campaign)) or _name(clean(utm_campaign))
        identity = _name(clean(campaign_id)) or _name(clean(utm_id))
        for known in (identity, name):
            alias = self._aliases.get(known.casefold())
            if known and alias is not None:
                return alias
        return name or identity or NONE


def _channel(source: str, medium: str, campaign: str, referred: bool, ad: bool) -> str:
    """The channel by GA4's rules, read for a paid click when `ad` and no medium says otherwise."""
    known = bool(source)
    if not source and campaign:
        source = "(not set)"  # as GA4 has it: a campaign without a source is not Direct
    channel = _group(source, medium, campaign)
    if medium:
        return channel
    if referred and channel == UNASSIGNED:
        channel = "Referral"
    return PAID.get(channel, channel) if ad and (known or channel != UNASSIGNED) else channel


def hosts(configured: tuple[str, ...]) -> frozenset[str]:
    """Hosts as referrers name them: lower case, without `www.` or `*.`, international names in both spellings."""
    found = set()
    for domain in configured:
        text = domain.strip().removeprefix("*").removeprefix(".")
        host = host_of(text if "//" in text else f"//{text}")
        found.add(host)
        if not host.isascii():
            try:
                found.add(host.encode("idna").decode("ascii"))
            except UnicodeError:
                continue
    return frozenset(found - {""})


def hosts_under(url: str, known: frozenset[str]) -> bool:
    """Whether the host of a URL is one of these or below one of them."""
    rest = host_of(url)
    while rest:
        if rest in known:
            return True
        rest = rest.partition(".")[2]
    return False


def _resolved(aliases: dict[str, str]) -> dict[str, str]:
    """Case-folded name or id to the final name, `(none)` where the alias says so; chains are followed to their end."""
    table = {clean(name).casefold(): _name(clean(target)) for name, target in aliases.items() if clean(name)}
    final: dict[str, str] = {}
    for name, first in table.items():
        target, seen = first, {name}
        while (step := target.casefold()) in table and step not in seen:
            seen.add(step)
            target = table[step]
        if target.casefold() in seen and table[target.casefold()].casefold() != target.casefold():
            raise ConfigError(
                f"campaign_aliases: {name!r} leads back to {target!r}; let each name lead to its final name"
            )
        final[name] = target or NONE
    return final
