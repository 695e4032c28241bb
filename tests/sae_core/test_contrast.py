"""Counts, tests and corrections of what separates two sets are those of a slow and plain calculation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sae_core.codes import Codes, make_codes
from sae_core.contrast import LEVEL, benjamini_hochberg, fisher_exact, separate, smallest_p
from sae_core.errors import SaefariError
from sae_core.explorer import Explorer
from tests import planted as truth

SIZES = [(1, 1), (1, 9), (3, 3), (5, 7), (40, 50), (20, 3_000), (700, 900), (3, 100_000), (900, 300_000)]


def tables(size_a: int, size_b: int, n: int = 25) -> tuple[np.ndarray, np.ndarray]:
    """Counts of features that fire in A and in B: rare and common, alike and not; with the corners."""
    rng = np.random.default_rng((size_a, size_b))
    share = rng.random(n) ** 3
    n_a = np.append(rng.binomial(size_a, share), [0, size_a, size_a])
    n_b = np.append(rng.binomial(size_b, np.minimum(share * rng.uniform(0.5, 2, n), 1)), [size_b, 0, size_b])
    fires = n_a + n_b > 0
    return n_a[fires], n_b[fires]


@pytest.mark.parametrize(("size_a", "size_b"), SIZES)
def test_p_is_that_of_fishers_exact_test(size_a: int, size_b: int) -> None:
    n_a, n_b = tables(size_a, size_b)
    expected = [
        stats.fisher_exact([[a, b], [size_a - a, size_b - b]])[1] for a, b in zip(n_a, n_b, strict=True)
    ]
    np.testing.assert_allclose(fisher_exact(n_a, n_b, size_a, size_b), expected, rtol=1e-6, atol=1e-300)


@given(st.integers(1, 12), st.integers(1, 12), st.data())
def test_no_table_with_these_margins_has_a_smaller_p(size_a: int, size_b: int, data: st.DataObject) -> None:
    n_both = data.draw(st.integers(1, size_a + size_b))
    n_a = np.arange(max(0, n_both - size_b), min(n_both, size_a) + 1)
    least = fisher_exact(n_a, n_both - n_a, size_a, size_b).min()
    assert smallest_p(np.array([n_both]), size_a, size_b)[0] == pytest.approx(least, rel=1e-9)


@given(st.lists(st.floats(1e-12, 1), min_size=1, max_size=60))
def test_q_is_that_of_benjamini_and_hochberg(p: list[float]) -> None:
    np.testing.assert_allclose(benjamini_hochberg(np.array(p)), stats.false_discovery_control(p), rtol=1e-9)


def test_every_feature_is_counted_in_both_sets_as_by_hand() -> None:
    rng = np.random.default_rng(3)
    has_MN = rng.random((60, 12)) < rng.random(12)
    has_MN[:, 11] = False
    rows, columns = np.nonzero(has_MN)
    codes = make_codes(rows, columns, np.ones(len(rows), np.float32), n_documents=60, n_latents=12)
    a, b = [0, 5, 9, 30, 31], list(range(40, 60))
    found = {each.latent: each for each in separate(codes, a, b)}
    assert 11 not in found
    for latent, each in found.items():
        counts = [int(has_MN[side, latent].sum()) for side in (a, b)]
        assert [each.n_a, each.n_b] == counts
        assert (each.share_a, each.share_b) == (counts[0] / 5, counts[1] / 20)
        table = [[counts[0] + 0.5, counts[1] + 0.5], [5.5 - counts[0], 20.5 - counts[1]]]
        odds = stats.contingency.odds_ratio(np.rint(np.array(table) * 1000).astype(int), kind="sample")
        assert each.log_odds.value == pytest.approx(np.log(odds.statistic), abs=1e-3)
        reach = 1.96 * np.sqrt((1 / np.array(table)).sum())
        assert each.log_odds.high - each.log_odds.value == pytest.approx(reach, rel=1e-3)


def rare(n_documents: int = 40) -> Codes:
    """Latent 0 fires on the first ten documents, each other one on a single document."""
    rows = np.concatenate((np.arange(10), np.arange(n_documents)))
    latents = np.concatenate((np.zeros(10, np.int64), np.arange(1, n_documents + 1)))
    ones = np.ones(len(rows), dtype=np.float32)
    return make_codes(rows, latents, ones, n_documents=n_documents, n_latents=n_documents + 1)


def test_a_feature_that_could_not_pass_is_not_corrected_for() -> None:
    first, *others = separate(rare(), range(10), range(10, 40))
    assert first.latent == 0
    assert first.q == first.p < 1e-6
    assert {other.q for other in others} == {1.0}
    assert min(other.p for other in others) > LEVEL


def test_the_other_set_is_the_rest_where_none_is_given() -> None:
    assert separate(rare(), range(10)) == separate(rare(), range(10), range(10, 40))


def test_the_two_sets_are_treated_alike() -> None:
    forward, backward = separate(rare(), range(4), range(20, 30)), separate(rare(), range(20, 30), range(4))
    assert [(e.latent, e.n_a, e.n_b) for e in forward] == [(e.latent, e.n_b, e.n_a) for e in backward]
    np.testing.assert_allclose([e.log_odds.low for e in forward], [-e.log_odds.high for e in backward])
    np.testing.assert_allclose([e.p for e in forward], [e.p for e in backward])


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ([], [1], "first set has no documents"),
        ([1], [], "second set has no documents"),
        (range(40), None, "second set has no documents"),
        ([1, 2, 3], [3, 4], "One document is in both sets"),
        ([1, 2, 3], [3, 2], "2 documents are in both sets"),
    ],
)
def test_sets_that_cannot_be_compared_are_refused(a: list[int], b: list[int] | None, message: str) -> None:
    with pytest.raises(SaefariError, match=message):
        separate(rare(), a, b)


def test_a_planted_topic_separates_its_documents_and_chance_separates_nothing(planted: Explorer) -> None:
    (space,) = planted.saes.values()
    topic = truth.WORDS[31]
    about = [i for i, document in enumerate(truth.documents()) if topic in document.title.split()]
    best = separate(space.codes, about[:20], range(2000, 2200))[0]
    assert topic in space.labels[best.latent].text.lower()
    assert best.log_odds.low > 0
    assert best.q < 1e-6
    rng = np.random.default_rng(5)
    passed = 0
    for _ in range(50):
        drawn = rng.permutation(planted.n_documents)[:120]
        passed += separate(space.codes, drawn[:60], drawn[60:])[0].q <= LEVEL
    assert passed <= 7  # of 50; with a chance of 5 % more than 7 happen once in 150
