"""SAELens: `SAETrainer.fit` on a `TopKTrainingSAE`, run as it is; the batches are its data provider."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.metadata import version

import torch
from sae_lens import TopKTrainingSAE, TopKTrainingSAEConfig
from sae_lens.config import SAETrainerConfig
from sae_lens.training.sae_trainer import SAETrainer
from torch import Tensor

from benchmarks.peers.contestant import Task, batches


class SAELens:
    """Adam 3e-4 constant, batch 4096.

    `sparse` is its option for activations as sparse tensors. On a CPU torch cannot differentiate them
    together with the rescaling by decoder norms, which is the default; with this option it is switched off.
    """

    def __init__(self, task: Task, *, sparse: bool = False) -> None:
        self.version, self.batch = version("sae-lens"), task.batch or 4096
        torch.manual_seed(task.seed)
        rows_MD = task.load()
        self._sae = TopKTrainingSAE(
            TopKTrainingSAEConfig(
                d_in=rows_MD.shape[1],
                d_sae=task.n_latents,
                k=task.k,
                use_sparse_activations=sparse,
                rescale_acts_by_decoder_norm=not sparse,
            )
        )
        self._config = SAETrainerConfig(
            total_training_samples=task.steps * self.batch,
            train_batch_size_samples=self.batch,
            lr_end=3e-5,  # must be given, and plays no part while the schedule is its default, constant
        )
        self._batches = batches(rows_MD, self.batch, task.seed)

    def run(self, between: Callable[[], None]) -> None:
        def provide() -> Iterator[Tensor]:
            while True:
                between()
                yield next(self._batches)

        SAETrainer(cfg=self._config, sae=self._sae, data_provider=provide()).fit()

    def encode(self, x_BD: Tensor) -> tuple[Tensor, Tensor]:
        z_BN = self._sae.encode(x_BD)
        return self._sae.decode(z_BN), z_BN.to_dense()
