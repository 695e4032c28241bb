"""The panel as an instrument: modes, families, lenses, what strengths mean, undo and redo."""

from __future__ import annotations

import itertools
import json
import re

import pytest
from playwright.sync_api import Locator, Page, expect

from app.query import as_strength
from app.search.panel import PHRASES
from sae_core.families import Family
from tests.app.served import Planted
from tests.browser.search_page import SearchPage
from tests.planted import WORDS


def expect_address(search: SearchPage, *parameters: str) -> None:
    """The address has these parameters, as they are printed, and the results are its results."""
    each = "".join(rf"(?=.*[?&]{re.escape(parameter)}(&|$))" for parameter in parameters)
    expect(search.page).to_have_url(re.compile(f"^{each}"))
    search.expect_results_of_address()


def expect_plain(search: SearchPage) -> None:
    expect(search.page).to_have_url(re.compile(r"\?q=[^&]+$"))
    search.expect_results_of_address()


@pytest.fixture(scope="session")
def family(site: Planted, own: dict[int, float]) -> Family:
    """A family of which the query has no feature."""
    families = [family for family in site.set.families if not own.keys() & set(family.members)]
    return max(families, key=lambda family: len(family.members))


@pytest.fixture
def family_row(search: SearchPage, family: Family, page: Page) -> Locator:
    search.open(f"{search.address}&family={family.id}:+0.20")
    return page.locator(f"#family{family.id}")


# --- modes ----------------------------------------------------------------------------------------


def test_each_mode_acts_at_once_and_is_shown_and_taken_back(
    search: SearchPage, own: dict[int, float], page: Page
) -> None:
    latent = next(iter(own))
    row = search.row(latent)
    summary = row.locator(".mode > summary")
    for mode, parameter, shown in (
        ("require", f"require={latent}", "required"),
        ("exclude", f"exclude={latent}", "excluded"),
        ("ignore", f"ignore={latent}", "ignored"),
    ):
        search.choose(latent, mode)
        expect_address(search, parameter)
        assert sum(name in page.url for name in ("require=", "exclude=", "ignore=")) == 1
        expect(summary).to_contain_text(shown)
        expect(row.locator(".mode")).not_to_have_attribute("open", "")
        expect(search.moves).to_have_count(1)
    expect(search.slider(latent)).to_be_disabled()
    page.reload()
    search.expect_view_of_address()
    expect(summary).to_contain_text("ignored")
    expect(search.slider(latent)).to_be_disabled()
    search.choose(latent, "boost or dampen")
    expect_plain(search)
    expect(search.slider(latent)).to_be_enabled()
    expect(summary).to_be_focused()
    search.choose(latent, "ignore")
    expect_address(search, f"ignore={latent}")
    search.act(latent, "^weaker").click()  # what is set is not ignored
    search.expect_moves({latent: search.strength(latent)})
    expect(page).not_to_have_url(re.compile("ignore="))


def test_a_mode_is_chosen_by_keyboard_and_keeps_the_strength(
    search: SearchPage, own: dict[int, float], page: Page
) -> None:
    latent = next(iter(own))
    search.set_number(latent, "0.1")
    search.row(latent).locator(".mode > summary").focus()
    page.keyboard.press("Enter")
    for _ in range(4):
        page.keyboard.press("Tab")
    expect(search.row(latent).get_by_role("link", name="ignore", exact=True)).to_be_focused()
    page.keyboard.press("Enter")
    expect_address(search, f"f={latent}:+0.10", f"ignore={latent}")
    expect(search.row(latent).locator(".mode > summary")).to_be_focused()
    search.choose(latent, "boost or dampen")
    expect(page).to_have_url(re.compile(rf"f={latent}:\+0\.10$"))
    search.expect_results_of_address()


# --- what a strength means ------------------------------------------------------------------------


def test_what_a_strength_means_is_told_while_it_moves(
    search: SearchPage, own: dict[int, float], page: Page
) -> None:
    latent = next(iter(own))
    row, words = search.row(latent), search.row(latent).locator(".slider-words")
    bounds = [float(bound) for bound in (row.get_attribute("data-bounds") or "").split()]
    places = [-0.1, 0.0, bounds[0] / 2, *bounds[:-1], bounds[-1] + 0.001]
    for strength, phrase in zip(places, PHRASES, strict=True):
        printed = as_strength(strength + (0.0005 if strength in bounds else 0.0))
        search.number(latent).fill(f"{printed:.3f}")
        expect(words).to_have_text(phrase)
        expect(search.slider(latent)).to_have_attribute(
            "aria-valuetext", re.compile(f", {phrase}; the query")
        )
    search.expect_moves({latent: search.strength(latent)})
    shown = words.inner_text()
    page.reload()
    expect(words).to_have_text(shown)  # the server says the same


def test_a_number_out_of_range_is_marked_and_kept_in_range(
    search: SearchPage, own: dict[int, float], page: Page
) -> None:
    latent = next(iter(own))
    number = search.number(latent)
    high = float(number.get_attribute("max") or "")
    number.fill("99")
    expect(number).to_have_attribute("aria-invalid", "true")
    number.press("Tab")
    expect(number).not_to_have_attribute("aria-invalid", "true")
    expect(number).to_have_value(f"{high:.3f}")
    search.expect_moves({latent: high})


# --- how far --------------------------------------------------------------------------------------


def test_moves_stay_close_to_the_query_and_are_refined(
    search: SearchPage, own: dict[int, float], page: Page
) -> None:
    latent = next(iter(own))
    search.set_number(latent, f"{-own[latent]:.3f}")
    search.expect_moves({latent: as_strength(-own[latent])})
    page.get_by_text("How far from my query").click()
    page.get_by_label("stay at a cosine").fill("0.9")
    expect_address(search, "keep=0.90")
    assert search.twin()["cosine"] == pytest.approx(0.9, abs=1e-4)
    expect(search.results.locator(".move-keep")).to_contain_text("scaled to")
    expect(search.results.locator("[data-announce]")).to_contain_text("0.90")
    page.get_by_label("Least cosine").focus()
    page.keyboard.press("Home")
    expect_address(search, "keep=0.50")
    expect(page.get_by_label("stay at a cosine")).to_have_value("0.50")
    page.keyboard.press("End")  # as far as one likes
    expect(page).not_to_have_url(re.compile("keep="))
    page.get_by_label("Refine the moves").check()
    expect_address(search, "refine=1")
    expect(search.results.locator(".move-refine")).to_contain_text("missed what was asked for by")
    page.reload()
    search.expect_view_of_address()
    expect(page.get_by_label("Refine the moves")).to_be_checked()


# --- families -------------------------------------------------------------------------------------


def test_a_family_is_one_slider_whose_members_follow_unless_they_are_locked(
    search: SearchPage, family: Family, family_row: Locator, page: Page
) -> None:
    family_row.locator("summary").click()
    members = family_row.locator(".follower")
    expect(members).to_have_count(len(family.members))

    def strengths() -> list[float]:
        return [float(text) for text in members.locator("[data-value]").all_inner_texts()]

    before = strengths()
    page.locator(f"#family{family.id}-number").fill("0.4")
    expect_address(search, f"family={family.id}:+0.40")
    assert strengths() == pytest.approx([2 * value for value in before], abs=3e-3)
    twin = search.twin()["families"][0]["followers"]
    assert strengths() == pytest.approx([follower["strength"] for follower in twin], abs=2e-3)

    first = members.first
    latent = first.get_attribute("data-follower")
    first.get_by_role("link", name="lock").click()
    expect_address(search, f"lock={latent}")
    expect(first.get_by_role("link", name="unlock")).to_be_focused()
    expect(family_row.locator("summary")).to_contain_text("1 locked")
    assert strengths()[0] == 0
    assert search.twin()["families"][0]["n_locked"] == 1
    members.nth(1).get_by_role("link", name="own slider").click()  # a link that was made before the move
    other = int(members.nth(1).get_attribute("data-follower") or "")
    expect(search.row(other)).to_be_visible()
    expect_address(search, f"family={family.id}:+0.40", f"lock={latent}")
    search.expect_view_of_address()
    family_row.get_by_role("link", name="Remove the family").click()
    expect(page).not_to_have_url(re.compile("family=|lock="))


def test_features_and_families_are_found_by_words_and_by_meaning(
    search: SearchPage, site: Planted, family: Family, own: dict[int, float], page: Page
) -> None:
    first = next(iter(own))
    search.set_number(first, "0.1")
    search.expect_moves({first: 0.1})
    found = page.locator("#found")
    for two in itertools.pairwise(WORDS):  # until labels mean the same in other words
        answer = search.twin(f"{search.address}&find={'+'.join(two)}")["found"]
        if any(each["by"] == "meaning" for each in answer):
            break
    page.get_by_label("Words for the feature").fill(" ".join(two))
    expect(found.get_by_role("heading", name="With this meaning")).to_be_visible()
    page.get_by_label("Words for the feature").fill(site.set.labels[family.id].text)
    expect(found.get_by_role("heading", name="With these words")).to_be_visible()
    found.locator(f"a[data-add-family='{family.id}']").click()
    expect(page.locator(f"#family{family.id}")).to_be_visible()
    search.expect_view_of_address()
    expect(page).to_have_url(re.compile(rf"family={family.id}:\+0\.\d+&f={first}:\+0\.10$"))
    page.get_by_label("Words for the feature").fill(site.set.labels[family.id].text)
    found.locator(f"a[data-add-family='{family.id}']").click()
    expect(page.locator(f"#family{family.id}-range")).to_be_focused()


# --- lenses ---------------------------------------------------------------------------------------


def test_moves_are_named_stacked_turned_round_unfolded_and_passed_on(
    search: SearchPage, own: dict[int, float], site: Planted, page: Page
) -> None:
    first, second = list(own)[:2]
    search.set_number(first, "-0.1")
    search.expect_moves({first: -0.1})
    titles = search.titles
    page.get_by_text("Lenses", exact=True).click()
    page.get_by_label("Name for the moves").fill("less of it")
    page.get_by_role("button", name="Make").click()
    expect(page.locator(".lens-name")).to_have_text(["less of it"])
    search.expect_view_of_address()
    assert search.titles == titles
    assert search.strength(first) == -0.1

    search.set_number(second, "0.2")  # after which what the links of the panel say is old
    expect_address(search, f"f={second}:+0.20")
    page.get_by_label("Name for the moves").fill("more")
    page.get_by_label("Name for the moves").press("Enter")
    expect(page.locator(".lens-name")).to_have_text(["less of it", "more"])
    search.set_number(first, "0.05")
    expect_address(search, f"f={first}:+0.05")
    page.get_by_role("link", name="Apply more earlier").click()
    expect(page.locator(".lens-name")).to_have_text(["more", "less of it"])
    expect_address(search, f"f={first}:+0.05")

    lens = page.locator(".lens").last
    lens.get_by_text("1 move").click()
    lens.get_by_role("button", name="Copy as JSON").click()
    expect(page.get_by_role("status")).to_have_text("Copied")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert json.loads(copied)["moves"][0]["feature"] == first
    page.get_by_role("link", name="Remove the lens less of it").click()
    expect(page.locator(".lens-name")).to_have_text(["more"])
    page.get_by_role("link", name="unfold more").click()
    expect(page.locator(".lens-name")).to_have_count(0)
    search.expect_moves({second: 0.2, first: 0.05})

    page.get_by_text("Lenses", exact=True).click()
    page.get_by_text("Paste a lens").click()
    page.get_by_label("A lens as JSON").fill(copied)
    page.get_by_role("button", name="Put it on").click()
    expect(page.locator(".lens-name")).to_have_text(["less of it"])
    search.expect_view_of_address()


def test_what_is_no_lens_is_explained_and_everything_stays(
    search: SearchPage, own: dict[int, float], page: Page, troubles: list[str]
) -> None:
    latent = next(iter(own))
    search.set_number(latent, "-0.1")
    search.expect_moves({latent: -0.1})
    page.get_by_text("Lenses", exact=True).click()
    page.get_by_text("Paste a lens").click()
    page.get_by_label("A lens as JSON").fill("not a lens")
    page.get_by_role("button", name="Put it on").click()
    expect(search.results.locator(".message")).to_contain_text("This text is no JSON")
    assert search.strength(latent) == -0.1
    assert all("400" in trouble for trouble in troubles)
    troubles.clear()


def test_a_lens_of_another_sae_says_that_it_is_not_applied(search: SearchPage, page: Page) -> None:
    plain = search.titles
    search.open(f"{search.address}&lens=far;k9-n9-abcdef;1:%2B0.30")
    expect(search.results).to_contain_text("which is not here: nothing of it is applied")
    assert search.titles == plain


# --- undo and redo --------------------------------------------------------------------------------


def test_steps_are_undone_and_redone_by_buttons_and_keys(
    search: SearchPage, own: dict[int, float], page: Page
) -> None:
    undo, redo = (page.get_by_role("button", name=name, exact=True) for name in ("Undo", "Redo"))
    expect(undo).to_be_disabled()
    first, second = list(own)[:2]
    drag = search.grab(first)
    for share in (0.8, 0.4, -0.2):  # one hand, one step
        drag.to(share * own[first])
        search.expect_moves({first: search.strength(first)})
    drag.release()
    dragged = search.strength(first)
    search.choose(second, "require")
    expect_address(search, f"require={second}")
    expect(redo).to_be_disabled()

    undo.click()
    search.expect_moves({first: dragged})
    expect(page).not_to_have_url(re.compile("require="))
    search.expect_view_of_address()
    page.keyboard.press("u")
    expect_plain(search)
    search.expect_view_of_address()
    expect(undo).to_be_disabled()
    page.keyboard.press("Shift+U")
    search.expect_moves({first: dragged})
    redo.click()
    expect_address(search, f"require={second}")
    expect(redo).to_be_disabled()
    page.keyboard.press("u")
    expect(page).not_to_have_url(re.compile("require="))
    page.get_by_label("Words for the feature").fill("sample")  # looking for something is no step
    expect(page).to_have_url(re.compile("find=sample"))
    expect(redo).to_be_enabled()
    search.set_number(second, "0.01")  # what is done anew leaves nothing to redo
    search.expect_moves({first: dragged, second: 0.01})
    expect(redo).to_be_disabled()


def test_taking_back_a_chip_and_reset_are_steps_too(
    search: SearchPage, own: dict[int, float], page: Page
) -> None:
    first, second = list(own)[:2]
    search.set_number(first, "0.1")
    search.expect_moves({first: 0.1})
    search.set_number(second, "-0.1")
    search.expect_moves({first: 0.1, second: -0.1})
    search.results.get_by_role("link", name=re.compile("^Take back")).first.click()
    search.expect_moves({second: -0.1})
    search.expect_view_of_address()
    page.get_by_role("link", name="Reset all").click()
    search.expect_moves({})
    search.expect_view_of_address()
    page.keyboard.press("u")
    search.expect_moves({second: -0.1})
    search.expect_view_of_address()
    page.keyboard.press("u")
    search.expect_moves({first: 0.1, second: -0.1})


# --- without scripts ------------------------------------------------------------------------------


@pytest.mark.browser_context_args(java_script_enabled=False)
def test_modes_families_lenses_and_limits_need_no_script(
    search: SearchPage, own: dict[int, float], family: Family, page: Page
) -> None:
    latent = next(iter(own))
    search.choose(latent, "exclude")
    search.expect_view_of_address()
    assert f"exclude={latent}" in page.url
    expect(search.row(latent).locator(".mode > summary")).to_contain_text("excluded")
    search.open(f"{search.address}&family={family.id}:+0.20")
    row = page.locator(f"#family{family.id}")
    row.get_by_role("link", name=re.compile("^Stronger")).click()
    assert search.twin()["families"][0]["strength"] > 0.2
    row.locator("summary").click()
    row.get_by_role("link", name=re.compile("^lock")).first.click()
    assert "lock=" in page.url
    page.get_by_text("How far from my query").click()
    page.get_by_label("stay at a cosine").fill("0.9")
    page.locator(".closeness").get_by_role("button", name="Apply").click()
    assert search.twin()["keep"] == 0.9
    page.get_by_text("Lenses", exact=True).click()
    page.get_by_label("Name for the moves").fill("mine")
    page.get_by_role("button", name="Make").click()
    search.expect_view_of_address()
    expect(page.locator(".lens-name")).to_have_text(["mine"])
    assert search.twin()["families"][0]["root"] == family.id
