"""Labels on pages: how far one can be trusted, why it is what it is, and where its concept is elsewhere."""

from __future__ import annotations

import copy
from dataclasses import replace
from html import escape
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from app import urls
from app.labels import MAX_LETTERS, label_view, mention, trust_of
from sae_core.explorer import Explorer
from sae_core.intervals import Interval
from sae_core.labels import Candidate, Evidence, Former, Label, Score
from tests.app.served import Planted, serve
from tests.planted import load_planted, planted_collection


def score(auc: float, low: float, high: float = 1.0, predictor: str = "a test") -> Score:
    return Score(
        predictor, 30, 28, Interval(auc, low, high), Interval(0.7, 0.6, 0.8), Interval(0.5, 0.2, 0.7)
    )


# --- the badge ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("label", "level"),
    [
        (Label("dust", "phrases", score(0.97, 0.9)), "strong"),
        (Label("dust", "phrases", score(0.90, 0.8)), "strong"),
        (Label("dust", "phrases", score(0.89, 0.8)), "fair"),
        (Label("dust", "phrases", score(0.74, 0.6)), "weak"),
        (Label("dust", "phrases", score(0.95, 0.5)), "chance"),  # of few documents
        (Label("dust", "phrases", score(0.30, 0.1, 0.45)), "chance"),  # worse than it is no better
        (Label("dust", "phrases"), "unscored"),
        (Label("", "none"), "none"),
        (Label("  ", "phrases", score(0.97, 0.9)), "none"),
    ],
)
def test_the_badge_is_grey_where_the_interval_includes_chance(label: Label, level: str) -> None:
    trust = trust_of(label)
    assert trust.level == level
    assert trust.word
    assert trust.n == (58 if level not in {"none", "unscored"} else 0)


def test_an_unlabelled_feature_shows_its_phrases() -> None:
    candidates = [Candidate(text, "phrases") for text in ("dust lanes", "grains", "infrared", "a fourth")]
    view = label_view(Label("", "none", candidates=candidates))
    assert (view.text, view.phrases) == ("unlabelled", ["dust lanes", "grains", "infrared"])
    assert mention(view, 12) == "unlabelled (dust lanes, grains, infrared)"
    named = label_view(Label("dust", "phrases", candidates=candidates))
    assert (named.phrases, mention(named, 12)) == ([], "dust")


def test_a_label_of_ten_thousand_letters_is_cut() -> None:
    assert len(label_view(Label("x" * 10_000, "llm:m")).text) == MAX_LETTERS


# --- why ------------------------------------------------------------------------------------------


def busiest(planted: Planted) -> int:
    """The feature of most documents; which one that is depends on the training."""
    return int(np.argmax(planted.set.features.n_documents_N))


def labelled(planted: Planted, label: Label) -> Explorer:
    """The same collection with another label of its busiest feature."""
    changed, latent = copy.copy(planted.explorer), busiest(planted)
    labels = [label if i == latent else each for i, each in enumerate(planted.set.labels)]
    changed.saes = {planted.sae: replace(planted.set, labels=labels)}
    return changed


def feature(planted: Planted, label: Label) -> tuple[dict[str, Any], str]:
    """The twin and the page of a feature with this label."""
    url = f"{planted.base}/features/{busiest(planted)}"
    with TestClient(serve(planted, labelled(planted, label))) as client:
        view: dict[str, Any] = client.get(urls.json(url)).json()
        return view, client.get(url).text


RICH = Label(
    text="dust <lanes>",
    source="llm:some/model-8b",
    score=score(0.91, 0.82, 0.97, "a language model reading the label"),
    candidates=[
        Candidate("dust <lanes>", "llm:some/model-8b", {"contrast": 0.8, "odd part": 0.1}, 0.93),
        Candidate("grains", "phrases", {"contrast": 0.7}, 0.81),
        Candidate("galaxies", "phrases", {"readability": 1.0}, None),
    ],
    evidence=Evidence([3, 4, 99_999_999], [7], "interpreter ab12cd", "All about <b>dust</b>.", "2026-11-20"),
    history=[Former("grains", "phrases", 0.81, "2026-11-01"), Former("<i>old</i>", "phrases", None, "")],
    other_scores=[score(0.7, 0.55, predictor="BM25 of the label; partly circular")],
    remark="Two candidates were alike.",
)  # fmt: skip


def test_a_label_says_where_it_comes_from_and_what_else_it_could_have_been(planted: Planted) -> None:
    view, html = feature(planted, RICH)
    why = view["why"]
    assert why["source"] == "the language model some/model-8b"
    assert (why["made"], why["prompt"], why["remark"]) == (
        "2026-11-20",
        "interpreter ab12cd",
        "Two candidates were alike.",
    )
    assert why["parts"] == ["contrast", "readability", "odd part"]
    assert [(row["text"], row["is_label"], row["parts"]) for row in why["candidates"]] == [
        ("dust <lanes>", True, [0.8, None, 0.1]),
        ("grains", False, [0.7, None, None]),
        ("galaxies", False, [None, 1.0, None]),
    ]
    assert [row["chosen_by"] for row in why["candidates"]] == [0.93, 0.81, None]
    for said in (
        "All about &lt;b&gt;dust&lt;/b&gt;.",
        "3 candidates considered",
        "interpreter ab12cd",
        "Formerly called",
        "&lt;i&gt;old&lt;/i&gt;",
        "Two candidates were alike.",
    ):
        assert said in html
    assert "<b>dust" not in html


def test_scores_name_their_predictor_n_and_intervals_and_say_what_is_circular(planted: Planted) -> None:
    view, html = feature(planted, RICH)
    scores = view["why"]["scores"]
    assert [each["predictor"] for each in scores] == [
        "a language model reading the label",
        "BM25 of the label; partly circular",
    ]
    assert scores[0]["auc"] == {"value": 0.91, "low": 0.82, "high": 0.97}
    assert (scores[0]["n_positives"], scores[0]["n_negatives"]) == (30, 28)
    assert "partly circular" in html
    assert "0.82–0.97" in html
    assert "30 + 28" in html


def test_evidence_is_links_to_documents(planted: Planted) -> None:
    """A position that the collection does not have is left out."""
    view, html = feature(planted, RICH)
    catalog_titles = {card["title"] for card in view["why"]["positives"]}
    assert len(catalog_titles) == 2
    assert view["why"]["positives"][0]["url"] == f"/{planted.explorer.name}/documents/doc-0003"
    assert [card["url"] for card in view["why"]["negatives"]] == [
        f"/{planted.explorer.name}/documents/doc-0007"
    ]
    assert f'href="/{planted.explorer.name}/documents/doc-0007"' in html
    assert "Made from 2 documents with it and 1 without" in html


def test_the_badge_stands_in_the_heading_and_in_lists(planted: Planted) -> None:
    _, html = feature(planted, RICH)
    assert 'class="trust trust-strong"' in html[: html.index("Why this label")]
    explorer = labelled(planted, replace(RICH, score=score(0.6, 0.41)))
    with TestClient(serve(planted, explorer)) as client:
        assert "near chance" in client.get(f"{planted.base}/features?sort=density").text
        latent = busiest(planted)
        listed = client.get(f"{planted.base}/features.json?sort=density").json()["rows"]
        assert (listed[0]["latent"], listed[0]["label"]["trust"]["level"]) == (latent, "chance")
        position = int(planted.set.codes.of_latent(latent)[0][0])
        document = client.get(f"/{planted.explorer.name}/documents/doc-{position:04}.json")
        chips = document.json()["fingerprint"]
        assert {chip["trust"]["level"] for chip in chips if chip["latent"] == latent} == {"chance"}


def test_a_feature_without_a_label_says_what_its_phrases_are(planted: Planted) -> None:
    none = Label(
        "", "none", candidates=[Candidate("one <phrase>", "phrases")], remark="no phrase beats chance"
    )
    view, html = feature(planted, none)
    assert view["label"]["phrases"] == ["one <phrase>"]
    assert f"<q>{escape('one <phrase>')}</q>" in html
    assert "No phrase beats chance." in html
    assert 'class="trust trust-none"' in html


# --- the same concept elsewhere ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    """A collection of two SAEs, one with three times as many features."""
    home = tmp_path_factory.mktemp("home")
    planted_collection(home, n=400, steps=250, latents=(16, 48), ks=(3,))
    return Planted(home, load_planted(home))


def test_a_feature_knows_its_nearest_in_the_other_sae(pair: Planted) -> None:
    coarse, fine = sorted(pair.explorer.saes.values(), key=lambda each: each.sae.n_latents)
    with TestClient(serve(pair)) as client:
        for here, there, relation in ((coarse, fine, "finer"), (fine, coarse, "coarser")):
            matches = here.matches[there.name]
            for latent in np.flatnonzero(here.codes.counts())[:6].tolist():
                url = urls.feature(pair.explorer.name, here.name, latent)
                (each,) = client.get(urls.json(url)).json()["elsewhere"]
                assert (each["sae"], each["relation"]) == (there.name, relation)
                assert each["nearest"]["latent"] == matches.latent_N[latent]
                cosine = float(
                    here.sae.directions_ND[latent] @ there.sae.directions_ND[each["nearest"]["latent"]]
                )
                assert each["nearest"]["cosine"] == pytest.approx(cosine, abs=1e-4)
                assert each["recurs"] is (cosine > each["threshold"])
                documents = [
                    set(space.codes.of_latent(i)[0].tolist())
                    for space, i in ((here, latent), (there, each["nearest"]["latent"]))
                ]
                overlap = len(documents[0] & documents[1]) / len(documents[0] | documents[1])
                assert each["jaccard"] == pytest.approx(overlap, abs=1e-5)
                back = there.matches[here.name].latent_N
                assert each["n_parts"] == np.count_nonzero(back == latent)
                assert all(back[part["latent"]] == latent for part in each["parts"])
                html = client.get(url).text
                assert f'href="{each["nearest"]["url"]}"' in html
                assert client.get(each["nearest"]["url"]).status_code == 200


def test_a_dead_feature_has_no_concept_to_be_found_elsewhere(pair: Planted) -> None:
    found = [
        (space.name, int(latent))
        for space in pair.explorer.saes.values()
        for latent in np.flatnonzero(space.codes.counts() == 0)[:1]
    ]
    with TestClient(serve(pair)) as client:
        for name, latent in found:
            view = client.get(urls.json(urls.feature(pair.explorer.name, name, latent))).json()
            assert view["elsewhere"] == []


def test_a_collection_of_one_sae_has_no_elsewhere(planted: Planted) -> None:
    view, html = feature(planted, planted.set.labels[busiest(planted)])
    assert view["elsewhere"] == []
    assert "Same concept elsewhere" not in html
