"""Steering put to the test: whether moving a feature brings documents about what its label says.

A trial has a query and five features of which one is moved, so that the query turns by a chosen angle. For
each of the five the words of its label are looked for (BM25) in the ten best documents before and after: the
judge names the feature whose words gained most. Chance is one in five. The judge reads texts, not
activations; one that reads the activations of the same SAE would be circular. A label is made of words from
documents that have the feature, so those documents are never among the results.
Source: arXiv 2408.00657, section 5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sae_core import steer
from sae_core.index import top

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from sae_core.labels import Label
    from sae_core.labels.scores import Predictor

N_FEATURES = 5  # of which the judge names one
N_RESULTS = 10
CHANCE = 1 / N_FEATURES
MAX_TRIES = 20  # draws of five features for a query, before it is left out


@dataclass(frozen=True)
class Named:
    """Directions with labels: the features of an SAE, or of what stands beside it."""

    directions_ND: NDArray[np.float32]
    labels: list[Label]

    @property
    def labelled(self) -> NDArray[np.int64]:
        """Features that have a label of words."""
        return np.flatnonzero([label.source != "none" and bool(label.text) for label in self.labels])


@dataclass(frozen=True)
class Library:
    """The documents that can be found: unit vectors, and a predictor that reads their words."""

    x_MD: NDArray[np.float32]
    positions_M: NDArray[np.int64]  # their numbers in the collection
    words: Predictor


class Trial(NamedTuple):
    """A query and five features; the first is moved."""

    x_D: NDArray[np.float32]
    own: int  # the query's position in the collection, -1 if it is no document
    features: tuple[int, ...]
    direction_D: NDArray[np.float32]  # along which the query moves, a unit vector


class Outcome(NamedTuple):
    """What the judge made of a trial."""

    credit: float  # 1 for the right feature, a share where features gained alike
    gain: float  # of the words of the moved feature's label in the results, mean BM25


def check_geometry(
    x_QD: NDArray[np.float32], directions_ND: NDArray[np.float32], seed: int = 0
) -> dict[str, float]:
    """The largest differences between steered queries and what their cosine should be.

    "orthogonal": the part of a feature's direction that is orthogonal to the query, against 1/sqrt(1 + a^2);
    "exact": the direction itself, against (1 + ab)/sqrt(1 + 2ab + a^2); "as if orthogonal": the direction
    itself, against 1/sqrt(1 + a^2), the mean difference.
    """
    rng = np.random.default_rng((seed, 19))
    found: dict[str, list[float]] = {"orthogonal": [], "exact": [], "as if orthogonal": []}
    for x_D in x_QD:
        d_D = directions_ND[int(rng.integers(len(directions_ND)))].astype(np.float64)
        a = float(rng.choice((0.1, 0.5, 1.0, 2.0)))
        b = float(x_D.astype(np.float64) @ d_D)
        across_D = d_D - b * x_D
        across_D /= max(float(np.linalg.norm(across_D)), 1e-12)
        plain = 1 / math.sqrt(1 + a * a)
        moved = _cosine_after(x_D, across_D, a)
        found["orthogonal"].append(abs(moved - plain))
        moved = _cosine_after(x_D, d_D, a)
        found["exact"].append(abs(moved - (1 + a * b) / math.sqrt(1 + 2 * a * b + a * a)))
        found["as if orthogonal"].append(abs(moved - plain))
    return {
        "orthogonal": max(found["orthogonal"], default=float("nan")),
        "exact": max(found["exact"], default=float("nan")),
        "as if orthogonal": float(np.mean(found["as if orthogonal"])),
        "n": len(x_QD),
    }


def _cosine_after(x_D: NDArray[np.float32], d_D: NDArray[np.float64], a: float) -> float:
    """By the steering that searches use."""
    steered_D, _ = steer.move(x_D, {0: a}, d_D[None].astype(np.float32))
    return float(x_D.astype(np.float64) @ steered_D)


def draw_trials(
    x_QD: NDArray[np.float32],
    own_Q: Sequence[int],
    named: Named,
    cosines: Sequence[float],
    active: Callable[[int], Sequence[int]],
    *,
    sign: int = 1,
    seed: int = 0,
) -> list[Trial]:
    """A trial for each query that has five labelled features which can be turned to every one of `cosines`.

    Upwards (`sign` 1) the features are those on which the query is silent; downwards those that it has.
    `active` gives the features of a query.
    """
    rng = np.random.default_rng((seed, 23, sign + 1))
    labelled = set(named.labelled.tolist())
    trials = []
    for at, x_D in enumerate(x_QD):
        own = set(active(at))
        pool = np.array(sorted(labelled & own if sign < 0 else labelled - own), dtype=np.int64)
        for _ in range(MAX_TRIES if len(pool) >= N_FEATURES else 0):
            features = tuple(rng.choice(pool, N_FEATURES, replace=False).tolist())
            d_D = sign * named.directions_ND[features[0]]
            texts = {named.labels[feature].text.casefold() for feature in features}
            reaches = float(x_D @ d_D) < min(cosines, default=1.0)
            if reaches and len(texts) == N_FEATURES:
                trials.append(Trial(x_D, int(own_Q[at]), features, d_D))
                break
    return trials


def judge(
    trials: Sequence[Trial], named: Named, library: Library, moved: Sequence[NDArray[np.float32]]
) -> list[Outcome]:
    """What the judge makes of each trial when its query has become the unit vector `moved[i]`.

    Whether words came or went is read from the trial: where the query moved against the feature, the words
    that lost most are named.
    """
    before = words_in(trials, named, library, [find(t, named, library, t.x_D) for t in trials])
    results = [find(t, named, library, x_D) for t, x_D in zip(trials, moved, strict=True)]
    return outcomes(trials, named, before, words_in(trials, named, library, results))


def find(trial: Trial, named: Named, library: Library, x_D: NDArray[np.float32]) -> NDArray[np.int64]:
    """The ten best documents of the library that a trial may find, as rows of the library."""
    return top(library.x_MD @ x_D, N_RESULTS, _allowed(trial, named, library)).positions


def words_in(
    trials: Sequence[Trial], named: Named, library: Library, results: Sequence[NDArray[np.int64]]
) -> NDArray[np.float64]:
    """Mean BM25 of the words of each of a trial's five labels in its results, (T, 5)."""
    texts = [named.labels[feature].text for trial in trials for feature in trial.features]
    documents = [library.positions_M[found] for found in results for _ in range(N_FEATURES)]
    said = library.words.predict(texts, documents)
    means = [float(values.mean()) if len(values) else 0.0 for values in said]
    return np.array(means).reshape(len(trials), N_FEATURES)


def outcomes(
    trials: Sequence[Trial], named: Named, before_TF: NDArray[np.float64], after_TF: NDArray[np.float64]
) -> list[Outcome]:
    """Which of five features is named: of the first's label the words came, or went if it was moved down."""
    found = []
    for trial, gains in zip(trials, after_TF - before_TF, strict=True):
        direction = float(trial.direction_D @ named.directions_ND[trial.features[0]])
        found.append(Outcome(credit(gains if direction > 0 else -gains), float(gains[0])))
    return found


def credit(gains: NDArray[np.float64]) -> float:
    """1 if the first gained most; a share where others gained as much."""
    best = np.isclose(gains, gains.max())
    return float(best[0] / best.sum())


class CategoryTrial(NamedTuple):
    """A query, and five categories that it has not; the direction of the first is moved along."""

    trial: Trial
    five: NDArray[np.int64]


def draw_category_trials(
    x_QD: NDArray[np.float32],
    own_Q: Sequence[int],
    belongs_MC: NDArray[np.bool_],
    latents: Sequence[int],
    directions_CD: NDArray[np.float32],
    *,
    seed: int = 0,
) -> list[CategoryTrial]:
    """One for each query that leaves five categories free; category c has a latent and a direction."""
    rng = np.random.default_rng((seed, 43))
    found = []
    for x_D, own in zip(x_QD, own_Q, strict=True):
        free = np.flatnonzero(~belongs_MC[own])
        if len(free) >= N_FEATURES:
            five = rng.choice(free, N_FEATURES, replace=False)
            first = int(five[0])
            found.append(CategoryTrial(Trial(x_D, own, (int(latents[first]),), directions_CD[first]), five))
    return found


def find_near(trial: Trial, library: Library, x_D: NDArray[np.float32]) -> NDArray[np.int64]:
    """The ten best documents of the library but the query's own, as rows of the library."""
    products = library.x_MD @ x_D
    products[library.positions_M == trial.own] = -np.inf
    return np.argsort(-products, kind="stable")[:N_RESULTS]


def category_credit(
    asked: CategoryTrial,
    library: Library,
    belongs_MC: NDArray[np.bool_],
    before: NDArray[np.int64],
    after: NDArray[np.int64],
) -> float:
    """1 if of the five categories the first gained most of the ten best documents."""
    shares = [belongs_MC[library.positions_M[found]][:, asked.five].mean(axis=0) for found in (before, after)]
    return credit(shares[1] - shares[0])


def _allowed(trial: Trial, named: Named, library: Library) -> NDArray[np.bool_]:
    """All documents but the query's own and those that the five labels were made from."""
    made = [trial.own]
    for feature in trial.features:
        evidence = named.labels[feature].evidence
        made += evidence.positives if evidence else []
    return ~np.isin(library.positions_M, made)


def turned(trial: Trial, cosine: float) -> NDArray[np.float32]:
    """The trial's query, moved along its direction until the cosine with what it was is `cosine`."""
    a = steer.strength_for(float(trial.x_D @ trial.direction_D), cosine)
    if a is None:
        raise ValueError(f"a cosine of {cosine} cannot be reached along this direction")
    steered_D, _ = steer.move(trial.x_D, {0: a}, trial.direction_D[None])
    return steered_D


def can_turn(trial: Trial, direction_D: NDArray[np.float32], cosine: float) -> bool:
    """Whether the query reaches this cosine along another direction."""
    return steer.strength_for(float(trial.x_D @ direction_D), cosine) is not None
