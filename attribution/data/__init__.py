"""The tables that `attribution.channels` and `attribution.filters` read, from the TOML files beside this module.

They are read once, at import, and never change: what is answered depends on nothing else but the
arguments. The files say where their facts come from.
"""

from __future__ import annotations

import re
import tomllib
from importlib.resources import files
from typing import Any, NamedTuple


class Known(NamedTuple):
    """What a source is known as. `category` is search, shopping, video, social, or "" for none of them."""

    network: str
    category: str


class Rule(NamedTuple):
    """A conjunction: a pattern that is None, and a category that is "", hold for everything."""

    channel: str
    category: str
    source: re.Pattern[str] | None
    medium: re.Pattern[str] | None
    campaign: re.Pattern[str] | None


class ClickId(NamedTuple):
    """The network a click id comes from; `medium` is "" when organic links carry the id as well."""

    network: str
    medium: str


class Sources(NamedTuple):
    """The parsed sources.toml. `exact`: names and whole hosts. `under`: domains with all their subdomains.

    `anywhere` and `anywhere_under` are the same for the domains that end in any country's suffix, by the
    label before it. `own` holds the entries that the list of Google Analytics does not have.
    """

    exact: dict[str, Known]
    under: dict[str, Known]
    anywhere: dict[str, Known]
    anywhere_under: dict[str, Known]
    own: frozenset[str]


class Agents(NamedTuple):
    """The parsed bots.toml, all in lower case; "^" and "$" tie a text to the beginning and the end of a user agent."""

    people: tuple[str, ...]
    anywhere: tuple[str, ...]
    named: tuple[str, ...]
    exact: frozenset[str]


def _read(name: str) -> dict[str, Any]:
    return tomllib.loads(files(__name__).joinpath(name).read_text("utf-8"))


def _sources(raw: dict[str, dict[str, list[str]]]) -> Sources:
    exact: dict[str, Known] = {}
    under: dict[str, Known] = {}
    anywhere: dict[str, Known] = {}
    anywhere_under: dict[str, Known] = {}
    own: set[str] = set()
    for table, networks in raw.items():
        category = "" if table == "other" else table
        for network, tokens in networks.items():
            for token in tokens:
                text = token.removeprefix("+")
                host = text.removeprefix("=")
                if text != token or not category:
                    own.add(host)
                if host.endswith(".*"):
                    target, host = (anywhere if host != text else anywhere_under), host[:-2]
                else:
                    target = exact if host != text or "." not in host else under
                if target.setdefault(host, Known(network, category)) != Known(network, category):
                    raise ValueError(f"sources.toml: {token!r} stands under two networks or categories")
    # A network's own name means it too, so that what the classifier answers is understood when it comes back.
    for table, networks in raw.items():
        for network in networks:
            if network not in exact and network not in under:
                exact[network] = Known(network, "" if table == "other" else table)
                own.add(network)
    return Sources(exact, under, anywhere, anywhere_under, frozenset(own))


def _rules(raw: dict[str, Any]) -> tuple[Rule, ...]:
    media: dict[str, str] = raw["media"]

    def pattern(row: dict[str, str], field: str) -> re.Pattern[str] | None:
        text = row.get(field)
        return None if text is None else re.compile(media.get(text, text))

    return tuple(
        Rule(
            row["channel"],
            row.get("category", ""),
            pattern(row, "source"),
            pattern(row, "medium"),
            pattern(row, "campaign"),
        )
        for row in raw["rule"]
    )


_CHANNELS = _read("channels.toml")
SOURCES = _sources(_read("sources.toml"))
RULES = _rules(_CHANNELS)
PAID: dict[str, str] = _CHANNELS["paid"]
CLICK_IDS = {name: ClickId(row["network"], row.get("medium", "")) for name, row in _CHANNELS["click_ids"].items()}

_BOTS = _read("bots.toml")
BOTS = Agents(tuple(_BOTS["people"]), tuple(_BOTS["anywhere"]), tuple(_BOTS["named"]), frozenset(_BOTS["exact"]))

_COUNTRY = re.compile(r"([^.]+)\.(?:com|(?:com?\.)?[a-z]{2})")


def find(source: str) -> Known | None:
    """What a lower-cased source name or host (without www.) is known as; the most specific entry wins."""
    known = SOURCES.exact.get(source)
    if known is not None or "." not in source:
        return known
    match = _COUNTRY.fullmatch(source)
    if match and (known := SOURCES.anywhere.get(match[1])):
        return known
    rest = source
    while rest:
        if known := SOURCES.under.get(rest):
            return known
        match = _COUNTRY.fullmatch(rest)
        if match and (known := SOURCES.anywhere_under.get(match[1])):
            return known
        rest = rest.partition(".")[2]
    return None
