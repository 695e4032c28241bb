"""LaTeX in titles and abstracts as MathML, which browsers set by themselves.

Two libraries do the work: latex2mathml converts, and nh3 keeps what is on the list below, because the first
lets `<script>` and `javascript:` through. What cannot be converted stays as it was written.
"""

from __future__ import annotations

import html
import re
import unicodedata
from functools import lru_cache
from xml.etree import ElementTree as ET

import nh3
from latex2mathml.converter import convert

LONGEST = 400  # characters between two dollar signs; more is not a formula but two prices
TAGS = {
    "math", "mrow", "mi", "mn", "mo", "mtext", "mspace", "msub", "msup", "msubsup", "mfrac", "msqrt", "mroot",
    "mover", "munder", "munderover", "mtable", "mtr", "mtd",
}  # fmt: skip
ATTRIBUTES = {
    "math": {"display"},
    "mi": {"mathvariant"},
    "mn": {"mathvariant"},
    "mo": {"stretchy", "fence", "form", "separator"},
    "mspace": {"width"},
    "mover": {"accent"},
    "mfrac": {"linethickness"},
}
_FORMULA = re.compile(rf"(?<!\\)\$\$?([^$]{{1,{LONGEST}}})(?<!\\)\$\$?")


def typeset(text: str) -> str:
    """HTML of a plain text: escaped, with each `$formula$` as MathML."""
    parts, end = [], 0
    for found in _FORMULA.finditer(text):
        formula = _formula(found.group(1))
        if formula is not None:
            parts += [html.escape(text[end : found.start()]), formula]
            end = found.end()
    return "".join([*parts, html.escape(text[end:])])


@lru_cache(maxsize=4096)
def _formula(latex: str) -> str | None:
    """Clean MathML of one formula, or None where it is none that can be set."""
    if not latex.strip() or (latex != latex.strip() and " " in latex.strip()):
        return None  # "between $ 5 and $ 10" holds no formula
    try:
        cleaned = nh3.clean(convert(latex), tags=TAGS, attributes=ATTRIBUTES)
    except Exception:  # noqa: BLE001 (a converter of foreign input may raise anything)
        return None
    return cleaned if cleaned.startswith("<math") else None


# --- where nothing can be set ---------------------------------------------------------------------

_RAISED = str.maketrans("0123456789+-=()−", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾⁻")
_LOWERED = str.maketrans("0123456789+-=()−", "₀₁₂₃₄₅₆₇₈₉₊₋₌₍₎₋")
_FANCY = re.compile("[\U0001d400-\U0001d7ff]")  # letters of formulas, which few fonts have


def plain(text: str) -> str:
    r"""A text with each `$formula$` as characters alone, for pictures and other people's cards.

    >>> plain(r"Quasars at $z \geq 6$ of $10^{9}\,M_{*}$")
    'Quasars at z≥6 of 10⁹ M*'
    """
    return _FORMULA.sub(lambda found: _characters(found.group(1)) or found.group(), text)


@lru_cache(maxsize=4096)
def _characters(latex: str) -> str | None:
    formula = _formula(latex)
    if formula is None:
        return None
    try:
        printed = _spelt(ET.fromstring(formula.replace("&nbsp;", " ")))  # noqa: S314 (cleaned above)
    except ET.ParseError:
        return None
    return _FANCY.sub(lambda letter: unicodedata.normalize("NFKC", letter.group()), printed)


def _spelt(element: ET.Element) -> str:
    parts = [_spelt(child) for child in element]
    match element.tag, parts:
        case "msup", [base, above]:
            return base + _shifted(above, _RAISED)
        case "msub", [base, below]:
            return base + _shifted(below, _LOWERED)
        case "msubsup", [base, below, above]:
            return base + _shifted(below, _LOWERED) + _shifted(above, _RAISED)
        case "mfrac", [above, below]:
            return f"{above}/{below}"
        case "msqrt", _:
            return f"√{''.join(parts)}"
        case "mover", [base, _]:
            return base
        case "mspace", _:
            return " "
    return (element.text or "") + "".join(parts)


def _shifted(text: str, table: dict[int, int]) -> str:
    """Figures raised or lowered; what has no such characters as it is."""
    return text.translate(table) if all(ord(character) in table for character in text) else text
