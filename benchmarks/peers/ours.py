"""Ours: `sae_core.train.Trainer` with the default recipe, input noise and all."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.peers.contestant import Task
from sae_core.recipe import TrainConfig
from sae_core.train import Trainer


class Ours:
    """The weights are those of the last step: no rows are held out here, so none can be the best."""

    version = ""

    def __init__(self, task: Task, select: str = "auto") -> None:
        rows_MD = task.load().numpy()
        config = TrainConfig.for_corpus(
            *rows_MD.shape,
            n_latents=task.n_latents,
            k=task.k,
            steps=task.steps,
            batch=task.batch,
            select=select,
            seed=task.seed,
        )
        config.check(len(rows_MD))
        self.batch, self._steps = config.batch, config.steps
        self._trainer = Trainer(rows_MD, config, device="cpu")

    def run(self, between: Callable[[], None]) -> None:
        between()
        for _ in range(self._steps):
            self._trainer.step()
            between()

    def encode(self, x_BD: Tensor) -> tuple[Tensor, Tensor]:
        sae = self._trainer.sae()
        latents = sae.encode(x_BD.numpy())
        z_BN = torch.zeros(len(x_BD), sae.n_latents)
        indices_BK = torch.from_numpy(latents.indices_BK).long()
        z_BN.scatter_(1, indices_BK, torch.from_numpy(latents.values_BK))
        return torch.from_numpy(sae.decode(latents)), z_BN
