"""Builds the dashboards, in English and French from one description each: `make dashboards` writes grafana/dashboards/.

Metrics are those of docs/metrics.md. Ratios and CPA are read as exported, never averaged or summed: only the exporter knows how far cost is known.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from grafana import journeys, performance, pipeline
from grafana.sheet import Say, Sheet

FOLDER = Path(__file__).parent / "dashboards"
BUILDERS: dict[str, Callable[[Say, str], Sheet]] = {
    "parcours": performance.build,
    "journeys": journeys.build,
    "pipeline": pipeline.build,
}
LANGUAGES: dict[str, Say] = {"en": lambda en, fr: en, "fr": lambda en, fr: fr}


def dashboards() -> dict[str, dict[str, Any]]:
    """Each dashboard by its file's name."""
    return {
        f"{name}.json" if lang == "en" else f"{name}-{lang}.json": build(say, lang).build()
        for name, build in BUILDERS.items()
        for lang, say in LANGUAGES.items()
    }


def rendered(dashboard: dict[str, Any]) -> str:
    """The file's text. Equal input gives equal text: a test compares it with what is checked in."""
    return json.dumps(dashboard, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, dashboard in dashboards().items():
        (FOLDER / name).write_text(rendered(dashboard), "utf-8")
