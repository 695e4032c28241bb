"""The documents of an artifact, read from its catalogue: by position, by id, by the words they have.

The catalogue is an immutable SQLite file that the app writes (`app/catalog.py`), with lists of its own in it.
What it says of documents is asked here, by plain SQL on a connection that only reads, so that the library can
say titles, and the app asks the same questions over connections of its own. Words that people type reach FTS5
only as quoted tokens, and only a bounded number of matches is ranked.
"""

from __future__ import annotations

import itertools
import re
import sqlite3
import threading
from dataclasses import fields
from typing import TYPE_CHECKING
from urllib.parse import quote

import numpy as np

from sae_core.corpus import Document
from sae_core.errors import ArtifactError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

FILE_NAME = "catalogue.sqlite"
SCHEMA = 2
MAX_TOKENS = 12
MAX_KEYWORD_MATCHES = 20_000  # ranked for a text of which the answer is kept: some hundredths of a second
N_KEYWORD_HITS = 1_000
N_SAMPLED = 2_000  # first documents, in which one sees whether a word is everywhere
TOO_COMMON = 0.25  # share of the sample
MAX_AT_ONCE = 1_000  # documents read by one statement: SQLite bounds its parameters
MAX_POSITION = 2**63 - 1

_PRAGMAS = ("query_only = ON", "trusted_schema = OFF", "mmap_size = 268435456", "temp_store = MEMORY")
_TOKEN = re.compile(r"[^\W_]+")
_IN_TEXT = "{title abstract} :"  # of the columns of documents_fts
_FIELDS = ", ".join(field.name for field in fields(Document))
_AGAIN = "Run `saefari build` again."

# The inner LIMIT bounds what is ranked.
_KEYWORD_HITS = (
    "SELECT position FROM (SELECT rowid AS position, bm25(documents_fts, 4, 1, 0) AS fit FROM documents_fts "
    "WHERE documents_fts MATCH ? LIMIT ?) ORDER BY fit, position LIMIT ?"
)
_N_WITH_WORD = (
    "SELECT count(*) FROM (SELECT 1 FROM documents_fts WHERE documents_fts MATCH ? AND rowid < ? LIMIT ?)"
)


def connect(path: Path) -> sqlite3.Connection:
    """A connection that only reads, for any thread; ArtifactError for a file that cannot be asked."""
    if not path.is_file():
        raise ArtifactError(f"The catalogue {path} is missing.", remedy=_AGAIN)
    uri = f"file:{quote(str(path.resolve()))}?mode=ro&immutable=1"
    connection = sqlite3.connect(uri, uri=True, check_same_thread=False, cached_statements=256)
    try:
        for pragma in _PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")
        (schema,) = connection.execute("PRAGMA user_version").fetchone()
    except sqlite3.DatabaseError as error:
        connection.close()
        raise ArtifactError(f"The catalogue {path} is damaged: {error}.", remedy=_AGAIN) from error
    if schema != SCHEMA:
        connection.close()
        raise ArtifactError(
            f"The catalogue {path} has schema {schema}, this version reads {SCHEMA}.",
            remedy="Run `saefari build` again with this version.",
        )
    return connection


def read_documents(connection: sqlite3.Connection, positions: Sequence[int]) -> dict[int, Document]:
    """The documents at these positions, as far as they are there."""
    found: dict[int, Document] = {}
    for start in range(0, len(positions), MAX_AT_ONCE):
        some = list(positions[start : start + MAX_AT_ONCE])
        asked = f"SELECT position, {_FIELDS} FROM documents WHERE position IN ({_marks(some)})"  # noqa: S608
        found |= {position: Document(*values) for position, *values in connection.execute(asked, some)}
    return found


def find_positions(connection: sqlite3.Connection, ids: Sequence[str]) -> dict[str, int]:
    """By id, where the documents are that are here."""
    found: dict[str, int] = {}
    for start in range(0, len(ids), MAX_AT_ONCE):
        some = list(ids[start : start + MAX_AT_ONCE])
        asked = f"SELECT id, position FROM documents WHERE id IN ({_marks(some)})"  # noqa: S608 (marks)
        found |= dict(connection.execute(asked, some).fetchall())
    return found


def _marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))


# --- words ----------------------------------------------------------------------------------------


def tokens_of(text: str) -> tuple[str, ...]:
    """The words of a text that are looked for: each once, in order, the first few."""
    return tuple(dict.fromkeys(_words(text.casefold())))[:MAX_TOKENS]


def words_of(text: str) -> list[str]:
    """The words of a text as they stand there, the first few."""
    return _words(text)[:MAX_TOKENS]


def _words(text: str) -> list[str]:
    """Runs of letters and digits: nothing in them is an operator of FTS5."""
    return _TOKEN.findall(text.replace("\0", " "))


def keyword_hits(connection: sqlite3.Connection, tokens: Sequence[str]) -> NDArray[np.int64]:
    """Positions of at most a thousand documents with these words, best match (BM25) first.

    A document needs one of the rarer words in its title or abstract; where all are common, it needs all.
    Words that are everywhere do not count; where there are no others, the rarest does.
    """
    match = _keyword_match(connection, tokens)
    if not match:
        return np.empty(0, dtype=np.int64)
    found = connection.execute(_KEYWORD_HITS, (match, MAX_KEYWORD_MATCHES, N_KEYWORD_HITS))
    return np.fromiter((position for (position,) in found), dtype=np.int64)


def _keyword_match(connection: sqlite3.Connection, tokens: Sequence[str]) -> str:
    """An FTS5 expression for the documents that have a text's words; "" where there are none."""

    def n_with(token: str, end: int, bound: int) -> int:
        return int(connection.execute(_N_WITH_WORD, (f'{_IN_TEXT} "{token}"', end, bound)).fetchone()[0])

    (n_sampled,) = connection.execute(
        "SELECT count(*) FROM documents WHERE position < ?", (N_SAMPLED,)
    ).fetchone()
    seen = {token: n_with(token, N_SAMPLED, N_SAMPLED) for token in tokens}
    telling = [token for token in tokens if seen[token] <= TOO_COMMON * n_sampled]
    telling = telling or sorted(tokens, key=seen.__getitem__)[:1]
    counts = {token: n_with(token, MAX_POSITION, MAX_KEYWORD_MATCHES + 1) for token in telling}
    present = sorted((token for token, n in counts.items() if n), key=lambda token: counts[token])
    totals = itertools.accumulate(counts[token] for token in present)
    rare = [token for token, n in zip(present, totals, strict=True) if n <= MAX_KEYWORD_MATCHES]
    if not present:
        return ""
    if not rare:
        return f"{_IN_TEXT} ({joined(present, 'AND')})"
    # Common words find nothing by themselves, but count where a rarer one is.
    also = "" if len(rare) == len(present) else f" AND ({joined(present, 'OR')})"
    return f"{_IN_TEXT} (({joined(rare, 'OR')}){also})"


def joined(tokens: Sequence[str], operator: str) -> str:
    """Quoted tokens between FTS5's AND or OR."""
    return f" {operator} ".join(f'"{token}"' for token in tokens)


# --- for the library ------------------------------------------------------------------------------


class Texts:
    """The documents of one catalogue, over one connection that threads take turns with."""

    def __init__(self, path: Path) -> None:
        self._connection, self._lock = connect(path), threading.Lock()

    def documents(self, positions: Sequence[int]) -> list[Document]:
        """The documents at these positions, in this order."""
        with self._lock:
            found = read_documents(self._connection, positions)
        return [found[position] for position in positions]

    def find_positions(self, ids: Sequence[str]) -> dict[str, int]:
        """By id, where the documents are that are here."""
        with self._lock:
            return find_positions(self._connection, ids)

    def keyword_hits(self, text: str) -> NDArray[np.int64]:
        """Positions of at most a thousand documents with the words of a text, best match first."""
        with self._lock:
            return keyword_hits(self._connection, tokens_of(text))

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()
