"""The panel over HTTP: modes, families, what is kept, features found, and addresses with mistakes."""

from __future__ import annotations

import copy
import html
import math
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from app import urls
from app.query import SearchQuery
from app.search.panel import PHRASES
from sae_core.families import Family
from sae_core.features import QUANTILES
from tests.app.served import Planted, serve
from tests.planted import WORDS, documents

View = dict[str, Any]
Q = WORDS[6]


def ask(client: TestClient, url: str, **parameters: Any) -> View:
    answer = client.get(urls.json(url), params=parameters or None)
    assert answer.status_code == 200, answer.text
    view: View = answer.json()
    return view


def all_sliders(view: View) -> dict[int, View]:
    return {slider["latent"]: slider for slider in [*view["sliders"], *view["more_sliders"]]}


def positions(view: View) -> list[int]:
    return [row["document"]["position"] for row in view["results"]]


@pytest.fixture(scope="module")
def family(planted: Planted) -> Family:
    return max(planted.set.families, key=lambda family: len(family.members))


# --- modes ----------------------------------------------------------------------------------------


def test_require_and_exclude_are_exact_on_stored_activations(planted: Planted, client: TestClient) -> None:
    plain = ask(client, planted.search, q=Q)
    latent = plain["sliders"][0]["latent"]
    having = set(planted.set.codes.of_latent(latent)[0].tolist())
    required = ask(client, planted.search, q=Q, require=latent)
    assert required["page"]["total"] == len(having)
    assert set(positions(required)) <= having
    excluded = ask(client, planted.search, q=Q, exclude=latent)
    assert excluded["page"]["total"] == planted.explorer.n_documents - len(having)
    assert not set(positions(excluded)) & having
    for view, mode in ((required, "required"), (excluded, "excluded")):
        assert view["is_steered"]
        assert view["cosine"] == 1  # documents are chosen, the query stays
        slider = all_sliders(view)[latent]
        assert slider["mode"] == mode
        assert [option["value"] for option in slider["modes"] if option["is_chosen"]] == [mode]


def test_the_links_of_the_modes_lead_from_each_to_each(planted: Planted, client: TestClient) -> None:
    view = ask(client, planted.search, q=Q, f="40:+0.30")
    for latent in (next(iter(all_sliders(view))), 40):
        for mode in ("required", "ignored", "excluded", ""):
            modes = {option["value"]: option["url"] for option in all_sliders(view)[latent]["modes"]}
            assert list(modes) == ["", "required", "excluded", "ignored"]
            view = ask(client, modes[mode])
            assert all_sliders(view)[latent]["mode"] == mode
            assert len(
                [name for name in ("require", "ignore", "exclude") if f"{name}={latent}" in view["url"]]
            ) == (mode != "")


def test_what_is_ignored_counts_neither_for_nor_against(planted: Planted, client: TestClient) -> None:
    own = ask(client, planted.search, q=Q)["sliders"][0]["latent"]
    view = ask(client, planted.search, q=Q, ignore=own)
    x_D, d_D = planted.explorer.embed(Q), planted.set.sae.directions_ND[own]
    steered_D = x_D - (x_D @ d_D) * d_D
    steered_D /= np.linalg.norm(steered_D)
    scores = planted.explorer.index.vectors() @ steered_D
    assert positions(view) == np.argsort(-scores, kind="stable")[:10].tolist()
    # it goes before a strength, whatever the order in the address
    both = ask(client, planted.search, q=Q, f=f"{own}:+0.40", ignore=own)
    assert positions(both) == positions(view)
    assert [move["words"].partition(" ")[0] for move in both["moves"]] == ["ignoring"]


def test_no_document_has_and_lacks_a_feature(planted: Planted, client: TestClient) -> None:
    view = ask(client, planted.search, q=Q, require=3, exclude=3)
    assert view["results"] == []
    assert "both has and lacks" in view["message"]
    assert "Take back" in view["message"]
    assert view["sliders"]
    assert len(view["moves"]) == 2


# --- what a strength means ------------------------------------------------------------------------


def test_a_strength_is_told_among_the_documents_that_have_the_feature(
    planted: Planted, client: TestClient
) -> None:
    latent = int(np.argmax(planted.set.features.n_documents_N))
    values = np.sort(planted.set.codes.of_latent(latent)[1])[::-1]

    def words(strength: float) -> str:
        view = ask(client, planted.search, q=Q, f=urls.strength(latent, strength))
        return str(all_sliders(view)[latent]["words"])

    assert words(-0.2) == "against it"
    assert words(0.0) == "as if the query did not have it"
    assert words(float(values[0]) + 0.01) == "stronger than in any document"
    for share, phrase in ((0.01, "top 1 %"), (0.05, "top 5 %"), (0.25, "top 25 %"), (0.5, "top half")):
        strength = math.ceil(1000 * np.quantile(values, 1 - share)) / 1000
        assert phrase in words(strength)
        assert (values >= strength).mean() <= share + 1 / len(values)
    assert len(PHRASES) == 2 + len(QUANTILES) + 2


def test_sliders_say_what_a_notch_would_leave(planted: Planted, client: TestClient) -> None:
    view = ask(client, planted.search, q=Q, f="40:+0.30")
    for slider in view["sliders"][:4]:
        for name in ("weaker", "stronger"):
            after = ask(client, slider[f"{name}_url"])
            moved = all_sliders(after)[slider["latent"]]["strength"] - slider["strength"]
            if abs(abs(moved) - slider["high"] / 5) < 2e-3:  # a whole notch
                assert after["cosine"] == pytest.approx(slider[f"left_{name}"], abs=2e-3)


def test_a_move_says_what_it_leaves_by_itself(planted: Planted, client: TestClient) -> None:
    own = ask(client, planted.search, q=Q)["sliders"][0]["latent"]
    for parameters in ({"f": "40:+0.30"}, {"f": f"{own}:-0.20"}, {"ignore": own}):
        view = ask(client, planted.search, q=Q, **parameters)
        assert view["moves"][0]["cosine"] == pytest.approx(view["cosine"], abs=1e-4)


# --- how far --------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [0.95, 0.8, 0.5])
def test_the_cosine_that_is_to_be_kept_is_kept_exactly(
    keep: float, planted: Planted, client: TestClient
) -> None:
    view = ask(client, planted.search, q=Q, f=["40:+3.00", "41:-3.00"], keep=keep)
    assert view["cosine"] == pytest.approx(keep, abs=1e-4)
    chip = next(move for move in view["moves"] if move["kind"] == "keep")
    assert "scaled to" in chip["change"]
    assert ask(client, chip["undo_url"])["keep"] is None
    small = ask(client, planted.search, q=Q, f="40:+0.01", keep=keep)
    assert "not needed" in next(move for move in small["moves"] if move["kind"] == "keep")["change"]


def test_refining_says_what_it_brought(planted: Planted, client: TestClient) -> None:
    view = ask(client, planted.search, q=Q, f="40:+0.30", refine=1)
    before, after = view["refined"]
    assert 0 <= after <= before
    chip = next(move for move in view["moves"] if move["kind"] == "refine")
    assert chip["change"] == f"missed what was asked for by {before:.0%}, now by {after:.0%}"
    assert ask(client, planted.search, q=Q, refine=1)["refined"] is None


# --- families -------------------------------------------------------------------------------------


def test_a_family_moves_its_members_in_proportion_by_a_move_of_its_length(
    planted: Planted, client: TestClient, family: Family
) -> None:
    view = ask(client, planted.search, q=Q, family=urls.strength(family.id, 0.3))
    (slider,) = view["families"]
    assert (slider["root"], slider["strength"], slider["size"]) == (family.id, 0.3, len(family.members))
    means = np.asarray(planted.set.features.mean_N)
    shares = {f["feature"]["latent"]: f["share"] for f in slider["followers"]}
    ratios = [share / means[latent] for latent, share in shares.items()]
    assert ratios == pytest.approx([ratios[0]] * len(ratios))
    direction_D = sum(share * planted.set.sae.directions_ND[latent] for latent, share in shares.items())
    assert np.linalg.norm(direction_D) == pytest.approx(1, abs=1e-4)
    for follower in slider["followers"]:
        assert follower["strength"] == pytest.approx(follower["own"] + 0.3 * follower["share"])
    x_D = planted.explorer.embed(Q)
    steered_D = x_D + 0.3 * direction_D
    assert view["cosine"] == pytest.approx(float(x_D @ steered_D / np.linalg.norm(steered_D)), abs=1e-4)


def test_a_locked_member_stays_and_one_with_a_strength_has_that(
    planted: Planted, client: TestClient, family: Family
) -> None:
    address = SearchQuery(planted.explorer.name, planted.sae, q=Q).url_family(family.id, 0.3)
    free = ask(client, address)
    first, second = free["families"][0]["followers"][:2]
    locked = ask(client, first["lock_url"])
    assert f"lock={first['feature']['latent']}" in locked["url"]
    slider = locked["families"][0]
    assert slider["n_locked"] == 1
    assert slider["followers"][0]["strength"] == first["own"]
    assert slider["followers"][1]["strength"] == second["strength"]  # the others move as before
    assert positions(locked) != positions(free) or locked["cosine"] != free["cosine"]
    assert ask(client, slider["followers"][0]["lock_url"])["url"] == free["url"]

    by_hand = ask(client, second["set_url"])
    latent = second["feature"]["latent"]
    assert all_sliders(by_hand)[latent]["strength"] == pytest.approx(second["strength"], abs=1e-3)
    assert by_hand["families"][0]["followers"][1]["is_set"]
    assert by_hand["cosine"] == pytest.approx(free["cosine"], abs=1e-3)
    gone = ask(client, locked["families"][0]["remove_url"])
    assert gone["families"] == []
    assert "lock=" not in gone["url"]  # a lock without its family says nothing


def test_the_links_of_a_family_do_what_they_say(planted: Planted, client: TestClient, family: Family) -> None:
    view = ask(client, planted.search, q=Q, family=urls.strength(family.id, 0.0))
    assert positions(view) == positions(ask(client, planted.search, q=Q))
    assert not view["is_steered"]
    slider = view["families"][0]
    more = ask(client, slider["stronger_url"])["families"][0]
    assert more["strength"] == pytest.approx(slider["high"] / 5, abs=1e-3)
    assert ask(client, more["weaker_url"])["families"][0]["strength"] == 0
    assert ask(client, more["reset_url"])["url"] == view["url"]


def test_the_page_of_a_family_leads_to_its_slider(
    planted: Planted, client: TestClient, family: Family
) -> None:
    url = ask(client, urls.family(planted.explorer.name, planted.sae, family.id))["steer_url"]
    assert re.fullmatch(rf".*/search\?family={family.id}:\+0\.\d+", url)
    view = ask(client, url)
    assert view["families"][0]["root"] == family.id
    having = {int(i) for member in family.members for i in planted.set.codes.of_latent(member)[0]}
    assert positions(view)
    assert all(position in having for position in positions(view)[:5])


def test_a_family_that_is_not_there_is_said_to_be_missing(planted: Planted, client: TestClient) -> None:
    missing = next(i for i in range(64) if i not in {family.id for family in planted.set.families})
    view = ask(client, planted.search, q=Q, family=urls.strength(missing, 0.3))
    assert view["families"] == []
    assert f"no family {missing}" in view["remarks"][0]
    assert positions(view) == positions(ask(client, planted.search, q=Q))


# --- adding ---------------------------------------------------------------------------------------


def test_features_are_found_by_words_and_by_meaning_each_once(planted: Planted, client: TestClient) -> None:
    word = next(word for word in WORDS if any(word in label.text for label in planted.set.labels))
    view = ask(client, planted.search, q=Q, find=word)
    latents = [found["row"]["latent"] for found in view["found"]]
    assert len(latents) == len(set(latents))
    assert any(found["by"] != "meaning" for found in view["found"])
    vectors_ND = planted.set.label_vectors_ND
    assert vectors_ND is not None
    cosines = vectors_ND.astype(np.float32) @ planted.explorer.embed(word)
    meant = [found for found in view["found"] if found["cosine"] is not None]
    assert meant
    for found in meant:
        assert found["cosine"] == pytest.approx(float(cosines[found["row"]["latent"]]), abs=2e-3)
    ranked = [found["cosine"] for found in view["found"] if found["by"] == "meaning"]
    assert ranked == sorted(ranked, reverse=True)
    assert view["found_note"] is None


def test_without_an_encoder_features_are_found_by_words(planted: Planted) -> None:
    explorer = planted.without_encoder("loading")
    label = next(label.text for label in planted.set.labels if label.source != "none")
    with TestClient(serve(planted, explorer)) as client:
        view = ask(client, planted.search, f="40:+0.30", find=label)
        assert {found["by"] for found in view["found"]} == {"words"}
        assert "by words only" in view["found_note"]
        assert view["found_note"] in html.unescape(client.get(planted.search, params={"find": label}).text)


def test_families_are_found_by_words(planted: Planted, client: TestClient, family: Family) -> None:
    name = ask(client, urls.family(planted.explorer.name, planted.sae, family.id))["label"]["text"]
    view = ask(client, planted.search, q=Q, find=name)
    found = next(found for found in view["found_families"] if found["id"] == family.id)
    after = ask(client, found["url"])
    assert after["families"][0]["root"] == family.id
    assert after["families"][0]["strength"] > 0


# --- where a search begins ------------------------------------------------------------------------


def test_a_search_begins_from_documents_beside_words(planted: Planted, client: TestClient) -> None:
    ids = [document.id for document in documents(planted.explorer.n_documents)]
    vectors = planted.explorer.index.vectors()
    view = ask(client, planted.search, q=Q, like=[ids[100], ids[200]], unlike=ids[300])
    wanted_D = planted.explorer.embed(Q) + vectors[100] + vectors[200] - vectors[300]
    scores = vectors @ (wanted_D / np.linalg.norm(wanted_D))
    assert positions(view) == np.argsort(-scores, kind="stable")[:10].tolist()
    alone = ask(client, planted.search, like=ids[100])
    assert positions(alone)[0] == 100
    assert alone["has_query"]
    assert alone["sliders"]


def test_documents_that_are_not_there_are_named_and_left_out(planted: Planted, client: TestClient) -> None:
    view = ask(client, planted.search, q=Q, like="nowhere/1", unlike="nowhere/2")
    assert positions(view) == positions(ask(client, planted.search, q=Q))
    assert [
        document in remark
        for document, remark in zip(("nowhere/1", "nowhere/2"), view["remarks"], strict=True)
    ] == [
        True,
        True,
    ]
    nothing = ask(client, planted.search, like="nowhere/1", f="40:+0.30")
    assert nothing["results"]
    assert nothing["sliders"]
    cancelled = ask(client, planted.search, like="doc-0100", unlike="doc-0100", f="40:+0.30")
    assert cancelled["results"] == []
    assert "cancel" in cancelled["message"].lower()
    assert all_sliders(cancelled).keys() == {40}


# --- nothing left, mistakes -----------------------------------------------------------------------


def test_moves_that_leave_nothing_say_so_and_the_panel_stays(planted: Planted, client: TestClient) -> None:
    plain = ask(client, planted.search, q=Q)
    zeros = [urls.strength(latent, 0.0) for latent in all_sliders(plain)]
    assert ask(client, planted.search, q=Q, f=zeros)["results"]  # what features do not explain is left
    cancelling = ask(client, planted.search, f=["40:+0.00", "41:+0.00"])
    assert cancelling["results"] == []
    assert "nothing to search for" in cancelling["message"]
    assert all_sliders(cancelling).keys() == {40, 41}

    twin = copy.copy(planted.set)
    directions_ND = planted.set.sae.W_dec_ND.copy()
    directions_ND[41] = directions_ND[40]
    sae = copy.copy(planted.set.sae)
    sae.W_dec_ND = directions_ND
    explorer = copy.copy(planted.explorer)
    explorer.saes = {planted.sae: replace(twin, sae=sae)}
    with TestClient(serve(planted, explorer)) as other:
        for parameters in ({"f": ["40:+0.30", "41:-0.30"]}, {"q": Q, "like": "nowhere", "f": "40:+0.1"}):
            view = ask(other, planted.search, **parameters)
            assert all_sliders(view).keys() >= {40}
        opposite = ask(other, planted.search, f=["40:+0.30", "41:-0.30"])
        assert opposite["results"] == []
        assert "cancels out" in opposite["message"]


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        ("f=41:nan", "parameter f"),
        ("f=41:inf", "parameter f"),
        ("f=41:1e9", "parameter f"),
        ("f=64:0.1", "parameter f"),
        ("keep=2", "parameter keep"),
        ("ignore=x", "parameter ignore"),
        ("lens=mine", "parameter lens"),
        ("against=doc-0001", "parameter against"),
        ("year_min=2010&year_max=2000", "parameter year_max"),
        ("&".join(f"require={i}" for i in range(40)) + "".join(f"&a={i}" for i in range(60)), "parameter a"),
        ("paste=%7B", "no JSON"),
    ],
)
def test_an_address_with_a_mistake_keeps_the_panel(
    mistake: str, words: str, planted: Planted, client: TestClient
) -> None:
    answer = client.get(f"{planted.search}?q={Q}&f=40:%2B0.30&{mistake}")
    assert answer.status_code == 400
    assert words in html.unescape(answer.text)
    assert 'id="s40"' in answer.text
    assert f'value="{Q}"' in answer.text
    assert "<h1" in answer.text
    twin = client.get(f"{urls.json(planted.search)}?q={Q}&f=40:%2B0.30&{mistake}")
    assert twin.status_code == 400
    assert words in twin.json()["message"]
    partial = {"HX-Request": "true", "HX-Request-Type": "partial", "HX-Target": "section#results"}
    fragment = client.get(f"{planted.search}?q={Q}&{mistake}", headers=partial)
    assert fragment.status_code == 400
    assert "<html" not in fragment.text
    assert words in html.unescape(fragment.text)


def test_five_thousand_moves_are_refused_and_the_page_stands(planted: Planted, client: TestClient) -> None:
    many = "&".join(f"f={i % 64}:0.1" for i in range(5000))
    answer = client.get(f"{planted.search}?q={Q}&{many}")
    assert answer.status_code in {400, 414}
    assert "<h1" in answer.text
    repeated = "&".join(f"f=40:0.{i % 9 + 1}" for i in range(500))
    view = ask(client, f"{planted.search}?{repeated}&q={Q}")
    assert all_sliders(view)[40]["strength"] == 0.1 * (499 % 9 + 1)


def test_a_dead_feature_can_be_moved_and_says_what_it_is(planted: Planted, client: TestClient) -> None:
    dead = int(np.flatnonzero(planted.set.features.n_documents_N == 0)[0])
    view = ask(client, planted.search, q=Q, f=urls.strength(dead, 0.2))
    assert all_sliders(view)[dead]["label"] != ""
    assert all_sliders(view)[dead]["words"] == "stronger than in any document"
    nothing = ask(client, planted.search, q=Q, require=dead)
    assert nothing["results"] == []
    assert nothing["message"]


def test_every_chip_takes_back_what_it_names_and_reset_takes_back_all_moves(
    planted: Planted, client: TestClient, family: Family
) -> None:
    lens = f"far;{planted.sae};30:+0.20,!{family.members[0]}"
    view = ask(
        client,
        planted.search,
        q=Q,
        lens=lens,
        family=urls.strength(family.id, 0.2),
        f=["40:+0.30"],
        ignore=41,
        exclude=42,
        keep=0.7,
        refine=1,
        year_min=2003,
        cited_min=1,
        diverse=1,
        keywords=0.2,
        venue="Journal 1",
        category="group-1",
    )
    kinds = [move["kind"] for move in view["moves"]]
    assert kinds == ["lens", "family", "strength", "mode", "mode", "keep", "refine", *["demand"] * 6]
    for move in view["moves"]:
        after = ask(client, move["undo_url"])
        assert len(after["moves"]) == len(kinds) - 1
        assert move["words"] not in [other["words"] for other in after["moves"]]
    after = ask(client, view["reset_url"])
    assert {move["kind"] for move in after["moves"]} == {"demand"}
    assert after["q"] == Q


def test_the_search_speaks_no_html_of_a_lens_or_a_document(planted: Planted, client: TestClient) -> None:
    hostile = "<img src=x onerror=alert(1)>"
    page = client.get(
        planted.search, params={"q": Q, "lens": f"{hostile};{planted.sae};40:+0.30", "like": hostile}
    )
    assert page.status_code == 200
    assert hostile not in page.text
    assert html.escape(hostile) in page.text


def test_order_is_by_contribution_times_specificity(planted: Planted, client: TestClient) -> None:
    view = ask(client, planted.search, q=f"{WORDS[6]} {WORDS[7]}")
    n = planted.explorer.n_documents
    x_D = planted.explorer.embed(view["q"])
    for slider in all_sliders(view).values():
        product = float(planted.set.sae.directions_ND[slider["latent"]] @ x_D)
        expected = slider["own"] * product * math.log(n / slider["n_documents"])
        assert slider["explains"] == pytest.approx(expected, rel=0.02, abs=1e-3)
