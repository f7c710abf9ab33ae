"""Each user agent that a published list of crawlers gives as an example is a bot.

The file is in `../shared/data` beside the project; without it the test is skipped and says so.
"""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from attribution.filters import Bots

LIST = (
    Path(__file__).resolve().parents[2].parent
    / "shared" / "data" / "crawler_user_agents" / "bot_user_agent_instances.csv"
)  # fmt: skip
pytestmark = pytest.mark.skipif(
    not LIST.is_file(), reason=f"CRAWLERS NOT CHECKED: {LIST} is absent; put the conformance data there"
)


def test_every_listed_crawler_is_a_bot() -> None:
    with LIST.open(encoding="utf-8", newline="") as file:
        agents = [row["user_agent"] for row in csv.DictReader(file)]
    assert len(agents) > 2_000
    bots = Bots()
    assert [agent for agent in agents if not bots.match(agent)] == []
