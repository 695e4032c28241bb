"""Labels without a language model: the phrase that best tells a feature's documents from its near misses.

A vocabulary of phrases is chosen and embedded once for the whole corpus (`mining`). The candidates of a
feature are those of its mined documents that stand out in them, and those whose own embedding activates the
feature most. Each candidate is judged by parts between 0 and 1:

    contrast     the share of mined documents that have the phrase, less that of near misses and others
    wording      2 AUC - 1 of its words (BM25), mined documents against near misses and others
    separation   2 AUC - 1 of its embedding's cosine, on the same documents
    activation   of the feature by the phrase's own embedding, over the feature's maximum
    specificity  the feature's share of all that the phrase's embedding activates

    ranking = readability x mean of these parts

Without an embedder there are the first two. The first few compete in a tournament (`scores`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from sae_core.labels import Candidate, Evidence, Label
from sae_core.labels.mining import Phrases, Vocabulary, choose_vocabulary, find_phrases, shortlist
from sae_core.labels.predictors import MeaningPredictor, WordPredictor
from sae_core.labels.scores import N_ENTERED, Predictor, Split, auc, hold_tournament, split_documents
from sae_core.labels.words import tokenise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from sae_core.codes import Codes
    from sae_core.corpus import Document
    from sae_core.embed import Embedder
    from sae_core.features import FeatureTable
    from sae_core.sae import SAE

SOURCE = "phrases"
N_STANDING_OUT, N_ACTIVE = 24, 40  # candidates of a feature: by contrast, and by activation
VOCABULARY = 30_000  # common phrases, besides those that stand out somewhere
LATENTS_PER_BLOCK = 256
N_KEPT = 8  # with the label
MIN_RANKING = 0.15  # of a label; a feature whose best phrase has less is left unlabelled
ENTERS = 0.9  # share of the best ranking that a candidate needs to enter the tournament
# When another feature has the phrase, a candidate of at least this share of its ranking replaces it: one
# that says the phrase more exactly ("thermal photons"), or any other.
EXACTER, STAND_IN = 0.6, 0.75


@dataclass(frozen=True)
class Choice:
    """A feature on its way to a label: its documents, and its candidates, best first."""

    latent: int
    split: Split
    candidates: list[Candidate]
    keys: list[tuple[int, ...]]  # of each candidate: its words in any order

    def ranking(self, at: int) -> float:
        return self.candidates[at].parts["ranking"]


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
    """One label for each latent; where there is none, `Label.remark` says why.

    `embedder` must be the one that made `x_MD`. Without it candidates are ranked by contrast alone and
    scored by their words; `Score.predictor` says so. `progress` gets (steps done, steps in all), three
    for each latent. Raises EmbeddingError.
    """
    report = progress or (lambda _done, _total: None)
    n = codes.n_latents
    tokens = tokenise(documents)
    words = WordPredictor(tokens)
    meaning = None if embedder is None else MeaningPredictor(embedder, x_MD)
    phrases = find_phrases(tokens)
    splits, standing_out = {}, {}
    for latent in np.flatnonzero(codes.counts()).tolist():
        split = splits[latent] = split_documents(codes, table, latent, seed)
        standing_out[latent] = shortlist(phrases, split.mined.positives, split.mined.near, N_STANDING_OUT)
        report(latent + 1, 3 * n)
    vocabulary = choose_vocabulary(
        phrases, {each for found in standing_out.values() for each in found}, VOCABULARY if meaning else 0
    )
    judge = _Judge(phrases, vocabulary, words, meaning, sae, table)
    judge.embed(lambda done, total: report(n + n * done // max(total, 1), 3 * n))
    choices = []
    for choice in judge.choices(splits, standing_out):
        choices.append(choice)
        report(2 * n + choice.latent, 3 * n)
    labels = [Label("", "none", remark="active on no document")] * n
    for latent in splits:
        labels[latent] = Label("", "none", remark="no phrase stands out in its documents")
    order: list[Predictor] = [words] if meaning is None else [meaning, words]
    for choice, label in zip(choices, _name(choices, order), strict=True):
        labels[choice.latent] = label
    report(3 * n, 3 * n)
    return labels


def _name(choices: Sequence[Choice], order: Sequence[Predictor]) -> list[Label]:
    """A label for each choice: phrases told apart, then the tournament; none where even the best is poor."""
    made = datetime.now(UTC).date().isoformat()
    candidates, entered = tell_apart(choices)
    splits = [choice.split for choice in choices]
    held = hold_tournament(candidates, splits, order[0], order[1:], judges=order, entered=entered)
    labels = []
    for choice, label in zip(choices, held, strict=True):
        mined = choice.split.mined
        whole = replace(label, evidence=Evidence(mined.positives.tolist(), mined.near.tolist(), made=made))
        if label.candidates[0].parts["ranking"] < MIN_RANKING:
            remark = "no phrase tells its documents from others"
            whole = replace(whole, text="", source="none", score=None, other_scores=[], remark=remark)
        labels.append(whole)
    return labels


class _Judge:
    """Finds the candidates of features and ranks them."""

    def __init__(  # noqa: PLR0917 (all that is known of a collection)
        self,
        phrases: Phrases,
        vocabulary: Vocabulary,
        words: WordPredictor,
        meaning: MeaningPredictor | None,
        sae: SAE,
        table: FeatureTable,
    ) -> None:
        self._phrases, self._vocabulary = phrases, vocabulary
        self._words, self._meaning, self._sae, self._table = words, meaning, sae, table

    def embed(self, report: Callable[[int, int], None]) -> None:
        """Embed the vocabulary, and sum up what each phrase activates."""
        if self._meaning is None:
            return
        texts = self._vocabulary.texts
        self._vectors_VD = np.zeros((len(texts), self._sae.width), dtype=np.float32)
        if texts:
            self._vectors_VD[:] = self._meaning.embed(texts, report)
        self._total_V = np.ones(len(texts), dtype=np.float32)
        for start in range(0, len(texts), 4096):
            coded = self._sae.encode(self._vectors_VD[start : start + 4096])
            self._total_V[start : start + 4096] = coded.values_BK.sum(axis=1)

    def choices(self, splits: dict[int, Split], standing_out: dict[int, list[int]]) -> Iterator[Choice]:
        """The features that have candidates, by latent."""
        latents = sorted(splits)
        for start in range(0, len(latents), LATENTS_PER_BLOCK):
            block = latents[start : start + LATENTS_PER_BLOCK]
            a_VB = None if self._meaning is None else self._preactivations(block)
            for column, latent in enumerate(block):
                places = self._vocabulary.place_P[standing_out[latent]].astype(np.int64)
                a_V = None if a_VB is None else a_VB[:, column]
                shares_V = self._vocabulary.shares(self._phrases, splits[latent].mined.positives)
                if a_V is not None:
                    here = np.flatnonzero(shares_V)
                    most = here[np.argsort(-a_V[here], kind="stable")[:N_ACTIVE]]
                    places = np.union1d(places, most)
                if len(places):
                    yield self._rank(latent, splits[latent], places, a_V)

    def _preactivations(self, latents: list[int]) -> NDArray[np.float32]:
        sae = self._sae
        centred_VD = self._vectors_VD - sae.b_dec_D
        return np.asarray(centred_VD @ sae.W_enc_ND[latents].T + sae.b_enc_N[latents])

    def _rank(
        self, latent: int, split: Split, places: NDArray[np.int64], a_V: NDArray[np.float32] | None
    ) -> Choice:
        texts = [self._vocabulary.texts[place] for place in places]
        positives, negatives = split.mined.positives, split.mined.negatives
        shares = [
            self._vocabulary.shares(self._phrases, documents)[places] for documents in (positives, negatives)
        ]
        wording = auc(self._words.compare(texts, positives), self._words.compare(texts, negatives))
        columns = {"contrast": shares[0] - shares[1], "wording": 2 * wording - 1}
        if a_V is not None and self._meaning is not None:
            columns["activation"] = a_V[places] / self._table.max_N[latent]
            columns["specificity"] = a_V[places] / np.maximum(self._total_V[places], 1e-9)
            vectors_CD = self._vectors_VD[places]
            columns["separation"] = (
                2
                * auc(
                    vectors_CD @ self._meaning.rows(positives).T, vectors_CD @ self._meaning.rows(negatives).T
                )
                - 1
            )
        columns = {name: column.clip(0, 1) for name, column in columns.items()}
        columns["readability"] = self._vocabulary.readability_V[places]
        columns["ranking"] = np.mean(list(columns.values())[:-1], axis=0) * columns["readability"]
        return self._sorted(latent, split, places, columns)

    def _sorted(
        self, latent: int, split: Split, places: NDArray[np.int64], columns: dict[str, NDArray[np.float64]]
    ) -> Choice:
        candidates, keys = [], []
        for at in np.lexsort((places, -columns["ranking"])).tolist():
            key = self._vocabulary.keys[places[at]]
            if key not in keys:
                parts = {name: round(float(column[at]), 4) for name, column in columns.items()}
                candidates.append(Candidate(self._vocabulary.texts[places[at]], SOURCE, parts))
                keys.append(key)
        return Choice(latent, split, candidates, keys)


def tell_apart(choices: Sequence[Choice]) -> tuple[list[list[Candidate]], list[int]]:
    """The candidates of each feature, best first, and how many of the first may name it.

    A phrase names one feature only. The feature that ranks its best phrase highest comes first; another one
    takes its own next phrase if that ranks nearly as high, else says both: "diffusion, turbulence". Besides
    that one only phrases that no other feature ranks higher may name it.
    """
    owners: dict[tuple[int, ...], tuple[float, int]] = {}
    for choice in choices:
        for at, key in enumerate(choice.keys):
            owners[key] = max(owners.get(key, (0.0, 0)), (choice.ranking(at), -choice.latent))
    picks: dict[int, tuple[list[Candidate], int]] = {}
    taken: set[tuple[int, ...]] = set()
    for choice in sorted(choices, key=lambda choice: (-choice.ranking(0), choice.latent)):
        first, key, at = _first_free(choice, taken)
        taken.add(key)
        floor = ENTERS * first.parts["ranking"]
        own = [
            each
            for each in range(at + 1, len(choice.keys))
            if choice.ranking(each) >= floor
            and choice.keys[each] not in taken
            and owners[choice.keys[each]][1] == -choice.latent
        ][: N_ENTERED - 1]
        taken.update(choice.keys[each] for each in own)
        heads = [first, *(choice.candidates[each] for each in own)]
        rest = [each for each in choice.candidates if each not in heads]
        picks[choice.latent] = ([*heads, *rest][:N_KEPT], len(heads))
    ordered = [picks[choice.latent] for choice in choices]
    return [found for found, _ in ordered], [n for _, n in ordered]


def _first_free(choice: Choice, taken: set[tuple[int, ...]]) -> tuple[Candidate, tuple[int, ...], int]:
    """The candidate that a feature is to have, what it says, and its place (the last, if there is none)."""
    best, whole = choice.ranking(0), set(choice.keys[0])
    free = [at for at, key in enumerate(choice.keys) if key not in taken]
    for at in free:
        share = EXACTER if whole < set(choice.keys[at]) else STAND_IN
        if at == 0 or choice.ranking(at) >= share * best:
            return choice.candidates[at], choice.keys[at], at
    for at in free:
        key = tuple(sorted((*choice.keys[0], *choice.keys[at])))
        if key not in taken and whole.isdisjoint(choice.keys[at]):
            text = f"{choice.candidates[0].text}, {choice.candidates[at].text}"
            return replace(choice.candidates[0], text=text), key, len(choice.keys)
    return choice.candidates[0], choice.keys[0], len(choice.keys)
