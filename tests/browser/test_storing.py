"""A view and its moves are stored in one browser, and opened in another."""

from __future__ import annotations

import re

from playwright.sync_api import Browser, Page, expect

from app import urls
from tests.app.served import Planted
from tests.browser.test_editing import database, people, place
from tests.browser.test_pages import check

__all__ = ["database", "people", "place"]


def test_a_lens_and_a_link_are_stored_in_one_browser_and_opened_in_another(
    people: dict[str, Page], browser: Browser, place: str, site: Planted
) -> None:
    ann = people["ann"]
    ann.goto(f"{site.search}?q=dust&f=3:+0.40")
    ann.locator("#lenses > summary").click()
    ann.locator("summary", has_text="Store the moves").click()
    ann.get_by_label("Name", exact=True).fill("dusty")
    ann.get_by_role("button", name="Store the lens").click()
    expect(ann.locator("h1")).to_have_text("dusty")
    lens = ann.url

    reader = people["reader"]
    reader.goto(f"{site.search}?q=moon&f=5:+0.20")
    reader.locator("#lenses > summary").click()
    reader.get_by_role("link", name="Put on dusty").click()
    expect(reader.locator(".lens-name")).to_have_text("dusty")
    expect(reader).to_have_url(re.compile(r"q=moon.*lens=dusty.*f=5:"))
    seen = reader.locator(".results .title").all_text_contents()

    ann.goto(reader.url)
    ann.locator(".short-link summary").click()
    ann.get_by_role("button", name="Make the link").click()
    short = ann.get_by_label("Its address").input_value()
    context = browser.new_context(java_script_enabled=False)
    fresh = context.new_page()
    fresh.goto(short)
    expect(fresh).to_have_url(f"{reader.url}")
    assert fresh.locator(".results .title").all_text_contents() == seen
    assert seen
    context.close()

    slug = short.rpartition("/")[2]
    own = urls.collection(site.explorer.name)
    with browser.new_context(base_url=place, storage_state=ann.context.storage_state()) as signed_in:
        owner = signed_in.new_page()
        for address in (lens, f"{own}/lenses", f"{own}/links", f"{own}/links/{slug}"):
            check(owner, address)
            expect(owner.locator(".error")).to_have_count(0)
