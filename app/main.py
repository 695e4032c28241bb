"""The application: collections loaded at start, routes, files, and a page for every error."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import UnionType
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from fastapi.staticfiles import StaticFiles
from fastapi.telemetry import TelemetryConfig
from starlette.exceptions import HTTPException
from threadpoolctl import threadpool_limits
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from app import (
    api,
    compare,
    documents,
    families,
    family,
    features,
    overview,
    pages,
    search,
    separate,
    sharing,
    urls,
)
from app.authored.engines import DatabaseError
from app.authored.store import NotAllowed, NotThere, Store
from app.authored.texts import BadText
from app.catalog import CatalogTimeout
from app.deps import Library, PageNotFound, get_library, link
from app.editing import routers as editing
from app.editing.forms import BadForm
from app.editing.naming import Naming
from app.editing.visitors import NamedByProxy, Visitors
from app.formats import NotAcceptable, NothingToList
from app.growing import Grower, TooManyJobs
from app.middleware import LastResort, Limits, SecurityHeaders, error_response
from app.observing import Observed
from app.query import BadParameter
from app.settings import Settings, asset_folder
from app.shelf import Shelf
from app.turns import Rates, SearchSlots
from app.views.common import ErrorView, Option
from sae_core.errors import BusyError, EmbedderNotReady, NotFoundError, SaefariError
from sae_core.explorer import Explorer
from sae_core.lenses import BadLens

if TYPE_CHECKING:
    from starlette.types import Scope

log = logging.getLogger("saefari")

# Its spans would have queries in them, and belong to whatever trace a visitor names.
NOT_OF_FASTAPI: TelemetryConfig = {"auto_configure": False, "tracing": False, "metrics": False, "logs": False}

A_YEAR = "public, max-age=31536000, immutable"
_TITLES = {404: "There is no such page", 405: "This address is only for reading"}


def create_app(settings: Settings | None = None, explorers: Mapping[str, Explorer] | None = None) -> FastAPI:
    """The server. With `explorers` it serves these; without, every collection below `settings.home`."""
    settings = settings or Settings()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.store = Store.open(settings.authored_url) if settings.editing else None
        app.state.shelf = shelf = Shelf(settings, None if explorers is None else Library.of(explorers))
        app.state.grower = Grower()
        app.state.unusable = []  # templates
        threading.Thread(target=_warm_up, args=(app, shelf), name="warm-up", daemon=True).start()
        app.state.naming = naming = None if app.state.store is None else Naming(app.state.store)
        watching = [asyncio.create_task(each.watch()) for each in (shelf, naming) if each is not None]
        try:
            # Products here are small and many: threads of one would wait for those of another.
            with threadpool_limits(1, user_api="blas"):
                yield
        finally:
            for each in watching:
                each.cancel()
            await asyncio.wait(watching)
            app.state.grower.close()
            shelf.close()
            if app.state.store is not None:
                app.state.store.close()

    app = FastAPI(
        title="Saefari",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        telemetry=NOT_OF_FASTAPI,
    )
    app.state.settings, app.state.pictures = settings, sharing.Pictures()
    app.add_middleware(
        SearchSlots, slots=settings.search_slots, queue=settings.search_queue, is_search=search.is_search
    )
    if settings.editing:
        # Inside what refuses other hosts, as it believes the host.
        app.add_middleware(Visitors, user_header=settings.user_header)
    app.add_middleware(Rates, settings=settings, is_search=search.is_search)
    app.add_middleware(Limits, settings=settings)
    app.add_middleware(LastResort)
    app.add_middleware(SecurityHeaders)
    app.add_middleware(Observed, settings=settings)
    if settings.trusted_proxies:  # added last, so around all others: the visitor is who asked the proxy
        app.add_middleware(ProxyHeadersMiddleware, trusted_hosts=list(settings.trusted_proxies))
    if settings.editing and settings.user_header:
        app.add_middleware(NamedByProxy, header=settings.user_header, proxies=settings.trusted_proxies)
    app.add_exception_handler(SaefariError, _show_saefari_error)
    app.add_exception_handler(HTTPException, _show_http_error)
    app.mount("/static", Files(directory=asset_folder("static"), check_dir=False), name="static")
    app.add_api_route("/live", live, methods=["GET", "HEAD"])
    app.add_api_route("/ready", ready, methods=["GET", "HEAD"])
    if settings.editing:
        for router in editing.ROUTERS:  # whose addresses look like collections
            app.include_router(router)
    # A collection's own second segments (documents) before those that any name matches.
    for module in (
        api, compare, documents, search, separate, sharing, features, families, family, overview
    ):  # fmt: skip
        app.include_router(module.router)
    return app


def _warm_up(app: FastAPI, shelf: Shelf) -> None:
    """What a first page would have to wait for: templates, then encoders. Pages need neither to be done."""
    app.state.unusable = pages.set_up(auto_reload=app.state.settings.reload_templates)
    shelf.load_encoders()


def live() -> Response:
    """The process answers."""
    return PlainTextResponse("live\n")


def ready(request: Request) -> Response:
    """Collections are loaded, no template has failed; how far encoders are, what could not be read."""
    library = get_library(request)
    encoders = {name: collection.explorer.embedder_state for name, collection in library.collections.items()}
    unusable = request.app.state.unusable
    is_ready = (bool(encoders) or not library.problems) and not unusable
    not_read = {
        "not_served": [name for name in library.unreadable if name not in library.collections],
        "not_renewed": [name for name in library.unreadable if name in library.collections],
    }
    answer = {"ready": is_ready, "encoders": encoders, **not_read, "templates_not_usable": unusable}
    return JSONResponse(answer, 200 if is_ready else 503)


class Files(StaticFiles):
    """Files of static/; an address with a version may be kept for ever."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        if "\0" in path:
            raise HTTPException(404)
        response = await super().get_response(path, scope)
        if response.status_code < 400 and scope["query_string"].startswith(b"v="):  # noqa: PLR2004
            response.headers["Cache-Control"] = A_YEAR
        return response


# --- errors ---------------------------------------------------------------------------------------


async def _show_saefari_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, SaefariError):
        raise error
    status, title = _status(error)
    if status == 500 or isinstance(error, DatabaseError):  # noqa: PLR2004
        log.error("%s failed: %s", request.url.path, error)
    if isinstance(error, DatabaseError):  # which says where it is
        error = SaefariError("The database of what people write does not answer.", remedy="Try again later.")
    view = ErrorView(
        status=status,
        title=title,
        message=error.what,
        remedy=error.remedy,
        home_url=urls.home(),
        suggestions=error.suggestions if isinstance(error, PageNotFound) else _ways_on(request),
    )
    return error_response(request, view)


def _status(error: SaefariError) -> tuple[int, str]:
    if isinstance(error, BadForm):
        return error.status, "This cannot be taken"
    found = ((status, title) for kinds, status, title in _STATES if isinstance(error, kinds))
    return next(found, (500, "Something went wrong here"))


_STATES: tuple[tuple[type[SaefariError] | UnionType, int, str], ...] = (
    (BadParameter | BadLens | NothingToList, 400, "This address has a mistake"),
    (NotAllowed, 403, "This is not for you"),
    (BadText, 400, "This cannot be taken"),
    (NotFoundError | NotThere, 404, "Not found"),
    (NotAcceptable, 406, "Not in this format"),
    (EmbedderNotReady, 503, "The encoder is not ready"),
    (TooManyJobs | sharing.TooManyPictures, 503, "The server is busy"),
    (CatalogTimeout, 503, "That took too long"),
    (DatabaseError | BusyError, 503, "What people write cannot be reached"),
)


async def _show_http_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    view = ErrorView(
        status=error.status_code,
        title=_TITLES.get(error.status_code, "This request cannot be answered"),
        message=_message(request, error.status_code),
        remedy="Begin at one of these." if error.status_code == 404 else "",  # noqa: PLR2004
        home_url=urls.home(),
        suggestions=_ways_on(request),
    )
    return error_response(request, view, dict(error.headers or {}))


def _message(request: Request, status: int) -> str:
    path = request.url.path
    shown = path if len(path) <= 100 else f"{path[:99]}…"  # noqa: PLR2004
    if status == 404:  # noqa: PLR2004
        return f"Nothing is at {shown}."
    if status == 405:  # noqa: PLR2004
        return f"{shown} cannot be asked with {request.method}."
    return f"{request.method} {shown} was refused."


def _ways_on(request: Request) -> list[Option]:
    """Pages of the collection that the address begins with, else the collections."""
    library = get_library(request)
    collection = library.collections.get(request.url.path.split("/")[1] if "/" in request.url.path else "")
    if collection is None:
        return [link(other.card.title, other.card.url) for other in library.collections.values()]
    links = [link(collection.card.title, collection.card.url)]
    if collection.default is not None:
        summary = collection.default.summary
        links += [link("Search", summary.search_url), link("Features", summary.features_url)]
        links += [link("Families", summary.families_url), link("Scorecard", summary.url)]
    return links
