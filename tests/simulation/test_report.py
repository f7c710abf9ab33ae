"""`parcours report` from Redis says what the leader's `/metrics` says at the same moment, of every family."""

from __future__ import annotations

import json
from decimal import Decimal

from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner

from attribution.families import SERIES
from streams.cli import root
from streams.cli.report import known_periods
from streams.embedded import RedisServer
from streams.testing import Driver
from tests import shop


def exported(driver: Driver) -> dict[shop.Sample, Decimal]:
    exporter = driver.workers["a"].app.runtime.exporter
    assert exporter is not None
    found: dict[shop.Sample, Decimal] = {}
    for family in text_string_to_metric_families(exporter.body().decode()):
        for name, labels, value, *_ in family.samples:
            if name in SERIES:
                found[name, frozenset(labels.items())] = Decimal(str(value))
    return found


def reported(redis: RedisServer) -> dict[shop.Sample, Decimal]:
    found: dict[shop.Sample, Decimal] = {}
    for period in known_periods():
        ran = CliRunner().invoke(root.app, ["report", "--redis-url", redis.url, "--period", period, "--json"])
        assert ran.exit_code == 0, ran.stderr
        for key, value in shop.samples(json.loads(ran.stdout)).items():
            assert found.setdefault(key, value) == value
    return found


def test_the_report_is_what_the_leader_exports_of_every_family(redis: RedisServer) -> None:
    with Driver(shop.MARKETING, redis, refresh_interval=1.0) as driver:
        driver.on_start.append(lambda worker: vars(worker.app.runtime).update(clock=lambda: driver.now))
        for topic, body in shop.EVENTS:
            driver.pipe_in(topic, json.dumps(body).encode())
        driver.start("a")
        driver.run_until_settled()
        driver.advance(60.0)
        there = exported(driver)
        told = reported(redis)
    assert {name for name, _ in there} == set(SERIES)
    assert all(text for _, labels in there for _, text in labels)
    assert told.keys() == there.keys()
    for key, value in there.items():
        # A sample is a float.
        assert abs(told[key] - value) <= abs(value) * Decimal("1e-12"), key
