"""Signing in with a token, and out."""

from __future__ import annotations

from dataclasses import replace

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse, Response

from app import urls
from app.authored import access
from app.authored.links import checked_target
from app.authored.store import NotThere, Role
from app.authored.texts import BadText
from app.editing.forms import Form, read_form
from app.editing.visitors import cookie_name, find_actor, get_store, give_cookie, take_cookie
from app.observing import named
from app.pages import page
from app.query import Parameters
from app.views.editing import SignInView

router = APIRouter()

MAX_NEXT = 4_000


async def sign_in_page(request: Request) -> Response:
    asked = Parameters(request.scope["query_string"]).text("next", MAX_NEXT)
    return await run_in_threadpool(_page, request, _back(asked))


def _page(request: Request, back: str, problem: str = "", remedy: str = "", status: int = 200) -> Response:
    view, actor = SignInView(back, problem, remedy), find_actor(request)
    if actor is not None:
        store = get_store(request)
        with store.read() as session:
            sessions = access.list_sessions(session, store.now(), actor.name)
        view = replace(view, name=actor.name, role=actor.role.word, sessions=sessions)
    return page(request, "sign_in", view, status=status)


async def sign_in(request: Request) -> Response:
    return await run_in_threadpool(_sign_in, request, await read_form(request))


def _sign_in(request: Request, form: Form) -> Response:
    back, actor = _back(form["next"]), find_actor(request)
    if actor is not None and actor.via == access.BY_PROXY:
        problem = f"You are {actor.name} already: the proxy in front says so."
        return _page(request, back, problem, "Sign out there.", 403)
    try:
        _, secret = access.sign_in(get_store(request), form["token"].strip())
    except NotThere as error:
        return _page(request, back, error.what, error.remedy, 403)
    response = RedirectResponse(back, 303)
    give_cookie(request, response, secret)
    return response


async def sign_out(request: Request) -> Response:
    return await run_in_threadpool(_sign_out, request, await read_form(request))


def _sign_out(request: Request, form: Form) -> Response:
    response = RedirectResponse(_back(form["next"]), 303)
    actor, secret = find_actor(request), request.cookies.get(cookie_name(request))
    if actor is not None and form["everywhere"]:
        with get_store(request).write(actor, Role.READER) as writing:
            access.end_sessions(writing, actor.name)
    elif actor is not None and secret:
        access.sign_out(get_store(request), actor, secret)
    take_cookie(request, response)
    return response


def _back(asked: str) -> str:
    """Where to go then: a page of ours."""
    try:
        return checked_target(asked)
    except BadText:
        return urls.home()


for path, route, methods in (
    (urls.sign_in(), sign_in_page, ["GET", "HEAD"]),
    (urls.sign_in(), sign_in, ["POST"]),
    (urls.sign_out(), sign_out, ["POST"]),
):
    router.add_route(path, named(path, route), methods=methods)
