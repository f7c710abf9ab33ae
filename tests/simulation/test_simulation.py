"""Seeded trials: whatever goes wrong on the way, the result is that of one batch pass, and each entry was applied once.

Each chunk of seeds runs in a process of its own, by the very command that a failing seed prints. PARCOURS_SEEDS=1:500 runs
others than the usual.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from streams.testing import __main__ as command_line
from streams.testing.faults import FAULTS
from streams.testing.trial import Trial

ROOT = Path(__file__).resolve().parents[2]
SEEDS = command_line.seeds(os.environ.get("PARCOURS_SEEDS", "1:60"))
CHUNK = 5
pytestmark = pytest.mark.slow


def simulate(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "streams.testing", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


def struck(output: str) -> dict[str, int]:
    """How often each fault struck while there was work left, as the last line says."""
    return {name: int(count) for name, count in re.findall(r"'(\w+)': (\d+)", output.splitlines()[-1])}


@pytest.mark.parametrize("first", range(0, len(SEEDS), CHUNK), ids=lambda i: f"{SEEDS[i]}-{SEEDS[i:][:CHUNK][-1]}")
def test_seeds(first: int) -> None:
    chunk = SEEDS[first : first + CHUNK]
    done = simulate("--keep-going", "--seeds", ",".join(map(str, chunk)))
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-4000:]}"
    assert done.stdout.startswith(f"{len(chunk)} trials, 0 failed")
    assert sum(struck(done.stdout).values()) >= 0.9 * 8 * len(chunk), done.stdout


def test_a_seed_repeats_itself() -> None:
    done = simulate("--verbose", "--seeds", "7,7,8")
    logs = re.findall(r"seed (\d+): .* logs (\w+);", done.stdout)
    assert [seed for seed, _ in logs] == ["7", "7", "8"], done.stdout
    assert logs[0] == logs[1]
    assert logs[2][1] != logs[0][1]


def test_a_failing_seed_prints_the_command_that_repeats_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[tuple[int, tuple[str, ...], int]] = []

    def failing(seed: int, redis: object, faults: list[str], strikes: int) -> Trial:
        ran.append((seed, tuple(faults), strikes))
        return Trial(seed, [("kill", 3)], ["chain c:1: wrong"])

    monkeypatch.setenv("PYTHONHASHSEED", "0")
    monkeypatch.setattr(command_line.trial, "run", failing)
    monkeypatch.setattr(
        sys, "argv", ["streams.testing", "--seeds", "41:44", "--faults", "kill,zombie", "--strikes", "5"]
    )
    assert command_line.main() == 1
    output = capsys.readouterr().out
    (again,) = re.findall(r"again: python -m streams\.testing (.*)", output)
    assert "chain c:1: wrong" in output
    monkeypatch.setattr(sys, "argv", ["streams.testing", *again.split()])
    assert command_line.main() == 1
    assert ran == [(41, ("kill", "zombie"), 5), (41, ("kill", "zombie"), 5)]


def test_all_faults_are_in_play() -> None:
    """Over the usual seeds each kind strikes in mid-work many times: here, that the plan can hold them all."""
    done = simulate("--seeds", "1000:1001", "--strikes", str(len(FAULTS)))
    assert done.returncode == 0, done.stdout
    assert struck(done.stdout).keys() == FAULTS.keys()
