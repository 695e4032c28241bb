"""A copy of the explorer from a folder: no server, and nothing that goes wrong in the console."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from app.exporting.plan import Choice
from app.exporting.site import make_site
from app.settings import Settings
from tests.app.served import Planted
from tests.browser.test_pages import TOO_WIDE, explained
from tests.planted import SilentConsole

NO_PRELOAD = {"preload": False}  # of stylesheets, which a script cannot read from a folder


@pytest.fixture(scope="module")
def folder(site: Planted, query: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The planted collection as files, with one steered search."""
    out = tmp_path_factory.mktemp("site") / "planted"
    searches = (f"{site.search}?q={query.replace(' ', '+')}&f=3:+0.4",)
    choice = Choice(n_documents=12, searches=searches, examples=False)
    # In a thread of its own, as Playwright's loop runs in this one.
    with ThreadPoolExecutor(1) as threads:
        settings = Settings(home=site.home)
        made = threads.submit(
            make_site, site.explorer, settings, out, choice, SilentConsole(), lambda _: None
        )
        made.result()
    return out


@pytest.fixture
def start(folder: Path, page: Page) -> Page:
    page.goto((folder / "index.html").as_uri())
    return page


def test_a_visit_without_a_server(start: Page, folder: Path, query: str) -> None:
    page = start
    page.get_by_role("link", name="Features", exact=True).click()
    expect(page.locator("tbody tr")).to_have_count(50)
    page.get_by_role("link", name="Label A–Z").click()
    expect(page.get_by_role("link", name="Label A–Z")).to_have_attribute("aria-current", "true")
    page.get_by_role("link", name="Next →").click()
    expect(page).to_have_url((folder / page.url.split("/")[-3] / "features/by-label-2.html").as_uri())
    page.locator("tbody a[data-row]").first.click()
    heading = page.get_by_role("heading", level=1).inner_text()
    page.keyboard.press("]")
    expect(page.get_by_role("heading", level=1)).not_to_have_text(heading)
    page.get_by_role("link", name="Families", exact=True).click()
    page.locator("#map a").first.click()
    expect(page.get_by_role("heading", name="Active together")).to_be_visible()
    page.get_by_role("link", name="Search", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("A copy without a server")
    page.get_by_role("link", name=query).click()
    expect(page.get_by_text("A search as it was on")).to_be_visible()
    expect(page.locator(".slider input[type=range]").first).to_be_disabled()
    expect(page.locator(".results > li")).to_have_count(10)
    page.locator(".results a[href^='../documents/']").first.click()
    expect(page.get_by_role("heading", name="Fingerprint")).to_be_visible()
    page.locator(".fingerprint a").first.click()
    expect(page.get_by_role("heading", name="Why this label")).to_be_visible()
    assert page.url.startswith("file://")


def test_the_keyboard_and_the_copied_link_work(start: Page) -> None:
    start.keyboard.press("?")
    expect(start.get_by_role("dialog")).to_be_visible()
    start.get_by_role("button", name="Close").click()
    start.keyboard.press("j")
    expect(start.locator("[data-row]").first).to_be_focused()
    start.keyboard.press("Enter")
    expect(start).not_to_have_url(re.compile("index.html$"))
    start.get_by_role("button", name="Copy link").click()
    expect(start.locator("#announcer")).to_have_text("Link copied")


@pytest.mark.parametrize("name", ["about", "searches/1"])
def test_what_only_a_copy_has_fits_narrow_screens_and_axe_finds_nothing(
    name: str, folder: Path, page: Page
) -> None:
    page.goto((folder / f"{name}.html").as_uri())
    for width, scheme in ((1280, "light"), (360, "dark")):
        page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        page.set_viewport_size({"width": width, "height": 900})
        scrolled, inner = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert scrolled <= inner, f"{width} px: {page.evaluate(TOO_WIDE)}"
        violations = Axe().run(page, options=NO_PRELOAD).response["violations"]
        assert not violations, explained(violations, scheme)
