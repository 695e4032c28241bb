"""Families and their measures again, dense and in loops, one definition after the other."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sae_core.codes import Codes, make_codes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from sae_core.families import FamilyConfig


class Edge(NamedTuple):
    """A pair within the limits of a configuration."""

    parent: int
    child: int
    together: int


def random_codes(seed: int, *, n_documents: int = 80, n_latents: int = 25) -> Codes:
    """Latents that fire at random, some of them inside others, some nowhere, some everywhere."""
    rng = np.random.default_rng(seed)
    fires_MN = rng.random((n_documents, n_latents)) < rng.random(n_latents) * 0.5
    for child, parent in rng.integers(0, n_latents, (n_latents // 2, 2)):
        if child != parent:
            fires_MN[:, child] &= fires_MN[:, parent] | (rng.random(n_documents) < 0.1)
    fires_MN[:, rng.integers(n_latents)] = seed % 3 == 0
    return dense_codes(fires_MN)


def dense_codes(fires_MN: NDArray[np.bool_]) -> Codes:
    """Codes of a dense table."""
    rows, latents = np.nonzero(fires_MN)
    n_documents, n_latents = fires_MN.shape
    ones = np.ones(len(rows), dtype=np.float32)
    return make_codes(rows, latents, ones, n_documents=n_documents, n_latents=n_latents)


def together(codes: Codes) -> NDArray[np.int64]:
    """C = A'A."""
    fires_MN = (codes.matrix().toarray() > 0).astype(np.int64)
    return np.asarray(fires_MN.T @ fires_MN)


def edges(codes: Codes, config: FamilyConfig) -> list[Edge]:
    """All pairs within the limits, from the denser to the sparser, of equals from the lower index."""
    C_NN, f_N, n = together(codes), codes.counts(), codes.n_documents
    found = []
    for i in range(codes.n_latents):
        for j in range(i + 1, codes.n_latents):
            parent, child = (i, j) if f_N[i] >= f_N[j] else (j, i)
            both, expected = int(C_NN[i, j]), f_N[i] * f_N[j] / n
            is_in = both >= config.min_together and both / max(f_N[child], 1) >= config.threshold
            is_in &= both >= config.min_lift * expected
            is_in &= both - expected >= config.min_z * math.sqrt(expected)
            is_in &= bool(f_N[parent] <= config.max_density * n)
            if is_in and both > 0:
                found.append(Edge(parent, child, both))
    return found


def weight(codes: Codes, edge: Edge) -> float:
    """P(parent | child) log lift."""
    f_N = codes.counts()
    conditional = edge.together / f_N[edge.child]
    return float(conditional * math.log(max(conditional * codes.n_documents / f_N[edge.parent], 1)))


def spanning(codes: Codes, found: Sequence[Edge], *, by_child: bool) -> list[Edge]:
    """Kruskal's maximum spanning forest by one conditional, then the other, then by index."""
    f_N = codes.counts()

    def strength(edge: Edge) -> tuple[float, float, int, int]:
        given_child, given_parent = edge.together / f_N[edge.child], edge.together / f_N[edge.parent]
        first, second = (given_parent, given_child) if by_child else (given_child, given_parent)
        return -first, -second, edge.parent, edge.child

    tree_of = list(range(codes.n_latents))
    kept = []
    for edge in sorted(found, key=strength):
        a, b = tree_of[edge.parent], tree_of[edge.child]
        if a != b:
            tree_of = [a if tree == b else tree for tree in tree_of]
            kept.append(edge)
    return kept


def paper_families(codes: Codes, config: FamilyConfig) -> dict[int, set[int]]:
    """Members by root, before families that overlap are dropped."""
    f_N = codes.counts()
    found = edges(codes, config)
    if config.edge == "child":
        found = [edge for edge in found if edge.together / f_N[edge.parent] >= config.threshold]
    families: dict[int, set[int]] = {}
    for _ in range(config.n_iterations):
        forest = spanning(codes, found, by_child=config.edge == "child")
        roots = {edge.parent for edge in forest}
        roots = {r for r in roots if sum(edge.parent == r for edge in forest) >= config.min_children}
        for root in roots:
            members = descendants(root, [(edge.parent, edge.child) for edge in forest])
            if config.min_size <= len(members) <= config.max_size:
                families[root] = members
        found = [edge for edge in found if not roots & {edge.parent, edge.child}]
    return families


def descendants(root: int, arrows: Sequence[tuple[int, int]]) -> set[int]:
    """The root and all that can be reached from it."""
    members = {root}
    while more := {child for parent, child in arrows if parent in members} - members:
        members |= more
    return members


def share(codes: Codes, i: int, j: int) -> float:
    """C~_ij = C_ij / min(f_i, f_j)."""
    f_N = codes.counts()
    return float(together(codes)[i, j] / min(f_N[i], f_N[j]))


def hub_ratio(codes: Codes, members: Sequence[int]) -> float | None:
    """Mean C~ of the first with the rest, over that of the rest."""
    rest = members[1:]
    pairs = [share(codes, i, j) for i in rest for j in rest if i < j]
    if not pairs or sum(pairs) == 0:
        return None
    return float(np.mean([share(codes, members[0], i) for i in rest]) / np.mean(pairs))


def block_ratio(codes: Codes, members: Sequence[int]) -> float | None:
    """Mean C~ within, over mean C~ with the other living latents."""
    others = [i for i in np.flatnonzero(codes.counts()).tolist() if i not in members]
    outside = [share(codes, i, j) for i in members for j in others]
    if not outside or sum(outside) == 0:
        return None
    return float(np.mean([share(codes, i, j) for i in members for j in members if i < j]) / np.mean(outside))
