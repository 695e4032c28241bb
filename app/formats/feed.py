"""Documents as an Atom feed (RFC 4287), so that a search can be followed in a feed reader."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from xml.sax.saxutils import escape, quoteattr

from app import urls
from app.formats.citations import authors_of
from app.formats.lists import DocumentRow, Documents

# Ids are made from names of collections and documents alone, so that they outlive addresses and builds.
_OURS = uuid.UUID("6d1f3a0e-6f0b-4b8c-9a5e-2f6c5f0f6c1d")
# What XML cannot hold, and the controls of Latin-1, which readers take for Windows' quotes.
_ILLEGAL = re.compile("[^\t\n\r\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def atom_pieces(listed: Documents) -> Iterator[bytes]:
    """The feed: what is listed, then an entry per document, all as new as the collection."""
    yield "".join(_head(listed)).encode()
    for rows in listed.batches:
        yield "".join(_entry(listed, row) for row in rows).encode()
    yield b"</feed>\n"


def entry_id(collection: str, document: str) -> str:
    """The id of a document's entry: the same in every feed, wherever it is served."""
    return _urn(f"{collection}\n{document}")


def _urn(name: str) -> str:
    return uuid.uuid5(_OURS, name.encode("utf-8", "replace").decode()).urn


def _head(listed: Documents) -> Iterator[str]:
    yield '<?xml version="1.0" encoding="utf-8"?>\n<feed xmlns="http://www.w3.org/2005/Atom">\n'
    yield f"<id>{_urn(f'{listed.kind.name} {listed.url}')}</id>\n{_element('title', listed.title)}"
    yield f"<updated>{listed.built}</updated>\n"
    yield f"<author><name>{_text(listed.collection)}</name></author>\n"
    yield "<generator>Saefari</generator>\n"
    yield _link("self", listed.file(listed.url, "atom"), "application/atom+xml")
    yield _link("alternate", listed.origin + listed.url, "text/html")
    if listed.next_url:
        yield _link("next", listed.file(listed.next_url, "atom"), "application/atom+xml")


def _entry(listed: Documents, row: DocumentRow) -> str:
    document = row.document
    parts = [
        f"<entry>\n<id>{entry_id(listed.collection, document.id)}</id>\n",
        _element("title", document.title or document.id),
        f"<updated>{listed.built}</updated>\n",
        _link("alternate", listed.origin + row.page, "text/html"),
        _link("related", document.url) if document.url else "",
        _link("related", urls.doi(document.doi)) if document.doi else "",
        *[
            f"<author><name>{_text(name)}</name></author>\n"
            for name in authors_of(document)
            if name != "others"
        ],
        *[f"<category term={_attribute(term)}/>\n" for term in document.categories.split()],
        _element("summary", document.abstract) if document.abstract else "",
        "</entry>\n",
    ]
    return "".join(parts)


def _element(name: str, text: str) -> str:
    return f"<{name}>{_text(text)}</{name}>\n"


def _link(relation: str, address: str, media: str = "") -> str:
    kind = f' type="{media}"' if media else ""
    return f'<link rel="{relation}"{kind} href={_attribute(address)}/>\n'


def _text(text: str) -> str:
    """Character data, without the characters that XML cannot hold."""
    return escape(_ILLEGAL.sub("", text))


def _attribute(text: str) -> str:
    return quoteattr(_ILLEGAL.sub("", text))
