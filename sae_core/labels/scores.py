"""How well a label predicts its feature: documents set aside, three measures with intervals, a tournament.

The documents of a feature, ranked by activation, are dealt out in turn: one to make labels from, one to
choose between candidates, one to score the choice; its near misses likewise, and so are other documents on
which it is silent. So a label is never scored on what made or chose it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from sae_core.intervals import Z_95, Interval, fisher, wilson
from sae_core.labels import Candidate, Label, Score

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from sae_core.codes import Codes
    from sae_core.features import FeatureTable

N_BAND = 10  # positives from each of three bands: top, typical, borderline
N_BAND_MINED = 20  # the same of documents that labels are made from
N_OTHERS = 120  # silent documents at random: as many as are needed where a feature has no near misses
MIN_SCORED = 5  # positives, and negatives, below which there is no score
MIN_TO_CHOOSE = 24  # documents of a feature from which on a third of them is kept to choose by
N_ENTERED = 4  # candidates of a feature in its tournament
WINS_BY = 0.03  # AUC by which a candidate has to beat the first: half a standard error with 30 and 30
BISECTIONS = 40


class Sample(NamedTuple):
    """Positions of documents: at most 30 (of those that are mined 60) with the feature, as many without."""

    positives: NDArray[np.int64]  # top, typical and borderline, strongest first
    near: NDArray[np.int64]  # half of those without it: near misses, nearest first
    random: NDArray[np.int64]  # others

    @property
    def negatives(self) -> NDArray[np.int64]:
        return np.concatenate((self.near, self.random))

    @property
    def documents(self) -> NDArray[np.int64]:
        """Positives, then negatives."""
        return np.concatenate(self)


@dataclass(frozen=True)
class Split:
    """Which documents make a feature's label, choose it, and score it; no document is in two of them."""

    mined: Sample
    choosing: Sample  # empty where the feature has too few documents for it
    heldout: Sample


def split_documents(codes: Codes, table: FeatureTable, latent: int, seed: int) -> Split:
    """Share out the documents of a latent; the same seed gives the same split.

    A feature with fewer than MIN_TO_CHOOSE documents keeps none to choose by.
    """
    near = table.near_NM[latent].astype(np.int64)
    ranked = codes.of_latent(latent)[0].astype(np.int64)
    return share_out(ranked, near[near >= 0], codes.n_documents, (seed, latent))


def share_out(
    ranked: NDArray[np.int64], near: NDArray[np.int64], n_documents: int, seed: tuple[int, ...]
) -> Split:
    """Share out documents `ranked` from the strongest, their near misses, and others at random."""
    random = _silent(n_documents, np.concatenate((ranked, near)), N_OTHERS, seed)
    # Of near misses and others the mined documents get every other one, the two that score share the rest.
    is_chosen = len(ranked) >= MIN_TO_CHOOSE
    step = 3 if is_chosen else 2
    mined = _sample(ranked[::step], near[::2], random[::2], N_BAND_MINED)
    heldout = _sample(ranked[step - 1 :: step], near[1::4], random[1::4], N_BAND)
    if not is_chosen:
        return Split(mined, Sample(*[np.zeros(0, dtype=np.int64)] * 3), heldout)
    return Split(mined, _sample(ranked[1::3], near[3::4], random[3::4], N_BAND), heldout)


def _sample(
    ranked: NDArray[np.int64], near: NDArray[np.int64], random: NDArray[np.int64], n_band: int
) -> Sample:
    """As many negatives as positives, half of them near misses, where there are so many."""
    if len(ranked) > 3 * n_band:
        typical = _spread(ranked[n_band:-n_band], n_band)
        ranked = np.concatenate((ranked[:n_band], typical, ranked[-n_band:]))
    n_near = min(len(near), (len(ranked) + 1) // 2)
    return Sample(ranked, near[:n_near], random[: max(len(ranked) - n_near, 0)])


def _spread(ranked: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """`n` of them at equal steps."""
    places = np.linspace(0, len(ranked) - 1, min(n, len(ranked))).round().astype(np.int64)
    return ranked[np.unique(places)]


def _silent(n_documents: int, others: NDArray[np.int64], n: int, seed: tuple[int, ...]) -> NDArray[np.int64]:
    """At most `n` documents, at random, that are not among the `others`."""
    rest = np.setdiff1d(np.arange(n_documents), others)
    return np.random.default_rng(seed).choice(rest, min(n, len(rest)), replace=False)


# --- measures ---------------------------------------------------------------------------------------


def measure(
    predictor: str,
    positives: NDArray[np.float32],
    negatives: NDArray[np.float32],
    threshold: float,
) -> Score | None:
    """Score of a predictor from its values on documents with and without the feature; None if too few.

    `threshold` is that of F1, chosen on other documents.
    """
    if min(len(positives), len(negatives)) < MIN_SCORED:
        return None
    value = float(auc(positives, negatives))
    low, high = interval(value, len(positives), len(negatives))
    return Score(
        predictor=predictor,
        n_positives=len(positives),
        n_negatives=len(negatives),
        auc=Interval(value, low, high),
        f1=f1(positives, negatives, threshold),
        pearson=pearson(positives, negatives),
    )


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


def pearson(positives: NDArray[np.floating], negatives: NDArray[np.floating]) -> Interval:
    """Correlation of the prediction with 1 on positives and 0 on negatives; Fisher's z interval.

    A prediction that is the same everywhere has 0. Needs more than three documents.
    """
    values = np.concatenate((positives, negatives)).astype(np.float64)
    truth = np.repeat((1.0, 0.0), (len(positives), len(negatives)))
    values, truth = values - values.mean(), truth - truth.mean()
    length = math.sqrt(float(values @ values) * float(truth @ truth))
    value = float(np.clip(values @ truth / length, -1, 1)) if length > 0 else 0.0
    return fisher(value, len(truth))


def f1(positives: NDArray[np.floating], negatives: NDArray[np.floating], threshold: float) -> Interval:
    """F1 of "above the threshold has the feature", with a 95 % interval.

    F1 = 2 J / (1 + J) with J = TP / (TP + FP + FN), the share of hits among all documents that have the
    feature or are said to: it rises with J, so Wilson's interval of that share is carried over.
    """
    hits = int((positives > threshold).sum())
    n = len(positives) + int((negatives > threshold).sum())
    share = wilson(hits, n)
    return Interval(*(2 * j / (1 + j) for j in (share.value, share.low, share.high)))


def choose_threshold(positives: NDArray[np.floating], negatives: NDArray[np.floating]) -> float:
    """The threshold with the highest F1 on these documents; the highest of several."""
    values = np.unique(np.concatenate((positives, negatives)))
    if not len(values):
        return 0.0
    between = np.concatenate(([values[0] - 1.0], (values[1:] + values[:-1]) / 2))
    hits = (positives[:, None] > between).sum(axis=0)
    said = hits + (negatives[:, None] > between).sum(axis=0)
    scores = 2 * hits / np.maximum(said + len(positives), 1)
    return float(between[len(scores) - 1 - int(np.argmax(scores[::-1]))])


# --- tournament -------------------------------------------------------------------------------------


class Predictor(Protocol):
    """Says from a label's text which documents have the feature."""

    @property
    def name(self) -> str:
        """In words; says where it is circular."""

    def predict(
        self, texts: Sequence[str], documents: Sequence[NDArray[np.int64]]
    ) -> list[NDArray[np.float32]]:
        """For each text a number for each of its documents, higher where the feature is expected."""


def hold_tournament(
    candidates: Sequence[Sequence[Candidate]],
    splits: Sequence[Split],
    predictor: Predictor,
    others: Sequence[Predictor] = (),
    *,
    judges: Sequence[Predictor] = (),
    entered: Sequence[int] | None = None,
) -> list[Label]:
    """A label for each feature: of its first candidates the best on the choosing documents.

    `candidates` come best first; the first N_ENTERED, or as many as `entered` says, compete by the mean AUC
    of the `judges` (if there are none, of `predictor`). The best wins, unless it beats the first by less
    than WINS_BY. Where there are no documents to choose by, the first is taken. Scores are those on held-out
    documents, by `predictor` and by the `others`. No held-out document is predicted before all is chosen.
    """
    limits = [N_ENTERED] * len(splits) if entered is None else entered
    chosen = [list(found) for found in candidates]
    _choose(chosen, splits, judges or [predictor], limits)
    scores = [_scores(each, chosen, splits) for each in (predictor, *others)]
    labels = []
    for at, ranked in enumerate(chosen):
        if not ranked:
            labels.append(Label("", "none", remark="no candidate"))
            continue
        own, *rest = (found[at] for found in scores)
        labels.append(
            Label(
                text=ranked[0].text,
                source=ranked[0].source,
                score=own,
                candidates=ranked,
                other_scores=[score for score in rest if score],
                remark="" if own else _too_few(splits[at].heldout),
            )
        )
    return labels


def _choose(
    candidates: list[list[Candidate]],
    splits: Sequence[Split],
    judges: Sequence[Predictor],
    limits: Sequence[int],
) -> None:
    """Sort the candidates of each feature: those that competed first, the winner at their head."""
    pairs = [
        (at, place)
        for at, (found, split) in enumerate(zip(candidates, splits, strict=True))
        if min(len(split.choosing.positives), len(split.choosing.negatives)) >= MIN_SCORED
        for place in range(min(len(found), limits[at]))
    ]
    texts = [candidates[at][place].text for at, place in pairs]
    documents = [splits[at].choosing.documents for at, _ in pairs]
    found = np.zeros(len(pairs))
    for judge in judges:
        for i, values in enumerate(judge.predict(texts, documents)):
            n = len(splits[pairs[i][0]].choosing.positives)
            found[i] += float(auc(values[:n], values[n:])) / len(judges)
    for (at, place), value in zip(pairs, found.tolist(), strict=True):
        candidates[at][place] = replace(candidates[at][place], chosen_by=value)
    for ranked in candidates:
        first = ranked[:1]
        ranked.sort(key=lambda each: _place(each, WINS_BY if [each] == first else 0))


def _place(candidate: Candidate, bonus: float) -> float:
    """Falls with the AUC; behind all of these where there is none."""
    return 1.0 if candidate.chosen_by is None else -candidate.chosen_by - bonus


def _scores(
    predictor: Predictor, chosen: Sequence[Sequence[Candidate]], splits: Sequence[Split]
) -> list[Score | None]:
    """The score of the first candidate of each feature, on held-out documents."""
    labelled = [at for at, ranked in enumerate(chosen) if ranked]
    texts = [chosen[at][0].text for at in labelled]
    # A threshold is chosen where there are documents to choose by, else where the label was made.
    before = [
        splits[at].choosing if len(splits[at].choosing.positives) else splits[at].mined for at in labelled
    ]
    known = predictor.predict(texts, [sample.documents for sample in before])
    unseen = predictor.predict(texts, [splits[at].heldout.documents for at in labelled])
    scores: list[Score | None] = [None] * len(chosen)
    for at, sample, earlier, values in zip(labelled, before, known, unseen, strict=True):
        n = len(sample.positives)
        threshold = choose_threshold(earlier[:n], earlier[n:])
        n = len(splits[at].heldout.positives)
        scores[at] = measure(predictor.name, values[:n], values[n:], threshold)
    return scores


def _too_few(heldout: Sample) -> str:
    n, m = len(heldout.positives), len(heldout.negatives)
    return (
        f"too few documents to measure: {n} with the feature and {m} without it were left, "
        f"{MIN_SCORED} of each are needed"
    )
