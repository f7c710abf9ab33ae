"""What the batch transport takes for granted in Faust and aiokafka beyond their documented interfaces.

When one of these fails after an upgrade, read the changed source and `streams/transport.py` side by side before
changing the expectation here.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import inspect
from collections import OrderedDict, deque
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import faust
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.consumer.fetcher import Fetcher, OffsetResetStrategy
from aiokafka.consumer.subscription_state import Assignment, SubscriptionState, TopicPartitionState
from aiokafka.errors import ConsumerStoppedError, IllegalStateError, KafkaError, OffsetOutOfRangeError
from faust.app.base import App
from faust.tables.recovery import Recovery
from faust.transport import consumer as base
from faust.transport.conductor import Conductor
from faust.transport.drivers import TRANSPORTS
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage
from mode.threads import QueueServiceThread

from models.settings import Infrastructure
from streams import claims, transport
from streams.batch import FetchThread

Thread = driver.AIOKafkaConsumerThread


def test_versions() -> None:
    assert importlib.metadata.version("faust-streaming") == "0.15.3"
    assert importlib.metadata.version("aiokafka").startswith("0.14.")


# Overridden by us or called across the public line: parameters, and for Faust, which is pinned, the first 12 digits of
# the source's SHA-256.
SIGNATURES: list[tuple[Any, str, str | None]] = [
    # overridden
    (driver.Consumer._new_consumer_thread, "(self)", "0870ec53dea7"),
    (base.ThreadDelegateConsumer.__init__, "(self, *args, **kwargs)", "7072ae80eac1"),
    (base.ThreadDelegateConsumer.seek_to_committed, "(self)", None),
    (base.Consumer.on_partitions_revoked, "(self, revoked)", "d04b7ae72c6f"),
    (base.Consumer.on_stop, "(self)", "45b1d2210ce2"),
    (base.Consumer._drain_messages, "(self, fetcher)", "44a2500309e8"),
    (base.Consumer._new_offset, "(self, tp)", "1d2c7ea89a7a"),
    (driver.Consumer.verify_event_path, "(self, now, tp)", "a17e8f0610e1"),
    (Thread.__post_init__, "(self)", "913dc7c0d957"),
    (Thread._create_worker_consumer, "(self, transport)", "c2701bfc3e6f"),
    (Thread._fetch_records, "(self, consumer, active_partitions, timeout=None, max_records=None)", "39a2c6c79fc1"),
    (Thread._commit, "(self, offsets)", "932852ce7a23"),
    # called
    (Thread.getmany, "(self, active_partitions, timeout)", "26fc5fc9f3b6"),
    (Thread._ensure_consumer, "(self)", "ff4a4c693b7e"),
    (Thread.assignment, "(self)", "61f105132ae6"),
    (base.ThreadDelegateConsumer.earliest_offsets, "(self, *partitions)", "2833b09d2888"),
    (QueueServiceThread.call_thread, "(self, fun, *args, **kwargs)", None),
    (driver.ensure_aiokafka_TP, "(tp)", "8bab82bf8643"),
    (base.ensure_TP, "(tp)", "62a2822ff531"),
    # relied on: the order of a rebalance, and who may commit what
    (base.Consumer.perform_seek, "(self)", "0e8c130ff4b0"),
    (base.Consumer.stop_flow, "(self)", "cf7e875a2b0d"),
    (base.Consumer.resume_flow, "(self)", "db59630f25b5"),
    (Recovery._resume_streams, "(self, generation_id=0)", "d986a6710c1a"),
    (App._on_partitions_revoked, "(self, revoked)", "d5c895bbe57d"),
    (App._on_partitions_assigned, "(self, assigned, generation_id=0)", "de932b7927db"),
    (base.Consumer._filter_tps_with_pending_acks, "(self, topics=None)", "f6f923977423"),
    (base.Consumer._should_commit, "(self, tp, offset)", "5ce941793947"),
    # aiokafka
    (Fetcher.fetched_records, "(self, partitions, timeout=0, max_records=None)", None),
    (AIOKafkaConsumer.seek, "(self, partition, offset)", None),
    (AIOKafkaConsumer.pause, "(self, *partitions)", None),
    (AIOKafkaConsumer.resume, "(self, *partitions)", None),
    (AIOKafkaConsumer.commit, "(self, offsets=None)", None),
    (SubscriptionState.fetch_context, "(self)", None),
    (Assignment.state_value, "(self, tp)", None),
]


@pytest.mark.parametrize(
    ("function", "signature", "digest"), SIGNATURES, ids=[function.__qualname__ for function, _, _ in SIGNATURES]
)
def test_private_interface(function: Any, signature: str, digest: str | None) -> None:
    found = inspect.signature(function)
    bare = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in found.parameters.values()]
    assert str(found.replace(parameters=bare, return_annotation=inspect.Signature.empty)) == signature
    if digest is not None:
        assert hashlib.sha256(inspect.getsource(function).encode()).hexdigest()[:12] == digest


def test_overrides_keep_the_parameters_of_what_they_override() -> None:
    checked = 0
    pairs = ((transport.Consumer, driver.Consumer), (claims.ClaimingConsumer, driver.Consumer), (FetchThread, Thread))
    for ours, theirs in pairs:
        for name, function in vars(ours).items():
            if name.startswith("__") and name != "__post_init__":
                continue
            assert not (isinstance(function, property) and hasattr(theirs, name)), name
            if inspect.isfunction(function) and hasattr(theirs, name):
                assert list(inspect.signature(function).parameters) == list(
                    inspect.signature(getattr(theirs, name)).parameters
                ), name
                checked += 1
    assert checked == 11


def test_the_scheme_names_the_transport() -> None:
    transport.register()
    assert TRANSPORTS.by_url("batch://127.0.0.1:9092") is transport.Transport
    assert transport.Transport.Consumer is transport.Consumer
    pyproject = (Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8")
    assert f'{transport.SCHEME} = "{TRANSPORTS.aliases[transport.SCHEME]}"' in pyproject


def test_settings_are_those_of_faust() -> None:
    infra = Infrastructure(kafka_url="kafka://one:9092; two:9093", app_id="shop", session_timeout=11.0)
    settings = transport.app_settings(infra)
    conf = faust.App(**settings).conf
    assert conf.id == "shop"
    assert [str(url) for url in conf.broker] == ["batch://one:9092", "batch://two:9093"]
    plain = set(settings) - {"id", "broker", "datadir"}
    assert {name: getattr(conf, name) for name in plain} == {name: settings[name] for name in plain}
    assert conf.broker_session_timeout == 11.0 <= conf.broker_request_timeout
    assert set(settings) - {"id"} <= set(conf.SETTINGS)  # Faust takes unknown names without a word
    assert OffsetResetStrategy.from_str(settings["consumer_auto_offset_reset"]) == OffsetResetStrategy.NONE


def test_faust_and_aiokafka_partitions_are_equal_as_keys() -> None:
    assert {TP("clicks", 1): "x"}[TopicPartition("clicks", 1)] == "x"
    assert {TopicPartition("clicks", 1): "x"}[TP("clicks", 1)] == "x"


def test_errors_of_a_poll() -> None:
    assert not issubclass(ConsumerStoppedError, KafkaError)
    assert issubclass(IllegalStateError, KafkaError)
    assert OffsetOutOfRangeError({TopicPartition("clicks", 1): 7}).args[0] == {TopicPartition("clicks", 1): 7}


async def test_an_empty_selection_means_all_partitions_to_aiokafka() -> None:
    """Why the transport never polls with one, and copies the selection it polls with."""
    partitions = [TopicPartition("clicks", p) for p in range(2)]
    result = type("FetchResult", (), {"getall": lambda self, n: ["record"], "has_more": lambda self: False})

    async def poll(selected: set[TopicPartition]) -> set[TopicPartition]:
        fetcher: Any = SimpleNamespace(
            _records=OrderedDict((partition, result()) for partition in partitions),
            _subscriptions=SimpleNamespace(reassignment_in_progress=False, is_assigned=lambda tp: True),
            _notify=lambda future: None,
            _wait_consume_future=None,
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("aiokafka.consumer.fetcher.FetchResult", result)
            return set(await Fetcher.fetched_records(fetcher, selected, 0, max_records=10))

    assert await poll({partitions[1]}) == {partitions[1]}
    assert await poll(set()) == set(partitions)


async def test_partition_state_of_aiokafka() -> None:
    partition = TopicPartition("clicks", 0)
    assignment = Assignment({partition})
    state = assignment.state_value(partition)
    assert isinstance(state, TopicPartitionState)
    assert assignment.state_value(TopicPartition("clicks", 9)) is None
    assert (state.has_valid_position, state.highwater, state.paused) == (False, None, False)
    state.seek(5)
    assert (state.has_valid_position, state.position) == (True, 5)


async def test_attributes_of_a_consumer_that_was_not_started(tmp_path: Path) -> None:
    settings = transport.app_settings(Infrastructure(data_dir=tmp_path))
    transport.register()
    app = faust.App(**settings | {"web_enabled": False})
    consumer: Any = app.consumer
    assert isinstance(consumer, transport.Consumer)
    assert isinstance(consumer._thread, FetchThread)
    assert isinstance(app.topics, Conductor)
    assert app.consumer_generation_id == 0
    for name in ("flow_active", "can_resume_flow", "suspend_flow", "callback", "_committed_offset", "_acked_index"):
        assert hasattr(consumer, name)
    kafka = consumer._thread._create_worker_consumer(app.transport)
    kafka._closed = True  # never started: nothing to close
    assert kafka._fetch_max_wait_ms < 1500
    assert "fetch_max_wait_ms=self._fetch_max_wait_ms" in inspect.getsource(AIOKafkaConsumer.start)


async def test_a_message_is_acknowledged_once_and_nothing_is_committed_for_it(tmp_path: Path) -> None:
    transport.register()
    app = faust.App(**transport.app_settings(Infrastructure(data_dir=tmp_path)) | {"web_enabled": False})
    consumer: Any = app.consumer
    tp = TP("clicks", 0)
    app.topics._acking_topics.add("clicks")
    message = ConsumerMessage("clicks", 0, 41, 0.0, 0, (), None, None, None, tp=tp, generation_id=0)
    message.incref(1)
    assert message.ack(consumer) is True
    assert message.ack(consumer) is False
    assert list(consumer._filter_tps_with_pending_acks()) == [tp]
    assert consumer._filter_committable_offsets([tp]) == {}
    part = consumer._part(tp)
    part.outstanding, part.committable = deque(), 42
    assert consumer._filter_committable_offsets([tp]) == {tp: 42}
    assert consumer._filter_committable_offsets([tp]) == {}
