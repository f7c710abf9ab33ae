"""Configuration: infrastructure from the environment, marketing rules from one TOML file.

`Infrastructure` reads `PARCOURS_…` variables. `Marketing` is the TOML file; `load_marketing` refuses
unknown keys and wrong values with an error that names the key.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from datetime import date
from decimal import Decimal
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from msgspec import Meta, Struct, field
from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from models.errors import ConfigError

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
_UNITS = {"s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY, "w": 7 * DAY}
_DURATION = re.compile(r"^\s*(\d{1,6})\s*([smhdw])\s*$")

Duration = Annotated[str, Meta(pattern=_DURATION.pattern)]
Class = Literal["click", "view", "engagement", "direct"]
RULE_MODELS = (
    "first_touch",
    "last_touch",
    "last_non_direct",
    "first_and_last",
    "linear",
    "time_decay",
    "position_based",
    "w_shaped",
    "full_path",
)
DEFAULT_MODELS = RULE_MODELS[:7]
"""Those with roles for stages are for who sends stages."""
Model = Literal[
    "first_touch",
    "last_touch",
    "last_non_direct",
    "first_and_last",
    "linear",
    "time_decay",
    "position_based",
    "w_shaped",
    "full_path",
]


def micros(duration: str) -> int:
    """'30d', '12h', '5m', '90s' or '2w' in microseconds."""
    match = _DURATION.match(duration)
    if not match:
        raise ConfigError(f"{duration!r} is not a duration; write a number and one of s m h d w, as in '30d'")
    return int(match[1]) * _UNITS[match[2]]


class _Table(Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    pass


class LookbackRule(_Table, frozen=True):
    """A window for what matches every field given. The rule with most fields wins; later wins a tie."""

    window: Duration
    touch_class: Class | None = field(default=None, name="class")
    kind: str | None = None
    channel: str | None = None
    network: str | None = None
    campaign: str | None = None
    conversion: str | None = None


class Lookback(_Table, frozen=True):
    click: Duration = "30d"
    view: Duration = "1d"
    engagement: Duration = "7d"
    direct: Duration = "30d"
    rules: tuple[LookbackRule, ...] = ()


class Topics(_Table, frozen=True):
    """Partition counts. They are part of the meaning of stored state: changing them needs a rebuild."""

    clicks: Annotated[int, Meta(ge=1, le=512)] = 4
    touchpoints: Annotated[int, Meta(ge=1, le=512)] = 4
    purchases: Annotated[int, Meta(ge=1, le=512)] = 2
    costs: Annotated[int, Meta(ge=1, le=512)] = 1
    journey_events: Annotated[int, Meta(ge=1, le=512)] = field(default=4, name="journey-events")


class Conversion(_Table, frozen=True):
    """A stage that counts as a conversion of its own. `value` (reporting currency) when the event has none."""

    value: Annotated[float, Meta(ge=0)] | str | None = None


class Rate(_Table, frozen=True):
    """1 unit of `currency` is `rate` units of the reporting currency from `date` on (ISO date), for at most `days` when given."""

    currency: Annotated[str, Meta(pattern="^[A-Z]{3}$")]
    rate: str
    date: str = "1970-01-01"
    days: Annotated[int, Meta(ge=1, le=10_000)] | None = None


Name = Annotated[str, Meta(pattern="^[a-z0-9][a-z0-9_-]{0,62}$")]


class Scope(_Table, frozen=True):
    """Names, or patterns of names such as `brand_*`. The last one given says the level: campaign, channel (or network), total."""

    channel: str | None = None
    network: str | None = None
    campaign: str | None = None


class AlertRule(Scope, kw_only=True, frozen=True):
    """When to alert (see docs/alerts.md). `metric` is a family without `parcours_<level>_`; `clear` defaults to `threshold`.

    `minimum`: least amounts of other metrics of the same scope and window, for an alert to fire. `dispersion`: how much wider than
    by Poisson the bound of a cost per conversion is.
    """

    name: Name
    metric: str
    threshold: Decimal
    clear: Decimal | None = None
    direction: Literal["above", "below"] = "above"
    window: str = "7d"
    model: Model | None = None
    conversion: str = "purchase"
    basis: Literal["conversion", "touch"] = "conversion"
    for_: Duration = field(default="0s", name="for")
    severity: Literal["info", "warning", "critical"] = "warning"
    team: Annotated[str, Meta(max_length=63)] = ""
    dispersion: Decimal = Decimal(1)
    minimum: dict[str, Decimal] = {}
    runbook: str | None = None


class Goal(Scope, kw_only=True, frozen=True):
    """What is to be reached from `start` to `deadline`, both days included. A ratio goes from its baseline to its target.

    `baseline` absent: measured over the `window` before `start`, then frozen.
    """

    name: Name
    metric: str
    target: Decimal
    start: date
    deadline: date
    direction: Literal["up", "down"] = "up"
    baseline: Decimal | None = None
    window: Duration = "30d"
    model: Model | None = None
    conversion: str = "purchase"


class Benchmark(_Table, frozen=True):
    """A given figure to compare with: a competitor's, an industry's."""

    name: Name
    metric: str
    value: Decimal
    network: str | None = None


class Silence(_Table, frozen=True):
    """After how long without news of a topic alerts on cost per conversion are unknown: they neither fire nor resolve."""

    clicks: Duration = "1d"
    touchpoints: Duration = "1d"
    purchases: Duration = "1d"
    costs: Duration = "2d"


ENGAGEMENT_POINTS = {
    "mention": 5,
    "comment": 4,
    "reply": 4,
    "share": 3,
    "retweet": 3,
    "repost": 3,
    "save": 2,
    "follow": 2,
    "like": 1,
    "favourite": 1,
    "unlike": -1,
    "unfollow": -3,
    "unsubscribe": -3,
    "hide": -3,
    "block": -5,
    "report": -5,
}


class Filters(_Table, frozen=True):
    """What is left out before credit is shared; a duration of "0s" switches its filter off."""

    no_consent: bool = True
    bots: bool = True
    bot_user_agents: tuple[str, ...] = ()
    internal: bool = True
    internal_traffic_types: tuple[str, ...] = ("internal", "developer")
    internal_ids: tuple[str, ...] = ()
    internal_hosts: tuple[str, ...] = ()
    internal_user_agents: tuple[str, ...] = ()
    duplicate_clicks: Duration = "10s"
    fast_conversions: Duration = "0s"


class Share(_Table, frozen=True):
    """A fixed part of what is spread; parts of all, in any unit."""

    channel: str
    share: Annotated[int, Meta(ge=1, le=1_000_000)]
    network: str = "(none)"
    campaign: str = "(none)"


class Spread(_Table, frozen=True):
    """How costs that name no channel, network or campaign are spread, day by day."""

    by: Literal["spend", "touches", "shares", "none"] = "spend"
    shares: tuple[Share, ...] = ()


class Privacy(_Table, frozen=True):
    """What is stored of persons."""

    without_consent: Literal["keep_ids", "drop_ids"] = "keep_ids"
    ids: Literal["as_sent", "hashed"] = "as_sent"


REBUILD_KEYS = ("topics", "time_zone", "reporting_currency", "junk_ids", "privacy.ids")
WATCH_KEYS = ("goals", "benchmarks", "alerts", "silence")
"""What is looked at and not computed from: no part of the fold's configuration, so a change gives no new number."""


class Marketing(_Table, frozen=True):
    """The TOML file. Everything has a default but what depends on the business."""

    revision: int = 1
    reporting_currency: Annotated[str, Meta(pattern="^[A-Z]{3}$")] = "EUR"
    time_zone: str = "UTC"
    clock: Literal["wall", "event"] = "wall"
    models: tuple[Model, ...] = DEFAULT_MODELS  # type: ignore[assignment]
    headline_models: tuple[Model, ...] = ("last_non_direct", "position_based")
    lookback: Lookback = Lookback()
    views: Literal["when_no_click", "always"] = "when_no_click"
    exclude_direct: Literal["never", "when_others", "always"] = "never"
    path: Literal["full", "since_previous"] = "full"
    half_life: Duration = "7d"
    history_since: str | None = None
    lead_stage: str = "lead"
    opportunity_stage: str = "opportunity"
    lateness: Duration = "7d"
    claim_history: Duration | None = None
    journey_max: Annotated[int, Meta(ge=2, le=2_000)] = 500
    device_customers: Annotated[int, Meta(ge=1, le=100)] = 10
    margin_rate: Annotated[str, Meta(pattern=r"^(0(\.\d{1,6})?|1(\.0{1,6})?)$")] | None = None
    conversions: dict[str, Conversion] = {}
    lead_conversion: str = "lead"
    engagement_points: dict[str, Annotated[int, Meta(ge=-1_000, le=1_000)]] = field(
        default_factory=ENGAGEMENT_POINTS.copy
    )
    own_domains: tuple[str, ...] = ()
    payment_domains: tuple[str, ...] = ()
    junk_ids: tuple[str, ...] = (
        "",
        "0",
        "-1",
        "null",
        "none",
        "nil",
        "undefined",
        "nan",
        "guest",
        "anonymous",
        "unknown",
        "(not set)",
        "00000000-0000-0000-0000-000000000000",
    )
    filters: Filters = Filters()
    privacy: Privacy = Privacy()
    campaign_aliases: dict[str, str] = {}
    spread: Spread = Spread()
    rates: tuple[Rate, ...] = ()
    rates_file: str | None = None
    ecb_rates_since: Annotated[str, Meta(pattern=r"^(199\d|20\d\d)-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])$")] | None = (
        None
    )
    topics: Topics = Topics()
    goals: tuple[Goal, ...] = ()
    benchmarks: tuple[Benchmark, ...] = ()
    alerts: tuple[AlertRule, ...] = ()
    silence: Silence = Silence()

    def text(self) -> str:
        """Canonical JSON of what the fold depends on: two files with the same text mean the same. `WATCH_KEYS` are left out."""
        fields = {name: getattr(self, name) for name in self.__struct_fields__ if name not in WATCH_KEYS}
        return msgspec.json.encode(fields, order="sorted").decode()

    def digest(self) -> str:
        """A short hash of `text()`, shown in `parcours_config_info` and in reports."""
        return hashlib.sha256(self.text().encode()).hexdigest()[:12]

    def needs_rebuild(self, other: Marketing) -> list[str]:
        """Keys that differ and decide what stored state means: where nodes live, under which ids, what a day and an amount are."""
        return [name for name in REBUILD_KEYS if attrgetter(name)(self) != attrgetter(name)(other)]

    @classmethod
    def from_text(cls, text: str) -> Marketing:
        """The inverse of `text()`."""
        return msgspec.json.decode(text, type=cls)


def load_marketing(path: str | Path | None) -> Marketing:
    """Read and check the TOML file; None gives the defaults. Raises ConfigError naming the key."""
    if path is None:
        return Marketing()
    file = Path(path)
    try:
        raw: dict[str, Any] = tomllib.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{file}: no such file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: not valid TOML: {error}") from None
    try:
        marketing = msgspec.convert(raw, Marketing)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{file}: {_named(str(error))}") from None
    _check(marketing, file)
    return marketing


def _named(message: str) -> str:
    text, _, path = message.partition(" - at `$.")
    return f"{path.rstrip('`')}: {text}" if path else text


def _check(marketing: Marketing, file: Path) -> None:
    try:
        ZoneInfo(marketing.time_zone)
    except (ZoneInfoNotFoundError, ValueError):
        raise ConfigError(
            f"{file}: time_zone: {marketing.time_zone!r} is not an IANA zone such as 'Europe/Paris'"
        ) from None
    if marketing.history_since is not None:
        try:
            known = date.fromisoformat(marketing.history_since)
        except ValueError:
            known = None
        if known is None or known.isoformat() != marketing.history_since:
            raise ConfigError(f"{file}: history_since: {marketing.history_since!r} is not a date such as '2025-01-31'")
    if not marketing.models:
        raise ConfigError(f"{file}: models: name at least one of {', '.join(RULE_MODELS)}")
    for name in marketing.headline_models:
        if name not in marketing.models:
            raise ConfigError(f"{file}: headline_models: {name!r} is not among models")
    if not marketing.headline_models:
        raise ConfigError(f"{file}: headline_models: name at least one model")
    for i, rate in enumerate(marketing.rates):
        if not re.fullmatch(r"\d{1,9}(\.\d{1,12})?", rate.rate) or float(rate.rate) == 0:
            raise ConfigError(f"{file}: rates[{i}].rate: {rate.rate!r} is not a positive decimal such as '1.0834'")
        if not re.fullmatch(r"\d{4}-\d\d-\d\d", rate.date):
            raise ConfigError(f"{file}: rates[{i}].date: {rate.date!r} is not a date such as '2026-01-31'")
    for key in ("goals", "benchmarks", "alerts"):
        names = [item.name for item in getattr(marketing, key)]
        for i, name in enumerate(names):
            if key != "benchmarks" and name in names[:i]:
                raise ConfigError(f"{file}: {key}[{i}].name: {name!r} is taken by {key}[{names.index(name)}]")
    if micros(marketing.filters.duplicate_clicks) > HOUR:
        raise ConfigError(f"{file}: filters.duplicate_clicks: {marketing.filters.duplicate_clicks!r} is over an hour")
    if marketing.spread.by == "shares" and not marketing.spread.shares:
        raise ConfigError(f'{file}: spread: by = "shares" needs at least one [[spread.shares]]')
    if "purchase" in marketing.conversions:
        raise ConfigError(f"{file}: conversions.purchase: orders are conversions already; the name is reserved")


class Infrastructure(BaseSettings):
    """Where things are. Each field is the environment variable `PARCOURS_` + its name in capitals."""

    model_config = SettingsConfigDict(env_prefix="PARCOURS_", extra="ignore")

    kafka_url: str = "kafka://127.0.0.1:9092"
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    kafka_sasl_username: str | None = None
    kafka_sasl_password: SecretStr | None = None
    kafka_ca_file: Path | None = None
    kafka_cert_file: Path | None = None
    kafka_key_file: Path | None = None
    # Out of the repr: a URL may hold a password.
    redis_url: str = Field(default="redis://127.0.0.1:6379/0", repr=False)
    redis_cluster: bool = False
    redis_password: SecretStr | None = None
    redis_ca_file: Path | None = None
    redis_cert_file: Path | None = None
    redis_key_file: Path | None = None
    config: Path | None = None
    app_id: str = "parcours"
    # Only for looking into another generation than the current one, which Redis tells (`parcours rebuild`).
    generation: int = 0
    web_host: str = "127.0.0.1"
    web_port: int = 6066
    # Opens the journeys of persons on the live page, which are shut without it.
    web_token: SecretStr | None = Field(default=None, repr=False)
    # Keys the hashes of the forget list (docs/privacy.md): the same for all workers, and for ever.
    forget_key: SecretStr | None = Field(default=None, min_length=16, repr=False)
    data_dir: Path = Path(".parcours")
    session_timeout: float = 12.0
    heartbeat_interval: float = 3.0
    rebalance_timeout: float = 15.0
    idle_after: float = 60.0
    mark_interval: float = 1.0
    refresh_interval: float = 2.0
    max_poll_records: int = 2000
    # Of a backlog. Fewer commits write the same nodes and cells less often; Redis is busy with one for up to 15 µs an entry.
    commit_entries: int = 4000
    # About what nodes and rollup cells may take in a worker's memory, beside some 100 MB for all else.
    cache_mb: int = 40
    # How often the leader looks for changes when there are alerts or goals; see docs/alerts.md.
    alert_interval: float = 0.25
    webhook_url: SecretStr | None = None
    dashboard_url: str | None = None
    runbook_url: str = "docs/alerts.md"
    log_level: str = "INFO"

    @property
    def hash_key(self) -> bytes | None:
        """The secret of `forget_key`, if there is one."""
        return None if self.forget_key is None else self.forget_key.get_secret_value().encode()
