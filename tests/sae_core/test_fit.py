"""`saefari train`: from a file of embeddings to an SAE, a record and a scorecard's numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sae_core import artifact
from sae_core.checkpoint import CHECKPOINT, read_log
from sae_core.errors import BusyError, EmbeddingError, TrainingError
from sae_core.fit import plan, split, train_file
from sae_core.sae import SAE
from sae_core.train import Run
from tests import planted as truth

SIZE: dict[str, Any] = {"n_latents": 32, "k": 3, "steps": 30, "stability": False}
CONSOLE = truth.SilentConsole()


@pytest.fixture
def embeddings(tmp_path: Path) -> Path:
    path = tmp_path / "x.npy"
    texts = [document.text for document in truth.documents(400)]
    np.save(path, truth.PlantedEmbedder().embed(texts).astype(np.float16))
    return path


def test_heldout_rows_are_a_tenth_and_never_trained_on() -> None:
    trained, heldout = split(1000, seed=4)
    assert len(heldout) == 100
    assert sorted([*trained, *heldout]) == list(range(1000))
    assert len(split(10**6, seed=0)[1]) == 5000


def test_training_leaves_an_sae_and_its_record(embeddings: Path, tmp_path: Path) -> None:
    scores = train_file(embeddings, tmp_path / "out", CONSOLE, **SIZE)
    written = json.loads((tmp_path / "out" / "training.json").read_text())
    assert written["metrics"]["fvu_heldout"] == scores["fvu_heldout"] < 1
    assert written["config"]["n_latents"] == 32
    assert written["metrics"]["steps"] == 30
    assert 0 < written["metrics"]["evaluation_share"] < 1
    assert SAE.load(tmp_path / "out" / "sae.safetensors").k == 3


def test_a_second_seed_says_which_features_come_again(embeddings: Path, tmp_path: Path) -> None:
    options = {**SIZE, "n_latents": 48, "steps": 900, "stability": True}
    found = train_file(embeddings, tmp_path / "out", CONSOLE, **options)["stability"]
    assert found["low"] <= found["share"] <= found["high"]
    assert found["share"] > 0.4 > found["random_share"]


def interrupted(embeddings: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that was stopped after its tenth step."""

    class Stopping(Run):
        def advance(self) -> None:
            super().advance()
            if self.step == 10:
                self._save()
                raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("sae_core.fit.Run", Stopping)
        with pytest.raises(KeyboardInterrupt):
            train_file(embeddings, out, CONSOLE, **SIZE)


def test_resume_needs_no_options_and_ends_where_the_whole_run_does(
    embeddings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_file(embeddings, tmp_path / "whole", CONSOLE, **SIZE)
    interrupted(embeddings, tmp_path / "out", monkeypatch)
    assert not (tmp_path / "out" / "sae.safetensors").exists()
    train_file(embeddings, tmp_path / "out", CONSOLE, resume=True, stability=False)
    one, other = (SAE.load(tmp_path / name / "sae.safetensors") for name in ("whole", "out"))
    assert one.fingerprint() == other.fingerprint()
    assert [line["step"] for line in read_log(tmp_path / "out")] == [
        line["step"] for line in read_log(tmp_path / "whole")
    ]


def test_a_run_is_not_overwritten_by_another_one(
    embeddings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    interrupted(embeddings, out, monkeypatch)
    saved = (out / CHECKPOINT).read_bytes()
    with pytest.raises(TrainingError, match=r"another configuration \(k=3 n=32\).*--resume"):
        train_file(embeddings, out, CONSOLE, **{**SIZE, "k": 4})
    np.save(tmp_path / "other.npy", np.load(embeddings)[::-1])
    with pytest.raises(TrainingError, match="training on other rows"):
        train_file(tmp_path / "other.npy", out, CONSOLE, **SIZE)
    with artifact.locked(out), pytest.raises(BusyError, match="written by another process"):
        train_file(embeddings, out, CONSOLE, **SIZE)
    assert (out / CHECKPOINT).read_bytes() == saved
    with pytest.raises(TrainingError, match="no checkpoint to resume"):
        train_file(embeddings, tmp_path / "new", CONSOLE, resume=True)


def test_a_plan_says_what_training_takes_and_writes_nothing(embeddings: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    planned = plan(embeddings, n_latents=32, k=3, steps=1000)
    assert (planned.config.n_latents, planned.n_rows) == (32, 360)
    assert planned.memory > 5 * 4 * 2 * 32 * truth.WIDTH
    assert 0.01 < planned.seconds < 1000
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda x: x.astype(np.int64), "int64, not floating"),
        (lambda x: np.where(np.arange(len(x))[:, None] == 7, np.nan, x), r"Row 7 .*NaN or infinity"),
        (lambda x: np.where(np.arange(len(x))[:, None] == 9, 0, x), r"Row 9 .*only zeros"),
    ],
)
def test_rows_that_cannot_be_used_are_named(embeddings: Path, tmp_path: Path, spoil: Any, said: str) -> None:
    np.save(embeddings, spoil(np.load(embeddings)))
    with pytest.raises(EmbeddingError, match=said):
        train_file(embeddings, tmp_path / "out", CONSOLE, **SIZE)


def test_duplicates_only_are_refused_and_wide_numbers_read(embeddings: Path, tmp_path: Path) -> None:
    x_MD = np.load(embeddings).astype(np.float64)
    np.save(embeddings, x_MD)
    assert train_file(embeddings, tmp_path / "wide", CONSOLE, **SIZE)["fvu_heldout"] < 1
    np.save(embeddings, np.repeat(x_MD[:1], 400, axis=0))
    with pytest.raises(TrainingError, match="the same row"):
        train_file(embeddings, tmp_path / "out", CONSOLE, **SIZE)
