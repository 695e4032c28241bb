"""LaTeX in titles and abstracts as MathML, which browsers set by themselves.

Two libraries do the work: latex2mathml converts, and nh3 keeps what is on the list below, because the first
lets `<script>` and `javascript:` through. What cannot be converted stays as it was written.
"""

from __future__ import annotations

import html
import re
from functools import lru_cache

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
