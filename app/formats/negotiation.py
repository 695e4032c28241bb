"""Which format is wanted: the suffix of the address says so, and where there is none, `Accept`."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import HTTPConnection

from app import urls

HTML, JSON = "html", "json"
PAGE_MEDIA = {HTML: ("text/html", "application/xhtml+xml"), JSON: ("application/json",)}
_SCOPE = "saefari.format"
_MAX_RANGES = 50  # of an Accept header; more are not read

Offer = tuple[str, Sequence[str]]  # name and media types, the server's favourite first
_PAGES: tuple[Offer, ...] = tuple(PAGE_MEDIA.items())


def accepted(accept: str, offers: Sequence[Offer]) -> str | None:
    """The offer that an `Accept` header likes best, by RFC 9110: the first of equals; None if it likes none.

    A header that cannot be read counts as none.
    """
    ranges = [found for text in accept.split(",")[:_MAX_RANGES] if (found := _media_range(text))]
    if not ranges:
        return offers[0][0]
    liked = [(max(_quality(each, ranges) for each in media), name) for name, media in offers]
    best = max(quality for quality, _ in liked)
    return next(name for quality, name in liked if quality == best) if best > 0 else None


def _media_range(text: str) -> tuple[str, float] | None:
    """`text/*;q=0.5` as its type and its quality."""
    media, *parameters = (part.strip().lower() for part in text.split(";"))
    if media.count("/") != 1:
        return None
    quality = next((part[2:] for part in parameters if part.startswith("q=")), "1")
    try:
        value = float(quality)
    except ValueError:
        return None
    return (media, value) if 0 <= value <= 1 else None


def _quality(media: str, ranges: Sequence[tuple[str, float]]) -> float:
    """The quality that the most specific range gives to a media type."""
    plain = media.partition(";")[0]
    for wanted in (plain, f"{plain.partition('/')[0]}/*", "*/*"):
        found = [quality for each, quality in ranges if each == wanted]
        if found:
            return max(found)
    return 0.0


def decide(request: HTTPConnection, offers: Sequence[Offer]) -> str | None:
    """The format that is wanted, kept with the request; None if none of the offers is acceptable."""
    wanted = request.path_params.get("format") or _by_accept(request, offers)
    if wanted is not None:
        request.scope[_SCOPE] = wanted
    return wanted


def _by_accept(request: HTTPConnection, offers: Sequence[Offer]) -> str | None:
    accept = request.headers.get("accept", "")
    # What browsers and htmx send, and a fragment is always HTML.
    if accept.startswith("text/html,") or accept in {"", "*/*", "text/html"}:
        return HTML
    return HTML if request.headers.get("hx-request") else accepted(accept, offers)


def page_format(request: HTTPConnection) -> str:
    """HTML or JSON: the format of a page, and of what is said where a list cannot be had."""
    known: str | None = request.scope.get(_SCOPE) or urls.suffix(request.scope["path"])
    if known in PAGE_MEDIA:
        return known
    # Whoever asks for a list is a program, unless a browser says that it would rather have a page.
    offers = _PAGES if known is None else _PAGES[::-1]
    return accepted(request.headers.get("accept", ""), offers) or offers[0][0]
