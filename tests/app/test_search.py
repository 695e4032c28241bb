"""Steered search over HTTP: the address says everything, and untouched sliders change nothing."""

from __future__ import annotations

import itertools
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from app import urls
from app.query import MAX_STRENGTH, as_strength
from sae_core.index import top
from tests.app.served import Planted, serve
from tests.planted import WORDS, documents

View = dict[str, Any]


def ask(client: TestClient, url: str, **parameters: Any) -> View:
    answer = client.get(urls.json(url), params=parameters or None)
    assert answer.status_code == 200
    view: View = answer.json()
    return view


def ranking(view: View) -> list[tuple[str, float]]:
    return [(row["document"]["id"], row["score"]) for row in view["results"]]


def all_sliders(view: View) -> list[View]:
    return [*view["sliders"], *view["more_sliders"]]


def plain_ranking(planted: Planted, q: str, n: int = 10) -> list[tuple[str, float]]:
    """Semantic search without any of our machinery: inner products, sorted."""
    hits = top(planted.explorer.index.products(planted.explorer.embed(q)), n)
    ids = [document.id for document in documents(planted.explorer.n_documents)]
    pairs = zip(hits.positions.tolist(), hits.scores.tolist(), strict=True)
    return [(ids[position], score) for position, score in pairs]


# --- untouched ------------------------------------------------------------------------------------


def test_no_steering_changes_nothing(planted: Planted, client: TestClient) -> None:
    """For every query of the fixture: the ids and the scores of plain semantic search, exactly."""
    for q in planted.queries:
        view = ask(client, planted.search, q=q)
        assert ranking(view) == plain_ranking(planted, q)
        assert not view["is_steered"]
        assert view["cosine"] == 1
        assert all(row["moved"] is None for row in view["results"])
        scores = planted.explorer.index.vectors().astype(np.float64) @ planted.explorer.embed(q)
        assert [score for _, score in ranking(view)] == pytest.approx(
            np.sort(scores)[::-1][:10].tolist(), abs=1e-5
        )


def test_strengths_that_repeat_the_query_s_own_are_no_moves(planted: Planted, client: TestClient) -> None:
    for q in planted.queries[::5]:
        plain = ask(client, planted.search, q=q)
        untouched = [urls.strength(s["latent"], s["own"]) for s in all_sliders(plain)]
        assert untouched
        repeated = ask(client, planted.search, q=q, f=untouched)
        assert ranking(repeated) == ranking(plain)
        assert repeated["url"] == plain["url"]


def test_sliders_open_at_the_query_s_own_activations_by_contribution_times_specificity(
    planted: Planted, client: TestClient
) -> None:
    for q in planted.queries[::5]:
        x_D = planted.explorer.embed(q)
        latents, values = planted.set.sae.encode(x_D[None]).row()
        specificity = np.log(planted.explorer.n_documents / planted.set.features.n_documents_N[latents])
        explained = values * (planted.set.sae.directions_ND[latents] @ x_D) * specificity
        sliders = all_sliders(ask(client, planted.search, q=q))
        assert [s["latent"] for s in sliders] == latents[np.argsort(-explained, kind="stable")].tolist()
        own = dict(zip(latents.tolist(), values.tolist(), strict=True))
        for slider in sliders:
            assert slider["own"] == slider["strength"] == as_strength(own[slider["latent"]])
            assert not slider["is_moved"]


# --- moved ----------------------------------------------------------------------------------------


def test_every_link_of_a_slider_does_what_it_says(planted: Planted, client: TestClient) -> None:
    start = ask(client, planted.search, q=f"{WORDS[1]} {WORDS[20]}", f=["40:+0.30", "41:-0.20"])
    for slider in all_sliders(start):
        latent, high = slider["latent"], slider["high"]
        assert slider["low"] == -high
        assert high >= max(abs(slider["strength"]), slider["own"])
        wanted = {
            "reset_url": slider["own"],
            "zero_url": 0.0,
            "weaker_url": max(-high, slider["strength"] - high / 5),
            "stronger_url": min(high, slider["strength"] + high / 5),
        }
        for name, strength in wanted.items():
            if slider[name] is None:
                assert name == "zero_url"
                assert slider["strength"] == 0
                continue
            after = {s["latent"]: s for s in all_sliders(ask(client, slider[name]))}
            assert after[latent]["strength"] == pytest.approx(strength, abs=1e-3)
            assert after.keys() >= {40, 41}
        if slider["is_added"]:
            assert latent not in {s["latent"] for s in all_sliders(ask(client, slider["remove_url"]))}


def test_moves_are_told_in_words_and_undone_one_by_one(planted: Planted, client: TestClient) -> None:
    plain = ask(client, planted.search, q=WORDS[1])
    own = plain["sliders"][0]
    others = set(range(planted.set.sae.n_latents)) - {slider["latent"] for slider in plain["sliders"]}
    changed = [(own["latent"], 0.0), (min(others), 0.3), (max(others), -0.2)]
    view = ask(client, planted.search, q=WORDS[1], f=[urls.strength(*move) for move in changed])
    assert view["is_steered"]
    assert view["cosine"] < 1
    assert [move["words"].partition(" ")[0] for move in view["moves"]] == ["without", "more", "against"]
    for move in view["moves"]:
        assert len(ask(client, move["undo_url"])["moves"]) == 2
    assert ranking(ask(client, view["reset_url"])) == ranking(plain)


def test_turning_a_feature_up_never_turns_results_away_from_it(planted: Planted, client: TestClient) -> None:
    """The ten best of x + s d point along d the more, the larger s is: a law of linear rankings."""
    vectors = planted.explorer.index.vectors()
    for latent in np.argsort(-planted.set.features.n_documents_N)[:5].tolist():
        along = vectors @ planted.set.sae.directions_ND[latent]
        means = []
        for strength in (-2.0, -0.5, 0.0, 0.5, 2.0):
            view = ask(client, planted.search, q=WORDS[47], f=urls.strength(latent, strength))
            mean = np.mean([along[row["document"]["position"]] for row in view["results"]], dtype=np.float64)
            means.append(round(float(mean), 6))
        assert means == sorted(means)
        assert means[0] < means[-1] - 0.1


def test_places_gained_and_lost_are_counted_from_the_plain_ranking(
    planted: Planted, client: TestClient
) -> None:
    n = planted.explorer.n_documents
    before = {id_: rank for rank, (id_, _) in enumerate(plain_ranking(planted, WORDS[2], n), start=1)}
    for page in (1, 3):
        view = ask(client, planted.search, q=WORDS[2], f="40:+0.35", page=page)
        assert [row["rank"] for row in view["results"]] == list(range(10 * page - 9, 10 * page + 1))
        for row in view["results"]:
            assert row["moved"] == before[row["document"]["id"]] - row["rank"]


def test_shared_features_are_on_both_sides(planted: Planted, client: TestClient) -> None:
    view = ask(client, planted.search, q=WORDS[6], f="40:+0.35")
    steered = {s["latent"] for s in all_sliders(view) if s["strength"] > 0}
    assert any(row["shared"] for row in view["results"])
    for row in view["results"]:
        document = planted.set.codes.of_document(row["document"]["position"])[0].tolist()
        assert {chip["latent"] for chip in row["shared"]} <= steered & set(document)


def test_features_alone_can_be_searched(planted: Planted, client: TestClient) -> None:
    view = ask(client, planted.search, f="40:+0.35")
    scores = planted.explorer.index.products(planted.set.sae.directions_ND[40])
    assert [row["document"]["position"] for row in view["results"]] == top(scores, 10).positions.tolist()
    assert [s["latent"] for s in view["sliders"]] == [40]
    assert "features alone" in view["message"]
    assert ask(client, planted.search, f="40:+0.00")["results"] == []


def test_a_strength_beyond_the_maximum_keeps_its_slider(planted: Planted, client: TestClient) -> None:
    view = ask(client, planted.search, q=WORDS[0], f=f"40:-{MAX_STRENGTH}")
    slider = next(s for s in view["sliders"] if s["latent"] == 40)
    assert (slider["low"], slider["strength"], slider["high"]) == (-MAX_STRENGTH, -MAX_STRENGTH, MAX_STRENGTH)


def test_words_find_features_to_add(planted: Planted, client: TestClient) -> None:
    latent = next(i for i, label in enumerate(planted.set.labels) if label.source != "none")
    words = planted.set.labels[latent].text
    view = ask(client, planted.search, q=WORDS[0], find=words)
    assert latent in [found["row"]["latent"] for found in view["found"]]
    for found in view["found"][:3]:
        after = ask(client, found["url"])
        slider = next(s for s in all_sliders(after) if s["latent"] == found["row"]["latent"])
        assert slider["is_moved"]
        assert after["find"] == ""


# --- pages and filters ----------------------------------------------------------------------------


def test_pages_are_one_ranking_cut_in_pieces(planted: Planted, client: TestClient) -> None:
    view = ask(client, planted.search, q=WORDS[3], f="40:+0.20")
    bars, found = [], []
    for _ in range(4):
        found += ranking(view)
        bars += [row["bar"] for row in view["results"]]
        view = ask(client, view["page"]["next_url"])
    assert len(dict(found)) == 40
    assert [score for _, score in found] == sorted((score for _, score in found), reverse=True)
    assert bars[0] == 1
    assert bars == sorted(bars, reverse=True)


def test_filters_keep_what_they_say_in_the_same_order(planted: Planted, client: TestClient) -> None:
    q = WORDS[6]
    years, venues = (2005, 2009), ["Journal 1", "Journal 3"]
    view = ask(client, planted.search, q=q, year_min=years[0], year_max=years[1], venue=venues)
    kept = [
        document.id
        for document in documents(planted.explorer.n_documents)
        if document.year is not None and years[0] <= document.year <= years[1] and document.venue in venues
    ]
    assert view["page"]["total"] == len(kept)
    everything = [id_ for id_, _ in plain_ranking(planted, q, planted.explorer.n_documents)]
    assert [id_ for id_, _ in ranking(view)] == [id_ for id_ in everything if id_ in set(kept)][:10]
    assert {option["value"] for option in view["facets"]["venues"] if option["is_chosen"]} == set(venues)


def test_nothing_found_says_what_to_do(planted: Planted, client: TestClient) -> None:
    for name, value, words in [
        ("year_min", "2100", "Widen the years"),
        ("venue", "Nature", 'No document here has the venue "Nature"'),
        ("page", "900", "There is no page 900"),
    ]:
        view = ask(client, planted.search, **{"q": WORDS[0], name: value})
        assert view["results"] == []
        assert words in view["message"]
        assert view["sliders"]


# --- the server -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "words"), [("loading", "seconds"), ("absent", "start from"), ("failed", "loaded")]
)
def test_without_an_encoder_the_panel_stays(state: str, words: str, planted: Planted) -> None:
    explorer = planted.without_encoder(state)
    with TestClient(serve(planted, explorer)) as client:
        page = client.get(planted.search, params={"q": "never embedded before", "f": "40:+0.30"})
        assert page.status_code == 200
        assert words in page.text
        assert 'id="s40"' in page.text
        twin = client.get(urls.json(planted.search), params={"q": "never embedded before"})
        assert (twin.status_code, twin.json()["results"]) == (200 if state == "absent" else 503, [])
        assert "No document has these words" in twin.json()["message"]
        assert client.get(f"{planted.base}/features").status_code == 200
        assert ask(client, planted.search, f="40:+0.30")["results"]


def test_fragments_are_parts_of_the_page_at_their_address(planted: Planted, client: TestClient) -> None:
    parameters = {"q": WORDS[1], "f": "40:+0.30"}
    whole = client.get(planted.search, params=parameters)
    partial = {"HX-Request": "true", "HX-Request-Type": "partial", "HX-Target": "section#results"}
    fragment = client.get(planted.search, params=parameters, headers=partial)
    assert "<html" not in fragment.text
    # The time it took is the one thing that differs.
    first_result = fragment.text[fragment.text.index('<ol class="results">') : fragment.text.index("</ol>")]
    assert first_result in whole.text
    assert fragment.headers["HX-Replace-Url"] == ask(client, planted.search, **parameters)["url"]
    restored = client.get(planted.search, params=parameters, headers={"HX-Request": "true"})
    assert "<html" in restored.text
    for answer in (whole, fragment):
        assert set(answer.headers["vary"].split(", ")) >= {"HX-Target", "HX-Request-Type"}


def test_the_time_of_the_search_itself_is_told(planted: Planted, client: TestClient) -> None:
    answer = client.get(planted.search, params={"q": WORDS[0]})
    timing = re.fullmatch(r"rank;dur=([0-9.]+)", answer.headers["Server-Timing"])
    assert timing
    assert float(timing[1]) > 0
    view = client.get(urls.json(planted.search), params={"q": WORDS[0]}).json()
    assert 0 < view["ranking_seconds"] < view["seconds"]


def test_visitors_share_nothing(planted: Planted, client: TestClient) -> None:
    """The published app keeps the last query for all users of the process."""
    addresses = [
        urls.search(planted.explorer.name, planted.sae, q, [(40, strength)])
        for q, strength in itertools.product(planted.queries[:6], (-0.3, 0.0, 0.3))
    ]
    alone = {url: ranking(ask(client, url)) for url in addresses}
    crowd = addresses * 4
    np.random.default_rng(0).shuffle(crowd)
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda url: (url, ranking(ask(client, url))), crowd))
    assert all(found == alone[url] for url, found in together)
