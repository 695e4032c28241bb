"""The command line: what a person may do wrong ends in a sentence and a status, never in a traceback."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.cli import serving
from sae_core import artifact
from tests import planted as truth
from tests.app.served import Run


def write_corpus(folder: Path, n: int = 120) -> Path:
    path = folder / "papers.jsonl"
    rows = [
        {"id": d.id, "title": d.title, "abstract": d.abstract, "year": d.year} for d in truth.documents(n)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_embeddings(folder: Path, rows: np.ndarray) -> Path:
    np.save(folder / "rows.npy", rows)
    return folder / "rows.npy"


@pytest.fixture
def good(tmp_path: Path) -> tuple[Path, Path, Path]:
    """A home, a corpus and its embeddings."""
    texts = [document.text for document in truth.documents(120)]
    vectors = truth.PlantedEmbedder().embed(texts)
    return tmp_path / "home", write_corpus(tmp_path), write_embeddings(tmp_path, vectors)


def test_build_report_doctor_go_together(run: Run, good: tuple[Path, Path, Path]) -> None:
    home, corpus, vectors = good
    sizes = ["--steps", "20", "--latents", "32", "--k", "2,3"]
    status, out, err = run("build", corpus, "--home", home, "--embeddings", vectors, *sizes)
    assert status == 0
    assert "120 documents, 0 rows rejected" in out
    assert out.count("held-out") == 2
    assert "Training k=2 n=32: done in" in err
    status, out, _ = run("report", "papers", "--show", "--home", home)
    assert status == 0
    for measure in ("held-out FVU", "mean log10 density", "encoder-decoder cosine", "stability"):
        assert f"| {measure} |" in out
    status, out, _ = run("doctor", "--home", home)
    assert status == 0
    assert "DAMAGED" not in out
    damaged = artifact.current(home / "collections" / "papers") / "index.faiss"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    status, out, _ = run("doctor", "--home", home)
    assert status == 1
    assert "DAMAGED" in out
    assert "index.faiss" in out
    assert "saefari build" in out


def test_rows_that_were_left_out_or_repaired_are_counted_by_reason(
    run: Run, good: tuple[Path, Path, Path]
) -> None:
    home, corpus, vectors = good
    with corpus.open("a", encoding="utf-8") as file:
        for row in ({"id": "new", "abstract": ""}, {"id": "long", "abstract": "word " * 9_000}):
            file.write(json.dumps(row) + "\n")
    np.save(vectors, np.concatenate([np.load(vectors), np.eye(2, 32, dtype=np.float32)]))
    sizes = ["--steps", "20", "--latents", "32", "--k", "2", "--quiet"]
    status, out, _ = run("build", corpus, "--home", home, "--embeddings", vectors, *sizes)
    assert status == 0
    assert "121 documents, 1 rows rejected" in out
    assert "1 empty text" in out
    assert "1 text shortened" in out
    _, report, _ = run("report", "papers", "--show", "--home", home)
    assert "1 empty text" in report
    assert "1 rows: text shortened" in report


def test_a_limit_beyond_the_end_does_not_excuse_embeddings_that_do_not_fit(
    run: Run, good: tuple[Path, Path, Path]
) -> None:
    home, corpus, vectors = good
    np.save(vectors, np.tile(np.load(vectors), (2, 1)))
    words = ["build", corpus, "--home", home, "--embeddings", vectors, "--quiet", "--limit", "500"]
    status, _, err = run(*words)
    assert status == 1
    assert "240 rows for 120" in err


def test_a_setting_of_the_environment_that_cannot_be_is_named(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SAEFARI_PORT", "many")
    status, _, err = run("serve", "--home", tmp_path)
    assert status == 1
    assert "SAEFARI_PORT is 'many'" in err


def test_a_demo_that_is_damaged_is_built_again_and_a_sound_one_served_at_once(
    run: Run, good: tuple[Path, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    home, corpus, vectors = good
    built, served = [], []
    sizes = ["--embeddings", vectors, "--steps", "20", "--latents", "32", "--k", "2", "--quiet"]
    run("build", corpus, "--home", home, "--name", "demo", *sizes)
    monkeypatch.setattr(serving, "harvest_docstrings", lambda *_: corpus)
    monkeypatch.setattr(serving, "build_collection", lambda *_, **__: built.append(1))
    monkeypatch.setattr(serving, "print_summary", lambda _: None)
    monkeypatch.setattr(serving, "serve_home", lambda _: served.append(1))
    run("demo", "--home", home)
    assert (built, served) == ([], [1])
    (artifact.current(home / "collections" / "demo") / "index.faiss").write_bytes(b"")
    _, _, err = run("demo", "--home", home)
    assert (built, served) == ([1], [1, 1])
    assert "index.faiss" in err


NAN = np.full((120, 32), np.nan, dtype=np.float32)
ZEROS = np.ones((120, 32), dtype=np.float32) * (np.arange(120) != 7)[:, None]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (np.ones((119, 32), dtype=np.float32), "119 rows"),
        (np.ones((120, 0), dtype=np.float32), "shape"),
        (NAN, "Rows 0, 1, 2, 3, 4, 5, 6, 7 and 112 more (counted from 0)"),
        (ZEROS.astype(np.float32), "7"),
        (np.ones((120, 32), dtype=np.int64), "int64"),
    ],
)
def test_embeddings_that_do_not_fit_are_refused(
    run: Run, good: tuple[Path, Path, Path], rows: np.ndarray, said: str
) -> None:
    home, corpus, vectors = good
    np.save(vectors, rows)
    status, _, err = run("build", corpus, "--home", home, "--embeddings", vectors, "--quiet")
    assert status == 1
    assert said in err
    assert not (home / "collections" / "papers" / "CURRENT").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--latents", "32", "--k", "64"], "k=64 latents per row of 32"),
        (["--latents", "4000"], "fewer than the 4000 latents"),
        (["--latents", "many"], "--latents many is not a list of whole numbers"),
        (["--map", "title"], "--map title is not of the form"),
        (["--map", "title=Nowhere"], "Nowhere"),
        (["--map", "title=a", "--map", "title=b"], "Two columns are named for title"),
        (["--map", "title=a", "--map", "text=a"], "is named for two fields"),
        (["--name", "Two Words"], "cannot be the name"),
        (["--name", "static"], "cannot be the name"),
        (["--name", "../outside"], "cannot be the name"),
        (["--device", "cuda"], "cuda"),
    ],
)
def test_options_that_cannot_work_are_explained(
    run: Run, good: tuple[Path, Path, Path], options: list[str], said: str
) -> None:
    home, corpus, vectors = good
    status, _, err = run("build", corpus, "--home", home, "--embeddings", vectors, "--quiet", *options)
    assert status == 1
    assert said in err
    assert not (home / "collections").exists() or artifact.collections(home) == []


@pytest.mark.parametrize("seed", ["-1", "9" * 30, "x"])
def test_a_seed_that_no_generator_takes_is_a_mistake_in_the_words(
    run: Run, good: tuple[Path, Path, Path], seed: str
) -> None:
    home, corpus, vectors = good
    status, _, err = run("build", corpus, "--home", home, "--embeddings", vectors, "--seed", seed)
    assert status == 2
    assert "--seed" in err


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("missing.csv", None, "There is no file"),
        ("empty.csv", "", "empty.csv"),
        ("header.csv", "title,abstract\n", "No usable document"),
        ("columns.csv", "a,b\n1,2\n", "a, b"),
        ("one.csv", "title,abstract\nOne,Text of one\n", "too few"),
        ("papers.docx", "x", "papers.docx"),
        ("torn.parquet", "PAR1", "torn.parquet"),
    ],
)
def test_files_that_cannot_be_built_from_are_named(
    run: Run, tmp_path: Path, name: str, content: str | None, said: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
    status, _, err = run("build", path, "--home", tmp_path / "home", "--quiet")
    assert status == 1
    assert said in err


def test_a_home_that_cannot_be_written_is_named(run: Run, good: tuple[Path, Path, Path]) -> None:
    _, corpus, vectors = good
    status, _, err = run("build", corpus, "--home", corpus, "--embeddings", vectors, "--quiet")
    assert status == 1
    assert "papers.jsonl" in err


def test_a_taken_port_is_said(run: Run, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        status, _, err = run("serve", "--home", tmp_path, "--port", port)
    assert status == 1
    assert port in err
    assert "--port" in err


def test_an_unknown_collection_has_no_report(run: Run, tmp_path: Path) -> None:
    status, _, err = run("report", "nothing", "--home", tmp_path)
    assert status == 1
    assert "holds no finished collection" in err


def test_ctrl_c_says_that_nothing_is_lost(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupt(*_args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(serving, "serve_home", interrupt)
    status, _, err = run("serve", "--home", tmp_path)
    assert status == 130
    assert "goes on from what is already done" in err


def test_encode_in_shards_and_merge(run: Run, good: tuple[Path, Path, Path]) -> None:
    _, _, vectors = good
    folder = vectors.parent
    size = ["--latents", "32", "--k", "2", "--steps", "20", "--quiet", "--no-stability"]
    run("train", vectors, "--out", folder / "out", *size)
    words = ["encode", vectors, "--sae", folder / "out" / "sae.safetensors", "--out", folder / "shards"]
    status, out, err = run(*words, "--shard", "1/2")
    assert status == 0
    assert "shard-001-of-002.safetensors: rows 0 to 120." in out
    assert "Encoding shard 1/2: done in" in err
    status, _, err = run("merge", folder / "shards", "--out", folder / "codes")
    assert status == 1
    assert "lacks shard 2/2" in err
    assert "--shard 2/2`" in err
    run(*words, "--shard", "2/2", "--quiet")
    _, out, err = run(*words, "--shard", "2/2", "--quiet")
    assert "rows 120 to 120. It was complete already." in out
    assert err == ""
    status, out, _ = run("merge", folder / "shards", "--out", folder / "codes", "--quiet")
    assert status == 0
    assert "120 documents, 32 latents" in out
    assert "latent_ptr.npy" in {path.name for path in (folder / "codes").iterdir()}
    status, _, err = run(*words, "--shard", "3/2")
    assert status == 1
    assert "--shard 3/2 is no part of a whole" in err


def test_train_writes_an_sae_and_its_log(run: Run, good: tuple[Path, Path, Path]) -> None:
    _, _, vectors = good
    out_folder = vectors.parent / "out"
    words = ["train", vectors, "--out", out_folder, "--latents", "32", "--k", "2", "--steps", "20"]
    status, out, _ = run(*words, "--quiet")
    assert status == 0
    assert "held-out" in out
    assert {"sae.safetensors", "log.jsonl", "training.json"} <= {path.name for path in out_folder.iterdir()}


def test_train_writes_a_scorecard_that_knows_of_the_second_seed(
    run: Run, good: tuple[Path, Path, Path]
) -> None:
    _, _, vectors = good
    folder = vectors.parent / "out"
    size = ["--latents", "32", "--k", "2", "--steps", "20", "--quiet"]
    status, out, _ = run("train", vectors, "--out", folder, *size)
    assert status == 0
    assert f"Scorecard: {folder / 'scorecard.html'}" in out
    html = (folder / "scorecard.html").read_text(encoding="utf-8")
    assert "From another seed" in html
    assert "the weights of step" in html


def test_train_a_grid(run: Run, good: tuple[Path, Path, Path]) -> None:
    _, _, vectors = good
    folder = vectors.parent / "grid"
    words = ["train", vectors, "--out", folder, "--grid", "n=16,32", "k=2,3", "--steps", "10"]
    status, out, _ = run(*words, "--dry-run")
    assert status == 0
    assert "4 SAEs: k2-n16, k2-n32, k3-n16, k3-n32" in out
    assert "MiB of memory" in out
    assert "by a probe of ten steps" in out
    assert not folder.exists()
    status, out, err = run(*words)
    assert status == 0
    assert "Training 4 SAEs: done in" in err
    assert "| k3-n32 |" in out
    assert {path.name for path in folder.iterdir()} >= {
        "grid.html", "grid.json", "grid.md", "grid.svg", "k2-n16", "k2-n32", "k3-n16", "k3-n32",
    }  # fmt: skip
    assert (folder / "k2-n32" / "scorecard.html").is_file()
    table = (folder / "grid.md").read_text(encoding="utf-8")
    status, out, _ = run(*words, "--quiet")
    assert status == 0
    assert (folder / "grid.md").read_text(encoding="utf-8") == table


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--grid", "k=2", "k=3"], "--grid names k twice"),
        (["--grid", "k=2,x", "n=32"], "k=2,x is not a list of whole numbers"),
        (["--grid", "k=2,64", "n=32,500"], "k2-n500: 108 training rows are fewer than the 500 latents"),
        (["--grid", "k=2,64", "n=32,500"], "k64-n32: k=64 latents per row of 32"),
        (["--grid", "k=2", "n=32", "--latents", "32"], "Leave those out"),
        (["--processes", "2", "--grid", "k=2", "n=32"], "A grid is trained by one process"),
    ],
)
def test_grids_that_cannot_be_trained_are_explained(
    run: Run, good: tuple[Path, Path, Path], options: list[str], said: str
) -> None:
    _, _, vectors = good
    status, _, err = run("train", vectors, "--out", vectors.parent / "grid", *options)
    assert status == 1
    assert said in err
    assert not (vectors.parent / "grid").exists()


def test_a_grid_of_one_list_is_a_mistake_in_the_words(run: Run, good: tuple[Path, Path, Path]) -> None:
    _, _, vectors = good
    status, _, err = run("train", vectors, "--out", vectors.parent / "grid", "--grid", "k=2")
    assert status == 2
    assert "--grid" in err
