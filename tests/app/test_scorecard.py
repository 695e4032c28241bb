"""The scorecard: what an artifact says is shown, what it does not say is left out, in page and file alike."""

from __future__ import annotations

import copy
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.scorecard import read_training, scorecard_of, write_scorecard
from sae_core.errors import ArtifactError
from tests.app.served import Planted, serve

OLD_METRICS: dict[str, Any] = {
    "n_latents": 64,
    "k": 4,
    "n_train": 540,
    "n_heldout": 60,
    "fvu_train": 0.2,
    "fvu_heldout": 0.25,
    "l0": 3.9,
    "n_dead": 1,
}
METRICS: dict[str, Any] = {
    **OLD_METRICS,
    "n_rare": 2,
    "steps": 480,
    "best_step": 460,
    "density": {"low": -3.0, "high": 0.0, "counts": [1] * 15, "mean": -1.5, "n_dead": 1},
    "encoder_decoder": {"low": 0.0, "high": 1.0, "counts": [3] * 20, "mean": 0.58},
    "stability": {
        "threshold": 0.7, "n": 63, "n_matched": 45, "share": 0.714, "low": 0.593, "high": 0.811,
        "mean_cosine": 0.81, "random_share": 0.0, "random_mean_cosine": 0.41, "random_n": 63,
    },
    "retrieval": {"k": 10, "n_queries": 300, "ndcg": 0.645, "ndcg_reconstructed": 0.612, "kept": 0.949},
    "baselines": [{"name": "PCA, 4 components", "fvu_heldout": 0.6, "remark": "the best linear code"}],
}  # fmt: skip
CONFIG = {"n_latents": 64, "k": 4, "steps": 500, "seed": 3, "select": "auto", "patience": None}
OLD_HISTORY = [
    {"step": step, "fvu_train": 0.2, "fvu_heldout": 0.25, "dead": 0.0} for step in range(10, 510, 10)
]
HISTORY = [{**line, "rare": 0.01, "learning_rate": 3e-3} for line in OLD_HISTORY]
SECTIONS = ("curve", "baselines", "stability", "density", "cosines", "config", "provenance")


def write_training(folder: Path, metrics: dict[str, Any], history: list[dict[str, float]]) -> None:
    folder.mkdir()
    training = {"config": CONFIG, "data": "ab" * 32, "versions": {"torch": "2.13.0"}, "metrics": metrics}
    (folder / "training.json").write_text(json.dumps(training))
    (folder / "log.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in history))


def sections(html: str) -> set[str]:
    return set(re.findall(r'<section aria-labelledby="(\w+)"', html))


def test_everything_that_is_known_is_shown(tmp_path: Path) -> None:
    write_training(tmp_path / "run", METRICS, HISTORY)
    html = write_scorecard(tmp_path / "run").read_text()
    assert sections(html) == set(SECTIONS)
    assert len(re.findall('class="curve curve-(?:train|heldout|dead|rare|rate)" d="M0 4H24"', html)) == 4
    for words in (
        "71.4\u202f%",
        "59.3\u202f% to 81.1\u202f%",
        "0.612",
        "best, step 460",
        "ab" * 32,
        "mean 0.58",
    ):
        assert words in html
    assert '480</span> of <span class="num">500</span> training steps' in html


def test_what_an_older_training_does_not_say_is_left_out(tmp_path: Path) -> None:
    write_training(tmp_path / "run", OLD_METRICS, OLD_HISTORY)
    html = write_scorecard(tmp_path / "run").read_text()
    assert sections(html) == {"curve", "config", "provenance"}
    shown = re.findall("<dt>(.+?)</dt>", html)
    assert shown[:4] == ["FVU, held-out", "FVU, train", "L0", "dead"]
    assert {"rare", "stability", "retrieval kept", "labelled"}.isdisjoint(shown)


def test_a_training_without_a_log_has_no_curve(tmp_path: Path) -> None:
    write_training(tmp_path / "run", METRICS, [])
    assert "curve" not in sections(write_scorecard(tmp_path / "run").read_text())


def test_the_file_needs_no_other(tmp_path: Path) -> None:
    write_training(tmp_path / "run", METRICS, HISTORY)
    html = write_scorecard(tmp_path / "run").read_text()
    assert re.findall(r"\b(?:src|action|srcset)=", html) == []
    assert {link.partition(":")[0].partition("#")[0] for link in re.findall(r'\bhref="([^"]*)"', html)} <= {
        "",
        "data",
    }
    assert re.findall(r"url\(|@import|https?://", html) == []
    assert "<script" not in html


def test_text_from_the_record_is_only_text(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    write_training(
        tmp_path / "run",
        {**METRICS, "baselines": [{"name": evil, "fvu_heldout": 1, "remark": evil}]},
        HISTORY,
    )
    assert "<script" not in write_scorecard(tmp_path / "run").read_text()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("stability", {"share": None, "n": 0}),
        ("retrieval", {"k": 10, "n_queries": 0, "kept": None}),
        ("density", None),
        ("encoder_decoder", {"low": 0.0, "high": 1.0, "counts": [0], "mean": None}),
        ("n_rare", None),
        ("best_step", None),
    ],
)
def test_what_could_not_be_measured_is_left_out_too(tmp_path: Path, name: str, value: object) -> None:
    write_training(tmp_path / "run", {**METRICS, name: value}, HISTORY)
    assert "None" not in write_scorecard(tmp_path / "run").read_text()


def test_a_long_log_is_thinned_out_and_keeps_its_last_line() -> None:
    history = [{"step": step, "fvu_train": 0.2} for step in range(1, 5001)]
    curve = scorecard_of("x", OLD_METRICS, CONFIG, history).curve
    assert len(curve) <= 400
    assert curve[-1].step == 5000


def test_numbers_that_are_none_are_missing_points() -> None:
    history = [{"step": 1, "fvu_train": float("nan"), "fvu_heldout": None, "dead": 0.5}]
    (point,) = scorecard_of("x", OLD_METRICS, CONFIG, history).curve
    assert (point.fvu_train, point.fvu_heldout, point.dead, point.rare) == (None, None, 0.5, None)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"config": {}}'])
def test_a_damaged_record_is_said_with_a_remedy(tmp_path: Path, content: str) -> None:
    (tmp_path / "training.json").write_text(content)
    with pytest.raises(ArtifactError, match=r"training\.json is .*saefari train"):
        read_training(tmp_path)


def test_a_folder_without_a_record_is_said_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"holds no finished training\. Run `saefari train`"):
        write_scorecard(tmp_path)


def test_the_page_shows_what_the_file_shows(planted: Planted, client: TestClient) -> None:
    html = client.get(planted.base).text
    assert sections(html) >= {"curve", "baselines", "density", "cosines", "scores", "config", "provenance"}


def test_the_page_of_an_older_artifact_shows_what_there_is(planted: Planted) -> None:
    older = {name: planted.set.metrics[name] for name in OLD_METRICS}
    shown = replace(planted.set, metrics=older, history=OLD_HISTORY)
    explorer = copy.copy(planted.explorer)
    explorer.saes = {planted.sae: shown}
    with TestClient(serve(planted, explorer)) as client:
        answer = client.get(planted.base)
        twin = client.get(f"{planted.base}.json").json()
    assert answer.status_code == 200
    assert sections(answer.text) >= {"curve", "density", "config"}
    assert {"stability", "cosines"}.isdisjoint(sections(answer.text))
    assert twin["card"]["stability"] is None
    assert twin["card"]["n_rare"] is None


def test_the_twin_has_the_same_numbers(planted: Planted, client: TestClient) -> None:
    card = client.get(f"{planted.base}.json").json()["card"]
    assert card["fvu_heldout"] == planted.set.metrics["fvu_heldout"]
    assert sum(card["density"]["counts"]) == card["n_latents"] - card["n_dead"]
    assert {"step", "fvu_train", "fvu_heldout", "dead", "rare", "learning_rate"} == card["curve"][-1].keys()
