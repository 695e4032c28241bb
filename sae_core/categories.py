"""Known categories as a test of features: how well the single best feature finds the documents of each.

For each category the feature and the threshold with the highest F1 on training documents are chosen; what
is reported is their F1 on documents on which neither the SAE was trained nor the feature chosen. The same is
done with simpler dictionaries (`dictionaries`), on the same documents: differences are paired.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sae_core.intervals import Interval

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from sae_core.codes import Codes
    from sae_core.corpus import Document

MIN_DOCUMENTS = 30  # of a category in training, and MIN_HELDOUT in the held-out documents
MIN_HELDOUT = 5
MAX_CATEGORIES = 60  # the largest
MAX_SHARE = 0.8  # a category that has nearly every document asks nothing
N_DRAWS = 500  # of the bootstrap over held-out documents


@dataclass(frozen=True)
class Categories:
    """Which of M documents belong to which of C categories; a document may belong to several."""

    names: list[str]
    belongs_MC: NDArray[np.bool_]
    source: str  # "categories" or "venue": where they were read


@dataclass(frozen=True)
class BestFeature:
    """The one feature that finds a category."""

    category: str
    latent: int
    threshold: float  # documents with an activation of at least this are said to belong
    f1_train: float
    f1: Interval  # on held-out documents
    n_heldout: int  # documents of the category among them


@dataclass(frozen=True)
class CategoryScores:
    """Best features of every category, and their mean F1, of one dictionary."""

    dictionary: str
    best: list[BestFeature]
    mean_f1: Interval  # over categories; the interval is that of drawing other held-out documents
    lead: Interval | None  # the first dictionary's mean F1 less this one's, paired; None for the first


def read_categories(documents: Sequence[Document], is_train_M: NDArray[np.bool_]) -> Categories | None:
    """The categories that can be tested; None where documents have none.

    They are the words of the categories column; where no document has any, the venue (the package of a
    docstring). A category needs 30 training and 5 held-out documents, and not more than 80 % of them all.
    """
    for source in ("categories", "venue"):
        of = [_words(document, source) for document in documents]
        counts = Counter(name for names in of for name in names)
        if counts:
            break
    else:
        return None
    most = MAX_SHARE * len(documents)
    ranked = sorted(counts, key=lambda name: (-counts[name], name))
    column = {name: at for at, name in enumerate(n for n in ranked if MIN_DOCUMENTS <= counts[n] <= most)}
    belongs_MC = np.zeros((len(documents), len(column)), dtype=np.bool_)
    for row, names in enumerate(of):
        belongs_MC[row, [column[name] for name in names if name in column]] = True
    enough = belongs_MC[is_train_M].sum(axis=0) >= MIN_DOCUMENTS
    enough &= belongs_MC[~is_train_M].sum(axis=0) >= MIN_HELDOUT
    kept = np.flatnonzero(enough)[:MAX_CATEGORIES]
    tested = list(column)
    return Categories([tested[at] for at in kept], belongs_MC[:, kept], source) if len(kept) else None


def _words(document: Document, source: str) -> tuple[str, ...]:
    if source == "venue":
        return (document.venue,) if document.venue else ()
    return tuple(dict.fromkeys(document.categories.split()))


def find_best(
    codes: Codes, categories: Categories, is_train_M: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float64]]:
    """For each category the latent and threshold with the highest F1 on training documents, (C,) each.

    Every threshold that tells two training documents apart is tried, of every latent. Of equal F1 the lowest
    latent and its highest threshold win.
    """
    latents = np.repeat(np.arange(codes.n_latents), codes.counts())
    documents = codes.documents.astype(np.int64)
    keep = is_train_M[documents]
    latents, documents, values = latents[keep], documents[keep], codes.latent_values[keep]
    n_categories = len(categories.names)
    if not len(latents):
        none = np.zeros(n_categories, dtype=np.int64)
        return none, np.full(n_categories, np.inf, dtype=np.float32), np.zeros(n_categories)
    first = np.concatenate(([True], latents[1:] != latents[:-1]))
    start = np.flatnonzero(first)[np.cumsum(first) - 1]  # of each activation's own latent
    n_said = np.arange(len(latents)) - start + 1
    # A threshold cannot part equal activations: only the last of them is one.
    is_cut = np.concatenate((first[1:] | (values[1:] < values[:-1]), [True]))
    best = []
    for column in range(n_categories):
        belongs_M = categories.belongs_MC[:, column]
        running = np.cumsum(belongs_M[documents], dtype=np.int64)
        hits = running - running[start] + belongs_M[documents[start]]
        f1 = np.where(is_cut, 2 * hits / (n_said + int(belongs_M[is_train_M].sum())), 0)
        at = int(np.argmax(f1))
        best.append((int(latents[at]), float(values[at]), float(f1[at])))
    found = list(zip(*best, strict=True))
    return np.array(found[0]), np.array(found[1], dtype=np.float32), np.array(found[2])


def score_categories(
    codes: Mapping[str, Codes], categories: Categories, is_train_M: NDArray[np.bool_], seed: int = 0
) -> list[CategoryScores]:
    """Every dictionary's best features, by its name; leads are those of the first over each other one.

    Intervals are the 2.5th and 97.5th percentile over 500 draws of the held-out documents with replacement,
    the same draws for all.
    """
    heldout = np.flatnonzero(~is_train_M)
    truth_HC = categories.belongs_MC[heldout]
    draws = np.random.default_rng((seed, 17))
    draws_BH = draws.multinomial(len(heldout), np.full(len(heldout), 1 / len(heldout)), N_DRAWS)
    weights_BH = draws_BH.astype(np.float32)
    found: list[CategoryScores] = []
    means: list[tuple[float, NDArray[np.float64]]] = []
    for name, own in codes.items():
        latent_C, threshold_C, train_C = find_best(own, categories, is_train_M)
        said_HC = _said(own, latent_C, threshold_C)[heldout]
        f1_C = _f1(np.ones((1, len(heldout)), dtype=np.float32), said_HC, truth_HC)[0]
        drawn_BC = _f1(weights_BH, said_HC, truth_HC)
        means.append((float(f1_C.mean()), drawn_BC.mean(axis=1)))
        best = [
            BestFeature(
                category=category,
                latent=int(latent_C[at]),
                threshold=float(threshold_C[at]) if np.isfinite(threshold_C[at]) else 0.0,
                f1_train=float(train_C[at]),
                f1=_interval(float(f1_C[at]), drawn_BC[:, at]),
                n_heldout=int(truth_HC[:, at].sum()),
            )
            for at, category in enumerate(categories.names)
        ]
        lead = None
        if found:
            lead = _interval(means[0][0] - means[-1][0], means[0][1] - means[-1][1])
        found.append(CategoryScores(name, best, _interval(*means[-1]), lead))
    return found


def _said(codes: Codes, latent_C: NDArray[np.int64], threshold_C: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which documents a feature says belong to its category, (M, C)."""
    said_MC = np.zeros((codes.n_documents, len(latent_C)), dtype=np.bool_)
    for column, (latent, threshold) in enumerate(zip(latent_C.tolist(), threshold_C, strict=True)):
        documents, values = codes.of_latent(latent)
        said_MC[documents[values >= threshold], column] = True
    return said_MC


def _f1(
    weights_BH: NDArray[np.float32], said_HC: NDArray[np.bool_], truth_HC: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """F1 = 2 hits / (said + true) of each category in each weighting of the documents, (B, C)."""
    hits_BC = weights_BH @ (said_HC & truth_HC).astype(np.float32)
    either_BC = weights_BH @ (said_HC.astype(np.float32) + truth_HC)
    return np.asarray(2 * hits_BC / np.maximum(either_BC, 1), dtype=np.float64)


def _interval(value: float, drawn_B: NDArray[np.float64]) -> Interval:
    low, high = np.quantile(drawn_B, (0.025, 0.975)).tolist()
    return Interval(value, low, high)
