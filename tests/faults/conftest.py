"""A small collection that the command line built, and a process that runs commands which may be killed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.faults.running import Commands, build_words, write_corpus


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(folder)
    return folder


@pytest.fixture(scope="session")
def built(corpus: Path, killable: subprocess.Popen[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the collection, which nobody changes."""
    home = tmp_path_factory.mktemp("built")
    commands = Commands(killable, corpus / "log")
    assert commands.run(*build_words(corpus, home)) == 0, commands.said
    return home


@pytest.fixture
def home(built: Path, tmp_path: Path) -> Path:
    """The same, to be changed."""
    return Path(shutil.copytree(built, tmp_path / "home"))


@pytest.fixture
def commands(killable: subprocess.Popen[str], tmp_path: Path) -> Commands:
    return Commands(killable, tmp_path / "log")
