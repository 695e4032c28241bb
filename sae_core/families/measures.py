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
replaced and its children stay; for the block ratio all members, and the outside stays. p is the share of
draws that reach the measure, the family itself counted in. What the null does not cover: families were
chosen on the same documents for being strong.
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
        n_draws = int(np.clip(most_lookups // max(len(places.i), 1), FEWEST_DRAWS, MOST_DRAWS))
    rng = np.random.default_rng(0)
    hub, inside = places.means(places.latents)
    exchange = _Exchange(coactivation.codes.counts())
    draws = [exchange.draw(rng) for _ in range(n_draws)]
    null_hub_DF = np.array([places.hub_means(p_N) for p_N in draws]).reshape(n_draws, len(trees))
    null_inside_DF = np.array([places.means(p_N[places.latents])[1] for p_N in draws])
    null_inside_DF = null_inside_DF.reshape(n_draws, len(trees))
    rest, outside = places.rest_means(), places.outside_means()
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


def _joined(parts: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)


class _Places:
    """All pairs of places of all families, side by side."""

    def __init__(self, coactivation: Coactivation, families: Sequence[Sequence[int]]) -> None:
        self._coactivation = coactivation
        self._counts_N = coactivation.codes.counts()
        self.sizes = np.array([len(members) for members in families], dtype=np.int64)
        self.latents = np.array([latent for members in families for latent in members], dtype=np.int64)
        self._starts = np.cumsum(self.sizes) - self.sizes
        corners = [np.triu_indices(size, 1) for size in self.sizes]
        blocks = [(i + start, j + start) for (i, j), start in zip(corners, self._starts, strict=True)]
        self.i: NDArray[np.int64] = _joined([first for first, _ in blocks])
        self.j: NDArray[np.int64] = _joined([second for _, second in blocks])
        self._n_pairs = self.sizes * (self.sizes - 1) // 2
        self._family = np.repeat(np.arange(len(self.sizes)), self._n_pairs)
        self._with_root = self.i == self._starts[self._family]
        counts = self._counts_N[self.latents]
        self._larger = np.maximum(counts[self.i], counts[self.j]).astype(np.float64)
        self._shares = self._shares_of(self.latents[self.i], self.latents[self.j], self._larger)

    def means(self, takers: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean C~ of the root with the others, and among all members, of each family, (F,)."""
        shares = self._shares
        if takers is not self.latents:
            shares = self._shares_of(takers[self.i], takers[self.j], self._larger)
        inside = self._sums(shares) / np.maximum(self._n_pairs, 1)
        hub = self._sums(np.where(self._with_root, shares, 0)) / np.maximum(self.sizes - 1, 1)
        return hub, inside

    def hub_means(self, taker_N: NDArray[np.int64]) -> NDArray[np.float64]:
        """Mean C~ of the latent that takes the root's place with the other members, (F,)."""
        at = self._with_root
        roots, others = taker_N[self.latents[self.i[at]]], self.latents[self.j[at]]
        apart = roots != others  # the taker may be a member itself
        shares = np.zeros(len(roots))
        shares[apart] = self._shares_of(roots[apart], others[apart], self._larger[at][apart])
        sums, n = (np.bincount(self._family[at], values, len(self.sizes)) for values in (shares, apart))
        return np.asarray(sums / np.maximum(n, 1))

    def rest_means(self) -> NDArray[np.float64]:
        """Mean C~ among the members without the root, (F,)."""
        n_rest = (self.sizes - 1) * (self.sizes - 2) // 2
        return np.asarray(self._sums(np.where(self._with_root, 0, self._shares)) / np.maximum(n_rest, 1))

    def outside_means(self) -> NDArray[np.float64]:
        """Mean C~ of members with the other living latents, (F,); 0 where there are none."""
        n_alive = np.count_nonzero(self._counts_N)
        inside = 2 * self._sums(self._shares)
        family = np.repeat(np.arange(len(self.sizes)), self.sizes)
        all_sums = np.bincount(family, self._coactivation.share_sums_N[self.latents], len(self.sizes))
        n_outside = self.sizes * (n_alive - self.sizes)
        means = (all_sums - inside) / np.maximum(n_outside, 1)
        return np.asarray(np.where(n_outside > 0, means, 0.0))

    def _sums(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.bincount(self._family, values, len(self.sizes)).astype(np.float64)

    def _shares_of(
        self, a: NDArray[np.int64], b: NDArray[np.int64], larger: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """lift(a, b) max(f_i, f_j) / M, at most 1, where a and b take places with the larger count given."""
        together = self._coactivation.look_up(a, b)
        counts = self._counts_N[a].astype(np.float64) * self._counts_N[b]
        return np.minimum(together * larger / np.maximum(counts, 1), 1)
