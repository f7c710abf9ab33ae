"""The batch transport: Faust's aiokafka driver, delivering one event per partition per fetch.

`streams.batch` reads whole fetches in the consumer's thread, `streams.claims` knows where each partition stands, this
module delivers to Faust's streams and watches over what was delivered.

Facts about Faust 0.15.3 that shape it, each held by tests/stream/test_transport_contract.py: a seek in
`on_partitions_assigned` is undone by `perform_seek()`, hence `seek_to_committed`; the flow is stopped from a revocation
until after that; streams drop events of an older generation unacknowledged, and queues are cleared without
acknowledging, hence `stream_wait_empty=False`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Any, cast

from aiokafka.errors import KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError
from faust.transport.consumer import ensure_TP
from faust.transport.drivers import TRANSPORTS
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage
from mode import Service

from models.settings import Infrastructure
from streams.batch import Batch, Positions, RawSchema
from streams.claims import ClaimingConsumer, Partition
from streams.security import faust_credentials

__all__ = ["SCHEME", "Batch", "Consumer", "Positions", "RawSchema", "Transport", "app_settings", "register"]

SCHEME = "batch"


class Consumer(ClaimingConsumer):
    """One per worker, as `app.consumer`. All methods are for the application's event loop."""

    stall_seconds = 5.0  # delivered work neither done nor under way for so long is fetched again
    watch_seconds = 0.5
    max_outstanding = 2  # batches of one partition delivered and not done: one worked, one waiting
    max_outstanding_bytes = 16 << 20  # of all partitions together

    async def _drain_messages(self, fetcher: Any) -> None:
        try:
            while not (self._stopped.is_set() or fetcher._stopped.is_set()):
                if self.flow_active:
                    await self._deliver(await self._poll())
                else:
                    await self.wait(self.can_resume_flow)
                await asyncio.sleep(0)
        except (*self.consumer_stopped_errors, asyncio.CancelledError):
            if not self.app.should_stop:
                raise

    async def _poll(self) -> Mapping[TP, Batch]:
        self._room.clear()
        ready = {
            tp for tp, part in self._parts.items() if part.claimed and len(part.outstanding) < self.max_outstanding
        }
        if sum(batch.size for part in self._parts.values() for batch in part.outstanding) > self.max_outstanding_bytes:
            ready = set()
        try:
            if not ready:
                await self._thread.getmany(ready, 0.0)
                await self.wait(self._room, timeout=0.5)
                return {}
            # A partition that is not asked for now may be ready soon, and its records are perhaps here already.
            timeout = 1.0 if len(ready) == len(self.assignment()) else 0.05
            return cast("Mapping[TP, Batch]", await self._thread.getmany(ready, timeout))
        except OffsetOutOfRangeError as error:
            for partition, offset in error.args[0].items():
                await self._out_of_range(ensure_TP(partition), offset)
        except NoOffsetForPartitionError as error:
            # A claimed partition has been sought: this is left over from before its claim.
            self.log.info("Fetch without a position: %r", error)
        except KafkaError:
            # aiokafka has moved its position over what it fetched and didn't hand out (a corrupt batch, one that is too
            # large, others of the same poll): none of its positions is to be believed.
            self.log.exception("Fetch failed; reading again from the stored positions")
            for tp in self.claimed:
                self._start(*self._claim_again(tp, self.retry_seconds))
        return {}

    async def _out_of_range(self, tp: TP, offset: int) -> None:
        state, part = self._thread.partition_state(tp), self._part(tp)
        if not part.claimed or state is None or not state.has_valid_position or state.position != offset:
            return  # rewound since
        session = part.session
        try:
            async with asyncio.timeout(self.app.conf.broker_session_timeout):
                earliest: int | None = (await self.earliest_offsets(tp))[tp]
        except (KafkaError, TimeoutError):
            earliest = None
        if part.session == session:
            await self._stop_at_gap(part, offset, earliest)

    async def _deliver(self, batches: Mapping[TP, Batch]) -> None:
        fresh = [batch for batch in batches.values() if self.current(batch)]
        for batch in fresh:
            # Before any await: what is not delivered after all is seen by the watchdog.
            part = self._parts[batch.tp]
            part.outstanding.append(batch)
            part.received += 1
            part.stalled = 0
            if batch.highwater is not None:
                self.app.monitor.track_tp_end_offset(batch.tp, batch.highwater)
        for batch in fresh:
            if not self.flow_active:
                return
            if self.current(batch):
                try:
                    await self.wait_first(self.callback(self._message(batch)), self.suspend_flow.wait())
                except Exception:
                    self.log.exception("%s: delivery failed", batch.tp)

    def _message(self, batch: Batch) -> ConsumerMessage:
        tp, last = batch.tp, batch.records[-1]
        return ConsumerMessage(
            topic=tp.topic,
            partition=tp.partition,
            offset=last.offset,
            timestamp=last.timestamp / 1000,
            timestamp_type=last.timestamp_type,
            headers=(),
            key=None,
            value=cast(Any, batch),
            checksum=None,
            tp=tp,
            generation_id=batch.generation,
        )

    @Service.task
    async def _watchdog(self) -> None:
        """Fetch again what was delivered and is neither done nor under way; claim what is assigned and not claimed."""
        while not self.should_stop:
            await self.sleep(self.watch_seconds)
            if not self.flow_active or self.app.rebalancing or self.should_stop:
                continue
            for tp in self.assignment():
                await self._watch(self._part(tp))

    async def _watch(self, part: Partition) -> None:
        tp, idle = part.tp, part.task is None or part.task.done()
        if not part.claimed:
            if idle and not part.stopped:
                self.log.warning("%s is assigned and not claimed; claiming", tp)
                self._start(*self._claim_again(tp))
        elif part.outstanding and not part.busy:
            # In rounds, not by the clock: a worker that gets no CPU has not lost what it had no time to begin.
            part.stalled += 1
            part.beyond = 0
            if part.stalled * self.watch_seconds <= self.stall_seconds:
                return
            self._report("watchdog", tp)
            self.log.warning("%s: %s batches neither done nor under way; reading again", tp, len(part.outstanding))
            self._start(*self._claim_again(tp))
        elif idle:
            # A log shorter than the position: it was truncated or made anew. Not every broker answers such a fetch with
            # an error, and reading on once the log has grown so long would skip what comes before.
            _, highwater, read = self._ends(tp)
            part.beyond = part.beyond + 1 if highwater is not None and read is not None and read > highwater else 0
            if part.beyond > 1:
                await self._stop_at_gap(part, part.position, None)

    # -- what Faust keeps per message

    def _new_offset(self, tp: TP) -> int | None:
        # Acknowledging only says that Faust is through with an event; `done` says what is applied.
        self._acked[tp].clear()
        self._acked_index[tp].clear()
        part = self._part(tp)
        offset, part.committable = part.committable, None
        return offset

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Nothing: Faust's own check takes a partition that waits for Redis for a bug. The watchdog is ours."""


class Transport(driver.Transport):
    """What a `batch://` URL names."""

    Consumer = Consumer  # type: ignore[assignment]


def register() -> None:
    """Make the scheme known without the package's entry point (a checkout that is not installed)."""
    TRANSPORTS.aliases.setdefault(SCHEME, f"{Transport.__module__}:{Transport.__qualname__}")


def app_settings(infra: Infrastructure) -> dict[str, Any]:
    """The arguments of `faust.App` this transport needs, and those that come from `infra`."""
    brokers = [re.sub(r"^(\w+://)?", f"{SCHEME}://", url.strip()) for url in infra.kafka_url.split(";") if url.strip()]
    return {
        "id": infra.app_id,
        "broker": ";".join(brokers),
        "broker_credentials": faust_credentials(infra),
        "broker_session_timeout": infra.session_timeout,
        "broker_heartbeat_interval": infra.heartbeat_interval,
        "broker_rebalance_timeout": infra.rebalance_timeout,
        "broker_max_poll_interval": 120.0,
        "broker_max_poll_records": infra.max_poll_records,
        "broker_commit_interval": 1.0,
        # Out of range stops a partition; aiokafka would otherwise reset silently inside its fetcher.
        "consumer_auto_offset_reset": "none",
        "consumer_max_fetch_size": 1 << 20,
        "stream_buffer_maxsize": 16,
        "stream_wait_empty": False,
        # 0 selects an assignor that doesn't co-partition.
        "table_standby_replicas": 1,
        "topic_disable_leader": True,
        "topic_allow_declare": False,
        "autodiscover": False,
        "datadir": str(infra.data_dir),
        "web_host": infra.web_host,
        "web_bind": infra.web_host,
        "web_port": infra.web_port,
        "web_tables_enabled": False,
        "web_router_enabled": False,
    }
