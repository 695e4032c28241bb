"""Families: features that fire together, arranged under the feature that holds them together.

    coactivation = coactivate(codes)
    forest = grow(coactivation, FamilyConfig(threshold=0.2))

Of size latents x latents there are only bits, of size documents x latents nothing.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from sae_core.codes import Codes
from sae_core.families.coactivation import (
    Coactivation,
    coactivate,
    find_edges,
    is_quick,
    load_coactivation,
)
from sae_core.families.homes import Candidates, home_trees, nested_edges
from sae_core.families.measures import measure
from sae_core.families.model import DEFAULT, Chance, Family, FamilyConfig, Forest, Link, Null
from sae_core.families.paper import paper_trees

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from sae_core.families.trees import Tree

__all__ = [
    "DEFAULT",
    "Chance",
    "Coactivation",
    "Family",
    "FamilyConfig",
    "Forest",
    "Link",
    "Null",
    "by_chance",
    "coactivate",
    "default_config",
    "grow",
    "is_quick",
    "load_coactivation",
]


def default_config(levels_N: NDArray[np.int64] | None) -> FamilyConfig:
    """What a build uses: the nesting where there is one, else "lift". Why: docs/decisions.md."""
    return DEFAULT if levels_N is None else FamilyConfig(algorithm="nesting")


def grow(
    coactivation: Coactivation,
    config: FamilyConfig = DEFAULT,
    levels_N: NDArray[np.int64] | None = None,
    *,
    most_lookups: int | None = None,
) -> Forest:
    """The families of an SAE, largest first, and their measures.

    `levels_N` is the group of each latent of a Matryoshka SAE, 0 for the innermost; None for others, for
    which the algorithm "nesting" raises a `SaefariError`. `most_lookups` makes the nulls coarser and quicker,
    see `measures.measure`.
    """
    began = time.perf_counter()
    trees, candidates = _find_trees(coactivation, config, levels_N)
    found = measure(coactivation, trees, most_lookups=most_lookups)
    families = [
        Family(
            id=tree.members[0],
            members=tree.members,
            parents=tree.parents,
            conditionals=tree.conditionals,
            n_documents=_count_documents(coactivation.codes, tree.members),
            hub_ratio=hub.value,
            block_ratio=block.value,
            hub_null=hub.null,
            block_null=block.null,
            links=candidates.links(tree.members),
        )
        for tree, hub, block in zip(trees, found.hubs, found.blocks, strict=True)
    ]
    homes = Counter(member for family in families for member in family.members)
    return Forest(
        config=config,
        families=families,
        n_alive=int(np.count_nonzero(coactivation.codes.counts())),
        n_covered=len(homes),
        n_shared=sum(n > 1 for n in homes.values()),
        hub_ratio=found.hub.value,
        block_ratio=found.block.value,
        hub_null=found.hub.null,
        block_null=found.block.null,
        n_draws=found.n_draws,
        seconds=time.perf_counter() - began,
    )


def by_chance(
    codes: Codes, config: FamilyConfig = DEFAULT, levels_N: NDArray[np.int64] | None = None, seed: int = 0
) -> Chance:
    """One draw of what `grow` would find by chance: each latent keeps its number of documents, drawn evenly.

    It takes as long as `coactivate`. The guards of the configuration should leave next to nothing.
    """
    trees, _ = _find_trees(coactivate(_redrawn(codes, seed)), config, levels_N)
    sizes = [len(tree.members) for tree in trees]
    members = {member for tree in trees for member in tree.members}
    return Chance(n_families=len(trees), n_covered=len(members), largest=max(sizes, default=0))


def _redrawn(codes: Codes, seed: int) -> Codes:
    """Each latent on as many documents as before, but others; all activations are 1."""
    rng = np.random.default_rng((seed, 29))
    documents = np.empty(len(codes.documents), dtype=np.uint32)
    for start, stop in itertools.pairwise(codes.latent_ptr.tolist()):
        documents[start:stop] = rng.choice(codes.n_documents, stop - start, replace=False, shuffle=False)
    shape = (codes.n_documents, codes.n_latents)
    ones = np.ones(len(documents), dtype=np.float32)
    by_document = sp.csc_matrix((ones, documents.view(np.int32), codes.latent_ptr), shape=shape).tocsr()
    return Codes(
        n_documents=codes.n_documents,
        n_latents=codes.n_latents,
        document_ptr=by_document.indptr.astype(np.int64),
        latents=by_document.indices.astype(np.uint32),
        values=ones,
        latent_ptr=codes.latent_ptr,
        documents=documents,
        latent_values=ones,
    )


def _find_trees(
    coactivation: Coactivation, config: FamilyConfig, levels_N: NDArray[np.int64] | None
) -> tuple[list[Tree], Candidates]:
    """What the algorithm finds, largest first, and what else could have been a parent."""
    counts_N = coactivation.codes.counts()
    edges = find_edges(coactivation, config)
    if config.algorithm == "nesting":
        edges = nested_edges(edges, levels_N, counts_N, config.threshold)
    candidates = Candidates.of(edges, counts_N, coactivation.codes.n_documents)
    if config.algorithm == "paper":
        return paper_trees(edges, counts_N, config), candidates
    return home_trees(candidates, _children_first(config, counts_N, levels_N), config), candidates


def _children_first(
    config: FamilyConfig, counts_N: NDArray[np.int64], levels_N: NDArray[np.int64] | None
) -> list[int]:
    """The latents in an order in which no parent stands before its child."""
    keys = [-np.arange(len(counts_N)), counts_N]
    if config.algorithm == "nesting" and levels_N is not None:
        keys.append(-levels_N)
    order: list[int] = np.lexsort(keys).tolist()
    return order


def _count_documents(codes: Codes, members: Sequence[int]) -> int:
    fires_M = np.zeros(codes.n_documents, dtype=np.bool_)
    for latent in members:
        fires_M[codes.of_latent(latent)[0]] = True
    return int(fires_M.sum())
