"""Feature splitting: which features of one SAE another SAE of the same collection has too.

Source: arXiv 2408.00657, section 4.2. Two relations, because they can differ: directions that point the same
way (decoder cosine), and documents that have both features (Jaccard). The paper finds that features of a
larger SAE either recur or are new, so that the largest cosines have two humps. Nothing of size latents x
latents is held.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import scipy.sparse as sp

from sae_core.intervals import wilson
from sae_core.metrics import COSINE_BIN, SAME_FEATURE, blocks, nearest_cosine

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sae_core.codes import Codes
    from sae_core.sae import SAE

LATENTS_PER_BLOCK = 512  # a block of cosines with 10,000 others is 20 MB
NONE = -1  # no match: the feature is dead, or nothing living is there to match
NULL_SEED = (2408, 657, 6)
MAX_NULL_ROWS = 2_048  # features for which the nearest random direction is looked up
MIN_FOR_SHAPE = 30  # cosines, below which the number of humps says nothing
HUMP = 0.02  # of the highest one: what is lower is no hump


class Coded(Protocol):
    """An SAE with its codes of a collection."""

    @property
    def sae(self) -> SAE:
        """The weights."""

    @property
    def codes(self) -> Codes:
        """Activations of every document."""


@dataclass(frozen=True)
class Matches:
    """For each of N features the nearest of another SAE, by direction and by documents.

    -1, with zeros beside it, where there is none; `overlap_latent_N` is also -1 where no document has both.
    """

    latent_N: NDArray[np.int32]  # of the other SAE: the largest decoder cosine
    cosine_N: NDArray[np.float32]
    jaccard_N: NDArray[np.float32]  # documents with both / with either, of that same pair
    overlap_latent_N: NDArray[np.int32]  # the largest Jaccard
    overlap_N: NDArray[np.float32]


def match(a: Coded, b: Coded) -> Matches:
    """The best match in `b` of each living feature of `a`, among the living; equal ones by number.

    Raises ValueError if the two have codes of different numbers of documents.
    """
    if a.codes.n_documents != b.codes.n_documents:
        raise ValueError(f"codes of {a.codes.n_documents} and {b.codes.n_documents} documents")
    n = a.codes.n_latents
    found = Matches(*(np.full(n, *how) for how in _EMPTY))
    counts_a, counts_b = a.codes.counts(), b.codes.counts()
    living_b = np.flatnonzero(counts_b)
    if not len(living_b):
        return found
    directions_b = b.sae.directions_ND[living_b]
    fires_a, fires_b = sp.csr_matrix(a.codes.fires().T), b.codes.fires()
    for block in blocks(n, LATENTS_PER_BLOCK):
        cosines = a.sae.directions_ND[block] @ directions_b.T
        nearest = cosines.argmax(axis=1)
        found.latent_N[block] = living_b[nearest]
        found.cosine_N[block] = np.take_along_axis(cosines, nearest[:, None], axis=1)[:, 0]
        _overlaps(found, block, sp.csr_matrix(fires_a[block] @ fires_b), counts_a, counts_b)
    dead = counts_a == 0
    found.latent_N[dead], found.cosine_N[dead] = NONE, 0
    return found


_EMPTY: tuple[tuple[int, type[np.generic]], ...] = (
    (NONE, np.int32), (0, np.float32), (0, np.float32), (NONE, np.int32), (0, np.float32),
)  # fmt: skip


def _overlaps(
    found: Matches,
    block: slice,
    both: sp.csr_matrix,
    counts_a: NDArray[np.int64],
    counts_b: NDArray[np.int64],
) -> None:
    """Fill in what the documents say of a block of features; `both` counts those that have both."""
    both.sort_indices()  # so that of equal overlaps the lower number is met first
    rows = np.repeat(np.arange(both.shape[0]), np.diff(both.indptr))
    union = counts_a[block][rows] + counts_b[both.indices] - both.data
    jaccard = (both.data / union).astype(np.float32)
    order = np.lexsort((both.indices, -jaccard, rows))
    first = order[np.unique(rows[order], return_index=True)[1]]
    found.overlap_latent_N[block.start + rows[first]] = both.indices[first]
    found.overlap_N[block.start + rows[first]] = jaccard[first]
    same = both.indices == found.latent_N[block][rows]
    found.jaccard_N[block.start + rows[same]] = jaccard[same]


def shares(cosine_N: NDArray[np.float32]) -> dict[str, Any]:
    """How many features recur, from their largest cosines with the directions of another SAE.

    A feature recurs if that cosine is above `SAME_FEATURE`, else it is new. `low` and `high` are the 95 %
    Wilson interval of the share, `counts` the cosines over equal bins from `bins_low` to 1.
    """
    n_recurrent = int((cosine_N > SAME_FEATURE).sum())
    share = wilson(n_recurrent, len(cosine_N))
    bins_low = -1.0 if (cosine_N < 0).any() else 0.0
    n_bins = round((1 - bins_low) / COSINE_BIN)
    counts, _ = np.histogram(np.clip(cosine_N, -1, 1), bins=n_bins, range=(bins_low, 1))
    return {
        "threshold": SAME_FEATURE,
        "n": len(cosine_N),
        "recurrent": n_recurrent / len(cosine_N) if len(cosine_N) else None,
        "low": share.low,
        "high": share.high,
        "mean_cosine": float(cosine_N.mean()) if len(cosine_N) else None,
        "humps": count_humps(cosine_N),
        "bins_low": bins_low,
        "counts": counts.tolist(),
    }


def against_chance(
    directions_ND: NDArray[np.float32], others_ND: NDArray[np.float32]
) -> dict[str, dict[str, float | None]]:
    """What `shares` would find in two dictionaries that nobody trained, as large as `others_ND`.

    "random": unit directions drawn evenly; "shaped": drawn with the mean and the covariance of `others_ND`,
    so that they lie as unevenly in space. Asked for at most 2,048 of the features.
    """
    asked_ND = directions_ND[:MAX_NULL_ROWS]
    found = {}
    for name, null_ND in (("random", draw_even(others_ND)), ("shaped", draw_shaped(others_ND))):
        cosines_N = nearest_cosine(asked_ND, null_ND)
        has_any = len(cosines_N) > 0
        found[name] = {
            "recurrent": float((cosines_N > SAME_FEATURE).mean()) if has_any else None,
            "mean_cosine": float(cosines_N.mean()) if has_any else None,
        }
    return found


def compare(a: Coded, b: Coded, matches: Matches) -> dict[str, Any]:
    """`shares` and `against_chance` of the living features of `a` in `b`, and the mean overlap."""
    living_a, living_b = a.codes.counts() > 0, b.codes.counts() > 0
    directions_a, directions_b = a.sae.directions_ND[living_a], b.sae.directions_ND[living_b]
    overlap_N = matches.overlap_N[living_a]
    return {
        **shares(matches.cosine_N[living_a]),
        "n_others": len(directions_b),
        "mean_overlap": float(overlap_N.mean()) if len(overlap_N) else None,
        "null": against_chance(directions_a, directions_b),
    }


def draw_even(like_ND: NDArray[np.float32], seed: tuple[int, ...] = NULL_SEED) -> NDArray[np.float32]:
    """As many unit directions as `like_ND` has, drawn evenly over the sphere."""
    return _unit(np.random.default_rng(seed).standard_normal(like_ND.shape, dtype=np.float32))


def draw_shaped(like_ND: NDArray[np.float32], seed: tuple[int, ...] = NULL_SEED) -> NDArray[np.float32]:
    """As many unit directions as `like_ND` has, Gaussian with its mean and covariance before scaling."""
    if not len(like_ND):
        return like_ND
    mean_D = like_ND.mean(axis=0)
    centred_ND = (like_ND - mean_D) / np.sqrt(len(like_ND))
    # Random sums of the rows themselves have their covariance, without taking a root of a matrix.
    rng = np.random.default_rng((*seed, 1))
    parts = [
        rng.standard_normal((block.stop - block.start, len(like_ND)), dtype=np.float32) @ centred_ND
        for block in blocks(len(like_ND), LATENTS_PER_BLOCK)
    ]
    return _unit(np.concatenate(parts) + mean_D)


def count_humps(values_N: NDArray[np.floating[Any]]) -> int | None:
    """Maxima of the smoothed distribution (Gaussian kernel, Silverman's width); None for too few values."""
    if len(values_N) < MIN_FOR_SHAPE or float(np.ptp(values_N)) == 0:
        return None
    from scipy.stats import gaussian_kde  # here, because serving counts no humps: 40 MB

    at = np.linspace(float(values_N.min()), float(values_N.max()), 200)
    density = gaussian_kde(np.asarray(values_N, dtype=np.float64), bw_method="silverman")(at)
    padded = np.concatenate(([0], density, [0]))
    is_top = (padded[1:-1] > padded[:-2]) & (padded[1:-1] >= padded[2:]) & (density > HUMP * density.max())
    return int(is_top.sum())


def _unit(rows_ND: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths_N1 = np.linalg.norm(rows_ND, axis=1, keepdims=True)
    unit_ND: NDArray[np.float32] = (rows_ND / np.maximum(lengths_N1, 1e-12)).astype(np.float32)
    return unit_ND
