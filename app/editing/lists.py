"""Lists of features: made on pages of features, shown, changed, and taken away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from fastapi import APIRouter, Request
from fastapi.responses import Response

from app import urls
from app.authored import lists
from app.authored import subjects as authored_subjects
from app.authored.lists import Entry, FeatureList, ListText
from app.authored.store import NotThere, Role, Writing
from app.authored.texts import BadText
from app.caching import NOT_KEPT
from app.deps import ServedCollection, ServedSAE, add_page, get_collection, get_library
from app.described import About
from app.editing import subjects
from app.editing.acts import CHOICE, LINE, TEXT, VISIBILITIES, Act, Field, add_act
from app.editing.forms import Form
from app.editing.subjects import page_of
from app.editing.visitors import find_actor, get_store
from app.formats import Files, Table, kinds
from app.pages import page
from app.query import MAX_STRENGTHS, BadParameter, integer
from app.views.lists import EntryView, ListCard, ListsView, ListView

router = APIRouter()

BOUND = 2**31  # of the number of a feature whose SAE is not here


# --- pages ----------------------------------------------------------------------------------------


def lists_page(request: Request) -> Response:
    """The lists of a collection that are public, or somebody's own."""
    collection = get_collection(request)
    with get_store(request).read() as session:
        found = lists.find_lists(session, collection.name, find_actor(request))
    url = urls.lists(collection.name)
    view = ListsView(
        collection=collection.name,
        lists=[_card(each) for each in found],
        saes=list(collection.saes),
        has_more=len(found) == lists.MAX_LISTED,
        url=url,
        json_url=urls.json(url),
    )
    return page(request, "lists", view, headers=NOT_KEPT)


def list_page(request: Request) -> Response:
    collection, found = _asked(request)
    return page(request, "list", _view(request, collection, found), headers=NOT_KEPT)


def list_file(request: Request, name: str) -> Table:
    """The features of a list, in its order."""
    del name
    collection, found = _asked(request)
    view = _view(request, collection, found)
    rows = [kinds.entry_row(each) for each in view.entries]
    return collection.table(kinds.ENTRIES, f"{view.sae} list {view.name}", view.url, iter([rows]))


def _asked(request: Request) -> tuple[ServedCollection, FeatureList]:
    collection = get_collection(request)
    with get_store(request).read() as session:
        found = lists.find_list(session, request.path_params["slug"], find_actor(request))
    if found.said.collection != collection.name:
        raise NotThere("There is no such list in this collection.", remedy="Check the address.")
    return collection, found


def _card(found: FeatureList) -> ListCard:
    at, said = found.at, found.said
    changed = at.changed.isoformat(timespec="minutes")
    url = urls.feature_list(said.collection, at.slug)
    return ListCard(at.slug, said.name, said.sae, at.author, at.visibility, changed, url)


def _view(request: Request, collection: ServedCollection, found: FeatureList) -> ListView:
    at, said, viewer = found.at, found.said, find_actor(request)
    sae = collection.saes.get(said.sae)
    latents = [entry.subject.latent for entry in said.entries]
    url = urls.feature_list(collection.name, at.slug)
    return ListView(
        slug=at.slug,
        name=said.name,
        description=said.description,
        collection=collection.name,
        sae=said.sae,
        is_here=sae is not None,
        entries=[
            EntryView(latent, entry.remark, sae.chip(latent) if sae and latent < sae.n_latents else None)
            for latent, entry in zip(latents, said.entries, strict=True)
        ],
        author=at.author,
        visibility=at.visibility,
        revision=at.revision,
        changed=at.changed.isoformat(timespec="minutes"),
        origin=found.origin,
        may_change=viewer is not None and (viewer.name == at.author or viewer.role >= Role.ADMIN),
        features=_printed(said.entries),
        search_url=_search(sae, latents),
        url=url,
        json_url=urls.json(url),
        list_url=urls.lists(collection.name),
    )


def _search(sae: ServedSAE | None, latents: Sequence[int]) -> str | None:
    """A search in which each of the features is strong, as far as an address has room."""
    if sae is None:
        return None
    alive = [latent for latent in latents if latent < sae.n_latents and sae.fires[latent] > 0]
    strengths = [(latent, sae.usual_move(latent)) for latent in alive[:MAX_STRENGTHS]]
    return urls.search(sae.collection, sae.name, strengths=strengths) if strengths else None


# --- forms ----------------------------------------------------------------------------------------


def _printed(entries: Sequence[Entry]) -> str:
    """Number and remark, a line each; inverse of `_entries`."""
    return "\n".join(f"{entry.subject.key} {entry.remark}".strip() for entry in entries)


def _entries(collection: ServedCollection, sae: str, text: str) -> tuple[Entry, ...]:
    """Features as a form has them; `BadText` names a line that begins with no number of one."""
    served, entries = collection.saes.get(sae), []
    lines = [each.strip() for each in text.splitlines() if each.strip()]
    for number, each in enumerate(lines[: lists.MAX_ENTRIES + 1], 1):
        key, _, remark = each.partition(" ")
        try:
            latent = integer("feature", key.strip("#:"), 0, (served.n_latents if served else BOUND) - 1)
        except BadParameter as error:
            raise BadText(f"Line {number} of the features: {error.what}", remedy=error.remedy) from None
        if served is None:
            subject = authored_subjects.feature(collection.name, sae, latent)
        else:
            subject = subjects.feature(collection, served, latent)
        entries.append(Entry(subject, remark))
    return tuple(entries)


def _store(request: Request, writing: Writing, form: Form) -> str:
    collection = get_library(request).collection(form["collection"])
    if not form["slug"]:
        collection.sae(form["sae"])  # which has to be here
    said = ListText(
        collection.name, form["sae"], form["name"], form["description"],
        _entries(collection, form["sae"], form["features"]), form["visibility"],
    )  # fmt: skip
    if form["slug"]:
        made = lists.change_list(writing, form["slug"], said, form.number("expected"))
    else:
        made = lists.add_list(writing, said)
    return urls.feature_list(collection.name, made.at.slug)


def _add(request: Request, writing: Writing, form: Form) -> str:
    """Put a feature at the end of one of somebody's lists, or into a new one."""
    collection = get_library(request).collection(form["collection"])
    (entry,) = _entries(collection, collection.sae(form["sae"]).name, f"{form['key']} {form['remark']}")
    if not form["slug"]:
        said = ListText(
            collection.name, form["sae"], form["name"], "", (entry,), form["visibility"] or "public"
        )
        return urls.feature_list(collection.name, lists.add_list(writing, said).at.slug)
    found = lists.find_list(writing.session, form["slug"], writing.actor)
    said = replace(found.said, entries=(*found.said.entries, entry))
    lists.change_list(writing, form["slug"], said, found.at.revision)
    return urls.feature_list(collection.name, form["slug"])


def _remove(_request: Request, writing: Writing, form: Form) -> str:
    lists.remove_list(writing, form["slug"])
    return urls.lists(form["collection"]) if form["collection"] else urls.home()


def _theirs(found: FeatureList) -> Mapping[str, str]:
    said = found.said
    return {
        "name": said.name, "description": said.description, "features": _printed(said.entries),
        "visibility": said.visibility, "expected": str(found.at.revision),
    }  # fmt: skip


def _back(form: Form) -> str:
    if not form["collection"]:
        return urls.home()
    slug = form["slug"]
    return urls.feature_list(form["collection"], slug) if slug else urls.lists(form["collection"])


NAME, VISIBILITY = Field("name", "Name", LINE), Field("visibility", "It is", CHOICE, VISIBILITIES)
LIST = Act(
    path=urls.edit("list"),
    button="Store",
    fields=(
        NAME,
        Field("description", "Description", TEXT),
        Field("features", "Features, in order", TEXT),
        VISIBILITY,
    ),
    do=_store,
    theirs=_theirs,
    back=_back,
)
ADDITION = Act(
    path=urls.edit("list/add"),
    button="Add",
    fields=(NAME, Field("remark", "Remark", LINE), VISIBILITY),
    do=_add,
    back=page_of,
)
REMOVAL = Act(path=urls.edit("list/remove"), button="Remove", fields=(), do=_remove, back=_back)
for act in (LIST, ADDITION, REMOVAL):
    add_act(router, act)
ABOUT_LISTS = About(
    "lists", "People", "Lists of features of a collection that are public, or one's own.", ListsView
)
ABOUT_LIST = About("list", "People", "A list of features, in order, each with a remark.", ListView)
FILES = Files({"features": kinds.ENTRIES}, list_file)
add_page(router, "/{collection}/lists", lists_page, about=ABOUT_LISTS)
add_page(router, "/{collection}/lists/{slug}", list_page, FILES, ABOUT_LIST)
