"""What happens to every request before and after the routes, as plain ASGI.

Plain, because `@app.middleware("http")` hides from the routes that a browser has gone away, and while a
slider is dragged most requests are abandoned.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from fastapi import Request
from fastapi.responses import PlainTextResponse, Response
from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect

from app import urls
from app.observing import REQUEST_ID
from app.pages import page
from app.views.common import ErrorView

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from app.settings import Settings

log = logging.getLogger("saefari")

NO_FRAMES = "frame-ancestors 'none'"
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    f"connect-src 'self'; form-action 'self'; base-uri 'none'; {NO_FRAMES}"
)
SECURITY_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # a query is in the address, and nobody else's business
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
PAGE_CACHING = "no-cache"  # pages change when a collection is rebuilt: keep, but ask
SECONDS_UNTIL_RETRY = "1"


def error_response(request: Request, view: ErrorView, headers: dict[str, str] | None = None) -> Response:
    """The error page; plain text if even that fails, so that nobody ever sees a traceback."""
    try:
        return page(request, "error", view, status=view.status, headers=headers)
    except Exception:
        log.exception("The error page failed")
        return PlainTextResponse(f"{view.title}\n{view.message}\n{view.remedy}\n", view.status, headers)


def error_view(status: int, title: str, message: str, remedy: str) -> ErrorView:
    return ErrorView(status, title, message, remedy, home_url=urls.home(), suggestions=[])


class SecurityHeaders:
    """Puts the security headers on every answer, errors and files included."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                framed = NO_FRAMES not in headers.get("Content-Security-Policy", NO_FRAMES)
                for name, value in SECURITY_HEADERS.items():
                    if not (framed and name == "X-Frame-Options"):  # it knows no list of sites
                        headers.setdefault(name, value)
                headers.setdefault("Cache-Control", PAGE_CACHING)
            await send(message)

        await self.app(scope, receive, send_with_headers)


class LastResort:
    """Turns an exception that nobody caught into a page; the log has the traceback under its number."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        has_started = False

        async def send_and_note(message: Message) -> None:
            nonlocal has_started
            has_started = True
            await send(message)

        try:
            await self.app(scope, receive, send_and_note)
        except ClientDisconnect:  # while it sent a form: there is nobody to answer
            return
        except Exception:
            number = scope[REQUEST_ID]
            log.exception("Request %s failed: %s %r", number, scope["method"], scope["path"])
            if has_started:
                raise
            view = error_view(
                500,
                "Something went wrong here",
                f"This page could not be made. The server's log has the details under {number}.",
                "Try again; if it stays, tell whoever runs this server that number.",
            )
            await error_response(Request(scope), view)(scope, receive, send)


class Limits:
    """Refuses other people's host names, overlong addresses and overlarge headers.

    Ranges are not served: files here are small, and a flood of ranges is cheap to send and dear to answer.
    """

    def __init__(self, app: ASGIApp, *, settings: Settings) -> None:
        self.app = app
        self.settings = settings
        own = urlsplit(settings.public_url).hostname or settings.host
        self.hosts = frozenset(host.lower() for host in (*settings.allowed_hosts, settings.host, own))
        self.suffixes = tuple(host[1:] for host in self.hosts if host.startswith("*."))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        view = self._refusal(scope)
        if view is not None:
            await error_response(Request(scope), view)(scope, receive, send)
            return
        scope["headers"] = [(name, value) for name, value in scope["headers"] if name not in _RANGE_HEADERS]
        await self.app(scope, receive, send)

    def _refusal(self, scope: Scope) -> ErrorView | None:
        longest = self.settings.max_target_bytes
        if len(scope.get("raw_path", b"")) + len(scope["query_string"]) > longest:
            scope["query_string"] = b""  # nothing after this needs it, and pages print their own address
            what = f"This address has more than {longest:,} bytes."
            return error_view(414, "Address too long", what, "Shorten the query.")
        most = self.settings.max_header_bytes
        if sum(len(name) + len(value) for name, value in scope["headers"]) > most:
            what = f"This request has more than {most:,} bytes of headers."
            return error_view(
                431, "Headers too large", what, "Send fewer, or clear the cookies of this site."
            )
        hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        if len(hosts) != 1 or not self._is_allowed(hosts[0]):
            host = ", ".join(hosts)
            return error_view(
                400,
                "Unknown host name",
                f'This server does not answer to the name "{host[:100]}".',
                "Use its own name, or allow this one with SAEFARI_ALLOWED_HOSTS.",
            )
        return None

    def _is_allowed(self, host: str) -> bool:
        found = _HOST.fullmatch(host.lower())
        if found is None:
            return False
        if "*" in self.hosts:
            return True
        name = found[1] or found[2]
        return name in self.hosts or (bool(self.suffixes) and name.endswith(self.suffixes))


# A name or an address, and a port: anything else, as "localhost:80@evil.example", would stand in links.
_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9_.-]+))(?::[0-9]{0,5})?")
_RANGE_HEADERS = (b"range", b"if-range")
