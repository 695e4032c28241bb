"""What scorecards and comparisons of SAEs show."""

from __future__ import annotations

from dataclasses import dataclass

from app.views.common import FeatureChip, Histogram
from app.views.library import CollectionCard, SAESummary


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
class DriftView:
    """Documents that came after training beside those that were held out. Pairs are 95 % intervals."""

    which: str  # when they came
    n: int
    n_heldout: int
    fvu: float  # error on them, in variances of the held-out documents
    fvu_interval: tuple[float, float]
    fvu_heldout: float
    fvu_heldout_interval: tuple[float, float]
    times: float  # the first error over the second
    times_interval: tuple[float, float]
    is_large: bool  # so that training anew is worth while
    n_living: int
    silent: float  # share of the living features that fire on none of them
    silent_expected: float  # the same of as many older documents
    unseen: float  # share of documents with a feature that no training document has
    unseen_heldout: float


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
    drift: list[DriftView]  # empty where no document was added, or too few
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
    is_stale: bool  # labels, families or documents have changed since


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
    is_stale: bool  # labels, families or documents have changed since
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
