"""The Prometheus text format for rows that a scrape must not compute: HELP, TYPE and gauges, as bytes.

Names come from events, so they are hostile: control characters become spaces, long ones are cut, the rest is escaped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal

from attribution.families import Labels, plain

NAME_MAX = 100
"""Characters of a label value; a longer one ends in an ellipsis."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]+")
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


def clean(text: str) -> str:
    """A name as a label value: no control characters or lone surrogates, at most NAME_MAX characters."""
    if len(text) > NAME_MAX:
        text = text[: NAME_MAX - 1] + "…"
    return text if text.isprintable() else _CONTROL.sub(" ", text)


def label_text(labels: Labels) -> str:
    """`{a="x",b="y"}`, or nothing for no labels. The values must have been cleaned."""
    if not labels:
        return ""
    inner = ",".join([f'{name}="{value.translate(_ESCAPES)}"' for name, value in labels])
    return "{" + inner + "}"


def render(families: Mapping[str, tuple[str, str]], rows: Iterable[tuple[str, Labels, Decimal | int]]) -> bytes:
    """`rows` as exposition text, one block per family in the order of `families` (name -> type, help).

    Rows of one family may come in any order and between others; a family without rows is left out. Raises KeyError for a family that is not known.
    """
    blocks: dict[str, list[str]] = {name: [] for name in families}
    for family, labels, value in rows:
        blocks[family].append(f"{family}{label_text(labels)} {plain(value)}\n")
    parts: list[str] = []
    for name, lines in blocks.items():
        if lines:
            kind, text = families[name]
            parts.append(f"# HELP {name} {text}\n# TYPE {name} {kind}\n")
            parts += lines
    return "".join(parts).encode()
