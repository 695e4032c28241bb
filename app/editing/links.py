"""Short links: made on any page of a collection, listed, followed, and taken away.

A link is followed at once only where what it was made on is served. Where that is another generation, a page
says so first: what the address shows now may be other numbers. Where it leads nowhere any more, the page says
what there is instead.
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import unquote, urlsplit

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from app import urls
from app.authored import links
from app.authored.links import ShortLink, checked_target
from app.authored.store import NotThere, Role, Writing
from app.authored.texts import BadText
from app.caching import NOT_KEPT, VARY
from app.deps import Library, PageNotFound, add_page, get_collection, get_library, origin
from app.described import About
from app.editing.acts import CHOICE, LINE, VISIBILITIES, Act, Field, add_act
from app.editing.forms import Form
from app.editing.visitors import find_actor, get_store
from app.formats import HTML, page_format
from app.pages import page
from app.query import MAX_Q, BadParameter, Parameters
from app.views.common import Option
from app.views.editing import LinksView, LinkView

router = APIRouter()

GONE = 410


def follow(request: Request) -> Response:
    """To what was stored, if that is what it would show now."""
    found, view = _asked(request)
    if view.state == "same" and page_format(request) == HTML:
        return RedirectResponse(found.target, 302, {"Vary": VARY, **NOT_KEPT})
    is_told = page_format(request) != HTML or view.state == "changed"
    return page(request, "link", view, status=200 if is_told else GONE, headers=NOT_KEPT)


def about_link(request: Request) -> Response:
    """What is known of a link, which is not followed."""
    found, view = _asked(request)
    if found.collection != request.path_params["collection"]:
        raise NotThere("There is no such link into this collection.", remedy="Check the address.")
    return page(request, "link", view, headers=NOT_KEPT)


def links_page(request: Request) -> Response:
    """The links into a collection that are public, or somebody's own."""
    collection = get_collection(request)
    with get_store(request).read() as session:
        found = links.find_links(session, collection.name, find_actor(request))
    url = urls.links(collection.name)
    views = [link_view(request, each) for each in found]
    most = links.MAX_LISTED
    view = LinksView(collection.name, views, has_more=len(found) == most, url=url, json_url=urls.json(url))
    return page(request, "links", view, headers=NOT_KEPT)


def _asked(request: Request) -> tuple[ShortLink, LinkView]:
    with get_store(request).read() as session:
        found = links.find_link(session, request.path_params["slug"], find_actor(request))
    return found, link_view(request, found)


def link_view(request: Request, made: ShortLink) -> LinkView:
    """A link, and what has become of what it leads to."""
    at, viewer = made.at, find_actor(request)
    served = get_library(request).collections.get(made.collection)
    state, instead = _state(get_library(request), made)
    url = urls.short(at.slug)
    return LinkView(
        slug=at.slug,
        title=made.title,
        address=f"{origin(request)}{url}",
        target=made.target,
        collection=made.collection,
        sae=made.sae,
        generation=made.generation,
        served=served.explorer.generation if served else None,
        state=state,
        instead=instead,
        author=at.author,
        visibility=at.visibility,
        made=at.created.isoformat(timespec="minutes"),
        may_remove=viewer is not None and (viewer.name == at.author or viewer.role >= Role.ADMIN),
        url=url,
        json_url=urls.json(url),
        about_url=urls.link(made.collection, at.slug),
        list_url=urls.links(made.collection) if served else None,
    )


def _state(library: Library, made: ShortLink) -> tuple[str, list[Option]]:
    """What has become of what a link was made on, and where else to go."""
    parts = urlsplit(made.target)
    try:
        collection = library.collection(made.collection)
        if made.sae:
            collection.sae(made.sae, _words(parts.query))
    except PageNotFound as error:
        return ("no SAE" if made.collection in library.collections else "no collection"), error.suggestions
    return ("same" if collection.explorer.generation == made.generation else "changed"), []


def _words(query: str) -> str:
    """What an address searches for, to be searched for elsewhere."""
    try:
        return Parameters(query).text("q", MAX_Q)
    except BadParameter:
        return ""


# --- made and taken away --------------------------------------------------------------------------


def _make(request: Request, writing: Writing, form: Form) -> str:
    target = checked_target(form["target"])
    path = [unquote(segment) for segment in urlsplit(target).path.split("/")]
    if {".", ".."} & {*path}:
        raise BadText("This address goes back and forth.", remedy="Give it as the browser shows it.")
    collection = get_library(request).collection(path[1])
    sae = path[2] if path[2:] and path[2] in collection.saes else ""
    made = links.add_link(
        writing, target, collection.name, sae, collection.explorer.generation, form["title"],
        form["visibility"],
    )  # fmt: skip
    return urls.link(collection.name, made.at.slug)


def _remove(_request: Request, writing: Writing, form: Form) -> str:
    links.remove_link(writing, form["slug"])
    return urls.links(form["collection"]) if form["collection"] else urls.home()


LINK = Act(
    path=urls.edit("link"),
    button="Make the link",
    fields=(Field("title", "Title", LINE), Field("visibility", "It is", CHOICE, VISIBILITIES)),
    do=_make,
    back=lambda form: form.page("target"),
)
REMOVAL = Act(path=urls.edit("link/remove"), button="Remove", fields=(), do=_remove)
add_act(router, LINK)
add_act(router, REMOVAL)

Route = Callable[[Request], Response]
PAGES: tuple[tuple[str, Route, About], ...] = (
    (
        "/s/{slug}",
        follow,
        About("short_link", "People", "A short link: where it leads, and what it was made on.", LinkView),
    ),
    ("/{collection}/links/{slug}", about_link, About("link", "People", "The same, by collection.", LinkView)),
    (
        "/{collection}/links",
        links_page,
        About("links", "People", "Short links into a collection that are public, or one's own.", LinksView),
    ),
)
for path, route, about in PAGES:
    add_page(router, path, route, about=about)
