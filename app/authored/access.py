"""Who may write: people, their tokens, and the sessions that tokens are exchanged for.

Secrets are made here, shown once, and kept as SHA-256 only: they are 256 random bits, which no guessing
finds, so that a slow hash would add nothing.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from app.authored.models import Audit, SignIn, Token, User
from app.authored.store import Actor, NotThere, Role, Store, Writing, add_user
from app.authored.texts import BadText, number, user_name

SECRET_BYTES = 32
BY_PROXY = "proxy"
TOKEN_PREFIX = "saefari_"  # so that scanners of leaked secrets know one  # noqa: S105
HINT_LETTERS = len(TOKEN_PREFIX) + 4
SESSION_LIFE = timedelta(days=14)
LONGEST_LIFE = timedelta(days=3_650)
MAX_SWEPT = 100  # ended sessions that go when another begins
SIGN_IN, SIGN_OUT = "sign in", "sign out"  # in the audit table


@dataclass(frozen=True)
class HandedOut:
    """A token as lists show it; its secret is not known any more."""

    id: int
    user: str
    scope: Role
    hint: str
    created: datetime
    expires: datetime
    revoked: datetime | None
    used: datetime | None = None  # exchanged for a session, the last time

    def state(self, now: datetime) -> str:
        """valid, expired or revoked."""
        return "revoked" if self.revoked else "expired" if self.expires <= now else "valid"


@dataclass(frozen=True)
class Person:
    """Somebody who is known, and what they may do at most."""

    name: str
    role: Role
    created: datetime


@dataclass(frozen=True)
class OpenSession:
    """A session that goes on."""

    id: int
    user: str
    token: int
    created: datetime
    expires: datetime


def list_people(session: Session) -> list[Person]:
    """All who are known, by name."""
    rows = session.scalars(sa.select(User).order_by(User.name))
    return [Person(row.name, Role.of(row.role), row.created) for row in rows]


def set_role(writing: Writing, name: str, role: Role) -> None:
    """Say what somebody may do at most; they are made known if they are not."""
    name = user_name(name)
    add_user(writing.session, name, writing.now)
    user = writing.session.get_one(User, name, with_for_update=True)
    if user.role != role.word:
        before, user.role = user.role, role.word
        writing.record("role", f"user {name}", {"role": before}, {"role": role.word})
        writing.flush()


def create_token(writing: Writing, name: str, scope: Role, life: timedelta) -> tuple[HandedOut, str]:
    """A new token, and its secret, seen only now. The person's role grows to the scope."""
    if not timedelta(0) < life <= LONGEST_LIFE:
        raise BadText(f"A token cannot live for {life}.", remedy="Choose from a minute to ten years.")
    name = user_name(name)
    add_user(writing.session, name, writing.now)
    user = writing.session.get_one(User, name, with_for_update=True)
    if Role.of(user.role) < scope:
        set_role(writing, name, scope)
    secret = TOKEN_PREFIX + secrets.token_urlsafe(SECRET_BYTES)
    row = Token(
        user=name, scope=scope.word, digest=digest_of(secret), hint=secret[:HINT_LETTERS],
        created=writing.now, expires=writing.now + life, revoked=None,
    )  # fmt: skip
    writing.session.add(row)
    writing.flush()
    writing.record(
        "token", f"token {row.id}", None, {"user": name, "scope": scope.word, "expires": row.expires}
    )
    return _handed_out(row), secret


def revoke_token(writing: Writing, token: int) -> HandedOut:
    """End a token and every session that it was exchanged for."""
    row = writing.session.get(Token, number("The token", token), with_for_update=True)
    if row is None:
        raise NotThere(f"There is no token {token}.", remedy="`saefari token list` shows those that are.")
    if row.revoked is None:
        row.revoked = writing.now
        writing.record("token", f"token {token}", {"revoked": None}, {"revoked": writing.now})
        writing.flush()
    return _handed_out(row)


def list_tokens(session: Session) -> list[HandedOut]:
    """All that were handed out, latest first."""
    uses = sa.select(Audit.via, sa.func.max(Audit.at)).where(Audit.action == SIGN_IN).group_by(Audit.via)
    used = {row[0]: row[1] for row in session.execute(uses)}
    rows = session.scalars(sa.select(Token).order_by(Token.id.desc()))
    return [replace(_handed_out(row), used=used.get(_via(row))) for row in rows]


# --- knowing somebody again ---------------------------------------------------------------------------


def find_by_token(session: Session, secret: str, now: datetime) -> Actor | None:
    """Who holds this token; None if it is unknown, expired or revoked."""
    found = session.execute(_valid_tokens(now).where(Token.digest == digest_of(secret))).one_or_none()
    return _actor(found[0], found[1], _via(found[0])) if found else None


def find_by_session(session: Session, secret: str, now: datetime) -> Actor | None:
    """Whose session this is; None if it ended, or the token that it came from."""
    chosen = (
        _valid_tokens(now)
        .add_columns(SignIn.id)
        .join(SignIn, SignIn.token == Token.id)
        .where(SignIn.digest == digest_of(secret), SignIn.revoked.is_(None), SignIn.expires > now)
    )
    found = session.execute(chosen).one_or_none()
    return _actor(found[0], found[1], f"session {found[2]}") if found else None


def find_by_name(session: Session, name: str) -> Actor:
    """Somebody whom a proxy in front has named; a reader if they are not known."""
    user = session.get(User, name := user_name(name))
    return Actor(name, Role.of(user.role) if user else Role.READER, BY_PROXY)


def sign_in(store: Store, secret: str) -> tuple[Actor, str]:
    """Exchange a token for a session; its secret is for a cookie. `NotThere` if the token is not valid."""
    with store.read() as session:
        actor = find_by_token(session, secret, store.now())
    if actor is None:
        raise _no_token()
    with store.write(actor, Role.READER) as writing:
        token = writing.session.scalars(
            sa.select(Token).where(Token.digest == digest_of(secret)).with_for_update()
        ).one()
        if token.revoked is not None:  # since we looked
            raise _no_token()
        cookie = secrets.token_urlsafe(SECRET_BYTES)
        expires = min(writing.now + SESSION_LIFE, token.expires)
        row = SignIn(
            token=token.id, digest=digest_of(cookie), created=writing.now, expires=expires, revoked=None
        )
        writing.session.add(row)
        writing.flush()
        writing.record(SIGN_IN, f"session {row.id}", None, {"token": token.id, "expires": expires})
        _sweep(writing, row)
        signed_in = Actor(actor.name, actor.role, f"session {row.id}")
    return signed_in, cookie


def _no_token() -> NotThere:
    """The same for all that are none, so that nobody learns which was one."""
    return NotThere("This token is unknown, expired or revoked.", remedy="Ask an admin for another one.")


def _sweep(writing: Writing, latest: SignIn) -> None:
    """Remove some sessions that have ended. The latest stays: its number must not be given twice."""
    has_ended = SignIn.revoked.is_not(None) | (SignIn.expires <= writing.now)
    ended = sa.select(SignIn.id).where(has_ended, SignIn.id < latest.id).limit(MAX_SWEPT)
    writing.session.execute(sa.delete(SignIn).where(SignIn.id.in_(ended)))


def sign_out(store: Store, actor: Actor, secret: str) -> None:
    """End a session; one that has ended already, or is not known, is no error."""
    with store.write(actor, Role.READER) as writing:
        _end(writing, SignIn.digest == digest_of(secret))


def end_session(writing: Writing, number_: int) -> None:
    """End a session of anybody; `NotThere` if it does not go on."""
    if not _end(writing, SignIn.id == number("The session", number_)):
        what = f"There is no session {number_}, or it has ended."
        raise NotThere(what, remedy="`saefari session list` shows those that go on.")


def end_sessions(writing: Writing, name: str) -> int:
    """End all sessions of a person; how many these were."""
    return _end(writing, SignIn.token.in_(sa.select(Token.id).where(Token.user == user_name(name))))


def _end(writing: Writing, which: sa.ColumnElement[bool]) -> int:
    goes_on = (SignIn.revoked.is_(None), SignIn.expires > writing.now)
    rows = writing.session.scalars(sa.select(SignIn).where(which, *goes_on).with_for_update()).all()
    for row in rows:
        row.revoked = writing.now
        writing.record(SIGN_OUT, f"session {row.id}", {"revoked": None}, {"revoked": writing.now})
    return len(rows)


def list_sessions(session: Session, now: datetime, name: str = "") -> list[OpenSession]:
    """Those that go on, latest first; of everybody, or of one person."""
    chosen = (
        _valid_tokens(now)
        .add_columns(SignIn)
        .join(SignIn, SignIn.token == Token.id)
        .where(SignIn.revoked.is_(None), SignIn.expires > now)
        .order_by(SignIn.id.desc())
    )
    if name:
        chosen = chosen.where(Token.user == user_name(name))
    return [
        OpenSession(row.id, token.user, token.id, row.created, row.expires)
        for token, _, row in session.execute(chosen)
    ]


def _via(token: Token) -> str:
    return f"token {token.id}"


def digest_of(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", errors="replace")).hexdigest()


def _valid_tokens(now: datetime) -> sa.Select[Token, User]:
    chosen = sa.select(Token, User).join(User, User.name == Token.user)
    return chosen.where(Token.revoked.is_(None), Token.expires > now)


def _actor(token: Token, user: User, via: str) -> Actor:
    return Actor(user.name, min(Role.of(user.role), Role.of(token.scope)), via)


def _handed_out(row: Token) -> HandedOut:
    return HandedOut(row.id, row.user, Role.of(row.scope), row.hint, row.created, row.expires, row.revoked)
