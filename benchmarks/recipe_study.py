"""Which recipe trains best, over sizes and corpora: the study behind the defaults of `sae_core.recipe`.

    python benchmarks/recipe_study.py --runs study.jsonl --table

Rows of the abstracts' embeddings (SAEFARI_CORPORA), 3,500 of them held out. Around the default recipe of each
size one choice at a time is changed; every run is a line of the file, and what is there is not run again.
`--table` prints the table of docs/results.md. Last line: one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sae_core.codes import encode_codes
from sae_core.metrics import RARE_DENSITY, evaluate
from sae_core.recipe import TrainConfig
from sae_core.train import Trainer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

CORPORA = Path(os.environ.get("SAEFARI_CORPORA") or Path(__file__).parents[2] / "shared" / "corpora")
NAMES = ("astro-hep", "cs-lg")
SIZES = (2_000, 6_000, 16_000)  # training rows
MAX_HELDOUT = 3_500
PAPER: dict[str, Any] = {
    "learning_rate": 1e-4, "warmup": 0.0, "decay": 1e-9, "noise": 0.0, "weight_decay": 0.0, "beta2": 0.999,
    "aux_weight": 1 / 32, "dead_epochs": 1.0,
}  # fmt: skip


def changes(default: TrainConfig) -> Iterator[tuple[str, TrainConfig]]:
    """The default, and everything that differs from it in one choice."""
    yield "the default", default
    yield "the paper's recipe", replace(default, **PAPER)
    for factor in (0.5, 2.0):
        yield f"{factor:g} times the latents", replace(default, n_latents=int(default.n_latents * factor))
        yield f"{factor:g} times the steps", replace(default, steps=int(default.steps * factor))
        rate = default.learning_rate * factor
        yield f"{factor:g} times the learning rate", replace(default, learning_rate=rate)
    for noise in (0.0, 0.45):
        yield f"noise {noise:g}", replace(default, noise=noise)
    for weight_decay in (0.0, 2 * default.weight_decay):
        yield f"weight decay {weight_decay:g}", replace(default, weight_decay=weight_decay)
    for dead_epochs in (0.3 * default.dead_epochs, 10 * default.dead_epochs):
        yield f"helped after {dead_epochs:g} epochs", replace(default, dead_epochs=dead_epochs)
    yield "beta2 0.999", replace(default, beta2=0.999)
    yield "half the batch", replace(default, batch=default.batch // 2, steps=2 * default.steps)
    for variant in ("batchtopk", "matryoshka"):
        yield variant, replace(default, variant=variant)


def run(x_MD: NDArray[np.float32], heldout_MD: NDArray[np.float32], config: TrainConfig) -> dict[str, Any]:
    """Train to the end and measure on all rows."""
    trainer = Trainer(x_MD, config)
    began = time.process_time()
    for _ in range(config.steps):
        trainer.step()
    seconds = time.process_time() - began
    sae = trainer.sae()
    counts_N = encode_codes(sae, x_MD).counts()
    rare_N = (counts_N > 0) & (counts_N < RARE_DENSITY * len(x_MD))
    heldout = evaluate(sae, heldout_MD)
    return {
        "fvu_train": evaluate(sae, x_MD[:10_000])["fvu"],
        "fvu_heldout": heldout["fvu"],
        "l0": heldout["l0"],
        "dead": float((counts_N == 0).mean()),
        "rare": float(rare_N.mean()),
        "cpu_seconds": seconds,
    }


def rows_of(name: str, n_rows: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Training and held-out rows of a corpus, unit length, drawn by seed 0."""
    x_MD = np.load(CORPORA / f"arxiv-{name}.embeddings.npy").astype(np.float32)
    x_MD = x_MD[np.random.default_rng(0).permutation(len(x_MD))]
    x_MD /= np.linalg.norm(x_MD, axis=1, keepdims=True)
    return x_MD[MAX_HELDOUT : MAX_HELDOUT + n_rows], x_MD[:MAX_HELDOUT]


def study(names: list[str], sizes: list[int], path: Path, only: str) -> list[dict[str, Any]]:
    """Every run of the study, from the file or made now."""
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    done = {json.dumps([line["corpus"], line["rows"], line["config"]], sort_keys=True) for line in lines}
    for name in names:
        for n_rows in sizes:
            x_MD, heldout_MD = rows_of(name, n_rows)
            for recipe, config in changes(TrainConfig.for_corpus(len(x_MD), x_MD.shape[1])):
                key = json.dumps([name, n_rows, asdict(config)], sort_keys=True)
                if key in done or only not in recipe:
                    continue
                found = run(x_MD, heldout_MD, config)
                line = {"corpus": name, "rows": n_rows, "recipe": recipe, "config": asdict(config), **found}
                with path.open("a") as file:
                    file.write(json.dumps(line) + "\n")
                lines.append(line)
                scores = f"{found['fvu_train']:.4f} train, {found['fvu_heldout']:.4f} held-out"
                shares = f"dead {found['dead']:.1%}, rare {found['rare']:.1%}, {found['cpu_seconds']:.0f} s"
                print(f"{name} {n_rows:,}, {recipe}: FVU {scores}, {shares}", flush=True)
    return lines


def table(lines: list[dict[str, Any]]) -> str:
    """Markdown: a row for each recipe, held-out FVU (training FVU; dead + rare) for each corpus and size."""
    columns = sorted({(line["corpus"], line["rows"]) for line in lines})
    found = {(line["corpus"], line["rows"], _generic(line)): line for line in lines}
    recipes = list(dict.fromkeys(_generic(line) for line in lines))
    head = ["recipe", *(f"{name}, {n_rows:,}" for name, n_rows in columns)]
    rows = [head, ["---"] * len(head)]
    for recipe in recipes:
        cells = [found.get((*column, recipe)) for column in columns]
        rows.append([recipe, *(_cell(cell) for cell in cells)])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _generic(line: dict[str, Any]) -> str:
    return str(line["recipe"])


def _cell(line: dict[str, Any] | None) -> str:
    if line is None:
        return ""
    shares = f"{100 * line['dead']:.1f} + {100 * line['rare']:.1f} %"
    return f"**{line['fvu_heldout']:.3f}** ({line['fvu_train']:.3f}; {shares})"


def main() -> int:
    """Run what is missing, print what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=Path, default=Path("recipe_study.jsonl"), help="file of finished runs")
    parser.add_argument("--corpora", nargs="+", default=list(NAMES), choices=NAMES)
    parser.add_argument("--sizes", nargs="+", type=int, default=list(SIZES), help="training rows")
    parser.add_argument("--only", default="", help="only recipes whose name holds this")
    parser.add_argument("--table", action="store_true", help="print the table of docs/results.md")
    arguments = parser.parse_args()
    if not CORPORA.is_dir():
        print(f"{CORPORA} is not there: set SAEFARI_CORPORA to a folder with arxiv-*.embeddings.npy.")
        return 1
    torch.set_num_threads(1)
    lines = study(arguments.corpora, arguments.sizes, arguments.runs, arguments.only)
    if arguments.table:
        print(table(lines))
    best = [line for line in lines if line["recipe"] == "the default"]
    print(json.dumps({"runs": len(lines), "default": [{**b, "config": None} for b in best]}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
