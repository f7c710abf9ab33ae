"""The forget list: whom nobody may know again, as keyed hashes.

A customer who is forgotten takes along every device that was ever linked to it, shared ones too: the device's id is one of the person's.
A device takes no customer along. An order is forgotten with the person it belongs to. So the list is a function of the set
of links and forget events, whatever their order of arrival (meaning §14).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from zlib import crc32

from attribution.pseudonyms import Pseudonyms, keyed_hash
from models.wire import Forget

_SIZE = 16
STAYS = "m"
"""Begins what is said not of a node but of sums: what is in those of this generation. A rebuild does not carry it over."""
_CACHED = 1 << 16
_PERSONS_MAX = 1_000
"""Persons in one entry: an entry is never divided, and a record of the log has to fit the broker's limit."""


class Forgotten:
    """The forget list of a partition of the log. Falsy while it is empty: then nothing has to be asked.

    `key`: the secret; without it a stolen list could be tried out with every id there may be. `hashed`: ids come as pseudonyms already.
    What is listed is made of the pseudonym either way: so a list holds on when a rebuild changes how ids are stored.
    """

    __slots__ = ("_known", "_pseudonyms", "hashes", "key")

    def __init__(self, key: bytes, hashes: Iterable[bytes] = (), *, hashed: bool = False) -> None:
        self.key = key
        self._pseudonyms = None if hashed else Pseudonyms(key)
        self.hashes = set(hashes)
        self._known = lru_cache(_CACHED)(self._look)

    def __len__(self) -> int:
        return len(self.hashes)

    def __contains__(self, node: object) -> bool:
        """Whether a person or an order (`c:…`, `a:…`, `o:…`) is forgotten."""
        return bool(self.hashes) and self._known(node)

    def _look(self, node: str) -> bool:
        return self.hash(node) in self.hashes

    def hash(self, text: str) -> bytes:
        """Its keyed hash: BLAKE2b of 16 bytes, and one more that tells what `lasting` leaves out."""
        if self._pseudonyms is not None and text[:2] in ("c:", "a:"):
            text = self._pseudonyms.person(text)
        found = keyed_hash(self.key, text)
        return found + STAYS.encode() if text.startswith(STAYS) else found

    def add(self, nodes: Iterable[str], hashes: Iterable[bytes] = ()) -> list[bytes]:
        """Forget these too; the hashes that are new."""
        fresh = sorted({*map(self.hash, nodes), *hashes} - self.hashes)
        if fresh:
            self.hashes.update(fresh)
            self._known.cache_clear()
        return fresh

    def remove(self, hashes: Iterable[bytes]) -> None:
        """Take these back: what they stand for could not be forgotten."""
        self.hashes.difference_update(hashes)
        self._known.cache_clear()


def lasting(hashes: Iterable[bytes]) -> list[bytes]:
    """Of a forget list what another generation begins with, sorted."""
    return sorted(known for known in hashes if len(known) == _SIZE)


@lru_cache(maxsize=16)
def _addresses(partitions: int) -> tuple[str, ...]:
    """For each partition of the log a key that lies in it, and is no node's."""
    found: dict[int, str] = {}
    n = 0
    while len(found) < partitions:
        found.setdefault(crc32(b"f:%d" % n) % partitions, f"f:{n}")
        n += 1
    return tuple(found[partition] for partition in range(partitions))


def everywhere(persons: Iterable[str], partitions: int, offset: int = 0, hashes: Iterable[bytes] = ()) -> list[Forget]:
    """For each partition of the log one entry, or as many as so many persons need: what is to be forgotten may be named in any."""
    who, known = sorted(set(persons)), tuple(hashes)
    slices = [tuple(who[i : i + _PERSONS_MAX]) for i in range(0, len(who), _PERSONS_MAX)] or [()]
    each = [(key, part) for part in slices for key in _addresses(partitions)]
    return [Forget(key, offset, k, part, known if k < partitions else ()) for k, (key, part) in enumerate(each)]
