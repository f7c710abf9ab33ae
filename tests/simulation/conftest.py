"""A Redis of the tests' own, which simulations empty, kill and truncate."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from streams.embedded import RedisServer


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server
