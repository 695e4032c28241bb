"""What separates two sets of documents: the sets that can be named, what is said of them, what cannot be."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from fastapi.testclient import TestClient

from app import urls
from sae_core.contrast import separate
from tests.app.served import Planted
from tests.planted import WORDS, documents

TOPIC, OTHER = WORDS[31], WORDS[40]
DOCUMENTS = documents(600)


def about(word: str, n: int = 12) -> list[int]:
    """Documents with a word, and not with that of the other topic."""
    unwanted = OTHER if word == TOPIC else TOPIC
    titles = [each.title.split() for each in DOCUMENTS]
    return [at for at, words in enumerate(titles) if word in words and unwanted not in words][:n]


def ids(positions: list[int]) -> list[str]:
    return [DOCUMENTS[at].id for at in positions]


def address(planted: Planted, parameters: str = "", suffix: str = "") -> str:
    path = urls.separate(planted.explorer.name, planted.sae) + suffix
    return f"{path}?{parameters}" if parameters else path


def ticked(a: list[int], b: list[int]) -> str:
    pairs = [("a", each) for each in ids(a)] + [("b", each) for each in ids(b)]
    return "&".join(f"{name}={quote(each)}" for name, each in pairs)


def ask(client: TestClient, planted: Planted, parameters: str = "") -> dict[str, Any]:
    answer = client.get(address(planted, parameters, ".json"))
    assert answer.status_code == 200
    page = client.get(address(planted, parameters))
    assert page.status_code == 200
    assert "What separates these sets" in page.text
    found: dict[str, Any] = answer.json()
    return found


def test_ticked_sets_are_separated_by_their_topics(client: TestClient, planted: Planted) -> None:
    a, b = about(TOPIC), about(OTHER)
    view = ask(client, planted, ticked(a, b))
    assert (view["a"]["n"], view["b"]["n"]) == (len(a), len(b))
    assert TOPIC in view["more_in_a"][0]["feature"]["label"].lower()
    assert OTHER in view["more_in_b"][0]["feature"]["label"].lower()
    expected = {each.latent: each for each in separate(planted.set.codes, a, b)}
    for row in view["more_in_a"] + view["more_in_b"]:
        each = expected[row["feature"]["latent"]]
        assert (row["n_a"], row["n_b"], row["q"]) == (each.n_a, each.n_b, each.q)
        assert (row["low"], row["high"]) == (each.log_odds.low, each.log_odds.high)
        assert row["passes"]
    assert view["message"] is None
    assert view["n_more_in_a"] == sum(e.q <= 0.05 and e.log_odds.value > 0 for e in expected.values())


def test_each_document_can_be_left_out_and_the_sets_swapped(client: TestClient, planted: Planted) -> None:
    a, b = about(TOPIC), about(OTHER)
    view = ask(client, planted, ticked(a, b))
    (_, without), *_ = view["a"]["documents"]
    smaller = client.get(urls.json(without)).json()
    assert smaller["a"]["n"] == len(a) - 1
    swapped = client.get(urls.json(view["swap_url"])).json()
    assert [row["feature"] for row in swapped["more_in_b"]] == [row["feature"] for row in view["more_in_a"]]


def test_a_feature_leads_to_a_search_steered_towards_it(client: TestClient, planted: Planted) -> None:
    view = ask(client, planted, f"{ticked(about(TOPIC), [])}&q={WORDS[5]}")
    row = view["more_in_a"][0]
    assert row["steer_url"].startswith(urls.search(planted.explorer.name, planted.sae, WORDS[5]))
    found = client.get(urls.json(row["steer_url"])).json()
    slider = next(s for s in found["sliders"] if s["latent"] == row["feature"]["latent"])
    assert slider["strength"] > slider["own"]
    assert client.get(row["feature"]["url"]).status_code == 200


def test_a_set_alone_is_compared_with_all_others(client: TestClient, planted: Planted) -> None:
    a = about(TOPIC)
    view = ask(client, planted, ticked(a, []))
    assert view["is_rest"]
    assert view["b"]["n"] == planted.explorer.n_documents - len(a)
    assert TOPIC in view["more_in_a"][0]["feature"]["label"].lower()


def test_years_and_texts_are_sets_too(client: TestClient, planted: Planted) -> None:
    years = planted.explorer.metadata.years_M
    view = ask(client, planted, "a_years=2003-2005&b_years=2010")
    assert view["a"]["n"] == int(((years >= 2003) & (years <= 2005)).sum())
    assert view["b"]["n"] == int((years == 2010).sum())
    assert view["a"]["text"] == "documents of 2003–2005"
    view = ask(client, planted, f"a_q={TOPIC}&b_q={OTHER}")
    n_both = 50 - view["a"]["n"]
    assert view["a"]["n"] == view["b"]["n"]
    assert TOPIC in view["more_in_a"][0]["feature"]["label"].lower()
    assert len(view["remarks"]) == 2 + bool(n_both)


def test_what_is_in_both_sets_counts_in_neither(client: TestClient, planted: Planted) -> None:
    a, b = about(TOPIC), about(OTHER)
    plain = ask(client, planted, ticked(a, b))
    view = ask(client, planted, ticked([*a, b[0], 3], [*b, a[0], 3]))
    assert view["remarks"] == ["3 documents are in both sets and count in neither."]
    assert (view["a"]["n"], view["b"]["n"]) == (len(a) - 1, len(b) - 1)
    one = ask(client, planted, ticked([*a, 3], [*b, 3]))
    assert one["remarks"] == ["One document is in both sets and counts in neither."]
    assert one["more_in_a"] == plain["more_in_a"] or len(one["more_in_a"]) == len(plain["more_in_a"])


def test_rows_are_sorted_as_asked_and_come_in_pages(client: TestClient, planted: Planted) -> None:
    parameters = ticked(about(TOPIC), [])
    shown = {
        sort: ask(client, planted, f"{parameters}&sort={sort}")["more_in_a"]
        for sort in ("evidence", "odds", "share", "label")
    }
    assert [row["q"] for row in shown["evidence"]] == sorted(row["q"] for row in shown["evidence"])
    lows = [row["low"] for row in shown["odds"]]
    assert lows == sorted(lows, reverse=True)
    gaps = [row["share_a"] - row["share_b"] for row in shown["share"]]
    assert gaps == sorted(gaps, reverse=True)
    labels = [row["feature"]["label"].casefold() for row in shown["label"]]
    assert labels == sorted(labels)
    assert ask(client, planted, f"{parameters}&page=9")["more_in_a"] == []


SENTENCES = {
    "": "Set A has no documents yet",
    "b_years=2005": "Set A has no documents yet",
    "a_years=1800": "No document is of 1800: the known years are 2001 to 2020.",
    "a_years=2005&b_years=1800-1900": "No document is of 1800–1900",
    "a_years=2005&b_years=2005": "Both sets are the same documents",
    "a_years=2005&b_years=2001-2020": "Every document of set A is in set B too",
    "a_years=2001-2020&b_years=2005": "Every document of set B is in set A too",
    "a=doc-0100&b=doc-0200": "too small for any feature to pass",
    "a=doc-0100&a=doc-0101&a=doc-0102&b=doc-0200&b=doc-0201&b=doc-0202": "too small for any feature",
    "a_years=2001-2005&b_years=2006-2010": "No feature is told apart from chance",
}


@pytest.mark.parametrize("parameters", SENTENCES)
def test_sets_that_tell_nothing_say_why(client: TestClient, planted: Planted, parameters: str) -> None:
    view = ask(client, planted, parameters)
    assert SENTENCES[parameters] in view["message"]
    assert (view["n_more_in_a"], view["n_more_in_b"], view["page"]) == (0, 0, None)
    assert not any(row["passes"] for row in view["more_in_a"] + view["more_in_b"])


def test_a_document_that_is_not_here_is_named_and_can_be_left_out(
    client: TestClient, planted: Planted
) -> None:
    answer = client.get(address(planted, "a=doc-0100&b=gone"))
    assert answer.status_code == 404
    assert "There is no document &#34;gone&#34;" in answer.text
    assert address(planted, "a=doc-0100") in answer.text


BAD = [
    "a_years=x",
    "a_years=2005-2001",
    "a_years=20051",
    "a_years=2001-2003-2004",
    "a_years=-5",
    "a=doc-0100&a_years=2005",
    "b_years=2005&b_q=word",
    "sort=other",
    "page=0",
    "page=99999999999999999999",
    "a_q=" + "x" * 2001,
    "&".join(f"a=doc-{i:04}" for i in range(51)),
    "a=" + "x" * 1001,
]


@pytest.mark.parametrize("parameters", BAD)
def test_a_mistake_in_the_address_is_a_sentence(
    client: TestClient, planted: Planted, parameters: str
) -> None:
    answer = client.get(address(planted, parameters))
    assert answer.status_code == 400
    assert "Allowed:" in answer.text


@pytest.mark.parametrize("text", ["\0", "😀\"'", "<script>alert(1)</script>", "the OR *", "%"])
def test_odd_texts_are_texts(client: TestClient, planted: Planted, text: str) -> None:
    answer = client.get(address(planted, f"a_q={quote_plus(text)}"))
    assert answer.status_code == 200
    assert "<script>alert" not in answer.text


def test_odd_titles_and_ids_survive(client: TestClient, planted: Planted) -> None:
    answer = client.get(address(planted, "a=odd/0.v1&a=odd/1.v1&b=odd/2.v1"))
    assert answer.status_code == 200
    assert "<script>alert" not in answer.text


def test_without_an_encoder_the_words_of_a_text_choose_a_set(planted: Planted) -> None:
    from sae_core.explorer import Explorer
    from tests.app.served import serve

    bare = Explorer.load(planted.home / "collections" / planted.explorer.name)
    with TestClient(serve(planted, bare)) as client:
        view = ask(client, planted, f"a_q={WORDS[0]}")
        assert view["a"]["n"] == 50
        assert all(WORDS[0] in document["title"] for document, _ in view["a"]["documents"])
        assert "by the words of a text" in view["remarks"][0]
        assert "cannot be embedded here" in view["remarks"][0]
        assert "No document has the words of “xyzzy”" in ask(client, planted, "a_q=xyzzy")["message"]
        assert ask(client, planted, "a_years=2003")["a"]["n"] > 0
