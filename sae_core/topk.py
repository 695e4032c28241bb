"""The k largest of each row of many, faster than a partition of the row; also of a product, tile by tile.

The maxima of `GROUPS_PER_PICK` k groups of a row bound its k-th largest value from below: k groups have a
maximum of at least the k-th largest of these maxima. One comparison with that bound leaves a few more than
k candidates, and only these are sorted. Of further tiles of a row only what reaches its k-th largest value so
far is a candidate at all, so that each value of a long row is read once, while it is still in the cache.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

GROUPS_PER_PICK = 4  # more of them cost more to partition, fewer leave more candidates: 1.15 k with these
# Values of a product at a time: 16 MiB, which the allocator has ready when it was used before. Above 32 MiB
# the system clears pages anew, which costs a third of a product with D = 384. With 512 rows a tile is 8192
# wide; half as wide, numpy needs twice the time to compare its rows with their bounds.
TILE = 2**22
_MAGNITUDE = np.uint32(0x7FFF_FFFF)  # all bits of a float32 but its sign
_NOTHING = np.iinfo(np.uint64).max  # sorts behind every candidate
_LOW = np.uint64(32)

Picks = tuple[NDArray[np.int64], NDArray[np.float32]]


def top_k(a_BN: NDArray[np.float32], k: int) -> Picks:
    """Indices and values (B, k) of the k largest of each row, largest first, ties by index; 1 <= k <= N."""
    strongest = _Strongest(len(a_BN), k)
    strongest.add(a_BN, 0)
    return strongest.picks()


def top_k_of_product(
    x_BD: NDArray[np.float32], W_ND: NDArray[np.float32], bias_N: NDArray[np.float32], k: int
) -> Picks:
    """`top_k` of x W^T + bias, of which no more than a tile is in memory at a time."""
    n = len(W_ND)
    size = max(TILE // max(1, len(x_BD)), GROUPS_PER_PICK * k)
    strongest = _Strongest(len(x_BD), k)
    for tile, first in enumerate(range(0, n, size)):
        if tile & (tile - 1) == 0:  # after 1, 2, 4 ... tiles: a better bound is worth a sort ever more rarely
            strongest.settle()
        a_BT = x_BD @ W_ND[first : first + size].T
        a_BT += bias_N[first : first + size]
        strongest.add(a_BT, first)
    return strongest.picks()


def pack(values: NDArray[np.float32], numbers: NDArray[np.integer]) -> NDArray[np.uint64]:
    """Keys whose ascending order is that of falling values, equal values by number; numbers < 2^32.

    Without their sign the bits of a float32 are ordered as its magnitude is: those of positive values are
    inverted, those of negative values stay as they are, and are larger by their sign bit.
    """
    keys = _turn(values.view(np.uint32)).astype(np.uint64)
    keys <<= _LOW
    keys |= numbers.astype(np.uint64)
    return keys


def unpack(keys: NDArray[np.uint64]) -> tuple[NDArray[np.float32], NDArray[np.uint32]]:
    """The values and numbers that `pack` was given."""
    bits = (keys >> _LOW).astype(np.uint32)
    return _turn(bits).view(np.float32), keys.astype(np.uint32)


def _turn(bits: NDArray[np.uint32]) -> NDArray[np.uint32]:
    return np.where(bits > _MAGNITUDE, bits, bits ^ _MAGNITUDE)


class _Strongest:
    """Candidates for the k largest of each row, as keys; at least k of them once something was added."""

    def __init__(self, n_rows: int, k: int) -> None:
        self._k = k
        self._keys_BC = np.full((n_rows, 2 * k), _NOTHING)
        self._counts_B = np.zeros(n_rows, dtype=np.int64)
        self._bounds_B: NDArray[np.float32] | None = None  # reached by k values of the row

    def add(self, a_BT: NDArray[np.float32], first: int) -> None:
        """Further values of each row, numbered from `first` on; at least k of them the first time."""
        n_rows, size = a_BT.shape
        if self._bounds_B is None:
            self._bounds_B = _lower_bounds(a_BT, self._k)
        # Candidates are those not below, rather than those above: where a value is NaN there are too many of
        # them, never too few.
        is_below_BT = a_BT < self._bounds_B[:, None]
        places = np.flatnonzero(np.logical_not(is_below_BT, out=is_below_BT))
        starts = np.searchsorted(places, np.arange(n_rows + 1) * size)
        counts_B = np.diff(starts)
        rows = np.repeat(np.arange(n_rows), counts_B)
        columns = np.arange(len(places)) + (self._counts_B - starts[:-1])[rows]
        self._counts_B += counts_B
        self._widen(int(self._counts_B.max(initial=0)))
        self._keys_BC[rows, columns] = pack(a_BT.ravel()[places], places - rows * size + first)

    def settle(self) -> None:
        """Forget all candidates but the k strongest, which give a better bound."""
        if self._bounds_B is not None:
            self._keys_BC.sort(axis=1)
            self._keys_BC[:, self._k :] = _NOTHING
            self._counts_B[:] = self._k
            self._bounds_B, _ = unpack(self._keys_BC[:, self._k - 1])

    def picks(self) -> Picks:
        """Indices and values of the k largest."""
        self.settle()
        values_BK, indices_BK = unpack(self._keys_BC[:, : self._k])
        return indices_BK.astype(np.int64), values_BK

    def _widen(self, width: int) -> None:
        missing = width - self._keys_BC.shape[1]
        if missing > 0:
            self._keys_BC = np.pad(self._keys_BC, ((0, 0), (0, missing)), constant_values=_NOTHING)


def _lower_bounds(a_BN: NDArray[np.float32], k: int) -> NDArray[np.float32]:
    """For each row a value that at least k of its values reach, (B,)."""
    n_rows, n = a_BN.shape
    size = max(1, n // (GROUPS_PER_PICK * k))
    n_groups = n // size
    # Group g holds the values g, g + n_groups, g + 2 n_groups ...: so the maximum is one of whole vectors.
    maxima_BG = a_BN[:, : n_groups * size].reshape(n_rows, size, n_groups).max(axis=1)
    bounds_B: NDArray[np.float32] = np.partition(maxima_BG, n_groups - k, axis=1)[:, n_groups - k]
    return bounds_B
