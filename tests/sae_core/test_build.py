"""A build ends whole or leaves what was there, whatever happens to it."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.catalog import write_catalogue
from sae_core import artifact
from sae_core.build import BuildConfig, build
from sae_core.corpus import Corpus
from sae_core.errors import ArtifactError, BusyError, EmbeddingError, TrainingError
from sae_core.explorer import Explorer
from tests import planted as truth

N = 400
SMALL: dict[str, Any] = {"n": N, "steps": 60}


def run(home: Path, corpus: Corpus, **options: Any) -> None:
    config = BuildConfig(name="c", title="C", **{"steps": 20, "embedder": None, **options})
    build(corpus, config, home, truth.SilentConsole(), write_catalogue)


def corpus_with_embeddings(folder: Path, n: int = N) -> tuple[Corpus, Path]:
    corpus = Corpus(truth.documents(n), [])
    path = folder / "embeddings.npy"
    np.save(path, truth.PlantedEmbedder().embed([document.text for document in corpus.documents]))
    return corpus, path


def test_the_folder_holds_a_report_for_people_and_a_manifest_for_machines(planted: Explorer) -> None:
    text = (planted.path / "report.md").read_text()
    (space,) = planted.saes.values()
    assert f"{space.metrics['fvu_heldout']:.3f}" in text
    assert "k-means" in text
    assert "PCA" in text
    manifest = json.loads((planted.path / "manifest.json").read_text())
    assert manifest["n_documents"] == truth.N_DOCUMENTS
    assert manifest["saes"][0]["metrics"]["n_heldout"] == truth.N_DOCUMENTS // 10
    assert not (planted.path.parents[3] / "work" / "planted").exists()


def test_what_documents_can_be_filtered_by_is_that_of_the_corpus(planted: Explorer) -> None:
    arrays = artifact.load_arrays(planted.path / "metadata")
    venues, categories = (
        artifact.load_json(planted.path / "metadata" / f"{name}.json") for name in ("venues", "categories")
    )
    for position, document in enumerate(truth.documents()):
        assert arrays["years"][position] == (document.year or 0)
        venue = arrays["venue_codes"][position]
        assert (venues[venue] if venue >= 0 else "") == document.venue
        cited = arrays["citations"][position]
        assert (None if cited < 0 else cited) == document.citations
        start, end = arrays["category_ptr"][position : position + 2]
        assert [categories[code] for code in arrays["category_codes"][start:end]] == (
            document.categories.split()
        )


def test_the_sae_beats_its_baselines(planted: Explorer) -> None:
    (space,) = planted.saes.values()
    for baseline in space.metrics["baselines"]:
        assert space.metrics["fvu_heldout"] < baseline["fvu_heldout"], baseline["name"]


def test_several_saes_share_a_collection_and_weights_name_them(tmp_path: Path) -> None:
    corpus, path = corpus_with_embeddings(tmp_path)
    run(tmp_path, corpus, embeddings=path, latents=(32, 48), ks=(3,))
    explorer = Explorer.load(tmp_path / "collections" / "c")
    assert [name[:7] for name in explorer.saes] == ["k3-n32-", "k3-n48-"]
    for name, space in explorer.saes.items():
        assert name.endswith(space.sae.fingerprint()[:6])
        ((other, matches),) = space.matches.items()
        assert other in explorer.saes
        assert other != name
        assert len(matches.latent_N) == space.sae.n_latents
        assert space.metrics["splitting"][other]["n"] == int((space.codes.counts() > 0).sum())


def test_the_same_build_again_gives_the_same_saes(tmp_path: Path) -> None:
    first, second = (Explorer.load(truth.planted_collection(tmp_path, **SMALL)) for _ in range(2))
    assert list(first.saes) == list(second.saes)


def test_the_same_size_asked_for_twice_is_one_sae(tmp_path: Path) -> None:
    corpus, path = corpus_with_embeddings(tmp_path)
    run(tmp_path, corpus, embeddings=path, latents=(32, 32), ks=(3, 3))
    assert len(Explorer.load(tmp_path / "collections" / "c").saes) == 1


def test_other_embeddings_of_the_same_texts_are_trained_on_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus, path = corpus_with_embeddings(tmp_path)
    sizes: dict[str, Any] = {"latents": (32,), "ks": (3,)}

    def interrupt(*_args: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:  # after the last checkpoint of training
        patch.setattr("sae_core.stages.describe", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, corpus, embeddings=path, **sizes)
    other = tmp_path / "other.npy"
    np.save(other, np.load(path)[:, ::-1])
    run(tmp_path, corpus, embeddings=other, **sizes)
    resumed = list(Explorer.load(tmp_path / "collections" / "c").saes)
    run(tmp_path / "fresh", corpus, embeddings=other, **sizes)
    assert resumed == list(Explorer.load(tmp_path / "fresh" / "collections" / "c").saes)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"ks": (99,), "latents": (32,)}, "k=99 latents per row of 32"),
        ({"latents": (4000,)}, "360 training rows are fewer than the 4000 latents"),
        ({"embeddings": None}, "neither an encoder nor a file"),
    ],
)
def test_what_cannot_be_built_is_said_before_anything_is_written(
    tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    corpus, path = corpus_with_embeddings(tmp_path)
    with pytest.raises(TrainingError, match=said):
        run(tmp_path, corpus, **{"embeddings": path, **options})
    assert artifact.collections(tmp_path) == []


def test_one_document_is_too_few(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="1 usable documents are too few"):
        run(tmp_path, Corpus(truth.documents(3)[:1], []))


def test_embeddings_of_another_length_are_refused_unless_only_the_beginning_is_used(tmp_path: Path) -> None:
    corpus, path = corpus_with_embeddings(tmp_path)
    shorter = Corpus(corpus.documents[:300], [])
    with pytest.raises(EmbeddingError, match="400 rows"):
        run(tmp_path, shorter, embeddings=path)
    run(tmp_path, shorter, embeddings=path, is_limited=True)
    assert Explorer.load(tmp_path / "collections" / "c").n_documents == 300
    np.save(path, np.load(path)[:200])
    with pytest.raises(EmbeddingError, match="200 rows"):
        run(tmp_path, shorter, embeddings=path, is_limited=True)


def test_embeddings_of_another_encoder_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus, path = corpus_with_embeddings(tmp_path)
    monkeypatch.setattr("sae_core.build.load_embedder", lambda *_args, **_more: truth.PlantedEmbedder())
    run(tmp_path, corpus, embeddings=path, embedder="planted")
    np.save(path, np.load(path)[::-1])
    with pytest.raises(EmbeddingError, match="not those of planted"):
        run(tmp_path, corpus, embeddings=path, embedder="planted")
    np.save(path, np.full((N, 5), 5**-0.5, dtype=np.float32))
    with pytest.raises(EmbeddingError, match="5 wide"):
        run(tmp_path, corpus, embeddings=path, embedder="planted")


def test_embeddings_follow_the_rows_of_the_file_past_rejected_ones(tmp_path: Path) -> None:
    corpus, path = corpus_with_embeddings(tmp_path)
    kept = [document for i, document in enumerate(corpus.documents) if i != 5]
    with_gap = Corpus(kept, [(6, "empty text", "")])
    run(tmp_path, with_gap, embeddings=path)
    explorer = Explorer.load(tmp_path / "collections" / "c")
    np.testing.assert_allclose(explorer.vector(5), np.load(path)[6], atol=1e-6)


def test_a_second_build_of_a_collection_is_refused(tmp_path: Path) -> None:
    corpus, path = corpus_with_embeddings(tmp_path)
    # flock belongs to the open file, so a second descriptor in this process stands for another process.
    with artifact.locked(tmp_path / "collections" / "c"), pytest.raises(BusyError):
        run(tmp_path, corpus, embeddings=path)


@pytest.mark.parametrize("where", ["numpy.save", "os.fsync"])
def test_a_full_disk_leaves_what_was_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    folder = truth.planted_collection(tmp_path, **SMALL)
    before = artifact.current(folder)
    corpus, path = corpus_with_embeddings(tmp_path)

    def fail(*_args: Any, **_more: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(where, fail)
        with pytest.raises(ArtifactError, match="disk is full"):
            build(
                corpus,
                BuildConfig(name="planted", title="", embedder=None, embeddings=path, steps=20, seed=9),
                tmp_path,
                truth.SilentConsole(),
                write_catalogue,
            )
    assert artifact.current(folder) == before
    artifact.verify(before)
    assert [path.name for path in before.parent.iterdir()] == [before.name]
