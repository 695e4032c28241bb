"""Tokens and sessions: only their checksums are kept, and they end when they should."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from app.authored import access, audit
from app.authored.audit import read_audit
from app.authored.models import Base, SignIn
from app.authored.store import Actor, NotAllowed, NotThere, Role, Store
from app.authored.texts import BadText
from tests.authored.people import ANN, ROOT

DAY = timedelta(days=1)


class Clock:
    """Stands where it is set."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 23, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def timed(open_store: Callable[..., Store], clock: Clock) -> Store:
    return open_store(now=clock)


def create(
    store: Store, name: str = "Ann@X.org", scope: Role = Role.EDITOR, life: timedelta = 90 * DAY
) -> tuple[int, str]:
    with store.write(ROOT) as writing:
        made, secret = access.create_token(writing, name, scope, life)
    return made.id, secret


def holder(store: Store, secret: str) -> Actor | None:
    with store.read() as session:
        return access.find_by_token(session, secret, store.now())


def visitor(store: Store, cookie: str) -> Actor | None:
    with store.read() as session:
        return access.find_by_session(session, cookie, store.now())


def test_a_token_is_known_again_until_it_expires(timed: Store, clock: Clock) -> None:
    at, secret = create(timed)
    assert holder(timed, secret) == Actor("ann@x.org", Role.EDITOR, f"token {at}")
    assert holder(timed, secret + "x") is None
    assert holder(timed, "") is None
    clock.now += 90 * DAY - timedelta(seconds=1)
    assert holder(timed, secret)
    clock.now += timedelta(seconds=1)
    assert holder(timed, secret) is None


def test_no_secret_is_anywhere_in_the_database(timed: Store) -> None:
    _, secret = create(timed)
    _, cookie = access.sign_in(timed, secret)
    everything = []
    with timed.read() as session:
        for table in Base.metadata.sorted_tables:
            everything += [str(value) for row in session.execute(sa.select(table)) for value in row]
    assert len(everything) > 30
    for hidden in (secret, cookie, secret[20:], cookie[10:]):
        assert not any(hidden in value for value in everything)


def test_a_session_ends_with_its_time_its_token_or_its_owners_word(timed: Store, clock: Clock) -> None:
    token, secret = create(timed)
    actor, cookie = access.sign_in(timed, secret)
    assert visitor(timed, cookie) == actor
    assert visitor(timed, secret) is None  # a token is no cookie
    _, other = access.sign_in(timed, secret)
    access.sign_out(timed, actor, cookie)
    access.sign_out(timed, actor, cookie)  # twice is no error
    assert (visitor(timed, cookie), visitor(timed, other) is not None) == (None, True)
    clock.now += access.SESSION_LIFE
    assert visitor(timed, other) is None
    _, third = access.sign_in(timed, secret)
    with timed.write(ROOT) as writing:
        assert access.revoke_token(writing, token).revoked == clock.now
    assert visitor(timed, third) is None
    with pytest.raises(NotThere, match="unknown, expired or revoked"):
        access.sign_in(timed, secret)


def test_a_session_does_not_outlive_its_token(timed: Store, clock: Clock) -> None:
    _, secret = create(timed, life=DAY)
    _, cookie = access.sign_in(timed, secret)
    clock.now += DAY
    assert visitor(timed, cookie) is None


def test_nobody_may_more_than_their_token_and_their_role(timed: Store) -> None:
    _, secret = create(timed, "ann", Role.ADMIN)
    _, narrow = create(timed, "ann", Role.READER)
    actor = holder(timed, narrow)
    assert actor is not None
    assert actor.role is Role.READER
    with pytest.raises(NotAllowed), timed.write(actor):
        pass
    with timed.write(ROOT) as writing:
        access.set_role(writing, "ann", Role.EDITOR)
    lowered = holder(timed, secret)
    assert lowered is not None
    assert lowered.role is Role.EDITOR


def test_whom_a_proxy_names_is_a_reader_until_somebody_says_more(timed: Store) -> None:
    def role(name: str) -> Role:
        with timed.read() as session:
            return access.find_by_name(session, name).role

    assert role("new@x.org") is Role.READER
    with timed.write(ROOT) as writing:
        access.set_role(writing, "New@X.org", Role.EDITOR)
    assert role("NEW@x.org") is Role.EDITOR


def test_editors_make_no_tokens(timed: Store) -> None:
    with pytest.raises(NotAllowed), timed.write(ANN, Role.ADMIN):
        pass


def test_tokens_are_listed_with_their_state(timed: Store, clock: Clock) -> None:
    first, _ = create(timed, "ann", life=DAY)
    second, _ = create(timed, "ben")
    with timed.write(ROOT) as writing:
        access.revoke_token(writing, second)
    third, _ = create(timed, "cy", Role.ADMIN)
    clock.now += DAY
    with timed.read() as session:
        found = access.list_tokens(session)
    assert [(each.id, each.state(clock.now)) for each in found] == [
        (third, "valid"),
        (second, "revoked"),
        (first, "expired"),
    ]


def test_lives_that_no_token_has(timed: Store) -> None:
    for life in (timedelta(0), -DAY, timedelta(days=4_000)):
        with pytest.raises(BadText):
            create(timed, life=life)


def test_names_that_nobody_has(timed: Store) -> None:
    for name in ("", " ", "\0", "-ann", "a/b", "<script>", "x" * 81, "\u0430nn", "ann\n:admin"):
        with pytest.raises(BadText):
            create(timed, name)


def test_numbers_that_no_token_has(timed: Store) -> None:
    for number in (-1, 2**63, 10**20):
        with pytest.raises(BadText), timed.write(ROOT) as writing:
            access.revoke_token(writing, number)


def test_a_role_that_is_lowered_holds_at_once_in_open_sessions(timed: Store) -> None:
    _, secret = create(timed, "ann")
    _, cookie = access.sign_in(timed, secret)
    roles = []
    for role in (Role.READER, Role.ADMIN):
        with timed.write(ROOT) as writing:
            access.set_role(writing, "ann", role)
        actor = visitor(timed, cookie)
        roles.append(actor.role if actor else None)
    assert roles == [Role.READER, Role.EDITOR]  # never beyond the token


def test_sessions_that_ended_are_removed_and_no_number_is_given_twice(timed: Store, clock: Clock) -> None:
    def numbers() -> list[int]:
        with timed.read() as session:
            return list(session.scalars(sa.select(SignIn.id).order_by(SignIn.id)))

    _, secret = create(timed)
    actor, cookie = access.sign_in(timed, secret)
    [first] = numbers()
    access.sign_out(timed, actor, cookie)
    access.sign_in(timed, secret)
    assert numbers() == [first + 1]
    clock.now += access.SESSION_LIFE
    access.sign_in(timed, secret)
    access.sign_in(timed, secret)
    assert numbers() == [first + 2, first + 3]
    with timed.write(ROOT) as writing:
        assert access.end_sessions(writing, "Ann@X.org") == 2
        assert access.end_sessions(writing, "ann@x.org") == 0
    with timed.read() as session:
        ends = read_audit(session, action="sign out")
        assert access.list_sessions(session, clock.now) == []
    assert [each.thing for each in ends] == [f"session {first + n}" for n in (3, 2, 0)]
    assert ends[0].actor == "root"


def test_the_whole_audit_is_walked_in_pieces(timed: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "MAX_READ", 2)
    tokens = [create(timed, name)[0] for name in ("ann", "ben", "cy")]
    ids = [record.id for record in audit.walk_audit(timed)]
    assert len(ids) == 6
    assert ids == sorted(ids, reverse=True)
    found = [record.thing for record in audit.walk_audit(timed, action="token")]
    assert found == [f"token {n}" for n in reversed(tokens)]
