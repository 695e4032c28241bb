"""From marks on results to slider moves: the few features that come nearest to what the marks ask for.

The wanted change is that of Rocchio (1971), g = mean(up) - mean(down) / 2, less what is moved already. It
moves along every dimension; people can only judge moves that have a name. So at most five features are chosen
whose moves order the results as g would: orthogonal matching pursuit (Pati et al. 1993), in which a direction
counts by what it does to the scores of the best documents, and not by its angle with g. With Y the vectors of
these documents, about their mean,

    minimise  |Y g - sum_i c_i Y d_i|^2 + ridge |c|^2       over five of the features on the marked documents

Only moves that make sense in words are taken: up for features that documents marked up have more of than the
others, down for those that they have less of.
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
UP, DOWN = 1.0, 0.5  # weights of the two means
RIDGE = 1.0  # times the median of |Y d_i|^2: coefficients of few documents are not to be trusted far
_ENOUGH = 1e-3  # of a strength: less is no move


@dataclass(frozen=True)
class Proposal:
    """One slider move."""

    latent: int
    own: float  # where the slider stands now
    strength: float  # where it would go
    gain: float  # what this adds to the scores of what is marked up, less that of the others; means


@dataclass(frozen=True)
class Marked:
    """Positions of documents: marked up, marked down, and the best of the search, in whose order it shows."""

    up: Sequence[int]
    down: Sequence[int] = ()
    others: Sequence[int] = ()


@dataclass(frozen=True)
class Sliders:
    """How a query is moved now, and what its sliders may do."""

    moved_D: NDArray[np.floating[Any]]  # what was added to the query, before it was normalised
    stands: Mapping[int, float]  # where sliders stand: the query's own activations, and what was set
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
    if not marked.up and not marked.down:
        raise SaefariError("No result is marked.", remedy="Mark one up or down first.")
    wanted_D = _wanted(vectors_MD, marked) - sliders.moved_D
    candidates, sign_C = _candidates(codes, marked, sliders)
    if not len(candidates):
        return []
    best = sorted({*marked.others, *marked.up, *marked.down})
    y_PD = vectors_MD[best] - vectors_MD[best].mean(axis=0)
    d_CD = sae.directions_ND[candidates]
    changes = _pursue(y_PD @ d_CD.T, y_PD @ wanted_D, sign_C)
    means = [vectors_MD[list(side)].mean(axis=0) for side in _sides(marked)]
    contrast_D = means[0] - means[1]
    found = []
    for at, change in changes.items():
        latent = int(candidates[at])
        now, limit = sliders.stands.get(latent, 0.0), float(sliders.strong_N[latent])
        goes = min(now + change, max(now, limit)) if change > 0 else max(now + change, min(now, -limit))
        if abs(goes - now) > _ENOUGH:
            found.append(Proposal(latent, now, goes, (goes - now) * float(d_CD[at] @ contrast_D)))
    return sorted(found, key=lambda proposal: (-proposal.gain, proposal.latent))


def _wanted(vectors_MD: NDArray[np.float32], marked: Marked) -> NDArray[np.float32]:
    """Rocchio's change, (D,)."""
    wanted_D = np.zeros(vectors_MD.shape[1], dtype=np.float32)
    for weight, side in ((UP, marked.up), (-DOWN, marked.down)):
        if side:
            wanted_D += np.float32(weight) * vectors_MD[list(side)].mean(axis=0)
    return wanted_D


def _sides(marked: Marked) -> tuple[Sequence[int], Sequence[int]]:
    """The documents that are wanted and those that are not; one side has marks, the others stand for it."""
    others = marked.others or [*marked.up, *marked.down]
    return marked.up or others, marked.down or others


def _candidates(
    codes: Codes, marked: Marked, sliders: Sliders
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Usable features that fire on marked documents, and which way each may be moved: up (+1), down (-1)."""
    of_up_N, of_down_N = (_mean_activations(codes, side) for side in _sides(marked))
    more_N = of_up_N - of_down_N
    is_marked_N = _mean_activations(codes, [*marked.up, *marked.down]) > 0
    found = np.flatnonzero(is_marked_N & (more_N != 0) & sliders.usable_N)
    return found, np.sign(more_N[found])


def _mean_activations(codes: Codes, positions: Sequence[int]) -> NDArray[np.float64]:
    summed_N = np.zeros(codes.n_latents)
    for position in positions:
        latents, values = codes.of_document(position)
        summed_N[latents] += values
    return summed_N / max(len(positions), 1)


def _pursue(
    effect_PC: NDArray[np.floating[Any]], wanted_P: NDArray[np.floating[Any]], sign_C: NDArray[np.float64]
) -> dict[int, float]:
    """The candidates that come nearest to the wanted scores, and how much of each.

    One whose coefficient turns against its sign when others are fitted beside it is dropped for good.
    """
    gram_CC = (effect_PC.T @ effect_PC).astype(np.float64)
    aim_C = (effect_PC.T @ wanted_P).astype(np.float64)
    norm_C = np.sqrt(np.maximum(np.diag(gram_CC), 1e-12))
    ridge = RIDGE * float(np.median(np.diag(gram_CC))) + 1e-12
    is_open_C = np.ones(len(aim_C), dtype=np.bool_)
    chosen: list[int] = []
    weights: NDArray[np.floating[Any]] = np.empty(0)
    while len(chosen) < MOST_PROPOSALS and is_open_C.any():
        rest_C = aim_C - gram_CC[:, chosen] @ weights
        agreement_C = np.where(is_open_C, rest_C * sign_C / norm_C, -np.inf)
        at = int(np.argmax(agreement_C))
        if agreement_C[at] <= 0:
            break
        is_open_C[at] = False
        chosen.append(at)
        weights = _fitted(gram_CC, aim_C, chosen, ridge)
        while chosen and (weights * sign_C[chosen] <= 0).any():
            chosen = [c for c, right in zip(chosen, weights * sign_C[chosen] > 0, strict=True) if right]
            weights = _fitted(gram_CC, aim_C, chosen, ridge)
    return dict(zip(chosen, weights.tolist(), strict=True))


def _fitted(
    gram_CC: NDArray[np.float64], aim_C: NDArray[np.float64], chosen: list[int], ridge: float
) -> NDArray[np.floating[Any]]:
    gram_KK = gram_CC[np.ix_(chosen, chosen)] + ridge * np.eye(len(chosen))
    return np.asarray(np.linalg.solve(gram_KK, aim_C[chosen]))
