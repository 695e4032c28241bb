"""The processes that train one SAE together: one, or those that `torchrun` has started.

Each holds all weights and takes its part of every batch; one sum over all of them makes a step. A process
that is gone, or silent for `MAX_SILENCE`, ends the others with a sentence. Nothing recovers inside a group:
it is started again as a whole, from the checkpoint of the first process.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, NoReturn

import torch
import torch.distributed as dist

from sae_core.errors import SaefariError, ToldElsewhere, TrainingError, first_line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

# torchrun gives a process that does not answer 30 s more before it kills it: together under a minute.
MAX_SILENCE = 25.0  # seconds, for the others to make their part of a step
SET_UP = timedelta(minutes=5)  # for the others to start, and to read what they train on
PATTERN = 4  # rows: Matryoshka's k depends on a row's place in its part, modulo this
LONGEST_TEXT = 4096  # bytes of what processes tell each other
GO_ON = "Give the same command again: it goes on from the last checkpoint."


@dataclass(frozen=True)
class Ranks:
    """How many processes there are, which of them this is, and what they do together."""

    size: int = 1
    rank: int = 0
    max_silence: float = MAX_SILENCE  # seconds
    steps: dist.ProcessGroup | None = None  # the same processes, with less patience

    @property
    def is_first(self) -> bool:
        """Whether this process writes the files and talks."""
        return self.rank == 0

    def check(self, batch: int) -> None:
        """Raise `TrainingError` if a batch of so many rows cannot be shared out."""
        if self.size > 1 and batch < PATTERN * self.size:
            what = f"A batch of {batch} rows is too small for {self.size} processes."
            remedy = f"Choose a batch of at least {PATTERN * self.size}, or fewer processes."
            raise TrainingError(what, remedy=remedy)

    def part(self, n: int) -> slice:
        """The rows of n that are this process's own; a part begins at a multiple of `PATTERN`."""
        begin, end = (n * rank // (self.size * PATTERN) * PATTERN for rank in (self.rank, self.rank + 1))
        return slice(begin, n if self.rank + 1 == self.size else end)

    def sum_(self, numbers: torch.Tensor) -> None:
        """Replace `numbers` by their sum over all processes; `TrainingError` if one of them is lost."""
        if self.size == 1:
            return
        with _noticing_loss(self.max_silence):
            work = dist.all_reduce(numbers, group=self.steps, async_op=True)
            work.wait(timedelta(seconds=self.max_silence))

    def share(self, content: bytes) -> bytes:
        """What the first process holds, on all of them."""
        if self.size == 1:
            return content
        size = torch.tensor([len(content)])
        with _noticing_loss():
            dist.broadcast(size, src=0)
            held = torch.empty(int(size), dtype=torch.uint8)
            if self.is_first:
                held = torch.frombuffer(bytearray(content), dtype=torch.uint8)
            dist.broadcast(held, src=0)
        return held.numpy().tobytes()

    def gather(self, text: str) -> list[str]:
        """What each process says, by rank; the end of a long text is lost."""
        if self.size == 1:
            return [text]
        said = torch.zeros(self.size, LONGEST_TEXT, dtype=torch.uint8)
        content = text.encode()[:LONGEST_TEXT]
        said[self.rank, : len(content)] = torch.tensor(list(content), dtype=torch.uint8)
        with _noticing_loss():
            dist.all_reduce(said)
        return [bytes(row.tolist()).rstrip(b"\0").decode(errors="replace") for row in said]

    @contextmanager
    def together(self) -> Iterator[None]:
        """If the body fails on one process it fails on all, and only one of them says why."""
        problem: SaefariError | OSError | None = None
        try:
            yield
        except (SaefariError, OSError) as error:
            if self.size == 1:
                raise
            problem = error
        said = self.gather(str(problem) if problem else "")
        teller = next((rank for rank, text in enumerate(said) if text), None)
        if teller is None:
            return
        if problem is not None and teller == self.rank:
            raise problem
        raise ToldElsewhere(f"Process {teller} has said what is wrong.")


def is_member() -> bool:
    """Whether this process is one of those that `torchrun` has started."""
    return dist.is_torchelastic_launched()


@contextmanager
def joined(device: torch.device | None = None, max_silence: float = MAX_SILENCE) -> Iterator[Ranks]:
    """The group that `torchrun` made, or this process alone.

    `max_silence`, in seconds, is how long the others may take for their part of a step before the run is
    given up. `TrainingError` if they do not come, or if there is no GPU for this process.
    """
    if not is_member():
        yield Ranks()
        return
    is_on_gpu = device is not None and device.type == "cuda"
    with _told_by_sigterm():
        if is_on_gpu:
            _take_gpu()
        ranks = _group("cpu:gloo,cuda:nccl" if is_on_gpu else "gloo", max_silence)
        try:
            _take_threads(ranks)
            with _silent(unless=ranks.is_first):
                yield ranks
        finally:
            dist.destroy_process_group()


def _group(backend: str, max_silence: float) -> Ranks:
    with _noticing_loss():
        dist.init_process_group(backend, timeout=SET_UP)
        steps = dist.new_group(timeout=timedelta(seconds=max_silence))
    return Ranks(dist.get_world_size(), dist.get_rank(), max_silence, steps)


@contextmanager
def _noticing_loss(patience: float = SET_UP.total_seconds()) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, dist.DistError) as error:
        _ignore_sigterm()
        reason = re.sub(r"^\w+: (\[[^\]]*\] )?|\. This is typically.*", "", first_line(error))
        reason = reason.rstrip("!.")
        what = f"Another process of this training is gone, or was silent for {patience:g} s ({reason})."
        raise TrainingError(what, remedy=GO_ON) from error


def _take_gpu() -> None:
    place, n = dist.get_node_local_rank(0), torch.cuda.device_count()
    if place >= n:
        what = f"Process {place} of this machine (counted from 0) finds no GPU for itself: there are {n}."
        raise TrainingError(what, remedy="Start one process for each GPU, or choose --device cpu.")
    torch.cuda.set_device(place)


def _take_threads(ranks: Ranks) -> None:
    """Share the cores of a machine among its processes: threads that wait for each other cost the most."""
    here = socket.gethostname()
    n_here = ranks.gather(here).count(here)
    share = max(1, (os.cpu_count() or 1) // n_here)
    torch.set_num_threads(min(share, torch.get_num_threads()))


@contextmanager
def _silent(*, unless: bool) -> Iterator[None]:
    """The first process talks for all: the others keep warnings and interruptions to themselves."""
    if unless:
        yield
        return
    logging.getLogger("sae_core").setLevel(logging.ERROR)
    try:
        yield
    except KeyboardInterrupt as error:
        raise ToldElsewhere("The first process has said that it was interrupted.") from error


@contextmanager
def _told_by_sigterm() -> Iterator[None]:
    """`torchrun` ends what is left of a group by SIGTERM, often before the loss is noticed: say it then."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _end_in_a_sentence)
    yield
    signal.signal(signal.SIGTERM, before)  # not after an error: its sentence has yet to be said


def _end_in_a_sentence(_number: int, _frame: FrameType | None) -> NoReturn:
    _ignore_sigterm()
    what = "This training was told to end (SIGTERM), as happens when another of its processes is lost."
    raise TrainingError(what, remedy=GO_ON)


def _ignore_sigterm() -> None:
    """From here on a sentence is on its way, and is not to be cut short."""
    if threading.current_thread() is threading.main_thread() and is_member():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
