"""The grid of SAEs that claims 1 to 3 need: loaded from a folder, or trained on a collection's vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sae_core.claims.study import GridFolder
from sae_core.files import explain_write_errors
from sae_core.fit import probe
from sae_core.grid import GridPlan, GridSizes, is_finished, load_grid, plan_grid, train_grid

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from sae_core.explorer import Explorer, FeatureSet
    from sae_core.fit import Console

MOST_STEPS = 1000  # of a member that is only trained to be compared
VECTORS = "vectors.npy"


def grid_from(folder: Path, explorer: Explorer) -> GridFolder:
    """A finished grid; says where it differs from the collection. Raises what `load_grid` does."""
    result, configs = load_grid(folder)
    words = (
        f"Grid of {len(result.members)} SAEs, loaded: {result.n_train:,} training rows measured, "
        f"{result.n_heldout:,} held out, {result.steps:,} steps."
    )
    n_rows = result.n_heldout + result.n_train
    if result.data != explorer.manifest.get("embeddings"):
        words += " Its file of rows has another checksum than this collection's vectors: half precision has."
    if result.width != explorer.width or n_rows > explorer.n_documents:
        words += f" They are other rows: {result.width} dimensions, at least {n_rows:,} of them."
    return GridFolder(result, folder, next(iter(configs.values())).batch, words)


def default_sizes(space: FeatureSet) -> GridSizes:
    """Three k and three n, up to twice the k and just the n of an SAE."""
    k, n = space.sae.k, space.sae.n_latents
    ks = sorted({max(1, k // 2), k, 2 * k})
    latents = sorted({max(size, 2 * ks[-1] + 1) for size in (n // 4, n // 2, n)})
    return GridSizes(tuple(ks), tuple(latents))


def plan_own_grid(
    explorer: Explorer, sizes: GridSizes, folder: Path, *, seed: int, steps: int | None
) -> GridPlan:
    """The grid that would be trained on the vectors of a collection, in `folder`; at most 1,000 steps each.

    The vectors are written there. Raises `TrainingError` for sizes that cannot be trained.
    """
    path = folder / VECTORS
    x_MD = explorer.index.vectors()
    if not _holds(path, x_MD):
        with explain_write_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            np.save(path, x_MD, allow_pickle=False)
    plan = plan_grid(path, sizes, seed=seed, steps=steps)
    if steps is None and any(config.steps > MOST_STEPS for config in plan.configs.values()):
        plan = plan_grid(path, sizes, seed=seed, steps=MOST_STEPS)
    return plan


def seconds_of(plan: GridPlan, device: str = "auto") -> float:
    """About how long training a grid takes, by ten steps of each member."""
    return sum(probe(plan.material, config, device).seconds for config in plan.configs.values())


def is_trained(plan: GridPlan, folder: Path) -> bool:
    """Whether every member of a grid is finished already."""
    data = plan.material.data_hash
    return all(is_finished(folder / name, config, data) for name, config in plan.configs.items())


def train_own_grid(plan: GridPlan, folder: Path, console: Console) -> GridFolder:
    """Train it, or go on with what is there; `BusyError` if another process does."""
    result = train_grid(plan, folder, console)
    words = (
        f"Grid of {len(result.members)} SAEs, trained on the documents of this collection: "
        f"{result.n_train:,} training rows measured, {result.n_heldout:,} held out, {result.steps:,} steps."
    )
    return GridFolder(result, folder, next(iter(plan.configs.values())).batch, words)


def _holds(path: Path, x_MD: NDArray[np.float32]) -> bool:
    try:
        known: Any = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError):
        return False
    return np.array_equal(known, x_MD)
