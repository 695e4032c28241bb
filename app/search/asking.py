"""What a search asks, worked out before any document is looked at."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from app.deps import ServedCollection, ServedSAE
from app.query import SearchQuery, as_strength
from sae_core.explorer import Code

NO_LENGTH = 1e-6  # strengths that cancel each other leave no direction to search in


@dataclass(frozen=True)
class Search:
    """What is asked, and what follows from it before any document is looked at."""

    collection: ServedCollection
    sae: ServedSAE
    query: SearchQuery  # without strengths that equal the query's own
    code: Code | None  # of the words; None if there are none
    moves: dict[int, float]  # the strengths that differ from the query's own
    block: str | None

    @property
    def own(self) -> dict[int, float]:
        return {} if self.code is None else self.code.own

    def wants(self, block: str) -> bool:
        return self.block is None or self.block == block


def plan(
    collection: ServedCollection,
    sae: ServedSAE,
    query: SearchQuery,
    code: Code | None,
    block: str | None = None,
) -> Search:
    """Tell moves from strengths that only repeat, as printed, what the query has anyway."""
    own = {latent: as_strength(value) for latent, value in code.own.items()} if code else {}
    kept = tuple((latent, value) for latent, value in query.strengths if own.get(latent) != value)
    moves = {latent: value for latent, value in kept if own.get(latent, 0.0) != value}
    return Search(collection, sae, replace(query, strengths=kept), code, moves, block)


def direction(sae: ServedSAE, strengths: dict[int, float]) -> NDArray[np.float32] | None:
    """The unit sum of s_i d_i, (D,); None if there is none."""
    if not strengths:
        return None
    weights = np.fromiter(strengths.values(), dtype=np.float32)
    summed_D = weights @ sae.directions_ND[list(strengths)]
    length = float(np.linalg.norm(summed_D))
    return (summed_D / length).astype(np.float32) if length > NO_LENGTH else None
