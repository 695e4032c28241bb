"""How well each trainer does by default on abstracts that it has not seen: ours, the paper's and the peers'.

    python benchmarks/train_quality.py --equal-steps

52,344 abstracts (SAEFARI_CORPORA, drawn by seed 0), 5,000 of them held out from everybody; n 3072, k 32.
Ours and the paper's recipe make 1,020 steps of 1,024 rows. Each peer trains with its own defaults for as long
as ours took: its steps are planned from ten steps tried before, so that its schedules end in time, and made
whole. Everybody has one thread, and time is the CPU time of that thread, since a shared machine would make
the clock on the wall a lottery; both are in the table. With `--equal-steps` peers also train on as many rows
as we did. Reconstructions come from the peer's own model; errors are computed here. Last line: one JSON
object.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.peers.conductor import ENTRIES, ContestantError, Entry, Player
from benchmarks.peers.contestant import Task
from benchmarks.peers.rows import abstracts
from sae_core.metrics import RARE_DENSITY, fvu

OURS = Entry("ours", "ours", "Ours")
CONTESTANTS = {"ours": OURS, **{name: ENTRIES[name] for name in ENTRIES if not name.startswith("ours")}}
# These two are quicker ways to the same weights, and matter to speed alone.
DEFAULT = [name for name in CONTESTANTS if name not in {"textbook-lean", "sae-lens-sparse"}]
BATCH = 1024
WARM_UP, TRIED = 3, 10  # steps by which a peer's time is foreseen
PLENTY = 1000  # steps planned for a trial


@dataclass
class Row:
    """What one trainer reached."""

    name: str
    label: str
    until: str  # what its training was measured out by
    version: str = ""
    absent: str = ""  # why there are no numbers
    batch: int = 0
    steps: int = 0
    seconds: float = math.nan
    cpu_seconds: float = math.nan
    fvu_train: float = math.nan
    fvu_heldout: float = math.nan
    dead: float = math.nan  # share of latents that fire on no training row
    rare: float = math.nan  # share that fires, on fewer than one row in 10,000


class Study:
    """The rows, split once and for all, and what every contestant is asked to do with them."""

    def __init__(self, arguments: argparse.Namespace, folder: Path) -> None:
        x_MD, self.source = abstracts(arguments.rows)
        self.folder, self.paths = folder, {}
        self.parts = {"heldout": x_MD[: arguments.heldout], "train": x_MD[arguments.heldout :]}
        for part, part_MD in self.parts.items():
            self.paths[part] = folder / f"{part}.npy"
            np.save(self.paths[part], part_MD)
        rows = str(self.paths["train"])
        self.task = Task(rows, arguments.latents, arguments.k, arguments.steps, seed=arguments.seed)

    def train(self, name: str, until: str, cpu_seconds: float | None = None) -> Row:
        """Train until as many steps, rows or seconds are spent as ours spent."""
        entry = CONTESTANTS[name]
        row = Row(name, entry.label, until)
        try:
            task = self._plan(entry, until, cpu_seconds)
            with Player(entry, task) as player:
                timing = player.step(task.steps)
                row.version, row.batch = player.about["version"], player.about["batch"]
                row.steps, row.seconds, row.cpu_seconds = timing.steps, timing.seconds, timing.cpu_seconds
                self._score(player, row)
        except FileNotFoundError:
            row.absent = "not installed: make peers"
        except ContestantError as error:
            row.absent = str(error)
        return row

    def _plan(self, entry: Entry, until: str, cpu_seconds: float | None) -> Task:
        if until == "steps":
            return replace(self.task, batch=BATCH)
        with Player(entry, replace(self.task, steps=PLENTY)) as player:
            batch = player.about["batch"]
            if until == "rows":
                return replace(self.task, steps=math.ceil(self.task.steps * BATCH / batch))
            player.step(WARM_UP)
            tried = player.step(TRIED).cpu_seconds / TRIED
        return replace(self.task, steps=max(1, round((cpu_seconds or 0) / tried)))

    def _score(self, player: Player, row: Row) -> None:
        row.fvu_heldout = fvu(self.parts["heldout"], player.encode(self.paths["heldout"], self.folder)[0])
        rebuilt_MD, counts_N = player.encode(self.paths["train"], self.folder)
        row.fvu_train = fvu(self.parts["train"], rebuilt_MD)
        row.dead = float((counts_N == 0).mean())
        row.rare = float(((counts_N > 0) & (counts_N < RARE_DENSITY * len(rebuilt_MD))).mean())


def print_row(row: Row) -> None:
    label = f"{row.label} {row.version}".strip()
    numbers = [f"{row.batch}", f"{row.steps}", f"{row.cpu_seconds:.1f}", f"{row.seconds:.1f}"]
    numbers += [f"{row.fvu_train:.4f}", f"{row.fvu_heldout:.4f}", f"{row.dead:.2%}", f"{row.rare:.2%}"]
    cells = [row.absent, *[""] * 7] if row.absent else numbers
    print(f"| {label:38} | {row.until:5} | {' | '.join(cells)} |", flush=True)


def compare(rows: list[Row]) -> dict[str, float]:
    """How far ours is below the paper's recipe and below the best peer, as shares of their held-out FVU."""
    reached = [row for row in rows if not row.absent]
    ours = next((row.fvu_heldout for row in reached if row.name == "ours"), math.nan)
    paper = min((row.fvu_heldout for row in reached if row.name == "textbook"), default=math.nan)
    found = {"paper": 1 - ours / paper}
    for until in ("time", "rows"):
        peers = [row.fvu_heldout for row in reached if row.until == until]
        found[f"best peer, equal {until}"] = 1 - ours / min(peers, default=math.nan)
    return {name: share for name, share in found.items() if not math.isnan(share)}


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        study = Study(arguments, Path(folder))
        train, heldout = len(study.parts["train"]), len(study.parts["heldout"])
        print(f"{train:,} rows of {study.source}, {heldout:,} more held out; ", end="")
        print(f"n {arguments.latents}, k {arguments.k}")
        titles = "equal | batch | steps | CPU s | wall s | FVU train | FVU held-out | dead | rare |"
        print(f"\n| {'trainer':38} | {titles}\n|---|---|---|---|---|---|---|---|---|---|")
        rows = []
        cpu_seconds = arguments.cpu_seconds
        for name in (name for name in CONTESTANTS if name in {"ours", *arguments.only}):
            is_peer = CONTESTANTS[name].is_peer
            for until in ("time", "rows")[: 1 + arguments.equal_steps] if is_peer else ("steps",):
                rows.append(study.train(name, until, cpu_seconds))
                print_row(rows[-1])
            if name == "ours" and not cpu_seconds:
                cpu_seconds = rows[-1].cpu_seconds
    found = compare(rows)
    print()
    for name, share in found.items():
        print(f"held-out FVU of ours below {name}: {share:.1%}")
    plain = [{key: value for key, value in asdict(row).items() if value == value} for row in rows]  # noqa: PLR0124 (no NaN)
    return {"benchmark": "train_quality", "texts": study.source, "rows": plain, "ours_below": found}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", nargs="+", choices=CONTESTANTS, default=DEFAULT, help="beside ours (all)")
    parser.add_argument("--equal-steps", action="store_true", help="peers also on as many rows as ours")
    parser.add_argument("--cpu-seconds", type=float, help="for each peer (as many as ours takes)")
    parser.add_argument("--rows", type=int, default=52_344, help="held-out rows included (52,344)")
    parser.add_argument("--heldout", type=int, default=5_000, help="(5,000)")
    parser.add_argument("--latents", type=int, default=3072, help="(3072)")
    parser.add_argument("--k", type=int, default=32, help="(32)")
    parser.add_argument("--steps", type=int, default=1_020, help="of ours and the paper's recipe (1,020)")
    parser.add_argument("--seed", type=int, default=0, help="of weights and the order of rows (0)")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    machine = {"machine": platform.machine(), "cores": os.cpu_count(), "load": os.getloadavg()[0]}
    print(json.dumps(run(arguments) | machine | {"torch": torch.__version__}))


if __name__ == "__main__":
    main()
