"""Refinement: a steered query that encodes to what was asked for, or at least not to something worse."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import pytest

from sae_core.refine import refine
from sae_core.sae import SAE
from sae_core.steer import move

if TYPE_CHECKING:
    from sae_core.explorer import Explorer, FeatureSet


@pytest.fixture(scope="module")
def space(planted: Explorer) -> FeatureSet:
    return next(iter(planted.saes.values()))


def encoded(sae: SAE, x_D: np.ndarray) -> dict[int, float]:
    latents, values = sae.encode(x_D[None]).row()
    return dict(zip(latents.tolist(), values.tolist(), strict=True))


def error_of(sae: SAE, x_D: np.ndarray, deltas: dict[int, float], wanted: dict[int, float]) -> float:
    """The definition, with dense vectors."""
    moved_D, _ = move(x_D, deltas, sae.directions_ND)
    goal_N, found_N = np.zeros(sae.n_latents), np.zeros(sae.n_latents)
    for target_N, entries in ((goal_N, wanted), (found_N, encoded(sae, moved_D))):
        target_N[list(entries)] = np.maximum(list(entries.values()), 0)
    return float(np.square(found_N - goal_N).sum() / np.square(goal_N).sum())


def asked(sae: SAE, x_D: np.ndarray, seed: int) -> tuple[dict[int, float], dict[int, float]]:
    """One feature of the query halved, another one begun: the changes, and what is wanted."""
    rng = np.random.default_rng(seed)
    own = encoded(sae, x_D)
    silent = rng.choice([latent for latent in range(sae.n_latents) if latent not in own])
    moved = {max(own, key=own.__getitem__): 0.5 * max(own.values()), int(silent): 0.4}
    return {i: s - own.get(i, 0.0) for i, s in moved.items()}, own | moved


def test_refined_queries_are_closer_and_none_is_further(planted: Explorer, space: FeatureSet) -> None:
    x_QD = planted.index.vectors()[100:160]
    found = []
    for seed, x_D in enumerate(x_QD):
        deltas, wanted = asked(space.sae, x_D, seed)
        refined = refine(space.sae, x_D, deltas, wanted)
        assert refined.before == pytest.approx(error_of(space.sae, x_D, deltas, wanted), abs=1e-5)
        assert refined.after == pytest.approx(error_of(space.sae, x_D, refined.deltas, wanted), abs=1e-5)
        assert refined.after <= refined.before
        found.append((refined.before, refined.after))
    before, after = np.mean(found, axis=0)
    assert after < 0.9 * before  # directions crowd: 48 in 32 dimensions


def test_an_encoder_that_is_the_decoder_is_met_exactly() -> None:
    """Orthogonal directions, no bias: only the length is in the way, and the steps take it into account."""
    sae = SAE(
        W_enc_ND=np.eye(8, dtype=np.float32),
        W_dec_ND=np.eye(8, dtype=np.float32),
        b_enc_N=np.zeros(8, dtype=np.float32),
        b_dec_D=np.zeros(8, dtype=np.float32),
        k=4,
    )
    x_D = np.array([0.8, 0.6, 0, 0, 0, 0, 0, 0], dtype=np.float32)
    wanted = {0: 0.48, 1: 0.36, 2: 0.8}  # a unit vector: it can be had
    refined = refine(sae, x_D, {0: -0.32, 1: -0.24, 2: 0.5}, wanted)
    assert refined.before > 0.05
    assert refined.after < 0.02 * refined.before


def test_what_is_met_already_is_left_as_it_is(planted: Explorer, space: FeatureSet) -> None:
    x_D = planted.vector(7)
    refined = refine(space.sae, x_D, {}, encoded(space.sae, x_D))
    assert refined.deltas == {}
    assert refined.after == refined.before < 1e-10


def test_the_same_question_has_the_same_answer(planted: Explorer, space: FeatureSet) -> None:
    x_D = planted.vector(11)
    deltas, wanted = asked(space.sae, x_D, 3)
    assert refine(space.sae, x_D, deltas, wanted) == refine(space.sae, x_D, deltas, wanted)


@pytest.mark.parametrize("strength", [-1.0, 0.0, 1e-9, 50.0, 1e9])
def test_odd_strengths_give_finite_coefficients(
    planted: Explorer, space: FeatureSet, strength: float
) -> None:
    x_D = planted.vector(23)
    own = encoded(space.sae, x_D)
    refined = refine(space.sae, x_D, {5: strength - own.get(5, 0.0)}, own | {5: strength})
    assert np.isfinite(list(refined.deltas.values())).all()
    assert refined.after <= refined.before


def test_nothing_wanted_and_a_vector_without_length(planted: Explorer, space: FeatureSet) -> None:
    x_D = planted.vector(31)
    silenced = encoded(space.sae, x_D)
    refined = refine(space.sae, x_D, {i: -z for i, z in silenced.items()}, dict.fromkeys(silenced, 0.0))
    assert refined.after <= refined.before
    one = SAE(
        W_enc_ND=np.eye(2, dtype=np.float32),
        W_dec_ND=np.eye(2, dtype=np.float32),
        b_enc_N=np.zeros(2, dtype=np.float32),
        b_dec_D=np.zeros(2, dtype=np.float32),
        k=1,
    )
    gone = refine(one, np.array([1, 0], dtype=np.float32), {0: -1.0}, {0: 0.0})
    assert gone.after <= gone.before


def test_a_latent_that_only_changes_may_take_any_activation(planted: Explorer, space: FeatureSet) -> None:
    x_D = planted.vector(41)
    own = encoded(space.sae, x_D)
    free = next(latent for latent in range(space.sae.n_latents) if latent not in own)
    refined = refine(space.sae, x_D, {free: 0.3}, own)
    moved_D, _ = move(x_D, {free: 0.3}, space.sae.directions_ND)
    found = encoded(space.sae, moved_D)
    found.pop(free, None)
    missed = sum((found.get(i, 0.0) - own.get(i, 0.0)) ** 2 for i in found.keys() | own.keys())
    assert refined.before == pytest.approx(missed / sum(z * z for z in own.values()), abs=1e-5)


def test_it_is_quick_with_64_active_features() -> None:
    """On a random SAE of 3,072 latents; alone it takes 1.5 ms, the bound allows for a busy machine."""
    rng = np.random.default_rng(0)
    W_ND = rng.standard_normal((3072, 384)).astype(np.float32)
    W_ND /= np.linalg.norm(W_ND, axis=1, keepdims=True)
    sae = SAE(W_enc_ND=W_ND, W_dec_ND=W_ND, b_enc_N=np.zeros(3072, np.float32), b_dec_D=W_ND[0] * 0, k=64)
    x_D = W_ND[:20].sum(axis=0)
    x_D /= np.linalg.norm(x_D)
    wanted = encoded(sae, x_D)
    times = []
    for at in range(12):
        begin = time.perf_counter()
        refine(sae, x_D, {100 + at: 0.3}, wanted | {100 + at: 0.3})
        times.append(time.perf_counter() - begin)
    assert min(times) < 0.02
