"""Two sets of documents in a browser, with and without JavaScript."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser, Page, expect

from app import urls
from tests.app.served import Planted
from tests.browser.conftest import PATIENCE
from tests.planted import WORDS

TOPIC, OTHER = WORDS[31], WORDS[40]


def contrast(site: Planted, parameters: str = "") -> str:
    return urls.separate(site.explorer.name, site.sae) + parameters


def compare_texts(page: Page, site: Planted) -> None:
    """Find the page from the search, and compare two texts."""
    page.goto(site.search)
    page.get_by_role("navigation", name="Sections").get_by_role("link", name="Contrast").click()
    expect(page.get_by_role("status").filter(has_text="Set A has no documents yet")).to_be_visible()
    page.get_by_role("group", name="A").get_by_label("50 best for").fill(TOPIC)
    page.get_by_role("group", name="B").get_by_label("50 best for").fill(OTHER)
    page.get_by_role("button", name="Compare").click()
    more = page.get_by_role("region", name="More in A").locator(".separation").first
    expect(more).to_contain_text(re.compile(TOPIC, re.IGNORECASE))
    expect(page.get_by_role("region", name="More in B").locator(".separation").first).to_contain_text(
        re.compile(OTHER, re.IGNORECASE)
    )


def test_two_texts_are_compared_swapped_and_steered_by(site: Planted, page: Page) -> None:
    compare_texts(page, site)
    assert "a_years" not in page.url  # fields left empty are left out
    address = page.url
    page.get_by_role("link", name="Swap A and B").click()
    first = page.get_by_role("region", name="More in B").locator(".separation").first
    expect(first).to_contain_text(re.compile(TOPIC, re.IGNORECASE))
    first.get_by_role("link", name="steer a search").click()
    expect(page.locator("#results")).to_be_visible()
    expect(page.locator(".result").first).to_contain_text(TOPIC)
    page.goto(address)
    expect(page.get_by_role("region", name="More in A")).to_be_visible()


def test_without_javascript_too_and_years(site: Planted, browser: Browser, address: str) -> None:
    with browser.new_context(base_url=address, java_script_enabled=False) as context:
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        compare_texts(page, site)
        page.get_by_role("link", name="label", exact=True).click()
        expect(page.locator(".option[aria-current]")).to_have_text("label")
        page.goto(contrast(site))
        page.get_by_role("group", name="A").get_by_label("Years").fill("2003-2005")
        page.get_by_role("button", name="Compare").click()
        expect(page.get_by_role("heading", name="A documents of 2003–2005")).to_be_visible()
        expect(page.get_by_role("heading", name="B all other documents")).to_be_visible()


@pytest.mark.parametrize("n", [1, 2])
def test_a_ticked_document_can_be_left_out(n: int, site: Planted, page: Page) -> None:
    page.goto(contrast(site, "?a=doc-0100&a=doc-0101&b=doc-0102"))
    side = page.get_by_role("region", name="A documents you chose")
    expect(side.get_by_role("listitem")).to_have_count(2)
    for _ in range(n):
        side.get_by_role("link", name="Leave out").first.click()
    if n == 1:
        expect(side.get_by_role("listitem")).to_have_count(1)
    else:
        expect(page.get_by_role("status").filter(has_text="Set A has no documents yet")).to_be_visible()
