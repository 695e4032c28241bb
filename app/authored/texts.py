"""What people may write: cleaned, bounded, and refused in a sentence.

The same for both databases: no NUL (PostgreSQL refuses it), no lone surrogates (neither can store them), no
control or direction characters (they make a text look like another), composed forms (NFC), so that equal
looks are equal texts.
"""

from __future__ import annotations

import re
import unicodedata

from sae_core.errors import SaefariError

MAX_NAME = 120  # of a label, a list, a lens: what `sae_core.errors.tidy` allows a label
MAX_REMARK = 500
MAX_EXPLANATION = 4_000
MAX_NOTE = 20_000
MAX_TARGET = 64 * 1024  # of a link; no longer address is answered
MAX_USER = 80
MAX_KEY = 200  # of an SAE, a collection, or the id of a document
MAX_NUMBER = 2**63 - 1  # what both databases hold

_SPACES = re.compile(r"[^\S\n]+")
_EMPTY_LINES = re.compile(r"\n{3,}")
_JOINERS = "\u200c\u200d"  # parts of words in Persian, and of emoji
_USER = re.compile(r"[a-z0-9](?:[a-z0-9 ._@+-]*[a-z0-9])?")


class BadText(SaefariError):
    """A text or a number that cannot be stored as it is."""


def line(what: str, text: str, most: int = MAX_NAME, *, least: int = 0) -> str:
    """One line of at most `most` characters; `what` is how a sentence names it."""
    return _bounded(what, " ".join(_plain(text, most).split()), most, least)


def paragraphs(what: str, text: str, most: int, *, least: int = 0) -> str:
    """Lines, with at most one empty one between two."""
    lines = (_SPACES.sub(" ", each).strip() for each in _plain(text, most).split("\n"))
    return _bounded(what, _EMPTY_LINES.sub("\n\n", "\n".join(lines)).strip(), most, least)


def user_name(text: str) -> str:
    """The name of a person as it is stored: lower case, so that no two differ only by it."""
    name = line("The name of a user", unicodedata.normalize("NFKC", text).casefold(), MAX_USER, least=1)
    if not _USER.fullmatch(name):
        raise BadText(
            f'"{name}" cannot be the name of a user.',
            remedy="Use letters a to z, digits, spaces and . _ @ + - with a letter or digit at both ends.",
        )
    return name


def number(what: str, value: int) -> int:
    """A whole number that both databases can hold."""
    if type(value) is not int or not 0 <= value <= MAX_NUMBER:  # True is an int to Python, not to PostgreSQL
        raise BadText(f"{what} is {value!r:.40}.", remedy="It is a whole number from 0 to 2^63 - 1.")
    return value


def _plain(text: str, most: int) -> str:
    if len(text) > 4 * most + 1_000:  # bounds the work below; far beyond what cleaning could shorten
        raise _too_long("This text", len(text), most)
    lines = text.replace("\r\n", "\n").replace("\r", "\n").replace("\u2028", "\n").replace("\u2029", "\n")
    kept = (c for c in lines if c in "\n\t" or c in _JOINERS or unicodedata.category(c)[0] != "C")
    return unicodedata.normalize("NFC", "".join(kept))


def _bounded(what: str, text: str, most: int, least: int) -> str:
    if len(text) > most:
        raise _too_long(what, len(text), most)
    if len(text) < least:
        raise BadText(f"{what} is empty.", remedy="Write something.")
    return text


def _too_long(what: str, n: int, most: int) -> BadText:
    return BadText(f"{what} has {n:,} characters.", remedy=f"At most {most:,} are kept: shorten it.")
