"""Stored lenses: the moves of a search under a name, listed, changed, and put on other searches.

The address of a search stays the whole of its state: a stored lens that is put on is copied into it.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import unquote, urlsplit

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response

from app import urls
from app.authored import lenses
from app.authored.carrying import direction_of
from app.authored.engines import DatabaseError
from app.authored.lenses import StoredLens
from app.authored.store import Conflict, NotThere, Role, Writing
from app.authored.texts import BadText
from app.caching import NOT_KEPT
from app.deps import ServedCollection, ServedSAE, add_page, get_collection, get_library
from app.described import About
from app.editing.acts import CHOICE, LINE, TEXT, VISIBILITIES, Act, Field, add_act
from app.editing.forms import Form
from app.editing.visitors import find_actor, get_store
from app.lenses import added, made, printed, said, sayable
from app.observing import named
from app.pages import page
from app.query import MAX_LENSES, Parameters, SearchQuery
from app.views.common import Option
from app.views.editing import LensChoice, LensesView, LensMoveView, StoredLenses, StoredLensView
from sae_core.errors import BusyError
from sae_core.lenses import BadLens, Lens, LensMove, parse

log = logging.getLogger("saefari")
router = APIRouter()

N_OFFERED = 12  # in the panel of a search
_UNSAFE = re.compile(r"[^A-Za-z0-9.-]+")


def lenses_page(request: Request) -> Response:
    """The lenses of a collection that are public, or somebody's own."""
    collection = get_collection(request)
    with get_store(request).read() as session:
        found = lenses.find_lenses(session, collection.name, find_actor(request))
    url = urls.lenses(collection.name)
    views = [_view(request, collection, each) for each in found]
    view = LensesView(collection.name, views, len(found) == lenses.MAX_LISTED, url, urls.json(url))
    return page(request, "lenses", view, headers=NOT_KEPT)


def lens_page(request: Request) -> Response:
    collection, found = _asked(request)
    return page(request, "lens", _view(request, collection, found), headers=NOT_KEPT)


async def lens_file(request: Request) -> Response:
    """The lens as the search pages print it, to be pasted elsewhere."""
    return await run_in_threadpool(_lens_file, request)


def _lens_file(request: Request) -> Response:
    collection, found = _asked(request)
    name = _UNSAFE.sub("-", found.lens.name).strip("-.") or found.at.slug
    headers = {"Content-Disposition": f'attachment; filename="{name}.json"', **NOT_KEPT}
    return Response(_text(collection, found.lens), 200, headers, "application/json")


def _asked(request: Request) -> tuple[ServedCollection, StoredLens]:
    collection = get_collection(request)
    with get_store(request).read() as session:
        found = lenses.find_lens(session, request.path_params["slug"], find_actor(request))
    if found.collection != collection.name:
        raise NotThere("This collection has no such lens.", remedy="Check the address.")
    return collection, found


def _view(request: Request, collection: ServedCollection, found: StoredLens) -> StoredLensView:
    at, lens, viewer = found.at, found.lens, find_actor(request)
    sae, url = collection.saes.get(lens.sae), urls.lens(collection.name, at.slug)
    return StoredLensView(
        slug=at.slug,
        name=lens.name,
        collection=collection.name,
        sae=lens.sae,
        sae_url=sae.summary.url if sae else None,
        moves=[_move(move, sae) for move in lens.moves],
        searches=[
            Option(each.name, each.name, _search(collection, each, lens), is_chosen=each is sae)
            for each in collection.saes.values()
        ],
        author=at.author,
        visibility=at.visibility,
        revision=at.revision,
        changed=at.changed.isoformat(timespec="minutes"),
        origin=found.origin,
        may_change=viewer is not None and (viewer.name == at.author or viewer.role >= Role.ADMIN),
        text=_text(collection, lens),
        url=url,
        json_url=urls.json(url),
        file_url=urls.lens_file(collection.name, at.slug),
        list_url=urls.lenses(collection.name),
    )


def _move(move: LensMove, sae: ServedSAE | None) -> LensMoveView:
    is_family = move.mode == "family"
    known = sae is not None and (
        move.target in sae.forest.families if is_family else move.target < sae.n_latents
    )
    if sae is None or not known:
        amount = f" {urls.decimals(move.value)}" if move.mode in ("strength", "family") else ""
        what = "family " if is_family else "" if move.mode == "strength" else f"{move.mode} "
        return LensMoveView(f"{what}#{move.target}{amount}", None)
    url = (urls.family if is_family else urls.feature)(sae.collection, sae.name, move.target)
    return LensMoveView(said(move, sae), url)


def _text(collection: ServedCollection, lens: Lens) -> str:
    return printed(lens, collection.name, collection.saes.get(lens.sae))


def _search(collection: ServedCollection, sae: ServedSAE, lens: Lens) -> str:
    """A search with this lens alone; without it where an address cannot say it."""
    return _with(SearchQuery(collection.name, sae.name), lens) or sae.summary.search_url


def _with(query: SearchQuery, lens: Lens) -> str | None:
    try:
        return added(query, sayable(lens)).url()
    except BadLens:
        return None


# --- in the panel of a search ---------------------------------------------------------------------


def offered(request: Request, collection: ServedCollection, query: SearchQuery) -> StoredLenses | None:
    """What the panel offers; None where nobody may write. A database that is away costs a sentence."""
    if not request.app.state.settings.editing:
        return None
    viewer, url = find_actor(request), urls.lenses(collection.name)
    try:
        with get_store(request).read() as session:
            found = lenses.find_lenses(session, collection.name, viewer)
    except (DatabaseError, BusyError) as error:
        log.error("The lenses of %s could not be read: %s", collection.name, error)  # noqa: TRY400
        return StoredLenses([], [], 0, url, problem="Stored lenses cannot be shown at the moment.")
    found.sort(key=lambda each: each.lens.sae != query.sae)  # those that lose nothing here come first
    is_full = len(query.lenses) >= MAX_LENSES
    return StoredLenses(
        choices=[_choice(each, query, is_full=is_full) for each in found[:N_OFFERED]],
        own=[
            (f"{each.at.slug}:{each.at.revision}", each.lens.name)
            for each in found
            if viewer is not None and each.at.author == viewer.name
        ],
        n=len(found),
        url=url,
    )


def _choice(found: StoredLens, query: SearchQuery, *, is_full: bool) -> LensChoice:
    lens, at = found.lens, found.at
    return LensChoice(
        name=lens.name,
        author=at.author,
        n_moves=len(lens.moves),
        sae=lens.sae,
        is_foreign=lens.sae != query.sae,
        url=urls.lens(query.collection, at.slug),
        put_on_url=None if is_full else _with(query, lens),
    )


# --- stored and taken away ------------------------------------------------------------------------


def _store(request: Request, writing: Writing, form: Form) -> str:
    """A new lens, or, with `over` (slug and revision), a revision of one's own."""
    collection = get_library(request).collection(form["collection"])
    lens = parse(form["moves"]) if form["moves"] else _present(collection, form)
    lens = sayable(replace(lens, name=form["name"]))
    sae = collection.sae(lens.sae)
    if unknown := [move for move in lens.moves if _move(move, sae).url is None]:
        raise BadText(f"{sae.name} has no {_move(unknown[0], sae).words}.", remedy="Take this move out.")
    moved = {move.target for move in lens.moves}
    directions = {target: direction_of(collection.explorer, sae.name, target) for target in moved}
    slug, _, revision = form["over"].partition(":")
    if not slug:
        stored = lenses.add_lens(writing, collection.name, lens, directions, form["visibility"])
        return urls.lens(collection.name, stored.at.slug)
    seen = Form(expected=revision).number("expected")
    try:
        lenses.change_lens(writing, slug, lens, directions, form["visibility"], seen)
    except Conflict as error:
        mine = {"moves": _text(collection, lens)}
        raise Conflict(error.what, mine, _fields(collection, error.theirs)) from None
    return urls.lens(collection.name, slug)


def _present(collection: ServedCollection, form: Form) -> Lens:
    """The moves by hand of the search that a form was sent from."""
    parts = urlsplit(form.page("target"))
    path = [unquote(segment) for segment in parts.path.split("/")]
    if path[1:2] != [collection.name] or path[3:] != ["search"]:
        raise BadText("The moves of a lens are those of a search.", remedy="Store it from there.")
    sae = collection.sae(path[2])
    query = SearchQuery.read(collection.name, sae.name, Parameters(parts.query), sae.n_latents)
    return made(replace(query, lenses=()), form["name"]).lenses[-1]


def _fields(collection: ServedCollection, theirs: StoredLens) -> Mapping[str, str]:
    return {
        "name": theirs.lens.name,
        "visibility": theirs.at.visibility,
        "moves": _text(collection, theirs.lens),
        "over": f"{theirs.at.slug}:{theirs.at.revision}",
    }


def _remove(_request: Request, writing: Writing, form: Form) -> str:
    lenses.remove_lens(writing, form["slug"])
    return urls.lenses(form["collection"]) if form["collection"] else urls.home()


def _back(form: Form) -> str:
    is_of_list = form["collection"] and not form["target"]
    return urls.lenses(form["collection"]) if is_of_list else form.page("target")


def _as_it_is(fields: Any) -> Mapping[str, str]:
    found: Mapping[str, str] = fields
    return found


LENS = Act(
    path=urls.edit("lens"),
    button="Store",
    fields=(
        Field("name", "Name", LINE),
        Field("visibility", "It is", CHOICE, VISIBILITIES),
        Field("moves", "Moves", TEXT),
    ),
    do=_store,
    mine=_as_it_is,
    theirs=_as_it_is,
    back=_back,
)
REMOVAL = Act(path=urls.edit("lens/remove"), button="Remove", fields=(), do=_remove)
add_act(router, LENS)
add_act(router, REMOVAL)

Route = Callable[[Request], Any]
_FILE = "/{collection}/lenses/{slug}/lens.json"
router.add_route(_FILE, named(_FILE, lens_file), methods=["GET", "HEAD"])
PAGES: tuple[tuple[str, Route, About], ...] = (
    (
        "/{collection}/lenses/{slug}",
        lens_page,
        About("lens", "People", "A stored lens: what it moves, whose it is, and its text.", StoredLensView),
    ),
    (
        "/{collection}/lenses",
        lenses_page,
        About("lenses", "People", "Lenses of a collection that are public, or one's own.", LensesView),
    ),
)
for path, route, about in PAGES:
    add_page(router, path, route, about=about)
