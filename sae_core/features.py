"""Features: what is known of each latent from the documents on which it fires and nearly fires.

`describe` computes everything once, when a collection is built; pages only read it. Nothing of size
latents x latents or documents x latents is ever held: products are made block by block.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import scipy.sparse as sp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from sae_core.codes import Codes
    from sae_core.sae import SAE

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
N_BINS = 24
N_NEIGHBOURS = 12
N_NEAR = 60
MIN_TOGETHER = 5  # documents on which two latents fire, below which a lift says nothing
NONE = -1  # fills a list of latents or documents that is shorter than its width

CELLS_PER_BLOCK = 8_000_000  # float32 numbers in the largest block: 32 MB
LATENTS_PER_BLOCK = 512

_Neighbours: TypeAlias = "tuple[NDArray[np.int32], NDArray[np.float32]]"


@dataclass(frozen=True)
class FeatureTable:
    """N latents, one row each: Q quantiles, H bins, S neighbours, M near misses.

    Lists are best first and end in -1 (with a 0 beside it) where there are no more.
    """

    n_documents_N: NDArray[np.int32]  # on which the latent fires
    max_N: NDArray[np.float32]  # 0 for a dead latent, as are the next three
    mean_N: NDArray[np.float32]  # of the documents that have it
    quantiles_NQ: NDArray[np.float32]  # likewise, at QUANTILES
    histogram_NH: NDArray[np.uint32]  # likewise, equal bins from 0 to the maximum
    similar_NS: NDArray[np.int32]  # latents by falling decoder cosine, > 0
    similar_cosine_NS: NDArray[np.float32]
    opposite_NS: NDArray[np.int32]  # latents by rising decoder cosine, < 0
    opposite_cosine_NS: NDArray[np.float32]
    together_NS: NDArray[np.int32]  # latents by falling lift = observed / expected, > 1
    together_observed_NS: NDArray[np.int32]  # documents on which both fire, at least MIN_TOGETHER
    together_expected_NS: NDArray[np.float32]  # documents on which both would, were they independent
    together_lift_NS: NDArray[np.float32]
    near_NM: NDArray[np.int32]  # documents on which the latent is silent, by falling pre-activation
    near_preactivation_NM: NDArray[np.float32]


def describe(
    sae: SAE,
    codes: Codes,
    x_MD: NDArray[np.float32],
    progress: Callable[[int, int], None] | None = None,
) -> FeatureTable:
    """Everything a feature page says of a latent that its codes and directions can tell, exactly.

    `x_MD` are the embeddings that `codes` was made from; `progress` gets (blocks done, blocks in all).
    """
    latent_blocks = list(_spans(codes.n_latents, LATENTS_PER_BLOCK))
    rows = max(1, CELLS_PER_BLOCK // max(codes.n_latents, 1))
    document_blocks = list(_spans(codes.n_documents, rows))
    total = 2 * len(latent_blocks) + len(document_blocks)
    done = itertools.count(1)

    def tick() -> None:
        if progress is not None:
            progress(next(done), total)

    max_N, mean_N, quantiles_NQ, histogram_NH = _activations(codes)
    similar, opposite = _by_direction(sae.directions_ND, latent_blocks, tick)
    together_NS, observed_NS, expected_NS, lift_NS = _together(codes, latent_blocks, tick)
    near_NM, near_preactivation_NM = _near_misses(sae, codes, x_MD, document_blocks, tick)
    return FeatureTable(
        n_documents_N=codes.counts().astype(np.int32),
        max_N=max_N,
        mean_N=mean_N,
        quantiles_NQ=quantiles_NQ,
        histogram_NH=histogram_NH,
        similar_NS=similar[0],
        similar_cosine_NS=similar[1],
        opposite_NS=opposite[0],
        opposite_cosine_NS=opposite[1],
        together_NS=together_NS,
        together_observed_NS=observed_NS,
        together_expected_NS=expected_NS,
        together_lift_NS=lift_NS,
        near_NM=near_NM,
        near_preactivation_NM=near_preactivation_NM,
    )


def _spans(n: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, n)) for start in range(0, n, size))


def _activations(
    codes: Codes,
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], NDArray[np.uint32]]:
    """Maximum, mean, quantiles and histogram of each latent's activations: slices of `latent_values`."""
    counts, first = codes.counts(), codes.latent_ptr[:-1]
    alive = counts > 0
    max_N = np.zeros(codes.n_latents, dtype=np.float32)
    max_N[alive] = codes.latent_values[first[alive]]  # strongest first
    latents = np.repeat(np.arange(codes.n_latents), counts)
    sums = np.bincount(latents, weights=codes.latent_values, minlength=codes.n_latents)
    mean_N = (sums / np.maximum(counts, 1)).astype(np.float32)

    quantiles_NQ = np.zeros((codes.n_latents, len(QUANTILES)), dtype=np.float32)
    for at, q in enumerate(QUANTILES):  # linear between neighbours, as numpy's default
        place = (1 - q) * (counts[alive] - 1)
        below = np.floor(place).astype(np.int64)
        above = np.minimum(below + 1, counts[alive] - 1)
        low, high = (codes.latent_values[first[alive] + step].astype(np.float64) for step in (below, above))
        quantiles_NQ[alive, at] = low + (high - low) * (place - below)

    bins = codes.latent_values / max_N[latents] * N_BINS
    bins = np.minimum(bins.astype(np.int64), N_BINS - 1)
    histogram = np.bincount(latents * N_BINS + bins, minlength=codes.n_latents * N_BINS)
    return max_N, mean_N, quantiles_NQ, histogram.reshape(-1, N_BINS).astype(np.uint32)


def _by_direction(
    directions_ND: NDArray[np.float32], blocks: list[slice], tick: Callable[[], None]
) -> tuple[_Neighbours, _Neighbours]:
    """The latents with the highest and the lowest decoder cosine, the latent itself left out."""
    import torch  # here, because serving reads a FeatureTable and needs none of this

    similar, opposite = _no_neighbours(len(directions_ND)), _no_neighbours(len(directions_ND))
    width = min(N_NEIGHBOURS, len(directions_ND) - 1)
    for block in blocks:
        cosines = torch.from_numpy(directions_ND[block] @ directions_ND.T)
        own = torch.arange(block.start, block.stop)
        for (latents_NS, cosines_NS), sign in ((similar, 1), (opposite, -1)):
            # Masked in place rather than deleted: the columns stay the numbers of the latents.
            cosines[own - block.start, own] = -sign * torch.inf
            values, columns = (part.numpy() for part in (sign * cosines).topk(width, dim=1))
            cosines_NS[block, :width] = np.where(values > 0, sign * values, 0)
            latents_NS[block, :width] = np.where(values > 0, columns, NONE)
        tick()
    return similar, opposite


def _no_neighbours(n_latents: int) -> _Neighbours:
    shape = (n_latents, N_NEIGHBOURS)
    return np.full(shape, NONE, dtype=np.int32), np.zeros(shape, dtype=np.float32)


def _together(
    codes: Codes, blocks: list[slice], tick: Callable[[], None]
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]]:
    """Latents that fire on the same documents, by lift; equal lifts by observed count, then by index."""
    latents_NS, lift_NS = _no_neighbours(codes.n_latents)
    observed_NS, expected_NS = np.zeros_like(latents_NS), np.zeros_like(lift_NS)
    counts = codes.counts()
    fires_MN = codes.fires()
    fires_NM = sp.csr_matrix(fires_MN.T)
    for block in blocks:
        pairs = (fires_NM[block] @ fires_MN).tocoo()
        i, j, observed = pairs.row + block.start, pairs.col, pairs.data
        expected = counts[i] * (counts[j] / max(codes.n_documents, 1))
        keep = (i != j) & (observed >= MIN_TOGETHER) & (observed > expected)
        i, j, observed, expected = i[keep], j[keep], observed[keep], expected[keep]
        lift = observed / expected
        order = np.lexsort((j, -observed, -lift, i))
        i = i[order]
        rank = np.arange(len(i)) - np.searchsorted(i, i)  # within the latent's own list
        i, rank, best = i[rank < N_NEIGHBOURS], rank[rank < N_NEIGHBOURS], order[rank < N_NEIGHBOURS]
        latents_NS[i, rank], observed_NS[i, rank] = j[best], observed[best]
        expected_NS[i, rank], lift_NS[i, rank] = expected[best], lift[best]
        tick()
    return latents_NS, observed_NS, expected_NS, lift_NS


def _near_misses(
    sae: SAE,
    codes: Codes,
    x_MD: NDArray[np.float32],
    blocks: list[slice],
    tick: Callable[[], None],
) -> _Neighbours:
    """Documents with the largest pre-activation among those on which the latent is silent."""
    import torch

    best_NM = torch.full((codes.n_latents, N_NEAR), -torch.inf)
    documents_NM = torch.full((codes.n_latents, N_NEAR), NONE)
    for block in blocks:
        preactivations_BN = sae.preactivations(x_MD[block])
        pointers = codes.document_ptr[block.start : block.stop + 1]
        rows = np.repeat(np.arange(len(preactivations_BN)), np.diff(pointers))
        preactivations_BN[rows, codes.latents[pointers[0] : pointers[-1]]] = -np.inf
        silent_NB = torch.from_numpy(preactivations_BN).T.contiguous()
        width = min(N_NEAR, silent_NB.shape[1])
        values, columns = silent_NB.topk(width, dim=1)
        values, documents = (
            torch.cat((best_NM, values), 1),
            torch.cat((documents_NM, columns + block.start), 1),
        )
        best_NM, picks = values.topk(N_NEAR, dim=1)
        documents_NM = documents.gather(1, picks)
        tick()
    order = np.lexsort((documents_NM.numpy(), -best_NM.numpy()), axis=1)  # equal ones by position
    found = np.take_along_axis(best_NM.numpy(), order, axis=1)
    nearest = np.take_along_axis(documents_NM.numpy(), order, axis=1)
    exists = np.isfinite(found)
    return np.where(exists, nearest, NONE).astype(np.int32), np.where(exists, found, 0).astype(np.float32)
