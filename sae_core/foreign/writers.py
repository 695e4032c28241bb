"""Our SAE in the layouts of other packages: the content of the files by name.

Theirs know nothing of a bound on latents above a threshold, or of prefixes; a sentence says so.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import save as to_bytes

from sae_core.errors import ConversionError
from sae_core.foreign.readers import CONFIG, SAE_LENS_WEIGHTS, SPARSIFY_WEIGHTS

if TYPE_CHECKING:
    from sae_core.sae import SAE

    Written = tuple[dict[str, bytes], list[str]]

SAE_LENS_VERSION = "6.54.12"  # whose layout it is
NESTED = "That the first latents are an SAE by themselves is not in it."


def write_sparsify(sae: SAE) -> Written:
    """A folder that sparsify loads; it has the k largest only."""
    if sae.variant not in {"topk", "matryoshka"}:
        what = f"sparsify has no thresholds, by which this SAE ({sae.variant}) chooses."
        raise ConversionError(what, remedy="Write it with --to saelens.")
    config = {
        "activation": "topk",
        "expansion_factor": max(1, round(sae.n_latents / sae.width)),
        "normalize_decoder": True,
        "num_latents": sae.n_latents,
        "k": sae.k,
        "multi_topk": False,
        "skip_connection": False,
        "transcode": False,
        "d_in": sae.width,
    }
    weights = {
        "encoder.weight": sae.W_enc_ND,
        "encoder.bias": sae.b_enc_N,
        "W_dec": sae.W_dec_ND,
        "b_dec": sae.b_dec_D,
    }
    files = {CONFIG: _json(config), SPARSIFY_WEIGHTS: to_bytes(weights)}
    return files, [NESTED] if sae.prefixes else []


def write_sae_lens(sae: SAE) -> Written:
    """A folder that SAELens loads: `topk`, or `jumprelu` where thresholds decide."""
    has_thresholds = sae.variant in {"batchtopk", "jumprelu"}
    config: dict[str, Any] = {
        "architecture": "jumprelu" if has_thresholds else "topk",
        "d_in": sae.width,
        "d_sae": sae.n_latents,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": {"sae_lens_version": SAE_LENS_VERSION, "sae_lens_training_version": None},
    }
    weights = {
        "W_enc": np.ascontiguousarray(sae.W_enc_ND.T),
        "b_enc": sae.b_enc_N,
        "W_dec": sae.W_dec_ND,
        "b_dec": sae.b_dec_D,
    }
    remarks = [NESTED] if sae.prefixes else []
    if has_thresholds:
        common = sae.threshold or 0.0
        weights["threshold"] = (
            np.full_like(sae.b_enc_N, common) if sae.thresholds_N is None else sae.thresholds_N
        )
        remarks.append(
            f"There every latent above its threshold is active; here at most {sae.n_picks:,} of a row."
        )
    else:
        config |= {"k": sae.k, "rescale_acts_by_decoder_norm": False}
    return {CONFIG: _json(config), SAE_LENS_WEIGHTS: to_bytes(weights)}, remarks


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, indent=1).encode()
