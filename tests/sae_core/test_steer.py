"""Steering adds a change to the true embedding, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sae_core import steer
from sae_core.steer import CancelledQuery, Edit, FamilyMove, Moves, Refined

N, D = 20, 16
RNG = np.random.default_rng(5)


def unit(rows: np.ndarray) -> np.ndarray:
    unit_rows: np.ndarray = (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)
    return unit_rows


DIRECTIONS = unit(RNG.standard_normal((N, D)))
X = unit(RNG.standard_normal(D))
OWN = {3: 0.25, 7: 0.5}
latents = st.integers(0, N - 1)
strengths = st.dictionaries(latents, st.floats(-2, 2, width=32), max_size=8)
some = st.frozensets(latents, max_size=6)


def edit_of(moves: Moves, own: Mapping[int, float] = OWN) -> Edit:
    try:
        return steer.make_edit(X, moves, own, DIRECTIONS)
    except CancelledQuery:
        assume(False)
        raise


def vector_of(deltas: Mapping[int, float]) -> np.ndarray:
    return X + sum((delta * DIRECTIONS[latent] for latent, delta in deltas.items()), np.zeros(D))


def cosine(a_D: np.ndarray, b_D: np.ndarray) -> float:
    return float(a_D @ b_D / np.linalg.norm(a_D) / np.linalg.norm(b_D))


@pytest.mark.parametrize(
    "moves",
    [Moves(), Moves(OWN), Moves({4: 0.0}), Moves(keep=0.9), Moves(families=(FamilyMove({1: 1.0}, 0.0),))],
)
def test_no_change_is_the_query_itself(moves: Moves) -> None:
    edit = edit_of(moves)
    assert edit.steered_D is X
    assert (edit.deltas, edit.length, edit.cosine, edit.scale) == ({}, 1.0, 1.0, 1.0)


@given(strengths, strengths)
def test_an_edit_is_the_sum_of_its_deltas(wanted: dict[int, float], own: dict[int, float]) -> None:
    edit = edit_of(Moves(wanted), own)
    for latent, strength in wanted.items():
        assert edit.deltas.get(latent, 0.0) == pytest.approx(strength - own.get(latent, 0.0))
    assert set(edit.deltas) <= set(wanted)
    moved_D = vector_of(edit.deltas)
    assert edit.length == pytest.approx(np.linalg.norm(moved_D), abs=1e-5)
    np.testing.assert_allclose(edit.steered_D * edit.length, moved_D, atol=1e-5)
    assert edit.cosine == pytest.approx(cosine(X, moved_D), abs=1e-5)


@given(strengths, some)
def test_what_is_ignored_counts_for_no_document(wanted: dict[int, float], ignored: frozenset[int]) -> None:
    edit = edit_of(Moves(wanted, ignored))
    parts = DIRECTIONS[sorted(ignored)].astype(np.float64) @ edit.steered_D
    np.testing.assert_allclose(parts, 0, atol=2e-6 * (1 + sum(map(abs, edit.deltas.values())) / edit.length))
    np.testing.assert_allclose(edit.steered_D * edit.length, vector_of(edit.deltas), atol=1e-4)


def test_ignoring_changes_nothing_else() -> None:
    """The least change that takes the directions out: what is added lies in their span."""
    ignored = [2, 9, 11]
    edit = edit_of(Moves({}, frozenset(ignored)))
    assert sorted(edit.deltas) == ignored
    basis = np.linalg.qr(DIRECTIONS[ignored].T.astype(np.float64))[0]
    expected = X - basis @ (basis.T @ X)
    np.testing.assert_allclose(edit.steered_D, expected / np.linalg.norm(expected), atol=1e-6)


def test_ignoring_beats_a_strength_of_the_same_feature_and_its_families() -> None:
    family = FamilyMove({4: 0.6, 5: 0.8}, 1.0)
    plain, both = Moves(ignored=frozenset({4})), Moves({4: 2.0}, frozenset({4}))
    np.testing.assert_array_equal(edit_of(plain).steered_D, edit_of(both).steered_D)
    edit = edit_of(Moves(ignored=frozenset({4}), families=(family,)))
    assert DIRECTIONS[4] @ edit.steered_D == pytest.approx(0, abs=1e-6)
    assert edit.deltas[5] == pytest.approx(0.8)


def test_directions_that_are_all_but_the_same_can_be_ignored_together() -> None:
    directions = np.concatenate([DIRECTIONS, unit(DIRECTIONS[:1] + 1e-7)])
    edit = steer.make_edit(X, Moves(ignored=frozenset({0, N})), {}, directions)
    np.testing.assert_allclose(directions[[0, N]] @ edit.steered_D, 0, atol=1e-6)
    assert max(map(abs, edit.deltas.values())) < 2


def test_a_family_moves_its_members_but_for_those_with_a_strength() -> None:
    edit = edit_of(Moves({5: 0.3}, families=(FamilyMove({4: 0.6, 5: 0.8}, 0.5), FamilyMove({4: 1.0}, -0.1))))
    assert edit.deltas == pytest.approx({4: 0.5 * 0.6 - 0.1, 5: 0.3})


@given(strengths, some, st.floats(0.05, 0.999))
def test_a_cosine_is_kept_exactly_and_only_where_it_must(
    wanted: dict[int, float], ignored: frozenset[int], keep: float
) -> None:
    free = edit_of(Moves(wanted, ignored))
    kept = edit_of(Moves(wanted, ignored, keep=keep))
    if free.cosine >= keep:
        assert kept == Edit(free.deltas, kept.steered_D, free.length, free.cosine)
        return
    assert cosine(X.astype(np.float64), kept.steered_D.astype(np.float64)) == pytest.approx(keep, abs=1e-5)
    assert kept.cosine == pytest.approx(keep, abs=1e-9)
    assert 0 < kept.scale < 1
    assert kept.deltas == pytest.approx({i: kept.scale * delta for i, delta in free.deltas.items()})


@given(strengths)
def test_the_cosine_never_rises_with_the_edit(wanted: dict[int, float]) -> None:
    edit = edit_of(Moves(wanted))
    change_D = vector_of(edit.deltas).astype(np.float64) - X
    cosines = [cosine(X, X + share * change_D) for share in np.linspace(0, 1.5, 40)]
    assert (np.diff(cosines) < 1e-6).all()


def test_a_query_that_is_cancelled_is_refused_whatever_is_kept() -> None:
    own_direction = Moves({N: -1.0})
    directions = np.concatenate([DIRECTIONS, X[None]])
    for keep in (None, 0.5):
        with pytest.raises(CancelledQuery, match="take back"):
            steer.make_edit(X, Moves(own_direction.strengths, keep=keep), {}, directions)
    with pytest.raises(CancelledQuery):
        steer.make_edit(X, Moves(ignored=frozenset(range(N))), {}, DIRECTIONS)
    with pytest.raises(CancelledQuery):  # what is left is smaller than what was rounded away
        steer.make_edit(X, Moves({0: 1000.0, 1: -1000.0, 2: -0.999}), {}, np.stack([*DIRECTIONS[[0, 0]], X]))


def test_a_refiner_is_told_what_is_wanted_and_believed() -> None:
    told: list[Mapping[int, float]] = []

    def refiner(deltas: Mapping[int, float], wanted: Mapping[int, float]) -> Refined:
        told.extend([deltas, wanted])
        return Refined({**deltas, 8: 0.125}, 0.5, 0.1)

    moves = Moves({3: 1.0, 4: 0.5}, frozenset({7}), (FamilyMove({6: 1.0}, 0.2),), refine=True)
    edit = steer.make_edit(X, moves, OWN, DIRECTIONS, refiner)
    assert told[0] == pytest.approx({3: 0.75, 4: 0.5, 6: 0.2})
    assert told[1] == pytest.approx({3: 1.0, 4: 0.5, 6: 0.2, 7: 0.0})
    assert edit.refined == Refined({**told[0], 8: 0.125}, 0.5, 0.1)
    assert edit.deltas[8] == 0.125
    assert DIRECTIONS[7] @ edit.steered_D == pytest.approx(0, abs=1e-6)
    told.clear()
    assert steer.make_edit(X, Moves(refine=True), OWN, DIRECTIONS, refiner).steered_D is X
    steer.make_edit(X, Moves({3: 1.0}), OWN, DIRECTIONS, refiner)
    assert told == []


def test_moves_can_be_the_whole_query() -> None:
    x_D = steer.start_from(Moves({2: 0.6, 3: -0.2}, families=(FamilyMove({5: 1.0}, 0.3),)), DIRECTIONS)
    expected = unit(0.6 * DIRECTIONS[2] - 0.2 * DIRECTIONS[3] + 0.3 * DIRECTIONS[5])
    np.testing.assert_allclose(x_D, expected, atol=1e-6)
    x_D = steer.start_from(Moves({2: 0.6}, frozenset({4})), DIRECTIONS)
    assert DIRECTIONS[4] @ x_D == pytest.approx(0, abs=1e-6)
    for moves in (Moves(), Moves({2: 0.0}), Moves({2: 1.0}, frozenset({2}))):
        with pytest.raises(CancelledQuery):
            steer.start_from(moves, DIRECTIONS)


@given(st.floats(-0.9, 0.9), st.floats(0.05, 0.99))
def test_the_strength_reaches_the_cosine_or_none_does(b: float, wanted: float) -> None:
    a = steer.strength_for(b, wanted)
    if a is None:
        assert b >= wanted
        return
    assert a > 0
    assert (1 + a * b) / np.sqrt(1 + 2 * a * b + a * a) == pytest.approx(wanted, abs=1e-6)


def test_across_a_query_the_cosine_is_that_of_the_paper() -> None:
    for a in (0.1, 0.5, 1.0, 3.0):
        assert steer.strength_for(0.0, 1 / np.sqrt(1 + a * a)) == pytest.approx(a)
    assert steer.strength_for(0.5, 0.4) is None
    assert steer.strength_for(-0.4, 0.4) == pytest.approx(1 / 0.8)
    assert steer.strength_for(0.0, 1.0) is None


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
