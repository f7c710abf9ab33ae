"""Orders and what follows them: refunds, cancels, surveys. The ledger of sales is what the truth is counted from."""

from __future__ import annotations

from datetime import timedelta
from random import Random
from typing import Any, NamedTuple

from streams.simulation.delivery import EPOCH, MINUTE, SECOND, Delivery, Draw, new_event
from streams.simulation.market import USD_SHARE, USD_TO_EUR_MILLIONTHS, Placement
from streams.simulation.persons import HISTORY, Person

# A probability of 1, and the most that touches can bring a purchase to, in millionths.
WHOLE = 1_000_000
_MOST = 900_000


class Sale(NamedTuple):
    """An order as the ledger keeps it; amounts in micros of EUR, times of publication. `without` holds the channels and
    networks (as ("channel", name) or ("network", name)) but for whose touches there would be no order."""

    published: int
    withdrawn: int | None
    gross: int
    refunded: tuple[int, int] | None
    without: frozenset[tuple[str, str]]


class Sales:
    """Makes orders. `ledger` is None where no truth is kept (live)."""

    def __init__(self, delivery: Delivery) -> None:
        self.ledger: list[Sale] | None = []
        self.pace = HISTORY
        self._send = delivery.send
        self._customers: set[str] = set()

    def order(
        self, rng: Random, person: Person, tag: str, device: str, t: int, without: frozenset[tuple[str, str]]
    ) -> None:
        draw, send, order_id = rng.random, self._send, f"o-{tag}"
        cents = max(500, int(rng.lognormvariate(4.25, 0.6) * 100))
        currency = "USD" if draw() < USD_SHARE else "EUR"
        event = new_event(f"{tag}.o", t, device, "shop")
        event |= {
            "type": "order",
            "order_id": order_id,
            "revenue": cents / 100,
            "currency": currency,
            "cost_of_goods": int(cents * (0.45 + 0.15 * draw())) / 100,
            "is_new_customer": not person.existing and person.customer not in self._customers,
        }
        by_pixel = draw() < 0.15
        pixel = {**event, "event_id": f"{tag}.p", "source": "pixel"}
        event["customer_id"] = person.customer
        if draw() < 0.3:
            del event["anonymous_id"]
        published = send(draw, "purchases", person.customer, event, t)
        if by_pixel:
            # The page's pixel reports the same order, knowing the device only.
            published = min(published, send(draw, "purchases", device, pixel, t))
        micros = 10_000 if currency == "EUR" else USD_TO_EUR_MILLIONTHS // 100
        withdrawn, refunded = self._after_sale(draw, tag, t, cents, currency)
        if self.ledger is not None:
            self._customers.add(person.customer)
            part = (refunded[0], refunded[1] * micros) if refunded else None
            self.ledger.append(Sale(published, withdrawn, cents * micros, part, without))
        if draw() < 0.1:
            self._survey(draw, person, tag, t)

    def _after_sale(
        self, draw: Draw, tag: str, t: int, cents: int, currency: str
    ) -> tuple[int | None, tuple[int, int] | None]:
        """Refund in part, or cancel (and half the time pay all back). Returns when it was cancelled, and the refund
        as (published, cents)."""
        fate = draw()
        then = t + self.pace.refund[0] + int(draw() * self.pace.refund[1])
        base: dict[str, Any] = {"source": "shop", "order_id": f"o-{tag}"}
        if fate < 0.06:
            part = int(cents * (0.2 + 0.6 * draw()))
            event = {"event_id": f"{tag}.f", "occurred_at": EPOCH + timedelta(0, 0, then), "type": "refund", **base}
            event |= {"amount": part / 100, "currency": currency}
            return None, (self._send(draw, "purchases", f"o-{tag}", event, then), part)
        if fate < 0.09:
            event = {"event_id": f"{tag}.x", "occurred_at": EPOCH + timedelta(0, 0, then), "type": "cancel", **base}
            withdrawn = self._send(draw, "purchases", f"o-{tag}", event, then)
            if fate < 0.075:
                then = withdrawn + MINUTE
                event = {
                    **event,
                    "event_id": f"{tag}.f",
                    "occurred_at": EPOCH + timedelta(0, 0, then),
                    "type": "refund",
                }
                event |= {"amount": cents / 100, "currency": currency}
                self._send(draw, "purchases", f"o-{tag}", event, then)
            return withdrawn, None
        return None, None

    def _survey(self, draw: Draw, person: Person, tag: str, t: int) -> None:
        then = t + 30 * SECOND
        event = new_event(f"{tag}.q", then, "", "survey")
        event["anonymous_id"] = None
        event |= {"customer_id": person.customer, "type": "survey_response"}
        if draw() < 0.5:
            event |= {"question": "source", "channel": ("Paid Social", "Email", "Organic Search")[int(draw() * 3)]}
        else:
            event |= {"question": "nps", "score": int(draw() * 11)}
        self._send(draw, "touchpoints", person.customer, event, then)


def chance(person: Person, path: list[Placement]) -> int:
    """Probability, in millionths, that a journey with these touches ends in an order."""
    return min(_MOST, person.propensity + sum(place.uplift for place in path))


def necessary(person: Person, path: list[Placement], u: int) -> frozenset[tuple[str, str]]:
    """The channels and networks without whose touches the draw `u` would not have been an order."""
    names = {("channel", place.channel) for place in path} | {("network", place.network) for place in path}
    return frozenset(
        (kind, name)
        for kind, name in names
        if u >= chance(person, [p for p in path if (p.channel if kind == "channel" else p.network) != name])
    )
