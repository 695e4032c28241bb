"""How far a query moved, whether a judge saw what was moved, and what else changed: points and curves.

Side effects are read from the SAE's own codes of the results, the moved feature left out: with p_j the share
of the ten best documents that have feature j, and w_j = log(M / n_j),

    others = sum_j w_j |p'_j - p_j| / sum_j w_j (p'_j + p_j)

is 0 where the results have the same features and 1 where they share none. `overlap` is the share of the ten
best that are the same documents, and needs no SAE.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from sae_core.claims import trials
from sae_core.evaluation.model import Figure, draws

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from sae_core.claims.study import Study

FIELDS = ("cosine", "named", "circular", "others", "overlap")
MOST_MISSING = 0.1  # of the draws, where a level was not reached: then the figure has no interval


@dataclass(frozen=True)
class Curve:
    """One method at several strengths: each field is (trials, strengths); the first column moves nothing."""

    cosine: NDArray[np.float64]
    named: NDArray[np.float64]  # credit of the judge, 1/5 by chance
    circular: NDArray[np.float64]  # the same by the SAE's own activations of the results
    others: NDArray[np.float64]
    overlap: NDArray[np.float64]

    def stored(self) -> dict[str, Any]:
        """As JSON. Inverse of `parse`."""
        return {name: np.round(getattr(self, name), 6).tolist() for name in FIELDS}

    @classmethod
    def parse(cls, stored: dict[str, Any]) -> Curve:
        return cls(**{name: np.asarray(stored[name], dtype=np.float64) for name in FIELDS})


class Bench:
    """Trials, and all that is needed to measure where their queries went."""

    def __init__(
        self,
        study: Study,
        asked: Sequence[trials.Trial],
        find: Callable[[int, NDArray[np.float32]], NDArray[np.int64]],
        judge: Callable[[list[NDArray[np.int64]], list[NDArray[np.int64]]], list[float]],
        sign: int = 1,
    ) -> None:
        """`find(t, x)` are rows of the library; `judge(before, after)` gives credits of all trials.

        `sign` is -1 where features are moved down.
        """
        self.asked, self._find, self._judge, self._sign = list(asked), find, judge, sign
        codes = study.space.codes.matrix()[study.heldout]
        self._activations_HN = codes
        self._fires_HN = codes.astype(np.bool_).astype(np.float32)
        counts_N = np.maximum(study.space.codes.counts(), 1)
        self._rarity_N = np.log(study.space.codes.n_documents / counts_N)
        self._moved = np.array([trial.features[0] for trial in asked], dtype=np.int64)
        self.before = [find(at, trial.x_D) for at, trial in enumerate(asked)]
        self._had_TN = self._profile(self.before)

    def curve(
        self,
        columns: Sequence[list[NDArray[np.float32]]],
        report: Callable[[int, int], None] = lambda _done, _total: None,
    ) -> Curve:
        """A point for each column, which has the moved query of every trial."""
        points = []
        for done, moved in enumerate(columns):
            points.append(self._point(moved))
            report(done + 1, len(columns))
        return Curve(*(np.array([point[at] for point in points]).T for at in range(len(FIELDS))))

    def _point(self, moved: list[NDArray[np.float32]]) -> tuple[list[float], ...]:
        after = [self._find(at, x_D) for at, x_D in enumerate(moved)]
        cosines = [float(trial.x_D @ x_D) for trial, x_D in zip(self.asked, moved, strict=True)]
        overlap = [
            len(np.intersect1d(a, b)) / max(len(a), 1) for a, b in zip(self.before, after, strict=True)
        ]
        changed = self._others(after)
        return cosines, self._judge(self.before, after), self._by_activation(after), changed, overlap

    def _profile(self, results: Sequence[NDArray[np.int64]]) -> NDArray[np.float32]:
        """p: the share of each trial's results that has each feature, the moved one left out, (T, N)."""
        profile_TN = np.asarray((_chosen(results, self._fires_HN.shape[0]) @ self._fires_HN).toarray())
        profile_TN[np.arange(len(profile_TN)), self._moved] = 0
        return profile_TN

    def _others(self, after: Sequence[NDArray[np.int64]]) -> list[float]:
        has_TN = self._profile(after)
        changed = np.abs(has_TN - self._had_TN) @ self._rarity_N
        whole = (has_TN + self._had_TN) @ self._rarity_N
        found: list[float] = (changed / np.maximum(whole, 1e-12)).tolist()
        return found

    def _by_activation(self, after: Sequence[NDArray[np.int64]]) -> list[float]:
        """Which of a trial's features changed most in the results, by their stored activations."""
        features = [trial.features for trial in self.asked]
        if any(len(five) < trials.N_FEATURES for five in features):
            return [float("nan")] * len(features)
        gains_TF = self._means(after, features) - self._means(self.before, features)
        return [trials.credit(self._sign * gains) for gains in gains_TF]

    def _means(
        self, results: Sequence[NDArray[np.int64]], features: Sequence[tuple[int, ...]]
    ) -> NDArray[np.float64]:
        means_TN = (_chosen(results, self._activations_HN.shape[0]) @ self._activations_HN).tocsr()
        columns = np.array(features)
        rows = np.repeat(np.arange(len(columns)), columns.shape[1])
        return np.asarray(means_TN[rows, columns.ravel()]).reshape(columns.shape)


def _chosen(results: Sequence[NDArray[np.int64]], n_rows: int) -> sp.csr_matrix:
    """The matrix that takes means over each trial's results, (T, H)."""
    sizes = [len(found) for found in results]
    weights = np.repeat([1 / max(size, 1) for size in sizes], sizes).astype(np.float32)
    rows = np.repeat(np.arange(len(results)), sizes)
    columns = np.concatenate(results) if results else np.zeros(0, dtype=np.int64)
    return sp.csr_matrix((weights, (rows, columns)), shape=(len(results), n_rows))


class Reading:
    """A curve read off between its points, with the intervals of drawing other trials."""

    def __init__(self, curve: Curve, seed: int) -> None:
        self._curve = curve
        self._weights_BT = draws(len(curve.cosine), seed)

    def at(self, x: str, y: str, level: float) -> tuple[float, NDArray[np.float64]]:
        """The mean of `y` where the mean of `x` is `level`; nan where no strength reaches it. And drawn."""
        x_TS, y_TS = getattr(self._curve, x), getattr(self._curve, y)
        value = _interpolate(x_TS.mean(axis=0), y_TS.mean(axis=0), level)
        drawn = [
            _interpolate(x_S, y_S, level)
            for x_S, y_S in zip(self._weights_BT @ x_TS, self._weights_BT @ y_TS, strict=True)
        ]
        return value, np.array(drawn)

    def figure(self, x: str, y: str, level: float, kind: str = "share") -> Figure | None:
        """The same as a cell."""
        return cell(*self.at(x, y, level), kind)


def cell(value: float, drawn_B: NDArray[np.float64], kind: str = "share") -> Figure | None:
    """A value and what it was in each draw; None where the value is not there."""
    if not np.isfinite(value):
        return None
    if np.mean(np.isnan(drawn_B)) > MOST_MISSING:
        return Figure(value, kind=kind)
    low, high = np.nanquantile(drawn_B, (0.025, 0.975)).tolist()
    return Figure(value, min(low, value), max(high, value), kind)


def _interpolate(x_S: NDArray[np.float64], y_S: NDArray[np.float64], level: float) -> float:
    """y where x first reaches `level`, going along the strengths; nan where it never does."""
    rising_S = x_S if level >= x_S[0] else -x_S
    goal = level if level >= x_S[0] else -level
    reached = np.flatnonzero(rising_S >= goal)
    if not len(reached):
        return float("nan")
    at = int(reached[0])
    if at == 0:
        return float(y_S[0])
    share = (goal - rising_S[at - 1]) / max(rising_S[at] - rising_S[at - 1], 1e-12)
    return float(y_S[at - 1] + share * (y_S[at] - y_S[at - 1]))
