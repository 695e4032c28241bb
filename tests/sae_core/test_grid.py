"""A grid: its sizes are understood or refused in a sentence, members go in step and resume by themselves."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sae_core import artifact
from sae_core.checkpoint import read_log, save_checkpoint
from sae_core.errors import BusyError, TrainingError
from sae_core.fit import train_file
from sae_core.grid import (
    GridResult,
    GridSizes,
    is_finished,
    locked_members,
    member_configs,
    plan_grid,
    read_grid,
    train_grid,
    train_together,
)
from sae_core.recipe import TrainConfig
from sae_core.report import grid_json, grid_text
from sae_core.sae import SAE
from sae_core.train import Run
from tests import planted as truth

SIZES = GridSizes((2, 4), (16, 32, 64))
DATA = "da" * 32
WIDTH = 8


class Stopped(Exception):
    """The power is gone."""


class Counting:
    """A run that only counts its steps, and keeps the count in its folder as a checkpoint."""

    def __init__(
        self, config: TrainConfig, folder: Path, steps_made: list[tuple[str, int]], stop_at: int
    ) -> None:
        self.config, self.folder, self.made, self.stop_at = config, folder, steps_made, stop_at
        self.path = folder / "count"
        self.step = int(self.path.read_text()) if self.path.exists() else 0

    @property
    def is_done(self) -> bool:
        return self.step >= self.config.steps

    def advance(self) -> None:
        if len(self.made) == self.stop_at:
            raise Stopped
        self.step += 1
        self.made.append((self.folder.name, self.step))
        if self.step % 3 == 0:
            self.path.write_text(str(self.step))


class Bench:
    """Grids of counting runs in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made: list[tuple[str, int]] = []
        self.finished: list[str] = []
        self.reports: list[tuple[int, int]] = []

    def run(
        self, sizes: GridSizes = SIZES, *, stop_at: int = -1, data: str = DATA, **chosen: Any
    ) -> GridResult:
        self.made, self.finished, self.reports = [], [], []
        configs = member_configs(sizes, 1000, WIDTH, **{"steps": 7, **chosen})
        with locked_members(self.folder, configs):
            train_together(
                configs,
                self.folder,
                data=data,
                open_run=lambda config, folder: Counting(config, folder, self.made, stop_at),
                finish=lambda run, folder: self.finish(run, folder, data),
                report=lambda done, total, _words="": self.reports.append((done, total)),
            )
        return read_grid(configs, self.folder, WIDTH)

    def finish(self, run: Counting, folder: Path, data: str) -> None:
        k, n = run.config.k, run.config.n_latents
        scores = {
            "fvu_train": 0.8 * n**-0.13 * k**-0.4, "fvu_heldout": n**-0.1 * k**-0.4,
            "l0": k, "n_dead": 0, "n_rare": 1, "n_train": 900, "n_heldout": 100,
        }  # fmt: skip
        record = {"config": asdict(run.config), "data": data, "metrics": scores}
        (folder / "sae.safetensors").touch()
        (folder / "training.json").write_text(json.dumps(record))
        self.finished.append(folder.name)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "grid")


# --- sizes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("parts", [("k=4,2", "n=64,16,32"), ("n = 16, 32,64", "k=2,4,2")])
def test_sizes_are_read_in_any_order_once_each(parts: tuple[str, ...]) -> None:
    assert GridSizes.parse(parts) == SIZES
    assert len(GridSizes.parse(parts)) == 6


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (("k=8",), "does not say which n"),
        (("n=8",), "does not say which k"),
        ((), "does not say which k"),
        (("k=8", "k=16"), "names k twice"),
        (("k=8", "m=16"), "m=16: only k=... and n=..."),
        (("k=8", "16"), "16: only k=... and n=..."),
        (("k=8,x", "n=16"), "k=8,x is not a list of whole numbers"),
        (("k=8,", "n=16"), "not a list"),
        (("k=", "n=16"), "not a list"),
        (("k=-8", "n=16"), "not a list"),
        (("k=1.5", "n=16"), "not a list"),
        (("k=0", "n=16"), "between 1 and"),
        (("k=8", "n=99999999999999999999"), "between 1 and"),
    ],
)
def test_sizes_that_are_not_understood_are_said(parts: tuple[str, ...], message: str) -> None:
    with pytest.raises(TrainingError) as caught:
        GridSizes.parse(parts)
    assert message in str(caught.value)
    assert "Write --grid k=8,16,32 n=1536,3072." in str(caught.value)


def test_members_share_everything_but_their_size() -> None:
    configs = member_configs(SIZES, 1000, WIDTH, seed=5)
    assert list(configs) == ["k2-n16", "k2-n32", "k2-n64", "k4-n16", "k4-n32", "k4-n64"]
    assert len({(c.seed, c.batch, c.steps, c.noise) for c in configs.values()}) == 1


def test_members_that_cannot_be_trained_are_all_named_before_anything_starts() -> None:
    with pytest.raises(TrainingError) as caught:
        member_configs(GridSizes((8, 64), (64, 512, 2000)), 1000, WIDTH)
    message = str(caught.value)
    assert message.startswith("3 of the 6 SAEs cannot be trained.")
    for name in ("k8-n2000: ", "k64-n64: ", "k64-n2000: "):
        assert name in message
    assert "k8-n512" not in message
    assert "Leave those sizes out" in message


def test_the_memory_is_that_of_all_members(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", truth.PlantedEmbedder().embed(["x", "y"] * 400))
    memory = [plan_grid(tmp_path / "x.npy", GridSizes((2,), n)).memory for n in ((64,), (512,), (64, 512))]
    assert memory[2] == memory[0] + memory[1] > 5 * 4 * 2 * 576 * truth.WIDTH


def test_large_grids_are_written_less_often(embeddings: Path) -> None:
    plan = plan_grid(embeddings, GridSizes((2,), (64,)))
    assert plan.checkpoint_seconds == 20
    large = TrainConfig(n_latents=12_288, k=64, steps=100)
    many = replace(plan, configs={str(i): large for i in range(64)})
    assert many.checkpoint_seconds == pytest.approx(many.memory / 2e8 / 0.05)


# --- in step --------------------------------------------------------------------------------------


def test_members_go_in_step_and_end_together(bench: Bench) -> None:
    result = bench.run()
    names = [member.name for member in result.members]
    assert bench.made == [(name, step) for step in range(1, 8) for name in names]
    assert bench.finished == names
    assert [done for done, _ in bench.reports][:4] == [1, 2, 3, 4]
    assert bench.reports == sorted(bench.reports)
    assert bench.reports[-1] == (42, 42)


def test_after_a_stop_those_behind_catch_up_and_all_end(bench: Bench) -> None:
    with pytest.raises(Stopped):
        bench.run(stop_at=20)  # within step 4: all have a checkpoint of step 3
    (bench.folder / "k4-n16" / "count").unlink()
    bench.run()
    assert bench.made[:3] == [("k4-n16", 1), ("k4-n16", 2), ("k4-n16", 3)]
    assert [step for _, step in bench.made[3:9]] == [4] * 6
    assert len(bench.finished) == 6


def test_what_is_finished_is_not_trained_again(bench: Bench) -> None:
    bench.run(GridSizes((2,), (16, 32)))
    result = bench.run()
    assert bench.finished == ["k2-n64", "k4-n16", "k4-n32", "k4-n64"]
    assert bench.reports[0] == (14 + 1, 42)
    assert len(result.members) == 6
    again = bench.run()
    assert bench.made == []
    assert again == result


@pytest.mark.parametrize("change", [{"data": "another"}, {"seed": 1}, {"steps": 8}])
def test_what_was_finished_on_other_data_or_otherwise_is_trained_again(
    bench: Bench, change: dict[str, Any]
) -> None:
    bench.run(GridSizes((2,), (16,)))
    (bench.folder / "k2-n16" / "count").unlink()
    bench.run(GridSizes((2,), (16,)), **change)
    assert bench.finished == ["k2-n16"]


@pytest.mark.parametrize("content", ["", "{", "[]", "{}"])
def test_a_damaged_record_is_no_finished_training(bench: Bench, content: str) -> None:
    bench.run(GridSizes((2,), (16,)))
    config = member_configs(GridSizes((2,), (16,)), 1000, WIDTH, steps=7)["k2-n16"]
    folder = bench.folder / "k2-n16"
    assert is_finished(folder, config, DATA)
    (folder / "training.json").write_text(content)
    assert not is_finished(folder, config, DATA)


def test_a_record_without_its_weights_is_no_finished_training(bench: Bench) -> None:
    bench.run(GridSizes((2,), (16,)))
    (bench.folder / "k2-n16" / "sae.safetensors").unlink()
    bench.run(GridSizes((2,), (16,)))
    assert bench.finished == ["k2-n16"]


@pytest.mark.parametrize("where", ["", "k2-n16"])
def test_a_folder_that_another_writes_is_left_alone(bench: Bench, where: str) -> None:
    with artifact.locked(bench.folder / where), pytest.raises(BusyError):
        bench.run()
    assert bench.made == []


# --- real runs ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def embeddings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "x.npy"
    np.save(path, truth.PlantedEmbedder().embed([document.text for document in truth.documents(600)]))
    return path


def trained(embeddings: Path, folder: Path, sizes: GridSizes, **chosen: Any) -> GridResult:
    plan = plan_grid(embeddings, sizes, **{"steps": 40, **chosen})
    return train_grid(plan, folder, truth.SilentConsole(), device="cpu")


def test_a_member_is_the_sae_that_the_same_training_alone_gives(embeddings: Path, tmp_path: Path) -> None:
    """In step with others, or not: the same weights to the bit."""
    result = trained(embeddings, tmp_path / "grid", GridSizes((2, 4), (32, 64)))
    alone: dict[str, Any] = {"n_latents": 64, "k": 4, "steps": 40, "device": "cpu", "stability": False}
    scores = train_file(embeddings, tmp_path / "alone", truth.SilentConsole(), **alone)
    member = next(member for member in result.members if member.name == "k4-n64")
    assert member.fvu_heldout == scores["fvu_heldout"]
    both = [SAE.load(tmp_path / where / "sae.safetensors") for where in ("grid/k4-n64", "alone")]
    assert both[0].fingerprint() == both[1].fingerprint()
    assert len(read_log(tmp_path / "grid" / "k4-n64")) == len(read_log(tmp_path / "alone"))


def test_a_real_grid_goes_on_where_it_was_stopped(
    embeddings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = GridSizes((2, 4), (32,))
    whole = trained(embeddings, tmp_path / "whole", sizes)
    advance, steps = Run.advance, 0

    def stopping(run: Run) -> None:
        nonlocal steps
        steps += 1
        if steps > 50:
            raise Stopped
        advance(run)
        save_checkpoint(run.folder, run.trainer.snapshot(), run._identity)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "advance", stopping)
        with pytest.raises(Stopped):
            trained(embeddings, tmp_path / "stopped", sizes)
    assert trained(embeddings, tmp_path / "stopped", sizes) == whole
    for name in ("k2-n32", "k4-n32"):
        both = [SAE.load(tmp_path / where / name / "sae.safetensors") for where in ("whole", "stopped")]
        assert both[0].fingerprint() == both[1].fingerprint()


def test_trainings_of_something_else_are_not_written_over(embeddings: Path, tmp_path: Path) -> None:
    trained(embeddings, tmp_path / "grid", GridSizes((2,), (32,)))
    before = (tmp_path / "grid" / "k2-n32" / "sae.safetensors").read_bytes()
    with pytest.raises(TrainingError, match="another configuration or of other rows: k2-n32"):
        trained(embeddings, tmp_path / "grid", GridSizes((2, 4), (32,)), steps=41)
    assert (tmp_path / "grid" / "k2-n32" / "sae.safetensors").read_bytes() == before
    assert not (tmp_path / "grid" / "k4-n32" / "training.json").exists()


# --- results --------------------------------------------------------------------------------------


def test_the_result_has_every_member_and_the_planted_exponents(bench: Bench) -> None:
    result = bench.run()
    assert (result.n_train, result.n_heldout, result.width, result.steps) == (900, 100, WIDTH, 7)
    assert result.heldout.by_k[4].term("n").value == pytest.approx(-0.1)
    assert result.train.by_k[2].term("n").value == pytest.approx(-0.13)
    assert result.heldout.joint is not None
    assert result.heldout.joint.term("k").value == pytest.approx(-0.4)
    assert result.best(2).name == "k2-n64"


def test_the_text_has_a_row_for_each_and_the_paper_beside_it(bench: Bench) -> None:
    text = grid_text(bench.run())
    assert all(text.count(f"| {name} ") == 1 for name in ("k2-n16", "k4-n64"))
    assert "paper, astro-ph" in text
    assert "-0.100 [-0.100, -0.100]" in text
    assert "Lowest held-out error: k = 2: n = 64, k = 4: n = 64." in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in tables if "k2-n" in line or "k4-n" in line}) == 1


def test_the_text_says_what_an_exponent_of_two_points_is_worth(bench: Bench) -> None:
    assert "Two points are always on a line" in grid_text(bench.run(GridSizes((2, 4), (16, 32))))
    assert "Two points" not in grid_text(bench.run())


def test_a_grid_of_one_has_no_exponents(bench: Bench) -> None:
    text = grid_text(bench.run(GridSizes((2,), (16,))))
    assert "| k2-n16 |" in text
    assert "At least two k" not in text  # the paper's fits are there


def test_the_same_for_programs(bench: Bench) -> None:
    found = json.loads(grid_json(bench.run()))
    assert found["schema"] == 1
    assert [member["n_latents"] for member in found["members"]] == [16, 32, 64] * 2
    assert found["heldout"]["by_k"]["2"]["terms"][1]["name"] == "n"
    assert set(found["paper"]) == {"astro-ph", "cs.LG"}
