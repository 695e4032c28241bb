"""`saefari fetch huggingface`: datasets on disk in all their forms, and a hub with its faults."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import huggingface_hub
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sae_core.corpus import Corpus, load_corpus
from sae_core.errors import CorpusError, SourceError
from sae_core.sources import huggingface
from sae_core.sources.huggingface import read_dataset
from tests.app.served import Run
from tests.hub import GATED, NAME, Fault, Hub, hub
from tests.language_model import RESET, Raw

N = 30
ROWS: dict[str, list[Any]] = {
    "key": [f"p{i}" for i in range(N)],
    "name": [f"On the matter of {i}" for i in range(N)],
    "body": [f"We look at case {i}.\nIt is \u201cquoted\u201d, and so on." for i in range(N)],
    "topics": [[i % 3, 2] for i in range(N)],
    "kind": [i % 2 for i in range(N)],
    "unused": [b"\x00\xff" for _ in range(N)],
}
MAP = {"id": "key", "title": "name", "abstract": "body"}
WORDS = [word for field, column in MAP.items() for word in ("--map", f"{field}={column}")]


def parquet(rows: dict[str, list[Any]], size: int = 8) -> bytes:
    out = BytesIO()
    pq.write_table(pa.table(rows), out, row_group_size=size)
    return out.getvalue()


def part(n: int, *, start: int = 0) -> dict[str, list[Any]]:
    return {name: values[start : start + n] for name, values in ROWS.items()}


FILES = {
    "README.md": b"---\nlicense: mit\n---\n",
    "data/train-00000-of-00002.parquet": parquet(part(20)),
    "data/train-00001-of-00002.parquet": parquet(part(10, start=20)),
    "data/test-00000-of-00001.parquet": parquet(part(3)),
}


pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # of the package's CSV reader


@pytest.fixture(autouse=True)
def _apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Caches of this test alone, a hub where nobody answers, and no long wait for it."""
    constants = huggingface_hub.constants
    for module, name in ((constants, "HF_HUB_CACHE"), (datasets.config, "HF_DATASETS_CACHE")):
        monkeypatch.setattr(module, name, str(tmp_path / "hf"))
    for module in (constants, datasets.config):
        monkeypatch.setattr(module, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    monkeypatch.setattr(datasets.config, "STREAMING_READ_MAX_RETRIES", 1)
    monkeypatch.setattr(datasets.config, "STREAMING_READ_RETRY_INTERVAL", 0)
    impatient = SimpleNamespace(sleep=lambda _: None, time=time.time)
    monkeypatch.setattr("huggingface_hub.utils._http.time", impatient)
    point_at("http://127.0.0.1:9", monkeypatch)
    yield
    gc.collect()  # what the package has left open is closed here, and not in another test


def point_at(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", url)
    monkeypatch.setattr(
        huggingface_hub.constants,
        "HUGGINGFACE_CO_URL_TEMPLATE",
        url + "/{repo_id}/resolve/{revision}/{filename}",
    )
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", url)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with hub(FILES) as server:
        point_at(server.url, monkeypatch)
        yield server


def ids(corpus: Corpus) -> list[str]:
    return [document.id for document in corpus.documents]


# --- on disk ---------------------------------------------------------------------------------------


def saved(folder: Path) -> Path:
    labels = datasets.ClassLabel(names=["poem", "essay"])
    topics = datasets.List(datasets.ClassLabel(names=["sea", "sky", "land and sea"]))
    table = datasets.Dataset.from_dict(ROWS).cast_column("kind", labels).cast_column("topics", topics)
    both = datasets.DatasetDict({"train": table, "validation": table.select(range(2))})
    both.save_to_disk(str(folder))
    return folder


def test_a_dataset_that_was_saved_is_read_and_classes_have_names(run: Run, tmp_path: Path) -> None:
    folder = saved(tmp_path / "saved")
    more = ("--map", "categories=topics", "--map", "venue=kind")
    status, out, err = run("fetch", "huggingface", folder, *WORDS, *more, "--home", tmp_path)
    assert status == 0, err
    path = tmp_path / "corpora" / "saved.parquet"
    assert f"{path}: {N} documents" in out
    assert f"saefari build {path}" in out
    assert "Reading the dataset: done" in err
    documents = load_corpus(path).documents
    assert [document.id for document in documents] == ROWS["key"]
    assert (documents[1].title, documents[1].venue) == ("On the matter of 1", "essay")
    assert documents[1].categories == "sky land-and-sea"
    status, _, err = run("fetch", "huggingface", folder, *WORDS, "--home", tmp_path)
    assert status == 1
    assert "is there already" in err
    words = (*WORDS, "--split", "validation", "--again", "--out", path, "--quiet")
    assert run("fetch", "huggingface", folder, *words)[0] == 0
    assert len(load_corpus(path).documents) == 2


@pytest.mark.parametrize("form", ["parquet", "csv", "jsonl", "tsv", "folder", "arrow"])
def test_a_file_or_a_folder_of_files_is_a_dataset_too(form: str, tmp_path: Path) -> None:
    table = datasets.Dataset.from_dict({name: ROWS[column] for name, column in MAP.items()})
    path = tmp_path / ("set" if form == "folder" else f"set.{form}")
    if form == "folder":
        (path / "data").mkdir(parents=True)
        table.to_parquet(str(path / "data" / "train-0.parquet"))
    elif form == "jsonl":
        table.to_json(str(path))
    elif form in {"csv", "tsv"}:
        table.to_csv(str(path), sep="\t" if form == "tsv" else ",")
    elif form == "parquet":
        table.to_parquet(str(path))
    else:
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.data.table.schema) as writer:
            writer.write_table(table.data.table)
    told: list[int] = []
    corpus = read_dataset(str(path), progress=lambda done, _total: told.append(done))
    assert ids(corpus) == ROWS["key"]
    assert corpus.documents[3].abstract == " ".join(ROWS["body"][3].split())
    assert told[-1] == N


def test_what_comes_is_cleaned_counted_and_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {"title": ["A b", "A  B", "C", "D"], "text": ["one", "two", "", "four"]}
    pq.write_table(pa.table(rows), tmp_path / "odd.parquet")
    corpus = read_dataset(str(tmp_path / "odd.parquet"), folder=tmp_path)
    assert [document.title for document in corpus.documents] == ["A b", "D"]
    assert corpus.counts() == {"duplicate title": 1, "empty text": 1}
    assert len(read_dataset(str(tmp_path / "odd.parquet"), limit=1).documents) == 1
    monkeypatch.setattr(huggingface, "BATCH", 7)
    many = {"text": [f"text number {i}" for i in range(50)]}
    pq.write_table(pa.table(many), tmp_path / "many.parquet", row_group_size=10)
    told: list[int] = []
    read_dataset(str(tmp_path / "many.parquet"), limit=20, progress=lambda done, _: told.append(done))
    assert max(told) < 30  # what is not wanted is not read


# --- from a hub ------------------------------------------------------------------------------------


def test_a_dataset_of_the_hub_comes_in_parts(run: Run, server: Hub, tmp_path: Path) -> None:
    status, out, err = run("fetch", "huggingface", NAME, *WORDS, "--home", tmp_path)
    assert status == 0, err
    path = tmp_path / "corpora" / "papers.parquet"
    assert str(path) in out
    assert [document.id for document in load_corpus(path).documents] == ROWS["key"]
    assert not any("test-00000" in asked for asked in server.asked)
    words = ("--split", "test", "--revision", "main", "--home", tmp_path, "--quiet")
    assert run("fetch", "huggingface", NAME, *WORDS, *words)[0] == 0
    assert len(load_corpus(tmp_path / "corpora" / "papers-test.parquet").documents) == 3


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("acme/nothing", {}, "There is no dataset acme/nothing on the hub, or it is private"),
        (GATED, {}, "is gated: its owners want to know who reads it"),
        (NAME, {"split": "valid"}, "Name one with --split: train, test"),
        (NAME, {"split": "train[:10]"}, "For its first rows use --max"),
        ("./nothing", {}, "There is no file or folder"),
        ("/nothing/at/all", {}, "There is no file or folder"),
        ("a/b/c", {}, "There is no file or folder"),
    ],
)
@pytest.mark.usefixtures("server")
def test_what_is_not_there_is_said(name: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(SourceError) as caught:
        read_dataset(name, mapping=MAP, **options)
    assert said in str(caught.value)


@pytest.mark.usefixtures("server")
def test_columns_are_chosen_as_for_a_file() -> None:
    with pytest.raises(CorpusError, match=r"no column 'title' for title\. Its columns: key, name, body"):
        read_dataset(NAME, mapping={"title": "title"})
    with pytest.raises(CorpusError, match="--map abstract=NAME"):
        read_dataset(NAME, mapping={"title": "name", "id": "body"})


def at_data(raw: Raw, suffix: str = ".parquet") -> Fault:
    return lambda path: raw if path.endswith(suffix) else None


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (at_data(Raw(404)), "404"),
        (at_data(Raw(200, b"no parquet at all")), "could not be read"),
        (at_data(Raw(401, b"{}", {"X-Error-Code": "GatedRepo"})), ""),
        (lambda _: RESET, ""),
        (lambda _: Raw(400, b"<html>"), ""),
    ],
)
def test_a_hub_that_fails_is_a_sentence_and_leaves_no_file(
    fault: Fault, said: str, run: Run, server: Hub, tmp_path: Path
) -> None:
    server.fault = fault
    status, _, err = run("fetch", "huggingface", NAME, *WORDS, "--home", tmp_path, "--quiet")
    assert status == 1
    assert said in err
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) <= 3
    assert not [*tmp_path.rglob("*.parquet")]


def test_no_network_is_a_sentence(run: Run, tmp_path: Path) -> None:
    status, _, err = run("fetch", "huggingface", NAME, "--home", tmp_path)
    assert status == 1
    assert "Check the network" in err or "or it is private" in err


# --- what is never done ----------------------------------------------------------------------------


def test_a_program_of_a_dataset_is_never_run(server: Hub, tmp_path: Path) -> None:
    program = f"open({str(tmp_path / 'ran')!r}, 'w').close()\nimport datasets\n"
    server.files = {"papers.py": program.encode(), "README.md": b""}
    for name in (NAME, str(tmp_path / "papers")):
        (tmp_path / "papers").mkdir(exist_ok=True)
        (tmp_path / "papers" / "papers.py").write_text(program)
        with pytest.raises(SourceError, match=r"never done|no files of rows"):
            read_dataset(name)
    assert not (tmp_path / "ran").exists()


@pytest.mark.usefixtures("server")
def test_files_of_other_kinds_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface, "KINDS", ("csv",))
    with pytest.raises(SourceError, match="of the kind parquet, in which there is more than texts"):
        read_dataset(NAME)


def test_a_config_is_named_by_those_that_are_there(tmp_path: Path) -> None:
    folder = tmp_path / "two"
    folder.mkdir()
    for name in ("en", "de"):
        (folder / f"{name}.jsonl").write_text(json.dumps({"text": f"a text in {name}"}) + "\n")
    listed = "\n".join(f"- config_name: {name}\n  data_files: {name}.jsonl" for name in ("en", "de"))
    (folder / "README.md").write_text(f"---\nconfigs:\n{listed}\n---\n")
    with pytest.raises(SourceError, match=r"several parts\. Name one with --config: 'en', 'de'"):
        read_dataset(str(folder))
    assert read_dataset(str(folder), config="de").documents[0].abstract == "a text in de"
    with pytest.raises(SourceError, match="Name one with --config: 'en', 'de'"):
        read_dataset(str(folder), config="fr")


def test_without_the_package_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(SourceError, match=r"pip install -c constraints.txt '\.\[huggingface\]'"):
        read_dataset(str(tmp_path))
