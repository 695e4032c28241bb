"""How far a family is a block with a hub. Source: arXiv 2408.00657, section 4.3.

Everything is a mean of C~_ij = C_ij / min(f_i, f_j), i != j, in which every pair of latents counts alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from sae_core.families.coactivation import Coactivation

NOTHING = 1e-12  # a mean that is zero but for rounding


class Measures:
    """The measures of families of one co-activation."""

    def __init__(self, coactivation: Coactivation) -> None:
        self._together = coactivation.matrix()
        self._counts = coactivation.codes.counts().astype(np.float64)
        self._n_alive = int((self._counts > 0).sum())
        self._row_sums = coactivation.share_sums_N

    def hub_ratio(self, members: Sequence[int]) -> float | None:
        """R = mean C~ of the root with the other members / mean C~ among those.

        Above 1: the root holds the family together. None if the others never fire together.
        """
        i, j, shares = self._inside(members)
        with_root = (i == 0) | (j == 0)
        n = len(members) - 1
        if n < 2:  # noqa: PLR2004 (a pair of children)
            return None
        return _ratio(shares[with_root].sum() / n, shares[~with_root].sum() / (n * (n - 1) / 2))

    def block_ratio(self, members: Sequence[int]) -> float | None:
        """Mean C~ among members / mean C~ of members with the other living latents.

        The paper divides this by the same number for blocks of the unpermuted matrix; for latents in
        an arbitrary order that is 1. Above 1: the family is a block. None if nothing fires outside.
        """
        inside = 2 * float(self._inside(members)[2].sum())
        outside = float(self._row_sums[list(members)].sum()) - inside
        n, n_others = len(members), self._n_alive - len(members)
        if n_others == 0 or n == 1:
            return None
        return _ratio(inside / (n * (n - 1)), outside / (n * n_others))

    def _inside(
        self, members: Sequence[int]
    ) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float64]]:
        """Each pair of members that fires together once: places in `members`, and C~."""
        latents = np.asarray(members)
        pairs = sp.csr_matrix(self._together[latents][:, latents]).tocoo()
        shares = pairs.data / np.minimum(self._counts[latents[pairs.row]], self._counts[latents[pairs.col]])
        return pairs.row, pairs.col, shares


def _ratio(numerator: float, denominator: float) -> float | None:
    return float(numerator / denominator) if denominator > NOTHING else None
