"""How long one whole training step takes: ours, the paper's, the peers', and the floor below all of them.

    python benchmarks/train_speed.py --sizes 1536x9216x64 --threads 1 --rounds 9
    python benchmarks/train_speed.py --memory

Each contestant is a process with its own state and, for peers, its own environment (`make peers`; absent
ones are named in the table). They make one step each in turn, so that a busy machine is busy for all; figures
are medians over the rounds. A step is everything the trainer does by itself: batch, forward, backward,
constraints, dead-latent counts, optimiser. The floor is one product of batch x d x n in bfloat16, in the
fastest of three layouts, plus one reading and writing of the weights and both moments. `--memory` measures
instead how much stays resident while we train on 420,000 x 1,536 float16 rows on disk. Last line: one JSON
object.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.peers.conductor import ENTRIES, FLOORS, ContestantError, Entry, Player
from benchmarks.peers.contestant import Task
from benchmarks.peers.rows import planted_rows
from sae_core.recipe import TrainConfig
from sae_core.train import Run

SIZES = ("384x3072x32", "1536x9216x64")
EPOCH = 64  # batches; longer than a measurement, so that no trainer declares a latent dead in it
WARM_UP = 2  # steps that are not counted
PAUSE = 0.02  # seconds before each step: the threads of the one before spin a while before they sleep
SCHEDULE = 1000  # steps for which schedules of the learning rate are made
MEMORY = {"rows": 420_000, "width": 1536, "n_latents": 9216, "k": 64, "heldout": 20_000, "steps": 10}


@dataclass
class Row:
    """One contestant at one size with one number of threads."""

    name: str
    label: str
    size: str
    threads: int
    version: str = ""
    absent: str = ""  # why there are no seconds
    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)  # of all its threads

    @property
    def median(self) -> float:
        return statistics.median(self.seconds) if self.seconds else math.nan


class Field:
    """The contestants of one size, and the floors among them, ready to step in turn."""

    def __init__(
        self, size: str, rows: Path, batch: int, chosen: Mapping[str, Entry], stack: ExitStack
    ) -> None:
        _, n_latents, k = parse_size(size)
        self.size, self.chosen = size, chosen
        task = Task(str(rows), n_latents, k, SCHEDULE, batch)
        self._players: dict[str, Player] = {}
        self._absent: dict[str, str] = {}
        for name, entry in chosen.items():
            try:
                self._players[name] = stack.enter_context(closing(Player(entry, task)))
            except FileNotFoundError:
                self._absent[name] = "not installed: make peers"
        for name, player in list(self._players.items()):
            try:
                player.ready()
            except ContestantError as error:
                self._drop(name, str(error))

    def race(self, threads: int, rounds: int) -> list[Row]:
        """So many rounds of one step each."""
        rows = {name: Row(name, entry.label, self.size, threads) for name, entry in self.chosen.items()}
        for _ in range(WARM_UP + rounds):
            for name, player in list(self._players.items()):
                try:
                    player.use_threads(threads)
                    time.sleep(PAUSE)
                    timing = player.step()
                except ContestantError as error:
                    self._drop(name, str(error))
                    continue
                rows[name].version = player.about["version"]
                rows[name].seconds.append(timing.seconds)
                rows[name].cpu_seconds.append(timing.cpu_seconds)
        for name, row in rows.items():
            row.absent = self._absent.get(name, "")
            row.seconds = [] if row.absent else row.seconds[WARM_UP:]
            row.cpu_seconds = [] if row.absent else row.cpu_seconds[WARM_UP:]
        return list(rows.values())

    def _drop(self, name: str, why: str) -> None:
        self._absent[name] = why
        del self._players[name]


def parse_size(size: str) -> tuple[int, int, int]:
    """Width, latents and k of "384x3072x32"."""
    width, n_latents, k = (int(part) for part in size.split("x"))
    return width, n_latents, k


def floor_of(rows: Sequence[Row]) -> dict[str, Any]:
    """Seconds of the floor: the fastest product, in which layout, and the pass over weights and moments."""
    fastest = min((row for row in rows if row.name.startswith("product")), key=lambda row: row.median)
    passing = next(row.median for row in rows if row.name == "pass")
    floor = fastest.median + passing
    return {"floor": floor, "product": fastest.median, "layout": fastest.label, "pass": passing}


def ratios(rows: Sequence[Row], floor: float) -> dict[str, float]:
    """The faster of ours against the paper's code, the fastest peer that keeps Adam, and the floor.

    A ratio to a contestant that is absent is left out.
    """
    found = {row.name: row.median for row in rows if row.seconds}
    ours = min((seconds for name, seconds in found.items() if name.startswith("ours")), default=math.nan)
    peers = [found[name] for name in found if name in ENTRIES and ENTRIES[name].is_peer_with_adam]
    known = {
        "paper / ours": found.get("textbook", math.nan) / ours,
        "fastest peer with Adam / ours": min(peers, default=math.nan) / ours,
        "ours / floor": ours / floor,
    }
    return {name: ratio for name, ratio in known.items() if not math.isnan(ratio)}


def print_table(rows: Sequence[Row], batch: int) -> dict[str, Any]:
    """The table of one size and number of threads; the numbers below it as data."""
    size, threads = rows[0].size, rows[0].threads
    width, n_latents, k = parse_size(size)
    below = floor_of(rows)
    paper = next((row.median for row in rows if row.name == "textbook"), math.nan)
    print(f"\nd {width}, n {n_latents}, k {k}, batch {batch}, {threads} thread{'s' * (threads > 1)}\n")
    print(f"| {'trainer':40} | s per step | best | CPU s | times faster than the paper's | times the floor |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        label = f"{row.label} {row.version}".strip()
        if row.absent:
            print(f"| {label:40} | {row.absent} | | | | |")
        elif row.name not in FLOORS:
            seconds = (row.median, min(row.seconds), statistics.median(row.cpu_seconds))
            times = (paper / row.median, row.median / below["floor"])
            cells = [f"{value:.4f}" for value in seconds] + [f"{value:.2f}" for value in times]
            print(f"| {label:40} | {' | '.join(cells)} |")
    parts = f"= {below['product']:.4f} product ({below['layout']}) + {below['pass']:.4f} pass over memory"
    found = ratios(rows, below["floor"])
    print(f"\nfloor {below['floor']:.4f} s {parts}")
    print(", ".join(f"{name} {ratio:.2f}" for name, ratio in found.items()))
    return {"size": size, "threads": threads, **below, "ratios": found}


def speed(arguments: argparse.Namespace) -> dict[str, Any]:
    chosen = {name: ENTRIES[name] for name in arguments.only} | FLOORS
    tables, measured = [], []
    with tempfile.TemporaryDirectory() as folder:
        for size in arguments.sizes:
            rows = arguments.embeddings or Path(folder) / "rows.npy"
            if not arguments.embeddings:
                np.save(rows, planted_rows(EPOCH * arguments.batch, parse_size(size)[0]))
            with ExitStack() as stack:
                contestants = Field(size, rows, arguments.batch, chosen, stack)
                for threads in arguments.threads:
                    raced = contestants.race(threads, arguments.rounds)
                    tables.append(print_table(raced, arguments.batch))
                    measured += [asdict(row) for row in raced]
    return {"benchmark": "train_speed", "batch": arguments.batch, "tables": tables, "rows": measured}


def memory(folder: Path) -> dict[str, Any]:
    """Peak resident size of a process that trains on a large file of rows."""
    path = folder / "rows.npy"
    write_large(path)
    gib = path.stat().st_size / 2**30
    print(f"{MEMORY['rows']:,} x {MEMORY['width']:,} float16 rows on disk: {gib:.2f} GiB")
    done = subprocess.run(
        [sys.executable, __file__, "--memory-child", str(folder)], check=True, capture_output=True, text=True
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(
        f"{MEMORY['steps']} steps at n {MEMORY['n_latents']}, k {MEMORY['k']} and an evaluation on"
        f" {MEMORY['heldout']:,} rows: {found['seconds']:.1f} s, at most {found['peak_gib']:.2f} GiB resident"
        f" ({found['own_gib']:.2f} GiB at the end without the pages of files)"
    )
    return {"benchmark": "train_speed --memory", **MEMORY, **found}


def write_large(path: Path) -> None:
    """Rows that differ, made cheaply: one random block, its columns moved along from block to block."""
    shape = (MEMORY["rows"], MEMORY["width"])
    x_MD = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape)
    block_BD = planted_rows(8192, MEMORY["width"]).astype(np.float16)
    for i, start in enumerate(range(0, len(x_MD), len(block_BD))):
        part_BD = x_MD[start : start + len(block_BD)]
        part_BD[:] = np.roll(block_BD, i, axis=1)[: len(part_BD)]


def memory_child(folder: Path) -> None:
    x_MD = np.load(folder / "rows.npy", mmap_mode="r")
    n_train = len(x_MD) - MEMORY["heldout"]
    chosen = {name: MEMORY[name] for name in ("n_latents", "k", "steps")}
    config = TrainConfig.for_corpus(n_train, MEMORY["width"], **chosen)
    began = time.perf_counter()
    run = Run(x_MD[:n_train], x_MD[n_train:], config, folder / "run")
    while not run.is_done:
        run.advance()
    run.finish()
    kib = resident_kib()
    found = {
        "seconds": time.perf_counter() - began,
        "peak_gib": kib["VmHWM"] / 2**20,
        "own_gib": (kib["VmRSS"] - kib["RssFile"]) / 2**20,
    }
    print(json.dumps(found))


def resident_kib() -> dict[str, int]:
    """Of this process: VmHWM is the most that was ever resident, RssFile the part that is pages of files."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return {line.split(":")[0]: int(line.split()[1]) for line in lines if line.endswith("kB")}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sizes", nargs="+", default=SIZES, metavar="DxNxK", help=f"({' '.join(SIZES)})")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="(1 2)")
    parser.add_argument("--rounds", type=int, default=5, help="steps that are counted (5)")
    parser.add_argument("--batch", type=int, default=1024, help="rows of a step (1024)")
    parser.add_argument("--only", nargs="+", choices=ENTRIES, default=list(ENTRIES), help="(all)")
    parser.add_argument("--embeddings", type=Path, help="a .npy file of rows instead of planted ones")
    parser.add_argument("--memory", action="store_true", help="measure resident memory instead")
    parser.add_argument("--memory-child", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    if arguments.memory_child:
        memory_child(arguments.memory_child)
        return
    if arguments.memory:
        with tempfile.TemporaryDirectory() as folder:
            result = memory(Path(folder))
    else:
        result = speed(arguments)
    machine = {"machine": platform.machine(), "cores": os.cpu_count(), "load": os.getloadavg()[0]}
    print(json.dumps(result | machine | {"torch": torch.__version__}))


if __name__ == "__main__":
    main()
