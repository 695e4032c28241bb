"""Which latents fire together, on how many documents: exact, sparse, counted once.

C = A'A of the binary activations, f = diag C. Only the upper triangle is kept. Beside it lie the pairs that
could be edges under any configuration that is not below `FLOOR`, strongest first: from them a forest is grown
again in a fraction of a second.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from sae_core.codes import Codes
    from sae_core.families.model import FamilyConfig

ROWS_PER_BLOCK = 512
FLOOR = {"threshold": 0.05, "min_together": 3, "min_lift": 1.0, "min_z": 2.0}


@dataclass(frozen=True)
class Coactivation:
    """C of N latents and what follows from it; every array is stored."""

    codes: Codes
    ptr: NDArray[np.int64]  # (N + 1,): where each row of the upper triangle begins
    columns: NDArray[np.int32]  # j > i, rising within a row
    together: NDArray[np.int32]  # documents on which i and j both fire, at least 1
    share_sums_N: NDArray[np.float64]  # sum over j != i of C~_ij = C_ij / min(f_i, f_j)
    edge_parents: NDArray[np.int32]  # the denser end of what could be an edge; of equals the lower index
    edge_children: NDArray[np.int32]
    edge_together: NDArray[np.int32]

    @property
    def n_latents(self) -> int:
        """N."""
        return len(self.ptr) - 1

    def matrix(self) -> sp.csr_matrix:
        """The upper triangle without the diagonal, (N, N)."""
        shape = (self.n_latents, self.n_latents)
        return sp.csr_matrix((self.together, self.columns, self.ptr), shape=shape)

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """The arrays by field name, as they are stored; with the codes they make it again."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "codes"}

    def pairs(self) -> Iterator[Pairs]:
        """Every pair that fires together, i < j, a block of rows at a time."""
        for first in range(0, self.n_latents, ROWS_PER_BLOCK):
            last = min(first + ROWS_PER_BLOCK, self.n_latents)
            rows = np.repeat(np.arange(first, last), np.diff(self.ptr[first : last + 1]))
            span = slice(self.ptr[first], self.ptr[last])
            yield Pairs(rows, self.columns[span].astype(np.int64), self.together[span])


@dataclass(frozen=True)
class Pairs:
    """Pairs of latents and the number of documents on which both fire."""

    i: NDArray[np.int64]
    j: NDArray[np.int64]
    together: NDArray[np.int32]


@dataclass(frozen=True)
class Edges:
    """Directed pairs, strongest first."""

    parents: NDArray[np.int64]  # the denser end
    children: NDArray[np.int64]
    conditionals: NDArray[np.float64]  # P(parent fires | child fires)
    n_latents: int

    def where(self, keep: NDArray[np.bool_] | NDArray[np.int64]) -> Edges:
        """Some of the edges, by mask or by number."""
        return Edges(self.parents[keep], self.children[keep], self.conditionals[keep], self.n_latents)


def coactivate(codes: Codes) -> Coactivation:
    """Count C = A'A, one latent's documents at a time."""
    n = codes.n_latents
    fires_MN = codes.fires()
    columns, together = [], []
    lengths_N = np.zeros(n, dtype=np.int64)
    for latent in range(n):
        documents = np.sort(codes.of_latent(latent)[0]).astype(np.int32)
        counts_N = np.bincount(fires_MN[documents].indices, minlength=n)[latent + 1 :]
        others = np.flatnonzero(counts_N)
        lengths_N[latent] = len(others)
        columns.append((others + latent + 1).astype(np.int32))
        together.append(counts_N[others].astype(np.int32))
    triangle = Coactivation(
        codes=codes,
        ptr=np.concatenate(([0], np.cumsum(lengths_N))),
        columns=_joined(columns),
        together=_joined(together),
        share_sums_N=np.zeros(n),
        edge_parents=_joined([]),
        edge_children=_joined([]),
        edge_together=_joined([]),
    )
    return _with_edges(triangle)


def load_coactivation(codes: Codes, arrays: Mapping[str, NDArray[np.generic]]) -> Coactivation:
    """What `Coactivation.arrays` gave, of these codes."""
    return Coactivation(codes=codes, **arrays)  # type: ignore[arg-type]


def is_quick(config: FamilyConfig) -> bool:
    """Whether a forest of this configuration grows from the stored edges, without a pass over all of C."""
    return all(getattr(config, name) >= least for name, least in FLOOR.items())


def find_edges(coactivation: Coactivation, config: FamilyConfig) -> Edges:
    """The pairs that pass `config`, by falling conditional.

    Equal ones: by the larger of the other conditional, then by index. An edge points from the denser to the
    sparser latent; of equally dense ones from the lower index.
    """
    if is_quick(config):
        stored = (coactivation.edge_parents, coactivation.edge_children, coactivation.edge_together)
        found = _passing(coactivation.codes, stored, _limits(config))
    else:
        found = _scan(coactivation, _limits(config))
    counts_N = coactivation.codes.counts()
    parents, children, together = found
    given_child, given_parent = together / counts_N[children], together / counts_N[parents]
    order = np.arange(len(parents))
    if config.edge == "child":
        order = np.lexsort((children, parents, -given_child, -given_parent))
        order = order[given_parent[order] >= config.threshold]
    thin = counts_N <= config.max_density * coactivation.codes.n_documents
    order = order[thin[parents[order]] & thin[children[order]]]
    edges = Edges(parents.astype(np.int64), children.astype(np.int64), given_child, len(counts_N))
    return edges.where(order)


_Found = tuple["NDArray[np.int32]", "NDArray[np.int32]", "NDArray[np.int32]"]  # parents, children, together


def _limits(config: FamilyConfig) -> dict[str, float]:
    return {name: getattr(config, name) for name in FLOOR}


def _with_edges(triangle: Coactivation) -> Coactivation:
    counts_N = triangle.codes.counts()
    sums_N = np.zeros(triangle.n_latents)
    for pairs in triangle.pairs():
        shares = pairs.together / np.minimum(counts_N[pairs.i], counts_N[pairs.j])
        sums_N += np.bincount(pairs.i, shares, minlength=len(sums_N))
        sums_N += np.bincount(pairs.j, shares, minlength=len(sums_N))
    parents, children, together = _scan(triangle, FLOOR)
    arrays = triangle.arrays() | {
        "share_sums_N": sums_N,
        "edge_parents": parents,
        "edge_children": children,
        "edge_together": together,
    }
    return load_coactivation(triangle.codes, arrays)


def _scan(coactivation: Coactivation, limits: Mapping[str, float]) -> _Found:
    """All pairs within the limits, by falling P(parent | child), then P(child | parent), then index."""
    counts_N = coactivation.codes.counts()
    blocks = [
        _passing(coactivation.codes, _directed(pairs, counts_N), limits) for pairs in coactivation.pairs()
    ]
    if not blocks:
        return _joined([]), _joined([]), _joined([])
    parents, children, together = (_joined(list(parts)) for parts in zip(*blocks, strict=True))
    keys = (children, parents, -together / counts_N[parents], -together / counts_N[children])
    order = np.lexsort(keys)
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
    keep = (together >= limits["threshold"] * counts_N[children]) & (together >= limits["min_together"])
    keep &= together >= limits["min_lift"] * expected
    keep &= together - expected >= limits["min_z"] * np.sqrt(expected)
    return parents[keep], children[keep], together[keep]


def _joined(parts: list[NDArray[np.int32]]) -> NDArray[np.int32]:
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int32)
