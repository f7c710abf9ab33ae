"""The short form of `make chaos`: a minute of faults on real processes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from chaos.faults import DURABLE, KINDS, LONG_ABSENCE, plan
from chaos.oracle import Verdict
from chaos.run import run

pytestmark = pytest.mark.integration
SEED = 7


def test_the_plan_follows_from_the_seed() -> None:
    assert plan(3, 2.0, durable=True) == plan(3, 2.0, durable=True) != plan(4, 2.0, durable=True)
    assert {strike.kind for strike in plan(3, 2.0, durable=True)} == set(KINDS)
    assert {strike.kind for strike in plan(3, 2.0, durable=False)} == set(KINDS) - set(DURABLE)
    assert max(strike.seconds for strike in plan(3, 2.0, durable=True)) < 60
    assert sum(strike.seconds == LONG_ABSENCE for strike in plan(3, 8.0, durable=True)) == 1


def test_a_difference_is_counted_and_shown() -> None:
    verdict = Verdict()
    verdict.compare("chain", {"c:1": b"x", "c:2": b"y"}, {"c:1": b"x", "c:2": b"z", "c:3": b"w"})
    assert verdict.wrong == Counter(chain=2)
    assert verdict.examples == ["chain c:2: b'y', and not b'z'", "chain c:3: absent, and not b'w'"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_minute_of_faults(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Chains, entries, dead letters, attributions, rollups and costs are those of a plain reading and the batch pass."""
    result = run(SEED, 1.0, tmp_path)
    with capsys.disabled():
        print(f"\n{result.line()}")
    assert result.good, capsys.readouterr().out
    assert result.amid > 0.5 * sum(result.struck.values())
    assert len(result.struck) >= 10
    assert result.verdict.chains > 1000
    assert result.verdict.attributions > 100
    assert result.verdict.redelivered > 0, "no fault fell between an acknowledgement and its commit"
