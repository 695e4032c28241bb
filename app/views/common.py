"""What several pages show: labels and how far they can be trusted, features, documents, choices, paging."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Breadcrumb:
    text: str
    url: str


@dataclass(frozen=True)
class Trust:
    """How far a label can be trusted, for the badge beside it."""

    level: str  # "strong", "fair", "weak", "chance", "unscored", "none"; or by people: "people", "rejected"
    word: str  # the same for people
    auc: float | None  # of the predictor on held-out documents; None where not measured
    low: float | None  # its 95 % interval
    high: float | None
    n: int  # documents on which it was measured
    automatic: str = ""  # the label of the build, where people call it something else or reject it


@dataclass(frozen=True)
class LabelView:
    """A feature's or a family's label. `text` is never empty: unlabelled ones say so."""

    text: str
    source: str  # "phrases", "llm:MODEL", "people" or "none"
    trust: Trust
    phrases: list[str]  # what an unlabelled one has to say for itself; of a labelled one none
    automatic: LabelView | None = None  # that of the build, where people call it something else or reject it


@dataclass(frozen=True)
class FeatureChip:
    """A feature as it is mentioned on other pages."""

    latent: int
    label: str
    trust: Trust
    url: str
    activation: float | None = None  # on the document or query at hand
    share: float | None = None  # activation as a share of the feature's maximum, 0..1


@dataclass(frozen=True)
class FeatureRow:
    """One line of the feature browser."""

    latent: int
    label: LabelView
    url: str
    density: float  # share of documents, 0..1
    n_documents: int
    max: float
    mean: float
    quality: float  # the mix of label score and usefulness that is the default order, 0..1
    is_dead: bool
    family_url: str | None
    family_label: str | None
    found_by: str | None = None  # the candidate that has the words, where the label has not


@dataclass(frozen=True)
class NeighbourRow:
    """A similar, opposite, or co-occurring feature."""

    latent: int
    label: str
    trust: Trust
    url: str
    cosine: float | None = None  # decoder cosine
    lift: float | None = None
    observed: int | None = None
    expected: float | None = None


@dataclass(frozen=True)
class DocumentCard:
    """A document as it stands in a list."""

    position: int  # row of the collection
    id: str
    title: str
    url: str  # our page
    source_url: str | None  # the document itself, http(s) only
    authors: str
    venue: str
    year: int | None
    citations: int | None
    doi: str  # "" where none is known
    abstract: str
    activation: float | None = None  # evidence lists
    share: float | None = None  # activation / feature maximum
    chips: tuple[FeatureChip, ...] = ()


@dataclass(frozen=True)
class DocumentLink:
    """A document by its title."""

    title: str
    url: str


@dataclass(frozen=True)
class Page:
    """Paging of a list."""

    number: int  # from 1
    size: int
    total: int
    previous_url: str | None
    next_url: str | None


@dataclass(frozen=True)
class Option:
    """One choice of a sort, filter or tab: a link that works without JavaScript."""

    value: str
    text: str
    url: str
    is_chosen: bool
    count: int | None = None


@dataclass(frozen=True)
class Histogram:
    """Counts over equal bins from `low` to `high` (`counts[i]` lies in bin i)."""

    low: float
    high: float
    counts: list[int]
    marker: float | None = None


@dataclass(frozen=True)
class TreeRow:
    """One node of an indented tree, in depth-first order."""

    feature: FeatureChip
    depth: int
    n_documents: int
    density: float
    conditional: float | None  # P(parent fires | child fires)
    is_current: bool
    n_hidden: int = 0  # descendants that are not shown
    open_url: str | None = None  # shows them


@dataclass(frozen=True)
class ErrorView:
    status: int
    title: str
    message: str
    remedy: str
    home_url: str
    suggestions: list[Option]
