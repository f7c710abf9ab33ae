"""Journeys: the touches of a person, and the stages and orders that come of them.

Every draw of a journey comes from one of two generators, seeded by (seed, journey, purpose): the touches, and what
happens after them. Touches are drawn in full and then left out when they are to be removed, and an order is made when a
uniform draw is below the purchase probability. So two worlds that differ by one channel use common random numbers, and
the difference in conversions is exactly that channel's effect.
"""

from __future__ import annotations

from datetime import timedelta
from random import Random

from streams.simulation.costs import Spending
from streams.simulation.delivery import DAY, EPOCH, HOUR, MINUTE, SECOND, Delivery, Draw, new_event
from streams.simulation.market import CAMPAIGNS, FIRST, LATER, REACTIONS, SITE, TIMES_OF_DAY, Placement
from streams.simulation.persons import AFTER, HISTORY, LIVE_PACE, TOUCHES, Person, seed_of
from streams.simulation.sales import WHOLE, Sales, chance, necessary

# Touches in a journey, as equally likely cases: 3.3 on average.
_LENGTHS = (1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 5, 5, 6, 8, 1, 2, 4, 5)
_PAGES = ("/", "/lampes", "/lampes/arc", "/suspensions", "/soldes", "/guide", "/bureau", "/appliques")
_BOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"


class Journeys:
    """Makes the events of journeys, one journey at a call. `without` names what to remove, as in `Sale.without`."""

    def __init__(
        self, seed: int, delivery: Delivery, spending: Spending, without: tuple[str, str] | None = None
    ) -> None:
        self.sales = Sales(delivery)
        self.pace = HISTORY
        self._seed = seed
        self._send = delivery.send
        self._spend = spending.add
        self._channel = without[1] if without and without[0] == "channel" else None
        self._network = without[1] if without and without[0] == "network" else None
        self._touches = Random()
        self._after = Random()

    def go_live(self) -> None:
        """From here on, journeys take minutes, and no ledger is kept."""
        self.pace = self.sales.pace = LIVE_PACE
        self.sales.ledger = None

    def run(self, person: Person, a: int, b: int, t: int) -> int:
        """Send all events of journey (a, b) of `person`, which starts at `t`. Returns when it is over at the latest."""
        rng = self._touches
        rng.seed(seed_of(self._seed, TOUCHES, a, b))
        draw = rng.random
        path: list[Placement] = []
        device = person.devices[0]
        for i in range(_LENGTHS[int(draw() * len(_LENGTHS))]):
            if i:
                t = self._later(t, draw)
            place = (LATER if i else FIRST)[int(draw() * 2048)]
            device = person.devices[int(draw() * len(person.devices))]
            path.append(place)
            self._touch(draw, place, person, device, f"{a:x}.{b:x}.{i}", t)
        if draw() < 0.08:
            self._reaction(draw, f"{a:x}.{b:x}", t)
        if draw() < 0.12:
            login = new_event(f"{a:x}.{b:x}.in", t + 20 * SECOND, device, "web")
            login["customer_id"] = person.customer
            login["type"] = "identify"
            self._send(draw, "touchpoints", device, login, t + 20 * SECOND)
        self._finish(person, a, b, device, path, t)
        return t + self.pace.slow_order[0] + self.pace.slow_order[1]

    def _later(self, t: int, draw: Draw) -> int:
        """When the next touch comes. History follows the day's rhythm, a day later on average."""
        gap = self.pace.gap
        if gap is not None:
            return t + gap[0] + int(draw() * gap[1])
        then = t + int((draw() + draw()) * DAY)
        then += TIMES_OF_DAY[int(draw() * 1000)] - then % DAY + int(draw() * 86 * SECOND)
        return then if then > t + 10 * MINUTE else t + 10 * MINUTE + int(draw() * 3 * HOUR)

    def _touch(self, draw: Draw, place: Placement, person: Person, device: str, tag: str, t: int) -> None:
        drop = place.channel == self._channel or place.network == self._network
        form, send = place.form, self._send
        if place.campaign >= 0:
            price = int(place.price * (0.7 + 0.6 * draw()))
            self._spend(t, place.campaign, price)
        event = new_event(tag, t, device, "web")
        event.update(place.fields)
        if not person.consent:
            event["consent"] = False
        if form == "ad":
            landing = dict(event)
            event["source"] = "ads"
            event["ad_id"] = f"{CAMPAIGNS[place.campaign].id}-{int(draw() * 3)}"
            event[place.click_id] = landing[place.click_id] = click = f"{place.click_id}-{tag}"
            page = f"{SITE}{_PAGES[int(draw() * 8)]}?{place.click_id}={click}"
            event["page_url"] = landing["page_url"] = page
            if CAMPAIGNS[place.campaign].own_costs:
                event["cost"] = price // 10_000 / 100
                event["currency"] = CAMPAIGNS[place.campaign].currency
            send(draw, "clicks", device, event, t, drop)
            then = t + SECOND + int(draw() * 5 * SECOND)
            landing["event_id"] += "v"
            landing["occurred_at"] = EPOCH + timedelta(0, 0, then)
            landing["type"] = "visit"
            send(draw, "touchpoints", device, landing, then, drop)
            return
        event["type"] = "email_open" if form == "email" else form
        if form == "email":
            visits = draw() < 0.6
            visit = {**event, "event_id": f"{tag}v", "type": "visit", "page_url": SITE + _PAGES[int(draw() * 8)]}
            then = t + 5 * SECOND + int(draw() * MINUTE)
            visit["occurred_at"] = EPOCH + timedelta(0, 0, then)
            # A mailing knows the customer, not the device; the site knows both.
            event["source"] = "mailing"
            event["customer_id"] = visit["customer_id"] = person.customer
            del event["anonymous_id"]
            send(draw, "touchpoints", person.customer, event, t, drop)
            if visits:
                send(draw, "touchpoints", device, visit, then, drop)
            return
        if form == "visit":
            event["page_url"] = SITE + _PAGES[int(draw() * 8)]
        elif form == "engagement":
            event["kind"] = ("like", "comment", "share")[int(draw() * 3)]
            event["source"] = place.network
        send(draw, "touchpoints", device, event, t, drop)

    def _reaction(self, draw: Draw, tag: str, t: int) -> None:
        """What is seen without a person: a reaction, an impression without an id, a bot's visit."""
        event = new_event(f"{tag}.r", t, "", "web")
        del event["anonymous_id"]
        which = draw()
        network, kind, sentiment = REACTIONS[int(draw() * len(REACTIONS))]
        drop = False
        if which < 0.15:
            event |= {"type": "visit", "anonymous_id": f"bot{int(draw() * 9)}", "user_agent": _BOT, "page_url": SITE}
        else:
            channel = "Paid Social" if which < 0.35 else "Organic Social"
            drop = channel == self._channel or network == self._network
            event |= {"source": network, "channel": channel, "network": network}
            if which < 0.35:
                event["type"] = "impression"
                event["campaign"] = next(c.name for c in CAMPAIGNS if c.network == network)
            else:
                event |= {"type": "engagement", "kind": kind, "sentiment": sentiment}
        self._send(draw, "touchpoints", event["event_id"], event, t, drop)

    def _finish(self, person: Person, a: int, b: int, device: str, path: list[Placement], t: int) -> None:
        """The stages and, perhaps, the order at the end of a journey."""
        rng = self._after
        rng.seed(seed_of(self._seed, AFTER, a, b))
        draw, send, pace, tag = rng.random, self._send, self.pace, f"{a:x}.{b:x}"
        u, stage = int(draw() * WHOLE), draw()
        if stage < 0.14:
            then = t + pace.stage[0] + int(draw() * pace.stage[1])
            event = new_event(f"{tag}.s", then, device, "crm")
            event["type"] = "stage"
            event["stage"] = "signup" if stage < 0.08 else "lead"
            if stage < 0.08:
                event["customer_id"] = person.customer
            elif stage < 0.1:
                event |= {"value": 40.0, "currency": "EUR"}
            send(draw, "touchpoints", device, event, then)
        kept = [p for p in path if p.channel != self._channel and p.network != self._network]
        if u >= chance(person, kept):
            return
        wait = pace.order if draw() < 0.75 else pace.slow_order
        self.sales.order(rng, person, tag, device, t + wait[0] + int(draw() * wait[1]), necessary(person, kept, u))
