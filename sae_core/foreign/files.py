"""The files of a foreign checkpoint: plain, not too large, and what they say checked."""

from __future__ import annotations

import json
import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from sae_core.errors import ConversionError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import IO

    from torch import Tensor

REMEDY = "Get the file again from where it came, or convert another."
LARGEST_JSON = 2**20


@contextmanager
def opened(path: Path, largest: int) -> Iterator[tuple[IO[bytes], int]]:
    """A plain file of at most `largest` bytes, and its size; links are followed: caches are made of them."""
    try:
        # Without O_NONBLOCK a named pipe would wait here for somebody to write.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        what = f"{path} cannot be opened: {error.strerror}."
        raise ConversionError(what, remedy="Check the path, its links and its rights.") from error
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ConversionError(f"{path} is not a plain file.", remedy="Give the file itself.")
        if status.st_size > largest:
            what = f"{path} has {status.st_size:,} bytes, more than the {largest:,} that are read."
            raise ConversionError(what, remedy="If it is what you expect, allow more with --max-gib.")
        yield file, status.st_size


def load_tensors(path: Path, largest: int) -> dict[str, Tensor]:
    """The tensors of a safetensors file by name."""
    with opened(path, largest):
        pass
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ConversionError(f"{path} cannot be read as safetensors: {error}.", remedy=REMEDY) from error


def metadata_of(content: bytes) -> dict[str, str]:
    """What the header of a safetensors file says besides its tensors; `ValueError` if it has none."""
    length = int.from_bytes(content[:8], "little")
    found: dict[str, str] = json.loads(content[8 : 8 + length]).get("__metadata__", {})
    return found


class Config:
    """A JSON object of somebody else's, read by name and kind."""

    def __init__(self, values: Any, path: Path) -> None:
        if not isinstance(values, dict):
            raise ConversionError(f"{path} is not a JSON object.", remedy=REMEDY)
        self.values, self.path = values, path

    @classmethod
    def load(cls, path: Path) -> Config:
        with opened(path, LARGEST_JSON) as (file, _):
            try:
                return cls(json.loads(file.read()), path)
            except (ValueError, RecursionError) as error:
                raise ConversionError(f"{path} cannot be read as JSON: {error}.", remedy=REMEDY) from error

    def count(self, name: str) -> int | None:
        """A whole number of at least 1, or None if it is missing; 50.0 is one, True is none."""
        value = self.values.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value < 2**31:
            raise ConversionError(f"{self.path}: {name} is {value!r}, not a number from 1 on.", remedy=REMEDY)
        return round(value)

    def word(self, name: str, default: str) -> str:
        """A word."""
        value = self.values.get(name)
        return default if value is None else str(value)

    def claim(self, name: str, *, default: bool = False) -> bool:
        """Whether something is so."""
        value = self.values.get(name)
        return default if value is None else bool(value)

    def counts(self, name: str) -> tuple[int, ...]:
        """A list of rising whole numbers; () if it is missing."""
        values = self.values.get(name) or []
        is_list = isinstance(values, list) and all(type(value) is int and value > 0 for value in values)
        if not is_list or sorted(set(values)) != values:
            what = f"{self.path}: {name} is {values!r}, not a list of rising whole numbers."
            raise ConversionError(what, remedy=REMEDY)
        return tuple(values)
