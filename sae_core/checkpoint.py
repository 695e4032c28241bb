"""What a training run writes: checkpoints that a crash cannot tear, and a log that keeps to them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes

from sae_core.files import write_atomic

if TYPE_CHECKING:
    from pathlib import Path

FORMAT = "saefari-checkpoint-2"
CHECKPOINT, LOG = "checkpoint.safetensors", "log.jsonl"
NUMBERS = ("step", "last", "best_fvu", "best_step", "stalled")


@dataclass(frozen=True)
class Progress:
    """One line of the log; dead and rare are shares of the latents."""

    step: int
    fvu_train: float  # mean of the batches since the line before, as they were trained on: with noise
    fvu_heldout: float
    l0: float
    dead: float
    rare: float
    learning_rate: float
    rows_per_second: float
    seconds_left: float


@dataclass
class State:
    """All that a run needs to go on, on whatever device it trains."""

    weights: dict[str, torch.Tensor]
    threshold: torch.Tensor  # of BatchTopK; 0 for the others
    silent_N: torch.Tensor  # steps since the latent fired
    fired_N: torch.Tensor  # on how many rows it fired since the present epoch began
    fired_before_N: torch.Tensor  # and in the epoch before
    moments: dict[str, torch.Tensor] = field(default_factory=dict)
    best: dict[str, torch.Tensor] = field(default_factory=dict)  # weights and threshold
    step: int = 0
    last: int = 0  # the step at which the run ends
    best_fvu: float = float("inf")
    best_step: int = 0
    stalled: int = 0  # evaluations since the best one

    def to_bytes(self, identity: str) -> bytes:
        """The content of a checkpoint file."""
        tensors = {
            f"{group}.{name}": value for group in GROUPS for name, value in getattr(self, group).items()
        }
        tensors |= {name: getattr(self, name) for name in SINGLES}
        numbers = {name: getattr(self, name) for name in NUMBERS}
        metadata = {"format": FORMAT, "identity": identity, "numbers": json.dumps(numbers)}
        # A clone, as safetensors refuses views of one storage; `cpu` alone may return the same tensor.
        return to_bytes({k: v.detach().cpu().clone() for k, v in tensors.items()}, metadata=metadata)

    @classmethod
    def from_bytes(cls, content: bytes) -> State:
        """Inverse of `to_bytes`."""
        length = int.from_bytes(content[:8], "little")  # how a safetensors file begins: size of its header
        metadata = json.loads(content[8 : 8 + length])["__metadata__"]
        return _state_of(from_bytes(content), metadata)

    def to(self, device: torch.device) -> State:
        """The same on a device; tensors that are there already are shared, not copied."""
        moved: dict[str, Any] = {name: getattr(self, name).to(device) for name in SINGLES}
        for group in GROUPS:
            moved[group] = {name: value.to(device) for name, value in getattr(self, group).items()}
        return replace(self, **moved)


GROUPS, SINGLES = ("weights", "moments", "best"), ("threshold", "silent_N", "fired_N", "fired_before_N")


def save_checkpoint(folder: Path, state: State, identity: str) -> None:
    """Write the checkpoint; `OSError` if the disk is full, and then the one before is still there."""
    write_atomic(folder / CHECKPOINT, state.to_bytes(identity))


def load_checkpoint(folder: Path, identity: str) -> State | None:
    """The checkpoint of exactly this run, or None if there is none that can be used."""
    try:
        with safe_open(folder / CHECKPOINT, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT or metadata.get("identity") != identity:
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return _state_of(tensors, metadata)
    except (OSError, SafetensorError):
        return None


def _state_of(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> State:
    groups: dict[str, Any] = {group: {} for group in GROUPS}
    # Clones lie as new tensors do: sums over a tensor at another alignment round differently.
    for key, value in tensors.items():
        group, dot, name = key.partition(".")
        if dot:
            groups[group][name] = value.clone()
    groups |= {name: tensors[name].clone() for name in SINGLES}
    return State(**groups, **json.loads(metadata["numbers"]))


def read_identity(folder: Path) -> dict[str, Any] | None:
    """Configuration and data of the run whose checkpoint `folder` holds; None without a usable one."""
    metadata = _metadata(folder)
    identity: dict[str, Any] | None = json.loads(metadata["identity"]) if metadata else None
    return identity


def saved_step(folder: Path) -> int:
    """The step of the checkpoint that `folder` holds; 0 without a usable one."""
    metadata = _metadata(folder)
    return int(json.loads(metadata["numbers"])["step"]) if metadata else 0


def _metadata(folder: Path) -> dict[str, str] | None:
    try:
        with safe_open(folder / CHECKPOINT, framework="pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
    except (OSError, SafetensorError):
        return None
    return metadata if metadata.get("format") == FORMAT else None


class Log:
    """A JSONL file of `Progress` that never claims steps which a resumed run has not made."""

    def __init__(self, folder: Path, *, keep_until: int) -> None:
        self.path = folder / LOG
        kept = [line for line in read_log(folder) if line["step"] <= keep_until]
        write_atomic(self.path, "".join(json.dumps(line) + "\n" for line in kept).encode())

    def write(self, line: Progress) -> None:
        """Append a line."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(line)) + "\n")


def read_log(folder: Path) -> list[dict[str, float]]:
    """The lines of a training log; a line torn by a crash is left out."""
    path = folder / LOG
    lines = []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []:
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue
        if isinstance(line, dict) and "step" in line:
            lines.append(line)
    return lines
