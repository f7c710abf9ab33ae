"""The evaluator of alerts and goals: on the leader, from the rows that the exporter made.

Each evaluation is: read the rows (`look`, in the exporter's thread) → judge (`attribution.alerting`) → store states and notices together
→ publish what is stored → store that it is published. So a crash anywhere gives one id: before the store nothing was said, after
it the stored notice is said, perhaps twice, the same byte for byte. The webhook gets its own copy, tried again
until it is taken or given up. Neither way holds up the evaluation.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec
from redis.asyncio import Redis

from attribution import goals, readings
from attribution.alerting import GONE, UNKNOWN, AlertState, Change, Key, Reading, advance
from attribution.families import Row
from attribution.watermarks import Progress
from models.results import Alert
from models.settings import Infrastructure, Marketing
from streams import webhook
from streams.alert_state import Delivery, Kept, Lost, Store
from streams.metrics import Metrics
from streams.notices import BOARD, Link, notice, rows
from streams.pipeline import PROBLEMS, Pipeline, Status, held_by, problems, silent
from streams.render import render
from streams.view import View

log = logging.getLogger(__name__)
EVERY = 5.0
"""Seconds after which all is judged again although no row has changed: time alone moves windows and accrues cost."""

WEBHOOK_MAX = 1000
"""Notices that wait for the webhook at most; the oldest are given up."""

TURNING = frozenset(
    ("parcours_alert_active", "parcours_alert_unknown", "parcours_goal_on_track", "parcours_pipeline_problem")
)

_encode = msgspec.json.Encoder().encode


class Seen(NamedTuple):
    """What the rows of one moment say. `networks`: those of stale costs."""

    now: int
    readings: Mapping[Key, Reading]
    standings: Mapping[str, goals.Standing]
    baselines: dict[str, Decimal | None]
    problems: Mapping[str, bool]
    lag: int | None


class Watch:
    """The alerts and goals of one worker; it evaluates while it leads."""

    def __init__(
        self, redis: Redis, infra: Infrastructure, marketing: Marketing, metrics: Metrics, pipeline: Pipeline, *,
        token: Callable[[], str | None], publish: Callable[[Mapping[bytes, bytes]], Awaitable[None]],
        post: Callable[[str, Alert], Awaitable[webhook.Outcome]] = webhook.post, wall: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        """`token`: of this worker's claim of partition 0, None while it does not lead. `publish`: keyed values to the topic `alerts`."""
        self.active = bool(marketing.alerts or marketing.goals)
        self._redis = redis
        self._infra = infra
        self._marketing = marketing
        self._metrics = metrics
        self._pipeline = pipeline
        self._token = token
        self._publish = publish
        self._post = post
        self._wall = wall
        self._url = webhook.check_url(infra.webhook_url.get_secret_value()) if infra.webhook_url else None
        self._link = Link(infra.dashboard_url, infra.runbook_url, marketing.headline_models[0])
        self._store: Store | None = None
        self._status = Status()
        self._seen: Seen | None = None
        self._states: Mapping[Key, AlertState] = {}
        self._evaluated = 0.0
        self._body = b""
        self._rows: list[Row] = []
        self.turns = 0
        """How often an alert or a goal has turned: what fires, what is unknown, what is on track."""
        self._lock = asyncio.Lock()
        self._news = asyncio.Event()

    @property
    def behind(self) -> bool:
        """Whether a partition was behind at the last look: nothing can fire then, so it is not worth looking often."""
        return bool(self._status.behind)

    # -- asked by the exporter, in this order

    async def begin(self) -> None:
        """Before a reading: load what is stored, ask how the pipeline is. Raises what Redis raises, and Lost."""
        token = self._token()
        if token is None:
            self.forget()
            raise Lost("partition 0 is not claimed")
        if self._store is None or self._store.token != token:
            store = Store(self._redis, self._infra.generation, token)
            await store.load()
            self._store = store
            self._news.set()
        self._status = await self._pipeline.status()

    def look(self, view: View | None, progress: Progress | None) -> Seen:
        """What the view's rows say. Reads sums that a later reading changes: call it before that. Does no I/O."""
        store = self._store
        assert store is not None
        now = view.end if view is not None else int(self._wall() * 1_000_000)
        networks: frozenset[str] = frozenset()
        found: Mapping[Key, Reading] = {}
        standings: dict[str, goals.Standing] = {}
        baselines: dict[str, Decimal | None] = {}
        if view is not None:
            _, ledger = view.books()
            networks = readings.stale(ledger, self._marketing, now)
        wrong = problems(self._status, silent(progress, self._marketing, now), networks)
        if view is not None:
            held = held_by(wrong, networks)
            found = readings.read(self._marketing.alerts, self._marketing, view.found(), held)
            standings, baselines = self._goals(view, now, store.kept.baselines)
        return Seen(now, found, standings, baselines, wrong, self._status.lag)

    def _goals(
        self, view: View, now: int, frozen: Mapping[str, Decimal | None]
    ) -> tuple[dict[str, goals.Standing], dict[str, Decimal | None]]:
        sums, ledger = view.books()
        asked = self._marketing.goals
        rows = view.rows if any(goal.metric in goals.OF_PERSONS for goal in asked) else []
        known = goals.baselines(asked, frozen, sums, ledger, now, rows)
        return {goal.name: goals.stand(goal, known, sums, ledger, now, rows) for goal in asked}, known

    async def observe(self, seen: Seen) -> None:
        """Judge what was seen, and store it. Raises what Redis raises, and Lost: then `forget`."""
        async with self._lock:
            store = self._store
            if store is None:
                raise Lost("no longer the leader")
            everywhere = any(there for name, there in seen.problems.items() if name != "stale_costs")
            missing = UNKNOWN if everywhere else GONE
            before = store.kept
            states, changes = advance(self._marketing.alerts, before.by_key(), seen.readings, seen.now, missing)
            await store.save(self._kept(before, states, changes, seen))
        self._seen = seen
        self._show()
        if changes:
            self._news.set()

    def _kept(self, before: Kept, states: Mapping[Key, AlertState], changes: list[Change], seen: Seen) -> Kept:
        fresh = [
            notice(change, before.notices.get(change.state.id), self._marketing, seen.now, seen.lag, self._link)
            for change in changes
            if change.rule is not None or change.state.id in before.notices
        ]
        for one in fresh:
            log.warning("alert %s %s: %s %s", one.status, one.rule, one.id, "/".join(scope_of(one)) or "total")
        notices = before.notices | {one.id: one for one in fresh}
        kept_ids = {state.id for state in states.values()}
        queue = before.webhook + (tuple(Delivery(one) for one in fresh) if self._url is not None else ())
        for lost in queue[:-WEBHOOK_MAX]:
            self._given_up(lost, "too many wait")
        return Kept(
            states=tuple(states.values()),
            notices={key: one for key, one in notices.items() if key in kept_ids},
            outbox=before.outbox + tuple(fresh),
            webhook=queue[-WEBHOOK_MAX:],
            baselines=seen.baselines or before.baselines,
        )

    def forget(self) -> None:
        """This worker no longer leads, or what it knows may be stale: load anew before the next evaluation."""
        self._store = None
        if self._token() is None:
            self._seen, self._body, self._rows = None, b"", []

    def away(self) -> None:
        """Redis did not answer: what was shown stays, and cost per conversion is unknown."""
        self.forget()
        if self._seen is not None:
            wrong = {**self._seen.problems, "redis_away": True}
            held = {
                key: UNKNOWN._replace(value=reading.value, bound=reading.bound)
                if reading.spend is not None
                else reading
                for key, reading in self._seen.readings.items()
            }
            self._seen = self._seen._replace(problems=wrong, readings=held)
            self._show(evaluated=False)

    # -- shown

    def _show(self, evaluated: bool = True) -> None:
        assert self._seen is not None
        if evaluated:
            self._evaluated = self._wall()
            assert self._store is not None
            self._states = self._store.kept.by_key()
        found = rows(
            self._marketing, self._seen.readings, self._states, self._seen.standings, self._seen.problems,
            self._evaluated,
        )  # fmt: skip
        self._body = render(BOARD, found)
        turned = [[row for row in of if row.family in TURNING] for of in (self._rows, found)]
        self.turns += turned[0] != turned[1]
        self._rows = found

    def body(self) -> bytes:
        """This part of `/metrics`; empty while this worker does not lead."""
        return self._body if self._token() is not None else b""

    def rows(self) -> list[Row]:
        """The samples of `body`."""
        return self._rows if self._token() is not None else []

    def status(self) -> dict[str, Any]:
        """What the live page and the demo show: the alerts that fire, and where the goals stand."""
        if self._seen is None or self._token() is None:
            return {}
        states = self._states
        return {
            "firing": [
                {"rule": rule, "names": [name for name in names if name], "id": state.id, "since": state.fired_at / 1e6}
                for (rule, names), state in sorted(states.items()) if state.phase == "firing"
            ],
            "goals": {
                name: {
                    "phase": one.phase, "on_track": one.on_track,
                    "progress": None if one.progress is None else float(one.progress),
                } for name, one in self._seen.standings.items()
            },
            "problems": [name for name in PROBLEMS if self._seen.problems.get(name)],
        }  # fmt: skip

    # -- sent

    async def publish(self) -> None:
        """Publish what is stored and not yet published, in order, for ever. A failure is tried again."""
        while True:
            await self._news.wait()
            self._news.clear()
            try:
                await self.publish_stored()
            except Lost:
                self.forget()
            except Exception as error:
                log.warning("alerts not published, trying again: %r", error)
                self._metrics.alert("kafka", "again")
                await asyncio.sleep(1.0)
                self._news.set()

    async def publish_stored(self) -> None:
        """One round of it."""
        store = self._store
        if store is None or not store.kept.outbox:
            return
        sent = store.kept.outbox
        for one in sent:
            await self._publish({one.id.encode(): _encode(one)})
            self._metrics.alert("kafka", "sent")
        async with self._lock:
            if self._store is store:
                await store.save(msgspec.structs.replace(store.kept, outbox=store.kept.outbox[len(sent) :]))
        self._news.set()

    async def deliver(self) -> None:
        """Try what waits for the webhook when it is due, for ever."""
        if self._url is None:
            return
        while True:
            await asyncio.sleep(0.25)
            try:
                await self.deliver_due()
            except Lost:
                self.forget()
            except Exception as error:
                log.warning("webhook: %r", error)
                await asyncio.sleep(1.0)

    async def deliver_due(self) -> None:
        """One round of it: the first that is due. One alert's notices go out in order."""
        store, url = self._store, self._url
        if store is None or url is None:
            return
        now = self._wall()
        waiting: set[str] = set()
        for one in store.kept.webhook:
            if one.notice.id not in waiting and one.due <= now:
                break
            waiting.add(one.notice.id)
        else:
            return
        outcome = await self._post(url, one.notice)
        tried = Delivery(one.notice, one.tries + 1, self._wall() + webhook.pause(one.tries + 1))
        over = outcome != "again" or tried.tries >= webhook.TRIES
        if outcome == "sent":
            self._metrics.alert("webhook", "sent")
        elif over:
            self._given_up(tried, outcome)
        else:
            self._metrics.alert("webhook", "again")
        async with self._lock:
            if self._store is store:
                queue = [tried if each == one else each for each in store.kept.webhook]
                await store.save(
                    msgspec.structs.replace(
                        store.kept, webhook=tuple(each for each in queue if not (over and each == tried))
                    )
                )

    def _given_up(self, one: Delivery, why: str) -> None:
        log.error("alert %s %s: not delivered to the webhook after %s tries: %s", one.notice.id, one.notice.status,
                  one.tries, why)  # fmt: skip
        self._metrics.alert("webhook", "failed")


def scope_of(one: Alert) -> list[str]:
    """The names of an alert's scope."""
    return [name for name in (one.channel, one.network, one.campaign) if name is not None]
