"""Answers that need not be made again: a page changes only with its collection, its encoder or our code.

What an address answers is a function of these, so a browser that has it already is told so (304) before
anything is searched or rendered. Weak tags: a page says how long it took to make.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Iterable
from functools import lru_cache
from pathlib import Path

from fastapi import Request
from fastapi.responses import Response

from app.settings import asset_folder

NOT_KEPT = {"Cache-Control": "no-store"}  # of an answer that may be another one in a moment
# What of a request decides between answers at one address: format, whole page or fragment.
VARY = "Accept, HX-Request, HX-Request-Type, HX-Target"

Endpoint = Callable[[Request], Awaitable[Response]]


def when_changed(endpoint: Endpoint, state: Callable[[Request], Iterable[str]]) -> Endpoint:
    """`endpoint`, asked only by those who do not have its answer yet.

    `state` names all that answers depend on besides the address and the code, for instance generations.
    """

    async def answer(request: Request) -> Response:
        if request.app.state.settings.reload_templates:
            return await endpoint(request)
        tag = _tag(request, state(request))
        if _has(request, tag):
            return Response(status_code=304, headers={"ETag": tag, "Vary": VARY})
        response = await endpoint(request)
        is_kept = response.headers.get("Cache-Control") != NOT_KEPT["Cache-Control"]
        if response.status_code == 200 and is_kept:  # noqa: PLR2004
            response.headers["ETag"] = tag
        return response

    return answer


def _tag(request: Request, state: Iterable[str]) -> str:
    parts = [_code(), *state, *(request.headers.get(name, "") for name in VARY.split(", "))]
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    return f'W/"{digest[:20]}"'


def _has(request: Request, tag: str) -> bool:
    known = request.headers.get("if-none-match", "")
    return tag in {each.strip() for each in known.split(",")}


@lru_cache(maxsize=1)
def _code() -> str:
    """A digest of everything that makes pages of a collection."""
    here = Path(__file__).resolve().parent
    folders = [here, here.parent / "sae_core", asset_folder("templates"), asset_folder("static")]
    digest = hashlib.sha256()
    for folder in folders:
        for path in sorted(path for path in folder.rglob("*") if path.suffix in _SOURCES):
            digest.update(path.read_bytes())
    return digest.hexdigest()


_SOURCES = frozenset({".py", ".html", ".css", ".js"})
