"""Families in a real browser: the form grows them again, trees fold, links keep what was chosen."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from app import urls
from app.growing import PATIENCE as PATIENCE_OF_REQUESTS
from sae_core.explorer import FeatureSet
from sae_core.families import FamilyConfig, Forest
from tests.app.served import Planted
from tests.browser.conftest import PATIENCE, note_troubles


def changed(site: Planted, **changes: Any) -> int:
    """How many families these parameters give."""
    return len(site.set.grow(replace(site.set.forest.config, **changes)).families)


@pytest.fixture
def min_size(site: Planted) -> int:
    """A smallest size that some families reach and some do not."""
    sizes = site.set.forest.sizes
    return next(size for size in range(min(sizes) + 1, max(sizes) + 1))


def test_the_form_grows_families_while_one_types(site: Planted, page: Page, min_size: int) -> None:
    page.goto(f"{site.base}/families")
    cards, everything = page.locator(".family-card"), len(site.set.families)
    expect(cards).to_have_count(everything)
    field = page.get_by_label("Smallest family")
    field.fill(str(min_size))
    left = changed(site, min_size=min_size)
    assert 0 < left < everything
    expect(cards).to_have_count(left)
    expect(page).to_have_url(re.compile(rf"/families\?min_size={min_size}$"))
    expect(page.get_by_role("status")).to_contain_text("features that fire")
    page.reload()
    expect(cards).to_have_count(left)
    expect(page.get_by_label("Smallest family")).to_have_value(str(min_size))

    page.locator(".family-card h3 a").first.click()
    expect(page).to_have_url(re.compile(rf"/families/\d+\?min_size={min_size}$"))
    expect(page.get_by_text("found with other parameters")).to_be_visible()
    page.get_by_role("navigation", name="Breadcrumb").get_by_role("link", name="Families").click()
    expect(page).to_have_url(re.compile(rf"/families\?min_size={min_size}$"))
    page.get_by_role("link", name="Back to the families as they were built").click()
    expect(page).to_have_url(re.compile("/families$"))
    expect(cards).to_have_count(everything)


def test_a_bad_parameter_is_named_and_the_families_stay(site: Planted, page: Page, noted_400: None) -> None:
    page.goto(f"{site.base}/families")
    everything = len(site.set.families)
    page.get_by_label("Threshold").fill("7")
    expect(page.locator("#error")).to_contain_text("The parameter threshold cannot be")
    expect(page.locator("#error")).to_contain_text("a number from 0 to 1")
    expect(page.locator(".family-card")).to_have_count(everything)
    expect(page).to_have_url(re.compile("/families$"))
    page.get_by_label("Threshold").fill("")
    expect(page.locator("#error")).to_be_empty()
    expect(page.locator(".family-card")).to_have_count(everything)


@pytest.fixture
def noted_400(troubles: list[str]) -> Iterator[None]:
    """The browser notes an answer of 400 as trouble; here it is what is asked for."""
    yield
    assert troubles
    assert all("400" in trouble for trouble in troubles)
    troubles.clear()


def test_what_is_typed_while_families_are_being_found_comes_first(
    site: Planted, page: Page, min_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server runs in this process, so that its families can be made slow."""
    grow = FeatureSet.grow

    def slowly(self: FeatureSet, config: FamilyConfig) -> Forest:
        time.sleep(PATIENCE_OF_REQUESTS + 1)
        return grow(self, config)

    monkeypatch.setattr(FeatureSet, "grow", slowly)
    page.goto(f"{site.base}/families")
    field, threshold = page.get_by_label("Smallest family"), site.set.forest.config.threshold
    field.fill("2")
    expect(page.locator("#forest")).to_contain_text("This takes longer")
    page.get_by_label("Threshold").fill(f"{threshold / 2:g}")
    field.fill(str(min_size))
    expect(page).to_have_url(re.compile(rf"threshold={threshold / 2:g}&min_size={min_size}$"))
    monkeypatch.undo()
    left = changed(site, min_size=min_size, threshold=threshold / 2)
    expect(page.locator(".family-card")).to_have_count(left)
    page.wait_for_timeout(2000)  # an answer to the first question would have come by now
    expect(page.locator(".family-card")).to_have_count(left)
    expect(page).to_have_url(re.compile(rf"threshold={threshold / 2:g}&min_size={min_size}$"))


def test_another_algorithm_is_a_link_and_begins_with_its_own_defaults(site: Planted, page: Page) -> None:
    stored = site.set.forest.config.algorithm
    other, text = ("paper", "The paper's") if stored == "lift" else ("lift", "By lift")
    page.goto(f"{site.base}/families?min_size=6")
    page.get_by_role("link", name=text).click()
    expect(page).to_have_url(re.compile(rf"/families\?algorithm={other}$"))
    families = site.set.grow(FamilyConfig(algorithm=other)).families
    expect(page.locator(".family-card")).to_have_count(min(24, len(families)))
    defaults = FamilyConfig(algorithm=other)
    expect(page.get_by_label("Threshold")).to_have_value(f"{defaults.threshold:g}")


def test_branches_fold_with_the_keyboard(site: Planted, page: Page) -> None:
    family = next(f for f in site.set.grow(NESTED).families if max_depth(f.members, f.parents) > 1)
    page.goto(urls.family(site.explorer.name, site.sae, family.id) + nested_parameters(site))
    fold = page.locator("#tree details.fold").first
    child = fold.locator("li a").first
    expect(child).to_be_visible()
    fold.locator("summary").first.focus()
    page.keyboard.press("Enter")
    expect(child).to_be_hidden()
    page.keyboard.press("Enter")
    expect(child).to_be_visible()


NESTED = FamilyConfig(
    algorithm="paper", threshold=0.05, min_lift=0.5, min_z=0, min_together=3, n_iterations=1
)


def nested_parameters(site: Planted) -> str:
    named = "threshold=0.05&min_lift=0.5&min_z=0&min_together=3&n_iterations=1"
    return f"?{named}" if site.set.forest.config.algorithm == "paper" else f"?algorithm=paper&{named}"


def max_depth(members: list[int], parents: list[int]) -> int:
    depths: dict[int, int] = {}
    for member, parent in zip(members, parents, strict=True):
        depths[member] = depths.get(parent, -1) + 1
    return max(depths.values())


def test_a_family_leads_to_a_search_that_it_steers(site: Planted, page: Page) -> None:
    family = site.set.families[0]
    page.goto(urls.family(site.explorer.name, site.sae, family.id))
    page.get_by_role("link", name="Steer this family").click()
    expect(page.locator("#results .result")).to_have_count(10)
    expect(page.locator(".move")).to_have_count(1)
    expect(page.locator(f"#family{family.id} .follower")).to_have_count(len(family.members))


def test_a_box_of_the_map_leads_to_its_family(site: Planted, page: Page) -> None:
    page.goto(f"{site.base}/families")
    box = page.locator(".map-wide a").first
    href = box.get_attribute("href")
    box.click()
    expect(page).to_have_url(re.compile(f"{href}$"))
    expect(page.locator(".eyebrow").first).to_have_text("Family")


def test_the_badge_has_words_wherever_it_stands(site: Planted, page: Page) -> None:
    """Never colour alone."""
    for address in (
        f"{site.base}/families",
        urls.family(site.explorer.name, site.sae, site.set.families[0].id),
        urls.feature(site.explorer.name, site.sae, site.set.families[0].id),
        f"{site.base}/features",
    ):
        page.goto(address)
        texts = page.locator(".trust").all_text_contents()
        assert len(texts) > 5
        words = "strong|fair|weak|near chance|not scored|unlabelled"
        assert all(re.search(rf"\b({words})\b", text) for text in texts)


def test_without_scripts_the_form_is_sent_by_its_button(
    browser: Browser, browser_context_args: dict[str, Any], site: Planted, min_size: int
) -> None:
    troubles: list[str] = []
    with browser.new_context(**browser_context_args, java_script_enabled=False) as context:
        note_troubles(context, troubles)
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        page.goto(f"{site.base}/families")
        page.get_by_label("Smallest family").fill(str(min_size))
        page.get_by_role("button", name="Find families").click()
        expect(page.locator(".family-card")).to_have_count(changed(site, min_size=min_size))
        expect(page.get_by_label("Smallest family")).to_have_value(str(min_size))
        link = page.locator(".family-card h3 a").first.get_attribute("href") or ""
        assert link.endswith(f"?min_size={min_size}")
    assert troubles == []
