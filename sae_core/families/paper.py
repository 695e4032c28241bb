"""The paper's algorithm: roots of the maximum spanning forest, several times over.

Source: arXiv 2408.00657, section 4.3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import minimum_spanning_tree

from sae_core.families.trees import Tree, descend

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from sae_core.families.coactivation import Edges
    from sae_core.families.model import FamilyConfig


def paper_trees(edges: Edges, counts_N: NDArray[np.int64], config: FamilyConfig) -> list[Tree]:
    """Families by the paper's steps, largest first; `edges` are those of `find_edges`.

    1. C = A'A counts the documents on which two latents fire together; f = diag C.
       (The paper's second matrix, D over column-normalised values, enters none of its later steps.)
    2. An edge joins two latents with M >= `threshold`. M is P(denser fires | sparser fires) =
       C_ij / min(f_i, f_j), or with `edge` = "child" P(sparser fires | denser fires) = C_ij / max(f_i, f_j).
    3. Maximum spanning forest by M; equal M: by the other conditional, then by index.
    4. Edges point from the denser to the sparser latent; of equally dense ones from the lower index.
    5. A family is a latent with at least `min_children` children and all its descendants: the
       paper's roots, and its roots again after looking inside without the root, to any depth.
    6. The roots found are deleted and steps 3 to 5 repeated, `n_iterations` times in all.
    7. Families of `min_size` to `max_size` members are kept; of two with Jaccard > `max_jaccard` the larger.

    Why this M: in a true hierarchy the parent fires wherever a child does, so P(parent | child) is near
    1 whatever the child's size, whereas P(child | parent) of one child in twenty is .05 and would be
    cut. (The authors' code divides by the lower index of an undirected pair, so its weights depend
    on the order of latents.) Its weakness is that a latent firing everywhere is everybody's parent:
    P(parent | child) is then its density. Hence the guards: `min_lift` removes the edges that chance
    explains in a large collection, `min_z` those that it explains in a small one, `min_together` the
    conditionals of a handful of documents. The tie rule hangs a child under its closest ancestor
    when several contain it completely.
    """
    edges = _strongest_first(edges, counts_N, config)
    alive_N = np.ones(len(counts_N), dtype=np.bool_)
    trees: list[Tree] = []
    for _ in range(config.n_iterations):
        edges = edges.where(alive_N[edges.parents] & alive_N[edges.children])
        found = list(_find_trees(edges, counts_N, config))
        if not found:
            break
        alive_N[[tree.members[0] for tree in found]] = False
        trees += [tree for tree in found if config.min_size <= len(tree.members) <= config.max_size]
    return _drop_overlapping(trees, counts_N, config.max_jaccard)


def _strongest_first(edges: Edges, counts_N: NDArray[np.int64], config: FamilyConfig) -> Edges:
    """The edges of step 2 in the order of step 3, which is that of `find_edges` unless `edge` is "child"."""
    if config.edge == "parent":
        return edges
    given_child, given_parent = (
        edges.together / counts_N[edges.children],
        edges.together / counts_N[edges.parents],
    )
    order = np.lexsort((edges.children, edges.parents, -given_child, -given_parent))
    return edges.where(order[given_parent[order] >= config.threshold])


def _find_trees(edges: Edges, counts_N: NDArray[np.int64], config: FamilyConfig) -> Iterator[Tree]:
    """Every latent with enough children in the forest, with its descendants.

    A latent has one path to each descendant, since the forest has no cycles, directed or not; so
    "look again inside without the root", followed to the end, makes each latent a root in turn.
    """
    forest = _spanning(edges)
    below: dict[int, list[tuple[int, float]]] = {}
    conditionals = forest.together / counts_N[forest.children]
    for at in np.lexsort((forest.children, -counts_N[forest.children])):
        entry = (int(forest.children[at]), float(conditionals[at]))
        below.setdefault(int(forest.parents[at]), []).append(entry)
    for root in sorted(below, key=lambda latent: (-counts_N[latent], latent)):
        if len(below[root]) >= config.min_children:
            yield descend(root, below)


def _spanning(edges: Edges) -> Edges:
    """The maximum spanning forest. Unique, because the weights are ranks."""
    ranks = np.arange(1, len(edges.parents) + 1, dtype=np.float64)  # strongest = 1, so minimum spanning
    shape = (edges.n_latents, edges.n_latents)
    graph = sp.csr_matrix((ranks, (edges.parents, edges.children)), shape=shape)
    chosen = np.sort(minimum_spanning_tree(graph).data.astype(np.int64)) - 1
    return edges.where(chosen)


def _drop_overlapping(trees: Sequence[Tree], counts_N: NDArray[np.int64], max_jaccard: float) -> list[Tree]:
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
