"""Embeddings in a file: checked once, then read where they are needed, without a copy of the whole."""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING, Any

import numpy as np

from sae_core.errors import EmbeddingError, first_line

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

ZERO_NORM = 1e-12  # a shorter vector has no direction
UNIT_TOLERANCE = 1e-2  # a file within this of unit length is not worth a word: float16 rounds
ROWS_PER_BLOCK = 8192  # float64 copies of a part, not of the whole

logger = logging.getLogger(__name__)


class FileRows:
    """The rows of a .npy file as unit float32 rows; indexed like an array (M, D), it reads what is asked for.

    The file stays on disk: what was read lies in the memory that the system lends and takes back.
    """

    def __init__(
        self, array: NDArray[np.floating], lengths_M: NDArray[np.float64], rows_M: NDArray[np.int64] | None
    ) -> None:
        self._array, self._lengths_M, self._rows_M = array, lengths_M, rows_M

    @property
    def shape(self) -> tuple[int, ...]:
        """(M, D)."""
        return len(self), int(self._array.shape[1])

    def __len__(self) -> int:
        return len(self._array) if self._rows_M is None else len(self._rows_M)

    def __getitem__(self, rows: Any) -> NDArray[np.float32]:
        """A slice or an array of row numbers, as (B, D) float32 rows of unit length."""
        chosen = rows if self._rows_M is None else self._rows_M[rows]
        x_BD = np.asarray(self._array[chosen], dtype=np.float64 if self._is_wide() else np.float32)
        return np.asarray(x_BD / self._lengths_M[chosen, None].astype(x_BD.dtype), dtype=np.float32)

    def subset(self, rows_M: NDArray[np.int64]) -> FileRows:
        """Only these rows of all that there are, in this order."""
        return FileRows(
            self._array, self._lengths_M, rows_M if self._rows_M is None else self._rows_M[rows_M]
        )

    def fingerprint(self) -> str:
        """Sha256 of the numbers in the file, their type and their shape."""
        digest = hashlib.sha256(f"{self._array.dtype.str} {self._array.shape}".encode())
        for start in range(0, len(self._array), ROWS_PER_BLOCK):
            digest.update(np.ascontiguousarray(self._array[start : start + ROWS_PER_BLOCK]).data)
        return digest.hexdigest()

    def _is_wide(self) -> bool:
        """Whether float32 could not hold the numbers, or the square of a length, before they are scaled."""
        return self._array.dtype.itemsize > 4 or bool((self._lengths_M < ZERO_NORM**0.5).any())  # noqa: PLR2004


def open_embeddings(path: Path, n_documents: int | None = None) -> FileRows:
    """The rows of a .npy file, one for each document (None: of any number), every one of them checked.

    Raises EmbeddingError as `map_embeddings` and `check_rows` do.
    """
    return check_rows(map_embeddings(path, n_documents), path)


def map_embeddings(path: Path, n_documents: int | None = None) -> NDArray[np.floating]:
    """The array in a .npy file, memory-mapped; its numbers are not looked at.

    Raises EmbeddingError for a file that is not a plain 2-d floating array, has another number of rows, or
    no columns.
    """
    rows = "one row for each document" if n_documents is None else f"{n_documents} rows"
    remedy = f"Save a floating array of {rows} with numpy.save, in the order of the documents."
    try:
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # numpy's reader raises even the errors of Python's tokenizer
        what = f"{path} cannot be read as a .npy file: {first_line(error)}."
        raise EmbeddingError(what, remedy=remedy) from error
    if not isinstance(loaded, np.ndarray):
        raise EmbeddingError(f"{path} is an archive of arrays, not a .npy file.", remedy=remedy)
    if not np.issubdtype(loaded.dtype, np.floating):
        raise EmbeddingError(f"{path} holds {loaded.dtype}, not floating-point numbers.", remedy=remedy)
    if loaded.ndim != 2 or loaded.shape[1] == 0:  # noqa: PLR2004 - rows and columns
        raise EmbeddingError(f"{path} has shape {loaded.shape}, not (documents, width).", remedy=remedy)
    if n_documents is not None and loaded.shape[0] != n_documents:
        raise EmbeddingError(f"{path} has {loaded.shape[0]} rows for {n_documents} documents.", remedy=remedy)
    return loaded


def check_rows(array: NDArray[np.floating], path: Path, first: int = 0) -> FileRows:
    """Consecutive rows of a file, from number `first` on, as unit rows.

    Raises EmbeddingError for a row that is zero or not finite. Rows of another length are scaled, and a
    warning says so.
    """
    return FileRows(array, _lengths(array, path, first), None)


def load_embeddings(path: Path, n_documents: int | None = None) -> NDArray[np.float32]:
    """All rows that `open_embeddings` finds, in memory, (M, D)."""
    return open_embeddings(path, n_documents)[:]


def _lengths(loaded: NDArray[np.floating], path: Path, first: int) -> NDArray[np.float64]:
    """The length of each row; raises EmbeddingError for rows that have no direction."""
    lengths_M = np.empty(len(loaded))
    for start in range(0, len(loaded), ROWS_PER_BLOCK):
        part = np.asarray(loaded[start : start + ROWS_PER_BLOCK], dtype=np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            lengths = np.linalg.norm(part, axis=1)
        for bad, what in ((~np.isfinite(lengths), "NaN or infinity"), (lengths < ZERO_NORM, "only zeros")):
            if bad.any():
                raise EmbeddingError(
                    f"Row {first + start + int(np.argmax(bad))} (counted from 0) of {path} has {what}.",
                    remedy="Embed that document again, or leave it out of both files.",
                )
        lengths_M[start : start + ROWS_PER_BLOCK] = lengths
    furthest = float(np.abs(lengths_M - 1.0).max(initial=0.0))
    if furthest > UNIT_TOLERANCE:
        logger.warning("The rows of %s were not of unit length (off by up to %.3g): scaled.", path, furthest)
    return lengths_M
