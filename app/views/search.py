"""What a steered search shows: sliders, moves, results and their reasons; and what separates two sets."""

from __future__ import annotations

from dataclasses import dataclass

from app.views.common import (
    DocumentCard,
    DocumentLink,
    FeatureChip,
    FeatureRow,
    Histogram,
    Option,
    Page,
    Trust,
)
from app.views.editing import StoredLenses


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
class WhyDocument:
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
    is_counted: bool  # there was time to count


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
    ranking_seconds: float  # of the search itself: the steered query, its products, the order
    seconds: float  # embedding + ranking + reading
    # what the block `results` has beside the ranking
    plain: list[PlainRow]  # the first page of the unsteered ranking; empty where nothing is steered
    ways: list[Option]  # a list, or steered and unsteered side by side
    why: WhyDocument | None  # the document that is asked about
    above: WhyDocument | None  # and what it has more than another
    previews: list[Preview]
    n_pool: int  # first results that previews are about
    n_unforetold: int  # sliders beyond those of the previews
    proposals: Proposals | None  # None: nothing is marked
    chosen: list[Chosen]  # documents to be like and unlike, and those ticked for A and B
    separate_url: str | None  # what separates A from B
    faithful: Faithful | None
    facets: Facets | None
    keywords: float  # weight of the words, 0..1
    n_keywords: int  # documents that have them, at most a thousand
    diverse: bool
    is_by_words: bool  # the text has no vector: what has its words is found, and ordered by them
    text_problem: str | None  # why texts are not searched by meaning
    stored: StoredLenses | None = None  # by people; None where nobody may write


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
    q: str  # the search in which features are used
    swap_url: str | None
    url: str
    json_url: str
    seconds: float
