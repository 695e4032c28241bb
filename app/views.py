"""What each page shows, as data. A route fills one of these; HTML and JSON are two prints of it.

Nothing here formats: numbers are numbers, texts are plain text, addresses are made by `app.urls`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sae_core.families import Chance
from sae_core.labels import Former, Score


@dataclass(frozen=True)
class Breadcrumb:
    text: str
    url: str


# --- small things that several pages show -----------------------------------------------------


@dataclass(frozen=True)
class Trust:
    """How far a label can be trusted, for the badge beside it."""

    level: str  # "strong", "fair", "weak", "chance", "unscored", "none"
    word: str  # the same for people
    auc: float | None  # of the predictor on held-out documents; None where not measured
    low: float | None  # its 95 % interval
    high: float | None
    n: int  # documents on which it was measured


@dataclass(frozen=True)
class LabelView:
    """A feature's or a family's label. `text` is never empty: unlabelled ones say so."""

    text: str
    source: str  # "phrases", "llm:MODEL" or "none"
    trust: Trust
    phrases: list[str]  # what an unlabelled one has to say for itself; of a labelled one none


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


# --- pages --------------------------------------------------------------------------------------


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
class OverviewView:
    collection: CollectionCard
    examples: list[Option]  # example queries: text and link
    years: list[tuple[int, int]]  # year, documents
    venues: list[Option]  # largest, with counts; link to a search filtered by it
    surprising: list[FeatureRow]  # high quality, low density
    families: list[FamilyCard]
    map: FamilyMap | None
    documents: list[DocumentCard]  # a few, to start from


@dataclass(frozen=True)
class Slider:
    """One feature in the steering panel."""

    latent: int
    label: str
    trust: Trust
    url: str
    own: float  # the query's own activation z (0 where the query does not have it)
    base: float  # where it stands unless it is moved by hand: where a lens puts it, else `own`
    strength: float  # s, the activation that is set; equals `base` while untouched
    is_moved: bool  # away from the query's own
    is_added: bool  # put there by a person, not by the query
    is_kept: bool  # the address names it, though it may be where it would be anyway
    low: float
    high: float
    step: float
    n_documents: int
    histogram: Histogram
    bounds: list[float]  # quantiles and maximum over the documents that have it
    words: str  # how strong `strength` is among these
    explains: float | None  # z (d . x) log(M / n): its place in the order; None where it was added
    mode: str  # "", "required", "excluded" or "ignored"
    modes: list[Option]
    left_weaker: float | None  # the cosine with the own query that one notch down would leave, and one up
    left_stronger: float | None
    reset_url: str  # this one back to the query's own
    remove_url: str | None  # out of the panel (added sliders)
    zero_url: str | None  # strength 0
    weaker_url: str  # one notch down and up: steering without JavaScript
    stronger_url: str


@dataclass(frozen=True)
class Follower:
    """A feature that moves with its family."""

    feature: FeatureChip
    own: float  # the query's activation
    share: float  # of the family's move
    strength: float  # what comes of it
    is_locked: bool
    is_set: bool  # by hand or by a lens, so it does not follow
    lock_url: str  # toggles
    set_url: str  # gives it a slider of its own


@dataclass(frozen=True)
class FamilySlider:
    """A family in the steering panel; `strength` is how far the query is moved along it."""

    root: int
    label: str
    trust: Trust
    url: str
    strength: float
    base: float  # where a lens puts it, else 0
    low: float
    high: float
    step: float
    size: int
    n_locked: int
    followers: list[Follower]  # those that move most
    n_more: int
    is_kept: bool  # the address names it
    histogram: Histogram  # empty
    weaker_url: str
    stronger_url: str
    reset_url: str
    remove_url: str | None  # None where a lens brought it
    own: float = 0.0  # a family's slider opens at no move
    words: str = ""
    left_weaker: float | None = None
    left_stronger: float | None = None


@dataclass(frozen=True)
class FoundFeature:
    """A feature that can be added."""

    row: FeatureRow
    by: str  # "words", "meaning" or "both"
    cosine: float | None  # of its label with the words, where that is among the highest
    url: str  # adds it


@dataclass(frozen=True)
class FoundFamily:
    """A family that can be added."""

    id: int
    label: str
    trust: Trust
    size: int
    url: str  # adds it


@dataclass(frozen=True)
class LensView:
    """A lens of the address."""

    name: str
    sae: str  # that it was made on
    is_foreign: bool  # which is not this one
    moves: list[str]  # what it does here, in words
    matches: list[str]  # which features here stand for those of the other SAE
    n_lost: int  # moves that nothing stands for
    remark: str
    up_url: str | None  # applied earlier
    down_url: str | None
    remove_url: str
    unfold_url: str | None  # its moves as sliders
    share_url: str  # a search with this lens alone
    text: str  # JSON


@dataclass(frozen=True)
class MoveChip:
    """Something that is done to the search."""

    kind: str  # "lens", "family", "strength", "mode", "keep", "refine" or "demand"
    words: str  # "more dust"
    change: str  # "0.210 → 0.400", or what else there is to say
    cosine: float | None  # that this move alone leaves with the own query
    undo_url: str


@dataclass(frozen=True)
class Mark:
    """What a result was chosen for, or what would take the place of that."""

    role: str  # "like", "unlike", "up", "down", "a", "b", "why", "against"
    is_on: bool
    url: str  # takes it back, or, where it is not on, puts it in the place of its opposite


@dataclass(frozen=True)
class ResultRow:
    rank: int
    document: DocumentCard
    score: float  # cosine with the steered query
    bar: float  # score relative to the best of this search, 0..1
    shared: tuple[FeatureChip, ...]  # strongest features that the steered query and the document share
    moved: int | None  # places gained (+) or lost (-) against the unsteered ranking; None: no such place
    is_new: bool  # not among the first thousand of the unsteered ranking
    marks: tuple[Mark, ...]
    explained: float | None  # share of its centred squared norm that its features explain


@dataclass(frozen=True)
class Contribution:
    """What one feature has to do with a score."""

    feature: FeatureChip  # with the document's activation
    value: float


@dataclass(frozen=True)
class WhyPaper:
    """A score as a sum, or the difference of two: parts + bias + missed = score = query + moves."""

    document: DocumentLink
    below: DocumentLink | None  # the other document, where this is a difference of two
    rank: int | None  # None: not on this page
    score: float
    parts: list[Contribution]  # of the document's features, by falling size
    bias: float  # the same for every document
    missed: float  # not captured by features
    query: float  # what the query as it was brings, once the steered one is scaled to unit length
    moves: list[Contribution]  # what each move added
    explained: float | None  # share of the document's centred squared norm that its features explain
    close_url: str


@dataclass(frozen=True)
class PlainRow:
    """A document on the first page of the unsteered ranking, and where it went."""

    rank: int
    document: DocumentLink
    now: int | None  # its rank; None: not among the first thousand, or filtered out
    is_filtered: bool  # what is required or excluded leaves it out
    is_dropped: bool  # it is not on the first page any more


@dataclass(frozen=True)
class Notch:
    """What one more notch of a slider would do to the first results, by their cosines."""

    step: float  # of strength
    n_rise: int
    n_fall: int
    most: DocumentLink | None  # that would move furthest up
    places: int  # by so many
    shown: tuple[int, ...]  # places that each shown result would gain (+) or lose (-)


@dataclass(frozen=True)
class Preview:
    """A slider of the panel, before it is moved."""

    latent: int
    label: str
    down: Notch | None  # None: it is at its end
    up: Notch | None


@dataclass(frozen=True)
class ProposedMove:
    """A slider move that marks on results suggest."""

    feature: FeatureChip
    words: str  # "more dust"
    own: float
    strength: float
    gain: float  # what it adds to the scores of wanted documents, less that of unwanted ones; mean
    url: str  # accepts it


@dataclass(frozen=True)
class Proposals:
    """What follows from the marks."""

    moves: list[ProposedMove]
    n_up: int
    n_down: int
    clear_url: str


@dataclass(frozen=True)
class Chosen:
    """A document that the address names, and the address without it."""

    role: str  # "like", "unlike", "a", "b"
    document: DocumentLink
    remove_url: str


@dataclass(frozen=True)
class Faithful:
    """How far the features speak for the query and for the results."""

    explained: float  # share of the query's centred squared norm
    overlap: float | None  # of its first results with those of its reconstruction
    n: int  # how many were compared
    page: float | None  # mean share of the results shown
    is_low: bool  # sliders act on less than half of the meaning


@dataclass(frozen=True)
class Choice:
    """One value of a filter. `count`: documents that pass the other filters; None: no time to count."""

    key: str  # for the script that renews counts
    value: str
    text: str
    count: int | None
    is_chosen: bool


@dataclass(frozen=True)
class Facets:
    """What documents can be filtered by."""

    years: list[tuple[int, int | None]]  # year, documents
    venues: list[Choice]
    categories: list[Choice]
    cited: list[Choice]  # at least so often


@dataclass(frozen=True)
class SearchView:
    collection: str
    sae: str
    q: str
    is_steered: bool
    sliders: list[Slider]
    more_sliders: list[Slider]  # the query's weaker features, folded
    has_query: bool  # words or documents to begin from
    phrases: list[str]  # what strengths are called, for the script
    families: list[FamilySlider]
    moves: list[MoveChip]
    lenses: list[LensView]
    keep: float | None  # the least cosine with the own query
    refine: bool
    refined: tuple[float, float] | None  # normalised squared error of what re-encodes, before and after
    found: list[FoundFeature]  # answers to "add a feature"
    found_families: list[FoundFamily]
    found_note: str | None  # why it was looked for by words only
    find: str  # those words
    cosine: float  # of the steered query with the query
    results: list[ResultRow]
    page: Page | None
    years: tuple[int | None, int | None]  # chosen range
    year_bounds: tuple[int, int] | None  # what the collection has
    examples: list[Option]
    reset_url: str
    url: str  # canonical address of this view
    json_url: str
    message: str | None  # zero results, encoder loading ...: what happened and what to do
    remarks: list[str]  # what could not be done as asked, in sentences
    seconds: float  # embedding + ranking + reading, for the footer
    # what the block `results` has beside the ranking
    plain: list[PlainRow]  # the first page of the unsteered ranking; empty where nothing is steered
    ways: list[Option]  # a list, or steered and unsteered side by side
    why: WhyPaper | None  # the document that is asked about
    above: WhyPaper | None  # and what it has more than another
    previews: list[Preview]
    n_pool: int  # first results that previews are about
    proposals: Proposals | None  # None: nothing is marked
    chosen: list[Chosen]  # documents to be like and unlike, and those ticked for A and B
    separate_url: str | None  # what separates A from B
    faithful: Faithful | None
    facets: Facets | None
    keywords: float  # weight of the words, 0..1
    n_keywords: int  # documents that have them, at most a thousand
    diverse: bool


@dataclass(frozen=True)
class SideView:
    """One of two sets of documents that are compared."""

    name: str  # "A" or "B"
    text: str  # what it is, in words
    n: int  # documents in it
    documents: list[tuple[DocumentLink, str | None]]  # some of them, each with the address without it
    years: str  # of the form
    q: str


@dataclass(frozen=True)
class SeparationRow:
    """A feature in two sets."""

    feature: FeatureChip
    n_a: int  # documents of A that have it
    share_a: float
    n_b: int
    share_b: float
    log_odds: float  # natural; > 0 where A has it more
    low: float  # 95 % interval
    high: float
    p: float  # Fisher's exact test, two-sided
    q: float  # after Benjamini and Hochberg
    passes: bool
    steer_url: str  # a search steered towards it


@dataclass(frozen=True)
class SeparateView:
    """What separates two sets of documents."""

    collection: str
    sae: str
    a: SideView
    b: SideView
    is_rest: bool  # B is all documents that are not in A
    remarks: list[str]  # sentences about the sets
    message: str | None  # why there is nothing to see, or why nothing passes
    n_features: int  # that fire on a document of either
    n_tested: int  # of them could pass at all
    level: float  # of q
    more_in_a: list[SeparationRow]
    more_in_b: list[SeparationRow]
    n_more_in_a: int  # that pass
    n_more_in_b: int
    reach: float  # the largest log odds among these rows, either way
    sorts: list[Option]
    page: Page | None
    year_bounds: tuple[int, int] | None
    has_texts: bool  # whether sets can be made of the best of a text
    q: str  # the search in which features are used
    swap_url: str | None
    url: str
    json_url: str
    seconds: float


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


@dataclass(frozen=True)
class Baseline:
    name: str
    fvu_heldout: float
    remark: str


@dataclass(frozen=True)
class CurvePoint:
    """One line of the training log; what an older log did not have is None."""

    step: int
    fvu_train: float | None
    fvu_heldout: float | None
    dead: float | None  # shares of the latents
    rare: float | None
    learning_rate: float | None


@dataclass(frozen=True)
class Stability:
    """How many features another seed finds too."""

    share: float  # of the living features: nearest direction above `threshold`
    low: float  # 95 % interval
    high: float
    n: int
    threshold: float
    mean_cosine: float  # of the nearest direction
    random_share: float  # the same against random directions
    random_mean_cosine: float
    random_n: int


@dataclass(frozen=True)
class RetrievalKept:
    """nDCG of searching with reconstructions, beside that of searching with the embeddings."""

    k: int  # places of the ranking that count
    n_queries: int
    ndcg: float
    ndcg_reconstructed: float
    kept: float  # the second over the first


@dataclass(frozen=True)
class Scorecard:
    """What is known of how well an SAE was trained. What its artifact does not say is None or empty."""

    name: str
    n_latents: int
    k: int
    most_active: int  # latents on one document
    origin: str  # where it was made, "" if with this collection
    fvu_train: float
    fvu_heldout: float
    n_train: int
    n_heldout: int
    l0: float
    n_dead: int
    n_rare: int | None  # density below 1e-4, dead excluded
    n_labelled: int | None
    n_families: int | None
    families_url: str | None
    steps: int | None  # made
    planned_steps: int | None
    best_step: int | None  # whose weights were kept
    curve: list[CurvePoint]
    density: Histogram | None  # log10 density of the living; the marker is its mean
    encoder_decoder: Histogram | None  # cosines of the living; the marker is their mean
    stability: Stability | None
    retrieval: RetrievalKept | None
    baselines: list[Baseline]
    label_scores: Histogram | None
    config: list[tuple[str, str]]
    provenance: list[tuple[str, str]]  # data and weights hashes, versions, seed


@dataclass(frozen=True)
class ClaimView:
    """A claim of the paper and what was found here, its numbers printed already."""

    number: int
    title: str
    said: str  # by the paper
    verdict: str
    tone: str  # "holds", "part", "fails" or "open"
    why: str
    checks: list[tuple[str, str]]  # tone ("holds", "fails" or "open") and what was checked
    rows: list[tuple[str, str, str, str, str]]  # measure, this SAE, interval, n, baselines
    caveat: str
    llm: str


@dataclass(frozen=True)
class CategoryRow:
    """The single feature that finds a category best."""

    category: str
    feature: FeatureChip
    f1: float  # on held-out documents
    low: float  # 95 % interval
    high: float
    n: int  # documents of the category among them
    others: list[float]  # F1 of the best feature of each baseline


@dataclass(frozen=True)
class CategoryTable:
    """Known categories, this SAE beside the baselines."""

    source: str  # the column
    dictionaries: list[str]  # the baselines
    rows: list[CategoryRow]  # best first
    means: list[tuple[str, str, str]]  # dictionary, mean F1, lead of the SAE; with intervals


@dataclass(frozen=True)
class ClaimsView:
    """What `saefari report` found for an SAE."""

    claims: list[ClaimView]
    counts: list[tuple[str, str, int]]  # tone, verdict, how many
    made: str
    grid: str
    baselines: list[tuple[str, str]]  # name, what it is
    beside: list[tuple[str, ...]]  # measure, this SAE, each baseline
    categories: CategoryTable | None
    left_out: list[str]
    is_stale: bool  # labels or families were made again since


@dataclass(frozen=True)
class SplittingView:
    """What one SAE has of another of the same collection."""

    name: str
    url: str
    other: str
    other_url: str
    n: int  # living features
    recurrent: float | None
    low: float
    high: float
    new: float | None
    random: float | None  # recurrent by chance: even directions
    shaped: float | None  # and directions as unevenly spread as the other SAE's own
    mean_cosine: float | None
    mean_overlap: float | None
    humps: int | None
    cosines: Histogram  # the largest of each feature


@dataclass(frozen=True)
class SplitFeature:
    """A feature of a coarser SAE, and those of a finer one whose nearest it is."""

    coarse: FeatureChip
    fine: list[FeatureChip]
    n: int  # of them, of which some are shown


@dataclass(frozen=True)
class ComparedPair:
    """Two SAEs side by side: shares both ways, and features to look at."""

    coarse: str
    fine: str
    ways: list[SplittingView]  # the finer in the coarser first
    splits: list[SplitFeature]
    new: list[FeatureChip]  # features of the finer that the coarser has nothing like
    same: list[tuple[FeatureChip, FeatureChip, float]]  # the same in both, with the cosine


@dataclass(frozen=True)
class CompareView:
    """All SAEs of a collection."""

    collection: CollectionCard
    saes: list[SAESummary]
    label_auc: list[float | None]  # mean over scored labels, of each SAE
    pairs: list[ComparedPair]
    url: str
    json_url: str


@dataclass(frozen=True)
class EvaluationTable:
    """A table of an evaluation, its figures printed already."""

    title: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]
    remark: str


@dataclass(frozen=True)
class EvaluationView:
    """What one `saefari eval` measured."""

    id: str
    title: str
    made: str
    is_stale: bool  # labels or families were made again since
    setup: list[str]
    tables: list[EvaluationTable]
    remarks: list[str]


@dataclass(frozen=True)
class ScorecardView:
    collection: str
    summary: SAESummary
    is_resumed: bool
    card: Scorecard
    claims: ClaimsView | None  # None: `saefari report` was not run
    claims_problem: str  # why a report that is there is not shown
    evaluations: list[EvaluationView]
    evaluations_problem: str
    splitting: list[SplittingView]
    compare_url: str | None  # where there are several SAEs
    url: str
    json_url: str


@dataclass(frozen=True)
class ScorecardFileView:
    """The scorecard as a file of its own, beside what `saefari train` wrote."""

    card: Scorecard
    made: str  # when


@dataclass(frozen=True)
class GridRow:
    """One SAE of a grid."""

    name: str
    url: str | None  # its scorecard, if there is one
    k: int
    n_latents: int
    fvu_train: float
    fvu_heldout: float
    l0: float
    n_dead: int
    n_rare: int
    is_best: bool  # the lowest held-out error of its k


@dataclass(frozen=True)
class TextTable:
    """A table whose numbers are printed already, with their intervals."""

    header: tuple[str, ...]
    rows: list[tuple[str, ...]]


@dataclass(frozen=True)
class GridFileView:
    """A grid of SAEs as a file of its own, beside what `saefari train --grid` wrote."""

    name: str
    rows: list[GridRow]  # by k, then by latents
    n_train: int
    n_heldout: int
    width: int
    steps: int
    data: str
    exponents: TextTable
    joint: TextTable
    joint_form: str
    remarks: list[str]
    made: str


@dataclass(frozen=True)
class ErrorView:
    status: int
    title: str
    message: str
    remedy: str
    home_url: str
    suggestions: list[Option]
