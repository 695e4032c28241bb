"""Several processes: the weights of one, one sentence for what is wrong, and an end when one is lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from sae_core import ranks as ranks_module
from sae_core.checkpoint import saved_step
from sae_core.errors import TrainingError
from sae_core.fit import train_file
from sae_core.ranks import PATTERN, Ranks, joined
from sae_core.recipe import TrainConfig
from sae_core.sae import SAE
from tests.planted import SilentConsole
from tests.sae_core import ranked

ROOT = Path(__file__).parents[2]
WIDTH = 16
# 62 rows are shared out as 28 and 34.
CONFIG = TrainConfig(n_latents=32, k=4, steps=60, batch=62, select="float32", dead_epochs=0.5)
CASES = {
    "topk": CONFIG,
    "matryoshka": replace(CONFIG, variant="matryoshka"),
    "batchtopk": replace(CONFIG, variant="batchtopk"),
}
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
SAEFARI = [sys.executable, "-m", "app.cli"]
Start = Callable[..., subprocess.Popen[str]]


def planted_rows(n: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    weights = rng.random((n, 24)) * (rng.random((n, 24)) < 0.1)
    x_MD = weights @ rng.standard_normal((24, WIDTH)) + 0.01 * rng.standard_normal((n, WIDTH)) + 0.1
    unit: np.ndarray = (x_MD / np.linalg.norm(x_MD, axis=1, keepdims=True)).astype(np.float32)
    return unit


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "TMPDIR": str(folder)}


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """The folder in which two processes have done what `ranked` does, and what each of them saw."""
    folder = tmp_path_factory.mktemp("group")
    np.save(folder / "x.npy", planted_rows(443))
    (folder / "cases.json").write_text(json.dumps({name: asdict(case) for name, case in CASES.items()}))
    command = [*TORCHRUN, "-m", "tests.sae_core.ranked", str(folder)]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(folder), capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return folder, [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


@pytest.mark.parametrize("name", ["topk", "matryoshka"])
def test_two_processes_make_the_weights_of_one(group: tuple[Path, list[dict[str, Any]]], name: str) -> None:
    folder, saw = group
    alone = ranked.trainer_of(np.load(folder / "x.npy"), CASES[name], Ranks())
    fvus = [float(alone.step()) for _ in range(CONFIG.steps)]
    assert saw[0]["cases"][name]["dead_steps"] > 5  # so that the auxiliary loss was at work
    assert saw[0]["cases"][name]["fvus"] == pytest.approx(fvus, rel=1e-5)
    together = load_file(folder / f"{name}.safetensors")
    for weight, value in alone.copy_weights().items():
        torch.testing.assert_close(together[weight], value, rtol=0, atol=1e-5, msg=weight)
    scores = alone.evaluate(np.load(folder / "x.npy")[: ranked.N_HELDOUT])
    assert saw[0]["cases"][name]["scores"] == pytest.approx(scores, rel=1e-4)


@pytest.mark.parametrize("name", CASES)
def test_all_processes_have_the_same_weights_and_scores(
    group: tuple[Path, list[dict[str, Any]]], name: str
) -> None:
    first, second = (saw["cases"][name] for saw in group[1])
    assert first == second


def test_a_batch_top_k_chooses_within_each_part_and_learns_as_well(
    group: tuple[Path, list[dict[str, Any]]],
) -> None:
    folder, saw = group
    alone = ranked.trainer_of(np.load(folder / "x.npy"), CASES["batchtopk"], Ranks())
    fvus = [float(alone.step()) for _ in range(CONFIG.steps)]
    together = saw[0]["cases"]["batchtopk"]["fvus"]
    assert np.mean(together[-20:]) == pytest.approx(np.mean(fvus[-20:]), rel=0.05)
    threshold = load_file(folder / "batchtopk.safetensors")["threshold"]
    assert float(threshold) == pytest.approx(float(alone.copy_weights()["threshold"]), rel=0.1)


def test_processes_hear_what_the_others_have(group: tuple[Path, list[dict[str, Any]]]) -> None:
    for saw in group[1]:
        assert saw["shared"] == "of the first"
        assert saw["gathered"] == ["ünd 0", "ünd 1"]


def test_what_is_wrong_is_said_by_one_process_and_ends_all(
    group: tuple[Path, list[dict[str, Any]]],
) -> None:
    first, second = group[1]
    assert first["told by none"] == second["told by none"] == ""
    assert first["told by last"] == "ToldElsewhere: Process 1 has said what is wrong."
    assert second["told by last"] == "OSError: no file"
    assert first["told by all"] == "TrainingError: Wrong, says 0."
    assert second["told by all"] == "ToldElsewhere: Process 0 has said what is wrong."
    assert first["told of rows"].startswith("TrainingError: The processes of this training read different")
    assert second["told of rows"].startswith("ToldElsewhere")


@given(st.integers(1, 300), st.integers(1, 9))
def test_parts_cover_the_batch_and_begin_where_a_pattern_does(n: int, size: int) -> None:
    parts = [Ranks(size, rank).part(n) for rank in range(size)]
    assert [row for part in parts for row in range(n)[part]] == list(range(n))
    assert all(part.start % PATTERN == 0 for part in parts)
    if n >= PATTERN * size:
        assert all(part.stop > part.start for part in parts)


def test_a_batch_that_is_too_small_to_share_is_refused() -> None:
    Ranks(2).check(8)
    with pytest.raises(TrainingError, match="A batch of 7 rows is too small for 2 processes"):
        Ranks(2).check(7)


def test_one_process_is_a_group_by_itself() -> None:
    with joined() as alone:
        assert alone == Ranks()
        assert alone.share(b"as it is") == b"as it is"
        assert alone.gather("word") == ["word"]
        with pytest.raises(OSError, match="missing"), alone.together():
            raise OSError("missing")


def test_a_process_without_a_gpu_of_its_own_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks_module, "is_member", lambda: True)
    monkeypatch.setattr(dist, "get_node_local_rank", lambda _: 1)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(TrainingError, match="Process 1 of this machine"), joined(torch.device("cuda")):
            pass
    finally:
        signal.signal(signal.SIGTERM, before)


# From here on with real processes, which are killed.
pytestmark_linux = pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a command that trains into `tmp_path / "out"`; what is left of it ends with the test."""
    np.save(tmp_path / "x.npy", planted_rows(2000))
    sizes = ["--latents=32", "--k=4", "--batch=256", "--select=float32", "--no-stability", "--quiet"]
    with ExitStack() as stack:

        def start_command(launcher: list[str], out: Path, *options: str) -> subprocess.Popen[str]:
            words = ["train", str(tmp_path / "x.npy"), "--out", str(out), *sizes, *options]
            process = stack.enter_context(
                subprocess.Popen(
                    [*launcher, *words],
                    cwd=ROOT,
                    env=environment(tmp_path),
                    text=True,
                    stderr=subprocess.PIPE,
                )
            )
            stack.callback(process.terminate)  # which it passes on
            return process

        yield start_command


def members(launcher: subprocess.Popen[str]) -> dict[int, int]:
    """The processes that a launcher has started: pid by rank."""
    found: dict[int, int] = {}
    for children in Path(f"/proc/{launcher.pid}/task").glob("*/children"):
        for pid in children.read_text().split():
            with suppress(OSError):  # it has just ended
                entries = Path(f"/proc/{pid}/environ").read_text().split("\0")
                found |= {int(entry[5:]): int(pid) for entry in entries if entry.startswith("RANK=")}
    return found


def wait_for(what: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.02)


def sentences(stderr: str) -> list[str]:
    return [line for line in stderr.splitlines() if line.startswith("saefari: ")]


@pytestmark_linux
def test_a_killed_process_ends_the_run_in_a_sentence(start: Start, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [*TORCHRUN, "--max-restarts=0", "-m", "app.cli"]
    launcher = start(command, out, "--steps=100000", "--checkpoint-seconds=0.2")
    wait_for(lambda: saved_step(out) > 0)
    killed = time.monotonic()
    os.kill(members(launcher)[1], signal.SIGKILL)
    _, stderr = launcher.communicate(timeout=60)
    assert time.monotonic() - killed < 60
    assert launcher.returncode == 1
    [sentence] = sentences(stderr)
    assert "Give the same command again: it goes on from the last checkpoint." in sentence
    assert saved_step(out) > 0


@pytestmark_linux
def test_a_process_that_falls_silent_ends_the_run_in_a_sentence(start: Start, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [*TORCHRUN, "--max-restarts=0", "-m", "app.cli"]
    launcher = start(command, out, "--steps=100000", "--checkpoint-seconds=0.2", "--max-silence=3")
    wait_for(lambda: saved_step(out) > 0)
    pids = members(launcher)
    os.kill(pids[0], signal.SIGSTOP)
    wait_for(lambda: 1 not in members(launcher), seconds=30)
    os.kill(pids[0], signal.SIGKILL)  # as torchrun would, 30 s later
    _, stderr = launcher.communicate(timeout=60)
    assert launcher.returncode == 1
    [sentence] = sentences(stderr)
    assert "Another process of this training is gone, or was silent for 3 s" in sentence
    assert saved_step(out) > 0


@pytestmark_linux
def test_a_group_that_lost_a_process_starts_again_and_ends_where_it_would_have(
    start: Start, tmp_path: Path
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    launcher = start(SAEFARI, broken, "--steps=600", "--processes=2", "--checkpoint-seconds=0.1")
    wait_for(lambda: saved_step(broken) > 20)
    os.kill(members(launcher)[1], signal.SIGKILL)
    size: dict[str, Any] = {"n_latents": 32, "k": 4, "batch": 256, "steps": 600, "select": "float32"}
    train_file(tmp_path / "x.npy", whole, SilentConsole(), stability=False, **size)
    _, stderr = launcher.communicate(timeout=120)
    assert launcher.returncode == 0, stderr
    assert "has lost process 1 of 2 by SIGKILL. It starts again from step " in stderr
    expected, found = (SAE.load(folder / "sae.safetensors").tensors() for folder in (whole, broken))
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=1e-5, err_msg=name)


@pytestmark_linux
def test_what_is_refused_is_said_once_and_ctrl_c_ends_all(start: Start, tmp_path: Path) -> None:
    refused = start(SAEFARI, tmp_path / "a", "--processes=2", "--variant=gated")
    stopped = start(SAEFARI, tmp_path / "b", "--processes=2", "--steps=100000", "--checkpoint-seconds=0.1")
    _, stderr = refused.communicate(timeout=60)
    assert refused.returncode == 1
    assert sentences(stderr) == ["saefari: variant is 'gated'. Choose one of topk, batchtopk, matryoshka."]
    wait_for(lambda: saved_step(tmp_path / "b") > 0)
    pids = members(stopped).values()
    stopped.send_signal(signal.SIGINT)
    _, stderr = stopped.communicate(timeout=60)
    assert stopped.returncode == 130
    assert sentences(stderr) == ["saefari: Stopped. The same command goes on from what is already done."]
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
