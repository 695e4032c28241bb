"""Requests that were made to do harm: whatever is sent, an answer is one of ours.

Three makers: the application's own OpenAPI document, odd values in every part of every address, and odd
headers. `make attack` sends 10,000 requests; a plain run some hundreds.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlencode

import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.core.result import Ok

from tests.app.attacks import MARKER, N_REQUESTS, ODD, PARTIAL, ask, check, inspect, some
from tests.app.served import Planted
from tests.planted import WORDS

METHODS = ["GET", "GET", "GET", "GET", "GET", "GET", "HEAD", "POST", "PUT", "DELETE", "TRACE", "BREW"]


@pytest.mark.parametrize(
    "page",
    [
        MARKER,
        "<p title='x' onmouseover=alert(7)>",
        "<a href='java&#10;script:alert(7)'>",
        "<a href='//evil.example'>",
        "<script src='https://evil.example/x.js'></script>",
        "<script src='/static/app.js'>alert(7)</script>",
        "<p hx-on:click='alert(7)'>",
    ],
)
def test_the_inspector_finds_what_runs(page: str) -> None:
    assert inspect(page) != []


# --- requests from the document of the interface ----------------------------------------------------


@pytest.fixture(scope="module")
def names(planted: Planted, client: TestClient) -> dict[str, str]:
    """What stands for the names in a path."""
    family = str(next(iter(planted.set.forest.families)).id)
    return {
        "collection": planted.explorer.name,
        "sae": planted.sae,
        "latent": "3",
        "family": family,
        "document": "doc-0100",
    }


def targets_of(operation: Any, mode: GenerationMode, names: dict[str, str]) -> st.SearchStrategy[str]:
    """Addresses that the document allows, or does not; half of them of things that are there."""

    def target(drawn: tuple[Any, bool]) -> str:
        case, is_known = drawn
        filled = {name: names.get(name, "x") for name in case.path_parameters or {}}
        path = operation.path.format(**filled) if is_known else case.formatted_path
        pairs = urlencode(case.query or {}, doseq=True, errors="replace")
        return f"{path}?{pairs}" if pairs else str(path)

    return st.tuples(operation.as_strategy(generation_mode=mode), st.booleans()).map(target)


def test_what_the_interface_describes_is_answered(client: TestClient, names: dict[str, str]) -> None:
    document = client.get("/openapi.json").json()
    schema = schemathesis.openapi.from_dict(document)
    operations = [each.ok() for each in schema.get_all_operations() if isinstance(each, Ok)]
    assert len(operations) > 40
    if N_REQUESTS < 1000:  # the formats of a list read the same parameters
        operations = [each for each in operations if each.path.endswith((".json", ".atom"))]
    n = 0
    for operation in operations:
        described = {int(status) for status in document["paths"][operation.path]["get"]["responses"]}
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            if mode is GenerationMode.NEGATIVE and not list(operation.query):
                continue  # any text is a name: nothing here can be wrong

            @some(max(1, N_REQUESTS // (4 * len(operations))))
            @given(targets_of(operation, mode, names))
            def law(target: str) -> None:
                nonlocal n
                n += 1
                answer = ask(client, target, by="schemathesis")
                check(answer, target)
                assert answer.status in described | {301, 307, 308, 414}, f"{answer.status} {target}"  # noqa: B023 (called at once)

            law()
    assert n >= N_REQUESTS // 8


# --- requests with odd values everywhere -----------------------------------------------------------

REAL = [
    "3",
    "3:+0.40",
    "0",
    "1",
    "2",
    "0.5",
    "doc-0100",
    "odd/0.v1",
    "Journal 1",
    "group-1",
    "dust",
    *WORDS[:3],
]
SUFFIXES = [
    "",
    "",
    "",
    ".json",
    ".csv",
    ".parquet",
    ".bib",
    ".ris",
    ".atom",
    ".png",
    ".html",
    ".JSON",
    ".json.csv",
]
PATHS = [
    "/",
    "/index",
    "/docs",
    "/openapi",
    "/live",
    "/ready",
    "/static/{odd}",
    "/static/app.css",
    "/{odd}",
    "/{odd}/{odd}",
    "/{collection}",
    "/{collection}/{odd}",
    "/{collection}/compare",
    "/{collection}/documents",
    "/{collection}/documents/{document}",
    "/{collection}/documents/{odd}",
    "/{collection}/{sae}",
    "/{collection}/{sae}/{odd}",
    "/{collection}/{sae}/search",
    "/{collection}/{sae}/separate",
    "/{collection}/{sae}/features",
    "/{collection}/{sae}/features/random",
    "/{collection}/{sae}/features/{latent}",
    "/{collection}/{sae}/features/{odd}",
    "/{collection}/{sae}/features/{latent}/embed",
    "/{collection}/{sae}/features/{latent}/{odd}",
    "/{collection}/{sae}/families",
    "/{collection}/{sae}/families/{family}",
    "/{collection}/{sae}/families/{odd}",
]
HEADERS = [
    "Accept",
    "Accept-Encoding",
    "Accept-Language",
    "Cookie",
    "Forwarded",
    "Host",
    "HX-Current-URL",
    "HX-Request",
    "HX-Request-Type",
    "HX-Target",
    "If-Modified-Since",
    "If-None-Match",
    "Origin",
    "Range",
    "Referer",
    "Sec-Fetch-Site",
    "Traceparent",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Proto",
    "X-Forwarded-Prefix",
    "X-HTTP-Method-Override",
    "X-Original-URL",
    "X-Request-ID",
]
ACCEPTED = [
    "text/html",
    "application/json",
    "text/csv",
    "*/*;q=0",
    "application/x-bibtex",
    "image/png",
    "x/y;q=nan",
]
HEADER_VALUES = st.one_of(
    st.sampled_from([*ACCEPTED, *PARTIAL.values(), "evil.example", 'W/"x"', "gzip;q=x", "br", "bytes=0-,0-"]),
    ODD.map(lambda text: re.sub(r"[\r\n\0]", "", text.encode("latin-1", "replace").decode("latin-1"))),
)


def parameters_of(client: TestClient) -> list[str]:
    """Names that any address knows."""
    paths = client.get("/openapi.json").json()["paths"].values()
    found = {each["name"] for path in paths for each in path["get"].get("parameters", [])}
    return [*sorted(found), "next", "odd"]


@st.composite
def requests(
    draw: Callable[[Any], Any], names: dict[str, str], known: list[str]
) -> tuple[str, str, dict[str, str]]:
    """Method, target and headers."""

    def part(name: str) -> str:
        return quote(names[name] if name in names else draw(ODD), safe=draw(st.sampled_from(["", "/"])))

    pattern = draw(st.sampled_from(PATHS))
    path = re.sub(r"{(\w+)}", lambda found: part(found[1]), pattern) + draw(st.sampled_from(SUFFIXES))
    value = st.one_of(ODD, st.sampled_from(REAL))
    pairs = draw(st.lists(st.tuples(st.one_of(st.sampled_from(known), ODD), value), max_size=5))
    query = urlencode(pairs, errors="replace")
    headers = draw(st.dictionaries(st.sampled_from(HEADERS), HEADER_VALUES, max_size=3))
    return draw(st.sampled_from(METHODS)), f"{path}?{query}" if query else path, headers


def test_odd_values_in_every_place_are_answered(client: TestClient, names: dict[str, str]) -> None:
    @some(N_REQUESTS // 2)
    @given(requests(names, parameters_of(client)))
    def law(request: tuple[str, str, dict[str, str]]) -> None:
        method, target, headers = request
        answer = ask(client, target, headers, method, by="odd values")
        check(answer, f"{method} {target} {headers}")
        # 307: the same without a slash at the end, where it is refused
        assert answer.status in {307, 308} or answer.status >= 400 or method in {"GET", "HEAD"}, target

    law()


def test_a_script_in_any_parameter_of_any_page_is_text(client: TestClient, names: dict[str, str]) -> None:
    """Each name alone, too: chance would hardly try them all."""
    known = parameters_of(client)
    pages = [path for path in PATHS if "{odd}" not in path and "{collection}" in path]
    chosen = {"q": WORDS[0], "f": "3:+0.40"}
    for path in pages:
        filled = path.format(**names)
        everything = {**dict.fromkeys(known, f"\"'>{MARKER}"), **({} if "search" not in path else chosen)}
        for query in [{name: f"\"'>{MARKER}"} for name in known] if path.endswith("search") else [everything]:
            target = f"{filled}?{urlencode(query)}"
            for headers in ({}, PARTIAL):
                check(ask(client, target, headers, by="each name"), target)
