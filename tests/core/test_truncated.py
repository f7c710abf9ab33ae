"""What bounds cut off is told: an attribution that does not say `truncated` is what it would be without bounds, in any order of arrival."""

from __future__ import annotations

from random import Random
from typing import Any

import msgspec
import pytest

from models.results import Attribution
from tests.core.test_convergence import arrival, batch, configured, run
from tests.histories import generate

CHUNK = 40
LEAST = 5
"""Truncated attributions, and others that have touches, that each chunk must have at least."""


def said(one: Attribution) -> tuple[Any, ...]:
    """What the convergence rule covers of it."""
    return (one.occurred_at, one.reason, one.revenue_gross, one.revenue_net, one.credits)


@pytest.mark.parametrize("first", range(0, 160, CHUNK))
def test_what_is_not_truncated_is_what_it_is_without_bounds(first: int) -> None:
    truncated = whole = 0
    for seed in range(first, first + CHUNK):
        rng = Random(f"truncated {seed}")
        history = generate(seed)
        # A lateness of 400 days: any order is in time.
        marketing = configured(history, claim_history=rng.choice((None, "1d", "7d")))
        records = arrival(history, marketing, rng, None)
        bounded = msgspec.structs.replace(marketing, journey_max=rng.choice((2, 4, 6, 10)))
        expected = {(one.conversion_id, one.person): one for one in batch(marketing, records).attributions()}
        published = run(bounded, records, rng).published
        found = {key: one for key, one in published.items() if one.reason != "moved"}
        assert found.keys() == expected.keys(), seed
        for key, one in found.items():
            if one.truncated:
                truncated += 1
                continue
            assert said(one) == said(expected[key]), (seed, key)
            whole += any(one.credits.values())
    assert truncated >= LEAST
    assert whole >= LEAST
