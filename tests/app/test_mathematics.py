"""Formulas become MathML, everything else stays text, and nothing that runs comes through."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.mathematics import TAGS, typeset
from app.pages import excerpt


def test_a_formula_is_set_and_the_text_around_it_escaped() -> None:
    found = typeset(r"a < b at $z \sim 6$ & more")
    assert found.startswith("a &lt; b at <math")
    assert "<mn>6</mn>" in found
    assert found.endswith("</math> &amp; more")


@pytest.mark.parametrize(
    "text", ["costs $5 and $10 more", "$", "$$", "$ $", r"\$5", r"$\left(x$ open", "$" + "x" * 500 + "$"]
)
def test_what_is_no_formula_stays_as_it_was_written(text: str) -> None:
    assert typeset(text) == text


@pytest.mark.parametrize(
    "latex",
    [
        r"\text{<script>alert(1)</script>}",
        r"\href{javascript:alert(1)}{x}",
        r"\text{<img src=x onerror=alert(1)>}",
        r"\class{x}{y}",
        r"\style{position:fixed}{y}",
    ],
)
def test_nothing_that_runs_or_links_comes_through(latex: str) -> None:
    found = typeset(f"${latex}$")
    assert not (found.startswith("<math") and "javascript:" in found)
    for tag, attributes in re.findall(r"<([a-z]+)([^>]*)>", found):
        assert tag in TAGS
        assert not re.search(r"href|on\w+=|style|class|src", attributes)


@given(st.text(alphabet="ab$\\{}^_<>&\"' 12frac", max_size=60))
def test_every_text_can_be_set_and_holds_only_known_tags(text: str) -> None:
    assert set(re.findall(r"</?([a-zA-Z]+)", typeset(text))) <= TAGS


def test_an_excerpt_does_not_end_inside_a_formula() -> None:
    assert excerpt(r"seen at $z = 10.5 \pm 0.1$ and beyond", 20) == "seen at…"
