"""Folders that appear whole: what is there stays until the new one is, whatever happens in between."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sae_core.files import drafted_folder

KILLED = """
import os, signal, sys
from pathlib import Path
from sae_core.files import drafted_folder

if sys.argv[2] == "between":
    rename = Path.rename

    def rename_and_die(path, target):
        rename(path, target)
        os.kill(os.getpid(), signal.SIGKILL)

    Path.rename = rename_and_die
with drafted_folder(Path(sys.argv[1])) as draft:
    (draft / "half").write_text("x")
    if sys.argv[2] == "within":
        os.kill(os.getpid(), signal.SIGKILL)
"""


def write(path: Path, text: str) -> None:
    with drafted_folder(path) as draft:
        (draft / "inner").mkdir()
        (draft / "inner" / "file").write_text(text)


def write_twice(path: Path) -> None:
    """Fail with a half-filled draft."""
    with drafted_folder(path) as draft:
        for _ in range(2):
            (draft / "inner").mkdir()


def test_a_folder_takes_the_place_of_what_was_there(tmp_path: Path) -> None:
    for text in ("one", "two"):
        write(tmp_path / "out", text)
        assert (tmp_path / "out" / "inner" / "file").read_text() == text
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_failure_leaves_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    write(tmp_path / "out", "one")
    with pytest.raises(FileExistsError):
        write_twice(tmp_path / "out")
    assert (tmp_path / "out" / "inner" / "file").read_text() == "one"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("when", ["within", "between"])
def test_what_a_killed_process_left_is_tidied_up_by_the_next(tmp_path: Path, when: str) -> None:
    write(tmp_path / "out", "one")
    done = subprocess.run([sys.executable, "-c", KILLED, tmp_path / "out", when], check=False)
    assert done.returncode == -9
    left = {path.name.rpartition(".")[2] for path in tmp_path.iterdir()} - {"out"}
    assert left == ({"draft"} if when == "within" else {"draft", "former"})
    with pytest.raises(FileExistsError):
        write_twice(tmp_path / "out")
    assert (tmp_path / "out" / "inner" / "file").read_text() == "one"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_another_process_is_filling_is_left_alone(tmp_path: Path) -> None:
    other = tmp_path / f".out.{os.getppid()}.draft"
    other.mkdir()
    write(tmp_path / "out", "one")
    assert other.is_dir()
