"""Conversions against the packages themselves, each in its own environment (`make peers`).

A package writes checkpoints and says what it makes of some rows; ours must say the same. Then it reads what
we exported, and must say what ours does.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.peers.conductor import ENVIRONMENTS, ROOT
from sae_core.errors import ConversionError
from sae_core.foreign import convert
from sae_core.sae import SAE

D, N, K = 24, 96, 6
ALL = N // 4  # as k where thresholds decide: then no latent is left out
SCRIPT = ROOT / "tests/peers/checkpoints.py"
PACKAGES = {"sparsify": "sparsify", "hypothesaes": "hypothesaes", "sae_lens": "saelens"}
CASES: dict[str, dict[str, int | None]] = {
    "sparsify": {"plain": None, "expansion": None, "bfloat16": None},
    "hypothesaes": {"plain.pt": None, "matryoshka.pt": None, "batch.pt": ALL, "both.pt": ALL},
    "sae_lens": {
        "topk-rescaled": None, "topk-inference": None, "topk-checkpoint": None, "standard": ALL,
        "standard-outside": ALL, "standard-length": ALL, "jumprelu": ALL, "jumprelu-scaled": ALL,
        "jumprelu-whitened": ALL, "batch-inference": ALL, "batch-checkpoint": None,
        "batch-apart-inference": ALL, "batch-apart-checkpoint": None,
        "matryoshka-inference": ALL, "matryoshka-checkpoint": None,
    },
}  # fmt: skip
EXPORTED: dict[str, dict[str, Any]] = {
    "topk": {},
    "batchtopk": {"threshold": 0.3},
    "jumprelu": {"thresholds_N": np.linspace(0, 0.6, N, dtype=np.float32)},
}


def ours(name: str) -> SAE:
    rng = np.random.default_rng(1)
    W_dec_ND = rng.standard_normal((N, D), dtype=np.float32)
    W_dec_ND /= np.linalg.norm(W_dec_ND, axis=1, keepdims=True)
    noise_ND = rng.standard_normal((N, D), dtype=np.float32) / np.float32(3)
    return SAE(
        W_enc_ND=W_dec_ND + noise_ND,
        W_dec_ND=W_dec_ND,
        b_enc_N=rng.standard_normal(N, dtype=np.float32) / np.float32(10),
        b_dec_D=rng.standard_normal(D, dtype=np.float32) / np.float32(10),
        k=K if name == "topk" else ALL,
        **EXPORTED[name],
    )


@pytest.fixture(scope="module", params=list(PACKAGES))
def package(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if not (ENVIRONMENTS / name / ".installed").exists():
        pytest.skip(f"{name} is not installed in {ENVIRONMENTS / name}: `make peers` does that")
    return name


@pytest.fixture(scope="module")
def folder(package: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints by the package, ours in its layout, and what the package makes of the rows with each."""
    folder = tmp_path_factory.mktemp(package)
    x_BD = np.random.default_rng(0).standard_normal((200, D)).astype(np.float32)
    np.save(folder / "x.npy", x_BD / np.linalg.norm(x_BD, axis=1, keepdims=True))
    for name in EXPORTED if package == "sae_lens" else ["topk"] if package == "sparsify" else []:
        ours(name).save(folder / f"{name}.safetensors")
        convert(folder / f"{name}.safetensors", folder / f"exported-{name}", to=PACKAGES[package])
    quiet = {"WANDB_MODE": "disabled", "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1", "OMP_NUM_THREADS": "1"}
    command = [str(ENVIRONMENTS / package / "bin/python"), str(SCRIPT), package, str(folder)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={"HOME": str(folder), **quiet}
    )
    assert done.returncode == 0, done.stderr
    return folder


def difference(sae: SAE, folder: Path, name: str) -> float:
    """The largest of any activation and any number of a reconstruction."""
    x_BD, expected = np.load(folder / "x.npy"), np.load(folder / f"{name}.npz")
    latents = sae.encode(x_BD)
    z_BN = np.zeros((len(x_BD), sae.n_latents))
    np.put_along_axis(z_BN, latents.indices_BK, latents.values_BK, axis=1)
    assert (expected["z_BN"] > 0).any(axis=1).mean() > 0.5
    activations = np.abs(z_BN - expected["z_BN"]).max()
    return float(max(activations, np.abs(sae.decode(latents) - expected["x_hat_BD"]).max()))


def test_its_checkpoints_give_the_same_here(package: str, folder: Path, tmp_path: Path) -> None:
    found = {}
    for name, k in CASES[package].items():
        made = convert(folder / name, tmp_path / name, k=k)
        assert made.layout == PACKAGES[package]
        found[name] = difference(made.sae, folder, name.removesuffix(".pt"))
    assert max(found.values()) < 1e-5, found


def test_ours_give_the_same_there(package: str, folder: Path) -> None:
    exported = [path.name for path in folder.glob("exported-*/")]
    if not exported:
        pytest.skip("there is no export to HypotheSAEs")
    found = {name: difference(ours(name.removeprefix("exported-")), folder, name) for name in exported}
    assert max(found.values()) < 1e-5, found


def test_picks_that_folding_would_change_are_refused(package: str, folder: Path, tmp_path: Path) -> None:
    if package != "sae_lens":
        pytest.skip("only SAELens makes such a checkpoint without being asked to")
    with pytest.raises(ConversionError, match="others would be chosen"):
        convert(folder / "topk-uneven", tmp_path / "out")
