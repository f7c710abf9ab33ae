"""What every fold is given and gives back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from attribution.facts import Fact
from attribution.nodes.state import Conversion, Node
from attribution.rules import Rules
from models.wire import OrderMove

NEVER = -(1 << 62)
"""A watermark before anything: earlier than any event time."""


class Context(NamedTuple):
    """What a decision may depend on besides the node and the entry; all of it comes from the log.

    `watermark` decides lateness, `sealed` (the sealing watermark) what can change no more; both in microseconds.
    """

    rules: Rules
    watermark: int = NEVER
    sealed: int = NEVER


@dataclass(slots=True)
class Folded:
    """The outcome of one entry at one node.

    `changed` are conversions to publish, as they now are. `dropped` is the reason when the entry had no effect:
    a code of the error catalogue, or `duplicate`, `trimmed`, `ignored`.
    """

    node: Node
    facts: list[Fact] = field(default_factory=list)
    moves: list[OrderMove] = field(default_factory=list)
    changed: list[Conversion] = field(default_factory=list)
    dropped: str | None = None
