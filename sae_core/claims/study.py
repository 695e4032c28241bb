"""One SAE of a collection with everything that its claims are measured with."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sae_core import categories as known
from sae_core.claims import trials
from sae_core.claims.model import OURS
from sae_core.codes import make_codes
from sae_core.dictionaries import NAMES, Dictionary, dictionaries
from sae_core.families import FamilyConfig, Forest, coactivate, grow
from sae_core.features import describe
from sae_core.fit import TRAINED, stored_roles
from sae_core.labels.phrases import Labeller
from sae_core.labels.predictors import WordPredictor
from sae_core.labels.words import tokenise
from sae_core.sae import SAE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from sae_core.codes import Codes
    from sae_core.corpus import Document
    from sae_core.embed import Embedder
    from sae_core.explorer import Explorer, FeatureSet
    from sae_core.fit import Report as Progress
    from sae_core.grid import GridResult
    from sae_core.labels.llm import LanguageModel
    from sae_core.labels.words import Tokens

PAPER_FAMILIES = FamilyConfig(algorithm="paper")
N_SAMPLED = 150  # features of each dictionary that are labelled and steered
N_TRIALS = 150


@dataclass(frozen=True)
class GridFolder:
    """A finished grid, and where its members' logs and weights lie."""

    result: GridResult
    folder: Path
    batch: int
    words: str  # where it came from


class Sampled(NamedTuple):
    """Some living features of a dictionary, labelled from phrases like those of every other."""

    named: trials.Named
    codes: Codes


class Study:
    """One SAE of a collection, and what claims need to know of it, made when it is first asked for."""

    def __init__(
        self,
        explorer: Explorer,
        space: FeatureSet,
        documents: Sequence[Document],
        *,
        grid: GridFolder | None = None,
        model: LanguageModel | None = None,
        seed: int = 0,
        n_sampled: int = N_SAMPLED,
        n_trials: int = N_TRIALS,
    ) -> None:
        self.explorer, self.space, self.documents = explorer, space, list(documents)
        self.grid, self.model, self.seed = grid, model, seed
        self.n_sampled, self.n_trials = n_sampled, n_trials
        self.report: Progress = lambda _done, _total, _detail="": None

    @cached_property
    def x_MD(self) -> NDArray[np.float32]:
        """All embeddings."""
        return self.explorer.index.vectors()

    @cached_property
    def is_train_M(self) -> NDArray[np.bool_]:
        """The documents that this SAE was trained on."""
        seed = int(self.space.config.get("seed", 0))
        return np.equal(stored_roles(self.explorer.path, len(self.x_MD), seed), TRAINED)

    @cached_property
    def heldout(self) -> NDArray[np.int64]:
        return np.flatnonzero(~self.is_train_M)

    @cached_property
    def baselines(self) -> list[Dictionary]:
        """PCA, k-means and a random decoder of this size, with their codes."""
        made = dictionaries(self.space.sae, self.x_MD[self.is_train_M], self.seed)
        found = []
        for at, each in enumerate(made):
            self.report(at, len(made), f"encoding with {each.name}")
            found.append(each.encoded(self.x_MD))
        return found

    def codes_of(self, name: str) -> Codes:
        """The codes of this SAE or of a baseline."""
        return self.space.codes if name == OURS else _codes(self._baseline(name))

    def sae_of(self, name: str) -> SAE:
        return self.space.sae if name == OURS else self._baseline(name).sae

    def _baseline(self, name: str) -> Dictionary:
        return next(each for each in self.baselines if each.name == name)

    @cached_property
    def embedder(self) -> Embedder | None:
        """The collection's encoder, which embeds no text twice here: samples share most of their phrases."""
        return _Remembering(self.explorer.embedder) if self.explorer.embedder else None

    @cached_property
    def tokens(self) -> Tokens:
        return tokenise(self.documents)

    @cached_property
    def words(self) -> WordPredictor:
        return WordPredictor(self.tokens)

    @cached_property
    def library(self) -> trials.Library:
        """The held-out documents: what trials search."""
        return trials.Library(np.ascontiguousarray(self.x_MD[self.heldout]), self.heldout, self.words)

    @cached_property
    def queries(self) -> NDArray[np.int64]:
        """Held-out documents that trials begin from."""
        rng = np.random.default_rng((self.seed, 29))
        return rng.permutation(self.heldout)[: self.n_trials]

    @cached_property
    def samples(self) -> dict[str, Sampled]:
        """Of this SAE and of each baseline as many living features, labelled in the same way."""
        return {name: self._sample(name, at) for at, name in enumerate((OURS, *NAMES))}

    def _sample(self, name: str, at: int) -> Sampled:
        codes, sae = self.codes_of(name), self.sae_of(name)
        living = np.flatnonzero(codes.counts())
        rng = np.random.default_rng((self.seed, 31))
        chosen = np.sort(rng.permutation(living)[: self.n_sampled])
        part = SAE(
            W_enc_ND=sae.W_enc_ND[chosen],
            W_dec_ND=sae.W_dec_ND[chosen],
            b_enc_N=sae.b_enc_N[chosen],
            b_dec_D=sae.b_dec_D,
            k=min(sae.k, max(1, len(chosen))),
        )
        own = _columns(codes, chosen)
        table = describe(part, own, self.x_MD)

        def tell(done: int, total: int) -> None:
            self.report(at * total + done, (len(NAMES) + 1) * total, f"labelling features of {name}")

        labeller = Labeller(self.documents, own, table, part, self.x_MD, self.embedder, self.seed, tell)
        return Sampled(trials.Named(part.directions_ND, labeller.features()), own)

    @cached_property
    def categories(self) -> known.Categories | None:
        return known.read_categories(self.documents, self.is_train_M)

    @cached_property
    def category_scores(self) -> list[known.CategoryScores]:
        """Best features of every category, of this SAE and of the baselines; empty without categories."""
        if self.categories is None:
            return []
        codes = {name: self.codes_of(name) for name in (OURS, *NAMES)}
        return known.score_categories(codes, self.categories, self.is_train_M, self.seed)

    @cached_property
    def forests(self) -> dict[str, Forest]:
        """Families by the paper's algorithm, of this SAE and of the baselines."""
        self.report(0, len(self.baselines) + 1, "families by the paper's algorithm")
        found = {OURS: self.space.grow(PAPER_FAMILIES)}
        for at, each in enumerate(self.baselines):
            self.report(at + 1, len(self.baselines) + 1, f"families of {each.name}")
            found[each.name] = grow(coactivate(_codes(each)), PAPER_FAMILIES)
        return found


class _Remembering:
    """An encoder that keeps what it has embedded."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._known: dict[str, NDArray[np.float32]] = {}
        self.name, self.fingerprint, self.width = embedder.name, embedder.fingerprint, embedder.width

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit rows (B, D) in the order of the texts."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            self._known.update(zip(new, self._embedder.embed(new), strict=True))
        rows = [self._known[text] for text in texts]
        return np.stack(rows) if rows else np.zeros((0, self.width), dtype=np.float32)


def _codes(dictionary: Dictionary) -> Codes:
    if dictionary.codes is None:
        raise ValueError(f"{dictionary.name} was not encoded")
    return dictionary.codes


def _columns(codes: Codes, latents: NDArray[np.int64]) -> Codes:
    """The codes of some latents, numbered anew."""
    parts = [codes.of_latent(latent) for latent in latents.tolist()]
    sizes = [len(documents) for documents, _ in parts]
    documents = np.concatenate([documents for documents, _ in parts]) if parts else np.zeros(0)
    values = np.concatenate([values for _, values in parts]) if parts else np.zeros(0)
    return make_codes(
        documents.astype(np.int64),
        np.repeat(np.arange(len(parts)), sizes),
        values.astype(np.float32),
        n_documents=codes.n_documents,
        n_latents=len(parts),
    )
