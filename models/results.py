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
    """One conversion of one person. `version` is (generation, offset, entry): readers keep the highest."""

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
    config: int = 0
    version: tuple[int, int, int] | None = None
