"""Which latents fire together, on how many documents: exact, sparse, counted once.

C = A'A of the binary activations, f = diag C. Only the upper triangle is kept, and of it only what is not 0.
Beside it lie the pairs that could be edges under any configuration that is not below `FLOOR`, strongest
first: from them a forest is grown again in a fraction of a second.
Shapes: N latents, W = N / 64 words of 64 bits, rounded up.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray

    from sae_core.codes import Codes
    from sae_core.families.model import FamilyConfig

FLOOR = {"threshold": 0.05, "min_together": 3, "min_lift": 1.0, "min_z": 2.0}
ROWS_PER_BLOCK = 512
DOCUMENTS_PER_BLOCK = 4096  # whose latents are counted at once, and stay in the cache
PAIRS_PER_BLOCK = 2**15  # looked up at once, likewise
WORD = 64  # bits
ONE = np.uint64(1)


@dataclass(frozen=True)
class Coactivation:
    """C of N latents and what follows from it. All arrays are stored; with the codes they make it again."""

    codes: Codes
    bits_NW: NDArray[np.uint64]  # bit j of row i, j > i: whether both fire on some document
    rank_NW: NDArray[np.int64]  # how many such pairs come before each word, row after row
    together: NDArray[np.int32]  # C_ij of these pairs, i < j, by row and then by column
    share_sums_N: NDArray[np.float64]  # sum over j != i of C~_ij = C_ij / min(f_i, f_j)
    edge_parents: NDArray[np.int32]  # the denser end of what could be an edge; of equals the lower index
    edge_children: NDArray[np.int32]
    edge_together: NDArray[np.int32]

    @property
    def n_latents(self) -> int:
        """N."""
        return len(self.bits_NW)

    @property
    def n_pairs(self) -> int:
        """Pairs of latents that fire together on some document."""
        return len(self.together)

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """The arrays by field name, as they are stored."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "codes"}

    def pairs(self) -> Iterator[Pairs]:
        """Every pair that fires together, i < j, in order, a block of rows at a time."""
        done = 0
        for first in range(0, self.n_latents, ROWS_PER_BLOCK):
            block = np.ascontiguousarray(self.bits_NW[first : first + ROWS_PER_BLOCK])
            i, j = np.nonzero(np.unpackbits(block.view(np.uint8), axis=1, bitorder="little"))
            yield Pairs(i + first, j, self.together[done : done + len(i)])
            done += len(i)

    def look_up(self, i: NDArray[np.int64], j: NDArray[np.int64]) -> NDArray[np.int32]:
        """C_ij of any pairs of different latents."""
        found = np.zeros(len(i), dtype=np.int32)
        if self.n_pairs == 0:
            return found
        bits, rank = self.bits_NW.ravel(), self.rank_NW.ravel()
        for start in range(0, len(i), PAIRS_PER_BLOCK):
            span = slice(start, start + PAIRS_PER_BLOCK)
            low, high = np.minimum(i[span], j[span]), np.maximum(i[span], j[span])
            word = low * self.bits_NW.shape[1] + high // WORD
            bit = (high % WORD).view(np.uint64)
            present = bits[word]
            below = np.bitwise_count(present & ((ONE << bit) - ONE))
            at = np.minimum(rank[word] + below, self.n_pairs - 1)
            found[span] = self.together[at] * ((present >> bit) & ONE).astype(np.int32)
        return found


@dataclass(frozen=True)
class Pairs:
    """Pairs of latents and the number of documents on which both fire."""

    i: NDArray[np.int64]
    j: NDArray[np.int64]
    together: NDArray[np.int32]


@dataclass(frozen=True)
class Edges:
    """Directed pairs."""

    parents: NDArray[np.int64]
    children: NDArray[np.int64]
    together: NDArray[np.int64]
    n_latents: int

    def where(self, keep: NDArray[np.bool_] | NDArray[np.int64]) -> Edges:
        """Some of the edges, by mask or by number."""
        return Edges(self.parents[keep], self.children[keep], self.together[keep], self.n_latents)


def coactivate(codes: Codes, progress: Callable[[int, int], None] | None = None) -> Coactivation:
    """Count C = A'A, one latent's documents after the other's.

    The time grows with the sum of k^2 over documents. `progress` gets (latents done, latents in all).
    """
    n, fires_MN = codes.n_latents, codes.fires()
    fires_MN.data = fires_MN.data.astype(np.int8)
    n_words = -(-n // WORD)
    bits_NW = np.zeros((n, n_words), dtype=np.uint64)
    together = []
    for latent in range(n):
        counts_N = _count_others(codes, fires_MN, latent)
        counts_N[: latent + 1] = 0
        row = np.zeros(n_words * WORD, dtype=np.bool_)
        row[:n] = counts_N > 0
        bits_NW[latent] = np.packbits(row, bitorder="little").view(np.uint64)
        together.append(counts_N[row[:n]].astype(np.int32))
        if progress is not None and ((latent + 1) % WORD == 0 or latent + 1 == n):
            progress(latent + 1, n)
    sizes_NW = np.bitwise_count(bits_NW).astype(np.int64)
    bare = Coactivation(
        codes=codes,
        bits_NW=bits_NW,
        rank_NW=(np.cumsum(sizes_NW) - sizes_NW.ravel()).reshape(n, n_words),
        together=_joined(together),
        share_sums_N=np.zeros(n),
        edge_parents=_joined([]),
        edge_children=_joined([]),
        edge_together=_joined([]),
    )
    return _with_edges(bare)


def load_coactivation(codes: Codes, arrays: Mapping[str, NDArray[np.generic]]) -> Coactivation:
    """What `Coactivation.arrays` gave, of these codes."""
    return Coactivation(codes=codes, **arrays)  # type: ignore[arg-type]


def is_quick(config: FamilyConfig) -> bool:
    """Whether a forest of this configuration grows from the stored edges, without a pass over all of C."""
    return all(getattr(config, name) >= least for name, least in FLOOR.items())


def find_edges(coactivation: Coactivation, config: FamilyConfig) -> Edges:
    """The pairs within `config`, each from the denser to the sparser latent, of equals from the lower index.

    By falling C_ij / min(f_i, f_j) = P(denser fires | sparser fires); equal ones by falling
    C_ij / max(f_i, f_j), then by index.
    """
    if is_quick(config):
        stored = (coactivation.edge_parents, coactivation.edge_children, coactivation.edge_together)
        parents, children, together = _passing(coactivation.codes, stored, _limits(config))
    else:
        parents, children, together = _scan(coactivation, _limits(config))
    thin_N = coactivation.codes.counts() <= config.max_density * coactivation.codes.n_documents
    edges = Edges(
        parents=parents.astype(np.int64),
        children=children.astype(np.int64),
        together=together.astype(np.int64),
        n_latents=coactivation.n_latents,
    )
    return edges.where(thin_N[parents] & thin_N[children])


_Found = tuple["NDArray[np.int32]", "NDArray[np.int32]", "NDArray[np.int32]"]  # parents, children, together


def _count_others(codes: Codes, fires_MN: sp.csr_matrix, latent: int) -> NDArray[np.int64]:
    """On how many of a latent's documents each latent fires, (N,)."""
    documents = np.sort(codes.of_latent(latent)[0]).astype(np.int32)
    counts_N = np.zeros(codes.n_latents, dtype=np.int64)
    for start in range(0, len(documents), DOCUMENTS_PER_BLOCK):
        block = fires_MN[documents[start : start + DOCUMENTS_PER_BLOCK]]
        counts_N += np.bincount(block.indices, minlength=codes.n_latents)
    return counts_N


def _limits(config: FamilyConfig) -> dict[str, float]:
    return {name: getattr(config, name) for name in FLOOR}


def _with_edges(bare: Coactivation) -> Coactivation:
    counts_N = bare.codes.counts()
    sums_N = np.zeros(bare.n_latents)
    for pairs in bare.pairs():
        shares = pairs.together / np.minimum(counts_N[pairs.i], counts_N[pairs.j])
        sums_N += np.bincount(pairs.i, shares, minlength=len(sums_N))
        sums_N += np.bincount(pairs.j, shares, minlength=len(sums_N))
    parents, children, together = _scan(bare, FLOOR)
    computed: dict[str, NDArray[np.generic]] = {
        "share_sums_N": sums_N,
        "edge_parents": parents,
        "edge_children": children,
        "edge_together": together,
    }
    return load_coactivation(bare.codes, bare.arrays() | computed)


def _scan(coactivation: Coactivation, limits: Mapping[str, float]) -> _Found:
    """All pairs within the limits, in the order of `find_edges`."""
    counts_N = coactivation.codes.counts()
    blocks = [
        _passing(coactivation.codes, _directed(pairs, counts_N), limits) for pairs in coactivation.pairs()
    ]
    parents, children, together = (_joined(list(parts)) for parts in zip(*blocks, strict=True))
    order = np.lexsort((children, parents, -together / counts_N[parents], -together / counts_N[children]))
    return parents[order], children[order], together[order]


def _directed(pairs: Pairs, counts_N: NDArray[np.int64]) -> _Found:
    first_is_parent = counts_N[pairs.i] >= counts_N[pairs.j]  # i < j: the lower index if equally dense
    parents = np.where(first_is_parent, pairs.i, pairs.j).astype(np.int32)
    children = np.where(first_is_parent, pairs.j, pairs.i).astype(np.int32)
    return parents, children, pairs.together


def _passing(codes: Codes, found: _Found, limits: Mapping[str, float]) -> _Found:
    """Those within the limits, in their order."""
    parents, children, together = found
    counts_N = codes.counts().astype(np.float64)
    expected = counts_N[children] * counts_N[parents] / max(codes.n_documents, 1)
    keep = (together / counts_N[children] >= limits["threshold"]) & (together >= limits["min_together"])
    keep &= together >= limits["min_lift"] * expected
    keep &= together - expected >= limits["min_z"] * np.sqrt(expected)
    return parents[keep], children[keep], together[keep]


def _joined(parts: list[NDArray[np.int32]]) -> NDArray[np.int32]:
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int32)
