"""`saefari eval`: what it prints, writes, publishes and shows, and that a stopped one goes on."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from app.main import create_app
from app.settings import Settings
from sae_core import artifact
from sae_core.claims.study import Study
from sae_core.evaluation import steering, stored_evaluations, users
from sae_core.evaluation.curves import Bench
from sae_core.explorer import Explorer
from tests.app.served import Planted, Run
from tests.planted import WORDS, PlantedEmbedder


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few strengths, and the planted encoder, which no command line can name."""
    monkeypatch.setattr(steering, "STRENGTHS", (0.7,))
    monkeypatch.setattr(steering, "COSINES", (0.7,))

    def attach(explorer: Explorer, **_: object) -> None:
        explorer.manifest["embedder"] |= {"fingerprint": PlantedEmbedder.fingerprint}
        explorer.attach_encoder(PlantedEmbedder())

    monkeypatch.setattr(Explorer, "load_encoder", attach)


@pytest.fixture
def home(planted: Planted, tmp_path: Path) -> Path:
    shutil.copytree(planted.home / "collections", tmp_path / "home" / "collections")
    return tmp_path / "home"


def stored(home: Path) -> list[Any]:
    (space,) = Explorer.load(home / "collections" / "planted").saes.values()
    return stored_evaluations(space.evaluation)


def test_steering_is_written_published_and_shown(run: Run, home: Path, tmp_path: Path) -> None:
    before = artifact.current(home / "collections" / "planted")
    words = ("eval", "steering", "planted", "--home", home, "--trials", "12", "--quiet")
    status, out, err = run(*words, "--out", tmp_path / "out")
    assert status == 0, err
    assert "### Moved up: named by words at equal cosine" in out
    assert (tmp_path / "out" / "steering.md").read_text() in out
    assert json.loads((tmp_path / "out" / "steering.json").read_text())["collection"] == "planted"
    after = artifact.current(home / "collections" / "planted")
    assert after != before
    artifact.verify(after)
    report = (after / "report.md").read_text()
    assert "| held-out FVU |" in report
    assert "## Steering" in report
    (found,) = stored(home)
    with TestClient(create_app(Settings(home=home))) as client:
        page = client.get(f"/planted/{found.sae}").text
        assert 'id="evaluation-1"' in page
        assert "Moved up: named by words at equal cosine" in page
        assert "before labels or documents changed" not in page
        twin = client.get(f"/planted/{found.sae}.json").json()
        assert twin["evaluations"][0]["title"] == "Steering"
    collection = home / "collections" / "planted"
    with artifact.locked(collection), artifact.revise(collection) as (folder, _):
        labels = artifact.load_json(artifact.current(collection) / "saes" / found.sae / "labels.json")
        labels[0]["text"] = "another"
        artifact.save_json(folder / "saes" / found.sae / "labels.json", labels)
    with TestClient(create_app(Settings(home=home))) as client:
        assert "before labels or documents changed" in client.get(f"/planted/{found.sae}").text


def test_a_stopped_evaluation_goes_on_where_it_was(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("eval", "steering", "planted", "--home", home, "--trials", "8")
    measured = Bench.curve
    calls: list[int] = []

    def stopping(bench: Bench, *args: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return measured(bench, *args)

    monkeypatch.setattr(Bench, "curve", stopping)
    status, _, err = run(*words)
    assert status == 130
    assert "goes on from what is already done" in err
    assert stored(home) == []
    status, _, err = run(*words)
    assert status == 0, err
    assert "up, delta" not in err
    assert "up, refined" in err
    n_first = len(calls)
    status, _, err = run(*words)
    assert status == 0, err
    assert len(calls) == n_first


def test_retrieval_of_a_collection_and_of_other_documents(run: Run, home: Path, tmp_path: Path) -> None:
    texts = [f"Notes on {word}, and on {other}" for word, other in itertools.pairwise(WORDS)]
    (tmp_path / "d.jsonl").write_text(
        "\n".join(
            json.dumps({"id": f"d{at}", "title": text, "abstract": text}) for at, text in enumerate(texts)
        )
    )
    queries = [{"query_id": at, "query": word, "split": "test"} for at, word in enumerate(WORDS[:20])]
    (tmp_path / "q.jsonl").write_text("\n".join(map(json.dumps, queries)))
    pairs = [{"query_id": at, "doc_id": f"d{at}"} for at in range(20)]
    (tmp_path / "r.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    judged = ("--queries", tmp_path / "q.jsonl", "--qrels", tmp_path / "r.jsonl", "--split", "test")
    words = ("eval", "retrieval", "planted", "--home", home, "--quiet", *judged)
    status, out, err = run(*words, "--documents", tmp_path / "d.jsonl", "--name", "notes")
    assert status == 0, err
    assert "20 judged queries (split test), 47 documents" in out
    assert "same scores, as plain search for 20 of 20 queries with nothing moved" in out
    status, _, err = run(*words)
    assert status == 1
    assert "is answered by a document here" in err
    assert [each.subject for each in stored(home)] == ["notes"]


def test_facets_of_a_file_and_of_categories(run: Run, home: Path, tmp_path: Path) -> None:
    ids = ["doc-0003", "doc-0004", "doc-0005"]
    line = {"query": WORDS[1], "facet": WORDS[2], "documents": dict.fromkeys(ids, 1)}
    (tmp_path / "mine.jsonl").write_text(json.dumps(line))
    status, out, err = run("eval", "facets", "planted", tmp_path / "mine.jsonl", "--home", home, "--quiet")
    assert status == 0, err
    assert "1 cases, 1 facets" in out
    (tmp_path / "names.json").write_text('{"group-0": "the first"}')
    status, out, err = run(
        "eval", "facets", "planted", "--names", tmp_path / "names.json", "--home", home, "--quiet"
    )
    assert status == 0, err
    assert "categories (categories)" in out
    assert [(each.kind, each.subject) for each in stored(home)] == [
        ("facets", "categories"),
        ("facets", "mine"),
    ]
    status, _, err = run("eval", "facets", "planted", tmp_path / "none.jsonl", "--home", home)
    assert status == 1
    assert "none.jsonl" in err


def test_simulated_users_are_measured_or_it_is_said_why_not(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("eval", "users", "planted", "--users", "9", "--home", home, "--quiet")
    monkeypatch.setattr(users, "_phrases", lambda _study: [])
    status, _, err = run(*words)
    assert status == 1
    assert "No users can be drawn from planted" in err

    def pairs(study: Study) -> list[tuple[str, Any, int]]:
        """Two words whose documents are shared out over the groups; one group is meant."""
        every = np.arange(len(study.documents))
        return [(f"{word} {other}", every, 0) for word, other in itertools.pairwise(WORDS)]

    monkeypatch.setattr(users, "_phrases", pairs)
    status, out, err = run(*words, "--seed", "1")  # what was found with another seed is kept
    assert status == 0, err
    assert "proposed moves" in out
    assert "Rocchio, usual weights" in out
    assert [(each.kind, each.subject) for each in stored(home)] == [("users", "")]


def test_without_an_encoder_texts_cannot_be_asked(
    run: Run, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Explorer, "load_encoder", lambda _explorer, **_: None)
    (tmp_path / "mine.jsonl").write_text("{}")
    status, _, err = run("eval", "facets", "planted", tmp_path / "mine.jsonl", "--home", home)
    assert status == 1
    assert "has no encoder here" in err
    status, out, err = run("eval", "steering", "planted", "--home", home, "--trials", "6", "--quiet")
    assert status == 0, err
    assert "document vectors, as there is no encoder" in out
