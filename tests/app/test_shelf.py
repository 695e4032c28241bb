"""Generations that are published while the server answers."""

from __future__ import annotations

import gc
import shutil
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from app import overview
from app.main import create_app
from app.settings import Settings
from app.shelf import Shelf
from sae_core import artifact
from tests.app.served import Planted, Run

ROOT = Path(__file__).parents[2]


@pytest.fixture
def home(planted: Planted, tmp_path: Path) -> Path:
    shutil.copytree(planted.home / "collections", tmp_path / "collections")
    return tmp_path


@pytest.fixture
def collection(home: Path, planted: Planted) -> Path:
    return home / "collections" / planted.explorer.name


def publish(collection: Path, title: str) -> str:
    """A generation that differs in its title; its name."""
    with artifact.locked(collection), artifact.revise(collection) as (_, manifest):
        manifest["title"] = title
    return artifact.current(collection).name


def served_app(home: Path, **changes: Any) -> FastAPI:
    return create_app(Settings(home=home, renew_seconds=0, **changes))


def shelf_of(app: FastAPI) -> Shelf:
    shelf: Shelf = app.state.shelf
    return shelf


def until(holds: Callable[[], bool], seconds: float = 20) -> None:
    """Wait for something that happens elsewhere."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def test_what_is_published_is_served_without_a_restart(home: Path, collection: Path) -> None:
    app = served_app(home)
    with TestClient(app) as client:
        before = client.get(f"/{collection.name}").text
        publish(collection, "Another title")
        assert client.get(f"/{collection.name}").text == before
        shelf_of(app).renew()
        assert "Another title" in client.get(f"/{collection.name}").text


def test_a_collection_that_comes_and_goes_while_the_other_stays_as_it_is(
    home: Path, collection: Path
) -> None:
    app = served_app(home)
    with TestClient(app) as client:
        kept = shelf_of(app).library.collections[collection.name]
        shutil.copytree(collection, home / "collections" / "second")
        shelf_of(app).renew()
        assert client.get("/second").status_code == 200
        assert shelf_of(app).library.collections[collection.name] is kept
        shutil.rmtree(home / "collections" / "second")
        shelf_of(app).renew()
        assert client.get("/second").status_code == 404
        assert client.get(f"/{collection.name}").status_code == 200


def test_nothing_new_changes_nothing(home: Path) -> None:
    app = served_app(home)
    with TestClient(app):
        library = shelf_of(app).library
        shelf_of(app).renew()
        assert shelf_of(app).library is library


def test_a_generation_that_cannot_be_read_leaves_the_old_one_served(home: Path, collection: Path) -> None:
    app = served_app(home)
    with TestClient(app) as client:
        good = artifact.current(collection).name
        bad = publish(collection, "Never seen")
        index = collection / "generations" / bad / "index.faiss"
        content = index.read_bytes()
        index.unlink()  # it is a link to the file of the good generation
        index.write_bytes(content[:-1])
        shelf_of(app).renew()
        page = client.get(f"/{collection.name}")
        assert page.status_code == 200
        assert "Never seen" not in page.text
        ready = client.get("/ready")
        assert ready.status_code == 200
        assert ready.json()["not_renewed"] == [collection.name]
        library = shelf_of(app).library
        shelf_of(app).renew()
        assert shelf_of(app).library is library  # not read again and again
        (collection / "CURRENT").write_text(good, encoding="utf-8")
        shelf_of(app).renew()
        assert client.get("/ready").json()["not_renewed"] == []


def test_a_request_in_flight_ends_on_the_generation_that_it_began_with(
    home: Path, collection: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    view_of = overview.overview_view

    def slow(*parts: Any, **named: Any) -> Any:
        begun.set()
        assert go_on.wait(20)
        return view_of(*parts, **named)

    app = served_app(home)
    with TestClient(app) as client:
        title = shelf_of(app).library.collections[collection.name].card.title
        monkeypatch.setattr(overview, "overview_view", slow)
        answers: list[str] = []
        reader = threading.Thread(target=lambda: answers.append(client.get(f"/{collection.name}").text))
        reader.start()
        assert begun.wait(20)
        publish(collection, "Another title")
        publish(collection, "A third title")  # so that the first is not even the one before
        shelf_of(app).renew()
        go_on.set()
        reader.join(20)
        assert f"<h1>{title}" in answers[0]
        assert "A third title" in client.get(f"/{collection.name}").text


def test_what_is_replaced_is_freed(home: Path, collection: Path) -> None:
    app = served_app(home)
    with TestClient(app) as client:
        client.get(f"/{collection.name}")
        first = artifact.current(collection).name
        old = weakref.ref(shelf_of(app).library.collections[collection.name].explorer)
        publish(collection, "Second")
        shelf_of(app).renew()
        shelf_of(app).renew()  # a look later
        gc.collect()
        assert old() is None
        publish(collection, "Third")
        shelf_of(app).renew()
        assert first not in artifact.generations(collection)


def test_it_looks_by_itself(home: Path, collection: Path) -> None:
    app = create_app(Settings(home=home, renew_seconds=0.05))
    with TestClient(app) as client:
        publish(collection, "Another title")
        until(lambda: "Another title" in client.get(f"/{collection.name}").text)


def test_a_hangup_makes_it_look_at_once(home: Path, collection: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HANG_UP, home, collection],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "Another title\n"), done.stderr


# In a process of its own: only a main thread can be sent signals, and one that is not heard ends it.
HANG_UP = """
import asyncio, os, signal, sys
from pathlib import Path
from app.settings import Settings
from app.shelf import Shelf
from sae_core import artifact

home, collection = map(Path, sys.argv[1:])

async def hang_up():
    shelf = Shelf(Settings(home=home, renew_seconds=0))
    watching = asyncio.create_task(shelf.watch())
    await asyncio.sleep(0)
    with artifact.locked(collection), artifact.revise(collection) as (_, manifest):
        manifest["title"] = "Another title"
    os.kill(os.getpid(), signal.SIGHUP)
    before = shelf.library
    while shelf.library is before:
        await asyncio.sleep(0.02)
    watching.cancel()
    print(shelf.library.collections[collection.name].card.title)

asyncio.run(asyncio.wait_for(hang_up(), 60))
"""


def test_roll_back_and_publish_choose_among_the_generations_that_are_there(
    home: Path, collection: Path, run: Run
) -> None:
    first = artifact.current(collection).name
    second = publish(collection, "Second")
    status, out, _ = run("rollback", collection.name, "--home", home)
    assert (status, artifact.current(collection).name) == (0, first)
    assert first in out
    status, _, error = run("rollback", collection.name, "--home", home)
    assert status == 1
    assert "no generation before" in error
    assert run("publish", collection.name, second, "--home", home)[0] == 0
    assert artifact.current(collection).name == second
    status, _, error = run("publish", collection.name, "nonsense", "--home", home)
    assert status == 1
    assert first in error
    assert second in error


def test_a_damaged_generation_is_not_published(home: Path, collection: Path, run: Run) -> None:
    first = artifact.current(collection)
    second = publish(collection, "Second")
    next(first.rglob("*.sqlite")).unlink()
    status, _, error = run("rollback", collection.name, "--home", home)
    assert status == 1
    assert "catalogue.sqlite" in error
    assert artifact.current(collection).name == second
