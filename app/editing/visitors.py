"""Who asks: somebody with a session, whom a proxy names, or nobody in particular; and from which pages.

Plain ASGI, as all middleware here. Nobody in particular costs no look into the database.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING
from urllib.parse import quote

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders

from app import urls
from app.authored import access
from app.authored.engines import DatabaseError
from app.authored.store import Actor, NotAllowed, Role, Store
from app.authored.texts import BadText, user_name
from app.deps import get_library, origin
from app.middleware import error_response
from app.views.common import ErrorView
from app.views.editing import VISITOR, Visitor
from sae_core.errors import BusyError, SaefariError

if TYPE_CHECKING:
    from fastapi.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger("saefari")

ACTOR, _PROBLEM, _NAMED = "saefari.actor", "saefari.problem", "saefari.named"  # in the scope of a request
SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
PRIVATE = "private, no-store"
MAX_BACK = 2_000  # of an address to come back to, which stands in every page


class NotSignedIn(NotAllowed):
    """Somebody may not do this before they say who they are."""


class NamedByProxy:
    """Notes whom a proxy of ours names; must stand around what puts the visitor's address in its place."""

    def __init__(self, app: ASGIApp, *, header: str, proxies: Sequence[str]) -> None:
        self.app = app
        self.header = header.lower().encode("ascii")
        self.networks = [ip_network(each) for each in proxies]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._is_ours(scope.get("client")):
            scope[_NAMED] = [value for name, value in scope["headers"] if name == self.header]
        await self.app(scope, receive, send)

    def _is_ours(self, peer: tuple[str, int] | None) -> bool:
        try:
            address = ip_address(peer[0] if peer else "")
        except ValueError:
            return False
        return any(address in network for network in self.networks)


class Visitors:
    """Refuses what other sites make a browser send, knows people, and lets no cache keep their answers."""

    def __init__(self, app: ASGIApp, *, user_header: str = "") -> None:
        self.app = app
        self.vary = ", ".join(filter(None, ("Cookie", user_header)))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith("/static/"):
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        if request.method not in SAFE and not _is_from_here(request):
            await error_response(request, _foreign(request))(scope, receive, send)
            return
        is_somebody = any(scope.get(_NAMED, ())) or bool(request.cookies.get(cookie_name(request)))
        actor = await run_in_threadpool(_find_actor, request) if is_somebody else None
        if actor is not None:  # they see what they have just stored, whichever process took it
            await run_in_threadpool(request.app.state.naming.renew)
        scope[ACTOR], scope[VISITOR] = actor, _visitor(request, actor)
        if is_somebody:  # an answer for everybody that is kept is none for them
            scope["headers"] = [pair for pair in scope["headers"] if pair[0] != b"if-none-match"]
        await self.app(scope, receive, self._marked(send, is_private=is_somebody))

    def _marked(self, send: Send, *, is_private: bool) -> Send:
        async def send_marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.add_vary_header(self.vary)
                if is_private:
                    del headers["ETag"]
                    headers["Cache-Control"] = PRIVATE
            await send(message)

        return send_marked


def _is_from_here(request: Request) -> bool:
    """Whether our own pages send this. Browsers say so, all by `Origin`, newer ones by `Sec-Fetch-Site`."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    own = {origin(request).lower(), str(request.base_url).rstrip("/").lower()}
    return request.headers.get("origin", "").lower() in own


def _foreign(request: Request) -> ErrorView:
    return ErrorView(
        status=403,
        title="This was not sent from here",
        message="What changes something is taken from pages of this server only, and nothing was changed.",
        remedy=f"Open the page here and send it again. A program says `Origin: {origin(request)}`.",
        home_url=urls.home(),
        suggestions=[],
    )


def _find_actor(request: Request) -> Actor | None:
    """Whom a proxy names, else whose session this is.

    Where the database cannot be asked, or a name is none, pages go on, for nobody in particular.
    """
    store = get_store(request)
    try:
        name = _named(request.scope.get(_NAMED, []))
        with store.read() as session:
            if name:
                return access.find_by_name(session, name)
            secret = request.cookies.get(cookie_name(request), "")
            return access.find_by_session(session, secret, store.now())
    except (DatabaseError, BusyError, BadText) as error:
        log.error("Who asks could not be found out: %s", error)  # noqa: TRY400 (a sentence)
        request.scope[_PROBLEM] = error
        return None


def _named(values: list[bytes]) -> str:
    """The name that a proxy gives, as it is stored; "" for none. `BadText` for two, and for what is no name.

    What differs only by capitals is the same. Nothing else is mended here: two users of the proxy would be
    one to us.
    """
    if len(values) > 1:
        what = "The proxy in front names more than one user."
        raise BadText(what, remedy="Let it replace what visitors send in that header.")
    name = b"".join(values).strip(b" \t").lower().decode("ascii", errors="replace")
    with suppress(BadText):
        if not name or user_name(name) == name:
            return name
    raise BadText(f"The proxy in front names {name!r:.60}.", remedy="That cannot be the name of a user.")


def _visitor(request: Request, actor: Actor | None) -> Visitor:
    if actor is None:
        return Visitor("", Role.READER.word, may_write=False, has_session=False, here=_here(request))
    may_write, has_session = actor.role >= Role.EDITOR, actor.via != access.BY_PROXY
    linkable = _linkable(request) if may_write else ""
    return Visitor(actor.name, actor.role.word, may_write, has_session, _here(request), linkable)


def _linkable(request: Request) -> str:
    """The whole address of a page of a collection; "" for any other."""
    name = request.scope["path"].split("/")[1]
    is_page = request.method in SAFE and name in get_library(request).collections
    return _asked(request)[1] if is_page else ""


def _asked(request: Request) -> tuple[str, str]:
    """The path that is asked for, and the whole address."""
    path = quote(request.scope["path"], safe="/:@!$&'()*+,;=~")
    return path, f"{path}?{request.scope['query_string'].decode('latin-1')}".removesuffix("?")


def _here(request: Request) -> str:
    """The address of a page, as it was asked for; without its parameters where these are long."""
    path, whole = _asked(request)
    is_page = request.method in SAFE and path not in (urls.sign_in(), urls.sign_out())
    return next((each for each in (whole, path) if is_page and len(each) <= MAX_BACK), urls.home())


# --- what routes ask for ------------------------------------------------------------------------------


def get_store(request: Request) -> Store:
    store: Store = request.app.state.store
    return store


def find_actor(request: Request) -> Actor | None:
    """Who has signed in, or whom a proxy names."""
    actor: Actor | None = request.scope.get(ACTOR)
    return actor


def get_actor(request: Request) -> Actor:
    """Who has signed in; `NotSignedIn` for somebody who has not."""
    problem: SaefariError | None = request.scope.get(_PROBLEM)
    if problem is not None:
        raise problem
    if (actor := find_actor(request)) is None:
        raise NotSignedIn("You have not signed in, or your session has ended.", remedy="Sign in.")
    return actor


# --- cookies ------------------------------------------------------------------------------------------


def _is_secure(request: Request) -> bool:
    return origin(request).startswith("https:")


def cookie_name(request: Request) -> str:
    """`__Host-` where the connection is encrypted: no other host, and no plain page, can set that."""
    return "__Host-saefari" if _is_secure(request) else "saefari"


def give_cookie(request: Request, response: Response, secret: str) -> None:
    response.set_cookie(
        cookie_name(request),
        secret,
        max_age=int(access.SESSION_LIFE.total_seconds()),
        secure=_is_secure(request),
        httponly=True,
        samesite="lax",
    )


def take_cookie(request: Request, response: Response) -> None:
    name = cookie_name(request)
    response.delete_cookie(name, secure=_is_secure(request), httponly=True, samesite="lax")
