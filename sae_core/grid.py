"""Several SAEs over the same rows: every k with every n, in step, each in a folder of its own.

All runs have one seed, batch and number of steps, so they ask for the same rows in the same order: what one
has read from disk the next finds in memory. Each has its own checkpoint. After a stop those that are behind
catch up first, and what is finished is not trained again.
"""

from __future__ import annotations

import json
import re
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from sae_core import artifact
from sae_core.checkpoint import read_identity
from sae_core.errors import TrainingError
from sae_core.files import explain_write_errors
from sae_core.fit import RECORD_FILE, SAE_FILE, Material, finish
from sae_core.powerlaw import Point, PowerLaws, power_laws
from sae_core.recipe import TrainConfig
from sae_core.rows import AS_IT_IS, Reading
from sae_core.sae import SAE
from sae_core.train import Run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from sae_core.fit import Console, Report

FORM = "Write --grid k=8,16,32 n=1536,3072."
CHECKPOINT_SECONDS = 20.0  # at least, between the checkpoints of a member
CHECKPOINT_SHARE = 0.05  # of the time, at most, goes into writing them
BYTES_PER_SECOND = 200e6  # that a slow disk takes
MAX_SIZE = 10_000_000


@dataclass(frozen=True)
class GridSizes:
    """The sizes of a grid: every k is trained with every number of latents."""

    ks: tuple[int, ...]
    latents: tuple[int, ...]

    @classmethod
    def parse(cls, parts: Sequence[str]) -> GridSizes:
        """Read `("k=8,16", "n=512,1024")`, in any order; a `TrainingError` says what is not understood."""
        found: dict[str, tuple[int, ...]] = {}
        for part in parts:
            name, equals, text = (piece.strip() for piece in part.partition("="))
            if not equals or name not in {"k", "n"}:
                raise TrainingError(f"--grid {part}: only k=... and n=... are known.", remedy=FORM)
            if name in found:
                raise TrainingError(f"--grid names {name} twice.", remedy=FORM)
            found[name] = _sizes(part, text)
        for name in ("k", "n"):
            if name not in found:
                raise TrainingError(f"--grid does not say which {name}.", remedy=FORM)
        return cls(found["k"], found["n"])

    def __len__(self) -> int:
        return len(self.ks) * len(self.latents)


@dataclass(frozen=True)
class GridPlan:
    """Rows, and every SAE that is to be trained on them."""

    material: Material
    configs: dict[str, TrainConfig]  # by name, by k, then by n

    @property
    def memory(self) -> int:
        """Bytes that training all of them takes at once, besides the rows."""
        width = self.material.x_MD.shape[1]
        return sum(config.memory_bytes(width) for config in self.configs.values())

    @property
    def checkpoint_seconds(self) -> float:
        """Between two checkpoints of a member: they are many, and all are written."""
        return max(CHECKPOINT_SECONDS, self.memory / BYTES_PER_SECOND / CHECKPOINT_SHARE)


@dataclass(frozen=True)
class Member:
    """One SAE of a finished grid: its size and what its scorecard says."""

    name: str
    k: int
    n_latents: int
    fvu_train: float
    fvu_heldout: float
    l0: float
    n_dead: int
    n_rare: int


@dataclass(frozen=True)
class GridResult:
    """A finished grid, for the tables and the picture."""

    data: str  # sha256 of the rows
    width: int
    n_train: int
    n_heldout: int
    steps: int
    members: tuple[Member, ...]  # by k, then by n
    heldout: PowerLaws
    train: PowerLaws

    def best(self, k: int) -> Member:
        """The SAE with the lowest held-out error among those of one k."""
        return min((m for m in self.members if m.k == k), key=lambda member: member.fvu_heldout)


class Advancing(Protocol):
    """What a grid needs of a training run."""

    @property
    def step(self) -> int:
        """Steps made so far."""

    @property
    def is_done(self) -> bool:
        """Whether the last step has been made."""

    def advance(self) -> None:
        """Make one step."""


R = TypeVar("R", bound=Advancing)


def member_configs(sizes: GridSizes, n_rows: int, width: int, **chosen: Any) -> dict[str, TrainConfig]:
    """The configuration of every member by its name, by k, then by n; other choices are common to all.

    Raises one `TrainingError` that names every member that cannot be trained, before any is.
    """
    configs = {}
    refused = []
    for k in sizes.ks:
        for n_latents in sizes.latents:
            name = f"k{k}-n{n_latents}"
            config = TrainConfig.for_corpus(n_rows, width, **chosen, k=k, n_latents=n_latents)
            try:
                config.check(n_rows)
            except TrainingError as error:
                refused.append(f"{name}: {error.what}")
            configs[name] = config
    if refused:
        what = f"{len(refused)} of the {len(sizes)} SAEs cannot be trained. {' '.join(refused)}"
        raise TrainingError(what, remedy="Leave those sizes out of --grid, or give more documents.")
    return configs


def plan_grid(embeddings: Path, sizes: GridSizes, *, how: Reading = AS_IT_IS, **chosen: Any) -> GridPlan:
    """Check the rows of a file and every size; raises what `Material.open` and `member_configs` do."""
    material = Material.open(embeddings, chosen.get("seed") or 0, how)
    return GridPlan(material, member_configs(sizes, *material.train_MD.shape, **chosen))


def train_grid(plan: GridPlan, folder: Path, console: Console, *, device: str = "auto") -> GridResult:
    """Train all members of a grid, each in `folder` / its name, going on with what was begun there.

    Raises `TrainingError`, before anything is trained, if a member's folder holds the training of another
    configuration or of other rows, and `BusyError` if another process works in one of them.
    """
    material, configs = plan.material, plan.configs

    def open_run(config: TrainConfig, where: Path) -> Run:
        return Run(
            material.train_MD,
            material.heldout_HD,
            config,
            where,
            data_hash=material.data_hash,
            device=device,
            checkpoint_seconds=plan.checkpoint_seconds,
        )

    with explain_write_errors(folder), locked_members(folder, configs):
        _refuse_others(folder, configs, material.data_hash)
        with console.stage(f"Training {len(configs)} SAEs") as report:
            train_together(
                configs,
                folder,
                data=material.data_hash,
                open_run=open_run,
                finish=lambda run, where: finish(run, run.finish(), material, where),
                report=report,
            )
        return read_grid(configs, folder, material.x_MD.shape[1])


@contextmanager
def locked_members(folder: Path, configs: Mapping[str, TrainConfig]) -> Iterator[None]:
    """Hold the locks of a grid's folder and of its members' folders."""
    with ExitStack() as stack:
        stack.enter_context(artifact.locked(folder))
        for name in configs:
            stack.enter_context(artifact.locked(folder / name))
        yield


def is_finished(folder: Path, config: TrainConfig, data: str) -> bool:
    """Whether `folder` holds the finished training of this configuration on these rows."""
    record = _read_record(folder) or {}
    is_same = identity_of(config, data) == {name: record.get(name) for name in ("config", "data")}
    return is_same and (folder / SAE_FILE).is_file()


def train_together(
    configs: Mapping[str, TrainConfig],
    folder: Path,
    *,
    data: str,
    open_run: Callable[[TrainConfig, Path], R],
    finish: Callable[[R, Path], object],
    report: Report,
) -> None:
    """Train every member that is not finished.

    Those that are furthest behind make the next step, so that all are at the same rows sooner or later.
    `open_run` begins or resumes the training of a configuration in a folder; `finish` writes its SAE and its
    record there. `report` is told the steps made, those of all members, and a few words.
    """
    runs = {
        name: open_run(config, folder / name)
        for name, config in configs.items()
        if not is_finished(folder / name, config, data)
    }
    n_steps = sum(config.steps for config in configs.values())
    while runs:
        behind = min(run.step for run in runs.values())
        for name in [name for name, run in runs.items() if run.step == behind]:
            if not runs[name].is_done:
                runs[name].advance()
            n_made = n_steps - sum(configs[other].steps - run.step for other, run in runs.items())
            report(n_made, n_steps, f"{len(runs)} to go, the last at step {behind + 1:,}")
            if runs[name].is_done:
                report(n_made, n_steps, f"measuring {name}")
                finish(runs.pop(name), folder / name)  # its memory goes with it


def _refuse_others(folder: Path, configs: Mapping[str, TrainConfig], data: str) -> None:
    """Never write over the training of something else."""
    found = {name: read_identity(folder / name) for name in configs}
    others = [
        name
        for name, identity in found.items()
        if identity is not None
        and identity_of(configs[name], data) != {k: identity.get(k) for k in ("config", "data")}
    ]
    if others:
        what = f"{folder} holds trainings of another configuration or of other rows: {', '.join(others)}."
        raise TrainingError(what, remedy="Choose another folder with --out, or remove those.")


def identity_of(config: TrainConfig, data: str) -> dict[str, Any]:
    """What makes two trainings the same one, as it reads in their records."""
    return {"config": json.loads(json.dumps(asdict(config))), "data": data}


def read_grid(configs: Mapping[str, TrainConfig], folder: Path, width: int) -> GridResult:
    """The result of a grid whose members are all finished."""
    records = {name: _read_record(folder / name) for name in configs}
    missing = [name for name, record in records.items() if record is None]
    if missing:
        what = f"{', '.join(missing)} in {folder}: the record of the training is missing or damaged."
        raise TrainingError(what, remedy="Run the same command again.")
    scores = {name: record["metrics"] for name, record in records.items() if record is not None}
    members = tuple(
        Member(
            name=name,
            k=configs[name].k,
            n_latents=configs[name].n_latents,
            fvu_train=float(found["fvu_train"]),
            fvu_heldout=float(found["fvu_heldout"]),
            l0=float(found["l0"]),
            n_dead=int(found["n_dead"]),
            n_rare=int(found["n_rare"]),
        )
        for name, found in scores.items()
    )
    first = next(record for record in records.values() if record is not None)
    return GridResult(
        data=first["data"],
        width=width,
        n_train=int(first["metrics"]["n_train"]),
        n_heldout=int(first["metrics"]["n_heldout"]),
        steps=max(config.steps for config in configs.values()),
        members=members,
        heldout=power_laws([Point(m.k, m.n_latents, m.fvu_heldout) for m in members]),
        train=power_laws([Point(m.k, m.n_latents, m.fvu_train) for m in members]),
    )


def load_grid(folder: Path) -> tuple[GridResult, dict[str, TrainConfig]]:
    """The grid that `saefari train --grid` left in a folder, and the configuration of each member.

    Raises `TrainingError` if there are no finished trainings, or trainings on different rows.
    """
    remedy = "Give the --out folder of a finished `saefari train --grid`."
    found = {path.name: _read_record(path) for path in sorted(folder.glob("k*-n*")) if path.is_dir()}
    records = {name: record for name, record in found.items() if record is not None}
    if not records:
        raise TrainingError(f"{folder} holds no finished grid.", remedy=remedy)
    if len({record["data"] for record in records.values()}) > 1:
        raise TrainingError(f"{folder} holds trainings on different rows.", remedy=remedy)
    by_size = sorted((TrainConfig(**record["config"]) for record in records.values()), key=_size_of)
    configs = {f"k{config.k}-n{config.n_latents}": config for config in by_size}
    if configs.keys() != records.keys():
        raise TrainingError(f"{folder} holds folders that are not named as their sizes.", remedy=remedy)
    width = SAE.load(folder / next(iter(configs)) / SAE_FILE).width
    return read_grid(configs, folder, width), configs


def _size_of(config: TrainConfig) -> tuple[int, int]:
    return config.k, config.n_latents


def _sizes(part: str, text: str) -> tuple[int, ...]:
    if not re.fullmatch(r"\s*\d+\s*(,\s*\d+\s*)*", text):
        raise TrainingError(f"--grid {part} is not a list of whole numbers.", remedy=FORM)
    sizes = sorted({int(size) for size in text.split(",")})
    if sizes[0] < 1 or sizes[-1] > MAX_SIZE:
        what = f"--grid {part}: sizes lie between 1 and {MAX_SIZE:,}."
        raise TrainingError(what, remedy=FORM)
    return tuple(sizes)


def _read_record(folder: Path) -> dict[str, Any] | None:
    """The record of a finished training, or None if there is none that can be used."""
    try:
        record = json.loads((folder / RECORD_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    is_whole = isinstance(record, dict) and {"config", "data", "metrics"} <= record.keys()
    return record if is_whole else None
