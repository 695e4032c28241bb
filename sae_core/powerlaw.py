"""How the error falls with size: power laws fitted by least squares in logarithms, with their uncertainty.

    log FVU = a + alpha log n                                         for one k
    log FVU = a + alpha log n + beta log k (+ gamma log k log n)      for all k together

The form with gamma is that of arXiv 2406.04093, which arXiv 2408.00657 follows. The latter's
errors stand here so that its exponents come from the same fit as ours; they are no part of any result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import stdtrit

if TYPE_CHECKING:
    from collections.abc import Sequence

GOOD_R2 = 0.97  # below it the points do not lie on a line, and an exponent says little

# Training errors read off the figures of arXiv 2408.00657: text-embedding-3-small, 1,536 dimensions.
PAPER_LATENTS = (3072, 4608, 6144, 9216, 12288)
PAPER = {
    "astro-ph": {
        16: (0.230, 0.217, 0.211, 0.199, 0.194),
        32: (0.175, 0.165, 0.159, 0.152, 0.146),
        64: (0.142, 0.131, 0.126, 0.1195, 0.115),
        128: (0.111, 0.105, 0.102, 0.097, 0.092),
    },
    "cs.LG": {
        16: (0.231, 0.216, 0.206, 0.199, 0.191),
        64: (0.149, 0.140, 0.131, 0.123, 0.117),
    },
}


@dataclass(frozen=True)
class Point:
    """The error of one SAE."""

    k: int
    n_latents: int
    fvu: float


@dataclass(frozen=True)
class Term:
    """A fitted coefficient; without spare points there is nothing to estimate its error from."""

    name: str
    value: float
    error: float | None  # standard error
    low: float | None  # 95 % interval, Student's t
    high: float | None


@dataclass(frozen=True)
class Fit:
    """A line, or plane, through the logarithms."""

    terms: tuple[Term, ...]
    r2: float
    n_points: int

    def term(self, name: str) -> Term:
        """The coefficient of that name; `KeyError` for one that was not fitted."""
        return {term.name: term for term in self.terms}[name]

    @property
    def is_good(self) -> bool:
        """Whether the points lie on it well enough for the exponents to mean something."""
        return self.r2 >= GOOD_R2


@dataclass(frozen=True)
class PowerLaws:
    """The fits of one set of errors; what has too few points is left out."""

    by_k: dict[int, Fit]
    joint: Fit | None  # of n and k
    crossed: Fit | None  # of n, k, and their product


def power_laws(points: Sequence[Point]) -> PowerLaws:
    """Every fit that the points allow; an error that is not a positive number has no logarithm and no say."""
    points = [point for point in points if np.isfinite(point.fvu) and point.fvu > 0]
    fits = {k: _fit([p for p in points if p.k == k], "n") for k in sorted({point.k for point in points})}
    return PowerLaws(
        by_k={k: fit for k, fit in fits.items() if fit is not None},
        joint=_fit(points, "n", "k"),
        crossed=_fit(points, "n", "k", "k × n"),
    )


def paper_laws(name: str) -> PowerLaws:
    """The same fits to the paper's errors on "astro-ph" or "cs.LG"."""
    return power_laws(
        [
            Point(k, n_latents, error)
            for k, errors in PAPER[name].items()
            for n_latents, error in zip(PAPER_LATENTS, errors, strict=True)
        ]
    )


def _fit(points: Sequence[Point], *names: str) -> Fit | None:
    """Ordinary least squares of log FVU on a constant and the named logarithms; None for too few points."""
    log_n, log_k = np.log([p.n_latents for p in points]), np.log([p.k for p in points])
    logs = {"n": log_n, "k": log_k, "k × n": log_k * log_n}
    X = np.stack([np.ones(len(points)), *(logs[name] for name in names)], axis=1)
    n_points, n_terms = X.shape
    if n_points < n_terms or np.linalg.matrix_rank(X) < n_terms:
        return None
    y = np.log([point.fvu for point in points])
    values, *_ = np.linalg.lstsq(X, y, rcond=None)
    left, around = float(np.square(y - X @ values).sum()), float(np.square(y - y.mean()).sum())
    spare = n_points - n_terms
    errors: list[float | None] = [None] * n_terms
    reach = 0.0
    if spare > 0:
        errors = np.sqrt(np.diag(np.linalg.inv(X.T @ X)) * left / spare).tolist()
        reach = float(stdtrit(spare, 0.975))
    terms = tuple(
        Term(
            name,
            value,
            error,
            None if error is None else value - reach * error,
            None if error is None else value + reach * error,
        )
        for name, value, error in zip(("constant", *names), values.tolist(), errors, strict=True)
    )
    return Fit(terms, r2=1 - left / around if around > 0 else 1.0, n_points=n_points)
