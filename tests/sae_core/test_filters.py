"""Filters are what they say, document by document, and counts are those of other filters."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sae_core.explorer import Explorer
from sae_core.filters import CITED_STEPS, Filters, Metadata
from tests.sae_core.searched import in_bounds

FILTERS = [
    Filters(),
    Filters(year_min=2010),
    Filters(year_max=2009),
    Filters(year_min=2005, year_max=2006),
    Filters(year_min=2020, year_max=2001),
    Filters(year_min=0),
    Filters(venues=("Journal 1", "Journal 3")),
    Filters(venues=("Journal of nothing",)),
    Filters(categories=("group-0", "group-3")),
    Filters(categories=("nothing",)),
    Filters(cited_min=0),
    Filters(cited_min=5),
    Filters(2003, 2015, ("Journal 2", "Journal 4"), ("group-1", "group-2"), 3),
]


@pytest.fixture(scope="module")
def metadata(planted: Explorer) -> Metadata:
    return planted.metadata


@pytest.mark.parametrize("filters", FILTERS, ids=str)
def test_a_document_passes_if_it_keeps_every_bound(planted: Explorer, filters: Filters) -> None:
    expected = [in_bounds(planted, position, filters) for position in range(planted.n_documents)]
    mask = planted.metadata.allowed(filters)
    if filters == Filters():
        assert mask is None
        return
    assert mask is not None
    assert mask.tolist() == expected
    assert planted.metadata.allowed(replace(filters)) is mask, "it is remembered"


def test_some_documents_have_no_year_no_venue_and_no_citations(metadata: Metadata) -> None:
    """Else the tests above would not say what becomes of them."""
    assert (metadata.years_M == 0).any()
    assert (metadata.venue_codes_M == -1).any()
    assert (metadata.citations_M == -1).any()
    assert (np.diff(metadata.category_ptr) > 1).any()


@pytest.mark.parametrize("filters", FILTERS, ids=str)
def test_counts_are_of_documents_that_pass_the_other_filters(planted: Explorer, filters: Filters) -> None:
    known, counts = planted.metadata, planted.metadata.counts(filters)
    assert counts is not None

    def passing(others: Filters) -> int:
        return sum(in_bounds(planted, position, others) for position in range(planted.n_documents))

    for code in (0, 3):
        assert counts.venues[code] == passing(replace(filters, venues=(known.venues[code],)))
        assert counts.categories[code] == passing(replace(filters, categories=(known.categories[code],)))
    for year in (2001, 2011):
        assert counts.years.get(year, 0) == passing(replace(filters, year_min=year, year_max=year))
    for step in CITED_STEPS[:4]:
        assert counts.cited[step] == passing(replace(filters, cited_min=step))
    assert len(counts.venues) == len(known.venues)
    assert len(counts.categories) == len(known.categories)
    assert 0 not in counts.years


def test_counts_are_left_out_when_their_time_is_up(planted: Explorer) -> None:
    filters = Filters(year_min=2004, cited_min=1)
    assert planted.metadata.counts(filters, seconds=-1) is None
    found = planted.metadata.counts(filters, seconds=10)
    assert found is not None
    assert planted.metadata.counts(replace(filters), seconds=-1) is found, "what is known takes no time"
