"""What is ranked first is what exact products say, however far off the sums are that they were found with."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sae_core.ranking import Fusion, Groups, Ranking, first
from tests.sae_core.searched import fuse


class Case(NamedTuple):
    """Exact scores, and a ranking that knows them up to an error."""

    scores: np.ndarray
    ranking: Ranking
    rng: np.random.Generator

    @property
    def order(self) -> list[int]:
        """All positions of the ranking, best first."""
        places = range(len(self.scores)) if self.ranking.places is None else self.ranking.places.tolist()
        return sorted(places, key=lambda position: (-self.scores[position], position))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, levels = draw(st.integers(1, 1500)), draw(st.sampled_from([1, 3, 50, 10**7]))
    scores = (rng.integers(0, levels, n) / levels).astype(np.float32)  # few levels: many ties
    error = draw(st.sampled_from([0.0, 1e-6, 0.01, 0.4]))
    scale = draw(st.sampled_from([1.0, 0.03, 7.0]))
    noise = rng.uniform(-0.99, 0.99, n) * error
    sums = (scores * scale + noise).astype(np.float32)
    places = np.flatnonzero(rng.random(n) < 0.4) if draw(st.booleans()) else None
    if error == 0.0:
        sums = scores
    ranking = Ranking(sums, lambda positions: scores[positions], error=error, places=places)
    return Case(scores, ranking, rng)


@given(cases(), st.integers(0, 300))
def test_top_is_the_beginning_of_a_full_sort(case: Case, n: int) -> None:
    hits = case.ranking.top(n)
    assert hits.positions.tolist() == case.order[:n]
    np.testing.assert_array_equal(hits.scores, case.scores[case.order[:n]])


@given(cases(), st.integers(0, 40))
def test_ranks_are_places_in_a_full_sort(case: Case, n: int) -> None:
    order = case.order
    asked = case.rng.permutation(np.array(order, dtype=np.int64))[:n]
    assert case.ranking.ranks(asked).tolist() == [order.index(position) for position in asked]


def groups_of(case: Case) -> Groups:
    groups = case.rng.integers(-1, case.rng.integers(1, 30), len(case.scores))
    return Groups(groups.astype(np.int32))


def one_each(groups: Groups, order: list[int]) -> list[int]:
    seen: set[int] = set()
    kept = []
    for position in order:
        group = int(groups.group_M[position])
        if group < 0 or group not in seen:
            kept.append(position)
        seen.add(group)
    return kept


@given(cases(), st.integers(1, 60), st.sampled_from([0.0, 0.3, 1.0]), st.booleans())
def test_fused_and_diverse_rankings_are_their_definitions(
    case: Case, n: int, weight: float, diverse: bool
) -> None:
    words = case.rng.permutation(len(case.scores))[: case.rng.integers(0, 80)].astype(np.int64)
    groups = groups_of(case) if diverse else None
    order = case.order
    fused = fuse(order, words.tolist(), weight)
    if weight:
        rank = {position: at for at, position in enumerate(order)}
        order = sorted(order, key=lambda position: (-fused[position], rank[position]))
    kept = order if groups is None else one_each(groups, order)
    found = first(case.ranking, n, fusion=Fusion(words, weight), groups=groups)
    assert found.total == len(kept)
    assert found.hits.positions.tolist() == kept[:n]
    np.testing.assert_array_equal(found.hits.scores, case.scores[kept[:n]])
    if weight:
        assert found.fused is not None
        assert found.fused.tolist() == pytest.approx([fused[position] for position in kept[:n]], rel=1e-12)
    else:
        assert found.fused is None


@pytest.mark.parametrize("with_groups", [False, True])
def test_a_ranking_of_no_documents_is_empty(with_groups: bool) -> None:
    scores = np.ones(5, dtype=np.float32)
    nowhere = np.empty(0, dtype=np.int64)
    ranking = Ranking(scores, lambda positions: scores[positions]).among(nowhere)
    groups = Groups(np.zeros(5, dtype=np.int32)) if with_groups else None
    for fusion in (None, Fusion(np.arange(3), 0.5)):
        found = first(ranking, 10, fusion=fusion, groups=groups)
        assert (found.total, len(found.hits.positions)) == (0, 0)
