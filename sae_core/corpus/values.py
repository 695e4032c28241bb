"""What the cells of a row say: years, counts, addresses, names; nothing where they say nothing."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from typing import Any
from urllib.parse import urlsplit

from sae_core.corpus.text import clean_line, strip_rare

MAX_ID = 200
MAX_FIELD = 4_000  # authors, categories, url
MAX_COUNT = 2**63 - 1  # what SQLite can hold
FIRST_YEAR, LAST_YEAR = 1500, 2100

_SCHEME = re.compile(r"^https?://")
_YEAR = re.compile(r"(?<!\d)(\d{4})(?:(?!\d)|(?=\d{4}(?!\d)))")
_COUNT = re.compile(r"(\d{1,19}|\d{1,3}(?:,\d{3})+)(?:\.0*)?")
_URL = re.compile(r"https?://[^\s<>\"]+", re.IGNORECASE)
_DOI = re.compile(r"\b10\.\d{4,9}/[^\s<>\"]{1,200}")
_BETWEEN_NAMES = re.compile("[;,|]")
_WITHIN_NAME = re.compile(r"[\s;,|]+")
_IN_WORDS = re.compile(r"(?<!\S)[A-Z][a-z]")  # "Computer Science" is one name


def clean_id(raw: str) -> str:
    """An id that can stand in an address: no scheme, no control character, no empty or dot segment."""
    cleaned = _SCHEME.sub("", " ".join(strip_rare(raw).split())).strip("/ ")
    segments = cleaned.split("/")
    if cleaned and (len(cleaned) > MAX_ID or any(segment.strip() in ("", ".", "..") for segment in segments)):
        return "doc-" + hashlib.sha256(cleaned.encode()).hexdigest()[:16]
    return cleaned


def parse_year(value: object) -> int | None:
    """The year in a number, a date or a text ("2007-04-03", "May 2007"); None if there is none in 1500-2100.

    >>> parse_year("published 3 April 2007"), parse_year("n/a"), parse_year(20070403)
    (2007, None, 2007)
    """
    if isinstance(value, bool):
        return None
    written = plain(value)[:100].strip()
    found = _YEAR.search(written)
    year = int(found.group(1)) if found and not written.startswith("-") else 0
    return year if FIRST_YEAR <= year <= LAST_YEAR else None


def parse_count(value: object) -> int | None:
    """A whole number, 0 or more, also as a text ("1,234"); None if it is anything else."""
    if isinstance(value, bool):
        return None
    digits = _COUNT.fullmatch(plain(value).strip())
    count = int(digits.group(1).replace(",", "")) if digits else -1
    return count if 0 <= count <= MAX_COUNT else None


def find_url(value: object) -> str:
    """The value if it is an address of http or https, else ""."""
    url = strip_rare(plain(value)[: MAX_FIELD + 1]).strip()
    if len(url) > MAX_FIELD or not _URL.fullmatch(url):
        return ""
    try:
        return url if urlsplit(url).hostname else ""
    except ValueError:  # "http://[": not an address
        return ""


def find_doi(value: object) -> str:
    """The first DOI in a text or an address, without its prefix; "" if there is none.

    >>> find_doi("https://doi.org/10.1000/182."), find_doi("doi:none")
    ('10.1000/182', '')
    """
    found = _DOI.search(strip_rare(plain(value)[:MAX_FIELD]))
    return found.group().rstrip(".,;)]}'") if found else ""


def read_authors(value: object) -> str:
    """Names joined by "; "; they may be texts, objects or pairs of family and given name."""
    return "; ".join(name for name in map(_author, _items(value)) if name)


def _author(value: object) -> str:
    if isinstance(value, dict):
        low = {str(key).casefold(): part for key, part in value.items()}
        whole = low.get("name") or low.get("display_name") or low.get("fullname")
        first = low.get("given") or low.get("first") or low.get("forenames") or ""
        last = low.get("family") or low.get("last") or low.get("keyname") or ""
        value = whole or f"{plain(first)} {plain(last)}"
    elif isinstance(value, list | tuple):  # ["Family", "Given", ...]
        value = " ".join(plain(part) for part in reversed(value[:2]))
    return clean_line(plain(value)).strip("; ")


def read_categories(value: object) -> str:
    """Names joined by spaces, those inside a name made hyphens; a cell may hold one name or many."""
    items = [clean_line(plain(item)) for item in _items(value)]
    if len(items) == 1 and not isinstance(value, list | tuple):
        items = _BETWEEN_NAMES.split(items[0])
        if len(items) == 1 and not _IN_WORDS.search(items[0]):  # codes: "cs.LG stat.ML"
            items = items[0].split()
    names = (_WITHIN_NAME.sub("-", item.strip()) for item in items)
    return " ".join(dict.fromkeys(name for name in names if name))


def _items(value: object) -> list[Any]:
    """The members of a list, also of one written as JSON in a cell; a single value is a list of one."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        with contextlib.suppress(ValueError, RecursionError):
            value = json.loads(value)
    if isinstance(value, list | tuple):
        return list(value)
    return [] if value is None else [value]


def plain(value: object) -> str:
    """Plain text of a cell: "" for null, NaN and things that are no text (objects, lists)."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if value is None or value != value or isinstance(value, dict | list | tuple):  # noqa: PLR0124  NaN
        return ""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    try:
        return str(value)
    except ValueError:  # an integer of more digits than Python prints
        return ""
