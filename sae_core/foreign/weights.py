"""Foreign weights on their way to ours: checked, and folded until directions have length 1."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from sae_core.errors import ConversionError
from sae_core.foreign.files import REMEDY
from sae_core.sae import MOST_PICKS, SAE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    Array = NDArray[np.float32]

SHORTEST = 1e-6  # a shorter row of a decoder has no direction
ROUNDING = 2**-8  # rows that differ less in length, relatively, are equally long: bfloat16 rounds so
UNIT = 1e-6  # lengths so near 1 are 1


@dataclass(frozen=True)
class Weights:
    """An SAE by the equations of `sae_core.sae`, but with directions of any length."""

    W_enc_ND: Array
    W_dec_ND: Array
    b_enc_N: Array
    b_dec_D: Array
    k: int
    thresholds_N: Array | None = None  # what an activation must exceed; None: the k largest are picked
    prefixes: tuple[int, ...] = ()

    @property
    def lengths_N(self) -> Array:
        """Of the rows of the decoder."""
        return np.asarray(np.linalg.norm(self.W_dec_ND, axis=1), dtype=np.float32)

    def scaled(self, factors_N: Array | float) -> Weights:
        """The same reconstructions by directions that are divided and activations that are multiplied."""
        factors_N = np.broadcast_to(np.asarray(factors_N, dtype=np.float32), self.b_enc_N.shape)
        return replace(
            self,
            W_enc_ND=self.W_enc_ND * factors_N[:, None],
            W_dec_ND=self.W_dec_ND / factors_N[:, None],
            b_enc_N=self.b_enc_N * factors_N,
            thresholds_N=None if self.thresholds_N is None else self.thresholds_N * factors_N,
        )


def to_sae(weights: Weights, path: Path) -> tuple[SAE, list[str]]:
    """Our SAE with the same picks and reconstructions, and what had to be done, as sentences.

    Raises `ConversionError` if k does not fit, if a latent has no direction, or if the k largest of a row
    would be others after folding.
    """
    n = len(weights.W_dec_ND)
    if not 1 <= weights.k <= n:
        what = f"{path}: k={weights.k} of {n} latents."
        raise ConversionError(what, remedy="Choose k from 1 to the number of latents with --k.")
    if weights.prefixes and weights.prefixes[-1] != n:
        what = f"{path}: the last prefix is {weights.prefixes[-1]}, but there are {n} latents."
        raise ConversionError(what, remedy=REMEDY)
    weights, remarks = _with_unit_directions(weights, path)
    thresholds_N, threshold = weights.thresholds_N, None
    if thresholds_N is not None:
        thresholds_N = np.maximum(thresholds_N, 0)  # nothing is active below 0
        first = float(thresholds_N[0])
        if (thresholds_N == first).all():
            thresholds_N, threshold = None, first
        most = min(n, MOST_PICKS * weights.k)
        remarks.append(f"At most {most:,} latents of a row are kept, {MOST_PICKS} k; another k with --k.")
    sae = SAE(
        W_enc_ND=weights.W_enc_ND,
        W_dec_ND=weights.W_dec_ND,
        b_enc_N=weights.b_enc_N,
        b_dec_D=weights.b_dec_D,
        k=weights.k,
        threshold=threshold,
        thresholds_N=thresholds_N,
        prefixes=weights.prefixes if len(weights.prefixes) > 1 else (),
    )
    return sae, remarks


def _with_unit_directions(weights: Weights, path: Path) -> tuple[Weights, list[str]]:
    lengths_N = weights.lengths_N
    if float(lengths_N.min()) < SHORTEST:
        what = (
            f"Row {int(lengths_N.argmin())} of the decoder of {path} is zero: that latent has no direction."
        )
        raise ConversionError(what, remedy="Leave such latents out, or train them further.")
    low, high = float(lengths_N.min()), float(lengths_N.max())
    off, is_top_k = max(high - 1, 1 - low), weights.thresholds_N is None
    if off <= (ROUNDING if is_top_k else UNIT):
        return weights, []
    if is_top_k and high - low > ROUNDING * high:
        what = (
            f"The decoder rows of {path} have lengths from {low:.3g} to {high:.3g}, and the k largest are "
            "chosen before these count. With directions of length 1, which steering needs, others would be "
            "chosen."
        )
        remedy = "Train with unit decoder rows, or with activations rescaled by the decoder's norms."
        raise ConversionError(what, remedy=remedy)
    words = f"Directions had lengths from {low:.3g} to {high:.3g}: activations are multiplied by them."
    # One factor for all changes no order, so that the k largest stay the k largest.
    factors_N = float(lengths_N.mean(dtype=np.float64)) if is_top_k else lengths_N
    return weights.scaled(factors_N), [words] if off > ROUNDING else []


def checked(
    tensors: Mapping[str, Tensor], shapes: Mapping[str, str], path: Path, *, spare: tuple[str, ...] = ()
) -> dict[str, Array]:
    """The named tensors in float32, of shapes that fit each other: "ND" is latents x width, "" one number.

    The first of `shapes` decides N and D. Tensors of `spare` may be there too; any other would mean something
    that is not understood. Raises `ConversionError` for what is missing, unknown, of another shape, or not
    finite.
    """
    missing = [name for name in shapes if name not in tensors]
    if missing:
        found = ", ".join(sorted(tensors)) or "nothing"
        raise ConversionError(f"{path} lacks {', '.join(missing)}; it holds {found[:300]}.", remedy=REMEDY)
    unknown = sorted(set(tensors) - {*shapes, *spare})
    if unknown:
        what = f"{path} also holds {', '.join(unknown)[:300]}, whose part in it is not known."
        raise ConversionError(what, remedy="Choose another --from, or convert it by hand.")
    first, letters = next(iter(shapes.items()))
    sizes = dict(zip(letters, tensors[first].shape, strict=False))
    for name, letters in shapes.items():
        expected, shape = tuple(sizes.get(letter, 0) for letter in letters), tuple(tensors[name].shape)
        if shape != expected or 0 in shape:
            what = f"{path}: {name} has the shape {shape}, where {expected} is needed."
            raise ConversionError(what, remedy=REMEDY)
    return {name: _numbers(name, tensors[name], path) for name in shapes}


def _numbers(name: str, tensor: Tensor, path: Path) -> Array:
    if not tensor.is_floating_point():
        raise ConversionError(f"{path}: {name} holds {tensor.dtype}, not real numbers.", remedy=REMEDY)
    numbers: Array = tensor.float().numpy()
    if not np.isfinite(numbers).all():
        raise ConversionError(f"{path}: {name} has NaN or infinity.", remedy=REMEDY)
    return numbers
