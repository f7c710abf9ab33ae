"""Writes prometheus/rules/recorded.yml, one recording rule for each business family: `make rules`.

The families are those of the code: of the exporter, and of the board of alerts and goals. A test fails while the file differs from what this would write.
"""

from __future__ import annotations

from pathlib import Path

from attribution.families import series
from streams.exporter import BUSINESS
from streams.notices import BOARD

OUTPUT = Path(__file__).parent / "rules" / "recorded.yml"

RECENT = "90s"
"""A sample counts for so long: six scrapes of 15 s, and longer than a leader that died takes to be replaced."""

WORKER = ("instance", "pod")
"""Labels that tell workers apart. They are not in the copies, so that a series goes on when the leader moves."""

# By job: two installations in one Prometheus have a leader each. The highest epoch of the whole span, not the newest sample
# of each worker: one that steps down says 0 at once, some seconds before the next one leads.
LEADER = f"topk by (job) (1, max_over_time(parcours_leader_epoch[{RECENT}]) > 0)"

FAMILIES = (*(one for name, family in BUSINESS.items() for one in series(name, family)), *BOARD)
EVALUATED = "parcours_alerts_evaluated_timestamp_seconds"
HELD = "parcours_alert_active"
"""While no one evaluates, an alert neither fires nor resolves: its copy goes on as it was."""
HELD_FOR = "5m"
"""How long Prometheus itself may be down meanwhile."""

INTERVALS = {"total": "30s", "channel": "30s", "campaign": "1m", "day": "1m"}
"""How often copies are made, by the families' first word: campaigns and days are most of the series and change least."""
OTHERS = "other"

HEAD = """\
# Written by `make rules` (prometheus/build.py) from the families in the code: a change by hand is lost.
#
# Copies of the business families as the newest leader exports them, without the worker's labels. Panels and alerts read
# these: a leader's move leaves no hole, and an old leader that is frozen or cut off doubles nothing. docs/metrics.md, "Recorded".
groups:
"""


def recorded(family: str) -> str:
    """The name of a family's copy."""
    return f"leader:{family}:last"


def newest(family: str) -> str:
    """PromQL: the family's last samples, from the newest leader only."""
    return f"max without ({', '.join(WORKER)}) (last_over_time({family}[{RECENT}]) and on (job, instance) {LEADER})"


def copied(family: str) -> str:
    """PromQL: what a family's copy holds."""
    if family != HELD:
        return newest(family)
    before = f"last_over_time({recorded(family)}[{HELD_FOR}])"
    return f"{newest(family)} or ({before} unless on (job) {newest(EVALUATED)})"


def group(family: str) -> str:
    """The name of the rule group that a family belongs to: its level."""
    level = family.split("_")[1]
    return level if level in INTERVALS else OTHERS


def rendered() -> str:
    """The file's text. Equal families give equal text."""
    groups: dict[str, list[str]] = {}
    for family in FAMILIES:
        groups.setdefault(group(family), []).append(family)
    parts = [HEAD]
    for name, families in groups.items():
        parts.append(f"  - name: parcours-{name}\n")
        if name in INTERVALS:
            parts.append(f"    interval: {INTERVALS[name]}\n")
        parts.append("    rules:\n")
        # Rules of a group are evaluated in turn: an alert that becomes active finds its figures.
        families.sort(key=lambda family: family == HELD)
        parts += [f"      - record: {recorded(family)}\n        expr: {copied(family)}\n" for family in families]
    return "".join(parts)


if __name__ == "__main__":
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(rendered(), "utf-8")
