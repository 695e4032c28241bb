"""The interface for programs as an OpenAPI document, made from what pages say of themselves.

Parameters come from the readers of addresses, bodies from the types of views and from the columns of lists.
What is written here by hand is words: a sentence for each parameter.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import JsonSchemaMode

import app.views
import sae_core.labels
from app.described import GROUPS, Described, Schema, described
from app.formats import Format, Kind
from app.views.common import ErrorView
from app.views.families import GrowingView

VERSION = "1"  # of the interface: names and meanings; what is added does not change it
_SCHEMA_PATH = "#/components/schemas/{model}"
_PATH_PARAMETER = re.compile(r"{(\w+)(?::path)?}")

PATH_WORDS = {
    "collection": "Name of a collection.",
    "sae": "Name of an SAE. It ends with the fingerprint of its weights: others have another address.",
    "latent": "Number of a feature in its SAE.",
    "family": "Number of the feature at the family's root.",
    "slug": "Letters and digits that stand for something that somebody stored.",
    "document": "Id of a document; slashes stay as they are. One that has a percent sign or a dot segment, "
    "or that ends like a format, goes to the address that takes it as a parameter.",
}
# By name, or by page or group and name where pages mean different things.
WORDS = {
    "q": "What documents should be about, in words.",
    "like": "Id of a document to begin from; repeatable.",
    "unlike": "Id of a document to lead away from; repeatable.",
    "lens": "Moves under a name, as printed by the page; repeatable.",
    "family": "A family and how far to move along it, such as 37:+0.30; repeatable.",
    "f": "A feature and the activation that it is set to, such as 812:+0.40; repeatable.",
    "ignore": "Number of a feature whose part of the query is taken out; repeatable.",
    "require": "Number of a feature that documents must have; repeatable.",
    "exclude": "Number of a feature that documents must not have; repeatable.",
    "lock": "Number of a feature that stays where its family moves; repeatable.",
    "keep": "The cosine with the own query at which a move stops.",
    "refine": "1: counter what moves bring about unasked.",
    "keywords": "Weight of the ranking by words, fused with that by meaning.",
    "year_min": "Only documents of this year or later.",
    "year_max": "Only documents of this year or earlier.",
    "venue": "Only documents of this venue; repeatable, any of them.",
    "category": "Only documents of this category; repeatable, any of them.",
    "cited_min": "Only documents that are cited so often at least.",
    "diverse": "1: one document of each family of features.",
    "view": "How the page shows results; no difference to files.",
    "why": "Id of a document whose score is to be explained.",
    "against": "Id of another, with which the first is compared.",
    "up": "Id of a result that is wanted; repeatable. Moves are proposed from it.",
    "down": "Id of a result that is not wanted; repeatable.",
    "search.a": "Id of a result put into set A; repeatable.",
    "search.b": "Id of a result put into set B; repeatable.",
    "find": "Words for features that could be added.",
    "page": "Page of the list, from 1. A file begins where this page does.",
    "words": "Words of labels.",
    "sort": "Order of the list.",
    "separate.sort": "Order within each side.",
    "min_density": "Only features that fire on this share of documents at least.",
    "max_density": "Only features that fire on this share of documents at most.",
    "labelled": "1: only features with a label.",
    "dead": "1: also features that never fire.",
    "tab": "Which documents: the strongest, around quantiles, the weakest, near misses, all.",
    "log": "1: the page's histogram has a logarithmic axis.",
    "separate.a": "Id of a document of set A; repeatable.",
    "separate.b": "Id of a document of set B; repeatable. Without any set B: all other documents.",
    "a_years": "Set A as the documents of a year or of years, such as 2019-2021.",
    "b_years": "Set B likewise.",
    "a_q": "Set A as the best documents for a text.",
    "b_q": "Set B likewise.",
    "separate.q": "The search in which links use the features.",
    "algorithm": "How families are found; default: as the collection was built.",
    "edge": "Which conditional probability an edge is.",
    "threshold": "Least share of documents that two features have in common.",
    "min_size": "Smallest family, in features.",
    "max_size": "Largest family, in features.",
    "Families.max_density": "Denser features, as a share of the documents, join nothing.",
    "min_together": "Documents on which both ends of an edge fire, at least.",
    "min_lift": "Times as often as independent features would, at least.",
    "min_z": "Standard deviations above independence, at least.",
    "min_children": "Children of a root, at least.",
    "n_iterations": "How often roots are removed and the forest grown again.",
    "max_jaccard": "Of two families that share more, the smaller is left out.",
    "area": "What boxes of the page's map stand for.",
    "colour": "What their colour stands for.",
    "open": "Numbers of features whose branches of the tree are unfolded, joined by commas.",
    "sae": "Name of the SAE whose features are meant; default: the collection's first.",
    "id": "Id of the document.",
    "list": "Which list of the page the file holds.",
}


def words_of(page: Described, parameter: str) -> str:
    """What a parameter means on a page."""
    about = page.about
    keys = [f"{about.name}.{parameter}", f"{about.group}.{parameter}", parameter]
    return next(WORDS[key] for key in keys if key in WORDS)


def plain(path: str) -> str:
    """A path of our routes as OpenAPI writes them."""
    return _PATH_PARAMETER.sub(r"{\1}", path)


def document(examples: dict[str, str], origin: str, *, with_people: bool = False) -> dict[str, Any]:
    """The whole document; `examples` are values for {names} of paths, of a collection that is served."""
    paths: dict[str, Any] = {}
    pages = described(with_people=with_people)
    for page in pages:
        for path, operation in _operations(page, examples):
            paths[path] = {"get": operation}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Saefari", "version": VERSION, "description": _ABOUT, "license": _LICENCE},
        "servers": [{"url": origin or "/"}],
        "tags": [{"name": name} for name in GROUPS if name in {page.about.group for page in pages}],
        "paths": paths,
        "components": {"schemas": _schemas(with_people=with_people)},
    }


_LICENCE = {"name": "Apache-2.0", "identifier": "Apache-2.0"}
_ABOUT = (
    "Every page as JSON, and every list as a file, at the page's own address with a suffix. The same without "
    "a suffix answers with what Accept asks for. Lists that go on have a Link header with rel=next. Mistakes "
    "are answered with a sentence, as JSON. Nothing here writes; no key is needed."
)


def _operations(page: Described, examples: dict[str, str]) -> Iterator[tuple[str, dict[str, Any]]]:
    path = "/index" if page.path == "/" else plain(page.path)
    shared = {"tags": [page.about.group], "summary": page.about.summary}
    read = parameters(page, examples)
    yield (
        f"{path}.json",
        {
            "operationId": page.about.name,
            **shared,
            "parameters": read,
            "responses": _responses(page, {"application/json": {"schema": _reference(page.about.view)}}),
        },
    )
    for each in page.files.formats if page.files else ():
        yield f"{path}.{each.name}", _file_operation(page, each, shared, read)


def _file_operation(
    page: Described, wanted: Format, shared: dict[str, Any], read: list[dict[str, Any]]
) -> dict[str, Any]:
    files = page.files
    lists = {name: files.lists[name] for name in files.of(wanted)} if files else {}
    chosen = {"type": "string", "enum": list(lists), "default": next(iter(lists))}
    described = "\n".join(f"- `{name}`: {describe(kind)}" for name, kind in lists.items())
    content = {wanted.media[0]: _content(wanted, next(iter(lists.values())))}
    return {
        "operationId": f"{page.about.name}_{wanted.name}",
        **shared,
        "description": f"As {wanted.text}. Lists:\n{described}",
        "parameters": [
            *read,
            {"name": "list", "in": "query", "description": WORDS["list"], "schema": chosen},
        ],
        "responses": _responses(page, content),
        "x-lists": {name: _columns(kind) for name, kind in lists.items()},
    }


def describe(kind: Kind) -> str:
    """What a list holds, and where a file of it ends."""
    end = f"{kind.cap:,} rows a file, then a next link" if kind.cap else "whole"
    return f"a row is {kind.meaning} ({end})"


def _columns(kind: Kind) -> dict[str, Any]:
    columns = [{"name": each.name, "type": each.type, "meaning": each.meaning} for each in kind.columns]
    return {"kind": kind.name, "version": kind.version, "cap": kind.cap or None, "columns": columns}


def _content(wanted: Format, kind: Kind) -> dict[str, Any]:
    if wanted.name == "csv":
        names = ",".join(column.name for column in kind.columns)
        return {"schema": {"type": "string"}, "example": f"{names}\r\n"}
    is_text = wanted.name != "parquet"
    return {"schema": {"type": "string"} if is_text else {"type": "string", "contentEncoding": "binary"}}


def _responses(page: Described, content: dict[str, Any]) -> dict[str, Any]:
    problem = {"application/json": {"schema": _reference(ErrorView)}}
    link = {"description": 'The next part, rel="next", if there is one.', "schema": {"type": "string"}}
    found: dict[str, Any] = {
        "200": {"description": "What was asked for.", "headers": {"Link": link}, "content": content},
        "400": {"description": "A parameter cannot be used.", "content": problem},
        "404": {"description": "Nothing of that name is here.", "content": problem},
        "503": {"description": "Busy, or the encoder is not ready: try again.", "content": problem},
    }
    if page.about.group == "Families":
        growing = {"application/json": {"schema": _reference(GrowingView)}}
        found["202"] = {"description": "They are still being found: ask again.", "content": growing}
    return found


def parameters(page: Described, examples: dict[str, str]) -> list[dict[str, Any]]:
    """Those of the path, then those of the query, as OpenAPI has them."""
    found: list[dict[str, Any]] = []
    for name in _PATH_PARAMETER.findall(page.path):
        described = {"description": PATH_WORDS[name], "schema": {"type": "string"}}
        found.append({"name": name, "in": "path", "required": True, **described, "example": examples[name]})
    for name, schema in page.parameters().items():
        each: dict[str, Any] = {"name": name, "in": "query"}
        each |= {"description": words_of(page, name), "schema": schema}
        if (example := page.about.example.get(name)) is not None:
            filled = example.format(**examples)
            each["example"] = [filled] if schema["type"] == "array" else filled
        found.append(each)
    return found


# --- what bodies hold -----------------------------------------------------------------------------


def _reference(view: type) -> Schema:
    return {"$ref": _SCHEMA_PATH.format(model=view.__name__)}


@lru_cache(maxsize=2)
def _schemas(*, with_people: bool) -> dict[str, Schema]:
    """The types of all views, with what their source says beside each field."""
    pages = described(with_people=with_people)
    views = list(dict.fromkeys([*(page.about.view for page in pages), ErrorView, GrowingView]))
    asked: list[tuple[str, JsonSchemaMode, TypeAdapter[Any]]] = [
        (view.__name__, "serialization", TypeAdapter(view)) for view in views
    ]
    _, made = TypeAdapter.json_schemas(asked, ref_template=_SCHEMA_PATH)
    found: dict[str, Schema] = made["$defs"]
    remarks = _remarks()
    for name, schema in found.items():
        for field, said in schema.get("properties", {}).items():
            if remark := remarks.get((name, field)):
                said["description"] = remark
    return found


def _remarks() -> dict[tuple[str, str], str]:
    """The comments beside the fields of classes, by class and field."""
    modules = [f"app.views.{each.name}" for each in pkgutil.iter_modules(app.views.__path__)]
    found: dict[tuple[str, str], str] = {}
    for path in [*(importlib.import_module(name).__file__ for name in modules), *_library_files()]:
        lines = Path(str(path)).read_text(encoding="utf-8").splitlines()
        for node in ast.parse("\n".join(lines)).body:
            if isinstance(node, ast.ClassDef):
                for each in node.body:
                    if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name):
                        remark = lines[(each.end_lineno or each.lineno) - 1].partition("  # ")[2]
                        if remark and not remark.startswith("noqa"):
                            found[node.name, each.target.id] = remark
    return found


def _library_files() -> list[str]:
    """Files of the library whose classes stand in views."""
    folder = Path(str(sae_core.labels.__file__)).parent
    return [str(path) for path in sorted(folder.glob("*.py"))]
