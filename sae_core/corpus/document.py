"""One document, and how it is made of a row: cleaned, with a title and an id whatever the row has."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sae_core.corpus.text import MAX_ABSTRACT, READ, clean_line, clean_text, has_bad_bytes, shorten
from sae_core.corpus.values import (
    MAX_FIELD,
    clean_id,
    find_doi,
    find_url,
    parse_count,
    parse_year,
    plain,
    read_authors,
    read_categories,
)

MAX_TITLE = 500
_TITLE_WORDS, _TITLE_LENGTH = 12, 100  # of a title that is made from the text
_NO_TEXT = frozenset(("", "-", "n/a", "na", "nan", "none", "null"))


@dataclass(frozen=True, slots=True)
class Document:
    """One text of the corpus, cleaned. Unknown values are "" or None, never a guess."""

    id: str
    title: str
    abstract: str
    year: int | None = None
    venue: str = ""
    authors: str = ""  # joined by "; "
    categories: str = ""  # joined by " "
    url: str = ""  # http or https, or ""
    citations: int | None = None
    doi: str = ""  # as 10.1000/182, or ""

    @property
    def text(self) -> str:
        """What is embedded: title, blank line, abstract."""
        return f"{self.title}\n\n{self.abstract}"


def read_document(row: Mapping[str, Any]) -> tuple[Document, list[str]] | None:
    """The document of a row, cleaned, and what had to be repaired in it; None if the row has no text.

    Keys are the fields of `Document`; authors and categories may be lists, any value may be missing.
    """
    title, abstract = plain(row.get("title")), plain(row.get("abstract"))
    repairs = ["invalid UTF-8 replaced"] if has_bad_bytes(title) or has_bad_bytes(abstract) else []
    raw_length = len(abstract)
    title, abstract = clean_line(title), clean_text(abstract)
    if abstract.casefold() in _NO_TEXT:
        return None
    if len(abstract) > MAX_ABSTRACT or raw_length > READ:
        abstract = shorten(abstract, MAX_ABSTRACT)
        repairs.append(f"text shortened to {MAX_ABSTRACT:,} characters")
    title = shorten(title, MAX_TITLE) or derive_title(abstract)
    document = Document(
        id=clean_id(plain(row.get("id"))) or content_id(title, abstract),
        title=title,
        abstract=abstract,
        year=parse_year(row.get("year")),
        venue=shorten(clean_line(plain(row.get("venue"))), MAX_TITLE),
        authors=shorten(read_authors(row.get("authors")), MAX_FIELD),
        categories=shorten(read_categories(row.get("categories")), MAX_FIELD),
        url=find_url(row.get("url")),
        citations=parse_count(row.get("citations")),
        doi=find_doi(row.get("doi")),
    )
    return document, repairs


def derive_title(abstract: str) -> str:
    """A title for a text that has none: its first sentence, or its first dozen words and an ellipsis."""
    whole = " ".join(abstract[: 2 * MAX_TITLE].split())
    start = " ".join(whole.split(" ", _TITLE_WORDS)[:_TITLE_WORDS])
    sentence = re.match(r".{20,99}?[.!?](?=\s+[A-Z]|$)", start)
    if sentence and (told := sentence.group().rstrip(".")):
        return told
    short = start[:_TITLE_LENGTH]
    return whole if short == whole else short.rstrip(" ,;:") + "…"


def has_derived_title(document: Document) -> bool:
    """Whether the title says nothing but how the text begins."""
    may_be = document.title[:1] in (document.abstract[:1], "…")  # quick, and decides nearly always
    return may_be and document.title == derive_title(document.abstract)


def normalise_title(title: str) -> str:
    """What two titles have in common if they name the same paper: letters and digits without case.

    A title without white space is an identifier (`torch.Tensor`, `torch.tensor`) and stays as it is.
    """
    if " " not in title:
        return title
    folded = unicodedata.normalize("NFKC", title).casefold()
    return " ".join(re.findall(r"[^\W_]+", folded)) or title


def content_id(title: str, abstract: str) -> str:
    """A stable id for a document that has none."""
    return "doc-" + hashlib.sha256(f"{title}\n\n{abstract}".encode()).hexdigest()[:16]
