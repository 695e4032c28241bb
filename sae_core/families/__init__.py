"""Families: features that fire together, arranged under the feature that holds them together.

    coactivation = coactivate(codes)
    forest = grow(coactivation, FamilyConfig(threshold=0.2))

Nothing of size latents x latents or documents x latents is ever dense.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from sae_core.families.coactivation import Coactivation, coactivate, is_quick, load_coactivation
from sae_core.families.measures import Measures
from sae_core.families.model import DEFAULT, Family, FamilyConfig, Forest, Link, Null
from sae_core.families.paper import paper_trees

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from sae_core.codes import Codes

__all__ = [
    "DEFAULT",
    "Coactivation",
    "Family",
    "FamilyConfig",
    "Forest",
    "Link",
    "Null",
    "coactivate",
    "grow",
    "is_quick",
    "load_coactivation",
]


def grow(
    coactivation: Coactivation,
    config: FamilyConfig = DEFAULT,
    levels_N: NDArray[np.int64] | None = None,  # noqa: ARG001
) -> Forest:
    """The families of an SAE, largest first, and their measures.

    `levels_N` is the group of each latent of a Matryoshka SAE, 0 for the innermost; None for others.
    """
    began = time.perf_counter()
    codes, measures = coactivation.codes, Measures(coactivation)
    families = [
        Family(
            id=tree.members[0],
            members=tree.members,
            parents=tree.parents,
            conditionals=tree.conditionals,
            n_documents=_count_documents(codes, tree.members),
            hub_ratio=measures.hub_ratio(tree.members),
            block_ratio=measures.block_ratio(tree.members),
        )
        for tree in paper_trees(coactivation, config)
    ]
    homes = Counter(member for family in families for member in family.members)
    return Forest(
        config=config,
        families=families,
        n_alive=int(np.count_nonzero(codes.counts())),
        n_covered=len(homes),
        n_shared=sum(n > 1 for n in homes.values()),
        hub_ratio=None,
        block_ratio=None,
        hub_null=None,
        block_null=None,
        seconds=time.perf_counter() - began,
    )


def _count_documents(codes: Codes, members: Sequence[int]) -> int:
    fires_M = np.zeros(codes.n_documents, dtype=np.bool_)
    for latent in members:
        fires_M[codes.of_latent(latent)[0]] = True
    return int(fires_M.sum())
