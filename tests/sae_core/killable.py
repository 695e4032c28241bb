"""Builds that a test may kill: reads a seed per line, forks a child that builds with it, prints its pid.

Run as a script. Forking after the imports makes a trial cost a second instead of five; the parent itself
never uses a thread pool, so a fork is safe.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch

from tests.planted import planted_collection


def main(home: Path) -> None:
    """Serve builds until standard input ends; prints the pid at the start and "ended" at the end of each."""
    torch.set_num_threads(1)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            planted_collection(home, n=400, steps=60, seed=int(line))
            os._exit(0)
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()
        os.waitpid(pid, 0)
        sys.stdout.write("ended\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
