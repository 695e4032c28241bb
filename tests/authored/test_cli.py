"""The commands, as a person gives them; each ends in a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.authored import access, labels
from app.authored.labels import LabelText
from app.authored.store import Store, utc_now
from app.authored.subjects import Direction, feature
from sae_core.explorer import Explorer
from tests.app.served import Run
from tests.authored.people import ANN


@pytest.fixture
def saefari(run: Run, monkeypatch: pytest.MonkeyPatch, empty_url: str) -> Run:
    """The same, with a database that is set by the environment."""
    monkeypatch.setenv("SAEFARI_DATABASE_URL", empty_url)
    return run


def test_the_database_is_made_once(saefari: Run) -> None:
    status, out, err = saefari("db", "current")
    assert (status, "no tables yet" in out, "Run `saefari db upgrade`" in err) == (1, True, True)
    assert saefari("token", "list")[0] == 1
    assert "from nothing to revision 0003" in saefari("db", "upgrade")[1]
    assert "is at revision 0003 already" in saefari("db", "upgrade")[1]
    assert saefari("db", "current")[0] == 0


def test_a_token_is_shown_once_and_ended(saefari: Run, empty_url: str) -> None:
    saefari("db", "upgrade")
    assert "There are no tokens" in saefari("token", "list")[1]
    status, secret, err = saefari("token", "create", "Ann", "--scope", "edit", "--expires", "90d")
    assert (status, "shown only now" in err) == (0, True)
    store = Store.open(empty_url)
    with store.read() as session:
        actor = access.find_by_token(session, secret.strip(), utc_now())
    assert actor is not None
    assert (actor.name, actor.role.word) == ("ann", "editor")
    listed = saefari("token", "list")[1]
    assert secret.strip() not in listed
    assert "valid" in listed
    number = listed.split()[0]
    assert saefari("token", "revoke", number)[0] == 0
    assert "revoked" in saefari("token", "list")[1]
    with store.read() as session:
        assert access.find_by_token(session, secret.strip(), utc_now()) is None
    store.close()
    refused = [("create", "a/b"), ("create", "ann", "--scope", "owner"), ("revoke", "99")]
    for words in [*refused, ("create", "ann", "--expires", "soon")]:
        status, _, err = saefari("token", *words)
        assert (status, err.startswith("saefari: ")) == (1, True)


def test_out_back_in_and_over_to_another_sae(
    saefari: Run, empty_url: str, tmp_path: Path, planted_home: Path, planted: Explorer
) -> None:
    saefari("db", "upgrade")
    store = Store.open(empty_url)
    (name, space), *_ = planted.saes.items()
    latent = int(space.features.n_documents_N.argmax())
    direction = Direction.of("", space.sae.directions_ND[latent])
    with store.write(ANN) as writing:
        labels.set_label(
            writing, feature("planted", "k3-n64-000000", latent, direction), LabelText("from before"), 0
        )
    assert saefari("authored", "export", tmp_path / "all.jsonl")[1].endswith("1 label\n")
    assert "There already: 1 label" in saefari("authored", "import", tmp_path / "all.jsonl")[1]
    words = ("authored", "carry", "planted", "--home", planted_home)
    assert "Would be carried: 1 label" in saefari(*words, "--dry-run")[1]
    assert "Carried: 1 label. Left where it is: 0" in saefari(*words)[1]
    with store.read() as session:
        assert labels.find_label(session, feature("planted", name, latent)) is not None
    store.close()
    status, _, err = saefari("authored", "import", planted_home / "planted.npy")
    assert (status, "no JSON object" in err) == (1, True)


def test_a_home_has_its_own_file_with_backups(run: Run, tmp_path: Path) -> None:
    home = ("--home", tmp_path)
    assert run("db", "upgrade", *home)[0] == 0
    assert (tmp_path / "authored.sqlite").is_file()
    run("token", "create", "ann", *home)
    assert "bytes" in run("backup", tmp_path / "copy.sqlite", *home)[1]
    run("token", "create", "ben", *home)
    assert "What was there before" in run("restore", tmp_path / "copy.sqlite", "--yes", *home)[1]
    listed = run("token", "list", *home)[1]
    assert ("ann" in listed, "ben" in listed) == (True, False)
    assert run("restore", tmp_path / "copy.sqlite", *home)[0] == 1  # nobody says yes
