"""Lists and feature pages: they follow what is typed, and the keyboard walks them."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect

from app import urls
from tests.app.served import Planted
from tests.planted import WORDS


def test_the_list_of_features_follows_the_words_and_the_address_follows_the_list(
    site: Planted, page: Page
) -> None:
    page.goto(f"{site.base}/features?sort=max")
    rows = page.locator("#rows tbody tr")
    everything = rows.count()
    page.get_by_label("Words in the label").press_sequentially(WORDS[2])
    expect(page).to_have_url(re.compile(rf"/features\?words={WORDS[2]}&sort=max$"))
    expect(page.get_by_role("status")).to_contain_text("feature")
    found = rows.locator("th").all_inner_texts()
    assert 0 < len(found) < everything
    assert all(WORDS[2] in text for text in found)

    page.get_by_role("link", name="Label A–Z").click()
    expect(page).to_have_url(re.compile(rf"words={WORDS[2]}&sort=label$"))
    expect(page.get_by_label("Words in the label")).to_have_value(WORDS[2])
    assert sorted(rows.locator("th").all_inner_texts()) == sorted(found)
    page.go_back()
    expect(page).to_have_url(re.compile("sort=max$"))
    expect(page.locator("header.masthead")).to_be_visible()
    assert rows.locator("th").all_inner_texts() == found

    page.get_by_label("Words in the label").fill("nosuchword")
    expect(page.locator("#rows")).to_contain_text("No feature passes these filters")
    page.get_by_label("Words in the label").fill("")
    expect(page).to_have_url(re.compile(r"/features\?sort=max$"))
    expect(rows).to_have_count(everything)


def test_keys_walk_through_features_and_their_documents(site: Planted, page: Page) -> None:
    def at(latent: int) -> re.Pattern[str]:
        return re.compile(re.escape(urls.feature(site.explorer.name, site.sae, latent)) + "$")

    page.goto(urls.feature(site.explorer.name, site.sae, 5))
    for key, latent in (("]", 6), ("]", 7), ("[", 6)):
        page.keyboard.press(key)
        expect(page).to_have_url(at(latent))
        expect(page.get_by_role("heading", level=1)).to_contain_text(f"#{latent}")
    page.goto(f"{site.base}/features")
    page.keyboard.press("j")
    page.keyboard.press("j")
    second = page.locator("[data-row]").nth(1)
    expect(second).to_be_focused()
    address = second.get_attribute("href")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(f"{address}$"))


def test_evidence_tabs_and_the_scale_of_the_histogram_are_links(site: Planted, page: Page) -> None:
    page.goto(urls.feature(site.explorer.name, site.sae, site.set.families[0].id))
    tabs = page.get_by_role("navigation", name="Kinds of evidence")
    for text, tab in (("Near misses", "near"), ("All", "all"), ("Quantile bands", "bands")):
        tabs.get_by_role("link", name=text, exact=True).click()
        expect(page).to_have_url(re.compile(f"tab={tab}#evidence$"))
        expect(tabs.locator("[aria-current]")).to_have_text(text)
        assert page.locator(".evidence").count() > 2
    page.get_by_role("link", name="log counts").click()
    expect(page).to_have_url(re.compile(r"\?tab=bands&log=1$"))
    expect(page.get_by_text("documents (log scale)")).to_be_visible()


def test_the_quick_search_of_every_page_leads_to_a_search(site: Planted, page: Page) -> None:
    page.goto(f"{site.base}/families")
    page.keyboard.press("/")
    page.keyboard.type(WORDS[3])
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(rf"/search\?q={WORDS[3]}$"))
    expect(page.locator("#results .result")).to_have_count(10)
