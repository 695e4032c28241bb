"""What each of several processes does in the tests of `sae_core.ranks`; started by torchrun as a module.

Trains every case of `cases.json`, together with the others, and writes what this process saw.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from sae_core import fit
from sae_core.errors import SaefariError, TrainingError
from sae_core.ranks import Ranks, joined
from sae_core.recipe import TrainConfig
from sae_core.train import Trainer

N_DEAD = 8
N_HELDOUT = 43


def trainer_of(x_MD: np.ndarray, config: TrainConfig, ranks: Ranks) -> Trainer:
    """A trainer whose first latents are dead until the auxiliary loss has raised them."""
    trainer = Trainer(x_MD[N_HELDOUT:], config, ranks=ranks)
    with torch.no_grad():
        trainer.weights["b_enc_N"][:N_DEAD] = -0.5
    return trainer


def train_case(folder: Path, name: str, config: TrainConfig, ranks: Ranks) -> dict[str, Any]:
    """Train, save the weights if this is the first process; the numbers that all must share."""
    x_MD = np.load(folder / "x.npy")
    trainer = trainer_of(x_MD, config, ranks)
    fvus, dead_steps = [], 0
    for _ in range(config.steps):
        fvus.append(float(trainer.step()))
        dead_steps += trainer.dead_share() > 0
    weights = trainer.copy_weights()
    if ranks.is_first:
        save_file(weights, folder / f"{name}.safetensors")
    content = b"".join(value.numpy().tobytes() for value in weights.values())
    return {
        "fvus": fvus,
        "dead_steps": dead_steps,
        "scores": trainer.evaluate(x_MD[:N_HELDOUT]),
        "weights": hashlib.sha256(content).hexdigest(),
    }


def told(ranks: Ranks, problem: SaefariError | OSError | None) -> str:
    """What a process ends with when it has this problem, and others may have their own."""
    try:
        with ranks.together():
            if problem is not None:
                raise problem
    except (SaefariError, OSError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def told_of_rows(ranks: Ranks, folder: Path) -> str:
    """What a process ends with when each has embeddings of its own."""
    path = folder / f"rows{ranks.rank}.npy"
    np.save(path, np.roll(np.tile(np.eye(20, dtype=np.float32), (2, 1)), ranks.rank, axis=1))
    material = fit.Material.open(path)
    try:
        fit._common_config(ranks, material, folder / "out", {}, is_resumed=False)
    except SaefariError as error:
        return f"{type(error).__name__}: {error}"
    return ""


def main(folder: Path) -> None:
    """Do everything once, in one group, as starting one takes seconds."""
    cases = json.loads((folder / "cases.json").read_text())
    with joined() as ranks:
        found = {
            "cases": {n: train_case(folder, n, TrainConfig(**c), ranks) for n, c in cases.items()},
            "shared": ranks.share(b"of the first" if ranks.is_first else b"").decode(),
            "gathered": ranks.gather(f"ünd {ranks.rank}"),
            "told by none": told(ranks, None),
            "told by last": told(ranks, OSError("no file") if ranks.rank == ranks.size - 1 else None),
            "told by all": told(ranks, TrainingError(f"Wrong, says {ranks.rank}.")),
            "told of rows": told_of_rows(ranks, folder),
        }
        (folder / f"{ranks.rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
