"""Claims about lists of documents as they are served: to be cited, and to be followed."""

from __future__ import annotations

import feedparser
import numpy as np
import pytest
from bibtexparser.entrypoint import parse_string
from fastapi.testclient import TestClient

from app import urls
from app.formats.feed import entry_id
from tests.app.served import Planted
from tests.planted import WORDS


@pytest.fixture(params=["search", "feature", "family", "document"])
def page(request: pytest.FixtureRequest, client: TestClient, planted: Planted) -> str:
    """A page with documents."""
    name, sae = planted.explorer.name, planted.sae
    latent = int(np.argmax(planted.set.features.n_documents_N))
    feature = urls.feature(name, sae, latent)
    pages = {
        "search": urls.search(name, sae, WORDS[0], [(latent, 0.5)]),
        "feature": feature,
        "family": urls.family(name, sae, planted.set.forest.families[0].id),
        "document": client.get(urls.json(feature)).json()["groups"][0][1][0]["url"],
    }
    chosen: str = pages[request.param]
    return chosen


def test_bibtex_ris_and_feed_have_the_same_documents(client: TestClient, planted: Planted, page: str) -> None:
    bib, ris, atom = (client.get(urls.twin(page, name)) for name in ("bib", "ris", "atom"))
    assert {answer.status_code for answer in (bib, ris, atom)} == {200}
    library = parse_string(bib.text)
    assert library.failed_blocks == []
    keys = [entry.key for entry in library.entries]
    assert keys == [line[6:] for line in ris.text.splitlines() if line.startswith("ID  - ")]
    assert len(set(keys)) == len(keys) > 0
    feed = feedparser.parse(atom.content)
    assert not feed.bozo
    names = [key.rpartition(":")[2] for key in keys]
    assert [entry.id for entry in feed.entries] == [entry_id(planted.explorer.name, name) for name in names]
    assert feed.feed.links[1].href == f"http://testserver{page}"


def test_a_feed_knows_its_own_address(client: TestClient, planted: Planted) -> None:
    latent = int(np.argmax(planted.set.features.n_documents_N))
    found = client.get(urls.json(urls.feature(planted.explorer.name, planted.sae, latent))).json()
    document = found["groups"][0][1][0]["url"]
    feeds = {}
    for chosen in ([], [("list", "neighbours")]):
        address = urls.twin(document, "atom", chosen)
        feed = feedparser.parse(client.get(address).content).feed
        assert feed.links[0].href == f"http://testserver{address}"
        feeds[address] = feed.id
    assert len(set(feeds.values())) == 2


def test_a_list_is_asked_for_by_its_media_type(client: TestClient, planted: Planted) -> None:
    search = urls.search(planted.explorer.name, planted.sae, WORDS[0])
    for media in ("application/x-bibtex", "application/x-research-info-systems", "application/atom+xml"):
        answer = client.get(search, headers={"Accept": media})
        assert answer.headers["Content-Type"].startswith(media)
        assert "Accept" in answer.headers["Vary"]


def test_a_page_names_its_feed(client: TestClient, planted: Planted) -> None:
    search = urls.search(planted.explorer.name, planted.sae, WORDS[0])
    feed = f'<link rel="alternate" type="application/atom+xml" href="{urls.twin(search, "atom")}">'
    assert feed in client.get(search).text


def test_lists_of_anything_else_cannot_be_cited(client: TestClient, planted: Planted) -> None:
    for name in ("bib", "ris", "atom"):
        assert client.get(f"{planted.base}/features.{name}").status_code == 404
