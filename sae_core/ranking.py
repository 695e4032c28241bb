"""Documents in the order of their products with a vector, alone or fused with a ranking by words.

A ranking is made from sums S that are known up to an error, as they were added up along the way, and from a
function that computes single products exactly. The sums say who may be among the best, the exact products who
is: what is found depends on the vector alone, not on how the sums came about.

Where no vector stands for a text, its words alone say what is found and in which order (`by_words`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sae_core.index import Hits, highest

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

N_BINS = 1 << 16  # of all sums, in which ranks are counted
OFFSET = 60  # of reciprocal rank fusion; Cormack, Clarke, Buettcher, SIGIR 2009


class Ranking:
    """All documents, or those at `places` (rising), by product with one vector; ties by position.

    |sums_M - c exact| <= error for one c > 0 and all documents.
    """

    def __init__(
        self,
        sums_M: NDArray[np.float32],
        exact: Callable[[NDArray[np.int64]], NDArray[np.float32]],
        *,
        error: float = 0.0,
        places: NDArray[np.int64] | None = None,
    ) -> None:
        self.sums_M, self.exact, self.error, self.places = sums_M, exact, error, places

    def __len__(self) -> int:
        return len(self.sums_M) if self.places is None else len(self.places)

    def among(self, places: NDArray[np.int64]) -> Ranking:
        """The ranking of some of the documents, given by rising position."""
        return Ranking(self.sums_M, self.exact, error=self.error, places=places)

    def top(self, n: int) -> Hits:
        """The `n` best, exactly."""
        candidates = highest(self._sums(), min(n, len(self)), 2 * self.error)
        positions = candidates if self.places is None else self.places[candidates]
        scores = self.exact(positions)
        best = np.lexsort((positions, -scores))[:n]
        return Hits(positions[best], scores[best])

    def ranks(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """The rank, from 0, of documents that are in this ranking; exactly."""
        sums, slack = self._sums(), np.float32(2 * self.error)
        wanted = self.sums_M[positions]
        bins = _Bins(sums, wanted - slack, wanted + slack)
        above = bins.count_above(wanted + slack)
        rivals, of_wanted = bins.between(wanted - slack, wanted + slack)
        rivals = rivals if self.places is None else self.places[rivals]
        theirs, own = self.exact(rivals), self.exact(positions)[of_wanted]
        is_better = (theirs > own) | ((theirs == own) & (rivals < positions[of_wanted]))
        ranks: NDArray[np.int64] = above + np.bincount(of_wanted[is_better], minlength=len(positions))
        return ranks

    def _sums(self) -> NDArray[np.float32]:
        return self.sums_M if self.places is None else self.sums_M[self.places]


class _Bins:
    """Sums counted by size, and those near some limits in order, so that one pass serves many limits."""

    def __init__(
        self, sums: NDArray[np.float32], lows: NDArray[np.float32], highs: NDArray[np.float32]
    ) -> None:
        self._lowest = sums.min() if len(sums) else np.float32(0)
        span = float(sums.max() - self._lowest) if len(sums) else 0.0
        self._factor = np.float32((N_BINS - 1) / span if span > 0 else 0.0)
        bin_of = self._bin(sums)
        is_near = np.zeros(N_BINS, dtype=np.bool_)
        for first, last in zip(self._bin(lows).tolist(), self._bin(highs).tolist(), strict=True):
            is_near[first : last + 1] = True
        counts = np.bincount(bin_of, minlength=N_BINS)
        self._above = counts.sum() - np.cumsum(counts)  # sums in higher bins
        near_counts = np.where(is_near, counts, 0)
        self._near_above = near_counts.sum() - np.cumsum(near_counts)
        near = np.flatnonzero(is_near[bin_of])
        order = np.argsort(sums[near], kind="stable")
        self._near, self._rising = near[order], sums[near][order]

    def count_above(self, limits: NDArray[np.float32]) -> NDArray[np.int64]:
        """How many sums are larger than each of the limits given at the start."""
        at = self._bin(limits)
        n_near = len(self._rising) - np.searchsorted(self._rising, limits, side="right")
        return np.asarray(self._above[at] - self._near_above[at] + n_near)

    def between(
        self, lows: NDArray[np.float32], highs: NDArray[np.float32]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where sums lie from each low to its high, ends included, and which of the pairs it was."""
        first = np.searchsorted(self._rising, lows, side="left")
        counts = np.searchsorted(self._rising, highs, side="right") - first
        pair = np.repeat(np.arange(len(lows)), counts)
        begins = np.cumsum(counts) - counts
        return self._near[np.arange(len(pair)) - begins[pair] + first[pair]], pair

    def _bin(self, sums: NDArray[np.float32]) -> NDArray[np.int64]:
        """Never falls as the sum rises: subtraction and product of floats do not."""
        return np.clip((sums - self._lowest) * self._factor, 0, N_BINS - 1).astype(np.int64)


@dataclass(frozen=True)
class Ordered:
    """The beginning of a ranking, best first."""

    hits: Hits  # scores are products, also where words had a say in the order
    fused: NDArray[np.float64] | None  # the scores of the fusion; None without one
    total: int  # documents in the whole ranking


@dataclass(frozen=True)
class Groups:
    """Which documents count as alike."""

    group_M: NDArray[np.int32]  # -1: like no other

    def winners(self, ranking: Ranking, rivals: NDArray[np.int64]) -> NDArray[np.int64]:
        """The best document of each group, in no order; documents at `rivals` are left out beforehand."""
        places = np.arange(len(self.group_M)) if ranking.places is None else ranking.places
        places = places[self.group_M[places] >= 0]
        if len(rivals):
            places = places[~np.isin(places, rivals)]
        groups, sums = self.group_M[places], ranking.sums_M[places]
        highest = np.full(int(self.group_M.max(initial=-1)) + 1, -np.inf, dtype=np.float32)
        np.maximum.at(highest, groups, sums)
        places = places[sums >= highest[groups] - np.float32(2 * ranking.error)]
        groups = self.group_M[places]
        order = np.lexsort((places, -ranking.exact(places), groups))
        is_first = np.diff(groups[order], prepend=-1) != 0
        winners: NDArray[np.int64] = places[order[is_first]]
        return winners

    def best(self, positions: NDArray[np.int64], order: NDArray[np.int64]) -> NDArray[np.int64]:
        """Of documents whose `order` says who comes first, those that are first of their group; rising."""
        ordered = positions[order]
        groups = self.group_M[ordered]
        _, first = np.unique(groups[groups >= 0], return_index=True)
        return np.sort(np.concatenate([ordered[groups < 0], ordered[groups >= 0][first]]))


@dataclass(frozen=True)
class Fusion:
    """A ranking by words, and how much it counts beside that by products."""

    positions: NDArray[np.int64]  # best match first
    weight: float  # 0..1

    def among(self, places: NDArray[np.int64] | None) -> Fusion:
        """The same without documents that are not at `places`; ranks are those of the rest."""
        if places is None:
            return self
        return Fusion(self.positions[np.isin(self.positions, places)], self.weight)

    def scores(self, positions: NDArray[np.int64], ranks: NDArray[np.int64]) -> NDArray[np.float64]:
        """(1 - w) / (60 + rank) + w / (60 + rank by words), ranks from 1; without the words 0 for these."""
        scores = (1 - self.weight) / (OFFSET + 1 + ranks)
        order = np.argsort(self.positions, kind="stable")
        at = np.searchsorted(self.positions, positions, sorter=order)
        by_words = order[np.minimum(at, len(order) - 1)] if len(order) else np.zeros_like(at)
        has = self.positions[by_words] == positions if len(order) else np.zeros(len(at), dtype=np.bool_)
        scores[has] += self.weight / (OFFSET + 1 + by_words[has])
        return scores


def first(ranking: Ranking, n: int, *, fusion: Fusion | None = None, groups: Groups | None = None) -> Ordered:
    """The first `n` documents: by product, or by the fusion (ties by product), one of each group."""
    if fusion is None or fusion.weight == 0:
        kept = ranking if groups is None else ranking.among(_survivors(ranking, groups))
        return Ordered(kept.top(n), None, len(kept))
    fusion = fusion.among(ranking.places)
    words = fusion.positions
    kept = ranking
    if groups is not None:
        places = _fused_survivors(ranking, groups, fusion)
        kept, words = ranking.among(places), words[np.isin(words, places)]
    # Who has none of the words and is not among the first by product has n documents before it.
    positions = np.union1d(kept.top(n).positions, words)
    ranks, scores = ranking.ranks(positions), ranking.exact(positions)
    fused = fusion.scores(positions, ranks)
    best = np.lexsort((ranks, -fused))[:n]
    return Ordered(Hits(positions[best], scores[best]), fused[best], len(kept))


def by_words(
    positions: NDArray[np.int64],
    before: NDArray[np.float32],
    after: NDArray[np.float32],
    groups: Groups | None = None,
) -> Ordered:
    """Documents in the order of their words, shifted by the places that a change of a vector lets them gain.

    `positions` (P,), best match first, with their products before and after the change. A document has
    1 / (60 + its rank by words) + 1 / (60 + its rank after) - 1 / (60 + its rank before), ranks from 1 and
    among these documents: no change leaves exactly the order of the words. Of each group one.
    """
    gained = _reciprocal(after) - _reciprocal(before)
    scores = 1 / (OFFSET + 1 + np.arange(len(positions))) + gained
    order = np.argsort(-scores, kind="stable")
    if groups is not None and len(positions):
        order = order[np.isin(positions[order], groups.best(positions, order))]
    return Ordered(Hits(positions[order], after[order]), scores[order], len(order))


def _reciprocal(products: NDArray[np.float32]) -> NDArray[np.float64]:
    """1 / (60 + rank from 1) of each product; ties by place."""
    ranks = np.empty(len(products), dtype=np.int64)
    ranks[np.argsort(-products, kind="stable")] = np.arange(len(products))
    return np.asarray(1 / (OFFSET + 1 + ranks))


def _alone(ranking: Ranking, groups: Groups) -> NDArray[np.int64]:
    """Documents that are in no group."""
    if ranking.places is None:
        return np.flatnonzero(groups.group_M < 0)
    return ranking.places[groups.group_M[ranking.places] < 0]


def _survivors(ranking: Ranking, groups: Groups) -> NDArray[np.int64]:
    winners = groups.winners(ranking, np.empty(0, dtype=np.int64))
    return np.sort(np.concatenate([_alone(ranking, groups), winners]))


def _fused_survivors(ranking: Ranking, groups: Groups, fusion: Fusion) -> NDArray[np.int64]:
    """The first of each group is the best by product of those without the words, or one with them."""
    positions = np.concatenate([groups.winners(ranking, fusion.positions), fusion.positions])
    ranks = ranking.ranks(positions)
    order = np.lexsort((ranks, -fusion.scores(positions, ranks)))
    best = groups.best(positions, order)
    return np.union1d(best, _alone(ranking, groups))
