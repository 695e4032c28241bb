"""The explorer in a real browser: one server for all tests, and nothing that goes wrong unseen."""

from __future__ import annotations

import copy
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn
from playwright.sync_api import BrowserContext, ConsoleMessage, Dialog, Page, Request, Response, expect

from app.main import create_app
from app.settings import Settings
from sae_core.explorer import Explorer
from sae_core.labels import Candidate
from tests.app.served import Planted
from tests.browser.search_page import SearchPage

HERE = Path(__file__).parent
HOSTILE = "<script>alert('label')</script>"
ENDLESS = "\u202e" + "x" * 10_000 + "\u2066\u05e9\u05dc"  # overriding and isolating directions, unclosed

PATIENCE = 15_000  # ms; the machine may be busy with something else
expect.set_options(timeout=PATIENCE)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Browser tests come last: from their first one on, Playwright's event loop runs in this thread.

    Until the session ends no other test could call `anyio.run`. Inside both groups the order stays random.
    """
    items.sort(key=lambda item: HERE in item.path.parents)


@pytest.fixture(scope="session")
def site(planted_home: Path, planted: Explorer) -> Planted:
    """The planted collection and its addresses."""
    return Planted(planted_home, planted)


@pytest.fixture(scope="session")
def endless(site: Planted) -> Planted:
    """A third collection, whose labels and phrases have no end."""
    explorer = site.with_labels(ENDLESS, "phrases")
    explorer.name, explorer.title = "endless", "Labels without end"
    labels = [
        replace(
            label, text="" if latent % 3 == 0 else ENDLESS, source="none" if latent % 3 == 0 else "phrases"
        )
        for latent, label in enumerate(explorer.saes[site.sae].labels)
    ]
    explorer.saes = {site.sae: replace(explorer.saes[site.sae], labels=labels)}
    return Planted(site.home, explorer)


@pytest.fixture(scope="session")
def hostile(site: Planted) -> Planted:
    """A second collection whose labels are scripts, or, for every third feature, missing."""
    explorer = copy.copy(site.explorer)
    explorer.name, explorer.title = "hostile", "<script>alert('collection')</script>"
    labels = [
        replace(label, text=HOSTILE, source="phrases", candidates=[Candidate(HOSTILE, "phrases")])
        if latent % 3
        else replace(label, text="", source="none", score=None, candidates=[])
        for latent, label in enumerate(site.set.labels)
    ]
    explorer.saes = {site.sae: replace(site.set, labels=labels)}
    return Planted(site.home, explorer)


@pytest.fixture(scope="session")
def address(site: Planted, hostile: Planted, endless: Planted) -> Iterator[str]:
    """Where both collections are served."""
    explorers = {shown.explorer.name: shown.explorer for shown in (site, hostile, endless)}
    app = create_app(Settings(home=site.home, embed_on=("http://localhost:*",)), explorers)
    # The browser's first connection waits in the socket until the server has started.
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=5))
        thread = threading.Thread(target=server.run, args=([listening],), name="server")
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="session")
def browser_context_args(browser_context_args: dict[str, Any], address: str) -> dict[str, Any]:
    """Every profile knows the server, is one that may copy, and shows no animations."""
    return {
        **browser_context_args,
        "base_url": address,
        "viewport": {"width": 1280, "height": 900},
        "reduced_motion": "reduce",
        "permissions": ["clipboard-read", "clipboard-write"],
    }


@pytest.fixture
def context(context: BrowserContext, troubles: list[str]) -> BrowserContext:
    """A fresh profile in which every trouble is noted."""
    note_troubles(context, troubles)
    context.set_default_timeout(PATIENCE)
    return context


@pytest.fixture
def troubles() -> Iterator[list[str]]:
    """What went wrong in the browser. A test that provokes some clears the list; any other fails."""
    noted: list[str] = []
    yield noted
    assert not noted


def note_troubles(context: BrowserContext, noted: list[str]) -> None:
    """Console errors (violations of the content security policy are among them), failures, dialogs."""

    def on_console(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            noted.append(f"console: {message.text}")

    def on_failed(request: Request) -> None:
        # A newer request, or another page, takes the place of the one before.
        if request.failure != "net::ERR_ABORTED":
            noted.append(f"request: {request.url} {request.failure}")

    def on_response(response: Response) -> None:
        if response.status >= 400:
            noted.append(f"answer: {response.url} {response.status}")

    def on_dialog(dialog: Dialog) -> None:
        noted.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    context.on("console", on_console)
    context.on("weberror", lambda error: noted.append(f"script: {error.error}"))
    context.on("requestfailed", on_failed)
    context.on("response", on_response)
    context.on("dialog", on_dialog)


@pytest.fixture(scope="session")
def query(site: Planted) -> str:
    """Words of which at least three features are clearly active."""
    explorer = site.explorer

    def third(q: str) -> float:
        activations = explorer.code(site.sae, explorer.embed(q)).own.values()
        return sorted([0.0, 0.0, 0.0, *activations])[-3]

    return max(site.queries, key=third)


@pytest.fixture(scope="session")
def own(site: Planted, query: str) -> dict[int, float]:
    """The features of `query`, in the order of the sliders, with their activations."""
    code = site.explorer.code(site.sae, site.explorer.embed(query))

    def explains(latent: int) -> float:
        share = site.set.features.n_documents_N[latent] / site.explorer.n_documents
        return float(-np.log(share) * code.own[latent] * (site.set.sae.directions_ND[latent] @ code.x_D))

    return {latent: code.own[latent] for latent in sorted(code.own, key=explains, reverse=True)}


@pytest.fixture
def search(page: Page, site: Planted, query: str) -> SearchPage:
    """The plain search for `query`, open in the browser."""
    opened = SearchPage(page)
    opened.open(f"{site.search}?q={re.sub(' ', '+', query)}")
    return opened
