"""`saefari export`: a collection whole, for programs or for people without a server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.common import fail, settings_of
from app.cli.options import EmbedBaseURL, Home, NameOfCollection, Quiet
from app.console import Console
from sae_core.errors import SaefariError

if TYPE_CHECKING:
    from app.exporting.plan import Choice
    from app.exporting.site import Foretold
    from app.settings import Settings
    from sae_core.explorer import Explorer

ALL = "all"
NOTHING_WRITTEN = "Stopped. Nothing was written."


def export(  # noqa: PLR0917 (one argument for each option)
    collection: NameOfCollection,
    dump: Annotated[
        Path | None, typer.Option("--dump", help="Folder for everything as parquet, with a data card.")
    ] = None,
    site: Annotated[
        Path | None, typer.Option("--site", help="Folder for pages that open without a server.")
    ] = None,
    saes: Annotated[
        list[str] | None,
        typer.Option("--sae", help="Which SAE; repeatable. Default: all in a dump, the first in a site."),
    ] = None,
    vectors: Annotated[bool, typer.Option("--vectors", help="The embeddings too, in the dump.")] = False,  # noqa: FBT002
    documents: Annotated[
        str, typer.Option("--documents", metavar="N|all", help="Pages of so many documents, in the site.")
    ] = "1000",
    evidence: Annotated[  # noqa: FBT002
        bool, typer.Option("--evidence", help="All kinds of evidence of each feature, in the site.")
    ] = False,
    searches: Annotated[
        list[str] | None,
        typer.Option("--search", help="A search for the site, by its address or in words; repeatable."),
    ] = None,
    searches_file: Annotated[
        Path | None, typer.Option("--searches", help="A file of them, one a line; # begins a remark.")
    ] = None,
    examples: Annotated[bool, typer.Option(help="The overview's example searches, in the site.")] = True,  # noqa: FBT002
    max_pages: Annotated[
        int, typer.Option("--max-pages", min=1, help="Refuse to make a larger site.")
    ] = 100_000,
    overwrite: Annotated[  # noqa: FBT002
        bool, typer.Option("--overwrite", help="Replace what an export has written there before.")
    ] = False,
    embed_base_url: EmbedBaseURL = None,
    home: Home = None,
    quiet: Quiet = False,  # noqa: FBT002
) -> None:
    """Write a collection as a dump (parquet), as a site without a server, or both. All of it, or nothing."""
    from app.exporting.plan import Choice
    from sae_core.explorer import Explorer

    settings = settings_of(home, embed_base_url=embed_base_url)
    _check_folders(dump, site, overwrite=overwrite)
    wanted = (*(searches or ()), *_lines(searches_file))
    choice = Choice(tuple(saes or ()), _number(documents), evidence, wanted, examples)
    explorer = Explorer.load(settings.collections / collection)
    console = Console(quiet=quiet)
    try:
        if dump is not None:
            _dump(explorer, dump, choice.saes, console, with_vectors=vectors)
        if site is not None:
            _site(explorer, settings, site, choice, console, most=max_pages)
    except KeyboardInterrupt:
        fail(NOTHING_WRITTEN, 130)


def _dump(
    explorer: Explorer, out: Path, saes: tuple[str, ...], console: Console, *, with_vectors: bool
) -> None:
    from app.exporting.dump import make_dump

    record = make_dump(explorer, out, console, saes=saes, with_vectors=with_vectors)
    size = sum(file["size"] for file in record["files"].values())
    rows = sum(table["rows"] for table in record["tables"].values())
    typer.echo(f"{len(record['tables'])} tables, {rows:,} rows, {size / 2**20:,.1f} MiB: {out}")
    typer.echo(f"What they are, and how to load them: {out / 'README.md'}")


def _site(
    explorer: Explorer, settings: Settings, out: Path, choice: Choice, console: Console, *, most: int
) -> None:
    from app.exporting.site import make_site

    record = make_site(explorer, settings, out, choice, console, _tell, most=most)
    typer.echo(f"{record['n_pages']:,} pages, {record['bytes'] / 2**20:,.1f} MiB: {out / 'index.html'}")


def _tell(foretold: Foretold) -> None:
    kinds = ", ".join(f"{n:,} {kind}" for kind, n in foretold.pages.items())
    minutes = foretold.seconds / 60
    spoken = f"{minutes:,.0f} min" if minutes >= 2 else f"{foretold.seconds:,.0f} s"  # noqa: PLR2004
    typer.echo(
        f"{foretold.n_pages:,} pages ({kinds}): about {foretold.size / 2**20:,.0f} MiB and {spoken}; "
        f"{foretold.free / 2**20:,.0f} MiB are free"
    )


def _number(text: str) -> int | None:
    if text == ALL:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 12:  # noqa: PLR2004
        raise SaefariError(f"--documents {text} is no number.", remedy=f"Write 1000, 0 or {ALL}.")
    return int(text)


def _lines(file: Path | None) -> list[str]:
    """The lines of a file, without remarks and empty ones."""
    if file is None:
        return []
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise SaefariError(f"{file} is not text in UTF-8.", remedy="Write one search a line.") from error
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]


def _check_folders(dump: Path | None, site: Path | None, *, overwrite: bool) -> None:
    """Raise SaefariError unless everything may be written where it is to be."""
    from app.exporting.dump import FORMAT as DUMP
    from app.exporting.dump import RECORD as DUMP_RECORD
    from app.exporting.site import FORMAT as SITE
    from app.exporting.site import RECORD as SITE_RECORD

    if dump is None and site is None:
        raise SaefariError(
            "Nothing to export.", remedy="Give a folder with --dump, --site, or one with each."
        )
    if dump is not None and site is not None:
        a, b = dump.resolve(), site.resolve()
        if a == b or a in b.parents or b in a.parents:
            raise SaefariError(
                f"{dump} and {site} lie in each other.", remedy="Choose two folders side by side."
            )
    if dump is not None:
        _check_folder(dump, DUMP_RECORD, DUMP, overwrite=overwrite)
    if site is not None:
        _check_folder(site, SITE_RECORD, SITE, overwrite=overwrite)


def _check_folder(out: Path, record: str, made_by: str, *, overwrite: bool) -> None:
    """Nothing is replaced but what a command like this has written."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    try:
        said = json.loads((out / record).read_text(encoding="utf-8"))
        is_ours = said["format"].rpartition("-")[0] == made_by.rpartition("-")[0]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        is_ours = False
    if not is_ours:
        what = f"{out} is there already, and this command has not written it."
        raise SaefariError(what, remedy="Choose another folder.")
    if not overwrite:
        raise SaefariError(
            f"{out} is there already.", remedy="Replace it with --overwrite, or choose another."
        )
