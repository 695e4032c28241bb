"""Two editors in two browsers, and what everybody else sees."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from playwright.sync_api import Browser, Page, expect
from pydantic import SecretStr

from app import urls
from app.authored import schema
from app.main import create_app
from app.settings import Settings
from tests.app.editors import token
from tests.app.served import Planted
from tests.browser.conftest import note_troubles
from tests.browser.test_pages import check

pytestmark = pytest.mark.browser_context_args(java_script_enabled=False)


@pytest.fixture
def database(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path}/authored.sqlite"
    schema.upgrade(url)
    return url


@pytest.fixture
def place(site: Planted, database: str) -> Iterator[str]:
    """Where people may write."""
    settings = Settings(home=site.home, editing=True, database_url=SecretStr(database))
    app = create_app(settings, {site.explorer.name: site.explorer})
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=5))
        thread = threading.Thread(target=server.run, args=([listening],), name="editing")
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join()


@pytest.fixture
def people(browser: Browser, place: str, database: str, troubles: list[str]) -> Iterator[dict[str, Page]]:
    """Ann and Ben, signed in, each in a browser of their own, and a reader; none runs scripts."""
    opened = {}
    for name in ("ann", "ben", "reader"):
        context = browser.new_context(base_url=place, java_script_enabled=False)
        note_troubles(context, troubles)
        opened[name] = page = context.new_page()
        if name != "reader":
            page.goto("/docs")
            page.get_by_role("link", name="Sign in").click()
            page.get_by_label("Your token").fill(token(database, name))
            page.get_by_role("button", name="Sign in").click()
            expect(page).to_have_url(f"{place}/docs")
            expect(page.locator(".visitor")).to_contain_text(name)
    yield opened
    for page in opened.values():
        page.context.close()


def write(page: Page, text: str, explanation: str = "") -> None:
    page.locator("#people summary").first.click()
    page.get_by_label(re.compile("^Label")).fill(text)
    page.get_by_label("Explanation").fill(explanation)


def test_two_editors_in_two_browsers_on_one_label(
    people: dict[str, Page], site: Planted, troubles: list[str]
) -> None:
    ann, ben, reader = people.values()
    address = urls.feature(site.explorer.name, site.sae, 3)
    for page in (ann, ben):
        page.goto(address)
    write(ann, "dust", "Grains between stars.")
    write(ben, "cosmic dust")
    ann.get_by_role("button", name="Store").click()
    expect(ann.locator("h1")).to_contain_text("dust")
    ben.get_by_role("button", name="Store").click()
    expect(ben.locator("h1")).to_have_text("Somebody else was quicker")
    expect(ben.locator("main")).to_contain_text("ann changed it")
    expect(ben.locator(".theirs").first).to_have_text("dust")
    expect(ben.get_by_label("Label: yours")).to_have_value("cosmic dust")
    assert [trouble for trouble in troubles if "409" not in trouble] == []
    troubles.clear()

    ben.get_by_label("Label: yours").fill("cosmic dust (grains)")
    ben.get_by_role("button", name="Store").click()
    reader.goto(address)
    expect(reader.locator("h1")).to_contain_text("cosmic dust (grains)")
    expect(reader.locator("#people")).to_contain_text("2 revisions")
    expect(reader.locator("#people form")).to_have_count(0)
    ann.reload()
    expect(ann.locator("h1")).to_contain_text("cosmic dust (grains)")
    ann.get_by_role("button", name="Sign out").click()
    expect(ann.get_by_role("link", name="Sign in")).to_be_visible()
    expect(ann.locator("#people form")).to_have_count(0)


def test_a_list_made_on_a_page_of_a_feature_is_opened_by_somebody_else(
    people: dict[str, Page], site: Planted, query: str, own: dict[int, float]
) -> None:
    ann, _, reader = people.values()
    name, (latent, *_) = site.explorer.name, own
    ann.goto(urls.feature(name, site.sae, latent))
    write(ann, "what Ann found")
    ann.get_by_role("button", name="Store").first.click()
    expect(ann.locator("h1")).to_contain_text("what Ann found")
    ann.get_by_text("Add to a list").click()
    ann.get_by_label("Name of a new list").fill("For Thursday")
    ann.get_by_label("Remark").fill("where to begin")
    ann.get_by_role("button", name="Add", exact=True).click()
    expect(ann.locator("h1")).to_have_text("For Thursday")

    reader.goto(urls.lists(name))
    reader.get_by_role("link", name="For Thursday").click()
    expect(reader.locator("main li")).to_contain_text("where to begin")
    expect(reader.locator("main form")).to_have_count(0)
    reader.get_by_role("link", name="Search with these").click()
    expect(reader.get_by_text("what Ann found").first).to_be_visible()
    reader.goto(f"{site.search}?q={query.replace(' ', '+')}")
    expect(reader.get_by_label("what Ann found").first).to_be_attached()


def test_pages_that_people_write_on_fit_narrow_screens_and_axe_finds_nothing(
    people: dict[str, Page], place: str, site: Planted, browser: Browser
) -> None:
    ann, name = people["ann"], site.explorer.name
    ann.goto(urls.lists(name))
    ann.get_by_text("Make a list").click()
    ann.get_by_label("Name").fill("For Thursday")
    ann.get_by_label("Features, in order").fill("3 where to begin\n5")
    ann.get_by_role("button", name="Make the list").click()
    expect(ann.locator("main li")).to_have_count(2)
    made = ann.url
    with browser.new_context(base_url=place, storage_state=ann.context.storage_state()) as context:
        page = context.new_page()
        family = site.set.families[0].id
        for address in (urls.lists(name), made, urls.family(name, site.sae, family)):
            check(page, address)
