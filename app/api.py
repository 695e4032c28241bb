"""The interface for programs as an OpenAPI document, and the page that shows it to people."""

from __future__ import annotations

import re

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from app import openapi, urls
from app.deps import ServedCollection, ServedSAE, add_page, get_library, origin
from app.described import Described, Schema, described
from app.formats import twins
from app.pages import page
from app.views.api import AddressView, ApiView, ColumnView, ListView, ParameterView

router = APIRouter()

# What {names} stand for where nothing of the kind is there, or who asks may not see it.
_NOBODY = {
    "collection": "papers",
    "sae": "k32-n1024-0a1b2c",
    "latent": "812",
    "family": "37",
    "document": "2408.00657",
    "slug": "kx7m2pqrst",
}
_WORDS = {"words": "dark matter"}  # anything can be searched for


def openapi_document(request: Request) -> Response:
    examples, with_people = _NOBODY | _there(request), _with_people(request)
    return JSONResponse(openapi.document(examples, origin(request), with_people=with_people))


def docs(request: Request) -> Response:
    view = docs_view(_there(request), origin(request), with_people=_with_people(request))
    return page(request, "docs", view)


def _with_people(request: Request) -> bool:
    is_on: bool = request.app.state.settings.editing
    return is_on


def docs_view(there: dict[str, str], at: str, *, with_people: bool = False) -> ApiView:
    groups: dict[str, list[AddressView]] = {}
    for each in described(with_people=with_people):
        groups.setdefault(each.about.group, []).append(_address(each, there))
    searched = next(
        address for addresses in groups.values() for address in addresses if address.name == "search"
    )
    return ApiView(
        version=openapi.VERSION,
        groups=list(groups.items()),
        openapi_url=urls.openapi(),
        curl=f"curl '{at}{searched.json_url}'",
        url=urls.docs(),
        json_url=urls.json(urls.docs()),
    )


def _there(request: Request) -> dict[str, str]:
    """Names of things that are there, for paths that can be tried. What people stored is not among them."""
    collections = list(get_library(request).collections.values())
    found = next(((each, each.default) for each in collections if each.default is not None), None)
    return dict(_WORDS) if found is None else _WORDS | _of_collection(*found)


def _of_collection(collection: ServedCollection, sae: ServedSAE) -> dict[str, str]:
    document = collection.catalog.documents([0])[0].id
    living = [latent for latent in range(sae.n_latents) if sae.fires[latent] > 0]
    examples = {"collection": collection.name, "sae": sae.name, "document": document}
    examples |= {"latent": str(living[0])} if living else {}
    examples |= {"family": str(next(iter(sae.forest.families)))} if sae.forest.families else {}
    texts = collection.examples[sae.name]
    return examples | ({"words": texts[0].text} if texts else {})


def _address(shown: Described, there: dict[str, str]) -> AddressView:
    about, examples = shown.about, _NOBODY | there
    needed = re.findall(r"{(\w+)", " ".join([shown.path, *about.example.values()]))
    parameters = [
        ParameterView(
            each["name"], each["in"] == "path", each["description"], _allowed(each["schema"]), _shown(each)
        )
        for each in openapi.parameters(shown, examples)
    ]
    path = urls.filled(shown.path, examples)
    chosen = [(name, value.format(**examples)) for name, value in about.example.items()]
    url = urls.with_parameters(path, chosen)
    return AddressView(
        name=about.name,
        summary=about.summary,
        path=openapi.plain(shown.path),
        url=url,
        json_url=urls.json(url),
        is_there=there.keys() >= set(needed),
        parameters=parameters,
        lists=_lists(shown, url),
    )


def _lists(shown: Described, url: str) -> list[ListView]:
    files = shown.files
    if files is None:
        return []
    return [
        ListView(
            name=name,
            kind=(kind := files.lists[name]).name,
            version=kind.version,
            words=openapi.describe(kind),
            columns=[ColumnView(column.name, column.type, column.meaning) for column in kind.columns],
            formats=[(text, address) for text, address, _ in links],
        )
        for name, links in twins(files, url)
    ]


def _shown(parameter: Schema) -> str:
    example = parameter.get("example", "")
    return str(example[0] if isinstance(example, list) else example)


def _allowed(schema: Schema) -> str:
    """A schema in words."""
    if "enum" in schema:
        return ", ".join(schema["enum"])
    if "maximum" in schema:
        kind = "a whole number" if schema["type"] == "integer" else "a number"
        return f"{kind}, {schema['minimum']:,} to {schema['maximum']:,}"
    if "maxLength" in schema:
        return f"text, at most {schema['maxLength']:,} characters"
    return "text" if schema["type"] == "string" else "repeatable"


router.add_route(urls.openapi(), openapi_document, methods=["GET", "HEAD"])
add_page(router, urls.docs(), docs)
