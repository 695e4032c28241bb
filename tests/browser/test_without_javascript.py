"""Pages are complete without scripts: links and buttons do everything."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from app import urls
from app.query import as_strength
from tests.app.served import Planted
from tests.browser.search_page import SearchPage
from tests.planted import WORDS

pytestmark = pytest.mark.browser_context_args(java_script_enabled=False)


def test_a_search_is_steered_by_links(site: Planted, page: Page, query: str, own: dict[int, float]) -> None:
    latent = next(iter(own))
    page.goto(urls.collection(site.explorer.name))
    page.get_by_label("Search by meaning").fill(query)
    page.get_by_role("button", name="Search").click()
    search = SearchPage(page)
    search.expect_view_of_address()
    plain = search.titles, search.strengths
    assert list(search.strengths) == list(own)
    expect(search.slider(latent)).to_be_disabled()

    notch = 0.2 * float(search.slider(latent).get_attribute("max") or "")
    for name, times in (("^weaker", 1), ("^weaker", 2), ("^stronger", 1)):
        search.act(latent, name).click()
        expected = own[latent] - notch * times
        assert search.strength(latent) == pytest.approx(expected, abs=3e-3)
        search.expect_moves({latent: search.strength(latent)})
        search.expect_view_of_address()
    search.choose(latent, "zero")
    search.expect_moves({latent: 0.0})
    assert search.titles != plain[0]
    search.results.get_by_role("link", name=re.compile("^Take back: without")).click()
    search.expect_moves({})
    search.act(latent, "^stronger").click()
    search.act(latent, "^reset").click()
    search.expect_moves({})
    assert (search.titles, search.strengths) == plain
    assert search.strength(latent) == as_strength(own[latent])


def test_a_feature_is_added_and_removed_and_reset_all_forgets_all_moves(
    search: SearchPage, own: dict[int, float], site: Planted, page: Page
) -> None:
    first = next(iter(own))
    search.choose(first, "zero")
    found = next(i for i, label in enumerate(site.set.labels) if label.text and i not in own)
    page.get_by_label("Words for the feature").fill(site.set.labels[found].text)
    page.get_by_role("button", name="Find").click()
    page.get_by_role("link", name=f"Add #{found} ").click()
    added = search.strength(found)
    search.expect_moves({first: 0.0, found: added})
    search.expect_view_of_address()
    search.act(found, "^remove").click()
    search.expect_moves({first: 0.0})
    expect(search.row(found)).to_have_count(0)
    page.get_by_role("link", name="Reset all").click()
    search.expect_moves({})


def test_filters_and_another_query_keep_the_moves(
    search: SearchPage, own: dict[int, float], page: Page
) -> None:
    latent = next(iter(own))
    search.choose(latent, "zero")
    page.get_by_text("Only some years").click()
    page.get_by_label("from").fill("2005")
    page.get_by_label("to", exact=True).fill("2011")
    page.get_by_label("Journal 1").check()
    page.get_by_role("button", name="Apply").click()
    search.expect_moves({latent: 0.0})
    for row in search.twin()["results"]:
        assert 2005 <= row["document"]["year"] <= 2011
        assert row["document"]["venue"] == "Journal 1"
    page.locator("#q").fill(WORDS[40])
    page.get_by_role("button", name="Search", exact=True).click()
    search.expect_view_of_address()
    assert search.twin()["q"] == WORDS[40]
    assert search.strength(latent) == 0
    expect(page.get_by_label("Journal 1")).to_be_checked()


def test_results_are_paged(search: SearchPage, page: Page) -> None:
    first = search.titles
    page.get_by_role("link", name="Next").click()
    search.expect_view_of_address()
    expect(search.results.locator(".rank").first).to_have_text("11")
    page.get_by_role("link", name="Previous").click()
    search.expect_view_of_address()
    assert search.titles == first


def test_features_are_searched_sorted_filtered_and_paged(site: Planted, page: Page) -> None:
    page.goto(f"{site.base}/features")
    rows = page.locator("#rows tbody tr")
    expect(rows).to_have_count(50)
    page.get_by_role("link", name="Next").click()
    n_living = int((site.set.features.n_documents_N > 0).sum())
    expect(rows).to_have_count(n_living - 50)
    page.get_by_role("link", name="Show dead").click()
    page.get_by_role("link", name="Next").click()
    expect(page.locator("#rows .tag").first).to_have_text("dead")
    page.get_by_role("link", name="Label A–Z").click()
    page.get_by_role("link", name="Above 5 %").click()
    expect(page.locator("#rows [aria-current]")).to_have_text(
        ["Label A–Z", "Above 5 %", re.compile("Show dead")]
    )
    page.goto(f"{site.base}/features")
    page.get_by_label("Words in the label").fill(WORDS[2])
    page.get_by_role("button", name="Find").click()
    assert rows.count() > 0
    assert all(WORDS[2] in text for text in rows.locator("th").all_inner_texts())
    page.get_by_role("link", name="Random feature").click()
    expect(page.locator(".eyebrow").first).to_have_text("Feature")


def test_a_feature_shows_its_evidence_and_leads_on(site: Planted, page: Page) -> None:
    family = site.set.families[0]
    page.goto(urls.feature(site.explorer.name, site.sae, family.id))
    tabs = page.get_by_role("navigation", name="Kinds of evidence")
    for text in ("Quantile bands", "Borderline", "Near misses", "All", "Top"):
        tabs.get_by_role("link", name=text, exact=True).click()
        expect(tabs.locator("[aria-current]")).to_have_text(text)
        assert page.locator(".evidence").count() > 2
    page.get_by_role("link", name="log counts").click()
    expect(page.get_by_text("documents (log scale)")).to_be_visible()
    page.get_by_role("link", name="Next feature").click()
    page.get_by_role("link", name="Previous feature").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text(f"#{family.id}")
    page.get_by_role("link", name="The whole family").click()
    expect(page.locator(".eyebrow").first).to_have_text("Family")
    page.goto(urls.feature(site.explorer.name, site.sae, family.id))
    page.get_by_role("link", name="Search with more").click()
    expect(page.locator("#results .result")).to_have_count(10)


def test_families_are_sorted_by_links(site: Planted, page: Page) -> None:
    page.goto(f"{site.base}/families")
    page.get_by_role("link", name="Documents", exact=True).click()
    expect(page).to_have_url(re.compile(r"\?sort=documents#all$"))
    expect(page.locator(".family-card")).to_have_count(len(site.set.families))


def test_nothing_is_offered_that_needs_a_script(search: SearchPage, page: Page) -> None:
    expect(page.get_by_role("button", name="Copy link")).to_have_count(0)
    expect(page.get_by_role("button", name="Keyboard")).to_have_count(0)
