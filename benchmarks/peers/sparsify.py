"""sparsify: its `Trainer.fit`, run as it is, on a language model that is a table of embeddings.

The trainer takes its rows from the hidden states of a model. Here the "tokens" are the numbers of rows, and
the model looks them up; a sequence is 32 tokens, and a batch 32 sequences, which is the package's default.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from importlib.metadata import version

import torch
from schedulefree import ScheduleFreeWrapper
from sparsify import SparseCoderConfig, TrainConfig, Trainer
from torch import Tensor, nn

from benchmarks.peers.contestant import Task

SEQUENCE = 32


class LookUp(nn.Module):
    """A model whose only hidden states are rows of a table."""

    def __init__(self, rows_MD: Tensor) -> None:
        super().__init__()
        self._rows_MD = rows_MD
        self.rows = nn.Identity()
        self.device = torch.device("cpu")
        self.dummy_inputs = {"input_ids": torch.zeros((1, 1), dtype=torch.long)}
        self.between: Callable[[], None] | None = None

    @property
    def base_model(self) -> LookUp:
        return self

    def forward(self, input_ids: Tensor) -> Tensor:
        if self.between is not None:
            self.between()
        states: Tensor = self.rows(self._rows_MD[input_ids].float())
        return states


class Sequences:
    """As many sequences as the planned steps need, over and over the rows in a new order."""

    def __init__(self, n_rows: int, n: int, seed: int) -> None:
        rng = torch.Generator().manual_seed(seed)
        epochs = -(-n * SEQUENCE // n_rows)
        order = torch.cat([torch.randperm(n_rows, generator=rng) for _ in range(epochs)])
        self._ids = order[: n * SEQUENCE].view(n, SEQUENCE)

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, place: int) -> dict[str, Tensor]:
        return {"input_ids": self._ids[place]}


class Sparsify:
    """signum 5e-3 / sqrt(n / 2^14) by default, or Adam 2e-4 / sqrt(n / 2^14); no AuxK, as is its default.

    The warm-up with Adam is 1,000 steps, or a tenth of a shorter run: see dictionary_learning's.
    """

    def __init__(self, task: Task, optimizer: str = "signum") -> None:
        self.version, self.batch = version("eai-sparsify"), task.batch or 32 * SEQUENCE
        rows_MD = task.load()
        per_step = self.batch // SEQUENCE
        self._model = LookUp(rows_MD)
        self._folder = tempfile.TemporaryDirectory()
        config = TrainConfig(
            SparseCoderConfig(num_latents=task.n_latents, k=task.k),
            batch_size=per_step,
            optimizer=optimizer,
            lr_warmup_steps=min(1000, task.steps // 10),
            hookpoints=["rows"],
            init_seeds=[task.seed],
            save_every=task.steps + 2,
            save_dir=self._folder.name,
            log_to_wandb=False,
        )
        sequences = Sequences(len(rows_MD), task.steps * per_step, task.seed)
        self._trainer = Trainer(config, sequences, self._model)

    def run(self, between: Callable[[], None]) -> None:
        self._model.between = between
        self._trainer.fit()

    def encode(self, x_BD: Tensor) -> tuple[Tensor, Tensor]:
        for optimiser in self._trainer.optimizers:
            if isinstance(optimiser, ScheduleFreeWrapper):
                optimiser.eval()  # the averaged weights, which are what it saves
        coder = self._trainer.saes["rows"]
        out = coder(x_BD)
        z_BN = torch.zeros(len(x_BD), coder.num_latents)
        return out.sae_out, z_BN.scatter_(1, out.latent_indices, out.latent_acts)
