"""The numbers by which an SAE is judged: one definition each, denominator included."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from sae_core.sae import SAE

ROWS_PER_BLOCK = 2048
MAX_TRAIN_ROWS, MAX_HELDOUT_ROWS = 20_000, 2_000  # of the baselines
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


def scorecard(
    sae: SAE,
    x_train_MD: NDArray[np.float32],
    x_heldout_MD: NDArray[np.float32],
    counts_N: NDArray[np.int64],
    n_documents: int,
) -> dict[str, Any]:
    """The numbers of an SAE's scorecard; `counts_N` says on how many of all documents each latent fires."""
    train, heldout = evaluate(sae, x_train_MD), evaluate(sae, x_heldout_MD)
    rare_N = (counts_N > 0) & (counts_N < RARE_DENSITY * n_documents)
    return {
        "n_latents": sae.n_latents,
        "k": sae.k,
        "n_train": len(x_train_MD),
        "n_heldout": len(x_heldout_MD),
        "fvu_train": train["fvu"],
        "fvu_heldout": heldout["fvu"],
        "l0": heldout["l0"],
        "n_dead": int((counts_N == 0).sum()),
        "n_rare": int(rare_N.sum()),
        "baselines": baselines(sae, x_train_MD, x_heldout_MD),
    }


def baselines(
    sae: SAE, x_train_MD: NDArray[np.float32], x_heldout_MD: NDArray[np.float32]
) -> list[dict[str, Any]]:
    """Held-out FVU of what an SAE must beat, on at most 2,000 held-out and 20,000 training rows."""
    x_train_MD, x_heldout_MD = x_train_MD[:MAX_TRAIN_ROWS], x_heldout_MD[:MAX_HELDOUT_ROWS]
    rng = np.random.default_rng(0)
    random_ND = rng.standard_normal((sae.n_latents, x_train_MD.shape[1])).astype(np.float32)
    random_ND /= np.linalg.norm(random_ND, axis=1, keepdims=True)
    mean_D = x_train_MD.mean(axis=0)
    found = {
        f"PCA, {sae.k} components": (
            pca_fvu(x_train_MD, x_heldout_MD, sae.k),
            "the best linear code of as many numbers per document; dense, so it has no features to read",
        ),
        f"k-means, {sae.n_latents} centroids": (
            fvu(x_heldout_MD, kmeans_reconstruction(x_train_MD, x_heldout_MD, sae.n_latents)),
            "every document is its nearest centroid: one feature per document",
        ),
        f"random directions, {sae.n_latents}": (
            fvu(x_heldout_MD, pursue(x_heldout_MD - mean_D, random_ND, sae.k) + mean_D),
            f"the {sae.k} nearest of as many untrained directions, with least-squares weights",
        ),
    }
    return [{"name": name, "fvu_heldout": value, "remark": remark} for name, (value, remark) in found.items()]


def kmeans_reconstruction(
    x_train_MD: NDArray[np.float32], x_MD: NDArray[np.float32], n_centroids: int, iterations: int = 8
) -> NDArray[np.float32]:
    """The nearest centroid of each row of `x_MD`, after Lloyd's algorithm on the training rows."""
    start = np.random.default_rng(0).permutation(len(x_train_MD))[:n_centroids]
    centroids_ND = x_train_MD[np.sort(start)].copy()
    for _ in range(iterations):
        nearest_M = _nearest(x_train_MD, centroids_ND)
        shape = (len(centroids_ND), len(x_train_MD))
        ones = np.ones(len(x_train_MD), dtype=np.float32)
        members = sp.csr_matrix((ones, (nearest_M, np.arange(len(x_train_MD)))), shape=shape)
        sizes_N = np.asarray(members.sum(axis=1)).ravel()
        filled_N = sizes_N > 0
        centroids_ND[filled_N] = (members @ x_train_MD)[filled_N] / sizes_N[filled_N, None]
    return centroids_ND[_nearest(x_MD, centroids_ND)]


def pursue(x_MD: NDArray[np.float32], directions_ND: NDArray[np.float32], k: int) -> NDArray[np.float32]:
    """Each row as the least-squares combination of its k directions with the largest product."""
    out = np.empty_like(x_MD)
    for row, x_D in enumerate(x_MD):
        picked = np.argpartition(-(directions_ND @ x_D), k - 1)[:k]
        weights, *_ = np.linalg.lstsq(directions_ND[picked].T, x_D, rcond=None)
        out[row] = weights @ directions_ND[picked]
    return out


def _nearest(x_MD: NDArray[np.float32], centroids_ND: NDArray[np.float32]) -> NDArray[np.int64]:
    """Index of the centroid at the smallest distance, (M,)."""
    half_N = np.square(centroids_ND).sum(axis=1) / 2
    parts = [np.argmax(x_MD[block] @ centroids_ND.T - half_N, axis=1) for block in blocks(len(x_MD))]
    return np.concatenate(parts)
