"""The paper's trainer, written out in `benchmarks/textbook.py`."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from benchmarks.peers.contestant import Task, batches
from benchmarks.textbook import Textbook


class Paper:
    """Adam 1e-4, batch 1024, dead after 266 steps."""

    version = ""

    def __init__(self, task: Task, *, multi_k: bool = True) -> None:
        rows_MD = task.load()
        self.batch, self._steps = task.batch or 1024, task.steps
        self._textbook = Textbook.fresh(rows_MD, task.n_latents, task.k, seed=task.seed, multi_k=multi_k)
        self._batches = batches(rows_MD, self.batch, task.seed)

    def run(self, between: Callable[[], None]) -> None:
        between()
        for _ in range(self._steps):
            self._textbook.step(next(self._batches))
            between()

    def encode(self, x_BD: Tensor) -> tuple[Tensor, Tensor]:
        return self._textbook.reconstruct(x_BD)
