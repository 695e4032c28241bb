"""The training benchmarks do what they claim, at sizes of seconds: ours and the paper's trainer, no peers."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import (
    add_documents,
    labels,
    read_corpus,
    steer_latency,
    train_quality,
    train_speed,
    worker_memory,
)
from benchmarks.peers import conductor
from benchmarks.peers.conductor import ENTRIES, ContestantError, Entry, Player
from benchmarks.peers.contestant import Task, batches
from benchmarks.peers.rows import planted_rows
from benchmarks.textbook import Textbook, normalised_error
from sae_core.corpus import save_corpus
from sae_core.embed import load_embedder
from sae_core.metrics import fvu
from sae_core.sae import SAE
from tests.planted import documents

WIDTH, N_LATENTS, K, BATCH = 32, 128, 4, 64


@pytest.fixture(scope="module")
def x_MD() -> torch.Tensor:
    return torch.from_numpy(planted_rows(2048, WIDTH))


@pytest.fixture
def rows(tmp_path: Path, x_MD: torch.Tensor) -> Path:
    np.save(tmp_path / "rows.npy", x_MD.numpy())
    return tmp_path / "rows.npy"


def last_line(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text.splitlines()[-1], parse_constant=pytest.fail)
    return found


def run(monkeypatch: pytest.MonkeyPatch, module: Any, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", [module.__name__, *arguments])
    module.main()


def test_the_textbook_learns(x_MD: torch.Tensor) -> None:
    textbook = Textbook.fresh(x_MD, N_LATENTS, K, learning_rate=3e-3)
    fvus = [textbook.step(x_BD) for x_BD, _ in zip(batches(x_MD, BATCH, 0), range(200), strict=False)]
    assert np.mean(fvus[-10:]) < 0.75 * np.mean(fvus[:10])
    lengths = textbook.decoder.weight.norm(dim=0)
    torch.testing.assert_close(lengths, torch.ones(N_LATENTS))


def test_a_step_of_the_textbook_answers_with_the_fvu_before_it(x_MD: torch.Tensor) -> None:
    textbook = Textbook.fresh(x_MD, N_LATENTS, K)
    x_BD = x_MD[:BATCH]
    before, z_BN = textbook.reconstruct(x_BD)
    assert int((z_BN > 0).sum(dim=1).max()) <= K
    assert textbook.step(x_BD) == pytest.approx(fvu(x_BD.numpy(), before.numpy()), rel=1e-5)
    assert textbook.step(x_BD) < fvu(x_BD.numpy(), before.numpy())


def test_the_unused_branch_of_the_textbook_changes_nothing(x_MD: torch.Tensor) -> None:
    with_it, without = (Textbook.fresh(x_MD, N_LATENTS, K, multi_k=multi_k) for multi_k in (True, False))
    for x_BD, _ in zip(batches(x_MD, BATCH, 0), range(5), strict=False):
        assert with_it.step(x_BD) == pytest.approx(without.step(x_BD), rel=1e-6)
    torch.testing.assert_close(with_it.encoder.weight, without.encoder.weight)


def test_dead_latents_of_the_textbook_are_pulled_towards_what_was_missed(x_MD: torch.Tensor) -> None:
    textbook = Textbook.fresh(x_MD, N_LATENTS, K, dead_after=0)
    asleep = torch.arange(N_LATENTS) < N_LATENTS // 2
    with torch.no_grad():
        textbook.b_enc_N[asleep] = -0.2  # positive before the bias, and in nobody's top k with it
        start = textbook.b_enc_N.clone()
    textbook.step(x_MD[:BATCH])
    moved = textbook.b_enc_N.detach() != start
    assert moved[asleep & (textbook.silent_N > 0)].any()


def test_the_normalised_error_of_the_mean_row_is_one(x_MD: torch.Tensor) -> None:
    mean_MD = x_MD.mean(dim=0, keepdim=True).expand_as(x_MD)
    assert normalised_error(mean_MD, x_MD).item() == pytest.approx(1)


def test_batches_go_through_all_rows_once_an_epoch() -> None:
    x_MD = torch.arange(12.0)[:, None]
    drawn = batches(x_MD, 4, 0)
    epochs = [torch.cat([next(drawn) for _ in range(3)]).ravel() for _ in range(2)]
    assert [sorted(epoch.tolist()) for epoch in epochs] == [list(range(12))] * 2
    assert not torch.equal(*epochs)


def test_the_speed_table_has_everybody_and_the_floor(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(conductor, "ENVIRONMENTS", tmp_path)  # as if `make peers` had not been called
    size, only = f"{WIDTH}x{N_LATENTS}x{K}", ["ours-float32", "textbook", "hypothesaes"]
    options = ("--threads", "1", "--rounds", "2", "--batch", str(BATCH))
    run(monkeypatch, train_speed, "--sizes", size, *options, "--only", *only)
    printed = capsys.readouterr().out
    table = {line.split("|")[1].strip(): line for line in printed.splitlines() if line.startswith("| ")}
    assert list(table) == ["trainer", *(ENTRIES[name].label for name in only)]
    assert "make peers" in table["HypotheSAEs"]
    assert table["the paper's code"].split("|")[5].strip() == "1.00"
    found = last_line(printed)
    (below,) = found["tables"]
    assert below["floor"] == pytest.approx(below["product"] + below["pass"])
    assert set(below["ratios"]) == {"paper / ours", "ours / floor"}
    by_name = {row["name"]: row for row in found["rows"]}
    assert [len(by_name[name]["seconds"]) for name in only] == [2, 2, 0]
    assert all(seconds > 0 for row in by_name.values() for seconds in row["seconds"])


def test_the_quality_table_compares_on_rows_nobody_saw(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(conductor, "ENVIRONMENTS", tmp_path)
    monkeypatch.setenv("SAEFARI_CORPORA", str(tmp_path))  # none there: planted rows
    sizes = ("--rows", "3000", "--heldout", "500", "--latents", "256", "--k", "8", "--steps", "12")
    run(monkeypatch, train_quality, *sizes, "--only", "textbook", "sparsify-adam")
    ours, paper, peer = last_line(capsys.readouterr().out)["rows"]
    assert [row["name"] for row in (ours, paper, peer)] == ["ours", "textbook", "sparsify-adam"]
    assert ours["steps"] == paper["steps"] == 12
    assert 0 < ours["fvu_train"] < ours["fvu_heldout"] < paper["fvu_heldout"] < 1.1
    assert "make peers" in peer["absent"]
    assert "fvu_heldout" not in peer


def test_what_goes_wrong_in_a_contestant_is_said(rows: Path) -> None:
    wrong = Entry("ours", "ours", "Ours", {"select": "int3"})
    task = Task(str(rows), N_LATENTS, K, steps=4, batch=BATCH)
    with pytest.raises(ContestantError, match="select is 'int3'"), Player(wrong, task):
        pytest.fail("it started")


def test_labels_of_a_corpus_predict_better_than_those_of_other_features(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    written = documents(300)
    save_corpus(written, tmp_path / "planted.parquet")
    np.save(tmp_path / "planted.embeddings.npy", load_embedder("minilm").embed([d.text for d in written]))
    monkeypatch.setenv("SAEFARI_CORPORA", str(tmp_path))
    sizes = ("--documents", "300", "--latents", "24", "--k", "4", "--steps", "150")
    run(monkeypatch, labels, "--corpus", "planted", *sizes)
    found = last_line(capsys.readouterr().out)
    assert found["source"] == "planted"
    assert (
        found["scores"]["features"]["BM25"]["auc"] > found["scores"]["another feature"]["BM25"]["auc"] + 0.1
    )
    assert 0 < found["embedding_seconds"] < found["seconds"]
    assert found["ratio"] == pytest.approx(found["seconds"] / found["phrases"] * found["rate"])


def test_memory_is_read_from_the_system() -> None:
    kib = train_speed.resident_kib()
    assert kib["VmHWM"] >= kib["VmRSS"] > kib["RssFile"] > 0


def test_moves_are_timed_beside_the_textbook_and_nobody_is_lost(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("SAEFARI_CORPORA", str(tmp_path))  # none there: random vectors
    monkeypatch.setattr(steer_latency, "N_LATENTS", 128)
    sizes = ("--documents", "1500", "--moves", "10", "--people", "3", "--seconds", "1")
    run(monkeypatch, steer_latency, *sizes)
    (found,) = last_line(capsys.readouterr().out)["results"]
    assert 0 < found["ranked_ms"] <= found["move_ms"] <= found["move_p99_ms"]
    assert found["times_faster_than_textbook"] == pytest.approx(
        found["textbook_ms"] / found["move_ms"], abs=0.02
    )
    for crowd in (found["dragging"], found["without_pause"]):
        assert crowd["people"] == 3
        assert crowd["requests"] >= 3
        assert 0 < crowd["p50_ms"] <= crowd["p99_ms"] <= crowd["longest_ms"]
    assert found["peak_mib"] > found["own_mib"] > 0


def test_memory_of_workers_is_that_of_all_processes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("SAEFARI_CORPORA", str(tmp_path))
    monkeypatch.setattr(steer_latency, "N_LATENTS", 128)
    run(monkeypatch, worker_memory, "--documents", "600", "--workers", "2", "--requests", "4")
    found = last_line(capsys.readouterr().out)
    (row,) = found["rows"]
    assert row["workers"] == 2
    assert 0 < row["own"] < row["pss"] < row["total"]
    assert 0 < row["live_s"] <= row["ready_s"]
    assert found["mapped_mib"] > 0


def test_a_file_is_read_in_two_sizes_and_doubles_are_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run(monkeypatch, read_corpus, "--rows", "1600", "--folder", str(tmp_path))
    found = last_line(capsys.readouterr().out)
    assert [each["rows"] for each in found["runs"]] == [400, 1600]
    assert [each["documents"] for each in found["runs"]] == [397, 1585]  # the first of a hundred is no double
    few, many = (each["peak_mib"] for each in found["runs"])
    assert found["bytes_per_row"] == pytest.approx((many - few) * 2**20 / 1200)
    assert list(tmp_path.iterdir()) == []


def test_the_textbook_move_ranks_by_what_the_latents_rebuild() -> None:
    rng = np.random.default_rng(3)
    x_MD = rng.standard_normal((50, 8)).astype(np.float32)
    W_ND = rng.standard_normal((16, 8)).astype(np.float32)
    W_ND /= np.linalg.norm(W_ND, axis=1, keepdims=True)
    b_dec_D = x_MD.mean(axis=0)
    sae = SAE(W_enc_ND=W_ND, W_dec_ND=W_ND, b_enc_N=np.zeros(16, dtype=np.float32), b_dec_D=b_dec_D, k=4)
    order = steer_latency.textbook_move(x_MD, sae, {3: 0.5, 7: -0.2})
    rebuilt = 0.5 * sae.directions_ND[3] - 0.2 * sae.directions_ND[7] + sae.b_dec_D
    assert order.tolist() == np.argsort(-(x_MD @ rebuilt)).tolist()


def test_adding_is_timed_beside_building_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    written = documents(120)
    save_corpus(written, tmp_path / "planted.parquet")
    np.save(tmp_path / "planted.embeddings.npy", load_embedder("minilm").embed([d.text for d in written]))
    monkeypatch.setenv("SAEFARI_CORPORA", str(tmp_path))
    sizes = ("--documents", "80", "--added", "40", "--latents", "16", "--k", "4", "--steps", "20")
    run(monkeypatch, add_documents, "--corpus", "planted", *sizes)
    found = last_line(capsys.readouterr().out)
    assert (found["source"], found["documents"], found["added"]) == ("planted", 80, 40)
    assert not any(stage.startswith("Training") for stage in found["stages"])
    embedding, ratios = found["stages"]["Embedding"], found["ratios"]
    kept, cold = ratios["where vectors were kept"], ratios["where all have to be embedded"]
    assert kept == pytest.approx((found["build_seconds"] + embedding) / found["seconds"], rel=0.01)
    assert cold - kept == pytest.approx(embedding * (120 / 40 - 1) / found["seconds"], rel=0.01)
