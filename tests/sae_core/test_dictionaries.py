"""Baselines as SAE objects: what they are, and that they can be told from an SAE."""

from __future__ import annotations

import numpy as np
import pytest

from sae_core import metrics
from sae_core.dictionaries import KMEANS, PCA, RANDOM, dictionaries, pca_dictionary, random_dictionary
from sae_core.sae import SAE


@pytest.fixture(scope="module")
def x_MD() -> np.ndarray:
    rng = np.random.default_rng(4)
    rows = rng.standard_normal((900, 12)) * np.linspace(2, 0.3, 12) + 0.4
    unit: np.ndarray = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return unit


def an_sae(n_latents: int, width: int, k: int) -> SAE:
    return SAE(
        W_enc_ND=np.ones((n_latents, width), dtype=np.float32),
        W_dec_ND=np.ones((n_latents, width), dtype=np.float32),
        b_enc_N=np.zeros(n_latents, dtype=np.float32),
        b_dec_D=np.zeros(width, dtype=np.float32),
        k=k,
    )


def test_they_have_the_size_of_the_sae_and_unit_directions(x_MD: np.ndarray) -> None:
    found = dictionaries(an_sae(20, 12, 3), x_MD)
    assert [each.name for each in found] == [PCA, KMEANS, RANDOM]
    for each in found:
        assert (each.sae.n_latents, each.sae.k, each.sae.width) == (20, 3, 12)
        assert np.linalg.norm(each.sae.directions_ND, axis=1) == pytest.approx(1, abs=1e-5)
        codes = each.encoded(x_MD).codes
        assert codes is not None
        assert codes.document_ptr[-1] <= 3 * len(x_MD)


def test_pca_has_each_component_with_both_signs_and_reconstructs_as_pca_does(x_MD: np.ndarray) -> None:
    whole = pca_dictionary(x_MD, 24, 12).sae
    assert whole.directions_ND[0::2] == pytest.approx(-whole.directions_ND[1::2])
    assert metrics.evaluate(whole, x_MD)["fvu"] == pytest.approx(
        0, abs=1e-5
    )  # every component, one sign each
    first = pca_dictionary(x_MD, 6, 3).sae  # the first three components, all of them active
    assert metrics.evaluate(first, x_MD)["fvu"] == pytest.approx(metrics.pca_fvu(x_MD, x_MD, 3), abs=1e-5)


def test_pca_says_that_there_are_no_more_components(x_MD: np.ndarray) -> None:
    found = pca_dictionary(x_MD, 100, 3)
    assert found.sae.n_latents == 24
    assert "only 24 latents" in found.remark
    assert "only" not in pca_dictionary(x_MD, 24, 3).remark


def test_a_random_decoder_follows_the_seed(x_MD: np.ndarray) -> None:
    same, again, other = (random_dictionary(x_MD, 20, 3, seed).sae for seed in (1, 1, 2))
    assert same.fingerprint() == again.fingerprint() != other.fingerprint()


def test_fewer_rows_than_centroids(x_MD: np.ndarray) -> None:
    kmeans = dictionaries(an_sae(64, 12, 3), x_MD[:40])[1]
    assert kmeans.sae.n_latents == 40
    assert "only 40 latents" in kmeans.remark
