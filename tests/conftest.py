"""What every test may lean on: the same environment everywhere, both databases, a browser if there is one."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import settings

from app import cli
from app.authored import schema
from sae_core.explorer import Explorer
from tests import postgresql
from tests.killable import worker
from tests.planted import load_planted, planted_collection

if TYPE_CHECKING:
    from tests.app.served import Run

# A shell starts what is to run in the background with Ctrl-C ignored, and every child inherits that: commands
# that tests interrupt would go on. A handler of ours is the default again in a child.
signal.signal(signal.SIGINT, signal.default_int_handler)

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")

# No deadline: the machine may be busy with something else, and a slow example is not a wrong one.
settings.register_profile("saefari", deadline=None, max_examples=50)
settings.load_profile("saefari")


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A person's own settings do not leak into the tests, and no test reaches for a model hub."""
    for name in os.environ:
        if name.startswith("SAEFARI_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Small products on a busy machine: a second thread may cost ten times what it brings."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def planted_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home folder with the planted collection, built once; tests read it and never write."""
    home = tmp_path_factory.mktemp("home")
    planted_collection(home)
    return home


@pytest.fixture(scope="session")
def planted(planted_home: Path) -> Explorer:
    """The planted collection, loaded, with its encoder."""
    return load_planted(planted_home)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `saefari` with these words; status, standard output, standard error."""

    def run_command(*words: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["saefari", *map(str, words)])
        try:
            cli.main()
            status = 0
        except SystemExit as end:
            status = int(end.code or 0)
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err
        return status, printed.out, printed.err

    return run_command


@pytest.fixture(scope="session")
def killable() -> Iterator[subprocess.Popen[str]]:
    """A process for the work that tests kill, started once: see `killable.start` and `killable.end`."""
    with worker() as process:
        yield process


# --- what people write ------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[postgresql.Server]:
    yield from postgresql.serve()


@pytest.fixture(scope="session")
def _shared_url(postgresql_server: postgresql.Server) -> str:
    """A database with our tables, which is emptied before each test: that is quicker than another one."""
    url = postgresql_server.new_database()
    schema.upgrade(url)
    return url


@pytest.fixture(scope="session")
def _made_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as a file, to copy."""
    path = tmp_path_factory.mktemp("made") / "authored.sqlite"
    schema.upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def kind(request: pytest.FixtureRequest) -> str:
    """Which database."""
    return str(request.param)


@pytest.fixture
def empty_url(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """The address of a database without tables."""
    if kind == "sqlite":
        return f"sqlite:///{tmp_path}/authored.sqlite"
    server: postgresql.Server = request.getfixturevalue("postgresql_server")
    return server.new_database()


@pytest.fixture
def url(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """The address of a database with our tables."""
    if kind == "postgresql":
        shared: str = request.getfixturevalue("_shared_url")
        postgresql.empty(shared)
        return shared
    shutil.copyfile(request.getfixturevalue("_made_file"), tmp_path / "authored.sqlite")
    return f"sqlite:///{tmp_path}/authored.sqlite"


# --- browsers ------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, Any]) -> dict[str, Any]:
    """The system's Chromium for pytest-playwright; without one a failure under CI, elsewhere a skip."""
    found = next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)
    if found is None:
        message = "The browser tests need Chromium. On Debian and Ubuntu: apt-get install chromium"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    as_root = ["--no-sandbox"] if os.geteuid() == 0 else []
    return {
        **browser_type_launch_args,
        "executable_path": found,
        "args": [*as_root, "--disable-dev-shm-usage"],
    }
