"""Families on pages: the map, parameters in the address, one family, and forests that take their time."""

from __future__ import annotations

import copy
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from html import escape
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from app import growing, urls
from app.family import TREE_ROWS
from app.growing import Grower
from app.query import Parameters, base_config, used_by
from sae_core.explorer import Explorer, FeatureSet
from sae_core.families import Family, FamilyConfig, Null
from sae_core.intervals import Interval
from sae_core.labels import Label, Score
from sae_core.sae import SAE
from tests.app.served import Planted, serve

PARTIAL = {"HX-Request": "true", "HX-Request-Type": "partial", "HX-Target": "div#forest"}


@pytest.fixture(scope="module")
def base(planted: Planted) -> str:
    return f"{planted.base}/families"


def listing(client: TestClient, url: str) -> dict[str, Any]:
    answer = client.get(url)
    assert answer.status_code == 200, answer.text
    view: dict[str, Any] = answer.json()
    return view


def everything(client: TestClient, url: str) -> list[dict[str, Any]]:
    """The families of all pages of a list."""
    found: list[dict[str, Any]] = []
    following: str | None = url
    while following:
        view = listing(client, urls.json(following))
        found += view["families"]
        following = view["page"]["next_url"]
    return found


def with_forest(planted: Planted, families: list[Family]) -> Explorer:
    """The same collection with these families."""
    changed = copy.copy(planted.explorer)
    forest = replace(planted.set.forest, families=families)
    changed.saes = {planted.sae: replace(planted.set, forest=forest)}
    return changed


def scored(text: str, auc: float) -> Label:
    interval = Interval(auc, auc - 0.05, auc + 0.05)
    return Label(text, "phrases", Score("a test", 30, 30, interval, interval, interval))


# --- all of them ----------------------------------------------------------------------------------


CHANGES: list[dict[str, Any]] = [
    {},
    {"threshold": 0.45},
    {"min_size": 5, "max_size": 6},
    {"max_density": 0.05, "min_lift": 3.0, "min_z": 5.0, "min_together": 8},
    {"min_children": 2},
    {"edge": "child", "max_jaccard": 0.2, "n_iterations": 1},
]


def config_of(planted: Planted, algorithm: str, changes: dict[str, Any]) -> FamilyConfig:
    heard = {name: value for name, value in changes.items() if name in used_by(algorithm)}
    return replace(base_config(planted.set.forest.config, algorithm), **heard)


def written(algorithm: str, changes: dict[str, Any]) -> str:
    """The parameters spelt out, whether or not the algorithm listens to them."""
    return "&".join(f"{name}={value}" for name, value in {"algorithm": algorithm, **changes}.items())


@pytest.mark.parametrize("algorithm", ["paper", "lift"])
@pytest.mark.parametrize("changes", CHANGES, ids=", ".join)
def test_the_page_shows_the_families_of_its_parameters(
    algorithm: str, changes: dict[str, Any], planted: Planted, base: str, client: TestClient
) -> None:
    config = config_of(planted, algorithm, changes)
    forest = planted.set.grow(config)
    url = f"{base}?{written(algorithm, changes)}"
    view = listing(client, urls.json(url))
    shown = everything(client, view["url"])
    assert {each["id"] for each in shown} == {family.id for family in forest.families}
    assert [each["size"] for each in shown] == sorted(forest.sizes, reverse=True)
    assert view["is_stored"] is (config == planted.set.forest.config)
    assert (view["n_in_families"], view["n_shared"]) == (forest.n_covered, forest.n_shared)
    assert sum(band["n"] for band in view["sizes"]) == len(forest.families)
    parameters = view["url"].removeprefix(base)
    assert [each["url"] for each in shown] == [f"{base}/{each['id']}{parameters}" for each in shown]


def test_the_parameters_matter(planted: Planted) -> None:
    """Or the test above would pass on a page that ignores them."""
    for algorithm in ("paper", "lift"):
        configs = {config_of(planted, algorithm, changes) for changes in CHANGES}
        forests = {tuple(tuple(f.members) for f in planted.set.grow(config).families) for config in configs}
        assert len(forests) > len(configs) / 2


def test_a_family_keeps_the_parameters_of_the_list_it_was_found_in(base: str, client: TestClient) -> None:
    listed = listing(client, f"{base}.json?algorithm=paper&threshold=0.15&min_size=5")
    first = listed["families"][0]
    parameters = listed["url"].removeprefix(base)
    assert "threshold=0.15" in parameters
    assert first["url"] == f"{base}/{first['id']}{parameters}"
    view = listing(client, urls.json(first["url"]))
    assert (view["size"], view["families_url"], view["is_stored"]) == (first["size"], listed["url"], False)
    assert f'href="{escape(listed["url"])}"' in client.get(first["url"]).text


def test_a_family_that_other_parameters_do_not_give_is_not_found_and_says_so(
    planted: Planted, base: str, client: TestClient
) -> None:
    gone = planted.set.families[0].id
    parameters = "threshold=0.99&min_size=9"
    answer = client.get(f"{base}/{gone}.json?{parameters}")
    assert answer.status_code == 404
    assert "With these parameters" in answer.json()["message"]
    suggested = [option["url"] for option in answer.json()["suggestions"]]
    assert {f"{base}/{gone}", f"{base}?{parameters}"} <= set(suggested)
    assert all(client.get(url).status_code == 200 for url in suggested)


def test_a_feature_without_a_family_is_not_found_and_leads_to_the_feature(
    planted: Planted, base: str, client: TestClient
) -> None:
    rootless = next(i for i in range(64) if i not in {family.id for family in planted.set.families})
    answer = client.get(f"{base}/{rootless}.json")
    assert answer.status_code == 404
    suggested = [option["url"] for option in answer.json()["suggestions"]]
    assert suggested[0] == f"{planted.base}/features/{rootless}"


def test_families_from_the_nesting_are_refused_where_nothing_is_nested(base: str, client: TestClient) -> None:
    answer = client.get(f"{base}.json?algorithm=nesting")
    assert answer.status_code == 400
    assert "paper" in answer.json()["remedy"]
    assert "nesting" not in [each["value"] for each in listing(client, f"{base}.json")["algorithms"]]


def test_families_follow_the_nesting_where_there_is_one(planted: Planted, base: str) -> None:
    """The planted SAE read as a Matryoshka: its features in three groups, one inside the next."""
    plain, nested = planted.set.sae, copy.copy(planted.explorer)
    tensors = {name: getattr(plain, name) for name in ("W_enc_ND", "W_dec_ND", "b_enc_N", "b_dec_D")}
    space = replace(planted.set, sae=SAE(k=plain.k, prefixes=(16, 32, 64), **tensors))
    nested.saes = {planted.sae: space}
    changes = "threshold=0.05&min_lift=1&min_z=0&min_size=2&min_children=1"
    config = FamilyConfig("nesting", threshold=0.05, min_lift=1, min_z=0, min_size=2, min_children=1)
    with TestClient(serve(planted, nested)) as client:
        view = listing(client, f"{base}.json?algorithm=nesting&{changes}")
        assert [each["value"] for each in view["algorithms"] if each["is_chosen"]] == ["nesting"]
        assert view["page"]["total"] == len(space.grow(config).families) > 0
        assert "an earlier group" in view["definition"]
        level = {latent: (latent >= 16) + (latent >= 32) for latent in range(64)}
        for each in view["families"]:
            tree = listing(client, urls.json(each["url"]))["tree"]
            assert all(level[row["feature"]["latent"]] > level[each["id"]] for row in tree[1:])


def test_no_family_is_a_page_that_says_what_to_do(base: str, client: TestClient) -> None:
    answer = client.get(f"{base}?threshold=1&min_size=30")
    assert answer.status_code == 200
    assert "No family passed" in answer.text


@pytest.mark.parametrize("sort", ["size", "score", "hub", "block", "documents"])
def test_families_fall_in_what_they_are_sorted_by(sort: str, base: str, client: TestClient) -> None:
    names = {"hub": "hub_ratio", "block": "block_ratio", "documents": "n_documents"}
    shown = everything(client, f"{base}?sort={sort}")
    values = [each["trust"]["auc"] if sort == "score" else each[names.get(sort, sort)] for each in shown]
    known = [value for value in values if value is not None]
    assert known == sorted(known, reverse=True)
    assert values[: len(known)] == known  # those without come last


def test_the_map_has_every_family_inside_the_one_that_holds_it(
    planted: Planted, base: str, client: TestClient
) -> None:
    shown = listing(client, f"{base}.json")["map"]
    members = {family.id: set(family.members) for family in planted.set.families}
    assert {each["id"] for each in shown["areas"]} == set(members)
    places = sorted([*shown["tops"], *(place for each in shown["areas"] for place in each["inside"])])
    assert places == list(range(len(members)))  # each once
    for each in shown["areas"]:
        for place in each["inside"]:
            assert members[shown["areas"][place]["id"]] < members[each["id"]]


def test_the_map_is_by_documents_and_coloured_by_r_when_asked(base: str, client: TestClient) -> None:
    shown = listing(client, f"{base}.json?area=documents&colour=hub")["map"]
    for each in shown["areas"]:
        assert each["area"] == each["n_documents"]
        assert (each["tone"] == 0) == (each["hub_ratio"] is None or each["hub_ratio"] < 1)


def test_every_box_of_the_map_is_a_link_and_its_list_stands_beside_it(
    planted: Planted, base: str, client: TestClient
) -> None:
    html = client.get(base).text
    family = planted.set.families[0]
    assert f'<a href="{base}/{family.id}" tabindex="-1">' in html  # in a picture that is for pointers only
    assert f'<a href="{base}/{family.id}" data-row>' in html


def test_best_and_worst_are_the_ends_of_the_scores(planted: Planted, base: str) -> None:
    families = [
        replace(
            planted.set.families[0],
            id=root,
            members=[root, 50],
            parents=[-1, root],
            conditionals=[1.0, 0.5],
            label=scored(f"family {root}", 0.55 + 0.03 * root),
        )
        for root in range(12)
    ]
    with TestClient(serve(planted, with_forest(planted, families))) as client:
        view = listing(client, f"{base}.json")
    best, worst = ([each["trust"]["auc"] for each in view[name]] for name in ("best", "worst"))
    assert best == sorted(best, reverse=True)
    assert worst == sorted(worst)
    assert min(best) >= max(worst)


def test_measures_say_whether_they_are_above_chance(planted: Planted, base: str) -> None:
    family = planted.set.families[0]
    above = replace(family, hub_ratio=3.0, hub_null=Null(1.1, 1.4, 0.01), block_ratio=None, block_null=None)
    with TestClient(serve(planted, with_forest(planted, [above]))) as client:
        hub, block = listing(client, f"{base}/{family.id}.json")["measures"]
        assert (hub["value"], hub["mean"], hub["high"], hub["is_above"]) == (3.0, 1.1, 1.4, True)
        assert (block["value"], block["is_above"]) == (None, None)
        assert "Above chance." in client.get(f"{base}/{family.id}").text
    within = replace(above, hub_null=Null(2.8, 3.4, 0.4))
    with TestClient(serve(planted, with_forest(planted, [within]))) as client:
        assert "Not above chance." in client.get(f"{base}/{family.id}").text


# --- the form -------------------------------------------------------------------------------------


def test_the_form_sends_what_the_address_says(base: str, client: TestClient) -> None:
    for asked in ("algorithm=lift&threshold=0.35&sort=hub", "algorithm=paper&min_size=6&sort=hub"):
        url = listing(client, f"{base}.json?{asked}")["url"]
        html = client.get(url).text
        form = html[html.index('id="parameters"') : html.index("</form>", html.index('id="parameters"'))]
        fields = dict(re.findall(r'name="([a-z_]+)" value="([^"]*)"', form))
        assert fields["sort"] == "hub"
        assert ("n_iterations" in fields) == ("paper" in asked)  # what an algorithm does not hear is no field
        sent = "&".join(f"{name}={value}" for name, value in fields.items())
        assert listing(client, f"{base}.json?{sent}")["url"] == url


def test_htmx_gets_the_forest_alone_and_the_tidy_address(
    planted: Planted, base: str, client: TestClient
) -> None:
    stored = planted.set.forest.config
    spelt_out = f"algorithm={stored.algorithm}&threshold={stored.threshold}&max_density={stored.max_density}"
    answer = client.get(f"{base}?{spelt_out}&min_size=5", headers=PARTIAL)
    assert answer.status_code == 200
    assert "<html" not in answer.text
    assert 'id="parameters"' not in answer.text
    assert answer.headers["HX-Replace-Url"] == f"{base}?min_size=5"


# --- one family -----------------------------------------------------------------------------------


N_CHILDREN = 24  # fewer than the page has room for: the planted SAE has 64 features
N_BRANCHES = N_CHILDREN + 1


def star(planted: Planted, n: int) -> Family:
    """One root with `n` children, each with a child of its own: the largest that the features allow."""
    alive = np.flatnonzero(planted.set.features.n_documents_N > 0).tolist()[: 2 * n + 1]
    root, rest = alive[0], alive[1:]
    members, parents = [root], [-1]
    for child, grandchild in zip(rest[::2], rest[1::2], strict=True):
        members += [child, grandchild]
        parents += [root, child]
    return replace(
        planted.set.families[0],
        id=root,
        members=members,
        parents=parents,
        conditionals=[1.0] + [0.5] * (len(members) - 1),
        links=[],
    )


def test_a_large_tree_folds_and_unfolds_by_links(
    planted: Planted, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.family.TREE_CHILDREN", N_CHILDREN)
    family = star(planted, N_BRANCHES)
    size = 2 * N_BRANCHES + 1
    assert len(family.members) == size
    with TestClient(serve(planted, with_forest(planted, [family]))) as client:
        view = listing(client, f"{base}/{family.id}.json")
        assert len(view["tree"]) <= TREE_ROWS
        assert len(view["tree"]) + view["n_hidden"] == view["size"] == size
        assert sum(row["n_hidden"] for row in view["tree"]) == view["n_hidden"] > 0
        assert view["tree"][0]["n_hidden"] == 2 * (N_BRANCHES - N_CHILDREN)
        assert sum(row["depth"] == 1 for row in view["tree"]) == N_CHILDREN
        url = view["tree"][0]["open_url"]
        assert url == f"{base}/{family.id}?open={family.id}"
        unfolded = listing(client, urls.json(url))
        assert sum(row["depth"] == 1 for row in unfolded["tree"]) == N_BRANCHES
        assert f'href="{url}#branch-{family.id}"' in client.get(view["url"]).text
        fragment = client.get(url, headers={**PARTIAL, "HX-Target": "div#tree"}).text
        assert "<html" not in fragment
        assert fragment.count("data-row") == len(unfolded["tree"])


def test_one_family_that_holds_everything_has_a_page(planted: Planted, base: str) -> None:
    alive = np.flatnonzero(planted.set.features.n_documents_N > 0).tolist()
    chain = replace(
        planted.set.families[0],
        id=alive[0],
        members=alive,
        parents=[-1, *alive[:-1]],
        conditionals=[1.0] * len(alive),
    )
    with TestClient(serve(planted, with_forest(planted, [chain]))) as client:
        for url in (base, f"{base}?area=documents&colour=hub", f"{base}/{alive[0]}"):
            assert client.get(url).status_code == 200
        view = listing(client, f"{base}/{alive[0]}.json")
        assert len(view["heat"]) == 40
        assert view["tree"][-1]["depth"] == len(view["tree"]) - 1


def test_steering_a_family_as_it_was_not_built_moves_its_members_in_proportion(
    planted: Planted, base: str, client: TestClient
) -> None:
    built = {family.id: family.members for family in planted.set.families}
    other = "?threshold=0.35&min_size=2"
    families = listing(client, f"{base}.json{other}")["families"]
    views = [listing(client, urls.json(f"{base}/{family['id']}{other}")) for family in families]
    view = next(v for v in views if len(v["heat_labels"]) != len(built.get(v["id"], [])))
    sent = Parameters(view["steer_url"].partition("?")[2].replace("+", "%2B"))
    strengths = {int(f.split(":")[0]): float(f.split(":")[1]) for f in sent.all("f")}
    assert strengths.keys() == {member["latent"] for member in view["heat_labels"]}
    means = np.asarray(planted.set.features.mean_N)
    ratios = np.array([strength / means[latent] for latent, strength in strengths.items()])
    assert np.allclose(ratios, ratios[0], rtol=0.02)
    assert listing(client, urls.json(view["steer_url"]))["results"]


def test_a_nested_family_has_the_families_above_it_in_its_path(planted: Planted, base: str) -> None:
    outer = planted.set.families[0]
    root = outer.members[1]
    inner = replace(
        outer,
        id=root,
        members=outer.members[1:4],
        parents=[-1, root, root],
        conditionals=[1.0, 0.5, 0.5],
    )
    with TestClient(serve(planted, with_forest(planted, [outer, inner]))) as client:
        view = listing(client, f"{base}/{inner.id}.json")
        assert [crumb["url"] for crumb in view["above"]] == [f"{base}/{outer.id}"]
        assert view["related"] == []  # what it lies in is no neighbour
        html = client.get(f"{base}/{inner.id}").text
        crumbs = html[html.index('aria-label="Breadcrumb"') : html.index("</nav>")]
        assert (
            crumbs.index("/families") < crumbs.index(f"/families/{outer.id}") < crumbs.index("aria-current")
        )


def test_a_familys_own_label_stands_before_that_of_its_root(planted: Planted, base: str) -> None:
    first, second, *_ = planted.set.families
    named = [replace(first, label=scored("a name of its own", 0.8)), replace(second, label=None)]
    with TestClient(serve(planted, with_forest(planted, named))) as client:
        view = listing(client, f"{base}/{first.id}.json")
        assert (view["label"]["text"], view["is_own"]) == ("a name of its own", True)
        assert view["why"]["scores"][0]["predictor"] == "a test"
        view = listing(client, f"{base}/{second.id}.json")
        assert view["is_own"] is False
        assert view["label"]["text"] == planted.set.labels[second.id].text


# --- forests that take their time -------------------------------------------------------------------


@contextmanager
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[threading.Event, list[FamilyConfig]]]:
    """Every forest but the stored one waits for the event; which ones were asked of the library."""
    release, asked = threading.Event(), list[FamilyConfig]()
    grow = FeatureSet.grow

    def wait(self: FeatureSet, config: FamilyConfig) -> Any:
        asked.append(config)
        assert release.wait(30)
        return grow(self, config)

    monkeypatch.setattr(FeatureSet, "grow", wait)
    try:
        yield release, asked
    finally:
        release.set()


def impatient(app: FastAPI) -> None:
    app.state.grower = Grower(patience=0.05)


def poll(client: TestClient, url: str) -> Any:
    """Ask again until it is there."""
    until = time.monotonic() + 20
    while (answer := client.get(url)).status_code == 202:
        assert time.monotonic() < until
    return answer


def test_what_takes_longer_says_so_and_is_there_when_it_is_done(
    planted: Planted, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, url = serve(planted), f"{base}?threshold=0.31&sort=hub"
    with TestClient(app) as client, held(monkeypatch) as (release, asked):
        impatient(app)
        page = client.get(url)
        assert page.status_code == 202
        assert int(page.headers["Retry-After"]) > 0
        assert "This takes longer" in page.text
        assert '<meta http-equiv="refresh"' in page.text
        assert f'hx-get="{url.replace("&", "&amp;")}" hx-target="#main"' in page.text
        twin = client.get(urls.json(url))
        assert (twin.status_code, twin.json()["url"]) == (202, url)
        fragment = client.get(url, headers=PARTIAL).text
        assert 'hx-target="#forest"' in fragment
        assert 'hx-sync="#parameters:abort"' in fragment  # what is typed meanwhile comes first
        assert client.get(f"{base}/3?threshold=0.31").status_code == 202  # the same job
        assert client.get(base).status_code == 200  # what was built waits for nobody
        assert len(asked) == 1
        release.set()
        assert poll(client, url).status_code == 200
        assert len(asked) == 1


def test_forests_are_grown_one_at_a_time_and_too_many_are_turned_away(
    planted: Planted, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = serve(planted)
    with TestClient(app) as client, held(monkeypatch) as (release, asked):
        impatient(app)
        wanted = [f"{base}.json?threshold={0.5 + at / 100:g}" for at in range(growing.MAX_UNFINISHED)]
        ahead = [client.get(url).json()["n_ahead"] for url in wanted]
        assert ahead == list(range(growing.MAX_UNFINISHED))
        assert len(asked) == 1
        refused = client.get(f"{base}?threshold=0.99")
        assert refused.status_code == 503
        assert "Try again" in refused.text
        release.set()
        assert [poll(client, url).status_code for url in wanted] == [200] * len(wanted)
        assert client.get(f"{base}?threshold=0.99").status_code in {200, 202}


def test_a_forest_that_fails_is_an_error_page_and_is_tried_again(
    planted: Planted, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[FamilyConfig] = []

    def fail(_self: FeatureSet, config: FamilyConfig) -> Any:
        tried.append(config)
        raise RuntimeError("broken")

    with TestClient(serve(planted)) as client:
        monkeypatch.setattr(FeatureSet, "grow", fail)
        for _ in range(2):
            answer = client.get(f"{base}?threshold=0.77")
            assert answer.status_code == 500
            assert "broken" not in answer.text
        assert len(tried) == 2
