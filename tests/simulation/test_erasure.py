"""After a forget event nothing tells of the person any more: not in Redis, by any key, value or dump, nor in `attributions`, the API or the log
of the workers. Whenever the event comes, and after a rebuild, a retry or a loss of Redis."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import pytest
import redis as blocking_redis
from faust.types import TP
from pydantic import SecretStr

from attribution.forgetting import Forgotten
from attribution.pseudonyms import keyed_hash
from models.errors import ConfigError
from models.results import FORGOTTEN
from models.settings import Conversion, Marketing, Topics
from streams.api import Wanted
from streams.codec import Names, unpack_cell
from streams.embedded import RedisServer
from streams.forgetting import check_forget_key
from streams.journeys import keys_of
from streams.tables import connect
from streams.testing import Driver

KEY = "a key for this test"
MARKETING = Marketing(
    topics=Topics(clicks=1, touchpoints=2, purchases=1, costs=1, journey_events=3),
    conversions={"signup": Conversion()},
    history_since="2024-01-01",
)
CUSTOMER, DEVICE, PHONE, TABLET = "anna-4711", "laptop-of-anna", "phone-of-anna", "tablet-of-all"
ORDERS = ("order-8001", "order-8002", "order-8003")
EVENTS = tuple(f"event-of-anna-{n}" for n in range(20))
NEIGHBOUR = {"customer_id": "bert-9000"}
WHO: dict[str, Any] = {"customer_id": CUSTOMER}
SOURCES = (
    {"channel": "Paid Search", "network": "google", "campaign": "brand"},
    {"channel": "Email", "campaign": "news"},
    {"channel": "Paid Social", "network": "facebook", "campaign": "spring"},
)


def at(day: int, minute: int = 0) -> str:
    return f"2026-03-{day:02d}T10:{minute:02d}:00Z"


def anna() -> list[tuple[str, dict[str, Any]]]:
    """Everything there can be of one person: two devices of hers and one that is shared, logins, orders reported by a pixel and by a server, a
    refund, a stage, an answer, an engagement."""
    one, two, shared = {"anonymous_id": DEVICE}, {"anonymous_id": PHONE}, {"anonymous_id": TABLET}
    order = {"type": "order", "currency": "EUR"}
    bodies: list[tuple[str, dict[str, Any]]] = [
        ("clicks", {**one, **SOURCES[0], "occurred_at": at(1), "click_id": "click-id-of-anna", "cost": "0.5"}),
        ("touchpoints", {**one, **SOURCES[1], "occurred_at": at(1, 5), "type": "visit"}),
        ("touchpoints", {**two, **SOURCES[2], "occurred_at": at(2), "type": "impression"}),
        ("touchpoints", {**one, **WHO, "occurred_at": at(3), "type": "identify"}),
        ("clicks", {**two, **SOURCES[2], "occurred_at": at(3, 5)}),
        ("touchpoints", {**two, **WHO, "occurred_at": at(4), "type": "visit"}),
        ("purchases", {**one, **order, "occurred_at": at(5), "order_id": ORDERS[0], "revenue": "99.99"}),
        (
            "purchases",
            {**WHO, **order, "occurred_at": at(5, 1), "order_id": ORDERS[0], "revenue": "99.99", "source": "shop"},
        ),
        ("purchases", {**two, **order, "occurred_at": at(6), "order_id": ORDERS[1], "revenue": "50.01"}),
        ("purchases", {**WHO, **order, "occurred_at": at(7), "order_id": ORDERS[2], "revenue": "10", "margin": "3"}),
        ("purchases", {"occurred_at": at(8), "type": "refund", "order_id": ORDERS[1], "amount": "7.5"}),
        ("touchpoints", {**WHO, "occurred_at": at(8, 5), "type": "stage", "stage": "signup"}),
        ("touchpoints", {**WHO, "occurred_at": at(9), "type": "survey_response", "question": "nps", "score": 9}),
        ("touchpoints", {**two, **SOURCES[1], "occurred_at": at(9, 5), "type": "engagement", "kind": "share"}),
        ("touchpoints", {**shared, **WHO, "occurred_at": at(10), "type": "identify"}),
        ("touchpoints", {**shared, **SOURCES[1], "occurred_at": at(10, 5), "type": "visit"}),
    ]
    return [(topic, {"event_id": event_id, **body}) for event_id, (topic, body) in zip(EVENTS, bodies, strict=False)]


def bert() -> list[tuple[str, dict[str, Any]]]:
    """A neighbour with an order, who has used the shared device too."""
    order = {"type": "order", "currency": "EUR", "order_id": "bert-1", "revenue": "20"}
    bodies = [
        ("clicks", {**NEIGHBOUR, **SOURCES[0], "occurred_at": at(1)}),
        ("touchpoints", {**NEIGHBOUR, "anonymous_id": TABLET, "occurred_at": at(11), "type": "identify"}),
        ("touchpoints", {"anonymous_id": TABLET, **SOURCES[2], "occurred_at": at(11, 9), "type": "visit"}),
        ("purchases", {**NEIGHBOUR, **order, "occurred_at": at(12)}),
    ]
    return [(topic, {"event_id": f"bert {n}", **body}) for n, (topic, body) in enumerate(bodies)]


FORGET = ("touchpoints", {"event_id": "please", "type": "forget", "occurred_at": at(13), **WHO})
IDS = (CUSTOMER, DEVICE, PHONE, TABLET, *ORDERS, *EVENTS, "click-id-of-anna", "please")


def traces() -> list[tuple[str, bytes]]:
    """The person's ids and every hash of them that can be tried without the key, as text and as raw bytes."""
    found = []
    for name in IDS:
        for text in (name, f"c:{name}", f"a:{name}", f"o:{name}", f"q:{name}", f"e:{name}"):
            found.append((text, text.encode()))
            for make in (hashlib.md5, hashlib.sha1, hashlib.sha256, hashlib.sha512, hashlib.blake2b, hashlib.blake2s):
                digest = make(text.encode()).digest()
                # A prefix is enough to know somebody by.
                found += [(f"{make.__name__} of {text}", part) for part in (digest[:16], digest.hex()[:16].encode())]
            short = hashlib.blake2b(text.encode(), digest_size=16).digest()
            found += [(f"blake2b-16 of {text}", part) for part in (short, short.hex().encode())]
    return found


TRACES = traces()


def scan(places: Iterator[tuple[str, bytes]]) -> list[tuple[str, str]]:
    """(place, trace) wherever one is found."""
    held = list(places)
    whole = b"\0\0".join(content for _, content in held)
    found = [(name, trace) for name, trace in TRACES if trace in whole]
    return [(place, name) for place, content in held for name, trace in found if trace in content]


def stored(driver: Driver, redis: RedisServer) -> Iterator[tuple[str, bytes]]:
    """Every key with what a client reads of it and what a replica would be sent, and the file that a backup would take."""
    store = driver.store
    readers: dict[bytes, Callable[[bytes], Any]] = {
        b"string": store.get, b"hash": store.hgetall, b"set": store.smembers, b"zset": lambda key: store.zrange(key, 0, -1),
    }  # fmt: skip
    for key in store.keys("*"):
        yield f"key {key!r}", key
        value = readers[store.type(key)](key)
        if isinstance(value, dict):
            value = [*value.keys(), *value.values()]
        for part in [value] if isinstance(value, bytes) else value:
            yield f"value of {key!r}", part
        yield f"dump of {key!r}", store.dump(key)
    store.config_set("rdbcompression", "no")
    store.save()
    yield "the dump file", (redis.directory / store.config_get("dbfilename")["dbfilename"]).read_bytes()


def compacted(driver: Driver) -> Iterator[tuple[str, bytes]]:
    """What compaction leaves of `attributions`."""
    newest = {record.key: record for record in driver.cluster.read("attributions")}
    for record in newest.values():
        if record.value is not None:
            yield f"attribution {record.key!r}", record.key + b" " + record.value


def answers(driver: Driver) -> Iterator[tuple[str, bytes]]:
    """What the API of each worker says of each id, and of everybody; and the metrics."""
    for worker in driver.workers.values():
        runtime = worker.app.runtime
        for key in dict.fromkeys(key for name in (*IDS, NEIGHBOUR["customer_id"]) for key in (name, *keys_of(name))):
            found = driver.loop.run_until_complete(runtime.find_journey(key))
            if found is not None:
                yield f"journey of {key}", found
        yield "metrics", runtime.exposition()
        yield "status", json.dumps([runtime.status(), runtime.problems()]).encode()
        yield "overview", driver.loop.run_until_complete(runtime.api.overview(Wanted())) or b""


def pipe(driver: Driver, *events: tuple[str, dict[str, Any]]) -> None:
    for topic, body in events:
        driver.pipe_in(topic, json.dumps(body).encode())


def everything(driver: Driver) -> None:
    """All events, the anonymous first: then what is published of devices moves on when the logins come."""
    events = [*anna(), *bert()]
    for anonymous in (True, False):
        pipe(driver, *(event for event in events if ("customer_id" not in event[1]) == anonymous))
        driver.run_until_settled()


def nothing_is_left(driver: Driver, redis: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    """No trace anywhere; and the person is on the list of each partition, by a hash that only the key gives."""
    assert scan(stored(driver, redis)) == []
    assert scan(compacted(driver)) == []
    assert scan(answers(driver)) == []
    assert scan(iter([("log", caplog.text.encode())])) == []
    for partition in range(3):
        listed = driver.store.smembers(f"{{parcours:{driver.generation}:{partition}}}forgotten")
        for key in (f"c:{CUSTOMER}", f"a:{DEVICE}", f"a:{PHONE}", f"a:{TABLET}"):
            assert Forgotten(KEY.encode()).hash(key) in listed, (partition, key)


def of_bert(driver: Driver) -> dict[str, Any]:
    """What is known of the neighbour: the order, and who is credited."""
    (order,) = [one for one in driver.attributions().values() if one["person"] == "c:bert-9000"]
    return {model: [credit["touch_id"] for credit in credits] for model, credits in order["credits"].items()}


def sums(driver: Driver) -> Counter[Any]:
    """The amounts in stored day cells by bucket, dims and measure."""
    found: Counter[Any] = Counter()
    for partition in range(3):
        tag = f"{{parcours:{driver.generation}:{partition}}}"
        names = Names({int(number): name for number, name in driver.store.hgetall(f"{tag}names").items()})
        for key in driver.store.keys(f"{tag}r:[cd]:*"):
            for number, packed in driver.store.hgetall(key).items():
                for measure, amount in unpack_cell(packed, names).items():
                    found[key.rpartition(b":r:")[2], names.value(int(number)), measure] += amount
    return Counter({key: amount for key, amount in found.items() if amount})


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO)
    caplog.set_level(logging.DEBUG, "streams")
    return caplog


def started(redis: RedisServer, seed: int = 0) -> Driver:
    return Driver(MARKETING, redis, seed=seed, forget_key=KEY, refresh_interval=0.5)


def test_the_scan_finds_what_is_there_before(redis: RedisServer, log: pytest.LogCaptureFixture) -> None:
    """All of it is stored before the event, so that finding nothing after it means something."""
    with started(redis) as driver:
        driver.start("a")
        everything(driver)
        found = {trace for _, trace in scan(stored(driver, redis))}
        assert {
            f"c:{CUSTOMER}",
            f"a:{DEVICE}",
            f"a:{PHONE}",
            f"a:{TABLET}",
            *(f"o:{order}" for order in ORDERS),
        } <= found
        assert {trace for _, trace in scan(compacted(driver))} >= {
            f"c:{CUSTOMER}",
            f"a:{DEVICE}",
            f"o:{ORDERS[0]}",
            EVENTS[0],
        }
        assert {trace for _, trace in scan(answers(driver))} >= {f"c:{CUSTOMER}", f"a:{DEVICE}"}
        assert all(credits == ["bert 2"] for model, credits in of_bert(driver).items() if model == "last_touch")


def test_after_it_nothing_is_left_and_the_sums_stay(redis: RedisServer, log: pytest.LogCaptureFixture) -> None:
    with started(redis) as driver:
        driver.start("a")
        everything(driver)
        before = sums(driver)
        pipe(driver, FORGET)
        driver.run_until_settled()
        nothing_is_left(driver, redis, log)
        # The shared tablet was hers too: what it gave the neighbour is gone, and his own click is credited.
        assert of_bert(driver)["last_touch"] == ["bert 0"]
        left = [one for one in driver.attributions().values() if one["person"] == FORGOTTEN]
        assert sorted((one["conversion"], one["revenue_net"]) for one in left) == [
            ("purchase", "10"), ("purchase", "42.51"), ("purchase", "99.99"), ("signup", "0"),
        ]  # fmt: skip
        assert all(one["order_id"] is None and one["conversion_id"].startswith("f:") for one in left)
        after = sums(driver)
        for name in (
            "orders",
            "revenue_net",
            "refunds",
            "conversions",
            "attributed_net",
            "clicks",
            "click_cost",
            "impressions",
        ):
            per_day = [Counter(), Counter()]
            for total, cells in zip(per_day, (before, after), strict=True):
                for (day, _, measure), amount in cells.items():
                    if measure[0] == name and measure[3] != "touch":
                        total[day, measure] += amount
            assert per_day[0] == per_day[1] != Counter(), name


@pytest.mark.parametrize("seed", range(9))
def test_whenever_the_event_comes(redis: RedisServer, log: pytest.LogCaptureFixture, seed: int) -> None:
    """First, last and between, with two workers, events and moves in any order, all of it twice; and after a rebuild."""
    rng = Random(seed)
    events = [*anna(), *bert()]
    rng.shuffle(events)
    events.insert((0, len(events), rng.randrange(len(events)))[seed % 3], FORGET)
    events += rng.sample(events, len(events))
    with started(redis, seed) as driver:
        driver.start("a")
        driver.start("b")
        while events:
            n = rng.choice((1, 3, 10))
            pipe(driver, *events[:n])
            del events[:n]
            driver.advance(rng.choice((0.0, 0.05, 0.5, 5.0)))
        driver.run_until_settled()
        nothing_is_left(driver, redis, log)
        assert of_bert(driver)["last_touch"] == ["bert 0"]
        assert driver.dead_letters() == set()

        for name in ("a", "b"):
            driver.stop(name)
        driver.rebuild()
        driver.start("c")
        driver.run_until_settled()
        nothing_is_left(driver, redis, log)
        assert of_bert(driver)["last_touch"] == ["bert 0"]
        assert not sums(driver).keys() & {
            key for key in sums(driver) if key[2][0] == "revenue_net" and sums(driver)[key] != 20_000_000
        }


@pytest.mark.parametrize("before", ["", "again", "again without Redis"])
def test_a_rebuild_does_not_need_the_event_to_be_kept(
    redis: RedisServer, log: pytest.LogCaptureFixture, before: str
) -> None:
    """The topic of the forget event keeps less than the others: the list is carried over all the same, and a loss of Redis after it
    loses nothing of it. Nor does another rebuild before any worker has read the list."""
    with started(redis) as driver:
        driver.start("a")
        pipe(driver, *anna(), *bert(), FORGET)
        driver.run_until_settled()
        driver.stop("a")
        for partition in range(2):
            log_of = driver.cluster.logs[TP("touchpoints", partition)]
            for i in reversed([i for i, record in enumerate(log_of.records) if b"please" in record.value]):
                del log_of.records[i], log_of.offsets[i]
        driver.rebuild()
        if before == "again without Redis":
            driver.wipe_redis()
        if before:
            driver.rebuild()
        driver.start("b")
        driver.run_until_settled()
        nothing_is_left(driver, redis, log)
        # The log of the new generation says it too: what is read from it alone is the same.
        driver.stop("b")
        generation = driver.store.get("{parcours}generation")
        driver.wipe_redis()
        driver.store.set("{parcours}generation", generation)
        driver.start("c")
        driver.run_until_settled()
        nothing_is_left(driver, redis, log)


def test_a_redis_that_goes_back_is_made_to_forget_again(redis: RedisServer, log: pytest.LogCaptureFixture) -> None:
    with started(redis) as driver:
        driver.start("a")
        pipe(driver, *anna(), *bert())
        driver.run_until_settled()
        saved = {p: driver.snapshot(TP(driver.journey, p)) for p in range(3)}
        pipe(driver, FORGET)
        driver.run_until_settled()
        driver.roll_back(TP(driver.journey, 1), saved[1])
        driver.run_until_settled()
        driver.advance(10)
        nothing_is_left(driver, redis, log)


def test_what_comes_later_is_refused_and_counted(redis: RedisServer, log: pytest.LogCaptureFixture) -> None:
    """Also months later, by a worker that starts then; also under a device alone, also a refund, which names nobody."""
    with started(redis) as driver:
        driver.start("a")
        pipe(driver, *anna(), *bert(), FORGET)
        driver.run_until_settled()
        before = sums(driver)
        driver.stop("a")
        driver.start("b")
        later = {"event_id": "event-of-anna-18", "occurred_at": "2026-06-01T00:00:00Z"}
        pipe(
            driver,
            ("clicks", {**later, **WHO, **SOURCES[0]}),
            ("clicks", {**later, "anonymous_id": PHONE, **SOURCES[0]}),
            ("touchpoints", {**later, **WHO, "anonymous_id": PHONE, "type": "identify"}),
            ("touchpoints", {**later, **WHO, "type": "survey_response", "question": "nps", "score": 1}),
            ("purchases", {**later, "type": "refund", "order_id": ORDERS[2], "amount": "1"}),
            (
                "purchases",
                {
                    **later,
                    "anonymous_id": DEVICE,
                    "type": "order",
                    "order_id": "order-8009",
                    "revenue": "1",
                    "currency": "EUR",
                },
            ),
        )
        driver.run_until_settled()
        nothing_is_left(driver, redis, log)
        assert sums(driver) == before
        (worker,) = driver.workers.values()
        assert b'parcours_dropped_total{reason="forgotten"}' in worker.app.runtime.exposition()
        assert driver.dead_letters() == set()


def test_without_a_key_nobody_can_be_forgotten_and_the_event_waits(
    redis: RedisServer, log: pytest.LogCaptureFixture
) -> None:
    with Driver(MARKETING, redis) as driver:
        driver.start("a")
        pipe(driver, *anna(), FORGET)
        driver.run_until_settled()
        assert {(topic, code) for topic, _, _, code in driver.dead_letters()} == {("touchpoints", "no_forget_key")}
        assert driver.state(f"c:{CUSTOMER}") is not None


@pytest.mark.parametrize("other", [None, "another key than before"])
def test_a_worker_with_another_key_or_none_does_not_start(redis: RedisServer, other: str | None) -> None:
    """It could not read the list, and would let everybody come back."""
    with started(redis) as driver:
        driver.start("a")
        pipe(driver, *anna(), FORGET)
        driver.run_until_settled()
        driver.stop("a")
    key = None if other is None else SecretStr(other)
    with pytest.raises(ConfigError, match="PARCOURS_FORGET_KEY: not"):
        asyncio.run(checked(redis, key))
    asyncio.run(checked(redis, SecretStr(KEY)))
    # A list of before it was made of pseudonyms: nobody would be found on it.
    former = keyed_hash(KEY.encode(), "the key of the forget list").hex()
    with blocking_redis.Redis.from_url(redis.url) as client:
        client.set("{parcours}forget_key", former)
    with pytest.raises(ConfigError, match=r"of an earlier version.*\{parcours\}forget_key.*parcours rebuild"):
        asyncio.run(checked(redis, SecretStr(KEY)))


async def checked(redis: RedisServer, key: SecretStr | None) -> None:
    client = connect(redis.url)
    try:
        await check_forget_key(client, key)
    finally:
        await client.aclose()
