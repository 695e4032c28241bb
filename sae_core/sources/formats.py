"""From the metadata of a harvested record to the fields of a document: formats `arXiv` and `oai_dc`.

A reader returns a row for `sae_core.corpus.read_document`, which cleans it. Which reader is taken is decided
by the element that came, not by the prefix that was asked for.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sae_core.corpus import clean_line, find_doi, parse_year

if TYPE_CHECKING:
    from collections.abc import Iterable
    from xml.etree.ElementTree import Element

ARXIV = "{http://arxiv.org/OAI/arXiv/}"
DUBLIN_CORE = "{http://purl.org/dc/elements/1.1/}"
_LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"
_ENGLISH = re.compile(r"en(g|glish)?([-_].*)?", re.IGNORECASE)


def read_row(identifier: str, metadata: Element) -> dict[str, Any] | None:
    """The fields of a document; None for a format that is not read. `identifier` is that of the header."""
    if metadata.tag == f"{ARXIV}arXiv":
        return _arxiv(identifier, metadata)
    if metadata.tag.endswith("}dc"):
        return _dublin_core(identifier, metadata)
    return None


# --- arXiv -------------------------------------------------------------------------------------

PHYSICS = frozenset(
    """astro-ph cond-mat gr-qc hep-ex hep-lat hep-ph hep-th math-ph nlin nucl-ex nucl-th quant-ph
    """.split()  # noqa: SIM905  a list of words reads better as words
)
_OAI_OF_ARXIV = re.compile(r"^oai:arxiv\.org:", re.IGNORECASE)
_ARXIV_ID = re.compile(
    r"(?:[a-z-]+(?:\.[A-Z]{2})?/(\d\d)(?:0[1-9]|1[0-2])\d{3}|(\d\d)(?:0[1-9]|1[0-2])\.\d{4,5})"
)
_FIRST_YEAR_OF_ARXIV = 91


def set_spec(name: str) -> str:
    """The name of a set in arXiv's interface, from that of an archive or a category.

    >>> set_spec("astro-ph"), set_spec("astro-ph.CO"), set_spec("cs.LG"), set_spec("math:math:AG")
    ('physics:astro-ph', 'physics:astro-ph:CO', 'cs:cs:LG', 'math:math:AG')
    """
    if ":" in name:
        return name
    archive, _, category = name.partition(".")
    group = "physics" if archive in PHYSICS else archive
    if category:
        return f"{group}:{archive}:{category}"
    return archive if group == archive else f"{group}:{archive}"


def _arxiv(identifier: str, metadata: Element) -> dict[str, Any]:
    def text(name: str) -> str:
        return _whole(metadata.find(f"{ARXIV}{name}"))

    name = text("id").strip() or document_id(identifier)
    known = _ARXIV_ID.fullmatch(name)
    return {
        "id": name,
        "title": text("title"),
        "abstract": text("abstract"),
        "year": _first_submitted(known) if known else _earliest([text("created")]),
        "venue": _journal(text("journal-ref")),
        "authors": [_person(author) for author in metadata.iterfind(f"{ARXIV}authors/{ARXIV}author")],
        "categories": re.split(r"[\s;,]+", text("categories")),
        "url": f"https://arxiv.org/abs/{name}" if known else "",
        "doi": text("doi"),
    }


def _first_submitted(known: re.Match[str]) -> int:
    """The year in an arXiv identifier. `created` is no use: it is often the date of the last version."""
    year = int(known.group(1) or known.group(2))
    return year + (1900 if year >= _FIRST_YEAR_OF_ARXIV else 2000)


def _person(author: Element) -> str:
    parts = (_whole(author.find(f"{ARXIV}{part}")) for part in ("forenames", "keyname", "suffix"))
    return " ".join(part.strip() for part in parts if part.strip())


# --- Dublin Core -------------------------------------------------------------------------------


def _dublin_core(identifier: str, metadata: Element) -> dict[str, Any]:
    def all_of(name: str) -> list[Element]:
        return metadata.findall(f"{DUBLIN_CORE}{name}")

    def texts(name: str) -> list[str]:
        return [text for text in map(_whole, all_of(name)) if text.strip()]

    identifiers = [text.strip() for text in texts("identifier")]
    doi = next(filter(None, map(find_doi, identifiers)), "")
    addresses = (text for text in identifiers if text.lower().startswith(("http://", "https://")))
    journals = filter(None, map(_journal, texts("source")))
    return {
        "id": document_id(identifier),
        "title": next(iter(_preferred(all_of("title"))), ""),
        "abstract": max(_preferred(all_of("description")), key=len, default=""),
        "year": _earliest(texts("date")),
        "venue": next(journals, next(iter(texts("publisher")), "")),
        "authors": texts("creator"),
        "categories": texts("subject"),
        "url": next(addresses, f"https://doi.org/{doi}" if doi else ""),
        "doi": doi,
    }


def _preferred(elements: list[Element]) -> list[str]:
    """Texts of elements: those marked as English if there are any, since encoders know English best."""
    english = [element for element in elements if _ENGLISH.fullmatch(element.get(_LANGUAGE, ""))]
    return [text for text in map(_whole, english or elements) if text.strip()]


# --- both --------------------------------------------------------------------------------------


def document_id(identifier: str) -> str:
    """The id of a record's document: arXiv's own, elsewhere the whole identifier."""
    return _OAI_OF_ARXIV.sub("", identifier)


def _whole(element: Element | None) -> str:
    return "" if element is None else "".join(element.itertext())


def _earliest(dates: Iterable[str]) -> int | None:
    """The first year that can be one: later dates are those of versions and of uploads."""
    last = datetime.now(UTC).year + 1
    years = (parse_year(date) for date in dates)
    return min((year for year in years if year is not None and year <= last), default=None)


def _journal(reference: str) -> str:
    """The name of the journal in a reference: what stands before the volume.

    >>> _journal("Phys.Rev.Lett. 99:131803,2007"), _journal("2009 MNRAS 399, 1"), _journal("1234-5678")
    ('Phys.Rev.Lett.', 'MNRAS', '')
    """
    line = clean_line(reference[:1000]).partition(";")[0]
    line = re.sub(r"^\W*(?:\d{4}\b)?\W*", "", line)
    name = re.split(r"[\d(:\[]|\bvol(?:ume)?\b", line, maxsplit=1, flags=re.IGNORECASE)[0].strip(" ,-–")
    if name.lower().startswith("http"):
        return ""
    if re.search(r"\b(?:the|of|on|for|and|in)$", name):  # "Proceedings of the 25th ...": a name with a number
        return line
    return name
