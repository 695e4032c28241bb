"""Work on a collection that a test may kill: reads a task per line, forks a child, prints its pid.

Run as a script, by `worker`. Forking after the imports makes a trial cost a second instead of five; the
parent itself never uses a thread pool, so a fork is safe.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from app.catalog import write_catalogue
from sae_core.corpus import Corpus
from sae_core.explorer import Explorer
from sae_core.update import Update
from tests.planted import SilentConsole, documents, planted_collection


def build(home: Path, seed: int) -> None:
    """Build the planted collection with this seed."""
    planted_collection(home, n=400, steps=60, seed=seed)


def update(home: Path, n: int) -> None:
    """Give the collection "c" the first `n` planted documents, of those that it has or has not yet."""
    explorer = Explorer.load(home / "collections" / "c")
    change, known = Update(explorer, home, SilentConsole()), documents(n)
    if n < explorer.n_documents:
        change.remove([each.id for each in documents(explorer.n_documents)[n:]], write_catalogue)
    else:
        change.add(change.compare(Corpus(known, [])), write_catalogue, embeddings=home / f"{n}.npy")


WORK: dict[str, Callable[[Path, int], None]] = {"build": build, "update": update}


@contextmanager
def worker() -> Iterator[subprocess.Popen[str]]:
    """A process that works on demand: see `start` and `end`."""
    command = [sys.executable, "-m", "tests.sae_core.killable"]
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


def start(process: subprocess.Popen[str], what: str, number: int, home: Path) -> int:
    """Begin some work; the pid of who does it."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{what} {number} {home}\n")
    process.stdin.flush()
    return int(process.stdout.readline())


def end(process: subprocess.Popen[str]) -> None:
    """Wait until that work is done, or its worker dead."""
    assert process.stdout is not None
    assert process.stdout.readline() == "ended\n"


def main() -> None:
    """Serve until standard input ends; prints the pid at the start and "ended" at the end of each."""
    torch.set_num_threads(1)
    for line in sys.stdin:
        what, number, home = line.rstrip("\n").split(" ", 2)
        pid = os.fork()
        if pid == 0:
            WORK[what](Path(home), int(number))
            os._exit(0)
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()
        os.waitpid(pid, 0)
        sys.stdout.write("ended\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
