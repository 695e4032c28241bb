"""Known answers for every number on the scorecard."""

from __future__ import annotations

import numpy as np
import pytest

from sae_core import metrics
from sae_core.sae import SAE


@pytest.fixture
def x_MD() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((300, 10)).astype(np.float32)


def test_fvu_of_the_mean_is_one_and_of_the_truth_zero(x_MD: np.ndarray) -> None:
    assert metrics.fvu(x_MD, np.broadcast_to(x_MD.mean(axis=0), x_MD.shape)) == pytest.approx(1)
    assert metrics.fvu(x_MD, x_MD) == 0


def test_fvu_of_constant_rows_is_not_a_number() -> None:
    rows = np.ones((4, 3), dtype=np.float32)
    assert np.isnan(metrics.fvu(rows, rows))


def test_pca_with_all_components_explains_everything_and_with_fewer_less(x_MD: np.ndarray) -> None:
    scores = [metrics.pca_fvu(x_MD, x_MD, n) for n in (1, 5, 10)]
    assert scores[0] > scores[1] > scores[2]
    assert scores[2] == pytest.approx(0, abs=1e-6)


def test_as_many_centroids_as_rows_leave_no_error(x_MD: np.ndarray) -> None:
    found = metrics.kmeans_reconstruction(x_MD, x_MD, len(x_MD))
    np.testing.assert_allclose(found, x_MD, atol=1e-6)


def test_one_centroid_is_the_mean(x_MD: np.ndarray) -> None:
    found = metrics.kmeans_reconstruction(x_MD, x_MD, 1)
    np.testing.assert_allclose(found, np.broadcast_to(x_MD.mean(axis=0), x_MD.shape), atol=1e-5)


def test_pursuit_over_a_basis_keeps_the_largest_coordinates() -> None:
    rows = np.array([[3.0, 1.0, 2.0]], dtype=np.float32)
    found = metrics.pursue(rows, np.eye(3, dtype=np.float32), 2)
    np.testing.assert_allclose(found, [[3, 0, 2]], atol=1e-6)


# --- densities and cosines ------------------------------------------------------------------------


def an_sae(directions_ND: np.ndarray, encoder_ND: np.ndarray | None = None, k: int = 2) -> SAE:
    """An SAE without biases whose decoder is given, and whose encoder is its transpose unless given."""
    n, width = directions_ND.shape
    return SAE(
        W_enc_ND=directions_ND if encoder_ND is None else encoder_ND,
        W_dec_ND=directions_ND,
        b_enc_N=np.zeros(n, dtype=np.float32),
        b_dec_D=np.zeros(width, dtype=np.float32),
        k=k,
    )


def unit_rows(n: int, width: int, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((n, width)).astype(np.float32)
    unit: np.ndarray = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def test_densities_are_counted_by_decade_and_the_dead_apart() -> None:
    found = metrics.density_histogram(np.array([0, 0, 1, 10, 100, 1000]), 1000)
    assert (found["low"], found["high"], found["n_dead"]) == (-3, 0, 2)
    assert len(found["counts"]) == 15
    assert [i for i, count in enumerate(found["counts"]) if count] == [0, 5, 10, 14]
    assert found["mean"] == pytest.approx(-1.5)


def test_densities_of_the_dead_alone_are_none() -> None:
    found = metrics.density_histogram(np.zeros(3, dtype=np.int64), 50)
    assert sum(found["counts"]) == 0
    assert found["n_dead"] == 3
    assert found["mean"] is None


def test_the_encoder_starts_at_its_directions() -> None:
    directions_ND = unit_rows(20, 8)
    same = metrics.encoder_decoder(an_sae(directions_ND, 3 * directions_ND))
    assert same["mean"] == pytest.approx(1)
    assert (same["counts"][-1], sum(same["counts"]), same["low"]) == (20, 20, 0)
    opposite = metrics.encoder_decoder(an_sae(directions_ND, -directions_ND))
    assert (opposite["mean"], opposite["low"], opposite["counts"][0]) == (pytest.approx(-1), -1, 20)


def test_a_dead_latent_has_no_say_in_the_cosine_of_encoder_and_decoder() -> None:
    directions_ND = np.eye(2, dtype=np.float32)
    encoder_ND = np.array([[1, 0], [1, 0]], dtype=np.float32)
    assert metrics.encoder_decoder(an_sae(directions_ND, encoder_ND))["mean"] == pytest.approx(0.5)
    living = metrics.encoder_decoder(an_sae(directions_ND, encoder_ND), np.array([3, 0]))
    assert living["mean"] == pytest.approx(1)
    assert sum(living["counts"]) == 1


def test_the_scorecard_has_both_histograms(x_MD: np.ndarray) -> None:
    sae = an_sae(unit_rows(12, 10))
    found = metrics.scorecard(sae, x_MD[:200], x_MD[200:], np.arange(12), 300)
    assert sum(found["density"]["counts"]) == sum(found["encoder_decoder"]["counts"]) == 11
    assert found["density"]["n_dead"] == found["n_dead"] == 1


# --- stability ------------------------------------------------------------------------------------


def test_an_sae_matches_itself_in_any_order_and_random_directions_hardly() -> None:
    directions_ND = unit_rows(3000, 64)
    shuffled_ND = directions_ND[np.random.default_rng(1).permutation(3000)]
    found = metrics.matched_share(an_sae(directions_ND), an_sae(shuffled_ND))
    assert (found["share"], found["n"], found["n_matched"]) == (1, 3000, 3000)
    assert found["mean_cosine"] == pytest.approx(1, abs=1e-5)
    assert found["low"] > 0.998
    assert found["high"] == pytest.approx(1)
    assert found["random_share"] == 0
    assert 0.3 < found["random_mean_cosine"] < 0.6
    assert found["random_n"] == 2048


def test_half_the_directions_are_half_the_share_and_the_dead_are_not_asked() -> None:
    directions_ND = np.eye(40, dtype=np.float32)
    a, b = an_sae(directions_ND[:20]), an_sae(directions_ND[10:30])
    found = metrics.matched_share(a, b)
    assert (found["share"], found["mean_cosine"]) == (0.5, 0.5)
    assert found["low"] < 0.5 < found["high"]
    counts_N = np.arange(20) // 10  # the ten that are not in b are dead
    assert metrics.matched_share(a, b, counts_N)["share"] == 1


def test_without_living_features_stability_is_not_a_number() -> None:
    a = an_sae(np.eye(4, dtype=np.float32))
    found = metrics.matched_share(a, a, np.zeros(4, dtype=np.int64))
    assert (found["share"], found["mean_cosine"]) == (None, None)
    assert (found["n"], found["low"], found["high"]) == (0, 0, 1)


# --- retrieval ------------------------------------------------------------------------------------

PLANE = np.array([[1, 0], [0.8, 0.6], [0, 1], [-1, 0]], dtype=np.float32)  # ranked so for the query (1, 0)
EAST = np.array([[2.0, 0.0]], dtype=np.float32)


@pytest.mark.parametrize(
    ("relevant", "k", "expected"),
    [
        ({0: 1.0}, 10, 1.0),
        ({1: 1.0}, 10, 1 / np.log2(3)),  # at rank 2
        ({3: 1.0}, 3, 0.0),  # beyond k
        ({1: 1.0, 2: 1.0}, 10, (1 / np.log2(3) + 1 / 2) / (1 + 1 / np.log2(3))),
        ({0: 1.0, 1: 3.0}, 10, (1 + 3 / np.log2(3)) / (3 + 1 / np.log2(3))),  # graded, in the wrong order
        ({0: 1.0, 1: 1.0, 2: 1.0}, 1, 1.0),  # the ideal has k places too
        ({0: 0.0, 1: 2.0}, 10, 1 / np.log2(3)),  # judged irrelevant is irrelevant
    ],
)
def test_ndcg_by_hand(relevant: dict[int, float], k: int, expected: float) -> None:
    assert metrics.ndcg(EAST, PLANE, [relevant], k) == pytest.approx(expected)


def test_ndcg_is_the_mean_over_queries_that_have_something_to_find() -> None:
    queries = np.array([[1, 0], [0, 1], [1, 1]], dtype=np.float32)
    relevant: list[dict[int, float]] = [{0: 1}, {1: 1}, {}]
    assert metrics.ndcg(queries, PLANE, relevant) == pytest.approx((1 + 1 / np.log2(3)) / 2)
    assert np.isnan(metrics.ndcg(queries, PLANE, [{}, {}, {2: 0.0}]))


def test_of_equal_cosines_the_lower_row_comes_first() -> None:
    rows = np.ones((5, 2), dtype=np.float32)
    assert metrics.ndcg(EAST, rows, [{0: 1.0}]) == 1
    assert metrics.ndcg(EAST, rows, [{4: 1.0}]) == pytest.approx(1 / np.log2(6))


def test_a_perfect_sae_keeps_retrieval_and_one_that_hears_nothing_does_not() -> None:
    relevant: list[dict[int, float]] = [{1: 1}]
    both_ways = np.concatenate([np.eye(2), -np.eye(2)]).astype(np.float32)
    perfect = metrics.ndcg_kept(an_sae(both_ways), EAST, PLANE, relevant)
    assert perfect["kept"] == pytest.approx(1)
    assert perfect["ndcg_reconstructed"] == pytest.approx(perfect["ndcg"])
    assert perfect["n_queries"] == 1
    deaf = an_sae(np.eye(2, dtype=np.float32), np.zeros((2, 2), dtype=np.float32))
    assert metrics.ndcg_kept(deaf, EAST, PLANE[::-1].copy(), [{3: 1}], 1)["kept"] == 0


def test_what_was_never_found_cannot_be_kept() -> None:
    sae = an_sae(np.eye(2, dtype=np.float32))
    assert metrics.ndcg_kept(sae, EAST, PLANE, [{3: 1}], 1)["kept"] is None
    assert metrics.ndcg_kept(sae, EAST, PLANE, [{}])["ndcg"] is None
