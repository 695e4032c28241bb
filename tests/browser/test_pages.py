"""Every page in a real browser: it fits narrow screens, axe finds nothing, nothing fails, nothing runs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from app import urls
from tests.app.served import Planted
from tests.browser.conftest import PATIENCE, note_troubles
from tests.browser.search_page import SearchPage
from tests.planted import WORDS, documents

Addresses = Callable[[Planted], str]

OPEN_EVERYTHING = "() => document.querySelectorAll('details').forEach(each => { each.open = true; })"
# The first of many rows of one kind stand for all: axe takes milliseconds for each piece of text.
REPETITIONS = (
    ".table-small tbody tr:nth-child(n+3)",
    ".feature-table tbody tr:nth-child(n+12)",
    ".evidence-list > li:nth-child(n+4)",
    ".results > li:nth-child(n+4)",
    ".cards > li:nth-child(n+4)",
    ".separations > li:nth-child(n+4)",
    ".side-documents > li:nth-child(n+4)",
    ".api-group:nth-of-type(n+3)",
)
ALL_BUT_REPETITIONS = {"exclude": [[selector] for selector in REPETITIONS]}
EVIDENCE = {**ALL_BUT_REPETITIONS, "include": [["section[aria-labelledby=evidence]"]]}
TOO_WIDE = """() => [...document.querySelectorAll('body *')]
    .filter(each => each.getBoundingClientRect().right > innerWidth + 1 && !each.closest('.scroll'))
    .map(each => `${each.tagName} ${each.className.baseVal ?? each.className}`)"""


@pytest.fixture(scope="module")
def noted() -> list[str]:
    return []


@pytest.fixture(scope="module")
def gallery(browser: Browser, browser_context_args: dict[str, Any], noted: list[str]) -> Iterator[Page]:
    """One profile that walks through all pages: a fresh one for each would take as long as axe."""
    with browser.new_context(**browser_context_args) as context:
        note_troubles(context, noted)
        context.set_default_timeout(PATIENCE)
        yield context.new_page()


@pytest.fixture
def visit(gallery: Page, noted: list[str], troubles: list[str]) -> Iterator[Page]:
    """The gallery's page; what goes wrong counts against the test that walks through it."""
    yield gallery
    troubles += noted
    noted.clear()


def busiest(site: Planted) -> int:
    """The root of the largest family: the feature with most to show."""
    return int(max(site.set.families, key=lambda family: len(family.members)).id)


def dead(site: Planted) -> int:
    return int(np.flatnonzero(site.set.features.n_documents_N == 0)[0])


def feature(site: Planted, latent: int, parameters: str = "") -> str:
    return urls.feature(site.explorer.name, site.sae, latent) + parameters


def contrast(site: Planted, parameters: str = "") -> str:
    path = urls.separate(site.explorer.name, site.sae)
    return f"{path}?{parameters}" if parameters else path


def steered(site: Planted) -> str:
    """A search with everything on it: moves, an added feature, filters, words to add another."""
    q = f"{WORDS[1]}+{WORDS[20]}"
    latent, other = busiest(site), site.set.families[0].members[-1]
    lenses = f"lens=far;{site.sae};7:%2B0.20,~8&lens=near;k9-n9-abcdef;7:%2B0.20"
    moves = f"{lenses}&family={latent}:+0.10&f={latent}:-0.30&f={other}:+0.40&ignore=3&exclude=5&lock={other}"
    kept = "keep=0.50&refine=1"
    return f"{site.search}?q={q}&{moves}&{kept}&year_min=2003&venue=Journal+1&find=sample"


def looked_at(site: Planted) -> str:
    """The same with a result explained and compared, marks with what follows from them, and two sets."""
    moved = steered(site).replace("&year_min=2003&venue=Journal+1&find=sample", "&keywords=0.25&diverse=1")
    answer = site.explorer.search(site.sae, site.explorer.embed(f"{WORDS[1]} {WORDS[20]}"))
    ids = [documents(site.explorer.n_documents)[at].id for at in answer.hits.positions[:6].tolist()]
    marks = zip(("why", "against", "up", "down", "a", "b"), ids, strict=True)
    return moved + "&like=doc-0100&" + "&".join(f"{name}={id_}" for name, id_ in marks)


PAGES: dict[str, Addresses] = {
    "docs": lambda _: urls.docs(),
    "home": lambda _: urls.home(),
    "overview": lambda site: urls.collection(site.explorer.name),
    "search without a query": lambda site: site.search,
    "search": lambda site: f"{site.search}?q={WORDS[1]}+{WORDS[20]}",
    "steered search": steered,
    "search with results explained, marked and ticked": looked_at,
    "before and after": lambda site: f"{steered(site)}&view=ab",
    "search by features alone": lambda site: f"{site.search}?f={busiest(site)}:+0.40",
    "search past its last page": lambda site: f"{site.search}?q={WORDS[1]}&page=900",
    "features": lambda site: f"{site.base}/features",
    "dead features": lambda site: f"{site.base}/features?dead=1&sort=density&page=2",
    "feature": lambda site: feature(site, busiest(site)),
    "feature, quantile bands, log counts": lambda site: feature(site, busiest(site), "?tab=bands&log=1"),
    "dead feature": lambda site: feature(site, dead(site)),
    "families": lambda site: f"{site.base}/families",
    "families under other parameters": lambda site: (
        f"{site.base}/families?algorithm=paper&threshold=0.15&n_iterations=2&colour=hub&area=documents&sort=score"
    ),
    "no families": lambda site: f"{site.base}/families?threshold=1&min_size=30",
    "family": lambda site: urls.family(site.explorer.name, site.sae, busiest(site)),
    "document": lambda site: urls.document(site.explorer.name, "doc-0100"),
    "document with an odd title": lambda site: urls.document(site.explorer.name, "odd/0.v1"),
    "scorecard": lambda site: site.base,
    "compare": lambda site: f"{site.base.rpartition('/')[0]}/compare",
    "contrast of ticked sets": lambda site: contrast(site, "a=odd/0.v1&a=doc-0100&b=odd/1.v1"),
    "contrast of a text with the rest": lambda site: contrast(site, f"a_q={WORDS[30]}"),
    "contrast without sets": contrast,
}
HOSTILE_PAGES: dict[str, Addresses] = {
    "overview": PAGES["overview"],
    "steered search": steered,
    "search with results explained, marked and ticked": looked_at,
    "features": PAGES["features"],
    "unlabelled feature": lambda site: feature(site, next(i for i in range(0, 64, 3) if i != dead(site))),
    "families": PAGES["families"],
    "family": PAGES["family"],
    "contrast": PAGES["contrast of a text with the rest"],
}


def check(page: Page, address: str, part: dict[str, Any] = ALL_BUT_REPETITIONS) -> None:
    """Light and wide, dark and narrow: nothing to scroll sideways for, nothing that axe objects to."""
    page.goto(address)
    expect(page.get_by_role("heading", level=1)).to_have_count(1)
    page.evaluate(OPEN_EVERYTHING)
    for width, scheme in ((1280, "light"), (360, "dark"), (380, "dark")):
        page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        page.set_viewport_size({"width": width, "height": 900})
        scrolled, inner = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert inner == width
        assert scrolled <= inner, f"{width} px: {page.evaluate(TOO_WIDE)}"
        if width != 380:
            violations = Axe().run(page, part).response["violations"]
            assert not violations, explained(violations, scheme)


def explained(violations: list[dict[str, Any]], scheme: str) -> str:
    found = [
        {"rule": each["id"], "n": len(each["nodes"]), "first": each["nodes"][0]["html"][:200]}
        | {"why": each["nodes"][0]["failureSummary"]}
        for each in violations
    ]
    return f"{scheme}: {json.dumps(found, indent=1)}"


@pytest.mark.parametrize("name", PAGES)
def test_every_page_fits_narrow_screens_and_axe_finds_nothing(name: str, site: Planted, visit: Page) -> None:
    check(visit, PAGES[name](site))


@pytest.mark.parametrize("parameters", ["?tab=borderline", "?tab=near", "?tab=all&page=2"])
def test_the_other_tabs_of_a_feature_do_so_too(parameters: str, site: Planted, visit: Page) -> None:
    """The rest of the page is the one above."""
    check(visit, feature(site, busiest(site), parameters), EVIDENCE)
    assert visit.locator(".evidence").count() > 3


@pytest.mark.parametrize("name", HOSTILE_PAGES)
def test_scripts_as_labels_are_only_text(name: str, hostile: Planted, visit: Page) -> None:
    """A dialog would be noted as trouble."""
    check(visit, HOSTILE_PAGES[name](hostile))
    expect(visit.get_by_text("<script>alert(").first).to_be_attached()
    assert visit.locator("script:not([src])").count() == 0


@pytest.mark.parametrize(
    "name", ["overview", "steered search", "features", "feature", "families", "family", "contrast"]
)
def test_labels_without_end_break_no_layout(name: str, endless: Planted, visit: Page) -> None:
    """One word of 10,000 letters, with characters that turn the direction of what follows."""
    check(visit, {**PAGES, **HOSTILE_PAGES}[name](endless))
    assert visit.locator("h1").bounding_box()["height"] < 900  # type: ignore[index]
    for selector in (".crumbs", ".card h3", ".chip", ".tree-row"):
        for box in [each.bounding_box() for each in visit.locator(selector).all()[:8]]:
            assert box is None or box["height"] < 400, selector


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/nowhere/at/all/<script>alert(1)</script>" + "x" * 60, 404),
        ("{base}/features/999", 404),
        ("{base}/features?page=-1", 400),
    ],
    ids=["no such page", "no such feature", "no such number"],
)
def test_pages_of_errors_fit_too_and_axe_finds_nothing(
    path: str, status: int, site: Planted, visit: Page, noted: list[str]
) -> None:
    check(visit, path.replace("{base}", site.base))
    expect(visit.locator(".error .eyebrow")).to_have_text(str(status))
    expect(visit.get_by_role("link", name="To the beginning")).to_be_visible()
    assert all(str(status) in trouble for trouble in noted)
    noted.clear()


def test_the_sheet_of_keys_is_accessible(site: Planted, page: Page) -> None:
    page.goto(urls.collection(site.explorer.name))
    page.get_by_role("button", name="Keyboard").click()
    expect(page.get_by_role("dialog", name="Keyboard")).to_be_visible()
    violations = Axe().run(page).response["violations"]
    assert not violations, explained(violations, "light")
    page.get_by_role("button", name="Close").click()
    expect(page.get_by_role("dialog", name="Keyboard")).to_be_hidden()


def test_a_script_in_a_title_never_runs(site: Planted, page: Page) -> None:
    """Neither in a page, nor in a fragment that htmx puts into one. A dialog would be noted as trouble."""
    odd = documents(3)[0]
    assert odd.title.startswith("<script>alert('title')</script>")
    page.goto(urls.document(site.explorer.name, odd.id))
    expect(page.get_by_role("heading", level=1)).to_have_text(odd.title)
    expect(page.get_by_text("<script>venue</script>")).to_be_visible()

    search = SearchPage(page)
    search.open(urls.search(site.explorer.name, site.sae, odd.text))
    expect(search.results.get_by_role("link", name=odd.title).first).to_be_visible()
    latent, strength = next(iter(search.strengths.items()))
    search.set_number(latent, f"{strength * 0.9:.3f}")
    search.expect_moves({latent: round(strength * 0.9, 3)})
    expect(search.results.get_by_role("link", name=odd.title).first).to_be_visible()
    assert page.locator("main script").count() == 0


def test_nothing_comes_from_elsewhere(site: Planted, page: Page, address: str) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    for name in ("overview", "steered search", "feature", "scorecard"):
        page.goto(PAGES[name](site))
    assert len(asked) > 8
    assert [url for url in asked if not url.startswith(f"{address}/")] == []


def test_the_skip_link_leads_past_the_masthead(site: Planted, page: Page) -> None:
    page.goto(PAGES["features"](site))
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    expect(page).to_have_url(re.compile("#main$"))
