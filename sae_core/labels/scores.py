"""How well a label predicts its feature: documents set aside, AUC, and its interval.

Of a feature's documents, ranked by activation, every other one may be used to find a label and the rest
to score it; likewise of its near misses. A label is therefore never scored on what it was made from.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from sae_core.codes import Codes
    from sae_core.features import FeatureTable
    from sae_core.labels.words import Tokens

N_MINED_TOP, N_MINED_TYPICAL = 12, 8
N_BAND = 10  # held-out positives from each of three bands: top, typical, borderline
N_RANDOM = 15  # silent documents, besides as many near misses, in each half
MIN_SCORED = 5  # positives, and negatives, below which there is no score
Z_95 = 1.959964
BISECTIONS = 40
BM25_K, BM25_B = 1.2, 0.75  # saturation of a word's count, and how far a document's length matters


@dataclass(frozen=True)
class Split:
    """Positions of the documents from which a feature's label is made, and of those that score it."""

    mined: NDArray[np.int64]  # at most 20 that have the feature: the strongest, and typical ones
    mined_near: NDArray[np.int64]  # at most 15 near misses
    mined_random: NDArray[np.int64]  # at most 15 others on which it is silent
    heldout: NDArray[np.int64]  # at most 30 that have the feature: top, typical and borderline
    heldout_against: NDArray[np.int64]  # at most 15 near misses and 15 others


def split_documents(codes: Codes, table: FeatureTable, latent: int, seed: int) -> Split:
    """Share out the documents of a latent; the same seed gives the same split."""
    ranked = codes.of_latent(latent)[0].astype(np.int64)
    mined, kept = ranked[::2], ranked[1::2]
    if len(mined) > N_MINED_TOP + N_MINED_TYPICAL:
        typical = _spread(mined[N_MINED_TOP : 3 * len(mined) // 4], N_MINED_TYPICAL)
        mined = np.concatenate((mined[:N_MINED_TOP], typical))
    if len(kept) > 3 * N_BAND:
        kept = np.concatenate((kept[:N_BAND], _spread(kept[N_BAND:-N_BAND], N_BAND), kept[-N_BAND:]))
    near = table.near_NM[latent].astype(np.int64)
    near = near[near >= 0]
    is_silent = np.ones(codes.n_documents, dtype=np.bool_)
    is_silent[ranked] = False
    is_silent[near] = False
    silent = np.flatnonzero(is_silent)
    random = np.random.default_rng((seed, latent)).choice(
        silent, min(2 * N_RANDOM, len(silent)), replace=False, shuffle=False
    )
    return Split(mined, near[::2], random[::2], kept, np.concatenate((near[1::2], random[1::2])))


def _spread(ranked: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """`n` of them at equal steps."""
    places = np.linspace(0, len(ranked) - 1, min(n, len(ranked))).round().astype(np.int64)
    return ranked[np.unique(places)]


@dataclass(frozen=True)
class Score:
    """AUC with its 95 % interval, and the number of documents it rests on."""

    auc: float
    low: float
    high: float
    n: int


def measure(positives: NDArray[np.float32], negatives: NDArray[np.float32]) -> Score | None:
    """Score of a predictor from its values on documents with and without the feature; None if too few."""
    if min(len(positives), len(negatives)) < MIN_SCORED:
        return None
    value = float(auc(positives, negatives))
    low, high = interval(value, len(positives), len(negatives))
    return Score(value, low, high, len(positives) + len(negatives))


def auc(positives: NDArray[np.floating], negatives: NDArray[np.floating]) -> NDArray[np.float64]:
    """Probability that a positive is ranked above a negative, ties half, along the last axis.

    0.5 is chance (and the answer where there is nothing to rank), 1 perfect. Shapes (..., P) and
    (..., Q); the result has the leading axes.
    """
    if 0 in (positives.shape[-1], negatives.shape[-1]):
        return np.full(positives.shape[:-1], 0.5)
    difference = positives[..., :, None] - negatives[..., None, :]
    return np.asarray(((difference > 0) + 0.5 * (difference == 0)).mean(axis=(-1, -2)))


def interval(value: float, n_positives: int, n_negatives: int) -> tuple[float, float]:
    """95 % interval of an AUC: the variance of Hanley and McNeil (1982), inverted as a score interval.

    Source: Newcombe, Statistics in Medicine 25 (2006) 559, method 5. Its limits are the values t with
    |auc - t| = 1.96 sqrt(var(t)), both sample sizes replaced by their mean in the shape of the variance;
    unlike auc +- 1.96 sd it has a width at auc = 1 and stays within 0 and 1.
    """

    def excess(t: float) -> float:
        mean = (n_positives + n_negatives) / 2 - 1
        shape = 1 + mean * (1 - t) / (2 - t) + mean * t / (1 + t)
        variance = t * (1 - t) * shape / (n_positives * n_negatives)
        return abs(value - t) - Z_95 * math.sqrt(variance)

    return _bisect(excess, 0.0, value), _bisect(excess, 1.0, value)


def _bisect(excess: Callable[[float], float], outside: float, inside: float) -> float:
    """Where `excess` changes sign, >= 0 at `outside`."""
    for _ in range(BISECTIONS):
        middle = (outside + inside) / 2
        if excess(middle) >= 0:
            outside = middle
        else:
            inside = middle
    return outside


class WordPredictor:
    """BM25 of a label's words in a document: a predictor that needs no embeddings."""

    def __init__(self, tokens: Tokens) -> None:
        n_documents = len(tokens.document_ptr) - 1
        n_words = int(tokens.normal_W.max(initial=-1)) + 1
        normal_T = tokens.normal_W[tokens.word_T]
        counts = sp.csr_matrix(
            (np.ones(len(normal_T), dtype=np.float32), normal_T, tokens.document_ptr),
            shape=(n_documents, n_words),
        )
        counts.sum_duplicates()
        n_with = np.bincount(counts.indices, minlength=n_words)
        self._rarity = np.log(1 + (n_documents - n_with + 0.5) / (n_with + 0.5))
        lengths = np.diff(tokens.document_ptr)
        penalty = BM25_K * (1 - BM25_B + BM25_B * lengths / max(float(lengths.mean()), 1))
        counts.data *= (BM25_K + 1) / (counts.data + np.repeat(penalty, np.diff(counts.indptr)))
        self._saturated = counts

    def predict(self, words: Sequence[int], documents: NDArray[np.int64]) -> NDArray[np.float32]:
        """BM25 of words (normal forms) in each document."""
        columns = sorted(set(words))
        saturated = self._saturated[documents][:, columns]
        return np.asarray(saturated @ self._rarity[columns], dtype=np.float32)
