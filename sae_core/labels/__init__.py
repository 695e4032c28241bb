"""Names for features, each with its source and with a measure of how well it predicts the feature."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Label:
    """What a feature is called, where that comes from, and how far it can be trusted."""

    text: str  # "" where there is none
    source: str  # "phrases" or "none"
    score: float | None = None  # AUC on documents that the label was not made from; None: not measured
    score_low: float | None = None  # 95 % interval
    score_high: float | None = None
    score_n: int = 0  # documents that the score rests on
    predictor: str = ""  # how the score was measured, in words
    candidates: list[tuple[str, float]] = field(default_factory=list)  # the next best phrases, ranking 0..1
