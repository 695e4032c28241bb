"""Every page and its twin, and what they promise."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from app import urls
from app.query import TABS
from tests.app.served import Planted, serve
from tests.planted import WORDS

XSS = "<script>alert('label')</script>"
PAGES = [
    "",
    "/{sae}",
    "/{sae}/search",
    "/{sae}/search?q={word}",
    "/{sae}/search?q={word}&f=3:-0.20&f=5:+0.40&find={word}&year_min=2003&venue=Journal+1&page=2",
    "/{sae}/search?f=5:+0.40",
    "/{sae}/features",
    "/{sae}/features?words={word}&sort=label&dead=1&labelled=1&min_density=0.001&page=1",
    *[f"/{{sae}}/features/5?tab={tab}&log=1" for tab in TABS],
    "/{sae}/families",
    "/{sae}/families?sort=hub",
    "/{sae}/families/{family}",
    "/documents/doc-0100",
    "/documents/odd/0.v1?sae={sae}",
    "/documents?id=doc-0100",
]


def address(planted: Planted, pattern: str) -> str:
    family = planted.set.families[0].id
    return f"/{planted.explorer.name}" + pattern.format(sae=planted.sae, word=WORDS[6], family=family)


def links(html: str) -> set[str]:
    return {unescape(url).partition("#")[0] for url in re.findall(r'(?:href|action)="(/[^"]*)"', html)}


@pytest.mark.parametrize("pattern", PAGES)
def test_every_page_answers_as_a_page_and_as_its_twin(
    pattern: str, planted: Planted, client: TestClient
) -> None:
    url = address(planted, pattern)
    page = client.get(url)
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.text.startswith("<!doctype html>")
    twin = client.get(urls.json(url))
    assert twin.status_code == 200
    assert twin.headers["content-type"] == "application/json"
    assert isinstance(twin.json(), dict)
    assert client.head(url).status_code == 200


@pytest.mark.parametrize("pattern", [pattern for pattern in PAGES if pattern])
def test_a_canonical_address_reproduces_itself(pattern: str, planted: Planted, client: TestClient) -> None:
    first = client.get(urls.json(address(planted, pattern))).json()
    assert urls.json(first["url"]) == first["json_url"]
    again = client.get(first["json_url"]).json()
    for name in ("seconds", "ranking_seconds"):
        first.pop(name, None)
        again.pop(name, None)
    assert again == first


def test_every_link_on_every_page_leads_somewhere(planted: Planted, client: TestClient) -> None:
    found: set[str] = set()
    for pattern in PAGES:
        found |= links(client.get(address(planted, pattern)).text)
    assert len(found) > 200
    broken = {url: client.get(url).status_code for url in sorted(found)}
    assert {url: status for url, status in broken.items() if status not in {200, 303}} == {}


def test_one_collection_is_gone_straight_to(planted: Planted, client: TestClient) -> None:
    home = client.get("/")
    assert home.status_code == 303
    assert home.headers["location"] == f"/{planted.explorer.name}"
    assert [c["name"] for c in client.get("/index.json").json()["collections"]] == [planted.explorer.name]


def test_random_leads_to_living_features_and_is_not_cached(planted: Planted, client: TestClient) -> None:
    seen = set()
    for _ in range(20):
        answer = client.get(f"{planted.base}/features/random")
        assert answer.status_code == 303
        assert answer.headers["cache-control"] == "no-store"
        seen.add(int(answer.headers["location"].rpartition("/")[2]))
    assert len(seen) > 1
    assert all(planted.set.features.n_documents_N[latent] > 0 for latent in seen)


# --- the feature browser and feature pages --------------------------------------------------------


def rows(client: TestClient, url: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    next_url: str | None = url
    while next_url:
        view = client.get(urls.json(next_url)).json()
        found += view["rows"]
        next_url = view["page"]["next_url"]
    assert len(found) == view["page"]["total"]
    return found


def test_dead_features_are_hidden_counted_and_can_be_shown(planted: Planted, client: TestClient) -> None:
    n_dead = int((planted.set.features.n_documents_N == 0).sum())
    living, everyone = (rows(client, f"{planted.base}/features{query}") for query in ("", "?dead=1"))
    assert not any(row["is_dead"] for row in living)
    assert len(everyone) == len(living) + n_dead == planted.set.sae.n_latents
    assert client.get(f"{planted.base}/features.json").json()["n_dead"] == n_dead


@pytest.mark.parametrize("sort", ["quality", "density", "max"])
def test_a_feature_list_falls_in_what_it_is_sorted_by(
    sort: str, planted: Planted, client: TestClient
) -> None:
    values = [row[sort] for row in rows(client, f"{planted.base}/features?dead=1&sort={sort}")]
    assert values == sorted(values, reverse=True)


def test_the_density_filter_keeps_what_it_says(planted: Planted, client: TestClient) -> None:
    kept = rows(client, f"{planted.base}/features?min_density=0.02&max_density=0.05")
    densities = planted.set.features.n_documents_N / planted.explorer.n_documents
    assert {row["latent"] for row in kept} == set(np.flatnonzero((densities >= 0.02) & (densities <= 0.05)))


def busiest(planted: Planted) -> int:
    """The feature of most documents; which one that is depends on the training."""
    return int(np.argmax(planted.set.features.n_documents_N))


@pytest.mark.parametrize("tab", ["top", "borderline", "all"])
def test_evidence_shows_documents_that_have_the_feature(
    tab: str, planted: Planted, client: TestClient
) -> None:
    latent = busiest(planted)
    view = client.get(f"{planted.base}/features/{latent}.json?tab={tab}").json()
    documents, activations = planted.set.codes.of_latent(latent)
    truth = dict(zip(documents.tolist(), activations.tolist(), strict=True))
    shown = [card for _, cards in view["groups"] for card in cards]
    assert shown
    for card in shown:
        assert card["activation"] == pytest.approx(truth[card["position"]])
        assert 0 < card["share"] <= 1
    values = [card["activation"] for card in shown]
    assert values == sorted(values, reverse=tab != "borderline")
    if tab == "borderline":
        assert values[0] == pytest.approx(float(activations[-1]))


def test_near_misses_do_not_have_the_feature(planted: Planted, client: TestClient) -> None:
    latent = busiest(planted)
    view = client.get(f"{planted.base}/features/{latent}.json?tab=near").json()
    having = set(planted.set.codes.of_latent(latent)[0].tolist())
    assert having.isdisjoint(card["position"] for _, cards in view["groups"] for card in cards)


def test_quantile_bands_surround_their_quantile(planted: Planted, client: TestClient) -> None:
    latent = busiest(planted)
    view = client.get(f"{planted.base}/features/{latent}.json?tab=bands").json()
    quantiles = [value for _, value in reversed(view["quantiles"])]
    assert len(view["groups"]) == len(quantiles)
    spread = planted.set.codes.of_latent(latent)[1]
    step = float(np.abs(np.diff(spread)).max())
    for quantile, (_, cards) in zip(quantiles, view["groups"], strict=True):
        values = [card["activation"] for card in cards]
        assert min(values) - step <= quantile <= max(values) + step


def test_neighbours_are_other_features_and_carry_their_own_label(
    planted: Planted, client: TestClient
) -> None:
    """The published app reads labels one row off, since the feature itself is left out of the list."""
    directions = planted.set.sae.directions_ND
    for latent in range(0, 60, 7):
        view = client.get(f"{planted.base}/features/{latent}.json").json()
        for row in view["similar"] + view["opposite"]:
            assert row["latent"] != latent
            assert row["cosine"] == pytest.approx(
                float(directions[latent] @ directions[row["latent"]]), abs=1e-4
            )
            own = client.get(urls.json(row["url"])).json()
            assert own["latent"] == row["latent"]
            assert row["label"].startswith(own["label"]["text"])


def test_next_and_previous_walk_through_all_features(planted: Planted, client: TestClient) -> None:
    seen, url = [], f"{planted.base}/features/0"
    for _ in range(planted.set.sae.n_latents):
        view = client.get(urls.json(url)).json()
        seen.append(view["latent"])
        following = client.get(urls.json(view["next_url"])).json()
        assert following["previous_url"] == view["url"]
        url = view["next_url"]
    assert seen == list(range(planted.set.sae.n_latents))


def test_dead_features_have_honest_pages(planted: Planted, client: TestClient) -> None:
    dead = np.flatnonzero(planted.set.features.n_documents_N == 0).tolist()
    assert dead, "the planted collection has no dead feature to show"
    for tab in TABS:
        page = client.get(f"{planted.base}/features/{dead[0]}?tab={tab}")
        assert page.status_code == 200
    assert client.get(f"{planted.base}/features/{dead[0]}.json").json()["is_dead"] is True
    assert client.get(f"{planted.search}?q={WORDS[0]}&f={dead[0]}:%2B0.5").status_code == 200


# --- other pages ----------------------------------------------------------------------------------


def test_heat_is_a_conditional_share(planted: Planted, client: TestClient) -> None:
    family = planted.set.families[0]
    heat = np.array(client.get(f"{planted.base}/families/{family.id}.json").json()["heat"])
    sets = [set(planted.set.codes.of_latent(member)[0].tolist()) for member in family.members[:40]]
    assert np.allclose(np.diag(heat), 1)
    assert np.allclose(heat, heat.T)
    assert heat[0, 1] == pytest.approx(len(sets[0] & sets[1]) / min(len(sets[0]), len(sets[1])), abs=1e-4)


def test_a_document_shows_all_its_features_and_its_nearest(planted: Planted, client: TestClient) -> None:
    position = 100
    view = client.get(f"/{planted.explorer.name}/documents/doc-0100.json").json()
    latents, _ = planted.set.codes.of_document(position)
    assert [chip["latent"] for chip in view["fingerprint"]] == latents.tolist()
    vectors = planted.explorer.index.vectors()
    scores = vectors @ vectors[position]
    scores[position] = -2
    assert [score for _, score in view["neighbours"]] == pytest.approx(
        np.sort(scores)[::-1][:10].tolist(), abs=1e-5
    )


def test_a_document_leads_to_its_doi(planted: Planted, client: TestClient) -> None:
    known, unknown = (f"/{planted.explorer.name}/documents/doc-{n:04}" for n in (101, 100))
    assert 'href="https://doi.org/10.5555/planted.101"' in client.get(known).text
    assert client.get(f"{known}.json").json()["document"]["doi"] == "10.5555/planted.101"
    assert "doi.org" not in client.get(unknown).text


def test_labels_titles_and_venues_are_text(planted: Planted) -> None:
    """Nothing that a corpus, a label or a visitor says becomes markup or an unsafe link."""
    with TestClient(serve(planted, planted.with_labels(XSS, "phrases"))) as client:
        for pattern in PAGES:
            html = client.get(address(planted, pattern)).text
            assert "<script>" not in html
            assert "alert('" not in html
        assert "&lt;script&gt;" in client.get(f"{planted.base}/features/5").text
        html = client.get(f"{planted.search}?q={XSS}&find={XSS}&venue={XSS}").text
        assert "<script>" not in html
        assert "javascript:" not in html


def test_unlabelled_features_crash_nothing(planted: Planted) -> None:
    with TestClient(serve(planted, planted.with_labels("", "none"))) as client:
        for pattern in PAGES:
            assert client.get(address(planted, pattern)).status_code == 200
        chips = client.get(f"/{planted.explorer.name}/documents/doc-0100.json").json()["fingerprint"]
        assert {chip["label"] for chip in chips} == {f"unlabelled #{chip['latent']}" for chip in chips}


def test_twins_have_no_number_that_json_lacks(planted: Planted, client: TestClient) -> None:
    for pattern in PAGES:
        assert not re.search(r"\b(NaN|Infinity)\b", client.get(urls.json(address(planted, pattern))).text)
