"""Forms that store something. What cannot be stored comes back with all that was written in it.

A form is sent to its path, stored in one transaction, and answered with the page that shows it (303). Where
that fails (somebody else was quicker, a session has ended, a text is too long, the database is busy) the
answer is the same form, filled in as it was, so that nothing that somebody wrote is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse, Response

from app.authored.engines import DatabaseError
from app.authored.store import Conflict, NotAllowed, NotThere, Writing
from app.authored.texts import BadText
from app.editing.forms import BadForm, Form, read_form
from app.editing.subjects import page_of
from app.editing.visitors import NotSignedIn, get_actor, get_store
from app.middleware import SECONDS_UNTIL_RETRY
from app.observing import named
from app.pages import page
from app.query import BadParameter
from app.views.editing import FieldView, UnstoredView
from sae_core.errors import BusyError, NotFoundError, SaefariError
from sae_core.lenses import BadLens

LINE, TEXT, CHOICE = "line", "text", "choice"
VISIBILITIES = (
    ("public", "public: in lists, for everybody"),
    ("unlisted", "unlisted: for whoever has its address"),
    ("private", "private: for me and admins"),
)
REASONS: tuple[tuple[type[SaefariError], int, str], ...] = (
    (Conflict, 409, "Somebody else was quicker"),
    (NotSignedIn, 403, "Sign in to store this"),
    (NotAllowed, 403, "This is not yours to change"),
    (NotThere, 404, "There is nothing here"),
    (NotFoundError, 404, "There is nothing here"),
    (BadText, 400, "This cannot be stored as it is"),
    (BadParameter, 400, "This cannot be stored as it is"),
    (BadForm, 400, "This cannot be stored as it is"),
    (BadLens, 400, "This cannot be stored as it is"),
    (BusyError, 503, "This could not be stored now"),
    (DatabaseError, 503, "This could not be stored now"),
)


@dataclass(frozen=True)
class Field:
    """What a person fills in."""

    name: str
    label: str
    kind: str
    choices: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Act:
    """A form that stores something; fields that are not named are passed on as they are.

    `do` stores it and says which page shows it. Of a `Conflict`, `theirs` makes fields of what was found
    there, with the revision to be stored over, and `mine` of what was to be stored. `back` is the page to go
    on with where nothing is stored.
    """

    path: str
    button: str
    fields: tuple[Field, ...]
    do: Callable[[Request, Writing, Form], str]
    theirs: Callable[[Any], Mapping[str, str]] = lambda _: {}
    mine: Callable[[Any], Mapping[str, str]] = lambda _: {}
    back: Callable[[Form], str] = page_of


def add_act(router: APIRouter, act: Act) -> None:
    async def endpoint(request: Request) -> Response:
        return await run_in_threadpool(_perform, act, request, await read_form(request))

    router.add_route(act.path, named(act.path, endpoint), methods=["POST"])


def _perform(act: Act, request: Request, form: Form) -> Response:
    kinds = tuple(kind for kind, _, _ in REASONS)
    try:
        with get_store(request).write(get_actor(request)) as writing:
            url = act.do(request, writing, form)
        request.app.state.naming.renew()  # for those who have not signed in
    except kinds as error:
        view = _unstored(act, form, error)
        headers = {"Retry-After": SECONDS_UNTIL_RETRY} if view.status == 503 else {}  # noqa: PLR2004
        return page(request, "unstored", view, status=view.status, headers=headers)
    return RedirectResponse(url, 303)


def _unstored(act: Act, form: Form, error: SaefariError) -> UnstoredView:
    status, title = next((status, title) for kind, status, title in REASONS if isinstance(error, kind))
    theirs: Mapping[str, str] = {}
    if isinstance(error, Conflict):
        form, theirs = form.but(act.mine(error.mine)), act.theirs(error.theirs)
    names = {field.name for field in act.fields}
    hidden = {**form, **{name: text for name, text in theirs.items() if name not in names}}
    is_hidden = isinstance(error, DatabaseError)  # which says where the database is
    return UnstoredView(
        status=status,
        title=title,
        message="The database of what people write does not answer." if is_hidden else error.what,
        remedy="Try again later." if is_hidden else error.remedy,
        action=act.path,
        hidden=[(name, text) for name, text in hidden.items() if name not in names],
        fields=[
            FieldView(
                each.name, each.label, each.kind, form[each.name], list(each.choices), theirs.get(each.name)
            )
            for each in act.fields
            if each.name in form or each.name in theirs
        ],
        button=act.button,
        back_url=act.back(form),
        needs_sign_in=isinstance(error, NotSignedIn),
    )
