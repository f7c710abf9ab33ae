"""Each crossing of a threshold gives one alert; how fast is measured by `python -m bench.alert_latency`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from integration.stack import Stack

from bench.alert_latency import TOML, measure, ready

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def test_each_crossing_gives_one_alert(stack: Callable[..., Stack]) -> None:
    one = stack(TOML)
    ready(one)
    found = asyncio.run(measure(one, crossings=20, rate=20, pause=0.1))
    assert sorted(found) == sorted(f"crossing-{i}" for i in range(20))
    assert {len(each) for each in found.values()} == {1}
