"""A few visitors for some seconds: what `make soak` does for minutes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.planted import planted_collection
from tests.soak.kept import Edit, problems
from tests.soak.report import Found, as_table
from tests.soak.run import soak


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("soak")
    planted_collection(home, n=600, steps=500, ks=(4,))
    return home


@pytest.fixture(scope="module")
def found(home: Path) -> Found:
    return soak(home, users=12, seconds=4, pace=0.1)


def test_nobody_sees_an_error_and_nothing_that_was_acknowledged_is_lost(found: Found) -> None:
    assert found.broken == [], as_table(found)
    answered = {route: sum(each.values()) for route, each in found.said["answers"].items()}
    assert all(any(word in route for route in answered) for word in ("/search", "/edit/", "static"))
    assert any(edit.state == "stored" for edit in found.edits)


def test_an_edit_that_is_not_there_is_found(found: Found, home: Path) -> None:
    stored = next(edit for edit in found.edits if edit.state == "stored" and edit.after)
    gone = Edit(
        stored.action, stored.thing, {**(stored.after or {}), "text": "never"}, stored.actor, ["stored"]
    )
    refused = Edit(stored.action, stored.thing, stored.after, stored.actor, ["conflict"])
    others = [edit for edit in found.edits if edit is not stored]
    url = f"sqlite:///{home / 'authored.sqlite'}"
    assert any(each.startswith("lost: ") for each in problems(url, [*found.edits, gone]))
    assert any(each.startswith("stored although conflict") for each in problems(url, [*others, refused]))
    assert any(each.startswith("nobody sent this") for each in problems(url, others))
