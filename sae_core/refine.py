"""Refining a steered query, so that it reads as the activations that were asked for.

Adding s_i - z_i along d_i gives activation s_i only if directions were orthogonal, encoder and decoder alike,
and lengths left alone. Re-encoded, the steered query x' = unit(x + sum_j c_j d_j) has other activations. As
pre-activations are linear in the vector,

    a(c) = (W x + W D^T c) / |x + D^T c| + b

for the rows W of the latents in question, and a few damped Gauss-Newton steps on the small system of moved
features, the query's own ones and those that came unasked find coefficients c that fit better. Source of the
aim: arXiv 2408.00657, section 5, which takes gradient steps on the latents through the whole encoder instead.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from sae_core.steer import Refined

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet

    from numpy.typing import NDArray

    from sae_core.sae import SAE

STEPS = 3  # more lower the error by less than a hundredth of itself, and turn the query further
DAMPING = 0.3  # of a step, as a multiple of the identity; with less the query turns further for no gain
BELOW = 0.9  # of the weakest active feature: where one that came unasked is pushed below


def refine(
    sae: SAE, x_D: NDArray[np.floating[Any]], deltas: Mapping[int, float], wanted: Mapping[int, float]
) -> Refined:
    """Coefficients with which the query, steered and encoded again, comes closest to `wanted`.

    `deltas` are the coefficients to begin with; `wanted` are activations by latent: those of the query with
    the moved ones put in their place. A latent that only `deltas` has may take any activation. The error is
    |z(x') - z*|^2 / |z*|^2 over all latents, after TopK, where z* is `wanted` and 0 for all others: a feature
    that comes unasked counts against it. If nothing is wanted, the division is by |z(x')|^2 at the beginning.
    Wanted below 0 stands for a pre-activation, which counts as an activation of 0. Deterministic; where no
    step helps, the result is `deltas`.
    """
    latents = sorted({*deltas, *wanted})
    if not latents:
        return Refined({}, 0.0, 0.0)
    wanted_S = np.array([wanted.get(latent, np.nan) for latent in latents])
    start_S = np.array([deltas.get(latent, 0.0) for latent in latents])
    from_D = x_D.astype(np.float64)
    D_SD = sae.directions_ND[latents].astype(np.float64)
    found = [_encode(sae, from_D + start_S @ D_SD)]
    unasked = [latent for latent in found[0] if latent not in wanted and latent not in deltas]
    ceiling = BELOW * min(found[0].values(), default=0.0)
    system = _System(sae, from_D, D_SD, [*latents, *unasked], wanted_S, ceiling)
    tried = [start_S]
    for _ in range(STEPS):
        tried.append(system.step(tried[-1]))
        found.append(_encode(sae, from_D + tried[-1] @ D_SD))
    goal = {latent: max(value, 0.0) for latent, value in wanted.items()}
    scale = sum(value**2 for value in goal.values()) or sum(value**2 for value in found[0].values()) or 1.0
    errors = [_error(row, goal, deltas.keys() - wanted.keys()) / scale for row in found]
    best = int(np.argmin(errors))
    if best == 0:
        return Refined(dict(deltas), errors[0], errors[0])
    return Refined(dict(zip(latents, tried[best].tolist(), strict=True)), errors[0], errors[best])


class _System:
    """Residuals of the activations of some latents in the coefficients of fewer directions."""

    def __init__(  # noqa: PLR0917 (what a system is)
        self,
        sae: SAE,
        x_D: NDArray[np.float64],
        D_SD: NDArray[np.float64],
        rows: list[int],
        wanted_S: NDArray[np.float64],
        ceiling: float,
    ) -> None:
        W_TD = sae.W_enc_ND[rows].astype(np.float64)
        self._base_T = W_TD @ x_D
        self._gain_TS = W_TD @ D_SD.T
        self._bias_T = sae.b_enc_N[rows] - W_TD @ sae.b_dec_D
        self._along_S = D_SD @ x_D
        self._gram_SS = D_SD @ D_SD.T
        self._length2 = float(x_D @ x_D)
        unasked_T = np.full(len(rows) - len(wanted_S), ceiling)
        self._goal_T = np.concatenate([wanted_S, unasked_T])
        self._at_most_T = np.concatenate([wanted_S == 0, unasked_T > 0])  # lower will do as well

    def step(self, c_S: NDArray[np.float64]) -> NDArray[np.float64]:
        """One damped Gauss-Newton step from c; c itself where the vector has no length."""
        half_S = self._gram_SS @ c_S
        square = self._length2 + 2 * float(c_S @ self._along_S) + float(c_S @ half_S)
        if not 0 < square < np.inf:
            return c_S
        length = math.sqrt(square)
        unit_T = (self._base_T + self._gain_TS @ c_S) / length
        missing_T = self._goal_T - unit_T - self._bias_T
        is_met_T = np.isnan(missing_T) | (self._at_most_T & (missing_T > 0))
        # d a / d c, where the length depends on c too: one more product of a column with a row.
        slope_TS = (self._gain_TS - np.outer(unit_T, (self._along_S + half_S) / length)) / length
        slope_TS, missing_T = slope_TS[~is_met_T], missing_T[~is_met_T]
        normal_SS = slope_TS.T @ slope_TS
        normal_SS[np.diag_indices_from(normal_SS)] += DAMPING
        found_S: NDArray[np.float64] = c_S + np.linalg.solve(normal_SS, slope_TS.T @ missing_T)
        return found_S


def _encode(sae: SAE, moved_D: NDArray[np.float64]) -> dict[int, float]:
    """Activations by latent of the vector made a unit vector."""
    length = max(float(np.linalg.norm(moved_D)), float(np.finfo(np.float32).tiny))
    latents, values = sae.encode((moved_D / length).astype(np.float32)[None]).row()
    return dict(zip(latents.tolist(), values.tolist(), strict=True))


def _error(found: Mapping[int, float], goal: Mapping[int, float], free: AbstractSet[int]) -> float:
    """The squared difference over all latents but those that may have any activation."""
    return sum(
        (found.get(latent, 0.0) - goal.get(latent, 0.0)) ** 2
        for latent in (found.keys() | goal.keys()) - free
    )
