"""A chunk of the log: the pieces of blocks that are folded and committed together, and what their fold has produced so far."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from attribution.facts import Fact
from attribution.nodes.base import Context
from attribution.nodes.state import Conversion, Node
from attribution.watermarks import Progress
from models.wire import AnyEntry, Block, Touch
from streams.erasing import Erasing
from streams.outbox import Letter


class Piece(NamedTuple):
    """Part of a block to be worked in one chunk."""

    offset: int
    block: Block
    start: int
    stop: int


class Waiting(NamedTuple):
    """A touch that is folded with those of its node that follow it, and where it stands: offset of its block, place in it, source."""

    entry: Touch
    offset: int
    place: int
    source: str


class Result(NamedTuple):
    """A conversion to publish, and whether its journey is `truncated`."""

    conversion: Conversion
    version: tuple[int, int, int]
    truncated: bool


class Chunk:
    """What the fold of one chunk has produced so far: everything the shell then applies.

    `waiting` are touches not folded yet, by node, all of them under `context`. Facts are only those that are not in their cells yet.
    `count` is of entries applied, `work` of entries and facts folded since others had their turn.
    """

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.count = 0
        self.work = 0
        self.facts: list[Fact] = []
        self.context: Context | None = None
        self.waiting: dict[str, list[Waiting]] = {}
        self.moves: list[AnyEntry] = []
        self.results: dict[tuple[str, str], Result] = {}
        self.letters: list[Letter] = []
        self.touched: dict[str, Node] = {}
        self.created: set[str] = set()
        self.erasing = Erasing()
        self.config: str | None = None
        # Counted when the commit has applied: a chunk that is redone counts once.
        self.dropped: Counter[str] = Counter()
        self.lettered: Counter[tuple[str, str]] = Counter()
        self.published: Counter[str] = Counter()
        self.filtered: Counter[str] = Counter()
