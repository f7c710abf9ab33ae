"""One batch pass over sorted events by the very core that the stream runs: the yardstick of the convergence rule."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from attribution.eligible import truncated
from attribution.erasure import Erased, erase, mentions, screen
from attribution.fold import fold
from attribution.forgetting import Forgotten, everywhere
from attribution.intake import Intake
from attribution.naming import Campaigns
from attribution.nodes.base import NEVER, Context
from attribution.nodes.state import Conversion, CostRow, Node, Person
from attribution.outcome import describe, nameless
from attribution.reach import SEEN, Devices
from attribution.rollups import Calendar, Rollups
from attribution.rules import Rules
from models.errors import Rejected
from models.results import Attribution
from models.settings import Marketing, Rate
from models.wire import AnyEntry, Forget

_NO_CLOCK = 1 << 62
_NO_SECRET = b"no hash of a batch pass leaves it"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A record that was refused: where it stood in its input, and why."""

    topic: str
    index: int
    code: str
    path: str
    message: str


class Replay:
    """Holds what one partition of the stream would hold. `take` every record, then `finish`, then read."""

    def __init__(self, marketing: Marketing, rates: Iterable[Rate] = (), *, key: bytes | None = None) -> None:
        """`key`: of the hashes of ids, where these are stored as such (`Intake`)."""
        self.marketing = marketing
        self.rules = Rules(marketing, number=1)
        self.rollups = Rollups(Calendar(marketing.time_zone))
        self.nodes: dict[str, Node] = {}
        self.devices = Devices()
        self.forgotten = Forgotten(_NO_SECRET)
        self.left: list[Attribution] = []
        """Of forgotten persons' conversions what stays on record."""
        self.refused: list[Refusal] = []
        self.dropped: Counter[str] = Counter()
        self.accepted = 0
        self.highest = NEVER
        self._intake = Intake(marketing, rates, key=key)
        self._entries: list[tuple[int, int, AnyEntry]] = []

    def take(self, topic: str, value: bytes | None, timestamp: int = _NO_CLOCK) -> None:
        """Accept or refuse one record. Without a timestamp nothing is judged to be in the future."""
        index = self.accepted + len(self.refused)
        try:
            taken = self._intake.take(topic, value, timestamp, index)
        except Rejected as error:
            self.refused.append(Refusal(topic, index, error.code, error.path, error.message))
            return
        self.accepted += 1
        self.highest = max(self.highest, taken.t)
        self._entries += [(taken.t, index, entry) for entry in taken.entries]

    def finish(self, progress: Callable[[int], None] = lambda done: None) -> None:
        """Fold everything, in order of event time; `progress` is told how many entries are done."""
        self._entries.sort(key=lambda item: item[:2])
        pending: deque[AnyEntry] = deque()
        watermark = NEVER
        for done, (t, _, entry) in enumerate(self._entries):
            watermark = max(watermark, t)
            context = Context(self.rules, watermark, watermark)
            pending.append(entry)
            while pending:
                self._apply(pending.popleft(), context, pending)
            if done % 1000 == 0:
                progress(done)
        progress(len(self._entries))
        self._entries = []
        self.rollups.prune(self.highest)

    def _apply(self, entry: AnyEntry, context: Context, pending: deque[AnyEntry]) -> None:
        if isinstance(entry, Forget):
            self._forget(entry.persons, context, pending)
            return
        node = self.nodes.get(entry.key)
        if self.forgotten and (erased := screen(entry, node, self.forgotten)) is not None:
            self.dropped["forgotten"] += 1
            self._take(erased, pending)
            return
        folded = fold(node, entry, context)
        if folded.dropped in SEEN:
            self.devices.see(entry)
        if folded.dropped is not None:
            self.dropped[folded.dropped] += 1
            pending.extend(folded.moves)
            return
        self.nodes[entry.key] = folded.node
        self.rollups.add(folded.facts, self.highest)
        pending.extend(folded.moves)

    def _forget(self, persons: Iterable[str], context: Context, pending: deque[AnyEntry]) -> None:
        if self.forgotten.add(persons):
            named = {
                key: node
                for key, node in self.nodes.items()
                if key in persons or not mentions(node).isdisjoint(persons)
            }
            self._take(erase(named, self.forgotten, context), pending)

    def _take(self, erased: Erased, pending: deque[AnyEntry]) -> None:
        for key, node in erased.nodes.items():
            if node is None:
                del self.nodes[key]
            else:
                self.nodes[key] = node
        currency = self.marketing.reporting_currency
        for person, conversion in erased.left:
            if conversion.gone is None:
                name = f"f:{len(self.left) + 1}"
                self.left.append(nameless(describe(person, conversion, currency), name))
        self.forgotten.add(erased.orders)
        self.rollups.add(erased.facts, self.highest)
        pending.extend(erased.moves)
        pending.extend(everywhere(erased.devices, 1) if erased.devices else ())

    def named(self) -> tuple[Rollups, dict[str, CostRow]]:
        """Rollups, and cost rows by cost id, as they are to be read: with campaigns under their names."""
        rows = dict(self.costs())
        campaigns = Campaigns(rows.values())
        named = {cost_id: campaigns.row(row) for cost_id, row in rows.items()}
        return campaigns.rollups(self.rollups, self.rollups.calendar), named

    def costs(self) -> Iterator[tuple[str, CostRow]]:
        """All cost rows as last reported, by cost id."""
        for key, node in self.nodes.items():
            if isinstance(node, CostRow):
                yield key[2:], node

    def conversions(self) -> Iterator[tuple[str, Conversion]]:
        """(person, conversion) of every conversion, withdrawn ones included, in order of conversion id."""
        found = [
            (conversion.id, key, conversion)
            for key, node in self.nodes.items()
            if isinstance(node, Person)
            for conversion in node.conversions
        ]
        for _, key, conversion in sorted(found, key=lambda item: item[:2]):
            yield key, conversion

    def attributions(self) -> Iterator[Attribution]:
        """One per conversion, in order of conversion id; those of nobody last."""
        for key, conversion in self.conversions():
            person = self.nodes[key]
            assert isinstance(person, Person)
            cut = truncated(person, conversion, self.rules)
            yield describe(key, conversion, self.marketing.reporting_currency, truncated=cut)
        yield from self.left
