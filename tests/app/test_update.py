"""`saefari add` and `saefari remove`, and what the pages say of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient

from app import urls
from app.main import create_app
from app.settings import Settings
from sae_core.corpus import Document, save_corpus
from sae_core.explorer import Explorer
from tests.app.served import Planted, Run
from tests.embedding_model import embeddings, texts_of
from tests.language_model import serving
from tests.planted import PlantedEmbedder, documents

N = 600  # of the planted collection of these tests
NEW = documents(N + 60)[N:]


@pytest.fixture
def home(planted: Planted, tmp_path: Path) -> Path:
    """A planted collection of one's own."""
    shutil.copytree(planted.home / "collections", tmp_path / "home" / "collections")
    return tmp_path / "home"


def explorer_of(home: Path) -> Explorer:
    return Explorer.load(home / "collections" / "planted")


def files_of(coming: Sequence[Document], folder: Path) -> tuple[Path, Path]:
    """A corpus and its embeddings as files."""
    corpus, embeddings = folder / "new.parquet", folder / "new.npy"
    save_corpus(coming, corpus)
    np.save(embeddings, PlantedEmbedder().embed([document.text for document in coming]))
    return corpus, embeddings


def test_documents_come_are_found_under_old_links_and_go_again(
    run: Run, home: Path, planted: Planted, tmp_path: Path
) -> None:
    old = documents(N)
    coming = [*NEW, old[7], replace(old[8], abstract=f"Once more: {old[9].abstract}")]
    corpus, embeddings = files_of(coming, tmp_path)
    words = ["add", corpus, "--to", "planted", "--embeddings", embeddings, "--home", home]
    generation = explorer_of(home).generation
    status, out, err = run(*words, "--dry-run")
    assert (status, explorer_of(home).generation) == (0, generation), err
    said = "60 new documents, 1 with another text than before, 1 that are there already, 0 rows rejected"
    assert said in out
    status, out, err = run(*words)
    assert status == 0, err
    assert said in out
    assert "planted has 660 documents now, 600 before" in out
    assert "documents added since training: FVU" in out
    assert "Embedding" not in err
    links = [urls.feature("planted", planted.sae, 3), urls.document("planted", old[500].id)]
    with TestClient(create_app(Settings(home=home))) as client:
        for link in (*links, urls.document("planted", NEW[0].id)):
            assert client.get(link).status_code == 200
        assert "Once more" in client.get(urls.document("planted", old[8].id)).text
        families = next(iter(explorer_of(home).saes.values())).families
        for family in families:  # some are new, and have no label of their own
            assert client.get(urls.family("planted", planted.sae, family.id)).status_code == 200
        page = client.get(urls.sae("planted", planted.sae)).text
        assert "Documents that came later" in page
        (drift,) = client.get(f"{urls.sae('planted', planted.sae)}.json").json()["card"]["drift"]
        assert (drift["n"], drift["n_heldout"], drift["is_large"]) == (61, 59, False)  # one had another text
    status, out, _ = run(*words)
    assert status == 0
    assert "Nothing changes: planted has 660 documents, as before" in out
    ids = tmp_path / "ids.txt"
    ids.write_text("".join(f"{document.id}\n" for document in NEW[1:]) + "\nunknown/id\n")
    status, out, err = run("remove", NEW[0].id, "--file", ids, "--from", "planted", "--home", home)
    assert status == 0, err
    assert "1 ids are of no document in planted: unknown/id" in out
    assert "planted has 600 documents now, 660 before" in out
    report = (explorer_of(home).path / "report.md").read_text()
    assert [line.split()[3:-1:2] for line in report.splitlines() if line.startswith("| 20")] == [
        ["60", "1", "0", "660"],
        ["0", "0", "60", "600"],
    ]
    with TestClient(create_app(Settings(home=home))) as client:
        assert client.get(urls.document("planted", NEW[0].id)).status_code == 404
        assert [client.get(link).status_code for link in links] == [200, 200]


def test_the_file_that_was_added_says_what_to_remove(run: Run, home: Path, tmp_path: Path) -> None:
    corpus, embeddings = files_of(NEW, tmp_path)
    run("add", corpus, "--to", "planted", "--embeddings", embeddings, "--home", home)
    status, out, err = run("remove", "--file", corpus, "--from", "planted", "--home", home)
    assert status == 0, err
    assert "planted has 600 documents now, 660 before" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["remove", "--from", "planted"], "No document is named. Give ids"),
        (["remove", "--from", "planted", "--file", "absent.txt"], "absent.txt: No such file"),
        (["remove", "x", "--from", "nowhere"], "holds no finished collection"),
        (["add", "absent.csv", "--to", "planted"], "There is no file absent.csv"),
    ],
)
def test_what_cannot_be_done_is_said(run: Run, home: Path, words: list[str], said: str) -> None:
    status, _, err = run(*words, "--home", home)
    assert status == 1
    assert said in err


def test_without_an_encoder_the_remedy_is_named(run: Run, home: Path, tmp_path: Path) -> None:
    file = tmp_path / "new.jsonl"
    file.write_text(json.dumps({"id": "n", "title": "New", "abstract": "A text."}) + "\n")
    status, _, err = run("add", file, "--to", "planted", "--home", home)
    assert status == 1
    assert "has no encoder: its embeddings were made elsewhere. Give those of the new documents with" in err


def test_an_endpoint_is_asked_for_what_is_new_only_and_told_before(run: Run, tmp_path: Path) -> None:
    home, old, new = tmp_path / "home", tmp_path / "old.parquet", tmp_path / "new.parquet"
    save_corpus(documents(120), old)
    save_corpus(documents(150)[90:], new)
    sizes = [
        "--latents",
        "16",
        "--k",
        "3",
        "--steps",
        "20",
        "--no-stability",
        "--truncate",
        "24",
        "--name",
        "planted",
    ]
    with serving(embeddings) as server:
        where = ["--embed-base-url", server.url, "--home", home]
        status, _, err = run("build", old, "--embedder", "openai:tiny", *sizes, *where)
        assert status == 0, err
        server.calls.clear()
        words = ["add", new, "--to", "planted", *where, "--price", "1"]
        status, out, err = run(*words, "--dry-run")
        assert (status, server.calls) == (0, []), err
        assert "30 new documents" in out
        assert f"30 documents: about 1 calls to openai:tiny at {server.url}" in out
        status, _, err = run(*words)
        assert status == 0, err
        asked = {text for call in server.calls for text in texts_of(call)}
        assert {document.text for document in documents(150)[120:]} <= asked
        assert asked.isdisjoint(document.text for document in documents(120)[3:])
    after = explorer_of(home)
    assert (after.n_documents, after.width) == (150, 24)
    status, _, err = run("add", old, "--to", "planted", "--home", home)
    assert status == 0, err  # nothing is new, so nobody is asked
