"""The pages that training leaves as files: they open from disk, fit narrow screens, and pass axe."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from app.grid import write_grid
from app.scorecard import write_scorecard
from sae_core import fit
from sae_core.grid import GridSizes, plan_grid, train_grid
from tests import planted as truth
from tests.browser.test_pages import OPEN_EVERYTHING, TOO_WIDE, explained

ALL_BUT_REPETITIONS = {"exclude": [[".table-small tbody tr:nth-child(n+3)"]]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished grid of four, and beside it a training with a second seed."""
    home = tmp_path_factory.mktemp("trained")
    rows = home / "x.npy"
    np.save(rows, truth.PlantedEmbedder().embed([document.text for document in truth.documents(300)]))
    plan = plan_grid(rows, GridSizes((2, 4), (16, 64)), steps=60)
    result = train_grid(plan, home / "grid", truth.SilentConsole(), device="cpu")
    for member in result.members:
        write_scorecard(home / "grid" / member.name)
    write_grid(result, home / "grid")
    fit.train_file(rows, home / "one", truth.SilentConsole(), device="cpu", n_latents=64, k=4, steps=60)
    write_scorecard(home / "one")
    return home


@pytest.mark.parametrize("name", ["one/scorecard.html", "grid/grid.html"])
def test_a_file_fits_narrow_screens_and_axe_finds_nothing(
    name: str, folder: Path, page: Page, troubles: list[str]
) -> None:
    page.goto((folder / name).as_uri())
    expect(page.get_by_role("heading", level=1)).to_have_count(1)
    page.evaluate(OPEN_EVERYTHING)
    for width, scheme in ((1280, "light"), (360, "dark")):
        page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        page.set_viewport_size({"width": width, "height": 900})
        scrolled, inner = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert scrolled <= inner, f"{width} px: {page.evaluate(TOO_WIDE)}"
        violations = Axe().run(page, ALL_BUT_REPETITIONS).response["violations"]
        assert not violations, explained(violations, scheme)


def test_a_grid_leads_to_the_scorecards_of_its_members(folder: Path, page: Page) -> None:
    page.goto((folder / "grid" / "grid.html").as_uri())
    page.get_by_role("link", name="k4-n64").click()
    expect(page).to_have_url(re.compile("k4-n64/scorecard.html$"))
    expect(page.get_by_role("heading", level=1)).to_have_text("k4-n64")
    expect(page.locator(".curve-heldout").first).to_be_visible()


def test_a_file_asks_for_no_other(folder: Path, page: Page) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    address = (folder / "one" / "scorecard.html").as_uri()
    page.goto(address)
    expect(page.get_by_role("heading", name="From another seed")).to_be_visible()
    assert [url for url in asked if url != address and not url.startswith("data:")] == []


def test_the_picture_of_a_grid_is_shown_as_an_image(folder: Path, page: Page) -> None:
    (folder / "shown.html").write_text('<!doctype html><title>x</title><img alt="x" src="grid/grid.svg">')
    page.goto((folder / "shown.html").as_uri())
    assert page.evaluate("document.images[0].decode().then(() => document.images[0].naturalWidth)") == 790
