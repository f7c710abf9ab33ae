"""The same folder through the commands a user would type: `replay` beside `publish` and a worker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from integration.stack import ROOT, Stack, plain
from integration.test_pipeline import differences

from models.settings import load_marketing

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def parcours(*arguments: str, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "streams.cli", *arguments],
        cwd=ROOT, env={**os.environ, **(env or {})}, capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("as_is", [False, True])
def test_publish_and_replay_agree(stack: Callable[..., Stack], tmp_path: Path, as_is: bool) -> None:
    """`--as-is` sends one topic after the other, months apart; without it the topics are merged by time."""
    shop, result = tmp_path / "shop", tmp_path / "result"
    parcours("simulate", "--out", str(shop), "--days", "20", "--persons", "250", "--seed", "4")
    parcours("replay", str(shop), "--config", str(shop / "parcours.toml"), "--out", str(result))
    one = stack((shop / "parcours.toml").read_text())
    parcours("publish", str(shop), *(["--as-is"] if as_is else []), env=one.env)
    for name in ("clicks", "touchpoints", "purchases", "costs"):
        counts = one.ends(name, getattr(one.marketing.topics, name))
        one.sent.update({(name, p): count for p, count in counts.items()})
    one.worker()
    one.settle()
    lines = (result / "attributions.jsonl").read_text().splitlines()
    wanted = {value["conversion_id"]: plain(value) for value in map(json.loads, lines)}
    assert list(wanted) == sorted(wanted)
    assert len(wanted) == len(lines) > 50
    assert differences(one.attributions(), wanted) == []
    report = json.loads((result / "report.json").read_text())
    assert set(report["models"]) == set(load_marketing(one.config).models)
