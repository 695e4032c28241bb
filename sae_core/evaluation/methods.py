"""Ways to give a query another activation of one feature: ours, the published ones, and a control.

Each takes a wish and returns a unit vector. The first two move along the same line: at the same cosine they
are the same query, and differ in what a strength means.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sae_core import steer
from sae_core.refine import refine
from sae_core.steer import Refined

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from sae_core.sae import SAE

DESCENT_STEPS = 10  # as the paper takes


class Wish(NamedTuple):
    """A query with its own activations, and the one that a feature should have."""

    x_D: NDArray[np.float32]
    own: Mapping[int, float]
    latent: int
    strength: float

    @property
    def wanted(self) -> dict[int, float]:
        """All activations that the query should have."""
        return {**self.own, self.latent: self.strength}

    @property
    def change(self) -> float:
        """Of the activation, from what the query has."""
        return self.strength - self.own.get(self.latent, 0.0)


def delta(sae: SAE, wish: Wish) -> NDArray[np.float32]:
    """x + (s - z) d: the change is added to the true embedding."""
    return steer.move(wish.x_D, {wish.latent: wish.change}, sae.directions_ND)[0]


def additive(sae: SAE, wish: Wish) -> NDArray[np.float32]:
    """x + s d: the paper's published curve, whatever the query has already."""
    return steer.move(wish.x_D, {wish.latent: wish.strength}, sae.directions_ND)[0]


def clamped(sae: SAE, wish: Wish) -> NDArray[np.float32]:
    """The decoded latents, one of them set to s: what the paper's app searches with."""
    return _unit(_decode(sae, wish.wanted))


def refined(sae: SAE, wish: Wish) -> NDArray[np.float32]:
    """The change, corrected so that the query encodes to what was asked for (`sae_core.refine`)."""
    found = refine(sae, wish.x_D, {wish.latent: wish.change}, wish.wanted)
    return steer.move(wish.x_D, found.deltas, sae.directions_ND)[0]


def descended(sae: SAE, wish: Wish) -> NDArray[np.float32]:
    """Latents after the paper's steps of gradient descent, decoded."""
    return _unit(_decode(sae, descend(sae, wish.wanted).deltas))


METHODS: dict[str, Callable[[SAE, Wish], NDArray[np.float32]]] = {
    "delta": delta,
    "additive": additive,
    "clamp and decode": clamped,
    "refined": refined,
    "gradient on latents": descended,
}


def descend(sae: SAE, wanted: Mapping[int, float]) -> Refined:
    """Latents whose decoding encodes to `wanted` as nearly as ten steps along the gradient can make it.

    Iterative encoding of arXiv 2408.00657, section 5: the squared error of the encoded latents falls by
    their gradient in the latents that are decoded, through the encoder with TopK held where it is. Each
    step is as long as brings most. Errors are |encode(decode(z)) - wanted|^2 / |wanted|^2; the best z counts.
    """
    latents = np.array(sorted(wanted), dtype=np.int64)
    goal = {latent: max(value, 0.0) for latent, value in wanted.items()}
    D_SD = sae.directions_ND[latents].astype(np.float64)
    z_S = np.array([wanted[latent] for latent in latents.tolist()])
    scale = sum(value**2 for value in goal.values()) or 1.0
    best, errors = z_S, []
    for _ in range(DESCENT_STEPS + 1):
        found, values = sae.encode((z_S @ D_SD + sae.b_dec_D).astype(np.float32)[None]).row()
        missing_A = np.array([goal.get(latent, 0.0) for latent in found.tolist()]) - values
        silent = sum(goal[latent] ** 2 for latent in goal.keys() - set(found.tolist()))
        errors.append((float(np.square(missing_A).sum()) + silent) / scale)
        if errors[-1] == min(errors):
            best = z_S
        slope_AS = sae.W_enc_ND[found] @ D_SD.T
        step_S = slope_AS.T @ missing_A
        along_A = slope_AS @ step_S
        z_S = z_S + (along_A @ missing_A) / max(float(along_A @ along_A), 1e-12) * step_S
    return Refined(dict(zip(latents.tolist(), best.tolist(), strict=True)), errors[0], min(errors))


def _decode(sae: SAE, latents: Mapping[int, float]) -> NDArray[np.float64]:
    values = np.fromiter(latents.values(), dtype=np.float64, count=len(latents))
    decoded_D: NDArray[np.float64] = values @ sae.directions_ND[list(latents)] + sae.b_dec_D
    return decoded_D


def _unit(x_D: NDArray[np.float64]) -> NDArray[np.float32]:
    return np.asarray(x_D / max(float(np.linalg.norm(x_D)), 1e-12), dtype=np.float32)
