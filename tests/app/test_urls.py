"""Addresses arrive as they were sent, whatever is in a document's id."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app import urls
from app.catalog import Catalog
from app.query import clean
from tests.app.served import Planted

ODD_IDS = [
    "astro-ph/9501001",
    "../../etc/passwd",
    "a//b",
    "/a",
    "a/",
    ".",
    "..",
    "a/./b",
    "report.json",
    "100%",
    "%2F",
    "a?b#c",
    "a+b c",
    "שלום/דג.v2",
    "<script>",
    "😀\"'",
    "a\\b",
]


def asked_for(client: TestClient, url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The id that the catalogue is asked for when a browser follows `url`."""
    found: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(Catalog, "find_position", lambda _, document: found.append(document))
        assert client.get(url).status_code == 404
    return found[0]


@pytest.mark.parametrize("document", ODD_IDS)
def test_odd_ids_arrive(
    document: str, planted: Planted, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = urls.document(planted.explorer.name, document)
    assert asked_for(client, url, monkeypatch) == document
    assert asked_for(client, urls.json(url), monkeypatch) == document


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(document=st.text(min_size=1, max_size=30).map(clean).filter(bool))
def test_all_ids_arrive(
    document: str, planted: Planted, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = urls.document(planted.explorer.name, document)
    assert asked_for(client, url, monkeypatch) == document


@given(st.text(), st.text(), st.text(min_size=1))
def test_addresses_stay_on_this_site(collection: str, sae: str, document: str) -> None:
    for url in (
        urls.search(f"x{collection}", f"x{sae}", document),
        urls.document(f"x{collection}", document),
    ):
        assert url.isascii()
        assert url.startswith("/")
        assert not url.startswith("//")
        assert urlsplit(url).netloc == ""


def test_twins() -> None:
    assert urls.json("/") == "/index.json"
    assert urls.json("/c/s/search?q=a.b") == "/c/s/search.json?q=a.b"


def test_an_odd_doi_stays_one_address() -> None:
    assert urls.doi("10.1000/a(b):c?d#e%2F") == "https://doi.org/10.1000/a(b):c%3Fd%23e%252F"


def test_files_carry_a_version_of_their_content() -> None:
    url = urls.static("app.css")
    assert unquote(url).startswith("/static/app.css?v=")
    assert urls.static("missing.css") == "/static/missing.css"
