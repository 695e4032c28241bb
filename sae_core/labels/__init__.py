"""What features and families are called, where that comes from, and how far it can be trusted."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sae_core.errors import LINE_LETTERS
from sae_core.intervals import Interval

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_LETTERS = LINE_LETTERS  # of a label; a longer one is cut, wherever it comes from


@dataclass(frozen=True)
class Score:
    """How well a label predicts its feature, on documents that neither made nor chose it."""

    predictor: str  # in words; says where it is circular
    n_positives: int
    n_negatives: int
    auc: Interval  # 0.5 is chance
    f1: Interval  # at a threshold that was chosen on other documents; "yes" to all gets 2/3 where n are equal
    pearson: Interval  # of the prediction with 0 and 1


@dataclass(frozen=True)
class Candidate:
    """A text that could be the label."""

    text: str
    source: str  # "phrases" or "llm:MODEL"
    parts: dict[str, float] = field(default_factory=dict)  # what its place rests on, 0..1 each
    chosen_by: float | None = None  # AUC on the choosing documents; None: not entered in the tournament


@dataclass(frozen=True)
class Evidence:
    """What a label was made from."""

    positives: list[int]  # positions of documents
    negatives: list[int]
    prompt: str = ""  # name and digest of the prompt; "" where there was none
    reasoning: str = ""
    made: str = ""  # ISO date


@dataclass(frozen=True)
class Former:
    """What a feature was called before."""

    text: str
    source: str
    auc: float | None
    made: str


@dataclass(frozen=True)
class Label:
    """What a feature is called, where that comes from, and how far it can be trusted."""

    text: str  # "" where there is none
    source: str  # "phrases", "llm:MODEL" or "none"
    score: Score | None = None
    candidates: list[Candidate] = field(default_factory=list)  # best first, the label's own included
    evidence: Evidence | None = None
    history: list[Former] = field(default_factory=list)  # latest first
    other_scores: list[Score] = field(default_factory=list)  # same documents, other predictors
    remark: str = ""  # why there is no label, or no score

    @classmethod
    def parse(cls, entry: dict[str, Any]) -> Label:
        """Inverse of `dataclasses.asdict`."""
        return cls(
            text=entry["text"],
            source=entry["source"],
            score=_score(entry["score"]) if entry["score"] else None,
            candidates=[Candidate(**candidate) for candidate in entry["candidates"]],
            evidence=Evidence(**entry["evidence"]) if entry["evidence"] else None,
            history=[Former(**former) for former in entry["history"]],
            other_scores=[_score(score) for score in entry["other_scores"]],
            remark=entry["remark"],
        )


def left_out(labels: Iterable[Label]) -> dict[str, int]:
    """How many labels are missing, or not measured, for which reason: for people, most common first."""
    reasons = Counter(label.remark.split(":")[0] for label in labels if label.remark)
    return dict(reasons.most_common())


def _score(entry: dict[str, Any]) -> Score:
    intervals = {name: Interval(**entry[name]) for name in ("auc", "f1", "pearson")}
    return Score(**{**entry, **intervals})
