"""Families: features that fire together, arranged under the feature that holds them together.

Source: arXiv 2408.00657, section 4.3; the steps are numbered as in `grow_families`. Everything works
on sparse matrices: nothing of size latents x latents or documents x latents is ever dense.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import minimum_spanning_tree

from sae_core.errors import SaefariError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from sae_core.codes import Codes

ROWS_PER_BLOCK = 512
NO_PARENT = -1
NOTHING = 1e-12  # a mean that is zero but for rounding


@dataclass(frozen=True)
class FamilyConfig:
    """What counts as a family. Defaults follow the paper; the three guards against chance are ours."""

    threshold: float = 0.1  # edges need M = P(denser fires | sparser fires) of at least this
    min_together: int = 5  # ... seen on at least this many documents
    min_lift: float = 2.0  # ... this many times as often as independent latents would
    min_z: float = 4.0  # ... and this many standard deviations (of a Poisson count) more often
    n_iterations: int = 3
    min_children: int = 3  # of a root: "more than two"
    min_size: int = 4  # members, root included: "more than three"
    max_jaccard: float = 0.6  # of two families that overlap more, the smaller is dropped

    def __post_init__(self) -> None:
        for name in ("threshold", "max_jaccard"):
            if not 0 <= getattr(self, name) <= 1:
                what = f"Families: {name} is {getattr(self, name)}, but it is a share."
                raise SaefariError(what, remedy="Choose a value from 0 to 1.")
        for name in ("min_together", "n_iterations", "min_children", "min_size"):
            if getattr(self, name) < 1:
                what = f"Families: {name} is {getattr(self, name)}, but it is a count."
                raise SaefariError(what, remedy="Choose 1 or more.")
        for name in ("min_lift", "min_z"):
            if not getattr(self, name) >= 0:
                what = f"Families: {name} is {getattr(self, name)}, but it is not negative."
                raise SaefariError(what, remedy="Choose 0 (no limit) or more.")


@dataclass(frozen=True)
class Family:
    """A root and all its descendants; families may be nested and may share members."""

    id: int  # the root latent; no two families of one SAE have the same
    members: list[int]  # root first, then depth first, of siblings the denser first
    parents: list[int]  # of each member; -1 for the root
    conditionals: list[float]  # P(parent fires | member fires); 1.0 for the root
    n_documents: int  # on which at least one member fires
    hub_ratio: float | None  # R, see `_Measures.hub_ratio`; None where it is undefined
    block_ratio: float | None  # see `_Measures.block_ratio`; None where it is undefined


def grow_families(codes: Codes, config: FamilyConfig = FamilyConfig()) -> list[Family]:
    """Find the families of an SAE from its codes, largest first.

    1. C = A'A counts the documents on which two latents fire together; f = diag C.
       (The paper's second matrix, D over column-normalised values, enters none of its later steps.)
    2. An edge joins two latents with M = C_ij / min(f_i, f_j) >= `threshold`, that is
       P(denser fires | sparser fires), the larger of the two conditionals.
    3. Maximum spanning forest by M; equal M: by the larger C_ij / max(f_i, f_j), then by index.
    4. Edges point from the denser to the sparser latent; of equally dense ones from the lower index.
    5. A family is a latent with at least `min_children` children and all its descendants: the
       paper's roots, and its roots again after looking inside without the root, to any depth.
    6. The roots found are deleted and steps 3 to 5 repeated, `n_iterations` times in all.
    7. Families of at least `min_size` members are kept; of two with Jaccard > `max_jaccard` the larger.

    Why this M: in a true hierarchy the parent fires wherever a child does, so P(parent | child) is near
    1 whatever the child's size, whereas P(child | parent) of one child in twenty is .05 and would be
    cut. (The authors' code divides by the lower index of an undirected pair, so its weights depend
    on the order of latents.) Its weakness is that a latent firing everywhere is everybody's parent:
    P(parent | child) is then its density. Hence the guards: `min_lift` removes the edges that chance
    explains in a large collection, `min_z` those that it explains in a small one, `min_together` the
    conditionals of a handful of documents. The tie rule hangs a child under its closest ancestor
    when several contain it completely.
    """
    together = coactivation(codes)
    edges = _find_edges(together, codes.n_documents, config)
    counts = together.diagonal()
    alive = np.ones(codes.n_latents, dtype=np.bool_)
    trees: list[_Tree] = []
    for _ in range(config.n_iterations):
        found = list(_find_trees(edges.among(alive), counts, config))
        if not found:
            break
        alive[[tree.members[0] for tree in found]] = False
        trees += [tree for tree in found if len(tree.members) >= config.min_size]
    measures = _Measures(together)
    kept = _drop_overlapping(trees, counts, config.max_jaccard)
    return [
        Family(
            id=tree.members[0],
            members=tree.members,
            parents=tree.parents,
            conditionals=tree.conditionals,
            n_documents=_count_documents(codes, tree.members),
            hub_ratio=measures.hub_ratio(tree.members),
            block_ratio=measures.block_ratio(tree.members),
        )
        for tree in kept
    ]


def coactivation(codes: Codes) -> sp.csr_matrix:
    """C = A'A of the binary activations: (N, N) counts of documents, sparse, int32, columns in order.

    Its diagonal is the number of documents of each latent.
    """
    fires_MN = codes.fires()
    together = sp.csr_matrix(fires_MN.T @ fires_MN)
    together.sort_indices()
    return together


@dataclass(frozen=True)
class _Edges:
    """Directed edges, strongest first."""

    parents: NDArray[np.int64]  # the denser end
    children: NDArray[np.int64]
    conditionals: NDArray[np.float64]  # M
    n_latents: int

    def among(self, alive_N: NDArray[np.bool_]) -> _Edges:
        """The edges between latents that are still there."""
        keep = alive_N[self.parents] & alive_N[self.children]
        return _Edges(self.parents[keep], self.children[keep], self.conditionals[keep], self.n_latents)

    def forest(self) -> _Edges:
        """The maximum spanning forest. Unique, because the weights are ranks."""
        ranks = np.arange(1, len(self.parents) + 1, dtype=np.float64)  # strongest = 1, so minimum spanning
        shape = (self.n_latents, self.n_latents)
        graph = sp.csr_matrix((ranks, (self.parents, self.children)), shape=shape)
        chosen = np.sort(minimum_spanning_tree(graph).data.astype(np.int64)) - 1
        return _Edges(self.parents[chosen], self.children[chosen], self.conditionals[chosen], self.n_latents)


@dataclass(frozen=True)
class _Tree:
    members: list[int]
    parents: list[int]
    conditionals: list[float]


def _find_edges(together: sp.csr_matrix, n_documents: int, config: FamilyConfig) -> _Edges:
    counts = together.diagonal().astype(np.float64)
    blocks = [_block_edges(block, counts, n_documents, config) for block in _pairs(together)]
    joined = [np.concatenate(parts) for parts in zip(*blocks, strict=True)] if blocks else []
    if not joined:
        none = np.zeros(0, dtype=np.int64)
        return _Edges(none, none, np.zeros(0), len(counts))
    parents, children, conditionals, converses = joined
    order = np.lexsort((children, parents, -converses, -conditionals))
    return _Edges(parents[order], children[order], conditionals[order], len(counts))


def _pairs(together: sp.csr_matrix) -> Iterator[tuple[NDArray[np.int64], ...]]:
    """Row, column and count of every pair of latents i < j that fires together, a block at a time."""
    for start in range(0, together.shape[0], ROWS_PER_BLOCK):
        block = together[start : start + ROWS_PER_BLOCK].tocoo()
        rows, columns = block.row.astype(np.int64) + start, block.col.astype(np.int64)
        upper = rows < columns
        yield rows[upper], columns[upper], block.data[upper].astype(np.int64)


def _block_edges(
    pairs: tuple[NDArray[np.int64], ...],
    counts_N: NDArray[np.float64],
    n_documents: int,
    config: FamilyConfig,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    i, j, observed = pairs
    first_is_parent = counts_N[i] >= counts_N[j]  # i < j: the lower index if equally dense
    parents, children = np.where(first_is_parent, i, j), np.where(first_is_parent, j, i)
    expected = counts_N[children] * counts_N[parents] / n_documents
    conditionals = observed / counts_N[children]
    keep = (conditionals >= config.threshold) & (observed >= config.min_together)
    keep &= observed >= config.min_lift * expected
    keep &= observed - expected >= config.min_z * np.sqrt(expected)
    converses = observed / counts_N[parents]
    return parents[keep], children[keep], conditionals[keep], converses[keep]


def _find_trees(edges: _Edges, counts_N: NDArray[np.int32], config: FamilyConfig) -> Iterator[_Tree]:
    """Every latent with enough children in the forest, with its descendants.

    A latent has one path to each descendant, since the forest has no cycles, directed or not; so
    "look again inside without the root", followed to the end, makes each latent a root in turn.
    """
    forest = edges.forest()
    below: dict[int, list[tuple[int, float]]] = {}
    order = np.lexsort((forest.children, -counts_N[forest.children]))
    for at in order:
        entry = (int(forest.children[at]), float(forest.conditionals[at]))
        below.setdefault(int(forest.parents[at]), []).append(entry)
    for root in sorted(below, key=lambda latent: (-counts_N[latent], latent)):
        if len(below[root]) >= config.min_children:
            yield _descend(root, below)


def _descend(root: int, below: dict[int, list[tuple[int, float]]]) -> _Tree:
    tree = _Tree([], [], [])
    stack = [(root, NO_PARENT, 1.0)]
    while stack:
        latent, parent, conditional = stack.pop()
        tree.members.append(latent)
        tree.parents.append(parent)
        tree.conditionals.append(conditional)
        stack += [(child, latent, weight) for child, weight in reversed(below.get(latent, []))]
    return tree


def _drop_overlapping(trees: Sequence[_Tree], counts_N: NDArray[np.int32], max_jaccard: float) -> list[_Tree]:
    """Largest first; a family that overlaps too much with one already kept is left out."""
    if not trees:
        return []
    order = sorted(trees, key=lambda tree: (-len(tree.members), -counts_N[tree.members[0]], tree.members[0]))
    sizes = np.array([len(tree.members) for tree in order])
    rows, columns = np.repeat(np.arange(len(order)), sizes), np.concatenate([tree.members for tree in order])
    shape = (len(order), len(counts_N))
    members = sp.csr_matrix((np.ones(len(rows), dtype=np.int32), (rows, columns)), shape=shape)
    shared = sp.csr_matrix(members @ members.T)
    kept = np.zeros(len(order), dtype=np.bool_)
    for at, size in enumerate(sizes):
        span = slice(shared.indptr[at], shared.indptr[at + 1])
        others, common = shared.indices[span], shared.data[span]
        jaccard = common / (size + sizes[others] - common)
        kept[at] = not np.any(kept[others] & (jaccard > max_jaccard))
    return [tree for tree, is_kept in zip(order, kept, strict=True) if is_kept]


def _count_documents(codes: Codes, members: Sequence[int]) -> int:
    fires = np.zeros(codes.n_documents, dtype=np.bool_)
    for latent in members:
        fires[codes.of_latent(latent)[0]] = True
    return int(fires.sum())


class _Measures:
    """Sums over C~_ij = C_ij / min(f_i, f_j), i != j, in which every pair of latents counts alike."""

    def __init__(self, together: sp.csr_matrix) -> None:
        self._together = together
        self._counts = together.diagonal().astype(np.float64)
        self._n_alive = int((self._counts > 0).sum())
        self._row_sums = np.zeros(len(self._counts))  # over the other latents
        for i, j, observed in _pairs(together):
            shares = observed / np.minimum(self._counts[i], self._counts[j])
            self._row_sums += np.bincount(i, shares, minlength=len(self._counts))
            self._row_sums += np.bincount(j, shares, minlength=len(self._counts))

    def hub_ratio(self, members: Sequence[int]) -> float | None:
        """R = mean C~ of the root with the other members / mean C~ among those (paper, section 4.3).

        Above 1: the root holds the family together. None if the others never fire together.
        """
        i, j, shares = self._inside(members)
        with_root = (i == 0) | (j == 0)
        n = len(members) - 1
        if n < 2:  # noqa: PLR2004 (a pair of children)
            return None
        return _ratio(shares[with_root].sum() / (2 * n), shares[~with_root].sum() / (n * (n - 1)))

    def block_ratio(self, members: Sequence[int]) -> float | None:
        """Mean C~ among members / mean C~ of members with the other living latents.

        The paper divides this by the same number for blocks of the unpermuted matrix; for latents in
        an arbitrary order that is 1. Above 1: the family is a block. None if nothing fires outside.
        """
        inside = float(self._inside(members)[2].sum())
        outside = float(self._row_sums[list(members)].sum()) - inside
        n, n_others = len(members), self._n_alive - len(members)
        if n_others == 0:
            return None
        return _ratio(inside / (n * (n - 1)), outside / (n * n_others))

    def _inside(
        self, members: Sequence[int]
    ) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float64]]:
        """Each ordered pair of members that fires together: places in `members`, and C~."""
        latents = np.asarray(members)
        pairs = self._together[latents][:, latents].tocoo()
        i, j = pairs.row[pairs.row != pairs.col], pairs.col[pairs.row != pairs.col]
        observed = pairs.data[pairs.row != pairs.col]
        return i, j, observed / np.minimum(self._counts[latents[i]], self._counts[latents[j]])


def _ratio(numerator: float, denominator: float) -> float | None:
    return float(numerator / denominator) if denominator > NOTHING else None
