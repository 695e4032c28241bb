"""Which keys came before, when there are too many to keep."""

from __future__ import annotations

from array import array
from collections.abc import Callable

_FIRST_BITS = 12
_HASH_BITS = 32
_PLACE = 2**32 - 1  # the lower half of a slot


class Doubles:
    """Finds keys that came before, exactly, in 16 to 32 bytes each.

    A hash table with linear probing, never more than half full. A slot has 32 bits of a key's hash, the
    highest of which say where it belongs, and the position of the key, from 1; 0 is an empty one. Where the
    hashes are equal, `key_at` tells whether the keys are.
    """

    def __init__(self, key_at: Callable[[int], str]) -> None:
        self._key_at = key_at
        self._n = 0
        self._slots = array("Q")
        self._resize(_FIRST_BITS)

    def __contains__(self, key: str) -> bool:
        short = hash(key) & _PLACE
        at = short >> self._shift
        while slot := self._slots[at]:
            if slot >> _HASH_BITS == short and self._key_at((slot & _PLACE) - 1) == key:
                return True
            at = (at + 1) & self._last
        return False

    def add(self, key: str, position: int) -> None:
        """Remember a key that is not there; it can be had again by its position."""
        if 2 * self._n > self._last:
            self._resize(_HASH_BITS - self._shift + 1)
        self._put((hash(key) & _PLACE) << _HASH_BITS | (position + 1))
        self._n += 1

    def _put(self, slot: int) -> None:
        at = slot >> _HASH_BITS >> self._shift
        while self._slots[at]:
            at = (at + 1) & self._last
        self._slots[at] = slot

    def _resize(self, bits: int) -> None:
        old = self._slots
        self._slots = array("Q", [0]) * 2**bits
        self._shift, self._last = _HASH_BITS - bits, 2**bits - 1
        for slot in old:
            if slot:
                self._put(slot)
