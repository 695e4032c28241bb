"""A copy while others write, and back: whole, checked, and what was there is kept."""

from __future__ import annotations

import sqlite3
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.authored import backup, labels, notes, schema
from app.authored.engines import DatabaseError
from app.authored.labels import LabelText
from app.authored.store import Store
from app.authored.subjects import document, feature
from sae_core.errors import SaefariError
from tests.authored.people import ANN, BEN, fill

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
FIRST, SECOND = feature("demo", "k16", 1), feature("demo", "k16", 2)
ON_SQLITE = pytest.mark.parametrize("kind", ["sqlite"], indirect=True)


@ON_SQLITE
def test_a_backup_comes_back_and_what_was_there_is_kept(store: Store, url: str, tmp_path: Path) -> None:
    fill(store)
    copy = tmp_path / "copies" / "monday.sqlite"
    copy.parent.mkdir()
    assert backup.back_up(url, copy) == copy.stat().st_size
    assert (copy.stat().st_mode & 0o077, [each.name for each in copy.parent.iterdir()]) == (
        0,
        ["monday.sqlite"],
    )
    with store.write(BEN) as writing:
        labels.set_label(writing, FIRST, LabelText("on tuesday"), 0)
    kept = backup.restore(url, copy, NOW)
    with store.read() as session:  # the same open store sees what is there now
        assert labels.find_label(session, FIRST) is None
        assert labels.find_label(session, feature("demo", "k16", 3)) is not None
    with store.write(ANN) as writing:  # and goes on
        labels.set_label(writing, SECOND, LabelText("on wednesday"), 0)
    assert kept is not None
    backup.restore(url, kept, datetime(2026, 11, 24, tzinfo=UTC))
    with store.read() as session:
        assert labels.find_label(session, FIRST) is not None
        assert labels.find_label(session, SECOND) is None


@ON_SQLITE
def test_a_copy_made_while_others_write_is_whole(store: Store, url: str, tmp_path: Path) -> None:
    ended = threading.Event()

    def write() -> None:
        at = 0
        while not ended.is_set():
            with store.write(ANN) as writing:  # the two always together
                labels.set_label(writing, FIRST, LabelText(f"text {at}"), at)
                labels.set_label(writing, SECOND, LabelText(f"text {at}"), at)
                notes.add_note(writing, document("demo", "1"), "x" * 2_000)
            at += 1

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for at in range(5):
            backup.back_up(url, tmp_path / f"{at}.sqlite")
    finally:
        ended.set()
        thread.join()
    counts = []
    for at in range(5):
        copy = Store.open(f"sqlite:///{tmp_path}/{at}.sqlite")
        with copy.read() as session:
            first, second = (labels.find_history(session, each) for each in (FIRST, SECOND))
        copy.close()
        assert [each.said for each in first] == [each.said for each in second]
        counts.append(len(first))
    assert counts == sorted(counts)


@ON_SQLITE
def test_what_is_no_backup_is_refused_and_nothing_changes(store: Store, url: str, tmp_path: Path) -> None:
    fill(store)
    sound, torn, other, newer = (tmp_path / f"{name}.sqlite" for name in ("sound", "torn", "other", "newer"))
    backup.back_up(url, sound)
    content = sound.read_bytes()
    torn.write_bytes(content[: len(content) // 2])
    connection = sqlite3.connect(other)
    connection.execute("CREATE TABLE t (x)")
    connection.close()
    newer.write_bytes(content)
    connection = sqlite3.connect(newer)
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.commit()
    connection.close()
    (tmp_path / "text.sqlite").write_text("not at all" * 100)
    for bad in (torn, other, newer, tmp_path / "text.sqlite", tmp_path / "absent", tmp_path):
        with pytest.raises(SaefariError):
            backup.restore(url, bad, NOW)
    with store.read() as session:
        assert labels.find_label(session, feature("demo", "k16", 3)) is not None
    assert list(tmp_path.glob("*.before-*")) == []


@ON_SQLITE
def test_a_backup_of_an_earlier_revision_is_upgraded_after(url: str, store: Store, tmp_path: Path) -> None:
    old = f"sqlite:///{tmp_path}/old.sqlite"
    schema.upgrade(old, "0002")
    backup.restore(url, tmp_path / "old.sqlite", NOW)
    with pytest.raises(DatabaseError, match="saefari db upgrade"):
        Store.open(url)
    schema.upgrade(url)
    fill(store)


@ON_SQLITE
def test_a_backup_replaces_no_folder_and_not_the_database(store: Store, url: str, tmp_path: Path) -> None:
    for place in (tmp_path, Path(url.removeprefix("sqlite:///"))):
        with pytest.raises(SaefariError, match="cannot be the backup"):
            backup.back_up(url, place)
    with pytest.raises(SaefariError, match="no database"):
        backup.back_up(f"sqlite:///{tmp_path}/absent.sqlite", tmp_path / "copy.sqlite")


@pytest.mark.parametrize("kind", ["postgresql"], indirect=True)
def test_postgresql_has_tools_of_its_own_which_are_named(url: str, tmp_path: Path) -> None:
    with pytest.raises(SaefariError, match="pg_dump --format=custom"):
        backup.back_up(url, tmp_path / "copy")
    with pytest.raises(SaefariError, match="pg_restore --clean"):
        backup.restore(url, tmp_path / "copy", NOW)
