"""Labels without a language model: the phrase that best tells a feature's documents from its near misses.

Candidates are mined from documents of the feature (`mining`), embedded together, and ranked by how far they
stand out in those documents, how strongly their own embedding activates the feature, and how well it
separates those documents from others. The first few compete in a tournament (`scores`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from sae_core.labels import Candidate, Evidence, Label
from sae_core.labels.mining import Mined, contains, find_phrases, mine
from sae_core.labels.predictors import MeaningPredictor, WordPredictor
from sae_core.labels.scores import Predictor, Split, auc, hold_tournament, split_documents
from sae_core.labels.words import tokenise

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from sae_core.codes import Codes
    from sae_core.corpus import Document
    from sae_core.embed import Embedder
    from sae_core.features import FeatureTable
    from sae_core.sae import SAE

SOURCE = "phrases"
N_CANDIDATES = 12  # embedded, per feature
N_KEPT = 6  # with the label
# Weights of the ranking, chosen by held-out AUC over 10,000 abstracts and by reading.
BY_CONTRAST, BY_ACTIVATION, BY_SEPARATION, BY_LENGTH = 0.5, 1.0, 1.0, 0.3
GOOD_LENGTHS = (2, 3)  # words: "neutron stars" says more than "neutron"
# When another feature has the phrase, a candidate of at least this share of its ranking replaces it: one
# that says the phrase more exactly ("thermal photons"), or any other.
EXACTER, STAND_IN = 0.4, 0.6


@dataclass(frozen=True)
class Choice:
    """A feature on its way to a label: its documents, and its phrases, best first once ranked."""

    latent: int
    split: Split
    phrases: list[Mined]
    parts: list[dict[str, float]]  # of each phrase; "ranking", 0..1, is what they come to

    def ranking(self, at: int) -> float:
        return self.parts[at]["ranking"]


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
    scored by their words; `Score.predictor` says so. `progress` gets (steps done, steps in all), two
    for each latent. Raises EmbeddingError.
    """
    report = progress or (lambda _done, _total: None)
    n = codes.n_latents
    tokens = tokenise(documents)
    words, meaning = WordPredictor(tokens), None if embedder is None else MeaningPredictor(embedder, x_MD)
    phrases = find_phrases(tokens)
    choices = []
    for latent in np.flatnonzero(codes.counts()).tolist():
        split = split_documents(codes, table, latent, seed)
        found = mine(phrases, split.mined.positives, split.mined.near, N_CANDIDATES)
        if found:
            choices.append(Choice(latent, split, found, [{"contrast": each.contrast} for each in found]))
        report(latent + 1, 2 * n)
    if meaning is None:
        ranked = [_sorted(choice, _relative(_contrasts(choice)), {}) for choice in choices]
    else:
        texts = {each.text for choice in choices for each in choice.phrases}
        meaning.embed(texts, lambda done, total: report(n + n * done // total, 2 * n))
        ranked = [_rank(choice, sae, table, meaning) for choice in choices]
    order: list[Predictor] = [words] if meaning is None else [meaning, words]
    labels = [Label("", "none", remark="active on no document")] * n
    for latent in np.flatnonzero(codes.counts()).tolist():
        labels[latent] = Label("", "none", remark="no phrase stands out in its documents")
    made = datetime.now(UTC).date().isoformat()
    held = hold_tournament(tell_apart(ranked), [choice.split for choice in ranked], *_first(order))
    for choice, label in zip(ranked, held, strict=True):
        mined = choice.split.mined
        evidence = Evidence(mined.positives.tolist(), mined.near.tolist(), made=made)
        labels[choice.latent] = replace(label, evidence=evidence)
    report(2 * n, 2 * n)
    return labels


def _first(order: Sequence[Predictor]) -> tuple[Predictor, Sequence[Predictor]]:
    return order[0], order[1:]


def tell_apart(choices: Sequence[Choice]) -> list[list[Candidate]]:
    """The candidates of each feature, best first, no two features the same where that is possible.

    The feature that ranks a phrase highest keeps it. Another takes its own next phrase if that ranks
    nearly as high, else says both: "diffusion, turbulence".
    """
    picks: dict[int, list[Candidate]] = {}
    taken: set[tuple[int, ...]] = set()
    for choice in sorted(choices, key=lambda choice: (-choice.ranking(0), choice.latent)):
        used = _first_free(choice, taken)
        said = [choice.phrases[at] for at in used]
        taken.add(tuple(word for phrase in said for word in phrase.words))
        first = Candidate(", ".join(phrase.text for phrase in said), SOURCE, choice.parts[used[-1]])
        rest = [at for at in range(len(choice.phrases)) if at not in used][: N_KEPT - 1]
        picks[choice.latent] = [
            first, *(Candidate(choice.phrases[at].text, SOURCE, choice.parts[at]) for at in rest)
        ]  # fmt: skip
    return [picks[choice.latent] for choice in choices]


def _first_free(choice: Choice, taken: set[tuple[int, ...]]) -> list[int]:
    """The candidate, or the two of them, that are to name a feature."""
    best = choice.phrases[0].words
    if best not in taken:
        return [0]
    free = [at for at, phrase in enumerate(choice.phrases) if phrase.words not in taken]
    for at in free:
        share = EXACTER if contains(choice.phrases[at].words, best) else STAND_IN
        if choice.ranking(at) >= share * choice.ranking(0):
            return [at]
    for at in free:
        words = choice.phrases[at].words
        if not contains(words, best) and not contains(best, words) and best + words not in taken:
            return [0, at]
    return [0]


def _rank(choice: Choice, sae: SAE, table: FeatureTable, meaning: MeaningPredictor) -> Choice:
    vectors_CD = np.stack(meaning.embed([phrase.text for phrase in choice.phrases]))
    mined = choice.split.mined
    separation = 2 * auc(
        vectors_CD @ meaning.rows(mined.positives).T, vectors_CD @ meaning.rows(mined.negatives).T
    )
    activation = sae.preactivations(vectors_CD)[:, choice.latent] / table.max_N[choice.latent]
    n_words = np.array([phrase.text.count(" ") + 1 for phrase in choice.phrases])
    parts = {
        "contrast": _relative(_contrasts(choice)),
        "activation": activation.clip(0, 1),
        "separation": (separation - 1).clip(0, 1),
        "readability": np.isin(n_words, GOOD_LENGTHS).astype(np.float64),
    }
    weights = (BY_CONTRAST, BY_ACTIVATION, BY_SEPARATION, BY_LENGTH)
    ranking = np.sum([w * part for w, part in zip(weights, parts.values(), strict=True)], axis=0)
    return _sorted(choice, ranking / sum(weights), parts)


def _contrasts(choice: Choice) -> NDArray[np.float64]:
    return np.array([phrase.contrast for phrase in choice.phrases])


def _relative(contrasts: NDArray[np.float64]) -> NDArray[np.float64]:
    """As a share of the best, 0..1."""
    return np.asarray((contrasts / max(float(contrasts.max()), 1e-9)).clip(0, 1))


def _sorted(choice: Choice, ranking: NDArray[np.float64], parts: dict[str, NDArray[np.float64]]) -> Choice:
    columns = {"contrast": ranking, **parts, "ranking": ranking}
    order = np.argsort(-ranking, kind="stable").tolist()
    return replace(
        choice,
        phrases=[choice.phrases[at] for at in order],
        parts=[{name: round(float(part[at]), 4) for name, part in columns.items()} for at in order],
    )
