"""Doors to a database of either kind; the databases are those of tests/conftest.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from app.authored.store import Store


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
