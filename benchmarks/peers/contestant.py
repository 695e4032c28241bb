"""What every trainer of the comparison is given, and can be asked: ours, the paper's and the peers' alike.

A module of this folder wraps one package, calls its own training code, and is imported only in that package's
environment. Nothing here imports Saefari, which those environments do not have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Task:
    """What to train on, at which size, and for how long."""

    rows: str  # a .npy file of float32 or float16, (M, D)
    n_latents: int
    k: int
    steps: int  # what learning rate schedules are made for
    batch: int | None = None  # rows of a step; None is the trainer's own default
    threads: int = 1
    seed: int = 0

    def load(self) -> Tensor:
        """The rows, memory-mapped, so that all processes share them."""
        return torch.from_numpy(np.load(self.rows, mmap_mode="c"))


class Contestant(Protocol):
    """One trainer with its state."""

    version: str
    batch: int

    def run(self, between: Callable[[], None]) -> None:
        """Train for the planned steps; `between` is called before the first step and after each.

        Where the package has a training loop, `run` is that loop, and `between` is called from inside it: it
        returns when the next step is wanted.
        """

    def encode(self, x_BD: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstructions (B, D) of the model as it is now, and activations (B, N)."""


def batches(rows_MD: Tensor, size: int, seed: int) -> Iterator[Tensor]:
    """Whole batches without end, in a new order every epoch; gathered at once, not row by row."""
    rng = torch.Generator().manual_seed(seed)
    size = min(size, len(rows_MD))
    while True:
        order = torch.randperm(len(rows_MD), generator=rng)
        for start in range(0, len(order) - size + 1, size):
            yield rows_MD[order[start : start + size]].float()
