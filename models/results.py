"""What Parcours says: attributions, as published on `attributions` and written by `replay`.

Amounts are decimal strings in major units of the reporting currency; `conversions` too (its whole is "1").
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

Status = Literal["attributed", "restated", "unattributed", "withdrawn"]
UNATTRIBUTED = "(unattributed)"
NONE = "(none)"
OTHER = "(other)"
UNALLOCATED = "(unallocated)"
FORGOTTEN = "(forgotten)"
"""In the place of a person that was forgotten."""
REASONS = ("no_touch_known", "outside_window", "filtered", "no_consent", "touches_trimmed")


class Credit(Struct, frozen=True, kw_only=True):
    """One touch's share of one conversion under one model."""

    touch_id: str
    channel: str
    network: str
    campaign: str
    conversions: str
    revenue: str


class Attribution(Struct, frozen=True, kw_only=True, omit_defaults=False):
    """One conversion of one person. `version` is (generation, offset, entry): readers keep the highest.

    `truncated`: a bound of the person was reached. Touches that the longest lookback window (or the day before it) reaches are gone, from the
    journey or from a device of the person; or the conversion is closed and changes no more. What was credited before stays credited; what comes
    since finds the latest touches only.
    """

    conversion_id: str
    order_id: str | None
    conversion: str
    occurred_at: str
    person: str
    status: Status
    reason: str | None
    revenue_gross: str
    revenue_net: str
    currency: str
    credits: dict[str, list[Credit]]
    truncated: bool = False
    config: int = 0
    version: tuple[int, int, int] | None = None


class Links(Struct, frozen=True, kw_only=True):
    """Where to look. `dashboard` has its variables set to the alert's scope; null when no dashboard's address is configured."""

    dashboard: str | None
    runbook: str


class Alert(Struct, frozen=True, kw_only=True):
    """An alert that fired or resolved, as published on `alerts` under the key `id`. Sent again, it is the same byte for byte.

    `id` is that of one firing: it names the rule, the scope and `fired_at`. Of the scope, what the rule's level does not have is null. Of
    a cost per conversion, `bound` is the value that the true one is above with 95 % confidence. `lag`: records not yet read.
    """

    id: str
    rule: str
    status: Literal["firing", "resolved"]
    reason: Literal["threshold", "cleared", "spend_ended", "no_data", "rule_removed", "test"]
    severity: str
    team: str
    metric: str
    channel: str | None
    network: str | None
    campaign: str | None
    window: str
    model: str
    conversion: str
    basis: str
    value: str | None
    threshold: str
    clear: str
    bound: str | None
    conversions: str | None
    spend: str | None
    currency: str
    maturity: str | None
    cost_through: str | None
    lag: int | None
    fired_at: str
    resolved_at: str | None
    links: Links
    config: str
    test: bool = False


SCHEMAS: dict[str, type[Struct]] = {"alerts": Alert, "attributions": Attribution}
"""What is published for others to act on, by topic; docs/schemas has the JSON Schema of each."""
