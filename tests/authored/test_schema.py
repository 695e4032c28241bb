"""Migrations: they make what the models say, up and down, with what people wrote in between, and once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy.exc import OperationalError

from app.authored import labels, schema
from app.authored.engines import Database
from app.authored.labels import LabelText
from app.authored.models import REVISION, Base
from app.authored.store import Store
from app.authored.subjects import feature
from tests.authored.people import ANN, fill

ROOT_FOLDER = Path(__file__).parent.parent.parent
UPGRADE = "import sys; from app.authored import schema; print(schema.upgrade(sys.argv[1])[0])"


def rows(url: str) -> dict[str, list[tuple[Any, ...]]]:
    """Everything in the database, by table."""
    engine = Database(url).reader()
    found = sa.MetaData()
    with engine.connect() as connection:
        found.reflect(connection)
        read = {
            name: [tuple(row) for row in connection.execute(sa.select(table).order_by(*table.primary_key))]
            for name, table in found.tables.items()
            if name != "alembic_version"
        }
    engine.dispose()
    return read


def test_the_latest_migration_is_the_one_that_the_models_name() -> None:
    assert schema.steps()[-1] == REVISION
    assert schema.steps() == sorted(schema.steps())  # a later one is larger: `check_revision` leans on it


def test_migrations_make_what_the_models_say(empty_url: str) -> None:
    schema.upgrade(empty_url)
    engine = Database(empty_url).reader()
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
    engine.dispose()


def test_up_and_down_step_by_step_with_what_people_wrote(empty_url: str) -> None:
    """Each step down leaves every other table as it was, and the way up again gives a database that works."""
    assert schema.current(empty_url) is None
    assert schema.upgrade(empty_url) == (None, REVISION)
    store = Store.open(empty_url)
    fill(store)
    store.close()
    before = rows(empty_url)
    assert all(before.values())
    steps = [schema.BASE, *schema.steps()]
    for target in reversed(steps[:-1]):
        schema.downgrade(empty_url, target)
        assert schema.current(empty_url) == (None if target == schema.BASE else target)
        left = rows(empty_url)
        assert left == {name: before[name] for name in left}
        if target != schema.BASE:
            assert left
    assert left == {}
    for target in steps[1:]:
        schema.upgrade(empty_url, target)
    assert {name: len(found) for name, found in rows(empty_url).items()} == dict.fromkeys(before, 0)
    again = Store.open(empty_url)
    fill(again)
    again.close()


def test_two_upgrades_at_once_are_one(empty_url: str) -> None:
    running = [
        subprocess.Popen(
            [sys.executable, "-c", UPGRADE, empty_url],
            cwd=ROOT_FOLDER,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=120) for process in running]
    assert [errors for _, errors in said] == ["", ""]
    assert sorted(words.strip() for words, _ in said) == [REVISION, "None"]
    assert schema.current(empty_url) == REVISION


def test_an_upgrade_that_fails_leaves_what_was_there(empty_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    schema.upgrade(empty_url, "0001")
    real = command.upgrade

    def fails_late(config: Any, target: str) -> None:
        real(config, target)
        raise OperationalError("", {}, Exception("the power went"))

    monkeypatch.setattr(command, "upgrade", fails_late)
    with pytest.raises(OperationalError):
        schema.upgrade(empty_url)
    monkeypatch.undo()
    assert schema.current(empty_url) == "0001"
    assert set(rows(empty_url)) == {"users", "tokens", "sessions", "audit"}
    assert schema.upgrade(empty_url) == ("0001", REVISION)


def test_writers_wait_while_tables_change(store: Store, url: str) -> None:
    began, stored = Event(), Event()

    def write() -> None:
        began.set()
        with store.write(ANN) as writing:
            labels.set_label(writing, feature("demo", "k16", 1), LabelText("dust"), 0)
        stored.set()

    with schema.moving(url):
        thread = Thread(target=write)
        thread.start()
        assert began.wait(10)
        assert not stored.wait(0.3)
    thread.join(20)
    assert stored.is_set()


def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "authored.sqlite"
    schema.upgrade(f"sqlite:///{path}")
    assert path.stat().st_mode & 0o077 == 0
