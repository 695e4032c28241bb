"""What a list is before it is a file: named columns, and rows that are read while they are sent.

A route makes a `Table` or, where rows are documents, `Documents`; the formats of `app/formats/registry.py`
write either. Names of columns are part of the interface for programs: within a version of a kind columns are
only added, at the end. docs/api.md shows them all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Literal, TypeVar

from app import urls
from sae_core.corpus import Document

MAX_ROWS = 10_000  # of a file; the next one begins where it ends
BATCH = 500  # rows that are made at once

Type = Literal["text", "integer", "number", "boolean", "texts"]
Value = str | int | float | bool | Sequence[str] | None
Row = tuple[Value, ...]
T = TypeVar("T")


@dataclass(frozen=True)
class Column:
    name: str
    type: Type
    meaning: str


def text(name: str, meaning: str) -> Column:
    return Column(name, "text", meaning)


def integer(name: str, meaning: str) -> Column:
    return Column(name, "integer", meaning)


def number(name: str, meaning: str) -> Column:
    return Column(name, "number", meaning)


def boolean(name: str, meaning: str) -> Column:
    return Column(name, "boolean", meaning)


def texts(name: str, meaning: str) -> Column:
    """Several texts in a cell: a list in Parquet, joined by "; " in CSV."""
    return Column(name, "texts", meaning)


@dataclass(frozen=True)
class Kind:
    """A kind of list: what its rows are, and their columns. Documents have `DOCUMENT_COLUMNS` after these."""

    name: str
    meaning: str  # what a row is, and in which order
    own: tuple[Column, ...]
    of_documents: bool = False
    cap: int = 0  # rows of a file, after which the next one begins; 0: it is whole
    version: int = 1

    @property
    def columns(self) -> tuple[Column, ...]:
        return self.own + DOCUMENT_COLUMNS if self.of_documents else self.own


DOCUMENT_COLUMNS = (
    text("id", "the document's id in its collection"),
    text("title", "its title, or its id where it has none"),
    text("authors", "as the source joins them, usually by semicolons"),
    integer("year", "of publication; empty where unknown"),
    text("venue", "journal, conference or other container"),
    text("categories", "as the source names them, joined by a space or a semicolon"),
    text("doi", "without https://doi.org/"),
    integer("citations", "as the source counts them; empty where unknown"),
    text("source_url", "where the document itself is"),
    text("page", "the path of the document's page here"),
    text("abstract", "its abstract, whole"),
)


@dataclass(frozen=True)
class DocumentRow:
    """A document of a list, with the values of the list's own columns."""

    document: Document
    page: str  # path of our page
    own: Row = ()

    def values(self) -> Row:
        it = self.document
        title = it.title or it.id
        named = (it.id, title, it.authors, it.year, it.venue, it.categories, it.doi, it.citations, it.url)
        return (*self.own, *named, self.page, it.abstract)


@dataclass(frozen=True)
class _List:
    kind: Kind
    title: str  # for people: what is listed
    url: str  # canonical address of the page that this is a twin of
    _: KW_ONLY
    collection: str  # its name; "" where the list is of collections
    built: str  # ISO time at which the collection was built: nothing in the list is newer
    next_url: str | None = None  # the page at which the next file begins
    origin: str = ""  # what makes addresses absolute, without a slash at its end
    chosen: str = ""  # its name among the lists of the page, where an address has to say it

    def file(self, url: str, suffix: str) -> str:
        """The absolute address of the file that this list has at a page."""
        return self.origin + urls.twin(url, suffix, [("list", self.chosen)] if self.chosen else [])


@dataclass(frozen=True)
class Table(_List):
    """Rows of any kind. `batches` may be read once."""

    batches: Iterator[Sequence[Row]]

    def rows(self) -> Iterator[Sequence[Row]]:
        return self.batches


@dataclass(frozen=True)
class Documents(_List):
    """Documents, some hundred at a time. `batches` may be read once."""

    batches: Iterator[Sequence[DocumentRow]]

    def rows(self) -> Iterator[Sequence[Row]]:
        return ([row.values() for row in batch] for batch in self.batches)


def next_page(url: Callable[..., str], page: int, size: int, kind: Kind, total: int) -> str | None:
    """The page at which the next file begins, if this one begins with `page` and the list goes on after it.

    `size` is the number of rows on a page and divides the cap; `url(page=n)` is the address of a page.
    """
    cap = kind.cap
    return url(page=page + cap // size) if (page - 1) * size + cap < total else None


def batched(rows: Sequence[T]) -> Iterator[Sequence[T]]:
    """The same rows, some hundred at a time."""
    return (rows[first : first + BATCH] for first in range(0, len(rows), BATCH))
