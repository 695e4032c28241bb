"""Steered search with a mouse, a keyboard and a server that may fail or dawdle."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, Route, expect

from app import urls
from app.query import as_strength
from sae_core.explorer import SearchAnswer
from tests.app.served import Planted
from tests.browser.conftest import note_troubles
from tests.browser.search_page import SearchPage
from tests.planted import WORDS

A_SEARCH = re.compile(r"/search\?")


def label_of(site: Planted, latent: int) -> str:
    return str(site.set.labels[latent].text)


def another_feature(site: Planted, own: dict[int, float]) -> int:
    """A feature that the query does not have, with a label that only it has."""
    texts = [label.text for label in site.set.labels]
    return next(
        latent for latent, text in enumerate(texts) if text and latent not in own and texts.count(text) == 1
    )


# --- moving ---------------------------------------------------------------------------------------


def test_three_sliders_change_the_results_at_once_and_the_link_shows_the_same_to_anybody(
    search: SearchPage, own: dict[int, float], new_context: Callable[[], BrowserContext], troubles: list[str]
) -> None:
    first, second, third = list(own)[:3]
    plain = search.titles

    drag = search.grab(first)
    drag.to(-own[first])
    # The mouse is still pressed: results and address follow the hand.
    search.expect_moves({first: search.strength(first)})
    assert search.strength(first) == pytest.approx(-own[first], abs=drag.high / 20)
    under_way = search.titles
    assert under_way != plain
    drag.to(own[first] / 2)
    search.expect_moves({first: search.strength(first)})
    assert search.titles != under_way
    drag.release()

    drag = search.grab(second)
    drag.to(drag.high)
    drag.release()
    assert search.strength(second) == drag.high

    search.slider(third).focus()
    for key in ("ArrowLeft", "ArrowLeft", "Shift+ArrowRight"):
        search.page.keyboard.press(key)
    moved = {latent: search.strength(latent) for latent in (first, second, third)}
    search.expect_moves(moved)
    assert search.numbers[:3] == [moved[latent] for latent in list(own)[:3]]

    elsewhere = new_context()
    note_troubles(elsewhere, troubles)
    theirs = SearchPage(elsewhere.new_page())
    theirs.open(search.address)
    assert theirs.address == search.address
    assert theirs.titles == search.titles
    assert theirs.scores == search.scores
    assert theirs.strengths == search.strengths
    assert theirs.numbers == search.numbers


def test_arrow_keys_move_by_a_hundredth_of_the_range_and_say_where_the_slider_is(
    search: SearchPage, own: dict[int, float]
) -> None:
    latent = next(iter(own))
    start = as_strength(own[latent])
    slider = search.slider(latent)
    high = float(slider.get_attribute("max") or "")
    slider.focus()
    slider.press("ArrowDown")
    assert search.strength(latent) == pytest.approx(start - high / 50, abs=2e-3)
    slider.press("Shift+ArrowUp")
    assert search.strength(latent) == pytest.approx(start - high / 50 + 0.001, abs=2e-3)
    slider.press("Home")
    assert search.strength(latent) == -high
    slider.press("End")
    assert search.strength(latent) == high
    expect(slider).to_have_attribute(
        "aria-valuetext",
        f"{urls.decimals(high)}, stronger than in any document; the query's own is {urls.decimals(start)}",
    )
    expect(slider).to_have_accessible_name(re.compile(f"#{latent} "))
    search.expect_moves({latent: high})
    expect(search.page.get_by_role("status")).to_contain_text("steered query")


def test_a_slider_moved_and_put_back_leaves_the_plain_search(
    search: SearchPage, own: dict[int, float], page: Page
) -> None:
    plain = search.address, search.titles, search.scores, search.strengths, search.numbers
    latent = next(iter(own))

    def reset_by_link() -> None:
        search.act(latent, "^reset").click()

    def drag_back() -> None:
        drag = search.grab(latent)
        drag.to(own[latent])  # a hand does not hit a thousandth: the slider feels the query's own value
        drag.release()

    def type_own() -> None:
        search.set_number(latent, f"{own[latent]:.3f}")

    for put_back in (reset_by_link, drag_back, type_own):
        drag = search.grab(latent)
        drag.to(-own[latent])
        drag.release()
        search.expect_moves({latent: search.strength(latent)})
        assert search.titles != plain[1]
        put_back()
        search.expect_moves({})
        assert (search.address, search.titles, search.scores, search.strengths, search.numbers) == plain
        expect(search.moves).to_have_count(0)
        expect(page.locator(".slider.is-moved")).to_have_count(0)


def test_number_fields_set_strengths_and_keep_them_in_range(
    search: SearchPage, own: dict[int, float]
) -> None:
    first, second = list(own)[:2]
    high = float(search.number(second).get_attribute("max") or "")
    search.set_number(first, "-0.125")
    search.expect_moves({first: -0.125})
    assert search.strength(first) == -0.125
    search.set_number(second, "99")
    search.expect_moves({first: -0.125, second: high})
    assert search.numbers[:2] == [-0.125, high]
    search.set_number(second, "")  # nothing typed is nothing meant
    assert search.numbers[:2] == [-0.125, high]
    search.expect_moves({first: -0.125, second: high})


def test_zero_and_the_notches_set_a_slider_and_reset_all_puts_every_slider_back(
    search: SearchPage, own: dict[int, float]
) -> None:
    first, second, third = list(own)[:3]
    plain = search.address, search.titles, search.strengths
    high = float(search.slider(second).get_attribute("max") or "")
    search.choose(first, "zero")
    search.expect_moves({first: 0.0})
    search.act(second, "^weaker").click()
    weaker = search.strength(second)
    assert weaker == pytest.approx(own[second] - high / 5, abs=2e-3)
    search.act(third, "^stronger").click()
    search.expect_moves({first: 0.0, second: weaker, third: search.strength(third)})
    search.results.get_by_role("link", name="Reset all").click()
    search.expect_moves({})
    search.expect_view_of_address()
    assert (search.address, search.titles, search.strengths) == plain


def test_moves_are_told_in_words_and_taken_back_one_by_one(
    search: SearchPage, own: dict[int, float], site: Planted
) -> None:
    first, second, third = list(own)[:3]
    for latent, strength in ((first, 0.0), (second, -0.2), (third, 0.9 * own[third])):
        search.set_number(latent, f"{strength:.3f}")
    moved = {first: 0.0, second: -0.2, third: as_strength(0.9 * own[third])}
    search.expect_moves(moved)
    words = {
        first: f"without {label_of(site, first)}",
        second: f"against {label_of(site, second)}",
        third: f"less {label_of(site, third)}",
    }
    expect(search.moves).to_contain_text(list(words.values()))
    for latent in (second, third, first):
        search.results.get_by_role("link", name=f"Take back: {words[latent]}", exact=True).click()
        del moved[latent]
        search.expect_moves(moved)
        search.expect_view_of_address()


# --- adding ---------------------------------------------------------------------------------------


def test_a_feature_is_added_by_words_moved_and_removed_while_other_moves_stay(
    search: SearchPage, own: dict[int, float], site: Planted, page: Page
) -> None:
    first, added = next(iter(own)), another_feature(site, own)
    search.set_number(first, "0.1")
    search.expect_moves({first: 0.1})
    page.get_by_label("Words for the feature").press_sequentially(label_of(site, added))
    expect(page).to_have_url(re.compile("[?&]find="))
    page.locator(f"#found a[data-add='{added}']").click()
    expect(search.row(added).get_by_text("added")).to_be_visible()
    start = search.strength(added)
    assert start > 0
    search.expect_moves({first: 0.1, added: start})
    search.expect_view_of_address()
    expect(page.get_by_label("Words for the feature")).to_have_value("")

    search.set_number(added, "-0.3")
    search.expect_moves({first: 0.1, added: -0.3})
    search.act(added, "^reset").click()  # the query does not have it: back to nothing, but still there
    search.expect_moves({first: 0.1, added: 0.0})
    expect(search.moves).to_have_count(1)
    page.reload()
    search.expect_view_of_address()
    search.act(added, "^remove").click()
    search.expect_moves({first: 0.1})
    expect(search.row(added)).to_have_count(0)


def test_a_found_feature_that_has_a_slider_is_shown_there(
    search: SearchPage, own: dict[int, float], site: Planted, page: Page
) -> None:
    latent = next(iter(own))
    page.get_by_label("Words for the feature").fill(label_of(site, latent))
    page.locator(f"#found a[data-add='{latent}']").click()
    expect(search.slider(latent)).to_be_focused()
    page.get_by_label("Words for the feature").fill("nosuchwordanywhere")
    expect(page.locator("#found")).not_to_contain_text("With these words")


# --- history --------------------------------------------------------------------------------------


def test_reload_back_and_forward_show_the_whole_page_as_it_was(
    search: SearchPage, own: dict[int, float], page: Page
) -> None:
    first, second = list(own)[:2]
    search.set_number(first, "-0.2")
    search.expect_moves({first: -0.2})
    search.set_number(second, "0.05")
    search.expect_moves({first: -0.2, second: 0.05})
    steered = search.address, search.titles, search.strengths

    def expect_steered() -> None:
        expect(page).to_have_url(re.compile(re.escape(steered[0]) + "$"))
        search.expect_view_of_address()
        assert (search.address, search.titles, search.strengths) == steered

    page.reload()
    expect_steered()

    page.locator("#q").fill(WORDS[30])
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(f"[?&]q={WORDS[30]}"))
    search.expect_view_of_address()
    asked = search.address, search.titles, search.strengths
    search.set_number(first, "0.3")
    search.expect_moves({first: 0.3, second: 0.05})
    dragged = search.address, search.titles

    page.go_back()
    expect_steered()
    page.go_forward()
    expect(page).to_have_url(re.compile(re.escape(dragged[0]) + "$"))
    search.expect_view_of_address()
    assert (search.address, search.titles) == dragged != asked[:2]

    search.results.locator(".title a").first.click()
    expect(page.get_by_role("heading", name="Nearest documents")).to_be_visible()
    page.go_back()
    search.expect_view_of_address()
    assert (search.address, search.titles) == dragged
    page.go_back()
    expect_steered()


def test_going_back_to_an_address_that_a_fragment_had_shows_the_whole_page(
    search: SearchPage, page: Page
) -> None:
    """Page and fragment share the address, and Back takes what the browser has kept of it."""
    page.get_by_text("Only some years").click()
    page.get_by_label("from").fill("2012")
    with_filter = re.compile("[?&]year_min=2012$")
    expect(page).to_have_url(with_filter)
    search.expect_results_of_address()
    titles = search.titles
    search.results.locator(".title a").first.click()
    expect(page.get_by_role("heading", name="Nearest documents")).to_be_visible()
    page.go_back()
    expect(page).to_have_url(with_filter)
    search.expect_view_of_address()
    assert search.titles == titles
    expect(page.get_by_label("from")).to_have_value("2012")


# --- late and failed answers ----------------------------------------------------------------------


@pytest.mark.parametrize("order", [(3, 0, 2, 1), (0, 1, 3, 2), (2, 3, 1, 0)])
def test_stale_answers_are_never_shown(
    order: tuple[int, ...], search: SearchPage, own: dict[int, float], page: Page
) -> None:
    latent = next(iter(own))
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route(A_SEARCH, hold)
    search.slider(latent).focus()
    for strength in (own[latent] / 2, 0.0, -own[latent] / 2, -own[latent]):
        with page.expect_request(A_SEARCH):
            search.number(latent).fill(f"{strength:.3f}")
    page.evaluate("1")  # what the browser has asked for has arrived here
    assert len(held) == 4
    for at in order:
        with page.expect_response("**/live"):
            held[at].continue_()
            page.evaluate("fetch('/live')")  # the answer before has had its turn
    search.expect_moves({latent: as_strength(-own[latent])})
    assert search.strength(latent) == as_strength(-own[latent])


def test_after_a_burst_of_moves_a_slow_server_s_last_answer_is_the_one_shown(
    search: SearchPage, own: dict[int, float], site: Planted, monkeypatch: pytest.MonkeyPatch, page: Page
) -> None:
    latent = next(iter(own))
    answer, delays = site.explorer.search, itertools.cycle((0.25, 0.1, 0.0, 0.2))

    def dawdling(*arguments: Any, **options: Any) -> SearchAnswer:
        time.sleep(next(delays))
        return answer(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(site.explorer, "search", dawdling)
        for sweep in (1.0, -1.0, 0.6, -0.4):
            drag = search.grab(latent)
            drag.to(sweep * drag.high)
            drag.release()
        for _ in range(20):
            page.keyboard.press("ArrowRight")
        search.expect_moves({latent: search.strength(latent)})
    search.expect_view_of_address()


def test_a_server_error_leaves_panel_and_results_and_says_so(
    search: SearchPage,
    own: dict[int, float],
    site: Planted,
    monkeypatch: pytest.MonkeyPatch,
    troubles: list[str],
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("The disk is on fire.")

    first, second = list(own)[:2]
    before = search.address, search.titles, list(search.strengths)
    with monkeypatch.context() as patch:
        patch.setattr(site.explorer, "search", broken)
        search.set_number(first, "-0.2")
        expect(search.error).to_contain_text("Something went wrong here")
    assert "on fire" not in search.error.inner_text()
    assert (search.address, search.titles, list(search.strengths)) == before
    assert search.strength(first) == -0.2
    assert {trouble.partition(":")[0] for trouble in troubles} == {"answer", "console"}
    troubles.clear()

    search.set_number(second, "0.1")
    search.expect_moves({first: -0.2, second: 0.1})
    expect(search.error).to_be_empty()


def test_a_lost_connection_leaves_panel_and_results_and_says_so(
    search: SearchPage, own: dict[int, float], context: BrowserContext, troubles: list[str]
) -> None:
    first, second = list(own)[:2]
    before = search.address, search.titles
    context.set_offline(True)
    search.set_number(first, "-0.2")
    expect(search.error).to_contain_text("The server did not answer")
    assert (search.address, search.titles) == before
    assert search.strength(first) == -0.2
    context.set_offline(False)
    search.set_number(second, "0.1")
    search.expect_moves({first: -0.2, second: 0.1})
    expect(search.error).to_be_empty()
    assert troubles
    troubles.clear()


def test_a_mistake_in_a_filter_is_explained_beside_the_results(
    search: SearchPage, page: Page, troubles: list[str]
) -> None:
    page.get_by_text("Only some years").click()
    page.get_by_label("from").fill("2012")
    expect(page).to_have_url(re.compile("year_min=2012$"))
    search.expect_results_of_address()
    before = search.address, search.titles
    page.get_by_label("to", exact=True).fill("2003")
    expect(search.error).to_contain_text("The parameter year_max cannot be")
    assert (search.address, search.titles) == before
    page.get_by_label("to", exact=True).fill("2015")
    expect(page).to_have_url(re.compile("year_max=2015$"))
    search.expect_results_of_address()
    expect(search.error).to_be_empty()
    assert all("400" in trouble for trouble in troubles)
    troubles.clear()


# --- filters, pages, chips ------------------------------------------------------------------------


def test_filters_by_year_and_venue_act_at_once_and_can_be_taken_back(
    search: SearchPage, own: dict[int, float], page: Page
) -> None:
    plain = search.address, search.titles
    latent = next(iter(own))
    search.set_number(latent, "0.1")
    page.get_by_text("Only some years").click()
    page.get_by_label("from").fill("2005")
    page.get_by_label("to", exact=True).fill("2011")
    page.get_by_label("Journal 1").check()
    page.get_by_label("Journal 3").check()
    expect(page).to_have_url(re.compile(r"year_min=2005&year_max=2011(&venue=Journal\+[13]){2}$"))
    search.expect_moves({latent: 0.1})
    shown = search.results.locator(".result")
    expect(shown).to_have_count(10)
    for venue in shown.locator(".venue").all_inner_texts():
        assert venue in {"Journal 1", "Journal 3"}
    for row in search.twin()["results"]:
        assert 2005 <= row["document"]["year"] <= 2011

    page.reload()
    search.expect_view_of_address()
    expect(page.get_by_label("Journal 3")).to_be_checked()
    expect(page.get_by_label("from")).to_have_value("2005")
    page.get_by_label("Journal 1").uncheck()
    page.get_by_label("Journal 3").uncheck()
    page.get_by_label("from").fill("")
    page.get_by_label("to", exact=True).fill("")
    search.act(latent, "^reset").click()
    expect(page).to_have_url(re.compile(re.escape(plain[0]) + "$"))
    search.expect_moves({})
    assert (search.address, search.titles) == plain


def test_paging_keeps_the_moves_and_a_move_begins_at_the_first_page(
    search: SearchPage, own: dict[int, float], page: Page
) -> None:
    latent = next(iter(own))
    search.set_number(latent, "0.1")
    search.expect_moves({latent: 0.1})
    first_page = search.titles
    search.results.get_by_role("link", name="Next").click()
    expect(page).to_have_url(re.compile("page=2$"))
    search.expect_moves({latent: 0.1})
    search.expect_view_of_address()
    expect(search.results.locator(".rank").first).to_have_text("11")
    assert not set(first_page) & set(search.titles)
    page.keyboard.press("]")
    expect(page).to_have_url(re.compile("page=3$"))
    page.keyboard.press("[")
    expect(page).to_have_url(re.compile("page=2$"))
    search.set_number(latent, "0.2")
    search.expect_moves({latent: 0.2})
    assert "page=" not in page.url


def test_every_result_links_to_its_document_and_to_the_features_it_shares(
    search: SearchPage, page: Page
) -> None:
    result = search.results.locator(".result").first
    chip = result.get_by_role("list", name="Features shared with the query").get_by_role("link").first
    address = chip.get_attribute("href")
    assert address
    chip.click()
    expect(page).to_have_url(re.compile(re.escape(address) + "$"))
    expect(page.locator(".eyebrow").first).to_have_text("Feature")
    page.go_back()
    title = search.titles[0]
    result.get_by_role("link", name=title).click()
    expect(page.get_by_role("heading", level=1)).to_have_text(title)
    page.get_by_role("link", name="Steer from here").click()
    search.expect_view_of_address()
    expect(page).to_have_url(re.compile(r"\?like="))
    assert search.titles[0] == title
    assert search.strengths


# --- the keyboard ---------------------------------------------------------------------------------


def test_shortcuts_search_walk_undo_reset_copy_and_explain_themselves(
    search: SearchPage, own: dict[int, float], page: Page
) -> None:
    plain = search.titles
    first, second = list(own)[:2]
    page.keyboard.press("/")
    expect(page.locator("#q")).to_be_focused()
    page.keyboard.type("jukc?")  # in a field, letters are letters
    expect(page.locator("#q")).to_have_value("jukc?")
    page.reload()
    search.expect_view_of_address()

    # The second slider is moved first: undo takes back what was moved last.
    search.set_number(second, "0.1")
    search.expect_moves({second: 0.1})
    search.set_number(first, "-0.1")
    search.expect_moves({second: 0.1, first: -0.1})
    page.keyboard.press("c")
    expect(page.get_by_role("status")).to_have_text("Link copied")
    assert page.evaluate("navigator.clipboard.readText()") == page.url
    page.keyboard.press("u")
    search.expect_moves({second: 0.1})
    search.expect_view_of_address()
    search.set_number(first, "-0.1")
    search.expect_moves({second: 0.1, first: -0.1})
    page.keyboard.press("r")
    search.expect_moves({})
    search.expect_view_of_address()
    assert search.titles == plain

    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keyboard")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog", name="Keyboard")).to_be_hidden()

    rows = search.results.locator("[data-row]")
    for key, at in (("j", 0), ("j", 1), ("j", 2), ("k", 1)):
        page.keyboard.press(key)
        expect(rows.nth(at)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text(plain[1])


def test_shortcuts_work_with_a_hand_on_a_slider(
    search: SearchPage, own: dict[int, float], page: Page
) -> None:
    latent = next(iter(own))
    search.slider(latent).focus()
    page.keyboard.press("ArrowLeft")
    search.expect_moves({latent: search.strength(latent)})
    page.keyboard.press("u")
    search.expect_moves({})
    search.expect_view_of_address()


# --- features alone -------------------------------------------------------------------------------


def test_a_feature_page_leads_to_a_search_with_more_or_less_of_it(
    search: SearchPage, own: dict[int, float], site: Planted, page: Page
) -> None:
    latent = next(iter(own))
    page.goto(urls.feature(site.explorer.name, site.sae, latent))
    page.get_by_role("link", name="Search with more").click()
    search.expect_view_of_address()
    with_more = search.titles
    assert search.strength(latent) > 0
    expect(search.results).to_contain_text("ranked by the features alone")
    page.go_back()
    page.get_by_role("link", name="with less", exact=True).click()
    search.expect_view_of_address()
    assert search.strength(latent) < 0
    assert not set(with_more) & set(search.titles)
