"""One planted collection, built once, and the server that shows it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import torch
from fastapi.testclient import TestClient

from app import cli
from app.authored import schema
from app.authored.store import Store
from tests.app.editors import Editing
from tests.app.served import Planted, Run, serve
from tests.planted import load_planted, planted_collection


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    home = tmp_path_factory.mktemp("home")
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # on matrices this small threads only wait for each other
    planted_collection(home, n=600, steps=500, ks=(4,))
    torch.set_num_threads(n_threads)
    return Planted(home, load_planted(home))


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


@pytest.fixture
def editing(planted: Planted, tmp_path: Path) -> Iterator[Editing]:
    """The same, where people may write."""
    url = f"sqlite:///{tmp_path}/authored.sqlite"
    schema.upgrade(url)
    app = serve(planted, editing=True, database_url=url)
    with TestClient(app), closing(Store.open(url)) as store:
        yield Editing(app, url, store)


@pytest.fixture(scope="session")
def client(planted: Planted) -> Iterator[TestClient]:
    """A browser without JavaScript that does not follow redirects."""
    with TestClient(serve(planted), follow_redirects=False) as client:
        yield client
