"""The exporter: on the leader, reads what changed in every partition of the log and renders the business families.

The leader is the owner of partition 0 of `journey-events`. Rows are computed and rendered in a thread; a scrape only joins
the bytes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from attribution.families import FAMILIES, Row, own_family, plain
from attribution.formulas import PURCHASE
from attribution.listing import BUDGET, FOLDING, OVERHEAD
from attribution.nodes.base import NEVER
from attribution.windows import WINDOWS
from models.settings import Infrastructure, Marketing
from streams.alert_state import Lost
from streams.alerts import EVERY, Seen, Watch
from streams.api import Snapshot
from streams.metrics import Metrics
from streams.reach import counted
from streams.render import Renderer
from streams.tables import Changes, Script, Tables, journey_tag
from streams.view import Partition, View, progress_of

log = logging.getLogger(__name__)
STALE = 3
"""Refreshes after which, without a good read, no business series are served."""

REACH_SECONDS, REACH_SHARE = 15.0, 50
"""Devices are counted so often at least, and else for one part in this many of the time: it takes a scan of their keys."""

BUSY, PAUSE_MAX = 25, 15.0
"""A refresh takes at most about one part in this many of the time, as long as that is no longer a pause than so many seconds: of CPU time,
so that on a busy machine the figures are not the later for it."""

EAGER = 4
"""The same for a look at what alerts and goals need, while nothing is behind."""

OWN_FAMILIES = {
    "parcours_as_of_timestamp_seconds": own_family("The end of the windows exported now."),
    "parcours_series": own_family(f"Business series exported now; the budget is {BUDGET}."),
    **{
        f"parcours_folded_{level}s": own_family(
            f"Names of level {level} without series of their own for want of budget."
        )
        for level in FOLDING
    },
}
BUSINESS = FAMILIES | OWN_FAMILIES
"""Every business family that is exported."""


_EPOCH = Script("epoch.lua")


class Exporter:
    """Keeps the business part of `/metrics` up to date while this worker leads."""

    def __init__(
        self, redis: Redis, infra: Infrastructure, marketing: Marketing, metrics: Metrics, leads: Callable[[], bool],
        watch: Watch | None = None, *, behind: Callable[[float], bool] = lambda _: False,
        wall: Callable[[], float] = time.time, clock: Callable[[], float] = time.monotonic, cpu: Callable[[], float] = time.thread_time,
    ) -> None:  # fmt: skip
        """`watch` is shown the rows. `behind(seconds)`: whether what is folded now is older than that. `wall` tells the time in seconds since 1970, `clock` measures how old the last read is, `cpu` what
        the calling thread has spent."""
        self._redis = redis
        self._infra = infra
        self._marketing = marketing
        self._metrics = metrics
        self._leads = leads
        self._behind = behind
        self._wall = wall
        self._clock = clock
        self._view: View | None = None
        self._renderer = Renderer(BUSINESS)
        self._body = b""
        self._status: dict[str, Any] = {}
        self._snapshot: Snapshot | None = None
        self._taken = 0
        self._read_at: float | None = None
        self._reach_due = 0.0
        self._epoch: int | None = None
        self._first_by = 0.0
        self._pause = infra.refresh_interval
        self._cpu = cpu
        self._looked = self._drew = 0.0
        self._took = 0.0
        self._watch = watch
        self._watched_at: float | None = None
        self._unrendered = False
        self._render_at = 0.0
        self._folds = False

    async def run(self) -> None:
        """Refresh for ever; Redis away leaves what was there, until it is stale.

        While a backlog is worked off, each refresh finds much changed: the pause grows with it, so that the stream keeps the CPU. For
        alerts and goals, what changed is read and judged more often than it is rendered.
        """
        while True:
            began, spent = self._clock(), 0.0
            render = began >= self._render_at
            try:
                looked = await self.refresh(render=render)
                self._took, spent = self._clock() - began, self._looked
                if render and looked:
                    spent += self._drew
                    self._pause = max(self._infra.refresh_interval, min(BUSY * spent, PAUSE_MAX))
                    self._render_at = self._clock() + self._pause
            except (RedisError, OSError) as error:
                log.warning("Business metrics not refreshed: %r", error)
                if self._watch is not None:
                    self._watch.away()
            except Exception:
                log.exception("Business metrics not refreshed; reading all again")
                self._view = None
            await asyncio.sleep(self._nap(spent))

    def _nap(self, spent: float) -> float:
        watch = self._watch
        if watch is None or not watch.active:
            self._render_at = 0.0
            return self._pause
        return min(self._pause, max(self._infra.alert_interval, BUSY * spent if watch.behind else EAGER * self._looked))

    async def refresh(self, *, render: bool = True) -> bool:
        """Read what changed, show it to the watch, and render it when it makes a difference. False when it is not yet to be. Raises what Redis raises."""
        if not self._leads():
            self._forget()
            return True
        if self._epoch is None:
            key = f"{{parcours:{self._infra.generation}}}epoch"
            self._epoch = int(await _EPOCH(self._redis, [key], int(self._wall())))
            self._first_by = self._clock() + PAUSE_MAX
        if self._view is None and self._clock() < self._first_by and self._behind(self._infra.refresh_interval):
            # The first look is at all there is, and what it found would be out of date at once: the stream keeps the CPU.
            return False
        watch = await self._watching()
        view, read, end = await self._read()
        if view.backward(end):
            self._view = None
            view, read, end = await self._read()
        read_at = self._clock()
        seen: Seen | None = None
        if end == NEVER:
            self._body, self._status, self._snapshot, self._unrendered = b"", {}, None, False
            seen = watch.look(None, None) if watch else None
        else:
            fresh = view.reach is None
            if fresh:
                # Devices are counted before anything is judged: without them an alert on reach would be over at each restart.
                await self._count(view, await asyncio.to_thread(self._load, view, read, end))
                view, read, end = await self._read()
            due = watch is not None and (fresh or self._due(read_at))
            loaded = self._looked if fresh else 0.0
            new, seen = await asyncio.to_thread(self._take, view, read, end, watch, due)
            self._looked += loaded
            self._unrendered |= new or fresh
            self._drew = 0.0
            if render and self._unrendered:
                self._unrendered = False
                self._body, self._status = await asyncio.to_thread(self._rendered, view)
                self._taken += 1
                self._snapshot = Snapshot(self._taken, view.end, [block.rows for block in view.blocks])
        if render:
            # Not before: the highest epoch is the one that is read, and there would be nothing to read yet.
            self._metrics.leader(self._epoch)
        self._read_at = read_at
        if watch is not None and seen is not None:
            self._watched_at = read_at
            try:
                await watch.observe(seen)
            except Lost as error:
                log.warning("Alerts are not evaluated: %s", error)
                watch.forget()
        # Last, so that nothing that was read or judged is lost if it fails.
        if view.reach is not None and self._clock() >= self._reach_due:
            await self._count(view, view.end)
        return True

    async def _count(self, view: View, end: int) -> None:
        """Count devices; rows have them from the next reading on."""
        began = self._clock()
        view.reached(await counted(((part.tables, part.names) for part in view.parts), end, view.calendar))
        now = self._clock()
        self._reach_due = now + min(REACH_SECONDS, REACH_SHARE * (now - began))

    def _due(self, now: float) -> bool:
        """Whether rows are shown to the watch although nothing changed."""
        return self._watched_at is None or now - self._watched_at >= EVERY

    async def _watching(self) -> Watch | None:
        """The watch, ready to judge."""
        if self._watch is None:
            return None
        try:
            await self._watch.begin()
        except Lost as error:
            log.info("Alerts are not evaluated: %s", error)
            return None
        return self._watch

    def _load(self, view: View, read: list[Changes], end: int) -> int:
        """In a thread: all that there is. It counts for the pause, as what changes does."""
        began = self._cpu()
        try:
            return view.load(read, end)
        finally:
            self._looked = self._cpu() - began

    def _take(
        self, view: View, read: list[Changes], end: int, watch: Watch | None, due: bool
    ) -> tuple[bool, Seen | None]:
        """In a thread: (whether rows are new, what the watch saw in them)."""
        began = self._cpu()
        try:
            return self._look(view, read, end, watch, due)
        finally:
            self._looked = self._cpu() - began

    def _look(
        self, view: View, read: list[Changes], end: int, watch: Watch | None, due: bool
    ) -> tuple[bool, Seen | None]:
        new = view.take(read, end, anew=due and watch is not None and watch.active)
        if watch is None or not (new or due):
            return new, None
        try:
            return new, watch.look(view, progress_of(read[0]))
        except Exception:
            log.exception("Alerts and goals can't be judged")
            return new, None

    async def _read(self) -> tuple[View, list[Changes], int]:
        if self._view is None:
            self._view = View(self._marketing, self._partitions())
        view = self._view
        read = await asyncio.gather(*(part.read() for part in view.parts))
        return view, read, view.ends(read, int(self._wall() * 1_000_000))

    def _partitions(self) -> list[Partition]:
        count, generation = self._marketing.topics.journey_events, self._infra.generation
        return [Partition(p, Tables(self._redis, journey_tag(generation, p))) for p in range(count)]

    def _forget(self) -> None:
        if self._epoch is not None:
            self._metrics.leader(None)
        if self._watch is not None:
            self._watch.forget()
        self._watched_at, self._unrendered, self._render_at = None, False, 0.0
        self._looked = self._drew = 0.0
        self._pause = self._infra.refresh_interval
        self._view = None
        self._body, self._status, self._read_at, self._epoch = b"", {}, None, None
        self._renderer, self._snapshot = Renderer(BUSINESS), None

    def _rendered(self, view: View) -> tuple[bytes, dict[str, Any]]:
        """In a thread: the body and what the live table shows."""
        began = self._cpu()
        try:
            return self._draw(view)
        finally:
            self._drew = self._cpu() - began

    def _draw(self, view: View) -> tuple[bytes, dict[str, Any]]:
        rows = view.rows
        series = len(rows) + OVERHEAD
        own = [Row("parcours_as_of_timestamp_seconds", (), view.end // 1_000_000), Row("parcours_series", (), series)]
        own += [Row(f"parcours_folded_{level}s", (), view.folded.get(level, 0)) for level in FOLDING]
        self._tell(view.folded)
        return self._renderer.render([*(block.rows for block in view.blocks), own]), table(
            rows, self._marketing, view.end
        ) | {"series": series}

    def _tell(self, folded: Mapping[str, int]) -> None:
        """Say once that names have no row of their own, and once that they have again."""
        channels, campaigns = (folded.get(level, 0) for level in FOLDING)
        if bool(channels or campaigns) != self._folds:
            self._folds = not self._folds
            if self._folds:
                log.warning(
                    "The budget of %s series is too small: %s channels and %s campaigns are shown together as (other); "
                    "docs/metrics.md, section Budget", BUDGET, channels, campaigns,
                )  # fmt: skip
            else:
                log.info("All channels and campaigns have series of their own again")

    def _fresh(self) -> bool:
        """Whether this worker leads and has read Redis in the last three refreshes."""
        age = None if self._read_at is None else self._clock() - self._read_at
        return age is not None and age <= STALE * self._pause + self._took and self._leads()

    def body(self) -> bytes:
        """The business part of `/metrics`: empty when this worker does not lead or, but for alerts, has lost touch with Redis."""
        watched = self._watch.body() if self._watch is not None else b""
        return (self._body if self._fresh() else b"") + watched

    def status(self) -> dict[str, Any]:
        """What the live table shows; empty when `body` is. See `table`."""
        return self._status if self._fresh() else {}

    def snapshot(self) -> Snapshot | None:
        """The rows behind `body`, None when that is empty."""
        return self._snapshot if self._fresh() else None


def table(found: Iterable[Row], marketing: Marketing, end: int) -> dict[str, Any]:
    """The exporter's rows by channel and network, for people: purchases under the first headline model, conversion basis.

    `windows` has per window the rows and their total (channel ""), amounts as decimal strings or null; `rows` and `total` are those of the longest.
    """
    model = marketing.headline_models[0]
    names = {
        "touches": "touches", "attributed_conversions": "conversions", "attributed_revenue": "revenue",
        "cost": "cost", "media_cost": "media_cost", "cpa": "cpa", "roas_ratio": "roas", "roi_on_revenue_ratio": "roi",
    }  # fmt: skip
    columns = {f"parcours_{level}_{name}": column for level in ("total", "channel") for name, column in names.items()}
    lines: dict[str, dict[tuple[str, str], dict[str, Any]]] = {window.name: {} for window in WINDOWS}
    for family, labels, value in found:
        column = columns.get(family)
        if column is None:
            continue
        is_ = dict(labels)
        if is_["window"] not in lines:
            continue
        if "model" in is_ and (is_["model"], is_["basis"], is_["conversion"]) != (model, "conversion", PURCHASE):
            continue
        key = (is_.get("channel", ""), is_.get("network", ""))
        line = lines[is_["window"]].setdefault(
            key, {"channel": key[0], "network": key[1], **dict.fromkeys(names.values())} | {"touches": 0}
        )
        line[column] = int(value) if column == "touches" else plain(value)
    windows = {
        name: {"total": by_key.pop(("", ""), None), "rows": [by_key[key] for key in sorted(by_key)]}
        for name, by_key in lines.items()
    }
    longest = WINDOWS[-1].name
    return {
        "as_of": end / 1e6,
        "currency": marketing.reporting_currency,
        "model": model,
        "conversion": PURCHASE,
        "window": longest,
        **windows[longest],
        "windows": windows,
    }
