"""Dictionaries that are no SAE, as SAE objects, so that every measure runs on them unchanged.

Source: arXiv 2602.14111, where random decoders come close to SAEs on several measures of interpretability.
A measure says something of an SAE only as far as these fall behind it. Each has as many latents, and as many
active per document, as the SAE it stands beside, where it can. Their errors are those of `metrics.baselines`:
an encoder of one product is not what reconstructs best with these directions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from sae_core.codes import Codes, encode_codes
from sae_core.metrics import MAX_TRAIN_ROWS, kmeans
from sae_core.sae import SAE
from sae_core.splitting import draw_even

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sae_core.codes import Rows

PCA, KMEANS, RANDOM = "PCA", "k-means", "random decoder"
NAMES = (PCA, KMEANS, RANDOM)


@dataclass(frozen=True)
class Dictionary:
    """A baseline: an SAE that was not trained, and its codes once a collection was encoded with it."""

    name: str
    sae: SAE
    remark: str  # what it is, and where it is smaller than it should be
    codes: Codes | None = None

    def encoded(self, x_MD: Rows) -> Dictionary:
        """The same with the codes of these rows."""
        return replace(self, codes=encode_codes(self.sae, x_MD))


def dictionaries(like: SAE, x_train_MD: NDArray[np.float32], seed: int = 0) -> list[Dictionary]:
    """PCA, k-means and a random decoder of the size of an SAE, made from (at most 20,000) training rows."""
    rows = np.random.default_rng((seed, 11)).permutation(len(x_train_MD))[:MAX_TRAIN_ROWS]
    x_train_MD = np.asarray(x_train_MD[np.sort(rows)], dtype=np.float32)
    return [
        pca_dictionary(x_train_MD, like.n_latents, like.k),
        kmeans_dictionary(x_train_MD, like.n_latents, like.k),
        random_dictionary(x_train_MD, like.n_latents, like.k, seed),
    ]


def pca_dictionary(x_MD: NDArray[np.float32], n_latents: int, k: int) -> Dictionary:
    """Principal components, each once with either sign, those of the largest variance first.

    A row's code is the k components on which it lies furthest out. There are only D components: with
    n_latents > 2 D the dictionary has 2 D latents, and says so.
    """
    mean_D = x_MD.mean(axis=0)
    centred_MD = x_MD - mean_D
    _, vectors = np.linalg.eigh(centred_MD.T @ centred_MD)
    components_DD = vectors[:, ::-1].T.astype(np.float32)
    both_ND = np.stack((components_DD, -components_DD), axis=1).reshape(-1, x_MD.shape[1])[:n_latents]
    remark = f"the {k} principal components, of either sign, on which a document lies furthest out"
    if len(both_ND) < n_latents:
        remark += f"; only {len(both_ND):,} latents, as {x_MD.shape[1]:,} dimensions have no more components"
    return Dictionary(PCA, _from_directions(both_ND, mean_D, k), remark)


def kmeans_dictionary(x_MD: NDArray[np.float32], n_latents: int, k: int) -> Dictionary:
    """Directions from the mean to the centroids of k-means; a row's code is the k nearest by product."""
    mean_D = x_MD.mean(axis=0)
    offsets_ND = kmeans(x_MD, n_latents) - mean_D
    lengths_N1 = np.linalg.norm(offsets_ND, axis=1, keepdims=True)
    remark = f"the {k} centroids of k-means whose direction from the mean is nearest to a document's"
    if len(offsets_ND) < n_latents:
        remark += f"; only {len(offsets_ND):,} latents, as there are no more training documents"
    directions_ND = offsets_ND / np.maximum(lengths_N1, 1e-12)
    return Dictionary(KMEANS, _from_directions(directions_ND, mean_D, k), remark)


def random_dictionary(x_MD: NDArray[np.float32], n_latents: int, k: int, seed: int = 0) -> Dictionary:
    """Unit directions drawn evenly; a row's code is the k with the largest product, the mean removed."""
    like_ND = np.empty((n_latents, x_MD.shape[1]), dtype=np.float32)
    directions_ND = draw_even(like_ND, (seed, 13))
    remark = f"the {k} of {n_latents:,} directions drawn at random that are nearest to a document"
    return Dictionary(RANDOM, _from_directions(directions_ND, x_MD.mean(axis=0), k), remark)


def _from_directions(directions_ND: NDArray[np.float32], mean_D: NDArray[np.float32], k: int) -> SAE:
    """The SAE whose encoder is its decoder: a = d . (x - mean)."""
    zeros_N = np.zeros(len(directions_ND), dtype=np.float32)
    k = max(1, min(k, len(directions_ND) - 1))
    return SAE(W_enc_ND=directions_ND, W_dec_ND=directions_ND, b_enc_N=zeros_N, b_dec_D=mean_D, k=k)
