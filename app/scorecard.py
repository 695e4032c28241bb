"""The scorecard of an SAE: the same view for the served page and for the file beside a training.

Artifacts of different ages say different things. What one does not say is left out of its scorecard.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.pages import render_file
from app.views.common import Histogram
from app.views.scorecard import (
    Baseline,
    CurvePoint,
    DriftView,
    RetrievalKept,
    Scorecard,
    ScorecardFileView,
    Stability,
)
from sae_core import metrics as measures
from sae_core.drift import Drift, parse_drift
from sae_core.errors import ArtifactError
from sae_core.files import explain_write_errors, write_atomic
from sae_core.intervals import Interval
from sae_core.report import DRIFTS

SCORECARD_FILE = "scorecard.html"
MAX_CURVE = 400  # points

Json = Mapping[str, Any]


def scorecard_of(
    name: str,
    metrics: Json,
    config: Json,
    history: Sequence[Json],
    *,
    counts_N: NDArray[np.int64] | None = None,
    n_documents: int = 0,
    provenance: Sequence[tuple[str, str]] = (),
) -> Scorecard:
    """What `metrics`, `config` and `history` (the lines of the training log) say, as a view.

    `counts_N` says on how many of `n_documents` each latent fires; without it the densities are those of the
    metrics, if these have them.
    """
    densities = metrics.get("density")
    if densities is None and counts_N is not None:
        densities = measures.density_histogram(counts_N, n_documents)
    return Scorecard(
        name=name,
        n_latents=int(metrics["n_latents"]),
        k=int(metrics["k"]),
        most_active=int(metrics.get("most", metrics["k"])),
        origin=str(config.get("origin", "")),
        fvu_train=float(metrics["fvu_train"]),
        fvu_heldout=float(metrics["fvu_heldout"]),
        n_train=int(metrics["n_train"]),
        n_heldout=int(metrics["n_heldout"]),
        l0=float(metrics["l0"]),
        n_dead=int(metrics["n_dead"]),
        n_rare=_integer(metrics, "n_rare"),
        n_labelled=None,
        n_families=None,
        families_url=None,
        steps=_integer(metrics, "steps") or (int(history[-1]["step"]) if history else None),
        planned_steps=_integer(config, "steps"),
        best_step=_integer(metrics, "best_step"),
        curve=_curve(history),
        density=_histogram(densities),
        encoder_decoder=_histogram(metrics.get("encoder_decoder")),
        stability=_stability(metrics.get("stability")),
        retrieval=_retrieval(metrics.get("retrieval")),
        drift=[_drift(DRIFTS[which], found) for which, found in parse_drift(metrics.get("drift")).items()],
        baselines=[
            Baseline(b["name"], float(b["fvu_heldout"]), b["remark"]) for b in metrics.get("baselines", [])
        ],
        label_scores=None,
        config=[(key.replace("_", " "), _words(value)) for key, value in config.items()],
        provenance=list(provenance),
    )


def write_scorecard(folder: Path) -> Path:
    """Write `scorecard.html`, which needs no other file, from what `saefari train` left in `folder`.

    Raises `ArtifactError` if there is no finished training, or if the file cannot be written.
    """
    from sae_core.checkpoint import read_log

    training = read_training(folder)
    provenance = [
        ("rows", f"sha256 {training['data']}"),
        ("seed", _words(training["config"].get("seed"))),
        *[(name, str(version)) for name, version in training.get("versions", {}).items()],
    ]
    card = scorecard_of(
        folder.resolve().name,
        training["metrics"],
        training["config"],
        read_log(folder),
        provenance=provenance,
    )
    view = ScorecardFileView(card, made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"))
    path = folder / SCORECARD_FILE
    with explain_write_errors(folder):
        write_atomic(path, render_file("scorecard.html", view).encode())
    return path


def read_training(folder: Path) -> dict[str, Any]:
    """What `training.json` says; `ArtifactError` if it is missing or damaged."""
    path = folder / "training.json"
    remedy = "Run `saefari train` with this folder again; it goes on from the last checkpoint."
    try:
        training = json.loads(path.read_text(encoding="utf-8"))
        if {"config", "data", "metrics"} <= training.keys():
            return dict(training)
    except FileNotFoundError as error:
        raise ArtifactError(f"{folder} holds no finished training.", remedy=remedy) from error
    except (ValueError, AttributeError) as error:
        raise ArtifactError(f"{path} is damaged: {error}.", remedy=remedy) from error
    raise ArtifactError(f"{path} is not the record of a training.", remedy=remedy)


def _curve(history: Sequence[Json]) -> list[CurvePoint]:
    """The log, thinned out evenly, with its last line."""
    stride = max(1, math.ceil(len(history) / MAX_CURVE))
    return [
        CurvePoint(
            step=int(line["step"]),
            **{
                name: _number(line, name)
                for name in ("fvu_train", "fvu_heldout", "dead", "rare", "learning_rate")
            },
        )
        for line in history[::-1][::stride][::-1]
    ]


def _histogram(found: Json | None) -> Histogram | None:
    if found is None:
        return None
    counts = [int(count) for count in found["counts"]]
    return Histogram(float(found["low"]), float(found["high"]), counts, _number(found, "mean"))


def _stability(found: Json | None) -> Stability | None:
    """None where no second SAE was trained, or where no feature lives that it could have."""
    if found is None or _number(found, "share") is None:
        return None
    names = Stability.__dataclass_fields__
    return Stability(**{name: found[name] for name in names})


def _retrieval(found: Json | None) -> RetrievalKept | None:
    """None where nothing was searched for, or nothing found."""
    if found is None or _number(found, "kept") is None:
        return None
    return RetrievalKept(**{name: found[name] for name in RetrievalKept.__dataclass_fields__})


def _drift(which: str, found: Drift) -> DriftView:
    def bounds(measured: Interval) -> tuple[float, float]:
        return measured.low, measured.high

    return DriftView(
        which=which,
        n=found.n,
        n_heldout=found.n_heldout,
        fvu=found.fvu.value,
        fvu_interval=bounds(found.fvu),
        fvu_heldout=found.fvu_heldout.value,
        fvu_heldout_interval=bounds(found.fvu_heldout),
        times=found.times.value,
        times_interval=bounds(found.times),
        is_large=found.is_large,
        n_living=found.n_living,
        silent=found.silent.value,
        silent_expected=found.silent_expected,
        unseen=found.unseen.value,
        unseen_heldout=found.unseen_heldout.value,
    )


def _number(found: Json, name: str) -> float | None:
    """A number that can be shown, or None."""
    value = found.get(name)
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _integer(found: Json, name: str) -> int | None:
    value = _number(found, name)
    return None if value is None else int(value)


def _words(value: object) -> str:
    return "none" if value is None else str(value)
