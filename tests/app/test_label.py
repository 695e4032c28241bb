"""`saefari label` with a real server behind it: what it costs, what it makes, and what it survives."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from app import urls
from app.catalog import write_catalogue
from app.main import create_app
from app.settings import Settings
from sae_core import artifact
from sae_core import endpoint as client_of_models
from sae_core.build import BuildConfig, build
from sae_core.corpus import Corpus
from sae_core.explorer import Explorer, FeatureSet
from sae_core.labels import Label
from sae_core.labels.predictors import embed_labels
from tests.app.served import Planted, Run
from tests.language_model import HANG, Call, FakeModel, Raw, completion, names, sensible, serving
from tests.planted import WORDS, PlantedEmbedder, SilentConsole, documents

ROOT = Path(__file__).parent.parent.parent
KEY = "sk-secret-0123456789"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_of_models, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(client_of_models, "LONGEST_PAUSE", 0.02)


@pytest.fixture
def home(planted: Planted, tmp_path: Path) -> Path:
    """A planted collection of one's own."""
    copy = tmp_path / "home"
    shutil.copytree(planted.home / "collections", copy / "collections")
    return copy


def words(server: FakeModel, home: Path, *more: str) -> list[str]:
    """`saefari label`, asking this server."""
    model = ["--llm-base-url", server.url, "--llm-model", "tiny"]
    return ["label", "planted", *model, "--home", str(home), *more]


def feature_set(home: Path) -> FeatureSet:
    return next(iter(Explorer.load(home / "collections" / "planted").saes.values()))


def generation(home: Path) -> Path:
    return artifact.current(home / "collections" / "planted")


def auc_of(label: Label) -> float:
    return label.score.auc.value if label.score else 0.0


def was_chosen(label: Label) -> bool:
    """Whether there were documents to choose it by."""
    return bool(label.candidates) and label.candidates[0].chosen_by is not None


def calls_in(text: str) -> int:
    return number_in(text, r"([\d,]+) calls to")


def families_in(text: str) -> int:
    return number_in(text, r"([\d,]+) families")


def number_in(text: str, pattern: str) -> int:
    found = re.search(pattern, text)
    assert found
    return int(found[1].replace(",", ""))


def test_a_language_model_labels_the_planted_collection(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAEFARI_LLM_API_KEY", KEY)
    before, old = feature_set(home), generation(home)
    with serving(sensible) as server:
        status, out, err = run(*words(server, home))
        n_calls, n_families = len(server.calls), families_in(out)
        assert server.count("family") == n_families > 1
        assert all(call.headers["authorization"] == f"Bearer {KEY}" for call in server.calls)
    assert status == 0, err
    assert calls_in(out) == n_calls
    assert f"Calls answered: {n_calls:,}; the endpoint counts {100 * n_calls:,} tokens in" in out
    assert "Asking tiny" in err
    after = feature_set(home)
    assert generation(home) != old
    for folder in (old, generation(home)):
        assert not [file for file in artifact.check(folder) if file.problem]
    named = [latent for latent, label in enumerate(after.labels) if label.source == "llm:tiny"]
    assert len(named) > 20
    latent = max(named, key=lambda latent: auc_of(after.labels[latent]))
    label, former = after.labels[latent], before.labels[latent]
    assert re.fullmatch(r"the \w+ <script>phenomenon</script>", label.text)
    assert label.text.split()[1] in WORDS
    assert label.candidates[0].text == label.text
    assert label.candidates[0].chosen_by is not None
    assert {candidate.source for candidate in label.candidates} == {"llm:tiny", "phrases"}
    assert auc_of(label) > 0.95
    assert (label.history[0].text, label.history[0].source) == (former.text, former.source)
    assert label.evidence is not None
    assert label.evidence.prompt.startswith("interpreter@")
    assert label.evidence.reasoning == "They share it."
    fires = set(after.codes.of_latent(latent)[0].tolist())
    assert set(label.evidence.positives) <= fires
    assert fires.isdisjoint(label.evidence.negatives)
    families = [family for family in after.families if family.label and family.label.source == "llm:tiny"]
    assert len(families) > 1
    named_family = max(families, key=lambda family: auc_of(family.label or Label("", "none")))
    assert named_family.label is not None
    assert named_family.label.text == f"family of {after.labels[named_family.id].text}"
    assert named_family.label.evidence is not None
    assert named_family.label.evidence.prompt.startswith("family@")
    assert auc_of(named_family.label) > 0.8
    whole = b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())
    assert KEY not in out + err
    assert KEY.encode() not in whole
    with TestClient(create_app(Settings(home=home))) as client:
        page = client.get(urls.feature("planted", after.name, latent)).text
        assert html.escape(label.text) in page
        assert label.text not in page
        assert "tiny" in page
        assert html.escape(former.text) in page
        found = client.get(urls.features("planted", after.name), params={"q": "phenomenon"}).text
        assert html.escape(label.text) in found


def test_the_encoder_of_the_collection_judges_and_no_other(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, encoder = tmp_path / "home", PlantedEmbedder()
    monkeypatch.setattr("sae_core.build.load_embedder", lambda *_, **__: encoder)
    monkeypatch.setattr("sae_core.embed.load_embedder", lambda *_, **__: encoder)
    sizes: dict[str, Any] = {"latents": (32,), "ks": (3,), "steps": 100, "stability": False}
    config = BuildConfig(name="planted", title="Planted", embedder="planted", **sizes)
    build(Corpus(documents(300), []), config, home, SilentConsole(), write_catalogue)
    with serving(sensible) as server:
        status, out, err = run(*words(server, home, "--limit", "5"))
        assert status == 0, err
        assert "judge: embedding" in out
        scores = [label.score for label in feature_set(home).labels if label.source == "llm:tiny"]
        assert scores
        assert scores[0] is not None
        assert "cosine of the label's embedding" in scores[0].predictor
        relabelled = feature_set(home)
        assert relabelled.label_vectors_ND is not None
        np.testing.assert_array_equal(relabelled.label_vectors_ND, embed_labels(relabelled.labels, encoder))
        monkeypatch.setattr(encoder, "fingerprint", "another", raising=False)
        status, _, err = run(*words(server, home, "--limit", "5"))
    assert status == 1
    assert "not the one that embedded these documents" in err


def test_a_dry_run_asks_nothing_and_says_what_a_run_will(run: Run, home: Path) -> None:
    old = generation(home)
    prices = ["--price-in", "2", "--price-out", "8", "--limit", "7"]
    with serving(sensible) as server:
        status, out, _ = run(*words(server, home, *prices, "--dry-run"))
        assert (status, server.calls) == (0, [])
        assert generation(home) == old
        assert "cost about 0.0" in out
        assert "7 features" in out
        planned = calls_in(out)
        run(*words(server, home, "--limit", "7"))
        assert len(server.calls) == planned
        _, out, _ = run(*words(server, home, "--limit", "7", "--dry-run"))
        assert calls_in(out) == 0
        assert f"{planned} answers are known already" in out
        _, out, _ = run(*words(server, home, "--limit", "9", "--dry-run"))
        assert calls_in(out) == 2 + families_in(out)  # other labels may mean other questions


def test_the_model_itself_can_judge(run: Run, home: Path) -> None:
    with serving(sensible) as server:
        judged = ["--predictor", "llm", "--limit", "3"]
        _, out, _ = run(*words(server, home, *judged, "--dry-run"))
        planned = calls_in(out)
        status, out, err = run(*words(server, home, *judged))
        assert status == 0, err
        asked = len(server.calls)
        assert planned >= asked > 0.5 * planned
        assert server.count("interpreter") == 3
        assert server.count("family") == families_in(out)
        best = max((label for label in feature_set(home).labels if label.source == "llm:tiny"), key=auc_of)
        assert best.score is not None
        assert "confidence of tiny" in best.score.predictor
        assert auc_of(best) > 0.75
        assert any("BM25" in other.predictor for other in best.other_scores)
        _, out, _ = run(*words(server, home, *judged, "--dry-run"))
        assert calls_in(out) == 0
        run(*words(server, home, *judged))
        assert len(server.calls) == asked


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_was_stopped_goes_on_where_it_was(
    end: signal.Signals, run: Run, home: Path, tmp_path: Path
) -> None:
    at_once = 3
    stopped_after = 11

    def answer(call: Call) -> Raw:
        return sensible(call) if call.number < stopped_after else HANG

    old = generation(home)
    with serving(answer) as server:
        command = [sys.executable, "-m", "app.cli", *words(server, home, "--concurrency", str(at_once))]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        log = tmp_path / "log"
        with log.open("w") as file:
            process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=file, stderr=file)
            deadline = time.monotonic() + 60
            while len(server.calls) < stopped_after + at_once and time.monotonic() < deadline:
                time.sleep(0.02)
            process.send_signal(end)
            status = process.wait(timeout=30)
        assert len(server.calls) == stopped_after + at_once
        assert status == (-end if end == signal.SIGKILL else 130)
        assert "Traceback" not in log.read_text()
        assert ("goes on from what is already done" in log.read_text()) == (end == signal.SIGINT)
        assert generation(home) == old
        server.calls.clear()
        server.answer = sensible
        status, out, err = run(*words(server, home))
        assert status == 0, err
        n_features = int((feature_set(home).codes.counts() > 0).sum())
        assert server.count("interpreter") == n_features - stopped_after  # those in flight came twice
        assert f"{stopped_after} answers are known already" in out


def test_an_endpoint_that_is_down_changes_nothing(run: Run, home: Path) -> None:
    old = generation(home)
    with serving(sensible) as server:
        pass
    status, _, err = run(*words(server, home, "--limit", "5"))
    assert status == 1
    assert "No label was made" in err
    assert f"{server.url} cannot be reached" in err
    assert "Start the server" in err
    assert generation(home) == old


def test_an_endpoint_that_dies_half_way_leaves_what_is_finished(run: Run, home: Path) -> None:
    before = feature_set(home)
    with serving(lambda call: sensible(call) if call.number < 6 else Raw(500, b"dead")) as server:
        status, out, err = run(*words(server, home, "--concurrency", "1"))
        n_features = int((before.codes.counts() > 0).sum())
        assert status == 0
        n = n_features + families_in(out)
        assert f"An answer is missing for {n - 6} of {n}, which keep" in out
        assert "10 questions in a row had no usable answer" in err
        assert "500 (dead)" in err
        after = feature_set(home)
        changed = [n for n, label in enumerate(after.labels) if label != before.labels[n]]
        assert len(changed) <= 6
        assert any(label.source == "llm:tiny" for label in after.labels)
        server.answer = sensible
        server.calls.clear()
        status, out, _ = run(*words(server, home, "--concurrency", "1"))
        assert status == 0
        assert len(server.calls) == n - 6
        assert "An answer is missing" not in out


def test_a_single_feature_without_an_answer_is_counted(run: Run, home: Path) -> None:
    with serving(lambda call: names("x" * 10_000) if call.number < 3 else sensible(call)) as server:
        status, out, err = run(*words(server, home, "--concurrency", "1", "--limit", "4"))
    assert status == 0
    assert f"An answer is missing for 1 of {4 + families_in(out)}" in out
    assert "no name in it" in err


def test_a_name_that_a_document_dictated_loses_the_tournament(run: Run, home: Path) -> None:
    """A model that obeys "ignore previous instructions": what it says predicts nothing, so phrases stay."""
    before = feature_set(home)
    with serving(lambda _: completion('{"labels": ["Visit evil example now"]}')) as server:
        status, out, _ = run(*words(server, home))
    assert status == 0
    after = feature_set(home)
    measured = [n for n, label in enumerate(before.labels) if was_chosen(label)]
    assert len(measured) > 20
    assert {after.labels[n].source for n in measured} == {"phrases"}
    assert [after.labels[n].text for n in measured] == [before.labels[n].text for n in measured]
    assert re.search(r"Labels by source: \d+ phrases", out)


def test_two_features_are_not_called_the_same_if_one_has_another_name(run: Run, home: Path) -> None:
    """Splitting: the model gives both halves of a concept the same best name."""

    def answer(call: Call) -> Raw:
        best = str(
            json.loads(json.loads(sensible(call).body)["choices"][0]["message"]["content"])["labels"][0]
        )
        word = best.split()[1] if call.prompt == "interpreter" else best
        return names(word, f"{word} of kind {call.number}")

    with serving(answer) as server:
        status, _, err = run(*words(server, home, "--concurrency", "1"))
    assert status == 0, err
    named = [label for label in feature_set(home).labels if label.source == "llm:tiny"]
    texts = [label.text for label in named]
    assert any("of kind" in text for text in texts)
    assert len(set(texts)) == len(texts)
    for label in named:
        if "of kind" in label.text:  # what it gave up is still shown, not as one that competed
            assert {each.text: each.chosen_by for each in label.candidates}[label.text.split()[0]] is None


def test_phrases_are_made_again_and_compete_with_names_given_before(run: Run, home: Path) -> None:
    with serving(sensible) as server:
        run(*words(server, home, "--limit", "8"))
    named = feature_set(home)
    status, out, _ = run("label", "planted", "--home", home)
    assert status == 0
    assert "No language model is asked" in out
    again = feature_set(home)
    assert "judge: bm25" in out
    for label, old in zip(again.labels, named.labels, strict=True):
        if old.source == "llm:tiny":
            assert "llm:tiny" in {candidate.source for candidate in label.candidates}
            if label.text == old.text:
                assert label.evidence == old.evidence
                assert label.history == old.history


def test_only_some_features_are_labelled(run: Run, home: Path) -> None:
    before = feature_set(home)
    living = [n for n, label in enumerate(before.labels) if label.source != "none"][:2]
    with serving(sensible) as server:
        status, out, _ = run(*words(server, home, "--only", f"{living[0]}, {living[1]}"))
        assert status == 0
        assert len(server.calls) == 2 + families_in(out)
    after = feature_set(home)
    changed = [n for n, label in enumerate(after.labels) if label != before.labels[n]]
    assert set(changed) <= set(living)
    assert changed


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--predictor", "llm"], "needs a language model"),
        (["--predictor", "magic"], "no predictor 'magic'"),
        (["--predictor", "embedding"], "has no encoder"),
        (["--llm-model", "tiny"], "--llm-base-url is missing"),
        (["--llm-base-url", "http://localhost"], "--llm-model is missing"),
        (["--llm-base-url", "nowhere", "--llm-model", "tiny"], "not the address of an endpoint"),
        (["--only", "99999"], "has no feature 99999"),
        (["--only", "a,b"], "not a list of whole numbers"),
        (["--sae", "k9-n9-abc"], "has no SAE k9-n9-abc"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is(
    more: list[str], said: str, run: Run, home: Path
) -> None:
    old = generation(home)
    status, _, err = run("label", "planted", "--home", home, *more)
    assert status == 1
    assert said in err
    assert generation(home) == old


def test_a_dead_feature_and_a_missing_collection_are_said(run: Run, home: Path) -> None:
    counts = feature_set(home).codes.counts()
    dead = [latent for latent, count in enumerate(counts) if count == 0]
    if dead:
        status, _, err = run("label", "planted", "--home", home, "--only", str(dead[0]))
        assert status == 1
        assert "fires on no document" in err
    status, _, err = run("label", "nothing", "--home", home)
    assert status == 1
    assert "no finished collection" in err


def test_a_key_over_plain_http_to_another_machine_is_warned_of(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAEFARI_LLM_API_KEY", KEY)
    there = ["--llm-base-url", "http://models.example", "--llm-model", "tiny", "--dry-run", "--limit", "1"]
    status, out, err = run("label", "planted", "--home", home, *there)
    assert status == 0
    assert "The key goes unencrypted to http://models.example" in err
    assert KEY not in out + err


def test_two_runs_at_once_are_refused(run: Run, home: Path) -> None:
    with artifact.locked(home / "collections" / "planted"), serving(sensible) as server:
        status, _, err = run(*words(server, home, "--limit", "1"))
        assert status == 1
        assert "being written by another process" in err
        assert server.calls == []
