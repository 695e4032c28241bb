"""Edits that were acknowledged are there, whoever is killed after that."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import httpx2
import psycopg
import pytest

from app.authored import audit, labels
from app.authored.engines import DatabaseError
from app.authored.store import Store
from app.authored.subjects import feature
from tests.faults.running import COLLECTION, ROUNDS, Commands, Server, sae_of, session_of, until
from tests.postgresql import Server as PostgreSQL

N_EDITORS = 2


@dataclass
class Editor:
    """Stores one text after the other as the label of a feature of theirs, until nobody answers."""

    latent: int
    session: str
    acknowledged: int = 0  # the revision of the last edit that was
    refused: list[int] = field(default_factory=list)

    def work(self, server: Server) -> None:
        with server.client(self.session) as client:
            while True:
                sent = {**server.about(self.latent), **self._text()}
                try:
                    answer = client.post("/edit/label", data=sent)
                except httpx2.TransportError:
                    return
                if answer.status_code != 303:
                    self.refused.append(answer.status_code)
                    return
                self.acknowledged += 1

    def _text(self) -> dict[str, str]:
        return {"text": f"edit {self.acknowledged + 1}", "expected": str(self.acknowledged)}

    def look(self, store: Store, sae: str) -> None:
        """Every edit that was acknowledged is there with its record; one more may be on its way to us."""
        subject = feature(COLLECTION, sae, self.latent)
        with store.read(patient=True) as session:
            history = labels.find_history(session, subject)
            records = audit.read_audit(session, thing=subject.name, limit=1_000)
        there = len(history)
        assert there in (self.acknowledged, self.acknowledged + 1)
        assert [(each.revision, each.said.text) for each in history] == [
            (at, f"edit {at}") for at in range(there, 0, -1)
        ]
        assert [record.after["revision"] for record in records] == [each.revision for each in history[:1_000]]
        self.acknowledged = there


@dataclass
class Rounds:
    """What was done, and in how many rounds the files told that nothing had been written back yet."""

    n_edits: int = 0
    n_in_log: int = 0  # rounds after which the log of SQLite held what its file had not


def rounds_of(commands: Commands, home: Path, url: str, kill: Callable[[int, Server], list[int]]) -> Rounds:
    """Edit through HTTP, kill at some moment, and look, as often as was asked for.

    `kill` gets the number of the round, and says with which statuses edits may have been refused.
    """
    commands.environment.update({"SAEFARI_EDITING": "1", "SAEFARI_DATABASE_URL": url})
    editors = [Editor(latent, session_of(url, f"editor {latent}")) for latent in range(N_EDITORS)]
    moments, done, log = random.Random(3), Rounds(), Path(f"{url.removeprefix('sqlite:///')}-wal")
    for at in range(ROUNDS):
        before = sum(each.acknowledged for each in editors)
        with commands.serving(home) as server:
            threads = [threading.Thread(target=each.work, args=(server,)) for each in editors]
            for thread in threads:
                thread.start()
            until(partial(more_than, before, editors))
            time.sleep(moments.uniform(0, 0.3))
            allowed = kill(at, server)
            for thread in threads:
                thread.join(60)
        done.n_in_log += log.is_file() and log.stat().st_size > 0
        store = until(partial(opened, url))  # a database that was killed may still be recovering
        for each in editors:
            each.look(store, sae_of(home))
            assert set(each.refused) <= set(allowed)
            each.refused.clear()
        store.close()
        assert "Traceback" not in commands.said
        done.n_edits += sum(each.acknowledged for each in editors) - before
    return done


def opened(url: str) -> Store | None:
    with suppress(DatabaseError):
        return Store.open(url)
    return None


def more_than(n: int, editors: list[Editor]) -> bool:
    return sum(each.acknowledged for each in editors) > n


def kill_server(_at: int, server: Server) -> list[int]:
    os.kill(server.pid, signal.SIGKILL)
    return []


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
def test_edits_survive_kill_9_of_the_server_before_sqlite_writes_them_back(
    home: Path, url: str, commands: Commands
) -> None:
    done = rounds_of(commands, home, url, kill_server)
    assert done.n_edits >= ROUNDS
    assert done.n_in_log > ROUNDS / 2, "there was nothing that a checkpoint had yet to write"
    print(f"{ROUNDS} rounds, {done.n_edits} edits, {done.n_in_log} times in the log only")  # noqa: T201


@pytest.mark.parametrize("kind", ["postgresql"], indirect=True)
def test_edits_survive_kill_9_of_the_server_or_of_postgresql(
    home: Path, url: str, commands: Commands, postgresql_server: PostgreSQL
) -> None:
    """Every other round ours dies; else one process of the database, or all of it, and ours goes on."""

    def kill(at: int, server: Server) -> list[int]:
        if at % 4 == 1:
            with psycopg.connect(url) as connection:
                asked = "SELECT pid FROM pg_stat_activity WHERE application_name = 'saefari' LIMIT 1"
                found = connection.execute(asked).fetchone()
            assert found is not None
            os.kill(found[0], signal.SIGKILL)  # then PostgreSQL throws out everybody and recovers
        elif at % 4 == 3:
            postgresql_server.stop(hard=True)
            postgresql_server.start()
        else:
            return kill_server(at, server)
        time.sleep(0.3)
        os.kill(server.pid, signal.SIGKILL)
        return [503]

    done = rounds_of(commands, home, url, kill)
    assert done.n_edits >= ROUNDS
    print(f"{ROUNDS} rounds, {done.n_edits} edits")  # noqa: T201
