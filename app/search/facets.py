"""What documents can be filtered by, with how many there would be."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from app.query import SearchQuery
from app.search.asking import Search
from app.views.search import Choice, Facets
from sae_core.filters import CITED_STEPS, FacetCounts, Filters

SECONDS = 0.05  # that counting may take; only the first search with other filters counts
N_CHOICES = 24


def filters_of(query: SearchQuery) -> Filters:
    return Filters(query.year_min, query.year_max, query.venues, query.categories, query.cited_min)


def facets(asked: Search) -> Facets:
    """The largest values of each facet and those that are chosen. Without counts, where there was no time."""
    collection, query = asked.collection, asked.query
    metadata = collection.explorer.metadata
    counts = metadata.counts(filters_of(query), SECONDS)
    venues, categories = (None, None) if counts is None else (counts.venues, counts.categories)
    return Facets(
        years=[(year, None if counts is None else counts.years.get(year, 0)) for year, _ in collection.years],
        venues=_choices("v", metadata.venues, collection.largest_venues, venues, query.venues),
        categories=_choices(
            "c", metadata.categories, collection.largest_categories, categories, query.categories
        ),
        cited=_cited(collection.most_cited, counts, query.cited_min),
        is_counted=counts is not None,
    )


def _choices(
    letter: str,
    names: Sequence[str],
    largest: Sequence[int],
    counts: NDArray[np.int64] | None,
    chosen: Sequence[str],
) -> list[Choice]:
    codes = list(largest[:N_CHOICES])
    shown = {names[code] for code in codes}
    others = {name for name in chosen if name not in shown}
    codes += [code for code, name in enumerate(names) if name in others] if others else []
    found = [
        Choice(
            f"{letter}{code}",
            names[code],
            names[code],
            None if counts is None else int(counts[code]),
            names[code] in chosen,
        )
        for code in codes
    ]
    # What no document has stays there to be taken back.
    known = {choice.value for choice in found}
    return found + [Choice("", name, name, 0, is_chosen=True) for name in chosen if name not in known]


def _cited(most: int, counts: FacetCounts | None, chosen: int | None) -> list[Choice]:
    """Steps that some documents reach; another number that an address has stands with them."""
    steps = {step for step in CITED_STEPS if step <= most} | ({chosen} if chosen is not None else set())
    return [
        Choice(
            f"n{step}",
            str(step),
            f"{step:,} or more",
            None if counts is None else counts.cited.get(step),
            step == chosen,
        )
        for step in sorted(steps)
    ]
