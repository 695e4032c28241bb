"""One contestant in a process of its own, told over a pipe what to do: `conductor.py` holds the other end.

Each line in is a command in JSON, each line out its answer. A step is timed here, so that the pipe costs
nothing; between two commands the process sleeps.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from typing import Any, TextIO

import numpy as np
import torch

from benchmarks.peers.contestant import Contestant, Task

ROWS_PER_BLOCK = 2048


class Enough(Exception):
    """The conductor has closed the pipe; raised inside a package's training loop to leave it."""


class Worker:
    """Serves commands whenever the contestant is between two steps."""

    def __init__(self, contestant: Contestant, commands: TextIO, answers: TextIO) -> None:
        self._contestant, self._commands, self._answers = contestant, commands, answers
        self._wanted = self._done = 0
        self._began = self._cpu_began = 0.0

    def between(self) -> None:
        """Return when another step is wanted."""
        if self._wanted > 0:
            self._done += 1
        if self._done < self._wanted:
            return
        self._report()
        self._serve()

    def over(self) -> None:
        """The planned steps are made: say so, and go on answering."""
        if self._done < self._wanted:
            self._done += 1  # some loops end with their last step, without a call of `between`
            self._report()
        while True:
            self._serve()
            self._report()

    def _report(self) -> None:
        seconds, cpu = time.perf_counter() - self._began, time.process_time() - self._cpu_began
        self._answer({"steps": self._done, "seconds": seconds, "cpu_seconds": cpu})

    def _serve(self) -> None:
        for line in self._commands:
            command: dict[str, Any] = json.loads(line)
            if "steps" in command:
                self._wanted, self._done = command["steps"], 0
                self._began, self._cpu_began = time.perf_counter(), time.process_time()
                return
            if "threads" in command:
                torch.set_num_threads(command["threads"])
                self._answer({"threads": torch.get_num_threads()})
            if "encode" in command:
                self._encode(**command["encode"])
        raise Enough

    def _encode(self, rows: str, reconstruction: str, counts: str) -> None:
        x_MD = np.load(rows, mmap_mode="c")
        out_MD = np.empty(x_MD.shape, dtype=np.float32)
        counts_N: np.ndarray[Any, Any] | int = 0
        for start in range(0, len(x_MD), ROWS_PER_BLOCK):
            with torch.no_grad():
                x_BD = torch.from_numpy(x_MD[start : start + ROWS_PER_BLOCK]).float()
                rebuilt_BD, z_BN = self._contestant.encode(x_BD)
            out_MD[start : start + ROWS_PER_BLOCK] = rebuilt_BD.numpy()
            counts_N = counts_N + (z_BN > 0).sum(dim=0).numpy()
        np.save(reconstruction, out_MD)
        np.save(counts, np.asarray(counts_N))
        self._answer({"encoded": len(x_MD)})

    def _answer(self, answer: dict[str, Any]) -> None:
        print(json.dumps(answer), file=self._answers, flush=True)


def main() -> None:
    # What a package prints must not be taken for an answer.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    module, name, options, task = (json.loads(argument) for argument in sys.argv[1:])
    torch.set_num_threads(task["threads"])
    make = getattr(importlib.import_module(f"benchmarks.peers.{module}"), name)
    contestant: Contestant = make(Task(**task), **options)
    about = {"version": contestant.version, "batch": contestant.batch}
    print(json.dumps(about), file=answers, flush=True)
    worker = Worker(contestant, sys.stdin, answers)
    try:
        contestant.run(worker.between)
        worker.over()
    except Enough:
        return


if __name__ == "__main__":
    main()
