"""Filters: what is no person's doing, or is not to be credited, by name (meaning §3).

`bots`, `internal` and `no_consent` are seen on the event itself, at ingest, and become its flags. `duplicate_clicks` and `fast_conversions`
are functions of the sorted journey, so that the order of arrival doesn't matter. What is removed stays in the journey.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from attribution.channels import hosts, hosts_under
from attribution.data import BOTS
from attribution.facts import CLICKS, FILTERED_CLICKS, Fact
from attribution.nodes.state import JourneyEvent
from models.events import Acquisition, Event
from models.settings import Marketing
from models.wire import BOT, CLICK, INTERNAL, NO_CONSENT

BOTS_NAME, INTERNAL_NAME, CONSENT_NAME = "bots", "internal", "no_consent"
DUPLICATE, FAST = "duplicate_clicks", "fast_conversions"
NAMES = (BOTS_NAME, INTERNAL_NAME, CONSENT_NAME, DUPLICATE, FAST)
"""All filters, by the names that settings, metrics and reports use."""

_FLAGS = ((NO_CONSENT, CONSENT_NAME), (BOT, BOTS_NAME), (INTERNAL, INTERNAL_NAME))
_CACHE_ENTRIES = 20_000
_AGENT_CHARS = 512


def names(flags: int) -> list[str]:
    """The filters that removed an event with these flags."""
    return [name for flag, name in _FLAGS if flags & flag]


class Bots:
    """Tells user agents of programs by the texts in data/bots.toml and those of the configuration.

    Trackers see few user agents many times, so answers are kept; hostile events make every one unique, so not more than a bound.
    """

    def __init__(self, further: Iterable[str] = ()) -> None:
        texts = [text.lower() for text in (*BOTS.anywhere, *BOTS.named, *further) if text.strip("^$ ")]
        self._starts = tuple(text[1:] for text in texts if text.startswith("^"))
        self._ends = tuple(text[:-1] for text in texts if text.endswith("$") and not text.startswith("^"))
        self._inside = tuple(text for text in texts if not text.startswith("^") and not text.endswith("$"))
        self._cache: dict[str, bool] = {}

    def match(self, agent: str) -> bool:
        """Whether a program says this of itself. Only the first 512 characters are looked at."""
        agent = agent[:_AGENT_CHARS]
        found = self._cache.get(agent)
        if found is None:
            if len(self._cache) >= _CACHE_ENTRIES:
                self._cache.clear()
            found = self._cache[agent] = self._match(agent.lower())
        return found

    def _match(self, agent: str) -> bool:
        if agent in BOTS.exact:
            return True
        for name in BOTS.people:
            agent = agent.replace(name, "")
        if agent.startswith(self._starts) or agent.endswith(self._ends):
            return True
        return any(text in agent for text in self._inside)


class _Internal(NamedTuple):
    types: frozenset[str]
    ids: frozenset[str]
    hosts: frozenset[str]
    agents: tuple[str, ...]


class Filters:
    """The filters that look at one event, under one configuration."""

    def __init__(self, marketing: Marketing) -> None:
        given = marketing.filters
        self._consent = given.no_consent
        self._bots = Bots(given.bot_user_agents) if given.bots else None
        self._internal: _Internal | None = None
        if given.internal:
            self._internal = _Internal(
                frozenset(_folded(given.internal_traffic_types)),
                frozenset(_folded(given.internal_ids)),
                hosts(given.internal_hosts),
                tuple(_folded(given.internal_user_agents)),
            )

    def flags(self, event: Event) -> int:
        """Why an event is removed; 0 when it is not."""
        flags = NO_CONSENT if self._consent and not event.consent else 0
        agent = event.user_agent if isinstance(event, Acquisition) else None
        if agent is not None and self._bots is not None and self._bots.match(agent):
            flags |= BOT
        if self._internal is not None and _is_internal(event, agent, self._internal):
            flags |= INTERNAL
        return flags


def _is_internal(event: Event, agent: str | None, internal: _Internal) -> bool:
    if internal.ids:
        for known in (event.customer_id, event.anonymous_id):
            if known is not None and known.strip().casefold() in internal.ids:
                return True
    if not isinstance(event, Acquisition):
        return False
    if event.traffic_type is not None and event.traffic_type.strip().casefold() in internal.types:
        return True
    if internal.hosts and event.page_url and hosts_under(event.page_url, internal.hosts):
        return True
    return bool(agent is not None and internal.agents and any(text in agent.casefold() for text in internal.agents))


def _folded(texts: Iterable[str]) -> list[str]:
    return [text.strip().casefold() for text in texts if text.strip()]


def duplicate_clicks(events: Sequence[JourneyEvent], gap: int) -> list[JourneyEvent]:
    """Clicks within `gap` microseconds after another click of the same channel, network and campaign.

    `events` are sorted; flagged ones take no part. Each goes by the click before it, itself a duplicate or not, so an event
    that comes late changes the one after it and no other.
    """
    if gap <= 0:
        return []
    found = []
    last: dict[tuple[str, str, str], int] = {}
    for event in events:
        if event[2] == CLICK and not event[6]:
            before = last.get(event[4])
            if before is not None and event[0] - before <= gap:
                found.append(event)
            last[event[4]] = event[0]
    return found


def duplicate_facts(
    before: Sequence[JourneyEvent], after: Sequence[JourneyEvent], earliest: int, gap: int
) -> list[Fact]:
    """What changes in the count of clicks when a journey that differs from `earliest` on becomes `after`."""
    if gap <= 0:
        return []
    old, new = _since(before, earliest - gap), _since(after, earliest - gap)
    if len(old) < 2 and len(new) < 2:
        return []
    was, now = duplicate_clicks(old, gap), duplicate_clicks(new, gap)
    if was == now:
        return []
    facts: list[Fact] = []
    for sign, events, others in ((-1, was, now), (1, now, was)):
        for event in events:
            if event not in others:
                facts += [(event.t, event.dims, CLICKS, -sign), (event.t, event.dims, FILTERED_CLICKS, sign)]
    return facts


def _since(events: Sequence[JourneyEvent], t: int) -> Sequence[JourneyEvent]:
    """The events from `t` on, looked for from the end."""
    i = len(events)
    while i and events[i - 1][0] >= t:
        i -= 1
    return events[i:]
