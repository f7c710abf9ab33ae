"""A conversion in the words of the outside: what `attributions` carries and `replay` writes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from msgspec import structs

from attribution.facts import ATTRIBUTED_NET, CONVERSIONS
from attribution.filing import shares
from attribution.money import major
from attribution.nodes.state import Conversion
from models.results import FORGOTTEN, Attribution, Credit, Status

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def moment(t: int) -> str:
    """RFC 3339 in UTC, with microseconds only where there are some."""
    return (_EPOCH + timedelta(microseconds=t)).isoformat().replace("+00:00", "Z")


def describe(
    person: str,
    conversion: Conversion,
    currency: str,
    version: tuple[int, int, int] | None = None,
    *,
    truncated: bool = False,
) -> Attribution:
    """The attribution of one conversion as it stands at its person; `truncated` as `attribution.eligible` says."""
    filed = conversion.filed
    status: Status
    reason: str | None
    if conversion.gone is not None:
        status, reason = "withdrawn", conversion.gone
    elif filed is None or filed.reason is not None:
        status, reason = "unattributed", filed.reason if filed else None
    else:
        status, reason = "restated" if conversion.restated else "attributed", None
    credited = conversion.gone is None and filed is not None and filed.touches
    return Attribution(
        conversion_id=conversion.id,
        order_id=conversion.id[2:] if conversion.type == "purchase" else None,
        conversion=conversion.type,
        occurred_at=moment(conversion.t),
        person=person,
        status=status,
        reason=reason,
        revenue_gross=major(conversion.gross),
        revenue_net=major(0 if conversion.gone is not None else conversion.net),
        currency=currency,
        credits=_credits(conversion) if credited else {},
        truncated=truncated,
        config=filed.config if filed else 0,
        version=version,
    )


def nameless(attribution: Attribution, name: str) -> Attribution:
    """The same money, of nobody: what is left on record of a forgotten person's conversion. `name` must not be found from any id."""
    return structs.replace(
        attribution,
        conversion_id=name,
        order_id=None,
        person=FORGOTTEN,
        credits={
            model: [structs.replace(credit, touch_id="") for credit in credits]
            for model, credits in attribution.credits.items()
        },
    )


def _credits(conversion: Conversion) -> dict[str, list[Credit]]:
    filed = conversion.filed
    assert filed is not None
    result = {}
    for model, weights in filed.weights:
        parts = dict(shares(conversion, weights))
        result[model] = [
            Credit(
                touch_id=touch.touch_id,
                channel=touch.dims[0],
                network=touch.dims[1],
                campaign=touch.dims[2],
                conversions=major(units),
                revenue=major(revenue),
            )
            for touch, units, revenue in zip(filed.touches, parts[CONVERSIONS], parts[ATTRIBUTED_NET], strict=True)
            if units or revenue
        ]
    return result
