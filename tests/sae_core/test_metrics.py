"""Known answers for every number on the scorecard."""

from __future__ import annotations

import numpy as np
import pytest

from sae_core import metrics


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
