"""Writes what is made from code: `docs/schemas/<topic>.json`, `docs/errors.md`, and the business families in `docs/metrics.md`.

Run it by `make docs`. A test fails while a page differs from what this would write.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from attribution.families import FAMILIES, LEVELS, METRICS, PERSONS, Metric, family_name
from models import events, results
from models.errors import CATALOGUE

DOCS = Path(__file__).resolve().parent
SCHEMAS: dict[str, tuple[str, Any]] = {
    **{topic: ("models/events.py", kind) for topic, kind in events.SCHEMAS.items()},
    **{topic: ("models/results.py", kind) for topic, kind in results.SCHEMAS.items()},
}
DIALECT = "https://json-schema.org/draft/2020-12/schema"

# msgspec describes a Decimal as a string alone, but reads a JSON number too, digit by digit.
_DECIMAL = {"type": ["number", "string"], "pattern": r"^-?[0-9]{1,10}(\.[0-9]+)?$"}

_FAMILIES_BEGIN = "<!-- Families: made by `make docs` from attribution/families.py. -->"
_FAMILIES_END = "<!-- End of families. -->"
_FAMILY_GROUPS = {"Windows and periods": "", "Baselines": "baseline", "Days as known now": "day"}

_ERRORS_HEAD = """\
# Why an event was refused

<!-- Made by `make docs` from models/errors.py; edit that. -->

A refused event goes to the dead-letter topic of its source (`dlq.<topic>`) with one of these codes. The code is also the label
`reason` of `parcours_dropped_total`. Codes are stable: new ones may come, none changes its meaning. Where a field is to
blame, the dead letter also names its JSON path, such as `$.revenue`.

| code | what it means | what to do |
|---|---|---|
"""


def pages() -> dict[Path, str]:
    """Every generated file, by its path, with the text it should hold."""
    made = {DOCS / "schemas" / f"{topic}.json": _json(schema(topic)) for topic in SCHEMAS}
    made[DOCS / "errors.md"] = errors()
    made[DOCS / "metrics.md"] = metrics((DOCS / "metrics.md").read_text("utf-8"))
    return made


def schema(topic: str) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of one message of `topic`, whole in itself: it has no `$id` and needs no network."""
    source, kind = SCHEMAS[topic]
    raw = msgspec.json.schema(kind)
    described: dict[str, Any] = _described(raw)
    definitions = described.pop("$defs")
    body: dict[str, Any]
    if "$ref" in described:
        body = definitions.pop(described["$ref"].rsplit("/", 1)[-1])
    else:
        kinds = ", ".join(sorted(described["discriminator"]["mapping"]))
        del described["discriminator"]  # OpenAPI's, not JSON Schema's; each kind fixes its own `type` anyway
        body = {"title": topic.capitalize(), "description": f"One of: {kinds}; `type` says which.", **described}
    return {
        "$schema": DIALECT,
        "$comment": f"One message of the Kafka topic {topic}. Made by `make docs` from {source}.",
        **body,
        **({"$defs": definitions} if definitions else {}),
    }


def errors() -> str:
    """The error catalogue as a Markdown page."""
    rows = "".join(f"| `{row.code}` | {row.meaning} | {row.fix} |\n" for row in CATALOGUE.values())
    return _ERRORS_HEAD + rows


def metrics(page: str) -> str:
    """The page with its tables of business families as the code has them now."""
    before, begin, rest = page.partition(_FAMILIES_BEGIN)
    _, end, after = rest.partition(_FAMILIES_END)
    assert begin, f"docs/metrics.md has lost its line {_FAMILIES_BEGIN}"
    assert end, f"docs/metrics.md has lost its line {_FAMILIES_END}"
    parts = [before, begin, "\n\n"]
    for title, group in _FAMILY_GROUPS.items():
        parts.append(f"### {title}\n\n| family | type | labels | meaning |\n|---|---|---|---|\n")
        parts += _family_rows(group)
        parts.append("\n")
    parts.append("### Persons\n\n| family | type | labels | meaning |\n|---|---|---|---|\n")
    parts += [
        f"| `{name}` | {family.type} | {_shown(family.labels)} | {family.help} |\n"
        for name, family in FAMILIES.items()
        if family.metric in PERSONS
    ]
    parts.append("\n")
    return "".join([*parts, end, after])


def _family_rows(group: str) -> Iterator[str]:
    """One row per metric and level; one for all levels when it is exported at each."""
    for metric in METRICS:
        names = {level: family_name(level, metric.name, group) for level in LEVELS.values()}
        known = {level: FAMILIES[name] for level, name in names.items() if name in FAMILIES}
        if not known or (not group and metric.spans == "b"):
            continue
        if len(known) == len(LEVELS):
            labels = known["total"].labels
            yield _family_row(family_name("<level>", metric.name, group), ("level", *labels), metric)
        else:
            for level, family in known.items():
                yield _family_row(names[level], family.labels, metric)


def _family_row(name: str, labels: tuple[str, ...], metric: Metric) -> str:
    return f"| `{name}` | gauge | {_shown(labels)} | {metric.help} |\n"


def _shown(labels: tuple[str, ...]) -> str:
    return ", ".join(label if label == "level" else f"`{label}`" for label in labels)


def main() -> None:
    """Write what changed; remove schemas of topics that are no more."""
    made = pages()
    (DOCS / "schemas").mkdir(exist_ok=True)
    for path in sorted((DOCS / "schemas").glob("*.json")):
        if path not in made:
            path.unlink()
            print(f"removed {path.relative_to(DOCS.parent)}")
    for path, text in made.items():
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")
            print(f"wrote {path.relative_to(DOCS.parent)}")


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _described(node: Any) -> Any:
    """The schema with decimals told as they are read; all else as msgspec made it."""
    if isinstance(node, list):
        return [_described(item) for item in node]
    if not isinstance(node, dict):
        return node
    if node.get("format") == "decimal":
        kept = {key: value for key, value in node.items() if key not in {"type", "format"}}
        return {**_DECIMAL, **kept}
    return {key: _described(value) for key, value in node.items()}


if __name__ == "__main__":
    main()
