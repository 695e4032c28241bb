"""What a route may ask for: the collections, and the parts of an address turned into them.

A `ServedCollection` is an Explorer with its Catalog and everything about it that is the same for all
requests; a `ServedSAE` is the same for one SAE. Both are made once, at start, and never change.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from fastapi import APIRouter, Request
from numpy.typing import NDArray

from app import formats, urls
from app.caching import when_changed
from app.called import Homes, Over, Words, called
from app.catalog import FILE_NAME, Catalog
from app.described import PAGES, About, Described
from app.forest import ServedForest
from app.labels import N_PHRASES, UNLABELLED, label_view, mention, shortened
from app.observing import named
from app.query import DECIMALS, MAX_PAGE, MAX_Q, BadParameter, Parameters, as_strength, integer
from app.settings import Settings
from app.views.common import (
    DocumentCard,
    DocumentLink,
    FeatureChip,
    FeatureRow,
    Histogram,
    LabelView,
    NeighbourRow,
    Option,
    Page,
    TreeRow,
)
from app.views.library import CollectionCard, SAESummary
from sae_core import artifact
from sae_core.cache import Cache
from sae_core.corpus import Document
from sae_core.errors import NotFoundError, SaefariError
from sae_core.explorer import Explorer, FeatureSet
from sae_core.families import Family
from sae_core.families.model import ALGORITHMS
from sae_core.features import QUANTILES
from sae_core.lenses import Match
from sae_core.steer import explained, family_shares

log = logging.getLogger("saefari")

DEAD = "never fires"
OWN_EMBEDDINGS = "embeddings made elsewhere"
N_CHIPS = 4
MAX_GROWN = 16
MAX_EXPLAINED = 8192  # documents of which it is kept how far their features explain them
N_EXAMPLES = 6
N_VENUES = 12
LIBRARY = "saefari.library"  # in the scope of a request
STRONG = QUANTILES.index(0.95)
MAX_LENS_MATCHES = 256  # lenses of other SAEs
MAX_SHARES = 100_000  # members of families
LOW_DENSITY, HIGH_DENSITY = 0.002, 0.05  # of features that make good examples


class PageNotFound(NotFoundError):
    """No page at this address; knows where the visitor may want to go instead."""

    def __init__(self, what: str, *, remedy: str, suggestions: Sequence[Option] = ()) -> None:
        super().__init__(what, remedy=remedy)
        self.suggestions = list(suggestions)


def link(text: str, url: str) -> Option:
    """An Option that is only a link."""
    return Option(value="", text=text, url=url, is_chosen=False)


# --- one SAE --------------------------------------------------------------------------------------


class ServedSAE:
    """One SAE as the pages show it."""

    def __init__(self, collection: str, feature_set: FeatureSet, is_default: bool) -> None:  # noqa: FBT001
        table = feature_set.features
        self.collection = collection
        self.name = feature_set.name
        self.set = feature_set
        self.is_default = is_default
        self.n_latents = len(feature_set.labels)
        self.n_documents = feature_set.codes.n_documents
        self.directions_ND = feature_set.sae.directions_ND
        self.fires: list[int] = np.asarray(table.n_documents_N).tolist()
        self.maxima: list[float] = np.asarray(table.max_N, dtype=np.float64).tolist()
        self.labels: Sequence[LabelView] = [self._label(latent) for latent in range(self.n_latents)]
        self.texts: Sequence[str] = [mention(label, latent) for latent, label in enumerate(self.labels)]
        self.words = Words()  # what people say
        self.said: dict[int, str] = {}  # labels that hold against those of the build, "" where none does
        self.built = self  # without any of that
        self.urls = [urls.feature(collection, self.name, latent) for latent in range(self.n_latents)]
        self.forest = ServedForest(self, feature_set.forest)
        self.algorithms = _algorithms(feature_set)
        self.n_dead = self.fires.count(0)
        self.grown: Cache[ServedForest] = Cache(MAX_GROWN, lambda _: 1)  # under other configurations
        self._explained: Cache[float] = Cache(MAX_EXPLAINED, lambda _: 1)
        self.summary = self._summary()
        self.lens_matches: Cache[dict[int, Match]] = Cache(MAX_LENS_MATCHES, lambda _: 1)
        self._shares: Cache[dict[int, float]] = Cache(MAX_SHARES, len)

    def _label(self, latent: int) -> LabelView:
        return label_view(self.set.labels[latent], DEAD if self.fires[latent] == 0 else UNLABELLED)

    def called(self, words: Words) -> ServedSAE:
        """The same SAE with what people call its features and families."""
        new = copy.copy(self)
        views = {
            latent: view
            for latent, word in words.features.items()
            if latent < self.n_latents
            and (view := called(self.labels[latent], word, self._phrases(latent))) is not None
        }
        new.labels = Over(self.labels, views)
        new.texts = Over(self.texts, {latent: mention(view, latent) for latent, view in views.items()})
        new.words = words
        new.said = {latent: "" if view.source == "none" else view.text for latent, view in views.items()}
        new.forest = self.forest.called(new)
        return new

    def _phrases(self, latent: int) -> list[str]:
        """What a feature has to say for itself where its label is rejected."""
        return [shortened(each.text) for each in self.set.labels[latent].candidates[: N_PHRASES + 1]]

    def _summary(self) -> SAESummary:
        metrics, sae = self.set.metrics, self.set.sae
        return SAESummary(
            name=self.name,
            url=urls.sae(self.collection, self.name),
            search_url=urls.search(self.collection, self.name),
            features_url=urls.features(self.collection, self.name),
            families_url=urls.families(self.collection, self.name),
            n_latents=self.n_latents,
            k=int(sae.k),
            fvu_train=float(metrics["fvu_train"]),
            fvu_heldout=float(metrics["fvu_heldout"]),
            n_heldout=int(metrics["n_heldout"]),
            l0=float(metrics["l0"]),
            n_dead=self.n_dead,
            n_families=len(self.forest.families),
            n_labelled=sum(label.source != "none" for label in self.labels),
        )

    def density(self, latent: int) -> float:
        return self.fires[latent] / max(self.n_documents, 1)

    @property
    def mean_auc(self) -> float | None:
        """Mean area under the curve of the labels that were scored."""
        scores = [label.trust.auc for label in self.built.labels if label.trust.auc is not None]
        return float(np.mean(scores)) if scores else None

    def share(self, latent: int, activation: float) -> float:
        """The activation as a share of the feature's maximum, 0 to 1."""
        maximum = self.maxima[latent]
        return min(1.0, max(0.0, activation / maximum)) if maximum > 0 else 0.0

    def shares(self, root: int) -> dict[int, float]:
        """How the members of a family that was built follow when it moves by 1; cached."""
        if (known := self._shares.get(root)) is None:
            known = self.shares_of(self.forest.families[root].members)
            self._shares.put(root, known)
        return known

    def shares_of(self, members: Sequence[int]) -> dict[int, float]:
        """How these members follow when a family of them moves by 1."""
        return family_shares(members, self.set.features.mean_N, self.directions_ND)

    def usual_move(self, root: int) -> float:
        """How far a family's slider begins to move: as far as its root would at a strong activation."""
        strong = float(self.set.features.quantiles_NQ[root, STRONG])
        return max(as_strength(strong), 10.0**-DECIMALS)

    def chip(self, latent: int, activation: float | None = None) -> FeatureChip:
        share = None if activation is None else self.share(latent, activation)
        return FeatureChip(
            latent, self.texts[latent], self.labels[latent].trust, self.urls[latent], activation, share
        )

    def row(self, latent: int) -> FeatureRow:
        family = self.set.family_of(latent)
        return FeatureRow(
            latent=latent,
            label=self.labels[latent],
            url=self.urls[latent],
            density=self.density(latent),
            n_documents=self.fires[latent],
            max=self.maxima[latent],
            mean=float(self.set.features.mean_N[latent]),
            quality=float(self.set.quality_N[latent]),
            is_dead=self.fires[latent] == 0,
            family_url=None if family is None else self.forest.urls[family.id],
            family_label=None if family is None else self.forest.name(family.id),
        )

    def neighbour(self, latent: int, **numbers: Any) -> NeighbourRow:
        return NeighbourRow(
            latent, self.texts[latent], self.labels[latent].trust, self.urls[latent], **numbers
        )

    def explained(self, position: int, y_D: NDArray[np.float32]) -> float:
        """Share of a document's centred squared norm that its features explain; kept."""
        if (known := self._explained.get(position)) is None:
            latents, values = self.set.codes.of_document(position)
            b_dec_D = self.set.sae.b_dec_D
            known = explained(y_D, values @ self.directions_ND[latents] + b_dec_D, b_dec_D)
            self._explained.put(position, known)
        return known

    def histogram(self, latent: int, marker: float | None = None) -> Histogram:
        counts = np.asarray(self.set.features.histogram_NH[latent]).tolist()
        return Histogram(0.0, self.maxima[latent], counts, marker)

    def chips_of(self, position: int, *, without: int = -1, most: int = N_CHIPS) -> list[FeatureChip]:
        """The strongest features of a document."""
        latents, values = self.set.codes.of_document(position)
        pairs = zip(latents[: most + 1].tolist(), values[: most + 1].tolist(), strict=True)
        return [self.chip(latent, value) for latent, value in pairs if latent != without][:most]

    def tree(
        self, family: Family, members: AbstractSet[int] | None = None, current: int = -1
    ) -> list[TreeRow]:
        """The rows of a family's tree, or of those `members` whose ancestors are among them too."""
        depths: dict[int, int] = {}
        rows = []
        nodes = zip(family.members, family.parents, family.conditionals, strict=True)
        for member, parent, conditional in nodes:
            depths[member] = depths[parent] + 1 if parent in depths else 0
            if members is not None and member not in members:
                continue
            row = TreeRow(
                feature=self.chip(member),
                depth=depths[member],
                n_documents=self.fires[member],
                density=self.density(member),
                conditional=None if depths[member] == 0 else float(conditional),
                is_current=member == current,
            )
            rows.append(row)
        return rows


def _algorithms(feature_set: FeatureSet) -> list[str]:
    """The ways in which families can be found in this SAE."""
    has_levels = feature_set.sae.levels_N() is not None
    return [name for name in ALGORITHMS if name != "nesting" or has_levels]


# --- one collection -------------------------------------------------------------------------------


class ServedCollection:
    """One collection as the pages show it."""

    def __init__(self, explorer: Explorer, catalog: Catalog) -> None:
        self.explorer = explorer
        self.catalog = catalog
        self.name = explorer.name
        names = list(explorer.saes)
        self.saes = {
            name: ServedSAE(self.name, explorer.saes[name], is_default=name == names[0]) for name in names
        }
        self.default = self.saes[names[0]] if names else None
        self.years = self._years()
        self.venue_sizes = self._venue_sizes()
        metadata = explorer.metadata
        self.largest_venues = _by_size(metadata.venue_codes_M)
        self.largest_categories = _by_size(metadata.category_codes)
        self.most_cited = int(np.max(metadata.citations_M, initial=-1))
        self.card = self._card()
        self.examples = {name: self._examples(sae) for name, sae in self.saes.items()}

    def called(self, homes: Homes) -> ServedCollection:
        """The same collection with what people call the features and families of its SAEs."""
        saes = {
            name: sae.called(homes[self.name, name])
            for name, sae in self.saes.items()
            if (self.name, name) in homes
        }
        if not saes:
            return self
        new = copy.copy(self)
        new.saes = {**self.saes, **saes}
        new.default = next(iter(new.saes.values()))
        return new

    def _years(self) -> list[tuple[int, int]]:
        years = np.asarray(self.explorer.metadata.years_M)
        found, counts = np.unique(years[years > 0], return_counts=True)
        return list(zip(found.tolist(), counts.tolist(), strict=True))

    def _venue_sizes(self) -> list[tuple[str, int]]:
        """Venues with their documents, largest first."""
        codes = np.asarray(self.explorer.metadata.venue_codes_M)
        counts = np.bincount(codes[codes >= 0], minlength=len(self.explorer.metadata.venues)).tolist()
        named = zip(self.explorer.metadata.venues, counts, strict=True)
        return sorted(named, key=lambda venue: (-venue[1], venue[0]))

    def _card(self) -> CollectionCard:
        manifest = self.explorer.manifest
        return CollectionCard(
            name=self.name,
            title=self.explorer.title,
            url=urls.collection(self.name),
            n_documents=self.explorer.n_documents,
            built=str(manifest["built"])[:10],
            embedder=str(manifest["embedder"].get("name") or OWN_EMBEDDINGS),
            saes=[sae.summary for sae in self.saes.values()],
        )

    @property
    def built(self) -> str:
        """When what is served was made, ISO 8601: built, or revised since."""
        manifest = self.explorer.manifest
        return str(manifest.get("revised", manifest["built"]))

    @property
    def year_bounds(self) -> tuple[int, int] | None:
        return (self.years[0][0], self.years[-1][0]) if self.years else None

    def sae(self, name: str, q: str = "") -> ServedSAE:
        """The SAE of this name; `PageNotFound` says that it may have been rebuilt, and where to ask `q`."""
        found = self.saes.get(name)
        if found is None:
            present = [
                link(f"{sae.name}: {shorten(q)}", urls.search(self.name, sae.name, q))
                if q
                else link(sae.name, sae.url)
                for sae in self.card.saes
            ]
            raise PageNotFound(
                f'The collection {self.name} has no SAE "{shorten(name)}". It may have been rebuilt: an SAE '
                f"with other weights has other features, so it gets another address.",
                remedy="Choose one of the SAEs that are there now.",
                suggestions=[*present, link(self.card.title, self.card.url)],
            )
        return found

    def document_url(self, document: str, sae: ServedSAE | None) -> str:
        chosen = sae.name if sae is not None and not sae.is_default else ""
        return urls.document(self.name, document, chosen)

    def cards(
        self,
        positions: Sequence[int],
        sae: ServedSAE | None,
        *,
        latent: int = -1,
        activations: Sequence[float] | None = None,
        with_chips: bool = False,
    ) -> list[DocumentCard]:
        """Documents as cards, if asked with `activations` of `latent` and their other strong features."""
        cards = []
        for at, document in enumerate(self.catalog.documents(positions)):
            position = positions[at]
            activation = None if activations is None else activations[at]
            is_evidence = sae is not None and activation is not None and latent >= 0
            chips = sae.chips_of(position, without=latent) if sae and with_chips else []
            share = sae.share(latent, activation) if sae and is_evidence and activation else None
            url = self.document_url(document.id, sae)
            cards.append(document_card(position, document, url, activation, share, tuple(chips)))
        return cards

    def table(
        self,
        kind: formats.Kind,
        title: str,
        url: str,
        batches: Iterator[Sequence[formats.Row]],
        next_url: str | None = None,
    ) -> formats.Table:
        """A list for a file. `title` begins after the collection's name."""
        title = f"{self.name} {title}"
        return formats.Table(
            kind, title, url, batches, collection=self.name, built=self.built, next_url=next_url
        )

    def documents(
        self,
        kind: formats.Kind,
        title: str,
        url: str,
        batches: Iterator[Sequence[formats.DocumentRow]],
        next_url: str | None = None,
    ) -> formats.Documents:
        """A list of documents for a file; `listed` makes its rows."""
        title = f"{self.name} {title}"
        return formats.Documents(
            kind, title, url, batches, collection=self.name, built=self.built, next_url=next_url
        )

    def listed(
        self, positions: Sequence[int], sae: ServedSAE | None, own: Callable[[int], formats.Row]
    ) -> Iterator[list[formats.DocumentRow]]:
        """Documents for a file, some hundred at a time; `own(at)` has what the list says of the at-th."""
        for first in range(0, len(positions), formats.BATCH):
            some = positions[first : first + formats.BATCH]
            documents = self.catalog.documents(some, are_kept=False)
            yield [
                formats.DocumentRow(document, self.document_url(document.id, sae), own(first + at))
                for at, document in enumerate(documents)
            ]

    def cite(self, positions: Sequence[int]) -> list[DocumentLink]:
        """Documents as links; positions that the collection does not have are left out."""
        known = [position for position in positions if 0 <= position < self.explorer.n_documents]
        return [
            DocumentLink(document.title or document.id, self.document_url(document.id, None))
            for document in self.catalog.documents(known)
        ]

    def _examples(self, sae: ServedSAE) -> list[Option]:
        """Queries to begin with: labels of good features, neither rare nor everywhere, else titles."""
        texts: list[str] = []
        for latent in np.argsort(-np.asarray(sae.set.quality_N), kind="stable").tolist():
            is_common = LOW_DENSITY <= sae.density(latent) <= HIGH_DENSITY
            if is_common and sae.labels[latent].source != "none" and sae.texts[latent] not in texts:
                texts.append(sae.texts[latent])
            if len(texts) == N_EXAMPLES:
                break
        if not texts:
            first = range(min(N_EXAMPLES, self.explorer.n_documents))
            texts = [document.title for document in self.catalog.documents(first)]
        return [link(text, urls.search(self.name, sae.name, text)) for text in texts]


def _by_size(codes: NDArray[np.integer]) -> list[int]:
    """The codes >= 0 that occur, most frequent first."""
    counts = np.bincount(codes[codes >= 0])
    largest: list[int] = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)].tolist()
    return largest


def document_card(  # noqa: PLR0917
    position: int,
    document: Document,
    url: str,
    activation: float | None = None,
    share: float | None = None,
    chips: tuple[FeatureChip, ...] = (),
) -> DocumentCard:
    return DocumentCard(
        position=position,
        id=document.id,
        title=document.title or document.id,
        url=url,
        source_url=web_address(document.url),
        authors=document.authors,
        venue=document.venue,
        year=document.year,
        citations=document.citations,
        doi=document.doi,
        abstract=document.abstract,
        activation=activation,
        share=share,
        chips=chips,
    )


def web_address(url: str) -> str | None:
    """The address if it is one that may be linked: http or https, nothing that runs."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    return url if parts.scheme in ("http", "https") and parts.netloc else None


def shorten(text: str, length: int = 80) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


# --- all of them ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Unreadable:
    """A generation that cannot be served."""

    name: str  # of its collection
    generation: str
    problem: str


class Library:
    """The collections that are served, and what was wrong with generations that are not."""

    def __init__(
        self,
        collections: Sequence[ServedCollection],
        unreadable: Sequence[Unreadable] = (),
        written: str = "",
    ) -> None:
        self.collections = {each.name: each for each in collections}
        self.unreadable = {each.name: each for each in unreadable}
        self.written = written  # another text after each change of what people write; "" where nobody may

    def called(self, homes: Homes, written: str) -> Library:
        """The same collections with what people call features and families."""
        called = [collection.called(homes) for collection in self.collections.values()]
        return Library(called, list(self.unreadable.values()), written)

    @property
    def problems(self) -> list[tuple[str, str]]:
        """Names of collections, and what is wrong with them."""
        return [(each.name, each.problem) for each in self.unreadable.values()]

    @classmethod
    def load(cls, home: Path) -> Library:
        """Every collection below `home`. One that cannot be loaded is named as unreadable, and in the log."""
        return cls([]).renewed(home)

    def renewed(self, home: Path) -> Library:
        """A library with what was published and taken away since; this one if that is nothing.

        A collection whose new generation cannot be read stays as it is. What was unreadable is left alone.
        """
        collections: list[ServedCollection] = []
        unreadable: list[Unreadable] = []
        for path in artifact.collections(home):
            generation = artifact.served(path) or ""
            served, known = self.collections.get(path.name), self.unreadable.get(path.name)
            if served is not None and served.explorer.generation == generation:
                collections.append(served)
                continue
            if known is None or known.generation != generation:
                opened = _open(path, generation)
                if isinstance(opened, ServedCollection):
                    collections.append(opened)
                    continue
                known = opened
            unreadable.append(known)
            if served is not None:
                collections.append(served)
        new = Library(collections, unreadable)
        is_same = new.collections == self.collections and new.unreadable == self.unreadable
        return self if is_same and self.collections else new

    @classmethod
    def of(cls, explorers: Mapping[str, Explorer]) -> Library:
        return cls([open_collection(explorer) for explorer in explorers.values()])

    def collection(self, name: str) -> ServedCollection:
        found = self.collections.get(name)
        if found is None:
            problem = self.unreadable.get(name)
            what = (
                f'There is no collection "{shorten(name)}" here.'
                if problem is None
                else f"{name}: {problem.problem}"
            )
            raise PageNotFound(
                what,
                remedy="Choose one of the collections that are there.",
                suggestions=[link(c.card.title, c.card.url) for c in self.collections.values()],
            )
        return found

    def close(self) -> None:
        for collection in self.collections.values():
            collection.catalog.close()


def _open(path: Path, generation: str) -> ServedCollection | Unreadable:
    try:
        return open_collection(Explorer.load(path))
    except SaefariError as error:
        log.error("The collection %s cannot be read: %s", path.name, error)  # noqa: TRY400 (a sentence)
        return Unreadable(path.name, generation, str(error))
    except Exception:
        log.exception("The collection %s cannot be read", path.name)
        problem = "It could not be loaded; the server's log has the details."
        return Unreadable(path.name, generation, problem)


def open_collection(explorer: Explorer) -> ServedCollection:
    return ServedCollection(explorer, Catalog(explorer.path / FILE_NAME))


# --- what routes ask for --------------------------------------------------------------------------


def get_library(request: Request) -> Library:
    """The same library for the whole of a request, whatever is published or said meanwhile."""
    library: Library | None = request.scope.get(LIBRARY)
    if library is None:
        state = request.app.state
        library = state.shelf.library if state.naming is None else state.naming.over(state.shelf.library)
        request.scope[LIBRARY] = library
    return library


def origin(request: Request) -> str:
    """Scheme and host of addresses that leave this site; the host of a request was checked by then."""
    settings: Settings = request.app.state.settings
    return settings.public_url or str(request.base_url).rstrip("/")


def get_collection(request: Request) -> ServedCollection:
    return get_library(request).collection(request.path_params["collection"])


def get_sae(request: Request) -> tuple[ServedCollection, ServedSAE]:
    collection = get_collection(request)
    name = request.path_params["sae"]
    q = "" if name in collection.saes else Parameters(request.scope["query_string"]).text("q", MAX_Q)
    return collection, collection.sae(name, q)


def get_latent(request: Request, sae: ServedSAE) -> int:
    """The feature in the address; `PageNotFound` for one that the SAE does not have."""
    text = request.path_params["latent"]
    try:
        return integer("feature", text, 0, sae.n_latents - 1)
    except BadParameter:
        raise PageNotFound(
            f'There is no feature "{shorten(text)}" in {sae.name}.',
            remedy=f"Its features are numbered from 0 to {sae.n_latents - 1:,}.",
            suggestions=[link("All features", sae.summary.features_url)],
        ) from None


def wanted_block(request: Request) -> str | None:
    """The block that htmx will replace with the answer; None when the whole page is wanted."""
    if request.headers.get("hx-request-type") != "partial" or formats.page_format(request) != formats.HTML:
        return None
    return request.headers.get("hx-target", "").rpartition("#")[2] or None


def _state(request: Request) -> list[str]:
    """What pages depend on besides their address."""
    library = get_library(request)
    asked = library.collections.get(request.path_params.get("collection", ""))
    explorers = [each.explorer for each in ([asked] if asked else library.collections.values())]
    states = [f"{each.name} {each.generation} {each.embedder_state}" for each in explorers]
    return [
        origin(request),
        library.written,
        *states,
        *(f"{each.name} {each.problem}" for each in library.unreadable.values()),
    ]


def add_page(
    router: APIRouter,
    path: str,
    route: Callable[[Request], Any],
    files: formats.Files | None = None,
    about: About | None = None,
) -> None:
    """Serve `route` at `path` and as JSON at its twin, and at twins of other formats `files`.

    `about` puts it into the description of the interface for programs.

    The twins first: `{x}` matches `x.json` too. Plain routes: pages parse their address themselves, and
    FastAPI's dependencies would cost each request.
    """
    endpoint = named(path, when_changed(formats.answer(route, files, origin), _state))
    for address in (urls.twin(path, f"{{format:{formats.convertor(files)}}}"), path):
        router.add_route(address, endpoint, methods=["GET", "HEAD"])
    if about is not None:
        PAGES.append(Described(path, about, files))


def paging(number: int, size: int, total: int, url: Callable[[int], str]) -> Page:
    """Where one is in a list of `total` rows; `url` makes the address of another page of it."""
    last = min(MAX_PAGE, max(1, math.ceil(total / size)))
    return Page(
        number=number,
        size=size,
        total=total,
        previous_url=url(min(number - 1, last)) if number > 1 else None,
        next_url=url(number + 1) if number < last else None,
    )
