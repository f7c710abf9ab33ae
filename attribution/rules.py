"""A configuration compiled for the fold: everything the nodes ask of it, in microseconds and tuples."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from zoneinfo import ZoneInfo

from attribution.credit import ROLE_MODELS
from models.settings import DAY, Marketing, micros
from models.wire import CLASS_NAMES, kind_and_sentiment

LANDING_BY_ID = DAY
LANDING_BY_SOURCE = 5 * 60 * 1_000_000
SESSION_GAP = 30 * 60 * 1_000_000
VISITORS_KEPT = 32 * DAY
"""How long it is known where a person counts as a visitor: more than the longest window with its granule."""
_CACHE_LIMIT = 50_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Dims = tuple[str, str, str]


@lru_cache(maxsize=20_000)
def dims_of(channel: str, network: str, campaign: str) -> Dims:
    """The dims of these names: the same object as the last time, mostly, since journeys hold them by the hundred thousand."""
    return channel, network, campaign


def has_roles(marketing: Marketing) -> bool:
    """Whether a model gives stages a role, so that journeys must know of them."""
    return any(model in ROLE_MODELS for model in marketing.models)


def _new_from(marketing: Marketing) -> int | None:
    """From when on an order without one before it is a new customer's: a year after history begins; None: nobody knows."""
    if marketing.history_since is None:
        return None
    day = datetime.fromisoformat(marketing.history_since).replace(tzinfo=ZoneInfo(marketing.time_zone))
    return (day - _EPOCH) // timedelta(microseconds=1) + 365 * DAY


class Rules:
    """One numbered configuration. Immutable but for a bounded cache of window look-ups."""

    def __init__(self, marketing: Marketing, number: int = 0) -> None:
        lookback = marketing.lookback
        self.number = number
        # The first headline model first: how old its credit is when it comes is kept (`attribution.maturity`).
        first = marketing.headline_models[0]
        self.models: tuple[str, ...] = (first, *(model for model in marketing.models if model != first))
        self.half_life = micros(marketing.half_life)
        self.stages = (marketing.lead_stage, marketing.opportunity_stage) if has_roles(marketing) else None
        self.lateness = micros(marketing.lateness)
        self.new_from = _new_from(marketing)
        self.views_always = marketing.views == "always"
        self.exclude_direct = marketing.exclude_direct
        self.since_previous = marketing.path == "since_previous"
        self.journey_max = marketing.journey_max
        self.device_customers = marketing.device_customers
        self.duplicate_clicks = micros(marketing.filters.duplicate_clicks)
        self.fast_conversions = micros(marketing.filters.fast_conversions)
        self.margin_rate = Decimal(marketing.margin_rate) if marketing.margin_rate is not None else None
        self.conversions = frozenset(marketing.conversions)
        self._defaults = {
            "click": micros(lookback.click),
            "view": micros(lookback.view),
            "engagement": micros(lookback.engagement),
            "direct": micros(lookback.direct),
        }
        self._rules = tuple(
            (
                (rule.touch_class, rule.kind, rule.channel, rule.network, rule.campaign, rule.conversion),
                micros(rule.window),
            )
            for rule in lookback.rules
        )
        self.longest = max([*self._defaults.values(), *(window for _, window in self._rules)])
        # How long before a conversion an event may be that decides what is a touch of it: a click lands up to a day later, and visits go on.
        self.reach = self.longest + DAY
        # Below a day, a journey could forget the start of a visit chain that is still growing.
        self.claim = max(micros(marketing.claim_history), DAY) if marketing.claim_history else max(self.longest, DAY)
        # How long before a conversion a touch still counts as known, and how long a journey keeps it so.
        self.known = self.longest + self.claim
        # Also how long it must be known where a person counts as a visitor, with landings and chains that begin before.
        self.keep = max(self.known + self.lateness, VISITORS_KEPT + 2 * DAY)
        self._windows: dict[tuple[int, str, str, str, str, str], int] = {}

    def window(self, cls: int, kind: str, dims: Dims, conversion: str) -> int:
        """The lookback window, in microseconds, of a touch of this class and kind for a conversion type."""
        key = (cls, kind, *dims, conversion)
        found = self._windows.get(key)
        if found is None:
            if len(self._windows) >= _CACHE_LIMIT:
                self._windows.clear()
            found = self._windows[key] = self._resolve(key)
        return found

    def _resolve(self, key: tuple[int, str, str, str, str, str]) -> int:
        actual = (CLASS_NAMES[key[0]], kind_and_sentiment(key[1])[0], *key[2:])
        best, window = 0, self._defaults[actual[0]]
        for wanted, candidate in self._rules:
            given = sum(want is not None for want in wanted)
            if given >= best and all(want is None or want == have for want, have in zip(wanted, actual, strict=True)):
                best, window = given, candidate
        return window
