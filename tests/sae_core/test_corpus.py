"""Documents in: every kind of file, every kind of bad input, and the laws of cleaning."""

from __future__ import annotations

import csv
import datetime as dt
import gzip
import io
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sae_core.corpus import (
    MAX_ABSTRACT,
    Corpus,
    Document,
    clean_line,
    clean_text,
    derive_title,
    load_corpus,
    normalise_title,
    parse_year,
    read_mapping,
    save_corpus,
    write_rejected,
)
from sae_core.errors import ArtifactError, CorpusError

Row = dict[str, Any]

ROWS: list[Row] = [
    {
        "id": "0704.0001",
        "title": "Dust in spiral galaxies",
        "abstract": "We measure dust. It is everywhere.",
        "year": 2007,
        "venue": "ApJ",
        "authors": "A. One; B. Two",
        "categories": "astro-ph hep-ph",
        "url": "https://example.org/a",
        "citations": 12,
    },
    {
        "id": "0704.0002",
        "title": "Gas in spiral galaxies",
        "abstract": "We measure gas, and find some.",
        "year": None,
        "venue": "",
        "authors": "",
        "categories": "",
        "url": "",
        "citations": None,
    },
]


def jsonl(path: Path, rows: Sequence[object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def one(path: Path, **values: object) -> Document:
    """The document that a single row becomes."""
    row = {"id": "1", "title": "A title", "abstract": "An abstract of some words.", **values}
    return load_corpus(jsonl(path / "one.jsonl", [row])).documents[0]


def write_parquet(path: Path, rows: list[Row]) -> None:
    pq.write_table(pa.Table.from_pylist(rows), path)


def write_jsonl(path: Path, rows: list[Row]) -> None:
    jsonl(path, rows)


def write_csv(path: Path, rows: list[Row], delimiter: str = ",") -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    path.write_text(text.getvalue(), encoding="utf-8")


def write_tsv(path: Path, rows: list[Row]) -> None:
    write_csv(path, rows, "\t")


def zipped(write: Callable[[Path, list[Row]], None]) -> Callable[[Path, list[Row]], None]:
    def write_zipped(path: Path, rows: list[Row]) -> None:
        write(path, rows)
        path.write_bytes(gzip.compress(path.read_bytes()))

    return write_zipped


FILES = {
    "corpus.parquet": write_parquet,
    "corpus.csv": write_csv,
    "corpus.CSV": write_csv,
    "corpus.tsv": write_tsv,
    "corpus.jsonl": write_jsonl,
    "corpus.ndjson": write_jsonl,
    "corpus.csv.gz": zipped(write_csv),
    "corpus.tsv.gz": zipped(write_tsv),
    "corpus.jsonl.gz": zipped(write_jsonl),
}


# --- files -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILES)
def test_every_kind_of_file_gives_the_same_documents(name: str, tmp_path: Path) -> None:
    FILES[name](tmp_path / name, ROWS)
    corpus = load_corpus(tmp_path / name)
    assert corpus.documents == [Document(**row) for row in ROWS]
    assert corpus.rejected == []
    assert corpus.rows == [0, 1]


def test_standard_input_is_jsonl(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines)))
    assert load_corpus("-").documents == [Document(**row) for row in ROWS]


def test_a_saved_corpus_loads_as_it_was(tmp_path: Path) -> None:
    texts = [
        {"abstract": f"The same first dozen words stand before each of these texts, number {n}."}
        for n in "abc"
    ]
    corpus = load_corpus(jsonl(tmp_path / "texts.jsonl", [*ROWS, *texts]))
    assert len(corpus.documents) == 5
    save_corpus(corpus.documents, tmp_path / "new" / "saved.parquet")
    again = load_corpus(tmp_path / "new" / "saved.parquet")
    assert again == corpus
    assert again.fingerprint() == corpus.fingerprint()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["saved.parquet"]


def test_a_corpus_is_written_from_a_stream_in_groups_of_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sae_core.corpus.loading._ROW_GROUP", 20)
    documents = [Document(f"d{n}", f"Title {n}", f"Text {n}.", doi=f"10.1000/{n}") for n in range(21)]
    save_corpus(iter(documents), tmp_path / "c.parquet", {"from": "somewhere"})
    file = pq.ParquetFile(tmp_path / "c.parquet")
    assert file.metadata.num_row_groups == 2
    assert file.schema_arrow.metadata == {b"from": b"somewhere"}
    assert load_corpus(tmp_path / "c.parquet").documents == documents


def test_a_corpus_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "corpus.parquet"
    save_corpus([Document(**ROWS[0])], path)
    before = path.read_bytes()
    with pytest.raises(ArtifactError, match="cannot be written"):
        save_corpus([Document(**ROWS[1])], Path("/proc/nowhere/corpus.parquet"))
    with pytest.raises(ArtifactError, match=r"cannot be written.*another folder"):
        save_corpus([Document(**ROWS[1])], path / "below-a-file.parquet")
    assert path.read_bytes() == before


def test_the_fingerprint_follows_ids_and_texts_only() -> None:
    base = Document("1", "Title", "Text")
    prints = {
        name: Corpus([document], []).fingerprint()
        for name, document in {
            "base": base,
            "year": Document("1", "Title", "Text", year=1999),
            "id": Document("2", "Title", "Text"),
            "text": Document("1", "Title", "Other"),
            "shifted": Document("1T", "itle", "Text"),
        }.items()
    }
    assert prints["base"] == prints["year"]
    assert len({prints[name] for name in ("base", "id", "text", "shifted")}) == 4


def test_limit_counts_usable_documents(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "c.jsonl", [{"id": "0", "text": ""}, *ROWS])
    corpus = load_corpus(path, limit=1)
    assert [document.id for document in corpus.documents] == ["0704.0001"]
    assert corpus.counts() == {"empty text": 1}
    with pytest.raises(CorpusError, match="limit of 0"):
        load_corpus(path, limit=0)


# --- files that cannot be read -----------------------------------------------------------------


def bad_files(folder: Path) -> dict[str, tuple[Path, str]]:
    """name -> file, what its message says."""
    whole = folder / "whole.parquet"
    write_parquet(whole, ROWS)
    zipped_rows = gzip.compress(b'{"text": "words"}\n' * 1000)
    contents: dict[str, tuple[str, bytes, str]] = {
        "empty csv": ("a.csv", b"", "a.csv is empty"),
        "blank csv": ("b.csv", b"\n\n", "b.csv is empty"),
        "header only": ("c.csv", b"id,text\n", "No usable document.*no rows"),
        "empty jsonl": ("d.jsonl", b"", "d.jsonl is empty"),
        "empty texts": ("e.jsonl", b'{"text": ""}\n{"text": " "}\n', r"2 rows rejected \(2 empty text\)"),
        "no objects": ("f.jsonl", b"1\n2\n", "2 not an object"),
        "broken lines": ("g.jsonl", b"{\n", "1 invalid json"),
        "json array": ("h.json", b'[{"text": "a"}]', "JSON array.*jq"),
        "empty parquet": ("i.parquet", b"", "could not be read"),
        "not parquet": ("j.parquet", b"PAR1 this is not", "could not be read"),
        "cut parquet": ("k.parquet", whole.read_bytes()[:-20], "could not be read"),
        "not gzip": ("l.jsonl.gz", b'{"text": "a"}\n', "could not be read"),
        "cut gzip": ("m.jsonl.gz", zipped_rows[:-30], "could not be read"),
        "zipped parquet": ("n.parquet.gz", b"x", r"'.parquet.gz', which is no known kind"),
        "unknown ending": ("o.docx", b"x", r"'.docx', which is no known kind.*\.parquet"),
        "no ending": ("p", b"x", "no ending"),
        "utf-16": ("q.csv", "id,text\n1,a\n".encode("utf-16"), "UTF-16.*UTF-8"),
        "no text column": (
            "r.csv",
            b"id,Titel,Inhalt\n1,a,b\n",
            r"Its columns: id, Titel, Inhalt\. .*--map abstract=",
        ),
        "no text key": ("s.jsonl", b'{"id": 1, "foo": 2}\n', "Its columns: id, foo"),
        "two text columns": ("t.csv", b"text,text\na,b\n", "two columns called 'text'"),
    }
    files = {"missing": (folder / "none.csv", "no file"), "folder": (folder, "is a folder")}
    files["missing without ending"] = (folder / "none", "no file")
    for label, (name, content, message) in contents.items():
        (folder / name).write_bytes(content)
        files[label] = (folder / name, message)
    return files


BAD_FILES = (
    "missing",
    "missing without ending",
    "folder",
    "empty csv",
    "blank csv",
    "header only",
    "empty jsonl",
    "empty texts",
    "no objects",
    "broken lines",
    "json array",
    "empty parquet",
    "not parquet",
    "cut parquet",
    "not gzip",
    "cut gzip",
    "zipped parquet",
    "unknown ending",
    "no ending",
    "utf-16",
    "no text column",
    "no text key",
    "two text columns",
)


@pytest.mark.parametrize("label", BAD_FILES)
def test_a_file_that_cannot_be_used_is_named_with_the_reason(label: str, tmp_path: Path) -> None:
    files = bad_files(tmp_path)
    assert set(files) == set(BAD_FILES)
    path, message = files[label]
    with pytest.raises(CorpusError, match=message) as caught:
        load_corpus(path)
    assert path.name in str(caught.value)
    assert caught.value.remedy


# --- columns -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "value", "attribute", "expected"),
    [
        ("paper_id", "x1", "id", "x1"),
        ("arXiv ID", "x1", "id", "x1"),
        ("Name", "A name", "title", "A name"),
        ("summary", "The words.", "abstract", "The words."),
        ("Publication Date", "2011-02-03", "year", 2011),
        ("journal", "Nature", "venue", "Nature"),
        ("author", ["A", "B"], "authors", "A; B"),
        ("tags", ["x", "y"], "categories", "x y"),
        ("link", "http://example.org/", "url", "http://example.org/"),
        ("citationCount", 3, "citations", 3),
        ("DOI", "https://doi.org/10.1000/182", "doi", "10.1000/182"),
    ],
)
def test_columns_are_found_by_their_usual_names(
    column: str, value: object, attribute: str, expected: object, tmp_path: Path
) -> None:
    row = {column: value} if attribute == "abstract" else {"text": "Some words.", column: value}
    document = load_corpus(jsonl(tmp_path / "c.jsonl", [row])).documents[0]
    assert getattr(document, attribute) == expected


def test_an_abstract_is_preferred_to_a_full_text(tmp_path: Path) -> None:
    rows = [{"text": "Everything.", "abstract": "In short."}]
    assert load_corpus(jsonl(tmp_path / "c.jsonl", rows)).documents[0].abstract == "In short."


def test_columns_are_mapped_by_hand(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "c.jsonl", [{"title": "Not this", "Titel": "This", "Inhalt": "Words."}])
    document = load_corpus(path, mapping={"title": "Titel", "text": "Inhalt"}).documents[0]
    assert (document.title, document.abstract) == ("This", "Words.")


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"headline": "text"}, "no field 'headline'.*Fields: id, title, abstract"),
        ({"title": "Titel"}, "no column 'Titel' for title. Its columns: id, text"),
    ],
)
def test_a_bad_mapping_says_what_there_is(mapping: dict[str, str], message: str, tmp_path: Path) -> None:
    path = jsonl(tmp_path / "c.jsonl", [{"id": 1, "text": "words"}])
    with pytest.raises(CorpusError, match=message):
        load_corpus(path, mapping=mapping)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (["title"], "--map title is not of the form field=Column.*--map title=Name"),
        (["=Words"], "--map =Words is not of the form"),
        (["title=A", "title=B"], "Two columns are named for title: 'A' and 'B'"),
        (["text=A", "abstract=B"], "Two columns are named for abstract: 'A' and 'B'"),
        (["title=A", "text=A"], "'A' is named for two fields: title and abstract.*gets one from its text"),
        (["venue=A", "authors=A"], "'A' is named for two fields: venue and authors. Leave out one of them.$"),
    ],
)
def test_a_field_and_a_column_are_named_once(entries: list[str], message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        read_mapping(entries)


def test_what_people_write_becomes_a_mapping(tmp_path: Path) -> None:
    assert read_mapping(["text = The words", "url=a=b"]) == {"abstract": "The words", "url": "a=b"}
    assert read_mapping(["id=DOI", "doi=DOI"]) == {"id": "DOI", "doi": "DOI"}
    path = jsonl(tmp_path / "c.jsonl", [{"id": 1, "A": "words"}])
    with pytest.raises(CorpusError, match="'A' is named for two fields"):
        load_corpus(path, mapping={"title": "A", "text": "A"})


def test_text_alone_is_enough(tmp_path: Path) -> None:
    rows = [
        {"text": "Dust obscures the light of young stars. More follows."},
        {"text": "word " * 30},
        {"text": "Ab"},
        {"text": "." * 40},
    ]
    path = jsonl(tmp_path / "c.jsonl", rows)
    documents = load_corpus(path).documents
    assert documents[0].title == "Dust obscures the light of young stars"
    assert documents[1].title == "word " * 11 + "word…"
    assert documents[2].title == "Ab"
    assert documents[3].title == "." * 40
    assert all(document.id.startswith("doc-") for document in documents)
    reversed_rows = load_corpus(jsonl(tmp_path / "r.jsonl", rows[::-1])).documents
    assert {d.id for d in reversed_rows} == {d.id for d in documents}


def test_leading_zeros_of_ids_survive_csv(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text("id,text\n0310123,Some words.\n")
    assert load_corpus(tmp_path / "c.csv").documents[0].id == "0310123"


# --- rows that are refused ---------------------------------------------------------------------


def test_refused_rows_are_counted_by_reason_and_written(tmp_path: Path) -> None:
    lines = [
        json.dumps({"id": "a", "title": "One title", "text": "Words of the first."}),
        json.dumps({"id": "a", "title": "Another", "text": "Words of the second."}),
        "",
        json.dumps({"id": "b", "title": "ONE  Title!", "text": "Words of the third."}),
        json.dumps({"id": "c", "title": "Empty", "text": "  <p></p>\0 "}),
        json.dumps({"id": "d", "title": "Missing"}),
        json.dumps({"id": "e", "text": "n/a"}),
        '{"id": ',
        "[1, 2]",
        "[" * 100_000,
        json.dumps({"id": "f", "text": "Words of the last."}),
        json.dumps({"id": "g", "text": "words of the LAST"}),
    ]
    path = tmp_path / "c.jsonl"
    path.write_text("\n".join(lines))
    corpus = load_corpus(path)
    assert [document.id for document in corpus.documents] == ["a", "f"]
    reasons = [(row, reason) for row, reason, _ in corpus.rejected]
    assert reasons == [
        (2, "duplicate id"),
        (3, "duplicate title"),
        (4, "empty text"),
        (5, "empty text"),
        (6, "empty text"),
        (7, "invalid json"),
        (8, "not an object"),
        (9, "invalid json"),
        (11, "duplicate text"),
    ]
    assert corpus.counts() == {
        "empty text": 3,
        "invalid json": 2,
        "duplicate id": 1,
        "duplicate title": 1,
        "not an object": 1,
        "duplicate text": 1,
    }
    assert corpus.n_rows == 11
    assert corpus.rows == [0, 9]
    write_rejected(corpus, tmp_path / "rejected.jsonl")
    written = [json.loads(line) for line in (tmp_path / "rejected.jsonl").read_text().splitlines()]
    assert [(row["row"], row["reason"], row["excerpt"]) for row in written] == corpus.rejected
    assert written[0]["excerpt"] == "a: Another"


def test_titles_that_are_identifiers_keep_their_case(tmp_path: Path) -> None:
    rows = [{"title": title, "text": f"About {title}."} for title in ("torch.Tensor", "torch.tensor")]
    assert len(load_corpus(jsonl(tmp_path / "c.jsonl", rows)).documents) == 2
    assert normalise_title("Dust:  in GALAXIES.") == normalise_title("dust in galaxies")
    assert normalise_title("Привет, мир") == normalise_title("ПРИВЕТ мир")


def test_csv_rows_of_another_length_are_refused(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text('id,text\n1,good\n2,bad, worse\n3\n\n4,"also, good"\n')
    corpus = load_corpus(tmp_path / "c.csv")
    assert [document.id for document in corpus.documents] == ["1", "4"]
    reasons = [(row, reason) for row, reason, _ in corpus.rejected]
    assert reasons == [(2, "wrong number of fields"), (3, "wrong number of fields")]


def test_one_row_is_a_corpus(tmp_path: Path) -> None:
    assert len(load_corpus(jsonl(tmp_path / "c.jsonl", ROWS[:1])).documents) == 1


# --- bytes and characters ----------------------------------------------------------------------


def test_invalid_utf8_is_replaced_and_counted(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_bytes(b"id,text\n1,caf\xe9 au lait\n2,caf\xc3\xa9 noir\n")
    (tmp_path / "c.jsonl").write_bytes(
        b'{"id": "1", "text": "caf\xe9 au lait"}\n{"id": "2", "text": "caf\xc3\xa9 noir"}\n'
    )
    storage = pa.array([b"caf\xe9 au lait", b"caf\xc3\xa9 noir"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"id": ["1", "2"], "text": storage}), tmp_path / "c.parquet")
    for name in ("c.csv", "c.jsonl", "c.parquet"):
        corpus = load_corpus(tmp_path / name)
        assert [document.abstract for document in corpus.documents] == ["caf\ufffd au lait", "café noir"]
        assert corpus.repaired == {"invalid UTF-8 replaced": 1}


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_bytes("\ufeffid,text\n7,words\n".encode())
    (tmp_path / "c.jsonl").write_bytes("\ufeff".encode() + b'{"id": "7", "text": "words"}')
    assert load_corpus(tmp_path / "c.csv").documents[0].id == "7"
    assert load_corpus(tmp_path / "c.jsonl").documents[0].id == "7"


def test_long_texts_are_shortened_and_counted(tmp_path: Path) -> None:
    rows = [{"id": "long", "text": "word " * 200_000}, {"id": "solid", "text": "x" * 1_000_000}]
    corpus = load_corpus(jsonl(tmp_path / "c.jsonl", rows))
    assert all(MAX_ABSTRACT * 0.9 < len(document.abstract) <= MAX_ABSTRACT for document in corpus.documents)
    assert corpus.repaired == {"text shortened to 20,000 characters": 2}


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("a &amp; b &lt; c", "a & b < c"),
        ("caf&eacute; &#8211; &amp;amp;amp; &#x3b1;", "café – & α"),
        ("AT&T x&param=1 &bogus;", "AT&T x&param=1 &bogus;"),
        ("<p>One.</p><p>Two <b>bold</b>.</p>", "One.\n\nTwo bold."),
        ("H<sub>2</sub>O and <jats:italic>E. coli</jats:italic>", "H2O and E. coli"),
        ("p < 0.05 and x<y>z, <p> = 0, a <b and c> d", "p < 0.05 and x<y>z, <p> = 0, a <b and c> d"),
        ('see <a href="javascript:alert(1)">here</a><br/>now', "see here now"),
        ("before <!-- hidden --> after", "before after"),
        ("<script>alert(1)</script>Safe", "Safe"),
        ("Why <script> matters", "Why matters"),
        ("<scr<script>ipt>x", "<scr ipt>x"),
        ("<scr\0ipt src=x>y", "y"),
        ("&amp;lt;script&amp;gt;alert(1)", "alert(1)"),
        ("<img src=x onerror=alert(1)>pic", "pic"),
        ("a\0b\x07c\x9dd\u200be\xadf", "abcdef"),
        ("tab\tand\x0bfeed\x0c and\u2003wide\u2028line", "tab and feed and wide line"),
        ("one\ntwo\n \nthree\n\n\n\nfour", "one two\n\nthree\n\nfour"),
        ("evil\u202egnp.exe\u202c \u2066x\u2069", "evilgnp.exe x"),
        ("שלום עולם \u200fمرحبا", "שלום עולם \u200fمرحبا"),
        ("lone \ud800 surrogate", "lone surrogate"),
        ("e\u0301", "é"),
        ("🧪 emoji 👩\u200d🔬", "🧪 emoji 👩\u200d🔬"),
        ("$\\alpha < \\beta$ & $x_{i}$", "$\\alpha < \\beta$ & $x_{i}$"),
    ],
)
def test_cleaning_keeps_words_and_drops_markup(raw: str, clean: str) -> None:
    assert clean_text(raw) == clean


ODD = st.sampled_from(
    (
        *"<>&=/b \x00\n\u202e���;éש",
        "amp;",
        "lt;",
        "&#60;",
        "&#x202e;",
        "script",
        "</",
        "<b>",
        "</b>",
        "<svg",
        "<!--",
        "-->",
        "\n\n",
        "<p>",
        "</p>",
        "<script",
        "nbsp;",
    )
)
HOSTILE = st.lists(ODD | st.text(max_size=3), max_size=40).map("".join)
ANY_TEXT = st.text(st.characters(exclude_categories=[]), max_size=200)


@given(HOSTILE | ANY_TEXT)
def test_cleaning_is_done_in_one_go(raw: str) -> None:
    assert clean_text(clean_text(raw)) == clean_text(raw)
    assert clean_line(clean_line(raw)) == clean_line(raw)


@given(HOSTILE | ANY_TEXT)
def test_cleaned_text_can_be_stored_and_shown(raw: str) -> None:
    line = clean_line(raw)
    assert line.encode() or not line
    assert line == " ".join(line.split())
    assert not any(ord(c) < 32 or 0x7F <= ord(c) < 0xA0 or c in "\u202a\u202b\u202d\u202e" for c in line)
    low = line.casefold()
    assert not any(tag in low for tag in ("<script>", "<style>", "<svg>", "<iframe>"))


@given(st.text("abc XYZ.,;:-()äéπ0123456789", max_size=200))
def test_plain_words_are_left_alone(raw: str) -> None:
    assert clean_line(raw) == " ".join(raw.split())


@given(st.text(max_size=300).map(clean_text).filter(bool))
def test_a_derived_title_is_short_and_not_empty(text: str) -> None:
    title = derive_title(text)
    assert 0 < len(title) <= 101
    assert title == clean_line(title)


HOSTILE_MEGABYTES = {
    "entities": "&amp;" * 200_000,
    "split entities": "&am" * 300_000 + "p;" * 300_000,
    "brackets": "<" * 1_000_000,
    "open tags": "<b " * 300_000,
    "scripts": "<script>" * 100_000 + "</script>",
    "comments": "<!--" * 250_000,
}


@pytest.mark.parametrize("name", HOSTILE_MEGABYTES)
def test_cleaning_a_hostile_megabyte_takes_no_time(name: str) -> None:
    start = time.process_time()
    clean_text(HOSTILE_MEGABYTES[name])
    assert time.process_time() - start < 5  # a quadratic pattern would take minutes


def test_markup_in_any_field_becomes_text(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script><img src=x onerror=alert(2)> name"
    document = one(
        tmp_path, title=evil, venue=evil, authors=[evil], categories=[evil], url="javascript:alert(1)"
    )
    assert (document.title, document.venue, document.authors) == ("name", "name", "name")
    assert document.categories == "name"
    assert document.url == ""


def test_a_title_of_nothing_but_markup_is_made_from_the_text(tmp_path: Path) -> None:
    assert one(tmp_path, title="<script>alert(1)</script>").title == "An abstract of some words"


# --- fields ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "year"),
    [
        (2007, 2007),
        (2007.0, 2007),
        ("2007", 2007),
        ("2007-04-03T10:00:00Z", 2007),
        ("3 April 2007", 2007),
        ("20070403", 2007),
        (20070403, 2007),
        ("03.04.2007", 2007),
        ("n/a", None),
        ("", None),
        (None, None),
        (float("nan"), None),
        (float("inf"), None),
        (True, None),
        (1499, None),
        (1500, 1500),
        (2100, 2100),
        (2101, None),
        (-2007, None),
        (99, None),
        (1175594400, None),
        ([2007], None),
        (dt.date(2007, 4, 3), 2007),
        (dt.datetime(2007, 4, 3, tzinfo=dt.UTC), 2007),
    ],
)
def test_years(value: object, year: int | None) -> None:
    assert parse_year(value) == year


def test_a_number_of_more_digits_than_python_prints_is_no_year() -> None:
    assert parse_year(10**5000) is None


def test_dates_of_parquet_are_years(tmp_path: Path) -> None:
    stamp = 1_175_594_400_000_000_001  # nanoseconds, which Python's datetime cannot hold
    table = pa.table(
        {
            "text": ["Some words."],
            "date": pa.array([stamp], pa.timestamp("ns")),
            "id": pa.array([7.0]),
            "citations": pa.array([float("nan")]),
        }
    )
    pq.write_table(table, tmp_path / "c.parquet")
    document = load_corpus(tmp_path / "c.parquet").documents[0]
    assert (document.year, document.id, document.citations) == (2007, "7", None)


@pytest.mark.parametrize(
    ("value", "url"),
    [
        ("https://example.org/a?b=c#d", "https://example.org/a?b=c#d"),
        (" http://example.org ", "http://example.org"),
        ("ftp://example.org", ""),
        ("javascript:alert(1)", ""),
        ("JaVaScRiPt:alert(1)//https://x.org", ""),
        ("data:text/html,x", ""),
        ("//example.org", ""),
        ("https://", ""),
        ("http://[", ""),
        ('https://x.org/"><script>', ""),
        ("https://x.org/a b", ""),
        ("https://x.org/" + "a" * 5000, ""),
        (12, ""),
    ],
)
def test_urls_are_http_or_nothing(value: object, url: str, tmp_path: Path) -> None:
    assert one(tmp_path, url=value).url == url


@pytest.mark.parametrize(
    ("value", "count"),
    [
        (3, 3),
        ("1,234", 1234),
        ("12.0", 12),
        (0, 0),
        (-1, None),
        ("many", None),
        (10**19, None),
        (2.5, None),
        (True, None),
    ],
)
def test_citations(value: object, count: int | None, tmp_path: Path) -> None:
    assert one(tmp_path, citations=value).citations == count


@pytest.mark.parametrize(
    ("value", "authors"),
    [
        ("A. One; B. Two", "A. One; B. Two"),
        (["A. One", " B.  Two ", None, ""], "A. One; B. Two"),
        ('["A. One", "B. Two"]', "A. One; B. Two"),
        ([{"name": "A. One"}, {"given": "B.", "family": "Two"}], "A. One; B. Two"),
        ([["One", "A."], ["Two", "B.", "Jr."]], "A. One; B. Two"),
        (None, ""),
        (12, "12"),
    ],
)
def test_authors(value: object, authors: str, tmp_path: Path) -> None:
    assert one(tmp_path, authors=value).authors == authors


@pytest.mark.parametrize(
    ("value", "categories"),
    [
        ("hep-ph astro-ph", "hep-ph astro-ph"),
        ("cs.LG; cs.AI;cs.LG", "cs.LG cs.AI"),
        (["Computer Science", "Physics"], "Computer-Science Physics"),
        ("Computer Science, Physics", "Computer-Science Physics"),
        ("Computer Science; Machine Learning", "Computer-Science Machine-Learning"),
        ("Computer Science", "Computer-Science"),
        ("cs.LG stat.ML q-bio.NC", "cs.LG stat.ML q-bio.NC"),
        (["Physics, Applied"], "Physics-Applied"),
        (None, ""),
    ],
)
def test_categories(value: object, categories: str, tmp_path: Path) -> None:
    assert one(tmp_path, categories=value).categories == categories


@pytest.mark.parametrize(
    ("value", "document_id"),
    [
        ("hep-th/9901001", "hep-th/9901001"),
        (12, "12"),
        ("https://openalex.org/W1", "openalex.org/W1"),
        (" a\0b\u202e ", "ab"),
        ("10.1000/xyz(1)", "10.1000/xyz(1)"),
    ],
)
def test_ids_are_kept_where_an_address_can_hold_them(value: object, document_id: str, tmp_path: Path) -> None:
    assert one(tmp_path, id=value).id == document_id


@pytest.mark.parametrize("value", ["..", "a/../b", "a//b", ".", "x" * 300, "", None, "/"])
def test_other_ids_are_replaced_by_stable_ones(value: object, tmp_path: Path) -> None:
    document = one(tmp_path, id=value)
    assert document.id.startswith("doc-")
    assert document.id == one(tmp_path, id=value).id


@given(
    st.lists(
        st.fixed_dictionaries({"id": st.text(max_size=8), "title": ANY_TEXT, "text": ANY_TEXT}), max_size=8
    )
)
def test_whatever_is_loaded_is_unique_and_survives_saving(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Row]
) -> None:
    folder = tmp_path_factory.mktemp("any")
    corpus = load_corpus(
        jsonl(folder / "c.jsonl", [*rows, {"id": "last", "title": "", "text": "The last one."}])
    )
    assert len({document.id for document in corpus.documents}) == len(corpus.documents)
    assert corpus.n_rows == len(rows) + 1
    assert all(document.id and document.title and document.abstract for document in corpus.documents)
    save_corpus(corpus.documents, folder / "c.parquet")
    assert load_corpus(folder / "c.parquet").documents == corpus.documents
