"""The formats of lists: one line each.

A format's name is the suffix of its addresses and is in `app.urls.SUFFIXES` too, so that ids of documents
that end like it are told apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from app.formats.citations import bibtex_pieces, ris_pieces
from app.formats.feed import atom_pieces
from app.formats.tables import csv_pieces, parquet_pieces


@dataclass(frozen=True)
class Format:
    """A way to write a list. `write` takes a `Table` or `Documents`, or where `only_documents` the latter."""

    name: str
    text: str  # as links say
    media: tuple[str, ...]  # the first is sent, all are understood in Accept
    write: Callable[[Any], Iterator[bytes]]
    only_documents: bool = False
    is_inline: bool = False  # shown by a browser or a reader, not saved


FORMATS = {
    each.name: each
    for each in (
        Format("csv", "CSV", ("text/csv; charset=utf-8",), csv_pieces),
        Format(
            "parquet",
            "Parquet",
            ("application/vnd.apache.parquet", "application/x-parquet"),
            parquet_pieces,
        ),
        Format("bib", "BibTeX", ("application/x-bibtex; charset=utf-8",), bibtex_pieces, only_documents=True),
        Format(
            "ris",
            "RIS",
            ("application/x-research-info-systems; charset=utf-8",),
            ris_pieces,
            only_documents=True,
        ),
        Format(
            "atom",
            "Atom feed",
            ("application/atom+xml; charset=utf-8",),
            atom_pieces,
            only_documents=True,
            is_inline=True,
        ),
    )
}
