"""The library's door: one collection, loaded. The app knows this and little else.

explorer = Explorer.load(Path("~/.saefari/collections/demo").expanduser())
answer = explorer.search("k16-n512-3fa9c1", explorer.embed("sparse matrices"), {12: 0.4})
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sae_core import artifact, steer
from sae_core.cache import Cache
from sae_core.codes import Codes
from sae_core.embed import Embedder, load_embedder
from sae_core.errors import EmbedderNotReady, EmbeddingError, NotFoundError
from sae_core.families import Coactivation, Family, FamilyConfig, Forest, grow, load_coactivation
from sae_core.features import FeatureTable
from sae_core.index import Hits, VectorIndex, top
from sae_core.labels import Label
from sae_core.sae import SAE
from sae_core.splitting import Matches

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

MAX_CACHED_BYTES = 256 * 2**20  # products with all documents, per collection
MAX_CACHED_QUERIES = 4096
MAX_CACHED_FORESTS = 16
MAX_LOOKUPS = 2_000_000  # in the co-activation, for the nulls of a forest: some tenths of a second
MAX_QUICK_DOCUMENTS = 200_000  # whose sums take less time than waking a thread
TYPICAL_LOG_DENSITY = (
    -2.0
)  # one document in a hundred: common enough to be useful, rare enough to say something


@dataclass(frozen=True)
class SearchAnswer:
    """A ranking and how it came about."""

    hits: Hits
    total: int  # documents that pass the filter
    steered_x_D: NDArray[np.float32]
    cosine: float  # of the steered query with the query
    explained: float  # share of the query's centred squared norm that its features explain
    baseline_ranks: (
        NDArray[np.int64] | None
    )  # unsteered rank (from 0) of each hit; None if nothing is steered


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
    labels: list[Label]
    coactivation: Coactivation
    forest: Forest  # of the default configuration
    metrics: dict[str, Any]
    config: dict[str, Any]
    history: list[dict[str, float]]
    matches: dict[str, Matches] = field(default_factory=dict)  # by the name of the other SAE
    report: dict[str, Any] | None = None  # what `saefari report` found, as it is stored
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
        low_N = np.array([label.score.auc.low if label.score else 0.5 for label in self.labels])
        trust_N = np.maximum(2 * low_N - 1, 0)
        return np.where(n_N > 0, 0.7 * trust_N + 0.3 * useful_N, 0).astype(np.float32)

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
        self.save_labels(folder)

    def save_labels(self, folder: Path) -> None:
        """Write only what other labels change: those of features and families, and the metrics."""
        artifact.save_json(folder / "labels.json", self.labels)
        if self.label_vectors_ND is not None:
            artifact.save_arrays(folder / "labels", {"vectors_ND": self.label_vectors_ND})
        artifact.save_json(folder / "forest.json", self.forest)
        artifact.save_json(folder / "training.json", {**self.describe(), "history": self.history})

    @classmethod
    def load(cls, folder: Path) -> FeatureSet:
        """Map what `save` wrote."""
        sae = SAE.load(folder / "sae.safetensors")
        arrays = artifact.load_arrays(folder / "codes")
        codes = Codes(n_documents=len(arrays["document_ptr"]) - 1, n_latents=sae.n_latents, **arrays)
        training = artifact.load_json(folder / "training.json")
        return cls(
            name=training["name"],
            sae=sae,
            codes=codes,
            features=FeatureTable(**artifact.load_arrays(folder / "features")),
            labels=[Label.parse(entry) for entry in artifact.load_json(folder / "labels.json")],
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
        metadata = artifact.load_arrays(path / "metadata")
        self.years: NDArray[np.int16] = metadata["years"]  # 0 = unknown
        self.venue_codes: NDArray[np.int32] = metadata["venue_codes"]  # -1 = none
        self.venues: list[str] = artifact.load_json(path / "metadata" / "venues.json")
        folders = [path / "saes" / entry["name"] for entry in manifest["saes"]]
        self.saes = {folder.name: FeatureSet.load(folder) for folder in folders}
        self.embedder_spec: str | None = manifest["embedder"]["spec"]
        self.embedder_state = "loading" if self.embedder_spec else "absent"
        self.embedder_problem = ""
        self._embedder: Embedder | None = None
        self._queries: Cache[NDArray[np.float32]] = Cache(MAX_CACHED_QUERIES, lambda _: 1)
        self._codes: Cache[Code] = Cache(MAX_CACHED_QUERIES, lambda _: 1)
        self._products: Cache[NDArray[np.float32]] = Cache(MAX_CACHED_BYTES, lambda array: array.nbytes)

    @classmethod
    def load(cls, collection: Path) -> Explorer:
        """Verify and map the served generation of a collection's folder."""
        folder = artifact.current(Path(collection))
        return cls(folder, artifact.verify(folder))

    # --- the encoder --------------------------------------------------------------------------

    def load_encoder(self, *, backend: str = "auto", device: str = "auto") -> None:
        """Load the encoder of this collection; seconds. Its failure is kept, other pages go on."""
        if self.embedder_spec is None:
            return
        try:
            self.attach_encoder(_shared_embedder(self.embedder_spec, backend, device))
        except EmbeddingError as error:
            self.embedder_state, self.embedder_problem = "failed", str(error)

    @property
    def embedder(self) -> Embedder | None:
        """The encoder, once it is attached."""
        return self._embedder

    def attach_encoder(self, embedder: Embedder) -> None:
        """Use this embedder for queries; it must be the one that embedded the documents."""
        if embedder.fingerprint != self.manifest["embedder"]["fingerprint"] or embedder.width != self.width:
            self.embedder_state = "failed"
            self.embedder_problem = "The encoder here is not the one that embedded these documents."
            return
        self._embedder, self.embedder_state = embedder, "ready"

    def embed(self, text: str) -> NDArray[np.float32]:
        """The unit embedding of a text, (D,); cached. `EmbedderNotReady` while there is no encoder."""
        if (known := self._queries.get(text)) is not None:
            return known
        if self._embedder is None:
            raise _not_ready(self.embedder_state, self.embedder_problem)
        x_D: NDArray[np.float32] = self._embedder.embed([text])[0]
        self._queries.put(text, x_D)
        return x_D

    # --- search -------------------------------------------------------------------------------

    def get_sae(self, name: str) -> FeatureSet:
        """The SAE of that name; `NotFoundError` names those that are here."""
        if name not in self.saes:
            what = f"{self.name} has no SAE {name}. It may have been rebuilt: other weights get another name."
            raise NotFoundError(what, remedy=f"Here are: {', '.join(self.saes)}.")
        return self.saes[name]

    def search(
        self,
        sae: str,
        x_D: NDArray[np.float32],
        strengths: Mapping[int, float],
        *,
        allowed: NDArray[np.bool_] | None = None,
        offset: int = 0,
        limit: int = 10,
    ) -> SearchAnswer:
        """Rank all documents against the steered query.

        `strengths` sets activations by latent; empty, or equal to the query's own, gives exactly the plain
        semantic ranking. `allowed` (M,) filters documents. Hits are those from `offset`, at most `limit`.
        """
        space, code = self.get_sae(sae), self.code(sae, x_D)
        deltas = steer.changes(strengths, code.own)
        steered_D, length = steer.move(x_D, deltas, space.sae.directions_ND)
        base_M = self._product(x_D.tobytes(), x_D)
        scores_M = steer.combine(base_M, lambda latent: self._column(space, latent), deltas, length)
        hits = top(scores_M, offset + limit, allowed)
        hits = Hits(hits.positions[offset:], hits.scores[offset:])
        return SearchAnswer(
            hits=hits,
            total=self.n_documents if allowed is None else int(np.count_nonzero(allowed)),
            steered_x_D=steered_D,
            cosine=float(x_D @ steered_D) if deltas else 1.0,
            explained=code.explained,
            baseline_ranks=self._baseline_ranks(base_M, x_D, hits, allowed) if deltas else None,
        )

    def knows(self, sae: str, text: str, latents: Iterable[int]) -> bool:
        """Whether a steered search of this text would only add up products that are already known."""
        x_D = self._queries.get(text)
        if x_D is None or self.n_documents > MAX_QUICK_DOCUMENTS:
            return False
        known = [self._products.get(key) for key in (x_D.tobytes(), *((sae, latent) for latent in latents))]
        return all(products is not None for products in known)

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

    def _baseline_ranks(
        self,
        base_M: NDArray[np.float32],
        x_D: NDArray[np.float32],
        hits: Hits,
        allowed: NDArray[np.bool_] | None,
    ) -> NDArray[np.int64]:
        if allowed is not None:
            return _ranks(base_M, np.sort(base_M[allowed]), hits.positions, allowed)
        key = ("sorted", x_D.tobytes())
        if (sorted_M := self._products.get(key)) is None:
            sorted_M = np.sort(base_M)
            self._products.put(key, sorted_M)
        return _ranks(base_M, sorted_M, hits.positions, None)

    def _column(self, space: FeatureSet, latent: int) -> NDArray[np.float32]:
        return self._product((space.name, latent), space.sae.directions_ND[latent])

    def _product(self, key: object, x_D: NDArray[np.float32]) -> NDArray[np.float32]:
        if (known := self._products.get(key)) is None:
            known = self.index.products(x_D)
            self._products.put(key, known)
        return known


def _ranks(
    scores_M: NDArray[np.float32],
    sorted_M: NDArray[np.float32],
    positions: NDArray[np.int64],
    allowed: NDArray[np.bool_] | None,
) -> NDArray[np.int64]:
    """Rank (from 0) of documents by score, ties by position, among those allowed.

    `sorted_M` holds the scores of those allowed, smallest first.
    """
    scores = scores_M[positions]
    first, last = (np.searchsorted(sorted_M, scores, side) for side in ("left", "right"))
    ranks = len(sorted_M) - last
    for at in np.flatnonzero(last - first > 1):
        equal = scores_M[: positions[at]] == scores[at]
        ranks[at] += np.count_nonzero(equal if allowed is None else equal & allowed[: positions[at]])
    return ranks


def _not_ready(state: str, problem: str) -> EmbedderNotReady:
    if state == "absent":
        what = "These documents came with embeddings made elsewhere, so a text cannot be embedded here."
        return EmbedderNotReady(what, remedy="Start from a document or a feature instead.")
    if state == "failed":
        return EmbedderNotReady(f"The encoder could not be loaded: {problem}", remedy="Browsing still works.")
    return EmbedderNotReady("The encoder is still being loaded.", remedy="Try again in a few seconds.")


_embedders: dict[tuple[str, str, str], Embedder] = {}
_embedders_lock = threading.Lock()


def _shared_embedder(spec: str, backend: str, device: str) -> Embedder:
    """One encoder for all collections that use it."""
    with _embedders_lock:
        key = (spec, backend, device)
        if key not in _embedders:
            _embedders[key] = load_embedder(spec, backend=backend, device=device)
        return _embedders[key]
