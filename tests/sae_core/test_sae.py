"""The SAE that is served does what its equations say, and its file is what was saved."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sae_core.errors import ArtifactError
from sae_core.sae import SAE, Latents

B, D, N, K = 7, 12, 40, 5


@pytest.fixture
def sae() -> SAE:
    rng = np.random.default_rng(1)
    decoder = rng.standard_normal((N, D), dtype=np.float32)
    return SAE(
        W_enc_ND=rng.standard_normal((N, D), dtype=np.float32),
        W_dec_ND=decoder / np.linalg.norm(decoder, axis=1, keepdims=True),
        b_enc_N=rng.standard_normal(N, dtype=np.float32) / np.float32(10),
        b_dec_D=rng.standard_normal(D, dtype=np.float32) / np.float32(10),
        k=K,
    )


@pytest.fixture
def x_BD() -> np.ndarray:
    return np.random.default_rng(2).standard_normal((B, D)).astype(np.float32)


def test_preactivations_are_the_equation(sae: SAE, x_BD: np.ndarray) -> None:
    expected = (x_BD - sae.b_dec_D) @ sae.W_enc_ND.T + sae.b_enc_N
    np.testing.assert_allclose(sae.preactivations(x_BD), expected, atol=1e-5)


def test_encode_keeps_the_k_largest_and_decode_adds_their_directions(sae: SAE, x_BD: np.ndarray) -> None:
    pre_BN = sae.preactivations(x_BD)
    dense_BN = np.zeros_like(pre_BN)
    for row, values in enumerate(pre_BN):
        best = np.argsort(-values)[:K]
        dense_BN[row, best] = np.maximum(values[best], 0)
    latents = sae.encode(x_BD)
    found_BN = np.zeros_like(pre_BN)
    np.put_along_axis(found_BN, latents.indices_BK, latents.values_BK, axis=1)
    np.testing.assert_allclose(found_BN, dense_BN, atol=1e-6)
    expected = dense_BN @ sae.directions_ND + sae.b_dec_D
    np.testing.assert_allclose(sae.decode(latents), expected, atol=1e-5)


def test_a_pick_with_value_zero_does_not_fire() -> None:
    latents = Latents(np.array([[4, 2, 9]]), np.array([[0.0, 0.5, 0.25]], dtype=np.float32))
    indices, values = latents.row()
    assert indices.tolist() == [2, 9]
    assert values.tolist() == [0.5, 0.25]


def test_the_same_sae_is_the_same_file(sae: SAE, tmp_path: Path) -> None:
    whole = SAE(**sae.tensors(), k=K, threshold=0.25, prefixes=(10, N))
    assert len({whole.to_bytes() for _ in range(20)}) == 1  # the package puts metadata in any order
    whole.save(tmp_path / "sae.safetensors")
    assert SAE.load(tmp_path / "sae.safetensors").fingerprint() == whole.fingerprint()


@pytest.mark.parametrize("is_mapped", [False, True])
def test_load_is_the_inverse_of_save(sae: SAE, x_BD: np.ndarray, tmp_path: Path, is_mapped: bool) -> None:
    sae.save(tmp_path / "sae.safetensors")
    loaded = SAE.load(tmp_path / "sae.safetensors", is_mapped=is_mapped)
    is_in_file = str(tmp_path) in Path("/proc/self/maps").read_text()
    assert is_in_file == is_mapped
    assert loaded.fingerprint() == sae.fingerprint()
    assert loaded.k == K
    np.testing.assert_array_equal(loaded.encode(x_BD).indices_BK, sae.encode(x_BD).indices_BK)


def test_other_weights_have_another_fingerprint(sae: SAE) -> None:
    before = sae.fingerprint()
    sae.W_enc_ND[0, 0] += 1
    assert sae.fingerprint() != before


@pytest.mark.parametrize("content", [b"", b"not a safetensors file", b"\xff" * 200])
def test_a_damaged_file_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "sae.safetensors"
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"sae\.safetensors"):
        SAE.load(path)
