"""What separates two sets of documents: every feature counted in both, tested, corrected for their number.

For each feature a table of four counts: documents of A and of B that have it, and that do not. Reported are
the log odds ratio with half a document added to each count (Haldane 1956, Anscombe 1956) and its 95 %
interval (Woolf 1955), the two-sided p of Fisher's exact test, and the q of Benjamini and Hochberg (1995). A
feature so rare or so common that no table with its margins has p <= 0.05 is not tested (after Tarone 1990):
it has q = 1 and does not count among the tests that the others are corrected for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import gammaln

from sae_core.errors import SaefariError
from sae_core.intervals import Z_95, Interval

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeAlias

    from numpy.typing import NDArray

    from sae_core.codes import Codes

    _Positions: TypeAlias = Sequence[int] | NDArray[np.integer]

LEVEL = 0.05  # of p and of q
_SAME = 1 + 1e-7  # tables that are as likely as the one found, up to rounding
_SPREADS = 7  # standard deviations from where a tail begins, beyond which it adds nothing
_TERMS = 40  # at least; where the deviation is small the tail falls faster than a normal one


@dataclass(frozen=True)
class Separation:
    """One feature in two sets."""

    latent: int
    n_a: int  # documents of A that have it
    n_b: int
    share_a: float
    share_b: float
    log_odds: Interval  # natural; > 0 where A has it more
    p: float
    q: float  # 1 where it was not tested
    is_tested: bool  # it could pass, however it were shared out


def separate(codes: Codes, a: _Positions, b: _Positions | None = None) -> list[Separation]:
    """Features that fire on documents of A or B, by rising q, then p, then falling |log odds|.

    `a` and `b` are positions of documents; `b` None stands for all others. The two must not overlap, and
    neither may be empty: `SaefariError`.
    """
    a_A = np.unique(np.asarray(a, dtype=np.int64))
    b_B = None if b is None else np.unique(np.asarray(b, dtype=np.int64))
    size_a = len(a_A)
    size_b = codes.n_documents - size_a if b_B is None else len(b_B)
    _check_sets(size_a, size_b, a_A, b_B)
    in_a_N = _counts(codes, a_A)
    in_b_N = codes.counts() - in_a_N if b_B is None else _counts(codes, b_B)
    latents = np.flatnonzero(in_a_N + in_b_N)
    n_a, n_b = in_a_N[latents], in_b_N[latents]
    p = fisher_exact(n_a, n_b, size_a, size_b)
    q = np.ones(len(p))
    tested = smallest_p(n_a + n_b, size_a, size_b) <= LEVEL
    q[tested] = benjamini_hochberg(p[tested])
    value, reach = _log_odds(n_a, n_b, size_a, size_b)
    order = np.lexsort((latents, -np.abs(value), p, q))
    columns = (latents, n_a, n_b, n_a / size_a, n_b / size_b, value, reach, p, q, tested)
    return [
        Separation(latent, a_, b_, share_a, share_b, Interval(v, v - r, v + r), *tests)
        for latent, a_, b_, share_a, share_b, v, r, *tests in zip(
            *(column[order].tolist() for column in columns), strict=True
        )
    ]


def _check_sets(size_a: int, size_b: int, a_A: NDArray[np.int64], b_B: NDArray[np.int64] | None) -> None:
    if size_a == 0 or size_b == 0:
        empty = "first" if size_a == 0 else "second"
        raise SaefariError(f"The {empty} set has no documents.", remedy="Put at least one into each.")
    if b_B is not None and (both := len(np.intersect1d(a_A, b_B, assume_unique=True))):
        what = f"{both:,} documents are in both sets." if both > 1 else "One document is in both sets."
        raise SaefariError(what, remedy="Leave it out of one of them.")


def _counts(codes: Codes, positions: NDArray[np.int64]) -> NDArray[np.int64]:
    """On how many of these documents each latent fires, (N,)."""
    starts = codes.document_ptr[positions]
    lengths = codes.document_ptr[positions + 1] - starts
    before = np.cumsum(lengths) - lengths
    entries = np.repeat(starts - before, lengths) + np.arange(int(lengths.sum()))
    return np.bincount(codes.latents[entries], minlength=codes.n_latents)


def _log_odds(
    n_a: NDArray[np.int64], n_b: NDArray[np.int64], size_a: int, size_b: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The log odds ratio, and how far its 95 % interval reaches to either side."""
    cells = [count + 0.5 for count in (n_a, size_b - n_b, size_a - n_a, n_b)]
    value = np.log(cells[0]) + np.log(cells[1]) - np.log(cells[2]) - np.log(cells[3])
    return value, Z_95 * np.sqrt(sum(1 / cell for cell in cells))


def fisher_exact(
    n_a: NDArray[np.int64], n_b: NDArray[np.int64], size_a: int, size_b: int
) -> NDArray[np.float64]:
    """The two-sided p of Fisher's exact test for each pair of counts: the sum over tables no likelier.

    Exact up to rounding (1e-9 relative), for many features at once: log factorials are looked up, and each of
    the two tails is summed from where it begins to where nothing is left of it.
    """
    table = _Hypergeometric(n_a + n_b, size_a, size_b)
    found = table.log_pmf(n_a)
    limit = found + math.log(_SAME)
    peak = table.mode()
    below, above = n_a < peak, n_a > peak
    low = np.where(above, table.edge(limit, table.least - 1, peak + 1, rising=True), n_a)
    high = np.where(below, table.edge(limit, peak - 1, table.most + 1, rising=False), n_a + 1 - above)
    return np.minimum(table.tail(low, -1) + table.tail(high, +1), 1.0)


def smallest_p(n_both: NDArray[np.int64], size_a: int, size_b: int) -> NDArray[np.float64]:
    """The smallest two-sided p that a feature can have which fires on `n_both` documents of A and B."""
    table = _Hypergeometric(n_both, size_a, size_b)
    ends = np.exp(table.log_pmf(table.least)), np.exp(table.log_pmf(table.most))
    alike = (np.maximum(*ends) <= np.minimum(*ends) * _SAME) & (table.least < table.most)
    return np.minimum(np.where(alike, ends[0] + ends[1], np.minimum(*ends)), 1.0)


def benjamini_hochberg(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """The false discovery rate at which each test would pass."""
    order = np.argsort(p, kind="stable")
    scaled = p[order] * len(p) / np.arange(1, len(p) + 1)
    q = np.empty(len(p))
    q[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return q


class _Hypergeometric:
    """How many of `n_both` documents with a feature lie in A, by chance; one distribution per feature."""

    def __init__(self, n_both: NDArray[np.int64], size_a: int, size_b: int) -> None:
        self.n_both, self.size_a, self.size_b = n_both, size_a, size_b
        self.least = np.maximum(0, n_both - size_b)
        self.most = np.minimum(n_both, size_a)
        self._log_factorial = gammaln(np.arange(1, size_a + size_b + 2))
        self._constant = self._choose(np.array(size_a + size_b), n_both)
        share = size_a / (size_a + size_b)
        self._spread = np.sqrt(n_both * share * (1 - share))

    def _choose(self, n: NDArray[np.int64], k: NDArray[np.int64]) -> NDArray[np.float64]:
        table = self._log_factorial
        chosen: NDArray[np.float64] = table[n] - table[k] - table[n - k]
        return chosen

    def log_pmf(self, k: NDArray[np.int64], rows: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
        """Of k in A; `rows` names the feature of each where there are several per feature."""
        n_both = self.n_both if rows is None else self.n_both[rows]
        constant = self._constant if rows is None else self._constant[rows]
        in_a = self._choose(np.array(self.size_a), k)
        return in_a + self._choose(np.array(self.size_b), n_both - k) - constant

    def mode(self) -> NDArray[np.int64]:
        return (self.n_both + 1) * (self.size_a + 1) // (self.size_a + self.size_b + 2)

    def edge(
        self, limit: NDArray[np.float64], low: NDArray[np.int64], high: NDArray[np.int64], *, rising: bool
    ) -> NDArray[np.int64]:
        """Where the tail of what is no likelier than `limit` begins, between low and high.

        On the rising side the largest such k, `low` where there is none; on the falling one the smallest,
        `high` where there is none.
        """
        low, high = low.copy(), high.copy()
        while np.any(high - low > 1):
            middle = (low + high) // 2
            unlikely = self.log_pmf(np.clip(middle, self.least, self.most)) <= limit
            up = unlikely if rising else ~unlikely
            open_ = high - low > 1
            low = np.where(open_ & up, middle, low)
            high = np.where(open_ & ~up, middle, high)
        return low if rising else high

    def tail(self, begin: NDArray[np.int64], step: int) -> NDArray[np.float64]:
        """The sum of the probabilities from `begin` downwards (step -1) or upwards (+1)."""
        last = self.least if step < 0 else self.most
        length = np.clip((last - begin) * step + 1, 0, _TERMS + np.ceil(_SPREADS * self._spread)).astype(
            np.int64
        )
        rows = np.repeat(np.arange(len(begin)), length)
        within = np.arange(len(rows)) - np.repeat(np.cumsum(length) - length, length)
        terms = np.exp(self.log_pmf(begin[rows] + step * within, rows))
        return np.asarray(np.bincount(rows, weights=terms, minlength=len(begin)), dtype=np.float64)
