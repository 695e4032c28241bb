"""Pages of OAI-PMH 2.0: what a repository answers to ListRecords, read without trusting it.

The reader is expat itself. It refuses every document type declaration, so no entity exists that could expand
or lead to a file, and it bounds depth and number of elements. What repositories often get wrong (bytes of
another encoding, control characters, HTML's named entities, bare ampersands) is repaired once, and said.
"""

from __future__ import annotations

import html
import re
import sys
from dataclasses import dataclass, replace
from typing import Any, NoReturn
from xml.etree.ElementTree import Element, TreeBuilder  # builds; nothing is parsed by it
from xml.parsers import expat

from sae_core.corpus import clean_line
from sae_core.sources.formats import read_row

NAMESPACE = "{http://www.openarchives.org/OAI/2.0/}"
MAX_DEPTH = 64
MAX_ELEMENTS = 200_000  # of one record; a paper of a large collaboration has 10,000
MAX_IDENTIFIER, MAX_SAID = 2_000, 200  # characters


@dataclass(frozen=True)
class Record:
    """One record: the fields of a document in `row`, or none where it is deleted or has no metadata."""

    identifier: str  # "" where the repository gives none
    datestamp: str  # as it came
    is_deleted: bool
    row: dict[str, Any]


@dataclass(frozen=True)
class Page:
    """One answer: records and the token of the next page, or errors."""

    records: list[Record]
    token: str  # "" where the list ends
    size: int | None  # records of the whole list, if the repository says it
    errors: list[tuple[str, str]]  # code, message
    unread: str = ""  # the format of records that cannot be read
    is_repaired: bool = False


class UnreadablePage(Exception):
    """An answer that is no page of OAI-PMH; its text says what it is instead."""


def read_page(content: bytes, charset: str = "") -> Page:
    """What an answer says; `charset` as its HTTP header has it, which helps where the XML is wrong.

    Raises UnreadablePage.
    """
    try:
        return _Reader().read(content)
    except (
        expat.ExpatError,
        LookupError,
        ValueError,
    ) as error:  # the latter two: an encoding unknown to expat
        first = error
    try:
        return replace(_Reader().read(_repair(content, charset)), is_repaired=True)
    except expat.ExpatError as error:
        if re.match(rb"\s*<(!doctype\s+)?html\b", content[:1000], re.IGNORECASE):
            raise UnreadablePage("an HTML page instead of XML") from error
        is_cut = error.code in _CUT
        raise UnreadablePage(
            "XML that ends too early" if is_cut else f"no well-formed XML ({first})"
        ) from error


_CUT = frozenset(
    expat.errors.codes[message]
    for message in (
        expat.errors.XML_ERROR_NO_ELEMENTS,
        expat.errors.XML_ERROR_UNCLOSED_TOKEN,
        expat.errors.XML_ERROR_UNCLOSED_CDATA_SECTION,
        expat.errors.XML_ERROR_PARTIAL_CHAR,
    )
)


class _Reader:
    """Builds the tree of a page, and turns each record into a `Record` as soon as it ends."""

    def __init__(self) -> None:
        self._builder = TreeBuilder()
        self._open: list[Element] = []
        self._n_elements = 0
        self._records: list[Record] = []
        self._unread = ""

    def read(self, content: bytes) -> Page:
        """The page; ExpatError for what is no XML, UnreadablePage for what is no OAI-PMH."""
        parser = expat.ParserCreate(namespace_separator="}")
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = _refuse_doctype
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._builder.data
        parser.Parse(content, True)  # noqa: FBT003  whole: expat takes its arguments by position
        root = self._builder.close()
        errors = [
            (error.get("code", ""), _text(error)[:MAX_SAID]) for error in root.iterfind(f"{NAMESPACE}error")
        ]
        listed = root.find(f"{NAMESPACE}ListRecords")
        if listed is None and not errors:
            raise UnreadablePage("neither records nor an error")
        token = None if listed is None else listed.find(f"{NAMESPACE}resumptionToken")
        size = "" if token is None else token.get("completeListSize", "")
        return Page(
            records=self._records,
            token="" if token is None else "".join(token.itertext()).strip(),
            size=int(size) if re.fullmatch(r"[0-9]{1,12}", size) else None,
            errors=errors,
            unread=self._unread,
        )

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        tag = _tag(name)
        if not self._open:
            _check_root(tag)
        self._n_elements += 1
        if len(self._open) >= MAX_DEPTH or self._n_elements > MAX_ELEMENTS:
            raise UnreadablePage(f"elements more than {MAX_DEPTH} deep, or a record of over {MAX_ELEMENTS:,}")
        named = {_tag(key): value for key, value in attributes.items()}
        self._open.append(self._builder.start(tag, named))

    def _end(self, name: str) -> None:
        self._builder.end(_tag(name))
        element = self._open.pop()
        if element.tag == f"{NAMESPACE}record":
            self._take(element)
            del self._open[-1][:]  # what has been read need not be kept
            self._n_elements = 0

    def _take(self, element: Element) -> None:
        header = element.find(f"{NAMESPACE}header")
        if header is None:
            header = Element("header")
        identifier = _text(header.find(f"{NAMESPACE}identifier"))[:MAX_IDENTIFIER]
        is_deleted = header.get("status") == "deleted"
        metadata = element.find(f"{NAMESPACE}metadata")
        row = {}
        if not is_deleted and metadata is not None and len(metadata):
            found = read_row(identifier, metadata[0])
            row = found or {}
            self._unread = self._unread or ("" if found is not None else metadata[0].tag)
        datestamp = _text(header.find(f"{NAMESPACE}datestamp"))[:40]
        self._records.append(Record(identifier, datestamp, is_deleted, row))


def _tag(name: str) -> str:
    return "{" + name if "}" in name else name


def _text(element: Element | None) -> str:
    return "" if element is None else clean_line("".join(element.itertext()))


def _refuse_doctype(name: str, *_: object) -> NoReturn:
    if name.casefold() == "html":
        raise UnreadablePage("an HTML page instead of XML")
    raise UnreadablePage("a document type declaration, which is refused: it could define entities")


def _check_root(tag: str) -> None:
    if tag == f"{NAMESPACE}OAI-PMH":
        return
    name = tag.rpartition("}")[2]
    if name.casefold() == "html":
        raise UnreadablePage("an HTML page instead of XML")
    if name == "OAI-PMH":
        raise UnreadablePage(f"OAI-PMH of another version than 2.0 ({tag[1:].partition('}')[0]})")
    raise UnreadablePage(f"XML of another kind (<{clean_line(name)[:40]}>)")


# --- repairs -----------------------------------------------------------------------------------

_DECLARATION = re.compile(rb"^\s*<\?xml[^>]{0,200}?encoding\s*=\s*[\"']([A-Za-z0-9._-]{1,40})[\"']")
# Of characters; Python has others, some of which take very long.
_ENCODING = re.compile(
    r"utf-?8|iso-?8859|iso-?2022|latin|windows|cp\d|(us-)?ascii|koi8|mac|big5|gb|euc|shift", re.IGNORECASE
)
_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_REFERENCE = re.compile(r"&(?:#(\d{1,8})|#[xX]([0-9A-Fa-f]{1,8})|([A-Za-z][A-Za-z0-9]{0,31}));|&")
_OF_XML = frozenset(("amp", "lt", "gt", "quot", "apos"))


def _repair(content: bytes, charset: str) -> bytes:
    """The same as UTF-8 without what XML does not allow; nothing that changes where elements begin or end."""
    text = _decode(content, charset)
    text = re.sub(r"^\s*<\?xml[^>]{0,200}\?>", "", text.removeprefix("\ufeff"))
    text = _REFERENCE.sub(_reference, _NOT_XML.sub("", text))
    return text.encode()


def _decode(content: bytes, charset: str) -> str:
    declared = _DECLARATION.match(content)
    names = (declared.group(1).decode() if declared else "utf-8", charset)
    for name in filter(_ENCODING.match, names):
        try:
            return content.decode(name)
        except (LookupError, ValueError):
            continue
    return content.decode("utf-8", "replace")


def _reference(found: re.Match[str]) -> str:
    decimal, hexadecimal, name = found.groups()
    if name in _OF_XML:
        return found.group()
    if decimal or hexadecimal:
        number = int(decimal or hexadecimal, 10 if decimal else 16)
        is_bad = number > sys.maxunicode or _NOT_XML.match(chr(number)) is not None
        return "" if is_bad else found.group()
    meant = html.unescape(found.group()) if name else "&"
    return html.escape(meant)
