"""Matching the features of two SAEs: against brute force, and what a match means."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from sae_core.codes import Codes, make_codes
from sae_core.sae import SAE
from sae_core.splitting import (
    NONE,
    against_chance,
    compare,
    count_humps,
    draw_even,
    draw_shaped,
    match,
    shares,
)
from tests.planted import directions


@dataclass(frozen=True)
class Space:
    sae: SAE
    codes: Codes


def unit(rows: np.ndarray) -> np.ndarray:
    found: np.ndarray = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return found


def a_space(n_latents: int, seed: int, n_documents: int = 150, dead: tuple[int, ...] = ()) -> Space:
    rng = np.random.default_rng(seed)
    directions_ND = unit(rng.standard_normal((n_latents, 9)))
    zeros = np.zeros(n_latents, dtype=np.float32)
    sae = SAE(
        W_enc_ND=directions_ND,
        W_dec_ND=directions_ND,
        b_enc_N=zeros,
        b_dec_D=np.zeros_like(directions_ND[0]),
        k=3,
    )
    rows = np.repeat(np.arange(n_documents), 3)
    latents = np.concatenate([rng.choice(n_latents, 3, replace=False) for _ in range(n_documents)])
    values = np.where(np.isin(latents, dead), 0, rng.random(len(rows)) + 0.1).astype(np.float32)
    return Space(sae, make_codes(rows, latents, values, n_documents=n_documents, n_latents=n_latents))


def test_matches_are_those_of_brute_force() -> None:
    a, b = a_space(700, 1, dead=(3, 650)), a_space(40, 2, dead=(7,))  # more than one block of a
    found = match(a, b)
    fires_a, fires_b = (space.codes.matrix().toarray() > 0 for space in (a, b))
    for i in range(700):
        if not fires_a[:, i].any():
            assert (found.latent_N[i], found.cosine_N[i], found.overlap_latent_N[i]) == (NONE, 0, NONE)
            continue
        living = [j for j in range(40) if fires_b[:, j].any()]
        cosines = {j: float(a.sae.directions_ND[i] @ b.sae.directions_ND[j]) for j in living}
        best = max(cosines, key=lambda j: cosines[j])
        assert found.latent_N[i] == best
        assert found.cosine_N[i] == pytest.approx(cosines[best], abs=1e-6)
        overlaps = {
            j: (fires_a[:, i] & fires_b[:, j]).sum() / (fires_a[:, i] | fires_b[:, j]).sum() for j in living
        }
        assert found.jaccard_N[i] == pytest.approx(overlaps[best], abs=1e-6)
        most = max(overlaps.values())
        assert found.overlap_N[i] == pytest.approx(most, abs=1e-6)
        expected = next(j for j in living if overlaps[j] == most) if most > 0 else NONE
        assert found.overlap_latent_N[i] == expected


def test_an_sae_matches_itself() -> None:
    space = a_space(60, 3)
    found = match(space, space)
    assert found.latent_N.tolist() == found.overlap_latent_N.tolist() == list(range(60))
    assert found.overlap_N.tolist() == [1.0] * 60
    said = compare(space, space, found)
    assert (said["recurrent"], said["n"], said["n_others"], said["mean_overlap"]) == (1.0, 60, 60, 1.0)
    assert said["low"] > 0.9


def test_nothing_living_to_match() -> None:
    found = match(a_space(5, 1), a_space(4, 2, dead=(0, 1, 2, 3)))
    assert found.latent_N.tolist() == found.overlap_latent_N.tolist() == [NONE] * 5
    dead = a_space(4, 2, dead=(0, 1, 2, 3))
    assert compare(dead, a_space(5, 1), match(dead, a_space(5, 1)))["recurrent"] is None


def test_codes_of_other_documents_are_refused() -> None:
    with pytest.raises(ValueError, match="150 and 99 documents"):
        match(a_space(5, 1), a_space(5, 1, n_documents=99))


def test_random_directions_recur_in_nothing_and_their_own_copies_do() -> None:
    planted_ND = directions()
    chance = against_chance(planted_ND, planted_ND)
    assert chance["random"]["recurrent"] == pytest.approx(0, abs=0.1)
    assert shares(np.ones(48, dtype=np.float32))["recurrent"] == 1


def test_a_shaped_null_lies_where_the_directions_lie() -> None:
    rng = np.random.default_rng(5)
    flat_ND = unit(rng.standard_normal((800, 20)) * np.linspace(2, 0.05, 20) + 0.5)
    shaped_ND, even_ND = draw_shaped(flat_ND), draw_even(flat_ND)
    assert np.linalg.norm(shaped_ND, axis=1) == pytest.approx(1, abs=1e-5)
    apart = [float(np.abs(np.cov(other.T) - np.cov(flat_ND.T)).sum()) for other in (shaped_ND, even_ND)]
    assert apart[0] < 0.35 * apart[1]
    chance = against_chance(flat_ND, flat_ND)
    assert (chance["shaped"]["mean_cosine"] or 0) > (chance["random"]["mean_cosine"] or 0) + 0.1


def test_humps_are_counted() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.normal(0.3, 0.05, 400), rng.normal(0.95, 0.02, 300)
    assert count_humps(one) == 1
    assert count_humps(np.concatenate((one, other))) == 2
    assert count_humps(one[:5]) is None
    assert count_humps(np.ones(100)) is None
