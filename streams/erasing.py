"""What forgetting somebody does in one chunk of a partition: what is looked up before, published and written after the fold.

Nodes are found by whom they mention: the set `l:<person>` of a partition has the keys of those nodes, and, after an `@`, conversions that
were published of the person and have moved to another since. These wait for their expiry in `x:<day>`, as nodes do.
"""

from __future__ import annotations

from collections.abc import Callable

from attribution.cohorts import CUSTOMER_KEPT
from attribution.fold import RETENTION
from attribution.forgetting import Forgotten
from attribution.nodes.state import Conversion
from attribution.outcome import describe, nameless
from attribution.rules import Rules
from attribution.watermarks import Progress
from models.errors import ConfigError
from models.results import FORGOTTEN, Attribution
from models.settings import DAY
from models.wire import Forget
from streams.caches import Nodes, mentioned
from streams.tables import Tables, Writes

FORGOTTEN_SET = "forgotten"
"""The forget list of a partition: a set of keyed hashes."""
PUBLISHED = "@"
Version = tuple[int, int, int]


class Erasing:
    """Of one chunk. `persons` are to be forgotten in it; `nodes` are theirs and those that mention them, as far as there are any.

    `gone` are nodes that are removed, `hashes` new ones of the forget list. `moved` are (conversion id, person, time) that are now published as having
    moved on; `left` are those published of whoever is forgotten, with what stays on record of them (None: nothing).
    """

    def __init__(self) -> None:
        self.persons: set[str] = set()
        self.nodes: set[str] = set()
        self.gone: set[str] = set()
        self.hashes: list[bytes] = []
        self.moved: list[tuple[str, str, int]] = []
        self._waiting: list[str] = []
        self.left: dict[tuple[str, str], tuple[Conversion | None, Version | None]] = {}

    async def look_up(self, entry: Forget, tables: Tables, forgotten: Forgotten | None) -> None:
        """What of this partition it concerns. Raises ConfigError without a forget list."""
        if forgotten is None:
            raise ConfigError("somebody is to be forgotten, and PARCOURS_FORGET_KEY is not set for this worker")
        for person in entry.persons:
            self.persons.add(person)
            for member in await tables.smembers(mentioned(person)):
                name = member.decode()
                if name.startswith(PUBLISHED):
                    conversion_id = name.removeprefix(PUBLISHED)
                    self.left[conversion_id, person] = (None, None)
                    self._waiting.append(expiring(conversion_id, person))
                else:
                    self.nodes.add(name)
        self.nodes |= self.persons

    def values(
        self, forgotten: Forgotten, currency: str, pack: Callable[[Attribution], bytes]
    ) -> dict[bytes, bytes | None]:
        """For `attributions`: nothing under the old keys, the same money under keys that name nobody."""
        found: dict[bytes, bytes | None] = {}
        for (conversion_id, person), (conversion, version) in self.left.items():
            key = f"{conversion_id}|{person}"
            found[key.encode()] = None
            if conversion is not None:
                # Made by the secret: sent again it is the same, and nobody can find it from an id.
                name = f"f:{forgotten.hash(key).hex()}"
                found[f"{name}|{FORGOTTEN}".encode()] = pack(
                    nameless(describe(person, conversion, currency, version), name)
                )
        return found

    def write(self, nodes: Nodes, progress: Progress, rules: Rules, writes: Writes) -> None:
        """Remove nodes, where they wait for their expiry, and who mentions them; add to the forget list and the index."""
        for conversion_id, person, _ in self.moved:
            writes.sadd.setdefault(mentioned(person), []).append(PUBLISHED + conversion_id)
        writes.deletes.update(map(mentioned, self.persons))
        if self.hashes:
            writes.sadd[FORGOTTEN_SET] = [*self.hashes]
        gone = sorted(self.gone)
        for key in gone:
            nodes.delete(key, writes)
        waiting = gone + sorted(self._waiting)
        if waiting and progress.swept:
            # Each waits on one of these days; which one is not known.
            keep = max(CUSTOMER_KEPT, RETENTION, rules.keep) // DAY + 3
            for day in range(progress.swept, max(progress.highest // DAY + keep, progress.swept + 1) + 1):
                writes.srem.setdefault(f"x:{day}", []).extend(waiting)


def expiring(conversion_id: str, person: str) -> str:
    """How a conversion that has moved on from a person waits for its expiry, beside the keys of nodes. Either id may hold any character."""
    return f"{PUBLISHED}{len(conversion_id)}:{conversion_id}{person}"


def let_go(member: str, writes: Writes) -> bool:
    """Take such a conversion, which has expired, out of the person's index; False when it is the key of a node."""
    if not member.startswith(PUBLISHED):
        return False
    size, _, both = member.removeprefix(PUBLISHED).partition(":")
    writes.srem.setdefault(mentioned(both[int(size) :]), []).append(PUBLISHED + both[: int(size)])
    return True
