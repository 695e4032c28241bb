"""Documents that come to a collection which is built, or leave it: the same SAEs, nothing trained.

    update = Update(explorer, home, console)
    addition = update.compare(corpus)           # what is new, what replaces a text, what is there already
    update.add(addition, write_catalogue)       # a new generation; the old one stays until it is complete
    update.remove(["2401.00001"], write_catalogue)

A document that stays keeps its vector, its activations and its label's evidence; everything that is counted
over documents is counted anew. What is added comes last, what replaces a text takes its place, and the others
close up: positions may change, ids are what links are made of.
"""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from sae_core import artifact, metrics
from sae_core.codes import encode_rows, join_documents
from sae_core.corpus import Corpus, Doubles, Lazy, known_by, write_rejected
from sae_core.drift import measure_drift, parse_drift
from sae_core.embed import KeptEmbedder, embed_corpus, is_remote, load_again
from sae_core.errors import EmbeddingError, SaefariError, TrainingError
from sae_core.files import explain_write_errors, write_atomic
from sae_core.fit import ADDED, HELD_OUT, TRAINED, save_roles, stored_roles
from sae_core.labels.phrases import Labeller, unnamed
from sae_core.labels.predictors import embed_labels
from sae_core.report import report_text
from sae_core.rows import AS_IT_IS, Reading
from sae_core.stages import (
    MIN_DOCUMENTS,
    SAME_SPACE,
    TimedConsole,
    check_encoder,
    describe_codes,
    hash_of,
    match_saes,
    read_vectors,
    write_documents,
)
from sae_core.texts import FILE_NAME, MAX_AT_ONCE, Texts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from sae_core.corpus import Document
    from sae_core.drift import Drift
    from sae_core.embed import Embedder
    from sae_core.endpoint import Endpoint
    from sae_core.explorer import Explorer, FeatureSet
    from sae_core.families import Forest
    from sae_core.fit import Console
    from sae_core.labels import Label

    WriteCatalogue = Callable[[Path, Sequence[Document], Sequence[FeatureSet]], None]

T = TypeVar("T")
MIN_SCORED = 2  # documents of each kind, without which errors stay as they were measured before
REMEDY = "Give --embeddings FILE with vectors by the one that did, or build the collection again."


@dataclass(frozen=True)
class Addition:
    """What the documents of a corpus are to a collection."""

    corpus: Corpus
    chosen: NDArray[np.int64]  # which of its documents come in
    replaces: NDArray[np.int64]  # the position of the text that each of these replaces; -1: it is new
    same: dict[int, int]  # documents of the corpus that are there already, and where
    rejected: list[tuple[int, str, str]]  # rows that are another document's double, as in a corpus

    @property
    def incoming(self) -> Corpus:
        """Those that come in."""
        return Corpus(_Some(self.corpus.documents, self.chosen), [])

    @property
    def n_new(self) -> int:
        return int((self.replaces < 0).sum())

    @property
    def n_replaced(self) -> int:
        return len(self.replaces) - self.n_new

    def counts(self) -> dict[str, int]:
        """Rejected rows by reason."""
        return {**self.corpus.counts(), **Counter(reason for _, reason, _ in self.rejected)}


@dataclass(frozen=True)
class Change:
    """What an update did, as the manifest keeps it."""

    kind: str  # "add" or "remove"
    n_before: int
    n_documents: int
    n_new: int = 0
    n_replaced: int = 0
    n_same: int = 0  # there already, left alone
    n_removed: int = 0
    n_absent: int = 0  # ids that no document has
    rejected: dict[str, int] = field(default_factory=dict)
    repaired: dict[str, int] = field(default_factory=dict)
    made: str = ""  # when it was published; "" where nothing had to change
    drift: dict[str, dict[str, Any]] = field(default_factory=dict)  # by SAE, as in its metrics
    n_first: dict[str, int] = field(default_factory=dict)  # by SAE: features that fire for the first time
    seconds: dict[str, float] = field(default_factory=dict)

    def drifts(self, sae: str) -> dict[str, Drift]:
        """What was measured for an SAE: see `drift.parse_drift`."""
        return parse_drift(self.drift.get(sae))


class Update:
    """Another set of documents for a collection."""

    def __init__(
        self,
        explorer: Explorer,
        home: Path,
        console: Console,
        *,
        endpoint: Endpoint | None = None,
        backend: str = "auto",
        device: str = "auto",
    ) -> None:
        """`endpoint` is where an encoder openai:MODEL is; `backend` and `device` are for one that is here."""
        self.explorer, self._cache = explorer, home / "cache"
        self.collection = explorer.path.parents[1]
        self._seconds: dict[str, float] = {}
        self._console = TimedConsole(console, self._seconds)
        self._texts = Texts(explorer.path / FILE_NAME)
        self._how: dict[str, Any] = {"endpoint": endpoint, "backend": backend, "device": device}
        self._embedder: Embedder | None = None
        saes = list(explorer.saes.values())
        seed = int(saes[0].config.get("seed", 0)) if saes else 0
        self._roles_M = stored_roles(explorer.path, explorer.n_documents, seed)

    def close(self) -> None:
        """Let go of the catalogue."""
        self._texts.close()

    # --- adding -------------------------------------------------------------------------------------

    def compare(self, corpus: Corpus) -> Addition:
        """Which documents are new here, which replace another text of their id, and which are there already.

        A document with the title of another one here is refused, as it would be in one file with it.
        """
        with self._console.stage("Comparing"):
            same: dict[int, int] = {}
            coming: list[tuple[int, int]] = []
            for number, (document, position, known) in enumerate(self._beside(corpus.documents)):
                if known is not None and known.text == document.text:
                    same[number] = position
                else:
                    coming.append((number, position))
            doubles = self._doubles({position for _, position in coming}) if coming else None
            rows = corpus.rows if coming else []
            rejected, chosen = [], []
            for number, position in coming:
                document = corpus.documents[number]
                key, what = known_by(document)
                if doubles is not None and key in doubles:
                    reason = f"duplicate {what} of a document that is there"
                    rejected.append((rows[number] + 1, reason, f"{document.id}: {document.title}"[:120]))
                else:
                    chosen.append((number, position))
            pairs = np.array(chosen, dtype=np.int64).reshape(-1, 2)
            return Addition(corpus, pairs[:, 0], pairs[:, 1], same, rejected)

    def _beside(self, documents: Sequence[Document]) -> Iterator[tuple[Document, int, Document | None]]:
        """Each document with the position and the document that its id has here; -1, None: it has none."""
        for start in range(0, len(documents), MAX_AT_ONCE):
            block = list(documents[start : start + MAX_AT_ONCE])
            at = self._texts.find_positions([document.id for document in block])
            known = dict(zip(at.values(), self._texts.documents(list(at.values())), strict=True))
            for document in block:
                position = at.get(document.id, -1)
                yield document, position, known.get(position)

    def _doubles(self, replaced: set[int]) -> Doubles:
        """By what the documents are known that stay as they are."""
        documents = _Documents(self._texts, np.arange(self.explorer.n_documents), ())
        doubles = Doubles(lambda position: known_by(documents[position])[0])
        for position, document in enumerate(documents):
            if position not in replaced and (key := known_by(document)[0]) not in doubles:
                doubles.add(key, position)
        return doubles

    def add(
        self,
        addition: Addition,
        write_catalogue: WriteCatalogue,
        *,
        embeddings: Path | None = None,
        reading: Reading = AS_IT_IS,
        is_limited: bool = False,
    ) -> Change:
        """Publish the collection with what comes in; nothing is published where nothing does.

        Only texts that come in are embedded, or their vectors read from the file `embeddings`, see
        `read_vectors`. `SaefariError` for what a person can mend; what was served stays.
        """
        corpus, n = addition.corpus, self.explorer.n_documents
        change = Change(
            kind="add",
            n_before=n,
            n_documents=n + addition.n_new,
            n_new=addition.n_new,
            n_replaced=addition.n_replaced,
            n_same=len(addition.same),
            rejected=addition.counts(),
            repaired=corpus.repaired,
        )
        if not len(addition.chosen):
            return change
        with self._writing():
            fresh_BD = self._vectors(addition, embeddings, reading, is_limited=is_limited)
            is_new = addition.replaces < 0
            places = np.concatenate((np.arange(n), np.zeros(addition.n_new, dtype=np.int64)))
            places[np.where(is_new, n + np.cumsum(is_new) - 1, addition.replaces)] = -1 - np.arange(
                len(is_new)
            )
            documents = _Documents(self._texts, places, addition.incoming.documents)

            def write_rows(folder: Path, number: int) -> None:
                rejected = sorted([*corpus.rejected, *addition.rejected])
                write_rejected(Corpus([], rejected), folder / f"rejected-{number}.jsonl")

            return self._publish(documents, fresh_BD, change, write_catalogue, write_rows)

    def _vectors(
        self, addition: Addition, embeddings: Path | None, reading: Reading, *, is_limited: bool
    ) -> NDArray[np.float32]:
        """The unit vectors of the documents that come in, by the encoder of the collection."""
        said, incoming = self.explorer.manifest["embedder"], addition.incoming
        if said["spec"] is not None:
            with self._console.stage("Loading the encoder"):
                self._embedder = load_again(said, REMEDY, **self._how)
        if embeddings is None:
            if self._embedder is None:
                what = f"{self.explorer.name} has no encoder: its embeddings were made elsewhere."
                raise EmbeddingError(what, remedy="Give those of the new documents with --embeddings FILE.")
            with self._console.stage("Embedding") as report:
                return embed_corpus(incoming.texts, self._embedder, self._cache, report)
        with self._console.stage("Reading embeddings"):
            reading = replace(reading, truncate=said.get("truncate"))
            whole_MD = read_vectors(embeddings, addition.corpus, reading, is_limited=is_limited)
            self._check_file(embeddings, whole_MD, addition.same)
        fresh_BD = whole_MD[addition.chosen]
        if self._embedder is not None:
            check_encoder(self._embedder, incoming.documents, fresh_BD)
        return fresh_BD

    def _check_file(self, path: Path, x_MD: NDArray[np.float32], same: dict[int, int]) -> None:
        """A file must be as wide as the collection, and have the same vectors where texts are the same."""
        if x_MD.shape[1] != self.explorer.width:
            what = f"{path} is {x_MD.shape[1]} wide, {self.explorer.name} {self.explorer.width}."
            raise EmbeddingError(
                what, remedy="Give embeddings by the model that made those of the collection."
            )
        if same:
            here_BD = self.explorer.index.vectors()[list(same.values())]
            cosine = float(np.median((x_MD[list(same)] * here_BD).sum(axis=1)))
            if cosine < SAME_SPACE:
                what = f"{path} has other embeddings for texts that are in {self.explorer.name} already: "
                what += f"cosine {cosine:.2f}."
                raise EmbeddingError(
                    what, remedy="Give one row for each row, by the model of the collection."
                )

    # --- removing -----------------------------------------------------------------------------------

    def absent(self, ids: Sequence[str]) -> list[str]:
        """Those of these ids that no document has."""
        known = self._texts.find_positions(ids)
        return [each for each in dict.fromkeys(ids) if each not in known]

    def remove(self, ids: Sequence[str], write_catalogue: WriteCatalogue) -> Change:
        """Publish the collection without the documents of these ids; unknown ones are counted.

        Nothing is published where all are unknown. `TrainingError` if too few documents would be left.
        """
        n, asked = self.explorer.n_documents, list(dict.fromkeys(ids))
        gone = self._texts.find_positions(asked)
        left = n - len(gone)
        change = Change("remove", n, left, n_removed=len(gone), n_absent=len(asked) - len(gone))
        if not gone:
            return change
        if left < MIN_DOCUMENTS:
            what = f"{left:,} of the {n:,} documents of {self.explorer.name} would be left."
            raise TrainingError(what, remedy=f"Leave at least {MIN_DOCUMENTS}, or delete its folder.")
        with self._writing():
            places = np.setdiff1d(np.arange(n), np.array(list(gone.values())))
            documents = _Documents(self._texts, places, ())
            nothing = np.empty((0, self.explorer.width), dtype=np.float32)
            return self._publish(documents, nothing, change, write_catalogue)

    # --- what both do -------------------------------------------------------------------------------

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """The collection's lock, if what was loaded is still what is served."""
        with artifact.locked(self.collection), explain_write_errors(self.collection):
            if artifact.current(self.collection) != self.explorer.path:
                what = f"{self.explorer.name} was built or changed in the meantime."
                raise SaefariError(what, remedy="Give the same command again.")
            yield

    def _publish(
        self,
        documents: _Documents,
        fresh_BD: NDArray[np.float32],
        change: Change,
        write_catalogue: WriteCatalogue,
        write_more: Callable[[Path, int], None] = lambda _folder, _number: None,
    ) -> Change:
        """Describe the SAEs over the documents, and serve all of it; `write_more` gets folder and number."""
        moved = _Moved.of(documents.places, self.explorer.index.vectors(), fresh_BD, self._roles_M)
        described = [self._describe(space, moved, documents) for space in self.explorer.saes.values()]
        spaces = match_saes(described, self._console)
        with artifact.revise(self.collection) as (folder, manifest):
            number = len(manifest.get("changes", [])) + 1
            with self._console.stage("Writing"):
                write_documents(folder, moved.x_MD, documents)
                save_roles(folder, moved.roles_M)
                for space in spaces:
                    space.save(folder / "saes" / space.name)
                write_catalogue(folder / FILE_NAME, documents, spaces)
                write_more(folder, number)
            change = replace(
                change,
                made=datetime.now(UTC).isoformat(timespec="seconds"),
                drift={space.name: space.metrics["drift"] for space in spaces},
                n_first={
                    space.name: _n_first(before, space)
                    for before, space in zip(self.explorer.saes.values(), spaces, strict=True)
                },
                seconds={name: round(value, 2) for name, value in self._seconds.items()},
            )
            manifest |= {
                "n_documents": len(documents),
                "embeddings": hash_of(moved.x_MD),
                "saes": [space.describe() for space in spaces],
                "changes": [*manifest.get("changes", []), asdict(change)],
            }
            manifest["corpus"] = {**manifest["corpus"], "fingerprint": Corpus(documents, []).fingerprint()}
            write_atomic(folder / "report.md", report_text(manifest, spaces).encode())
        return change

    def _describe(self, space: FeatureSet, moved: _Moved, documents: _Documents) -> FeatureSet:
        """The same SAE over other documents."""
        sae, seed = space.sae, int(space.config.get("seed", 0))
        with self._console.stage("Encoding") as report:
            fresh = encode_rows(sae, moved.x_MD, moved.fresh, report)
            whole = join_documents([space.codes.by_document(), fresh])
            codes = whole.take(moved.sources, sae.n_latents).in_both_orders(sae.n_latents)
        table, coactivation, forest = describe_codes(sae, codes, moved.x_MD, seed, self._console)
        changed = replace(
            space,
            codes=codes,
            features=table,
            coactivation=coactivation,
            forest=_with_labels(forest, space.forest, moved),
            labels=[moved.label(label) for label in space.labels],
        )
        changed = self._name_first(changed, moved, documents)
        with self._console.stage("Scorecard"):
            return replace(changed, metrics=_measure(changed, moved))

    def _name_first(self, space: FeatureSet, moved: _Moved, documents: _Documents) -> FeatureSet:
        """With labels for features that never fired before."""
        latents = unnamed(space.codes, space.labels)
        if not latents:
            return space
        with self._console.stage("Labels") as report:
            labeller = Labeller(
                documents, space.codes, space.features, space.sae, moved.x_MD, self._for_labels,
                int(space.config.get("seed", 0)), report, beside=space.labels,
            )  # fmt: skip
            found, labels = labeller.features(), list(space.labels)
            for latent in latents:
                labels[latent] = found[latent]
            vectors_ND = space.label_vectors_ND
            if vectors_ND is not None and self._for_labels is not None:
                vectors_ND = np.array(vectors_ND)
                vectors_ND[latents] = embed_labels([labels[latent] for latent in latents], self._for_labels)
            return replace(space, labels=labels, label_vectors_ND=vectors_ND)

    @property
    def _for_labels(self) -> Embedder | None:
        """What embeds short texts; nothing is asked twice of an endpoint."""
        if self._embedder is None or not is_remote(self.explorer.embedder_spec):
            return self._embedder
        return KeptEmbedder(self._embedder, self._cache / "labels")


@dataclass(frozen=True)
class _Moved:
    """The documents of the new generation beside those of the old one."""

    x_MD: NDArray[np.float32]  # vectors
    roles_M: NDArray[np.uint8]  # what they were to the SAEs, see `fit.stored_roles`
    sources: NDArray[np.int64]  # their rows, if those that come in stood behind all old ones, as in `fresh`
    fresh: NDArray[np.int64]  # positions of those that come in
    place_of: NDArray[np.int64]  # of each old document its new position; -1: gone, or another text
    is_scored: bool  # whether every document is still there that the SAEs' errors were measured on

    @classmethod
    def of(
        cls,
        places: NDArray[np.int64],
        old_MD: NDArray[np.float32],
        fresh_BD: NDArray[np.float32],
        old_roles_M: NDArray[np.uint8],
    ) -> _Moved:
        """`places` are those of `_Documents`."""
        kept, fresh = np.flatnonzero(places >= 0), np.flatnonzero(places < 0)
        x_MD = np.empty((len(places), old_MD.shape[1]), dtype=np.float32)
        x_MD[kept], x_MD[fresh] = old_MD[places[kept]], fresh_BD[-1 - places[fresh]]
        roles_M = np.full(len(places), ADDED, dtype=np.uint8)
        roles_M[kept] = old_roles_M[places[kept]]
        sources = places.copy()
        sources[fresh] = len(old_MD) + np.arange(len(fresh))
        place_of = np.full(len(old_MD), -1, dtype=np.int64)
        place_of[places[kept]] = kept
        is_scored = not ((place_of < 0) & (old_roles_M != ADDED)).any()
        return cls(x_MD, roles_M, sources, fresh, place_of, is_scored)

    def with_role(self, role: int) -> NDArray[np.int64]:
        """Positions of the documents that were this to the SAEs."""
        return np.flatnonzero(self.roles_M == role)

    def label(self, label: Label) -> Label:
        """The same label; its evidence says where documents are now, without those that are gone."""
        if label.evidence is None:
            return label
        positives, negatives = (
            [place for place in self.place_of[positions].tolist() if place >= 0]
            for positions in (label.evidence.positives, label.evidence.negatives)
        )
        return replace(label, evidence=replace(label.evidence, positives=positives, negatives=negatives))


class _Some(Lazy[T]):
    """Some items of a sequence, by number."""

    def __init__(self, whole: Sequence[T], numbers: NDArray[np.int64]) -> None:
        self._whole, self._numbers = whole, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def item(self, at: int) -> T:
        return self._whole[int(self._numbers[at])]


class _Documents(Lazy["Document"]):
    """The documents of a generation: old ones by position, and those that come in.

    `places` has for each the position that it had, or -1 less its number among the `fresh`.
    """

    def __init__(self, texts: Texts, places: NDArray[np.int64], fresh: Sequence[Document]) -> None:
        self._texts, self.places, self._fresh = texts, places, fresh

    def __len__(self) -> int:
        return len(self.places)

    def item(self, at: int) -> Document:
        return next(self._read(self.places[at : at + 1]))

    def __iter__(self) -> Iterator[Document]:
        for start in range(0, len(self), MAX_AT_ONCE):
            yield from self._read(self.places[start : start + MAX_AT_ONCE])

    def _read(self, places: NDArray[np.int64]) -> Iterator[Document]:
        old = iter(self._texts.documents(places[places >= 0].tolist()))
        return (self._fresh[-1 - place] if place < 0 else next(old) for place in places.tolist())


def _with_labels(forest: Forest, before: Forest, moved: _Moved) -> Forest:
    """Families keep the label of the one that had the same root."""
    known = {family.id: moved.label(family.label) for family in before.families if family.label}
    families = [replace(family, label=known.get(family.id)) for family in forest.families]
    return replace(forest, families=families)


def _measure(space: FeatureSet, moved: _Moved) -> dict[str, Any]:
    """The metrics of an SAE over other documents.

    Errors are still those on the documents that it was trained on and on those held out: they are measured
    again where one of these is gone. Stability and simpler codes stay as they were found in training.
    """
    sae, codes, x_MD = space.sae, space.codes, moved.x_MD
    trained, heldout = moved.with_role(TRAINED), moved.with_role(HELD_OUT)
    found = {**space.metrics, **metrics.firing(sae, codes.counts(), len(x_MD))}
    if not moved.is_scored and min(len(trained), len(heldout)) >= MIN_SCORED:
        found |= metrics.errors(sae, x_MD[trained], x_MD[heldout])
    found["n_families"] = len(space.forest.families)
    found["n_labelled"] = int(space.named_N.sum())
    groups = {"all": moved.with_role(ADDED)}
    if 0 < len(moved.fresh) < len(groups["all"]):
        groups["latest"] = moved.fresh
    drifts = {
        which: measure_drift(sae, codes, x_MD, trained=trained, heldout=heldout, added=added)
        for which, added in groups.items()
    }
    found["drift"] = {which: asdict(drift) for which, drift in drifts.items() if drift is not None}
    return found


def _n_first(before: FeatureSet, after: FeatureSet) -> int:
    """How many features fire that did not."""
    return int(((before.codes.counts() == 0) & (after.codes.counts() > 0)).sum())
