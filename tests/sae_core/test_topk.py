"""The k largest of a row are those of a full sort, whatever the values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sae_core.topk import pack, top_k, top_k_of_product, unpack

finite = st.floats(width=32, allow_nan=False)
few_values = st.sampled_from([-np.inf, -1.0, -0.5, 0.0, 0.25, 0.5, np.inf])


def fully_sorted(a_BN: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Largest first, ties by index."""
    indices_BK = np.argsort(-a_BN, axis=1, kind="stable")[:, :k]
    return indices_BK, np.take_along_axis(a_BN, indices_BK, axis=1)


def assert_is_fully_sorted(a_BN: np.ndarray, k: int) -> None:
    indices_BK, values_BK = top_k(a_BN, k)
    expected_indices_BK, expected_values_BK = fully_sorted(a_BN, k)
    np.testing.assert_array_equal(values_BK, expected_values_BK)
    np.testing.assert_array_equal(indices_BK, expected_indices_BK)


@given(st.data())
def test_any_rows_with_any_ties(data: st.DataObject) -> None:
    shape = data.draw(st.tuples(st.integers(0, 4), st.integers(1, 40)))
    values = data.draw(st.sampled_from([finite, few_values]))
    a_BN = data.draw(arrays(np.float32, shape, elements=values)) + np.float32(0)  # no -0.0, which sorts apart
    assert_is_fully_sorted(a_BN, data.draw(st.integers(1, shape[1])))


@pytest.mark.parametrize(
    ("n", "k"), [(1, 1), (16, 1), (1000, 7), (4096, 64), (5000, 64), (9216, 256), (300, 64)]
)
def test_rows_of_many_groups(n: int, k: int) -> None:
    a_BN = np.random.default_rng(n).standard_normal((13, n), dtype=np.float32)
    assert_is_fully_sorted(a_BN, k)
    assert_is_fully_sorted(np.sort(a_BN, axis=1), k)  # all of the largest in the last groups
    assert_is_fully_sorted(np.round(a_BN), k)  # far more than k candidates


def test_a_row_with_nan_has_k_picks_and_leaves_the_others_alone() -> None:
    a_BN = np.random.default_rng(0).standard_normal((3, 600), dtype=np.float32)
    a_BN[1, 7] = np.nan
    indices_BK, values_BK = top_k(a_BN, 4)
    assert np.isnan(values_BK[1, 0])
    assert indices_BK[1, 0] == 7
    assert len(set(indices_BK[1])) == 4
    expected_BK, _ = fully_sorted(a_BN[[0, 2]], 4)
    np.testing.assert_array_equal(indices_BK[[0, 2]], expected_BK)


@given(st.lists(st.tuples(finite, st.integers(0, 2**32 - 1)), min_size=2))
def test_keys_are_ordered_by_falling_value_then_number_and_can_be_undone(
    pairs: list[tuple[float, int]],
) -> None:
    values, numbers = np.array(pairs, dtype=float).T
    values, numbers = values.astype(np.float32) + np.float32(0), numbers.astype(np.uint32)
    keys = pack(values, numbers)
    np.testing.assert_array_equal(np.argsort(keys, kind="stable"), np.lexsort((numbers, -values)))
    for back, put_in in zip(unpack(keys), (values, numbers), strict=True):
        np.testing.assert_array_equal(back, put_in)


@pytest.mark.parametrize("tile", [1, 1000, 3000, 2**22])
@pytest.mark.parametrize("order", ["as they come", "rising", "falling"])
def test_a_product_in_tiles_has_the_picks_of_the_whole(
    tile: int, order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sae_core.topk.TILE", tile)
    rng = np.random.default_rng(tile)
    x_BD = rng.integers(-4, 5, (17, 6)).astype(np.float32)  # whole numbers: no rounding, and many ties
    W_ND = rng.integers(-4, 5, (700, 6)).astype(np.float32)
    if order != "as they come":  # the tiles that come last, or first, have all of the strongest
        W_ND = W_ND[np.argsort(W_ND @ x_BD[0])][:: 1 if order == "rising" else -1]
    bias_N = rng.integers(-4, 5, 700).astype(np.float32)
    expected = fully_sorted(x_BD @ W_ND.T + bias_N, 9)
    for found, right in zip(top_k_of_product(x_BD, W_ND, bias_N, 9), expected, strict=True):
        np.testing.assert_array_equal(found, right)


def test_a_product_of_no_rows_has_no_picks() -> None:
    indices_BK, values_BK = top_k_of_product(
        np.empty((0, 3), np.float32), np.ones((5, 3), np.float32), np.zeros(5, np.float32), 2
    )
    assert indices_BK.shape == values_BK.shape == (0, 2)
