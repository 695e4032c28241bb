"""What stands beside a ranking: sums that come out, movements, previews, marks, words, filters."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest
from fastapi.testclient import TestClient

from app import urls
from app.catalog import FILE_NAME, Catalog
from app.query import SearchQuery
from app.search import facets
from app.search.reasons import MOST_FORETOLD
from sae_core.corpus import Document
from sae_core.steer import explained
from tests.app.served import Planted
from tests.planted import WORDS, documents

View = dict[str, Any]
QUERIES = [WORDS[1], f"{WORDS[6]} {WORDS[20]}", f"{WORDS[3]} {WORDS[40]} {WORDS[41]}"]


def ask(client: TestClient, url: str, **parameters: Any) -> View:
    more = urlencode(parameters, doseq=True)
    joined = f"{url}{'&' if '?' in url else '?'}{more}" if more else url
    answer = client.get(urls.json(joined))
    assert answer.status_code == 200
    view: View = answer.json()
    return view


def ids(view: View) -> list[str]:
    return [row["document"]["id"] for row in view["results"]]


def id_of(document: View) -> str:
    """The id in the address of a linked document."""
    return str(document["url"].rpartition("/documents/")[2].partition("?")[0])


def added_feature(planted: Planted, view: View) -> int:
    """A living feature that the query does not have."""
    shown = {slider["latent"] for slider in [*view["sliders"], *view["more_sliders"]]}
    counts = planted.set.features.n_documents_N
    return next(int(latent) for latent in np.argsort(-counts) if int(latent) not in shown)


def steered(planted: Planted, client: TestClient, q: str) -> View:
    """A search with one feature raised and one of the query's own turned around."""
    plain = ask(client, planted.search, q=q)
    moves = [(added_feature(planted, plain), 0.35), (plain["sliders"][0]["latent"], -0.1)]
    return ask(client, planted.search, q=q, f=[urls.strength(*move) for move in moves])


# --- why ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("q", QUERIES)
def test_the_parts_of_every_score_add_up_to_it(q: str, planted: Planted, client: TestClient) -> None:
    for view in (ask(client, planted.search, q=q), steered(planted, client, q)):
        for row in view["results"]:
            why = ask(client, view["url"], why=row["document"]["id"])["why"]
            parts = sum(part["value"] for part in why["parts"])
            assert parts + why["bias"] + why["missed"] == pytest.approx(row["score"], abs=1e-4)
            assert why["query"] + sum(move["value"] for move in why["moves"]) == pytest.approx(
                row["score"], abs=1e-4
            )
            assert (why["rank"], why["document"]["url"]) == (row["rank"], row["document"]["url"])
            sizes = [abs(part["value"]) for part in why["parts"]]
            assert sizes == sorted(sizes, reverse=True)
            own = dict(
                zip(
                    *(a.tolist() for a in planted.set.codes.of_document(row["document"]["position"])),
                    strict=True,
                )
            )
            assert {p["feature"]["latent"]: p["feature"]["activation"] for p in why["parts"]} == own


def test_what_moves_added_is_told_move_by_move(planted: Planted, client: TestClient) -> None:
    view = steered(planted, client, QUERIES[0])
    moved = {int(f.partition(":")[0]) for f in re.findall(r"f=([^&]+)", view["url"])}
    why = ask(client, view["url"], why=ids(view)[0])["why"]
    assert {move["feature"]["latent"] for move in why["moves"]} == moved
    assert ask(client, planted.search, q=QUERIES[0], why=ids(view)[0])["why"]["moves"] == []


def test_why_one_result_is_above_another_is_the_difference_of_their_sums(
    planted: Planted, client: TestClient
) -> None:
    view = steered(planted, client, QUERIES[1])
    first, fourth = view["results"][0], view["results"][3]
    asked = ask(client, view["url"], why=first["document"]["id"], against=fourth["document"]["id"])
    above = asked["above"]
    difference = first["score"] - fourth["score"]
    assert above["score"] == pytest.approx(difference, abs=1e-4)
    parts = sum(part["value"] for part in above["parts"])
    assert parts + above["bias"] + above["missed"] == pytest.approx(difference, abs=1e-4)
    assert above["bias"] == pytest.approx(0, abs=1e-6)
    assert above["below"]["url"] == fourth["document"]["url"]
    assert asked["why"]["close_url"] == view["url"]
    assert ask(client, above["close_url"])["above"] is None
    assert ask(client, view["url"], why=ids(view)[0], against=ids(view)[0])["above"] is None


def test_a_paper_that_is_not_on_the_page_is_explained_all_the_same(
    planted: Planted, client: TestClient
) -> None:
    last = ask(client, planted.search, q=QUERIES[0], page=30)["results"][0]
    view = ask(client, planted.search, q=QUERIES[0], why=last["document"]["id"])
    assert view["why"]["rank"] is None
    assert view["why"]["score"] == pytest.approx(last["score"], abs=1e-4)


# --- movement -------------------------------------------------------------------------------------


@pytest.mark.parametrize("q", QUERIES)
def test_the_plain_first_page_says_where_each_of_its_documents_went(
    q: str, planted: Planted, client: TestClient
) -> None:
    plain, view = ask(client, planted.search, q=q), steered(planted, client, q)
    assert plain["plain"] == plain["ways"] == []
    assert [id_of(row["document"]) for row in view["plain"]] == ids(plain)
    everything = []
    for page in range(1, 61):
        everything += ids(ask(client, view["url"], page=page))
    now = {id_: rank for rank, id_ in enumerate(everything, start=1)}
    assert [row["now"] for row in view["plain"]] == [now[id_] for id_ in ids(plain)]
    assert [row["is_dropped"] for row in view["plain"]] == [now[id_] > 10 for id_ in ids(plain)]
    assert any(row["is_dropped"] for row in view["plain"])
    assert not any(row["is_new"] for row in view["results"])


def test_what_a_demand_leaves_out_is_told_apart_from_what_fell(planted: Planted, client: TestClient) -> None:
    plain = ask(client, planted.search, q=QUERIES[0])
    latent = plain["results"][0]["shared"][0]["latent"]
    view = ask(client, planted.search, q=QUERIES[0], exclude=latent)
    has = set(planted.set.codes.of_latent(latent)[0].tolist())
    positions = {row["document"]["id"]: row["document"]["position"] for row in plain["results"]}
    for row in view["plain"]:
        assert row["is_filtered"] == (positions[id_of(row["document"])] in has)
        assert (row["now"] is None) == row["is_filtered"] <= row["is_dropped"]
    html = client.get(view["url"]).text
    assert "left out by what is required" in html


def test_two_rankings_stand_side_by_side(planted: Planted, client: TestClient) -> None:
    view = steered(planted, client, QUERIES[0])
    assert [way["value"] for way in view["ways"]] == ["list", "ab"]
    html = client.get(view["ways"][1]["url"]).text
    assert 'class="ab"' in html
    assert html.count('<li id="before-') == html.count('<li id="after-') == 10
    both = ask(client, view["ways"][1]["url"])
    assert both["results"] == [row | {"marks": []} for row in view["results"]]
    later = client.get(f"{view['ways'][1]['url']}&page=2").text
    assert 'id="after-11"' in later
    assert not set(re.findall(r'href="#(after-\d+)"', later)) - set(re.findall(r'id="(after-\d+)"', later))
    assert 'class="ab"' not in client.get(urls.search("planted", planted.sae, WORDS[0]) + "&view=ab").text


# --- before a slider is moved -----------------------------------------------------------------------


def test_what_is_foretold_of_a_notch_comes_true(planted: Planted, client: TestClient) -> None:
    foretold, real = [], []
    view = ask(client, planted.search, q=QUERIES[1])
    before = ids(view)
    for preview, slider in zip(view["previews"], view["sliders"], strict=True):
        assert preview["latent"] == slider["latent"]
        for notch, url in ((preview["down"], slider["weaker_url"]), (preview["up"], slider["stronger_url"])):
            if notch is None:
                continue
            after = [id_ for page in range(1, 31) for id_ in ids(ask(client, url, page=page))]
            found = [(at, after.index(id_)) for at, id_ in enumerate(before) if id_ in after]
            foretold += [notch["shown"][at] for at, _ in found]
            real += [at - now for at, now in found]
            assert notch["n_rise"] + notch["n_fall"] <= view["n_pool"] == 200
    assert len(real) > 20
    assert np.corrcoef(foretold, real)[0, 1] > 0.9


def test_of_many_sliders_those_nearest_at_hand_are_foretold(planted: Planted, client: TestClient) -> None:
    own = {slider["latent"] for slider in ask(client, planted.search, q=QUERIES[1])["sliders"]}
    moved = [latent for latent in range(planted.set.sae.n_latents) if latent not in own][:20]
    view = ask(client, planted.search, q=QUERIES[1], f=[urls.strength(latent, 0.1) for latent in moved])
    foretold = [preview["latent"] for preview in view["previews"]]
    assert len(foretold) == MOST_FORETOLD
    assert set(foretold) == own | set(moved[-(MOST_FORETOLD - len(own)) :])
    assert view["n_unforetold"] == len(view["sliders"]) - MOST_FORETOLD
    assert f"Of {len(view['sliders'])} sliders only these" in client.get(view["url"]).text


def test_of_many_strengths_the_latest_have_a_chip_and_the_others_are_counted(
    planted: Planted, client: TestClient
) -> None:
    strengths = [urls.strength(latent, -0.1) for latent in range(30)]
    view = ask(client, planted.search, q=QUERIES[1], f=strengths)
    text = client.get(view["url"]).text
    assert len(view["moves"]) == 30
    assert text.count('class="move move-strength"') == 24
    assert "and 6 earlier strengths" in text
    fewer = ask(client, planted.search, q=QUERIES[1], f=strengths[:24])
    assert "earlier strength" not in client.get(fewer["url"]).text


def test_previews_follow_the_page(planted: Planted, client: TestClient) -> None:
    first, third = (ask(client, planted.search, q=QUERIES[1], page=page) for page in (1, 3))
    for one, other in zip(first["previews"], third["previews"], strict=True):
        for side in ("down", "up"):
            if one[side] is None:
                assert other[side] is None
                continue
            assert len(one[side]["shown"]) == len(other[side]["shown"]) == 10
            assert {**one[side], "shown": ()} == {**other[side], "shown": ()}
    beyond = ask(client, planted.search, q=QUERIES[1], page=40)
    assert all(preview["up"] is None or preview["up"]["shown"] == [] for preview in beyond["previews"])


def test_features_alone_have_previews_too(planted: Planted, client: TestClient) -> None:
    view = ask(client, planted.search, f=["40:+0.30", "2:+0.20"])
    assert [preview["latent"] for preview in view["previews"]] == [40, 2]
    assert all(preview["up"]["n_rise"] > 0 for preview in view["previews"])


# --- marks ----------------------------------------------------------------------------------------


def test_marks_propose_at_most_five_moves_that_can_be_accepted_one_by_one(
    planted: Planted, client: TestClient
) -> None:
    plain = ask(client, planted.search, q=QUERIES[1])
    assert plain["proposals"] is None
    up, down = [ids(plain)[4], ids(plain)[7]], [ids(plain)[0]]
    view = ask(client, planted.search, q=QUERIES[1], up=up, down=down)
    assert ids(view) == ids(plain)  # a mark changes nothing by itself
    proposals = view["proposals"]
    assert (proposals["n_up"], proposals["n_down"]) == (2, 1)
    assert 1 <= len(proposals["moves"]) <= 5
    gains = [move["gain"] for move in proposals["moves"]]
    assert gains == sorted(gains, reverse=True)
    for move in proposals["moves"]:
        accepted = ask(client, move["url"])
        sliders = {s["latent"]: s["strength"] for s in [*accepted["sliders"], *accepted["more_sliders"]]}
        assert sliders[move["feature"]["latent"]] == pytest.approx(move["strength"], abs=1e-3)
        assert accepted["proposals"] is not None  # the marks stay
    assert ask(client, proposals["clear_url"])["proposals"] is None
    assert ask(client, proposals["clear_url"])["url"] == plain["url"]


def test_accepted_proposals_bring_what_was_wanted_nearer(planted: Planted, client: TestClient) -> None:
    nearer = 0
    for q in QUERIES:
        plain = [row for page in (1, 2) for row in ask(client, planted.search, q=q, page=page)["results"]]
        wanted, unwanted = plain[9]["document"]["id"], plain[1]["document"]["id"]
        marks = {"up": wanted, "down": unwanted}
        moves = ask(client, planted.search, q=q, **marks)["proposals"]["moves"]
        f = [urls.strength(move["feature"]["latent"], move["strength"]) for move in moves]
        after = ask(client, planted.search, q=q, f=f, why=wanted, against=unwanted)
        nearer += after["above"]["score"] > plain[9]["score"] - plain[1]["score"]
    assert nearer == len(QUERIES)


def test_every_mark_can_be_taken_back_or_turned_around(planted: Planted, client: TestClient) -> None:
    first = ids(ask(client, planted.search, q=QUERIES[0]))[0]
    for role, other in (("up", "down"), ("like", "unlike"), ("a", "b")):
        view = ask(client, planted.search, q=QUERIES[0], **{role: first})
        row = next(row for row in view["results"] if row["document"]["id"] == first)
        marks = {mark["role"]: mark for mark in row["marks"]}
        assert (marks[role]["is_on"], marks[other]["is_on"]) == (True, False)
        assert f"{role}=" not in marks[role]["url"]
        assert f"&{other}={first}" in marks[other]["url"]
        assert f"&{role}={first}" not in marks[other]["url"]


def test_marks_of_documents_that_are_not_here_are_told(planted: Planted, client: TestClient) -> None:
    view = ask(client, planted.search, q=QUERIES[0], up=["gone-1", "gone-1"], why="gone-2", a="gone-3")
    assert view["proposals"] is view["why"] is None
    assert len(view["results"]) == 10
    assert [re.search('"(.+)"', remark)[1] for remark in view["remarks"]] == ["gone-1", "gone-3", "gone-2"]  # type: ignore[index]
    assert [each["document"]["title"] for each in view["chosen"]] == ["gone-3"]


def test_ticks_lead_to_what_separates_them(planted: Planted, client: TestClient) -> None:
    some = ids(ask(client, planted.search, q=QUERIES[0]))
    assert ask(client, planted.search, q=QUERIES[0])["separate_url"] is None
    view = ask(client, planted.search, q=QUERIES[0], a=some[:2], b=some[2:4])
    assert [each["role"] for each in view["chosen"]] == ["a", "a", "b", "b"]
    assert ids(ask(client, view["chosen"][0]["remove_url"])) == some
    page = client.get(view["separate_url"])
    assert page.status_code == 200
    for id_ in some[:4]:
        assert f"/documents/{id_}" in page.text


# --- paper arithmetic -------------------------------------------------------------------------------


def test_a_search_begins_from_documents(planted: Planted, client: TestClient) -> None:
    for id_ in ("doc-0100", "doc-0200"):
        page = client.get(f"/{planted.explorer.name}/documents/{id_}.json").json()
        view = ask(client, page["steer_url"])
        assert ids(view)[0] == id_
        assert view["results"][0]["score"] == pytest.approx(1, abs=1e-5)
    both = ask(client, planted.search, like=["doc-0100", "doc-0200"])
    vectors = planted.explorer.index.vectors()
    wanted = vectors[100] + vectors[200]
    expected = np.argsort(-(vectors @ wanted), kind="stable")[:10].tolist()
    assert [row["document"]["position"] for row in both["results"]] == expected
    less = ask(client, planted.search, q=QUERIES[0], unlike="doc-0100")
    scores = vectors @ (planted.explorer.embed(QUERIES[0]) - vectors[100])
    assert [row["document"]["position"] for row in less["results"]] == np.argsort(-scores)[:10].tolist()


# --- words ----------------------------------------------------------------------------------------


def test_words_are_fused_with_meaning_by_reciprocal_ranks(planted: Planted, client: TestClient) -> None:
    q = f"study {WORDS[5]} sample 77"
    plain = ask(client, planted.search, q=q)
    n = planted.explorer.n_documents
    by_meaning = [
        id_ for page in range(1, n // 10 + 1) for id_ in ids(ask(client, planted.search, q=q, page=page))
    ]
    by_words = ids(ask(client, planted.search, q=q, keywords=1))
    assert by_words[:10] != by_meaning[:10]
    titles = [d.title + d.abstract for d in documents(n) if d.id in by_words[:5]]
    assert all("77" in title or WORDS[5] in title for title in titles)
    view = ask(client, planted.search, q=q, keywords=0.5)
    catalog = Catalog(planted.explorer.path / FILE_NAME)
    ranks = {id_: 1 / (60 + rank) for rank, id_ in enumerate(by_meaning, start=1)}
    hits = catalog.documents(catalog.keyword_hits(q).tolist())
    catalog.close()
    scores = {id_: 0.5 * share for id_, share in ranks.items()}
    for rank, document in enumerate(hits, start=1):
        scores[document.id] += 0.5 / (60 + rank)
    best = sorted(scores, key=lambda id_: (-scores[id_], -ranks[id_]))[:10]
    assert ids(view) == best
    assert view["n_keywords"] == len(hits)
    assert plain["n_keywords"] == 0
    assert "fused with the ranking by words" in client.get(view["url"]).text


def test_words_that_nobody_has_are_told(planted: Planted, client: TestClient) -> None:
    view = ask(client, planted.search, q="xyzzy", keywords=0.8)
    assert ids(view) == ids(ask(client, planted.search, q="xyzzy"))
    assert ["by meaning alone" in remark for remark in view["remarks"]] == [True]
    none = ask(client, planted.search, f="40:+0.30", keywords=0.8)
    assert "There are no words" in none["remarks"][0]


# --- filters --------------------------------------------------------------------------------------


def test_filters_are_counted_under_the_others(planted: Planted, client: TestClient) -> None:
    venues = ["Journal 1", "Journal 2"]
    asked = {"year_min": 2005, "venue": venues, "category": "group-1", "cited_min": 3}
    view = ask(client, planted.search, q=WORDS[0], **asked)
    truth = documents(planted.explorer.n_documents)
    passes: dict[str, Callable[[Document], bool]] = {
        "year": lambda d: d.year is not None and d.year >= 2005,
        "venue": lambda d: d.venue in venues,
        "category": lambda d: "group-1" in d.categories.split(),
        "cited": lambda d: d.citations is not None and d.citations >= 3,
    }

    def others(facet: str) -> list[Document]:
        rest = [test for name, test in passes.items() if name != facet]
        return [d for d in truth if all(test(d) for test in rest)]

    shown = view["facets"]
    assert view["page"]["total"] == sum(all(test(d) for test in passes.values()) for d in truth)
    for venue in shown["venues"]:
        assert venue["count"] == sum(d.venue == venue["value"] for d in others("venue"))
        assert venue["is_chosen"] == (venue["value"] in venues)
    for category in shown["categories"]:
        assert category["count"] == sum(category["value"] in d.categories.split() for d in others("category"))
    for year, count in shown["years"]:
        assert count == sum(d.year == year for d in others("year"))
    for step in shown["cited"]:
        has = [d for d in others("cited") if d.citations is not None and d.citations >= int(step["value"])]
        assert step["count"] == len(has)
    assert [step["value"] for step in shown["cited"] if step["is_chosen"]] == ["3"]


def test_without_time_there_are_no_counts_and_nothing_breaks(
    planted: Planted, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facets, "SECONDS", -1)
    view = ask(client, planted.search, q=WORDS[0], year_min=2007, venue="Journal 4")
    assert len(view["results"]) == 10
    counts = [each["count"] for name in ("venues", "categories", "cited") for each in view["facets"][name]]
    assert set(counts) == {None}
    assert client.get(view["url"]).status_code == 200


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"venue": "Nature"}, 'No document here has the venue "Nature"'),
        ({"category": "x"}, 'No document here has the category "x"'),
        ({"cited_min": 900}, "clear venues, categories and citations"),
        ({"require": [2, 40, 41, 30]}, "none that is excluded. Take one back"),
        ({"require": [2, 40, 41, 30], "year_min": 2005}, "Widen the filters, or take one back"),
        ({"require": 40, "exclude": 40}, "both has and lacks"),
        ({"like": "gone"}, "There is no document"),
    ],
)
def test_what_leaves_nothing_says_what_to_do_and_the_panel_stays(
    parameters: dict[str, Any], words: str, planted: Planted, client: TestClient
) -> None:
    answer = client.get(planted.search, params={"q": WORDS[0], "f": "40:+0.30", **parameters})
    assert answer.status_code == 200
    assert words in re.sub("&#34;", '"', answer.text)
    assert 'id="s40"' in answer.text
    assert 'id="keywords"' in answer.text


def test_one_result_of_each_family(planted: Planted, client: TestClient) -> None:
    families = planted.set.family_of_documents()
    view = ask(client, planted.search, q=QUERIES[1], diverse=1)
    found = [int(families[row["document"]["position"]]) for row in view["results"]]
    known = [family for family in found if family >= 0]
    assert len(set(known)) == len(known)
    assert view["page"]["total"] < planted.explorer.n_documents


# --- how far features speak -------------------------------------------------------------------------


def test_faithfulness_is_told_of_query_papers_and_page(planted: Planted, client: TestClient) -> None:
    sae, explorer = planted.set.sae, planted.explorer

    def share(y_D: Any) -> float:
        return explained(y_D, sae.decode(sae.encode(y_D[None]))[0], sae.b_dec_D)

    for q in QUERIES:
        view = ask(client, planted.search, q=q)
        x_D = explorer.embed(q)
        shares = [share(explorer.vector(row["document"]["position"])) for row in view["results"]]
        assert [row["explained"] for row in view["results"]] == pytest.approx(shares, abs=1e-4)
        told = view["faithful"]
        assert told["explained"] == pytest.approx(share(x_D), abs=1e-5)
        assert told["page"] == pytest.approx(np.mean(shares), abs=1e-4)
        reconstruction_D = sae.decode(sae.encode(x_D[None]))[0]
        vectors = explorer.index.vectors()
        best = [set(np.argsort(-(vectors @ v), kind="stable")[:20].tolist()) for v in (x_D, reconstruction_D)]
        assert told["overlap"] == pytest.approx(len(best[0] & best[1]) / 20)
        assert told["is_low"] == (told["explained"] < 0.5)
        html = client.get(view["url"]).text
        assert ("less than half of its meaning" in html) == told["is_low"]
    assert ask(client, planted.search, f="40:+0.30")["faithful"] is None


def test_a_warning_where_features_say_little(planted: Planted, client: TestClient) -> None:
    """A text without planted words is noise: no feature speaks for it."""
    views = (ask(client, planted.search, q=f"nothing {n}") for n in range(40))
    low = next(view for view in views if view["faithful"]["is_low"])
    assert "Sliders act on less than half of its meaning" in re.sub(
        "sliders", "Sliders", client.get(low["url"]).text
    )


# --- the page -------------------------------------------------------------------------------------


def test_the_form_of_the_panel_carries_what_results_know(planted: Planted, client: TestClient) -> None:
    query = SearchQuery(
        planted.explorer.name,
        planted.sae,
        q=WORDS[0],
        like=("doc-0100",),
        up=("doc-0101",),
        a=("doc-0102",),
        why="doc-0103",
        view="ab",
    )
    partial = {"HX-Request": "true", "HX-Request-Type": "partial", "HX-Target": "section#results"}
    for headers in ({}, partial):
        html = client.get(query.url(), headers=headers).text
        fields = re.findall('<input type="hidden" form="steer" name="([^"]+)" value="([^"]*)">', html)
        assert sorted(fields) == [
            ("a", "doc-0102"),
            ("like", "doc-0100"),
            ("up", "doc-0101"),
            ("view", "ab"),
            ("why", "doc-0103"),
        ]
