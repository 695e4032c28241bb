"""`saefari train --processes N`: what `torchrun` does on one machine, started again after a loss."""

from __future__ import annotations

import logging
import signal
import sys
import uuid
from pathlib import Path
from tempfile import TemporaryDirectory

import typer
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from sae_core.checkpoint import read_log, saved_step
from sae_core.fit import SECOND_SEED

MOST_RESTARTS = 3


def train_in_processes(n: int, arguments: list[str], out: Path) -> int:
    """Run `saefari` with these arguments as n processes that train into `out` together; the exit status.

    When one of them is lost, all start again from the checkpoint, at most `MOST_RESTARTS` times, and only if
    steps were made since the start before.
    """
    try:
        return _train(n, arguments, out)
    except SignalException as stopped:  # passed on to the processes, whose first has said what it means
        return 128 + stopped.sigval


def _train(n: int, arguments: list[str], out: Path) -> int:
    restarts = 0
    while True:
        before = _steps_saved(out)
        failures = _run(n, arguments)
        lost = {rank: end for rank, end in failures.items() if _is_lost(end)}
        if not lost:  # it is finished, or a process has said why not
            return 1 if failures else 0
        ends = ", ".join(f"process {rank} of {n} by {end.signal_name()}" for rank, end in lost.items())
        what = f"The training has lost {ends}."
        if _steps_made(out) <= before:
            _say(f"{what} It had made no steps, and is not started again.")
            return 1
        if restarts == MOST_RESTARTS:
            _say(f"{what} It was started again {restarts} times; give the same command to go on.")
            return 1
        restarts += 1
        _say(f"{what} It starts again from step {_steps_saved(out):,} ({restarts} of {MOST_RESTARTS} times).")


def _run(n: int, arguments: list[str]) -> dict[int, ProcessFailure]:
    """Run the processes to their end; those that failed, by rank."""
    elastic = logging.getLogger("torch.distributed.elastic")  # we say what happened ourselves, in a sentence
    elastic.addHandler(logging.NullHandler())
    elastic.propagate = False
    with TemporaryDirectory(prefix="saefari-") as logs:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=n,
            run_id=uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="localhost",
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=logs),
        )
        try:
            elastic_launch(config, sys.executable)("-m", "app.cli", *arguments)
        except ChildFailedError as error:
            return error.failures
    return {}


def _is_lost(end: ProcessFailure) -> bool:
    """Whether a signal ended the process, other than the one by which the others are then ended."""
    return end.exitcode < 0 and end.exitcode != -signal.SIGTERM


def _steps_saved(out: Path) -> int:
    return sum(saved_step(folder) for folder in (out, out / SECOND_SEED))


def _steps_made(out: Path) -> int:
    """With those that the log has, and no checkpoint yet."""
    logged = [[line["step"] for line in read_log(folder)] for folder in (out, out / SECOND_SEED)]
    return max(_steps_saved(out), sum(int(max(steps, default=0)) for steps in logged))


def _say(text: str) -> None:
    typer.echo(f"saefari: {text}", err=True)
