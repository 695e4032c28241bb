"""From marks on results to slider moves: which few features tell the papers wanted from the others.

The wanted change is the one that Rocchio (1971) would make to the query, g = mean(wanted) - mean(unwanted),
but only along directions that have a name. Orthogonal matching pursuit (Pati et al. 1993) approximates g by
at most five features among those that fire on the marked documents: each round takes the feature whose
direction agrees most with what is left of g, weighted by its specificity log(M / n); then all taken are
fitted again. The fit is scaled until the query keeps a cosine of `KEEP`, and each strength stays within what
the feature itself does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sae_core.errors import SaefariError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from sae_core.codes import Codes
    from sae_core.sae import SAE

MOST_PROPOSALS = 5
KEEP = 0.8  # cosine of the query with itself after all proposals are accepted
_ENOUGH = 1e-3  # of a strength: less is no move


@dataclass(frozen=True)
class Proposal:
    """One slider move."""

    latent: int
    own: float  # where the slider stands now
    strength: float  # where it would go
    gain: float  # what this adds to the scores of wanted documents, less that of unwanted ones; mean


@dataclass(frozen=True)
class Marked:
    """Positions of documents: marked up, marked down, and the others that were looked at."""

    up: Sequence[int]
    down: Sequence[int] = ()
    others: Sequence[int] = ()


@dataclass(frozen=True)
class Sliders:
    """A query as it is steered now, and what its sliders may do."""

    x_D: NDArray[np.float32]  # unit
    stands: Mapping[int, float]  # where they stand: the query's own activations, and what was set
    usable_N: NDArray[np.bool_]  # features that may be proposed: alive, named, not held by the user
    strong_N: NDArray[np.float32]  # a strong activation of each feature, which no strength exceeds


def propose(
    sae: SAE,
    codes: Codes,
    vectors_MD: NDArray[np.float32],
    marked: Marked,
    sliders: Sliders,
) -> list[Proposal]:
    """At most five moves, those that gain most first. `SaefariError` where nothing is marked."""
    wanted_D = _wanted(vectors_MD, marked)
    positions = np.array([*marked.up, *marked.down], dtype=np.int64)
    candidates = np.unique(np.concatenate([codes.of_document(p)[0] for p in positions])).astype(np.int64)
    candidates = candidates[sliders.usable_N[candidates]]
    specific = np.log(codes.n_documents / np.maximum(codes.counts()[candidates], 1))
    chosen, weights = _pursue(wanted_D, sae.directions_ND[candidates], specific)
    latents = candidates[chosen]
    deltas = _scaled(sliders.x_D, weights, sae.directions_ND[latents])
    found = []
    for latent, delta in zip(latents.tolist(), deltas.tolist(), strict=True):
        now, limit = sliders.stands.get(latent, 0.0), float(sliders.strong_N[latent])
        goes = max(now, min(now + delta, limit)) if delta > 0 else min(now, max(now + delta, -limit))
        if abs(goes - now) > _ENOUGH:
            gain = (goes - now) * float(sae.directions_ND[latent] @ wanted_D)
            found.append(Proposal(latent, now, goes, gain))
    return sorted(found, key=lambda proposal: (-proposal.gain, proposal.latent))


def _wanted(vectors_MD: NDArray[np.float32], marked: Marked) -> NDArray[np.float32]:
    """mean(wanted) - mean(unwanted), (D,): where one side has no marks, the others stand for it."""
    if not marked.up and not marked.down:
        raise SaefariError("No result is marked.", remedy="Mark one up or down first.")
    sides = [list(side) or list(marked.others) for side in (marked.up, marked.down)]
    means = [vectors_MD[side].mean(axis=0) if side else np.zeros(vectors_MD.shape[1]) for side in sides]
    return (means[0] - means[1]).astype(np.float32)


def _pursue(
    wanted_D: NDArray[np.float32],
    directions_CD: NDArray[np.float32],
    specific_C: NDArray[np.float64],
) -> tuple[list[int], NDArray[np.floating[Any]]]:
    """The candidates that approximate the wanted change, and how much of each."""
    chosen: list[int] = []
    weights: NDArray[np.floating[Any]] = np.empty(0)
    target_D = wanted_D.astype(np.float64)
    rest_D: NDArray[np.floating[Any]] = target_D
    for _ in range(min(MOST_PROPOSALS, len(directions_CD))):
        agreement = np.abs(directions_CD @ rest_D) * specific_C
        agreement[chosen] = -1
        chosen.append(int(np.argmax(agreement)))
        basis_KD = directions_CD[chosen].astype(np.float64)
        weights = np.linalg.lstsq(basis_KD.T, target_D, rcond=None)[0]
        rest_D = target_D - weights @ basis_KD
    return chosen, weights


def _scaled(
    x_D: NDArray[np.float32], weights_K: NDArray[np.floating[Any]], directions_KD: NDArray[np.float32]
) -> NDArray[np.floating[Any]]:
    """The weights, so large that the moved query keeps a cosine of `KEEP`."""
    moved_D = weights_K @ directions_KD
    length = float(np.linalg.norm(moved_D))
    if length == 0:
        return weights_K
    along = float(x_D @ moved_D) / length
    across = max(1 - along * along, 1e-6) ** 0.5
    # Turned by an angle t along the unit vector u with x.u = cos(s), x + a u has a = sin(t) / sin(s - t).
    turn, whole = np.arccos(KEEP), np.arccos(np.clip(along, -1, 1))
    a = np.sin(turn) / max(np.sin(whole - turn), across * 0.2) if whole > turn else 1.0
    return weights_K * (a / length)
