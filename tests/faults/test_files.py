"""Files of a collection that go away under a server, and a clock that is set."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.authored import audit, labels, notes
from app.authored.labels import LabelText
from app.authored.store import Store
from app.authored.subjects import feature
from app.main import create_app
from app.settings import Settings
from sae_core import artifact
from tests.authored.people import ANN
from tests.faults.running import COLLECTION, sae_of


@pytest.fixture
def client(home: Path) -> Iterator[TestClient]:
    with TestClient(create_app(Settings(home=home, renew_seconds=0)), follow_redirects=False) as client:
        yield client


def test_a_generation_that_is_removed_is_served_until_another_is_published(
    client: TestClient, home: Path
) -> None:
    base = f"/{COLLECTION}/{sae_of(home)}"
    paths = [
        "/", f"/{COLLECTION}", base, f"{base}/features", f"{base}/features.csv", f"{base}/families",
        f"{base}/search?q=study", *(f"{base}/features/{latent}" for latent in range(20)),
        *(f"/{COLLECTION}/documents/doc-{at:04}" for at in range(100, 120)), f"{base}/features/1.json",
    ]  # fmt: skip
    before = {path: client.get(path).status_code for path in paths[:8]}
    shutil.rmtree(artifact.current(home / "collections" / COLLECTION))
    client.app.state.shelf.renew()  # type: ignore[attr-defined]
    after = {path: client.get(path) for path in paths}
    assert {path: after[path].status_code for path in before} == before
    assert {answer.status_code for answer in after.values()} <= {200, 303}
    assert client.get("/ready").status_code == 200
    with TestClient(create_app(Settings(home=home))) as restarted:
        assert restarted.get("/ready").status_code == 503
        assert "missing" in restarted.get(f"/{COLLECTION}").text


def test_after_the_clock_was_set_back_the_latest_is_still_the_latest(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = home / "collections" / COLLECTION
    first = artifact.current(folder).name

    class Yesterday(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) - timedelta(days=1)

    monkeypatch.setattr(artifact, "datetime", Yesterday)
    with artifact.locked(folder), artifact.revise(folder) as (_, manifest):
        manifest["title"] = "Another title"
    assert artifact.generations(folder) == [first, artifact.current(folder).name]


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
def test_what_people_write_keeps_its_order_whatever_the_clock_says(url: str) -> None:
    clock = [datetime(2026, 11, 23, 12, tzinfo=UTC)]
    store, subject = Store.open(url, now=lambda: clock[0]), feature("demo", "k16", 3)
    for at, hours in enumerate((0, -48, 24 * 365, -24 * 400)):
        clock[0] += timedelta(hours=hours)
        with store.write(ANN) as writing:
            labels.set_label(writing, subject, LabelText(f"text {at}"), at)
            notes.add_note(writing, subject, f"note {at}")
    with store.read() as session:
        assert [each.said.text for each in labels.find_history(session, subject)] == [
            f"text {at}" for at in (3, 2, 1, 0)
        ]
        shown = labels.find_label(session, subject)
        recorded = [
            record.after["text"]
            for record in audit.read_audit(session, thing=subject.name)
            if record.action == "label"
        ]
    store.close()
    assert shown is not None
    assert shown.said.text == "text 3"
    assert recorded == [] or recorded == [f"text {at}" for at in (3, 2, 1, 0)]
