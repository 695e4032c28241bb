"""What no step can do without, measured as contestants of the same run: one product, one pass over memory."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.peers.contestant import Task


class Product:
    """One product of batch x D x n in bfloat16, in one of the layouts that a program could choose."""

    version = ""

    def __init__(self, task: Task, layout: str) -> None:
        self.batch, self._steps = task.batch or 1024, task.steps
        width = task.load().shape[1]
        x_BD = torch.randn(self.batch, width).bfloat16()
        W_ND = torch.randn(task.n_latents, width).bfloat16()
        self._left, self._right = {
            "x W'": (x_BD, W_ND.T),
            "x V": (x_BD, W_ND.T.contiguous()),
            "W x'": (W_ND, x_BD.T),
        }[layout]
        self._out = torch.empty(len(self._left), self._right.shape[1], dtype=torch.bfloat16)

    def run(self, between: Callable[[], None]) -> None:
        between()
        for _ in range(self._steps):
            torch.matmul(self._left, self._right, out=self._out)
            between()

    def encode(self, x_BD: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError


class Pass:
    """Reading and writing the weights and both moments of Adam once, in float32."""

    version = ""

    def __init__(self, task: Task) -> None:
        self.batch, self._steps = task.batch or 1024, task.steps
        shape = (2, task.n_latents, task.load().shape[1])
        self._arrays = [torch.ones(shape) for _ in ("weights", "mean", "square")]

    def run(self, between: Callable[[], None]) -> None:
        between()
        for _ in range(self._steps):
            for array in self._arrays:
                array.add_(1e-6)
            between()

    def encode(self, x_BD: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError
