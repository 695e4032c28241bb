"""Every test of what people write runs on both databases."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.authored import schema
from app.authored.store import Store
from tests import postgresql


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


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    opened = Store.open(url)
    yield opened
    opened.close()


@pytest.fixture
def open_store(url: str) -> Iterator[Callable[..., Store]]:
    """Other doors to the same database."""
    opened: list[Store] = []

    def open_another(**how: object) -> Store:
        opened.append(Store.open(url, **how))  # type: ignore[arg-type]
        return opened[-1]

    yield open_another
    for each in opened:
        each.close()
