"""From a file to a corpus and back: rows are read, cleaned and compared one at a time, and wait on disk."""

from __future__ import annotations

import csv
import hashlib
import itertools
import json
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from operator import attrgetter
from pathlib import Path

from sae_core.corpus.columns import choose_columns
from sae_core.corpus.document import Document, has_derived_title, normalise_title, read_document
from sae_core.corpus.doubles import Doubles
from sae_core.corpus.lazy import Lazy, OnDisk
from sae_core.corpus.rows import EXCERPT, Record, Rows, Unreadable, read_file
from sae_core.corpus.text import clean_line
from sae_core.corpus.values import plain
from sae_core.errors import CorpusError
from sae_core.files import drafted, explain_write_errors

Rejected = tuple[int, str, str]  # row number, reason, excerpt

_ROW_GROUP = 10_000


@dataclass(frozen=True)
class Corpus:
    """Usable documents in the order of the file, and what was wrong with the other rows.

    Every row that was read is a document or rejected; rows are numbered from 1, header and blank lines
    not counted. What `load_corpus` gives lies on disk: a document is made each time it is asked for.
    """

    documents: Sequence[Document]
    rejected: Sequence[Rejected]
    repaired: dict[str, int] = field(default_factory=dict)  # kind of repair -> rows that needed it

    @property
    def texts(self) -> Sequence[str]:
        """What is embedded of each document, made when it is asked for."""
        return _Texts(self.documents)

    @property
    def n_rows(self) -> int:
        """Rows that were read."""
        return len(self.documents) + len(self.rejected)

    @property
    def rows(self) -> list[int]:
        """Position from 0 of each document among the rows read: which row of --embeddings is its own."""
        refused = {number - 1 for number, _, _ in self.rejected}
        return [position for position in range(self.n_rows) if position not in refused]

    def counts(self) -> dict[str, int]:
        """Rejected rows by reason, the commonest reason first."""
        return dict(Counter(reason for _, reason, _ in self.rejected).most_common())

    def fingerprint(self) -> str:
        """sha256 over ids and texts in order, hex: equal exactly where the embeddings would be."""
        digest = hashlib.sha256()
        for document in self.documents:
            for part in (document.id, document.text):
                raw = part.encode()
                digest.update(len(raw).to_bytes(8, "little") + raw)
        return digest.hexdigest()


class _Texts(Lazy[str]):
    def __init__(self, documents: Sequence[Document]) -> None:
        self._documents = documents

    def __len__(self) -> int:
        return len(self._documents)

    def item(self, at: int) -> str:
        return self._documents[at].text


# --- in ----------------------------------------------------------------------------------------


def load_corpus(
    path: str | Path,
    *,
    mapping: Mapping[str, str] | None = None,
    limit: int | None = None,
    folder: Path | None = None,
) -> Corpus:
    """Read `path` (.parquet, .csv, .tsv, .jsonl, .ndjson, .json; text also .gz; "-": JSONL on stdin).

    `mapping` names columns that have unusual names: {"title": "Name"}. `limit` stops the reading after
    that many usable documents. Invalid UTF-8 is replaced by U+FFFD and counted in `repaired`; abstracts
    longer than MAX_ABSTRACT characters are shortened and counted there too.

    The documents wait in a nameless file in `folder` (None: where the system has temporary files). Memory
    holds some 50 bytes for each, to tell doubles.

    Raises CorpusError for a file that cannot be read, columns that cannot be found, or no usable document;
    ArtifactError where the disk is full.
    """
    import pyarrow as pa  # not at the top: the server needs Document only

    name = "standard input" if str(path) == "-" else str(path)
    try:
        rows = read_file(path, name, lambda columns: choose_columns(columns, mapping or {}, name))
        return collect_corpus(rows, name, limit=limit, folder=folder)
    except FileNotFoundError as error:
        raise CorpusError(f"There is no file {name}.", remedy="Check the path.") from error
    except (OSError, EOFError, zlib.error, csv.Error, pa.ArrowException) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CorpusError(
            f"{name} could not be read: {reason.rstrip('.')}.",
            remedy="Check that the file is whole and that its ending says what it is.",
        ) from error


def collect_corpus(rows: Rows, name: str, *, limit: int | None = None, folder: Path | None = None) -> Corpus:
    """The corpus of rows from anywhere, as `load_corpus` makes it of a file; `name` says where from.

    Each row has the fields of `Document`, with values of any kind; `limit` ends the reading.
    """
    if limit is not None and limit < 1:
        raise CorpusError(f"A limit of {limit} documents leaves nothing.", remedy="Give 1 or more.")
    builder = _Builder(folder)
    for number, row in enumerate(rows, start=1):
        builder.add(number, row)
        if len(builder.documents) == limit:
            break
    corpus = Corpus(builder.documents, builder.rejected, dict(builder.repaired))
    if not corpus.documents:
        raise _no_documents(name, corpus)
    return corpus


def _no_documents(name: str, corpus: Corpus) -> CorpusError:
    why = ", ".join(f"{n:,} {reason}" for reason, n in corpus.counts().items())
    found = f"{corpus.n_rows:,} rows rejected ({why})" if why else "it has no rows"
    return CorpusError(
        f"No usable document in {name}: {found}.",
        remedy="Each row needs a text; other column names are given as --map abstract=NAME.",
    )


class _Builder:
    """Collects documents, and refuses rows that are empty or there already."""

    def __init__(self, folder: Path | None) -> None:
        documents = OnDisk(_PARTS, lambda parts: Document(*parts), folder)
        self.documents = documents
        self.rejected: OnDisk[Rejected] = OnDisk(tuple, lambda parts: (parts[0], parts[1], parts[2]), folder)
        self.repaired: Counter[str] = Counter()
        self._ids = Doubles(lambda at: documents[at].id)  # not by way of self: their memory goes at once
        self._titles = Doubles(lambda at: known_by(documents[at])[0])

    def add(self, number: int, row: Record | Unreadable) -> None:
        if isinstance(row, Unreadable):
            return self._reject(number, row.reason, row.raw)
        read = read_document(row)
        if read is None:
            excerpt = clean_line(plain(row.get("title"))) or plain(row.get("id"))
            return self._reject(number, "empty text", excerpt)
        document, repairs = read
        if document.id in self._ids:
            return self._reject(number, "duplicate id", f"{document.id}: {document.title}")
        same, what = known_by(document)
        if same in self._titles:
            return self._reject(number, f"duplicate {what}", document.title)
        position = len(self.documents)
        self._ids.add(document.id, position)
        self._titles.add(same, position)
        self.repaired.update(repairs)
        self.documents.append(document)
        return None

    def _reject(self, number: int, reason: str, excerpt: str) -> None:
        self.rejected.append((number, reason, clean_line(excerpt)[:EXCERPT]))


_PARTS = attrgetter(*(part.name for part in fields(Document)))


def known_by(document: Document) -> tuple[str, str]:
    """What no two documents have in common, and what that is: the title, or the text it was made from."""
    if has_derived_title(document):
        return normalise_title(document.abstract), "text"
    return normalise_title(document.title), "title"


# --- out ---------------------------------------------------------------------------------------


def save_corpus(documents: Iterable[Document], path: Path, notes: Mapping[str, str] | None = None) -> None:
    """Write `documents` as parquet, whole or not at all. `load_corpus` gives the same documents back.

    Memory holds _ROW_GROUP of them at a time. `notes` go into the metadata of the file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    text = pa.string()
    schema = pa.schema(
        [("id", text), ("title", text), ("abstract", text), ("year", pa.int32()), ("venue", text),
         ("authors", text), ("categories", text), ("url", text), ("citations", pa.int64()), ("doi", text)],
        metadata=notes and dict(notes),
    )  # fmt: skip
    remaining = iter(documents)
    with explain_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with drafted(path) as draft, pq.ParquetWriter(draft, schema, compression="zstd") as writer:
            while group := list(itertools.islice(remaining, _ROW_GROUP)):
                columns = [pa.array([getattr(d, f.name) for d in group], f.type) for f in schema]
                writer.write_table(pa.table(columns, schema=schema))


def write_rejected(corpus: Corpus, path: Path) -> None:
    """Write the rejected rows as JSONL: {"row", "reason", "excerpt"}. No rejected row: an empty file."""
    with explain_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with drafted(path) as draft, draft.open("w", encoding="utf-8") as file:
            for row, reason, excerpt in corpus.rejected:
                line = {"row": row, "reason": reason, "excerpt": excerpt}
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
