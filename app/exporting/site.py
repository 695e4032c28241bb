"""A collection as a folder of pages that open without a server.

The pages are those of the server: it is asked for each of them in this process, and `rewrite` makes its
addresses relative. Nothing is rendered a second way.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from app import pages, urls
from app.deps import link
from app.exporting.plan import ABOUT, Choice, Plan, chosen_saes, chosen_searches, make_plan
from app.exporting.rewrite import rewrite
from app.main import create_app
from app.settings import Settings, asset_folder
from app.views.common import Option
from app.views.exporting import AboutView, Note
from sae_core.errors import SaefariError
from sae_core.files import drafted_folder, explain_write_errors

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.types import Message

    from app.deps import ServedCollection
    from sae_core.explorer import Explorer
    from sae_core.fit import Console

FORMAT = "saefari-site-1"
RECORD = "site.json"  # by which a folder is known as ours
MAX_PAGES = 100_000
N_SAMPLED = 3  # pages of a kind, from which size and time are foretold
ATTEMPTS = 3  # at a page that the server is too busy for
HOST = "localhost"
STATIC = "/static/"


@dataclass(frozen=True)
class Foretold:
    """What a copy is going to take."""

    pages: dict[str, int]  # by kind
    size: int  # bytes
    seconds: float
    free: int  # bytes on the disk

    @property
    def n_pages(self) -> int:
        return sum(self.pages.values())


class PageFailed(SaefariError):
    """A page that the server did not answer with."""


class Copier:
    """Asks an application in this process for pages of one collection, as they are in the copy."""

    def __init__(self, app: FastAPI, collection: ServedCollection, choice: Choice) -> None:
        self.app, self.collection, self.choice = app, collection, choice
        self.saes = chosen_saes(collection, choice)
        self.plan = Plan()
        self.searches: list[Option] = []
        self.made = datetime.now(UTC).date().isoformat()
        self.assets: set[str] = set()  # files of static/ that pages have asked for

    async def prepare(self) -> None:
        """Find out what is copied. A search that cannot be answered ends it here."""
        addresses = chosen_searches(self.collection, self.saes, self.choice)
        while addresses and self.collection.explorer.embedder_state == "loading":  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        found: list[int] = []
        for address in addresses:
            answer = json.loads(await self._get(urls.json(address)))
            found += [row["document"]["position"] for row in answer["results"]]
            self.searches.append(link(answer["q"] or "steering alone", address))
        self.plan = make_plan(self.collection, self.saes, self.choice, addresses, found)

    async def foretell(self, out: Path) -> Foretold:
        """Size and time, from a few pages of each kind."""
        size, seconds = 0.0, 0.0
        for addresses in self.plan.kinds.values():
            sizes, times = [], []
            for address in addresses[:: max(1, len(addresses) // N_SAMPLED)][:N_SAMPLED]:
                began = time.monotonic()
                sizes.append(len(await self.page(address)))
                times.append(time.monotonic() - began)
            size += fmean(sizes) * len(addresses)
            seconds += median(times) * len(addresses)  # the first of a kind waits for what others find there
        kinds = {kind: len(addresses) for kind, addresses in self.plan.kinds.items()}
        return Foretold(kinds, round(size), seconds, _free(out))

    async def page(self, address: str) -> bytes:
        """The file of a page."""
        return self._copied(await self._get(address), self.plan.files[address], address)

    def about(self) -> bytes:
        """The page about the copy."""
        kinds = {kind: len(addresses) for kind, addresses in self.plan.kinds.items()}
        view = AboutView(
            collection=self.collection.card,
            saes=[sae.name for sae in self.saes],
            made=self.made,
            n_features=sum(sae.n_latents for sae in self.saes),
            n_families=kinds.get("families", 0),
            n_documents=kinds.get("documents", 0) // len(self.saes),
            has_evidence=self.choice.evidence,
            searches=self.searches,
            command="saefari serve",
        )
        return self._copied(pages.render_page("about", view), ABOUT, "")

    def _copied(self, page: str, file: str, address: str) -> bytes:
        root = "../" * file.count("/")

        def target(wanted: str) -> str | None:
            if wanted.startswith(STATIC):
                asset = unquote(wanted.removeprefix(STATIC).partition("?")[0])
                self.assets.add(asset)
                return f"{root}static/{asset}"
            found = self.plan.file_of(wanted)
            return None if found is None else root + found

        about = f"{root}{ABOUT}"
        notes = {"footer": pages.render_file("note.html", Note(self.made, about))}
        if address in self.plan.kinds.get("searches", ()):
            notes["main"] = pages.render_file("note.html", Note(self.made, about, is_search=True))
        return rewrite(page, target, notes).encode()

    async def _get(self, address: str) -> str:
        for attempt in range(ATTEMPTS):
            status, body = await _ask(self.app, address)
            if status == HTTPStatus.OK:
                return body
            if status != HTTPStatus.SERVICE_UNAVAILABLE:
                break
            await asyncio.sleep(attempt + 1)
        what = f"The page {address} could not be made: the server answers with status {status}."
        raise PageFailed(what, remedy="Look at it with `saefari serve`, which says why.")


async def _ask(app: FastAPI, address: str) -> tuple[int, str]:
    """Status and text of the answer to a GET; no network, and no client that rewrites addresses."""
    path, _, query = address.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(b"host", HOST.encode()), (b"accept", b"text/html, */*;q=0.1")],
        "client": None,
        "server": (HOST, 80),
    }
    sent: list[Message] = []
    asked: list[Message] = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> Message:
        if not asked:
            await asyncio.Event().wait()  # nobody leaves
        return asked.pop()

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:]).decode()


def _free(out: Path) -> int:
    there = next(folder for folder in (out, *out.resolve().parents) if folder.exists())
    return shutil.disk_usage(there).free


# --- writing ----------------------------------------------------------------------------------------


def make_site(  # noqa: PLR0917
    explorer: Explorer,
    settings: Settings,
    out: Path,
    choice: Choice,
    console: Console,
    tell: Callable[[Foretold], None],
    *,
    most: int = MAX_PAGES,
) -> dict[str, Any]:
    """Write the copy of a collection into the folder `out`, whole or not at all; what its record says.

    `tell` hears what it will take before it begins. SaefariError for more than `most` pages, for searches
    that cannot be answered, and for a disk that is full.
    """
    settings = settings.model_copy(update={"allowed_hosts": (HOST,), "editing": False})

    async def make() -> dict[str, Any]:
        app = create_app(settings, {explorer.name: explorer})
        async with app.router.lifespan_context(app):
            copier = Copier(app, app.state.shelf.library.collection(explorer.name), choice)
            await copier.prepare()
            _check_number(copier.plan, most)
            tell(await copier.foretell(out))
            with explain_write_errors(out), drafted_folder(out) as draft:
                return await _write(copier, draft, console)

    return asyncio.run(make())


def _check_number(plan: Plan, most: int) -> None:
    if plan.n_pages <= most:
        return
    kinds = ", ".join(f"{len(addresses):,} of {kind}" for kind, addresses in plan.kinds.items())
    what = f"The copy would have {plan.n_pages:,} pages ({kinds}), more than {most:,}."
    raise SaefariError(what, remedy="Take fewer --documents, or allow more with --max-pages.")


async def _write(copier: Copier, draft: Path, console: Console) -> dict[str, Any]:
    n_bytes = 0

    def write(name: str, content: bytes) -> None:
        nonlocal n_bytes
        path = draft / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        n_bytes += len(content)

    with console.stage("pages") as report:
        for number, (address, file) in enumerate(copier.plan.files.items(), 1):
            write(file, await copier.page(address))
            report(number, len(copier.plan.files), f"{n_bytes / 2**20:,.0f} MiB")
    write(ABOUT, copier.about())
    for asset in sorted(copier.assets):
        write(f"static/{asset}", (asset_folder("static") / asset).read_bytes())
    record = {
        "format": FORMAT,
        "collection": copier.collection.name,
        "generation": copier.collection.explorer.generation,
        "made": copier.made,
        "saes": [sae.name for sae in copier.saes],
        "pages": {kind: len(addresses) for kind, addresses in copier.plan.kinds.items()},
        "n_pages": copier.plan.n_pages,
        "searches": {search.url: copier.plan.files[search.url] for search in copier.searches},
    }
    write(RECORD, json.dumps(record, ensure_ascii=False, indent=1).encode())
    return {**record, "bytes": n_bytes}
