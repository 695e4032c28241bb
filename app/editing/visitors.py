"""Who asks: somebody with a session, or nobody in particular; and whether a request is from our own pages.

Plain ASGI, as all middleware here. Nobody in particular costs no look into the database.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING
from urllib.parse import quote

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders

from app import urls
from app.authored import access
from app.authored.engines import DatabaseError
from app.authored.store import Actor, NotAllowed, Role, Store
from app.deps import get_library, origin
from app.middleware import error_response
from app.views.common import ErrorView
from app.views.editing import VISITOR, Visitor
from sae_core.errors import BusyError, SaefariError

if TYPE_CHECKING:
    from fastapi.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger("saefari")

ACTOR, _PROBLEM = "saefari.actor", "saefari.problem"  # in the scope of a request
SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
PRIVATE = "private, no-store"
MAX_BACK = 2_000  # of an address to come back to, which stands in every page


class NotSignedIn(NotAllowed):
    """Somebody may not do this before they say who they are."""


class Visitors:
    """Refuses what other sites make a browser send, knows sessions, and lets no cache keep their answers."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith("/static/"):
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        if request.method not in SAFE and not _is_from_here(request):
            await error_response(request, _foreign(request))(scope, receive, send)
            return
        has_cookie = bool(request.cookies.get(cookie_name(request)))
        actor = await run_in_threadpool(_find_actor, request) if has_cookie else None
        if actor is not None:  # they see what they have just stored, whichever process took it
            await run_in_threadpool(request.app.state.naming.renew)
        scope[ACTOR], scope[VISITOR] = actor, _visitor(request, actor)
        if has_cookie:  # an answer for everybody that is kept is none for them
            scope["headers"] = [pair for pair in scope["headers"] if pair[0] != b"if-none-match"]
        await self.app(scope, receive, _marked(send, is_private=has_cookie))


def _marked(send: Send, *, is_private: bool) -> Send:
    async def send_marked(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers.add_vary_header("Cookie")
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
    """Whose session this is. Where the database cannot be asked, pages go on, for nobody in particular."""
    store = get_store(request)
    try:
        with store.read() as session:
            return access.find_by_session(session, request.cookies[cookie_name(request)], store.now())
    except (DatabaseError, BusyError) as error:
        log.error("A session could not be looked up: %s", error)  # noqa: TRY400 (a sentence)
        request.scope[_PROBLEM] = error
        return None


def _visitor(request: Request, actor: Actor | None) -> Visitor:
    if actor is None:
        return Visitor("", Role.READER.word, may_write=False, has_session=False, here=_here(request))
    may_write = actor.role >= Role.EDITOR
    linkable = _linkable(request) if may_write else ""
    return Visitor(
        actor.name, actor.role.word, may_write, has_session=True, here=_here(request), linkable=linkable
    )


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
    """Who has signed in."""
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
