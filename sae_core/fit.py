"""From a file of embeddings to a trained SAE with its record: what `saefari train` does."""

from __future__ import annotations

import json
import platform
import time
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from sae_core import artifact, metrics
from sae_core.checkpoint import read_identity
from sae_core.codes import encode_codes
from sae_core.errors import TrainingError
from sae_core.files import explain_write_errors, write_atomic
from sae_core.ranks import MAX_SILENCE, joined
from sae_core.recipe import TrainConfig
from sae_core.rows import AS_IT_IS, Reading, open_embeddings
from sae_core.train import CHECKPOINT_SECONDS, Run, Trainer, pick_device

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from numpy.typing import NDArray

    from sae_core.checkpoint import Progress
    from sae_core.ranks import Ranks
    from sae_core.rows import FileRows
    from sae_core.sae import SAE
    from sae_core.train import Rows

HELD_OUT, TRAINED, ADDED = range(3)  # what a document of a collection was to its SAEs: ADDED came later
ROLES = "roles_M"
HELDOUT_SHARE = 0.1
MAX_HELDOUT = 5000
MAX_SCORED = 20_000  # training rows on which the scorecard's training error is measured
PROBE_STEPS = 10
SAE_FILE, RECORD_FILE, SECOND_SEED = "sae.safetensors", "training.json", "second-seed"


class Report(Protocol):
    """Told how far a stage is; `detail` is a few words or numbers that change with it."""

    def __call__(self, done: int, total: int, detail: str = "") -> None: ...


class Console(Protocol):
    """Where long work shows its progress."""

    def stage(self, name: str) -> AbstractContextManager[Report]:
        """Begin a stage; it ends with the context."""


@dataclass(frozen=True)
class Material:
    """Rows to train on and rows that are held out."""

    x_MD: FileRows  # all
    train_MD: FileRows
    heldout_HD: NDArray[np.float32]
    data_hash: str

    @classmethod
    def open(cls, path: Path, seed: int = 0, how: Reading = AS_IT_IS) -> Material:
        """Check a file of embeddings and split its rows; `EmbeddingError` if it cannot be used."""
        x_MD = open_embeddings(path, how=how)
        train_rows, heldout_rows = split(len(x_MD), seed)
        return cls(x_MD, x_MD.subset(train_rows), x_MD[heldout_rows], x_MD.fingerprint())


@dataclass(frozen=True)
class Plan:
    """What a training would take."""

    config: TrainConfig
    n_rows: int
    memory: int  # bytes
    seconds: float  # expected, from a few steps


def split(n: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows to train on and held-out rows: a tenth, at most 5,000, drawn by the seed; both sorted."""
    order = np.random.default_rng((seed, 3)).permutation(n)
    n_heldout = min(MAX_HELDOUT, max(1, round(HELDOUT_SHARE * n)))
    return np.sort(order[n_heldout:]), np.sort(order[:n_heldout])


def stored_roles(generation: Path, n: int, seed: int) -> NDArray[np.uint8]:
    """HELD_OUT, TRAINED or ADDED for each of the n documents of a collection.

    Nothing is stored of a collection that is as it was built: there the roles follow from the seed.
    """
    stored_M = artifact.load_arrays(generation / "metadata").get(ROLES)
    if stored_M is not None:
        return stored_M
    roles_M = np.full(n, HELD_OUT, dtype=np.uint8)
    roles_M[split(n, seed)[0]] = TRAINED
    return roles_M


def save_roles(folder: Path, roles_M: NDArray[np.uint8]) -> None:
    """Write into the draft of a generation what `stored_roles` gives back."""
    artifact.save_arrays(folder / "metadata", {ROLES: roles_M})


def train_file(
    embeddings: Path,
    out: Path,
    console: Console,
    *,
    device: str = "auto",
    resume: bool = False,
    stability: bool = True,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    max_silence: float = MAX_SILENCE,
    how: Reading = AS_IT_IS,
    **chosen: Any,
) -> dict[str, Any]:
    """Train one SAE on a file of embeddings into `out`; the numbers of its scorecard.

    `chosen` goes to `TrainConfig.for_corpus`. With `resume` the configuration is that of the run in `out`.
    Raises `TrainingError` if `out` holds an unfinished run of another configuration or of other rows, and
    `BusyError` if another process works there. Of several processes that `torchrun` has started, only the
    first reads and writes `out`, and has a result; the others return {}.
    """
    with ExitStack() as stack:
        ranks = stack.enter_context(joined(pick_device(device), max_silence))
        stack.enter_context(explain_write_errors(out))
        console = console if ranks.is_first else _Silence()
        with ranks.together():
            if ranks.is_first:
                stack.enter_context(artifact.locked(out))
            with console.stage("Reading embeddings"):
                material = Material.open(embeddings, chosen.get("seed") or 0, how)
        config = _common_config(ranks, material, out, chosen, is_resumed=resume)
        options = {"device": device, "ranks": ranks, "checkpoint_seconds": checkpoint_seconds}
        run, sae = run_with_progress(material, config, out, console, **options)
        other = None
        if stability:
            again = replace(config, seed=config.seed + 1)
            _, other = run_with_progress(material, again, out / SECOND_SEED, console, **options)
        return finish(run, sae, material, out, other) if ranks.is_first else {}


def plan(embeddings: Path, *, device: str = "auto", how: Reading = AS_IT_IS, **chosen: Any) -> Plan:
    """What training on the rows of a file would take."""
    material = Material.open(embeddings, chosen.get("seed") or 0, how)
    config = TrainConfig.for_corpus(*material.train_MD.shape, **chosen)
    return probe(material, config, device)


def probe(material: Material, config: TrainConfig, device: str) -> Plan:
    """What a training would take: size and memory, and the time by ten steps on these rows."""
    config.check(len(material.train_MD))
    trainer = Trainer(material.train_MD, config, device)
    seconds = []
    for _ in range(PROBE_STEPS):
        began = time.perf_counter()
        float(trainer.step())  # the number is there when the step is
        seconds.append(time.perf_counter() - began)
    memory = config.memory_bytes(material.x_MD.shape[1])
    return Plan(config, len(material.train_MD), memory, float(np.median(seconds)) * config.steps)


def run_with_progress(
    material: Material, config: TrainConfig, folder: Path, console: Console, **options: Any
) -> tuple[Run, SAE]:
    """Train to the end, or go on with what `folder` holds, as a stage on the console."""
    return run_stage(
        console.stage(f"Training k={config.k} n={config.n_latents}"),
        (material.train_MD, material.heldout_HD),
        config,
        folder,
        data_hash=material.data_hash,
        **options,
    )


def run_stage(
    stage: AbstractContextManager[Report],
    rows: tuple[Rows, Rows],
    config: TrainConfig,
    folder: Path,
    **options: Any,
) -> tuple[Run, SAE]:
    """A training run shown in a stage: the run, and the best SAE of it."""
    with stage as report:
        run = Run(*rows, config, folder, report=_teller(report, lambda: run.state.last), **options)
        while not run.is_done:
            run.advance()
        return run, run.finish()


def finish(run: Run, sae: SAE, material: Material, out: Path, other: SAE | None = None) -> dict[str, Any]:
    """Write the SAE of a finished run and its record; the numbers of its scorecard."""
    counts_N = encode_codes(sae, material.x_MD).counts()
    n_train = len(material.train_MD)
    scored = np.linspace(0, n_train - 1, min(n_train, MAX_SCORED)).astype(np.int64)
    scores = metrics.scorecard(
        sae, material.train_MD[scored], material.heldout_HD, counts_N, len(material.x_MD)
    )
    scores |= run_scores(run)
    if other is not None:
        scores["stability"] = metrics.matched_share(sae, other, counts_N)
    write_atomic(out / SAE_FILE, sae.to_bytes())
    record = {"config": asdict(run.config), "data": material.data_hash, "versions": versions()}
    write_atomic(out / RECORD_FILE, json.dumps({**record, "metrics": scores}, indent=1).encode())
    return scores


def run_scores(run: Run) -> dict[str, float]:
    """What a scorecard says of the run itself."""
    return {
        "steps": run.step,
        "best_step": run.state.best_step,
        "evaluation_share": round(run.evaluation_share, 4),
    }


def versions() -> dict[str, str]:
    """What this was made with."""
    found = {"python": platform.python_version()}
    for package in ("saefari", "torch", "numpy", "faiss-cpu", "faiss-gpu", "sentence-transformers"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # of the two builds of faiss one is installed
            continue
    return found


class _Silence:
    """The console of a process that leaves talking to the first one."""

    @contextmanager
    def stage(self, _name: str) -> Iterator[Report]:
        yield lambda _done, _total, _detail="": None


def _common_config(
    ranks: Ranks, material: Material, out: Path, chosen: dict[str, Any], *, is_resumed: bool
) -> TrainConfig:
    """The configuration that the first process finds, on all of them, who must have the same rows."""
    content = b""
    with ranks.together():
        if len(set(ranks.gather(material.data_hash))) > 1:
            what = "The processes of this training read different embeddings."
            raise TrainingError(what, remedy="Give the same file to all of them.")
        if ranks.is_first:
            config = _config(material, out, chosen, is_resumed=is_resumed)
            content = json.dumps(asdict(config)).encode()
    return TrainConfig(**json.loads(ranks.share(content)))


def _config(material: Material, out: Path, chosen: dict[str, Any], *, is_resumed: bool) -> TrainConfig:
    """The configuration to train; never one that would overwrite an unfinished run of another."""
    config = TrainConfig.for_corpus(*material.train_MD.shape, **chosen)
    found = read_identity(out)
    if found is None:
        if is_resumed:
            what = f"{out} holds no checkpoint to resume."
            raise TrainingError(what, remedy="Leave out --resume to begin a training there.")
        return config
    if found["data"] != material.data_hash:
        what = f"{out} holds a training on other rows."
        raise TrainingError(what, remedy="Choose another folder with --out, or remove that one.")
    before = TrainConfig(**found["config"])
    if not is_resumed and before != config:
        what = f"{out} holds a training of another configuration (k={before.k} n={before.n_latents})."
        remedy = "Go on with that one with --resume, choose another folder with --out, or remove that one."
        raise TrainingError(what, remedy=remedy)
    return before


def _teller(report: Report, last: Callable[[], int]) -> Callable[[Progress], None]:
    """Show lines of the training log as the progress of a stage."""

    def tell(line: Progress) -> None:
        detail = (
            f"FVU {line.fvu_train:.3f} train {line.fvu_heldout:.3f} held-out, L0 {line.l0:.1f}, "
            f"dead {line.dead:.1%}, rare {line.rare:.1%}, lr {line.learning_rate:.1e}, "
            f"{line.rows_per_second:,.0f} rows/s"
        )
        report(line.step, last(), detail)

    return tell
