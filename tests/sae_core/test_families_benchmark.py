"""The benchmark of families does what it claims, at sizes of seconds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from benchmarks import families as benchmark
from sae_core.sae import SAE
from tests.sae_core.brute import together

if TYPE_CHECKING:
    from pathlib import Path


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    monkeypatch.setattr("sys.argv", ["families", *arguments])
    benchmark.main()
    return json.loads(capsys.readouterr().out.splitlines()[-1], parse_constant=pytest.fail)


def test_the_index_of_rand_is_one_for_the_same_partition_and_zero_by_chance() -> None:
    rng = np.random.default_rng(0)
    a = rng.integers(0, 7, 5000)
    assert benchmark.rand_index(a, 10 - a) == pytest.approx(1)
    assert benchmark.rand_index(a, rng.permutation(a)) == pytest.approx(0, abs=0.01)
    one, other = np.array([0, 0, 0, 1, 1, 1]), np.array([0, 0, 1, 1, 2, 2])
    assert benchmark.rand_index(one, other) == pytest.approx((2 - 18 / 15) / (4.5 - 18 / 15))


def test_planted_codes_have_k_activations_and_families_that_fire_together() -> None:
    planted = benchmark.Planted(benchmark.Size(3000, 200, 12))
    codes = planted.codes()
    assert np.diff(codes.document_ptr).max() == 12
    assert np.diff(codes.document_ptr).mean() > 11.5
    C_NN, f_N = together(codes), codes.counts()
    lift_NN = C_NN * 3000 / np.maximum(np.outer(f_N, f_N), 1)
    same_NN = (planted.family_N[:, None] == planted.family_N) & (planted.family_N >= 0)
    apart_NN = ~np.eye(200, dtype=np.bool_)
    assert lift_NN[same_NN & apart_NN].mean() > 2 * lift_NN[~same_NN & apart_NN].mean()


def test_every_stage_runs_in_a_process_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ("--size", "6000x300x16", "--dense", "2000x200x12", "--recompute", "2000x200x12")
    found = run(monkeypatch, capsys, *small, "--rounds", "1")
    stage, dense = found["stage"], found["dense route"]
    assert stage["rand_index"] > 0.7
    assert stage["block_ratio"] > 5
    assert stage["block_p"] == 0.01
    assert stage["largest"] <= 40
    assert dense["families"] > 0
    assert dense["size"] == found["ours, same codes"]["size"] == "2000x200x12"
    assert 0 < stage["peak_gib"] < 2
    assert found["recompute"]["seconds"] == max(found["recompute"]["changes"].values())


def test_the_algorithms_are_compared_on_two_halves(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Four directions, and six narrower ones near each of them."""
    rng = np.random.default_rng(0)
    axes = np.eye(16, dtype=np.float32)
    children = [0.8 * axes[at % 4] + 0.6 * axes[4 + at % 12] * (1 if at < 12 else -1) for at in range(24)]
    W_ND = np.concatenate([axes[:4], np.array(children, dtype=np.float32)])
    offsets = np.repeat(np.array([-0.2, -0.45], dtype=np.float32), [4, 24])
    bias_D = np.zeros(16, dtype=np.float32)
    sae = SAE(W_enc_ND=W_ND, W_dec_ND=W_ND, b_enc_N=offsets, b_dec_D=bias_D, k=14, prefixes=(4, 28))
    sae.save(tmp_path / "sae.safetensors")
    x_MD = rng.standard_normal((6000, 16))
    np.save(tmp_path / "x.npy", x_MD / np.linalg.norm(x_MD, axis=1, keepdims=True))
    found = run(monkeypatch, capsys, "--split", str(tmp_path / "x.npy"), str(tmp_path / "sae.safetensors"))
    assert [row["algorithm"] for row in found["rows"]] == ["lift", "paper", "nesting"]
    for row in found["rows"]:
        assert row["rand_index"] > 0.9
        assert row["same_parent"] > 0.5
        assert row["heldout_block"] > 2
