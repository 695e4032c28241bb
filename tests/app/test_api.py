"""The description of the interface for programs is what the interface does."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import lru_cache
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import jsonschema
import pytest
from fastapi.testclient import TestClient

from app import openapi, urls
from app.described import Described, Recorder, described
from app.formats import FORMATS, kinds
from app.main import create_app
from app.query import EvidenceQuery, FamilyQuery, FeatureQuery, Parameters, SearchQuery, SeparateQuery
from app.settings import Settings
from sae_core.families import FamilyConfig
from sae_core.families.model import ALGORITHMS
from tests.app.editors import Editing
from tests.app.served import Planted

ROOT = Path(__file__).parent.parent.parent
NAMED = {page.about.name: page for page in described()}


@lru_cache(maxsize=1)
def described_by(client: TestClient) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/openapi.json").json()
    return found


def example(path: str, operation: dict[str, Any]) -> str:
    """The address that the examples of an operation's parameters make."""
    chosen = []
    for each in operation["parameters"]:
        if each["in"] == "path":
            path = path.replace(f"{{{each['name']}}}", quote(each["example"], safe="/"))
        elif "example" in each:
            values = each["example"] if isinstance(each["example"], list) else [each["example"]]
            chosen += [(each["name"], value) for value in values]
    return f"{path}?{urlencode(chosen)}" if chosen else path


def addresses() -> list[str]:
    """Every address that the description must have."""
    found = []
    for page in described():
        path = "/index" if page.path == "/" else openapi.plain(page.path)
        suffixes = ["json", *(each.name for each in (page.files.formats if page.files else []))]
        found += [f"{path}.{suffix}" for suffix in suffixes]
    return found


def test_the_description_has_every_address(client: TestClient) -> None:
    assert sorted(described_by(client)["paths"]) == sorted(addresses())
    assert len(addresses()) > 40
    names = [each["get"]["operationId"] for each in described_by(client)["paths"].values()]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("path", addresses())
def test_every_address_answers_what_the_description_says(path: str, client: TestClient) -> None:
    document = described_by(client)
    operation = document["paths"][path]["get"]
    answer = client.get(example(path, operation))
    assert answer.status_code == 200, answer.text[:300]
    [(media, content)] = operation["responses"]["200"]["content"].items()
    assert answer.headers["content-type"] == media
    if media == "application/json":
        schema = content["schema"] | {"components": document["components"]}
        jsonschema.Draft202012Validator(schema).validate(answer.json())
    else:
        asked = operation["x-lists"]
        assert answer.headers["saefari-kind"].partition("/")[0] == asked[next(iter(asked))]["kind"]
    if media.startswith("text/csv"):
        columns = [column["name"] for column in asked[next(iter(asked))]["columns"]]
        assert answer.text.partition("\r\n")[0] == ",".join(columns)


def test_errors_answer_what_the_description_says(planted: Planted, client: TestClient) -> None:
    document = described_by(client)
    for url in (f"{planted.base}/features.json?page=x", "/gone.json", f"{planted.search}.csv?f=x"):
        answer = client.get(url)
        responses = document["paths"]["/{collection}/{sae}/search.json"]["get"]["responses"]
        schema = responses[str(answer.status_code)]["content"]["application/json"]["schema"]
        validator = jsonschema.Draft202012Validator(schema | {"components": document["components"]})
        validator.validate(answer.json())


def test_the_schemas_are_schemas_and_have_the_words_of_the_source(client: TestClient) -> None:
    schemas = described_by(client)["components"]["schemas"]
    for schema in schemas.values():
        jsonschema.Draft202012Validator.check_schema(schema)
    assert schemas["FeatureRow"]["properties"]["density"]["description"] == "share of documents, 0..1"
    used = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(described_by(client))))
    assert used <= schemas.keys()
    assert schemas.keys() <= used | {page.about.view.__name__ for page in described()}


READERS: dict[str, Callable[[str], object]] = {
    "search": lambda parameters: SearchQuery.parse("", "", parameters, 64),
    "features": lambda parameters: FeatureQuery.parse("", "", parameters),
    "feature": lambda parameters: EvidenceQuery.parse("", "", 3, parameters),
    "families": lambda parameters: FamilyQuery.parse(
        "", "", parameters, FamilyConfig(algorithm="paper"), ALGORITHMS
    ),
    "separate": lambda parameters: SeparateQuery.parse("", "", parameters),
}


@pytest.mark.parametrize("name", READERS)
def test_described_bounds_are_those_that_are_kept(name: str) -> None:
    """A bound that is described is one that is kept."""
    asked = NAMED[name].parameters()
    for parameter, schema in asked.items():
        for value in bad_values(schema):
            with pytest.raises(Exception, match=parameter):
                READERS[name](f"{parameter}={value}")
        for value in good_values(parameter, schema):
            READERS[name](f"{parameter}={value}")


@pytest.mark.parametrize("name", NAMED)
def test_every_address_refuses_what_is_beyond_its_bounds(name: str, client: TestClient) -> None:
    path = "/index" if name == "home" else openapi.plain(NAMED[name].path)
    url = example(f"{path}.json", described_by(client)["paths"][f"{path}.json"]["get"])
    chosen = [("algorithm", "paper")] if NAMED[name].about.group == "Families" else []  # which listens to all
    for parameter, schema in NAMED[name].parameters().items():
        for value in bad_values(schema):
            asked = urlencode([*chosen, (parameter, value)])
            answer = client.get(f"{url}{'&' if '?' in url else '?'}{asked}")
            assert answer.status_code == 400, answer.url
            assert parameter in answer.json()["message"]


def bad_values(schema: dict[str, Any]) -> list[str]:
    if "maximum" in schema:
        return [str(schema["maximum"] + 1), str(schema["minimum"] - 1), "nan"]
    if "enum" in schema:
        return ["secret"]
    return ["x" * (schema["maxLength"] + 1)] if "maxLength" in schema else []


def good_values(parameter: str, schema: dict[str, Any]) -> list[str]:
    if "maximum" in schema:
        return [str(schema["maximum" if "max" in parameter else "minimum"])]
    return list(schema.get("enum", []))


def test_every_parameter_is_put_into_words_and_none_that_is_gone() -> None:
    needed: set[str] = {"list"}
    for page in described():
        for parameter in page.parameters():
            assert openapi.words_of(page, parameter)
            keys = [f"{page.about.name}.{parameter}", f"{page.about.group}.{parameter}", parameter]
            needed.add(next(key for key in keys if key in openapi.WORDS))
    assert needed == openapi.WORDS.keys()


def test_the_recorder_reads_like_parameters() -> None:
    names = [name for name in vars(Parameters) if not name.startswith("_")]
    assert {"all", "text", "integer", "number", "choice", "flag"} <= set(names)
    assert Recorder().flag("x") is Parameters("").flag("x") is False


def broken_links(client: TestClient) -> list[str]:
    """Those of the page about the interface that lead nowhere."""
    links = [unescape(link) for link in re.findall(r'href="(/[^"]*)"', client.get(urls.docs()).text)]
    assert len(links) > 5
    return [link for link in set(links) if client.head(link).status_code not in {200, 303}]


def test_what_people_may_have_stored_is_shown_without_a_link_to_nothing(editing: Editing) -> None:
    client = editing.client()
    assert broken_links(client) == []
    page = client.get(urls.docs()).text
    assert "/planted/lenses.json" in page
    assert re.search(r"Such as <code>/planted/links/\w+</code>", page)


def test_the_page_shows_every_address_and_its_links_lead_somewhere(client: TestClient) -> None:
    answer = client.get(urls.docs())
    assert answer.status_code == 200
    for page in described():
        assert f"<code>{openapi.plain(page.path)}</code>" in answer.text
    assert broken_links(client) == []
    assert client.get(urls.json(urls.docs())).json()["version"] == openapi.VERSION


def test_without_a_collection_there_is_a_description_too(tmp_path: Path) -> None:
    with TestClient(create_app(Settings(home=tmp_path))) as client:
        assert client.get("/openapi.json").json()["paths"]
        assert broken_links(client) == []


def test_the_document_about_formats_has_every_column_and_every_format() -> None:
    """docs/api.md is what people and programs rely on: a column that changes its name is noticed here."""
    text = (ROOT / "docs/api.md").read_text(encoding="utf-8")
    tables = dict(re.findall(r"^### `([\w-]+)`\n(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL))
    assert tables.keys() == {*(kind.name for kind in kinds.KINDS), "documents"}
    for kind in kinds.KINDS:
        named = re.findall(r"^\| `(\w+)` \| (\w+) \|", tables[kind.name], re.MULTILINE)
        assert named == [(column.name, column.type) for column in kind.own]
        assert f"Version {kind.version}" in tables[kind.name]
        assert not kind.cap or f"{kind.cap:,} rows" in tables[kind.name]
    common = re.findall(r"^\| `(\w+)` \| (\w+) \|", tables["documents"], re.MULTILINE)
    assert common == [(column.name, column.type) for column in kinds.RESULTS.columns[-len(common) :]]
    assert {f"`.{name}`" for name in FORMATS} <= set(re.findall(r"`\.\w+`", text))


def test_a_described_page_is_found_in_the_order_of_reading() -> None:
    groups = [page.about.group for page in described()]
    assert groups == sorted(groups, key=groups.index)
    assert isinstance(described()[0], Described)
