"""A page and the files of its lists at one address: who is asked, and how the answer is sent."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from inspect import isawaitable, iscoroutinefunction
from itertools import chain

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response, StreamingResponse
from starlette.convertors import CONVERTOR_TYPES, StringConvertor, register_url_convertor

from app import urls
from app.formats.lists import Documents, Kind, Table
from app.formats.negotiation import JSON, PAGE_MEDIA, Offer, decide
from app.formats.registry import FORMATS, Format
from app.query import Parameters
from sae_core.errors import SaefariError

Listed = Table | Documents
FILES = "saefari.files"  # in the scope of a request: what its page can be downloaded as
_UNSAFE = re.compile(r"[^A-Za-z0-9.-]+")
_MAX_NAME = 80  # of a file, in characters


class NotAcceptable(SaefariError):
    """`Accept` names no format that this page has."""

    def __init__(self, accept: str, offers: Iterable[Offer]) -> None:
        shown = accept if len(accept) <= 100 else f"{accept[:99]}…"  # noqa: PLR2004
        super().__init__(
            f'This page has no format that "{shown}" accepts.',
            remedy=f"It has {', '.join(media[0].partition(';')[0] for _, media in offers)}.",
        )


class NothingToList(SaefariError):
    """What is asked for can be answered with a sentence, but not with a list."""


@dataclass(frozen=True)
class Files:
    """The lists of a page by name, the first being what is meant where none is named.

    `make(request, name)` reads the address again and gives the list, or an answer to be sent as it is; it may
    be a coroutine function, and runs in a thread if it is not. It reads what it can while the list is sent.
    """

    lists: dict[str, Kind]
    make: Callable[[Request, str], Listed | Response | Awaitable[Listed | Response]]

    @property
    def is_async(self) -> bool:
        return iscoroutinefunction(self.make)

    @property
    def formats(self) -> list[Format]:
        has_documents = any(kind.of_documents for kind in self.lists.values())
        return [each for each in FORMATS.values() if has_documents or not each.only_documents]

    def of(self, format: Format) -> list[str]:  # noqa: A002 (it is one)
        """The lists that can be had in this format."""
        return [name for name, kind in self.lists.items() if kind.of_documents or not format.only_documents]


def convertor(files: Files | None) -> str:
    """The name of a path convertor that takes the suffixes of a page: `search.{format:json_csv_parquet}`."""
    names = [JSON, *(each.name for each in files.formats)] if files else [JSON]
    key = "_".join(names)
    if key not in CONVERTOR_TYPES:
        made = type(f"{key}_convertor", (StringConvertor,), {"regex": "|".join(names)})
        register_url_convertor(key, made())
    return key


def answer(
    route: Callable[[Request], Response | Awaitable[Response]],
    files: Files | None,
    origin: Callable[[Request], str],
) -> Callable[[Request], Awaitable[Response]]:
    """A route that answers with `route`, or with a file where a list format is wanted.

    `origin` says how absolute addresses begin.
    """
    media: dict[str, tuple[str, ...]] = {each.name: each.media for each in files.formats} if files else {}
    offers = tuple((PAGE_MEDIA | media).items())
    is_async = iscoroutinefunction(route)

    async def endpoint(request: Request) -> Response:
        request.scope[FILES] = files
        wanted = decide(request, offers)
        if wanted is None:
            raise NotAcceptable(request.headers.get("accept", ""), offers)
        if files is not None and wanted in FORMATS:
            return await _file(request, files, FORMATS[wanted], origin(request))
        found = route(request) if is_async else await run_in_threadpool(route, request)
        return await found if isawaitable(found) else found

    return endpoint


async def _file(request: Request, files: Files, wanted: Format, origin: str) -> Response:
    name = Parameters(request.scope["query_string"]).choice("list", files.of(wanted))
    made = files.make(request, name) if files.is_async else await run_in_threadpool(files.make, request, name)
    listed = await made if isawaitable(made) else made
    if isinstance(listed, Response):
        return listed
    chosen = "" if name == files.of(wanted)[0] else name
    listed = replace(listed, origin=origin, chosen=chosen)
    return await run_in_threadpool(_send, request, files, wanted, name, listed)


def _send(request: Request, files: Files, wanted: Format, name: str, listed: Listed) -> Response:
    """The list as it is read. What goes wrong with the first rows is still an error page."""
    pieces: Iterator[bytes] = wanted.write(listed)
    headers = _headers(listed, wanted, files, name)
    if "format" not in request.path_params:
        headers["Vary"] = "Accept"
    if request.method == "HEAD":
        return Response(None, headers=headers, media_type=wanted.media[0])
    first = next(pieces, b"")
    return StreamingResponse(chain([first], pieces), headers=headers, media_type=wanted.media[0])


def _headers(listed: Listed, wanted: Format, files: Files, name: str) -> dict[str, str]:
    stem = _UNSAFE.sub("-", listed.title).strip("-.")[:_MAX_NAME] or listed.kind.name
    place = "inline" if wanted.is_inline else "attachment"
    headers = {
        "Content-Disposition": f'{place}; filename="{stem}.{wanted.name}"',
        "Saefari-Kind": f"{listed.kind.name}/{listed.kind.version}",
    }
    if listed.next_url is not None:
        add_next(headers, _address(listed.next_url, wanted, files, name))
    return headers


def add_next(headers: dict[str, str], url: str) -> None:
    """Say where the list goes on."""
    headers["Link"] = f'<{url}>; rel="next"'


def _address(url: str, wanted: Format, files: Files, name: str) -> str:
    """The address of a page's list in a format."""
    chosen = [] if name == files.of(wanted)[0] else [("list", name)]
    return urls.twin(url, wanted.name, chosen)


def in_format(request: Request, url: str) -> str:
    """Another address in the format that the suffix of this one asks for, to be sent on to."""
    wanted = request.path_params.get("format")
    return url if wanted is None else urls.twin(url, wanted)


def twins(files: Files, url: str) -> list[tuple[str, list[tuple[str, str, str]]]]:
    """The lists of a page, and of each what a link says, its address and its media type, format by format."""
    return [
        (
            name,
            [
                (each.text, _address(url, each, files, name), each.media[0].partition(";")[0])
                for each in files.formats
                if name in files.of(each)
            ],
        )
        for name in files.lists
    ]
