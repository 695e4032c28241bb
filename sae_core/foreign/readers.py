"""Checkpoints of four packages, brought into our equations.

Each reader knows a layout: what its tensors are called, how they lie, and what its configuration can say that
changes an activation. What cannot be brought over is refused in a sentence.

| layout | files | a row's latents are | source |
|---|---|---|---|
| paper | `.pth`: tensors of the "fast autoencoder" | the k largest | arXiv 2408.00657 |
| hypothesaes | `.pt`: tensors and configuration | the k largest, or above a threshold | arXiv 2502.04382 |
| sparsify | `cfg.json`, `sae.safetensors` | the k largest | EleutherAI's package |
| saelens | `cfg.json`, `sae_weights.safetensors` | the k largest, or above thresholds or 0 | the package |
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from sae_core.errors import ConversionError
from sae_core.foreign.files import REMEDY, Config, load_tensors
from sae_core.foreign.weights import Weights, checked

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from sae_core.foreign.pickled import Pickled

    Read = tuple[Weights, list[str]]

CONFIG, SPARSIFY_WEIGHTS, SAE_LENS_WEIGHTS = "cfg.json", "sae.safetensors", "sae_weights.safetensors"
PAPER = {"encoder.weight": "ND", "decoder.weight": "DN", "pre_bias": "D", "latent_bias": "N"}
HYPOTHESAES = {"encoder.weight": "ND", "decoder.weight": "DN", "input_bias": "D", "neuron_bias": "N"}
SPARSIFY = {"encoder.weight": "ND", "encoder.bias": "N", "W_dec": "ND", "b_dec": "D"}
SAE_LENS = {"W_enc": "DN", "b_enc": "N", "W_dec": "ND", "b_dec": "D"}
SAE_LENS_THRESHOLDS = {  # by architecture: the tensor with what an activation must exceed
    "topk": None,
    "standard": None,
    "jumprelu": "threshold",
    "batchtopk": "topk_threshold",
    "matryoshka_batchtopk": "topk_threshold",
}
SCALER, WHITENING = "activation_scaler.json", "activation_whitening.safetensors"
WHITENING_SHAPES = {"matrix": "AD", "inverse_matrix": "DA", "mean": "D"}


def read_paper(pickled: Pickled, path: Path, k: int | None) -> Read:
    """The paper's fast autoencoder; k from the name, as in 64_9216.pth or 64_9216_128_auxk_epoch_50.pth."""
    found = checked(pickled.tensors, PAPER, path, spare=("stats_last_nonzero",))
    n = len(found["latent_bias"])
    named = re.match(r"(\d{1,9})_(\d{1,9})(?![\d])", path.name)
    if k is None and named and int(named[2]) == n:
        k = int(named[1])
    if k is None:
        what = (
            f"Neither {path.name} nor what is in it says how many of its {n:,} latents are active in a row."
        )
        raise ConversionError(what, remedy=f"Give it with --k, or name the file K_{n}.pth.")
    return _fast(found, "pre_bias", "latent_bias", k), list(pickled.remarks)


def read_hypothesaes(pickled: Pickled, path: Path, k: int | None) -> Read:
    """A checkpoint that HypotheSAEs saved."""
    config = Config(pickled.values.get("config"), path)
    has_threshold = config.claim("use_batch_topk")
    shapes = HYPOTHESAES | ({"threshold": ""} if has_threshold else {})
    found = checked(pickled.tensors, shapes, path, spare=("threshold",))
    k = _k(config, "k_active_neurons", k, has_threshold=has_threshold)
    weights = _fast(found, "input_bias", "neuron_bias", k)
    if has_threshold:
        weights = replace(weights, thresholds_N=np.full_like(weights.b_enc_N, found["threshold"]))
    return replace(weights, prefixes=config.counts("prefix_lengths")), list(pickled.remarks)


def _fast(found: Mapping[str, np.ndarray], b_dec: str, b_enc: str, k: int) -> Weights:
    return Weights(found["encoder.weight"], found["decoder.weight"].T, found[b_enc], found[b_dec], k)


def read_sparsify(folder: Path, k: int | None, largest: int) -> Read:
    """A folder of EleutherAI's sparsify."""
    config = Config.load(folder / CONFIG)
    kinds = {"transcode": "a transcoder", "skip_connection": "an SAE with a skip connection"}
    for name, words in {**kinds, "signed": "an SAE with activations below 0"}.items():
        if config.claim(name):
            raise ConversionError(f"{folder} holds {words}.", remedy="Convert an SAE without.")
    if config.word("activation", "topk") != "topk":
        what = f"{config.path}: the activation is {config.word('activation', '')}; only topk can be served."
        raise ConversionError(what, remedy="Convert an SAE with topk.")
    path = folder / SPARSIFY_WEIGHTS
    found = checked(load_tensors(path, largest), SPARSIFY, path)
    _agree(config, "d_in", len(found["b_dec"]))
    _agree(config, "num_latents", len(found["encoder.bias"]))
    return (
        Weights(
            found["encoder.weight"],
            found["W_dec"],
            found["encoder.bias"],
            found["b_dec"],
            _k(config, "k", k),
        ),
        [],
    )


def read_sae_lens(folder: Path, k: int | None, largest: int) -> Read:
    """A folder of SAELens: for inference, or a checkpoint of training."""
    config = _modern(Config.load(folder / CONFIG))
    architecture = config.word("architecture", "standard")
    if architecture not in SAE_LENS_THRESHOLDS:
        what = f"{config.path}: the architecture is {architecture}, which our equations do not have."
        raise ConversionError(what, remedy=f"Convert one of {', '.join(SAE_LENS_THRESHOLDS)}.")
    if config.word("reshape_activations", "none") != "none":
        what = f"{config.path}: it reads the heads of a transformer, not vectors."
        raise ConversionError(what, remedy="Convert an SAE with reshape_activations none.")
    threshold = SAE_LENS_THRESHOLDS[architecture]
    path = folder / SAE_LENS_WEIGHTS
    tensors = load_tensors(path, largest)
    _without_ones(tensors, path)
    shapes = SAE_LENS | ({threshold: "N" if threshold == "threshold" else ""} if threshold else {})
    found = checked(tensors, shapes, path)
    n = len(found["b_enc"])
    _agree(config, "d_in", len(found["b_dec"]))
    _agree(config, "d_sae", n)
    thresholds_N = None if architecture == "topk" else np.zeros(n, dtype=np.float32)
    if threshold:
        thresholds_N = np.broadcast_to(found[threshold], n)
    k = _k(config, "k", k, has_threshold=thresholds_N is not None)
    weights = Weights(found["W_enc"].T, found["W_dec"], found["b_enc"], found["b_dec"], k, thresholds_N)
    if config.claim("rescale_acts_by_decoder_norm"):  # picks are made of what is multiplied by the lengths
        lengths_N = np.maximum(weights.lengths_N, np.finfo(np.float32).tiny)
        weights = replace(weights.scaled(lengths_N), thresholds_N=thresholds_N)
    weights, remarks = _without_normalisation(weights, config, folder, largest)
    return replace(weights, prefixes=config.counts("matryoshka_widths")), remarks


def _modern(config: Config) -> Config:
    """The configuration in the words of version 6; before, top-k was an activation function."""
    values = dict(config.values)
    function = values.get("activation_fn", values.get("activation_fn_str"))
    arguments = values.get("activation_fn_kwargs")
    if function == "topk" and isinstance(arguments, dict):
        values |= {"architecture": "topk", "k": arguments.get("k")}
    elif function not in {None, "relu"}:
        what = f"{config.path}: the activation function is {function}, which our equations do not have."
        raise ConversionError(what, remedy="Convert an SAE with relu or topk.")
    normalisation = values.get("normalize_activations")
    if isinstance(normalisation, bool):
        values["normalize_activations"] = "expected_average_only_in" if normalisation else "none"
    return Config(values, config.path)


def _without_ones(tensors: dict[str, Tensor], path: Path) -> None:
    """Take out a factor of fine-tuning that was stored and never used."""
    factor = tensors.pop("scaling_factor", None)
    if factor is not None and not bool((factor == 1).all()):
        what = f"{path} was fine-tuned: it multiplies activations by a factor after they are chosen."
        raise ConversionError(what, remedy="Convert the SAE as it was before.")


def _without_normalisation(weights: Weights, config: Config, folder: Path, largest: int) -> Read:
    """Fold in what SAELens does to an input before encoding, and undoes in the reconstruction."""
    name = config.word("normalize_activations", "none")
    is_subtracted = config.claim("apply_b_dec_to_input", default=True)
    remarks = []
    if name == "constant_norm_rescale":
        factor = math.sqrt(len(weights.b_dec_D))
        weights = _with_scaled_input(weights, factor)
        remarks.append(
            f"Inputs were scaled to length sqrt(D): folded in as the factor {factor:.4g}, which is the same "
            "for vectors of length 1, and all are here."
        )
    elif name == "expected_average_only_in":
        factor = _scale(folder)
        weights = _with_scaled_input(weights, factor)
        remarks.append(f"Inputs were multiplied by {factor:.4g}: folded in.")
    elif name == "covariance_whitening":
        return _with_whitened_input(weights, folder, largest, is_subtracted=is_subtracted)
    elif name != "none":
        what = (
            f"{config.path}: inputs are normalised by {name}, which depends on more of a vector than a "
            "linear encoder sees."
        )
        raise ConversionError(what, remedy="Train without, or with expected_average_only_in.")
    if not is_subtracted:
        weights = replace(weights, b_enc_N=weights.b_enc_N + weights.W_enc_ND @ weights.b_dec_D)
    return weights, remarks


def _with_scaled_input(weights: Weights, factor: float) -> Weights:
    """E (s x - b) + c = s E (x - b / s) + c, also where b is not there; reconstructions are divided by s."""
    scale = np.float32(factor)
    return replace(
        weights,
        W_enc_ND=weights.W_enc_ND * scale,
        W_dec_ND=weights.W_dec_ND / scale,
        b_dec_D=weights.b_dec_D / scale,
    )


def _scale(folder: Path) -> float:
    """By what the inputs were multiplied in training, which stands beside an unfinished one only."""
    path = folder / SCALER
    if path.is_file():
        factor = Config.load(path).values.get("scaling_factor")
        if isinstance(factor, int | float) and 0 < factor < math.inf:
            return float(factor)
    what = f"{folder} expects inputs that are multiplied by a factor, and the factor is not there ({SCALER})."
    raise ConversionError(
        what, remedy="Convert the SAE that SAELens leaves at the end: it is folded in there."
    )


def _with_whitened_input(weights: Weights, folder: Path, largest: int, *, is_subtracted: bool) -> Read:
    """An encoder of (x - m) M as one of x; reconstructions go through the inverse of M, and m is added."""
    path = folder / WHITENING
    if not path.is_file():
        what = f"{folder} expects whitened inputs, and the matrix is not there ({WHITENING})."
        remedy = "Convert the SAE that SAELens leaves at the end: it is folded in there."
        raise ConversionError(what, remedy=remedy)
    found = checked(load_tensors(path, largest), WHITENING_SHAPES, path)
    if found["matrix"].shape != (len(weights.b_dec_D),) * 2:
        what = f"{path}: a matrix of {found['matrix'].shape} for an SAE that is {len(weights.b_dec_D)} wide."
        raise ConversionError(what, remedy=REMEDY)
    W_enc_ND = weights.W_enc_ND @ found["matrix"].T
    b_dec_D = weights.b_dec_D @ found["inverse_matrix"] + found["mean"]
    # a = E ((x - m) M - b) + c; without b it is E M' (x - b') + c + E M' (b' - m), with b' the new b_dec.
    shift_N = 0 if is_subtracted else W_enc_ND @ (b_dec_D - found["mean"])
    folded = replace(
        weights,
        W_enc_ND=W_enc_ND,
        W_dec_ND=weights.W_dec_ND @ found["inverse_matrix"],
        b_enc_N=weights.b_enc_N + shift_N,
        b_dec_D=b_dec_D,
    )
    return folded, ["Inputs were whitened: folded in."]


def _k(config: Config, name: str, k: int | None, *, has_threshold: bool = False) -> int:
    """Active latents per row: what the file says, or the person where it says nothing.

    Where a threshold decides, k is only a bound, and the person may choose it in any case.
    """
    said = config.count(name)
    if has_threshold and k is not None:
        return k
    if said is not None and k not in {None, said}:
        raise ConversionError(f"{config.path} says k={said}, --k says {k}.", remedy="Leave out --k.")
    if said is None and k is None:
        what = f"{config.path} does not say how many latents are active in a row."
        remedy = (
            "Give about how many with --k; where a threshold decides, at most four times as many are kept."
        )
        raise ConversionError(what, remedy=remedy)
    return said or k or 0


def _agree(config: Config, name: str, size: int) -> None:
    said = config.count(name) if config.values.get(name) else None  # sparsify writes 0 for "by the expansion"
    if said not in {None, size}:
        what = f"{config.path}: {name} is {said}, but the weights have {size}."
        raise ConversionError(what, remedy=REMEDY)
