"""What is shown of a page where somebody else's page has room for it: in a frame, in a picture."""

from __future__ import annotations

from dataclasses import dataclass

from app.views.common import DocumentCard, Histogram, LabelView


@dataclass(frozen=True)
class EmbedView:
    """A feature in a frame."""

    collection: str
    sae: str
    latent: int
    label: LabelView
    is_dead: bool
    density: float  # share of documents, 0..1
    n_documents: int
    max: float
    histogram: Histogram
    documents: list[DocumentCard]  # strongest first
    url: str  # of the page of the feature


@dataclass(frozen=True)
class DigestBar:
    """A name and a number as a bar."""

    text: str
    share: float  # of the longest bar, -1..1
    note: str


@dataclass(frozen=True)
class Digest:
    """What a picture of a page says."""

    eyebrow: str  # what kind of page it is
    title: str
    facts: list[str]
    heading: str  # of the documents
    documents: list[DigestBar]  # titles; a share of 0 has no bar
    figure: str  # heading of what stands beside them: the histogram or the bars
    counts: list[int]  # of the histogram; empty where there is none
    maximum: str  # the right end of its axis
    bars: list[DigestBar]
    place: str  # collection and SAE
