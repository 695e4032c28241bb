"""Who may write: people, their tokens, and the sessions that tokens are exchanged for.

Secrets are made here, shown once, and kept as SHA-256 only: they are 256 random bits, which no guessing
finds, so that a slow hash would add nothing.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from app.authored.models import SignIn, Token, User
from app.authored.store import Actor, NotThere, Role, Store, Writing, add_user
from app.authored.texts import BadText, number, user_name

SECRET_BYTES = 32
TOKEN_PREFIX = "saefari_"  # so that scanners of leaked secrets know one  # noqa: S105
HINT_LETTERS = len(TOKEN_PREFIX) + 4
SESSION_LIFE = timedelta(days=14)
LONGEST_LIFE = timedelta(days=3_650)


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

    def state(self, now: datetime) -> str:
        """valid, expired or revoked."""
        return "revoked" if self.revoked else "expired" if self.expires <= now else "valid"


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
    return [_handed_out(row) for row in session.scalars(sa.select(Token).order_by(Token.id.desc()))]


# --- knowing somebody again ---------------------------------------------------------------------------


def find_by_token(session: Session, secret: str, now: datetime) -> Actor | None:
    """Who holds this token; None if it is unknown, expired or revoked."""
    found = session.execute(_valid_tokens(now).where(Token.digest == digest_of(secret))).one_or_none()
    return _actor(found[0], found[1], f"token {found[0].id}") if found else None


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
    return Actor(name, Role.of(user.role) if user else Role.READER, "proxy")


def sign_in(store: Store, secret: str) -> tuple[Actor, str]:
    """Exchange a token for a session; its secret is for a cookie. `NotThere` if the token is not valid."""
    with store.read() as session:
        actor = find_by_token(session, secret, store.now())
    if actor is None:
        raise NotThere("This token is unknown, expired or revoked.", remedy="Ask an admin for another one.")
    with store.write(actor, Role.READER) as writing:
        token = writing.session.scalars(
            sa.select(Token).where(Token.digest == digest_of(secret)).with_for_update()
        ).one()
        if token.revoked is not None:  # since we looked
            raise NotThere("This token was just revoked.", remedy="Ask an admin for another one.")
        cookie = secrets.token_urlsafe(SECRET_BYTES)
        expires = min(writing.now + SESSION_LIFE, token.expires)
        row = SignIn(
            token=token.id, digest=digest_of(cookie), created=writing.now, expires=expires, revoked=None
        )
        writing.session.add(row)
        writing.flush()
        writing.record("sign in", f"session {row.id}", None, {"token": token.id, "expires": expires})
        signed_in = Actor(actor.name, actor.role, f"session {row.id}")
    return signed_in, cookie


def sign_out(store: Store, actor: Actor, secret: str) -> None:
    """End a session; one that has ended already, or is not known, is no error."""
    with store.write(actor, Role.READER) as writing:
        row = writing.session.scalars(
            sa.select(SignIn).where(SignIn.digest == digest_of(secret)).with_for_update()
        ).one_or_none()
        if row is not None and row.revoked is None:
            row.revoked = writing.now
            writing.record("sign out", f"session {row.id}", {"revoked": None}, {"revoked": writing.now})


def digest_of(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", errors="replace")).hexdigest()


def _valid_tokens(now: datetime) -> sa.Select[Token, User]:
    chosen = sa.select(Token, User).join(User, User.name == Token.user)
    return chosen.where(Token.revoked.is_(None), Token.expires > now)


def _actor(token: Token, user: User, via: str) -> Actor:
    return Actor(user.name, min(Role.of(user.role), Role.of(token.scope)), via)


def _handed_out(row: Token) -> HandedOut:
    return HandedOut(row.id, row.user, Role.of(row.scope), row.hint, row.created, row.expires, row.revoked)
