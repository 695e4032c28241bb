"""The processes that train one SAE together: one, or those that `torchrun` has started."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import torch.distributed as dist

from sae_core.errors import TrainingError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

PATIENCE = timedelta(seconds=45)  # for the others, before a run is given up


@dataclass(frozen=True)
class Ranks:
    """How many processes there are, and which of them this is."""

    size: int = 1
    rank: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this process writes the files and talks."""
        return self.rank == 0

    def part(self, n: int) -> slice:
        """The rows of a batch of n that are this process's own."""
        return slice(n * self.rank // self.size, n * (self.rank + 1) // self.size)

    def sum_(self, numbers: torch.Tensor) -> None:
        """Replace `numbers` by their sum over all processes; `TrainingError` if one of them is lost."""
        if self.size == 1:
            return
        try:
            dist.all_reduce(numbers)
        except (RuntimeError, dist.DistError) as error:
            raise _lost(error) from error


@contextmanager
def joined(device: torch.device | None = None) -> Iterator[Ranks]:
    """The group that `torchrun` made, or this process alone."""
    if not dist.is_torchelastic_launched():
        yield Ranks()
        return
    backend = "nccl" if device is not None and device.type == "cuda" else "gloo"
    try:
        dist.init_process_group(backend, timeout=PATIENCE)
    except (RuntimeError, dist.DistError) as error:
        raise _lost(error) from error
    try:
        yield Ranks(dist.get_world_size(), dist.get_rank())
    finally:
        dist.destroy_process_group()


def _lost(error: Exception) -> TrainingError:
    reason = str(error).strip().splitlines()[0]
    what = f"Another process of this training run is gone, or was silent for {PATIENCE.seconds} s: {reason}."
    return TrainingError(what, remedy="Give the same command again: it goes on from the last checkpoint.")
