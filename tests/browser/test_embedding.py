"""A feature in a frame: shown on a site that may have it, refused on any other."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from app import urls
from tests.app.served import Planted
from tests.browser.test_pages import explained


class Silent(SimpleHTTPRequestHandler):
    def log_message(self, *parts: object) -> None:
        """Say nothing."""


@pytest.fixture
def latent(site: Planted) -> int:
    """A feature that many documents have."""
    return int(np.argmax(site.set.features.n_documents_N))


@pytest.fixture
def embed(site: Planted, latent: int) -> str:
    return urls.embed(site.explorer.name, site.sae, latent)


@pytest.fixture
def elsewhere(embed: str, address: str, tmp_path: Path) -> Iterator[int]:
    """The port of another site, with a page that frames a feature."""
    frame = f'<iframe src="{address}{embed}" width="560" height="480"></iframe>'
    page = f'<!doctype html><link rel="icon" href="data:,">{frame}'
    (tmp_path / "index.html").write_text(page, encoding="utf-8")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Silent, directory=tmp_path)) as server:
        thread = threading.Thread(target=server.serve_forever, name="another site")
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_a_site_of_the_setting_shows_the_feature(page: Page, elsewhere: int, latent: int) -> None:
    page.goto(f"http://localhost:{elsewhere}/")
    frame = page.frame_locator("iframe")
    expect(frame.get_by_role("heading", level=1)).to_contain_text(f"#{latent}")
    expect(frame.get_by_role("listitem")).to_have_count(5)
    inner = page.frames[1]
    assert inner.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert inner.evaluate("getComputedStyle(document.documentElement).backgroundColor") != "rgba(0, 0, 0, 0)"
    assert inner.evaluate("document.scripts.length") == 0
    with page.context.expect_page() as opened:
        frame.get_by_role("heading", level=1).get_by_role("link").click()
    expect(opened.value.get_by_role("heading", level=1)).to_contain_text(f"#{latent}")
    assert page.url == f"http://localhost:{elsewhere}/"


def test_any_other_site_is_refused(page: Page, elsewhere: int, troubles: list[str]) -> None:
    page.goto(f"http://127.0.0.1:{elsewhere}/")
    expect(page.frame_locator("iframe").get_by_role("heading", level=1)).to_have_count(0)
    page.wait_for_timeout(200)
    assert any("frame-ancestors" in trouble for trouble in troubles)
    troubles.clear()


@pytest.mark.parametrize(("width", "scheme"), [(560, "light"), (320, "dark")])
def test_the_frame_is_for_everybody(page: Page, embed: str, width: int, scheme: str) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.set_viewport_size({"width": width, "height": 480})
    page.goto(embed)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    violations = Axe().run(page).response["violations"]
    assert not violations, explained(violations, scheme)


def test_the_page_of_a_feature_has_the_frame_to_copy(
    page: Page, site: Planted, latent: int, embed: str, address: str
) -> None:
    page.goto(urls.feature(site.explorer.name, site.sae, latent))
    page.get_by_text("Embed this feature in a page").click()
    assert f'src="{address}{embed}"' in page.get_by_label("HTML to copy").input_value()
    page.get_by_role("link", name="See it").click()
    expect(page).to_have_url(address + embed)
