"""Claims about BibTeX and RIS: a real parser reads back what the documents say, whatever is in them."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from bibtexparser.entrypoint import parse_string
from bibtexparser.middlewares import SeparateCoAuthors
from hypothesis import given
from hypothesis import strategies as st
from pylatexenc.latex2text import LatexNodes2Text, MacroTextSpec, get_default_latex_context_db

from app.formats.citations import bibtex_entry, bibtex_pieces, citation_key, latex, ris_pieces
from app.formats.lists import DocumentRow, Documents, Kind
from sae_core.corpus import Document

PLAIN = st.text(st.sampled_from('ab é日😀Ω{}%&#_~^<>|@"=,;$()[]0.\n\t'), max_size=40).map(
    lambda text: f"x{text}"
)


def paper(title: str = "A title", **fields: Any) -> Document:
    return Document(fields.pop("id", "p1"), title, fields.pop("abstract", ""), **fields)


def listing(*documents: Document) -> Documents:
    rows = [DocumentRow(document, f"/papers/documents/{document.id}") for document in documents]
    return Documents(
        kind=Kind("documents", "in any order", (), of_documents=True),
        title="Search for dust @ night",
        url="/papers/topk-1/search?q=dust",
        built="2026-11-23T10:00:00+00:00",
        origin="https://explorer.example.org",
        collection="papers",
        batches=iter([rows[:2], rows[2:]]),
    )


def parsed(*documents: Document) -> list[dict[str, str]]:
    """The entries of these documents as a parser sees them; it must understand all of the file."""
    written = b"".join(bibtex_pieces(listing(*documents))).decode()
    library = parse_string(written)
    assert library.failed_blocks == []
    assert len(library.entries) == len(documents)
    return [
        {"type": entry.entry_type, "key": entry.key}
        | {name: field.value for name, field in entry.fields_dict.items()}
        for entry in library.entries
    ]


# Commands of LaTeX that the decoder does not know, or not as ASCII.
COMMANDS = {"braceleft": "{", "braceright": "}", "less": "<", "greater": ">", "bar": "|", "asciicircum": "^"}
CONTEXT = get_default_latex_context_db()
CONTEXT.add_context_category(
    "of text", prepend=True, macros=[MacroTextSpec(f"text{name}", text) for name, text in COMMANDS.items()]
)


def printed(tex: str) -> str:
    """What TeX prints, formulas left as they are."""
    decoder = LatexNodes2Text(latex_context=CONTEXT, math_mode="verbatim", strict_latex_spaces=True)
    return " ".join(decoder.latex_to_text(tex).split())


def test_fields_of_an_article() -> None:
    document = paper(
        "Dust", id="2401.01234", year=2024, venue="MNRAS", authors="Smith, Ann; Zoë van der Berg; et al.",
        categories="astro-ph.GA hep-ph", url="https://arxiv.org/abs/2401.01234", doi="10.1000/a_b(1)",
        abstract="100% of it.",
    )  # fmt: skip
    assert parsed(document) == [
        {
            "type": "article", "key": "smith2024:2401.01234", "title": "{Dust}", "year": "2024",
            "journal": "MNRAS", "author": "Smith, Ann and Zoë van der Berg and others",
            "doi": "10.1000/a_b(1)", "eprint": "2401.01234", "archiveprefix": "arXiv", "url": "https://arxiv.org/abs/2401.01234",
            "keywords": "astro-ph.GA, hep-ph", "abstract": r"100\% of it.",
        }
    ]  # fmt: skip


def test_a_category_is_no_journal() -> None:
    (entry,) = parsed(paper(venue="hep-ph", categories="hep-ph hep-ex"))
    assert entry["type"] == "misc"
    assert "journal" not in entry


def test_what_is_unknown_is_left_out() -> None:
    assert parsed(paper("", id="a1")) == [{"type": "misc", "key": "a1", "title": "{a1}"}]


@pytest.mark.parametrize(
    "title",
    [
        r"The set {1, {2}} and a lone }",
        "{",
        r"C:\new\input{/etc/passwd} \write18",
        "100% of $5 & 50% of $10",
        "AT&T_#1 ~ x^2 <b> | y",
        "@article{evil, title = {x}}",
        "Line\none\r\n@misc{second,\n}",
        "日本語 Ωmega Привет עברית 😀",
        "\"Quoted\" and 'single'",
        "trailing backslash \\",
        "$",
        "a $ b",
    ],
)
def test_a_plain_title_comes_back_from_a_parser(title: str) -> None:
    assert printed(parsed(paper(title))[0]["title"]) == " ".join(title.split())


@given(st.lists(PLAIN, min_size=1, max_size=4))
def test_texts_of_any_characters_come_back_and_never_run_into_each_other(titles: list[str]) -> None:
    found = parsed(*[paper(title.replace("$", ""), id=f"d{at}") for at, title in enumerate(titles)])
    assert [printed(entry["title"]) for entry in found] == [
        " ".join(title.replace("$", "").split()) for title in titles
    ]


@given(st.text(max_size=60))
def test_every_text_is_one_balanced_line(text: str) -> None:
    tex = latex(text)
    depths = [tex[: at + 1].count("{") - tex[: at + 1].count("}") for at in range(len(tex))]
    assert min(depths, default=0) >= 0
    assert depths[-1:] in ([], [0])
    assert not re.search(r"[\x00-\x1f\x7f\ud800-\udfff]", tex)


@pytest.mark.parametrize(
    ("title", "tex"),
    [
        (r"Quasars at $z \sim 6$, 95% of them", r"Quasars at $z \sim 6$, 95\% of them"),
        (r"$\{x_1\}$ and $\mathrm{H}_2$", r"$\lbrace x_1\rbrace $ and $\mathrm{H}_2$"),
        (r"Schr\"odinger, M\'{e}nage \`a, Erd\H{o}s", r"Schr\"odinger, M\'{e}nage \`a, Erd\H{o}s"),
        (r"\textit{Gaia}_1 R\&D \emph{50% off}", r"\textit{Gaia}\_1 R\&D \emph{50\% off}"),
        (r"from $ 5 to $ 10", r"from \$ 5 to \$ 10"),
        (r"$\frac{1}{2$", r"\$\textbackslash{}frac\textbraceleft{}1\textbraceright{}\textbraceleft{}2\$"),
        (r"$50%$", r"\$50\%\$"),
    ],
)
def test_tex_that_can_mean_nothing_else_stays(title: str, tex: str) -> None:
    assert latex(title) == tex
    assert parsed(paper(title))[0]["title"] == f"{{{tex}}}"


@pytest.mark.parametrize(
    "formula",
    [r"\input{/etc/passwd}", r"\write18{rm}", r"\def\x{\x}\x", r"^^5cinput{x}", r"\csname x\endcsname",
     r"\catcode`x=0", r"\href{x}{y}", r"\unicode{x2013}", r"\loop", r"\textit{\input{x}}",
     r"\openin1=x", r"\directlua{x}"],
)  # fmt: skip
def test_no_formula_reads_writes_or_defines(formula: str) -> None:
    tex = latex(f"Before ${formula}$ after")
    assert not re.search(r"(?<!\\textbackslash\{\})\\(?!text(?:backslash|brace|ascii|it\b))[a-zA-Z]", tex)
    assert "^^" not in tex


def test_names_are_divided_where_the_source_divides_them() -> None:
    names = "The BABAR Collaboration; Department of Physics and Astronomy; Doe, Jr., J.; A, B, C, D; "
    names += "N. J. Evans,; and E. Last; ,"
    written = bibtex_entry(paper(authors=names))
    (entry,) = parse_string(written, append_middleware=[SeparateCoAuthors()]).entries
    assert entry["author"] == [
        "{The BABAR Collaboration}", "{Department of Physics and Astronomy}", "Doe, Jr., J.", "{A, B, C, D}",
        "N. J. Evans",
        "E. Last",
    ]  # fmt: skip
    assert " and B. Two" in bibtex_entry(paper(authors="A. One and B. Two"))


def test_keys_are_stable_and_differ_as_ids_do_even_without_case() -> None:
    ids = [
        "a b",
        "a-b",
        "A-b",
        "a_b",
        "日本",
        "日本語",
        "x" * 80,
        "x" * 81,
        "torch.Tensor",
        "torch.tensor",
        "#",
        "##",
    ]
    documents = [paper(id=each, authors="Ünal, Ö.", year=2020) for each in ids]
    keys = [citation_key(document) for document in documents]
    assert Counter(key.lower() for key in keys).most_common(1)[0][1] == 1
    assert all(re.fullmatch(r"unal2020:[a-z0-9./_-]+", key) for key in keys)
    assert [entry["key"] for entry in parsed(*documents)] == keys
    assert citation_key(documents[1]) == "unal2020:a-b"


def test_the_comment_of_a_file_says_what_it_is_and_where_it_goes_on() -> None:
    page = "/papers/topk-1/search?q=dust"
    listed = replace(listing(paper()), next_url=f"{page}&page=101")
    assert next(iter(bibtex_pieces(listed))).decode().splitlines() == [
        "% Search for dust (at) night",
        f"% https://explorer.example.org{page}",
        "% Collection built 2026-11-23T10:00:00+00:00",
        "% Continued at https://explorer.example.org/papers/topk-1/search.bib?q=dust&page=101",
    ]


def test_ris_has_a_record_per_document_and_a_line_per_value() -> None:
    documents = [
        paper("One\r\nER  - \nTY  - BOOK", year=2020, venue="MNRAS",
              authors="Ann Smith; Doe, J.; The X Collaboration", categories="a b",
              doi="10.1/x", url="https://e.org/1", abstract="An abstract."),
        paper("", id="two"),
    ]  # fmt: skip
    written = b"".join(ris_pieces(listing(*documents))).decode()
    records = [record.split("\r\n") for record in written.split("ER  - \r\n\r\n")[:-1]]
    tags = "TY ID TI AU AU AU PY JO DO UR KW KW AB TY ID TI".split()  # noqa: SIM905
    assert [line[:6] for record in records for line in record if line] == [f"{tag}  - " for tag in tags]
    assert "TI  - One ER - TY - BOOK" in records[0]
    assert [line for line in records[0] if line.startswith("AU")] == [
        "AU  - Smith, Ann", "AU  - Doe, J.", "AU  - The X Collaboration",
    ]  # fmt: skip
    assert records[1][:3] == ["TY  - GEN", "ID  - two", "TI  - two"]
