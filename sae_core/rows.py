"""Embeddings in a file: checked once, then read where they are needed, without a copy of the whole in memory.

.npy and .safetensors are memory-mapped. Parquet is compressed, and bfloat16 is unknown to numpy: these are
streamed into an unnamed temporary file, which is mapped.
"""

from __future__ import annotations

import hashlib
import json
import math
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sae_core.errors import EmbeddingError, first_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    import pyarrow as pa
    from numpy.typing import NDArray

ZERO_NORM = 1e-12  # a shorter vector has no direction
UNIT_TOLERANCE = 1e-2  # a row within this of unit length is not worth a word: float16 rounds
ROWS_PER_BLOCK = 8192  # float64 copies of a part, not of the whole
MOST_NAMED = 8  # rows in a message
MAX_HEADER = 100_000_000  # bytes, of a safetensors file; as its own reader has it
SAFETENSORS_TYPES = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "BF16": "<u2"}


class FileRows:
    """The rows of a file as unit float32 rows; indexed like an array (M, D), it reads what is asked for.

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


@dataclass(frozen=True)
class Reading:
    """How a file of embeddings is to be read."""

    column: str = ""  # of a parquet file, or the tensor of a .safetensors; "": the only one that fits
    truncate: int | None = None  # only the first so many numbers of a row
    normalise: bool = False  # scale rows that are not of unit length; otherwise they are refused

    def options(self) -> tuple[str, ...]:
        """As a command line has them."""
        column = ("--embeddings-column", self.column) if self.column else ()
        truncate = ("--truncate", str(self.truncate)) if self.truncate is not None else ()
        return (*column, *truncate, *(("--normalise",) if self.normalise else ()))

    def narrow(self, array: NDArray[np.floating], path: Path) -> NDArray[np.floating]:
        """The columns (M, truncate) that are kept; EmbeddingError where there are fewer."""
        if self.truncate is not None and self.truncate > array.shape[1]:
            what = f"The first {self.truncate} numbers of a row are wanted, but {path} has {array.shape[1]}."
            raise EmbeddingError(what, remedy="Choose a smaller --truncate, or leave it out.")
        return array[:, : self.truncate]


AS_IT_IS = Reading()


def open_embeddings(path: Path, n_documents: int | None = None, how: Reading = AS_IT_IS) -> FileRows:
    """The rows of a file, one for each document (None: of any number), every one of them checked.

    Raises EmbeddingError as `map_embeddings` and `check_rows` do.
    """
    return check_rows(map_embeddings(path, n_documents, how.column), path, how=how)


def map_embeddings(path: Path, n_documents: int | None = None, column: str = "") -> NDArray[np.floating]:
    """The whole matrix (M, D) in a .npy, .safetensors or .parquet file; its numbers are not looked at.

    Raises EmbeddingError for a file without such a matrix, or with another number of rows.
    """
    kind = path.suffix.lower()
    if kind == ".safetensors":
        loaded = _map_safetensors(path, column)
    elif kind in {".parquet", ".pq"}:
        loaded = _copy_parquet(path, column)
    else:
        loaded = _map_npy(path, column, n_documents)
    if n_documents is not None and loaded.shape[0] != n_documents:
        what = f"{path} has {loaded.shape[0]} rows for {n_documents} documents."
        raise EmbeddingError(what, remedy="Give one row for each document, in their order.")
    return loaded


def check_rows(array: NDArray[np.floating], path: Path, first: int = 0, how: Reading = AS_IT_IS) -> FileRows:
    """Consecutive rows of a file, from number `first` on, as unit rows.

    Raises EmbeddingError for rows that are zero or not finite, and for rows that are not of unit length
    unless they shall be normalised; and what `Reading.narrow` does.
    """
    part = how.narrow(array, path)
    lengths_M = _lengths(array, path, first)
    if not how.normalise:
        _check_unit(lengths_M, path, first)
    if part.shape[1] < array.shape[1]:
        lengths_M = _lengths(part, path, first, f" in the first {part.shape[1]} numbers")
    return FileRows(part, lengths_M, None)


def load_embeddings(
    path: Path, n_documents: int | None = None, how: Reading = AS_IT_IS
) -> NDArray[np.float32]:
    """All rows that `open_embeddings` finds, in memory, (M, D)."""
    return open_embeddings(path, n_documents, how)[:]


def _lengths(array: NDArray[np.floating], path: Path, first: int, where: str = "") -> NDArray[np.float64]:
    """The length of each row; raises EmbeddingError for rows that have no direction."""
    lengths_M = np.empty(len(array))
    for start in range(0, len(array), ROWS_PER_BLOCK):
        part = np.asarray(array[start : start + ROWS_PER_BLOCK], dtype=np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            lengths_M[start : start + ROWS_PER_BLOCK] = np.linalg.norm(part, axis=1)
    for bad_M, what in ((~np.isfinite(lengths_M), "NaN or infinity"), (lengths_M < ZERO_NORM, "only zeros")):
        if bad_M.any():
            rows, has = _named(np.flatnonzero(bad_M) + first)
            raise EmbeddingError(
                f"{rows} (counted from 0) of {path} {has} {what}{where}.",
                remedy="Embed these documents again, or leave them out of both files.",
            )
    return lengths_M


def _named(rows: NDArray[np.int64]) -> tuple[str, str]:
    """Row numbers in words, and the verb that follows."""
    if len(rows) == 1:
        return f"Row {rows[0]}", "has"
    shown = ", ".join(map(str, rows[:MOST_NAMED]))
    more = f" and {len(rows) - MOST_NAMED:,} more" if len(rows) > MOST_NAMED else ""
    return f"Rows {shown}{more}", "have"


def _check_unit(lengths_M: NDArray[np.float64], path: Path, first: int) -> None:
    off_M = np.abs(lengths_M - 1.0)
    n_off = int((off_M > UNIT_TOLERANCE).sum())
    if n_off:
        row = int(np.argmax(off_M))
        raise EmbeddingError(
            f"{n_off:,} of {len(lengths_M):,} rows of {path} are not of unit length; row {first + row} "
            f"(counted from 0) is the furthest, with {lengths_M[row]:.4g}.",
            remedy="If they are embeddings to be compared by cosine, --normalise scales them to unit length.",
        )


# --- .npy -------------------------------------------------------------------------------------------------


def _map_npy(path: Path, column: str, n_documents: int | None) -> NDArray[np.floating]:
    rows = "one row for each document" if n_documents is None else f"{n_documents} rows"
    remedy = f"Save a floating array of {rows} with numpy.save, in the order of the documents."
    if column:
        what = f"{path} is one array without names, so it has no {column!r}."
        raise EmbeddingError(what, remedy="Leave out --embeddings-column.")
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
    return loaded


# --- .safetensors -----------------------------------------------------------------------------------------


class _Tensor(NamedTuple):
    """What the header says of a tensor."""

    dtype: str
    shape: tuple[int, ...]
    offset: int  # in the file
    n_bytes: int

    @property
    def fits(self) -> bool:
        return self.dtype in SAFETENSORS_TYPES and len(self.shape) == 2 and min(self.shape) > 0  # noqa: PLR2004


def _map_safetensors(path: Path, name: str) -> NDArray[np.floating]:
    try:
        tensors = _read_header(path)
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        what = f"{path} cannot be read as a .safetensors file: {first_line(error)}."
        raise EmbeddingError(what, remedy="Write it again with the package safetensors.") from error
    found = _choose(path, name, {key: each.fits for key, each in tensors.items()}, "tensor")
    tensor = tensors[found]
    mapped = np.memmap(
        path, dtype=SAFETENSORS_TYPES[tensor.dtype], mode="r", offset=tensor.offset, shape=tensor.shape
    )
    if tensor.dtype != "BF16":
        return mapped
    blocks = (mapped[start : start + ROWS_PER_BLOCK] for start in range(0, len(mapped), ROWS_PER_BLOCK))
    # The upper half of a float32.
    return _spooled((np.left_shift(block, 16, dtype=np.uint32).view("<f4") for block in blocks), path)


def _read_header(path: Path) -> dict[str, _Tensor]:
    """Every tensor, its place checked against the size of the file; ValueError or its like otherwise."""
    with path.open("rb") as file:
        n_header = int.from_bytes(file.read(8), "little")
        n_data = path.stat().st_size - 8 - n_header
        if not 0 < n_header <= MAX_HEADER or n_data < 0:
            raise ValueError("it has no header")
        header = json.loads(file.read(n_header))
    if not isinstance(header, dict):
        raise TypeError("its header is no dictionary")
    tensors = {}
    for name, said in header.items():
        if name == "__metadata__":
            continue
        begin, end = map(int, said["data_offsets"])
        tensor = _Tensor(
            str(said["dtype"]), tuple(map(int, said["shape"])), 8 + n_header + begin, end - begin
        )
        if not 0 <= begin <= end <= n_data:
            raise ValueError(f"the tensor {name!r} lies outside the file")
        if tensor.fits:
            size = np.dtype(SAFETENSORS_TYPES[tensor.dtype]).itemsize
            if math.prod(tensor.shape) * size != tensor.n_bytes:
                raise ValueError(f"the tensor {name!r} has another size than its shape says")
        tensors[name] = tensor
    return tensors


def _choose(path: Path, name: str, fits: dict[str, bool], kind: str) -> str:
    """The name of the matrix in a file of several things; EmbeddingError where there is none, or no one."""
    good = [each for each, is_good in fits.items() if is_good]
    if name in good:
        return name
    if name:
        what = f"{path} has no {kind} {name!r} that is a matrix of floating-point numbers."
    elif len(good) == 1:
        return good[0]
    elif good:
        what = f"{path} has {len(good)} {kind}s that could be embeddings."
    else:
        what = f"{path} has no {kind} that is a matrix of floating-point numbers."
        raise EmbeddingError(what, remedy=f"Here are: {_listed(fits) or 'none at all'}.")
    raise EmbeddingError(
        what, remedy=f"Give one with --embeddings-column: {_listed(good) or 'there is none'}."
    )


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:MOST_NAMED]) + (", ..." if len(names) > MOST_NAMED else "")


# --- .parquet ---------------------------------------------------------------------------------------------


def _copy_parquet(path: Path, name: str) -> NDArray[np.floating]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            fits = {field.name: _is_rows(field.type) for field in file.schema_arrow}
            column = _choose(path, name, fits, "column")
            batches = file.iter_batches(ROWS_PER_BLOCK, columns=[column])
            return _spooled(_blocks((batch.column(0) for batch in batches), path, column), path)
    except (pa.ArrowException, OSError) as error:
        what = f"{path} cannot be read as a parquet file: {first_line(error)}."
        raise EmbeddingError(what, remedy="Write it again, with one list of numbers in each row.") from error


def _is_rows(kind: pa.DataType) -> bool:
    import pyarrow as pa

    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return bool(is_list and pa.types.is_floating(kind.value_type))


def _blocks(arrays: Iterable[pa.Array], path: Path, column: str) -> Iterator[NDArray[np.floating]]:
    """Lists as matrices; EmbeddingError for a row that is missing, or has another length than the first."""
    import pyarrow.compute as pc

    first, width = 0, 0
    remedy = "Embed these documents again, or leave them out of both files."
    for array in arrays:
        # -1 where there is no list at all
        widths = pc.fill_null(pc.list_value_length(array), -1).to_numpy(zero_copy_only=False)
        width = width or max(0, int(widths[0]) if len(widths) else 0)
        off = np.flatnonzero((widths != width) | (widths <= 0))
        if len(off):
            row, n = first + int(off[0]), int(widths[off[0]])
            has = f"{n} numbers, others have {width}" if n > 0 and width > 0 else "no embedding"
            what = f"Row {row} (counted from 0) of {path} has {has} in the column {column!r}."
            raise EmbeddingError(what, remedy=remedy)
        numbers = array.flatten()
        if numbers.null_count:
            row = first + int(np.argmax(numbers.is_null().to_numpy(zero_copy_only=False))) // width
            what = f"Row {row} (counted from 0) of {path} lacks a number in the column {column!r}."
            raise EmbeddingError(what, remedy=remedy)
        yield numbers.to_numpy(zero_copy_only=False).reshape(-1, width)
        first += len(array)


# --- what cannot be mapped where it lies ------------------------------------------------------------------


def _spooled(blocks: Iterable[NDArray[np.floating]], path: Path) -> NDArray[np.floating]:
    """Blocks of rows, one after the other, in an unnamed temporary file that is mapped."""
    dtype, n_rows, width = np.dtype(np.float32), 0, 0
    # It lives as long as it is mapped.
    with tempfile.TemporaryFile() as file:
        for block in blocks:
            dtype, n_rows, width = block.dtype, n_rows + len(block), block.shape[1]
            with _room_is_needed(path):
                file.write(np.ascontiguousarray(block).data)
        if not n_rows:
            raise EmbeddingError(f"{path} has no rows.", remedy="Give one row for each document.")
        with _room_is_needed(path):
            file.flush()
        return np.memmap(file, dtype=dtype, mode="r", shape=(n_rows, width))


@contextmanager
def _room_is_needed(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        what = f"{path} has to be unpacked into {tempfile.gettempdir()}, which failed: {error.strerror}."
        remedy = "Name a folder with more room in TMPDIR, or save the embeddings as .npy."
        raise EmbeddingError(what, remedy=remedy) from error
