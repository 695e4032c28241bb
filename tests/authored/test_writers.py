"""Processes: what was acknowledged is there, whoever is killed, and however many write."""

from __future__ import annotations

import random

import pytest

from app.authored import audit, labels
from app.authored.labels import LabelText
from app.authored.store import Store
from tests.authored import writers
from tests.authored.people import ANN
from tests.postgresql import Server


def test_acknowledged_edits_survive_the_writers_death(url: str) -> None:
    outcome = writers.round_of(url, random.Random(1))
    assert outcome.is_sound
    assert outcome.acknowledged > 0
    assert outcome.there in (outcome.acknowledged, outcome.acknowledged + 1)  # one may be on its way to us


def test_processes_that_edit_one_label_lose_nothing(store: Store, url: str) -> None:
    told = writers.rivals(url, 2, 8)
    with store.read() as session:
        history = labels.find_history(session, writers.LABEL)
    assert {each.revision: each.author for each in history} == {
        revision: name for name, revisions in told.items() for revision in revisions
    }
    assert len(history) == 16
    assert all(each.said.text == f"{each.author} {each.revision}" for each in history)


@pytest.mark.parametrize("kind", ["postgresql"], indirect=True)
def test_acknowledged_edits_survive_the_servers_death(store: Store, postgresql_server: Server) -> None:
    for at in range(20):
        with store.write(ANN) as writing:
            labels.set_label(writing, writers.LABEL, LabelText(f"edit {at + 1}"), at)
    postgresql_server.stop(hard=True)
    postgresql_server.start()
    with store.read() as session:
        assert len(labels.find_history(session, writers.LABEL)) == 20
        assert len(audit.read_audit(session)) == 20
