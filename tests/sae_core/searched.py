"""A search again, from its definition: a scan with the steered vector, full sorts, loops."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from sae_core.filters import Filters

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from sae_core.explorer import Explorer, FeatureSet


@dataclass
class Demands:
    """What a search asks apart from its vector."""

    filters: Filters = field(default_factory=Filters)
    required: Iterable[int] = ()
    excluded: Iterable[int] = ()
    keywords: NDArray[np.int64] | None = None
    weight: float = 0.0
    diverse: bool = False


def search(
    explorer: Explorer, space: FeatureSet, x_D: NDArray[np.float32], asked: Demands
) -> tuple[list[int], list[float], list[float] | None]:
    """Positions of all that is found, their products with the vector, and fused scores if words count."""
    scores = explorer.index.products(x_D).tolist()
    found = [position for position in range(explorer.n_documents) if passes(explorer, space, position, asked)]
    found.sort(key=lambda position: (-scores[position], position))
    fused = None
    if asked.keywords is not None and asked.weight:
        fused = fuse(found, asked.keywords.tolist(), asked.weight)
        rank = {position: rank for rank, position in enumerate(found)}
        found.sort(key=lambda position: (-fused[position], rank[position]))
    if asked.diverse:
        found = one_each(space, found)
    return found, [scores[p] for p in found], None if fused is None else [fused[p] for p in found]


def fuse(ranked: Sequence[int], words: Sequence[int], weight: float) -> dict[int, float]:
    fused = {position: (1 - weight) / (60 + rank) for rank, position in enumerate(ranked, start=1)}
    for rank, position in enumerate((p for p in words if p in fused), start=1):
        fused[position] += weight / (60 + rank)
    return fused


def one_each(space: FeatureSet, ranked: Sequence[int]) -> list[int]:
    """The first of each family, and all that have none."""
    seen, kept = set(), []
    for position in ranked:
        families = [space.family_of(int(latent)) for latent in space.codes.of_document(position)[0]]
        family = next((family.id for family in families if family is not None), None)
        if family is None or family not in seen:
            kept.append(position)
        seen.add(family)
    return kept


def passes(explorer: Explorer, space: FeatureSet, position: int, asked: Demands) -> bool:
    fires = set(space.codes.of_document(position)[0].tolist())
    has_all, has_none = set(asked.required) <= fires, not set(asked.excluded) & fires
    return has_all and has_none and in_bounds(explorer, position, asked.filters)


def in_bounds(explorer: Explorer, position: int, filters: Filters) -> bool:
    known = explorer.metadata
    year, cited = int(known.years_M[position]), int(known.citations_M[position])
    venue_code = int(known.venue_codes_M[position])
    venue = known.venues[venue_code] if venue_code >= 0 else None
    begin, end = known.category_ptr[position : position + 2]
    categories = {known.categories[code] for code in known.category_codes[begin:end]}
    by_year = filters.year_min is not None or filters.year_max is not None
    return (
        (not by_year or year > 0)
        and (filters.year_min is None or year >= filters.year_min)
        and (filters.year_max is None or year <= filters.year_max)
        and (not filters.venues or venue in filters.venues)
        and (not filters.categories or bool(categories & set(filters.categories)))
        and (filters.cited_min is None or cited >= max(filters.cited_min, 0))
    )
