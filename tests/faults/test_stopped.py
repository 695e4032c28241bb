"""Commands that SIGTERM stops half-way leave what was there or all of what they make."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path

import pytest

from sae_core import artifact
from tests.faults.running import COLLECTION, Commands


@pytest.mark.parametrize(
    "words",
    [["label", COLLECTION, "--predictor", "bm25"], ["export", COLLECTION, "--dump", "{}"], ["backup", "{}"]],
    ids=lambda words: words[0],
)
def test_a_command_that_is_stopped_leaves_the_old_or_the_new(
    words: list[str], home: Path, commands: Commands, tmp_path: Path
) -> None:
    folder, out = home / "collections" / COLLECTION, tmp_path / "out" / "made"
    out.parent.mkdir()
    assert commands.run("db", "upgrade", "--home", str(home)) == 0, commands.said
    command = [*(word.format(out) for word in words), "--home", str(home)]
    for pause in (0.1, 0.3):
        pid = commands.start(*command)
        time.sleep(pause)
        with suppress(ProcessLookupError):  # it was faster
            os.kill(pid, signal.SIGTERM)
        status = commands.end()
        assert status in (0, 130, -signal.SIGTERM), commands.said
        # It may have been so early that no command had begun.
        assert status == 0 or not commands.said or "Stopped. " in commands.said
        print(words[0], pause, status, commands.said.strip())  # noqa: T201
        artifact.verify(artifact.current(folder))
        assert not list((folder / "generations").glob(".draft-*"))
        assert {each.name for each in out.parent.iterdir()} <= {out.name}
        if status == 0:
            break
        assert not out.exists()
    if not out.exists():
        assert commands.run(*command) == 0, commands.said
    artifact.verify(artifact.current(folder))
    if words[0] == "backup":
        with closing(sqlite3.connect(out)) as copy:
            assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
