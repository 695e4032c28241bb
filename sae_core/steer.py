"""Steering: pure functions on a query, its latents and the decoder directions.

    x' = (x + sum_i delta_i d_i) / |...|        delta_i = s_i - z_i

adds the *change* a person asked for to the true embedding x, where z_i is the query's own activation and
s_i the strength that was set. Nothing moved gives x itself (the published app ranks by the reconstruction,
whose untouched sliders already change the results). Whatever else can be asked for (ignoring features, moving
families, refining, keeping a cosine) becomes a sum of the same form. The map is linear up to its length, so
the products of x' with all documents follow from those of x and of each d_i.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from sae_core.errors import SaefariError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

NO_LENGTH = 1e-5  # of what was added up: below, the direction of the sum is noise of float32
SAME = 1e-6  # singular values below this share of the largest belong to directions that are one and the same


class CancelledQuery(SaefariError):
    """What was added up to search for leaves no direction."""

    def __init__(self, what: str = "These moves cancel the query: nothing is left to search for.") -> None:
        super().__init__(what, remedy="Weaken or take back one of them.")


@dataclass(frozen=True)
class FamilyMove:
    """How far the query is moved along the direction of a family."""

    shares: Mapping[int, float]  # by member; |sum share_i d_i| = 1
    amount: float


def family_shares(
    members: Sequence[int], usual_N: NDArray[np.float32], directions_ND: NDArray[np.float32]
) -> dict[int, float]:
    """How members follow when their family moves by 1: in proportion to how active each usually is.

    `usual_N` are mean activations where a latent fires. Members that never fire stay; so do all if the others
    cancel.
    """
    usual_M = np.asarray(usual_N)[members].astype(np.float64)
    length = float(np.linalg.norm(usual_M @ directions_ND[members]))
    pairs = zip(members, usual_M.tolist(), strict=True)
    return {member: usual / length for member, usual in pairs if usual > 0} if length > 0 else {}


@dataclass(frozen=True)
class Moves:
    """What is asked of a query.

    A latent that is ignored counts neither for nor against any document, whatever else is said of it; one
    with a strength of its own does not follow its families.
    """

    strengths: Mapping[int, float] = field(default_factory=dict)  # activations to be had, by latent
    ignored: frozenset[int] = frozenset()
    families: tuple[FamilyMove, ...] = ()
    keep: float | None = None  # 0..1: the smallest cosine with the query that is allowed
    refine: bool = False


@dataclass(frozen=True)
class Refined:
    """Coefficients of decoder directions, and how far re-encoding is from what was wanted."""

    deltas: dict[int, float]
    before: float  # normalised squared error with the coefficients as they were given
    after: float  # with these; never larger


@dataclass(frozen=True)
class Edit:
    """A steered query: x' = (x + sum_i delta_i d_i) / length."""

    deltas: dict[int, float]  # by latent, rising; everything that was asked is in them
    steered_D: NDArray[np.float32]
    length: float
    cosine: float  # of the steered query with the query
    scale: float = 1.0  # by which the whole edit was shortened to keep the cosine
    refined: Refined | None = None


def make_edit(
    x_D: NDArray[np.float32],
    moves: Moves,
    own: Mapping[int, float],
    directions_ND: NDArray[np.float32],
    refiner: Callable[[Mapping[int, float], Mapping[int, float]], Refined] | None = None,
) -> Edit:
    """What `moves` make of the unit vector x_D, whose own activations are `own`.

    In this order: strengths and families are changes; `refiner(deltas, wanted activations)` corrects them, if
    asked for; what is left along ignored directions is taken out, so that x' . d_i = 0; last, the whole is
    scaled down to the cosine that is to be kept. `CancelledQuery` if no direction is left.
    """
    deltas = _changes(moves, own)
    refined = None
    if moves.refine and refiner is not None and (deltas or moves.ignored):
        refined = refiner(deltas, _wanted(moves, own, deltas))
        deltas = dict(refined.deltas)
    x_D64 = x_D.astype(np.float64)
    for latent, delta in _against(x_D64, deltas, sorted(moves.ignored), directions_ND).items():
        deltas[latent] = deltas.get(latent, 0.0) + delta
    deltas = {latent: deltas[latent] for latent in sorted(deltas) if deltas[latent] != 0.0}
    if not deltas:
        return Edit({}, x_D, 1.0, 1.0, refined=refined)
    change_D = _summed(deltas, directions_ND)
    scale = 1.0 if moves.keep is None else _scale(x_D64, change_D, moves.keep)
    if scale < 1.0:
        deltas = {latent: scale * delta for latent, delta in deltas.items()}
    moved_D = x_D64 + scale * change_D
    steered_D, length = _unit(moved_D, deltas)
    return Edit(deltas, steered_D, length, _cosine(x_D64, moved_D), scale, refined)


def move(
    x_D: NDArray[np.float32],
    deltas: Mapping[int, float],
    directions_ND: NDArray[np.float32],
) -> tuple[NDArray[np.float32], float]:
    """The steered unit vector (D,) and the length it had before it was normalised."""
    if not deltas:
        return x_D, 1.0
    return _unit(x_D + _summed(deltas, directions_ND), deltas)


def _unit(moved_D: NDArray[np.float64], deltas: Mapping[int, float]) -> tuple[NDArray[np.float32], float]:
    length = float(np.linalg.norm(moved_D))
    if not length > NO_LENGTH * (1.0 + sum(abs(delta) for delta in deltas.values())):
        raise CancelledQuery
    return (moved_D / length).astype(np.float32), length


def start_from(moves: Moves, directions_ND: NDArray[np.float32]) -> NDArray[np.float32]:
    """The query that moves make by themselves, where there is no other: their unit sum, (D,).

    What is ignored is taken out of it. `CancelledQuery` if they leave no direction.
    """
    deltas = _changes(moves, {})
    nothing_D = np.zeros(directions_ND.shape[1], dtype=np.float64)
    deltas |= _against(nothing_D, deltas, sorted(moves.ignored), directions_ND)
    summed_D = _summed(deltas, directions_ND) if deltas else nothing_D
    return unit(summed_D, sum(abs(delta) for delta in deltas.values()))


def unit(summed_D: NDArray[np.float64], weight: float) -> NDArray[np.float32]:
    """A sum of unit vectors with weights whose sizes add up to `weight`, as a unit vector (D,)."""
    length = float(np.linalg.norm(summed_D))
    if not length > NO_LENGTH * weight:
        raise CancelledQuery("Nothing is left to search for: what was added cancels out.")
    return (summed_D / length).astype(np.float32)


def strength_for(b: float, cosine: float) -> float | None:
    """The a > 0 with cos(q, q + a d) = `cosine` for unit q and d with q . d = b; None if none has it.

    cos = (1 + a b) / sqrt(1 + 2 a b + a^2), which is 1 / sqrt(1 + a^2) where d is orthogonal to q, and falls
    towards b: a cosine below b cannot be reached.
    """
    if not b < cosine < 1:
        return None
    rest = 1 - cosine * cosine
    square = b * b - cosine * cosine
    if abs(square) < 1e-12:  # noqa: PLR2004 (b = -cosine: the quadratic is linear)
        return -1 / (2 * b)
    roots = math.sqrt(rest * rest * b * b - square * rest)
    candidates = [(-b * rest + sign * roots) / square for sign in (-1, 1)]
    fitting = [a for a in candidates if a > 0 and (1 + a * b) > 0]
    return min(fitting) if fitting else None


def explained(
    x_D: NDArray[np.float32], reconstruction_D: NDArray[np.float32], b_dec_D: NDArray[np.float32]
) -> float:
    """Share of |x - b_dec|^2 that the features explain, 0..1."""
    missed = float(np.square(x_D - reconstruction_D).sum())
    whole = float(np.square(x_D - b_dec_D).sum())
    return max(0.0, 1.0 - missed / whole) if whole > 0 else 0.0


def _changes(moves: Moves, own: Mapping[int, float]) -> dict[int, float]:
    """delta_i of strengths and families."""
    deltas = {latent: strength - own.get(latent, 0.0) for latent, strength in moves.strengths.items()}
    for family in moves.families:
        for latent, share in family.shares.items():
            if latent not in moves.strengths:
                deltas[latent] = deltas.get(latent, 0.0) + family.amount * share
    return {latent: delta for latent, delta in deltas.items() if delta != 0.0 and latent not in moves.ignored}


def _wanted(moves: Moves, own: Mapping[int, float], deltas: Mapping[int, float]) -> dict[int, float]:
    """The activations that the steered query should have."""
    moved = {latent: own.get(latent, 0.0) + delta for latent, delta in deltas.items()}
    return {**own, **moved, **dict.fromkeys(moves.ignored, 0.0)}


def _summed(deltas: Mapping[int, float], directions_ND: NDArray[np.float32]) -> NDArray[np.float64]:
    weights = np.fromiter(deltas.values(), dtype=np.float64, count=len(deltas))
    summed_D: NDArray[np.float64] = weights @ directions_ND[list(deltas)].astype(np.float64)
    return summed_D


def _against(
    x_D: NDArray[np.float64],
    deltas: Mapping[int, float],
    ignored: list[int],
    directions_ND: NDArray[np.float32],
) -> dict[int, float]:
    """The changes along ignored directions after which x + sum delta_i d_i has no part in any of them."""
    if not ignored:
        return {}
    moved_D = x_D + _summed(deltas, directions_ND) if deltas else x_D
    rows_ID = directions_ND[ignored].astype(np.float64)
    parts_I = np.linalg.lstsq(rows_ID.T, -moved_D, rcond=SAME)[0]
    return dict(zip(ignored, parts_I.tolist(), strict=True))


def _scale(x_D: NDArray[np.float64], change_D: NDArray[np.float64], keep: float) -> float:
    """The largest share of the change, at most all of it, that leaves the query at a cosine of `keep`.

    cos(x, x + a v) never rises in a: its derivative has the sign of (x . v)^2 - |x|^2 |v|^2.
    """
    size = float(np.linalg.norm(change_D))
    if size == 0.0 or _cosine(x_D, x_D + change_D) >= keep:
        return 1.0
    length = float(np.linalg.norm(x_D))
    found = strength_for(_cosine(x_D, change_D), keep)
    if found is None:
        raise CancelledQuery
    return found * length / size


def _cosine(a_D: NDArray[np.float64], b_D: NDArray[np.float64]) -> float:
    lengths = float(np.linalg.norm(a_D) * np.linalg.norm(b_D))
    return float(a_D @ b_D) / lengths if lengths > 0 else 0.0
