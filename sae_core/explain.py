"""Why a document stands where it stands, and what a move would change: sums that come out exactly.

A document's embedding is what its SAE makes of it and a rest,

    y = sum_j a_j d_j + b_dec + r        so      x'.y = sum_j a_j (x'.d_j) + x'.b_dec + x'.r

for the steered query x'. The parts are the document's features, what every document gets alike (the bias),
and what no feature captures. Nothing is estimated: the parts add up to the score.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sae_core import steer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from sae_core.index import VectorIndex
    from sae_core.sae import SAE
    from sae_core.steer import Edit, Moves

N_COMPARED = 20  # best documents with and without what the features leave out
N_PREVIEWED = 200  # first documents whose movement is foretold
N_BELOW = 60  # documents that stand for those after them


@dataclass(frozen=True)
class Part:
    """What one feature has to do with a score."""

    latent: int
    value: float
    activation: float  # of the document; 0 where the feature does not fire


@dataclass(frozen=True)
class Why:
    """A score as a sum: parts, bias and missed; and again as another: what the query had, and the moves."""

    score: float
    parts: list[Part]  # the document's features, a_j (x'.d_j), by falling size
    bias: float  # x'.b_dec, the same for every document
    missed: float  # x'.r, not captured by features
    query: float  # x.y / |...|, what the query as it was brings after the moves
    moves: list[Part]  # delta_i (d_i.y) / |...|, what each move added, by falling size


def why(
    y_D: NDArray[np.float32],
    latents: NDArray[np.unsignedinteger] | Sequence[int],
    activations: NDArray[np.float32] | Sequence[float],
    edit: Edit,
    sae: SAE,
) -> Why:
    """The score of the document y, a unit vector with these activations, under the steered query.

    `parts`, `bias` and `missed` add up to `score`, as `query` and `moves` do.
    """
    y, x = y_D.astype(np.float64), edit.steered_D.astype(np.float64)
    own = dict(zip(map(int, latents), map(float, activations), strict=True))
    d_KD = sae.directions_ND[list(own)].astype(np.float64)
    a_K = np.fromiter(own.values(), dtype=np.float64, count=len(own))
    rest_D = y - a_K @ d_KD - sae.b_dec_D
    parts = [
        Part(latent, float(value), own[latent]) for latent, value in zip(own, a_K * (d_KD @ x), strict=True)
    ]
    weights = np.fromiter(edit.deltas.values(), dtype=np.float64, count=len(edit.deltas))
    added = weights * (sae.directions_ND[list(edit.deltas)].astype(np.float64) @ y) / edit.length
    moves = [
        Part(latent, float(value), own.get(latent, 0.0))
        for latent, value in zip(edit.deltas, added, strict=True)
    ]
    score = float(x @ y)
    return Why(
        score=score,
        parts=_by_size(parts),
        bias=float(x @ sae.b_dec_D),
        missed=float(x @ rest_D),
        query=score - float(added.sum()),
        moves=_by_size(moves),
    )


def why_above(a: Why, b: Why) -> Why:
    """What a has more than b, of two documents under the same query: again sums that come out."""
    return Why(
        score=a.score - b.score,
        parts=_differences(a.parts, b.parts),
        bias=a.bias - b.bias,
        missed=a.missed - b.missed,
        query=a.query - b.query,
        moves=_differences(a.moves, b.moves),
    )


def _by_size(parts: list[Part]) -> list[Part]:
    return sorted(parts, key=lambda part: (-abs(part.value), part.latent))


def _differences(a: list[Part], b: list[Part]) -> list[Part]:
    """Part by part; a feature that one of the two lacks brings 0 there."""
    mine, yours = ({part.latent: part for part in parts} for parts in (a, b))
    found = []
    for latent in mine.keys() | yours.keys():
        nothing = Part(latent, 0.0, 0.0)
        more, less = mine.get(latent, nothing), yours.get(latent, nothing)
        found.append(Part(latent, more.value - less.value, more.activation - less.activation))
    return _by_size(found)


def preview(
    vectors_MD: NDArray[np.float32],
    ranked: NDArray[np.int64],
    steps: Sequence[tuple[int, float]],
    *,
    x_D: NDArray[np.float32],
    moves: Moves,
    edit: Edit,
    directions_ND: NDArray[np.float32],
) -> NDArray[np.int64]:
    """How many places each of the first P = 200 documents would rise (+) or fall (-), (steps, P).

    A step is a latent and what is added to its strength. `ranked` are the best documents of the query x_D
    steered by `edit`, best first: the more there are beyond the first 200, the better is known how far a
    document falls. Of those beyond, 60 stand for all, each for as many as lie around it. What is ignored and
    what cosine is kept, stays so; refinement is not foretold. The query before it is normalised is linear in
    the strengths, so one product of 260 x D x steps numbers tells all new scores.
    """
    pool, below, weights_R = _representatives(len(ranked))
    rows_RD = vectors_MD[ranked[np.concatenate((pool, below))]]
    change_D = (edit.length * edit.steered_D.astype(np.float64) - x_D) / edit.scale
    steps_SD = np.concatenate((np.zeros((1, len(x_D))), _steps(steps, moves, directions_ND)))
    scales_S = _scales(x_D.astype(np.float64), change_D + steps_SD, moves.keep)
    queries_SD = (x_D + scales_S[:, None] * (change_D + steps_SD)).astype(np.float32)
    places_SP = _places(queries_SD @ rows_RD.T, weights_R)[:, : len(pool)]
    return np.asarray(places_SP[0] - places_SP[1:])


def _representatives(n: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Of n ranks those that are followed, those that stand for the ranks below, and how many each stands for.

    Below, equal ratios of ranks are equally many: most documents that fall, fall not far.
    """
    pool = np.arange(min(n, N_PREVIEWED))
    edges = np.unique(np.geomspace(max(len(pool), 1), max(n, 1), N_BELOW + 1).astype(np.int64))
    below = (edges[:-1] + edges[1:] - 1) // 2
    return pool, below, np.concatenate((np.ones_like(pool), np.diff(edges)))


def _steps(
    steps: Sequence[tuple[int, float]], moves: Moves, directions_ND: NDArray[np.float32]
) -> NDArray[np.float64]:
    """What each step adds to the query, (steps, D): nothing along ignored directions."""
    sizes_S = np.array([step for _, step in steps], dtype=np.float64)
    steps_SD = sizes_S[:, None] * directions_ND[[latent for latent, _ in steps]]
    if moves.ignored:
        ignored_ID = directions_ND[sorted(moves.ignored)].astype(np.float64)
        steps_SD -= np.linalg.lstsq(ignored_ID.T, steps_SD.T, rcond=steer.SAME)[0].T @ ignored_ID
    return steps_SD


def _scales(
    x_D: NDArray[np.float64], change_SD: NDArray[np.float64], keep: float | None
) -> NDArray[np.float64]:
    """By how much each change is shortened, so that the query keeps its cosine."""
    scales_S = np.ones(len(change_SD))
    if keep is None:
        return scales_S
    sizes_S = np.linalg.norm(change_SD, axis=1)
    for at in np.flatnonzero(sizes_S > 0):
        reach = steer.strength_for(float(change_SD[at] @ x_D / sizes_S[at]), keep)
        scales_S[at] = 1.0 if reach is None else min(1.0, reach / sizes_S[at])
    return scales_S


def _places(scores_SR: NDArray[np.float32], weights_R: NDArray[np.int64]) -> NDArray[np.int64]:
    """The place of every document in each row, highest score first: what stands before it, by weight."""
    order_SR = np.argsort(-scores_SR, axis=1, kind="stable")
    weights_SR = weights_R[order_SR]
    places_SR = np.empty_like(order_SR)
    np.put_along_axis(places_SR, order_SR, np.cumsum(weights_SR, axis=1) - weights_SR, axis=1)
    return places_SR


@dataclass(frozen=True)
class Faithfulness:
    """How much of a vector its features speak for."""

    explained: float  # share of |x - b_dec|^2, 0..1
    overlap: float  # share of the best documents that the reconstruction finds as well, 0..1
    n: int  # best documents that were compared


def faithfulness(index: VectorIndex, sae: SAE, x_D: NDArray[np.float32], n: int = N_COMPARED) -> Faithfulness:
    """The same of a query: its best documents, and those of its reconstruction. Two scans of the index."""
    reconstruction_D = sae.decode(sae.encode(x_D[None]))[0]
    with_rest, without = (index.search(vector_D, n).positions for vector_D in (x_D, reconstruction_D))
    found = len(np.intersect1d(with_rest, without))
    share = steer.explained(x_D, reconstruction_D, sae.b_dec_D)
    return Faithfulness(share, found / max(len(with_rest), 1), len(with_rest))
