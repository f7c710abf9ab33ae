"""Pipeline metrics: what one worker does, for the partitions it owns. In a registry of their own, so that a process may
hold several workers. Label children are cached: counters are on the hot path."""

from __future__ import annotations

import time
from collections import Counter as Tally
from collections.abc import Iterable
from contextlib import suppress

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

from attribution.nodes.base import NEVER
from attribution.watermarks import JOURNEY, Progress
from models.results import NONE, OTHER
from streams.render import clean

SOURCES_MAX = 50
"""Trackers counted by name for each topic; those that come later are `(other)`."""

ACCEPTED = "accepted"
# A creation time beside each counter would double their series; nothing here reads it.
disable_created_metrics()

_LATENCY = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600)
_COMMIT = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)


class Metrics:
    """One worker's pipeline metrics. Called from the event loop's thread only."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"parcours_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"parcours_{name}", text, labels, registry=registry)

        gauge("up", "1 while the worker serves.").set(1)
        self._events = counter(
            "events_total",
            "Events read from a source topic, by tracker and what became of them: accepted, or the code of the refusal.",
            "topic", "source", "outcome",
        )  # fmt: skip
        self._applied = counter("applied_total", "Entries applied to state, each once.", "partition")
        self._dropped = counter("dropped_total", "Events and entries not applied, by reason.", "reason")
        self._filtered = counter(
            "filtered_total",
            "Events removed from attribution, by filter; they stay visible in their journeys.",
            "filter",
        )
        self._letters = counter("dead_letters_total", "Events written to dead-letter topics.", "topic", "reason")
        self._lag = gauge(
            "lag_records", "Records between the stored position and the end of the partition.", "topic", "partition"
        )
        self._latency = Histogram(
            "parcours_latency_seconds", "From a record's Kafka timestamp to its commit in Redis.",
            buckets=_LATENCY, registry=registry,
        )  # fmt: skip
        self._commit = Histogram(
            "parcours_commit_seconds", "How long one commit to Redis took.", buckets=_COMMIT, registry=registry
        )
        self._watermark = gauge(
            "watermark_timestamp_seconds",
            "How far event time has certainly come; absent until it is known.",
            "partition",
        )
        self._last_event = gauge("last_event_timestamp_seconds", "The highest occurred_at seen.", "topic")
        self._rewinds = counter("rewinds_total", "Times a partition was read again from its stored position.")
        self._fenced = counter("fenced_total", "Commits refused because the partition was claimed anew.")
        self._claims = counter("claims_total", "Partitions claimed.")
        self._restatements = counter("restatements_total", "Conversions published again with other credits.")
        self._attributions = counter("attributions_total", "Attributions published, by status.", "status")
        self._redis_retries = counter("redis_retries_total", "Calls to Redis that found it away and were made again.")
        self._config = gauge("config_info", "1; the configuration this worker runs with.", "hash", "number")
        self._epoch = gauge("leader_epoch", "The epoch in which this worker became leader; 0 while it is not.")
        self._gap = gauge(
            "gap", "1 while the log lacks the records that a partition must read next.", "topic", "partition"
        )
        self._alerts = counter(
            "alert_notices_total", "Notices of alerts by the way they went and what became of them: sent, again, failed.",
            "way", "outcome",
        )  # fmt: skip
        for way in ("kafka", "webhook"):  # from 0 on, so that the first of them is an increase
            for outcome in ("sent", "again", "failed"):
                self._alerts.labels(way, outcome)
        self._senders: dict[tuple[str, str], Counter] = {}
        self._sources: dict[str, int] = {}
        self._rejects: dict[tuple[str, str], tuple[Counter, Counter, Counter]] = {}
        self._drops: dict[str, Counter] = {}
        self._statuses: dict[str, Counter] = {}
        self._partitions: dict[int, Counter] = {}
        self._times: dict[str, int] = {}

    def rejected(self, topic: str, code: str, n: int = 1) -> None:
        """Records were refused by ingest and are in the dead letters."""
        found = self._rejects.get((topic, code))
        if found is None:
            found = self._rejects[topic, code] = (
                self._events.labels(topic, NONE, code),
                self._dropped.labels(code),
                self._letters.labels(topic, code),
            )
        for child in found:
            child.inc(n)

    def accepted(self, topic: str, senders: Tally[str]) -> None:
        """Records accepted, by the tracker that sent them ("" when it does not say)."""
        for source, n in senders.items():
            child = self._senders.get((topic, source))
            if child is None:
                child = self._sender(topic, source)
            child.inc(n)

    def _sender(self, topic: str, source: str) -> Counter:
        known = self._sources.get(topic, 0)
        if known >= SOURCES_MAX:
            # Not cached under its own name: hostile names without end must not fill memory.
            return self._events.labels(topic, OTHER, ACCEPTED)
        self._sources[topic] = known + 1
        child = self._events.labels(topic, clean(source) or NONE, ACCEPTED)
        self._senders[topic, source] = child
        return child

    def event_time(self, topic: str, t_us: int) -> None:
        """The highest event time of one partition of a topic, in microseconds."""
        if t_us > self._times.get(topic, NEVER):
            self._times[topic] = t_us
            self._last_event.labels(topic).set(t_us / 1e6)

    def committed(self, seconds: float) -> None:
        """One commit to Redis was answered."""
        self._commit.observe(seconds)

    def applied(self, partition: int, count: int, progress: Progress, published: Iterable[int]) -> None:
        """A chunk is in Redis: its entries, and the Kafka timestamps (ms; 0 is unknown) its blocks came from."""
        child = self._partitions.get(partition)
        if child is None:
            child = self._partitions[partition] = self._applied.labels(partition)
        child.inc(count)
        if progress.watermark != NEVER:
            self._watermark.labels(partition).set(progress.watermark / 1e6)
        now = time.time()
        for ms in published:
            if ms:
                self._latency.observe(max(0.0, now - ms / 1000))

    def dropped(self, reason: str, n: int = 1) -> None:
        """Entries had no effect: a code of the error catalogue, or duplicate, redelivered, trimmed, ignored."""
        child = self._drops.get(reason)
        if child is None:
            child = self._drops[reason] = self._dropped.labels(reason)
        child.inc(n)

    def filtered(self, name: str, n: int = 1) -> None:
        """Events were removed by this filter."""
        self._filtered.labels(name).inc(n)

    def dead_letter(self, topic: str, reason: str, n: int = 1) -> None:
        """Stitch sent entries to the dead letters."""
        self._letters.labels(topic, reason).inc(n)

    def published(self, status: str, n: int = 1) -> None:
        """Attributions were published."""
        child = self._statuses.get(status)
        if child is None:
            child = self._statuses[status] = self._attributions.labels(status)
        child.inc(n)
        if status == "restated":
            self._restatements.inc(n)

    def rewind(self) -> None:
        """A partition is read again from its stored position."""
        self._rewinds.inc()

    def fenced(self) -> None:
        """A commit was refused: the partition was claimed anew."""
        self._fenced.inc()

    def claim(self) -> None:
        """A partition was claimed."""
        self._claims.inc()

    def redis_away(self) -> None:
        """A call found Redis away and will be made again."""
        self._redis_retries.inc()

    def lag(self, topic: str, partition: int, n: int) -> None:
        """Records still to be read."""
        self._lag.labels(topic, partition).set(n)

    def released(self, topic: str, partition: int) -> None:
        """A partition is no longer ours: its gauges go, so that nothing stale is scraped."""
        with suppress(KeyError):
            self._lag.remove(topic, partition)
        with suppress(KeyError):
            self._gap.remove(topic, partition)
        if topic == JOURNEY:
            with suppress(KeyError):
                self._watermark.remove(partition)

    def config(self, digest: str, number: int) -> None:
        """The configuration now in use, in place of any before."""
        self._config.clear()
        self._config.labels(digest, number).set(1)

    def leader(self, epoch: int | None) -> None:
        """The epoch in which this worker became leader; None when it is not."""
        self._epoch.set(epoch or 0)

    def gap(self, topic: str, partition: int, missing: bool = True) -> None:
        """The log lacks what the partition must read next (or, with `missing` False, does no more)."""
        self._gap.labels(topic, partition).set(int(missing))

    def alert(self, way: str, outcome: str) -> None:
        """A notice of an alert was sent, is to be tried again, or was given up."""
        self._alerts.labels(way, outcome).inc()

    def render(self) -> bytes:
        """All of it in the text format."""
        return generate_latest(self.registry)
