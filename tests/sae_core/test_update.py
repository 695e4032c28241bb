"""A collection with other documents is what a build of them would be, and nobody's links break."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.catalog import write_catalogue
from sae_core import artifact
from sae_core.build import BuildConfig, build
from sae_core.claims.study import Study
from sae_core.codes import encode_codes, encode_rows, join_documents
from sae_core.corpus import Corpus, Document
from sae_core.drift import LARGE, MIN_MEASURED, measure_drift
from sae_core.errors import ArtifactError, BusyError, EmbeddingError, SaefariError, TrainingError
from sae_core.explorer import Explorer, FeatureSet
from sae_core.fit import ADDED, HELD_OUT, TRAINED, split, stored_roles
from sae_core.metrics import evaluate
from sae_core.texts import Texts
from sae_core.update import Change, Update
from tests import planted as truth
from tests.killable import end, start

N_OLD, N_NEW = 400, 100
DOCUMENTS = truth.documents(N_OLD + N_NEW)
OLD, NEW = DOCUMENTS[:N_OLD], DOCUMENTS[N_OLD:]
SIZES: dict[str, Any] = {"latents": (40, 20), "ks": (3,), "steps": 100, "stability": False}


def vectors_of(documents: Sequence[Document], folder: Path) -> Path:
    path = folder / f"{len(documents)}.npy"
    np.save(path, truth.PlantedEmbedder().embed([document.text for document in documents]))
    return path


def build_of(home: Path, documents: Sequence[Document], **options: Any) -> Explorer:
    home.mkdir(parents=True, exist_ok=True)
    corpus = Corpus(documents, [])
    config = BuildConfig(
        name="c", title="C", embedder=None, embeddings=vectors_of(documents, home), **{**SIZES, **options}
    )
    build(corpus, config, home, truth.SilentConsole(), write_catalogue)
    return load(home)


def load(home: Path) -> Explorer:
    return Explorer.load(home / "collections" / "c")


@contextlib.contextmanager
def updating(home: Path) -> Iterator[Update]:
    with contextlib.closing(Update(load(home), home, truth.SilentConsole())) as update:
        yield update


def add(home: Path, documents: Sequence[Document]) -> Change:
    with updating(home) as update:
        addition = update.compare(Corpus(documents, []))
        return update.add(addition, write_catalogue, embeddings=vectors_of(documents, home))


def remove(home: Path, ids: Sequence[str]) -> Change:
    with updating(home) as update:
        return update.remove(ids, write_catalogue)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("built")
    build_of(home, OLD)
    return home


@pytest.fixture
def home(template: Path, tmp_path: Path) -> Path:
    """A collection of one's own, two SAEs over the older documents."""
    shutil.copytree(template / "collections", tmp_path / "home" / "collections")
    return tmp_path / "home"


def rows_of(path: Path, asked: str) -> list[tuple[Any, ...]]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute(asked).fetchall()


def assert_same_collection(home: Path, whole: Explorer, *, is_exact: bool = True) -> None:
    """All that is computed from documents and weights is that of a build with the same SAEs."""
    found = load(home)
    compare = np.testing.assert_array_equal if is_exact else np.testing.assert_allclose
    more: dict[str, Any] = {} if is_exact else {"rtol": 1e-4, "atol": 1e-6}
    np.testing.assert_array_equal(found.index.vectors(), whole.index.vectors())
    for name, values in artifact.load_arrays(whole.path / "metadata").items():
        np.testing.assert_array_equal(artifact.load_arrays(found.path / "metadata")[name], values, name)
    for name in ("venues", "categories"):
        assert artifact.load_json(found.path / "metadata" / f"{name}.json") == artifact.load_json(
            whole.path / "metadata" / f"{name}.json"
        )
    documents = "SELECT * FROM documents ORDER BY position"
    features = "SELECT row, sae, latent, n_documents, density FROM features ORDER BY row"
    for asked in (documents, features):
        assert rows_of(found.path / "catalogue.sqlite", asked) == rows_of(
            whole.path / "catalogue.sqlite", asked
        )
    assert list(found.saes) == list(whole.saes)
    for name in whole.saes:
        for part in ("codes", "features", "coactivation", *(f"matches/{other}" for other in whole.saes)):
            expected = artifact.load_arrays(whole.path / "saes" / name / part)
            got = artifact.load_arrays(found.path / "saes" / name / part)
            assert got.keys() == expected.keys()
            for key, values in expected.items():
                compare(got[key], values, err_msg=f"{name} {part} {key}", **more)
        ours, theirs = (bare_forest(each.saes[name]) for each in (found, whole))
        assert ours == theirs
        for measure in ("n_dead", "n_rare", "density", "encoder_decoder", "n_families", "splitting"):
            assert found.saes[name].metrics.get(measure) == whole.saes[name].metrics.get(measure)
    for key in ("n_documents", "width", "embeddings", "title"):
        assert found.manifest[key] == whole.manifest[key]
    assert found.manifest["corpus"]["fingerprint"] == whole.manifest["corpus"]["fingerprint"]


def bare_forest(space: FeatureSet) -> Any:
    families = [replace(family, label=None) for family in space.families]
    return replace(space.forest, families=families, seconds=0.0)


def rebuilt(home: Path, folder: Path, documents: Sequence[Document]) -> Explorer:
    """A build of these documents with the SAEs of a collection."""
    before = load(home)
    saes = tuple(before.path / "saes" / name / "sae.safetensors" for name in before.saes)
    return build_of(folder, documents, saes=saes)


def test_what_was_added_is_what_a_build_of_all_would_be(home: Path, tmp_path: Path) -> None:
    before = load(home)
    change = add(home, NEW)
    assert (change.n_new, change.n_before, change.n_documents) == (N_NEW, N_OLD, N_OLD + N_NEW)
    assert_same_collection(home, rebuilt(home, tmp_path / "whole", DOCUMENTS))
    after = load(home)
    for name, space in after.saes.items():
        assert [label.text for label in space.labels] == [label.text for label in before.saes[name].labels]
        assert space.sae.fingerprint() == before.saes[name].sae.fingerprint()
        for measure in ("fvu_train", "fvu_heldout", "n_train", "n_heldout", "baselines"):
            assert space.metrics[measure] == before.saes[name].metrics[measure]
    assert artifact.check(before.path)  # what was served before is whole
    assert not [file for file in artifact.check(after.path) if file.problem]


def test_only_what_comes_in_is_embedded_and_its_batch_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = truth.PlantedEmbedder()
    monkeypatch.setattr("sae_core.build.load_embedder", lambda *_, **__: encoder)
    monkeypatch.setattr("sae_core.embed.load_embedder", lambda *_, **__: encoder)
    config = BuildConfig(name="c", title="C", embedder="planted", **{**SIZES, "latents": (32,)})
    build(Corpus(OLD, []), config, tmp_path, truth.SilentConsole(), write_catalogue)
    n_before = encoder.n_embedded
    with updating(tmp_path) as update:
        update.add(update.compare(Corpus([*OLD[::7], *NEW], [])), write_catalogue)
    assert encoder.n_embedded - n_before == N_NEW
    after = load(tmp_path)
    np.testing.assert_array_equal(after.index.vectors(), encoder.embed([each.text for each in DOCUMENTS]))
    n_before = encoder.n_embedded
    monkeypatch.setattr(encoder, "fingerprint", "another", raising=False)
    with updating(tmp_path) as update, pytest.raises(EmbeddingError, match="not the one that embedded"):
        update.add(update.compare(Corpus([replace(NEW[0], abstract="Other.")], [])), write_catalogue)
    assert encoder.n_embedded == n_before


def test_an_id_that_is_there_is_left_alone_or_gets_its_new_text(home: Path, tmp_path: Path) -> None:
    changed = [replace(OLD[at], abstract=NEW[at // 5].abstract) for at in (3, 100, 399)]
    coming = [OLD[0], changed[2], NEW[0], replace(OLD[1], venue="Elsewhere"), changed[0], NEW[1], changed[1]]
    change = add(home, coming)
    assert (change.n_new, change.n_replaced, change.n_same) == (2, 3, 2)
    documents = [*OLD, NEW[0], NEW[1]]
    for at, document in zip((3, 100, 399), changed, strict=True):
        documents[at] = document
    assert_same_collection(home, rebuilt(home, tmp_path / "whole", documents))
    roles_M = stored_roles(load(home).path, N_OLD + 2, 0)
    assert np.flatnonzero(roles_M == ADDED).tolist() == [3, 100, 399, 400, 401]
    generation = load(home).generation
    again = add(home, coming)
    assert (again.n_new, again.n_replaced, again.n_same, again.made) == (0, 0, 7, "")
    assert load(home).generation == generation


def test_what_a_build_would_refuse_is_refused_with_its_row(home: Path) -> None:
    twin = replace(NEW[0], title=f"  {OLD[5].title.upper()}")
    corpus = Corpus([NEW[1], twin, NEW[2]], [(2, "empty text", "")])
    path = vectors_of([NEW[1], NEW[9], twin, NEW[2]], home)  # a row for each row that was read
    with updating(home) as update:
        change = update.add(update.compare(corpus), write_catalogue, embeddings=path)
    assert change.n_new == 2
    explorer = load(home)
    np.testing.assert_allclose(explorer.index.vectors()[-2:], np.load(path)[[0, 3]], atol=1e-6)
    assert change.rejected == {"empty text": 1, "duplicate title of a document that is there": 1}
    lines = (explorer.path / "rejected-1.jsonl").read_text().splitlines()
    assert [line[:12] for line in lines] == ['{"row": 2, "', '{"row": 3, "']
    assert f"{NEW[0].id}: " in lines[1]


def test_what_was_removed_is_gone_and_the_rest_is_as_if_it_had_never_been(home: Path, tmp_path: Path) -> None:
    gone = {document.id for document in OLD[::9]} | {OLD[-1].id}
    change = remove(home, [*gone, "nobody"])
    left = [document for document in OLD if document.id not in gone]
    assert (change.n_removed, change.n_absent, change.n_documents) == (len(gone), 1, len(left))
    assert_same_collection(home, rebuilt(home, tmp_path / "whole", left), is_exact=False)
    explorer = load(home)
    with contextlib.closing(Texts(explorer.path / "catalogue.sqlite")) as texts:
        assert texts.documents(range(len(left))) == left
        assert texts.find_positions([OLD[0].id]) == {}
    assert remove(home, list(gone)).made == ""
    assert load(home).generation == explorer.generation
    add(home, [document for document in OLD if document.id in gone])
    roles_M = stored_roles(load(home).path, N_OLD, 0)
    assert (roles_M == ADDED).nonzero()[0].tolist() == list(range(len(left), N_OLD))
    assert [each["kind"] for each in load(home).manifest["changes"]] == ["remove", "add"]


def test_too_few_are_not_left(home: Path) -> None:
    with pytest.raises(TrainingError, match="39 of the 400 documents"):
        remove(home, [document.id for document in OLD[39:]])


def test_errors_are_those_on_the_documents_of_training_that_are_left(home: Path) -> None:
    trained, heldout = split(N_OLD, 0)
    before = load(home)
    remove(home, [OLD[at].id for at in (*trained[:30], *heldout[:10])])
    x_MD = before.index.vectors()
    for name, space in load(home).saes.items():
        scores = space.metrics
        assert (scores["n_train"], scores["n_heldout"]) == (len(trained) - 30, len(heldout) - 10)
        assert scores["fvu_train"] == pytest.approx(evaluate(space.sae, x_MD[trained[30:]])["fvu"])
        assert scores["fvu_heldout"] == pytest.approx(evaluate(space.sae, x_MD[heldout[10:]])["fvu"])
        assert scores["fvu_heldout"] != before.saes[name].metrics["fvu_heldout"]
    study = Study(load(home), next(iter(load(home).saes.values())), [])
    np.testing.assert_array_equal(study.x_MD[study.is_train_M], x_MD[trained[30:]])
    roles_M = stored_roles(load(home).path, N_OLD - 40, 0)
    assert [int((roles_M == role).sum()) for role in (TRAINED, HELD_OUT, ADDED)] == [330, 30, 0]


def test_the_evidence_of_a_label_moves_with_its_documents(home: Path) -> None:
    before = load(home)
    ids = [document.id for document in OLD]
    changed = replace(OLD[4], abstract=NEW[4].abstract)
    gone = {ids[at] for at in range(0, N_OLD, 5)}
    remove(home, list(gone))
    add(home, [*NEW, changed])
    after = load(home)
    with contextlib.closing(Texts(after.path / "catalogue.sqlite")) as texts:
        now = {document.id: at for at, document in enumerate(texts.documents(range(after.n_documents)))}
    n_checked = 0
    for name, space in before.saes.items():
        for old, new in zip(space.labels, after.saes[name].labels, strict=True):
            if old.evidence is None or new.evidence is None:
                assert old.evidence == new.evidence
                continue
            for part in ("positives", "negatives"):
                kept = [ids[at] for at in getattr(old.evidence, part)]
                kept = [each for each in kept if each not in gone and each != changed.id]
                assert getattr(new.evidence, part) == [now[each] for each in kept]
                n_checked += len(kept)
            assert (new.text, new.score, new.history) == (old.text, old.score, old.history)
        named = {family.id: family.label for family in space.families if family.label}
        for family in after.saes[name].families:
            label = named.get(family.id)
            assert (family.label and family.label.text) == (label and label.text)
    assert n_checked > 500


def unheard(home: Path, topic: int) -> tuple[list[Document], list[Document]]:
    """The documents without a topic, of a collection built of them, and those with it."""
    word = truth.WORDS[topic]
    without = [document for document in DOCUMENTS if word not in document.text]
    explorer = build_of(home / "all", DOCUMENTS, latents=(64,), steps=800)
    (name,) = explorer.saes
    build_of(home, without, saes=(explorer.path / "saes" / name,))
    return without, [document for document in DOCUMENTS if word in document.text]


def test_a_feature_that_fires_for_the_first_time_gets_a_name_of_its_own(tmp_path: Path) -> None:
    _, with_it = unheard(tmp_path, 40)
    (before,) = load(tmp_path).saes.values()
    change = add(tmp_path, with_it)
    (after,) = load(tmp_path).saes.values()
    first = np.flatnonzero((before.codes.counts() == 0) & (after.codes.counts() > 0))
    assert len(first) >= 1
    assert change.n_first == {after.name: len(first)}
    named = [after.labels[latent] for latent in first.tolist()]
    assert truth.WORDS[40] in {label.text for label in named}
    others = {label.text for at, label in enumerate(after.labels) if at not in first and label.text}
    assert others.isdisjoint(label.text for label in named)
    assert all(label.evidence for label in named)
    assert after.metrics["n_labelled"] == int(after.named_N.sum())
    unheard_N = after.codes.counts() == 0
    assert all(label.source == "none" for label, dead in zip(after.labels, unheard_N, strict=True) if dead)


def test_a_label_stays_where_the_feature_falls_silent_and_fires_again(home: Path) -> None:
    before = load(home)
    space = min(before.saes.values(), key=lambda each: each.sae.n_latents)
    counts = space.codes.counts()
    latent = min(np.flatnonzero(space.named_N).tolist(), key=lambda at: counts[at])
    positions = space.codes.of_latent(latent)[0].tolist()
    remove(home, [OLD[at].id for at in positions])
    silent = load(home).saes[space.name]
    assert silent.codes.counts()[latent] == 0
    assert silent.labels[latent].text == space.labels[latent].text
    assert not silent.named_N[latent]
    add(home, [OLD[at] for at in positions])
    assert load(home).saes[space.name].labels[latent].text == space.labels[latent].text


# --- embeddings -----------------------------------------------------------------------------------


def test_without_an_encoder_a_file_of_embeddings_is_asked_for(home: Path) -> None:
    with updating(home) as update, pytest.raises(EmbeddingError, match=r"has no encoder.*--embeddings FILE"):
        update.add(update.compare(Corpus(NEW, [])), write_catalogue)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda x_MD: x_MD[:-1], "rows for 102 documents"),
        (lambda x_MD: x_MD[:, :30] / np.linalg.norm(x_MD[:, :30], axis=1, keepdims=True), "30 wide, c 32"),
        (lambda x_MD: x_MD[:, ::-1], "other embeddings for texts that are in c already"),
        (lambda x_MD: np.where(np.arange(len(x_MD))[:, None] == 9, np.nan, x_MD), "NaN"),
    ],
)
def test_embeddings_that_do_not_fit_are_refused(home: Path, spoil: Any, said: str) -> None:
    documents = [*OLD[:2], *NEW]
    path = vectors_of(documents, home)
    np.save(path, spoil(np.load(path)))
    before = load(home).generation
    with updating(home) as update, pytest.raises(EmbeddingError, match=said):
        update.add(update.compare(Corpus(documents, [])), write_catalogue, embeddings=path)
    assert load(home).generation == before


# --- drift ----------------------------------------------------------------------------------------


def test_drift_is_the_held_out_error_times_something(home: Path, tmp_path: Path) -> None:
    add(home, NEW)
    for space in load(home).saes.values():
        drift = space.metrics["drift"]["all"]
        assert drift["n"] == N_NEW
        assert drift["fvu_heldout"]["value"] == pytest.approx(space.metrics["fvu_heldout"], rel=1e-5)
        assert drift["times"]["low"] < LARGE  # planted alike
        assert "latest" not in space.metrics["drift"]
    report = (load(home).path / "report.md").read_text()
    assert "documents added since training" in report
    assert "Documents that came and went" in report
    add(home, [replace(document, id=f"more-{document.id}", title=f"More {document.id}") for document in NEW])
    for space in load(home).saes.values():
        assert space.metrics["drift"]["all"]["n"] == 2 * N_NEW
        assert space.metrics["drift"]["latest"]["n"] == N_NEW


def test_documents_of_another_kind_drift(planted: Explorer) -> None:
    (space,) = planted.saes.values()
    n, old_MD = planted.n_documents, planted.index.vectors()
    trained, heldout = split(n, 0)
    other_MD = np.random.default_rng(1).standard_normal((200, planted.width)).astype(np.float32)
    other_MD /= np.linalg.norm(other_MD, axis=1, keepdims=True)
    x_MD = np.concatenate((old_MD, other_MD))
    codes = encode_codes(space.sae, x_MD)
    added = np.arange(n, n + 200)
    drift = measure_drift(space.sae, codes, x_MD, trained=trained, heldout=heldout, added=added)
    assert drift is not None
    assert drift.is_large
    assert drift.times.low > 2
    few = added[: MIN_MEASURED - 1]
    assert measure_drift(space.sae, codes, x_MD, trained=trained, heldout=heldout, added=few) is None
    half = heldout[::2], heldout[1::2]
    same = measure_drift(space.sae, codes, x_MD, trained=trained, heldout=half[0], added=half[1])
    assert same is not None
    assert not same.is_large
    assert same.times.low < 1 < same.times.high
    assert abs(same.silent.value - same.silent_expected) < 0.1


# --- codes ----------------------------------------------------------------------------------------


def test_some_documents_are_encoded_as_among_all(planted: Explorer) -> None:
    (space,) = planted.saes.values()
    x_MD = np.ascontiguousarray(planted.index.vectors())
    rows = np.unique(np.random.default_rng(5).integers(0, len(x_MD), 100))
    some = encode_rows(space.sae, x_MD, rows)
    whole = space.codes.by_document().take(rows, space.sae.n_latents)
    for name in ("document_ptr", "latents", "values"):
        np.testing.assert_array_equal(getattr(some, name), getattr(whole, name))
    both = join_documents([some, whole]).take(np.array([0, 100, 99]), space.sae.n_latents)
    np.testing.assert_array_equal(both.latents[: both.document_ptr[1]], some.latents[: some.document_ptr[1]])


# --- what happens on the way ----------------------------------------------------------------------


@pytest.mark.parametrize("where", ["numpy.save", "os.fsync"])
def test_a_full_disk_leaves_what_was_served(home: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    before = load(home)
    path = vectors_of(NEW, home)

    def fail(*_args: Any, **_more: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with updating(home) as update, monkeypatch.context() as patch:
        patch.setattr(where, fail)
        addition = update.compare(Corpus(NEW, []))
        with pytest.raises(ArtifactError, match="disk is full"):
            update.add(addition, write_catalogue, embeddings=path)
        with pytest.raises(ArtifactError, match="disk is full"):
            update.remove([OLD[0].id], write_catalogue)
    assert load(home).generation == before.generation
    assert [each.name for each in before.path.parent.iterdir()] == [before.generation]


def test_a_collection_that_changed_in_the_meantime_is_left_alone(home: Path) -> None:
    with updating(home) as update:
        remove(home, [OLD[0].id])
        with pytest.raises(SaefariError, match="was built or changed in the meantime"):
            update.remove([OLD[1].id], write_catalogue)
    with artifact.locked(home / "collections" / "c"), pytest.raises(BusyError):
        remove(home, [OLD[1].id])
    assert load(home).n_documents == N_OLD - 1


def test_kill_9_leaves_a_whole_collection_and_the_same_command_ends_it(
    home: Path, killable: subprocess.Popen[str]
) -> None:
    vectors_of(DOCUMENTS, home).rename(home / f"{len(DOCUMENTS)}.npy")
    moments, sizes, n_killed = random.Random(5), (N_OLD, len(DOCUMENTS)), 0
    for n in sizes[::-1]:  # the first is slow: nothing is warm yet
        began = time.monotonic()
        start(killable, "update", home, n)
        end(killable)
    whole = time.monotonic() - began
    for _ in range(6):
        explorer = load(home)
        other = sum(sizes) - explorer.n_documents
        pid = start(killable, "update", home, other)
        time.sleep(moments.uniform(0, 0.8 * whole))
        with contextlib.suppress(ProcessLookupError):  # it was faster
            os.kill(pid, signal.SIGKILL)
        end(killable)
        after = load(home)  # verifies every file
        n_killed += after.generation == explorer.generation
        assert after.generation == explorer.generation or after.n_documents == other
    assert n_killed >= 2, "the kills came too late to say anything"
    start(killable, "update", home, len(DOCUMENTS))
    end(killable)
    assert load(home).n_documents == len(DOCUMENTS)
    left = [path.name for path in load(home).path.parent.iterdir()]
    assert len(left) <= 2
    assert not any(name.startswith(".draft") for name in left)
