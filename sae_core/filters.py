"""Which documents pass the filters, and how many would pass other ones."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from sae_core.cache import Cache

if TYPE_CHECKING:
    from numpy.typing import NDArray

CITED_STEPS = (1, 3, 10, 30, 100, 300, 1000)  # citations at least, for which counts are given
MAX_CACHED_BYTES = 32 * 2**20  # masks, per collection
MAX_CACHED_COUNTS = 64
UNKNOWN = -1  # citations, venue


@dataclass(frozen=True)
class Filters:
    """Bounds that documents must keep. An unknown year, venue or citation count passes no filter by it."""

    year_min: int | None = None
    year_max: int | None = None
    venues: tuple[str, ...] = ()  # any of them
    categories: tuple[str, ...] = ()  # any of them
    cited_min: int | None = None


@dataclass(frozen=True)
class FacetCounts:
    """Documents that pass all other filters, by what they would be filtered by."""

    venues: NDArray[np.int64]  # by code
    categories: NDArray[np.int64]  # by code
    years: dict[int, int]  # known ones, rising
    cited: dict[int, int]  # cited at least so often, for each of `CITED_STEPS`


@dataclass(frozen=True, eq=False)
class Metadata:
    """What documents can be filtered by, as arrays over all of them."""

    years_M: NDArray[np.int16]  # 0 = unknown
    venue_codes_M: NDArray[np.int32]  # -1 = none
    citations_M: NDArray[np.int64]  # -1 = unknown
    category_ptr: NDArray[np.int64]  # where each document's codes begin, and where the last one's end
    category_codes: NDArray[np.int32]
    venues: list[str]  # by code
    categories: list[str]  # by code
    _masks: Cache[NDArray[np.bool_]] = field(
        default_factory=lambda: Cache(MAX_CACHED_BYTES, lambda mask: mask.nbytes), init=False, repr=False
    )
    _counts: Cache[FacetCounts] = field(
        default_factory=lambda: Cache(MAX_CACHED_COUNTS, lambda _: 1), init=False, repr=False
    )

    def allowed(self, filters: Filters) -> NDArray[np.bool_] | None:
        """Which documents pass, (M,); None stands for all. Cached: do not write into it."""
        conditions = self._conditions(filters)
        if not conditions:
            return None
        if (known := self._masks.get(filters)) is None:
            known = np.logical_and.reduce(list(conditions.values()))
            self._masks.put(filters, known)
        return known

    def counts(self, filters: Filters, seconds: float = float("inf")) -> FacetCounts | None:
        """Documents by venue, category, year and citations, under the other filters; None if time ran out."""
        if (known := self._counts.get(filters)) is not None:
            return known
        deadline = time.perf_counter() + seconds
        conditions = self._conditions(filters)
        others: dict[str, NDArray[np.bool_] | None] = {}
        for facet in ("venue", "category", "year", "cited"):
            rest = [mask for name, mask in conditions.items() if name != facet]
            others[facet] = np.logical_and.reduce(rest) if rest else None
            if time.perf_counter() > deadline:
                return None
        found = FacetCounts(
            venues=_count(self.venue_codes_M, others["venue"], len(self.venues)),
            categories=self._by_category(others["category"]),
            years=self._by_year(others["year"]),
            cited=self._by_citations(others["cited"]),
        )
        self._counts.put(filters, found)
        return found if time.perf_counter() <= deadline else None

    def _conditions(self, filters: Filters) -> dict[str, NDArray[np.bool_]]:
        """A mask for each facet that is filtered by."""
        years_M, found = self.years_M, {}
        if filters.year_min is not None or filters.year_max is not None:
            mask = years_M > 0
            if filters.year_min is not None:
                mask &= years_M >= filters.year_min
            if filters.year_max is not None:
                mask &= years_M <= filters.year_max
            found["year"] = mask
        if filters.venues:
            found["venue"] = np.isin(self.venue_codes_M, _codes(self.venues, filters.venues))
        if filters.categories:
            is_in = np.isin(self.category_codes, _codes(self.categories, filters.categories))
            mask = np.zeros(len(years_M), dtype=np.bool_)
            mask[self._category_documents[is_in]] = True
            found["category"] = mask
        if filters.cited_min is not None:
            found["cited"] = self.citations_M >= max(filters.cited_min, 0)
        return found

    @cached_property
    def _category_documents(self) -> NDArray[np.int64]:
        """The document of each category code."""
        return np.repeat(np.arange(len(self.years_M)), np.diff(self.category_ptr))

    def _by_category(self, mask: NDArray[np.bool_] | None) -> NDArray[np.int64]:
        entries = None if mask is None else mask[self._category_documents]
        return _count(self.category_codes, entries, len(self.categories))

    def _by_year(self, mask: NDArray[np.bool_] | None) -> dict[int, int]:
        counts = _count(self.years_M, mask, 0).tolist()
        return {year: n for year, n in enumerate(counts) if year > 0 and n > 0}

    def _by_citations(self, mask: NDArray[np.bool_] | None) -> dict[int, int]:
        cited = self.citations_M if mask is None else self.citations_M[mask]
        return {step: int(np.count_nonzero(cited >= step)) for step in CITED_STEPS}


def _codes(names: list[str], wanted: tuple[str, ...]) -> list[int]:
    chosen = set(wanted)
    return [code for code, name in enumerate(names) if name in chosen]


def _count(codes: NDArray[np.integer], mask: NDArray[np.bool_] | None, n: int) -> NDArray[np.int64]:
    """How often each code >= 0 occurs where the mask is true."""
    chosen = codes if mask is None else codes[mask]
    return np.bincount(chosen[chosen >= 0], minlength=n).astype(np.int64)
