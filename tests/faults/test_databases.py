"""A database that is held by somebody else, stopped, started again, or half migrated."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import psycopg
import pytest
from fastapi.testclient import TestClient
from httpx2 import Response
from pydantic import SecretStr

from app.authored import schema
from app.authored.engines import ADVISORY_LOCK, SECONDS_TO_WAIT
from app.authored.models import REVISION
from app.authored.store import Store
from app.main import create_app
from app.settings import Settings
from tests.app.editors import HERE
from tests.authored.people import fill
from tests.authored.test_schema import rows
from tests.faults.running import COLLECTION, ROUNDS, Commands, sae_of, session_of
from tests.postgresql import Server as PostgreSQL

N_KILLS = max(2, ROUNDS // 10)


class Site:
    """A server on which ann edits, and anybody reads."""

    def __init__(self, client: TestClient, home: Path) -> None:
        self.client, self.base = client, f"/{COLLECTION}/{sae_of(home)}"

    def edit(self, latent: int) -> Response:
        about = {
            "collection": COLLECTION,
            "kind": "feature",
            "sae": self.base.split("/")[2],
            "key": str(latent),
        }
        said = {"text": "dust", "explanation": "A long thought.", "expected": "0"}
        return self.client.post("/edit/label", data={**about, **said}, headers=HERE)

    def reads(self) -> bool:
        """Pages for people who have signed in ask the database who that is; all of them go on without it."""
        paths = (f"/{COLLECTION}", f"{self.base}/features/1", f"{self.base}/search?q=study")
        return [self.client.get(path).status_code for path in paths] == [200] * 3

    def is_refused(self, latent: int) -> bool:
        """As busy or gone, with all that was written."""
        answer = self.edit(latent)
        assert "A long thought." in answer.text
        assert "Traceback" not in answer.text
        return answer.status_code == 503 and "Retry-After" in answer.headers


@pytest.fixture
def site(built: Path, url: str) -> Iterator[Site]:
    app = create_app(Settings(home=built, editing=True, database_url=SecretStr(url)))
    with TestClient(app, follow_redirects=False) as client:
        client.cookies.set("saefari", session_of(url, "ann"))
        yield Site(client, built)


@contextmanager
def held(url: str) -> Iterator[None]:
    """Somebody who is none of our processes writes, and does not end."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            yield
        return
    with psycopg.connect(url) as other:
        other.execute(f"SELECT pg_advisory_xact_lock({ADVISORY_LOCK})")
        yield


def test_where_somebody_else_holds_the_database_edits_come_back_and_reading_goes_on(
    site: Site, url: str
) -> None:
    with held(url):
        assert site.reads()
        began = time.monotonic()
        assert site.is_refused(1)
        waited = time.monotonic() - began
        assert 0.8 * SECONDS_TO_WAIT < waited < 4 * SECONDS_TO_WAIT
        assert site.reads()
    assert site.edit(1).status_code == 303


@pytest.mark.parametrize("kind", ["postgresql"], indirect=True)
@pytest.mark.parametrize("hard", [False, True])
def test_postgresql_may_go_away_and_come_back(
    site: Site, postgresql_server: PostgreSQL, url: str, hard: bool
) -> None:
    assert site.edit(1).status_code == 303
    for latent in range(2, 4):
        postgresql_server.stop(hard=hard)
        try:
            assert site.reads()
            assert site.is_refused(latent)
        finally:
            postgresql_server.start()
        assert site.reads()
        assert site.edit(latent).status_code == 303  # at the first attempt: no dead connection is handed out
    with psycopg.connect(url) as connection:
        asked = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'saefari'"
        found = connection.execute(asked).fetchone()
    assert found is not None
    assert found[0] <= 4


def test_kill_9_of_a_migration_leaves_what_was_there_and_the_next_one_ends_it(
    empty_url: str, commands: Commands, tmp_path: Path
) -> None:
    """What people wrote stays, at whichever step it is killed; and the way back keeps the other tables."""
    schema.upgrade(empty_url)
    store = Store.open(empty_url)
    fill(store)
    store.close()
    commands.environment["SAEFARI_DATABASE_URL"] = empty_url
    words = ["db", "upgrade", "--home", str(tmp_path)]
    moments, n_undone, first = random.Random(5), 0, schema.steps()[0]
    for _ in range(N_KILLS):
        schema.downgrade(empty_url, first)
        kept = rows(empty_url)
        pid = commands.start(*words)
        time.sleep(moments.uniform(0, 0.4))
        with suppress(ProcessLookupError):  # it was faster
            os.kill(pid, signal.SIGKILL)
        commands.end()
        found = schema.current(empty_url)
        assert found in (first, REVISION)
        n_undone += found == first
        assert commands.run(*words) == 0, commands.said
        after = rows(empty_url)
        assert {name: [row[: len(kept[name][0])] for row in after[name]] for name in kept if kept[name]} == {
            name: there for name, there in kept.items() if there
        }
        Store.open(empty_url).close()
    print(f"{N_KILLS} kills, {n_undone} before the migration was done")  # noqa: T201
