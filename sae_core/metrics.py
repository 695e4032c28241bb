"""The numbers by which an SAE is judged: one definition each, denominator included."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from sae_core.sae import SAE

ROWS_PER_BLOCK = 2048
RARE_DENSITY = 1e-4  # a living latent that fires on a smaller share of the documents is rare


def fvu(x_BD: NDArray[np.float32], reconstruction_BD: NDArray[np.float32]) -> float:
    """Fraction of variance unexplained: sum (x - x^)^2 / sum (x - mean)^2, mean over the rows of x.

    0 is perfect, 1 is what the mean row achieves. Constant rows have no variance: the result is nan.
    """
    error = np.square(x_BD - reconstruction_BD, dtype=np.float64).sum()
    variance = np.square(x_BD - x_BD.mean(axis=0), dtype=np.float64).sum()
    return float(error / variance) if variance > 0 else float("nan")


def evaluate(sae: SAE, x_MD: NDArray[np.float32]) -> dict[str, float]:
    """FVU and L0 (mean number of activations > 0) of an SAE on the rows of `x_MD`."""
    error = variance = fires = 0.0
    mean_D = x_MD.mean(axis=0)
    for block in blocks(len(x_MD)):
        x_BD = np.asarray(x_MD[block], dtype=np.float32)
        latents = sae.encode(x_BD)
        error += float(np.square(x_BD - sae.decode(latents), dtype=np.float64).sum())
        variance += float(np.square(x_BD - mean_D, dtype=np.float64).sum())
        fires += float((latents.values_BK > 0).sum())
    return {"fvu": error / variance if variance > 0 else float("nan"), "l0": fires / len(x_MD)}


def pca_fvu(x_train_MD: NDArray[np.float32], x_MD: NDArray[np.float32], n_components: int) -> float:
    """FVU on `x_MD` of the best linear code of `n_components` numbers per row, fitted on `x_train_MD`.

    The baseline of a k-sparse code at equal numbers stored per document.
    """
    mean_D = x_train_MD.mean(axis=0)
    centred = x_train_MD - mean_D
    _, vectors = np.linalg.eigh(centred.T @ centred)
    basis = vectors[:, ::-1][:, :n_components].astype(np.float32)
    return fvu(x_MD, (x_MD - mean_D) @ basis @ basis.T + mean_D)


def blocks(n: int, size: int = ROWS_PER_BLOCK) -> Iterable[slice]:
    """Slices that cover 0..n in order."""
    return (slice(start, min(start + size, n)) for start in range(0, n, size))
