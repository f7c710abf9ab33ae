"""The events that tracking systems publish, one JSON object per Kafka message.

Each topic has one decoder (`DECODERS`); decoding and validating is one step. Datetimes are
RFC 3339 with an offset, unknown fields are ignored, and a validation error names the JSON path.
Amounts are `Decimal` in major units here and become integer micros at ingest (`attribution.money`).
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

Id = Annotated[str, Meta(min_length=1, max_length=256)]
Name = Annotated[str, Meta(max_length=256)]
Text = Annotated[str, Meta(max_length=4096)]
Moment = Annotated[datetime, Meta(tz=True)]
Currency = Annotated[str, Meta(pattern="^[A-Z]{3}$")]
# A JSON number or a decimal string. Bounds are checked at ingest: 0 to AMOUNT_MAX, wide enough for any order, small enough that
# nine thousand of the largest still sum in 64 bits.
Amount = Decimal
AMOUNT_MAX = 1_000_000_000
Count = Annotated[int, Meta(ge=0, le=1_000_000_000_000)]

TOUCHPOINT_TYPES = (
    "impression",
    "view",
    "engagement",
    "visit",
    "email_open",
    "identify",
    "stage",
    "survey_response",
    "forget",
)
TouchpointType = Literal[
    "impression",
    "view",
    "engagement",
    "visit",
    "email_open",
    "identify",
    "stage",
    "survey_response",
    "forget",
]
CostKind = Literal["media", "agency", "tool", "salary", "other"]


class Event(Struct, kw_only=True, gc=False):
    """What every event about a person carries."""

    event_id: Id
    occurred_at: Moment
    anonymous_id: Name | None = None
    customer_id: Name | None = None
    source: Name | None = None
    consent: bool = True


class Acquisition(Event, kw_only=True, gc=False):
    """An event that may say where the person came from: explicit fields, UTM, click ids, referrer."""

    channel: Name | None = None
    network: Name | None = None
    campaign: Name | None = None
    campaign_id: Name | None = None
    utm_source: Name | None = None
    utm_medium: Name | None = None
    utm_campaign: Name | None = None
    utm_id: Name | None = None
    utm_content: Name | None = None
    utm_term: Name | None = None
    click_id: Name | None = None
    gclid: Name | None = None
    gbraid: Name | None = None
    wbraid: Name | None = None
    dclid: Name | None = None
    fbclid: Name | None = None
    igshid: Name | None = None
    li_fat_id: Name | None = None
    msclkid: Name | None = None
    ttclid: Name | None = None
    twclid: Name | None = None
    epik: Name | None = None
    sccid: Name | None = None
    rdt_cid: Name | None = None
    referrer: Text | None = None
    page_url: Text | None = None
    ad_id: Name | None = None
    user_agent: Text | None = None
    traffic_type: Name | None = None


class Click(Acquisition, kw_only=True, gc=False):
    """A click on an ad or tracked link. `cost` is its own price (CPC), in `currency`."""

    cost: Amount | None = None
    currency: Currency | None = None


class Touchpoint(Acquisition, kw_only=True, gc=False):
    """Any other interaction; `type` says which, and which of the optional fields matter."""

    type: TouchpointType
    kind: Name | None = None
    sentiment: Literal[-1, 0, 1] | None = None
    stage: Name | None = None
    value: Amount | None = None
    currency: Currency | None = None
    question: Literal["source", "nps", "csat"] | None = None
    score: Annotated[float, Meta(ge=0, le=100)] | None = None


class Order(Event, kw_only=True, tag_field="type", tag="order", gc=False):
    """A purchase. `revenue` excludes `tax` and `shipping` when these are given separately."""

    order_id: Id
    revenue: Amount
    currency: Currency
    tax: Amount | None = None
    shipping: Amount | None = None
    margin: Decimal | None = None
    cost_of_goods: Amount | None = None
    is_new_customer: bool | None = None
    updated_at: Moment | None = None


class Refund(Event, kw_only=True, tag_field="type", tag="refund", gc=False):
    """Money given back on an order, in the order's currency. A person is not required."""

    order_id: Id
    amount: Amount
    currency: Currency | None = None


class Cancel(Event, kw_only=True, tag_field="type", tag="cancel", gc=False):
    """The order did not take place."""

    order_id: Id


Purchase = Order | Refund | Cancel


class Cost(Struct, kw_only=True, gc=False):
    """Money (or hours) spent over [start, end), and the network's own counters for it."""

    cost_id: Id
    start: Moment
    end: Moment
    event_id: Id | UnsetType = UNSET
    occurred_at: Moment | UnsetType = UNSET
    source: Name | None = None
    channel: Name | None = None
    network: Name | None = None
    campaign: Name | None = None
    campaign_id: Name | None = None
    amount: Amount | None = None
    currency: Currency | None = None
    hours: Amount | None = None
    hourly_rate: Amount | None = None
    kind: CostKind = "media"
    reported_at: Moment | None = None
    impressions: Count | None = None
    reach: Count | None = None
    clicks: Count | None = None
    video_views: Count | None = None
    engagements: dict[str, Count] | None = None
    followers: Count | None = None
    platform_conversions: Count | None = None
    platform_value: Amount | None = None


TOPICS = ("clicks", "touchpoints", "purchases", "costs")
SCHEMAS: dict[str, type] = {
    "clicks": Click,
    "touchpoints": Touchpoint,
    "purchases": Purchase,  # type: ignore[dict-item]
    "costs": Cost,
}
DECODERS: dict[str, msgspec.json.Decoder[Any]] = {
    topic: msgspec.json.Decoder(schema) for topic, schema in SCHEMAS.items()
}
