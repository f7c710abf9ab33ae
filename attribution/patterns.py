"""Which channels, networks and campaigns an alert rule or a goal is about: exact names or shell patterns, whatever their case."""

from __future__ import annotations

from fnmatch import fnmatchcase

from attribution.running import Key
from models.settings import Marketing, Scope


def level_of(scope: Scope) -> str:
    """`campaign`, `channel` or `total`: the level of the last name or pattern given."""
    if scope.campaign is not None:
        return "campaign"
    return "total" if scope.channel is None and scope.network is None else "channel"


def matches(scope: Scope, key: Key) -> bool:
    """Whether names match a scope's patterns."""
    wanted = (scope.channel, scope.network, scope.campaign)
    return all(
        pattern is None or fnmatchcase(name.casefold(), pattern.casefold())
        for pattern, name in zip(wanted, key, strict=False)
    )


class Wanted:
    """Which names an alert rule or a goal of the configuration is about; answers are remembered."""

    def __init__(self, marketing: Marketing) -> None:
        self._scopes: dict[str, list[Scope]] = {"channel": [], "campaign": []}
        for scope in (*marketing.alerts, *marketing.goals):
            self._scopes.get(level_of(scope), []).append(scope)
        self._known: dict[Key, bool] = {}

    def __call__(self, key: Key) -> bool:
        """Of (channel, network) or (channel, network, campaign)."""
        found = self._known.get(key)
        if found is None:
            scopes = self._scopes["channel" if len(key) == 2 else "campaign"]
            found = self._known[key] = any(matches(scope, key) for scope in scopes)
        return found
