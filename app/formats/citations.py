r"""Documents as BibTeX and as RIS, for reference managers and for papers.

A title is written so that TeX prints what our pages show. What people put into titles as TeX and cannot mean
otherwise stays TeX: formulas, accents, `\textit{...}`, `\&`. Everything else is text, so its special
characters are escaped, and nothing that a corpus holds can read files or define commands when a paper is set.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator

from latex2mathml.symbols_parser import convert_symbol

from app.formats.lists import Documents
from sae_core.corpus import Document

LONGEST_KEY = 60  # of an id inside a citation key
_ARXIV = re.compile(r"https?://(?:www\.)?arxiv\.org/abs/([^?#\s]+)", re.IGNORECASE)
_COLLECTIVE = re.compile(r"\b(collaboration|consortium|group|team|project)\b", re.IGNORECASE)
_OTHERS = re.compile(r"(and )?(et\.? ?al\.?|others)", re.IGNORECASE)

# --- BibTeX -------------------------------------------------------------------------------------


def bibtex_pieces(listed: Documents) -> Iterator[bytes]:
    """BibTeX in UTF-8: a comment that says what is listed, then an entry per document."""
    yield "".join(f"% {line.replace('@', '(at)')}\n" for line in _heading(listed)).encode()
    for rows in listed.batches:
        yield "".join(f"\n{bibtex_entry(row.document)}" for row in rows).encode()


def _heading(listed: Documents) -> list[str]:
    lines = [_line(listed.title), f"{listed.origin}{listed.url}", f"Collection built {listed.built}"]
    if listed.next_url:
        lines.append(f"Continued at {listed.file(listed.next_url, 'bib')}")
    return lines


def bibtex_entry(document: Document) -> str:
    """One entry, with a key that is the same in every list and belongs to no other id of the collection."""
    found, journal = _ARXIV.fullmatch(document.url), _journal(document)
    named = {
        "title": f"{{{latex(document.title or document.id)}}}",  # styles leave the case of what is in braces
        "author": " and ".join(map(_bibtex_name, authors_of(document))),
        "year": str(document.year or ""),
        "journal": latex(journal),
        "doi": _verbatim(document.doi),
        "eprint": _verbatim(found.group(1)) if found else "",
        "archiveprefix": "arXiv" if found else "",
        "url": _verbatim(document.url),
        "keywords": latex(", ".join(document.categories.split())),
        "abstract": latex(document.abstract),
    }
    fields = "".join(f"  {name} = {{{value}}},\n" for name, value in named.items() if value)
    return f"@{'article' if journal else 'misc'}{{{citation_key(document)},\n{fields}}}\n"


def _journal(document: Document) -> str:
    """Where it appeared; corpora of preprints put a category there."""
    return "" if document.venue in document.categories.split() else document.venue


def citation_key(document: Document) -> str:
    """Surname, year and id, as `smith2024:2401.01234`, in characters that BibTeX takes.

    BibTeX does not tell cases apart, so an id with capitals, or with characters that have to go, gets some
    figures of its hash.
    """
    first = next(iter(authors_of(document)), "")
    surname = "" if _COLLECTIVE.search(first) else _ascii(_family_name(first))
    name = re.sub(r"[^a-z0-9./_-]+", "-", document.id.lower()).strip("-")[:LONGEST_KEY].rstrip("-")
    if name != document.id:
        digits = hashlib.sha256(document.id.encode("utf-8", "surrogatepass")).hexdigest()[:8]
        name = f"{name}-{digits}" if name else digits
    head = f"{surname}{document.year or ''}"
    return f"{head}:{name}" if head else name


def _ascii(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z]", "", plain.lower())


def authors_of(document: Document) -> list[str]:
    """The names in the order of the source; "et al." as others."""
    parts = [_line(part) for part in document.authors.split(";")]
    if len(parts) == 1:
        parts = re.split(
            r"\s+and\s+", parts[0]
        )  # of several that a semicolon divides, "and" is inside a name
    names = [name for part in parts if (name := re.sub(r"^and\s+", "", part).strip(" ,"))]
    return ["others" if _OTHERS.fullmatch(name) else name for name in names]


def _bibtex_name(name: str) -> str:
    """A name as BibTeX divides it; in braces, where it would divide what is one."""
    printed = latex(name)
    is_whole = _COLLECTIVE.search(name) or name.count(",") > 2 or re.search(r"\band\b", name, re.IGNORECASE)  # noqa: PLR2004  family, suffix, given
    return f"{{{printed}}}" if is_whole else printed


def _family_name(name: str) -> str:
    family, comma, _ = name.partition(",")
    return family if comma else name.rpartition(" ")[2]


def _verbatim(address: str) -> str:
    """Addresses and identifiers: reference styles print them as they are, so only braces may not stay."""
    return _line(address).replace("\\", "%5C").replace("{", "%7B").replace("}", "%7D")


# --- text as TeX --------------------------------------------------------------------------------

_PLAIN = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    **{character: f"\\{character}" for character in "%&#_$"},
}
_PAIRED = str.maketrans(_PLAIN | {"{": r"\{", "}": r"\}"})
# BibTeX counts braces and does not see the backslash before one.
_UNPAIRED = str.maketrans(_PLAIN | {"{": r"\textbraceleft{}", "}": r"\textbraceright{}"})
_TEX = re.compile(
    r"(?<!\\)\$(?P<formula>[^$]{1,400})(?<!\\)\$"
    r"|(?P<accent>\\['`\"^~]\{?[A-Za-z]\}?|\\['`\"^]\{\\[ij]\}|\\[cvHkur]\{[A-Za-z]\})"
    r"|\\(?P<style>textit|textbf|texttt|textsc|textsf|textrm|emph|underline|textsuperscript|textsubscript)"
    r"\{(?P<inside>[^{}$\\]*)\}"
    r"|(?P<escape>\\[&%$#_])"
)


def latex(text: str) -> str:
    r"""A line of plain text, or of text with TeX in it, as TeX that prints it; braces are balanced.

    >>> print(latex(r"A 5% chance of $z>6$ for Schr\"odinger's {cat} in C:\new"))
    A 5\% chance of $z>6$ for Schr\"odinger's \{cat\} in C:\textbackslash{}new
    """
    line, parts, end = _line(text), [], 0
    for found in _TEX.finditer(line):
        if (kept := _kept(found)) is not None:
            parts += [_escaped(line[end : found.start()]), kept]
            end = found.end()
    return "".join([*parts, _escaped(line[end:])])


def _escaped(text: str) -> str:
    return text.translate(_PAIRED if _is_balanced(text) else _UNPAIRED)


def _kept(found: re.Match[str]) -> str | None:
    """What stays TeX of a piece that may be TeX."""
    if found["formula"] is not None:
        return _formula(found["formula"])
    if found["style"]:
        return f"\\{found['style']}{{{_escaped(found['inside'])}}}"
    accent: str = found["accent"] or found["escape"]
    return accent if accent.count("{") == accent.count("}") else None


# Commands of formulas beside the symbols: none of them reads, writes, defines or repeats anything.
_COMMANDS = frozenset(
    """bar bf big Big bigg Bigg bigl bigr binom bm boldsymbol cal cos ddot dfrac displaystyle dot emph
    ensuremath exp frac hat inf it lbrace left lim ln log mathbb mathbf mathcal mathfrak mathit
    mathnormal mathrm mathscr mathsf mathtt max mbox min not operatorname overline overrightarrow pmb
    prime qquad quad rbrace right rm scriptsize scriptstyle sf sin sqrt stackrel sup tan text textbf
    textit textrm textsc textsf textstyle textsubscript textsuperscript texttt tfrac tilde tt underline
    vec widehat widetilde
    """.split()  # noqa: SIM905  a list of words reads better as words
)
_COMMAND = re.compile(r"\\([A-Za-z]+|.)", re.DOTALL)


def _formula(inside: str) -> str | None:
    """A formula between dollars; None if it is two prices, or if TeX could trip over it."""
    body = inside.replace(r"\{", r"\lbrace ").replace(r"\}", r"\rbrace ")
    words = {word for word in _COMMAND.findall(body) if word.isalpha()}
    unknown = any(word not in _COMMANDS and convert_symbol(f"\\{word}") is None for word in words)
    is_text = " " in inside.strip() and inside != inside.strip()  # "between $ 5 and $ 10"
    if (
        unknown
        or is_text
        or not inside.strip()
        or re.search(r"(?<!\\)[%#&]|\^\^|\\$", body)
        or not _is_balanced(body)
    ):
        return None
    return f"${body}$"


def _is_balanced(text: str) -> bool:
    """Whether every brace has its partner, as BibTeX counts them."""
    depth = 0
    for brace in re.findall("[{}]", text):
        depth += 1 if brace == "{" else -1
        if depth < 0:
            return False
    return depth == 0


_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")


def _line(text: str) -> str:
    """The text on one line, without characters that control anything."""
    return " ".join(_CONTROL.sub(" ", text).split())


# --- RIS ----------------------------------------------------------------------------------------


def ris_pieces(listed: Documents) -> Iterator[bytes]:
    """RIS in UTF-8, a record per document."""
    for rows in listed.batches:
        yield "".join(ris_record(row.document) for row in rows).encode()


def ris_record(document: Document) -> str:
    """One record: lines of a tag, two spaces, a hyphen, a space and a value."""
    named = [
        ("TY", "JOUR" if _journal(document) else "GEN"),
        ("ID", citation_key(document)),
        ("TI", document.title or document.id),
        *[("AU", _ris_name(name)) for name in authors_of(document) if name != "others"],
        ("PY", str(document.year or "")),
        ("JO", _journal(document)),
        ("DO", document.doi),
        ("UR", document.url),
        *[("KW", category) for category in document.categories.split()],
        ("AB", document.abstract),
    ]
    lines = [f"{tag}  - {value}\r\n" for tag, text in named if (value := _line(text))]
    return "".join([*lines, "ER  - \r\n\r\n"])


def _ris_name(name: str) -> str:
    """Family name first, as RIS wants it; a collaboration's name stays whole."""
    if "," in name or " " not in name or _COLLECTIVE.search(name):
        return name
    given, _, family = name.rpartition(" ")
    return f"{family}, {given}"
