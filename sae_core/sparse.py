"""The arithmetic of a training step that touches only what was picked.

Of B x N latents a step picks P = about B k. Values, reconstruction and gradients are sums over these P picks;
nothing of size B x N x D or B x K x D is ever made. Every sum is ordered so that what it reads again lies
close: by row for the reconstruction, by latent for everything that reads or writes rows of a weight matrix.
Shapes: B batch, D embedding width, N latents, P picks.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import embedding_bag

if TYPE_CHECKING:
    from collections.abc import Iterator

# Numbers in a block of a weight matrix: it stays in the cache between two passes, and its memory is used
# again, whereas the allocator asks the system anew (and the system clears it) for what is larger than 32 MiB.
BLOCK = 1_000_000
GROUP = 8
_BAG_SUM = 0  # aten's name for the mode "sum"


class Picks:
    """The latents picked for each row of a batch."""

    def __init__(self, latents_P: torch.Tensor, counts_B: torch.Tensor, n_latents: int) -> None:
        """`latents_P` row after row, `counts_B` of them for each row."""
        self.latents_P, self.n_latents, self._counts_B = latents_P, n_latents, counts_B
        rows_P = torch.arange(len(counts_B), device=latents_P.device).repeat_interleave(counts_B)
        self._offsets_B = counts_B.cumsum(0) - counts_B
        sorted_P, self._order_P = latents_P.int().sort(stable=True)
        self._sorted_P = sorted_P.long()
        self._rows_P = rows_P[self._order_P]

    @classmethod
    def of(cls, indices_BK: torch.Tensor, n_latents: int, keep_BK: torch.Tensor | None = None) -> Picks:
        """From a table of latents, of which only those marked in `keep_BK` count."""
        if keep_BK is None:
            counts_B = torch.full((len(indices_BK),), indices_BK.shape[1], device=indices_BK.device)
            return cls(indices_BK.reshape(-1), counts_B, n_latents)
        return cls(indices_BK[keep_BK], keep_BK.sum(dim=1), n_latents)

    def split(self, prefixes: tuple[int, ...]) -> list[Picks]:
        """The picks below the first prefix, those between it and the next, and so on."""
        if len(prefixes) == 1:
            return [self]
        rows_P = torch.arange(len(self._counts_B), device=self.latents_P.device)
        rows_P = rows_P.repeat_interleave(self._counts_B)
        parts = []
        for low, high in pairwise((0, *prefixes)):
            inside_P = (self.latents_P >= low) & (self.latents_P < high)
            counts_B = torch.zeros_like(self._counts_B).index_add_(0, rows_P, inside_P.long())
            parts.append(Picks(self.latents_P[inside_P], counts_B, self.n_latents))
        return parts

    def dots(self, x_BD: torch.Tensor, W_ND: torch.Tensor) -> torch.Tensor:
        """x_b . W_n for each pick (b, n), (P,)."""
        # The kernel behind the gradient of a bag's weights: a product of two gathered rows for each pick.
        products_P = torch.ops.aten._embedding_bag_per_sample_weights_backward(  # noqa: SLF001
            x_BD, W_ND, self._sorted_P, self._offsets_B, self._rows_P, _BAG_SUM
        )
        return torch.empty_like(products_P).index_copy_(0, self._order_P, products_P)

    def decode(self, values_P: torch.Tensor, W_ND: torch.Tensor) -> torch.Tensor:
        """sum_n value_bn W_n for each row, (B, D)."""
        bags_BD: torch.Tensor = embedding_bag(
            self.latents_P, W_ND, self._offsets_B, per_sample_weights=values_P, mode="sum"
        )
        return bags_BD

    def add_outer(self, values_P: torch.Tensor, x_BD: torch.Tensor, into_ND: torch.Tensor) -> None:
        """Add value_bn x_b to row n of `into_ND` for each pick (b, n)."""
        values_P = values_P[self._order_P]
        starts_N = torch.searchsorted(self._sorted_P, torch.arange(self.n_latents, device=x_BD.device))
        edges = [block.start for block in blocks(into_ND)]
        ends = [*starts_N[edges].tolist(), len(values_P)]
        for block, first, last in zip(blocks(into_ND), ends, ends[1:], strict=False):
            if first < last:
                into_ND[block] += embedding_bag(
                    self._rows_P[first:last],
                    x_BD,
                    starts_N[block] - first,
                    per_sample_weights=values_P[first:last],
                    mode="sum",
                )

    def sum_by_latent(self, values_P: torch.Tensor) -> torch.Tensor:
        """The sum of the values of each latent's picks, (N,)."""
        return torch.zeros(self.n_latents, device=values_P.device).index_add_(0, self.latents_P, values_P)


def strongest(a_BN: torch.Tensor, k: int, *, in_order: bool = False) -> torch.Tensor:
    """Latents of the k largest values of each row, (B, k); `in_order`: the largest first.

    A row is cut into groups of `GROUP` latents. The k groups with the largest maxima hold the k largest
    values, so only what is in them is compared: a third less time than `topk`.
    """
    n_rows, n = a_BN.shape
    n_groups = n // GROUP
    if n % GROUP or n_groups <= k:
        return a_BN.topk(k, dim=1, sorted=in_order).indices
    # Latents at equal distances make a group: maxima over it read whole rows.
    best_BK = a_BN.view(n_rows, GROUP, n_groups).amax(dim=1).topk(k, dim=1, sorted=False).indices
    starts = torch.arange(0, n, n_groups, device=a_BN.device)
    candidates = (best_BK[:, None, :] + starts[None, :, None]).reshape(n_rows, GROUP * k)
    places_BK = a_BN.gather(1, candidates).topk(k, dim=1, sorted=in_order).indices
    return candidates.gather(1, places_BK)


def blocks(weights_ND: torch.Tensor) -> Iterator[slice]:
    """Slices of rows that cover a weight matrix, small enough for the cache; one on a GPU."""
    n, width = weights_ND.shape
    size = n if weights_ND.is_cuda else max(1, BLOCK // width)
    return (slice(start, min(start + size, n)) for start in range(0, n, size))


def preactivations(
    x_BD: torch.Tensor, W_ND: torch.Tensor, b_N: torch.Tensor, dtype: torch.dtype, out_BN: torch.Tensor
) -> torch.Tensor:
    """a = W x + b in `dtype`, written to `out_BN` of that dtype; the only dense product of a step."""
    return torch.addmm(b_N.to(dtype), x_BD.to(dtype), W_ND.to(dtype).T, out=out_BN)


def make_orthogonal(grad_ND: torch.Tensor, directions_ND: torch.Tensor) -> torch.Tensor:
    """Remove from each row what would only change the length of its direction; the squared norm left."""
    total = grad_ND.new_zeros(())
    for block in blocks(grad_ND):
        grad, direction = grad_ND[block], directions_ND[block]
        along = (grad * direction).sum(dim=1, keepdim=True)
        grad.addcmul_(along, direction, value=-1)
        total += torch.linalg.vector_norm(grad) ** 2
    return total


def make_unit(directions_ND: torch.Tensor) -> None:
    """Scale each row to length 1, in place."""
    for block in blocks(directions_ND):
        rows = directions_ND[block]
        rows /= torch.linalg.vector_norm(rows, dim=1, keepdim=True).clamp_min(1e-12)
