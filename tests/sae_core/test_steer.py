"""Steering adds a change to the true embedding, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sae_core import steer

N, D, M = 20, 16, 50
RNG = np.random.default_rng(5)


def unit(rows: np.ndarray) -> np.ndarray:
    unit_rows: np.ndarray = (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)
    return unit_rows


DIRECTIONS = unit(RNG.standard_normal((N, D)))
DOCUMENTS = unit(RNG.standard_normal((M, D)))
X = unit(RNG.standard_normal(D))
strengths = st.dictionaries(st.integers(0, N - 1), st.floats(-2, 2, width=32), max_size=8)


def test_no_change_is_the_query_itself() -> None:
    own = {3: 0.25, 7: 0.5}
    assert steer.changes({}, own) == {}
    assert steer.changes({3: 0.25}, own) == {}
    moved, length = steer.move(X, {}, DIRECTIONS)
    assert moved is X
    assert length == 1
    base = DOCUMENTS @ X
    assert steer.combine(base, lambda _: base, {}, 1.0) is base


@given(strengths, strengths)
def test_combined_products_are_those_of_the_steered_vector(
    wanted: dict[int, float], own: dict[int, float]
) -> None:
    deltas = steer.changes(wanted, own)
    moved, length = steer.move(X, deltas, DIRECTIONS)
    if length < 0.05:
        return  # the sum all but cancels: its direction is noise
    found = steer.combine(DOCUMENTS @ X, lambda latent: DOCUMENTS @ DIRECTIONS[latent], deltas, length)
    np.testing.assert_allclose(found, DOCUMENTS @ moved, atol=1e-5)
    assert np.linalg.norm(moved) == pytest.approx(1, abs=1e-5)


@given(st.floats(0.01, 5))
def test_the_cosine_left_by_an_orthogonal_move_is_the_known_one(strength: float) -> None:
    direction = unit(DIRECTIONS[0] - (DIRECTIONS[0] @ X) * X)
    moved, _ = steer.move(X, {0: strength}, direction[None])
    assert moved @ X == pytest.approx(1 / np.sqrt(1 + strength**2), abs=1e-4)


def test_explained_is_one_for_a_perfect_and_zero_for_an_empty_reconstruction() -> None:
    centre = np.zeros(D, dtype=np.float32)
    assert steer.explained(X, X, centre) == pytest.approx(1)
    assert steer.explained(X, centre, centre) == pytest.approx(0)
    assert steer.explained(X, -X, centre) == 0
