"""The search page as a person sees and touches it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Locator, Page, expect

from app import urls

View = dict[str, Any]


@dataclass(frozen=True)
class SearchPage:
    """What is shown is always compared with what the address's twin says in JSON."""

    page: Page

    def open(self, address: str) -> None:
        """Go to an address of the search; a whole page must come."""
        self.page.goto(address)
        self.expect_view_of_address()

    # --- what is shown ------------------------------------------------------------------------

    @property
    def address(self) -> str:
        """Path and query of the page."""
        parts = urlsplit(self.page.url)
        return f"{parts.path}?{parts.query}" if parts.query else parts.path

    @property
    def results(self) -> Locator:
        return self.page.locator("#results")

    @property
    def titles(self) -> list[str]:
        return self.results.locator(".title").all_inner_texts()

    @property
    def scores(self) -> list[str]:
        return self.results.locator(".result-score .num").all_inner_texts()

    @property
    def moves(self) -> Locator:
        return self.results.locator(".move")

    @property
    def error(self) -> Locator:
        return self.page.locator("#error")

    def row(self, latent: int) -> Locator:
        return self.page.locator(f"#s{latent}")

    def slider(self, latent: int) -> Locator:
        return self.page.locator(f"#s{latent}-range")

    def number(self, latent: int) -> Locator:
        return self.page.locator(f"#s{latent}-number")

    def act(self, latent: int, name: str) -> Locator:
        """The slider's link that says what it does: Reset, zero, Remove, Weaker, Stronger."""
        return self.row(latent).get_by_role("link", name=re.compile(name, re.IGNORECASE))

    def choose(self, latent: int, mode: str) -> None:
        """Open the menu of a slider and follow one of its links."""
        self.row(latent).locator(".mode > summary").click()
        self.row(latent).get_by_role("link", name=mode, exact=True).click()

    def strength(self, latent: int) -> float:
        return float(self.slider(latent).input_value())

    @property
    def strengths(self) -> dict[int, float]:
        """Where each slider stands, in the order of the panel."""
        pairs = self.page.locator(".slider[data-latent]").evaluate_all(
            "rows => rows.map(row => [row.dataset.latent, row.querySelector('input[type=range]').value])"
        )
        return {int(latent): float(value) for latent, value in pairs}

    @property
    def numbers(self) -> list[float]:
        """What the number fields say, in the order of the panel."""
        texts = self.page.locator(".slider[data-latent] input[type=number]").evaluate_all(
            "all => all.map(f => f.value)"
        )
        return [float(text) for text in texts]

    def twin(self, address: str | None = None) -> View:
        """What the server says of an address, or of that of the page."""
        answer = self.page.request.get(urls.json(address or self.address))
        assert answer.ok
        view: View = answer.json()
        return view

    # --- what must be shown -------------------------------------------------------------------

    def expect_moves(self, strengths: dict[int, float]) -> None:
        """The address has exactly these moves, whatever else it has, and the results are its results."""
        moves = [f"f={re.escape(urls.strength(*move))}" for move in strengths.items()]
        # Without JavaScript the browser's own form encodes more than our links do.
        moves = [move.replace(":", "(:|%3A)").replace(r"\+", r"(\+|%2B)") for move in moves]
        each = "".join(rf"(?=.*[?&]{move}(&|$))" for move in moves)
        no_other = rf"(?!(.*[?&]f=){{{len(moves) + 1}}})"
        expect(self.page).to_have_url(re.compile(rf"^{no_other}{each}"))
        self.expect_results_of_address()

    def expect_results_of_address(self) -> None:
        view = self.twin()
        expect(self.results.locator(".title")).to_have_text(
            [row["document"]["title"] for row in view["results"]]
        )
        expect(self.results.locator(".result-score .num")).to_have_text(
            [f"{row['score']:.3f}" for row in view["results"]]
        )
        expect(self.moves).to_have_count(len(view["moves"]))

    def expect_view_of_address(self) -> None:
        """The whole page: masthead, one panel, and in it the sliders where the address puts them."""
        expect(self.page.locator("header.masthead")).to_be_visible()
        expect(self.page.locator("#results")).to_have_count(1)
        self.expect_results_of_address()
        view = self.twin()
        sliders = view["sliders"] + view["more_sliders"]
        assert self.strengths == {s["latent"]: s["strength"] for s in sliders}
        assert self.numbers == [s["strength"] for s in sliders]
        expect(self.page.locator("#q")).to_have_value(view["q"])

    # --- what a person does -------------------------------------------------------------------

    def grab(self, latent: int) -> Drag:
        """Press the mouse on a slider's knob."""
        slider = self.slider(latent)
        slider.scroll_into_view_if_needed()
        box = slider.bounding_box()
        assert box
        low, high = (float(slider.get_attribute(name) or "") for name in ("min", "max"))
        drag = Drag(self.page, box["x"], box["width"], box["y"] + box["height"] / 2, low, high)
        self.page.mouse.move(drag.place(self.strength(latent)), drag.y)
        self.page.mouse.down()
        return drag

    def set_number(self, latent: int, text: str) -> None:
        """Type into the field beside a slider and leave it."""
        self.number(latent).fill(text)
        self.number(latent).press("Tab")


@dataclass(frozen=True)
class Drag:
    """A pressed mouse on a slider."""

    page: Page
    left: float
    width: float
    y: float
    low: float
    high: float

    def place(self, strength: float) -> float:
        """Where the knob of this strength is: it is as wide as the slider is high, at most."""
        knob = 16
        share = (strength - self.low) / (self.high - self.low)
        return self.left + knob / 2 + share * (self.width - knob)

    def to(self, strength: float) -> None:
        self.page.mouse.move(self.place(strength), self.y, steps=4)

    def release(self) -> None:
        self.page.mouse.up()
