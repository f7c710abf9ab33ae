"""Customers by cohort: when and through which channel they were acquired, and what they have brought since (meaning §11).

A customer is a person with a standing order; the first one, in journey order, acquires the customer, in the business month of its date, through the
first touch that was eligible for it. A customer whom the order's sender calls a returning one was acquired before anything that is known here,
and is in no cohort. One who has not bought for `CUSTOMER_KEPT` begins anew: by then nothing is known of the past.

All facts of a customer are filed at the first order, so a cohort is a bucket and its sums are functions of the person's
state: facts of after less facts of before, whatever has changed. Ages are twelfths of 365 days since the first order.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from attribution.facts import Fact, Measure, counter
from attribution.nodes.state import Conversion, JourneyEvent, Person
from attribution.rules import Dims
from models.results import NONE, UNATTRIBUTED
from models.settings import DAY
from models.wire import ENGAGEMENT, kind_and_sentiment

YEAR = 365 * DAY
AGE = YEAR // 12
"""One step of age: a twelfth of 365 days, in microseconds, exactly."""
AGES = 12
"""Orders after the first year are all of age 12."""
CUSTOMER_KEPT = 460 * DAY
"""How long after the last conversion a person with conversions is kept, and how long a cohort: the latest month that has seen a whole year
(31 + 365 days), and the one before it."""
ADVOCACY = frozenset(("share", "mention", "referral"))
"""Kinds of engagement by which a customer is an ambassador."""

CUSTOMERS = counter("customers")
REPEAT_CUSTOMERS = counter("repeat_customers")
AMBASSADORS = counter("ambassadors")
COHORT_REVENUE = "cohort_revenue"
COHORT_ACTIVE = "cohort_active"
NOBODY: Dims = (UNATTRIBUTED, NONE, "")


def aged(name: str, age: int) -> Measure:
    """The measure of what customers did at an age."""
    return (name, "", "", str(age))


def advocated(events: Sequence[JourneyEvent]) -> int | None:
    """Time of the latest share, mention or referral among these events; filtered ones say nothing."""
    for event in reversed(events):
        if event.cls == ENGAGEMENT and kind_and_sentiment(event.kind)[0] in ADVOCACY and not event.flags:
            return event.t
    return None


def customer_facts(before: Person, after: Person) -> list[Fact]:
    """What a change of a person changes in the cohorts. Amounts that cancel out are left out."""
    spoke = _advocated(before), _advocated(after)
    if before.conversions is after.conversions and spoke[0] == spoke[1]:
        return []
    sums: dict[tuple[int, Dims, Measure], int] = {}
    for person, latest, sign in ((before, spoke[0], -1), (after, spoke[1], 1)):
        for t, dims, measure, amount in _facts(person.conversions, latest):
            key = (t, dims, measure)
            sums[key] = sums.get(key, 0) + sign * amount
    return [(*key, amount) for key, amount in sums.items() if amount]


def _advocated(person: Person) -> int | None:
    latest = advocated(person.events)
    return person.advocated if latest is None else max(latest, person.advocated or latest)


def _facts(conversions: Sequence[Conversion], latest: int | None) -> list[Fact]:
    orders = [c for c in conversions if c.type == "purchase" and c.gone is None]
    starts = [0, *(i for i, (a, b) in enumerate(pairwise(orders), 1) if b.t - a.t > CUSTOMER_KEPT), len(orders)]
    return [fact for start, stop in pairwise(starts) for fact in _customer(orders[start:stop], latest)]


def _customer(orders: Sequence[Conversion], latest: int | None) -> list[Fact]:
    if not orders or orders[0].is_new is False:
        return []
    first = orders[0]
    t, filed = first.t, first.filed
    dims: Dims = (*filed.touches[0].dims[:2], "") if filed is not None and filed.touches else NOBODY
    facts: list[Fact] = [(t, dims, CUSTOMERS, 1)]
    if len(orders) > 1:
        facts.append((t, dims, REPEAT_CUSTOMERS, 1))
    if latest is not None and latest > t:
        facts.append((t, dims, AMBASSADORS, 1))
    revenue: dict[int, int] = {}
    for order in orders:
        age = min((order.t - t) // AGE, AGES)
        revenue[age] = revenue.get(age, 0) + order.net
    facts += [(t, dims, aged(COHORT_REVENUE, age), net) for age, net in revenue.items()]
    # Every customer has bought at age 0: the number of customers says so already.
    facts += [(t, dims, aged(COHORT_ACTIVE, age), 1) for age in revenue if age]
    return facts


def age_of(elapsed: int) -> int:
    """The age at so many microseconds after the first order."""
    return min(elapsed // AGE, AGES)
