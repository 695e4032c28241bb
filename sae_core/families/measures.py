"""How far families are blocks with a hub, and how far latents of like density would be.

Source of the measures: arXiv 2408.00657, section 4.3. Everything is a mean of C~_ij = C_ij / min(f_i, f_j)
over pairs i != j, in which every pair counts alike:

    R           = mean C~ of the root with the other members / mean C~ of these among each other
    block ratio = mean C~ among members / mean C~ of members with the other living latents

Above 1 the root holds the family together, or the family is a block. (The paper divides the block ratio by
the same number for blocks of the unpermuted matrix; for latents in an arbitrary order that is 1.) Of all
families together: the mean over families of what stands above the line, over that of what stands below.

Density alone moves both, because independent latents have C~_ij = max(f_i, f_j) / M: the denser the root, the
larger R. So each is held against a null: latents change places by a permutation without fixed points among
`BIN` neighbours in the order of density, and what was association between two places becomes that of the
latents which take them,

    C~_ij' = lift(p(i), p(j)) max(f_i, f_j) / M, at most 1, with lift(a, b) = C_ab M / (f_a f_b):

the density of the places is kept exactly, the association is that of others as dense. For R the root alone is
replaced and its children stay; for the block ratio all members, and the outside stays. (Of a family of more
than `MOST_PAIRED` members the block ratio is exact, and its null that of some of its pairs: a little wider.)
p is the share of draws that reach the measure, the family itself counted in. What the null does not cover:
families were chosen on the same documents for being strong.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sae_core.families.model import Null

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from sae_core.families.coactivation import Coactivation
    from sae_core.families.trees import Tree

BIN = 64
MOST_PAIRED = 64  # members of a family all pairs of which are in its null; of a larger one as many pairs
PAIRS_AT_ONCE = 2**18
HIGH = 0.95  # the percentile that a null is summed up with
NOTHING = 1e-12  # a mean, or a relative difference, that is zero but for rounding
FEWEST_DRAWS, MOST_DRAWS = 19, 99


@dataclass(frozen=True)
class Measured:
    """A ratio and its null, both None where the ratio is undefined."""

    value: float | None
    null: Null | None


@dataclass(frozen=True)
class ForestMeasures:
    """Of each family in the order given, and of all together."""

    hubs: list[Measured]
    blocks: list[Measured]
    hub: Measured
    block: Measured
    n_draws: int


def measure(
    coactivation: Coactivation, trees: Sequence[Tree], *, most_lookups: int | None = None
) -> ForestMeasures:
    """R and block ratio of families, with nulls of 99 draws.

    With `most_lookups` there are only as many draws as need so many entries of C, but at least 19.
    """
    places = _Places(coactivation, [tree.members for tree in trees])
    n_draws = MOST_DRAWS
    if most_lookups is not None:
        n_draws = int(np.clip(most_lookups // max(places.n_pairs, 1), FEWEST_DRAWS, MOST_DRAWS))
    hub, inside = places.hub_means(np.arange(coactivation.n_latents)), places.exact_inside_means()
    rest, outside = places.rest_means(hub, inside), places.outside_means(inside)
    rng, exchange = np.random.default_rng(0), _Exchange(coactivation.codes.counts())
    draws = [exchange.draw(rng) for _ in range(n_draws)]
    null_hub_DF = np.array([places.hub_means(p_N) for p_N in draws])
    null_inside_DF = np.array([places.inside_means(p_N) for p_N in draws])
    has_pairs = places.sizes > 2  # noqa: PLR2004 (a root and two children)
    return ForestMeasures(
        hubs=_measured(hub, null_hub_DF, np.where(has_pairs, rest, 0)),
        blocks=_measured(inside, null_inside_DF, outside),
        hub=_together(hub, null_hub_DF, rest, has_pairs),
        block=_together(inside, null_inside_DF, outside, np.ones(len(trees), dtype=np.bool_)),
        n_draws=n_draws,
    )


def _together(
    above_F: NDArray[np.float64],
    null_DF: NDArray[np.float64],
    below_F: NDArray[np.float64],
    keep_F: NDArray[np.bool_],
) -> Measured:
    if not keep_F.any():
        return Measured(None, None)
    above, below = above_F[keep_F].mean(keepdims=True), below_F[keep_F].mean(keepdims=True)
    return _measured(above, null_DF[:, keep_F].mean(axis=1, keepdims=True), below)[0]


def _measured(
    above_F: NDArray[np.float64], null_DF: NDArray[np.float64], below_F: NDArray[np.float64]
) -> list[Measured]:
    """above / below and its null; undefined where nothing stands below."""
    n_draws = len(null_DF)
    p_F = (1 + np.count_nonzero(null_DF >= above_F * (1 - NOTHING), axis=0)) / (1 + n_draws)
    means_F, highs_F = null_DF.mean(axis=0), np.quantile(null_DF, HIGH, axis=0)
    rows = zip(*(array.tolist() for array in (above_F, below_F, means_F, highs_F, p_F)), strict=True)
    return [
        Measured(above / below, Null(mean / below, high / below, p))
        if below > NOTHING
        else Measured(None, None)
        for above, below, mean, high, p in rows
    ]


class _Exchange:
    """Permutations of the living latents: one cycle within each bin of the order of density."""

    def __init__(self, counts_N: NDArray[np.int64]) -> None:
        order = np.argsort(counts_N, kind="stable")
        self._order = order[counts_N[order] > 0]
        self._n_latents, n = len(counts_N), len(self._order)
        self._bins = np.arange(n) * max(1, n // BIN) // max(n, 1)
        is_last = np.append(self._bins[1:] != self._bins[:-1], n > 0)[:n]
        self._next = np.arange(n) + 1
        self._next[is_last] = np.searchsorted(self._bins, self._bins[is_last])

    def draw(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """Which latent takes the place of each, (N,)."""
        shuffled = self._order[np.lexsort((rng.random(len(self._order)), self._bins))]
        taker_N = np.arange(self._n_latents)
        taker_N[shuffled] = shuffled[self._next]
        return taker_N


class _Places:
    """The places of all families side by side, root first, and pairs of places within families."""

    def __init__(self, coactivation: Coactivation, families: Sequence[Sequence[int]]) -> None:
        self._coactivation = coactivation
        self._counts_N = coactivation.codes.counts()
        self.sizes = np.array([len(members) for members in families], dtype=np.int64)
        self.latents = np.array([latent for members in families for latent in members], dtype=np.int64)
        self._counts = self._counts_N[self.latents].astype(np.float64)
        self._starts = np.cumsum(self.sizes) - self.sizes
        self._family = np.repeat(np.arange(len(families)), self.sizes)
        self._others = np.flatnonzero(np.arange(len(self.latents)) != self._starts[self._family])
        self._roots = self._starts[self._family[self._others]]
        rng = np.random.default_rng(0)
        chosen = [
            _choose_pairs(size, rng) + start for size, start in zip(self.sizes, self._starts, strict=True)
        ]
        pairs: NDArray[np.int64] = np.concatenate([np.zeros((2, 0), dtype=np.int64), *chosen], axis=1)
        self._i, self._j = pairs
        self._n_chosen = np.array([block.shape[1] for block in chosen], dtype=np.int64)
        self._pair_family = np.repeat(np.arange(len(families)), self._n_chosen)

    @property
    def n_pairs(self) -> int:
        """Pairs that `inside_means` looks up."""
        return len(self._i)

    def hub_means(self, taker_N: NDArray[np.int64]) -> NDArray[np.float64]:
        """Mean C~ of the latent that takes the root's place with the other members, (F,)."""
        takers, others = taker_N[self.latents[self._roots]], self.latents[self._others]
        apart = takers != others  # the taker may be a member itself
        shares = np.zeros(len(takers))
        larger = self._larger(self._roots, self._others)
        shares[apart] = self._shares(takers[apart], others[apart], larger[apart])
        return _means(self._family[self._others], shares, apart, len(self.sizes))

    def inside_means(self, taker_N: NDArray[np.int64]) -> NDArray[np.float64]:
        """Mean C~ among the latents that take the members' places, (F,); of a large family, of some pairs."""
        takers = taker_N[self.latents]
        shares = self._shares(takers[self._i], takers[self._j], self._larger(self._i, self._j))
        return _means(self._pair_family, shares, np.ones(len(shares)), len(self.sizes))

    def exact_inside_means(self) -> NDArray[np.float64]:
        """Mean C~ among the members, of all pairs, (F,)."""
        means_F = self.inside_means(np.arange(len(self._counts_N)))
        for family in np.flatnonzero(self.sizes > MOST_PAIRED):
            places = np.arange(self._starts[family], self._starts[family] + self.sizes[family])
            blocks = np.array_split(places, -(-(len(places) ** 2) // PAIRS_AT_ONCE))
            sums = [self._sum_before(block, places) for block in blocks]
            means_F[family] = sum(sums) / (len(places) * (len(places) - 1) / 2)
        return means_F

    def _sum_before(self, first: NDArray[np.int64], second: NDArray[np.int64]) -> float:
        """Sum of C~ over the pairs of a place of one list and a later one of the other."""
        i, j = (grid.ravel() for grid in np.meshgrid(first, second, indexing="ij"))
        i, j = i[i < j], j[i < j]
        return float(self._shares(self.latents[i], self.latents[j], self._larger(i, j)).sum())

    def rest_means(self, hub_F: NDArray[np.float64], inside_F: NDArray[np.float64]) -> NDArray[np.float64]:
        """Mean C~ among the members without the root, (F,), from the means of the others."""
        n = self.sizes
        rest = inside_F * (n * (n - 1) // 2) - hub_F * (n - 1)
        return np.asarray(rest / np.maximum((n - 1) * (n - 2) // 2, 1))

    def outside_means(self, inside_F: NDArray[np.float64]) -> NDArray[np.float64]:
        """Mean C~ of members with the other living latents, (F,); 0 where there are none."""
        n_others = np.count_nonzero(self._counts_N) - self.sizes
        all_sums = np.bincount(self._family, self._coactivation.share_sums_N[self.latents], len(self.sizes))
        sums = all_sums - inside_F * self.sizes * (self.sizes - 1)
        return np.where(n_others > 0, sums / np.maximum(self.sizes * n_others, 1), 0.0)

    def _larger(self, i: NDArray[np.int64], j: NDArray[np.int64]) -> NDArray[np.float64]:
        """The larger count of two places."""
        return np.maximum(self._counts[i], self._counts[j])

    def _shares(
        self, a: NDArray[np.int64], b: NDArray[np.int64], larger: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """lift(a, b) max(f_i, f_j) / M, at most 1, where a and b take places with the larger count given."""
        together = self._coactivation.look_up(a, b)
        counts = self._counts_N[a].astype(np.float64) * self._counts_N[b]
        return np.minimum(together * larger / np.maximum(counts, 1), 1)


def _choose_pairs(size: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Pairs of places i < j, (2, P): all of them; of a large family as many as `MOST_PAIRED` members have."""
    if size <= MOST_PAIRED:
        return np.stack(np.triu_indices(size, 1)).astype(np.int64)
    first = rng.integers(0, size, MOST_PAIRED * (MOST_PAIRED - 1) // 2)
    second = (first + rng.integers(1, size, len(first))) % size
    return np.stack([np.minimum(first, second), np.maximum(first, second)])


def _means(
    family: NDArray[np.int64],
    values: NDArray[np.float64],
    weights: NDArray[np.float64] | NDArray[np.bool_],
    n_families: int,
) -> NDArray[np.float64]:
    sums, n = (np.bincount(family, array, n_families) for array in (values, weights))
    return np.asarray(sums / np.maximum(n, 1))
