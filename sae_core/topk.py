"""The k largest of each row of many, faster than a partition of the row.

The maxima of `GROUPS_PER_PICK` k groups of a row bound its k-th largest value from below: k groups have a
maximum of at least the k-th largest of these maxima. One comparison with that bound leaves a few more than
k candidates, and only these are sorted. Each row is read twice, in order, and nothing else is done per value.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

GROUPS_PER_PICK = 4  # more of them cost more to partition, fewer leave more candidates: 1.15 k with these
_MAGNITUDE = np.uint32(0x7FFF_FFFF)  # all bits of a float32 but its sign
_NOTHING = np.iinfo(np.uint64).max  # sorts behind every candidate
_LOW = np.uint64(32)


def top_k(a_BN: NDArray[np.float32], k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Indices and values (B, k) of the k largest of each row, largest first, ties by index; 1 <= k <= N."""
    n_rows, n = a_BN.shape
    is_below_BN = a_BN < _lower_bounds(a_BN, k)[:, None]
    # Candidates are those not below, rather than those above: where a value is NaN there are too many, never
    # too few.
    places = np.flatnonzero(np.logical_not(is_below_BN, out=is_below_BN))
    starts = np.searchsorted(places, np.arange(n_rows + 1) * n)
    counts_B = np.diff(starts)
    rows = np.repeat(np.arange(n_rows), counts_B)
    keys_BC = np.full((n_rows, counts_B.max(initial=k)), _NOTHING)
    keys_BC[rows, np.arange(len(places)) - starts[rows]] = pack(a_BN.ravel()[places], places - rows * n)
    keys_BC.sort(axis=1)
    values_BK, indices_BK = unpack(keys_BC[:, :k])
    return indices_BK.astype(np.int64), values_BK


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


def _lower_bounds(a_BN: NDArray[np.float32], k: int) -> NDArray[np.float32]:
    """For each row a value that at least k of its values reach, (B,)."""
    n_rows, n = a_BN.shape
    size = max(1, n // (GROUPS_PER_PICK * k))
    n_groups = n // size
    # Group g holds the values g, g + n_groups, g + 2 n_groups ...: so the maximum is one of whole vectors.
    maxima_BG = a_BN[:, : n_groups * size].reshape(n_rows, size, n_groups).max(axis=1)
    bounds_B: NDArray[np.float32] = np.partition(maxima_BG, n_groups - k, axis=1)[:, n_groups - k]
    return bounds_B
