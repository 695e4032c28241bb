"""Which latents a row keeps: one class for each variant of the SAE, all with the interface of `Variant`.

A variant decides, of the pre-activations of a batch, what is picked while training, and which prefixes of the
latents must reconstruct on their own. What it picks after training is in `sae_core.sae`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch

from sae_core.sae import MOST_PICKS
from sae_core.sparse import Picks, strongest

if TYPE_CHECKING:
    from sae_core.recipe import TrainConfig

THRESHOLD_MEMORY = 0.99  # of the running mean of the smallest activation that a batch kept


class Variant(Protocol):
    """What the trainer asks of a variant."""

    k: int
    prefixes: tuple[int, ...]  # numbers of leading latents that must reconstruct on their own; the last is N
    threshold: torch.Tensor | None  # what an activation must exceed after training, where that is a number

    def pick(self, a_BN: torch.Tensor) -> Picks:
        """The picks of a training batch."""

    def pick_after_training(self, a_BN: torch.Tensor) -> Picks:
        """The picks that the trained SAE will make."""


class TopK:
    """The k largest of each row. Gao et al., arXiv 2406.04093."""

    threshold: torch.Tensor | None = None
    prefixes: tuple[int, ...]

    def __init__(self, config: TrainConfig) -> None:
        self.k = config.k
        self.prefixes = (config.n_latents,)

    def pick(self, a_BN: torch.Tensor) -> Picks:
        return self.pick_after_training(a_BN)

    def pick_after_training(self, a_BN: torch.Tensor) -> Picks:
        return Picks.of(strongest(a_BN, self.k), a_BN.shape[1])


class BatchTopK:
    """The B k largest of a batch: rows differ in how many they get. Bussmann et al., arXiv 2412.06410.

    A row gets at most `MOST_PICKS` k. After training a threshold takes the place of the batch: the mean of
    the smallest activation that was kept.
    """

    def __init__(self, config: TrainConfig, threshold: torch.Tensor) -> None:
        self.k = config.k
        self.prefixes: tuple[int, ...] = (config.n_latents,)
        self.threshold: torch.Tensor | None = threshold
        self._threshold = threshold

    def pick(self, a_BN: torch.Tensor) -> Picks:
        indices_BC, values_BC = self._candidates(a_BN)
        values = values_BC.float().clamp_min(0).reshape(-1)
        least = values.topk(len(a_BN) * self.k, sorted=False).values.min()
        self._remember(least)
        return Picks.of(indices_BC, a_BN.shape[1], (values_BC >= least) & (values_BC > 0))

    def pick_after_training(self, a_BN: torch.Tensor) -> Picks:
        indices_BC, values_BC = self._candidates(a_BN)
        return Picks.of(indices_BC, a_BN.shape[1], values_BC > self._threshold)

    def _candidates(self, a_BN: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        indices_BC = strongest(a_BN, min(MOST_PICKS * self.k, a_BN.shape[1]))
        return indices_BC, a_BN.gather(1, indices_BC)

    def _remember(self, least: torch.Tensor) -> None:
        kept = torch.where(self._threshold > 0, THRESHOLD_MEMORY, 0.0)  # the first batch counts fully
        self._threshold.mul_(kept).add_((1 - kept) * least)


class Matryoshka(TopK):
    """Prefixes of the latents reconstruct on their own, coarse to fine. Bussmann et al., arXiv 2503.17547.

    Of each batch a quarter of the rows picks k/2, a half k, and a quarter 2k, so that one set of weights
    serves several k (the multi-k idea of Gao et al., arXiv 2406.04093).
    """

    SHARES = (16, 8, 4, 2, 1)  # a prefix is the N-th part

    def __init__(self, config: TrainConfig) -> None:
        super().__init__(config)
        n = config.n_latents
        self.prefixes = tuple(sorted({max(config.k, n // share) for share in self.SHARES}))

    def pick(self, a_BN: torch.Tensor) -> Picks:
        most = min(2 * self.k, a_BN.shape[1])
        indices_BK = strongest(a_BN, most, in_order=True)
        ks = torch.tensor([max(1, self.k // 2), self.k, self.k, most], device=a_BN.device)
        k_B = ks[torch.arange(len(a_BN), device=a_BN.device) % len(ks)]
        rank_K = torch.arange(most, device=a_BN.device)
        return Picks.of(indices_BK, a_BN.shape[1], rank_K < k_B[:, None])


def make_variant(config: TrainConfig, threshold: torch.Tensor) -> Variant:
    """The variant of that name; `threshold` is the tensor in which BatchTopK keeps its own."""
    if config.variant == "batchtopk":
        return BatchTopK(config, threshold)
    return Matryoshka(config) if config.variant == "matryoshka" else TopK(config)
