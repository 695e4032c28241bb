"""A collection as a folder of parquet files, with the weights and a card that says what they are."""

from __future__ import annotations

import json
import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from app.catalog import FILE_NAME, Catalog
from app.exporting import tables
from app.exporting.card import write_card
from sae_core.errors import NotFoundError
from sae_core.files import drafted_folder, explain_write_errors, sha256_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.exporting.tables import Table
    from sae_core.explorer import Explorer
    from sae_core.fit import Console

FORMAT = "saefari-dump-1"
RECORD = "dump.json"  # by which a folder is known as ours


@dataclass(frozen=True)
class Written:
    """A table that was written."""

    table: Table
    path: str  # inside the dump
    n_rows: int
    size: int  # bytes


def make_dump(
    explorer: Explorer,
    out: Path,
    console: Console,
    *,
    saes: Sequence[str] = (),
    with_vectors: bool = False,
) -> dict[str, Any]:
    """Write a collection into the folder `out`, whole or not at all; what its record says.

    `saes` are names; none stands for all. Memory holds a block of rows at a time. Raises NotFoundError for
    an SAE that is not there, ArtifactError where the disk is full.
    """
    for name in saes:
        if name not in explorer.saes:
            what = f"The collection {explorer.name} has no SAE {name}."
            raise NotFoundError(what, remedy=f"Here are: {', '.join(explorer.saes)}.")
    chosen = [explorer.saes[name] for name in saes or explorer.saes]
    catalog = Catalog(explorer.path / FILE_NAME, is_timed=False)
    try:
        with explain_write_errors(out), drafted_folder(out) as draft:
            of_all = [tables.documents(explorer, catalog)]
            of_all += [tables.vectors(explorer)] if with_vectors else []
            written = _write_all(of_all, draft, "", console)
            for space in chosen:
                folder = f"saes/{space.name}/"
                (draft / folder).mkdir(parents=True)
                (draft / folder / "sae.safetensors").write_bytes(space.sae.to_bytes())
                training = {**space.describe(), "history": space.history}
                (draft / folder / "training.json").write_text(json.dumps(training), encoding="utf-8")
                written += _write_all(tables.of_sae(space), draft, folder, console)
            card = write_card(explorer, chosen, written)
            (draft / "README.md").write_text(card, encoding="utf-8")
            record = _record(explorer, [space.name for space in chosen], written, draft)
            (draft / RECORD).write_text(json.dumps(record, ensure_ascii=False, indent=1), encoding="utf-8")
        return record
    finally:
        catalog.close()


def _write_all(some: Sequence[Table], draft: Path, folder: str, console: Console) -> list[Written]:
    total, done, written = sum(table.n_rows for table in some), 0, []
    with console.stage(folder.rstrip("/") or "documents") as report:
        for table in some:
            path, n_rows = draft / folder / f"{table.name}.parquet", 0
            with pq.ParquetWriter(path, table.schema, compression="zstd") as file:
                for block in table.blocks:
                    arrays = [pa.array(block[column.name], column.type) for column in table.columns]
                    file.write_table(pa.table(arrays, schema=table.schema))
                    n_rows += len(arrays[0])
                    report(done + n_rows, total, table.name)
            done += n_rows
            written.append(Written(table, f"{folder}{path.name}", n_rows, path.stat().st_size))
    return written


def _record(explorer: Explorer, saes: list[str], written: Sequence[Written], draft: Path) -> dict[str, Any]:
    manifest = explorer.manifest
    files = sorted(path for path in draft.rglob("*") if path.is_file())
    return {
        "format": FORMAT,
        "collection": explorer.name,
        "title": explorer.title,
        "generation": explorer.generation,
        "built": manifest["built"],
        "made": datetime.now(UTC).isoformat(),
        "embedder": manifest["embedder"],
        "corpus": manifest["corpus"],
        "saes": saes,
        "tables": {
            each.path: {
                "rows": each.n_rows,
                "columns": {column.name: column.kind for column in each.table.columns},
            }
            for each in written
        },
        "files": {
            path.relative_to(draft).as_posix(): {"size": path.stat().st_size, "sha256": sha256_of(path)}
            for path in files
        },
        "versions": {"saefari": version("saefari"), "python": platform.python_version()},
    }
