"""`saefari add` and `saefari remove`: other documents for what is built."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.building import load_texts, print_embedding
from app.cli.common import settings_of
from app.cli.options import (
    Backend,
    Device,
    EmbedBaseURL,
    EmbedConcurrency,
    Embeddings,
    EmbeddingsColumn,
    EmbedTimeout,
    Home,
    Limit,
    Map,
    Normalise,
    Price,
    Quiet,
)
from app.console import Console
from sae_core.errors import CorpusError, SaefariError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sae_core.update import Addition, Change

TABLES = (".parquet", ".pq", ".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".gz")
MOST_NAMED = 3


def add(  # noqa: PLR0917 (one argument for each option)
    file: Annotated[str, typer.Argument(help="Parquet, CSV or JSONL (also .gz); - reads JSONL from stdin.")],
    collection: Annotated[str, typer.Option("--to", help="Name of the collection.")],
    home: Home = None,
    mapping: Map = None,
    limit: Limit = None,
    embeddings: Embeddings = None,
    column: EmbeddingsColumn = "",
    normalise: Normalise = False,  # noqa: FBT002
    embed_base_url: EmbedBaseURL = None,
    concurrency: EmbedConcurrency = 4,
    timeout: EmbedTimeout = 120.0,
    price: Price = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would come in.")] = False,  # noqa: FBT002
    backend: Backend = "auto",
    device: Device = "auto",
    quiet: Quiet = False,  # noqa: FBT002
) -> None:
    """Add documents to a collection, with the SAEs that it has. Nothing is trained; links stay as they are.

    An id that is there already with the same text is left alone, one with another text gets the new text.
    """
    from app.catalog import write_catalogue
    from sae_core.explorer import Explorer
    from sae_core.rows import Reading
    from sae_core.update import Update

    settings = settings_of(home, embed_base_url=embed_base_url)
    corpus = load_texts(file, settings, mapping, limit)
    explorer = Explorer.load(settings.collections / collection)
    endpoint = settings.encoder_endpoint(concurrency=concurrency, timeout=timeout)
    update = Update(
        explorer, settings.home, Console(quiet=quiet), endpoint=endpoint, backend=backend, device=device
    )
    with closing(update):
        addition = update.compare(corpus)
        _print_addition(addition)
        spec = explorer.embedder_spec
        if spec and len(addition.chosen):
            print_embedding(
                addition.incoming, settings, spec, price, n_phrases=0, has_file=embeddings is not None
            )
        if dry_run:
            return
        change = update.add(
            addition,
            write_catalogue,
            embeddings=embeddings,
            reading=Reading(column, None, normalise),
            is_limited=len(corpus.documents) == limit,
        )
    _print_change(change, collection)


def remove(
    collection: Annotated[str, typer.Option("--from", help="Name of the collection.")],
    ids: Annotated[list[str] | None, typer.Argument(help="Ids of documents, as in their addresses.")] = None,
    file: Annotated[
        str, typer.Option("--file", help="Ids in a file: a line each, or a table's column id; -: stdin.")
    ] = "",
    home: Home = None,
    quiet: Quiet = False,  # noqa: FBT002
) -> None:
    """Remove documents from a collection. Nothing is trained; links to what is left stay as they are."""
    from app.catalog import write_catalogue
    from sae_core.corpus import clean_id
    from sae_core.explorer import Explorer
    from sae_core.update import Update

    settings = settings_of(home)
    asked = [clean_id(each) for each in [*(ids or []), *(_ids_in(file) if file else [])]]
    if not asked:
        raise SaefariError("No document is named.", remedy="Give ids, or --file with one id a line.")
    explorer = Explorer.load(settings.collections / collection)
    with closing(Update(explorer, settings.home, Console(quiet=quiet))) as update:
        absent = update.absent(asked)
        change = update.remove(asked, write_catalogue)
    if absent:
        named = ", ".join(absent[:MOST_NAMED]) + (" and others" if len(absent) > MOST_NAMED else "")
        typer.echo(f"{len(absent):,} ids are of no document in {collection}: {named}")
    _print_change(change, collection)


def _ids_in(file: str) -> Iterator[str]:
    """The ids in a table, or the lines of a text."""
    from sae_core.corpus import USUAL_NAMES, read_rows

    if file != "-" and Path(file).suffix.lower() in TABLES:
        for row in read_rows(Path(file), {"id": USUAL_NAMES["id"]}):
            yield str(row["id"])
        return
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise CorpusError(f"{file} is no text in UTF-8.", remedy="Write one id a line.") from error
    yield from filter(None, map(str.strip, text.splitlines()))


def _print_addition(addition: Addition) -> None:
    counts = addition.counts()
    typer.echo(
        f"{addition.n_new:,} new documents, {addition.n_replaced:,} with another text than before, "
        f"{len(addition.same):,} that are there already, {sum(counts.values()):,} rows rejected"
    )
    for reason, n_rows in (counts | addition.corpus.repaired).items():
        typer.echo(f"  {n_rows:,} {reason}")


def _print_change(change: Change, collection: str) -> None:
    from sae_core.report import DRIFTS, drift_words

    if not change.made:
        typer.echo(f"Nothing changes: {collection} has {change.n_documents:,} documents, as before")
        return
    typer.echo(f"{collection} has {change.n_documents:,} documents now, {change.n_before:,} before")
    for sae, n_first in change.n_first.items():
        if n_first:
            typer.echo(f"{sae}: {n_first:,} features fire for the first time")
        drifts = change.drifts(sae)
        for which, drift in drifts.items():
            typer.echo(f"{sae}, documents {DRIFTS[which]}: {drift_words(drift)}")
        if any(drift.is_large for drift in drifts.values()):
            typer.echo("  That is much: train anew, with `saefari build` on a file of all documents")
    stages = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in change.seconds.items())
    typer.echo(f"{sum(change.seconds.values()):.0f} s: {stages}")
    typer.echo("Published. A running server shows it some seconds later.")
