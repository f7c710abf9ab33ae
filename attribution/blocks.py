"""Rows in blocks, one per name of a level and span, so that a refresh renders what changed; and the scopes they were made from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from attribution.families import Row
from attribution.formulas import Scope


class Block(NamedTuple):
    """The rows of one name of a level in one span, and what they were made from."""

    span: str
    level: str
    scope: Scope | None
    rows: list[Row]


class Found(NamedTuple):
    """All rows, and by window the scopes they were made from as (level, scope): both sides of a ratio also where it is undefined."""

    rows: list[Row]
    scopes: dict[str, list[tuple[str, Scope]]]

    @classmethod
    def of(cls, blocks: Iterable[Block]) -> Found:
        """What these blocks hold."""
        rows: list[Row] = []
        scopes: dict[str, list[tuple[str, Scope]]] = {}
        for block in blocks:
            rows += block.rows
            if block.scope is not None:
                scopes.setdefault(block.span, []).append((block.level, block.scope))
        return cls(rows, scopes)
