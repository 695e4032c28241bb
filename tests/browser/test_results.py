"""What stands beside the results, with a mouse, a keyboard and a finger."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import BrowserContext, Locator, Page, expect

from app import urls
from tests.app.served import Planted
from tests.browser.conftest import note_troubles
from tests.browser.search_page import SearchPage


def result(search: SearchPage, rank: int) -> Locator:
    return search.results.locator(f".result[value='{rank}']")


def tool(search: SearchPage, rank: int, name: str) -> Locator:
    """A tool of a result, set or not."""
    row = result(search, rank)
    return row.locator(".tools .tool").filter(has_text=re.compile(rf"^{name}"))


def id_of(search: SearchPage, rank: int) -> str:
    row = search.twin()["results"][(rank - 1) % 10]
    return str(row["document"]["id"])


def expect_address(search: SearchPage, *parameters: str) -> None:
    """The address has these parameters, as they are printed."""
    each = "".join(rf"(?=.*[?&]{re.escape(parameter)}(&|$))" for parameter in parameters)
    expect(search.page).to_have_url(re.compile(f"^{each}"))


def numbers(table: Locator) -> list[float]:
    printed = table.locator("tbody td:last-child").all_inner_texts()
    return [float(text.replace("\N{MINUS SIGN}", "-")) for text in printed]


# --- why ------------------------------------------------------------------------------------------


def test_why_opens_in_its_row_adds_up_and_closes_where_it_was_opened(search: SearchPage) -> None:
    why = search.results.locator("#why")
    tool(search, 2, "Why this").click()
    expect(result(search, 2).locator("#why")).to_be_visible()
    expect_address(search, f"why={id_of(search, 2)}")
    table = why.locator(".why-table").first
    shown = numbers(table)
    score = float(table.locator("tfoot td").last.inner_text())
    assert sum(shown) == pytest.approx(score, abs=0.0006 * len(shown))
    assert f"{score:.3f}" == search.scores[1]
    expect(tool(search, 2, "Why this")).to_be_focused()  # the row is new, the hand is where it was
    search.page.keyboard.press("Enter")
    expect(why).to_have_count(0)
    expect(tool(search, 2, "Why this")).to_be_focused()
    search.page.keyboard.press("Enter")
    expect(result(search, 2).locator("#why")).to_be_visible()
    why.get_by_role("link", name="Close").click()
    expect(why).to_have_count(0)
    search.expect_view_of_address()


def test_why_stays_open_and_follows_the_sliders(search: SearchPage, own: dict[int, float]) -> None:
    latent = list(own)[1]
    tool(search, 1, "Why this").click()
    name = search.results.locator("#why")
    expect(name).to_be_visible()
    asked = id_of(search, 1)
    search.set_number(latent, f"{own[latent] * 0.8:.3f}")
    search.expect_moves({latent: search.strength(latent)})
    expect_address(search, f"why={asked}")
    expect(search.results.locator(".why-heading").filter(has_text="by your moves")).to_be_visible()
    view = search.twin()
    moves = search.results.locator(".why-table", has_text="Your query as it was")
    assert sum(numbers(moves)) == pytest.approx(view["why"]["score"], abs=0.002)
    search.page.reload()
    search.expect_view_of_address()
    expect(search.results.locator(".why-table").first).to_be_visible()


def test_two_results_are_compared(search: SearchPage) -> None:
    expect(tool(search, 4, "Compare")).to_have_count(0)
    tool(search, 1, "Why this").click()
    tool(search, 4, "Compare").click()
    expect_address(search, f"why={id_of(search, 1)}", f"against={id_of(search, 4)}")
    heading = search.results.locator(".why-heading").filter(has_text="Why it is above")
    expect(heading).to_contain_text(search.twin()["results"][3]["document"]["title"][:30])
    table = search.results.locator(".why-table", has_text="Difference of the scores")
    difference = float(search.scores[0]) - float(search.scores[3])
    assert sum(numbers(table)) == pytest.approx(difference, abs=0.008)
    tool(search, 2, "Why this").click()  # another paper: nothing to compare it with yet
    expect_address(search, f"why={id_of(search, 2)}")
    expect(heading).to_have_count(0)


def test_why_keeps_the_page_of_the_results(search: SearchPage, page: Page) -> None:
    page.get_by_role("link", name="Next").click()
    expect(search.results.locator(".rank").first).to_have_text("11")
    tool(search, 13, "Why this").click()
    expect(result(search, 13).locator("#why")).to_be_visible()
    expect_address(search, "page=2")
    search.expect_results_of_address()


# --- movement -------------------------------------------------------------------------------------


def test_what_dropped_out_is_listed_with_where_it_went(search: SearchPage, own: dict[int, float]) -> None:
    latent = next(iter(own))
    search.act(latent, "^weaker").click()
    search.act(latent, "^weaker").click()
    search.expect_moves({latent: search.strength(latent)})
    view = search.twin()
    gone = [row for row in view["plain"] if row["now"] is None or row["now"] > 10]
    assert gone
    dropped = search.results.locator("#dropped")
    dropped.locator("summary").click()
    expect(dropped.locator("li")).to_have_count(len(gone))
    expect(dropped.locator("li").first).to_contain_text(f"now {gone[0]['now']:,}")
    search.act(latent, "^weaker").click()
    search.expect_moves({latent: search.strength(latent)})
    expect(dropped).to_have_attribute("open", "")  # what was unfolded stays so
    moved = [row["moved"] for row in search.twin()["results"]]
    words = search.results.locator(".result-rank .moved").all_inner_texts()
    assert [re.sub(r"\D", "", text) for text in words] == [str(abs(n)) if n else "" for n in moved]


def test_before_and_after_stand_side_by_side_and_follow_the_sliders(
    search: SearchPage, own: dict[int, float], page: Page
) -> None:
    latent = next(iter(own))
    expect(page.get_by_role("link", name="Before and after")).to_have_count(0)
    search.set_number(latent, "-0.1")
    search.expect_moves({latent: -0.1})
    page.get_by_role("link", name="Before and after").click()
    expect_address(search, "view=ab")
    after = search.results.locator("section[aria-labelledby=ab-after] .ab-title")
    before = search.results.locator("section[aria-labelledby=ab-before] .ab-title")
    expect(before).to_have_count(10)
    plain = before.all_inner_texts()
    search.set_number(latent, "0.0")
    expect_address(search, "view=ab", f"f={latent}:+0.00")
    expect(after).to_have_text([row["document"]["title"] for row in search.twin()["results"]])
    assert before.all_inner_texts() == plain
    still = search.results.locator(".ab-list > li[data-pair]", has=page.locator("a.ab-note[href^='#after-']"))
    if still.count():
        still.first.hover()
        expect(search.results.locator(".ab .is-paired")).to_have_count(3)  # both rows and the line
    page.get_by_role("link", name="List", exact=True).click()
    expect(search.results.locator(".result")).to_have_count(10)


# --- before a slider is moved -----------------------------------------------------------------------


def test_a_slider_at_hand_shows_what_a_notch_would_do_and_it_comes_true(
    search: SearchPage, own: dict[int, float], page: Page
) -> None:
    latent = list(own)[1]
    line, ghosts = search.results.locator("#foretold"), search.results.locator(".ghost")
    before = [row["document"]["id"] for row in search.twin()["results"]]
    expect(ghosts).to_have_count(0)
    preview = next(each for each in search.twin()["previews"] if each["latent"] == latent)
    search.act(latent, "^weaker").hover()
    expect(line).to_contain_text("a notch weaker")
    shown = preview["down"]["shown"]
    expect(ghosts).to_have_count(sum(places != 0 for places in shown))
    wanted = [f"{'▲' if places > 0 else '▼'}{abs(places)}" for places in shown if places]
    expect(ghosts).to_have_text(wanted)
    slider = search.slider(latent)
    box = slider.bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] - 3, box["y"] + box["height"] / 2)
    expect(line).to_contain_text("a notch stronger")
    page.mouse.move(600, 5)
    expect(ghosts).to_have_count(0)
    expect(line).to_be_empty()
    slider.focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Shift+Tab")  # with the keyboard, so that it shows
    expect(line).to_contain_text("a notch stronger")
    search.act(latent, "^weaker").click()
    search.expect_moves({latent: search.strength(latent)})
    foretold = dict(zip(before, shown, strict=True))
    came = {row["document"]["id"]: row["moved"] for row in search.twin()["results"]}
    both = foretold.keys() & came.keys()
    assert both
    assert all(abs(foretold[id_] - came[id_]) <= 2 for id_ in both)


def test_the_table_of_previews_says_the_same(search: SearchPage, own: dict[int, float]) -> None:
    search.results.locator("#previews summary").click()
    rows = search.results.locator("#previews tbody tr")
    expect(rows).to_have_count(len(search.twin()["previews"]))
    up = search.twin()["previews"][0]["up"]
    expect(rows.first).to_contain_text(f"{up['n_rise']} rise, {up['n_fall']} fall")


# --- marks ----------------------------------------------------------------------------------------


def test_marks_become_moves_that_are_accepted_one_by_one(search: SearchPage, page: Page) -> None:
    wanted, unwanted = id_of(search, 5), id_of(search, 1)
    before = search.titles
    tool(search, 5, "Wanted").click()
    expect_address(search, f"up={wanted}")
    expect(tool(search, 5, "Wanted")).to_have_attribute("data-on", "")
    expect(tool(search, 5, "Wanted")).to_be_focused()
    tool(search, 1, "Unwanted").click()
    expect_address(search, f"up={wanted}", f"down={unwanted}")
    assert search.titles == before
    proposals = search.results.locator(".proposals")
    expect(proposals.get_by_role("heading")).to_have_text("From your marks: 1 wanted, 1 not")
    moves = search.twin()["proposals"]["moves"]
    assert 1 <= len(moves) <= 5
    accept = proposals.get_by_role("link", name=re.compile("^Accept"))
    expect(accept).to_have_count(len(moves))
    latent, strength = moves[0]["feature"]["latent"], moves[0]["strength"]
    accept.first.click()
    search.expect_moves({latent: strength})
    search.expect_view_of_address()
    assert search.strength(latent) == pytest.approx(strength, abs=1e-3)
    expect_address(search, f"up={wanted}", f"down={unwanted}")
    proposals.get_by_role("link", name="Clear marks").click()
    expect(proposals).to_have_count(0)
    search.expect_moves({latent: strength})


def test_a_mark_is_turned_around_and_taken_back(search: SearchPage) -> None:
    third = id_of(search, 3)
    plain = search.address
    tool(search, 3, "Wanted").click()
    expect_address(search, f"up={third}")
    tool(search, 3, "Unwanted").click()
    expect_address(search, f"down={third}")
    assert f"up={third}" not in search.address
    tool(search, 3, "Unwanted").click()
    expect(search.page).to_have_url(re.compile(re.escape(plain) + "$"))
    expect(tool(search, 3, "Unwanted")).to_be_focused()


def test_marks_stay_while_sliders_move_and_moves_stay_while_marks_are_set(
    search: SearchPage, own: dict[int, float]
) -> None:
    latent, first = next(iter(own)), id_of(search, 1)
    tool(search, 1, "Wanted").click()
    expect_address(search, f"up={first}")
    search.act(latent, "^stronger").click()
    moved = {latent: search.strength(latent)}
    search.expect_moves(moved)
    expect_address(search, f"up={first}")
    second = id_of(search, 2)
    tool(search, 2, "Unwanted").click()
    expect_address(search, f"up={first}", f"down={second}")
    search.expect_moves(moved)
    search.expect_view_of_address()


# --- paper arithmetic and sets ------------------------------------------------------------------------


def test_more_and_less_like_a_paper(search: SearchPage, page: Page) -> None:
    plain, second, fifth = search.titles, id_of(search, 2), id_of(search, 5)
    tool(search, 2, "More like this").click()
    expect_address(search, f"like={second}")
    search.expect_view_of_address()
    assert search.titles != plain
    search.page.locator(".chosen").get_by_role("link", name=re.compile("^Take out of Like")).click()
    search.expect_view_of_address()
    assert search.titles == plain
    tool(search, 5, "Less like this").click()
    expect_address(search, f"unlike={fifth}")
    search.expect_view_of_address()
    assert plain[4] not in search.titles[:5]
    page.locator("#q").fill("")
    page.get_by_role("button", name="Search", exact=True).click()
    search.expect_view_of_address()
    expect_address(search, f"unlike={fifth}")


def test_a_document_is_where_a_search_begins(search: SearchPage, site: Planted, page: Page) -> None:
    page.goto(urls.document(site.explorer.name, "doc-0100"))
    title = page.get_by_role("heading", level=1).inner_text()
    page.get_by_role("link", name="Steer from here").click()
    search.expect_view_of_address()
    assert search.titles[0] == title
    assert search.strengths  # its features are the sliders
    latent = next(iter(search.strengths))
    search.set_number(latent, "-0.2")
    search.expect_moves({latent: -0.2})
    expect_address(search, "like=doc-0100")
    assert search.titles[0] != title


def test_results_are_put_into_two_sets(search: SearchPage, page: Page) -> None:
    some = [id_of(search, rank) for rank in (1, 2, 3)]
    for rank, letter in ((1, "A"), (2, "A"), (3, "B")):
        tool(search, rank, letter).click()
        expect(tool(search, rank, letter)).to_have_attribute("data-on", "")
    expect_address(search, f"a={some[0]}", f"a={some[1]}", f"b={some[2]}")
    page.get_by_role("link", name="What separates A from B").click()
    expect(page).to_have_url(re.compile(r"/separate\?"))
    for id_ in some:
        expect(page.locator(f"main a[href*='{id_}']").first).to_be_visible()


# --- words and filters ------------------------------------------------------------------------------


def test_words_count_as_much_as_the_slider_says(search: SearchPage, page: Page) -> None:
    plain = search.titles
    words = page.get_by_label("Words of the query count")
    words.fill("1")
    expect(page.locator("#keywords-share")).to_have_text("100\u202f%")
    expect_address(search, "keywords=1.00")
    search.expect_results_of_address()
    expect(search.results).to_contain_text("fused with the ranking by words")
    assert search.titles != plain
    words.fill("0")
    expect(search.results.locator(".title")).to_have_text(plain)
    assert "keywords" not in search.address


def test_counts_of_filters_follow_the_filters(search: SearchPage, page: Page) -> None:
    page.locator("#filters > summary").click()
    counts = page.locator("#filters [data-count^=v]")
    whole = counts.all_inner_texts()
    page.get_by_label("group-1", exact=True).check()
    expect_address(search, "category=group-1")
    search.expect_results_of_address()
    told = [f"{venue['count']:,}" for venue in search.twin()["facets"]["venues"]]
    expect(counts).to_have_text(told)
    assert told != whole
    page.get_by_label("Citations").select_option("3")
    expect_address(search, "cited_min=3")
    search.expect_results_of_address()
    assert all(row["document"]["citations"] >= 3 for row in search.twin()["results"])
    page.get_by_label("group-1", exact=True).uncheck()
    page.get_by_label("Citations").select_option("")
    expect(counts).to_have_text(whole)


def test_one_result_of_each_family(search: SearchPage, page: Page) -> None:
    page.get_by_label("One result of each feature family").check()
    expect_address(search, "diverse=1")
    search.expect_results_of_address()
    expect(search.results).to_contain_text("one of each feature family")


# --- by other means -------------------------------------------------------------------------------


def test_tools_are_reached_with_the_keyboard_alone(search: SearchPage, page: Page) -> None:
    page.keyboard.press("j")
    names = []
    for _ in range(14):
        page.keyboard.press("Tab")
        names.append(page.evaluate("document.activeElement.textContent.trim()"))
        if names[-1] == "B":
            break
    assert names[-7:] == ["Why this", "More like this", "Less like this", "Wanted", "Unwanted", "A", "B"]
    opacity = page.evaluate("getComputedStyle(document.activeElement).opacity")
    expect(page.locator(":focus")).to_be_visible()
    assert float(opacity) > 0


def test_results_work_by_links_and_buttons_alone(
    site: Planted, query: str, new_context: Callable[..., BrowserContext], troubles: list[str]
) -> None:
    context = new_context(java_script_enabled=False)
    note_troubles(context, troubles)
    search = SearchPage(context.new_page())
    search.page.set_viewport_size({"width": 380, "height": 800})
    search.open(f"{site.search}?q={re.sub(' ', '+', query)}")
    first, second = id_of(search, 1), id_of(search, 2)
    tool(search, 2, "Why this").click()
    expect(result(search, 2).locator("#why")).to_be_visible()
    tool(search, 1, "Compare").click()
    expect(search.results.locator(".why-heading").filter(has_text="Why it is below")).to_be_visible()
    tool(search, 2, "Why this").click()
    expect(search.results.locator("#why")).to_have_count(0)
    tool(search, 1, "Wanted").click()
    tool(search, 2, "Unwanted").click()
    assert search.twin()["proposals"]["n_up"] == search.twin()["proposals"]["n_down"] == 1
    tool(search, 1, "Unwanted").click()
    assert search.twin()["proposals"]["n_down"] == 2
    search.results.get_by_role("link", name="Clear marks").click()
    tool(search, 1, "A").click()
    tool(search, 2, "B").click()
    chosen = [(each["role"], each["document"]["url"].rpartition("/")[2]) for each in search.twin()["chosen"]]
    assert chosen == [("a", first), ("b", second)]
    tool(search, 2, "More like this").click()
    search.expect_view_of_address()
    assert search.twin()["results"][0]["document"]["id"] == second
    search.page.get_by_label("One result of each feature family").check()
    search.page.get_by_label("Words of the query count").fill("0.5")
    search.page.get_by_role("button", name="Search", exact=True).click()
    view = search.twin()
    assert (view["keywords"], view["diverse"]) == (0.5, True)
    assert [each["role"] for each in view["chosen"]] == ["like", "a", "b"]
