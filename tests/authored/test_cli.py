"""The commands, as a person gives them; each ends in a sentence."""

from __future__ import annotations

import json
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


def test_people_have_roles_that_are_on_record(saefari: Run) -> None:
    saefari("db", "upgrade")
    assert saefari("user", "set", "Ann", "--role", "editor")[:2] == (0, "ann: editor\n")
    saefari("user", "set", "ann", "--role", "reader")
    assert "ann                      reader  since 2" in saefari("user", "list")[1]
    assert saefari("user", "set", "ann", "--role", "king")[0] == 1
    assert saefari("user", "set", "a/b", "--role", "editor")[0] == 1
    records = [json.loads(line) for line in saefari("audit", "--action", "role", "--json")[1].splitlines()]
    assert [(each["thing"], each["before"], each["after"]) for each in records] == [
        ("user ann", {"role": "editor"}, {"role": "reader"}),
        ("user ann", {"role": "reader"}, {"role": "editor"}),
    ]
    assert {each["via"] for each in records} == {"command line"}


def test_sessions_are_listed_and_ended(saefari: Run, empty_url: str) -> None:
    saefari("db", "upgrade")
    secret = saefari("token", "create", "ann")[1].strip()
    assert "last used never" in saefari("token", "list")[1]
    store = Store.open(empty_url)
    for _ in range(3):
        access.sign_in(store, secret)
    store.close()
    assert f"last used {utc_now():%Y-%m-%d}" in saefari("token", "list")[1]
    lines = saefari("session", "list", "--user", "Ann")[1].splitlines()
    assert [line.split()[:5] for line in lines] == [[str(n), "ann", "by", "token", "1,"] for n in (3, 2, 1)]
    assert saefari("session", "revoke", "2")[:2] == (0, "Session 2 ended\n")
    assert saefari("session", "revoke", "2")[0] == 1
    assert saefari("session", "revoke")[0] == 1
    assert saefari("session", "revoke", "--user", "ann")[1] == "2 sessions of ann ended\n"
    assert saefari("session", "list")[1] == ""


@pytest.mark.parametrize("since", ["1d", "2020-01-01"])
def test_the_audit_is_read_by_who_what_and_when(saefari: Run, since: str) -> None:
    saefari("db", "upgrade")
    for name in ("ann", "ben"):
        saefari("token", "create", name)
    assert len(saefari("audit", "--since", since)[1].splitlines()) == 4
    assert len(saefari("audit", "--about", "token 2")[1].splitlines()) == 1
    assert "(command line)  token: token 2" in saefari("audit", "--action", "token")[1]
    assert saefari("audit", "--user", "nobody") == (0, "", "")
    assert saefari("audit", "--since", "2999-01-01")[1] == ""
    for odd in ("soon", "7", "99999y", "2026-13-01", "²d"):
        assert saefari("audit", "--since", odd)[0] == 1
