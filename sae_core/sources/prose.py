"""From a docstring to prose a person would read: without code, tables, parameter lists and markup.

Understands what numpydoc, Google style, reStructuredText and Markdown have in common, line by line.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

from sae_core.corpus import clean_text

MIN_LENGTH = 200  # characters of cleaned prose
MAX_LENGTH = 2_500
_READ = 5 * MAX_LENGTH  # characters of a docstring that are looked at

_DROPPED_SECTION = (
    r"(?:other |keyword |positional |additional |optional |input |return )*"
    r"(?:args?|arguments?|parameters?|params?|kwargs|inputs?|outputs?|returns?|yields?|receives?|raises|warns|"
    r"exceptions?|attributes?|variables|properties|methods|members|shapes?|examples?|example usage|usage|"
    r"sample usage|references?|see also|todo|authors?|routine listings|doctests?|tests?|bibliography|"
    r"literature|copyright|license|contents|functions|classes|constants|index|environment|expected results?|"
    r"type parameters?)"
)
_GOOGLE = re.compile(
    rf"\s*(?:#+\s*)?[*_]*{_DROPPED_SECTION}[*_]*\s*(?:\([\w ]*\))?\s*:{{1,2}}[*_]*\s*$", re.IGNORECASE
)
_NUMPYDOC = re.compile(rf"\s*{_DROPPED_SECTION}\s*:?\s*$", re.IGNORECASE)
_UNDERLINE = re.compile(r"\s*([-=~^\"#*+_.`])\1{2,}\s*$")
_ADMONITION = re.compile(
    r"\s*(?:\.\. (?:notes?|warning|tip|important|hint|attention|caution|admonition|topic|legacy|container)::"
    r"|(?:note|notes|warning|warnings|tip|important|algorithm|explanation|caution)s?\s*:{1,2}(?=\s|$)"
    r"|(?:#+\s+)?<tip[^>]*>|</tip>|\.\. (?:only|highlights|epigraph)::)\s*",
    re.IGNORECASE,
)
_DIRECTIVE = re.compile(
    r"\s*(?:\.\.(?:\s|$)|:[a-z]+(?:\s[^:`]*)?:(?:\s|$)|@\w+\b.*:|!!! |>>> |\$ |In \[\d+\]:)"
)
_PARAMETER = re.compile(
    r"\s*[`*]*\w+[`*]*\s+\((?=.*\b(?:optional|defaults?|float|int|str|bool|tensor|longtensor|list|dict|tuple)\b)"
    r"(?:[^()]|\([^()]*\))*\)\s*:|\s*\w*(?:Error|Exception|Warning): ",
    re.IGNORECASE,
)
_CUT, _FORMULA = "\0", "\0formula"  # lines that stand for what was cut
_FENCE = re.compile(r"\s*(?:```|~~~)")
_BULLET = re.compile(r"\s*(?:[-*+•]|\(?(?:\d{1,2}|[a-z])[.)])\s+(?=\S)")
_TABLE = re.compile(
    r"\s*(?:\+[-=+]{3,}|\|.*\||={2,}(?:\s+={2,})+|-{2,}(?:[\s|]+-{2,})+|.*\S\s+\|\s+\S.*\|.*)\s*$"
)


def prose(doc: str) -> str:
    """Readable paragraphs of a docstring: without code, tables, parameter lists and markup."""
    lines = _without_fences(inspect.cleandoc(doc[:_READ]).splitlines())
    lines = _without_headings(lines)
    lines = _without_blocks(lines)
    kept: list[str] = []
    for block in [*_blocks(lines), [_CUT]]:
        is_cut = block[0] in (_CUT, _FORMULA)
        text = "" if is_cut else _paragraph(block)
        if text and not _NOISE.search(text):
            kept.append(text)
        elif kept and not text:  # what the paragraph before announced was cut
            kept[-1:] = [lead] if (lead := _lead(kept[-1], is_formula=block[0] == _FORMULA)) else []
    return _shorten(clean_text("\n\n".join(kept)))


def _without_fences(lines: list[str]) -> list[str]:
    kept, is_inside = [], False
    for line in lines:
        if _FENCE.match(line):
            is_inside = not is_inside and not line.rstrip().endswith(
                "```", 3 + len(line) - len(line.lstrip())
            )
            kept += ["", _CUT, ""]
        elif not is_inside:
            kept.append(line)
    return kept


def _without_headings(lines: list[str]) -> list[str]:
    """Underlined headings go; with the numpydoc sections that are no prose goes their content."""
    kept: list[str] = []
    is_dropping = False
    for position, line in enumerate(lines):
        below = lines[position + 1] if position + 1 < len(lines) else ""
        if line.strip() and _UNDERLINE.match(below) and not _UNDERLINE.match(line):
            is_dropping = bool(_NUMPYDOC.match(line))
            kept.append("")
        elif not is_dropping and not _UNDERLINE.match(line):
            kept.append(line)
    return kept


def _without_blocks(lines: list[str]) -> list[str]:
    """Directives, field lists, sections of code and literal blocks go, each with what is indented below."""
    kept: list[str] = []
    deeper_than: int | None = None  # drop what is indented more than this
    is_doctest = False
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if not line.strip():
            is_doctest = False
            kept.append("")
            continue
        if is_doctest or (deeper_than is not None and indent > deeper_than):
            continue
        deeper_than = None
        admonition = _ADMONITION.match(line)
        if admonition:
            kept += ["", line[admonition.end() :]]
        elif line.lstrip().startswith((">>>", "Traceback (")):
            is_doctest = True
            kept += ["", _CUT, ""]
        elif _GOOGLE.match(line) or _DIRECTIVE.match(line) or _PARAMETER.match(line):
            deeper_than = indent
            kept += ["", _FORMULA if line.lstrip().startswith(".. math") else _CUT, ""]
        elif line.rstrip().endswith("::"):
            deeper_than = indent
            kept += [line.rstrip()[:-1], "", _CUT, ""]
        else:
            kept.append(line)
    return kept


def _blocks(lines: list[str]) -> Iterator[list[str]]:
    block: list[str] = []
    for line in [*lines, ""]:
        if line.strip():
            block.append(line)
        elif block:
            yield block
            block = []


def _paragraph(block: list[str]) -> str:
    """One paragraph as a line of text, "" where it is a table, code or too little to say anything."""
    if any(_TABLE.match(line) for line in block) or _is_code(block):
        return ""
    items: list[str] = []
    for line in block:
        bullet = _BULLET.match(line)
        if bullet or not items:
            items.append(line[bullet.end() if bullet else 0 :].strip())
        else:
            items[-1] += " " + line.strip()
    texts = [_inline(item).strip() for item in items]
    text = " ".join(t if t.endswith((".", ":", ";", ",", "!", "?")) else f"{t};" for t in texts[:-1])
    text = f"{text} {texts[-1]}".strip()
    is_short = len(text.split()) < _FEW_WORDS and not text.endswith((".", ":"))
    return "" if is_short or _SIGNATURE.fullmatch(text) else text


_FEW_WORDS = 4


def _is_code(block: list[str]) -> bool:
    text = re.sub(r"``[^`]*``|`[^`]*`|\$[^$]*\$|\s", "", "".join(block))
    marks = len(re.findall(r"[=(){}\[\]<>_|\\/*+^]", text))
    starts = sum(bool(_CODE_LINE.match(line)) for line in block)
    return marks > 0.16 * len(text) or starts * 2 > len(block)


_CODE_LINE = re.compile(
    r"\s*(?:import \w|from [\w.]+ import|def \w+\(|class \w+[(:]|@\w|#|%|return\b|[\w.\[\]]+ = |print\("
    r"|for \w+ in .*:$|"
    r"if .*:$|with .*:$|[\w.]+\(.*\)$|[{}<\]]|\$ |SELECT |CREATE |INSERT )"
)
_SIGNATURE = re.compile(r"[\w.]+\(.*\)\s*(?:->.*)?;?|.*->\s*[\w.\[\], ]+;?")
_NOISE = re.compile(
    r"copyright|licensed under|all rights reserved|permission is hereby|:license:|^\W*$|^(?:todo|fixme|xxx)\b"
    r"|<[\w.-]+@[\w.-]+>|^(?:author|version|date|created)s?:",
    re.IGNORECASE,
)


def _lead(text: str, *, is_formula: bool) -> str:
    """The paragraph before a cut: a short "For example:" goes, a broken sentence ends in an ellipsis."""
    if not text.endswith(":") and (not is_formula or text.endswith((".", "!", "?", "…", ";", ")"))):
        return text
    head, stop, tail = text.rpartition(". ")
    if text.endswith(":") and len(tail.split()) <= _SHORT_LEAD:
        return (head + stop).strip()
    return f"{text.rstrip(': ')} …"


_SHORT_LEAD = 6  # words

_INLINE: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"!\[[^\]]*\]\([^)]*\)", ""),
        (r"\[`?~?!?([^\]`]*)`?\]\([^)\s]*\)", r"\1"),
        (r"\[`[~!]?(?:[\w.]+\.)?([^`\]]+)`\]", r"\1"),
        (r"`\\(?:\s+(?=\w)|(?=s\b))", "`"),
        (r":math:`([^`]*)`", r"$\1$"),
        (r":[a-z]+(?::[a-z]+)*:`([^`<]+?)\s*<[^`>]*>`", r"\1"),
        (r":[a-z]+(?::[a-z]+)*:`~[\w.]*?(\w+(?:\(\))?)`", r"\1"),
        (r":[a-z]+(?::[a-z]+)*:`[!.~]?(?:_\w+\.|python:)?([^`]*)`", r"\1"),
        (r"``([^`]*)``", r"\1"),
        (r"`([^`<]+?)\s*<[^`>]*>`__?", r"\1"),
        (r"`~[\w.]*?(\w+(?:\(\))?)`", r"\1"),
        (r"`([^`]*)`(?:__?)?", r"\1"),
        (r"(?:^|\s)>\s+|\[![A-Z]+\]", " "),
        (r"\s?\[[\w.-]+\]_+", ""),
        (r"(?<![\w*])\*\*(\S(?:[^*]*\S)?)\*\*(?![\w*])", r"\1"),
        (r"(?<![\w*])\*(\S(?:[^*]*\S)?)\*(?![\w*])", r"\1"),
        (r"(?<![\w^_}\\]){\w+\}|%\(\w+\)s|</?(?:Tip|hfoptions?|frameworkcontent|pt|tf)\b[^>]*>", ""),
        (r"\\([*_`|\\ ])", r"\1"),
        (r"\s+([.,;])(?=\s|$)", r"\1"),
        (r"\(\s*\)", ""),
        (r"\s+", " "),
    )
)


def _inline(text: str) -> str:
    for pattern, replacement in _INLINE:
        text = pattern.sub(replacement, text)
    return text


_COMMON = frozenset(
    """the a an of to is in and for that this it be with as or are if by from on not can when will which
    """.split()  # noqa: SIM905
)


def is_readable(text: str) -> bool:
    """Whether a text is long enough, and prose: mostly letters, with the small words of English."""
    words = re.findall(r"[^\W\d_]+", text.lower())
    letters = sum(map(len, words))
    common = sum(word in _COMMON for word in words)
    return len(text) >= MIN_LENGTH and letters > 0.68 * len(text) and common > 0.2 * len(words)


def _shorten(text: str) -> str:
    """At most MAX_LENGTH characters, whole sentences."""
    if len(text) <= MAX_LENGTH:
        return text
    cut = text[:MAX_LENGTH]
    end = max(cut.rfind(". "), cut.rfind(".\n"))
    return cut[: end + 1] if end > MIN_LENGTH else cut.rpartition(" ")[0]
