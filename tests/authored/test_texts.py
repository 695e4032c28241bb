"""What people type comes back as it was cleaned, from both databases, whatever it is."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.authored import notes, texts
from app.authored.store import Store
from app.authored.subjects import Subject, document, feature
from app.authored.texts import BadText
from tests.authored.people import ANN

ANYTHING = st.text(st.characters(exclude_categories=()), max_size=200)  # surrogates and all


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=ANYTHING)
def test_any_text_is_stored_as_it_was_cleaned(store: Store, text: str) -> None:
    try:
        cleaned = texts.paragraphs("The note", text, texts.MAX_NOTE, least=1)
    except BadText:
        cleaned = ""
    if cleaned:
        with store.write(ANN) as writing:
            slug = notes.add_note(writing, document("demo", "1"), text).at.slug
        with store.read() as session:
            assert notes.find_note(session, slug, None).text == cleaned


@given(text=ANYTHING)
def test_cleaned_text_is_clean(text: str) -> None:
    for cleaned in (texts.line("It", text, 1_000), texts.paragraphs("It", text, 1_000)):
        assert cleaned == unicodedata.normalize("NFC", cleaned)
        assert not any(unicodedata.category(c)[0] == "C" and c not in "\n\u200c\u200d" for c in cleaned)
        assert cleaned == cleaned.strip()
    assert "\n" not in texts.line("It", text, 1_000)
    assert "\n\n\n" not in texts.paragraphs("It", text, 1_000)
    again = texts.paragraphs("It", cleaned, 1_000)
    assert again == cleaned


def test_scripts_and_emoji_keep_what_belongs_to_them() -> None:
    for text in (
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        "\U0001f469\u200d\U0001f52c",
        "e\u0301 = é",
        "<script>",
        "$x^2$",
    ):
        assert texts.line("It", text) == unicodedata.normalize("NFC", text)


def test_paragraphs_stay_and_tricks_do_not() -> None:
    assert texts.paragraphs("It", " a \r\n b\t c\n\n\n\nd ", 100) == "a\nb c\n\nd"
    assert texts.line("It", "safe\u202egnp.exe\x1b[2J\0") == "safegnp.exe[2J"


def test_bounds_are_said_with_numbers() -> None:
    with pytest.raises(BadText, match=r"121 characters\. At most 120"):
        texts.line("The label", "x" * 121)
    with pytest.raises(BadText, match="1,000,000 characters"):
        texts.line("The label", "x" * 1_000_000)
    with pytest.raises(BadText, match="is empty"):
        texts.line("The label", "\0 \n", least=1)


def test_numbers_that_no_database_holds() -> None:
    for number in (-1, 2**63, 10**20):
        with pytest.raises(BadText):
            feature("demo", "k16", number)
    assert feature("demo", "k16", 2**63 - 1).latent == 2**63 - 1
    for key in ("", "-1", "012", "1e3", "\u0663", "9" * 20, "1" * 5_000, "1\0"):
        with pytest.raises(BadText):
            Subject("demo", "feature", key, "k16")


def test_addresses_that_are_none() -> None:
    refused = [
        ("", "document", "1", ""),
        ("demo", "document", "", ""),
        ("demo", "document", "1", "k16"),
        ("demo", "feature", "1", ""),
        ("demo", "topic", "1", "k16"),
        ("de\0mo", "document", "1", ""),
        ("demo", "document", "x" * 201, ""),
    ]
    for bad in refused:
        with pytest.raises(BadText):
            Subject(*bad)
