"""What the pages of features show."""

from __future__ import annotations

from dataclasses import dataclass

from app.views.common import (
    DocumentCard,
    DocumentLink,
    FeatureRow,
    Histogram,
    LabelView,
    NeighbourRow,
    Option,
    Page,
    TreeRow,
)
from app.views.editing import Authored
from sae_core.labels import Former, Score


@dataclass(frozen=True)
class FeatureListView:
    collection: str
    sae: str
    rows: list[FeatureRow]
    page: Page
    words: str
    sorts: list[Option]
    densities: list[Option]
    labelled_url: Option
    dead: Option  # hidden with a count and a toggle
    n_dead: int
    random_url: str
    url: str
    json_url: str


@dataclass(frozen=True)
class EvidenceTab:
    key: str  # top, bands, borderline, near, all
    text: str
    url: str
    is_chosen: bool


@dataclass(frozen=True)
class CandidateRow:
    """A text that could have been the label."""

    text: str
    source: str
    is_label: bool
    parts: list[float | None]  # by the names of `WhyView.parts`
    chosen_by: float | None  # AUC on the choosing documents


@dataclass(frozen=True)
class WhyView:
    """Why a label is what it is, and what it is worth."""

    source: str  # in words
    made: str  # ISO date, "" where it is not known
    prompt: str
    reasoning: str
    remark: str
    parts: list[str]  # names of what candidates are judged by
    candidates: list[CandidateRow]
    scores: list[Score]  # the first is the one that badges show
    positives: list[DocumentLink]
    negatives: list[DocumentLink]
    history: list[Former]


@dataclass(frozen=True)
class Elsewhere:
    """A feature's nearest in another SAE of the collection."""

    sae: str
    url: str
    n_latents: int
    relation: str  # "coarser" (fewer features), "finer" (more), "as fine"
    nearest: NeighbourRow | None  # by direction, with the cosine
    jaccard: float  # of that pair: documents with both over documents with either
    recurs: bool  # the cosine is above `threshold`
    threshold: float
    by_documents: NeighbourRow | None  # the largest Jaccard, where that is another feature
    overlap: float
    parts: list[NeighbourRow]  # its features whose own nearest is this one, nearest first
    n_parts: int


@dataclass(frozen=True)
class FeatureView:
    collection: str
    sae: str
    latent: int
    label: LabelView
    is_dead: bool
    density: float
    n_documents: int
    n_collection: int
    max: float
    mean: float
    median: float
    quality: float
    quantiles: list[tuple[float, float]]  # (q, activation) over documents that have the feature
    histogram: Histogram
    is_log: bool
    log_url: str  # toggles
    tabs: list[EvidenceTab]
    groups: list[tuple[str, list[DocumentCard]]]  # the chosen tab: (heading, documents)
    page: Page | None
    tree: list[TreeRow]
    family_url: str | None
    family_label: str | None
    similar: list[NeighbourRow]
    opposite: list[NeighbourRow]
    together: list[NeighbourRow]
    years: list[tuple[int, int, int]]  # year, documents with the feature, documents in all
    why: WhyView
    elsewhere: list[Elsewhere]  # empty where the collection has one SAE
    previous_url: str
    next_url: str
    random_url: str
    more_url: str  # search steered towards it
    less_url: str  # and away from it
    url: str
    json_url: str
    previous_label: str = ""
    next_label: str = ""
    authored: Authored | None = None  # None where nobody may write
    embed_url: str | None = None  # for a frame of another site, where that is allowed
