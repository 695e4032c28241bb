"""What the pages of families show."""

from __future__ import annotations

from dataclasses import dataclass

from app.views.common import Breadcrumb, DocumentCard, FeatureChip, LabelView, Option, Page, TreeRow, Trust
from app.views.editing import Authored
from app.views.features import WhyView
from sae_core.families import Chance


@dataclass(frozen=True)
class FamilyCard:
    """A family as it stands in a list."""

    id: int
    label: str
    trust: Trust
    is_own: bool  # the label is the family's; else it is that of its root feature
    url: str
    size: int
    density: float
    n_documents: int
    hub_ratio: float | None  # R = mean C~(parent, children) / mean C~(children, children)
    block_ratio: float | None  # mean C~ inside / with features outside
    children: list[FeatureChip]


@dataclass(frozen=True)
class FamilyArea:
    """A family as a box of the treemap."""

    id: int
    label: str
    url: str
    trust: Trust
    size: int
    n_documents: int
    hub_ratio: float | None
    area: float  # what the box's area stands for
    tone: int  # of the legend, 0 is grey
    children: list[str]  # a few of its features, the densest first
    inside: list[int]  # places of the families that lie inside it, among all areas


@dataclass(frozen=True)
class FamilyMap:
    """The families of a forest as a treemap."""

    areas: list[FamilyArea]
    tops: list[int]  # places of those that lie in no other
    legend: list[tuple[int, str]]  # tone and what it stands for
    area: str  # "features" or "documents"
    colour: str  # "score" or "hub"
    n_left_out: int  # smaller families


@dataclass(frozen=True)
class Measure:
    """A number about families, beside what it would be if they were not there."""

    name: str
    meaning: str
    value: float | None  # None where it is not defined
    mean: float | None  # of the permutation null; None where there is none
    high: float | None  # its 95th percentile
    p: float | None
    is_above: bool | None  # chance; None where that is not known


@dataclass(frozen=True)
class Parameter:
    """One field of the form that changes how families are found."""

    name: str
    text: str
    note: str
    value: str
    low: float | None
    high: float | None
    step: float | None
    choices: list[tuple[str, str]]  # value and text, where it is no number
    is_changed: bool  # it differs from the default


@dataclass(frozen=True)
class SizeBand:
    """How many families have so many features."""

    low: int
    high: int
    n: int


@dataclass(frozen=True)
class FamilyListView:
    collection: str
    sae: str
    families: list[FamilyCard]
    page: Page
    sorts: list[Option]
    map: FamilyMap
    areas: list[Option]  # what the area of a box stands for
    colours: list[Option]
    sizes: list[SizeBand]
    measures: list[Measure]
    best: list[FamilyCard]  # by the score of the label
    worst: list[FamilyCard]
    n_in_families: int
    n_shared: int  # features in more than one
    n_features: int  # that fire at all
    chance: Chance | None  # what features that fire as often, but independently, would form
    algorithms: list[Option]
    parameters: list[Parameter]
    more_parameters: list[Parameter]
    definition: str  # algorithm and parameters, in words
    is_stored: bool  # as the collection was built
    stored_url: str
    seconds: float  # that growing took
    url: str
    json_url: str


@dataclass(frozen=True)
class GrowingView:
    """Families that are still being found: what the page shows until they are."""

    collection: str
    sae: str
    definition: str
    is_quick: bool  # to be found, once it is their turn
    seconds: float  # so far
    n_ahead: int  # other configurations that come first
    block: str  # of the page, that is to be asked for again
    stored_url: str
    url: str
    json_url: str


@dataclass(frozen=True)
class CrossLink:
    """A good parent of a member outside its family."""

    member: FeatureChip
    parent: FeatureChip
    conditional: float  # P(parent fires | member fires)
    family: str  # of the parent, "" where it is in none
    family_url: str | None


@dataclass(frozen=True)
class FamilyView:
    collection: str
    sae: str
    id: int
    label: LabelView
    is_own: bool  # the label is the family's; else it is that of its root feature
    root: FeatureChip
    why: WhyView | None  # of its own label
    above: list[Breadcrumb]  # families that this one lies in, the largest first
    size: int
    density: float
    n_documents: int
    n_collection: int
    measures: list[Measure]
    definition: str
    is_stored: bool
    tree: list[TreeRow]  # as far as it is unfolded
    n_hidden: int
    steer_url: str
    heat_labels: list[FeatureChip]  # at most 40
    heat: list[list[float]]  # C~_ij = C_ij / min(f_i, f_j)
    documents: list[DocumentCard]  # those with most members active
    links: list[CrossLink]
    related: list[FamilyCard]  # families that share members
    families_url: str
    url: str
    json_url: str
    authored: Authored | None = None  # None where nobody may write
