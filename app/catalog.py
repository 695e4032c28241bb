"""The catalogue: documents and feature lists in one immutable SQLite file.

`write_catalogue` makes it during a build; `Catalog` reads it. The file is never changed afterwards, so it
is opened as immutable, shared by all threads, and needs no lock. Words that people type reach FTS5 only as
quoted tokens, and only a bounded number of matches is ranked.
"""

from __future__ import annotations

import errno
import itertools
import json
import random
import re
import shutil
import sqlite3
import time
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError

from sae_core import texts
from sae_core.cache import Cache
from sae_core.corpus import Document
from sae_core.errors import SaefariError

if TYPE_CHECKING:
    from app.query import FeatureQuery
    from sae_core.explorer import FeatureSet

FILE_NAME, SCHEMA = texts.FILE_NAME, texts.SCHEMA
SECONDS_PER_REQUEST = 1.0
_PRIMARY = 0xFF  # of an extended error code of SQLite
MAX_RECENT = 4096  # documents kept in memory: while a slider moves, most of a page stays
MAX_RANKED = 2_000  # ranking every match of a common word takes most of a second at 420k documents
MAX_KEYWORD_TEXTS = 256

_METADATA = sa.MetaData()
_DOCUMENTS = sa.Table(
    "documents",
    _METADATA,
    sa.Column("position", sa.Integer, primary_key=True),
    *[sa.Column(name, sa.Text, nullable=False) for name in ("id", "title", "abstract")],
    sa.Column("year", sa.Integer),
    *[sa.Column(name, sa.Text, nullable=False) for name in ("venue", "authors", "categories", "url")],
    sa.Column("citations", sa.Integer),
    sa.Column("doi", sa.Text, nullable=False),
)
_FEATURES = sa.Table(
    "features",
    _METADATA,
    sa.Column("row", sa.Integer, primary_key=True),
    sa.Column("sae", sa.Text, nullable=False),
    sa.Column("latent", sa.Integer, nullable=False),
    sa.Column("label", sa.Text, nullable=False),  # "" where there is none
    sa.Column("candidates", sa.Text, nullable=False),  # one a line
    sa.Column("label_key", sa.Text, nullable=False),  # sorts like a dictionary
    sa.Column("score", sa.Float),
    sa.Column("n_documents", sa.Integer, nullable=False),
    sa.Column("density", sa.Float, nullable=False),
    sa.Column("max", sa.Float, nullable=False),
    sa.Column("quality", sa.Float, nullable=False),
)
_INDEXES = (
    sa.Index("documents_by_id", _DOCUMENTS.c.id, unique=True),
    sa.Index("features_by_latent", _FEATURES.c.sae, _FEATURES.c.latent, unique=True),
    *[
        sa.Index(f"features_by_{name}", _FEATURES.c.sae, _FEATURES.c[name])
        for name in ("quality", "density", "score", "max", "label_key")
    ],
)
for _table in (_DOCUMENTS, _FEATURES):
    _table.indexes.clear()  # or create_all would make them before the rows are there

_WORDS = "tokenize = 'porter unicode61 remove_diacritics 2'"
_FULL_TEXT = (
    f"""CREATE VIRTUAL TABLE documents_fts USING fts5(title, abstract, authors,
        content = 'documents', content_rowid = 'position', {_WORDS})""",
    "INSERT INTO documents_fts (documents_fts) VALUES ('rebuild')",
    f"""CREATE VIRTUAL TABLE features_fts USING fts5(label, candidates,
        content = 'features', content_rowid = 'row', {_WORDS})""",
    "INSERT INTO features_fts (features_fts) VALUES ('rebuild')",
)


Said = Mapping[int, str]  # by latent
NOTHING_SAID: Said = MappingProxyType({})


class CatalogTimeout(SaefariError):
    """A question to the catalogue that took longer than a request may."""


# --- writing ------------------------------------------------------------------------------------


def write_catalogue(path: Path, documents: Sequence[Document], feature_sets: Iterable[FeatureSet]) -> None:
    """Write the catalogue of a collection: the documents by position, the features of each SAE.

    A file that is there is replaced; nothing else may have it open. Raises OSError where the disk is full
    or fails: the build that calls this throws the folder away then.
    """
    path.unlink(missing_ok=True)
    with _writing(path) as connection:
        connection.exec_driver_sql(f"PRAGMA user_version = {SCHEMA}")
        _METADATA.create_all(connection)
        rows = _document_rows(documents)
        while some := list(itertools.islice(rows, texts.MAX_AT_ONCE)):
            connection.execute(_DOCUMENTS.insert(), some)
        for row_offset, feature_set in _with_offsets(feature_sets):
            connection.execute(_FEATURES.insert(), list(_feature_rows(feature_set, row_offset)))
        for index in _INDEXES:
            index.create(connection)
        for statement in _FULL_TEXT:
            connection.exec_driver_sql(statement)


def rewrite_features(old: Path, new: Path, feature_sets: Iterable[FeatureSet]) -> None:
    """Write a catalogue with the documents of `old` and these features, the search by words included."""
    new.unlink(missing_ok=True)
    shutil.copyfile(old, new)
    with _writing(new) as connection:
        connection.execute(_FEATURES.delete())
        for row_offset, feature_set in _with_offsets(feature_sets):
            connection.execute(_FEATURES.insert(), list(_feature_rows(feature_set, row_offset)))
        connection.exec_driver_sql("INSERT INTO features_fts (features_fts) VALUES ('rebuild')")


@contextmanager
def _writing(path: Path) -> Iterator[sa.Connection]:
    """A connection that may write; at the end all is committed and the planner knows the tables."""
    engine = sa.create_engine(sa.URL.create("sqlite", database=str(path)), poolclass=sa.NullPool)
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA journal_mode = DELETE")
            connection.commit()
            yield connection
            connection.commit()
            connection.exec_driver_sql("ANALYZE")
            connection.commit()
    except sa.exc.OperationalError as error:
        code = getattr(error.orig, "sqlite_errorcode", 0)
        if code & _PRIMARY not in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
            raise
        reason = errno.ENOSPC if code == sqlite3.SQLITE_FULL else errno.EIO
        raise OSError(reason, str(error.orig), str(path)) from error
    finally:
        engine.dispose()


def _document_rows(documents: Sequence[Document]) -> Iterator[dict[str, Any]]:
    names = [column.name for column in _DOCUMENTS.c if column.name != "position"]
    for position, document in enumerate(documents):
        yield {"position": position} | {name: getattr(document, name) for name in names}


def _with_offsets(feature_sets: Iterable[FeatureSet]) -> Iterator[tuple[int, FeatureSet]]:
    offset = 0
    for feature_set in feature_sets:
        yield offset, feature_set
        offset += len(feature_set.labels)


def _feature_rows(feature_set: FeatureSet, offset: int) -> Iterator[dict[str, Any]]:
    table, n_documents = feature_set.features, max(feature_set.codes.n_documents, 1)
    for latent, label in enumerate(feature_set.labels):
        text = label.text if label.source != "none" else ""
        yield {
            "row": offset + latent,
            "sae": feature_set.name,
            "latent": latent,
            "label": text,
            "candidates": "\n".join(candidate.text for candidate in label.candidates),
            "label_key": sort_key(text),
            "score": label.score.auc.value if label.score else None,
            "n_documents": int(table.n_documents_N[latent]),
            "density": int(table.n_documents_N[latent]) / n_documents,
            "max": float(table.max_N[latent]),
            "quality": float(feature_set.quality_N[latent]),
        }


def sort_key(text: str) -> str:
    """Alphabetical order without case and accents; texts without letters come last."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(c))
    stripped = re.sub(r"^\W+", "", plain)
    return stripped or "\U0010ffff"


# --- reading ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Listing:
    """One page of a list, and how many there are in all."""

    latents: list[int]
    total: int


class Catalog:
    """What a catalogue knows. Safe to use from many threads; never writes.

    Raises ArtifactError if the file is missing, damaged or of another schema, and CatalogTimeout when a
    question takes more than `SECONDS_PER_REQUEST`, unless nobody waits for it (`is_timed` is False).
    """

    def __init__(self, path: Path, *, is_timed: bool = True) -> None:
        self.path = path
        self._recent: Cache[Document] = Cache(MAX_RECENT, lambda _: 1)
        self._positions: Cache[int] = Cache(MAX_RECENT, lambda _: 1)
        self._keyword_hits: Cache[NDArray[np.int64]] = Cache(MAX_KEYWORD_TEXTS, lambda _: 1)
        self._engine = sa.create_engine(
            "sqlite://",
            creator=partial(texts.connect, path),
            poolclass=sa.QueuePool,
            pool_size=16,
            max_overflow=48,
            isolation_level="AUTOCOMMIT",
        )
        if is_timed:
            event.listen(self._engine, "checkout", _start_clock)
        with self._connection():
            pass  # the first connection looks at the file

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def _connection(self) -> Iterator[sa.Connection]:
        try:
            with self._engine.connect() as connection:
                yield connection
        except (DBAPIError, sqlite3.Error) as error:
            if "interrupted" in str(error):
                raise CatalogTimeout(
                    f"This question to the catalogue took more than {SECONDS_PER_REQUEST:g} s.",
                    remedy="Ask for fewer or rarer words.",
                ) from error
            raise

    @contextmanager
    def _plain(self) -> Iterator[sqlite3.Connection]:
        """A connection of the pool for what the library asks of documents."""
        with self._connection() as connection:
            yield cast("sqlite3.Connection", connection.connection.driver_connection)

    # documents

    def documents(self, positions: Sequence[int], *, are_kept: bool = True) -> list[Document]:
        """The documents at these positions, in this order. One statement at most for a page of them.

        They are kept for the next who asks, unless there are so many that they would drive out all others.
        """
        found = {position: self._recent.get(position) for position in positions}
        missing = [position for position, document in found.items() if document is None]
        for start in range(0, len(missing), texts.MAX_AT_ONCE):
            some = missing[start : start + texts.MAX_AT_ONCE]
            with self._plain() as connection:
                read = texts.read_documents(connection, some)
            found |= read
            for position, document in read.items() if are_kept else ():
                self._recent.put(position, document)
        return [each for position in positions if (each := found[position]) is not None]

    def find_position(self, document: str) -> int | None:
        """The position of the document with this id."""
        return self.find_positions([document]).get(document)

    def find_positions(self, documents: Sequence[str]) -> dict[str, int]:
        """By id, where those of at most a thousand documents are that are here. One statement at most."""
        found = {document: self._positions.get(document) for document in documents}
        missing = [document for document, position in found.items() if position is None]
        if missing:
            with self._plain() as connection:
                read = texts.find_positions(connection, missing)
            for document, position in read.items():
                self._positions.put(document, position)
                found[document] = position
        return {document: position for document, position in found.items() if position is not None}

    def find_documents(self, words: str, limit: int = 10) -> list[tuple[str, str]]:
        """Id and title of documents that have all these words, best match first."""
        match = fts_match(words)
        if not match:
            return []
        parameters = {"match": match, "bound": MAX_RANKED, "limit": limit}
        with self._connection() as connection:
            return [(row[0], row[1]) for row in connection.execute(_DOCUMENTS_WITH, parameters)]

    def keyword_hits(self, text: str) -> NDArray[np.int64]:
        """Positions of at most a thousand documents with words of a text, best match (BM25) first; cached.

        A document needs one of the text's rarer words in its title or abstract; where all are common, it
        needs all. Words that are everywhere do not count; where there are no others, the rarest does.
        """
        tokens = texts.tokens_of(text)
        if (known := self._keyword_hits.get(tokens)) is None:
            with self._plain() as connection:
                known = texts.keyword_hits(connection, tokens)
            self._keyword_hits.put(tokens, known)
        return known

    # features

    def features(
        self, query: FeatureQuery, size: int, most: int | None = None, said: Said = NOTHING_SAID
    ) -> Listing:
        """The latents on this page of a feature list with `size` on each, or `most` from its first on.

        `said` has the labels that hold in place of those of the build, "" where that is rejected.
        """
        conditions, start, most = _feature_conditions(query, said), (query.page - 1) * size, most or size
        chosen = sa.select(_FEATURES.c.latent).where(*conditions)
        page = chosen.order_by(*_ORDERS[query.sort]).limit(most).offset(start)
        count = sa.select(sa.func.count()).select_from(_FEATURES).where(*conditions)
        with self._connection() as connection:
            if said and query.sort == "label":
                rows = connection.execute(chosen.add_columns(_FEATURES.c.label_key))
                ordered = _by_label(rows, said)
                return Listing(ordered[start : start + most], len(ordered))
            latents = [int(latent) for latent in connection.execute(page).scalars()]
            return Listing(latents, int(connection.execute(count).scalar_one()))

    def find_features(self, sae: str, words: str, limit: int = 12, said: Said = NOTHING_SAID) -> list[int]:
        """Living latents whose label or candidate phrases have the words: all of them, or else any.

        Those come first that people call so.
        """
        theirs = _said_with(words, said)[:limit]
        rest = [latent for latent in self._features_with(sae, words, limit) if latent not in theirs]
        return [*theirs, *rest][:limit]

    def _features_with(self, sae: str, words: str, limit: int) -> list[int]:
        for every in (True, False):
            match = fts_match(words, every=every)
            if not match:
                return []
            parameters = {"sae": sae, "match": match, "bound": MAX_RANKED, "limit": limit}
            with self._connection() as connection:
                found = [int(latent) for latent in connection.execute(_FEATURES_WITH, parameters).scalars()]
            if found:
                return found
        return []

    def random_feature(self, sae: str) -> int | None:
        """Some living latent."""
        living = (_FEATURES.c.sae == sae, _FEATURES.c.n_documents > 0)
        with self._connection() as connection:
            n = connection.execute(sa.select(sa.func.count()).where(*living)).scalar_one()
            if not n:
                return None
            nth = sa.select(_FEATURES.c.latent).where(*living).order_by(_FEATURES.c.latent)
            chosen = random.randrange(n)  # noqa: S311 (not a secret)
            return int(connection.execute(nth.limit(1).offset(chosen)).scalar_one())


def _start_clock(connection: Any, record: Any, proxy: Any) -> None:
    del record, proxy
    deadline = time.monotonic() + SECONDS_PER_REQUEST
    connection.set_progress_handler(lambda: time.monotonic() > deadline, 10_000)


# The inner LIMIT bounds what is ranked.
_DOCUMENTS_WITH = sa.text(
    "SELECT documents.id, documents.title FROM "
    "(SELECT rowid AS position, bm25(documents_fts, 8, 1, 2) AS fit FROM documents_fts "
    "WHERE documents_fts MATCH :match LIMIT :bound) AS found "
    "JOIN documents USING (position) ORDER BY found.fit, documents.position LIMIT :limit"
)
_FEATURES_WITH = sa.text(
    "SELECT features.latent FROM (SELECT rowid AS row, bm25(features_fts, 4, 1) AS fit "
    "FROM features_fts WHERE features_fts MATCH :match "
    "AND rowid BETWEEN (SELECT min(row) FROM features WHERE sae = :sae) "
    "AND (SELECT max(row) FROM features WHERE sae = :sae) LIMIT :bound) AS found "
    "JOIN features USING (row) WHERE features.sae = :sae AND features.n_documents > 0 "
    "ORDER BY found.fit - features.quality, features.latent LIMIT :limit"
)
_HAS_WORDS = sa.text("features.row IN (SELECT rowid FROM features_fts WHERE features_fts MATCH :match)")

_ORDERS: dict[str, tuple[sa.ColumnElement[Any], ...]] = {
    "quality": (_FEATURES.c.quality.desc(), _FEATURES.c.latent),
    "density": (_FEATURES.c.density.desc(), _FEATURES.c.latent),
    "score": (_FEATURES.c.score.desc(), _FEATURES.c.latent),  # NULL is smallest, so unscored ones come last
    "max": (_FEATURES.c.max.desc(), _FEATURES.c.latent),
    "label": (_FEATURES.c.label_key, _FEATURES.c.latent),
}


def _by_label(rows: Iterable[Sequence[Any]], said: Said) -> list[int]:
    """The latents of (latent, key of its label by a build), in the order of the labels that hold."""
    keys = {latent: sort_key(said[latent]) if latent in said else key for latent, key in rows}
    return sorted(keys, key=lambda latent: (keys[latent], latent))


def _among(latents: Iterable[int]) -> sa.ColumnElement[bool]:
    """The feature is one of these: as one variable, of which a statement has no more than 32,766."""
    listed = sa.func.json_each(json.dumps(list(latents))).table_valued("value")
    return _FEATURES.c.latent.in_(sa.select(listed.c.value))


def _said_with(words: str, said: Said) -> list[int]:
    """Features that people call something in which all words are, each at the beginning of one."""
    wanted = [sort_key(word) for word in texts.words_of(words)]

    def fits(text: str) -> bool:
        has = [sort_key(word) for word in texts.words_of(text)]
        return all(any(word.startswith(each) for word in has) for each in wanted)

    return [latent for latent, text in sorted(said.items()) if text and fits(text)] if wanted else []


def _feature_conditions(query: FeatureQuery, said: Said) -> list[sa.ColumnElement[bool]]:
    conditions: list[sa.ColumnElement[bool]] = [_FEATURES.c.sae == query.sae]
    if not query.dead:
        conditions.append(_FEATURES.c.n_documents > 0)
    if query.labelled:
        named = [latent for latent, text in said.items() if text]
        conditions.append(((_FEATURES.c.label != "") & ~_among(said)) | _among(named))
    if query.min_density is not None:
        conditions.append(_FEATURES.c.density >= query.min_density)
    if query.max_density is not None:
        conditions.append(_FEATURES.c.density <= query.max_density)
    if query.words:
        match = fts_match(query.words)
        has_words = _HAS_WORDS.bindparams(match=match) if match else sa.false()
        conditions.append(sa.or_(has_words, _among(_said_with(query.words, said))))
    return conditions


def fts_match(words: str, *, every: bool = True) -> str:
    """An FTS5 expression for words as people type them; "" if there is nothing to look for.

    Every token is quoted, so that no operator, column name or odd character of theirs is one of FTS5's;
    the last one may be the beginning of a word.
    """
    tokens = texts.words_of(words)
    return texts.joined(tokens, "AND" if every else "OR") + "*" if tokens else ""
