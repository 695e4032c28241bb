"""Searches for a text where no encoder is there: its words find, moves shift."""

from __future__ import annotations

import html
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app import urls
from app.catalog import FILE_NAME, Catalog
from tests.app.served import Planted, serve
from tests.planted import WORDS, documents

Q = f"{WORDS[5]} {WORDS[30]}"
PARTIAL = {"HX-Request": "true", "HX-Request-Type": "partial", "HX-Target": "section#results"}


@pytest.fixture(scope="module")
def client(planted: Planted) -> Iterator[TestClient]:
    """A site whose collection came with embeddings made elsewhere."""
    with TestClient(serve(planted, planted.without_encoder()), follow_redirects=False) as client:
        yield client


@pytest.fixture(scope="module")
def with_words(planted: Planted) -> list[str]:
    """The documents with words of `Q`, best match first."""
    catalog = Catalog(planted.explorer.path / FILE_NAME)
    found = [document.id for document in catalog.documents(catalog.keyword_hits(Q).tolist())]
    catalog.close()
    assert len(found) > 40
    return found


def ask(client: TestClient, planted: Planted, **parameters: Any) -> dict[str, Any]:
    answer = client.get(urls.json(planted.search), params={"q": Q, **parameters})
    assert answer.status_code == 200, answer.text
    view: dict[str, Any] = answer.json()
    return view


def ids(view: dict[str, Any]) -> list[str]:
    return [row["document"]["id"] for row in view["results"]]


def test_words_alone_find_and_order(client: TestClient, planted: Planted, with_words: list[str]) -> None:
    view = ask(client, planted)
    assert ids(view) == with_words[:10]
    assert view["page"]["total"] == view["n_keywords"] == len(with_words)
    assert ids(ask(client, planted, page=3)) == with_words[20:30]
    assert view["is_by_words"]
    assert not view["is_steered"]
    assert [row["moved"] for row in view["results"]] == [None] * 10
    assert view["faithful"] is None
    assert ids(ask(client, planted, keywords=0.3)) == with_words[:10]  # there is no meaning to weigh them by


def test_sliders_begin_from_the_mean_of_the_ten_best(
    client: TestClient, planted: Planted, with_words: list[str]
) -> None:
    explorer, known = planted.explorer, [document.id for document in documents(600)]
    mean_D = explorer.start(like=[known.index(each) for each in with_words[:10]])
    own = explorer.code(planted.sae, mean_D).own
    view = ask(client, planted)
    sliders = {slider["latent"]: slider["own"] for slider in view["sliders"] + view["more_sliders"]}
    assert sliders == pytest.approx(own, abs=5e-4)
    scores = {known[at]: float(explorer.vector(at) @ mean_D) for at in range(600)}
    for row in view["results"]:
        assert row["score"] == pytest.approx(scores[row["document"]["id"]], abs=1e-5)


def test_moves_shift_and_never_bring_in_a_document_without_the_words(
    client: TestClient, planted: Planted, with_words: list[str]
) -> None:
    most = [ask(client, planted)["sliders"][0], ask(client, planted)["sliders"][-1]]
    found = set()
    for slider in most:
        view = ask(client, planted, f=f"{slider['latent']}:+2.000")
        assert view["is_steered"]
        assert view["page"]["total"] == len(with_words)
        assert set(ids(view)) <= set(with_words)
        assert ids(view) != with_words[:10]
        places = {each: place for place, each in enumerate(with_words)}
        for row in view["results"]:
            assert row["moved"] == places[row["document"]["id"]] - (row["rank"] - 1)
        assert [row["document"]["title"] for row in view["plain"]] != []
        found.add(tuple(ids(view)))
    assert len(found) == 2


def test_demands_filters_and_documents_apply_to_them(
    client: TestClient, planted: Planted, with_words: list[str]
) -> None:
    years = {document.id: document.year for document in documents(600)}
    late = [each for each in with_words if (years[each] or 0) >= 2011]
    view = ask(client, planted, year_min=2011)
    assert (ids(view), view["page"]["total"]) == (late[:10], len(late))
    assert ask(client, planted, diverse=1)["page"]["total"] < len(with_words)
    latent = view["sliders"][0]["latent"]
    required = ask(client, planted, require=latent)
    excluded = ask(client, planted, exclude=latent)
    assert required["page"]["total"] + excluded["page"]["total"] == len(with_words)
    liked = ask(client, planted, like=with_words[30])
    assert ids(liked)[:10] != with_words[:10]
    assert set(ids(liked)) <= set(with_words)
    assert "No document with these words passes" in ask(client, planted, year_min=2100)["message"]


@pytest.mark.parametrize(
    ("state", "why"),
    [("absent", "made elsewhere"), ("failed", "does not answer"), ("loading", "being loaded")],
)
def test_page_box_and_fragment_say_why(state: str, why: str, planted: Planted) -> None:
    with TestClient(serve(planted, planted.without_encoder(state))) as client:
        page = html.unescape(client.get(planted.search, params={"q": Q}).text)
        for said in ("Search by words", "not by meaning", why, "with words of your query, best match first"):
            assert said in page
        assert "Search by meaning" not in page
        assert 'id="keywords"' not in page  # a weight that would change nothing
        fragment = client.get(planted.search, params={"q": Q}, headers=PARTIAL).text
        assert why in fragment
        for address in (planted.search, urls.collection(planted.explorer.name)):
            empty = client.get(address).text
            assert why in empty
            assert "Documents with your words are found instead" in empty
        assert why in ask(client, planted)["text_problem"]


def test_where_an_encoder_is_there_nothing_is_said_of_it(planted: Planted) -> None:
    with TestClient(serve(planted)) as client:
        view = ask(client, planted)
        assert (view["is_by_words"], view["text_problem"]) == (False, None)
        assert "Search by meaning" in client.get(planted.search, params={"q": Q}).text


def test_reasons_marks_and_features_work_as_ever(
    client: TestClient, planted: Planted, with_words: list[str]
) -> None:
    view = ask(client, planted, why=with_words[0], against=with_words[1], up=with_words[3], find=WORDS[5])
    why = view["why"]
    total = sum(part["value"] for part in why["parts"]) + why["bias"] + why["missed"]
    assert total == pytest.approx(why["score"], abs=1e-4)
    assert view["proposals"]["n_up"] == 1
    assert {found["by"] for found in view["found"]} == {"words"}
    assert view["previews"]
