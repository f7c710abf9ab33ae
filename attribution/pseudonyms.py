"""Keyed hashes in the place of the ids that trackers send (meaning §14, docs/privacy.md): the same id gives the same hash, and whoever has not
the key can neither read a hash nor try out ids.

Made at the very first step, before a key is formed: junk ids, internal ids and click ids are judged as they were sent, and nothing behind the intake
knows another id than the hash.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

from models.errors import ConfigError
from models.settings import Marketing

_SIZE = 16
_LIST = b"parcours"
_IDS = b"parcours ids"
_CONTENT = b"parcours content"
_CACHED = 1 << 15


def keyed_hash(key: bytes, text: str) -> bytes:
    """16 bytes that tell nothing of `text` to whoever has not the key. A key may have any length."""
    return hashlib.blake2b(text.encode(), digest_size=_SIZE, key=_short(key), person=_LIST).digest()


@lru_cache(maxsize=4)
def _short(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


class Pseudonyms:
    """The hashes of one key. An id's says nothing of its entry on the forget list, which is a hash of this hash."""

    __slots__ = ("_key", "_known")

    def __init__(self, key: bytes) -> None:
        self._key = _short(key)
        self._known = lru_cache(_CACHED)(self._make)

    def of(self, name: str) -> str:
        """32 hexadecimal digits for a person key or a click id. A device and a customer of one id have different ones."""
        return self._known(name)

    def _make(self, name: str) -> str:
        return hashlib.blake2b(name.encode(), digest_size=_SIZE, key=self._key, person=_IDS).hexdigest()

    def person(self, person: str) -> str:
        """`c:anna` or `a:laptop` with the hash in the place of the id."""
        return person[:2] + self._known(person)

    def digest(self, value: bytes) -> int:
        """A content hash of 32 bits: by a plain one, ids could be tried out in an event of which all else is known."""
        return int.from_bytes(hashlib.blake2b(value, digest_size=4, key=self._key, person=_CONTENT).digest(), "big")


def pseudonyms(marketing: Marketing, key: bytes | None) -> Pseudonyms | None:
    """What makes the ids that are stored under this configuration; None where they are stored as sent. Raises ConfigError without a key."""
    if marketing.privacy.ids != "hashed":
        return None
    if key is None:
        raise ConfigError(
            'privacy.ids: "hashed" needs the key of the hashes: set PARCOURS_FORGET_KEY, the same for all workers and for ever, '
            'or write ids = "as_sent"'
        )
    return Pseudonyms(key)
