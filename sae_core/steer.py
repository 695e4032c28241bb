"""Steering: pure functions on a query, its latents and the decoder directions.

    x' = (x + sum_i (s_i - z_i) d_i) / |...|

adds the *change* a person asked for to the true embedding x, where z_i is the query's own activation and
s_i the strength that was set. Nothing moved gives x itself (the published app ranks by the reconstruction,
whose untouched sliders already change the results). The map is linear up to its length, so the products of
x' with all documents follow from those of x and of each d_i.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray


def changes(strengths: Mapping[int, float], own: Mapping[int, float]) -> dict[int, float]:
    """s_i - z_i of each latent whose strength differs from the query's own activation."""
    deltas = {latent: strength - own.get(latent, 0.0) for latent, strength in sorted(strengths.items())}
    return {latent: delta for latent, delta in deltas.items() if delta != 0.0}


def move(
    x_D: NDArray[np.float32],
    deltas: Mapping[int, float],
    directions_ND: NDArray[np.float32],
) -> tuple[NDArray[np.float32], float]:
    """The steered unit vector (D,) and the length it had before it was normalised."""
    if not deltas:
        return x_D, 1.0
    weights = np.fromiter(deltas.values(), dtype=np.float32)
    moved_D = x_D + weights @ directions_ND[list(deltas)]
    length = float(np.linalg.norm(moved_D))
    return (moved_D / length).astype(np.float32), length


def combine(
    base_M: NDArray[np.float32],
    column: Callable[[int], NDArray[np.float32]],
    deltas: Mapping[int, float],
    length: float,
) -> NDArray[np.float32]:
    """Products of the steered query with every document: (base + sum delta_i column(i)) / length, (M,)."""
    if not deltas:
        return base_M
    total = base_M / np.float32(length)
    for latent, delta in deltas.items():
        total += np.float32(delta / length) * column(latent)
    return total


def explained(
    x_D: NDArray[np.float32], reconstruction_D: NDArray[np.float32], b_dec_D: NDArray[np.float32]
) -> float:
    """Share of |x - b_dec|^2 that the features explain, 0..1."""
    missed = float(np.square(x_D - reconstruction_D).sum())
    whole = float(np.square(x_D - b_dec_D).sum())
    return max(0.0, 1.0 - missed / whole) if whole > 0 else 0.0
