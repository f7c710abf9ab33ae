"""With ids stored as keyed hashes no id of a person is anywhere behind the source topics; whoever knows an id finds the person by it, and can have the
person forgotten, also by a rebuild that only then begins to hash ids."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from attribution.pseudonyms import Pseudonyms
from models.errors import ConfigError
from models.results import FORGOTTEN
from models.settings import Infrastructure, Marketing, Privacy
from streams.app import create_app
from streams.cli import root
from streams.embedded import RedisServer
from streams.testing import Driver
from streams.testing.oracle import chained, differences
from tests.simulation.test_erasure import (
    CUSTOMER,
    DEVICE,
    FORGET,
    IDS,
    KEY,
    MARKETING,
    PHONE,
    TABLET,
    anna,
    answers,
    bert,
    compacted,
    everything,
    nothing_is_left,
    pipe,
    scan,
    stored,
)

HASHED = msgspec.structs.replace(MARKETING, privacy=Privacy(ids="hashed"))
PERSONAL = {CUSTOMER, DEVICE, PHONE, TABLET, "click-id-of-anna"}
OTHERS = set(IDS) - PERSONAL
NAMES = Pseudonyms(KEY.encode())
ANNA = NAMES.person(f"c:{CUSTOMER}")


def logged(driver: Driver) -> Iterator[tuple[str, bytes]]:
    """The log of record, whole."""
    for record in driver.cluster.read(driver.journey):
        yield f"log {record.offset}", (record.key or b"") + record.value


def personal(found: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Of what a scan found, that which is of a person's id or click id; order and event ids are stored as they are."""
    return [(place, trace) for place, trace in found if any(name in trace for name in PERSONAL)]


def journey(driver: Driver, person: str) -> dict[str, Any]:
    """What the API says of a person; nothing of one who is not known."""
    (worker,) = driver.workers.values()
    found = driver.loop.run_until_complete(worker.app.runtime.find_journey(person))
    return {} if found is None else dict(json.loads(found))


def test_no_id_is_behind_the_intake(redis: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "streams")
    with chained(), Driver(HASHED, redis, forget_key=KEY, refresh_interval=0.5) as driver:
        driver.start("a")
        everything(driver)
        places = [*stored(driver, redis), *compacted(driver), *answers(driver), *logged(driver)]
        found = scan(iter(places))
        assert {f"o:{IDS[4]}", IDS[7]} <= {trace for _, trace in found}, (
            "the scan sees what is there: orders and events"
        )
        assert personal(found) == []
        assert personal(scan(iter([("log", caplog.text.encode())]))) == []
        assert any(ANNA.encode() in content for _, content in places)
        assert list(differences(driver)) == []
        # Found by the id that was sent, with or without its kind, and by the hash that is published.
        for asked in (CUSTOMER, f"c:{CUSTOMER}", ANNA):
            assert journey(driver, asked)["person"] == ANNA, asked
        assert journey(driver, PHONE)["person"] == NAMES.person(f"a:{PHONE}")
        assert journey(driver, "c:nobody") == {}


@pytest.mark.parametrize(("person", "key", "code", "said"), [
    (CUSTOMER, KEY, 0, f"{ANNA}: "),
    (ANNA, None, 0, f"{ANNA}: "),
    (CUSTOMER, None, 1, f"nothing is known under c:{CUSTOMER} or a:{CUSTOMER}: ids are stored as hashes; set PARCOURS_FORGET_KEY"),
    (CUSTOMER, "another key than before", 2, "PARCOURS_FORGET_KEY: not the key of the workers before"),
])  # fmt: skip
def test_the_command_finds_a_person_by_id_or_hash(
    redis: RedisServer, person: str, key: str | None, code: int, said: str
) -> None:
    with Driver(HASHED, redis, forget_key=KEY) as driver:
        driver.start("a")
        pipe(driver, *anna()[:4])
        driver.run_until_settled()
    env = {"PARCOURS_FORGET_KEY": key, "PARCOURS_REDIS_URL": redis.url}
    ran = CliRunner().invoke(root.app, ["journey", person], prog_name="parcours", env=env)
    assert (ran.exit_code, said in ran.output) == (code, True), ran.output


def test_a_worker_without_the_key_does_not_start() -> None:
    with pytest.raises(ConfigError, match=r'^privacy.ids: "hashed" needs .* set PARCOURS_FORGET_KEY'):
        create_app(Infrastructure(), HASHED)


def test_forgetting_by_the_id_that_was_sent(redis: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    with Driver(HASHED, redis, forget_key=KEY, refresh_interval=0.5) as driver:
        driver.start("a")
        everything(driver)
        pipe(driver, FORGET)
        driver.run_until_settled()
        nothing_is_left(driver, redis, caplog)
        hashes = [NAMES.person(key) for key in (f"c:{CUSTOMER}", f"a:{DEVICE}", f"a:{PHONE}", f"a:{TABLET}")]
        # The forget list is no list of the hashes that were stored and published either.
        held = b"\0".join(content for _, content in (*stored(driver, redis), *compacted(driver), *answers(driver)))
        for name in hashes:
            assert name[2:].encode() not in held
            assert bytes.fromhex(name[2:]) not in held
        assert journey(driver, CUSTOMER) == {}
        assert [one["person"] for one in driver.attributions().values() if one["person"] != FORGOTTEN] == [
            NAMES.person("c:bert-9000")
        ]
        pipe(driver, *anna()[:4])
        driver.run_until_settled()
        nothing_is_left(driver, redis, caplog)


@pytest.mark.parametrize("before", [MARKETING, HASHED], ids=["as_sent", "hashed"])
def test_the_forget_list_holds_on_when_a_rebuild_changes_the_setting(
    redis: RedisServer, caplog: pytest.LogCaptureFixture, before: Marketing
) -> None:
    with Driver(before, redis, forget_key=KEY, refresh_interval=0.5) as driver:
        driver.start("a")
        pipe(driver, *anna(), *bert(), FORGET)
        driver.run_until_settled()
        driver.stop("a")
        # The event itself is gone meanwhile: the list alone keeps her away.
        for tp, log in driver.cluster.logs.items():
            for i in reversed([i for i, record in enumerate(log.records) if b"please" in (record.value or b"")]):
                if tp.topic == "touchpoints":
                    del log.records[i], log.offsets[i]
        driver.marketing = HASHED if before is MARKETING else MARKETING
        driver.rebuild()
        driver.start("b")
        driver.run_until_settled()
        nothing_is_left(driver, redis, caplog)
        assert journey(driver, "bert-9000")["conversions"]
        for name in (f"c:{CUSTOMER}", f"a:{DEVICE}", f"a:{PHONE}", f"a:{TABLET}"):
            assert driver.state(name) is None
            assert driver.state(NAMES.person(name)) is None
