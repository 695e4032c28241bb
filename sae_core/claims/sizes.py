"""Claims 1 to 3: how the error falls with k, with n, and with compute."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sae_core.checkpoint import read_log
from sae_core.claims.model import MIN_POINTS, Check, Claim, Measure, make_claim
from sae_core.dictionaries import KMEANS, PCA, RANDOM
from sae_core.intervals import wilson
from sae_core.powerlaw import GOOD_R2, Point, power_laws

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from sae_core.claims.study import GridFolder, Study
    from sae_core.grid import GridResult
    from sae_core.powerlaw import Fit, PowerLaws

N_FRONTIER = 24
ERRORS = ("fvu_train", "fvu_heldout")

NO_GRID = "no grid of SAEs: give --grid FOLDER, or let the report train one"


def reconstruction(study: Study) -> Claim:
    """1: the error falls with k and n."""
    measures, checks = [], []
    if study.grid is None:
        checks.append(Check(NO_GRID, None, is_key=True))
    else:
        for name, laws in _both(study.grid.result):
            for size, words in (("k", "k"), ("n", "the number of latents")):
                term = laws.joint.term(size) if laws.joint else None
                measures.append(
                    Measure(
                        f"exponent of {size}, {name}",
                        term.value if term else None,
                        term.low if term else None,
                        term.high if term else None,
                        laws.joint.n_points if laws.joint else None,
                    )
                )
                falls = None if term is None or term.high is None else term.high < 0
                checks.append(
                    Check(
                        f"the {name} error falls with {words}{_in_numbers(term)}", falls, name == "training"
                    )
                )
        measures += _steps_that_help(study.grid.result)
    fvu = float(study.space.metrics["fvu_heldout"])
    beside = _fvu_of_baselines(study.space.metrics)
    measures.append(
        Measure("FVU of this SAE, held-out", fvu, n=study.space.metrics["n_heldout"], baselines=beside)
    )
    better = [name for name, value in beside.items() if value is not None and value <= fvu]
    text = f"it errs less ({fvu:.3f}) than PCA, k-means and random directions as it stands"
    checks.append(Check(text, not better if beside else None, is_key=True))
    return make_claim(
        1,
        "Reconstruction improves with k and n",
        "The error falls as more latents are active (k) and as there are more of them (n).",
        measures,
        checks,
        "The paper's errors are training errors; here held-out ones stand beside them. With few documents "
        "more latents memorise: the held-out error may stand still while the training error falls. The "
        "random directions are given least-squares weights, PCA as many numbers per document.",
    )


def power_law_in_n(study: Study) -> Claim:
    """2: log FVU is a line in log n."""
    measures: list[Measure] = []
    checks: list[Check] = []
    if study.grid is None:
        checks.append(Check(NO_GRID, None, is_key=True))
    else:
        for name, laws in _both(study.grid.result):
            fits = {k: fit for k, fit in laws.by_k.items() if fit.n_points >= MIN_POINTS}
            for k, fit in fits.items():
                measures += _law(f"at k = {k}, {name}", fit)
            checks.append(_law_check(f"{name} errors", fits, is_key=name == "training"))
    return make_claim(
        2,
        "A power law in n",
        f"For each k the error is a power of n, R² above {GOOD_R2}.",
        measures,
        checks,
        "A line through three or four points nearly always fits well: the interval of the exponent says more "
        "than R². The exponent depends on the embedder, on its width and on the number of documents.",
    )


def power_law_in_compute(study: Study) -> Claim:
    """3: the error reached with so much compute."""
    measures: list[Measure] = []
    checks: list[Check] = []
    if study.grid is None:
        checks.append(Check(NO_GRID, None, is_key=True))
    else:
        for (name, laws), column in zip(
            _by_compute(study.grid.result, study.grid.batch), ERRORS, strict=True
        ):
            fits = {k: fit for k, fit in laws.by_k.items() if fit.n_points >= MIN_POINTS}
            for k, fit in fits.items():
                measures += _law(f"at k = {k}, {name}, whole runs", fit, "compute")
            checks.append(_law_check(f"{name} errors of whole runs", fits, is_key=name == "training"))
            checks.append(_frontier_check(study.grid, name, column, measures))
    return make_claim(
        3,
        "A power law in compute",
        "For each k the error is a power of the compute that training took.",
        measures,
        checks,
        "Compute is (2nd + 2kd + 3n) x rows. Whole runs: the error at the end against what the run took; all "
        "have as many steps, so this is the law in n again. Along the runs: the lowest error reached so far "
        "by any n, from the training logs, where training errors are those of batches, and the interval is "
        "the range when one n is left out. Within a run the learning rate has not yet decayed, so that a "
        "curve which bends down at the end is of our schedule's making.",
    )


def _by_compute(result: GridResult, batch: int) -> list[tuple[str, PowerLaws]]:
    """The fits of the errors at the end of each run to what the run took."""
    return [
        (
            name,
            power_laws(
                [
                    Point(
                        m.k,
                        batch * result.steps * _per_row(m.n_latents, m.k, result.width),
                        getattr(m, column),
                    )
                    for m in result.members
                ]
            ),
        )
        for name, column in zip(("training", "held-out"), ERRORS, strict=True)
    ]


def _per_row(n: int, k: int, width: int) -> int:
    """Multiplications for one row, as the paper counts them: 2nd + 2kd + 3n."""
    return 2 * n * width + 2 * k * width + 3 * n


def _frontier_check(grid: GridFolder, name: str, column: str, measures: list[Measure]) -> Check:
    """Whether the lowest error reached so far, by any run, is a power of the compute so far."""
    laws = {}
    for k in sorted({member.k for member in grid.result.members}):
        law = compute_law(_curves(grid, k, column))
        if law is not None:
            laws[k] = law
            words = f"at k = {k}, {name}, along the runs"
            measures += [
                Measure(f"exponent of compute {words}", law.exponent, law.low, law.high, law.n),
                Measure(f"R² {words}", law.r2, n=law.n),
            ]
    bent = [str(k) for k, law in laws.items() if law.r2 < GOOD_R2 or law.exponent >= 0]
    text = f"the lowest {name} error along the runs is a power of compute at every k (R² at least {GOOD_R2}"
    ending = _except(bent) if laws else "; there are no training logs"
    return Check(f"{text}{ending})", not bent if laws else None)


def _except(bent: Sequence[str]) -> str:
    return f"; not at k = {', '.join(bent)}" if bent else ""


class ComputeLaw(NamedTuple):
    """log FVU = a + exponent x log compute, through the frontier of some runs."""

    exponent: float
    low: float | None  # range when one run is left out
    high: float | None
    r2: float
    n: int  # points of the frontier


def compute_law(curves: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]]) -> ComputeLaw | None:
    """The law of the lowest error reached by any of the runs (compute, error); None for too few points."""
    whole = _frontier_fit(curves)
    if whole is None:
        return None
    without = [_frontier_fit([c for j, c in enumerate(curves) if j != i]) for i in range(len(curves))]
    others = [fit.exponent for fit in without if fit is not None] if len(curves) >= MIN_POINTS else []
    if not others:
        return whole
    return whole._replace(low=min(whole.exponent, *others), high=max(whole.exponent, *others))


def _frontier_fit(
    curves: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]],
) -> ComputeLaw | None:
    if not curves:
        return None
    compute = np.log(np.concatenate([c for c, _ in curves]))
    error = np.log(np.concatenate([e for _, e in curves]))
    order = np.argsort(compute, kind="stable")
    compute, error = compute[order], error[order]
    lowest = np.minimum.accumulate(error)
    # Points at equal distances in log compute, so that the many late ones do not decide alone.
    at = np.linspace(compute[0], compute[-1], N_FRONTIER)
    places = np.unique(np.clip(np.searchsorted(compute, at, side="right") - 1, 0, None))
    x, y = compute[places], lowest[places]
    if len(x) < MIN_POINTS or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    slope, offset = np.polyfit(x, y, 1)
    r2 = 1 - float(np.square(y - slope * x - offset).sum() / np.square(y - y.mean()).sum())
    return ComputeLaw(float(slope), None, None, r2, len(x))


def _curves(grid: GridFolder, k: int, column: str) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Compute and error along each run of one k; runs without a log are left out."""
    curves = []
    for member in grid.result.members:
        if member.k != k:
            continue
        n, d = member.n_latents, grid.result.width
        per_row = _per_row(n, k, d)
        log = [line for line in read_log(grid.folder / member.name) if _is_positive(line.get(column))]
        if log:
            steps = np.array([float(line["step"]) for line in log])
            curves.append((steps * grid.batch * per_row, np.array([float(line[column]) for line in log])))
    return curves


def _is_positive(value: float | None) -> bool:
    return value is not None and math.isfinite(value) and value > 0


def _both(result: GridResult) -> tuple[tuple[str, PowerLaws], ...]:
    return (("training", result.train), ("held-out", result.heldout))


def _steps_that_help(result: GridResult) -> list[Measure]:
    """How often the next larger k, or n, errs less."""
    found = []
    for name in ERRORS:
        errors = {(m.k, m.n_latents): float(getattr(m, name)) for m in result.members}
        ks, ns = sorted({k for k, _ in errors}), sorted({n for _, n in errors})
        pairs = [((k, a), (k, b)) for k in ks for a, b in pairwise(ns)]
        pairs += [((a, n), (b, n)) for n in ns for a, b in pairwise(ks)]
        told = [errors[b] < errors[a] for a, b in pairs if a in errors and b in errors]
        if told:
            share = wilson(sum(told), len(told))
            words = f"next larger size errs less, {'training' if name == 'fvu_train' else 'held-out'}"
            found.append(Measure(words, share.value, share.low, share.high, len(told), "share"))
    return found


def _law(words: str, fit: Fit, of: str = "n") -> list[Measure]:
    term = fit.term("n")
    return [
        Measure(f"exponent of {of} {words}", term.value, term.low, term.high, fit.n_points),
        Measure(f"R² {words}", fit.r2, n=fit.n_points),
    ]


def _law_check(name: str, fits: Mapping[int, Fit], *, is_key: bool) -> Check:
    bent = [str(k) for k, fit in fits.items() if not fit.is_good or fit.term("n").value >= 0]
    text = f"the {name} lie on a falling line at every k (R² at least {GOOD_R2}{_except(bent)})"
    return Check(text, not bent if fits else None, is_key=is_key)


def _fvu_of_baselines(metrics: Mapping[str, Any]) -> dict[str, float | None]:
    """Held-out FVU as the scorecard has it, by the names used here."""
    begins = {"PCA": PCA, "k-means": KMEANS, "random": RANDOM}
    return {
        name: float(entry["fvu_heldout"])
        for entry in metrics.get("baselines", [])
        for begin, name in begins.items()
        if entry["name"].startswith(begin)
    }


def _in_numbers(term: Any) -> str:
    return "" if term is None else f" (exponent {term.value:.3f})"
