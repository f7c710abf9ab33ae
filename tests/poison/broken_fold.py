"""A worker's app whose fold breaks on marked entries, each time with another exception: `faust -A poison.broken_fold worker`."""

from __future__ import annotations

from typing import Any

from attribution import fold as module

MARK = "breaks-the-fold-"
ERRORS: tuple[type[Exception], ...] = (ZeroDivisionError, RecursionError, KeyError, AssertionError, OverflowError)
_fold, _fold_touches = module.fold, module.fold_touches


def fold(node: Any, entry: Any, context: Any) -> Any:
    """As the real one, but for the first entry of events whose ids carry the mark: each entry that breaks is a dead letter."""
    if entry.k:
        return _fold(node, entry, context)
    for name in (getattr(entry, "event_id", ""), getattr(entry, "cost_id", ""), entry.key):
        _, found, number = name.partition(MARK)
        if found:
            raise ERRORS[int(number) % len(ERRORS)](name)
    return _fold(node, entry, context)


def fold_touches(node: Any, entries: Any, context: Any) -> Any:
    """As the real one, but broken by an entry that breaks the fold: they are then folded one by one."""
    if any(MARK in entry.event_id for entry in entries):
        raise ZeroDivisionError
    return _fold_touches(node, entries, context)


module.fold, module.fold_touches = fold, fold_touches

from streams.app import create_app  # noqa: E402 (it binds the function above)

app = create_app()
