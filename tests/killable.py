"""Work that a test may kill: reads a task per line, forks a child for it, prints its pid, then how it ended.

Run as a script, by `worker`. Forking after the imports makes a trial cost a second instead of five; the
parent itself never uses a thread pool, so a fork is safe.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch._dynamo  # what an optimiser imports at its first step: two seconds of every trial

import app.main  # noqa: F401 (what a server needs, before the fork)
from app import cli
from app.catalog import write_catalogue
from sae_core.corpus import Corpus
from sae_core.explorer import Explorer
from sae_core.update import Update
from tests.planted import SilentConsole, documents


def update(home: str, size: str) -> None:
    """Give the collection "c" the first so many planted documents, of those that it has or has not yet."""
    folder, n = Path(home), int(size)
    explorer = Explorer.load(folder / "collections" / "c")
    change, known = Update(explorer, folder, SilentConsole()), documents(n)
    if n < explorer.n_documents:
        change.remove([each.id for each in documents(explorer.n_documents)[n:]], write_catalogue)
    else:
        change.add(change.compare(Corpus(known, [])), write_catalogue, embeddings=folder / f"{n}.npy")


def saefari(log: str, environment: str, *words: str) -> None:
    """Run the command line, which prints to a file; with these variables."""
    os.environ.update(json.loads(environment))
    descriptor = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.argv = ["saefari", *words]
    cli.main()


def system(*words: str) -> None:
    """Run a program where the work is done, which may be a namespace of its own."""
    os.execvp(words[0], words)


WORK: dict[str, Callable[..., None]] = {"update": update, "saefari": saefari, "system": system}


@contextmanager
def worker(*within: str) -> Iterator[subprocess.Popen[str]]:
    """A process that works on demand, started by the command `within`: see `start` and `end`."""
    command = [*within, sys.executable, "-m", "tests.killable"]
    with subprocess.Popen(
        command, cwd=Path(__file__).parent.parent, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


def start(process: subprocess.Popen[str], what: str, *words: object) -> int:
    """Begin some work; the pid of who does it."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps([what, *map(str, words)]) + "\n")
    process.stdin.flush()
    return int(process.stdout.readline())


def end(process: subprocess.Popen[str]) -> int:
    """Wait until that work is done, or its worker dead; its exit status, below 0 for a signal."""
    assert process.stdout is not None
    word, status = process.stdout.readline().split()
    assert word == "ended"
    return int(status)


def main() -> None:
    """Serve until standard input ends."""
    torch.set_num_threads(1)
    for line in sys.stdin:
        what, *words = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _work(WORK[what], words)
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        sys.stdout.write(f"ended {status}\n")
        sys.stdout.flush()


def _work(task: Callable[..., None], words: list[str]) -> None:
    """Do it, and end the process without what the parent would do at its end."""
    status = 1
    try:
        task(*words)
        status = 0
    except SystemExit as ended:
        status = int(ended.code or 0)
    except BaseException:  # noqa: BLE001 (as Python would at the end)
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    main()
