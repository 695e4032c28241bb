"""The library's door: one collection, loaded. The app knows this and little else.

explorer = Explorer.load(Path("~/.saefari/collections/demo").expanduser())
answer = explorer.search("k16-n512-3fa9c1", explorer.start("sparse matrices"), Moves({12: 0.4}))
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sae_core import artifact, explain, feedback, steer
from sae_core.cache import Cache
from sae_core.codes import Codes
from sae_core.embed import Embedder, RowsError, is_remote, is_same, load_embedder
from sae_core.endpoint import Endpoint
from sae_core.errors import EmbedderNotReady, EmbeddingError, NotFoundError, SaefariError
from sae_core.explain import Faithfulness, Why
from sae_core.families import Coactivation, Family, FamilyConfig, Forest, grow, load_coactivation
from sae_core.features import FeatureTable
from sae_core.feedback import Marked, Proposal, Sliders
from sae_core.filters import Filters, Metadata
from sae_core.index import Hits, VectorIndex
from sae_core.labels import Label
from sae_core.labels.stored import StoredLabels
from sae_core.ranking import Fusion, Groups, Ordered, Ranking, by_words, first
from sae_core.refine import refine
from sae_core.sae import SAE
from sae_core.splitting import Matches
from sae_core.steer import CancelledQuery, Edit, Moves, make_edit
from sae_core.sums import Sums

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

MAX_PLACES_BYTES = 64 * 2**20  # positions of documents that pass filters, per collection
MAX_CACHED_PLAINS = 512  # rankings of which `DEPTH` documents are kept, 20 bytes each
MAX_CACHED_QUERIES = 4096
MAX_CACHED_EDITS = 512
MAX_QUICK_NUMBERS = 8_000_000  # that are added up in about a millisecond
SECONDS_OF_PEACE = 10.0  # between two questions to an encoder's endpoint that failed
MAX_CACHED_FORESTS = 16
MAX_LOOKUPS = 2_000_000  # in the co-activation, for the nulls of a forest: some tenths of a second
DEPTH = 1000  # documents of a ranking within which movements are followed
N_STANDING = 10  # documents with the words of a text whose mean stands for it where it cannot be embedded
N_LEARNED = 200  # best documents whose order tells proposals apart
TYPICAL_LOG_DENSITY = (
    -2.0
)  # one document in a hundred: common enough to be useful, rare enough to say something


NO_MOVES, NO_FILTERS = Moves(), Filters()

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SearchAnswer:
    """A ranking and how it came about.

    The baseline is the same search without moves, required and excluded features. Where nothing is steered,
    all about it is None: the ranking is the baseline.
    """

    hits: Hits  # of the page; scores are cosines with the steered query
    fused: NDArray[np.float64] | None  # by what the hits are ordered, where words have a say
    best: float  # the score of the first document; fused where there are fused ones; 0 without documents
    total: int  # documents that can be found on some page
    edit: Edit
    pool: Hits  # the first `DEPTH` of this ranking
    explained: float  # share of the query's centred squared norm that its features explain
    baseline_ranks: NDArray[np.int64] | None = None  # of each hit, from 0; -1: not among its first `DEPTH`
    baseline: Hits | None = None  # its first `limit`
    moved_ranks: NDArray[np.int64] | None = None  # of each of these in this ranking; -1: filtered out,
    # `DEPTH`: not among the first `DEPTH`


@dataclass(frozen=True)
class Code:
    """A unit vector and its own features."""

    x_D: NDArray[np.float32]
    own: dict[int, float]  # activations by latent; what explains most of the vector, z_i (d_i . x), first
    explained: float  # share of the vector's centred squared norm that all of them explain


@dataclass(frozen=True)
class FeatureSet:
    """An SAE with everything that was computed from it."""

    name: str
    sae: SAE
    codes: Codes
    features: FeatureTable
    labels: Sequence[Label]
    coactivation: Coactivation
    forest: Forest  # of the default configuration
    metrics: dict[str, Any]
    config: dict[str, Any]
    history: list[dict[str, float]]
    matches: dict[str, Matches] = field(default_factory=dict)  # by the name of the other SAE
    report: dict[str, Any] | None = None  # what `saefari report` found, as it is stored
    evaluation: dict[str, Any] | None = None  # what `saefari eval` found, as it is stored
    label_vectors_ND: NDArray[np.float16] | None = None  # unit rows, 0 where no label; None: no encoder

    @cached_property
    def quality_N(self) -> NDArray[np.float32]:
        """The default order of features, 0..1: a mix of how far the label can be trusted and of usefulness.

        0.7 x (lower end of the label score's interval, rescaled so that chance is 0) + 0.3 x (closeness
        of the density to one in a hundred, on a logarithmic scale). Dead features have 0.
        """
        n_N = np.asarray(self.features.n_documents_N, dtype=np.float64)
        log_density_N = np.log10(np.maximum(n_N, 1) / max(self.codes.n_documents, 1))
        useful_N = np.exp(-0.5 * (log_density_N - TYPICAL_LOG_DENSITY) ** 2)
        trust_N = np.maximum(2 * self._of_labels[0] - 1, 0)
        return np.where(n_N > 0, 0.7 * trust_N + 0.3 * useful_N, 0).astype(np.float32)

    @cached_property
    def named_N(self) -> NDArray[np.bool_]:
        """Features that fire and have a label."""
        return self._of_labels[1] & (np.asarray(self.features.n_documents_N) > 0)

    @cached_property
    def _of_labels(self) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Lower ends of their scores' intervals, and whether they have a text: read in one go."""
        low_N, is_named_N = np.full(len(self.labels), 0.5), np.zeros(len(self.labels), dtype=np.bool_)
        for latent, label in enumerate(self.labels):
            is_named_N[latent] = label.source != "none" and bool(label.text)
            if label.score is not None:
                low_N[latent] = label.score.auc.low
        return low_N, is_named_N

    @property
    def families(self) -> list[Family]:
        """Those of the stored forest."""
        return self.forest.families

    @cached_property
    def _forests(self) -> Cache[Forest]:
        return Cache(MAX_CACHED_FORESTS, lambda _: 1)

    def grow(self, config: FamilyConfig) -> Forest:
        """The forest of another configuration, from the stored co-activation; cached."""
        if config == self.forest.config:
            return self.forest
        if (known := self._forests.get(config)) is None:
            known = grow(self.coactivation, config, self.sae.levels_N(), most_lookups=MAX_LOOKUPS)
            self._forests.put(config, known)
        return known

    @cached_property
    def _families_by_latent(self) -> dict[int, Family]:
        found: dict[int, Family] = {}
        for family in sorted(self.families, key=lambda family: len(family.members)):
            for latent in family.members:
                found.setdefault(latent, family)
        return found

    def family_of(self, latent: int) -> Family | None:
        """The smallest family that has the feature, or None."""
        return self._families_by_latent.get(latent)

    def family_of_documents(self) -> NDArray[np.int32]:
        """The family of each document's strongest feature that has one, by its place in `families`; or -1."""
        place_of = {family.id: place for place, family in enumerate(self.families)}
        families_N = np.full(self.codes.n_latents, -1, dtype=np.int32)
        for latent, family in self._families_by_latent.items():
            families_N[latent] = place_of[family.id]
        found = families_N[self.codes.latents]
        at = np.flatnonzero(found >= 0)  # of each document strongest first, so that the first one counts
        sizes_M = np.diff(self.codes.document_ptr)
        documents = np.repeat(np.arange(self.codes.n_documents), sizes_M)[at]
        is_first = np.diff(documents, prepend=-1) != 0
        families_M = np.full(self.codes.n_documents, -1, dtype=np.int32)
        families_M[documents[is_first]] = found[at[is_first]]
        return families_M

    def describe(self) -> dict[str, Any]:
        """What the manifest says of this SAE: name, size, metrics."""
        return {"name": self.name, "metrics": self.metrics, "config": self.config}

    def save(self, folder: Path) -> None:
        """Write everything below `folder`. Inverse of `load`."""
        folder.mkdir(parents=True, exist_ok=True)
        self.sae.save(folder / "sae.safetensors")
        artifact.save_arrays(folder / "codes", self.codes.arrays())
        artifact.save_arrays(folder / "features", vars(self.features))
        artifact.save_arrays(folder / "coactivation", self.coactivation.arrays())
        for other, matches in self.matches.items():
            artifact.save_arrays(folder / "matches" / other, vars(matches))
        if self.report is not None:
            artifact.save_json(folder / "report.json", self.report)
        if self.evaluation is not None:
            artifact.save_json(folder / "evaluation.json", self.evaluation)
        self.save_labels(folder)

    def save_labels(self, folder: Path) -> None:
        """Write only what other labels change: those of features and families, and the metrics."""
        artifact.save_json(folder / "labels.json", list(self.labels))
        if self.label_vectors_ND is not None:
            artifact.save_arrays(folder / "labels", {"vectors_ND": self.label_vectors_ND})
        artifact.save_json(folder / "forest.json", self.forest)
        artifact.save_json(folder / "training.json", {**self.describe(), "history": self.history})

    @classmethod
    def load(cls, folder: Path) -> FeatureSet:
        """Map what `save` wrote."""
        sae = SAE.load(folder / "sae.safetensors", is_mapped=True)
        arrays = artifact.load_arrays(folder / "codes")
        codes = Codes(n_documents=len(arrays["document_ptr"]) - 1, n_latents=sae.n_latents, **arrays)
        training = artifact.load_json(folder / "training.json")
        return cls(
            name=training["name"],
            sae=sae,
            codes=codes,
            features=FeatureTable(**artifact.load_arrays(folder / "features")),
            labels=StoredLabels(folder / "labels.json"),
            coactivation=load_coactivation(codes, artifact.load_arrays(folder / "coactivation")),
            forest=Forest.parse(artifact.load_json(folder / "forest.json")),
            metrics=training["metrics"],
            config=training["config"],
            history=training["history"],
            matches={
                other.name: Matches(**artifact.load_arrays(other))
                for other in sorted((folder / "matches").glob("*"))
            },
            report=artifact.load_json(path) if (path := folder / "report.json").is_file() else None,
            evaluation=artifact.load_json(path) if (path := folder / "evaluation.json").is_file() else None,
            label_vectors_ND=artifact.load_arrays(folder / "labels").get("vectors_ND"),
        )


class Explorer:
    """One generation of one collection: embed, search, steer, and everything stored about features."""

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        self.path, self.manifest = path, manifest
        artifact.keep(path, self)
        self.name: str = manifest["name"]
        self.title: str = manifest["title"]
        self.generation: str = manifest["generation"]
        self.index = VectorIndex.load(path / "index.faiss")
        self.n_documents, self.width = self.index.n, self.index.width
        self.metadata = _load_metadata(path / "metadata")
        folders = [path / "saes" / entry["name"] for entry in manifest["saes"]]
        self.saes = {folder.name: FeatureSet.load(folder) for folder in folders}
        self.embedder_spec: str | None = manifest["embedder"]["spec"]
        self.embedder_state = "loading" if self.embedder_spec else "absent"
        self.embedder_problem = ""
        self._embedder: Embedder | None = None
        self._endpoint: Endpoint | None = None
        self._asks_again = threading.Lock()  # held by the one who tries an endpoint that failed
        self._asks_again_at = 0.0
        self._queries: Cache[NDArray[np.float32]] = Cache(MAX_CACHED_QUERIES, lambda _: 1)
        self._codes: Cache[Code] = Cache(MAX_CACHED_QUERIES, lambda _: 1)
        self._sums = Sums(self.index)
        self._passing: Cache[NDArray[np.int64]] = Cache(MAX_PLACES_BYTES, lambda places: places.nbytes)
        self._plains: Cache[Ordered] = Cache(MAX_CACHED_PLAINS, lambda _: 1)
        self._edits: Cache[Edit] = Cache(MAX_CACHED_EDITS, lambda _: 1)
        self._alike: Cache[Groups] = Cache(MAX_CACHED_FORESTS, lambda _: 1)
        self._faithful: Cache[Faithfulness] = Cache(MAX_CACHED_QUERIES, lambda _: 1)

    @classmethod
    def load(cls, collection: Path) -> Explorer:
        """Verify and map the served generation of a collection's folder, which names it."""
        folder = artifact.current(Path(collection))
        return cls(folder, {**artifact.verify(folder), "name": Path(collection).resolve().name})

    # --- the encoder --------------------------------------------------------------------------

    def load_encoder(
        self, *, backend: str = "auto", device: str = "auto", endpoint: Endpoint | None = None
    ) -> None:
        """Load the encoder of this collection; seconds. Its failure is kept, other pages go on.

        One behind an `endpoint` is asked for a vector, within the endpoint's limit; where it fails, a later
        query tries again.
        """
        if self.embedder_spec is None:
            return
        self._endpoint = endpoint
        truncate = self.manifest["embedder"].get("truncate")
        try:
            if is_remote(self.embedder_spec):
                embedder = load_embedder(self.embedder_spec, endpoint=endpoint, truncate=truncate)
            else:
                embedder = _shared_embedder(self.embedder_spec, backend, device, truncate)
            self.attach_encoder(embedder)
        except EmbeddingError as error:
            self._lose_encoder(str(error))

    @property
    def embedder(self) -> Embedder | None:
        """The encoder, once it is attached."""
        return self._embedder

    def attach_encoder(self, embedder: Embedder) -> None:
        """Use this embedder for queries; it must be the one that embedded the documents."""
        if not is_same(self.manifest["embedder"], embedder) or embedder.width != self.width:
            self._lose_encoder("The encoder here is not the one that embedded these documents.")
            return
        self._embedder, self.embedder_state, self.embedder_problem = embedder, "ready", ""

    def embed(self, text: str) -> NDArray[np.float32]:
        """The unit embedding of a text, (D,); cached. `EmbedderNotReady` while there is no encoder.

        An endpoint that fails is left alone for `SECONDS_OF_PEACE`; until then nobody waits for it.
        """
        if (known := self._queries.get(text)) is not None:
            return known
        embedder = self._embedder or self._encoder_that_came_back()
        if embedder is None:
            raise _not_ready(self.embedder_state, self.embedder_problem)
        try:
            x_D: NDArray[np.float32] = embedder.embed([text])[0]
        except RowsError as error:
            what = f"This text could not be embedded: {error.why}."
            raise EmbedderNotReady(what, remedy="Try other words.") from error
        except EmbeddingError as error:
            self._lose_encoder(error.what)
            raise _not_ready(self.embedder_state, self.embedder_problem) from error
        self._queries.put(text, x_D)
        return x_D

    def _lose_encoder(self, problem: str) -> None:
        logger.warning("%s has no encoder: %s", self.name, problem)
        if self._endpoint is not None:  # its address concerns no visitor
            with contextlib.suppress(SaefariError):
                problem = problem.replace(self._endpoint.where, "its endpoint")
        self._embedder, self.embedder_state = None, "failed"
        self.embedder_problem = problem[:1].upper() + problem[1:]
        self._asks_again_at = time.monotonic() + SECONDS_OF_PEACE

    def _encoder_that_came_back(self) -> Embedder | None:
        """What is behind the endpoint, if it answers again; one caller asks, the others do not wait."""
        if self._endpoint is None or self.embedder_state != "failed":
            return None
        if time.monotonic() >= self._asks_again_at and self._asks_again.acquire(blocking=False):
            try:
                self.load_encoder(endpoint=self._endpoint)
            finally:
                self._asks_again.release()
        return self._embedder

    # --- search -------------------------------------------------------------------------------

    def get_sae(self, name: str) -> FeatureSet:
        """The SAE of that name; `NotFoundError` names those that are here."""
        if name not in self.saes:
            what = f"{self.name} has no SAE {name}. It may have been rebuilt: other weights get another name."
            raise NotFoundError(what, remedy=f"Here are: {', '.join(self.saes)}.")
        return self.saes[name]

    @property
    def text_problem(self) -> str | None:
        """Why a text cannot be embedded now, in a sentence; None where nothing is known against it."""
        if self.embedder_state == "ready":
            return None
        return _not_ready(self.embedder_state, self.embedder_problem).what

    def start(
        self,
        text: str = "",
        like: Sequence[int] = (),
        unlike: Sequence[int] = (),
        *,
        words: Sequence[int] = (),
    ) -> NDArray[np.float32]:
        """The unit query (D,) of a text, documents it shall be like, and documents it shall be unlike.

        All count alike. For a text that cannot be embedded the documents with its `words`, best match first,
        can stand: the mean of the first ten. `EmbedderNotReady` only if there is a text; `CancelledQuery` if
        no direction is left.
        """
        wanted = [self.embed(text)] if text else []
        if len(words):
            wanted.append(self._standing(words))
        wanted += [self.vector(position) for position in like]
        if len(wanted) == 1 and not unlike:
            return wanted[0]
        summed_D = np.zeros(self.width)
        for x_D in wanted:
            summed_D += x_D
        for position in unlike:
            summed_D -= self.vector(position)
        return steer.unit(summed_D, len(wanted) + len(unlike))

    def search(
        self,
        sae: str,
        x_D: NDArray[np.float32],
        moves: Moves = NO_MOVES,
        *,
        filters: Filters = NO_FILTERS,
        required: Iterable[int] = (),
        excluded: Iterable[int] = (),
        keywords: NDArray[np.int64] | None = None,
        weight: float = 0.0,
        diverse: bool = False,
        offset: int = 0,
        limit: int = 10,
    ) -> SearchAnswer:
        """Rank all documents against the query x_D (D,), steered by `moves`.

        Without moves this is plain semantic ranking, ids and scores. Only documents that pass the filters,
        have all `required` features and none of those `excluded`, by stored activation, are ranked.
        `keywords` are documents by rank among words, which count `weight` (0..1) in a reciprocal rank fusion.
        `diverse` leaves one document of each feature family. Hits are those from `offset`, at most `limit`.
        `CancelledQuery` if the moves leave no direction.
        """
        space, code = self.get_sae(sae), self.code(sae, x_D)
        edit = self._edit(space, x_D, moves)
        required, excluded = frozenset(required), frozenset(excluded)
        fusion = None if keywords is None or weight == 0 else Fusion(np.asarray(keywords), weight)
        asked = _Asked(space, x_D, filters, fusion, diverse)
        n = max(DEPTH, offset + limit)
        if not (edit.deltas or required or excluded):
            return _answer(self._plain(asked, n), edit, code.explained, offset, limit)
        baseline = self._plain(asked, DEPTH)
        places = self._places(space, filters, required, excluded)
        # A fusion needs the ranks of many documents: these are read from exact products, or are much work.
        ranking = (
            self._sums.steered(space.name, x_D, edit, space.sae.directions_ND)
            if fusion is None
            else self._sums.plain(edit.steered_D)
        )
        steered = self._first(asked, ranking, places, n)
        answer = _answer(steered, edit, code.explained, offset, limit)
        return _compared(answer, baseline, steered, places, limit)

    def search_words(
        self,
        sae: str,
        x_D: NDArray[np.float32],
        moves: Moves = NO_MOVES,
        *,
        words: NDArray[np.int64],
        filters: Filters = NO_FILTERS,
        required: Iterable[int] = (),
        excluded: Iterable[int] = (),
        diverse: bool = False,
        offset: int = 0,
        limit: int = 10,
    ) -> SearchAnswer:
        """Rank the documents with the words of a text that cannot be embedded: `search` without an encoder.

        `words` are these documents, at most a thousand, best match first; no other is found. x_D is the query
        of `start`, in which they stand for the text. They stay in their order, except that moves, and the
        documents that the query is to be like, let some gain places (`ranking.by_words`).
        """
        space, code = self.get_sae(sae), self.code(sae, x_D)
        edit = self._edit(space, x_D, moves)
        required, excluded = frozenset(required), frozenset(excluded)
        groups = self._groups(space) if diverse else None
        standing_D = self._standing(words)

        def ranked(places: NDArray[np.int64] | None, moved_D: NDArray[np.float32]) -> Ordered:
            kept = words if places is None else words[np.isin(words, places)]
            before, after = (self.index.products_at(vector_D, kept) for vector_D in (standing_D, moved_D))
            return by_words(kept, before, after, groups)

        baseline = ranked(self._places(space, filters), x_D)
        if not (edit.deltas or required or excluded):
            return _answer(baseline, edit, code.explained, offset, limit)
        places = self._places(space, filters, required, excluded)
        steered = ranked(places, edit.steered_D)
        answer = _answer(steered, edit, code.explained, offset, limit)
        return _compared(answer, baseline, steered, places, limit)

    def _standing(self, words: Sequence[int] | NDArray[np.int64]) -> NDArray[np.float32]:
        """The unit mean of the first documents with the words of a text, (D,)."""
        best = list(words[:N_STANDING])
        return steer.unit(self.index.vectors()[best].sum(axis=0, dtype=np.float64), len(best))

    def _plain(self, asked: _Asked, n: int) -> Ordered:
        """The first `n` documents without moves and demands; the first `DEPTH` are remembered."""
        if n > DEPTH:
            return self._first(
                asked, self._sums.plain(asked.x_D), self._places(asked.space, asked.filters), n
            )
        if (known := self._plains.get(asked.key)) is None:
            known = self._first(
                asked, self._sums.plain(asked.x_D), self._places(asked.space, asked.filters), DEPTH
            )
            self._plains.put(asked.key, known)
        return known

    def _first(self, asked: _Asked, ranking: Ranking, places: NDArray[np.int64] | None, n: int) -> Ordered:
        """The first `n` documents of a ranking, of those at `places`."""
        if places is not None:
            ranking = ranking.among(places)
        return first(
            ranking, n, fusion=asked.fusion, groups=self._groups(asked.space) if asked.diverse else None
        )

    def _places(
        self,
        space: FeatureSet,
        filters: Filters,
        required: frozenset[int] = frozenset(),
        excluded: frozenset[int] = frozenset(),
    ) -> NDArray[np.int64] | None:
        """Rising positions of the documents that may be found; None stands for all."""
        allowed = self.metadata.allowed(filters)
        if allowed is None and not required and not excluded:
            return None
        key = (space.name if required or excluded else "", filters, required, excluded)
        if (known := self._passing.get(key)) is not None:
            return known
        passes = np.ones(self.n_documents, dtype=np.bool_) if allowed is None else allowed.copy()
        for latent in required:
            has = np.zeros(self.n_documents, dtype=np.bool_)
            has[space.codes.of_latent(latent)[0]] = True
            passes &= has
        for latent in excluded:
            passes[space.codes.of_latent(latent)[0]] = False
        places = np.flatnonzero(passes)
        self._passing.put(key, places)
        return places

    def _groups(self, space: FeatureSet) -> Groups:
        """The family of each document's strongest feature that has one."""
        if (known := self._alike.get(space.name)) is None:
            known = Groups(space.family_of_documents())
            self._alike.put(space.name, known)
        return known

    # --- what a search means ------------------------------------------------------------------

    def why(self, sae: str, position: int, edit: Edit) -> Why:
        """The score of one document under a steered query, as a sum of its features."""
        space = self.get_sae(sae)
        return explain.why(self.vector(position), *space.codes.of_document(position), edit, space.sae)

    def preview(
        self,
        sae: str,
        x_D: NDArray[np.float32],
        moves: Moves,
        answer: SearchAnswer,
        steps: Sequence[tuple[int, float]],
    ) -> NDArray[np.int64]:
        """How many places the first 200 of an answer would rise or fall with each step of a strength.

        (steps, at most 200); a step is a latent and what is added to its strength. A millisecond for 64.
        """
        return explain.preview(
            self.index.vectors(),
            answer.pool.positions,
            steps,
            x_D=x_D,
            moves=moves,
            edit=answer.edit,
            directions_ND=self.get_sae(sae).sae.directions_ND,
        )

    def faithfulness(self, sae: str, x_D: NDArray[np.float32]) -> Faithfulness:
        """How much of a vector its features speak for; cached, at first two scans of the index."""
        key = (sae, x_D.tobytes())
        if (known := self._faithful.get(key)) is None:
            known = explain.faithfulness(self.index, self.get_sae(sae).sae, x_D)
            self._faithful.put(key, known)
        return known

    def propose(
        self,
        sae: str,
        x_D: NDArray[np.float32],
        moves: Moves,
        marked: Marked,
    ) -> list[Proposal]:
        """At most five moves that bring what is marked up nearer, and take what is marked down away.

        Features that are ignored, dead or without a name are not proposed. `others` are the documents that
        the wanted ones are to come before; the best of the search are added to them. `SaefariError` without
        marks.
        """
        space, own = self.get_sae(sae), self.code(sae, x_D).own
        plain = replace(moves, refine=False)
        edit = make_edit(x_D, plain, own, space.sae.directions_ND)
        stands = {latent: own.get(latent, 0.0) + delta / edit.scale for latent, delta in edit.deltas.items()}
        usable_N = space.named_N.copy()
        usable_N[sorted(moves.ignored)] = False
        sliders = Sliders(
            moved_D=edit.length * edit.steered_D - x_D,
            stands={**own, **stands},
            usable_N=usable_N,
            strong_N=space.features.quantiles_NQ[:, -1],
        )
        best = self.search(sae, x_D, plain).pool.positions[:N_LEARNED].tolist()
        marked = replace(marked, others=[*marked.others, *best])
        return feedback.propose(space.sae, space.codes, self.index.vectors(), marked, sliders)

    def has_embedded(self, text: str) -> bool:
        """Whether `start` needs no encoder for this text."""
        return not text or self._queries.get(text) is not None

    def knows(
        self,
        sae: str,
        x_D: NDArray[np.float32],
        moves: Moves,
        *,
        filters: Filters = NO_FILTERS,
        required: Iterable[int] = (),
        excluded: Iterable[int] = (),
    ) -> bool:
        """Whether a search adds up what is known, and no more than takes less time than waking a thread."""
        space, required, excluded = self.get_sae(sae), frozenset(required), frozenset(excluded)
        key = (space.name if required or excluded else "", filters, required, excluded)
        is_filtered = bool(required or excluded or filters != NO_FILTERS)
        if moves.refine or (is_filtered and self._passing.get(key) is None):
            return False
        is_new = self._plains.get(_Asked(space, x_D, filters, None, diverse=False).key) is None
        if is_new or self._faithful.get((sae, x_D.tobytes())) is None:
            return False
        try:
            edit = self._edit(space, x_D, moves)
        except CancelledQuery:
            return True
        passes = self._sums.n_passes(sae, x_D, edit)
        return passes < self.width and passes * self.n_documents <= MAX_QUICK_NUMBERS

    def _edit(self, space: FeatureSet, x_D: NDArray[np.float32], moves: Moves) -> Edit:
        """What moves make of a query; remembered, as it is asked for before and in a search."""
        families = tuple((tuple(family.shares.items()), family.amount) for family in moves.families)
        strengths = tuple(moves.strengths.items())
        key = (space.name, x_D.tobytes(), strengths, moves.ignored, families, moves.keep, moves.refine)
        if (known := self._edits.get(key)) is None:
            own = self.code(space.name, x_D).own
            known = make_edit(x_D, moves, own, space.sae.directions_ND, partial(refine, space.sae, x_D))
            self._edits.put(key, known)
        return known

    def neighbours(self, position: int, n: int) -> Hits:
        """The documents nearest to a document, itself excluded."""
        hits = self.index.search(self.index.vector(position), n + 1)
        others = hits.positions != position
        return Hits(hits.positions[others][:n], hits.scores[others][:n])

    def vector(self, position: int) -> NDArray[np.float32]:
        """The embedding of a document, (D,)."""
        return self.index.vector(position)

    def code(self, sae: str, x_D: NDArray[np.float32]) -> Code:
        """The features of one vector; cached."""
        key = (sae, x_D.tobytes())
        if (known := self._codes.get(key)) is not None:
            return known
        model = self.get_sae(sae).sae
        coded = model.encode(x_D[None])
        latents, values = coded.row()
        order = np.argsort(-values * (model.directions_ND[latents] @ x_D), kind="stable")
        own = dict(zip(latents[order].tolist(), values[order].tolist(), strict=True))
        share = steer.explained(x_D, model.decode(coded)[0], model.b_dec_D)
        code = Code(x_D, own, share)
        self._codes.put(key, code)
        return code


@dataclass(frozen=True)
class _Asked:
    """What a search and its baseline have in common."""

    space: FeatureSet
    x_D: NDArray[np.float32]
    filters: Filters
    fusion: Fusion | None
    diverse: bool

    @property
    def key(self) -> object:
        words = None if self.fusion is None else (self.fusion.positions.tobytes(), self.fusion.weight)
        return self.x_D.tobytes(), self.filters, words, self.space.name if self.diverse else None


def _load_metadata(folder: Path) -> Metadata:
    arrays = artifact.load_arrays(folder)
    return Metadata(
        years_M=arrays["years"],
        venue_codes_M=arrays["venue_codes"],
        citations_M=arrays["citations"],
        category_ptr=arrays["category_ptr"],
        category_codes=arrays["category_codes"],
        venues=artifact.load_json(folder / "venues.json"),
        categories=artifact.load_json(folder / "categories.json"),
    )


def _answer(ordered: Ordered, edit: Edit, explained: float, offset: int, limit: int) -> SearchAnswer:
    """The page of a ranking; nothing about its baseline."""
    page = slice(offset, offset + limit)
    hits, fused = ordered.hits, ordered.fused
    best = hits.scores if fused is None else fused
    return SearchAnswer(
        hits=Hits(hits.positions[page], hits.scores[page]),
        fused=None if fused is None else fused[page],
        best=float(best[0]) if len(best) else 0.0,
        total=ordered.total,
        edit=edit,
        pool=Hits(hits.positions[:DEPTH], hits.scores[:DEPTH]),
        explained=explained,
    )


def _compared(
    answer: SearchAnswer, baseline: Ordered, steered: Ordered, places: NDArray[np.int64] | None, limit: int
) -> SearchAnswer:
    """The answer with what has moved against the baseline; `places` are those that may be found."""
    shown = Hits(baseline.hits.positions[:limit], baseline.hits.scores[:limit])
    moved_ranks = _places_in(steered.hits.positions[:DEPTH], shown.positions, DEPTH)
    if places is not None:
        moved_ranks[~np.isin(shown.positions, places)] = -1
    return replace(
        answer,
        baseline_ranks=_places_in(baseline.hits.positions, answer.hits.positions, -1),
        baseline=shown,
        moved_ranks=moved_ranks,
    )


def _places_in(ranked: NDArray[np.int64], positions: NDArray[np.int64], absent: int) -> NDArray[np.int64]:
    """The rank of each of `positions` among those `ranked`, from 0; `absent` where it is not there."""
    rank_of = {position: rank for rank, position in enumerate(ranked.tolist())}
    return np.array([rank_of.get(position, absent) for position in positions.tolist()], dtype=np.int64)


def _not_ready(state: str, problem: str) -> EmbedderNotReady:
    if state == "absent":
        what = "These documents came with embeddings made elsewhere, so a text cannot be embedded here."
        return EmbedderNotReady(what, remedy="Search for words, or start from a document or a feature.")
    if state == "failed":
        what = f"The encoder is not there: it could not be loaded, or does not answer. {problem}"
        remedy = "Words are found all the same, and starting from a document or a feature still works."
        return EmbedderNotReady(what, remedy=remedy)
    return EmbedderNotReady("The encoder is still being loaded.", remedy="Try again in a few seconds.")


_embedders: dict[tuple[str, str, str, int | None], Embedder] = {}
_embedders_lock = threading.Lock()


def _shared_embedder(spec: str, backend: str, device: str, truncate: int | None) -> Embedder:
    """One encoder for all collections that use it."""
    with _embedders_lock:
        key = (spec, backend, device, truncate)
        if key not in _embedders:
            _embedders[key] = load_embedder(spec, backend=backend, device=device, truncate=truncate)
        return _embedders[key]
