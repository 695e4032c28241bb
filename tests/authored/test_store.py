"""The door: nothing is written unseen, nothing is read half, and what goes wrong is a sentence."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from app.authored import engines, labels, notes
from app.authored.audit import read_audit
from app.authored.engines import Database, DatabaseError, parse_url
from app.authored.labels import LabelText
from app.authored.models import Audit, NoteRow, User
from app.authored.store import Role, Store, Writing
from app.authored.subjects import document, feature
from sae_core.errors import BusyError, SaefariError
from tests.authored.people import ANN, BEN, ROOT, fill
from tests.postgresql import Server

DUST = feature("demo", "k16", 812)
ON_SQLITE = pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
ON_POSTGRESQL = pytest.mark.parametrize("kind", ["postgresql"], indirect=True)
_CHANGES = ("UPDATE audit SET actor = 'nobody'", "DELETE FROM audit", "DELETE FROM audit WHERE actor = 'ann'")
_FORGED = "id, at, 'nobody', via, action, thing, before, after"


def n_records(store: Store) -> int:
    with store.read() as session:
        return len(read_audit(session, limit=1_000))


# --- the audit table ------------------------------------------------------------------------------------


def test_every_write_says_who_what_before_and_after(store: Store) -> None:
    with store.write(ANN) as writing:
        labels.set_label(writing, DUST, LabelText("dust"), 0)
    with store.write(BEN) as writing:
        labels.set_label(writing, DUST, LabelText("gas"), 1)
    with store.read() as session:
        last, first = read_audit(session)
        assert read_audit(session, actor="ann") == [first]
        assert read_audit(session, thing=DUST.name, before=last.id) == [first]
    assert (first.actor, first.via, first.action, first.thing) == ("ann", "token 1", "label", DUST.name)
    assert (first.before, first.after["text"]) == (None, "dust")
    assert (last.actor, last.before["text"], last.after["text"]) == ("ben", "dust", "gas")


def test_everything_that_is_written_is_recorded(store: Store) -> None:
    fill(store)
    with store.read() as session:
        actions = [record.action for record in read_audit(session)]
    assert sorted(actions) == sorted(
        [
            "label",
            "label",
            "note",
            "note",
            "label",
            "vote",
            "list",
            "lens",
            "link",
            "role",
            "token",
            "sign in",
        ]
    )


@pytest.mark.parametrize(
    ("kind", "statement"),
    [
        *[(kind, words) for kind in ("sqlite", "postgresql") for words in _CHANGES],
        ("sqlite", f"INSERT OR REPLACE INTO audit SELECT {_FORGED} FROM audit"),
        ("postgresql", "TRUNCATE audit"),
    ],
    indirect=["kind"],
)
def test_the_audit_table_is_only_added_to(store: Store, statement: str) -> None:
    fill(store)
    before = n_records(store)
    with pytest.raises(DBAPIError, match="only added to"), store.write(ROOT) as writing:
        writing.session.execute(sa.text(statement))
    with store.read() as session:
        assert {record.actor for record in read_audit(session)} == {"ann", "ben", "root"}
    assert n_records(store) == before


def test_a_change_without_a_record_is_not_stored(store: Store) -> None:
    with pytest.raises(RuntimeError, match="not recorded"), store.write(ROOT) as writing:
        writing.session.add(User(name="mallory", role="admin", created=writing.now))
    with store.read() as session:
        assert session.get(User, "mallory") is None


def test_what_fails_leaves_neither_change_nor_record(store: Store) -> None:
    def half(writing: Writing) -> None:
        notes.add_note(writing, document("demo", "1"), "first")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), store.write(ANN) as writing:
        half(writing)
    with store.read() as session:
        assert notes.find_notes(session, document("demo", "1"), ANN) == []
    assert n_records(store) == 0


def test_a_dry_run_changes_nothing(store: Store) -> None:
    with store.write(ANN, dry_run=True) as writing:
        notes.add_note(writing, document("demo", "1"), "a try")
        assert notes.find_notes(writing.session, document("demo", "1"), ANN)
    assert n_records(store) == 0


# --- transactions ---------------------------------------------------------------------------------------


def test_readers_cannot_write(store: Store) -> None:
    with pytest.raises((SaefariError, DBAPIError)), store.read() as session:
        session.execute(sa.delete(NoteRow))


def test_a_reader_sees_one_moment(store: Store) -> None:
    with store.read() as session:
        assert labels.find_label(session, DUST) is None
        with store.write(ANN) as writing:
            labels.set_label(writing, DUST, LabelText("dust"), 0)
        assert labels.find_label(session, DUST) is None
    with store.read() as session:
        assert labels.find_label(session, DUST) is not None


def test_who_waits_too_long_for_a_turn_is_told(
    store: Store, open_store: Callable[..., Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One writer stands still in the middle; another gives up with a sentence, and nothing is lost."""
    monkeypatch.setattr(engines, "SECONDS_TO_WAIT", 0.2)
    monkeypatch.setattr("app.authored.store.SECONDS_TO_WAIT", 0.2)
    other = open_store()
    began, may_end = threading.Event(), threading.Event()

    def stand_still() -> None:
        with store.write(ANN) as writing:
            labels.set_label(writing, DUST, LabelText("dust"), 0)
            began.set()
            may_end.wait(20)

    thread = threading.Thread(target=stand_still)
    thread.start()
    assert began.wait(20)
    try:
        with pytest.raises(BusyError, match="is busy"), other.write(BEN) as writing:
            labels.set_label(writing, DUST, LabelText("gas"), 0)
        with other.read() as session:  # readers do not wait
            assert labels.find_label(session, DUST) is None
    finally:
        may_end.set()
        thread.join()
    with other.read() as session:
        assert labels.find_labels(session, [DUST])[DUST].said.text == "dust"


@ON_SQLITE
def test_a_writer_that_comes_again_at_once_is_behind_who_waits(store: Store) -> None:
    order: list[str] = []
    began = threading.Event()

    def wait() -> None:
        began.set()
        with store.database.turn():
            order.append("who waited")

    thread = threading.Thread(target=wait)
    with store.database.turn():
        thread.start()
        assert began.wait(20)
        time.sleep(0.2)  # until it stands in the queue
    with store.database.turn():
        order.append("who came again")
    thread.join()
    assert order == ["who waited", "who came again"]


def test_a_question_that_takes_too_long_is_ended(store: Store) -> None:
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    with pytest.raises(BusyError), store.read() as session:
        session.execute(sa.text(endless))


# --- revisions ------------------------------------------------------------------------------------------


def test_a_database_without_tables_is_refused_with_the_command(empty_url: str) -> None:
    with pytest.raises(DatabaseError, match=r"no tables yet\. Run `saefari db upgrade`"):
        Store.open(empty_url)


@pytest.mark.parametrize(
    ("found", "said"), [("0001", "saefari db upgrade"), ("9999", "the version that made it")]
)
def test_another_revision_is_refused_also_by_an_open_store(
    store: Store, url: str, found: str, said: str
) -> None:
    set_revision(store, found)
    try:
        with pytest.raises(DatabaseError, match=said):
            Store.open(url)
        with pytest.raises(DatabaseError, match=said), store.write(ANN):
            pass
    finally:
        set_revision(store, "0003")


def set_revision(store: Store, revision: str) -> None:
    """Behind the store's back."""
    engine = store.database.writer()
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = :r"), {"r": revision})
    engine.dispose()


# --- addresses and files --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "mysql://ann:secret@host/x",
        "sqlite://",
        "sqlite:///:memory:",
        "oracle://x",
        "no address",
        "",
        "sqlite:///x?mode=ro",
    ],
)
def test_addresses_that_are_no_database_of_ours(text: str) -> None:
    with pytest.raises(DatabaseError) as caught:
        parse_url(text)
    assert "secret" not in str(caught.value)
    assert "postgresql://" in caught.value.remedy


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_addresses_of_postgresql_as_people_write_them(scheme: str) -> None:
    assert parse_url(f"{scheme}://ann:secret@host/x").drivername == "postgresql+psycopg"


def test_a_server_that_is_not_there_is_a_sentence_without_the_password() -> None:
    with pytest.raises(DatabaseError, match="cannot be reached") as caught:
        Store.open("postgresql://ann:secret@127.0.0.1:1/x")
    assert "secret" not in str(caught.value)


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "authored.sqlite").write_bytes(b"What people wrote, on paper. " * 100)
    with pytest.raises(DatabaseError, match="no database of Saefari"):
        Store.open(f"sqlite:///{tmp_path}/authored.sqlite")


@ON_SQLITE
def test_what_is_acknowledged_is_on_the_disk(url: str) -> None:
    """SQLite's settings, asked of the connections that write: a full flush, a log, foreign keys."""
    with Database(url).writer().connect() as connection:
        asked = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("synchronous", "journal_mode", "foreign_keys", "trusted_schema")
        }
    assert asked == {"synchronous": 2, "journal_mode": "wal", "foreign_keys": 1, "trusted_schema": 0}


@ON_SQLITE
def test_a_folder_that_cannot_be_written_is_read(
    store: Store, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A volume that is mounted read-only: SQLite's files beside the database cannot be made there."""
    fill(store)
    store.close()
    monkeypatch.setattr("os.access", lambda *_: False)
    again = Store.open(url)
    with again.read() as session:
        assert labels.find_label(session, feature("demo", "k16", 3)) is not None
    again.close()


@ON_SQLITE
def test_a_full_disk_is_a_sentence_and_nothing_is_half_stored(store: Store) -> None:

    def limit(pages: int) -> None:
        with store._writer.connect() as connection:
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")

    limit(1)  # no more than there are
    with pytest.raises(DatabaseError, match=r"full, so nothing was stored"):
        _write_much(store)
    limit(10**6)
    assert n_records(store) == 0
    fill(store)


def _write_much(store: Store) -> None:
    with store.write(ANN) as writing:
        for at in range(20):
            notes.add_note(writing, document("demo", str(at)), "x" * 20_000)


@ON_POSTGRESQL
def test_a_server_that_was_restarted_is_found_again(postgresql_server: Server, store: Store) -> None:
    fill(store)
    postgresql_server.stop(hard=True)
    with pytest.raises(DatabaseError, match="cannot be reached"), store.write(ANN) as writing:
        labels.set_label(writing, DUST, LabelText("dust"), 0)
    postgresql_server.start()
    with store.write(ANN, Role.EDITOR) as writing:
        labels.set_label(writing, DUST, LabelText("dust"), 0)
    with store.read() as session:
        assert {
            each.said.text for each in labels.find_labels(session, [DUST, feature("demo", "k16", 3)]).values()
        } == {"dust", "cosmic dust"}


@ON_SQLITE
def test_sqlite_itself_is_asked_for_the_triggers(url: str) -> None:
    """Also for who comes past our door."""
    connection = sqlite3.connect(url.removeprefix("sqlite:///"))
    connection.execute(
        "INSERT INTO audit (at, actor, via, action, thing) VALUES ('2026-01-01', 'a', '', '', '')"
    )
    for statement in (
        "UPDATE audit SET actor = 'b'",
        "DELETE FROM audit",
        "REPLACE INTO audit SELECT * FROM audit",
    ):
        with pytest.raises(sqlite3.DatabaseError, match="only added to"):
            connection.execute(statement)
    connection.close()


def test_records_are_in_the_order_in_which_they_were_made(store: Store) -> None:
    fill(store)
    with store.read() as session:
        ids = list(session.scalars(sa.select(Audit.id).order_by(Audit.at, Audit.id)))
    assert ids == sorted(ids)
