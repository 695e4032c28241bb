"""Labels without a language model: the phrase that best tells a feature's documents from its near misses.

Candidates are mined from at most twenty documents of the feature (`mining`), embedded together, and ranked
by how far they stand out in those documents, how strongly their own embedding activates the feature, and
how well it separates those documents from others. The winner is scored on documents kept aside (`scores`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from sae_core.errors import EmbeddingError
from sae_core.labels import Label
from sae_core.labels.mining import Candidate, contains, find_phrases, mine
from sae_core.labels.scores import Split, WordPredictor, auc, measure, split_documents
from sae_core.labels.words import tokenise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from sae_core.codes import Codes
    from sae_core.corpus import Document
    from sae_core.embed import Embedder
    from sae_core.features import FeatureTable
    from sae_core.sae import SAE

N_CANDIDATES = 12  # embedded, per feature
N_SHOWN = 5  # kept beside the label
TEXTS_PER_BLOCK = 512
# Weights of the ranking, chosen by held-out AUC over 10,000 abstracts and by reading.
BY_CONTRAST, BY_ACTIVATION, BY_SEPARATION, BY_LENGTH = 0.5, 1.0, 1.0, 0.3
GOOD_LENGTHS = (2, 3)  # words: "neutron stars" says more than "neutron"
# When another feature has the phrase, a candidate of at least this share of its ranking replaces it: one
# that says the phrase more exactly ("thermal photons"), or any other.
EXACTER, STAND_IN = 0.4, 0.6

_Report = Callable[[int, int], None]


@dataclass(frozen=True)
class Choice:
    """A feature on its way to a label: its documents, and its candidates, best first once ranked."""

    latent: int
    split: Split
    candidates: list[Candidate]
    ranking: list[float]  # 0..1, of each candidate


@dataclass(frozen=True)
class Pick:
    """What a feature is to be called."""

    text: str
    words: tuple[int, ...]  # normal forms
    others: list[tuple[str, float]]  # the next best candidates with their ranking


def label_features(  # noqa: PLR0917 (all that is known of a collection)
    documents: Sequence[Document],
    codes: Codes,
    table: FeatureTable,
    sae: SAE,
    x_MD: NDArray[np.float32],
    embedder: Embedder | None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> list[Label]:
    """One label for each latent; dead latents, and those whose documents have no words, have none.

    `embedder` must be the one that made `x_MD`. Without it candidates are ranked by contrast alone and
    scored by their words; `Label.predictor` says so. `progress` gets (steps done, steps in all), three
    for each latent. Raises EmbeddingError.
    """
    report = progress or (lambda _done, _total: None)
    n = codes.n_latents
    tokens = tokenise(documents)
    judge: _Judge = (
        _ByWords(WordPredictor(tokens)) if embedder is None else _ByMeaning(embedder, sae, table, x_MD)
    )
    phrases = find_phrases(tokens)
    mined = []
    for latent in np.flatnonzero(codes.counts()).tolist():
        split = split_documents(codes, table, latent, seed)
        candidates = mine(phrases, split.mined, split.mined_near, N_CANDIDATES)
        if candidates:
            mined.append(Choice(latent, split, candidates, [0.0] * len(candidates)))
        report(latent + 1, 3 * n)
    ranked = judge.rank(mined, lambda done, total: report(n + n * done // total, 3 * n))
    labels = [Label(text="", source="none")] * n
    picks = tell_apart(ranked)
    judge.prepare(picks)
    for choice, pick in zip(ranked, picks, strict=True):
        kept, others = choice.split.heldout, choice.split.heldout_against
        score = measure(judge.predict(pick, kept), judge.predict(pick, others))
        labels[choice.latent] = Label(
            text=pick.text,
            source="phrases",
            score=score.auc if score else None,
            score_low=score.low if score else None,
            score_high=score.high if score else None,
            score_n=score.n if score else 0,
            predictor=judge.predictor if score else "too few documents to measure",
            candidates=pick.others,
        )
        report(2 * n + choice.latent + 1, 3 * n)
    report(3 * n, 3 * n)
    return labels


def tell_apart(choices: Sequence[Choice]) -> list[Pick]:
    """A phrase for each feature, no two features the same where their candidates allow it.

    The feature that ranks a phrase highest keeps it. Another takes its own next phrase if that ranks
    nearly as high, else says both: "diffusion, turbulence".
    """
    picks: dict[int, Pick] = {}
    taken: set[tuple[int, ...]] = set()
    for choice in sorted(choices, key=lambda choice: (-choice.ranking[0], choice.latent)):
        used = _first_free(choice, taken)
        said = [choice.candidates[at] for at in used]
        words = tuple(word for candidate in said for word in candidate.words)
        taken.add(words)
        rest = [at for at in range(len(choice.candidates)) if at not in used][:N_SHOWN]
        picks[choice.latent] = Pick(
            text=", ".join(candidate.text for candidate in said),
            words=words,
            others=[(choice.candidates[at].text, choice.ranking[at]) for at in rest],
        )
    return [picks[choice.latent] for choice in choices]


def _first_free(choice: Choice, taken: set[tuple[int, ...]]) -> list[int]:
    """The candidate, or the two of them, that are to name a feature."""
    best = choice.candidates[0].words
    if best not in taken:
        return [0]
    free = [at for at, candidate in enumerate(choice.candidates) if candidate.words not in taken]
    for at in free:
        share = EXACTER if contains(choice.candidates[at].words, best) else STAND_IN
        if choice.ranking[at] >= share * choice.ranking[0]:
            return [at]
    for at in free:
        words = choice.candidates[at].words
        if not contains(words, best) and not contains(best, words) and best + words not in taken:
            return [0, at]
    return [0]


class _Judge(Protocol):
    """Ranks candidates, and predicts from a label which documents have the feature."""

    @property
    def predictor(self) -> str:
        """How scores are measured, in words."""

    def rank(self, choices: Sequence[Choice], report: _Report) -> list[Choice]:
        """The same features, the candidates of each sorted, best first."""

    def prepare(self, picks: Sequence[Pick]) -> None:
        """Get ready to predict from these."""

    def predict(self, pick: Pick, documents: NDArray[np.int64]) -> NDArray[np.float32]:
        """A number for each document, higher where the feature is expected."""


class _ByWords:
    """Without an embedder: contrast, and the label's words in the text."""

    predictor = "BM25 of the label's words in the document (no embedder; ranked by contrast alone)"

    def __init__(self, words: WordPredictor) -> None:
        self._words = words

    def rank(self, choices: Sequence[Choice], report: _Report) -> list[Choice]:
        report(1, 1)
        return [_sorted(choice, _relative(_contrasts(choice))) for choice in choices]

    def prepare(self, picks: Sequence[Pick]) -> None:
        """Words need no preparation."""

    def predict(self, pick: Pick, documents: NDArray[np.int64]) -> NDArray[np.float32]:
        return self._words.predict(pick.words, documents)


class _ByMeaning:
    """With an embedder: contrast, activation and separation; the label's embedding as the predictor."""

    def __init__(self, embedder: Embedder, sae: SAE, table: FeatureTable, x_MD: NDArray[np.float32]) -> None:
        if embedder.width != x_MD.shape[1]:
            raise EmbeddingError(
                f"Labels: {embedder.name} gives {embedder.width} numbers per text, but the documents have "
                f"{x_MD.shape[1]}.",
                remedy="Use the embedder that made the embeddings, or none.",
            )
        self._embedder, self._sae, self._table, self._x_MD = embedder, sae, table, x_MD
        self._vectors: dict[str, NDArray[np.float32]] = {}
        self.predictor = (
            f"cosine of the label's embedding with the document's ({embedder.name}); partly circular: "
            "the feature is read from the same embeddings"
        )

    def rank(self, choices: Sequence[Choice], report: _Report) -> list[Choice]:
        self._embed({candidate.text for choice in choices for candidate in choice.candidates}, report)
        return [self._rank(choice) for choice in choices]

    def prepare(self, picks: Sequence[Pick]) -> None:
        # Two phrases that name a feature together have not been embedded as one text.
        self._embed({pick.text for pick in picks} - self._vectors.keys(), lambda _done, _total: None)

    def predict(self, pick: Pick, documents: NDArray[np.int64]) -> NDArray[np.float32]:
        return np.asarray(self._rows(documents) @ self._vectors[pick.text])

    def _rank(self, choice: Choice) -> Choice:
        vectors_CD = np.stack([self._vectors[candidate.text] for candidate in choice.candidates])
        against = np.concatenate((choice.split.mined_near, choice.split.mined_random))
        separation = 2 * auc(
            vectors_CD @ self._rows(choice.split.mined).T, vectors_CD @ self._rows(against).T
        )
        preactivations = self._sae.preactivations(vectors_CD)[:, choice.latent]
        activation = preactivations / self._table.max_N[choice.latent]
        n_words = np.array([candidate.text.count(" ") + 1 for candidate in choice.candidates])
        parts = (
            BY_CONTRAST * _relative(_contrasts(choice)),
            BY_ACTIVATION * activation.clip(0, 1),
            BY_SEPARATION * (separation - 1).clip(0, 1),
            BY_LENGTH * np.isin(n_words, GOOD_LENGTHS),
        )
        return _sorted(
            choice, np.sum(parts, axis=0) / (BY_CONTRAST + BY_ACTIVATION + BY_SEPARATION + BY_LENGTH)
        )

    def _rows(self, documents: NDArray[np.int64]) -> NDArray[np.float32]:
        return np.asarray(self._x_MD[documents], dtype=np.float32)

    def _embed(self, texts: set[str], report: _Report) -> None:
        ordered = sorted(texts, key=lambda text: (len(text), text))
        for start in range(0, len(ordered), TEXTS_PER_BLOCK):
            block = ordered[start : start + TEXTS_PER_BLOCK]
            self._vectors.update(zip(block, self._embedder.embed(block), strict=True))
            report(min(start + TEXTS_PER_BLOCK, len(ordered)), len(ordered))


def _contrasts(choice: Choice) -> NDArray[np.float64]:
    return np.array([candidate.contrast for candidate in choice.candidates])


def _relative(contrasts: NDArray[np.float64]) -> NDArray[np.float64]:
    """As a share of the best, 0..1."""
    return np.asarray((contrasts / max(float(contrasts.max()), 1e-9)).clip(0, 1))


def _sorted(choice: Choice, ranking: NDArray[np.float64]) -> Choice:
    order = np.argsort(-ranking, kind="stable").tolist()
    return replace(
        choice,
        candidates=[choice.candidates[at] for at in order],
        ranking=[float(ranking[at]) for at in order],
    )
