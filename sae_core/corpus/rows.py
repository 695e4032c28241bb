"""The rows of a file, one at a time: parquet, CSV, JSONL, also zipped; what cannot be read has a reason."""

from __future__ import annotations

import csv
import gzip
import itertools
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from sae_core.errors import CorpusError

EXCERPT = 120
BATCH, BUFFER = 1_024, 2**20  # rows and bytes of parquet at a time
MAX_ROW = 2**24  # bytes; a longer one, as where a quote was left open, is refused and never in memory whole
N_HEAD = 1_000  # objects of JSONL in which columns are looked for
MAX_HEAD = 2**26  # bytes of them

Record = dict[str, Any]  # field of Document -> value as the file has it


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A row of which nothing can be made, with the reason and how it begins."""

    reason: str
    raw: str


Rows = Iterator[Record | Unreadable]
Choose = Callable[[Sequence[str]], dict[str, str]]

_PARQUET = (".parquet", ".pq")
_TABLES = (".csv", ".tsv")
_LINES = (".jsonl", ".ndjson", ".json")


def read_file(path: str | Path, name: str, choose: Choose) -> Rows:
    """The rows of a file, or of "standard input"; `choose` says from its columns which one each field is.

    Raises CorpusError for a file of another kind, or without rows; OSError, EOFError, zlib.error, csv.Error
    and pyarrow.ArrowException where it cannot be read.
    """
    if name == "standard input":
        yield from _jsonl_rows(sys.stdin.buffer, name, choose)
        return
    path = Path(path)
    if path.is_dir():
        raise CorpusError(f"{name} is a folder, not a file.", remedy="Name one file in it.")
    suffixes = [suffix.lower() for suffix in path.suffixes]
    zipped = suffixes[-1:] == [".gz"]
    kind = suffixes[-2] if zipped and len(suffixes) > 1 else (suffixes or [""])[-1]
    if kind in _PARQUET and not zipped:
        yield from _parquet_rows(path, choose)
    elif kind in _TABLES + _LINES:
        opener: Callable[[Path, str], Any] = gzip.open if zipped else Path.open
        with opener(path, "rb") as file:
            _refuse_utf16(file, name)
            rows = _csv_rows if kind in _TABLES else _jsonl_rows
            yield from rows(file, name, choose)
    else:
        path.stat()  # a missing file is the better message
        ending = "".join(suffixes[-2:]) if zipped else kind
        raise CorpusError(
            f"{name} ends in {ending!r}, which is no known kind of corpus."
            if ending
            else f"{name} has no ending that says what it is.",
            remedy="Use .parquet, .csv, .tsv or .jsonl (text also .gz), or - for JSONL on standard input.",
        )


def _refuse_utf16(file: IO[bytes], name: str) -> None:
    if file.read(2) in (b"\xff\xfe", b"\xfe\xff"):
        raise CorpusError(f"{name} is UTF-16 text.", remedy="Save it as UTF-8.")
    file.seek(0)


def _parquet_rows(path: Path, choose: Choose) -> Rows:
    import pyarrow.parquet as pq

    # Left to itself pyarrow has a whole group of rows in memory, and some files are one group.
    with pq.ParquetFile(path, pre_buffer=False, buffer_size=BUFFER) as file:
        columns = choose(file.schema_arrow.names)
        for batch in file.iter_batches(BATCH, columns=sorted(set(columns.values())), use_threads=False):
            values = [arrow_values(batch.column(column)) for column in columns.values()]
            for row in zip(*values, strict=True):
                yield dict(zip(columns, row, strict=True))


def arrow_values(column: Any) -> list[Any]:
    """Python values of an arrow column; where they have none (bad UTF-8, nanoseconds) bytes or text."""
    import pyarrow as pa

    try:
        return list(column.to_pylist())
    except UnicodeDecodeError:
        return list(column.cast(pa.binary()).to_pylist())
    except (ValueError, OverflowError):
        return list(column.cast(pa.string()).to_pylist())


class _RowError(csv.Error):
    """A row has MAX_ROW bytes or more."""


class _Lines(Iterator[str]):
    """The lines of a file as text. _RowError where those of one row are too many: the last is skipped."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.n_lines = self.n_bytes = self._row_begins = 0

    def begin_row(self) -> None:
        """What comes is another row."""
        self._row_begins = self.n_bytes

    def __next__(self) -> str:
        raw = self._file.readline(MAX_ROW)
        if not raw:
            raise StopIteration
        self.n_lines += 1
        self.n_bytes += len(raw)
        if self.n_bytes - self._row_begins >= MAX_ROW:
            while raw and not raw.endswith(b"\n"):
                raw = self._file.readline(MAX_ROW)
            raise _RowError(f"a row of {MAX_ROW:,} bytes or more, to line {self.n_lines:,}")
        return raw.decode("utf-8", "surrogateescape")


def _csv_rows(file: IO[bytes], name: str, choose: Choose) -> Rows:
    csv.field_size_limit(MAX_ROW)
    lines = _Lines(file)
    first = next((line for line in lines if line.strip("\ufeff\r\n ")), "").removeprefix("\ufeff")
    if not first:
        raise CorpusError(f"{name} is empty.", remedy="It needs a line of column names, and rows.")
    delimiter = max(",\t;", key=first.count)
    reader = csv.reader(itertools.chain([first], lines), delimiter=delimiter)
    header = [cell.strip() for cell in next(reader)]
    columns = choose(header)
    positions = {wanted: header.index(column) for wanted, column in columns.items()}
    while True:
        lines.begin_row()
        begin = lines.n_lines + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            yield Unreadable("invalid csv", f"line {begin:,}: {error}")
            continue
        if cells is None:
            return
        if not cells:  # a blank line
            continue
        if len(cells) != len(header):
            yield Unreadable("wrong number of fields", delimiter.join(cells)[:EXCERPT])
        else:
            yield {wanted: cells[position] for wanted, position in positions.items()}


def _jsonl_rows(file: IO[bytes], name: str, choose: Choose) -> Rows:
    """The columns are those of the first N_HEAD objects: later objects may leave any of them out."""
    lines = _Lines(file)
    objects = _json_objects(lines, name)
    head = []
    for row in objects:
        head.append(row)
        if len(head) == N_HEAD or lines.n_bytes > MAX_HEAD:
            break
    seen = {key: None for row in head if isinstance(row, dict) for key in row}
    if not head:
        raise CorpusError(f"{name} is empty.", remedy="It needs one JSON object per line.")
    columns = choose(list(seen)) if seen else {}
    for row in itertools.chain(head, objects):
        if isinstance(row, Unreadable):
            yield row
        else:
            yield {wanted: row.get(column) for wanted, column in columns.items()}


def _json_objects(lines: _Lines, name: str) -> Iterator[dict[str, Any] | Unreadable]:
    while True:
        lines.begin_row()
        try:
            line = next(lines, None)
        except _RowError as error:
            yield Unreadable("invalid json", str(error))
            continue
        if line is None:
            return
        line = line.strip().removeprefix("\ufeff")
        if not line:
            continue
        if lines.n_lines == 1 and line.startswith("["):
            raise CorpusError(
                f"{name} holds a JSON array, not one object per line.",
                remedy="Convert it, for instance with: jq -c '.[]' FILE > corpus.jsonl",
            )
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            yield Unreadable("invalid json", line[:EXCERPT])
            continue
        yield row if isinstance(row, dict) else Unreadable("not an object", line[:EXCERPT])


def read_rows(
    path: Path, wanted: Mapping[str, Sequence[str]], optional: Sequence[str] = ()
) -> Iterator[Record]:
    """Rows of any table that `load_corpus` can read, each with the fields of `wanted`.

    `wanted` names the columns that a field may be called, the likeliest first; a field of `optional` is None
    where there is none. Raises CorpusError for a file without the others, or with a row that is not readable.
    """

    def choose(columns: Sequence[str]) -> dict[str, str]:
        chosen = {}
        for key, names in wanted.items():
            found = next((name for name in names if name in columns), None)
            if found is not None:
                chosen[key] = found
            elif key not in optional:
                seen = ", ".join(column[:40] for column in columns)
                raise CorpusError(
                    f"{path} has no column for {key}; its columns: {seen}.", remedy=f"Call it {names[0]}."
                )
        return chosen

    try:
        for number, row in enumerate(read_file(path, str(path), choose), start=1):
            if isinstance(row, Unreadable):
                raise CorpusError(f"Row {number} of {path}: {row.reason}.", remedy="Repair or remove it.")
            yield {**dict.fromkeys(optional), **row}
    except OSError as error:
        raise CorpusError(f"{path} could not be read: {error.strerror}.", remedy="Check the path.") from error
