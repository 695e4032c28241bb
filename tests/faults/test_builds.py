"""A build that is stopped at any moment leaves the generation before or the new one, and is gone on with."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

from sae_core import artifact
from sae_core.artifact import load_manifest
from tests.faults.running import COLLECTION, ROUNDS, Commands, build_words, until

N_KILLS = max(2, ROUNDS // 4)
TIMED = re.compile(r'"(seconds|rows_per_second|evaluation_share)[^,}]*')
GENERATION = re.compile(r"\d{8}-\d{6}-[0-9a-f]{12}")


def contents(home: Path) -> dict[str, str]:
    """Every file of what is served, but for the seconds that something took, and the report made of them."""
    folder = artifact.current(home / "collections" / COLLECTION)
    files = load_manifest(folder)["files"]
    return {
        name: TIMED.sub("", (folder / name).read_text("utf-8")) if name.endswith(".json") else entry["sha256"]
        for name, entry in files.items()
        if name != "report.md"
    }


def listing(home: Path) -> set[str]:
    """Every file and folder, wherever its generation."""
    return {GENERATION.sub("GENERATION", str(path.relative_to(home))) for path in home.rglob("*")}


@pytest.fixture(scope="module")
def undisturbed(
    built: Path, corpus: Path, killable: object, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, float]:
    """A home in which the seed 1 was built after the seed 0, and the seconds that this took."""
    home = tmp_path_factory.mktemp("undisturbed") / "home"
    shutil.copytree(built, home)
    commands = Commands(killable, corpus / "log")  # type: ignore[arg-type]
    began = time.monotonic()
    assert commands.run(*build_words(corpus, home, seed=1)) == 0, commands.said
    return home, time.monotonic() - began


def test_kill_9_of_a_build_leaves_the_old_or_the_new_and_the_next_run_ends_it_bit_for_bit(
    home: Path, corpus: Path, commands: Commands, undisturbed: tuple[Path, float], built: Path
) -> None:
    like, whole = undisturbed
    folder, moments, n_old = home / "collections" / COLLECTION, random.Random(11), 0
    expected = {0: contents(built), 1: contents(like)}
    for at in range(N_KILLS):
        seed = 1 - at % 2
        served = artifact.current(folder).name
        pid = commands.start(*build_words(corpus, home, seed=seed))
        time.sleep(moments.uniform(0, whole))
        with suppress(ProcessLookupError):  # it was faster
            os.kill(pid, signal.SIGKILL)
        commands.end()
        artifact.verify(artifact.current(folder))
        is_old = artifact.current(folder).name == served
        assert contents(home) == expected[1 - seed if is_old else seed]
        n_old += is_old
        assert commands.run(*build_words(corpus, home, seed=seed)) == 0, commands.said
        assert contents(home) == expected[seed]
        assert listing(home) <= listing(like) | listing(built)
        assert len(artifact.generations(folder)) <= 2
    assert n_old >= N_KILLS / 4, "the kills came too late to say anything"
    print(f"{N_KILLS} kills, {n_old} left the old generation")  # noqa: T201


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_a_build_that_is_stopped_says_that_it_goes_on(
    end: signal.Signals, home: Path, corpus: Path, commands: Commands
) -> None:
    folder = home / "collections" / COLLECTION
    served = artifact.current(folder).name
    long = build_words(corpus, home, seed=1, steps=200_000)
    pid = commands.start(*long)
    until(lambda: list((home / "work" / COLLECTION).glob("k*")))  # training has begun
    time.sleep(0.3)
    os.kill(pid, end)
    assert commands.end() == (130 if end == signal.SIGINT else -signal.SIGTERM)
    assert "goes on from what is already done" in commands.said
    assert artifact.current(folder).name == served
    artifact.verify(artifact.current(folder))
    assert not list((folder / "generations").glob(".draft-*"))
