"""Which column of a file each field is read from: those that are named by hand, then those of usual names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from sae_core.corpus.text import shorten
from sae_core.errors import CorpusError

# Usual names of each field, the most telling first, compared without case and punctuation.
USUAL_NAMES: dict[str, tuple[str, ...]] = {
    "id": ("id", "paperid", "arxivid", "documentid", "docid", "articleid", "corpusid", "pmid", "doi",
           "identifier", "uid", "uuid", "key"),
    "title": ("title", "papertitle", "articletitle", "name", "headline", "heading"),
    "abstract": ("abstract", "text", "summary", "body", "description", "content", "abstracttext", "fulltext"),
    "year": ("year", "publicationyear", "pubyear", "date", "published", "publicationdate", "pubdate",
             "publishedat", "publisheddate", "createdat", "created", "updated"),
    "venue": ("venue", "journal", "journalname", "journaltitle", "journalref", "booktitle", "conference",
              "containertitle", "series", "publisher", "source"),
    "authors": ("authors", "author", "authornames", "authorlist", "creators", "creator"),
    "categories": ("categories", "category", "fieldsofstudy", "subjects", "keywords", "tags"),
    "url": ("url", "link", "href", "uri", "paperurl", "webpage"),
    "citations": ("citations", "citationcount", "ncitations", "numcitations", "citedbycount", "citedby",
                  "timescited"),
    "doi": ("doi",),
}  # fmt: skip


def read_mapping(entries: Sequence[str]) -> dict[str, str]:
    """Column by field, of what people write: title=Name. "text" is another word for abstract.

    Raises CorpusError for an entry of another form, and for a field or a column that is named twice.
    """
    pairs = [tuple(part.strip() for part in entry.partition("=")) for entry in entries]
    for entry, (key, _, column) in zip(entries, pairs, strict=True):
        if not (key and column):
            what = f"--map {entry} is not of the form field=Column."
            raise CorpusError(what, remedy="Write --map title=Name.")
    return _each_once((key, column) for key, _, column in pairs)


def _each_once(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    mapping: dict[str, str] = {}
    for key, column in (("abstract" if key == "text" else key, column) for key, column in pairs):
        if key in mapping:
            what = f"Two columns are named for {key}: {mapping[key]!r} and {column!r}."
            raise CorpusError(what, remedy="Leave out one: a field is read from one column.")
        # An id says nothing of its own: it may be a DOI, or an address.
        others = [other for other, named in mapping.items() if named == column and "id" not in (key, other)]
        if others:
            what = f"The column {column!r} is named for two fields: {others[0]} and {key}."
            remedy = "Leave out one of them."
            if "title" in (key, *others):
                remedy += " A document without a title gets one from its text."
            raise CorpusError(what, remedy=remedy)
        mapping[key] = column
    return mapping


def choose_columns(columns: Sequence[str], mapping: Mapping[str, str], name: str) -> dict[str, str]:
    """Which column each field is read from: those of `mapping`, then the usual names."""
    wanted = _each_once(mapping.items())
    seen = shorten(", ".join(column[:40] for column in columns), 1_000)
    for key, column in wanted.items():
        if key not in USUAL_NAMES:
            raise CorpusError(
                f"There is no field {key!r} that a column could be mapped to.",
                remedy=f"Fields: {', '.join(USUAL_NAMES)}.",
            )
        if column not in columns:
            raise CorpusError(
                f"{name} has no column {column!r} for {key}. Its columns: {seen}.",
                remedy=f"Name one of them: --map {key}=NAME.",
            )
    plain = {re.sub(r"[\W_]", "", column.casefold()): column for column in reversed(columns)}
    chosen = dict(wanted)
    for key, names in USUAL_NAMES.items():
        free = (plain[n] for n in names if n in plain and plain[n] not in wanted.values())
        column = chosen.get(key) or next(free, "")
        if column:
            chosen[key] = column
    for column in chosen.values():
        if columns.count(column) > 1:
            raise CorpusError(f"{name} has two columns called {column!r}.", remedy="Rename one.")
    if "abstract" not in chosen:
        raise CorpusError(
            f"{name} has no column of texts (abstract, text, summary, body ...). Its columns: {seen}.",
            remedy="Name the right one: --map abstract=NAME.",
        )
    return chosen
