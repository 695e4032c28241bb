"""Training: the textbook's arithmetic, the planted truth, and runs that can be stopped anywhere."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sae_core import train as training
from sae_core.errors import TrainingError
from sae_core.train import TrainConfig, learning_rate, read_log, train

WIDTH = 16


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    rng = np.random.default_rng(0)
    directions = rng.standard_normal((24, WIDTH))
    weights = rng.random((400, 24)) * (rng.random((400, 24)) < 0.1)
    x_MD = weights @ directions + 0.01 * rng.standard_normal((400, WIDTH)) + 0.1
    unit: np.ndarray = (x_MD / np.linalg.norm(x_MD, axis=1, keepdims=True)).astype(np.float32)
    return unit


CONFIG = TrainConfig(n_latents=32, k=4, steps=60, batch=64, log_every=5)


def textbook_loss(x: torch.Tensor, noisy: torch.Tensor, w: dict[str, torch.Tensor], k: int) -> torch.Tensor:
    """The equations with dense products and nothing clever."""
    pre = (noisy - w["b_dec_D"]) @ w["W_enc_ND"].T + w["b_enc_N"]
    top = pre.topk(k, dim=1)
    z = torch.zeros_like(pre).scatter(1, top.indices, torch.relu(top.values))
    missed = x - (z @ w["W_dec_ND"] + w["b_dec_D"])
    return missed.square().mean() / (x - x.mean(dim=0)).square().mean()


def test_gradients_are_those_of_the_textbook(rows: np.ndarray) -> None:
    state = training._fresh(rows, CONFIG)
    state.weights["b_enc_N"] = torch.linspace(-0.1, 0.1, 32)
    loop = training._Loop(rows, CONFIG, state, torch.device("cpu"))
    x = loop._batch()
    loss, _ = loop._loss(x)
    loss.backward()  # type: ignore[no-untyped-call]
    dense = {name: value.detach().clone().requires_grad_() for name, value in loop.weights.items()}
    expected = textbook_loss(x, loop._noisy(x), dense, CONFIG.k)
    expected.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for name, value in loop.weights.items():
        torch.testing.assert_close(value.grad, dense[name].grad, rtol=1e-4, atol=1e-6, msg=name)


def test_the_auxiliary_loss_reaches_dead_latents_and_no_others(rows: np.ndarray) -> None:
    loop = training._Loop(rows, CONFIG, training._fresh(rows, CONFIG), torch.device("cpu"))
    loop.silent_N[:5] = 10**6
    x = loop._batch()
    centred = x - loop.weights["b_dec_D"]
    pre = centred @ loop.weights["W_enc_ND"].T
    loss = loop._aux_loss(centred, pre.detach(), x)
    loss.backward()  # type: ignore[no-untyped-call]
    grad = loop.weights["W_dec_ND"].grad
    assert grad is not None
    assert (grad[:5].abs().sum(dim=1) > 0).any()
    assert (grad[5:] == 0).all()


def test_directions_stay_unit_and_training_helps(rows: np.ndarray, tmp_path: Path) -> None:
    sae = train(rows[40:], rows[:40], CONFIG, tmp_path)
    np.testing.assert_allclose(np.linalg.norm(sae.directions_ND, axis=1), 1, atol=1e-5)
    log = read_log(tmp_path)
    assert [line["step"] for line in log] == list(range(5, 61, 5))
    assert log[-1]["fvu_heldout"] < 0.6 * log[0]["fvu_heldout"]


def test_same_seed_same_weights_other_seed_others(rows: np.ndarray, tmp_path: Path) -> None:
    first, second = (train(rows[40:], rows[:40], CONFIG, tmp_path / name) for name in "ab")
    other = train(rows[40:], rows[:40], replace(CONFIG, seed=1), tmp_path / "c")
    assert first.fingerprint() == second.fingerprint()
    assert first.fingerprint() != other.fingerprint()


class Stopped(Exception):
    """Thrown in the middle of a run."""


def test_a_resumed_run_ends_where_the_uninterrupted_one_does(rows: np.ndarray, tmp_path: Path) -> None:
    whole = train(rows[40:], rows[:40], CONFIG, tmp_path / "whole")

    def stop(line: training.Progress) -> None:
        if line.step >= 25:
            raise Stopped

    broken = tmp_path / "broken"
    with pytest.raises(Stopped):
        train(rows[40:], rows[:40], CONFIG, broken, checkpoint_seconds=0, report=stop)
    steps: list[int] = []
    resumed = train(rows[40:], rows[:40], CONFIG, broken, report=lambda line: steps.append(line.step))
    assert steps[0] > 20
    for name, value in whole.tensors().items():
        np.testing.assert_allclose(resumed.tensors()[name], value, rtol=0, atol=1e-6)
    shown = [(line["step"], round(line["fvu_heldout"], 5)) for line in read_log(broken)]
    assert shown == [(line["step"], round(line["fvu_heldout"], 5)) for line in read_log(tmp_path / "whole")]


def test_a_torn_log_line_and_lines_after_the_checkpoint_are_dropped(rows: np.ndarray, tmp_path: Path) -> None:
    train(rows[40:], rows[:40], CONFIG, tmp_path)
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write(json.dumps({"step": 10**6}) + "\n" + '{"step": 70, "fvu_tr')
    train(rows[40:], rows[:40], CONFIG, tmp_path)
    assert [line["step"] for line in read_log(tmp_path)] == list(range(5, 61, 5))


def test_the_checkpoint_of_another_run_is_not_resumed(rows: np.ndarray, tmp_path: Path) -> None:
    train(rows[40:], rows[:40], CONFIG, tmp_path)
    steps: list[int] = []
    train(rows[40:], rows[:40], replace(CONFIG, k=3), tmp_path, report=lambda line: steps.append(line.step))
    assert steps[0] == 5
    (tmp_path / "checkpoint.safetensors").write_bytes(b"torn")
    steps.clear()
    train(rows[40:], rows[:40], CONFIG, tmp_path, report=lambda line: steps.append(line.step))
    assert steps[0] == 5


def test_the_learning_rate_warms_up_and_decays_to_nearly_nothing() -> None:
    config = TrainConfig(n_latents=8, k=2, steps=1000)
    rates = [learning_rate(config, step) for step in range(1000)]
    assert rates[0] < rates[10] < rates[19] == rates[500] == config.learning_rate
    assert rates[-1] < config.learning_rate / 200


@pytest.mark.parametrize(("n_rows", "width"), [(40, 32), (2_000, 256), (50_000, 384), (1_000_000, 3_072)])
def test_the_default_size_can_always_be_trained(n_rows: int, width: int) -> None:
    config = TrainConfig.for_corpus(n_rows, width)
    config.check(n_rows)
    assert config.n_latents <= 8 * width
    assert config.steps * config.batch >= n_rows


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"k": 64}, "k=64 latents per row, but there are only 32"),
        ({"n_latents": 500}, "360 training rows are fewer than the 500 latents"),
        ({"steps": 0}, "steps is 0"),
    ],
)
def test_impossible_sizes_are_refused_in_a_sentence(
    rows: np.ndarray, tmp_path: Path, change: dict[str, int], said: str
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
