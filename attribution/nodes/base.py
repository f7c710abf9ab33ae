"""What every fold is given and gives back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from attribution.facts import Fact
from attribution.nodes.state import Conversion, JourneyEvent, Node
from attribution.rules import Rules
from attribution.touches import Visit
from models.wire import Move

NEVER = -(1 << 62)
"""A watermark before anything: earlier than any event time."""


class Context(NamedTuple):
    """What a decision may depend on besides the node and the entry; all of it comes from the log.

    `watermark` decides lateness, `sealed` (the sealing watermark) what can change no more; both in microseconds.
    """

    rules: Rules
    watermark: int = NEVER
    sealed: int = NEVER


class Folded:
    """The outcome of one entry at one node.

    `changed` are conversions to publish, as they now are. `dropped` is the reason when the entry had no effect:
    a code of the error catalogue, or `duplicate`, `linked` (a link that says nothing new), `trimmed`, `ignored`. `filtered` names
    filters that have now removed something. Also of a dropped entry, `moves` are to be sent. `visits` are a journey and its visits, where they had to be
    found anyway.
    """

    __slots__ = ("changed", "dropped", "facts", "filtered", "moves", "node", "visits")

    def __init__(
        self,
        node: Node,
        facts: Sequence[Fact] = (),
        moves: Sequence[Move] = (),
        changed: Sequence[Conversion] = (),
        dropped: str | None = None,
    ) -> None:
        self.node = node
        self.facts = facts
        self.moves = moves
        self.changed = changed
        self.dropped = dropped
        self.filtered: Sequence[str] = ()
        self.visits: tuple[tuple[JourneyEvent, ...], list[Visit]] | None = None
