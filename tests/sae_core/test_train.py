"""Training: the textbook's arithmetic, the planted truth, and runs that can be stopped anywhere."""

from __future__ import annotations

import errno
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sae_core import train as training
from sae_core.checkpoint import CHECKPOINT, Progress, read_log
from sae_core.errors import TrainingError
from sae_core.metrics import evaluate
from sae_core.recipe import TrainConfig, learning_rate
from sae_core.sae import SAE
from sae_core.sparse import strongest
from sae_core.train import Run, Trainer, train

WIDTH = 16


def planted(n: int, width: int, n_directions: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    directions = rng.standard_normal((n_directions, width))
    weights = rng.random((n, n_directions)) * (rng.random((n, n_directions)) < 0.1)
    x_MD = weights @ directions + 0.01 * rng.standard_normal((n, width)) + 0.1
    unit: np.ndarray = (x_MD / np.linalg.norm(x_MD, axis=1, keepdims=True)).astype(np.float32)
    return unit


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    return planted(400, WIDTH, 24)


CONFIG = TrainConfig(n_latents=32, k=4, steps=60, batch=64, evaluate_every=5, select="float32")


def dense(x_BN: torch.Tensor, k: int) -> torch.Tensor:
    """ReLU(TopK) as a dense matrix."""
    top = x_BN.topk(k, dim=1)
    return torch.zeros_like(x_BN).scatter(1, top.indices, torch.relu(top.values))


def nmse(error: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return error.square().mean() / (target - target.mean(dim=0)).square().mean()


class Textbook:
    """The equations with dense products, autograd and nothing clever."""

    def __init__(self, trainer: Trainer) -> None:
        self.w = {name: value.detach().clone().requires_grad_() for name, value in trainer.weights.items()}
        self.config, self.dead_after = trainer.config, trainer.dead_after
        self.silent_N = torch.zeros(self.config.n_latents)
        encoder = [self.w["W_enc_ND"]]
        others = [value for name, value in self.w.items() if name != "W_enc_ND"]
        decayed = {"params": encoder, "weight_decay": self.config.weight_decay}
        self.optimiser = torch.optim.AdamW(
            [decayed, {"params": others, "weight_decay": 0.0}], betas=(0.9, self.config.beta2)
        )

    def loss(self, x: torch.Tensor, noisy: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        w, k = self.w, self.config.k
        pre = (noisy - w["b_dec_D"]) @ w["W_enc_ND"].T + w["b_enc_N"]
        z = dense(pre, k)
        missed = x - (z @ w["W_dec_ND"] + w["b_dec_D"])
        fvu = nmse(missed, x)
        total = fvu
        is_dead = self.silent_N >= self.dead_after
        if is_dead.any():
            n_aux = min(k // 2, int(is_dead.sum()))
            z_dead = dense(pre.masked_fill(~is_dead, -torch.inf), n_aux)
            target = missed.detach()
            total = total + nmse(target - z_dead @ w["W_dec_ND"], target) * self.config.aux_weight
        self.silent_N = torch.where((z > 0).any(dim=0), 0, self.silent_N + 1)
        return total, fvu.detach()

    def step(self, x: torch.Tensor, noisy: torch.Tensor, rate: float) -> float:
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.zero_grad()
        total, fvu = self.loss(x, noisy)
        total.backward()  # type: ignore[no-untyped-call]
        W, grad = self.w["W_dec_ND"], self.w["W_dec_ND"].grad
        assert grad is not None
        grad -= (grad * W.detach()).sum(dim=1, keepdim=True) * W.detach()
        torch.nn.utils.clip_grad_norm_(self.w.values(), 1.0)
        self.optimiser.step()
        with torch.no_grad():
            W /= W.norm(dim=1, keepdim=True)
        return float(fvu)


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_loss_curves_are_those_of_the_textbook(noise: float) -> None:
    # At higher rates the first row that picks the other of two nearly equal latents changes all that follows.
    sizes: dict[str, Any] = {"n_latents": 96, "k": 8, "steps": 200, "batch": 512}
    config = TrainConfig(**sizes, learning_rate=1e-3, noise=noise, select="float32")
    trainer = Trainer(planted(4096, 32, 64), config)
    with torch.no_grad():
        trainer.weights["b_enc_N"][:20] = -0.5  # these are dead until the auxiliary loss has raised them
    textbook = Textbook(trainer)
    seen_dead = 0
    for step in range(200):
        x, noisy, _ = trainer._batch()
        expected = textbook.step(x, noisy, learning_rate(config, step))
        assert float(trainer.step()) == pytest.approx(expected, rel=1e-4), step
        seen_dead += int((trainer.state.silent_N >= trainer.dead_after).any())
    assert seen_dead > 20  # so that the auxiliary loss was compared as well
    for name, value in trainer.weights.items():
        torch.testing.assert_close(value, textbook.w[name], rtol=2e-3, atol=2e-4, msg=name)


@pytest.mark.parametrize("variant", ["topk", "batchtopk", "matryoshka"])
def test_gradients_are_those_that_autograd_finds(rows: np.ndarray, variant: str) -> None:
    config = replace(CONFIG, variant=variant, noise=0.0, retrieval=0.5)
    trainer = Trainer(rows, config)
    with torch.no_grad():
        trainer.weights["b_enc_N"] += torch.linspace(-0.1, 0.1, 32)
        x, _, _ = trainer._batch()
        trainer._add_gradients()
        w = {name: value.detach().clone().requires_grad_() for name, value in trainer.weights.items()}
        pre = (x - w["b_dec_D"]) @ w["W_enc_ND"].T + w["b_enc_N"]
        picks = trainer.variant.pick(pre)
    chosen = torch.zeros_like(pre)
    chosen[torch.arange(len(x)).repeat_interleave(picks._counts_B), picks.latents_P] = 1
    z = torch.relu((x - w["b_dec_D"]) @ w["W_enc_ND"].T + w["b_enc_N"]) * chosen
    prefixes = trainer.variant.prefixes
    rebuilt = [z[:, :n] @ w["W_dec_ND"][:n] + w["b_dec_D"] for n in prefixes]
    loss = torch.stack([nmse(x - x_hat, x) for x_hat in rebuilt]).mean()
    kl = torch.nn.functional.kl_div(
        training._similarities(rebuilt[-1]), training._similarities(x), log_target=True, reduction="batchmean"
    )
    (loss + config.retrieval * kl).backward()  # type: ignore[no-untyped-call]
    for name, value in w.items():
        torch.testing.assert_close(trainer._grads[name], value.grad, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize(("n", "k"), [(512, 8), (512, 200), (500, 8), (16, 16)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_strongest_are_those_of_a_whole_sort(n: int, k: int, dtype: torch.dtype) -> None:
    a_BN = torch.randn(40, n, generator=torch.Generator().manual_seed(n)).to(dtype)
    a_BN[:3] = a_BN[:3].round()  # many ties
    expected = a_BN.sort(dim=1, descending=True).values[:, :k]
    found = strongest(a_BN, k, in_order=True)
    assert all(len(set(row)) == k for row in found.tolist())
    assert torch.equal(a_BN.gather(1, found), expected)
    assert torch.equal(a_BN.gather(1, strongest(a_BN, k)).sort(dim=1, descending=True).values, expected)


def test_selection_in_bfloat16_changes_next_to_nothing(rows: np.ndarray) -> None:
    curves = []
    for select in ("float32", "bfloat16"):
        trainer = Trainer(rows, replace(CONFIG, select=select, steps=200))
        curves.append([float(trainer.step()) for _ in range(200)])
    np.testing.assert_allclose(np.mean(curves[0][-20:]), np.mean(curves[1][-20:]), rtol=0.1)


def test_directions_stay_unit_and_training_helps(rows: np.ndarray, tmp_path: Path) -> None:
    sae = train(rows[40:], rows[:40], CONFIG, tmp_path)
    np.testing.assert_allclose(np.linalg.norm(sae.directions_ND, axis=1), 1, atol=1e-5)
    log = read_log(tmp_path)
    assert [line["step"] for line in log] == list(range(5, 61, 5))
    assert log[-1]["fvu_heldout"] < 0.6 * log[0]["fvu_heldout"]
    assert log[-1]["seconds_left"] == 0
    assert 0 <= log[-1]["dead"] + log[-1]["rare"] <= 1


@pytest.mark.parametrize("variant", ["topk", "batchtopk", "matryoshka"])
def test_what_the_trainer_measures_is_what_the_sae_does(
    rows: np.ndarray, variant: str, tmp_path: Path
) -> None:
    trainer = Trainer(rows[40:], replace(CONFIG, variant=variant, steps=300))
    for _ in range(300):
        trainer.step()
    sae = trainer.sae()
    measured = trainer.evaluate(rows[:40])
    assert evaluate(sae, rows[:40]) == pytest.approx(measured, rel=1e-4)
    assert measured["fvu"] < 0.6
    assert measured["l0"] == pytest.approx(4, abs=1.5)
    sae.save(tmp_path / "sae.safetensors")
    again = SAE.load(tmp_path / "sae.safetensors")
    assert (again.variant, again.threshold, again.prefixes) == (variant, sae.threshold, sae.prefixes)
    assert again.fingerprint() == sae.fingerprint()


def test_a_matryoshka_reconstructs_from_every_prefix_and_at_several_k(rows: np.ndarray) -> None:
    config = replace(CONFIG, variant="matryoshka", steps=250)
    trainer, plain = Trainer(rows[40:], config), Trainer(rows[40:], replace(config, variant="topk"))
    for _ in range(250):
        trainer.step()
        plain.step()
    sae = trainer.sae()
    assert sae.prefixes == (4, 8, 16, 32)
    fvus = [evaluate(sae.prefix(n, min(4, n)), rows[:40])["fvu"] for n in sae.prefixes]
    assert fvus == sorted(fvus, reverse=True)
    assert fvus[1] < evaluate(plain.sae().prefix(8), rows[:40])["fvu"]
    by_k = [evaluate(sae.prefix(32, k), rows[:40])["fvu"] for k in (2, 4, 8)]
    assert by_k == sorted(by_k, reverse=True)


def test_same_seed_same_weights_other_seed_others(rows: np.ndarray, tmp_path: Path) -> None:
    first, second = (train(rows[40:], rows[:40], CONFIG, tmp_path / name) for name in "ab")
    other = train(rows[40:], rows[:40], replace(CONFIG, seed=1), tmp_path / "c")
    assert first.fingerprint() == second.fingerprint()
    assert first.fingerprint() != other.fingerprint()


class Stopped(Exception):
    """Thrown in the middle of a run."""


@pytest.mark.parametrize("variant", ["topk", "batchtopk", "matryoshka"])
def test_a_resumed_run_ends_where_the_uninterrupted_one_does(
    rows: np.ndarray, tmp_path: Path, variant: str
) -> None:
    config = replace(CONFIG, variant=variant)
    whole = train(rows[40:], rows[:40], config, tmp_path / "whole")

    def stop(line: Progress) -> None:
        if line.step >= 25:
            raise Stopped

    broken = tmp_path / "broken"
    with pytest.raises(Stopped):
        train(rows[40:], rows[:40], config, broken, checkpoint_seconds=0, report=stop)
    steps: list[int] = []
    resumed = train(rows[40:], rows[:40], config, broken, report=lambda line: steps.append(line.step))
    assert steps[0] > 20
    assert resumed.fingerprint() == whole.fingerprint()
    for name in ("step", "fvu_heldout", "l0", "dead", "rare"):
        logs = [[line[name] for line in read_log(folder)] for folder in (broken, tmp_path / "whole")]
        assert logs[0] == logs[1]


def test_a_torn_log_line_and_lines_after_the_checkpoint_are_dropped(rows: np.ndarray, tmp_path: Path) -> None:
    train(rows[40:], rows[:40], CONFIG, tmp_path)
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write(json.dumps({"step": 10**6}) + "\n" + '[1]\n{"step": 70, "fvu_tr')
    train(rows[40:], rows[:40], CONFIG, tmp_path)
    assert [line["step"] for line in read_log(tmp_path)] == list(range(5, 61, 5))


def test_the_checkpoint_of_another_run_is_not_resumed(rows: np.ndarray, tmp_path: Path) -> None:
    train(rows[40:], rows[:40], CONFIG, tmp_path)
    steps: list[int] = []
    train(rows[40:], rows[:40], replace(CONFIG, k=3), tmp_path, report=lambda line: steps.append(line.step))
    assert steps[0] == 5
    (tmp_path / CHECKPOINT).write_bytes(b"torn")
    steps.clear()
    train(rows[40:], rows[:40], CONFIG, tmp_path, report=lambda line: steps.append(line.step))
    assert steps[0] == 5


def test_the_best_weights_are_kept_and_patience_begins_the_decay(rows: np.ndarray, tmp_path: Path) -> None:
    config = replace(CONFIG, steps=1500, patience=3, noise=0.0, learning_rate=1e-2)
    run = Run(rows[40:100], rows[:40], config, tmp_path)
    while not run.is_done:
        run.advance()
    sae = run.finish()
    log = read_log(tmp_path)
    assert log[-1]["step"] < 1500
    assert run.state.best_fvu == min(line["fvu_heldout"] for line in log)
    assert evaluate(sae, rows[:40])["fvu"] == pytest.approx(run.state.best_fvu, rel=1e-4)


def test_a_full_disk_stops_the_checkpoints_and_not_the_training(
    rows: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = Run(rows[40:], rows[:40], CONFIG, tmp_path, checkpoint_seconds=0)
    for _ in range(20):
        run.advance()
    saved = (tmp_path / CHECKPOINT).read_bytes()

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("sae_core.train.save_checkpoint", full)
    while not run.is_done:
        run.advance()
    assert evaluate(run.finish(), rows[:40])["fvu"] < 0.6
    assert (tmp_path / CHECKPOINT).read_bytes() == saved
    assert [record.getMessage() for record in caplog.records] == [
        f"The disk is full: {tmp_path} keeps its last checkpoint. Training goes on; free some space."
    ]


def test_the_learning_rate_warms_up_and_decays_to_nearly_nothing() -> None:
    config = TrainConfig(n_latents=8, k=2, steps=1000)
    rates = [learning_rate(config, step) for step in range(1000)]
    assert rates[0] < rates[10] < rates[19] == rates[500] == config.learning_rate
    assert rates[-1] < config.learning_rate / 200


def test_evaluations_are_few_enough() -> None:
    for batch, n_heldout in ((32, 500), (256, 2048), (1024, 2048)):
        config = TrainConfig(n_latents=512, k=16, steps=1000, batch=batch)
        assert n_heldout / 3 <= 0.05 * config.evaluation_steps(n_heldout) * batch


@pytest.mark.parametrize(("n_rows", "width"), [(40, 32), (2_000, 256), (50_000, 384), (1_000_000, 3_072)])
def test_the_default_size_can_always_be_trained(n_rows: int, width: int) -> None:
    config = TrainConfig.for_corpus(n_rows, width)
    config.check(n_rows)
    assert config.n_latents <= 8 * width
    assert config.steps * config.batch >= n_rows


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"k": 64}, "k=64 latents per row of 32"),
        ({"k": 32}, "k=32 latents per row of 32"),
        ({"n_latents": 500}, "360 training rows are fewer than the 500 latents"),
        ({"steps": 0}, "steps is 0"),
        ({"variant": "gated"}, "variant is 'gated'"),
        ({"select": "int8"}, "select is 'int8'"),
    ],
)
def test_impossible_sizes_are_refused_in_a_sentence(
    rows: np.ndarray, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    with pytest.raises(TrainingError, match=said):
        train(rows[40:], rows[:40], replace(CONFIG, **change), tmp_path)


def test_too_few_rows_constant_rows_and_rows_that_are_not_finite_are_refused(
    rows: np.ndarray, tmp_path: Path
) -> None:
    with pytest.raises(TrainingError, match="8 training rows are too few"):
        train(rows[:8], rows[:8], CONFIG, tmp_path)
    with pytest.raises(TrainingError, match="0 training rows are too few"):
        TrainConfig.for_corpus(0, WIDTH).check(0)
    with pytest.raises(TrainingError, match="the same row"):
        train(np.ones_like(rows), rows[:8], CONFIG, tmp_path)
    broken = rows.copy()
    broken[17, 3] = np.nan
    with pytest.raises(TrainingError, match="Row 17"):
        train(broken, rows[:8], CONFIG, tmp_path)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_other_numbers_fewer_rows_than_a_batch_and_constant_columns(
    rows: np.ndarray, tmp_path: Path, dtype: str
) -> None:
    x_MD = rows.astype(dtype)
    x_MD[:, 3] = 0.25
    sae = train(x_MD[40:], x_MD[:40], replace(CONFIG, batch=1000), tmp_path)
    assert read_log(tmp_path)[-1]["fvu_heldout"] < 0.6
    for name, value in sae.tensors().items():
        assert np.isfinite(value).all(), name


def test_batches_of_equal_rows_leave_the_weights_finite(rows: np.ndarray, tmp_path: Path) -> None:
    mostly_equal = np.repeat(rows[:1], 200, axis=0)
    mostly_equal[:4] = rows[:4]
    sae = train(mostly_equal, rows[:40], replace(CONFIG, batch=16), tmp_path)
    for name, value in sae.tensors().items():
        assert np.isfinite(value).all(), name


def test_a_gpu_that_is_not_there_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert training.pick_device("auto") == torch.device("cpu")
    with pytest.raises(TrainingError, match="no GPU"):
        training.pick_device("cuda")
