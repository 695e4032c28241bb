"""`saefari convert`, and a collection that is built with the SAE of another package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from safetensors.numpy import save_file

from app import urls
from app.main import create_app
from app.settings import Settings
from sae_core.explorer import Explorer
from tests import planted as truth
from tests.app.served import Run

N, K = truth.N_TOPICS, 3


def foreign(folder: Path, kind: str = "topk") -> Path:
    """A SAELens folder whose latents are the planted topics."""
    folder.mkdir()
    directions_ND = truth.directions()
    weights = {
        "W_enc": np.ascontiguousarray(directions_ND.T),
        "b_enc": np.full(N, -0.2, dtype=np.float32),
        "W_dec": directions_ND,
        "b_dec": np.zeros(truth.WIDTH, dtype=np.float32),
    }
    config: dict[str, Any] = {"architecture": kind, "d_in": truth.WIDTH, "d_sae": N}
    if kind == "jumprelu":
        weights["threshold"] = np.linspace(0.05, 0.1, N, dtype=np.float32)
    else:
        config["k"] = K
    save_file(weights, folder / "sae_weights.safetensors")
    (folder / "cfg.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def corpus(tmp_path: Path) -> list[str | Path]:
    """The arguments of a build: texts, their embeddings, a home."""
    documents = truth.documents(150)
    rows = [{"id": d.id, "title": d.title, "abstract": d.abstract} for d in documents]
    file, vectors = tmp_path / "papers.jsonl", tmp_path / "papers.npy"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    np.save(vectors, truth.PlantedEmbedder().embed([d.text for d in documents]))
    return [file, "--embeddings", vectors, "--home", tmp_path / "home", "--quiet"]


def test_a_foreign_sae_becomes_a_collection(run: Run, corpus: list[str | Path], tmp_path: Path) -> None:
    status, out, _ = run("convert", foreign(tmp_path / "theirs"), "--out", tmp_path / "topics")
    assert status == 0
    assert "topk from saelens, 48 latents, k 3, 32 dimensions" in out
    assert "--sae" in out
    jump = foreign(tmp_path / "jump", "jumprelu")
    _, out, _ = run("convert", jump, "--out", tmp_path / "more", "--k", "2", "--from", "saelens")
    assert "At most 8 latents of a row are kept" in out
    both = ("--sae", tmp_path / "topics", "--sae", tmp_path / "more", "--sae", tmp_path / "topics")
    status, out, err = run("build", *corpus, *both)
    assert status == 0, err
    explorer = Explorer.load(tmp_path / "home/collections/papers")
    assert [(space.sae.variant, space.config["origin"]) for space in explorer.saes.values()] == [
        ("topk", "saelens, theirs"),
        ("jumprelu", "saelens, jump"),
    ]
    assert "| made elsewhere | saelens, theirs;" in (explorer.path / "report.md").read_text()
    for name, space in explorer.saes.items():
        np.testing.assert_array_equal(space.sae.directions_ND, truth.directions())
        assert space.metrics["fvu_heldout"] < 0.5
        with TestClient(create_app(Settings(home=tmp_path / "home"), {"papers": explorer})) as client:
            page = client.get(urls.sae("papers", name))
        assert page.status_code == 200
        assert "saelens, " in page.text
        assert "what it was trained on is not known here" in page.text
        assert "never trained on" not in page.text
        assert f'at most <span class="num">{space.sae.n_picks}</span>' in page.text


def test_a_training_of_ours_is_taken_too(run: Run, corpus: list[str | Path], tmp_path: Path) -> None:
    sizes = ("--latents", "32", "--k", "3", "--steps", "20", "--no-stability", "--quiet")
    status, _, err = run("train", corpus[2], "--out", tmp_path / "trained", *sizes)
    assert status == 0, err
    assert run("build", *corpus, "--sae", tmp_path / "trained")[0] == 0
    (space,) = Explorer.load(tmp_path / "home/collections/papers").saes.values()
    assert (space.sae.n_latents, space.config["origin"]) == (32, "trained")
    status, _, err = run("convert", tmp_path / "trained", "--out", tmp_path / "theirs", "--to", "sparsify")
    assert status == 0, err
    assert json.loads((tmp_path / "theirs/cfg.json").read_text())["num_latents"] == 32


def test_what_does_not_fit_is_said_before_anything_is_built(
    run: Run, corpus: list[str | Path], tmp_path: Path
) -> None:
    theirs = foreign(tmp_path / "theirs")
    status, _, err = run("build", *corpus, "--sae", theirs)
    assert status == 1
    assert "sae.safetensors" in err
    assert "`saefari convert`" in err
    run("convert", theirs, "--out", tmp_path / "topics")
    status, _, err = run("build", *corpus, "--sae", tmp_path / "topics", "--k", "4")
    assert status == 1
    assert "--sae takes an SAE as it is" in err
    wide_MD = np.eye(150, 40) + 0.1
    np.save(str(corpus[2]), wide_MD / np.linalg.norm(wide_MD, axis=1, keepdims=True))
    status, _, err = run("build", *corpus, "--sae", tmp_path / "topics")
    assert status == 1
    assert "reads 32 dimensions, the embeddings have 40" in err
    assert not (tmp_path / "home/collections/papers/CURRENT").exists()


def test_what_cannot_be_converted_ends_in_a_sentence(run: Run, tmp_path: Path) -> None:
    for path in (tmp_path / "none.pth", tmp_path):
        status, out, err = run("convert", path, "--out", tmp_path / "out")
        assert (status, out) == (1, "")
        assert err.startswith("saefari: ")
    assert not (tmp_path / "out").exists()
