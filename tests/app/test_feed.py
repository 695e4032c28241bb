"""Claims about feeds: a real reader takes them without complaint, and knows an entry again."""

from __future__ import annotations

import re
from dataclasses import replace

import feedparser
from hypothesis import given
from hypothesis import strategies as st

from app.formats.feed import atom_pieces, entry_id
from app.formats.lists import Documents
from sae_core.corpus import Document
from tests.app.test_citations import listing, paper

DUST = paper(
    r"Dust <b>&amp;</b> $z>6$ ]]> in Ωmega 日本",
    id="a/b?<&>\"'",
    authors="Smith, Ann; et al.",
    categories="astro-ph.GA a&b",
    url="https://arxiv.org/abs/1?a=1&b=2",
    doi="10.1000/a(1)<2>",
    abstract='Less < more & "so" on.',
)


def read(listed: Documents) -> feedparser.FeedParserDict:
    written = b"".join(atom_pieces(listed))
    found = feedparser.parse(written)
    assert not found.bozo, found.get("bozo_exception")
    assert found.version == "atom10"
    return found


def test_a_reader_sees_the_documents() -> None:
    found = read(
        replace(listing(DUST, paper("Second", id="2")), next_url="/papers/topk-1/search?q=dust&page=51")
    )
    first, second = found.entries
    assert first.title == DUST.title
    assert first.title_detail.type == "text/plain"
    assert first.summary == DUST.abstract
    assert [author.name for author in first.authors] == ["Smith, Ann"]
    assert [tag.term for tag in first.tags] == ["astro-ph.GA", "a&b"]
    assert [(link.rel, link.href) for link in first.links] == [
        ("alternate", "https://explorer.example.org/papers/documents/a/b?<&>\"'"),
        ("related", DUST.url),
        ("related", "https://doi.org/10.1000/a(1)%3C2%3E"),
    ]
    assert tuple(first.updated_parsed[:6]) == (2026, 11, 23, 10, 0, 0)
    assert second.title == "Second"
    assert {link.rel: link.href for link in found.feed.links} == {
        "self": "https://explorer.example.org/papers/topk-1/search.atom?q=dust",
        "alternate": "https://explorer.example.org/papers/topk-1/search?q=dust",
        "next": "https://explorer.example.org/papers/topk-1/search.atom?q=dust&page=51",
    }
    assert found.feed.title == "Search for dust @ night"


def test_a_document_is_the_same_entry_in_every_feed() -> None:
    one = read(listing(DUST)).entries[0].id
    other = replace(
        listing(paper(), DUST), origin="http://localhost:8000", built="2027-01-01T00:00:00+00:00", url="/x"
    )
    again = read(other)
    assert again.entries[1].id == one
    assert again.feed.id != read(listing(DUST)).feed.id
    assert re.fullmatch(r"urn:uuid:[0-9a-f-]{36}", one)
    # What readers have kept: another rule would show them every document again.
    assert entry_id("papers", "2401.01234") == "urn:uuid:39bb9dba-e8a1-5fb6-b71e-038da070f60a"
    assert entry_id("papers", "2") != entry_id("papers", "1") != entry_id("others", "1")


@given(st.text(st.characters(), max_size=30))
def test_any_text_is_a_well_formed_feed(text: str) -> None:
    document = Document("1", f"x{text}", text, authors=text, categories=text, url="")
    (entry,) = read(listing(document)).entries
    kept = re.sub("[^\t\n\r\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "", f"x{text}")
    assert " ".join(entry.title.split()) == " ".join(kept.split())
