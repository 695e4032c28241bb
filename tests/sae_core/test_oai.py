"""Pages of OAI-PMH and the records in them: what is read, what is repaired, what is refused."""

from __future__ import annotations

import time
from typing import Any
from xml.etree.ElementTree import fromstring

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sae_core.corpus import MAX_ABSTRACT, Document, read_document
from sae_core.sources.formats import read_row, set_spec
from sae_core.sources.oai import Page, UnreadablePage, read_page
from tests.oai_repository import HEAD, TAIL, arxiv_record, dublin_core_record, listing, record


def page_of(text: str, charset: str = "") -> Page:
    return read_page(text.encode(), charset)


def document_of(xml: str) -> Document:
    """The one document of a page with this record."""
    (found,) = page_of(listing([xml])).records
    read = read_document(found.row)
    assert read is not None
    return read[0]


# --- pages -----------------------------------------------------------------------------------------


def test_a_page_has_records_a_token_and_the_size_of_the_list() -> None:
    page = page_of(listing([arxiv_record(1), arxiv_record(2, status="deleted")], " next|1 ", 7))
    assert [(r.identifier, r.is_deleted) for r in page.records] == [
        ("oai:arXiv.org:2401.00001", False),
        ("oai:arXiv.org:2401.00002", True),
    ]
    assert page.records[0].datestamp == "2024-05-06"
    assert page.records[1].row == {}
    assert (page.token, page.size, page.errors, page.unread, page.is_repaired) == ("next|1", 7, [], "", False)


@pytest.mark.parametrize("size", ["", "-1", "many", "1e3", "٣", "9" * 30])
def test_a_size_that_is_none_is_unknown(size: str) -> None:
    xml = listing([]).replace("<resumptionToken", f'<resumptionToken completeListSize="{size}"')
    assert page_of(xml).size is None


def test_errors_are_read_all_and_in_short() -> None:
    text = f'{HEAD}<error code="badArgument">no  {"x" * 900}</error><error code="noRecordsMatch"/>{TAIL}'
    first, second = page_of(text).errors
    assert first[0] == "badArgument"
    assert first[1].startswith("no xxx")
    assert len(first[1]) == 200
    assert second == ("noRecordsMatch", "")


def test_a_record_without_header_or_metadata_is_still_a_record() -> None:
    page = page_of(listing(["<record/>", "<record><header/></record>", record("x", "<metadata/>")]))
    assert [(r.identifier, r.row) for r in page.records] == [("", {}), ("", {}), ("x", {})]


def test_a_format_that_is_not_read_is_named() -> None:
    marc = '<metadata><record xmlns="http://www.loc.gov/MARC21/slim"><leader/></record></metadata>'
    page = page_of(listing([record("x", marc)]))
    assert page.unread == "{http://www.loc.gov/MARC21/slim}record"
    assert len(page.records) == 1


BOMB = (
    '<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;">'
    '<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;">]><OAI-PMH>&c;</OAI-PMH>'
)
STEALS = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><OAI-PMH>&x;</OAI-PMH>'
REMOTE = '<!DOCTYPE a SYSTEM "http://127.0.0.1:1/x.dtd"><OAI-PMH/>'
CUT = listing([arxiv_record(1)])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (BOMB, "document type declaration"),
        (STEALS, "document type declaration"),
        (REMOTE, "document type declaration"),
        (HEAD + "<ListRecords>" + STEALS, "no well-formed XML"),
        ("<!doctype html><p>Down for maintenance", "HTML page"),
        ("<html><br></html>", "HTML page"),
        ("<rss version='2.0'/>", "another kind .<rss>"),
        ("<OAI-PMH xmlns='http://www.openarchives.org/OAI/1.1/'/>", "another version"),
        (HEAD + TAIL, "neither records nor an error"),
        ("", "ends too early"),
        (CUT[:-1], "ends too early"),
        (CUT[: len(CUT) // 2], "ends too early"),
        ('{"records": []}', "no well-formed XML"),
        (CUT.replace("</title>", "</titel>"), "no well-formed XML .*mismatched"),
        (HEAD + "<a>" * 100, "more than 64 deep"),
    ],
)
def test_what_is_no_page_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(UnreadablePage, match=reason):
        page_of(text)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_a_bomb_in_another_encoding_is_refused_too(encoding: str) -> None:
    with pytest.raises(UnreadablePage, match="document type declaration"):
        read_page(BOMB.removeprefix('<?xml version="1.0"?>').encode(encoding))


def test_a_record_of_too_many_elements_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sae_core.sources.oai.MAX_ELEMENTS", 100)
    full = record("x", "<metadata>" + "<a/>" * 90 + "</metadata>")
    assert len(page_of(listing([full] * 3)).records) == 3
    with pytest.raises(UnreadablePage, match="a record of over 100"):
        page_of(listing([full.replace("<a/>", "<a/><a/>")]))


def test_an_entity_of_xml_and_a_character_reference_are_no_fault() -> None:
    page = page_of(listing([arxiv_record(1).replace("On the matter", "A &amp; B &#233; &lt;")]))
    assert page.records[0].row["title"] == "A & B é < of 1"
    assert not page.is_repaired


@pytest.mark.parametrize(
    ("fault", "title"),
    [
        ("caf&eacute;&nbsp;&bogus;", "café\xa0&bogus;"),
        ("R & D &c", "R & D &c"),
        ("a\x0bb\x00c", "abc"),
        ("a&#11;b&#xFFFE;c&#99999999;", "abc"),
    ],
)
def test_usual_faults_are_repaired_and_said(fault: str, title: str) -> None:
    xml = arxiv_record(1).replace("On the matter of 1", fault)
    page = page_of(listing([xml, arxiv_record(2)], "next"))
    assert page.records[0].row["title"] == title
    assert page.is_repaired
    assert (len(page.records), page.token) == (2, "next")


@pytest.mark.parametrize(
    ("declared", "real", "charset", "title"),
    [
        ("UTF-8", "latin-1", "iso-8859-1", "Évry"),  # the header is right
        ("UTF-8", "latin-1", "", "\ufffdvry"),
        ("UTF-8", "latin-1", "bogus", "\ufffdvry"),
        ("UTF-8", "latin-1", "punycode", "\ufffdvry"),  # not for long texts from strangers
        ("bogus", "utf-8", "", "Évry"),
        ("UTF-16", "utf-8", "", "Évry"),
        ("euc-jp", "euc-jp", "", "日本"),
    ],
)
def test_a_wrong_encoding_is_found_out(declared: str, real: str, charset: str, title: str) -> None:
    text = listing([arxiv_record(1, title="日本" if real == "euc-jp" else "Évry")])
    page = read_page(text.replace("UTF-8", declared).encode(real), charset)
    assert page.records[0].row["title"] == title
    assert page.is_repaired


@pytest.mark.parametrize("encoding", ["utf-16", "iso-8859-1", "windows-1252"])
def test_a_right_encoding_needs_no_repair(encoding: str) -> None:
    page = read_page(listing([arxiv_record(1, title="Évry")]).replace("UTF-8", encoding).encode(encoding))
    assert page.records[0].row["title"] == "Évry"
    assert not page.is_repaired


EDITS = st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 9), st.binary(max_size=9)), max_size=5)


@given(EDITS)
@settings(max_examples=150, deadline=None)
def test_whatever_comes_is_a_page_or_refused(edits: list[tuple[int, int, bytes]]) -> None:
    content = listing([arxiv_record(1), dublin_core_record("x", ("title", "T"))], "next").encode()
    for position, n_cut, put in edits:
        start = position % (len(content) + 1)
        content = content[:start] + put + content[start + n_cut :]
    try:
        page = read_page(content)
    except UnreadablePage:
        return
    for found in page.records:
        read_document(found.row)


def test_a_record_of_10_megabytes_is_read_in_a_moment_and_shortened() -> None:
    xml = listing([arxiv_record(1, abstract="some words " * 900_000), arxiv_record(2)])
    began = time.monotonic()
    page = page_of(xml)
    assert len(page.records) == 2
    read = read_document(page.records[0].row)
    assert read is not None
    assert len(read[0].abstract) <= MAX_ABSTRACT
    assert "shortened" in read[1][0]
    assert time.monotonic() - began < 5


# --- records of arXiv ------------------------------------------------------------------------------


def test_a_record_of_arxiv_becomes_a_document() -> None:
    authors = "<author><keyname>de la Cruz</keyname><forenames>Ana</forenames><suffix>Jr</suffix></author>"
    authors += "<author><keyname>ATLAS Collaboration</keyname></author><author/>"
    more = {"authors": authors, "journal-ref": "Phys.Rev.Lett. 99:131803,2007", "doi": "10.1103/X.1 10.2/y"}
    assert document_of(arxiv_record(7, abstract="  $p &lt; 1$\n  and more", **more)) == Document(
        id="2401.00007",
        title="On the matter of 7",
        abstract="$p < 1$ and more",
        year=2024,
        venue="Phys.Rev.Lett.",
        authors="Ana de la Cruz Jr; ATLAS Collaboration",
        categories="astro-ph.CO cs.LG",
        url="https://arxiv.org/abs/2401.00007",
        doi="10.1103/X.1",
    )


@pytest.mark.parametrize(
    ("identifier", "created", "year"),
    [
        ("1706.03762", "2023-08-02", 2017),  # `created` may be the day of the last version
        ("0704.0001", "", 2007),
        ("astro-ph/9710003", "1997-10-21", 1997),
        ("math.GT/0309136", "", 2003),
        ("hep-th/9108028", "", 1991),
        ("odd", "1998-02-03", 1998),
        ("odd", "2999-01-01", None),
        ("odd", "0000-00-00", None),
        ("odd", "yesterday", None),
    ],
)
def test_the_year_is_that_of_the_first_submission(identifier: str, created: str, year: int | None) -> None:
    assert document_of(arxiv_record(1, id=identifier, created=created)).year == year


def test_categories_are_parted_however_they_are_written() -> None:
    assert (
        document_of(arxiv_record(1, categories=" cs.LG\n 68T45; I.2.6, ")).categories == "cs.LG 68T45 I.2.6"
    )


def test_an_identifier_that_is_none_of_arxiv_makes_no_address() -> None:
    assert document_of(arxiv_record(1, id="../../x y")).url == ""


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("", ""),
        ("cs", "cs"),
        ("physics", "physics"),
        ("hep-th", "physics:hep-th"),
        ("math-ph", "physics:math-ph"),
        ("physics.optics", "physics:physics:optics"),
        ("math.AG", "math:math:AG"),
        ("nlin.CD", "physics:nlin:CD"),
        ("physics:astro-ph:CO", "physics:astro-ph:CO"),
    ],
)
def test_a_set_has_the_name_that_people_use(name: str, spec: str) -> None:
    assert set_spec(name) == spec


# --- records in Dublin Core ------------------------------------------------------------------------


def test_a_record_in_dublin_core_becomes_a_document() -> None:
    xml = dublin_core_record(
        "oai:repo.org:12",
        ("title", "Über den Staub", "de"),
        ("title", "On dust", "en-GB"),
        ("creator", "Doe, Jane"),
        ("creator", "Roe, R."),
        ("subject", "Interstellar dust"),
        ("subject", "Stars; young"),
        ("description", "Ein langer deutscher Text über Staub, länger als der andere.", "de"),
        ("description", "12 pages.", "en"),
        ("description", "Dust is between the stars.", "en"),
        ("source", "1234-5678"),
        ("source", "Journal of Dust; Vol. 3 No. 2 (1999); 1-20"),
        ("publisher", "A press"),
        ("date", "2011-02-03T10:00:00Z"),
        ("date", "1999"),
        ("date", "3001-01-01"),
        ("identifier", "ISBN 3-12"),
        ("identifier", "https://repo.org/12"),
        ("identifier", "doi:10.1000/dust.12"),
    )
    assert document_of(xml) == Document(
        id="oai:repo.org:12",
        title="On dust",
        abstract="Dust is between the stars.",
        year=1999,
        venue="Journal of Dust",
        authors="Doe, Jane; Roe, R.",
        categories="Interstellar-dust Stars-young",
        url="https://repo.org/12",
        doi="10.1000/dust.12",
    )


def test_what_is_not_marked_as_english_is_taken_where_there_is_no_english() -> None:
    elements = (
        ("title", ""),
        ("title", "Erster", "de"),
        ("title", "Zweiter"),
        ("description", "Worte", "de"),
    )
    document = document_of(dublin_core_record("x", *elements))
    assert (document.title, document.abstract) == ("Erster", "Worte")


def test_a_doi_gives_an_address_where_there_is_no_other() -> None:
    elements = (("description", "Words"), ("identifier", "10.1000/182"), ("publisher", "A press"))
    document = document_of(dublin_core_record("x", *elements))
    assert (document.url, document.doi, document.venue) == (
        "https://doi.org/10.1000/182",
        "10.1000/182",
        "A press",
    )


def test_an_empty_record_has_no_text() -> None:
    (found,) = page_of(listing([dublin_core_record("x", ("title", "Only a title"))])).records
    assert read_document(found.row) is None


@pytest.mark.parametrize(
    ("reference", "journal"),
    [
        ("Astrophys.J. 612 (2004) L1", "Astrophys.J."),
        ("2009 MNRAS 399, 1", "MNRAS"),
        ("Nature, volume 12", "Nature"),
        ("Proceedings of the 25th Conference", "Proceedings of the 25th Conference"),
        ("12", ""),
        ("https://x.org/1", ""),
        ("", ""),
    ],
)
def test_the_venue_is_the_journal_without_volume_and_page(reference: str, journal: str) -> None:
    assert document_of(arxiv_record(1, **{"journal-ref": reference})).venue == journal


def test_an_unknown_format_is_no_row() -> None:
    element: Any = fromstring("<x/>")
    assert read_row("x", element) is None
