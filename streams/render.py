"""The Prometheus text format for rows that a scrape must not compute: HELP, TYPE and gauges, as bytes.

Names come from events, so they are hostile: control characters become spaces, long ones are cut, the rest is escaped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

from attribution.families import Family, plain, series
from attribution.formulas import Labels

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


Rows = Sequence[tuple[str, Labels, Decimal | int]]


class Renderer:
    """Rows as exposition text, one part per family in the order of `families`. Blocks that come again are not rendered again."""

    def __init__(self, families: Mapping[str, Family]) -> None:
        self._heads = {
            name: f"# HELP {name} {family.help}\n# TYPE {name} {family.type}\n" for name, family in families.items()
        }
        self._family = {one: name for name, family in families.items() for one in series(name, family)}
        self._known: dict[int, tuple[Rows, dict[str, str]]] = {}

    def render(self, blocks: Iterable[Rows]) -> bytes:
        """All samples of these blocks; a family without any is left out. A block is known by its identity, and must not change.

        Rows of one family may come in any order and between others. Raises KeyError for a family that is not known.
        """
        known: dict[int, tuple[Rows, dict[str, str]]] = {}
        texts: dict[str, list[str]] = {name: [] for name in self._heads}
        for block in blocks:
            # The block is kept beside its text, so that no other can have its identity.
            found = self._known.get(id(block)) or (block, _lines(block))
            known[id(block)] = found
            for name, text in found[1].items():
                texts[self._family[name]].append(text)
        self._known = known
        parts: list[str] = []
        for name, found_texts in texts.items():
            if found_texts:
                parts.append(self._heads[name])
                parts += found_texts
        return "".join(parts).encode()


def _lines(block: Rows) -> dict[str, str]:
    lines: dict[str, list[str]] = {}
    for family, labels, value in block:
        lines.setdefault(family, []).append(f"{family}{label_text(labels)} {plain(value)}\n")
    return {family: "".join(texts) for family, texts in lines.items()}


def render(families: Mapping[str, Family], rows: Rows) -> bytes:
    """`rows` as exposition text, once."""
    return Renderer(families).render([rows])
