"""Corpora larger than memory: what waits on disk, how doubles are told, and what an endless row costs."""

from __future__ import annotations

import csv
import errno
import gc
import gzip
import io
import json
import os
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sae_core.corpus import Corpus, Document, Doubles, Lazy, lazy, load_corpus, rows
from sae_core.errors import ArtifactError, CorpusError

MIB = 2**20


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def strings(folder: Path) -> lazy.OnDisk[str]:
    return lazy.OnDisk(lambda text: (text,), lambda parts: str(parts[0]), folder)


# --- the sequence on disk ----------------------------------------------------------------------


@given(
    items=st.lists(st.text(max_size=30)),
    in_memory=st.integers(1, 60),
    part=st.slices(20),
    again=st.slices(7),
)
def test_what_is_on_disk_is_the_list_of_what_was_put_in(
    items: list[str], in_memory: int, part: slice, again: slice, tmp_path_factory: pytest.TempPathFactory
) -> None:
    kept = strings(tmp_path_factory.getbasetemp())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lazy, "IN_MEMORY", in_memory)
        for item in items:
            kept.append(item)
    assert kept == items
    assert list(kept) == items
    assert kept[part] == items[part]
    assert kept[part][again] == items[part][again]
    assert [kept[at] for at in range(-len(items), 0)] == items
    assert kept != [*items, "one more"]
    with pytest.raises(IndexError):
        kept[len(items)]


def test_nothing_is_left_on_disk(tmp_path: Path) -> None:
    gc.collect()
    before = open_files()
    kept = strings(tmp_path / "work")
    kept.append("short")
    assert not (tmp_path / "work").exists()  # what is short needs no file
    kept.append("x" * MIB)
    assert list((tmp_path / "work").iterdir()) == []
    assert open_files() == before + 1
    assert kept[0] == "short"
    last = kept[1:]
    del kept
    assert last[0] == "x" * MIB  # a part keeps what it is a part of
    del last
    assert open_files() == before


def test_a_full_disk_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(_file: int, _content: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", write)
    monkeypatch.setattr(lazy, "IN_MEMORY", 10)
    (tmp_path / "c.jsonl").write_text('{"text": "some words"}\n')
    with pytest.raises(ArtifactError, match=r"disk is full: .*work could not be written. Free some space"):
        load_corpus(tmp_path / "c.jsonl", folder=tmp_path / "work")
    assert list((tmp_path / "work").iterdir()) == []


def test_texts_are_those_of_the_documents() -> None:
    documents = [Document(str(n), f"Title {n}", f"Text {n}") for n in range(5)]
    texts = Corpus(documents, []).texts
    assert isinstance(texts, Lazy)
    assert texts[1:3] == ["Title 1\n\nText 1", "Title 2\n\nText 2"]
    assert list(texts) == [document.text for document in documents]


# --- doubles -----------------------------------------------------------------------------------


class Alike(str):
    """A text whose hash says little."""

    __slots__ = ()

    def __hash__(self) -> int:
        return len(self)


@pytest.mark.parametrize("kind", [str, Alike])
def test_doubles_are_told_exactly(kind: Callable[[str], str]) -> None:
    keys = [kind(f"{number:x}," * (1 + number % 7)) for number in range(5_000 if kind is str else 200)]
    found = Doubles(keys.__getitem__)
    for position, key in enumerate(keys):
        assert key not in found
        found.add(key, position)
        assert key in found
    assert all(key in found for key in keys)
    assert kind("never") not in found


def test_doubles_take_few_bytes() -> None:
    keys = [f"a title of some length, number {number}" for number in range(16_000)]
    tracemalloc.start()
    found = Doubles(keys.__getitem__)
    for position, key in enumerate(keys):
        found.add(key, position)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size <= 32 * len(keys)


# --- rows --------------------------------------------------------------------------------------


def papers(n: int) -> Iterator[list[str]]:
    """Rows of about a kilobyte, with line breaks and quotes inside."""
    yield ["id", "title", "abstract"]
    for number in range(n):
        yield [f"p{number}", f'The "title", number {number}', f"First line {number}\n" + "more words " * 90]


def write_csv(path: Path, n: int) -> None:
    text = io.StringIO()
    csv.writer(text).writerows(papers(n))
    opener = gzip.open if path.suffix == ".gz" else Path.open
    with opener(path, "wb") as file:
        file.write(text.getvalue().encode())


def write_jsonl(path: Path, n: int) -> None:
    _, *found = papers(n)
    lines = (json.dumps(dict(zip(("id", "title", "abstract"), row, strict=True))) for row in found)
    path.write_text("\n".join(lines))


def write_parquet(path: Path, n: int) -> None:
    header, *found = papers(n)
    columns = dict(zip(header, map(list, zip(*found, strict=True)), strict=True))
    pq.write_table(pa.table(columns), path)


FILES = {"c.csv": write_csv, "c.csv.gz": write_csv, "c.jsonl": write_jsonl, "c.parquet": write_parquet}


@pytest.mark.parametrize("name", FILES)
def test_memory_does_not_follow_the_file(name: str, tmp_path: Path) -> None:
    n = 4_000
    FILES[name](tmp_path / name, n)
    tracemalloc.start()
    corpus = load_corpus(tmp_path / name, folder=tmp_path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(corpus.documents) == n
    assert peak < 3 * MIB  # a list of these documents takes 4.8
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert corpus.documents[-1].id == f"p{n - 1}"
    assert corpus.documents[7].title == 'The "title", number 7'


def test_a_quote_left_open_costs_what_a_row_may_have_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "MAX_ROW", 300)
    lines = [f"{number},Some words of row {number}" for number in range(40)]
    lines[3] = '3,"Some words of row 3'
    (tmp_path / "c.csv").write_text("\n".join(["id,text", *lines]))
    corpus = load_corpus(tmp_path / "c.csv")
    (rejected,) = corpus.rejected
    assert rejected == (4, "invalid csv", "line 5: a row of 300 bytes or more, to line 18")
    ids = [int(document.id) for document in corpus.documents]
    assert ids == [0, 1, 2, *range(17, 40)]


@pytest.mark.parametrize(("name", "reason"), [("c.csv", "invalid csv"), ("c.jsonl", "invalid json")])
def test_a_line_without_an_end_is_skipped(
    name: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "MAX_ROW", 300)
    make = (lambda text: json.dumps({"text": text})) if name == "c.jsonl" else str
    lines = [*([] if name == "c.jsonl" else ["text"]), *map(make, ("one word", "x" * 2_000, "two words"))]
    (tmp_path / name).write_text("\n".join(lines))
    corpus = load_corpus(tmp_path / name)
    assert [document.abstract for document in corpus.documents] == ["one word", "two words"]
    assert [(number, why) for number, why, _ in corpus.rejected] == [(2, reason)]


def test_a_first_line_without_an_end_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "MAX_ROW", 300)
    (tmp_path / "c.csv").write_bytes(b"text," * 1_000)
    with pytest.raises(CorpusError, match=r"could not be read: a row of 300 bytes or more, to line 1\."):
        load_corpus(tmp_path / "c.csv")


def test_columns_are_looked_for_in_the_first_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "MAX_HEAD", 100)
    late = [{"text": f"Some words of {n}"} for n in range(9)] + [{"text": "The last words", "title": "Late"}]
    (tmp_path / "c.jsonl").write_text("\n".join(map(json.dumps, late)))
    assert load_corpus(tmp_path / "c.jsonl").documents[9].title == "The last words"
    monkeypatch.setattr(rows, "MAX_HEAD", 1_000)
    assert load_corpus(tmp_path / "c.jsonl").documents[9].title == "Late"
