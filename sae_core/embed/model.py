"""What an embedder is, and what every embedder's answer must be: unit rows, one for each text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sae_core.errors import EmbeddingError, first_line
from sae_core.rows import ZERO_NORM

Progress = Callable[[int, int], None]
Vectors = NDArray[np.float32]


class Embedder(Protocol):
    """Turns texts into unit vectors.

    `fingerprint` names the model, its pooling and its maximum length, and keys the cache. It leaves the
    backend out: every backend offered here agrees with float32 torch to a cosine of 0.9999 or better,
    document by document, so their vectors may share one cache.
    """

    @property
    def name(self) -> str:
        """For people: model, backend and precision."""

    @property
    def fingerprint(self) -> str:
        """Identity of the model; safe as a folder name."""

    @property
    def width(self) -> int:
        """D, the length of a vector."""

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Unit rows (B, D) in the order of the texts; raises EmbeddingError, never a zero row."""


class RowsError(EmbeddingError):
    """Texts that could not be embedded; `rows` are their positions in the sequence that was given."""

    def __init__(self, rows: Sequence[int], why: str, *, remedy: str = "") -> None:
        self.rows = list(rows)
        self.why = why
        some = self.rows[:8]
        shown = ", ".join(map(str, some)) + (", ..." if len(self.rows) > len(some) else "")
        noun = "row" if len(self.rows) == 1 else f"{len(self.rows)} rows:"
        super().__init__(f"Embedding failed for {noun} {shown} (counted from 0): {why}.", remedy=remedy)


def in_batches(
    texts: Sequence[str],
    width: int,
    size: int,
    encode: Callable[[list[str]], Vectors],
    run: Callable[[Callable[[list[int]], Vectors], Sequence[list[int]]], Iterable[Vectors]] = map,
) -> Vectors:
    """`encode` over batches of texts of like length, checked: unit rows in the order of the texts."""

    def checked(rows: list[int]) -> Vectors:
        try:
            vectors = encode([texts[row] for row in rows])
        except Exception as error:  # whatever a backend raises, the rows must be named
            raise RowsError(sorted(rows), first_line(error)) from error
        return unit_rows(vectors, rows, width)

    by_length = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    batches = [by_length[start : start + size] for start in range(0, len(texts), size)]
    out_BD = np.empty((len(texts), width), dtype=np.float32)
    for rows, vectors in zip(batches, run(checked, batches), strict=True):
        out_BD[rows] = vectors
    return out_BD


def unit_rows(vectors: Vectors, rows: Sequence[int], width: int) -> Vectors:
    """The vectors scaled to unit length; raises RowsError for a wrong shape, or non-finite or zero rows."""
    if vectors.shape != (len(rows), width):
        raise RowsError(sorted(rows), f"expected {(len(rows), width)} numbers, got {vectors.shape}")
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1)
    bad = [row for row, norm in zip(rows, norms, strict=True) if not np.isfinite(norm) or norm < ZERO_NORM]
    if bad:
        raise RowsError(sorted(bad), "the model gave a zero or non-finite vector")
    return np.asarray(vectors / norms[:, None], dtype=np.float32)


class Truncated:
    """An embedder of whose vectors only the first numbers are kept, as unit vectors.

    For models that were trained so that these alone are an embedding too (Matryoshka representations,
    arXiv:2205.13147). Raises EmbeddingError where the embedder is narrower.
    """

    def __init__(self, whole: Embedder, width: int) -> None:
        if width > whole.width:
            what = f"The first {width} numbers were asked for, but {whole.name} gives only {whole.width}."
            raise EmbeddingError(what, remedy="Choose a smaller --truncate, or leave it out.")
        self.whole, self.width = whole, width
        self.name = f"{whole.name}, the first {width} of {whole.width} numbers"
        self.fingerprint = f"{whole.fingerprint}-first-{width}"

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Unit rows (B, width) in the order of the texts."""
        return self.shorten(self.whole.embed(texts))

    def shorten(self, whole_BD: Vectors) -> Vectors:
        """The rows of the whole embedder as (B, width) unit rows."""
        return unit_rows(whole_BD[:, : self.width], range(len(whole_BD)), self.width)
