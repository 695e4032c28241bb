"""Lists as CSV and as Parquet, in pieces."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from app.formats.lists import Column, Documents, Row, Table, Value

if TYPE_CHECKING:
    import pyarrow as pa

# What spreadsheets take for a formula, full-width forms included; apostrophes before it are counted too, so
# that one can always be taken away again.
_FORMULA = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")
_GROUP_ROWS = 5_000  # of a row group: what is held in memory


def csv_pieces(listed: Table | Documents) -> Iterator[bytes]:
    """RFC 4180 in UTF-8: a line of names, then the rows. The first piece has rows, if there are any.

    Texts that a spreadsheet would take for a formula get an apostrophe before them. Numbers have nine
    significant digits, all that single precision has.
    """
    columns = listed.kind.columns
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow([column.name for column in columns])
    for rows in listed.rows():
        writer.writerows(
            [_cell(column, value) for column, value in zip(columns, row, strict=True)] for row in rows
        )
        yield buffer.getvalue().encode()
        buffer.seek(0)
        buffer.truncate()
    if rest := buffer.getvalue():
        yield rest.encode()


def _cell(column: Column, value: Value) -> str:
    if value is None or value == "":
        return ""
    if column.type == "number":
        shown = float(value)  # type: ignore[arg-type]  # a number, by its column
        return f"{shown:.9g}" if math.isfinite(shown) else ""
    if column.type == "boolean":
        return "true" if value else "false"
    if column.type == "integer":
        return str(value)
    return guarded("; ".join(value) if column.type == "texts" else str(value))  # type: ignore[arg-type]


def guarded(text: str) -> str:
    """A text that no spreadsheet computes. `unguarded` in docs/api.md: take one apostrophe away again."""
    return f"'{text}" if _FORMULA.match(text) else text


def parquet_pieces(listed: Table | Documents) -> Iterator[bytes]:
    """Parquet with a type for each column; kind, version and address are in the metadata of the schema."""
    import pyarrow.parquet as pq

    schema = _schema(listed)
    sink = _Sink()
    with pq.ParquetWriter(sink, schema, compression="zstd") as writer:
        for rows in _groups(listed.rows()):
            writer.write_table(_table(schema, listed.kind.columns, rows))
            yield sink.take()
    yield sink.take()


class _Sink(io.RawIOBase):
    """A file that only remembers what has not been sent."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[bytes] = []
        self._place = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        part = bytes(data)
        self._parts.append(part)
        self._place += len(part)
        return len(part)

    def tell(self) -> int:
        return self._place

    def take(self) -> bytes:
        taken = b"".join(self._parts)
        self._parts.clear()
        return taken


def _groups(batches: Iterator[Sequence[Row]]) -> Iterator[list[Row]]:
    """The same rows, `_GROUP_ROWS` or somewhat more at a time."""
    waiting: list[Row] = []
    for batch in batches:
        waiting.extend(batch)
        if len(waiting) >= _GROUP_ROWS:
            yield waiting
            waiting = []
    if waiting:
        yield waiting


def _schema(listed: Table | Documents) -> pa.Schema:
    import pyarrow as pa

    types = {
        "text": pa.string(),
        "integer": pa.int64(),
        "number": pa.float64(),
        "boolean": pa.bool_(),
        "texts": pa.list_(pa.string()),
    }
    kind = listed.kind
    about = {"kind": kind.name, "version": kind.version, "url": listed.url, "built": listed.built}
    fields = [
        pa.field(column.name, types[column.type], metadata={"meaning": column.meaning})
        for column in kind.columns
    ]
    return pa.schema(fields, metadata={"saefari": json.dumps(about)})


def _table(schema: pa.Schema, columns: Sequence[Column], rows: Sequence[Row]) -> pa.Table:
    import pyarrow as pa

    by_column = zip(*rows, strict=True)
    arrays = [
        pa.array([_exact(column, value) for value in values], type=field.type)
        for column, field, values in zip(columns, schema, by_column, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def _exact(column: Column, value: Value) -> Value:
    if column.type == "number" and value is not None and not math.isfinite(value):  # type: ignore[arg-type]
        return None
    return value
