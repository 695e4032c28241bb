"""A grid: its sizes are understood or refused in a sentence, members go in step and resume by themselves."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from sae_core import artifact
from sae_core.errors import BusyError, TrainingError
from sae_core.grid import GridResult, GridSizes, is_finished, member_configs, memory_bytes, train_grid
from sae_core.recipe import TrainConfig
from sae_core.report import grid_json, grid_text

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
        return train_grid(
            member_configs(sizes, 1000, WIDTH, **{"steps": 7, **chosen}),
            self.folder,
            data=data,
            width=WIDTH,
            open_run=lambda config, folder: Counting(config, folder, self.made, stop_at),
            finish=lambda run, folder: self.finish(run, folder, data),  # type: ignore[arg-type]
            report=lambda done, total, _word: self.reports.append((done, total)),
        )

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


def test_the_memory_is_that_of_all_members() -> None:
    small, large = (member_configs(GridSizes((2,), (n,)), 1000, 100, batch=32) for n in (64, 512))
    both = member_configs(GridSizes((2,), (64, 512)), 1000, 100, batch=32)
    assert memory_bytes(both, 100) == memory_bytes(small, 100) + memory_bytes(large, 100)
    # Two matrices of 512 x 100 floats and the biases, five times, and a batch of pre-activations.
    assert memory_bytes(large, 100) == 4 * (5 * (2 * 512 * 100 + 512 + 100) + 32 * 512)


# --- in step --------------------------------------------------------------------------------------


def test_members_go_in_step_and_end_together(bench: Bench) -> None:
    result = bench.run()
    names = [member.name for member in result.members]
    assert bench.made == [(name, step) for step in range(1, 8) for name in names]
    assert bench.finished == names
    assert bench.reports == [(6 * step, 42) for step in range(1, 8)]


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
    assert bench.reports[0] == (14 + 4, 42)
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
