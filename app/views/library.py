"""What the pages of a library show: its collections, one of them, a document."""

from __future__ import annotations

from dataclasses import dataclass, field

from app.views.common import DocumentCard, FeatureChip, FeatureRow, Option
from app.views.editing import Authored
from app.views.families import FamilyCard, FamilyMap


@dataclass(frozen=True)
class SAESummary:
    """The few numbers by which SAEs are told apart, for cards."""

    name: str
    url: str
    search_url: str
    features_url: str
    families_url: str
    n_latents: int
    k: int
    fvu_train: float
    fvu_heldout: float
    n_heldout: int
    l0: float
    n_dead: int
    n_families: int
    n_labelled: int


@dataclass(frozen=True)
class CollectionCard:
    name: str
    title: str
    url: str
    n_documents: int
    built: str  # ISO date
    embedder: str
    saes: list[SAESummary]


@dataclass(frozen=True)
class HomeView:
    collections: list[CollectionCard]
    problems: list[tuple[str, str]] = field(default_factory=list)  # what is not served, and why


@dataclass(frozen=True)
class OverviewView:
    collection: CollectionCard
    examples: list[Option]  # example queries: text and link
    text_problem: str | None  # why texts are not searched by meaning
    years: list[tuple[int, int]]  # year, documents
    venues: list[Option]  # largest, with counts; link to a search filtered by it
    surprising: list[FeatureRow]  # high quality, low density
    families: list[FamilyCard]
    map: FamilyMap | None
    documents: list[DocumentCard]  # a few, to start from


@dataclass(frozen=True)
class DocumentView:
    collection: str
    sae: str | None
    document: DocumentCard
    categories: list[str]
    fingerprint: list[FeatureChip]  # all active features, strongest first
    explained: float | None
    neighbours: list[tuple[DocumentCard, float]]  # with cosine
    steer_url: str | None  # search that begins from this document
    saes: list[Option]  # fingerprint in which SAE
    url: str
    json_url: str
    authored: Authored | None = None  # None where nobody may write
