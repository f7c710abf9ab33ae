"""From a record of a source topic to the entries it makes: decode, validate, convert, classify, key.

Pure: the same bytes under the same configuration give the same entries, or the same refusal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple
from zlib import crc32

import msgspec
from msgspec import structs

from attribution.channels import Classifier, clean
from attribution.filters import Filters, names
from attribution.forgetting import everywhere
from attribution.money import Rates, convert, to_micros
from attribution.pseudonyms import pseudonyms
from attribution.rollups import Calendar
from attribution.rules import has_roles
from models.errors import Rejected
from models.events import AMOUNT_MAX, DECODERS, Acquisition, Cancel, Click, Cost, Event, Order, Refund, Touchpoint
from models.results import NONE, UNALLOCATED
from models.settings import DAY, MINUTE, Marketing, Rate
from models.wire import (
    CLICK,
    COUNTERS,
    DIRECT,
    ENGAGEMENT,
    FILTERED,
    NO_CONSENT,
    STAGE,
    VIEW,
    VISIT,
    AnyEntry,
    CancelReport,
    CostReport,
    Link,
    OrderReport,
    RefundReport,
    Stage,
    Survey,
    Touch,
    engagement_kind,
)

SIZE_MAX = 1 << 20
FUTURE = 5 * MINUTE
INTERVAL_MAX = 400 * DAY
FIGURES_MAX = 60
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIME_MAX = 7_258_118_400_000_000  # 2200-01-01
_WIRE_MAX = (1 << 63) - 1
_VIEWS = ("impression", "view", "email_open")
_COUNTERS = ("impressions", "reach", "clicks", "video_views", "engagements", "followers", "platform_conversions")


class Taken(NamedTuple):
    """An accepted event: its entries, its time, the tracker that sent it, and the filters that remove it.

    The first entry is for the event's own node, if it has any effect there; an event with both ids makes a link too.
    """

    entries: tuple[AnyEntry, ...]
    t: int
    source: str
    filtered: Sequence[str] = ()

    @property
    def entry(self) -> AnyEntry | None:
        """The first entry."""
        return self.entries[0] if self.entries else None


def microseconds(moment: datetime) -> int:
    """Microseconds since 1970 UTC."""
    gap = moment - _EPOCH
    return (gap.days * 86_400 + gap.seconds) * 1_000_000 + gap.microseconds


def timely(moment: datetime, path: str) -> int:
    """Microseconds since 1970 UTC. Raises Rejected outside 1970 to 2200: calendars end not far beyond."""
    t = microseconds(moment)
    if not 0 <= t < _TIME_MAX:
        raise Rejected("out_of_range", path, "not between 1970 and 2200")
    return t


def bounded(amount: Decimal, path: str, least: int = 0) -> int:
    """Own micros of an amount. Raises Rejected beyond `least` and AMOUNT_MAX major units."""
    if not amount.is_finite() or not least <= amount <= AMOUNT_MAX:
        raise Rejected("invalid_field", path, f"expected an amount between {least} and {AMOUNT_MAX}")
    return to_micros(amount)


def _converted(own: int, rate: tuple[int, int], path: str) -> int:
    """Reporting micros. Raises Rejected when a high rate takes them beyond the 64 bits of the wire."""
    amount = convert(own, *rate)
    if not -_WIRE_MAX <= amount <= _WIRE_MAX:
        raise Rejected("out_of_range", path, "too large in the reporting currency")
    return amount


class Intake:
    """Makes entries under one configuration. `rates` are rows beside those of the configuration itself."""

    def __init__(
        self, marketing: Marketing, rates: Iterable[Rate] = (), *, forgets: bool = True, key: bytes | None = None
    ) -> None:
        """`forgets`: whether there is a key for the forget list; without it nobody can be forgotten. `key`: makes the hashes of ids, where these
        are stored as such. Raises ConfigError when there is none then."""
        self._pseudonyms = pseudonyms(marketing, key)
        self._classify = Classifier(marketing)
        self._filters = Filters(marketing)
        self._drop_ids = marketing.privacy.without_consent == "drop_ids"
        self._rates = Rates(marketing, rates)
        self._forgets = forgets
        self._partitions = marketing.topics.journey_events
        self._calendar = Calendar(marketing.time_zone)
        self._reporting = marketing.reporting_currency
        self._junk = frozenset(junk.strip().casefold() for junk in marketing.junk_ids)
        self._margin_rate = Decimal(marketing.margin_rate) if marketing.margin_rate is not None else None
        self._stage_values = {
            name: to_micros(Decimal(str(stage.value))) if stage.value is not None else 0
            for name, stage in marketing.conversions.items()
        }
        roles = (marketing.lead_stage, marketing.opportunity_stage) if has_roles(marketing) else ()
        self._role_stages = frozenset(roles)
        self._makers: dict[str, Callable[[Any, int, int, int], Taken]] = {
            "clicks": self._click,
            "touchpoints": self._touchpoint,
            "purchases": self._purchase,
            "costs": self._cost,
        }

    def take(self, topic: str, value: bytes | None, timestamp: int, offset: int) -> Taken:
        """The entry of one record. `timestamp` is the record's own (µs). Raises Rejected with a code and a JSON path."""
        if not value:
            raise Rejected("empty", "$", "the message has no value")
        if len(value) > SIZE_MAX:
            raise Rejected("too_large", "$", f"{len(value)} bytes; at most {SIZE_MAX}")
        try:
            event = DECODERS[topic].decode(value)
        except msgspec.ValidationError as error:
            raise _invalid(str(error)) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Rejected("malformed_json", "$", str(error) or "nested too deeply") from None
        digest = crc32(value) if self._pseudonyms is None else self._pseudonyms.digest(value)
        taken = self._makers[topic](event, offset, digest, timestamp)
        if taken.t > timestamp + FUTURE:
            late_by = (taken.t - timestamp) // 1_000_000
            raise Rejected("future", "$.occurred_at", f"{late_by} s after the record's own timestamp")
        return taken

    def person(self, event: Event) -> str | None:
        """The person key of an event as it is stored, or None without a usable id."""
        return self._usable("c:", event.customer_id) or self._usable("a:", event.anonymous_id)

    def _usable(self, prefix: str, raw: str | None) -> str | None:
        if raw is None:
            return None
        usable = raw.strip()
        if not usable or usable.casefold() in self._junk:
            return None
        return prefix + usable if self._pseudonyms is None else self._pseudonyms.person(prefix + usable)

    def _click_id(self, click_id: str | None, nameless: bool) -> str | None:
        """A click id as it is stored: it is matched with others, and read no more."""
        if nameless or click_id is None:
            return None
        return click_id if self._pseudonyms is None else self._pseudonyms.of(click_id)

    def _somebody(self, event: Event) -> str:
        person = self.person(event)
        if person is None:
            raise Rejected("no_person", "$.anonymous_id", "neither anonymous_id nor customer_id is usable")
        return person

    def _nameless(self, event: Event) -> bool:
        """Whether nothing that identifies its person may be stored of this click or touchpoint."""
        return self._drop_ids and not event.consent and isinstance(event, Acquisition)

    def _with_link(self, event: Event, entries: tuple[AnyEntry, ...], t: int, offset: int) -> tuple[AnyEntry, ...]:
        """The entries, and the link that an event with both ids is."""
        if event.customer_id is None or event.anonymous_id is None or self._nameless(event):
            return entries
        customer, device = self._usable("c:", event.customer_id), self._usable("a:", event.anonymous_id)
        if customer is None or device is None:
            return entries
        first = entries[0] if entries else None
        if isinstance(first, Touch) and not first.flags:
            link = Link(device, offset, len(entries), event.event_id, t, customer, False, first.channel, first.network)
            return (structs.replace(first, linked=True), *entries[1:], link)
        return (*entries, Link(device, offset, len(entries), event.event_id, t, customer))

    def _reporting_micros(self, amount: Decimal, path: str, currency: str | None, t: int) -> int:
        own = bounded(amount, path)
        if currency is None or currency == self._reporting:
            return own
        return _converted(own, self._rates.lookup(currency, self._calendar.date(t)), path)

    def _click(self, event: Click, offset: int, digest: int, _: int) -> Taken:
        t = timely(event.occurred_at, "$.occurred_at")
        source = self._classify.classify(event, ad=True)
        cost = None if event.cost is None else self._reporting_micros(event.cost, "$.cost", event.currency, t)
        flags = self._filters.flags(event)
        nameless = self._nameless(event)
        person = f"e:{event.event_id}" if nameless else self._somebody(event)
        entry = Touch(
            person, offset, 0, event.event_id, t, CLICK, "click", source.channel, source.network, source.campaign,
            self._click_id(source.click_id, nameless), flags, cost, digest,
        )  # fmt: skip
        return Taken(self._with_link(event, (entry,), t, offset), t, event.source or "", names(flags) if flags else ())

    def _touchpoint(self, event: Touchpoint, offset: int, digest: int, _: int) -> Taken:
        t = timely(event.occurred_at, "$.occurred_at")
        kind = event.type
        if kind == "visit" or kind in _VIEWS or kind == "engagement":
            touch = self._touch(event, t, offset, digest)
            filtered = names(touch.flags) if touch.flags else ()
            return Taken(self._with_link(event, (touch,), t, offset), t, event.source or "", filtered)
        person = self._somebody(event)
        if kind == "forget":
            return self._forget(event, t, offset)
        flags = self._filters.flags(event)
        entries: tuple[AnyEntry, ...] = ()
        if kind == "survey_response":
            answer = self._survey(event, t, offset, digest, "" if self._nameless(event) else person)
            entries = () if answer is None else (answer,)
        elif kind == "stage":
            if not event.stage:
                raise Rejected("missing_field", "$.stage", "a stage event names its stage")
            value = (
                self._stage_values.get(event.stage, 0)
                if event.value is None
                else self._reporting_micros(event.value, "$.value", event.currency, t)
            )
            if not flags & FILTERED:
                entries = (Stage(person, offset, 0, event.event_id, t, event.stage, value, flags, digest),)
            if entries and event.stage in self._role_stages:
                mark = Touch(
                    person,
                    offset,
                    1,
                    event.event_id,
                    t,
                    STAGE,
                    event.stage,
                    NONE,
                    NONE,
                    NONE,
                    None,
                    flags,
                    None,
                    digest,
                )
                entries = (*entries, mark)
        return Taken(self._with_link(event, entries, t, offset), t, event.source or "", names(flags) if flags else ())

    def _forget(self, event: Touchpoint, t: int, offset: int) -> Taken:
        """Both ids that it names are forgotten, in every partition of the log."""
        if not self._forgets:
            raise Rejected("no_forget_key", "$.type", "PARCOURS_FORGET_KEY is not set: nobody can be forgotten")
        ids = self._usable("c:", event.customer_id), self._usable("a:", event.anonymous_id)
        entries = everywhere([person for person in ids if person is not None], self._partitions, offset)
        return Taken(tuple(entries), t, event.source or "")

    def _survey(self, event: Touchpoint, t: int, offset: int, digest: int, person: str) -> Survey | None:
        """An answer; None when it says not what to, or was asked for a channel and names none. Where the page of the form was found says nothing."""
        question, score, best = event.question, 0, {"nps": 10, "csat": 5}
        if question is None:
            return None
        channel, network, _ = self._classify.for_cost(event.channel, event.network, None, None, "")
        if question in best:
            least = int(question == "csat")
            if event.score is None:
                raise Rejected("missing_field", "$.score", f"an answer to {question} has a score")
            if not least <= event.score <= best[question]:
                raise Rejected("invalid_field", "$.score", f"expected {least} to {best[question]} for {question}")
            channel, network, score = NONE, NONE, to_micros(Decimal(str(event.score)))
        elif channel == NONE:
            return None
        return Survey(
            f"q:{event.event_id}", offset, 0, event.event_id, t, question, channel, network, score, digest, person
        )

    def _touch(self, event: Touchpoint, t: int, offset: int, digest: int) -> Touch:
        kind: str = event.type
        source = self._classify.classify(event, ad=kind == "impression")
        if kind == "visit":
            cls = DIRECT if source.channel == "Direct" else VISIT
        elif kind == "engagement":
            cls, kind = ENGAGEMENT, engagement_kind(event.kind or kind, event.sentiment)
        else:
            cls = VIEW
        nameless = self._nameless(event)
        person = None if nameless else self.person(event)
        if person is None:
            if not nameless and kind != "impression" and cls != ENGAGEMENT:
                raise Rejected("no_person", "$.anonymous_id", "neither anonymous_id nor customer_id is usable")
            person = f"e:{event.event_id}"
        return Touch(
            person, offset, 0, event.event_id, t, cls, kind, source.channel, source.network, source.campaign,
            self._click_id(source.click_id, nameless), self._filters.flags(event), None, digest,
        )  # fmt: skip

    def _purchase(self, event: Order | Refund | Cancel, offset: int, digest: int, _: int) -> Taken:
        t = timely(event.occurred_at, "$.occurred_at")
        key = f"o:{event.order_id}"
        entry: AnyEntry
        if isinstance(event, Order):
            entry = self._order(event, key, t, offset, digest)
        elif isinstance(event, Refund):
            entry = RefundReport(
                key, offset, 0, event.event_id, t, bounded(event.amount, "$.amount"), event.currency, digest
            )
        else:
            entry = CancelReport(key, offset, 0, event.event_id, t, digest)
        return Taken(self._with_link(event, (entry,), t, offset), t, event.source or "")

    def _order(self, event: Order, key: str, t: int, offset: int, digest: int) -> OrderReport:
        gross = bounded(event.revenue, "$.revenue")
        for part, path in ((event.tax, "$.tax"), (event.shipping, "$.shipping")):
            if part is not None:
                gross = max(gross - bounded(part, path), 0)
        if event.margin is not None:
            margin: int | None = bounded(event.margin, "$.margin", -AMOUNT_MAX)
        elif event.cost_of_goods is not None:
            margin = gross - bounded(event.cost_of_goods, "$.cost_of_goods")
        else:
            margin = None if self._margin_rate is None else to_micros(Decimal(gross).scaleb(-6) * self._margin_rate)
        rate_num, rate_scale = self._rates.lookup(event.currency, self._calendar.date(t))
        if rate_num > _WIRE_MAX:
            raise Rejected("out_of_range", "$.currency", "its rate has too many digits for 64 bits")
        for amount, path in ((gross, "$.revenue"), (margin or 0, "$.margin")):
            _converted(amount, (rate_num, rate_scale), path)
        updated = None if event.updated_at is None else timely(event.updated_at, "$.updated_at")
        return OrderReport(
            key, offset, 0, event.event_id, t, updated, self._somebody(event), gross, margin, event.currency,
            rate_num, rate_scale, event.is_new_customer, 0 if event.consent else NO_CONSENT, digest, event.source or "",
        )  # fmt: skip

    def _cost(self, event: Cost, offset: int, digest: int, timestamp: int) -> Taken:
        start, end = timely(event.start, "$.start"), timely(event.end, "$.end")
        if end <= start:
            raise Rejected("empty_interval", "$.end", "end is not after start")
        if end - start > INTERVAL_MAX:
            raise Rejected("long_interval", "$.end", "over 400 days")
        reported = end if event.reported_at is None else timely(event.reported_at, "$.reported_at")
        # A row may announce what is still to be spent; that is no event from the future.
        t = reported if event.reported_at is not None else min(start, timestamp)
        if isinstance(event.occurred_at, datetime):
            t = timely(event.occurred_at, "$.occurred_at")
        amount, figures = self._amount(event, start), self._figures(event, start)
        kind = COUNTERS if amount is None else event.kind
        dims = self._classify.for_cost(event.channel, event.network, event.campaign, event.campaign_id, event.kind)
        if dims == (NONE, NONE, NONE):
            dims = (UNALLOCATED, NONE, NONE)
        entry = CostReport(
            f"k:{event.cost_id}", offset, 0, start, end, reported, kind, *dims, amount or 0, digest, figures,
            self._classify.identity(event.campaign_id),
        )  # fmt: skip
        return Taken((entry,), t, event.source or "")

    def _figures(self, event: Cost, start: int) -> tuple[tuple[str, int], ...]:
        """What the network says of itself, by name."""
        found = {name: n for name in _COUNTERS if isinstance(n := getattr(event, name), int)}
        for kind, n in (event.engagements or {}).items():
            name = f"engagements/{clean(kind)}"
            found[name] = found.get(name, 0) + n
        if len(found) > FIGURES_MAX:
            raise Rejected("out_of_range", "$.engagements", f"over {FIGURES_MAX - len(_COUNTERS)} kinds")
        if event.platform_value is not None:
            found["platform_value"] = self._reporting_micros(
                event.platform_value, "$.platform_value", event.currency, start
            )
        return tuple(sorted(found.items()))

    def _amount(self, event: Cost, start: int) -> int | None:
        if event.amount is not None:
            return self._reporting_micros(event.amount, "$.amount", event.currency, start)
        if event.hours is not None and event.hourly_rate is not None:
            bounded(event.hours, "$.hours")
            bounded(event.hourly_rate, "$.hourly_rate")
            return self._reporting_micros(event.hours * event.hourly_rate, "$.hours", event.currency, start)
        if any(getattr(event, name) is not None for name in (*_COUNTERS, "platform_value")):
            return None
        raise Rejected("missing_field", "$.amount", "give amount, or hours and hourly_rate")


def _invalid(message: str) -> Rejected:
    """A validation error of the decoder as a code, a path and a message."""
    text, _, where = message.partition(" - at `")
    path = where.rstrip("`") or "$"
    marker = "missing required field `"
    if marker in text:
        return Rejected("missing_field", f"{path}.{text.split(marker)[1].rstrip('`')}", text)
    return Rejected("invalid_field", path, text)
