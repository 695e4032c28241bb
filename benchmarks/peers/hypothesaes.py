"""HypotheSAEs (2502.04382): `SparseAutoencoder.fit`, run as it is, with the defaults of `train_sae`."""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib.metadata import version

import torch
from hypothesaes.sae import SparseAutoencoder
from torch import Tensor

from benchmarks.peers.contestant import Task


class HypotheSAEs:
    """Adam 5e-4, batch 512, AuxK in every step; its own DataLoader collates the rows."""

    def __init__(self, task: Task) -> None:
        self.version, self.batch = version("hypothesaes"), task.batch or 512
        torch.manual_seed(task.seed)
        self._rows_MD, self._steps = task.load(), task.steps
        width = self._rows_MD.shape[1]
        self._sae = SparseAutoencoder(width, task.n_latents, task.k, device="cpu")

    def run(self, between: Callable[[], None]) -> None:
        normalize = self._sae.normalize_decoder_

        def normalize_and_pause() -> None:
            # fit() calls this once when it initialises the weights, and at the end of every step.
            normalize()
            between()

        self._sae.normalize_decoder_ = normalize_and_pause
        epochs = math.ceil(self._steps * self.batch / len(self._rows_MD))
        self._sae.fit(
            self._rows_MD,
            batch_size=self.batch,
            learning_rate=5e-4,
            n_epochs=epochs,
            patience=3,
            show_progress=False,
        )

    def encode(self, x_BD: Tensor) -> tuple[Tensor, Tensor]:
        reconstruction_BD, info = self._sae(x_BD)
        return reconstruction_BD, info["activations"]
