"""One planted collection, built once, and the server that shows it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from fastapi.testclient import TestClient

from tests.app.attacks import account
from tests.app.editors import Editing, editing_on
from tests.app.served import Planted, serve
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
def editing(planted: Planted, url: str) -> Iterator[Editing]:
    """The same, where people may write, once with each database."""
    with editing_on(planted, url) as editing:
        yield editing


@pytest.fixture(scope="session")
def client(planted: Planted) -> Iterator[TestClient]:
    """A browser without JavaScript that does not follow redirects."""
    with TestClient(serve(planted), follow_redirects=False) as client:
        yield client


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How many requests attacked, and what they were answered with (of this process)."""
    for line in account():
        terminalreporter.write_line(line)
