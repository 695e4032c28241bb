"""Labels in a file, each read when it is asked for: with all that it rests on, one takes 18 KB of memory."""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import overload

import numpy as np

from sae_core.labels import Label


class StoredLabels(Sequence[Label]):
    """The labels of a file that has what `dataclasses.asdict` makes of each, in one JSON list.

    The file is mapped, so processes share it, and of its entries only the places are kept. A label is decoded
    whenever it is asked for, in some 40 µs: what every request needs of all of them is to be taken once.
    """

    def __init__(self, path: Path) -> None:
        """Find the entries; ValueError where the file is no such list."""
        self._places = np.fromiter(_places(path.read_text(encoding="utf-8")), dtype=(np.int64, 2))
        with path.open("rb") as file:
            self._file = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, at: int) -> Label: ...
    @overload
    def __getitem__(self, at: slice) -> list[Label]: ...
    def __getitem__(self, at: int | slice) -> Label | list[Label]:
        if isinstance(at, slice):
            return [self[each] for each in range(*at.indices(len(self)))]
        start, end = self._places[at].tolist()
        return Label.parse(json.loads(self._file[start:end]))


def _places(text: str) -> Iterator[tuple[int, int]]:
    """Where the entries of a JSON list begin and end, in bytes of UTF-8."""
    decoder, at, place = json.JSONDecoder(), 0, 0
    while (start := text.find("{", at)) >= 0:  # between entries there is none
        _, end = decoder.raw_decode(text, start)
        place += len(text[at:start].encode())
        size = len(text[start:end].encode())
        yield place, place + size
        at, place = end, place + size
    if text[at:].strip() not in {"]", "[]"}:
        raise ValueError("This is no list of labels.")
