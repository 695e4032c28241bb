"""SAEs of other packages give the same activations and reconstructions here; nothing that is foreign runs.

The layouts are written by the tests themselves. In `test_foreign_peers.py` the packages write them.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from sae_core import foreign
from sae_core.errors import ConversionError, SaefariError
from sae_core.foreign import Conversion, convert, load_sae, pickled
from sae_core.foreign.pickled import Pickled, read_pickled
from sae_core.foreign.readers import read_hypothesaes, read_paper
from sae_core.foreign.sandbox import ALLOWED
from sae_core.foreign.weights import to_sae
from sae_core.sae import SAE

B, D, N, K = 30, 12, 40, 5
MEBIBYTE = 2**20
Tensors = dict[str, torch.Tensor]


@dataclass
class Truth:
    """An SAE by its equations, dense, with directions of any length."""

    E_ND: np.ndarray
    V_ND: np.ndarray
    c_N: np.ndarray
    b_D: np.ndarray

    def activations(self, x_BD: np.ndarray, *, k: int = 0, above: Any = None) -> np.ndarray:
        """The k largest or those above thresholds, never below 0."""
        a_BN = (x_BD - self.b_D) @ self.E_ND.T + self.c_N
        if k:
            above = np.sort(a_BN, axis=1)[:, -k - 1, None]
        return np.where(a_BN > above, np.maximum(a_BN, 0), 0)


@pytest.fixture
def truth() -> Truth:
    return make_truth()


def make_truth() -> Truth:
    rng = np.random.default_rng(5)
    V_ND = rng.standard_normal((N, D))
    V_ND /= np.linalg.norm(V_ND, axis=1, keepdims=True)
    return Truth(rng.standard_normal((N, D)), V_ND, rng.standard_normal(N) / 4, rng.standard_normal(D) / 4)


@pytest.fixture
def uneven(truth: Truth) -> Truth:
    """Its directions differ in length."""
    truth.V_ND *= np.linspace(0.5, 2, N)[:, None]
    return truth


@pytest.fixture
def x_BD() -> np.ndarray:
    x_BD = np.random.default_rng(6).standard_normal((B, D)).astype(np.float32)
    unit_BD: np.ndarray = x_BD / np.linalg.norm(x_BD, axis=1, keepdims=True)
    return unit_BD


def as_tensors(**arrays: np.ndarray) -> Tensors:
    return {
        name.replace("__", "."): torch.tensor(np.ascontiguousarray(array), dtype=torch.float32)
        for name, array in arrays.items()
    }


def paper(truth: Truth) -> Tensors:
    return as_tensors(
        encoder__weight=truth.E_ND, decoder__weight=truth.V_ND.T, pre_bias=truth.b_D, latent_bias=truth.c_N
    )


def hypothesaes(truth: Truth, threshold: float = 0.0) -> Tensors:
    tensors = paper(truth)
    tensors["input_bias"], tensors["neuron_bias"] = tensors.pop("pre_bias"), tensors.pop("latent_bias")
    return tensors | {"threshold": torch.tensor(threshold)}


def sparsify(folder: Path, truth: Truth, *, dtype: torch.dtype = torch.float32, **changes: Any) -> Path:
    folder.mkdir()
    tensors = as_tensors(
        encoder__weight=truth.E_ND, encoder__bias=truth.c_N, W_dec=truth.V_ND, b_dec=truth.b_D
    )
    save_file({name: tensor.to(dtype) for name, tensor in tensors.items()}, folder / "sae.safetensors")
    config = {
        "activation": "topk", "expansion_factor": 32, "normalize_decoder": True, "num_latents": N, "k": K,
        "multi_topk": False, "skip_connection": False, "transcode": False, "d_in": D,
    }  # fmt: skip
    (folder / "cfg.json").write_text(json.dumps(config | changes))
    return folder


def sae_lens(folder: Path, truth: Truth, more: Tensors | None = None, **changes: Any) -> Path:
    folder.mkdir()
    tensors = as_tensors(W_enc=truth.E_ND.T, b_enc=truth.c_N, W_dec=truth.V_ND, b_dec=truth.b_D)
    save_file(tensors | (more or {}), folder / "sae_weights.safetensors")
    config = {
        "architecture": "topk", "d_in": D, "d_sae": N, "k": K, "dtype": "float32", "device": "cpu",
        "apply_b_dec_to_input": True, "normalize_activations": "none", "reshape_activations": "none",
        "metadata": {"sae_lens_version": "6.54.12"},
    }  # fmt: skip
    config |= changes
    (folder / "cfg.json").write_text(json.dumps({name: v for name, v in config.items() if v is not None}))
    return folder


def agree(sae: SAE, x_BD: np.ndarray, z_BN: np.ndarray, x_hat_BD: np.ndarray) -> None:
    """Both the activations and the reconstructions."""
    latents = sae.encode(x_BD)
    found_BN = np.zeros((len(x_BD), sae.n_latents))
    np.put_along_axis(found_BN, latents.indices_BK, latents.values_BK, axis=1)
    assert (z_BN > 0).any()
    np.testing.assert_allclose(found_BN, z_BN, atol=1e-5)
    np.testing.assert_allclose(sae.decode(latents), x_hat_BD, atol=1e-5)
    assert (np.diff(latents.values_BK, axis=1) <= 0).all()
    np.testing.assert_allclose(np.linalg.norm(sae.directions_ND, axis=1), 1, atol=1e-5)


def out(folder: Path) -> SAE:
    return load_sae(folder)[0]


# What each layout says


@pytest.mark.parametrize("name", ["5_40.pth", "5_40_10_auxk.pth", "5_40_10_auxk_csLG_epoch_137.pth"])
def test_the_papers_k_is_in_the_name(truth: Truth, x_BD: np.ndarray, name: str) -> None:
    weights, _ = read_paper(Pickled(paper(truth), {}, []), Path(name), None)
    sae, remarks = to_sae(weights, Path(name))
    z_BN = truth.activations(x_BD, k=K)
    agree(sae, x_BD, z_BN, z_BN @ truth.V_ND + truth.b_D)
    assert (sae.variant, sae.k, remarks) == ("topk", K, [])


@pytest.mark.parametrize("name", ["model.pth", "5_400.pth", "540.pth", "k5_40.pth"])
def test_a_name_that_does_not_fit_says_nothing_and_a_flag_does(truth: Truth, name: str) -> None:
    content = Pickled(paper(truth), {}, [])
    with pytest.raises(ConversionError, match=r"how many of its 40 latents.*--k"):
        read_paper(content, Path(name), None)
    assert read_paper(content, Path(name), 7)[0].k == 7
    assert read_paper(content, Path("5_40.pth"), 7)[0].k == 7


@pytest.mark.parametrize("prefixes", [None, [N], [10, N]])
def test_hypothesaes(truth: Truth, x_BD: np.ndarray, prefixes: list[int] | None) -> None:
    config = {"k_active_neurons": K, "prefix_lengths": prefixes, "use_batch_topk": False}
    path = Path("sae.pt")
    sae, _ = to_sae(
        read_hypothesaes(Pickled(hypothesaes(truth), {"config": config}, []), path, None)[0], path
    )
    z_BN = truth.activations(x_BD, k=K)
    agree(sae, x_BD, z_BN, z_BN @ truth.V_ND + truth.b_D)
    assert sae.prefixes == ((10, N) if prefixes == [10, N] else ())


def test_hypothesaes_with_a_threshold(truth: Truth, x_BD: np.ndarray) -> None:
    config = {"k_active_neurons": K, "use_batch_topk": True, "prefix_lengths": [10, N]}
    path, content = Path("sae.pt"), Pickled(hypothesaes(truth, 0.6), {"config": config}, [])
    sae, remarks = to_sae(read_hypothesaes(content, path, None)[0], path)
    assert sae.threshold == pytest.approx(0.6)
    assert (sae.n_picks, sae.prefixes) == (4 * K, (10, N))
    assert "At most 20 latents" in remarks[0]
    z_BN = truth.activations(x_BD, above=0.6)
    agree(to_sae(read_hypothesaes(content, path, 10)[0], path)[0], x_BD, z_BN, z_BN @ truth.V_ND + truth.b_D)


@pytest.mark.parametrize("changes", [{}, {"num_latents": 0}, {"k": float(K)}])
def test_sparsify(tmp_path: Path, truth: Truth, x_BD: np.ndarray, changes: dict[str, Any]) -> None:
    convert(sparsify(tmp_path / "in", truth, **changes), tmp_path / "out")
    z_BN = truth.activations(x_BD, k=K)
    agree(out(tmp_path / "out"), x_BD, z_BN, z_BN @ truth.V_ND + truth.b_D)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_weights_of_another_precision_stay_what_they_are(
    tmp_path: Path, truth: Truth, dtype: torch.dtype
) -> None:
    made = convert(sparsify(tmp_path / "in", truth, dtype=dtype), tmp_path / "out")
    stored = torch.tensor(truth.V_ND, dtype=torch.float32).to(dtype).float().numpy()
    np.testing.assert_array_equal(made.sae.directions_ND, stored)
    assert made.remarks == []


def test_a_common_length_of_directions_is_folded(tmp_path: Path, truth: Truth, x_BD: np.ndarray) -> None:
    truth.V_ND *= 0.25
    made = convert(sparsify(tmp_path / "in", truth), tmp_path / "out")
    z_BN = truth.activations(x_BD, k=K)
    agree(made.sae, x_BD, 0.25 * z_BN, z_BN @ truth.V_ND + truth.b_D)
    assert "0.25" in made.remarks[0]


@pytest.mark.parametrize("kind", [sparsify, sae_lens])
def test_other_lengths_would_change_the_picks(
    tmp_path: Path, uneven: Truth, kind: Callable[[Path, Truth], Path]
) -> None:
    with pytest.raises(ConversionError, match=r"lengths from 0\.5 to 2.*others would be chosen"):
        convert(kind(tmp_path / "in", uneven), tmp_path / "out")


def test_lengths_that_count_before_picking_do_not(tmp_path: Path, uneven: Truth, x_BD: np.ndarray) -> None:
    made = convert(sae_lens(tmp_path / "in", uneven, rescale_acts_by_decoder_norm=True), tmp_path / "out")
    lengths_N = np.linalg.norm(uneven.V_ND, axis=1)
    scaled = Truth(uneven.E_ND * lengths_N[:, None], uneven.V_ND, uneven.c_N * lengths_N, uneven.b_D)
    z_BN = scaled.activations(x_BD, k=K)
    agree(made.sae, x_BD, z_BN, (z_BN / lengths_N) @ uneven.V_ND + uneven.b_D)


def thresholds() -> np.ndarray:
    return np.random.default_rng(8).uniform(-0.2, 1.0, N)


def test_thresholds_of_each_latent(tmp_path: Path, uneven: Truth, x_BD: np.ndarray) -> None:
    more = as_tensors(threshold=thresholds())
    made = convert(
        sae_lens(tmp_path / "in", uneven, more, architecture="jumprelu", k=None), tmp_path / "out", k=10
    )
    z_BN = uneven.activations(x_BD, above=thresholds())
    lengths_N = np.linalg.norm(uneven.V_ND, axis=1)
    sae = out(tmp_path / "out")
    agree(sae, x_BD, z_BN * lengths_N, z_BN @ uneven.V_ND + uneven.b_D)
    assert sae.variant == made.sae.variant == "jumprelu"
    assert sae.fingerprint() == made.sae.fingerprint()
    agree(sae.prefix(20), x_BD, z_BN[:, :20] * lengths_N[:20], z_BN[:, :20] @ uneven.V_ND[:20] + uneven.b_D)


def test_beyond_the_bound_those_stay_that_exceed_their_thresholds_by_most(
    truth: Truth, x_BD: np.ndarray
) -> None:
    weights = {"W_enc_ND": truth.E_ND, "W_dec_ND": truth.V_ND, "b_enc_N": truth.c_N, "b_dec_D": truth.b_D}
    sae = SAE(**weights, k=1, thresholds_N=thresholds())  # type: ignore[arg-type]
    excess_BN = sae.preactivations(x_BD) - thresholds()
    for row, latents in enumerate(sae.encode(x_BD).indices_BK):
        assert set(latents) == set(np.argsort(-excess_BN[row])[:4])


def test_other_thresholds_have_another_fingerprint(truth: Truth) -> None:
    weights = {"W_enc_ND": truth.E_ND, "W_dec_ND": truth.V_ND, "b_enc_N": truth.c_N, "b_dec_D": truth.b_D}
    prints = {
        SAE(**weights, k=K, thresholds_N=above).fingerprint()  # type: ignore[arg-type]
        for above in (None, thresholds(), np.append(thresholds()[:-1], 2.0))
    }
    assert len(prints) == 3


def test_relu_is_a_threshold_of_zero(tmp_path: Path, uneven: Truth, x_BD: np.ndarray) -> None:
    made = convert(sae_lens(tmp_path / "in", uneven, architecture="standard", k=None), tmp_path / "out", k=10)
    z_BN = uneven.activations(x_BD, above=0)
    agree(made.sae, x_BD, z_BN * np.linalg.norm(uneven.V_ND, axis=1), z_BN @ uneven.V_ND + uneven.b_D)
    assert made.sae.threshold == 0


@pytest.mark.parametrize("is_rescaled", [True, False])
def test_a_checkpoint_of_batchtopk(
    tmp_path: Path, uneven: Truth, x_BD: np.ndarray, is_rescaled: bool
) -> None:
    more = {"topk_threshold": torch.tensor(0.4, dtype=torch.double)}
    names = {"architecture": "matryoshka_batchtopk", "matryoshka_widths": [10, N], "k": 9.6}
    folder = sae_lens(tmp_path / "in", uneven, more, rescale_acts_by_decoder_norm=is_rescaled, **names)
    made = convert(folder, tmp_path / "out")
    lengths_N = np.linalg.norm(uneven.V_ND, axis=1)
    z_BN = uneven.activations(x_BD, above=0.4 / lengths_N if is_rescaled else 0.4)
    agree(made.sae, x_BD, z_BN * lengths_N, z_BN @ uneven.V_ND + uneven.b_D)
    assert (made.sae.k, made.sae.prefixes, made.sae.threshold is None) == (10, (10, N), not is_rescaled)


@pytest.mark.parametrize("is_subtracted", [True, False])
@pytest.mark.parametrize(
    "kind", ["none", "constant_norm_rescale", "expected_average_only_in", "covariance_whitening"]
)
def test_normalisations_are_folded(
    tmp_path: Path, truth: Truth, x_BD: np.ndarray, kind: str, is_subtracted: bool
) -> None:
    folder = sae_lens(
        tmp_path / "in",
        truth,
        architecture="standard",
        normalize_activations=kind,
        apply_b_dec_to_input=is_subtracted,
    )
    rng = np.random.default_rng(9)
    M_DD, m_D = np.eye(D), np.zeros(D)
    if kind == "constant_norm_rescale":
        M_DD = M_DD * np.sqrt(D)
    elif kind == "expected_average_only_in":
        M_DD = M_DD * 2.5
        (folder / "activation_scaler.json").write_text('{"scaling_factor": 2.5, "has_whitening": false}')
    elif kind == "covariance_whitening":
        M_DD, m_D = M_DD + 0.2 * rng.standard_normal((D, D)), 0.1 * rng.standard_normal(D)
        found = as_tensors(matrix=M_DD, inverse_matrix=np.linalg.inv(M_DD), mean=m_D)
        save_file(found, folder / "activation_whitening.safetensors")
    inner = Truth(truth.E_ND, truth.V_ND, truth.c_N, truth.b_D * is_subtracted)
    z_BN = inner.activations((x_BD - m_D) @ M_DD, above=0)
    x_hat_BD = (z_BN @ truth.V_ND + truth.b_D) @ np.linalg.inv(M_DD) + m_D
    lengths_N = np.linalg.norm(truth.V_ND @ np.linalg.inv(M_DD), axis=1)
    agree(convert(folder, tmp_path / "out", k=10).sae, x_BD, z_BN * lengths_N, x_hat_BD)


def test_configurations_of_older_versions(tmp_path: Path, truth: Truth, x_BD: np.ndarray) -> None:
    changes = {
        "architecture": "standard", "activation_fn_str": "topk", "activation_fn_kwargs": {"k": K}, "k": None,
        "metadata": None, "normalize_activations": False, "hook_name": "blocks.0",
        "finetuning_scaling_factor": False,
    }  # fmt: skip
    more = {"scaling_factor": torch.ones(N)}
    made = convert(sae_lens(tmp_path / "in", truth, more, **changes), tmp_path / "out")
    z_BN = truth.activations(x_BD, k=K)
    agree(made.sae, x_BD, z_BN, z_BN @ truth.V_ND + truth.b_D)


# Ours, elsewhere


def ours(truth: Truth, **options: Any) -> SAE:
    unit_ND = truth.V_ND / np.linalg.norm(truth.V_ND, axis=1, keepdims=True)
    return SAE(W_enc_ND=truth.E_ND, W_dec_ND=unit_ND, b_enc_N=truth.c_N, b_dec_D=truth.b_D, k=K, **options)


@pytest.mark.parametrize(
    ("to", "options"),
    [
        ("sparsify", {}),
        ("saelens", {}),
        ("saelens", {"threshold": 0.5}),
        ("saelens", {"thresholds_N": thresholds().clip(0)}),
    ],
)
def test_there_and_back_is_the_same_sae(
    tmp_path: Path, truth: Truth, to: str, options: dict[str, Any]
) -> None:
    sae = ours(truth, **options)
    sae.save(tmp_path / "sae.safetensors")
    made = convert(tmp_path, tmp_path / "theirs", to=to)
    assert (made.layout, made.remarks != []) == ("saefari", options != {})
    again = convert(tmp_path / "theirs", tmp_path / "back", k=K if options else None)
    assert again.layout == to
    assert again.sae.fingerprint() == sae.fingerprint()


def test_what_is_lost_is_said(tmp_path: Path, truth: Truth) -> None:
    ours(truth, prefixes=(10, N)).save(tmp_path / "sae.safetensors")
    made = convert(tmp_path / "sae.safetensors", tmp_path / "theirs", to="sparsify")
    assert "SAE by themselves" in made.remarks[0]


def test_sparsify_has_no_thresholds(tmp_path: Path, truth: Truth) -> None:
    ours(truth, threshold=0.5).save(tmp_path / "sae.safetensors")
    with pytest.raises(ConversionError, match=r"no thresholds.*--to saelens"):
        convert(tmp_path, tmp_path / "theirs", to="sparsify")


def test_the_record_says_what_was_converted(tmp_path: Path, truth: Truth) -> None:
    convert(sparsify(tmp_path / "pythia", truth), tmp_path / "out")
    record = json.loads((tmp_path / "out" / "conversion.json").read_text())
    assert (record["from"], record["source"], record["k"]) == ("sparsify", "pythia", K)
    assert set(record["sha256"]) == {"cfg.json", "sae.safetensors"}
    assert load_sae(tmp_path / "out")[1] == {"origin": "sparsify, pythia"}


# What cannot be converted ends in a sentence, and leaves nothing


def refuse(path: Path, **options: Any) -> str:
    """Convert in vain; what was said. Nothing is left of it."""
    folder = path.parent / "refused"
    with pytest.raises(SaefariError) as caught:
        convert(path, folder, **options)
    assert not folder.exists()
    assert not list(path.parent.glob(".*draft"))
    assert caught.value.remedy
    return str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"activation": "groupmax"}, "groupmax"),
        ({"transcode": True}, "transcoder"),
        ({"skip_connection": True}, "skip connection"),
        ({"signed": True}, "activations below 0"),
        ({"k": N + 1}, "k=41 of 40 latents"),
        ({"k": 0}, "k is 0"),
        ({"k": "many"}, "k is 'many'"),
        ({"k": True}, "k is True"),
        ({"k": None}, "does not say how many"),
        ({"d_in": 13}, "d_in is 13, but the weights have 12"),
        ({"num_latents": 41}, "num_latents is 41"),
    ],
)
def test_configurations_of_sparsify(
    tmp_path: Path, truth: Truth, changes: dict[str, Any], words: str
) -> None:
    assert words in refuse(sparsify(tmp_path / "in", truth, **changes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"architecture": "gated"}, "gated"),
        ({"architecture": ["topk"]}, "architecture is ['topk']"),
        ({"normalize_activations": "layer_norm"}, "layer_norm"),
        ({"normalize_activations": "expected_average_only_in"}, "activation_scaler.json"),
        ({"normalize_activations": "covariance_whitening"}, "activation_whitening.safetensors"),
        ({"reshape_activations": "hook_z"}, "heads of a transformer"),
        ({"activation_fn": "tanh-relu"}, "tanh-relu"),
        ({"architecture": "standard", "k": None}, "Give about how many with --k"),
        ({"architecture": "jumprelu"}, "lacks threshold"),
        ({"architecture": "batchtopk"}, "lacks topk_threshold"),
        ({"d_sae": 41}, "d_sae is 41"),
        ({"architecture": "standard", "matryoshka_widths": [20, 10]}, "rising whole numbers"),
        ({"architecture": "standard", "matryoshka_widths": [20, 30]}, "last prefix is 30"),
    ],
)
def test_configurations_of_sae_lens(
    tmp_path: Path, truth: Truth, changes: dict[str, Any], words: str
) -> None:
    assert words in refuse(sae_lens(tmp_path / "in", truth, **changes))


def test_a_factor_of_fine_tuning(tmp_path: Path, truth: Truth) -> None:
    assert "fine-tuned" in refuse(sae_lens(tmp_path / "in", truth, {"scaling_factor": torch.full((N,), 2.0)}))


def spoil(tensors: Tensors, name: str, place: tuple[int, ...], value: float) -> Tensors:
    tensors[name][place] = value
    return tensors


def without(tensors: Tensors, name: str) -> Tensors:
    del tensors[name]
    return tensors


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: without(t, "latent_bias"), "lacks latent_bias; it holds decoder.weight"),
        (lambda t: t | {"gate.weight": t["pre_bias"]}, "also holds gate.weight"),
        (lambda t: t | {"pre_bias": t["pre_bias"][:-1]}, "pre_bias has the shape (11,)"),
        (lambda t: t | {"decoder.weight": t["encoder.weight"]}, "decoder.weight has the shape (40, 12)"),
        (lambda t: t | {"encoder.weight": t["pre_bias"]}, "encoder.weight has the shape (12,)"),
        (lambda t: t | {"encoder.weight": t["encoder.weight"][:0]}, "shape (0, 12)"),
        (lambda t: t | {"latent_bias": t["latent_bias"].long()}, "not real numbers"),
        (lambda t: spoil(t, "encoder.weight", (3, 4), float("nan")), "encoder.weight has NaN"),
        (lambda t: spoil(t, "latent_bias", (3,), float("inf")), "latent_bias has NaN or infinity"),
        (
            lambda t: t | {"decoder.weight": t["decoder.weight"] * (torch.arange(N) != 7)},
            "Row 7 of the decoder",
        ),
    ],
)
def test_weights_that_are_none(truth: Truth, change: Callable[[Tensors], Tensors], words: str) -> None:
    path = Path("5_40.pth")
    with pytest.raises(ConversionError) as caught:
        to_sae(read_paper(Pickled(change(paper(truth)), {}, []), path, None)[0], path)
    assert words in str(caught.value)


def test_a_flag_against_the_file(tmp_path: Path, truth: Truth) -> None:
    assert "says k=5, --k says 6" in refuse(sparsify(tmp_path / "in", truth), k=6)


def test_an_unknown_folder_and_an_unknown_word(tmp_path: Path, truth: Truth) -> None:
    (tmp_path / "empty").mkdir()
    assert "Known are" in refuse(tmp_path / "empty")
    (tmp_path / "many").mkdir()
    sparsify(tmp_path / "many" / "layers.3", truth)
    assert "layers.3" in refuse(tmp_path / "many")
    assert "--from torch is not known" in refuse(tmp_path / "many", layout="torch")
    assert "--to onnx is not known" in refuse(tmp_path / "many", to="onnx")
    assert "in the layout of saelens" in refuse(tmp_path / "many" / "layers.3", layout="saelens")
    assert "cannot be opened: No such file" in refuse(tmp_path / "none.pth")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"k": 1e999}'])
def test_a_damaged_configuration(tmp_path: Path, truth: Truth, content: bytes) -> None:
    folder = sparsify(tmp_path / "in", truth)
    (folder / "cfg.json").write_bytes(content)
    assert "cfg.json" in refuse(folder)


@pytest.mark.parametrize("length", [0, 4, 300, -1])
def test_truncated_weights(tmp_path: Path, truth: Truth, length: int) -> None:
    folder = sparsify(tmp_path / "in", truth)
    path = folder / "sae.safetensors"
    path.write_bytes(path.read_bytes()[:length])
    assert "cannot be read as safetensors" in refuse(folder)


def test_files_that_are_too_large_or_no_files(tmp_path: Path, truth: Truth) -> None:
    folder = sparsify(tmp_path / "in", truth)
    assert "allow more with --max-gib" in refuse(folder, largest_gib=1e-6)
    huge = tmp_path / "64_9216.pth"
    huge.touch()
    os.truncate(huge, 5 * 2**30)  # a hole: no disk is used
    assert "5,368,709,120 bytes" in refuse(huge)
    os.mkfifo(tmp_path / "pipe.pth")
    assert "not a plain file" in refuse(tmp_path / "pipe.pth")
    (tmp_path / "loop.pth").symlink_to(tmp_path / "loop.pth")
    assert "Check the path, its links" in refuse(tmp_path / "loop.pth")
    (tmp_path / "device.pth").symlink_to("/dev/zero")
    assert "not a plain file" in refuse(tmp_path / "device.pth")


def test_links_are_followed_and_never_written_through(tmp_path: Path, truth: Truth) -> None:
    blobs = sparsify(tmp_path / "blobs", truth)
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    for name in ("cfg.json", "sae.safetensors"):
        (snapshot / name).symlink_to(blobs / name)
    convert(snapshot, tmp_path / "out")
    (tmp_path / "link").symlink_to(blobs)
    with pytest.raises(ConversionError, match="is there already"):
        convert(snapshot, tmp_path / "link")
    (tmp_path / "dangling").symlink_to(tmp_path / "elsewhere")
    convert(snapshot, tmp_path / "dangling")
    assert (tmp_path / "elsewhere" / "sae.safetensors").is_file()


def test_what_is_there_stays(tmp_path: Path, truth: Truth) -> None:
    folder = sparsify(tmp_path / "in", truth)
    (tmp_path / "out").mkdir()
    convert(folder, tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    with pytest.raises(ConversionError, match="is there already"):
        convert(folder, tmp_path / "out")
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    (tmp_path / "file").touch()
    with pytest.raises(SaefariError):
        convert(folder, tmp_path / "file" / "out")


def test_a_full_disk_leaves_nothing(tmp_path: Path, truth: Truth, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(path: Path, content: bytes) -> None:
        path.write_bytes(content[:100])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(foreign, "write_atomic", write)
    assert "The disk is full" in refuse(sparsify(tmp_path / "in", truth))


@pytest.mark.parametrize(
    "change",
    [
        lambda sae: setattr(sae, "k", N + 1),
        lambda sae: setattr(sae, "k", "many"),
        lambda sae: setattr(sae, "b_enc_N", sae.b_enc_N[:-1]),
        lambda sae: setattr(sae, "W_dec_ND", sae.W_dec_ND[:-1]),
        lambda sae: setattr(sae, "W_enc_ND", sae.b_dec_D),
        lambda sae: setattr(sae, "thresholds_N", np.zeros(3, dtype=np.float32)),
        lambda sae: setattr(sae, "prefixes", ("a",)),
        lambda sae: sae.W_enc_ND.fill(np.nan),
    ],
)
def test_a_file_of_ours_may_be_wrong_too(tmp_path: Path, truth: Truth, change: Callable[[SAE], None]) -> None:
    sae = ours(truth)
    change(sae)
    sae.save(tmp_path / "sae.safetensors")
    assert "sae.safetensors" in refuse(tmp_path / "sae.safetensors")


# Pickles: read by another process, of which nothing comes back but tensors


class Payload:
    """What a hostile checkpoint holds: unpickled without care, it makes a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._path,)


@dataclass
class Attempt:
    """A conversion in a folder of its own, and what came of it."""

    path: Path
    made: Conversion | None = None
    said: str = ""

    def run(self) -> Attempt:
        try:
            self.made = convert(self.path, self.path.parent / "out")
        except ConversionError as error:
            self.said = str(error)
        return self


@pytest.fixture(scope="module")
def attempts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Attempt]:
    """Several at the same time: each is a process that has to import torch."""
    tensors = paper(make_truth())
    kinds = ("sound", "harmful", "torn")
    made = {name: Attempt(tmp_path_factory.mktemp(name) / "5_40.pth") for name in kinds}
    for attempt in made.values():
        torch.save(tensors, attempt.path)
    harmful = made["harmful"].path
    torch.save(tensors | {"payload": Payload(harmful.with_name("ran"))}, harmful)
    os.truncate(made["torn"].path, made["torn"].path.stat().st_size // 2)
    with ThreadPoolExecutor(len(made)) as pool:
        list(pool.map(Attempt.run, made.values()))
    return made


def test_the_papers_file_from_end_to_end(
    attempts: dict[str, Attempt], truth: Truth, x_BD: np.ndarray
) -> None:
    sound = attempts["sound"]
    assert sound.made is not None, sound.said
    z_BN = truth.activations(x_BD, k=K)
    agree(out(sound.path.parent / "out"), x_BD, z_BN, z_BN @ truth.V_ND + truth.b_D)
    assert sound.made.layout == "paper"
    assert sys.platform != "linux" or sound.made.remarks == []  # confined


def test_a_payload_does_not_run(attempts: dict[str, Attempt]) -> None:
    path = attempts["harmful"].path
    assert "holds more than weights: it asks for getattr" in attempts["harmful"].said
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    torch.load(path, weights_only=False)
    assert path.with_name("ran").exists()  # it would have


def test_a_pickle_that_ends_early(attempts: dict[str, Attempt]) -> None:
    assert "cannot be read as weights" in attempts["torn"].said
    assert [each.name for each in attempts["torn"].path.parent.iterdir()] == ["5_40.pth"]


def test_a_reader_that_does_not_answer_is_ended(
    tmp_path: Path, truth: Truth, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sleeper.py").write_text("import time; time.sleep(600)")
    monkeypatch.setattr(pickled, "SANDBOX", tmp_path / "sleeper.py")
    (tmp_path / "5_40.pth").touch()
    with pytest.raises(ConversionError, match="more memory or time"):
        read_pickled(tmp_path / "5_40.pth", MEBIBYTE, seconds=0.3)


def test_a_reader_that_answers_without_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "talker.py").write_text("while True: print('ok confined' + 'x' * 10_000)")
    monkeypatch.setattr(pickled, "SANDBOX", tmp_path / "talker.py")
    (tmp_path / "5_40.pth").touch()
    with pytest.raises(ConversionError):
        read_pickled(tmp_path / "5_40.pth", MEBIBYTE)


PROBE = """
import os, socket, subprocess, sys, threading
sys.path.insert(0, sys.argv[1])
import sandbox
sandbox.limit()
print(sandbox.confine(0))
attempts = {
    "socket": socket.socket,
    "write": lambda: open(sys.argv[2], "w"),
    "append": lambda: open(sys.argv[3], "a"),
    "remove": lambda: os.unlink(sys.argv[3]),
    "folder": lambda: os.mkdir(sys.argv[2]),
    "rename": lambda: os.rename(sys.argv[3], sys.argv[2]),
    "program": lambda: subprocess.run(["true"]),
    "fork": os.fork,
    "signal": lambda: os.kill(os.getppid(), 0),
    "memory": lambda: bytearray(2**30),
}
for name, attempt in attempts.items():
    try:
        attempt()
    except (OSError, MemoryError):
        continue
    print(name)
print(open(sys.argv[3]).read())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="system calls are filtered on Linux only")
def test_even_code_that_ran_there_could_only_read_and_compute(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("untouched")
    arguments = [Path(pickled.SANDBOX).parent, tmp_path / "new", tmp_path / "there"]
    command = [sys.executable, "-B", "-c", PROBE, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["True", "untouched"], done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["there"]


def test_no_call_that_is_allowed_reaches_outside() -> None:
    for harmful in (
        "socket",
        "connect",
        "sendto",
        "execve",
        "fork",
        "clone",
        "kill",
        "unlink",
        "openat",
        "io_uring",
    ):
        assert not any(name.startswith(harmful) for name in ALLOWED), harmful
    assert socket.AF_INET  # what the probe above tried is there without the filter
