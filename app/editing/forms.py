"""What a browser sends from a form: read within bounds, and changed in nothing."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qsl

from fastapi import Request

from app import urls
from app.authored.links import checked_target
from app.authored.texts import MAX_NUMBER, BadText
from sae_core.errors import SaefariError

MEDIA = "application/x-www-form-urlencoded"
MAX_BYTES = 512 * 1024  # the longest note, each of its characters written as %F0%9F%A7%AA, and then some
MAX_FIELDS = 100


class BadForm(SaefariError):
    """What was sent is no form of ours."""

    def __init__(self, status: int, what: str, remedy: str = "Send it from the page itself.") -> None:
        super().__init__(what, remedy=remedy)
        self.status = status


class Form(dict[str, str]):
    """Fields by name; "" for one that is not there."""

    def __missing__(self, name: str) -> str:
        return ""

    def number(self, name: str) -> int:
        """A whole number that both databases can hold; `BadForm` for anything else."""
        text = self[name]
        if not (text.isascii() and text.isdecimal() and len(text) < len(str(MAX_NUMBER))):
            raise BadForm(400, f'The field {name} has "{text[:40]}", which is no number.')
        return int(text)

    def page(self, name: str) -> str:
        """A page of ours to come back to; the beginning where the field has none."""
        try:
            return checked_target(self[name])
        except BadText:
            return urls.home()

    def but(self, changes: Mapping[str, str]) -> Form:
        """The same with these fields changed."""
        return Form({**self, **changes})


async def read_form(request: Request) -> Form:
    """The fields of a form, the last one of each name; `BadForm` for what is none, or too much."""
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != MEDIA:
        raise BadForm(415, f'This was sent as "{media[:60]}".', f"Send it as {MEDIA}, as forms do.")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BYTES:
            raise BadForm(413, f"This form has more than {MAX_BYTES:,} bytes.", "Shorten what it says.")
    try:
        text = body.decode("ascii")
        pairs = parse_qsl(text, keep_blank_values=True, errors="replace", max_num_fields=MAX_FIELDS)
    except ValueError:
        raise BadForm(400, "This form cannot be read.") from None
    return Form(pairs)
