"""Who takes part, and the conductor's end of the pipe to each contestant's process (`worker.py`)."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.contestant import Task

ROOT = Path(__file__).parents[2]
ENVIRONMENTS = ROOT / ".peers"
LAYOUTS = ("x W'", "x V", "W x'")


@dataclass(frozen=True)
class Entry:
    """A contestant: what it is called in tables, and which class of which module runs it."""

    label: str
    module: str
    name: str
    options: dict[str, Any] = field(default_factory=dict)
    keeps_adam: bool = True

    @property
    def is_peer(self) -> bool:
        return self.module not in {"ours", "paper", "floors"}

    @property
    def is_peer_with_adam(self) -> bool:
        return self.is_peer and self.keeps_adam

    @property
    def python(self) -> Path:
        """The interpreter of its environment; the modules of peers are named as their environments."""
        return ENVIRONMENTS / self.module / "bin/python" if self.is_peer else Path(sys.executable)


ENTRIES = {
    "ours-float32": Entry("ours, float32 selection", "ours", "Ours", {"select": "float32"}),
    "ours-bfloat16": Entry("ours, bfloat16 selection", "ours", "Ours", {"select": "bfloat16"}),
    "textbook": Entry("the paper's code", "paper", "Paper"),
    "textbook-lean": Entry("the same without the unused branch", "paper", "Paper", {"multi_k": False}),
    "hypothesaes": Entry("HypotheSAEs", "hypothesaes", "HypotheSAEs"),
    "dictionary-learning": Entry("dictionary_learning", "dictionary_learning", "DictionaryLearning"),
    "sae-lens": Entry("SAELens", "sae_lens", "SAELens"),
    "sae-lens-sparse": Entry("SAELens, sparse activations", "sae_lens", "SAELens", {"sparse": True}),
    "sparsify-adam": Entry("sparsify, Adam", "sparsify", "Sparsify", {"optimizer": "adam"}),
    "sparsify-signum": Entry("sparsify, signum (its default)", "sparsify", "Sparsify", keeps_adam=False),
}
FLOORS = {
    **{f"product {layout}": Entry(layout, "floors", "Product", {"layout": layout}) for layout in LAYOUTS},
    "pass": Entry("weights and moments", "floors", "Pass"),
}


class ContestantError(Exception):
    """A contestant's process ended before it was told to; the text is the error that it printed."""


@dataclass(frozen=True)
class Timing:
    """Steps made and the time they took, measured in the contestant's process."""

    steps: int
    seconds: float
    cpu_seconds: float


class Player:
    """A contestant in its process; a context, at the beginning of which it is ready, at the end gone.

    Several can be made before the first is asked whether it is `ready`: they prepare at the same time. Raises
    `FileNotFoundError` if there is no environment, and `ContestantError` as soon as the process has failed.
    """

    def __init__(self, entry: Entry, task: Task) -> None:
        if not entry.python.exists():
            raise FileNotFoundError(entry.python)
        arguments = [json.dumps(part) for part in (entry.module, entry.name, entry.options, asdict(task))]
        quiet = {"WANDB_MODE": "disabled", "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the process)
        self._process = subprocess.Popen(
            [entry.python, "-m", "benchmarks.peers.worker", *arguments],
            cwd=ROOT,
            env={**os.environ, **quiet},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        self.about: dict[str, Any] = {}

    def ready(self) -> None:
        """Wait until everything is made; no step has been made then."""
        self.about = self._listen()
        self._listen()  # the pause before the first step

    def step(self, steps: int = 1) -> Timing:
        """Make so many steps, never more in all than were planned."""
        return Timing(**self._ask({"steps": steps}))

    def use_threads(self, threads: int) -> None:
        self._ask({"threads": threads})

    def encode(self, rows: Path, folder: Path) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Reconstructions (M, D) of the rows of a file, and on how many of them each latent fires, (N,)."""
        paths = {"reconstruction": folder / "reconstruction.npy", "counts": folder / "counts.npy"}
        self._ask({"encode": {"rows": str(rows), **{name: str(path) for name, path in paths.items()}}})
        return np.load(paths["reconstruction"]), np.load(paths["counts"])

    def close(self) -> None:
        """End the process: it leaves its loop when the pipe is closed."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()

    def __enter__(self) -> Self:
        try:
            self.ready()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, command: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # then there is no answer either, and a reason to read
            self._process.stdin.write(json.dumps(command) + "\n")
            self._process.stdin.flush()
        return self._listen()

    def _listen(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._errors.seek(0)
            said = self._errors.read().decode(errors="replace").strip().splitlines()
            reasons = [line for line in said if re.match(r"\w+(Error|Exception)\b", line)] or said
            raise ContestantError(reasons[-1] if reasons else "it ended without a word")
        answer: dict[str, Any] = json.loads(line)
        return answer
