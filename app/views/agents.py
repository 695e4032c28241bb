"""What tools answer to agents: small, and with addresses of pages that show it. None is left out."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SAESaid:
    """An SAE of a collection. Numbers of features are those of one SAE."""

    name: str
    n_latents: int
    n_families: int
    fvu_heldout: float  # share of the variance of held-out documents that it leaves unexplained
    address: str


@dataclass(frozen=True)
class CollectionSaid:
    name: str
    title: str
    n_documents: int
    has_encoder: bool  # without one a text is found by its words only
    saes: list[SAESaid]  # the first is used where none is named
    address: str


@dataclass(frozen=True)
class Collections:
    collections: list[CollectionSaid]
    not_served: list[str]  # sentences about collections that cannot be read


@dataclass(frozen=True)
class FeatureSaid:
    """A feature in a list. `value` is what it is there for."""

    latent: int
    label: str
    auc: float | None  # how well the label predicts the feature; .5 is chance
    n_documents: int  # on which it fires
    max: float  # its largest activation
    address: str
    value: float | None = None


@dataclass(frozen=True)
class DocumentSaid:
    """A document in a list. `value` is what it is there for."""

    id: str
    title: str
    year: int | None
    venue: str
    excerpt: str
    address: str
    value: float | None = None


@dataclass(frozen=True)
class ResultSaid:
    rank: int
    score: float  # cosine with the steered query
    moved: int | None  # places gained (+) or lost (-) by steering; None: nothing is steered
    is_new: bool  # steering brought it here from beyond the first thousand
    document: DocumentSaid


@dataclass(frozen=True)
class SearchSaid:
    """A page of results. The query's features have their activation as `value`."""

    address: str
    total: int
    page: int
    cosine: float  # of the steered query with the query; 1: nothing is steered
    explained: float  # share of the query that its features explain, 0..1
    results: list[ResultSaid]
    features: list[FeatureSaid]
    remarks: list[str]


@dataclass(frozen=True)
class Features:
    address: str
    features: list[FeatureSaid]


@dataclass(frozen=True)
class EvidenceSaid:
    """A feature: documents with activations, neighbours with cosines, companions with lifts, as `value`."""

    feature: FeatureSaid
    density: float  # share of the documents, 0..1
    family: int | None  # the smallest that has it, by its root
    strongest: list[DocumentSaid]
    near_misses: list[DocumentSaid]  # silent there, but nearly active
    similar: list[FeatureSaid]
    opposite: list[FeatureSaid]
    together: list[FeatureSaid]


@dataclass(frozen=True)
class MemberSaid:
    depth: int  # 0: the root
    feature: FeatureSaid


@dataclass(frozen=True)
class FamilySaid:
    root: int
    label: str
    auc: float | None
    n_documents: int  # on which at least one member fires
    hub_ratio: float | None  # above 1: the root holds the family together
    block_ratio: float | None  # above 1: members fire together more than with others
    n_members: int
    members: list[MemberSaid]  # depth first; the first of many
    address: str


@dataclass(frozen=True)
class DocumentRead:
    """A document: its text, its features with activations, its neighbours with cosines."""

    document: DocumentSaid
    text: str
    authors: str
    categories: str
    url: str
    explained: float
    features: list[FeatureSaid]
    neighbours: list[DocumentSaid]
