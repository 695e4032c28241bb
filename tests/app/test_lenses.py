"""Lenses over HTTP: named, stacked, reordered, taken apart, pasted, and used on another SAE."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from fastapi.testclient import TestClient

from app import urls
from app.main import create_app
from app.query import SearchQuery
from app.settings import Settings
from sae_core.families import Family
from sae_core.sae import SAE
from sae_core.splitting import Matches
from tests.app.served import Planted, serve
from tests.planted import WORDS

View = dict[str, Any]
Q = WORDS[6]
OTHER = "k4-n64-ffffff"


def ask(client: TestClient, url: str, **parameters: Any) -> View:
    answer = client.get(urls.json(url), params=parameters or None)
    assert answer.status_code == 200, answer.text
    view: View = answer.json()
    return view


def follow(client: TestClient, url: str, **parameters: Any) -> View:
    """The page that a form leads to."""
    sent = client.build_request("GET", url).url.copy_merge_params(parameters)
    answer = client.get(sent)
    assert answer.status_code == 303
    return ask(client, answer.headers["location"])


def ranking(view: View) -> list[tuple[int, float]]:
    return [(row["document"]["position"], row["score"]) for row in view["results"]]


@pytest.fixture(scope="module")
def family(planted: Planted) -> Family:
    return planted.set.families[0]


@pytest.fixture(scope="module")
def moved(planted: Planted, family: Family) -> SearchQuery:
    return SearchQuery(
        planted.explorer.name,
        planted.sae,
        q=Q,
        strengths=((40, 0.3), (41, -0.2)),
        excluded=(42,),
        ignored=(43,),
        families=((family.id, 0.1),),
    )


def test_moves_become_a_lens_that_does_the_same(client: TestClient, moved: SearchQuery) -> None:
    by_hand = ask(client, moved.url())
    view = follow(client, moved.url(), lens_name=" far  & faint ")
    (lens,) = view["lenses"]
    assert (lens["name"], lens["is_foreign"], lens["remark"]) == ("far & faint", False, "")
    assert ranking(view) == ranking(by_hand)
    assert view["cosine"] == by_hand["cosine"]
    query = urlsplit(view["url"]).query
    assert query.startswith(f"q={Q}&lens=far+%26+faint;{moved.sae};40:%2B0.30,41:-0.20,-42,~43,F")
    assert "&f=" not in query
    unfolded = ask(client, lens["unfold_url"])
    assert unfolded["url"] == by_hand["url"]
    assert ranking(ask(client, lens["share_url"])) == ranking(ask(client, moved.url(q="")))
    assert ask(client, lens["remove_url"])["moves"] == []


def test_a_lens_is_carried_as_json(client: TestClient, moved: SearchQuery) -> None:
    made = follow(client, moved.url(), lens_name="far")
    text = made["lenses"][0]["text"]
    assert json.loads(text)["collection"] == moved.collection
    assert all(move["label"] for move in json.loads(text)["moves"])
    plain = moved.url(strengths=(), excluded=(), ignored=(), families=())
    pasted = follow(client, plain, paste=text)
    assert pasted["url"] == made["url"]
    twin = client.get(client.build_request("GET", urls.json(plain)).url.copy_merge_params({"paste": text}))
    assert twin.status_code == 303
    assert twin.headers["location"] == urls.json(made["url"])


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"paste": "hello"}, "no JSON"),
        (
            {
                "paste": '{"saefari_lens": 1, "name": "x", "sae": "a;b", '
                '"moves": [{"feature": 1, "mode": "ignore"}]}'
            },
            "lens",
        ),
        ({"paste": "x" * 17_000}, "characters"),
        ({"lens_name": "empty"}, "moves nothing"),
        ({"lens_name": "ninth", "f": "40:+0.30", "lens": ["a;s;1:0.1"] * 8}, "8 lenses already"),
    ],
)
def test_what_cannot_become_a_lens_is_explained_beside_the_panel(
    parameters: dict[str, Any], words: str, planted: Planted, client: TestClient
) -> None:
    page = client.get(planted.search, params={"q": Q, **parameters})
    assert page.status_code == 400
    assert words in page.text
    assert 'id="panel"' in page.text
    assert client.get(urls.json(planted.search), params={"q": Q, **parameters}).status_code == 400


def test_later_lenses_and_moves_by_hand_win(planted: Planted, client: TestClient) -> None:
    first, second = f"a;{planted.sae};40:+0.30,~41,!3", f"b;{planted.sae};40:-0.30,41:+0.20,-3"
    both = ask(client, planted.search, q=Q, lens=[first, second])
    assert ranking(both) == ranking(ask(client, planted.search, q=Q, f=["40:-0.30", "41:+0.20"], exclude=3))
    turned = ask(client, both["lenses"][0]["down_url"])
    assert [lens["name"] for lens in turned["lenses"]] == ["b", "a"]
    assert ranking(turned) == ranking(ask(client, planted.search, q=Q, f="40:+0.30", ignore=41, require=3))
    assert ask(client, turned["lenses"][1]["up_url"])["url"] == both["url"]
    assert both["lenses"][0]["up_url"] is None
    by_hand = ask(client, planted.search, q=Q, lens=[first, second], f="40:+0.10", require=3)
    assert ranking(by_hand) == ranking(
        ask(client, planted.search, q=Q, f=["40:+0.10", "41:+0.20"], require=3)
    )


def test_a_slider_under_a_lens_stands_where_the_lens_puts_it(planted: Planted, client: TestClient) -> None:
    own = ask(client, planted.search, q=Q)["sliders"][0]
    view = ask(client, planted.search, q=Q, lens=f"a;{planted.sae};{own['latent']}:-0.25")
    slider = next(s for s in view["sliders"] if s["latent"] == own["latent"])
    assert (slider["base"], slider["strength"], slider["own"]) == (-0.25, -0.25, own["own"])
    back = ask(client, slider["reset_url"])  # to the query's own, against the lens
    assert f"f={urls.strength(own['latent'], own['own'])}" in back["url"]
    assert ranking(back) == ranking(ask(client, planted.search, q=Q))
    again = ask(client, planted.search, q=Q, lens=f"a;{planted.sae};40:+0.20", f="40:+0.20")
    assert "&f=" not in again["url"]  # what the lens says already need not be said


def test_a_lens_that_ignores_can_be_overruled(planted: Planted, client: TestClient) -> None:
    own = ask(client, planted.search, q=Q)["sliders"][0]["latent"]
    view = ask(client, planted.search, q=Q, lens=f"a;{planted.sae};~{own}")
    slider = next(s for s in view["sliders"] if s["latent"] == own)
    assert slider["mode"] == "ignored"
    steer = next(option["url"] for option in slider["modes"] if option["value"] == "")
    assert ranking(ask(client, steer)) == ranking(ask(client, planted.search, q=Q))


# --- on another SAE -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def order() -> list[int]:
    numbers: list[int] = np.random.default_rng(5).permutation(64).tolist()
    return numbers


@pytest.fixture(scope="module", params=["stored", "computed"])
def two(request: pytest.FixtureRequest, planted: Planted, order: list[int]) -> Iterator[TestClient]:
    """The planted SAE, and one with the same features under other numbers: `order[i]` became i."""
    sae = planted.set.sae
    other = SAE(
        W_enc_ND=sae.W_enc_ND[order],
        W_dec_ND=sae.W_dec_ND[order],
        b_enc_N=sae.b_enc_N[order],
        b_dec_D=sae.b_dec_D,
        k=sae.k,
        threshold=sae.threshold,
    )
    n = len(order)
    matches = Matches(
        np.array(order, dtype=np.int32),
        np.ones(n, np.float32),
        np.ones(n, np.float32),
        np.array(order, dtype=np.int32),
        np.ones(n, np.float32),
    )
    stored = {planted.sae: matches} if request.param == "stored" else {}
    explorer = copy.copy(planted.explorer)
    explorer.saes = {
        planted.sae: planted.set,
        OTHER: replace(planted.set, name=OTHER, sae=other, matches=stored),
    }
    with TestClient(serve(planted, explorer), follow_redirects=False) as client:
        yield client


def test_a_lens_of_another_sae_is_applied_by_matching_features(
    two: TestClient, planted: Planted, order: list[int], family: Family
) -> None:
    alive = np.flatnonzero(planted.set.features.n_documents_N > 0).tolist()
    there = [i for i in range(64) if order[i] in alive][:3]
    lens = f"far;{OTHER};{there[0]}:+0.30,{there[1]}:-0.20,~{there[2]}"
    view = ask(two, planted.search, q=Q, lens=lens)
    here = [order[i] for i in there]
    direct = ask(
        two,
        planted.search,
        q=Q,
        f=[urls.strength(here[0], 0.3), urls.strength(here[1], -0.2)],
        ignore=here[2],
    )
    assert ranking(view) == ranking(direct)
    (shown,) = view["lenses"]
    assert shown["is_foreign"]
    assert shown["n_lost"] == 0
    assert f"#{there[0]} is #{here[0]}" in shown["matches"][0]
    assert "3 of its 3 moves" in view["remarks"][0]
    assert "cosine 1.00" in view["remarks"][0]
    assert f"f={here[0]}:+0.30" in shown["unfold_url"]

    partly = ask(two, planted.search, q=Q, lens=f"far;{OTHER};{there[0]}:+0.30,F{family.id}:+0.20,900:+0.1")
    assert partly["lenses"][0]["n_lost"] == 2
    assert "not applied: the family" in partly["remarks"][0]
    assert "#900" in partly["remarks"][0]


def test_a_lens_of_an_sae_that_is_not_here_is_never_applied_silently(
    planted: Planted, client: TestClient
) -> None:
    view = ask(client, planted.search, q=Q, lens="far;k9-n99-abcdef;1:+0.30,!2")
    assert ranking(view) == ranking(ask(client, planted.search, q=Q))
    assert "k9-n99-abcdef, which is not here: nothing of it is applied" in view["remarks"][0]
    assert view["lenses"][0]["n_lost"] == 2
    assert view["moves"][0]["kind"] == "lens"
    page = client.get(planted.search, params={"q": Q, "lens": "far;k9-n99-abcdef;1:+0.30,!2"})
    assert "which is not here" in page.text


def test_a_lens_of_another_embedding_space_finds_nothing(planted: Planted, order: list[int]) -> None:
    other = copy.copy(planted.explorer)
    other.name = "elsewhere"
    other.saes = {OTHER: replace(planted.set, name=OTHER)}
    other.manifest = {**other.manifest, "embedder": {**other.manifest["embedder"], "fingerprint": "another"}}
    explorers = {planted.explorer.name: planted.explorer, "elsewhere": other}
    app = create_app(Settings(home=planted.home), explorers)
    with TestClient(app) as client:
        view = ask(client, planted.search, q=Q, lens=f"far;{OTHER};1:+0.30")
        assert "which is not here" in view["remarks"][0]
        other.manifest["embedder"]["fingerprint"] = planted.explorer.manifest["embedder"]["fingerprint"]
    with TestClient(create_app(Settings(home=planted.home), explorers)) as client:
        view = ask(client, planted.search, q=Q, lens=f"far;{OTHER};3:+0.30")
        assert "1 of its 1 moves" in view["remarks"][0]


def test_lenses_that_set_too_much_together_say_so(
    planted: Planted, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = [f"{name};{planted.sae};{i}:+0.01" for name, i in (("a", 1), ("b", 2), ("c", 3))]
    assert ask(client, planted.search, q=Q, lens=whole)["results"]
    monkeypatch.setattr("app.search.asking.MAX_STRENGTHS", 2)
    view = ask(client, planted.search, q=Q, lens=whole)
    assert view["results"] == []
    assert "set 3 features" in view["message"]
    assert "Remove a lens" in view["message"]
    assert len(view["lenses"]) == 3
