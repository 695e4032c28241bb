"""Writing files so that a crash leaves either the old content or the new, never a torn one."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes

from sae_core.errors import ArtifactError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import torch


@contextmanager
def explain_full_disk(where: Path) -> Iterator[None]:
    """Turn "no space left" inside the body into an `ArtifactError` that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        what = f"The disk is full: {where} could not be written. What was there before is untouched."
        raise ArtifactError(what, remedy="Free some space and run the same command again.") from error


def write_atomic(path: Path, content: bytes) -> None:
    """Write beside the file, flush to disk, then rename over it."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
    try:
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to disk, so that a rename survives power loss."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file atomically."""
    contiguous = {name: value.contiguous() for name, value in tensors.items()}
    write_atomic(path, to_bytes(contiguous, metadata=dict(metadata)))


def read_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]] | None:
    """Tensors and metadata of a safetensors file, or None if it is missing or damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (OSError, SafetensorError):
        return None
