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

from sae_core.errors import tidy
from sae_core.labels import Candidate, Evidence, Label
from sae_core.labels.mining import choose_vocabulary, find_phrases, shortlist
from sae_core.labels.predictors import MeaningPredictor, WordPredictor
from sae_core.labels.scores import N_ENTERED, Predictor, Split, auc, hold_tournament, split_documents
from sae_core.labels.words import tokenise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from collections.abc import Set as AbstractSet

    from numpy.typing import NDArray

    from sae_core.codes import Codes
    from sae_core.corpus import Document
    from sae_core.embed import Embedder
    from sae_core.features import FeatureTable
    from sae_core.sae import SAE

SOURCE = "phrases"
NEVER_FIRES = "active on no document"  # the remark of a label that is not there
N_STANDING_OUT, N_ACTIVE = 24, 40  # candidates of a feature: by contrast, and by activation
VOCABULARY = 30_000  # common phrases, besides those that stand out somewhere
LATENTS_PER_BLOCK, PHRASES_PER_BLOCK = 256, 4096
N_KEPT = 8  # with the label
MIN_RANKING = 0.15  # of a label, and of one of its parts that documents decide; else there is none
ENTERS = 0.9  # share of the best ranking that a candidate needs to enter the tournament
# When another feature has the phrase, a candidate of at least this share of its ranking replaces it: one
# that says the phrase more exactly ("thermal photons"), or any other.
EXACTER, STAND_IN = 0.6, 0.75


@dataclass(frozen=True)
class Choice:
    """A feature or a family on its way to a label: its documents, and its candidates, best first."""

    id: int  # the latent; of a family its place in the list
    split: Split
    candidates: list[Candidate]
    keys: list[tuple[int, ...]]  # of each candidate: its words in any order

    def ranking(self, at: int) -> float:
        return self.candidates[at].parts["ranking"]


class Labeller:
    """Names the features of an SAE, and its families (`label_families`), by phrases of the corpus.

    `embedder` must be the one that made `x_MD`. Without it candidates are ranked by words alone and scored
    by them; `Score.predictor` says so. Where there is no label or no score, `Label.remark` says why.
    `progress` gets (steps done, steps in all), three for each latent. Raises EmbeddingError.

    With `beside`, the labels that all latents have, only those that fire and have none are named, by phrases
    that stand out in their documents and name no other.
    """

    def __init__(  # noqa: PLR0917 (all that is known of a collection)
        self,
        documents: Sequence[Document],
        codes: Codes,
        table: FeatureTable,
        sae: SAE,
        x_MD: NDArray[np.float32],
        embedder: Embedder | None,
        seed: int = 0,
        progress: Callable[[int, int], None] | None = None,
        *,
        beside: Sequence[Label] | None = None,
    ) -> None:
        self.codes, self.table, self.seed = codes, table, seed
        self._sae, self._report = sae, progress or (lambda _done, _total: None)
        tokens = tokenise(documents)
        self._words = WordPredictor(tokens)
        self._meaning = None if embedder is None else MeaningPredictor(embedder, x_MD)
        self.phrases = find_phrases(tokens)
        self._taken = {tuple(sorted(tokens.normals(label.text))) for label in beside or () if label.text}
        self._splits, self._standing_out = self._shortlist(unnamed(codes, beside))
        picked = {number for numbers in self._standing_out.values() for number in numbers}
        n_common = VOCABULARY if self._meaning and beside is None else 0
        self.vocabulary = choose_vocabulary(self.phrases, picked, n_common)
        self._vectors_VD, self._total_V = self._embed()

    def features(self) -> list[Label]:
        """One label for each latent."""
        n = self.codes.n_latents
        labels = [Label("", "none", remark=NEVER_FIRES)] * n
        choices = []
        for latent, activation_V in self.activations(sorted(self._splits)):
            labels[latent] = Label("", "none", remark="no phrase stands out in its documents")
            choice = self._choose(latent, activation_V)
            if choice.candidates:
                choices.append(choice)
            self._report(2 * n + latent, 3 * n)
        for choice, label in zip(choices, self.name(choices), strict=True):
            labels[choice.id] = label
        self._report(3 * n, 3 * n)
        return labels

    def name(self, choices: Sequence[Choice]) -> list[Label]:
        """A label for each choice: phrases told apart, then the tournament; none if even the best is poor."""
        made = datetime.now(UTC).date().isoformat()
        order: list[Predictor] = [self._words] if self._meaning is None else [self._meaning, self._words]
        candidates, entered = tell_apart(choices, self._taken)
        splits = [choice.split for choice in choices]
        held = hold_tournament(candidates, splits, order[0], order[1:], judges=order, entered=entered)
        labels = []
        for choice, label in zip(choices, held, strict=True):
            mined = choice.split.mined
            evidence = Evidence(mined.positives.tolist(), mined.near.tolist(), made=made)
            whole = replace(label, evidence=evidence)
            if _is_poor(label.candidates[0].parts):
                remark = "no phrase tells its documents from others"
                whole = replace(whole, text="", source="none", score=None, other_scores=[], remark=remark)
            labels.append(whole)
        return labels

    def activations(self, latents: Sequence[int]) -> Iterator[tuple[int, NDArray[np.float64] | None]]:
        """Of each latent: by each phrase of the vocabulary, over its maximum, (V,). None: no embedder."""
        sae = self._sae
        for start in range(0, len(latents), LATENTS_PER_BLOCK):
            block = list(latents[start : start + LATENTS_PER_BLOCK])
            if self._vectors_VD is None:
                yield from ((latent, None) for latent in block)
                continue
            a_VB = (self._vectors_VD - sae.b_dec_D) @ sae.W_enc_ND[block].T + sae.b_enc_N[block]
            for column, latent in enumerate(block):
                maximum = float(self.table.max_N[latent]) or np.inf  # a dead latent: nothing activates it
                yield latent, a_VB[:, column] / maximum

    def rank(
        self, number: int, split: Split, places: NDArray[np.int64], more: dict[str, NDArray[np.float64]]
    ) -> Choice:
        """Places of the vocabulary as candidates, judged by mined documents, and by `more` parts."""
        texts = [self.vocabulary.texts[place] for place in places]
        positives, negatives = split.mined.positives, split.mined.negatives
        shares = [self.shares(documents)[places] for documents in (positives, negatives)]
        wording = auc(self._words.compare(texts, positives), self._words.compare(texts, negatives))
        parts = {"contrast": shares[0] - shares[1], "wording": 2 * wording - 1}
        if self._meaning is not None and self._vectors_VD is not None:
            cosines = [
                self._vectors_VD[places] @ self._meaning.rows(some).T for some in (positives, negatives)
            ]
            parts["separation"] = 2 * auc(*cosines) - 1
        parts = {name: column.clip(0, 1) for name, column in (parts | more).items()}
        ranking = np.mean(list(parts.values()), axis=0) * self.vocabulary.readability_V[places]
        parts |= {"readability": self.vocabulary.readability_V[places], "ranking": ranking}
        candidates, keys = [], []
        for at in np.lexsort((places, -ranking)).tolist():
            key = self.vocabulary.keys[places[at]]
            if key not in keys:
                rounded = {name: round(float(column[at]), 4) for name, column in parts.items()}
                candidates.append(Candidate(texts[at], SOURCE, rounded))
                keys.append(key)
        return Choice(number, split, candidates, keys)

    def specificity(self, places: NDArray[np.int64], activations: NDArray[np.float64]) -> NDArray[np.float64]:
        """The share that some activations have in all that these phrases activate."""
        return np.asarray(activations / np.maximum(self._total_V[places], 1e-9))

    def shares(self, documents: NDArray[np.int64]) -> NDArray[np.float64]:
        """The share of some documents that have each phrase of the vocabulary, (V,)."""
        return self.vocabulary.shares(self.phrases, documents)

    def _shortlist(self, latents: Sequence[int]) -> tuple[dict[int, Split], dict[int, list[int]]]:
        """Of each of some latents its documents, and the phrases that stand out in those to mine."""
        splits, standing_out = {}, {}
        for latent in latents:
            split = splits[latent] = split_documents(self.codes, self.table, latent, self.seed)
            mined = split.mined
            standing_out[latent] = shortlist(self.phrases, mined.positives, mined.near, N_STANDING_OUT)
            self._report(latent + 1, 3 * self.codes.n_latents)
        return splits, standing_out

    def _embed(self) -> tuple[NDArray[np.float32] | None, NDArray[np.float32]]:
        """The vectors of the vocabulary (None: no embedder), and all that each of them activates."""
        texts, n = self.vocabulary.texts, self.codes.n_latents
        total_V = np.zeros(len(texts), dtype=np.float32)
        if self._meaning is None:
            return None, total_V
        vectors_VD = np.zeros((len(texts), self._sae.width), dtype=np.float32)
        if texts:
            vectors_VD[:] = self._meaning.embed(
                texts, lambda done, total: self._report(n + n * done // total, 3 * n)
            )
        for start in range(0, len(texts), PHRASES_PER_BLOCK):
            block = slice(start, start + PHRASES_PER_BLOCK)
            total_V[block] = self._sae.encode(vectors_VD[block]).values_BK.sum(axis=1)
        return vectors_VD, total_V

    def _choose(self, latent: int, activation_V: NDArray[np.float64] | None) -> Choice:
        """The candidates of a latent, ranked."""
        split = self._splits[latent]
        places = self.vocabulary.place_P[self._standing_out[latent]].astype(np.int64)
        if activation_V is None:
            return self.rank(latent, split, np.unique(places), {})
        here = np.flatnonzero(self.shares(split.mined.positives))
        most = here[np.argsort(-activation_V[here], kind="stable")[:N_ACTIVE]]
        places = np.union1d(places, most)
        activation = activation_V[places]
        specificity = self.specificity(places, self.table.max_N[latent] * activation)
        parts = {"activation": activation, "specificity": specificity}
        return self.rank(latent, split, places, parts)


def unnamed(codes: Codes, labels: Sequence[Label] | None = None) -> list[int]:
    """Latents that fire, without those of which these labels say more than that they did not."""
    living: list[int] = np.flatnonzero(codes.counts()).tolist()
    return [latent for latent in living if labels is None or labels[latent].remark == NEVER_FIRES]


def _is_poor(parts: dict[str, float]) -> bool:
    """Whether a phrase says too little, or nothing that the documents bear out."""
    from_documents = (parts["contrast"], parts["wording"], parts.get("separation", 0.0))
    return min(parts["ranking"], max(from_documents)) < MIN_RANKING


def tell_apart(
    choices: Sequence[Choice], named: AbstractSet[tuple[int, ...]] = frozenset()
) -> tuple[list[list[Candidate]], list[int]]:
    """The candidates of each feature, best first, and how many of the first may name it.

    A phrase names one feature only. The feature that ranks its best phrase highest comes first; another one
    takes its own next phrase if that ranks nearly as high, else says both: "diffusion, turbulence". Besides
    that one only phrases that no other feature ranks higher may name it. What is `named` already is taken.
    """
    owners: dict[tuple[int, ...], tuple[float, int]] = {}
    for choice in choices:
        for at, key in enumerate(choice.keys):
            owners[key] = max(owners.get(key, (0.0, 0)), (choice.ranking(at), -choice.id))
    picks: dict[int, tuple[list[Candidate], int]] = {}
    taken: set[tuple[int, ...]] = set(named)
    for choice in sorted(choices, key=lambda choice: (-choice.ranking(0), choice.id)):
        first, key, at = _first_free(choice, taken)
        taken.add(key)
        floor = ENTERS * first.parts["ranking"]
        own = [
            each
            for each in range(at + 1, len(choice.keys))
            if choice.ranking(each) >= floor
            and choice.keys[each] not in taken
            and owners[choice.keys[each]][1] == -choice.id
        ][: N_ENTERED - 1]
        taken.update(choice.keys[each] for each in own)
        heads = [first, *(choice.candidates[each] for each in own)]
        rest = [each for each in choice.candidates if each not in heads]
        picks[choice.id] = ([*heads, *rest][:N_KEPT], len(heads))
    ordered = [picks[choice.id] for choice in choices]
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
            return replace(choice.candidates[0], text=tidy(text)), key, len(choice.keys)
    return choice.candidates[0], choice.keys[0], len(choice.keys)
