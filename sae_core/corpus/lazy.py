"""Long sequences whose items lie on disk, or are made when they are asked for."""

from __future__ import annotations

import marshal
import operator
import os
import tempfile
import weakref
from abc import abstractmethod
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar, overload

from sae_core.files import explain_write_errors

IN_MEMORY = 2**20  # bytes that wait to be written: a short sequence never needs a file

T = TypeVar("T")


class Lazy(Sequence[T]):
    """A sequence that makes its items one by one; equal to every sequence of equal items."""

    __hash__ = None  # type: ignore[assignment]

    @abstractmethod
    def item(self, at: int) -> T:
        """Item `at`, from 0 and not from behind."""

    @overload
    def __getitem__(self, at: int) -> T: ...
    @overload
    def __getitem__(self, at: slice) -> Lazy[T]: ...
    def __getitem__(self, at: int | slice) -> T | Lazy[T]:
        places = range(len(self))
        return _Part(self, places[at]) if isinstance(at, slice) else self.item(places[at])

    def __iter__(self) -> Iterator[T]:
        return map(self.item, range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(map(operator.eq, self, other))


class _Part(Lazy[T]):
    """Some places of another sequence."""

    def __init__(self, whole: Lazy[T], places: range) -> None:
        self._whole, self._places = whole, places

    def __len__(self) -> int:
        return len(self._places)

    def item(self, at: int) -> T:
        return self._whole.item(self._places[at])


class OnDisk(Lazy[T]):
    """A sequence that grows at its end and lies in a file: memory holds 8 bytes an item, where it ends.

    The file is made in `folder` (None: where the system has temporary files) and has no name, so that
    nothing is left of it when the process ends, however it ends. An item is kept as its `parts`, texts and
    numbers, and made again by `make`. Raises ArtifactError where the disk is full.
    """

    def __init__(
        self, parts: Callable[[T], Any], make: Callable[[Sequence[Any]], T], folder: Path | None = None
    ) -> None:
        self._parts, self._make = parts, make
        self._folder = folder or Path(tempfile.gettempdir())
        self._ends = array("q", [0])
        self._written, self._waiting = 0, bytearray()
        self._file = -1

    def __len__(self) -> int:
        return len(self._ends) - 1

    def append(self, item: T) -> None:
        """Put an item behind the last."""
        self._waiting += marshal.dumps(self._parts(item))
        self._ends.append(self._written + len(self._waiting))
        if len(self._waiting) >= IN_MEMORY:
            self._write()

    def item(self, at: int) -> T:
        start, end = self._ends[at], self._ends[at + 1]
        if start >= self._written:
            raw = bytes(self._waiting[start - self._written : end - self._written])
        else:
            raw = os.pread(self._file, end - start, start)
        return self._make(marshal.loads(raw))  # noqa: S302 (of this very process: the file has no name)

    def _write(self) -> None:
        with explain_write_errors(self._folder):
            if self._file < 0:
                self._folder.mkdir(parents=True, exist_ok=True)
                self._file, name = tempfile.mkstemp(dir=self._folder)
                Path(name).unlink()
                weakref.finalize(self, os.close, self._file)
            while self._waiting:
                n = os.write(self._file, self._waiting)
                self._written += n
                del self._waiting[:n]
