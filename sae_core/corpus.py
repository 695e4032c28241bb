"""Documents in: parquet, CSV and JSONL become checked, cleaned, de-duplicated `Document`s.

Nothing is dropped in silence: a row that cannot be used is kept in `Corpus.rejected` with its reason,
and a row that was used after a repair is counted in `Corpus.repaired`.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import hashlib
import html
import itertools
import json
import re
import sys
import unicodedata
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from sae_core.errors import CorpusError
from sae_core.files import drafted, explain_write_errors, write_atomic

MAX_ABSTRACT = 20_000  # characters; the encoder reads the first few hundred words, a page shows no more
MAX_TITLE = 500
MAX_ID = 200
MAX_FIELD = 4_000  # authors, categories, url
MAX_COUNT = 2**63 - 1  # what SQLite can hold
FIRST_YEAR, LAST_YEAR = 1500, 2100

# Usual names of each field, the most telling first, compared without case and punctuation.
USUAL_NAMES: dict[str, tuple[str, ...]] = {
    "id": ("id", "paperid", "arxivid", "documentid", "docid", "articleid", "corpusid", "pmid", "doi",
           "identifier", "uid", "uuid", "key"),
    "title": ("title", "papertitle", "articletitle", "name", "headline", "heading"),
    "abstract": ("abstract", "text", "summary", "body", "description", "content", "abstracttext", "fulltext"),
    "year": ("year", "publicationyear", "pubyear", "date", "published", "publicationdate", "pubdate",
             "publishedat", "publisheddate", "createdat", "created", "updated"),
    "venue": ("venue", "journal", "journalname", "journaltitle", "journalref", "booktitle", "conference",
              "containertitle", "series", "publisher", "source"),
    "authors": ("authors", "author", "authornames", "authorlist", "creators", "creator"),
    "categories": ("categories", "category", "fieldsofstudy", "subjects", "keywords", "tags"),
    "url": ("url", "link", "href", "uri", "paperurl", "webpage"),
    "citations": ("citations", "citationcount", "ncitations", "numcitations", "citedbycount", "citedby",
                  "timescited"),
    "doi": ("doi",),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Document:
    """One text of the corpus, cleaned. Unknown values are "" or None, never a guess."""

    id: str
    title: str
    abstract: str
    year: int | None = None
    venue: str = ""
    authors: str = ""  # joined by "; "
    categories: str = ""  # joined by " "
    url: str = ""  # http or https, or ""
    citations: int | None = None
    doi: str = ""  # as 10.1000/182, or ""

    @property
    def text(self) -> str:
        """What is embedded: title, blank line, abstract."""
        return f"{self.title}\n\n{self.abstract}"


@dataclass(frozen=True)
class Corpus:
    """Usable documents in the order of the file, and what was wrong with the other rows.

    Every row that was read is a document or rejected; rows are numbered from 1, header and blank lines
    not counted.
    """

    documents: list[Document]
    rejected: list[tuple[int, str, str]]  # row number, reason, excerpt
    repaired: dict[str, int] = field(default_factory=dict)  # kind of repair -> rows that needed it

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


# --- in and out --------------------------------------------------------------------------------


def load_corpus(
    path: str | Path, *, mapping: Mapping[str, str] | None = None, limit: int | None = None
) -> Corpus:
    """Read `path` (.parquet, .csv, .tsv, .jsonl, .ndjson, .json; text also .gz; "-": JSONL on stdin).

    `mapping` names columns that have unusual names: {"title": "Name"}. `limit` stops the reading after
    that many usable documents. Invalid UTF-8 is replaced by U+FFFD and counted in `repaired`; abstracts
    longer than MAX_ABSTRACT characters are shortened and counted there too.

    Raises CorpusError for a file that cannot be read, columns that cannot be found, or no usable document.
    """
    if limit is not None and limit < 1:
        raise CorpusError(f"A limit of {limit} documents leaves nothing.", remedy="Give 1 or more.")
    import pyarrow as pa  # not at the top: the server needs Document only

    name = "standard input" if str(path) == "-" else str(path)
    builder = _Builder()
    try:
        rows = _read(path, name, lambda columns: _choose(columns, mapping or {}, name))
        for number, row in enumerate(rows, start=1):
            builder.add(number, row)
            if len(builder.documents) == limit:
                break
    except FileNotFoundError as error:
        raise CorpusError(f"There is no file {name}.", remedy="Check the path.") from error
    except (OSError, EOFError, zlib.error, csv.Error, pa.ArrowException) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CorpusError(
            f"{name} could not be read: {reason.rstrip('.')}.",
            remedy="Check that the file is whole and that its ending says what it is.",
        ) from error
    if not builder.documents:
        raise _no_documents(name, builder)
    return Corpus(builder.documents, builder.rejected, dict(builder.repaired))


def _no_documents(name: str, builder: _Builder) -> CorpusError:
    counts = Counter(reason for _, reason, _ in builder.rejected)
    why = ", ".join(f"{n:,} {reason}" for reason, n in counts.most_common())
    found = f"{len(builder.rejected):,} rows rejected ({why})" if counts else "it has no rows"
    return CorpusError(
        f"No usable document in {name}: {found}.",
        remedy="Each row needs a text; other column names are given as --map abstract=NAME.",
    )


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


_ROW_GROUP = 10_000


def write_rejected(corpus: Corpus, path: Path) -> None:
    """Write the rejected rows as JSONL: {"row", "reason", "excerpt"}. No rejected row: an empty file."""
    lines = (
        json.dumps({"row": row, "reason": reason, "excerpt": excerpt}, ensure_ascii=False) + "\n"
        for row, reason, excerpt in corpus.rejected
    )
    _write(path, "".join(lines).encode())


def _write(path: Path, content: bytes) -> None:
    with explain_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, content)


def read_rows(
    path: Path, wanted: Mapping[str, Sequence[str]], optional: Sequence[str] = ()
) -> Iterator[_Record]:
    """Rows of any table that `load_corpus` can read, each with the fields of `wanted`.

    `wanted` names the columns that a field may be called, the likeliest first; a field of `optional` is None
    where there is none. Raises CorpusError for a file without the others, or with a row that is not readable.
    """

    def choose(columns: Sequence[str]) -> dict[str, str]:
        chosen = {}
        for key, names in wanted.items():
            found = next((name for name in names if name in columns), None)
            if found is not None:
                chosen[key] = found
            elif key not in optional:
                seen = ", ".join(column[:40] for column in columns)
                raise CorpusError(
                    f"{path} has no column for {key}; its columns: {seen}.", remedy=f"Call it {names[0]}."
                )
        return chosen

    try:
        for number, row in enumerate(_read(path, str(path), choose), start=1):
            if isinstance(row, _Unreadable):
                raise CorpusError(f"Row {number} of {path}: {row.reason}.", remedy="Repair or remove it.")
            yield {**dict.fromkeys(optional), **row}
    except OSError as error:
        raise CorpusError(f"{path} could not be read: {error.strerror}.", remedy="Check the path.") from error


# --- reading rows ------------------------------------------------------------------------------

_Record = dict[str, Any]  # field of Document -> value as the file has it


@dataclass(frozen=True, slots=True)
class _Unreadable:
    reason: str
    raw: str


_Rows = Iterator[_Record | _Unreadable]
_Choose = Callable[[Sequence[str]], dict[str, str]]

_PARQUET = (".parquet", ".pq")
_TABLES = (".csv", ".tsv")
_LINES = (".jsonl", ".ndjson", ".json")


def _read(path: str | Path, name: str, choose: _Choose) -> _Rows:
    if name == "standard input":
        yield from _jsonl_rows(sys.stdin.buffer, name, choose)
        return
    path = Path(path)
    if path.is_dir():
        raise CorpusError(f"{name} is a folder, not a file.", remedy="Name one file in it.")
    suffixes = [suffix.lower() for suffix in path.suffixes]
    zipped = suffixes[-1:] == [".gz"]
    kind = suffixes[-2] if zipped and len(suffixes) > 1 else (suffixes or [""])[-1]
    if kind in _PARQUET and not zipped:
        yield from _parquet_rows(path, choose)
    elif kind in _TABLES + _LINES:
        opener: Callable[[Path, str], Any] = gzip.open if zipped else Path.open
        with opener(path, "rb") as file:
            _refuse_utf16(file, name)
            rows = _csv_rows if kind in _TABLES else _jsonl_rows
            yield from rows(file, name, choose)
    else:
        path.stat()  # a missing file is the better message
        ending = "".join(suffixes[-2:]) if zipped else kind
        raise CorpusError(
            f"{name} ends in {ending!r}, which is no known kind of corpus."
            if ending
            else f"{name} has no ending that says what it is.",
            remedy="Use .parquet, .csv, .tsv or .jsonl (text also .gz), or - for JSONL on standard input.",
        )


def _refuse_utf16(file: IO[bytes], name: str) -> None:
    if file.read(2) in (b"\xff\xfe", b"\xfe\xff"):
        raise CorpusError(f"{name} is UTF-16 text.", remedy="Save it as UTF-8.")
    file.seek(0)


def _parquet_rows(path: Path, choose: _Choose) -> _Rows:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        columns = choose(file.schema_arrow.names)
        for batch in file.iter_batches(8192, columns=sorted(set(columns.values()))):
            values = [_arrow_values(batch.column(column)) for column in columns.values()]
            for row in zip(*values, strict=True):
                yield dict(zip(columns, row, strict=True))


def _arrow_values(column: Any) -> list[Any]:
    """Python values of an arrow column; where they have none (bad UTF-8, nanoseconds) bytes or text."""
    import pyarrow as pa

    try:
        return list(column.to_pylist())
    except UnicodeDecodeError:
        return list(column.cast(pa.binary()).to_pylist())
    except (ValueError, OverflowError):
        return list(column.cast(pa.string()).to_pylist())


def _csv_rows(file: IO[bytes], name: str, choose: _Choose) -> _Rows:
    csv.field_size_limit(2**30)
    lines = (line.decode("utf-8", "surrogateescape") for line in file)
    first = next((line for line in lines if line.strip("\ufeff\r\n ")), "").removeprefix("\ufeff")
    if not first:
        raise CorpusError(f"{name} is empty.", remedy="It needs a line of column names, and rows.")
    delimiter = max(",\t;", key=first.count)
    reader = csv.reader(itertools.chain([first], lines), delimiter=delimiter)
    header = [cell.strip() for cell in next(reader)]
    columns = choose(header)
    positions = {wanted: header.index(column) for wanted, column in columns.items()}
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            yield _Unreadable("invalid csv", str(error))
            continue
        if cells is None:
            return
        if not cells:  # a blank line
            continue
        if len(cells) != len(header):
            yield _Unreadable("wrong number of fields", delimiter.join(cells)[:_EXCERPT])
        else:
            yield {wanted: cells[position] for wanted, position in positions.items()}


def _jsonl_rows(file: IO[bytes], name: str, choose: _Choose) -> _Rows:
    """The columns are those of the first 1,000 objects: later objects may leave any of them out."""
    objects = _json_objects(file, name)
    head = list(itertools.islice(objects, 1000))
    seen = {key: None for row in head if isinstance(row, dict) for key in row}
    if not head:
        raise CorpusError(f"{name} is empty.", remedy="It needs one JSON object per line.")
    columns = choose(list(seen)) if seen else {}
    for row in itertools.chain(head, objects):
        if isinstance(row, _Unreadable):
            yield row
        else:
            yield {wanted: row.get(column) for wanted, column in columns.items()}


def _json_objects(file: IO[bytes], name: str) -> Iterator[dict[str, Any] | _Unreadable]:
    for position, raw in enumerate(file):
        line = raw.decode("utf-8", "surrogateescape").strip().removeprefix("\ufeff")
        if not line:
            continue
        if position == 0 and line.startswith("["):
            raise CorpusError(
                f"{name} holds a JSON array, not one object per line.",
                remedy="Convert it, for instance with: jq -c '.[]' FILE > corpus.jsonl",
            )
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            yield _Unreadable("invalid json", line[:_EXCERPT])
            continue
        yield row if isinstance(row, dict) else _Unreadable("not an object", line[:_EXCERPT])


def _choose(columns: Sequence[str], mapping: Mapping[str, str], name: str) -> dict[str, str]:
    """Which column each field is read from: those of `mapping`, then the usual names."""
    wanted = {"abstract" if key == "text" else key: column for key, column in mapping.items()}
    seen = _shorten(", ".join(column[:40] for column in columns), 1_000)
    for key, column in wanted.items():
        if key not in USUAL_NAMES:
            raise CorpusError(
                f"There is no field {key!r} that a column could be mapped to.",
                remedy=f"Fields: {', '.join(USUAL_NAMES)}.",
            )
        if column not in columns:
            raise CorpusError(
                f"{name} has no column {column!r} for {key}. Its columns: {seen}.",
                remedy=f"Name one of them: --map {key}=NAME.",
            )
    plain = {re.sub(r"[\W_]", "", column.casefold()): column for column in reversed(columns)}
    chosen = dict(wanted)
    for key, names in USUAL_NAMES.items():
        free = (plain[n] for n in names if n in plain and plain[n] not in wanted.values())
        column = chosen.get(key) or next(free, "")
        if column:
            chosen[key] = column
    for column in chosen.values():
        if columns.count(column) > 1:
            raise CorpusError(f"{name} has two columns called {column!r}.", remedy="Rename one.")
    if "abstract" not in chosen:
        raise CorpusError(
            f"{name} has no column of texts (abstract, text, summary, body ...). Its columns: {seen}.",
            remedy="Name the right one: --map abstract=NAME.",
        )
    return chosen


# --- from a row to a document ------------------------------------------------------------------

_EXCERPT = 120
_TITLE_WORDS, _TITLE_LENGTH = 12, 100  # of a title that is made from the text
_NO_TEXT = frozenset(("", "-", "n/a", "na", "nan", "none", "null"))


class _Builder:
    """Collects documents, and refuses rows that are empty or there already."""

    def __init__(self) -> None:
        self.documents: list[Document] = []
        self.rejected: list[tuple[int, str, str]] = []
        self.repaired: Counter[str] = Counter()
        self._ids: set[str] = set()
        self._titles: set[str] = set()

    def add(self, number: int, row: _Record | _Unreadable) -> None:
        if isinstance(row, _Unreadable):
            return self._reject(number, row.reason, row.raw)
        read = read_document(row)
        if read is None:
            excerpt = clean_line(_string(row.get("title"))) or _string(row.get("id"))
            return self._reject(number, "empty text", excerpt)
        document, repairs = read
        if document.id in self._ids:
            return self._reject(number, "duplicate id", f"{document.id}: {document.title}")
        is_derived = document.title == derive_title(document.abstract)
        same = normalise_title(document.abstract if is_derived else document.title)
        if same in self._titles:
            return self._reject(number, "duplicate text" if is_derived else "duplicate title", document.title)
        self._ids.add(document.id)
        self._titles.add(same)
        self.repaired.update(repairs)
        self.documents.append(document)
        return None

    def _reject(self, number: int, reason: str, excerpt: str) -> None:
        self.rejected.append((number, reason, clean_line(excerpt)[:_EXCERPT]))


def read_document(row: Mapping[str, Any]) -> tuple[Document, list[str]] | None:
    """The document of a row, cleaned, and what had to be repaired in it; None if the row has no text.

    Keys are the fields of `Document`; authors and categories may be lists, any value may be missing.
    """
    title, abstract = _string(row.get("title")), _string(row.get("abstract"))
    repairs = ["invalid UTF-8 replaced"] if _BAD_BYTES.search(title + abstract) else []
    raw_length = len(abstract)
    title, abstract = clean_line(title), clean_text(abstract)
    if abstract.casefold() in _NO_TEXT:
        return None
    if len(abstract) > MAX_ABSTRACT or raw_length > _READ:
        abstract = _shorten(abstract, MAX_ABSTRACT)
        repairs.append(f"text shortened to {MAX_ABSTRACT:,} characters")
    title = _shorten(title, MAX_TITLE) or derive_title(abstract)
    document = Document(
        id=_clean_id(_string(row.get("id"))) or content_id(title, abstract),
        title=title,
        abstract=abstract,
        year=parse_year(row.get("year")),
        venue=_shorten(clean_line(_string(row.get("venue"))), MAX_TITLE),
        authors=_shorten(_authors(row.get("authors")), MAX_FIELD),
        categories=_shorten(_categories(row.get("categories")), MAX_FIELD),
        url=_url(row.get("url")),
        citations=_count(row.get("citations")),
        doi=find_doi(row.get("doi")),
    )
    return document, repairs


def derive_title(abstract: str) -> str:
    """A title for a text that has none: its first sentence, or its first dozen words and an ellipsis."""
    whole = " ".join(abstract[: 2 * MAX_TITLE].split())
    start = " ".join(whole.split(" ", _TITLE_WORDS)[:_TITLE_WORDS])
    sentence = re.match(r".{20,99}?[.!?](?=\s+[A-Z]|$)", start)
    if sentence:
        return sentence.group().rstrip(".")
    short = start[:_TITLE_LENGTH]
    return whole if short == whole else short.rstrip(" ,;:") + "…"


def normalise_title(title: str) -> str:
    """What two titles have in common if they name the same paper: letters and digits without case.

    A title without white space is an identifier (`torch.Tensor`, `torch.tensor`) and stays as it is.
    """
    if " " not in title:
        return title
    folded = unicodedata.normalize("NFKC", title).casefold()
    return " ".join(re.findall(r"[^\W_]+", folded)) or title


def content_id(title: str, abstract: str) -> str:
    """A stable id for a document that has none."""
    return "doc-" + hashlib.sha256(f"{title}\n\n{abstract}".encode()).hexdigest()[:16]


def _clean_id(raw: str) -> str:
    """An id that can stand in an address: no scheme, no control character, no empty or dot segment."""
    cleaned = re.sub(r"^https?://", "", " ".join(_strip_rare(raw).split())).strip("/ ")
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
    written = _string(value)[:100].strip()
    found = re.search(r"(?<!\d)(\d{4})(?:(?!\d)|(?=\d{4}(?!\d)))", written)
    year = int(found.group(1)) if found and not written.startswith("-") else 0
    return year if FIRST_YEAR <= year <= LAST_YEAR else None


def _count(value: object) -> int | None:
    if isinstance(value, bool):
        return None
    digits = re.fullmatch(r"(\d{1,19}|\d{1,3}(?:,\d{3})+)(?:\.0*)?", _string(value).strip())
    count = int(digits.group(1).replace(",", "")) if digits else -1
    return count if 0 <= count <= MAX_COUNT else None


def _url(value: object) -> str:
    url = _strip_rare(_string(value)[: MAX_FIELD + 1]).strip()
    if len(url) > MAX_FIELD or not re.fullmatch(r"https?://[^\s<>\"]+", url, re.IGNORECASE):
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
    found = re.search(r"\b10\.\d{4,9}/[^\s<>\"]{1,200}", _strip_rare(_string(value)[:MAX_FIELD]))
    return found.group().rstrip(".,;)]}'") if found else ""


def _authors(value: object) -> str:
    return "; ".join(name for name in map(_author, _items(value)) if name)


def _author(value: object) -> str:
    if isinstance(value, dict):
        low = {str(key).casefold(): part for key, part in value.items()}
        whole = low.get("name") or low.get("display_name") or low.get("fullname")
        first = low.get("given") or low.get("first") or low.get("forenames") or ""
        last = low.get("family") or low.get("last") or low.get("keyname") or ""
        value = whole or f"{_string(first)} {_string(last)}"
    elif isinstance(value, list | tuple):  # ["Family", "Given", ...]
        value = " ".join(_string(part) for part in reversed(value[:2]))
    return clean_line(_string(value)).strip("; ")


def _categories(value: object) -> str:
    """Names joined by spaces, those inside a name made hyphens; a cell may hold one name or many."""
    items = [clean_line(_string(item)) for item in _items(value)]
    if len(items) == 1 and not isinstance(value, list | tuple):
        items = re.split(r"[;,|]", items[0])
        if len(items) == 1 and not _IN_WORDS.search(items[0]):  # codes: "cs.LG stat.ML"
            items = items[0].split()
    names = (re.sub(r"[\s;,|]+", "-", item.strip()) for item in items)
    return " ".join(dict.fromkeys(name for name in names if name))


_IN_WORDS = re.compile(r"(?<!\S)[A-Z][a-z]")  # "Computer Science" is one name


def _items(value: object) -> list[Any]:
    """The members of a list, also of one written as JSON in a cell; a single value is a list of one."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        with contextlib.suppress(ValueError, RecursionError):
            value = json.loads(value)
    if isinstance(value, list | tuple):
        return list(value)
    return [] if value is None else [value]


def _string(value: object) -> str:
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


# --- cleaning ----------------------------------------------------------------------------------

# Bytes that were no UTF-8 arrive as the lone surrogates of "surrogateescape".
_BAD_BYTES = re.compile("[\udc80-\udcff]+")
# Control characters, lone surrogates, non-characters, and invisible ones: soft hyphen, zero-width space,
# bidi embeddings, overrides and isolates, byte order mark, tags. Joiners and RTL marks are part of words.
_RARE = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u200b\u202a-\u202e\u2060-\u2069\ufeff"
    "\ud800-\udfff\ufdd0-\ufdef\ufff9-\ufffb\ufffe\uffff\U000e0000-\U000e007f]"
)
_ENTITY = re.compile(r"&(?:amp;)*(#\d{1,7}|#x[0-9a-f]{1,6}|[a-z][a-z0-9]{1,30});", re.IGNORECASE)
_COMMENT = re.compile(r"<!--.{0,2000}?-->|<!\[CDATA\[|\]\]>", re.DOTALL)
_HIDDEN = re.compile(r"<(script|style)\b[^<>]{0,1000}>.{0,2000}?</\1\s*>", re.DOTALL | re.IGNORECASE)
_ACTIVE = re.compile(
    r"</?(?:script|style|iframe|frameset|frame|object|embed|applet|base|meta|link|svg|form)\b(?:[^<>]{0,1000}>)?",
    re.IGNORECASE,
)
_TAG = re.compile(r"<(/?)([a-z][a-z0-9:-]{0,30})(\s[^<>]{0,2000})?/?>", re.IGNORECASE)
_VOID = frozenset(("br", "hr", "img", "col", "wbr", "input"))
_PARAGRAPH = frozenset(("p", "div", "sec"))
_BLOCK = _PARAGRAPH | frozenset(
    """br hr li ul ol dl dt dd table tbody thead tfoot tr td th caption h1 h2 h3 h4 h5 h6 title section
    article header footer main nav aside blockquote pre center body html head address figure figcaption
    """.split()  # noqa: SIM905  a list of words reads better as words
)
_INLINE = frozenset(
    """a abbr acronym b bdi bdo big cite code del dfn em font i ins kbd label mark q s samp small span
    strike strong sub sup tt u var wbr img col input italic bold inline-formula tex-math math semantics
    annotation mi mo mn mrow mtext msub msup msubsup mfrac msqrt mroot mover munder munderover mspace
    mstyle mfenced mtable mtr mtd
    """.split()  # noqa: SIM905
)
_PASSES = 8
_READ = 4 * MAX_ABSTRACT  # characters of a text that are looked at: bounds the work on hostile ones


def clean_line(text: str) -> str:
    """One line of plain text: as `clean_text`, with all white space made single spaces."""
    return " ".join(clean_text(text).split())


def clean_text(text: str) -> str:
    """Plain text: entities decoded, markup and control characters gone, white space single, blank lines kept.

    A "<" that is no tag stays ("p < 0.05", "<x>"), right-to-left text stays without its bidi overrides,
    bytes that were no UTF-8 become U+FFFD. Only the first _READ characters count.
    """
    text = text[:_READ]
    for _ in range(_PASSES):  # what is decoded or joined may itself be markup: until nothing changes
        before = text
        text = _strip_rare(text)
        if "&" in text:
            text = _ENTITY.sub(lambda found: html.unescape(f"&{found.group(1)};"), text)
        if "<" in text:
            text = _strip_tags(text)
        if text == before:
            break
    else:
        text = _strip_rare(re.sub(r"[<&]", " ", text))
    if "\n" not in text:
        return " ".join(text.split())
    paragraphs = (" ".join(part.split()) for part in re.split(r"\n[^\S\n]*\n", text))
    return "\n\n".join(part for part in paragraphs if part)


def _strip_rare(text: str) -> str:
    if text.isascii() and text.isprintable():
        return text
    text = _RARE.sub("", _BAD_BYTES.sub("\ufffd", text))
    return unicodedata.normalize("NFC", text)


def _strip_tags(text: str) -> str:
    text = _COMMENT.sub(" ", text)
    text = _ACTIVE.sub(" ", _HIDDEN.sub(" ", text))
    closed = {name.casefold() for name in re.findall(r"</([a-z][a-z0-9:-]{0,30})", text, re.IGNORECASE)}

    def replace(found: re.Match[str]) -> str:
        slash, name, attributes = found.group(1), found.group(2).casefold(), found.group(3) or ""
        plain = name.rpartition(":")[2]
        known = plain in _BLOCK or plain in _INLINE or ":" in name
        # "<p>" alone may be a mean momentum: it is markup where the text closes it or it has attributes
        if not known or not (slash or name in closed or plain in _VOID or "=" in attributes):
            return found.group()
        return "\n\n" if plain in _PARAGRAPH else " " if plain in _BLOCK else ""

    return _TAG.sub(replace, text)


def _shorten(text: str, length: int) -> str:
    """At most `length` characters, cut between words where there are any."""
    if len(text) <= length:
        return text
    cut = text[:length]
    space = cut.rfind(" ")
    return (cut[:space] if space > length * 0.9 else cut).rstrip()
